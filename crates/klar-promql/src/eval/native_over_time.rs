//! Functions of ranges that have native histograms.

use std::sync::Arc;

use super::native_sum::{Sums, add, sub};
use super::over_time::{OverTime, Window};
use super::rows::Made;
use crate::ast::Bounds;
use crate::histogram::{Hint, Histogram, Parts, Total};
use crate::notes::On;
use crate::{NativeSample, histogram};

/// The samples of one range of one series; at least one.
pub(super) struct Windows<'a> {
    /// Its floats; there may be none.
    pub floats: Window<'a>,
    pub natives: &'a [NativeSample],
}

#[allow(clippy::cast_precision_loss)] // as Prometheus reckons with times
fn seconds(milliseconds: i64) -> f64 {
    milliseconds as f64 / 1000.0
}

/// The value of a function; `of_floats` is the same for floats alone.
pub(super) fn mixed(
    name: &str,
    of_floats: OverTime,
    windows: &Windows<'_>,
    args: &[f64],
    on: &mut On<'_>,
) -> Option<Made> {
    let Windows { floats, natives } = windows;
    let has_floats = !floats.samples.is_empty();
    let only_floats = || if has_floats { of_floats(floats, args).map(Made::Float) } else { None };
    let (Some(first), Some(last)) = (natives.first(), natives.last()) else { return only_floats() };
    let oldest = floats.samples.first().map(|sample| sample.time_ms);
    let newest = floats.samples.last().map(|sample| sample.time_ms);
    match name {
        "rate" | "increase" | "delta" | "avg_over_time" | "sum_over_time" if has_floats => {
            on.mixed();
            None
        }
        "rate" | "increase" | "delta" => {
            let (is_counter, is_rate) = (name != "delta", name == "rate");
            let change = if floats.bounds == Bounds::Strict { extrapolated } else { bounded };
            change(windows, is_counter, is_rate, on).map(Made::from)
        }
        "avg_over_time" | "sum_over_time" => {
            let mut sums = Sums::new(name == "avg_over_time");
            natives.iter().for_each(|sample| sums.add(&sample.histogram));
            sums.take(on).map(Made::from)
        }
        "irate" | "idelta" => last_change(windows, name == "irate", of_floats, on),
        #[allow(clippy::cast_precision_loss)]
        "count_over_time" => Some(Made::Float((floats.samples.len() + natives.len()) as f64)),
        "present_over_time" | "absent_over_time" => Some(Made::Float(1.0)),
        "first_over_time" => match oldest {
            Some(oldest) if oldest < first.time_ms => only_floats(),
            _ => Some(Made::Native(Arc::clone(&first.histogram))),
        },
        "last_over_time" => match newest {
            Some(newest) if newest > last.time_ms => only_floats(),
            _ => Some(Made::Native(Arc::clone(&last.histogram))),
        },
        "ts_of_first_over_time" => {
            Some(Made::Float(seconds(oldest.map_or(first.time_ms, |oldest| oldest.min(first.time_ms)))))
        }
        "ts_of_last_over_time" => {
            Some(Made::Float(seconds(newest.map_or(last.time_ms, |newest| newest.max(last.time_ms)))))
        }
        "changes" => pairs(windows, |before, after| before != after),
        "resets" => pairs(windows, |before, after| after.was_reset(before)),
        // The others are about numbers.
        _ => {
            if has_floats {
                on.ignored();
            }
            only_floats()
        }
    }
}

/// How many samples stand so to the one before; floats as `changes` and `resets` have them.
fn pairs(windows: &Windows<'_>, counts: fn(&Histogram, &Histogram) -> bool) -> Option<Made> {
    let Windows { floats, natives } = windows;
    let mut all: Vec<(i64, Result<f64, &Histogram>)> =
        Vec::with_capacity(floats.samples.len() + natives.len());
    all.extend(floats.samples.iter().map(|sample| (sample.time_ms, Ok(sample.value))));
    all.extend(natives.iter().map(|sample| (sample.time_ms, Err(&*sample.histogram))));
    all.sort_by_key(|one| one.0);
    if floats.bounds == Bounds::Anchored {
        let after = all.partition_point(|one| one.0 <= floats.from);
        if after == all.len() {
            return None;
        }
        all.drain(..after.saturating_sub(1));
    }
    // Whether it is `resets` that is asked for shows in what it says of floats.
    let is_resets = counts(&empty(1.0), &empty(0.0)) && !counts(&empty(0.0), &empty(1.0));
    let counted = all.windows(2).filter(|pair| match pair {
        [(_, Ok(before)), (_, Ok(after))] if is_resets => after < before,
        [(_, Ok(before)), (_, Ok(after))] => before != after && !(before.is_nan() && after.is_nan()),
        [(_, Err(before)), (_, Err(after))] => counts(before, after),
        _ => true,
    });
    #[allow(clippy::cast_precision_loss)]
    Some(Made::Float(counted.count() as f64))
}

