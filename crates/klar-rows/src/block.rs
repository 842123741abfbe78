//! Rows by columns, as they are in memory: in a batch, in the head, and as they are read from a file.

use std::collections::HashMap;
use std::sync::Arc;

use crate::bytes::{Reader, put, put_part, put_signed};
use crate::table::{Kind, Table};
use crate::texts::{Dict, Texts};

/// Rows of a block at most; in a file this is a granule, the least that is read at once.
pub const ROWS_MAX: usize = 8192;
/// A block that has more bytes of text takes no more rows.
pub const BYTES_MAX: usize = 8 << 20;

/// The values of a column. Where there is none, a zero or an empty text stands in.
#[derive(Debug, Clone)]
pub enum Data {
    /// Numbers of every kind; of fractions their bits.
    Number(Vec<i64>),
    /// Values of so many bytes each.
    Fixed(usize, Vec<u8>),
    Text(Texts),
    Dict(Vec<u32>, Arc<Dict>),
    /// Where the entries of each row end, their names and what they say.
    Map(Vec<u32>, Texts, Texts),
}

impl Data {
    pub fn new(kind: Kind) -> Self {
        match kind {
            Kind::Dict => Self::Dict(Vec::new(), Arc::default()),
            Kind::Text => Self::Text(Texts::default()),
            Kind::Map => Self::Map(Vec::new(), Texts::default(), Texts::default()),
            _ => {
                kind.fixed().map_or_else(|| Self::Number(Vec::new()), |width| Self::Fixed(width, Vec::new()))
            }
        }
    }

    /// One more row without a value.
    fn push_null(&mut self) {
        match self {
            Self::Number(numbers) => numbers.push(0),
            Self::Fixed(width, bytes) => bytes.resize(bytes.len() + *width, 0),
            Self::Text(texts) => texts.push(b""),
            Self::Dict(codes, dict) => codes.push(Arc::make_mut(dict).code(b"")),
            Self::Map(ends, names, _) => ends.push(names.len() as u32),
        }
    }

    fn text_bytes(&self) -> usize {
        match self {
            Self::Text(texts) => texts.bytes.len(),
            Self::Dict(_, dict) => dict.texts.bytes.len(),
            Self::Map(_, names, texts) => names.bytes.len() + texts.bytes.len(),
            _ => 0,
        }
    }
}

/// A column of a block.
#[derive(Debug, Clone)]
pub struct Vector {
    pub data: Data,
    /// Which rows have no value; empty if all have one.
    pub nulls: Vec<bool>,
}

impl Vector {
    pub fn new(kind: Kind) -> Self {
        Self { data: Data::new(kind), nulls: Vec::new() }
    }

    /// A column of which no row has a value.
    pub fn null(kind: Kind, rows: usize) -> Self {
        let mut data = Data::new(kind);
        (0..rows).for_each(|_| data.push_null());
        Self { data, nulls: vec![true; rows] }
    }

    pub fn is_null(&self, row: usize) -> bool {
        self.nulls.get(row).is_some_and(|is_null| *is_null)
    }

    /// Says of the row that was added last that it has no value, or has one. `before`: how many there were.
    pub fn note(&mut self, is_null: bool, before: usize) {
        if is_null && self.nulls.is_empty() {
            self.nulls.resize(before, false);
        }
        if is_null || !self.nulls.is_empty() {
            self.nulls.push(is_null);
        }
    }

    pub fn push_null(&mut self, before: usize) {
        self.data.push_null();
        self.note(true, before);
    }
}

/// Some rows of a table.
#[derive(Debug, Clone)]
pub struct Block {
    pub rows: usize,
    pub columns: Vec<Vector>,
}

impl Block {
    pub fn new(table: &Table) -> Self {
        Self { rows: 0, columns: table.columns.iter().map(|column| Vector::new(column.kind)).collect() }
    }

    /// When each row is from.
    pub fn times(&self) -> &[i64] {
        match self.columns.first().map(|first| &first.data) {
            Some(Data::Number(times)) => times,
            _ => &[],
        }
    }

    /// How many bytes its rows are, without what stands around them.
    pub fn weight(&self) -> usize {
        let weight = |vector: &Vector| match &vector.data {
            Data::Number(_) => self.rows * 8,
            Data::Fixed(_, bytes) => bytes.len(),
            data => data.text_bytes() + self.rows * 4,
        };
        self.columns.iter().map(weight).sum()
    }

    pub fn is_full(&self) -> bool {
        self.rows >= ROWS_MAX
            || self.columns.iter().map(|vector| vector.data.text_bytes()).sum::<usize>() >= BYTES_MAX
    }

