//! What an app writes to its folders, kept a second time: all of it once a day, and each of these points put into an empty
//! folder and compared.
//!
//! ```text
//! reader.rs   the app's folders ─► archive       in a process of the app's own user, which the core starts
//! mod.rs      archive ─► repository ─► point ─► an empty folder ─► proof
//! back.rs     an empty folder ─► proof
//! walk.rs     the digest that both sides come to
//! rehearse.rs some days of a simulated clock
//! ```
//!
//! Nothing of the content is understood here: databases are looked through where they are read. A Redis is kept in the same
//! way: its snapshot is a file that comes from [`crate::redis`], and a point each hour in which something was written.

mod back;
pub mod reader;
mod rehearse;
mod walk;

use std::fs;
use std::io::{self, BufReader, Read};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use jiff::{Timestamp, Zoned};
use klar_base::keep::{
    DumpOf, Dumps, Elsewhere, KeptStatus, Moment, Rehearsed, SecondPlace, SecondStatus, Told,
};
use klar_base::{Hint, ServiceName};
use klar_repo::{BackupOptions, Compared, Folder, Id, Metadata, Mirror, Pieces, Repository};
use klar_store::{KeyId, SigningKey};
use serde::{Deserialize, Serialize};

use crate::dump;
use crate::harm::{Harm, Harmed};
use crate::keeper::adopt::{self, Other};
use crate::keeper::second::Sender;
use crate::keeper::{ESCROW, KeepError, last_time, last_week, open, password, size};
use crate::point::{AnyPoint, Outcome, PointId, Points, Proof};
use crate::redis;
use crate::restore::{RestoringError, enough_space};
use crate::retain::{self, AHEAD, Rhythm};

use back::{of, restored};
pub use reader::Summary;
use reader::{FILES, SUMMARY};

/// How often it is looked whether something is due.
const LOOK: Duration = Duration::from_secs(2);
/// How often the second place is brought up to date where nothing was taken.
const SEND: Duration = Duration::from_secs(3600);
/// After something that came to nothing.
const AGAIN: Duration = Duration::from_secs(300);
/// A Redis may just be starting: it is tried again this soon at first, and then each time after twice as long.
const SOON: Duration = Duration::from_secs(5);
/// What says what was read is not longer.
const SUMMARY_MAX: u64 = 1 << 20;
/// No more days are simulated.
const REHEARSED_MAX: u32 = 40;
/// The second place is restored from once a week.
const WEEK: i64 = 7 * 24 * 3600;

/// What is kept, and where.
#[derive(Debug, Clone)]
pub struct Settings {
    /// What it is called among the app's stores.
    pub name: ServiceName,
    /// Its own folder.
    pub home: PathBuf,
    /// The machine's name, for the repository.
    pub host: String,
    /// Where it is within a second place.
    pub second_name: String,
}

/// What `[backup]` asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wishes {
    /// When it is due each day, by the host's clock.
    pub at: (u8, u8),
    /// So many daily points stay.
    pub days: u32,
    /// Where all of it is kept once more.
    pub second: Option<SecondPlace>,
}

/// All files of one day.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FilesPoint {
    /// 1.
    pub format: u32,
    /// Names it.
    pub id: PointId,
    /// When reading began; what was there then and did not change is in it.
    pub begun: Timestamp,
    /// When it ended.
    pub stopped: Timestamp,
    /// The files.
    pub snapshot: Id,
    /// A digest over all of them.
    pub tree: Id,
    /// Bytes that the repository grew by.
    pub added: u64,
    /// What was read, as the reader says.
    pub read: Summary,
}

impl AnyPoint for FilesPoint {
    fn format(&self) -> u32 {
        self.format
    }

    fn id(&self) -> &PointId {
        &self.id
    }

    fn stopped(&self) -> Timestamp {
        self.stopped
    }

    fn snapshot(&self) -> Id {
        self.snapshot
    }

    fn tree(&self) -> Id {
        self.tree
    }

    fn sizes(&self) -> (u64, u64) {
        (self.read.bytes, self.added)
    }
}

/// What is told outside.
#[derive(Debug, Clone)]
pub enum Event {
    /// A point was published.
    Point(Box<FilesPoint>),
    /// A point was put into an empty folder and compared.
    Proof(Box<Proof>),
    /// Another repository is ready to take the place of its own.
    Replaced,
}