fn empty(count: f64) -> Histogram {
    Histogram { parts: Parts { count, ..Parts::default() } }
}

/// The change over a range, as far beyond its samples as the series likely goes on.
fn extrapolated(
    windows: &Windows<'_>,
    is_counter: bool,
    is_rate: bool,
    on: &mut On<'_>,
) -> Option<Histogram> {
    let Windows { floats: Window { from, to, .. }, natives } = windows;
    let (first, last) = (natives.first()?, natives.last()?);
    if natives.len() < 2 {
        return None;
    }
    let change = change(natives, is_counter, on)?;
    let mut to_start = seconds(first.time_ms - from);
    let mut to_end = seconds(to - last.time_ms);
    let sampled = seconds(last.time_ms - first.time_ms);
    #[allow(clippy::cast_precision_loss)]
    let average = sampled / (natives.len() - 1) as f64;
    let threshold = average * 1.1;
    if to_start >= threshold {
        to_start = average / 2.0;
    }
    let began_with = first.histogram.parts.count;
    if is_counter && change.parts.count > 0.0 && began_with >= 0.0 {
        to_start = to_start.min(sampled * (began_with / change.parts.count));
    }
    if to_end >= threshold {
        to_end = average / 2.0;
    }
    let mut factor = 1.0;
    if sampled != 0.0 {
        factor = (sampled + to_start + to_end) / sampled;
    }
    if is_rate {
        factor /= seconds(to - from);
    }
    Some(change.times(factor))
}

/// From the first to the last of some histograms, and what was lost when a counter began again.
fn change(natives: &[NativeSample], is_counter: bool, on: &mut On<'_>) -> Option<Histogram> {
    let [first, second, ..] = natives else { return None };
    let last = &natives.last()?.histogram;
    let mut before = Arc::clone(&first.histogram);
    if is_counter && [&before, last].iter().any(|one| one.is_gauge()) {
        on.no_counter();
    }
    let mut is_custom = before.is_custom();
    if is_counter && second.histogram.was_reset(&before) {
        // The first one counts nothing that the others count.
        let Parts { schema, bounds, .. } = &second.histogram.parts;
        let parts = Parts { schema: *schema, bounds: Arc::clone(bounds), ..Parts::default() };
        before = Arc::new(Histogram { parts });
        is_custom = before.is_custom();
    }
    if last.is_custom() != is_custom {
        on.mixed_bounds();
        return None;
    }
    let mut schema = last.parts.schema.min(before.parts.schema);
    let inner = natives.get(1..natives.len() - 1).unwrap_or_default();
    for one in inner.iter().filter(|_| is_counter) {
        if one.histogram.is_gauge() {
            on.no_counter();
        }
        schema = schema.min(one.histogram.parts.schema);
        if one.histogram.is_custom() != is_custom {
            on.mixed_bounds();
            return None;
        }
    }
    let mut change = Total::of(last);
    if !is_custom {
        change.reduce(schema);
    }
    sub(&mut change, &before, on)?;
    if is_counter {
        for NativeSample { histogram, .. } in natives.iter().skip(1) {
            if histogram.was_reset(&before) {
                add(&mut change, &before, on)?;
            }
            before = Arc::clone(histogram);
        }
    } else if !first.histogram.is_gauge() || !last.is_gauge() {
        on.no_gauge();
    }
    Some(change.histogram().hinted(Hint::Gauge))
}

/// The change between the last two samples.
fn last_change(windows: &Windows<'_>, is_rate: bool, of_floats: OverTime, on: &mut On<'_>) -> Option<Made> {
    let Windows { floats, natives } = windows;
    let newest = floats.samples.last().map(|sample| sample.time_ms);
    let older = floats.samples.len().checked_sub(2).and_then(|at| floats.samples.get(at));
    let last = natives.last()?;
    let before_last = natives.len().checked_sub(2).and_then(|at| natives.get(at));
    if older.is_some_and(|older| older.time_ms > last.time_ms) {
        return of_floats(floats, &[]).map(Made::Float);
    }
    let before = match before_last {
        Some(before) if newest.is_none_or(|newest| newest < before.time_ms) => before,
        _ => {
            if newest.is_some() {
                on.mixed();
            }
            return None;
        }
    };
    let between = last.time_ms - before.time_ms;
    if between == 0 {
        return None;
    }
    let both = [&last.histogram, &before.histogram];
    if is_rate && both.iter().any(|one| one.is_gauge()) {
        on.no_counter();
    }
    if !is_rate && !both.iter().all(|one| one.is_gauge()) {
        on.no_gauge();
    }
    let mut change = Total::of(&last.histogram);
    if !is_rate || !last.histogram.was_reset(&before.histogram) {
        sub(&mut change, &before.histogram, on)?;
    }
    let change = change.histogram().hinted(Hint::Gauge);
    Some(Made::from(if is_rate { change.divided(seconds(between)) } else { change }))
}

