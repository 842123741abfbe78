//! From an expression to an answer.
//!
//! Everything is asked for a grid of times at once: each selector fetches its series once, and each function goes
//! through them with a window that only moves forward.

mod aggregate;
mod binary;
mod call;
mod dates;
mod histogram;
mod info;
pub(crate) mod kahan;
mod labels;
mod native_over_time;
mod native_sum;
mod order;
mod over_time;
mod rate;
mod rows;
mod select;
mod simple;

use klar_tsdb::{Labels, Matcher, Sample};

use crate::ast::{At, Expr, Kind, Length, Number, Shift, Subquery, Type};
use crate::error::EvalError;
use crate::notes::Notes;
use crate::{NativeSample, Note, Selected, Source, VisitMixed};
pub(crate) use aggregate::written;
use rows::{Grid, Row, Value};

/// Times of queries lie between minus this and this, in milliseconds; what is added to them cannot overflow.
const TIME_MAX: i64 = 4_000_000_000_000_000_000;
/// The longest length of time, in milliseconds.
const LENGTH_MAX: f64 = 9_223_372_036_854.0;

/// What a query may do.
pub struct Options<'a> {
    /// How old a sample may be to be the value of its series, in milliseconds.
    pub lookback_ms: i64,
    /// How often subqueries without a step ask, in milliseconds.
    pub subquery_step_ms: i64,
    /// How many samples it may have in memory at once; a value that is missing in a series counts, too.
    pub samples_max: usize,
    /// How many points a series of its answer may have.
    pub points_max: usize,
    /// Asked again and again; `true` stops the query.
    pub stop: &'a dyn Fn() -> bool,
}

impl Default for Options<'_> {
    fn default() -> Self {
        Self {
            lookback_ms: 5 * 60_000,
            subquery_step_ms: 60_000,
            samples_max: 50_000_000,
            points_max: 11_000,
            stop: &|| false,
        }
    }
}

/// What a query is answered with.
#[derive(Debug, Clone, PartialEq)]
pub enum Answer {
    /// A number.
    Scalar(f64),
    /// A text.
    Text(String),
    /// A value for each series, in the order that the query asks for.
    Vector(Vec<(Labels, f64)>),
    /// Samples for each series.
    Matrix(Vec<Selected>),
}

/// A series of an answer that may have native histograms.
#[derive(Debug, Clone, PartialEq)]
pub struct Series {
    /// Its labels.
    pub labels: Labels,
    /// Its floats, oldest first.
    pub samples: Vec<Sample>,
    /// Its native histograms, oldest first.
    pub natives: Vec<NativeSample>,
}

/// What a query is answered with, native histograms included.
#[derive(Debug, Clone, PartialEq)]
pub enum Mixed {
    /// A number.
    Scalar(f64),
    /// A text.
    Text(String),
    /// Series in the order that the query asks for; for one time, each has one sample.
    Series(Vec<Series>),
}

/// An answer with what to know of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Answered {
    /// The answer.
    pub value: Mixed,
    /// What to know of it.
    pub notes: Vec<Note>,
}

/// Answers a query for one time with numbers only: native histograms are left out.
///
/// # Errors
/// See [`EvalError`].
pub fn instant<S: Source>(
    source: &S,
    expr: &Expr,
    time_ms: i64,
    options: &Options<'_>,
) -> Result<Answer, EvalError> {
    let series = match instant_mixed(source, expr, time_ms, options)?.value {
        Mixed::Scalar(value) => return Ok(Answer::Scalar(value)),
        Mixed::Text(text) => return Ok(Answer::Text(text)),
        Mixed::Series(series) => series,
    };
    if expr.value_type() == Type::Range {
        return Ok(Answer::Matrix(floats(series)));
    }
    let point = |one: Series| one.samples.first().map(|sample| (one.labels, sample.value));
    Ok(Answer::Vector(series.into_iter().filter_map(point).collect()))
}

/// Series without their native histograms.
fn floats(series: Vec<Series>) -> Vec<Selected> {
    let floats = series.into_iter().filter(|one| !one.samples.is_empty());
    floats.map(|one| Selected { labels: one.labels, samples: one.samples }).collect()
}

