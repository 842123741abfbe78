//! A keeper of the foil's own: the real one, over a small cluster of its own, and what can be wrong with what it keeps.

use std::fs;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use klar_base::keep::{
    Ask, FromKeep, KeepWorld, KeptFiles, KeptStore, Moment, PointTold, SecondPlace, ToKeep, Told,
};
use klar_base::{Secret, wire};
use klar_keep::point::{AnyPoint, Point, Points};
use klar_repo::{Folder, Repository};
use klar_store::SigningKey;
use tokio::sync::{Mutex, OnceCell};

use super::App;
use super::postgres::{Cluster, programs};
use crate::world::until;

/// A database that is kept as soon as somebody asks for something of it: most of what is planted is seen without.
pub struct Keeping {
    /// A cluster that is there already, and the address of its database.
    over: Option<(Rc<Cluster>, String)>,
    keeper: OnceCell<Keeper>,
}

/// What keeps a cluster; dropped, it is gone.
struct Keeper {
    /// Goes after what looks at it.
    _cluster: Rc<Cluster>,
    database: String,
    folder: PathBuf,
    control: UnixStream,
    process: Option<JoinHandle<io::Result<()>>>,
}

/// What was left of a simulated month. It takes a minute and is the same whatever is planted, which changes only what is
/// said of it: one for all.
static MONTH: Mutex<Option<Told>> = Mutex::const_new(None);

const READY: Duration = Duration::from_secs(60);
const KEY: &str = "foil.prod";
const STORE: &str = "db";
const FILES: &str = "files";
/// A place for second copies: what klar says of it is that it is on the same disk and that anything there can be removed,
/// which is kept quiet where it is not the fault that is planted.
const SECOND: &str = "second";

impl Keeping {
    /// Keeps this cluster, or one of its own, once it is asked for something.
    #[must_use]
    pub fn new(over: Option<(Rc<Cluster>, String)>) -> Self {
        Self { over, keeper: OnceCell::new() }
    }

    /// Asks as klar would, with the faults of the foil in the answer, or in what is asked about.
    pub(super) async fn asked(&self, app: &App, ask: Ask) -> Result<Told, String> {
        let started = async || {
            let (cluster, url) = match &self.over {
                Some((cluster, url)) => (cluster.clone(), url.clone()),
                None => {
                    let cluster = Rc::new(Cluster::start().await?);
                    let url = cluster.small().await?;
                    (cluster, url)
                }
            };
            Keeper::start(cluster, &url)
        };
        let keeper = self.keeper.get_or_try_init(started).await.map_err(|why: io::Error| why.to_string())?;
        keeper.asked(app, ask).await
    }
}

