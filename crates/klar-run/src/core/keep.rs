//! What keeps the data of apps a second time, kept running: one process for each app that has a database or a Redis, or writes
//! to folders.
//!
//! It ends with the core that started it, since its socket closes; the next core starts another one on the same folder. The
//! core tells it where the databases are, hears how it stands, and writes into the ledger what it has proven.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use klar_base::keep::{
    DumpOf, FromKeep, KeepWorld, KeptDump, KeptFiles, KeptRedis, KeptStatus, SecondPlace, ToKeep,
};
use klar_base::{AppKey, ByteSize, Period, ServiceName, wire};
use klar_store::Ledger;

use super::retry::Retry;
use super::state::AppState;
use super::{App, Core};
use crate::layout::Layout;
use crate::limits::Limits;
use crate::release::Release;
use crate::report::{Failure, Problem};
use crate::settings::half_of_the_machine;
use crate::spawn::{Answer, Request, Spawn, app_identity, users::Identity};
use crate::store::Engine;

/// How often what there is is compared with what it knows.
const LOOK: Duration = Duration::from_millis(500);
/// All the memory that it may have, with the servers on which it proves copies.
const MEMORY: ByteSize = ByteSize(2 << 30);
/// Of that a copy of a Redis may not have this much: the process itself, and what else it proves meanwhile.
const BESIDE: u64 = 768 << 20;
/// Its processes and threads.
const PROCESSES: u32 = 128;
/// What reads an app's folders holds a page of a database and a block of a file.
const READER_MEMORY: ByteSize = ByteSize(512 << 20);
/// As above.
const READER_PROCESSES: u32 = 8;

/// All of them.
#[derive(Debug, Default)]
pub(super) struct KeepLinks {
    links: BTreeMap<AppKey, Link>,
    looked: Option<Instant>,
}

#[derive(Debug, Default)]
struct Link {
    door: Option<UnixListener>,
    running: Option<Running>,
    retry: Retry,
    starting: bool,
    told: Option<KeepWorld>,
}

#[derive(Debug)]
struct Running {
    stream: UnixStream,
    since: Instant,
    heard: Arc<Mutex<Heard>>,
}

/// What it has said.
#[derive(Debug, Default)]
struct Heard {
    stores: Vec<KeptStatus>,
    /// The app's folders are to be read.
    reads: bool,
    ended: bool,
}

fn hear(layout: &Layout, key: &AppKey, stream: &UnixStream, heard: &Mutex<Heard>) {
    while let Ok(Some((message, _))) = wire::receive::<FromKeep>(stream) {
        match message {
            FromKeep::Status { stores } => {
                heard.lock().unwrap_or_else(PoisonError::into_inner).stores = stores;
            }
            FromKeep::ReadFiles => heard.lock().unwrap_or_else(PoisonError::into_inner).reads = true,
            FromKeep::Entry { kind, subject, payload } => {
                let kept = Ledger::open(&layout.ledger()).and_then(|ledger| {
                    ledger.append(Timestamp::now(), [(kind, format!("{key}/{subject}"), payload)])
                });
                if let Err(error) = kept {
                    eprintln!("klar core: a backup could not be noted in the ledger: {error}");
                }
            }
        }
    }
    heard.lock().unwrap_or_else(PoisonError::into_inner).ended = true;
}

impl KeepLinks {
    /// How the data of an app is kept.
    pub(super) fn status(&self, key: &AppKey) -> Vec<KeptStatus> {
        let running = self.links.get(key).and_then(|link| link.running.as_ref());
        running.map_or_else(Vec::new, |running| {
            running.heard.lock().unwrap_or_else(PoisonError::into_inner).stores.clone()
        })
    }

    /// What a person should know about it.
    pub(super) fn problems(&self, key: &AppKey) -> Vec<Problem> {
        let problem = |status: KeptStatus| {
            let what = format!("`{}` is not kept as it should be: {}", status.store, status.trouble?);
            Some(Problem { what, hint: status.hint, output: vec![] })
        };
        let last = self.links.get(key).filter(|link| link.running.is_none());
        let trouble = last.and_then(|link| link.retry.last.as_ref()).map(|failure| Problem {
            what: format!("its data is not kept: {}", failure.what),
            hint: failure.hint.clone(),
            output: vec![],
        });
        self.status(key).into_iter().filter_map(problem).chain(trouble).collect()
    }

