//! Calls of functions.

use klar_tsdb::{Labels, Op, labels::NAME};

use super::rows::{Grid, NONE, Row, Value};
use super::{Evaluator, dates, labels, order, simple};
use crate::Histogram;
use crate::ast::{Expr, Kind, Place, Selector, Type};
use crate::error::EvalError;
use crate::functions::Function;

#[allow(clippy::cast_precision_loss)] // times as Prometheus has them
fn seconds(milliseconds: i64) -> f64 {
    milliseconds as f64 / 1000.0
}

fn text(arg: Option<&Expr>) -> &str {
    match arg.map(|arg| &arg.bare().kind) {
        Some(Kind::Text(text)) => text,
        _ => "",
    }
}

/// Where an argument stands.
fn place_of(args: &[Expr], at: usize) -> Place {
    args.get(at).map_or(Place::default(), |arg| arg.place)
}

/// The labels that a series would have that a selector asks for.
fn labels_asked(arg: Option<&Expr>) -> Labels {
    let selector: &Selector = match arg.map(|arg| &arg.bare().kind) {
        Some(Kind::Selector(selector) | Kind::Range { selector, .. }) => selector,
        _ => return Labels::none(),
    };
    let others = selector.matchers.iter().filter(|matcher| matcher.name() != NAME);
    let pairs = others.filter(|matcher| {
        let mut same = selector.matchers.iter().filter(|other| other.name() == matcher.name());
        matcher.op() == Op::Equal && same.nth(1).is_none()
    });
    Labels::new(pairs.map(|matcher| (matcher.name(), matcher.value()))).unwrap_or_else(|_| Labels::none())
}

/// 1 for each time at which there is nothing.
fn absent(rows: &[Row], labels: Labels, grid: Grid) -> Vec<Row> {
    let mut row = Row::of(labels, true, vec![1.0; grid.count]);
    for one in rows {
        for (to, native) in row.values.iter_mut().zip(&one.natives) {
            if native.is_some() {
                *to = NONE;
            }
        }
        for (to, value) in row.values.iter_mut().zip(&one.values) {
            if !klar_tsdb::is_stale(*value) {
                *to = NONE;
            }
        }
    }
    if row.is_empty() { Vec::new() } else { vec![row] }
}

