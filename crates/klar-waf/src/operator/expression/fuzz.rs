//! Expressions against a reader that goes back where it has to, as PCRE does: slow, short, and of its own.
//!
//! A pattern is put together as an input says, so that the reader has its parts and needs not take a text apart.
#![allow(clippy::unwrap_used)]

use std::fmt::Write;

use klar_fuzz::{Feed, Fuzz};

use super::*;

/// What patterns and values are made of.
const BYTES: &[u8] = b"abcABx1_ -=;\n\t'\xc3\xa9\0";
/// The reader gives up beyond so many steps.
const STEPS_MAX: u32 = 30_000;

#[derive(Debug, Clone)]
enum Part {
    Byte(u8),
    Any,
    Class {
        bytes: Vec<u8>,
        is_negated: bool,
    },
    LineStart,
    LineEnd,
    TextStart,
    TextEnd,
    Edge(bool),
    Group(Box<Part>),
    Atomic(Box<Part>),
    All(Vec<Part>),
    OneOf(Vec<Part>),
    Times {
        part: Box<Part>,
        min: u32,
        max: Option<u32>,
        how: How,
    },
    Ahead {
        part: Box<Part>,
        is_wanted: bool,
    },
    Behind {
        words: Vec<Vec<u8>>,
        is_wanted: bool,
    },
    /// The word that the first group has.
    Same,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum How {
    Greedy,
    Lazy,
    Possessive,
}

impl Part {
    fn read(feed: &mut Feed<'_>, depth: u32) -> Self {
        let choices = if depth == 0 { 10 } else { 19 };
        let class = |feed: &mut Feed<'_>| {
            let bytes = (0..=feed.below(3)).map(|_| feed.one_of(BYTES)).collect();
            Self::Class { bytes, is_negated: feed.below(3) == 1 }
        };
        let times = |feed: &mut Feed<'_>, part: Self, hows: &[How]| {
            let counts = [(0, None), (1, None), (0, Some(1)), (2, Some(2)), (1, Some(3)), (2, None)];
            let (min, max) = feed.one_of(&counts);
            Self::Times { part: Box::new(part), min, max, how: feed.one_of(hows) }
        };
        match feed.below(choices) {
            0..=4 => Self::Byte(feed.one_of(BYTES)),
            5 => Self::Any,
            6 | 7 => class(feed),
            8 | 9 => {
                let places = [
                    &Self::LineStart,
                    &Self::LineEnd,
                    &Self::TextStart,
                    &Self::TextEnd,
                    &Self::Edge(true),
                    &Self::Edge(false),
                ];
                feed.one_of(&places).clone()
            }
            10 => Self::Group(Box::new(Self::several(feed, depth - 1))),
            11 | 12 => Self::OneOf((0..=1 + feed.below(2)).map(|_| Self::several(feed, depth - 1)).collect()),
            13 => Self::Atomic(Box::new(Self::several(feed, depth - 1))),
            // What does not give back, and something that it takes behind it.
            14 => {
                let (one, other) = (feed.one_of(BYTES), feed.one_of(BYTES));
                let taken = Self::Class { bytes: vec![one, other], is_negated: false };
                Self::All(vec![times(feed, taken, &[How::Possessive]), Self::Byte(one)])
            }
            choice => {
                let part = if choice < 17 { class(feed) } else { Self::read(feed, depth - 1) };
                // A quantifier stands behind what is there.
                let part = match part {
                    Self::LineStart | Self::LineEnd | Self::TextStart | Self::TextEnd | Self::Edge(_) => {
                        Self::Any
                    }
                    other => other,
                };
                times(feed, part, &[How::Greedy, How::Greedy, How::Lazy, How::Possessive])
            }
        }
    }

    fn several(feed: &mut Feed<'_>, depth: u32) -> Self {
        Self::All((0..feed.below(4)).map(|_| Self::read(feed, depth)).collect())
    }

    fn write(&self, out: &mut Vec<u8>) {
        let byte = |out: &mut Vec<u8>, byte: u8| {
            let mut text = String::new();
            match byte {
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'_' | b'=' | b';' | b'\'' | 0x80.. => {
                    return out.push(byte);
                }
                b'\n' => text.push_str("\\n"),
                _ => drop(write!(text, "\\x{byte:02x}")),
            }
            out.extend_from_slice(text.as_bytes());
        };
        match self {
            Self::Byte(one) => byte(out, *one),
            Self::Any => out.push(b'.'),
            Self::Class { bytes, is_negated } => {
                out.extend_from_slice(if *is_negated { b"[^" } else { b"[" });
                bytes.iter().for_each(|one| byte(out, *one));
                out.push(b']');
            }
            Self::LineStart => out.push(b'^'),
            Self::LineEnd => out.push(b'$'),
            Self::TextStart => out.extend_from_slice(b"\\A"),
            Self::TextEnd => out.extend_from_slice(b"\\z"),
            Self::Edge(true) => out.extend_from_slice(b"\\b"),
            Self::Edge(false) => out.extend_from_slice(b"\\B"),
            Self::Same => out.extend_from_slice(b"\\1"),
            Self::Group(part) => Self::wrapped(b"(", part, out),
            Self::Atomic(part) => Self::wrapped(b"(?>", part, out),
            Self::Ahead { part, is_wanted } => {
                Self::wrapped(if *is_wanted { b"(?=" } else { b"(?!" }, part, out)
            }
            Self::Behind { words, is_wanted } => {
                out.extend_from_slice(if *is_wanted { b"(?<=" } else { b"(?<!" });
                for (at, word) in words.iter().enumerate() {
                    if at > 0 {
                        out.push(b'|');
                    }
                    word.iter().for_each(|one| byte(out, *one));
                }
                out.push(b')');
            }
            Self::All(parts) => parts.iter().for_each(|part| part.write(out)),
            Self::OneOf(parts) => {
                out.extend_from_slice(b"(?:");
                for (at, part) in parts.iter().enumerate() {
                    if at > 0 {
                        out.push(b'|');
                    }
                    part.write(out);
                }
                out.push(b')');
            }
            Self::Times { part, min, max, how } => {
                let is_one =
                    matches!(**part, Self::Byte(..=0x7f) | Self::Any | Self::Class { .. } | Self::Group(_));
                if is_one {
                    part.write(out)
                } else {
                    Self::wrapped(b"(?:", part, out)
                }
                let count = match (min, max) {
                    (0, None) => "*".to_owned(),
                    (1, None) => "+".to_owned(),
                    (0, Some(1)) => "?".to_owned(),
                    (min, None) => format!("{{{min},}}"),
                    (min, Some(max)) if min == max => format!("{{{min}}}"),
                    (min, Some(max)) => format!("{{{min},{max}}}"),
                };
                out.extend_from_slice(count.as_bytes());
                out.extend_from_slice(match how {
                    How::Greedy => b"",
                    How::Lazy => b"?",
                    How::Possessive => b"+",
                });
            }
        }
    }

    fn wrapped(open: &[u8], part: &Self, out: &mut Vec<u8>) {
        out.extend_from_slice(open);
        part.write(out);
        out.push(b')');
    }

    /// Whether it, or a part of it, is one that `is` says.
    fn has(&self, is: &impl Fn(&Self) -> bool) -> bool {
        is(self)
            || match self {
                Self::Group(part)
                | Self::Atomic(part)
                | Self::Times { part, .. }
                | Self::Ahead { part, .. } => part.has(is),
                Self::All(parts) | Self::OneOf(parts) => parts.iter().any(|part| part.has(is)),
                _ => false,
            }
    }

    /// Whether it can match where there is nothing.
    fn can_be_empty(&self) -> bool {
        match self {
            Self::Byte(_) | Self::Any | Self::Class { .. } => false,
            Self::Group(part) | Self::Atomic(part) => part.can_be_empty(),
            Self::All(parts) => parts.iter().all(Self::can_be_empty),
            Self::OneOf(parts) => parts.iter().any(Self::can_be_empty),
            Self::Times { part, min, .. } => *min == 0 || part.can_be_empty(),
            _ => true,
        }
    }
}

