//! Takes away what no snapshot needs any more, late and carefully.
//!
//! ```text
//! snapshots ─► trees ─► needed blobs ─► packs that nobody needs ─► marks ─► (later runs) ─► removed
//!                                    └► packs that are mostly unneeded ─► repacked ─► as above
//! ```
//!
//! What a run writes and removes, in this order, so that a kill at any moment leaves a repository that is whole: packs
//! with what is repacked; indexes that name those and leave out what is due; marks; then indexes that were replaced are
//! removed, then packs that are due.
//!
//! **Invariant:** a pack is removed only when two runs before this one found it unneeded, when that was first so long
//! ago as was asked for, and when no snapshot needs it now. A clock that jumps once removes nothing.
//! **Invariant:** nothing is removed without an exclusive lock that was confirmed just before.

mod indexes;
mod marks;
mod needed;
mod repack;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::Duration;

use crate::prune::indexes::Indexes;
pub(crate) use crate::prune::marks::verify as verify_marks;
use crate::prune::marks::{Mark, Marks};
use crate::prune::needed::Needed;
use crate::{Id, Kind, Lock, LockKind, Object, PruneError, Reader, Repository, Snapshot};

/// How a repository is pruned.
#[derive(Debug, Clone, Copy)]
pub struct PruneOptions {
    /// The time, by the clock of the caller.
    pub now: jiff::Timestamp,
    /// How long packs stay after they were first found to be unneeded. Whoever reads or writes without a lock, or whose
    /// lock was lost, has so much time.
    pub delay: Duration,
    /// So many bytes are copied at most, out of packs of which at most half is needed.
    pub max_repack_bytes: u64,
}

/// What became of a prune.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Pruned {
    /// Packs that were removed.
    pub removed: u64,
    /// Bytes of those.
    pub removed_bytes: u64,
    /// Packs that nobody needs, but whose time has not come.
    pub waiting: u64,
    /// Bytes of those.
    pub waiting_bytes: u64,
    /// Packs out of which was copied what is still needed. They are among those that wait.
    pub repacked: u64,
    /// Bytes that were copied.
    pub repacked_bytes: u64,
    /// Bytes that nobody needs, in packs that are needed for something else.
    pub unneeded_bytes: u64,
}

/// What a prune is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PruneStep {
    /// Finds out what is needed, by number of snapshots.
    Needed,
    /// Copies, by bytes.
    Repack,
    /// Removes packs, by number.
    Remove,
}

/// How far a prune is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PruneProgress {
    /// At what.
    pub step: PruneStep,
    /// So much is done.
    pub done: u64,
    /// Of so much.
    pub of: u64,
}

/// A clock that is so far after the newest snapshot is not believed.
const DAYS_MAX: i64 = 40;
/// Runs that must have found a pack unneeded, before the one that removes it.
const RUNS: u32 = 2;
/// After so many failures to remove something no more is tried.
const FAILED_MAX: u64 = 100;
/// Packs that are removed until the lock is confirmed again.
const CONFIRM: usize = 16;

struct Prune<'a> {
    repository: &'a Repository,
    options: PruneOptions,
    progress: &'a mut dyn FnMut(PruneProgress),
    lock: Lock,
    /// All packs there are, and their lengths.
    listed: HashMap<Id, u64>,
    reader: Reader,
    done: Pruned,
}

pub(crate) fn run(
    repository: &Repository,
    options: PruneOptions,
    progress: &mut dyn FnMut(PruneProgress),
) -> Result<Pruned, PruneError> {
    let lock = repository.lock(LockKind::Exclusive)?;
    let snapshots = repository.snapshots()?;
    let marks = Marks::read(repository)?;
    let listed: HashMap<Id, u64> = repository.storage().list(Kind::Pack)?.into_iter().collect();
    if snapshots.is_empty() && listed.is_empty() {
        return Ok(Pruned::default());
    }
    believe(options.now, &snapshots, &marks, repository)?;
    let (indexes, index) = Indexes::read(repository)?;
    let reader = Reader::of(repository, index);
    let mut prune = Prune { repository, options, progress, lock, listed, reader, done: Pruned::default() };
    prune.prune(&snapshots, &marks, indexes)
}

