//! One storage seen through another: what is written goes into the upper one, and the lower one is only read.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{Kind, Object, Storage, StorageError};
use crate::Id;

/// Two storages as one. What both have is read from the upper one.
pub struct Overlay {
    lower: Arc<dyn Storage>,
    upper: Arc<dyn Storage>,
}

impl Overlay {
    /// `upper` over `lower`.
    #[must_use]
    pub fn new(lower: Arc<dyn Storage>, upper: Arc<dyn Storage>) -> Self {
        Self { lower, upper }
    }

    fn either<T>(&self, read: impl Fn(&dyn Storage) -> Result<T, StorageError>) -> Result<T, StorageError> {
        match read(&*self.upper) {
            Err(error) if error.is_gone() => read(&*self.lower),
            read => read,
        }
    }

    fn both<K: Ord>(lower: Vec<(K, u64)>, upper: Vec<(K, u64)>) -> Vec<(K, u64)> {
        lower.into_iter().chain(upper).collect::<BTreeMap<K, u64>>().into_iter().collect()
    }
}

impl Storage for Overlay {
    fn place(&self) -> String {
        self.lower.place()
    }

    fn list(&self, kind: Kind) -> Result<Vec<(Id, u64)>, StorageError> {
        Ok(Self::both(self.lower.list(kind)?, self.upper.list(kind)?))
    }

    fn list_extra(&self, prefix: &str) -> Result<Vec<(String, u64)>, StorageError> {
        Ok(Self::both(self.lower.list_extra(prefix)?, self.upper.list_extra(prefix)?))
    }

    fn read(&self, object: &Object) -> Result<Vec<u8>, StorageError> {
        self.either(|storage| storage.read(object))
    }

    fn read_range(&self, object: &Object, offset: u64, length: usize) -> Result<Vec<u8>, StorageError> {
        self.either(|storage| storage.read_range(object, offset, length))
    }

    fn write(&self, object: &Object, bytes: &[u8]) -> Result<(), StorageError> {
        match self.lower.read(object) {
            Ok(there) if there == bytes => Ok(()),
            Ok(_) => Err(StorageError::Exists(object.clone())),
            Err(error) if error.is_gone() => self.upper.write(object, bytes),
            Err(error) => Err(error),
        }
    }

    fn remove(&self, object: &Object) -> Result<(), StorageError> {
        self.upper.remove(object)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Memory;

    #[test]
    fn what_is_written_goes_into_the_upper_one() {
        let extra = |name: &str| Object::Extra(format!("klar/{name}"));
        let (lower, upper) = (Arc::new(Memory::new()), Arc::new(Memory::new()));
        lower.write(&extra("a"), b"lower").unwrap();
        let both = Overlay::new(lower.clone(), upper.clone());
        both.write(&extra("b"), b"upper").unwrap();
        both.write(&extra("a"), b"lower").unwrap();
        assert!(matches!(both.write(&extra("a"), b"other"), Err(StorageError::Exists(_))));
        assert_eq!(both.list_extra("klar/").unwrap(), [("klar/a".to_owned(), 5), ("klar/b".to_owned(), 5)]);
        assert_eq!(both.read(&extra("a")).unwrap(), b"lower");
        assert_eq!(both.read_range(&extra("b"), 2, 3).unwrap(), b"per");
        assert!(both.read(&extra("c")).unwrap_err().is_gone());
        both.remove(&extra("a")).unwrap();
        assert_eq!(lower.list_extra("klar/").unwrap().len(), 1);
        assert_eq!(upper.list_extra("klar/").unwrap(), [("klar/b".to_owned(), 5)]);
    }
}
