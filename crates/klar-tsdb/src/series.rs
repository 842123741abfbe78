//! A series in memory: packed chunks, the samples that are not packed yet, and those that came late.

use std::sync::{Arc, Mutex};

use crate::chunk::{Packer, Unpacker};
use crate::labels::Labels;
use crate::sample::Sample;

/// So many samples are packed at once.
const CHUNK: usize = 120;

/// What became of a sample.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// It is in the store.
    Accepted,
    /// It is in the store, and other ones of its series are newer.
    AcceptedLate,
    /// It was in the store already, the same time and the same bits.
    Duplicate,
    /// Refused: it is older than the window for late samples, or than what has gone to blocks.
    TooOld,
    /// Refused: it is further in the future than clocks go wrong.
    TooNew,
    /// Refused: there is another value at the same time.
    Conflict,
    /// Refused: the store knows as many series as it may.
    SeriesLimit,
    /// Refused: nothing is known by this reference, any more; ask for the series again.
    Unknown,
}

impl Verdict {
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; 8] = [
        Self::Accepted,
        Self::AcceptedLate,
        Self::Duplicate,
        Self::TooOld,
        Self::TooNew,
        Self::Conflict,
        Self::SeriesLimit,
        Self::Unknown,
    ];

    /// Whether the sample is in the store now.
    #[must_use]
    pub const fn is_kept(self) -> bool {
        matches!(self, Self::Accepted | Self::AcceptedLate | Self::Duplicate)
    }
}

/// A packed chunk and when its samples are.
#[derive(Debug, Clone)]
pub struct Sealed {
    pub from_ms: i64,
    pub to_ms: i64,
    pub bytes: Arc<[u8]>,
}

/// A series.
pub struct Series {
    pub labels: Labels,
    pub slot: u32,
    pub reference: u64,
    pub state: Mutex<State>,
}

/// Its samples.
pub struct State {
    sealed: Vec<Sealed>,
    /// After all that are sealed, oldest first.
    open: Vec<Sample>,
    /// Oldest first, none of them anywhere else.
    late: Vec<Sample>,
    newest_ms: i64,
    /// Whether it had no samples the last time somebody looked.
    pub is_idle: bool,
}

impl Default for State {
    fn default() -> Self {
        let (sealed, open, late) = (Vec::new(), Vec::new(), Vec::new());
        Self { sealed, open, late, newest_ms: i64::MIN, is_idle: false }
    }
}

/// A copy of what a series has of a time, to be unpacked later.
#[derive(Debug, Clone, Default)]
pub struct Copied {
    sealed: Vec<Sealed>,
    loose: Vec<Sample>,
}

impl State {
    /// Takes a sample.
    pub fn insert(&mut self, sample: Sample, floor_ms: i64, window_ms: i64, packer: &mut Packer) -> Verdict {
        let time_ms = sample.time_ms;
        if time_ms < floor_ms {
            return Verdict::TooOld;
        }
        if time_ms > self.newest_ms {
            self.newest_ms = time_ms;
            self.open.push(sample);
            if self.open.len() >= CHUNK {
                self.seal(packer);
            }
            return Verdict::Accepted;
        }
        if let Some(value) = self.at(time_ms) {
            let is_same = value.to_bits() == sample.value.to_bits();
            return if is_same { Verdict::Duplicate } else { Verdict::Conflict };
        }
        if self.newest_ms.saturating_sub(time_ms) > window_ms {
            return Verdict::TooOld;
        }
        let is_in_open = self.open.first().is_some_and(|first| first.time_ms < time_ms);
        let to = if is_in_open { &mut self.open } else { &mut self.late };
        let place = to.partition_point(|other| other.time_ms < time_ms);
        to.insert(place, sample);
        Verdict::AcceptedLate
    }

    fn seal(&mut self, packer: &mut Packer) {
        if let (Some(first), Some(last)) = (self.open.first(), self.open.last()) {
            let bytes = packer.pack(&self.open).into();
            self.sealed.push(Sealed { from_ms: first.time_ms, to_ms: last.time_ms, bytes });
            self.open.clear();
        }
    }

    /// The value at a time.
    fn at(&self, time_ms: i64) -> Option<f64> {
        let search = |samples: &[Sample]| {
            let place = samples.binary_search_by_key(&time_ms, |sample| sample.time_ms).ok()?;
            samples.get(place).map(|sample| sample.value)
        };
        search(&self.open).or_else(|| search(&self.late)).or_else(|| {
            let place = self.sealed.partition_point(|sealed| sealed.to_ms < time_ms);
            let sealed = self.sealed.get(place).filter(|sealed| sealed.from_ms <= time_ms)?;
            let mut samples = Vec::new();
            Unpacker::default().unpack(&sealed.bytes, &mut samples)?;
            search(&samples)
        })
    }

