//! The link to the core: what to serve comes in, what happened goes out.
//!
//! Two threads: one reads, and serves one core after the other; one writes vitals and records. Both block, neither
//! is ever waited for by a request.

use std::io;
use std::net::TcpListener;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use klar_base::look::{Question, Told};
use klar_base::upstreams::{FromEdge, ListenerSpec, PROTOCOL, ToEdge};
use klar_base::wire;
use nix::sys::socket::{getsockopt, sockopt};

use crate::explain;
use crate::serve::{End, Order, Orders};
use crate::table::{NOTES_MAX, Note, Shared};

/// How often the core hears how everything is.
const VITALS: Duration = Duration::from_secs(1);
/// How long records are gathered.
const GATHER: Duration = Duration::from_millis(100);
/// The most records in one message.
const BATCH: usize = 1024;
/// How long the core may take to read a message.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long a worker may take to begin to listen.
const BEGIN: Duration = Duration::from_secs(5);

/// What this edge says of itself, and who may be its core.
#[derive(Debug)]
pub struct Own {
    /// What of the sandbox is on.
    pub sandbox: Vec<String>,
    /// The file of its program.
    pub program: String,
    /// Only a process of this user may be its core.
    pub core_uid: u32,
}

/// See the [module](self).
#[derive(Debug)]
pub struct Link {
    shared: Arc<Shared>,
    workers: Vec<Orders>,
    own: Own,
    stop: Sender<End>,
    ending: AtomicBool,
    listeners: Mutex<Vec<(ListenerSpec, OwnedFd)>>,
    core: Mutex<Option<Arc<UnixStream>>>,
    connected: Condvar,
    notes: Mutex<Option<Receiver<Note>>>,
}

impl Link {
    /// Nothing is started yet.
    pub fn new(shared: Arc<Shared>, workers: Vec<Orders>, own: Own, stop: Sender<End>) -> Self {
        Self {
            shared,
            workers,
            own,
            stop,
            ending: AtomicBool::new(false),
            listeners: Mutex::default(),
            core: Mutex::default(),
            connected: Condvar::new(),
            notes: Mutex::default(),
        }
    }

    /// Starts both threads.
    ///
    /// # Errors
    /// When there is no thread for them.
    pub fn start(self: Arc<Self>, listener: UnixListener, notes: Receiver<Note>) -> io::Result<()> {
        *lock(&self.notes) = Some(notes);
        let reader = self.clone();
        std::thread::Builder::new().name("control".into()).spawn(move || {
            for stream in listener.incoming() {
                match stream.and_then(|stream| reader.serve(stream)) {
                    Ok(()) => {}
                    Err(error) => eprintln!("edge: the core is gone: {error}"),
                }
                *lock(&reader.core) = None;
            }
        })?;
        std::thread::Builder::new().name("report".into()).spawn(move || {
            let notes = lock(&self.notes).take();
            if let Some(notes) = notes {
                self.report(&notes);
            }
        })?;
        Ok(())
    }

    /// Gives the report thread the time to hand over what there is, and says how it all added up.
    pub fn flush(&self) {
        let core = lock(&self.core).clone();
        if let Some(core) = core {
            std::thread::sleep(GATHER * 2);
            // One that is gone reads no sums.
            let _ = self.say(&core, &FromEdge::Vitals(self.shared.vitals()));
        }
    }

