//! One small process per instance. It starts the app's command in its sandbox, keeps what it prints, knows its
//! exit status, and outlives the core.
//!
//! The core hands it a listening Unix socket (where later cores find it) and one connected socket, on which the
//! first message is the [`Spec`]. From then on every connection speaks [`ToShim`] and [`FromShim`].
//!
//! When the shim dies, the app dies: as root the shim is the first process of a namespace; otherwise the app is
//! asked to (`PR_SET_PDEATHSIG`) and the core sweeps what is left. What a killed shim can lose is what the app had
//! written and the shim had not read: at most one pipe for each stream, [`PIPE_BYTES`].

pub mod log;
mod run;
mod tree;

use std::path::PathBuf;
use std::time::Duration;

use klar_base::{ByteSize, InstanceId, Period};
use serde::{Deserialize, Serialize};

pub use run::run;

/// The most output of one stream that is lost when a shim is killed: the capacity of a pipe.
pub const PIPE_BYTES: usize = 64 * 1024;

/// Everything a shim needs to know.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Spec {
    /// Which instance.
    pub id: InstanceId,
    /// What to run: a program and its arguments.
    pub command: Vec<String>,
    /// Where.
    pub folder: PathBuf,
    /// The whole environment.
    pub env: Vec<(String, String)>,
    /// Where it may write. `None`: everywhere that its user may.
    pub writable: Option<Vec<PathBuf>>,
    /// Folder for its output.
    pub log_folder: PathBuf,
    /// All of its output on disk; the oldest goes first.
    pub log_size: ByteSize,
    /// Output older than this goes, too.
    pub log_age: Period,
    /// Whether a stop signal goes to the whole process group (apps) or to the first process alone (databases).
    pub stop_group: bool,
    /// The signal that asks it to stop.
    pub stop_signal: i32,
    /// A file that is locked while this runs, so that two can never run on one folder.
    pub lock: Option<PathBuf>,
    /// It is expected to end by itself: a build, a migration, a cron run.
    pub once: bool,
}

/// From the core to a shim.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ToShim {
    /// The first message to a new shim.
    Start(Box<Spec>),
    /// Ask the app to stop; after `patience` everything that is left is killed.
    Stop {
        /// How long it may take.
        patience: Duration,
    },
    /// What a newer core says: shims stay what they are while klar is upgraded.
    #[serde(other)]
    Unknown,
}

/// From a shim to the core.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum FromShim {
    /// Answers [`ToShim::Start`], and greets every later core.
    Running {
        /// The process id of the app, as the shim sees it.
        pid: i32,
        /// The ports that it listens on.
        ports: Vec<u16>,
    },
    /// The command could not be started.
    Refused {
        /// Why.
        reason: String,
    },
    /// The app listens on other ports than before.
    Ports {
        /// All of them.
        ports: Vec<u16>,
    },
    /// The app tried to write where it may not.
    DeniedWrite {
        /// What it printed about it.
        line: String,
        /// The path in it, when one could be read.
        path: Option<String>,
    },
    /// Output could not be written.
    LogTrouble {
        /// Why.
        reason: String,
        /// Lines lost so far.
        lines_lost: u64,
    },
    /// The app is gone and so is everything it started. The shim ends after this.
    Exited(Exit),
    /// What a newer shim says, after klar has gone back to an older program.
    #[serde(other)]
    Unknown,
}

/// How an app ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exit {
    /// Its exit code.
    pub code: Option<i32>,
    /// Or the signal that ended it.
    pub signal: Option<i32>,
    /// It was asked to stop.
    pub asked: bool,
    /// It had to be killed because it did not stop in time.
    pub overdue: bool,
}

impl Exit {
    /// Whether it ended as a command that has done its work.
    pub fn success(&self) -> bool {
        self.code == Some(0)
    }
}

impl std::fmt::Display for Exit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (self.code, self.signal) {
            (Some(127), _) => f.write_str("exited with 127 (command not found)"),
            (Some(126), _) => f.write_str("exited with 126 (not executable)"),
            (Some(code), _) => write!(f, "exited with {code}"),
            (None, Some(signal)) => {
                let name =
                    nix::sys::signal::Signal::try_from(signal).map_or("unknown", |signal| signal.as_str());
                write!(f, "was ended by signal {signal} ({name})")
            }
            (None, None) => f.write_str("ended"),
        }
    }
}
