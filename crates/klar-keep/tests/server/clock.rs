//! A clock that jumps loses nothing, and no restore to a time leaves something out without a word.
//!
//! The keeper and the server run with libfaketime (Debian: `faketime`), whose clock a file turns.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use jiff::Timestamp;
use klar_keep::keeper::Keeper;
use klar_keep::lsn::Lsn;
use klar_keep::point::{Point, PointId, Points};
use klar_keep::restore::{self, Plan, RestoringError};
use klar_keep::scratch::{Then, Until};
use klar_keep::server::Session;
use klar_keep::ship::Mark;
use klar_keep::wal::commits::{self, SLACK};
use klar_repo::CheckData;

use crate::cluster::{Cluster, Home, until};

const LIBRARIES: [&str; 2] = [
    "/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1",
    "/usr/lib/aarch64-linux-gnu/faketime/libfaketime.so.1",
];
const PATIENCE: Duration = Duration::from_secs(120);
const HOUR: i64 = 3600;
const DAY: i64 = 24 * HOUR;
/// The first ones make a time come twice, with a point of a clock that was ahead between.
const FIRST: [i64; 4] = [2 * DAY, -2 * DAY, -HOUR, 5];
const JUMPS: [i64; 8] = [-40 * DAY, -3 * DAY, -HOUR, -5, 5, HOUR, 3 * DAY, 40 * DAY];

/// A row that the server has acknowledged, and about where in its log that is.
#[derive(Debug, Clone, Copy)]
struct Row {
    id: u64,
    begun: Timestamp,
    acknowledged: Timestamp,
    place: Lsn,
}

/// `KLAR_CLOCK=30` for the full count.
#[test]
fn a_clock_that_jumps_loses_nothing_and_hides_nothing() {
    let Some(library) = LIBRARIES.into_iter().find(|path| Path::new(path).exists()) else {
        eprintln!("skipped: libfaketime is not installed (apt-get install faketime)");
        return;
    };
    let home = Home::new("clock-of");
    let file = home.join("clock");
    turn(&file, 0);
    let status = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "clock::inside", "--ignored", "--nocapture"])
        .env("LD_PRELOAD", library)
        .env("FAKETIME_TIMESTAMP_FILE", &file)
        .envs(["FAKETIME_NO_CACHE", "FAKETIME_DONT_FAKE_MONOTONIC", "NO_FAKE_STAT"].map(|name| (name, "1")))
        .status();
    assert!(status.unwrap().success());
}

fn turn(file: &Path, seconds: i64) {
    let new = file.with_extension("new");
    fs::write(&new, format!("{seconds:+}\n")).unwrap();
    fs::rename(new, file).unwrap();
}

fn write(
    cluster: &Cluster,
    ledger: &Arc<Mutex<Vec<Row>>>,
    is_over: &Arc<AtomicBool>,
) -> std::thread::JoinHandle<()> {
    let (door, ledger, is_over) = (cluster.door.clone(), ledger.clone(), is_over.clone());
    std::thread::spawn(move || {
        let session = Session::open(&door).unwrap();
        for id in 0.. {
            if is_over.load(Ordering::Acquire) {
                return;
            }
            let begun = Timestamp::now();
            session
                .run(&format!("insert into public.rows values ({id}, repeat('x', {}))", id % 900))
                .unwrap();
            let acknowledged = Timestamp::now();
            let row = session.row("select pg_current_wal_insert_lsn()", "place").unwrap();
            let place = session.column(&row, 0, "place").unwrap();
            ledger.lock().unwrap().push(Row { id, begun, acknowledged, place });
            std::thread::sleep(Duration::from_millis(fastrand::u64(0..20)));
        }
    })
}

