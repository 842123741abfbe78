//! Values that came before, and the rules that each of them wakes.
//!
//! Most of what visitors send is the same each time: names, `Accept`, `User-Agent`, `same-origin`. What is asked of such
//! a value depends on nothing but its bytes and where it stands, and so the answer is kept. A value is compared byte for
//! byte before an answer counts for it.
//!
//! Memory is fixed, some 680 KB. Whoever sends values that nobody sent before takes no place away: a value is kept when
//! it comes for the second time, and only where another has not come for longer than it came often. Where it may lie
//! depends on a secret of this process, so that nobody can aim at a place.

use std::hash::{BuildHasher, RandomState};

/// Values of up to so many bytes are kept in small places, and of up to so many in large ones.
const WIDTHS: [usize; 2] = [48, 256];
/// Sets of places of each width; powers of two.
const SETS: [usize; 2] = [1024, 256];
/// Places that a value can lie in.
const WAYS: usize = 4;
/// Values that came once, by their hashes: so many buckets, a power of two, of the latest four each.
const ONCE: usize = 2048;
/// More rules are not kept.
const WAKES_MAX: usize = 12;
/// How often a value counts as having come, at most.
const STRENGTH_MAX: u8 = 64;

/// Answers for values.
#[derive(Debug)]
pub(crate) struct Verdicts {
    program: u64,
    seed: [u64; 2],
    tables: [Table; 2],
    once: Vec<[u32; 4]>,
}

#[derive(Debug, Default)]
struct Table {
    places: Vec<Place>,
    bytes: Vec<u8>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Place {
    /// Of the hash; 0 where the place is empty.
    tag: u32,
    class: u32,
    len: u16,
    /// How often it came, less how often others wanted its place.
    strength: u8,
    wakes: u8,
    rules: [u16; WAKES_MAX],
}

/// A value on its way to its answer.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Key {
    hash: u64,
    class: u32,
}

impl Default for Verdicts {
    fn default() -> Self {
        let state = RandomState::new();
        Self {
            program: 0,
            seed: [state.hash_one(1) | 1, state.hash_one(2) | 1],
            tables: Default::default(),
            once: Vec::new(),
        }
    }
}

impl Verdicts {
    /// Forgets what was learnt with other rules.
    pub(super) fn are_of(&mut self, program: u64) {
        if self.program != program {
            self.program = program;
            for ((table, sets), width) in self.tables.iter_mut().zip(SETS).zip(WIDTHS) {
                table.places.clear();
                table.places.resize(sets * WAYS, Place::default());
                table.bytes.resize(sets * WAYS * width, 0);
            }
            self.once.clear();
            self.once.resize(ONCE, [0; 4]);
        }
    }

    /// The key of a value; `None` if it is too long to be kept.
    pub(super) fn key(&self, class: u32, value: &[u8]) -> Option<Key> {
        let [_, longest] = WIDTHS;
        (value.len() <= longest).then(|| Key { hash: hash(self.seed, class, value), class })
    }

    /// The rules that a value wakes, if it is known.
    pub(super) fn get(&mut self, key: Key, value: &[u8]) -> Option<&[u16]> {
        let (at, width) = table_of(value);
        let table = self.tables.get_mut(at)?;
        let first = set_of(key, SETS[at]) * WAYS;
        let places = table.places.get_mut(first..first + WAYS)?;
        for (way, place) in places.iter_mut().enumerate() {
            if place.tag == tag(key) && place.class == key.class && usize::from(place.len) == value.len() {
                let begin = (first + way) * width;
                if table.bytes.get(begin..begin + value.len()) == Some(value) {
                    place.strength = (place.strength + 1).min(STRENGTH_MAX);
                    return place.rules.get(..usize::from(place.wakes));
                }
            }
        }
        None
    }

    /// Keeps the answer for a value that is not known, if it came before.
    pub(super) fn put(&mut self, key: Key, value: &[u8], wakes: &[u32]) {
        let mut rules = [0; WAKES_MAX];
        if wakes.len() > WAKES_MAX || wakes.iter().any(|bit| *bit > u32::from(u16::MAX)) {
            return;
        }
        for (rule, bit) in rules.iter_mut().zip(wakes) {
            *rule = *bit as u16;
        }
        let Some(once) = self.once.get_mut((key.hash >> 20) as usize % ONCE) else { return };
        if !once.contains(&tag(key)) {
            let [first, second, third, _] = *once;
            *once = [tag(key), first, second, third];
            return;
        }
        let (at, width) = table_of(value);
        let Some(table) = self.tables.get_mut(at) else { return };
        let first = set_of(key, SETS[at]) * WAYS;
        let Some(places) = table.places.get_mut(first..first + WAYS) else { return };
        let Some((way, place)) = places.iter_mut().enumerate().min_by_key(|(_, place)| place.strength) else {
            return;
        };
        if place.strength > 0 {
            place.strength -= 1;
            return;
        }
        let begin = (first + way) * width;
        let Some(bytes) = table.bytes.get_mut(begin..begin + value.len()) else { return };
        bytes.copy_from_slice(value);
        *place = Place {
            tag: tag(key),
            class: key.class,
            len: value.len() as u16,
            strength: 1,
            wakes: wakes.len() as u8,
            rules,
        };
    }
}

