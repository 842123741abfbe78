//! Directives as they stand in a file: one on a line, or on several that end with a backslash.

use super::words::BLANKS;

/// The directives of a file, one after the other.
pub(super) struct Lines<'a> {
    rest: &'a str,
    /// How many lines were taken.
    line: u32,
}

/// One directive on one line, whatever it was in the file.
#[derive(Default)]
pub(super) struct Line {
    pub text: String,
    /// Where the text of each line of the file begins, and which line it is.
    parts: Vec<(usize, u32)>,
}

impl Line {
    /// The line of the file that a place of the text is from.
    pub fn number(&self, at: usize) -> u32 {
        let behind = self.parts.partition_point(|(begin, _)| *begin <= at);
        self.parts.get(behind.saturating_sub(1)).map_or(1, |(_, line)| *line)
    }

    fn push(&mut self, text: &str, line: u32) {
        self.parts.push((self.text.len(), line));
        self.text.push_str(text);
    }
}

impl<'a> Lines<'a> {
    pub fn of(text: &'a str) -> Self {
        // Some editors begin a file with this mark.
        Self { rest: text.strip_prefix('\u{feff}').unwrap_or(text), line: 0 }
    }

    /// Writes the next directive to `line`, and says whether there was one.
    pub fn next(&mut self, line: &mut Line) -> bool {
        line.text.clear();
        line.parts.clear();
        while let Some((mut text, mut continues)) = self.take() {
            let begun = text.trim_start_matches(BLANKS);
            if let Some(comment) = begun.strip_prefix('#') {
                // A rule that was made a comment is one to its end, and nothing else is: a backslash at the end of a
                // sentence must not swallow the rule behind it.
                continues &= is_rule(comment);
                while continues {
                    continues = self.take().is_some_and(|(_, continues)| continues);
                }
                continue;
            }
            line.push(text, self.line);
            while continues {
                let Some(next) = self.take() else { break };
                (text, continues) = next;
                line.push(text, self.line);
            }
            if !line.text.trim_matches(BLANKS).is_empty() {
                return true;
            }
            line.text.clear();
            line.parts.clear();
        }
        false
    }

    /// The next line of the file, and whether it goes on in the one after it.
    fn take(&mut self) -> Option<(&'a str, bool)> {
        if self.rest.is_empty() {
            return None;
        }
        let (line, rest) = self.rest.split_once('\n').unwrap_or((self.rest, ""));
        self.rest = rest;
        self.line = self.line.saturating_add(1);
        let line = line.strip_suffix('\r').unwrap_or(line);
        Some(line.strip_suffix('\\').map_or((line, false), |line| (line, true)))
    }
}

/// Whether a comment is a rule that somebody switched off.
fn is_rule(comment: &str) -> bool {
    let comment = comment.trim_start_matches(['#', ' ', '\t']);
    ["SecRule", "SecAction", "SecDefaultAction"]
        .iter()
        .any(|name| comment.get(..name.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(name)))
}
