//! What a table is: a name, and columns with names and kinds.

use std::collections::HashSet;

use crate::filter::{Compiled, Filter};

/// What a column holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Microseconds since 1970, UTC.
    Time,
    /// Text of which there are few different ones, such as the name of a route.
    Dict,
    /// Any other text.
    Text,
    /// A number from 0 to 65,535.
    U16,
    /// A number of four bytes.
    U32,
    /// A number of eight bytes.
    U64,
    /// A number with a sign.
    I64,
    /// A number with a fraction.
    F64,
    /// Yes or no.
    Bool,
    /// Eight bytes, such as the id of a span.
    Fixed8,
    /// Sixteen bytes, such as the id of a trace, or an address.
    Fixed16,
    /// Texts by the names that they have in this row.
    Map,
}

impl Kind {
    pub(crate) const ALL: [Self; 12] = [
        Self::Time,
        Self::Dict,
        Self::Text,
        Self::U16,
        Self::U32,
        Self::U64,
        Self::I64,
        Self::F64,
        Self::Bool,
        Self::Fixed8,
        Self::Fixed16,
        Self::Map,
    ];

    /// How many bytes each value has, if all have as many.
    pub(crate) const fn fixed(self) -> Option<usize> {
        match self {
            Self::Fixed8 => Some(8),
            Self::Fixed16 => Some(16),
            _ => None,
        }
    }

    /// Held as a number of eight bytes: of a fraction its bits.
    pub(crate) const fn is_number(self) -> bool {
        !matches!(self, Self::Dict | Self::Text | Self::Fixed8 | Self::Fixed16 | Self::Map)
    }

    /// A whole number, so that a histogram of it can be kept.
    pub(crate) const fn is_count(self) -> bool {
        matches!(self, Self::U16 | Self::U32 | Self::U64)
    }
}

/// A column of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Column {
    /// Its name. What it holds never changes: another kind needs another name.
    pub name: String,
    /// What it holds.
    pub kind: Kind,
    /// Whether a new row may have none.
    pub is_optional: bool,
    /// Whether what is rare in it is found without reading all of it: for texts and fixed bytes.
    pub is_searchable: bool,
}

impl Column {
    /// A column of which each row has a value.
    pub fn new(name: &str, kind: Kind) -> Self {
        Self { name: name.to_owned(), kind, is_optional: false, is_searchable: false }
    }

    /// Rows may have none.
    #[must_use]
    pub fn optional(mut self) -> Self {
        self.is_optional = true;
        self
    }

    /// What is rare in it is found fast.
    #[must_use]
    pub fn searchable(mut self) -> Self {
        self.is_searchable = true;
        self
    }
}

/// What is counted beside the rows: for each value of a column and each minute how many rows, how many of them are
/// errors, and how a number is distributed.
#[derive(Debug, Clone, PartialEq)]
pub struct Sketch {
    /// A column of [`Kind::Dict`].
    pub group: String,
    /// A column of a number without a sign.
    pub value: String,
    /// Which rows are errors.
    pub errors: Option<Filter>,
}

/// A table. Columns that come later read as nothing in older files.
#[derive(Debug, Clone, PartialEq)]
pub struct Table {
    pub(crate) name: String,
    pub(crate) columns: Vec<Column>,
    pub(crate) sketches: Vec<Sketch>,
}

/// A table that cannot be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("table `{table}`: {what}")]
pub struct BadTable {
    table: String,
    what: String,
}

/// Columns of a table.
const COLUMNS_MAX: usize = 256;
/// Names that the folders of the files have.
const PARTITIONS: [&str; 3] = ["signal", "day", "hour"];

fn is_name(name: &str) -> bool {
    let is_letter = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
    (1..=64).contains(&name.len()) && name.bytes().all(is_letter)
}

impl Table {
    /// A table with these columns. The first one is of [`Kind::Time`]; it says when a row is from.
    ///
    /// # Errors
    /// A name that is not of `a-z0-9_`, twice the same one, or a first column that is not a time.
    pub fn new(name: &str, columns: Vec<Column>) -> Result<Self, BadTable> {
        let bad = |what: String| BadTable { table: name.to_owned(), what };
        if !is_name(name) {
            return Err(bad("its name is not 1 to 64 of a-z, 0-9 and _".into()));
        }
        if columns.first().is_none_or(|first| first.kind != Kind::Time || first.is_optional) {
            return Err(bad("its first column is not a time that each row has".into()));
        }
        if columns.len() > COLUMNS_MAX {
            return Err(bad(format!("it has {} columns; {COLUMNS_MAX} may be", columns.len())));
        }
        let mut names = HashSet::from(PARTITIONS);
        for column in &columns {
            if !is_name(&column.name) {
                return Err(bad(format!("column name `{}` is not 1 to 64 of a-z, 0-9 and _", column.name)));
            }
            if !names.insert(&column.name) {
                return Err(bad(format!("column name `{}` is taken; choose another", column.name)));
            }
            if column.is_searchable && !matches!(column.kind, Kind::Text | Kind::Fixed8 | Kind::Fixed16) {
                return Err(bad(format!(
                    "column `{}` is neither text nor fixed bytes, so it cannot be searchable",
                    column.name
                )));
            }
        }
        Ok(Self { name: name.to_owned(), columns, sketches: Vec::new() })
    }

    /// The same with a sketch.
    ///
    /// # Errors
    /// Columns that are not there, or not of the kind that they have to be.
    pub fn sketch(mut self, sketch: Sketch) -> Result<Self, BadTable> {
        let kind =
            |name: &str| self.columns.iter().find(|column| column.name == name).map(|column| column.kind);
        let bad = |what: String| BadTable { table: self.name.clone(), what };
        if kind(&sketch.group) != Some(Kind::Dict) {
            return Err(bad(format!("a sketch is by `{}`, which is no column of few texts", sketch.group)));
        }
        if !kind(&sketch.value).is_some_and(Kind::is_count) {
            return Err(bad(format!(
                "a sketch is of `{}`, which is no column of numbers without a sign",
                sketch.value
            )));
        }
        if let Some(errors) = &sketch.errors {
            Compiled::new(errors, &self).map_err(|error| bad(error.to_string()))?;
        }
        self.sketches.push(sketch);
        Ok(self)
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its columns.
    pub fn columns(&self) -> &[Column] {
        &self.columns
    }

    /// The place of a column.
    pub fn column(&self, name: &str) -> Option<usize> {
        self.columns.iter().position(|column| column.name == name)
    }
}