/// A match, and its first group.
type Found = (Range<usize>, Option<Range<usize>>);

/// Reads a value as a pattern says, and goes back.
struct Reader<'a> {
    value: &'a [u8],
    ignores_case: bool,
    /// Whether `^` matches behind a newline that ends the value; PCRE says no.
    ends_begin: bool,
    steps: u32,
    group: Option<Range<usize>>,
}

type Then<'t, 'a> = &'t mut dyn FnMut(&mut Reader<'a>, usize) -> bool;

impl<'a> Reader<'a> {
    /// Where the pattern matches first; `None` if that takes too long.
    fn find(pattern: &Part, value: &'a [u8], ignores_case: bool, ends_begin: bool) -> Option<Option<Found>> {
        let mut reader = Self { value, ignores_case, ends_begin, steps: 0, group: None };
        for begin in 0..=value.len() {
            let mut end = 0;
            reader.group = None;
            let is_match = reader.part(pattern, begin, &mut |_, at| {
                end = at;
                true
            });
            if reader.steps > STEPS_MAX {
                return None;
            }
            if is_match {
                return Some(Some((begin..end, reader.group.clone())));
            }
        }
        Some(None)
    }

    fn is_same(&self, one: u8, other: u8) -> bool {
        one == other || (self.ignores_case && one.eq_ignore_ascii_case(&other))
    }

