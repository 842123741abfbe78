#![allow(clippy::unwrap_used)]

//! Tables of bodies and of what they hold, and of bodies that are meant to hurt.

mod json;
mod multipart;
mod urlencoded;
mod xml;

use std::time::{Duration, Instant};

use super::*;

/// More than any body of these tests needs.
pub(super) const LIMITS: Limits = Limits { arguments: 100_000, depth: 512, bytes: 1 << 26, files: 100 };

/// `name=value` of each, separated by `|`, in their order.
pub(super) fn shown(pairs: &Pairs) -> String {
    let one = |(name, value): (&[u8], &[u8])| format!("{}={}", name.escape_ascii(), value.escape_ascii());
    pairs.iter().map(one).collect::<Vec<_>>().join("|")
}

/// `complete`, or what is wrong and where.
pub(super) fn told<F: std::fmt::Display>(outcome: Outcome<F>) -> String {
    match outcome {
        Outcome::Complete => "complete".to_owned(),
        Outcome::Malformed { fault, at } => format!("{fault} at {at}"),
        Outcome::Limited(limit) => limit.to_string(),
    }
}

/// Runs something that a loop in a loop would make last for hours.
pub(super) fn soon<T>(what: &str, run: impl FnOnce() -> T) -> T {
    let begun = Instant::now();
    let out = run();
    assert!(begun.elapsed() < Duration::from_secs(10), "{what} took {:?}", begun.elapsed());
    out
}

/// A megabyte of a piece over and over.
pub(super) fn megabyte_of(piece: &[u8]) -> Vec<u8> {
    piece.iter().copied().cycle().take(1 << 20).collect()
}
