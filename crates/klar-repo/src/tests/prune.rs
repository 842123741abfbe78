//! What nobody needs goes, late; what somebody needs stays, whatever happens.

use std::sync::Mutex;
use std::time::Duration;

use super::*;

pub(super) type Content = BTreeMap<String, Vec<u8>>;

pub(super) const HOUR: i64 = 3600;
const DAY: Duration = Duration::from_secs(86_400);

pub(super) fn at(hours: i64) -> jiff::Timestamp {
    jiff::Timestamp::from_second(1_800_000_000 + hours * HOUR).unwrap()
}

/// What a seed stands for: some files that all have, some that neighbours share, some of its own.
pub(super) fn content(seed: u64) -> Content {
    let file = |seed: u64, length: usize| {
        let mut random = fastrand::Rng::with_seed(seed);
        (0..length).map(|_| random.u8(..)).collect::<Vec<u8>>()
    };
    let mut content = Content::new();
    content.insert("all".into(), file(1, 30_000));
    content.insert("near/shared".into(), file(1000 + seed / 3, 50_000));
    content.insert("own/one".into(), file(2000 + seed, 20_000));
    let parts = [file(2000 + seed, 4096), file(1000 + seed / 2, 8192), vec![0; 8192]];
    content.insert("own/of parts".into(), parts.concat());
    content.insert(format!("own/{seed}"), Vec::new());
    content
}

pub(super) fn store(
    repository: &Repository,
    time: jiff::Timestamp,
    content: &Content,
) -> Result<Stored, BackupError> {
    let mut backup = repository.backup(BackupOptions { time, ..options(4096) })?;
    let metadata = Metadata { mode: 0o640, uid: 0, gid: 0, mtime: jiff::Timestamp::UNIX_EPOCH };
    for (path, bytes) in content {
        backup.file(Path::new(path), &metadata, &mut &bytes[..])?;
    }
    backup.finish()
}

pub(super) fn options_at(hours: i64) -> PruneOptions {
    PruneOptions { now: at(hours), delay: DAY, max_repack_bytes: u64::MAX }
}

fn prune(repository: &Repository, hours: i64) -> Result<Pruned, PruneError> {
    repository.prune(options_at(hours), &mut |_| {})
}

/// All snapshots are what they were, and there are no others.
pub(super) fn expect(repository: &Repository, kept: &BTreeMap<Id, Content>, scratch: &Scratch) {
    let report = repository.check(CheckData::All, &mut |_| {});
    assert!(report.is_whole(), "{:#?}", report.problems);
    let (reader, snapshots) = (repository.reader().unwrap(), repository.snapshots().unwrap());
    assert_eq!(snapshots.len(), kept.len());
    for snapshot in snapshots {
        let target = scratch.0.join("restored");
        let _ = std::fs::remove_dir_all(&target);
        reader.restore(&snapshot, &target).unwrap();
        for (path, bytes) in &kept[&snapshot.id] {
            assert!(std::fs::read(target.join(path)).unwrap() == *bytes, "{path}");
        }
    }
}

fn in_memory() -> (Arc<Memory>, Repository) {
    let memory = Arc::new(Memory::new());
    let repository = Repository::create(memory.clone(), PASSWORD, "owner").unwrap();
    (memory, repository)
}

fn packs(memory: &Memory) -> u64 {
    memory.objects().keys().filter(|path| path.starts_with("data/")).count() as u64
}

fn bytes(memory: &Memory) -> usize {
    memory.objects().iter().filter(|(path, _)| path.starts_with("data/")).map(|(_, bytes)| bytes.len()).sum()
}