/// Answers a query for one time.
///
/// # Errors
/// See [`EvalError`].
pub fn instant_mixed<S: Source>(
    source: &S,
    expr: &Expr,
    time_ms: i64,
    options: &Options<'_>,
) -> Result<Answered, EvalError> {
    let select = selection(source);
    let mut evaluator = Evaluator::new(&select, time_ms, time_ms, 0, options)?;
    let grid = Grid { from: time_ms, step: 1, count: 1 };
    let value = if expr.value_type() == Type::Range {
        evaluator.samples(expr, grid).map(Mixed::Series)?
    } else {
        match evaluator.eval(expr, grid)? {
            Value::Scalar(values) => Mixed::Scalar(values.first().copied().unwrap_or(f64::NAN)),
            Value::Text(text) => Mixed::Text(text),
            Value::Rows(rows) => Mixed::Series(series(rows::named(rows)?, grid)),
        }
    };
    Ok(Answered { value, notes: evaluator.notes.0 })
}

/// Rows with their times, if they have any.
fn series(rows: Vec<Row>, grid: Grid) -> Vec<Series> {
    let rows = rows.into_iter().filter(|row| !row.is_empty());
    rows.map(|row| Series {
        samples: row.samples(grid),
        natives: row.native_samples(grid),
        labels: row.labels,
    })
    .collect()
}

/// Answers a query for the times from `from_ms` to `to_ms`, each `step_ms` after the one before, with numbers only:
/// native histograms are left out.
///
/// The answer is an [`Answer::Matrix`], sorted by labels.
///
/// # Errors
/// See [`EvalError`].
pub fn range<S: Source>(
    source: &S,
    expr: &Expr,
    from_ms: i64,
    to_ms: i64,
    step_ms: i64,
    options: &Options<'_>,
) -> Result<Answer, EvalError> {
    Ok(match range_mixed(source, expr, from_ms, to_ms, step_ms, options)?.value {
        Mixed::Scalar(value) => Answer::Scalar(value),
        Mixed::Text(text) => Answer::Text(text),
        Mixed::Series(series) => Answer::Matrix(floats(series)),
    })
}

/// Answers a query for the times from `from_ms` to `to_ms`, each `step_ms` after the one before.
///
/// The answer is [`Mixed::Series`], sorted by labels.
///
/// # Errors
/// See [`EvalError`].
pub fn range_mixed<S: Source>(
    source: &S,
    expr: &Expr,
    from_ms: i64,
    to_ms: i64,
    step_ms: i64,
    options: &Options<'_>,
) -> Result<Answered, EvalError> {
    if matches!(expr.value_type(), Type::Range | Type::Text) {
        let what = format!("{} has no values over time; ask for it at one time", expr.value_type().name());
        return Err(EvalError::Meaningless(what));
    }
    if step_ms <= 0 || to_ms < from_ms {
        return Err(EvalError::meaningless(
            "the step has to be more than 0, and the end not before the beginning",
        ));
    }
    let points = to_ms.abs_diff(from_ms) / step_ms.unsigned_abs() + 1;
    let count = usize::try_from(points).ok().filter(|count| *count <= options.points_max);
    let count = count.ok_or(EvalError::TooManyPoints { points, max: options.points_max })?;
    let select = selection(source);
    let mut evaluator = Evaluator::new(&select, from_ms, to_ms, step_ms, options)?;
    let grid = Grid { from: from_ms, step: step_ms, count };
    let rows = match evaluator.eval(expr, grid)? {
        Value::Scalar(values) => vec![Row::of(Labels::none(), false, values)],
        Value::Text(_) => Vec::new(),
        Value::Rows(rows) => rows::named(rows)?,
    };
    let mut series = series(rows, grid);
    series.sort_by(|left, right| left.labels.cmp(&right.labels));
    Ok(Answered { value: Mixed::Series(series), notes: evaluator.notes.0 })
}

/// Shows each series of a selection, until it is told to stop.
type Select<'a> = dyn Fn(&[Matcher], i64, i64, &mut VisitMixed<'_>) -> Result<(), EvalError> + 'a;

fn selection<S: Source>(
    source: &S,
) -> impl Fn(&[Matcher], i64, i64, &mut VisitMixed<'_>) -> Result<(), EvalError> {
    |matchers: &[Matcher], from: i64, to: i64, visit: &mut VisitMixed<'_>| {
        source.each_mixed(matchers, from, to, visit).map_err(|error| EvalError::Source(Box::new(error)))
    }
}

struct Evaluator<'a> {
    select: &'a Select<'a>,
    options: &'a Options<'a>,
    /// The first and the last time of the whole query, and its step; 0: there is only one time.
    from: i64,
    to: i64,
    step: i64,
    /// How many samples are in memory.
    samples: usize,
    /// What to know of the answer.
    notes: Notes,
}

/// When something is to be known, seen from a time of the grid.
#[derive(Clone, Copy)]
enum Reference {
    Fixed(i64),
    Ago(i64),
}

impl Reference {
    const fn of(self, time: i64) -> i64 {
        match self {
            Self::Fixed(fixed) => fixed,
            Self::Ago(ago) => time - ago,
        }
    }

