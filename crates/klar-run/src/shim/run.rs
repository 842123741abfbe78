//! The shim's one loop: sockets from cores, two pipes from the app, its death, and a clock.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use klar_base::wire;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::prctl;
use nix::sys::signal::{SigHandler, SigSet, SigmaskHow, Signal, kill, killpg, signal, sigprocmask};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use super::{Exit, FromShim, Spec, ToShim, log, tree};

const POLL: Duration = Duration::from_millis(250);
/// Looking for the ports of an app means reading a lot of /proc. One that has its port, or has been up for so long
/// without, is looked at now and then only.
const SETTLED: Duration = Duration::from_secs(120);
const LOOK_AGAIN: Duration = Duration::from_secs(10);
/// How long what an app left behind may take after its first process is gone, unless it was asked to stop.
const LEFTOVERS: Duration = Duration::from_secs(1);
/// More cores than this at once cannot be: the newest win.
const CONNECTIONS_MAX: usize = 4;

/// The main of `klar shim`: descriptor 3 is the listening socket, 4 the connection to the core.
///
/// # Errors
/// When the core goes away before it has said what to run.
pub fn run(listener: OwnedFd, core: OwnedFd) -> io::Result<()> {
    let listener = UnixListener::from(listener);
    listener.set_nonblocking(true)?;
    let core = UnixStream::from(core);
    prctl::set_child_subreaper(true)?;
    // The app runs as the same user and must not be able to look into or steer its shim.
    prctl::set_dumpable(false)?;
    let mut mask = SigSet::empty();
    for signal in [Signal::SIGCHLD, Signal::SIGTERM, Signal::SIGINT] {
        mask.add(signal);
    }
    sigprocmask(SigmaskHow::SIG_BLOCK, Some(&mask), None)?;
    let signals = SignalFd::with_flags(&mask, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)?;

    let Some((ToShim::Start(spec), _)) = wire::receive::<ToShim>(&core)? else {
        return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "no core said what to run"));
    };
    let refuse = |reason: String| wire::send(&core, &FromShim::Refused { reason }, &[]);
    let _lock = match spec.lock.as_deref().map(take_lock).transpose() {
        Ok(lock) => lock,
        Err(reason) => return refuse(reason),
    };
    let name = spec.id.short();
    let logs = match log::Writer::open(&spec.log_folder, &name, spec.log_size, spec.log_age.0) {
        Ok(logs) => logs,
        Err(error) => return refuse(format!("its output cannot be kept: {error}")),
    };
    if spec.once {
        yield_to_services();
    }
    let mut child = match start(&spec) {
        Ok(child) => child,
        Err(error) => return refuse(error.to_string()),
    };
    let pid = Pid::from_raw(i32::try_from(child.id()).map_err(io::Error::other)?);
    let outputs = [
        child.stdout.take().map(|pipe| Output::new("stdout", pipe.into())),
        child.stderr.take().map(|pipe| Output::new("stderr", pipe.into())),
    ];
    let outputs: Vec<Output> = outputs.into_iter().flatten().collect();
    let mut shim =
        Shim { spec, pid, logs, outputs, cores: Vec::new(), ports: BTreeSet::new(), stop: None, ended: None };
    shim.greet(core);
    shim.serve(&listener, &signals)
}

fn take_lock(path: &std::path::Path) -> Result<nix::fcntl::Flock<File>, String> {
    let file = File::options()
        .create(true)
        .append(true)
        .open(path)
        .map_err(|e| format!("{}: {e}", path.display()))?;
    nix::fcntl::Flock::lock(file, nix::fcntl::FlockArg::LockExclusiveNonblock)
        .map_err(|_| format!("{} is locked: another instance still runs on this folder", path.display()))
}

