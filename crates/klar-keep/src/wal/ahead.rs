//! Ahead: the log as it is written, at the second place before a commit is acknowledged.
//!
//! ```text
//! klar/ahead/00000001.0000000003014000.1763899200000000    timeline, where it begins, when it was begun (µs since 1970)
//!   frame = length (u32, big-endian) ‖ sealed for "name of the object/number of the frame"
//!   in it = system (u64) ‖ from (u64) ‖ length (u32) ‖ sent (i64, µs since 1970) ‖ the log, compressed (Zstandard)
//! ```
//!
//! An object grows by a frame for each group of commits and is removed once the repository there has what is in it: it
//! is never more than what the last seconds were. A frame that is cut short at an object's end was never acknowledged.
//! Frames cannot be moved, left out or put elsewhere unnoticed, since each is sealed for its place; what is missing
//! between two objects is a gap of the log, which [`merge`] tells.

use std::collections::BTreeMap;

use jiff::Timestamp;
use klar_repo::{Growing, Object, Repository, Storage, StorageError};

use crate::lsn::{Lsn, SegmentSize, Timeline};
use crate::server::replication::Received;
use crate::wal::chain::{Log, Stretch};
use crate::wal::piece::Piece;
use crate::wal::tide::Tide;
use crate::wal::{AHEAD, WalError};

/// No frame is longer; a server's log comes in parts of a megabyte.
const FRAME_MAX: usize = 4 << 20;
const HEAD: usize = 8 + 8 + 4 + 8;

/// The name of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct AheadName {
    /// Of which timeline.
    pub timeline: Timeline,
    /// Where it begins.
    pub from: Lsn,
    /// When it was begun, in microseconds since 1970.
    pub begun: i64,
}

impl AheadName {
    /// As the object is called.
    #[must_use]
    pub fn name(&self) -> String {
        format!("{AHEAD}{:08X}.{:016X}.{:016}", self.timeline, self.from.0, self.begun)
    }

    /// Reads it.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        let mut parts = name.strip_prefix(AHEAD)?.split('.');
        let this = Self {
            timeline: u32::from_str_radix(parts.next()?, 16).ok()?,
            from: Lsn(u64::from_str_radix(parts.next()?, 16).ok()?),
            begun: parts.next()?.parse().ok()?,
        };
        (parts.next().is_none() && this.name() == name).then_some(this)
    }

    fn all(storage: &dyn Storage) -> Result<Vec<(Self, u64)>, StorageError> {
        let names = storage.list_extra(AHEAD)?.into_iter();
        let mut all: Vec<_> =
            names.filter_map(|(name, length)| Some((Self::parse(&name)?, length))).collect();
        all.sort_unstable();
        Ok(all)
    }
}

/// Writes ahead.
pub struct Writer<'a> {
    repository: &'a Repository,
    storage: &'a dyn Storage,
    system: u64,
    timeline: Timeline,
    open: Option<Open>,
}

struct Open {
    name: String,
    object: Box<dyn Growing>,
    frames: u64,
    bytes: u64,
}

impl<'a> Writer<'a> {
    /// For one stream; `repository` seals.
    #[must_use]
    pub fn new(
        repository: &'a Repository,
        storage: &'a dyn Storage,
        system: u64,
        timeline: Timeline,
    ) -> Self {
        Self { repository, storage, system, timeline, open: None }
    }

    /// Bytes of the object that grows now.
    #[must_use]
    pub fn length(&self) -> u64 {
        self.open.as_ref().map_or(0, |open| open.bytes)
    }

    /// The next part begins another object.
    pub fn turn(&mut self) {
        self.open = None;
    }

