//! `klar spawn`: the only part of klar that stays root. It starts the core, answers its requests, and starts it
//! again when it dies. It reads nothing but the core's socket, and has one thread.
//!
//! When it dies itself, the core notices and ends; whoever started the spawner (systemd) starts both again, and
//! the new core finds the instances, the databases and the edge as they are.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use klar_base::wire;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigHandler, Signal, signal};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use super::{Answer, Privileged, Request, Spawn, process, users, users::Identity};
use crate::keeper::{Keeper, Then, Verdict};

/// How long to wait before the core is started again, after it died within [`STEADY`] of its start.
const BACKOFF_MAX: Duration = Duration::from_secs(5);
const STEADY: Duration = Duration::from_secs(10);
const POLL_MS: u16 = 200;

/// A core that runs already, with the connection to it: handed over by the program that this process was before.
#[derive(Debug)]
pub struct Running {
    /// The connection.
    pub stream: UnixStream,
    /// The process; a child of this one.
    pub core: Pid,
}

/// Runs until the core says [`Request::Finish`], or a signal asks to end.
///
/// # Errors
/// When the state folder or the users cannot be made.
pub fn run(root: &Path, mut running: Option<Running>) -> io::Result<()> {
    process::reserve_descriptors()?;
    let host = Privileged::new(root)?;
    std::fs::create_dir_all(root)?;
    // Everyone may pass through, to the folders that are theirs; nobody else may list.
    users::folder(&host, root, &Identity::Core, &Identity::Core, 0o711)?;
    for (folder, mode) in [
        ("logs", 0o700),
        ("run", 0o711),
        ("run/i", 0o700),
        ("ca", 0o700),
        ("apps", 0o711),
        ("data", 0o711),
        ("keep", 0o711),
    ] {
        users::folder(&host, &root.join(folder), &Identity::Core, &Identity::Core, mode)?;
    }
    // SAFETY: ignoring a signal installs no code of ours.
    #[allow(unsafe_code)]
    unsafe {
        signal(Signal::SIGPIPE, SigHandler::SigIgn)?;
    }
    let mut backoff = Duration::ZERO;
    let mut keeper = Keeper::new(root);
    loop {
        let started = Instant::now();
        let Running { stream, core } = match running.take() {
            Some(running) => running,
            None => start_core(&host, root)?,
        };
        let ended = match serve(&host, &stream, core, &mut keeper, root) {
            Served::Finished => return Ok(()),
            Served::Gone(status) => status,
        };
        if ended.is_none() {
            // A core whose socket has closed may still be about: two must never decide at once.
            let _ = nix::sys::signal::kill(core, Signal::SIGKILL);
        }
        let status = ended.or_else(|| reap(Some(core)).pop().map(|(_, code)| code)).flatten();
        if keeper.core_ended(status) == Then::AtOnce {
            continue;
        }
        backoff = if started.elapsed() > STEADY {
            Duration::ZERO
        } else {
            (backoff * 2).clamp(Duration::from_millis(50), BACKOFF_MAX)
        };
        eprintln!(
            "klar spawn: the core (pid {core}) is gone; starting it again in {} ms",
            backoff.as_millis()
        );
        std::thread::sleep(backoff);
    }
}

fn start_core(host: &Privileged, root: &Path) -> io::Result<Running> {
    let (here, there) = UnixStream::pair()?;
    let spawn = Spawn {
        args: vec![
            "core".into(),
            "--state".into(),
            root.to_string_lossy().into_owned(),
            "--spawner-fd".into(),
            "3".into(),
        ],
        identity: Identity::Core,
        limits: None,
        private_tmp: None,
    };
    let (pid, _) = process::start(host, &spawn, &[OwnedFd::from(there)])?;
    Ok(Running { stream: here, core: Pid::from_raw(pid) })
}

/// How serving a core ended.
enum Served {
    /// It has stopped everything.
    Finished,
    /// It is gone: collected already, with its exit status where it had one, or not yet.
    Gone(Option<Option<i32>>),
}

/// Answers until the core is gone or has finished.
fn serve(host: &Privileged, stream: &UnixStream, core: Pid, keeper: &mut Keeper, root: &Path) -> Served {
    loop {
        match keeper.look(core) {
            Verdict::None => {}
            Verdict::Proven => {
                let error = keeper.become_current(root, core, Some(stream.as_fd()));
                eprintln!("klar spawn: the new core runs, but the spawner stays what it was: {error}");
            }
            Verdict::Overdue => return Served::Gone(None),
        }
        let mut waiting = [PollFd::new(stream.as_fd(), PollFlags::POLLIN)];
        let ready = match poll(&mut waiting, PollTimeout::from(POLL_MS)) {
            Ok(ready) => ready,
            Err(nix::errno::Errno::EINTR) => 0,
            Err(_) => return Served::Gone(None),
        };
        if let Some((_, status)) = reap(None).into_iter().find(|(pid, _)| *pid == core) {
            return Served::Gone(Some(status));
        }
        if ready == 0 {
            continue;
        }
        let Ok(Some((request, descriptors))) = wire::receive::<Request>(stream) else {
            return Served::Gone(last_status(core));
        };
        let finish = matches!(request, Request::Finish);
        let (answer, handed) = host.handle(request, &descriptors);
        if let Answer::Failed { reason, .. } = &answer {
            eprintln!("klar spawn: {reason}");
        }
        if wire::send(stream, &answer, &wire::borrow(&handed)).is_err() && !finish {
            return Served::Gone(last_status(core));
        }
        if finish {
            return Served::Finished;
        }
    }
}

/// The exit status of a core whose socket has just closed: it needs a moment to end, and what it ends with says what
/// should come next.
fn last_status(core: Pid) -> Option<Option<i32>> {
    const PATIENCE: Duration = Duration::from_secs(2);
    let begun = Instant::now();
    loop {
        if let Some((_, status)) = reap(None).into_iter().find(|(pid, _)| *pid == core) {
            return Some(status);
        }
        if begun.elapsed() > PATIENCE {
            return None;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Collects children that have ended, with the exit statuses of those that had one; waits for one of them when it is
/// named.
fn reap(wanted: Option<Pid>) -> Vec<(Pid, Option<i32>)> {
    let mut gone = Vec::new();
    loop {
        let (which, flags) = match wanted {
            Some(pid) => (pid, None),
            None => (Pid::from_raw(-1), Some(WaitPidFlag::WNOHANG)),
        };
        match waitpid(which, flags) {
            Ok(WaitStatus::StillAlive) => return gone,
            Ok(status) => {
                let code = match status {
                    WaitStatus::Exited(_, code) => Some(code),
                    _ => None,
                };
                gone.extend(status.pid().map(|pid| (pid, code)));
                if wanted.is_some() {
                    return gone;
                }
            }
            Err(nix::errno::Errno::EINTR) => {}
            Err(_) => return gone,
        }
    }
}
