//! A set of rules as it runs: flat lists, and numbers instead of names.

use std::collections::HashMap;
use std::ops::Range;

use crate::bytes::Presence;
use crate::operator::{ByteRange, Comparison, Expression, IpSet, Phrases};
use crate::seclang::{Allow, BodyProcessor, Collection, Mode};
use crate::transform::Transformation;

/// How many collections there are.
pub(crate) const COLLECTIONS: usize = Collection::Xml as usize + 1;

/// What can be changed by rules: a variable of `TX`, or of a collection that lasts.
pub(crate) type Variable = (Collection, Box<[u8]>);

/// Rules that are ready to run.
#[derive(Debug, Default)]
pub(crate) struct Program {
    /// For each phase the rules in their order.
    pub phases: [Vec<u32>; 5],
    pub rules: Vec<Rule>,
    pub links: Vec<Link>,
    pub selections: Vec<Selection>,
    /// The first one changes nothing.
    pub chains: Vec<Chain>,
    pub views: Vec<View>,
    pub expressions: Vec<Expression>,
    pub phrases: Vec<Phrases>,
    pub addresses: Vec<IpSet>,
    pub ranges: Vec<ByteRange>,
    pub templates: Vec<Template>,
    /// Texts that stand in the rules, one behind the other; they are the first bytes of each request's memory.
    pub constants: Vec<u8>,
    /// Where each of them is, and which bytes it has.
    pub constant_cells: Vec<Cell>,
    /// Variables whose names stand in the rules; a variable's place is its slot.
    pub slots: Vec<Variable>,
    pub slot_of: HashMap<Variable, u32>,
    pub settings: Settings,
    /// What rules look at of that which is only there if they do.
    pub used: Vec<Collection>,
}

impl Program {
    /// Whether a rule looks at a collection that costs something to fill.
    pub fn uses(&self, collection: Collection) -> bool {
        self.used.contains(&collection)
    }
}

/// What is set for all requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// Whether rules block.
    pub mode: Mode,
    /// Bytes of a request's body that are looked at.
    pub request_body_limit: usize,
    /// Bytes of a response's body that are looked at.
    pub response_body_limit: usize,
    /// Whether bodies of requests are looked at, until a rule says otherwise.
    pub request_body: bool,
    /// Whether bodies of responses are looked at, until a rule says otherwise.
    pub response_body: bool,
    /// Arguments of one request.
    pub arguments: usize,
    /// Levels of a JSON or XML body.
    pub depth: usize,
    /// What stands between arguments.
    pub separator: u8,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            mode: Mode::On,
            request_body_limit: 1024 * 1024,
            response_body_limit: 512 * 1024,
            request_body: true,
            response_body: false,
            arguments: 1000,
            depth: 100,
            separator: b'&',
        }
    }
}

/// A text in the memory of a request.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Cell {
    pub start: u32,
    pub len: u32,
    /// Where the results of its transformations are; [`NONE`] until somebody asks for one.
    pub row: u32,
    pub presence: Presence,
}

/// No number.
pub(crate) const NONE: u32 = u32::MAX;

#[derive(Debug)]
pub(crate) struct Rule {
    pub id: u32,
    pub phase: u8,
    pub links: Range<u32>,
    pub disruptive: Disruptive,
    pub status: u16,
    /// Whether a match is written down.
    pub log: bool,
    pub severity: Option<u8>,
    pub msg: Option<u32>,
    pub tags: Vec<u32>,
    /// Where to go on after a match, as a place in the phase; [`NONE`] for the next rule.
    pub then: u32,
    pub file: std::sync::Arc<str>,
    pub line: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Disruptive {
    Pass,
    Deny,
    Drop,
    Allow(Allow),
    /// To where, as a template.
    Redirect(u32),
}

/// One condition of a rule, and what is done whenever it holds.
#[derive(Debug)]
pub(crate) struct Link {
    /// What it looks at; `None` for `SecAction`.
    pub view: Option<u32>,
    /// The one variable that it looks at and nothing else, and whether what counts is that it is there.
    pub slot: Option<(u32, bool)>,
    pub operator: Operator,
    pub negated: bool,
    pub capture: bool,
    /// With `multiMatch`: what is asked one after the other, the last being that of `view`.
    pub each: Vec<u32>,
    pub sets: Vec<SetVar>,
    pub controls: Vec<Control>,
    pub log_data: Option<u32>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Operator {
    Unconditional,
    Never,
    Expression(u32),
    Phrases(u32),
    Sqli,
    Xss,
    Command,
    InnerAddress,
    ByteRange(u32),
    UrlEncoding,
    Utf8,
    Address(u32),
    Compare(Comparison, u32),
    BeginsWith(u32),
    EndsWith(u32),
    Contains(u32),
    ContainsWord(u32),
    StrEq(u32),
    Within(u32),
    /// An expression that finds candidates, and what a candidate has to be.
    Verify(u32, Verify),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verify {
    Cc,
    Cpf,
    Ssn,
    Svnr,
}

/// Which values are looked at.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Selection {
    pub picks: Vec<Pick>,
    pub excepts: Vec<Pick>,
    /// Whether rules can change what it gives, so that it has to be asked anew each time.
    pub changes: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Pick {
    pub collection: Collection,
    pub key: Key,
    pub count: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Key {
    All,
    /// In small letters.
    Name(Box<[u8]>),
    /// A variable that rules set.
    Slot(u32),
    /// An expression.
    Matching(u32),
}

/// A transformation behind another chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Chain {
    pub before: u32,
    /// `None` for the first chain alone.
    pub last: Option<Transformation>,
}

/// A selection through a chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct View {
    pub selection: u32,
    pub chain: u32,
    /// The same selection through no transformation; [`NONE`] for one that is that already.
    pub plain: u32,
}

/// Text with variables in it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Template {
    /// Nothing but text: a constant.
    Constant(u32),
    Mixed(Vec<Piece>),
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Piece {
    Plain(Box<[u8]>),
    Slot(u32),
    /// The first value of a collection, or the one of this name in small letters.
    Value(Collection, Option<Box<[u8]>>),
}

#[derive(Debug, Clone)]
pub(crate) struct SetVar {
    pub name: Name,
    pub change: Change,
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum Name {
    Slot(u32),
    /// Put together while the rule runs.
    Made(Collection, u32),
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum Change {
    /// A whole number, as its text says.
    ToNumber(i64),
    To(u32),
    AddNumber(i64),
    Add(u32),
    Subtract(u32),
    Unset,
}

#[derive(Debug, Clone)]
pub(crate) enum Control {
    RemoveRules(Box<[u32]>),
    /// What these rules do not look at.
    RemoveTarget(Box<[u32]>, Pick),
    Processor(BodyProcessor),
    ForceBody(bool),
    RequestBody(bool),
    ResponseBody(bool),
    RequestBodyLimit(u64),
    ResponseBodyLimit(u64),
    Mode(Mode),
}
