//! A set of rules as it runs: flat lists, and numbers instead of names.

use std::collections::HashMap;
use std::ops::Range;

use crate::bytes::Presence;
use crate::engine::Kept;
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
    /// For expressions that choose variables by their names, by place: the slots they choose of all collections.
    pub members: Vec<Option<Box<[u32]>>>,
    /// What each of them is when a request begins.
    pub initial: Vec<Kept>,
    pub settings: Settings,
    pub watch: Watch,
    /// Tells it from every other program of this process; never 0.
    pub number: u64,
    /// What rules look at of that which is only there if they do.
    pub used: Vec<Collection>,
    /// Whether every question is asked in full, to compare with what is decided at a glance.
    #[cfg(test)]
    pub is_plain: bool,
}

impl Program {
    /// Whether a rule looks at a collection that costs something to fill.
    pub fn uses(&self, collection: Collection) -> bool {
        self.used.contains(&collection)
    }

    /// Whether no question is decided at a glance. So it is for comparisons in tests alone.
    #[cfg(test)]
    pub fn asks_in_full(&self) -> bool {
        self.is_plain
    }

    /// Whether no question is decided at a glance. So it is for comparisons in tests alone.
    #[cfg(not(test))]
    #[allow(clippy::unused_self)]
    pub const fn asks_in_full(&self) -> bool {
        false
    }

    /// The number of the rule that a bit stands for.
    pub fn rule_of(&self, bit: u32) -> u32 {
        let of_link = self.watch.also.iter().find(|(_, link)| *link == bit);
        let bit = of_link.map_or(bit, |(rule, _)| *rule);
        let phase = self.watch.bases.iter().rposition(|base| base * 64 <= bit).unwrap_or_default();
        let base = self.watch.bases.get(phase).map_or(0, |base| base * 64);
        let rule = self.phases.get(phase).and_then(|rules| rules.get((bit - base) as usize));
        rule.and_then(|rule| self.rules.get(*rule as usize)).map_or(0, |rule| rule.id)
    }

    /// What a template begins with, whatever the request holds.
    pub fn begins_with(&self, template: u32) -> &[u8] {
        match self.templates.get(template as usize) {
            Some(Template::Constant(cell)) => self.constant(*cell),
            Some(Template::Mixed(pieces)) => match pieces.first() {
                Some(Piece::Plain(text)) => text,
                _ => b"",
            },
            None => b"",
        }
    }

    /// A text that stands in the rules.
    pub fn constant(&self, cell: u32) -> &[u8] {
        let Some(cell) = self.constant_cells.get(cell as usize) else { return &[] };
        self.constants.get(cell.start as usize..(cell.start + cell.len) as usize).unwrap_or_default()
    }
}

/// Which rules a value can concern, by where it stands.
///
/// A link that looks at values as they came, and asks each of them something that depends on nothing else, holds only if
/// one of them says so. A rule with such a link sleeps until a value wakes it, and where it has several, each of them.
#[derive(Debug, Default)]
pub(crate) struct Watch {
    /// A bit for each group of collections that somebody looks at.
    pub groups: u128,
    /// By group.
    pub kinds: Vec<Kind>,
    pub classes: Vec<Class>,
    pub questions: Vec<Question>,
    /// What has the last word of some of them.
    pub relays: Vec<Relay>,
    /// Rules to wake, as bits.
    pub wakes: Vec<u32>,
    /// Where the bits of each phase begin, in words, and where the last ends.
    pub bases: [u32; 6],
    /// Rules that never sleep. Behind those of the rules are bits of links.
    pub always: Vec<u64>,
    /// Rules of which more than one link has to be woken: the bit of the rule, and that of another link. In order.
    pub also: Vec<(u32, u32)>,
}

/// What the members of a group of collections are asked, by their names.
#[derive(Debug, Default)]
pub(crate) struct Kind {
    /// Members without a name that rules know.
    pub others: u32,
    /// Names in small letters, the shortest first.
    pub named: Vec<(Box<[u8]>, u32)>,
}

/// What a value is asked.
#[derive(Debug, Default, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Class {
    /// Chains, with the questions that are asked of what they give.
    pub chains: Vec<(u32, Range<u32>)>,
}

/// What is asked of a value, whatever else the request holds.
#[derive(Debug, Clone)]
pub(crate) struct Question {
    pub operator: Operator,
    pub negated: bool,
    /// Shorter values, in bytes, are answered with no. So are those that have no byte of a set: the rarest that there is.
    pub min_len: u32,
    pub needs: Option<Presence>,
    /// Whom the answer wakes.
    pub wakes: Range<u32>,
    /// Who has the last word where the answer is yes; [`NONE`] if nobody.
    pub relay: u32,
}

