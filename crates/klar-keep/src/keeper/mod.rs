//! A keeper: it keeps one cluster, for as long as it lives.
//!
//! ```text
//! stream.rs   slot ─► receiver ─► spool ─► shipper ─► repository      about every second
//! points.rs   base ─► witness ─► point ─► drill ─► proof              each day, and whenever the log has a gap
//! warm.rs     proven point ─► its files, ready for a clone             after each proof, where there is space
//! second.rs   repository ─► another place                                 a few seconds later
//! ahead.rs    server ─► another place                                     before a commit is acknowledged, where asked
//! adopt.rs    another machine's repository ─► its own                    after a restore from there
//! rehearse.rs a month of all this in a minute, of a small cluster        when a check asks for it
//! ```
//!
//! All run in threads of their own and try again for ever; what is wrong is in the status until it is not. Whoever asks
//! for something ([`Keeper::now`], [`Keeper::drill`]) does it in the caller's thread, one at a time.

pub(crate) mod adopt;
pub mod ahead;
mod points;
pub mod rehearse;
pub(crate) mod second;
mod stream;
mod warm;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use klar_base::anonymise::Rule;
use klar_base::keep::{KeptStatus, RehearsedDays, SecondPlace};
use klar_base::{Hint, ServiceName};
use klar_repo::{Folder, MirrorError, NotConnected, OpenError, Repository};
use klar_store::{KeyId, SigningKey};

pub(crate) use points::{last_time, last_week};

use crate::base::BaseError;
use crate::drill::Assertion;
use crate::harm::{Harm, Harmed};
use crate::point::{Point, PointId, Points, Proof};
use crate::restore::{Kept, RestoringError};
use crate::retain::{AHEAD, RetainError};
use crate::server::{Door, Facts, ReadySlot, ReplicationError, SessionError, SlotError, Source};
use crate::ship::{Progress, Shipped};
use crate::signed::SignedError;
use crate::wal::WalError;

/// Something is told to people only when it lasts: a server that starts again is not worth a word.
const LASTS: Duration = Duration::from_secs(20);

/// What a keeper keeps, and where.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The store's name, for people.
    pub name: ServiceName,
    /// The server.
    pub source: Source,
    /// The app's database.
    pub database: String,
    /// Its own folder: `repository/`, `spool/`, `work/`, keys.
    pub home: PathBuf,
    /// The machine's name, for the repository.
    pub host: String,
    /// Where it is within a second place: `shop.production/db`.
    pub second_name: String,
    /// What may change while it keeps.
    pub wishes: Wishes,
}

/// What `[backup]` asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wishes {
    /// When a base is due each day, by the host's clock: hours and minutes.
    pub at: (u8, u8),
    /// For how many days any second can be restored.
    pub days: u32,
    /// Questions that restored copies have to answer with true.
    pub assertions: Vec<Assertion>,
    /// What becomes of columns in a copy that people may look at.
    pub anonymise: Vec<Rule>,
    /// Where all of it is kept once more.
    pub second: Option<SecondPlace>,
    /// Whether a commit is acknowledged only once it is there.
    pub synchronous: bool,
}

