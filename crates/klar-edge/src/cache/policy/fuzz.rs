//! What must never be kept is not kept, whatever an app writes beside it, and no time can be reckoned over its end.

use klar_fuzz::{Feed, Fuzz};

use super::*;

#[test]
fn what_is_somebodys_is_not_kept() {
    Fuzz {
        name: "what may be kept",
        seeds: &[
            b"\xc8\0cache-control\0max-age=60\netag\0\"a\"\n\ncookie\0a=1",
            b"\xc8\0cache-control\0public, s-maxage=9, stale-if-error=5\nage\x007\ndate\0Sun, 06 Nov 1994 08:49:37 GMT\n\n",
            b"\xf4\x01expires\0Sun, 06 Nov 2094 08:49:37 GMT\nlast-modified\0Sun, 06 Nov 1994 08:49:37 GMT\n\nauthorization\0x",
            b"\x94\x01cdn-cache-control\0max-age=5\nset-cookie\0a=1\n\nif-none-match\0\"a\", W/\"b\"\ncache-control\0max-stale",
        ],
        words: &[
            b"cache-control\0", b"set-cookie\0", b"private", b"no-store", b"public", b"s-maxage=", b"expires\0", b"date\0",
            b"age\0", b"99999999999", b"\n", b"\n\n", b"cookie\0", b"authorization\0", b"if-none-match\0", b"etag\0",
            b"if-modified-since\0", b"Sun, 06 Nov 1994 08:49:37 GMT", b"max-stale", b"range\0", b"W/\"a\"",
        ],
        longest: 400,
    }
    .run(|input| {
        let mut feed = Feed::new(input);
        let status = u16::from(feed.byte()) | u16::from(feed.byte() & 3) << 8;
        let Ok(status) = StatusCode::from_u16(status.max(100)) else { return };
        let rest = feed.rest();
        let middle = rest.windows(2).position(|two| two == b"\n\n").unwrap_or(rest.len());
        let pair = |line: &[u8]| {
            let mut line = Feed::new(line);
            Some((HeaderName::from_bytes(line.until(0)).ok()?, HeaderValue::from_bytes(line.rest()).ok()?))
        };
        let map = |lines: &[u8]| lines.split(|byte| *byte == b'\n').filter_map(pair).collect::<HeaderMap>();
        let (answer, request) = (map(&rest[..middle]), map(&rest[middle..]));
        let Ok(asked) = Asked::judge(&Method::GET, &request, "own") else { return };
        let now = Instant::now();
        let times = Times { sent: now, received: now, date: UNIX_EPOCH + Duration::from_secs(1_790_000_000) };
        let _ = (has_it(&request, &answer, times.date), wants_part(&request, &answer));
        let merged = freshen(&answer, &request);
        assert!(is_same_version(&answer, &answer) && merged.len() <= answer.len() + request.len());
        let Ok(facts) = judge(&asked, status, &answer, times, &CacheRules::default()) else { return };
        assert!(!answer.contains_key(header::SET_COOKIE), "a cookie is somebody's");
        let says = |word: &str| {
            answer.get_all(header::CACHE_CONTROL).iter().any(|line| {
                let line = String::from_utf8_lossy(line.as_bytes()).to_ascii_lowercase();
                line.split(',').any(|item| item.trim_matches([' ', '\t']) == word)
            })
        };
        let control = Control::of(&answer);
        if !control.targeted {
            // A quote around it makes it another word, and a line with a quote is read by other rules.
            let is_plain = !answer.get_all(header::CACHE_CONTROL).iter().any(|line| line.as_bytes().contains(&b'"'));
            assert!(!is_plain || !says("private"));
            assert!(!is_plain || !says("no-store") || control.must_understand);
            let is_shared = control.public || control.s_maxage.is_some();
            assert!(!is_plain || !asked.cookie || is_shared, "kept for everybody with cookies in play");
        }
        let later = now + Duration::from_secs(1 << 33);
        let _ = (facts.age(later), facts.usable(later), facts.left(later), facts.decide(&asked, later));
        if status.is_server_error() {
            assert!(facts.lifetime <= FAILURE_MAX);
        }
        assert!(facts.usable(now) <= facts.lifetime + facts.while_revalidate);
        if let Some((numbers, _)) = facts.to_numbers() {
            let again = Facts::from_numbers(numbers).unwrap();
            assert_eq!((again.lifetime, again.no_cache, again.strict), (facts.lifetime, facts.no_cache, facts.strict));
            assert_eq!((again.for_cookies, again.is_for_many()), (facts.for_cookies, facts.is_for_many()));
        }
    });
}
