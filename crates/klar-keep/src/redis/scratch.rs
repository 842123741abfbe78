//! A server on a snapshot: nobody but this process can reach it, and it ends with it.
//!
//! It loads as a replica of nobody: a server that is its own master leaves out what has expired since the snapshot was made
//! (`rdbLoadRio` of Redis), and would so be found to differ from itself a minute later.

use std::fs::{self, DirBuilder, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use klar_base::keep::KeptRedis;

use super::link::Link;
use super::{Folder, Loaded, RedisError, SNAPSHOT};
use crate::server::ProgramError;
use crate::server::programs::{self, last_lines};

/// A snapshot is loaded, and a digest made of it, within this.
const LOADING: Duration = Duration::from_secs(900);
/// Whoever asks a server that is there gets an answer within this.
const ANSWER: Duration = Duration::from_secs(10);
/// A server maps more than it uses.
const MAPPED: u64 = 1 << 30;

/// A server; dropped, it ends.
pub struct Scratch {
    child: Child,
    socket: PathBuf,
    /// The socket's folder, whose path is always short enough for one, and what the server says.
    _home: Folder,
}

impl Scratch {
    /// Starts a server on the snapshot in a folder, and waits until it has loaded it.
    pub(super) fn start(
        redis: &KeptRedis,
        folder: &Path,
        is_over: &(dyn Fn() -> bool + Sync),
    ) -> Result<Self, RedisError> {
        let program = redis.program.display().to_string();
        let start = |source: io::Error| ProgramError::Start { program: program.clone(), source };
        let home = Folder(std::env::temp_dir().join(format!("klar-{:016x}", fastrand::u64(..))));
        let file = |path: &Path| super::failed(path);
        DirBuilder::new().mode(0o700).create(&home.0).map_err(file(&home.0))?;
        let (socket, log) = (home.0.join("socket"), home.0.join("log"));
        let said = File::options().create(true).append(true).open(&log).map_err(file(&log))?;
        let mut command = wrapped(&redis.program, redis.memory);
        for (option, value) in [
            ("--port", "0"),
            ("--unixsocket", &*socket.to_string_lossy()),
            ("--unixsocketperm", "700"),
            ("--dir", &*folder.to_string_lossy()),
            ("--dbfilename", SNAPSHOT),
            ("--replicaof", "127.0.0.1 0"),
            ("--replica-serve-stale-data", "yes"),
            ("--save", ""),
            ("--appendonly", "no"),
            ("--daemonize", "no"),
            ("--supervised", "no"),
            ("--logfile", ""),
        ] {
            command.arg(option).arg(value);
        }
        if is_strict(&redis.program)? {
            command.args(["--enable-debug-command", "local"]);
        }
        let child = command.stdout(said.try_clone().map_err(start)?).stderr(said).spawn().map_err(start)?;
        let mut server = Self { child, socket, _home: home };
        server.wait(&log, is_over)?;
        Ok(server)
    }

    /// Its socket.
    #[must_use]
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// From here on it is its own master, and can be written to.
    pub(crate) fn promote(&self) -> Result<(), RedisError> {
        Link::beside(&self.socket, &|| false)?.ask(&["REPLICAOF", "NO", "ONE"], ANSWER).map(drop)
    }

    /// What is in it.
    ///
    /// # Errors
    /// It does not answer.
    pub fn loaded(&self, is_over: &(dyn Fn() -> bool + Sync)) -> Result<Loaded, RedisError> {
        let mut link = Link::beside(&self.socket, is_over)?;
        let digest = link.ask(&["DEBUG", "DIGEST"], LOADING)?;
        let keys = link.info()?.into_iter().filter_map(|(name, value)| {
            let count = value.strip_prefix("keys=")?.split(',').next()?.parse().ok()?;
            Some((name.strip_prefix("db")?.parse().ok()?, count))
        });
        Ok(Loaded { keys: keys.collect(), digest })
    }

    fn wait(&mut self, log: &Path, is_over: &(dyn Fn() -> bool + Sync)) -> Result<(), RedisError> {
        let begun = Instant::now();
        let program = || ProgramError::Start {
            program: "redis-server".into(),
            source: io::Error::other("it cannot be waited for"),
        };
        loop {
            if self.child.try_wait().map_err(|_| program())?.is_some() {
                return Err(RedisError::NotLoaded(last_lines(&said(log))));
            }
            // Not there yet, or still loading: its log says more, in time.
            let pong = Link::beside(&self.socket, is_over).and_then(|mut link| link.ask(&["PING"], ANSWER));
            match pong {
                Ok(_) => return Ok(()),
                Err(RedisError::Over) => return Err(RedisError::Over),
                Err(_) if is_over() => return Err(RedisError::Over),
                Err(_) if begun.elapsed() >= LOADING => {
                    let said = last_lines(&said(log));
                    let (program, patience) = ("redis-server".into(), LOADING);
                    return Err(ProgramError::Late { program, patience, said }.into());
                }
                Err(_) => std::thread::sleep(Duration::from_millis(10)),
            }
        }
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // Nothing of it is needed any more.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Whether `DEBUG` has to be allowed, as from Redis 7 on; one before does not know that option.
fn is_strict(program: &Path) -> Result<bool, RedisError> {
    let mut command = Command::new(program);
    command.env_clear().arg("--version").stdin(Stdio::null());
    let said = programs::succeeded(&mut command, ANSWER)?;
    let version = said.split_whitespace().find_map(|word| word.strip_prefix("v="));
    let major = version.and_then(|version| version.split('.').next()?.parse::<u32>().ok());
    Ok(major.is_none_or(|major| major >= 7))
}

/// The program with nothing of this process' environment, killed when the thread that starts it ends, and with so much memory.
fn wrapped(program: &Path, memory: u64) -> Command {
    const SETPRIV: &str = "/usr/bin/setpriv";
    const PRLIMIT: &str = "/usr/bin/prlimit";
    let mut words: Vec<String> = Vec::new();
    if Path::new(SETPRIV).is_file() {
        words.extend([SETPRIV, "--pdeathsig", "KILL", "--"].map(String::from));
    }
    if Path::new(PRLIMIT).is_file() {
        let limit = memory.saturating_add(MAPPED);
        words.extend([PRLIMIT.to_owned(), format!("--as={limit}"), "--".into()]);
    }
    words.push(program.to_string_lossy().into_owned());
    let mut command = Command::new(&words[0]);
    command.args(&words[1..]).env_clear().env("LC_ALL", "C.UTF-8").env("TZ", "UTC");
    command.current_dir("/").stdin(Stdio::null());
    command
}

/// The end of what a server has said.
fn said(log: &Path) -> String {
    const MOST: u64 = 64 << 10;
    let mut text = Vec::new();
    if let Ok(mut file) = File::open(log) {
        let length = fs::metadata(log).map_or(0, |metadata| metadata.len());
        let _ = file.seek(SeekFrom::Start(length.saturating_sub(MOST)));
        let _ = file.take(MOST).read_to_end(&mut text);
    }
    String::from_utf8_lossy(&text).into_owned()
}
