//! The series of selectors.

use std::sync::Arc;

use klar_tsdb::{Sample, is_stale};

use super::rows::{Grid, NONE, Row};
use super::{Evaluator, Ranged, Reference};
use crate::NativeSample;
use crate::ast::{Bounds, Expr, Kind, Length, Place, Selector};
use crate::error::EvalError;
use crate::histogram::{Hint, Histogram};
use crate::notes::On;

/// Series, and which ranges of them are asked for.
pub(super) struct Ranges {
    pub series: Vec<Ranged>,
    pub asked: Asked,
}

/// Which ranges are asked for.
#[derive(Clone, Copy)]
pub(super) struct Asked {
    pub range: i64,
    pub reference: Reference,
    pub bounds: Bounds,
}

/// The newest sample at a time, if it is no older than it may be and has not ended.
/// `cursor` is the place of the first sample after the time; times only grow.
pub(super) fn newest(samples: &[Sample], cursor: &mut usize, time: i64, lookback: i64) -> Option<Sample> {
    while samples.get(*cursor).is_some_and(|sample| sample.time_ms <= time) {
        *cursor += 1;
    }
    let sample = samples.get(cursor.checked_sub(1)?)?;
    (sample.time_ms > time - lookback && !is_stale(sample.value)).then_some(*sample)
}

/// Without what is known of resets: there may be samples between these, or some of them more than once.
fn unhinted(mut natives: Vec<NativeSample>) -> Vec<NativeSample> {
    for NativeSample { histogram, .. } in &mut natives {
        if !histogram.is_gauge() && histogram.parts().hint != Hint::Unknown {
            *histogram = Arc::new(Histogram::clone(histogram).hinted(Hint::Unknown));
        }
    }
    natives
}

/// The newest native histogram at a time, unless a float or the end of the series came after it.
fn newest_native<'a>(
    natives: &'a [NativeSample],
    samples: &[Sample],
    cursor: &mut usize,
    time: i64,
    lookback: i64,
) -> Option<&'a NativeSample> {
    while natives.get(*cursor).is_some_and(|sample| sample.time_ms <= time) {
        *cursor += 1;
    }
    let native = natives.get(cursor.checked_sub(1)?)?;
    let float = samples.partition_point(|sample| sample.time_ms <= time).checked_sub(1);
    let is_last = float.and_then(|at| samples.get(at)).is_none_or(|float| float.time_ms < native.time_ms);
    (is_last && native.time_ms > time - lookback).then_some(native)
}

