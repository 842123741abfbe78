//! A disk that is full: it is told, nothing that was acknowledged is lost, and all goes on when there is space again.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use jiff::Timestamp;
use klar_keep::restore::{self, Kept};
use klar_keep::scratch::{Then, Until};
use klar_keep::server::Session;

use crate::cluster::{Cluster, Home, until};

/// A file system of a few megabytes, in memory.
struct Disk(PathBuf);

impl Disk {
    fn mount(at: &Path, size: &str) -> Self {
        fs::create_dir_all(at).unwrap();
        let options = format!("size={size},mode=0755");
        let mounted =
            Command::new("mount").args(["-t", "tmpfs", "-o", &options, "klar-test"]).arg(at).status();
        assert!(mounted.unwrap().success(), "a test that fills disks runs as root");
        Self(at.to_owned())
    }

    /// Leaves no byte.
    fn fill(&self) {
        let filler = fs::File::create(self.0.join("filler")).unwrap();
        let _ = std::io::copy(&mut std::io::repeat(1), &mut &filler);
    }

    fn make_space(&self) {
        fs::remove_file(self.0.join("filler")).unwrap();
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}

/// Writes until it is over, whatever happens to the server; gives what was acknowledged.
fn write(
    cluster: &Cluster,
    is_over: &Arc<AtomicBool>,
) -> (Arc<Mutex<Vec<u64>>>, std::thread::JoinHandle<()>) {
    let (door, is_over, ledger) = (cluster.door.clone(), is_over.clone(), Arc::<Mutex<Vec<u64>>>::default());
    let notes = ledger.clone();
    let thread = std::thread::spawn(move || {
        let mut id = 0;
        while !is_over.load(Ordering::Acquire) {
            let Ok(session) = Session::open(&door) else {
                std::thread::sleep(Duration::from_millis(100));
                continue;
            };
            loop {
                id += 1;
                let row = format!("insert into public.rows values ({id}, repeat(md5({id}::text), 40))");
                if session.run(&row).is_err() || is_over.load(Ordering::Acquire) {
                    break;
                }
                notes.lock().unwrap().push(id);
                std::thread::sleep(Duration::from_millis(2));
            }
        }
    });
    (ledger, thread)
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Full {
    Repository,
    Spool,
    Log,
}

fn once(full: Full) {
    let home = Home::new("full");
    let mut cluster = Cluster::start(&home);
    let place = match full {
        Full::Repository => home.join("keep/repository"),
        Full::Spool => home.join("keep/spool"),
        Full::Log => home.join("log"),
    };
    let disk = Disk::mount(&place, "160m");
    if full == Full::Log {
        cluster.programs.give(&place).unwrap();
        cluster.put_log_into(&place);
    }
    cluster.session().run("create table public.rows (id bigint primary key, filler text)").unwrap();
    let keeper = cluster.keeper(&home, |_| {});
    until("a point was proven", || keeper.status().proven_unix_ms.is_some());
    let is_over = Arc::default();
    let (ledger, writer) = write(&cluster, &is_over);
    std::thread::sleep(Duration::from_millis(fastrand::u64(200..1500)));
    disk.fill();
    match full {
        // The server ends itself when it cannot write its log: nothing is acknowledged then.
        Full::Log => until("the server has ended", || Session::open(&cluster.door).is_err()),
        _ => {
            until("it is told", || keeper.status().trouble.is_some());
            let before = ledger.lock().unwrap().len();
            std::thread::sleep(Duration::from_secs(1));
            assert!(ledger.lock().unwrap().len() > before, "{full:?}: writing goes on");
        }
    }
    disk.make_space();
    if full == Full::Log {
        cluster.start_again();
    }
    std::thread::sleep(Duration::from_secs(1));
    is_over.store(true, Ordering::Release);
    writer.join().unwrap();
    let now = u64::try_from(Timestamp::now().as_millisecond()).unwrap();
    until("all of it is kept, and nothing is wrong", || {
        let status = keeper.status();
        status.covered_unix_ms > Some(now) && status.trouble.is_none()
    });

    let trusted = keeper.trusted().to_vec();
    let all = Kept::read(keeper.repository(), &trusted).unwrap();
    assert!(all.gaps().is_empty(), "{:?}", all.gaps());
    let folder = home.join("restored");
    let (data, log) = (folder.join("data"), folder.join("log"));
    let plan = all.plan(Until::End, None).unwrap();
    all.bring_back(&plan, &cluster.programs, &data, &log).unwrap();
    let own = folder.join("home");
    let server = restore::start(&plan, &cluster.programs, &data, &log, &own, Then::Promote, false).unwrap();
    let session = Session::open(server.door()).unwrap();
    let rows = session.rows("select id from public.rows", Duration::from_secs(60)).unwrap();
    let found: BTreeSet<u64> = rows.iter().map(|row| row.get(0).unwrap().parse().unwrap()).collect();
    drop(server);
    let ledger = ledger.lock().unwrap();
    let missing = ledger.iter().filter(|id| !found.contains(id)).count();
    assert_eq!(missing, 0, "{full:?}: of {} rows", ledger.len());
    println!("{full:?}: {} rows acknowledged, 0 missing", ledger.len());
    drop(keeper);
    drop(cluster);
}

/// `KLAR_FULL=10` for the full count: so often at each of three places.
#[test]
fn a_full_disk_loses_nothing_that_was_acknowledged() {
    let count: u32 = std::env::var("KLAR_FULL").ok().and_then(|text| text.parse().ok()).unwrap_or(1);
    for _ in 0..count {
        let only = std::env::var("KLAR_ONLY").ok();
        for full in [Full::Repository, Full::Spool, Full::Log] {
            if only.as_ref().is_some_and(|only| *only != format!("{full:?}")) {
                continue;
            }
            once(full);
        }
    }
}
