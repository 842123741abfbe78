//! Values of series on a grid of times.

use std::collections::HashMap;
use std::sync::Arc;

use klar_tsdb::{Labels, STALE, Sample, is_stale, labels::NAME};

use crate::error::EvalError;
use crate::{Histogram, NativeSample};

/// Times, each a step after the one before.
#[derive(Debug, Clone, Copy)]
pub(super) struct Grid {
    pub from: i64,
    pub step: i64,
    pub count: usize,
}

impl Grid {
    /// All of them.
    pub(super) fn times(self) -> impl Iterator<Item = i64> {
        let mut next = self.from;
        (0..self.count).map(move |_| {
            let time = next;
            next = next.saturating_add(self.step);
            time
        })
    }

    /// The last one.
    pub(super) fn last(self) -> i64 {
        let steps = i64::try_from(self.count.saturating_sub(1)).unwrap_or(i64::MAX);
        self.from.saturating_add(self.step.saturating_mul(steps))
    }
}

/// The value of an expression for a grid of times.
pub(super) enum Value {
    Scalar(Vec<f64>),
    Text(String),
    Rows(Vec<Row>),
}

/// That there is no value: nothing that is reckoned gives this one.
pub(super) const NONE: f64 = STALE;

/// A series with a value, or [`NONE`], for each time of a grid.
#[derive(Debug, Clone)]
pub(super) struct Row {
    pub labels: Labels,
    /// Whether the name no longer says what the values are. It goes only at the end: until then, one may ask for it.
    pub drop_name: bool,
    pub values: Vec<f64>,
    /// The native histogram for each time; empty if there is none at all. Where there is one, there is no value.
    pub natives: Natives,
}

/// The native histograms of a row.
pub(super) type Natives = Vec<Option<Arc<Histogram>>>;

/// What a row has at a time.
#[derive(Clone, Copy)]
pub(super) enum Point<'a> {
    Float(f64),
    Native(&'a Arc<Histogram>),
}

/// What is made of points.
pub(super) enum Made {
    Float(f64),
    Native(Arc<Histogram>),
}

impl From<Histogram> for Made {
    fn from(histogram: Histogram) -> Self {
        Self::Native(Arc::new(histogram))
    }
}

impl Point<'_> {
    pub(super) fn made(self) -> Made {
        match self {
            Self::Float(value) => Made::Float(value),
            Self::Native(histogram) => Made::Native(Arc::clone(histogram)),
        }
    }
}

impl Row {
    /// With floats.
    pub(super) const fn of(labels: Labels, drop_name: bool, values: Vec<f64>) -> Self {
        Self { labels, drop_name, values, natives: Vec::new() }
    }

    /// Without values.
    pub(super) fn empty(labels: Labels, drop_name: bool, count: usize) -> Self {
        Self::of(labels, drop_name, vec![NONE; count])
    }

    pub(super) fn native(&self, place: usize) -> Option<&Arc<Histogram>> {
        self.natives.get(place)?.as_ref()
    }