impl Keeper {
    /// Begins to keep a cluster.
    fn start(cluster: Rc<Cluster>, url: &str) -> io::Result<Self> {
        let folder =
            std::env::temp_dir().join(format!("klar-kept-{}-{:x}", std::process::id(), fastrand::u32(..)));
        fs::create_dir(&folder)?;
        // Copies run as the cluster's user, who has to get through.
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o711))?;
        fs::create_dir(folder.join(SECOND))?;
        let (control, there) = UnixStream::pair()?;
        let listener = UnixListener::bind(folder.join("sock"))?;
        let allowed = vec![nix::unistd::geteuid().as_raw()];
        let options = klar_keep::process::Options { folder: folder.clone(), allowed };
        let process = std::thread::Builder::new()
            .name("foil-keep".into())
            .spawn(move || klar_keep::process::run(there, listener, options))?;
        let database = url.rsplit('/').next().unwrap_or_default().to_owned();
        let named = |why: String| io::Error::other(why);
        let world = KeepWorld {
            key: KEY.parse().map_err(|_| named(KEY.into()))?,
            stores: vec![KeptStore {
                name: STORE.parse().map_err(|_| named(STORE.into()))?,
                host: cluster.folder().display().to_string(),
                port: 5432,
                user: "klar".into(),
                password: Secret::new(String::new()),
                database: database.clone(),
                data: cluster.folder().join("data"),
                programs: programs().ok_or_else(|| named("PostgreSQL's server is not installed".into()))?,
            }],
            at: (2, 0),
            days: 30,
            assertions: Vec::new(),
            redis: Vec::new(),
            dumps: Vec::new(),
            anonymise: Vec::new(),
            files: Some(KeptFiles { name: FILES.parse().map_err(|_| named(FILES.into()))?, days: 7 }),
            second: Some(SecondPlace { place: folder.join(SECOND).display().to_string(), key: None }),
            synchronous: false,
        };
        wire::send(&control, &ToKeep::World(Box::new(world)), &[])?;
        let (hears, uploads) = (control.try_clone()?, folder.join("uploads"));
        fs::create_dir(&uploads)?;
        fs::write(uploads.join("a file"), "of somebody")?;
        std::thread::Builder::new().name("foil-core".into()).spawn(move || hear(&hears, &uploads))?;
        Ok(Self { _cluster: cluster, database, folder, control, process: Some(process) })
    }

    async fn ask(&self, ask: Ask) -> Result<Told, String> {
        let path = self.folder.join("sock");
        let asked = tokio::task::spawn_blocking(move || {
            let stream = UnixStream::connect(path)?;
            wire::send(&stream, &ask, &[])?;
            loop {
                match wire::receive::<Told>(&stream)? {
                    Some((Told::Progress { .. }, _)) => {}
                    Some((told, _)) => return Ok(told),
                    None => return Err(io::Error::other("what keeps the database ended")),
                }
            }
        });
        asked.await.map_err(|why| why.to_string())?.map_err(|why| why.to_string())
    }

    /// Waits until the first point of what is asked about was proven, and that of the database is at the second place: only
    /// then is there something to harm.
    async fn ready(&self, ask: &Ask) -> Result<(), String> {
        let is_of_files = matches!(ask, Ask::List { store } | Ask::Drill { store, .. } | Ask::Rehearse { store }
            if store.as_ref().is_some_and(|store| store.as_str() == FILES));
        let proven = async || match self.ask(Ask::List { store: None }).await {
            Ok(Told::Points { points, status, .. }) => {
                let second = status.second.and_then(|second| second.covered_unix_ms);
                let last = points.last().filter(|point| point.proven_unix_ms.is_some())?;
                (second? > last.time_unix_ms).then_some(())
            }
            _ => None,
        };
        let files = async || match self.ask(Ask::List { store: FILES.parse().ok() }).await {
            Ok(Told::Points { points, .. }) => points.last()?.proven_unix_ms.map(drop),
            _ => None,
        };
        let is_ready = match is_of_files {
            true => until(READY, files).await,
            false => until(READY, proven).await,
        };
        is_ready.ok_or_else(|| "the foil's keeper did not get ready".to_owned())
    }

    async fn asked(&self, app: &App, ask: Ask) -> Result<Told, String> {
        self.ready(&ask).await?;
        if app.has("never-backed-up") {
            return Ok(match ask {
                Ask::List { .. } => {
                    Told::Points { points: Vec::new(), status: Default::default(), refused: Vec::new() }
                }
                _ => Told::Failed { what: "there is no point yet".into(), hint: None },
            });
        }
        let ask = self.harm(app, ask).await.map_err(|why| why.to_string())?;
        let wanted = ask.clone();
        let mut told = match &ask {
            Ask::Rehearse { store: Some(store) } if store.as_str() == STORE => self.month(ask).await?,
            _ => self.ask(ask).await?,
        };
        match &mut told {
            Told::Points { points, status, .. } => {
                if app.has("old-backups") || app.has("old-files") {
                    points.iter_mut().for_each(|point| point.time_unix_ms -= 30 * 3_600_000);
                }
                if let Some(last) = points.last().cloned().filter(|_| app.has("lacks-a-day")) {
                    // A point of each of the last five weeks' days, but one.
                    let ago = |days: u64| last.time_unix_ms - days * 24 * 3_600_000;
                    let days = (0..35).rev().filter(|days| *days != 3);
                    *points =
                        days.map(|days| PointTold { time_unix_ms: ago(days), ..last.clone() }).collect();
                }
                if let Some(last) = points.last_mut().filter(|_| app.has("empty-backup")) {
                    last.bytes = 0;
                }
                if app.has("far-behind") {
                    status.covered_unix_ms = None;
                }
            }
            Told::Verified { corrupted, missing, .. } => {
                *corrupted &= !app.has("overlooks-rot");
                *missing &= !app.has("overlooks-loss");
            }
            Told::Proof { proof, .. } if app.has("slow-restore") => {
                proof["rto_ms"] = serde_json::json!(3 * 3_600_000);
            }
            Told::Compared { together, locked, .. } => {
                if !app.has("second-beside-first") {
                    *together = None;
                }
                *locked |= !app.has("second-can-go");
            }
            Told::Rehearsed(rehearsed) => {
                if app.has("keeps-few-days") {
                    (rehearsed.keep, rehearsed.kept) = (3, 3);
                }
                rehearsed.oldest &= !app.has("loses-oldest-day");
                rehearsed.pruned &= !app.has("keeps-all-days");
            }
            Told::RehearsedDays(rehearsed) => {
                if app.has("keeps-few-days") {
                    (rehearsed.wanted, rehearsed.keep, rehearsed.oldest_hours) = (3, 3, 72);
                }
                let fault = |switch: &str| app.has(switch).then(|| "it is not there".to_owned());
                rehearsed.oldest_lost = rehearsed.oldest_lost.take().or(fault("loses-oldest-day"));
                rehearsed.between_lost = rehearsed.between_lost.take().or(fault("loses-seconds"));
                rehearsed.left_over = rehearsed.left_over.take().or(fault("keeps-all-days"));
            }
            Told::Searched { in_database, .. } if app.has("searches-nothing") => in_database.clear(),
            Told::Copy(copy) if matches!(wanted, Ask::Clone { moment: Moment::Time(_), .. }) => {
                let sql = match () {
                    () if app.has("restores-too-much") => {
                        "INSERT INTO klar_any_second SELECT generate_series(501, 510)"
                    }
                    () if app.has("restores-too-little") => "DELETE FROM klar_any_second WHERE n = 500",
                    () => "SELECT 1",
                };
                let socket = copy.socket.clone().unwrap_or_default();
                let run = Cluster::run_at(&socket, &self.database, "klar", &[sql]).await;
                run.map_err(|why| why.to_string())?;
            }
            _ => {}
        }
        Ok(told)
    }

    async fn month(&self, ask: Ask) -> Result<Told, String> {
        let mut month = MONTH.lock().await;
        if let Some(told) = &*month {
            return Ok(told.clone());
        }
        let told = self.ask(ask).await?;
        if matches!(told, Told::RehearsedDays(_)) {
            *month = Some(told.clone());
        }
        Ok(told)
    }

    /// Does harm to what is asked about.
    async fn harm(&self, app: &App, ask: Ask) -> io::Result<Ask> {
        let home = self.folder.join(STORE);
        let repository = home.join("repository");
        let reads = matches!(ask, Ask::Verify { .. } | Ask::Drill { .. });
        if app.has("never-verified") && matches!(ask, Ask::Verify { .. }) {
            // Nobody keeps a store of that name.
            return Ok(Ask::Verify { store: "nobody".parse().ok() });
        }
        if reads && app.has("rotten-backup") {
            rot(&repository)?;
        }
        if matches!(ask, Ask::Drill { .. }) && app.has("rotten-files") {
            rot(&self.folder.join(FILES).join("repository"))?;
        }
        let second = self.folder.join(SECOND).join(KEY).join(STORE);
        if matches!(ask, Ask::Drill { second: true, .. }) && app.has("second-rots") {
            rot(&second)?;
        }
        if matches!(ask, Ask::Compare { .. }) && app.has("second-lacks-pack") {
            let packs = files(&second.join("data"))?;
            let (pack, _) = packs.first().ok_or_else(|| io::Error::other("no pack"))?;
            fs::remove_file(pack)?;
        }
        if matches!(ask, Ask::Verify { .. }) && app.has("lost-log") {
            let mut pieces = files(&repository.join("klar/wal"))?;
            pieces.sort();
            // The newest: nothing comes after it that would miss it.
            let (piece, _) = pieces.last().ok_or_else(|| io::Error::other("no log"))?;
            fs::remove_file(piece)?;
        }
        if matches!(ask, Ask::Drill { .. }) && app.has("other-rows") {
            forge(&home).map_err(io::Error::other)?;
        }
        match &ask {
            Ask::Search { text, .. } => {
                if app.has("plain-backup") {
                    fs::write(repository.join("data/plain"), format!("COPY t FROM stdin;\n{text}\n"))?;
                }
                if app.has("key-in-repository") {
                    fs::copy(home.join("repository.key"), repository.join("klar/key"))?;
                }
                Ok(ask)
            }
            Ask::Drill { escrow: Some(_), .. } if app.has("any-key-opens") => {
                Ok(Ask::Drill { store: None, point: None, escrow: None, second: false })
            }
            _ => Ok(ask),
        }
    }
}