    fn is_word(&self, at: Option<usize>) -> bool {
        at.and_then(|at| self.value.get(at)).is_some_and(|byte| byte.is_ascii_alphanumeric() || *byte == b'_')
    }

    fn one(&mut self, at: usize, is: bool, then: Then<'_, 'a>) -> bool {
        is && at < self.value.len() && then(self, at + 1)
    }

    fn here(&mut self, at: usize, is: bool, then: Then<'_, 'a>) -> bool {
        is && then(self, at)
    }

    fn part(&mut self, part: &Part, at: usize, then: Then<'_, 'a>) -> bool {
        self.steps += 1;
        if self.steps > STEPS_MAX {
            return false;
        }
        let next = self.value.get(at).copied();
        match part {
            Part::Byte(byte) => self.one(at, next.is_some_and(|next| self.is_same(next, *byte)), then),
            Part::Any => self.one(at, true, then),
            Part::Class { bytes, is_negated } => {
                let is_in = next.is_some_and(|next| bytes.iter().any(|byte| self.is_same(next, *byte)));
                self.one(at, is_in != *is_negated, then)
            }
            Part::LineStart => {
                let is_behind =
                    at > 0 && self.value[at - 1] == b'\n' && (self.ends_begin || at < self.value.len());
                self.here(at, at == 0 || is_behind, then)
            }
            Part::LineEnd => self.here(at, next.is_none_or(|next| next == b'\n'), then),
            Part::TextStart => self.here(at, at == 0, then),
            Part::TextEnd => self.here(at, next.is_none(), then),
            Part::Edge(is) => {
                self.here(at, (self.is_word(at.checked_sub(1)) != self.is_word(Some(at))) == *is, then)
            }
            Part::Group(inner) => {
                let before = self.group.clone();
                // Only the first group is looked at; others stand in no pattern that compares.
                let is_match = self.part(inner, at, &mut |reader, end| {
                    let was = reader.group.replace(at..end);
                    let holds = then(reader, end);
                    if !holds {
                        reader.group = was;
                    }
                    holds
                });
                if !is_match {
                    self.group = before;
                }
                is_match
            }
            Part::Atomic(inner) => match self.once(inner, at) {
                Some(end) => then(self, end),
                None => false,
            },
            Part::Ahead { part, is_wanted } => {
                let is = self.once(part, at).is_some() == *is_wanted;
                self.here(at, is, then)
            }
            Part::Behind { words, is_wanted } => {
                let before = &self.value[..at];
                let is = words.iter().any(|word| {
                    before.len() >= word.len()
                        && before[before.len() - word.len()..]
                            .iter()
                            .zip(word)
                            .all(|(one, other)| self.is_same(*one, *other))
                });
                self.here(at, is == *is_wanted, then)
            }
            Part::Same => {
                let Some(word) = self.group.clone() else { return false };
                let end = at + word.len();
                let is = self.value.get(at..end).is_some_and(|text| {
                    text.iter().zip(&self.value[word]).all(|(one, other)| self.is_same(*one, *other))
                });
                is && then(self, end)
            }
            Part::All(parts) => self.all(parts, at, then),
            Part::OneOf(parts) => parts.iter().any(|part| self.part(part, at, then)),
            Part::Times { part, min, max, how: How::Possessive } => {
                let greedy = Part::Times { part: part.clone(), min: *min, max: *max, how: How::Greedy };
                match self.once(&greedy, at) {
                    Some(end) => then(self, end),
                    None => false,
                }
            }
            Part::Times { part, min, max, how } => {
                self.times(part, *min, *max, *how == How::Lazy, 0, at, then)
            }
        }
    }

