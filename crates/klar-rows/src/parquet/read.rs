//! Reads pages back to columns.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;

use zstd::bulk::Decompressor;

use super::{Chunk, Directory, Fault, Page, decode, encoding};
use crate::block::{Data, ROWS_MAX, Vector};
use crate::bytes::Reader;
use crate::table::Kind;
use crate::texts::{Dict, Texts};

/// No page is longer when it is unpacked: a block, its last row and what the encoding adds.
const PAGE_MAX: usize = 256 << 20;

/// Where lists begin, which values are there, and these.
type Body<'a> = (&'a [u8], &'a [u8], &'a [u8]);

/// No granule has more entries of maps: a row has 1024 at most.
const ENTRIES_MAX: usize = ROWS_MAX << 10;

/// Reads pages, with buffers that are used again. One for each thread.
pub struct Pages {
    stored: Vec<u8>,
    raw: Vec<u8>,
    decompressor: Decompressor<'static>,
    /// Bytes that were read from files.
    pub read_bytes: u64,
}

/// The dictionaries of a row group, as far as they were needed.
#[derive(Default)]
pub struct Chunks {
    texts: Vec<Option<Arc<Dict>>>,
    numbers: Vec<Option<Arc<Vec<i64>>>>,
}

fn damaged<T>(what: &'static str) -> impl FnOnce() -> Result<T, Fault> {
    move || Err(Fault::Damaged(what))
}

const CUT: &str = "a page does not hold what it should";

impl Pages {
    pub fn new() -> std::io::Result<Self> {
        Ok(Self { stored: Vec::new(), raw: Vec::new(), decompressor: Decompressor::new()?, read_bytes: 0 })
    }

