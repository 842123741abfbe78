//! What a value must have to match, told from its bytes alone.

use crate::bytes::Presence;

/// More sets than these cost more time than they save.
const SETS_MAX: usize = 4;
/// More sets are not weighed against each other.
const CANDIDATES_MAX: usize = 12;
/// Sets of which nearly every value has a byte say nothing.
const WEIGHT_MAX: u32 = 400;

/// A length, and sets of bytes of each of which at least one has to occur.
///
/// **Invariant:** what it refuses does not match. What it lets pass may match or not.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Screen {
    min_len: usize,
    sets: Vec<Presence>,
}

impl Screen {
    /// The screen of a shortest match, in bytes, and of sets that every match has a byte of: the best of them are kept.
    #[must_use]
    pub(super) fn new(min_len: usize, sets: Vec<Presence>) -> Self {
        let mut sets = best(sets, SETS_MAX);
        sets.retain(|set| weight(set) <= WEIGHT_MAX);
        Self { min_len, sets }
    }

    /// Whether a value of this length in bytes, with these bytes in it, can match.
    #[must_use]
    pub fn may_match(&self, presence: &Presence, len: usize) -> bool {
        len >= self.min_len && self.sets.iter().all(|set| set.meets(presence))
    }

    /// The length of the shortest match, in bytes.
    #[must_use]
    pub const fn min_len(&self) -> usize {
        self.min_len
    }

    /// Sets of each of which at least one byte has to occur, at most four, the rarest first.
    #[must_use]
    pub fn sets(&self) -> &[Presence] {
        &self.sets
    }
}

/// How often a byte occurs in what visitors send, in thousandths of all values, guessed.
const fn frequency(byte: u8) -> u32 {
    match byte {
        b'e' | b'a' | b't' | b'i' | b'o' | b'n' | b's' | b'r' => 300,
        b'a'..=b'z' => 150,
        b'0'..=b'9' => 100,
        b'A'..=b'Z' => 50,
        b' ' | b'.' | b'/' | b'-' | b'_' | b'=' | b',' => 60,
        b'&' | b'%' | b':' | b'+' | b'"' | b';' | b'(' | b')' => 25,
        b'!'..=b'~' => 8,
        b'\n' | b'\r' | 0x80..=0xbf | 0xc3 | 0xe2 => 6,
        _ => 1,
    }
}

/// How often a value has a byte of a set, on the same scale; more than a thousand for sets that nearly all have.
pub(super) fn weight(set: &Presence) -> u32 {
    (0..=u8::MAX).filter(|byte| set.has(*byte)).map(frequency).sum()
}

/// The rarest `count` sets, the rarest first, without those that another one contains.
fn best(mut sets: Vec<Presence>, count: usize) -> Vec<Presence> {
    sets.sort_by_cached_key(weight);
    let mut kept: Vec<Presence> = Vec::with_capacity(count);
    for set in sets {
        if kept.len() < count && !kept.iter().any(|rarer| rarer.is_within(&set)) {
            kept.push(set);
        }
    }
    kept
}

/// What is required where all of several parts are.
pub(super) fn all(parts: impl Iterator<Item = Vec<Presence>>) -> Vec<Presence> {
    let mut sets = Vec::new();
    for part in parts {
        sets.extend(part);
        if sets.len() > 4 * CANDIDATES_MAX {
            sets = best(sets, CANDIDATES_MAX);
        }
    }
    best(sets, CANDIDATES_MAX)
}

/// What is required where one of several parts is: unions, of a set of each of them.
pub(super) fn any(parts: &[Vec<Presence>]) -> Vec<Presence> {
    let Some((first, others)) = parts.split_first() else { return Vec::new() };
    let mut unions = Vec::with_capacity(first.len());
    for set in first {
        let mut union = *set;
        let mut is_whole = true;
        for other in others {
            let added = other.iter().map(|set| union.or(set)).min_by_key(weight);
            match added {
                Some(added) => union = added,
                None => {
                    is_whole = false;
                    break;
                }
            }
        }
        if is_whole {
            unions.push(union);
        }
    }
    best(unions, CANDIDATES_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rarest_sets_are_kept() {
        let set = |bytes: &[u8]| Presence::all_of(bytes);
        let screen = Screen::new(2, vec![set(b"etaoin"), set(b"<"), set(b"<>"), set(b"a")]);
        assert_eq!(screen.sets(), [set(b"<"), set(b"a")]);
        assert!(screen.may_match(&set(b"a<"), 2));
        assert!(!screen.may_match(&set(b"a<"), 1));
        assert!(!screen.may_match(&set(b"a>"), 9));
    }

    #[test]
    fn of_several_parts_what_is_common_is_preferred() {
        let set = |bytes: &[u8]| Presence::all_of(bytes);
        let parts = [vec![set(b"z"), set(b"=")], vec![set(b"="), set(b"y")]];
        assert!(any(&parts).contains(&set(b"=")));
        assert_eq!(any(&[vec![set(b"a")], vec![]]), []);
    }
}
