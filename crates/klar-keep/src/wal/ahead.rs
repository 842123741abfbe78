//! Ahead: the log as it is written, at the second place before a commit is acknowledged.
//!
//! ```text
//! klar/ahead/65F0AC12D4E07B31.00000001.0000000003014000.1763899200000000
//!   which cluster, which timeline, where it begins, when it was begun (µs since 1970)
//!   frame = length (u32, big-endian) ‖ its complement ‖ sealed for "name of the object/number of the frame"
//!   in it = from (u64) ‖ length (u32) ‖ sent (i64, µs since 1970) ‖ the log, compressed (Zstandard)
//! ```
//!
//! An object grows by a frame for each group of commits and is removed once the repository there has what is in it: it
//! is never more than what the last seconds were. A frame that is cut short at an object's end was never acknowledged.
//! Frames cannot be moved, left out or put elsewhere unnoticed, since each is sealed for its place; what is missing
//! between two objects is a gap of the log, which [`merge`] tells.

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
const HEAD: usize = 8 + 4 + 8;

/// The name of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct AheadName {
    /// Of which cluster: on a new machine an empty one may write here before the one that was lost is restored.
    pub system: u64,
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
        format!("{AHEAD}{:016X}.{:08X}.{:016X}.{:016}", self.system, self.timeline, self.from.0, self.begun)
    }

    /// Reads it.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        let mut parts = name.strip_prefix(AHEAD)?.split('.');
        let this = Self {
            system: u64::from_str_radix(parts.next()?, 16).ok()?,
            timeline: u32::from_str_radix(parts.next()?, 16).ok()?,
            from: Lsn(u64::from_str_radix(parts.next()?, 16).ok()?),
            begun: parts.next()?.parse().ok()?,
        };
        (parts.next().is_none() && this.name() == name).then_some(this)
    }

    fn all(storage: &dyn Storage, system: u64) -> Result<Vec<Self>, StorageError> {
        let names = storage.list_extra(AHEAD)?.into_iter();
        let mut all: Vec<_> = names.filter_map(|(name, _)| Self::parse(&name)).collect();
        all.retain(|one| one.system == system);
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
                let Self { system, timeline, .. } = *self;
                let name = AheadName { system, timeline, from: received.from, begun }.name();
                let object = self.storage.grow(&Object::Extra(name.clone()))?;
                Open { name, object, frames: 0, bytes: 0 }
            }
        };
        let mut plain = Vec::with_capacity(HEAD + received.bytes.len() / 2);
        plain.extend_from_slice(&received.from.0.to_be_bytes());
        plain.extend_from_slice(&(received.bytes.len() as u32).to_be_bytes());
        plain.extend_from_slice(&received.sent.as_microsecond().to_be_bytes());
        // The quickest level: somebody waits.
        let packed = zstd::bulk::compress(&received.bytes, 1)
            .map_err(|source| WalError::File { path: open.name.clone().into(), source })?;
        plain.extend_from_slice(&packed);
        let sealed = self.repository.seal(&format!("{}/{}", open.name, open.frames), &plain)?;
        let length = sealed.len() as u32;
        let mut frame = [length.to_be_bytes(), (!length).to_be_bytes()].concat();
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
pub fn tidy(
    storage: &dyn Storage,
    system: u64,
    timeline: Timeline,
    covered: Lsn,
) -> Result<(), StorageError> {
    let all = AheadName::all(storage, system)?;
    for (at, one) in all.iter().enumerate() {
        let next = all.get(at + 1).filter(|next| next.timeline == one.timeline);
        // Where one ends is said by where the next one begins: what both have is in that one as well.
        let is_covered = one.timeline < timeline
            || (one.timeline == timeline && next.is_some_and(|next| next.from <= covered));
        if is_covered {
            storage.remove(&Object::Extra(one.name()))?;
        }
    }
    Ok(())
}

/// Removes all of a cluster: nobody is promised it any more.
///
/// # Errors
/// The storage.
pub fn clear(storage: &dyn Storage, system: u64) -> Result<(), StorageError> {
    for one in AheadName::all(storage, system)? {
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
        open: None,
    };
    let mut broken = None;
    let all = AheadName::all(repository.storage(), system)?;
    for name in all.iter().filter(|one| one.timeline == timeline) {
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
    open: Option<(Lsn, Vec<u8>)>,
}

impl Merging<'_> {
    fn object(&mut self, name: &AheadName) -> Result<(), WalError> {
        for frame in frames(self.repository, name)? {
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
            let (_, bytes) = self.open.get_or_insert_with(|| (at, Vec::new()));
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
        let Some((from, bytes)) = self.open.take() else { return Ok(()) };
        let segment = from.segment(self.timeline, self.size);
        let begin = from.offset(self.size) as u32;
        let piece = Piece { segment, from: begin, to: begin + bytes.len() as u32 };
        piece.write(self.repository, self.system, self.size, None, &bytes)
    }
}

/// The frames of an object; what is cut short at its end is none.
fn frames(
    repository: &Repository,
    name: &AheadName,
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
        let (head, rest) = bytes.get(at..)?.split_first_chunk::<8>()?;
        let [length, check] =
            [0, 4].map(|at| head[at..at + 4].iter().fold(0, |all, byte| all << 8 | u32::from(*byte)));
        let place = format!("{known}/{number}");
        if length != !check {
            at = bytes.len();
            return Some(Err(WalError::Renamed { name: place, says: "no frame".to_owned() }));
        }
        let sealed = rest.get(..length as usize)?;
        (at, number) = (at + 8 + sealed.len(), number + 1);
        Some(opened(&repository, &place, sealed))
    }))
}