/// Has the app's folders read, and gives where that comes in.
pub type Hand = Box<dyn Fn() -> io::Result<UnixStream> + Send + Sync>;

/// What is kept.
pub enum Source {
    /// The app's folders.
    Folders(Hand),
    /// A Redis, whose snapshot is the only file.
    Redis(redis::Source),
    /// A PostgreSQL, dumped.
    Dump(Box<dump::Source>),
}

impl Source {
    fn what(&self) -> &'static str {
        match self {
            Self::Folders(_) => "the app's folders",
            Self::Redis(_) => "Redis",
            Self::Dump(_) => "the database",
        }
    }
}

/// A keeper of an app's files; dropped, it ends.
pub struct FilesKeeper {
    inner: Arc<Inner>,
    thread: Option<JoinHandle<()>>,
}

struct Inner {
    settings: Settings,
    repository: Repository,
    key: SigningKey,
    trusted: Vec<KeyId>,
    source: Source,
    tell: Box<dyn Fn(Event) + Send + Sync>,
    shared: Mutex<Shared>,
    changed: Condvar,
    /// Held by whoever takes a point, compares or reads again: one at a time.
    work: Mutex<()>,
    is_over: AtomicBool,
}

struct Shared {
    wishes: Wishes,
    doing: Option<String>,
    known: KeptStatus,
    /// Where a Redis stood when the newest point was taken.
    mark: Option<String>,
    /// Counts what was written to the repository.
    state: u64,
    /// When the second place had all that is here.
    sent: Option<(SecondPlace, Timestamp)>,
    trouble: Option<(String, Option<String>)>,
    second_trouble: Option<(String, Option<String>)>,
}

impl FilesKeeper {
    /// Opens the repository, or makes it, and begins.
    ///
    /// # Errors
    /// The repository or a key cannot be read or made.
    pub fn start(
        settings: Settings,
        wishes: Wishes,
        source: Source,
        tell: Box<dyn Fn(Event) + Send + Sync>,
    ) -> Result<Self, KeepError> {
        let inner = Arc::new(Inner::open(settings, wishes, source, tell)?);
        let runs = inner.clone();
        let path = inner.settings.home.clone();
        let thread = std::thread::Builder::new().name("files".into()).spawn(move || runs.run());
        let thread = Some(thread.map_err(|source| KeepError::File { path, source })?);
        Ok(Self { inner, thread })
    }

    /// Something else is wished for from now on.
    pub fn wish(&self, wishes: Wishes) {
        self.inner.shared().wishes = wishes;
        self.inner.changed.notify_all();
    }

    /// How it stands.
    #[must_use]
    pub fn status(&self) -> KeptStatus {
        self.inner.status()
    }

    /// The Redis that it keeps, where it is one.
    #[must_use]
    pub fn redis(&self) -> Option<&redis::Source> {
        self.inner.redis()
    }

    /// The PostgreSQL that it dumps, where it is one.
    #[must_use]
    pub fn dump(&self) -> Option<&dump::Source> {
        self.inner.dump()
    }

    /// What it keeps.
    #[must_use]
    pub fn settings(&self) -> &Settings {
        &self.inner.settings
    }

    /// The repository.
    #[must_use]
    pub fn repository(&self) -> &Repository {
        &self.inner.repository
    }

    /// All points.
    ///
    /// # Errors
    /// The repository cannot be listed.
    pub fn points(&self) -> Result<Points<FilesPoint>, KeepError> {
        Ok(Points::read(&self.inner.repository, &self.inner.trusted)?)
    }

    /// Takes a point now and compares it.
    ///
    /// # Errors
    /// What was wrong first.
    pub fn now(&self, progress: &mut dyn FnMut(&str, u64, u64)) -> Result<Proof, KeepError> {
        self.inner.point(progress)
    }

    /// Puts a point, the newest where none is named, into an empty folder, compares it, and publishes what was found.
    ///
    /// # Errors
    /// There is no such point, or the repository cannot be read.
    pub fn drill(
        &self,
        point: Option<&PointId>,
        escrow: Option<&str>,
        second: bool,
    ) -> Result<Proof, KeepError> {
        let _alone = self.inner.alone();
        self.inner.drill(point, escrow, second)
    }

