//! A process that is killed at any moment: what it acknowledged is there, and once.

use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};

use super::*;

const FOLDER: &str = "KLAR_CRASH_FOLDER";
const FROM: &str = "KLAR_CRASH_FROM";
const ROWS: u64 = 20;

fn batch_of(batch: u64) -> Vec<Row> {
    // Over several hours, and not in order.
    let time = |row: u64| START + ((batch * 7 + row * 13) % 200) as i64 * 60 * SECOND + batch as i64;
    (0..ROWS).map(|row| Row::new(time(row), batch * ROWS + row)).collect()
}

/// What the killed process does. Not a test by itself.
#[test]
fn child() {
    let Ok(folder) = std::env::var(FOLDER) else { return };
    let from: u64 = std::env::var(FROM).unwrap().parse().unwrap();
    let store = Store::open(&PathBuf::from(folder), vec![mixed()], settings()).unwrap().0;
    for batch in from.. {
        append(&store, &batch_of(batch));
        println!("acknowledged {batch}");
        if batch % 11 == 0 {
            // Every now and then all hours are over, so that files are merged too.
            let hours = if batch % 3 == 0 { 48 } else { 0 };
            store.maintain(START + hours * HOUR).unwrap();
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
        let life = Duration::from_millis(fastrand::u64(20..600));
        let process = nix::unistd::Pid::from_raw(child.id() as i32);
        let killer = std::thread::spawn(move || {
            std::thread::sleep(life);
            nix::sys::signal::kill(process, nix::sys::signal::Signal::SIGKILL).unwrap();
        });
        let mut acknowledged = None;
        for line in lines.map_while(Result::ok) {
            // A line that the kill has cut says less than it would.
            if let Some((_, number)) = line.split_once("acknowledged ") {
                acknowledged = acknowledged.max(number.parse::<u64>().ok());
            }
        }
        killer.join().unwrap();
        child.wait().unwrap();
        let (store, recovered) = Store::open(&folder.0, vec![mixed()], settings()).unwrap();
        assert_eq!(recovered.skipped_records, 0, "{:?}", recovered.notes);
        let found = all(&store);
        // Whole records only: a batch is there or not.
        let batches = found.len() as u64 / ROWS;
        let needed = acknowledged.map_or(next, |last| last + 1);
        assert!(batches >= needed, "round {round}: {needed} were acknowledged, {batches} are there");
        let wanted: Vec<Row> = (0..batches).flat_map(batch_of).collect();
        assert!(found == keys(&wanted), "round {round}: {} rows, not {}", found.len(), wanted.len());
        next = batches;
    }
    println!("{rounds} rounds, {next} batches");
}
