//! Which rows are wanted: as whoever asks says it, and as it is put to blocks of rows.
//!
//! A row either is wanted or not; there is no third answer. A value that is missing is equal to nothing, less than
//! nothing and contains nothing, so `Not` of these is true of it.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

use memchr::memmem::Finder;
use regex_automata::meta::Regex;
use regex_automata::util::syntax;

use crate::block::{Data, Vector};
use crate::grams;
use crate::parquet::{Fault, ordered};
use crate::table::{Kind, Table};
use crate::texts::Dict;

/// What values are compared with.
#[derive(Debug, Clone, PartialEq)]
pub enum Scalar {
    /// A number with a sign, or a time in microseconds.
    Signed(i64),
    /// A number without one.
    Unsigned(u64),
    /// A number with a fraction.
    Float(f64),
    /// Yes or no.
    Bool(bool),
    /// A text.
    Text(String),
    /// Fixed bytes.
    Bytes(Vec<u8>),
}

macro_rules! scalar_from {
    ($($from:ty => $to:ident),*) => {$(
        impl From<$from> for Scalar {
            fn from(value: $from) -> Self {
                Self::$to(value.into())
            }
        }
    )*};
}
scalar_from!(i32 => Signed, i64 => Signed, u16 => Unsigned, u32 => Unsigned, u64 => Unsigned, f64 => Float, bool => Bool,
    &str => Text, String => Text, &[u8] => Bytes, Vec<u8> => Bytes, [u8; 16] => Bytes, [u8; 8] => Bytes);

/// How a value is compared. Texts are compared byte by byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Op {
    /// Equal.
    Eq,
    /// Not equal; also where there is no value.
    Ne,
    /// Less.
    Lt,
    /// Less or equal.
    Le,
    /// More.
    Gt,
    /// More or equal.
    Ge,
}

/// Which rows are wanted.
#[derive(Debug, Clone, PartialEq)]
pub enum Filter {
    /// Those of which all of these are true.
    All(Vec<Filter>),
    /// Those of which one of these is.
    Any(Vec<Filter>),
    /// Those of which this is not.
    Not(Box<Filter>),
    /// Those whose value in a column is so.
    Compare(String, Op, Scalar),
    /// Those whose value is one of these.
    In(String, Vec<Scalar>),
    /// Those without a value.
    Missing(String),
    /// Those whose text has this one in it.
    Contains {
        /// The column.
        column: String,
        /// What is looked for.
        text: String,
        /// Whether `a` and `A` are the same, and so with the other letters of ASCII.
        ignore_case: bool,
    },
    /// Those whose text has something in it that an expression matches. Letters are bytes: `.` is one of them.
    Matches(String, String),
    /// Those whose map says this of this name.
    Entry {
        /// The column.
        column: String,
        /// The name.
        key: String,
        /// What it says.
        value: String,
    },
}

impl Filter {
    /// Compares the value of a column.
    pub fn compare(column: &str, op: Op, value: impl Into<Scalar>) -> Self {
        Self::Compare(column.to_owned(), op, value.into())
    }

    /// Whether a text has another one in it, letter for letter.
    pub fn contains(column: &str, text: &str) -> Self {
        Self::Contains { column: column.to_owned(), text: text.to_owned(), ignore_case: false }
    }
}

/// A filter that cannot be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadFilter {
    /// The table has no such column.
    #[error("table `{table}` has no column `{column}`")]
    Column {
        /// The table.
        table: String,
        /// The column.
        column: String,
    },
    /// The column holds something else.
    #[error("column `{column}` holds {kind:?}, which cannot be compared with that")]
    Kind {
        /// The column.
        column: String,
        /// What it holds.
        kind: Kind,
    },
    /// An expression that cannot be read.
    #[error("the expression `{expression}`: {why}")]
    Expression {
        /// Its beginning.
        expression: String,
        /// What is wrong.
        why: String,
    },
    /// More parts, or parts within each other, than are taken.
    #[error("the filter has more than {0} parts, or is more than {1} deep")]
    Long(usize, usize),
}

