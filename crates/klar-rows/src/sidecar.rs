//! What stands beside a file of rows: where its pages are, filters for what is rare, and sketches.
//!
//! All of it can be made again from the rows alone, and is, whenever it is missing, damaged, or counts something else
//! than the table wants now. Each part has a checksum, so what is damaged is never believed.
//!
//! ```text
//! filters and sketches, then the head (see `Head::write`), then
//! tail      length and CRC-32 of the head, length of the file of rows, rows, first and last time,
//!           CRC-32 of the tail until here, "klrs" 1 0 0 0; all numbers little end first
//! ```

use std::fs::File;
use std::io::{self, BufWriter, Write as _};
use std::os::unix::fs::FileExt as _;

use crate::block::{Block, Data};
use crate::bytes::{Reader, put, put_part};
use crate::grams;
use crate::parquet::{Directory, Fault};
use crate::sketch::{Counter, Plan};
use crate::table::Table;

const MAGIC: &[u8; 8] = b"klrs\x01\0\0\0";
const TAIL: usize = 4 + 4 + 8 + 8 + 8 + 8 + 4 + 8;

/// Where a part is, and its checksum.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    pub at: u64,
    pub length: u32,
    pub seal: u32,
}

/// What is known of a file without its sidecar's head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tail {
    head: Span,
    pub file_bytes: u64,
    pub rows: u64,
    pub from_us: i64,
    pub to_us: i64,
}

/// A sketch of a file: all time, and its minutes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sketched {
    pub key: String,
    /// `None`: there are too many groups.
    pub parts: Option<(Span, Span)>,
}

/// What a sidecar holds, and where.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Head {
    pub directory: Directory,
    /// For each searchable column where the filter of each granule is, and how many blocks it has.
    pub filters: Vec<(String, Vec<(u64, u32)>)>,
    pub sketches: Vec<Sketched>,
}

impl Head {
    fn write(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.directory.write(&mut out);
        put(&mut out, self.filters.len() as u64);
        for (name, granules) in &self.filters {
            put_part(&mut out, name.as_bytes());
            put(&mut out, granules.len() as u64);
            for (at, blocks) in granules {
                put(&mut out, *at);
                put(&mut out, u64::from(*blocks));
            }
        }
        put(&mut out, self.sketches.len() as u64);
        for sketch in &self.sketches {
            put_part(&mut out, sketch.key.as_bytes());
            out.push(u8::from(sketch.parts.is_some()));
            for span in sketch.parts.iter().flat_map(|(first, second)| [first, second]) {
                put(&mut out, span.at);
                put(&mut out, u64::from(span.length));
                put(&mut out, u64::from(span.seal));
            }
        }
        out
    }

    fn read(bytes: &[u8]) -> Option<Self> {
        let mut from = Reader(bytes);
        let short = |number: u64| u32::try_from(number).ok();
        let text = |bytes: &[u8]| Some(std::str::from_utf8(bytes).ok()?.to_owned());
        let mut head = Self { directory: Directory::read(&mut from)?, ..Self::default() };
        for _ in 0..from.size()? {
            let name = text(from.part()?)?;
            let mut granules = Vec::new();
            for _ in 0..from.size()? {
                granules.push((from.number()?, short(from.number()?)?));
            }
            head.filters.push((name, granules));
        }
        for _ in 0..from.size()? {
            let key = text(from.part()?)?;
            let is_there = from.byte()? == 1;
            let mut span = || {
                Some(Span {
                    at: from.number()?,
                    length: short(from.number()?)?,
                    seal: short(from.number()?)?,
                })
            };
            let parts = if is_there { Some((span()?, span()?)) } else { None };
            head.sketches.push(Sketched { key, parts });
        }
        Some(head)
    }
}

/// Writes a sidecar while the rows are written.
pub struct Builder<'a> {
    file: BufWriter<File>,
    at: u64,
    table: &'a Table,
    plans: &'a [Plan],
    counters: Vec<Counter>,
    filter: grams::Filter,
    filters: Vec<(usize, Vec<(u64, u32)>)>,
}

impl<'a> Builder<'a> {
    pub fn new(file: File, table: &'a Table, plans: &'a [Plan]) -> Self {
        let searchable = table.columns.iter().enumerate().filter(|(_, column)| column.is_searchable);
        let filters = searchable.map(|(place, _)| (place, Vec::new())).collect();
        let counters = plans.iter().map(|_| Counter::new()).collect();
        let file = BufWriter::with_capacity(1 << 18, file);
        Self { file, at: 0, table, plans, counters, filter: grams::Filter::new(), filters }
    }

    /// Takes the next granule.
    pub fn push(&mut self, block: &Block) -> Result<(), Fault> {
        for (place, granules) in &mut self.filters {
            match block.columns.get(*place).map(|vector| &vector.data) {
                Some(Data::Text(texts)) => texts.iter().for_each(|text| self.filter.add_text(text)),
                Some(Data::Fixed(width, bytes)) => {
                    let marks = bytes.chunks_exact(*width).flat_map(grams::marks_of);
                    marks.for_each(|mark| self.filter.add(mark));
                }
                _ => {}
            }
            let bytes = self.filter.finish();
            granules.push((self.at, (bytes.len() / grams::BLOCK) as u32));
            self.at += bytes.len() as u64;
            self.file.write_all(&bytes)?;
        }
        for (counter, plan) in self.counters.iter_mut().zip(self.plans) {
            counter.add(plan, block)?;
        }
        Ok(())
    }

