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

    pub(crate) fn skewed(&mut self, function: &str, how: &str) {
        let what = format!("input to {function} has NaN observations, {how}{}", self.of_name());
        self.notes.info(self.place, what);
    }
}