/// Whether the clock can be right.
fn believe(
    now: jiff::Timestamp,
    snapshots: &[Snapshot],
    marks: &Marks,
    repository: &Repository,
) -> Result<(), PruneError> {
    let Some(newest) = snapshots.last() else {
        return Err(PruneError::NoSnapshot { place: repository.storage().place() });
    };
    let snapshot = (format!("snapshot {}", newest.id.short()), newest.time);
    let marks = marks.time.map(|time| ("what the last prune wrote".to_owned(), time));
    if let Some((what, time)) = std::iter::once(snapshot).chain(marks).find(|(_, time)| *time > now) {
        return Err(PruneError::Future { what, time, now });
    }
    if now.duration_since(newest.time) > jiff::SignedDuration::from_hours(24 * DAYS_MAX) {
        return Err(PruneError::LongAgo { time: newest.time, now, days: DAYS_MAX });
    }
    Ok(())
}

impl Prune<'_> {
    fn prune(
        &mut self,
        snapshots: &[Snapshot],
        marks: &Marks,
        indexes: Indexes,
    ) -> Result<Pruned, PruneError> {
        let needed = self.needed(snapshots, &|id| marks.packs.contains_key(&id))?;
        let repacked = self.repack(&needed)?;
        let left = self.unneeded(&needed, &repacked.from, marks);
        let due: BTreeMap<Id, u64> = left
            .iter()
            .filter(|mark| self.is_due(marks.packs.get(&mark.id)))
            .map(|mark| (mark.id, self.listed.get(&mark.id).copied().unwrap_or_default()))
            .collect();
        let index = self.reader.index();
        let is_lost = |number: &u32| !self.listed.contains_key(&index.packs[*number as usize].id);
        let numbers = 0..index.packs.len() as u32;
        let dropped: HashSet<Id> = numbers
            .filter(|number| needed.of(*number) == 0 && is_lost(number))
            .map(|number| index.packs[number as usize].id)
            .chain(due.keys().copied())
            .collect();
        let replaced = indexes.write(self.repository, &dropped, repacked.packs)?;
        marks.write(self.repository, self.options.now, left)?;
        self.lock.confirm()?;
        for id in replaced {
            self.repository.storage().remove(&Object::Stored(Kind::Index, id))?;
        }
        self.remove(due)?;
        Ok(self.done)
    }

    /// All packs that nobody needs, those of now among them, as they are to be marked.
    fn unneeded(&mut self, needed: &Needed, repacked: &HashSet<u32>, marks: &Marks) -> Vec<Mark> {
        let mut left = Vec::new();
        for (id, length) in &self.listed {
            let number = self.reader.index().numbers.get(id);
            if let Some(number) =
                number.filter(|number| needed.of(**number) > 0 && !repacked.contains(number))
            {
                let known = self.reader.index().packs[*number as usize];
                self.done.unneeded_bytes += known.sealed.saturating_sub(needed.of(*number));
                continue;
            }
            let known = marks.packs.get(id);
            left.push(Mark {
                id: *id,
                since: known.map_or(self.options.now, |mark| mark.since),
                runs: known.map_or(0, |mark| mark.runs).saturating_add(1),
            });
            self.done.waiting += 1;
            self.done.waiting_bytes += length;
        }
        left.sort_by_key(|mark| mark.id);
        left
    }

    /// As the runs before have marked it.
    fn is_due(&self, mark: Option<&Mark>) -> bool {
        let delay = jiff::SignedDuration::try_from(self.options.delay).unwrap_or(jiff::SignedDuration::MAX);
        mark.is_some_and(|mark| mark.runs >= RUNS && self.options.now.duration_since(mark.since) >= delay)
    }

    fn remove(&mut self, due: BTreeMap<Id, u64>) -> Result<(), PruneError> {
        let (of, mut failed, mut first) = (due.len() as u64, 0, None);
        for (at, (id, length)) in due.into_iter().enumerate() {
            if at % CONFIRM == 0 {
                self.lock.confirm()?;
            }
            match self.repository.storage().remove(&Object::Stored(Kind::Pack, id)) {
                Ok(()) => {
                    self.done.removed += 1;
                    self.done.removed_bytes += length;
                    self.done.waiting -= 1;
                    self.done.waiting_bytes -= length;
                }
                Err(error) => {
                    failed += 1;
                    first.get_or_insert(error);
                    if failed >= FAILED_MAX {
                        break;
                    }
                }
            }
            (self.progress)(PruneProgress { step: PruneStep::Remove, done: at as u64 + 1, of });
        }
        match first {
            None => Ok(()),
            Some(first) => Err(PruneError::Stuck { failed, of, first }),
        }
    }
}
