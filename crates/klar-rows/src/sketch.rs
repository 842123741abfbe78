//! What is counted beside the rows of a file: for each group, and each group in each minute, rows, errors and how a number
//! is distributed.

use std::collections::HashMap;
use std::sync::Arc;

use crate::block::{Block, Data, Vector};
use crate::bytes::{Reader, put, put_part, put_signed};
use crate::filter::{Compiled, Memory, Source};
use crate::histogram::Histogram;
use crate::parquet::Fault;
use crate::table::{Sketch, Table};
use crate::texts::{Dict, Texts};

pub const MINUTE_US: i64 = 60_000_000;
/// A file with more groups has no sketch; its rows are read instead.
const GROUPS_MAX: usize = 4096;

/// What was counted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Cell {
    pub count: u64,
    pub errors: u64,
    pub histogram: Histogram,
}

impl Cell {
    pub fn merge(&mut self, other: &Self) {
        self.count += other.count;
        self.errors += other.errors;
        self.histogram.merge(&other.histogram);
    }

    fn write(&self, out: &mut Vec<u8>) {
        put(out, self.count);
        put(out, self.errors);
        let mut ranges = Vec::new();
        self.histogram.write(&mut ranges);
        put_part(out, &ranges);
    }

    /// Adds what was written.
    pub fn read_into(&mut self, from: &mut Reader) -> Option<()> {
        self.count += from.number()?;
        self.errors += from.number()?;
        self.histogram.read_into(&mut Reader(from.part()?))
    }
}

impl Source for &Block {
    fn rows(&self) -> usize {
        self.rows
    }

    fn column(&mut self, place: usize) -> Result<&Vector, Fault> {
        self.columns.get(place).ok_or(Fault::Damaged("a column is missing"))
    }
}

/// A sketch of a table, ready to be used.
pub struct Plan {
    /// What is the same as long as it counts the same.
    pub key: String,
    pub group: usize,
    pub value: usize,
    pub errors: Option<Compiled>,
}

impl Plan {
    pub fn all(table: &Table) -> Vec<Self> {
        let plan = |sketch: &Sketch| {
            Some(Self {
                key: format!("{sketch:?}"),
                group: table.column(&sketch.group)?,
                value: table.column(&sketch.value)?,
                // It was looked at when the table was made.
                errors: sketch.errors.as_ref().and_then(|errors| Compiled::new(errors, table).ok()),
            })
        };
        table.sketches.iter().filter_map(plan).collect()
    }

    /// Which of some rows are errors.
    pub fn errors(&self, source: &mut dyn Source, memory: &mut Memory) -> Result<Vec<bool>, Fault> {
        let mut wanted = vec![self.errors.is_some(); source.rows()];
        if let Some(errors) = &self.errors {
            errors.narrow(source, memory, &mut wanted)?;
        }
        Ok(wanted)
    }
}

/// Counts rows as they are written.
pub struct Counter {
    names: Dict,
    codes: HashMap<usize, (Arc<Dict>, Vec<u32>)>,
    memory: Memory,
    minute: i64,
    /// By group: none, then as in `names`.
    cells: Vec<Cell>,
    totals: Vec<Cell>,
    minutes: Vec<u8>,
    is_over: bool,
}

/// What a sketch becomes in a file: names of groups, then all time, then each minute.
pub struct Written {
    pub totals: Vec<u8>,
    pub minutes: Vec<u8>,
}

impl Counter {
    pub fn new() -> Self {
        Self {
            names: Dict::default(),
            codes: HashMap::new(),
            memory: Memory::default(),
            minute: i64::MIN,
            cells: Vec::new(),
            totals: Vec::new(),
            minutes: Vec::new(),
            is_over: false,
        }
    }

