//! How fast counters and gauges change: `rate`, `increase`, `delta`, `irate`, `idelta`.

use klar_tsdb::Sample;

use super::over_time::Window;
use crate::ast::Bounds;

#[allow(clippy::cast_precision_loss)] // as Prometheus reckons with times
fn seconds(milliseconds: i64) -> f64 {
    milliseconds as f64 / 1000.0
}

/// The change over a range: from the first to the last sample, and as far beyond them as the series likely goes on.
pub(super) fn change(window: &Window<'_>, is_counter: bool, is_rate: bool) -> Option<f64> {
    if window.bounds != Bounds::Strict {
        return bounded_change(window, is_counter, is_rate);
    }
    let samples = window.samples;
    let (first, last) = (samples.first()?, samples.last()?);
    if samples.len() < 2 {
        return None;
    }
    let mut change = last.value - first.value;
    if is_counter && window.falls {
        for pair in samples.windows(2) {
            if let [before, after] = pair
                && after.value < before.value
            {
                change += before.value;
            }
        }
    }
    let mut to_start = seconds(first.time_ms - window.from);
    let mut to_end = seconds(window.to - last.time_ms);
    let sampled = seconds(last.time_ms - first.time_ms);
    #[allow(clippy::cast_precision_loss)]
    let average = sampled / (samples.len() - 1) as f64;
    // A sample that is missing for longer than this means that the series begins or ends within the range.
    let threshold = average * 1.1;
    if to_start >= threshold {
        to_start = average / 2.0;
    }
    if is_counter && change > 0.0 && first.value >= 0.0 {
        // Counters are never below zero, not even before their first sample.
        to_start = to_start.min(sampled * (first.value / change));
    }
    if to_end >= threshold {
        to_end = average / 2.0;
    }
    let mut factor = 1.0;
    if sampled != 0.0 {
        factor = (sampled + to_start + to_end) / sampled;
    }
    if is_rate {
        factor /= seconds(window.to - window.from);
    }
    Some(change * factor)
}

/// The value at a time between two samples. A counter that was reset between them began again at zero.
pub(super) fn between(before: Sample, after: Sample, time: i64, is_counter: bool) -> f64 {
    let first = if is_counter && after.value < before.value { 0.0 } else { before.value };
    #[allow(clippy::cast_precision_loss)]
    let share = (time - before.time_ms) as f64 / (after.time_ms - before.time_ms) as f64;
    if before.time_ms == after.time_ms { before.value } else { first + (after.value - first) * share }
}

/// The values at both ends of a range, and the samples between them.
struct Ends<'a> {
    left: f64,
    right: f64,
    inner: &'a [Sample],
}

fn ends(samples: &[Sample], from: i64, to: i64, bounds: Bounds, is_counter: bool) -> Option<Ends<'_>> {
    let is_smoothed = bounds == Bounds::Smoothed;
    let mut last = samples.len().checked_sub(1)?;
    let search = |found: &dyn Fn(&Sample) -> bool| samples.iter().take(last).position(found).unwrap_or(last);
    let mut first = search(&|sample| sample.time_ms > from).saturating_sub(1);
    if is_smoothed {
        last = search(&|sample| sample.time_ms >= to);
    }
    let (left_end, right_end) = (*samples.get(first)?, *samples.get(last)?);
    if right_end.time_ms <= from || (is_smoothed && left_end.time_ms > to) {
        return None;
    }
    let left = match samples.get(first + 1) {
        Some(next) if is_smoothed && left_end.time_ms < from => between(left_end, *next, from, is_counter),
        _ => left_end.value,
    };
    let before = last.checked_sub(1).and_then(|before| samples.get(before));
    let right = match before {
        Some(before) if is_smoothed && right_end.time_ms > to => between(*before, right_end, to, is_counter),
        _ => right_end.value,
    };
    if left_end.time_ms <= from {
        first += 1;
    }
    let end = if right_end.time_ms >= to { last } else { last + 1 };
    Some(Ends { left, right, inner: samples.get(first..end).unwrap_or_default() })
}

/// The change of a range with known values at its ends.
fn bounded_change(window: &Window<'_>, is_counter: bool, is_rate: bool) -> Option<f64> {
    let Ends { left, right, inner } =
        ends(window.samples, window.from, window.to, window.bounds, is_counter)?;
    let mut change = right - left;
    if is_counter {
        let mut before = left;
        for value in inner.iter().map(|sample| sample.value).chain([right]) {
            if value < before {
                change += before;
            }
            before = value;
        }
    }
    Some(if is_rate { change / seconds(window.to - window.from) } else { change })
}

/// The samples of a range, with those at its ends.
pub(super) fn extended(samples: &[Sample], from: i64, to: i64, bounds: Bounds) -> Vec<Sample> {
    if bounds == Bounds::Strict {
        let within = |sample: &&Sample| sample.time_ms > from && sample.time_ms <= to;
        return samples.iter().filter(within).copied().collect();
    }
    let Some(Ends { left, right, inner }) = ends(samples, from, to, bounds, false) else { return Vec::new() };
    let mut found = vec![Sample { time_ms: from, value: left }];
    found.extend_from_slice(inner);
    found.push(Sample { time_ms: to, value: right });
    found
}

/// The change between the last two samples.
pub(super) fn last_change(window: &Window<'_>, is_rate: bool) -> Option<f64> {
    let [.., before, last] = window.samples else { return None };
    let between = last.time_ms - before.time_ms;
    if between == 0 {
        return None;
    }
    let was_reset = is_rate && last.value < before.value;
    let change = if was_reset { last.value } else { last.value - before.value };
    Some(if is_rate { change / seconds(between) } else { change })
}

/// The slope of the line through samples, and its value at a time.
pub(super) fn line(samples: &[Sample], at: i64) -> Option<(f64, f64)> {
    use super::kahan::Sum;
    let first = samples.first()?.value;
    if samples.len() < 2 {
        return None;
    }
    if samples.iter().all(|sample| sample.value == first) {
        return Some(if first.is_infinite() { (f64::NAN, f64::NAN) } else { (0.0, first) });
    }
    let [mut x, mut y, mut xy, mut xx] = [Sum::default(); 4];
    for sample in samples {
        let time = seconds(sample.time_ms - at);
        x.add(time);
        y.add(sample.value);
        xy.add(time * sample.value);
        xx.add(time * time);
    }
    #[allow(clippy::cast_precision_loss)]
    let count = samples.len() as f64;
    let [x, y, xy, xx] = [x, y, xy, xx].map(Sum::total);
    let slope = (xy - x * y / count) / (xx - x * x / count);
    Some((slope, y / count - slope * x / count))
}
