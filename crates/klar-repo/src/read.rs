//! Reading: what a snapshot has, and its way back into a folder.

use std::fs;
use std::io::Write;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use crate::index::{BlobKind, Index, Place};
use crate::tree::{Node, Tree, to_unix};
use crate::{Id, Kind, Object, ReadError, Repository, RestoreError, Snapshot};

/// A folder of a snapshot may take so many bytes.
pub(crate) const TREE_MAX: usize = 64 << 20;
/// No blob is longer.
pub(crate) const BLOB_MAX: usize = TREE_MAX;
/// So much of a pack is read at once.
const STRETCH: u32 = 8 << 20;
/// Folders in folders.
const DEPTH_MAX: usize = 500;

/// What was restored.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Restored {
    /// Regular files.
    pub files: u64,
    /// Folders, symbolic links.
    pub others: u64,
    /// Bytes of files.
    pub bytes: u64,
}

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

    /// Restores a snapshot into a folder that is empty or not there yet. Owners are left alone. Memory: a few stretches
    /// of packs, 8 MiB each, whatever the size of the snapshot, beside the index and the folder at hand.
    ///
    /// # Errors
    /// The first thing that failed. What was written by then is there and must not be used.
    pub fn restore(&self, snapshot: &Snapshot, target: &Path) -> Result<Restored, RestoreError> {
        let io = |source| RestoreError::Target { doing: "creating", path: target.to_owned(), source };
        fs::create_dir_all(target).map_err(io)?;
        if fs::read_dir(target).map_err(io)?.next().is_some() {
            return Err(RestoreError::NotEmpty(target.to_owned()));
        }
        let mut restored = Restored::default();
        self.folder(snapshot.tree, target, 0, &mut restored)?;
        Ok(restored)
    }

    fn folder(&self, tree: Id, target: &Path, depth: usize, done: &mut Restored) -> Result<(), RestoreError> {
        if depth > DEPTH_MAX {
            let what = format!("folders in folders at {}", target.display());
            return Err(ReadError::Limit { what, limit: DEPTH_MAX as u64 }.into());
        }
        for node in self.tree(tree)?.nodes {
            let name = &*node.name;
            // The target is empty and everything in it is made here, so no link is followed.
            if name.is_empty() || name == "." || name == ".." || name.contains(['/', '\0', '\\']) {
                return Err(RestoreError::Name(node.name));
            }
            let path = target.join(name);
            let io = |doing, source| RestoreError::Target { doing, path: path.clone(), source };
            match &*node.kind {
                "file" => {
                    done.bytes += self.file(&node, &path)?;
                    done.files += 1;
                }
                "dir" => {
                    fs::create_dir(&path).map_err(|error| io("creating", error))?;
                    if let Some(subtree) = node.subtree {
                        self.folder(subtree, &path, depth + 1, done)?;
                    }
                    let mode = fs::Permissions::from_mode(to_unix(node.mode));
                    fs::set_permissions(&path, mode).map_err(|error| io("setting the mode of", error))?;
                    done.others += 1;
                }
                "symlink" => {
                    symlink(&node.linktarget, &path).map_err(|error| io("linking", error))?;
                    done.others += 1;
                }
                kind => return Err(RestoreError::Special { path, kind: kind.to_owned() }),
            }
        }
        Ok(())
    }

    fn file(&self, node: &Node, path: &Path) -> Result<u64, RestoreError> {
        let io = |doing, source| RestoreError::Target { doing, path: path.to_owned(), source };
        let of_file = |source: ReadError| ReadError::File { path: path.to_owned(), source: Box::new(source) };
        let file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
        let mut file = file.map_err(|error| io("creating", error))?;
        let mut size = 0;
        let mut rest = &*node.content;
        while !rest.is_empty() {
            let (blobs, count) = self.stretch(BlobKind::Data, rest).map_err(of_file)?;
            for blob in blobs {
                file.write_all(&blob).map_err(|error| io("writing", error))?;
                size += blob.len() as u64;
            }
            rest = &rest[count..];
        }
        if size != node.size {
            let what = format!("{size} bytes are there of the {} that it has", node.size);
            return Err(of_file(ReadError::Content(what)).into());
        }
        let mtime = std::time::SystemTime::from(node.mtime);
        file.set_permissions(fs::Permissions::from_mode(to_unix(node.mode)))
            .and_then(|()| file.set_modified(mtime))
            .map_err(|error| io("setting mode and time of", error))?;
        Ok(size)
    }

    /// The first blobs of a list: those that lie behind each other in a pack are read at once. Gives how many.
    fn stretch(&self, kind: BlobKind, blobs: &[Id]) -> Result<(Vec<Vec<u8>>, usize), ReadError> {
        let mut places: Vec<Place> = Vec::new();
        for blob in blobs {
            let place = self.index.places(kind, *blob).next().ok_or(ReadError::Unknown(*blob))?;
            let follows = match (places.first(), places.last()) {
                (Some(first), Some(last)) => {
                    place.pack == last.pack
                        && place.offset == last.offset.saturating_add(last.length)
                        && place.offset.saturating_add(place.length) - first.offset <= STRETCH
                }
                _ => true,
            };
            if !follows {
                break;
            }
            places.push(place);
        }
        let opened = match self.stretch_at(&places, blobs) {
            // There may be another copy of one of them elsewhere.
            Err(_) if !places.is_empty() => {
                let blobs = blobs[..places.len()].iter();
                blobs.map(|blob| self.blob(kind, *blob)).collect::<Result<_, _>>()?
            }
            opened => opened?,
        };
        Ok((opened, places.len()))
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
                let path = at.join(&node.name);
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
            let node =
                tree.nodes.into_iter().find(|node| Some(&*node.name) == name.to_str()).ok_or_else(missing)?;
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
                        let (blobs, count) = self.stretch(BlobKind::Data, rest)?;
                        bytes.extend(blobs.concat());
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
