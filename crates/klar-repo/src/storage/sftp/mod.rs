//! A repository on any machine with sshd, in restic's layout: `restic -r sftp:…` reads it.
//!
//! The system's `ssh` is the child that brings us there ([`Transport`]), and klar speaks SFTP version 3 with it. An object is
//! written beside its place, made to survive a loss of power there (`fsync@openssh.com`), and only then gets its name: by
//! a hard link, which fails where there is something of that name. (`posix-rename@openssh.com` would put it in place of
//! that, so it is never used.) The folder is opened as if it were a file, and is made to survive in the same way: OpenSSH's
//! server does that. A server that does not is refused, since nothing that is written there could be called safe.
//!
//! Calls share up to four connections. What breaks off is asked once more over a new one: all that is asked may be asked
//! twice. An object that grows has a connection of its own.

mod connection;
mod grow;
mod steps;
mod transport;
mod wire;

use std::collections::BTreeSet;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ring::rand::{SecureRandom, SystemRandom};

use super::{Growing, Kind, OBJECT_MAX, Object, Storage, StorageError};
use crate::Id;

use connection::{Asked, Connection, Wrong};
use steps::{list, pieces, read, sync};
pub use transport::{NotAFile, NotConnected, SshOptions, Transport};
use wire::{Answer, Entry, FSYNC, HARDLINK, Refused, Request, kind, open};

/// So many connections at once.
const CONNECTIONS: usize = 4;
/// How deep extra objects lie at most.
const DEPTH: u32 = 16;
/// How long what a killed writer left in `tmp` stays, in seconds of the server's clock.
const LEFTOVER: u32 = 24 * 60 * 60;

/// Where, and how to get there.
#[derive(Debug, Clone)]
pub struct SftpOptions {
    /// What people know it by.
    pub place: String,
    /// The folder there, from the root on; it is made with the first object.
    pub path: String,
    /// What brings us there.
    pub transport: Transport,
    /// For how long an answer is waited for. A disk that makes 16 MiB survive a loss of power takes seconds.
    pub patience: Duration,
}

/// See the module.
pub struct Sftp {
    options: SftpOptions,
    root: String,
    pool: Mutex<Pool>,
    free: Condvar,
    /// Names temporary files apart: of whoever else writes there, and among each other.
    tag: String,
    next: AtomicU64,
}

#[derive(Default)]
struct Pool {
    idle: Vec<Connection>,
    taken: usize,
    /// Folders whose own names survive a loss of power.
    settled: BTreeSet<String>,
}

/// The right to have one of the connections.
struct Turn<'a>(&'a Sftp);

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.0.pool().taken -= 1;
        self.0.free.notify_one();
    }
}

impl Sftp {
    /// The folder. Nothing is asked yet.
    #[must_use]
    pub fn new(options: SftpOptions) -> Sftp {
        let mut random = [0; 8];
        // Without random bytes the process alone tells them apart.
        let _ = SystemRandom::new().fill(&mut random);
        Sftp {
            root: options.path.trim_end_matches('/').to_owned(),
            tag: format!("{:016x}-{}", u64::from_be_bytes(random), std::process::id()),
            options,
            pool: Mutex::default(),
            free: Condvar::new(),
            next: AtomicU64::new(0),
        }
    }

    fn pool(&self) -> MutexGuard<'_, Pool> {
        self.pool.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A new connection. Where it is not clear why there is none (an sshd that is asked by many at once closes some), it is
    /// tried once more.
    fn connect(&self) -> Asked<Connection> {
        let open = || Connection::open(&self.options.transport, self.options.patience);
        open()
            .or_else(|broken| if broken.hint().is_some() { Err(broken) } else { open() })
            .map_err(Wrong::Broken)
    }

    /// Does something over one of the connections, once more over a new one where it breaks off: it may be done twice.
    fn with<T>(&self, mut ask: impl FnMut(&mut Connection) -> Asked<T>) -> Asked<T> {
        let mut pool = self.pool();
        while pool.taken >= CONNECTIONS {
            pool = self.free.wait(pool).unwrap_or_else(PoisonError::into_inner);
        }
        pool.taken += 1;
        let idle = pool.idle.pop();
        drop(pool);
        let _turn = Turn(self);
        let mut connection = idle.map_or_else(|| self.connect(), Ok)?;
        let mut asked = ask(&mut connection);
        if let Err(Wrong::Broken(_)) = asked {
            // The others are likely to be of no more use either.
            let others = std::mem::take(&mut self.pool().idle);
            drop((connection, others));
            connection = self.connect()?;
            asked = ask(&mut connection);
        }
        if !matches!(asked, Err(Wrong::Broken(_))) {
            self.pool().idle.push(connection);
        }
        asked
    }

