//! New rows, and what a value is.

use std::sync::Arc;

use crate::block::{Block, Data, Vector};
use crate::table::{Kind, Table};

/// A value of a row.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Value<'a> {
    /// None.
    Null,
    /// A time in microseconds, or a number with a sign.
    Signed(i64),
    /// A number without one.
    Unsigned(u64),
    /// A number with a fraction.
    Float(f64),
    /// Yes or no.
    Bool(bool),
    /// A text.
    Text(&'a str),
    /// Fixed bytes.
    Bytes(&'a [u8]),
    /// Texts by their names. A name that comes twice is kept twice, and read as the first one.
    Map(&'a [(&'a str, &'a str)]),
}

/// A row that is not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadRow {
    /// More values or fewer than the table has columns.
    #[error("table `{table}` has {wanted} columns; the row has {found} values")]
    Values {
        /// The table.
        table: String,
        /// Its columns.
        wanted: usize,
        /// The values.
        found: usize,
    },
    /// A value that the column cannot hold, or none where there has to be one.
    #[error("column `{column}` holds {wanted:?}; the row has another value, or one too large")]
    Kind {
        /// The column.
        column: String,
        /// What it holds.
        wanted: Kind,
    },
    /// A time outside of years 1970 to 9999.
    #[error("the time of the row is not between the years 1970 and 9999")]
    Time,
    /// A row that is too long.
    #[error("the row has {0} bytes; {1} may be. Shorten its texts")]
    Long(usize, usize),
    /// A batch that is too long.
    #[error("the batch is full; append it and begin another one")]
    Full,
}

/// The end of year 9999.
pub(crate) const TIME_MAX: i64 = 253_402_300_800_000_000;
/// Rows and bytes of a batch.
pub(crate) const BATCH_ROWS_MAX: usize = 65_536;
const BATCH_BYTES_MAX: usize = 16 << 20;
/// Entries of a map.
const ENTRIES_MAX: usize = 1024;

/// New rows of one table. Cheap to fill, and to fill again.
#[derive(Debug, Clone)]
pub struct Batch {
    pub(crate) table: Arc<Table>,
    pub(crate) block: Block,
    row_bytes_max: usize,
    bytes: usize,
}

impl Batch {
    pub(crate) fn new(table: Arc<Table>, row_bytes_max: usize) -> Self {
        let block = Block::new(&table);
        Self { table, block, row_bytes_max, bytes: 0 }
    }

    /// How many rows it has.
    pub fn rows(&self) -> usize {
        self.block.rows
    }

    /// Takes all rows out.
    pub fn clear(&mut self) {
        self.bytes = 0;
        self.block.rows = 0;
        for vector in &mut self.block.columns {
            vector.nulls.clear();
            match &mut vector.data {
                Data::Number(numbers) => numbers.clear(),
                Data::Fixed(_, bytes) => bytes.clear(),
                Data::Text(texts) => clear(texts),
                Data::Dict(codes, dict) => {
                    codes.clear();
                    *dict = Arc::default();
                }
                Data::Map(ends, names, texts) => {
                    ends.clear();
                    clear(names);
                    clear(texts);
                }
            }
        }
    }

    /// Adds a row: a value for each column of the table, in their order. A row is taken as a whole or not at all.
    ///
    /// # Errors
    /// [`BadRow`].
    pub fn push(&mut self, row: &[Value]) -> Result<(), BadRow> {
        let bytes = self.check(row)?;
        if bytes > self.row_bytes_max {
            return Err(BadRow::Long(bytes, self.row_bytes_max));
        }
        if self.block.rows >= BATCH_ROWS_MAX || self.bytes + bytes > BATCH_BYTES_MAX {
            return Err(BadRow::Full);
        }
        let before = self.block.rows;
        for (vector, value) in self.block.columns.iter_mut().zip(row) {
            add(vector, value, before);
        }
        self.block.rows += 1;
        self.bytes += bytes;
        Ok(())
    }

    fn check(&self, row: &[Value]) -> Result<usize, BadRow> {
        let columns = &self.table.columns;
        if row.len() != columns.len() {
            let table = self.table.name.clone();
            return Err(BadRow::Values { table, wanted: columns.len(), found: row.len() });
        }
        let mut bytes = 0;
        for (column, value) in columns.iter().zip(row) {
            let fits = match (column.kind, value) {
                (_, Value::Null) => column.is_optional,
                (Kind::Time | Kind::I64, Value::Signed(_))
                | (Kind::U64, Value::Unsigned(_))
                | (Kind::F64, Value::Float(_))
                | (Kind::Bool, Value::Bool(_)) => true,
                (Kind::U16, Value::Unsigned(number)) => *number <= u64::from(u16::MAX),
                (Kind::U32, Value::Unsigned(number)) => *number <= u64::from(u32::MAX),
                (Kind::Text | Kind::Dict, Value::Text(text)) => {
                    bytes += text.len();
                    true
                }
                (kind, Value::Bytes(value)) => kind.fixed() == Some(value.len()),
                (Kind::Map, Value::Map(entries)) => {
                    bytes += entries.iter().map(|(name, text)| name.len() + text.len()).sum::<usize>();
                    entries.len() <= ENTRIES_MAX
                }
                _ => false,
            };
            if !fits {
                return Err(BadRow::Kind { column: column.name.clone(), wanted: column.kind });
            }
            bytes += 8;
        }
        match row.first() {
            Some(Value::Signed(0..TIME_MAX)) => Ok(bytes),
            _ => Err(BadRow::Time),
        }
    }
}

fn clear(texts: &mut crate::texts::Texts) {
    texts.bytes.clear();
    texts.ends.clear();
}

/// Adds a value that was checked.
fn add(vector: &mut Vector, value: &Value, before: usize) {
    match (&mut vector.data, value) {
        (Data::Number(numbers), Value::Signed(number)) => numbers.push(*number),
        (Data::Number(numbers), Value::Unsigned(number)) => numbers.push(*number as i64),
        (Data::Number(numbers), Value::Float(number)) => numbers.push(number.to_bits() as i64),
        (Data::Number(numbers), Value::Bool(is)) => numbers.push(i64::from(*is)),
        (Data::Fixed(_, bytes), Value::Bytes(value)) => bytes.extend_from_slice(value),
        (Data::Text(texts), Value::Text(text)) => texts.push(text.as_bytes()),
        (Data::Dict(codes, dict), Value::Text(text)) => codes.push(Arc::make_mut(dict).code(text.as_bytes())),
        (Data::Map(ends, names, texts), Value::Map(entries)) => {
            for (name, text) in *entries {
                names.push(name.as_bytes());
                texts.push(text.as_bytes());
            }
            ends.push(names.len() as u32);
        }
        _ => return vector.push_null(before),
    }
    vector.note(false, before);
}