impl Evaluator<'_> {
    pub(super) fn call(
        &mut self,
        function: &Function,
        args: &[Expr],
        place: Place,
        grid: Grid,
    ) -> Result<Value, EvalError> {
        let name = function.name;
        if function.gives == Type::Scalar {
            return self.scalar(name, args, grid).map(Value::Scalar);
        }
        if function.takes.contains(&Type::Range) {
            return self.call_over_time(name, args, grid).map(Value::Rows);
        }
        if let Some(change) = simple::simple(name) {
            return Ok(Value::Rows(renamed(self.argument(args, 0, grid)?, change)));
        }
        if let Some(date) = dates::date(name) {
            if args.is_empty() {
                let values = grid.times().map(|time| date(seconds(time))).collect();
                return Ok(Value::Rows(vec![Row::of(Labels::none(), true, values)]));
            }
            return Ok(Value::Rows(renamed(self.argument(args, 0, grid)?, date)));
        }
        self.other(name, args, place, grid).map(Value::Rows)
    }

    /// The series that an argument stands for.
    fn argument(&mut self, args: &[Expr], place: usize, grid: Grid) -> Result<Vec<Row>, EvalError> {
        args.get(place).map_or(Ok(Vec::new()), |arg| self.rows(arg, grid))
    }

    /// The numbers that an argument stands for.
    fn numbers(&mut self, args: &[Expr], place: usize, grid: Grid) -> Result<Vec<f64>, EvalError> {
        args.get(place).map_or(Ok(vec![f64::NAN; grid.count]), |arg| self.scalars(arg, grid))
    }

    fn scalar(&mut self, name: &str, args: &[Expr], grid: Grid) -> Result<Vec<f64>, EvalError> {
        let fixed = match name {
            "pi" => std::f64::consts::PI,
            "start" => seconds(self.from),
            "end" => seconds(self.to),
            "range" => seconds(self.to - self.from),
            "step" => seconds(if self.from == self.to { 0 } else { self.step }),
            "min_of" | "max_of" => {
                let (left, right) = (self.numbers(args, 0, grid)?, self.numbers(args, 1, grid)?);
                let of = if name == "min_of" { simple::min } else { simple::max };
                return Ok(left.into_iter().zip(right).map(|(left, right)| of(left, right)).collect());
            }
            "scalar" => {
                let rows = self.argument(args, 0, grid)?;
                let only = |place: usize| {
                    let mut values = rows.iter().filter_map(|row| row.at(place));
                    values.next().filter(|_| values.next().is_none()).unwrap_or(f64::NAN)
                };
                return Ok((0..grid.count).map(only).collect());
            }
            _ => return Ok(grid.times().map(seconds).collect()),
        };
        Ok(vec![fixed; grid.count])
    }

    fn call_over_time(&mut self, name: &str, args: &[Expr], grid: Grid) -> Result<Vec<Row>, EvalError> {
        let mut of = None;
        let mut others = Vec::new();
        for arg in args {
            if arg.value_type() == Type::Range {
                of = Some(arg);
            } else {
                others.push(self.scalars(arg, grid)?);
            }
        }
        let Some(of) = of else { return Ok(Vec::new()) };
        let rows = self.over_time(name, of, &others, grid)?;
        if let (true, "quantile_over_time", Some(quantiles)) = (!rows.is_empty(), name, others.first()) {
            self.notes.check_quantiles(quantiles, place_of(args, 0));
        }
        Ok(if name == "absent_over_time" { absent(&rows, labels_asked(args.first()), grid) } else { rows })
    }

    fn other(&mut self, name: &str, args: &[Expr], place: Place, grid: Grid) -> Result<Vec<Row>, EvalError> {
        Ok(match name {
            "vector" => {
                vec![Row::of(Labels::none(), false, self.numbers(args, 0, grid)?)]
            }
            "absent" => absent(&self.argument(args, 0, grid)?, labels_asked(args.first()), grid),
            "timestamp" => self.timestamps(args, grid)?,
            "round" => {
                let rows = self.argument(args, 0, grid)?;
                // By what it is to be divided reckons more exactly when it is turned round.
                let inverse: Vec<f64> = match args.get(1) {
                    Some(arg) => self.scalars(arg, grid)?.into_iter().map(|to| 1.0 / to).collect(),
                    None => vec![1.0; grid.count],
                };
                bounded(rows, &inverse, &inverse, |value, inverse, _| {
                    (value * inverse + 0.5).floor() / inverse
                })
            }
            "clamp" | "clamp_min" | "clamp_max" => {
                let rows = self.argument(args, 0, grid)?;
                let first = self.numbers(args, 1, grid)?;
                let (lower, upper) = match name {
                    "clamp" => (first, self.numbers(args, 2, grid)?),
                    "clamp_min" => (first, vec![f64::INFINITY; grid.count]),
                    _ => (vec![f64::NEG_INFINITY; grid.count], first),
                };
                bounded(rows, &lower, &upper, |value, lower, upper| {
                    if upper < lower { NONE } else { simple::max(lower, simple::min(upper, value)) }
                })
            }
            "sort" | "sort_desc" | "sort_by_label" | "sort_by_label_desc" => {
                let mut rows = self.argument(args, 0, grid)?;
                let is_descending = name.ends_with("_desc");
                if self.from != self.to {
                    let what =
                        "sort is ineffective for range queries since results are always ordered by labels";
                    self.notes.warn(place, what);
                }
                if !name.starts_with("sort_by_label") {
                    without_natives(&mut rows);
                }
                if grid.count == 1 && !name.starts_with("sort_by_label") {
                    order::by_value(&mut rows, is_descending);
                } else if grid.count == 1 {
                    let labels: Vec<&str> = args.iter().skip(1).map(|arg| text(Some(arg))).collect();
                    order::by_labels(&mut rows, &labels, is_descending);
                }
                rows
            }
            "label_replace" => {
                let texts = [1, 2, 3, 4].map(|place| text(args.get(place)));
                labels::replace(self.argument(args, 0, grid)?, texts)?
            }
            "label_join" => {
                let from: Vec<&str> = args.iter().skip(3).map(|arg| text(Some(arg))).collect();
                labels::join(self.argument(args, 0, grid)?, text(args.get(1)), text(args.get(2)), &from)?
            }
            "histogram_quantile" => {
                let quantiles = self.numbers(args, 0, grid)?;
                let rows = self.argument(args, 1, grid)?;
                self.histogram_quantile(&quantiles, rows, grid, [0, 1].map(|at| place_of(args, at)))?
            }
            "histogram_quantiles" => {
                let rows = self.argument(args, 0, grid)?;
                let all: Result<Vec<_>, _> = args.iter().skip(2).map(|arg| self.scalars(arg, grid)).collect();
                let places: Vec<_> = args.iter().map(|arg| arg.place).collect();
                self.histogram_quantiles(text(args.get(1)), &all?, rows, grid, &places)?
            }
            "histogram_fraction" => {
                let (lower, upper) = (self.numbers(args, 0, grid)?, self.numbers(args, 1, grid)?);
                let rows = self.argument(args, 2, grid)?;
                self.histogram_fraction(&lower, &upper, rows, grid, place_of(args, 2))?
            }
            "info" => self.info(args, grid)?,
            "histogram_count" => of_natives(self.argument(args, 0, grid)?, |one| one.parts().count),
            "histogram_sum" => of_natives(self.argument(args, 0, grid)?, |one| one.parts().sum),
            "histogram_avg" => {
                of_natives(self.argument(args, 0, grid)?, |one| one.parts().sum / one.parts().count)
            }
            "histogram_stdvar" => of_natives(self.argument(args, 0, grid)?, Histogram::variance),
            "histogram_stddev" => of_natives(self.argument(args, 0, grid)?, |one| one.variance().sqrt()),
            _ => Vec::new(),
        })
    }

    /// When samples were taken; of what is reckoned, when it is asked for.
    fn timestamps(&mut self, args: &[Expr], grid: Grid) -> Result<Vec<Row>, EvalError> {
        if let Some(Kind::Selector(selector)) = args.first().map(|arg| &arg.bare().kind) {
            let mut rows = self.newest_of(selector, grid, false, |sample| seconds(sample.time_ms))?;
            rows.iter_mut().for_each(|row| row.drop_name = true);
            return Ok(rows);
        }
        let mut rows = self.argument(args, 0, grid)?;
        for row in &mut rows {
            row.drop_name = true;
            let natives = std::mem::take(&mut row.natives);
            for (place, (time, value)) in grid.times().zip(&mut row.values).enumerate() {
                if !klar_tsdb::is_stale(*value) || natives.get(place).is_some_and(Option::is_some) {
                    *value = seconds(time);
                }
            }
        }
        Ok(rows)
    }
}

