//! The repository: what it is, and the way to everything else.

use std::fmt;
use std::sync::Arc;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::crypto::{MasterKey, random};
use crate::read::BLOB_MAX;
use crate::{
    Backup, BackupError, BackupOptions, CheckData, CheckProgress, CheckReport, ForgetError, Id, KeyError,
    KeyInfo, Kind, Lock, LockError, LockKind, Object, OpenError, PruneError, PruneOptions, PruneProgress,
    Pruned, ReadError, Reader, SealError, Snapshot, Storage, StorageError, check, keys, polynomial, prune,
    zip,
};

/// An open repository. Cheap to clone; all clones are the same one.
#[derive(Clone)]
pub struct Repository(Arc<Inner>);

struct Inner {
    storage: Arc<dyn Storage>,
    master: MasterKey,
    /// The key that it was opened with.
    key: Id,
    id: String,
}

#[derive(Serialize, Deserialize)]
struct Config {
    version: u64,
    id: String,
    chunker_polynomial: String,
}

impl Config {
    fn read(master: &MasterKey, sealed: &[u8]) -> Result<Config, ReadError> {
        let damaged = |why: String| ReadError::Damaged { object: Object::Config, why };
        let plain = master.open(sealed).ok_or_else(|| damaged("it does not open with the key".into()))?;
        serde_json::from_slice(&plain).map_err(|why| damaged(why.to_string()))
    }
}

/// What a JSON object may unpack to, in bytes.
const JSON_MAX: usize = 256 << 20;

impl fmt::Debug for Repository {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Repository({} at {})", self.0.id, self.0.storage.place())
    }
}

impl Repository {
    /// Makes one where there is none, with a first key. `label` says whose password it is.
    ///
    /// # Errors
    /// [`OpenError::Taken`] where there is one.
    pub fn create(storage: Arc<dyn Storage>, password: &str, label: &str) -> Result<Repository, OpenError> {
        match storage.read(&Object::Config) {
            Ok(_) => return Err(OpenError::Taken(storage.place())),
            Err(error) if error.is_gone() => {}
            Err(error) => return Err(error.into()),
        }
        let random_failed = |_| OpenError::Key(KeyError::Random);
        let master = MasterKey::new().map_err(random_failed)?;
        let config = Config {
            version: 2,
            id: Id::from(random().map_err(random_failed)?).to_string(),
            chunker_polynomial: format!("{:x}", polynomial::random_irreducible().map_err(random_failed)?),
        };
        // Texts and numbers can be written as JSON.
        let sealed = master.seal(&serde_json::to_vec(&config).unwrap_or_default()).map_err(random_failed)?;
        // The key first: a repository that nobody can open is none.
        let key = keys::add(&*storage, &master, password, label)?;
        storage.write(&Object::Config, &sealed)?;
        Ok(Repository(Arc::new(Inner { storage, master, key, id: config.id })))
    }

    /// Opens one. Takes about 0.1 s and 32 MiB for each key that is tried: scrypt is meant to be slow.
    ///
    /// # Errors
    /// [`OpenError::Missing`], [`OpenError::Password`], [`OpenError::Version`].
    pub fn open(storage: Arc<dyn Storage>, password: &str) -> Result<Repository, OpenError> {
        let place = storage.place();
        let sealed = match storage.read(&Object::Config) {
            Err(error) if error.is_gone() => return Err(OpenError::Missing(place)),
            sealed => sealed?,
        };
        let (key, master) = keys::open(&*storage, password)?;
        let config = Config::read(&master, &sealed)?;
        if config.version != 2 {
            return Err(OpenError::Version { place, version: config.version });
        }
        Ok(Repository(Arc::new(Inner { storage, master, key, id: config.id })))
    }

    /// Where it is kept.
    #[must_use]
    pub fn storage(&self) -> &dyn Storage {
        &*self.0.storage
    }

