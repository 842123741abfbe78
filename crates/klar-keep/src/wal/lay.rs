//! Laying the log out: pieces and batches become segments in a folder, from which a server replays.
//!
//! Everything is compared on the way: no byte is laid out that does not belong where it lies, and nothing is laid out at
//! all where a byte between the beginning and the end is missing.

use std::fs;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use klar_repo::Repository;
use klar_store::KeyId;

use crate::lsn::{Lsn, Segment, Timeline};
use crate::wal::WalError;
use crate::wal::batch;
use crate::wal::chain::Log;
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
    let mut laid = Laid { segments: 0, until: wanted.from };
    let mut reader = None;
    let lineage = log.lineage(wanted.timeline);
    let mut ancestors = Vec::new();
    let mut at = wanted.from;
    // All of them, also those that lead elsewhere: a server that is promoted takes the first number that has none.
    for timeline in log.timelines.keys().copied().filter(|timeline| *timeline > 1) {
        let path = folder.join(format!("{timeline:08X}.history"));
        fs::write(&path, piece::read_history(repository, timeline)?).map_err(file_error(path))?;
    }
    for (timeline, ended) in lineage {
        let expected = Expected { system: wanted.system, timeline, ancestors: ancestors.clone(), size };
        ancestors.push(timeline);
        let until = ended.map_or(wanted.to, |ended| ended.min(wanted.to));
        if timeline < wanted.begun || at >= until {
            continue;
        }
        let last = Lsn(until.0 - 1).segment(timeline, size);
        let mut segment = at.segment(timeline, size);
        while segment <= last {
            let name = segment.name(size);
            let there = log.timelines.get(&timeline);
            let in_batch = there.and_then(|there| there.batches.iter().find(|batch| batch.has(segment)));
            let assembled = match in_batch {
                Some(batch) => {
                    let content = batch.read(repository, trusted)?;
                    let of_batch = |source| WalError::Read { name: batch.name(), source };
                    if reader.is_none() {
                        reader = Some(repository.reader().map_err(of_batch)?);
                    }
                    let bytes = match &reader {
                        Some(reader) => {
                            let snapshot = repository.snapshot(content.snapshot).map_err(of_batch)?;
                            reader.content(&snapshot, Path::new(&name), size.bytes()).map_err(of_batch)?
                        }
                        None => Vec::new(),
                    };
                    batch::verified(&bytes, segment, &expected, &name)?;
                    Assembled { upto: size.bytes(), bytes, covered: content.covered }
                }
                None => {
                    let pieces = there.map(|there| there.pieces.as_slice()).unwrap_or_default();
                    assemble(repository, segment, pieces, &expected)?
                }
            };
            let path = folder.join(&name);
            fs::write(&path, &assembled.bytes).map_err(file_error(path))?;
            laid.segments += 1;
            laid.until = segment.start(size) + assembled.upto;
            segment = segment.next();
        }
        at = until;
    }
    Ok(laid)
}
