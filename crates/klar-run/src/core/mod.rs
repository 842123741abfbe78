//! The core: what should run, what does run, and the way from one to the other.
//!
//! One thread, one owner of everything ([`Core`]). What happens outside arrives as messages ([`Core::hear`]); a
//! change is followed by [`reconcile`], which starts what is missing and stops what is too much, and by
//! [`publish`], which tells the edge. Operations that take long ([`deploy`]) are tasks that wait for changes; they
//! never hold a borrow across an `await`.

mod access;
mod api;
mod assets;
mod certificates;
mod clients;
mod deploy;
mod doctor;
pub mod edge_link;
pub mod edge_state;
mod firewall;
mod given;
mod images;
pub mod instance;
mod jobs;
mod keep;
mod logs;
mod otel;
mod progress;
mod publish;
pub mod ratchet;
mod readiness;
mod reconcile;
mod retry;
mod see;
mod start;
pub mod state;
mod status;
mod take_over;
mod takeover;
mod upgrade;

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::future::Future;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use klar_base::upstreams::FromEdge;
use klar_base::{AppKey, InstanceId, ReleaseId, Secret, ServiceName};
use tokio::net::UnixListener;
use tokio::sync::{mpsc, watch};

use crate::certs::Authority;
use crate::layout::Layout;
use crate::release::Release;
use crate::report::{InstanceState, Problem};
use crate::shim::FromShim;
use crate::spawn::{self, Answer, Description, Privileged, Request, Spawner};
use edge_link::EdgeLink;
use edge_state::EdgeState;
use instance::{Instance, Role, ShimMessage};
use retry::Retry;
use state::HostState;

/// Why a core cannot run.
#[derive(Debug, thiserror::Error)]
pub enum CoreError {
    /// Another core has the state folder.
    #[error("another klar already looks after {0}")]
    Taken(String),
    /// A file, a folder or a socket.
    #[error("{what}: {source}")]
    Io {
        /// What was attempted.
        what: String,
        /// What came of it.
        source: io::Error,
    },
}

fn during(what: impl Into<String>) -> impl FnOnce(io::Error) -> CoreError {
    let what = what.into();
    move |source| CoreError::Io { what, source }
}

/// Everything of one app that is not on disk.
#[derive(Debug, Default)]
struct App {
    releases: BTreeMap<ReleaseId, Rc<Release>>,
    instances: BTreeMap<InstanceId, Instance>,
    retries: BTreeMap<(ServiceName, Option<ReleaseId>), Retry>,
    /// The operation that is going on; there is one at a time.
    busy: Option<String>,
    /// A release on its way in, and those of its services that may be started.
    arriving: Option<(ReleaseId, BTreeSet<ServiceName>)>,
    /// Services of the current release that had to make room for the arriving one.
    suspended: BTreeSet<ServiceName>,
    /// Stores that the release needs, also while it is not current yet.
    stores: BTreeSet<ServiceName>,
    problems: BTreeMap<String, Problem>,
}

/// The core of a host.
#[derive(Debug)]
pub struct Core {
    layout: Layout,
    spawner: Spawner,
    description: Description,
    authority: Authority,
    certificates: certificates::Certificates,
    host: RefCell<HostState>,
    apps: RefCell<BTreeMap<AppKey, App>>,
    edge: RefCell<EdgeLink>,
    edge_state: watch::Receiver<EdgeState>,
    shim_messages: mpsc::UnboundedSender<ShimMessage>,
    /// Counts changes, so that tasks can wait for one.
    changes: watch::Sender<u64>,
    generation: Cell<u64>,
    /// Purges of the cache so far.
    purges: Cell<u64>,
    /// Telemetry.
    see: RefCell<see::SeeLink>,
    /// What keeps databases a second time.
    keep: RefCell<keep::KeepLinks>,
    /// The processes that convert images: their ids, and when they were started.
    images: RefCell<Vec<(i32, u64)>>,
    access: access::AccessLogs,
    counted: RefCell<ratchet::Counted>,
    /// See [`EdgeConfig::check_key`](klar_base::upstreams::EdgeConfig::check_key).
    check_key: Secret<String>,
    rule_set: RefCell<Option<firewall::Found>>,
    started: Instant,
    uploads: std::path::PathBuf,
    /// See [`Layout::ports_file`].
    ports: Option<(u16, u16)>,
    /// See [`Layout::second_file`].
    second: Option<String>,
    /// Set once everything has been told to stop.
    finishing: Cell<bool>,
    /// Another edge is about to take over.
    replacing: Cell<bool>,
    /// Why the newest attempt at that did not work.
    edge_trouble: RefCell<Option<String>>,
    /// The newest upgrade of klar itself.
    upgrade: RefCell<Option<upgrade::Record>>,
    /// What that came to is being written down.
    settling: Cell<bool>,
    /// The exit status of this core, once it should make room for another one: see [`crate::keeper`].
    leaving: Cell<Option<u8>>,
}