    fn path(&self, object: &Object) -> Result<String, StorageError> {
        object.verify()?;
        Ok(format!("{}/{}", self.root, object.path()))
    }

    fn failed(&self, doing: &'static str, what: &str, wrong: Wrong) -> StorageError {
        let source = match wrong {
            Wrong::Broken(broken) => io::Error::new(io::ErrorKind::NotConnected, broken),
            Wrong::Refused(Refused { code, said }) => {
                let kind = match code {
                    Refused::GONE => io::ErrorKind::NotFound,
                    Refused::DENIED => io::ErrorKind::PermissionDenied,
                    Refused::UNSUPPORTED => io::ErrorKind::Unsupported,
                    _ => io::ErrorKind::Other,
                };
                // OpenSSH has no other word for it.
                let full = match (doing, code) {
                    ("writing", Refused::FAILURE) => " (is its disk full?)",
                    _ => "",
                };
                io::Error::new(kind, format!("the server answered `{said}`{full}"))
            }
        };
        let place = &self.options.place;
        let what = if what.is_empty() { place.clone() } else { format!("{place}/{what}") };
        StorageError::Io { doing, what, source }
    }

    /// Where nothing can be made to survive a loss of power, nothing is written.
    fn must_sync(&self, connection: &Connection) -> Asked<()> {
        match connection.offers(FSYNC) {
            true => Ok(()),
            false => Err(unsafe_there("it does not know fsync@openssh.com")),
        }
    }

    /// Makes a folder and what is above it, so that they survive a loss of power.
    fn make(&self, connection: &mut Connection, folder: &str) -> Asked<()> {
        let above = folder.rsplit_once('/').map(|(above, _)| above);
        let mut made = connection.done(Request::make(folder));
        if is_gone(&made)
            && let Some(above) = above.filter(|above| !above.is_empty())
        {
            self.make(connection, above)?;
            made = connection.done(Request::make(folder));
        }
        match made {
            Ok(()) => sync(connection, &[above.filter(|above| !above.is_empty()).unwrap_or("/")]),
            // Version 3 has no word for what is there already.
            Err(Wrong::Refused(refused)) => match connection.is_there(folder)? {
                true => Ok(()),
                false => {
                    let said = format!("making the folder {folder}: {}", refused.said);
                    Err(Wrong::Refused(Refused { said, ..refused }))
                }
            },
            Err(wrong) => Err(wrong),
        }
    }

    /// A new file of that path; the folders above it are made where they are missing.
    fn create(&self, connection: &mut Connection, path: &str) -> Asked<Vec<u8>> {
        match connection.create(path) {
            Err(Wrong::Refused(refused)) if refused.code == Refused::GONE => {
                self.make(connection, above(path))?;
                connection.create(path)
            }
            created => created,
        }
    }

    /// What was put into a folder survives a loss of power; so do the folders above it, of which an earlier process may have
    /// made one without coming as far as this.
    fn settle(&self, connection: &mut Connection, folder: &str) -> Asked<()> {
        let mut folders = vec![folder];
        let mut at = folder;
        while at.len() > self.root.len() && !self.pool().settled.contains(at) {
            at = above(at);
            folders.push(at);
        }
        sync(connection, &folders)?;
        let mut pool = self.pool();
        // Who is settled is the name in the folder above.
        folders.pop();
        pool.settled.extend(folders.into_iter().map(str::to_owned));
        Ok(())
    }

    /// Writes a file in `tmp` and gives it its name. `false`: there is one of that name.
    fn put(&self, connection: &mut Connection, path: &str, bytes: &[u8], tidy: bool) -> Asked<bool> {
        self.must_sync(connection)?;
        let next = self.next.fetch_add(1, Ordering::Relaxed);
        let tmp = format!("{}/tmp", self.root);
        let name = format!("{}-{next}", self.tag);
        let half = format!("{tmp}/{name}");
        let handle = self.create(connection, &half)?;
        if tidy {
            self.tidy(connection, &tmp, &name)?;
        }
        let ends = [Request::fsync(&handle), Request::handle(kind::CLOSE, &handle)];
        let written = connection.all_done(pieces(&handle, 0, bytes).chain(ends));
        let placed = written.and_then(|()| self.name(connection, &half, path));
        if !matches!(placed, Err(Wrong::Broken(_))) {
            // It may be gone: a rename has taken it.
            match connection.done(Request::path(kind::REMOVE, &half)) {
                Err(Wrong::Broken(broken)) => return placed.and(Err(Wrong::Broken(broken))),
                Ok(()) | Err(Wrong::Refused(_)) => {}
            }
        }
        placed
    }