    /// Ends the keeper of an app.
    pub(super) fn end(&mut self, key: &AppKey) {
        self.links.remove(key);
    }
}

impl Link {
    fn notice_end(&mut self, key: &AppKey) {
        let Some(running) = &self.running else { return };
        if !running.heard.lock().unwrap_or_else(PoisonError::into_inner).ended {
            return;
        }
        let lived = running.since.elapsed();
        self.running = None;
        self.told = None;
        eprintln!("klar core: what keeps the data of {key} is gone; starting it again");
        self.retry.failed(Failure::new("it ended"), lived, Instant::now(), fastrand::f64());
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // The thread that hears it has a copy of the socket.
        let _ = self.stream.shutdown(std::net::Shutdown::Both);
    }
}

impl Core {
    /// Starts keepers where they are missing, tells them what there is, and ends those that nobody needs.
    pub(super) fn keep_data(self: &Rc<Self>) {
        let mut links = self.keep.borrow_mut();
        if links.looked.is_some_and(|looked| looked.elapsed() < LOOK) {
            return;
        }
        links.looked = Some(Instant::now());
        if self.finishing.get() || self.leaving.get().is_some() {
            // Its sockets close with this process.
            return;
        }
        let worlds = self.kept_worlds();
        links.links.retain(|key, _| worlds.contains_key(key));
        for (key, world) in worlds {
            let link = links.links.entry(key.clone()).or_default();
            link.notice_end(&key);
            if link.running.is_none() && !link.starting && link.retry.is_due(Instant::now()) {
                link.starting = true;
                let core = self.clone();
                let key = key.clone();
                tokio::task::spawn_local(async move {
                    let started = core.start_keep(&key).await;
                    let mut links = core.keep.borrow_mut();
                    let Some(link) = links.links.get_mut(&key) else { return };
                    link.starting = false;
                    match started {
                        Ok(running) => (link.running, link.told) = (Some(running), None),
                        Err(error) => {
                            let what = format!("what keeps the data of {key} cannot be started: {error}");
                            if link.retry.last.is_none() {
                                eprintln!("klar core: {what}");
                            }
                            let failure = Failure::new(what);
                            link.retry.failed(failure, Duration::ZERO, Instant::now(), fastrand::f64());
                        }
                    }
                });
            }
            if let Some(running) = &link.running
                && link.told.as_ref() != Some(&world)
                // A few hundred bytes, of which it reads every one at once.
                && wire::send(&running.stream, &ToKeep::World(Box::new(world.clone())), &[]).is_ok()
            {
                link.told = Some(world);
            }
            if let Some(running) = &link.running
                && std::mem::take(&mut running.heard.lock().unwrap_or_else(PoisonError::into_inner).reads)
            {
                let (core, key) = (self.clone(), key.clone());
                tokio::task::spawn_local(async move {
                    if let Err(error) = core.read_files(&key).await {
                        eprintln!("klar core: the folders of {key} cannot be read: {error}");
                    }
                });
            }
        }
    }