/// Parts of a filter, and how deep they stand within each other.
const PARTS_MAX: usize = 1000;
const DEPTH_MAX: usize = 32;
/// Bytes of an expression, and of what it becomes.
const EXPRESSION_MAX: usize = 4096;
const COMPILED_MAX: usize = 1 << 20;

/// Where columns come from.
pub trait Source {
    fn rows(&self) -> usize;
    fn column(&mut self, place: usize) -> Result<&Vector, Fault>;
}

/// What is known of rows without reading them.
pub trait Known {
    /// The least and the most number; `None` if there may be any. Without any value the least is the greater.
    fn span(&self, column: usize) -> Option<(i64, i64)>;
    /// Whether no row has a value.
    fn is_missing(&self, column: usize) -> bool;
    /// All texts that there are, if that is known.
    fn dict(&mut self, column: usize) -> Result<Option<Arc<Dict>>, Fault>;
    /// Whether all marks may be there.
    fn may_have(&mut self, column: usize, marks: &[u64]) -> Result<bool, Fault>;
}

enum Texts {
    In(Vec<Vec<u8>>),
    Below(Vec<u8>, bool),
    Above(Vec<u8>, bool),
    Contains(Box<Finder<'static>>, bool),
    Matches(Box<Regex>),
}

enum Test {
    Missing,
    /// Ranges of ordered numbers.
    Numbers(Vec<(i64, i64)>),
    Bytes(Vec<Vec<u8>>),
    Texts(Texts),
    Entry(Vec<u8>, Vec<u8>),
}

struct Leaf {
    column: usize,
    kind: Kind,
    test: Test,
    /// Of each one of which one has to be there: the marks of it in a filter of pieces.
    marks: Vec<Vec<u64>>,
    number: usize,
}

enum Node {
    All(Vec<Node>),
    Any(Vec<Node>),
    Not(Box<Node>),
    Leaf(Box<Leaf>),
}

/// A filter for one table. Used by many threads; what one remembers is in [`Memory`].
pub struct Compiled {
    root: Node,
}

/// Which texts of a dictionary are wanted.
type Answer = (Arc<Dict>, Arc<Vec<bool>>);

/// What dictionaries were found to have, so that they are asked once.
#[derive(Default)]
pub struct Memory {
    found: HashMap<(usize, usize), Answer>,
}

struct Compiler<'a> {
    table: &'a Table,
    parts: usize,
}

impl Compiled {
    pub fn new(filter: &Filter, table: &Table) -> Result<Self, BadFilter> {
        Ok(Self { root: Compiler { table, parts: 0 }.node(filter, 0)? })
    }

    /// Takes from the rows that are wanted those that the filter does not take.
    pub fn narrow(
        &self,
        source: &mut dyn Source,
        memory: &mut Memory,
        wanted: &mut [bool],
    ) -> Result<(), Fault> {
        self.root.narrow(source, memory, wanted)
    }

    /// Whether there may be a row that the filter takes.
    pub fn may(&self, known: &mut impl Known, memory: &mut Memory) -> Result<bool, Fault> {
        self.root.may(known, memory)
    }
}

