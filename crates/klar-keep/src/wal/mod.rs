//! The log in the repository: pieces, batches, and what they come to.
//!
//! ```text
//! klar/wal/00000001/000000010000000000000003.00000000-00014000   bytes 0 to 0x14000 of a segment: sealed
//! klar/wal/00000002/00000002.history                             where a timeline began: sealed
//! klar/batches/00000001.0000000000000003-0000000000000017.json   which snapshot has segments 3 to 0x17: signed
//! klar/tide/00000001.0000000003014000.1763899200000000           how far it was shipped, and until when that
//!                                                                 holds every commit: sealed
//! klar/turned/00000001.0000000003014000-0000000003015000.17…     where the server's clock was put back: sealed
//! klar/ahead/65F0AC12D4E07B31.00000001.0000000003014000.1763…     at the second place alone: see `ahead`
//! ```
//!
//! Pieces come about every second, and are only ever what is new; a batch has whole segments, as plain files that any
//! `restic` restores. Once a batch is there, the pieces it replaces go, after a delay. The tide is what tells that the
//! newest piece was taken away: nothing else would miss it.

pub mod ahead;
pub mod batch;
pub mod chain;
pub mod commits;
pub mod lay;
pub mod page;
pub mod piece;
pub mod tide;
pub mod turned;

use std::path::PathBuf;

use klar_base::Hint;
use klar_repo::{SealError, StorageError};

use crate::lsn::{Lsn, NotOne, Timeline};

/// What is wrong with the log, in the spool or in the repository. None of these is passed over: the log from there on
/// counts as missing until somebody has looked.
#[derive(Debug, thiserror::Error)]
pub enum WalError {
    /// Bytes are missing between others.
    #[error("the log of timeline {timeline} is missing from {from} to {to}")]
    Gap {
        /// Whose.
        timeline: Timeline,
        /// The first byte that is missing.
        from: Lsn,
        /// The first one that is there again, or is known to have been there.
        to: Lsn,
    },
    /// The same place has two contents.
    #[error(
        "{name} and {other} have different bytes at {place}: one of them is not of this cluster's history"
    )]
    Differs {
        /// One of them.
        name: String,
        /// The other one.
        other: String,
        /// The first byte that differs.
        place: Lsn,
    },
    /// A page belongs to another place.
    #[error("{name}: the page at {place} says that it belongs at {found}")]
    Misplaced {
        /// The object or file.
        name: String,
        /// Where it lies.
        place: Lsn,
        /// What it says.
        found: Lsn,
    },
    /// A page of another timeline.
    #[error("{name}: the page at {place} is of timeline {found}, expected {expected}")]
    Timeline {
        /// The object or file.
        name: String,
        /// Where it lies.
        place: Lsn,
        /// What it should be of.
        expected: Timeline,
        /// What it says.
        found: Timeline,
    },
    /// Of another cluster.
    #[error("{name} is of the cluster {found}, expected {expected}")]
    System {
        /// The object or file.
        name: String,
        /// Which cluster it should be of.
        expected: u64,
        /// What it says.
        found: u64,
    },
    /// Of another size than it should have.
    #[error("{name}: expected {expected} bytes, found {found}")]
    Size {
        /// The object or file.
        name: String,
        /// In bytes.
        expected: u64,
        /// What there is.
        found: String,
    },
    /// A name that nothing of klar's has.
    #[error("{0} has a name that klar gives to nothing there: it was left as it is")]
    Name(String),
    /// It does not say what its name says.
    #[error("{name} says of itself that it is {says}")]
    Renamed {
        /// The object.
        name: String,
        /// What it says.
        says: String,
    },
    /// It cannot be opened.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// The repository.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// A batch's snapshot cannot be read.
    #[error("{name}: {source}")]
    Read {
        /// The batch.
        name: String,
        /// As the repository says it.
        source: klar_repo::ReadError,
    },
    /// A batch could not be written.
    #[error("writing a batch of the log: {0}")]
    Backup(#[from] klar_repo::BackupError),
    /// A signature that does not hold.
    #[error(transparent)]
    Signed(#[from] crate::signed::SignedError),
    /// A file of the spool, or of a restore.
    #[error("{}: {source}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// As the system says it.
        source: std::io::Error,
    },
}

impl From<NotOne> for WalError {
    fn from(not: NotOne) -> Self {
        Self::Name(not.to_string())
    }
}

impl Hint for WalError {
    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Gap { .. } => {
                "times after the gap need a base taken after it: run `klar backup now`; times before it are as good \
                 as they were"
            }
            Self::Differs { .. } | Self::Timeline { .. } | Self::System { .. } | Self::Misplaced { .. } => {
                "another cluster writes to this repository, or the cluster was put back by other means than klar: \
                 give each cluster a repository of its own, then run `klar backup now`"
            }
            Self::Size { .. } | Self::Renamed { .. } | Self::Seal(_) => {
                "the storage gave other bytes than were written: run `klar backup verify`, and restore from the other \
                 repository if there is one"
            }
            _ => return None,
        }.to_owned())
    }
}

/// Where sealed pieces are.
pub const PIECES: &str = "klar/wal/";
/// Where batches are.
pub const BATCHES: &str = "klar/batches/";
/// Where the log is ahead, at the second place alone.
pub const AHEAD: &str = "klar/ahead/";
/// Where tides are.
pub const TIDES: &str = "klar/tide/";
/// Where the clock was put back: see [`turned`].
pub const TURNED: &str = "klar/turned/";
