//! Where the objects of a repository are kept.
//!
//! A storage knows names and bytes, nothing of what is in them. What it has to promise is little, so that a folder,
//! an object store and a double for tests can all promise it: an object is there whole or not at all, and what was
//! once written under a name never becomes something else.

mod folder;
mod memory;
mod overlay;
mod s3;
mod sftp;

use std::fmt;
use std::io;

use crate::Id;

pub use folder::Folder;
pub use memory::{Fault, Memory};
pub use overlay::Overlay;
pub use s3::{NotS3, S3, S3Options};
pub use sftp::{NotAFile, NotConnected, Sftp, SftpOptions, SshOptions, Transport};

/// No object is read or written that is longer: 512 MiB. Packs are a thirtieth of it.
pub const OBJECT_MAX: u64 = 512 << 20;

/// The kinds of objects that restic knows, but for `config`, of which there is one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// Blobs, many in one object.
    Pack,
    /// Which blob is in which pack.
    Index,
    /// One backup each.
    Snapshot,
    /// The repository's key, sealed with a password.
    Key,
    /// Who uses the repository right now.
    Lock,
}

impl Kind {
    /// All, in the order in which they depend on each other.
    pub const ALL: [Kind; 5] = [Kind::Key, Kind::Pack, Kind::Index, Kind::Snapshot, Kind::Lock];

    /// The folder: `data`, `index`, `snapshots`, `keys`, `locks`.
    #[must_use]
    pub fn folder(self) -> &'static str {
        match self {
            Kind::Pack => "data",
            Kind::Index => "index",
            Kind::Snapshot => "snapshots",
            Kind::Key => "keys",
            Kind::Lock => "locks",
        }
    }
}

/// Names one object.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Object {
    /// What the repository is.
    Config,
    /// One of restic's.
    Stored(Kind, Id),
    /// One that restic does not know and leaves alone, such as `klar/wal/000000010000000000000001`: up to 255 bytes
    /// of `A-Z a-z 0-9 . _ -` in parts between slashes, no part beginning with a dot, the first part none of
    /// restic's folders.
    Extra(String),
}

impl Object {
    /// Where it is, from the storage's root: `data/2f/2f…`, `config`, the name of an extra one.
    #[must_use]
    pub fn path(&self) -> String {
        match self {
            Object::Config => "config".to_owned(),
            Object::Stored(Kind::Pack, id) => {
                let id = id.to_string();
                format!("data/{}/{id}", &id[..2])
            }
            Object::Stored(kind, id) => format!("{}/{id}", kind.folder()),
            Object::Extra(name) => name.clone(),
        }
    }

    /// Whether the name may be used; only names of extra objects may be wrong.
    ///
    /// # Errors
    /// [`StorageError::Name`].
    pub fn verify(&self) -> Result<(), StorageError> {
        let Object::Extra(name) = self else { return Ok(()) };
        let part = |part: &str| {
            !part.is_empty()
                && !part.starts_with('.')
                && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
        };
        let first = name.split('/').next().unwrap_or_default();
        let taken = ["config", "tmp"].contains(&first) || Kind::ALL.iter().any(|kind| kind.folder() == first);
        match name.len() <= 255 && name.contains('/') && !taken && name.split('/').all(part) {
            true => Ok(()),
            false => Err(StorageError::Name(name.chars().take(300).collect())),
        }
    }
}

impl fmt::Display for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.path())
    }
}

/// Why a storage did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum StorageError {
    /// There is no such object.
    #[error("{0} is not there")]
    Gone(Object),
    /// It exists, with other bytes. Nothing is ever overwritten.
    #[error("{0} exists already, with other content: it was left as it is")]
    Exists(Object),
    /// Shorter than what was asked for.
    #[error("{object} is cut short: it has {length} bytes, expected at least {expected}")]
    Short {
        /// Which.
        object: Object,
        /// Bytes there are.
        length: u64,
        /// Bytes there should be.
        expected: u64,
    },
    /// Longer than [`OBJECT_MAX`].
    #[error("{object} is {length} bytes long, more than the {OBJECT_MAX} that an object may have")]
    Long {
        /// Which.
        object: Object,
        /// Bytes.
        length: u64,
    },
    /// The name of an extra object cannot be used.
    #[error("{0:?} cannot name an object: see `Object::Extra` for what can")]
    Name(String),
    /// What is beneath failed.
    #[error("{doing} {what}: {source}")]
    Io {
        /// `reading`, `writing`, `removing`, `listing`.
        doing: &'static str,
        /// The object, or the folder.
        what: String,
        /// As the system says it.
        source: io::Error,
    },
}