/// Starts the command in its sandbox.
fn start(spec: &Spec) -> io::Result<std::process::Child> {
    let (program, args) = spec
        .command
        .split_first()
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "the command is empty"))?;
    let mut rules = match &spec.writable {
        Some(folders) => Some(crate::sandbox::only_writes_beneath(folders).map_err(io::Error::other)?),
        None => None,
    };
    let mut command = Command::new(program);
    command.args(args).current_dir(&spec.folder).env_clear().envs(spec.env.iter().map(|(k, v)| (k, v)));
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let prepare = move || -> io::Result<()> {
        nix::unistd::setsid()?;
        prctl::set_pdeathsig(Signal::SIGKILL)?;
        sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None)?;
        heed_signals();
        if let Some(rules) = rules.take() {
            rules.restrict_self().map_err(io::Error::other)?;
        }
        Ok(())
    };
    // SAFETY: the shim has one thread, so nothing can hold a lock at the fork.
    #[allow(unsafe_code)]
    unsafe {
        command.pre_exec(prepare)
    };
    command.spawn().map_err(|error| {
        let what = match error.kind() {
            io::ErrorKind::NotFound if !spec.folder.is_dir() => {
                format!("folder {} not found", spec.folder.display())
            }
            io::ErrorKind::NotFound => format!("command `{program}` not found"),
            _ => format!("`{program}` could not be started: {error}"),
        };
        io::Error::new(error.kind(), what)
    })
}

/// A shell that puts klar into the background has it ignore SIGINT and SIGQUIT, which passes on to whatever is started.
fn heed_signals() {
    for one in Signal::iterator() {
        // SAFETY: the default installs no code of ours. Of SIGKILL and SIGSTOP nobody may say anything.
        #[allow(unsafe_code)]
        let _ = unsafe { signal(one, SigHandler::SigDfl) };
    }
}

struct Output {
    stream: &'static str,
    pipe: File,
    line: Vec<u8>,
}

impl Output {
    fn new(stream: &'static str, pipe: OwnedFd) -> Self {
        Self { stream, pipe: File::from(pipe), line: Vec::new() }
    }
}

struct Stop {
    deadline: Instant,
    overdue: bool,
}

struct Shim {
    spec: Box<Spec>,
    pid: Pid,
    logs: log::Writer,
    outputs: Vec<Output>,
    cores: Vec<UnixStream>,
    ports: BTreeSet<u16>,
    stop: Option<Stop>,
    /// How the first process ended, and when its leftovers must be gone.
    ended: Option<(Exit, Instant)>,
}

/// What one turn of [`Shim::serve`] found ready.
enum Ready {
    Signal,
    Listener,
    Core(usize),
    Output(usize),
}

impl Shim {
    fn serve(&mut self, listener: &UnixListener, signals: &SignalFd) -> io::Result<()> {
        let started = Instant::now();
        let mut looked_at_ports = started;
        loop {
            for ready in self.wait(listener, signals)?.into_iter().rev() {
                match ready {
                    Ready::Signal => self.signalled(signals),
                    Ready::Listener => {
                        if let Ok((stream, _)) = listener.accept() {
                            stream.set_nonblocking(false)?;
                            self.greet(stream);
                        }
                    }
                    Ready::Core(index) => self.hear(index),
                    Ready::Output(index) => self.read(index),
                }
            }
            self.reap();
            let now = Instant::now();
            let settled = now - started > SETTLED || !self.ports.is_empty();
            let pause = if settled { LOOK_AGAIN } else { POLL };
            if self.ended.is_none() && !self.spec.once && now - looked_at_ports > pause {
                looked_at_ports = now;
                self.look_at_ports();
            }
            if let Some(stop) = &mut self.stop
                && now > stop.deadline
                && !stop.overdue
            {
                stop.overdue = true;
                tree::kill_all(own_pid());
            }
            if self.finished(now) {
                return Ok(());
            }
        }
    }

