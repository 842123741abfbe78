//! What a long value must have to match, told from which three bytes stand beside each other in it.
//!
//! A value of many kilobytes has nearly every byte that there is, and so a [`Screen`](super::Screen) lets nearly every
//! expression read it. Which threes of bytes it has is found in one pass, whatever the number of expressions, and says of
//! most of them that no word that they need can be in it.

use regex_syntax::hir::{Class, Hir, HirKind};

/// Shorter values are read sooner than this is asked; tests have no long ones.
pub(crate) const LONG: usize = if cfg!(test) { 8 } else { 4096 };
/// How many marks there are; a power of two.
const MARKS: usize = 1 << MARK_BITS;
const MARK_BITS: u32 = 15;
/// Bytes of a word beyond these are not looked at.
const WORD_MAX: usize = 24;
/// More ways to go on than these are not written out.
const WAYS_MAX: usize = 64;
/// More words than these are not asked for.
const WORDS_MAX: usize = 4096;
/// Sets of words, of each of which one is needed.
const SETS_MAX: usize = 3;

/// The threes of a value, by their hashes and with letters of either case.
#[derive(Debug)]
pub(crate) struct Grams {
    marks: Box<[u8]>,
}

impl Default for Grams {
    fn default() -> Self {
        Self { marks: vec![0; MARKS].into() }
    }
}

impl Grams {
    /// Those of another value.
    pub fn read(&mut self, value: &[u8]) {
        self.marks.fill(0);
        let Ok(marks) = <&mut [u8; MARKS]>::try_from(&mut *self.marks) else { return };
        // Four are read at once, of which the last is left out.
        for four in value.windows(4) {
            if let [first, second, third, _] = *four {
                marks[mark(first, second, third)] = 1;
            }
        }
        if let [.., first, second, third] = *value {
            marks[mark(first, second, third)] = 1;
        }
    }

    fn has(&self, word: &[u16]) -> bool {
        word.iter().all(|mark| self.marks.get(usize::from(*mark)).is_some_and(|mark| *mark != 0))
    }
}

/// The place of three bytes. Bytes that differ in what tells letters of either case apart have the same.
const fn mark(first: u8, second: u8, third: u8) -> usize {
    let three = u32::from_le_bytes([first | 0x20, second | 0x20, third | 0x20, 0]);
    (three.wrapping_mul(0x9e37_79b1) >> (32 - MARK_BITS)) as usize
}

/// Sets of words; every match has one of each set in it, with letters of either case.
///
/// **Invariant:** what it refuses does not match. What it lets pass may match or not.
#[derive(Debug, Clone, Default)]
pub(crate) struct Needed {
    sets: Vec<Vec<Box<[u16]>>>,
}

impl Needed {
    /// Of an expression.
    pub fn of(pattern: &Hir) -> Self {
        let mut found = Found::of(pattern);
        found.close();
        let mut sets = found.sets;
        // Where the shortest word is long, and then where there are few.
        sets.sort_by_key(|set| (std::cmp::Reverse(shortest(set).min(6)), set.len()));
        sets.truncate(SETS_MAX);
        Self { sets: sets.iter().map(|set| set.iter().map(|word| marks_of(word)).collect()).collect() }
    }

    /// Of phrases, one of which has to be there.
    pub fn one_of(phrases: &[&[u8]]) -> Self {
        let words = phrases.iter().map(|phrase| phrase.to_vec()).collect::<Vec<_>>();
        let sets =
            if is_useful(&words) { vec![words.iter().map(|word| marks_of(word)).collect()] } else { vec![] };
        Self { sets }
    }

    /// Whether a value with these threes can match.
    pub fn may_be_in(&self, grams: &Grams) -> bool {
        self.sets.iter().all(|set| set.iter().any(|word| grams.has(word)))
    }
}

fn marks_of(word: &[u8]) -> Box<[u16]> {
    let threes = word.windows(3).take(WORD_MAX);
    threes.filter_map(|three| u16::try_from(mark(three[0], three[1], three[2])).ok()).collect()
}

fn shortest(words: &[Vec<u8>]) -> usize {
    words.iter().map(Vec::len).min().unwrap_or_default()
}

/// Whether a set of words says anything.
fn is_useful(words: &[Vec<u8>]) -> bool {
    !words.is_empty() && words.len() <= WORDS_MAX && shortest(words) >= 3
}

/// What is found in a part of a pattern, from its beginning to its end.
#[derive(Default)]
struct Found {
    sets: Vec<Vec<Vec<u8>>>,
    /// The texts that stand right before the place that has been read, one of them; `is_whole`: from the beginning on.
    open: Vec<Vec<u8>>,
    is_whole: bool,
}

