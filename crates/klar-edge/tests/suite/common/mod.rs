//! An edge with real sockets: this plays its core, its apps and its visitors.
//!
//! Nothing here may hang: each wait has an end, [`PATIENCE`], that no test means to reach.
#![allow(clippy::unwrap_used, dead_code)]

pub mod http2;
pub mod http3;
pub mod living;

use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, LazyLock, Mutex, Once};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use klar_base::look::Told;
use klar_base::replay::StoppedRequest;
use klar_base::shadow::ShadowedRequest;
use klar_base::signal::{AccessRecord, UpstreamVitals};
use klar_base::upstreams::{
    CacheRules, Certificate, Csp, CspMode, EdgeConfig, FromEdge, Front, Limits, ListenerSpec, Route, Site,
    Target, ToEdge, Upstream, Upstreams, Vitals, WafMode,
};
use klar_base::{Secret, wire};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use rustls_pki_types::{CertificateDer, ServerName};
use socket2::{Domain, Socket, Type};

/// Longer than anything takes, also on a machine that is busy.
pub const PATIENCE: Duration = Duration::from_secs(30);
/// The host of the app that every test has.
pub const HOST: &str = "shop.test";
/// Threads of the edge.
pub const WORKERS: usize = 2;

struct Identity {
    chain: CertificateDer<'static>,
    chain_pem: String,
    key_pem: String,
}

static IDENTITY: LazyLock<Identity> = LazyLock::new(|| {
    let names = ["shop.test", "other.test", "nobody.test", "localhost"].map(String::from);
    let made = rcgen::generate_simple_self_signed(names).unwrap();
    Identity {
        chain: made.cert.der().clone(),
        chain_pem: made.cert.pem(),
        key_pem: made.signing_key.serialize_pem(),
    }
});

// ---------------------------------------------------------------------------------------------------------------
// The core

/// What the edge has said since it was connected to.
#[derive(Debug, Default)]
pub struct Heard {
    pub applied: u64,
    pub rejected: Vec<(u64, String)>,
    pub vitals: Vec<Vitals>,
    pub records: Vec<AccessRecord>,
    /// Listeners that are served.
    pub listening: usize,
    /// By the number of the request.
    pub purged: Vec<(u64, u64)>,
    /// By the number of the question.
    pub told: Vec<(u64, Told)>,
    /// What the firewall stopped.
    pub stopped: Vec<StoppedRequest>,
    /// What stricter rules say.
    pub shadowed: Vec<ShadowedRequest>,
    /// How often a process was asked for that converts images.
    pub wants_images: usize,
}

type Ears = Arc<(Mutex<Heard>, Condvar)>;
/// Makes the socket to a process that converts images, if there is to be one.
pub type ImageStarter = Box<dyn Fn() -> Option<OwnedFd> + Send>;

/// A connection of a core to the edge.
pub struct Core {
    stream: Arc<UnixStream>,
    ears: Ears,
    /// What an edge gets that asks for such a process.
    pub images: Arc<Mutex<Option<ImageStarter>>>,
    /// From `Hello`.
    pub pid: u32,
    /// From `Hello`.
    pub generation: u64,
    /// From `Hello`.
    pub draining: bool,
    /// From `Hello`, with what came along.
    pub listeners: Vec<(ListenerSpec, OwnedFd)>,
}

impl Core {
    pub fn connect(path: &Path) -> Self {
        let core = Self::over(UnixStream::connect(path).unwrap());
        assert_eq!(core.pid, std::process::id());
        core
    }

