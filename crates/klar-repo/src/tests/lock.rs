//! Who keeps whom away, and what a dead process leaves.

use std::io::{BufRead, BufReader, Read, Write};
use std::process::Stdio;
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::*;
use crate::lock::{File, Process, Timing};

const QUICK: Timing = Timing {
    wait: Duration::from_millis(2),
    refresh: Duration::from_millis(20),
    retry: Duration::from_millis(10),
};

fn in_memory() -> (Arc<Memory>, Repository) {
    let memory = Arc::new(Memory::new());
    let repository = Repository::create(memory.clone(), PASSWORD, "owner").unwrap();
    (memory, repository)
}

fn locks(memory: &Memory) -> Vec<String> {
    memory.objects().into_keys().filter(|path| path.starts_with("locks/")).collect()
}

fn is_held(result: Result<Lock, LockError>) -> Holder {
    match result {
        Err(LockError::Held { holder, .. }) => *holder,
        other => panic!("{other:?}"),
    }
}

#[test]
fn shared_ones_stand_beside_each_other_exclusive_ones_alone() {
    let (memory, repository) = in_memory();
    let (one, two) = (repository.lock(LockKind::Shared).unwrap(), repository.lock(LockKind::Shared).unwrap());
    let holder = is_held(repository.lock(LockKind::Exclusive));
    assert_eq!((holder.pid, holder.exclusive), (std::process::id(), false));
    drop((one, two));
    let alone = repository.lock(LockKind::Exclusive).unwrap();
    for kind in [LockKind::Shared, LockKind::Exclusive] {
        let error = repository.lock(kind).unwrap_err();
        let said = error.to_string();
        assert!(said.contains(&format!("process {} of", std::process::id())), "{said}");
        assert!(said.contains("holds an exclusive lock") && said.contains("restic unlock"), "{said}");
        assert!(is_held(Err(error)).exclusive);
    }
    assert!(matches!(repository.backup(options(DATABASE)), Err(BackupError::Lock(_))));
    drop(alone);
    assert_eq!(locks(&memory), Vec::<String>::new());
    let backup = repository.backup(options(DATABASE)).unwrap();
    is_held(repository.lock(LockKind::Exclusive));
    backup.finish().unwrap();
    repository.lock(LockKind::Exclusive).unwrap();
    assert_eq!(locks(&memory), Vec::<String>::new());
}

/// Many come at once: never does one have an exclusive lock beside another.
#[test]
fn of_many_at_once_at_most_one_is_alone() {
    let (memory, repository) = in_memory();
    let inside = std::sync::Mutex::new((0, 0));
    std::thread::scope(|scope| {
        for thread in 0..6 {
            let (repository, inside) = (&repository, &inside);
            scope.spawn(move || {
                let mut random = fastrand::Rng::with_seed(thread);
                for _ in 0..40 {
                    let is_alone = random.bool();
                    let kind = if is_alone { LockKind::Exclusive } else { LockKind::Shared };
                    if let Ok(lock) = repository.lock(kind) {
                        let enter = |by: i32| {
                            let mut inside = inside.lock().unwrap();
                            if is_alone {
                                inside.0 += by
                            } else {
                                inside.1 += by
                            }
                            assert!(*inside == (1, 0) || inside.0 == 0, "{inside:?}");
                        };
                        enter(1);
                        sleep(Duration::from_millis(random.u64(..4)));
                        enter(-1);
                        drop(lock);
                    }
                    sleep(Duration::from_millis(random.u64(..6)));
                }
            });
        }
    });
    assert_eq!(locks(&memory), Vec::<String>::new());
}

