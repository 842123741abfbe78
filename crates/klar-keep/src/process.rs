//! The process that keeps an app's data: what the core tells it, what people ask of it.
//!
//! It ends when the core's socket closes. Whoever may ask is told by the kernel: the user at the other end of the socket.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use klar_base::keep::{
    Ask, DumpOf, Dumps, FromKeep, KeepWorld, KeptDump, KeptRedis, KeptStatus, KeptStore, ToKeep, Told,
};
use klar_base::{Hint, ServiceName, wire};
use nix::sys::socket::{getsockopt, sockopt};

use crate::answer::{self, Answering, Copies};
use crate::drill::Assertion;
use crate::dump;
use crate::files::{self, FilesKeeper};
use crate::keeper::{Event, KeepError, Keeper, Settings, Wishes};
use crate::redis;
use crate::server::{Door, Programs, Source};

/// How often the core hears how it stands, where that has changed.
const STATUS: Duration = Duration::from_secs(1);
/// Questions at once.
const QUESTIONS_MAX: usize = 16;
/// The core begins to read within this.
const READING: Duration = Duration::from_secs(30);
/// Whoever reads says something within this.
const SILENT: Duration = Duration::from_secs(300);
/// A question is asked within this.
const ASKING: Duration = Duration::from_secs(10);
/// After so long, what is not known to be kept is not kept.
const SETTLED: Duration = Duration::from_secs(60);

/// How the process is started.
#[derive(Debug, Clone)]
pub struct Options {
    /// The app's folder: a folder for each store in it.
    pub folder: PathBuf,
    /// Users who may ask.
    pub allowed: Vec<u32>,
}

/// All keepers of an app, and what was made for people.
pub(crate) struct Keepers {
    options: Options,
    control: UnixStream,
    writing: Mutex<()>,
    all: Mutex<BTreeMap<ServiceName, Kept>>,
    pub(crate) copies: Copies,
    /// The app's folders, each Redis, each dump.
    files: Mutex<BTreeMap<ServiceName, KeptFiles>>,
    readings: Arc<Readings>,
    questions: AtomicUsize,
    /// The core has said what there is.
    knows: AtomicBool,
    begun: Instant,
}

struct KeptFiles {
    what: What,
    keeper: Result<Arc<FilesKeeper>, KeepError>,
}

/// What is kept as files are.
#[derive(Debug, Clone, PartialEq, Eq)]
enum What {
    /// The app's folders.
    Folders,
    Redis(KeptRedis),
    Dump(KeptDump),
}

/// Readings of the app's folders that the core has begun.
#[derive(Default)]
struct Readings {
    came: Mutex<Reading>,
    changed: Condvar,
}

#[derive(Default)]
enum Reading {
    #[default]
    None,
    Came(UnixStream),
    /// The core is gone: there will be no other one.
    Never,
}

impl Readings {
    fn put(&self, reading: Reading) {
        let mut came = self.came.lock().unwrap_or_else(PoisonError::into_inner);
        if !matches!(*came, Reading::Never) {
            *came = reading;
        }
        self.changed.notify_all();
    }

    /// Waits for the next one.
    fn take(&self) -> io::Result<UnixStream> {
        let came = self.came.lock().unwrap_or_else(PoisonError::into_inner);
        let waits = |came: &mut Reading| matches!(came, Reading::None);
        let waited = self.changed.wait_timeout_while(came, READING, waits);
        let (mut came, _) = waited.unwrap_or_else(PoisonError::into_inner);
        match std::mem::take(&mut *came) {
            Reading::Came(stream) => {
                stream.set_read_timeout(Some(SILENT))?;
                Ok(stream)
            }
            last => {
                *came = last;
                Err(io::Error::other("klar core does not read them"))
            }
        }
    }
}

struct Kept {
    told: KeptStore,
    keeper: Result<Arc<Keeper>, KeepError>,
}

