//! Does without possessive quantifiers and atomic groups, where that changes nothing.
//!
//! `\s*+;` does not give back what it took. An automaton has nothing to give back: it takes all ways at once, and so
//! finds a match where a possessive quantifier prevents one. That can only be if what follows needs, as its first
//! byte, one of those that are repeated; then the pattern is changed so that it may not have it, or it is refused.
//!
//! What follows does not *need* what it may leave out byte by byte (`\s*+[\s"]*x` is `\s*[\s"]*x`), for the quantifier
//! can take those instead. `$` is taken to need nothing, though it can stand before a newline that was given back.

use regex_syntax::hir::{Capture, Class, ClassBytes, ClassBytesRange, Hir, HirKind, Look, Repetition};

use crate::bytes::Presence;

use super::Refusal;

/// What comes behind a place in a pattern.
#[derive(Clone, Copy, Default)]
struct Behind {
    /// The first bytes it needs, of all ways it can go on.
    needed: Presence,
    /// Whether there is an assertion, which looks at the byte before it.
    asserts: bool,
}

impl Behind {
    fn or(self, other: Self) -> Self {
        Self { needed: self.needed.or(&other.needed), asserts: self.asserts || other.asserts }
    }
}

/// The pattern without the marks that its translation has put in.
pub(super) fn settle(pattern: &Hir) -> Result<Hir, Refusal> {
    let mut marks = Vec::new();
    find_marks(pattern, &mut marks);
    if marks.is_empty() {
        return Ok(pattern.clone());
    }
    marks.sort_unstable();
    without(pattern, Behind::default(), &marks)
}

/// The numbers of groups that are marks.
fn find_marks(hir: &Hir, marks: &mut Vec<u32>) {
    match hir.kind() {
        HirKind::Capture(capture) => {
            if capture.name.is_some() {
                marks.push(capture.index);
            }
            find_marks(&capture.sub, marks);
        }
        HirKind::Repetition(repetition) => find_marks(&repetition.sub, marks),
        HirKind::Concat(parts) | HirKind::Alternation(parts) => {
            parts.iter().for_each(|part| find_marks(part, marks))
        }
        HirKind::Empty | HirKind::Literal(_) | HirKind::Class(_) | HirKind::Look(_) => {}
    }
}

fn without(hir: &Hir, behind: Behind, marks: &[u32]) -> Result<Hir, Refusal> {
    Ok(match hir.kind() {
        HirKind::Empty | HirKind::Literal(_) | HirKind::Class(_) | HirKind::Look(_) => hir.clone(),
        HirKind::Capture(capture) if capture.name.is_some() => {
            if gives_back(&capture.sub, behind).is_some() {
                return Err(Refusal::Possessive);
            }
            without(&capture.sub, behind, marks)?
        }
        HirKind::Capture(capture) => {
            let before =
                u32::try_from(marks.partition_point(|mark| *mark < capture.index)).unwrap_or_default();
            Hir::capture(Capture {
                index: capture.index - before,
                name: None,
                sub: Box::new(without(&capture.sub, behind, marks)?),
            })
        }
        HirKind::Repetition(repetition) => {
            let again =
                if repetition.max == Some(1) { behind } else { behind.or(needs(&repetition.sub, behind)) };
            Hir::repetition(Repetition {
                sub: Box::new(without(&repetition.sub, again, marks)?),
                ..repetition.clone()
            })
        }
        HirKind::Alternation(parts) => {
            Hir::alternation(parts.iter().map(|part| without(part, behind, marks)).collect::<Result<_, _>>()?)
        }
        HirKind::Concat(parts) => {
            let (mut behind, mut settled) = (behind, Vec::with_capacity(parts.len()));
            let mut behind_next = behind;
            for part in parts.iter().rev() {
                let taken = match part.kind() {
                    HirKind::Capture(mark) if mark.name.is_some() => gives_back(&mark.sub, behind),
                    _ => None,
                };
                let part_without = match (part.kind(), taken) {
                    (HirKind::Capture(mark), Some(Some(taken))) => {
                        let next =
                            settled.pop().and_then(|next| not_beginning_with(&next, &taken, behind_next));
                        settled.push(next.ok_or(Refusal::Possessive)?);
                        without(&mark.sub, Behind::default(), marks)?
                    }
                    _ => without(part, behind, marks)?,
                };
                settled.push(part_without);
                behind_next = behind;
                behind = needs(part, behind);
            }
            settled.reverse();
            Hir::concat(settled)
        }
    })
}

