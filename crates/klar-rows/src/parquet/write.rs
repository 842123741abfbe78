//! Writes a file of rows, block by block.
//!
//! The pages of a row group are held until it is full, since those of a column stand together; rows are not.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufWriter, Write as _};
use std::sync::Arc;

use zstd::bulk::Compressor;

use super::footer::{MAGIC, footer, head};
use super::{Chunk, Directory, GROUP_ROWS_MAX, Group, Page, encode, encoding, span_of};
use crate::block::{Block, Data, Vector};
use crate::table::{Kind, Table};
use crate::texts::{Dict, Texts};

/// Fast, and telemetry is written more often than it is read.
const LEVEL: i32 = 1;
/// A dictionary of more texts, or more bytes, would be no shorter than the texts.
const DICT_MAX: usize = 1 << 16;
const DICT_BYTES_MAX: usize = 2 << 20;
/// Different numbers of a column that has a dictionary of them.
const NUMBERS_MAX: usize = 256;

/// One column of the row group that is being put together.
struct Leaf {
    kind: Kind,
    /// Heads and pages.
    bytes: Vec<u8>,
    /// Places are those in `bytes`.
    pages: Vec<Page>,
    dict: Dict,
    /// What the codes of dictionaries of blocks are in this one.
    codes: HashMap<usize, (Arc<Dict>, Vec<u32>)>,
    /// Numbers by their code, and one more than the codes by number; empty if there are too many of them.
    numbers: Vec<i64>,
    number_codes: Vec<u16>,
    /// Whether to pack: tried with the first page.
    is_packed: Option<bool>,
}

impl Leaf {
    fn new(kind: Kind) -> Self {
        Self {
            kind,
            bytes: Vec::new(),
            pages: Vec::new(),
            dict: Dict::default(),
            codes: HashMap::new(),
            numbers: Vec::new(),
            number_codes: Vec::new(),
            is_packed: None,
        }
    }

    fn has_dict_room(&self) -> bool {
        self.dict.texts.len() < DICT_MAX && self.dict.texts.bytes.len() < DICT_BYTES_MAX
    }

    /// The codes of a page, or none if there are too many different texts.
    fn codes(&mut self, codes: &[u32], other: &Arc<Dict>, nulls: &[bool]) -> Option<Vec<u32>> {
        if !self.has_dict_room() {
            return None;
        }
        let mut known = self
            .codes
            .remove(&Arc::as_ptr(other).addr())
            .unwrap_or_else(|| (other.clone(), vec![u32::MAX; other.texts.len()]));
        let mut out = Vec::with_capacity(codes.len());
        for (row, code) in codes.iter().enumerate() {
            if nulls.get(row) == Some(&true) {
                continue;
            }
            let known = &mut known.1[*code as usize];
            if *known == u32::MAX {
                if !self.has_dict_room() {
                    return None;
                }
                *known = self.dict.code(other.texts.get(*code as usize));
            }
            out.push(*known);
        }
        // A block has dictionaries of its own most of the time; those that come again are few.
        if self.codes.len() > 8 {
            self.codes.clear();
        }
        self.codes.insert(Arc::as_ptr(other).addr(), known);
        Some(out)
    }

    /// The same of numbers.
    fn number_codes(&mut self, numbers: impl Iterator<Item = i64>) -> Option<Vec<u32>> {
        if self.number_codes.is_empty() {
            self.number_codes.resize(1 << 16, 0);
        }
        let mut out = Vec::new();
        for number in numbers {
            let code = &mut self.number_codes[number as u16 as usize];
            if *code == 0 {
                if self.numbers.len() >= NUMBERS_MAX {
                    return None;
                }
                self.numbers.push(number);
                *code = self.numbers.len() as u16;
            }
            out.push(u32::from(*code) - 1);
        }
        Some(out)
    }
}

/// A file that is being written.
pub struct Writer {
    file: BufWriter<File>,
    at: u64,
    directory: Directory,
    group: Group,
    leaves: Vec<Leaf>,
    heads: crc32fast::Hasher,
    compressor: Compressor<'static>,
}

impl Writer {
    pub fn new(file: File, table: &Table) -> io::Result<Self> {
        let mut directory = Directory::default();
        let mut leaves = Vec::new();
        for column in &table.columns {
            directory.columns.push((column.name.clone(), column.kind, leaves.len()));
            leaves.push(Leaf::new(column.kind));
            if column.kind == Kind::Map {
                leaves.push(Leaf::new(column.kind));
            }
        }
        let mut file = BufWriter::with_capacity(1 << 20, file);
        file.write_all(MAGIC)?;
        let compressor = Compressor::new(LEVEL)?;
        let (group, heads) = (Group::default(), crc32fast::Hasher::new());
        Ok(Self { file, at: MAGIC.len() as u64, directory, group, leaves, heads, compressor })
    }

