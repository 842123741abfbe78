//! The core's link to the edge: one edge for the host, found again after a restart, started again when it dies.
//!
//! The listening sockets are bound once. Both sides hold them, so either may die without one being closed.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use klar_base::look::{Question, Told};
use klar_base::upstreams::{EdgeConfig, FromEdge, ListenerSpec, Purge, ToEdge, Vitals};
use klar_base::{AppKey, wire};
use tokio::sync::{mpsc, oneshot, watch};

use crate::layout::Layout;
use crate::spawn::{self, Answer, Request, Spawn, Spawner, users::Identity};

/// Purges whose outcome is remembered, for those who wait for it.
const PURGES: usize = 64;
/// Questions that may wait for their answer at once.
const QUESTIONS_MAX: usize = 64;

/// Those who wait for an answer of the edge, by the number of their question. Whoever is gone from here will get none.
type Waiting = Arc<Mutex<BTreeMap<u64, oneshot::Sender<Told>>>>;

/// What the edge has said, always the newest.
#[derive(Debug, Clone, Default)]
pub struct EdgeState {
    /// Its process id, while it is connected.
    pub pid: Option<u32>,
    /// What of its sandbox is on.
    pub sandbox: Vec<String>,
    /// The newest generation that every worker serves.
    pub applied: u64,
    /// The newest generation that it refused, and why.
    pub rejected: Option<(u64, String)>,
    /// The last purges that it did, by number, and how many answers each took.
    pub purged: BTreeMap<u64, u64>,
    /// The newest vitals.
    pub vitals: Vitals,
    /// How often it was started.
    pub starts: u64,
    /// Records that it dropped.
    pub records_dropped: u64,
}

/// The link.
pub struct EdgeLink {
    layout: Layout,
    spawner: Spawner,
    workers: usize,
    /// `None` while there is no edge.
    stream: Option<Arc<UnixStream>>,
    listeners: BTreeMap<ListenerSpec, OwnedFd>,
    state: watch::Sender<EdgeState>,
    /// Everything that the edge says, and `None` when the connection is gone.
    messages: mpsc::UnboundedSender<(u64, Option<FromEdge>)>,
    /// Counts connections, so that the end of an old one is not taken for the end of this one.
    connection: u64,
    waiting: Waiting,
    /// Questions so far.
    questions: u64,
    /// It understands questions; one of an older klar does not.
    answers: bool,
    /// What it was last told.
    published: Option<super::publish::Published>,
    /// Where it could not listen when it last tried.
    trouble: Vec<String>,
    /// When it was last started, so that one that dies at once is not started in a circle.
    started: Option<Instant>,
}

impl std::fmt::Debug for EdgeLink {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EdgeLink").field("connected", &self.stream.is_some()).finish_non_exhaustive()
    }
}

impl EdgeLink {
    /// Nothing is started yet.
    pub fn new(
        layout: Layout,
        spawner: Spawner,
        messages: mpsc::UnboundedSender<(u64, Option<FromEdge>)>,
    ) -> Self {
        let workers = std::thread::available_parallelism().map_or(1, usize::from);
        let (state, _) = watch::channel(EdgeState::default());
        Self {
            layout,
            spawner,
            workers,
            stream: None,
            listeners: BTreeMap::new(),
            state,
            messages,
            connection: 0,
            waiting: Waiting::default(),
            questions: 0,
            answers: false,
            published: None,
            trouble: Vec::new(),
            started: None,
        }
    }

    /// Whether a start may be tried now.
    pub fn may_start(&self) -> bool {
        const PAUSE: Duration = Duration::from_millis(200);
        self.started.is_none_or(|started| started.elapsed() > PAUSE)
    }

    /// Whether it was told exactly this.
    pub fn is_published(&self, published: &super::publish::Published) -> bool {
        self.published.as_ref() == Some(published)
    }

    /// Notes what it was told.
    pub fn note_published(&mut self, published: super::publish::Published) {
        self.published = Some(published);
    }

    /// A new edge knows nothing.
    pub fn forget_published(&mut self) {
        self.published = None;
    }

    /// What the edge has said; changes can be waited for.
    pub fn watch(&self) -> watch::Receiver<EdgeState> {
        self.state.subscribe()
    }

    /// Whether an edge is connected.
    pub fn is_connected(&self) -> bool {
        self.stream.is_some()
    }

    /// Where it listens.
    pub fn listens(&self) -> Vec<String> {
        let mut all: Vec<String> = self
            .listeners
            .keys()
            .filter(|spec| spec.worker == 0)
            .map(|spec| format!("{} {}", if spec.tls { "https" } else { "http" }, spec.address))
            .collect();
        all.dedup();
        all
    }

    /// Where it should listen and cannot, with the reason.
    pub fn cannot_listen(&self) -> &[String] {
        &self.trouble
    }