    pub(super) fn point(&self, place: usize) -> Option<Point<'_>> {
        self.at(place).map(Point::Float).or_else(|| self.native(place).map(Point::Native))
    }

    pub(super) fn set_native(&mut self, place: usize, histogram: Arc<Histogram>) {
        if self.natives.is_empty() {
            self.natives = vec![None; self.values.len()];
        }
        if let Some(at) = self.natives.get_mut(place) {
            *at = Some(histogram);
        }
    }

    pub(super) fn put(&mut self, place: usize, made: Made) {
        match made {
            Made::Float(value) => self.set(place, value),
            Made::Native(histogram) => self.set_native(place, histogram),
        }
    }

    /// Forgets what there is at a time.
    pub(super) fn clear(&mut self, place: usize) {
        self.set(place, NONE);
        if let Some(at) = self.natives.get_mut(place) {
            *at = None;
        }
    }

    /// Changes each native histogram that there is.
    pub(super) fn change_natives(&mut self, change: impl Fn(&Histogram) -> Option<Histogram>) {
        for native in &mut self.natives {
            if let Some(histogram) = native {
                *native = change(histogram).map(Arc::new);
            }
        }
    }

    /// How many samples its native histograms count as.
    pub(super) fn weight(&self) -> usize {
        self.natives.iter().flatten().map(|histogram| histogram.weight()).sum()
    }

    /// Its native histograms with their times.
    pub(super) fn native_samples(&self, grid: Grid) -> Vec<NativeSample> {
        let all = grid.times().zip(&self.natives);
        all.filter_map(|(time_ms, native)| {
            Some(NativeSample { time_ms, histogram: Arc::clone(native.as_ref()?) })
        })
        .collect()
    }

    pub(super) fn at(&self, place: usize) -> Option<f64> {
        self.values.get(place).copied().filter(|value| !is_stale(*value))
    }

    pub(super) fn set(&mut self, place: usize, value: f64) {
        if let Some(at) = self.values.get_mut(place) {
            *at = value;
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.values.iter().all(|value| is_stale(*value)) && self.natives.iter().all(Option::is_none)
    }

    /// Changes each value that there is.
    pub(super) fn change(&mut self, change: impl Fn(f64) -> f64) {
        for value in &mut self.values {
            if !is_stale(*value) {
                *value = change(*value);
            }
        }
    }

    /// Its values with their times.
    pub(super) fn samples(&self, grid: Grid) -> Vec<Sample> {
        let all = grid.times().zip(&self.values);
        all.filter(|(_, value)| !is_stale(**value))
            .map(|(time_ms, value)| Sample { time_ms, value: *value })
            .collect()
    }
}

/// Whether a label tells what the values are, rather than whose.
pub(super) fn tells_what(label: &str) -> bool {
    matches!(label, NAME | "__type__" | "__unit__")
}

/// Without the name, the type and the unit.
pub(super) fn without_name(labels: &Labels) -> Labels {
    labels.filtered(|label| !tells_what(label))
}

/// Two series that cannot be told apart.
pub(super) fn twice() -> EvalError {
    EvalError::meaningless(
        "two series of the result have the same labels; keep apart what they differ in, such as the name, with \
         `label_replace`, or put them together with `sum` or `max`",
    )
}

/// Without the names that no longer say what the values are.
pub(super) fn named(mut rows: Vec<Row>) -> Result<Vec<Row>, EvalError> {
    for row in &mut rows {
        if row.drop_name {
            row.labels = without_name(&row.labels);
            row.drop_name = false;
        }
    }
    merged(rows)
}

/// With rows of the same labels put together, in the order of the first of them.
pub(super) fn merged(rows: Vec<Row>) -> Result<Vec<Row>, EvalError> {
    let mut places: HashMap<Labels, usize> = HashMap::with_capacity(rows.len());
    let mut found: Vec<Row> = Vec::with_capacity(rows.len());
    for row in rows {
        let place = *places.entry(row.labels.clone()).or_insert(found.len());
        match found.get_mut(place) {
            None => found.push(row),
            Some(first) => {
                first.drop_name |= row.drop_name;
                for (place, native) in row.natives.iter().enumerate() {
                    let Some(native) = native else { continue };
                    if first.point(place).is_some() {
                        return Err(twice());
                    }
                    first.set_native(place, Arc::clone(native));
                }
                if !first.natives.is_empty()
                    && row
                        .values
                        .iter()
                        .zip(&first.natives)
                        .any(|(value, native)| !is_stale(*value) && native.is_some())
                {
                    return Err(twice());
                }
                for (to, value) in first.values.iter_mut().zip(row.values) {
                    match (is_stale(*to), is_stale(value)) {
                        (_, true) => {}
                        (true, false) => *to = value,
                        (false, false) => return Err(twice()),
                    }
                }
            }
        }
    }
    Ok(found)
}
