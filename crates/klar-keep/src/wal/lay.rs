//! Laying the log out: pieces and batches become segments in a folder, from which a server replays.
//!
//! Everything is compared on the way: no byte is laid out that does not belong where it lies, and nothing is laid out at
//! all where a byte between the beginning and the end is missing.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use jiff::Timestamp;
use klar_repo::{Reader, Repository};
use klar_store::KeyId;

use crate::lsn::{Lsn, Segment, Timeline};
use crate::wal::WalError;
use crate::wal::batch::{self, BatchName};
use crate::wal::chain::{Log, OfTimeline};
use crate::wal::page::{self, Expected};
use crate::wal::piece::{self, Piece};

/// A segment that was put together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Assembled {
    /// All of it; zeros from `upto` on.
    pub bytes: Vec<u8>,
    /// How far it is there.
    pub upto: u64,
    /// Every commit that was acknowledged until then lies before `upto`.
    pub covered: Option<Timestamp>,
}

/// From where to where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// The cluster.
    pub system: u64,
    /// The timeline of the base.
    pub begun: Timeline,
    /// Where the base begins.
    pub from: Lsn,
    /// The timeline to end on.
    pub timeline: Timeline,
    /// The first byte that need not be there; whole segments are laid out where they are there.
    pub to: Lsn,
}

/// What was laid out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Laid {
    /// Files.
    pub segments: u64,
    /// Where the last one ends, as far as it is there.
    pub until: Lsn,
}

/// Puts a segment together from its pieces.
///
/// # Errors
/// A piece that is missing between others, is damaged, or belongs somewhere else; two that differ.
pub fn assemble(
    repository: &Repository,
    segment: Segment,
    pieces: &[Piece],
    expected: &Expected,
) -> Result<Assembled, WalError> {
    let size = expected.size;
    let mut bytes = vec![0; size.bytes() as usize];
    let (mut upto, mut covered, mut last) = (0_u32, None, None::<Piece>);
    let mut sorted: Vec<&Piece> = pieces.iter().filter(|piece| piece.segment == segment).collect();
    sorted.sort_unstable();
    for piece in sorted {
        let start = segment.start(size);
        if piece.from > upto {
            let (from, to) = (start + u64::from(upto), start + u64::from(piece.from));
            return Err(WalError::Gap { timeline: segment.timeline, from, to });
        }
        let opened = piece.read(repository, size)?;
        if opened.system != expected.system {
            let name = piece.name(size);
            return Err(WalError::System { name, expected: expected.system, found: opened.system });
        }
        // Nothing is written twice by one shipper; two of them have to agree.
        let shared = (upto.min(piece.to) - piece.from) as usize;
        let there = &bytes[piece.from as usize..][..shared];
        if let Some(at) = there.iter().zip(&opened.bytes).position(|(old, new)| old != new) {
            let other = last.map_or_else(String::new, |last| last.name(size));
            let place = start + u64::from(piece.from) + at as u64;
            return Err(WalError::Differs { name: piece.name(size), other, place });
        }
        bytes[piece.from as usize..piece.to as usize].copy_from_slice(&opened.bytes);
        upto = upto.max(piece.to);
        covered = covered.max(opened.covered);
        last = Some(*piece);
    }
    let name = last.map_or_else(|| segment.name(size), |last| last.name(size));
    page::verify(&bytes[..upto as usize], segment.start(size), expected, &name)?;
    Ok(Assembled { bytes, upto: upto.into(), covered })
}

