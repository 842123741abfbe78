//! Nothing that was acknowledged is lost with a machine and its disk, where commits wait for another place.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use klar_base::keep::{SecondPlace, SecondStatus};
use klar_keep::keeper::{Keeper, Wishes};
use klar_keep::lsn::SegmentSize;
use klar_keep::restore::{self, Kept};
use klar_keep::scratch::{Then, Until};
use klar_keep::server::Session;
use klar_keep::wal::ahead;
use klar_keep::wal::chain::Log;
use klar_repo::{Folder, Overlay, Repository};

use crate::cluster::{Cluster, Home, until};

const PATIENCE: Duration = Duration::from_secs(120);
const WRITERS: u64 = 4;

fn keep(cluster: &Cluster, home: &Home) -> Keeper {
    let place = home.join("other").display().to_string();
    cluster.keeper(home, |wishes| {
        (wishes.second, wishes.synchronous) = (Some(SecondPlace { place, key: None }), true);
    })
}

fn second(keeper: &Keeper) -> SecondStatus {
    keeper.status().second.unwrap_or_default()
}

/// Rows that were acknowledged before the server was gone.
fn write(cluster: &Cluster, ledger: &Arc<Mutex<Vec<u64>>>) -> Vec<std::thread::JoinHandle<()>> {
    let writer = |writer: u64| {
        let (door, ledger) = (cluster.door.clone(), ledger.clone());
        std::thread::spawn(move || {
            let session = Session::open(&door).unwrap();
            session.run("set synchronous_commit = on").unwrap();
            for round in 0.. {
                let id = round * WRITERS + writer;
                let row = format!("insert into public.rows values ({id}, repeat('x', {}))", id % 900);
                if session.run(&row).is_err() {
                    return;
                }
                ledger.lock().unwrap().push(id);
            }
        })
    };
    (0..WRITERS).map(writer).collect()
}

/// `KLAR_LOSSES=20` for the full count.
#[test]
fn what_was_acknowledged_outlives_the_machine_and_its_disk() {
    let count: u32 = std::env::var("KLAR_LOSSES").ok().and_then(|text| text.parse().ok()).unwrap_or(2);
    let mut ahead_of_the_log = 0;
    for round in 0..count {
        let home = Home::new("ahead");
        let mut cluster = Cluster::start(&home);
        cluster.session().run("create table public.rows (id bigint primary key, filler text)").unwrap();
        let keeper = keep(&cluster, &home);
        until("nothing can be lost", || second(&keeper).synchronous == Some(true));
        // It is on the same disk here, and is not said to be anything better.
        assert_eq!(second(&keeper).together.as_deref(), Some("it is on the same disk"));
        let ledger = Arc::default();
        let writers = write(&cluster, &ledger);
        std::thread::sleep(Duration::from_millis(fastrand::u64(500..4000)));
        // From here on the keeper cannot bring anything there but what it has begun: as if it were dead.
        fs::rename(home.join("other"), home.join("rescued")).unwrap();
        cluster.kill();
        writers.into_iter().for_each(|writer| writer.join().unwrap());
        let password = fs::read_to_string(home.join("keep/repository.key")).unwrap();
        drop(keeper);
        for gone in ["keep", "cluster", "other"] {
            let _ = fs::remove_dir_all(home.join(gone));
        }

        let place = Arc::new(Folder::new(&home.join("rescued/shop.production/db")));
        let alone = Repository::open(place.clone(), password.trim()).unwrap();
        let overlay = Overlay::new(place, Arc::new(Folder::new(&home.join("over"))));
        let repository = Repository::open(Arc::new(overlay), password.trim()).unwrap();
        let trusted = klar_keep::point::signers(&repository).unwrap();
        let newest = Kept::read(&repository, &trusted).unwrap().points.points.pop_last().unwrap().1;
        let merged = ahead::merge(&repository, newest.system, newest.segment_size).unwrap();
        assert!(merged.broken.is_none(), "{:?}", merged.broken);
        let size = SegmentSize::try_from(1 << 20).unwrap();
        ahead_of_the_log += u32::from(merged.until > Log::read(&alone, size).unwrap().end(1));
        let found = restored(&cluster, &repository, &trusted, &home.join("restored"));
        let ledger = ledger.lock().unwrap();
        let missing: Vec<_> = ledger.iter().filter(|id| !found.contains(id)).collect();
        assert!(missing.is_empty(), "round {round}: {} of {} rows are missing", missing.len(), ledger.len());
        assert!(ledger.len() > 10, "{} rows", ledger.len());
        println!("{round}: {} rows acknowledged, {} found, 0 missing", ledger.len(), found.len());
    }
    assert!(ahead_of_the_log > 0, "the repository alone had everything: nothing was shown");
}

