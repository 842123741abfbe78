//! The link to the core: what to serve comes in, what happened goes out.
//!
//! Two threads: one reads, and serves one core after the other; one writes vitals and records. Both block, neither
//! is ever waited for by a request.

use std::collections::VecDeque;
use std::io;
use std::net::{TcpListener, UdpSocket};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use klar_base::Secret;
use klar_base::datagrams::DatagramSpec;
use klar_base::look::{Question, Told};
use klar_base::upstreams::{Datagrams, FromEdge, ListenerSpec, PROTOCOL, ToEdge};
use klar_base::wire;
use nix::sys::socket::{getsockopt, sockopt};

use crate::serve::{End, Order, Orders};
use crate::table::{NOTES_MAX, Note, Shared};
use crate::{explain, records};

/// How often the core hears how everything is.
const VITALS: Duration = Duration::from_secs(1);
/// How long records are gathered: the core, which shares the processor with the app, should have little to do at once.
const GATHER: Duration = Duration::from_millis(20);
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

/// A listening socket that the next core gets back.
#[derive(Debug)]
struct HeldListener {
    spec: ListenerSpec,
    socket: OwnedFd,
    /// A worker accepts at it.
    served: bool,
}

/// The sockets of HTTP/3: all that there are, of which one lane is served here.
#[derive(Debug)]
struct HeldDatagrams {
    lane: u16,
    secret: Secret<String>,
    sockets: Vec<(DatagramSpec, OwnedFd)>,
    /// So many of them have been given to their workers.
    served: usize,
}

/// See the [module](self).
#[derive(Debug)]
pub struct Link {
    shared: Arc<Shared>,
    workers: Vec<Orders>,
    own: Own,
    stop: Sender<End>,
    ending: AtomicBool,
    /// The core that is connected reads lines.
    takes_lines: AtomicBool,
    /// A request is judged again.
    replays: AtomicBool,
    listeners: Mutex<Vec<HeldListener>>,
    datagrams: Mutex<Option<HeldDatagrams>>,
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
            takes_lines: AtomicBool::new(false),
            replays: AtomicBool::new(false),
            listeners: Mutex::default(),
            datagrams: Mutex::default(),
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

