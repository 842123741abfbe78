//! Rows in the order of their time.
//!
//! Files of an hour may overlap until they are merged, and memory overlaps with them. So each has a place in a queue by
//! the time of its next row, and is opened when its turn comes: of what is never reached nothing is read.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::path::Path;
use std::sync::Arc;

use crate::block::{Block, Data, Gather, Vector};
use crate::file::{self, Granule, Opened, RowFile};
use crate::filter::{Memory, Source};
use crate::parquet::{Chunks, Fault, Pages};
use crate::query::{Asked, Effort, Hands, Places, Select, candidates};
use crate::store::{Error, Store, at};
use crate::table::{Column, Kind, Table};

/// Which rows come first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// The newest ones.
    Newest,
    /// The oldest ones.
    Oldest,
}

impl Order {
    /// A time as a number that grows in this order.
    const fn key(self, time_us: i64) -> i64 {
        match self {
            Self::Newest => -time_us,
            Self::Oldest => time_us,
        }
    }
}

/// A value that was read.
#[derive(Debug, Clone, PartialEq)]
pub enum Cell<'a> {
    /// None.
    Null,
    /// A number with a sign, or a time in microseconds.
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
    /// Texts by their names.
    Map(Vec<(&'a str, &'a str)>),
}

/// Some rows of an answer.
#[derive(Debug, Clone)]
pub struct Rows {
    table: Arc<Table>,
    block: Block,
}

impl Rows {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.block.rows
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.block.rows == 0
    }

    /// The columns that they have values of.
    pub fn columns(&self) -> &[Column] {
        &self.table.columns
    }

    /// The value of a row in a column.
    pub fn cell(&self, row: usize, column: usize) -> Cell<'_> {
        let (Some(vector), Some(of)) = (self.block.columns.get(column), self.table.columns.get(column))
        else {
            return Cell::Null;
        };
        let text = |bytes| std::str::from_utf8(bytes).unwrap_or_default();
        if row >= self.block.rows || vector.is_null(row) {
            return Cell::Null;
        }
        match &vector.data {
            Data::Number(numbers) => match of.kind {
                Kind::U16 | Kind::U32 | Kind::U64 => Cell::Unsigned(numbers[row] as u64),
                Kind::F64 => Cell::Float(f64::from_bits(numbers[row] as u64)),
                Kind::Bool => Cell::Bool(numbers[row] != 0),
                _ => Cell::Signed(numbers[row]),
            },
            Data::Fixed(width, bytes) => Cell::Bytes(&bytes[row * width..(row + 1) * width]),
            Data::Text(texts) => Cell::Text(text(texts.get(row))),
            Data::Dict(codes, dict) => Cell::Text(text(dict.texts.get(codes[row] as usize))),
            Data::Map(ends, names, texts) => {
                let start = row.checked_sub(1).map_or(0, |before| ends[before]) as usize;
                Cell::Map(
                    (start..ends[row] as usize)
                        .map(|at| (text(names.get(at)), text(texts.get(at))))
                        .collect(),
                )
            }
        }
    }
}

/// Rows of a granule or block that are wanted, in the order of the answer.
struct Found {
    block: Arc<Block>,
    rows: Vec<u32>,
    next: usize,
}

/// Where rows come from.
struct Spring {
    of: Of,
    found: Option<Found>,
}

enum Of {
    Block(Option<Arc<Block>>),
    File {
        file: Arc<RowFile>,
        opened: Option<Arc<Opened>>,
        /// Row groups that are still to come, next one last.
        groups: Vec<usize>,
        group: usize,
        /// Granules of this row group that are still to come, next one last.
        granules: Vec<(usize, usize, bool)>,
        chunks: Box<Chunks>,
    },
}

/// An answer row by row, some at a time.
pub struct Scan<'a> {
    store: &'a Store,
    asked: Asked<'a>,
    range: (i64, i64),
    order: Order,
    /// Columns of the answer: places in the table.
    places: Vec<usize>,
    shown: Arc<Table>,
    left: usize,
    springs: Vec<Spring>,
    queue: BinaryHeap<Reverse<(i64, usize)>>,
    hands: Hands,
}

/// Rows that are given at once.
const GIVEN: usize = 1024;

