//! Does a value carry SQL that breaks out of its place?
//!
//! A value is cut into tokens, the tokens are folded to five at most, and the letters of their kinds are its
//! *fingerprint*: `1 UNION SELECT password FROM users` is `1UEnk`. Some eight thousand fingerprints are known from
//! attacks. As nobody knows where in a statement a value ends up, it is read as if it stood by itself, and, where it
//! has the quote, as if it stood in a string of single or double quotes.
//!
//! The method is that of libinjection, which other firewalls use for `@detectSQLi`; so are the data. This is another
//! program: it reads the value in place and asks tables in constant time.

mod fold;
mod kind;
mod scan;
mod words;

#[cfg(test)]
mod fuzz;
#[cfg(test)]
mod tests;

use std::fmt;

use memchr::{memchr, memmem};

use fold::{Folded, TOKENS_MAX, fold};
use kind::{Kind, number};
use scan::{Dialect, Scanner};
use words::Words;

/// The kinds of a value's tokens, a letter each: `s&1c`.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fingerprint {
    letters: [u8; TOKENS_MAX],
    len: u8,
}

impl Fingerprint {
    /// Its letters, one to five of ASCII.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.letters
            .get(..usize::from(self.len))
            .and_then(|letters| str::from_utf8(letters).ok())
            .unwrap_or_default()
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Fingerprint({self})")
    }
}

/// Whether a value is an attack, and what it looks like. Takes time linear in its length, and allocates nothing.
///
/// The tables are made at the first call, which takes about a millisecond: call it once at start.
#[must_use]
pub fn detect(value: &[u8]) -> Option<Fingerprint> {
    let mut tokens = u32::MAX;
    detect_within(value, &mut tokens)
}

/// The same with no more tokens than these: what is left is written back, and where nothing is, the answer is none.
pub(crate) fn detect_within(value: &[u8], tokens: &mut u32) -> Option<Fingerprint> {
    if value.is_empty() {
        return None;
    }
    let words = Words::get();
    let attack = in_context(value, None, Dialect::Ansi, true, words, tokens);
    if attack.is_some() {
        return attack;
    }
    if memchr(b'\'', value).is_some() {
        let attack = in_context(value, Some(b'\''), Dialect::Ansi, true, words, tokens);
        if attack.is_some() {
            return attack;
        }
    }
    memchr(b'"', value)?;
    // Strings in double quotes are of MySQL; with the others it is a name.
    in_context(value, Some(b'"'), Dialect::Mysql, false, words, tokens)
}

/// Whether it is one behind a quote, or by itself. `again`: with the other dialect, too, if that may read it otherwise.
fn in_context(
    value: &[u8],
    quote: Option<u8>,
    dialect: Dialect,
    again: bool,
    words: &'static Words,
    tokens: &mut u32,
) -> Option<Fingerprint> {
    let mut scanner = Scanner::new(value, quote, dialect, words);
    scanner.tokens_max = *tokens;
    let folded = fold(scanner, value, words);
    // All values of a request together may well have more than there are numbers.
    if *tokens != u32::MAX {
        *tokens = tokens.saturating_sub(folded.read);
        if *tokens == 0 {
            return None;
        }
    }
    let attack = verdict(value, &folded, words);
    if attack.is_none() && again && folded.is_ambiguous {
        return in_context(value, quote, Dialect::Mysql, false, words, tokens);
    }
    attack
}

fn verdict(value: &[u8], folded: &Folded<'_>, words: &Words) -> Option<Fingerprint> {
    let mut kinds = folded.tokens.map(|token| token.kind);
    let mut len = folded.len;
    // PHP's drivers take an open backtick at the end for a comment.
    if let Some(last) = folded.len.checked_sub(1).filter(|last| *last > 1) {
        let token = &folded.tokens[last];
        if token.kind == Kind::Bareword && token.open == b'`' && token.len == 0 && token.close == 0 {
            kinds[last] = Kind::Comment;
        }
    }
    if kinds[..len].contains(&Kind::Evil) {
        kinds = [Kind::None; 8];
        kinds[0] = Kind::Evil;
        len = 1;
    }
    let kinds = kinds.get(..len)?;
    if kinds.is_empty()
        || !words.is_attack(number(kinds.iter().copied()))
        || is_harmless(value, kinds, folded)
    {
        return None;
    }
    let mut letters = [0; TOKENS_MAX];
    for (letter, kind) in letters.iter_mut().zip(kinds) {
        *letter = kind.letter();
    }
    Some(Fingerprint { letters, len: u8::try_from(len).unwrap_or_default() })
}

/// Short fingerprints that people write, too: what else tells them from attacks.
fn is_harmless(value: &[u8], kinds: &[Kind], folded: &Folded<'_>) -> bool {
    // SQL Server leaves out of its log what has this in it.
    if kinds.len() > 1
        && kinds.last() == Some(&Kind::Comment)
        && memmem::find(value, b"sp_password").is_some()
    {
        return false;
    }
    match kinds {
        [first, second] => is_harmless_pair(value, *first, *second, folded),
        [first, second, third] => is_harmless_triple([*first, *second, *third], folded),
        _ => false,
    }
}

fn is_harmless_pair(value: &[u8], first: Kind, second: Kind, folded: &Folded<'_>) -> bool {
    let text = folded.text(&folded.tokens[1]);
    let begin = text.first();
    match (first, second) {
        // "1 union" by itself.
        (_, Kind::Union) => folded.read == 2,
        _ if begin == Some(&b'#') => true,
        (Kind::Bareword, Kind::Comment) if begin != Some(&b'/') => true,
        (Kind::Number, Kind::Comment) if begin == Some(&b'/') => false,
        // "1234-ABCD--" is a key, "1234--" is not. Something was left out: it is none.
        (Kind::Number, Kind::Comment) if folded.read > 2 => false,
        (Kind::Number, Kind::Comment) => {
            let behind = usize::from(folded.tokens[0].len);
            !matches!(
                (value.get(behind), value.get(behind + 1)),
                (None | Some(0..=b' ' | 0x80..), _) | (Some(b'/'), Some(b'*')) | (Some(b'-'), Some(b'-'))
            )
        }
        // A dash in text, where an attack would end with it.
        _ => text.len() > 2 && begin == Some(&b'-'),
    }
}

fn is_harmless_triple(kinds: [Kind; 3], folded: &Folded<'_>) -> bool {
    use Kind::{Bareword, Keyword, Logic, Number, Operator, String, Variable};
    let [first, second, third, ..] = &folded.tokens;
    match kinds {
        // foo' + 'bar: open at both ends, the same quote within.
        [String, Operator | Logic, String] => {
            !(first.open == 0 && third.close == 0 && first.close == third.open)
        }
        // "sexy and 17", where "sexy and 17<18" has been folded.
        [String, Logic, Bareword]
        | [Bareword, Logic, Number]
        | [Number, Logic, Number | Variable | String] => folded.read == 3,
        // INTO OUTFILE and INTO DUMPFILE write files.
        [_, Keyword, _] => {
            let text = folded.text(second);
            text.len() < 5 || !text.get(..4).is_some_and(|begin| begin.eq_ignore_ascii_case(b"into"))
        }
        _ => false,
    }
}
