//! Locks: who uses the repository right now. In restic's format; klar adds who exactly the process is, which restic
//! passes over.
//!
//! A lock is an object. It is written first; then, after a moment in which a slow storage shows it to all, the others
//! are listed, and who sees one beside which his own cannot be takes his own away again. So of two who come at once at
//! least one gives up. What a killed process leaves is stale and taken away by whoever comes next:
//!
//! | whose lock | stale |
//! |---|---|
//! | of this process | when no [`Lock`] holds it; clocks may do what they like |
//! | of a process of klar on this machine | when that is dead; or after a day, when it lives and cannot remove it |
//! | of another program on this machine | when no process has its number, or after 30 minutes |
//! | of another machine | after 30 minutes |

use std::collections::BTreeSet;
use std::fmt;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

use crate::{Id, Kind, LockError, Object, ReadError, Repository, Storage, hangup};

/// How much a lock keeps away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LockKind {
    /// Beside others of its kind: who adds, or reads for long.
    Shared,
    /// Alone: who removes.
    Exclusive,
}

/// Who holds a lock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    /// The lock.
    pub lock: Id,
    /// Whether it is for itself.
    pub exclusive: bool,
    /// On which machine.
    pub host: String,
    /// The number of the process there.
    pub pid: u32,
    /// As whom it runs.
    pub user: String,
    /// When it said so last. It does every five minutes.
    pub since: jiff::Timestamp,
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = if self.exclusive { "an exclusive" } else { "a shared" };
        let Holder { host, pid, user, since, .. } = self;
        write!(f, "process {pid} of {user:?} on {host:?} holds {kind} lock, as it said last at {since:.0}")
    }
}

const STALE: Duration = Duration::from_secs(30 * 60);
const STALE_ALIVE: Duration = Duration::from_secs(24 * 60 * 60);

#[derive(Debug, Clone, Copy)]
pub(crate) struct Timing {
    /// Between writing a lock and looking for others.
    pub wait: Duration,
    /// After so long it is written anew.
    pub refresh: Duration,
    /// After so long, where that failed.
    pub retry: Duration,
}

const TIMING: Timing = Timing {
    wait: Duration::from_millis(if cfg!(test) { 2 } else { 200 }),
    refresh: Duration::from_secs(5 * 60),
    retry: Duration::from_secs(if cfg!(test) { 1_000_000 } else { 30 }),
};

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct File {
    pub time: jiff::Timestamp,
    #[serde(default)]
    pub exclusive: bool,
    #[serde(default)]
    pub hostname: String,
    #[serde(default)]
    pub username: String,
    #[serde(default)]
    pub pid: u32,
    #[serde(default)]
    pub uid: u32,
    #[serde(default)]
    pub gid: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub process: Option<Process>,
}

/// Tells a process from all others, whatever clocks say and whose number it may have got.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Process {
    /// In which numbers are what they are: a machine from one boot to the next, and a namespace there.
    pub world: String,
    /// When it began, in ticks of that machine.
    pub started: u64,
}

impl Process {
    fn of(pid: u32) -> Option<Process> {
        let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
        let namespace = std::fs::read_link("/proc/self/ns/pid").ok()?;
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The second field is a name in parentheses, in which anything may be; the 22nd is what is wanted.
        let started = stat.rsplit_once(')')?.1.split_whitespace().nth(19)?.parse().ok()?;
        Some(Process { world: format!("{} {}", boot.trim(), namespace.display()), started })
    }
}

fn host() -> String {
    nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok()).unwrap_or_default()
}

fn exists(pid: u32) -> bool {
    // It may be somebody else's, who may not be sent signals.
    let Ok(pid) = i32::try_from(pid) else { return false };
    pid > 0 && nix::sys::signal::kill(Pid::from_raw(pid), None) != Err(nix::errno::Errno::ESRCH)
}

impl File {
    pub fn own(exclusive: bool) -> File {
        let (uid, gid, pid) = (nix::unistd::getuid(), nix::unistd::getgid(), std::process::id());
        let user = nix::unistd::User::from_uid(uid).ok().flatten();
        File {
            time: jiff::Timestamp::now(),
            exclusive,
            hostname: host(),
            username: user.map(|user| user.name).unwrap_or_default(),
            pid,
            uid: uid.as_raw(),
            gid: gid.as_raw(),
            process: Process::of(pid),
        }
    }

