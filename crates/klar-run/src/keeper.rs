//! What a host does while klar is upgraded: it puts the next program in force, gives its core a trial, and goes back
//! to the previous program when that core does not come up.
//!
//! A core says with its exit status what should come next. The host that runs is proven, so it stays until the new
//! core is proven too; then it becomes the new program itself, in place: same process, same children, same socket.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use nix::sys::socket::{getsockopt, sockopt};
use nix::unistd::Pid;

use crate::layout::Layout;
use crate::programs::{self, Programs};

/// The exit status of a core that makes room for the next program.
pub const UPGRADE: u8 = 86;
/// The exit status of a core whose edge did not come up: the previous program should go on.
pub const REVERT: u8 = 87;

/// How long a new core may take until it answers.
const TRIAL: Duration = Duration::from_secs(30);

/// What comes after a core has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Then {
    /// Another one of the same program, after a pause.
    Again,
    /// One of the program that is in force now, at once.
    AtOnce,
}

/// How a core on trial does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// There is no trial, or it is not over.
    None,
    /// It answers.
    Proven,
    /// It took too long.
    Overdue,
}

/// See the [module](self).
#[derive(Debug)]
pub struct Keeper {
    programs: Programs,
    socket: PathBuf,
    /// What this host itself runs from, kept as the previous program where none was installed before.
    own: PathBuf,
    trial: Option<Trial>,
}

#[derive(Debug)]
struct Trial {
    begun: Instant,
    /// There is a program to go back to.
    fallback: bool,
}

impl Keeper {
    /// For the host whose state lies in `root`.
    pub fn new(root: &Path) -> Self {
        Self {
            programs: Programs::new(root),
            socket: Layout::new(root).control_socket(),
            own: PathBuf::from("/proc/self/exe"),
            trial: None,
        }
    }

    /// The program that the next core runs from, while one is on trial; otherwise that is the host's own.
    pub fn program(&self) -> Option<PathBuf> {
        self.trial.is_some().then(|| self.programs.current())
    }

    /// Decides what comes after a core has ended with this exit status; `None`: it was killed.
    pub fn core_ended(&mut self, status: Option<i32>) -> Then {
        if let Some(trial) = self.trial.take() {
            if trial.fallback {
                eprintln!("klar host: the new core did not come up; going back to the program before");
                self.go_back();
            }
            return Then::AtOnce;
        }
        match status {
            Some(status) if status == i32::from(UPGRADE) => match self.programs.take_next(&self.own) {
                Ok(()) => {
                    eprintln!("klar host: another program is in force; its core is on trial");
                    self.trial = Some(Trial { begun: Instant::now(), fallback: true });
                    Then::AtOnce
                }
                Err(error) => {
                    eprintln!("klar host: the program stays as it is: {error}");
                    Then::AtOnce
                }
            },
            Some(status) if status == i32::from(REVERT) => {
                eprintln!("klar host: the new edge did not come up; going back to the program before");
                self.go_back();
                Then::AtOnce
            }
            _ => Then::Again,
        }
    }

    fn go_back(&mut self) {
        match self.programs.restore() {
            Ok(()) => self.trial = Some(Trial { begun: Instant::now(), fallback: false }),
            Err(error) => eprintln!("klar host: there is no program to go back to: {error}"),
        }
    }

    /// Looks how the core does that runs as `core`, while it is on trial: it answers when it listens at the control
    /// socket, which it does once it has read its state and found what runs.
    pub fn look(&mut self, core: Pid) -> Verdict {
        let Some(trial) = &self.trial else { return Verdict::None };
        let listener = UnixStream::connect(&self.socket)
            .and_then(|stream| Ok(getsockopt(&stream, sockopt::PeerCredentials)?));
        if listener.is_ok_and(|peer| peer.pid() == core.as_raw()) {
            self.trial = None;
            return Verdict::Proven;
        }
        if trial.begun.elapsed() > TRIAL { Verdict::Overdue } else { Verdict::None }
    }

    /// Becomes the program in force, with this core and the connection to it. Comes back only when that cannot be.
    pub fn become_current(&self, root: &Path, core: Pid, connection: Option<BorrowedFd<'_>>) -> io::Error {
        let attempt = || -> io::Result<io::Error> {
            let program = self.programs.open_trusted()?;
            // Through the descriptor: what was looked at is what is run.
            let path = format!("/proc/self/fd/{}", program.as_raw_fd());
            let mut command = Command::new(path);
            command.arg0("klar").arg("host").arg("--state").arg(root);
            command.arg("--core-pid").arg(core.to_string());
            if let Some(connection) = connection {
                command.arg("--core-fd").arg(programs::keep_open(&connection)?.to_string());
            }
            Ok(command.exec())
        };
        attempt().unwrap_or_else(|error| error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a host does, step by step: the exit status of a core, what comes next, and which program is in force.
    #[test]
    fn a_core_that_does_not_come_up_costs_nothing() {
        let folder = std::env::temp_dir().join(format!("klar-keeper-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir_all(&folder).unwrap();
        let (old, new) = (folder.join("old"), folder.join("new"));
        std::fs::write(&old, "old").unwrap();
        std::fs::write(&new, "new").unwrap();
        let programs = Programs::new(&folder);
        let mut keeper = Keeper { own: old, ..Keeper::new(&folder) };
        let upgrade = Some(i32::from(UPGRADE));
        let in_force = || std::fs::read_to_string(programs.current()).unwrap_or_default();
        let steps: [(&str, Option<i32>, bool, Then, &str); 7] = [
            ("killed", None, false, Then::Again, ""),
            ("makes room, but nothing was staged", upgrade, false, Then::AtOnce, ""),
            ("makes room", upgrade, true, Then::AtOnce, "new"),
            ("killed on trial", None, false, Then::AtOnce, "old"),
            ("the old one fails as well", Some(1), false, Then::AtOnce, "old"),
            ("makes room again", upgrade, true, Then::AtOnce, "new"),
            ("says itself that it cannot go on", Some(i32::from(REVERT)), false, Then::AtOnce, "old"),
        ];
        for (what, status, staged, then, wanted) in steps {
            if staged {
                programs.stage(&new).unwrap();
            }
            assert_eq!(keeper.core_ended(status), then, "{what}");
            assert_eq!(in_force(), wanted, "{what}");
        }
        std::fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn a_core_is_proven_when_it_is_the_one_that_listens() {
        let folder = std::env::temp_dir().join(format!("klar-keeper-look-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir_all(folder.join("run")).unwrap();
        let mut keeper = Keeper::new(&folder);
        let (me, other) = (nix::unistd::getpid(), Pid::from_raw(1));
        assert_eq!(keeper.look(me), Verdict::None, "nobody is on trial");
        keeper.trial = Some(Trial { begun: Instant::now(), fallback: true });
        assert_eq!(keeper.look(me), Verdict::None, "nobody listens");
        let _listener = std::os::unix::net::UnixListener::bind(&keeper.socket).unwrap();
        assert_eq!(keeper.look(other), Verdict::None, "somebody else listens");
        assert_eq!(keeper.look(me), Verdict::Proven);
        assert_eq!(keeper.look(me), Verdict::None, "the trial is over");
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