impl Compiler<'_> {
    fn node(&mut self, filter: &Filter, depth: usize) -> Result<Node, BadFilter> {
        self.parts += 1;
        if depth > DEPTH_MAX || self.parts > PARTS_MAX {
            return Err(BadFilter::Long(PARTS_MAX, DEPTH_MAX));
        }
        Ok(match filter {
            Filter::All(all) => {
                let mut all = self.nodes(all, depth)?;
                all.sort_by_key(Node::cost);
                Node::All(all)
            }
            Filter::Any(any) => Node::Any(self.nodes(any, depth)?),
            Filter::Not(not) => Node::Not(Box::new(self.node(not, depth + 1)?)),
            Filter::Compare(column, Op::Ne, value) => {
                Node::Not(Box::new(self.compare(column, Op::Eq, value)?))
            }
            Filter::Compare(column, op, value) => self.compare(column, *op, value)?,
            Filter::In(column, values) => {
                self.parts += values.len();
                if self.parts > PARTS_MAX {
                    return Err(BadFilter::Long(PARTS_MAX, DEPTH_MAX));
                }
                self.one_of(column, values)?
            }
            Filter::Missing(column) => {
                let (place, kind) = self.column(column)?;
                self.leaf(place, kind, Test::Missing, Vec::new())
            }
            Filter::Contains { column, text, ignore_case } => {
                let (place, kind) = self.text_column(column)?;
                let needle = if *ignore_case { text.to_ascii_lowercase() } else { text.clone() };
                let marks = vec![grams::marks_within(text.as_bytes())];
                let finder = Finder::new(needle.as_bytes()).into_owned();
                self.leaf(place, kind, Test::Texts(Texts::Contains(Box::new(finder), *ignore_case)), marks)
            }
            Filter::Matches(column, expression) => {
                let (place, kind) = self.text_column(column)?;
                let expression = compile(expression)?;
                self.leaf(place, kind, Test::Texts(Texts::Matches(Box::new(expression))), Vec::new())
            }
            Filter::Entry { column, key, value } => {
                let (place, kind) = self.column(column)?;
                if kind != Kind::Map {
                    return Err(BadFilter::Kind { column: column.clone(), kind });
                }
                let test = Test::Entry(key.clone().into_bytes(), value.clone().into_bytes());
                self.leaf(place, kind, test, Vec::new())
            }
        })
    }

    fn nodes(&mut self, filters: &[Filter], depth: usize) -> Result<Vec<Node>, BadFilter> {
        filters.iter().map(|filter| self.node(filter, depth + 1)).collect()
    }

    fn column(&self, name: &str) -> Result<(usize, Kind), BadFilter> {
        let place = self.table.column(name);
        place.map(|place| (place, self.table.columns[place].kind)).ok_or_else(|| BadFilter::Column {
            table: self.table.name.clone(),
            column: name.chars().take(100).collect(),
        })
    }

    fn text_column(&self, name: &str) -> Result<(usize, Kind), BadFilter> {
        let (place, kind) = self.column(name)?;
        if !matches!(kind, Kind::Text | Kind::Dict) {
            return Err(BadFilter::Kind { column: name.to_owned(), kind });
        }
        Ok((place, kind))
    }

    fn leaf(&self, column: usize, kind: Kind, test: Test, marks: Vec<Vec<u64>>) -> Node {
        // A part without a mark may be anywhere.
        let marks = if marks.iter().any(Vec::is_empty) { Vec::new() } else { marks };
        Node::Leaf(Box::new(Leaf { column, kind, test, marks, number: self.parts }))
    }

    fn compare(&mut self, column: &str, op: Op, value: &Scalar) -> Result<Node, BadFilter> {
        if op == Op::Eq {
            return self.one_of(column, std::slice::from_ref(value));
        }
        let (place, kind) = self.column(column)?;
        let bad = || BadFilter::Kind { column: column.to_owned(), kind };
        let test = match (kind, value) {
            (Kind::Text | Kind::Dict, Scalar::Text(text)) => {
                let text = text.clone().into_bytes();
                Test::Texts(match op {
                    Op::Lt => Texts::Below(text, false),
                    Op::Le => Texts::Below(text, true),
                    Op::Gt => Texts::Above(text, false),
                    _ => Texts::Above(text, true),
                })
            }
            _ if kind.is_number() => {
                Test::Numbers(range(kind, op, value).ok_or_else(bad)?.into_iter().collect())
            }
            _ => return Err(bad()),
        };
        Ok(self.leaf(place, kind, test, Vec::new()))
    }

    fn one_of(&mut self, column: &str, values: &[Scalar]) -> Result<Node, BadFilter> {
        let (place, kind) = self.column(column)?;
        let bad = || BadFilter::Kind { column: column.to_owned(), kind };
        let mut marks = Vec::new();
        let test = if kind.is_number() {
            let mut ranges = Vec::new();
            for value in values {
                ranges.extend(range(kind, Op::Eq, value).ok_or_else(bad)?);
            }
            Test::Numbers(ranges)
        } else {
            let mut all = Vec::new();
            for value in values {
                match (kind, value) {
                    (Kind::Text | Kind::Dict, Scalar::Text(text)) => {
                        marks.push(grams::marks_within(text.as_bytes()));
                        all.push(text.clone().into_bytes());
                    }
                    (Kind::Fixed8 | Kind::Fixed16, Scalar::Bytes(bytes)) => {
                        marks.push(grams::marks_of(bytes).to_vec());
                        all.push(bytes.clone());
                    }
                    _ => return Err(bad()),
                }
            }
            if kind.fixed().is_some() { Test::Bytes(all) } else { Test::Texts(Texts::In(all)) }
        };
        Ok(self.leaf(place, kind, test, marks))
    }
}