    fn name(&self, connection: &mut Connection, half: &str, path: &str) -> Asked<bool> {
        let folder = above(path);
        let mut has_made = false;
        let mut links = connection.offers(HARDLINK);
        loop {
            let request = if links { Request::link(half, path) } else { Request::rename(half, path) };
            let named = match connection.done(request) {
                Err(Wrong::Refused(refused)) if refused.code == Refused::GONE && !has_made => {
                    self.make(connection, folder)?;
                    has_made = true;
                    continue;
                }
                Err(Wrong::Refused(refused)) => match connection.is_there(path)? {
                    true => false,
                    // File systems without links. Nobody else writes this name with other bytes: ids say what is in
                    // an object, and extra names have one writer.
                    false if links => {
                        links = false;
                        continue;
                    }
                    false => return Err(Wrong::Refused(refused)),
                },
                named => named.map(|()| true)?,
            };
            // Also for what was there: who put it there may not have come as far as this.
            return self.settle(connection, folder).map(|()| named);
        }
    }

    /// What was half written when its writer was killed is no object, only in the way. `name` was written just now, by the
    /// clock that all others are compared with.
    fn tidy(&self, connection: &mut Connection, tmp: &str, name: &str) -> Asked<()> {
        let entries = list(connection, &[tmp.to_owned()])?.pop().flatten().unwrap_or_default();
        let now = entries.iter().find(|entry| entry.name == name).and_then(|entry| entry.attributes.modified);
        let is_old = |entry: &&Entry| {
            let age = now.zip(entry.attributes.modified).map(|(now, then)| now.saturating_sub(then));
            entry.attributes.is_file() && age.is_some_and(|age| age > LEFTOVER)
        };
        let old: Vec<String> =
            entries.iter().filter(is_old).map(|entry| format!("{tmp}/{}", entry.name)).collect();
        // Somebody else may have been quicker.
        connection.many(old.iter().map(|path| Request::path(kind::REMOVE, path)), &mut |_, _| Ok(()))
    }

    /// A part of a file, or all of it; less where it ends before.
    fn get(&self, connection: &mut Connection, path: &str, range: Option<(u64, usize)>) -> Asked<Got> {
        let handle = connection.opened(Request::open(path, open::READ))?;
        let size =
            |connection: &mut Connection| match connection.ask(Request::handle(kind::FSTAT, &handle))? {
                Answer::Attributes(attributes) => attributes
                    .size
                    .ok_or_else(|| Wrong::Broken(connection.odd("it does not say how long a file is"))),
                _ => Err(Wrong::Broken(connection.odd("it answered something else"))),
            };
        let (offset, length) = match range {
            Some(range) => range,
            None => (0, usize::try_from(size(connection)?).unwrap_or(usize::MAX)),
        };
        let got = if length as u64 > OBJECT_MAX {
            Got::Long(length as u64)
        } else {
            let bytes = read(connection, &handle, offset, length)?;
            match bytes.len() == length {
                true => Got::Bytes(bytes),
                false => Got::Short(size(connection)?),
            }
        };
        connection.done(Request::handle(kind::CLOSE, &handle))?;
        Ok(got)
    }

    fn fetch(&self, object: &Object, range: Option<(u64, usize)>) -> Result<Vec<u8>, StorageError> {
        let path = self.path(object)?;
        match self.with(|connection| self.get(connection, &path, range)) {
            Ok(Got::Bytes(bytes)) => Ok(bytes),
            Ok(Got::Long(length)) => Err(StorageError::Long { object: object.clone(), length }),
            Ok(Got::Short(length)) => {
                let expected = range.map_or(length, |(offset, length)| offset + length as u64);
                Err(StorageError::Short { object: object.clone(), length, expected })
            }
            Err(Wrong::Refused(refused)) if refused.code == Refused::GONE => {
                Err(StorageError::Gone(object.clone()))
            }
            Err(wrong) => Err(self.failed("reading", &object.path(), wrong)),
        }
    }
}

enum Got {
    Bytes(Vec<u8>),
    /// It ends before; so long it is.
    Short(u64),
    Long(u64),
}

fn unsafe_there(why: &str) -> Wrong {
    let said = format!("{why}: what is written there could be lost with its power, so nothing was");
    Wrong::Refused(Refused { code: Refused::UNSUPPORTED, said })
}

fn is_gone<T>(asked: &Asked<T>) -> bool {
    matches!(asked, Err(Wrong::Refused(refused)) if refused.code == Refused::GONE)
}

