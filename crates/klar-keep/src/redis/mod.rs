//! A Redis, kept a second time: a snapshot as a replica gets one, loaded by a server of its own before it counts.
//!
//! ```text
//! link.rs      one command, one answer
//! mod.rs       the running Redis ─► snapshot ─► loaded and counted ─► an archive, as of files
//! scratch.rs   a server on a snapshot, which only this process can reach
//! ```
//!
//! From there on a snapshot is a file as any other: [`crate::files`] keeps it, brings it back and removes it in time.
//! No file of the server's is read, and none is written: it sends the snapshot over the connection.

mod link;
mod scratch;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use klar_base::Hint;
use klar_base::keep::KeptRedis;
use serde::{Deserialize, Serialize};

use crate::files::reader::{self, Known};
use crate::restore::{RestoringError, enough_space};
use crate::server::ProgramError;

use link::Link;
pub use scratch::Scratch;

/// What a snapshot is called in its folder.
pub const SNAPSHOT: &str = "dump.rdb";
/// Where something was written, a point is taken so long after the one before.
pub const HOUR: Duration = Duration::from_secs(3600);
/// How often it is asked whether something was written.
const ASKED: Duration = Duration::from_secs(60);
/// While it prepares a snapshot, it may say nothing for so long: then it begins each line with an empty one.
const SILENT: Duration = Duration::from_secs(120);
/// All of a snapshot is there within this.
const WHOLE: Duration = Duration::from_secs(3600);
/// A server needs so much beside what is in it.
const BESIDE: u64 = 64 << 20;
/// What ends a snapshot whose length was not known when it began.
const MARK: usize = 40;

/// It cannot be kept, or not now.
#[derive(Debug, thiserror::Error)]
pub enum RedisError {
    /// The connection.
    #[error("{at}: {source}")]
    Lost {
        /// Who was asked.
        at: String,
        /// As the system says it.
        source: io::Error,
    },
    /// It does not know the password.
    #[error("{at} does not take klar's password: {said}")]
    Password {
        /// Who was asked.
        at: String,
        /// What it said.
        said: String,
    },
    /// It refuses a command.
    #[error("{at} refuses {command}: {said}")]
    Refused {
        /// Who was asked.
        at: String,
        /// What for.
        command: String,
        /// What it said.
        said: String,
    },
    /// It says what no Redis says.
    #[error("{at} said `{said}`: that is no answer of a Redis")]
    Odd {
        /// Who was asked.
        at: String,
        /// What it said.
        said: String,
    },
    /// It takes too long.
    #[error("the snapshot of {at} was not there after {} s", patience.as_secs())]
    Late {
        /// Who was asked.
        at: String,
        /// How long was waited.
        patience: Duration,
    },
    /// A copy of it does not fit.
    #[error("a server with a copy of {at} needs {needed} bytes of memory, and may have {may}")]
    Memory {
        /// Whose.
        at: String,
        /// How much.
        needed: u64,
        /// How much there is.
        may: u64,
    },
    /// A server did not load it.
    #[error("a server did not load the snapshot: {0}")]
    NotLoaded(String),
    /// A server on a copy.
    #[error(transparent)]
    Program(#[from] ProgramError),
    /// The disk.
    #[error(transparent)]
    Space(#[from] RestoringError),
    /// A file.
    #[error("{}: {source}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// As the system says it.
        source: io::Error,
    },
    /// This process ends.
    #[error("it was given up, since klar keep ends")]
    Over,
}

impl Hint for RedisError {
    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Password { .. } => {
                "somebody has changed it (`CONFIG SET requirepass`), or it is another server: end it, and klar starts its own again".into()
            }
            Self::Memory { .. } => {
                "give the machine more memory, or let less be in it (`EXPIRE`): what cannot be loaded is not kept".into()
            }
            _ => "it is tried again by itself; the points before stay".into(),
        })
    }
}

/// What a server says of a snapshot that it has loaded.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Loaded {
    /// Keys of each database.
    pub keys: BTreeMap<u32, u64>,
    /// Over all keys, values and whether they expire (`DEBUG DIGEST`).
    pub digest: String,
}

impl Loaded {
    /// Keys of all databases together.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.keys.values().sum()
    }
}

/// What is remembered of the Redis that a snapshot is of.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snapshot {
    /// Its version.
    pub version: String,
    /// Where it stood before the snapshot was asked for: while that is the same, nothing was written since.
    pub mark: String,
    /// What was in it.
    pub loaded: Loaded,
}

