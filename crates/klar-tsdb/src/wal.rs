//! The log: what was accepted is on disk here before it is acknowledged, until a block has it.
//!
//! A folder of segments. Each one stands for itself: it names a series before its first sample in it, so any that is
//! no longer needed can be removed, and one that is damaged takes no other one with it.
//!
//! ```text
//! segment   "klrw" 1 0 0 0, then records
//! record    length (4 bytes), CRC-32 of what follows (4 bytes), both little end first; then
//!           byte      1 samples, 2 deletions
//!           number    how many series are named; for each the length of its labels, and these
//!           number    how many entries follow, see `Coder` and `Wal::delete`
//! ```
//!
//! Many may wait for their bytes at once: one of them writes and syncs for all. What could not be written or synced is
//! kept and written again, at the same place, by the next one who waits: a disk that is full for a while loses nothing.

use std::collections::{BTreeMap, VecDeque};
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use crate::bytes::{Reader, put, put_part, put_signed};
use crate::labels::Labels;
use crate::lock;
use crate::sample::Sample;

const MAGIC: &[u8; 8] = b"klrw\x01\0\0\0";
const SAMPLES: u8 = 1;
const DELETIONS: u8 = 2;
/// No record is longer.
const RECORD_MAX: usize = 64 << 20;
/// What is not on disk yet is at most about this much; then whoever appends waits for the disk.
const UNSYNCED_MAX: u64 = if cfg!(test) { 1 << 20 } else { 16 << 20 };

/// What the log needs of a disk.
pub trait Disk: Send + Sync {
    /// Writes all of some bytes at a place.
    fn write(&self, file: &File, bytes: &[u8], at: u64) -> io::Result<()> {
        file.write_all_at(bytes, at)
    }

    /// Waits until what was written is there for good.
    fn sync(&self, file: &File) -> io::Result<()> {
        file.sync_data()
    }
}

/// A disk that does what it is told.
pub struct RealDisk;

impl Disk for RealDisk {}

/// A series, as the log knows it: a place of its own among all that are known at a time, and a name for good.
#[derive(Clone, Copy)]
pub struct Known<'a> {
    pub slot: u32,
    pub reference: u64,
    pub labels: &'a Labels,
}

/// What the log knows of the series in a slot.
#[derive(Clone, Copy, Default)]
struct Mark {
    reference: u64,
    segment: u64,
    local: u32,
    bits: u64,
}

/// How samples are written. Each has a byte for what is not said because it is as expected:
///
/// - bits 0 and 1, series: 0 the next one, 1 the same, 2 so many further on
/// - bits 2 and 3, time: 0 the same, 1 as far from the last as that from the one before it, 2 so much later
/// - bits 4 and 5, value: 0 the last one of this series, 1 a whole number, so much more than that, 2 its bits
#[derive(Default)]
struct Coder {
    local: u32,
    time_ms: i64,
    step: i64,
}

fn whole(value: f64) -> Option<i64> {
    let number = value as i64;
    (number.unsigned_abs() < 1 << 53 && (number as f64).to_bits() == value.to_bits()).then_some(number)
}

impl Coder {
    fn write(&mut self, out: &mut Vec<u8>, local: u32, last: u64, sample: Sample) {
        let at = out.len();
        out.push(0);
        let mut tag = 0;
        let further = i64::from(local) - i64::from(self.local);
        match further {
            1 => {}
            0 => tag |= 1,
            _ => {
                tag |= 2;
                put_signed(out, further);
            }
        }
        let step = sample.time_ms.wrapping_sub(self.time_ms);
        if step == 0 {
        } else if step == self.step {
            tag |= 1 << 2;
        } else {
            tag |= 2 << 2;
            put_signed(out, step);
            self.step = step;
        }
        let bits = sample.value.to_bits();
        if bits == last {
        } else if let (Some(number), Some(last)) = (whole(sample.value), whole(f64::from_bits(last))) {
            tag |= 1 << 4;
            put_signed(out, number - last);
        } else {
            tag |= 2 << 4;
            out.extend_from_slice(&bits.to_le_bytes());
        }
        out[at] = tag;
        (self.local, self.time_ms) = (local, sample.time_ms);
    }