#[test]
fn packs_are_removed_late_and_only_when_nobody_needs_them() {
    let scratch = Scratch::new("late");
    let (memory, repository) = in_memory();
    let mut kept = BTreeMap::new();
    for seed in 0..8 {
        let stored = store(&repository, at(seed), &content(seed as u64)).unwrap();
        kept.insert(stored.snapshot, content(seed as u64));
    }
    let full = packs(&memory);
    assert_eq!(prune(&repository, 8).unwrap(), Pruned::default());
    let all: Vec<Id> = repository.snapshots().unwrap().iter().map(|snapshot| snapshot.id).collect();
    repository.forget(&all[1..7]).unwrap();
    kept.retain(|id, _| !all[1..7].contains(id));

    let first = prune(&repository, 9).unwrap();
    assert!(first.waiting > 4 && first.repacked > 0 && first.removed == 0, "{first:?}");
    expect(&repository, &kept, &scratch);
    // Long after, but for the first time since they were marked.
    let second = prune(&repository, 50).unwrap();
    assert_eq!((second.removed, second.waiting), (0, first.waiting));
    // Often enough, but too early.
    let third = prune(&repository, 32).map(|pruned| pruned.removed);
    assert!(matches!(third, Err(PruneError::Future { .. })), "{third:?}");
    let stored = store(&repository, at(51), &content(3)).unwrap();
    kept.insert(stored.snapshot, content(3));
    // Somebody needs some of them again.
    let fourth = prune(&repository, 52).unwrap();
    assert!(fourth.removed > 0 && fourth.waiting == 0, "{fourth:?}");
    assert!(packs(&memory) < full);
    expect(&repository, &kept, &scratch);
    // What is left over of that waits its time, and then there is nothing more to do.
    for hours in [60, 70, 100, 130, 140, 200, 230] {
        prune(&repository, hours).unwrap();
    }
    assert_eq!(prune(&repository, 231).unwrap().waiting, 0);
    expect(&repository, &kept, &scratch);
    let needed: usize = {
        let (memory, repository) = in_memory();
        kept.values().for_each(|content| assert!(store(&repository, at(0), content).is_ok()));
        bytes(&memory)
    };
    assert!(bytes(&memory) < needed * 2, "{} of {needed}", bytes(&memory));
}

#[test]
fn a_pack_that_is_needed_again_waits_anew() {
    let (memory, repository) = in_memory();
    store(&repository, at(0), &content(30)).unwrap();
    let stored = store(&repository, at(1), &content(1)).unwrap();
    repository.forget(&[stored.snapshot]).unwrap();
    let without_repack = |hours| {
        repository.prune(PruneOptions { max_repack_bytes: 0, ..options_at(hours) }, &mut |_| {}).unwrap()
    };
    assert!(without_repack(2).waiting > 0);
    assert!(without_repack(30).waiting > 0);
    let stored = store(&repository, at(31), &content(1)).unwrap();
    assert!(stored.bytes_added < 4000, "what is marked is used again: {stored:?}");
    assert_eq!(without_repack(60).removed, 0);
    repository.forget(&[stored.snapshot]).unwrap();
    let before = packs(&memory);
    // It was needed in between.
    assert_eq!(
        (without_repack(61).removed, without_repack(62).removed, without_repack(63).removed),
        (0, 0, 0)
    );
    assert!(without_repack(90).removed > 0 && packs(&memory) < before);
}

#[test]
fn clocks_that_cannot_be_right_remove_nothing() {
    let (memory, repository) = in_memory();
    assert_eq!(prune(&repository, 0).unwrap(), Pruned::default());
    let stored = store(&repository, at(0), &content(1)).unwrap();
    store(&repository, at(10), &content(2)).unwrap();
    repository.forget(&[stored.snapshot]).unwrap();
    let before = memory.objects();
    let error = prune(&repository, 9).unwrap_err().to_string();
    assert!(error.contains("but snapshot") && error.contains("set the clock right"), "{error}");
    let error = prune(&repository, 10 + 41 * 24).unwrap_err().to_string();
    assert!(error.contains("more than 40 days before"), "{error}");
    assert!(memory.objects() == before);
    prune(&repository, 10 + 39 * 24).unwrap();
    let error = prune(&repository, 11).unwrap_err().to_string();
    assert!(error.contains("what the last prune wrote"), "{error}");
    // Nothing is left: that may be wanted, or an accident.
    let all: Vec<Id> = repository.snapshots().unwrap().iter().map(|snapshot| snapshot.id).collect();
    repository.forget(&all).unwrap();
    assert!(matches!(prune(&repository, 10 + 39 * 24), Err(PruneError::NoSnapshot { .. })));
}

