//! Many texts without an allocation for each.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher as _;
use std::sync::OnceLock;

/// Texts, one after the other.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Texts {
    pub bytes: Vec<u8>,
    /// Where each one ends.
    pub ends: Vec<u32>,
}

impl Texts {
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    pub fn push(&mut self, text: &[u8]) {
        self.bytes.extend_from_slice(text);
        self.ends.push(self.bytes.len() as u32);
    }

    pub fn start(&self, at: usize) -> usize {
        at.checked_sub(1).and_then(|before| self.ends.get(before)).map_or(0, |end| *end as usize)
    }

    /// The text at a place, or an empty one where there is none.
    pub fn get(&self, at: usize) -> &[u8] {
        let end = self.ends.get(at).map_or(0, |end| *end as usize);
        self.bytes.get(self.start(at)..end).unwrap_or_default()
    }

    pub fn extend(&mut self, from: &Self, start: usize, count: usize) {
        let (begin, base) = (from.start(start), self.bytes.len());
        let Some(ends) = from.ends.get(start..start + count) else { return };
        let Some(last) = ends.last() else { return };
        self.bytes.extend_from_slice(&from.bytes[begin..*last as usize]);
        self.ends.extend(ends.iter().map(|end| (*end as usize - begin + base) as u32));
    }

    pub fn iter(&self) -> impl Iterator<Item = &[u8]> {
        (0..self.len()).map(|at| self.get(at))
    }
}

/// A hash that nobody outside can foresee, so that nobody can send texts that all fall together.
fn hash(text: &[u8]) -> u64 {
    static SEED: OnceLock<u64> = OnceLock::new();
    let mut state = *SEED.get_or_init(|| RandomState::new().hash_one(0)) ^ text.len() as u64;
    let mut chunks = text.chunks_exact(8);
    for chunk in &mut chunks {
        state = fold(state, u64::from_le_bytes(chunk.try_into().unwrap_or_default()));
    }
    let rest = chunks.remainder();
    let mut last = [0; 8];
    last[..rest.len()].copy_from_slice(rest);
    fold(state, u64::from_le_bytes(last))
}

/// Both numbers, mixed: the two halves of their product.
pub fn fold(state: u64, number: u64) -> u64 {
    let product = u128::from(state ^ 0x9e37_79b9_7f4a_7c15) * u128::from(number ^ 0xd6e8_feb8_6659_fd93);
    product as u64 ^ (product >> 64) as u64
}

/// Texts that are told apart by numbers. Those that come from a file may hold one twice.
#[derive(Debug, Clone, Default)]
pub struct Dict {
    pub texts: Texts,
    /// One more than the code of the text with about this hash; a power of two of them, at most half of them in use.
    slots: Vec<u32>,
}

impl Dict {
    pub fn of(texts: Texts) -> Self {
        Self { texts, slots: Vec::new() }
    }

    /// The code of a text, which is added if it is new.
    pub fn code(&mut self, text: &[u8]) -> u32 {
        if self.slots.len() <= self.texts.len() * 2 {
            self.grow();
        }
        let mask = self.slots.len() - 1;
        let mut at = hash(text) as usize & mask;
        loop {
            match self.slots[at] {
                0 => break,
                code if self.texts.get(code as usize - 1) == text => return code - 1,
                _ => at = (at + 1) & mask,
            }
        }
        self.texts.push(text);
        self.slots[at] = self.texts.len() as u32;
        self.texts.len() as u32 - 1
    }

    fn grow(&mut self) {
        let size = (self.texts.len() * 4).next_power_of_two().max(16);
        self.slots = vec![0; size];
        for code in 0..self.texts.len() {
            let mut at = hash(self.texts.get(code)) as usize & (size - 1);
            while self.slots[at] != 0 {
                at = (at + 1) & (size - 1);
            }
            self.slots[at] = code as u32 + 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_has_one_code() {
        let mut dict = Dict::default();
        for round in 0..2 {
            for number in 0..1000_u32 {
                assert_eq!(
                    dict.code(format!("{number:>w$}", w = number as usize % 20).as_bytes()),
                    number,
                    "{round}"
                );
            }
        }
        assert_eq!(dict.texts.get(7), b"      7");
    }

    #[test]
    fn texts_are_copied_in_runs() {
        let mut from = Texts::default();
        ["a", "", "bcd", "ef"].iter().for_each(|text| from.push(text.as_bytes()));
        let mut to = from.clone();
        to.extend(&from, 1, 3);
        to.extend(&from, 0, 0);
        let texts: Vec<&[u8]> = to.iter().collect();
        assert_eq!(texts, [&b"a"[..], b"", b"bcd", b"ef", b"", b"bcd", b"ef"]);
    }
}
