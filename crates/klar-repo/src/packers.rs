//! What stores blobs: hashes, compresses, seals, fills packs and writes them. On the caller's thread where there is
//! little, on as many as there are processors where there is much.
//!
//! ```text
//! Backup ── Batch (pieces of files) ─► Packers ─┬─► Packer ─► Storage
//!    ▲                                          ├─► Packer ─► Storage
//!    └────────── Done (ids, packs) ─────────────┘
//! ```

use std::collections::HashSet;
use std::io::{self, Read};
use std::sync::mpsc::{self, Receiver, Sender, SyncSender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use crate::index::{self, BlobKind, Index};
use crate::pack::Builder;
use crate::{BackupError, Id, Kind, Object, ReadError, Repository, zip};

/// A batch has about so many bytes.
const BATCH: usize = 1 << 20;

/// Which blobs need not be stored: those that were there, and those of this backup.
#[derive(Debug)]
pub struct Known {
    repository: Repository,
    before: Index,
    fresh: Mutex<HashSet<(BlobKind, Id)>>,
}

impl Known {
    pub fn read(repository: &Repository) -> Result<Known, ReadError> {
        let before = Index::read(repository)?;
        Ok(Known { repository: repository.clone(), before, fresh: Mutex::default() })
    }

    /// Whether whoever asks has to store it.
    fn is_new(&self, kind: BlobKind, id: Id) -> bool {
        let fresh = || self.fresh.lock().unwrap_or_else(PoisonError::into_inner).insert((kind, id));
        !self.before.has(kind, id) && fresh()
    }
}

/// Pieces of files, one behind the other.
#[derive(Debug, Default)]
pub struct Batch {
    /// How many pieces were in those before.
    first: usize,
    bytes: Vec<u8>,
    /// Where each piece ends.
    ends: Vec<usize>,
}

impl Batch {
    pub fn after(before: &Batch) -> Batch {
        Batch { first: before.end(), ..Batch::default() }
    }

    /// How many pieces there are up to its end.
    pub fn end(&self) -> usize {
        self.first + self.ends.len()
    }

    /// How many bytes it should be filled with: a whole number of pieces, none where it is full.
    pub fn room(&self, piece: u32) -> usize {
        let piece = piece as usize;
        BATCH.max(piece).saturating_sub(self.bytes.len()) / piece * piece
    }

    /// Reads `asked` bytes, or all there are, and cuts them into pieces.
    pub fn fill(&mut self, source: &mut dyn Read, asked: usize, piece: u32) -> io::Result<usize> {
        let from = self.bytes.len();
        self.bytes.resize(from + asked, 0);
        let mut read = 0;
        while read < asked {
            match source.read(&mut self.bytes[from + read..]) {
                Ok(0) => break,
                Ok(more) => read += more,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        self.bytes.truncate(from + read);
        let pieces = (0..read).step_by(piece as usize);
        self.ends.extend(pieces.map(|at| from + read.min(at + piece as usize)));
        Ok(read)
    }

    /// Whether it has as much as it should.
    pub fn is_full(&self) -> bool {
        self.bytes.len() >= BATCH
    }

    /// Takes one piece.
    pub fn push(&mut self, piece: &[u8]) {
        self.bytes.extend_from_slice(piece);
        self.ends.push(self.bytes.len());
    }

    fn pieces(&self) -> impl Iterator<Item = &[u8]> {
        let begins = std::iter::once(0).chain(self.ends.iter().copied());
        begins.zip(&self.ends).map(|(from, to)| &self.bytes[from..*to])
    }
}

/// Something was stored.
pub enum Done {
    /// Pieces from number `first` on.
    Pieces { first: usize, ids: Vec<Id> },
    /// A pack, of so many bytes: no index names it yet.
    Pack { pack: index::Pack, length: u64 },
}

/// Stores blobs of one kind, one after the other.
#[derive(Debug)]
pub struct Packer {
    known: Arc<Known>,
    kind: BlobKind,
    builder: Builder,
}

impl Packer {
    pub fn new(known: Arc<Known>, kind: BlobKind) -> Packer {
        Packer { known, kind, builder: Builder::default() }
    }

    /// Takes a blob where there is none of its content.
    pub fn add(&mut self, plain: &[u8]) -> Result<Id, BackupError> {
        let id = Id::of(plain);
        if !self.known.is_new(self.kind, id) {
            return Ok(id);
        }
        let packed = zip::compress(plain).map_err(|why| BackupError::System(why.to_string()))?;
        // Blobs are 8 MiB at most; trees are cut off where they would be far longer.
        let (bytes, length) = match packed.len() < plain.len() {
            true => (&*packed, plain.len() as u32),
            false => (plain, 0),
        };
        let sealed =
            self.known.repository.seal_bytes(bytes).map_err(|why| BackupError::System(why.into()))?;
        self.builder.push(self.kind, id, &sealed, length);
        Ok(id)
    }

    pub fn flush_if_full(&mut self) -> Result<Option<Done>, BackupError> {
        if self.builder.is_full() { self.flush() } else { Ok(None) }
    }

    /// Writes what there is.
    pub fn flush(&mut self) -> Result<Option<Done>, BackupError> {
        let repository = &self.known.repository;
        let built = self.builder.build(repository).map_err(|why| BackupError::System(why.into()))?;
        let Some(built) = built else { return Ok(None) };
        repository.storage().write(&Object::Stored(Kind::Pack, built.pack.id), &built.bytes)?;
        Ok(Some(Done::Pack { pack: built.pack, length: built.bytes.len() as u64 }))
    }

    fn batch(&mut self, batch: &Batch, done: &mut dyn FnMut(Done)) -> Result<(), BackupError> {
        let mut ids = Vec::with_capacity(batch.ends.len());
        for piece in batch.pieces() {
            ids.push(self.add(piece)?);
            self.flush_if_full()?.map(&mut *done);
        }
        done(Done::Pieces { first: batch.first, ids });
        Ok(())
    }
}

/// Stores pieces of files. Threads begin with the first batch that is sent: what fits into one needs none.
#[derive(Debug)]
pub struct Packers {
    known: Arc<Known>,
    running: Option<Running>,
}

#[derive(Debug)]
struct Running {
    batches: SyncSender<Batch>,
    done: Receiver<Result<Done, BackupError>>,
    threads: Vec<JoinHandle<()>>,
}

impl Packers {
    pub fn new(known: &Arc<Known>) -> Packers {
        Packers { known: known.clone(), running: None }
    }

    /// Gives a batch away, waiting while all packers are busy, and gives what was done meanwhile.
    pub fn send(&mut self, batch: Batch) -> Result<Vec<Done>, BackupError> {
        let running = match &mut self.running {
            Some(running) => running,
            none => none.insert(Running::start(&self.known)?),
        };
        // Where nobody takes it, one of them says below why.
        let sent = running.batches.send(batch);
        let done: Vec<Done> = running.done.try_iter().collect::<Result<_, _>>()?;
        sent.map_err(|_| ended()).map(|()| done)
    }

    /// Stores all that is left.
    pub fn finish(&mut self, last: Batch) -> Result<Vec<Done>, BackupError> {
        let mut all = Vec::new();
        let mut here = Packer::new(self.known.clone(), BlobKind::Data);
        here.batch(&last, &mut |done| all.push(done))?;
        all.extend(here.flush()?);
        if let Some(running) = self.running.take() {
            drop(running.batches);
            for done in running.done {
                all.push(done?);
            }
            for thread in running.threads {
                thread.join().map_err(|_| ended())?;
            }
        }
        Ok(all)
    }
}

impl Drop for Packers {
    /// Nobody writes any more when the lock is given back.
    fn drop(&mut self) {
        if let Some(running) = self.running.take() {
            drop(running.batches);
            // A backup that is given up: why, was said.
            running.threads.into_iter().for_each(|thread| drop(thread.join()));
        }
    }
}

impl Running {
    fn start(known: &Arc<Known>) -> Result<Running, BackupError> {
        let count = std::thread::available_parallelism().map_or(1, |cores| cores.get().min(8));
        let (batches, receiver) = mpsc::sync_channel(count);
        let (sender, done) = mpsc::channel();
        let receiver = Arc::new(Mutex::new(receiver));
        let mut running = Running { batches, done, threads: Vec::new() };
        // One more than processors: who writes a pack waits for the disk.
        for _ in 0..=count {
            let (packer, receiver) = (Packer::new(known.clone(), BlobKind::Data), receiver.clone());
            let sender = sender.clone();
            let thread = std::thread::Builder::new().name("pack".into());
            let thread = thread.spawn(move || work(packer, &receiver, &sender));
            running.threads.push(thread.map_err(|why| BackupError::System(why.to_string()))?);
        }
        Ok(running)
    }
}

/// Until there are no more batches, or one could not be stored.
fn work(mut packer: Packer, batches: &Mutex<Receiver<Batch>>, sender: &Sender<Result<Done, BackupError>>) {
    // Who no longer listens has given up.
    let mut tell = |done| drop(sender.send(Ok(done)));
    let failed = loop {
        let batch = batches.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(batch) = batch else { break packer.flush().map(|pack| pack.map(&mut tell)).err() };
        if let Err(error) = packer.batch(&batch, &mut tell) {
            break Some(error);
        }
    };
    failed.map(|error| sender.send(Err(error)));
}

fn ended() -> BackupError {
    BackupError::System("a thread that stores pieces ended".into())
}