    const fn is_fixed(self) -> bool {
        matches!(self, Self::Fixed(_))
    }
}

impl<'a> Evaluator<'a> {
    fn new(
        select: &'a Select<'a>,
        from: i64,
        to: i64,
        step: i64,
        options: &'a Options<'a>,
    ) -> Result<Self, EvalError> {
        let times = -TIME_MAX..TIME_MAX;
        if !times.contains(&from) || !times.contains(&to) {
            return Err(EvalError::meaningless("there is no such time; times are milliseconds since 1970"));
        }
        Ok(Self { select, options, from, to, step, samples: 0, notes: Notes::default() })
    }

    /// The value of an expression. What it took to get there is no longer in memory; what it came to is.
    fn eval(&mut self, expr: &Expr, grid: Grid) -> Result<Value, EvalError> {
        self.go_on()?;
        let before = self.samples;
        let value = self.value(expr, grid)?;
        self.samples = before;
        self.charge(match &value {
            Value::Scalar(values) => values.len(),
            Value::Rows(rows) => rows
                .iter()
                .fold(0usize, |sum, row| sum.saturating_add(grid.count).saturating_add(row.weight())),
            Value::Text(_) => 0,
        })?;
        Ok(value)
    }

    fn value(&mut self, expr: &Expr, grid: Grid) -> Result<Value, EvalError> {
        match &expr.kind {
            Kind::Number(Number(number)) => Ok(Value::Scalar(vec![*number; grid.count])),
            Kind::Text(text) => Ok(Value::Text(text.clone())),
            Kind::Parens(inner) => self.eval(inner, grid),
            Kind::Selector(selector) => self.instants(selector, expr.place, grid).map(Value::Rows),
            Kind::Range { .. } | Kind::Subquery(_) => {
                Err(EvalError::meaningless("a range of samples has no value; put it in a function of ranges"))
            }
            Kind::Sign { is_minus, of } => {
                let mut value = self.eval(of, grid)?;
                if *is_minus {
                    match &mut value {
                        Value::Scalar(values) => values.iter_mut().for_each(|value| *value = -*value),
                        Value::Rows(rows) => rows.iter_mut().for_each(|row| {
                            row.drop_name = true;
                            row.change(|value| -value);
                            row.change_natives(|histogram| Some(histogram.times(-1.0)));
                        }),
                        Value::Text(_) => {}
                    }
                }
                Ok(value)
            }
            Kind::Binary(binary) => self.binary(binary, expr.place, grid),
            Kind::Aggregate(aggregate) => self.aggregate(aggregate, expr.place, grid).map(Value::Rows),
            Kind::Call { function, args } => self.call(function, args, expr.place, grid),
        }
    }

    fn rows(&mut self, expr: &Expr, grid: Grid) -> Result<Vec<Row>, EvalError> {
        Ok(match self.eval(expr, grid)? {
            Value::Rows(rows) => rows,
            Value::Scalar(_) | Value::Text(_) => Vec::new(),
        })
    }

    fn scalars(&mut self, expr: &Expr, grid: Grid) -> Result<Vec<f64>, EvalError> {
        Ok(match self.eval(expr, grid)? {
            Value::Scalar(values) => values,
            Value::Rows(_) | Value::Text(_) => vec![f64::NAN; grid.count],
        })
    }

    /// Whether to go on.
    fn go_on(&self) -> Result<(), EvalError> {
        if (self.options.stop)() { Err(EvalError::Stopped) } else { Ok(()) }
    }

    /// Counts samples that are loaded or made.
    fn charge(&mut self, samples: usize) -> Result<(), EvalError> {
        self.samples = self.samples.saturating_add(samples);
        let max = self.options.samples_max;
        if self.samples > max { Err(EvalError::TooManySamples { max }) } else { Ok(()) }
    }

    /// The series of a selection, with all their samples.
    fn fetch(&mut self, matchers: &[Matcher], from: i64, to: i64) -> Result<Vec<Series>, EvalError> {
        let mut series = Vec::new();
        self.each(matchers, from, to, |this, labels, samples, natives| {
            this.charge(samples.len() + weight(natives))?;
            series.push(Series { labels, samples: samples.to_vec(), natives: natives.to_vec() });
            Ok(())
        })?;
        Ok(series)
    }

