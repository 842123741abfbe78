//! Native histograms: counts of values in buckets that lie side by side, with a sum, in one sample.
//!
//! Buckets are those of a schema (each a fixed factor wider than the one before) or have bounds of their own. Buckets
//! that count nothing are not kept.

mod read;
mod total;
mod trim;

use std::fmt;
use std::sync::Arc;

pub(crate) use read::Skew;
pub(crate) use total::Total;

/// The schema of histograms with bounds of their own.
pub const CUSTOM: i8 = -53;
/// How many buckets a histogram may have on each side of zero, and how many bounds of its own.
pub const BUCKETS_MAX: usize = 10_000;
/// The coarsest and the finest schema.
const SCHEMAS: std::ops::RangeInclusive<i8> = -4..=8;

/// What is known of whether a counter began again before a sample.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Hint {
    /// Nothing: it has to be found out.
    #[default]
    Unknown,
    /// It began again.
    Reset,
    /// It went on.
    NotReset,
    /// It is no counter.
    Gauge,
}

/// What a histogram is made of.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Parts {
    /// What is known of resets.
    pub hint: Hint,
    /// How fine buckets are, from -4 to 8; or [`CUSTOM`].
    pub schema: i8,
    /// The bounds of buckets of [`CUSTOM`], ascending, without the last one, which is infinite.
    pub bounds: Arc<[f64]>,
    /// Up to which distance from zero values are in the zero bucket.
    pub zero_threshold: f64,
    /// How many are in the zero bucket.
    pub zero_count: f64,
    /// How many there are.
    pub count: f64,
    /// What they come to.
    pub sum: f64,
    /// The buckets of values above zero: number and count, ascending.
    pub positive: Vec<(i32, f64)>,
    /// The buckets of values below zero: number and count, away from zero.
    pub negative: Vec<(i32, f64)>,
}

/// A histogram that is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadHistogram {
    /// Its schema is not known.
    #[error("the schema {0} is none; it is from -4 to 8, or -53")]
    Schema(i8),
    /// It has too many buckets.
    #[error("a histogram has at most {BUCKETS_MAX} buckets on each side and as many bounds")]
    Size,
    /// Its buckets or its bounds do not ascend, or lie where there are none.
    #[error("buckets and bounds of a histogram ascend, and there are no buckets beyond all numbers")]
    Order,
    /// It has a zero bucket that is none.
    #[error("the zero bucket of a histogram has a width that is a number and not below zero")]
    Zero,
}

/// A native histogram.
#[derive(Debug, Clone)]
pub struct Histogram {
    pub(crate) parts: Parts,
}

/// Counts compare by their bits, so that what is no number equals itself.
impl PartialEq for Histogram {
    fn eq(&self, other: &Self) -> bool {
        let (left, right) = (&self.parts, &other.parts);
        let same = |left: &[(i32, f64)], right: &[(i32, f64)]| {
            left.len() == right.len()
                && left.iter().zip(right).all(|(l, r)| l.0 == r.0 && l.1.to_bits() == r.1.to_bits())
        };
        left.schema == right.schema
            && left.bounds == right.bounds
            && left.zero_threshold == right.zero_threshold
            && left.zero_count.to_bits() == right.zero_count.to_bits()
            && left.count.to_bits() == right.count.to_bits()
            && left.sum.to_bits() == right.sum.to_bits()
            && same(&left.positive, &right.positive)
            && same(&left.negative, &right.negative)
    }
}

/// A bucket with its bounds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Bucket {
    pub lower: f64,
    pub upper: f64,
    pub count: f64,
}

/// The upper bound of a bucket above zero.
fn bound(schema: i8, bounds: &[f64], number: i32) -> f64 {
    if schema == CUSTOM {
        return match usize::try_from(number) {
            Ok(place) => bounds.get(place).copied().unwrap_or(f64::INFINITY),
            Err(_) => f64::NEG_INFINITY,
        };
    }
    let exponent = f64::from(number) * (-f64::from(schema)).exp2();
    // The last bucket of finite values ends with the largest of them; behind it are those that are not finite.
    if exponent == 1024.0 { f64::MAX } else { exponent.exp2() }
}

