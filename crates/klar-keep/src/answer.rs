//! Answers to people: what there is, what a restore would do, and copies.

use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use jiff::Timestamp;
use klar_base::keep::{Ask, CopyTold, DumpOf, Elsewhere, KeptStatus, Moment, PlanTold, PointTold, Told};
use klar_base::{ServiceName, wire};
use klar_repo::{Compared, Restored};

use crate::dump;
use crate::files::{FilesKeeper, FilesPoint};
use crate::harm::Harm;
use crate::keeper::adopt::Other;
use crate::keeper::{KeepError, Keeper, Settings};
use crate::point::{AnyPoint, NotAPoint, Point, PointId, Points, Proof};
use crate::process::Keepers;
use crate::redis;
use crate::restore::{self, Kept, Plan, RestoringError};
use crate::scratch::{Scratch, Then, Until};
use crate::search::{self, Search};
use crate::server::Session;
use crate::tables::{self, Table};
use crate::verify::{self, Found};

/// Copies at once, of all stores together.
const COPIES_MAX: usize = 4;
/// No copy stays longer.
const LONGEST: u64 = 24 * 3600;
/// What was acknowledged is kept after a second or two, unless something is wrong.
const SHIPPED: Duration = Duration::from_secs(15);
/// A server is given so long to stop.
const STOPPING: Duration = Duration::from_secs(300);

/// One question on its way.
pub(crate) struct Answering<'a> {
    pub keepers: &'a Arc<Keepers>,
    pub stream: &'a UnixStream,
}

/// Copies that are there.
#[derive(Default)]
pub(crate) struct Copies(Mutex<BTreeMap<String, Copy>>);

struct Copy {
    folder: PathBuf,
    /// Dropped, the server of a clone ends.
    server: Option<Sender<()>>,
    /// When it was put in place, the repository that it came from becomes the keeper's own.
    adopts: Option<(Arc<FilesKeeper>, Elsewhere)>,
}

impl Copies {
    /// Ends and removes all.
    pub fn clear(&self) {
        for (_, copy) in std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner)) {
            drop(copy.server);
            let _ = fs::remove_dir_all(copy.folder);
        }
    }

    fn put(&self, name: String, copy: Copy) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(name, copy);
    }

    fn take(&self, name: &str) -> Option<Copy> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(name)
    }

    fn adopt_after(&self, name: &str, keeper: Arc<FilesKeeper>, from: Elsewhere) {
        let mut copies = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(copy) = copies.get_mut(name) {
            copy.adopts = Some((keeper, from));
        }
    }

    fn count(&self) -> usize {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).len()
    }
}