#[test]
fn stale_ones_are_taken_away_and_no_others() {
    let (memory, repository) = in_memory();
    let ago = |minutes: i64| jiff::Timestamp::now() - jiff::SignedDuration::from_mins(minutes);
    let own = File::own(true);
    // No process has it: it is beyond what the kernel gives.
    let dead = 0x7fff_fff0;
    let process = |world: &str, started| Some(Process { world: world.into(), started });
    let here = own.process.clone().unwrap();
    let another = || File { hostname: "another".into(), process: None, ..own.clone() };
    for (what, file, is_stale) in [
        ("another machine's, new", File { time: ago(1), ..another() }, false),
        ("another machine's, old", File { time: ago(31), ..another() }, true),
        ("another machine's, from the future", File { time: ago(-1000), ..another() }, false),
        ("dead", File { pid: dead, process: None, ..own.clone() }, true),
        ("dead, another machine's", File { pid: dead, ..another() }, false),
        ("alive, of restic", File { pid: 1, process: None, ..own.clone() }, false),
        ("alive, of restic, old", File { pid: 1, process: None, time: ago(31), ..own.clone() }, true),
        ("ours, but no lock of this process has it", own.clone(), true),
        ("dead, of klar", File { pid: dead, process: process(&here.world, 7), ..own.clone() }, true),
        (
            "its number is another's now",
            File { pid: 1, process: process(&here.world, 7), ..own.clone() },
            true,
        ),
        ("before the machine was started", File { process: process("x", 7), ..own.clone() }, false),
        ("long before", File { process: process("x", 7), time: ago(31), ..own.clone() }, true),
    ] {
        let id = repository.put_json(Kind::Lock, &file).map_err(|_| "not written").unwrap();
        match repository.lock(LockKind::Exclusive) {
            Ok(_) => assert!(is_stale, "{what}"),
            error => {
                assert!(!is_stale, "{what}");
                assert_eq!(is_held(error).lock, id);
                memory.put(&Object::Stored(Kind::Lock, id).path(), None);
            }
        }
        assert_eq!(locks(&memory), Vec::<String>::new(), "{what}");
    }
}

/// Another process of klar holds it, and the clock jumps by hours: it is as good as ever, until that process is dead.
#[test]
fn a_killed_process_leaves_a_stale_lock() {
    const NAME: &str = "tests::lock::a_killed_process_leaves_a_stale_lock";
    if let Some(place) = child_word() {
        let repository = Repository::open(Arc::new(Folder::new(Path::new(&place))), PASSWORD).unwrap();
        let _lock = repository.lock(LockKind::Exclusive).unwrap();
        println!("\nlocked");
        std::io::stdout().flush().unwrap();
        sleep(Duration::from_secs(600));
        return;
    }
    let scratch = Scratch::new("killed");
    let repository = Repository::create(Arc::new(Folder::new(&scratch.0)), PASSWORD, "owner").unwrap();
    let mut child = child(NAME, scratch.0.to_str().unwrap()).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap() == "locked"));
    let holder = is_held(repository.lock(LockKind::Shared));
    assert_eq!(holder.pid, child.id());
    // Restic asks it by a signal, and leaves it be.
    if restic(&scratch.0, &["unlock"]).is_some() {
        assert_eq!(is_held(repository.lock(LockKind::Shared)), holder);
        assert!(child.try_wait().unwrap().is_none());
        assert!(!try_restic(&scratch.0, &["prune"]).unwrap().status.success());
    }
    // As the clock of that process saw it, 20 hours ago.
    let old = Object::Stored(Kind::Lock, holder.lock);
    let file: File = repository.json(&old).unwrap();
    let time = file.time - jiff::SignedDuration::from_hours(20);
    repository.put_json(Kind::Lock, &File { time, ..file }).map_err(|_| "not written").unwrap();
    repository.storage().remove(&old).unwrap();
    is_held(repository.lock(LockKind::Shared));
    child.kill().unwrap();
    child.wait().unwrap();
    repository.lock(LockKind::Exclusive).unwrap();
}