    /// Writes a part of the log. When this returns, it survives whatever becomes of this machine.
    ///
    /// # Errors
    /// The storage. Nothing of this part may be acknowledged then, and the next one begins another object.
    pub fn write(&mut self, received: &Received) -> Result<(), WalError> {
        let mut open = match self.open.take() {
            Some(open) => open,
            None => {
                let begun = Timestamp::now().as_microsecond();
                let name = AheadName { timeline: self.timeline, from: received.from, begun }.name();
                let object = self.storage.grow(&Object::Extra(name.clone()))?;
                Open { name, object, frames: 0, bytes: 0 }
            }
        };
        let mut plain = Vec::with_capacity(HEAD + received.bytes.len() / 2);
        plain.extend_from_slice(&self.system.to_be_bytes());
        plain.extend_from_slice(&received.from.0.to_be_bytes());
        plain.extend_from_slice(&(received.bytes.len() as u32).to_be_bytes());
        plain.extend_from_slice(&received.sent.as_microsecond().to_be_bytes());
        // The quickest level: somebody waits.
        let packed = zstd::bulk::compress(&received.bytes, 1)
            .map_err(|source| WalError::File { path: open.name.clone().into(), source })?;
        plain.extend_from_slice(&packed);
        let sealed = self.repository.seal(&format!("{}/{}", open.name, open.frames), &plain)?;
        let mut frame = (sealed.len() as u32).to_be_bytes().to_vec();
        frame.extend_from_slice(&sealed);
        open.object.append(&frame)?;
        open.frames += 1;
        open.bytes += frame.len() as u64;
        self.open = Some(open);
        Ok(())
    }
}

/// Removes what the repository there has too: all before `covered` of that timeline, and what is of earlier ones. What
/// was begun last stays.
///
/// # Errors
/// The storage.
pub fn tidy(storage: &dyn Storage, timeline: Timeline, covered: Lsn) -> Result<(), StorageError> {
    let all = AheadName::all(storage)?;
    for (at, (one, _)) in all.iter().enumerate() {
        let next = all.get(at + 1).filter(|(next, _)| next.timeline == one.timeline);
        // Where one ends is said by where the next one begins: what both have is in that one as well.
        let is_covered = one.timeline < timeline
            || (one.timeline == timeline && next.is_some_and(|(next, _)| next.from <= covered));
        if is_covered {
            storage.remove(&Object::Extra(one.name()))?;
        }
    }
    Ok(())
}

/// Removes all of it: nobody is promised it any more.
///
/// # Errors
/// The storage.
pub fn clear(storage: &dyn Storage) -> Result<(), StorageError> {
    for (one, _) in AheadName::all(storage)? {
        storage.remove(&Object::Extra(one.name()))?;
    }
    Ok(())
}

/// What [`merge`] came to.
#[derive(Debug, Default)]
pub struct Merged {
    /// Where the log ends now; `None`: nothing is ahead of it.
    pub until: Option<Lsn>,
    /// What lies behind that could not be used: a gap, something damaged. The log does not have every commit then.
    pub broken: Option<WalError>,
}

/// Makes pieces of what is ahead of a repository's log, so that it is restored like all the rest of it.
///
/// # Errors
/// The storage, or a log that cannot be read.
pub fn merge(repository: &Repository, system: u64, size: SegmentSize) -> Result<Merged, WalError> {
    let log = Log::read(repository, size)?;
    let Some(timeline) = log.newest_timeline() else { return Ok(Merged::default()) };
    let known = log.end(timeline).unwrap_or_default();
    let mut merging = Merging {
        repository,
        system,
        size,
        timeline,
        stretches: log.stretches(timeline),
        known,
        at: None,
        sent: None,
        open: BTreeMap::new(),
    };
    let mut broken = None;
    for (name, _) in AheadName::all(repository.storage())?.iter().filter(|(one, _)| one.timeline == timeline)
    {
        match merging.object(name) {
            Err(WalError::Storage(error)) => return Err(error.into()),
            Err(error) => {
                broken = Some(error);
                break;
            }
            Ok(()) => {}
        }
    }
    merging.finish()?;
    let until = merging.at.map(|at| at.max(known));
    if let (Some(lsn), Some(covered)) = (until, merging.sent) {
        let tide = Tide { timeline, lsn, covered };
        if log.timelines.get(&timeline).and_then(|there| there.tide).is_none_or(|old| old < tide) {
            tide.write(repository)?;
        }
    }
    Ok(Merged { until, broken })
}

/// Puts parts together to one piece for each segment.
struct Merging<'a> {
    repository: &'a Repository,
    system: u64,
    size: SegmentSize,
    timeline: Timeline,
    /// What the log has itself, and where that ends.
    stretches: Vec<Stretch>,
    known: Lsn,
    /// How far it is.
    at: Option<Lsn>,
    /// When the last of it was sent.
    sent: Option<Timestamp>,
    /// The segment that is not whole yet: where what is there begins, and the bytes.
    open: BTreeMap<u64, (Lsn, Vec<u8>)>,
}