#[test]
fn what_is_missing_stops_a_prune_only_where_it_is_needed() {
    let scratch = Scratch::new("missing");
    let (memory, repository) = in_memory();
    let stored = store(&repository, at(0), &content(30)).unwrap();
    let before = memory.objects();
    let last = store(&repository, at(1), &content(1)).unwrap();
    let added = memory.objects().into_iter().filter(|(path, _)| !before.contains_key(path));
    let lost: Vec<_> = added.filter(|(path, _)| path.starts_with("data/")).collect();
    lost.iter().for_each(|(path, _)| memory.put(path, None));
    let error = prune(&repository, 2).unwrap_err().to_string();
    assert!(error.contains("nothing was pruned") && !error.contains("clock"), "{error}");
    repository.forget(&[last.snapshot]).unwrap();
    assert!(!repository.check(CheckData::None, &mut |_| {}).is_whole(), "an index names what is lost");
    prune(&repository, 2).unwrap();
    expect(&repository, &BTreeMap::from([(stored.snapshot, content(30))]), &scratch);
    // Marks that cannot be read mark nothing, and a check says so.
    repository.storage().remove(&Object::Stored(Kind::Index, Id::of(b"not there"))).unwrap();
    let last = store(&repository, at(3), &content(1)).unwrap();
    repository.forget(&[last.snapshot]).unwrap();
    let waiting = prune(&repository, 4).unwrap().waiting;
    assert_eq!(prune(&repository, 40).unwrap().waiting, waiting);
    let marks = repository.storage().list_extra("klar/unneeded/").unwrap();
    let [(name, _)] = &*marks else { panic!("{marks:?}") };
    memory.put(name, Some(b"damaged".to_vec()));
    let report = repository.check(CheckData::None, &mut |_| {});
    assert_eq!(report.problems[0].with.to_string(), *name);
    assert_eq!(prune(&repository, 80).unwrap().removed, 0);
    assert!(repository.check(CheckData::All, &mut |_| {}).is_whole());
    assert_eq!(prune(&repository, 81).unwrap().removed, 0);
    assert_eq!(prune(&repository, 110).unwrap().removed, waiting);
}

#[test]
fn many_small_indexes_become_one() {
    let scratch = Scratch::new("indexes");
    let (memory, repository) = in_memory();
    let mut kept = BTreeMap::new();
    for seed in 0..30 {
        let stored = store(&repository, at(seed), &content(seed as u64)).unwrap();
        kept.insert(stored.snapshot, content(seed as u64));
    }
    let indexes = || memory.objects().keys().filter(|path| path.starts_with("index/")).count();
    assert_eq!(indexes(), 30);
    prune(&repository, 30).unwrap();
    assert_eq!(indexes(), 1);
    expect(&repository, &kept, &scratch);
}

/// A storage that does not let packs go.
struct Keeps(Memory);

impl Storage for Keeps {
    fn place(&self) -> String {
        self.0.place()
    }
    fn list(&self, kind: Kind) -> Result<Vec<(Id, u64)>, StorageError> {
        self.0.list(kind)
    }
    fn list_extra(&self, prefix: &str) -> Result<Vec<(String, u64)>, StorageError> {
        self.0.list_extra(prefix)
    }
    fn read(&self, object: &Object) -> Result<Vec<u8>, StorageError> {
        self.0.read(object)
    }
    fn read_range(&self, object: &Object, offset: u64, length: usize) -> Result<Vec<u8>, StorageError> {
        self.0.read_range(object, offset, length)
    }
    fn write(&self, object: &Object, bytes: &[u8]) -> Result<(), StorageError> {
        self.0.write(object, bytes)
    }
    fn remove(&self, object: &Object) -> Result<(), StorageError> {
        match object {
            Object::Stored(Kind::Pack, _) => Err(StorageError::Io {
                doing: "removing",
                what: object.to_string(),
                source: io::Error::other("it is retained for 30 days"),
            }),
            _ => self.0.remove(object),
        }
    }
}

