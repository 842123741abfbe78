//! Quantiles and shares of classic histograms: series of buckets, told apart by `le`.

use std::collections::HashMap;

use klar_tsdb::Labels;

use super::Evaluator;
use super::rows::{Grid, Row};
use crate::error::EvalError;

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

/// Something of each histogram at each time.
fn of_each(rows: &[Row], grid: Grid, of: impl Fn(usize, Vec<Bucket>) -> f64) -> Vec<Row> {
    let mut found = Vec::new();
    for histogram in histograms(rows) {
        let mut row = Row::empty(histogram.labels.clone(), true, grid.count);
        for place in 0..grid.count {
            let buckets = histogram.buckets(rows, place);
            if !buckets.is_empty() {
                row.set(place, of(place, buckets));
            }
        }
        if !row.is_empty() {
            found.push(row);
        }
    }
    found
}

impl Evaluator<'_> {
    /// `histogram_quantile(q, rows)`
    pub(super) fn histogram_quantile(quantiles: &[f64], rows: &[Row], grid: Grid) -> Vec<Row> {
        of_each(rows, grid, |place, buckets| {
            quantile(quantiles.get(place).copied().unwrap_or(f64::NAN), buckets)
        })
    }

    /// `histogram_quantiles(rows, label, q, …)`
    pub(super) fn histogram_quantiles(
        label: &str,
        all: &[Vec<f64>],
        rows: &[Row],
        grid: Grid,
    ) -> Result<Vec<Row>, EvalError> {
        let mut found = Vec::new();
        for quantiles in all {
            // Most often it is the same at all times.
            let mut distinct: Vec<f64> = quantiles.clone();
            distinct.sort_by(f64::total_cmp);
            distinct.dedup_by(|left, right| left.to_bits() == right.to_bits());
            for one in distinct {
                let rows = of_each(rows, grid, |place, buckets| match quantiles.get(place) {
                    Some(its) if its.to_bits() == one.to_bits() => quantile(one, buckets),
                    _ => super::rows::NONE,
                });
                for mut row in rows {
                    let labels = row.labels.with(label, &open_metrics(one));
                    row.labels = labels.map_err(|bad| EvalError::Meaningless(bad.to_string()))?;
                    found.push(row);
                }
            }
        }
        Ok(found)
    }

    /// `histogram_fraction(lower, upper, rows)`
    pub(super) fn histogram_fraction(lower: &[f64], upper: &[f64], rows: &[Row], grid: Grid) -> Vec<Row> {
        let at = |values: &[f64], place: usize| values.get(place).copied().unwrap_or(f64::NAN);
        of_each(rows, grid, |place, buckets| fraction(at(lower, place), at(upper, place), &buckets))
    }
}

/// As OpenMetrics writes numbers: whole ones with `.0`.
fn open_metrics(value: f64) -> String {
    let text = super::aggregate::written(value);
    if value.is_finite() && !text.contains('.') { format!("{text}.0") } else { text }
}

/// The value below which a share of what was counted lies, if it is spread evenly in each bucket.
fn quantile(q: f64, mut buckets: Vec<Bucket>) -> f64 {
    if q.is_nan() {
        return f64::NAN;
    }
    if !(0.0..=1.0).contains(&q) {
        return if q < 0.0 { f64::NEG_INFINITY } else { f64::INFINITY };
    }
    if buckets.last().is_none_or(|last| last.le != f64::INFINITY) || buckets.len() < 2 {
        return f64::NAN;
    }
    make_monotonic(&mut buckets);
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
fn make_monotonic(buckets: &mut [Bucket]) {
    let mut before = f64::NAN;
    for bucket in buckets {
        let is_close = {
            let (left, right) = (before, bucket.count);
            let (difference, sum) = ((left - right).abs(), left.abs() + right.abs());
            left == right || difference / sum.min(f64::MAX) < TOLERANCE
        };
        if is_close || bucket.count < before {
            bucket.count = before;
        } else {
            before = bucket.count;
        }
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
