//! Quantiles, shares and the spread of histograms.

use super::{Bucket, Histogram};
use crate::eval::kahan::Sum;

/// What values that are no numbers do to an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Skew {
    /// Nothing.
    None,
    /// The answer is one of them.
    IsNan,
    /// They count, but they are in no bucket.
    IsHigher,
}

impl Bucket {
    /// Which share of it lies below a value within it.
    pub(super) fn share_below(&self, value: f64, is_linear: bool) -> f64 {
        if is_linear {
            return (value - self.lower) / (self.upper - self.lower);
        }
        let [lower, upper, at] = [self.lower, self.upper, value].map(|one| one.abs().log2());
        if value > 0.0 { (at - lower) / (upper - lower) } else { 1.0 - (at - upper) / (lower - upper) }
    }
}

impl Histogram {
    /// The zero bucket, if there are values on one side of it only, does not reach to the other side.
    fn narrowed(&self, mut bucket: Bucket) -> Bucket {
        match (self.parts.negative.is_empty(), self.parts.positive.is_empty()) {
            (true, false) => bucket.lower = 0.0,
            (false, true) => bucket.upper = 0.0,
            _ => {}
        }
        bucket
    }

    /// The value below which a share of what was counted lies.
    pub(crate) fn quantile(&self, q: f64) -> (f64, Skew) {
        let (total, sum) = (self.parts.count, self.parts.sum);
        if q < 0.0 {
            return (f64::NEG_INFINITY, Skew::None);
        }
        if q > 1.0 {
            return (f64::INFINITY, Skew::None);
        }
        if total == 0.0 || q.is_nan() {
            return (f64::NAN, Skew::None);
        }
        // From the nearer end. Values that are no numbers are in no bucket, so then only the lower end is known.
        let from_below = sum.is_nan() || q < 0.5;
        let mut buckets = self.buckets();
        if !from_below {
            buckets.reverse();
        }
        let mut rank = if from_below { q * total } else { (1.0 - q) * total };
        let mut bucket = Bucket { lower: 0.0, upper: 0.0, count: 0.0 };
        let mut count = 0.0;
        let mut rest = buckets.iter();
        for one in rest.by_ref() {
            bucket = *one;
            count += one.count;
            if count >= rank {
                break;
            }
        }
        if self.is_custom() {
            if bucket.lower == f64::NEG_INFINITY {
                if bucket.upper <= 0.0 {
                    return (bucket.upper, Skew::None);
                }
                bucket.lower = 0.0;
            } else if bucket.upper == f64::INFINITY {
                return (bucket.lower, Skew::None);
            }
        } else if bucket.lower < 0.0 && bucket.upper > 0.0 {
            bucket = self.narrowed(bucket);
        }
        count = f64::min(count, total);
        if count < rank {
            return if sum.is_nan() { (f64::NAN, Skew::IsNan) } else { (bucket.upper, Skew::None) };
        }
        rank = if from_below { rank - (count - bucket.count) } else { count - rank };
        let in_buckets = count + rest.map(|one| one.count).sum::<f64>();
        let skew = if sum.is_nan() && in_buckets < total { Skew::IsHigher } else { Skew::None };
        let share = rank / bucket.count;
        if self.is_custom() || (bucket.lower <= 0.0 && bucket.upper >= 0.0) {
            return (bucket.lower + (bucket.upper - bucket.lower) * share, skew);
        }
        let (lower, upper) = (bucket.lower.abs().log2(), bucket.upper.abs().log2());
        let value = if bucket.lower > 0.0 {
            (lower + (upper - lower) * share).exp2()
        } else {
            -(upper + (lower - upper) * (1.0 - share)).exp2()
        };
        (value, skew)
    }

    /// The share of what was counted that lies between two values.
    pub(crate) fn fraction(&self, lower: f64, upper: f64) -> (f64, Skew) {
        let total = self.parts.count;
        if total == 0.0 || lower.is_nan() || upper.is_nan() {
            return (f64::NAN, Skew::None);
        }
        if lower >= upper {
            return (0.0, Skew::None);
        }
        let buckets = self.buckets();
        let in_buckets = buckets.iter().map(|one| one.count).sum::<f64>();
        let is_nan = self.parts.sum.is_nan();
        let most = if is_nan { in_buckets } else { total };
        let rank = |value: f64| self.rank(&buckets, value).filter(|rank| *rank <= most).unwrap_or(most);
        let skew = if is_nan && in_buckets < total { Skew::IsHigher } else { Skew::None };
        ((rank(upper) - rank(lower)) / total, skew)
    }

    /// How many lie below a value; `None`: all.
    fn rank(&self, buckets: &[Bucket], value: f64) -> Option<f64> {
        let mut rank = 0.0;
        for bucket in buckets {
            let mut bucket = *bucket;
            let is_zero = bucket.lower <= 0.0 && bucket.upper >= 0.0;
            if is_zero {
                bucket = self.narrowed(bucket);
            }
            if bucket.lower >= value {
                return Some(rank);
            }
            if bucket.upper > value {
                let is_linear = self.is_custom() || is_zero;
                return Some(if is_linear && bucket.lower == f64::NEG_INFINITY {
                    bucket.count
                } else {
                    rank + bucket.count * bucket.share_below(value, is_linear)
                });
            }
            rank += bucket.count;
        }
        None
    }

    /// The variance, if all values lie in the middle of their buckets.
    pub(crate) fn variance(&self) -> f64 {
        let mean = self.parts.sum / self.parts.count;
        let mut variance = Sum::default();
        for Bucket { lower, upper, count } in self.buckets() {
            let value = if self.is_custom() {
                f64::midpoint(upper, lower)
            } else if lower <= 0.0 && upper >= 0.0 {
                0.0
            } else {
                (upper * lower).sqrt().copysign(upper)
            };
            let delta = value - mean;
            variance.add(count * delta * delta);
        }
        variance.total() / self.parts.count
    }
}
