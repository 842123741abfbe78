//! One base of a running server, or one restore of it, timed: what `bench/keep/peers.py` measures.
//!
//! ```console
//! $ cargo run --release -p klar-keep --example keep -- base SOCKET DATA HOME
//! $ cargo run --release -p klar-keep --example keep -- restore HOME TARGET [UID GID]
//! ```

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use klar_keep::base;
use klar_keep::point::{AnyPoint, Point};
use klar_keep::restore::{self, Kept};
use klar_keep::scratch::{Then, Until};
use klar_keep::server::slot::SLOT;
use klar_keep::server::{Door, Facts, Programs, ReadySlot, Receiver, Session, Source};
use klar_keep::ship::{Mark, Shipper};
use klar_repo::{Folder, OpenError, Repository};
use klar_store::SigningKey;

type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

fn main() -> Outcome<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match args[..] {
        ["base", socket, data, home] => take(Path::new(socket), Path::new(data), Path::new(home)),
        ["restore", home, target] => bring_back(Path::new(home), Path::new(target), None),
        ["restore", home, target, uid, gid] => {
            bring_back(Path::new(home), Path::new(target), Some((uid.parse()?, gid.parse()?)))
        }
        _ => Err("base SOCKET DATA HOME, or restore HOME TARGET [UID GID]".into()),
    }
}

fn open(home: &Path) -> Outcome<(Repository, SigningKey)> {
    std::fs::create_dir_all(home)?;
    let storage = Arc::new(Folder::new(&home.join("repository")));
    let repository = match Repository::open(storage.clone(), "bench") {
        Err(OpenError::Missing(_)) => Repository::create(storage, "bench", "bench")?,
        opened => opened?,
    };
    Ok((repository, SigningKey::open(&home.join("sign.key"))?))
}

fn take(socket: &Path, data: &Path, home: &Path) -> Outcome<()> {
    let (repository, key) = open(home)?;
    let source = Source {
        door: Door::socket(socket, 5432, "klar"),
        data: Some(data.to_owned()),
        programs: Programs::newest().ok_or("PostgreSQL is not installed")?,
    };
    let session = Session::open(&source.door)?;
    let facts = Facts::ask(&session)?;
    let slot = ReadySlot::ensure(&session, SLOT)?;
    let spool = home.join("spool");
    let _receiver = Receiver::start(&source, &spool, facts.segment_size)?;
    let mut shipper = Shipper::open(&repository, &spool, &facts)?;
    let (progress, is_over) = (shipper.progress(), Arc::<AtomicBool>::default());
    let ends = is_over.clone();
    let asks = Session::open(&source.door)?;
    let ships = std::thread::spawn(move || {
        while !ends.load(Ordering::Acquire) {
            if let Err(error) = shipper.turn(Mark::ask(&asks).ok()) {
                eprintln!("{error}");
            }
            std::thread::sleep(Duration::from_millis(200));
        }
    });
    let begun = Instant::now();
    let base = base::take(&session, &slot, &facts, data, &repository, "bench", &mut |_| {})?;
    let took = begun.elapsed();
    let _ = progress.wait(facts.timeline, base.stop, Duration::from_secs(60));
    let point = Point::new(&facts, &base, None);
    point.publish(&repository, &key)?;
    is_over.store(true, Ordering::Release);
    ships.join().map_err(|_| "the shipper panicked")?;
    let (bytes, added) = (point.bytes, point.added);
    println!("{{\"seconds\": {:.3}, \"bytes\": {bytes}, \"added\": {added}}}", took.as_secs_f64());
    Ok(())
}

fn bring_back(home: &Path, target: &Path, server: Option<(u32, u32)>) -> Outcome<()> {
    let programs = Programs { server, ..Programs::newest().ok_or("PostgreSQL is not installed")? };
    let begun = Instant::now();
    let (repository, key) = open(home)?;
    let trusted = [key.id()];
    let kept = Kept::read(&repository, &trusted)?;
    let plan = kept.plan(Until::End, None)?;
    let (data, log) = (target.join("data"), target.join("log"));
    kept.bring_back(&plan, &programs, &data, &log)?;
    let files = begun.elapsed();
    let server = restore::start(&plan, &programs, &data, &log, &target.join("home"), Then::Promote, true)?;
    let all = begun.elapsed();
    server.stop(Duration::from_secs(600))?;
    let (files, all) = (files.as_secs_f64(), all.as_secs_f64());
    println!("{{\"files_seconds\": {files:.3}, \"writable_seconds\": {all:.3}}}");
    Ok(())
}
