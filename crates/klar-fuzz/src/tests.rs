use super::*;

const FUZZ: Fuzz<'_> =
    Fuzz { name: "of itself", seeds: &[b"length=12", b""], words: &[b"magic"], longest: 40 };

/// What somebody gets wrong is found, and shown without what does not matter.
#[test]
fn a_mistake_is_found_and_made_small() {
    let mut failed = Vec::new();
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        FUZZ.run_for(None, |input| {
            let is_wrong = input.windows(5).any(|part| part == b"magic") && input.contains(&b'9');
            if is_wrong {
                failed = input.to_vec();
            }
            assert!(!is_wrong, "wrong");
        })
    }));
    assert!(outcome.is_err(), "it was not found");
    // The last one that failed is the smallest.
    failed.sort_unstable();
    assert_eq!(failed, b"9acgim");
}

/// A short run is the same each time, and no input is longer than it may be.
#[test]
fn a_short_run_repeats_itself() {
    let run = || {
        let mut all = Vec::new();
        let done = FUZZ.run_for(None, |input| all.push(input.to_vec()));
        assert_eq!(done.inputs, all.len() as u64);
        all
    };
    let (one, two) = (run(), run());
    assert!(one == two);
    assert!(one.iter().all(|input| input.len() <= FUZZ.longest));
    assert!(one.contains(&b"length=12".to_vec()));
    let different: std::collections::BTreeSet<_> = one.iter().collect();
    assert!(different.len() * 4 > one.len(), "{} of {} differ", different.len(), one.len());
}

#[test]
fn what_is_reduced_still_fails() {
    let input = b"some (text) that is [long";
    for needed in [&b"["[..], b"([", b"(", b"", b"s(t["] {
        let fails = |input: &[u8]| {
            let mut left = input.iter();
            needed.iter().all(|byte| left.any(|other| other == byte))
        };
        assert_eq!(reduce(input, fails), needed);
    }
}

/// However an input is taken apart, each byte is used once and nothing is missing.
#[test]
fn an_input_is_taken_apart() {
    let mut feed = Feed::new(b"\x05\x01\x02name\nrest");
    assert_eq!((feed.below(3), feed.below(300)), (2, 258));
    assert_eq!((feed.until(b'\n'), feed.rest()), (&b"name"[..], &b"rest"[..]));
    assert_eq!((Feed::new(b"").byte(), Feed::new(b"").one_of(&[7])), (0, 7));
    assert!(Feed::new(b"abc").until(b'x') == b"abc");
    let pieces = Feed::new(b"\x00\x01\x02\x00abcdefghij").pieces();
    assert_eq!(pieces, [&b"a"[..], b"bc", b"def", b"g", b"h", b"ij"]);
    assert!(Feed::new(b"abcd").pieces().is_empty() && Feed::new(b"").is_empty());
}
