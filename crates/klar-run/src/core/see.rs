//! Telemetry, kept running, and told what happens without ever being waited for.
//!
//! It ends with the core that started it, since its socket closes; the next core starts another one on the same folder.
//! What people and programs ask it over is held here, so whoever asks while it is started again waits a moment.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::rc::Rc;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use klar_base::lines::Lines;
use klar_base::see::{Door, FromSee, Pulse, SeenApp, SeenInstance, SeenService, Speaks, ToSee, World};
use klar_base::{AppKey, ByteSize, Secret, wire};
use sha2::{Digest, Sha256};

use super::instance::{Instance, Role};
use super::retry::Retry;
use super::{App, Core};
use crate::limits::Limits;
use crate::report::{Failure, InstanceState, SeeStatus};
use crate::settings::ServiceSettings;
use crate::spawn::{Answer, Request, Spawn, users::Identity};

/// Frames that wait for it take so many bytes at most; later ones are dropped and counted.
const QUEUE_MAX: usize = 16 << 20;
/// How often what there is is compared with what it knows.
const LOOK: Duration = Duration::from_millis(500);
/// How often it hears how the edge fares.
const PULSE: Duration = Duration::from_secs(5);
/// After so long a port that somebody else had is tried again.
const AGAIN: Duration = Duration::from_secs(10);
/// All the memory that it may have.
const MEMORY: ByteSize = ByteSize(512 << 20);
/// Its threads.
const THREADS: u32 = 64;
/// The name of the group that its limits are those of.
const GROUP: &str = "see";

/// See the [module](self).
#[derive(Debug)]
pub(super) struct SeeLink {
    key: Secret<String>,
    doors: Option<Doors>,
    running: Option<Running>,
    retry: Retry,
    starting: bool,
    /// How often it had to be started again.
    restarts: u64,
    looked: Option<Instant>,
    /// How many changes there had been then.
    changes: u64,
    told: World,
    /// It has the doors as they are.
    told_doors: bool,
    pulsed: Option<Instant>,
    /// Frames that were dropped by queues that are gone.
    dropped: u64,
}

/// Where it can be asked.
#[derive(Debug)]
struct Doors {
    unix: UnixListener,
    tcp: Option<TcpListener>,
    /// Those without a key, by what is spoken there and their port.
    told: BTreeMap<(Speaks, u16), Told>,
    /// When the last one could not be opened.
    refused: Option<Instant>,
}

/// A door at which nobody answers.
#[derive(Debug)]
struct Told {
    whose: Option<AppKey>,
    sockets: Vec<OwnedFd>,
}

#[derive(Debug)]
struct Running {
    pid: i32,
    since: Instant,
    queue: Arc<Queue>,
}

/// What waits for it.
#[derive(Debug, Default)]
struct Queue {
    waiting: Mutex<Waiting>,
    more: Condvar,
}

#[derive(Debug, Default)]
struct Waiting {
    /// The newest of each; one that is not sent yet is worth nothing once there is another.
    world: Option<Vec<u8>>,
    pulse: Option<Vec<u8>>,
    /// Doors, with their sockets.
    doors: Option<(Vec<u8>, Vec<OwnedFd>)>,
    frames: VecDeque<Vec<u8>>,
    bytes: usize,
    dropped: u64,
    /// It is gone.
    ended: bool,
    status: Option<FromSee>,
}

impl Queue {
    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn put(&self, put: impl FnOnce(&mut Waiting)) {
        put(&mut self.waiting());
        self.more.notify_one();
    }

    fn end(&self) {
        self.put(|waiting| waiting.ended = true);
    }

