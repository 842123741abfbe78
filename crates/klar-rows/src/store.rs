//! The store: what is accepted, and where it is until somebody asks.
//!
//! Rows go to the log and to memory in one step under a lock that others share; [`Store::commit`] says when they are on
//! disk. [`Store::maintain`] writes what is in memory to files. Whoever reads holds on to blocks and files, and then
//! needs no lock.

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, RwLock, Weak};
use std::time::Duration;

use nix::fcntl::{Flock, FlockArg};

use crate::batch::Batch;
use crate::block::{Block, Gather, ROWS_MAX, Vector};
use crate::file::{Opened, RowFile, Shape};
use crate::filter::BadFilter;
use crate::place::{self, Name};
use crate::table::Table;
use crate::wal::{self, Described, Disk, RealDisk, Wal};
use crate::{lock, read, write};

/// How a store behaves.
#[derive(Debug, Clone)]
pub struct Settings {
    /// How long a row may be, in bytes.
    pub row_bytes_max: usize,
    /// How often the log is synced. `None`: each time somebody waits for it.
    pub sync_every: Option<Duration>,
    /// How long a segment of the log grows, in bytes.
    pub segment_max: u64,
    /// How many bytes of rows in memory are written to files by the next [`Store::maintain`].
    pub flush_bytes: u64,
    /// How long a row stays in memory.
    pub flush_after: Duration,
    /// How many bytes of rows there may be in memory. Then no more are taken until some are in files.
    pub memory_max: u64,
    /// How long after its end an hour gets no more rows but late ones, so that its files become one.
    pub close_after: Duration,
    /// How long a file that is merged from others may be, in bytes.
    pub file_max: u64,
    /// Hours that ended so long ago are removed.
    pub keep_age: Option<Duration>,
    /// The oldest hours are removed when all take more bytes.
    pub keep_bytes: Option<u64>,
    /// How many threads answer one question.
    pub threads: usize,
    /// How many groups an answer may have.
    pub groups_max: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            row_bytes_max: 1 << 20,
            sync_every: None,
            segment_max: 16 << 20,
            flush_bytes: 24 << 20,
            flush_after: Duration::from_secs(300),
            memory_max: 128 << 20,
            close_after: Duration::from_secs(600),
            file_max: 256 << 20,
            keep_age: Some(Duration::from_secs(30 * 86_400)),
            keep_bytes: None,
            threads: 2,
            groups_max: 10_000,
        }
    }
}

/// What a store did not do.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file system.
    #[error("{}: {source}", path.display())]
    Io {
        /// Which file or folder.
        path: PathBuf,
        /// What it said.
        source: io::Error,
    },
    /// Somebody else has it open.
    #[error("{} is in use by another process", .0.display())]
    InUse(PathBuf),
    /// A file of rows is damaged.
    #[error("{}: damaged: {what}; restore the file or move it away", path.display())]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        what: &'static str,
    },
    /// There is no such table.
    #[error("the store has no table `{0}`")]
    NoTable(String),
    /// The table has no such column, or one that cannot be asked for this.
    #[error("column `{0}` is not there or cannot be asked for that")]
    NoColumn(String),
    /// A filter that cannot be.
    #[error(transparent)]
    Filter(#[from] BadFilter),
    /// As much is in memory as may be.
    #[error("{0} bytes of rows are in memory, as many as may be; they wait for files to be written")]
    Full(u64),
    /// An answer has too many groups.
    #[error("the answer has more than {0} groups; ask for fewer columns or a shorter time")]
    TooManyGroups(usize),
    /// A batch is of a table as it was before.
    #[error("the batch is of another table than `{0}`; begin it with `Store::batch`")]
    OtherTable(String),
}

pub(crate) fn at(path: &Path) -> impl Fn(io::Error) -> Error + '_ {
    move |source| Error::Io { path: path.to_owned(), source }
}

/// What was found when a store was opened.
#[derive(Debug, Clone, Default)]
pub struct Recovered {
    /// Files of rows.
    pub files: usize,
    /// Rows taken from the log.
    pub rows: u64,
    /// Bytes at the end of the log that were half written; nothing of them was acknowledged.
    pub torn_bytes: u64,
    /// Records of the log that are damaged, or cannot be read because one before them is.
    pub skipped_records: u64,
    /// What was wrong, for people.
    pub notes: Vec<String>,
}

