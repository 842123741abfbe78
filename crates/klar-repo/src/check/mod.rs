//! Whether a repository is whole: every object is what it was when it was written, and everything that a snapshot needs
//! is there.
//!
//! ```text
//! config, keys, locks ─► snapshots ─► indexes ─► packs as listed ─► trees ─► data ─► which snapshots are hurt
//! ```
//!
//! Snapshots are listed before indexes, and those before packs: what a backup adds meanwhile is never missed.

mod data;
mod hurt;
mod structure;

use std::collections::HashMap;
use std::fmt;

use crate::index::{BlobKind, Index, Place};
use crate::{Id, LockError, LockKind, Object, Reader, Repository, Snapshot};

/// How much of the data is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CheckData {
    /// Nothing but folders: whether all is there, not whether it is undamaged.
    None,
    /// One of so many shares of the packs. `n` may be a counter, of weeks for example: after `of` checks in a row all
    /// has been read.
    Share {
        /// Which.
        n: u32,
        /// Of how many.
        of: u32,
    },
    /// Everything.
    All,
}

/// What is being looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CheckStep {
    /// Snapshots, by number.
    Snapshots,
    /// Indexes, by number.
    Indexes,
    /// The folders of snapshots, by number of snapshots.
    Trees,
    /// Packs, by their bytes.
    Data,
    /// What is damaged is sought in all snapshots, by their number.
    Hurt,
}

/// How far a check is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CheckProgress {
    /// At what.
    pub step: CheckStep,
    /// So much is done.
    pub done: u64,
    /// Of so much.
    pub of: u64,
}

/// What is wrong with a repository.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CheckReport {
    /// The first thousand. None: it is whole, as far as it was looked at.
    pub problems: Vec<Problem>,
    /// So many more there are.
    pub more: u64,
    /// Packs that no index names: a backup that was killed leaves them, and one that is on its way has them. They are
    /// no problem, and the next prunes remove them.
    pub unnamed: u64,
    /// Bytes in those.
    pub unnamed_bytes: u64,
    /// Snapshots that were looked at.
    pub snapshots: u64,
    /// Packs that the indexes name.
    pub packs: u64,
    /// Blobs that they name.
    pub blobs: u64,
    /// Bytes of packs that were read.
    pub read: u64,
}

impl CheckReport {
    /// Whether nothing is wrong.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.problems.is_empty()
    }
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// With what.
    pub with: Subject,
    /// What is wrong with it.
    pub why: String,
    /// Snapshots that cannot be restored as a whole because of it, the newest hundred. None: nothing that a snapshot
    /// needs is lost.
    pub hurts: Vec<Hurt>,
    /// So many more there are.
    pub more: u64,
}

/// What a problem is with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Subject {
    /// An object.
    Object(Object),
    /// All objects of a folder: it cannot be listed.
    Folder(&'static str),
    /// A piece of a file, wherever it is.
    Blob(Id),
    /// A folder of a snapshot, wherever it is.
    Tree(Id),
    /// The repository: nothing was looked at.
    Repository,
}

/// A snapshot that is hurt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hurt {
    /// Which.
    pub snapshot: Id,
    /// When it was begun; nothing, where nobody can say any more.
    pub time: Option<jiff::Timestamp>,
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Subject::Object(object) => write!(f, "{object}"),
            Subject::Folder(name) => write!(f, "{name}/"),
            Subject::Blob(id) => write!(f, "blob {id}"),
            Subject::Tree(id) => write!(f, "tree {id}"),
            Subject::Repository => f.write_str("the repository"),
        }
    }
}

impl fmt::Display for Hurt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.time {
            Some(time) => write!(f, "{} of {time:.0}", self.snapshot.short()),
            None => f.write_str(&self.snapshot.short()),
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.with, self.why)?;
        for (at, hurt) in self.hurts.iter().enumerate() {
            let before = if at == 0 { "; it hurts snapshot" } else { "," };
            write!(f, "{before} {hurt}")?;
        }
        if self.more > 0 {
            write!(f, " and {} more", self.more)?;
        }
        Ok(())
    }
}

const PROBLEMS_MAX: usize = 1000;
const HURTS_MAX: usize = 100;

/// A pack with something wrong.
struct Bad {
    /// As it is reported, where there was room for it.
    problem: Option<usize>,
    /// From here on nothing is there.
    end: u64,
    /// Where damaged blobs begin.
    offsets: Vec<u32>,
}

impl Bad {
    fn has(&self, place: Place) -> bool {
        u64::from(place.offset) + u64::from(place.length) > self.end || self.offsets.contains(&place.offset)
    }
}

struct Check<'a> {
    repository: &'a Repository,
    progress: &'a mut dyn FnMut(CheckProgress),
    report: CheckReport,
    snapshots: Vec<Snapshot>,
    reader: Reader,
    /// Indexes that cannot be read: what is missing may be in them.
    bad_indexes: Vec<usize>,
    bad_packs: HashMap<u32, Bad>,
    /// Blobs that no index knows.
    missing: HashMap<(BlobKind, Id), Option<usize>>,
    /// Trees that cannot be read, or say what cannot be.
    bad_trees: HashMap<Id, Vec<usize>>,
}

pub(crate) fn run(
    repository: &Repository,
    data: CheckData,
    progress: &mut dyn FnMut(CheckProgress),
) -> CheckReport {
    let mut check = Check {
        repository,
        progress,
        report: CheckReport::default(),
        snapshots: Vec::new(),
        reader: Reader::of(repository, Index::new()),
        bad_indexes: Vec::new(),
        bad_packs: HashMap::new(),
        missing: HashMap::new(),
        bad_trees: HashMap::new(),
    };
    // Where nothing can be written (a disk that is only read, a key that may only read) it goes without.
    let _lock = match repository.lock(LockKind::Shared) {
        Err(error @ LockError::Held { .. }) => {
            check.problem(Subject::Repository, format!("it was not checked: {error}"));
            return check.report;
        }
        lock => lock.ok(),
    };
    check.frame();
    check.snapshots();
    check.indexes();
    check.packs();
    check.trees();
    check.data(data);
    check.hurt();
    check.report
}

impl Check<'_> {
    /// Takes a problem down. Gives its number, where there is room for it.
    fn problem(&mut self, with: Subject, why: String) -> Option<usize> {
        let problems = &mut self.report.problems;
        if problems.len() >= PROBLEMS_MAX {
            self.report.more += 1;
            return None;
        }
        problems.push(Problem { with, why, hurts: Vec::new(), more: 0 });
        Some(problems.len() - 1)
    }

    fn said(&mut self, step: CheckStep, done: u64, of: u64) {
        (self.progress)(CheckProgress { step, done, of });
    }

    fn index(&self) -> &Index {
        self.reader.index()
    }
}
