//! Quantiles and shares of histograms: native ones, and classic ones, which are series of buckets told apart by `le`.

use std::collections::HashMap;

use klar_tsdb::Labels;

use super::Evaluator;
use super::rows::{Grid, Row};
use crate::ast::Place;
use crate::error::EvalError;
use crate::histogram::Skew;
use crate::notes::{Notes, On};

/// Differences of counts below this share are errors of reckoning.
const TOLERANCE: f64 = 1e-12;
/// The label that says up to which value a bucket counts.
const LE: &str = "le";

/// How many were at most so large.
#[derive(Clone, Copy)]
struct Bucket {
    le: f64,
    count: f64,
}

/// A histogram: its labels without `le`, and its rows by `le`.
struct Histogram {
    labels: Labels,
    rows: Vec<(f64, usize)>,
}

fn histograms(rows: &[Row]) -> Vec<Histogram> {
    let mut places: HashMap<Labels, usize> = HashMap::new();
    let mut found: Vec<Histogram> = Vec::new();
    for (index, row) in rows.iter().enumerate() {
        let Some(le) = row.labels.get(LE).and_then(|le| le.parse::<f64>().ok()) else { continue };
        let labels = row.labels.filtered(|label| label != LE);
        let next = found.len();
        let place = *places.entry(labels.clone()).or_insert(next);
        if place == next {
            found.push(Histogram { labels, rows: Vec::new() });
        }
        if let Some(histogram) = found.get_mut(place) {
            histogram.rows.push((le, index));
        }
    }
    for histogram in &mut found {
        histogram.rows.sort_by(|left, right| left.0.total_cmp(&right.0));
    }
    found
}

impl Histogram {
    /// Its buckets at one time; those with the same bound put together.
    fn buckets(&self, rows: &[Row], place: usize) -> Vec<Bucket> {
        let mut buckets: Vec<Bucket> = Vec::with_capacity(self.rows.len());
        for (le, row) in &self.rows {
            let Some(count) = rows.get(*row).and_then(|row| row.at(place)) else { continue };
            match buckets.last_mut() {
                Some(last) if last.le == *le => last.count += count,
                _ => buckets.push(Bucket { le: *le, count }),
            }
        }
        buckets
    }
}

