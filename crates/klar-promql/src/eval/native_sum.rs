//! Sums and means of native histograms.

use crate::histogram::{Hint, Histogram, Total};
use crate::notes::On;

/// Adds, and notes what there is to know. `None`: they cannot be added.
pub(super) fn add(total: &mut Total, other: &Histogram, on: &mut On<'_>) -> Option<()> {
    noted(total, other, false, on)
}

/// Takes away, and notes what there is to know. `None`: they cannot be put together.
pub(super) fn sub(total: &mut Total, other: &Histogram, on: &mut On<'_>) -> Option<()> {
    noted(total, other, true, on)
}

fn noted(total: &mut Total, other: &Histogram, is_minus: bool, on: &mut On<'_>) -> Option<()> {
    let Some(merged) = total.add(other, is_minus) else {
        on.mixed_bounds();
        return None;
    };
    if merged.bounds_differ {
        on.bounds_differ(if is_minus { "subtraction" } else { "addition" });
    }
    Some(())
}

/// A sum or a mean of histograms.
#[derive(Clone, Default)]
pub(super) struct Sums {
    is_mean: bool,
    total: Option<Total>,
    count: f64,
    /// The sum would be infinite: the total is one of shares.
    is_incremental: bool,
    is_mixed: bool,
    was_reset: bool,
    went_on: bool,
    bounds_differ: bool,
}

impl Sums {
    pub(super) fn new(is_mean: bool) -> Self {
        Self { is_mean, ..Self::default() }
    }

    pub(super) fn add(&mut self, one: &Histogram) {
        if self.is_mixed {
            return;
        }
        self.count += 1.0;
        match one.parts().hint {
            Hint::Reset => self.was_reset = true,
            Hint::NotReset => self.went_on = true,
            Hint::Unknown | Hint::Gauge => {}
        }
        let Some(total) = &mut self.total else {
            self.total = Some(Total::of(one));
            return;
        };
        if self.is_mean && !self.is_incremental {
            let mut sum = total.clone();
            let Some(merged) = sum.add(one, false) else {
                self.is_mixed = true;
                return;
            };
            self.bounds_differ |= merged.bounds_differ;
            if !sum.is_infinite() {
                *total = sum;
                return;
            }
            self.is_incremental = true;
            total.scale(1.0 / (self.count - 1.0));
        }
        let merged = if self.is_incremental {
            total.scale((self.count - 1.0) / self.count);
            total.add(&one.divided(self.count), false)
        } else {
            total.add(one, false)
        };
        match merged {
            Some(merged) => self.bounds_differ |= merged.bounds_differ,
            None => self.is_mixed = true,
        }
    }

    /// What it comes to.
    pub(super) fn take(self, on: &mut On<'_>) -> Option<Histogram> {
        if self.was_reset && self.went_on {
            on.hints_collide("aggregation");
        }
        if self.bounds_differ {
            on.bounds_differ("aggregation");
        }
        if self.is_mixed {
            on.mixed_bounds();
            return None;
        }
        let total = self.total?.histogram();
        Some(if self.is_mean && !self.is_incremental { total.divided(self.count) } else { total })
    }
}
