//! What a token is.

/// What a token is. The letters in the comments are those of fingerprints.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[repr(u8)]
pub(super) enum Kind {
    /// No token at all, or a word that is in no table.
    #[default]
    None,
    /// `k`
    Keyword,
    /// `U`
    Union,
    /// `B`: `GROUP BY`, `ORDER BY`, `LIMIT`
    Group,
    /// `E`: what begins a statement
    Expression,
    /// `t`
    SqlType,
    /// `f`
    Function,
    /// `n`
    Bareword,
    /// `1`
    Number,
    /// `v`
    Variable,
    /// `s`
    String,
    /// `o`
    Operator,
    /// `&`
    Logic,
    /// `c`
    Comment,
    /// `A`
    Collate,
    /// `(`
    LeftParen,
    /// `)`
    RightParen,
    /// `{`
    LeftBrace,
    /// `}`
    RightBrace,
    /// `.`
    Dot,
    /// `,`
    Comma,
    /// `:`
    Colon,
    /// `;`
    Semicolon,
    /// `T`: what begins a statement in Transact-SQL
    Tsql,
    /// `?`
    Unknown,
    /// `X`: read differently by different databases, which nobody writes by accident
    Evil,
    /// `\`
    Backslash,
}

/// The letters, in the order of the kinds.
const LETTERS: [u8; 27] = *b"\0kUBEtfn1vso&cA(){}.,:;T?X\\";

/// All kinds, in their order.
const KINDS: [Kind; 27] = [
    Kind::None,
    Kind::Keyword,
    Kind::Union,
    Kind::Group,
    Kind::Expression,
    Kind::SqlType,
    Kind::Function,
    Kind::Bareword,
    Kind::Number,
    Kind::Variable,
    Kind::String,
    Kind::Operator,
    Kind::Logic,
    Kind::Comment,
    Kind::Collate,
    Kind::LeftParen,
    Kind::RightParen,
    Kind::LeftBrace,
    Kind::RightBrace,
    Kind::Dot,
    Kind::Comma,
    Kind::Colon,
    Kind::Semicolon,
    Kind::Tsql,
    Kind::Unknown,
    Kind::Evil,
    Kind::Backslash,
];

/// Bits of a kind in the number of a fingerprint.
const BITS: u32 = 5;

impl Kind {
    /// Its letter in a fingerprint.
    pub(super) const fn letter(self) -> u8 {
        LETTERS[self as usize]
    }

    /// By its letter.
    pub(super) fn of_letter(letter: u8) -> Option<Self> {
        let at = LETTERS.iter().position(|other| *other == letter)?;
        KINDS.get(at).copied()
    }

    /// What its letter is without regard to case: the table of attacks has capitals only, where `t` and `T` are one.
    const fn code(self) -> u32 {
        match self {
            Self::SqlType => Self::Tsql as u32,
            other => other as u32,
        }
    }
}

/// The number of a fingerprint; two that differ only in case have the same. At most six kinds fit.
pub(super) fn number(kinds: impl Iterator<Item = Kind>) -> u32 {
    kinds.fold(0, |number, kind| number << BITS | kind.code())
}

/// A set of kinds.
#[derive(Clone, Copy)]
pub(super) struct Kinds(u32);

impl Kinds {
    pub(super) const fn of(kinds: &[Kind]) -> Self {
        let (mut set, mut at) = (0, 0);
        while at < kinds.len() {
            set |= 1 << kinds[at] as u32;
            at += 1;
        }
        Self(set)
    }

    pub(super) const fn has(self, kind: Kind) -> bool {
        self.0 & 1 << kind as u32 != 0
    }
}
