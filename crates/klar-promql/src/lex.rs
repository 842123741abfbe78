//! From the text of a query to its words.

mod number;
mod text;

use std::fmt;

use crate::ast::Place;

pub(crate) use number::written;
pub(crate) use text::quoted;

/// What is wrong somewhere, before its line is counted.
#[derive(Debug)]
pub(crate) struct Trouble {
    pub place: Place,
    pub what: String,
}

impl Trouble {
    pub(crate) fn new(place: Place, what: impl Into<String>) -> Self {
        Self { place, what: what.into() }
    }
}

/// A word of a query.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Token<'a> {
    /// A name or a keyword.
    Word(&'a str),
    Number(f64),
    /// A length of time, in seconds.
    Duration(f64),
    /// Without its quotes.
    Text(String),
    Symbol(&'static str),
    End,
}

impl fmt::Display for Token<'_> {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Word(word) => write!(to, "`{word:.80}`"),
            Self::Number(number) => write!(to, "the number {number}"),
            Self::Duration(_) => to.write_str("a duration"),
            Self::Text(_) => to.write_str("a string"),
            Self::Symbol(symbol) => write!(to, "`{symbol}`"),
            Self::End => to.write_str("the end of the query"),
        }
    }
}

/// A word, and where it stands.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Lexed<'a> {
    pub token: Token<'a>,
    pub place: Place,
}

/// Longer ones first: `<=` is not `<`.
const SYMBOLS: &[&str] = &[
    "==", "!=", "<=", ">=", "</", ">/", "=~", "!~", "+", "-", "*", "/", "%", "^", "<", ">", "=", ",", "(",
    ")", "{", "}", "[", "]", "@", ":",
];

/// All words of a query, the end among them.
pub(crate) fn lex(query: &str) -> Result<Vec<Lexed<'_>>, Trouble> {
    let mut found = Vec::new();
    let mut at = 0;
    // Between `[` and `]`, a colon is no part of a name.
    let mut in_brackets = false;
    loop {
        let rest = query.get(at..).unwrap_or_default();
        let blank = rest.len() - rest.trim_start_matches([' ', '\t', '\n', '\r']).len();
        if blank > 0 {
            at += blank;
            continue;
        }
        if rest.starts_with('#') {
            at += rest.find(['\n', '\r']).unwrap_or(rest.len());
            continue;
        }
        let place = |length: usize| Place { from: at, to: at + length };
        let Some(first) = rest.chars().next() else {
            found.push(Lexed { token: Token::End, place: place(0) });
            return Ok(found);
        };
        let is_name =
            |byte: char| byte.is_ascii_alphanumeric() || byte == '_' || (byte == ':' && !in_brackets);
        let (token, length) = if first.is_ascii_digit()
            || (first == '.' && rest.as_bytes().get(1).is_some_and(u8::is_ascii_digit))
        {
            number::number(rest).map_err(|(length, what)| Trouble::new(place(length), what))?
        } else if is_name(first) {
            let length = rest.find(|byte| !is_name(byte)).unwrap_or(rest.len());
            (Token::Word(rest.get(..length).unwrap_or_default()), length)
        } else if matches!(first, '"' | '\'' | '`') {
            let (text, length) =
                text::text(rest).map_err(|(length, what)| Trouble::new(place(length), what))?;
            (Token::Text(text), length)
        } else if let Some(symbol) = SYMBOLS.iter().find(|symbol| rest.starts_with(**symbol)) {
            match *symbol {
                "[" => in_brackets = true,
                "]" => in_brackets = false,
                _ => {}
            }
            (Token::Symbol(symbol), symbol.len())
        } else {
            let what = match first {
                '!' => "`!` alone means nothing; write `!=` or, for labels, `!~`".to_owned(),
                ';' => "`;` means nothing; one query is one expression".to_owned(),
                '&' | '|' => format!("`{first}` means nothing; write `and` or `or`"),
                _ => format!("{first:?} means nothing here; a name with it has to stand in quotes in braces"),
            };
            return Err(Trouble::new(place(first.len_utf8()), what));
        };
        found.push(Lexed { token, place: place(length) });
        at += length;
    }
}
