//! The core's link to the edge: one edge for the host, found again after a restart, started again when it dies, and
//! replaced by another one without closing anything.
//!
//! The listening sockets are bound once. Both sides hold them, so either may die without one being closed.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use klar_base::Secret;
use klar_base::datagrams::{self, DatagramSpec};
use klar_base::look::{Question, Told};
use klar_base::upstreams::{Datagrams, EdgeConfig, FromEdge, ListenerSpec, PROTOCOL, Purge, ToEdge};
use klar_base::{AppKey, wire};
use tokio::sync::{mpsc, oneshot, watch};

use super::edge_state::{EdgeState, Other};
use crate::layout::Layout;
use crate::spawn::{self, Answer, Request, Spawn, Spawner, users::Identity};

/// How long an edge may live after another one has taken over, for the sake of its connections.
pub const DRAIN: Duration = Duration::from_secs(3600);
/// Questions that may wait for their answer at once.
const QUESTIONS_MAX: usize = 64;

/// Those who wait for an answer of the edge, by the number of their question. Whoever is gone from here will get none.
type Waiting = Arc<Mutex<BTreeMap<u64, oneshot::Sender<Told>>>>;

/// An edge that this core talks to.
struct Peer {
    /// Counts connections, so that the end of an old one is not taken for the end of this one.
    number: u64,
    stream: Arc<UnixStream>,
    /// Where the next core finds it.
    socket: PathBuf,
    protocol: u32,
    program: String,
    pid: u32,
    draining: bool,
    /// It understands questions; one of an older klar does not.
    answers: bool,
    /// It understands questions about requests that it stopped, and [`ToEdge::TakesLines`].
    replays: bool,
    /// It understands that rules are to be tried.
    tries: bool,
    /// It understands sockets for datagrams; one of an older klar would not.
    takes_datagrams: bool,
    /// The lane that it serves, or will.
    lane: u16,
    waiting: Waiting,
}

impl Peer {
    fn say(&self, message: &ToEdge) -> io::Result<()> {
        wire::send(&self.stream, message, &[])
    }

    /// Whether it can be told what to serve.
    fn is_ours(&self) -> bool {
        self.protocol == PROTOCOL
    }

    fn drain(&mut self, patience: Duration) {
        self.draining = true;
        let message = if self.is_ours() { ToEdge::Drain { patience } } else { ToEdge::Stop { patience } };
        // Gone already is what was wanted.
        let _ = self.say(&message);
    }
}

/// The link.
pub struct EdgeLink {
    layout: Layout,
    spawner: Spawner,
    workers: usize,
    /// The file of the program of this core.
    program: String,
    /// The edge that serves; `None` while there is none.
    serving: Option<Peer>,
    /// The one that is to take over.
    next: Option<Peer>,
    /// Those before.
    draining: Vec<Peer>,
    listeners: BTreeMap<ListenerSpec, OwnedFd>,
    /// Of HTTP/3; they stay with all edges, of which each serves its lane.
    rows: BTreeMap<DatagramSpec, OwnedFd>,
    /// See [`Datagrams::secret`].
    secret: Option<Secret<String>>,
    /// That of the edge that serves, or served last.
    lane: u16,
    state: watch::Sender<EdgeState>,
    /// Everything that the edge says, and `None` when the connection is gone.
    messages: mpsc::UnboundedSender<(u64, Option<FromEdge>)>,
    /// Connections so far.
    connections: u64,
    /// Questions so far.
    questions: u64,
    /// What it was last told.
    published: Option<super::publish::Published>,
    /// Where it could not listen when it last tried.
    trouble: Vec<String>,
    /// When it was last started, so that one that dies at once is not started in a circle.
    started: Option<Instant>,
}

