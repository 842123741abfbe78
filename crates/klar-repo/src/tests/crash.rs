//! A process that backs up, forgets and prunes is killed, again and again.

use std::io::{BufRead, BufReader, Write};
use std::process::Stdio;
use std::time::Duration;

use super::prune::{Content, content, expect, options_at, store};
use super::*;

/// Hours between two things that it does; packs wait for a day.
const STEP: i64 = 7;

/// Does everything without an end, and says what it did.
fn work(repository: &Repository, seed: u64) -> ! {
    let mut random = fastrand::Rng::with_seed(seed);
    let say = |said: String| {
        println!("\n{said}");
        std::io::stdout().flush().unwrap();
    };
    say("ready".into());
    let mut hours = seed as i64 * 1000 * STEP;
    loop {
        hours += STEP;
        let content_seed = random.u64(..30);
        let stored = store(repository, super::prune::at(hours), &content(content_seed)).unwrap();
        say(format!("stored {} {content_seed}", stored.snapshot));
        let snapshots = repository.snapshots().unwrap();
        if snapshots.len() > 4 {
            let id = snapshots[random.usize(..snapshots.len() - 1)].id;
            say(format!("forgets {id}"));
            repository.forget(&[id]).unwrap();
        }
        repository.prune(options_at(hours), &mut |_| {}).unwrap();
        say("pruned".into());
    }
}

#[test]
fn kills_lose_nothing() {
    const NAME: &str = "tests::crash::kills_lose_nothing";
    if let Some(word) = child_word() {
        let (place, seed) = word.rsplit_once(' ').unwrap();
        let repository = Repository::open(Arc::new(Folder::new(Path::new(place))), PASSWORD).unwrap();
        work(&repository, seed.parse().unwrap());
    }
    let scratch = Scratch::new("kills");
    let place = scratch.0.join("repository");
    let repository = Repository::create(Arc::new(Folder::new(&place)), PASSWORD, "owner").unwrap();
    let rounds = std::env::var("KLAR_CRASH_ROUNDS").ok().and_then(|said| said.parse().ok()).unwrap_or(20);
    let mut random = fastrand::Rng::with_seed(10);
    let mut kept: BTreeMap<Id, Content> = BTreeMap::new();
    let mut pruned = 0;
    for round in 1..=rounds {
        let word = format!("{} {round}", place.display());
        let mut child = child(NAME, &word).stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
        assert!(lines.any(|line| line == "ready"));
        std::thread::sleep(Duration::from_millis(random.u64(..400)));
        child.kill().unwrap();
        child.wait().unwrap();
        let mut forgotten = Vec::new();
        for line in lines {
            match *line.split(' ').collect::<Vec<_>>() {
                ["stored", id, seed] => {
                    kept.insert(id.parse().unwrap(), content(seed.parse().unwrap()));
                }
                ["forgets", id] => forgotten.push(id.parse().unwrap()),
                ["pruned"] => pruned += 1,
                _ => {}
            }
        }
        settle(&repository, &mut kept, &forgotten);
        expect(&repository, &kept, &scratch);
        if round % 5 == 0 {
            // The lock of the dead process is taken away first.
            drop(repository.lock(LockKind::Exclusive).unwrap());
            restic(&place, &["check", "--read-data"]);
        }
    }
    assert!(pruned > rounds / 2, "{pruned} in {rounds} rounds");
}

/// Of what was just being done, nobody knows whether it was: a snapshot of which was not told is no other than told of,
/// and one that was to be forgotten may be there.
fn settle(repository: &Repository, kept: &mut BTreeMap<Id, Content>, forgotten: &[Id]) {
    let snapshots = repository.snapshots().unwrap();
    for id in forgotten {
        if !snapshots.iter().any(|snapshot| snapshot.id == *id) {
            kept.remove(id);
        }
    }
    let untold: Vec<Id> =
        snapshots.iter().map(|snapshot| snapshot.id).filter(|id| !kept.contains_key(id)).collect();
    assert!(untold.len() <= 1, "{untold:?}");
    repository.forget(&untold).unwrap();
}
