//! Values of series on a grid of times.

use std::collections::HashMap;

use klar_tsdb::{Labels, STALE, Sample, is_stale, labels::NAME};

use crate::error::EvalError;

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
}

impl Row {
    /// Without values.
    pub(super) fn empty(labels: Labels, drop_name: bool, count: usize) -> Self {
        Self { labels, drop_name, values: vec![NONE; count] }
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
        self.values.iter().all(|value| is_stale(*value))
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
