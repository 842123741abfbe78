//! What can go wrong, one enum for each operation.

use std::io;
use std::path::PathBuf;

use crate::storage::{Object, StorageError};
use crate::{Holder, Id};

/// A repository could not be made or opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The storage.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// There is one already.
    #[error("{0} holds a repository already: open it, or choose another place")]
    Taken(String),
    /// Nothing there, or something else.
    #[error(
        "{0} holds no repository: its `config` is missing; create one, or look whether the place is right"
    )]
    Missing(String),
    /// No key opens with the password.
    #[error("none of the {keys} keys of {place} opens with this password")]
    Password {
        /// Where.
        place: String,
        /// Keys that were tried.
        keys: usize,
    },
    /// Cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// A version that is not spoken here.
    #[error(
        "{place} is a repository of version {version}, expected 2: `restic migrate upgrade_repo_v2` makes it one"
    )]
    Version {
        /// Where.
        place: String,
        /// As its config says.
        version: u64,
    },
    /// The password cannot be made a key.
    #[error(transparent)]
    Key(#[from] KeyError),
}

/// Keys could not be listed, added or removed.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The storage.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// Empty, or longer than 4096 bytes.
    #[error("the password is empty or longer than 4096 bytes")]
    Password,
    /// Longer than 200 bytes.
    #[error("the label of a key is longer than 200 bytes")]
    Label,
    /// The system gives no random bytes.
    #[error("the system gave no random bytes")]
    Random,
}

/// Something could not be read back.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The storage.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// The bytes are not those that were written.
    #[error("{object} is damaged: {why}")]
    Damaged {
        /// Which.
        object: Object,
        /// What is wrong.
        why: String,
    },
    /// A blob is damaged.
    #[error("blob {blob} in pack {pack} is damaged: {why}")]
    Blob {
        /// Which.
        blob: Id,
        /// Where.
        pack: Id,
        /// What is wrong.
        why: String,
    },
    /// No index knows it.
    #[error("blob {0} is in no index: it was lost, or `restic rebuild-index` finds it in a pack again")]
    Unknown(Id),
    /// While reading this file of the snapshot.
    #[error("file {path}: {source}", path = path.display())]
    File {
        /// In the snapshot.
        path: PathBuf,
        /// What happened.
        source: Box<ReadError>,
    },
    /// A tree that is deeper, a list that is longer than can be.
    #[error("{what} is beyond the limit of {limit}")]
    Limit {
        /// What.
        what: String,
        /// How much is allowed.
        limit: u64,
    },
    /// Readable, and not what it should be.
    #[error("{0}")]
    Content(String),
}

/// A repository could not be locked, or is locked no more.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// The storage.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// Somebody holds a lock beside which there can be none of this kind.
    #[error(
        "{place} is in use: {holder}; try again when that has ended. If it is dead already, its lock is taken away 30 \
         minutes after that time, or at once by `restic unlock`"
    )]
    Held {
        /// Where.
        place: String,
        /// Who.
        holder: Box<Holder>,
    },
    /// Whose lock that is, nobody can say.
    #[error(
        "{0}: it may be somebody's who is at work; `restic unlock --remove-all` removes it when nobody is"
    )]
    Unreadable(ReadError),
    /// Somebody took it away, or the storage was out of reach for so long that others think its holder dead.
    #[error("the lock of {place} was lost: {why}. Somebody else may have changed the repository meanwhile")]
    Lost {
        /// Where.
        place: String,
        /// How.
        why: String,
    },
    /// The system has no random bytes, no threads, or no memory to compress with.
    #[error("{0}")]
    System(String),
}

/// A backup came to nothing. No snapshot was written.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// The source of a file failed.
    #[error("reading {path}: {source}; the backup was given up, no snapshot was written", path = path.display())]
    Source {
        /// The file's path in the backup.
        path: PathBuf,
        /// As the reader said it.
        source: io::Error,
    },
    /// A path that cannot be in a snapshot.
    #[error("{path} cannot be in a backup: {why}", path = path.display())]
    Path {
        /// Which.
        path: PathBuf,
        /// What is wrong.
        why: &'static str,
    },
    /// Something failed before; the first call that failed said what.
    #[error("the backup failed before: {0}")]
    Failed(String),
    /// Somebody prunes, or the lock was lost on the way.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// A size of pieces out of bounds.
    #[error("pieces of {0} bytes: expected 4096 to 8388608")]
    PieceSize(u32),
    /// The storage.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// The parent, or the index, cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The system has no random bytes, or no memory to compress with.
    #[error("{0}")]
    System(String),
}