impl StorageError {
    /// Whether the object is simply not there.
    #[must_use]
    pub fn is_gone(&self) -> bool {
        matches!(self, StorageError::Gone(_))
    }
}

/// See the module. Every call may come from several threads at once.
pub trait Storage: Send + Sync {
    /// What people know it by in messages: the path, the address of the bucket. Never a credential.
    fn place(&self) -> String;

    /// All objects of a kind with their length in bytes, in no order. What is not named by an id is left out.
    ///
    /// # Errors
    /// Where it cannot be listed as a whole.
    fn list(&self, kind: Kind) -> Result<Vec<(Id, u64)>, StorageError>;

    /// All extra objects whose name begins with `prefix` (which ends with a slash) and their lengths, sorted.
    ///
    /// # Errors
    /// Where they cannot be listed as a whole.
    fn list_extra(&self, prefix: &str) -> Result<Vec<(String, u64)>, StorageError>;

    /// A whole object.
    ///
    /// # Errors
    /// [`StorageError::Gone`] where it is not there; [`StorageError::Long`]; whatever is beneath.
    fn read(&self, object: &Object) -> Result<Vec<u8>, StorageError>;

    /// `length` bytes from `offset` on: so many, or an error.
    ///
    /// # Errors
    /// [`StorageError::Short`] where it ends before; as [`Storage::read`].
    fn read_range(&self, object: &Object, offset: u64, length: usize) -> Result<Vec<u8>, StorageError>;

    /// Writes an object. When this returns, it is there whole and survives a loss of power; before that, it is not
    /// there at all. It is no error where it is there already with the same bytes.
    ///
    /// # Errors
    /// [`StorageError::Exists`] where it is there with other bytes; whatever is beneath.
    fn write(&self, object: &Object, bytes: &[u8]) -> Result<(), StorageError>;

    /// Removes an object; one that is not there is no error.
    ///
    /// # Errors
    /// Whatever is beneath; also where the storage does not allow it (yet).
    fn remove(&self, object: &Object) -> Result<(), StorageError>;

    /// Begins an object that grows, of which there is none yet.
    ///
    /// # Errors
    /// [`StorageError::Io`] with [`io::ErrorKind::Unsupported`] where objects of this storage cannot grow: those of S3;
    /// as [`Storage::write`].
    fn grow(&self, object: &Object) -> Result<Box<dyn Growing>, StorageError> {
        let source = io::Error::new(io::ErrorKind::Unsupported, "its objects cannot grow");
        Err(StorageError::Io { doing: "writing", what: object.to_string(), source })
    }

    /// Whether what is written here can be removed by nobody for a time, not even with this storage's own credentials:
    /// `probe` is written and removed.
    ///
    /// # Errors
    /// As [`Storage::write`].
    fn is_locked(&self, probe: &Object) -> Result<bool, StorageError> {
        self.write(probe, b"whether it can be removed")?;
        Ok(self.remove(probe).is_err())
    }
}

/// An object that grows. Unlike others it can be seen before it is whole, and after a kill its end may be half of what was
/// appended last.
pub trait Growing: Send {
    /// Appends. When this returns, the bytes survive a loss of power.
    ///
    /// # Errors
    /// Whatever is beneath. What is at the end is not known then: begin another one.
    fn append(&mut self, bytes: &[u8]) -> Result<(), StorageError>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_extra_objects() {
        for (name, good) in [
            ("klar/wal/000000010000000000000001", true),
            ("klar/points/a.json", true),
            ("klar", false),
            ("klar/", false),
            ("/klar/a", false),
            ("klar//a", false),
            ("klar/../config", false),
            ("klar/.hidden", false),
            ("data/00/x", false),
            ("tmp/x", false),
            ("klar/a b", false),
        ] {
            assert_eq!(Object::Extra(name.to_owned()).verify().is_ok(), good, "{name}");
        }
        assert!(Object::Extra(format!("klar/{}", "a".repeat(260))).verify().is_err());
    }
}