    /// Waits for something to do. Outputs come last, so that removing one by index disturbs no other.
    fn wait(&self, listener: &UnixListener, signals: &SignalFd) -> io::Result<Vec<Ready>> {
        let mut what = vec![Ready::Signal, Ready::Listener];
        let mut fds: Vec<BorrowedFd<'_>> = vec![signals.as_fd(), listener.as_fd()];
        for (index, core) in self.cores.iter().enumerate() {
            what.push(Ready::Core(index));
            fds.push(core.as_fd());
        }
        for (index, output) in self.outputs.iter().enumerate() {
            what.push(Ready::Output(index));
            fds.push(output.pipe.as_fd());
        }
        let mut polled: Vec<PollFd<'_>> =
            fds.into_iter().map(|fd| PollFd::new(fd, PollFlags::POLLIN)).collect();
        let patience = if self.ended.is_some() { Duration::from_millis(20) } else { POLL };
        match poll(&mut polled, PollTimeout::try_from(patience).unwrap_or(PollTimeout::ZERO)) {
            Ok(_) | Err(nix::errno::Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
        let ready = polled.iter().map(|fd| fd.any().unwrap_or(false));
        Ok(what.into_iter().zip(ready).filter_map(|(what, ready)| ready.then_some(what)).collect())
    }

    fn greet(&mut self, core: UnixStream) {
        let hello = FromShim::Running { pid: self.pid.as_raw(), ports: self.ports.iter().copied().collect() };
        if wire::send(&core, &hello, &[]).is_ok() {
            if self.cores.len() == CONNECTIONS_MAX {
                self.cores.remove(0);
            }
            self.cores.push(core);
        }
    }

    fn tell(&mut self, message: &FromShim) {
        self.cores.retain(|core| wire::send(core, message, &[]).is_ok());
    }

    fn hear(&mut self, index: usize) {
        match wire::receive::<ToShim>(&self.cores[index]) {
            Ok(Some((ToShim::Stop { patience }, _))) => self.ask_to_stop(patience),
            Ok(Some((ToShim::Start(_) | ToShim::Unknown, _))) => {}
            Ok(None) | Err(_) => {
                self.cores.remove(index);
            }
        }
    }

    fn ask_to_stop(&mut self, patience: Duration) {
        let deadline = Instant::now() + patience;
        match &mut self.stop {
            Some(stop) => stop.deadline = stop.deadline.min(deadline),
            None => {
                self.stop = Some(Stop { deadline, overdue: false });
                let signal = Signal::try_from(self.spec.stop_signal).unwrap_or(Signal::SIGTERM);
                // Gone already is what was wanted.
                let _ = if self.spec.stop_group { killpg(self.pid, signal) } else { kill(self.pid, signal) };
            }
        }
    }

    fn signalled(&mut self, signals: &SignalFd) {
        const PATIENCE_WHEN_TERMINATED: Duration = Duration::from_secs(10);
        while let Ok(Some(info)) = signals.read_signal() {
            if info.ssi_signo != Signal::SIGCHLD as u32 {
                self.ask_to_stop(PATIENCE_WHEN_TERMINATED);
            }
        }
    }

    /// Collects everything that has ended; as a subreaper also what the app has left behind.
    fn reap(&mut self) {
        loop {
            let (pid, code, signal) = match waitpid(Pid::from_raw(-1), Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::Exited(pid, code)) => (pid, Some(code), None),
                Ok(WaitStatus::Signaled(pid, signal, _)) => (pid, None, Some(signal as i32)),
                Err(nix::errno::Errno::EINTR) => continue,
                _ => return,
            };
            if pid == self.pid {
                let asked = self.stop.is_some();
                let overdue = self.stop.as_ref().is_some_and(|stop| stop.overdue);
                let leftovers = Instant::now() + LEFTOVERS;
                self.ended = Some((Exit { code, signal, asked, overdue }, leftovers));
            }
        }
    }

    /// Done when the first process has ended, everything it left is gone, and the last output is on disk.
    fn finished(&mut self, now: Instant) -> bool {
        let Some((exit, leftovers)) = self.ended.clone() else { return false };
        let deadline = self.stop.as_ref().map_or(leftovers, |stop| stop.deadline.max(leftovers));
        let alone = tree::descendants(own_pid()).is_empty();
        if !alone && now < deadline {
            return false;
        }
        if !alone {
            tree::kill_all(own_pid());
        }
        for index in (0..self.outputs.len()).rev() {
            self.read(index);
        }
        for mut output in std::mem::take(&mut self.outputs) {
            if !output.line.is_empty() {
                let rest = std::mem::take(&mut output.line);
                self.write(output.stream, true, &rest);
            }
        }
        self.tell(&FromShim::Exited(exit));
        true
    }

    /// Takes what a pipe holds now, and writes its whole lines. At its end the pipe is forgotten.
    fn read(&mut self, index: usize) {
        let mut buffer = [0u8; super::PIPE_BYTES];
        let output = &mut self.outputs[index];
        let mut ready = [PollFd::new(output.pipe.as_fd(), PollFlags::POLLIN)];
        if !matches!(poll(&mut ready, PollTimeout::ZERO), Ok(1..)) {
            return;
        }
        let stream = output.stream;
        let count = match output.pipe.read(&mut buffer) {
            Ok(0) => {
                let rest = std::mem::take(&mut output.line);
                self.outputs.remove(index);
                if !rest.is_empty() {
                    self.write(stream, true, &rest);
                }
                return;
            }
            Ok(count) => count,
            Err(_) => return,
        };
        let mut line = std::mem::take(&mut output.line);
        for piece in buffer[..count].split_inclusive(|byte| *byte == b'\n') {
            line.extend_from_slice(piece);
            if line.ends_with(b"\n") {
                line.pop();
                self.write(stream, true, &line);
                line.clear();
            } else {
                while line.len() >= log::LINE_MAX {
                    let rest = line.split_off(log::LINE_MAX);
                    self.write(stream, false, &line);
                    line = rest;
                }
            }
        }
        self.outputs[index].line = line;
    }

    fn write(&mut self, stream: &str, whole: bool, line: &[u8]) {
        let lost_before = self.logs.lines_lost;
        let result = self.logs.line(stream, whole, line);
        if let Err(error) = result
            && (lost_before == 0 || self.logs.lines_lost.is_multiple_of(1000))
        {
            let trouble =
                FromShim::LogTrouble { reason: error.to_string(), lines_lost: self.logs.lines_lost };
            self.tell(&trouble);
        }
        if let Some(denied) = denied_write(&String::from_utf8_lossy(line)) {
            self.tell(&denied);
        }
    }

    fn look_at_ports(&mut self) {
        let ports = crate::ports::listened_by(&tree::descendants(own_pid()));
        if ports != self.ports {
            self.ports = ports;
            let message = FromShim::Ports { ports: self.ports.iter().copied().collect() };
            self.tell(&message);
        }
    }
}

fn own_pid() -> i32 {
    nix::unistd::getpid().as_raw()
}

/// A build or a migration takes what those who answer visitors leave over.
fn yield_to_services() {
    const NICER: i32 = 10;
    // SAFETY: a plain system call about this process; a kernel that refuses leaves things as they are.
    #[allow(unsafe_code)]
    unsafe {
        libc::setpriority(libc::PRIO_PROCESS, 0, NICER);
    }
}

/// Recognises what runtimes print when a write is refused: `EACCES: permission denied, open '/x'` (Node),
/// `[Errno 13] Permission denied: '/x'` (Python), `open(/x): Permission denied` (PHP, C), `Read-only file system`.
fn denied_write(line: &str) -> Option<FromShim> {
    let lower = line.to_ascii_lowercase();
    if !["permission denied", "eacces", "erofs", "read-only file system"]
        .iter()
        .any(|words| lower.contains(words))
    {
        return None;
    }
    let quoted = |open: char, close: char| {
        let from = line.find(open)? + open.len_utf8();
        let path = &line[from..from + line[from..].find(close)?];
        path.contains(['/', '.']).then(|| path.to_owned())
    };
    let path = quoted('\'', '\'').or_else(|| quoted('"', '"')).or_else(|| quoted('(', ')')).or_else(|| {
        line.split_whitespace()
            .find(|word| word.starts_with('/'))
            .map(|w| w.trim_end_matches([':', ',']).to_owned())
    });
    const LINE_SHOWN: usize = 300;
    Some(FromShim::DeniedWrite { line: line.chars().take(LINE_SHOWN).collect(), path })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::process::ExitStatusExt;

    #[test]
    fn denied_writes_are_recognised() {
        for (line, expected) in [
            ("Error: EACCES: permission denied, open '/srv/files/x.txt'", Some(Some("/srv/files/x.txt"))),
            ("PermissionError: [Errno 13] Permission denied: 'uploads/a.png'", Some(Some("uploads/a.png"))),
            ("fopen(/srv/x): Failed to open stream: Permission denied", Some(Some("/srv/x"))),
            ("touch: cannot touch '/srv/y': Read-only file system", Some(Some("/srv/y"))),
            ("permission denied for user 7", Some(None)),
            ("listening on 4711", None),
        ] {
            let found = denied_write(line).map(|message| match message {
                FromShim::DeniedWrite { path, .. } => path,
                _ => None,
            });
            assert_eq!(found, expected.map(|path| path.map(String::from)), "{line}");
        }
    }

    #[test]
    fn an_exit_reads_like_a_sentence() {
        let exit = |code, signal| Exit { code, signal, asked: false, overdue: false }.to_string();
        assert_eq!(exit(Some(1), None), "exited with 1");
        assert_eq!(exit(Some(127), None), "exited with 127 (command not found)");
        assert_eq!(exit(None, Some(9)), "was ended by signal 9 (SIGKILL)");
        let status = std::process::ExitStatus::from_raw(9);
        assert_eq!(status.signal(), Some(9));
    }
}