/// Runs until the core closes its end.
///
/// # Errors
/// The core says something that cannot be understood.
pub fn run(control: UnixStream, listener: UnixListener, options: Options) -> io::Result<()> {
    let keepers = Arc::new(Keepers {
        options,
        control: control.try_clone()?,
        writing: Mutex::default(),
        all: Mutex::default(),
        copies: Copies::default(),
        files: Mutex::default(),
        readings: Arc::default(),
        questions: AtomicUsize::new(0),
        knows: AtomicBool::new(false),
        begun: Instant::now(),
    });
    // Copies of a process before this one: nobody can ask for them any more.
    for store in std::fs::read_dir(&keepers.options.folder).into_iter().flatten().flatten() {
        let _ = std::fs::remove_dir_all(store.path().join("work"));
    }
    let (tells, hears) = (keepers.clone(), keepers.clone());
    std::thread::Builder::new().name("status".into()).spawn(move || tells.tell_status())?;
    std::thread::Builder::new().name("questions".into()).spawn(move || hears.listen(&listener))?;
    while let Some((message, mut descriptors)) = wire::receive::<ToKeep>(&control)? {
        match message {
            ToKeep::World(world) => keepers.learn(*world),
            ToKeep::Files => {
                let stream = descriptors.pop().map(UnixStream::from);
                keepers.readings.put(stream.map_or(Reading::None, Reading::Came));
            }
        }
    }
    keepers.readings.put(Reading::Never);
    keepers.copies.clear();
    // Each one ends what it has begun: receivers, servers.
    let all = std::mem::take(&mut *keepers.all());
    drop(all);
    let files = std::mem::take(&mut *keepers.kept_files());
    drop(files);
    Ok(())
}