    /// Sends what comes, until it is gone.
    fn send(&self, stream: &UnixStream) {
        loop {
            let (frame, descriptors) = {
                let mut waiting = self.waiting();
                loop {
                    if waiting.ended {
                        return;
                    }
                    if let Some(doors) = waiting.doors.take() {
                        break doors;
                    }
                    if let Some(frame) = waiting.world.take().or_else(|| waiting.pulse.take()) {
                        break (frame, Vec::new());
                    }
                    if let Some(frame) = waiting.frames.pop_front() {
                        waiting.bytes -= frame.len();
                        break (frame, Vec::new());
                    }
                    waiting = self.more.wait(waiting).unwrap_or_else(PoisonError::into_inner);
                }
            };
            let descriptors: Vec<_> = descriptors.iter().map(AsFd::as_fd).collect();
            if wire::send_text(stream, &frame, &descriptors).is_err() {
                return self.end();
            }
        }
    }

    /// Hears what it says of itself, until it is gone.
    fn hear(&self, stream: &UnixStream) {
        while let Ok(Some((status, _))) = wire::receive::<FromSee>(stream) {
            self.waiting().status = Some(status);
        }
        self.end();
    }
}

impl SeeLink {
    pub(super) fn new(key: Secret<String>) -> Self {
        Self {
            key,
            doors: None,
            running: None,
            retry: Retry::default(),
            starting: false,
            restarts: 0,
            looked: None,
            changes: 0,
            told: World::default(),
            told_doors: false,
            pulsed: None,
            dropped: 0,
        }
    }

    /// Hands over what the edge has said, or drops it.
    fn give(&self, lines: Lines) {
        let Some(running) = &self.running else { return };
        running.queue.put(|waiting| {
            let frame = lines.into_frame();
            if waiting.bytes + frame.len() > QUEUE_MAX {
                waiting.dropped += 1;
            } else {
                waiting.bytes += frame.len();
                waiting.frames.push_back(frame);
            }
        });
    }

    /// Has all deleted that is known of an app.
    pub(super) fn forget(&self, key: &AppKey) {
        let Some(running) = &self.running else { return };
        let Ok(message) = serde_json::to_vec(&ToSee::Forget { key: key.clone() }) else { return };
        running.queue.put(|waiting| {
            waiting.bytes += message.len();
            waiting.frames.push_back(message);
        });
    }

    /// Takes note of its end, if it has ended.
    fn notice_end(&mut self) {
        let Some(running) = &self.running else { return };
        if !running.queue.waiting().ended {
            return;
        }
        let lived = running.since.elapsed();
        self.dropped += running.queue.waiting().dropped;
        self.running = None;
        self.restarts += 1;
        eprintln!("klar core: telemetry is gone; starting it again");
        self.retry.failed(Failure::new("it ended"), lived, Instant::now(), fastrand::f64());
    }

    fn dropped(&self) -> u64 {
        self.dropped + self.running.as_ref().map_or(0, |running| running.queue.waiting().dropped)
    }

    pub(super) fn status(&self) -> SeeStatus {
        let said = self.running.as_ref().and_then(|running| running.queue.waiting().status.clone());
        let trouble =
            self.retry.last.as_ref().filter(|_| self.running.is_none()).map(|failure| failure.what.clone());
        SeeStatus {
            pid: self.running.as_ref().and_then(|running| u32::try_from(running.pid).ok()),
            listens: self.listens().map(|address| address.to_string()),
            restarts: self.restarts,
            frames_dropped: self.dropped(),
            series: said.as_ref().map_or(0, |said| said.series),
            bytes: said.as_ref().map_or(0, |said| said.bytes),
            sandbox: said.as_ref().map(|said| said.sandbox.clone()).unwrap_or_default(),
            trouble: said.and_then(|said| said.trouble).or(trouble),
        }
    }

    fn listens(&self) -> Option<SocketAddr> {
        self.doors.as_ref().and_then(|doors| doors.tcp.as_ref()?.local_addr().ok())
    }

    /// The port of the loopback at which it listens.
    pub(super) fn port(&self) -> Option<u16> {
        self.listens().map(|address| address.port())
    }

    /// What an app's processes show to say something as it.
    pub(super) fn token(&self, key: &AppKey) -> Secret<String> {
        let digest = Sha256::digest(format!("{}:{key}", self.key.expose()));
        Secret::new(digest.iter().take(16).map(|byte| format!("{byte:02x}")).collect())
    }
}

