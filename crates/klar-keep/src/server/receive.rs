//! `pg_receivewal`, supervised: it streams the log into the spool and tells the server what is safe there.
//!
//! It ends with this process (`setpriv --pdeathsig`), since one that is left behind would hold the slot. When it ends by
//! itself it is started again after a pause that grows; what it left half made is taken away first, because it refuses
//! to go on with a segment that a kill has cut short.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::Source;
use super::programs::{last_lines, tail};
use super::slot::SLOT;
use crate::lsn::{Segment, SegmentSize};

const SHORTEST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(15);
/// One that ran for so long was well: the next pause is short again.
const WELL: Duration = Duration::from_secs(30);

/// How the receiver does.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ReceiverState {
    /// Its process, while it runs.
    pub process: Option<u32>,
    /// How often it was started again.
    pub restarts: u64,
    /// What it said when it ended last.
    pub said: Option<String>,
}

/// A supervised receiver; dropped, it ends.
pub struct Receiver {
    state: Arc<Mutex<ReceiverState>>,
    is_ended: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Receiver {
    /// Begins to stream into `spool`, which is made.
    ///
    /// # Errors
    /// Where the spool cannot be made.
    pub fn start(source: &Source, spool: &Path, size: SegmentSize) -> io::Result<Self> {
        fs::create_dir_all(spool)?;
        let (state, is_ended) = (Arc::<Mutex<ReceiverState>>::default(), Arc::<AtomicBool>::default());
        let supervised = Supervised {
            source: source.clone(),
            spool: spool.to_owned(),
            size,
            state: Arc::clone(&state),
            is_ended: Arc::clone(&is_ended),
        };
        let thread = std::thread::Builder::new().name("receiver".into()).spawn(move || supervised.run())?;
        Ok(Self { state, is_ended, thread: Some(thread) })
    }

    /// How it does.
    #[must_use]
    pub fn state(&self) -> ReceiverState {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.is_ended.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            let _ = thread.join();
        }
    }
}

struct Supervised {
    source: Source,
    spool: PathBuf,
    size: SegmentSize,
    state: Arc<Mutex<ReceiverState>>,
    is_ended: Arc<AtomicBool>,
}

impl Supervised {
    fn run(&self) {
        let mut pause = SHORTEST_PAUSE;
        while !self.is_ended.load(Ordering::Acquire) {
            let begun = Instant::now();
            let said = match self.once() {
                Ok(said) => said,
                Err(error) => error.to_string(),
            };
            self.note(|state| {
                state.process = None;
                state.said = Some(said);
                state.restarts += 1;
            });
            if begun.elapsed() >= WELL {
                pause = SHORTEST_PAUSE;
            }
            self.rest(pause);
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    fn once(&self) -> io::Result<String> {
        clear_torn(&self.spool, self.size)?;
        let mut child = self.command().spawn()?;
        self.note(|state| state.process = Some(child.id()));
        let errors = child.stderr.take().map(|pipe| std::thread::spawn(move || tail(pipe)));
        let status = self.wait(&mut child);
        let said = errors.and_then(|errors| errors.join().ok()).unwrap_or_default();
        Ok(format!("pg_receivewal ended ({}): {}", status?, last_lines(&said)))
    }

    /// Waits until it ends, or until it has to.
    fn wait(&self, child: &mut Child) -> io::Result<std::process::ExitStatus> {
        loop {
            if let Some(status) = child.try_wait()? {
                return Ok(status);
            }
            if self.is_ended.load(Ordering::Acquire) {
                child.kill()?;
                return child.wait();
            }
            self.rest(Duration::from_millis(50));
        }
    }

    fn command(&self) -> Command {
        let mut command = self.source.programs.dying("pg_receivewal", "KILL");
        command.envs(self.source.door.environment());
        command.args(["--synchronous", "--no-loop", "--status-interval=5", "--slot", SLOT, "--directory"]);
        command.arg(&self.spool).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        command
    }

    fn note(&self, change: impl FnOnce(&mut ReceiverState)) {
        change(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner));
    }

    fn rest(&self, pause: Duration) {
        let begun = Instant::now();
        while let Some(left) = pause.checked_sub(begun.elapsed()) {
            if self.is_ended.load(Ordering::Acquire) {
                return;
            }
            std::thread::park_timeout(left.min(Duration::from_millis(50)));
        }
    }
}

/// Takes away partial segments that are neither empty nor whole: a kill while one was made. The server still has what
/// was in it, since it was told of none of it.
fn clear_torn(spool: &Path, size: SegmentSize) -> io::Result<()> {
    for entry in fs::read_dir(spool)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let is_partial = name.strip_suffix(".partial").is_some_and(|name| Segment::parse(name, size).is_ok());
        let length = entry.metadata()?.len();
        if is_partial && length != 0 && length != size.bytes() {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_partial_segment_that_was_cut_short_is_taken_away() {
        let folder = std::env::temp_dir().join(format!("klar-torn-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let size = SegmentSize::try_from(1 << 20).unwrap();
        let make = |name: &str, length: usize| fs::write(folder.join(name), vec![1; length]).unwrap();
        make("000000010000000000000003.partial", 4096);
        make("000000010000000000000002", 4096);
        make("000000010000000000000004.partial", 1 << 20);
        make("other.partial", 1);
        clear_torn(&folder, size).unwrap();
        let mut left: Vec<_> = fs::read_dir(&folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        left.sort();
        let expected = ["000000010000000000000002", "000000010000000000000004.partial", "other.partial"];
        assert_eq!(left, expected);
        fs::remove_dir_all(folder).unwrap();
    }
}