    /// Where it ends in the first way there is; no other is taken later.
    fn once(&mut self, part: &Part, at: usize) -> Option<usize> {
        let mut end = None;
        self.part(part, at, &mut |_, at| {
            end = Some(at);
            true
        });
        end
    }

    fn all(&mut self, parts: &[Part], at: usize, then: Then<'_, 'a>) -> bool {
        match parts {
            [] => then(self, at),
            [first, others @ ..] => self.part(first, at, &mut |reader, at| reader.all(others, at, then)),
        }
    }

    #[allow(clippy::too_many_arguments)]
    fn times(
        &mut self,
        part: &Part,
        min: u32,
        max: Option<u32>,
        is_lazy: bool,
        done: u32,
        at: usize,
        then: Then<'_, 'a>,
    ) -> bool {
        if done >= min && is_lazy && then(self, at) {
            return true;
        }
        let may_go_on = max.is_none_or(|max| done < max);
        let goes_on = may_go_on
            && self.part(part, at, &mut |reader, end| {
                // What takes nothing may be done as often as is wanted, and no more.
                if end == at && done >= min {
                    return false;
                }
                let done = if end == at { min } else { done + 1 };
                reader.times(part, min, max, is_lazy, done, end, then)
            });
        goes_on || (done >= min && !is_lazy && then(self, at))
    }
}

/// A pattern with something to look at around it, or words that are compared, or neither.
fn pattern(feed: &mut Feed<'_>) -> (Part, bool) {
    let ignores_case = feed.below(4) == 1;
    let shape = feed.below(8);
    let words = |feed: &mut Feed<'_>| -> Vec<Vec<u8>> {
        (0..=feed.below(3)).map(|_| (0..=feed.below(3)).map(|_| feed.one_of(BYTES)).collect()).collect()
    };
    let literal = |word: &Vec<u8>| Part::All(word.iter().map(|byte| Part::Byte(*byte)).collect());
    let part = match shape {
        0 => {
            let behind = Part::Behind { words: words(feed), is_wanted: feed.below(2) == 1 };
            Part::All(vec![behind, Part::several(feed, 2)])
        }
        1 => {
            let ahead = Part::OneOf(words(feed).iter().map(literal).collect());
            let ahead = Part::Ahead { part: Box::new(ahead), is_wanted: feed.below(2) == 1 };
            Part::All(vec![Part::several(feed, 2), ahead])
        }
        _ => Part::several(feed, 3),
    };
    (part, ignores_case)
}

fn text_of(pattern: &Part, ignores_case: bool) -> Vec<u8> {
    let mut text = if ignores_case { b"(?i)".to_vec() } else { Vec::new() };
    pattern.write(&mut text);
    text
}

