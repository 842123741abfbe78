//! What to know of an answer: that something in it was left out, or may not mean what was asked.

use std::fmt;

use klar_tsdb::Labels;

use crate::ast::Place;

/// How many notes an answer has at most.
const NOTES_MAX: usize = 100;

/// Something to know of an answer. It speaks as Prometheus does, so that what knows its words knows these.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    /// Whether something is likely wrong.
    pub is_warning: bool,
    /// What there is to know.
    pub what: String,
    /// Which part of the query it is about.
    pub place: Place,
}

impl fmt::Display for Note {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "PromQL {}: {}", if self.is_warning { "warning" } else { "info" }, self.what)
    }
}

impl Note {
    /// With the line and the character of the query that it is about.
    #[must_use]
    pub fn located(&self, query: &str) -> String {
        let before = query.get(..self.place.from).unwrap_or_default();
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
        format!("{self} ({line}:{column})")
    }
}

/// The notes of an answer, each once.
#[derive(Debug, Default)]
pub(crate) struct Notes(pub Vec<Note>);

impl Notes {
    fn add(&mut self, is_warning: bool, place: Place, what: String) {
        let note = Note { is_warning, what, place };
        if self.0.len() < NOTES_MAX && !self.0.contains(&note) {
            self.0.push(note);
        }
    }

    pub(crate) fn warn(&mut self, place: Place, what: impl Into<String>) {
        self.add(true, place, what.into());
    }

    pub(crate) fn info(&mut self, place: Place, what: impl Into<String>) {
        self.add(false, place, what.into());
    }

    /// Whether there is room for more; if not, there is no need to write them.
    pub(crate) fn has_room(&self) -> bool {
        self.0.len() < NOTES_MAX
    }
}

impl Notes {
    /// Quantiles are shares.
    pub(crate) fn check_quantiles(&mut self, quantiles: &[f64], place: Place) {
        if let Some(q) = quantiles.iter().find(|q| !(0.0..=1.0).contains(*q)) {
            let written = crate::eval::written(*q);
            self.warn(place, format!("quantile value should be between 0 and 1, got {written}"));
        }
    }

    /// So are the parameters of `limit_ratio`, on one side or on the other.
    pub(crate) fn check_ratios(&mut self, ratios: &[f64], place: Place) {
        let (least, most) = ratios
            .iter()
            .fold((f64::INFINITY, f64::NEG_INFINITY), |(least, most), one| (least.min(*one), most.max(*one)));
        for (ratio, to) in [(most, 1.0), (least, -1.0)] {
            if (ratio > to && to > 0.0) || (ratio < to && to < 0.0) {
                let ratio = crate::eval::written(ratio);
                self.warn(
                    place,
                    format!("ratio value should be between -1 and 1, got {ratio}, capping to {to}"),
                );
            }
        }
    }
}

/// Notes on one series, or on what is made of several.
pub(crate) struct On<'a> {
    pub notes: &'a mut Notes,
    pub place: Place,
    pub labels: &'a Labels,
}

impl On<'_> {
    fn name(&self) -> &str {
        self.labels.metric().unwrap_or_default()
    }

    fn of_name(&self) -> String {
        if self.name().is_empty() { String::new() } else { format!(" for metric name {:?}", self.name()) }
    }

    /// What counts is named so.
    pub(crate) fn check_counter(&mut self) {
        let name = self.name();
        let is_counter = ["_total", "_sum", "_count", "_bucket"].iter().any(|end| name.ends_with(end));
        if name.is_empty() || is_counter || !self.notes.has_room() {
            return;
        }
        // A type that says so is as good as a name.
        if matches!(self.labels.get("__type__"), Some("counter" | "histogram")) {
            return;
        }
        let what = format!(
            "metric might not be a counter, name does not end in _total/_sum/_count/_bucket: {name:?}"
        );
        self.notes.info(self.place, what);
    }

    pub(crate) fn mixed(&mut self) {
        let what = format!("encountered a mix of histograms and floats for metric name {:?}", self.name());
        self.notes.warn(self.place, what);
    }

    pub(crate) fn mixed_bounds(&mut self) {
        let what = format!(
            "vector contains a mix of histograms with exponential and custom buckets schemas for metric name {:?}",
            self.name()
        );
        self.notes.warn(self.place, what);
    }

    pub(crate) fn no_counter(&mut self) {
        let what = format!("this native histogram metric is not a counter: {:?}", self.name());
        self.notes.warn(self.place, what);
    }

    pub(crate) fn no_gauge(&mut self) {
        let what = format!("this native histogram metric is not a gauge: {:?}", self.name());
        self.notes.warn(self.place, what);
    }

    pub(crate) fn ignored(&mut self) {
        let what = format!(
            "ignored histograms in a range containing both floats and histograms for metric name {:?}",
            self.name()
        );
        self.notes.info(self.place, what);
    }

    pub(crate) fn bounds_differ(&mut self, during: &str) {
        self.notes.info(self.place, format!("mismatched custom buckets were reconciled during {during}"));
    }

    pub(crate) fn hints_collide(&mut self, during: &str) {
        self.notes.warn(self.place, format!("conflicting counter resets during histogram {during}"));
    }

    pub(crate) fn both_kinds(&mut self) {
        let what = format!("vector contains a mix of classic and native histograms{}", self.of_name());
        self.notes.warn(self.place, what);
    }

    pub(crate) fn bad_bucket(&mut self) {
        let le = self.labels.get("le").unwrap_or_default();
        let what =
            format!("bucket label \"le\" is missing or has a malformed value of {le:?}{}", self.of_name());
        self.notes.warn(self.place, what);
    }

    pub(crate) fn not_monotonic(&mut self, from: f64, to: f64, difference: f64) {
        // As Prometheus says it, but for how many samples were so and when.
        let what = format!(
            "input to histogram_quantile needed to be fixed for monotonicity (see https://prometheus.io/docs/prometheus/\
             latest/querying/functions/#histogram_quantile){}, from buckets {from} to {to}, with a max diff of {difference}",
            self.of_name()
        );
        self.notes.info(self.place, what);
    }

    pub(crate) fn skewed(&mut self, function: &str, how: &str) {
        let what = format!("input to {function} has NaN observations, {how}{}", self.of_name());
        self.notes.info(self.place, what);
    }
}