    /// The series and the sample. `last`: what the last value of a series was.
    fn read(&mut self, from: &mut Reader, last: impl Fn(u32) -> Option<u64>) -> Option<(u32, Sample)> {
        let tag = from.byte()?;
        let further = match tag & 3 {
            0 => 1,
            1 => 0,
            _ => from.signed()?,
        };
        self.local = u32::try_from(i64::from(self.local).checked_add(further)?).ok()?;
        let step = match tag >> 2 & 3 {
            0 => 0,
            1 => self.step,
            _ => {
                self.step = from.signed()?;
                self.step
            }
        };
        self.time_ms = self.time_ms.wrapping_add(step);
        let last = last(self.local)?;
        let value = match tag >> 4 {
            0 => f64::from_bits(last),
            1 => whole(f64::from_bits(last))?.checked_add(from.signed()?)? as f64,
            _ => f64::from_bits(from.u64()?),
        };
        Some((self.local, Sample { time_ms: self.time_ms, value }))
    }
}

/// Bytes of a segment that are not on disk yet, or not for sure.
struct Part {
    segment: u64,
    bytes: Vec<u8>,
}

#[derive(Clone, Copy)]
struct Segment {
    newest_ms: i64,
    bytes: u64,
}

struct Tail {
    segment: u64,
    pending: Vec<u8>,
    marks: Vec<Mark>,
    named: u32,
    entries: Vec<u8>,
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
    /// Goes on in a folder, in a segment of its own, after what `found` says is there.
    pub fn new(
        folder: PathBuf,
        disk: Arc<dyn Disk>,
        segment_max: u64,
        every: Option<Duration>,
        found: Found,
    ) -> Self {
        let segment = found.segments.last_key_value().map_or(0, |(number, _)| *number).max(found.last) + 1;
        let tail = Tail {
            segment,
            pending: Vec::new(),
            marks: Vec::new(),
            named: 0,
            entries: Vec::new(),
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

    /// Takes samples down. They are on disk when [`Wal::commit`] has returned for the number that is returned here.
    pub fn append<'a>(&self, samples: impl Iterator<Item = (Known<'a>, Sample)>) -> u64 {
        let mut tail = lock(&self.tail);
        let tail = &mut *tail;
        tail.entries.clear();
        let mut coder = Coder::default();
        let (mut names, mut count, mut newest_ms) = (Vec::new(), 0_u64, i64::MIN);
        let mut named = 0;
        for (series, sample) in samples {
            let (local, last) = tail.mark(series, sample.value.to_bits(), &mut names, &mut named);
            coder.write(&mut tail.entries, local, last, sample);
            newest_ms = newest_ms.max(sample.time_ms);
            count += 1;
        }
        if count > 0 {
            tail.end(SAMPLES, named, &names, count, newest_ms);
        }
        tail.appended
    }