#[test]
fn a_storage_that_keeps_packs_is_asked_again() {
    let scratch = Scratch::new("keeps");
    let storage = Arc::new(Keeps(Memory::new()));
    let repository = Repository::create(storage.clone(), PASSWORD, "owner").unwrap();
    let stored = store(&repository, at(0), &content(30)).unwrap();
    let last = store(&repository, at(1), &content(1)).unwrap();
    repository.forget(&[last.snapshot]).unwrap();
    prune(&repository, 2).unwrap();
    prune(&repository, 3).unwrap();
    for hours in [40, 41] {
        let error = prune(&repository, hours).unwrap_err().to_string();
        assert!(error.contains("could not be removed") && error.contains("retained for 30 days"), "{error}");
        expect(&repository, &BTreeMap::from([(stored.snapshot, content(30))]), &scratch);
    }
}

/// Before a run that removes, copies, marks and replaces indexes.
fn before_a_busy_prune(repository: &Repository) -> BTreeMap<Id, Content> {
    let mut ids = Vec::new();
    for seed in 0..9 {
        ids.push(store(repository, at(seed), &content(seed as u64)).unwrap().snapshot);
    }
    repository.forget(&ids[1..3]).unwrap();
    let bounded = |hours| PruneOptions { max_repack_bytes: 30_000, ..options_at(hours) };
    repository.prune(bounded(10), &mut |_| {}).unwrap();
    repository.prune(bounded(20), &mut |_| {}).unwrap();
    repository.forget(&ids[4..7]).unwrap();
    [0, 3, 7, 8].into_iter().map(|seed| (ids[seed], content(seed as u64))).collect()
}

fn put_back(memory: &Memory, objects: &BTreeMap<String, Vec<u8>>) {
    for path in memory.objects().into_keys().filter(|path| !objects.contains_key(path)) {
        memory.put(&path, None);
    }
    objects.iter().for_each(|(path, bytes)| memory.put(path, Some(bytes.clone())));
}

#[test]
fn a_prune_that_ends_anywhere_leaves_all_whole() {
    let scratch = Scratch::new("anywhere");
    let (memory, repository) = in_memory();
    let kept = before_a_busy_prune(&repository);
    let before = memory.objects();
    let mut ended = 0;
    for call in 1.. {
        for fault in [Fault::Down(call), Fault::Error(call)] {
            put_back(&memory, &before);
            memory.plan(vec![fault.clone()]);
            let done = prune(&repository, 60);
            let calls = memory.calls();
            memory.plan(Vec::new());
            ended = calls.max(ended);
            // Old marks may stay, and so may the lock.
            let may_pass = calls < call || matches!(fault, Fault::Error(_)) || call == calls;
            assert!(done.is_err() || may_pass, "call {call} of {calls}: {fault:?}");
            if call % 12 == 1 {
                let opened = Repository::open(memory.clone(), PASSWORD).unwrap();
                expect(&opened, &kept, &scratch);
                judged_by_restic(&memory, &scratch);
            }
            expect(&repository, &kept, &scratch);
            prune(&repository, 61).unwrap();
            expect(&repository, &kept, &scratch);
        }
        if call > ended {
            break;
        }
    }
    put_back(&memory, &before);
    let done = prune(&repository, 60).unwrap();
    assert!(done.removed > 1 && done.repacked > 1 && done.waiting > 1, "{done:?}");
    assert!(ended > 40, "{ended}");
}

fn judged_by_restic(memory: &Memory, scratch: &Scratch) {
    let place = scratch.0.join("judged");
    let _ = std::fs::remove_dir_all(&place);
    for (path, bytes) in memory.objects() {
        let path = place.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }
    // It takes no lock: what is left of ours, only we know to be stale.
    restic(&place, &["--no-lock", "check", "--read-data"]);
}

/// Sleeps now and then, so that two who use it meet everywhere.
struct Shaky(Arc<Memory>, Mutex<fastrand::Rng>);

impl Shaky {
    fn shake(&self) -> &Memory {
        let pause = self.1.lock().unwrap().u64(..150);
        std::thread::sleep(Duration::from_micros(pause));
        &self.0
    }
}