    /// Over a connection to any edge.
    pub fn over(stream: UnixStream) -> Self {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let (hello, descriptors) = wire::receive::<FromEdge>(&stream).unwrap().unwrap();
        let FromEdge::Hello { generation, listeners, pid, draining, .. } = hello else {
            panic!("{hello:?} for a hello")
        };
        assert_eq!(listeners.len(), descriptors.len(), "one descriptor for each listener");
        stream.set_read_timeout(None).unwrap();
        wire::send(&stream, &ToEdge::TakesLines, &[]).unwrap();
        let stream = Arc::new(stream);
        let ears = Ears::default();
        let (reader, heard) = (stream.clone(), ears.clone());
        let images = Arc::<Mutex<Option<ImageStarter>>>::default();
        let starter = images.clone();
        let ears_thread = thread::Builder::new().name("ears".into());
        let reading = ears_thread.spawn(move || {
            while let Ok(Some((message, _))) = FromEdge::receive(&reader) {
                let mut ears = heard.0.lock().unwrap();
                match message {
                    FromEdge::Applied { generation } => ears.applied = generation,
                    FromEdge::Rejected { generation, reason } => ears.rejected.push((generation, reason)),
                    FromEdge::Vitals(vitals) => ears.vitals.push(vitals),
                    FromEdge::Records { records, dropped } => {
                        assert_eq!(dropped, 0);
                        ears.records.extend(records);
                    }
                    FromEdge::Purged { number, dropped } => ears.purged.push((number, dropped)),
                    FromEdge::Answered { number, told } => ears.told.push((number, told)),
                    FromEdge::Listening { count, failed } => {
                        assert_eq!(failed, Vec::<String>::new());
                        ears.listening = count;
                    }
                    FromEdge::WantsImages => {
                        ears.wants_images += 1;
                        let socket = starter.lock().unwrap().as_ref().and_then(|start| start());
                        let sockets: Vec<OwnedFd> = socket.into_iter().collect();
                        // An edge that was killed meanwhile needs none.
                        let _ = wire::send(&reader, &ToEdge::Images, &wire::borrow(&sockets));
                    }
                    FromEdge::Lines(lines) => {
                        assert_eq!(lines.dropped, 0);
                        let read = lines.iter().map(|(_, json)| serde_json::from_slice(json).unwrap());
                        ears.records.extend(read);
                    }
                    FromEdge::Stopped { requests } => ears.stopped.extend(requests),
                    FromEdge::Shadowed { requests } => ears.shadowed.extend(requests),
                    FromEdge::Unknown => panic!("a message that nobody knows"),
                    FromEdge::Datagrams(_) => {}
                    FromEdge::Hello { .. } => panic!("a second hello"),
                }
                heard.1.notify_all();
            }
        });
        reading.unwrap();
        Self {
            stream,
            ears,
            images,
            pid,
            generation,
            draining,
            listeners: listeners.into_iter().zip(descriptors).collect(),
        }
    }

    pub fn send(&self, message: &ToEdge, folders: &[OwnedFd]) {
        wire::send(&self.stream, message, &wire::borrow(folders)).unwrap();
    }

    /// Waits until `look` finds in what was heard what it looks for.
    pub fn wait<T>(&self, what: &str, look: impl Fn(&Heard) -> Option<T>) -> T {
        let end = Instant::now() + PATIENCE;
        let mut heard = self.ears.0.lock().unwrap();
        loop {
            if let Some(found) = look(&heard) {
                return found;
            }
            let left = end.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "waited in vain for {what}; heard {heard:#?}");
            heard = self.ears.1.wait_timeout(heard, left).unwrap().0;
        }
    }

    /// Forgets what was said up to now.
    pub fn forget_vitals(&self) {
        self.ears.0.lock().unwrap().vitals.clear();
    }
}

impl Drop for Core {
    fn drop(&mut self) {
        // The edge may have hung up first.
        let _ = self.stream.shutdown(std::net::Shutdown::Both);
    }
}

// ---------------------------------------------------------------------------------------------------------------
// The edge

/// A thread that is not the test's own has panicked: of the edge, where nobody else would notice, or of its core.
static PANICKED: AtomicBool = AtomicBool::new(false);

fn watch_for_panics() {
    static WATCH: Once = Once::new();
    WATCH.call_once(|| {
        let tell = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            let name = thread::current().name().unwrap_or_default().to_owned();
            let ours = ["control", "report", "ears"].contains(&name.as_str())
                || name.starts_with("edge-")
                || name.starts_with("disk-");
            PANICKED.fetch_or(ours, Ordering::SeqCst);
            tell(info);
        }));
    });
}

/// A running edge with its core.
pub struct Edge {
    /// `None` while the core is gone.
    pub core: Option<Core>,
    pub control: PathBuf,
    /// What the next [`Edge::apply`] sends.
    pub config: EdgeConfig,
    /// Travel with the configuration.
    pub folders: Vec<OwnedFd>,
    pub https: SocketAddr,
    pub http: SocketAddr,
    thread: JoinHandle<()>,
    folder: Folder,
}

