//! Telemetry: the process that takes in what happens (`klar see`), keeps it, and answers questions about it.
//!
//! It is one process for all apps of a host, started by the core and fed by it ([`klar_base::see`]): a heavy query, or its
//! death, never touches traffic. It reads what strangers have sent (paths, names, whatever apps say), so it locks itself in
//! before the first byte, as the edge does: it may write beneath its own folder and nowhere else.
//!
//! What comes passes through these files: `record.rs` reads the record of a request, `routes.rs` learns which paths are one
//! route, `red.rs` counts, `state.rs` holds all of it together with what the core says there is; `host.rs` and
//! `processes.rs` look at the machine and at what instances use. Every few seconds all of that becomes a `sheet.rs`, which
//! `recorder.rs` writes into the store ([`klar_tsdb`]). What apps count themselves they are asked for (`scrape.rs`,
//! `exposition.rs`), and databases that klar runs how they do (`stores.rs`).
//! Each request and each line that an instance says (`logs.rs`) is a row (`rows.rs`), kept in Parquet files
//! ([`klar_rows`]); so is each line that other programs send, whatever they speak (`intake.rs`, `syslog.rs`), and what
//! apps tell in datagrams are metrics (`statsd.rs`). `serve/` answers: Prometheus' API in its own language
//! ([`klar_promql`]), `/metrics`, and remote write.
//!
//! **Invariant:** nothing that comes from outside makes more than a bounded number of series, routes or bytes in memory.

mod board;
mod exposition;
mod host;
mod intake;
mod logs;
mod processes;
mod proto;
mod record;
mod recorder;
mod red;
mod routes;
mod rows;
mod scrape;
mod serve;
mod sheet;
mod state;
mod statsd;
mod stores;
mod syslog;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::io;
use std::net::TcpListener;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use klar_base::lines::Lines;
use klar_base::see::{FromSee, SeenApp, ToSee};
use klar_base::{AppKey, ServiceName, wire};
use klar_tsdb::{Settings, Store};

use crate::recorder::Recorder;
use crate::sheet::Sheet;
use crate::state::State;

/// How often metrics are written down.
const EVERY: Duration = Duration::from_secs(15);
/// How often what is old is cut, merged and removed.
const UPKEEP: Duration = Duration::from_secs(60);
/// How long the store before this one may take to let go of its folder.
const PATIENCE: Duration = Duration::from_secs(10);
/// How politely it asks for the processor: what serves comes first.
const NICE: i32 = 10;

/// How to run telemetry.
#[derive(Debug)]
pub struct Options {
    /// Where everything is kept; it must be there and its own.
    pub folder: PathBuf,
    /// The folder of all apps, in which their output is.
    pub apps: PathBuf,
    /// The users who may ask at the Unix socket.
    pub allowed: Vec<u32>,
    /// Give up every right that it does not need. Off only in tests that run inside another program.
    pub sandbox: bool,
}

/// Why telemetry cannot run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SeeError {
    /// Something that the kernel refused.
    #[error("telemetry cannot {what}: {source}")]
    System {
        /// What was tried.
        what: &'static str,
        /// Why not.
        source: io::Error,
    },
    /// The sandbox could not be set up.
    #[error("telemetry cannot lock itself in: {0}")]
    Sandbox(String),
    /// The store could not be opened.
    #[error("telemetry cannot open what it has kept: {0}")]
    Store(#[from] klar_tsdb::Error),
    /// The store of rows could not be opened.
    #[error("telemetry cannot open the rows that it has kept: {0}")]
    Rows(String),
}

fn system(what: &'static str) -> impl FnOnce(io::Error) -> SeeError {
    move |source| SeeError::System { what, source }
}