/// How a table fares.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TableStatistics {
    /// Its name.
    pub table: String,
    /// Rows in memory and in files.
    pub rows: u64,
    /// Of these those in memory.
    pub memory_rows: u64,
    /// Files.
    pub files: usize,
    /// Bytes of the files and what stands beside them.
    pub file_bytes: u64,
    /// The time of the oldest and of the newest row, in microseconds.
    pub span_us: Option<(i64, i64)>,
    /// Rows that left because of their age, or because all were too many, since the store was opened.
    pub retired_rows: u64,
}

/// How a store fares.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Statistics {
    /// Its tables.
    pub tables: Vec<TableStatistics>,
    /// About how many bytes of rows are in memory and in no file yet.
    pub memory_bytes: u64,
    /// Bytes of the log.
    pub wal_bytes: u64,
    /// Rows that were refused since the store was opened, because memory was full or the disk took no more.
    pub refused_rows: u64,
}

/// Rows of an hour that are in no file.
pub(crate) struct Memory {
    pub blocks: Vec<Arc<Block>>,
    open: Gather,
    /// The number of the first record.
    pub first: u64,
}

impl Memory {
    fn add(&mut self, block: &Block, mut start: usize, end: usize) {
        while start < end {
            let count = (end - start).min(ROWS_MAX - self.open.block.rows);
            self.open.extend(block, start, count);
            start += count;
            if self.open.block.is_full() {
                self.seal();
            }
        }
        self.open.forget();
    }

    fn seal(&mut self) {
        let block = self.open.take();
        if block.rows > 0 {
            self.blocks.push(Arc::new(block));
        }
    }
}

/// Rows of an hour that are being written to a file: those until a record.
pub(crate) struct Frozen {
    pub hour: i64,
    pub blocks: Vec<Arc<Block>>,
    pub name: Name,
}

#[derive(Default)]
pub(crate) struct Hours {
    pub memory: BTreeMap<i64, Memory>,
    pub frozen: Vec<Arc<Frozen>>,
    pub files: BTreeMap<i64, Vec<Arc<RowFile>>>,
    /// Hours with a file that is damaged and was left out: one that is merged over it would stand for it.
    pub damaged: HashSet<i64>,
    pub retired_rows: u64,
}

pub(crate) struct Kept {
    pub shape: Shape,
    pub hours: RwLock<Hours>,
}

/// A store in a folder.
pub struct Store {
    pub(crate) folder: PathBuf,
    pub(crate) settings: Settings,
    pub(crate) tables: Vec<Kept>,
    pub(crate) wal: Wal,
    pub(crate) disk: Arc<dyn Disk>,
    /// Held by who appends, together with others, and alone by who turns memory into files.
    pub(crate) gate: RwLock<()>,
    pub(crate) memory_bytes: AtomicU64,
    /// When what is in memory began to wait, in the time of who calls [`Store::maintain`].
    pub(crate) waits_since: Mutex<Option<i64>>,
    /// Whether the log has nothing from before this store was opened.
    pub(crate) is_kept_up: AtomicBool,
    refused_rows: AtomicU64,
    /// Files that were looked at last: not all can stay open.
    opened: Mutex<VecDeque<Weak<RowFile>>>,
    /// Held by whoever changes what is in files.
    pub(crate) upkeep: Mutex<()>,
    _lock: Flock<File>,
}

/// Files that stay open.
const OPEN_MAX: usize = 128;

impl Store {
    /// Opens the store of a folder, which is made if it is missing. Files of tables that are not among these are left as
    /// they are; what the log has of such tables is written to files.
    ///
    /// # Errors
    /// The file system, or another process that has it open. What is damaged is no error; it is told.
    pub fn open(folder: &Path, tables: Vec<Table>, settings: Settings) -> Result<(Self, Recovered), Error> {
        Self::open_on(folder, tables, settings, Arc::new(RealDisk))
    }