    /// Writes it as the log keeps it.
    pub fn write(&self, out: &mut Vec<u8>) {
        put(out, self.rows as u64);
        for vector in &self.columns {
            out.push(u8::from(!vector.nulls.is_empty()));
            if !vector.nulls.is_empty() {
                out.extend(vector.nulls.iter().map(|is_null| u8::from(*is_null)));
            }
            match &vector.data {
                Data::Number(numbers) => write_numbers(out, numbers),
                Data::Fixed(_, bytes) => put_part(out, bytes),
                Data::Text(texts) => write_texts(out, texts),
                Data::Dict(codes, dict) => {
                    write_texts(out, &dict.texts);
                    write_codes(out, codes);
                }
                Data::Map(ends, names, texts) => {
                    write_codes(out, ends);
                    write_texts(out, names);
                    write_texts(out, texts);
                }
            }
        }
    }

    /// Reads what [`Block::write`] wrote of columns of these kinds.
    pub fn read(from: &mut Reader, kinds: &[Kind]) -> Option<Self> {
        let rows = from.size().filter(|rows| *rows <= from.0.len())?;
        let mut columns = Vec::with_capacity(kinds.len());
        for kind in kinds {
            let nulls = match from.byte()? {
                0 => Vec::new(),
                _ => from.take(rows)?.iter().map(|byte| *byte != 0).collect(),
            };
            let data = match *kind {
                Kind::Text => Data::Text(read_texts(from)?),
                Kind::Dict => {
                    let dict = read_texts(from)?;
                    let codes = read_codes(from, dict.len() as u32)?;
                    Data::Dict(codes, Arc::new(Dict::of(dict)))
                }
                Kind::Map => {
                    let ends = read_codes(from, u32::MAX)?;
                    let (names, texts) = (read_texts(from)?, read_texts(from)?);
                    let is_whole =
                        ends.is_sorted() && ends.last().is_none_or(|last| *last as usize == names.len());
                    (is_whole && names.len() == texts.len()).then_some(Data::Map(ends, names, texts))?
                }
                kind => match kind.fixed() {
                    Some(width) => Data::Fixed(width, from.part()?.to_vec()),
                    None => Data::Number(read_numbers(from, rows)?),
                },
            };
            let found = match &data {
                Data::Number(numbers) => numbers.len(),
                Data::Fixed(width, bytes) => bytes.len() / width,
                Data::Text(texts) => texts.len(),
                Data::Dict(codes, _) => codes.len(),
                Data::Map(ends, ..) => ends.len(),
            };
            (found == rows).then_some(())?;
            columns.push(Vector { data, nulls });
        }
        Some(Self { rows, columns })
    }
}

/// The smallest one, and of each how much more it is, in as many bytes as the largest of these needs.
fn write_numbers(out: &mut Vec<u8>, numbers: &[i64]) {
    let (least, most) = numbers
        .iter()
        .fold((i64::MAX, i64::MIN), |(least, most), number| (least.min(*number), most.max(*number)));
    let range = most.wrapping_sub(least) as u64;
    let width = if numbers.is_empty() { 0 } else { (64 - range.leading_zeros() as usize).div_ceil(8) };
    put_signed(out, least);
    out.push(width as u8);
    match width {
        0 => {}
        8 => out.extend(numbers.iter().flat_map(|number| number.wrapping_sub(least).to_le_bytes())),
        _ => {
            // Whole words, each over the end of the one before: faster than so many bytes each.
            out.reserve(numbers.len() * width + 8);
            for number in numbers {
                let at = out.len();
                out.extend_from_slice(&number.wrapping_sub(least).to_le_bytes());
                out.truncate(at + width);
            }
        }
    }
}

fn read_numbers(from: &mut Reader, rows: usize) -> Option<Vec<i64>> {
    let least = from.signed()?;
    let width = usize::from(from.byte()?);
    if width == 0 {
        return Some(vec![least; rows]);
    }
    let bytes = from.take(rows.checked_mul(width).filter(|_| width <= 8)?)?;
    let word = |part: &[u8]| {
        let mut word = [0; 8];
        word[..width].copy_from_slice(part);
        i64::from_le_bytes(word).wrapping_add(least)
    };
    Some(bytes.chunks_exact(width).map(word).collect())
}

fn write_texts(out: &mut Vec<u8>, texts: &Texts) {
    put(out, texts.len() as u64);
    for at in 0..texts.len() {
        put(out, (texts.ends[at] as usize - texts.start(at)) as u64);
    }
    put_part(out, &texts.bytes);
}

fn read_texts(from: &mut Reader) -> Option<Texts> {
    let count = from.size().filter(|count| *count <= from.0.len())?;
    let mut ends = Vec::with_capacity(count);
    let mut end = 0_u64;
    for _ in 0..count {
        end = end.checked_add(from.number()?)?;
        ends.push(u32::try_from(end).ok()?);
    }
    let bytes = from.part()?;
    (bytes.len() as u64 == end).then(|| Texts { bytes: bytes.to_vec(), ends })
}