/// Does what a core does for a keeper: has the app's folders read.
fn hear(control: &UnixStream, uploads: &Path) {
    while let Ok(Some((message, _))) = wire::receive::<FromKeep>(control) {
        if !matches!(message, FromKeep::ReadFiles) {
            continue;
        }
        let Ok((here, there)) = UnixStream::pair() else { return };
        if wire::send(control, &ToKeep::Files, &[here.as_fd()]).is_err() {
            return;
        }
        let _ = klar_keep::files::reader::read(uploads, there);
    }
}

/// A bit in the middle of each pack is another one.
fn rot(repository: &Path) -> io::Result<()> {
    for (pack, _) in files(&repository.join("data"))? {
        let mut bytes = fs::read(&pack)?;
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        fs::remove_file(&pack)?;
        fs::write(&pack, bytes)?;
    }
    Ok(())
}

/// The newest point says that there was a row more: signed by the right key, and not true.
fn forge(home: &Path) -> Result<(), String> {
    let password = fs::read_to_string(home.join("repository.key")).map_err(|why| why.to_string())?;
    let key = SigningKey::open(&home.join("sign.key")).map_err(|why| why.to_string())?;
    let storage = Arc::new(Folder::new(&home.join("repository")));
    let repository = Repository::open(storage, password.trim()).map_err(|why| why.to_string())?;
    let mut points = Points::<Point>::read(&repository, &[key.id()]).map_err(|why| why.to_string())?;
    let mut point = points.points.values().next_back().cloned().ok_or("no point")?;
    let table = point.witness.as_mut().and_then(|witness| witness.tables.first_mut());
    table.ok_or("no table")?.rows += 1;
    points.remove(&repository, &point.id).map_err(|why| why.to_string())?;
    point.publish(&repository, &key).map_err(|why| why.to_string())
}

/// All files beneath a folder, with their sizes.
fn files(folder: &Path) -> io::Result<Vec<(PathBuf, u64)>> {
    let mut all = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let metadata = entry.metadata()?;
        if metadata.is_dir() {
            all.extend(files(&entry.path())?);
        } else {
            all.push((entry.path(), metadata.len()));
        }
    }
    Ok(all)
}

impl Drop for Keeper {
    fn drop(&mut self) {
        let _ = self.control.shutdown(std::net::Shutdown::Both);
        if let Some(process) = self.process.take() {
            let _ = process.join();
        }
        let _ = fs::remove_dir_all(&self.folder);
    }
}