impl Merging<'_> {
    fn object(&mut self, name: &AheadName) -> Result<(), WalError> {
        for frame in frames(self.repository, name, self.system)? {
            let frame = frame?;
            // How far the log is without this frame; before the first one that goes on from it, it is itself.
            let reach = match self.at {
                Some(at) => Some(self.reach(at)),
                None => self
                    .stretches
                    .iter()
                    .find(|one| one.from <= frame.from && frame.from <= one.to)
                    .map(|one| one.to),
            };
            match reach {
                Some(reach) if frame.to() <= reach => continue,
                None if frame.to() <= self.known => continue,
                Some(reach) if frame.from <= reach => {}
                _ => {
                    let from = reach.unwrap_or(self.known);
                    return Err(WalError::Gap { timeline: self.timeline, from, to: frame.from });
                }
            }
            if self.at.is_none_or(|at| at < frame.from) {
                self.finish()?;
                self.at = Some(frame.from);
            }
            self.add(&frame)?;
            self.sent = self.sent.max(Some(frame.sent));
        }
        Ok(())
    }

    /// Where what lies side by side from a place on ends.
    fn reach(&self, at: Lsn) -> Lsn {
        self.stretches.iter().find(|one| one.from <= at && at <= one.to).map_or(at, |one| one.to)
    }

    fn add(&mut self, frame: &Received) -> Result<(), WalError> {
        let mut at = self.at.unwrap_or(frame.from);
        let mut rest = frame.bytes.get((at - frame.from) as usize..).unwrap_or_default();
        while !rest.is_empty() {
            let segment = at.segment(self.timeline, self.size);
            let room = (segment.end(self.size) - at) as usize;
            let (now, later) = rest.split_at(room.min(rest.len()));
            let (_, bytes) = self.open.entry(segment.number).or_insert_with(|| (at, Vec::new()));
            bytes.extend_from_slice(now);
            at = at + now.len() as u64;
            rest = later;
            if now.len() == room {
                self.finish()?;
            }
        }
        self.at = Some(at);
        Ok(())
    }

    fn finish(&mut self) -> Result<(), WalError> {
        for (_, (from, bytes)) in std::mem::take(&mut self.open) {
            let segment = from.segment(self.timeline, self.size);
            let begin = from.offset(self.size) as u32;
            let piece = Piece { segment, from: begin, to: begin + bytes.len() as u32 };
            piece.write(self.repository, self.system, self.size, None, &bytes)?;
        }
        Ok(())
    }
}

/// The frames of an object; what is cut short at its end is none.
fn frames(
    repository: &Repository,
    name: &AheadName,
    system: u64,
) -> Result<impl Iterator<Item = Result<Received, WalError>>, WalError> {
    let known = name.name();
    let bytes = match repository.storage().read(&Object::Extra(known.clone())) {
        // Whoever writes has removed it meanwhile, since the log has what is in it.
        Err(error) if error.is_gone() => Vec::new(),
        read => read?,
    };
    let repository = repository.clone();
    let (mut at, mut number) = (0, 0_u64);
    Ok(std::iter::from_fn(move || {
        let (length, rest) = bytes.get(at..)?.split_first_chunk::<4>()?;
        let length = u32::from_be_bytes(*length) as usize;
        let sealed = rest.get(..length)?;
        let place = format!("{known}/{number}");
        (at, number) = (at + 4 + length, number + 1);
        Some(opened(&repository, &place, sealed, system))
    }))
}

fn opened(repository: &Repository, place: &str, sealed: &[u8], system: u64) -> Result<Received, WalError> {
    let plain = repository.unseal(place, sealed)?;
    let wrong = |found: String| WalError::Size { name: place.to_owned(), expected: HEAD as u64, found };
    let (head, packed) = plain.split_first_chunk::<HEAD>().ok_or_else(|| wrong(plain.len().to_string()))?;
    let number = |at: usize| head[at..at + 8].iter().fold(0, |all, byte| all << 8 | u64::from(*byte));
    let length = head[16..20].iter().fold(0, |all, byte| all << 8 | usize::from(*byte));
    if number(0) != system {
        return Err(WalError::System { name: place.to_owned(), expected: system, found: number(0) });
    }
    if length > FRAME_MAX {
        return Err(wrong(length.to_string()));
    }
    let bytes = zstd::bulk::decompress(packed, length).map_err(|why| wrong(why.to_string()))?;
    if bytes.len() != length {
        return Err(wrong(bytes.len().to_string()));
    }
    let sent = Timestamp::from_microsecond(number(20).cast_signed()).unwrap_or_default();
    Ok(Received { from: Lsn(number(8)), bytes, sent })
}
