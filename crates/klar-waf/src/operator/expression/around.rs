//! Look-around at the ends of a pattern, for words that can be counted: `(?<!&amp|&apos);`, `<\?(?!xml)`.
//!
//! That none of some words stands before a place is the same as: it is the beginning, or the byte before ends none of
//! them, or it ends some and what stands before that does not go on with them. Written out it needs no look-around, and
//! matches the same values; only a match has more bytes in it.

use std::collections::BTreeMap;
use std::fmt::Write;

use regex_syntax::hir::{Class, Hir, HirKind};

/// More words than these, or longer ones in bytes, are refused.
const WORDS_MAX: usize = 1000;
const WORD_MAX: usize = 32;

/// On which side of a place there is something, or not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    Before,
    Behind,
}

/// All values that a pattern matches whole; `None` if they are too many, or not only bytes.
pub fn words(pattern: &Hir) -> Option<Vec<Vec<u8>>> {
    let words = match pattern.kind() {
        HirKind::Empty => vec![Vec::new()],
        HirKind::Literal(literal) => vec![literal.0.to_vec()],
        HirKind::Class(class) => {
            let class = match class {
                Class::Bytes(class) => class.clone(),
                Class::Unicode(class) => class.to_byte_class()?,
            };
            class.iter().flat_map(|range| range.start()..=range.end()).map(|byte| vec![byte]).collect()
        }
        HirKind::Capture(capture) => words(&capture.sub)?,
        HirKind::Alternation(branches) => {
            let branches: Option<Vec<_>> = branches.iter().map(words).collect();
            branches?.concat()
        }
        HirKind::Concat(parts) => {
            let mut all = vec![Vec::new()];
            for part in parts {
                let next = words(part)?;
                if all.len() * next.len() > WORDS_MAX {
                    return None;
                }
                all = all
                    .iter()
                    .flat_map(|one| next.iter().map(move |other| [&one[..], other].concat()))
                    .collect();
            }
            all
        }
        HirKind::Look(_) | HirKind::Repetition(_) => return None,
    };
    (words.len() <= WORDS_MAX && words.iter().all(|word| word.len() <= WORD_MAX)).then_some(words)
}

/// A pattern for what stands on a side of a place where none of these words does; `None` if one always does.
pub fn none_of(words: &[Vec<u8>], side: Side) -> Option<String> {
    let words: Vec<Vec<u8>> = match side {
        Side::Before => words.iter().map(|word| word.iter().rev().copied().collect()).collect(),
        Side::Behind => words.to_vec(),
    };
    let words: Vec<&[u8]> = words.iter().map(Vec::as_slice).collect();
    unlike(&words, side)
}

fn unlike(words: &[&[u8]], side: Side) -> Option<String> {
    let mut next: BTreeMap<u8, Vec<&[u8]>> = BTreeMap::new();
    for word in words {
        let (first, rest) = word.split_first()?;
        next.entry(*first).or_default().push(rest);
    }
    let mut out = String::from(match side {
        Side::Before => r"(?:\A|[^",
        Side::Behind => r"(?:\z|[^",
    });
    for first in next.keys() {
        // Writing to a text does not fail.
        let _ = write!(out, "\\x{first:02X}");
    }
    out.push(']');
    for (first, rests) in &next {
        if let Some(rest) = unlike(rests, side) {
            let _ = match side {
                Side::Before => write!(out, "|{rest}\\x{first:02X}"),
                Side::Behind => write!(out, "|\\x{first:02X}{rest}"),
            };
        }
    }
    out.push(')');
    Some(out)
}