/// On the loopback only: whoever is at the other end shows no key.
fn open_door((speaks, port): (Speaks, u16)) -> io::Result<Vec<OwnedFd>> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let udp = UdpSocket::bind(address)?;
    Ok(match speaks {
        Speaks::Syslog => vec![TcpListener::bind(address)?.into(), udp.into()],
        Speaks::Statsd => vec![udp.into()],
    })
}

/// Where an instance shows what it counts itself, if its release says so.
fn metrics(app: &App, instance: &Instance) -> Option<(u16, String)> {
    let release = app.releases.get(instance.release()?)?;
    let service = release.config.services.get(&instance.record.id.service)?;
    Some((instance.listening_port()?, service.metrics.as_ref()?.to_string()))
}

impl Core {
    /// Starts telemetry where there is none, and tells it what there is.
    pub(super) fn keep_see(self: &Rc<Self>) {
        self.see.borrow_mut().notice_end();
        let due = {
            let see = self.see.borrow();
            see.running.is_none() && !see.starting && see.retry.is_due(Instant::now())
        };
        if due && !self.finishing.get() && self.leaving.get().is_none() {
            self.see.borrow_mut().starting = true;
            let core = self.clone();
            tokio::task::spawn_local(async move {
                let started = core.start_see().await;
                let mut see = core.see.borrow_mut();
                see.starting = false;
                if let Err(error) = started {
                    let what = format!("telemetry cannot be started: {error}");
                    if see.retry.last.is_none() {
                        eprintln!("klar core: {what}");
                    }
                    see.retry.failed(Failure::new(what), Duration::ZERO, Instant::now(), fastrand::f64());
                }
            });
        }
        self.tell_see(false);
    }

    /// Hands over what the edge has said. What has changed is told first: a request of an app that telemetry has not heard
    /// of is nobody's.
    pub(super) fn tell_of_requests(&self, lines: Lines) {
        self.tell_see(true);
        self.see.borrow().give(lines);
    }

    async fn start_see(self: &Rc<Self>) -> io::Result<()> {
        let folder = self.layout.see();
        let identity = Identity::See;
        self.spawner.folder(folder.clone(), identity.clone(), identity.clone(), 0o700).await?;
        self.open_doors_once()?;
        let (here, there) = UnixStream::pair()?;
        let mut descriptors: Vec<OwnedFd> = vec![there.into()];
        let mut args = vec!["see".to_owned(), "--folder".into(), folder.to_string_lossy().into_owned()];
        args.extend(["--apps".into(), self.layout.apps().to_string_lossy().into_owned()]);
        for uid in [0, nix::unistd::geteuid().as_raw()] {
            args.extend(["--allow".into(), uid.to_string()]);
        }
        if let Some(doors) = &self.see.borrow().doors {
            descriptors.push(doors.unix.as_fd().try_clone_to_owned()?);
            if let Some(tcp) = &doors.tcp {
                descriptors.push(tcp.as_fd().try_clone_to_owned()?);
                args.push("--tcp".into());
            }
        }
        let limits = Limits { memory: Some(MEMORY), cpu: None, pids: Some(THREADS) };
        let spawn = Spawn { args, identity, limits: Some((GROUP.into(), limits)), private_tmp: None };
        let (answer, _) = self.spawner.ask(Request::Spawn(spawn), descriptors).await?;
        let Answer::Spawned { pid, .. } = answer else {
            return Err(io::Error::other("the spawner did something else"));
        };
        let queue = Arc::<Queue>::default();
        let (sends, hears) = (queue.clone(), queue.clone());
        let writes = here.try_clone()?;
        std::thread::Builder::new().name("see-send".into()).spawn(move || sends.send(&writes))?;
        std::thread::Builder::new().name("see-hear".into()).spawn(move || hears.hear(&here))?;
        let mut see = self.see.borrow_mut();
        see.running = Some(Running { pid, since: Instant::now(), queue });
        (see.looked, see.pulsed) = (None, None);
        see.told = World::default();
        see.told_doors = false;
        Ok(())
    }

