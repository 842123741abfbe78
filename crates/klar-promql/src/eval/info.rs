//! `info`: labels of series about other series, such as `target_info`.

use std::collections::HashMap;

use klar_tsdb::{Labels, Matcher, Op, labels::NAME};

use super::rows::{Grid, Row};
use super::select::newest;
use super::{Evaluator, Reference, Series};
use crate::ast::{Expr, Kind};
use crate::error::EvalError;

/// What says to which series the labels belong.
const IDENTITY: [&str; 2] = ["instance", "job"];

/// Which series give labels, and which labels.
struct Asked {
    names: Vec<Matcher>,
    data: Vec<Matcher>,
}

impl Asked {
    fn new(arg: Option<&Expr>) -> Result<Self, EvalError> {
        let matchers = match arg.map(|arg| &arg.bare().kind) {
            Some(Kind::Selector(selector)) => selector.matchers.clone(),
            _ => Vec::new(),
        };
        let (mut names, data): (Vec<_>, Vec<_>) = matchers.into_iter().partition(|one| one.name() == NAME);
        let default = match names.as_slice() {
            [] => Some((Op::Equal, "target_info")),
            names if names.iter().all(|one| matches!(one.op(), Op::NotEqual | Op::NotMatches)) => {
                Some((Op::Matches, ".+_info"))
            }
            _ => None,
        };
        if let Some((op, value)) = default {
            let matcher = Matcher::new(NAME, op, value);
            names.push(matcher.map_err(|bad| EvalError::Meaningless(bad.to_string()))?);
        }
        Ok(Self { names, data })
    }

    /// Whether a series gives labels itself.
    fn gives(&self, labels: &Labels) -> bool {
        self.names.iter().all(|one| one.takes(labels.metric().unwrap_or_default()))
    }

    fn takes_label(&self, label: &str) -> bool {
        let is_data = label != NAME && !IDENTITY.contains(&label);
        is_data && (self.data.is_empty() || self.data.iter().any(|one| one.name() == label))
    }
}

fn identity(labels: &Labels) -> [String; 2] {
    IDENTITY.map(|label| labels.get(label).unwrap_or_default().to_owned())
}

impl Evaluator<'_> {
    pub(super) fn info(&mut self, args: &[Expr], grid: Grid) -> Result<Vec<Row>, EvalError> {
        let Some(base) = args.first() else { return Ok(Vec::new()) };
        let asked = Asked::new(args.get(1))?;
        let rows = self.rows(base, grid)?;
        let reference = self.shift_of(base, Reference::Ago(0))?.unwrap_or(Reference::Ago(0));
        let from = reference.of(grid.from) - self.options.lookback_ms + 1;
        let matchers: Vec<Matcher> = asked.names.iter().chain(&asked.data).cloned().collect();
        let infos = self.fetch(&matchers, from, reference.of(grid.last()))?;
        if infos.iter().any(|info| !info.natives.is_empty()) {
            return Err(EvalError::meaningless(
                "a series that gives labels has native histograms; name one with floats: `{__name__=\"…\"}`",
            ));
        }
        let mut by_identity: HashMap<[String; 2], Vec<Series>> = HashMap::new();
        for info in infos {
            by_identity.entry(identity(&info.labels)).or_default().push(info);
        }
        // Without labels that have to be there, a series is not wanted.
        let is_needed = asked.data.iter().any(|one| !one.takes_none());
        let mut found: Vec<Row> = Vec::new();
        let mut places: HashMap<Labels, usize> = HashMap::new();
        for row in rows {
            self.go_on()?;
            let gives = asked.gives(&row.labels);
            let infos = by_identity.get(&identity(&row.labels)).map_or(&[][..], Vec::as_slice);
            let mut cursors = vec![0; infos.len()];
            for (place, time) in grid.times().enumerate() {
                let Some(point) = row.point(place) else { continue };
                let labels = if gives {
                    row.labels.clone()
                } else {
                    let time = reference.of(time);
                    match enriched(&row.labels, &asked, infos, &mut cursors, time, self.options.lookback_ms)?
                    {
                        Some(labels) => labels,
                        None if is_needed => continue,
                        None => row.labels.clone(),
                    }
                };
                let next = found.len();
                let at = *places.entry(labels.clone()).or_insert(next);
                if at == next {
                    found.push(Row::empty(labels, row.drop_name, grid.count));
                }
                if let Some(row) = found.get_mut(at) {
                    row.put(place, point.made());
                }
            }
        }
        Ok(found)
    }

    /// At what other time the first series of an expression is asked for.
    fn shift_of(&self, expr: &Expr, outer: Reference) -> Result<Option<Reference>, EvalError> {
        let within = |shift| -> Result<Reference, EvalError> {
            Ok(match (self.reference(shift)?, outer) {
                (Reference::Ago(ago), Reference::Ago(before)) => Reference::Ago(ago + before),
                (Reference::Ago(ago), Reference::Fixed(fixed)) => Reference::Fixed(fixed - ago),
                (fixed, _) => fixed,
            })
        };
        let of_first = |all: &[&Expr]| {
            let mut all = all.iter().map(|one| self.shift_of(one, outer));
            all.find(|one| !matches!(one, Ok(None))).unwrap_or(Ok(None))
        };
        match &expr.kind {
            Kind::Number(_) | Kind::Text(_) => Ok(None),
            Kind::Selector(selector) | Kind::Range { selector, .. } => within(&selector.shift).map(Some),
            Kind::Subquery(subquery) => self.shift_of(&subquery.of, within(&subquery.shift)?),
            Kind::Sign { of, .. } | Kind::Parens(of) => self.shift_of(of, outer),
            Kind::Binary(binary) => of_first(&[&binary.left, &binary.right]),
            Kind::Aggregate(aggregate) => self.shift_of(&aggregate.of, outer),
            Kind::Call { args, .. } => of_first(&args.iter().collect::<Vec<_>>()),
        }
    }
}

/// Labels with those of the newest series of each name; `None`: there is no such series.
fn enriched(
    base: &Labels,
    asked: &Asked,
    infos: &[Series],
    cursors: &mut [usize],
    time: i64,
    lookback: i64,
) -> Result<Option<Labels>, EvalError> {
    let mut of_name: HashMap<&str, (i64, &Labels)> = HashMap::new();
    for (info, cursor) in infos.iter().zip(cursors) {
        let Some(sample) = newest(&info.samples, cursor, time, lookback) else { continue };
        let name = info.labels.metric().unwrap_or_default();
        let best = of_name.entry(name).or_insert((sample.time_ms, &info.labels));
        if sample.time_ms > best.0 {
            *best = (sample.time_ms, &info.labels);
        }
    }
    if of_name.is_empty() {
        return Ok(None);
    }
    let mut added: HashMap<&str, &str> = HashMap::new();
    for (_, labels) in of_name.values() {
        for (label, value) in labels.iter().filter(|(label, _)| asked.takes_label(label)) {
            if base.get(label).is_none() && added.insert(label, value).is_some_and(|other| other != value) {
                let what = format!(
                    "two series about {base} differ in the label `{label}`; name one of them: `{{__name__=\"…\"}}`"
                );
                return Err(EvalError::Meaningless(what));
            }
        }
    }
    let labels = Labels::new(base.iter().chain(added));
    labels.map(Some).map_err(|bad| EvalError::Meaningless(bad.to_string()))
}