impl Keepers {
    fn all(&self) -> MutexGuard<'_, BTreeMap<ServiceName, Kept>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn learn(self: &Arc<Self>, world: KeepWorld) {
        let mut gone = Vec::new();
        {
            let mut all = self.all();
            let is_same = |kept: &Kept| world.stores.contains(&kept.told) && kept.keeper.is_ok();
            let others: Vec<ServiceName> =
                all.iter().filter(|(_, kept)| !is_same(kept)).map(|(name, _)| name.clone()).collect();
            gone.extend(others.iter().filter_map(|name| all.remove(name)));
        }
        // Each ends what it has begun: meanwhile others can be asked.
        drop(gone);
        for told in &world.stores {
            let wishes = wishes(&world, told);
            let known = self.all().get(&told.name).and_then(|kept| kept.keeper.as_ref().ok().cloned());
            if let Some(keeper) = known {
                keeper.wish(wishes);
                continue;
            }
            let second_name = format!("{}/{}", world.key, told.name);
            let keeper = self.begin(told, wishes, second_name);
            if let Err(error) = &keeper {
                eprintln!("klar keep: {}: {error}", told.name);
            }
            self.all().insert(told.name.clone(), Kept { told: told.clone(), keeper });
        }
        self.learn_files(&world);
        self.knows.store(true, Ordering::Release);
    }

    fn kept_files(&self) -> MutexGuard<'_, BTreeMap<ServiceName, KeptFiles>> {
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn learn_files(self: &Arc<Self>, world: &KeepWorld) {
        let folders = world.files.iter().map(|files| (&files.name, files.days, What::Folders));
        let redis = world.redis.iter().map(|redis| (&redis.name, redis.days, What::Redis(redis.clone())));
        let dumps = world.dumps.iter().map(|dump| (&dump.name, dump.days, What::Dump(dump.clone())));
        let wanted: Vec<_> = folders.chain(redis).chain(dumps).collect();
        let mut gone = Vec::new();
        {
            let mut all = self.kept_files();
            let is_same = |(name, kept): &(&ServiceName, &KeptFiles)| {
                let mut wanted = wanted.iter();
                kept.keeper.is_ok() && wanted.any(|(of, _, what)| (*of, what) == (*name, &kept.what))
            };
            let others = all.iter().filter(|kept| !is_same(kept)).map(|(name, _)| name.clone());
            let others: Vec<ServiceName> = others.collect();
            gone.extend(others.iter().filter_map(|name| all.remove(name)));
        }
        drop(gone);
        for (name, days, what) in wanted {
            let wishes = files::Wishes { at: world.at, days, second: world.second.clone() };
            let known = self.kept_files().get(name).and_then(|kept| kept.keeper.as_ref().ok().cloned());
            if let Some(keeper) = known {
                keeper.wish(wishes);
                continue;
            }
            let source = match &what {
                What::Folders => self.folders(),
                What::Redis(redis) => files::Source::Redis(redis::Source::new(redis.clone())),
                What::Dump(dump) => files::Source::Dump(Box::new(dump::Source::new(dump.clone()))),
            };
            let keeper = self.begin_files(name, wishes, source, &folder_of(name, &what), world);
            if let Err(error) = &keeper {
                eprintln!("klar keep: {name}: {error}");
            }
            self.kept_files().insert(name.clone(), KeptFiles { what, keeper });
        }
    }

    /// The app's folders, which the core has read.
    fn folders(self: &Arc<Self>) -> files::Source {
        let (asks, readings) = (Arc::downgrade(self), self.readings.clone());
        files::Source::Folders(Box::new(move || {
            // What came for somebody who has given up is nobody's.
            readings.put(Reading::None);
            if let Some(keepers) = asks.upgrade() {
                keepers.tell(&FromKeep::ReadFiles);
            }
            readings.take()
        }))
    }

    fn begin_files(
        self: &Arc<Self>,
        name: &ServiceName,
        wishes: files::Wishes,
        source: files::Source,
        folder: &str,
        world: &KeepWorld,
    ) -> Result<Arc<FilesKeeper>, KeepError> {
        let home = self.options.folder.join(folder);
        let second_name = format!("{}/{folder}", world.key);
        let settings = files::Settings { name: name.clone(), home, host: host(), second_name };
        let (core, store) = (Arc::downgrade(self), name.clone());
        let tell = move |event: files::Event| {
            let Some(core) = core.upgrade() else { return };
            let (kind, id, payload) = match event {
                files::Event::Point(mut point) => {
                    // Which tables there are is not the ledger's business, and there may be many.
                    if let Some(dump) = &mut point.read.dump {
                        dump.tables.clear();
                    }
                    ("point", point.id.clone(), serde_json::to_value(&*point))
                }
                files::Event::Proof(proof) => ("proof", proof.point.clone(), serde_json::to_value(&*proof)),
                // The core starts it again, on what lies ready.
                files::Event::Replaced => std::process::exit(0),
            };
            let (kind, payload) = (kind.to_owned(), payload.unwrap_or_default());
            core.tell(&FromKeep::Entry { kind, subject: format!("{store}/{id}"), payload });
        };
        Ok(Arc::new(FilesKeeper::start(settings, wishes, source, Box::new(tell))?))
    }

    pub(crate) fn every_files(&self) -> Vec<Arc<FilesKeeper>> {
        self.kept_files().values().filter_map(|kept| kept.keeper.as_ref().ok().cloned()).collect()
    }

    /// What keeps the app's folders, a Redis or a dump, where that is meant: it has this name, or no database is kept to any
    /// second. Then a database that is dumped comes first, and then the folders.
    pub(crate) fn files(&self, store: Option<&ServiceName>) -> Result<Option<Arc<FilesKeeper>>, KeepError> {
        let is_alone = self.all().is_empty();
        let all = self.kept_files();
        let kept = match store {
            Some(name) => all.get(name),
            None if !is_alone => None,
            None => {
                let mut dumps = all.values().filter(|kept| matches!(kept.what, What::Dump(_)));
                let dump = dumps.next().filter(|_| dumps.next().is_none());
                let folders = || all.values().find(|kept| kept.what == What::Folders);
                dump.or_else(folders).or_else(|| all.values().next().filter(|_| all.len() == 1))
            }
        };
        let Some(kept) = kept else {
            if is_alone && store.is_none() && all.len() > 1 {
                let names: Vec<String> = all.keys().map(|name| format!("`{name}`")).collect();
                let hint = format!("name one of them: {}", names.join(", "));
                return Err(KeepError::Lack { what: "several stores are kept".into(), hint });
            }
            return Ok(None);
        };
        match &kept.keeper {
            Ok(keeper) => Ok(Some(keeper.clone())),
            Err(error) => {
                Err(KeepError::Lack { what: error.to_string(), hint: error.hint().unwrap_or_default() })
            }
        }
    }

    fn begin(
        self: &Arc<Self>,
        told: &KeptStore,
        wishes: Wishes,
        second_name: String,
    ) -> Result<Arc<Keeper>, KeepError> {
        let door = Door {
            host: told.host.clone(),
            port: told.port,
            user: told.user.clone(),
            password: Some(told.password.clone()),
            database: "postgres".into(),
        };
        let settings = Settings {
            name: told.name.clone(),
            source: Source {
                door,
                data: Some(told.data.clone()),
                programs: Programs { folder: told.programs.clone(), server: owner(&told.data) },
            },
            database: told.database.clone(),
            home: self.options.folder.join(told.name.to_string()),
            host: host(),
            second_name,
            wishes,
        };
        let (core, store) = (Arc::downgrade(self), told.name.clone());
        let tell = move |event: Event| {
            let Some(core) = core.upgrade() else { return };
            match entry(&store, event) {
                Some(entry) => core.tell(&entry),
                // The core starts it again, on what lies ready.
                None => std::process::exit(0),
            }
        };
        Ok(Arc::new(Keeper::start(settings, Box::new(tell))?))
    }

    fn tell(&self, message: &FromKeep) {
        let _one = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        // A core that is gone needs no word; the main loop sees it.
        let _ = wire::send(&self.control, message, &[]);
    }

    fn tell_status(&self) {
        let mut before = None;
        loop {
            let stores = self.statuses();
            if before.as_ref() != Some(&stores) {
                self.tell(&FromKeep::Status { stores: stores.clone() });
                before = Some(stores);
            }
            std::thread::sleep(STATUS);
        }
    }

    fn statuses(&self) -> Vec<KeptStatus> {
        let all = self.all();
        let of = |(name, kept): (&ServiceName, &Kept)| match &kept.keeper {
            Ok(keeper) => keeper.status(),
            Err(error) => nothing(name, error),
        };
        let mut files: Vec<KeptStatus> = self
            .kept_files()
            .iter()
            .map(|(name, kept)| match &kept.keeper {
                Ok(keeper) => keeper.status(),
                Err(error) => nothing(name, error),
            })
            .collect();
        // The app's folders first.
        files.sort_by_key(|status| (status.redis, status.dumps == Some(Dumps::Weekly)));
        all.iter().map(of).chain(files).collect()
    }

    fn listen(self: &Arc<Self>, listener: &UnixListener) {
        for stream in listener.incoming().flatten() {
            if self.questions.fetch_add(1, Ordering::AcqRel) >= QUESTIONS_MAX || !self.may_ask(&stream) {
                self.questions.fetch_sub(1, Ordering::AcqRel);
                continue;
            }
            let keepers = self.clone();
            let spawned = std::thread::Builder::new().name("question".into()).spawn(move || {
                keepers.hear(&stream);
                keepers.questions.fetch_sub(1, Ordering::AcqRel);
            });
            if spawned.is_err() {
                self.questions.fetch_sub(1, Ordering::AcqRel);
            }
        }
    }

    fn may_ask(&self, stream: &UnixStream) -> bool {
        let peer = getsockopt(&stream.as_fd(), sockopt::PeerCredentials);
        peer.is_ok_and(|peer| self.options.allowed.contains(&peer.uid()))
    }

    fn hear(self: &Arc<Self>, stream: &UnixStream) {
        let _ = stream.set_read_timeout(Some(ASKING));
        let _ = stream.set_write_timeout(Some(ASKING));
        let Ok(Some((ask, _))) = wire::receive::<Ask>(stream) else { return };
        // Just after the start, or a release, nobody has said yet what there is.
        let begun = Instant::now();
        while !self.has(answer::store_of(&ask)) && begun.elapsed() < ASKING {
            std::thread::sleep(Duration::from_millis(20));
        }
        let answer = Answering { keepers: self, stream }.answer(ask);
        let told =
            answer.unwrap_or_else(|error| Told::Failed { what: error.to_string(), hint: error.hint() });
        let _ = wire::send(stream, &told, &[]);
    }

    /// Whether it was said what there is, and that is among it.
    fn has(&self, store: Option<&ServiceName>) -> bool {
        let is_there =
            |name: &ServiceName| self.all().contains_key(name) || self.kept_files().contains_key(name);
        let is_settled = self.begun.elapsed() > SETTLED;
        self.knows.load(Ordering::Acquire) && (is_settled || store.is_none_or(is_there))
    }

    pub(crate) fn names(&self) -> Vec<ServiceName> {
        self.all().keys().cloned().collect()
    }

    /// The keeper of a store; where none is named there has to be exactly one.
    pub(crate) fn keeper(&self, store: Option<&ServiceName>) -> Result<Arc<Keeper>, KeepError> {
        let all = self.all();
        let names = || {
            let names: Vec<String> = all.keys().map(|name| format!("`{name}`")).collect();
            names.join(", ")
        };
        let lack = |what: String, hint: String| KeepError::Lack { what, hint };
        let kept = match (store, all.len()) {
            (Some(store), _) => all.get(store).ok_or_else(|| {
                lack(format!("`{store}` is not kept"), format!("those that are: {}", names()))
            })?,
            (None, 1) => all.values().next().ok_or(KeepError::NotStreaming(None))?,
            (None, 0) => {
                let hint = "`[data.db] postgres = \"managed\"` in klar.toml makes one that is";
                return Err(lack("this app has no database that is kept".into(), hint.into()));
            }
            (None, _) => {
                return Err(lack(
                    "several databases are kept".into(),
                    format!("name one of them: {}", names()),
                ));
            }
        };
        match &kept.keeper {
            Ok(keeper) => Ok(keeper.clone()),
            Err(error) => Err(lack(error.to_string(), error.hint().unwrap_or_default())),
        }
    }
}

