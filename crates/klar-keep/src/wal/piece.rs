//! A piece: bytes of one segment, sealed under a name that says which.
//!
//! ```text
//! piece = a line of JSON (see `Head`) ‖ "\n" ‖ bytes of the log, compressed (Zstandard)
//! ```
//!
//! The name and the line say the same; a piece that was put under another name does not open at all, since it is sealed
//! for its name.

use jiff::Timestamp;
use klar_repo::{Object, Repository, StorageError};
use serde::{Deserialize, Serialize};

use crate::lsn::{Lsn, Segment, SegmentSize, Timeline};
use crate::wal::{PIECES, WalError};

/// Which bytes of which segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Piece {
    /// The segment.
    pub segment: Segment,
    /// The first byte of it.
    pub from: u32,
    /// The first byte that is no longer in it.
    pub to: u32,
}

/// What else is in the folder of a timeline.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Named {
    /// A piece.
    Piece(Piece),
    /// The history of a timeline.
    History(Timeline),
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Head {
    format: u32,
    system: u64,
    timeline: Timeline,
    segment_size: SegmentSize,
    from: Lsn,
    to: Lsn,
    covered: Option<Timestamp>,
}

/// A piece as it was read back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Opened {
    /// The cluster it is of.
    pub system: u64,
    /// Every commit that was acknowledged until then (by the server's clock) lies before its end.
    pub covered: Option<Timestamp>,
    /// The log itself.
    pub bytes: Vec<u8>,
}

impl Piece {
    /// Where it begins.
    #[must_use]
    pub const fn start(&self, size: SegmentSize) -> Lsn {
        Lsn(self.segment.start(size).0 + self.from as u64)
    }

    /// Where it ends.
    #[must_use]
    pub const fn end(&self, size: SegmentSize) -> Lsn {
        Lsn(self.segment.start(size).0 + self.to as u64)
    }

    /// The name of its object.
    #[must_use]
    pub fn name(&self, size: SegmentSize) -> String {
        let segment = self.segment.name(size);
        format!("{PIECES}{:08X}/{segment}.{:08X}-{:08X}", self.segment.timeline, self.from, self.to)
    }

    /// Seals bytes and writes them. It is no error where they are there already.
    ///
    /// # Errors
    /// The repository; `Exists` where other bytes are there.
    pub fn write(
        &self,
        repository: &Repository,
        system: u64,
        size: SegmentSize,
        covered: Option<Timestamp>,
        bytes: &[u8],
    ) -> Result<(), WalError> {
        let name = self.name(size);
        let head = Head {
            format: 1,
            system,
            timeline: self.segment.timeline,
            segment_size: size,
            from: self.start(size),
            to: self.end(size),
            covered,
        };
        let mut plain = serde_json::to_vec(&head).unwrap_or_default();
        plain.push(b'\n');
        let packed = zstd::bulk::compress(bytes, 3)
            .map_err(|source| WalError::File { path: name.clone().into(), source })?;
        plain.extend_from_slice(&packed);
        let sealed = repository.seal(&name, &plain)?;
        match repository.storage().write(&Object::Extra(name.clone()), &sealed) {
            // Sealed anew it has other bytes; what counts is what is in it. A storage that did not answer in time may
            // have taken it all the same.
            Err(StorageError::Exists(_)) => match self.read(repository, size)?.bytes == bytes {
                true => Ok(()),
                false => Err(WalError::Differs { other: name.clone(), name, place: self.start(size) }),
            },
            written => Ok(written?),
        }
    }

    /// Reads it back.
    ///
    /// # Errors
    /// What is damaged, or says something else than its name.
    pub fn read(&self, repository: &Repository, size: SegmentSize) -> Result<Opened, WalError> {
        let name = self.name(size);
        let sealed = repository.storage().read(&Object::Extra(name.clone()))?;
        let plain = repository.unseal(&name, &sealed)?;
        let end = plain.iter().position(|byte| *byte == b'\n').unwrap_or(plain.len());
        let head: Head = serde_json::from_slice(&plain[..end]).map_err(|why| WalError::Renamed {
            name: name.clone(),
            says: format!("no piece of a log: {why}"),
        })?;
        let is_it = head.format == 1
            && head.timeline == self.segment.timeline
            && head.segment_size == size
            && (head.from, head.to) == (self.start(size), self.end(size));
        if !is_it {
            let says =
                format!("format {}, timeline {}, {} to {}", head.format, head.timeline, head.from, head.to);
            return Err(WalError::Renamed { name, says });
        }
        let expected = (self.to - self.from) as usize;
        let size = |found: String| WalError::Size { name: name.clone(), expected: expected as u64, found };
        // Never unpacks to more than its name says.
        let bytes = zstd::bulk::decompress(plain.get(end + 1..).unwrap_or_default(), expected)
            .map_err(|why| size(why.to_string()))?;
        match bytes.len() == expected {
            true => Ok(Opened { system: head.system, covered: head.covered, bytes }),
            false => Err(size(bytes.len().to_string())),
        }
    }
}