/// The folder of a path.
fn above(path: &str) -> &str {
    match path.rsplit_once('/') {
        Some((above, _)) if !above.is_empty() => above,
        _ => "/",
    }
}

impl Storage for Sftp {
    fn place(&self) -> String {
        self.options.place.clone()
    }

    fn list(&self, kind: Kind) -> Result<Vec<(Id, u64)>, StorageError> {
        let top = format!("{}/{}", self.root, kind.folder());
        let listed = self.with(|connection| {
            let mut all = list(connection, std::slice::from_ref(&top))?;
            if kind == Kind::Pack {
                let is_part = |entry: &&Entry| entry.attributes.is_folder() && entry.name.len() == 2;
                let parts = all.iter().flatten().flatten().filter(is_part);
                let parts: Vec<String> = parts
                    .filter(|entry| entry.name != "..")
                    .map(|entry| format!("{top}/{}", entry.name))
                    .collect();
                all.extend(list(connection, &parts)?);
            }
            Ok(all)
        });
        let listed = listed.map_err(|wrong| self.failed("listing", kind.folder(), wrong))?;
        let files = listed.into_iter().flatten().flatten().filter(|entry| entry.attributes.is_file());
        Ok(files.filter_map(|entry| Some((entry.name.parse().ok()?, entry.attributes.size?))).collect())
    }

    fn list_extra(&self, prefix: &str) -> Result<Vec<(String, u64)>, StorageError> {
        Object::Extra(format!("{prefix}x")).verify()?;
        let listed = self.with(|connection| {
            let (mut found, mut folders) = (Vec::new(), vec![prefix.to_owned()]);
            for _ in 0..=DEPTH {
                let paths: Vec<String> = folders
                    .iter()
                    .map(|name| format!("{}/{}", self.root, name.trim_end_matches('/')))
                    .collect();
                let mut beneath = Vec::new();
                for (folder, entries) in folders.iter().zip(list(connection, &paths)?) {
                    for Entry { name, attributes } in entries.into_iter().flatten() {
                        let name = format!("{folder}{name}");
                        if Object::Extra(name.clone()).verify().is_err() {
                            continue;
                        }
                        match attributes.size {
                            _ if attributes.is_folder() => beneath.push(format!("{name}/")),
                            Some(size) if attributes.is_file() => found.push((name, size)),
                            _ => {}
                        }
                    }
                }
                folders = beneath;
            }
            Ok(found)
        });
        let mut found =
            listed.map_err(|wrong| self.failed("listing", prefix.trim_end_matches('/'), wrong))?;
        found.sort();
        Ok(found)
    }

    fn read(&self, object: &Object) -> Result<Vec<u8>, StorageError> {
        self.fetch(object, None)
    }

    fn read_range(&self, object: &Object, offset: u64, length: usize) -> Result<Vec<u8>, StorageError> {
        let expected = offset.saturating_add(length as u64);
        if expected > OBJECT_MAX {
            return Err(StorageError::Long { object: object.clone(), length: expected });
        }
        self.fetch(object, Some((offset, length)))
    }

    fn write(&self, object: &Object, bytes: &[u8]) -> Result<(), StorageError> {
        let path = self.path(object)?;
        if bytes.len() as u64 > OBJECT_MAX {
            return Err(StorageError::Long { object: object.clone(), length: bytes.len() as u64 });
        }
        let tidy = matches!(object, Object::Stored(Kind::Snapshot, _));
        let written = self.with(|connection| {
            if *object == Object::Config {
                self.must_sync(connection)?;
                for kind in Kind::ALL {
                    self.make(connection, &format!("{}/{}", self.root, kind.folder()))?;
                }
            }
            self.put(connection, &path, bytes, tidy)
        });
        match written {
            Ok(true) => Ok(()),
            // Perhaps from an attempt that broke off.
            Ok(false) => match self.read(object)? == bytes {
                true => Ok(()),
                false => Err(StorageError::Exists(object.clone())),
            },
            Err(wrong) => Err(self.failed("writing", &object.path(), wrong)),
        }
    }

    fn grow(&self, object: &Object) -> Result<Box<dyn Growing>, StorageError> {
        grow::begin(self, object)
    }

    fn remove(&self, object: &Object) -> Result<(), StorageError> {
        let path = self.path(object)?;
        match self.with(|connection| connection.done(Request::path(kind::REMOVE, &path))) {
            Err(Wrong::Refused(refused)) if refused.code != Refused::GONE => {
                Err(self.failed("removing", &object.path(), Wrong::Refused(refused)))
            }
            Err(wrong @ Wrong::Broken(_)) => Err(self.failed("removing", &object.path(), wrong)),
            _ => Ok(()),
        }
    }
}