/// The ordered numbers that are so, both ends included; `Some(None)` if there are none, `None` if they cannot be compared.
#[expect(clippy::option_option, reason = "the outer one is an error")]
fn range(kind: Kind, op: Op, value: &Scalar) -> Option<Option<(i64, i64)>> {
    let (low, high, least, most) = if kind == Kind::F64 {
        let value = match value {
            Scalar::Float(value) => *value,
            Scalar::Signed(value) => *value as f64,
            Scalar::Unsigned(value) => *value as f64,
            _ => return None,
        };
        if value.is_nan() {
            return Some(None);
        }
        let key = |value: f64| i128::from(ordered(kind, value.to_bits() as i64));
        // Both zeros are the same number.
        let (low, high) = if value == 0.0 { (key(-0.0), key(0.0)) } else { (key(value), key(value)) };
        (low, high, key(f64::NEG_INFINITY), key(f64::INFINITY))
    } else {
        let value = match (kind, value) {
            (Kind::Bool, Scalar::Bool(value)) => i128::from(*value),
            (Kind::Bool, _) => return None,
            (_, Scalar::Signed(value)) => i128::from(*value),
            (_, Scalar::Unsigned(value)) => i128::from(*value),
            _ => return None,
        };
        let (least, most) = match kind {
            Kind::Bool => (0, 1),
            Kind::U16 => (0, i128::from(u16::MAX)),
            Kind::U32 => (0, i128::from(u32::MAX)),
            Kind::U64 => (0, i128::from(u64::MAX)),
            _ => (i128::from(i64::MIN), i128::from(i64::MAX)),
        };
        // The order of numbers without a sign begins at the least one with a sign.
        let base = if kind == Kind::U64 { 1 << 63 } else { 0 };
        (value - base, value - base, least - base, most - base)
    };
    let (from, to) = match op {
        Op::Eq | Op::Ne => (low, high),
        Op::Lt => (least, low - 1),
        Op::Le => (least, high),
        Op::Gt => (high + 1, most),
        Op::Ge => (low, most),
    };
    let (from, to) = (from.max(least), to.min(most));
    Some((from <= to).then_some((from as i64, to as i64)))
}

fn compile(expression: &str) -> Result<Regex, BadFilter> {
    let bad = |why: String| BadFilter::Expression { expression: expression.chars().take(200).collect(), why };
    if expression.len() > EXPRESSION_MAX {
        return Err(bad(format!("it has {} bytes, at most {EXPRESSION_MAX} are taken", expression.len())));
    }
    Regex::builder()
        .syntax(syntax::Config::new().unicode(false).utf8(false).dot_matches_new_line(true))
        .configure(Regex::config().nfa_size_limit(Some(COMPILED_MAX)).utf8_empty(false))
        .build(expression)
        .map_err(|error| {
            let mut why = error.to_string();
            let mut cause = std::error::Error::source(&error);
            while let Some(one) = cause {
                why = one.to_string();
                cause = one.source();
            }
            bad(why.lines().last().unwrap_or_default().trim().to_owned())
        })
}