/// A restore came to nothing, or to a part.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// The repository.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The target is not an empty folder.
    #[error("{path} is not empty: choose a folder that is empty or not there yet", path = .0.display())]
    NotEmpty(PathBuf),
    /// A name in the snapshot would lead out of the target.
    #[error("the snapshot names {0:?}, which would lead out of the target: nothing was restored from there")]
    Name(String),
    /// Writing failed.
    #[error("{doing} {path}: {source}", path = path.display())]
    Target {
        /// `creating`, `writing`, …
        doing: &'static str,
        /// In the target.
        path: PathBuf,
        /// As the system says it.
        source: io::Error,
    },
    /// A device, pipe or socket.
    #[error("{path} is a {kind}, which is not restored here: `restic restore` does it", path = path.display())]
    Special {
        /// In the snapshot.
        path: PathBuf,
        /// What.
        kind: String,
    },
}

/// A small object could not be sealed or opened.
#[derive(Debug, thiserror::Error)]
pub enum SealError {
    /// Another key, another name, or damage.
    #[error("{0} does not open: it was damaged, sealed under another name, or with another key")]
    Damaged(String),
    /// The system has no random bytes, or no memory to compress with.
    #[error("{0}")]
    System(String),
}

/// Snapshots could not be forgotten, or not all of them.
#[derive(Debug, thiserror::Error)]
pub enum ForgetError {
    /// Somebody uses the repository.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// The storage.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

/// A repository could not be pruned, or not to the end. It is whole nevertheless, and the next prune goes on.
#[derive(Debug, thiserror::Error)]
pub enum PruneError {
    /// Somebody uses the repository, or the lock was lost on the way.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// The storage.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// A snapshot, an index or a folder cannot be read: nobody knows what is needed.
    #[error("nothing was pruned, because nobody can say what is needed: {0}")]
    Read(#[from] ReadError),
    /// Something that a snapshot needs is missing.
    #[error(
        "nothing was pruned: {what} is needed, but in no pack that is there; a check says which snapshots it hurts"
    )]
    Incomplete {
        /// The blob or tree.
        what: String,
    },
    /// There is data, but no snapshot.
    #[error(
        "nothing was pruned: {place} has no snapshot, so nothing in it is needed. Make a backup first, or remove it as a \
         whole"
    )]
    NoSnapshot {
        /// Where.
        place: String,
    },
    /// By the clock, something was written in the future.
    #[error(
        "nothing was pruned: by the clock it is {now:.0}, but {what} was written at {time:.0}; set the clock right"
    )]
    Future {
        /// A snapshot, or the marks.
        what: String,
        /// When it was written.
        time: jiff::Timestamp,
        /// What the clock says.
        now: jiff::Timestamp,
    },
    /// By the clock, nobody made a backup for long: the clock may be wrong.
    #[error(
        "nothing was pruned: by the clock it is {now:.0}, but the newest snapshot is of {time:.0}, more than {days} days \
         before. Set the clock right, or make a backup first"
    )]
    LongAgo {
        /// Of the newest snapshot.
        time: jiff::Timestamp,
        /// What the clock says.
        now: jiff::Timestamp,
        /// How many are allowed.
        days: i64,
    },
    /// Packs that are not needed cannot be removed: the storage may not allow it yet.
    #[error(
        "{failed} of {of} packs that nobody needs could not be removed, the next prune tries again: {first}"
    )]
    Stuck {
        /// How many.
        failed: u64,
        /// Of how many that were due.
        of: u64,
        /// What the storage said first.
        first: StorageError,
    },
    /// The system has no random bytes, or no memory to compress with.
    #[error("{0}")]
    System(String),
}
