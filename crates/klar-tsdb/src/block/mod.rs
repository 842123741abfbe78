//! Blocks: samples of a time that is over, in a folder that never changes.
//!
//! ```text
//! meta        text: from, to (not included), serial, sources, series, samples, sizes, seals
//! chunks      "klrc" 1 0 0 0, then for each series a directory (for each chunk: how long after the last one it begins,
//!             how long it lasts, its length, its CRC-32; at the end the directory's CRC-32) and its chunks
//! index       "klri" 2 0 0 0, how long the following is unpacked, and, packed with Zstandard,
//!             symbols   all names and values of labels
//!             series    sorted by labels; for each its labels as numbers of symbols, its first and its last time,
//!                       the lengths of its directory and of all it has in `chunks`, where it comes after the one before
//!             postings  for each label the numbers of the series that have it, as steps
//!             at the end the CRC-32 of all before it
//! tombstones  what was deleted since: the number of a series, from when, until when; CRC-32 first. Its own file, so
//!             that the others never change
//! ```
//!
//! The index is read when somebody asks for something in the block, and forgotten when nobody has for a while.

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, RwLock};

use crate::bytes::{Reader, put, put_signed};
use crate::chunk::Unpacker;
use crate::labels::Labels;
use crate::matcher::Matcher;
use crate::postings::{Postings, matching};
use crate::sample::Sample;
use crate::select::Part;
use crate::series::trim;
use crate::store::{Error, at};
use crate::wal::sync_folder;
use crate::{lock, read, write};

mod write;

pub use write::Writer;

const CHUNKS_MAGIC: &[u8; 8] = b"klrc\x01\0\0\0";
const INDEX_MAGIC: &[u8; 8] = b"klri\x02\0\0\0";
/// How long an index may be, in bytes.
const INDEX_MAX: usize = 1 << 30;
/// What a series has in a block is read at once if it is at most so long.
const AT_ONCE: u64 = 32 << 10;

/// The name of a block's folder.
pub fn name(serial: u64) -> String {
    format!("block-{serial:010}")
}

/// What is known of a block without reading it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Meta {
    pub serial: u64,
    pub from_ms: i64,
    /// Not included.
    pub to_ms: i64,
    pub series: u64,
    pub samples: u64,
    pub chunks_bytes: u64,
    pub index_seal: u32,
    /// The blocks that it stands for. If one of them is still there, it is to go.
    pub sources: Vec<u64>,
}

impl Meta {
    fn write(&self) -> String {
        let sources: Vec<String> = self.sources.iter().map(u64::to_string).collect();
        let text = format!(
            "format = 1\nserial = {}\nfrom_ms = {}\nto_ms = {}\nseries = {}\nsamples = {}\nchunks_bytes = {}\nindex_seal = {}\nsources = {}\n",
            self.serial,
            self.from_ms,
            self.to_ms,
            self.series,
            self.samples,
            self.chunks_bytes,
            self.index_seal,
            sources.join(" ")
        );
        let seal = crc32fast::hash(text.as_bytes());
        format!("{text}seal = {seal}\n")
    }

    fn read(text: &str) -> Option<Self> {
        let (body, seal) = text.rsplit_once("seal = ")?;
        if seal.trim().parse() != Ok(crc32fast::hash(body.as_bytes())) {
            return None;
        }
        let fields: HashMap<&str, &str> = body.lines().filter_map(|line| line.split_once(" = ")).collect();
        let number = |name: &str| fields.get(name)?.parse().ok();
        let time = |name: &str| fields.get(name)?.parse().ok();
        let sources = fields.get("sources")?.split_whitespace().map(str::parse).collect::<Result<_, _>>();
        (fields.get("format") == Some(&"1")).then_some(Self {
            serial: number("serial")?,
            from_ms: time("from_ms")?,
            to_ms: time("to_ms")?,
            series: number("series")?,
            samples: number("samples")?,
            chunks_bytes: number("chunks_bytes")?,
            index_seal: u32::try_from(number("index_seal")?).ok()?,
            sources: sources.ok()?,
        })
    }
}

struct Entry {
    labels: Labels,
    from_ms: i64,
    to_ms: i64,
    at: u64,
    directory: u64,
    length: u64,
}

/// The index, unpacked.
struct Index {
    series: Vec<Entry>,
    names: BTreeMap<Box<str>, BTreeMap<Box<str>, Vec<u32>>>,
}