const SEEDS: &[&[u8]] = &[
    b"\x00\x02\x03\x00\x00\x00\x01\x00\x02\xffabcabc",
    b"\x01\x03\x03\x0d\x00\x01\x02\x00\x03\x00\x01\xffAABB",
    b"\x00\x00\x01\x01\x00\x01\x00\x02\x00\x00\x0c\xff\x0c\x00\x01\x0c",
    b"\x00\x01\x01\x00\x00\x01\x00\x01\x02\x08\x01\xff\x00\x01\x02",
    b"\x00\x05\x02\x0a\x01\x02\x00\x00\x00\x01\x01\x00\x02\x09\x02\x00\x03\x00\x04\xff\x00\x01\x02\x03",
    b"\x00\x06\x03\x0f\x09\x02\x00\x00\x05\x01\x01\x10\x0a\x00\x01\x03\x08\x01\xff\x0c\x0c\x00\x0c",
    b"\x00\x07\x02\x0d\x02\x00\x03\x04\x00\x00\x03\x00\x01\xff\x00\x00\x01",
];

/// Panics where an expression says something else than the reader; `None` where that takes too long to know.
fn compare(pattern: &Part, expression: &Expression, ignores_case: bool, value: &[u8]) -> Option<bool> {
    let shown = || format!("{} on {}", text_of(pattern, ignores_case).escape_ascii(), value.escape_ascii());
    let read = Reader::find(pattern, value, ignores_case, false)?;
    let is_match = expression.is_match(value);
    let found = expression.find(value);
    assert_eq!(is_match, found.is_some(), "{}", shown());
    let mut groups = Default::default();
    assert_eq!(expression.groups(value, &mut groups), is_match, "{}", shown());
    assert!(!is_match || groups[0] == found, "{}", shown());
    if is_match {
        let mut grams = Grams::default();
        grams.read(value);
        assert!(expression.may_match(&Presence::of(value), value.len()), "the screen of {}", shown());
        assert!(expression.may_have(&grams), "the words of {}", shown());
    }
    // A `^` behind the last newline is another one than that of PCRE where something stands before it.
    let is_at_end = value.last() == Some(&b'\n') && pattern.has(&|part| matches!(part, Part::LineStart));
    if is_at_end && read.is_some() != is_match {
        // What matches nothing, whether by a `^` or not, does so there for nobody.
        if pattern.can_be_empty() {
            return Some(is_match);
        }
        let loosely = Reader::find(pattern, value, ignores_case, true);
        assert_eq!(loosely.map(|read| read.is_some()), Some(is_match), "{}", shown());
        return Some(is_match);
    }
    let holds_on = |part: &Part| matches!(part, Part::Atomic(_) | Part::Times { how: How::Possessive, .. });
    if pattern.has(&holds_on) && pattern.has(&|part| matches!(part, Part::LineEnd)) {
        // A newline that was given back before `$`: what matches, matches.
        assert!(is_match || read.is_none(), "{}", shown());
        return Some(is_match);
    }
    assert_eq!(is_match, read.is_some(), "{}", shown());
    // Look-around is taken into a match, and what is repeated although it is nothing is told apart by no automaton.
    let is_other = |part: &Part| match part {
        Part::Ahead { .. } | Part::Behind { .. } | Part::Atomic(_) => true,
        Part::Times { how: How::Possessive, .. } => true,
        Part::Times { part, .. } => part.can_be_empty(),
        _ => false,
    };
    if !is_at_end && !pattern.has(&is_other) {
        assert_eq!(found, read.map(|(whole, _)| whole), "{}", shown());
    }
    Some(is_match)
}

#[test]
fn patterns_match_what_a_reader_says_that_goes_back() {
    let (mut compared, mut refused, mut matched) = (0_u64, 0_u64, 0_u64);
    Fuzz { name: "expressions", seeds: SEEDS, words: &[b"\xff", b"\x0d", b"\x08", b"\x0c\x0c"], longest: 64 }
        .run(|input| {
            let mut feed = Feed::new(input);
            let (pattern, ignores_case) = pattern(&mut Feed::new(feed.until(0xff)));
            let value: Vec<u8> =
                feed.rest().iter().map(|byte| BYTES[usize::from(*byte) % BYTES.len()]).collect();
            let text = text_of(&pattern, ignores_case);
            let Ok(expression) = Expression::new(&text, true) else {
                refused += 1;
                return;
            };
            let backwards: Vec<u8> = value.iter().rev().copied().collect();
            // Lines, and what comes twice: few inputs have them by themselves.
            for value in [
                &value[..],
                &[&value[..], b"\n", &value].concat(),
                &[b"a\n", &backwards[..], &value].concat(),
            ] {
                let Some(is_match) = compare(&pattern, &expression, ignores_case, value) else { continue };
                compared += 1;
                matched += u64::from(is_match);
            }
        });
    let is_long = std::env::var_os("KLAR_FUZZ_SECONDS").is_some();
    println!("{compared} compared, {matched} matches, {refused} refused");
    assert!(is_long || (refused * 2 < compared && matched * 8 > compared), "{compared} {matched} {refused}");
}