impl Edge {
    /// Starts one that serves [`HOST`], with a route for everything to the service `web`, which has no instance.
    pub fn start() -> Self {
        let (mut listeners, mut sockets) = (Vec::new(), Vec::new());
        let mut bind = |tls| {
            let mut address = SocketAddr::from(([127, 0, 0, 1], 0));
            for worker in 0..WORKERS {
                let socket = listen(address);
                address = socket.local_addr().unwrap();
                listeners.push(ListenerSpec { address, tls, worker });
                sockets.push(OwnedFd::from(socket));
            }
            address
        };
        let (https, http) = (bind(true), bind(false));
        let edge = Self::launch(config(https.port()), https, http);
        edge.core().send(&ToEdge::Listen { listeners }, &sockets);
        edge
    }

    /// A second one that is to serve the same as `other`. It has no sockets yet, and no configuration.
    pub fn beside(other: &Self) -> Self {
        Self::launch(other.config.clone(), other.https, other.http)
    }

    fn launch(config: EdgeConfig, https: SocketAddr, http: SocketAddr) -> Self {
        watch_for_panics();
        let folder = Folder::new();
        let control = folder.path("control");
        let listener = UnixListener::bind(&control).unwrap();
        let options = klar_edge::Options {
            core_uid: nix::unistd::getuid().as_raw(),
            cache_folder: None,
            static_roots: vec![],
            workers: Some(WORKERS),
            program: String::new(),
            sandbox: false,
        };
        let thread = thread::spawn(move || klar_edge::run(listener.into(), options).unwrap());
        let core = Core::connect(&control);
        assert_eq!((core.generation, core.listeners.len()), (0, 0), "nothing is served yet");
        Self { core: Some(core), control, config, folders: Vec::new(), https, http, thread, folder }
    }

    /// Gives `next` the sockets of this one, and waits until it serves them.
    pub fn share_sockets(&mut self, next: &Self) {
        self.core = None;
        let mut core = Core::connect(&self.control);
        let (listeners, sockets): (Vec<_>, Vec<OwnedFd>) = core.listeners.drain(..).unzip();
        self.core = Some(core);
        next.core().send(&ToEdge::Listen { listeners }, &sockets);
        next.core().wait("the next edge to listen", |heard| (heard.listening == 2 * WORKERS).then_some(()));
    }

    /// An edge that serves `apps` as the instances of `web`, numbered from 1, with what `change` says.
    pub fn with(apps: &[&App], change: impl FnOnce(&mut Self)) -> Self {
        let mut edge = Self::start();
        let upstreams = (1..).zip(apps).map(|(number, app)| upstream(number, app.address)).collect();
        edge.web().upstreams = upstreams;
        change(&mut edge);
        edge.apply();
        edge
    }

    pub fn core(&self) -> &Core {
        self.core.as_ref().unwrap()
    }

    pub fn site(&mut self) -> &mut Site {
        &mut self.config.sites[0]
    }

    pub fn limits(&mut self) -> &mut Limits {
        &mut self.site().limits
    }

    pub fn web(&mut self) -> &mut Upstreams {
        self.site().services.get_mut(&"web".parse().unwrap()).unwrap()
    }

    /// Puts [`Edge::config`] in force and waits until it is.
    pub fn apply(&mut self) {
        self.config.generation += 1;
        let wanted = self.config.generation;
        self.core().send(&ToEdge::Config(Box::new(self.config.clone())), &self.folders);
        self.core().wait("the configuration to be applied", |heard| {
            assert_eq!(heard.rejected, []);
            (heard.applied == wanted).then_some(())
        });
    }

    pub fn visitor(&self) -> Visitor {
        Visitor::tls(self.https, HOST)
    }

    pub fn plain_visitor(&self) -> Visitor {
        Visitor::plain(self.http)
    }

    /// Whether it runs no more.
    pub fn has_ended(&self) -> bool {
        self.thread.is_finished()
    }

    /// Waits until it runs no more.
    pub fn wait_end(&self) {
        let end = Instant::now() + PATIENCE;
        while !self.has_ended() {
            assert!(Instant::now() < end, "waited in vain for the end of the edge");
            thread::sleep(Duration::from_millis(2));
        }
    }

