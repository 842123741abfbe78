//! Sums that lose little: Kahan's, as Neumaier improved it.

/// A sum, and what it lost so far.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Sum {
    sum: f64,
    lost: f64,
}

impl Sum {
    /// Of one value.
    pub(crate) const fn of(value: f64) -> Self {
        Self { sum: value, lost: 0.0 }
    }

    /// Adds another sum, with what that lost.
    pub(crate) fn absorb(&mut self, other: Self) {
        self.add(other.sum);
        self.lost += other.lost;
    }

    pub(crate) const fn is_infinite(self) -> bool {
        self.sum.is_infinite()
    }

    pub(crate) fn add(&mut self, value: f64) {
        let sum = self.sum + value;
        if sum.is_infinite() {
            self.lost = 0.0;
        } else if self.sum.abs() >= value.abs() {
            self.lost += (self.sum - sum) + value;
        } else {
            self.lost += (value - sum) + self.sum;
        }
        self.sum = sum;
    }

    pub(crate) fn total(self) -> f64 {
        if self.sum.is_infinite() { self.sum } else { self.sum + self.lost }
    }

    pub(crate) fn scaled(self, by: f64) -> Self {
        Self { sum: self.sum * by, lost: self.lost * by }
    }
}

/// A mean: the sum by the count, unless the sum would be infinite.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Mean {
    /// Of the values, or of their shares.
    sum: Sum,
    count: f64,
    is_incremental: bool,
}

impl Mean {
    pub(super) fn add(&mut self, value: f64) {
        self.count += 1.0;
        if !self.is_incremental {
            let mut sum = self.sum;
            sum.add(value);
            // The first one stands for itself.
            if !sum.sum.is_infinite() || self.count <= 1.0 {
                self.sum = sum;
                return;
            }
            self.is_incremental = true;
            self.sum =
                Sum { sum: self.sum.sum / (self.count - 1.0), lost: self.sum.lost / (self.count - 1.0) };
        }
        self.sum = self.sum.scaled((self.count - 1.0) / self.count);
        self.sum.add(value / self.count);
    }

    pub(super) fn mean(self) -> f64 {
        if self.is_incremental {
            self.sum.sum + self.sum.lost
        } else {
            self.sum.sum / self.count + self.sum.lost / self.count
        }
    }
}

/// How far values are from their mean.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Variance {
    count: f64,
    mean: Sum,
    squares: Sum,
}

impl Variance {
    pub(super) fn add(&mut self, value: f64) {
        self.count += 1.0;
        let delta = value - (self.mean.sum + self.mean.lost);
        self.mean.add(delta / self.count);
        self.squares.add(delta * (value - (self.mean.sum + self.mean.lost)));
    }

    pub(super) fn variance(self) -> f64 {
        (self.squares.sum + self.squares.lost) / self.count
    }
}

/// The quantile of some values, which are sorted for it; one that is no number comes first.
pub(super) fn quantile(q: f64, values: &mut [f64]) -> f64 {
    if values.is_empty() || q.is_nan() {
        return f64::NAN;
    }
    if !(0.0..=1.0).contains(&q) {
        return if q < 0.0 { f64::NEG_INFINITY } else { f64::INFINITY };
    }
    values.sort_unstable_by(ascending);
    #[allow(clippy::cast_precision_loss)]
    let rank = q * (values.len() - 1) as f64;
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // between 0 and the length
    let lower = rank.floor() as usize;
    let weight = rank - rank.floor();
    let at = |place: usize| values.get(place.min(values.len() - 1)).copied().unwrap_or(f64::NAN);
    at(lower) * (1.0 - weight) + at(lower + 1) * weight
}

/// By value; what is no number comes first.
pub(super) fn ascending(left: &f64, right: &f64) -> std::cmp::Ordering {
    left.partial_cmp(right).unwrap_or_else(|| right.is_nan().cmp(&left.is_nan()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn little_is_lost() {
        let mut sum = Sum::default();
        [1.0, 1e100, 1.0, -1e100].into_iter().for_each(|value| sum.add(value));
        assert_eq!(sum.total(), 2.0);
        let mut mean = Mean::default();
        [f64::MAX, f64::MAX, f64::MAX].into_iter().for_each(|value| mean.add(value));
        assert!((mean.mean() / f64::MAX - 1.0).abs() < 1e-12);
        let mut values = [3.0, f64::NAN, 1.0];
        assert_eq!(quantile(0.5, &mut values), 1.0);
        assert_eq!(quantile(2.0, &mut values), f64::INFINITY);
    }
}