/// Where snapshots come from.
pub struct Source {
    redis: KeptRedis,
    asked: Mutex<Option<Instant>>,
}

impl Source {
    /// Nothing is asked yet.
    #[must_use]
    pub fn new(redis: KeptRedis) -> Self {
        Self { redis, asked: Mutex::default() }
    }

    /// Gets a snapshot, has a server load it, and gives an archive of it as a reader of folders would.
    ///
    /// # Errors
    /// See [`RedisError`].
    pub fn archive(
        &self,
        work: &Path,
        is_over: &(dyn Fn() -> bool + Sync),
    ) -> Result<UnixStream, RedisError> {
        // The thread that reads the one before may not be done with its folder yet.
        let own = Folder(work.join(format!("snapshot-{:016x}", fastrand::u64(..))));
        let (folder, file) = (own.0.join("files"), |path: &Path| failed(path));
        fs::create_dir_all(&folder).map_err(file(&folder))?;
        let mut snapshot = self.fetch(&folder.join(SNAPSHOT), is_over)?;
        snapshot.loaded = self.load(&folder, is_over)?.1;
        let (here, there) = UnixStream::pair().map_err(file(&own.0))?;
        let archives = move || {
            let _ = reader::archive(&folder, there, Known::Redis(snapshot));
            drop(own);
        };
        let spawned = std::thread::Builder::new().name("snapshot".into()).spawn(archives);
        spawned.map_err(file(work))?;
        Ok(here)
    }

    /// Whether something was written since a mark was made. It is not asked more often than once a minute.
    ///
    /// # Errors
    /// It cannot be asked.
    pub fn is_changed(&self, mark: &str, is_over: &(dyn Fn() -> bool + Sync)) -> Result<bool, RedisError> {
        {
            let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
            if asked.is_some_and(|at| at.elapsed() < ASKED) {
                return Ok(false);
            }
            *asked = Some(Instant::now());
        }
        Ok(mark_of(&Link::open(&self.redis, is_over)?.info()?) != mark)
    }

    /// Has a server load what is in a folder, and gives it and what it says. It ends when it is dropped.
    ///
    /// # Errors
    /// It does not load it.
    pub fn load(
        &self,
        folder: &Path,
        is_over: &(dyn Fn() -> bool + Sync),
    ) -> Result<(Scratch, Loaded), RedisError> {
        let server = self.serve(folder, is_over)?;
        let loaded = server.loaded(is_over)?;
        Ok((server, loaded))
    }

    /// Has a server load what is in a folder, and nothing more.
    ///
    /// # Errors
    /// It does not load it.
    pub fn serve(&self, folder: &Path, is_over: &(dyn Fn() -> bool + Sync)) -> Result<Scratch, RedisError> {
        Scratch::start(&self.redis, folder, is_over)
    }

    /// Runs a server on what is in a folder, which can be written to; nothing of that is kept.
    ///
    /// # Errors
    /// It does not load it.
    pub fn run(&self, folder: &Path) -> Result<Scratch, RedisError> {
        let server = self.serve(folder, &|| false)?;
        server.promote()?;
        Ok(server)
    }

    /// Asks for all that is in it, as a replica does, but for what comes later.
    fn fetch(&self, path: &Path, is_over: &(dyn Fn() -> bool + Sync)) -> Result<Snapshot, RedisError> {
        let mut link = Link::open(&self.redis, is_over)?;
        let info = link.info()?;
        let used: u64 = info.get("used_memory").and_then(|bytes| bytes.parse().ok()).unwrap_or_default();
        self.fits(link.at(), used)?;
        let parent = path.parent().unwrap_or(path);
        // The snapshot here, in the repository, and in the folder in which it is proven; it is smaller than the memory.
        enough_space(parent, used.saturating_mul(2))?;
        // Its length need not be known before: then the server writes no file of its own.
        link.ask(&["REPLCONF", "capa", "eof"], SILENT)?;
        match link.ask(&["REPLCONF", "rdb-only", "1"], SILENT) {
            // Before Redis 7.
            Ok(_) | Err(RedisError::Refused { .. }) => {}
            Err(error) => return Err(error),
        }
        link.send(b"SYNC\r\n")?;
        let file = File::options().write(true).create(true).truncate(true).mode(0o600).open(path);
        let mut file = BufWriter::with_capacity(1 << 20, file.map_err(failed(path))?);
        receive(&mut link, &mut file, path, self.redis.memory)?;
        file.flush().map_err(failed(path))?;
        let version = info.get("redis_version").cloned().unwrap_or_default();
        Ok(Snapshot { version, mark: mark_of(&info), loaded: Loaded::default() })
    }