    fn serve(&self, stream: UnixStream) -> io::Result<()> {
        let peer = getsockopt(&stream, sockopt::PeerCredentials)?;
        if peer.uid() != self.own.core_uid && peer.uid() != 0 {
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, "another user called"));
        }
        stream.set_write_timeout(Some(PATIENCE))?;
        let stream = Arc::new(stream);
        {
            let listeners = lock(&self.listeners);
            let hello = FromEdge::Hello {
                pid: std::process::id(),
                version: env!("CARGO_PKG_VERSION").into(),
                generation: self.shared.table.load().generation,
                listeners: listeners.iter().map(|(spec, _)| spec.clone()).collect(),
                sandbox: self.own.sandbox.clone(),
                protocol: PROTOCOL,
                program: self.own.program.clone(),
                draining: self.ending.load(Ordering::Relaxed),
                answers: true,
            };
            let descriptors: Vec<_> = listeners.iter().map(|(_, socket)| socket.as_fd()).collect();
            wire::send(&stream, &hello, &descriptors)?;
        }
        *lock(&self.core) = Some(stream.clone());
        self.connected.notify_all();
        while let Some((message, descriptors)) = wire::receive::<ToEdge>(&stream)? {
            match message {
                ToEdge::Listen { listeners } => {
                    let said = self.listen(listeners, descriptors)?;
                    self.say(&stream, &said)?;
                }
                ToEdge::Config(config) => {
                    let generation = config.generation;
                    let said = match self.shared.apply(*config, descriptors) {
                        Ok(()) => FromEdge::Applied { generation },
                        Err(reason) => FromEdge::Rejected { generation, reason },
                    };
                    self.say(&stream, &said)?;
                    // The core waits for those that are drained already.
                    self.shared.tell_drained();
                }
                ToEdge::Purge { number, app, what } => {
                    let dropped = self.shared.cache.purge(&app, &what) as u64;
                    self.say(&stream, &FromEdge::Purged { number, dropped })?;
                }
                ToEdge::Ask { number, question } => {
                    let told = match question {
                        Question::Request(wanted) => {
                            Told::Explained(Box::new(explain::explain(&self.shared, &wanted)))
                        }
                        Question::Counts => Told::Counts(Box::new(self.shared.counts())),
                    };
                    self.say(&stream, &FromEdge::Answered { number, told })?;
                }
                ToEdge::Stop { patience } => self.end(End::Stop(patience)),
                ToEdge::Drain { patience } => self.end(End::Drain(patience)),
                ToEdge::Unknown => {}
            }
        }
        Ok(())
    }

    fn end(&self, how: End) {
        self.ending.store(true, Ordering::Relaxed);
        // The main thread is gone only when the process is.
        let _ = self.stop.send(how);
    }

    fn listen(&self, specs: Vec<ListenerSpec>, sockets: Vec<OwnedFd>) -> io::Result<FromEdge> {
        let mut held = lock(&self.listeners);
        let mut waiting = Vec::new();
        for (spec, socket) in specs.into_iter().zip(sockets) {
            if held.iter().any(|(known, _)| *known == spec) {
                continue;
            }
            let listener = TcpListener::from(socket.try_clone()?);
            let (reply, heard) = channel();
            if let Some(worker) = self.workers.get(spec.worker % self.workers.len().max(1)) {
                // A worker that has ended was told to, and its reply is gone with it.
                let _ = worker.send(Order::Listen(listener, spec.clone(), reply));
            }
            waiting.push((spec.address, heard));
            held.push((spec, socket));
        }
        let count = held.len();
        drop(held);
        let mut failed = Vec::new();
        for (address, heard) in waiting {
            let heard = heard.recv_timeout(BEGIN);
            let reason = heard.unwrap_or_else(|_| Err(format!("{address}: its worker does not answer")));
            failed.extend(reason.err());
        }
        failed.iter().for_each(|reason| eprintln!("edge: cannot serve {reason}"));
        Ok(FromEdge::Listening { count: count - failed.len(), failed })
    }

    /// One writer at a time: a message must not be torn by another.
    fn say(&self, stream: &Arc<UnixStream>, message: &FromEdge) -> io::Result<()> {
        let _turn = lock(&self.core);
        wire::send(stream, message, &[])
    }

    fn report(&self, notes: &Receiver<Note>) {
        self.shared.reporter.get_or_init(std::thread::current);
        let mut next_vitals = Instant::now();
        let mut records = Vec::new();
        loop {
            // While there is no core the queue fills, and then counts what it drops.
            let stream = {
                let mut core = lock(&self.core);
                loop {
                    match &*core {
                        Some(stream) => break stream.clone(),
                        None => core = self.connected.wait(core).unwrap_or_else(PoisonError::into_inner),
                    }
                }
            };
            let mut drained = false;
            let mut take = |note| match note {
                Note::Record(record) => records.push(*record),
                Note::Drained => drained = true,
            };
            match notes.recv_timeout(next_vitals.saturating_duration_since(Instant::now())) {
                Ok(note) => {
                    // Whoever waits at the queue is woken by each note, for more than a request costs otherwise. So
                    // this does not wait there, and only what is urgent wakes it.
                    let is_urgent = matches!(note, Note::Drained);
                    take(note);
                    if !is_urgent {
                        std::thread::park_timeout(GATHER);
                    }
                    notes.try_iter().take(NOTES_MAX).for_each(take);
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            let mut unsent = std::mem::take(&mut records);
            while !unsent.is_empty() {
                let rest = unsent.split_off(unsent.len().min(BATCH));
                let dropped = self.shared.records_dropped.load(Ordering::Relaxed);
                let message = FromEdge::Records { records: unsent, dropped };
                if self.say(&stream, &message).is_err() {
                    let FromEdge::Records { records: back, .. } = message else { break };
                    records = back;
                    records.extend(rest);
                    self.hang_up(&stream);
                    break;
                }
                unsent = rest;
            }
            let now = Instant::now();
            if drained || now >= next_vitals {
                if self.say(&stream, &FromEdge::Vitals(self.shared.vitals())).is_err() {
                    self.hang_up(&stream);
                }
                if now >= next_vitals {
                    next_vitals = now + VITALS;
                }
            }
        }
    }

    /// A core that does not read is as good as gone, and the reading thread has to hear of it.
    fn hang_up(&self, stream: &Arc<UnixStream>) {
        let mut core = lock(&self.core);
        if core.as_ref().is_some_and(|core| Arc::ptr_eq(core, stream)) {
            *core = None;
            // Gone already is what was wanted.
            let _ = stream.shutdown(std::net::Shutdown::Both);
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