    pub(crate) fn open_on(
        folder: &Path,
        tables: Vec<Table>,
        settings: Settings,
        disk: Arc<dyn Disk>,
    ) -> Result<(Self, Recovered), Error> {
        let io = at(folder);
        fs::create_dir_all(folder).map_err(&io)?;
        let lock_file = OpenOptions::new().create(true).truncate(false).write(true).open(folder.join("lock"));
        let lock = Flock::lock(lock_file.map_err(&io)?, FlockArg::LockExclusiveNonblock)
            .map_err(|_| Error::InUse(folder.to_owned()))?;
        let mut recovered = Recovered::default();
        let mut kept = Vec::new();
        for table in tables {
            kept.push(crate::upkeep::open_table(folder, table, &mut recovered)?);
        }
        let mut newest = files(&kept).map(|file| file.name.to).max().unwrap_or_default();
        let mut memory_bytes = 0;
        let found = wal::replay(folder, &mut |number, described, block| {
            newest = newest.max(number);
            let place = match kept.iter().position(|kept| kept.shape.table.name == described.name) {
                Some(place) => place,
                None => match unknown(folder, described, &mut recovered) {
                    Some(table) => {
                        kept.push(table);
                        kept.len() - 1
                    }
                    None => return,
                },
            };
            let Kept { shape, hours } = &kept[place];
            let block = fitted(block, described, &shape.table);
            memory_bytes += block.weight();
            recovered.rows += put_down(&mut write(hours), shape, &block, number, true);
        });
        let found = found.map_err(&io)?;
        (recovered.torn_bytes, recovered.skipped_records) = (found.torn_bytes, found.skipped_records);
        recovered.notes.extend(found.notes.iter().cloned());
        recovered.files = files(&kept).count();
        let (segment_max, every) = (settings.segment_max, settings.sync_every);
        let wal = Wal::new(folder.to_owned(), disk.clone(), segment_max, every, found, newest);
        let store = Self {
            folder: folder.to_owned(),
            settings,
            tables: kept,
            wal,
            disk,
            gate: RwLock::new(()),
            memory_bytes: AtomicU64::new(memory_bytes as u64),
            waits_since: Mutex::default(),
            is_kept_up: AtomicBool::new(false),
            refused_rows: AtomicU64::new(0),
            opened: Mutex::default(),
            upkeep: Mutex::default(),
            _lock: lock,
        };
        Ok((store, recovered))
    }

    pub(crate) fn table(&self, name: &str) -> Result<&Kept, Error> {
        let found = self.tables.iter().find(|kept| kept.shape.table.name == name);
        found.ok_or_else(|| Error::NoTable(name.chars().take(100).collect()))
    }

    /// An empty batch of a table.
    ///
    /// # Errors
    /// [`Error::NoTable`].
    pub fn batch(&self, table: &str) -> Result<Batch, Error> {
        Ok(Batch::new(self.table(table)?.shape.table.clone(), self.settings.row_bytes_max))
    }

    /// Takes all rows of a batch, or none. They can be read at once, and are on disk when [`Store::commit`] has returned
    /// for the number that is returned here.
    ///
    /// # Errors
    /// [`Error::Full`], or a disk that has not taken for so long what was accepted before that nothing more is.
    pub fn append(&self, batch: &Batch) -> Result<u64, Error> {
        let appended = self.append_block(batch);
        if appended.is_err() {
            self.refused_rows.fetch_add(batch.rows() as u64, Ordering::Relaxed);
        }
        appended
    }

    fn append_block(&self, batch: &Batch) -> Result<u64, Error> {
        let name = &batch.table.name;
        let (which, kept) = self
            .tables
            .iter()
            .enumerate()
            .find(|(_, kept)| kept.shape.table.name == *name)
            .ok_or_else(|| Error::NoTable(name.clone()))?;
        if kept.shape.table.columns != batch.table.columns {
            return Err(Error::OtherTable(name.clone()));
        }
        let bytes = self.memory_bytes.load(Ordering::Relaxed);
        if bytes >= self.settings.memory_max {
            return Err(Error::Full(bytes));
        }
        self.wal.room().map_err(at(&self.folder))?;
        let mut record = Vec::new();
        batch.block.write(&mut record);
        // Held until memory has the rows too, so that what is turned into files is all that the log has until then.
        let _shared = read(&self.gate);
        let mut hours = write(&kept.hours);
        let (number, upto) = self.wal.append(which, &kept.shape.table, &record);
        put_down(&mut hours, &kept.shape, &batch.block, number, false);
        self.memory_bytes.fetch_add(batch.block.weight() as u64, Ordering::Relaxed);
        Ok(upto)
    }

    /// Waits until everything that was appended until then is on disk.
    ///
    /// # Errors
    /// The disk did not take it. It is kept, can be read, and is written by the next commit that finds room.
    pub fn commit(&self, upto: u64) -> Result<(), Error> {
        self.wal.commit(upto).map_err(at(&self.folder))
    }

