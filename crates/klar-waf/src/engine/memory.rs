//! What is known of one request: its bytes, the values in them by collection, and what transformations made of them.

use std::ops::Range;

use crate::body::{json, multipart, xml};
use crate::bytes::{Pairs, Presence};
use crate::operator::{Grams, LONG};
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

/// A value that came since the last phase, and of which it is not yet known which rules may match it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Fresh {
    pub group: u8,
    pub name: Span,
    pub cell: u32,
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
    /// What came since the last phase.
    pub(crate) fresh: Vec<Fresh>,
    /// Rules that may match, a bit for each of each phase.
    pub(crate) hot: Vec<u64>,
    /// Rules that one value wakes.
    pub(crate) woken: Vec<u32>,
    /// Groups of collections that rules look at value by value.
    watched: u128,
    /// The program that the constants in `bytes` and `cells` are of; 0 for none.
    program: u64,
    /// Constants that have a row in this request.
    rowed: Vec<u32>,
    pub(crate) text: Vec<u8>,
    pub(crate) segment: Vec<u8>,
    pub(crate) pairs: Pairs,
    pub(crate) json: json::Reader,
    pub(crate) xml: xml::Reader,
    pub(crate) multipart: multipart::Reader,
    pub(crate) body: Vec<u8>,
    /// What has been read of long values, in bytes, and how much of that there may be.
    pub(crate) work: u64,
    pub(crate) work_max: u64,
    /// Room for what is found out about long values.
    pub(crate) grams: Option<Grams>,
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

/// More bytes than these are not kept of what transformations make of one value while it is asked.
const MADE_MAX: usize = 512 * 1024;

/// Longer buffers are made as long as they have to be, and are not kept beside.
const SHORT: usize = 64 * 1024;

/// How much there was at some time.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Mark {
    bytes: usize,
    cells: usize,
    rows: usize,
}

impl Memory {
    /// Forgets the last request.
    pub(crate) fn begin(&mut self, program: &Program) {
        if self.bytes.capacity() > KEPT_BYTES || self.body.capacity() > KEPT_BYTES {
            *self = Self::default();
        }
        let texts = (program.constants.len(), program.constant_cells.len());
        if self.program == program.number {
            // They are where they were; what has been learnt of them by transformations is of the last request.
            self.bytes.truncate(texts.0);
            self.cells.truncate(texts.1);
            for cell in self.rowed.drain(..) {
                if let Some(cell) = self.cells.get_mut(cell as usize) {
                    cell.row = NONE;
                }
            }
        } else {
            self.bytes.clear();
            self.bytes.extend_from_slice(&program.constants);
            self.cells.clear();
            self.cells.extend_from_slice(&program.constant_cells);
            self.rowed.clear();
            self.looked.clear();
            self.looked.resize(program.views.len(), Looked::default());
            self.generation = 0;
            self.watched = program.watch.groups;
            self.program = program.number;
        }
        if self.generation > u32::MAX / 2 {
            self.looked.fill(Looked::default());
            self.generation = 0;
        }
        self.generation += 1;
        self.lists.0.iter_mut().for_each(Vec::clear);
        self.rows.clear();
        self.items.clear();
        self.slots.clear();
        self.slots.extend_from_slice(&program.initial);
        self.others.clear();
        self.matched.clear();
        self.hits.clear();
        for bits in [&mut self.removed, &mut self.has_untargeted] {
            bits.clear();
            bits.resize(program.rules.len().div_ceil(64), 0);
        }
        self.untargeted.clear();
        self.fresh.clear();
        self.hot.clear();
        self.hot.extend_from_slice(&program.watch.always);
        self.body.clear();
        self.pairs.clear();
        self.work = 0;
        self.work_max = u64::MAX;
    }

    /// Says that so many bytes of a long value are read, and whether that is within what may be.
    pub(crate) fn works(&mut self, len: usize, times: u64) -> bool {
        if len >= LONG {
            self.work = self.work.saturating_add((len as u64).saturating_mul(times));
        }
        self.work <= self.work_max
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
        room(&mut self.bytes, bytes.len());
        let start = self.bytes.len();
        self.bytes.extend_from_slice(bytes);
        span(start..self.bytes.len())
    }

    /// A cell with bytes that are kept.
    pub(crate) fn cell_of(&mut self, span: Span) -> u32 {
        self.cells.push(Cell { start: span.start, len: span.len, row: NONE, presence: None });
        number(self.cells.len() - 1)
    }

    /// The bytes of a cell, looked for when somebody asks first.
    pub(crate) fn presence(&mut self, cell: u32) -> Presence {
        let Some(known) = self.cells.get_mut(cell as usize) else { return Presence::default() };
        match known.presence {
            Some(presence) => presence,
            None => {
                let start = known.start as usize;
                let bytes = self.bytes.get(start..start + known.len as usize).unwrap_or_default();
                *known.presence.insert(Presence::of(bytes))
            }
        }
    }

    /// A cell with all bytes from here on.
    pub(crate) fn cell_behind(&mut self, begin: usize) -> u32 {
        self.cell_of(span(begin..self.bytes.len()))
    }

