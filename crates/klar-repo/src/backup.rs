//! A backup: files come in one after the other, a snapshot goes out last.
//!
//! Packs are written before the index that names them, and that before the snapshot. A kill at any moment leaves packs
//! that nobody names, never a snapshot that misses something.

use std::collections::{BTreeMap, HashSet};
use std::io::Read;
use std::path::{Component, Path};

use crate::index::{self, BlobKind, Index};
use crate::pack::Builder;
use crate::tree::{Node, Tree};
use crate::{BackupError, Id, Kind, Lock, LockKind, Metadata, Object, Repository, Snapshot, snapshot};

/// How a backup is made.
#[derive(Debug, Clone)]
pub struct BackupOptions {
    /// On which machine.
    pub host: String,
    /// What is backed up, as an absolute path: shown in lists. Paths of files are beneath the snapshot's root, not
    /// beneath this.
    pub path: String,
    /// As restic's `--tag`.
    pub tags: Vec<String>,
    /// Into pieces of how many bytes files are cut, 4 KiB to 8 MiB. 32 KiB for files that are written in place, such as
    /// a database's: it stores a seventh of what pieces of a megabyte do when 1 % of the pages changed.
    pub piece: u32,
    /// When it began.
    pub time: jiff::Timestamp,
}

/// What became of one file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileRead {
    /// Bytes that the source gave. A file that grows or shrinks while it is read has another size than its metadata
    /// said: it is for the caller to know whether that is an error.
    pub bytes: u64,
    /// SHA-256 of them.
    pub digest: Id,
}

/// What became of a backup.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stored {
    /// The snapshot.
    pub snapshot: Id,
    /// The root of its files. It is a digest over all of them: their names, metadata and contents.
    pub tree: Id,
    /// Files that were read.
    pub files: u64,
    /// Bytes read from sources.
    pub bytes_read: u64,
    /// Bytes that the repository grew by.
    pub bytes_added: u64,
}

const PIECES: std::ops::RangeInclusive<u32> = 4096..=8 << 20;

/// A backup on its way. Paths are relative, beneath the snapshot's root. When any call fails, the backup has failed:
/// every later call says so, and no snapshot is written. Dropping it gives it up; what was stored by then is found
/// and used by the next backup.
#[derive(Debug)]
pub struct Backup {
    repository: Repository,
    /// For as long as it lives: what it found in the index must not be pruned.
    lock: Lock,
    options: BackupOptions,
    known: Index,
    /// Of this backup: blobs that no index names yet.
    fresh: HashSet<(BlobKind, Id)>,
    data: Builder,
    trees: Builder,
    unnamed: index::File,
    unnamed_blobs: usize,
    root: Folder,
    stored: Stored,
    failed: Option<String>,
}

#[derive(Debug, Default)]
struct Folder {
    own: Option<Metadata>,
    folders: BTreeMap<String, Folder>,
    nodes: BTreeMap<String, Node>,
}

impl Backup {
    pub(crate) fn begin(repository: &Repository, options: BackupOptions) -> Result<Backup, BackupError> {
        if !PIECES.contains(&options.piece) {
            return Err(BackupError::PieceSize(options.piece));
        }
        let nameless = snapshot::nameless();
        let stored = Stored { snapshot: nameless, tree: nameless, files: 0, bytes_read: 0, bytes_added: 0 };
        Ok(Backup {
            repository: repository.clone(),
            // Before the index is read.
            lock: repository.lock(LockKind::Shared)?,
            options,
            known: Index::read(repository)?,
            fresh: HashSet::new(),
            data: Builder::default(),
            trees: Builder::default(),
            unnamed: index::File::default(),
            unnamed_blobs: 0,
            root: Folder::default(),
            stored,
            failed: None,
        })
    }

