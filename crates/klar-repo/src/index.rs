//! Which blob is where: packs, and the index over them.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use crate::table::Table;
use crate::{Id, Kind, Object, ReadError, Repository, pack};

/// An index names at most about so many blobs.
pub(crate) const BLOBS_MAX: usize = 50_000;

/// What a blob is of. One of each kind may have the same content, and restic looks for each by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum BlobKind {
    /// A piece of a file.
    Data,
    /// A folder.
    Tree,
}

/// Where a blob is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    /// The number of its pack.
    pub pack: u32,
    pub offset: u32,
    /// Of the sealed bytes.
    pub length: u32,
    /// Of the plain ones, where they were compressed; otherwise 0.
    pub plain: u32,
}

/// A pack, as the indexes know it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Known {
    pub id: Id,
    /// Bytes that it must have.
    pub length: u64,
    /// Those of them that are sealed blobs.
    pub sealed: u64,
    pub blobs: u32,
}

/// All that the indexes of a repository say. Takes 48 bytes for a blob.
#[derive(Debug)]
pub(crate) struct Index {
    pub packs: Vec<Known>,
    pub numbers: HashMap<Id, u32>,
    data: Table<Place>,
    trees: Table<Place>,
}

#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct File {
    pub packs: Vec<Pack>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Pack {
    pub id: Id,
    pub blobs: Vec<Blob>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Blob {
    pub id: Id,
    #[serde(rename = "type")]
    pub kind: BlobKind,
    pub offset: u32,
    pub length: u32,
    #[serde(default, skip_serializing_if = "is_nothing")]
    pub uncompressed_length: u32,
}

fn is_nothing(number: &u32) -> bool {
    *number == 0
}

impl Place {
    /// Bytes of the blob's content.
    pub fn size(&self) -> u64 {
        let sealed = self.length.saturating_sub(crate::crypto::OVERHEAD as u32);
        u64::from(if self.plain == 0 { sealed } else { self.plain })
    }
}

impl Index {
    pub fn new() -> Index {
        Index { packs: Vec::new(), numbers: HashMap::new(), data: Table::new(), trees: Table::new() }
    }

    /// All there are. Somebody who prunes may replace them meanwhile: then from the start.
    pub fn read(repository: &Repository) -> Result<Index, ReadError> {
        let mut attempts = 0;
        loop {
            attempts += 1;
            match Index::read_once(repository) {
                Err(ReadError::Storage(error)) if error.is_gone() && attempts < 5 => {}
                index => return index,
            }
        }
    }

    fn read_once(repository: &Repository) -> Result<Index, ReadError> {
        let mut index = Index::new();
        for (id, _) in repository.storage().list(Kind::Index)? {
            let file: File = repository.json(&Object::Stored(Kind::Index, id))?;
            file.packs.iter().for_each(|pack| index.add(pack));
        }
        index.settle();
        Ok(index)
    }

    pub fn add(&mut self, pack: &Pack) {
        // More packs than that are 70 petabytes.
        let next = u32::try_from(self.packs.len()).unwrap_or(u32::MAX);
        let number = *self.numbers.entry(pack.id).or_insert(next);
        if number == next {
            self.packs.push(Known { id: pack.id, length: pack::LENGTH_EMPTY, sealed: 0, blobs: 0 });
        }
        for blob in &pack.blobs {
            let place = Place {
                pack: number,
                offset: blob.offset,
                length: blob.length,
                plain: blob.uncompressed_length,
            };
            self.table_mut(blob.kind).push(blob.id, place);
        }
    }

    /// Makes what was added known.
    pub fn settle(&mut self) {
        for kind in [BlobKind::Data, BlobKind::Tree] {
            let mut table = std::mem::replace(self.table_mut(kind), Table::new());
            table.settle();
            for (_, place) in table.iter() {
                let pack = &mut self.packs[place.pack as usize];
                pack.blobs += 1;
                pack.sealed += u64::from(place.length);
                pack.length += u64::from(place.length) + pack::entry_length(place.plain) as u64;
            }
            *self.table_mut(kind) = table;
        }
    }

    fn table_mut(&mut self, kind: BlobKind) -> &mut Table<Place> {
        match kind {
            BlobKind::Data => &mut self.data,
            BlobKind::Tree => &mut self.trees,
        }
    }

    pub fn table(&self, kind: BlobKind) -> &Table<Place> {
        match kind {
            BlobKind::Data => &self.data,
            BlobKind::Tree => &self.trees,
        }
    }

    pub fn len(&self) -> usize {
        self.data.len() + self.trees.len()
    }

    /// Everywhere a blob is.
    pub fn places(&self, kind: BlobKind, blob: Id) -> impl Iterator<Item = Place> + '_ {
        self.table(kind).all(&blob).iter().map(|(_, place)| *place)
    }

    pub fn has(&self, kind: BlobKind, blob: Id) -> bool {
        !self.table(kind).all(&blob).is_empty()
    }

    /// The pack of a place of this index.
    pub fn pack(&self, place: Place) -> Id {
        self.packs[place.pack as usize].id
    }
}
