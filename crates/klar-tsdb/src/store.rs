//! The store: what is accepted, what is found again.
//!
//! A sample goes to its series in memory and to the log, in one step under a lock that others share; [`Store::commit`]
//! says when it is on disk. [`Store::maintain`] cuts what is old enough into blocks. Whoever reads copies references to
//! packed chunks and unpacks them without any lock.

use std::collections::{BTreeSet, HashMap};
use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, RwLock};
use std::time::{Duration, SystemTime};

use nix::fcntl::{Flock, FlockArg};

use crate::block::Block;
use crate::chunk::Packer;
use crate::labels::Labels;
use crate::matcher::Matcher;
use crate::postings::matching;
use crate::sample::Sample;
use crate::select::{Budget, Found, Part, Selection};
use crate::series::{Series, Verdict};
use crate::table::Table;
use crate::wal::{self, Disk, Known, RealDisk, Replay, Wal};
use crate::{lock, read, write};

/// How a store behaves.
#[derive(Debug, Clone)]
pub struct Settings {
    /// How much older than the newest one of its series a sample may be.
    pub late: Duration,
    /// How far in the future a sample may be. `None`: as far as it likes, for instance in tests.
    pub ahead: Option<Duration>,
    /// How many series there may be in memory.
    pub series_max: usize,
    /// How often the log is synced. `None`: each time somebody waits for it.
    pub sync_every: Option<Duration>,
    /// How long a segment of the log grows, in bytes.
    pub segment_max: u64,
    /// Lengths of blocks: the first one is cut from memory, the others are merged from those before. Each is a multiple
    /// of the one before.
    pub ranges: Vec<Duration>,
    /// Blocks that end so long ago are removed.
    pub keep_age: Option<Duration>,
    /// The oldest blocks are removed when all take more bytes.
    pub keep_bytes: Option<u64>,
    /// How many series one selection may find.
    pub selected_series_max: usize,
    /// How many samples one selection may unpack.
    pub selected_samples_max: usize,
}

impl Default for Settings {
    fn default() -> Self {
        let hours = |hours: u64| Duration::from_secs(hours * 3600);
        Self {
            late: Duration::from_secs(600),
            ahead: Some(Duration::from_secs(600)),
            series_max: 1_000_000,
            sync_every: None,
            segment_max: 32 << 20,
            ranges: vec![hours(2), hours(24), hours(24 * 30)],
            keep_age: Some(hours(24 * 30)),
            keep_bytes: None,
            selected_series_max: 100_000,
            selected_samples_max: 50_000_000,
        }
    }
}

/// A series of a store, as long as it is in memory. Cheap to keep; whoever sends the same series again asks once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SeriesRef(u64);

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
    /// A block is damaged.
    #[error("{}: damaged: {what}", path.display())]
    Damaged {
        /// Which block.
        path: PathBuf,
        /// What is wrong.
        what: &'static str,
    },
    /// There are as many series as there may be.
    #[error("the store knows {0} series, as many as it may")]
    SeriesLimit(usize),
    /// A selection finds too many series.
    #[error("the selection finds more than {0} series")]
    TooManySeries(usize),
    /// A selection has too many samples.
    #[error("the selection has more than {0} samples")]
    TooManySamples(usize),
}

pub(crate) fn at(path: &Path) -> impl Fn(io::Error) -> Error + '_ {
    move |source| Error::Io { path: path.to_owned(), source }
}

/// What was found when a store was opened.
#[derive(Debug, Clone, Default)]
pub struct Recovered {
    /// Blocks.
    pub blocks: usize,
    /// Series in the log.
    pub series: usize,
    /// Samples taken from the log.
    pub samples: u64,
    /// Bytes at the end of the log that were half written; nothing of them was acknowledged.
    pub torn_bytes: u64,
    /// Records of the log that are damaged, or cannot be read because one before them is.
    pub skipped_records: u64,
    /// Their bytes.
    pub skipped_bytes: u64,
    /// What was wrong, for people.
    pub notes: Vec<String>,
}

/// What became of a batch.
#[derive(Debug, Clone, Default)]
pub struct Appended {
    /// For each sample, in their order.
    pub verdicts: Vec<Verdict>,
    /// What [`Store::commit`] is to be given.
    pub upto: u64,
}

