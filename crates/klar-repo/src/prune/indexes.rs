//! Indexes, one by one: which of them have to be replaced, and by what.

use std::collections::HashSet;

use crate::index::{self, BLOBS_MAX, Index};
use crate::{Id, Kind, Object, PruneError, ReadError, Repository};

/// Each backup adds an index. When there are more small ones than that, they are made one.
const SMALL_MAX: usize = 20;

pub(super) struct Indexes(Vec<One>);

struct One {
    id: Id,
    packs: Vec<Id>,
    blobs: usize,
}

impl Indexes {
    /// All, and what they say together.
    pub fn read(repository: &Repository) -> Result<(Indexes, Index), ReadError> {
        let (mut all, mut index) = (Vec::new(), Index::new());
        for (id, _) in repository.storage().list(Kind::Index)? {
            let file: index::File = repository.json(&Object::Stored(Kind::Index, id))?;
            file.packs.iter().for_each(|pack| index.add(pack));
            let packs = file.packs.iter().map(|pack| pack.id).collect();
            all.push(One { id, packs, blobs: file.packs.iter().map(|pack| pack.blobs.len()).sum() });
        }
        index.settle();
        Ok((Indexes(all), index))
    }

    /// Writes indexes that name new packs, and what is in those that name dropped ones but for those. Gives the ones
    /// that are to be removed.
    pub fn write(
        self,
        repository: &Repository,
        dropped: &HashSet<Id>,
        new: Vec<index::Pack>,
    ) -> Result<Vec<Id>, PruneError> {
        let is_small = |one: &&One| one.blobs < BLOBS_MAX / 2;
        let are_many = self.0.iter().filter(is_small).count() > SMALL_MAX;
        let is_replaced =
            |one: &&One| one.packs.iter().any(|pack| dropped.contains(pack)) || (are_many && is_small(one));
        let replaced: Vec<Id> = self.0.iter().filter(is_replaced).map(|one| one.id).collect();
        let mut writer = Writer { repository, file: index::File::default(), blobs: 0 };
        let mut seen = HashSet::new();
        for pack in new {
            writer.push(pack)?;
        }
        for id in &replaced {
            let file: index::File = repository.json(&Object::Stored(Kind::Index, *id))?;
            for pack in file.packs {
                // One that is named twice is named once from now on, if all of it was.
                if !dropped.contains(&pack.id) && seen.insert((pack.id, pack.blobs.len())) {
                    writer.push(pack)?;
                }
            }
        }
        writer.flush()?;
        Ok(replaced)
    }
}

struct Writer<'a> {
    repository: &'a Repository,
    file: index::File,
    blobs: usize,
}

impl Writer<'_> {
    fn push(&mut self, pack: index::Pack) -> Result<(), PruneError> {
        self.blobs += pack.blobs.len();
        self.file.packs.push(pack);
        if self.blobs >= BLOBS_MAX { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<(), PruneError> {
        let file = std::mem::take(&mut self.file);
        self.blobs = 0;
        if !file.packs.is_empty() {
            self.repository.put_json(Kind::Index, &file)?;
        }
        Ok(())
    }
}
