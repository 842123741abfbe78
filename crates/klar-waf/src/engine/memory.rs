//! What is known of one request: its bytes, the values in them by collection, and what transformations made of them.

use std::ops::Range;

use crate::body::{json, multipart, xml};
use crate::bytes::{Pairs, Presence};
use crate::program::{COLLECTIONS, Cell, NONE, Program};
use crate::seclang::Collection;
use crate::transform::Transformation;

/// Bytes in the memory of a request.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Span {
    pub start: u32,
    pub len: u32,
}

/// One member of a collection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Entry {
    pub name: Span,
    pub cell: u32,
}

/// A value that a rule looks at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Item {
    pub collection: Collection,
    pub name: Span,
    /// As it came.
    pub raw: u32,
    /// As the rule sees it.
    pub cell: u32,
}

/// What a view gave, until the request goes on.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Looked {
    /// In which generation it was looked at; 0 for never.
    pub generation: u32,
    pub first: u32,
    pub end: u32,
    /// The bytes of all values, and the length of the longest.
    pub presence: Presence,
    pub longest: u32,
}

/// A variable that rules set.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Kept {
    #[default]
    Unset,
    Number(i64),
    Cell(u32),
}

/// A rule that matched, once for each value.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Hit {
    pub rule: u32,
    /// From 0, the head of its chain.
    pub link: u32,
    pub item: Item,
    /// What the rule says of it, put together at that moment.
    pub data: Span,
}

/// The memory of one request, used again for the next.
#[derive(Debug, Default)]
pub struct Memory {
    pub(crate) bytes: Vec<u8>,
    pub(crate) cells: Vec<Cell>,
    lists: Lists,
    /// Results of chains for one cell after another, a row for each cell that was asked for.
    rows: Vec<u32>,
    made: Vec<u8>,
    pub(crate) looked: Vec<Looked>,
    pub(crate) items: Vec<Item>,
    pub(crate) generation: u32,
    pub(crate) slots: Vec<Kept>,
    /// Variables whose names the rules put together.
    pub(crate) others: Vec<(Collection, Span, Kept)>,
    pub(crate) matched: Vec<Item>,
    pub(crate) hits: Vec<Hit>,
    /// Of each rule, whether it is left out in this request.
    pub(crate) removed: Vec<u64>,
    /// What some rules do not look at in this request: the link of the control, and its place there.
    pub(crate) untargeted: Vec<(u32, u32)>,
    pub(crate) has_untargeted: Vec<u64>,
    pub(crate) text: Vec<u8>,
    pub(crate) segment: Vec<u8>,
    pub(crate) pairs: Pairs,
    pub(crate) json: json::Reader,
    pub(crate) xml: xml::Reader,
    pub(crate) multipart: multipart::Reader,
    pub(crate) body: Vec<u8>,
}

#[derive(Debug)]
struct Lists(Vec<Vec<Entry>>);

impl Default for Lists {
    fn default() -> Self {
        Self(vec![Vec::new(); COLLECTIONS])
    }
}

/// Memory of this size is given back between requests.
const KEPT_BYTES: usize = 1024 * 1024;

impl Memory {
    /// Forgets the last request.
    pub(crate) fn begin(&mut self, program: &Program) {
        if self.bytes.capacity() > KEPT_BYTES || self.body.capacity() > KEPT_BYTES {
            *self = Self::default();
        }
        self.bytes.clear();
        self.bytes.extend_from_slice(&program.constants);
        self.cells.clear();
        self.cells.extend_from_slice(&program.constant_cells);
        self.lists.0.iter_mut().for_each(Vec::clear);
        self.rows.clear();
        self.looked.clear();
        self.looked.resize(program.views.len(), Looked::default());
        self.items.clear();
        self.generation = 1;
        self.slots.clear();
        self.slots.resize(program.slots.len(), Kept::Unset);
        self.others.clear();
        self.matched.clear();
        self.hits.clear();
        for bits in [&mut self.removed, &mut self.has_untargeted] {
            bits.clear();
            bits.resize(program.rules.len().div_ceil(64), 0);
        }
        self.untargeted.clear();
        self.body.clear();
        self.pairs.clear();
    }

