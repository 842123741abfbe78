//! Words that are compared with an earlier one: `\b([\d\w]+)\b = \b\1\b`, and `(?!\b\1\b)[\d\w]+` for another one.
//!
//! A back-reference needs backtracking, but one to a whole word, where whole words stand, does not: each is read as any
//! word, and compared once there is a match. Where they do not compare, the search goes on behind the first of them, which
//! can be no part of another match. CRS 3 has one such rule, 942130; other back-references are refused.
//!
//! What stands between two words has to say whether they are to be the same: of `=` before the same word and `=` before
//! another one, in one pattern, only the first counts. No rule that is known has that.

use std::ops::Range;

use memchr::memmem;

const FIRST: &[u8] = br"\b([\d\w]+)\b";
const SAME: &[u8] = br"\b\1\b";
const OTHER: &[u8] = br"(?!\b\1\b)[\d\w]+";
/// Of a match the first groups are known, the whole and the first word among them.
const WORDS_MAX: usize = super::GROUPS_MAX - 2;

/// What the words of a match have to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Compared {
    /// For each group from the second on: whether it has to be the word that the first is, or another one.
    is_same: Vec<bool>,
    ignores_case: bool,
}

impl Compared {
    /// The pattern with any word in the place of each that is compared, if it has such and nothing else depends on what
    /// came before.
    pub fn read(pattern: &[u8]) -> Option<(Self, Vec<u8>)> {
        let begin = memmem::find(pattern, FIRST)? + FIRST.len();
        let (mut out, mut rest) = (pattern.get(..begin)?.to_vec(), pattern.get(begin..)?);
        is_between(pattern.get(..begin - FIRST.len())?).then_some(())?;
        let mut is_same = Vec::new();
        while let Some(at) = memmem::find(rest, SAME) {
            let other =
                at.checked_sub(3).filter(|from| rest.get(*from..).is_some_and(|it| it.starts_with(OTHER)));
            let (from, to) = other.map_or((at, at + SAME.len()), |from| (from, from + OTHER.len()));
            let (before, behind) = (rest.get(..from)?, rest.get(to..)?);
            // Nothing else may stand where the word does.
            let is_alone = match other {
                Some(_) => before.ends_with(b"]*?") && matches!(behind, [b'|' | b')', ..]),
                None => before.ends_with(b"]*?(?:") && behind.starts_with(b")"),
            };
            (is_alone && is_between(before)).then_some(())?;
            out.extend_from_slice(before);
            // What is the same word stands by itself, as the first does.
            out.extend_from_slice(if other.is_some() { br"([\d\w]+)" } else { FIRST });
            is_same.push(other.is_none());
            rest = behind;
        }
        is_between(rest).then_some(())?;
        out.extend_from_slice(rest);
        let ignores_case = pattern.starts_with(b"(?i");
        ((1..=WORDS_MAX).contains(&is_same.len())).then_some((Self { is_same, ignores_case }, out))
    }

    /// How many groups a pattern has whose only groups are these words, the whole match included.
    pub fn groups(&self) -> usize {
        self.is_same.len() + 2
    }

    /// Whether the words of a match are the same, and others, as they should be.
    pub fn holds(&self, value: &[u8], groups: &[Option<Range<usize>>]) -> bool {
        let word = |group: &Option<Range<usize>>| value.get(group.clone()?);
        let Some(first) = groups.get(1).and_then(word) else { return false };
        let is_word = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'_';
        let all = groups.iter().skip(2).zip(&self.is_same);
        all.into_iter().all(|(group, is_same)| {
            let Some(range) = group else { return true };
            // What goes on from another word is no word by itself, and so none that is the same.
            let begins = range
                .start
                .checked_sub(1)
                .and_then(|before| value.get(before))
                .is_none_or(|byte| !is_word(byte));
            let is_equal = word(group).is_some_and(|word| {
                if self.ignores_case { word.eq_ignore_ascii_case(first) } else { word == first }
            });
            (begins && is_equal) == *is_same
        })
    }
}

/// Whether a part of a pattern can match no words but those that it names: else a match might be another one with other
/// words in it, and looking for that takes more than one way through the value.
fn is_between(part: &[u8]) -> bool {
    let has = |text: &[u8]| memmem::find(part, text).is_some();
    !part.contains(&b'.') && ![&b"[^"[..], br"\w", br"\d", br"\W", br"\D", br"\S"].into_iter().any(has)
}
