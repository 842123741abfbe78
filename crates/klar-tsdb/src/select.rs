//! What a selection found, unpacked only when it is read.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::block::Region;
use crate::chunk::Unpacker;
use crate::labels::Labels;
use crate::sample::Sample;
use crate::series::{Copied, trim};
use crate::store::Error;

/// Series, sorted by their labels. Those whose samples are all outside the time may be there too, without samples.
pub struct Selection {
    /// The series.
    pub series: Vec<Found>,
}

/// A series of a selection.
pub struct Found {
    /// Its labels.
    pub labels: Labels,
    pub(crate) from_ms: i64,
    pub(crate) to_ms: i64,
    pub(crate) parts: Vec<Part>,
    pub(crate) budget: Arc<Budget>,
}

/// Where samples are.
pub(crate) enum Part {
    Head(Copied),
    Block(Region),
}

/// How many samples may still be unpacked.
pub(crate) struct Budget {
    most: usize,
    taken: AtomicUsize,
}

impl Budget {
    pub const fn new(most: usize) -> Self {
        Self { most, taken: AtomicUsize::new(0) }
    }
}

impl Found {
    /// Puts its samples behind what `out` holds, oldest first, each time once.
    ///
    /// # Errors
    /// A block that cannot be read; more samples than one selection may have.
    pub fn read(&self, unpacker: &mut Unpacker, out: &mut Vec<Sample>) -> Result<(), Error> {
        let begin = out.len();
        for part in &self.parts {
            match part {
                Part::Head(copied) => {
                    // Packed in this process: it comes back.
                    let _ = copied.read(self.from_ms, self.to_ms, unpacker, out);
                }
                Part::Block(region) => region.read(self.from_ms, self.to_ms, unpacker, out)?,
            }
        }
        trim(out, begin, self.from_ms, self.to_ms);
        let count = out.len() - begin;
        if self.budget.taken.fetch_add(count, Ordering::Relaxed) + count > self.budget.most {
            return Err(Error::TooManySamples(self.budget.most));
        }
        Ok(())
    }

    /// Its samples, oldest first.
    ///
    /// # Errors
    /// See [`Found::read`].
    pub fn samples(&self) -> Result<Vec<Sample>, Error> {
        let mut out = Vec::new();
        self.read(&mut Unpacker::default(), &mut out)?;
        Ok(out)
    }
}
