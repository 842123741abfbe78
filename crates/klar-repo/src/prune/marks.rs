//! Which packs were found unneeded, and since when: one object, `klar/unneeded/NUMBER`, that each run writes anew under
//! the next number.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use crate::{Id, Object, PruneError, ReadError, Repository, SealError, StorageError};

const FOLDER: &str = "klar/unneeded/";

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(super) struct Mark {
    pub id: Id,
    /// When a run found it unneeded first. It was in all runs since then.
    pub since: jiff::Timestamp,
    /// How many runs that were.
    pub runs: u32,
}

#[derive(Serialize, Deserialize)]
struct File {
    time: jiff::Timestamp,
    packs: Vec<Mark>,
}

/// As the last run left them.
pub(super) struct Marks {
    /// Of all objects there are, the newest last.
    numbers: Vec<u64>,
    /// When that was.
    pub time: Option<jiff::Timestamp>,
    pub packs: HashMap<Id, Mark>,
}

fn name(number: u64) -> String {
    format!("{FOLDER}{number:020}")
}

/// The numbers of all objects, sorted.
fn numbers(repository: &Repository) -> Result<Vec<u64>, StorageError> {
    let listed = repository.storage().list_extra(FOLDER)?;
    let number = |(found, _): (String, u64)| {
        let number = found.strip_prefix(FOLDER)?.parse().ok()?;
        (name(number) == found).then_some(number)
    };
    let mut numbers: Vec<u64> = listed.into_iter().filter_map(number).collect();
    numbers.sort_unstable();
    Ok(numbers)
}

fn read(repository: &Repository, number: u64) -> Result<File, ReadError> {
    let object = Object::Extra(name(number));
    let sealed = repository.storage().read(&object)?;
    let damaged = |why: String| ReadError::Damaged { object: object.clone(), why };
    let plain = repository
        .unseal(&name(number), &sealed)
        .map_err(|_: SealError| damaged("it does not open with the key".into()))?;
    serde_json::from_slice(&plain).map_err(|why| damaged(why.to_string()))
}

/// Whether the marks can be read. It loses nothing when they cannot: what is unneeded waits anew.
pub(crate) fn verify(repository: &Repository) -> Result<(), ReadError> {
    match numbers(repository)?.last() {
        Some(number) => read(repository, *number).map(drop),
        None => Ok(()),
    }
}

impl Marks {
    pub fn read(repository: &Repository) -> Result<Marks, PruneError> {
        let numbers = numbers(repository)?;
        // Only the newest counts: what it does not name was needed, even if an older one names it.
        let file = match numbers.last().map(|number| read(repository, *number)) {
            Some(Err(ReadError::Storage(error))) => return Err(error.into()),
            // Then everything waits from now on.
            None | Some(Err(_)) => None,
            Some(Ok(file)) => Some(file),
        };
        let time = file.as_ref().map(|file| file.time);
        let packs = file.into_iter().flat_map(|file| file.packs).map(|mark| (mark.id, mark)).collect();
        Ok(Marks { numbers, time, packs })
    }

    /// Writes those of this run, and removes all that were before.
    pub fn write(
        &self,
        repository: &Repository,
        now: jiff::Timestamp,
        packs: Vec<Mark>,
    ) -> Result<(), PruneError> {
        let is_same = packs.is_empty() && self.packs.is_empty() && self.numbers.len() <= 1;
        if is_same && (self.time.is_some() || self.numbers.is_empty()) {
            return Ok(());
        }
        let json = serde_json::to_vec(&File { time: now, packs });
        let json = json.map_err(|why| PruneError::System(why.to_string()))?;
        let name_now = name(self.numbers.last().map_or(1, |last| last.saturating_add(1)));
        let sealed =
            repository.seal(&name_now, &json).map_err(|error| PruneError::System(error.to_string()))?;
        repository.storage().write(&Object::Extra(name_now), &sealed)?;
        for number in &self.numbers {
            // One that stays is in nobody's way, and the next run tries again.
            let _ = repository.storage().remove(&Object::Extra(name(*number)));
        }
        Ok(())
    }
}