    /// Reads a page and unpacks its values. Returns its levels, and these.
    fn body(&mut self, file: &File, page: &Page) -> Result<Body<'_>, Fault> {
        let (length, raw) = (page.length as usize, page.raw as usize);
        let levels = page.repeats as usize + page.levels as usize;
        if length > PAGE_MAX || raw > PAGE_MAX || levels > length {
            return Err(Fault::Damaged("a page is longer than it can be"));
        }
        self.stored.resize(length, 0);
        file.read_exact_at(&mut self.stored, page.at)?;
        self.read_bytes += length as u64;
        if crc32fast::hash(&self.stored) != page.seal {
            return Err(Fault::Damaged("the checksum of a page is wrong"));
        }
        let (levels, values) = self.stored.split_at(levels);
        let (repeats, levels) = levels.split_at(page.repeats as usize);
        if !page.is_packed {
            return Ok((repeats, levels, values));
        }
        self.raw.resize(raw, 0);
        let unpacked = self.decompressor.decompress_to_buffer(values, &mut self.raw[..]);
        match unpacked {
            Ok(count) if count == raw => Ok((repeats, levels, &self.raw)),
            _ => Err(Fault::Damaged("a page cannot be unpacked")),
        }
    }

    /// The texts of the dictionary of a column, if it has one.
    pub fn dict(
        &mut self,
        file: &File,
        chunk: &Chunk,
        leaf: usize,
        known: &mut Chunks,
    ) -> Result<Option<Arc<Dict>>, Fault> {
        let Some(page) = &chunk.dict else { return Ok(None) };
        if known.texts.len() <= leaf {
            known.texts.resize(leaf + 1, None);
        }
        if let Some(dict) = &known.texts[leaf] {
            return Ok(Some(dict.clone()));
        }
        let (.., values) = self.body(file, page)?;
        let texts =
            decode::plain_texts(Reader(values), page.values as usize).map_or_else(damaged(CUT), Ok)?;
        let dict = Arc::new(Dict::of(texts));
        known.texts[leaf] = Some(dict.clone());
        Ok(Some(dict))
    }

    fn numbers(
        &mut self,
        file: &File,
        chunk: &Chunk,
        leaf: usize,
        known: &mut Chunks,
    ) -> Result<Arc<Vec<i64>>, Fault> {
        let page = chunk.dict.as_ref().map_or_else(damaged("a dictionary is missing"), Ok)?;
        if known.numbers.len() <= leaf {
            known.numbers.resize(leaf + 1, None);
        }
        if let Some(numbers) = &known.numbers[leaf] {
            return Ok(numbers.clone());
        }
        let (.., values) = self.body(file, page)?;
        let numbers = values
            .chunks_exact(4)
            .map(|four| i64::from(u32::from_le_bytes(four.try_into().unwrap_or_default())));
        let numbers = Arc::new(numbers.collect::<Vec<_>>());
        known.numbers[leaf] = Some(numbers.clone());
        Ok(numbers)
    }

    /// The values of a column in a granule.
    pub fn column(
        &mut self,
        file: &File,
        directory: &Directory,
        (group, granule): (usize, usize),
        (kind, leaf): (Kind, usize),
        known: &mut Chunks,
    ) -> Result<Vector, Fault> {
        let missing = || Fault::Damaged("a page is missing");
        let group = directory.groups.get(group).ok_or_else(missing)?;
        let rows = *group.granules.get(granule).ok_or_else(missing)? as usize;
        let chunk = group.chunks.get(leaf).ok_or_else(missing)?;
        let page = chunk.pages.get(granule).ok_or_else(missing)?;
        if rows > ROWS_MAX || (kind != Kind::Map && page.values as usize != rows) || page.nulls > page.values
        {
            return Err(Fault::Damaged(CUT));
        }
        if kind == Kind::Map {
            let other =
                group.chunks.get(leaf + 1).and_then(|chunk| chunk.pages.get(granule)).ok_or_else(missing)?;
            return self.map(file, page, other, rows);
        }
        let there = rows - page.nulls as usize;
        let (texts, numbers) = match (page.encoding, kind) {
            (encoding::DICTIONARY, Kind::Dict) => (self.dict(file, chunk, leaf, known)?, None),
            (encoding::DICTIONARY, _) => (None, Some(self.numbers(file, chunk, leaf, known)?)),
            _ => (None, None),
        };
        let (_, levels, values) = self.body(file, page)?;
        let mut nulls = Vec::new();
        if page.nulls > 0 {
            let levels = decode::hybrid(Reader(levels), 1, rows).map_or_else(damaged(CUT), Ok)?;
            nulls.extend(levels.iter().map(|level| *level == 0));
            if nulls.iter().filter(|is_null| **is_null).count() != page.nulls as usize {
                return Err(Fault::Damaged(CUT));
            }
        }
        let data =
            values_of(kind, page.encoding, values, there, texts, numbers).map_or_else(damaged(CUT), Ok)?;
        Ok(Vector { data: if nulls.is_empty() { data } else { spread(data, &nulls) }, nulls })
    }

    fn map(&mut self, file: &File, names: &Page, texts: &Page, rows: usize) -> Result<Vector, Fault> {
        if names.values as usize > ENTRIES_MAX || names.nulls > names.values {
            return Err(Fault::Damaged(CUT));
        }
        let (count, there) = (names.values as usize, (names.values - names.nulls) as usize);
        let (repeats, levels, values) = self.body(file, names)?;
        let read = || {
            let repeats = decode::hybrid(Reader(repeats), 1, count)?;
            let levels = decode::hybrid(Reader(levels), 2, count)?;
            let (mut ends, mut nulls, mut end) = (Vec::new(), Vec::new(), 0);
            for (repeat, level) in repeats.iter().zip(&levels) {
                end += u32::from(*level == 2);
                if *repeat == 0 {
                    ends.push(end);
                    nulls.push(*level == 0);
                } else {
                    *ends.last_mut()? = end;
                }
            }
            let names = decode::texts(Reader(values), there)?;
            (ends.len() == rows && end as usize == there).then_some((ends, nulls, names))
        };
        let (ends, mut nulls, names) = read().map_or_else(damaged(CUT), Ok)?;
        let (.., values) = self.body(file, texts)?;
        let texts = decode::texts(Reader(values), there).map_or_else(damaged(CUT), Ok)?;
        if !nulls.contains(&true) {
            nulls.clear();
        }
        Ok(Vector { data: Data::Map(ends, names, texts), nulls })
    }
}

