//! Histograms without what lies above or below a value.

use super::{Bucket, Histogram, Parts, bound};

/// What is left of a bucket: how many, and around which value.
type Kept = (f64, f64);

impl Histogram {
    /// Without what lies above a value (`is_upper`) or below it. Sum and count are then those of the middles of buckets.
    #[must_use]
    pub(crate) fn trimmed(&self, at: f64, is_upper: bool) -> Self {
        let mut parts = self.parts.clone();
        let (mut count, mut sum) = (0.0, 0.0);
        let mut is_changed = false;
        let Parts { schema, bounds, .. } = &self.parts;
        let of = |number: i32| bound(*schema, bounds, number);
        for (side, is_positive) in [(&mut parts.positive, true), (&mut parts.negative, false)] {
            for (number, its) in side.iter_mut() {
                let (lower, upper) = if is_positive {
                    (of(*number - 1), of(*number))
                } else {
                    (-of(*number), -of(*number - 1))
                };
                let bucket = Bucket { lower, upper, count: *its };
                let (kept, middle) = if is_upper && upper <= at || !is_upper && lower >= at {
                    (*its, self.middle(lower, upper, is_positive))
                } else if is_upper && lower < at || !is_upper && upper > at {
                    self.cut(bucket, at, is_upper, is_positive)
                } else {
                    (0.0, 0.0)
                };
                count += kept;
                sum += middle * kept;
                is_changed |= *its != kept;
                *its = kept;
            }
        }
        if parts.zero_count > 0.0 {
            let (kept, middle) = self.cut_zero(at, is_upper);
            is_changed |= parts.zero_count != kept;
            parts.zero_count = kept;
            count += kept;
            sum += middle * kept;
        }
        if is_changed {
            (parts.count, parts.sum) = (count, sum);
        }
        Self::compact(parts)
    }

    fn cut(&self, bucket: Bucket, at: f64, is_upper: bool, is_positive: bool) -> Kept {
        let Bucket { lower, upper, count } = bucket;
        if lower == f64::NEG_INFINITY || upper == f64::INFINITY {
            return cut_endless(bucket, at, is_upper);
        }
        let under = if at <= lower {
            0.0
        } else if at >= upper {
            count
        } else {
            count * bucket.share_below(at, self.is_custom())
        };
        if is_upper {
            (under, self.middle(lower, at, is_positive))
        } else {
            (count - under, self.middle(at, upper, is_positive))
        }
    }

    fn cut_zero(&self, at: f64, is_upper: bool) -> Kept {
        let Bucket { mut lower, mut upper, count } = self.zero();
        match (self.parts.negative.is_empty(), self.parts.positive.is_empty()) {
            (false, true) => upper = 0.0,
            (true, false) => lower = 0.0,
            _ => {}
        }
        let all = (count, f64::midpoint(lower, upper));
        match (at <= lower, at >= upper) {
            (true, _) => {
                if is_upper {
                    (0.0, 0.0)
                } else {
                    all
                }
            }
            (_, true) => {
                if is_upper {
                    all
                } else {
                    (0.0, 0.0)
                }
            }
            _ if is_upper => (count * ((at - lower) / (upper - lower)), f64::midpoint(lower, at)),
            _ => (count * ((upper - at) / (upper - lower)), f64::midpoint(at, upper)),
        }
    }

    /// The middle of a bucket, as its schema sees it.
    fn middle(&self, lower: f64, upper: f64, is_positive: bool) -> f64 {
        match (lower.is_infinite(), upper.is_infinite()) {
            (true, true) => 0.0,
            (true, false) if upper > 0.0 => upper / 2.0,
            (true, false) => upper,
            (false, true) => lower,
            _ if self.is_custom() => f64::midpoint(lower, upper),
            _ => {
                let middle = (lower * upper).abs().sqrt();
                if is_positive { middle } else { -middle }
            }
        }
    }
}

/// A bucket without an end: nothing is known of where in it values lie.
fn cut_endless(Bucket { lower, upper, count }: Bucket, at: f64, is_upper: bool) -> Kept {
    let finite = |value: f64| if value.is_infinite() { 0.0 } else { value };
    if lower == f64::NEG_INFINITY {
        let has_end = upper != f64::INFINITY;
        return match is_upper {
            true if at >= upper => (count, 0.0),
            true if at > 0.0 && upper > 0.0 && has_end => (count * at / upper, at / 2.0),
            true if upper <= 0.0 => (count, at),
            false if at <= lower => (count, 0.0),
            false if at >= 0.0 && upper > at && has_end => {
                (count * (1.0 - at / upper), f64::midpoint(at, upper))
            }
            _ => (0.0, finite(upper)),
        };
    }
    if !is_upper && at >= lower { (count, at) } else { (0.0, finite(lower)) }
}