    /// Adds a granule: rows that are not before those that were added, sorted by their time.
    pub fn push(&mut self, block: &Block) -> io::Result<()> {
        if block.rows == 0 {
            return Ok(());
        }
        let mut leaf = 0;
        for vector in &block.columns {
            if let Data::Map(ends, names, texts) = &vector.data {
                let mut levels = Levels::default();
                let values = map_levels(&mut levels, ends, &vector.nulls);
                for part in [names, texts] {
                    let page = Page { values, nulls: values - part.len() as u32, ..Page::default() };
                    let mut body = Vec::new();
                    encode::texts(&mut body, part, |_| true);
                    self.page(leaf, page, encoding::DELTA_LENGTH, &levels, &body, block.rows)?;
                    leaf += 1;
                }
            } else {
                self.column(leaf, vector, block.rows)?;
                leaf += 1;
            }
        }
        self.group.granules.push(block.rows as u32);
        if self.group.granules.iter().sum::<u32>() as usize + block.rows > GROUP_ROWS_MAX {
            self.end_group()?;
        }
        Ok(())
    }

    fn column(&mut self, place: usize, vector: &Vector, rows: usize) -> io::Result<()> {
        let leaf = &mut self.leaves[place];
        let (kind, nulls) = (leaf.kind, &vector.nulls);
        let is_there = |row: usize| nulls.get(row) != Some(&true);
        let mut page = Page { values: rows as u32, ..Page::default() };
        page.nulls = nulls.iter().filter(|is_null| **is_null).count() as u32;
        let mut levels = Levels::default();
        if place > 0 {
            let there: Vec<u32> = (0..rows).map(|row| u32::from(is_there(row))).collect();
            encode::hybrid(&mut levels.bytes, 1, &there);
        }
        let mut body = Vec::new();
        let encoding = match &vector.data {
            Data::Number(numbers) => {
                let some = || {
                    numbers.iter().enumerate().filter(|(row, _)| is_there(*row)).map(|(_, number)| *number)
                };
                (page.least, page.most) = span_of(kind, numbers, nulls);
                let codes = (kind == Kind::U16).then(|| leaf.number_codes(some())).flatten();
                match (kind, codes) {
                    (_, Some(codes)) => {
                        body.push(8);
                        encode::hybrid(&mut body, 8, &codes);
                        encoding::DICTIONARY
                    }
                    (Kind::Bool, _) => {
                        encode::bits(&mut body, some().map(|number| number != 0));
                        encoding::PLAIN
                    }
                    (Kind::F64, _) => {
                        some().for_each(|number| body.extend_from_slice(&number.to_le_bytes()));
                        encoding::PLAIN
                    }
                    _ => {
                        let some: Vec<i64> = some().collect();
                        encode::deltas(&mut body, some.into_iter(), matches!(kind, Kind::U16 | Kind::U32));
                        encoding::DELTA
                    }
                }
            }
            Data::Fixed(width, bytes) => {
                for (_, value) in bytes.chunks_exact(*width).enumerate().filter(|(row, _)| is_there(*row)) {
                    body.extend_from_slice(value);
                }
                encoding::PLAIN
            }
            Data::Text(texts) => {
                encode::texts(&mut body, texts, is_there);
                encoding::DELTA_LENGTH
            }
            Data::Dict(codes, dict) => match leaf.codes(codes, dict, nulls) {
                Some(codes) => {
                    let width = if leaf.dict.texts.len() <= 1 << 8 { 8 } else { 16 };
                    body.push(width);
                    encode::hybrid(&mut body, u32::from(width), &codes);
                    encoding::DICTIONARY
                }
                None => {
                    let mut texts = Texts::default();
                    for (row, code) in codes.iter().enumerate() {
                        texts.push(if is_there(row) { dict.texts.get(*code as usize) } else { b"" });
                    }
                    encode::texts(&mut body, &texts, is_there);
                    encoding::DELTA_LENGTH
                }
            },
            Data::Map(..) => return Ok(()),
        };
        self.page(place, page, encoding, &levels, &body, rows)
    }