/// How a store fares.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Statistics {
    /// Series in memory.
    pub series: usize,
    /// Bytes of packed and unpacked samples in memory.
    pub head_bytes: usize,
    /// Bytes of the log.
    pub wal_bytes: u64,
    /// Blocks.
    pub blocks: usize,
    /// Bytes of the blocks.
    pub block_bytes: u64,
    /// Samples in blocks.
    pub block_samples: u64,
    /// Since the store was opened, how many samples got each verdict, in the order of [`Verdict::ALL`].
    pub verdicts: [u64; 8],
}

/// A metric with many series.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offender {
    /// Its name.
    pub metric: String,
    /// How many series it has in memory.
    pub series: usize,
    /// How often one more was refused.
    pub refused: u64,
}

/// Names of metrics of which refusals are counted one by one.
const REFUSED_NAMES_MAX: usize = 1000;

/// A store in a folder.
pub struct Store {
    pub(crate) folder: PathBuf,
    pub(crate) settings: Settings,
    pub(crate) table: RwLock<Table>,
    pub(crate) wal: Wal,
    pub(crate) blocks: RwLock<Vec<Arc<Block>>>,
    /// Before this everything is in blocks, or on its way to one.
    pub(crate) floor_ms: AtomicI64,
    refused: Mutex<HashMap<String, u64>>,
    verdicts: [AtomicU64; 8],
    /// Held by whoever changes what is in blocks.
    pub(crate) upkeep: Mutex<()>,
    _lock: Flock<File>,
}

/// The log as it goes back to memory.
struct Back<'a> {
    table: &'a mut Table,
    floor_ms: i64,
    packer: Packer,
    samples: u64,
}

impl Replay for Back<'_> {
    type Series = Arc<Series>;

    fn series(&mut self, labels: Labels) -> Arc<Series> {
        if let Some(series) = self.table.find(&labels) {
            return series.clone();
        }
        self.table.add(&labels)
    }

    fn sample(&mut self, series: &Arc<Series>, sample: Sample) {
        let verdict = lock(&series.state).insert(sample, self.floor_ms, i64::MAX, &mut self.packer);
        self.samples += u64::from(matches!(verdict, Verdict::Accepted | Verdict::AcceptedLate));
    }

    fn delete(&mut self, series: &Arc<Series>, from_ms: i64, to_ms: i64) {
        lock(&series.state).remove(from_ms, to_ms);
    }
}

