//! A batch: whole segments as plain files of one snapshot, so that any `restic` can restore them, and what says so.
//!
//! Segments are put together from their pieces as the repository gives them back, not from the spool: so that the pieces
//! go only after they were read once more, and what the snapshot has is what was shipped.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use jiff::Timestamp;
use klar_repo::{BackupOptions, Id, Metadata, Object, Pieces, Repository};
use klar_store::{KeyId, SigningKey};
use serde::{Deserialize, Serialize};

use crate::lsn::{Lsn, Segment, SegmentSize, Timeline};
use crate::signed;
use crate::wal::chain::Log;
use crate::wal::lay::assemble;
use crate::wal::page::{self, Expected};
use crate::wal::piece::Piece;
use crate::wal::{BATCHES, WalError};

/// Segments of one batch at most: 4 GiB of the usual ones.
const SEGMENTS_MAX: u64 = 256;
/// How long pieces stay after their batch is there, so that whoever has listed them may still read them.
pub const PIECES_STAY: Duration = Duration::from_secs(3600);

/// Which segments.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct BatchName {
    /// Of which timeline.
    pub timeline: Timeline,
    /// The number of the first one.
    pub first: u64,
    /// The number of the last one.
    pub last: u64,
}

/// What a batch says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Batch {
    /// 1.
    pub format: u32,
    /// The cluster.
    pub system: u64,
    /// Of which timeline.
    pub timeline: Timeline,
    /// The number of the first segment.
    pub first: u64,
    /// The number of the last one.
    pub last: u64,
    /// How long each is.
    pub segment_size: SegmentSize,
    /// The snapshot that has them.
    pub snapshot: Id,
    /// The root of its files: a digest over all of them.
    pub tree: Id,
    /// Every commit that was acknowledged until then lies before the end of the last one.
    pub covered: Option<Timestamp>,
    /// When it was made.
    pub made: Timestamp,
}

impl BatchName {
    /// The name of its object.
    #[must_use]
    pub fn name(&self) -> String {
        format!("{BATCHES}{:08X}.{:016X}-{:016X}.json", self.timeline, self.first, self.last)
    }

    /// Reads such a name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        let rest = name.strip_prefix(BATCHES)?.strip_suffix(".json")?;
        let (timeline, numbers) = rest.split_once('.')?;
        let (first, last) = numbers.split_once('-')?;
        let number = |text: &str| u64::from_str_radix(text, 16).ok();
        let timeline = u32::from_str_radix(timeline, 16).ok()?;
        let batch = Self { timeline, first: number(first)?, last: number(last)? };
        (batch.name() == name && batch.first <= batch.last && batch.timeline > 0).then_some(batch)
    }

    /// Whether it has a segment.
    #[must_use]
    pub fn has(&self, segment: Segment) -> bool {
        self.timeline == segment.timeline && (self.first..=self.last).contains(&segment.number)
    }

    /// Reads what it says of itself.
    ///
    /// # Errors
    /// What none of `trusted` has signed, or what does not say what its name says.
    pub fn read(&self, repository: &Repository, trusted: &[KeyId]) -> Result<Batch, WalError> {
        let batch: Batch = signed::read(repository, &self.name(), trusted)?;
        match (batch.timeline, batch.first, batch.last) == (self.timeline, self.first, self.last) {
            true => Ok(batch),
            false => {
                let says =
                    format!("segments {:X} to {:X} of timeline {}", batch.first, batch.last, batch.timeline);
                Err(WalError::Renamed { name: self.name(), says })
            }
        }
    }
}

/// What is due: for each timeline the first run of whole segments that no batch has, with their pieces.
#[must_use]
pub fn due(log: &Log) -> Vec<(BatchName, BTreeMap<Segment, Vec<Piece>>)> {
    let mut due = Vec::new();
    for (timeline, there) in &log.timelines {
        let mut whole: BTreeMap<Segment, Vec<Piece>> = BTreeMap::new();
        for piece in &there.pieces {
            if !there.batches.iter().any(|batch| batch.has(piece.segment)) {
                whole.entry(piece.segment).or_default().push(*piece);
            }
        }
        whole.retain(|_, pieces| {
            let reached =
                pieces.iter().fold(0, |at, piece| if piece.from <= at { at.max(piece.to) } else { at });
            u64::from(reached) == log.size.bytes()
        });
        let Some(first) = whole.keys().next().map(|segment| segment.number) else { continue };
        let run = whole.keys().zip(first..).take_while(|(segment, number)| segment.number == *number);
        let count = run.count() as u64;
        let last = first + count.min(SEGMENTS_MAX) - 1;
        whole.retain(|segment, _| segment.number <= last);
        due.push((BatchName { timeline: *timeline, first, last }, whole));
    }
    due
}