    /// Opens the doors where they are not open yet.
    pub(super) fn open_doors_once(&self) -> io::Result<()> {
        if self.see.borrow().doors.is_none() {
            let doors = self.open_doors()?;
            self.see.borrow_mut().doors = Some(doors);
        }
        Ok(())
    }

    /// A socket in the state folder, and a port of the loopback: the same as the last time, if it is still free.
    fn open_doors(&self) -> io::Result<Doors> {
        let path = self.layout.see_socket();
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let unix = UnixListener::bind(&path)?;
        let file = self.layout.see_port();
        let before: Option<u16> =
            std::fs::read_to_string(&file).ok().and_then(|text| text.trim().parse().ok());
        let bind = |port: u16| TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
        let tcp = before.map_or_else(|| bind(0), |port| bind(port).or_else(|_| bind(0)));
        let tcp = match tcp {
            Ok(tcp) => {
                let port = tcp.local_addr()?.port();
                if before != Some(port) {
                    crate::durable::write(&file, port.to_string().as_bytes())?;
                }
                Some(tcp)
            }
            Err(error) => {
                eprintln!("klar core: telemetry can be asked at its Unix socket only: {error}");
                None
            }
        };
        Ok(Doors { unix, tcp, told: BTreeMap::new(), refused: None })
    }

    fn tell_see(&self, at_once: bool) {
        let mut see = self.see.borrow_mut();
        let now = Instant::now();
        let due = |last: Option<Instant>, every| last.is_none_or(|last| now.duration_since(last) >= every);
        let changes = *self.changes.borrow();
        let is_due = due(see.looked, LOOK) || (at_once && changes != see.changes);
        if see.running.is_none() || !is_due {
            return;
        }
        (see.looked, see.changes) = (Some(now), changes);
        self.tell_doors(&mut see);
        let world = self.world(&see);
        let pulse = due(see.pulsed, PULSE).then(|| self.pulse(see.dropped()));
        let Some(running) = &see.running else { return };
        let text = |message: &ToSee| serde_json::to_vec(message).ok();
        if world != see.told {
            let text = text(&ToSee::World(world.clone()));
            running.queue.put(|waiting| waiting.world = text);
            see.told = world;
        } else if let Some(pulse) = pulse {
            let text = text(&ToSee::Pulse(pulse));
            running.queue.put(|waiting| waiting.pulse = text);
            see.pulsed = Some(now);
        }
    }

    /// The doors that are asked for, each with whose it is.
    fn wanted_doors(&self) -> BTreeMap<(Speaks, u16), Option<AppKey>> {
        let (host, apps) = (self.host.borrow(), self.apps.borrow());
        let mut wanted = BTreeMap::new();
        for (key, remembered) in &host.apps {
            let current = remembered.current.as_ref().filter(|_| remembered.wanted);
            let Some(release) = current.and_then(|id| apps.get(key)?.releases.get(id)) else { continue };
            let asked = &release.config.see;
            for (speaks, port) in [(Speaks::Syslog, asked.syslog), (Speaks::Statsd, asked.statsd)] {
                let Some(port) = port else { continue };
                // What several ask for is nobody's.
                let whose = if wanted.contains_key(&(speaks, port)) { None } else { Some(key.clone()) };
                wanted.insert((speaks, port), whose);
            }
        }
        wanted
    }

