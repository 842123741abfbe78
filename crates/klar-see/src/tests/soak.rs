//! All of telemetry as a process, killed at any moment while others send: what it acknowledged is there, and nothing is
//! there twice. Meanwhile tails of its logs are torn, its disk is full, and its clock goes wrong.
//!
//! `KLAR_CRASH_ROUNDS` kills, 8 where it says nothing; `KLAR_CRASH_SEED` chooses what is random of them. A small file system takes root, a wrong clock the package
//! `faketime`; without them those rounds are like the others, and it says so.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::signal::{Signal, kill};
use serde_json::{Value, json};

use super::{Folder, KEY, Running, exchange, write_request};

const FOLDER: &str = "KLAR_SOAK_FOLDER";
const LIBRARY: &str = "/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1";
/// Lines of one request.
const LINES: u64 = 5;

/// What the killed process does. Not a test by itself.
#[test]
fn child() {
    let Ok(folder) = std::env::var(FOLDER) else { return };
    let folder = Folder(PathBuf::from(folder));
    let see = Running::start(&folder);
    see.known();
    println!("serves at {} since {}", see.address, crate::now_ms());
    loop {
        std::thread::park();
    }
}

/// What a round does beside the kill.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Fault {
    None,
    /// The ends of its logs are followed by what a write that was cut left behind.
    Torn,
    /// The disk is full for the second half of the round; with `true` also when it is started again.
    Full(bool),
    /// The clock is so many seconds off from here on.
    Clock(i64),
}

struct Process {
    child: Child,
    address: SocketAddr,
    /// How far its clock is from ours.
    clock_ms: i64,
    took: Duration,
}

fn begin(folder: &Path, clock_s: i64) -> Process {
    let begun = Instant::now();
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["tests::soak::child", "--exact", "--nocapture"]).env(FOLDER, folder).stdout(Stdio::piped());
    if clock_s != 0 {
        command
            .env("LD_PRELOAD", LIBRARY)
            .env("FAKETIME", format!("{clock_s:+}"))
            .env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
    }
    let mut child = command.spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let said = lines.find_map(|line| Some(line.ok()?.split_once("serves at ")?.1.to_owned()));
    let said = said.expect("it serves");
    let (address, since) = said.split_once(" since ").unwrap();
    let clock_ms = since.parse::<i64>().unwrap() - crate::now_ms();
    Process { child, address: address.parse().unwrap(), clock_ms, took: begun.elapsed() }
}

/// An answer, or nothing where it was killed meanwhile.
fn send(address: SocketAddr, target: &str, headers: &str, body: &[u8]) -> Option<u16> {
    let mut stream = TcpStream::connect(address).ok()?;
    write!(
        stream,
        "POST {target} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {KEY}\r\nconnection: close\r\n{headers}content-length: {}\r\n\r\n",
        body.len()
    )
    .ok()?;
    stream.write_all(body).ok()?;
    let mut head = String::new();
    BufReader::new(stream).read_line(&mut head).ok()?;
    head.split(' ').nth(1)?.parse().ok()
}

fn ask(address: SocketAddr, target: &str) -> Value {
    let headers = format!("authorization: Bearer {KEY}\r\n");
    let (status, body) = exchange(TcpStream::connect(address).unwrap(), &headers, "GET", target, b"");
    assert_eq!(status, 200, "{target}: {body}");
    serde_json::from_str(&body).unwrap()
}

fn encoded(query: &str) -> String {
    query.bytes().map(|byte| format!("%{byte:02x}")).collect()
}

/// All that was acknowledged.
#[derive(Debug, Default)]
struct Acknowledged {
    /// Values by their time in milliseconds.
    samples: BTreeMap<i64, u64>,
    /// For each round the numbers of its lines, and between which times, in milliseconds, they are.
    lines: BTreeMap<u64, (BTreeSet<u64>, i64, i64)>,
}

