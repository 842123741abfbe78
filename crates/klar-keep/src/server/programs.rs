//! PostgreSQL's own programs, run with a deadline and with what they say kept.

use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use nix::unistd::geteuid;

/// What is kept of what a program says.
const SAID_MAX: usize = 64 << 10;

/// The folder of a major version's programs, and whom a server runs as.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Programs {
    /// Debian: `/usr/lib/postgresql/15/bin`.
    pub folder: PathBuf,
    /// User and group for servers, which refuse to run as root. Without root it is ignored: there is one user.
    pub server: Option<(u32, u32)>,
}

/// A program of PostgreSQL's failed.
#[derive(Debug, thiserror::Error)]
pub enum ProgramError {
    /// Could not be started, or not be waited for.
    #[error("{program} could not be run: {source}")]
    Start {
        /// Which.
        program: String,
        /// As the system says it.
        source: io::Error,
    },
    /// It failed.
    #[error("{program} failed ({status}): {said}")]
    Failed {
        /// Which.
        program: String,
        /// How it ended.
        status: ExitStatus,
        /// The end of what it said.
        said: String,
    },
    /// It took too long, and was killed.
    #[error("{program} was not done after {} s and was ended: {said}", patience.as_secs())]
    Late {
        /// Which.
        program: String,
        /// How long was waited.
        patience: Duration,
        /// The end of what it said.
        said: String,
    },
}

/// How a program ended, and what it said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ended {
    /// Its status.
    pub status: ExitStatus,
    /// The end of its output.
    pub output: String,
    /// The end of its errors.
    pub errors: String,
}

impl Programs {
    /// The newest that is installed, where Debian puts them.
    #[must_use]
    pub fn newest() -> Option<Self> {
        let versions = std::fs::read_dir("/usr/lib/postgresql").ok()?.flatten().filter_map(|entry| {
            let version: u32 = entry.file_name().to_str()?.parse().ok()?;
            let folder = entry.path().join("bin");
            folder.join("postgres").is_file().then_some((version, folder))
        });
        versions.max_by_key(|(version, _)| *version).map(|(_, folder)| Self { folder, server: None })
    }

    /// One of them, with nothing of this process' environment.
    #[must_use]
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new(self.folder.join(program));
        command.env_clear().env("LC_ALL", "C.UTF-8").env("TZ", "UTC").stdin(Stdio::null());
        command
    }

    /// One of them, which gets `signal` when the thread that starts it ends, also where this process is killed: what
    /// holds a slot or a folder must not stay behind.
    #[must_use]
    pub fn dying(&self, program: &str, signal: &str) -> Command {
        self.wrapped(program, &["--pdeathsig", signal])
    }

    /// Such a one, as the user that servers run as.
    #[must_use]
    pub fn server(&self, program: &str, signal: &str) -> Command {
        match self.server.filter(|_| geteuid().is_root()) {
            Some((user, group)) => {
                let (user, group) = (user.to_string(), group.to_string());
                self.wrapped(
                    program,
                    &["--reuid", &user, "--regid", &group, "--clear-groups", "--pdeathsig", signal],
                )
            }
            None => self.dying(program, signal),
        }
    }

    fn wrapped(&self, program: &str, how: &[&str]) -> Command {
        const SETPRIV: &str = "/usr/bin/setpriv";
        let plain = self.command(program);
        if !Path::new(SETPRIV).is_file() {
            return plain;
        }
        let mut command = Command::new(SETPRIV);
        command.env_clear().env("LC_ALL", "C.UTF-8").env("TZ", "UTC").stdin(Stdio::null());
        command.args(how).arg("--").arg(plain.get_program());
        command
    }

    /// Gives a file or folder to the user that servers run as.
    ///
    /// # Errors
    /// The file system.
    pub fn give(&self, path: &Path) -> io::Result<()> {
        match self.server.filter(|_| geteuid().is_root()) {
            Some((user, group)) => std::os::unix::fs::lchown(path, Some(user), Some(group)),
            None => Ok(()),
        }
    }
}

/// Runs a program to its end, whatever that is.
///
/// # Errors
/// Where it cannot be started or takes longer than `patience`.
pub fn ended(command: &mut Command, patience: Duration) -> Result<Ended, ProgramError> {
    let program = name(command);
    let start = |source| ProgramError::Start { program: program.clone(), source };
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(start)?;
    let output = child.stdout.take().map(|pipe| std::thread::spawn(move || tail(pipe)));
    let errors = child.stderr.take().map(|pipe| std::thread::spawn(move || tail(pipe)));
    let status = wait(&mut child, patience).map_err(start)?;
    if status.is_none() {
        let _ = child.kill();
        let _ = child.wait();
    }
    let join = |thread: Option<std::thread::JoinHandle<String>>| {
        thread.and_then(|thread| thread.join().ok()).unwrap_or_default()
    };
    let (output, errors) = (join(output), join(errors));
    match status {
        Some(status) => Ok(Ended { status, output, errors }),
        None => Err(ProgramError::Late { program, patience, said: last_lines(&errors) }),
    }
}

/// Runs a program that has to succeed; gives its output.
///
/// # Errors
/// As [`ended`], and where it fails.
pub fn succeeded(command: &mut Command, patience: Duration) -> Result<String, ProgramError> {
    let ended = ended(command, patience)?;
    match ended.status.success() {
        true => Ok(ended.output),
        false => {
            let said = last_lines(&ended.errors);
            Err(ProgramError::Failed { program: name(command), status: ended.status, said })
        }
    }
}

/// Waits for a child; `None`: it was not over in time.
///
/// # Errors
/// The system.
pub fn wait(child: &mut Child, patience: Duration) -> io::Result<Option<ExitStatus>> {
    let begun = Instant::now();
    let mut pause = Duration::from_millis(1);
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if begun.elapsed() >= patience {
            return Ok(None);
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(50));
    }
}

/// The program's name, without its folder.
pub fn name(command: &Command) -> String {
    Path::new(command.get_program()).file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// The last lines of what a program said, in one.
pub fn last_lines(said: &str) -> String {
    let lines: Vec<&str> = said.lines().filter(|line| !line.trim().is_empty()).collect();
    let text = lines[lines.len().saturating_sub(4)..].join("; ");
    if text.is_empty() { "it said nothing".to_owned() } else { text }
}

/// Reads to the end and keeps the end.
pub fn tail(mut pipe: impl Read) -> String {
    let mut kept = Vec::new();
    let mut some = [0; 8192];
    loop {
        match pipe.read(&mut some) {
            Ok(0) => break,
            Ok(count) => {
                kept.extend_from_slice(&some[..count]);
                if kept.len() > SAID_MAX * 2 {
                    kept.drain(..kept.len() - SAID_MAX);
                }
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => break,
        }
    }
    String::from_utf8_lossy(&kept).into_owned()
}