    async fn start_keep(self: &Rc<Self>, key: &AppKey) -> io::Result<Running> {
        let (keep, data) = (Identity::Keep { key: key.clone() }, Identity::Data { key: key.clone() });
        let folder = self.layout.keep(key);
        self.spawner.folder(folder.clone(), keep.clone(), data.clone(), 0o750).await?;
        // It is in their group, and reads their files.
        let stores = self.kept_stores(key);
        if !stores.is_empty() {
            let parent = self.layout.root().join("data").join(key.to_string());
            self.spawner.folder(parent, data.clone(), data.clone(), 0o750).await?;
        }
        for name in stores {
            self.spawner.folder(self.layout.store(key, &name), data.clone(), data.clone(), 0o750).await?;
        }
        let door = {
            let mut links = self.keep.borrow_mut();
            let link = links.links.entry(key.clone()).or_default();
            if link.door.is_none() {
                link.door = Some(open_door(&self.layout, key)?);
            }
            let door = link.door.as_ref().ok_or_else(|| io::Error::other("no socket"))?;
            door.as_fd().try_clone_to_owned()?
        };
        let (here, there) = UnixStream::pair()?;
        let descriptors: Vec<OwnedFd> = vec![there.into(), door];
        let mut args = vec!["keep".to_owned(), "--folder".into(), folder.to_string_lossy().into_owned()];
        for uid in [0, nix::unistd::geteuid().as_raw()] {
            args.extend(["--allow".into(), uid.to_string()]);
        }
        let has_redis = self.host.borrow().apps.get(key).is_some_and(has_redis);
        let memory = if has_redis { memory_with_redis() } else { MEMORY };
        let limits = Limits { memory: Some(memory), cpu: None, pids: Some(PROCESSES) };
        let group = format!("keep.{key}");
        let spawn = Spawn { args, identity: keep, limits: Some((group, limits)), private_tmp: None };
        let (answer, _) = self.spawner.ask(Request::Spawn(spawn), descriptors).await?;
        let Answer::Spawned { .. } = answer else {
            return Err(io::Error::other("the spawner did something else"));
        };
        let heard = Arc::<Mutex<Heard>>::default();
        let (hears, stream) = (heard.clone(), here.try_clone()?);
        let (layout, key) = (self.layout.clone(), key.clone());
        std::thread::Builder::new()
            .name("keep-hear".into())
            .spawn(move || hear(&layout, &key, &stream, &hears))?;
        Ok(Running { stream: here, since: Instant::now(), heard })
    }

    /// Has the app's folders read by a process of its own user, whose words go to what keeps them.
    async fn read_files(self: &Rc<Self>, key: &AppKey) -> io::Result<()> {
        let (here, there) = UnixStream::pair()?;
        let folder = self.layout.writable(key).to_string_lossy().into_owned();
        let args = vec!["read-files".to_owned(), "--folder".into(), folder];
        let limits = Limits { memory: Some(READER_MEMORY), cpu: None, pids: Some(READER_PROCESSES) };
        let limits = Some((format!("read.{key}"), limits));
        let spawn = Spawn { args, identity: app_identity(key), limits, private_tmp: None };
        let (answer, _) = self.spawner.ask(Request::Spawn(spawn), vec![there.into()]).await?;
        let Answer::Spawned { .. } = answer else {
            return Err(io::Error::other("the spawner did something else"));
        };
        let links = self.keep.borrow();
        let running = links.links.get(key).and_then(|link| link.running.as_ref());
        let running = running.ok_or_else(|| io::Error::other("what keeps them is gone"))?;
        wire::send(&running.stream, &ToKeep::Files, &[here.as_fd()])
    }

    /// What an app writes to its folders, where it does that.
    pub(super) fn kept_files(&self, key: &AppKey, release: &Release) -> Option<KeptFiles> {
        let is_writing = release.config.services.values().any(|service| !service.writable.is_empty());
        if !is_writing || !self.layout.writable(key).is_dir() {
            return None;
        }
        // A store may have the name.
        let names = ["files", "app-files"].into_iter().filter_map(|name| ServiceName::new(name).ok());
        let name = names.into_iter().find(|name| !release.config.data.contains_key(name))?;
        Some(KeptFiles { name, days: days(release.config.backup.files) })
    }

    /// The databases of an app that are set up and kept.
    pub(super) fn kept_stores(&self, key: &AppKey) -> Vec<ServiceName> {
        let host = self.host.borrow();
        let stores = host.apps.get(key).map(|app| &app.stores);
        let kept = stores.into_iter().flatten().filter(|(name, store)| {
            store.initialised && store.kept(key, name, &self.layout.store(key, name)).is_some()
        });
        kept.map(|(name, _)| name.clone()).collect()
    }

