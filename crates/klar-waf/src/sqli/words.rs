//! The words of SQL and the fingerprints of attacks, in tables that are made once.
//!
//! Both are data that others collected over years, some nine thousand entries; they are taken from the crate
//! `libinjectionrs`, whose own way to find them (a string per question, binary search) is too slow for each request.

use std::sync::OnceLock;

use libinjectionrs::sqli::sqli_data::SQL_KEYWORDS;

use super::kind::{Kind, number};

/// The letter of entries that are fingerprints, not words. They begin with a `0` that is not part of them.
const FINGERPRINT: u8 = b'F';
/// A token's text is cut off behind so many bytes, so no longer word is ever found.
pub(super) const TEXT_MAX: usize = 31;
/// Slots of the table of words: four for each.
const WORD_SLOTS: usize = 8192;
/// Slots of the table of fingerprints: two for each.
const ATTACK_SLOTS: usize = 32768;

/// Number of an entry; 0 is none.
pub(super) type WordId = u16;

/// A word, or words with a space between.
#[derive(Debug, Clone, Copy)]
pub(super) struct Word {
    /// In capitals.
    pub(super) text: &'static [u8],
    /// [`Kind::None`] for what is only a part of a phrase.
    pub(super) kind: Kind,
    /// Whether a phrase begins with it.
    pub(super) begins: bool,
    /// Whether a phrase ends with it.
    pub(super) ends: bool,
}

/// The tables.
pub(super) struct Words {
    words: Vec<Word>,
    /// Which lengths words have that begin with a byte, and that end with one, a bit for each: most words of other
    /// languages than SQL go no further.
    begins: Box<[u32; 256]>,
    ends: Box<[u32; 256]>,
    /// Open addressing: the upper half of the hash, then the number of the word.
    slots: Vec<(u16, WordId)>,
    /// Which two words, one behind the other, are a phrase; in order.
    phrases: Vec<(u32, WordId)>,
    /// Open addressing: numbers of fingerprints, 0 for an empty slot.
    attacks: Vec<u32>,
}

/// The same for small letters and capitals (FNV-1a).
fn hash(text: &[u8]) -> u32 {
    text.iter().fold(0x811c_9dc5, |hash: u32, byte| (hash ^ u32::from(byte | 0x20)).wrapping_mul(0x0100_0193))
}

const fn word_slot(hash: u32) -> usize {
    (hash ^ hash >> 15) as usize % WORD_SLOTS
}

const fn tag(hash: u32) -> u16 {
    (hash >> 16) as u16
}

