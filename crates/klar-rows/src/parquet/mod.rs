//! Files of rows, in Apache Parquet: any reader of it can read them.
//!
//! Own code and not the crate `parquet`: that one costs a cold build about 40 processor seconds and ten crates more,
//! writes no checksums of pages, and hashes each text again that has a code here already. What is used of the format is
//! little: pages of version 2, each with at most a granule of rows and at the same rows in all columns, dictionaries,
//! differences, lengths, Zstandard. Source: apache/parquet-format, `README.md`, `Encodings.md`, `parquet.thrift`.
//!
//! Everything has a checksum: pages in their heads, as the format wants it, and what the format leaves open, the heads and
//! the description at the end, in that description (`klar.heads`, `klar.self`).

pub mod decode;
pub mod encode;
mod footer;
mod read;
mod thrift;
mod write;

use std::io;

use crate::bytes::{Reader, put, put_signed};
use crate::table::Kind;

pub use footer::walk;
pub use read::{Chunks, Pages};
pub use write::Writer;

/// Rows of a row group: so many share a dictionary.
pub const GROUP_ROWS_MAX: usize = 16 * crate::block::ROWS_MAX;

/// What is wrong with a file.
#[derive(Debug)]
pub enum Fault {
    Io(io::Error),
    Damaged(&'static str),
}

impl From<io::Error> for Fault {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// Encodings of the format.
pub mod encoding {
    pub const PLAIN: u8 = 0;
    pub const RLE: u8 = 3;
    pub const DELTA: u8 = 5;
    pub const DELTA_LENGTH: u8 = 6;
    pub const DICTIONARY: u8 = 8;
}

/// A page, and how to read it without its head.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Page {
    /// Where it begins, behind its head, and how many bytes it has.
    pub at: u64,
    pub length: u32,
    /// How many bytes its values have when they are unpacked, and whether they are packed.
    pub raw: u32,
    pub is_packed: bool,
    pub seal: u32,
    pub encoding: u8,
    /// Bytes of levels before the values: first those that say where lists begin.
    pub repeats: u32,
    pub levels: u32,
    /// Values, those that are missing included, and these.
    pub values: u32,
    pub nulls: u32,
    /// Of numbers the least and the most, in the order of their kind; see [`ordered`].
    pub least: i64,
    pub most: i64,
}

/// A column of a row group.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Chunk {
    pub dict: Option<Page>,
    /// One for each granule.
    pub pages: Vec<Page>,
}

/// A row group.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Group {
    /// Rows of each granule.
    pub granules: Vec<u32>,
    /// One for each leaf: a map has two, its names and what they say.
    pub chunks: Vec<Chunk>,
}

/// What a file holds and where.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Directory {
    /// Names and kinds, and the first leaf of each.
    pub columns: Vec<(String, Kind, usize)>,
    pub groups: Vec<Group>,
}

/// A number so that the order of numbers of its kind is that of signed ones.
#[inline]
pub const fn ordered(kind: Kind, number: i64) -> i64 {
    match kind {
        Kind::U64 => number ^ i64::MIN,
        // Of negative fractions the bits grow with their distance from zero.
        Kind::F64 => number ^ ((number >> 63) as u64 >> 1) as i64,
        _ => number,
    }
}

impl Page {
    fn write(&self, out: &mut Vec<u8>) {
        put(out, self.at);
        for number in [self.length, self.raw, self.seal, self.repeats, self.levels, self.values, self.nulls] {
            put(out, u64::from(number));
        }
        out.push(self.encoding << 1 | u8::from(self.is_packed));
        put_signed(out, self.least);
        put_signed(out, self.most);
    }

    fn read(from: &mut Reader) -> Option<Self> {
        let at = from.number()?;
        let mut numbers = [0; 7];
        for number in &mut numbers {
            *number = u32::try_from(from.number()?).ok()?;
        }
        let [length, raw, seal, repeats, levels, values, nulls] = numbers;
        let tag = from.byte()?;
        let (least, most) = (from.signed()?, from.signed()?);
        let (encoding, is_packed) = (tag >> 1, tag & 1 == 1);
        Some(Self { at, length, raw, is_packed, seal, encoding, repeats, levels, values, nulls, least, most })
    }
}

impl Directory {
    pub fn rows(&self) -> u64 {
        self.groups.iter().flat_map(|group| &group.granules).map(|rows| u64::from(*rows)).sum()
    }

    /// The time of the first and the last row.
    pub fn span(&self) -> Option<(i64, i64)> {
        let first = self.groups.first()?.chunks.first()?.pages.first()?;
        let last = self.groups.last()?.chunks.first()?.pages.last()?;
        Some((first.least, last.most))
    }

    pub fn write(&self, out: &mut Vec<u8>) {
        put(out, self.columns.len() as u64);
        for (name, kind, leaf) in &self.columns {
            crate::bytes::put_part(out, name.as_bytes());
            out.push(*kind as u8);
            put(out, *leaf as u64);
        }
        put(out, self.groups.len() as u64);
        for group in &self.groups {
            put(out, group.granules.len() as u64);
            group.granules.iter().for_each(|rows| put(out, u64::from(*rows)));
            put(out, group.chunks.len() as u64);
            for chunk in &group.chunks {
                out.push(u8::from(chunk.dict.is_some()));
                chunk.dict.iter().chain(&chunk.pages).for_each(|page| page.write(out));
            }
        }
    }

    pub fn read(from: &mut Reader) -> Option<Self> {
        let mut directory = Self::default();
        for _ in 0..from.size()? {
            let name = std::str::from_utf8(from.part()?).ok()?.to_owned();
            let kind = *Kind::ALL.get(usize::from(from.byte()?))?;
            directory.columns.push((name, kind, from.size()?));
        }
        for _ in 0..from.size()? {
            let mut group = Group::default();
            for _ in 0..from.size()? {
                group.granules.push(u32::try_from(from.number()?).ok()?);
            }
            for _ in 0..from.size()? {
                let dict = if from.byte()? == 1 { Some(Page::read(from)?) } else { None };
                let pages = group.granules.iter().map(|_| Page::read(from)).collect::<Option<_>>()?;
                group.chunks.push(Chunk { dict, pages });
            }
            directory.groups.push(group);
        }
        Some(directory)
    }
}

/// The least and the most of numbers that are there, in their order; the least is the greater where there are none.
pub fn span_of(kind: Kind, numbers: &[i64], nulls: &[bool]) -> (i64, i64) {
    let mut span = (i64::MAX, i64::MIN);
    for (row, number) in numbers.iter().enumerate() {
        if nulls.get(row) != Some(&true) {
            let number = ordered(kind, *number);
            span = (span.0.min(number), span.1.max(number));
        }
    }
    span
}