    /// What tells it from all others: 64 hexadecimal digits.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.0.id
    }

    /// All keys, the oldest first.
    ///
    /// # Errors
    /// The storage.
    pub fn keys(&self) -> Result<Vec<KeyInfo>, ReadError> {
        keys::list(self.storage(), self.0.key)
    }

    /// Adds a password.
    ///
    /// # Errors
    /// The storage, or a password that is empty.
    pub fn add_key(&self, password: &str, label: &str) -> Result<Id, KeyError> {
        keys::add(self.storage(), &self.0.master, password, label)
    }

    /// One snapshot.
    ///
    /// # Errors
    /// Where it is not there or cannot be read.
    pub fn snapshot(&self, id: Id) -> Result<Snapshot, ReadError> {
        let found: Snapshot = self.json(&Object::Stored(Kind::Snapshot, id))?;
        Ok(Snapshot { id, ..found })
    }

    /// All snapshots, the oldest first.
    ///
    /// # Errors
    /// Where one cannot be read.
    pub fn snapshots(&self) -> Result<Vec<Snapshot>, ReadError> {
        let mut snapshots = Vec::new();
        for (id, _) in self.storage().list(Kind::Snapshot)? {
            snapshots.push(self.snapshot(id)?);
        }
        snapshots.sort_by_key(|snapshot| (snapshot.time, snapshot.id));
        Ok(snapshots)
    }

    /// Locks it, against all others that use it with klar or with restic, on any machine. Backups and prunes do so
    /// themselves. Takes 0.2 s, and a lock of a process that is dead out of the way.
    ///
    /// # Errors
    /// [`LockError::Held`] with who holds it: nobody is waited for.
    pub fn lock(&self, kind: LockKind) -> Result<Lock, LockError> {
        Lock::take(self, kind)
    }

    /// Begins a backup: takes a shared lock, and reads the index, so that nothing is stored twice.
    ///
    /// # Errors
    /// Somebody prunes; an index that cannot be read; a size of pieces that cannot be.
    pub fn backup(&self, options: BackupOptions) -> Result<Backup, BackupError> {
        Backup::begin(self, options)
    }

    /// Whether it is whole, with a shared lock while that lasts. Goes on whatever it finds; with data it reads as much as
    /// there is, on all processors.
    pub fn check(&self, data: CheckData, progress: &mut dyn FnMut(CheckProgress)) -> CheckReport {
        check::run(self, data, progress)
    }

    /// Removes snapshots, under an exclusive lock. What only they needed stays until [`Repository::prune`] removes it.
    /// One that is not there is no error.
    ///
    /// # Errors
    /// Somebody uses the repository; the storage, and then some of them may be gone.
    pub fn forget(&self, snapshots: &[Id]) -> Result<(), ForgetError> {
        let lock = self.lock(LockKind::Exclusive)?;
        for snapshot in snapshots {
            lock.confirm()?;
            self.storage().remove(&Object::Stored(Kind::Snapshot, *snapshot))?;
        }
        Ok(())
    }

    /// Takes away what no snapshot needs any more, under an exclusive lock: a run marks it, and a later one removes it,
    /// `delay` after it was first marked and at the earliest the third run. Interrupted anywhere, it leaves all whole,
    /// and the next run goes on.
    ///
    /// # Errors
    /// [`PruneError::Lock`] while somebody uses it; a clock that cannot be right; something is missing or damaged.
    pub fn prune(
        &self,
        options: PruneOptions,
        progress: &mut dyn FnMut(PruneProgress),
    ) -> Result<Pruned, PruneError> {
        prune::run(self, options, progress)
    }

    /// Begins to read: sees what is there now.
    ///
    /// # Errors
    /// An index that cannot be read.
    pub fn reader(&self) -> Result<Reader, ReadError> {
        Reader::new(self)
    }

    /// Seals a small object for the name it will be stored under: under another name it does not open.
    ///
    /// # Errors
    /// The system gives no random bytes.
    pub fn seal(&self, name: &str, bytes: &[u8]) -> Result<Vec<u8>, SealError> {
        let plain = [Id::of(name.as_bytes()).as_bytes(), bytes].concat();
        self.seal_bytes(&plain).map_err(|why| SealError::System(why.to_owned()))
    }

    /// Opens what [`Repository::seal`] gave.
    ///
    /// # Errors
    /// [`SealError::Damaged`].
    pub fn unseal(&self, name: &str, sealed: &[u8]) -> Result<Vec<u8>, SealError> {
        let plain = self.open_bytes(sealed);
        let bytes = plain.as_deref().and_then(|plain| plain.strip_prefix(Id::of(name.as_bytes()).as_bytes()));
        bytes.map(<[u8]>::to_vec).ok_or_else(|| SealError::Damaged(name.to_owned()))
    }

    /// The key that it was opened with.
    pub(crate) fn key(&self) -> Id {
        self.0.key
    }

    /// Whether its config is what it was.
    pub(crate) fn verify_config(&self) -> Result<(), ReadError> {
        let config = Config::read(&self.0.master, &self.storage().read(&Object::Config)?)?;
        match config.id == self.0.id {
            true => Ok(()),
            false => Err(ReadError::Content("it is that of another repository".into())),
        }
    }

    pub(crate) fn seal_bytes(&self, plain: &[u8]) -> Result<Vec<u8>, &'static str> {
        self.0.master.seal(plain).map_err(|_| "the system gave no random bytes")
    }

    pub(crate) fn open_bytes(&self, sealed: &[u8]) -> Option<Vec<u8>> {
        self.0.master.open(sealed)
    }

    /// A blob out of a pack; `plain` is its length where it was compressed, otherwise 0.
    pub(crate) fn open_blob(
        &self,
        blob: Id,
        pack: Id,
        plain: u32,
        sealed: &[u8],
    ) -> Result<Vec<u8>, ReadError> {
        let damaged = |why: String| ReadError::Blob { blob, pack, why };
        let bytes = self.open_bytes(sealed).ok_or_else(|| damaged("it does not open".into()))?;
        let bytes = match plain as usize {
            0 => bytes,
            length if length > BLOB_MAX => return Err(damaged(format!("it is {length} bytes long"))),
            length => zip::decompress(&bytes, length).map_err(|why| damaged(why.to_string()))?,
        };
        if Id::of(&bytes) != blob {
            return Err(damaged("its content is another".into()));
        }
        Ok(bytes)
    }

    /// One of restic's objects in JSON, whose name is the digest of its bytes.
    pub(crate) fn json<T: DeserializeOwned>(&self, object: &Object) -> Result<T, ReadError> {
        let damaged = |why: &str| ReadError::Damaged { object: object.clone(), why: why.to_owned() };
        let sealed = self.storage().read(object)?;
        if let Object::Stored(_, id) = object
            && Id::of(&sealed) != *id
        {
            return Err(damaged("its bytes are not those that its name is of"));
        }
        let plain = self.open_bytes(&sealed).ok_or_else(|| damaged("it does not open with the key"))?;
        // Version 2: a byte that says how it is packed, unless it is JSON as it is.
        let json = match plain.split_first() {
            Some((2, packed)) => {
                zip::decompress(packed, JSON_MAX).map_err(|why| damaged(&why.to_string()))?
            }
            _ => plain,
        };
        serde_json::from_slice(&json).map_err(|why| damaged(&why.to_string()))
    }

    /// Makes one ready to be written, and gives its name.
    pub(crate) fn seal_json<T: Serialize>(&self, value: &T) -> Result<(Id, Vec<u8>), PutError> {
        let json = serde_json::to_vec(value).map_err(|why| PutError::System(why.to_string()))?;
        let packed = zip::compress(&json).map_err(|why| PutError::System(why.to_string()))?;
        let sealed =
            self.seal_bytes(&[&[2], &*packed].concat()).map_err(|why| PutError::System(why.into()))?;
        Ok((Id::of(&sealed), sealed))
    }

    /// Writes one, and gives its name.
    pub(crate) fn put_json<T: Serialize>(&self, kind: Kind, value: &T) -> Result<Id, PutError> {
        let (id, sealed) = self.seal_json(value)?;
        self.storage().write(&Object::Stored(kind, id), &sealed).map_err(PutError::Storage)?;
        Ok(id)
    }
}

/// Why an object was not written.
pub(crate) enum PutError {
    Storage(StorageError),
    System(String),
}

impl From<PutError> for LockError {
    fn from(error: PutError) -> Self {
        match error {
            PutError::Storage(error) => LockError::Storage(error),
            PutError::System(why) => LockError::System(why),
        }
    }
}

impl From<PutError> for PruneError {
    fn from(error: PutError) -> Self {
        match error {
            PutError::Storage(error) => PruneError::Storage(error),
            PutError::System(why) => PruneError::System(why),
        }
    }
}

impl From<PutError> for BackupError {
    fn from(error: PutError) -> Self {
        match error {
            PutError::Storage(error) => BackupError::Storage(error),
            PutError::System(why) => BackupError::System(why),
        }
    }
}