    fn serve(self: &Arc<Self>, stream: UnixStream) -> io::Result<()> {
        let peer = getsockopt(&stream, sockopt::PeerCredentials)?;
        if peer.uid() != self.own.core_uid && peer.uid() != 0 {
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, "another user called"));
        }
        stream.set_write_timeout(Some(PATIENCE))?;
        let stream = Arc::new(stream);
        self.takes_lines.store(false, Ordering::Relaxed);
        {
            let (listeners, datagrams) = (lock(&self.listeners), lock(&self.datagrams));
            let held = datagrams.as_ref();
            let rows: Vec<_> = held
                .map(|held| {
                    held.sockets.chunk_by(|(one, _), (next, _)| one.address == next.address).collect()
                })
                .unwrap_or_default();
            let hello = FromEdge::Hello {
                pid: std::process::id(),
                version: env!("CARGO_PKG_VERSION").into(),
                generation: self.shared.table.load().generation,
                listeners: listeners.iter().map(|held| held.spec.clone()).collect(),
                sandbox: self.own.sandbox.clone(),
                protocol: PROTOCOL,
                program: self.own.program.clone(),
                draining: self.ending.load(Ordering::Relaxed),
                answers: true,
                replays: true,
                tries: true,
                datagrams: Some(rows.len() as u32),
            };
            let descriptors: Vec<_> = listeners.iter().map(|held| held.socket.as_fd()).collect();
            wire::send(&stream, &hello, &descriptors)?;
            for (row, held) in rows.into_iter().filter_map(|row| Some((row, held?))) {
                let sockets = row.iter().map(|(spec, _)| spec.clone()).collect();
                let message = Datagrams { sockets, lane: held.lane, secret: held.secret.clone() };
                let descriptors: Vec<_> = row.iter().map(|(_, socket)| socket.as_fd()).collect();
                wire::send(&stream, &FromEdge::Datagrams(message), &descriptors)?;
            }
        }
        *lock(&self.core) = Some(stream.clone());
        self.connected.notify_all();
        while let Some((message, descriptors)) = wire::receive::<ToEdge>(&stream)? {
            match message {
                ToEdge::Listen { listeners } => {
                    self.hold(listeners, descriptors);
                    if self.knows_what_to_serve() {
                        self.say(&stream, &self.listen()?)?;
                    }
                }
                ToEdge::Datagrams(datagrams) => self.take_datagrams(datagrams, descriptors)?,
                ToEdge::Config(config) => {
                    let generation = config.generation;
                    let said = match self.shared.apply(*config, descriptors) {
                        Ok(()) => FromEdge::Applied { generation },
                        Err(reason) => FromEdge::Rejected { generation, reason },
                    };
                    self.say(&stream, &said)?;
                    if self.knows_what_to_serve() && lock(&self.listeners).iter().any(|held| !held.served) {
                        self.say(&stream, &self.listen()?)?;
                    }
                    if self.knows_what_to_serve() {
                        self.serve_datagrams()?;
                    }
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
                        Question::Replay(wanted) => {
                            let replay =
                                move |shared: &Shared| Told::Replayed { said: shared.replay(&wanted) };
                            self.aside(number, &stream, replay)?;
                            continue;
                        }
                        Question::Try(wanted) => {
                            let attempt = move |shared: &Shared| Told::Tried {
                                said: shared.try_rules(&wanted, descriptors),
                            };
                            self.aside(number, &stream, attempt)?;
                            continue;
                        }
                    };
                    self.say(&stream, &FromEdge::Answered { number, told })?;
                }
                ToEdge::TakesLines => self.takes_lines.store(true, Ordering::Relaxed),
                ToEdge::Images => self.shared.images.workers.arrive(descriptors.into_iter().next()),
                ToEdge::Stop { patience } => self.end(End::Stop(patience)),
                ToEdge::Drain { patience } => self.end(End::Drain(patience)),
                ToEdge::Unknown => {}
            }
        }
        Ok(())
    }

    /// Answers in a thread of its own, one question at a time: rules are compiled for it, and orders do not wait for that.
    fn aside(
        self: &Arc<Self>,
        number: u64,
        stream: &Arc<UnixStream>,
        answer: impl FnOnce(&Shared) -> Told + Send + 'static,
    ) -> io::Result<()> {
        if self.replays.swap(true, Ordering::AcqRel) {
            let said = Err("others are judged just now; ask again in a moment".to_owned());
            return self.say(stream, &FromEdge::Answered { number, told: Told::Replayed { said } });
        }
        let (link, stream) = (self.clone(), stream.clone());
        let begun = std::thread::Builder::new().name("replay".into()).spawn(move || {
            let told = answer(&link.shared);
            link.replays.store(false, Ordering::Release);
            // Whoever asked may be gone, and the core with it.
            let _ = link.say(&stream, &FromEdge::Answered { number, told });
        });
        if begun.is_err() {
            self.replays.store(false, Ordering::Release);
        }
        begun.map(drop)
    }

    fn end(&self, how: End) {
        self.ending.store(true, Ordering::Relaxed);
        // The main thread is gone only when the process is.
        let _ = self.stop.send(how);
    }

    /// An edge that knows of no certificate and no site yet would turn away whoever it accepted. Until then visitors
    /// wait in the queue of the socket, as they do while no edge is there.
    fn knows_what_to_serve(&self) -> bool {
        self.shared.table.load().generation > 0
    }

    fn hold(&self, specs: Vec<ListenerSpec>, sockets: Vec<OwnedFd>) {
        let mut listeners = lock(&self.listeners);
        for (spec, socket) in specs.into_iter().zip(sockets) {
            if !listeners.iter().any(|held| held.spec == spec) {
                listeners.push(HeldListener { spec, socket, served: false });
            }
        }
    }

    /// Has the workers serve every socket that they do not serve yet.
    fn listen(&self) -> io::Result<FromEdge> {
        let mut listeners = lock(&self.listeners);
        let mut waiting = Vec::new();
        for held in listeners.iter_mut().filter(|held| !held.served) {
            let listener = TcpListener::from(held.socket.try_clone()?);
            let (reply, heard) = channel();
            if let Some(worker) = self.workers.get(held.spec.worker % self.workers.len().max(1)) {
                // A worker that has ended was told to, and its reply is gone with it.
                let _ = worker.send(Order::Listen(listener, held.spec.clone(), reply));
            }
            waiting.push((held.spec.address, heard));
            held.served = true;
        }
        let count = listeners.len();
        drop(listeners);
        let mut failed = Vec::new();
        for (address, heard) in waiting {
            let heard = heard.recv_timeout(BEGIN);
            let reason = heard.unwrap_or_else(|_| Err(format!("{address}: its worker does not answer")));
            failed.extend(reason.err());
        }
        failed.iter().for_each(|reason| eprintln!("edge: cannot serve {reason}"));
        Ok(FromEdge::Listening { count: count - failed.len(), failed })
    }

    /// Holds the sockets, and serves those of its lane, the one that it was told first, as soon as there is something to
    /// serve. What cannot be served is said; visitors go on over TCP.
    fn take_datagrams(&self, datagrams: Datagrams, sockets: Vec<OwnedFd>) -> io::Result<()> {
        {
            let mut held = lock(&self.datagrams);
            let Datagrams { sockets: specs, lane, secret } = datagrams;
            let held =
                held.get_or_insert_with(|| HeldDatagrams { lane, secret, sockets: Vec::new(), served: 0 });
            for new in specs.into_iter().zip(sockets) {
                if !held.sockets.iter().any(|(known, _)| *known == new.0) {
                    held.sockets.push(new);
                }
            }
        }
        if self.knows_what_to_serve() { self.serve_datagrams() } else { Ok(()) }
    }

    /// Serves the sockets for datagrams that are not served yet.
    fn serve_datagrams(&self) -> io::Result<()> {
        let mut held = lock(&self.datagrams);
        let Some(held) = held.as_mut().filter(|held| held.served < held.sockets.len()) else { return Ok(()) };
        let Some(bytes) = unhex(held.secret.expose()) else {
            eprintln!("edge: HTTP/3 is off: the secret of the core is none");
            return Ok(());
        };
        let bytes = Arc::new(Secret::new(bytes));
        let mut waiting = Vec::new();
        for (spec, socket) in &held.sockets[held.served..] {
            if spec.lane() == held.lane {
                let served = UdpSocket::from(socket.try_clone()?);
                let (reply, heard) = channel();
                let worker = usize::from(spec.worker()) % self.workers.len().max(1);
                if let Some(worker) = self.workers.get(worker) {
                    // As in `listen`.
                    let _ = worker.send(Order::Datagrams(served, spec.clone(), bytes.clone(), reply));
                }
                waiting.push((spec.address, heard));
            }
        }
        held.served = held.sockets.len();
        for (address, heard) in waiting {
            let heard = heard.recv_timeout(BEGIN);
            if let Err(reason) =
                heard.unwrap_or_else(|_| Err(format!("{address}: its worker does not answer")))
            {
                eprintln!("edge: HTTP/3 is not served at {reason}");
            }
        }
        Ok(())
    }

    /// One writer at a time: a message must not be torn by another.
    fn say(&self, stream: &Arc<UnixStream>, message: &FromEdge) -> io::Result<()> {
        let _turn = lock(&self.core);
        wire::send(stream, message, &[])
    }

    /// Sends what workers have written for the core.
    fn pass_on(&self, stream: &UnixStream, message: &[u8]) -> io::Result<()> {
        let _turn = lock(&self.core);
        wire::send_text(stream, message, &[])
    }

    fn report(&self, notes: &Receiver<Note>) {
        self.shared.reporter.get_or_init(std::thread::current);
        let mut next_vitals = Instant::now();
        let mut unsent = VecDeque::new();
        loop {
            // While there is no core the records fill up, and then count what they drop.
            let stream = {
                let mut core = lock(&self.core);
                loop {
                    match &*core {
                        Some(stream) => break stream.clone(),
                        None => core = self.connected.wait(core).unwrap_or_else(PoisonError::into_inner),
                    }
                }
            };
            let (mut drained, mut images) = (false, 0);
            let mut take = |note| match note {
                Note::Records => {}
                Note::Drained => drained = true,
                Note::WantsImages => images += 1,
            };
            match notes.recv_timeout(next_vitals.saturating_duration_since(Instant::now())) {
                Ok(note) => {
                    // Nothing but what is urgent wakes this while records are gathered.
                    let is_urgent = !matches!(note, Note::Records);
                    take(note);
                    if !is_urgent {
                        std::thread::park_timeout(GATHER);
                    }
                    notes.try_iter().take(NOTES_MAX).for_each(take);
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            for _ in 0..images {
                if self.say(&stream, &FromEdge::WantsImages).is_err() {
                    self.hang_up(&stream);
                }
            }
            // Those of a moment ago first, if nobody took them; as long as they wait no others are fetched.
            if unsent.is_empty() {
                let requests = self.shared.seen.stopped.take();
                let stopped = (!requests.is_empty()).then_some(FromEdge::Stopped { requests });
                let requests = self.shared.seen.let_through.take();
                let shadowed = (!requests.is_empty()).then_some(FromEdge::Shadowed { requests });
                // They are made of texts, which can be written.
                unsent.extend(
                    [stopped, shadowed].iter().flatten().filter_map(|one| serde_json::to_vec(one).ok()),
                );
                unsent.extend(self.shared.records.take());
            }
            while let Some(message) = unsent.pop_front() {
                let is_older = !self.takes_lines.load(Ordering::Relaxed);
                let message = if is_older { records::for_older(message) } else { message };
                match self.pass_on(&stream, &message) {
                    Ok(()) => {}
                    // No core would take it.
                    Err(error) if error.kind() == io::ErrorKind::InvalidInput => {
                        eprintln!("edge: a message to the core is lost: {error}");
                    }
                    Err(_) => {
                        self.hang_up(&stream);
                        unsent.push_front(message);
                        break;
                    }
                }
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

/// Bytes from hexadecimal digits; `None` where they are none, or too few to be a secret.
fn unhex(text: &str) -> Option<Vec<u8>> {
    const BYTES_MIN: usize = 32;
    let digits: Option<Vec<u8>> = text.chars().map(|digit| Some(digit.to_digit(16)? as u8)).collect();
    let bytes: Vec<u8> = digits?.chunks_exact(2).map(|pair| pair[0] << 4 | pair[1]).collect();
    (bytes.len() >= BYTES_MIN).then_some(bytes)
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