    /// `GET path` on a connection of its own.
    pub fn get(&self, path: &str) -> Answer {
        self.ask(&format!("GET {path} HTTP/1.1\r\nhost: {HOST}\r\n\r\n"))
    }

    /// Sends `request` on a connection of its own.
    pub fn ask(&self, request: &str) -> Answer {
        let mut visitor = self.visitor();
        visitor.send(request);
        visitor.answer_to(request)
    }

    /// The record of the request that was answered with `answer`.
    pub fn record(&self, answer: &Answer) -> AccessRecord {
        let id = answer.header("x-request-id").unwrap();
        self.core().wait("a record", |heard| {
            let mut found = heard.records.iter().filter(|record| record.request_id == id);
            let record = found.next().cloned();
            assert!(found.next().is_none(), "two records of one request");
            record
        })
    }

    /// Waits until the edge says of instance `number` of `web` what `look` looks for. `None`: it is not mentioned.
    pub fn wait_vitals(&self, number: u64, what: &str, look: impl Fn(Option<&UpstreamVitals>) -> bool) {
        self.core().forget_vitals();
        let generation = self.config.generation;
        self.core().wait(what, |heard| {
            heard.vitals.iter().find_map(|vitals| {
                let one = vitals.upstreams.iter().find(|upstream| upstream.id.number == number);
                (vitals.generation == generation && look(one)).then_some(())
            })
        });
    }
}

impl Drop for Edge {
    fn drop(&mut self) {
        if let Some(core) = &self.core {
            // A test that ended the edge itself has nothing to stop.
            let _ = wire::send(&core.stream, &ToEdge::Stop { patience: Duration::ZERO }, &[]);
        }
        assert!(thread::panicking() || !PANICKED.load(Ordering::SeqCst), "an edge has panicked");
    }
}

pub fn listen(address: SocketAddr) -> TcpListener {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.set_reuse_port(true).unwrap();
    socket.bind(&address.into()).unwrap();
    socket.listen(128).unwrap();
    socket.into()
}

pub fn upstream(number: u64, address: SocketAddr) -> Upstream {
    let id = format!("shop.prod.web.{number}").parse().unwrap();
    Upstream { id, address, weight: 1, release: "0123456789ab".parse().unwrap() }
}

pub fn route(pattern: &str) -> Route {
    Route {
        pattern: pattern.into(),
        target: Target::Service { service: "web".parse().unwrap() },
        idempotent: false,
        cross_site: false,
        timeout: None,
        body_bytes: None,
        cache: CacheRules::default(),
        client_authorities: None,
        waf: WafMode::Off,
        images: None,
    }
}

pub fn config(https_port: u16) -> EdgeConfig {
    let site = Site {
        app: "shop.prod".parse().unwrap(),
        hosts: vec![HOST.into()],
        routes: vec![route("/*")],
        services: BTreeMap::from([("web".parse().unwrap(), Upstreams::default())]),
        limits: Limits {
            header_bytes: 16 << 10,
            body_bytes: 1 << 20,
            header_timeout: PATIENCE,
            timeout: PATIENCE,
            stall_timeout: PATIENCE,
            idle_timeout: PATIENCE,
        },
        csp: Csp { mode: CspMode::Report, policy: "default-src 'self'".into() },
        front: Front::default(),
        http3: false,
        waf: None,
    };
    let certificate = Certificate {
        hosts: vec![HOST.into(), "other.test".into()],
        chain_pem: IDENTITY.chain_pem.clone(),
        key_pem: Secret::new(IDENTITY.key_pem.clone()),
    };
    EdgeConfig {
        generation: 0,
        https_port,
        certificates: vec![certificate],
        sites: vec![site],
        challenges: Vec::new(),
        connections_max: 1000,
        cache_bytes: 1 << 20,
        proxy_protocol: Vec::new(),
        check_key: None,
        cache_disk_bytes: 0,
    }
}

/// A folder that goes away with this.
pub struct Folder(PathBuf);