impl Store {
    /// Rows in the order of their time, with the values of some columns (all, if none are named), not more than so many.
    /// Nothing is read before the first ones are asked for.
    ///
    /// # Errors
    /// A table, column or filter that cannot be.
    pub fn scan(
        &self,
        select: &Select,
        columns: &[&str],
        order: Order,
        limit: usize,
    ) -> Result<Scan<'_>, Error> {
        let asked = Asked::new(self, select)?;
        let table = &asked.kept.shape.table;
        let mut places: Vec<usize> = Vec::new();
        for name in columns {
            places.push(table.column(name).ok_or_else(|| Error::NoColumn(name.chars().take(100).collect()))?);
        }
        if columns.is_empty() {
            places = (0..table.columns.len()).collect();
        }
        let shown = places.iter().map(|place| table.columns[*place].clone()).collect();
        let shown = Arc::new(Table { name: table.name.clone(), columns: shown, sketches: Vec::new() });
        let range = (select.from_us, select.to_us);
        let found = Places::find(asked.kept, range.0, range.1);
        let mut springs = Vec::new();
        let mut queue = BinaryHeap::new();
        let first =
            |from_us: i64, to_us: i64| order.key(if order == Order::Newest { to_us } else { from_us });
        for file in found.files {
            queue.push(Reverse((first(file.from_us, file.to_us), springs.len())));
            let chunks = Box::default();
            let of =
                Of::File { file, opened: None, groups: Vec::new(), group: 0, granules: Vec::new(), chunks };
            springs.push(Spring { of, found: None });
        }
        for block in found.blocks {
            let times = || block.times().iter().copied();
            if let (Some(from_us), Some(to_us)) = (times().min(), times().max()) {
                queue.push(Reverse((first(from_us, to_us), springs.len())));
                springs.push(Spring { of: Of::Block(Some(block)), found: None });
            }
        }
        let hands = Hands { pages: Pages::new().map_err(at(&self.folder))?, memory: Memory::default() };
        Ok(Scan { store: self, asked, range, order, places, shown, left: limit, springs, queue, hands })
    }
}

impl Scan<'_> {
    /// What it did cost so far, and whether the budget has ended it.
    pub fn effort(&self) -> Effort {
        self.asked.effort()
    }

    fn give(&mut self) -> Result<Option<Rows>, Error> {
        let mut gather = Gather::new(&self.shown);
        while self.left > 0 && gather.block.rows < GIVEN && !gather.block.is_full() {
            let Some(Reverse((_, place))) = self.queue.pop() else { break };
            let Some(spring) = self.springs.get_mut(place) else { break };
            if spring.found.is_none() {
                if !self.asked.may_go_on() {
                    self.left = 0;
                    break;
                }
                let mut tries = 0;
                let key = loop {
                    let next = spring.next(
                        self.store,
                        &self.asked,
                        self.range,
                        self.order,
                        &self.places,
                        &mut self.hands,
                    );
                    match (next, &spring.of) {
                        // A sidecar that is damaged is made again, once.
                        (Err(Error::Damaged { .. }), Of::File { file, .. }) if tries == 0 => {
                            file.renew(&self.asked.kept.shape)?;
                            spring.reopen(self.store, &self.asked)?;
                            tries += 1;
                        }
                        (next, _) => break next?,
                    }
                };
                // Its rows may be later than what was known of it.
                if let Some(key) = key {
                    self.queue.push(Reverse((key, place)));
                } else {
                    spring.of = Of::Block(None);
                }
                continue;
            }
            let Some(found) = &mut spring.found else { continue };
            let until = self.queue.peek().map(|Reverse(next)| *next);
            let most = self.left.min(GIVEN - gather.block.rows);
            let mut given = 0;
            let times = found.block.times();
            // The time is the first column of what was found, whatever the answer shows.
            while let Some(row) = found.rows.get(found.next) {
                let key = self.order.key(times[*row as usize]);
                if given >= most || until.is_some_and(|until| (key, place) > until) {
                    self.queue.push(Reverse((key, place)));
                    break;
                }
                let run = found.rows[found.next..]
                    .iter()
                    .enumerate()
                    .take(most - given)
                    .take_while(|(step, next)| {
                        **next as usize == *row as usize + step
                            && until
                                .is_none_or(|until| (self.order.key(times[**next as usize]), place) <= until)
                    })
                    .count();
                gather.extend_behind(&found.block, *row as usize, run);
                found.next += run;
                given += run;
            }
            self.left -= given;
            if found.next >= found.rows.len() {
                let last = found.rows.last().map_or(0, |row| self.order.key(times[*row as usize]));
                spring.found = None;
                self.queue.push(Reverse((last, place)));
            }
        }
        let block = gather.take();
        Ok((block.rows > 0).then(|| Rows { table: self.shown.clone(), block }))
    }
}

