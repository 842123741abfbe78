//! A server on a restored folder: nobody but this process can reach it, and it ends with it.
//!
//! It runs with settings of its own, whatever the restored files say: no TCP, a socket in a folder that only its owner may
//! enter, nothing archived, nothing streamed, little memory.

use std::fs::{self, File, Permissions};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use klar_base::Hint;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::lsn::{Lsn, Timeline};
use crate::server::programs::{self, last_lines};
use crate::server::{Door, ProgramError, Programs, Session, SessionError};

/// How far to replay.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Until {
    /// All that is there.
    End,
    /// Every commit up to then, and none after it.
    Time(Timestamp),
    /// A place.
    Lsn(Lsn),
    /// A named restore point.
    Name(String),
    /// To just before a transaction commits.
    Before(u32),
}

/// What to do there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Then {
    /// Stand still: it can be read, and replay can go on after a restart.
    Pause,
    /// Begin a new timeline: it can be written to.
    Promote,
}

/// How a server is started on a folder.
#[derive(Debug, Clone)]
pub struct Recovery<'a> {
    /// The folder with the log: segments and histories.
    pub log: &'a Path,
    /// How far.
    pub until: Until,
    /// What then.
    pub then: Then,
    /// Which timeline to follow.
    pub timeline: Timeline,
    /// Settings that have to be at least what they were on the server the files are of.
    pub needs: &'a [(String, String)],
    /// Whether what it writes has to survive a loss of power: not where it is thrown away.
    pub durable: bool,
    /// How long it may take.
    pub patience: Duration,
}

/// It did not come up.
#[derive(Debug, thiserror::Error)]
pub enum ScratchError {
    /// It ended.
    #[error("the server on {} ended while it replayed: {said}", data.display())]
    Ended {
        /// Its folder.
        data: PathBuf,
        /// The end of what it said.
        said: String,
    },
    /// The log ended before what was asked for; not an error of the log where it is known to hold every commit.
    #[error("the log ended before the target was reached")]
    Short,
    /// It took too long.
    #[error("the server on {} was not there after {} s: {said}", data.display(), patience.as_secs())]
    Late {
        /// Its folder.
        data: PathBuf,
        /// How long was waited.
        patience: Duration,
        /// The end of what it said.
        said: String,
    },
    /// It cannot be asked.
    #[error(transparent)]
    Session(#[from] SessionError),
    /// It cannot be started.
    #[error(transparent)]
    Program(#[from] ProgramError),
    /// Its folder.
    #[error("{}: {source}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// As the system says it.
        source: io::Error,
    },
}

impl Hint for ScratchError {
    fn hint(&self) -> Option<String> {
        match self {
            Self::Ended { said, .. } if said.contains("could not locate") || said.contains("invalid checkpoint") => {
                Some("base and log do not fit: take a new base with `klar backup now`, and restore an older point".into())
            }
            Self::Late { .. } => Some("give it more time, or look at its log".into()),
            _ => None,
        }
    }
}

/// A server; dropped, it is stopped at once.
pub struct Scratch {
    child: Child,
    door: Door,
    data: PathBuf,
    home: PathBuf,
    /// The folder of its socket where that is not `home`.
    _apart: Option<Apart>,
    programs: Programs,
}

const PORT: u16 = 5432;
/// The longest path of a socket, with the zero at its end (`sun_path`, unix(7)).
const SOCKET_MAX: usize = 107;

/// A folder for a socket alone; it goes with the server.
struct Apart(PathBuf);

impl Drop for Apart {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

impl Apart {
    /// Makes one, where a socket in `home` would have a path that is too long.
    fn of(home: &Path, programs: &Programs) -> Result<Option<Self>, ScratchError> {
        if home.join(format!(".s.PGSQL.{PORT}.lock")).as_os_str().len() < SOCKET_MAX {
            return Ok(None);
        }
        let path = std::env::temp_dir().join(format!("klar-{:016x}", fastrand::u64(..)));
        let made = fs::DirBuilder::new().mode(0o700).create(&path);
        let given = made.and_then(|()| programs.give(&path));
        given.map_err(|source| ScratchError::File { path: path.clone(), source })?;
        Ok(Some(Self(path)))
    }
}

impl Scratch {
    /// Starts a server on `data` and waits until it stands where it should. `home` is an own folder beside it for its
    /// settings, its log and its socket, unless that had a path too long; it is made.
    ///
    /// # Errors
    /// See [`ScratchError`]; the server is gone then.
    pub fn start(
        programs: &Programs,
        data: &Path,
        home: &Path,
        recovery: &Recovery<'_>,
    ) -> Result<Self, ScratchError> {
        prepare(programs, data, home, recovery)?;
        let log = home.join("server.log");
        let file = |path: &Path| {
            let path = path.to_owned();
            move |source| ScratchError::File { path, source }
        };
        let said = File::options().create(true).append(true).open(&log).map_err(file(&log))?;
        let from = said.metadata().map_err(file(&log))?.len();
        let mut command = programs.server("postgres", "INT");
        command.arg("-D").arg(data);
        command.arg(format!("--config-file={}", home.join("postgresql.conf").display()));
        // What somebody has set with `alter system` lies in the data and comes after the file.
        let apart = Apart::of(home, programs)?;
        let socket = apart.as_ref().map_or(home, |apart| &apart.0);
        for (name, value) in settings(home, socket, recovery) {
            command.arg("-c").arg(format!("{name}={value}"));
        }
        command.current_dir("/").stdout(Stdio::null()).stderr(said);
        let start = |source| ProgramError::Start { program: "postgres".into(), source };
        let child = command.spawn().map_err(start)?;
        let door = Door::socket(socket, PORT, "klar");
        let (data, home) = (data.to_owned(), home.to_owned());
        let mut scratch = Self { child, door, data, home, _apart: apart, programs: programs.clone() };
        scratch.wait(recovery, from)?;
        Ok(scratch)
    }