impl Storage for Shaky {
    fn place(&self) -> String {
        self.0.place()
    }
    fn list(&self, kind: Kind) -> Result<Vec<(Id, u64)>, StorageError> {
        self.shake().list(kind)
    }
    fn list_extra(&self, prefix: &str) -> Result<Vec<(String, u64)>, StorageError> {
        self.shake().list_extra(prefix)
    }
    fn read(&self, object: &Object) -> Result<Vec<u8>, StorageError> {
        self.shake().read(object)
    }
    fn read_range(&self, object: &Object, offset: u64, length: usize) -> Result<Vec<u8>, StorageError> {
        self.shake().read_range(object, offset, length)
    }
    fn write(&self, object: &Object, bytes: &[u8]) -> Result<(), StorageError> {
        self.shake().write(object, bytes)
    }
    fn remove(&self, object: &Object) -> Result<(), StorageError> {
        self.shake().remove(object)
    }
}

/// One backs up and forgets, the other prunes, both without asking each other: they wait for no lock and try again.
#[test]
fn backups_and_prunes_side_by_side_lose_nothing() {
    let scratch = Scratch::new("beside-prune");
    let memory = Arc::new(Memory::new());
    let shaky = Arc::new(Shaky(memory.clone(), Mutex::new(fastrand::Rng::with_seed(8))));
    let repository = Repository::create(shaky, PASSWORD, "owner").unwrap();
    let (clock, kept) = (std::sync::atomic::AtomicI64::new(0), Mutex::new(BTreeMap::new()));
    let hours = |add: i64| clock.fetch_add(add, std::sync::atomic::Ordering::SeqCst) + add;
    let (is_done, removed) = (std::sync::atomic::AtomicBool::new(false), Mutex::new((0, 0)));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut random = fastrand::Rng::with_seed(9);
            let mut rounds = 0;
            while rounds < 100 {
                let seed = random.u64(..12);
                match store(&repository, at(hours(random.i64(1..8))), &content(seed)) {
                    Ok(stored) => drop(kept.lock().unwrap().insert(stored.snapshot, content(seed))),
                    Err(BackupError::Lock(LockError::Held { .. })) => continue,
                    Err(error) => panic!("{error}"),
                }
                rounds += 1;
                let mut kept = kept.lock().unwrap();
                if kept.len() > 3 {
                    let id = *kept.keys().nth(random.usize(..kept.len())).unwrap();
                    match repository.forget(&[id]) {
                        Ok(()) => drop(kept.remove(&id)),
                        Err(ForgetError::Lock(LockError::Held { .. })) => {}
                        Err(error) => panic!("{error}"),
                    }
                }
            }
            is_done.store(true, std::sync::atomic::Ordering::SeqCst);
        });
        scope.spawn(|| {
            let mut rounds = 0;
            while rounds < 100 || !is_done.load(std::sync::atomic::Ordering::SeqCst) {
                match prune(&repository, hours(0)) {
                    Ok(pruned) => {
                        rounds += 1;
                        let mut removed = removed.lock().unwrap();
                        *removed = (removed.0 + pruned.removed, removed.1 + pruned.repacked);
                        std::thread::sleep(Duration::from_millis(3));
                    }
                    // The other one came in between, or there is no snapshot yet.
                    Err(PruneError::Lock(LockError::Held { .. }) | PruneError::Future { .. }) => {}
                    Err(PruneError::NoSnapshot { .. }) => {}
                    Err(error) => panic!("{error}"),
                }
            }
        });
    });
    let removed = removed.into_inner().unwrap();
    assert!(removed.0 > 5 && removed.1 > 0, "{removed:?}");
    expect(&repository, &kept.into_inner().unwrap(), &scratch);
    judged_by_restic(&memory, &scratch);
}

#[test]
fn restic_goes_on_after_a_prune() {
    let scratch = Scratch::new("prune-restic");
    let place = scratch.0.join("repository");
    let repository = Repository::create(Arc::new(Folder::new(&place)), PASSWORD, "owner").unwrap();
    let kept = before_a_busy_prune(&repository);
    prune(&repository, 60).unwrap();
    let Some(_) = restic(&place, &["check", "--read-data"]) else { return };
    let said = restic(&place, &["snapshots", "--json"]).unwrap().stdout;
    assert_eq!(String::from_utf8_lossy(&said).matches("\"short_id\"").count(), kept.len());
    restic(&place, &["prune", "--max-unused", "0"]);
    expect(&repository, &kept, &scratch);
    for hours in [61, 70, 100] {
        prune(&repository, hours).unwrap();
    }
    expect(&repository, &kept, &scratch);
    restic(&place, &["check", "--read-data"]);
}
