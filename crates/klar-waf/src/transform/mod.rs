//! What is done to a value before it is asked about: decodings, and other ways to see through a disguise.
//!
//! Byte for byte what libmodsecurity 3 does, with its oddities, since rules are written against them. Where its versions
//! differ (3.0.9 loses the last byte in `sqlHexDecode`, and all behind a zero byte in `cssDecode`), the later one counts.
//!
//! 1. [`Transformation::may_change`] looks at which bytes occur, and is all that most values ever see of this.
//! 2. [`Transformation::apply`] runs from one byte that means something to the next, and copies what lies between.

mod base64;
mod comments;
mod digest;
mod escapes;
mod path;
mod text;
mod unicode;

pub(crate) use self::escapes::url as url_decode;
pub(crate) use self::text::{decimal, is_space, trimmed_left, trimmed_right};
use crate::bytes::Presence;

/// The transformations of the language.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[allow(missing_docs)] // the names are those of the language
pub enum Transformation {
    Base64Decode,
    Base64DecodeExt,
    Base64Encode,
    CmdLine,
    CompressWhitespace,
    CssDecode,
    EscapeSeqDecode,
    HexDecode,
    HexEncode,
    HtmlEntityDecode,
    JsDecode,
    Length,
    Lowercase,
    Md5,
    NormalizePath,
    NormalizePathWin,
    ParityEven7bit,
    ParityOdd7bit,
    ParityZero7bit,
    RemoveComments,
    RemoveCommentsChar,
    RemoveNulls,
    RemoveWhitespace,
    ReplaceComments,
    ReplaceNulls,
    Sha1,
    SqlHexDecode,
    Trim,
    TrimLeft,
    TrimRight,
    Uppercase,
    UrlDecode,
    UrlDecodeUni,
    UrlEncode,
    Utf8toUnicode,
}

/// Each by its names; where there are several, the usual one stands first.
const NAMES: [(&str, Transformation); 39] = {
    use Transformation::*;
    [
        ("base64Decode", Base64Decode),
        ("base64DecodeExt", Base64DecodeExt),
        ("base64Encode", Base64Encode),
        ("cmdLine", CmdLine),
        ("cmd_line", CmdLine),
        ("compressWhitespace", CompressWhitespace),
        ("compress_whitespace", CompressWhitespace),
        ("cssDecode", CssDecode),
        ("escapeSeqDecode", EscapeSeqDecode),
        ("hexDecode", HexDecode),
        ("hexEncode", HexEncode),
        ("htmlEntityDecode", HtmlEntityDecode),
        ("jsDecode", JsDecode),
        ("length", Length),
        ("lowercase", Lowercase),
        ("md5", Md5),
        ("normalizePath", NormalizePath),
        ("normalisePath", NormalizePath),
        ("normalizePathWin", NormalizePathWin),
        ("normalisePathWin", NormalizePathWin),
        ("parityEven7bit", ParityEven7bit),
        ("parityOdd7bit", ParityOdd7bit),
        ("parityZero7bit", ParityZero7bit),
        ("removeComments", RemoveComments),
        ("removeCommentsChar", RemoveCommentsChar),
        ("removeNulls", RemoveNulls),
        ("removeWhitespace", RemoveWhitespace),
        ("replaceComments", ReplaceComments),
        ("replaceNulls", ReplaceNulls),
        ("sha1", Sha1),
        ("sqlHexDecode", SqlHexDecode),
        ("trim", Trim),
        ("trimLeft", TrimLeft),
        ("trimRight", TrimRight),
        ("uppercase", Uppercase),
        ("urlDecode", UrlDecode),
        ("urlDecodeUni", UrlDecodeUni),
        ("urlEncode", UrlEncode),
        ("utf8toUnicode", Utf8toUnicode),
    ]
};

/// What a decoding looks for, without which it does nothing.
const BACKSLASH: Presence = Presence::all_of(b"\\");
const AMPERSAND: Presence = Presence::all_of(b"&");
const PERCENT_OR_PLUS: Presence = Presence::all_of(b"%+");
const ZERO: Presence = Presence::all_of(b"\0");
const DASH_OR_HASH: Presence = Presence::all_of(b"-#");
const PATH: Presence = Presence::all_of(b"/.");
const PATH_WIN: Presence = Presence::all_of(b"/.\\");
const UNICODE: Presence = Presence::range(0x80, 0xff).or(&ZERO);

