//! No two addresses share a key, and requests that a `Vary` tells apart are told apart everywhere.

use http::{HeaderMap, HeaderValue};
use klar_fuzz::{Feed, Fuzz};

use super::*;

#[test]
fn keys_are_as_different_as_addresses() {
    Fuzz {
        name: "keys of the cache",
        seeds: &[
            b"\x01shop.test\n/a?b\nshop.test\n/a?b",
            b"\0a:8443\n/\na\n:8443/",
            b"\x03A\n/?\na\n/",
            b"\x02\n\n\n",
            b"\x01a\n/a\xff\0\0\nb\n/",
        ],
        words: &[b"/", b"?", b"a", b"\0\0\0\0\0\0\0\x01", b"\xff", b"\n", b":", b"shop", b"GET", b"https"],
        longest: 120,
    }
    .run(|input| {
        let mut feed = Feed::new(input);
        let schemes = feed.byte();
        let scheme = |bit: u8| if schemes & bit == 0 { "https" } else { "http" };
        let apps: [AppKey; 2] = ["shop.prod".parse().unwrap(), "shop.staging".parse().unwrap()];
        let app = |bit: u8| &apps[usize::from(schemes & bit == 0)];
        let epoch = |bit: u8| u64::from(schemes & bit);
        let mut text = || String::from_utf8_lossy(feed.until(b'\n')).into_owned();
        let (host, target, other_host, other_target) = (text(), text(), text(), text());
        let one = Key::of(scheme(1), app(2), epoch(4), &host, &target);
        let other = Key::of(scheme(8), app(16), epoch(32), &other_host, &other_target);
        let same_address = scheme(1) == scheme(8)
            && app(2) == app(16)
            && host.eq_ignore_ascii_case(&other_host)
            && target == other_target;
        assert_eq!(one == other, same_address && epoch(4) == epoch(32));
        assert_eq!((one.epoch(), other.epoch()), (epoch(4), epoch(32)));
        assert_eq!(one.digest(7) == other.digest(7), same_address);
        let (longer, other_longer) = (one.with(other_target.as_bytes()), other.with(other_target.as_bytes()));
        assert_eq!(longer == other_longer, one == other);
        assert!(longer != one && longer.epoch() == one.epoch());
    });
}

const VARY: Fuzz<'_> = Fuzz {
    name: "Vary",
    seeds: &[
        b"accept-encoding, foo\naccept-encoding\0gzip, br;q=0\nfoo\0a\n\naccept-encoding\0br, gzip\nfoo\0a",
        b"Accept-Language\naccept-language\0nb, en\n\naccept-language\0NB,EN",
        b"cookie\ncookie\0a=\"1,2\"\n\ncookie\0a=\"1, 2\"",
        b"*\nfoo\0a\n\n",
    ],
    words: &[
        b"accept-encoding\0",
        b"accept-language\0",
        b"foo\0",
        b"gzip",
        b";q=0",
        b";q=0.5",
        b"identity",
        b"*",
        b", ",
        b"\"",
        b"\\",
        b"\n",
        b"\n\n",
        b"nb",
        b"NB",
        b" ",
        b"\t",
    ],
    longest: 300,
};

fn headers(lines: &[u8]) -> HeaderMap {
    let pair = |line: &[u8]| {
        let mut line = Feed::new(line);
        Some((HeaderName::from_bytes(line.until(0)).ok()?, HeaderValue::from_bytes(line.rest()).ok()?))
    };
    lines.split(|byte| *byte == b'\n').filter_map(pair).collect()
}

#[test]
fn what_is_told_apart_is_told_apart_everywhere() {
    VARY.run(|input| {
        let mut feed = Feed::new(input);
        let Ok(vary) = HeaderValue::from_bytes(feed.until(b'\n')) else { return };
        let rest = feed.rest();
        let middle = rest.windows(2).position(|two| two == b"\n\n").unwrap_or(rest.len());
        let (one, other) = (headers(&rest[..middle]), headers(&rest[middle..]));
        let answer = HeaderMap::from_iter([(header::VARY, vary.clone())]);
        let Some(selector) = Selector::of(&answer, &one) else { return };
        assert!(!vary.to_str().unwrap().split(',').any(|name| name.trim() == "*"));
        assert!(selector.suits(&one), "it suits who asked");
        assert!(selector.parts().len() <= VARY_MAX);
        // Whether an answer suits, and whether two who ask are alike, is the same question.
        let is_alike = selector.sift(&one) == selector.sift(&other);
        assert_eq!(selector.suits(&other), is_alike);
        if let Some(others) = Selector::of(&answer, &other) {
            assert_eq!(others.suits(&one), is_alike);
            assert_eq!(others == selector, is_alike);
        }
        // Lines that were joined on their way say the same, unless a quote is open at the end of one.
        let mut joined = HeaderMap::new();
        for name in one.keys() {
            let lines: Vec<&[u8]> = one.get_all(name).iter().map(HeaderValue::as_bytes).collect();
            if lines.iter().any(|line| line.contains(&b'"') || !line.is_ascii()) {
                return;
            }
            joined.insert(name, HeaderValue::from_bytes(&lines.join(&b", "[..])).unwrap());
        }
        assert!(selector.suits(&joined), "{selector:?} {joined:?}");
        assert_eq!(Selector::from_parts(selector.parts().to_vec()), selector);
    });
}