/// What all threads share.
pub(crate) struct Shared {
    folder: PathBuf,
    apps: PathBuf,
    /// When all was written down last, in milliseconds since 1970; 0: not yet.
    recorded_ms: std::sync::atomic::AtomicI64,
    store: Arc<Store>,
    rows: rows::Rows,
    state: Mutex<State>,
    /// Apps that are to be forgotten, and since when: what is on its way comes first.
    leaving: Mutex<Vec<(AppKey, std::time::Instant)>>,
    known: Mutex<serve::Known>,
    /// Held by whoever has something large in memory.
    room: Mutex<()>,
    statsd: Mutex<statsd::Statsd>,
}

pub(crate) fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Milliseconds since 1970.
pub(crate) fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    /// Everything, as it is now.
    fn sheet(&self) -> Sheet {
        let mut sheet = Sheet::default();
        host::collect(&mut sheet);
        self.state().collect(&mut sheet);
        self.own(&mut sheet);
        sheet
    }

    /// Deletes all that is known of an app.
    fn forget(&self, key: &AppKey) -> Result<(), String> {
        let is = |name, value| klar_tsdb::Matcher::new(name, klar_tsdb::Op::Equal, value);
        let matchers = [is("app", key.app.as_str()), is("env", key.env.as_str())];
        let matchers = matchers.into_iter().collect::<Result<Vec<_>, _>>().map_err(|bad| bad.to_string())?;
        self.store.delete(&matchers, i64::MIN / 4, i64::MAX / 4).map_err(|error| error.to_string())?;
        self.rows.delete(key).map_err(|error| error.to_string())
    }

    fn own(&self, sheet: &mut Sheet) {
        use crate::sheet::Kind::{Counter, Gauge};
        let found = self.store.statistics();
        sheet.single("klar_see_series", Gauge, "Series in memory.", found.series as f64);
        sheet.single("klar_see_head_bytes", Gauge, "Samples in memory.", found.head_bytes as f64);
        let bytes = sheet.family("klar_see_disk_bytes", Gauge, "What is kept on disk.");
        bytes.point(&[("of", "log")], found.wal_bytes as f64);
        bytes.point(&[("of", "blocks")], found.block_bytes as f64);
        sheet.single(
            "klar_see_block_samples",
            Gauge,
            "Samples in blocks on disk.",
            found.block_samples as f64,
        );
        for (table, rows, bytes) in self.rows.size() {
            let labels = [("table", &*table)];
            sheet.family("klar_see_rows", Gauge, "Rows that are kept.").point(&labels, rows as f64);
            sheet
                .family("klar_see_rows_bytes", Gauge, "What rows take on disk.")
                .point(&labels, bytes as f64);
        }
        let lost = self.rows.lost.load(std::sync::atomic::Ordering::Relaxed) as f64;
        sheet.single("klar_see_rows_lost_total", Counter, "Rows that could not be kept.", lost);
        {
            let statsd = lock(&self.statsd);
            sheet.single("klar_see_statsd_series", Gauge, "Series of StatsD.", statsd.size() as f64);
            let values = sheet.family(
                "klar_see_statsd_values_total",
                Counter,
                "What came in StatsD, by what became of it.",
            );
            values.point(&[("verdict", "taken")], statsd.taken as f64);
            values.point(&[("verdict", "refused")], statsd.refused as f64);
        }
        let samples =
            sheet.family("klar_see_samples_total", Counter, "Samples that came, by what became of them.");
        for (verdict, count) in klar_tsdb::Verdict::ALL.iter().zip(found.verdicts) {
            samples.point(&[("verdict", &format!("{verdict:?}").to_lowercase())], count as f64);
        }
    }
}