#[test]
fn a_lock_is_written_anew_and_says_when_it_was_lost() {
    let (memory, repository) = in_memory();
    let lock = Lock::take_with(&repository, LockKind::Shared, QUICK).unwrap();
    let (first, begun) = (locks(&memory), Instant::now());
    while locks(&memory) == first || locks(&memory).len() != 1 {
        assert!(begun.elapsed() < Duration::from_secs(20), "it was not written anew");
        sleep(Duration::from_millis(1));
    }
    lock.confirm().unwrap();
    // While the storage is away nobody can say; afterwards all is well.
    memory.plan(vec![Fault::Down(1)]);
    assert!(matches!(lock.confirm(), Err(LockError::Storage(_))));
    sleep(Duration::from_millis(60));
    memory.plan(Vec::new());
    lock.confirm().unwrap();
    loop {
        locks(&memory).iter().for_each(|path| memory.put(path, None));
        match lock.confirm() {
            // It was just being written anew.
            Ok(()) => sleep(Duration::from_millis(1)),
            Err(LockError::Lost { why, .. }) => break assert!(why.contains("removed"), "{why}"),
            Err(error) => panic!("{error}"),
        }
    }
    assert!(matches!(lock.confirm(), Err(LockError::Lost { .. })));
    drop(lock);
    // One whose removal fails goes when the storage is back.
    let lock = Lock::take_with(&repository, LockKind::Exclusive, QUICK).unwrap();
    memory.plan(vec![Fault::Down(1)]);
    drop(lock);
    assert_eq!(locks(&memory).len(), 1);
    memory.plan(Vec::new());
    let begun = Instant::now();
    while !locks(&memory).is_empty() {
        assert!(begun.elapsed() < Duration::from_secs(20), "it was not removed");
        sleep(Duration::from_millis(1));
    }
}

/// A backup whose lock was taken away makes no snapshot: what it found in the index may be gone.
#[test]
fn a_backup_without_its_lock_fails() {
    let (memory, repository) = in_memory();
    let backup = repository.backup(options(DATABASE)).unwrap();
    locks(&memory).iter().for_each(|path| memory.put(path, None));
    assert!(matches!(backup.finish(), Err(BackupError::Lock(LockError::Lost { .. }))));
    assert_eq!(repository.snapshots().unwrap(), []);
}

#[test]
fn a_lock_that_nobody_can_read_is_nobodys_to_ignore() {
    let (memory, repository) = in_memory();
    let path = Object::Stored(Kind::Lock, Id::of(b"another")).path();
    memory.put(&path, Some(b"damaged".to_vec()));
    let error = repository.lock(LockKind::Shared).unwrap_err().to_string();
    assert!(error.contains(&path) && error.contains("--remove-all"), "{error}");
    memory.put(&path, None);
    // Whatever call fails, nothing is left but what the next one takes away.
    for call in 1..10 {
        for fault in [Fault::Error(call), Fault::Torn(call), Fault::Down(call)] {
            memory.plan(vec![fault]);
            let lock = repository.lock(LockKind::Exclusive);
            memory.plan(Vec::new());
            drop(lock);
            drop(repository.lock(LockKind::Exclusive).unwrap());
        }
    }
    assert_eq!(locks(&memory), Vec::<String>::new());
}

#[test]
fn restic_and_klar_keep_each_other_away() {
    let scratch = Scratch::new("beside");
    let repository = Repository::create(Arc::new(Folder::new(&scratch.0)), PASSWORD, "owner").unwrap();
    let Some(_) = restic(&scratch.0, &["prune"]) else { return };
    let lock = repository.lock(LockKind::Shared).unwrap();
    let refused = try_restic(&scratch.0, &["prune"]).unwrap();
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && said.contains("already locked by"), "{said}");
    assert!(said.contains(&format!("PID {}", std::process::id())), "{said}");
    // It asks whether the process is alive.
    restic(&scratch.0, &["unlock"]);
    lock.confirm().unwrap();
    drop(lock);
    restic(&scratch.0, &["prune"]);

    // A backup of restic that waits for its input holds a shared lock.
    let mut other = restic_command(&scratch.0, &["backup", "--stdin"]);
    let mut other = other.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let begun = Instant::now();
    while repository.storage().list(Kind::Lock).unwrap().is_empty() {
        assert!(begun.elapsed() < Duration::from_secs(60), "restic took no lock");
        sleep(Duration::from_millis(5));
    }
    let holder = is_held(repository.lock(LockKind::Exclusive));
    assert_eq!((holder.pid, holder.exclusive), (other.id(), false));
    drop(repository.lock(LockKind::Shared).unwrap());
    other.stdin.take().unwrap().write_all(b"input").unwrap();
    other.stdout.take().unwrap().read_to_end(&mut Vec::new()).unwrap();
    assert!(other.wait().unwrap().success());
    repository.lock(LockKind::Exclusive).unwrap();
}