/// With all values changed.
fn renamed(mut rows: Vec<Row>, change: impl Fn(f64) -> f64) -> Vec<Row> {
    without_natives(&mut rows);
    for row in &mut rows {
        row.drop_name = true;
        row.change(&change);
    }
    rows
}

/// Without the native histograms, which have no such value.
fn without_natives(rows: &mut Vec<Row>) {
    if rows.iter().any(|row| !row.natives.is_empty()) {
        rows.iter_mut().for_each(|row| row.natives.clear());
        rows.retain(|row| !row.is_empty());
    }
}

/// A number of each native histogram.
fn of_natives(mut rows: Vec<Row>, of: impl Fn(&Histogram) -> f64) -> Vec<Row> {
    for row in &mut rows {
        row.drop_name = true;
        row.values.fill(NONE);
        for (value, native) in row.values.iter_mut().zip(std::mem::take(&mut row.natives)) {
            if let Some(histogram) = native {
                *value = of(&histogram);
            }
        }
    }
    rows.retain(|row| !row.is_empty());
    rows
}

/// With all values changed by two numbers for each time.
fn bounded(
    mut rows: Vec<Row>,
    first: &[f64],
    second: &[f64],
    change: impl Fn(f64, f64, f64) -> f64,
) -> Vec<Row> {
    without_natives(&mut rows);
    for row in &mut rows {
        row.drop_name = true;
        for (value, (first, second)) in row.values.iter_mut().zip(first.iter().zip(second)) {
            if !klar_tsdb::is_stale(*value) {
                *value = change(*value, *first, *second);
            }
        }
    }
    rows.retain(|row| !row.is_empty());
    rows
}