/// A rule of two links, the first of which only hands on what it finds, in variables that no other rule sees:
///
/// ```text
/// SecRule REQUEST_HEADERS_NAMES "@rx ^.*$" "capture,setvar:'tx.header_name_%{tx.0}=/%{tx.0}/',chain"
///     SecRule TX:/^header_name_/ "@within %{tx.restricted_headers}"
/// ```
///
/// Each value can be asked by itself whether the second link would hold for what the first makes of it.
#[derive(Debug, Clone)]
pub(crate) struct Relay {
    /// What finds the text that is handed on.
    pub expression: u32,
    /// Name and value of the variable.
    pub name: RelayText,
    pub value: RelayText,
    /// What the second link asks.
    pub operator: Operator,
    pub negated: bool,
    /// Expressions of other rules that choose variables by their names.
    pub seen_by: Box<[u32]>,
    /// The rule.
    pub bit: u32,
}

/// Pieces of a text; `None` is what a relay has found.
pub(crate) type RelayText = Box<[Option<Box<[u8]>>]>;

/// Collections that are filled together: a value is asked once.
pub(crate) const GROUPS: [&[Collection]; 4] = [
    &[Collection::ArgsGet, Collection::Args],
    &[Collection::ArgsGetNames, Collection::ArgsNames],
    &[Collection::ArgsPost, Collection::Args],
    &[Collection::ArgsPostNames, Collection::ArgsNames],
];
const _: () = assert!(COLLECTIONS + GROUPS.len() <= 128, "a group is a bit of a word");

/// What is set for all requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// Whether rules block.
    pub mode: Mode,
    /// Bytes of a request's body that are looked at.
    pub request_body_limit: usize,
    /// Bytes of a request's body that are looked at, those of files not counted. A body that has more is looked at up to
    /// there, `REQBODY_ERROR` and `INBOUND_DATA_ERROR` are 1, and `REQBODY_ERROR_MSG` says why: whether it is refused is
    /// for rules to say, and the rule that comes with ModSecurity (200002) refuses it with 400.
    pub request_body_no_files_limit: usize,
    /// How much work the long values of a request may be, in bytes that are read of them: each transformation and each
    /// question reads all of a value, and what asks about SQL counts its tokens, too. The same request is the same work
    /// each time. One that is more is not judged to its end: `REQBODY_ERROR` is 1 and `REQBODY_ERROR_MSG` says why, and it
    /// is refused with 400 even where no rule says so.
    pub request_work_limit: u64,
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
            request_body_no_files_limit: usize::MAX,
            request_work_limit: u64::MAX,
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
    /// Which bytes it has; `None` until somebody asks.
    pub presence: Option<Presence>,
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
    /// The one thing that it counts, where that is all it looks at.
    pub count: Option<Pick>,
    pub operator: Operator,
    pub negated: bool,
    pub capture: bool,
    /// With `multiMatch`: what is asked one after the other, the last being that of `view`.
    pub each: Vec<u32>,
    pub sets: Vec<SetVar>,
    pub controls: Vec<Control>,
    pub log_data: Option<u32>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Operator {
    Unconditional,
    Never,
    Expression(u32),
    /// An expression that is put together, and whether its groups are kept: an [`Expression`](Self::Expression) once it
    /// is known what stands in it, and a rule that is refused where it is not.
    Pattern(u32, bool),
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

impl Operator {
    /// The text that a value is compared with.
    pub fn argument(self) -> Option<u32> {
        match self {
            Self::Compare(_, template)
            | Self::BeginsWith(template)
            | Self::EndsWith(template)
            | Self::Contains(template)
            | Self::ContainsWord(template)
            | Self::StrEq(template)
            | Self::Within(template)
            | Self::Pattern(template, _) => Some(template),
            _ => None,
        }
    }

    /// In which order questions are asked, so that those of a kind stand together.
    pub fn order(self) -> (u8, u32) {
        match self {
            Self::Unconditional => (0, 0),
            Self::Never => (1, 0),
            Self::ByteRange(at) => (2, at),
            Self::Utf8 => (3, 0),
            Self::UrlEncoding => (4, 0),
            Self::Address(at) => (5, at),
            Self::Compare(_, at) => (6, at),
            Self::StrEq(at) => (7, at),
            Self::BeginsWith(at) => (8, at),
            Self::EndsWith(at) => (9, at),
            Self::Contains(at) => (10, at),
            Self::ContainsWord(at) => (11, at),
            Self::Within(at) => (12, at),
            Self::Expression(at) | Self::Pattern(at, _) => (13, at),
            Self::Phrases(at) => (14, at),
            Self::Xss => (15, 0),
            Self::Sqli => (16, 0),
            Self::Verify(at, _) => (17, at),
            Self::Command => (18, 0),
            Self::InnerAddress => (19, 0),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
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
