//! A second place: the same objects once more, somewhere else.
//!
//! What the copy is made of arrives in such an order that it can be restored from at any moment, and each object is
//! compared with its own digest before it is sent: damage does not travel. What is gone here goes there only later, so
//! that whoever empties this place by mistake still has that one.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{Id, Kind, Object, ReadError, Repository, Storage, StorageError};

/// Objects of a repository that restic does not know, by what their names begin with.
#[derive(Debug, Clone, Copy)]
pub struct Extras {
    /// What they need to be of use is copied before them: those that need the most come last.
    pub prefixes: &'static [&'static str],
    /// Of these only the last two by name are of use.
    pub newest: &'static str,
}

/// Since when what the second place has is gone from the first.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Gone(BTreeMap<String, Timestamp>);

/// What one turn did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Mirrored {
    /// Objects that were sent.
    pub sent: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Objects that were removed there.
    pub removed: u64,
    /// Something was tidied up here meanwhile: all that is there is of use, but the newest is missing until the next
    /// turn.
    pub is_late: bool,
}

/// What two places have.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Compared {
    /// Objects that both have, with the same length.
    pub same: u64,
    /// Bytes of them.
    pub bytes: u64,
    /// Those that the second one has not, or with another length.
    pub differ: Vec<String>,
}

/// Why a second place was not brought up to date.
#[derive(Debug, thiserror::Error)]
pub enum MirrorError {
    /// One of both storages.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// What is here is damaged: it was not sent.
    #[error("not copied to the second place: {0}")]
    Damaged(#[from] ReadError),
    /// It has another repository.
    #[error("{0} has another repository already: nothing was written there")]
    Another(String),
}

/// Keeps a second place up to date.
pub struct Mirror {
    repository: Repository,
    to: Arc<dyn Storage>,
    extras: Extras,
    /// What it has, with lengths: as it was listed, and what was sent since.
    there: BTreeMap<Object, u64>,
}

/// Before it becomes of use what it needs, in restic's objects.
const KINDS: [Kind; 4] = [Kind::Key, Kind::Pack, Kind::Index, Kind::Snapshot];

impl Mirror {
    /// Looks what the second place has; where it is empty, the repository's config is the first thing it gets.
    ///
    /// # Errors
    /// [`MirrorError::Another`].
    pub fn open(
        repository: &Repository,
        to: Arc<dyn Storage>,
        extras: Extras,
    ) -> Result<Mirror, MirrorError> {
        let config = repository.storage().read(&Object::Config)?;
        match to.read(&Object::Config) {
            Ok(there) if there == config => {}
            Ok(_) => return Err(MirrorError::Another(to.place())),
            Err(error) if error.is_gone() => {
                repository.verify_config()?;
                to.write(&Object::Config, &config)?;
            }
            Err(error) => return Err(error.into()),
        }
        let there = list(&*to, extras)?.into_iter().flatten().collect();
        Ok(Mirror { repository: repository.clone(), to, extras, there })
    }

    /// The second place.
    #[must_use]
    pub fn storage(&self) -> &dyn Storage {
        &*self.to
    }

    /// Sends what is missing there. What is gone here is removed there where it was gone for longer than `delay`, and
    /// only where `delay` is given.
    ///
    /// # Errors
    /// The first thing that failed; what was sent by then is of use.
    pub fn turn(
        &mut self,
        gone: &mut Gone,
        now: Timestamp,
        delay: Option<jiff::SignedDuration>,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<Mirrored, MirrorError> {
        // What needs others is listed before them, and sent after them.
        let here = list(self.repository.storage(), self.extras)?;
        let mut done = Mirrored::default();
        let is_missing = |(object, length): &&(Object, u64)| self.there.get(object) != Some(length);
        let all = here.iter().flatten().filter(is_missing).map(|(_, length)| length).sum();
        'all: for (object, length) in here.iter().rev().flatten() {
            if self.there.get(object) == Some(length) {
                continue;
            }
            let bytes = match self.repository.storage().read(object) {
                Err(error)
                    if error.is_gone()
                        && matches!(object, Object::Stored(Kind::Pack | Kind::Index | Kind::Key, _)) =>
                {
                    continue;
                }
                Err(error) if error.is_gone() => {
                    done.is_late = true;
                    break 'all;
                }
                bytes => bytes?,
            };
            verify(&self.repository, object, &bytes)?;
            self.to.write(object, &bytes)?;
            self.there.insert(object.clone(), bytes.len() as u64);
            done.sent += 1;
            done.bytes += bytes.len() as u64;
            progress(done.bytes, all);
        }
        if !done.is_late {
            done.removed = self.remove(&here, gone, now, delay)?;
        }
        Ok(done)
    }

