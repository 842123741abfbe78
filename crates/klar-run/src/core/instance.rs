//! One process that klar keeps: started through a shim, found again by a later core, stopped in good order.

use std::collections::BTreeSet;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use klar_base::{InstanceId, ReleaseId, wire};
use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, oneshot};

use super::state::unix_ms;
use crate::durable;
use crate::layout::Layout;
use crate::limits::Limits;
use crate::report::{Failure, InstanceState};
use crate::shim::{Exit, FromShim, Spec, ToShim};
use crate::spawn::{Answer, Request, Spawn, Spawner, users::Identity};

/// What an instance is there for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// A service of a release.
    Service {
        /// Which release.
        release: ReleaseId,
    },
    /// A managed database or cache.
    Store,
    /// A build, a migration, a cron run: it ends by itself.
    Job,
}

/// What a later core needs to find a running instance again.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Record {
    /// Which.
    pub id: InstanceId,
    /// What for.
    pub role: Role,
    /// The port that it was given.
    pub port: Option<u16>,
    /// Its shim, once that is known: process id and start time.
    pub shim: Option<(i32, u64)>,
    /// It had become ready.
    pub ready: bool,
    /// When it was started.
    pub started_unix_ms: u64,
}

/// An instance as the core sees it.
#[derive(Debug)]
pub struct Instance {
    /// What is on disk about it.
    pub record: Record,
    /// What it is doing.
    pub state: InstanceState,
    /// Since when.
    pub since: Instant,
    /// When it was started.
    pub started: Instant,
    /// Whether it gets new requests.
    pub serving: bool,
    /// The app's process, as its shim sees it.
    pub pid: Option<i32>,
    /// Where it listens.
    pub ports: BTreeSet<u16>,
    /// The way to its shim.
    pub shim: Option<Arc<UnixStream>>,
    /// How it ended, once it has.
    pub exit: Option<Exit>,
    /// Who waits for its end is told how it ended, once nothing of it is left.
    pub tell_end: Option<oneshot::Sender<Option<Exit>>>,
    /// Why it was given up, when that was klar's decision.
    pub given_up: Option<Failure>,
    /// A successor is on its way: this one no longer counts.
    pub leaving: bool,
}

impl Instance {
    /// An instance that is about to be started.
    pub fn planned(id: InstanceId, role: Role, port: Option<u16>) -> Self {
        let record = Record { id, role, port, shim: None, ready: false, started_unix_ms: unix_ms() };
        Self {
            record,
            state: InstanceState::Starting,
            since: Instant::now(),
            started: Instant::now(),
            serving: false,
            pid: None,
            ports: BTreeSet::new(),
            shim: None,
            exit: None,
            tell_end: None,
            given_up: None,
            leaving: false,
        }
    }

    /// Changes what it is doing.
    pub fn turn(&mut self, state: InstanceState) {
        self.state = state;
        self.since = Instant::now();
    }

    /// Whether it is, or is about to be, of use.
    pub fn is_alive(&self) -> bool {
        matches!(self.state, InstanceState::Starting | InstanceState::Ready)
    }

    /// The release that it runs.
    pub fn release(&self) -> Option<&ReleaseId> {
        match &self.record.role {
            Role::Service { release } => Some(release),
            _ => None,
        }
    }

    /// Where it really listens: the port that it was given, or the lowest one that it chose itself.
    pub fn listening_port(&self) -> Option<u16> {
        let given = self.record.port?;
        if self.ports.contains(&given) { Some(given) } else { self.ports.first().copied().or(Some(given)) }
    }

    /// Asks it to stop; what is left after `patience` is killed.
    pub fn ask_to_stop(&self, patience: Duration) {
        if let Some(shim) = &self.shim {
            // A shim that is gone takes its app with it.
            let _ = wire::send(shim, &ToShim::Stop { patience }, &[]);
        }
    }
}

/// What a shim says, and `None` when it is gone.
pub type ShimMessage = (InstanceId, Option<FromShim>);

