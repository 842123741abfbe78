//! Any time can be restored: every row that was acknowledged before it is there, none that was begun after it.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use jiff::Timestamp;
use klar_keep::restore;
use klar_keep::scratch::{Then, Until};
use klar_keep::server::Session;
use klar_keep::ship::Mark;

use crate::cluster::{Cluster, Home, Kept};

/// A row that the server has acknowledged.
#[derive(Debug, Clone, Copy)]
struct Row {
    id: u64,
    begun: Timestamp,
    acknowledged: Timestamp,
}

const WRITERS: u64 = 4;

fn write(
    cluster: &Cluster,
    ledger: &Arc<Mutex<Vec<Row>>>,
    is_over: &Arc<AtomicBool>,
) -> Vec<std::thread::JoinHandle<()>> {
    let writer = |writer: u64| {
        let (door, ledger, is_over) = (cluster.door.clone(), ledger.clone(), is_over.clone());
        std::thread::spawn(move || {
            let session = Session::open(&door).unwrap();
            let mut id = writer;
            while !is_over.load(Ordering::Acquire) {
                let begun = Timestamp::now();
                session
                    .run(&format!("insert into public.rows values ({id}, repeat('x', {}))", id % 900))
                    .unwrap();
                ledger.lock().unwrap().push(Row { id, begun, acknowledged: Timestamp::now() });
                id += WRITERS;
                // Tables of klar's users are written to in bursts.
                std::thread::sleep(Duration::from_millis(fastrand::u64(0..8)));
            }
        })
    };
    (0..WRITERS).map(writer).collect()
}

/// `KLAR_RESTORES=200` for the full count.
#[test]
fn any_time_is_restored_with_all_that_was_acknowledged_before_it() {
    let count: usize = std::env::var("KLAR_RESTORES").ok().and_then(|text| text.parse().ok()).unwrap_or(4);
    let home = Home::new("times");
    let cluster = Cluster::start(&home);
    cluster.session().run("create table public.rows (id bigint primary key, filler text)").unwrap();
    let mut kept = Kept::begin(&cluster, &home);
    let (ledger, is_over) = (Arc::default(), Arc::default());
    let writers = write(&cluster, &ledger, &is_over);
    let mut points = Vec::new();
    for number in 0..2 + count / 50 {
        std::thread::sleep(Duration::from_secs(1));
        points.push(kept.point(&cluster, &format!("klar-{number}")));
    }
    std::thread::sleep(Duration::from_secs(2));
    is_over.store(true, Ordering::Release);
    writers.into_iter().for_each(|writer| writer.join().unwrap());
    kept.end(&cluster);

    let trusted = [kept.key.id()];
    let all = restore::Kept::read(&kept.repository, &trusted).unwrap();
    assert_eq!(all.points.points.len(), points.len());
    let (from, to) = (points[0].stopped, all.covered().unwrap());
    let ledger = ledger.lock().unwrap();
    for round in 0..count {
        let span = to.duration_since(from).as_micros() as i64;
        let time = match round {
            // The very ends too.
            0 => to,
            1 => from,
            _ => from + Duration::from_micros(fastrand::i64(0..span) as u64),
        };
        let found = restored(&cluster, &all, &home, time);
        let missing = ledger.iter().filter(|row| row.acknowledged < time && !found.contains(&row.id)).count();
        let later: BTreeSet<u64> = ledger.iter().filter(|row| row.begun > time).map(|row| row.id).collect();
        let too_new = found.intersection(&later).count();
        assert_eq!((missing, too_new), (0, 0), "round {round}, at {time}, of {} rows", found.len());
        println!("{round}: {time}: {} rows, 0 missing, 0 too new", found.len());
    }
    let early = all.plan(Until::Time(from - Duration::from_secs(1)), None).unwrap_err();
    assert!(early.to_string().contains("before the earliest time"), "{early}");
    let late = all.plan(Until::Time(to + Duration::from_secs(60)), None).unwrap_err();
    assert!(late.to_string().contains("after the latest time"), "{late}");
}

fn restored(cluster: &Cluster, all: &restore::Kept<'_>, home: &Home, time: Timestamp) -> BTreeSet<u64> {
    let folder = home.join("restored");
    let (data, log) = (folder.join("data"), folder.join("log"));
    let plan = all.plan(Until::Time(time), None).unwrap();
    assert!(plan.point.stopped <= time);
    all.bring_back(&plan, &cluster.programs, &data, &log).unwrap();
    let server =
        restore::start(&plan, &cluster.programs, &data, &log, &folder.join("home"), Then::Promote, false)
            .unwrap();
    let session = Session::open(server.door()).unwrap();
    let rows = session.rows("select id from public.rows", Duration::from_secs(60)).unwrap();
    let found = rows.iter().map(|row| row.get(0).unwrap().parse().unwrap()).collect();
    drop(server);
    std::fs::remove_dir_all(folder).unwrap();
    found
}

/// Records that are no commit wait on a server at rest until somebody commits: without them the log ends before "now".
#[test]
fn a_server_at_rest_is_covered_too() {
    let home = Home::new("rest");
    let cluster = Cluster::start(&home);
    let session = cluster.session();
    session.run("create table public.t (n int)").unwrap();
    let mut seen = false;
    for _ in 0..20 {
        // It rolls back: what it wrote is written to disk by nobody.
        session.run("begin; insert into public.t select generate_series(1, 50); rollback").unwrap();
        let before = Mark::ask(&session).unwrap();
        let mark = Mark::ask(&session).unwrap();
        if mark.waits(Some(&before)) {
            Mark::flush(&session).unwrap();
            let after = Mark::ask(&session).unwrap();
            assert!(after.flushed >= mark.written, "{mark:?} {after:?}");
            seen = true;
        }
    }
    assert!(seen, "nothing ever waited");
}