    /// How to reach it, as a role of the restored cluster that may do everything.
    #[must_use]
    pub fn door(&self) -> &Door {
        &self.door
    }

    /// Its programs.
    #[must_use]
    pub fn programs(&self) -> &Programs {
        &self.programs
    }

    /// Stops it in good order: its files are whole then.
    ///
    /// # Errors
    /// Where it does not stop in time.
    pub fn stop(mut self, patience: Duration) -> Result<(), ScratchError> {
        self.signal(Signal::SIGINT);
        let start = |source| ProgramError::Start { program: "postgres".into(), source };
        match programs::wait(&mut self.child, patience).map_err(start)? {
            Some(_) => Ok(()),
            None => Err(ScratchError::Late { data: self.data.clone(), patience, said: said(&self.home, 0) }),
        }
    }

    fn signal(&self, signal: Signal) {
        if let Ok(pid) = i32::try_from(self.child.id()) {
            let _ = kill(Pid::from_raw(pid), signal);
        }
    }

    fn wait(&mut self, recovery: &Recovery<'_>, from: u64) -> Result<(), ScratchError> {
        let begun = Instant::now();
        loop {
            let start = |source| ProgramError::Start { program: "postgres".into(), source };
            if self.child.try_wait().map_err(start)?.is_some() {
                let said = said(&self.home, from);
                return match said.contains("recovery ended before configured recovery target was reached") {
                    true => Err(ScratchError::Short),
                    false => Err(ScratchError::Ended { data: self.data.clone(), said: last_lines(&said) }),
                };
            }
            if self.is_there(recovery)? {
                return Ok(());
            }
            if begun.elapsed() >= recovery.patience {
                let (data, said) = (self.data.clone(), last_lines(&said(&self.home, from)));
                return Err(ScratchError::Late { data, patience: recovery.patience, said });
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn is_there(&self, recovery: &Recovery<'_>) -> Result<bool, ScratchError> {
        let session = match Session::open(&self.door) {
            Ok(session) => session,
            // Not yet, or not for this role: the log of the server says more, in time.
            Err(SessionError::Connect { .. } | SessionError::Silent { .. }) => return Ok(false),
            Err(error) => return Err(error.into()),
        };
        let sql = match recovery.then {
            Then::Promote => "select not pg_is_in_recovery()",
            Then::Pause => "select pg_is_in_recovery() and pg_get_wal_replay_pause_state() = 'paused'",
        };
        match session.row(sql, "state of replay") {
            Ok(row) => Ok(row.get(0) == Some("t")),
            Err(_) => Ok(false),
        }
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Ok(None) = self.child.try_wait() {
            self.signal(Signal::SIGQUIT);
            if let Ok(None) = programs::wait(&mut self.child, Duration::from_secs(10)) {
                let _ = self.child.kill();
                let _ = self.child.wait();
            }
        }
    }
}

fn prepare(
    programs: &Programs,
    data: &Path,
    home: &Path,
    recovery: &Recovery<'_>,
) -> Result<(), ScratchError> {
    let file = |path: &Path| {
        let path = path.to_owned();
        move |source| ScratchError::File { path, source }
    };
    fs::create_dir_all(home).map_err(file(home))?;
    for (folder, mode) in [(home, 0o700), (data, 0o700)] {
        fs::set_permissions(folder, Permissions::from_mode(mode)).map_err(file(folder))?;
        programs.give(folder).map_err(file(folder))?;
    }
    // Whoever can open the socket owns the folder: no more is asked.
    for (name, text) in [("postgresql.conf", ""), ("hba.conf", "local all all trust\n"), ("ident.conf", "")] {
        let path = home.join(name);
        fs::write(&path, text).map_err(file(&path))?;
        programs.give(&path).map_err(file(&path))?;
    }
    let signal = data.join("recovery.signal");
    if data.join("backup_label").exists() || signal.exists() || recovery.then == Then::Pause {
        fs::write(&signal, "").map_err(file(&signal))?;
        programs.give(&signal).map_err(file(&signal))?;
    }
    Ok(())
}

fn settings(home: &Path, socket: &Path, recovery: &Recovery<'_>) -> Vec<(String, String)> {
    let home = home.display();
    let mut settings: Vec<(String, String)> = [
        ("listen_addresses", String::new()),
        ("port", PORT.to_string()),
        ("unix_socket_directories", socket.display().to_string()),
        ("unix_socket_permissions", "0700".into()),
        ("hba_file", format!("{home}/hba.conf")),
        ("ident_file", format!("{home}/ident.conf")),
        ("external_pid_file", String::new()),
        ("archive_mode", "off".into()),
        ("primary_conninfo", String::new()),
        ("primary_slot_name", String::new()),
        ("synchronous_standby_names", String::new()),
        ("shared_preload_libraries", String::new()),
        ("session_preload_libraries", String::new()),
        ("local_preload_libraries", String::new()),
        ("ssl", "off".into()),
        ("logging_collector", "off".into()),
        ("log_destination", "stderr".into()),
        ("log_min_messages", "warning".into()),
        ("shared_buffers", "64MB".into()),
        ("maintenance_work_mem", "64MB".into()),
        ("max_wal_size", "1GB".into()),
        ("hot_standby", "on".into()),
        ("recovery_init_sync_method", "syncfs".into()),
        ("fsync", if recovery.durable { "on" } else { "off" }.into()),
        ("autovacuum", if recovery.durable { "on" } else { "off" }.into()),
        ("restore_command", format!("cp -- '{}/%f' '%p'", recovery.log.display())),
        ("recovery_target_timeline", recovery.timeline.to_string()),
        (
            "recovery_target_inclusive",
            if matches!(recovery.until, Until::Before(_)) { "off" } else { "on" }.into(),
        ),
        ("recovery_target_action", if recovery.then == Then::Pause { "pause" } else { "promote" }.into()),
        ("recovery_target", String::new()),
        ("recovery_target_time", String::new()),
        ("recovery_target_lsn", String::new()),
        ("recovery_target_name", String::new()),
        ("recovery_target_xid", String::new()),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into();
    settings.extend(recovery.needs.iter().cloned());
    match &recovery.until {
        Until::End => {}
        Until::Time(time) => settings.push(("recovery_target_time".into(), written(*time))),
        Until::Lsn(lsn) => settings.push(("recovery_target_lsn".into(), lsn.to_string())),
        Until::Name(name) => settings.push(("recovery_target_name".into(), name.clone())),
        Until::Before(xid) => settings.push(("recovery_target_xid".into(), xid.to_string())),
    }
    settings
}

/// To the microsecond, with its zone.
fn written(time: Timestamp) -> String {
    time.strftime("%Y-%m-%d %H:%M:%S%.6f+00").to_string()
}

fn said(home: &Path, from: u64) -> String {
    let mut text = String::new();
    if let Ok(mut file) = File::open(home.join("server.log"))
        && file.seek(SeekFrom::Start(from)).is_ok()
    {
        let _ = file.take(1 << 20).read_to_string(&mut text);
    }
    text
}