    /// See the module.
    pub fn is_stale(&self, id: Id) -> bool {
        let older = |than: Duration| {
            jiff::Timestamp::now().duration_since(self.time)
                > jiff::SignedDuration::try_from(than).unwrap_or_default()
        };
        let us = Process::of(std::process::id());
        match (&self.process, us) {
            (Some(holder), Some(us)) if *holder == us && self.pid == std::process::id() => {
                !live().contains(&id)
            }
            (Some(holder), Some(us)) if holder.world == us.world => match Process::of(self.pid) {
                Some(now) => now != *holder || older(STALE_ALIVE),
                // It may be hidden from us.
                None => !exists(self.pid) || older(STALE_ALIVE),
            },
            // Its number means nothing here, even if the machine has the same name.
            (Some(_), Some(_)) => older(STALE),
            _ => older(STALE) || (!self.hostname.is_empty() && self.hostname == host() && !exists(self.pid)),
        }
    }
}

/// The locks that this process holds.
fn live() -> MutexGuard<'static, BTreeSet<Id>> {
    static LIVE: Mutex<BTreeSet<Id>> = Mutex::new(BTreeSet::new());
    LIVE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A lock: says every five minutes, from a thread of its own, that it is still there, and goes when it is dropped.
#[derive(Debug)]
pub struct Lock {
    held: Arc<Held>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Held {
    repository: Repository,
    exclusive: bool,
    timing: Timing,
    state: Mutex<State>,
    wake: Condvar,
}

#[derive(Debug)]
struct State {
    /// The object that others see. Nothing, before there is one and after it is removed.
    id: Option<Id>,
    /// When it was written, by a clock that never jumps and by one that goes on while the machine sleeps.
    written: (Instant, jiff::Timestamp),
    /// Objects that could not be removed yet.
    left: Vec<Id>,
    lost: Option<String>,
    done: bool,
}

impl State {
    fn age(&self) -> Duration {
        let by_clock = jiff::Timestamp::now().duration_since(self.written.1).unsigned_abs();
        self.written.0.elapsed().max(by_clock)
    }
}

impl Lock {
    pub(crate) fn take(repository: &Repository, kind: LockKind) -> Result<Lock, LockError> {
        Lock::take_with(repository, kind, TIMING)
    }

    pub(crate) fn take_with(
        repository: &Repository,
        kind: LockKind,
        timing: Timing,
    ) -> Result<Lock, LockError> {
        hangup::survive();
        let held = Held {
            repository: repository.clone(),
            exclusive: kind == LockKind::Exclusive,
            timing,
            state: Mutex::new(State {
                id: None,
                written: (Instant::now(), jiff::Timestamp::now()),
                left: Vec::new(),
                lost: None,
                done: false,
            }),
            wake: Condvar::new(),
        };
        // Dropped, it takes away what it wrote.
        let mut lock = Lock { held: Arc::new(held), thread: None };
        lock.held.look(None)?;
        let id = lock.held.write(&mut lock.held.state())?;
        std::thread::sleep(timing.wait);
        lock.held.look(Some(id))?;
        let held = lock.held.clone();
        let thread = std::thread::Builder::new().name("lock".into()).spawn(move || held.keep());
        lock.thread = Some(thread.map_err(|why| LockError::System(format!("a thread for a lock: {why}")))?);
        Ok(lock)
    }

    /// Asks whether it is still there, before something is done that needs it.
    ///
    /// # Errors
    /// [`LockError::Lost`]; [`LockError::Storage`] where nobody can say.
    pub fn confirm(&self) -> Result<(), LockError> {
        self.held.confirm()
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        let mut state = self.held.state();
        state.done = true;
        let id = state.id.take();
        state.left.extend(id);
        self.held.sweep(&mut state);
        let is_clean = state.left.is_empty();
        drop(state);
        self.held.wake.notify_all();
        // Otherwise it goes on trying, for a while.
        if let Some(thread) = self.thread.take().filter(|_| is_clean) {
            let _ = thread.join();
        }
    }
}

impl Held {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn storage(&self) -> &dyn Storage {
        self.repository.storage()
    }

