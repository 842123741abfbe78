//! A process that is killed at any moment: what it acknowledged is there, and once.

use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::{Folder, PathBuf, Sample, Store, all, labels, settings};

const FOLDER: &str = "KLAR_CRASH_FOLDER";
const FROM: &str = "KLAR_CRASH_FROM";
const SERIES: i64 = 20;

fn value(batch: i64, series: i64) -> f64 {
    if series % 2 == 0 { (batch * series) as f64 } else { (batch * 31 + series) as f64 / 7.0 }
}

/// What the killed process does. Not a test by itself.
#[test]
fn child() {
    let Ok(folder) = std::env::var(FOLDER) else { return };
    let from: i64 = std::env::var(FROM).unwrap().parse().unwrap();
    let store = Store::open(&PathBuf::from(folder), settings()).unwrap().0;
    for batch in from.. {
        let samples: Vec<_> = (0..SERIES)
            .map(|series| {
                let reference = store.series(&labels(&format!("s={series:02},job=crash"))).unwrap();
                (reference, Sample { time_ms: batch * 1000, value: value(batch, series) })
            })
            .collect();
        let appended = store.append(&samples).unwrap();
        store.commit(appended.upto).unwrap();
        println!("acknowledged {batch}");
        if batch % 37 == 0 {
            store.maintain(batch * 1000).unwrap();
        }
    }
}

#[test]
fn what_was_acknowledged_before_a_kill_is_there_once() {
    let rounds: u64 =
        std::env::var("KLAR_CRASH_ROUNDS").ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(8);
    let folder = Folder::new();
    let mut next = 0;
    for round in 0..rounds {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["tests::crash::child", "--exact", "--nocapture"])
            .env(FOLDER, &folder.0)
            .env(FROM, next.to_string())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let life = Duration::from_millis(fastrand::u64(20..400));
        let process = nix::unistd::Pid::from_raw(child.id() as i32);
        let killer = std::thread::spawn(move || {
            std::thread::sleep(life);
            nix::sys::signal::kill(process, nix::sys::signal::Signal::SIGKILL).unwrap();
        });
        let mut acknowledged = next - 1;
        for line in lines.map_while(Result::ok) {
            // A line that the kill has cut says less than it would.
            if let Some((_, number)) = line.split_once("acknowledged ") {
                acknowledged = acknowledged.max(number.parse().unwrap_or(-1));
            }
        }
        killer.join().unwrap();
        child.wait().unwrap();
        let since = Instant::now();
        let (store, recovered) = Store::open(&folder.0, settings()).unwrap();
        assert!(since.elapsed() < Duration::from_secs(20));
        assert_eq!(recovered.skipped_records, 0, "{:?}", recovered.notes);
        let found = all(&store, i64::MIN, i64::MAX);
        let last = found.keys().map(|(_, time)| time / 1000).max().unwrap_or(-1);
        assert!(last >= acknowledged, "round {round}: {acknowledged} was acknowledged, {last} is there");
        // Whole records only: a batch is there or not.
        assert_eq!(found.len() as i64, (last + 1) * SERIES, "round {round}");
        for series in 0..SERIES {
            let name = labels(&format!("s={series:02},job=crash")).to_string();
            for batch in 0..=last {
                let there = found.get(&(name.clone(), batch * 1000));
                assert_eq!(there, Some(&value(batch, series).to_bits()), "{name} {batch}");
            }
        }
        next = last + 1;
    }
    println!("{rounds} rounds, {next} batches");
}