#[test]
#[ignore = "runs within the test above, by a clock that can be turned"]
fn inside() {
    let Some(file) = std::env::var_os("FAKETIME_TIMESTAMP_FILE").map(PathBuf::from) else { return };
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let count = number("KLAR_CLOCK").unwrap_or(FIRST.len() as u64) as usize;
    let seed = number("KLAR_SEED").unwrap_or_else(|| fastrand::u64(..));
    println!("KLAR_SEED={seed}");
    fastrand::seed(seed);
    let home = Home::new("clock");
    let cluster = Cluster::start(&home);
    cluster.session().run("create table public.rows (id bigint primary key, filler text)").unwrap();
    let keeper = cluster.keeper(&home, |_| {});
    until("a first point", || keeper.status().proven_unix_ms.is_some());
    let (ledger, is_over) = (Arc::<Mutex<Vec<Row>>>::default(), Arc::default());
    let writer = write(&cluster, &ledger, &is_over);
    let mut offset = 0;
    for number in 0..count {
        std::thread::sleep(Duration::from_millis(fastrand::u64(500..2500)));
        let before = points(&keeper);
        let jump = FIRST.get(number).copied().unwrap_or_else(|| JUMPS[fastrand::usize(..JUMPS.len())]);
        offset += jump;
        turn(&file, offset);
        if jump < 0 {
            // From here on times are told apart by a new base.
            until("a base after the clock was put back", || points(&keeper).len() > before.len());
        } else if !before.values().any(is_today) {
            until("the base of the day", || points(&keeper).len() > before.len());
        }
        let points = points(&keeper);
        assert!(before.keys().all(|id| points.contains_key(id)), "a point went: {before:?} {points:?}");
        let is_ahead =
            points.values().any(|point| point.stopped > Timestamp::now() + Duration::from_secs(7200));
        let trouble = keeper.status().trouble.unwrap_or_default();
        assert!(!is_ahead || trouble.contains("a clock was ahead"), "{trouble:?}");
        println!("{number}: {jump:+} s, {} points", points.len());
    }
    std::thread::sleep(Duration::from_secs(2));
    is_over.store(true, Ordering::Release);
    writer.join().unwrap();
    let ledger = ledger.lock().unwrap().clone();
    let mark = Mark::ask(&cluster.session()).unwrap();
    until("all is shipped", || keeper.kept().unwrap().log.end(1) >= Some(mark.written));

    let kept = keeper.kept().unwrap();
    assert!(kept.covered().unwrap() <= Timestamp::now() + SLACK);
    let first = kept.points.points.values().min_by_key(|point| point.start).unwrap().clone();
    judged(&cluster, &kept, &first.id, &home);
    let all = found(&cluster, &kept, &kept.plan(Until::End, None).unwrap(), &home).unwrap();
    let missing: Vec<&Row> = ledger.iter().filter(|row| !all.contains(&row.id)).collect();
    assert!(missing.is_empty(), "{missing:?}");
    let (mut good, mut twice) = (0, 0);
    for round in 0..4 + count {
        let row = ledger[fastrand::usize(..ledger.len())];
        let time = row.acknowledged;
        // From before all jumps, and from wherever it is restored from.
        let from = (round % 2 == 0).then_some(&first.id);
        let plan = kept.plan(Until::Time(time), from);
        let restored = plan.and_then(|plan| Ok((found(&cluster, &kept, &plan, &home)?, plan)));
        match restored {
            Ok((found, plan)) => {
                let later = ledger.iter().filter(|row| row.place > plan.point.stop);
                let stop = later.clone().find(|row| row.begun.min(row.acknowledged) > time);
                let is_hidden = stop.is_some_and(|stop| {
                    let mut later = later.filter(|row| row.place > stop.place);
                    later.any(|row| row.begun.max(row.acknowledged) + SLACK <= time)
                });
                assert!(!is_hidden, "{time} came twice, and nothing was said: {plan:?}");
                for row in &ledger {
                    let is_there = found.contains(&row.id);
                    let was_before = row.begun.max(row.acknowledged) <= time || row.place <= plan.point.start;
                    assert!(is_there || !was_before, "{row:?} is missing at {time}: {plan:?}");
                    let is_later = row.begun.min(row.acknowledged) > time && row.place > plan.point.stop;
                    assert!(!is_there || !is_later, "{row:?} is there at {time}: {plan:?}");
                }
                good += 1;
            }
            Err(RestoringError::Twice { back, .. }) => {
                assert!(back.before + SLACK >= time && back.after <= time + SLACK, "{back:?} {time}");
                // What it says to do instead.
                let plan = kept.plan(Until::Lsn(back.at), from).unwrap();
                let found = found(&cluster, &kept, &plan, &home).unwrap();
                for row in ledger.iter().filter(|row| row.place <= back.at) {
                    assert!(found.contains(&row.id), "{row:?} is missing at {}", back.at);
                }
                twice += 1;
            }
            Err(RestoringError::TooEarly { .. } | RestoringError::TooLate { .. }) => {}
            Err(error) => panic!("{error}"),
        }
    }
    let report = kept.repository.check(CheckData::All, &mut |_| {});
    assert!(report.problems.is_empty(), "{:?}", report.problems);
    println!(
        "{} rows, 0 missing; {good} times restored, {twice} refused for having come twice",
        ledger.len()
    );
    assert!(good > 0 && twice > 0, "{good} {twice}");
}