impl Index {
    fn read(bytes: &[u8], meta: &Meta) -> Option<Self> {
        let (body, seal) = bytes.split_last_chunk::<4>()?;
        if crc32fast::hash(body) != u32::from_le_bytes(*seal) || u32::from_le_bytes(*seal) != meta.index_seal
        {
            return None;
        }
        let mut packed = Reader(body.strip_prefix(INDEX_MAGIC)?);
        let length = packed.size().filter(|length| *length <= INDEX_MAX)?;
        let unpacked = zstd::bulk::decompress(packed.0, length).ok()?;
        let mut from = Reader(&unpacked);
        let mut symbols: Vec<&str> = Vec::new();
        for _ in 0..from.size()? {
            symbols.push(std::str::from_utf8(from.part()?).ok()?);
        }
        let mut series = Vec::new();
        let mut at = CHUNKS_MAGIC.len() as u64;
        for _ in 0..from.size()? {
            let mut pairs = Vec::new();
            for _ in 0..from.size()? {
                pairs.push((*symbols.get(from.size()?)?, *symbols.get(from.size()?)?));
            }
            let labels = Labels::new(pairs).ok()?;
            let from_ms = meta.from_ms.checked_add(from.signed()?)?;
            let to_ms = from_ms.checked_add(from.signed()?)?;
            let (directory, length) = (from.number()?, from.number()?);
            series.push(Entry { labels, from_ms, to_ms, at, directory, length });
            at = at.checked_add(length)?;
        }
        let mut names: BTreeMap<Box<str>, BTreeMap<Box<str>, Vec<u32>>> = BTreeMap::new();
        for _ in 0..from.size()? {
            let (name, value) = (*symbols.get(from.size()?)?, *symbols.get(from.size()?)?);
            let mut list = Vec::new();
            let mut last = 0_u64;
            for _ in 0..from.size()? {
                last = last.checked_add(from.number()?)?;
                list.push(u32::try_from(last).ok().filter(|number| (*number as usize) < series.len())?);
            }
            names.entry(name.into()).or_default().insert(value.into(), list);
        }
        Some(Self { series, names })
    }
}

impl Postings for Index {
    fn all(&self) -> Vec<u32> {
        (0..self.series.len() as u32).collect()
    }

    fn with(&self, name: &str, value: &str) -> Vec<u32> {
        self.names.get(name).and_then(|values| values.get(value)).cloned().unwrap_or_default()
    }

    fn where_value(&self, name: &str, takes: &mut dyn FnMut(&str) -> bool, out: &mut Vec<u32>) {
        for (value, list) in self.names.get(name).into_iter().flatten() {
            if takes(value) {
                out.extend_from_slice(list);
            }
        }
    }
}

type Gone = HashMap<u32, Vec<(i64, i64)>>;

/// A block.
pub struct Block {
    pub folder: PathBuf,
    pub meta: Meta,
    /// Of all its files.
    pub bytes: u64,
    chunks: File,
    index: Mutex<Option<Arc<Index>>>,
    is_used: AtomicBool,
    gone: RwLock<Gone>,
}

impl Block {
    /// Opens the block of a folder.
    pub fn open(folder: &Path) -> Result<Arc<Self>, Error> {
        let io = at(folder);
        let damaged = |what| Error::Damaged { path: folder.to_owned(), what };
        let meta = fs::read_to_string(folder.join("meta")).map_err(&io)?;
        let meta = Meta::read(&meta).ok_or_else(|| damaged("its meta"))?;
        let chunks = File::open(folder.join("chunks")).map_err(&io)?;
        let length = chunks.metadata().map_err(&io)?.len();
        if length != meta.chunks_bytes {
            return Err(damaged("its chunks have another length"));
        }
        let gone = match fs::read(folder.join("tombstones")) {
            Ok(bytes) => read_gone(&bytes).ok_or_else(|| damaged("its tombstones"))?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Gone::new(),
            Err(error) => return Err(io(error)),
        };
        let index = fs::metadata(folder.join("index")).map_err(&io)?.len();
        Ok(Arc::new(Self {
            folder: folder.to_owned(),
            bytes: length + index,
            meta,
            chunks,
            index: Mutex::new(None),
            is_used: AtomicBool::new(false),
            gone: RwLock::new(gone),
        }))
    }