    fn page(
        &mut self,
        place: usize,
        mut page: Page,
        encoding: u8,
        levels: &Levels,
        body: &[u8],
        rows: usize,
    ) -> io::Result<()> {
        let leaf = &mut self.leaves[place];
        page.encoding = encoding;
        page.raw = body.len() as u32;
        page.repeats = levels.repeats;
        page.levels = levels.bytes.len() as u32 - levels.repeats;
        let mut packed = Vec::new();
        if leaf.is_packed != Some(false) && !body.is_empty() {
            packed = self.compressor.compress(body)?;
            // What saves less than a tenth costs more to unpack than to read.
            leaf.is_packed.get_or_insert(packed.len() < body.len() - body.len() / 10);
            page.is_packed = leaf.is_packed == Some(true) && packed.len() < body.len();
        }
        let values = if page.is_packed { &packed } else { body };
        let mut seal = crc32fast::Hasher::new();
        seal.update(&levels.bytes);
        seal.update(values);
        page.seal = seal.finalize();
        page.length = (levels.bytes.len() + values.len()) as u32;
        leaf.bytes.extend_from_slice(&head(&page, rows as u32, false));
        page.at = leaf.bytes.len() as u64;
        leaf.bytes.extend_from_slice(&levels.bytes);
        leaf.bytes.extend_from_slice(values);
        leaf.pages.push(page);
        Ok(())
    }

    fn end_group(&mut self) -> io::Result<()> {
        for place in 0..self.leaves.len() {
            let kind = self.leaves[place].kind;
            let leaf = std::mem::replace(&mut self.leaves[place], Leaf::new(kind));
            let is_packed = leaf.pages.iter().any(|page| page.is_packed);
            let dict = self.dictionary(&leaf, is_packed)?;
            let base = self.at;
            for (at, page) in leaf.pages.iter().enumerate() {
                let begin = match at.checked_sub(1).and_then(|before| leaf.pages.get(before)) {
                    Some(before) => before.at + u64::from(before.length),
                    None => 0,
                };
                self.heads.update(&leaf.bytes[begin as usize..page.at as usize]);
            }
            self.write(&leaf.bytes)?;
            let pages = leaf.pages.iter().map(|page| Page { at: page.at + base, ..*page }).collect();
            self.group.chunks.push(Chunk { dict, pages });
        }
        self.directory.groups.push(std::mem::take(&mut self.group));
        Ok(())
    }

    fn dictionary(&mut self, leaf: &Leaf, is_packed: bool) -> io::Result<Option<Page>> {
        if leaf.pages.iter().all(|page| page.encoding != encoding::DICTIONARY) {
            return Ok(None);
        }
        let mut body = Vec::new();
        let mut page = Page { is_packed, ..Page::default() };
        if leaf.kind == Kind::Dict {
            page.values = leaf.dict.texts.len() as u32;
            for text in leaf.dict.texts.iter() {
                body.extend_from_slice(&(text.len() as u32).to_le_bytes());
                body.extend_from_slice(text);
            }
        } else {
            page.values = leaf.numbers.len() as u32;
            leaf.numbers.iter().for_each(|number| body.extend_from_slice(&(*number as u32).to_le_bytes()));
        }
        page.raw = body.len() as u32;
        if is_packed {
            body = self.compressor.compress(&body)?;
        }
        page.length = body.len() as u32;
        page.seal = crc32fast::hash(&body);
        let head = head(&page, 0, true);
        self.heads.update(&head);
        self.write(&head)?;
        page.at = self.at;
        self.write(&body)?;
        Ok(Some(page))
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.at += bytes.len() as u64;
        self.file.write_all(bytes)
    }

    /// Ends the file, and says what is where. It is on disk when this returns.
    pub fn finish(mut self) -> io::Result<Directory> {
        if !self.group.granules.is_empty() {
            self.end_group()?;
        }
        let footer = footer(&self.directory, self.heads.clone().finalize());
        self.write(&footer)?;
        self.write(&(footer.len() as u32).to_le_bytes())?;
        self.write(MAGIC)?;
        self.file.flush()?;
        self.file.get_ref().sync_all()?;
        Ok(self.directory)
    }
}

/// Levels of a page: what says where lists begin, and what says which values there are.
#[derive(Default)]
struct Levels {
    bytes: Vec<u8>,
    repeats: u32,
}

/// Levels of maps: 0 there is none, 1 it is empty, 2 an entry; those of the same row repeat. Says how many there are.
fn map_levels(out: &mut Levels, ends: &[u32], nulls: &[bool]) -> u32 {
    let (mut repeats, mut levels) = (Vec::new(), Vec::new());
    let mut start = 0;
    for (row, end) in ends.iter().enumerate() {
        if *end == start {
            repeats.push(0);
            levels.push(u32::from(nulls.get(row) != Some(&true)));
        }
        for entry in start..*end {
            repeats.push(u32::from(entry > start));
            levels.push(2);
        }
        start = *end;
    }
    encode::hybrid(&mut out.bytes, 1, &repeats);
    out.repeats = out.bytes.len() as u32;
    encode::hybrid(&mut out.bytes, 2, &levels);
    levels.len() as u32
}
