//! Damage of every kind to everything is found, and said to hurt what it hurts.

use std::collections::BTreeSet;

use super::*;

fn whole(repository: &Repository) -> CheckReport {
    let report = repository.check(CheckData::All, &mut |_| {});
    assert!(report.is_whole(), "{:#?}", report.problems);
    report
}

/// Four snapshots that share some of what they have.
fn with_snapshots(scratch: &Scratch) -> (Arc<Memory>, Repository) {
    let memory = Arc::new(Memory::new());
    let repository = Repository::create(memory.clone(), PASSWORD, "owner").unwrap();
    repository.add_key("in escrow", "escrow").unwrap();
    let source = scratch.0.join("source");
    some_files(&source, 1);
    for number in 0..4 {
        std::fs::create_dir_all(source.join("base/own")).unwrap();
        std::fs::write(source.join("base/own/file"), format!("{number}").repeat(10_000)).unwrap();
        if number == 2 {
            std::fs::write(source.join("base/once"), "once").unwrap();
        }
        back_up(&repository, &source).unwrap();
    }
    (memory, repository)
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Damage {
    Flip,
    Cut,
    Grow,
    Delete,
    Swap,
}

/// Damages an object or two; gives their names, and the bytes that they had.
fn damage(
    memory: &Memory,
    kind: Damage,
    random: &mut fastrand::Rng,
    may: impl Fn(&str) -> bool,
) -> Vec<(String, Vec<u8>)> {
    let objects: Vec<_> = memory.objects().into_iter().filter(|(path, _)| may(path)).collect();
    let one = objects[random.usize(..objects.len())].clone();
    let (path, bytes) = &one;
    let mut damaged = bytes.clone();
    match kind {
        Damage::Flip => damaged[random.usize(..bytes.len())] ^= 1 << random.u8(..8),
        Damage::Cut => damaged.truncate(random.usize(..bytes.len())),
        Damage::Grow => damaged.push(random.u8(..)),
        Damage::Delete => {
            memory.put(path, None);
            return vec![one];
        }
        Damage::Swap => {
            let others: Vec<_> = objects.iter().filter(|(other, _)| other != path).collect();
            let other = others[random.usize(..others.len())].clone();
            memory.put(path, Some(other.1.clone()));
            memory.put(&other.0, Some(bytes.clone()));
            return vec![one, other];
        }
    }
    memory.put(path, Some(damaged));
    vec![one]
}

/// The snapshots that cannot be restored.
fn lost(repository: &Repository, snapshots: &[Snapshot], target: &Path) -> BTreeSet<Id> {
    let fails = |snapshot: &&Snapshot| {
        let _ = std::fs::remove_dir_all(target);
        repository.reader().map_or(true, |reader| reader.restore(snapshot, target).is_err())
    };
    snapshots.iter().filter(fails).map(|snapshot| snapshot.id).collect()
}

#[test]
fn all_damage_is_found() {
    let scratch = Scratch::new("check");
    let (memory, repository) = with_snapshots(&scratch);
    let _lock = repository.lock(LockKind::Shared).unwrap();
    let report = whole(&repository);
    assert_eq!((report.snapshots, report.unnamed, report.more), (4, 0, 0));
    assert!(report.read > 200_000 && report.packs >= 8, "{report:?}");
    let snapshots = repository.snapshots().unwrap();
    let (rounds, mut random) = (rounds(400), fastrand::Rng::with_seed(6));
    let own_key = format!("keys/{}", repository.keys().unwrap().iter().find(|key| key.current).unwrap().id);
    for round in 0..rounds {
        let kinds = [Damage::Flip, Damage::Cut, Damage::Grow, Damage::Delete, Damage::Swap];
        let kind = kinds[round % kinds.len()];
        // To be without one of these may be wanted.
        let may = |path: &str| {
            kind != Damage::Delete
                || !(path.starts_with("snapshots/")
                    || path.starts_with("locks/")
                    || path.starts_with("keys/"))
                || path == own_key
        };
        let before = damage(&memory, kind, &mut random, may);
        let report = repository.check(CheckData::All, &mut |_| {});
        let what = format!("round {round}: {kind:?} of {}: {:#?}", before[0].0, report.problems);
        assert!(!report.is_whole(), "{what}");
        // An index that is gone leaves what is missing.
        let is_damaged = |with: String| before.iter().any(|(path, _)| *path == with);
        let is_named = report.problems.iter().any(|problem| is_damaged(problem.with.to_string()));
        assert!(is_named || (kind == Damage::Delete && before[0].0.starts_with("index/")), "{what}");
        let hurt: BTreeSet<Id> =
            report.problems.iter().flat_map(|problem| &problem.hurts).map(|hurt| hurt.snapshot).collect();
        if before.iter().all(|(path, _)| path.starts_with("data/")) {
            assert_eq!(hurt, lost(&repository, &snapshots, &scratch.0.join("restored")), "{what}");
        }
        if before.iter().any(|(path, _)| path.starts_with("index/")) {
            assert!(!hurt.is_empty(), "{what}");
        }
        before.into_iter().for_each(|(path, bytes)| memory.put(&path, Some(bytes)));
    }
    whole(&repository);
}

/// What only one snapshot has hurts only that one, and people are told so.
#[test]
fn problems_name_the_snapshots_that_they_hurt() {
    let scratch = Scratch::new("hurts");
    let (memory, repository) = with_snapshots(&scratch);
    let snapshots = repository.snapshots().unwrap();
    let objects = memory.objects();
    let mut hurts = BTreeSet::new();
    for path in objects.keys().filter(|path| path.starts_with("data/")) {
        memory.put(path, None);
        let report = repository.check(CheckData::None, &mut |_| {});
        let [problem, ..] = &*report.problems else { panic!("{path}: {report:?}") };
        assert_eq!((problem.with.to_string(), &*problem.why), (path.clone(), "it is missing"));
        let hurt: Vec<Id> = problem.hurts.iter().map(|hurt| hurt.snapshot).collect();
        let newest_first = snapshots.iter().rev().map(|snapshot| snapshot.id);
        assert_eq!(hurt, newest_first.filter(|id| hurt.contains(id)).collect::<Vec<_>>());
        let said = problem.to_string();
        for snapshot in snapshots.iter().filter(|snapshot| hurt.contains(&snapshot.id)) {
            assert!(said.contains(&format!("{} of {:.0}", snapshot.id.short(), snapshot.time)), "{said}");
        }
        hurts.insert(hurt.len());
        memory.put(path, objects.get(path).cloned());
    }
    assert!(hurts.contains(&1) && hurts.contains(&4), "{hurts:?}");
}

#[test]
fn shares_together_read_everything_once() {
    let scratch = Scratch::new("shares");
    let (memory, repository) = with_snapshots(&scratch);
    let all = whole(&repository).read;
    let read = |n| repository.check(CheckData::Share { n, of: 3 }, &mut |_| {}).read;
    assert_eq!(read(0) + read(1) + read(2), all);
    assert_eq!((read(3), read(4)), (read(0), read(1)));
    assert_eq!(repository.check(CheckData::None, &mut |_| {}).read, 0);
    let packs: Vec<_> = memory.objects().into_iter().filter(|(path, _)| path.starts_with("data/")).collect();
    for (path, bytes) in packs {
        // In the header: nothing but its own share finds it.
        let mut damaged = bytes.clone();
        *damaged.last_mut().unwrap() ^= 1;
        memory.put(&path, Some(damaged));
        let found = (0..3).filter(|n| {
            let report = repository.check(CheckData::Share { n: *n, of: 3 }, &mut |_| {});
            report.problems.iter().any(|problem| problem.with.to_string() == path)
        });
        assert_eq!(found.count(), 1);
        memory.put(&path, Some(bytes));
    }
}

#[test]
fn a_long_list_of_problems_is_cut_off() {
    let memory = Arc::new(Memory::new());
    let repository = Repository::create(memory.clone(), PASSWORD, "owner").unwrap();
    let mut backup = repository.backup(options(DATABASE)).unwrap();
    let metadata = Metadata { mode: 0o600, uid: 0, gid: 0, mtime: jiff::Timestamp::UNIX_EPOCH };
    for number in 0..1500 {
        let content = format!("file {number}");
        backup.file(Path::new(&format!("{number}")), &metadata, &mut content.as_bytes()).unwrap();
    }
    backup.finish().unwrap();
    // The index of files is lost, that of folders is not.
    let (id, _) = repository.storage().list(Kind::Index).unwrap()[0];
    let object = Object::Stored(Kind::Index, id);
    let mut file: crate::index::File = repository.json(&object).unwrap();
    file.packs.retain(|pack| pack.blobs.len() == 1);
    repository.storage().remove(&object).unwrap();
    repository.put_json(Kind::Index, &file).map_err(|_| "not written").unwrap();
    let mut last = None;
    let report = repository.check(CheckData::All, &mut |progress| last = Some(progress));
    assert_eq!((report.problems.len(), report.more, report.unnamed), (1000, 500, 1));
    assert!(report.problems.iter().all(|problem| problem.hurts.len() == 1));
    assert_eq!(last, Some(CheckProgress { step: CheckStep::Hurt, done: 1, of: 1 }));
}

/// Every call of a check fails once: it says so, and goes on to the end.
#[test]
fn a_check_goes_on_when_the_storage_fails() {
    let scratch = Scratch::new("check-faults");
    let (memory, repository) = with_snapshots(&scratch);
    memory.plan(Vec::new());
    whole(&repository);
    let calls = memory.calls();
    let mut said = 0;
    for call in 1..=calls {
        memory.plan(vec![Fault::Error(call)]);
        let report = repository.check(CheckData::All, &mut |_| {});
        memory.plan(Vec::new());
        said += u64::from(!report.is_whole());
        repository.lock(LockKind::Exclusive).unwrap();
    }
    // Without a lock it does as well: three calls take one, one lets it go.
    assert!(said >= calls - 4, "{said} of {calls}");
    memory.plan(vec![Fault::Down(1)]);
    assert!(!repository.check(CheckData::All, &mut |_| {}).is_whole());
    memory.plan(Vec::new());
    let _lock = repository.lock(LockKind::Exclusive).unwrap();
    let report = repository.check(CheckData::All, &mut |_| {});
    assert!(
        report.problems[0].to_string().starts_with("the repository: it was not checked: memory is in use")
    );
}

/// A folder and a file may have the same content; and what restic wrote is whole too.
#[test]
fn restic_agrees_on_what_is_whole() {
    let scratch = Scratch::new("agree");
    let (source, place) = (scratch.0.join("source"), scratch.0.join("repository"));
    some_files(&source, 2);
    let Some(_) = restic(&place, &["init"]) else { return };
    let repository = Repository::open(Arc::new(Folder::new(&place)), PASSWORD).unwrap();
    whole(&repository);
    for round in 0..3 {
        std::fs::write(source.join("as a folder"), "{\"nodes\":[]}\n").unwrap();
        std::fs::write(source.join("round"), round.to_string()).unwrap();
        back_up(&repository, &source).unwrap();
        whole(&repository);
        restic(&place, &["backup", source.to_str().unwrap()]);
        whole(&repository);
        restic(&place, &["check", "--read-data"]);
    }
    restic(&place, &["forget", "--keep-last", "1", "--prune"]);
    whole(&repository);
}
