//! A backup: files come in one after the other, a snapshot goes out last.
//!
//! Packs are written before the index that names them, and that before the snapshot. A kill at any moment leaves packs
//! that nobody names, never a snapshot that misses something.

use std::collections::BTreeMap;
use std::io::Read;
use std::ops::Range;
use std::path::{Component, Path};
use std::sync::Arc;

use fastcdc::v2020::StreamCDC;

use crate::index::{self, BlobKind};
use crate::packers::{Batch, Done, Known, Packer, Packers};
use crate::tree::{Node, Tree, quoted};
use crate::{BackupError, Id, Kind, Lock, LockKind, Metadata, Repository, Snapshot, snapshot};

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
    /// Into which pieces files are cut.
    pub pieces: Pieces,
    /// When it began.
    pub time: jiff::Timestamp,
}

/// Into which pieces files are cut. Each piece is stored once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pieces {
    /// Of so many bytes, 4 KiB to 8 MiB. 32 KiB for files that are written in place, such as a database's: it stores a
    /// seventh of what pieces of a megabyte do when 1 % of the pages changed.
    Even(u32),
    /// Where their content says so (FastCDC), about a megabyte each: what is put in at one place of a file leaves the
    /// others as they were.
    ByContent,
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
/// Pieces by content: at least, mostly, at most. As restic's.
const BY_CONTENT: (usize, usize, usize) = (512 << 10, 1 << 20, 8 << 20);

/// A backup on its way. Paths are relative, beneath the snapshot's root. When any call fails, the backup has failed:
/// every later call says so, and no snapshot is written. Dropping it gives it up; what was stored by then is found
/// and used by the next backup.
#[derive(Debug)]
pub struct Backup {
    repository: Repository,
    packers: Packers,
    trees: Packer,
    /// Pieces that were read, and are not with the packers yet.
    batch: Batch,
    /// Those of all files, in the order in which they were read; nothing while it is not known yet.
    pieces: Vec<Option<Id>>,
    options: BackupOptions,
    unnamed: index::File,
    unnamed_blobs: usize,
    root: Folder,
    stored: Stored,
    failed: Option<String>,
    /// For as long as it lives: what it found in the index must not be pruned. The last that is dropped.
    lock: Lock,
}

#[derive(Debug, Default)]
struct Folder {
    own: Option<Metadata>,
    folders: BTreeMap<String, Folder>,
    /// With which of the pieces they have.
    nodes: BTreeMap<String, (Node, Range<usize>)>,
}

impl Backup {
    pub(crate) fn begin(repository: &Repository, options: BackupOptions) -> Result<Backup, BackupError> {
        if let Pieces::Even(piece) = options.pieces
            && !PIECES.contains(&piece)
        {
            return Err(BackupError::PieceSize(piece));
        }
        let nameless = snapshot::nameless();
        let stored = Stored { snapshot: nameless, tree: nameless, files: 0, bytes_read: 0, bytes_added: 0 };
        // Before the index is read.
        let lock = repository.lock(LockKind::Shared)?;
        let known = Arc::new(Known::read(repository)?);
        Ok(Backup {
            repository: repository.clone(),
            packers: Packers::new(&known),
            trees: Packer::new(known, BlobKind::Tree),
            batch: Batch::default(),
            pieces: Vec::new(),
            options,
            unnamed: index::File::default(),
            unnamed_blobs: 0,
            root: Folder::default(),
            stored,
            failed: None,
            lock,
        })
    }