/// Lays out what is wanted in a folder, which is made.
///
/// # Errors
/// The first byte that is missing, is damaged or belongs somewhere else. What was laid out by then must not be used.
pub fn lay(
    repository: &Repository,
    log: &Log,
    wanted: &Wanted,
    trusted: &[KeyId],
    folder: &Path,
) -> Result<Laid, WalError> {
    log.asserted(wanted.begun, wanted.from, wanted.timeline, wanted.to)?;
    let file_error = |path: PathBuf| move |source| WalError::File { path, source };
    fs::create_dir_all(folder).map_err(file_error(folder.to_owned()))?;
    let size = log.size;
    let mut jobs: Vec<Job<'_>> = Vec::new();
    let lineage = log.lineage(wanted.timeline);
    let mut ancestors = Vec::new();
    let mut at = wanted.from;
    // All of them, also those that lead elsewhere: a server that is promoted takes the first number that has none.
    for timeline in log.timelines.keys().copied().filter(|timeline| *timeline > 1) {
        let path = folder.join(format!("{timeline:08X}.history"));
        fs::write(&path, piece::read_history(repository, timeline)?).map_err(file_error(path))?;
    }
    for (timeline, ended) in lineage {
        let expected =
            Arc::new(Expected { system: wanted.system, timeline, ancestors: ancestors.clone(), size });
        ancestors.push(timeline);
        let until = ended.map_or(wanted.to, |ended| ended.min(wanted.to));
        let Some(there) = log.timelines.get(&timeline).filter(|_| timeline >= wanted.begun && at < until)
        else {
            continue;
        };
        let last = Lsn(until.0 - 1).segment(timeline, size);
        let mut segment = at.segment(timeline, size);
        while segment <= last {
            jobs.push(Job { segment, there, expected: expected.clone() });
            segment = segment.next();
        }
        at = until;
    }
    let next = AtomicUsize::new(0);
    let work = || -> Result<Lsn, WalError> {
        let mut reading = Reading { repository, trusted, reader: None };
        let mut until = wanted.from;
        while let Some(job) = jobs.get(next.fetch_add(1, Ordering::Relaxed)) {
            let assembled = job.read(&mut reading)?;
            let path = folder.join(job.segment.name(size));
            fs::write(&path, &assembled.bytes).map_err(file_error(path))?;
            until = job.segment.start(size) + assembled.upto;
        }
        Ok(until)
    };
    // Unsealing and unpacking take longer than reading; each has a segment or two in memory.
    let until = std::thread::scope(|scope| {
        let others: Vec<_> = (1..LAYERS.min(jobs.len())).map(|_| scope.spawn(work)).collect();
        let own = work();
        others.into_iter().fold(own, |own, other| {
            let gone =
                || WalError::File { path: folder.to_owned(), source: io::Error::other("a thread ended") };
            let other = other.join().unwrap_or_else(|_| Err(gone()));
            Ok(own?.max(other?))
        })
    })?;
    Ok(Laid { segments: jobs.len() as u64, until })
}

/// So many segments are put together at once.
const LAYERS: usize = 2;

/// A segment that is to be laid out.
struct Job<'a> {
    segment: Segment,
    there: &'a OfTimeline,
    expected: Arc<Expected>,
}

impl Job<'_> {
    fn read(&self, reading: &mut Reading<'_>) -> Result<Assembled, WalError> {
        match self.there.batches.iter().find(|batch| batch.has(self.segment)) {
            Some(batch) => reading.of_batch(batch, self.segment, &self.expected),
            None => assemble(reading.repository, self.segment, &self.there.pieces, &self.expected),
        }
    }
}

/// Reads segments out of batches.
struct Reading<'a> {
    repository: &'a Repository,
    trusted: &'a [KeyId],
    reader: Option<Reader>,
}

impl Reading<'_> {
    fn of_batch(
        &mut self,
        batch: &BatchName,
        segment: Segment,
        expected: &Expected,
    ) -> Result<Assembled, WalError> {
        let size = expected.size;
        let content = batch.read(self.repository, self.trusted)?;
        let of_batch = |source| WalError::Read { name: batch.name(), source };
        let reader = match self.reader.take() {
            Some(reader) => reader,
            None => self.repository.reader().map_err(of_batch)?,
        };
        let snapshot = self.repository.snapshot(content.snapshot).map_err(of_batch)?;
        let name = segment.name(size);
        let bytes = reader.content(&snapshot, Path::new(&name), size.bytes());
        self.reader = Some(reader);
        let bytes = bytes.map_err(of_batch)?;
        batch::verified(&bytes, segment, expected, &name)?;
        Ok(Assembled { upto: size.bytes(), bytes, covered: content.covered })
    }
}

/// Reads all of the log again, also what no point needs; gives how many segments were read, and what is wrong with them.
#[must_use]
pub fn read_all(
    repository: &Repository,
    log: &Log,
    system: u64,
    trusted: &[KeyId],
    progress: &mut dyn FnMut(u64),
) -> (u64, Vec<WalError>) {
    let mut reading = Reading { repository, trusted, reader: None };
    let (mut read, mut wrong) = (0, Vec::new());
    for (timeline, there) in &log.timelines {
        let lineage = log.lineage(*timeline);
        let ancestors = lineage.iter().map(|(one, _)| *one).filter(|one| one != timeline).collect();
        let expected = Expected { system, timeline: *timeline, ancestors, size: log.size };
        let mut seen = |result: Result<Assembled, WalError>| {
            read += 1;
            progress(read);
            wrong.extend(result.err());
        };
        for batch in &there.batches {
            for number in batch.first..=batch.last {
                let segment = Segment { timeline: *timeline, number };
                seen(reading.of_batch(batch, segment, &expected));
            }
        }
        let segments: BTreeSet<Segment> = there.pieces.iter().map(|piece| piece.segment).collect();
        for segment in segments {
            seen(assemble(repository, segment, &there.pieces, &expected));
        }
    }
    (read, wrong)
}