    /// What there is from a time until another one, both included.
    pub fn copy(&self, from_ms: i64, to_ms: i64) -> Copied {
        let sealed = self.sealed.iter().filter(|sealed| sealed.from_ms <= to_ms && sealed.to_ms >= from_ms);
        let between = |samples: &[Sample]| {
            let begin = samples.partition_point(|sample| sample.time_ms < from_ms);
            let end = samples.partition_point(|sample| sample.time_ms <= to_ms);
            begin..end.max(begin)
        };
        let (late, open) = (between(&self.late), between(&self.open));
        let mut loose = Vec::with_capacity(late.len() + open.len());
        loose.extend_from_slice(&self.late[late]);
        loose.extend_from_slice(&self.open[open]);
        Copied { sealed: sealed.cloned().collect(), loose }
    }

    /// Takes the samples from a time until another one away, both included. Returns how many there were.
    pub fn remove(&mut self, from_ms: i64, to_ms: i64) -> usize {
        let is_gone = |sample: &Sample| (from_ms..=to_ms).contains(&sample.time_ms);
        let before = self.open.len() + self.late.len();
        self.open.retain(|sample| !is_gone(sample));
        self.late.retain(|sample| !is_gone(sample));
        let mut gone = before - self.open.len() - self.late.len();
        if self.open.is_empty() {
            self.open = Vec::new();
        }
        if self.late.is_empty() {
            self.late = Vec::new();
        }
        if self.sealed.iter().any(|sealed| sealed.from_ms <= to_ms && sealed.to_ms >= from_ms) {
            let mut kept = Vec::with_capacity(self.sealed.len());
            for sealed in std::mem::take(&mut self.sealed) {
                if sealed.from_ms > to_ms || sealed.to_ms < from_ms {
                    kept.push(sealed);
                    continue;
                }
                let mut samples = Vec::new();
                let _ = Unpacker::default().unpack(&sealed.bytes, &mut samples);
                let count = samples.len();
                samples.retain(|sample| !is_gone(sample));
                gone += count - samples.len();
                if let (Some(first), Some(last)) = (samples.first(), samples.last()) {
                    let bytes = Packer::default().pack(&samples).into();
                    kept.push(Sealed { from_ms: first.time_ms, to_ms: last.time_ms, bytes });
                }
            }
            self.sealed = kept;
        }
        gone
    }

    /// When its first sample is.
    pub fn oldest_ms(&self) -> Option<i64> {
        let sealed = self.sealed.first().map(|sealed| sealed.from_ms);
        let others = [&self.open, &self.late].map(|samples| samples.first().map(|sample| sample.time_ms));
        [sealed].into_iter().chain(others).flatten().min()
    }

    /// Whether it has no samples.
    pub fn is_empty(&self) -> bool {
        self.sealed.is_empty() && self.open.is_empty() && self.late.is_empty()
    }

    /// Bytes in memory.
    pub fn bytes(&self) -> usize {
        let sealed: usize = self.sealed.iter().map(|sealed| sealed.bytes.len() + 48).sum();
        sealed + (self.open.capacity() + self.late.capacity()) * size_of::<Sample>()
    }
}

impl Copied {
    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.sealed.is_empty() && self.loose.is_empty()
    }

    /// Unpacks it behind what `out` holds: oldest first, each time once, from a time until another one, both included.
    pub fn read(
        &self,
        from_ms: i64,
        to_ms: i64,
        unpacker: &mut Unpacker,
        out: &mut Vec<Sample>,
    ) -> Option<()> {
        let begin = out.len();
        for sealed in &self.sealed {
            unpacker.unpack(&sealed.bytes, out)?;
        }
        out.extend_from_slice(&self.loose);
        trim(out, begin, from_ms, to_ms);
        Some(())
    }
}

/// Puts the samples behind `begin` in order, and takes away those that are not from a time until another one.
pub fn trim(out: &mut Vec<Sample>, begin: usize, from_ms: i64, to_ms: i64) {
    let mut added = &mut out[begin..];
    if !added.is_sorted_by(|first, second| first.time_ms < second.time_ms) {
        added.sort_by_key(|sample| sample.time_ms);
        let mut kept = begin;
        for place in begin..out.len() {
            if place == begin || out[place].time_ms != out[kept - 1].time_ms {
                out[kept] = out[place];
                kept += 1;
            }
        }
        out.truncate(kept);
        added = &mut out[begin..];
    }
    let end = begin + added.partition_point(|sample| sample.time_ms <= to_ms);
    let first = begin + added.partition_point(|sample| sample.time_ms < from_ms);
    out.truncate(end);
    if first > begin {
        out.drain(begin..first.min(end));
    }
}