impl Answering<'_> {
    pub fn answer(&self, ask: Ask) -> Result<Told, KeepError> {
        let is_of_all = matches!(ask, Ask::Remove { .. } | Ask::Escrow { .. });
        if !is_of_all && let Some(keeper) = self.keepers.files(store_of(&ask))? {
            return self.of_files(&keeper, ask);
        }
        match ask {
            Ask::List { store } => {
                let keeper = self.keeper(store.as_ref())?;
                Ok(listed(&Points::<Point>::read(keeper.repository(), keeper.trusted())?, keeper.status()))
            }
            Ask::Now { store } => {
                let proof =
                    self.keeper(store.as_ref())?.now(&mut |what, done, of| self.progress(what, done, of));
                Ok(proof_told(&proof?))
            }
            Ask::Compare { store } => self.keeper(store.as_ref())?.look_at_second(),
            Ask::Drill { store, point, escrow, second } => {
                let point = point.map(|point| point.parse()).transpose().map_err(not_a_point)?;
                self.progress("restoring it to compare it", 0, 0);
                let escrow = escrow.as_ref().map(|password| password.expose().as_str());
                Ok(proof_told(&self.keeper(store.as_ref())?.drill(point.as_ref(), escrow, second)?))
            }
            Ask::Rehearse { store } => {
                let keeper = self.keeper(store.as_ref())?;
                let mut goes_on =
                    |day: u32, days: u32| self.said("simulating days", u64::from(day), u64::from(days));
                Ok(Told::RehearsedDays(Box::new(keeper.rehearse(&mut goes_on)?)))
            }
            Ask::Verify { store } => self.verify(&*self.keeper(store.as_ref())?),
            Ask::Search { store, text } => self.search(&*self.keeper(store.as_ref())?, &text),
            Ask::Plan { store, moment, from } => {
                let keeper = self.keeper(store.as_ref())?;
                let other = other(&keeper, from.as_ref())?;
                let (_, plan) = self.planned(&keeper, other.as_ref(), &moment)?;
                Ok(Told::Plan(plan_told(&keeper, &plan)))
            }
            Ask::Restore { store, moment, from } => {
                self.restore(&*self.keeper(store.as_ref())?, &moment, from.as_ref())
            }
            Ask::Clone { store, moment, from, seconds, anonymise } => {
                let keeper = self.keeper(store.as_ref())?;
                self.clone(&keeper, &moment, from, seconds.clamp(1, LONGEST), anonymise)
            }
            Ask::Tables { store, moment, from, tables } => {
                self.tables(&*self.keeper(store.as_ref())?, &moment, from.as_ref(), &tables)
            }
            Ask::Beside { .. } => Err(KeepError::Lack {
                what: "it is kept to any second, and takes the place of what is there".into(),
                hint: "`klar backup list` shows what is dumped".into(),
            }),
            Ask::Remove { copy } => self.remove_copy(&copy),
            Ask::Escrow { password } => self.escrow(password.expose()),
        }
    }

    /// The same of an app's files.
    fn of_files(&self, keeper: &Arc<FilesKeeper>, ask: Ask) -> Result<Told, KeepError> {
        match ask {
            Ask::List { .. } => Ok(listed(&keeper.points()?, keeper.status())),
            Ask::Now { .. } => {
                Ok(proof_told(&keeper.now(&mut |what, done, of| self.progress(what, done, of))?))
            }
            Ask::Compare { .. } => keeper.look_at_second(),
            Ask::Drill { point, escrow, second, .. } => {
                let point = point.map(|point| point.parse()).transpose().map_err(not_a_point)?;
                self.progress("putting it into an empty folder to compare it", 0, 0);
                let escrow = escrow.as_ref().map(|password| password.expose().as_str());
                Ok(proof_told(&keeper.drill(point.as_ref(), escrow, second)?))
            }
            Ask::Verify { .. } => {
                let _alone = keeper.alone();
                let points = keeper.points()?;
                let progress = &mut |what: &str, done, of| self.progress(what, done, of);
                let Found { objects, bytes, mut problems } =
                    verify::points(keeper.repository(), &points, progress)?;
                if keeper.status().second.is_some() {
                    self.compare(keeper.compare(), &mut problems);
                }
                self.progress("looking whether damage is found", 0, 0);
                let (corrupted, missing) = (keeper.notices(Harm::Flipped)?, keeper.notices(Harm::Gone)?);
                Ok(Told::Verified { objects, bytes, problems, corrupted, missing })
            }
            Ask::Plan { moment, from, .. } => {
                let point = keeper.plan(&moment, from.as_ref())?;
                Ok(Told::Plan(PlanTold {
                    store: keeper.settings().name.clone(),
                    point: point.id.to_string(),
                    point_unix_ms: ms(point.stopped),
                    until: format!("{}, when they were read", point.begun),
                    bytes: point.read.bytes,
                    log_bytes: 0,
                    rto_ms: keeper.status().rto_ms,
                    dumps: dumps_of(&point),
                }))
            }
            Ask::Beside { moment, from, .. } => self.beside(keeper, &moment, from),
            Ask::Restore { moment, from, .. } => {
                let told = self.copy_files(keeper, &moment, from.as_ref(), None)?;
                if let (Told::Copy(copy), Some(from)) = (&told, from) {
                    self.keepers.copies.adopt_after(&copy.copy, keeper.clone(), from);
                }
                Ok(told)
            }
            Ask::Clone { anonymise: true, .. } => Err(KeepError::Lack {
                what: "files cannot be anonymised".into(),
                hint: "name a database with `--store`".into(),
            }),
            Ask::Clone { moment, from, seconds, .. } => {
                self.copy_files(keeper, &moment, from.as_ref(), Some(seconds.clamp(1, LONGEST)))
            }
            Ask::Rehearse { .. } => {
                self.progress("keeping files for some days of a simulated clock", 0, 0);
                Ok(Told::Rehearsed(keeper.rehearse()?))
            }
            Ask::Tables { .. } if keeper.dump().is_some() => Err(KeepError::Lack {
                what: "single tables are not taken out of a dump".into(),
                hint: "`klar clone --store NAME` runs a server with all of it: `pg_dump -t TABLE` there, `psql` here; or \
                       `pg_restore -t TABLE` of what `klar restore … --into FOLDER` gives"
                    .into(),
            }),
            Ask::Search { .. } | Ask::Tables { .. } => Err(KeepError::Lack {
                what: "only databases have tables and texts".into(),
                hint: "name a database with `--store`".into(),
            }),
            Ask::Remove { copy } => self.remove_copy(&copy),
            Ask::Escrow { password } => self.escrow(password.expose()),
        }
    }

    /// A dump, in new databases of its server.
    fn beside(
        &self,
        keeper: &Arc<FilesKeeper>,
        moment: &Moment,
        from: Option<Elsewhere>,
    ) -> Result<Told, KeepError> {
        let begun = Instant::now();
        let (_, folder) = self.place(&keeper.work())?;
        self.progress("bringing it back", 0, 0);
        let done = keeper.bring_back(moment, from.as_ref(), &folder.join("data")).and_then(|point| {
            let (Some(source), Some(dumped)) = (keeper.dump(), &point.read.dump) else {
                return Err(KeepError::Lack {
                    what: "only a database that is dumped is loaded beside the one that is there".into(),
                    hint: "`klar backup list` shows what is kept".into(),
                });
            };
            self.progress("loading it into a new database", 0, 0);
            let stamp = Timestamp::now().strftime("%Y%m%dt%H%M%S%3f").to_string();
            Ok(source.beside(dumped, &folder.join("data"), &stamp, &|| false)?)
        });
        remove(&folder)?;
        let databases = done?.into_iter().map(|one| (one.was, one.now)).collect();
        if let Some(from) = from {
            keeper.adopt(&from)?;
        }
        Ok(Told::Beside { databases, ms: elapsed(begun) })
    }

    /// Files in a folder, which disappears after so many seconds where that is said; until then a server runs on the snapshot
    /// of a Redis.
    fn copy_files(
        &self,
        keeper: &Arc<FilesKeeper>,
        moment: &Moment,
        from: Option<&Elsewhere>,
        seconds: Option<u64>,
    ) -> Result<Told, KeepError> {
        let begun = Instant::now();
        let (name, folder) = self.place(&keeper.work())?;
        self.progress("bringing it back", 0, 0);
        let data = folder.join("data");
        let made = keeper.bring_back(moment, from, &data);
        if made.is_ok() && keeper.redis().is_some() {
            // Whoever takes it over is in this process' group.
            open_to_group(&folder)?;
        }
        let point = made.as_ref().ok().cloned();
        if seconds.is_some() && keeper.dump().is_some() {
            self.progress("loading it into a server of its own", 0, 0);
        }
        let mut served = Ok((None, String::new()));
        let until = seconds.map(|seconds| {
            let (keepers, own, (ends, ended)) = (self.keepers.clone(), name.clone(), channel::<()>());
            let (runs, at, (says, said)) = (keeper.clone(), data.clone(), channel());
            let _ = std::thread::Builder::new().name("copy".into()).spawn(move || {
                // A server ends with the thread that has started it.
                let (server, told) = match point.map(|point| Served::start(&runs, &point, &at)) {
                    Some(Ok(server)) => {
                        let told = server.told();
                        (Some(server), Ok(told))
                    }
                    Some(Err(error)) => (None, Err(error)),
                    None => (None, Ok((None, String::new()))),
                };
                let _ = says.send(told);
                drop(runs);
                let _ = ended.recv_timeout(Duration::from_secs(seconds));
                drop(server);
                if let Some(copy) = keepers.copies.take(&own) {
                    let _ = fs::remove_dir_all(copy.folder);
                }
            });
            served = said.recv().unwrap_or(Ok((None, String::new())));
            (ends, ms(Timestamp::now()) + seconds * 1000)
        });
        let (server, until_unix_ms) = until.unzip();
        let made = made.and(served);
        let told = made.map(|(socket, database)| CopyTold {
            copy: name.clone(),
            data,
            socket,
            database,
            ms: elapsed(begun),
            until_unix_ms,
        });
        self.keep_copy(name, folder, server, told)
    }

    /// A password for all repositories.
    fn escrow(&self, password: &str) -> Result<Told, KeepError> {
        for keeper in self.keepers.every()? {
            keeper.escrow(password)?;
        }
        for files in self.keepers.every_files() {
            files.escrow(password)?;
        }
        Ok(Told::Done)
    }

    fn remove_copy(&self, copy: &str) -> Result<Told, KeepError> {
        match self.keepers.copies.take(copy) {
            Some(Copy { folder, server, adopts }) => {
                drop(server);
                remove(&folder)?;
                // The files are in place by now.
                if let Some((keeper, from)) = adopts {
                    keeper.adopt(&from)?;
                }
                Ok(Told::Done)
            }
            None => Err(KeepError::Lack {
                what: format!("there is no copy {copy}"),
                hint: "it may have disappeared at its time".into(),
            }),
        }
    }

    fn compare(&self, compared: Result<(String, Compared), KeepError>, problems: &mut Vec<String>) {
        match compared {
            Ok((place, compared)) => {
                let differ = compared.differ.into_iter();
                problems.extend(differ.map(|path| format!("{path} is not at {place}, or differs")));
            }
            Err(error) => problems.push(error.to_string()),
        }
    }

    fn keeper(&self, store: Option<&ServiceName>) -> Result<Arc<Keeper>, KeepError> {
        self.keepers.keeper(store)
    }

    fn progress(&self, what: &str, done: u64, of: u64) {
        // Whoever asked may have gone; what was begun is done all the same.
        self.said(what, done, of);
    }

    /// Whether whoever asked still hears.
    fn said(&self, what: &str, done: u64, of: u64) -> bool {
        wire::send(self.stream, &Told::Progress { what: what.into(), done, of }, &[]).is_ok()
    }

    fn verify(&self, keeper: &Keeper) -> Result<Told, KeepError> {
        // What prunes would be in the way, and the other way round.
        let _alone = keeper.alone();
        let kept = keeper.kept()?;
        let progress = &mut |what: &str, done, of| self.progress(what, done, of);
        let Found { objects, bytes, mut problems } = verify::database(&kept, progress)?;
        if keeper.has_second() {
            self.progress("comparing the second place", 0, 0);
            self.compare(keeper.compare(), &mut problems);
        }
        let folder = keeper.work().join("verify");
        let finds = |harm: Harm| -> Result<bool, KeepError> {
            let Some(point) = kept.points.points.values().next_back() else { return Ok(false) };
            let repository = keeper.harmed(harm)?;
            let kept = Kept::read(&repository, keeper.trusted())?;
            Ok(read_again(&kept, point, &folder)?.is_err())
        };
        self.progress("looking whether damage is found", 0, 0);
        let (corrupted, missing) = (finds(Harm::Flipped)?, finds(Harm::Gone)?);
        Ok(Told::Verified { objects, bytes, problems, corrupted, missing })
    }

    fn search(&self, keeper: &Keeper, text: &str) -> Result<Told, KeepError> {
        if text.len() < 16 {
            let hint = "16 letters or more are nowhere by chance".to_owned();
            return Err(KeepError::Lack { what: "the text is too short to look for".into(), hint });
        }
        self.progress("looking through the repository", 0, 0);
        let home = &keeper.settings().home;
        let secret = fs::read_to_string(home.join("repository.key")).unwrap_or_default();
        let mut in_repository = Search::default();
        in_repository.folder(&home.join("repository"), &[text.as_bytes(), secret.trim().as_bytes()])?;
        self.progress("looking through the database's own files", 0, 0);
        let mut in_database = Search::default();
        let data = keeper.settings().source.data.clone().unwrap_or_default();
        in_database.folder(&data, &[text.as_bytes()])?;
        let of = |search: &mut Search, number: usize| search.found.remove(&number).unwrap_or_default();
        Ok(Told::Searched {
            objects: in_repository.files,
            bytes: in_repository.bytes,
            found: of(&mut in_repository, 0),
            keys: of(&mut in_repository, 1),
            in_database: of(&mut in_database, 0),
            encrypted_volume: search::is_encrypted(&data),
        })
    }

    fn restore(&self, keeper: &Keeper, moment: &Moment, from: Option<&Elsewhere>) -> Result<Told, KeepError> {
        let begun = Instant::now();
        let (name, folder) = self.place(&keeper.work())?;
        let made = (|| {
            let (server, system) = self.run(keeper, moment, from, &folder, true)?;
            if let Some(from) = from {
                // It knows the passwords of the machine that it is of.
                Session::open(server.door())?.run(&keeper.settings().source.door.sql_to_own())?;
                keeper.will_adopt(system, from)?;
                self.fetch_dumps(keeper, from);
            }
            self.progress("stopping it in good order", 0, 0);
            server.stop(STOPPING).map_err(RestoringError::from)?;
            let data = folder.join("data");
            for left in ["log", "home"] {
                remove(&folder.join(left))?;
            }
            // Whoever takes it over is in this process' group.
            open_to_group(&folder)?;
            let database = keeper.settings().database.clone();
            let ms = elapsed(begun);
            Ok(CopyTold { copy: name.clone(), data, socket: None, database, ms, until_unix_ms: None })
        })();
        self.keep_copy(name, folder, None, made)
    }

    /// What was dumped of a server lies beside what is restored from: it goes on here, too, once this process starts again.
    fn fetch_dumps(&self, keeper: &Keeper, from: &Elsewhere) {
        let own = keeper.settings().source.door.port;
        for files in self.keepers.every_files() {
            let of = files.dump().map(|dump| &dump.dump().of);
            let is_its = matches!(of, Some(DumpOf::Managed { port, .. }) if *port == own);
            // Whoever has copied only the server's repository has none of it, and a first dump will be the first.
            if is_its
                && files.plan(&Moment::Latest, Some(from)).is_ok()
                && let Err(error) = files.fetch(from)
            {
                eprintln!("klar keep: {}: {error}", files.settings().name);
            }
        }
    }

    fn tables(
        &self,
        keeper: &Keeper,
        moment: &Moment,
        from: Option<&Elsewhere>,
        tables: &[String],
    ) -> Result<Told, KeepError> {
        let begun = Instant::now();
        let (_, folder) = self.place(&keeper.work())?;
        let schema = format!("restored_{}", Timestamp::now().strftime("%Y%m%dt%H%M%S%3f"));
        let brought = self.run(keeper, moment, from, &folder, false).and_then(|(server, _)| {
            self.progress("bringing the tables over", 0, 0);
            let Settings { source, database, .. } = keeper.settings();
            let (copy, original) = (server.door().to(database), source.door.to(database));
            tables::bring(&source.programs, &copy, &original, &schema, tables, &folder)
        });
        remove(&folder)?;
        let of = |table: Table| (table.name, table.now, table.rows);
        let tables = brought?.into_iter().map(of).collect();
        Ok(Told::Tables { schema, tables, ms: elapsed(begun) })
    }

    fn clone(
        &self,
        keeper: &Keeper,
        moment: &Moment,
        from: Option<Elsewhere>,
        seconds: u64,
        anonymise: bool,
    ) -> Result<Told, KeepError> {
        let begun = Instant::now();
        let (name, folder) = self.place(&keeper.work())?;
        let (ends, ended) = channel::<()>();
        let (says, said) = channel();
        let keepers = self.keepers.clone();
        let stream = self.stream.try_clone();
        let (store, moment, place) = (keeper.settings().name.clone(), moment.clone(), folder.clone());
        let own = name.clone();
        // A server ends with the thread that has started it, so it gets one of its own.
        let spawned = std::thread::Builder::new().name("clone".into()).spawn(move || {
            let made = (|| {
                let failed = |source| KeepError::File { path: place.clone(), source };
                let stream = stream.map_err(failed)?;
                let answering = Answering { keepers: &keepers, stream: &stream };
                let keeper = keepers.keeper(Some(&store))?;
                let (server, _) = answering.run(&keeper, &moment, from.as_ref(), &place, false)?;
                if anonymise {
                    answering.progress("replacing what says something of a person", 0, 0);
                    keeper.anonymise(server.door())?;
                    // The log has it all.
                    remove(&place.join("log"))?;
                }
                Ok(server)
            })();
            match made {
                Err(error) => drop(says.send(Err(error))),
                Ok(server) => {
                    let _ = says.send(Ok(PathBuf::from(&server.door().host)));
                    drop(says);
                    // Until its time is over, somebody removes it, or all ends.
                    let _ = ended.recv_timeout(Duration::from_secs(seconds));
                    drop(server);
                    if let Some(copy) = keepers.copies.take(&own) {
                        let _ = fs::remove_dir_all(copy.folder);
                    }
                }
            }
        });
        let made = match spawned {
            Err(source) => Err(KeepError::File { path: folder.clone(), source }),
            Ok(_) => said.recv().unwrap_or(Err(KeepError::NotStreaming(None))),
        };
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let until = now + Duration::from_secs(seconds);
        let told = made.map(|socket| CopyTold {
            copy: name.clone(),
            data: folder.join("data"),
            socket: Some(socket),
            database: keeper.settings().database.clone(),
            ms: elapsed(begun),
            until_unix_ms: u64::try_from(until.as_millis()).ok(),
        });
        self.keep_copy(name, folder, Some(ends), told)
    }

    /// Plans. A time that has just passed may not be kept yet: that is waited for.
    fn planned<'k>(
        &self,
        keeper: &'k Keeper,
        other: Option<&'k Other>,
        moment: &Moment,
    ) -> Result<(Kept<'k>, Plan), KeepError> {
        // Whoever asks for all of it is told that some is not there.
        if let (Moment::Latest, Some(broken)) = (moment, other.and_then(|other| other.broken.as_ref())) {
            return Err(KeepError::Lack {
                what: format!("the last commits were acknowledged and cannot be restored: {broken}"),
                hint: "`--at TIME` restores to an earlier time; too late a one is answered with the latest"
                    .into(),
            });
        }
        let begun = Instant::now();
        loop {
            let kept = match other {
                None => keeper.kept()?,
                Some(other) => Kept::read(&other.repository, &other.trusted)?,
            };
            match planned(&kept, moment) {
                Err(KeepError::Restoring(RestoringError::TooLate { .. }))
                    if other.is_none() && is_past(moment) && begun.elapsed() < SHIPPED =>
                {
                    self.progress("waiting until that is kept", 0, 0);
                    std::thread::sleep(Duration::from_millis(200));
                }
                plan => return plan.map(|plan| (kept, plan)),
            }
        }
    }

    fn keep_copy(
        &self,
        name: String,
        folder: PathBuf,
        server: Option<Sender<()>>,
        made: Result<CopyTold, KeepError>,
    ) -> Result<Told, KeepError> {
        match made {
            Ok(told) => {
                self.keepers.copies.put(name, Copy { folder, server, adopts: None });
                Ok(Told::Copy(told))
            }
            Err(error) => {
                remove(&folder)?;
                Err(error)
            }
        }
    }

    /// A new folder for a copy.
    fn place(&self, work: &Path) -> Result<(String, PathBuf), KeepError> {
        if self.keepers.copies.count() >= COPIES_MAX {
            return Err(KeepError::Lack {
                what: format!("there are {COPIES_MAX} copies already"),
                hint: "remove one, or wait until one disappears".into(),
            });
        }
        let name = format!("copy-{}", Timestamp::now().strftime("%Y%m%dT%H%M%S%.3fZ"));
        let folder = work.join(&name);
        fs::create_dir_all(&folder).map_err(|source| KeepError::File { path: folder.clone(), source })?;
        Ok((name, folder))
    }

    /// Brings files and log back and runs a server on them that can be written to. Gives which cluster it is, too.
    fn run(
        &self,
        keeper: &Keeper,
        moment: &Moment,
        from: Option<&Elsewhere>,
        folder: &Path,
        durable: bool,
    ) -> Result<(Scratch, u64), KeepError> {
        let other = other(keeper, from)?;
        let (kept, plan) = self.planned(keeper, other.as_ref(), moment)?;
        let (data, log, home) = (folder.join("data"), folder.join("log"), folder.join("home"));
        let programs = &keeper.settings().source.programs;
        self.progress("bringing files and log back", 0, plan.bytes);
        if !durable && other.is_none() && keeper.take_warm(&plan.point.id, &data) {
            kept.lay(&plan, &log)?;
            restore::own(programs, folder)?;
        } else {
            kept.bring_back(&plan, programs, &data, &log)?;
        }
        self.progress("replaying the log", plan.bytes, plan.bytes);
        let server = restore::start(&plan, programs, &data, &log, &home, Then::Promote, durable)?;
        Ok((server, plan.point.system))
    }
}

