//! Orders for images, and the threads that have them made.
//!
//! Each thread holds the socket to one process that reads images, asks the core for one when it has none, and waits for
//! it as long as an image may take and no longer. When that process is gone, or says what makes no sense, the order is
//! given up and the core is asked for another process: with pauses that grow, in which originals are sent. Those who
//! want the same image wait for the same order. What is urgent comes before what nobody waits for.

use std::collections::{HashMap, HashSet, VecDeque};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::HeaderValue;
use klar_base::images::{self, Format, Order, Outcome};
use sha2::{Digest, Sha256};
use tokio::sync::oneshot;

use crate::cache::{Cache, Derived, Stored, Ticket};

/// Orders that may wait, and the bytes of their sources; more get the original.
const ORDERS_MAX: usize = 32;
const BYTES_MAX: usize = 64 << 20;
/// Of them, those that nobody waits for.
const LATER_MAX: usize = 8;
/// What cannot be converted is remembered of so many images.
const LEFT_MAX: usize = 4096;
/// The most processes; on small machines there is one for each two processor cores.
const THREADS_MAX: usize = 4;
/// How long a process may take for an image: longer than it gives itself, even for AVIF.
const LIMIT: Duration = Duration::from_secs(75);
/// How long the core may take to start one.
const START: Duration = Duration::from_secs(5);
/// How long nobody asks the core again after one has died; it doubles up to the second.
const PAUSE: Duration = Duration::from_millis(500);
const PAUSE_MAX: Duration = Duration::from_secs(60);

/// What is to be made.
#[derive(Debug)]
pub struct Job {
    pub derived: Derived,
    pub ticket: Ticket,
    pub source: Format,
    pub wanted: Format,
    pub width: Option<u32>,
    pub bytes: Bytes,
}

/// What became of it.
#[derive(Debug, Clone)]
pub enum Made {
    /// It is there.
    Image(Arc<Stored>),
    /// The original is best given as it is.
    Left,
    /// Nobody could make it this time.
    Failed,
}

/// See the [module](self).
pub struct Workers {
    cache: Arc<Cache>,
    /// Asks the core for a process.
    ask: Box<dyn Fn() + Send + Sync>,
    state: Mutex<State>,
    work: Condvar,
    arrived: Condvar,
    /// What the newest process can write.
    formats: AtomicU8,
}

#[derive(Debug, Default)]
struct State {
    now: VecDeque<Job>,
    later: VecDeque<Job>,
    /// Who waits for what has been ordered, by the key of the image.
    waiting: HashMap<crate::cache::Key, Vec<oneshot::Sender<Made>>>,
    /// What is best given as it is.
    left: HashSet<crate::cache::Key>,
    bytes: usize,
    threads: usize,
    /// Processes that the core has sent.
    sockets: VecDeque<Option<UnixStream>>,
    rest: Option<Instant>,
    pause: Duration,
}

impl std::fmt::Debug for Workers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Workers").field("formats", &self.formats).finish_non_exhaustive()
    }
}

impl Workers {
    /// None yet: they come with the first order.
    pub fn new(cache: Arc<Cache>, ask: impl Fn() + Send + Sync + 'static) -> Self {
        Self {
            cache,
            ask: Box::new(ask),
            state: Mutex::default(),
            work: Condvar::new(),
            arrived: Condvar::new(),
            formats: AtomicU8::new(0),
        }
    }

    /// Whether a format can be written, as far as is known: not before the first process has said so.
    pub fn writes(&self, format: Format) -> bool {
        let known = self.formats.load(Ordering::Relaxed);
        known & format.bit() != 0 || (known == 0 && format != Format::Avif)
    }

    /// Whether it is known that nothing can be made of this.
    pub fn is_left(&self, derived: &Derived) -> bool {
        self.lock().left.contains(&derived.key)
    }

    /// Takes a process, or the word that there is none to be had.
    pub fn arrive(&self, socket: Option<OwnedFd>) {
        let mut state = self.lock();
        if state.sockets.len() < THREADS_MAX {
            state.sockets.push_back(socket.map(UnixStream::from));
        }
        self.arrived.notify_one();
    }