fn write_codes(out: &mut Vec<u8>, codes: &[u32]) {
    put(out, codes.len() as u64);
    let most = codes.iter().copied().max().unwrap_or_default();
    if most < 0x100 {
        out.push(1);
        out.extend(codes.iter().map(|code| *code as u8));
    } else {
        out.push(4);
        out.extend(codes.iter().flat_map(|code| code.to_le_bytes()));
    }
}

fn read_codes(from: &mut Reader, below: u32) -> Option<Vec<u32>> {
    let count = from.size()?;
    let codes: Vec<u32> = match from.byte()? {
        1 => from.take(count)?.iter().map(|code| u32::from(*code)).collect(),
        4 => from
            .take(count.checked_mul(4)?)?
            .chunks_exact(4)
            .map(|code| u32::from_le_bytes(code.try_into().unwrap_or_default()))
            .collect(),
        _ => return None,
    };
    codes.iter().all(|code| *code < below).then_some(codes)
}

/// Puts rows of other blocks together to one.
pub struct Gather {
    pub block: Block,
    /// What the codes of dictionaries that were met are here, or [`u32::MAX`] if that is not known yet. A dictionary is
    /// kept with it, so that none that comes later can be at the same place.
    codes: HashMap<(usize, usize), (Arc<Dict>, Vec<u32>)>,
}

impl Gather {
    pub fn new(table: &Table) -> Self {
        Self { block: Block::new(table), codes: HashMap::new() }
    }

    /// The rows so far; the next ones go to a new block.
    pub fn take(&mut self) -> Block {
        self.codes.clear();
        let empty = Block {
            rows: 0,
            columns: self
                .block
                .columns
                .iter()
                .map(|vector| Vector {
                    data: match &vector.data {
                        Data::Number(_) => Data::Number(Vec::new()),
                        Data::Fixed(width, _) => Data::Fixed(*width, Vec::new()),
                        Data::Text(_) => Data::Text(Texts::default()),
                        Data::Dict(..) => Data::Dict(Vec::new(), Arc::default()),
                        Data::Map(..) => Data::Map(Vec::new(), Texts::default(), Texts::default()),
                    },
                    nulls: Vec::new(),
                })
                .collect(),
        };
        std::mem::replace(&mut self.block, empty)
    }

    /// How many rows more it may take.
    pub fn room(&self) -> usize {
        ROWS_MAX - self.block.rows
    }

    /// Forgets the dictionaries that were met: whoever has them wants to change them.
    pub fn forget(&mut self) {
        self.codes.clear();
    }

    /// Adds some rows of a block of the same table.
    pub fn extend(&mut self, from: &Block, start: usize, count: usize) {
        self.extend_by(&from.columns, start, count);
    }

    /// The same of a block that has one more column, before those of this one.
    pub fn extend_behind(&mut self, from: &Block, start: usize, count: usize) {
        self.extend_by(from.columns.get(1..).unwrap_or_default(), start, count);
    }

    fn extend_by(&mut self, from: &[Vector], start: usize, count: usize) {
        let before = self.block.rows;
        for (place, (to, from)) in self.block.columns.iter_mut().zip(from).enumerate() {
            if !from.nulls.is_empty() || !to.nulls.is_empty() {
                to.nulls.resize(before, false);
                match from.nulls.get(start..start + count) {
                    Some(nulls) => to.nulls.extend_from_slice(nulls),
                    None => to.nulls.resize(before + count, false),
                }
            }
            match (&mut to.data, &from.data) {
                (Data::Number(to), Data::Number(from)) => to.extend_from_slice(&from[start..start + count]),
                (Data::Fixed(width, to), Data::Fixed(_, from)) => {
                    to.extend_from_slice(&from[start * *width..(start + count) * *width]);
                }
                (Data::Text(to), Data::Text(from)) => to.extend(from, start, count),
                (Data::Dict(to, dict), Data::Dict(from, other)) => {
                    let known = self
                        .codes
                        .entry((place, Arc::as_ptr(other).addr()))
                        .or_insert_with(|| (other.clone(), vec![u32::MAX; other.texts.len()]));
                    to.extend(from[start..start + count].iter().map(|code| {
                        let known = &mut known.1[*code as usize];
                        if *known == u32::MAX {
                            *known = Arc::make_mut(dict).code(other.texts.get(*code as usize));
                        }
                        *known
                    }));
                }
                (Data::Map(ends, names, texts), Data::Map(from_ends, from_names, from_texts)) => {
                    let first = start.checked_sub(1).map_or(0, |before| from_ends[before]) as usize;
                    let base = names.len();
                    let last = from_ends
                        .get(start..start + count)
                        .and_then(<[u32]>::last)
                        .map_or(first, |last| *last as usize);
                    names.extend(from_names, first, last - first);
                    texts.extend(from_texts, first, last - first);
                    ends.extend(
                        from_ends[start..start + count]
                            .iter()
                            .map(|end| (*end as usize - first + base) as u32),
                    );
                }
                _ => debug_assert!(false, "blocks of two tables"),
            }
        }
        self.block.rows += count;
    }
}