/// A key of this host, made where there is none.
fn key(path: &std::path::Path) -> io::Result<Secret<String>> {
    match std::fs::read_to_string(path) {
        Ok(key) if !key.is_empty() => return Ok(Secret::new(key)),
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let key = crate::store::random_hex()?;
    crate::durable::write(path, key.as_bytes())?;
    Ok(Secret::new(key))
}

/// Runs a core until it is told to stop: finds what runs, mends what does not, and serves its control socket with
/// `serve`. Gives the exit status that tells the host what should come next, when it is not the end.
///
/// # Errors
/// When another core has the folder, or the folder cannot be used.
pub fn run<F: Future<Output = ()> + 'static>(
    layout: Layout,
    spawner_fd: Option<OwnedFd>,
    serve: impl FnOnce(Rc<Core>, UnixListener) -> F,
) -> Result<Option<u8>, CoreError> {
    let _lock = prepare(&layout)?;
    let spawner = match spawner_fd {
        Some(descriptor) => {
            let stream = UnixStream::from(descriptor);
            end_with_spawner(&stream).map_err(during("watching the spawner"))?;
            Spawner::There(Arc::new(Mutex::new(stream)))
        }
        None => {
            spawn::reserve_descriptors().map_err(during("reserving descriptors"))?;
            Spawner::Here(Arc::new(Privileged::new(layout.root()).map_err(during("reading /proc"))?))
        }
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(16)
        .build()
        .map_err(during("starting the runtime"))?;
    let local = tokio::task::LocalSet::new();
    local.block_on(&runtime, async {
        let (core, shims, edge) = Core::open(layout, spawner)?;
        core.adopt().await;
        core.resume_upgrade();
        let listener = core.control_socket()?;
        tokio::task::spawn_local(serve(core.clone(), listener));
        tokio::task::spawn_local(core.clone().keep_checking());
        tokio::task::spawn_local(core.clone().keep_certificates());
        tokio::task::spawn_local(core.clone().keep_given_fresh());
        core.clone().hear(shims, edge).await;
        Ok(core.leaving.get())
    })
}

/// Makes the folders that a core without a spawner makes itself, and takes the lock of the host.
fn prepare(layout: &Layout) -> Result<nix::fcntl::Flock<File>, CoreError> {
    for folder in ["logs", "run/i", "ca", "apps", "data"] {
        let path = layout.root().join(folder);
        std::fs::create_dir_all(&path).map_err(during(format!("making {}", path.display())))?;
    }
    let path = layout.run().join("core.lock");
    let lock = || -> io::Result<_> { File::options().create(true).append(true).open(&path) };
    // The core before this one may need a moment to end.
    const PATIENCE: Duration = Duration::from_secs(5);
    let deadline = Instant::now() + PATIENCE;
    loop {
        let file = lock().map_err(during(format!("opening {}", path.display())))?;
        match nix::fcntl::Flock::lock(file, nix::fcntl::FlockArg::LockExclusiveNonblock) {
            Ok(lock) => return Ok(lock),
            Err(_) if Instant::now() < deadline => std::thread::sleep(Duration::from_millis(20)),
            Err(_) => return Err(CoreError::Taken(layout.root().display().to_string())),
        }
    }
}

/// A core whose spawner is gone can start nothing: it ends, and is started again together with a spawner.
fn end_with_spawner(stream: &UnixStream) -> io::Result<()> {
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
    let stream = stream.try_clone()?;
    std::thread::Builder::new().name("spawner-watch".into()).spawn(move || {
        loop {
            // Only the end is waited for; answers are for those who asked.
            let mut ended = [PollFd::new(stream.as_fd(), PollFlags::empty())];
            match poll(&mut ended, PollTimeout::NONE) {
                Err(nix::errno::Errno::EINTR) => {}
                _ => {
                    eprintln!("klar core: the spawner is gone; ending, to be started again with it");
                    std::process::exit(1);
                }
            }
        }
    })?;
    Ok(())
}

impl Core {
    /// Reads the state of the host; nothing is started yet.
    #[allow(clippy::type_complexity)]
    fn open(
        layout: Layout,
        spawner: Spawner,
    ) -> Result<
        (Rc<Self>, mpsc::UnboundedReceiver<ShimMessage>, mpsc::UnboundedReceiver<(u64, Option<FromEdge>)>),
        CoreError,
    > {
        let host = HostState::read(&layout).map_err(during("reading what is remembered"))?;
        let authority = Authority::open(&layout.ca()).map_err(during("opening the local authority"))?;
        let description = match spawner.ask_blocking(Request::Describe, &[]) {
            Ok((Answer::Description(description), _)) => description,
            Ok(_) => return Err(during("asking the spawner")(io::Error::other("an unexpected answer"))),
            Err(error) => return Err(during("asking the spawner")(error)),
        };
        let (shim_messages, shims) = mpsc::unbounded_channel();
        let (edge_messages, edge_receiver) = mpsc::unbounded_channel();
        let edge = EdgeLink::new(layout.clone(), spawner.clone(), edge_messages);
        let edge_state = edge.watch();
        let ports =
            crate::durable::read_json(&layout.ports_file()).map_err(during("reading the ports of a rig"))?;
        let second = crate::durable::read_json(&layout.second_file())
            .map_err(during("reading the second place of a rig"))?;
        // What is damaged is no upgrade that anybody waits for.
        let upgrade = crate::durable::read_json(&layout.upgrade_file()).ok().flatten();
        let check_key = key(&layout.check_key()).map_err(during("keeping the key of its probes"))?;
        let see_key = key(&layout.see_key()).map_err(during("keeping the key of telemetry"))?;
        let uploads = layout.run().join("uploads");
        // Half an upload is of no use to anybody.
        let _ = std::fs::remove_dir_all(&uploads);
        std::fs::create_dir_all(&uploads).map_err(during("making the folder for uploads"))?;
        let (changes, _) = watch::channel(0);
        let core = Rc::new(Self {
            access: access::AccessLogs::new(layout.clone()),
            counted: RefCell::default(),
            certificates: certificates::Certificates::new(layout.acme()),
            layout,
            spawner,
            description,
            authority,
            host: RefCell::new(host),
            apps: RefCell::default(),
            edge: RefCell::new(edge),
            edge_state,
            shim_messages,
            changes,
            // Above every generation that an edge may have from an earlier core.
            generation: Cell::new(state::unix_ms()),
            purges: Cell::new(0),
            see: RefCell::new(see::SeeLink::new(see_key)),
            keep: RefCell::default(),
            images: RefCell::default(),
            check_key,
            rule_set: RefCell::default(),
            started: Instant::now(),
            uploads,
            ports,
            second,
            finishing: Cell::new(false),
            replacing: Cell::new(false),
            edge_trouble: RefCell::default(),
            upgrade: RefCell::new(upgrade),
            settling: Cell::new(false),
            leaving: Cell::new(None),
        });
        Ok((core, shims, edge_receiver))
    }

    fn control_socket(&self) -> Result<UnixListener, CoreError> {
        let path = self.layout.control_socket();
        let _ = std::fs::remove_file(&path);
        UnixListener::bind(&path).map_err(during(format!("listening at {}", path.display())))
    }

    /// Finds everything that runs from before.
    async fn adopt(self: &Rc<Self>) {
        let keys: Vec<AppKey> = self.host.borrow().apps.keys().cloned().collect();
        for key in keys {
            self.apps.borrow_mut().insert(key.clone(), App::default());
            self.load_releases(&key);
            self.load_stores(&key);
        }
        self.adopt_instances().await;
        let adopted = self.edge.borrow_mut().adopt();
        if let Err(error) = adopted {
            eprintln!("klar core: the edge that runs does not answer: {error}");
        }
        self.changed();
    }

    /// The loop: messages from shims and the edge, the clock, and the end.
    async fn hear(
        self: Rc<Self>,
        mut shims: mpsc::UnboundedReceiver<ShimMessage>,
        mut edge: mpsc::UnboundedReceiver<(u64, Option<FromEdge>)>,
    ) {
        const TICK: Duration = Duration::from_millis(100);
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
        let mut changes = self.changes.subscribe();
        let terminated = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate());
        let Ok(mut terminated) = terminated else { return };
        loop {
            tokio::select! {
                Some((id, message)) = shims.recv() => self.hear_shim(&id, message).await,
                Some((connection, message)) = edge.recv() => self.hear_edge(connection, message),
                _ = tick.tick() => self.tick(),
                _ = changes.changed() => {}
                // The instances live on: this is a core that makes room for another one.
                _ = terminated.recv() => return,
            }
            if self.leaving.get().is_some() {
                return;
            }
            if self.finishing.get() && self.is_idle() {
                let _ = self.spawner.tell(Request::Finish).await;
                return;
            }
            self.reconcile();
        }
    }

    fn is_idle(&self) -> bool {
        self.apps.borrow().values().all(|app| app.instances.is_empty()) && self.edge.borrow().is_alone()
    }

    /// Wakes everyone who waits for something.
    fn changed(&self) {
        self.changes.send_modify(|count| *count += 1);
    }

    /// What the edge has said last: a copy, because a reader that holds the original while the edge speaks, and
    /// reads again, waits for itself.
    fn edge_now(&self) -> EdgeState {
        self.edge_state.borrow().clone()
    }

    /// Waits until `look` finds something, at most for `patience`.
    async fn wait_for<T>(&self, patience: Duration, mut look: impl FnMut(&Self) -> Option<T>) -> Option<T> {
        let mut changes = self.changes.subscribe();
        let mut edge = self.edge_state.clone();
        let deadline = tokio::time::Instant::now() + patience;
        loop {
            if let Some(found) = look(self) {
                return Some(found);
            }
            let woken = async {
                tokio::select! { _ = changes.changed() => {}, _ = edge.changed() => {} }
            };
            if tokio::time::timeout_at(deadline, woken).await.is_err() {
                return look(self);
            }
        }
    }

    /// Changes what is remembered, on disk first. When the disk refuses, nothing has changed.
    fn remember<T>(&self, change: impl FnOnce(&mut HostState) -> T) -> io::Result<T> {
        let mut next = self.host.borrow().clone();
        let result = change(&mut next);
        next.write(&self.layout)?;
        *self.host.borrow_mut() = next;
        Ok(result)
    }

    /// A look at one app and what is remembered of it.
    fn with_app<T>(&self, key: &AppKey, look: impl FnOnce(&mut App, &state::AppState) -> T) -> Option<T> {
        let host = self.host.borrow();
        let remembered = host.apps.get(key)?;
        let mut apps = self.apps.borrow_mut();
        Some(look(apps.entry(key.clone()).or_default(), remembered))
    }

    /// A look at one instance.
    fn with_instance<T>(&self, id: &InstanceId, look: impl FnOnce(&mut Instance) -> T) -> Option<T> {
        let mut apps = self.apps.borrow_mut();
        apps.get_mut(&id.key)?.instances.get_mut(id).map(look)
    }

    /// Notes something that needs a person; the same `topic` replaces what was there.
    fn problem(&self, key: &AppKey, topic: &str, problem: Problem) {
        if let Some(app) = self.apps.borrow_mut().get_mut(key) {
            app.problems.insert(topic.into(), problem);
        }
        self.changed();
    }

    /// What needed a person does so no more.
    fn forget_problem(&self, key: &AppKey, topic: &str) {
        let known = self.apps.borrow_mut().get_mut(key).and_then(|app| app.problems.remove(topic));
        if known.is_some() {
            self.changed();
        }
    }

    fn load_releases(&self, key: &AppKey) {
        let Ok(entries) = std::fs::read_dir(self.layout.releases(key)) else { return };
        for entry in entries.flatten() {
            match Release::read(&entry.path()) {
                Ok(Some(release)) => {
                    if let Some(app) = self.apps.borrow_mut().get_mut(key) {
                        app.releases.insert(release.id.clone(), Rc::new(release));
                    }
                }
                // Half a release: a deploy was cut short, and nothing points at it.
                Ok(None) => {
                    let _ = self.spawner.ask_blocking(Request::Remove { path: entry.path() }, &[]);
                }
                // It may be the disk that does not read today.
                Err(error) => eprintln!("klar core: {}: {error}", entry.path().display()),
            }
        }
    }

    /// The databases of the release that serves belong to the app from the first moment, or they would be taken for
    /// some that nobody wants.
    fn load_stores(&self, key: &AppKey) {
        let current = self.host.borrow().apps.get(key).and_then(|app| app.current.clone());
        if let Some(app) = self.apps.borrow_mut().get_mut(key)
            && let Some(release) = current.and_then(|id| app.releases.get(&id))
        {
            let stores = crate::settings::managed_stores(&release.config);
            app.stores = stores.into_iter().map(|(name, _)| name).collect();
        }
    }

    /// Connects to every shim that still runs and cleans up after those that do not.
    async fn adopt_instances(self: &Rc<Self>) {
        let records = std::fs::read_dir(self.layout.shims()).into_iter().flatten().flatten();
        let records = records.filter(|entry| entry.path().extension().is_some_and(|kind| kind == "json"));
        for entry in records {
            let record = match crate::durable::read_json::<instance::Record>(&entry.path()) {
                Ok(Some(record)) => record,
                _ => {
                    let _ = std::fs::remove_file(entry.path());
                    continue;
                }
            };
            let known = self.apps.borrow().contains_key(&record.id.key);
            match instance::adopt(&self.layout, &record, self.shim_messages.clone()) {
                Ok((shim, pid)) if known => {
                    let mut instance = Instance::planned(record.id.clone(), record.role.clone(), record.port);
                    instance.shim = Some(shim);
                    instance.pid = Some(pid);
                    instance.ports.extend(record.port);
                    let age = Duration::from_millis(state::unix_ms().saturating_sub(record.started_unix_ms));
                    instance.started = Instant::now().checked_sub(age).unwrap_or_else(Instant::now);
                    let ready = record.ready;
                    instance.record = record;
                    let id = instance.record.id.clone();
                    if let Some(app) = self.apps.borrow_mut().get_mut(&id.key) {
                        app.instances.insert(id.clone(), instance);
                    }
                    self.resume(&id, ready);
                }
                Ok((shim, _)) => {
                    let stop = crate::shim::ToShim::Stop { patience: Duration::ZERO };
                    let _ = klar_base::wire::send(&shim, &stop, &[]);
                }
                Err(_) => {
                    self.sweep(&record.id);
                    if let Err(error) = instance::clean_up(&self.layout, &self.spawner, &record.id) {
                        eprintln!("klar core: cleaning up after {}: {error}", record.id);
                    }
                }
            }
        }
        self.sweep_groups();
    }

    /// An instance from before goes on where it was: ready, or still on its way. A job has nobody any more who
    /// waits for its result, so it is stopped.
    fn resume(self: &Rc<Self>, id: &InstanceId, ready: bool) {
        let role = self.with_instance(id, |instance| instance.record.role.clone());
        match role {
            Some(Role::Job) => {
                self.with_instance(id, |instance| {
                    instance.turn(InstanceState::Stopping);
                    instance.ask_to_stop(Duration::from_secs(5));
                });
            }
            Some(Role::Service { .. }) if ready => {
                self.with_instance(id, |instance| instance.turn(InstanceState::Ready));
                self.serve_if_current(id);
            }
            Some(_) => {
                let (core, id) = (self.clone(), id.clone());
                tokio::task::spawn_local(async move { core.attend(&id).await });
            }
            None => {}
        }
    }

    /// Groups that no instance answers for: their shim was killed while no core was there.
    fn sweep_groups(&self) {
        let Ok((Answer::Groups { groups }, _)) = self.spawner.ask_blocking(Request::Groups, &[]) else {
            return;
        };
        for group in groups {
            let known = group.parse::<InstanceId>().ok().is_some_and(|id| {
                self.apps.borrow().get(&id.key).is_some_and(|app| app.instances.contains_key(&id))
            });
            if !known {
                let _ = self.spawner.ask_blocking(Request::Release { group }, &[]);
            }
        }
    }

    /// Without a process namespace, what an app had started may outlive its killed shim: it is found by the
    /// variable that every process of an instance inherits.
    fn sweep(&self, id: &InstanceId) {
        if self.description.namespaces {
            return;
        }
        let marks = [format!("KLAR_ID={id}"), format!("KLAR_HOST={}", spawn::host_name(self.layout.root()))];
        for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
            let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<i32>().ok()) else {
                continue;
            };
            let Ok(environment) = std::fs::read(entry.path().join("environ")) else { continue };
            let has = |mark: &String| environment.split(|byte| *byte == 0).any(|one| one == mark.as_bytes());
            if marks.iter().all(has) {
                let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::SIGKILL);
            }
        }
    }

    fn hear_edge(self: &Rc<Self>, connection: u64, message: Option<FromEdge>) {
        match message {
            Some(FromEdge::Lines(lines)) => {
                self.access.write(&lines);
                self.tell_of_requests(lines);
            }
            Some(FromEdge::Records { records, .. }) => self.access.write_records(&records),
            Some(FromEdge::Stopped { requests }) => {
                let layout = self.layout.clone();
                tokio::task::spawn_blocking(move || {
                    if let Err(error) = crate::stopped::keep(&layout, &requests) {
                        eprintln!("klar core: a request that the firewall stopped cannot be kept: {error}");
                    }
                });
            }
            Some(FromEdge::Shadowed { mut requests }) => {
                // Those of an app that has switched it off may still be on their way.
                requests.retain(|request| self.is_shadowed(&request.app));
                self.access.write_shadowed(&requests);
            }
            Some(FromEdge::Vitals(vitals)) => {
                if self.edge_state.borrow().connection == connection {
                    self.watch(&vitals);
                }
                self.changed();
            }
            Some(FromEdge::Rejected { reason, .. }) => {
                eprintln!("klar core: the edge refused its settings: {reason}")
            }
            Some(FromEdge::WantsImages) => {
                tokio::task::spawn_local(self.clone().serve_images(connection));
            }
            Some(_) => self.changed(),
            None => {
                if self.edge.borrow_mut().lost(connection) && !self.finishing.get() {
                    eprintln!("klar core: the edge is gone; starting another one on the same sockets");
                }
                self.changed();
            }
        }
    }

    async fn hear_shim(self: &Rc<Self>, id: &InstanceId, message: Option<FromShim>) {
        match message {
            Some(FromShim::Running { pid, ports }) => {
                self.with_instance(id, |instance| {
                    instance.pid = Some(pid);
                    instance.ports = ports.into_iter().collect();
                });
            }
            Some(FromShim::Ports { ports }) => {
                self.with_instance(id, |instance| instance.ports = ports.into_iter().collect());
            }
            Some(FromShim::DeniedWrite { line, path }) => self.explain_denied(id, &line, path.as_deref()),
            Some(FromShim::LogTrouble { reason, lines_lost }) => {
                let what = format!(
                    "{}: its output cannot be kept ({reason}); {lines_lost} lines are lost",
                    id.short()
                );
                let hint = "free some space; output is kept again as soon as there is room".to_owned();
                self.problem(
                    &id.key,
                    &format!("log {id}"),
                    Problem { what, hint: Some(hint), output: Vec::new() },
                );
            }
            Some(FromShim::Exited(exit)) => {
                self.with_instance(id, |instance| instance.exit = Some(exit));
            }
            Some(FromShim::Refused { .. } | FromShim::Unknown) => {}
            None => self.gone(id).await,
        }
        self.changed();
    }
}
