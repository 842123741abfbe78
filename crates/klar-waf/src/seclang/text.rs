//! Texts with variables in them.

use std::fmt;

use memchr::memmem;

use super::names;
use super::words::{Span, Trouble, is_escaped, shown};
use super::{Collection, Piece, Text};

/// Reads a text. `\%{` begins no variable; the backslash stays, as in libmodsecurity.
pub(super) fn text(span: Span<'_>) -> Result<Text, Trouble> {
    let mut pieces = Vec::new();
    let mut plain = 0;
    for open in memmem::find_iter(span.text.as_bytes(), b"%{") {
        // Within a variable that was read already, there is no other: its name would not have been one.
        if is_escaped(span.text, open) {
            continue;
        }
        let inner = span.behind(open + 2);
        let Some(close) = inner.text.find('}') else {
            return Err(span
                .behind(open)
                .trouble("`%{` without the `}` that closes it (`\\%{` is no variable)"));
        };
        if plain < open {
            pieces.push(Piece::Plain(span.part(plain, open).text.to_owned()));
        }
        pieces.push(variable(inner.part(0, close))?);
        plain = open + 2 + close + 1;
    }
    if plain < span.text.len() {
        pieces.push(Piece::Plain(span.behind(plain).text.to_owned()));
    }
    Ok(Text(pieces))
}

/// What stands between `%{` and `}`.
fn variable(span: Span<'_>) -> Result<Piece, Trouble> {
    let (collection, key) = member(span)?;
    match key {
        Some(key) if key.text.starts_with('/') => {
            Err(key.trouble(format!("{}: no expression can stand in `%{{...}}`", shown(span.text))))
        }
        key => Ok(Piece::Variable(collection, key.map(|key| key.text.to_owned()))),
    }
}

/// A variable, and what is behind `:` or `.`: the name of one of its members, which is never empty.
pub(super) fn member(span: Span<'_>) -> Result<(Collection, Option<Span<'_>>), Trouble> {
    let end = span.text.find([':', '.']).unwrap_or(span.text.len());
    let name = span.part(0, end);
    let (collection, has_members) = names::collection(name.text)
        .ok_or_else(|| name.trouble(format!("the variable {} is not known", shown(name.text))))?;
    if end == span.text.len() {
        return Ok((collection, None));
    }
    let key = span.behind(end + 1);
    if !has_members {
        return Err(key.trouble(format!("{} has no members", collection.name())));
    }
    if key.text.is_empty() || key.text.contains("%{") {
        return Err(key.trouble(format!("{} names no member of {}", shown(key.text), collection.name())));
    }
    Ok((collection, Some(key)))
}

/// As it stands in a rule.
impl fmt::Display for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|piece| match piece {
            Piece::Plain(text) => f.write_str(text),
            Piece::Variable(collection, None) => write!(f, "%{{{}}}", collection.name()),
            Piece::Variable(collection, Some(key)) => write!(f, "%{{{}.{key}}}", collection.name()),
        })
    }
}
