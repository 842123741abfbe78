//! Places in the write-ahead log, and the files that hold them.
//!
//! The log of one timeline is one long row of bytes. It is cut into segments of the same size (16 MiB unless the cluster
//! was made otherwise), whose names are timeline, and number of the segment in two halves.
//! Source: PostgreSQL 15, `src/include/access/xlog_internal.h`.

use std::fmt;
use std::ops::{Add, Sub};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A place in the log, in bytes from its beginning. Written `16/B374D848`, as PostgreSQL does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Lsn(pub u64);

/// Which history of the cluster: 1 at first, one more after each promotion.
pub type Timeline = u32;

/// How long a segment is, in bytes: a power of two from 1 MiB to 1 GiB.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "u64", into = "u64")]
pub struct SegmentSize(u64);

/// One segment of one timeline. Its name is 24 hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Segment {
    /// Whose history.
    pub timeline: Timeline,
    /// Counted from the log's beginning.
    pub number: u64,
}

/// It is not what it should be: an LSN, the name of a segment.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not {expected}")]
pub struct NotOne {
    text: String,
    expected: &'static str,
}

fn not_one(text: &str, expected: &'static str) -> NotOne {
    NotOne { text: text.chars().take(80).collect(), expected }
}

impl Default for SegmentSize {
    fn default() -> Self {
        Self(16 << 20)
    }
}

impl SegmentSize {
    /// In bytes.
    #[must_use]
    pub const fn bytes(self) -> u64 {
        self.0
    }

    /// How many segments share the first half of their number.
    const fn in_each(self) -> u64 {
        (1 << 32) / self.0
    }
}

impl Lsn {
    /// The segment that holds the byte at this place.
    #[must_use]
    pub const fn segment(self, timeline: Timeline, size: SegmentSize) -> Segment {
        Segment { timeline, number: self.0 / size.0 }
    }

    /// How far into its segment it is, in bytes.
    #[must_use]
    pub const fn offset(self, size: SegmentSize) -> u64 {
        self.0 % size.0
    }
}

impl Segment {
    /// Where it begins.
    #[must_use]
    pub const fn start(self, size: SegmentSize) -> Lsn {
        Lsn(self.number.saturating_mul(size.0))
    }

    /// Where the next one begins.
    #[must_use]
    pub const fn end(self, size: SegmentSize) -> Lsn {
        Lsn(self.number.saturating_add(1).saturating_mul(size.0))
    }

    /// The one after it.
    #[must_use]
    pub const fn next(self) -> Segment {
        Segment { timeline: self.timeline, number: self.number + 1 }
    }

    /// The name of its file.
    #[must_use]
    pub fn name(self, size: SegmentSize) -> String {
        let each = size.in_each();
        format!("{:08X}{:08X}{:08X}", self.timeline, self.number / each, self.number % each)
    }

    /// Reads such a name.
    ///
    /// # Errors
    /// What is not 24 digits in upper case, or a number that segments of this size do not have.
    pub fn parse(name: &str, size: SegmentSize) -> Result<Self, NotOne> {
        let wrong = || not_one(name, "the name of a segment: 24 hexadecimal digits");
        let digits = |from: usize| {
            let part = name.get(from..from + 8)?;
            let is_hex = part.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'A'..=b'F'));
            is_hex.then(|| u32::from_str_radix(part, 16).ok()).flatten()
        };
        if name.len() != 24 {
            return Err(wrong());
        }
        let (Some(timeline), Some(high), Some(low)) = (digits(0), digits(8), digits(16)) else {
            return Err(wrong());
        };
        if timeline == 0 || u64::from(low) >= size.in_each() {
            return Err(wrong());
        }
        Ok(Self { timeline, number: u64::from(high) * size.in_each() + u64::from(low) })
    }
}

impl TryFrom<u64> for SegmentSize {
    type Error = NotOne;

    fn try_from(bytes: u64) -> Result<Self, NotOne> {
        match bytes.is_power_of_two() && (1 << 20..=1 << 30).contains(&bytes) {
            true => Ok(Self(bytes)),
            false => {
                Err(not_one(&bytes.to_string(), "the size of a segment: a power of two from 1 MiB to 1 GiB"))
            }
        }
    }
}

impl From<SegmentSize> for u64 {
    fn from(size: SegmentSize) -> u64 {
        size.0
    }
}

impl Add<u64> for Lsn {
    type Output = Lsn;

    fn add(self, bytes: u64) -> Lsn {
        Lsn(self.0.saturating_add(bytes))
    }
}

impl Sub for Lsn {
    type Output = u64;

    /// Bytes between two places; 0 where the first one is not the later one.
    fn sub(self, before: Lsn) -> u64 {
        self.0.saturating_sub(before.0)
    }
}

impl fmt::Display for Lsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:X}/{:X}", self.0 >> 32, self.0 & 0xffff_ffff)
    }
}

impl FromStr for Lsn {
    type Err = NotOne;

    fn from_str(text: &str) -> Result<Self, NotOne> {
        let half = |part: &str| {
            let is_hex = (1..=8).contains(&part.len()) && part.bytes().all(|byte| byte.is_ascii_hexdigit());
            is_hex.then(|| u64::from_str_radix(part, 16).ok()).flatten()
        };
        let halves = text.split_once('/').and_then(|(high, low)| Some((half(high)?, half(low)?)));
        let (high, low) = halves.ok_or_else(|| not_one(text, "a place in the log, such as 16/B374D848"))?;
        Ok(Self(high << 32 | low))
    }
}

impl TryFrom<String> for Lsn {
    type Error = NotOne;

    fn try_from(text: String) -> Result<Self, NotOne> {
        text.parse()
    }
}

impl From<Lsn> for String {
    fn from(lsn: Lsn) -> String {
        lsn.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_read_as_they_are_shown() {
        for (text, bytes) in [
            ("0/0", 0),
            ("0/1000000", 1 << 24),
            ("16/B374D848", 0x16_B374_D848),
            ("FFFFFFFF/FFFFFFFF", u64::MAX),
        ] {
            assert_eq!(text.parse(), Ok(Lsn(bytes)));
            assert_eq!(Lsn(bytes).to_string(), text);
        }
        for wrong in ["", "/", "0", "0/", "0/g", "+1/0", "0/123456789", "1/2/3", " 0/0"] {
            assert!(wrong.parse::<Lsn>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn segments_have_the_names_that_postgresql_gives_them() {
        let sizes = [
            (16 << 20, "0000000100000000000000FF", "000000010000000100000000"),
            (1 << 30, "000000010000000000000003", "000000010000000100000000"),
        ];
        for (bytes, last, first) in sizes {
            let size = SegmentSize::try_from(bytes).unwrap();
            let before = Segment::parse(last, size).unwrap();
            assert_eq!(before.next(), Segment::parse(first, size).unwrap());
            assert_eq!(before.end(size), Lsn(1 << 32));
            assert_eq!(before.next().name(size), first);
            assert_eq!(Lsn((1 << 32) - 1).segment(1, size), before);
        }
        let size = SegmentSize::default();
        for wrong in [
            "",
            "00000001000000000000010",
            "000000010000000000000100",
            "000000000000000000000001",
            "00000001000000000000000a",
            "00000001.history",
        ] {
            assert!(Segment::parse(wrong, size).is_err(), "{wrong}");
        }
        for wrong in [0, 1, 3 << 20, 1 << 31] {
            assert!(SegmentSize::try_from(wrong).is_err());
        }
    }
}