#[test]
fn words_are_compared_as_a_reader_says_that_goes_back() {
    let (mut compared, mut matched) = (0_u64, 0_u64);
    Fuzz {
        name: "words that are compared",
        seeds: &[
            b"\x00\x00a=a",
            b"\x03\x01ab'<> ab",
            b"\x06\x02A <= b = c",
            b"\x01\x00a=b=b 1=1",
            b"\x00\x00\x03\x00x abx",
        ],
        words: &[b" = ", b"=", b"<>", b"<=", b"ab", b"a", b"1", b"'", b"_"],
        longest: 40,
    }
    .run(|input| {
        let mut feed = Feed::new(input);
        let ignores_case = feed.below(2) == 1;
        let between = Part::Times {
            part: Box::new(Part::Class { bytes: b" '\"".to_vec(), is_negated: false }),
            min: 0,
            max: None,
            how: How::Lazy,
        };
        let letters: Vec<u8> =
            (0..=255_u8).filter(|byte| byte.is_ascii_alphanumeric() || *byte == b'_').collect();
        let word = Part::Times {
            part: Box::new(Part::Class { bytes: letters, is_negated: false }),
            min: 1,
            max: None,
            how: How::Greedy,
        };
        let sign = |text: &[u8]| Part::All(text.iter().map(|byte| Part::Byte(*byte)).collect());
        let same = || Part::All(vec![Part::Edge(true), Part::Same, Part::Edge(true)]);
        let other =
            || Part::All(vec![Part::Ahead { part: Box::new(same()), is_wanted: false }, word.clone()]);
        let signs: [&[u8]; 4] = [b"=", b"<>", b"<=", b"ab"];
        let mut branches: Vec<(usize, bool)> =
            (0..=feed.below(3)).map(|_| (feed.below(4) as usize, feed.below(2) == 1)).collect();
        // What stands between words says whether they are the same.
        let mut seen = [false; 4];
        branches.retain(|(at, _)| !std::mem::replace(&mut seen[*at], true));
        let ways = branches.iter().map(|(at, is_same)| {
            Part::All(vec![sign(signs[*at]), between.clone(), if *is_same { same() } else { other() }])
        });
        let pattern = Part::All(vec![
            Part::Edge(true),
            Part::Group(Box::new(word.clone())),
            Part::Edge(true),
            between.clone(),
            Part::OneOf(ways.collect()),
        ]);
        // As such rules write it.
        let mut text = String::from(if ignores_case { "(?i)" } else { "" });
        text.push_str(r#"\b([\d\w]+)\b[ '"]*?(?:"#);
        for (at, (sign, is_same)) in branches.iter().enumerate() {
            let bar = if at > 0 { "|" } else { "" };
            let word = if *is_same { r"(?:\b\1\b)" } else { r"(?!\b\1\b)[\d\w]+" };
            let _ = write!(text, r#"{bar}{}[ '"]*?{word}"#, String::from_utf8_lossy(signs[*sign]));
        }
        text.push(')');
        let value = feed.rest();
        let Ok(expression) = Expression::new(text.as_bytes(), false) else { panic!("{text}") };
        let Some(read) = Reader::find(&pattern, value, ignores_case, false) else { return };
        compared += 1;
        matched += u64::from(read.is_some());
        assert_eq!(expression.is_match(value), read.is_some(), "{text} on {}", value.escape_ascii());
    });
    assert!(matched * 20 > compared, "{matched} of {compared}");
}
