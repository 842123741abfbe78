//! The slower tier of the cache: answers on disk, for what memory has no room for, and for after a restart.
//!
//! Everything that is kept and stays of use for a while is written, not only what memory pushes out: an edge that is
//! killed has no time to write, and what it had in memory is what is asked for most. `segments.rs` are the files,
//! `record.rs` is how an answer is written, `index.rs` what is known of it in memory, `epochs.rs` which of it is of the
//! releases that serve; `writer.rs` is the one thread that writes. Nothing on the way of a request makes a system call
//! here: it looks into the index, and what it finds there is read by a small pool of threads, into memory. Whoever
//! wants the same waits for the same read; when the disk takes longer than [`PATIENCE`], or too many wait for it, the
//! app is asked as if there were no disk.
//!
//! **Forgetting** is in force at once, and survives a kill: a note of it is written behind what it forgets. Whoever
//! waits for a purge, or for the answer to a write of theirs, hears of it when the note is written.

mod epochs;
mod index;
mod record;
mod segments;
mod writer;

use std::collections::{HashMap, VecDeque};
use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, mpsc};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use klar_base::AppKey;
use klar_base::upstreams::Purge;
use tokio::sync::oneshot;

use super::key::Key;
use super::purge::matches;
use super::store::{Name, Store, Stored, Ticket};
use crate::fields::Fields;
pub use epochs::Serving;
use epochs::{Epochs, Turn};
use index::Index;
pub use index::Place;
use record::KeyDigest;
pub use record::Meta;
use writer::Writer;

/// How long a request waits for the disk.
const PATIENCE: Duration = Duration::from_millis(500);
/// How long who wants a purge does.
const PURGE_PATIENCE: Duration = Duration::from_secs(5);
/// How long an edge that ends waits for what has yet to be written.
const CLOSE_PATIENCE: Duration = Duration::from_secs(5);
/// What is of use for a shorter time is not worth the write.
const WORTH_IT: Duration = Duration::from_secs(30);
/// Answers that wait to be written, in bytes; more are not written.
const QUEUE_MAX: usize = 16 << 20;
/// Notes that wait to be written. More, and everything on disk is forgotten instead.
const NOTES_MAX: usize = 4096;
/// Threads that read, and reads that wait for one.
const READERS: usize = 2;
const READS_MAX: usize = 256;

/// See the [module](self).
pub struct Disk {
    state: Mutex<State>,
    /// There is something to write.
    work: Condvar,
    reads: Mutex<Reads>,
    /// There is something to read.
    asked: Condvar,
    segments: Arc<Vec<File>>,
    /// Which store the records have to be of.
    store: AtomicU64,
    /// Whether there is any use in looking.
    is_live: AtomicBool,
    writer: Mutex<Option<Writer>>,
    ended: Mutex<Option<mpsc::Receiver<()>>>,
}

#[derive(Debug, Default)]
struct State {
    index: Index,
    epochs: Epochs,
    queue: VecDeque<Job>,
    /// Bytes of answers in the queue.
    queued: usize,
    notes: usize,
    /// What has left the queue and is not in the index yet. `None` also when it was forgotten meanwhile.
    writing: Option<(KeyDigest, Meta)>,
    /// Nothing of before is there, so nothing has to be noted: another edge has the files.
    is_contended: bool,
    room: u64,
    is_closing: bool,
}

/// What the writer is to do, in this order.
#[derive(Debug)]
enum Job {
    Answer {
        key: KeyDigest,
        epoch: u64,
        name: Name,
        stored: Arc<Stored>,
    },
    Forget {
        key: KeyDigest,
        done: Done,
    },
    Purge {
        app: AppKey,
        what: Purge,
        done: Done,
    },
    /// Everything; and who waits for that.
    Wipe(Vec<Done>),
    /// The front page has changed.
    Front,
    /// The room has changed.
    Room,
    /// As after a kill.
    #[cfg(test)]
    Die,
}

/// Who is told when something is written.
#[derive(Debug)]
enum Done {
    Nobody,
    Visitor(oneshot::Sender<()>),
    Control(mpsc::Sender<()>),
}

impl Done {
    fn tell(self) {
        // Who has gone away need not hear of it.
        match self {
            Self::Nobody => {}
            Self::Visitor(waiting) => drop(waiting.send(())),
            Self::Control(waiting) => drop(waiting.send(())),
        }
    }
}

#[derive(Debug, Default)]
struct Reads {
    queue: VecDeque<Read>,
    /// Who waits, by the serial of the record.
    waiting: HashMap<u64, Vec<oneshot::Sender<Option<Arc<Stored>>>>>,
    is_closing: bool,
}

#[derive(Debug)]
struct Read {
    place: Place,
    key: Key,
    ticket: Ticket,
}

impl std::fmt::Debug for Disk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Disk").field("is_live", &self.is_live).finish_non_exhaustive()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What an answer takes while it waits to be written, in bytes, roughly.
fn cost(stored: &Stored) -> usize {
    stored.body.len() + 1024
}

fn now_ms() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.as_millis()).unwrap_or(u64::MAX)
}