impl Words {
    /// The tables; made at the first call, which takes about a millisecond.
    pub(super) fn get() -> &'static Self {
        static WORDS: OnceLock<Words> = OnceLock::new();
        WORDS.get_or_init(Self::build)
    }

    fn build() -> Self {
        let mut tables = Self {
            words: vec![Word { text: b"", kind: Kind::None, begins: false, ends: false }],
            begins: Box::new([0; 256]),
            ends: Box::new([0; 256]),
            slots: vec![(0, 0); WORD_SLOTS],
            phrases: Vec::new(),
            attacks: vec![0; ATTACK_SLOTS],
        };
        for entry in SQL_KEYWORDS {
            let text = entry.word.as_bytes();
            if entry.token_type == FINGERPRINT {
                let upper = text.get(1..).unwrap_or_default();
                let kinds: Option<Vec<Kind>> = upper.iter().map(|letter| of_capital(*letter)).collect();
                tables.add_attack(kinds.unwrap_or_default());
            } else if let (Some(kind), true) = (Kind::of_letter(entry.token_type), text.len() <= TEXT_MAX) {
                let id = tables.add(text);
                if let Some(word) = tables.words.get_mut(usize::from(id)) {
                    word.kind = kind;
                }
            }
        }
        for id in 1..tables.words.len() {
            let text = tables.words.get(id).map_or(&b""[..], |word| word.text);
            for space in memchr::memchr_iter(b' ', text) {
                let (first, second) = (tables.add(&text[..space]), tables.add(&text[space + 1..]));
                if let Some(word) = tables.words.get_mut(usize::from(first)) {
                    word.begins = true;
                }
                if let Some(word) = tables.words.get_mut(usize::from(second)) {
                    word.ends = true;
                }
                tables.phrases.push((pair(first, second), WordId::try_from(id).unwrap_or_default()));
            }
        }
        tables.phrases.sort_unstable();
        tables
    }

    fn add(&mut self, text: &'static [u8]) -> WordId {
        let known = self.find(text);
        if known != 0 {
            return known;
        }
        let Ok(id) = WordId::try_from(self.words.len()) else { return 0 };
        let hash = hash(text);
        let mut slot = word_slot(hash);
        while self.slots[slot].1 != 0 {
            slot = (slot + 1) % WORD_SLOTS;
        }
        self.slots[slot] = (tag(hash), id);
        for (lengths, byte) in [(&mut self.begins, text.first()), (&mut self.ends, text.last())] {
            let byte = byte.copied().unwrap_or_default();
            lengths[usize::from(byte)] |= 1 << text.len();
            lengths[usize::from(byte.to_ascii_lowercase())] |= 1 << text.len();
        }
        self.words.push(Word { text, kind: Kind::None, begins: false, ends: false });
        id
    }

    fn add_attack(&mut self, kinds: Vec<Kind>) {
        let number = number(kinds.into_iter());
        if number == 0 || self.is_attack(number) {
            return;
        }
        let mut slot = attack_slot(number);
        while self.attacks[slot] != 0 {
            slot = (slot + 1) % ATTACK_SLOTS;
        }
        self.attacks[slot] = number;
    }

    /// The entry of a number.
    pub(super) fn word(&self, id: WordId) -> &Word {
        // Numbers come from the table itself.
        &self.words[usize::from(id)]
    }

    /// Which entry a word is, whatever the case of its letters.
    pub(super) fn find(&self, text: &[u8]) -> WordId {
        let ([first, ..], [.., last], 1..=TEXT_MAX) = (text, text, text.len()) else { return 0 };
        if self.begins[usize::from(*first)] & self.ends[usize::from(*last)] & 1 << text.len() == 0 {
            return 0;
        }
        let hash = hash(text);
        let (mut slot, tag) = (word_slot(hash), tag(hash));
        loop {
            let (other, id) = self.slots[slot];
            if id == 0 || (other == tag && self.word(id).text.eq_ignore_ascii_case(text)) {
                return id;
            }
            slot = (slot + 1) % WORD_SLOTS;
        }
    }

    /// Which phrase two words are.
    pub(super) fn phrase(&self, first: WordId, second: WordId) -> Option<WordId> {
        let at = self.phrases.binary_search_by_key(&pair(first, second), |(pair, _)| *pair).ok()?;
        self.phrases.get(at).map(|(_, id)| *id)
    }

    /// Whether a fingerprint is one of an attack, by its number.
    pub(super) fn is_attack(&self, number: u32) -> bool {
        let mut slot = attack_slot(number);
        loop {
            match self.attacks[slot] {
                0 => return false,
                other if other == number => return true,
                _ => slot = (slot + 1) % ATTACK_SLOTS,
            }
        }
    }
}

const fn pair(first: WordId, second: WordId) -> u32 {
    (first as u32) << 16 | second as u32
}

const fn attack_slot(number: u32) -> usize {
    (number.wrapping_mul(0x9e37_79b1) >> 12) as usize % ATTACK_SLOTS
}

/// The kind of a letter in the table of fingerprints, where all are capitals.
fn of_capital(letter: u8) -> Option<Kind> {
    Kind::of_letter(letter.to_ascii_lowercase()).or_else(|| Kind::of_letter(letter))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn every_entry_of_the_data_is_found_again() {
        let tables = Words::get();
        let (mut words, mut attacks) = (0, 0);
        for entry in SQL_KEYWORDS {
            let text = entry.word.as_bytes();
            if entry.token_type == FINGERPRINT {
                assert!(
                    tables.is_attack(number(text[1..].iter().map(|letter| of_capital(*letter).unwrap())))
                );
                attacks += 1;
            } else {
                let id = tables.find(&text.to_ascii_lowercase());
                assert_eq!(tables.word(id).text, text);
                assert_eq!(tables.word(id).kind.letter(), entry.token_type);
                words += 1;
            }
        }
        assert!(words > 900 && attacks > 8000, "{words} words, {attacks} fingerprints");
        assert!(tables.words.len() * 4 <= WORD_SLOTS, "{} words", tables.words.len());
        assert!(attacks * 2 <= ATTACK_SLOTS);
    }

    #[test]
    fn a_phrase_is_found_however_it_was_put_together() {
        let tables = Words::get();
        for (first, second, phrase) in [
            ("union", "all", "UNION ALL"),
            ("UNION ALL", "distinct", "UNION ALL DISTINCT"),
            ("not", "in", "NOT IN"),
        ] {
            let (first, second) = (tables.find(first.as_bytes()), tables.find(second.as_bytes()));
            let id = tables.phrase(first, second).unwrap();
            assert_eq!(tables.word(id).text, phrase.as_bytes());
        }
        assert_eq!(tables.find(b"sofa"), 0);
        assert_eq!(tables.find(b""), 0);
    }
}