impl Found {
    fn of(hir: &Hir) -> Self {
        match hir.kind() {
            // What is looked at takes no place.
            HirKind::Empty | HirKind::Look(_) => Self::words(vec![Vec::new()]),
            HirKind::Literal(literal) => Self::words(vec![lower(&literal.0)]),
            HirKind::Class(class) => match bytes_of(class) {
                Some(bytes) => Self::words(bytes.into_iter().map(|byte| vec![byte]).collect()),
                None => Self::unknown(),
            },
            HirKind::Capture(capture) => Self::of(&capture.sub),
            HirKind::Repetition(repetition) => {
                let once = Self::of(&repetition.sub);
                match (repetition.min, repetition.max) {
                    (1, Some(1)) => once,
                    (0, Some(1)) if once.is_whole => {
                        let mut words = once.open;
                        if !words.contains(&Vec::new()) {
                            words.push(Vec::new());
                        }
                        Self::words(words)
                    }
                    (0, _) => Self::unknown(),
                    // The first stands behind what is before, the last before what is behind.
                    (min, max) => {
                        let first = Self::of(&repetition.sub);
                        if max == Some(min) && min <= 4 {
                            (1..min).fold(first, |all, _| all.then(Self::of(&repetition.sub)))
                        } else {
                            first.then(Self::unknown()).then(once)
                        }
                    }
                }
            }
            HirKind::Concat(parts) => {
                parts.iter().fold(Self::words(vec![Vec::new()]), |all, part| all.then(Self::of(part)))
            }
            HirKind::Alternation(parts) => {
                let ways: Vec<Self> = parts.iter().map(Self::of).collect();
                if ways.iter().all(|way| way.is_whole) {
                    let mut words: Vec<Vec<u8>> = ways.into_iter().flat_map(|way| way.open).collect();
                    words.sort();
                    words.dedup();
                    return Self::words(words);
                }
                // One set of each way: a match has a word of one of them.
                let mut union = Vec::new();
                for mut way in ways {
                    way.close();
                    let best =
                        way.sets.into_iter().max_by_key(|set| (shortest(set).min(6), usize::MAX - set.len()));
                    match best {
                        Some(set) => union.extend(set),
                        None => return Self::unknown(),
                    }
                }
                let mut found = Self::unknown();
                if is_useful(&union) {
                    found.sets.push(union);
                }
                found
            }
        }
    }

    fn unknown() -> Self {
        Self { sets: Vec::new(), open: vec![Vec::new()], is_whole: false }
    }

    fn words(words: Vec<Vec<u8>>) -> Self {
        let is_few = !words.is_empty() && words.len() <= WORDS_MAX;
        if is_few { Self { sets: Vec::new(), open: words, is_whole: true } } else { Self::unknown() }
    }

    /// This, and something behind it.
    fn then(mut self, next: Self) -> Self {
        if next.is_whole && self.open.len() * next.open.len() <= WAYS_MAX.max(self.open.len()) {
            let ways =
                self.open.iter().flat_map(|one| next.open.iter().map(move |two| [&one[..], two].concat()));
            let mut ways: Vec<Vec<u8>> = ways.collect();
            if ways.iter().all(|way| way.len() <= WORD_MAX) {
                ways.sort();
                ways.dedup();
                self.open = ways;
                return self;
            }
        }
        self.close();
        self.sets.extend(next.sets);
        // What stands at the end of the next may go on.
        self.open = next.open;
        self.is_whole = false;
        self
    }

    /// What is open goes no further.
    fn close(&mut self) {
        let open = std::mem::replace(&mut self.open, vec![Vec::new()]);
        self.is_whole = false;
        if is_useful(&open) {
            self.sets.push(open);
        }
    }
}

fn lower(bytes: &[u8]) -> Vec<u8> {
    bytes.to_ascii_lowercase()
}

/// The bytes of a class, letters of either case as one; `None` where they are many.
fn bytes_of(class: &Class) -> Option<Vec<u8>> {
    let class = match class {
        Class::Bytes(class) => class.clone(),
        Class::Unicode(class) => class.to_byte_class()?,
    };
    let all: usize = class.iter().map(|range| usize::from(range.end() - range.start()) + 1).sum();
    if all == 0 || all > 16 {
        return None;
    }
    let mut bytes: Vec<u8> = class.iter().flat_map(|range| range.start()..=range.end()).collect();
    bytes.make_ascii_lowercase();
    bytes.sort_unstable();
    bytes.dedup();
    (bytes.len() <= 8).then_some(bytes)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::super::Expression;
    use super::*;

    fn may_be_in(pattern: &str, value: &str) -> bool {
        let expression = Expression::new(pattern.as_bytes(), false).unwrap();
        let mut grams = Grams::default();
        grams.read(value.as_bytes());
        expression.may_have(&grams)
    }

    #[test]
    fn words_that_are_needed() {
        for (pattern, yes, no) in [
            ("(?i)union.{0,9}select", "UNION and Select", "union and sele"),
            ("a(?:bcd|efg)h", "xabcdh", "xabcd"),
            ("(?:abc)?def", "def", "abc"),
            ("(?:abc)+d", "abcd", "ab cd"),
            (r"\bon(?:load|error)\s*=", "onload=", "on load="),
            ("x{3}y", "xxxy", "xxy"),
            ("(?:foo.*bar|quux)", "quux", "foo ba"),
        ] {
            assert!(may_be_in(pattern, yes), "{pattern} {yes}");
            assert!(!may_be_in(pattern, no), "{pattern} {no}");
        }
        // Nothing is needed, or too little.
        for pattern in ["a*", "ab", r"\d+", "(?:abc|d)", "(?:abc|)", "^$"] {
            assert!(may_be_in(pattern, ""), "{pattern}");
        }
    }
}