/// Its folder. A database that has moved from one that klar runs, or the other way, begins another repository.
fn folder_of(name: &ServiceName, what: &What) -> String {
    match what {
        What::Dump(KeptDump { of: DumpOf::Url(_), .. }) => format!("{name}.dump"),
        _ => name.to_string(),
    }
}

/// The status of what cannot be kept.
fn nothing(name: &ServiceName, error: &KeepError) -> KeptStatus {
    KeptStatus {
        store: name.to_string(),
        doing: "nothing".into(),
        trouble: Some(error.to_string()),
        hint: error.hint(),
        ..KeptStatus::default()
    }
}

fn host() -> String {
    nix::unistd::gethostname().map_or_else(|_| "host".into(), |name| name.to_string_lossy().into_owned())
}

fn wishes(world: &KeepWorld, told: &KeptStore) -> Wishes {
    let assertion = |sql: &String| Assertion { database: told.database.clone(), sql: sql.clone() };
    Wishes {
        at: world.at,
        days: world.days,
        assertions: world.assertions.iter().map(assertion).collect(),
        // Those that cannot be read are missing then, and what they are about is not handed out.
        anonymise: world.anonymise.iter().filter_map(|rule| rule.parse().ok()).collect(),
        second: world.second.clone(),
        synchronous: world.synchronous,
    }
}

/// PostgreSQL refuses to run as root: where this process does, copies run as whoever the original runs as.
fn owner(data: &Path) -> Option<(u32, u32)> {
    let owner = std::fs::metadata(data).ok().filter(|_| nix::unistd::geteuid().is_root())?;
    Some((owner.uid(), owner.gid()))
}

/// What belongs in the ledger.
fn entry(store: &ServiceName, event: Event) -> Option<FromKeep> {
    let (kind, id, payload) = match event {
        Event::Point(point) => {
            // Which tables there are is not the ledger's business; that they were written down is.
            let tables = point.witness.as_ref().map(|witness| witness.tables.len());
            let payload = serde_json::json!({
                "point": point.id, "snapshot": point.snapshot, "tree": point.tree, "timeline": point.timeline,
                "start": point.start, "stop": point.stop, "files": point.files, "bytes": point.bytes,
                "added": point.added, "tables": tables,
            });
            ("point", point.id, payload)
        }
        Event::Proof(proof) => {
            ("proof", proof.point.clone(), serde_json::to_value(&*proof).unwrap_or_default())
        }
        Event::Replaced => return None,
    };
    Some(FromKeep::Entry { kind: kind.into(), subject: format!("{store}/{id}"), payload })
}