    /// A server that finds no memory ends in the middle, or makes others end.
    fn fits(&self, at: &str, used: u64) -> Result<(), RedisError> {
        let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
        let free = text.lines().find_map(|line| {
            let kib = line.strip_prefix("MemAvailable:")?.trim().strip_suffix("kB")?.trim();
            kib.parse::<u64>().ok()?.checked_mul(1024)
        });
        let (needed, may) = (used + used / 10 + BESIDE, self.redis.memory.min(free.unwrap_or(u64::MAX)));
        match needed <= may {
            true => Ok(()),
            false => Err(RedisError::Memory { at: at.to_owned(), needed, may }),
        }
    }
}

/// A folder that goes with it.
struct Folder(PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn failed(path: &Path) -> impl Fn(io::Error) -> RedisError + use<> {
    let path = path.to_owned();
    move |source| RedisError::File { path: path.clone(), source }
}

/// Changes when something is written. What was written and has become part of a file of the server's own since counts as
/// written once more: a point too many, and never one too few.
fn mark_of(info: &BTreeMap<String, String>) -> String {
    let fields = ["run_id", "rdb_last_save_time", "rdb_changes_since_last_save"];
    let values = fields.map(|name| info.get(name).map_or("", String::as_str));
    values.join("/")
}

/// Takes a snapshot in, whichever way it is sent (`rdbSaveRioWithEOFMark` and `readSyncBulkPayload` of Redis).
fn receive(link: &mut Link<'_>, out: &mut dyn Write, path: &Path, limit: u64) -> Result<(), RedisError> {
    let begun = Instant::now();
    let late = |at: &str| RedisError::Late { at: at.to_owned(), patience: WHOLE };
    let head = loop {
        // An empty line each second or so, while it prepares.
        let line = link.line(SILENT)?;
        if !line.is_empty() {
            break line;
        }
        if begun.elapsed() >= WHOLE {
            return Err(late(link.at()));
        }
    };
    if let Some(said) = head.strip_prefix('-') {
        let (at, command) = (link.at().to_owned(), "SYNC".to_owned());
        return Err(RedisError::Refused { at, command, said: said.to_owned() });
    }
    let mark = head.strip_prefix("$EOF:").map(|mark| mark.as_bytes().to_vec());
    let mut left: Option<u64> = None;
    match &mark {
        Some(mark) if mark.len() == MARK => {}
        Some(_) => return Err(link.odd(&head)),
        None => {
            let length = head.strip_prefix('$').and_then(|length| length.parse().ok());
            left = Some(length.ok_or_else(|| link.odd(&head))?);
        }
    }
    let mut some = vec![0; 1 << 18];
    // The last bytes, which may be the mark.
    let mut tail: Vec<u8> = Vec::new();
    let mut written: u64 = 0;
    loop {
        if left == Some(0) {
            return Ok(());
        }
        let most =
            left.map_or(some.len(), |left| some.len().min(usize::try_from(left).unwrap_or(usize::MAX)));
        let count = link.some(&mut some[..most], SILENT)?;
        let mut ready: &[u8] = &some[..count];
        if let Some(left) = &mut left {
            *left -= count as u64;
        } else {
            tail.extend_from_slice(ready);
            if mark.as_deref().is_some_and(|mark| tail.ends_with(mark)) {
                tail.truncate(tail.len() - MARK);
                return out.write_all(&tail).map_err(failed(path));
            }
            ready = &tail[..tail.len().saturating_sub(MARK)];
        }
        out.write_all(ready).map_err(failed(path))?;
        written += ready.len() as u64;
        if mark.is_some() {
            let ready = ready.len();
            tail.drain(..ready);
        }
        if written > limit {
            return Err(RedisError::Memory { at: link.at().to_owned(), needed: written, may: limit });
        }
        if begun.elapsed() >= WHOLE {
            return Err(late(link.at()));
        }
    }
}

#[cfg(test)]
mod tests;