    fn write(&self, state: &mut State) -> Result<Id, LockError> {
        let now = (Instant::now(), jiff::Timestamp::now());
        let (id, sealed) = self.repository.seal_json(&File { time: now.1, ..File::own(self.exclusive) })?;
        live().insert(id);
        if let Err(error) = self.storage().write(&Object::Stored(Kind::Lock, id), &sealed) {
            // Something may be there nevertheless.
            state.left.push(id);
            self.sweep(state);
            return Err(error.into());
        }
        state.left.extend(state.id.replace(id));
        state.written = now;
        Ok(id)
    }

    /// Removes what is not needed any more.
    fn sweep(&self, state: &mut State) {
        state.left.retain(|id| {
            live().remove(id);
            self.storage().remove(&Object::Stored(Kind::Lock, *id)).is_err()
        });
    }

    /// Looks for locks beside which this one cannot be, and takes stale ones away.
    fn look(&self, own: Option<Id>) -> Result<(), LockError> {
        'again: for _ in 0..10 {
            for (id, _) in self.storage().list(Kind::Lock)?.into_iter().filter(|(id, _)| Some(*id) != own) {
                let object = Object::Stored(Kind::Lock, id);
                let file: File = match self.repository.json(&object) {
                    Ok(file) => file,
                    // Its holder may have written another one since they were listed.
                    Err(ReadError::Storage(error)) if error.is_gone() => continue 'again,
                    Err(ReadError::Storage(error)) => return Err(error.into()),
                    Err(error) => return Err(LockError::Unreadable(error)),
                };
                if file.is_stale(id) {
                    self.storage().remove(&object)?;
                } else if self.exclusive || file.exclusive {
                    return Err(self.held_by(id, file));
                }
            }
            return Ok(());
        }
        Err(LockError::System(format!("the locks of {} come and go too quickly", self.storage().place())))
    }

    fn held_by(&self, id: Id, file: File) -> LockError {
        let holder = Holder {
            lock: id,
            exclusive: file.exclusive,
            host: file.hostname,
            pid: file.pid,
            user: file.username,
            since: file.time,
        };
        LockError::Held { place: self.storage().place(), holder: Box::new(holder) }
    }

    fn confirm(&self) -> Result<(), LockError> {
        let mut state = self.state();
        if state.age() >= self.timing.refresh {
            return self.refresh(&mut state);
        }
        let id = state.id;
        self.look_for(id, &mut state)
    }

    /// Whether an object of this lock is there.
    fn look_for(&self, id: Option<Id>, state: &mut State) -> Result<(), LockError> {
        if let Some(id) = id.filter(|_| state.lost.is_none()) {
            match self.storage().read(&Object::Stored(Kind::Lock, id)) {
                Ok(_) => return Ok(()),
                Err(error) if error.is_gone() => {
                    state.lost = Some(format!("{error}, so somebody removed it"))
                }
                Err(error) => return Err(error.into()),
            }
        }
        let why = state.lost.clone().unwrap_or_default();
        Err(LockError::Lost { place: self.storage().place(), why })
    }

    fn refresh(&self, state: &mut State) -> Result<(), LockError> {
        let (before, age) = (state.id, state.age());
        self.look_for(before, state)?;
        self.write(state)?;
        if age >= STALE / 2 {
            // Perhaps the machine slept, and somebody is about to take the old one for stale. Who removed it before he
            // could see the new one has a lock by now; who did not will see the new one.
            std::thread::sleep(self.timing.wait);
            self.look_for(before, state)?;
        }
        self.sweep(state);
        Ok(())
    }

    /// What the thread does.
    fn keep(&self) {
        let mut state = self.state();
        let mut next = Instant::now() + self.timing.refresh;
        while !state.done {
            let left = next.saturating_duration_since(Instant::now());
            if !left.is_zero() {
                state = self.wake.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
                continue;
            }
            // Where it is lost for good, the next who asks hears of it.
            let pause = match self.refresh(&mut state) {
                Ok(()) => self.timing.refresh,
                Err(_) => self.timing.retry,
            };
            next = Instant::now() + pause;
        }
        for _ in 0..100 {
            if state.left.is_empty() {
                return;
            }
            drop(state);
            std::thread::sleep(self.timing.retry);
            state = self.state();
            self.sweep(&mut state);
        }
    }
}
