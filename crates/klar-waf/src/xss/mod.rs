//! Does a value carry HTML that runs?
//!
//! A value is read as browsers would read it, wherever it may end up: in text, in a tag, in the value of an attribute
//! with quotes of any kind. It is an attack if there is a tag that runs script or brings something in, an attribute
//! that runs its value, an address that is script, or a comment that some browser reads.
//!
//! The method is that of libinjection, which other firewalls use for `@detectXSS`. Where this one is stricter:
//! - A closing tag ends: `</a ><script>` and `</><script>` open a tag that libinjection takes for a closed one.
//! - The byte 255 is a byte like any other; libinjection stops there when it comes behind white space in a tag.
//! - There are events that are newer than its list, and some that are older.
//!
//! libinjection before 3.10, which libmodsecurity 3.0.9 has, takes every attribute that begins with `on` for a handler
//! of an event, `online=` and `once=` among them; here as in newer versions the event has to be one.

mod html;
mod names;

#[cfg(test)]
mod fuzz;
#[cfg(test)]
mod tests;

use memchr::{memchr, memchr2};

use html::{Reader, State, Token};
use names::{Attribute, attribute, is_active_tag};

/// Schemes of addresses that run, or bring in what does; what begins with one of them is enough.
const SCHEMES: [&[u8]; 4] = [b"DATA", b"VIEW-SOURCE", b"JAVA", b"VBSCRIPT"];

/// Whether a value is an attack. Takes time linear in its length, and allocates nothing.
#[must_use]
pub fn detect(value: &[u8]) -> bool {
    let mut tokens = u32::MAX;
    detect_within(value, &mut tokens)
}

/// The same with no more tokens than these: what is left is written back, and where nothing is, the answer is no.
pub(crate) fn detect_within(value: &[u8], tokens: &mut u32) -> bool {
    // Tags begin with the one, values of attributes with the other; the rest follows from them.
    if memchr2(b'<', b'=', value).is_none() {
        return false;
    }
    (memchr(b'<', value).is_some() && runs_within(value, State::Data, tokens))
        || runs_within(value, State::BeforeName, tokens)
        || [b'\'', b'"', b'`']
            .into_iter()
            .any(|quote| memchr(quote, value).is_some() && runs_within(value, State::Quoted(quote), tokens))
}

#[cfg(test)]
fn runs(value: &[u8], state: State) -> bool {
    runs_within(value, state, &mut { u32::MAX })
}

fn runs_within(value: &[u8], state: State, tokens: &mut u32) -> bool {
    let (mut reader, mut named) = (Reader::new(value, state), None);
    while let Some(token) = reader.next() {
        *tokens = tokens.saturating_sub(1);
        if *tokens == 0 {
            return false;
        }
        let is_attack = match token {
            Token::Doctype => true,
            Token::Tag(name) => is_active_tag(name),
            Token::Name(name) => {
                named = attribute(name);
                false
            }
            Token::Value(value) => match named.take() {
                None => false,
                Some(Attribute::Runs) => true,
                Some(Attribute::Address) => is_script_address(value),
                Some(Attribute::Names) => attribute(value).is_some(),
            },
            Token::Comment(comment) => is_read_comment(comment),
        };
        if is_attack {
            return true;
        }
    }
    false
}

/// Comments that Internet Explorer reads: those with a backtick, `<![if`, `<?xml`, `<?import`; and entities of XML.
fn is_read_comment(comment: &[u8]) -> bool {
    let is = |word: &[u8]| comment.get(..word.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(word));
    memchr(b'`', comment).is_some()
        || (comment.len() > 3 && (is(b"[if") || is(b"xml")))
        || is(b"import")
        || is(b"entity")
}

fn is_script_address(address: &[u8]) -> bool {
    // Some browsers pass over white space of every alphabet.
    let begin = address.iter().position(|byte| matches!(byte, b'!'..=b'~')).unwrap_or(address.len());
    let address = address.get(begin..).unwrap_or_default();
    SCHEMES.iter().any(|scheme| has_scheme(address, scheme))
}

/// Whether an address begins with a scheme, with references to characters resolved and what browsers leave out.
fn has_scheme(mut address: &[u8], scheme: &[u8]) -> bool {
    let (mut wanted, mut is_begun) = (scheme.iter(), false);
    let mut next = wanted.next();
    while let Some(letter) = next {
        let Some((character, len)) = character(address) else { return false };
        address = address.get(len..).unwrap_or_default();
        let is_passed_over = if is_begun { matches!(character, 0 | 10) } else { character <= 32 };
        if is_passed_over {
            continue;
        }
        is_begun = true;
        // Higher ones are cut to a byte.
        let byte =
            u8::try_from(character).map_or(character.to_le_bytes()[0], |byte| byte.to_ascii_uppercase());
        if byte != *letter {
            return false;
        }
        next = wanted.next();
    }
    true
}

/// The largest number in a reference to a character.
const CHARACTER_MAX: u32 = 0x10_00ff;

/// The next character and how many bytes stand for it: `&#106;` and `&#x6a` are resolved, names are not.
fn character(text: &[u8]) -> Option<(u32, usize)> {
    let first = *text.first()?;
    let itself = Some((u32::from(first), 1));
    let (digits, begin, radix) = match text {
        [b'&', b'#', b'x' | b'X', digits @ ..] => (digits, 3, 16),
        [b'&', b'#', digits @ ..] => (digits, 2, 10),
        _ => return itself,
    };
    let (mut number, mut len) = (0, 0);
    for byte in digits {
        let Some(digit) = char::from(*byte).to_digit(radix) else { break };
        number = number * radix + digit;
        if number > CHARACTER_MAX {
            return itself;
        }
        len += 1;
    }
    if len == 0 {
        return itself;
    }
    Some((number, begin + len + usize::from(digits.get(len) == Some(&b';'))))
}