    /// Adds a file, and reads `source` to its end.
    ///
    /// # Errors
    /// [`BackupError::Source`] with what the source said.
    pub fn file(
        &mut self,
        path: &Path,
        metadata: &Metadata,
        source: &mut dyn Read,
    ) -> Result<FileRead, BackupError> {
        self.doing(|backup| {
            let mut digest = ring::digest::Context::new(&ring::digest::SHA256);
            let (mut content, mut size) = (Vec::new(), 0);
            let mut piece = Vec::with_capacity(backup.options.piece as usize);
            loop {
                piece.clear();
                let limit = u64::from(backup.options.piece);
                let read = source.take(limit).read_to_end(&mut piece);
                let read = read.map_err(|source| BackupError::Source { path: path.to_owned(), source })?;
                if read == 0 {
                    break;
                }
                digest.update(&piece);
                size += read as u64;
                content.push(backup.blob(BlobKind::Data, &piece)?);
            }
            let mut bytes = [0; 32];
            bytes.copy_from_slice(digest.finish().as_ref());
            backup.stored.files += 1;
            backup.stored.bytes_read += size;
            let (folder, name) = backup.root.place(path)?;
            folder.nodes.insert(name.clone(), Node { content, size, ..Node::new(&name, "file", metadata) });
            Ok(FileRead { bytes: size, digest: Id::from(bytes) })
        })
    }

    /// Adds a folder. Those that are not added but have something in them get mode 0755.
    ///
    /// # Errors
    /// A path that cannot be.
    pub fn folder(&mut self, path: &Path, metadata: &Metadata) -> Result<(), BackupError> {
        self.doing(|backup| {
            let (folder, name) = backup.root.place(path)?;
            folder.folders.entry(name).or_default().own = Some(*metadata);
            Ok(())
        })
    }

    /// Adds a symbolic link.
    ///
    /// # Errors
    /// A path or a target that cannot be.
    pub fn symlink(&mut self, path: &Path, metadata: &Metadata, target: &Path) -> Result<(), BackupError> {
        self.doing(|backup| {
            let linktarget = target.to_str().ok_or_else(|| unfit(path, "its target is no UTF-8"))?.to_owned();
            let (folder, name) = backup.root.place(path)?;
            folder.nodes.insert(name.clone(), Node { linktarget, ..Node::new(&name, "symlink", metadata) });
            Ok(())
        })
    }

    /// Writes all that is still in memory, then the trees, the index and last the snapshot.
    ///
    /// # Errors
    /// The first thing that failed since the backup was begun.
    pub fn finish(mut self) -> Result<Stored, BackupError> {
        let root = std::mem::take(&mut self.root);
        self.doing(|backup| {
            let tree = backup.tree(root)?;
            backup.write_pack(BlobKind::Data)?;
            backup.write_pack(BlobKind::Tree)?;
            backup.write_index()?;
            let snapshot = Snapshot {
                id: snapshot::nameless(),
                time: backup.options.time,
                tree,
                paths: vec![backup.options.path.clone()],
                hostname: backup.options.host.clone(),
                username: String::new(),
                tags: backup.options.tags.clone(),
            };
            backup.stored.tree = tree;
            // Without it, what the snapshot names may be gone.
            backup.lock.confirm()?;
            backup.stored.snapshot = backup.repository.put_json(Kind::Snapshot, &snapshot)?;
            Ok(backup.stored)
        })
    }

    fn doing<T>(&mut self, act: impl FnOnce(&mut Self) -> Result<T, BackupError>) -> Result<T, BackupError> {
        if let Some(failed) = &self.failed {
            return Err(BackupError::Failed(failed.clone()));
        }
        let done = act(self);
        if let Err(error) = &done {
            self.failed = Some(error.to_string());
        }
        done
    }