/// Sends until it is told to stop, each in a thread of its own.
fn shoot(process: &Process, round: u64, next: &AtomicU64, over: &AtomicBool, all: &mut Acknowledged) {
    let now_ms = || crate::now_ms() + process.clock_ms;
    std::thread::scope(|scope| {
        let samples = scope.spawn(|| {
            let (mut taken, mut last) = (Vec::new(), 0);
            while !over.load(Ordering::Relaxed) {
                let time_ms = now_ms().max(last + 1);
                last = time_ms;
                let value = next.fetch_add(1, Ordering::Relaxed);
                let body = write_request(&[("__name__", "soak"), ("app", "bank")], time_ms, value as f64);
                if send(process.address, "/api/v1/write", "", &body) == Some(204) {
                    taken.push((time_ms, value));
                }
            }
            taken
        });
        let lines = scope.spawn(|| {
            let (mut taken, begun) = (BTreeSet::new(), now_ms());
            for number in (0..).step_by(LINES as usize) {
                if over.load(Ordering::Relaxed) {
                    break;
                }
                // No more than one answer can say.
                std::thread::sleep(Duration::from_millis(1));
                let time_ns = now_ms() * 1_000_000;
                let values: Vec<_> =
                    (number..number + LINES).map(|line| json!([time_ns.to_string(), format!("round {round} line {line} ends")])).collect();
                let body = json!({ "streams": [{ "stream": { "service_name": "soak", "app": "bank" }, "values": values }] });
                let json = "content-type: application/json\r\n";
                if send(process.address, "/loki/api/v1/push", json, body.to_string().as_bytes()) == Some(204) {
                    taken.extend(number..number + LINES);
                }
            }
            (taken, begun - 1_000, now_ms() + 1_000)
        });
        all.samples.extend(samples.join().unwrap());
        all.lines.insert(round, lines.join().unwrap());
    });
}

fn samples_there(process: &Process) -> BTreeMap<i64, u64> {
    // Those of all clocks.
    let end_s = (crate::now_ms() + process.clock_ms) / 1000 + 3 * 86_400;
    let found = ask(process.address, &format!("/api/v1/query?time={end_s}&query={}", encoded("soak[7d]")));
    let series = found["data"]["result"].as_array().unwrap();
    assert!(series.len() <= 1, "{}", series.len());
    let values = series.iter().flat_map(|one| one["values"].as_array().unwrap());
    let mut there = BTreeMap::new();
    for value in values {
        let time_ms = (value[0].as_f64().unwrap() * 1000.0).round() as i64;
        let number = value[1].as_str().unwrap().parse::<f64>().unwrap() as u64;
        assert_eq!(there.insert(time_ms, number), None, "{time_ms} is there twice");
    }
    there
}