    /// Connects to the edge that runs, if one does.
    pub fn adopt(&mut self) -> io::Result<bool> {
        match UnixStream::connect(self.layout.edge_socket()) {
            Ok(stream) => self.hello(stream).map(|()| true),
            Err(_) => Ok(false),
        }
    }

    /// Starts an edge and hands it the listeners that there are.
    ///
    /// # Errors
    /// When it cannot be started, or does not answer.
    pub fn start(&mut self) -> io::Result<()> {
        self.started = Some(Instant::now());
        let path = self.layout.edge_socket();
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let control = UnixListener::bind(&path)?;
        let args = vec![
            "edge".into(),
            "--core-uid".into(),
            nix::unistd::geteuid().to_string(),
            "--static-root".into(),
            self.layout.apps().to_string_lossy().into_owned(),
        ];
        let spawn = Spawn { args, identity: Identity::Edge, limits: None, private_tmp: None };
        self.spawner.ask_blocking(Request::Spawn(spawn), &[control.as_fd()])?;
        // The edge alone holds its socket: when it dies, whoever waits for its answer is told.
        drop(control);
        self.state.send_modify(|state| state.starts += 1);
        self.hello(UnixStream::connect(&path)?)
    }

    /// Reads the greeting, then leaves reading to a thread of its own.
    fn hello(&mut self, stream: UnixStream) -> io::Result<()> {
        const PATIENCE: Duration = Duration::from_secs(5);
        stream.set_read_timeout(Some(PATIENCE))?;
        let greeting = wire::receive::<FromEdge>(&stream)?;
        let Some((FromEdge::Hello { pid, generation, listeners, sandbox, answers, .. }, descriptors)) =
            greeting
        else {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "the edge did not greet"));
        };
        stream.set_read_timeout(None)?;
        stream.set_write_timeout(Some(PATIENCE))?;
        for (spec, descriptor) in listeners.into_iter().zip(descriptors) {
            self.listeners.entry(spec).or_insert(descriptor);
        }
        self.connection += 1;
        self.answers = answers;
        // Whoever asked the edge before this one waits in vain.
        self.waiting = Waiting::default();
        self.state.send_modify(|state| {
            *state = EdgeState {
                pid: Some(pid),
                sandbox,
                applied: generation,
                starts: state.starts,
                ..EdgeState::default()
            };
        });
        let stream = Arc::new(stream);
        let (reader, state) = (stream.clone(), self.state.clone());
        let (messages, connection) = (self.messages.clone(), self.connection);
        let waiting = self.waiting.clone();
        std::thread::Builder::new().name("edge-link".into()).spawn(move || {
            while let Ok(Some((message, _))) = wire::receive::<FromEdge>(&reader) {
                if let FromEdge::Answered { number, told } = message {
                    let asked = lock(&waiting).remove(&number);
                    // Whoever asked may have gone away.
                    let _ = asked.map(|asked| asked.send(told));
                    continue;
                }
                note(&state, &message);
                if messages.send((connection, Some(message))).is_err() {
                    return;
                }
            }
            lock(&waiting).clear();
            // Nobody to tell: the core is ending.
            let _ = messages.send((connection, None));
        })?;
        self.stream = Some(stream);
        self.hand_over()
    }

    fn hand_over(&self) -> io::Result<()> {
        let Some(stream) = &self.stream else { return Ok(()) };
        if self.listeners.is_empty() {
            return Ok(());
        }
        let listeners = self.listeners.keys().cloned().collect();
        wire::send(
            stream,
            &ToEdge::Listen { listeners },
            &wire::borrow(&self.listeners.values().collect::<Vec<_>>()),
        )
    }

    /// Listens at `address` too, when that is not done already.
    ///
    /// # Errors
    /// `AddrInUse` and `PermissionDenied` as the kernel says them.
    pub fn listen(&mut self, address: SocketAddr, tls: bool) -> io::Result<()> {
        let specs: Vec<ListenerSpec> =
            (0..self.workers).map(|worker| ListenerSpec { address, tls, worker }).collect();
        if specs.iter().all(|spec| self.listeners.contains_key(spec)) {
            return Ok(());
        }
        // With SO_REUSEPORT a second klar of the same user could share the port without a word.
        let taken = self.listeners.keys().any(|spec| spec.address == address);
        if !taken && !crate::ports::listening_inodes(address.port()).is_empty() {
            probe_free(address)?;
        }
        let mut bound = Vec::new();
        for spec in specs {
            let socket = match spawn::bind(address) {
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                    let (_, mut sockets) = self.spawner.ask_blocking(Request::Bind { address }, &[])?;
                    sockets.pop().ok_or_else(|| io::Error::other("the spawner sent no socket"))?
                }
                other => other?.into(),
            };
            bound.push((spec, socket));
        }
        self.listeners.extend(bound);
        self.hand_over()
    }

    /// Gives ports back that nobody serves: a visitor is better refused than kept waiting.
    pub fn forget_listeners(&mut self) {
        if !self.is_connected() {
            self.listeners.clear();
        }
    }

    /// Listens at all of these, as far as it can; what it cannot is tried again the next time.
    pub fn keep_listening(&mut self, addresses: &[(SocketAddr, bool)]) {
        let mut trouble = Vec::new();
        for &(address, tls) in addresses {
            match self.listen(address, tls) {
                // A machine without IPv6 is served over IPv4.
                Err(error) if !(address.is_ipv6() && error.kind() == io::ErrorKind::AddrNotAvailable) => {
                    trouble.push(format!("{address}: {error}"));
                }
                _ => {}
            }
        }
        if trouble != self.trouble {
            trouble.iter().for_each(|line| eprintln!("klar core: cannot listen at {line}"));
            self.trouble = trouble;
        }
    }

    /// Sends a configuration; the folders of its static routes travel along.
    ///
    /// # Errors
    /// When the edge is gone; it gets the newest configuration when it is back.
    pub fn publish(&self, config: EdgeConfig, folders: &[OwnedFd]) -> io::Result<()> {
        let Some(stream) = &self.stream else { return Ok(()) };
        wire::send(stream, &ToEdge::Config(Box::new(config)), &wire::borrow(folders))
    }

    /// Tells the edge to forget answers of an app; `number` comes back.
    ///
    /// # Errors
    /// When the edge is gone, and its cache with it.
    pub fn purge(&self, number: u64, app: AppKey, what: Purge) -> io::Result<()> {
        let stream = self.stream.as_ref().ok_or(io::ErrorKind::NotConnected)?;
        wire::send(stream, &ToEdge::Purge { number, app, what }, &[])
    }

    /// Asks the edge something. The answer never comes when the edge ends meanwhile.
    ///
    /// # Errors
    /// When the edge is gone, is of an older klar that takes no questions, or too many wait for an answer already.
    pub fn ask(&mut self, question: Question) -> io::Result<oneshot::Receiver<Told>> {
        let stream = self.stream.as_ref().ok_or(io::ErrorKind::NotConnected)?;
        if !self.answers {
            return Err(io::Error::new(
                io::ErrorKind::Unsupported,
                "it is of an older klar, which tells nothing",
            ));
        }
        self.questions += 1;
        let (asked, answer) = oneshot::channel();
        {
            let mut waiting = lock(&self.waiting);
            waiting.retain(|_, asked| !asked.is_closed());
            if waiting.len() >= QUESTIONS_MAX {
                return Err(io::Error::new(io::ErrorKind::ResourceBusy, "too many ask it at once"));
            }
            waiting.insert(self.questions, asked);
        }
        wire::send(stream, &ToEdge::Ask { number: self.questions, question }, &[])?;
        Ok(answer)
    }

    /// Tells the edge to finish and end.
    pub fn stop(&self, patience: Duration) {
        if let Some(stream) = &self.stream {
            // Gone already is what was wanted.
            let _ = wire::send(stream, &ToEdge::Stop { patience }, &[]);
        }
    }

    /// Notes that the connection numbered `connection` is gone; `true` when that was the one in use.
    pub fn lost(&mut self, connection: u64) -> bool {
        if connection != self.connection {
            return false;
        }
        self.stream = None;
        self.state.send_modify(|state| state.pid = None);
        true
    }
}

