//! How a block is written: beside the others under a name that nobody reads, then named in one step.

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File};
use std::io::{self, BufWriter, Write as _};
use std::path::{Path, PathBuf};

use super::{CHUNKS_MAGIC, INDEX_MAGIC, Meta, name};
use crate::bytes::{put, put_part, put_signed};
use crate::chunk::Packer;
use crate::labels::Labels;
use crate::sample::Sample;
use crate::wal::sync_folder;

/// So many samples are packed at once.
const CHUNK: usize = 480;
/// How hard Zstandard tries: an index is written once in two hours.
const INDEX_LEVEL: i32 = 9;
/// A chunk with so many is taken as it is when blocks are merged.
const CHUNK_LARGE: usize = 240;

/// A block that is being written. Series come in the order of their labels.
pub struct Writer {
    parent: PathBuf,
    folder: PathBuf,
    chunks: BufWriter<File>,
    at: u64,
    symbols: HashMap<Box<str>, u64>,
    names: Vec<u8>,
    series: Vec<u8>,
    postings: BTreeMap<(u64, u64), Vec<u32>>,
    packer: Packer,
    loose: Vec<Sample>,
    directory: Vec<(i64, i64, Vec<u8>)>,
    meta: Meta,
}

impl Writer {
    pub fn new(parent: &Path, meta: Meta) -> io::Result<Self> {
        let folder = parent.join(format!("tmp-{}", name(meta.serial)));
        match fs::remove_dir_all(&folder) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => fs::create_dir(&folder)?,
        }
        let mut chunks = BufWriter::with_capacity(1 << 18, File::create(folder.join("chunks"))?);
        chunks.write_all(CHUNKS_MAGIC)?;
        Ok(Self {
            parent: parent.to_owned(),
            folder,
            chunks,
            at: CHUNKS_MAGIC.len() as u64,
            symbols: HashMap::new(),
            names: Vec::new(),
            series: Vec::new(),
            postings: BTreeMap::new(),
            packer: Packer::default(),
            loose: Vec::new(),
            directory: Vec::new(),
            meta,
        })
    }

    /// Samples of the series that is written, after those before.
    pub fn samples(&mut self, samples: &[Sample]) {
        self.loose.extend_from_slice(samples);
        while self.loose.len() >= CHUNK {
            self.pack(CHUNK);
        }
    }

    /// A packed chunk of the series that is written. `false`: it is better unpacked.
    pub fn chunk(&mut self, from_ms: i64, to_ms: i64, count: usize, bytes: &[u8]) -> bool {
        let is_taken = self.loose.is_empty() && count >= CHUNK_LARGE;
        if is_taken {
            self.meta.samples += count as u64;
            self.directory.push((from_ms, to_ms, bytes.to_vec()));
        }
        is_taken
    }

    fn pack(&mut self, count: usize) {
        let samples = &self.loose[..count.min(self.loose.len())];
        if let (Some(first), Some(last)) = (samples.first(), samples.last()) {
            self.directory.push((first.time_ms, last.time_ms, self.packer.pack(samples)));
            self.meta.samples += samples.len() as u64;
        }
        self.loose.drain(..count.min(self.loose.len()));
    }

    /// The series that was written is over.
    pub fn end(&mut self, labels: &Labels) -> io::Result<()> {
        self.pack(CHUNK);
        let (Some((from_ms, ..)), Some((_, to_ms, _))) = (self.directory.first(), self.directory.last())
        else {
            return Ok(());
        };
        let (from_ms, to_ms) = (*from_ms, *to_ms);
        let mut directory = Vec::new();
        put(&mut directory, self.directory.len() as u64);
        let mut last = from_ms;
        for (from_ms, to_ms, bytes) in &self.directory {
            put_signed(&mut directory, from_ms - last);
            put_signed(&mut directory, to_ms - from_ms);
            put(&mut directory, bytes.len() as u64);
            directory.extend_from_slice(&crc32fast::hash(bytes).to_le_bytes());
            last = *to_ms;
        }
        let seal = crc32fast::hash(&directory);
        directory.extend_from_slice(&seal.to_le_bytes());
        self.chunks.write_all(&directory)?;
        let mut length = directory.len() as u64;
        for (_, _, bytes) in self.directory.drain(..) {
            self.chunks.write_all(&bytes)?;
            length += bytes.len() as u64;
        }
        put(&mut self.series, labels.iter().count() as u64);
        for (name, value) in labels.iter() {
            let pair = (self.symbol(name), self.symbol(value));
            put(&mut self.series, pair.0);
            put(&mut self.series, pair.1);
            self.postings.entry(pair).or_default().push(self.meta.series as u32);
        }
        for number in [from_ms - self.meta.from_ms, to_ms - from_ms] {
            put_signed(&mut self.series, number);
        }
        put(&mut self.series, directory.len() as u64);
        put(&mut self.series, length);
        self.at += length;
        self.meta.series += 1;
        Ok(())
    }

    fn symbol(&mut self, text: &str) -> u64 {
        if let Some(number) = self.symbols.get(text) {
            return *number;
        }
        let number = self.symbols.len() as u64;
        self.symbols.insert(text.into(), number);
        put_part(&mut self.names, text.as_bytes());
        number
    }

    /// Waits until all of it is on disk, and names it.
    pub fn finish(mut self) -> io::Result<PathBuf> {
        self.chunks.flush()?;
        self.chunks.get_ref().sync_all()?;
        let mut index = Vec::new();
        put(&mut index, self.symbols.len() as u64);
        index.append(&mut self.names);
        put(&mut index, self.meta.series);
        index.append(&mut self.series);
        put(&mut index, self.postings.len() as u64);
        for ((name, value), list) in &self.postings {
            put(&mut index, *name);
            put(&mut index, *value);
            put(&mut index, list.len() as u64);
            let mut last = 0;
            for series in list {
                put(&mut index, u64::from(series - last));
                last = *series;
            }
        }
        if index.len() > super::INDEX_MAX {
            let what = format!("the index of a block has {} bytes, more than it may", index.len());
            return Err(io::Error::new(io::ErrorKind::InvalidData, what));
        }
        let mut packed = INDEX_MAGIC.to_vec();
        put(&mut packed, index.len() as u64);
        packed.extend_from_slice(&zstd::bulk::compress(&index, INDEX_LEVEL)?);
        let seal = crc32fast::hash(&packed);
        packed.extend_from_slice(&seal.to_le_bytes());
        self.meta.chunks_bytes = self.at;
        self.meta.index_seal = seal;
        for (file, bytes) in [("index", &packed), ("meta", &self.meta.write().into_bytes())] {
            let mut file = File::create(self.folder.join(file))?;
            file.write_all(bytes)?;
            file.sync_all()?;
        }
        sync_folder(&self.folder)?;
        let folder = self.parent.join(name(self.meta.serial));
        fs::rename(&self.folder, &folder)?;
        sync_folder(&self.parent)?;
        Ok(folder)
    }
}