impl Evaluator<'_> {
    /// The values of a selector.
    pub(super) fn instants(
        &mut self,
        selector: &Selector,
        place: Place,
        grid: Grid,
    ) -> Result<Vec<Row>, EvalError> {
        if selector.bounds == Bounds::Smoothed {
            return self.smoothed(selector, place, grid);
        }
        self.newest_of(selector, grid, true, |sample| sample.value)
    }

    /// Something of the newest sample of each series at each time; native histograms as they are, if they are kept.
    pub(super) fn newest_of(
        &mut self,
        selector: &Selector,
        grid: Grid,
        keeps_natives: bool,
        of: impl Fn(Sample) -> f64,
    ) -> Result<Vec<Row>, EvalError> {
        let lookback = self.options.lookback_ms;
        let reference = self.reference(&selector.shift)?;
        let from = reference.of(grid.from) - lookback + 1;
        let mut rows = Vec::new();
        self.each(&selector.matchers, from, reference.of(grid.last()), |this, labels, samples, natives| {
            let mut cursor = 0;
            let mut value =
                |time| newest(samples, &mut cursor, time, lookback).map_or(super::rows::NONE, &of);
            let values = match reference {
                Reference::Fixed(time) => vec![value(time); grid.count],
                Reference::Ago(ago) => grid.times().map(|time| value(time - ago)).collect(),
            };
            let mut row = Row::of(labels, false, values);
            if !natives.is_empty() {
                let mut cursor = 0;
                for (place, time) in grid.times().enumerate() {
                    let time = reference.of(time);
                    let Some(native) = newest_native(natives, samples, &mut cursor, time, lookback) else {
                        continue;
                    };
                    if keeps_natives {
                        row.set(place, NONE);
                        row.set_native(place, Arc::clone(&native.histogram));
                    } else {
                        row.set(place, of(Sample { time_ms: native.time_ms, value: 0.0 }));
                    }
                }
            }
            if !row.is_empty() {
                this.charge(grid.count)?;
                rows.push(row);
            }
            Ok(())
        })?;
        Ok(rows)
    }

    /// The values on the lines between samples.
    fn smoothed(&mut self, selector: &Selector, stands: Place, grid: Grid) -> Result<Vec<Row>, EvalError> {
        let lookback = self.options.lookback_ms;
        let reference = self.reference(&selector.shift)?;
        let from = reference.of(grid.from) - lookback + 1;
        let series = self.fetch(&selector.matchers, from, reference.of(grid.last()) + lookback)?;
        let mut rows = Vec::with_capacity(series.len());
        for one in series {
            self.go_on()?;
            let samples: Vec<Sample> =
                one.samples.into_iter().filter(|sample| !is_stale(sample.value)).collect();
            let mut row = Row::empty(one.labels, false, grid.count);
            for (place, time) in grid.times().enumerate() {
                let time = reference.of(time);
                if !one.natives.is_empty() {
                    let labels = row.labels.clone();
                    let mut on = On { notes: &mut self.notes, place: stands, labels: &labels };
                    let is_near = |at: i64| at > time - lookback && at <= time + lookback;
                    if one.natives.iter().any(|native| is_near(native.time_ms)) {
                        if samples.iter().any(|sample| is_near(sample.time_ms)) {
                            on.mixed();
                        } else if let Some(native) =
                            super::native_over_time::smoothed(&one.natives, time, lookback, &mut on)
                        {
                            row.set_native(place, Arc::new(native));
                        }
                        continue;
                    }
                }
                let after = samples.partition_point(|sample| sample.time_ms < time);
                let next = samples.get(after).filter(|next| next.time_ms <= time + lookback);
                let last = after.checked_sub(1).and_then(|last| samples.get(last));
                let last = last.filter(|last| last.time_ms > time - lookback);
                match (last, next) {
                    (_, Some(next)) if next.time_ms == time => row.set(place, next.value),
                    (Some(last), Some(next)) => {
                        row.set(place, super::rate::between(*last, *next, time, false))
                    }
                    (Some(last), None) => row.set(place, last.value),
                    (None, _) => {}
                }
            }
            if !row.is_empty() {
                self.charge(grid.count)?;
                rows.push(row);
            }
        }
        Ok(rows)
    }

    /// Which ranges a range selector asks for, and between when its samples lie, for all times of a grid.
    pub(super) fn asked(
        &self,
        selector: &Selector,
        range: &Length,
        grid: Grid,
    ) -> Result<(Asked, i64, i64), EvalError> {
        let range = self.positive_length(range)?;
        let reference = self.reference(&selector.shift)?;
        let (mut from, mut to) = (reference.of(grid.from) - range + 1, reference.of(grid.last()));
        if selector.bounds != Bounds::Strict {
            from -= self.options.lookback_ms;
        }
        if selector.bounds == Bounds::Smoothed {
            to += self.options.lookback_ms;
        }
        Ok((Asked { range, reference, bounds: selector.bounds }, from, to))
    }

    /// The samples of a range selector or a subquery, for all times of a grid.
    pub(super) fn ranges(&mut self, expr: &Expr, grid: Grid) -> Result<Ranges, EvalError> {
        match &expr.kind {
            Kind::Range { selector, range } => {
                let (asked, from, to) = self.asked(selector, range, grid)?;
                let series = self.fetch(&selector.matchers, from, to)?;
                let series = series.into_iter().map(|mut one| {
                    one.samples.retain(|sample| !is_stale(sample.value));
                    Ranged {
                        labels: one.labels,
                        drop_name: false,
                        samples: one.samples,
                        natives: one.natives,
                    }
                });
                Ok(Ranges { series: series.collect(), asked })
            }
            Kind::Subquery(subquery) => {
                let (inner, reference, range) = self.subgrid(subquery, grid)?;
                let rows = if inner.count == 0 { Vec::new() } else { self.rows(&subquery.of, inner)? };
                self.charge(rows.len().saturating_mul(inner.count))?;
                let series = rows.into_iter().map(|row| Ranged {
                    drop_name: row.drop_name,
                    samples: row.samples(inner),
                    natives: unhinted(row.native_samples(inner)),
                    labels: row.labels,
                });
                let asked = Asked { range, reference, bounds: Bounds::Strict };
                Ok(Ranges { series: series.collect(), asked })
            }
            Kind::Parens(inner) => self.ranges(inner, grid),
            _ => Err(EvalError::meaningless("only series and subqueries have ranges of samples")),
        }
    }
}