impl Node {
    /// What is cheap is asked first.
    fn cost(&self) -> usize {
        match self {
            Self::All(nodes) | Self::Any(nodes) => nodes.iter().map(Self::cost).max().unwrap_or_default(),
            Self::Not(node) => node.cost(),
            Self::Leaf(leaf) => match (&leaf.test, leaf.kind) {
                (Test::Missing | Test::Numbers(_), _) => 0,
                (_, Kind::Dict) => 1,
                (Test::Bytes(_), _) => 2,
                (Test::Texts(Texts::Matches(_)), _) => 5,
                (Test::Texts(_), _) => 4,
                (Test::Entry(..), _) => 3,
            },
        }
    }

    fn narrow(&self, source: &mut dyn Source, memory: &mut Memory, wanted: &mut [bool]) -> Result<(), Fault> {
        match self {
            Self::All(all) => {
                for node in all {
                    if !wanted.contains(&true) {
                        break;
                    }
                    node.narrow(source, memory, wanted)?;
                }
            }
            Self::Any(any) => {
                let mut found = vec![false; wanted.len()];
                let mut left = wanted.to_vec();
                for node in any {
                    let mut here = left.clone();
                    node.narrow(source, memory, &mut here)?;
                    for ((found, left), here) in found.iter_mut().zip(&mut left).zip(here) {
                        *found |= here;
                        *left &= !here;
                    }
                }
                wanted.copy_from_slice(&found);
            }
            Self::Not(node) => {
                let mut here = wanted.to_vec();
                node.narrow(source, memory, &mut here)?;
                wanted.iter_mut().zip(here).for_each(|(wanted, here)| *wanted &= !here);
            }
            Self::Leaf(leaf) => leaf.narrow(source.column(leaf.column)?, memory, wanted),
        }
        Ok(())
    }

    fn may(&self, known: &mut impl Known, memory: &mut Memory) -> Result<bool, Fault> {
        match self {
            Self::All(all) => {
                for node in all {
                    if !node.may(known, memory)? {
                        return Ok(false);
                    }
                }
                Ok(true)
            }
            Self::Any(any) => {
                for node in any {
                    if node.may(known, memory)? {
                        return Ok(true);
                    }
                }
                Ok(false)
            }
            Self::Not(_) => Ok(true),
            Self::Leaf(leaf) => leaf.may(known, memory),
        }
    }
}

impl Leaf {
    fn may(&self, known: &mut impl Known, memory: &mut Memory) -> Result<bool, Fault> {
        if matches!(self.test, Test::Missing) {
            return Ok(true);
        }
        if known.is_missing(self.column) {
            return Ok(false);
        }
        match &self.test {
            Test::Numbers(ranges) => Ok(known
                .span(self.column)
                .is_none_or(|(least, most)| ranges.iter().any(|(from, to)| *from <= most && *to >= least))),
            Test::Texts(texts) if self.kind == Kind::Dict => match known.dict(self.column)? {
                Some(dict) => Ok(memory.ask(self.number, &dict, texts).contains(&true)),
                None => Ok(true),
            },
            _ => {
                for marks in &self.marks {
                    if known.may_have(self.column, marks)? {
                        return Ok(true);
                    }
                }
                Ok(self.marks.is_empty())
            }
        }
    }

