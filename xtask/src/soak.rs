//! `cargo xtask soak`: kill -9, at random, for as long as it takes, under load.
//!
//! What must hold afterwards: every order that was acknowledged is in PostgreSQL; a killed core or spawner has failed
//! no request; the app answered again within five seconds of each kill; every line of output whose write had
//! returned is in the logs, but for what a killed shim had in its hands; one release serves; nothing is orphaned.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::Path;
use std::process::{Child, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use crate::install;
use crate::load::{Client, Load, RATE, Tally};
use crate::shell::{repository, run, say};
use crate::world::{self, World, instances, serving};

/// The app must answer again within this.
const ANSWER: Duration = Duration::from_secs(5);
/// Everything must run again within this.
const WHOLE: Duration = Duration::from_secs(60);
/// What the systemd unit waits before it starts klar again (`RestartSec`).
const RESTART: Duration = Duration::from_millis(100);
/// What a shim may hold that is not on disk yet, in bytes: a pipe's content.
const IN_HAND: u64 = 64 * 1024;

/// What is shot at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Target {
    Core,
    Spawner,
    Edge,
    Shim,
    TickerShim,
    Instance,
    Postgres,
    Redis,
}

const TARGETS: [Target; 8] = [
    Target::Core,
    Target::Spawner,
    Target::Edge,
    Target::Shim,
    Target::TickerShim,
    Target::Instance,
    Target::Postgres,
    Target::Redis,
];

#[derive(Debug, Default)]
struct Record {
    kills: u32,
    failed: u64,
    repeatable_failed: u64,
    answered_ms: u64,
    whole_ms: u64,
}

/// Writes a line, and once the write has returned, notes that it did.
const TICKER: &str = r"import { openSync, writeSync } from 'node:fs';
const proof = openSync('ticks/' + process.pid + '-' + Date.now(), 'a');
const run = Date.now() + '-' + process.pid;
let number = 0;
setInterval(() => {
  number += 1;
  writeSync(1, `tick ${run} ${number}\n`);
  writeSync(proof, `${run} ${number}\n`);
}, 5);
";

/// Runs it and writes `bench/FAULTS.md`.
pub fn soak(kills: u32, seed: u64, dry_run: bool) -> Result<()> {
    install::ensure("The soak", false)?;
    // A trial needs no optimised build.
    let klar = world::build(!dry_run)?;
    let mut world = World::fleeting("soak", klar)?;
    std::fs::write(world.app.join("ticker.mjs"), TICKER)?;
    let file = world.app.join("klar.toml");
    let text = std::fs::read_to_string(&file)?;
    let ticker =
        "\n[services.ticker]\nkind = \"worker\"\nrun = \"node ticker.mjs\"\nwritable = [\"ticks\"]\n";
    std::fs::write(&file, text + ticker)?;

    let host = Host::start(&world)?;
    let report = stages(&world, kills, seed);
    if report.is_err() {
        eprintln!("klar says of itself:");
        // The error that brought us here matters more than one of these.
        let log = std::fs::read_to_string(world.state.join("logs/klar.log")).unwrap_or_default();
        log.lines().rev().take(30).collect::<Vec<_>>().iter().rev().for_each(|line| eprintln!("  {line}"));
        let _ = run(&mut world.klar(&["status"]));
        let _ = run(&mut world.klar(&["logs", "db", "-n", "40"]));
    }
    host.let_end();
    world.stop()?;
    let report = report?;
    let orphans = processes_of(&world.state);
    ensure!(orphans.is_empty(), "left after the end: {orphans:?}");
    println!("\n{report}");
    if !dry_run {
        let path = repository().join("bench/FAULTS.md");
        std::fs::create_dir_all(repository().join("bench"))?;
        std::fs::write(&path, report)?;
    }
    Ok(())
}