impl Transformation {
    /// By its name in rules, whatever the case of its letters.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        NAMES.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, which)| *which)
    }

    /// Its usual name in rules.
    #[must_use]
    pub fn name(self) -> &'static str {
        NAMES.iter().find(|(_, which)| *which == self).map_or("", |(name, _)| name)
    }

    /// Whether it can change a value with these bytes at all. `true` when in doubt.
    #[must_use]
    pub fn may_change(self, bytes: &Presence) -> bool {
        match self {
            // Nothing has a length and a digest, too.
            Self::Length | Self::Md5 | Self::Sha1 => true,
            Self::Base64Decode | Self::Base64DecodeExt | Self::Base64Encode => !is_empty(bytes),
            Self::HexDecode | Self::HexEncode => !is_empty(bytes),
            Self::CmdLine => bytes.meets(&text::CMD_LINE),
            Self::CompressWhitespace | Self::Trim | Self::TrimLeft | Self::TrimRight => {
                bytes.meets(&text::SPACES)
            }
            Self::CssDecode | Self::EscapeSeqDecode | Self::JsDecode => bytes.meets(&BACKSLASH),
            Self::HtmlEntityDecode => bytes.meets(&AMPERSAND),
            Self::Lowercase => bytes.meets(&text::UPPER),
            Self::Uppercase => bytes.meets(&text::LOWER),
            Self::NormalizePath => bytes.meets(&PATH),
            Self::NormalizePathWin => bytes.meets(&PATH_WIN),
            Self::ParityEven7bit => bytes.meets(&text::NOT_EVEN),
            Self::ParityOdd7bit => bytes.meets(&text::NOT_ODD),
            Self::ParityZero7bit => bytes.meets(&text::NOT_ZERO),
            Self::RemoveComments | Self::RemoveCommentsChar => {
                bytes.meets(&DASH_OR_HASH) || (bytes.has(b'/') && bytes.has(b'*'))
            }
            Self::RemoveNulls | Self::ReplaceNulls => bytes.meets(&ZERO),
            Self::RemoveWhitespace => bytes.meets(&text::SPACES_AND_NBSP),
            Self::ReplaceComments => bytes.has(b'/') && bytes.has(b'*'),
            Self::SqlHexDecode => bytes.has(b'0') && (bytes.has(b'x') || bytes.has(b'X')),
            Self::UrlDecode | Self::UrlDecodeUni => bytes.meets(&PERCENT_OR_PLUS),
            Self::UrlEncode => !bytes.is_within(&text::URL_PLAIN),
            Self::Utf8toUnicode => bytes.meets(&UNICODE),
        }
    }

    /// Writes the changed value behind what `out` holds; writes nothing and says `false` where it changes nothing.
    ///
    /// Linear in the length of the value. What is written is never longer than the value, but for `base64Encode`
    /// (4 bytes for each 3, the last of them filled up), `hexEncode` (2 for each), `urlEncode` (3), `utf8toUnicode`
    /// (4), `length` (20 in all), `md5` (16) and `sha1` (20).
    pub fn apply(self, value: &[u8], out: &mut Vec<u8>) -> bool {
        let begin = out.len();
        match self {
            Self::Base64Decode => base64::decode(value, out),
            Self::Base64DecodeExt => base64::decode_ext(value, out),
            Self::Base64Encode => base64::encode(value, out),
            Self::CmdLine => text::cmd_line(value, out),
            Self::CompressWhitespace => text::compress_whitespace(value, out),
            Self::CssDecode => escapes::css(value, out),
            Self::EscapeSeqDecode => escapes::ansi_c(value, out),
            Self::HexDecode => escapes::hex_decode(value, out),
            Self::HexEncode => escapes::hex_encode(value, out),
            Self::HtmlEntityDecode => escapes::html(value, out),
            Self::JsDecode => escapes::js(value, out),
            Self::Length => text::decimal(value.len(), out),
            Self::Lowercase => text::mapped(value, &text::TO_LOWER, out),
            Self::Md5 => out.extend_from_slice(&digest::md5(value)),
            Self::NormalizePath => path::normalize(value, false, out),
            Self::NormalizePathWin => path::normalize(value, true, out),
            Self::ParityEven7bit => text::mapped(value, &text::TO_EVEN, out),
            Self::ParityOdd7bit => text::mapped(value, &text::TO_ODD, out),
            Self::ParityZero7bit => text::mapped(value, &text::TO_ZERO, out),
            Self::RemoveComments => comments::remove(value, out),
            Self::RemoveCommentsChar => comments::remove_chars(value, out),
            Self::RemoveNulls => text::without(value, &ZERO, out),
            Self::RemoveWhitespace => text::without(value, &text::SPACES_AND_NBSP, out),
            Self::ReplaceComments => comments::replace(value, out),
            Self::ReplaceNulls => text::mapped(value, &text::TO_NO_NULLS, out),
            Self::Sha1 => out.extend_from_slice(&digest::sha1(value)),
            Self::SqlHexDecode => escapes::sql_hex(value, out),
            Self::Trim => out.extend_from_slice(text::trimmed_left(text::trimmed_right(value))),
            Self::TrimLeft => out.extend_from_slice(text::trimmed_left(value)),
            Self::TrimRight => out.extend_from_slice(text::trimmed_right(value)),
            Self::Uppercase => text::mapped(value, &text::TO_UPPER, out),
            Self::UrlDecode => {
                escapes::url(value, out);
            }
            Self::UrlDecodeUni => escapes::url_uni(value, out),
            Self::UrlEncode => escapes::url_encode(value, out),
            Self::Utf8toUnicode => unicode::utf8_to_unicode(value, out),
        }
        // One comparison settles what each of them would have to keep count of.
        let is_changed = out.get(begin..) != Some(value);
        if !is_changed {
            out.truncate(begin);
        }
        is_changed
    }
}

fn is_empty(bytes: &Presence) -> bool {
    *bytes == Presence::default()
}

#[cfg(test)]
mod fuzz;
#[cfg(test)]
mod tests;