    fn narrow(&self, vector: &Vector, memory: &mut Memory, wanted: &mut [bool]) {
        match (&self.test, &vector.data) {
            (Test::Missing, _) => {
                wanted.iter_mut().enumerate().for_each(|(row, wanted)| *wanted &= vector.is_null(row));
                return;
            }
            (Test::Numbers(ranges), Data::Number(numbers)) => {
                if let [(from, to)] = ranges[..] {
                    for (wanted, number) in wanted.iter_mut().zip(numbers) {
                        let number = ordered(self.kind, *number);
                        *wanted &= from <= number && number <= to;
                    }
                } else {
                    for (wanted, number) in wanted.iter_mut().zip(numbers) {
                        let number = ordered(self.kind, *number);
                        *wanted &= ranges.iter().any(|(from, to)| *from <= number && number <= *to);
                    }
                }
            }
            (Test::Bytes(any), Data::Fixed(width, bytes)) => {
                for (wanted, value) in wanted.iter_mut().zip(bytes.chunks_exact(*width)) {
                    *wanted &= any.iter().any(|one| one == value);
                }
            }
            (Test::Texts(texts), Data::Dict(codes, dict)) => {
                let found = memory.ask(self.number, dict, texts);
                for (wanted, code) in wanted.iter_mut().zip(codes) {
                    *wanted &= found.get(*code as usize) == Some(&true);
                }
            }
            (Test::Texts(test), Data::Text(texts)) => test.narrow(texts, wanted),
            (Test::Entry(key, value), Data::Map(ends, names, texts)) => {
                let mut start = 0;
                for (wanted, end) in wanted.iter_mut().zip(ends) {
                    let first = (start..*end).find(|at| names.get(*at as usize) == key);
                    *wanted &= first.is_some_and(|at| texts.get(at as usize) == value);
                    start = *end;
                }
            }
            _ => wanted.fill(false),
        }
        if !vector.nulls.is_empty() {
            wanted.iter_mut().zip(&vector.nulls).for_each(|(wanted, is_null)| *wanted &= !is_null);
        }
    }
}

impl Memory {
    fn ask(&mut self, number: usize, dict: &Arc<Dict>, texts: &Texts) -> Arc<Vec<bool>> {
        let key = (number, Arc::as_ptr(dict).addr());
        if let Some((_, found)) = self.found.get(&key) {
            return found.clone();
        }
        if self.found.len() > 256 {
            self.found.clear();
        }
        let mut found = vec![true; dict.texts.len()];
        texts.narrow(&dict.texts, &mut found);
        let found = Arc::new(found);
        // The dictionary is kept, so that no other one can be at its place.
        self.found.insert(key, (dict.clone(), found.clone()));
        found
    }
}

impl Texts {
    fn narrow(&self, texts: &crate::texts::Texts, wanted: &mut [bool]) {
        let mut each = |takes: &dyn Fn(&[u8]) -> bool| {
            for (row, wanted) in wanted.iter_mut().enumerate().filter(|(_, wanted)| **wanted) {
                *wanted = takes(texts.get(row));
            }
        };
        match self {
            Self::In(any) => each(&|text| any.iter().any(|one| one == text)),
            Self::Below(most, or_equal) => each(&|text| text < &most[..] || (*or_equal && text == most)),
            Self::Above(least, or_equal) => each(&|text| text > &least[..] || (*or_equal && text == least)),
            Self::Matches(expression) => each(&|text| expression.is_match(text)),
            Self::Contains(finder, ignore_case) => contains(texts, finder, *ignore_case, wanted),
        }
    }
}

/// Looks through all texts at once, which is faster than through each: they stand one behind the other.
fn contains(texts: &crate::texts::Texts, finder: &Finder, ignore_case: bool, wanted: &mut [bool]) {
    let length = finder.needle().len();
    if length == 0 {
        return;
    }
    let bytes: Cow<[u8]> =
        if ignore_case { texts.bytes.to_ascii_lowercase().into() } else { (&texts.bytes[..]).into() };
    let (mut at, mut row) = (0, 0);
    while let Some(found) = finder.find(&bytes[at..]) {
        let begin = at + found;
        while texts.ends.get(row).is_some_and(|end| *end as usize <= begin) {
            if let Some(wanted) = wanted.get_mut(row) {
                *wanted = false;
            }
            row += 1;
        }
        let Some(end) = texts.ends.get(row).map(|end| *end as usize) else { break };
        if begin + length <= end {
            // This one stays as wanted as it was.
            row += 1;
            at = end;
        } else {
            // Half of it is in the next text.
            at = begin + 1;
        }
    }
    wanted.iter_mut().skip(row).for_each(|wanted| *wanted = false);
}
