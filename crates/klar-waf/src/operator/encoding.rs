//! Which bytes a value may have, and whether its escapes and its characters are whole.

use memchr::memchr;

use crate::bytes::Presence;

/// `@validateByteRange`: the bytes that are allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ByteRange(Presence);

/// What is wrong with such ranges.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no byte and no range of bytes, such as 32 or 32-126")]
pub struct NotARange(String);

impl ByteRange {
    /// Reads numbers and ranges: `9,10,13,32-126`.
    ///
    /// # Errors
    /// The part that is neither. libmodsecurity goes on without it, so that fewer bytes are allowed than was meant.
    pub fn parse(text: &str) -> Result<Self, NotARange> {
        let mut allowed = Presence::default();
        for part in text.split(',') {
            allowed = allowed.or(&range(part).ok_or_else(|| NotARange(part.trim().to_owned()))?);
        }
        Ok(Self(allowed))
    }

    /// The bytes that are allowed.
    #[must_use]
    pub const fn allowed(&self) -> &Presence {
        &self.0
    }

    /// Where the first byte is that is not allowed. The operator matches if there is one.
    #[must_use]
    pub fn first_outside(&self, value: &[u8]) -> Option<usize> {
        value.iter().position(|byte| !self.0.has(*byte))
    }

    /// Whether the operator matches a value with these bytes; for this one nothing more has to be known.
    #[must_use]
    pub const fn matches(&self, bytes: &Presence) -> bool {
        !bytes.is_within(&self.0)
    }
}

fn range(part: &str) -> Option<Presence> {
    let number = |text: &str| text.trim().parse::<u8>().ok();
    match part.split_once('-') {
        None => Some(Presence::all_of(&[number(part)?])),
        Some((first, last)) => {
            let (first, last) = (number(first)?, number(last)?);
            (first <= last).then(|| Presence::range(first, last))
        }
    }
}

/// What `@validateUrlEncoding` finds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UrlEncoding {
    /// Each percent sign has two hexadecimal digits behind it.
    Valid,
    /// The one at this offset has something else; the operator matches.
    NotHexadecimal(usize),
    /// The one at this offset has too little behind it; the operator matches.
    Unfinished(usize),
}

/// `@validateUrlEncoding`: whether each percent sign of a value is an escape.
#[must_use]
pub fn url_encoding(value: &[u8]) -> UrlEncoding {
    let mut from = 0;
    while let Some(at) = value.get(from..).and_then(|rest| memchr(b'%', rest)).map(|at| from + at) {
        match value.get(at + 1..at + 3) {
            None => return UrlEncoding::Unfinished(at),
            Some(digits) if digits.iter().all(u8::is_ascii_hexdigit) => from = at + 3,
            Some(_) => return UrlEncoding::NotHexadecimal(at),
        }
    }
    UrlEncoding::Valid
}

/// What `@validateUtf8Encoding` finds. All but `Valid` have the offset of the first character that is wrong, and make
/// the operator match.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Utf8 {
    /// All is UTF-8.
    Valid,
    /// The value ends within a character.
    Unfinished(usize),
    /// A byte cannot stand where it does.
    Invalid(usize),
    /// A character is written with more bytes than it needs.
    Overlong(usize),
    /// A surrogate, or a character above U+10FFFF.
    Restricted(usize),
}

/// `@validateUtf8Encoding`: whether a value is UTF-8, and if not, why.
///
/// libmodsecurity lets U+110000 to U+13FFFF pass; here they are restricted as the ones above are.
#[must_use]
pub fn utf8(value: &[u8]) -> Utf8 {
    let Err(error) = str::from_utf8(value) else { return Utf8::Valid };
    let at = error.valid_up_to();
    let character = value.get(at..).unwrap_or_default();
    let (len, lead) = match character.first() {
        Some(byte @ 0xc0..=0xdf) => (2, byte & 0x1f),
        Some(byte @ 0xe0..=0xef) => (3, byte & 0x0f),
        Some(byte @ 0xf0..=0xf4) => (4, byte & 0x07),
        Some(0xf5..=0xf7) => return Utf8::Restricted(at),
        _ => return Utf8::Invalid(at),
    };
    let Some(behind) = character.get(1..len) else { return Utf8::Unfinished(at) };
    let mut code = u32::from(lead);
    for byte in behind {
        if byte & 0xc0 != 0x80 {
            return Utf8::Invalid(at);
        }
        code = code << 6 | u32::from(byte & 0x3f);
    }
    match (len, code) {
        (2, ..0x80) | (3, ..0x800) | (4, ..0x1_0000) => Utf8::Overlong(at),
        _ => Utf8::Restricted(at),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn ranges() {
        let printable = ByteRange::parse("32-36, 38-126").unwrap();
        assert_eq!(printable.first_outside(b"abc%"), Some(3));
        assert_eq!(printable.first_outside(b"abc"), None);
        assert!(printable.matches(&Presence::of(b"abc%")) && !printable.matches(&Presence::of(b"")));
        assert_eq!(ByteRange::parse("1-255").unwrap().first_outside(b"a\0"), Some(1));
        assert_eq!(ByteRange::parse("10").unwrap().first_outside(b"\n"), None);
        for wrong in ["", "256", "a", "9-", "20-10", "1,,2", "-1"] {
            assert!(ByteRange::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn escapes() {
        for (value, outcome) in [
            ("", UrlEncoding::Valid),
            ("a%20b%fF", UrlEncoding::Valid),
            ("a%2", UrlEncoding::Unfinished(1)),
            ("%", UrlEncoding::Unfinished(0)),
            ("%20%zz", UrlEncoding::NotHexadecimal(3)),
            ("%%20", UrlEncoding::NotHexadecimal(0)),
        ] {
            assert_eq!(url_encoding(value.as_bytes()), outcome, "{value}");
        }
    }

    #[test]
    fn characters() {
        for (value, outcome) in [
            (&b"plain \xc3\xa9 \xe2\x82\xac \xf0\x9f\x98\x80"[..], Utf8::Valid),
            (b"a\xc3", Utf8::Unfinished(1)),
            (b"a\x80", Utf8::Invalid(1)),
            (b"\xc3a", Utf8::Invalid(0)),
            (b"\xc0\xaf", Utf8::Overlong(0)),
            (b"\xc1\xbf", Utf8::Overlong(0)),
            (b"\xe0\x9f\xbf", Utf8::Overlong(0)),
            (b"\xf0\x8f\xbf\xbf", Utf8::Overlong(0)),
            (b"\xf0\x80\x80\xaf", Utf8::Overlong(0)),
            (b"\xed\xa0\x80", Utf8::Restricted(0)),
            (b"\xf4\x90\x80\x80", Utf8::Restricted(0)),
            (b"\xf5\x80\x80\x80", Utf8::Restricted(0)),
            (b"\xff", Utf8::Invalid(0)),
        ] {
            assert_eq!(utf8(value), outcome, "{}", value.escape_ascii());
        }
    }

    proptest! {
        #[test]
        fn the_screen_of_ranges_is_the_answer(value in proptest::collection::vec(any::<u8>(), 0..20), first in 0_u8..100, len in 0_u8..150) {
            let range = ByteRange::parse(&format!("{first}-{}", first + len)).unwrap();
            prop_assert_eq!(range.matches(&Presence::of(&value)), range.first_outside(&value).is_some());
        }
    }
}