/// Something of each histogram at each time: of classic ones with their buckets, and of native ones.
/// Where a series has both, it has neither.
fn of_each(
    mut rows: Vec<Row>,
    grid: Grid,
    (notes, place_of): (&mut Notes, Place),
    of: impl Fn(usize, Vec<Bucket>, &mut On<'_>) -> f64,
    of_native: impl Fn(usize, &crate::Histogram, &mut On<'_>) -> f64,
) -> Vec<Row> {
    let mut natives: Vec<Row> = rows.iter().filter(|row| !row.natives.is_empty()).cloned().collect();
    for row in &mut rows {
        let is_float = row.values.iter().any(|value| !klar_tsdb::is_stale(*value));
        if is_float && row.labels.get(LE).and_then(|le| le.parse::<f64>().ok()).is_none() {
            On { notes: &mut *notes, place: place_of, labels: &row.labels }.bad_bucket();
        }
    }
    let mut found = Vec::new();
    for histogram in histograms(&rows) {
        let mut row = Row::empty(histogram.labels.clone(), true, grid.count);
        let mut native = natives.iter_mut().find(|native| native.labels == histogram.labels);
        for place in 0..grid.count {
            let buckets = histogram.buckets(&rows, place);
            if buckets.is_empty() {
                continue;
            }
            if let Some(native) = native.as_mut().filter(|native| native.native(place).is_some()) {
                On { notes: &mut *notes, place: place_of, labels: &native.labels }.both_kinds();
                native.clear(place);
                continue;
            }
            let mut on = On { notes: &mut *notes, place: place_of, labels: &histogram.labels };
            row.set(place, of(place, buckets, &mut on));
        }
        if !row.is_empty() {
            found.push(row);
        }
    }
    for mut row in natives {
        row.drop_name = true;
        row.values.fill(super::rows::NONE);
        let natives = std::mem::take(&mut row.natives);
        for (place, native) in natives.iter().enumerate() {
            if let Some(histogram) = native {
                let mut on = On { notes: &mut *notes, place: place_of, labels: &row.labels };
                let value = of_native(place, histogram, &mut on);
                row.set(place, value);
            }
        }
        if !row.is_empty() {
            found.push(row);
        }
    }
    found
}

/// The quantile of a native histogram.
fn native_quantile(q: f64, histogram: &crate::Histogram, on: &mut On<'_>) -> f64 {
    let (value, skew) = histogram.quantile(q);
    match skew {
        Skew::None => {}
        Skew::IsNan => on.skewed("histogram_quantile", "result is NaN"),
        Skew::IsHigher => on.skewed("histogram_quantile", "result is skewed higher"),
    }
    value
}

impl Evaluator<'_> {
    /// `histogram_quantile(q, rows)`
    pub(super) fn histogram_quantile(
        &mut self,
        quantiles: &[f64],
        rows: Vec<Row>,
        grid: Grid,
        [place_of_q, place_of]: [Place; 2],
    ) -> Result<Vec<Row>, EvalError> {
        self.notes.check_quantiles(quantiles, place_of_q);
        let at = |place: usize| quantiles.get(place).copied().unwrap_or(f64::NAN);
        let rows = of_each(
            rows,
            grid,
            (&mut self.notes, place_of),
            |place, buckets, on| quantile(at(place), buckets, on),
            |place, histogram, on| native_quantile(at(place), histogram, on),
        );
        super::rows::merged(rows)
    }

    /// `histogram_quantiles(rows, label, q, …)`
    pub(super) fn histogram_quantiles(
        &mut self,
        label: &str,
        all: &[Vec<f64>],
        rows: Vec<Row>,
        grid: Grid,
        places: &[Place],
    ) -> Result<Vec<Row>, EvalError> {
        let mut found = Vec::new();
        let place_of = places.first().copied().unwrap_or_default();
        for (number, quantiles) in all.iter().enumerate() {
            self.notes.check_quantiles(quantiles, places.get(number + 2).copied().unwrap_or_default());
            // Most often it is the same at all times.
            let mut distinct: Vec<f64> = quantiles.clone();
            distinct.sort_by(f64::total_cmp);
            distinct.dedup_by(|left, right| left.to_bits() == right.to_bits());
            for one in distinct {
                let is_now =
                    |place: usize| quantiles.get(place).is_some_and(|its| its.to_bits() == one.to_bits());
                let rows = of_each(
                    rows.clone(),
                    grid,
                    (&mut self.notes, place_of),
                    |place, buckets, on| {
                        if is_now(place) { quantile(one, buckets, on) } else { super::rows::NONE }
                    },
                    |place, histogram, on| {
                        if is_now(place) { native_quantile(one, histogram, on) } else { super::rows::NONE }
                    },
                );
                for mut row in rows {
                    let labels = row.labels.with(label, &open_metrics(one));
                    row.labels = labels.map_err(|bad| EvalError::Meaningless(bad.to_string()))?;
                    found.push(row);
                }
            }
        }
        super::rows::merged(found)
    }

    /// `histogram_fraction(lower, upper, rows)`
    pub(super) fn histogram_fraction(
        &mut self,
        lower: &[f64],
        upper: &[f64],
        rows: Vec<Row>,
        grid: Grid,
        place_of: Place,
    ) -> Result<Vec<Row>, EvalError> {
        let at = |values: &[f64], place: usize| values.get(place).copied().unwrap_or(f64::NAN);
        let rows = of_each(
            rows,
            grid,
            (&mut self.notes, place_of),
            |place, buckets, _| fraction(at(lower, place), at(upper, place), &buckets),
            |place, histogram, on| {
                let (value, skew) = histogram.fraction(at(lower, place), at(upper, place));
                if skew != Skew::None {
                    on.skewed("histogram_fraction", "which are excluded from all fractions");
                }
                value
            },
        );
        super::rows::merged(rows)
    }
}

/// As OpenMetrics writes numbers: whole ones with `.0`.
fn open_metrics(value: f64) -> String {
    let text = super::aggregate::written(value);
    if value.is_finite() && !text.contains('.') { format!("{text}.0") } else { text }
}

/// The value below which a share of what was counted lies, if it is spread evenly in each bucket.
fn quantile(q: f64, mut buckets: Vec<Bucket>, on: &mut On<'_>) -> f64 {
    if q.is_nan() {
        return f64::NAN;
    }
    if !(0.0..=1.0).contains(&q) {
        return if q < 0.0 { f64::NEG_INFINITY } else { f64::INFINITY };
    }
    if buckets.last().is_none_or(|last| last.le != f64::INFINITY) || buckets.len() < 2 {
        return f64::NAN;
    }
    make_monotonic(&mut buckets, on);
    let total = buckets.last().map_or(0.0, |last| last.count);
    if total == 0.0 || total.is_nan() {
        return f64::NAN;
    }
    let rank = q * total;
    let last = buckets.len() - 1;
    let place = buckets.iter().take(last).position(|bucket| bucket.count >= rank).unwrap_or(last);
    let before = place.checked_sub(1).and_then(|before| buckets.get(before)).copied();
    match (buckets.get(place), before) {
        (_, Some(before)) if place == last => before.le,
        (Some(bucket), None) if bucket.le <= 0.0 => bucket.le,
        (Some(bucket), before) => {
            let Bucket { le, count } = before.unwrap_or(Bucket { le: 0.0, count: 0.0 });
            le + (bucket.le - le) * ((rank - count) / (bucket.count - count))
        }
        (None, _) => f64::NAN,
    }
}

/// Counts only grow with their bounds; what does not was counted at different times.
fn make_monotonic(buckets: &mut [Bucket], on: &mut On<'_>) {
    let mut before = f64::NAN;
    let mut forced: Option<(f64, f64, f64)> = None;
    for bucket in buckets {
        let is_close = {
            let (left, right) = (before, bucket.count);
            let (difference, sum) = ((left - right).abs(), left.abs() + right.abs());
            left == right || difference / sum.min(f64::MAX) < TOLERANCE
        };
        if is_close || bucket.count < before {
            if !is_close {
                let (from, _, most) = forced.unwrap_or((bucket.le, bucket.le, 0.0));
                forced = Some((from, bucket.le, f64::max(most, before - bucket.count)));
            }
            bucket.count = before;
        } else {
            before = bucket.count;
        }
    }
    if let Some((from, to, difference)) = forced {
        on.not_monotonic(from, to, difference);
    }
}

/// The share of what was counted that lies between two values.
fn fraction(lower: f64, upper: f64, buckets: &[Bucket]) -> f64 {
    let Some(last) = buckets.last().filter(|last| last.le == f64::INFINITY) else { return f64::NAN };
    let total = last.count;
    if total == 0.0 || total.is_nan() || lower.is_nan() || upper.is_nan() {
        return f64::NAN;
    }
    if lower >= upper {
        return 0.0;
    }
    (rank(upper, buckets, total) - rank(lower, buckets, total)) / total
}

/// How many were at most as large as a value.
fn rank(value: f64, buckets: &[Bucket], total: f64) -> f64 {
    let first = buckets.first().map_or(0.0, |first| first.le);
    let mut start = if first <= 0.0 { f64::NEG_INFINITY } else { 0.0 };
    let mut below = 0.0;
    for bucket in buckets {
        if start >= value {
            return f64::min(below, total);
        }
        if bucket.le > value {
            // Nothing is known of where in an endless bucket they lie.
            let rank = if start == f64::NEG_INFINITY {
                bucket.count
            } else {
                below + (bucket.count - below) * (value - start) / (bucket.le - start)
            };
            return rank.min(total);
        }
        below = bucket.count;
        start = bucket.le;
    }
    total
}
