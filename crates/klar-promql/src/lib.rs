//! PromQL: the language in which people ask Prometheus for metrics, read and answered over any store of series.
//!
//! [`parse`] reads a query and checks it; [`instant`] and [`range`] answer it from a [`Source`], within [`Options`].
//! [`instant_mixed`] and [`range_mixed`] also give native histograms, and notes on what to know of the answer.
//! Nothing here does I/O, and nothing waits.
//!
//! It is the language of Prometheus 3, with all that is experimental there: `info`, `limitk`, durations that are
//! reckoned with, `anchored` and `smoothed` ranges, `fill`. What is not here: start timestamps. Names are dropped
//! only at the end of a query (`promql-delayed-name-removal`).

pub mod ast;
mod display;
mod error;
pub mod eval;
pub mod functions;
pub mod histogram;
mod lex;
mod notes;
mod parse;

use std::sync::Arc;

use klar_tsdb::{Labels, Matcher, Sample, Unpacker};

pub use ast::{Expr, Type};
pub use error::{EvalError, ParseError};
pub use eval::{Answer, Answered, Mixed, Options, Series, instant, instant_mixed, range, range_mixed};
pub use histogram::Histogram;
pub use notes::Note;
pub use parse::{DEPTH_MAX, LENGTH_MAX, parse};

/// A length of time as queries write it, such as `1h30m`, in seconds. `None`: it is none.
#[must_use]
pub fn duration(text: &str) -> Option<f64> {
    match lex::lex(text).ok()?.as_slice() {
        [one, _end] => match one.token {
            lex::Token::Duration(seconds) => Some(seconds),
            _ => None,
        },
        _ => None,
    }
}

/// What looks at a series with its floats and its native histograms; `false`: it has seen enough.
pub type VisitMixed<'a> = dyn FnMut(Labels, &[Sample], &[NativeSample]) -> bool + 'a;

/// Where series come from.
pub trait Source {
    /// What went wrong in it.
    type Error: std::error::Error + Send + Sync + 'static;

    /// All series that every matcher takes, with their samples from `from_ms` to `to_ms` (both included), oldest first.
    /// Samples may be stale markers ([`klar_tsdb::STALE`]).
    ///
    /// # Errors
    /// Its own, and when the selection is larger than it allows.
    fn select(&self, matchers: &[Matcher], from_ms: i64, to_ms: i64) -> Result<Vec<Selected>, Self::Error>;

    /// The same, shown one after the other, until `visit` says `false`: so not all of them have to be in memory at once.
    ///
    /// # Errors
    /// As [`Source::select`].
    fn each(
        &self,
        matchers: &[Matcher],
        from_ms: i64,
        to_ms: i64,
        visit: &mut dyn FnMut(Labels, &[Sample]) -> bool,
    ) -> Result<(), Self::Error> {
        for one in self.select(matchers, from_ms, to_ms)? {
            if !visit(one.labels, &one.samples) {
                break;
            }
        }
        Ok(())
    }

    /// The same with native histograms, for sources that have them. Where a series ends is told by a stale marker
    /// among its floats.
    ///
    /// # Errors
    /// As [`Source::select`].
    fn each_mixed(
        &self,
        matchers: &[Matcher],
        from_ms: i64,
        to_ms: i64,
        visit: &mut VisitMixed<'_>,
    ) -> Result<(), Self::Error> {
        self.each(matchers, from_ms, to_ms, &mut |labels, samples| visit(labels, samples, &[]))
    }
}

/// A native histogram at a time.
#[derive(Debug, Clone, PartialEq)]
pub struct NativeSample {
    /// When, in milliseconds since 1970.
    pub time_ms: i64,
    /// What it counts.
    pub histogram: Arc<Histogram>,
}

/// A series, and what was asked for of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Selected {
    /// Its labels, with the name of the metric.
    pub labels: Labels,
    /// Its samples, oldest first.
    pub samples: Vec<Sample>,
}

impl Source for klar_tsdb::Store {
    type Error = klar_tsdb::Error;

    fn select(&self, matchers: &[Matcher], from_ms: i64, to_ms: i64) -> Result<Vec<Selected>, Self::Error> {
        let mut all = Vec::new();
        self.each(matchers, from_ms, to_ms, &mut |labels, samples| {
            all.push(Selected { labels, samples: samples.to_vec() });
            true
        })?;
        Ok(all)
    }

    fn each(
        &self,
        matchers: &[Matcher],
        from_ms: i64,
        to_ms: i64,
        visit: &mut dyn FnMut(Labels, &[Sample]) -> bool,
    ) -> Result<(), Self::Error> {
        let mut unpacker = Unpacker::default();
        let mut samples = Vec::new();
        for found in self.select(matchers, from_ms, to_ms)?.series {
            samples.clear();
            found.read(&mut unpacker, &mut samples)?;
            if !samples.is_empty() && !visit(found.labels, &samples) {
                break;
            }
        }
        Ok(())
    }
}
