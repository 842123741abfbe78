//! What is done to a value before it is asked about: decodings, and other ways to see through a disguise.

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

impl Transformation {
    /// By its name in rules, whatever the case of its letters.
    #[must_use]
    pub fn named(_name: &str) -> Option<Self> {
        None
    }

    /// Whether it can change a value with these bytes at all. `true` when in doubt.
    #[must_use]
    pub fn may_change(self, _bytes: &Presence) -> bool {
        true
    }

    /// Writes the changed value behind what `out` holds; writes nothing and says `false` where it changes nothing.
    pub fn apply(self, _value: &[u8], _out: &mut Vec<u8>) -> bool {
        false
    }
}
