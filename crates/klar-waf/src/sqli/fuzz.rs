//! Whatever a value holds: its tokens are parts of it, one behind the other, and reading it ends.
#![allow(clippy::unwrap_used)]

use klar_fuzz::Fuzz;

use super::tests::{ATTACKS, HARMLESS, WORDS};
use super::*;
use crate::tests::is_linear;

/// Each token of a value is a part of it.
fn check_tokens(value: &[u8], quote: Option<u8>, dialect: Dialect) {
    let words = Words::get();
    let mut scanner = Scanner::new(value, quote, dialect, words);
    let (mut before, mut count) = (0, 0);
    while let Some(token) = scanner.next() {
        let (end, at) = (token.at + usize::from(token.len), scanner.at());
        // Quotes that were put before it stand nowhere.
        assert!(at > before || (count == 0 && quote.is_some()), "nothing is read at {before}");
        assert!(before <= token.at && end <= at && at <= value.len(), "{token:?} of {before}..{at}");
        assert!(token.kind != Kind::None && !token.is_merged, "{token:?}");
        if token.word != 0 {
            let text = &value[token.at..end];
            let known = words.word(token.word);
            assert!(known.text.eq_ignore_ascii_case(text), "{token:?} is no {}", known.text.escape_ascii());
        }
        before = at;
        count += 1;
        assert_eq!(scanner.tokens, count);
    }
    let left = value.get(before..).unwrap_or_default();
    assert!(left.iter().all(|byte| matches!(byte, 0..=b' ' | 0x7f | 0xa0)), "{left:?} is no token");

    // What is left of them are at most as many as a fingerprint has letters, and no more than there were.
    let folded = fold(Scanner::new(value, quote, dialect, words), value, words);
    let is_evil = folded.tokens.iter().any(|token| token.kind == Kind::Evil);
    assert!(folded.len <= TOKENS_MAX || (folded.len == TOKENS_MAX + 1 && is_evil), "{} are left", folded.len);
    assert!(folded.read <= count);
    for token in folded.tokens.iter().take(folded.len) {
        assert!(token.is_merged || token.at + usize::from(token.len) <= value.len(), "{token:?}");
        let _ = folded.text(token);
    }
}

#[test]
fn tokens_are_parts_of_the_value() {
    let seeds: Vec<&[u8]> = ATTACKS.iter().map(|(value, _)| *value).chain(HARMLESS.iter().copied()).collect();
    let mut count = 0_u32;
    Fuzz { name: "tokens of SQL", seeds: &seeds, words: WORDS, longest: 160 }.run(|value| {
        for dialect in [Dialect::Ansi, Dialect::Mysql] {
            for quote in [None, Some(b'\''), Some(b'"')] {
                check_tokens(value, quote, dialect);
            }
        }
        let found = detect(value);
        assert_eq!(found, detect(value));
        if let Some(found) = found {
            let letters = found.as_str().as_bytes();
            assert!((1..=TOKENS_MAX).contains(&letters.len()) && letters.is_ascii());
        }
        count += 1;
        if count.is_multiple_of(40) {
            is_linear(value, |value| {
                let _ = detect(value);
            });
            // To the end, although nobody asks for that many.
            is_linear(value, |value| {
                let mut scanner = Scanner::new(value, None, Dialect::Ansi, Words::get());
                while scanner.next().is_some() {}
            });
        }
    });
}
