//! What `Cache-Control` says is read on the safe side, whatever stands beside it.

use http::{HeaderMap, HeaderValue};
use klar_fuzz::{Feed, Fuzz};

use super::*;

const FUZZ: Fuzz<'_> = Fuzz {
    name: "Cache-Control",
    seeds: &[
        b"\x03max-age=60, s-maxage=\"10\", stale-while-revalidate=30, public",
        b"\0no-cache=\"set-cookie, x-a\", private=x-b, must-revalidate",
        b"\x01max-age=1, max-age=99999999999, foo=\"a\\\"b, no-store\"",
        b"\x02max-stale, min-fresh=5, only-if-cached\nno-transform",
    ],
    words: &[
        b"max-age=",
        b"s-maxage=",
        b"no-store",
        b"no-cache",
        b"private",
        b"public",
        b"must-understand",
        b"max-stale",
        b"stale-if-error=",
        b"\"",
        b"\\",
        b", ",
        b"=",
        b"\n",
        b"; a=1",
        b"?1",
        b"?0",
        b"-1",
        b"1.0",
        b"(a b)",
        b":YQ==:",
    ],
    longest: 300,
};

fn headers(name: &HeaderName, lines: &[u8]) -> HeaderMap {
    let values = lines.split(|byte| *byte == b'\n').filter_map(|line| HeaderValue::from_bytes(line).ok());
    values.map(|value| (name.clone(), value)).collect()
}

/// The same in other words: what a cache would say that passes it on.
fn written(control: &Control) -> String {
    let mut out = Vec::new();
    let times = [
        ("max-age", control.max_age),
        ("s-maxage", control.s_maxage),
        ("stale-while-revalidate", control.stale_while_revalidate),
        ("stale-if-error", control.stale_if_error),
    ];
    for (name, time) in times.iter().filter_map(|(name, time)| Some((name, (*time)?))) {
        out.push(format!("{name}={}", time.as_secs()));
    }
    let flags = [
        ("no-store", control.no_store),
        ("no-cache", control.no_cache),
        ("private", control.private),
        ("public", control.public),
        ("must-revalidate", control.must_revalidate),
        ("proxy-revalidate", control.proxy_revalidate),
        ("must-understand", control.must_understand),
    ];
    out.extend(flags.iter().filter(|(_, is_set)| *is_set).map(|(name, _)| (*name).to_owned()));
    if !control.without.is_empty() {
        let names: Vec<&str> = control.without.iter().map(HeaderName::as_str).collect();
        out.push(format!("no-cache=\"{}\"", names.join(", ")));
    }
    out.join(", ")
}

#[test]
fn what_is_said_is_heard() {
    FUZZ.run(|input| {
        let mut feed = Feed::new(input);
        let place = feed.below(3);
        let said = headers(&header::CACHE_CONTROL, feed.rest());
        let control = Control::of(&said);
        // Written by other means and read again, it says the same.
        let again = HeaderValue::try_from(written(&control)).unwrap();
        if control.without.len() < 32 {
            assert_eq!(Control::of(&HeaderMap::from_iter([(header::CACHE_CONTROL, again)])), control);
        }
        // A line of its own is heard, wherever it stands and whatever stands beside it.
        let mut lines: Vec<HeaderValue> = said.values().cloned().collect();
        lines.insert((place as usize).min(lines.len()), HeaderValue::from_static("No-Store, PRIVATE"));
        let with: HeaderMap = lines.into_iter().map(|line| (header::CACHE_CONTROL, line)).collect();
        let stricter = Control::of(&with);
        assert!(stricter.no_store, "{with:?}");
        assert!(Demand::of(&with).no_store);
        // Times have an end, and broken ones are none.
        let longest = Duration::from_secs(SECONDS_MAX);
        let times =
            [control.max_age, control.s_maxage, control.stale_if_error, control.stale_while_revalidate];
        assert!(times.iter().flatten().all(|time| *time <= longest));
        let demand = Demand::of(&said);
        assert!([demand.max_age, demand.min_fresh, demand.max_stale].iter().flatten().all(|t| *t <= longest));
    });
}

#[test]
fn lists_are_cut_at_their_commas() {
    Fuzz { name: "lists with quotes", longest: 80, ..FUZZ }.run(|input| {
        let Ok(line) = std::str::from_utf8(input) else { return };
        let Some(found) = items(line) else {
            // A quote that does not end does, with one more, or with a word in between that was escaped.
            assert!(line.contains('"'));
            return;
        };
        assert!(found.iter().all(|item| !item.is_empty() && line.contains(*item)));
        // Joined again they are the same items.
        let joined = found.join(", ");
        assert_eq!(items(&joined).as_deref(), Some(&found[..]), "{joined}");
        assert!(found.len() <= 1 + line.matches(',').count());
    });
}

/// The targeted field is a dictionary or nothing: a second reader takes it to pieces by its grammar.
#[test]
fn a_targeted_field_counts_when_it_is_one() {
    Fuzz { name: "CDN-Cache-Control", longest: 160, ..FUZZ }.run(|input| {
        let said = headers(&CDN, input);
        let Some(control) = targeted(&said) else { return };
        assert!(control.targeted && control.without.is_empty());
        let lines: Vec<&str> = said.values().map(|value| value.to_str().unwrap()).collect();
        let text = lines.join(", ");
        // Each thing that it says is a word of the field.
        for (is_set, word) in [
            (control.no_store, "no-store"),
            (control.no_cache, "no-cache"),
            (control.private, "private"),
            (control.public, "public"),
            (control.max_age.is_some(), "max-age"),
            (control.s_maxage.is_some(), "s-maxage"),
        ] {
            assert!(!is_set || text.contains(word), "{word} in {text:?}");
        }
        // And it is what counts, whatever the other field says.
        let mut both = said.clone();
        both.append(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        assert_eq!(Control::of(&both), control);
    });
}
