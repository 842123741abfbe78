//! Functions of ranges of samples.

use klar_tsdb::{Labels, Sample, is_stale};

use super::Evaluator;
use super::kahan::{Mean, Sum, Variance, quantile};
use super::native_over_time::{Windows, mixed};
use super::rate::{change, last_change, line};
use super::rows::{Grid, NONE, Row};
use super::select::Asked;
use crate::NativeSample;
use crate::ast::{Bounds, Expr, Kind};
use crate::error::EvalError;
use crate::notes::On;

/// The samples of one range of one series.
pub(super) struct Window<'a> {
    /// Those after `from` until `to`; more, if the bounds say so. At least one.
    pub samples: &'a [Sample],
    pub from: i64,
    pub to: i64,
    pub bounds: Bounds,
    /// The time for which all this is asked.
    pub now: i64,
    /// A value may be less than the one before it.
    pub falls: bool,
}

/// A function of a range and other arguments.
pub(super) type OverTime = fn(&Window<'_>, &[f64]) -> Option<f64>;

fn over_time(name: &str) -> Option<OverTime> {
    Some(match name {
        "rate" => |window, _| change(window, true, true),
        "increase" => |window, _| change(window, true, false),
        "delta" => |window, _| change(window, false, false),
        "irate" => |window, _| last_change(window, true),
        "idelta" => |window, _| last_change(window, false),
        "deriv" => |window, _| line(window.samples, window.samples.first()?.time_ms).map(|(slope, _)| slope),
        "predict_linear" => |window, args| {
            let (slope, value) = line(window.samples, window.now)?;
            Some(slope * args.first()? + value)
        },
        "double_exponential_smoothing" => {
            |window, args| smoothing(window.samples, *args.first()?, *args.get(1)?)
        }
        "avg_over_time" => |window, _| {
            let mut mean = Mean::default();
            values(window).for_each(|value| mean.add(value));
            Some(mean.mean())
        },
        "sum_over_time" => |window, _| {
            let mut sum = Sum::default();
            values(window).for_each(|value| sum.add(value));
            Some(sum.total())
        },
        #[allow(clippy::cast_precision_loss)]
        "count_over_time" => |window, _| Some(window.samples.len() as f64),
        "min_over_time" => |window, _| extreme(window, |one, least| one < least).map(|sample| sample.value),
        "max_over_time" => |window, _| extreme(window, |one, most| one > most).map(|sample| sample.value),
        "ts_of_min_over_time" => |window, _| extreme(window, |one, least| one <= least).map(time),
        "ts_of_max_over_time" => |window, _| extreme(window, |one, most| one >= most).map(time),
        "first_over_time" => |window, _| window.samples.first().map(|sample| sample.value),
        "last_over_time" => |window, _| window.samples.last().map(|sample| sample.value),
        "ts_of_first_over_time" => |window, _| window.samples.first().copied().map(time),
        "ts_of_last_over_time" => |window, _| window.samples.last().copied().map(time),
        "present_over_time" | "absent_over_time" => |_, _| Some(1.0),
        "stddev_over_time" => |window, _| Some(variance(window).sqrt()),
        "stdvar_over_time" => |window, _| Some(variance(window)),
        "quantile_over_time" => {
            |window, args| Some(quantile(*args.first()?, &mut values(window).collect::<Vec<_>>()))
        }
        "mad_over_time" => |window, _| Some(deviation(values(window).collect())),
        "changes" => {
            |window, _| pairs(window, |before, after| before != after && !(before.is_nan() && after.is_nan()))
        }
        "resets" => |window, _| pairs(window, |before, after| after < before),
        _ => return None,
    })
}

fn values<'a>(window: &'a Window<'_>) -> impl Iterator<Item = f64> + 'a {
    window.samples.iter().map(|sample| sample.value)
}

#[allow(clippy::cast_precision_loss)]
fn time(sample: Sample) -> f64 {
    sample.time_ms as f64 / 1000.0
}

/// The sample with the most or the least value; what is no number gives way.
fn extreme(window: &Window<'_>, is_better: fn(f64, f64) -> bool) -> Option<Sample> {
    window
        .samples
        .iter()
        .copied()
        .reduce(|best, one| if is_better(one.value, best.value) || best.value.is_nan() { one } else { best })
}

fn variance(window: &Window<'_>) -> f64 {
    let mut variance = Variance::default();
    values(window).for_each(|value| variance.add(value));
    variance.variance()
}

/// The median of how far values are from their median.
fn deviation(mut values: Vec<f64>) -> f64 {
    if values.iter().any(|value| value.is_nan()) {
        return f64::NAN;
    }
    let median = quantile(0.5, &mut values);
    values.iter_mut().for_each(|value| *value = (*value - median).abs());
    quantile(0.5, &mut values)
}

/// How many values stand so to the one before. An anchored range begins with the last sample before it.
fn pairs(window: &Window<'_>, counts: fn(f64, f64) -> bool) -> Option<f64> {
    let mut samples = window.samples;
    if window.bounds == Bounds::Anchored {
        let after = samples.partition_point(|sample| sample.time_ms <= window.from);
        if after == samples.len() {
            return None;
        }
        samples = samples.get(after.saturating_sub(1)..)?;
    }
    let counted = samples
        .windows(2)
        .filter(|pair| matches!(pair, [before, after] if counts(before.value, after.value)));
    #[allow(clippy::cast_precision_loss)]
    Some(counted.count() as f64)
}

/// Holt's linear trend method.
fn smoothing(samples: &[Sample], factor: f64, trend_factor: f64) -> Option<f64> {
    let [first, second, ..] = samples else { return None };
    let (mut before, mut smoothed) = (0.0, first.value);
    let mut trend = second.value - first.value;
    for (place, sample) in samples.iter().enumerate().skip(1) {
        if place > 1 {
            trend = trend_factor * (smoothed - before) + (1.0 - trend_factor) * trend;
        }
        let next = factor * sample.value + (1.0 - factor) * (smoothed + trend);
        (before, smoothed) = (smoothed, next);
    }
    Some(smoothed)
}

/// A function of ranges, for all times of a grid.
struct Call<'a> {
    function: OverTime,
    name: &'a str,
    asked: Asked,
    /// Its other arguments, for each time.
    args: &'a [Vec<f64>],
    grid: Grid,
    /// How much earlier and later than its range samples may be.
    earlier: i64,
    later: i64,
}

