//! Runs a program over requests.

pub(crate) mod answers;
mod caches;
mod explain;
mod memory;
mod request;
mod run;
mod sift;
mod verdicts;

#[cfg(test)]
mod fuzz;
#[cfg(test)]
mod tests;

pub use caches::{Caches, Cost};
pub use explain::Request;
pub(crate) use memory::Kept;
pub use memory::Memory;
pub(crate) use run::{has_one, integer};

use crate::compile::{self, Files};
use crate::program::{NONE, Program, Settings};
use crate::seclang::{BodyProcessor, Collection, Mode, Refused, RuleSet};

/// Rules that are ready to judge requests. Threads share it; each has its own [`Caches`].
#[derive(Debug)]
pub struct Waf {
    program: Program,
    /// Where `TX:0` to `TX:9` are, if a rule uses them.
    captures: [Option<u32>; 10],
}

/// What ends a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interruption {
    /// The rule that says so; 0 where it is more work than [`Settings::request_work_limit`] allows and no rule refuses it.
    pub rule: u32,
    place: u32,
    /// The status of the answer.
    pub status: u16,
    /// Whether the connection is closed instead of an answer.
    pub closes: bool,
    /// Where the visitor is sent instead, if that is what the rule does.
    pub location: Option<Vec<u8>>,
    /// Whether the request is stopped; otherwise rules only say what they would have done.
    pub blocks: bool,
}

/// A rule that matched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Matched<'a> {
    /// Its number.
    pub rule: u32,
    /// Which condition of its chain, from 0.
    pub link: u32,
    /// Its phase, from 1 to 5.
    pub phase: u8,
    /// The file it stands in, and its line.
    pub place: (&'a str, u32),
    /// 0 (emergency) to 7 (debug).
    pub severity: Option<u8>,
    /// The collection of the value.
    pub collection: Collection,
    /// The name of the value within it.
    pub name: &'a [u8],
    /// The value as it came.
    pub raw: &'a [u8],
    /// The value as the rule saw it.
    pub value: &'a [u8],
    /// What the rule says of it (`logdata`).
    pub data: &'a [u8],
    /// What the rule is about (`msg`), up to the first variable in it.
    pub message: &'a [u8],
}

/// The head of a request, as it came.
#[derive(Debug, Clone, Copy)]
pub struct Head<'a> {
    /// `GET`.
    pub method: &'a [u8],
    /// The target of the request line.
    pub target: &'a [u8],
    /// `HTTP/1.1`.
    pub protocol: &'a [u8],
    /// Names and values in the order in which they came.
    pub headers: &'a [(&'a [u8], &'a [u8])],
    /// The visitor's address, as text.
    pub remote: &'a [u8],
    /// Tells this request from all others.
    pub unique_id: &'a [u8],
}

/// The head of a response.
#[derive(Debug, Clone, Copy)]
pub struct Answer<'a> {
    /// 200.
    pub status: u16,
    /// `HTTP/1.1`.
    pub protocol: &'a [u8],
    /// Names and values.
    pub headers: &'a [(&'a [u8], &'a [u8])],
}

impl Waf {
    /// Compiles rules. `files` gives the contents of the files that rules name. What cannot be honoured is said; none of
    /// it runs.
    #[must_use]
    pub fn new(set: &RuleSet, files: Files<'_>) -> (Self, Vec<Refused>) {
        Self::of(compile::compile(set, files))
    }

    fn of(compiled: compile::Compiled) -> (Self, Vec<Refused>) {
        let digits: [&[u8]; 10] = [b"0", b"1", b"2", b"3", b"4", b"5", b"6", b"7", b"8", b"9"];
        let captures =
            digits.map(|digit| compiled.program.slot_of.get(&(Collection::Tx, digit.into())).copied());
        (Self { program: compiled.program, captures }, compiled.refused)
    }

    /// What a thread needs beside it.
    #[must_use]
    pub fn caches(&self) -> Caches {
        Caches::new(&self.program)
    }