    fn part(&mut self, bytes: &[u8]) -> io::Result<Span> {
        let span = Span { at: self.at, length: bytes.len() as u32, seal: crc32fast::hash(bytes) };
        self.at += bytes.len() as u64;
        self.file.write_all(bytes)?;
        Ok(span)
    }

    /// Ends it. It is on disk when this returns.
    pub fn finish(mut self, directory: Directory, file_bytes: u64) -> io::Result<(Head, Tail)> {
        let mut head = Head { directory, ..Head::default() };
        for (place, granules) in std::mem::take(&mut self.filters) {
            head.filters.push((self.table.columns[place].name.clone(), granules));
        }
        for (mut counter, plan) in std::mem::take(&mut self.counters).into_iter().zip(self.plans) {
            let parts = match counter.finish() {
                Some(written) => Some((self.part(&written.totals)?, self.part(&written.minutes)?)),
                None => None,
            };
            head.sketches.push(Sketched { key: plan.key.clone(), parts });
        }
        let span = self.part(&head.write())?;
        let (from_us, to_us) = head.directory.span().unwrap_or_default();
        let tail = Tail { head: span, file_bytes, rows: head.directory.rows(), from_us, to_us };
        let mut bytes = Vec::with_capacity(TAIL);
        bytes.extend_from_slice(&span.length.to_le_bytes());
        bytes.extend_from_slice(&span.seal.to_le_bytes());
        bytes.extend_from_slice(&tail.file_bytes.to_le_bytes());
        bytes.extend_from_slice(&tail.rows.to_le_bytes());
        bytes.extend_from_slice(&tail.from_us.to_le_bytes());
        bytes.extend_from_slice(&tail.to_us.to_le_bytes());
        let seal = crc32fast::hash(&bytes);
        bytes.extend_from_slice(&seal.to_le_bytes());
        bytes.extend_from_slice(MAGIC);
        self.file.write_all(&bytes)?;
        self.file.flush()?;
        self.file.get_ref().sync_all()?;
        Ok((head, tail))
    }
}

const DAMAGED: Fault = Fault::Damaged("its sidecar is damaged");

/// Reads the end of a sidecar.
pub fn read_tail(file: &File) -> Result<Tail, Fault> {
    let size = file.metadata()?.len();
    let at = size.checked_sub(TAIL as u64).ok_or(DAMAGED)?;
    let mut bytes = [0; TAIL];
    file.read_exact_at(&mut bytes, at)?;
    let (sealed, rest) = bytes.split_at(TAIL - 12);
    let (seal, magic) = rest.split_at(4);
    if magic != MAGIC || crc32fast::hash(sealed).to_le_bytes() != seal {
        return Err(DAMAGED);
    }
    let mut from = Reader(sealed);
    let mut read = || {
        let (length, seal) = (from.u32()?, from.u32()?);
        let head = Span { at: at.checked_sub(u64::from(length))?, length, seal };
        let (file_bytes, rows) = (from.u64()?, from.u64()?);
        Some(Tail { head, file_bytes, rows, from_us: from.u64()? as i64, to_us: from.u64()? as i64 })
    };
    read().ok_or(DAMAGED)
}

/// Reads a part, and believes it only if its checksum is right.
pub fn read_span(file: &File, span: Span) -> Result<Vec<u8>, Fault> {
    let size = file.metadata()?.len();
    if span.at.checked_add(u64::from(span.length)).is_none_or(|end| end > size) {
        return Err(DAMAGED);
    }
    let mut bytes = vec![0; span.length as usize];
    file.read_exact_at(&mut bytes, span.at)?;
    if crc32fast::hash(&bytes) == span.seal { Ok(bytes) } else { Err(DAMAGED) }
}

/// Reads what a sidecar holds and where.
pub fn read_head(file: &File, tail: &Tail) -> Result<Head, Fault> {
    Head::read(&read_span(file, tail.head)?).ok_or(DAMAGED)
}

/// Whether a filter may have all marks.
pub fn may_have(file: &File, (at, blocks): (u64, u32), marks: &[u64]) -> Result<bool, Fault> {
    if blocks == 0 {
        return Ok(marks.is_empty());
    }
    if !blocks.is_power_of_two() {
        return Err(DAMAGED);
    }
    for mark in marks {
        let mut block = [0; grams::BLOCK];
        let place = grams::block_of(*mark, blocks as usize) * grams::BLOCK;
        file.read_exact_at(&mut block, at + place as u64).map_err(|_| DAMAGED)?;
        if !grams::has(&block, *mark).ok_or(DAMAGED)? {
            return Ok(false);
        }
    }
    Ok(true)
}