    /// Adds a file, reads `source` to its end, and gives the bytes that it gave. A file that grows or shrinks while it is
    /// read has another size than its metadata said: it is for the caller to know whether that is an error.
    ///
    /// # Errors
    /// [`BackupError::Source`] with what the source said; what failed to be stored since the last call.
    pub fn file(
        &mut self,
        path: &Path,
        metadata: &Metadata,
        source: &mut dyn Read,
    ) -> Result<u64, BackupError> {
        self.doing(|backup| {
            let first = backup.pieces.len();
            let size = match backup.options.pieces {
                Pieces::Even(piece) => backup.cut_evenly(path, source, piece)?,
                Pieces::ByContent => backup.cut_by_content(path, source)?,
            };
            backup.stored.files += 1;
            backup.stored.bytes_read += size;
            let pieces = first..backup.pieces.len();
            let (folder, name) = backup.root.place(path)?;
            let node = Node { size, ..Node::new(&name, "file", metadata) };
            folder.nodes.insert(name, (node, pieces));
            Ok(size)
        })
    }

    fn cut_evenly(&mut self, path: &Path, source: &mut dyn Read, piece: u32) -> Result<u64, BackupError> {
        let mut size = 0;
        loop {
            let asked = self.batch.room(piece);
            if asked == 0 {
                self.send()?;
                continue;
            }
            let read = self.batch.fill(source, asked, piece);
            let read = read.map_err(|source| BackupError::Source { path: path.to_owned(), source })?;
            self.pieces.resize(self.batch.end(), None);
            size += read as u64;
            if read < asked {
                return Ok(size);
            }
        }
    }

    fn cut_by_content(&mut self, path: &Path, source: &mut dyn Read) -> Result<u64, BackupError> {
        let mut size = 0;
        let (least, usual, most) = BY_CONTENT;
        for piece in StreamCDC::new(source, least, usual, most) {
            let piece =
                piece.map_err(|error| BackupError::Source { path: path.to_owned(), source: error.into() })?;
            if self.batch.is_full() {
                self.send()?;
            }
            size += piece.data.len() as u64;
            self.batch.push(&piece.data);
            self.pieces.resize(self.batch.end(), None);
        }
        Ok(size)
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
            let node = Node { linktarget, ..Node::new(&name, "symlink", metadata) };
            folder.nodes.insert(name, (node, 0..0));
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
            let batch = std::mem::take(&mut backup.batch);
            for done in backup.packers.finish(batch)? {
                backup.take(done)?;
            }
            let tree = backup.tree(root)?;
            if let Some(pack) = backup.trees.flush()? {
                backup.take(pack)?;
            }
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

    /// Gives the batch to the packers, and takes what they have done by now.
    fn send(&mut self) -> Result<(), BackupError> {
        let next = Batch::after(&self.batch);
        let batch = std::mem::replace(&mut self.batch, next);
        for done in self.packers.send(batch)? {
            self.take(done)?;
        }
        Ok(())
    }

    fn take(&mut self, done: Done) -> Result<(), BackupError> {
        match done {
            Done::Pieces { first, ids } => {
                for (piece, id) in self.pieces.iter_mut().skip(first).zip(ids) {
                    *piece = Some(id);
                }
            }
            Done::Pack { pack, length } => {
                self.stored.bytes_added += length;
                self.unnamed_blobs += pack.blobs.len();
                self.unnamed.packs.push(pack);
                if self.unnamed_blobs >= index::BLOBS_MAX {
                    self.write_index()?;
                }
            }
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
        let mut nodes = BTreeMap::new();
        for (name, (node, pieces)) in folder.nodes {
            let content: Option<Vec<Id>> = self.pieces[pieces].iter().copied().collect();
            let content = content.ok_or_else(|| BackupError::System("a piece was never stored".into()))?;
            nodes.insert(name, Node { content, ..node });
        }
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
        let id = self.trees.add(&json)?;
        if let Some(pack) = self.trees.flush_if_full()? {
            self.take(pack)?;
        }
        Ok(id)
    }
}

impl Folder {
    /// The folder that a path is in, and its name there.
    fn place(&mut self, path: &Path) -> Result<(&mut Folder, String), BackupError> {
        let mut parts = Vec::new();
        for part in path.components() {
            let Component::Normal(name) = part else { return Err(unfit(path, "it is not relative")) };
            parts.push(quoted(name));
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
