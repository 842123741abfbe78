//! An object that grows, over a connection of its own: what others ask for is not in its way.

use super::connection::{Asked, Connection, Wrong};
use super::transport::NotConnected;
use super::wire::Request;
use super::{Growing, Object, Sftp, StorageError, above, pieces};

/// See the module.
struct Grown {
    /// `None` after something has failed: what is at the end is not known then.
    connection: Option<Connection>,
    handle: Vec<u8>,
    length: u64,
    object: Object,
    /// Says where an error was.
    place: Sftp,
}

pub(super) fn begin(place: &Sftp, object: &Object) -> Result<Box<dyn Growing>, StorageError> {
    let path = place.path(object)?;
    let begun: Asked<Option<(Connection, Vec<u8>)>> = place.connect().and_then(|mut connection| {
        place.must_sync(&connection)?;
        let handle = match place.create(&mut connection, &path) {
            // Version 3 has no word for what is there already.
            Err(Wrong::Refused(refused)) => match connection.is_there(&path)? {
                true => return Ok(None),
                false => return Err(Wrong::Refused(refused)),
            },
            created => created?,
        };
        place.settle(&mut connection, above(&path))?;
        Ok(Some((connection, handle)))
    });
    match begun {
        Ok(Some((connection, handle))) => Ok(Box::new(Grown {
            connection: Some(connection),
            handle,
            length: 0,
            object: object.clone(),
            place: Sftp::new(place.options.clone()),
        })),
        Ok(None) => Err(StorageError::Exists(object.clone())),
        Err(wrong) => Err(place.failed("writing", &object.path(), wrong)),
    }
}

impl Growing for Grown {
    fn append(&mut self, bytes: &[u8]) -> Result<(), StorageError> {
        let appended = match &mut self.connection {
            // All is sent before the first answer is waited for: requests about one file are done in the order in which
            // they come (section 4 of the draft).
            Some(connection) => connection
                .all_done(pieces(&self.handle, self.length, bytes).chain([Request::fsync(&self.handle)])),
            None => Err(Wrong::Broken(NotConnected::before())),
        };
        self.length += bytes.len() as u64;
        appended.map_err(|wrong| {
            self.connection = None;
            self.place.failed("writing", &self.object.path(), wrong)
        })
    }
}
