//! What a value must have to match an expression.

use regex_syntax::hir::{Hir, HirKind};

use crate::bytes::Presence;
use crate::operator::screen::{Screen, all, any};

use super::possessive::bytes_of;

/// The screen of a pattern.
pub(super) fn screen(pattern: &Hir) -> Screen {
    Screen::new(pattern.properties().minimum_len().unwrap_or_default(), required(pattern))
}

/// Sets of each of which every match has at least one byte.
fn required(hir: &Hir) -> Vec<Presence> {
    match hir.kind() {
        HirKind::Empty | HirKind::Look(_) => Vec::new(),
        HirKind::Literal(literal) => all(literal.0.iter().map(|byte| vec![Presence::all_of(&[*byte])])),
        HirKind::Class(_) => bytes_of(hir).into_iter().collect(),
        HirKind::Repetition(repetition) if repetition.min == 0 => Vec::new(),
        HirKind::Repetition(repetition) => required(&repetition.sub),
        HirKind::Capture(capture) => required(&capture.sub),
        HirKind::Concat(parts) => all(parts.iter().map(required)),
        HirKind::Alternation(parts) => any(&parts.iter().map(required).collect::<Vec<_>>()),
    }
}