impl Disk {
    /// Opens the files in a folder, which must be there. To be done before the sandbox closes.
    ///
    /// # Errors
    /// The file that cannot be opened or read.
    pub fn open(folder: &Path) -> io::Result<Self> {
        let writer = Writer::open(folder)?;
        let state =
            State { epochs: writer.epochs(), is_contended: writer.is_contended(), ..State::default() };
        Ok(Self {
            state: Mutex::new(state),
            work: Condvar::new(),
            reads: Mutex::default(),
            asked: Condvar::new(),
            segments: writer.readers(),
            store: AtomicU64::new(writer.store()),
            is_live: AtomicBool::new(false),
            writer: Mutex::new(Some(writer)),
            ended: Mutex::default(),
        })
    }

    /// Starts the threads. What is read goes into `store`.
    ///
    /// # Errors
    /// When there is no thread.
    pub fn start(self: &Arc<Self>, store: &Arc<Store>) -> io::Result<()> {
        let Some(writer) = lock(&self.writer).take() else { return Ok(()) };
        let (end, ended) = mpsc::channel();
        *lock(&self.ended) = Some(ended);
        let disk = self.clone();
        std::thread::Builder::new().name("disk-write".into()).spawn(move || {
            writer.run(&disk);
            drop(end);
        })?;
        for _ in 0..READERS {
            let (disk, store) = (self.clone(), store.clone());
            std::thread::Builder::new().name("disk-read".into()).spawn(move || disk.read(&store))?;
        }
        Ok(())
    }

    /// Writes what waits to be written, and closes the files in order.
    pub fn close(&self) {
        self.is_live.store(false, Ordering::SeqCst);
        lock(&self.reads).is_closing = true;
        self.asked.notify_all();
        lock(&self.state).is_closing = true;
        self.work.notify_all();
        if let Some(ended) = lock(&self.ended).take() {
            // It says nothing, but hangs up.
            let _ = ended.recv_timeout(CLOSE_PATIENCE);
        }
    }

    /// Changes the room, in bytes; 0 switches it off, and forgets everything.
    pub fn resize(&self, room: u64) {
        let mut state = lock(&self.state);
        if state.room != room {
            state.room = room;
            state.queue.push_back(Job::Room);
            self.work.notify_all();
        }
    }

    /// Takes note of the releases of an app that get requests. `count`: the epoch in memory.
    pub fn serve(&self, app: &AppKey, count: u64, serving: &Serving) {
        let mut state = lock(&self.state);
        let turn = state.epochs.turn(app, count, serving);
        if turn == Turn::New {
            state.drop_queued(|name, _, _| name.app == *app);
            state.index.remove_app(app);
        }
        if turn != Turn::Same && !state.is_contended {
            state.queue.push_back(Job::Front);
            self.work.notify_all();
        }
    }

    /// Has an answer written that was put into memory, if `still` says that it has not been forgotten since.
    pub fn offer(&self, key: &Key, name: &Name, stored: &Arc<Stored>, still: impl Fn() -> bool) {
        let mut state = lock(&self.state);
        if state.room == 0 || state.is_contended || state.is_closing {
            return;
        }
        let Some(epoch) = state.epochs.number(&name.app, key.epoch()) else { return };
        // Under the lock: who forgets counts first, and comes here afterwards.
        if !still() {
            return;
        }
        let key = key.digest(epoch);
        let is_worth_it = stored.facts.usable(Instant::now()) >= WORTH_IT;
        if is_worth_it && state.queued + cost(stored) <= QUEUE_MAX {
            state.queued += cost(stored);
            state.queue.push_back(Job::Answer { key, epoch, name: name.clone(), stored: stored.clone() });
        } else if state.has(&key) {
            // What is there has been replaced.
            state.forget(key, Done::Nobody);
        }
        self.work.notify_all();
    }

    /// Where an answer for a request with these headers lies.
    pub fn find(&self, key: &Key, app: &AppKey, request: &impl Fields) -> Option<Place> {
        if !self.is_live.load(Ordering::Relaxed) {
            return None;
        }
        let now = now_ms();
        let state = lock(&self.state);
        if state.index.is_empty() {
            return None;
        }
        let epoch = state.epochs.number(app, key.epoch())?;
        state.index.find(&key.digest(epoch), request, now)
    }

    /// Reads an answer, and brings it into memory. `ticket`: taken before it was found. `None`: it is not there, has been
    /// forgotten since, or would take too long.
    pub async fn bring(&self, place: Place, key: &Key, ticket: Ticket) -> Option<Arc<Stored>> {
        let (tell, told) = oneshot::channel();
        {
            let mut reads = lock(&self.reads);
            if let Some(waiting) = reads.waiting.get_mut(&place.serial) {
                waiting.push(tell);
            } else if reads.queue.len() < READS_MAX && !reads.is_closing {
                reads.waiting.insert(place.serial, vec![tell]);
                reads.queue.push_back(Read { place, key: key.clone(), ticket });
                self.asked.notify_one();
            } else {
                return None;
            }
        }
        tokio::time::timeout(PATIENCE, told).await.ok()?.ok()?
    }

