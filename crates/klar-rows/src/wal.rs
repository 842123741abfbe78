//! The log: what was appended is on disk here before it is acknowledged, until a file has it.
//!
//! A folder of segments. Each one stands for itself: it describes a table before its first rows in it, so any that is no
//! longer needed can be removed, and one that is damaged takes no other one with it. Each record of rows has a number,
//! and each file says which numbers it has: so nothing is there twice after a crash in between.
//!
//! ```text
//! segment   "klrl" 1 0 0 0, then records
//! record    length (4 bytes), CRC-32 of what follows (4 bytes), both little end first; then
//!           1  a table: which one it is here, its name, for each column its name and kind
//!           2  rows: their number, of which table, a block; see `Block::write`
//! ```
//!
//! Many may wait for their bytes at once: one of them writes and syncs for all. What could not be written or synced is
//! kept and written again, at the same place, by the next one who waits: a disk that is full for a while loses nothing.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::block::Block;
use crate::bytes::{Reader, put, put_part};
use crate::lock;
use crate::table::{Kind, Table};

const MAGIC: &[u8; 8] = b"klrl\x01\0\0\0";
const TABLE: u8 = 1;
const ROWS: u8 = 2;
/// No record is longer.
const RECORD_MAX: usize = 64 << 20;
/// What is not on disk yet is at most about this much; then whoever appends waits for the disk.
const UNSYNCED_MAX: u64 = if cfg!(test) { 1 << 20 } else { 16 << 20 };

/// What the store needs of a disk.
pub trait Disk: Send + Sync {
    /// Writes all of some bytes at a place.
    fn write(&self, file: &File, bytes: &[u8], at: u64) -> io::Result<()> {
        file.write_all_at(bytes, at)
    }

    /// Waits until what was written is there for good.
    fn sync(&self, file: &File) -> io::Result<()> {
        file.sync_data()
    }

    /// Gives a file that was written its name.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }
}

/// A disk that does what it is told.
pub struct RealDisk;

impl Disk for RealDisk {}

/// Bytes of a segment that are not on disk yet, or not for sure.
struct Part {
    segment: u64,
    bytes: Vec<u8>,
}

#[derive(Clone, Copy, Default)]
struct Segment {
    newest: u64,
    bytes: u64,
}

struct Tail {
    segment: u64,
    /// The number of the last record of rows.
    newest: u64,
    pending: Vec<u8>,
    /// Tables that the segment describes.
    described: HashSet<usize>,
    /// Bytes since the start, and how many of them are on disk.
    appended: u64,
    synced: u64,
    synced_at: Option<Instant>,
    is_led: bool,
    queue: VecDeque<Part>,
    segments: BTreeMap<u64, Segment>,
}

/// The segment that is written to.
struct Open {
    segment: u64,
    file: File,
    synced: u64,
}

/// The log.
pub struct Wal {
    folder: PathBuf,
    disk: Arc<dyn Disk>,
    segment_max: u64,
    every: Option<Duration>,
    tail: Mutex<Tail>,
    moved: Condvar,
    open: Mutex<Option<Open>>,
}

impl Wal {
    /// Goes on in a folder, in a segment of its own, after what `found` says is there, and after a record number.
    pub fn new(
        folder: PathBuf,
        disk: Arc<dyn Disk>,
        segment_max: u64,
        every: Option<Duration>,
        found: Found,
        newest: u64,
    ) -> Self {
        let tail = Tail {
            segment: found.last + 1,
            newest: newest.max(found.newest),
            pending: Vec::new(),
            described: HashSet::new(),
            appended: 0,
            synced: 0,
            synced_at: None,
            is_led: false,
            queue: VecDeque::new(),
            segments: found.segments,
        };
        let (tail, moved, open) = (Mutex::new(tail), Condvar::new(), Mutex::new(None));
        Self { folder, disk, segment_max, every, tail, moved, open }
    }

    /// Makes sure that there is room for more before anything is accepted.
    pub fn room(&self) -> io::Result<()> {
        let tail = lock(&self.tail);
        if tail.appended - tail.synced <= UNSYNCED_MAX {
            return Ok(());
        }
        let upto = tail.appended;
        drop(tail);
        self.commit(upto)
    }

    /// Takes a block down as it was written by [`Block::write`]. Returns the number of the record, and that for which
    /// [`Wal::commit`] has returned when it is on disk.
    pub fn append(&self, which: usize, table: &Table, block: &[u8]) -> (u64, u64) {
        let mut tail = lock(&self.tail);
        let tail = &mut *tail;
        if tail.described.insert(which) {
            tail.record(|out| {
                out.push(TABLE);
                put(out, which as u64);
                put_part(out, table.name.as_bytes());
                put(out, table.columns.len() as u64);
                for column in &table.columns {
                    put_part(out, column.name.as_bytes());
                    out.push(column.kind as u8);
                }
            });
        }
        tail.newest += 1;
        let newest = tail.newest;
        tail.record(|out| {
            out.push(ROWS);
            put(out, newest);
            put(out, which as u64);
            out.extend_from_slice(block);
        });
        tail.segments.entry(tail.segment).or_default().newest = newest;
        (newest, tail.appended)
    }