/// Why something was not done.
#[derive(Debug, thiserror::Error)]
pub enum KeepError {
    /// The repository cannot be opened.
    #[error("the repository: {0}")]
    Open(#[from] OpenError),
    /// The server.
    #[error(transparent)]
    Session(#[from] SessionError),
    /// The slot.
    #[error(transparent)]
    Slot(#[from] SlotError),
    /// The log.
    #[error(transparent)]
    Wal(#[from] WalError),
    /// A base.
    #[error(transparent)]
    Base(#[from] BaseError),
    /// Points and proofs.
    #[error(transparent)]
    Signed(#[from] SignedError),
    /// What was read could not be stored.
    #[error("the repository: {0}")]
    Backup(#[from] klar_repo::BackupError),
    /// A restore.
    #[error(transparent)]
    Restoring(#[from] RestoringError),
    /// What is old could not be removed.
    #[error("removing what is old: {0}")]
    Retain(#[from] RetainError),
    /// The second place.
    #[error("the second place: {0}")]
    Mirror(#[from] MirrorError),
    /// What is acknowledged only there cannot be written there.
    #[error("commits wait for {place}: {source}")]
    Waits {
        /// Where.
        place: String,
        /// What is wrong with it.
        source: Box<KeepError>,
    },
    /// The server does not stream.
    #[error(transparent)]
    Replication(#[from] ReplicationError),
    /// It is set up so that it cannot be kept.
    #[error("{what}")]
    Lack {
        /// What is wrong.
        what: String,
        /// What to do.
        hint: String,
    },
    /// A Redis.
    #[error(transparent)]
    Redis(#[from] crate::redis::RedisError),
    /// A dump.
    #[error(transparent)]
    Dump(#[from] crate::dump::DumpError),
    /// The server is another one.
    #[error("the server is the cluster {found}, and the repository is of the cluster {expected}")]
    Another {
        /// As the newest point says.
        expected: u64,
        /// As the server says.
        found: u64,
    },
    /// Nothing streams, so that nothing can be published.
    #[error("the log is not streamed yet{}", .0.as_ref().map(|why| format!(": {why}")).unwrap_or_default())]
    NotStreaming(Option<String>),
    /// The log of a base did not come in time.
    #[error("the log came up to {came} within {} s, and the base needs it up to {needed}: it was not published", patience.as_secs())]
    LogLate {
        /// Up to where it came.
        came: crate::lsn::Lsn,
        /// Up to where it has to.
        needed: crate::lsn::Lsn,
        /// How long was waited.
        patience: Duration,
    },
    /// A drill found something.
    #[error("{point} was restored, and is not as it should be: {what}")]
    NotProven {
        /// Which.
        point: PointId,
        /// What was found first.
        what: String,
    },
    /// A folder of ours.
    #[error("{}: {source}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// As the system says it.
        source: io::Error,
    },
}

impl Hint for KeepError {
    fn hint(&self) -> Option<String> {
        match self {
            Self::Slot(error) => error.hint(),
            Self::Wal(error) => error.hint(),
            Self::Base(error) => error.hint(),
            Self::Restoring(error) => error.hint(),
            Self::Retain(error) => error.hint(),
            Self::Redis(error) => error.hint(),
            Self::Dump(error) => error.hint(),
            Self::Lack { hint, .. } => Some(hint.clone()),
            Self::Another { .. } => Some(
                "move the repository's folder away to begin a new one; it can still be restored from there".into(),
            ),
            Self::NotProven { .. } => Some(
                "the point before stays; look whether disk or memory are damaged (`klar backup verify`), then run \
                 `klar backup now`"
                    .into(),
            ),
            Self::Mirror(MirrorError::Another(_)) => Some(
                "if it is that of this app's machine before, restore from it first (`klar restore --from`); otherwise name \
                 another place in `backup.offsite`"
                    .into(),
            ),
            Self::Waits { source, .. } => Some(source.hint().unwrap_or_else(|| {
                "bring it back; or take `synchronous` out of [backup] and run `klar up`: then nothing waits, and what was \
                 acknowledged last may be lost with this machine"
                    .into()
            })),
            Self::Open(OpenError::Password { .. }) => {
                Some("the file `repository.key` beside the repository is not the one it was made with".into())
            }
            // Whatever was being done, it is for the same reason that another machine does not let us in.
            _ => NotConnected::within(self).and_then(NotConnected::hint).map(str::to_owned),
        }
    }
}

/// What is told outside: for the ledger.
#[derive(Debug, Clone)]
pub enum Event {
    /// A point was published.
    Point(Box<Point>),
    /// A point was restored.
    Proof(Box<Proof>),
    /// Another repository is ready to take the place of its own: this keeper has to be started again.
    Replaced,
}

/// A keeper; dropped, it ends.
pub struct Keeper {
    inner: Arc<Inner>,
    threads: Vec<JoinHandle<()>>,
}

struct Inner {
    settings: Settings,
    repository: Repository,
    key: SigningKey,
    trusted: Vec<KeyId>,
    tell: Box<dyn Fn(Event) + Send + Sync>,
    shared: Mutex<Shared>,
    changed: Condvar,
    /// Held by whoever takes a base, drills or verifies: one at a time.
    work: Mutex<()>,
    warm: warm::Warm,
    is_over: AtomicBool,
    /// How far its clock is ahead of the real one, in seconds: 0 but in a rehearsal.
    shift: AtomicI64,
}

#[derive(Default)]
struct Shared {
    streaming: Option<Streaming>,
    doing: Option<String>,
    /// Why a base is needed that nobody has asked for.
    want_base: Option<String>,
    wishes: Option<Wishes>,
    /// Whole segments become a batch at the next turn: a base without its log is worth nothing to a plain `restic`.
    batch_now: bool,
    /// Somebody waits for the log: the next turn begins at once.
    hurries: bool,
    second: second::Second,
    ahead: Option<ahead::Ahead>,
    troubles: BTreeMap<&'static str, Trouble>,
    known: Known,
}

/// What points and proofs come to, as they were read last.
#[derive(Debug, Clone, Default)]
struct Known {
    points: u32,
    /// When each was taken, by whatever the clock was then.
    taken: BTreeSet<Timestamp>,
    earliest: Option<Timestamp>,
    proven: Option<Timestamp>,
    proven_point: Option<PointId>,
    rto_ms: Option<u64>,
    bytes: u64,
    escrow: bool,
    /// From where a point was last restored, and when.
    second_proven: Option<(String, Timestamp)>,
}

impl Known {
    /// The newest point that was taken by this clock, and not by one that was ahead.
    fn newest(&self, now: Timestamp) -> Option<Timestamp> {
        self.taken.range(..=now + AHEAD).next_back().copied()
    }
}

struct Trouble {
    since: Instant,
    what: String,
    hint: Option<String>,
}

/// A server whose log comes in.
#[derive(Clone)]
struct Streaming {
    facts: Facts,
    slot: ReadySlot,
    progress: Arc<Progress>,
}

impl Keeper {
    /// Opens the repository, or makes it, and begins. `tell` hears what belongs in the ledger.
    ///
    /// # Errors
    /// The repository or a key cannot be read or made.
    pub fn start(settings: Settings, tell: Box<dyn Fn(Event) + Send + Sync>) -> Result<Self, KeepError> {
        let inner = Arc::new(Inner::open(settings, tell)?);
        let thread = |name: &str, run: fn(&Inner)| {
            let inner = inner.clone();
            let path = inner.settings.home.clone();
            std::thread::Builder::new()
                .name(name.into())
                .spawn(move || run(&inner))
                .map_err(|source| KeepError::File { path, source })
        };
        let threads = vec![
            thread("stream", Inner::stream)?,
            thread("points", Inner::points)?,
            thread("second", Inner::second)?,
            thread("ahead", Inner::ahead)?,
        ];
        Ok(Self { inner, threads })
    }

    /// What it keeps.
    #[must_use]
    pub fn settings(&self) -> &Settings {
        &self.inner.settings
    }

    /// Something else is wished for from now on.
    pub fn wish(&self, wishes: Wishes) {
        self.inner.change(|shared| shared.wishes = Some(wishes));
    }

    /// The repository.
    #[must_use]
    pub fn repository(&self) -> &Repository {
        &self.inner.repository
    }

    /// Whose signatures count.
    #[must_use]
    pub fn trusted(&self) -> &[KeyId] {
        &self.inner.trusted
    }

    /// How it stands.
    #[must_use]
    pub fn status(&self) -> KeptStatus {
        self.inner.status()
    }

    /// Takes a base now and proves it. `progress` hears what is being done.
    ///
    /// # Errors
    /// What was wrong first; a point that was published and not proven is [`KeepError::NotProven`].
    pub fn now(&self, progress: &mut dyn FnMut(&str, u64, u64)) -> Result<Proof, KeepError> {
        self.inner.point(progress)
    }

    /// Restores a point, the newest where none is named, and publishes what was found.
    ///
    /// # Errors
    /// Where there is no such point, or the repository cannot be read. What a drill finds is in the proof.
    pub fn drill(
        &self,
        point: Option<&PointId>,
        escrow: Option<&str>,
        second: bool,
    ) -> Result<Proof, KeepError> {
        let _alone = self.inner.alone();
        self.inner.drill(point, escrow, second)
    }

    /// Keeps another cluster, a small one, for more days than this one, by a simulated clock. `goes_on` hears which day
    /// of how many begins, and says whether there is still somebody who wants to know.
    ///
    /// # Errors
    /// A day could not be simulated. What was left after it and is not as it should be is no error.
    pub(crate) fn rehearse(
        &self,
        goes_on: &mut (dyn FnMut(u32, u32) -> bool + Send),
    ) -> Result<RehearsedDays, KeepError> {
        let _alone = self.inner.alone();
        self.inner.doing(Some("rehearsing a month".to_owned()));
        let (days, folder) = (self.inner.wishes().days, self.work().join("rehearsal"));
        let rehearsed = rehearse::rehearse(&self.inner.settings.source.programs, days, &folder, goes_on);
        self.inner.doing(None);
        rehearsed
    }

    /// Adds a password that opens the repository without this machine.
    ///
    /// # Errors
    /// The storage, or a password that is empty.
    pub fn escrow(&self, password: &str) -> Result<(), KeepError> {
        let done = self.inner.sender().escrow(password, self.inner.wishes().second.as_ref());
        self.inner.learn();
        done
    }

    /// Waits until nobody else takes a point, drills or prunes, and keeps others from it.
    pub(crate) fn alone(&self) -> MutexGuard<'_, ()> {
        self.inner.alone()
    }

    /// The same repository, seen through a storage that does harm: what is said to find damage has to find this.
    pub(crate) fn harmed(&self, harm: Harm) -> Result<Repository, KeepError> {
        let folder = Folder::new(&self.inner.settings.home.join("repository"));
        Ok(Repository::open(Arc::new(Harmed::new(folder, harm)), &self.inner.password()?)?)
    }

    /// Makes a copy of the app's database one that people may look at.
    ///
    /// # Errors
    /// As [`anonymise`](crate::anonymise::anonymise).
    pub(crate) fn anonymise(&self, copy: &Door) -> Result<(), KeepError> {
        let rules = self.inner.wishes().anonymise;
        crate::anonymise::anonymise(&copy.to(&self.settings().database), &rules).map(drop)
    }

    /// Where copies are put.
    #[must_use]
    pub fn work(&self) -> PathBuf {
        self.inner.settings.home.join("work")
    }
}

/// What the key is called that lies in a drawer.
pub const ESCROW: &str = "escrow";

impl Drop for Keeper {
    fn drop(&mut self) {
        self.inner.is_over.store(true, Ordering::Release);
        self.inner.changed.notify_all();
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

impl Inner {
    /// Opens the repository, or makes it.
    fn open(settings: Settings, tell: Box<dyn Fn(Event) + Send + Sync>) -> Result<Self, KeepError> {
        let home = &settings.home;
        adopt::settle(home).map_err(|source| KeepError::File { path: home.clone(), source })?;
        let (repository, key) = open(home)?;
        let mut trusted = adopt::trusted(home)?;
        trusted.push(key.id());
        let inner = Self {
            settings,
            repository,
            key,
            trusted,
            tell,
            shared: Mutex::default(),
            changed: Condvar::new(),
            work: Mutex::default(),
            warm: warm::Warm::default(),
            is_over: AtomicBool::new(false),
            shift: AtomicI64::new(0),
        };
        inner.learn();
        Ok(inner)
    }

    /// What it takes for the time.
    fn now(&self) -> Timestamp {
        self.shifted(Timestamp::now())
    }

    /// A time of the server's clock, by its own.
    fn shifted(&self, time: Timestamp) -> Timestamp {
        time + SignedDuration::from_secs(self.shift.load(Ordering::Acquire))
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

    fn password(&self) -> Result<String, KeepError> {
        let path = self.settings.home.join("repository.key");
        password(&path).map_err(|source| KeepError::File { path, source })
    }

    /// Rests until something changes, or the pause is over.
    fn rest(&self, pause: Duration) {
        let shared = self.shared();
        if !self.is_over() {
            drop(self.changed.wait_timeout(shared, pause));
        }
    }

    /// Rests for all of the pause, unless it is over.
    fn rest_for(&self, pause: Duration) {
        let begun = Instant::now();
        while begun.elapsed() < pause && !self.is_over() {
            self.rest(pause.saturating_sub(begun.elapsed()));
        }
    }

    fn change(&self, change: impl FnOnce(&mut Shared)) {
        change(&mut self.shared());
        self.changed.notify_all();
    }

    /// Takes note of what is wrong with one thing, or that nothing is.
    fn note<T>(&self, which: &'static str, result: &Result<T, KeepError>) {
        let mut shared = self.shared();
        match result {
            Ok(_) => drop(shared.troubles.remove(which)),
            Err(error) => {
                let since = shared.troubles.get(which).map_or_else(Instant::now, |trouble| trouble.since);
                let trouble = Trouble { since, what: error.to_string(), hint: error.hint() };
                shared.troubles.insert(which, trouble);
            }
        }
    }

    fn wishes(&self) -> Wishes {
        self.shared().wishes.clone().unwrap_or_else(|| self.settings.wishes.clone())
    }

    fn doing(&self, what: Option<String>) {
        self.shared().doing = what;
    }

    /// Reads points and proofs again, for the status.
    fn learn(&self) {
        let read =
            Points::<Point>::read(&self.repository, &self.trusted).map_err(KeepError::from).map(|points| {
                let proven = points.points.keys().rev().find_map(|id| {
                    let proof = points.last_proof(id).filter(|proof| proof.is_good())?;
                    Some((points.points.get(id)?, proof.rto_ms))
                });
                Known {
                    points: points.points.len().try_into().unwrap_or(u32::MAX),
                    taken: points.points.values().map(|point| point.stopped).collect(),
                    earliest: points.points.values().map(|point| point.stopped).min(),
                    proven: proven.map(|(point, _)| point.stopped),
                    proven_point: proven.map(|(point, _)| point.id.clone()),
                    rto_ms: proven.and_then(|(_, rto_ms)| rto_ms),
                    bytes: size(&self.settings.home.join("repository")),
                    escrow: self
                        .repository
                        .keys()
                        .is_ok_and(|keys| keys.iter().any(|key| key.label == ESCROW)),
                    second_proven: second::proven(&points),
                }
            });
        self.note("points", &read);
        if let Ok(known) = read {
            self.shared().known = known;
        }
    }

    fn status(&self) -> KeptStatus {
        let second = self.second_status();
        let shared = self.shared();
        let ms = |time: Option<Timestamp>| time.and_then(|time| u64::try_from(time.as_millisecond()).ok());
        let streaming = shared.streaming.as_ref();
        let shipped = streaming.map(|streaming| streaming.progress.now());
        let trouble = shared.troubles.values().find(|trouble| trouble.since.elapsed() >= LASTS);
        let now = self.now();
        let ahead = shared.known.taken.last().filter(|taken| **taken > now + AHEAD).map(|taken| {
            let what = format!("a point is of {taken}, and it is {now}: a clock was ahead, or is behind now");
            let hint = "see that the clock is right (`timedatectl`): points are taken as ever, and nothing is removed before that time has come";
            (what, Some(hint.to_owned()))
        });
        let trouble = trouble.map(|trouble| (trouble.what.clone(), trouble.hint.clone())).or(ahead);
        let (trouble, hint) = trouble.map_or((None, None), |(what, hint)| (Some(what), hint));
        let idle = if streaming.is_some() { "streaming" } else { "waiting for the server" };
        KeptStatus {
            store: self.settings.name.to_string(),
            daily: false,
            redis: false,
            dumps: None,
            doing: shared.doing.clone().unwrap_or_else(|| idle.to_owned()),
            points: shared.known.points,
            newest_unix_ms: ms(shared.known.newest(now)),
            proven_unix_ms: ms(shared.known.proven),
            rto_ms: shared.known.rto_ms,
            earliest_unix_ms: ms(shared.known.earliest),
            covered_unix_ms: ms(shipped.and_then(|shipped| shipped.covered)),
            bytes: shared.known.bytes,
            escrow: shared.known.escrow,
            second,
            trouble,
            hint,
        }
    }

    fn kept<'a>(&'a self, repository: &'a Repository) -> Result<Kept<'a>, KeepError> {
        // Before the log is listed: what is covered by then is in it.
        let live = self.live();
        Ok(Kept { live, ..Kept::read(repository, &self.trusted)? })
    }

    fn live(&self) -> Option<Shipped> {
        self.shared().streaming.as_ref().map(|streaming| streaming.progress.now())
    }
}

impl Keeper {
    /// Reads what there is to restore from.
    ///
    /// # Errors
    /// As [`Kept::read`].
    pub fn kept(&self) -> Result<Kept<'_>, KeepError> {
        self.inner.kept(&self.inner.repository)
    }
}

/// The repository of a keeper's folder and its keys, made where there are none.
pub(crate) fn open(home: &Path) -> Result<(Repository, SigningKey), KeepError> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| KeepError::File { path, source }
    };
    for folder in [home.to_owned(), home.join("work")] {
        fs::create_dir_all(&folder).map_err(failed(&folder))?;
    }
    let (key_file, password_file) = (home.join("sign.key"), home.join("repository.key"));
    let place = home.join("repository");
    // Both are made before the repository is. A new one would open nothing, and vouch for nothing that is there.
    if let Some(gone) = [&password_file, &key_file].into_iter().find(|file| !file.exists())
        && place.join("config").exists()
    {
        return Err(KeepError::Lack {
            what: format!("{} is gone, and the repository that it belongs to is there", gone.display()),
            hint: format!(
                "put it back from a copy; or move {} away, and restore from there with the key from the drawer (`klar restore latest --from THERE/repository --key KEY.txt`)",
                home.display()
            ),
        });
    }
    let key = SigningKey::open(&key_file).map_err(failed(&key_file))?;
    let password = password(&password_file).map_err(failed(&password_file))?;
    let storage = Arc::new(Folder::new(&place));
    let repository = match Repository::open(storage.clone(), &password) {
        Err(OpenError::Missing(_)) => Repository::create(storage, &password, "klar")?,
        opened => opened?,
    };
    Ok((repository, key))
}

/// The password of a repository: 64 digits, made before the repository is.
pub(crate) fn password(path: &Path) -> io::Result<String> {
    match fs::read_to_string(path) {
        Ok(text) if text.trim().len() == 64 => return Ok(text.trim().to_owned()),
        Ok(_) => return Err(io::Error::other("expected 64 hexadecimal digits")),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let mut bytes = [0; 32];
    io::Read::read_exact(&mut fs::File::open("/dev/urandom")?, &mut bytes)?;
    let text: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let new = path.with_extension("new");
    let mut file = fs::File::options().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::set_permissions(&new, fs::Permissions::from_mode(0o400))?;
    fs::rename(&new, path)?;
    fs::File::open(path.parent().unwrap_or(Path::new(".")))?.sync_all()?;
    Ok(text)
}

/// Bytes of all files beneath a folder; what cannot be read counts as nothing.
pub(crate) fn size(folder: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(folder) else { return 0 };
    let of = |entry: fs::DirEntry| match entry.metadata() {
        Ok(metadata) if metadata.is_dir() => size(&entry.path()),
        Ok(metadata) => metadata.len(),
        Err(_) => 0,
    };
    entries.flatten().map(of).sum()
}