    /// Waits until nobody else takes a point, drills or prunes, and keeps others from it.
    pub(crate) fn alone(&self) -> MutexGuard<'_, ()> {
        self.inner.alone()
    }

    /// Adds a password that opens the repository without this machine.
    ///
    /// # Errors
    /// The storage, or a password that is empty.
    pub fn escrow(&self, password: &str) -> Result<(), KeepError> {
        let second = self.inner.second_place().ok();
        let done = self.inner.sender().escrow(password, second.as_ref());
        self.inner.learn();
        done
    }

    /// Puts the files of a moment into a folder, which is empty or not there, and gives the point they are of.
    ///
    /// # Errors
    /// There is nothing of that moment; the disk.
    pub fn bring_back(
        &self,
        moment: &Moment,
        from: Option<&Elsewhere>,
        folder: &Path,
    ) -> Result<FilesPoint, KeepError> {
        let inner = &self.inner;
        let other = from.map(|from| inner.other(from)).transpose()?;
        let (repository, trusted) = match &other {
            Some(other) => (&other.repository, &other.trusted),
            None => (&inner.repository, &inner.trusted),
        };
        let points = Points::<FilesPoint>::read(repository, trusted)?;
        let point = of(&points, moment)?.clone();
        enough_space(&inner.settings.home, point.read.bytes)?;
        restored(repository, &point, folder)?;
        Ok(point)
    }

    /// The point that a moment is restored from.
    ///
    /// # Errors
    /// As [`FilesKeeper::bring_back`].
    pub fn plan(&self, moment: &Moment, from: Option<&Elsewhere>) -> Result<FilesPoint, KeepError> {
        match from {
            None => Ok(of(&self.points()?, moment)?.clone()),
            Some(from) => {
                let other = self.inner.other(from)?;
                Ok(of(&Points::read(&other.repository, &other.trusted)?, moment)?.clone())
            }
        }
    }

    /// The repository that was restored from becomes its own: fetches it, after which this process has to start again.
    ///
    /// # Errors
    /// It cannot be fetched as a whole.
    pub fn adopt(&self, from: &Elsewhere) -> Result<(), KeepError> {
        self.fetch(from)?;
        (self.inner.tell)(Event::Replaced);
        Ok(())
    }

    /// The same, without a start.
    pub(crate) fn fetch(&self, from: &Elsewhere) -> Result<(), KeepError> {
        let _alone = self.inner.alone();
        let Settings { home, second_name, .. } = &self.inner.settings;
        self.inner.doing(Some("fetching the repository that was restored from".to_owned()));
        let fetched = adopt::fetch(from, second_name, home);
        self.inner.doing(None);
        fetched
    }

    /// Whether a view of the repository that does harm is noticed.
    ///
    /// # Errors
    /// There is no point yet.
    pub(crate) fn notices(&self, harm: Harm) -> Result<bool, KeepError> {
        let inner = &self.inner;
        let storage = Harmed::new(Folder::new(&inner.settings.home.join("repository")), harm);
        let repository = Repository::open(Arc::new(storage), &inner.password()?)?;
        let points = self.points()?;
        let Some(point) = points.points.values().next_back() else { return Ok(false) };
        let folder = inner.settings.home.join("work/verify");
        let _ = fs::remove_dir_all(&folder);
        let read = restored(&repository, point, &folder);
        let _ = fs::remove_dir_all(&folder);
        Ok(read.is_err())
    }

    /// Compares both places.
    ///
    /// # Errors
    /// There is no second one, or one of both cannot be listed.
    pub(crate) fn compare(&self) -> Result<(String, Compared), KeepError> {
        let place = self.inner.second_place()?;
        Ok((place.place.clone(), self.inner.sender().compare(&place)?))
    }

    /// Keeps other files for more days than it keeps these, by a simulated clock.
    ///
    /// # Errors
    /// The disk.
    pub(crate) fn rehearse(&self) -> Result<Rehearsed, KeepError> {
        // Each day of it takes half a second.
        let days = self.inner.shared().wishes.days.min(REHEARSED_MAX);
        rehearse::rehearse(days, &self.work().join("rehearsal"))
    }

    /// What can be seen of the second place.
    ///
    /// # Errors
    /// There is none, or it cannot be listed.
    pub(crate) fn look_at_second(&self) -> Result<Told, KeepError> {
        self.inner.sender().look(&self.inner.second_place()?)
    }

    /// Where copies are put.
    #[must_use]
    pub fn work(&self) -> PathBuf {
        self.inner.settings.home.join("work")
    }
}