/// Starts a shim and the command in it.
///
/// # Errors
/// Why the command could not be started.
pub fn launch(
    layout: &Layout,
    spawner: &Spawner,
    record: &mut Record,
    spec: Spec,
    identity: Identity,
    limits: Limits,
    messages: mpsc::UnboundedSender<ShimMessage>,
) -> io::Result<(Arc<UnixStream>, i32)> {
    let (record_path, socket_path) = layout.shim(&record.id);
    // On disk first: a core that dies now leaves something that a later one finds.
    durable::write_json(&record_path, record)?;
    let _ = std::fs::remove_file(&socket_path);
    let listener = UnixListener::bind(&socket_path)
        .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", socket_path.display())))?;
    let (here, there) = UnixStream::pair()?;
    let spawn = Spawn {
        args: vec!["shim".into(), record.id.to_string()],
        identity,
        limits: Some((record.id.to_string(), limits)),
        private_tmp: Some(layout.tmp(&record.id)),
    };
    let (answer, _) = spawner.ask_blocking(Request::Spawn(spawn), &[listener.as_fd(), there.as_fd()])?;
    drop((listener, there));
    let Answer::Spawned { pid, started_ticks } = answer else {
        return Err(io::Error::other("the spawner did not say what it started"));
    };
    record.shim = Some((pid, started_ticks));
    durable::write_json(&record_path, record)?;
    wire::send(&here, &ToShim::Start(Box::new(spec)), &[])?;
    let app_pid = first_word(&here)?;
    Ok((listen(record.id.clone(), here, messages)?, app_pid))
}

/// Finds the shim of a record again.
///
/// # Errors
/// When it is gone.
pub fn adopt(
    layout: &Layout,
    record: &Record,
    messages: mpsc::UnboundedSender<ShimMessage>,
) -> io::Result<(Arc<UnixStream>, i32)> {
    let stream = UnixStream::connect(layout.shim(&record.id).1)?;
    let app_pid = first_word(&stream)?;
    Ok((listen(record.id.clone(), stream, messages)?, app_pid))
}

fn first_word(stream: &UnixStream) -> io::Result<i32> {
    const PATIENCE: Duration = Duration::from_secs(10);
    stream.set_read_timeout(Some(PATIENCE))?;
    let word = wire::receive::<FromShim>(stream)?;
    stream.set_read_timeout(None)?;
    match word {
        Some((FromShim::Running { pid, .. }, _)) => Ok(pid),
        Some((FromShim::Refused { reason }, _)) => Err(io::Error::other(reason)),
        Some(_) => Err(io::Error::other("its shim spoke out of turn")),
        None => Err(io::Error::other("its shim ended before it had started the command")),
    }
}

fn listen(
    id: InstanceId,
    stream: UnixStream,
    messages: mpsc::UnboundedSender<ShimMessage>,
) -> io::Result<Arc<UnixStream>> {
    stream.set_write_timeout(Some(Duration::from_secs(5)))?;
    let stream = Arc::new(stream);
    let reader = stream.clone();
    std::thread::Builder::new().name("shim-link".into()).stack_size(256 * 1024).spawn(move || {
        while let Ok(Some((message, _))) = wire::receive::<FromShim>(&reader) {
            if messages.send((id.clone(), Some(message))).is_err() {
                return;
            }
        }
        // Nobody to tell: the core is ending.
        let _ = messages.send((id, None));
    })?;
    Ok(stream)
}

/// Removes what a finished instance leaves behind: record, socket, group, tmp.
///
/// # Errors
/// When something of it cannot be removed; the next start of a core tries again.
pub fn clean_up(layout: &Layout, spawner: &Spawner, id: &InstanceId) -> io::Result<()> {
    let (record, socket) = layout.shim(id);
    spawner.ask_blocking(Request::Release { group: id.to_string() }, &[])?;
    spawner.ask_blocking(Request::Remove { path: layout.tmp(id) }, &[])?;
    remove_if_there(socket)?;
    remove_if_there(record)
}

fn remove_if_there(path: PathBuf) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// An open folder for the edge.
///
/// # Errors
/// Names the folder.
pub fn open_folder(path: &std::path::Path) -> io::Result<OwnedFd> {
    use std::os::unix::fs::OpenOptionsExt;
    let file = std::fs::File::options()
        .read(true)
        .custom_flags(libc::O_PATH | libc::O_DIRECTORY)
        .open(path)
        .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", path.display())))?;
    Ok(file.into())
}