    /// Looks at the series of a selection, one after the other; only one is in memory at once.
    fn each(
        &mut self,
        matchers: &[Matcher],
        from: i64,
        to: i64,
        mut look: impl FnMut(&mut Self, Labels, &[Sample], &[NativeSample]) -> Result<(), EvalError>,
    ) -> Result<(), EvalError> {
        self.go_on()?;
        let select = self.select;
        let mut trouble = Ok(());
        select(matchers, from, to, &mut |labels, samples, natives| {
            trouble = self.go_on().and_then(|()| {
                // While it is looked at, it is there.
                let before = self.samples;
                self.charge(samples.len() + weight(natives))?;
                self.samples = before;
                look(self, labels, samples, natives)
            });
            trouble.is_ok()
        })?;
        trouble
    }

    /// A length of time in milliseconds.
    fn length(&self, length: &Length) -> Result<i64, EvalError> {
        let milliseconds = (self.seconds(length) * 1000.0).round();
        if !(-LENGTH_MAX..=LENGTH_MAX).contains(&milliseconds) {
            return Err(EvalError::meaningless("a duration is more than 292 years; write a shorter one"));
        }
        #[allow(clippy::cast_possible_truncation)] // it was just compared
        Ok(milliseconds as i64)
    }

    fn positive_length(&self, length: &Length) -> Result<i64, EvalError> {
        let milliseconds = self.length(length)?;
        if milliseconds <= 0 {
            let what = format!("the duration `{length}` has to be at least 1 ms here");
            return Err(EvalError::Meaningless(what));
        }
        Ok(milliseconds)
    }

    #[allow(clippy::cast_precision_loss)]
    fn seconds(&self, length: &Length) -> f64 {
        match length {
            Length::Seconds(Number(seconds)) => *seconds,
            Length::Step => self.step as f64 / 1000.0,
            Length::Range => (self.to - self.from) as f64 / 1000.0,
            Length::Minus(of) => -self.seconds(of),
            Length::Of(op, left, right) => op.of(self.seconds(left), self.seconds(right)),
        }
    }

    fn reference(&self, shift: &Shift) -> Result<Reference, EvalError> {
        let offset = shift.offset.as_ref().map_or(Ok(0), |offset| self.length(offset))?;
        Ok(match shift.at {
            None => Reference::Ago(offset),
            Some(At::Time(time)) => Reference::Fixed(time - offset),
            Some(At::Start) => Reference::Fixed(self.from - offset),
            Some(At::End) => Reference::Fixed(self.to - offset),
        })
    }

    /// The times at which a subquery asks, when it is asked for a grid; and how it is shifted.
    fn subgrid(&self, subquery: &Subquery, grid: Grid) -> Result<(Grid, Reference, i64), EvalError> {
        let range = self.positive_length(&subquery.range)?;
        let step = match &subquery.step {
            Some(step) => self.positive_length(step)?,
            None => self.options.subquery_step_ms.max(1),
        };
        let reference = self.reference(&subquery.shift)?;
        let before = reference.of(grid.from) - range;
        // Times are multiples of the step, so that they are the same for every time of the grid.
        let mut from = step * (before / step);
        if from <= before {
            from += step;
        }
        let last = reference.of(grid.last());
        let count = if last < from { 0 } else { (last - from) / step + 1 };
        let count = usize::try_from(count).unwrap_or(usize::MAX);
        if count > self.options.samples_max {
            return Err(EvalError::TooManySamples { max: self.options.samples_max });
        }
        Ok((Grid { from, step, count }, reference, range))
    }

    /// The samples of a range at one time.
    fn samples(&mut self, expr: &Expr, grid: Grid) -> Result<Vec<Series>, EvalError> {
        let ranges = self.ranges(expr.bare(), grid)?;
        let mut found = Vec::new();
        for series in ranges.series {
            let to = ranges.asked.reference.of(grid.from);
            let samples = rate::extended(&series.samples, to - ranges.asked.range, to, ranges.asked.bounds);
            let from = to - ranges.asked.range;
            let mut natives = series.natives;
            natives.retain(|sample| sample.time_ms > from && sample.time_ms <= to);
            if !samples.is_empty() || !natives.is_empty() {
                let labels =
                    if series.drop_name { rows::without_name(&series.labels) } else { series.labels };
                found.push(Series { labels, samples, natives });
            }
        }
        found.sort_by(|left, right| left.labels.cmp(&right.labels));
        if found.windows(2).any(|pair| matches!(pair, [left, right] if left.labels == right.labels)) {
            return Err(rows::twice());
        }
        Ok(found)
    }
}

/// A series whose samples are asked for in ranges.
struct Ranged {
    labels: Labels,
    drop_name: bool,
    samples: Vec<Sample>,
    natives: Vec<NativeSample>,
}

/// How many samples native histograms count as.
fn weight(natives: &[NativeSample]) -> usize {
    natives.iter().map(|sample| sample.histogram.weight()).sum()
}

#[cfg(test)]
mod tests;