/// The number of the bucket of a coarser schema that a bucket lies in.
fn coarser(number: i32, from: i8, to: i8) -> i32 {
    let by = u32::try_from(from.saturating_sub(to)).unwrap_or(0).min(31);
    (number.saturating_sub(1) >> by) + 1
}

impl Histogram {
    /// A histogram of these parts.
    ///
    /// # Errors
    /// See [`BadHistogram`].
    pub fn new(mut parts: Parts) -> Result<Self, BadHistogram> {
        let is_custom = parts.schema == CUSTOM;
        if !is_custom && !SCHEMAS.contains(&parts.schema) {
            return Err(BadHistogram::Schema(parts.schema));
        }
        if [parts.positive.len(), parts.negative.len(), parts.bounds.len()]
            .iter()
            .any(|len| *len > BUCKETS_MAX)
        {
            return Err(BadHistogram::Size);
        }
        let numbers = if is_custom {
            0..=i32::try_from(parts.bounds.len()).map_err(|_| BadHistogram::Size)?
        } else {
            // No float lies beyond these.
            let most = coarser(1025 << 8, 8, parts.schema) + 1;
            -most..=most
        };
        let ascends = |side: &[(i32, f64)]| {
            side.iter().all(|(number, _)| numbers.contains(number))
                && side.windows(2).all(|pair| matches!(pair, [one, next] if one.0 < next.0))
        };
        let has_bounds = parts.bounds.windows(2).all(|pair| matches!(pair, [one, next] if one < next))
            && parts.bounds.iter().all(|bound| bound.is_finite())
            && (is_custom || parts.bounds.is_empty())
            && (!is_custom || parts.negative.is_empty());
        if !ascends(&parts.positive) || !ascends(&parts.negative) || !has_bounds {
            return Err(BadHistogram::Order);
        }
        if !(parts.zero_threshold >= 0.0 && parts.zero_threshold.is_finite()) {
            return Err(BadHistogram::Zero);
        }
        if is_custom {
            (parts.zero_threshold, parts.zero_count) = (0.0, 0.0);
        }
        Ok(Self::compact(parts))
    }

    /// Without buckets that count nothing.
    fn compact(mut parts: Parts) -> Self {
        parts.positive.retain(|(_, count)| *count != 0.0);
        parts.negative.retain(|(_, count)| *count != 0.0);
        Self { parts }
    }

    /// What it is made of.
    #[must_use]
    pub const fn parts(&self) -> &Parts {
        &self.parts
    }

    /// How many samples it counts as where memory is counted.
    pub(crate) fn weight(&self) -> usize {
        8 + self.parts.positive.len() + self.parts.negative.len()
    }

    /// Whether it has bounds of its own.
    pub(crate) const fn is_custom(&self) -> bool {
        self.parts.schema == CUSTOM
    }

    pub(crate) fn is_gauge(&self) -> bool {
        self.parts.hint == Hint::Gauge
    }

    /// The same with another hint.
    #[must_use]
    pub fn hinted(mut self, hint: Hint) -> Self {
        self.parts.hint = hint;
        self
    }

    /// Both together. `None`: one has bounds of its own, and the other has not.
    #[must_use]
    pub fn plus(&self, other: &Self) -> Option<Self> {
        let mut total = Total::of(self);
        total.add(other, false)?;
        Some(total.histogram())
    }

    /// Without what the other counts. `None`: one has bounds of its own, and the other has not.
    #[must_use]
    pub fn minus(&self, other: &Self) -> Option<Self> {
        let mut total = Total::of(self);
        total.add(other, true)?;
        Some(total.histogram())
    }

    /// All counts and the sum times a factor.
    #[must_use]
    pub(crate) fn times(&self, factor: f64) -> Self {
        self.each_count(factor < 0.0, |count| count * factor)
    }

    /// All counts and the sum by a number.
    #[must_use]
    pub(crate) fn divided(&self, by: f64) -> Self {
        let mut divided = self.each_count(by < 0.0, |count| count / by);
        if by == 0.0 {
            divided.parts.positive.clear();
            divided.parts.negative.clear();
        }
        divided
    }

