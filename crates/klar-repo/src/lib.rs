//! A repository of backups in restic's format (version 2), over any storage.
//!
//! Files come in as readers with a path and metadata; they are cut into pieces, each is stored once, sealed with
//! AES-256-CTR and Poly1305-AES, and a snapshot names the tree they make. Any `restic` from 0.14 on can check and
//! restore what is written here without klar. Source: restic's design document (`doc/design.rst` of
//! github.com/restic/restic).
//!
//! ```text
//! Storage ◄── Repository ─┬─► Backup ── finish ─► Stored (snapshot)
//!  Folder                 ├─► Reader ─► restore
//!  S3                     ├─► Lock
//!  Sftp                   ├─► Mirror ─► another Storage
//!  Memory                 ├─► check ─► CheckReport
//!                         ├─► forget, prune ─► Pruned
//!                         └─► seal, unseal: small objects beside restic's
//! ```
//!
//! **Invariant:** it knows nothing of klar, PostgreSQL or schedules. It has no runtime: `std::io`, and calls that wait.
//! **Invariant:** a snapshot is written last, and only when every file that was begun was read to its end.
//! **Invariant:** no byte leaves a repository that was not compared with the id it was asked for by.
//! **Invariant:** who writes holds a lock that restic knows: nobody prunes beside a backup, neither klar nor restic.
//! **Invariant:** a kill at any moment leaves a repository that a check finds whole, and nothing that a snapshot needs is
//! ever removed: see `prune`.

mod backup;
mod check;
mod crypto;
mod error;
mod hangup;
mod id;
mod index;
mod keys;
mod lock;
mod mirror;
mod pack;
mod packers;
mod polynomial;
mod prune;
mod read;
mod repository;
mod restore;
mod snapshot;
mod storage;
mod table;
#[cfg(test)]
mod tests;
mod tree;
mod zip;

pub use backup::{Backup, BackupOptions, Pieces, Stored};
pub use check::{CheckData, CheckProgress, CheckReport, CheckStep, Hurt, Problem, Subject};
pub use error::{
    BackupError, ForgetError, KeyError, LockError, OpenError, PruneError, ReadError, RestoreError, SealError,
};
pub use id::{Id, NotAnId};
pub use keys::KeyInfo;
pub use lock::{Holder, Lock, LockKind};
pub use mirror::{Compared, Extras, Gone, Mirror, MirrorError, Mirrored};
pub use prune::{PruneOptions, PruneProgress, PruneStep, Pruned};
pub use read::Reader;
pub use repository::Repository;
pub use restore::Restored;
pub use snapshot::Snapshot;
pub use storage::{
    Fault, Folder, Growing, Kind, Memory, NotAFile, NotConnected, NotS3, OBJECT_MAX, Object, Overlay, S3,
    S3Options, Sftp, SftpOptions, SshOptions, Storage, StorageError, Transport,
};
pub use tree::Metadata;
