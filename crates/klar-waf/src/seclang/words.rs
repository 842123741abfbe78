//! Pieces of a directive that know where they stand, and how a directive is cut into its arguments.

use memchr::memchr_iter;

/// What stands between words.
pub(super) const BLANKS: [char; 3] = [' ', '\t', '\r'];

/// A piece of a directive.
#[derive(Debug, Clone, Copy)]
pub(super) struct Span<'a> {
    pub text: &'a str,
    /// How many bytes of the directive are before it.
    pub at: usize,
}

/// What cannot be read, and where in the directive it stands.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Trouble {
    pub at: usize,
    pub reason: String,
}

impl<'a> Span<'a> {
    /// A whole directive.
    pub fn whole(text: &'a str) -> Self {
        Self { text, at: 0 }
    }

    /// What is between two places of it; nothing where there is no such part.
    pub fn part(self, from: usize, to: usize) -> Self {
        Self { text: self.text.get(from..to).unwrap_or_default(), at: self.at + from }
    }

    /// What follows a place of it.
    pub fn behind(self, from: usize) -> Self {
        self.part(from, self.text.len())
    }

    pub fn trim(self) -> Self {
        let begun = self.text.trim_start_matches(BLANKS);
        Self { text: begun.trim_end_matches(BLANKS), at: self.at + self.text.len() - begun.len() }
    }

    /// What is before the first `mark`, and what is behind it.
    pub fn split_once(self, mark: char) -> Option<(Self, Self)> {
        let at = self.text.find(mark)?;
        Some((self.part(0, at), self.behind(at + mark.len_utf8())))
    }

    /// What is behind `mark`, if it begins with it.
    pub fn strip(self, mark: char) -> Option<Self> {
        self.text.starts_with(mark).then(|| self.behind(mark.len_utf8()))
    }

    /// What is between quotes, for what is nothing but a text in quotes.
    pub fn unquoted(self) -> Self {
        let Some(quote) = self.text.bytes().next().filter(|byte| is_quote(*byte)) else { return self };
        let inner = self.behind(1);
        match closing(inner.text, quote) {
            Some(end) if end + 1 == inner.text.len() => inner.part(0, end),
            _ => self,
        }
    }

    /// Whether it is this name, whatever the case of its letters.
    pub fn is(self, name: &str) -> bool {
        self.text.eq_ignore_ascii_case(name)
    }

    pub fn trouble(self, reason: impl Into<String>) -> Trouble {
        Trouble { at: self.at, reason: reason.into() }
    }
}

/// A name or a value as it is shown in a reason: not longer than what is read with one look.
pub(super) fn shown(text: &str) -> String {
    const LONGEST: usize = 60;
    if text.chars().nth(LONGEST).is_none() {
        return format!("`{text}`");
    }
    format!("`{}...`", text.chars().take(LONGEST).collect::<String>())
}

/// Whether texts can stand between two of these.
pub(super) fn is_quote(byte: u8) -> bool {
    matches!(byte, b'"' | b'\'')
}

/// Whether an odd number of backslashes is right before a place: then what stands there is no sign.
pub(super) fn is_escaped(text: &str, at: usize) -> bool {
    let before = text.as_bytes().get(..at).unwrap_or_default();
    before.iter().rev().take_while(|byte| **byte == b'\\').count() % 2 == 1
}

/// Where a text in quotes ends, from behind its first quote: at the next quote without a backslash before it.
///
/// The backslash stays in the text, as in libmodsecurity. Each backslash is looked at for the quote behind it alone.
pub(super) fn closing(text: &str, quote: u8) -> Option<usize> {
    memchr_iter(quote, text.as_bytes()).find(|at| !is_escaped(text, *at))
}

/// The first word of a directive, and the rest of it.
pub(super) fn first(line: Span<'_>) -> (Span<'_>, Span<'_>) {
    let line = line.trim();
    let end = line.text.find(BLANKS).unwrap_or(line.text.len());
    (line.part(0, end), line.behind(end).trim())
}

/// The arguments of a directive: words, or texts in quotes.
pub(super) fn arguments(mut rest: Span<'_>) -> Result<Vec<Span<'_>>, Trouble> {
    let mut found = Vec::new();
    loop {
        rest = rest.trim();
        let Some(begin) = rest.text.bytes().next() else { return Ok(found) };
        if is_quote(begin) {
            let inner = rest.behind(1);
            let Some(end) = closing(inner.text, begin) else {
                return Err(rest.trouble(format!("the quote {} is never closed", begin as char)));
            };
            found.push(inner.part(0, end));
            rest = inner.behind(end + 1);
            if rest.text.bytes().next().is_some_and(|byte| !BLANKS.contains(&char::from(byte))) {
                return Err(rest.trouble(format!("{} stands right behind a closing quote", shown(rest.text))));
            }
        } else {
            let end = rest.text.find(BLANKS).unwrap_or(rest.text.len());
            found.push(rest.part(0, end));
            rest = rest.behind(end);
        }
    }
}