    /// For each app that has a database or a Redis that runs, or writes to folders.
    fn kept_worlds(&self) -> BTreeMap<AppKey, KeepWorld> {
        let (host, apps) = (self.host.borrow(), self.apps.borrow());
        let wanted = host.apps.iter().filter(|(_, remembered)| remembered.wanted);
        let world = |(key, remembered): (&AppKey, &AppState)| {
            let app: &App = apps.get(key)?;
            let release = remembered.current.as_ref().and_then(|id| app.releases.get(id));
            let backup = release.map(|release| release.config.backup.clone()).unwrap_or_default();
            let stores = remembered.stores.iter().filter(|(_, store)| store.initialised);
            let mut world = KeepWorld {
                key: key.clone(),
                stores: stores
                    .filter_map(|(name, store)| store.kept(key, name, &self.layout.store(key, name)))
                    .collect(),
                at: backup.at.parts(),
                days: days(backup.keep),
                assertions: backup.assert.iter().map(ToString::to_string).collect(),
                anonymise: backup.anonymise.iter().map(ToString::to_string).collect(),
                second: release.and_then(|release| second(release, self.second.as_deref())),
                synchronous: backup.synchronous,
                files: release.and_then(|release| self.kept_files(key, release)),
                redis: kept_redis(remembered, days(backup.files)),
                dumps: Vec::new(),
            };
            world.dumps = kept_dumps(&world, release.map(Rc::as_ref));
            let is_any = !world.stores.is_empty()
                || world.files.is_some()
                || !world.redis.is_empty()
                || !world.dumps.is_empty();
            is_any.then(|| (key.clone(), world))
        };
        wanted.filter_map(world).collect()
    }
}

fn has_redis(app: &AppState) -> bool {
    app.stores.values().any(|store| store.engine == Engine::Redis)
}

/// A copy of a Redis is as large as the Redis, which may use half of the machine.
fn memory_with_redis() -> ByteSize {
    let half = half_of_the_machine().map_or(0, |half| half.0);
    ByteSize(MEMORY.0.max(half))
}

/// Each Redis of an app that is set up.
fn kept_redis(app: &AppState, days: u32) -> Vec<KeptRedis> {
    let memory = memory_with_redis().0.saturating_sub(BESIDE);
    let stores = app.stores.iter().filter(|(_, store)| store.initialised);
    stores.filter_map(|(name, store)| store.kept_redis(name, memory, days)).collect()
}

/// Each PostgreSQL that runs elsewhere, and each that klar runs once more, as long as any second of it is kept.
fn kept_dumps(world: &KeepWorld, release: Option<&Release>) -> Vec<KeptDump> {
    let Some(release) = release else { return Vec::new() };
    let data = &release.config.data;
    let elsewhere = data.iter().filter_map(|(name, store)| match (&store.place, store.engine) {
        (klar_config::Place::Url(reference), klar_config::Engine::Postgres) => {
            let url = release.secrets.get(&reference.to_string())?.clone();
            // What is neither is taken for this one in `klar.toml`, too.
            let is_it = ["postgres://", "postgresql://"]
                .iter()
                .any(|start| url.expose().trim_start().starts_with(start));
            is_it.then_some(())?;
            Some(KeptDump { name: name.clone(), of: DumpOf::Url(url), days: world.days })
        }
        _ => None,
    });
    let managed = world.stores.iter().filter_map(|store| {
        // A store may have the name.
        let names = ["dump", "weekly-dump"].into_iter().filter_map(|end| {
            let name = ServiceName::new(format!("{}-{end}", store.name)).ok()?;
            (!data.contains_key(&name) && world.files.as_ref().is_none_or(|files| files.name != name))
                .then_some(name)
        });
        let of = DumpOf::Managed {
            host: store.host.clone(),
            port: store.port,
            user: store.user.clone(),
            password: store.password.clone(),
        };
        Some(KeptDump { name: names.into_iter().next()?, of, days: world.days })
    });
    elsewhere.chain(managed).collect()
}

fn days(period: Period) -> u32 {
    u32::try_from(period.0.as_secs() / 86_400).unwrap_or(u32::MAX)
}

/// Where all of it is kept once more, with what came with the release; in a rig, at a place of its own.
fn second(release: &Release, of_rig: Option<&str>) -> Option<SecondPlace> {
    let backup = &release.config.backup;
    if let Some(place) = of_rig.filter(|_| backup.offsite.is_some()) {
        return Some(SecondPlace { place: place.to_owned(), key: None });
    }
    let reference = backup.offsite_key.clone().map(String::from);
    let key = reference.and_then(|reference| release.secrets.get(&reference).cloned());
    Some(SecondPlace { place: backup.offsite.as_ref()?.to_string(), key })
}

fn open_door(layout: &Layout, key: &AppKey) -> io::Result<UnixListener> {
    let path = layout.keep_socket(key);
    std::fs::create_dir_all(path.parent().unwrap_or(layout.root()))?;
    match std::fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    UnixListener::bind(&path)
}
