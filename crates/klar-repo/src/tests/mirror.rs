//! A second place can be restored from at any moment, and outlives what happens to the first.

use jiff::{SignedDuration, Timestamp};

use super::*;

const EXTRAS: Extras =
    Extras { prefixes: &["klar/wal/", "klar/tide/", "klar/points/"], newest: "klar/tide/" };

struct Places {
    scratch: Scratch,
    here: Arc<Memory>,
    there: Arc<Memory>,
    repository: Repository,
    gone: Gone,
    /// Of each source.
    stored: Vec<Id>,
}

impl Places {
    fn new(name: &str) -> Places {
        let scratch = Scratch::new(name);
        let (here, there) = (Arc::new(Memory::new()), Arc::new(Memory::new()));
        let repository = Repository::create(here.clone(), PASSWORD, "owner").unwrap();
        Places { scratch, here, there, repository, gone: Gone::default(), stored: Vec::new() }
    }

    fn add(&mut self, seed: u64) {
        let source = self.scratch.0.join(format!("source-{seed}"));
        some_files(&source, seed);
        self.stored.push(back_up(&self.repository, &source).unwrap().snapshot);
    }

    fn extra(&self, name: &str) {
        let sealed = self.repository.seal(name, b"content").unwrap();
        self.repository.storage().write(&Object::Extra(name.to_owned()), &sealed).unwrap();
    }

    fn mirror(&mut self, delay: Option<i64>, now: i64) -> Result<Mirrored, MirrorError> {
        let mut mirror = Mirror::open(&self.repository, self.there.clone(), EXTRAS)?;
        let now = Timestamp::from_second(now).unwrap();
        mirror.turn(&mut self.gone, now, delay.map(SignedDuration::from_hours), &mut |_, _| {})
    }

    /// All snapshots that the second place has come back from there, and are what they were.
    fn restores(&self) -> usize {
        let Ok(repository) = Repository::open(self.there.clone(), PASSWORD) else { return 0 };
        let reader = repository.reader().unwrap();
        let snapshots = repository.snapshots().unwrap();
        for snapshot in &snapshots {
            let number = self.stored.iter().position(|id| *id == snapshot.id).unwrap();
            let target = self.scratch.0.join("target");
            let _ = std::fs::remove_dir_all(&target);
            reader.restore(snapshot, &target).unwrap();
            assert!(all_of(&target) == all_of(&self.scratch.0.join(format!("source-{number}"))));
        }
        snapshots.len()
    }
}

#[test]
fn it_can_be_restored_from_at_any_moment() {
    let mut places = Places::new("mirror");
    (0..3).for_each(|seed| places.add(seed));
    for name in ["klar/wal/1", "klar/wal/2", "klar/tide/1", "klar/points/1"] {
        places.extra(name);
    }
    for call in 1.. {
        places.there = Arc::new(Memory::new());
        places.there.plan(vec![Fault::Down(call)]);
        let done = places.mirror(None, 0);
        let calls = places.there.calls();
        places.there.plan(Vec::new());
        let came = places.restores();
        // What says how far the rest goes comes after it.
        let there = places.there.objects();
        let has = |name: &str| there.contains_key(name);
        assert!(!has("klar/points/1") || has("klar/tide/1"));
        assert!(!has("klar/tide/1") || has("klar/wal/1") && has("klar/wal/2"));
        assert!(!has("klar/wal/1") || came == 3);
        // The next turn brings the rest, whatever was there by then.
        let rest = places.mirror(None, 0).unwrap();
        assert_eq!(places.restores(), 3);
        assert_eq!(places.mirror(None, 0).unwrap(), Mirrored::default());
        if calls < call {
            assert_eq!((done.unwrap().is_late, rest), (false, Mirrored::default()));
            break;
        }
        assert!(matches!(done, Err(MirrorError::Storage(_))), "call {call}");
    }
    let mut here = places.here.objects();
    here.retain(|path, _| !path.starts_with("locks/"));
    assert!(places.there.objects() == here);
}

