//! A storage in memory whose faults are planned: for tests, of this crate and of those that use it.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::{Kind, Object, Storage, StorageError};
use crate::Id;

/// What goes wrong, and at which call. Calls are counted from 1 over all methods but `place`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// The call fails, and nothing happened.
    Error(u64),
    /// From this call on every call fails: the storage is gone.
    Down(u64),
    /// The call, where it writes, leaves the first half of the bytes and fails: a storage that breaks its promise.
    Torn(u64),
    /// The call, where it reads, gives one flipped bit: the number is that of the bit, modulo what there is.
    Flip(u64, u64),
    /// The call, where it reads, says that there is no such object.
    Gone(u64),
}

#[derive(Debug, Default)]
struct State {
    objects: BTreeMap<String, Vec<u8>>,
    faults: Vec<Fault>,
    calls: u64,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Memory(Mutex<State>);

impl Memory {
    /// An empty one.
    #[must_use]
    pub fn new() -> Memory {
        Memory::default()
    }

    /// Plans faults; calls are counted from 1 again. An empty list ends all faults.
    pub fn plan(&self, faults: Vec<Fault>) {
        let mut state = self.state();
        state.faults = faults;
        state.calls = 0;
    }

    /// Calls since the last plan.
    #[must_use]
    pub fn calls(&self) -> u64 {
        self.state().calls
    }

    /// All objects, by path.
    #[must_use]
    pub fn objects(&self) -> BTreeMap<String, Vec<u8>> {
        self.state().objects.clone()
    }

    /// Puts an object in place as it is, or takes it away: damage from outside.
    pub fn put(&self, path: &str, bytes: Option<Vec<u8>>) {
        let mut state = self.state();
        match bytes {
            Some(bytes) => state.objects.insert(path.to_owned(), bytes),
            None => state.objects.remove(path),
        };
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a call and gives the fault that is planned for it.
    fn call(
        &self,
        doing: &'static str,
        what: &str,
    ) -> Result<(MutexGuard<'_, State>, Option<Fault>), StorageError> {
        let mut state = self.state();
        state.calls += 1;
        let now = state.calls;
        let fault = state.faults.iter().find(|fault| match fault {
            Fault::Error(at) | Fault::Torn(at) | Fault::Flip(at, _) | Fault::Gone(at) => *at == now,
            Fault::Down(at) => *at <= now,
        });
        match fault.cloned() {
            Some(Fault::Error(_) | Fault::Down(_)) => Err(planned(doing, what)),
            fault => Ok((state, fault)),
        }
    }

    fn get(&self, object: &Object) -> Result<Vec<u8>, StorageError> {
        object.verify()?;
        let (state, fault) = self.call("reading", &object.path())?;
        let gone = || StorageError::Gone(object.clone());
        let mut bytes = state.objects.get(&object.path()).cloned().ok_or_else(gone)?;
        match fault {
            Some(Fault::Gone(_)) => return Err(gone()),
            Some(Fault::Flip(_, bit)) if !bytes.is_empty() => {
                let bit = bit % (bytes.len() as u64 * 8);
                bytes[(bit / 8) as usize] ^= 1 << (bit % 8);
            }
            _ => {}
        }
        Ok(bytes)
    }
}

fn planned(doing: &'static str, what: &str) -> StorageError {
    StorageError::Io { doing, what: what.to_owned(), source: io::Error::other("a planned fault") }
}

impl Storage for Memory {
    fn place(&self) -> String {
        "memory".to_owned()
    }

    fn list(&self, kind: Kind) -> Result<Vec<(Id, u64)>, StorageError> {
        let folder = format!("{}/", kind.folder());
        let (state, _) = self.call("listing", &folder)?;
        let objects = state.objects.iter().filter(|(path, _)| path.starts_with(&folder));
        Ok(objects
            .filter_map(|(path, bytes)| Some((path.rsplit('/').next()?.parse().ok()?, bytes.len() as u64)))
            .collect())
    }

    fn list_extra(&self, prefix: &str) -> Result<Vec<(String, u64)>, StorageError> {
        Object::Extra(format!("{prefix}x")).verify()?;
        let (state, _) = self.call("listing", prefix)?;
        let objects = state.objects.iter().filter(|(path, _)| path.starts_with(prefix));
        Ok(objects.map(|(path, bytes)| (path.clone(), bytes.len() as u64)).collect())
    }

    fn read(&self, object: &Object) -> Result<Vec<u8>, StorageError> {
        self.get(object)
    }

    fn read_range(&self, object: &Object, offset: u64, length: usize) -> Result<Vec<u8>, StorageError> {
        let bytes = self.get(object)?;
        let expected = offset.saturating_add(length as u64);
        match bytes.get(offset as usize..expected as usize) {
            Some(range) => Ok(range.to_vec()),
            None => Err(StorageError::Short { object: object.clone(), length: bytes.len() as u64, expected }),
        }
    }

    fn write(&self, object: &Object, bytes: &[u8]) -> Result<(), StorageError> {
        object.verify()?;
        let path = object.path();
        let (mut state, fault) = self.call("writing", &path)?;
        if let Some(there) = state.objects.get(&path) {
            return match there == bytes {
                true => Ok(()),
                false => Err(StorageError::Exists(object.clone())),
            };
        }
        if let Some(Fault::Torn(_)) = fault {
            state.objects.insert(path.clone(), bytes[..bytes.len() / 2].to_vec());
            return Err(planned("writing", &path));
        }
        state.objects.insert(path, bytes.to_vec());
        Ok(())
    }

    fn remove(&self, object: &Object) -> Result<(), StorageError> {
        object.verify()?;
        let (mut state, _) = self.call("removing", &object.path())?;
        state.objects.remove(&object.path());
        Ok(())
    }
}