fn stages(world: &World, kills: u32, seed: u64) -> Result<String> {
    world.until_running(Duration::from_secs(20))?;
    say("klar up");
    run(&mut world.klar(&["up"]))?;
    let client = Client::sign_in(world.https, &world.authority()?)?;
    let begun = Instant::now();
    let load = Load::start(client.clone(), seed, RATE)?;
    std::thread::sleep(Duration::from_secs(2));
    say(format!("{kills} kills under {RATE} requests/s, seed {seed}"));
    let mut random = fastrand::Rng::with_seed(seed);
    let mut records: BTreeMap<Target, Record> = BTreeMap::new();
    for number in 1..=kills {
        let target = TARGETS[random.usize(..TARGETS.len())];
        let pause = Duration::from_millis(random.u64(500..2500));
        shoot(world, &client, &load, (number, target, pause), &mut records)?;
    }
    let tally = load.stop()?;
    println!("  {}", tally.line());

    say("what must hold");
    let lost_orders = lost_orders(&client, &tally)?;
    println!("  {} orders acknowledged, {lost_orders} of them missing in PostgreSQL", tally.orders.len());
    let (written, lost_bytes, lost_lines) = lost_lines(world)?;
    let shims = records.get(&Target::TickerShim).map_or(0, |record| record.kills);
    println!(
        "  {written} lines written, {lost_lines} of them ({lost_bytes} bytes) lost with {shims} killed shims"
    );
    let releases = releases(world, &client)?;
    println!("  releases that serve: {releases:?}");
    let strays = strays(world)?;
    println!("  processes that nobody looks after: {strays:?}");

    let report = report(
        kills,
        seed,
        begun.elapsed(),
        &records,
        &tally,
        lost_orders,
        (written, lost_lines, lost_bytes),
    );
    ensure!(lost_orders == 0, "{lost_orders} acknowledged orders are lost");
    for target in [Target::Core, Target::Spawner] {
        let failed = records.get(&target).map_or(0, |record| record.failed);
        ensure!(failed == 0, "killing the {target:?} failed {failed} requests:{}", tally.reasons());
    }
    ensure!(
        lost_bytes <= IN_HAND * u64::from(shims),
        "more output was lost than {shims} shims can have held"
    );
    ensure!(releases.len() == 1, "not one release serves: {releases:?}");
    ensure!(strays.is_empty(), "nobody looks after {strays:?}");
    Ok(report)
}

fn shoot(
    world: &World,
    client: &Client,
    load: &Load,
    (number, target, pause): (u32, Target, Duration),
    records: &mut BTreeMap<Target, Record>,
) -> Result<()> {
    let status = world.until("everything runs", WHOLE, is_whole)?;
    let before = load.so_far();
    let pid = find(&status, target).with_context(|| format!("no {target:?} in {status}"))?;
    let begun = Instant::now();
    kill(Pid::from_raw(pid), Signal::SIGKILL).with_context(|| format!("killing {target:?} {pid}"))?;
    let gone = |status: &Value| is_whole(status) && find(status, target) != Some(pid);
    // An app may answer once more and then no longer: what counts is the last time that it did not.
    let mut answered = Duration::ZERO;
    let mut whole = None;
    loop {
        let answer = client.get("/api/orders?limit=1");
        if !answer.as_ref().is_ok_and(|(status, _)| status.is_success()) {
            answered = begun.elapsed();
            ensure!(answered <= ANSWER * 4, "no answer after the {target:?} was killed: {answer:?}");
        }
        if whole.is_none() && world.status().is_ok_and(|status| gone(&status)) {
            whole = Some(begun.elapsed());
        }
        match whole {
            Some(whole) if begun.elapsed() > whole + pause => break,
            None if begun.elapsed() > WHOLE => bail!("not everything runs again after {WHOLE:?}"),
            _ => std::thread::sleep(Duration::from_millis(20)),
        }
    }
    let whole = whole.unwrap_or_default();
    let after = load.so_far();
    let record = records.entry(target).or_default();
    record.kills += 1;
    record.failed += after.failed() - before.failed();
    record.repeatable_failed += after.repeatable_failed() - before.repeatable_failed();
    record.answered_ms = record.answered_ms.max(millis(answered));
    record.whole_ms = record.whole_ms.max(millis(whole));
    println!(
        "  {number:>3}. {target:?} (pid {pid}): answered after {} ms, whole after {} ms, {} requests failed",
        millis(answered),
        millis(whole),
        after.failed() - before.failed()
    );
    ensure!(answered <= ANSWER, "the app answered only after {} ms", millis(answered));
    Ok(())
}

fn find(status: &Value, target: Target) -> Option<i32> {
    let of_service = |name: &str, what: &str| {
        let instance = instances(status)
            .into_iter()
            .find(|instance| is_of(instance, name) && instance["state"] == "ready")?;
        instance[what].as_i64()
    };
    let of_store = |name: &str| {
        let stores = status["apps"][0]["stores"].as_array()?;
        stores.iter().find(|store| store["name"] == name)?["pid"].as_i64()
    };
    let pid = match target {
        Target::Core => status["core_pid"].as_i64(),
        Target::Spawner => status["spawner_pid"].as_i64().or(status["core_pid"].as_i64()),
        Target::Edge => status["edge"]["pid"].as_i64(),
        Target::Shim => of_service("api", "shim_pid"),
        Target::TickerShim => of_service("ticker", "shim_pid"),
        Target::Instance => of_service("api", "pid"),
        Target::Postgres => of_store("db"),
        Target::Redis => of_store("cache"),
    };
    i32::try_from(pid?).ok()
}

