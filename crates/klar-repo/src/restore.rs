//! The way of a snapshot back into a folder: one thread makes what is to be there, several write what is in it.
//!
//! A file is written by one thread: two that write to the same one wait for each other in the kernel.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::sync::{Mutex, PoisonError};

use crate::index::BlobKind;
use crate::tree::{Node, to_unix, unquoted};
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
    files: SyncSender<Target>,
    failed: &'a Failed,
    done: Restored,
}

/// The first thing that failed.
#[derive(Default)]
struct Failed(Mutex<Option<RestoreError>>);

/// A file that is there, and empty.
struct Target {
    file: File,
    path: PathBuf,
    mode: u32,
    mtime: std::time::SystemTime,
    /// What is to be in it.
    content: Vec<Id>,
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
        let (files, receiver) = mpsc::sync_channel(threads * 2);
        let (receiver, failed) = (Mutex::new(receiver), Failed::default());
        let done = std::thread::scope(|scope| {
            for _ in 0..threads {
                scope.spawn(|| work(reader, &receiver, &failed));
            }
            let mut restore = Restore { reader, files, failed: &failed, done: Restored::default() };
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
        let mut nodes = self.reader.tree(tree)?.nodes;
        // The largest first, so that no thread is left with one of them in the end.
        nodes.sort_by_key(|node| std::cmp::Reverse(node.size));
        for node in nodes {
            // The target is empty and everything in it is made here, so no link is followed.
            let bytes = unquoted(&node.name).map(OsString::into_vec).unwrap_or_default();
            if [&b""[..], b".", b".."].contains(&&*bytes) || bytes.contains(&b'/') || bytes.contains(&0) {
                return Err(RestoreError::Name(node.name));
            }
            let name = OsString::from_vec(bytes);
            if self.failed.is_set() {
                return Ok(());
            }
            let path = target.join(name);
            let io = |doing, source| RestoreError::Target { doing, path: path.clone(), source };
            match &*node.kind {
                "file" => self.file(node, path)?,
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

    fn file(&mut self, node: Node, path: PathBuf) -> Result<(), RestoreError> {
        let mut size = 0;
        for blob in &node.content {
            let place = self.reader.place(BlobKind::Data, *blob);
            size += place.map_err(|source| of_file(&path, source))?.size();
        }
        if size != node.size {
            let what = format!("{size} bytes are there of the {} that it has", node.size);
            return Err(of_file(&path, ReadError::Content(what)).into());
        }
        let file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
        let io = |source| RestoreError::Target { doing: "creating", path: path.clone(), source };
        let (file, mode, mtime) = (file.map_err(io)?, to_unix(node.mode), node.mtime.into());
        self.done.files += 1;
        self.done.bytes += size;
        // Nobody takes it where all have failed: then that is noted.
        let _ = self.files.send(Target { file, path, mode, mtime, content: node.content });
        Ok(())
    }
}

impl Target {
    fn fill(self, reader: &Reader) -> Result<(), RestoreError> {
        let mut rest = &*self.content;
        while !rest.is_empty() {
            let (blobs, after) = self.stretch(reader, rest).map_err(|source| of_file(&self.path, source))?;
            for blob in blobs {
                (&self.file).write_all(&blob).map_err(|error| self.failed("writing", error))?;
            }
            rest = after;
        }
        let set = self.file.set_permissions(fs::Permissions::from_mode(self.mode));
        let set = set.and_then(|()| self.file.set_modified(self.mtime));
        set.map_err(|error| self.failed("setting mode and time of", error))
    }

    /// The next blobs, and what comes after them.
    fn stretch<'c>(&self, reader: &Reader, blobs: &'c [Id]) -> Result<(Vec<Vec<u8>>, &'c [Id]), ReadError> {
        let (count, size) = reader.stretch(BlobKind::Data, blobs)?;
        let (blobs, after) = blobs.split_at(count);
        let blobs = reader.open(BlobKind::Data, blobs)?;
        // The index may say another length than a blob has: then the file has another one than it should.
        match blobs.iter().map(Vec::len).sum::<usize>() as u64 == size {
            true => Ok((blobs, after)),
            false => Err(ReadError::Content("a piece has another size than the index says".into())),
        }
    }

    fn failed(&self, doing: &'static str, source: std::io::Error) -> RestoreError {
        RestoreError::Target { doing, path: self.path.clone(), source }
    }
}

fn of_file(path: &Path, source: ReadError) -> ReadError {
    ReadError::File { path: path.to_owned(), source: Box::new(source) }
}

/// Until there are no more. After a failure the rest is only taken away, so that nobody waits.
fn work(reader: &Reader, files: &Mutex<Receiver<Target>>, failed: &Failed) {
    loop {
        let target = files.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(target) = target else { break };
        if !failed.is_set()
            && let Err(error) = target.fill(reader)
        {
            failed.note(error);
        }
    }
}