/// What runs on a copy of files; dropped, it ends.
enum Served {
    Nothing,
    Redis(redis::Scratch),
    Postgres(Box<dump::Loaded>),
}

impl Served {
    fn start(keeper: &FilesKeeper, point: &FilesPoint, data: &Path) -> Result<Self, KeepError> {
        if let Some(redis) = keeper.redis() {
            return Ok(Self::Redis(redis.run(data)?));
        }
        let (Some(source), Some(dumped)) = (keeper.dump(), &point.read.dump) else {
            return Ok(Self::Nothing);
        };
        let loaded = source.load(dumped, data, &data.with_file_name("server"), &|| false)?;
        loaded.open_to_people()?;
        Ok(Self::Postgres(Box::new(loaded)))
    }

    /// Where it is reached, and its database.
    fn told(&self) -> (Option<PathBuf>, String) {
        match self {
            Self::Nothing => (None, String::new()),
            Self::Redis(redis) => (Some(redis.socket().to_owned()), String::new()),
            Self::Postgres(loaded) => {
                (Some(PathBuf::from(&loaded.door().host)), loaded.database_name().to_owned())
            }
        }
    }
}

impl Keepers {
    fn every(&self) -> Result<Vec<Arc<Keeper>>, KeepError> {
        self.names().iter().map(|name| self.keeper(Some(name))).collect()
    }
}