impl Folder {
    pub fn new() -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("klar-edge-{}-{count}", std::process::id()));
        // Process ids come back; one that was killed leaves its folder.
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir(&path).unwrap();
        Self(path)
    }

    pub fn path(&self, below: &str) -> PathBuf {
        self.0.join(below)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // What is left of it is left to the system.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

// ---------------------------------------------------------------------------------------------------------------
// Apps

/// A request as an app got it.
#[derive(Debug, Clone)]
pub struct Got {
    /// The method and the target.
    pub line: String,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Got {
    pub fn header(&self, name: &str) -> Option<&str> {
        header(&self.headers, name)
    }
}

/// What an app does with a connection after a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Then {
    Keep,
    Close,
}

type Script = dyn Fn(&Got, &mut TcpStream) -> Then + Send + Sync;

/// An instance: a server that follows a script, and remembers what it got.
pub struct App {
    pub address: SocketAddr,
    got: Arc<Mutex<Vec<Got>>>,
    stop: Arc<AtomicBool>,
    failed: Arc<AtomicBool>,
}

/// Notes a script that panics: its thread is nobody's to join.
struct Watch(Arc<AtomicBool>);

impl Drop for Watch {
    fn drop(&mut self) {
        self.0.fetch_or(thread::panicking(), Ordering::SeqCst);
    }
}

impl App {
    pub fn start(script: impl Fn(&Got, &mut TcpStream) -> Then + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (got, stop) = (Arc::<Mutex<Vec<Got>>>::default(), Arc::new(AtomicBool::new(false)));
        let (seen, stopped, script) =
            (got.clone(), stop.clone(), Arc::<Script>::from(Box::new(script) as Box<Script>));
        let failed = Arc::new(AtomicBool::new(false));
        let watched = failed.clone();
        thread::spawn(move || {
            for stream in listener.incoming() {
                if stopped.load(Ordering::SeqCst) {
                    return;
                }
                let (mut stream, seen, script) = (stream.unwrap(), seen.clone(), script.clone());
                let watch = Watch(watched.clone());
                thread::spawn(move || {
                    let _watch = watch;
                    stream.set_read_timeout(Some(PATIENCE)).unwrap();
                    stream.set_nodelay(true).unwrap();
                    let mut reader = BufReader::new(stream.try_clone().unwrap());
                    // A request that breaks off was not got.
                    while let Ok(Some(request)) = read_request(&mut reader) {
                        seen.lock().unwrap().push(request.clone());
                        if script(&request, &mut stream) == Then::Close {
                            return;
                        }
                    }
                });
            }
        });
        Self { address, got, stop, failed }
    }

    /// Answers 200 with `name`, and the method and the target it got.
    pub fn named(name: &'static str) -> Self {
        Self::start(move |got, stream| reply(stream, "200 OK", "", &format!("{name}: {}", got.line)))
    }

    /// Reads requests and closes the connection.
    pub fn closing() -> Self {
        Self::start(|_, _| Then::Close)
    }

    /// An address where nobody listens, and nobody else will.
    pub fn nobody() -> SocketAddr {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
        let address = socket.local_addr().unwrap().as_socket().unwrap();
        std::mem::forget(socket);
        address
    }

    pub fn got(&self) -> Vec<Got> {
        self.got.lock().unwrap().clone()
    }

    /// The methods and targets it got.
    pub fn lines(&self) -> Vec<String> {
        self.got().into_iter().map(|got| got.line).collect()
    }

    /// Waits until it got so many requests.
    pub fn wait_got(&self, count: usize) {
        let end = Instant::now() + PATIENCE;
        while self.got.lock().unwrap().len() < count {
            assert!(Instant::now() < end, "waited in vain for {count} requests, got {:?}", self.lines());
            thread::sleep(Duration::from_millis(2));
        }
    }
}

impl Drop for App {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        // Wakes it up; it may be gone already.
        let _ = TcpStream::connect(self.address);
        let failed = self.failed.load(Ordering::SeqCst);
        assert!(thread::panicking() || !failed, "a script of an app has panicked");
    }
}

/// Sends a whole answer. `headers`: lines, each with its CR LF.
pub fn reply(stream: &mut TcpStream, status: &str, headers: &str, body: &str) -> Then {
    let answer = format!("HTTP/1.1 {status}\r\n{headers}content-length: {}\r\n\r\n{body}", body.len());
    if stream.write_all(answer.as_bytes()).is_ok() { Then::Keep } else { Then::Close }
}

