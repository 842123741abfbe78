//! Which blob is where: packs, and the index over them.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use crate::{Id, Kind, Object, ReadError, Repository};

/// Where a blob is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place {
    /// The number of its pack.
    pub pack: u32,
    pub offset: u32,
    /// Of the sealed bytes.
    pub length: u32,
    /// Of the plain ones, where they were compressed; otherwise 0.
    pub plain: u32,
}

/// All that the indexes of a repository say.
#[derive(Debug, Default)]
pub(crate) struct Index {
    pub packs: Vec<Id>,
    pub blobs: HashMap<Id, Place>,
}

#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct File {
    pub packs: Vec<Pack>,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Pack {
    pub id: Id,
    pub blobs: Vec<Blob>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Blob {
    pub id: Id,
    /// `data` or `tree`.
    #[serde(rename = "type")]
    pub kind: String,
    pub offset: u32,
    pub length: u32,
    #[serde(default, skip_serializing_if = "is_nothing")]
    pub uncompressed_length: u32,
}

fn is_nothing(number: &u32) -> bool {
    *number == 0
}

impl Index {
    pub fn read(repository: &Repository) -> Result<Index, ReadError> {
        let mut index = Index::default();
        for (id, _) in repository.storage().list(Kind::Index)? {
            let file: File = repository.json(&Object::Stored(Kind::Index, id))?;
            file.packs.iter().for_each(|pack| index.add(pack));
        }
        Ok(index)
    }

    pub fn add(&mut self, pack: &Pack) {
        // More packs than that are 70 petabytes.
        let number = u32::try_from(self.packs.len()).unwrap_or(u32::MAX);
        self.packs.push(pack.id);
        for blob in &pack.blobs {
            let place = Place {
                pack: number,
                offset: blob.offset,
                length: blob.length,
                plain: blob.uncompressed_length,
            };
            self.blobs.insert(blob.id, place);
        }
    }

    pub fn place(&self, blob: Id) -> Result<(Id, Place), ReadError> {
        let place = self.blobs.get(&blob).copied().ok_or(ReadError::Unknown(blob))?;
        let pack = self.packs.get(place.pack as usize).copied().ok_or(ReadError::Unknown(blob))?;
        Ok((pack, place))
    }
}
