//! Reading: what a snapshot has.

use std::path::{Path, PathBuf};

use crate::index::{BlobKind, Index, Place};
use crate::restore::{Restore, Restored};
use crate::tree::{Tree, quoted, unquoted};
use crate::{Id, Kind, Object, ReadError, Repository, RestoreError, Snapshot};

/// A folder of a snapshot may take so many bytes.
pub(crate) const TREE_MAX: usize = 64 << 20;
/// No blob is longer.
pub(crate) const BLOB_MAX: usize = TREE_MAX;
/// So much of a pack is read at once.
const STRETCH: u64 = 8 << 20;

/// Reads a repository as it was when it was made.
#[derive(Debug)]
pub struct Reader {
    repository: Repository,
    index: Index,
}

impl Reader {
    pub(crate) fn new(repository: &Repository) -> Result<Reader, ReadError> {
        Ok(Reader::of(repository, Index::read(repository)?))
    }

    pub(crate) fn of(repository: &Repository, index: Index) -> Reader {
        Reader { repository: repository.clone(), index }
    }

    pub(crate) fn index(&self) -> &Index {
        &self.index
    }

    /// Restores a snapshot into a folder that is empty or not there yet, on as many threads as there are processors.
    /// Owners are left alone. Memory: a stretch of a pack for each thread, 8 MiB sealed and 8 MiB open at most, whatever
    /// the size of the snapshot, beside the index and the folder at hand.
    ///
    /// # Errors
    /// The first thing that failed. What was written by then is there and must not be used.
    pub fn restore(&self, snapshot: &Snapshot, target: &Path) -> Result<Restored, RestoreError> {
        Restore::run(self, snapshot, target)
    }

    pub(crate) fn place(&self, kind: BlobKind, blob: Id) -> Result<Place, ReadError> {
        self.index.places(kind, blob).next().ok_or(ReadError::Unknown(blob))
    }

    /// How many of these blobs lie behind each other in a pack and can be read at once, and the bytes of their content.
    pub(crate) fn stretch(&self, kind: BlobKind, blobs: &[Id]) -> Result<(usize, u64), ReadError> {
        let mut before: Option<Place> = None;
        let (mut count, mut sealed, mut size) = (0, 0, 0);
        for blob in blobs {
            let place = self.place(kind, *blob)?;
            sealed += u64::from(place.length);
            let follows = before.is_none_or(|before| {
                place.pack == before.pack
                    && place.offset == before.offset.saturating_add(before.length)
                    && sealed.max(size + place.size()) <= STRETCH
            });
            if !follows {
                break;
            }
            size += place.size();
            count += 1;
            before = Some(place);
        }
        Ok((count, size))
    }

    /// Opens the blobs of one stretch.
    pub(crate) fn open(&self, kind: BlobKind, blobs: &[Id]) -> Result<Vec<Vec<u8>>, ReadError> {
        let places: Vec<Place> =
            blobs.iter().map(|blob| self.place(kind, *blob)).collect::<Result<_, _>>()?;
        // There may be another copy of one of them elsewhere.
        self.stretch_at(&places, blobs).or_else(|_| blobs.iter().map(|blob| self.blob(kind, *blob)).collect())
    }

    fn stretch_at(&self, places: &[Place], blobs: &[Id]) -> Result<Vec<Vec<u8>>, ReadError> {
        let (Some(first), Some(last)) = (places.first(), places.last()) else { return Ok(Vec::new()) };
        let pack = self.index.pack(*first);
        let length = (last.offset - first.offset) as usize + last.length as usize;
        let object = Object::Stored(Kind::Pack, pack);
        let bytes = self.repository.storage().read_range(&object, first.offset.into(), length)?;
        let opened = places.iter().zip(blobs).map(|(place, blob)| {
            let from = (place.offset - first.offset) as usize;
            let sealed = bytes.get(from..from + place.length as usize).unwrap_or_default();
            self.repository.open_blob(*blob, pack, place.plain, sealed)
        });
        opened.collect()
    }

    /// One blob, from wherever it can be had.
    fn blob(&self, kind: BlobKind, blob: Id) -> Result<Vec<u8>, ReadError> {
        let mut failed = ReadError::Unknown(blob);
        for place in self.index.places(kind, blob) {
            match self.stretch_at(&[place], &[blob]) {
                Ok(opened) => return Ok(opened.concat()),
                Err(error) => failed = error,
            }
        }
        Err(failed)
    }

    pub(crate) fn tree(&self, id: Id) -> Result<Tree, ReadError> {
        let json = self.blob(BlobKind::Tree, id)?;
        serde_json::from_slice(&json).map_err(|why| ReadError::Content(format!("tree {id}: {why}")))
    }

    /// The paths of all files of a snapshot, relative to its root, in order.
    ///
    /// # Errors
    /// A folder that is missing or damaged.
    pub fn files(&self, snapshot: &Snapshot) -> Result<Vec<PathBuf>, ReadError> {
        let (mut files, mut left) = (Vec::new(), vec![(snapshot.tree, PathBuf::new())]);
        while let Some((tree, at)) = left.pop() {
            for node in self.tree(tree)?.nodes {
                let path = at.join(unquoted(&node.name).unwrap_or_default());
                match node.subtree {
                    Some(subtree) => left.push((subtree, path)),
                    None => files.push(path),
                }
            }
        }
        files.sort();
        Ok(files)
    }

    /// One file of a snapshot, by its path from the root, in memory; one that is longer than `limit` is refused.
    ///
    /// # Errors
    /// A file that is not there, is longer, is missing or damaged.
    pub fn content(&self, snapshot: &Snapshot, path: &Path, limit: u64) -> Result<Vec<u8>, ReadError> {
        let mut tree = self.tree(snapshot.tree)?;
        let missing = || ReadError::Content(format!("{} is not in snapshot {}", path.display(), snapshot.id));
        let mut names = path.iter().peekable();
        while let Some(name) = names.next() {
            let node = tree.nodes.into_iter().find(|node| node.name == quoted(name)).ok_or_else(missing)?;
            match (node.subtree, names.peek()) {
                (Some(subtree), Some(_)) => tree = self.tree(subtree)?,
                (None, None) if node.size > limit => {
                    return Err(ReadError::Limit {
                        what: format!("{}, {} bytes,", path.display(), node.size),
                        limit,
                    });
                }
                (None, None) => {
                    let (mut bytes, mut rest) = (Vec::new(), &*node.content);
                    while !rest.is_empty() {
                        let (count, _) = self.stretch(BlobKind::Data, rest)?;
                        bytes.extend(self.open(BlobKind::Data, &rest[..count])?.concat());
                        rest = &rest[count..];
                    }
                    return match bytes.len() as u64 == node.size {
                        true => Ok(bytes),
                        false => Err(ReadError::Content(format!(
                            "{} has another size than it says",
                            path.display()
                        ))),
                    };
                }
                _ => return Err(missing()),
            }
        }
        Err(missing())
    }
}