    /// Forgets what is kept under a key. What comes back is told when that survives a kill; `None`: nothing was there.
    pub fn forget(&self, key: &Key, name: &Name) -> Option<oneshot::Receiver<()>> {
        let mut state = lock(&self.state);
        let epoch = state.epochs.number_to_be(&name.app, key.epoch())?;
        let key = key.digest(epoch);
        if state.is_contended || state.room == 0 {
            return None;
        }
        if !self.is_live.load(Ordering::SeqCst) {
            // It may be there. A kill while all is read leaves nothing, so nobody needs to wait.
            state.forget(key, Done::Nobody);
            return None;
        }
        if !state.has(&key) {
            return None;
        }
        let (tell, told) = oneshot::channel();
        state.forget(key, Done::Visitor(tell));
        self.work.notify_all();
        Some(told)
    }

    /// Forgets what a purge names, and gives back what that was, once it survives a kill.
    pub fn purge(&self, app: &AppKey, what: &Purge) -> Vec<Meta> {
        let (tell, told) = mpsc::channel();
        let (gone, is_live) = {
            let mut state = lock(&self.state);
            if state.is_contended || state.room == 0 {
                return Vec::new();
            }
            let goes = |name: &Name, tags: &[Box<str>]| name.app == *app && matches(what, name, tags);
            state.drop_queued(|name, tags, _| goes(name, tags));
            let gone = state.index.purge(goes);
            let is_live = self.is_live.load(Ordering::SeqCst);
            let done = if is_live { Done::Control(tell) } else { Done::Nobody };
            state.note(Job::Purge { app: app.clone(), what: what.clone(), done });
            self.work.notify_all();
            (gone, is_live)
        };
        if is_live {
            // A disk that takes longer is in trouble, and says so itself.
            let _ = told.recv_timeout(PURGE_PATIENCE);
        }
        gone
    }

    /// What a thread of the pool does.
    fn read(&self, memory: &Store) {
        loop {
            let read = {
                let mut reads = lock(&self.reads);
                loop {
                    if reads.is_closing {
                        return;
                    }
                    match reads.queue.pop_front() {
                        Some(read) => break read,
                        None => reads = self.asked.wait(reads).unwrap_or_else(PoisonError::into_inner),
                    }
                }
            };
            let Read { place, key, ticket } = read;
            let record = segments::read(&self.segments[place.segment], place.offset, place.length);
            let store = self.store.load(Ordering::SeqCst);
            let answer =
                record.ok().and_then(|record| record::read_answer(&record, store, place.serial, &place.key));
            let found = match answer {
                Some((name, stored)) => {
                    let stored = Arc::new(stored);
                    memory.bring(&key, &name, ticket, stored.clone());
                    // Memory may have no room for it; who waits gets it anyway.
                    (memory.ticket(&key) == ticket).then_some(stored)
                }
                None => {
                    lock(&self.state).index.remove_record(&place);
                    None
                }
            };
            let waiting = lock(&self.reads).waiting.remove(&place.serial);
            for waiting in waiting.unwrap_or_default() {
                // Who has run out of patience asks the app.
                let _ = waiting.send(found.clone());
            }
        }
    }
}

impl State {
    fn has(&self, key: &KeyDigest) -> bool {
        let waits = |job: &Job| matches!(job, Job::Answer { key: queued, .. } if queued == key);
        self.index.has(key)
            || self.writing.as_ref().is_some_and(|(writing, _)| writing == key)
            || self.queue.iter().any(waits)
    }

    /// Drops answers that have yet to be written.
    fn drop_queued(&mut self, goes: impl Fn(&Name, &[Box<str>], &KeyDigest) -> bool) {
        let mut left = 0;
        self.queue.retain(|job| match job {
            Job::Answer { key, name, stored, .. } => {
                let stays = !goes(name, &stored.tags, key);
                left += if stays { cost(stored) } else { 0 };
                stays
            }
            _ => true,
        });
        self.queued = left;
        if self.writing.as_ref().is_some_and(|(key, meta)| goes(&meta.name, &meta.tags, key)) {
            self.writing = None;
        }
    }

    fn forget(&mut self, key: KeyDigest, done: Done) {
        self.drop_queued(|_, _, queued| *queued == key);
        self.index.remove(&key);
        self.note(Job::Forget { key, done });
    }

    /// Has a note written. When there are more than can wait, everything is forgotten instead.
    fn note(&mut self, job: Job) {
        self.queue.push_back(job);
        self.notes += 1;
        if self.notes <= NOTES_MAX {
            return;
        }
        let mut all = Vec::new();
        for job in std::mem::take(&mut self.queue) {
            match job {
                Job::Forget { done, .. } | Job::Purge { done, .. } => all.push(done),
                Job::Wipe(done) => all.extend(done),
                _ => {}
            }
        }
        (self.queued, self.notes, self.writing) = (0, 0, None);
        self.index = Index::default();
        self.queue.extend([Job::Wipe(all), Job::Room, Job::Front]);
    }
}

#[cfg(test)]
mod tests;