/// Reads all files of a point, and leaves nothing behind.
fn read_again(
    kept: &Kept<'_>,
    point: &Point,
    folder: &Path,
) -> Result<Result<Restored, RestoringError>, KeepError> {
    remove(folder)?;
    let read = kept.files(point, folder);
    remove(folder)?;
    Ok(read)
}

/// The repository that was named, where it is not the keeper's own.
fn other(keeper: &Keeper, from: Option<&Elsewhere>) -> Result<Option<Other>, KeepError> {
    let Settings { second_name, home, .. } = keeper.settings();
    from.map(|from| Other::open(from, second_name, home)).transpose()
}

fn not_a_point(error: NotAPoint) -> KeepError {
    KeepError::Lack { what: error.to_string(), hint: "`klar backup list` shows all points".into() }
}

fn is_past(moment: &Moment) -> bool {
    matches!(moment, Moment::Time(time) if *time <= Timestamp::now().as_microsecond())
}

fn planned(kept: &Kept<'_>, moment: &Moment) -> Result<Plan, KeepError> {
    let lack = |what: String| KeepError::Lack {
        what,
        hint: "`klar restore --help` shows what can be asked for".into(),
    };
    let (until, from): (Until, Option<PointId>) = match moment {
        Moment::Latest => (Until::End, None),
        Moment::Time(time) => {
            (Until::Time(Timestamp::from_microsecond(*time).map_err(|error| lack(error.to_string()))?), None)
        }
        Moment::Lsn(lsn) => (Until::Lsn(lsn.parse().map_err(|error| lack(format!("{error}")))?), None),
        Moment::Name(name) => (Until::Name(name.clone()), None),
        Moment::Before(xid) => (Until::Before(*xid), None),
        Moment::Point(point) => {
            let id: PointId = point.parse().map_err(not_a_point)?;
            let point = kept.points.points.get(&id).ok_or_else(|| RestoringError::Unknown(id.clone()))?;
            (Until::Lsn(point.stop), Some(id))
        }
    };
    Ok(kept.plan(until, from.as_ref())?)
}