    pub(crate) fn span(&self, span: Span) -> &[u8] {
        let start = span.start as usize;
        self.bytes.get(start..start + span.len as usize).unwrap_or_default()
    }

    pub(crate) fn cell(&self, cell: u32) -> &[u8] {
        self.cells.get(cell as usize).map_or(&[], |cell| self.span(Span { start: cell.start, len: cell.len }))
    }

    /// Keeps bytes.
    pub(crate) fn keep(&mut self, bytes: &[u8]) -> Span {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(bytes);
        span(start..self.bytes.len())
    }

    /// A cell with bytes that are kept.
    pub(crate) fn cell_of(&mut self, span: Span) -> u32 {
        let presence = Presence::of(self.span(span));
        self.cells.push(Cell { start: span.start, len: span.len, row: NONE, presence });
        number(self.cells.len() - 1)
    }

    /// A cell with these bytes.
    pub(crate) fn add(&mut self, bytes: &[u8]) -> u32 {
        let span = self.keep(bytes);
        self.cell_of(span)
    }

    pub(crate) fn list(&self, collection: Collection) -> &[Entry] {
        self.lists.0.get(collection as usize).map_or(&[], Vec::as_slice)
    }

    pub(crate) fn push(&mut self, collection: Collection, entry: Entry) {
        if let Some(list) = self.lists.0.get_mut(collection as usize) {
            list.push(entry);
        }
    }

    /// Sets what has one value.
    pub(crate) fn set(&mut self, collection: Collection, value: &[u8]) {
        let cell = self.add(value);
        self.set_cell(collection, cell);
    }

    pub(crate) fn set_cell(&mut self, collection: Collection, cell: u32) {
        if let Some(list) = self.lists.0.get_mut(collection as usize) {
            list.clear();
            list.push(Entry { name: Span::default(), cell });
        }
    }

    pub(crate) fn set_number(&mut self, collection: Collection, value: u64) {
        let mut digits = [0; 20];
        self.set(collection, decimal(value, &mut digits));
    }

    /// The result of a chain for a cell.
    pub(crate) fn through(&mut self, program: &Program, cell: u32, chain: u32) -> u32 {
        let Some(step) = program.chains.get(chain as usize) else { return cell };
        let Some(last) = step.last else { return cell };
        let row = self.row(program, cell);
        let place = row as usize + chain as usize;
        if let Some(known) = self.rows.get(place).filter(|known| **known != NONE) {
            return *known;
        }
        // As deep as the longest chain of the rules.
        let before = self.through(program, cell, step.before);
        let made = self.transformed(before, last);
        if let Some(known) = self.rows.get_mut(place) {
            *known = made;
        }
        made
    }

    fn transformed(&mut self, cell: u32, last: Transformation) -> u32 {
        let Some(known) = self.cells.get(cell as usize).copied() else { return cell };
        if !last.may_change(&known.presence) {
            return cell;
        }
        let (start, end) = (known.start as usize, (known.start + known.len) as usize);
        let mut made = std::mem::take(&mut self.made);
        made.clear();
        let changed = last.apply(self.bytes.get(start..end).unwrap_or_default(), &mut made);
        let cell = if changed { self.add(&made) } else { cell };
        self.made = made;
        cell
    }

    fn row(&mut self, program: &Program, cell: u32) -> u32 {
        let Some(known) = self.cells.get_mut(cell as usize) else { return 0 };
        if known.row == NONE {
            known.row = number(self.rows.len());
            self.rows.resize(self.rows.len() + program.chains.len(), NONE);
        }
        known.row
    }
}

pub(crate) fn number(at: usize) -> u32 {
    u32::try_from(at).unwrap_or(NONE)
}

pub(crate) fn span(range: Range<usize>) -> Span {
    Span { start: number(range.start), len: number(range.end - range.start) }
}

/// A number in decimal digits.
pub(crate) fn decimal(mut value: u64, digits: &mut [u8; 20]) -> &[u8] {
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + u8::try_from(value % 10).unwrap_or(0);
        value /= 10;
        if value == 0 {
            return &digits[at..];
        }
    }
}
