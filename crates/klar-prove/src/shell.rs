//! Commands that a check runs in the user's own folders, with all that they start.

use std::io;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{ExitStatus, Stdio};

use tokio::io::AsyncReadExt;

/// As much of the end of what a command says is kept.
pub const KEPT: usize = 64 * 1024;

/// What became of a command.
#[derive(Debug)]
pub struct Ended {
    /// How it ended.
    pub status: ExitStatus,
    /// The end of what it said on its standard output.
    pub said: String,
}

/// Runs a command with `sh` in a folder. When nobody waits for it any longer, it ends with all that it has started.
///
/// # Errors
/// When it cannot be started.
pub async fn run(command: &str, folder: &Path, variables: &[(String, String)]) -> io::Result<Ended> {
    let mut shell = std::process::Command::new("/bin/sh");
    shell.arg("-c").arg(command).current_dir(folder).process_group(0);
    shell.envs(variables.iter().map(|(name, value)| (name, value)));
    shell.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = tokio::process::Command::from(shell).spawn()?;
    let _group = Group(child.id());
    let mut said = Vec::new();
    let mut piece = vec![0; 16 * 1024];
    if let Some(mut out) = child.stdout.take() {
        loop {
            let read = out.read(&mut piece).await?;
            if read == 0 {
                break;
            }
            said.extend_from_slice(&piece[..read]);
            if said.len() > 2 * KEPT {
                said.drain(..said.len() - KEPT);
            }
        }
    }
    let status = child.wait().await?;
    said.drain(..said.len().saturating_sub(KEPT));
    Ok(Ended { status, said: String::from_utf8_lossy(&said).into_owned() })
}

/// A command and all that it has started: they end when nobody waits for it any longer.
struct Group(Option<u32>);

impl Drop for Group {
    fn drop(&mut self) {
        use nix::sys::signal::{Signal, killpg};
        if let Some(id) = self.0.and_then(|id| i32::try_from(id).ok()) {
            let _ = killpg(nix::unistd::Pid::from_raw(id), Signal::SIGKILL);
        }
    }
}