fn is_of(instance: &Value, service: &str) -> bool {
    instance["id"].as_str().is_some_and(|id| id.contains(&format!(".{service}.")))
}

fn is_whole(status: &Value) -> bool {
    let ready = |store: &Value| store["state"] == "ready" && store["pid"].is_i64();
    let stores = status["apps"][0]["stores"].as_array();
    status["edge"]["pid"].is_i64()
        && serving(status).iter().filter(|instance| is_of(instance, "api")).count() == 2
        && find(status, Target::TickerShim).is_some()
        && stores.is_some_and(|stores| stores.len() == 2 && stores.iter().all(ready))
}

fn lost_orders(client: &Client, tally: &Tally) -> Result<u64> {
    let mut lost = 0;
    for (key, id) in &tally.orders {
        let (status, body) = client.get(&format!("/api/orders/{id}"))?;
        if !status.is_success() {
            lost += 1;
            println!("  order {id} (key {key}): {status} {body}");
        }
    }
    Ok(lost)
}

/// Lines whose write returned, and those of them that are not in the logs: bytes and lines.
fn lost_lines(world: &World) -> Result<(u64, u64, u64)> {
    let mut proven: BTreeSet<String> = BTreeSet::new();
    for folder in std::fs::read_dir(world.state.join("apps/lisens.prod/writable/ticks"))?.flatten() {
        let text = std::fs::read_to_string(folder.path())?;
        // The last line may be half of one.
        let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
        proven.extend(whole.lines().map(str::to_owned));
    }
    // What was just written may still be in the pipe of a shim that is alive and well.
    std::thread::sleep(Duration::from_secs(1));
    let output = world.try_klar(&["logs", "ticker", "-n", "100000000"])?;
    let logged: BTreeSet<String> = String::from_utf8_lossy(&output.stdout)
        .lines()
        .filter_map(|line| line.split_once("tick ").map(|(_, tick)| tick.to_owned()))
        .collect();
    ensure!(!logged.is_empty(), "no log lines: {}", String::from_utf8_lossy(&output.stderr));
    let lost: Vec<&String> = proven.iter().filter(|line| !logged.contains(*line)).collect();
    let bytes = lost.iter().map(|line| line.len() as u64 + 6).sum();
    Ok((proven.len() as u64, bytes, lost.len() as u64))
}

fn releases(world: &World, client: &Client) -> Result<BTreeSet<String>> {
    let mut found = BTreeSet::new();
    for _ in 0..100 {
        let (_, body) = client.get("/api/version")?;
        let version: Value = serde_json::from_str(&body)?;
        found.insert(version["release"].to_string());
    }
    let status = world.status()?;
    let serving: BTreeSet<String> =
        serving(&status).iter().map(|instance| instance["release"].to_string()).collect();
    ensure!(serving.len() == 1, "status says that {serving:?} serve");
    Ok(found)
}

/// Processes that have to do with this state folder, by number and command.
fn processes_of(state: &Path) -> BTreeMap<i32, String> {
    let state = state.to_string_lossy().into_owned();
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<i32>().ok()) else {
            continue;
        };
        let command = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let command = String::from_utf8_lossy(&command).replace('\0', " ");
        let link = |name| {
            std::fs::read_link(entry.path().join(name)).unwrap_or_default().to_string_lossy().into_owned()
        };
        let concerns = [command.clone(), link("cwd"), link("exe")].iter().any(|text| text.contains(&state));
        if concerns && pid != std::process::id().cast_signed() {
            found.insert(pid, command);
        }
    }
    found
}

/// Processes that have to do with this klar, but are below none that it knows.
fn strays(world: &World) -> Result<BTreeMap<i32, String>> {
    let status = world.status()?;
    let mut known: BTreeSet<i64> = BTreeSet::new();
    known.extend(["core_pid", "spawner_pid"].iter().filter_map(|name| status[*name].as_i64()));
    known.extend(status["edge"]["pid"].as_i64());
    let stores = status["apps"][0]["stores"].as_array().cloned().unwrap_or_default();
    for of in instances(&status).iter().chain(&stores) {
        known.extend(["pid", "shim_pid"].iter().filter_map(|name| of[*name].as_i64()));
    }
    let mut strays = processes_of(&world.state);
    strays.retain(|pid, _| !is_below(*pid, &known));
    Ok(strays)
}