/// The histogram at a time between two samples. A counter that was reset between them began again at zero.
fn between(
    before: &NativeSample,
    after: &NativeSample,
    time: i64,
    is_counter: bool,
    on: &mut On<'_>,
) -> Option<Histogram> {
    if time == before.time_ms {
        return Some((*before.histogram).clone());
    }
    if time == after.time_ms {
        return Some((*after.histogram).clone());
    }
    let share = seconds(time - before.time_ms) / seconds(after.time_ms - before.time_ms);
    if is_counter && after.histogram.was_reset(&before.histogram) {
        return Some(after.histogram.times(share));
    }
    let mut change = Total::of(&after.histogram);
    sub(&mut change, &before.histogram, on)?;
    change.scale(share);
    add(&mut change, &before.histogram, on)?;
    Some(change.histogram())
}

/// The histogram at a time, between the samples on both sides of it.
pub(super) fn smoothed(
    natives: &[NativeSample],
    time: i64,
    lookback: i64,
    on: &mut On<'_>,
) -> Option<Histogram> {
    let at = natives.partition_point(|sample| sample.time_ms < time);
    let next = natives.get(at).filter(|next| next.time_ms <= time + lookback);
    let last = at.checked_sub(1).and_then(|at| natives.get(at)).filter(|last| last.time_ms > time - lookback);
    match (last, next) {
        (_, Some(next)) if next.time_ms == time => Some((*next.histogram).clone()),
        (Some(last), Some(next)) => {
            if last.histogram.is_custom() != next.histogram.is_custom() {
                on.mixed_bounds();
                return None;
            }
            let is_counter = !last.histogram.is_gauge() || !next.histogram.is_gauge();
            between(last, next, time, is_counter, on)
        }
        // What is known of resets is about two samples, and this is not one of them.
        (Some(last), None) => Some((*last.histogram).clone().hinted(Hint::Unknown)),
        (None, _) => None,
    }
}

/// The change of a range with known histograms at its ends.
fn bounded(windows: &Windows<'_>, is_counter: bool, is_rate: bool, on: &mut On<'_>) -> Option<Histogram> {
    let Windows { floats: Window { from, to, bounds, .. }, natives } = windows;
    let is_smoothed = *bounds == Bounds::Smoothed;
    let mut last = natives.len().checked_sub(1)?;
    let search =
        |found: &dyn Fn(&NativeSample) -> bool| natives.iter().take(last).position(found).unwrap_or(last);
    let first = search(&|sample| sample.time_ms > *from).saturating_sub(1);
    if is_smoothed {
        last = search(&|sample| sample.time_ms >= *to);
    }
    let (left_end, right_end) = (natives.get(first)?, natives.get(last)?);
    if right_end.time_ms <= *from || (is_smoothed && left_end.time_ms > *to) {
        return None;
    }
    let asked = natives.get(first..=last)?;
    for one in asked {
        if one.histogram.is_custom() != left_end.histogram.is_custom() {
            on.mixed_bounds();
            return None;
        }
        if is_counter && one.histogram.is_gauge() {
            on.no_counter();
        }
    }
    let left = match natives.get(first + 1) {
        Some(next) if is_smoothed && left_end.time_ms < *from => {
            between(left_end, next, *from, is_counter, on)?
        }
        _ => (*left_end.histogram).clone(),
    };
    let before_right = last.checked_sub(1).and_then(|before| natives.get(before));
    let right = match before_right {
        Some(before) if is_smoothed && right_end.time_ms > *to => {
            between(before, right_end, *to, is_counter, on)?
        }
        _ => (*right_end.histogram).clone(),
    };
    if !is_counter && [&left, &right].iter().any(|one| !one.is_gauge()) {
        on.no_gauge();
    }
    let mut change = Total::of(&right);
    sub(&mut change, &left, on)?;
    if is_counter {
        let mut before = &left;
        let mut start = first + 1;
        if is_smoothed
            && left_end.time_ms < *from
            && let Some(next) = natives.get(first + 1)
            && next.histogram.was_reset(&left_end.histogram)
        {
            // The left end lies behind that reset already.
            before = &next.histogram;
            start += 1;
        }
        if start <= last {
            let inner = natives.get(start..last).unwrap_or_default().iter().map(|one| &*one.histogram);
            for one in inner.chain([&right]) {
                if one.was_reset(before) {
                    add(&mut change, before, on)?;
                }
                before = one;
            }
        }
    }
    let mut change = change.histogram();
    if is_rate {
        change = change.divided(seconds(to - from));
    }
    Some(change.hinted(histogram::Hint::Gauge))
}