    /// Counts rows that are sorted by time.
    pub fn add(&mut self, plan: &Plan, mut block: &Block) -> Result<(), Fault> {
        if self.is_over {
            return Ok(());
        }
        let errors = plan.errors(&mut block, &mut self.memory)?;
        let missing = || Fault::Damaged("a column is missing");
        let group = block.columns.get(plan.group).ok_or_else(missing)?;
        let value = block.columns.get(plan.value).ok_or_else(missing)?;
        let (Data::Dict(codes, dict), Data::Number(numbers)) = (&group.data, &value.data) else {
            return Err(missing());
        };
        if self.codes.len() > 8 {
            self.codes.clear();
        }
        let key = Arc::as_ptr(dict).addr();
        let mut known =
            self.codes.remove(&key).unwrap_or_else(|| (dict.clone(), vec![u32::MAX; dict.texts.len()]));
        for (row, time) in block.times().iter().enumerate() {
            let minute = time.div_euclid(MINUTE_US);
            if minute != self.minute {
                self.end_minute();
                self.minute = minute;
            }
            let place = if group.is_null(row) {
                0
            } else {
                let code = codes[row] as usize;
                if known.1[code] == u32::MAX {
                    known.1[code] = self.names.code(dict.texts.get(code)) + 1;
                }
                known.1[code] as usize
            };
            if place >= self.cells.len() {
                if place > GROUPS_MAX {
                    self.is_over = true;
                    return Ok(());
                }
                self.cells.resize(place + 1, Cell::default());
            }
            let cell = &mut self.cells[place];
            cell.count += 1;
            cell.errors += u64::from(errors[row]);
            if !value.is_null(row) {
                cell.histogram.add(numbers[row] as u64);
            }
        }
        self.codes.insert(key, known);
        Ok(())
    }

    fn end_minute(&mut self) {
        let used = || self.cells.iter().enumerate().filter(|(_, cell)| cell.count > 0);
        if used().next().is_some() {
            put_signed(&mut self.minutes, self.minute);
            put(&mut self.minutes, used().count() as u64);
            for (place, cell) in used() {
                put(&mut self.minutes, place as u64);
                cell.write(&mut self.minutes);
            }
        }
        if self.totals.len() < self.cells.len() {
            self.totals.resize(self.cells.len(), Cell::default());
        }
        for (total, cell) in self.totals.iter_mut().zip(&mut self.cells) {
            if cell.count > 0 {
                total.merge(cell);
                *cell = Cell::default();
            }
        }
    }

    pub fn finish(&mut self) -> Option<Written> {
        self.end_minute();
        if self.is_over {
            return None;
        }
        let mut totals = Vec::new();
        put(&mut totals, self.names.texts.len() as u64);
        self.names.texts.iter().for_each(|name| put_part(&mut totals, name));
        put(&mut totals, self.totals.len() as u64);
        self.totals.iter().for_each(|cell| cell.write(&mut totals));
        Some(Written { totals, minutes: std::mem::take(&mut self.minutes) })
    }
}

/// Reads names and totals.
pub fn read_totals(bytes: &[u8]) -> Option<(Texts, Vec<Cell>)> {
    let mut from = Reader(bytes);
    let mut names = Texts::default();
    for _ in 0..from.size()? {
        names.push(from.part()?);
    }
    let mut cells = Vec::new();
    for _ in 0..from.size()? {
        let mut cell = Cell::default();
        cell.read_into(&mut from)?;
        cells.push(cell);
    }
    (from.0.is_empty() && cells.len() <= names.len() + 1).then_some((names, cells))
}

/// Gives each minute and group to `to`, which reads the cell.
pub fn read_minutes(bytes: &[u8], mut to: impl FnMut(i64, usize, &mut Reader) -> Option<()>) -> Option<()> {
    let mut from = Reader(bytes);
    while !from.0.is_empty() {
        let minute = from.signed()?;
        for _ in 0..from.size()? {
            let place = from.size()?;
            to(minute, place, &mut from)?;
        }
    }
    Some(())
}
