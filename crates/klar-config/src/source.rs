//! The text of one `klar.toml`: where things stand in it, and which bytes of it may never be shown.
//!
//! An error quotes the line it is about. A line may hold a password that should not be there, so the text that
//! is quoted is never the text that was read: [`Source::shown`] has every value that looks like a credential
//! taken out, whether or not the file could be parsed.

use std::ops::Range;

use crate::secret;

/// What stands in the place of a value that is not shown.
pub(crate) const REDACTED: &str = "[not shown]";

/// A place in a file; both numbers start at 1, columns count characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
pub(crate) struct Position {
    pub(crate) line: usize,
    pub(crate) column: usize,
}

/// The text as read, its name, and the text as it may be shown.
#[derive(Debug, Clone)]
pub(crate) struct Source {
    pub(crate) name: String,
    text: String,
    line_starts: Vec<usize>,
    hidden: Vec<Range<usize>>,
}

impl Source {
    pub(crate) fn new(name: impl Into<String>, text: impl Into<String>) -> Self {
        let text = text.into();
        let mut line_starts = vec![0];
        line_starts.extend(text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n').map(|(at, _)| at + 1));
        let hidden = secret::find_literals(&text);
        Self { name: name.into(), text, line_starts, hidden }
    }

    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    /// Never show these bytes, whatever the error is about.
    pub(crate) fn hide(&mut self, span: Range<usize>) {
        if span.start < span.end && self.text.get(span.clone()).is_some() {
            self.hidden.push(span);
        }
    }

    pub(crate) fn position(&self, at: usize) -> Position {
        let at = self.char_boundary(at);
        let line = self.line_starts.partition_point(|start| *start <= at);
        let start = self.line_starts[line - 1];
        Position { line, column: self.text[start..at].chars().count() + 1 }
    }

    /// The text without its credentials, and where `spans` stand in it.
    pub(crate) fn shown(&self, spans: &[Range<usize>]) -> (String, Vec<Range<usize>>) {
        let hidden = self.hidden_in_order();
        let mut text = String::with_capacity(self.text.len());
        let mut end = 0;
        for range in &hidden {
            text.push_str(&self.text[end..range.start]);
            text.push_str(REDACTED);
            end = range.end;
        }
        text.push_str(&self.text[end..]);
        let place = |at: usize| {
            let at = self.char_boundary(at);
            let (mut gone, mut put) = (0, 0);
            for range in hidden.iter().take_while(|range| range.start < at) {
                gone += range.end.min(at) - range.start;
                put += REDACTED.len();
            }
            at - gone + put
        };
        let spans = spans.iter().map(|span| place(span.start)..place(span.end).max(place(span.start)));
        (text.clone(), spans.collect())
    }

    /// Hidden ranges, sorted and merged, each on character boundaries.
    fn hidden_in_order(&self) -> Vec<Range<usize>> {
        let mut hidden = self.hidden.clone();
        hidden.sort_by_key(|range| (range.start, range.end));
        let mut merged: Vec<Range<usize>> = Vec::new();
        for range in hidden {
            match merged.last_mut() {
                Some(last) if range.start <= last.end => last.end = last.end.max(range.end),
                _ => merged.push(range),
            }
        }
        merged
    }

    fn char_boundary(&self, at: usize) -> usize {
        floor(&self.text, at)
    }
}

/// The nearest place at or before `at` where a character begins, or the end of the text.
pub(crate) fn floor(text: &str, at: usize) -> usize {
    let at = at.min(text.len());
    (0..=at).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_count_characters() {
        let source = Source::new("klar.toml", "a = 1\næøå = 2\n");
        assert_eq!(source.position(0), Position { line: 1, column: 1 });
        assert_eq!(source.position(6), Position { line: 2, column: 1 });
        assert_eq!(source.position(12), Position { line: 2, column: 4 });
        assert_eq!(source.position(9_999), Position { line: 3, column: 1 });
    }

    #[test]
    fn a_hidden_value_moves_what_follows_it() {
        let mut source = Source::new("klar.toml", "a = \"hush\" # note\n");
        source.hide(4..10);
        let (text, spans) = source.shown(&[0..1, 4..10, 11..17]);
        assert_eq!(text, "a = [not shown] # note\n");
        assert_eq!(
            spans.iter().map(|s| &text[s.clone()]).collect::<Vec<_>>(),
            ["a", "[not shown]", "# note"]
        );
    }
}
