//! How numbers are distributed, in little space: counts of ranges that grow with the numbers.
//!
//! Each power of two is cut into 16 equal ranges; numbers below 16 have a range of their own. A quantile is told as the
//! middle of its range, so it is wrong by 1/32 (3.125 %) at most.

use crate::bytes::{Reader, put};

const BITS: u32 = 4;
/// Ranges that there are.
pub const RANGES: usize = ((64 - BITS as usize) << BITS) + (1 << BITS);

/// The range of a number.
#[inline]
pub const fn range(number: u64) -> usize {
    if number < 1 << BITS {
        return number as usize;
    }
    let power = 63 - number.leading_zeros();
    (((power - BITS + 1) << BITS) as u64 + ((number >> (power - BITS)) & ((1 << BITS) - 1))) as usize
}

/// The middle of a range.
fn middle(range: usize) -> f64 {
    if range < 1 << BITS {
        return range as f64;
    }
    let power = (range >> BITS) as u32 + BITS - 1;
    let width = (1_u64 << (power - BITS)) as f64;
    let start = (1_u64 << power) as f64 + (range & ((1 << BITS) - 1)) as f64 * width;
    start + (width - 1.0) / 2.0
}

/// Counts of numbers by their range.
#[derive(Debug, Clone, Default)]
pub struct Histogram {
    /// As many as are needed.
    counts: Vec<u64>,
}

impl PartialEq for Histogram {
    /// What was not needed yet is as good as zeros.
    fn eq(&self, other: &Self) -> bool {
        let most = self.counts.len().max(other.counts.len());
        let count = |of: &Self, range: usize| of.counts.get(range).copied().unwrap_or_default();
        (0..most).all(|range| count(self, range) == count(other, range))
    }
}

impl Eq for Histogram {}

impl Histogram {
    /// Counts a number.
    #[inline]
    pub fn add(&mut self, number: u64) {
        self.add_range(range(number), 1);
    }

    #[inline]
    pub(crate) fn add_range(&mut self, range: usize, count: u64) {
        match self.counts.get_mut(range) {
            Some(there) => *there += count,
            None => self.grow(range, count),
        }
    }

    #[cold]
    fn grow(&mut self, range: usize, count: u64) {
        self.counts.resize((range + 1).next_multiple_of(64).min(RANGES), 0);
        if let Some(there) = self.counts.get_mut(range) {
            *there += count;
        }
    }

    /// Adds what another one has counted.
    pub fn merge(&mut self, other: &Self) {
        if self.counts.len() < other.counts.len() {
            self.counts.resize(other.counts.len(), 0);
        }
        self.counts.iter_mut().zip(&other.counts).for_each(|(there, more)| *there += more);
    }

    /// How many numbers were counted.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// The number that a share of all are not above, 3.125 % off at most; `None` if there are none.
    pub fn quantile(&self, share: f64) -> Option<f64> {
        let count = self.count();
        let wanted = ((share.clamp(0.0, 1.0) * count as f64).ceil() as u64).clamp(1, count.max(1));
        let mut seen = 0;
        for (range, there) in self.counts.iter().enumerate() {
            seen += there;
            if seen >= wanted {
                return Some(middle(range));
            }
        }
        None
    }

    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        let used = || self.counts.iter().enumerate().filter(|(_, count)| **count > 0);
        put(out, used().count() as u64);
        let mut next = 0;
        for (range, count) in used() {
            put(out, (range - next) as u64);
            put(out, *count);
            next = range + 1;
        }
    }

    /// Adds what was written to this one.
    pub(crate) fn read_into(&mut self, from: &mut Reader) -> Option<()> {
        let mut next = 0;
        for _ in 0..from.size()? {
            let range = from.size()?.checked_add(next).filter(|range| *range < RANGES)?;
            self.add_range(range, from.number()?);
            next = range + 1;
        }
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_number_is_near_the_middle_of_its_range() {
        let mut last = 0;
        for number in (0..5000).chain((13..64).flat_map(|power| {
            let base = 1_u64 << power;
            [base - 1, base, base + base / 31, base + base / 3, base + (base - 1)]
        })) {
            let found = middle(range(number));
            assert!((found - number as f64).abs() <= number as f64 / 32.0, "{number}: {found}");
            assert!(range(number) >= last);
            last = range(number);
        }
        assert_eq!(range(u64::MAX), RANGES - 1);
    }

    #[test]
    fn it_comes_back() {
        let mut histogram = Histogram::default();
        (0..1000).for_each(|number| histogram.add(number * number));
        assert_eq!(histogram.count(), 1000);
        let p95 = histogram.quantile(0.95).unwrap();
        assert!((p95 / (949.0 * 949.0) - 1.0).abs() < 0.032, "{p95}");
        let mut bytes = Vec::new();
        histogram.write(&mut bytes);
        let mut again = Histogram::default();
        again.read_into(&mut Reader(&bytes)).unwrap();
        assert_eq!((again.count(), again.quantile(0.5)), (1000, histogram.quantile(0.5)));
        assert_eq!(Histogram::default().quantile(0.5), None);
    }
}