pub(crate) fn ms(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

impl Store {
    /// Opens the store of a folder, which is made if it is missing.
    ///
    /// # Errors
    /// The file system, or another process that has it open. What is damaged is no error; it is told.
    pub fn open(folder: &Path, settings: Settings) -> Result<(Self, Recovered), Error> {
        Self::open_on(folder, settings, Arc::new(RealDisk))
    }

    pub(crate) fn open_on(
        folder: &Path,
        settings: Settings,
        disk: Arc<dyn Disk>,
    ) -> Result<(Self, Recovered), Error> {
        let io = at(folder);
        fs::create_dir_all(folder).map_err(&io)?;
        let lock_file = OpenOptions::new().create(true).truncate(false).write(true).open(folder.join("lock"));
        let lock = Flock::lock(lock_file.map_err(&io)?, FlockArg::LockExclusiveNonblock)
            .map_err(|_| Error::InUse(folder.to_owned()))?;
        let mut recovered = Recovered::default();
        let blocks = crate::upkeep::open_blocks(folder, &mut recovered.notes)?;
        let floor_ms = blocks.iter().map(|block| block.meta.to_ms).max().unwrap_or(i64::MIN);
        let mut table = Table::default();
        let mut back = Back { table: &mut table, floor_ms, packer: Packer::default(), samples: 0 };
        let found = wal::replay(folder, &mut back).map_err(&io)?;
        recovered.samples = back.samples;
        recovered.series = table.len();
        recovered.blocks = blocks.len();
        (recovered.torn_bytes, recovered.skipped_bytes) = (found.torn_bytes, found.skipped_bytes);
        recovered.skipped_records = found.skipped_records;
        recovered.notes.extend(found.notes.iter().cloned());
        let wal = Wal::new(folder.to_owned(), disk, settings.segment_max, settings.sync_every, found);
        let store = Self {
            folder: folder.to_owned(),
            settings,
            table: RwLock::new(table),
            wal,
            blocks: RwLock::new(blocks),
            floor_ms: AtomicI64::new(floor_ms),
            refused: Mutex::default(),
            verdicts: Default::default(),
            upkeep: Mutex::default(),
            _lock: lock,
        };
        Ok((store, recovered))
    }

    /// The series with these labels; it is made if it is new.
    ///
    /// # Errors
    /// [`Error::SeriesLimit`].
    pub fn series(&self, labels: &Labels) -> Result<SeriesRef, Error> {
        if let Some(series) = read(&self.table).find(labels) {
            return Ok(SeriesRef(series.reference));
        }
        let mut table = write(&self.table);
        if let Some(series) = table.find(labels) {
            return Ok(SeriesRef(series.reference));
        }
        if table.len() >= self.settings.series_max {
            drop(table);
            let metric = labels.metric().unwrap_or_default();
            let mut refused = lock(&self.refused);
            let is_counted = refused.contains_key(metric) || refused.len() < REFUSED_NAMES_MAX;
            *refused.entry(if is_counted { metric } else { "" }.to_owned()).or_default() += 1;
            self.verdicts[Verdict::SeriesLimit as usize].fetch_add(1, Ordering::Relaxed);
            return Err(Error::SeriesLimit(self.settings.series_max));
        }
        Ok(SeriesRef(table.add(labels).reference))
    }

    /// Takes samples, and says of each what became of it. They can be read at once, and are on disk after
    /// [`Store::commit`].
    ///
    /// # Errors
    /// The disk has not taken for so long what was accepted before that nothing more is; nothing of the batch was taken.
    pub fn append(&self, batch: &[(SeriesRef, Sample)]) -> Result<Appended, Error> {
        self.wal.room().map_err(at(&self.folder))?;
        let now_ms = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, ms);
        let newest_ms = self.settings.ahead.map_or(1 << 52, |ahead| now_ms.saturating_add(ms(ahead)));
        let late_ms = ms(self.settings.late);
        let mut packer = Packer::default();
        let mut verdicts = Vec::with_capacity(batch.len());
        let mut counts = [0; 8];
        // Held until the log has the samples too, so that nothing is deleted or dropped in between.
        let table = read(&self.table);
        for (reference, sample) in batch {
            let verdict = match table.get(reference.0) {
                _ if sample.time_ms > newest_ms => Verdict::TooNew,
                _ if sample.time_ms < -(1 << 52) => Verdict::TooOld,
                None => Verdict::Unknown,
                Some(series) => {
                    let mut state = lock(&series.state);
                    // Read under the lock: whoever cuts raises it before looking at the series.
                    let floor_ms = self.floor_ms.load(Ordering::Acquire);
                    state.insert(*sample, floor_ms, late_ms, &mut packer)
                }
            };
            counts[verdict as usize] += 1;
            verdicts.push(verdict);
        }
        for (count, total) in counts.iter().zip(&self.verdicts).filter(|(count, _)| **count > 0) {
            total.fetch_add(*count, Ordering::Relaxed);
        }
        let accepted = batch.iter().zip(&verdicts).filter_map(|((reference, sample), verdict)| {
            let is_new = matches!(verdict, Verdict::Accepted | Verdict::AcceptedLate);
            let series = table.get(reference.0).filter(|_| is_new)?;
            Some((known(series), *sample))
        });
        let upto = self.wal.append(accepted);
        Ok(Appended { verdicts, upto })
    }

    /// Waits until everything that was taken until then is on disk.
    ///
    /// # Errors
    /// The disk did not take it. It is kept, can be read, and is written by the next commit that finds room.
    pub fn commit(&self, upto: u64) -> Result<(), Error> {
        self.wal.commit(upto).map_err(at(&self.folder))
    }

    /// The series that all matchers take, with their samples from a time until another one, both included.
    ///
    /// # Errors
    /// More series than one selection may find; a block that cannot be read.
    pub fn select(&self, matchers: &[Matcher], from_ms: i64, to_ms: i64) -> Result<Selection, Error> {
        let mut parts: Vec<(Labels, Part)> = Vec::new();
        let mut heads: Vec<(Labels, Part)> = Vec::new();
        // Memory first: what is cut meanwhile is then found twice, and not missed.
        let mut series: Vec<Arc<Series>> = {
            let table = read(&self.table);
            let slots = matching(&*table, matchers);
            slots.iter().filter_map(|slot| table.slots.get(*slot as usize)?.clone()).collect()
        };
        series.sort_unstable_by(|first, second| first.labels.cmp(&second.labels));
        for one in series {
            let copied = lock(&one.state).copy(from_ms, to_ms);
            if !copied.is_empty() {
                heads.push((one.labels.clone(), Part::Head(copied)));
            }
        }
        let blocks: Vec<Arc<Block>> = read(&self.blocks).clone();
        for block in blocks.iter().filter(|block| block.meta.from_ms <= to_ms && block.meta.to_ms > from_ms) {
            block.select(matchers, from_ms, to_ms, &mut parts)?;
        }
        // What is in memory is newest: so the samples of a series mostly come in order.
        parts.append(&mut heads);
        parts.sort_by(|(first, _), (second, _)| first.cmp(second));
        let budget = Arc::new(Budget::new(self.settings.selected_samples_max));
        let mut found: Vec<Found> = Vec::new();
        for (labels, part) in parts {
            match found.last_mut().filter(|last| last.labels == labels) {
                Some(last) => last.parts.push(part),
                None => {
                    found.push(Found { labels, from_ms, to_ms, parts: vec![part], budget: budget.clone() })
                }
            }
            if found.len() > self.settings.selected_series_max {
                return Err(Error::TooManySeries(self.settings.selected_series_max));
            }
        }
        Ok(Selection { series: found })
    }

    /// The names of the labels that the series of [`Store::select`] have, sorted.
    ///
    /// # Errors
    /// See [`Store::select`].
    pub fn label_names(&self, matchers: &[Matcher], from_ms: i64, to_ms: i64) -> Result<Vec<String>, Error> {
        let selection = self.select(matchers, from_ms, to_ms)?;
        let names: BTreeSet<&str> =
            selection.series.iter().flat_map(|found| found.labels.iter()).map(|(name, _)| name).collect();
        Ok(names.into_iter().map(str::to_owned).collect())
    }

    /// The values of a label that the series of [`Store::select`] have, sorted.
    ///
    /// # Errors
    /// See [`Store::select`].
    pub fn label_values(
        &self,
        name: &str,
        matchers: &[Matcher],
        from_ms: i64,
        to_ms: i64,
    ) -> Result<Vec<String>, Error> {
        let selection = self.select(matchers, from_ms, to_ms)?;
        let values: BTreeSet<&str> =
            selection.series.iter().filter_map(|found| found.labels.get(name)).collect();
        Ok(values.into_iter().map(str::to_owned).collect())
    }

    /// The metrics that have most series, or of which most were refused.
    #[must_use]
    pub fn offenders(&self, count: usize) -> Vec<Offender> {
        let mut refused = lock(&self.refused).clone();
        let mut all: Vec<Offender> = read(&self.table)
            .metrics()
            .map(|(metric, series)| {
                let refused = refused.remove(metric).unwrap_or_default();
                Offender { metric: metric.to_owned(), series, refused }
            })
            .collect();
        all.extend(refused.into_iter().map(|(metric, refused)| Offender { metric, series: 0, refused }));
        all.sort_by(|a, b| (b.refused, b.series, &a.metric).cmp(&(a.refused, a.series, &b.metric)));
        all.truncate(count);
        all
    }

    /// How it fares.
    #[must_use]
    pub fn statistics(&self) -> Statistics {
        let table = read(&self.table);
        let blocks = read(&self.blocks);
        Statistics {
            series: table.len(),
            head_bytes: table.all().map(|series| lock(&series.state).bytes()).sum(),
            wal_bytes: self.wal.bytes(),
            blocks: blocks.len(),
            block_bytes: blocks.iter().map(|block| block.bytes).sum(),
            block_samples: blocks.iter().map(|block| block.meta.samples).sum(),
            verdicts: std::array::from_fn(|place| self.verdicts[place].load(Ordering::Relaxed)),
        }
    }
}

pub(crate) fn known(series: &Series) -> Known<'_> {
    Known { slot: series.slot, reference: series.reference, labels: &series.labels }
}