/// Whether it may serve for this day.
fn is_today(point: &Point) -> bool {
    let hours = Timestamp::now().duration_since(point.stopped).as_hours();
    (-2..24).contains(&hours)
}

fn points(keeper: &Keeper) -> BTreeMap<PointId, Point> {
    Points::read(keeper.repository(), keeper.trusted()).unwrap().points
}

fn found(
    cluster: &Cluster,
    kept: &restore::Kept<'_>,
    plan: &Plan,
    home: &Home,
) -> Result<BTreeSet<u64>, RestoringError> {
    let folder = home.join("restored");
    let _ = fs::remove_dir_all(&folder);
    let (data, log) = (folder.join("data"), folder.join("log"));
    kept.bring_back(plan, &cluster.programs, &data, &log)?;
    let server =
        restore::start(plan, &cluster.programs, &data, &log, &folder.join("home"), Then::Promote, false)?;
    let rows = Session::open(server.door()).unwrap().rows("select id from public.rows", PATIENCE).unwrap();
    Ok(rows.iter().map(|row| row.get(0).unwrap().parse().unwrap()).collect())
}

/// What is read of the log is what PostgreSQL's own reader says.
fn judged(cluster: &Cluster, kept: &restore::Kept<'_>, from: &PointId, home: &Home) {
    let plan = kept.plan(Until::End, Some(from)).unwrap();
    let log = home.join("judged");
    kept.lay(&plan, &log).unwrap();
    let mut ends = Vec::new();
    commits::ends(&log, &[1], kept.log.size, plan.point.start, &mut |end| {
        ends.push(format!("{} {}", end.at, end.time.strftime("%Y-%m-%d %H:%M:%S%.6f")));
        true
    })
    .unwrap();
    let mut judge = cluster.programs.command("pg_waldump");
    judge.arg("--rmgr=Transaction").arg("-p").arg(&log).arg("-s").arg(plan.point.start.to_string());
    let said = String::from_utf8(judge.output().unwrap().stdout).unwrap();
    let judged: Vec<String> = said
        .lines()
        .filter(|line| line.contains("desc: COMMIT ") || line.contains("desc: ABORT "))
        .map(|line| {
            let place: Lsn = line.split("lsn: ").nth(1).unwrap().split(',').next().unwrap().parse().unwrap();
            let time = line.split("desc: ").nth(1).unwrap().split_whitespace().skip(1).take(2);
            format!("{place} {}", time.collect::<Vec<_>>().join(" "))
        })
        .collect();
    assert!(judged.len() > 100, "{said:.500}");
    assert_eq!(ends, judged);
}