impl Drop for FilesKeeper {
    fn drop(&mut self) {
        self.inner.is_over.store(true, Ordering::Release);
        self.inner.changed.notify_all();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Inner {
    fn open(
        settings: Settings,
        wishes: Wishes,
        source: Source,
        tell: Box<dyn Fn(Event) + Send + Sync>,
    ) -> Result<Self, KeepError> {
        let home = &settings.home;
        adopt::settle(home).map_err(|source| KeepError::File { path: home.clone(), source })?;
        let (repository, key) = open(home)?;
        let mut trusted = adopt::trusted(home)?;
        trusted.push(key.id());
        let shared = Shared {
            wishes,
            doing: None,
            known: KeptStatus::default(),
            mark: None,
            state: 0,
            sent: None,
            trouble: None,
            second_trouble: None,
        };
        let inner = Self {
            settings,
            repository,
            key,
            trusted,
            source,
            tell,
            shared: Mutex::new(shared),
            changed: Condvar::new(),
            work: Mutex::default(),
            is_over: AtomicBool::new(false),
        };
        inner.learn();
        Ok(inner)
    }

    fn shared(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn alone(&self) -> MutexGuard<'_, ()> {
        self.work.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_over(&self) -> bool {
        self.is_over.load(Ordering::Acquire)
    }

    fn doing(&self, what: Option<String>) {
        self.shared().doing = what;
    }

    fn password(&self) -> Result<String, KeepError> {
        let path = self.settings.home.join("repository.key");
        password(&path).map_err(|source| KeepError::File { path, source })
    }

    fn sender(&self) -> Sender<'_> {
        let Settings { home, second_name, .. } = &self.settings;
        Sender { repository: &self.repository, home, name: second_name }
    }

    fn other(&self, from: &Elsewhere) -> Result<Other, KeepError> {
        Other::open(from, &self.settings.second_name, &self.settings.home)
    }

    fn second_place(&self) -> Result<SecondPlace, KeepError> {
        self.shared().wishes.second.clone().ok_or_else(|| KeepError::Lack {
            what: "there is no second place".into(),
            hint: "`offsite` in [backup] of klar.toml names one".into(),
        })
    }

    fn redis(&self) -> Option<&redis::Source> {
        match &self.source {
            Source::Redis(redis) => Some(redis),
            _ => None,
        }
    }

    fn dump(&self) -> Option<&dump::Source> {
        match &self.source {
            Source::Dump(dump) => Some(dump),
            _ => None,
        }
    }

    fn dumps(&self) -> Option<Dumps> {
        self.dump().map(|dump| match dump.dump().of {
            DumpOf::Managed { .. } => Dumps::Weekly,
            DumpOf::Url(_) => Dumps::Daily,
        })
    }

    fn run(&self) {
        // When something came to nothing, and after how long it is tried again.
        let mut failed: Option<(Instant, Duration)> = None;
        // Which state was sent last, and when.
        let mut sent: Option<(SecondPlace, u64, Instant)> = None;
        let mut mirror: Option<(SecondPlace, Mirror)> = None;
        while !self.is_over() {
            if failed.is_none_or(|(at, pause)| at.elapsed() >= pause) && self.is_due() {
                let taken = self.point(&mut |_, _, _| {});
                let first = if self.redis().is_some() { SOON } else { AGAIN };
                let pause = failed.map_or(first, |(_, pause)| (pause * 2).min(AGAIN));
                failed = taken.is_err().then(|| (Instant::now(), pause));
                self.shared().trouble = taken.err().map(|error| (error.to_string(), error.hint()));
            }
            let (place, state) = {
                let shared = self.shared();
                (shared.wishes.second.clone(), shared.state)
            };
            let is_sent = sent.as_ref().is_some_and(|(of, what, at)| {
                Some(of) == place.as_ref() && *what == state && at.elapsed() < SEND
            });
            if let Some(place) = place.filter(|_| !is_sent) {
                let turned = self.send(&place, &mut mirror);
                // One that failed is tried again sooner.
                let waits = if turned.is_ok() { Duration::ZERO } else { SEND.saturating_sub(AGAIN) };
                sent = Some((place, state, Instant::now().checked_sub(waits).unwrap_or_else(Instant::now)));
                self.shared().second_trouble = turned.err().map(|error| (error.to_string(), error.hint()));
            }
            if !self.is_over() {
                drop(self.changed.wait_timeout(self.shared(), LOOK));
            }
        }
    }

    /// Brings the second place up to date, and once a week restores from there.
    fn send(&self, place: &SecondPlace, open: &mut Option<(SecondPlace, Mirror)>) -> Result<(), KeepError> {
        if open.as_ref().is_none_or(|(of, _)| of != place) {
            *open = Some((place.clone(), self.sender().mirror(place)?));
        }
        let Some((_, mirror)) = open else { return Ok(()) };
        let before = Timestamp::now();
        let may_remove = self.shared().known.proven_unix_ms.is_some();
        let turned = self.sender().turn(mirror, place, may_remove);
        if turned.is_err() {
            *open = None;
        }
        if turned? {
            self.shared().sent = Some((place.clone(), before));
        }
        let proven = self.status().second.and_then(|second| second.proven_unix_ms).unwrap_or_default();
        let is_due = before.as_millisecond() / 1000 - i64::try_from(proven / 1000).unwrap_or(0) > WEEK;
        if is_due && self.shared().known.points > 0 {
            let _alone = self.alone();
            let proof = self.drill(None, None, true)?;
            if let Some(bad) = proof.lack() {
                return Err(KeepError::NotProven { point: proof.point.clone(), what: bad.evidence.clone() });
            }
        }
        Ok(())
    }

    fn is_due(&self) -> bool {
        let (newest, mark, (hour, minute)) = {
            let shared = self.shared();
            (shared.known.newest_unix_ms, shared.mark.clone(), shared.wishes.at)
        };
        let ms = |time: Timestamp| u64::try_from(time.as_millisecond()).unwrap_or_default();
        let last = match self.dumps() {
            Some(Dumps::Weekly) => last_week(&Zoned::now(), hour, minute),
            _ => last_time(&Zoned::now(), hour, minute),
        };
        // One that was taken by a clock that was ahead says nothing of today.
        let by_now = ms(last)..=ms(Timestamp::now() + AHEAD);
        let Some(newest) = newest.filter(|newest| by_now.contains(newest)) else { return true };
        let age = Duration::from_millis(ms(Timestamp::now()).saturating_sub(newest));
        match (self.redis(), mark) {
            // One that cannot be asked is one that something is wrong with: taking a point says what.
            (Some(redis), Some(mark)) if age >= redis::HOUR => {
                redis.is_changed(&mark, &|| self.is_over()).unwrap_or(true)
            }
            _ => false,
        }
    }

    fn point(&self, progress: &mut dyn FnMut(&str, u64, u64)) -> Result<Proof, KeepError> {
        let _alone = self.alone();
        // Points are named, and so sorted, by the second in which they were begun.
        let newest = self.shared().known.newest_unix_ms.unwrap_or_default() / 1000;
        if u64::try_from(Timestamp::now().as_second()).is_ok_and(|now| now == newest) {
            std::thread::sleep(Duration::from_secs(1));
        }
        self.doing(Some(format!("reading {}", self.source.what())));
        let taken = self.take(None, progress).and_then(|point| {
            progress("putting it into an empty folder to compare it", 0, 0);
            self.drill(Some(&point), None, false)
        });
        self.doing(None);
        self.learn();
        let proof = taken?;
        if let Some(bad) = proof.lack() {
            let (point, what) = (proof.point.clone(), bad.evidence.clone());
            return Err(match bad.outcome {
                Outcome::Skipped => KeepError::Lack {
                    what: format!("{point} was taken, and {what}"),
                    hint: "it stays, and is not called a backup before it was loaded and compared: `klar drill restore`, \
                           once that is there"
                        .into(),
                },
                _ => KeepError::NotProven { point, what },
            });
        }
        // The one that the earliest day is restored from counts among them.
        let days = self.shared().wishes.days.saturating_sub(1);
        let rhythm = match (&self.source, self.dumps()) {
            (Source::Redis(_), _) => Rhythm::Hourly,
            (_, Some(Dumps::Weekly)) => Rhythm::Weekly,
            _ => Rhythm::Daily,
        };
        let now = Timestamp::now();
        retain::retain_files::<FilesPoint>(&self.repository, &self.trusted, days, rhythm, now)?;
        self.learn();
        Ok(proof)
    }

    /// Takes a point, of now or of a simulated time.
    fn take(
        &self,
        at: Option<Timestamp>,
        progress: &mut dyn FnMut(&str, u64, u64),
    ) -> Result<PointId, KeepError> {
        let begun = at.unwrap_or_else(Timestamp::now);
        let options = BackupOptions {
            host: self.settings.host.clone(),
            path: format!("/{}", self.settings.second_name),
            tags: vec![
                match &self.source {
                    Source::Folders(_) => "files",
                    Source::Redis(_) => "redis",
                    Source::Dump(_) => "dump",
                }
                .into(),
            ],
            pieces: Pieces::ByContent,
            time: begun,
        };
        let reading = |source: io::Error| KeepError::Lack {
            what: format!("{} could not be read: {source}", self.source.what()),
            hint: "it is tried again in five minutes; the points before stay".into(),
        };
        let stream = match &self.source {
            Source::Folders(hand) => hand().map_err(reading)?,
            Source::Redis(redis) => redis.archive(&self.settings.home.join("work"), &|| self.is_over())?,
            Source::Dump(dump) => {
                dump.archive(&self.settings.home.join("work"), &|| self.is_over(), progress)?
            }
        };
        let mut backup = self.repository.backup(options)?;
        let mut archive = tar::Archive::new(BufReader::with_capacity(1 << 20, stream));
        let mut summary: Option<Summary> = None;
        let (mut bytes, mut said) = (0, Instant::now());
        for entry in archive.entries().map_err(reading)? {
            let mut entry = entry.map_err(reading)?;
            let path = entry.path().map_err(reading)?.into_owned();
            if path == Path::new(SUMMARY) {
                let mut text = Vec::new();
                Read::by_ref(&mut entry).take(SUMMARY_MAX).read_to_end(&mut text).map_err(reading)?;
                summary = Some(serde_json::from_slice(&text).map_err(|error| reading(error.into()))?);
                break;
            }
            let path =
                path.strip_prefix(FILES).map_err(|_| reading(io::Error::other("an odd name")))?.to_owned();
            let header = entry.header();
            let number =
                |of: io::Result<u64>| of.ok().and_then(|of| u32::try_from(of).ok()).unwrap_or_default();
            let metadata = Metadata {
                mode: header.mode().map_err(reading)? & 0o7777,
                uid: number(header.uid()),
                gid: number(header.gid()),
                mtime: header
                    .mtime()
                    .ok()
                    .and_then(|at| Timestamp::from_second(i64::try_from(at).ok()?).ok())
                    .unwrap_or_default(),
            };
            match header.entry_type() {
                tar::EntryType::Directory => backup.folder(&path, &metadata)?,
                tar::EntryType::Symlink => {
                    let target = entry.link_name().map_err(reading)?.unwrap_or_default().into_owned();
                    backup.symlink(&path, &metadata, &target)?;
                }
                _ => {
                    let size = entry.size();
                    let stored = backup.file(&path, &metadata, &mut entry)?;
                    if stored != size {
                        return Err(reading(io::Error::from(io::ErrorKind::UnexpectedEof)));
                    }
                    bytes += size;
                }
            }
            if said.elapsed() >= Duration::from_millis(200) {
                said = Instant::now();
                progress(&format!("reading {}", self.source.what()), bytes, 0);
            }
        }
        let read =
            summary.ok_or_else(|| reading(io::Error::other("whoever reads them ended before the end")))?;
        let stored = backup.finish()?;
        let id = PointId::new(begun, stored.snapshot);
        let point = FilesPoint {
            format: 1,
            id: id.clone(),
            begun,
            stopped: at.unwrap_or_else(Timestamp::now),
            snapshot: stored.snapshot,
            tree: stored.tree,
            added: stored.bytes_added,
            read,
        };
        point.publish(&self.repository, &self.key)?;
        (self.tell)(Event::Point(Box::new(point)));
        Ok(id)
    }

    fn drill(&self, point: Option<&PointId>, escrow: Option<&str>, second: bool) -> Result<Proof, KeepError> {
        let own = self.password()?;
        let password = escrow.unwrap_or(&own);
        let (place, repository) = match (second, escrow) {
            (false, None) => (None, self.repository.clone()),
            (false, Some(_)) => {
                let storage = Arc::new(Folder::new(&self.settings.home.join("repository")));
                (None, Repository::open(storage, password)?)
            }
            (true, _) => {
                let place = self.second_place()?;
                (Some(place.place.clone()), Repository::open(self.sender().storage(&place)?, password)?)
            }
        };
        let points = Points::<FilesPoint>::read(&repository, &self.trusted)?;
        let point = match point {
            Some(id) => points.points.get(id).ok_or_else(|| RestoringError::Unknown(id.clone()))?,
            None => points.points.values().next_back().ok_or(RestoringError::Nothing)?,
        };
        let folder = self.settings.home.join("work/drill");
        // What a kill has left behind.
        let _ = fs::remove_dir_all(&folder);
        let mut proof = Proof {
            format: 1,
            point: point.id.clone(),
            begun: Timestamp::now(),
            steps: Vec::new(),
            covered: Some(point.begun),
            rto_ms: None,
            rpo_ms: None,
            escrow: escrow.is_some(),
            place,
        };
        proof.rpo_ms = u64::try_from(proof.begun.duration_since(point.begun).as_millis()).ok();
        self.compared(&repository, point, &folder, &mut proof);
        let removed = fs::remove_dir_all(&folder);
        if let Err(source) = removed
            && source.kind() != io::ErrorKind::NotFound
        {
            return Err(KeepError::File { path: folder, source });
        }
        proof.publish(&self.repository, &self.key)?;
        (self.tell)(Event::Proof(Box::new(proof.clone())));
        self.learn();
        Ok(proof)
    }

    /// Reads points and proofs again, for the status.
    fn learn(&self) {
        let Ok(points) = Points::<FilesPoint>::read(&self.repository, &self.trusted) else { return };
        let ms = |time: Timestamp| u64::try_from(time.as_millisecond()).unwrap_or_default();
        let proven = points.points.values().rev().find_map(|point| {
            let proof = points.last_proof(&point.id).filter(|proof| proof.is_good())?;
            Some((ms(point.stopped), proof.rto_ms))
        });
        let by_now = Timestamp::now() + AHEAD;
        let newest = points.points.values().rev().find(|point| point.stopped <= by_now);
        let known = KeptStatus {
            points: points.points.len().try_into().unwrap_or(u32::MAX),
            newest_unix_ms: newest.map(|point| ms(point.stopped)),
            proven_unix_ms: proven.map(|(at, _)| at),
            rto_ms: proven.and_then(|(_, rto_ms)| rto_ms),
            earliest_unix_ms: points.points.values().next().map(|point| ms(point.stopped)),
            covered_unix_ms: newest.map(|point| ms(point.begun)),
            bytes: size(&self.settings.home.join("repository")),
            escrow: self.repository.keys().is_ok_and(|keys| keys.iter().any(|key| key.label == ESCROW)),
            second: crate::keeper::second::proven(&points).map(|(place, at)| SecondStatus {
                place,
                covered_unix_ms: None,
                proven_unix_ms: Some(ms(at)),
                ..SecondStatus::default()
            }),
            ..KeptStatus::default()
        };
        let mark = newest.and_then(|point| point.read.redis.as_ref()).map(|redis| redis.mark.clone());
        let mut shared = self.shared();
        (shared.known, shared.mark) = (known, mark);
        shared.state += 1;
    }

    fn status(&self) -> KeptStatus {
        let shared = self.shared();
        let mut status = shared.known.clone();
        (status.store, status.daily) = (self.settings.name.to_string(), true);
        (status.redis, status.dumps) = (self.redis().is_some(), self.dumps());
        status.doing = shared.doing.clone().unwrap_or_else(|| "waiting for its time".into());
        let known = status.second.take();
        status.second = shared.wishes.second.as_ref().map(|place| {
            let sent = shared.sent.as_ref().filter(|(of, _)| of == place);
            SecondStatus {
                place: place.place.clone(),
                covered_unix_ms: sent.and_then(|(_, at)| u64::try_from(at.as_millisecond()).ok()),
                proven_unix_ms: known.filter(|of| of.place == place.place).and_then(|of| of.proven_unix_ms),
                ..SecondStatus::default()
            }
        });
        if let Some((what, hint)) = shared.trouble.clone().or_else(|| shared.second_trouble.clone()) {
            (status.trouble, status.hint) = (Some(what), hint);
        }
        status
    }
}

#[cfg(test)]
mod dump_tests;
#[cfg(test)]
mod redis_tests;
#[cfg(test)]
mod tests;