/// Serves until the core closes its end of `control`. `unix` and `tcp` listen.
///
/// # Errors
/// When it cannot open its store, start a thread or lock itself in.
pub fn run(
    control: UnixStream,
    unix: Option<UnixListener>,
    tcp: Vec<TcpListener>,
    options: Options,
) -> Result<(), SeeError> {
    if options.sandbox {
        // Refused only where it was polite already.
        let _ = be_polite();
    }
    let sandbox = if options.sandbox {
        lock_in(&options)?
    } else {
        vec!["off: telemetry runs inside another program".to_owned()]
    };
    let store = open(&options)?;
    let (rows, notes) =
        rows::Rows::open(&options.folder.join("rows")).map_err(|error| SeeError::Rows(error.to_string()))?;
    notes.iter().for_each(|note| eprintln!("klar see: {note}"));
    let shared = Arc::new(Shared {
        folder: options.folder.clone(),
        apps: options.apps.clone(),
        recorded_ms: 0.into(),
        store: Arc::new(store),
        rows,
        state: Mutex::default(),
        leaving: Mutex::default(),
        known: Mutex::default(),
        room: Mutex::default(),
        statsd: Mutex::default(),
    });
    let (wake, asleep) = std::sync::mpsc::channel::<()>();
    let recorder = {
        let (shared, control) = (shared.clone(), control.try_clone().map_err(system("share its socket"))?);
        let work = move || record_for_ever(&shared, &control, &sandbox, &asleep);
        std::thread::Builder::new().name("recorder".into()).spawn(work).map_err(system("start a thread"))?
    };
    let (wake_scraper, scraper_asleep) = std::sync::mpsc::channel::<()>();
    let scraper = {
        let shared = shared.clone();
        let work = move || scrape_for_ever(&shared, &scraper_asleep);
        std::thread::Builder::new().name("scraper".into()).spawn(work).map_err(system("start a thread"))?
    };
    let (wake_keeper, keeper_asleep) = std::sync::mpsc::channel::<()>();
    let keeper = {
        let (shared, apps) = (shared.clone(), options.apps.clone());
        let work = move || keep_rows(&shared, &apps, &keeper_asleep);
        std::thread::Builder::new().name("rows".into()).spawn(work).map_err(system("start a thread"))?
    };
    let (open_doors, opened) = tokio::sync::mpsc::unbounded_channel();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let server = {
        let shared = shared.clone();
        let work = move || {
            if let Err(error) = answer_until(stopped, opened, shared, unix, tcp, options.allowed) {
                eprintln!("klar see: nobody can ask: {error}");
            }
        };
        std::thread::Builder::new().name("serve".into()).spawn(work).map_err(system("start a thread"))?
    };
    let heard = hear(&shared, &control, &open_doors);
    drop((wake, wake_scraper, wake_keeper, stop));
    // What they could not do they have said themselves.
    let _ = (recorder.join(), scraper.join(), keeper.join(), server.join());
    heard.map_err(system("hear the core"))
}

/// Serves until `stopped` says so, or nobody can say so any more.
fn answer_until(
    stopped: tokio::sync::oneshot::Receiver<()>,
    opened: tokio::sync::mpsc::UnboundedReceiver<serve::Doors>,
    shared: Arc<Shared>,
    unix: Option<UnixListener>,
    tcp: Vec<TcpListener>,
    allowed: Vec<u32>,
) -> io::Result<()> {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().max_blocking_threads(8).build()?;
    let served = runtime.block_on(async {
        tokio::select! {
            served = serve::run(shared, unix, tcp, allowed, opened) => served,
            _ = stopped => Ok(()),
        }
    });
    // Nobody waits for the answers that are still being worked on.
    runtime.shutdown_timeout(Duration::from_millis(100));
    served
}

/// What the core says, until it closes.
fn hear(
    shared: &Shared,
    control: &UnixStream,
    open_doors: &tokio::sync::mpsc::UnboundedSender<serve::Doors>,
) -> io::Result<()> {
    loop {
        let (frame, descriptors) = match wire::receive_text(control) {
            Ok(Some(received)) => received,
            Ok(None) => return Ok(()),
            // A core that goes without having read everything that was said to it.
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return Ok(()),
            Err(error) => return Err(error),
        };
        match Lines::read(frame) {
            Ok(lines) => {
                shared
                    .state()
                    .count(&lines, |record, whose, route| shared.rows.request(record, whose, route));
            }
            Err(message) => match serde_json::from_slice(&message) {
                Ok(ToSee::World(world)) => shared.state().set_world(world, &shared.folder),
                Ok(ToSee::Pulse(pulse)) => shared.state().set_pulse(pulse),
                Ok(ToSee::Doors { doors }) => {
                    // Where nobody serves, that was said already.
                    let doors = serve::Doors::of(doors, descriptors);
                    let _ = doors.map(|doors| open_doors.send(doors));
                }
                Ok(ToSee::Forget { key }) => {
                    lock(&shared.statsd).forget(&key);
                    shared.state().remove(&key, &shared.folder);
                    lock(&shared.leaving).push((key, std::time::Instant::now()));
                }
                // A newer core may say more.
                Err(_) => {}
            },
        }
    }
}