    /// A cell with these bytes.
    pub(crate) fn add(&mut self, bytes: &[u8]) -> u32 {
        let span = self.keep(bytes);
        self.cell_of(span)
    }

    pub(crate) fn list(&self, collection: Collection) -> &[Entry] {
        self.lists.0.get(collection as usize).map_or(&[], Vec::as_slice)
    }

    /// Adds a member to a collection.
    pub(crate) fn push(&mut self, collection: Collection, entry: Entry) {
        self.list_mut(collection).push(entry);
        self.is_fresh(collection as u8, entry);
    }

    pub(crate) fn list_mut(&mut self, collection: Collection) -> &mut Vec<Entry> {
        &mut self.lists.0[collection as usize]
    }

    /// Says that a member of a group of collections has come.
    pub(crate) fn is_fresh(&mut self, group: u8, entry: Entry) {
        if self.watched >> group & 1 != 0 {
            self.fresh.push(Fresh { group, name: entry.name, cell: entry.cell });
        }
    }

    /// Sets what has one value.
    pub(crate) fn set(&mut self, collection: Collection, value: &[u8]) {
        let cell = self.add(value);
        self.set_cell(collection, cell);
    }

    pub(crate) fn set_cell(&mut self, collection: Collection, cell: u32) {
        let entry = Entry { name: Span::default(), cell };
        let list = self.list_mut(collection);
        list.clear();
        list.push(entry);
        self.is_fresh(collection as u8, entry);
    }

    pub(crate) fn set_number(&mut self, collection: Collection, value: u64) {
        let mut digits = [0; 20];
        self.set(collection, decimal(value, &mut digits));
    }

    /// Has a rule run when its turn comes.
    pub(crate) fn wake(&mut self, bit: u32) {
        if let Some(bits) = self.hot.get_mut(bit as usize / 64) {
            *bits |= 1 << (bit % 64);
        }
    }

    /// Whether all links of a rule are woken that have to be. `also` is in the order of rules.
    pub(crate) fn are_all_awake(&self, also: &[(u32, u32)], rule: u32) -> bool {
        let first = also.partition_point(|(its, _)| *its < rule);
        also.iter().skip(first).take_while(|(its, _)| *its == rule).all(|(_, link)| {
            self.hot.get(*link as usize / 64).is_some_and(|bits| bits & (1 << (link % 64)) != 0)
        })
    }

    /// What there is before a value is transformed; `None` if it was before.
    pub(crate) fn mark(&self, cell: u32) -> Option<Mark> {
        let is_new = self.cells.get(cell as usize).is_some_and(|cell| cell.row == NONE);
        is_new.then_some(Mark { bytes: self.bytes.len(), cells: self.cells.len(), rows: self.rows.len() })
    }

    /// Forgets what was made of a value since, if that is much: it is made anew where somebody asks. Says whether it was.
    pub(crate) fn tidy(&mut self, mark: Option<Mark>, cell: u32) -> bool {
        let Some(mark) = mark.filter(|mark| self.bytes.len() - mark.bytes > MADE_MAX) else { return false };
        self.bytes.truncate(mark.bytes);
        self.cells.truncate(mark.cells);
        self.rows.truncate(mark.rows);
        if let Some(cell) = self.cells.get_mut(cell as usize) {
            cell.row = NONE;
        }
        true
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
        let made = self.transformed(program, before, last);
        if let Some(known) = self.rows.get_mut(place) {
            *known = made;
        }
        made
    }

    fn transformed(&mut self, program: &Program, cell: u32, last: Transformation) -> u32 {
        if !program.asks_in_full() && !last.may_change(&self.presence(cell)) {
            return cell;
        }
        let Some(known) = self.cells.get(cell as usize).copied() else { return cell };
        let (start, end) = (known.start as usize, (known.start + known.len) as usize);
        // Where there was too much work, nobody goes by what comes of it.
        if !self.works(end - start, 1) && end - start >= LONG {
            return cell;
        }
        let mut made = std::mem::take(&mut self.made);
        made.clear();
        room(&mut made, end - start);
        let changed = last.apply(self.bytes.get(start..end).unwrap_or_default(), &mut made);
        let cell = if changed { self.add(&made) } else { cell };
        if made.capacity() <= SHORT {
            self.made = made;
        }
        cell
    }

    fn row(&mut self, program: &Program, cell: u32) -> u32 {
        let Some(known) = self.cells.get_mut(cell as usize) else { return 0 };
        if known.row == NONE {
            known.row = number(self.rows.len());
            if (cell as usize) < program.constant_cells.len() {
                self.rowed.push(cell);
            }
            self.rows.resize(self.rows.len() + program.chains.len(), NONE);
        }
        known.row
    }
}

/// Makes room for so many more bytes. What is long grows by what it needs: twice as much would be most of what a request may
/// take.
fn room(bytes: &mut Vec<u8>, more: usize) {
    if bytes.len() + more > SHORT {
        bytes.reserve_exact(more + if more > SHORT { 0 } else { SHORT });
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