/// A gate that scripts wait at, and the test opens.
#[derive(Clone, Default)]
pub struct Gate(Arc<(Mutex<bool>, Condvar)>);

impl Gate {
    pub fn open(&self) {
        *self.0.0.lock().unwrap() = true;
        self.0.1.notify_all();
    }

    pub fn pass(&self) {
        let open = self.0.0.lock().unwrap();
        let (open, _) = self.0.1.wait_timeout_while(open, PATIENCE, |open| !*open).unwrap();
        assert!(*open, "the gate was never opened");
    }
}

fn read_request(reader: &mut BufReader<TcpStream>) -> io::Result<Option<Got>> {
    let mut line = String::new();
    if reader.read_line(&mut line)? == 0 {
        return Ok(None);
    }
    let line = line.trim_end().trim_end_matches(" HTTP/1.1").to_owned();
    let headers = read_headers(reader)?;
    let body = read_body(reader, &headers, false)?;
    Ok(Some(Got { line, headers, body }))
}

// ---------------------------------------------------------------------------------------------------------------
// Visitors

/// An answer as a visitor got it.
#[derive(Debug, Clone)]
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<&str> {
        header(&self.headers, name)
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

trait Line: Read + Write + Send {}
impl<T: Read + Write + Send> Line for T {}

/// A connection of a visitor.
pub struct Visitor {
    stream: BufReader<Box<dyn Line>>,
    tcp: TcpStream,
}

impl Visitor {
    pub fn plain(address: SocketAddr) -> Self {
        let tcp = dial(address);
        let stream: Box<dyn Line> = Box::new(tcp.try_clone().unwrap());
        Self { stream: BufReader::new(stream), tcp }
    }

    pub fn tls(address: SocketAddr, name: &str) -> Self {
        static CONFIG: LazyLock<Arc<ClientConfig>> = LazyLock::new(|| Arc::new(client_config(&[])));
        Self::with_config(address, name, CONFIG.clone())
    }

    /// One that asks for these protocols (ALPN).
    pub fn offering(address: SocketAddr, name: &str, protocols: &[&str]) -> Self {
        Self::with_config(address, name, Arc::new(client_config(protocols)))
    }

    /// One that says `preface` before the handshake begins.
    pub fn tls_after(address: SocketAddr, name: &str, preface: &[u8]) -> Self {
        let mut tcp = dial(address);
        tcp.write_all(preface).unwrap();
        Self::over(tcp, name, Arc::new(client_config(&[])))
    }

    /// One that comes from another address of this machine: `127.0.0.0/8` is all its own.
    pub fn plain_from(address: SocketAddr, from: [u8; 4]) -> Self {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.bind(&SocketAddr::from((from, 0)).into()).unwrap();
        socket.connect(&address.into()).unwrap();
        let tcp = patient(socket.into());
        let stream: Box<dyn Line> = Box::new(tcp.try_clone().unwrap());
        Self { stream: BufReader::new(stream), tcp }
    }

    pub fn with_config(address: SocketAddr, name: &str, config: Arc<ClientConfig>) -> Self {
        Self::over(dial(address), name, config)
    }

    fn over(tcp: TcpStream, name: &str, config: Arc<ClientConfig>) -> Self {
        let name = ServerName::try_from(name.to_owned()).unwrap();
        let session = ClientConnection::new(config, name).unwrap();
        let stream: Box<dyn Line> = Box::new(StreamOwned::new(session, tcp.try_clone().unwrap()));
        Self { stream: BufReader::new(stream), tcp }
    }

    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.try_send(bytes).unwrap();
    }

    /// For those that the edge may hang up on.
    pub fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        self.stream.get_mut().write_all(bytes.as_ref())?;
        self.stream.get_mut().flush()
    }

    /// The next answer.
    pub fn answer(&mut self) -> Answer {
        self.answer_to("GET")
    }

    /// The next answer, which is to `request`: only its method matters.
    pub fn answer_to(&mut self, request: &str) -> Answer {
        self.try_answer(request).unwrap()
    }

    /// The next answer, or how the connection ended instead.
    pub fn try_answer(&mut self, request: &str) -> io::Result<Answer> {
        let (status, headers) = loop {
            let mut line = String::new();
            if self.stream.read_line(&mut line)? == 0 {
                return Err(ErrorKind::UnexpectedEof.into());
            }
            let status = line.split(' ').nth(1).and_then(|status| status.parse().ok());
            let status: u16 = status.unwrap_or_else(|| panic!("{line:?} for a status line"));
            let headers = read_headers(&mut self.stream)?;
            if status != 100 {
                break (status, headers);
            }
        };
        let bodiless = request.starts_with("HEAD ") || matches!(status, 101 | 204 | 304);
        let body = if bodiless { Vec::new() } else { read_body(&mut self.stream, &headers, true)? };
        Ok(Answer { status, headers, body })
    }

    /// Exactly so many bytes.
    pub fn read(&mut self, count: usize) -> Vec<u8> {
        let mut bytes = vec![0; count];
        self.stream.read_exact(&mut bytes).unwrap();
        bytes
    }

    /// Everything until the edge hangs up, however it does.
    pub fn rest(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        match self.stream.read_to_end(&mut bytes) {
            Ok(_) => {}
            Err(error) => assert!(is_end(&error), "the connection did not end: {error}"),
        }
        bytes
    }

    /// Asserts that nothing more comes, and that the edge hangs up.
    pub fn assert_end(&mut self) {
        let rest = self.rest();
        assert!(rest.is_empty(), "{:?} came after the end", String::from_utf8_lossy(&rest));
    }

    pub fn hang_up(self) {
        // The edge may have been first.
        let _ = self.tcp.shutdown(std::net::Shutdown::Both);
    }
}