fn table_of(value: &[u8]) -> (usize, usize) {
    let at = usize::from(value.len() > WIDTHS[0]);
    (at, WIDTHS[at])
}

fn set_of(key: Key, sets: usize) -> usize {
    key.hash as usize % sets
}

fn tag(key: Key) -> u32 {
    (key.hash >> 32) as u32 | 1
}

/// Both halves of a product, mixed.
fn fold(one: u64, other: u64) -> u64 {
    let product = u128::from(one) * u128::from(other);
    product as u64 ^ (product >> 64) as u64
}

fn hash(seed: [u64; 2], class: u32, value: &[u8]) -> u64 {
    let [first, second] = seed;
    let word = |bytes: &[u8]| bytes.first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes));
    let half = |bytes: &[u8]| bytes.first_chunk().map_or(0, |bytes| u64::from(u32::from_le_bytes(*bytes)));
    let mut state = first ^ u64::from(class);
    let mut rest = value;
    while rest.len() > 16 {
        let (chunk, behind) = rest.split_at(16);
        state = fold(state ^ word(chunk), second ^ word(&chunk[8..]));
        rest = behind;
    }
    // What is left is read from both its ends, which may overlap.
    let (low, high) = match rest.len() {
        8.. => (word(rest), word(&rest[rest.len() - 8..])),
        4..=7 => (half(rest), half(&rest[rest.len() - 4..])),
        left => rest.iter().fold((0, left as u64), |(low, high), byte| (low << 8 | u64::from(*byte), high)),
    };
    fold(fold(state ^ low, second ^ high), first ^ value.len() as u64)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn learnt() -> Verdicts {
        let mut verdicts = Verdicts::default();
        verdicts.are_of(1);
        verdicts
    }

    fn put(verdicts: &mut Verdicts, class: u32, value: &[u8], wakes: &[u32]) {
        let key = verdicts.key(class, value).unwrap();
        verdicts.put(key, value, wakes);
    }

    fn get(verdicts: &mut Verdicts, class: u32, value: &[u8]) -> Option<Vec<u16>> {
        let key = verdicts.key(class, value).unwrap();
        verdicts.get(key, value).map(<[u16]>::to_vec)
    }

    #[test]
    fn a_value_is_kept_when_it_comes_again() {
        let mut verdicts = learnt();
        for value in [&b""[..], b"a", b"abc", b"same-origin", &[b'x'; 48], &[b'x'; 49], &[b'x'; 256]] {
            put(&mut verdicts, 3, value, &[7, 9]);
            assert_eq!(get(&mut verdicts, 3, value), None, "once is not enough");
            put(&mut verdicts, 3, value, &[7, 9]);
            assert_eq!(get(&mut verdicts, 3, value), Some(vec![7, 9]));
            assert_eq!(get(&mut verdicts, 4, value), None, "another place is another question");
        }
        assert!(verdicts.key(3, &[b'x'; 257]).is_none());
        put(&mut verdicts, 3, b"many", &[1; 13]);
        put(&mut verdicts, 3, b"many", &[1; 13]);
        assert_eq!(get(&mut verdicts, 3, b"many"), None);
        verdicts.are_of(2);
        assert_eq!(get(&mut verdicts, 3, b"a"), None, "other rules, other answers");
    }

    #[test]
    fn a_flood_of_new_values_takes_no_place_away() {
        let mut verdicts = learnt();
        let known: Vec<Vec<u8>> = (0..200).map(|number| format!("known {number}").into_bytes()).collect();
        for value in known.iter().chain(&known) {
            put(&mut verdicts, 1, value, &[]);
        }
        let kept =
            |verdicts: &mut Verdicts| known.iter().filter(|value| get(verdicts, 1, value).is_some()).count();
        let before = kept(&mut verdicts);
        assert!(before >= 190, "{before}");
        for round in 0..20 {
            for number in 0..5000 {
                let value = format!("{round} {number}");
                put(&mut verdicts, 1, value.as_bytes(), &[]);
            }
            assert!(kept(&mut verdicts) + 5 >= before, "round {round}");
        }
    }

    #[test]
    fn hashes_see_every_byte() {
        let seed = [0x1234_5678_9abc_def1, 0x0fed_cba9_8765_4321];
        for len in 1..80 {
            let value = vec![b'a'; len];
            let whole = hash(seed, 1, &value);
            for at in 0..len {
                let mut other = value.clone();
                other[at] = b'b';
                assert_ne!(hash(seed, 1, &other), whole, "{at} of {len}");
            }
        }
    }
}