fn opened(repository: &Repository, place: &str, sealed: &[u8]) -> Result<Received, WalError> {
    let plain = repository.unseal(place, sealed)?;
    let wrong = |found: String| WalError::Size { name: place.to_owned(), expected: HEAD as u64, found };
    let (head, packed) = plain.split_first_chunk::<HEAD>().ok_or_else(|| wrong(plain.len().to_string()))?;
    let number = |at: usize| head[at..at + 8].iter().fold(0, |all, byte| all << 8 | u64::from(*byte));
    let length = head[8..12].iter().fold(0, |all, byte| all << 8 | usize::from(*byte));
    if length > FRAME_MAX {
        return Err(wrong(length.to_string()));
    }
    let bytes = zstd::bulk::decompress(packed, length).map_err(|why| wrong(why.to_string()))?;
    if bytes.len() != length {
        return Err(wrong(bytes.len().to_string()));
    }
    let sent = Timestamp::from_microsecond(number(12).cast_signed()).unwrap_or_default();
    Ok(Received { from: Lsn(number(0)), bytes, sent })
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::{Path, PathBuf};
    use std::sync::Arc;

    use klar_repo::{Folder, Overlay};

    use super::*;

    const SYSTEM: u64 = 7;

    /// A folder with a repository whose log ends at 0x1000 of the second segment, and what is written over it.
    struct Place(PathBuf, Repository, Repository);

    impl Drop for Place {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn size() -> SegmentSize {
        SegmentSize::try_from(1 << 20).unwrap()
    }

    /// Bytes that say where they are.
    fn log(from: u64, to: u64) -> Vec<u8> {
        (from..to).map(|at| (at ^ (at >> 8) ^ (at >> 16)) as u8).collect()
    }

    fn received(from: u64, to: u64) -> Received {
        Received { from: Lsn(from), bytes: log(from, to), sent: Timestamp::from_microsecond(5).unwrap() }
    }

    impl Place {
        fn new() -> Self {
            let name = format!("klar-ahead-{}-{:x}", std::process::id(), fastrand::u64(..));
            let folder = std::env::temp_dir().join(name);
            let repository = Repository::create(Arc::new(Folder::new(&folder)), "own", "own").unwrap();
            for (from, to) in [(0x10_0000, 0x10_0800), (0x10_0800, 0x10_1000)] {
                let segment = Lsn(from).segment(1, size());
                let piece = Piece { segment, from: from as u32 & 0xf_ffff, to: to as u32 & 0xf_ffff };
                piece.write(&repository, SYSTEM, size(), None, &log(from, to)).unwrap();
            }
            let over = Arc::new(Folder::new(&folder.join("over")));
            let overlay = Overlay::new(Arc::new(Folder::new(&folder)), over);
            let merged = Repository::open(Arc::new(overlay), "own").unwrap();
            Self(folder, repository, merged)
        }

        fn write(&self, system: u64, parts: &[(u64, u64)]) {
            let mut writer = Writer::new(&self.1, self.1.storage(), system, 1);
            for (from, to) in parts {
                writer.write(&received(*from, *to)).unwrap();
            }
        }

        fn objects(&self) -> Vec<PathBuf> {
            let all = fs::read_dir(self.0.join("klar/ahead")).unwrap();
            let mut all: Vec<_> = all.map(|entry| entry.unwrap().path()).collect();
            all.sort();
            all
        }

        /// Where the log ends once it was merged, and what is wrong; all bytes are compared.
        fn merged(&self) -> (u64, Option<String>) {
            let repository = &self.2;
            let merged = merge(repository, SYSTEM, size()).unwrap();
            let log_now = Log::read(repository, size()).unwrap();
            assert!(log_now.gaps().is_empty(), "{:?}", log_now.gaps());
            for piece in &log_now.timelines[&1].pieces {
                let (from, to) = (piece.start(size()).0, piece.end(size()).0);
                assert_eq!(piece.read(repository, size()).unwrap().bytes, log(from, to));
            }
            let _ = fs::remove_dir_all(self.0.join("over"));
            let end = log_now.end(1).unwrap().0;
            assert!(merged.until.is_none_or(|until| until.0 == end));
            (end, merged.broken.map(|error| error.to_string()))
        }
    }

    #[test]
    fn what_is_ahead_becomes_part_of_the_log() {
        for (objects, expected) in [
            // Nothing, and nothing that the log has not.
            (&[][..], 0x10_1000),
            (&[&[(0x10_0000, 0x10_0900)][..]], 0x10_1000),
            // Side by side, overlapping, beyond segments, after a stream was begun again.
            (&[&[(0x10_1000, 0x10_1100), (0x10_1100, 0x10_1101)]], 0x10_1101),
            (&[&[(0x10_0f00, 0x10_1100)]], 0x10_1100),
            (&[&[(0x10_0f00, 0x10_1100)], &[(0x10_1000, 0x20_0001)]], 0x20_0001),
            (&[&[(0x10_1000, 0x10_4000), (0x10_4000, 0x30_0000)]], 0x30_0000),
            // What was left from before the log came so far.
            (&[&[(0x10_0000, 0x10_0100)], &[(0x10_0400, 0x10_1200)]], 0x10_1200),
        ] {
            let place = Place::new();
            objects.iter().for_each(|object| place.write(SYSTEM, object));
            // An empty cluster on a new machine.
            place.write(8, &[(0x10_1000, 0x10_9000)]);
            assert_eq!(place.merged(), (expected, None), "{objects:x?}");
        }
    }

    #[test]
    fn a_gap_ends_it_and_is_told() {
        for (objects, end, gap) in [
            (&[&[(0x10_1001, 0x10_1100)][..]][..], 0x10_1000, "0/101000 to 0/101001"),
            (&[&[(0x10_0f00, 0x10_1100)], &[(0x10_1101, 0x10_1200)]], 0x10_1100, "0/101100 to 0/101101"),
        ] {
            let place = Place::new();
            objects.iter().for_each(|object| place.write(SYSTEM, object));
            let (found, broken) = place.merged();
            assert_eq!(found, end);
            assert!(broken.as_ref().is_some_and(|broken| broken.contains(gap)), "{broken:?}");
        }
    }

    /// Cut short anywhere it gives what was whole; any bit that is wrong is noticed.
    #[test]
    fn damage_is_noticed() {
        let place = Place::new();
        place.write(SYSTEM, &[(0x10_1000, 0x10_1040), (0x10_1040, 0x10_1080)]);
        let [object] = &place.objects()[..] else { panic!("one object") };
        let whole = fs::read(object).unwrap();
        let first = 8 + u32::from_be_bytes(*whole.first_chunk().unwrap()) as usize;
        let damaged = |bytes: &[u8], path: &Path| {
            fs::write(path, bytes).unwrap();
            place.merged()
        };
        for length in (0..whole.len()).step_by(7).chain([first, whole.len() - 1]) {
            let end = if length < first { 0x10_1000 } else { 0x10_1040 };
            assert_eq!(damaged(&whole[..length], object), (end, None), "cut to {length}");
        }
        for at in 0..whole.len() {
            let mut bytes = whole.clone();
            bytes[at] ^= 1 << (at % 8);
            let (end, broken) = damaged(&bytes, object);
            assert_eq!(end, if at < first { 0x10_1000 } else { 0x10_1040 }, "byte {at}");
            assert!(broken.is_some(), "byte {at}");
        }
        // Under another name it does not open, nor do its frames in another order.
        fs::write(object, &whole).unwrap();
        let other = AheadName { system: SYSTEM, timeline: 1, from: Lsn(0x10_1000), begun: 1 };
        fs::rename(object, place.0.join(other.name())).unwrap();
        assert!(place.merged().1.is_some());
        let swapped = [&whole[first..], &whole[..first]].concat();
        fs::remove_file(place.0.join(other.name())).unwrap();
        assert!(damaged(&swapped, object).1.is_some());
    }

    #[test]
    fn what_the_log_has_goes() {
        let place = Place::new();
        for (from, to) in [(0x10_0000, 0x10_1000), (0x10_1000, 0x10_2000), (0x10_2000, 0x10_3000)] {
            place.write(SYSTEM, &[(from, to)]);
        }
        place.write(8, &[(0x10_0000, 0x10_1000)]);
        for (timeline, covered, left) in [(1, 0x10_0fff, 4), (1, 0x10_1000, 3), (1, 0x90_0000, 2), (2, 0, 1)]
        {
            tidy(place.1.storage(), SYSTEM, timeline, Lsn(covered)).unwrap();
            assert_eq!(place.objects().len(), left, "{timeline} {covered:x}");
        }
        clear(place.1.storage(), 8).unwrap();
        assert!(place.objects().is_empty());
    }
}
