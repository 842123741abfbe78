//! The way of a snapshot back into a folder: one thread makes what is to be there, several write what is in it.

use std::fs::{self, File};
use std::os::unix::fs::{FileExt, OpenOptionsExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::sync::{Arc, Mutex, PoisonError};

use crate::index::BlobKind;
use crate::tree::{Node, to_unix};
use crate::{Id, ReadError, Reader, RestoreError, Snapshot};

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

pub struct Restore<'a> {
    reader: &'a Reader,
    stretches: SyncSender<Stretch>,
    failed: &'a Failed,
    done: Restored,
}

/// The first thing that failed.
#[derive(Default)]
struct Failed(Mutex<Option<RestoreError>>);

/// A file that is being written.
struct Target {
    file: File,
    path: PathBuf,
    mode: u32,
    mtime: std::time::SystemTime,
    /// Bytes that are still to come.
    left: AtomicU64,
}

/// Blobs that are read at once, and where they go.
struct Stretch {
    target: Arc<Target>,
    at: u64,
    size: u64,
    blobs: Vec<Id>,
}

impl Failed {
    fn note(&self, error: RestoreError) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
    }

    fn is_set(&self) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).is_some()
    }
}

impl Restore<'_> {
    pub fn run(reader: &Reader, snapshot: &Snapshot, target: &Path) -> Result<Restored, RestoreError> {
        let io = |source| RestoreError::Target { doing: "creating", path: target.to_owned(), source };
        fs::create_dir_all(target).map_err(io)?;
        if fs::read_dir(target).map_err(io)?.next().is_some() {
            return Err(RestoreError::NotEmpty(target.to_owned()));
        }
        let threads = std::thread::available_parallelism().map_or(1, |cores| cores.get().min(8));
        // Each holds a file open: few.
        let (stretches, receiver) = mpsc::sync_channel(threads * 2);
        let (receiver, failed) = (Mutex::new(receiver), Failed::default());
        let done = std::thread::scope(|scope| {
            for _ in 0..threads {
                scope.spawn(|| work(reader, &receiver, &failed));
            }
            let mut restore = Restore { reader, stretches, failed: &failed, done: Restored::default() };
            if let Err(error) = restore.folder(snapshot.tree, target, 0) {
                failed.note(error);
            }
            restore.done
        });
        match failed.0.into_inner().unwrap_or_else(PoisonError::into_inner) {
            Some(error) => Err(error),
            None => Ok(done),
        }
    }

    fn folder(&mut self, tree: Id, target: &Path, depth: usize) -> Result<(), RestoreError> {
        if depth > DEPTH_MAX {
            let what = format!("folders in folders at {}", target.display());
            return Err(ReadError::Limit { what, limit: DEPTH_MAX as u64 }.into());
        }
        for node in self.reader.tree(tree)?.nodes {
            let name = &*node.name;
            // The target is empty and everything in it is made here, so no link is followed.
            if name.is_empty() || name == "." || name == ".." || name.contains(['/', '\0', '\\']) {
                return Err(RestoreError::Name(node.name));
            }
            if self.failed.is_set() {
                return Ok(());
            }
            let path = target.join(name);
            let io = |doing, source| RestoreError::Target { doing, path: path.clone(), source };
            match &*node.kind {
                "file" => self.file(&node, path)?,
                "dir" => {
                    fs::create_dir(&path).map_err(|error| io("creating", error))?;
                    if let Some(subtree) = node.subtree {
                        self.folder(subtree, &path, depth + 1)?;
                    }
                    let mode = fs::Permissions::from_mode(to_unix(node.mode));
                    fs::set_permissions(&path, mode).map_err(|error| io("setting the mode of", error))?;
                    self.done.others += 1;
                }
                "symlink" => {
                    symlink(&node.linktarget, &path).map_err(|error| io("linking", error))?;
                    self.done.others += 1;
                }
                kind => return Err(RestoreError::Special { path, kind: kind.to_owned() }),
            }
        }
        Ok(())
    }

    fn file(&mut self, node: &Node, path: PathBuf) -> Result<(), RestoreError> {
        let of_file = |source: ReadError| ReadError::File { path: path.clone(), source: Box::new(source) };
        let mut size = 0;
        for blob in &node.content {
            size += self.reader.place(BlobKind::Data, *blob).map_err(of_file)?.size();
        }
        if size != node.size {
            let what = format!("{size} bytes are there of the {} that it has", node.size);
            return Err(of_file(ReadError::Content(what)).into());
        }
        let file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
        let io = |source| RestoreError::Target { doing: "creating", path: path.clone(), source };
        let target = Arc::new(Target {
            file: file.map_err(io)?,
            mode: to_unix(node.mode),
            mtime: node.mtime.into(),
            left: AtomicU64::new(size),
            path: path.clone(),
        });
        if size == 0 {
            target.finish()?;
        }
        let (mut rest, mut at) = (&*node.content, 0);
        while size > 0 && !rest.is_empty() {
            let (count, size) = self.reader.stretch(BlobKind::Data, rest).map_err(of_file)?;
            let (blobs, after) = rest.split_at(count);
            let stretch = Stretch { target: target.clone(), at, size, blobs: blobs.to_vec() };
            // Nobody takes it where all have failed: then that is noted.
            if self.stretches.send(stretch).is_err() {
                return Ok(());
            }
            (rest, at) = (after, at + size);
        }
        self.done.files += 1;
        self.done.bytes += size;
        Ok(())
    }
}

impl Target {
    fn finish(&self) -> Result<(), RestoreError> {
        let set = self.file.set_permissions(fs::Permissions::from_mode(self.mode));
        let set = set.and_then(|()| self.file.set_modified(self.mtime));
        set.map_err(|error| self.failed("setting mode and time of", error))
    }

    fn failed(&self, doing: &'static str, source: std::io::Error) -> RestoreError {
        RestoreError::Target { doing, path: self.path.clone(), source }
    }
}

impl Stretch {
    fn write(&self, reader: &Reader) -> Result<(), RestoreError> {
        let target = &*self.target;
        let of_file =
            |source: ReadError| ReadError::File { path: target.path.clone(), source: Box::new(source) };
        let blobs = reader.open(BlobKind::Data, &self.blobs).map_err(of_file)?;
        // The index may say another length than a blob has: then all behind it would be in the wrong place.
        if blobs.iter().map(Vec::len).sum::<usize>() as u64 != self.size {
            return Err(
                of_file(ReadError::Content("a piece has another size than the index says".into())).into()
            );
        }
        let mut at = self.at;
        for blob in &blobs {
            target.file.write_all_at(blob, at).map_err(|error| target.failed("writing", error))?;
            at += blob.len() as u64;
        }
        match target.left.fetch_sub(self.size, Ordering::AcqRel) == self.size {
            true => target.finish(),
            false => Ok(()),
        }
    }
}

/// Until there are no more. After a failure the rest is only taken away, so that nobody waits.
fn work(reader: &Reader, stretches: &Mutex<Receiver<Stretch>>, failed: &Failed) {
    loop {
        let stretch = stretches.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(stretch) = stretch else { break };
        if !failed.is_set()
            && let Err(error) = stretch.write(reader)
        {
            failed.note(error);
        }
    }
}