    fn index(&self) -> Result<Arc<Index>, Error> {
        self.is_used.store(true, Ordering::Relaxed);
        let mut kept = lock(&self.index);
        if let Some(index) = &*kept {
            return Ok(index.clone());
        }
        let bytes = fs::read(self.folder.join("index")).map_err(at(&self.folder))?;
        let index = Index::read(&bytes, &self.meta).map(Arc::new);
        let index = index.ok_or_else(|| Error::Damaged { path: self.folder.clone(), what: "its index" })?;
        *kept = Some(index.clone());
        Ok(index)
    }

    /// Forgets the index if nobody has used it since the last time.
    pub fn rest(&self) {
        if !self.is_used.swap(false, Ordering::Relaxed) {
            *lock(&self.index) = None;
        }
    }

    /// Whether something of it was deleted.
    pub fn has_tombstones(&self) -> bool {
        !read(&self.gone).is_empty()
    }

    /// The series that all matchers take and that have something of a time, in the order of their labels.
    pub fn select(
        self: &Arc<Self>,
        matchers: &[Matcher],
        from_ms: i64,
        to_ms: i64,
        out: &mut Vec<(Labels, Part)>,
    ) -> Result<(), Error> {
        let index = self.index()?;
        let gone = read(&self.gone);
        for number in matching(&*index, matchers) {
            let Some(entry) = index.series.get(number as usize) else { continue };
            if entry.from_ms <= to_ms && entry.to_ms >= from_ms {
                out.push((entry.labels.clone(), Part::Block(self.region(entry, number, &gone))));
            }
        }
        Ok(())
    }

    /// All series, in the order of their labels.
    pub fn regions(self: &Arc<Self>) -> Result<Vec<(Labels, Region)>, Error> {
        let index = self.index()?;
        let gone = read(&self.gone);
        let regions = (0..).zip(&index.series);
        Ok(regions.map(|(number, entry)| (entry.labels.clone(), self.region(entry, number, &gone))).collect())
    }

    fn region(self: &Arc<Self>, entry: &Entry, number: u32, gone: &Gone) -> Region {
        Region {
            block: self.clone(),
            at: entry.at,
            directory: entry.directory,
            length: entry.length,
            from_ms: entry.from_ms,
            gone: gone.get(&number).cloned().unwrap_or_default(),
        }
    }

    /// Deletes samples from a time until another one, both included: they are not read any more, and gone from disk
    /// when the block is written anew.
    pub fn delete(&self, matchers: &[Matcher], from_ms: i64, to_ms: i64) -> Result<(), Error> {
        let index = self.index()?;
        let mut all = read(&self.gone).clone();
        let mut is_changed = false;
        for number in matching(&*index, matchers) {
            let entry = index.series.get(number as usize);
            if entry.is_some_and(|entry| entry.from_ms <= to_ms && entry.to_ms >= from_ms) {
                all.entry(number).or_default().push((from_ms, to_ms));
                is_changed = true;
            }
        }
        if !is_changed {
            return Ok(());
        }
        let mut body = Vec::new();
        put(&mut body, all.values().map(Vec::len).sum::<usize>() as u64);
        for (number, times) in &all {
            for (from_ms, to_ms) in times {
                put(&mut body, u64::from(*number));
                put_signed(&mut body, *from_ms);
                put_signed(&mut body, *to_ms);
            }
        }
        let write_all = || {
            let temporary = self.folder.join("tmp-tombstones");
            let mut file = File::create(&temporary)?;
            file.write_all(&crc32fast::hash(&body).to_le_bytes())?;
            file.write_all(&body)?;
            file.sync_all()?;
            fs::rename(temporary, self.folder.join("tombstones"))?;
            sync_folder(&self.folder)
        };
        write_all().map_err(at(&self.folder))?;
        *write(&self.gone) = all;
        Ok(())
    }
}

fn read_gone(bytes: &[u8]) -> Option<Gone> {
    let mut from = Reader(bytes);
    if from.u32()? != crc32fast::hash(from.0) {
        return None;
    }
    let mut gone = Gone::new();
    for _ in 0..from.size()? {
        let number = u32::try_from(from.number()?).ok()?;
        gone.entry(number).or_default().push((from.signed()?, from.signed()?));
    }
    Some(gone)
}

/// What a series has in a block.
pub struct Region {
    block: Arc<Block>,
    at: u64,
    directory: u64,
    length: u64,
    from_ms: i64,
    gone: Vec<(i64, i64)>,
}