fn restored(
    cluster: &Cluster,
    repository: &Repository,
    trusted: &[klar_store::KeyId],
    folder: &Path,
) -> BTreeSet<u64> {
    let all = Kept::read(repository, trusted).unwrap();
    let (data, log) = (folder.join("data"), folder.join("log"));
    let plan = all.plan(Until::End, None).unwrap();
    all.bring_back(&plan, &cluster.programs, &data, &log).unwrap();
    let home = folder.join("home");
    let server = restore::start(&plan, &cluster.programs, &data, &log, &home, Then::Promote, false).unwrap();
    let session = Session::open(server.door()).unwrap();
    let rows = session.rows("select id from public.rows", Duration::from_secs(60)).unwrap();
    rows.iter().map(|row| row.get(0).unwrap().parse().unwrap()).collect()
}

/// Commits wait while the other place is away, and go on when it is back; once nobody asks for it they never wait.
#[test]
fn commits_wait_while_the_other_place_is_away() {
    let home = Home::new("waits");
    let cluster = Cluster::start(&home);
    let keeper = keep(&cluster, &home);
    until("nothing can be lost", || second(&keeper).synchronous == Some(true));
    let session = cluster.session();
    session.run("create table public.t (n int)").unwrap();

    let (other, away) = (home.join("other"), home.join("away"));
    let names = |folder: &Path| -> usize {
        let listed = fs::read_dir(folder.join("shop.production/db/klar/ahead"));
        listed.map_or(0, |listed| listed.count())
    };
    // A file where the folder was: nothing can be made there. What grows goes on growing until it is long or old enough.
    fs::rename(&other, &away).unwrap();
    fs::write(&other, "").unwrap();
    let (door, is_back) = (cluster.door.clone(), Arc::new(AtomicBool::new(false)));
    let returned = is_back.clone();
    let writer = std::thread::spawn(move || {
        let session = Session::open(&door).unwrap();
        session.run("set synchronous_commit = on").unwrap();
        let mut before = 0;
        loop {
            let is_back = returned.load(Ordering::Acquire);
            session.rows("insert into public.t select generate_series(1, 100)", PATIENCE).unwrap();
            if is_back {
                return before;
            }
            before += 1;
        }
    });
    until("somebody is told that commits wait", || {
        keeper.status().trouble.is_some_and(|trouble| trouble.contains("commits wait for"))
    });
    let counted =
        || session.row("select count(*) from public.t", "a count").unwrap().get(0).unwrap().to_owned();
    let waits = counted();
    assert_ne!(second(&keeper).synchronous, Some(true));
    std::thread::sleep(Duration::from_secs(2));
    assert_eq!(counted(), waits, "something was acknowledged");
    fs::remove_file(&other).unwrap();
    fs::rename(&away, &other).unwrap();
    is_back.store(true, Ordering::Release);
    assert!(writer.join().unwrap() > 0);
    until("nothing can be lost again", || second(&keeper).synchronous == Some(true));
    until("what the repository there has is gone", || names(&other) <= 3);

    let wishes = Wishes { synchronous: false, ..keeper.settings().wishes.clone() };
    keeper.wish(wishes);
    until("nobody is waited for", || {
        let shown = session.row("show synchronous_standby_names", "a setting").unwrap();
        let slots = session.rows("select from pg_replication_slots where slot_name = 'klar_ahead'", PATIENCE);
        shown.get(0) == Some("") && slots.unwrap().is_empty() && names(&other) == 0
    });
    assert_eq!(second(&keeper).synchronous, None);
}
