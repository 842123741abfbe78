//! A team's own list: read, matched to the catalogue, written back.
//!
//! - [`read`]: every box of a Markdown file, with what stands around it.
//! - [`matching`]: which row of the catalogue an item asks for, or that klar does not know.
//! - [`write`](fn@write): ticks and evidence, put back without touching any other byte.
//!
//! **Invariant:** the file belongs to people. What klar is not sure of it leaves as it was, and says so.

mod language;
pub mod matching;
mod parse;
mod text;
mod write;

use std::ops::Range;

pub use self::write::{State, Verdict, write};
use crate::words::Lang;

/// The largest file that is read: a list that people wrote is a hundredth of it.
pub const LIMIT: usize = 4 * 1024 * 1024;

/// Why a list could not be read or written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChecklistError {
    /// Larger than [`LIMIT`].
    #[error(
        "the file has {bytes} bytes; a checklist has at most {LIMIT} (line {line} is where that is passed)"
    )]
    TooLarge {
        /// How many it has.
        bytes: usize,
        /// The line in which the limit is passed.
        line: usize,
    },
    /// Not a text in which boxes could be found.
    #[error("line 1: the file is UTF-16; save it as UTF-8")]
    Utf16,
    /// The verdicts are not those of this file.
    #[error("the file has {items} boxes and there are {verdicts} verdicts: it was changed since it was read")]
    Changed {
        /// Boxes in the file.
        items: usize,
        /// Verdicts given.
        verdicts: usize,
    },
    /// A verdict names something that cannot stand in a comment.
    #[error("line {line}: `{id}` is not the id of a row")]
    BadId {
        /// Of the item.
        line: usize,
        /// What was given as an id.
        id: String,
    },
}

/// A list, as its file has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checklist {
    /// The language that most of it is in.
    pub language: Lang,
    /// Every box, in order.
    pub items: Vec<Item>,
}

/// One box and what it asks for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Item {
    /// The line it is on, from 1.
    pub line: usize,
    /// The one byte between the brackets.
    pub mark: usize,
    /// Whether it is ticked.
    pub ticked: bool,
    /// What it says, without Markdown, comments and what is struck out; continued lines included.
    pub text: String,
    /// The headings above it, the outermost first.
    pub headings: Vec<String>,
    /// The list items it is nested in, with or without a box, the outermost first.
    pub above: Vec<String>,
    /// The nearest of them that has a box: its place in [`Checklist::items`].
    pub parent: Option<usize>,
    /// The rows that a person named: `<!-- klar: edge.tls -->` or `{edge.tls}`.
    pub ids: Vec<String>,
    /// What klar wrote there before.
    pub(crate) note: Option<Note>,
    /// Where a new comment goes: before trailing spaces, which may mean a line break.
    pub(crate) end: usize,
}

/// A comment of klar's own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Note {
    /// From `<!--` to `-->`.
    pub place: Range<usize>,
    /// That it was klar who ticked the box.
    pub ticked_by_klar: bool,
}

/// Finds every box in a Markdown file.
///
/// # Errors
/// When the file is too large, or not a text.
pub fn read(bytes: &[u8]) -> Result<Checklist, ChecklistError> {
    if bytes.len() > LIMIT {
        let line = 1 + bytes[..LIMIT].iter().filter(|byte| **byte == b'\n').count();
        return Err(ChecklistError::TooLarge { bytes: bytes.len(), line });
    }
    if bytes.starts_with(&[0xff, 0xfe]) || bytes.starts_with(&[0xfe, 0xff]) {
        return Err(ChecklistError::Utf16);
    }
    let items = parse::items(bytes);
    let words = items.iter().flat_map(|item| item.headings.iter().chain([&item.text]));
    let language = language::of(words.map(String::as_str));
    Ok(Checklist { language, items })
}

/// Whether this could be a row's id: `edge.tls`, `mon.slo.p95`.
pub(crate) fn is_id(text: &str) -> bool {
    let part = |part: &str| {
        part.starts_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit())
            && part.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-')
            && !part.contains("--")
            && !part.ends_with('-')
    };
    text.contains('.') && text.split('.').all(part)
}