    /// How the store fares.
    pub fn statistics(&self) -> Statistics {
        let table = |kept: &Kept| {
            let hours = read(&kept.hours);
            let mut found = TableStatistics {
                table: kept.shape.table.name.clone(),
                retired_rows: hours.retired_rows,
                ..TableStatistics::default()
            };
            let mut span = (i64::MAX, i64::MIN);
            for block in hours.blocks() {
                found.memory_rows += block.rows as u64;
                for time in block.times() {
                    span = (span.0.min(*time), span.1.max(*time));
                }
            }
            for file in hours.files.values().flatten() {
                found.files += 1;
                found.file_bytes += file.bytes;
                found.rows += file.rows;
                span = (span.0.min(file.from_us), span.1.max(file.to_us));
            }
            found.rows += found.memory_rows;
            found.span_us = (found.rows > 0).then_some(span);
            found
        };
        Statistics {
            tables: self.tables.iter().map(table).collect(),
            memory_bytes: self.memory_bytes.load(Ordering::Relaxed),
            wal_bytes: self.wal.bytes(),
            refused_rows: self.refused_rows.load(Ordering::Relaxed),
        }
    }

    /// Opens a file, and closes those that nobody has looked at for long.
    pub(crate) fn open_file(&self, file: &Arc<RowFile>, shape: &Shape) -> Result<Arc<Opened>, Error> {
        let found = file.open(shape)?;
        let mut opened = lock(&self.opened);
        if !opened.iter().any(|other| other.as_ptr() == Arc::as_ptr(file)) {
            opened.push_back(Arc::downgrade(file));
            if opened.len() > OPEN_MAX {
                opened.pop_front().and_then(|file| file.upgrade()).iter().for_each(|file| file.rest());
            }
        }
        Ok(found)
    }

    /// Closes all files that nobody is looking at.
    pub(crate) fn rest(&self) {
        lock(&self.opened).drain(..).filter_map(|file| file.upgrade()).for_each(|file| file.rest());
    }
}

impl Hours {
    /// All rows that are in no file.
    pub fn blocks(&self) -> Vec<Arc<Block>> {
        let frozen = self.frozen.iter().flat_map(|frozen| frozen.blocks.iter().cloned());
        frozen.chain(self.memory.values().flat_map(Memory::all)).collect()
    }
}

impl Memory {
    pub fn all(&self) -> Vec<Arc<Block>> {
        let open = (self.open.block.rows > 0).then(|| Arc::new(self.open.block.clone()));
        self.blocks.iter().cloned().chain(open).collect()
    }

    pub fn into_blocks(mut self) -> Vec<Arc<Block>> {
        self.seal();
        self.blocks
    }
}

fn files(kept: &[Kept]) -> impl Iterator<Item = Arc<RowFile>> + '_ {
    kept.iter().flat_map(|kept| read(&kept.hours).files.values().flatten().cloned().collect::<Vec<_>>())
}

/// A table that only the log knows: what it has of it must not be lost.
fn unknown(folder: &Path, described: &Described, recovered: &mut Recovered) -> Option<Kept> {
    let column = |(name, kind): &(String, crate::Kind)| crate::Column::new(name, *kind).optional();
    let mut columns: Vec<_> = described.columns.iter().map(column).collect();
    columns.first_mut()?.is_optional = false;
    let table = Table::new(&described.name, columns);
    let note = format!("table `{}` is in the log and was not declared; its rows are kept", described.name);
    recovered.notes.push(note);
    crate::upkeep::open_table(folder, table.ok()?, recovered).ok()
}

/// A block of a table as it was, as one of the table as it is.
fn fitted(block: Block, described: &Described, table: &Table) -> Block {
    let rows = block.rows;
    let mut found: Vec<Option<Vector>> = block.columns.into_iter().map(Some).collect();
    let columns = table.columns.iter().map(|column| {
        let same = |(name, kind): &(String, crate::Kind)| *name == column.name && *kind == column.kind;
        let place = described.columns.iter().position(same);
        place
            .and_then(|place| found.get_mut(place)?.take())
            .unwrap_or_else(|| Vector::null(column.kind, rows))
    });
    Block { rows, columns: columns.collect() }
}

/// Puts rows to those of their hour. `is_known`: files may have them already. Says how many were new.
fn put_down(hours: &mut Hours, shape: &Shape, block: &Block, number: u64, is_known: bool) -> u64 {
    let times = block.times();
    let (mut start, mut count) = (0, 0);
    while start < block.rows {
        let hour = place::hour_of(times[start]);
        let same = times[start..].iter().take_while(|time| place::hour_of(**time) == hour).count();
        let is_there = is_known
            && hours.files.get(&hour).is_some_and(|files| files.iter().any(|file| file.name.to >= number));
        if !is_there {
            let memory = hours.memory.entry(hour).or_insert_with(|| Memory {
                blocks: Vec::new(),
                open: Gather::new(&shape.table),
                first: number,
            });
            memory.add(block, start, start + same);
            count += same as u64;
        }
        start += same;
    }
    count
}