    /// Waits until so many bytes are on disk, or writes them there.
    pub fn commit(&self, upto: u64) -> io::Result<()> {
        let mut tail = lock(&self.tail);
        loop {
            if tail.synced >= upto {
                return Ok(());
            }
            if tail.is_led {
                tail = self.moved.wait(tail).unwrap_or_else(PoisonError::into_inner);
                continue;
            }
            let rest = self.every.and_then(|every| every.checked_sub(tail.synced_at?.elapsed()));
            if let Some(rest) = rest.filter(|rest| !rest.is_zero()) {
                tail = self.moved.wait_timeout(tail, rest).unwrap_or_else(PoisonError::into_inner).0;
                continue;
            }
            tail.is_led = true;
            let target = tail.appended;
            tail.close_part(self.segment_max);
            let mut queue = std::mem::take(&mut tail.queue);
            drop(tail);
            let written = self.write_out(&mut queue);
            tail = lock(&self.tail);
            tail.is_led = false;
            queue.append(&mut tail.queue);
            tail.queue = queue;
            if written.is_ok() {
                tail.synced = target;
                tail.synced_at = Some(Instant::now());
            }
            self.moved.notify_all();
            written?;
        }
    }

    /// Writes parts and syncs; those that are there for good leave the queue.
    fn write_out(&self, queue: &mut VecDeque<Part>) -> io::Result<()> {
        let mut open = lock(&self.open);
        while let Some(segment) = queue.front().map(|part| part.segment) {
            let open = match &mut *open {
                Some(open) if open.segment == segment => open,
                other => other.insert(self.create(segment)?),
            };
            let mut at = open.synced;
            let mut count = 0;
            for part in queue.iter().take_while(|part| part.segment == segment) {
                self.disk.write(&open.file, &part.bytes, at)?;
                at += part.bytes.len() as u64;
                count += 1;
            }
            self.disk.sync(&open.file)?;
            open.synced = at;
            queue.drain(..count);
        }
        Ok(())
    }

    fn create(&self, segment: u64) -> io::Result<Open> {
        let path = self.folder.join(name(segment));
        let file = OpenOptions::new().write(true).create(true).truncate(true).open(path)?;
        self.disk.write(&file, MAGIC, 0)?;
        sync_folder(&self.folder)?;
        Ok(Open { segment, file, synced: MAGIC.len() as u64 })
    }

    /// What comes next goes to a new segment. Returns the number of the last record before it. Nobody appends meanwhile.
    pub fn turn(&self) -> u64 {
        let mut tail = lock(&self.tail);
        tail.close_part(0);
        tail.newest
    }

    /// Removes segments as long as files have all their rows: those until a number.
    pub fn forget(&self, upto: u64) -> io::Result<()> {
        let mut tail = lock(&self.tail);
        let tail = &mut *tail;
        while let Some((number, segment)) = tail.segments.first_key_value() {
            let number = *number;
            if number == tail.segment
                || segment.newest > upto
                || tail.queue.iter().any(|part| part.segment == number)
            {
                break;
            }
            match fs::remove_file(self.folder.join(name(number))) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => tail.segments.pop_first(),
            };
        }
        Ok(())
    }

    /// Waits until everything is on disk.
    pub fn commit_all(&self) -> io::Result<()> {
        let upto = lock(&self.tail).appended;
        self.commit(upto)
    }

    /// Bytes of all segments.
    pub fn bytes(&self) -> u64 {
        lock(&self.tail).segments.values().map(|segment| segment.bytes).sum()
    }
}

impl Tail {
    fn record(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        let begin = self.pending.len();
        self.pending.extend_from_slice(&[0; 8]);
        write(&mut self.pending);
        let payload = &self.pending[begin + 8..];
        let (length, seal) = (payload.len() as u32, crc32fast::hash(payload));
        self.pending[begin..begin + 4].copy_from_slice(&length.to_le_bytes());
        self.pending[begin + 4..begin + 8].copy_from_slice(&seal.to_le_bytes());
        let bytes = (self.pending.len() - begin) as u64;
        self.appended += bytes;
        self.segments.entry(self.segment).or_default().bytes += bytes;
    }