fn record_for_ever(
    shared: &Shared,
    control: &UnixStream,
    sandbox: &[String],
    asleep: &std::sync::mpsc::Receiver<()>,
) {
    let mut recorder = Recorder::new(now_ms());
    // What apps tell in datagrams.
    let mut told_recorder = Recorder::new(now_ms());
    let mut kept_up = std::time::Instant::now();
    let mut before = None;
    loop {
        // At whole multiples, so that what is asked for later lies on one grid.
        let every = EVERY.as_millis() as i64;
        let until = every - now_ms().rem_euclid(every);
        let ended = asleep.recv_timeout(Duration::from_millis(until.unsigned_abs()))
            != Err(std::sync::mpsc::RecvTimeoutError::Timeout);
        let time_ms = if ended { now_ms() } else { now_ms().div_euclid(every) * every };
        let mut trouble = recorder
            .record(&shared.store, shared.sheet().series(), time_ms)
            .err()
            .map(|error| error.to_string());
        let counted = lock(&shared.statsd).series();
        if let Err(error) = told_recorder.record(&shared.store, counted.into_iter(), time_ms) {
            trouble = Some(error.to_string());
        }
        shared.recorded_ms.store(time_ms, std::sync::atomic::Ordering::Relaxed);
        if let Err(error) = shared.state().write_routes(&shared.folder) {
            trouble = Some(format!("the routes that were learnt cannot be written down: {error}"));
        }
        let due: Vec<AppKey> = {
            let mut leaving = lock(&shared.leaving);
            let is_due = |(_, since): &mut (AppKey, std::time::Instant)| ended || since.elapsed() >= EVERY;
            leaving.extract_if(.., is_due).map(|(key, _)| key).collect()
        };
        for key in due {
            if let Err(error) = shared.forget(&key) {
                trouble = Some(format!("what is known of {key} is not all deleted: {error}"));
            }
        }
        if ended {
            return;
        }
        if kept_up.elapsed() >= UPKEEP {
            kept_up = std::time::Instant::now();
            if let Err(error) = shared.store.maintain(now_ms()) {
                trouble = Some(error.to_string());
            }
        }
        if trouble != before {
            if let Some(trouble) = &trouble {
                eprintln!("klar see: {trouble}");
            }
            before.clone_from(&trouble);
        }
        let found = shared.store.statistics();
        let told = FromSee {
            sandbox: sandbox.to_vec(),
            series: found.series as u64,
            bytes: found.wal_bytes + found.block_bytes,
            trouble,
        };
        // A core that is gone is noticed by whoever listens to it.
        let _ = wire::send(control, &told, &[]);
    }
}

/// Asks instances for what they count, between two looks of the recorder, so that they do not do their work at once.
fn scrape_for_ever(shared: &Shared, asleep: &std::sync::mpsc::Receiver<()>) {
    let every = EVERY.as_millis() as i64;
    let mut scraper = scrape::Scraper::default();
    let mut before = HashMap::new();
    let mut stores = stores::Stores::new(now_ms());
    let mut stores_before = HashMap::new();
    loop {
        let until = every - (now_ms() - every / 2).rem_euclid(every);
        let woken = asleep.recv_timeout(Duration::from_millis(until.unsigned_abs()));
        if woken != Err(std::sync::mpsc::RecvTimeoutError::Timeout) {
            return;
        }
        let world = shared.state().world().clone();
        scraper.scrape(&world, &shared.store, now_ms());
        stores.ask(&world, &shared.store, now_ms());
        if stores.troubles != stores_before {
            for (instance, why) in &stores.troubles {
                eprintln!("klar see: metrics of {instance}: {why}");
            }
            stores_before.clone_from(&stores.troubles);
        }
        if scraper.troubles != before {
            for (instance, why) in &scraper.troubles {
                eprintln!("klar see: metrics of {instance}: {why}");
            }
            before.clone_from(&scraper.troubles);
        }
    }
}