impl Call<'_> {
    /// Its values for one series. `falls` is room to work in.
    fn values(&self, samples: &[Sample], falls: &mut Vec<u32>) -> Vec<f64> {
        let Asked { range, reference, bounds } = self.asked;
        // The value is the same at all times, unless something else differs.
        let is_same = reference.is_fixed() && self.args.is_empty();
        // A sample is in many ranges; what falls is looked for once.
        let counts = matches!(self.name, "rate" | "increase") && bounds == Bounds::Strict;
        if counts {
            fallen(samples, falls);
        }
        let mut others = vec![0.0; self.args.len()];
        let (mut first, mut behind) = (0, 0);
        let mut found = vec![NONE; self.grid.count];
        for (place, (now, to_set)) in self.grid.times().zip(&mut found).enumerate() {
            let to = reference.of(now);
            let from = to - range;
            while samples.get(behind).is_some_and(|sample| sample.time_ms <= to + self.later) {
                behind += 1;
            }
            while first < behind
                && samples.get(first).is_some_and(|sample| sample.time_ms <= from - self.earlier)
            {
                first += 1;
            }
            let within = samples.get(first..behind).unwrap_or_default();
            if within.is_empty() {
                continue;
            }
            for (to, values) in others.iter_mut().zip(self.args) {
                *to = values.get(place).copied().unwrap_or(f64::NAN);
            }
            let falls = !counts || falls.get(first) != falls.get(behind - 1);
            let window = Window { samples: within, from, to, bounds, now, falls };
            *to_set = (self.function)(&window, &others).unwrap_or(NONE);
            if is_same {
                break;
            }
        }
        if is_same && let Some(first) = found.first().copied() {
            found.fill(first);
        }
        found
    }

    /// The same for a series with native histograms.
    fn mixed_values(&self, samples: &[Sample], natives: &[NativeSample], row: &mut Row, on: &mut On<'_>) {
        let Asked { range, reference, bounds } = self.asked;
        for (place, now) in self.grid.times().enumerate() {
            let to = reference.of(now);
            let from = to - range;
            let (first, last) = (from - self.earlier, to + self.later);
            let floats_from = samples.partition_point(|sample| sample.time_ms <= first);
            let floats_to = samples.partition_point(|sample| sample.time_ms <= last);
            let natives_from = natives.partition_point(|sample| sample.time_ms <= first);
            let natives_to = natives.partition_point(|sample| sample.time_ms <= last);
            let windows = Windows {
                floats: Window {
                    samples: samples.get(floats_from..floats_to).unwrap_or_default(),
                    from,
                    to,
                    bounds,
                    now,
                    falls: true,
                },
                natives: natives.get(natives_from..natives_to).unwrap_or_default(),
            };
            let args: Vec<f64> =
                self.args.iter().map(|arg| arg.get(place).copied().unwrap_or(f64::NAN)).collect();
            if let Some(made) = mixed(self.name, self.function, &windows, &args, on) {
                row.put(place, made);
            }
        }
    }

    /// Nonsense that only shows where there is something.
    fn refuse(&self, samples: &[Sample]) -> Result<(), EvalError> {
        if self.name != "double_exponential_smoothing" || samples.is_empty() {
            return Ok(());
        }
        match self.args.iter().flatten().find(|factor| !(**factor > 0.0 && **factor < 1.0)) {
            Some(factor) => Err(EvalError::Meaningless(format!(
                "the factors of `{}` lie between 0 and 1, found {factor}",
                self.name
            ))),
            None => Ok(()),
        }
    }
}