/// Whether what is marked could give back something that is needed behind it: `None` if not. Otherwise the bytes it
/// repeats, if it is no more than a repetition of one byte.
fn gives_back(marked: &Hir, behind: Behind) -> Option<Option<Presence>> {
    if behind.needed == Presence::default() && !behind.asserts {
        return None;
    }
    let repeated = match marked.kind() {
        // `(?>a*?)` takes as few as it can.
        HirKind::Repetition(repetition) if !repetition.greedy => return Some(None),
        HirKind::Repetition(repetition) => {
            let bytes = bytes_of(&repetition.sub);
            match (repetition.max, bytes) {
                // It takes as many as it takes.
                (Some(max), Some(_)) if max == repetition.min => return None,
                // Behind as many as there may be, one more can follow.
                (Some(_), Some(bytes)) if bytes.meets(&behind.needed) => return Some(None),
                _ => bytes,
            }
        }
        _ => None,
    };
    match repeated {
        Some(bytes) if !behind.asserts => bytes.meets(&behind.needed).then_some(Some(bytes)),
        _ => Some(None),
    }
}

/// What a part and what comes behind it need.
fn needs(hir: &Hir, behind: Behind) -> Behind {
    let first = |needed: Presence| Behind { needed, asserts: false };
    match hir.kind() {
        HirKind::Empty | HirKind::Look(Look::End | Look::EndLF) => behind,
        HirKind::Look(_) => Behind { asserts: true, ..behind },
        HirKind::Literal(literal) => {
            literal.0.first().map_or(behind, |byte| first(Presence::all_of(&[*byte])))
        }
        HirKind::Class(_) => bytes_of(hir).map_or(Behind { asserts: true, ..behind }, first),
        HirKind::Capture(capture) => needs(&capture.sub, behind),
        HirKind::Concat(parts) => parts.iter().rev().fold(behind, |behind, part| needs(part, behind)),
        HirKind::Alternation(parts) => {
            parts.iter().map(|part| needs(part, behind)).reduce(Behind::or).unwrap_or(behind)
        }
        HirKind::Repetition(repetition) => match (bytes_of(&repetition.sub), repetition.min) {
            (Some(_), 0) => behind,
            (Some(bytes), _) => first(bytes),
            (None, min) => {
                let once = needs(&repetition.sub, behind);
                let more = needs(&repetition.sub, behind.or(once));
                if min == 0 { more.or(behind) } else { more }
            }
        },
    }
}

/// A part less what begins with a byte of a set; `None` where that cannot be said. `behind` is what comes behind it.
fn not_beginning_with(hir: &Hir, bytes: &Presence, behind: Behind) -> Option<Hir> {
    let needs = needs(hir, behind);
    if needs.asserts {
        return None;
    }
    if !needs.needed.meets(bytes) {
        return Some(hir.clone());
    }
    match hir.kind() {
        HirKind::Class(_) => Some(class_without(&bytes_of(hir)?, bytes)),
        // Its first byte is needed, and is in the set.
        HirKind::Literal(_) => Some(Hir::fail()),
        HirKind::Capture(capture) => Some(Hir::capture(Capture {
            sub: Box::new(not_beginning_with(&capture.sub, bytes, behind)?),
            ..capture.clone()
        })),
        HirKind::Alternation(parts) => {
            let parts: Option<Vec<Hir>> =
                parts.iter().map(|part| not_beginning_with(part, bytes, behind)).collect();
            Some(Hir::alternation(parts?))
        }
        HirKind::Concat(parts) => {
            let (first, others) = parts.split_first()?;
            if first.properties().minimum_len() == Some(0) {
                return None;
            }
            let first = not_beginning_with(first, bytes, Behind::default())?;
            Some(Hir::concat([&[first], others].concat()))
        }
        HirKind::Repetition(repetition) if repetition.min > 0 => {
            let first = class_without(&bytes_of(&repetition.sub)?, bytes);
            let others = Hir::repetition(Repetition {
                min: repetition.min - 1,
                max: repetition.max.map(|max| max.saturating_sub(1)),
                ..repetition.clone()
            });
            Some(Hir::concat(vec![first, others]))
        }
        _ => None,
    }
}

fn class_without(class: &Presence, bytes: &Presence) -> Hir {
    let left = (0..=u8::MAX).filter(|byte| class.has(*byte) && !bytes.has(*byte));
    Hir::class(Class::Bytes(ClassBytes::new(left.map(|byte| ClassBytesRange::new(byte, byte)))))
}

/// The bytes of a class, or of a literal of one byte.
pub(super) fn bytes_of(hir: &Hir) -> Option<Presence> {
    match hir.kind() {
        HirKind::Literal(literal) if literal.0.len() == 1 => Some(Presence::all_of(&literal.0)),
        HirKind::Class(Class::Bytes(class)) => {
            let ranges = class.iter().map(|range| Presence::range(range.start(), range.end()));
            Some(ranges.fold(Presence::default(), |all, range| all.or(&range)))
        }
        HirKind::Class(Class::Unicode(class)) if class.is_ascii() => {
            let bytes = class.iter().flat_map(|range| range.start()..=range.end());
            Some(bytes.filter_map(|byte| u8::try_from(byte).ok()).fold(
                Presence::default(),
                |mut all, byte| {
                    all.insert(byte);
                    all
                },
            ))
        }
        _ => None,
    }
}