    /// Stores a blob where there is none of its content.
    fn blob(&mut self, kind: BlobKind, plain: &[u8]) -> Result<Id, BackupError> {
        let id = Id::of(plain);
        if self.known.has(kind, id) || !self.fresh.insert((kind, id)) {
            return Ok(id);
        }
        let packed = zstd::bulk::compress(plain, 3).map_err(|why| BackupError::System(why.to_string()))?;
        // Blobs are 8 MiB at most; trees are cut off where they would be far longer.
        let (bytes, length) = match packed.len() < plain.len() {
            true => (&*packed, plain.len() as u32),
            false => (plain, 0),
        };
        let sealed = self.repository.seal_bytes(bytes).map_err(|why| BackupError::System(why.into()))?;
        let builder = self.builder(kind);
        builder.push(kind, id, &sealed, length);
        if builder.is_full() {
            self.write_pack(kind)?;
        }
        Ok(id)
    }

    fn builder(&mut self, kind: BlobKind) -> &mut Builder {
        match kind {
            BlobKind::Data => &mut self.data,
            BlobKind::Tree => &mut self.trees,
        }
    }

    fn write_pack(&mut self, kind: BlobKind) -> Result<(), BackupError> {
        let repository = self.repository.clone();
        let built = self.builder(kind).build(&repository).map_err(|why| BackupError::System(why.into()))?;
        let Some(built) = built else { return Ok(()) };
        repository.storage().write(&Object::Stored(Kind::Pack, built.pack.id), &built.bytes)?;
        self.stored.bytes_added += built.bytes.len() as u64;
        self.unnamed_blobs += built.pack.blobs.len();
        self.unnamed.packs.push(built.pack);
        if self.unnamed_blobs >= index::BLOBS_MAX {
            self.write_index()?;
        }
        Ok(())
    }

    fn write_index(&mut self) -> Result<(), BackupError> {
        let file = std::mem::take(&mut self.unnamed);
        if !file.packs.is_empty() {
            self.repository.put_json(Kind::Index, &file)?;
            self.unnamed_blobs = 0;
        }
        Ok(())
    }

    fn tree(&mut self, folder: Folder) -> Result<Id, BackupError> {
        let mut nodes = folder.nodes;
        for (name, folder) in folder.folders {
            let usual = Metadata { mode: 0o755, uid: 0, gid: 0, mtime: self.options.time };
            let metadata = folder.own.unwrap_or(usual);
            let subtree = Some(self.tree(folder)?);
            nodes.insert(name.clone(), Node { subtree, ..Node::new(&name, "dir", &metadata) });
        }
        let tree = Tree { nodes: nodes.into_values().collect() };
        let mut json = serde_json::to_vec(&tree).map_err(|why| BackupError::System(why.to_string()))?;
        json.push(b'\n');
        if json.len() > crate::read::TREE_MAX {
            return Err(BackupError::System(format!("a folder has {} entries: too many", tree.nodes.len())));
        }
        self.blob(BlobKind::Tree, &json)
    }
}

impl Folder {
    /// The folder that a path is in, and its name there.
    fn place(&mut self, path: &Path) -> Result<(&mut Folder, String), BackupError> {
        let mut parts = Vec::new();
        for part in path.components() {
            let Component::Normal(name) = part else { return Err(unfit(path, "it is not relative")) };
            let name = name.to_str().ok_or_else(|| unfit(path, "it is no UTF-8"))?;
            // Restic quotes those as Go does.
            if name.contains(['"', '\\']) || name.chars().any(char::is_control) {
                return Err(unfit(path, "it has quotes, backslashes or control characters"));
            }
            parts.push(name.to_owned());
        }
        let name = parts.pop().ok_or_else(|| unfit(path, "it is empty"))?;
        let mut folder = self;
        for part in parts {
            folder = folder.folders.entry(part).or_default();
        }
        if folder.nodes.contains_key(&name) {
            return Err(unfit(path, "it is there already"));
        }
        Ok((folder, name))
    }
}

fn unfit(path: &Path, why: &'static str) -> BackupError {
    BackupError::Path { path: path.to_owned(), why }
}