/// Takes in what instances say, makes rows findable, and keeps them.
fn keep_rows(shared: &Shared, apps: &std::path::Path, asleep: &std::sync::mpsc::Receiver<()>) {
    /// How often files are looked at.
    const LOOK: Duration = Duration::from_millis(250);
    /// How often rows are put on disk, and files written.
    const KEEP: Duration = Duration::from_secs(1);
    let mut tails = logs::Tails::open(&shared.folder);
    let mut kept = std::time::Instant::now();
    let mut upto = None;
    let mut before = None;
    loop {
        let known: Vec<(AppKey, Vec<ServiceName>)> = {
            let state = shared.state();
            let names = |app: &SeenApp| app.services.iter().map(|service| service.name.clone()).collect();
            state.world().apps.iter().map(|app| (app.key.clone(), names(app))).collect()
        };
        let mut more = false;
        for (key, services) in &known {
            more |= tails.read(apps, key, services, &shared.rows);
        }
        upto = shared.rows.hand_in().or(upto);
        let pause = if more { Duration::ZERO } else { LOOK };
        let ended = asleep.recv_timeout(pause) != Err(std::sync::mpsc::RecvTimeoutError::Timeout);
        if ended {
            upto = shared.rows.hand_in().or(upto);
        }
        if ended || kept.elapsed() >= KEEP {
            kept = std::time::Instant::now();
            let committed = upto.take().map_or(Ok(()), |upto| shared.rows.commit(upto));
            let done =
                committed.and_then(|()| shared.rows.maintain(now_ms())).map_err(|error| error.to_string());
            let written = tails.write(&shared.folder);
            let trouble = done.err().or_else(|| written.err().map(|error| error.to_string()));
            if trouble != before
                && let Some(trouble) = &trouble
            {
                eprintln!("klar see: rows: {trouble}");
            }
            before = trouble;
        }
        if ended {
            return;
        }
    }
}

fn open(options: &Options) -> Result<Store, SeeError> {
    let begun = std::time::Instant::now();
    let folder = options.folder.join("metrics");
    loop {
        match Store::open(&folder, Settings::default()) {
            Ok((store, recovered)) => {
                for note in &recovered.notes {
                    eprintln!("klar see: {note}");
                }
                return Ok(store);
            }
            // The one before has its last samples to write.
            Err(klar_tsdb::Error::InUse(_)) if begun.elapsed() < PATIENCE => {
                std::thread::sleep(Duration::from_millis(50));
            }
            Err(error) => return Err(error.into()),
        }
    }
}

#[allow(unsafe_code)]
fn be_polite() -> io::Result<()> {
    // SAFETY: a system call on plain numbers, for this process.
    let result = unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, NICE) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Gives up everything but this: it may serve sockets that it was given, keep files beneath its own folder, and read what
/// instances say and what the kernel says of the machine.
fn lock_in(options: &Options) -> Result<Vec<String>, SeeError> {
    let mut read = vec![options.apps.clone()];
    read.extend(
        ["/proc", "/sys/devices/system/cpu", "/etc/localtime", "/usr/share/zoneinfo"].map(PathBuf::from),
    );
    let kept = klar_sandbox::Kept {
        read: &read,
        write: std::slice::from_ref(&options.folder),
        calls: &[klar_sandbox::SERVING, klar_sandbox::STORING],
    };
    klar_sandbox::close(&kept, "writes only beneath its own folder")
        .map_err(|error| SeeError::Sandbox(error.to_string()))
}