fn plan_told(keeper: &Keeper, plan: &Plan) -> PlanTold {
    let until = match &plan.until {
        Until::End => plan
            .covered
            .map_or_else(|| "the end of the log".into(), |covered| format!("{covered}, the newest there is")),
        Until::Time(time) => time.to_string(),
        Until::Lsn(lsn) => format!("the place {lsn} of the log"),
        Until::Name(name) => format!("the restore point `{name}`"),
        Until::Before(xid) => format!("just before transaction {xid}"),
    };
    PlanTold {
        store: keeper.settings().name.clone(),
        point: plan.point.id.to_string(),
        point_unix_ms: ms(plan.point.stopped),
        until,
        bytes: plan.bytes,
        log_bytes: plan.to - plan.point.start,
        rto_ms: keeper.status().rto_ms,
        dumps: Vec::new(),
    }
}

/// Each database of a dump, and its folder.
fn dumps_of(point: &FilesPoint) -> Vec<(String, String)> {
    let databases = point.read.dump.iter().flat_map(|dump| &dump.databases);
    databases.map(|database| (database.name.clone(), database.folder.clone())).collect()
}

fn proof_told(proof: &Proof) -> Told {
    Told::Proof { proof: serde_json::to_value(proof).unwrap_or_default(), good: proof.is_good() }
}