impl std::fmt::Debug for EdgeLink {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EdgeLink").field("connected", &self.serving.is_some()).finish_non_exhaustive()
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
            program: crate::programs::own_id(),
            serving: None,
            next: None,
            draining: Vec::new(),
            listeners: BTreeMap::new(),
            rows: BTreeMap::new(),
            secret: None,
            lane: 0,
            state,
            messages,
            connections: 0,
            questions: 0,
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
        self.serving.is_some()
    }

    /// Whether no edge is left, not even one that drains.
    pub fn is_alone(&self) -> bool {
        self.serving.is_none() && self.next.is_none() && self.draining.is_empty()
    }

    /// Whether the edge that serves runs from another program than this core.
    pub fn is_outdated(&self) -> bool {
        let other = |peer: &Peer| peer.program != self.program || !peer.is_ours();
        !self.program.is_empty() && self.serving.as_ref().is_some_and(other)
    }

    /// The sockets that are handed over.
    pub fn listener_count(&self) -> usize {
        self.listeners.len()
    }

    /// Where it listens.
    pub fn listens(&self) -> Vec<String> {
        let mut all: Vec<String> = self
            .listeners
            .keys()
            .filter(|spec| spec.worker == 0)
            .map(|spec| format!("{} {}", if spec.tls { "https" } else { "http" }, spec.address))
            .collect();
        let rows = self.rows.keys().filter(|spec| spec.slot == 0);
        all.extend(rows.map(|spec| format!("http3 {}", spec.address)));
        all.dedup();
        all
    }

    /// Where it should listen and cannot, with the reason.
    pub fn cannot_listen(&self) -> &[String] {
        &self.trouble
    }

    /// Connects to the edges that run, if any do, and says whether one serves. Those beside it are told to drain:
    /// the core before this one may have been killed in the middle of a takeover.
    ///
    /// # Errors
    /// When an edge runs and does not answer.
    pub fn adopt(&mut self) -> io::Result<bool> {
        let mut trouble = None;
        for path in self.layout.edge_sockets() {
            if self.peers().any(|peer| peer.socket == path) {
                continue;
            }
            let Ok(stream) = UnixStream::connect(&path) else {
                // Nobody will ever answer there again.
                let _ = std::fs::remove_file(&path);
                continue;
            };
            match self.greet(stream, &path) {
                // One that never got as far as to serve is not taken for one that does.
                Ok((peer, hello)) if self.serving.is_none() && !hello.draining && hello.serves => {
                    self.serve_with(peer, hello)?;
                }
                Ok((mut peer, hello)) => {
                    let draining = Other { draining: Some(Instant::now()), ..hello.into_other(&peer) };
                    self.state.send_modify(|state| drop(state.others.insert(peer.number, draining)));
                    self.listen_to(&peer)?;
                    peer.drain(DRAIN);
                    self.put_aside(peer);
                }
                Err(error) => trouble = Some(error),
            }
        }
        if let Some(serving) = &mut self.serving {
            move_socket(&mut serving.socket, self.layout.edge_socket());
        }
        match trouble {
            Some(error) if self.serving.is_none() => Err(error),
            _ => Ok(self.serving.is_some()),
        }
    }

    /// The processes of all edges.
    pub fn processes(&self) -> Vec<u32> {
        self.peers().map(|peer| peer.pid).collect()
    }

    fn peers(&self) -> impl Iterator<Item = &Peer> {
        self.serving.iter().chain(&self.next).chain(&self.draining)
    }

    /// One that drains, at a socket of its own: the usual ones are for those who serve.
    fn put_aside(&mut self, mut peer: Peer) {
        let aside = self.layout.edge_socket_aside(peer.pid);
        move_socket(&mut peer.socket, aside);
        self.draining.push(peer);
    }

    /// Starts an edge and hands it the listeners that there are.
    ///
    /// # Errors
    /// When it cannot be started, or does not answer.
    pub fn start(&mut self) -> io::Result<()> {
        self.started = Some(Instant::now());
        let (peer, hello) = self.spawn(&self.layout.edge_socket())?;
        self.state.send_modify(|state| state.starts += 1);
        self.serve_with(peer, hello)
    }

    fn spawn(&mut self, path: &Path) -> io::Result<(Peer, Hello)> {
        match std::fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let control = UnixListener::bind(path)?;
        let mut args = vec![
            "edge".into(),
            "--core-uid".into(),
            nix::unistd::geteuid().to_string(),
            "--static-root".into(),
            self.layout.apps().to_string_lossy().into_owned(),
        ];
        let cache = self.layout.cache();
        let (owner, group) = (Identity::Edge, Identity::Edge);
        let folder = Request::Folder { path: cache.clone(), owner, group, mode: 0o700 };
        match self.spawner.ask_blocking(folder, &[]) {
            Ok(_) => args.extend(["--cache-folder".into(), cache.to_string_lossy().into_owned()]),
            // A smaller cache is better than no edge.
            Err(error) => eprintln!("klar core: the edge keeps nothing on disk: {error}"),
        }
        let spawn = Spawn { args, identity: Identity::Edge, limits: None, private_tmp: None };
        self.spawner.ask_blocking(Request::Spawn(spawn), &[control.as_fd()])?;
        // The edge alone holds its socket: when it dies, whoever waits for its answer is told.
        drop(control);
        self.greet(UnixStream::connect(path)?, path)
    }

    /// Reads the greeting.
    fn greet(&mut self, stream: UnixStream, path: &Path) -> io::Result<(Peer, Hello)> {
        const PATIENCE: Duration = Duration::from_secs(5);
        stream.set_read_timeout(Some(PATIENCE))?;
        let greeting = wire::receive::<FromEdge>(&stream)?;
        let Some((
            FromEdge::Hello {
                pid,
                version,
                generation,
                listeners,
                sandbox,
                protocol,
                program,
                draining,
                answers,
                replays,
                tries,
                datagrams,
            },
            sockets,
        )) = greeting
        else {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "the edge did not greet"));
        };
        let mut lane = None;
        for _ in 0..datagrams.unwrap_or_default() {
            let Some((FromEdge::Datagrams(row), sockets)) = wire::receive::<FromEdge>(&stream)? else {
                let what = "the edge did not hand over its sockets of HTTP/3";
                return Err(io::Error::new(io::ErrorKind::InvalidData, what));
            };
            lane = Some(row.lane);
            self.secret.get_or_insert(row.secret);
            for (spec, socket) in row.sockets.into_iter().zip(sockets) {
                self.rows.entry(spec).or_insert(socket);
            }
        }
        stream.set_read_timeout(None)?;
        stream.set_write_timeout(Some(PATIENCE))?;
        let serves = generation > 0 && !listeners.is_empty();
        for (spec, socket) in listeners.into_iter().zip(sockets) {
            self.listeners.entry(spec).or_insert(socket);
        }
        self.connections += 1;
        let peer = Peer {
            number: self.connections,
            stream: Arc::new(stream),
            socket: path.to_owned(),
            protocol,
            program,
            pid,
            draining,
            answers,
            replays,
            tries,
            takes_datagrams: datagrams.is_some(),
            // One that dies leaves its lane to the next, which takes back what it does not know.
            lane: lane.unwrap_or(self.lane),
            waiting: Waiting::default(),
        };
        Ok((peer, Hello { version, generation, sandbox, draining, serves }))
    }

    /// Leaves reading to a thread of its own.
    fn listen_to(&self, peer: &Peer) -> io::Result<()> {
        if peer.replays {
            peer.say(&ToEdge::TakesLines)?;
        }
        let (reader, state) = (peer.stream.clone(), self.state.clone());
        let (messages, connection) = (self.messages.clone(), peer.number);
        let waiting = peer.waiting.clone();
        std::thread::Builder::new().name("edge-link".into()).spawn(move || {
            while let Ok(Some((message, _))) = FromEdge::receive(&reader) {
                if let FromEdge::Answered { number, told } = message {
                    let asked = lock(&waiting).remove(&number);
                    // Whoever asked may have gone away.
                    let _ = asked.map(|asked| asked.send(told));
                    continue;
                }
                state.send_modify(|state| state.note(connection, &message));
                if messages.send((connection, Some(message))).is_err() {
                    return;
                }
            }
            lock(&waiting).clear();
            // Nobody to tell: the core is ending.
            let _ = messages.send((connection, None));
        })?;
        Ok(())
    }

    fn serve_with(&mut self, peer: Peer, hello: Hello) -> io::Result<()> {
        self.state.send_modify(|state| {
            *state = EdgeState {
                pid: Some(peer.pid),
                connection: peer.number,
                version: hello.version,
                sandbox: hello.sandbox,
                applied: hello.generation,
                starts: state.starts,
                others: std::mem::take(&mut state.others),
                past: std::mem::take(&mut state.past),
                ..EdgeState::default()
            };
        });
        self.listen_to(&peer)?;
        self.lane = peer.lane;
        self.serving = Some(peer);
        self.steer();
        self.hand_over()
    }

    fn hand_over(&self) -> io::Result<()> {
        self.serving.as_ref().map_or(Ok(()), |peer| self.hand_over_to(peer))
    }

    fn hand_over_to(&self, peer: &Peer) -> io::Result<()> {
        if let Some(secret) = self.secret.as_ref().filter(|_| peer.takes_datagrams) {
            let rows: Vec<_> = self.rows.iter().collect();
            for row in rows.chunk_by(|(one, _), (next, _)| one.address == next.address) {
                let sockets = row.iter().map(|(spec, _)| (*spec).clone()).collect();
                let message = Datagrams { sockets, lane: peer.lane, secret: secret.clone() };
                let descriptors: Vec<_> = row.iter().map(|(_, socket)| socket.as_fd()).collect();
                wire::send(&peer.stream, &ToEdge::Datagrams(message), &descriptors)?;
            }
        }
        if self.listeners.is_empty() {
            return Ok(());
        }
        let listeners = self.listeners.keys().cloned().collect();
        wire::send(
            &peer.stream,
            &ToEdge::Listen { listeners },
            &wire::borrow(&self.listeners.values().collect::<Vec<_>>()),
        )
    }

    /// Starts an edge beside the one that serves, and gives the number of its connection. It serves nothing yet.
    ///
    /// # Errors
    /// When it cannot be started, or does not answer.
    pub fn start_next(&mut self) -> io::Result<u64> {
        let (mut peer, hello) = self.spawn(&self.layout.edge_socket_next())?;
        peer.lane = (self.lane + 1) % datagrams::LANES;
        let number = peer.number;
        if !peer.is_ours() || peer.program != self.program {
            peer.say(&ToEdge::Stop { patience: Duration::ZERO })?;
            let what = "the edge that was started runs another program than the core";
            return Err(io::Error::new(io::ErrorKind::InvalidData, what));
        }
        let other = Other { configured: true, ..hello.into_other(&peer) };
        self.state.send_modify(|state| drop(state.others.insert(number, other)));
        self.listen_to(&peer)?;
        self.next = Some(peer);
        Ok(number)
    }

    /// Hands the sockets to the next edge as well: from here on both accept.
    ///
    /// # Errors
    /// When it is gone.
    pub fn open_next(&self) -> io::Result<()> {
        let next = self.next.as_ref().ok_or(io::ErrorKind::NotConnected)?;
        self.hand_over_to(next)
    }

    /// The next edge serves from now on, and the one before it drains.
    pub fn promote(&mut self) {
        let Some(mut next) = self.next.take() else { return };
        let number = next.number;
        self.state.send_modify(|state| state.promote(number));
        // The old one goes aside first: at each step a core that starts now finds both.
        if let Some(mut old) = self.serving.take() {
            let configured = old.is_ours();
            self.state.send_modify(|state| {
                if let Some(other) = state.others.get_mut(&old.number) {
                    other.configured = configured;
                }
            });
            let aside = self.layout.edge_socket_aside(old.pid);
            move_socket(&mut old.socket, aside);
            move_socket(&mut next.socket, self.layout.edge_socket());
            old.drain(DRAIN);
            self.draining.push(old);
        } else {
            move_socket(&mut next.socket, self.layout.edge_socket());
        }
        self.lane = next.lane;
        self.serving = Some(next);
        self.steer();
    }

    /// Has what begins at the sockets of HTTP/3 go to the edge that serves.
    fn steer(&self) {
        for (spec, socket) in self.rows.iter().filter(|(spec, _)| spec.slot == 0) {
            if let Err(error) = datagrams::steer(socket, self.lane, spec.workers) {
                eprintln!("klar core: HTTP/3 at {} goes astray: {error}", spec.address);
            }
        }
    }

    /// Gives the next edge up; what it has accepted meanwhile it serves to the end.
    pub fn drop_next(&mut self) {
        if let Some(mut next) = self.next.take() {
            let number = next.number;
            self.state.send_modify(|state| {
                if let Some(other) = state.others.get_mut(&number) {
                    other.draining = Some(Instant::now());
                }
            });
            next.drain(DRAIN);
            self.put_aside(next);
        }
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

    /// Takes datagrams of HTTP/3 at `address` too, when that is not done already.
    ///
    /// # Errors
    /// As [`EdgeLink::listen`]; and when the kernel takes no program that says whose a datagram is.
    pub fn listen_for_datagrams(&mut self, address: SocketAddr) -> io::Result<()> {
        if self.rows.keys().any(|spec| spec.address == address) {
            return Ok(());
        }
        if self.secret.is_none() {
            self.secret = Some(Secret::new(chance()?));
        }
        let workers = u16::try_from(self.workers).unwrap_or(u16::MAX);
        let specs: Vec<_> = DatagramSpec::row(address, workers).collect();
        let count = specs.len() as u16;
        let sockets = match spawn::bind_datagrams(address, count) {
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                let (_, sockets) =
                    self.spawner.ask_blocking(Request::BindDatagrams { address, count }, &[])?;
                sockets
            }
            other => other?,
        };
        let (Some(first), Some(spec)) =
            (sockets.first(), specs.first().filter(|_| sockets.len() == specs.len()))
        else {
            return Err(io::Error::other("the spawner sent too few sockets"));
        };
        datagrams::steer(first, self.lane, spec.workers)?;
        self.rows.extend(specs.into_iter().zip(sockets));
        self.hand_over()
    }

    /// Gives ports back that nobody serves: a visitor is better refused than kept waiting.
    pub fn forget_listeners(&mut self) {
        if !self.is_connected() {
            self.listeners.clear();
            self.rows.clear();
        }
    }

    /// Listens at all of these, as far as it can; what it cannot is tried again the next time.
    pub fn keep_listening(&mut self, addresses: &[(SocketAddr, bool)], datagrams: &[SocketAddr]) {
        let mut trouble = Vec::new();
        for &address in datagrams {
            match self.listen_for_datagrams(address) {
                // As below.
                Err(error) if !(address.is_ipv6() && error.kind() == io::ErrorKind::AddrNotAvailable) => {
                    trouble.push(format!("{address} (UDP): {error}"));
                }
                _ => {}
            }
        }
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

    /// Sends a configuration to every edge that understands it; the folders of its static routes travel along.
    ///
    /// # Errors
    /// When the edge that serves is gone; it gets the newest configuration when it is back.
    pub fn publish(&self, config: EdgeConfig, folders: &[OwnedFd]) -> io::Result<()> {
        let message = ToEdge::Config(Box::new(config));
        for peer in self.next.iter().chain(&self.draining).filter(|peer| peer.is_ours()) {
            // One that cannot be told where requests may go must not be believed to know.
            if wire::send(&peer.stream, &message, &wire::borrow(folders)).is_err() {
                let _ = peer.stream.shutdown(std::net::Shutdown::Both);
            }
        }
        match &self.serving {
            Some(peer) if peer.is_ours() => wire::send(&peer.stream, &message, &wire::borrow(folders)),
            _ => Ok(()),
        }
    }

    /// Tells the edge to forget answers of an app; `number` comes back.
    ///
    /// # Errors
    /// When the edge is gone, and its cache with it.
    pub fn purge(&self, number: u64, app: AppKey, what: Purge) -> io::Result<()> {
        let message = ToEdge::Purge { number, app, what };
        for peer in self.next.iter().chain(&self.draining).filter(|peer| peer.is_ours()) {
            // As in `publish`.
            let _ = peer.say(&message);
        }
        self.serving.as_ref().ok_or(io::ErrorKind::NotConnected)?.say(&message)
    }

    /// Asks the edge that serves something. The answer never comes when the edge ends meanwhile.
    ///
    /// # Errors
    /// When the edge is gone, is of an older klar that takes no questions, or too many wait for an answer already.
    pub fn ask(&mut self, question: Question, files: &[OwnedFd]) -> io::Result<oneshot::Receiver<Told>> {
        let peer = self.serving.as_ref().ok_or(io::ErrorKind::NotConnected)?;
        let understands = match question {
            Question::Replay(_) => peer.replays,
            Question::Try(_) => peer.tries,
            Question::Request(_) | Question::Counts => peer.answers,
        };
        if !understands {
            return Err(io::Error::new(
                io::ErrorKind::Unsupported,
                "it is of an older klar, which tells nothing",
            ));
        }
        self.questions += 1;
        let (asked, answer) = oneshot::channel();
        {
            let mut waiting = lock(&peer.waiting);
            waiting.retain(|_, asked| !asked.is_closed());
            if waiting.len() >= QUESTIONS_MAX {
                return Err(io::Error::new(io::ErrorKind::ResourceBusy, "too many ask it at once"));
            }
            waiting.insert(self.questions, asked);
        }
        let files: Vec<_> = files.iter().map(AsFd::as_fd).collect();
        wire::send(&peer.stream, &ToEdge::Ask { number: self.questions, question }, &files)?;
        Ok(answer)
    }

    /// Hands an edge the socket to a process that converts images, or says that there is none.
    ///
    /// # Errors
    /// When that edge is gone.
    pub fn give_images(&self, connection: u64, socket: Option<&UnixStream>) -> io::Result<()> {
        let peer = self.peers().find(|peer| peer.number == connection).ok_or(io::ErrorKind::NotConnected)?;
        let sockets: Vec<_> = socket.into_iter().map(AsFd::as_fd).collect();
        wire::send(&peer.stream, &ToEdge::Images, &sockets)
    }

    /// Tells all edges to finish and end.
    pub fn stop(&self, patience: Duration) {
        for peer in self.peers() {
            // Gone already is what was wanted.
            let _ = peer.say(&ToEdge::Stop { patience });
        }
    }

    /// Notes that the connection numbered `connection` is gone; `true` when that was to the edge that serves.
    pub fn lost(&mut self, connection: u64) -> bool {
        self.state.send_modify(|state| state.lost(connection));
        if self.serving.as_ref().is_some_and(|peer| peer.number == connection) {
            self.serving = None;
            return true;
        }
        self.next.take_if(|peer| peer.number == connection);
        if let Some(at) = self.draining.iter().position(|peer| peer.number == connection) {
            let gone = self.draining.remove(at);
            // The next core tries, and tidies up, if this one cannot.
            let _ = std::fs::remove_file(gone.socket);
        }
        false
    }
}

/// What an edge has said of itself.
struct Hello {
    version: String,
    generation: u64,
    sandbox: Vec<String>,
    draining: bool,
    /// It has something to serve, and where.
    serves: bool,
}

impl Hello {
    fn into_other(self, peer: &Peer) -> Other {
        Other {
            pid: peer.pid,
            version: self.version,
            sandbox: self.sandbox,
            applied: self.generation,
            configured: peer.is_ours(),
            ..Other::default()
        }
    }
}

/// Moves the socket that an edge listens at: connecting follows the name, and listening does not depend on it.
fn move_socket(from: &mut PathBuf, to: PathBuf) {
    if *from == to {
        return;
    }
    match std::fs::rename(&*from, &to) {
        Ok(()) => *from = to,
        Err(error) => eprintln!("klar core: {}: {error}", from.display()),
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

/// 32 bytes of chance, in hexadecimal.
fn chance() -> io::Result<String> {
    use std::fmt::Write;
    use std::io::Read;
    let mut bytes = [0; 32];
    std::fs::File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(bytes.iter().fold(String::new(), |mut text, byte| {
        // A string takes all that is written.
        let _ = write!(text, "{byte:02x}");
        text
    }))
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

#[cfg(test)]
mod tests;