/// Makes all batches that are due; gives how many segments are in batches now that were not before.
///
/// # Errors
/// The first thing that is wrong with a piece; nothing is published then.
pub fn make(
    repository: &Repository,
    log: &Log,
    system: u64,
    key: &SigningKey,
    host: &str,
    now: Timestamp,
) -> Result<u64, WalError> {
    let mut segments = 0;
    for (name, whole) in due(log) {
        segments += whole.len() as u64;
        let lineage = log.lineage(name.timeline);
        let ancestors = lineage.iter().map(|(one, _)| *one).filter(|one| *one != name.timeline).collect();
        let expected = Expected { system, timeline: name.timeline, ancestors, size: log.size };
        let mut backup = repository.backup(BackupOptions {
            host: host.to_owned(),
            path: format!("/wal/{:08X}", name.timeline),
            tags: vec!["klar".into(), "wal".into()],
            // Nothing in a log is there twice.
            pieces: Pieces::Even(1 << 20),
            time: now,
        })?;
        let mut covered = None;
        for (segment, pieces) in &whole {
            let assembled = assemble(repository, *segment, pieces, &expected)?;
            let file = segment.name(log.size);
            let metadata = Metadata { mode: 0o600, uid: 0, gid: 0, mtime: now };
            backup.file(Path::new(&file), &metadata, &mut &*assembled.bytes)?;
            covered = covered.max(assembled.covered);
        }
        let stored = backup.finish()?;
        let batch = Batch {
            format: 1,
            system,
            timeline: name.timeline,
            first: name.first,
            last: name.last,
            segment_size: log.size,
            snapshot: stored.snapshot,
            tree: stored.tree,
            covered,
            made: now,
        };
        signed::write(repository, &name.name(), &batch, key)?;
    }
    Ok(segments)
}

/// Removes pieces that a batch has replaced for longer than `stay`; gives how many. The batch's snapshot has to be there.
///
/// # Errors
/// The repository, or a batch that is not believed: its pieces stay.
pub fn tidy(
    repository: &Repository,
    log: &Log,
    trusted: &[KeyId],
    now: Timestamp,
    stay: Duration,
) -> Result<u64, WalError> {
    let mut removed = 0;
    let mut snapshots = None;
    for there in log.timelines.values() {
        for name in &there.batches {
            let replaced = there.pieces.iter().filter(|piece| name.has(piece.segment));
            let replaced: Vec<&Piece> = replaced.collect();
            if replaced.is_empty() {
                continue;
            }
            let batch = name.read(repository, trusted)?;
            let age = now.duration_since(batch.made);
            if Duration::try_from(age).is_ok_and(|age| age >= stay) {
                if snapshots.is_none() {
                    let all = repository.snapshots();
                    snapshots = Some(all.map_err(|source| WalError::Read { name: name.name(), source })?);
                }
                if !snapshots.iter().flatten().any(|snapshot| snapshot.id == batch.snapshot) {
                    continue;
                }
                for piece in replaced {
                    repository.storage().remove(&Object::Extra(piece.name(log.size)))?;
                    removed += 1;
                }
            }
        }
    }
    Ok(removed)
}

/// Where a batch begins and ends.
#[must_use]
pub fn bounds(batch: &BatchName, size: SegmentSize) -> (Lsn, Lsn) {
    let at = |number| Segment { timeline: batch.timeline, number };
    (at(batch.first).start(size), at(batch.last).end(size))
}

/// Whether a segment as it was read back from a batch is what it should be.
pub(crate) fn verified(
    bytes: &[u8],
    segment: Segment,
    expected: &Expected,
    name: &str,
) -> Result<(), WalError> {
    let size = expected.size;
    if bytes.len() as u64 != size.bytes() {
        let found = bytes.len().to_string();
        return Err(WalError::Size { name: name.to_owned(), expected: size.bytes(), found });
    }
    page::verify(bytes, segment.start(size), expected, name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_segments_in_a_row_are_due() {
        let size = SegmentSize::try_from(1 << 20).unwrap();
        let piece = |number, from, to| Piece { segment: Segment { timeline: 1, number }, from, to };
        let batch = BatchName { timeline: 1, first: 1, last: 2 };
        assert_eq!(BatchName::parse(&batch.name()), Some(batch));
        for (pieces, expected) in [
            (vec![], None),
            (vec![piece(3, 0, 4096)], None),
            (vec![piece(3, 0, 1 << 20)], Some((3, 3))),
            (vec![piece(3, 0, 8), piece(3, 8, 1 << 20), piece(4, 0, 1 << 20), piece(5, 0, 8)], Some((3, 4))),
            // A piece of segment 4 is missing.
            (vec![piece(3, 0, 1 << 20), piece(4, 8, 1 << 20), piece(5, 0, 1 << 20)], Some((3, 3))),
            // What is in a batch is not due again.
            (vec![piece(2, 0, 1 << 20), piece(3, 0, 1 << 20)], Some((3, 3))),
        ] {
            let names = pieces.iter().map(|piece| piece.name(size)).chain([batch.name()]);
            let due = due(&Log::of(names, size));
            assert_eq!(due.first().map(|(name, _)| (name.first, name.last)), expected, "{pieces:?}");
        }
    }
}