/// The numbers of the lines of a round, each once.
fn lines_there(process: &Process, round: u64, from_ms: i64, to_ms: i64) -> BTreeSet<u64> {
    let query = encoded(&format!(r#"{{service="soak"}} |= "round {round} line""#));
    let target = format!(
        "/loki/api/v1/query_range?query={query}&limit=5000&start={}&end={}",
        from_ms * 1_000_000,
        to_ms * 1_000_000
    );
    let found = ask(process.address, &target);
    let streams = found["data"]["result"].as_array().unwrap();
    let mut there = BTreeSet::new();
    for value in streams.iter().flat_map(|stream| stream["values"].as_array().unwrap()) {
        let line = value[1].as_str().unwrap();
        let number = line.split(' ').nth(3).unwrap().parse().unwrap();
        assert!(there.insert(number), "round {round}: line {number} is there twice");
    }
    assert!(there.len() < 5_000, "too many to count");
    there
}

fn compare(process: &Process, all: &Acknowledged, rounds: impl Iterator<Item = u64>) {
    let there = samples_there(process);
    for (time_ms, value) in &all.samples {
        assert_eq!(there.get(time_ms), Some(value), "sample {value} of {time_ms} was acknowledged");
    }
    for round in rounds {
        let (numbers, from_ms, to_ms) = &all.lines[&round];
        let there = lines_there(process, round, *from_ms, *to_ms);
        let missing: Vec<_> = numbers.difference(&there).collect();
        assert!(missing.is_empty(), "round {round}: {missing:?} of {} were acknowledged", numbers.len());
    }
}

/// Bytes that are no whole record, as a write that was cut leaves them.
fn tear(folder: &Path) -> usize {
    let mut torn = 0;
    let mut folders = vec![folder.to_owned()];
    let mut newest: BTreeMap<PathBuf, PathBuf> = BTreeMap::new();
    while let Some(at) = folders.pop() {
        for entry in fs::read_dir(&at).unwrap().map(Result::unwrap) {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.to_string_lossy().contains("wal") {
                let newest = newest.entry(at.clone()).or_default();
                *newest = path.max(newest.clone());
            }
        }
    }
    for path in newest.values() {
        let mut rubbish = vec![0; fastrand::usize(1..300)];
        fastrand::fill(&mut rubbish);
        fs::OpenOptions::new().append(true).open(path).unwrap().write_all(&rubbish).unwrap();
        torn += 1;
    }
    torn
}

fn fill(ballast: &Path) {
    let mut file = fs::File::create(ballast).unwrap();
    for piece in [1 << 20, 4096, 1] {
        while file.write_all(&vec![7; piece]).is_ok() {}
    }
}

#[test]
fn what_was_acknowledged_outlives_kills_torn_tails_full_disks_and_wrong_clocks() {
    let rounds: u64 = std::env::var("KLAR_CRASH_ROUNDS").ok().and_then(|said| said.parse().ok()).unwrap_or(8);
    let folder = Folder::new("soak");
    let state = folder.path().join("state");
    fs::create_dir_all(&state).unwrap();
    let is_small = mount(Some("tmpfs"), &state, Some("tmpfs"), MsFlags::empty(), Some("size=96m")).is_ok();
    let has_clock = Path::new(LIBRARY).exists();
    for (is, what) in
        [(is_small, "only root may mount a small file system"), (has_clock, "faketime is not installed")]
    {
        if !is {
            println!("partly skipped: {what}");
        }
    }
    let seed = std::env::var("KLAR_CRASH_SEED").ok().and_then(|said| said.parse().ok());
    let seed = seed.unwrap_or_else(|| fastrand::u64(..));
    fastrand::seed(seed);
    println!("seed {seed}");
    let ballast = state.join("ballast");
    let (next, mut all, mut clock_s, mut slowest, mut done) =
        (AtomicU64::new(0), Acknowledged::default(), 0, Duration::ZERO, BTreeMap::<_, u32>::new());
    for round in 0..rounds {
        let fault = match round % 8 {
            2 | 6 => Fault::Torn,
            3 if is_small => Fault::Full(fastrand::bool()),
            // Back, and forth.
            5 if has_clock => Fault::Clock([-3_600, -60, 2, 600, 7_200][fastrand::usize(0..5)]),
            _ => Fault::None,
        };
        if let Fault::Clock(by) = fault {
            clock_s = if clock_s == 0 { by } else { 0 };
        }
        let mut process = begin(&folder.0, clock_s);
        slowest = slowest.max(process.took);
        // Removed only now: it was started on a full disk.
        let _ = fs::remove_file(&ballast);
        if round > 0 {
            compare(&process, &all, round - 1..round);
        }
        let (over, pid) = (AtomicBool::new(false), nix::unistd::Pid::from_raw(process.child.id() as i32));
        std::thread::scope(|scope| {
            scope.spawn(|| {
                std::thread::sleep(Duration::from_millis(fastrand::u64(30..700)));
                if matches!(fault, Fault::Full(_)) {
                    fill(&ballast);
                    std::thread::sleep(Duration::from_millis(fastrand::u64(30..700)));
                }
                kill(pid, Signal::SIGKILL).unwrap();
                over.store(true, Ordering::Relaxed);
            });
            shoot(&process, round, &next, &over, &mut all);
        });
        process.child.wait().unwrap();
        match fault {
            Fault::Torn => assert!(tear(&state) > 0, "no log to tear"),
            Fault::Full(false) => fs::remove_file(&ballast).unwrap(),
            _ => {}
        }
        *done.entry(format!("{fault:?}")).or_default() += 1;
    }
    let mut process = begin(&folder.0, 0);
    let _ = fs::remove_file(&ballast);
    compare(&process, &all, 0..rounds);
    let lines: usize = all.lines.values().map(|(numbers, ..)| numbers.len()).sum();
    println!(
        "{rounds} kills, {} samples and {lines} lines acknowledged, slowest start {slowest:?}; {done:?}",
        all.samples.len()
    );
    assert!(!all.samples.is_empty() && lines > 0);
    process.child.kill().unwrap();
    process.child.wait().unwrap();
    if is_small {
        umount2(&state, MntFlags::MNT_DETACH).unwrap();
    }
}