impl Region {
    /// Gives its packed chunks that have something of a time, with their times and how many samples they have.
    fn chunks(
        &self,
        from_ms: i64,
        to_ms: i64,
        mut take: impl FnMut(i64, i64, usize, &[u8]) -> Option<()>,
    ) -> Result<(), Error> {
        let damaged = || Error::Damaged { path: self.block.folder.clone(), what: "a chunk" };
        let read = |begin: u64, end: u64| {
            if end > self.length || begin > end {
                return Err(damaged());
            }
            let mut bytes = vec![0; (end - begin) as usize];
            self.block.chunks.read_exact_at(&mut bytes, self.at + begin).map_err(at(&self.block.folder))?;
            Ok(bytes)
        };
        let first = read(0, if self.length <= AT_ONCE { self.length } else { self.directory })?;
        let directory = first.get(..self.directory as usize).ok_or_else(damaged)?;
        let chunks = directory_of(directory, self.from_ms, self.directory).ok_or_else(damaged)?;
        let wanted: Vec<&Chunk> =
            chunks.iter().filter(|chunk| chunk.from_ms <= to_ms && chunk.to_ms >= from_ms).collect();
        let (Some(begin), Some(last)) = (wanted.first(), wanted.last()) else { return Ok(()) };
        let (begin, bytes) = if self.length <= AT_ONCE {
            (0, first)
        } else {
            (begin.at, read(begin.at, last.at + last.length)?)
        };
        for chunk in wanted {
            let place = (chunk.at - begin) as usize;
            let packed = bytes.get(place..place + chunk.length as usize).ok_or_else(damaged)?;
            if crc32fast::hash(packed) != chunk.seal {
                return Err(damaged());
            }
            let count = Reader(packed).size().ok_or_else(damaged)?;
            take(chunk.from_ms, chunk.to_ms, count, packed).ok_or_else(damaged)?;
        }
        Ok(())
    }

    /// Unpacks its samples behind what `out` holds, from a time until another one, both included.
    pub fn read(
        &self,
        from_ms: i64,
        to_ms: i64,
        unpacker: &mut Unpacker,
        out: &mut Vec<Sample>,
    ) -> Result<(), Error> {
        let begin = out.len();
        self.chunks(from_ms, to_ms, |_, _, _, packed| unpacker.unpack(packed, out))?;
        if !self.gone.is_empty() {
            let mut kept = out.split_off(begin);
            kept.retain(|sample| !self.is_gone(sample.time_ms, sample.time_ms));
            out.append(&mut kept);
        }
        trim(out, begin, from_ms, to_ms);
        Ok(())
    }

    fn is_gone(&self, from_ms: i64, to_ms: i64) -> bool {
        self.gone.iter().any(|(from, to)| *from <= to_ms && *to >= from_ms)
    }

    /// Writes what is left of it to another block.
    pub fn write_to(&self, writer: &mut Writer, unpacker: &mut Unpacker) -> Result<(), Error> {
        let mut samples = Vec::new();
        self.chunks(i64::MIN, i64::MAX, |from_ms, to_ms, count, packed| {
            if self.is_gone(from_ms, to_ms) || !writer.chunk(from_ms, to_ms, count, packed) {
                samples.clear();
                unpacker.unpack(packed, &mut samples)?;
                samples.retain(|sample| !self.is_gone(sample.time_ms, sample.time_ms));
                writer.samples(&samples);
            }
            Some(())
        })
    }
}

struct Chunk {
    from_ms: i64,
    to_ms: i64,
    at: u64,
    length: u64,
    seal: u32,
}

fn directory_of(bytes: &[u8], from_ms: i64, mut at: u64) -> Option<Vec<Chunk>> {
    let (body, seal) = bytes.split_last_chunk::<4>()?;
    if crc32fast::hash(body) != u32::from_le_bytes(*seal) {
        return None;
    }
    let mut from = Reader(body);
    let mut chunks = Vec::new();
    let mut last = from_ms;
    for _ in 0..from.size()? {
        let from_ms = last.checked_add(from.signed()?)?;
        let to_ms = from_ms.checked_add(from.signed()?)?;
        let length = from.number()?;
        chunks.push(Chunk { from_ms, to_ms, at, length, seal: from.u32()? });
        at = at.checked_add(length)?;
        last = to_ms;
    }
    Some(chunks)
}