/// Whether a connection has ended, and not just been silent for too long.
pub fn is_end(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::UnexpectedEof
            | ErrorKind::ConnectionReset
            | ErrorKind::ConnectionAborted
            | ErrorKind::BrokenPipe
    )
}

/// The certificate of the edge of these tests.
pub fn identity_pem() -> String {
    IDENTITY.chain_pem.clone()
}

/// The same, as it is sent.
pub fn identity_der() -> CertificateDer<'static> {
    IDENTITY.chain.clone()
}

/// Trusts the edge of these tests, and offers these protocols.
pub fn client_config(protocols: &[&str]) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    roots.add(IDENTITY.chain.clone()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
    config
}

fn dial(address: SocketAddr) -> TcpStream {
    patient(TcpStream::connect(address).unwrap())
}

fn patient(tcp: TcpStream) -> TcpStream {
    tcp.set_read_timeout(Some(PATIENCE)).unwrap();
    tcp.set_write_timeout(Some(PATIENCE)).unwrap();
    tcp.set_nodelay(true).unwrap();
    tcp
}

// ---------------------------------------------------------------------------------------------------------------
// HTTP, as plainly as can be

fn header<'a>(headers: &'a [(String, String)], name: &str) -> Option<&'a str> {
    let mut found = headers.iter().filter(|(key, _)| key == name);
    let value = found.next().map(|(_, value)| value.as_str());
    assert!(found.next().is_none(), "{name} twice");
    value
}

fn read_headers(reader: &mut impl BufRead) -> io::Result<Vec<(String, String)>> {
    let mut headers = Vec::new();
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        let Some((name, value)) = line.trim_end().split_once(':') else { return Ok(headers) };
        headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
}

fn read_body(reader: &mut impl BufRead, headers: &[(String, String)], to_end: bool) -> io::Result<Vec<u8>> {
    let mut body = Vec::new();
    if header(headers, "transfer-encoding") == Some("chunked") {
        loop {
            let mut line = String::new();
            reader.read_line(&mut line)?;
            let size = usize::from_str_radix(line.trim_end(), 16);
            let size = size.map_err(|_| io::Error::from(ErrorKind::UnexpectedEof))?;
            let before = body.len();
            body.resize(before + size, 0);
            reader.read_exact(&mut body[before..])?;
            let mut end = [0; 2];
            reader.read_exact(&mut end)?;
            if size == 0 {
                return Ok(body);
            }
        }
    }
    if let Some(length) = header(headers, "content-length") {
        body.resize(length.parse().unwrap(), 0);
        reader.read_exact(&mut body)?;
    } else if to_end {
        reader.read_to_end(&mut body)?;
    }
    Ok(body)
}