fn values_of(
    kind: Kind,
    encoding: u8,
    values: &[u8],
    count: usize,
    texts: Option<Arc<Dict>>,
    numbers: Option<Arc<Vec<i64>>>,
) -> Option<Data> {
    let mut from = Reader(values);
    Some(match (encoding, kind) {
        (encoding::DICTIONARY, _) => {
            let width = from.byte()?;
            let codes = decode::hybrid(from, u32::from(width), count)?;
            match (texts, numbers) {
                (Some(dict), _) => {
                    let below = dict.texts.len() as u32;
                    (!codes.iter().fold(false, |is_wrong, code| is_wrong | (*code >= below)))
                        .then_some(Data::Dict(codes, dict))?
                }
                (_, Some(numbers)) => {
                    let found: Option<Vec<i64>> =
                        codes.iter().map(|code| numbers.get(*code as usize).copied()).collect();
                    Data::Number(found?)
                }
                _ => return None,
            }
        }
        (encoding::DELTA, _) if kind.is_number() => {
            let is_short = matches!(kind, Kind::U16 | Kind::U32);
            let mut out = Vec::new();
            decode::deltas(&mut from, count, is_short, &mut out)?;
            if is_short {
                out.iter_mut().for_each(|number| *number = i64::from(*number as u32));
            }
            Data::Number(out)
        }
        (encoding::DELTA_LENGTH, Kind::Text) => Data::Text(decode::texts(from, count)?),
        (encoding::DELTA_LENGTH, Kind::Dict) => {
            Data::Dict((0..count as u32).collect(), Arc::new(Dict::of(decode::texts(from, count)?)))
        }
        (encoding::PLAIN, Kind::F64) if values.len() == count * 8 => {
            let eight = |eight: &[u8]| i64::from_le_bytes(eight.try_into().unwrap_or_default());
            Data::Number(values.chunks_exact(8).map(eight).collect())
        }
        (encoding::PLAIN, Kind::Bool) if values.len() == count.div_ceil(8) => {
            Data::Number((0..count).map(|row| i64::from(values[row / 8] >> (row % 8) & 1)).collect())
        }
        (encoding::PLAIN, kind) => {
            let width = kind.fixed().filter(|width| values.len() == count * width)?;
            Data::Fixed(width, values.to_vec())
        }
        _ => return None,
    })
}

/// Puts values to the rows that have one.
fn spread(data: Data, nulls: &[bool]) -> Data {
    match data {
        Data::Number(numbers) => {
            let mut some = numbers.into_iter();
            Data::Number(
                nulls
                    .iter()
                    .map(|is_null| if *is_null { 0 } else { some.next().unwrap_or_default() })
                    .collect(),
            )
        }
        Data::Fixed(width, bytes) => {
            let mut some = bytes.chunks_exact(width);
            let mut out = Vec::with_capacity(nulls.len() * width);
            for is_null in nulls {
                match if *is_null { None } else { some.next() } {
                    Some(value) => out.extend_from_slice(value),
                    None => out.resize(out.len() + width, 0),
                }
            }
            Data::Fixed(width, out)
        }
        Data::Text(texts) => Data::Text(spread_texts(texts, nulls)),
        Data::Dict(codes, dict) if codes.is_empty() => {
            // There may be no text at all that the code of a missing one could be.
            Data::Dict(vec![0; nulls.len()], if dict.texts.len() > 0 { dict } else { Arc::new(one_empty()) })
        }
        Data::Dict(codes, dict) => {
            let mut some = codes.into_iter();
            let codes =
                nulls.iter().map(|is_null| if *is_null { 0 } else { some.next().unwrap_or_default() });
            Data::Dict(codes.collect(), dict)
        }
        map @ Data::Map(..) => map,
    }
}

fn one_empty() -> Dict {
    let mut texts = Texts::default();
    texts.push(b"");
    Dict::of(texts)
}

fn spread_texts(texts: Texts, nulls: &[bool]) -> Texts {
    let mut some = texts.ends.iter();
    let mut end = 0;
    let mut ends = Vec::with_capacity(nulls.len());
    for is_null in nulls {
        if !is_null {
            end = some.next().copied().unwrap_or(end);
        }
        ends.push(end);
    }
    Texts { bytes: texts.bytes, ends }
}