    /// Opens the doors that are asked for and closes all others. A port that somebody else has is tried again later.
    fn tell_doors(&self, see: &mut SeeLink) {
        let Some(doors) = &mut see.doors else { return };
        let wanted = self.wanted_doors();
        let before: Vec<_> = doors.told.iter().map(|(at, told)| (*at, told.whose.clone())).collect();
        doors.told.retain(|at, _| wanted.contains_key(at));
        let may_try = doors.refused.is_none_or(|refused| refused.elapsed() >= AGAIN);
        for (at, whose) in wanted {
            match (doors.told.get_mut(&at), may_try) {
                (Some(told), _) => told.whose = whose,
                (None, false) => {}
                (None, true) => match open_door(at) {
                    Ok(sockets) => {
                        doors.told.insert(at, Told { whose, sockets });
                    }
                    Err(error) => {
                        let (speaks, port) = at;
                        if doors.refused.is_none() {
                            eprintln!("klar core: nobody listens for {speaks:?} at port {port}: {error}");
                        }
                        doors.refused = Some(Instant::now());
                    }
                },
            }
        }
        let now: Vec<_> = doors.told.iter().map(|(at, told)| (*at, told.whose.clone())).collect();
        if now == before && (see.told_doors || now.is_empty()) {
            return;
        }
        let mut descriptors = Vec::new();
        for socket in doors.told.values().flat_map(|told| &told.sockets) {
            // One that cannot be shared now is shared at the next look.
            let Ok(shared) = socket.try_clone() else { return };
            descriptors.push(shared);
        }
        let all =
            doors.told.iter().map(|((speaks, _), told)| Door { speaks: *speaks, whose: told.whose.clone() });
        let message = serde_json::to_vec(&ToSee::Doors { doors: all.collect() });
        if let (Some(running), Ok(message)) = (&see.running, message) {
            running.queue.put(|waiting| waiting.doors = Some((message, descriptors)));
            see.told_doors = true;
        }
    }

    fn pulse(&self, frames_dropped: u64) -> Pulse {
        let edge = self.edge_now();
        let apps = self.apps.borrow();
        let instances = apps.values().flat_map(|app| app.instances.values()).filter(|one| one.serving);
        Pulse {
            connections: edge.vitals.connections,
            records_dropped: edge.records_dropped
                + edge.others.values().map(|other| other.records_dropped).sum::<u64>(),
            frames_dropped,
            leases: instances
                .map(|one| (one.record.id.clone(), edge.of_instance(&one.record.id).0))
                .collect(),
        }
    }

    fn world(&self, see: &SeeLink) -> World {
        let host = self.host.borrow();
        let apps = self.apps.borrow();
        let known = host.apps.iter().filter_map(|(key, remembered)| Some((key, remembered, apps.get(key)?)));
        let apps = known.map(|(key, remembered, app)| {
            let release = remembered.current.as_ref().and_then(|id| app.releases.get(id));
            let restarts =
                |name, release| app.retries.get(&(name, release)).map_or(0, |retry: &Retry| retry.total);
            let services = release.into_iter().flat_map(|release| {
                release.config.services.iter().map(|(name, service)| SeenService {
                    name: name.clone(),
                    kind: service.kind_name().into(),
                    wanted: self.wanted_instances(remembered, release, name),
                    restarts: restarts(name.clone(), Some(release.id.clone())),
                })
            });
            let stores = remembered.stores.iter().map(|(name, store)| SeenService {
                name: name.clone(),
                kind: store.engine.name().into(),
                wanted: u32::from(remembered.wanted),
                restarts: restarts(name.clone(), None),
            });
            let instances = app.instances.values().filter(|one| one.record.role != Role::Job);
            SeenApp {
                key: key.clone(),
                token: see.token(key),
                release: remembered.current.clone(),
                live_since_unix_ms: remembered.live_since_unix_ms,
                services: services.chain(stores).collect(),
                instances: instances
                    .map(|one| SeenInstance {
                        id: one.record.id.clone(),
                        release: one.release().cloned(),
                        shim: one.record.shim.and_then(|(pid, _)| u32::try_from(pid).ok()),
                        ready: one.state == InstanceState::Ready,
                        metrics: metrics(app, one),
                        store: remembered
                            .stores
                            .get(&one.record.id.service)
                            .filter(|_| one.record.role == Role::Store)
                            .map(|store| store.door(key)),
                    })
                    .collect(),
            }
        });
        World { apps: apps.collect(), key: Some(see.key.clone()) }
    }
}