    fn each_count(&self, is_negative: bool, of: impl Fn(f64) -> f64) -> Self {
        let mut parts = self.parts.clone();
        parts.zero_count = of(parts.zero_count);
        parts.count = of(parts.count);
        parts.sum = of(parts.sum);
        for (_, count) in parts.positive.iter_mut().chain(&mut parts.negative) {
            *count = of(*count);
        }
        if is_negative {
            parts.hint = Hint::Gauge;
        }
        Self::compact(parts)
    }

    /// All buckets, from the lowest to the highest. Those beside the zero bucket end where it begins.
    pub(crate) fn buckets(&self) -> Vec<Bucket> {
        let parts = &self.parts;
        let of = |number: i32| bound(parts.schema, &parts.bounds, number);
        let mut found = Vec::with_capacity(parts.positive.len() + parts.negative.len() + 1);
        found.extend(parts.negative.iter().rev().map(|(number, count)| {
            let upper = -of(number - 1);
            let upper =
                if upper < 0.0 && upper > -parts.zero_threshold { -parts.zero_threshold } else { upper };
            Bucket { lower: -of(*number), upper, count: *count }
        }));
        if parts.zero_count > 0.0 {
            found.push(self.zero());
        }
        found.extend(parts.positive.iter().map(|(number, count)| {
            let lower = of(number - 1);
            let lower =
                if lower > 0.0 && lower < parts.zero_threshold { parts.zero_threshold } else { lower };
            Bucket { lower, upper: of(*number), count: *count }
        }));
        found
    }

    fn zero(&self) -> Bucket {
        let Parts { zero_threshold, zero_count, .. } = self.parts;
        Bucket { lower: -zero_threshold, upper: zero_threshold, count: zero_count }
    }

    /// Whether a counter began again between an earlier sample and this one.
    #[must_use]
    pub fn was_reset(&self, before: &Self) -> bool {
        let (now, then) = (&self.parts, &before.parts);
        match now.hint {
            Hint::Reset => return true,
            Hint::NotReset => return false,
            Hint::Unknown | Hint::Gauge => {}
        }
        if now.count < then.count || (self.is_custom() && !before.is_custom()) {
            return true;
        }
        if self.is_custom() && now.bounds != then.bounds {
            return fell_between(now, then);
        }
        if now.schema > then.schema || now.zero_threshold < then.zero_threshold {
            return true;
        }
        let (threshold, zero_count) = total::widened(before, now.zero_threshold);
        if threshold != now.zero_threshold || now.zero_count < zero_count {
            return true;
        }
        let fell = |now_side: &[(i32, f64)], then_side: &[(i32, f64)]| {
            let then_side = total::reduced(then_side, then.schema, now.schema);
            let mut counts = now_side.iter().peekable();
            then_side.iter().any(|(number, count)| {
                if now.zero_threshold > 0.0 && bound(now.schema, &now.bounds, *number) <= now.zero_threshold {
                    return false;
                }
                while counts.next_if(|one| one.0 < *number).is_some() {}
                let is = counts.peek().filter(|one| one.0 == *number).map_or(0.0, |one| one.1);
                is < *count
            })
        };
        fell(&now.positive, &then.positive) || fell(&now.negative, &then.negative)
    }
}

/// Whether less is counted between bounds that both have.
fn fell_between(now: &Parts, then: &Parts) -> bool {
    let common = total::common(&now.bounds, &then.bounds);
    let now = total::mapped(&now.positive, &now.bounds, &common);
    let then = total::mapped(&then.positive, &then.bounds, &common);
    then.iter().any(|(number, count)| {
        let is = now.iter().find(|one| one.0 == *number).map_or(0.0, |one| one.1);
        is < *count
    })
}

/// As Prometheus writes it.
impl fmt::Display for Histogram {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let written = crate::eval::written;
        write!(out, "{{count:{}, sum:{}", written(self.parts.count), written(self.parts.sum))?;
        for Bucket { lower, upper, count } in self.buckets() {
            let is_zero = lower == -upper;
            let has_lower = if self.is_custom() { lower.is_infinite() } else { is_zero || lower < 0.0 };
            let has_upper = self.is_custom() || is_zero || upper > 0.0;
            let (open, close) = (if has_lower { '[' } else { '(' }, if has_upper { ']' } else { ')' });
            write!(out, ", {open}{},{}{close}:{}", written(lower), written(upper), written(count))?;
        }
        out.write_str("}")
    }
}

#[cfg(test)]
mod tests;