    fn remove(
        &mut self,
        here: &[Vec<(Object, u64)>],
        gone: &mut Gone,
        now: Timestamp,
        delay: Option<jiff::SignedDuration>,
    ) -> Result<u64, MirrorError> {
        let here: BTreeSet<&Object> = here.iter().flatten().map(|(object, _)| object).collect();
        let missing: Vec<Object> =
            self.there.keys().filter(|object| !here.contains(object)).cloned().collect();
        gone.0.retain(|path, _| missing.iter().any(|object| object.path() == *path));
        let newest: Vec<&Object> = {
            let of_these = |object: &&Object| object.path().starts_with(self.extras.newest);
            self.there.keys().rev().filter(of_these).take(2).collect()
        };
        let mut due = Vec::new();
        for object in &missing {
            let path = object.path();
            let is_outdated = path.starts_with(self.extras.newest) && !newest.contains(&object);
            let since = *gone.0.entry(path).or_insert(now);
            // A clock that was turned back waits longer.
            let is_late = delay.is_some_and(|delay| now.duration_since(since) >= delay);
            if is_outdated || is_late {
                due.push(object.clone());
            }
        }
        for object in &due {
            self.to.remove(object)?;
            self.there.remove(object);
            gone.0.remove(&object.path());
        }
        Ok(due.len() as u64)
    }

    /// Lists both places anew and compares names and lengths.
    ///
    /// # Errors
    /// One of both cannot be listed.
    pub fn compare(&mut self) -> Result<Compared, MirrorError> {
        // First the one that others are sent to: what is written meanwhile is missing in neither.
        let here = list(self.repository.storage(), self.extras)?;
        self.there = list(&*self.to, self.extras)?.into_iter().flatten().collect();
        let mut compared = Compared::default();
        for (object, length) in here.into_iter().flatten() {
            match self.there.get(&object) == Some(&length) {
                true => {
                    compared.same += 1;
                    compared.bytes += length;
                }
                false => compared.differ.push(object.path()),
            }
        }
        Ok(compared)
    }
}

/// All objects but locks and the config: those that need others first.
fn list(storage: &dyn Storage, extras: Extras) -> Result<Vec<Vec<(Object, u64)>>, StorageError> {
    let mut all = Vec::new();
    for prefix in extras.prefixes.iter().rev() {
        let listed = storage.list_extra(prefix)?;
        all.push(listed.into_iter().map(|(name, length)| (Object::Extra(name), length)).collect());
    }
    for kind in KINDS.into_iter().rev() {
        let listed = storage.list(kind)?;
        all.push(listed.into_iter().map(|(id, length)| (Object::Stored(kind, id), length)).collect());
    }
    Ok(all)
}

/// Whether an object is what its name says.
fn verify(repository: &Repository, object: &Object, bytes: &[u8]) -> Result<(), ReadError> {
    let damaged = |why: &str| ReadError::Damaged { object: object.clone(), why: why.to_owned() };
    match object {
        Object::Stored(_, id) if Id::of(bytes) != *id => {
            Err(damaged("its bytes are not those that its name is of"))
        }
        Object::Extra(name) => {
            repository.unseal(name, bytes).map(drop).map_err(|_| damaged("it does not open with the key"))
        }
        _ => Ok(()),
    }
}