fn is_below(pid: i32, known: &BTreeSet<i64>) -> bool {
    let mut at = pid;
    while at > 1 {
        if known.contains(&i64::from(at)) {
            return true;
        }
        let stat = std::fs::read_to_string(format!("/proc/{at}/stat")).unwrap_or_default();
        let parent = stat.rsplit(')').next().and_then(|rest| rest.split_whitespace().nth(1)?.parse().ok());
        // Gone meanwhile, so it is no stray.
        let Some(parent) = parent else { return true };
        at = parent;
    }
    false
}

/// Stands in for systemd: starts klar again whenever it is gone.
struct Host {
    wanted: Arc<AtomicBool>,
    child: Arc<Mutex<Child>>,
    thread: std::thread::JoinHandle<()>,
}

impl Host {
    fn start(world: &World) -> Result<Self> {
        std::fs::create_dir_all(world.state.join("logs"))?;
        let log = world.state.join("logs/klar.log");
        let mut command = world.klar(&["host"]);
        let mut spawn = move || -> std::io::Result<Child> {
            let log = std::fs::File::options().create(true).append(true).open(&log)?;
            command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).spawn()
        };
        let child = Arc::new(Mutex::new(spawn()?));
        let wanted = Arc::new(AtomicBool::new(true));
        let (still, running) = (wanted.clone(), child.clone());
        let thread = std::thread::spawn(move || {
            while still.load(Ordering::Relaxed) {
                std::thread::sleep(Duration::from_millis(10));
                let mut child = running.lock().unwrap_or_else(PoisonError::into_inner);
                if child.try_wait().is_ok_and(|ended| ended.is_none()) || !still.load(Ordering::Relaxed) {
                    continue;
                }
                std::thread::sleep(RESTART);
                match spawn() {
                    Ok(started) => *child = started,
                    Err(error) => eprintln!("starting klar again: {error}"),
                }
            }
        });
        Ok(Self { wanted, child, thread })
    }

    fn let_end(self) {
        self.wanted.store(false, Ordering::Relaxed);
        // A panic there would have been printed.
        let _ = self.thread.join();
        let child = self.child;
        std::thread::spawn(move || {
            // Collected when it ends, so that it is not taken for one that was left over.
            let _ = child.lock().unwrap_or_else(PoisonError::into_inner).wait();
        });
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

fn report(
    kills: u32,
    seed: u64,
    took: Duration,
    records: &BTreeMap<Target, Record>,
    tally: &Tally,
    lost_orders: u64,
    (written, lost_lines, lost_bytes): (u64, u64, u64),
) -> String {
    let mut text = format!(
        "# Faults\n\nWhat `cargo xtask soak --kills {kills} --seed {seed}` did and saw, last time it was run in full: \
         kill -9 at random on each kind of process, under {RATE} requests/s (reads, checkouts with an \
         Idempotency-Key, plain writes; every tenth on a new connection), each request sent once. klar runs as \
         root; a stand-in starts it again {} ms after its main process died, as the systemd unit does.\n\n\
         | killed | times | requests failed | of these repeatable | longest until the app answered for good | longest until everything ran again |\n\
         |---|---|---|---|---|---|\n",
        RESTART.as_millis()
    );
    for (target, record) in records {
        // Writing to a string cannot fail.
        let _ = writeln!(
            text,
            "| {} | {} | {} | {} | {} ms | {} ms |",
            match target {
                Target::Core => "core",
                Target::Spawner => "spawner (the core ends with it)",
                Target::Edge => "edge",
                Target::Shim => "shim of a web instance (the instance ends with it)",
                Target::TickerShim => "shim of a worker that writes 200 lines/s",
                Target::Instance => "instance",
                Target::Postgres => "PostgreSQL (postmaster)",
                Target::Redis => "Redis",
            },
            record.kills,
            record.failed,
            record.repeatable_failed,
            record.answered_ms,
            record.whole_ms
        );
    }
    let _ = write!(
        text,
        "\n- {} kills in {} s. {}.\n- Orders acknowledged: {}; missing in PostgreSQL afterwards: {lost_orders}.\n\
         - Output: {written} lines whose write had returned; {lost_lines} ({lost_bytes} bytes) are not in the logs, all \
         lost with a killed shim. The bound is what its pipe holds: {IN_HAND} bytes for each.\n\
         - Exactly one release served in the end, and no process was left without somebody who looks after it.\n\
         - A request that is on its way through the edge when the edge itself is killed gets no answer: its \
         connection is gone. The listening sockets outlive it, so no new connection is refused.\n\
         - While PostgreSQL is away the app itself answers 503; those are counted as failed here.\n",
        kills,
        took.as_secs(),
        tally.line(),
        tally.orders.len(),
    );
    text
}