impl Iterator for Scan<'_> {
    type Item = Result<Rows, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        let given = self.give();
        if given.is_err() {
            self.left = 0;
        }
        given.transpose()
    }
}

impl Spring {
    fn reopen(&mut self, store: &Store, asked: &Asked) -> Result<(), Error> {
        if let Of::File { file, opened, .. } = &mut self.of {
            *opened = Some(store.open_file(file, &asked.kept.shape)?);
        }
        Ok(())
    }

    /// Reads on to the next rows that are wanted. Returns the place of the first one in the order; `None`: there are no more.
    fn next(
        &mut self,
        store: &Store,
        asked: &Asked,
        range: (i64, i64),
        order: Order,
        places: &[usize],
        hands: &mut Hands,
    ) -> Result<Option<i64>, Error> {
        let shape = &asked.kept.shape;
        let found = match &mut self.of {
            Of::Block(block) => match block.take() {
                Some(block) => {
                    let fault = file::of(Path::new("memory"));
                    let mut source: &Block = &block;
                    let wanted =
                        asked.wanted(&mut source, &mut hands.memory, range, false).map_err(&fault)?;
                    wanted
                        .map(|wanted| shown(&mut source, places, &wanted, order))
                        .transpose()
                        .map_err(&fault)?
                }
                None => None,
            },
            Of::File { file, opened, groups, group, granules, chunks } => {
                let fault = file::of(&file.path);
                if opened.is_none() {
                    let fresh = store.open_file(file, shape)?;
                    *groups = (0..fresh.head.directory.groups.len()).collect();
                    if order == Order::Oldest {
                        groups.reverse();
                    }
                    *opened = Some(fresh);
                }
                let Some(opened) = opened.clone() else { return Ok(None) };
                loop {
                    if let Some((granule, rows, is_inside)) = granules.last().copied() {
                        if !asked.may_go_on() {
                            return Ok(None);
                        }
                        let mut source = Granule {
                            opened: &opened,
                            table: &shape.table,
                            group: *group,
                            granule,
                            rows,
                            pages: &mut hands.pages,
                            chunks,
                            columns: vec![None; shape.table.columns.len()],
                        };
                        let wanted =
                            asked.wanted(&mut source, &mut hands.memory, range, is_inside).map_err(&fault)?;
                        let found = wanted
                            .map(|wanted| shown(&mut source, places, &wanted, order))
                            .transpose()
                            .map_err(&fault)?;
                        granules.pop();
                        if found.is_some() {
                            break found;
                        }
                    } else if let Some(next) = groups.last().copied() {
                        **chunks = Chunks::default();
                        *granules = candidates(asked, &opened, next, range, hands, chunks).map_err(&fault)?;
                        *group = next;
                        groups.pop();
                        if order == Order::Oldest {
                            granules.reverse();
                        }
                    } else {
                        break None;
                    }
                }
            }
        };
        let key = found.as_ref().and_then(|found| {
            let first = *found.rows.first()?;
            Some(order.key(*found.block.times().get(first as usize)?))
        });
        self.found = found;
        Ok(key)
    }
}

/// The rows that are wanted, with their times before the columns of the answer.
fn shown(source: &mut dyn Source, places: &[usize], wanted: &[bool], order: Order) -> Result<Found, Fault> {
    let mut columns: Vec<Vector> = Vec::with_capacity(places.len() + 1);
    for place in std::iter::once(&0).chain(places) {
        columns.push(source.column(*place)?.clone());
    }
    let block = Block { rows: source.rows(), columns };
    let times = block.times();
    let mut rows: Vec<u32> = (0..block.rows as u32).filter(|row| wanted[*row as usize]).collect();
    let key = |row: &u32| order.key(times[*row as usize]);
    if order == Order::Newest {
        // Of rows of the same time the later one is the newer one.
        rows.reverse();
    }
    if !rows.is_sorted_by_key(key) {
        rows.sort_by_key(key);
    }
    Ok(Found { block: Arc::new(block), rows, next: 0 })
}