fn listed<P: AnyPoint>(points: &Points<P>, status: KeptStatus) -> Told {
    let told = points.points.values().map(|point| {
        let proof = points.last_proof(point.id());
        let (bytes, added) = point.sizes();
        PointTold {
            id: point.id().to_string(),
            time_unix_ms: ms(point.stopped()),
            bytes,
            added,
            proven_unix_ms: proof.map(|proof| ms(proof.begun)),
            good: proof.map(Proof::is_good),
            bad: proof.and_then(Proof::lack).map(|step| step.evidence.clone()),
            rto_ms: proof.and_then(|proof| proof.rto_ms),
        }
    });
    let refused = points.refused.iter().map(ToString::to_string).collect();
    Told::Points { points: told.collect(), status: Box::new(status), refused }
}

/// Of which store something is asked.
pub(crate) fn store_of(ask: &Ask) -> Option<&ServiceName> {
    match ask {
        Ask::List { store }
        | Ask::Now { store }
        | Ask::Drill { store, .. }
        | Ask::Compare { store }
        | Ask::Verify { store }
        | Ask::Rehearse { store }
        | Ask::Search { store, .. }
        | Ask::Plan { store, .. }
        | Ask::Restore { store, .. }
        | Ask::Tables { store, .. }
        | Ask::Beside { store, .. }
        | Ask::Clone { store, .. } => store.as_ref(),
        Ask::Remove { .. } | Ask::Escrow { .. } => None,
    }
}

fn ms(time: Timestamp) -> u64 {
    u64::try_from(time.as_millisecond()).unwrap_or_default()
}

fn elapsed(begun: Instant) -> u64 {
    u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX)
}

fn remove(folder: &Path) -> Result<(), KeepError> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(KeepError::File { path: folder.to_owned(), source: error })
        }
        _ => Ok(()),
    }
}

/// PostgreSQL takes a folder that its group may read, and none that others may.
fn open_to_group(folder: &Path) -> Result<(), KeepError> {
    let mut left = vec![folder.to_owned()];
    while let Some(path) = left.pop() {
        let failed = |source| KeepError::File { path: path.clone(), source };
        let metadata = fs::symlink_metadata(&path).map_err(failed)?;
        if metadata.is_dir() {
            for entry in fs::read_dir(&path).map_err(failed)? {
                left.push(entry.map_err(failed)?.path());
            }
            fs::set_permissions(&path, Permissions::from_mode(0o750)).map_err(failed)?;
        } else if metadata.is_file() {
            fs::set_permissions(&path, Permissions::from_mode(0o640)).map_err(failed)?;
        }
    }
    Ok(())
}