    /// Takes down that samples of some series are deleted: for each the number of the series, from when, until when.
    pub fn delete<'a>(&self, series: impl Iterator<Item = Known<'a>>, from_ms: i64, to_ms: i64) -> u64 {
        let mut tail = lock(&self.tail);
        let tail = &mut *tail;
        tail.entries.clear();
        let (mut names, mut named, mut count) = (Vec::new(), 0, 0);
        for one in series {
            // Its last value in this segment stays what it was, and that is 0 where it was not named yet.
            let (local, last) = tail.mark(one, 0, &mut names, &mut named);
            tail.marks[one.slot as usize].bits = last;
            put(&mut tail.entries, u64::from(local));
            put_signed(&mut tail.entries, from_ms);
            put_signed(&mut tail.entries, to_ms);
            count += 1;
        }
        if count > 0 {
            tail.end(DELETIONS, named, &names, count, i64::MIN);
        }
        tail.appended
    }

    /// Waits until so many bytes are on disk, or writes them there.
    pub fn commit(&self, upto: u64) -> io::Result<()> {
        let mut tail = lock(&self.tail);
        loop {
            if tail.synced >= upto {
                return Ok(());
            }
            if tail.is_led {
                tail = self.moved.wait(tail).unwrap_or_else(std::sync::PoisonError::into_inner);
                continue;
            }
            let rest = self.every.and_then(|every| every.checked_sub(tail.synced_at?.elapsed()));
            if let Some(rest) = rest.filter(|rest| !rest.is_zero()) {
                let waited = self.moved.wait_timeout(tail, rest);
                tail = waited.unwrap_or_else(std::sync::PoisonError::into_inner).0;
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

    /// Waits until everything is on disk.
    pub fn commit_all(&self) -> io::Result<()> {
        let upto = lock(&self.tail).appended;
        self.commit(upto)
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
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .open(self.folder.join(name(segment)))?;
        self.disk.write(&file, MAGIC, 0)?;
        sync_folder(&self.folder)?;
        Ok(Open { segment, file, synced: MAGIC.len() as u64 })
    }

    /// Removes the oldest segments as long as all their samples are before a time, and what comes next goes to a new one.
    pub fn forget_before(&self, time_ms: i64) -> io::Result<()> {
        self.commit_all()?;
        let mut tail = lock(&self.tail);
        let tail = &mut *tail;
        tail.close_part(0);
        while let Some((number, segment)) = tail.segments.first_key_value() {
            let is_needed = *number == tail.segment || segment.newest_ms >= time_ms;
            if is_needed || tail.queue.iter().any(|part| part.segment == *number) {
                break;
            }
            match fs::remove_file(self.folder.join(name(*number))) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => tail.segments.pop_first(),
            };
        }
        Ok(())
    }

    /// Bytes of all segments.
    pub fn bytes(&self) -> u64 {
        lock(&self.tail).segments.values().map(|segment| segment.bytes).sum()
    }
}

impl Tail {
    /// What a series is called in this segment, and its last value there; it is named if it was not yet.
    fn mark(&mut self, series: Known, bits: u64, names: &mut Vec<u8>, named: &mut u64) -> (u32, u64) {
        let slot = series.slot as usize;
        if slot >= self.marks.len() {
            self.marks.resize(slot + 1, Mark::default());
        }
        let mark = &mut self.marks[slot];
        if mark.segment != self.segment || mark.reference != series.reference {
            *mark = Mark { reference: series.reference, segment: self.segment, local: self.named, bits: 0 };
            self.named += 1;
            put_part(names, series.labels.bytes());
            *named += 1;
        }
        (mark.local, std::mem::replace(&mut mark.bits, bits))
    }

    fn end(&mut self, kind: u8, named: u64, names: &[u8], count: u64, newest_ms: i64) {
        let begin = self.pending.len();
        self.pending.extend_from_slice(&[0; 8]);
        self.pending.push(kind);
        put(&mut self.pending, named);
        self.pending.extend_from_slice(names);
        put(&mut self.pending, count);
        self.pending.extend_from_slice(&self.entries);
        let payload = &self.pending[begin + 8..];
        let (length, seal) = (payload.len() as u32, crc32fast::hash(payload));
        self.pending[begin..begin + 4].copy_from_slice(&length.to_le_bytes());
        self.pending[begin + 4..begin + 8].copy_from_slice(&seal.to_le_bytes());
        let bytes = (self.pending.len() - begin) as u64;
        self.appended += bytes;
        let segment = self.segments.entry(self.segment).or_insert(Segment { newest_ms, bytes: 0 });
        segment.newest_ms = segment.newest_ms.max(newest_ms);
        segment.bytes += bytes;
    }

    /// What is pending is to be written; what comes after it goes to a new segment if this one has more than so many bytes.
    fn close_part(&mut self, segment_max: u64) {
        if !self.pending.is_empty() {
            let bytes = std::mem::take(&mut self.pending);
            self.queue.push_back(Part { segment: self.segment, bytes });
        }
        if self.segments.get(&self.segment).is_some_and(|segment| segment.bytes > segment_max) {
            self.segment += 1;
            self.named = 0;
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

/// Who is told what the log holds, oldest first.
pub trait Replay {
    /// What a series is called there.
    type Series;

    /// A series is named.
    fn series(&mut self, labels: Labels) -> Self::Series;
    /// A sample of it.
    fn sample(&mut self, series: &Self::Series, sample: Sample);
    /// Its samples of a time were deleted.
    fn delete(&mut self, series: &Self::Series, from_ms: i64, to_ms: i64);
}

/// What was found in a log.
#[derive(Default)]
pub struct Found {
    segments: BTreeMap<u64, Segment>,
    last: u64,
    /// Records that were whole.
    pub records: u64,
    /// Bytes at the end of a segment that were half written, or are behind a damaged length.
    pub torn_bytes: u64,
    /// Records behind a damaged one in the same segment, as far as they can be told apart, and that one.
    pub skipped_records: u64,
    /// Their bytes.
    pub skipped_bytes: u64,
    /// What was wrong, for people.
    pub notes: Vec<String>,
}

/// Reads all segments of a folder, and passes over what is torn.
pub fn replay<R: Replay>(folder: &Path, to: &mut R) -> io::Result<Found> {
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
        let mut segment = Segment { newest_ms: i64::MIN, bytes: records.len() as u64 };
        let mut known: Vec<(R::Series, u64)> = Vec::new();
        while !left.0.is_empty() {
            let before = left;
            let is_read = record(&mut left)
                .and_then(|payload| entries(payload, &mut known, &mut segment.newest_ms, to));
            if is_read.is_some() {
                found.records += 1;
                continue;
            }
            let at = bytes.len() - before.0.len();
            let rest = before.0.len() as u64;
            match behind(before) {
                0 => {
                    found.torn_bytes += rest;
                    // A length that is damaged looks the same, and then there are good records in it: nobody writes here any
                    // more, so it is left to whoever wants to look.
                    found
                        .notes
                        .push(format!("{}: {rest} torn bytes at {at} are passed over", path.display()));
                }
                whole => {
                    found.skipped_records += whole + 1;
                    found.skipped_bytes += rest;
                    found.notes.push(format!(
                        "{}: the record at {at} is damaged; it and {whole} behind it are skipped",
                        path.display()
                    ));
                }
            }
            break;
        }
        found.segments.insert(number, segment);
    }
    Ok(found)
}

/// The payload of the next record, if it is whole.
fn record<'a>(from: &mut Reader<'a>) -> Option<&'a [u8]> {
    let length = usize::try_from(from.u32()?).ok().filter(|length| *length <= RECORD_MAX)?;
    let seal = from.u32()?;
    let payload = from.take(length)?;
    (crc32fast::hash(payload) == seal).then_some(payload)
}

/// How many whole records there are behind a damaged one, if its length still says where they begin.
fn behind(mut from: Reader) -> u64 {
    let mut whole = 0;
    while let Some(length) = from.u32() {
        let Some(seal) = from.u32() else { break };
        let Some(payload) = from.take(length as usize) else { break };
        whole += u64::from(crc32fast::hash(payload) == seal && !payload.is_empty());
    }
    whole
}

fn entries<R: Replay>(
    payload: &[u8],
    known: &mut Vec<(R::Series, u64)>,
    newest_ms: &mut i64,
    to: &mut R,
) -> Option<()> {
    let mut from = Reader(payload);
    let kind = from.byte()?;
    for _ in 0..from.size()? {
        known.push((to.series(Labels::from_bytes(from.part()?)?), 0));
    }
    let count = from.size()?;
    let mut coder = Coder::default();
    for _ in 0..count {
        if kind == SAMPLES {
            let last = |local: u32| known.get(local as usize).map(|(_, bits)| *bits);
            let (local, sample) = coder.read(&mut from, last)?;
            let (series, bits) = known.get_mut(local as usize)?;
            *bits = sample.value.to_bits();
            *newest_ms = sample.time_ms.max(*newest_ms);
            to.sample(series, sample);
        } else {
            let (series, _) = known.get(from.size()?)?;
            to.delete(series, from.signed()?, from.signed()?);
        }
    }
    from.0.is_empty().then_some(())
}