/// For each sample, how many until it, itself included, are less than the one before them.
fn fallen(samples: &[Sample], falls: &mut Vec<u32>) {
    falls.clear();
    let mut before = f64::NAN;
    let mut count = 0;
    falls.extend(samples.iter().map(|sample| {
        count += u32::from(sample.value < before);
        before = sample.value;
        count
    }));
}

impl Evaluator<'_> {
    /// A function of the ranges of `of` for all times of a grid; `args` are its other arguments for each of them.
    pub(super) fn over_time(
        &mut self,
        name: &str,
        of: &Expr,
        args: &[Vec<f64>],
        grid: Grid,
    ) -> Result<Vec<Row>, EvalError> {
        let Some(function) = over_time(name) else {
            return Err(EvalError::Meaningless(format!("`{name}` is no function of ranges")));
        };
        let lookback = self.options.lookback_ms;
        let call = |asked: Asked| -> Result<Call<'_>, EvalError> {
            refuse(name, asked.bounds)?;
            let earlier = if asked.bounds == Bounds::Strict { 0 } else { lookback };
            let later = if asked.bounds == Bounds::Smoothed { lookback } else { 0 };
            Ok(Call { function, name, asked, args, grid, earlier, later })
        };
        let keeps_name = matches!(name, "last_over_time" | "first_over_time");
        let mut falls = Vec::new();
        let mut rows = Vec::new();
        let mut add = |this: &mut Self,
                       call: &Call<'_>,
                       labels: Labels,
                       drop_name: bool,
                       samples: &[Sample],
                       natives: &[NativeSample]| {
            call.refuse(samples)?;
            let drop_name = drop_name || !keeps_name;
            let row = if natives.is_empty() {
                Row::of(labels, drop_name, call.values(samples, &mut falls))
            } else {
                let mut row = Row::empty(labels.clone(), drop_name, grid.count);
                call.mixed_values(
                    samples,
                    natives,
                    &mut row,
                    &mut On { notes: &mut this.notes, place: of.place, labels: &labels },
                );
                row
            };
            if matches!(name, "rate" | "increase") && row.values.iter().any(|value| !is_stale(*value)) {
                On { notes: &mut this.notes, place: of.place, labels: &row.labels }.check_counter();
            }
            if !row.is_empty() {
                this.charge(grid.count)?;
                rows.push(row);
            }
            Ok(())
        };
        if let Kind::Range { selector, range } = &of.bare().kind {
            let (asked, from, to) = self.asked(selector, range, grid)?;
            let call = call(asked)?;
            let mut kept = Vec::new();
            self.each(&selector.matchers, from, to, |this, labels, samples, natives| {
                if !samples.iter().any(|sample| is_stale(sample.value)) {
                    return add(this, &call, labels, false, samples, natives);
                }
                kept.clear();
                kept.extend(samples.iter().filter(|sample| !is_stale(sample.value)));
                add(this, &call, labels, false, &kept, natives)
            })?;
        } else {
            let ranges = self.ranges(of, grid)?;
            let call = call(ranges.asked)?;
            for one in ranges.series {
                self.go_on()?;
                add(self, &call, one.labels, one.drop_name, &one.samples, &one.natives)?;
            }
        }
        Ok(rows)
    }
}

/// What makes no sense.
fn refuse(name: &str, bounds: Bounds) -> Result<(), EvalError> {
    let (keyword, allowed): (_, &[&str]) = match bounds {
        Bounds::Strict => return Ok(()),
        Bounds::Anchored => ("anchored", &["changes", "delta", "increase", "rate", "resets"]),
        Bounds::Smoothed => ("smoothed", &["delta", "increase", "rate"]),
    };
    if allowed.contains(&name) {
        return Ok(());
    }
    let what = format!("{keyword} modifier can only be used with: {} - not with {name}", allowed.join(", "));
    Err(EvalError::Meaningless(what))
}