    /// How many rules there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.program.rules.len()
    }

    /// Whether there is no rule.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.program.rules.is_empty()
    }

    /// What is set for all requests.
    #[must_use]
    pub fn settings(&self) -> &Settings {
        &self.program.settings
    }

    /// Goes on with a request that was put aside, by these same rules.
    #[must_use]
    pub fn resume(&self, paused: Paused) -> Transaction<'_> {
        let Paused { memory, settings, mode, processor, flags, highest_severity, interruption, body_len } =
            paused;
        let [forces_body, is_allowed, is_request_allowed, has_body_beyond, is_begun] = flags;
        Transaction {
            program: &self.program,
            memory,
            capture_slots: self.captures,
            settings,
            mode,
            processor,
            forces_body,
            is_allowed,
            is_request_allowed,
            highest_severity,
            interruption,
            has_body_beyond,
            is_begun,
            body_len,
        }
    }

    /// Begins a request, in memory that may come from another one.
    pub fn begin<'w>(&'w self, mut memory: Box<Memory>) -> Transaction<'w> {
        memory.begin(&self.program);
        Transaction {
            program: &self.program,
            memory,
            capture_slots: self.captures,
            settings: self.program.settings,
            mode: self.program.settings.mode,
            processor: None,
            forces_body: false,
            is_begun: false,
            is_allowed: false,
            is_request_allowed: false,
            highest_severity: 255,
            interruption: None,
            has_body_beyond: false,
            body_len: 0,
        }
    }
}

/// A request that waits for its next bytes or for its answer: without the rules, so that it can be kept.
#[derive(Debug)]
pub struct Paused {
    memory: Box<Memory>,
    settings: Settings,
    mode: Mode,
    processor: Option<BodyProcessor>,
    flags: [bool; 5],
    highest_severity: u8,
    interruption: Option<Interruption>,
    body_len: u64,
}

impl Paused {
    /// Nothing more comes: gives the memory back.
    #[must_use]
    pub fn end(self) -> Box<Memory> {
        self.memory
    }
}

/// One request and its response on their way through the rules.
#[derive(Debug)]
pub struct Transaction<'w> {
    program: &'w Program,
    memory: Box<Memory>,
    capture_slots: [Option<u32>; 10],
    settings: Settings,
    mode: Mode,
    processor: Option<BodyProcessor>,
    forces_body: bool,
    /// Whether phase 1 has been run.
    is_begun: bool,
    is_allowed: bool,
    is_request_allowed: bool,
    highest_severity: u8,
    interruption: Option<Interruption>,
    has_body_beyond: bool,
    body_len: u64,
}

impl Transaction<'_> {
    /// What ends the request, or would.
    #[must_use]
    pub fn interruption(&self) -> Option<&Interruption> {
        self.interruption.as_ref()
    }

    /// Rules that matched and are to be written down, in their order; a rule comes once for each value of each link.
    pub fn matched(&self) -> impl Iterator<Item = Matched<'_>> {
        let (program, memory) = (self.program, &*self.memory);
        memory.hits.iter().filter_map(move |hit| {
            let rule = program.rules.get(hit.rule as usize)?;
            Some(Matched {
                rule: rule.id,
                link: hit.link,
                phase: rule.phase,
                place: (&rule.file, rule.line),
                severity: rule.severity,
                collection: hit.item.collection,
                name: memory.span(hit.item.name),
                raw: if hit.item.raw == NONE { b"" } else { memory.cell(hit.item.raw) },
                value: if hit.item.cell == NONE { b"" } else { memory.cell(hit.item.cell) },
                data: memory.span(hit.data),
                message: rule.msg.map_or(b"", |template| program.begins_with(template)),
            })
        })
    }

    /// From here on, rules only say what they would have done.
    pub fn only_detect(&mut self) {
        if self.mode == Mode::On {
            self.mode = Mode::DetectionOnly;
        }
    }

    /// Whether the body has a format that must hold: a form, JSON, XML or parts, because its type or a rule says so.
    #[must_use]
    pub fn has_format(&self) -> bool {
        self.processor.is_some()
    }

    /// The number in a variable of `TX`, such as a score.
    #[must_use]
    pub fn variable(&self, name: &[u8]) -> Option<i64> {
        let slot = self.program.slot_of.get(&(Collection::Tx, name.into()))?;
        match self.memory.slots.get(*slot as usize)? {
            memory::Kept::Number(number) => Some(*number),
            memory::Kept::Unset | memory::Kept::Cell(_) => None,
        }
    }

    /// What was read of long values so far, in bytes: what [`Settings::request_work_limit`] limits.
    #[must_use]
    pub fn work(&self) -> u64 {
        self.memory.work
    }

    /// Puts it aside, for [`Waf::resume`].
    #[must_use]
    pub fn pause(self) -> Paused {
        Paused {
            settings: self.settings,
            mode: self.mode,
            processor: self.processor,
            flags: [
                self.forces_body,
                self.is_allowed,
                self.is_request_allowed,
                self.has_body_beyond,
                self.is_begun,
            ],
            highest_severity: self.highest_severity,
            interruption: self.interruption,
            body_len: self.body_len,
            memory: self.memory,
        }
    }

    /// Ends it, and gives its memory back.
    #[must_use]
    pub fn end(self) -> Box<Memory> {
        self.memory
    }
}
