//! Running programs, and saying so.

use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::thread::{self, JoinHandle};

use anyhow::{Context, Result, anyhow, bail, ensure};

/// The folder of the repository.
pub fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().map(Path::to_owned).unwrap_or_default()
}

/// Says what happens now.
pub fn say(text: impl std::fmt::Display) {
    println!("\n\x1b[1m==> {text}\x1b[0m");
}

/// Runs a command that must succeed; what it prints is shown.
pub fn run(command: &mut Command) -> Result<()> {
    let line = line(command);
    let status = command.status().with_context(|| format!("running {line}"))?;
    if !status.success() {
        bail!("{line} ended with {status}");
    }
    Ok(())
}

/// Runs a command that must succeed, quietly, and gives what it wrote to stdout.
pub fn output(command: &mut Command) -> Result<String> {
    let line = line(command);
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("running {line}"))?;
    if !output.status.success() {
        bail!(
            "{line} ended with {}\n{}{}",
            output.status,
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Another task of this program that runs meanwhile; what it prints is shown when it has ended.
pub struct Beside {
    name: &'static str,
    task: JoinHandle<io::Result<Output>>,
}

impl Beside {
    pub fn begin(name: &'static str) -> Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        command.arg(name).stdin(Stdio::null());
        Ok(Self { name, task: thread::spawn(move || command.output()) })
    }

    pub fn end(self) -> Result<()> {
        let ended = self.task.join().map_err(|_| anyhow!("{} broke off", self.name))?;
        let output = ended.with_context(|| format!("running xtask {}", self.name))?;
        print!("{}", String::from_utf8_lossy(&output.stdout));
        eprint!("{}", String::from_utf8_lossy(&output.stderr));
        ensure!(output.status.success(), "xtask {} ended with {}", self.name, output.status);
        Ok(())
    }
}

/// Whether a program is found.
pub fn has(program: &str) -> bool {
    std::env::var_os("PATH")
        .is_some_and(|path| std::env::split_paths(&path).any(|folder| folder.join(program).is_file()))
}

/// Cargo, for the repository.
pub fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(repository());
    command
}

fn line(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}