    /// Orders an image; what comes back is told when it is there. `None`: there is too much to do already. With
    /// `is_urgent` false nobody waits, and it comes after all others.
    pub fn order(self: &Arc<Self>, job: Job, is_urgent: bool) -> Option<oneshot::Receiver<Made>> {
        let (tell, told) = oneshot::channel();
        let mut state = self.lock();
        if let Some(waiting) = state.waiting.get_mut(&job.derived.key) {
            waiting.push(tell);
            return Some(told);
        }
        let is_full = state.now.len() + state.later.len() >= ORDERS_MAX
            || state.bytes + job.bytes.len() > BYTES_MAX
            || (!is_urgent && state.later.len() >= LATER_MAX);
        if is_full || state.rest.is_some_and(|rest| rest > Instant::now()) {
            return None;
        }
        let idle = state.waiting.len() < state.threads;
        if !idle && state.threads < threads_max() {
            let workers = self.clone();
            let started = std::thread::Builder::new().name("images".into()).spawn(move || workers.run());
            state.threads += usize::from(started.is_ok());
            if state.threads == 0 {
                return None;
            }
        }
        state.bytes += job.bytes.len();
        state.waiting.insert(job.derived.key.clone(), vec![tell]);
        if is_urgent {
            state.now.push_back(job);
        } else {
            state.later.push_back(job);
        }
        self.work.notify_one();
        Some(told)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What a thread does.
    fn run(&self) {
        let mut process = None;
        loop {
            let job = self.next();
            let made = self.make(&job, &mut process);
            let mut state = self.lock();
            state.bytes -= job.bytes.len();
            let made = match made {
                Ok(Some(stored)) => {
                    state.pause = Duration::ZERO;
                    Made::Image(stored)
                }
                Ok(None) => {
                    if state.left.len() >= LEFT_MAX {
                        state.left.clear();
                    }
                    state.left.insert(job.derived.key.clone());
                    Made::Left
                }
                Err(error) => {
                    process = None;
                    state.pause = (state.pause * 2).clamp(PAUSE, PAUSE_MAX);
                    state.rest = Some(Instant::now() + state.pause);
                    eprintln!("edge: no image is converted for {:?}: {error}", state.pause);
                    Made::Failed
                }
            };
            for waiting in state.waiting.remove(&job.derived.key).unwrap_or_default() {
                // Who has run out of patience has sent the original.
                let _ = waiting.send(made.clone());
            }
        }
    }

    fn next(&self) -> Job {
        let mut state = self.lock();
        loop {
            let job = state.now.pop_front().or_else(|| state.later.pop_front());
            match job {
                Some(job) => return job,
                None => state = self.work.wait(state).unwrap_or_else(PoisonError::into_inner),
            }
        }
    }

    /// Has an image made. `Ok(None)`: it is best given as it is.
    fn make(&self, job: &Job, process: &mut Option<UnixStream>) -> io::Result<Option<Arc<Stored>>> {
        let stream = match process {
            Some(stream) => stream,
            None => process.insert(self.process()?),
        };
        let Job { source, wanted, width, .. } = *job;
        images::send_order(stream, &Order { source, wanted, width, bytes: &job.bytes })?;
        let bytes: Bytes = match images::hear_outcome(stream)? {
            Outcome::Made { format, bytes } if format == wanted => bytes.into(),
            Outcome::Made { .. } => return Err(io::Error::other("it made something else than was ordered")),
            Outcome::Left(_) => return Ok(None),
        };
        let digest: String = Sha256::digest(&bytes)[..12].iter().map(|byte| format!("{byte:02x}")).collect();
        let tag = HeaderValue::try_from(format!("\"{digest}\"")).map_err(io::Error::other)?;
        let kind = HeaderValue::from_static(wanted.media_type());
        // What is too large to be kept would be made again for each visitor.
        Ok(self.cache.keep_derived(&job.derived, job.ticket, (kind, tag), bytes))
    }

    /// Gets a process from the core.
    fn process(&self) -> io::Result<UnixStream> {
        (self.ask)();
        let until = Instant::now() + START;
        let mut state = self.lock();
        let mut stream = loop {
            if let Some(socket) = state.sockets.pop_front() {
                break socket.ok_or_else(|| io::Error::other("the core can start no process for it"))?;
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(io::Error::new(io::ErrorKind::TimedOut, "the core started no process for it"));
            }
            state = self.arrived.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        };
        drop(state);
        stream.set_read_timeout(Some(LIMIT))?;
        stream.set_write_timeout(Some(LIMIT))?;
        self.formats.store(images::hear_greeting(&mut stream)?, Ordering::Relaxed);
        Ok(stream)
    }
}

fn threads_max() -> usize {
    (std::thread::available_parallelism().map_or(1, usize::from) / 2).clamp(1, THREADS_MAX)
}