/// Reads the name of an object beneath [`PIECES`].
///
/// # Errors
/// [`WalError::Name`] for what is neither a piece nor a history.
pub fn parse(name: &str, size: SegmentSize) -> Result<Named, WalError> {
    let wrong = || WalError::Name(name.chars().take(300).collect());
    let hex = |text: &str| {
        let is_hex = text.len() == 8 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'A'..=b'F'));
        is_hex.then(|| u32::from_str_radix(text, 16).ok()).flatten().ok_or_else(wrong)
    };
    let (folder, file) = name.strip_prefix(PIECES).and_then(|rest| rest.split_once('/')).ok_or_else(wrong)?;
    let timeline = hex(folder)?;
    let (first, second) = file.split_once('.').ok_or_else(wrong)?;
    if second == "history" {
        return match hex(first)? == timeline {
            true => Ok(Named::History(timeline)),
            false => Err(wrong()),
        };
    }
    let segment = Segment::parse(first, size).map_err(|_| wrong())?;
    let (from, to) = second.split_once('-').ok_or_else(wrong)?;
    let (from, to) = (hex(from)?, hex(to)?);
    match segment.timeline == timeline && from < to && u64::from(to) <= size.bytes() {
        true => Ok(Named::Piece(Piece { segment, from, to })),
        false => Err(wrong()),
    }
}

/// The name of a timeline's history.
#[must_use]
pub fn history_name(timeline: Timeline) -> String {
    format!("{PIECES}{timeline:08X}/{timeline:08X}.history")
}

/// Writes the history of a timeline.
///
/// # Errors
/// The repository; `Exists` where another history is there: two clusters, or one that was promoted twice.
pub fn write_history(repository: &Repository, timeline: Timeline, text: &[u8]) -> Result<(), WalError> {
    let name = history_name(timeline);
    // Sealed bytes differ each time: what is there is compared as it was before.
    match repository.storage().read(&Object::Extra(name.clone())) {
        Ok(sealed) if repository.unseal(&name, &sealed)? == text => Ok(()),
        Ok(_) => Err(WalError::Renamed { name, says: "another history than that of the spool".to_owned() }),
        Err(error) if error.is_gone() => {
            let sealed = repository.seal(&name, text)?;
            Ok(repository.storage().write(&Object::Extra(name), &sealed)?)
        }
        Err(error) => Err(error.into()),
    }
}

/// Reads the history of a timeline.
///
/// # Errors
/// Where it is damaged or not there.
pub fn read_history(repository: &Repository, timeline: Timeline) -> Result<Vec<u8>, WalError> {
    let name = history_name(timeline);
    let sealed = repository.storage().read(&Object::Extra(name.clone()))?;
    Ok(repository.unseal(&name, &sealed)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_say_what_pieces_are() {
        let size = SegmentSize::default();
        let piece = Piece { segment: Segment { timeline: 1, number: 0x103 }, from: 0, to: 0x14000 };
        let name = "klar/wal/00000001/000000010000000100000003.00000000-00014000";
        assert_eq!(piece.name(size), name);
        assert_eq!(parse(name, size).unwrap(), Named::Piece(piece));
        assert_eq!(parse(&history_name(10), size).unwrap(), Named::History(10));
        for wrong in [
            "klar/wal/00000002/000000010000000100000003.00000000-00014000", // another timeline's folder
            "klar/wal/00000001/000000010000000100000003.00014000-00014000", // nothing in it
            "klar/wal/00000001/000000010000000100000003.00000000-01000001", // beyond the segment
            "klar/wal/00000001/000000010000000100000003.00000000",
            "klar/wal/00000001/000000010000000100000003.0-14000",
            "klar/wal/00000001/00000002.history",
            "klar/wal/0000000a/0000000a.history",
            "klar/wal/",
            "klar/points/x.json",
        ] {
            assert!(parse(wrong, size).is_err(), "{wrong}");
        }
    }
}
