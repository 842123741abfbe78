//! A storage that does harm, for whoever says that they find it.

use klar_repo::{Folder, Id, Kind, Object, Storage, StorageError};

/// What is wrong with every pack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Harm {
    /// One bit of what is read.
    Flipped,
    /// It is not there.
    Gone,
}

/// A folder that is read only, and not as it is.
pub(crate) struct Harmed {
    inner: Folder,
    harm: Harm,
}

impl Harmed {
    pub fn new(inner: Folder, harm: Harm) -> Self {
        Self { inner, harm }
    }

    fn harmed(&self, object: &Object, read: Result<Vec<u8>, StorageError>) -> Result<Vec<u8>, StorageError> {
        let mut bytes = read?;
        match (object, self.harm) {
            (Object::Stored(Kind::Pack, _), Harm::Gone) => Err(StorageError::Gone(object.clone())),
            (Object::Stored(Kind::Pack, _), Harm::Flipped) => {
                let middle = bytes.len() / 2;
                if let Some(byte) = bytes.get_mut(middle) {
                    *byte ^= 1;
                }
                Ok(bytes)
            }
            _ => Ok(bytes),
        }
    }

    fn refused(&self, object: &Object) -> StorageError {
        let source = std::io::Error::from(std::io::ErrorKind::ReadOnlyFilesystem);
        StorageError::Io { doing: "changing", what: object.to_string(), source }
    }
}

impl Storage for Harmed {
    fn place(&self) -> String {
        self.inner.place()
    }

    fn list(&self, kind: Kind) -> Result<Vec<(Id, u64)>, StorageError> {
        self.inner.list(kind)
    }

    fn list_extra(&self, prefix: &str) -> Result<Vec<(String, u64)>, StorageError> {
        self.inner.list_extra(prefix)
    }

    fn read(&self, object: &Object) -> Result<Vec<u8>, StorageError> {
        self.harmed(object, self.inner.read(object))
    }

    fn read_range(&self, object: &Object, offset: u64, length: usize) -> Result<Vec<u8>, StorageError> {
        self.harmed(object, self.inner.read_range(object, offset, length))
    }

    fn write(&self, object: &Object, _: &[u8]) -> Result<(), StorageError> {
        Err(self.refused(object))
    }

    fn remove(&self, object: &Object) -> Result<(), StorageError> {
        Err(self.refused(object))
    }
}