    /// What is pending is to be written; what comes after it goes to a new segment if this one has more than so many bytes.
    fn close_part(&mut self, segment_max: u64) {
        if !self.pending.is_empty() {
            let bytes = std::mem::take(&mut self.pending);
            self.queue.push_back(Part { segment: self.segment, bytes });
        }
        if self.segments.get(&self.segment).is_some_and(|segment| segment.bytes > segment_max) {
            self.segment += 1;
            self.described.clear();
        }
    }
}

fn name(segment: u64) -> String {
    format!("wal-{segment:010}")
}

/// Waits until the names in a folder are there for good.
pub fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

/// A table as the log describes it.
pub struct Described {
    pub name: String,
    pub columns: Vec<(String, Kind)>,
}

/// What was found in a log.
#[derive(Default)]
pub struct Found {
    segments: BTreeMap<u64, Segment>,
    last: u64,
    newest: u64,
    /// Bytes at the end of a segment that were half written, or are behind a damaged length.
    pub torn_bytes: u64,
    /// Records that are damaged, or cannot be understood because one before them is.
    pub skipped_records: u64,
    /// What was wrong, for people.
    pub notes: Vec<String>,
}

/// Reads all segments of a folder, gives each record with its number, and passes over what is torn or damaged.
pub fn replay(folder: &Path, to: &mut dyn FnMut(u64, &Described, Block)) -> io::Result<Found> {
    let mut found = Found::default();
    let mut numbers: Vec<u64> = Vec::new();
    for entry in fs::read_dir(folder)? {
        let name = entry?.file_name();
        numbers.extend(name.to_str().and_then(|name| name.strip_prefix("wal-")?.parse::<u64>().ok()));
    }
    numbers.sort_unstable();
    for number in numbers {
        found.last = number;
        let path = folder.join(name(number));
        let bytes = fs::read(&path)?;
        let Some(records) = bytes.strip_prefix(MAGIC) else {
            // The first bytes are written and synced with the first records: what has none acknowledged nothing.
            found.torn_bytes += bytes.len() as u64;
            if bytes.len() > MAGIC.len() {
                found.notes.push(format!("{}: not a segment of the log; left as it is", path.display()));
            } else {
                fs::remove_file(&path)?;
            }
            continue;
        };
        let mut left = Reader(records);
        let mut segment = Segment { newest: 0, bytes: records.len() as u64 };
        let mut tables = HashMap::new();
        while !left.0.is_empty() {
            let (at, rest) = (bytes.len() - left.0.len(), left.0.len());
            let Some((payload, is_whole)) = record(&mut left) else {
                found.torn_bytes += rest as u64;
                // A length that is damaged looks the same. Nobody writes here any more, so it is left to whoever wants to look.
                found.notes.push(format!("{}: {rest} torn bytes at {at} are passed over", path.display()));
                break;
            };
            if !is_whole && left.0.is_empty() {
                found.torn_bytes += rest as u64;
                found.notes.push(format!("{}: {rest} torn bytes at {at} are passed over", path.display()));
            } else if !is_whole || entry(payload, &mut tables, &mut segment.newest, to).is_none() {
                found.skipped_records += 1;
                found.notes.push(format!("{}: the record at {at} is damaged and is skipped", path.display()));
            }
        }
        found.newest = found.newest.max(segment.newest);
        found.segments.insert(number, segment);
    }
    Ok(found)
}

/// The payload of the next record, and whether it is as it was written; `None` if it is not all there.
fn record<'a>(from: &mut Reader<'a>) -> Option<(&'a [u8], bool)> {
    let length = usize::try_from(from.u32()?).ok().filter(|length| *length <= RECORD_MAX)?;
    let seal = from.u32()?;
    let payload = from.take(length)?;
    Some((payload, crc32fast::hash(payload) == seal))
}

fn entry(
    payload: &[u8],
    tables: &mut HashMap<usize, Described>,
    newest: &mut u64,
    to: &mut dyn FnMut(u64, &Described, Block),
) -> Option<()> {
    let mut from = Reader(payload);
    if from.byte()? == TABLE {
        let which = from.size()?;
        let text = |bytes: &[u8]| Some(std::str::from_utf8(bytes).ok()?.to_owned());
        let mut table = Described { name: text(from.part()?)?, columns: Vec::new() };
        for _ in 0..from.size()? {
            let name = text(from.part()?)?;
            table.columns.push((name, *Kind::ALL.get(usize::from(from.byte()?))?));
        }
        tables.insert(which, table);
        return Some(());
    }
    let number = from.number()?;
    *newest = number.max(*newest);
    let table = tables.get(&from.size()?)?;
    let kinds: Vec<Kind> = table.columns.iter().map(|(_, kind)| *kind).collect();
    to(number, table, Block::read(&mut from, &kinds)?);
    Some(())
}
