//! Whatever a value holds: its tokens are parts of it, one behind the other, and reading it ends.
#![allow(clippy::unwrap_used)]

use klar_fuzz::Fuzz;

use super::tests::{ATTACKS, HARMLESS, WORDS};
use super::*;
use crate::tests::is_linear;

/// Each token of a value is a part of it, and stands behind the one before.
fn check_tokens(value: &[u8], state: State) {
    let mut reader = Reader::new(value, state);
    let (mut before, mut count) = (value.as_ptr() as usize, 0);
    let end = before + value.len();
    while let Some(token) = reader.next() {
        let text = match token {
            Token::Tag(text) | Token::Name(text) | Token::Value(text) | Token::Comment(text) => text,
            Token::Doctype => b"",
        };
        if !text.is_empty() {
            let begin = text.as_ptr() as usize;
            assert!(before <= begin && begin + text.len() <= end, "{token:?}");
            before = begin + text.len();
        }
        count += 1;
        // Each takes a byte at least, but for one that the state began before the value.
        assert!(count <= value.len() + 1, "{count} tokens of {} bytes", value.len());
    }
    assert!(reader.next().is_none(), "what has ended goes on");
}

#[test]
fn tokens_are_parts_of_the_value() {
    let seeds: Vec<&[u8]> = ATTACKS.iter().chain(HARMLESS).copied().collect();
    let mut count = 0_u32;
    Fuzz { name: "tokens of HTML", seeds: &seeds, words: WORDS, longest: 160 }.run(|value| {
        let quotes = [b'\'', b'"', b'`'].map(State::Quoted);
        for state in [State::Data, State::BeforeName].into_iter().chain(quotes) {
            check_tokens(value, state);
            // What means nothing there changes nothing.
            let before: &[u8] = if state == State::BeforeName { b" \t/ " } else { b"text, 1 " };
            let longer = [before, value].concat();
            let is_value = matches!(state, State::Quoted(_));
            assert!(
                runs(&longer, state) == runs(value, state) || is_value,
                "{state:?} {}",
                longer.escape_ascii()
            );
        }
        let found = detect(value);
        assert_eq!(found, detect(value));
        assert!(!found || value.contains(&b'<') || value.contains(&b'='));
        count += 1;
        if count.is_multiple_of(40) {
            is_linear(value, |value| {
                let _ = detect(value);
            });
        }
    });
}