#[test]
fn damage_does_not_travel() {
    let mut places = Places::new("mirror-damage");
    places.add(0);
    places.extra("klar/wal/1");
    let objects = places.here.objects();
    for (path, mut bytes) in objects.clone() {
        if path == "config" || path.starts_with("locks/") {
            continue;
        }
        let half = bytes.len() / 2;
        bytes[half] ^= 4;
        places.here.put(&path, Some(bytes));
        places.there = Arc::new(Memory::new());
        let error = places.mirror(None, 0).unwrap_err();
        assert!(matches!(&error, MirrorError::Damaged(_)), "{path}: {error}");
        assert!(error.to_string().contains(&path), "{error}");
        assert!(!places.there.objects().contains_key(&path));
        places.here.put(&path, Some(objects[&path].clone()));
    }
}

#[test]
fn what_is_gone_here_stays_there_for_a_while() {
    let mut places = Places::new("mirror-gone");
    (0..2).for_each(|seed| places.add(seed));
    ["klar/wal/1", "klar/tide/1"].into_iter().for_each(|name| places.extra(name));
    places.mirror(Some(48), 0).unwrap();
    // Everything is deleted by mistake, but for what it is recognised by.
    let kept = places.here.objects();
    for path in kept.keys().filter(|path| *path != "config") {
        places.here.put(path, None);
    }
    let hours = |hours: i64| hours * 3600;
    assert_eq!(places.mirror(Some(48), hours(1)).unwrap().removed, 0);
    assert_eq!(places.mirror(Some(48), hours(40)).unwrap().removed, 0);
    assert_eq!(places.restores(), 2);
    // It comes back, and the time begins anew.
    places.here.put("klar/wal/1", Some(kept["klar/wal/1"].clone()));
    assert_eq!(places.mirror(Some(48), hours(41)).unwrap().removed, 0);
    places.here.put("klar/wal/1", None);
    assert_eq!(places.mirror(Some(48), hours(42)).unwrap().removed, 0);
    // As long as nobody is sure, it stays, however long that takes.
    assert_eq!(places.mirror(None, hours(1000)).unwrap().removed, 0);
    assert_eq!(places.restores(), 2);
    // A clock that jumps back removes nothing.
    assert_eq!(places.mirror(Some(48), hours(-1000)).unwrap().removed, 0);
    assert!(places.mirror(Some(48), hours(60)).unwrap().removed > 0);
    let rest: Vec<String> = places.there.objects().into_keys().collect();
    assert_eq!(rest, ["config", "klar/wal/1"]);
}

#[test]
fn of_some_only_the_newest_are_of_use() {
    let mut places = Places::new("mirror-newest");
    for number in 1..6 {
        places.extra(&format!("klar/tide/{number}"));
        places.mirror(None, number).unwrap();
        places.here.put(&format!("klar/tide/{number}"), None);
    }
    places.mirror(None, 9).unwrap();
    let rest: Vec<String> =
        places.there.objects().into_keys().filter(|path| path.starts_with("klar/")).collect();
    assert_eq!(rest, ["klar/tide/4", "klar/tide/5"]);
}

#[test]
fn another_repository_is_left_alone() {
    let mut places = Places::new("mirror-another");
    Repository::create(places.there.clone(), "other", "other").unwrap();
    let before = places.there.objects();
    let error = places.mirror(Some(0), 0).unwrap_err();
    assert_eq!(error.to_string(), "memory has another repository already: nothing was written there");
    assert!(places.there.objects() == before);
}

#[test]
fn both_places_are_compared() {
    let mut places = Places::new("mirror-compare");
    places.add(0);
    places.mirror(None, 0).unwrap();
    let mut mirror = Mirror::open(&places.repository, places.there.clone(), EXTRAS).unwrap();
    let compared = mirror.compare().unwrap();
    assert_eq!(compared.differ, Vec::<String>::new());
    assert!(compared.same > 3 && compared.bytes > 1000);
    let (lost, mut short) = {
        let objects = places.there.objects();
        let mut packs = objects.into_iter().filter(|(path, _)| path.starts_with("data/"));
        (packs.next().unwrap(), packs.next().unwrap())
    };
    places.there.put(&lost.0, None);
    short.1.pop();
    places.there.put(&short.0, Some(short.1));
    let mut expected = vec![lost.0, short.0];
    let mut found = mirror.compare().unwrap().differ;
    expected.sort();
    found.sort();
    assert_eq!(found, expected);
    // What is missing is sent again; what is there with other bytes is never overwritten, and said.
    let error = mirror.turn(&mut Gone::default(), Timestamp::UNIX_EPOCH, None, &mut |_, _| {}).unwrap_err();
    assert!(error.to_string().contains("exists already, with other content"), "{error}");
}
