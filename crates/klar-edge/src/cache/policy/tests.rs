//! What the RFCs say, as tables.

use super::*;
use proptest::prelude::*;

const NOW: Duration = Duration::from_secs(1_790_000_000);

fn headers(lines: &[(&'static str, &str)]) -> HeaderMap {
    let pair = |(name, value): &(&'static str, &str)| {
        (HeaderName::from_static(name), HeaderValue::from_bytes(value.as_bytes()).unwrap())
    };
    lines.iter().map(pair).collect()
}

fn asked(lines: &[(&'static str, &str)]) -> Asked {
    Asked::judge(&Method::GET, &headers(lines), "__own").unwrap()
}

fn date() -> SystemTime {
    SystemTime::UNIX_EPOCH + NOW
}

fn times(now: Instant) -> Times {
    Times { sent: now, received: now, date: date() }
}

fn judged(
    request: &[(&'static str, &str)],
    status: u16,
    answer: &[(&'static str, &str)],
) -> Result<Facts, &'static str> {
    let status = StatusCode::from_u16(status).unwrap();
    judge(&asked(request), status, &headers(answer), times(Instant::now()), &CacheRules::default())
}

fn kept(cache_control: &str) -> Facts {
    let lines = [("cache-control", cache_control), ("etag", "\"a\"")];
    judged(&[], 200, &lines).unwrap_or_else(|reason| panic!("{cache_control}: {reason}"))
}

fn after(facts: &Facts, seconds: u64) -> Instant {
    facts.received() + Duration::from_secs(seconds)
}

/// RFC 9111 section 3: what may be kept.
#[test]
fn what_is_kept() {
    type Lines = &'static [(&'static str, &'static str)];
    let anybody: Lines = &[];
    let cookie: Lines = &[("cookie", "session=1")];
    let own_cookie: Lines = &[("cookie", "__own=1")];
    let authorization: Lines = &[("authorization", "Basic x")];
    let rows: &[(Lines, u16, Lines, Result<(), &str>)] = &[
        (anybody, 200, &[("cache-control", "max-age=60")], Ok(())),
        (anybody, 200, &[("cache-control", "s-maxage=60")], Ok(())),
        (anybody, 200, &[("cdn-cache-control", "max-age=60"), ("cache-control", "no-store")], Ok(())),
        (anybody, 404, &[("cache-control", "max-age=60")], Ok(())),
        (anybody, 299, &[("cache-control", "max-age=60")], Ok(())),
        (anybody, 200, &[("cache-control", "no-cache"), ("etag", "\"a\"")], Ok(())),
        (anybody, 200, &[("cache-control", "max-age=0"), ("last-modified", "x")], Ok(())),
        (anybody, 200, &[("cache-control", "max-age=0, stale-while-revalidate=5")], Ok(())),
        (anybody, 200, &[("cache-control", "max-age=60, private=\"x\"")], Ok(())),
        (anybody, 200, &[("cache-control", "max-age=60, no-store, must-understand")], Ok(())),
        // No lifetime, and none is guessed.
        (anybody, 200, &[], Err("no-lifetime")),
        (anybody, 200, &[("etag", "\"a\"")], Err("no-lifetime")),
        (anybody, 200, &[("last-modified", "Sun, 06 Nov 1994 08:49:37 GMT")], Err("no-lifetime")),
        (anybody, 200, &[("cache-control", "public")], Err("no-lifetime")),
        (anybody, 200, &[("cache-control", "no-cache")], Err("no-lifetime")),
        (anybody, 200, &[("cache-control", "max-age=0")], Err("no-lifetime")),
        (anybody, 200, &[("expires", "0")], Err("no-lifetime")),
        (anybody, 200, &[("expires", "0"), ("etag", "\"a\"")], Ok(())),
        // Said in so many words.
        (anybody, 200, &[("cache-control", "max-age=60, no-store")], Err("no-store")),
        (anybody, 200, &[("cache-control", "max-age=60, private")], Err("private")),
        (anybody, 200, &[("cdn-cache-control", "private"), ("cache-control", "max-age=60")], Err("private")),
        (anybody, 200, &[("cache-control", "public, max-age=60"), ("set-cookie", "a=1")], Err("set-cookie")),
        (anybody, 206, &[("cache-control", "max-age=60")], Err("status")),
        (anybody, 304, &[("cache-control", "max-age=60")], Err("status")),
        (anybody, 599, &[("cache-control", "max-age=60, no-store, must-understand")], Err("not-understood")),
        (
            anybody,
            200,
            &[("cache-control", "max-age=60"), ("content-type", "Text/Event-Stream; x")],
            Err("stream"),
        ),
        // Section 3.5.
        (authorization, 200, &[("cache-control", "max-age=60")], Err("authorization")),
        (authorization, 200, &[("cdn-cache-control", "max-age=60")], Err("authorization")),
        (authorization, 200, &[("cache-control", "max-age=60, public")], Ok(())),
        (authorization, 200, &[("cache-control", "s-maxage=60")], Ok(())),
        (authorization, 200, &[("cache-control", "max-age=60, must-revalidate")], Ok(())),
        // klar's own: what several users share never holds one person's data by accident.
        (cookie, 200, &[("cache-control", "max-age=60")], Err("cookie")),
        (cookie, 200, &[("cache-control", "max-age=60, must-revalidate")], Err("cookie")),
        (cookie, 200, &[("expires", "Thu, 18 Aug 2050 02:01:18 GMT")], Err("cookie")),
        (cookie, 200, &[("cache-control", "max-age=60, public")], Ok(())),
        (cookie, 200, &[("cache-control", "s-maxage=60")], Ok(())),
        (cookie, 200, &[("cdn-cache-control", "max-age=60")], Ok(())),
        (own_cookie, 200, &[("cache-control", "max-age=60")], Ok(())),
    ];
    for (request, status, answer, wanted) in rows {
        assert_eq!(judged(request, *status, answer).map(|_| ()), *wanted, "{request:?} {status} {answer:?}");
    }
}

/// A route may give a lifetime, to nobody's answers.
#[test]
fn a_route_gives_a_lifetime() {
    let rules = CacheRules { lifetime: Some(Duration::from_secs(30)), ..CacheRules::default() };
    let judged = |request: &[(&'static str, &str)], status: u16, answer: &[(&'static str, &str)]| {
        let status = StatusCode::from_u16(status).unwrap();
        judge(&asked(request), status, &headers(answer), times(Instant::now()), &rules)
    };
    assert_eq!(judged(&[], 200, &[]).unwrap().lifetime, Duration::from_secs(30));
    assert_eq!(judged(&[], 404, &[]).unwrap().lifetime, Duration::from_secs(30));
    assert_eq!(judged(&[], 200, &[("cache-control", "max-age=5")]).unwrap().lifetime, Duration::from_secs(5));
    for (request, status, answer) in [
        (&[("cookie", "a=1")][..], 200, &[][..]),
        (&[("authorization", "x")], 200, &[]),
        (&[("authorization", "x")], 200, &[("cache-control", "public")]),
        (&[], 200, &[("set-cookie", "a=1")]),
        (&[], 200, &[("cache-control", "no-cache")]),
        (&[], 200, &[("cache-control", "no-store")]),
        (&[], 200, &[("cache-control", "private")]),
        (&[], 302, &[]),
        (&[], 403, &[]),
        (&[], 500, &[]),
    ] {
        assert!(judged(request, status, answer).is_err(), "{request:?} {status} {answer:?}");
    }
}

/// RFC 9111 sections 4.2.1 and 4.2.3.
#[test]
fn lifetime_and_age() {
    let ago = |seconds: u64| dates::write(date() - Duration::from_secs(seconds));
    let hence = |seconds: u64| dates::write(date() + Duration::from_secs(seconds));
    let rows: &[(&[(&'static str, String)], i64)] = &[
        (&[("cache-control", "max-age=60, s-maxage=10".into())], 10),
        (&[("cache-control", "max-age=10, s-maxage=60".into()), ("expires", ago(5))], 60),
        (&[("cache-control", "max-age=60".into()), ("expires", "0".into())], 60),
        (&[("expires", hence(60)), ("date", hence(0))], 60),
        (&[("expires", hence(60)), ("date", "foo".into())], 60),
        (&[("expires", hence(60))], 60),
        (&[("expires", hence(300)), ("date", hence(400))], -1),
        (&[("cache-control", "max-age=60".into()), ("age", "20".into())], 40),
        (&[("cache-control", "max-age=60".into()), ("date", ago(20))], 40),
        (&[("cache-control", "max-age=60".into()), ("date", ago(20)), ("age", "30".into())], 30),
        (&[("cache-control", "max-age=60".into()), ("date", hence(20))], 60),
        (&[("cache-control", "max-age=60".into()), ("age", "20, 0".into())], 40),
        (&[("cache-control", "max-age=60".into()), ("age", "0, 20".into())], 60),
        (&[("cache-control", "max-age=60".into()), ("age", "20.0".into())], 60),
        (&[("cache-control", "max-age=60".into()), ("age", "-20".into())], 60),
        (&[("cache-control", "max-age=60".into()), ("age", "99999999999999999999".into())], 60 - (1 << 31)),
        (&[("expires", hence(10)), ("date", ago(10)), ("age", "25".into())], -5),
        (&[("cdn-cache-control", "max-age=60".into()), ("cache-control", "max-age=5".into())], 60),
        (
            &[
                ("cdn-cache-control", "foo=1".into()),
                ("cache-control", "no-cache".into()),
                ("expires", hence(60)),
            ],
            i64::MIN,
        ),
    ];
    for (lines, left) in rows {
        let mut lines: Vec<(&'static str, &str)> =
            lines.iter().map(|(name, value)| (*name, &**value)).collect();
        lines.push(("etag", "\"a\""));
        let facts = judged(&[], 200, &lines);
        let found = facts.map_or(i64::MIN, |facts| facts.left(facts.received()));
        assert_eq!(found, *left, "{lines:?}");
    }
    let now = Instant::now();
    let slow = Times { sent: now, received: now + Duration::from_secs(7), date: date() };
    let answer = headers(&[("cache-control", "max-age=60"), ("age", "3")]);
    let facts = judge(&asked(&[]), StatusCode::OK, &answer, slow, &CacheRules::default()).unwrap();
    assert_eq!(facts.age(slow.received), Duration::from_secs(10), "the way here counts");
    let failure = judged(&[], 500, &[("cache-control", "max-age=3600")]).unwrap();
    assert_eq!(failure.lifetime, FAILURE_MAX);
}

/// RFC 9111 sections 4.2.4 and 5.2.1, RFC 5861 section 3: what to do with an answer so many seconds old.
#[test]
fn decisions() {
    use Decision::{Fresh, Refresh, Stale, Validate};
    for (answer, demand, age, wanted) in [
        ("max-age=60", "", 59, Fresh),
        ("max-age=60", "", 60, Validate),
        ("max-age=60, no-cache", "", 0, Validate),
        ("max-age=60", "no-cache", 0, Validate),
        ("max-age=60", "max-age=0", 1, Validate),
        ("max-age=60", "max-age=10", 10, Fresh),
        ("max-age=60", "max-age=10", 11, Validate),
        ("max-age=60", "min-fresh=10", 50, Fresh),
        ("max-age=60", "min-fresh=10", 51, Validate),
        ("max-age=60", "max-stale", 1000, Stale),
        ("max-age=60", "max-stale=10", 70, Stale),
        ("max-age=60", "max-stale=10", 71, Validate),
        ("max-age=60", "max-stale=10, max-age=65", 66, Validate),
        ("max-age=60, must-revalidate", "max-stale", 61, Validate),
        ("max-age=60, proxy-revalidate", "max-stale", 61, Validate),
        ("s-maxage=60", "max-stale", 61, Validate),
        ("max-age=60, stale-while-revalidate=10", "", 69, Refresh),
        ("max-age=60, stale-while-revalidate=10", "", 70, Validate),
        ("s-maxage=60, stale-while-revalidate=10", "", 69, Refresh),
        ("max-age=60, stale-while-revalidate=10, must-revalidate", "", 61, Validate),
        ("max-age=60, stale-while-revalidate=10", "max-age=0", 61, Validate),
        ("max-age=60, stale-while-revalidate=10", "min-fresh=1", 61, Validate),
        ("max-age=60, stale-while-revalidate=10, no-cache", "", 61, Validate),
    ] {
        let facts = kept(answer);
        let asked = asked(&[("cache-control", demand)]);
        assert_eq!(facts.decide(&asked, after(&facts, age)), wanted, "{answer} | {demand} | {age}");
    }
}

#[test]
fn who_it_is_for() {
    for (answer, cookies, authorization) in [
        ("max-age=60", false, false),
        ("max-age=60, public", true, true),
        ("s-maxage=60", true, true),
        ("max-age=60, must-revalidate", false, true),
    ] {
        let facts = kept(answer);
        let decision = |lines: &[(&'static str, &str)]| facts.decide(&asked(lines), facts.received());
        assert_eq!(decision(&[]), Decision::Fresh, "{answer}");
        assert_eq!(decision(&[("cookie", "a=1")]) == Decision::Fresh, cookies, "{answer}");
        assert_eq!(decision(&[("authorization", "x")]) == Decision::Fresh, authorization, "{answer}");
        assert_eq!(
            decision(&[("authorization", "x"), ("cookie", "a=1")]) == Decision::Fresh,
            authorization && cookies,
            "{answer}"
        );
        assert!(!facts.may_stand_in(&asked(&[("cookie", "a=1")]), None, after(&facts, 61)) || cookies);
    }
}

/// RFC 9111 section 4.2.4 and 4.3.3, RFC 5861 section 4.
#[test]
fn standing_in() {
    for (answer, status, stale_for, wanted) in [
        ("max-age=60", None, 10, true),
        ("max-age=60", None, 3600, true),
        ("max-age=60", None, 3601, false),
        ("max-age=60", Some(503), 10, true),
        ("max-age=60", Some(500), 10, false),
        ("max-age=60", Some(404), 10, false),
        ("max-age=60, stale-if-error=20", Some(500), 20, true),
        ("max-age=60, stale-if-error=20", Some(500), 21, false),
        ("max-age=60, stale-if-error=20", None, 21, false),
        ("max-age=60, stale-if-error=20", Some(404), 10, false),
        ("max-age=60, must-revalidate, stale-if-error=20", None, 1, false),
        ("max-age=60, proxy-revalidate", None, 1, false),
        ("max-age=60, no-cache", None, 1, false),
        ("s-maxage=60", None, 1, false),
        ("s-maxage=60, stale-if-error=20", None, 1, true),
    ] {
        let facts = kept(answer);
        let status = status.map(|status| StatusCode::from_u16(status).unwrap());
        let found = facts.may_stand_in(&asked(&[]), status, after(&facts, 60 + stale_for));
        assert_eq!(found, wanted, "{answer} | {status:?} | {stale_for}");
    }
    let facts = kept("max-age=60");
    assert!(!facts.may_stand_in(&asked(&[("cache-control", "no-cache")]), None, after(&facts, 61)));
}

#[test]
fn what_the_cache_has_no_part_in() {
    let of = |method: &Method, lines: &[(&'static str, &str)]| Asked::judge(method, &headers(lines), "__own");
    assert!(of(&Method::GET, &[]).is_ok() && of(&Method::HEAD, &[]).is_ok());
    for method in [Method::POST, Method::PUT, Method::DELETE, Method::OPTIONS] {
        assert!(of(&method, &[]).is_err(), "{method}");
    }
    for line in [
        ("cache-control", "no-store"),
        ("if-match", "\"a\""),
        ("if-unmodified-since", "x"),
        ("x-http-method-override", "DELETE"),
        ("x-original-url", "/admin"),
    ] {
        assert!(of(&Method::GET, &[line]).is_err(), "{line:?}");
    }
    let somebody = |cookie| asked(&[("cookie", cookie)]).cookie;
    assert!(somebody("a=1") && somebody("__own=1; a=1") && somebody("__ownx=1") && somebody("x"));
    assert!(!somebody("__own=1") && !somebody(" __own=1 ;") && !somebody(""));
}

/// RFC 9111 section 3.2.
#[test]
fn a_304_changes_what_it_says() {
    let stored = headers(&[
        ("a", "1"),
        ("b", "1"),
        ("b", "2"),
        ("content-length", "10"),
        ("age", "9"),
        ("date", "Sun, 06 Nov 1994 08:49:37 GMT"),
    ]);
    let merged = freshen(&stored, &headers(&[("b", "3"), ("b", "4"), ("c", "5"), ("content-length", "0")]));
    let wanted = headers(&[("a", "1"), ("b", "3"), ("b", "4"), ("c", "5"), ("content-length", "10")]);
    assert_eq!(merged, wanted);
    let tagged = headers(&[("etag", "\"a\""), ("last-modified", "x")]);
    assert!(is_same_version(&tagged, &headers(&[])));
    assert!(is_same_version(&tagged, &headers(&[("etag", "\"a\"")])));
    assert!(!is_same_version(&tagged, &headers(&[("etag", "\"b\"")])));
    assert!(!is_same_version(&headers(&[]), &headers(&[("etag", "\"b\"")])));
}

/// How the stored bytes are written is not for others to say, and no tag promises more of them than before.
#[test]
fn a_304_says_nothing_of_how_the_body_is_written() {
    let packed = [("content-encoding", "br")];
    for (stored, update, wanted) in [
        (&packed[..], &[("content-encoding", "gzip")][..], &packed[..]),
        (&[], &packed, &[]),
        (&[("etag", "W/\"a\"")], &[("etag", "\"a\"")], &[("etag", "W/\"a\"")]),
        (&[("etag", "\"a\"")], &[("etag", "W/\"a\"")], &[("etag", "W/\"a\"")]),
        (&[("etag", "\"a\"")], &[("etag", "\"a\"")], &[("etag", "\"a\"")]),
    ] {
        assert_eq!(freshen(&headers(stored), &headers(update)), headers(wanted), "{stored:?} {update:?}");
        assert!(update[0].0 != "etag" || is_same_version(&headers(stored), &headers(update)));
    }
}

/// RFC 9110 sections 13.1.2, 13.1.3 and 13.2.2.
#[test]
fn conditions() {
    let (early, late) = ("Sun, 06 Nov 1994 08:49:37 GMT", "Mon, 07 Nov 1994 08:49:37 GMT");
    for (request, answer, has) in [
        (("if-none-match", "\"a\""), ("etag", "\"a\""), true),
        (("if-none-match", "W/\"a\""), ("etag", "\"a\""), true),
        (("if-none-match", "\"x\", \"a\""), ("etag", "W/\"a\""), true),
        (("if-none-match", "\"x,\\\"a\""), ("etag", "\"a\""), false),
        (("if-none-match", "a"), ("etag", "\"a\""), false),
        (("if-none-match", "*"), ("x", "y"), true),
        (("if-none-match", "\"a\u{fc}\""), ("etag", "\"a\u{fc}\""), true),
        (("if-none-match", "\"a\""), ("x", "y"), false),
        (("if-modified-since", late), ("last-modified", early), true),
        (("if-modified-since", early), ("last-modified", early), true),
        (("if-modified-since", early), ("last-modified", late), false),
        (("if-modified-since", late), ("date", early), true),
        (("if-modified-since", "x"), ("last-modified", early), false),
        (("x", "y"), ("etag", "\"a\""), false),
    ] {
        assert_eq!(has_it(&headers(&[request]), &headers(&[answer]), date()), has, "{request:?} {answer:?}");
    }
    let both = headers(&[("if-none-match", "\"x\""), ("if-modified-since", late)]);
    let answer = headers(&[("etag", "\"a\""), ("last-modified", early)]);
    assert!(!has_it(&both, &answer, date()), "the tag has precedence");
    for (condition, wants) in
        [("\"a\"", true), ("\"b\"", false), ("W/\"a\"", false), (early, true), (late, false)]
    {
        assert_eq!(wants_part(&headers(&[("if-range", condition)]), &answer), wants, "{condition}");
    }
}

proptest! {
    /// Whatever an answer says: with a cookie in it, or for one person, it is never shared.
    #[test]
    fn nothing_of_one_person_is_shared(
        control in "((public|private|no-store|no-cache|max-age=60|s-maxage=60|must-revalidate|x=\"y\"), ?){0,5}",
        set_cookie: bool, cookie: bool, authorization: bool, status in prop::sample::select(vec![200_u16, 404, 500]),
    ) {
        let mut request: Vec<(&'static str, &str)> = Vec::new();
        if cookie { request.push(("cookie", "a=1")); }
        if authorization { request.push(("authorization", "x")); }
        let mut answer = vec![("cache-control", &*control), ("etag", "\"a\"")];
        if set_cookie { answer.push(("set-cookie", "a=1")); }
        if let Ok(facts) = judged(&request, status, &answer) {
            let said = |word: &str| control.split(',').any(|item| item.trim().starts_with(word));
            prop_assert!(!set_cookie && !said("private") && !said("no-store"), "{}", control);
            prop_assert!(!cookie || said("public") || said("s-maxage"), "{}", control);
            prop_assert!(!authorization || said("public") || said("s-maxage") || said("must-revalidate"));
            if said("no-cache") {
                prop_assert_eq!(facts.decide(&asked(&[]), facts.received()), Decision::Validate);
            }
        }
    }

    /// What is given without asking gets older, never younger: once it is not fresh it does not become so again.
    #[test]
    fn freshness_ends_once(lifetime in 0_u64..200, window in 0_u64..100, first in 0_u64..400, more in 0_u64..400) {
        let facts = kept(&format!("max-age={lifetime}, stale-while-revalidate={window}"));
        let rank = |age| match facts.decide(&asked(&[]), after(&facts, age)) {
            Decision::Fresh => 0,
            Decision::Refresh => 1,
            _ => 2,
        };
        prop_assert!(rank(first) <= rank(first + more));
    }
}