fn probe_free(address: SocketAddr) -> io::Result<()> {
    use socket2::{Domain, Protocol, Socket, Type};
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    match socket.bind(&address.into()) {
        // The spawner will try with its own rights.
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(()),
        other => other,
    }
}

fn note(state: &watch::Sender<EdgeState>, message: &FromEdge) {
    match message {
        FromEdge::Applied { generation } => state.send_modify(|state| state.applied = *generation),
        FromEdge::Rejected { generation, reason } => {
            state.send_modify(|state| state.rejected = Some((*generation, reason.clone())));
        }
        FromEdge::Vitals(vitals) => state.send_modify(|state| state.vitals = vitals.clone()),
        FromEdge::Records { dropped, .. } => state.send_modify(|state| state.records_dropped = *dropped),
        FromEdge::Purged { number, dropped } => {
            state.send_modify(|state| {
                state.purged.insert(*number, *dropped);
                if state.purged.len() > PURGES {
                    state.purged.pop_first();
                }
            });
        }
        // Answers go to those who asked.
        FromEdge::Hello { .. } | FromEdge::Answered { .. } => {}
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The kind of answer that a bind gave, for an error that says what to do.
pub async fn port_owner(spawner: &Spawner, port: u16) -> Option<String> {
    match spawner.ask(Request::PortOwner { port }, Vec::new()).await {
        Ok((Answer::Owner { owner }, _)) => owner,
        _ => None,
    }
}
