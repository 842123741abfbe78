//! The files: a ring of segments that are written one after the other, and a front page.
//!
//! All of them are opened before the sandbox closes, so the edge needs no right to make, open or remove a file:
//! what reads strangers' bytes goes on without one. A segment is only ever written at its end; when all are full the
//! oldest is emptied and written anew. So what is written last leaves last, and a note that forgets an answer is
//! always gone later than the answer.

use std::fs::{File, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use nix::fcntl::{Flock, FlockArg};

use super::record::{FIXED, Fixed, INDEX_MAX, half};

/// How many files the room is divided into.
pub const SEGMENTS: usize = 32;
/// The longest front page, in bytes. There is room for two: one is written while the other is good.
const FRONT_MAX: usize = 512 << 10;

/// The open files of a store.
#[derive(Debug)]
pub struct Files {
    segments: Arc<Vec<File>>,
    front: File,
    /// Nobody else writes here while this lives. `None`: somebody else does.
    lock: Option<Flock<File>>,
    waiting: Option<File>,
}

impl Files {
    /// Opens the store in a folder, which must be there.
    ///
    /// # Errors
    /// The file that cannot be opened, or is not a file of this user alone.
    pub fn open(folder: &Path) -> io::Result<Self> {
        let front = open(folder, "front")?;
        let lock = open(folder, "lock")?;
        let segments: Vec<File> =
            (0..SEGMENTS).map(|number| open(folder, &format!("{number:02}"))).collect::<Result<_, _>>()?;
        let mut files = Self { segments: Arc::new(segments), front, lock: None, waiting: Some(lock) };
        files.try_lock();
        Ok(files)
    }

    /// Makes sure that no other edge writes here; `false`: one does.
    pub fn try_lock(&mut self) -> bool {
        if let Some(file) = self.waiting.take() {
            match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
                Ok(lock) => self.lock = Some(lock),
                Err((file, _)) => self.waiting = Some(file),
            }
        }
        self.lock.is_some()
    }

    /// The segments, for those who read.
    pub fn readers(&self) -> Arc<Vec<File>> {
        self.segments.clone()
    }

    /// The front page that was written last, with its serial, if there is a whole one.
    pub fn front(&self) -> Option<(u64, Vec<u8>)> {
        let page = |slot: u64| {
            let at = slot * FRONT_MAX as u64;
            let mut fixed = [0; 32];
            self.front.read_exact_at(&mut fixed, at).ok()?;
            let serial = u64::from_be_bytes(fixed[..8].try_into().ok()?);
            let length = usize::try_from(u64::from_be_bytes(fixed[8..16].try_into().ok()?)).ok()?;
            if length > FRONT_MAX - fixed.len() {
                return None;
            }
            let mut page = vec![0; length];
            self.front.read_exact_at(&mut page, at + fixed.len() as u64).ok()?;
            (half(&[&fixed[..16], &page]) == fixed[16..]).then_some((serial, page))
        };
        [page(0), page(1)].into_iter().flatten().max_by_key(|(serial, _)| *serial)
    }

    /// Writes a front page beside the last one. `serial`: grows each time.
    ///
    /// # Errors
    /// When it is too long, or the disk does not take it.
    pub fn write_front(&self, serial: u64, page: &[u8]) -> io::Result<()> {
        if page.len() > FRONT_MAX - 32 {
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, "the front page has grown too long"));
        }
        let mut out = [serial.to_be_bytes(), (page.len() as u64).to_be_bytes()].concat();
        let seal = half(&[&out, page]);
        out.extend_from_slice(&seal);
        out.extend_from_slice(page);
        self.front.write_all_at(&out, (serial % 2) * FRONT_MAX as u64)
    }

    /// Waits until everything is where a power cut leaves it.
    ///
    /// # Errors
    /// When the disk says that it is not.
    pub fn sync(&self) -> io::Result<()> {
        self.segments.iter().chain([&self.front]).try_for_each(File::sync_data)
    }

    /// The same for the front page alone.
    ///
    /// # Errors
    /// When the disk says that it is not.
    pub fn sync_front(&self) -> io::Result<()> {
        self.front.sync_data()
    }

    /// How long a segment is, in bytes.
    ///
    /// # Errors
    /// When the disk does not say.
    pub fn len(&self, segment: usize) -> io::Result<u64> {
        self.segments[segment].metadata().map(|meta| meta.len())
    }

    /// Cuts a segment off.
    ///
    /// # Errors
    /// When the disk does not do it.
    pub fn cut(&self, segment: usize, length: u64) -> io::Result<()> {
        self.segments[segment].set_len(length)
    }

    /// Writes a record at the end of a segment.
    ///
    /// # Errors
    /// When the disk does not take it, for instance because it is full.
    pub fn write(&self, segment: usize, offset: u64, record: &[u8]) -> io::Result<()> {
        self.segments[segment].write_all_at(record, offset)
    }

    /// The fixed part of the record at a place, and its part for the index. `None`: there is no whole one of this
    /// store.
    pub fn peek(&self, segment: usize, offset: u64, store: u64) -> Option<(Fixed, Vec<u8>)> {
        let mut start = vec![0; FIXED + INDEX_MAX];
        let mut filled = 0;
        while filled < start.len() {
            match self.segments[segment].read_at(&mut start[filled..], offset + filled as u64) {
                Ok(0) => break,
                Ok(read) => filled += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return None,
            }
        }
        let (fixed, meta) = Fixed::read(&start[..filled], store)?;
        let meta = meta.to_vec();
        Some((fixed, meta))
    }
}

/// Reads a record.
///
/// # Errors
/// When it is not all there.
pub fn read(segment: &File, offset: u64, length: usize) -> io::Result<Bytes> {
    let mut record = vec![0; length];
    segment.read_exact_at(&mut record, offset)?;
    Ok(record.into())
}

/// Opens a file of the store, and makes it if it is missing: never through a link, and never one of somebody else.
fn open(folder: &Path, name: &str) -> io::Result<File> {
    let path = folder.join(name);
    let named = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", path.display()));
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
        .open(&path)
        .map_err(named)?;
    let meta = file.metadata().map_err(named)?;
    if !meta.is_file() || meta.uid() != nix::unistd::geteuid().as_raw() || meta.nlink() != 1 {
        return Err(named(io::Error::other("not a file of this user alone; remove it")));
    }
    file.set_permissions(Permissions::from_mode(0o600)).map_err(named)?;
    Ok(file)
}
