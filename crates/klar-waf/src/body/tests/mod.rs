#![allow(clippy::unwrap_used)]

//! Tables of bodies and of what they hold, and of bodies that are meant to hurt.

mod json;
mod multipart;
mod urlencoded;
mod xml;

use super::*;
use crate::tests::soon;

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

/// A piece over and over.
pub(super) fn much_of(piece: &[u8], length: usize) -> Vec<u8> {
    piece.iter().copied().cycle().take(length).collect()
}
