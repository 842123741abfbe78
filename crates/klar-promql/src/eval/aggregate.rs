//! Many series to fewer.

use std::collections::HashMap;
use std::sync::Arc;

use klar_tsdb::{Labels, labels::NAME};

use super::Evaluator;
use super::kahan::{Mean, Sum, ascending, quantile};
use super::native_sum::Sums;
use super::rows::{Grid, NONE, Point, Row};
use crate::ast::{Aggregate, AggregateOp, Kind, Place};
use crate::error::EvalError;
use crate::notes::On;

/// Which rows belong together.
struct Groups {
    labels: Vec<Labels>,
    /// For each row, the place of its group.
    of_row: Vec<usize>,
}

fn is_kept(aggregate: &Aggregate, label: &str) -> bool {
    let is_named = aggregate.labels.iter().any(|its| its == label);
    if aggregate.is_without { !is_named && label != NAME } else { is_named }
}

impl Groups {
    fn new(aggregate: &Aggregate, rows: &[Row]) -> Self {
        let mut places: HashMap<Labels, usize> = HashMap::new();
        let mut groups = Self { labels: Vec::new(), of_row: Vec::with_capacity(rows.len()) };
        for row in rows {
            let labels = row.labels.filtered(|label| is_kept(aggregate, label));
            let next = places.len();
            let place = *places.entry(labels.clone()).or_insert(next);
            if place == next {
                groups.labels.push(labels);
            }
            groups.of_row.push(place);
        }
        groups
    }
}

impl Evaluator<'_> {
    pub(super) fn aggregate(
        &mut self,
        aggregate: &Aggregate,
        place: Place,
        grid: Grid,
    ) -> Result<Vec<Row>, EvalError> {
        let mut params = Vec::new();
        let mut label = "";
        match aggregate.param.as_ref().map(|param| (param, &param.bare().kind)) {
            Some((_, Kind::Text(text))) => label = text,
            Some((param, _)) => params = self.scalars(param, grid)?,
            None => {}
        }
        let place_of_param = aggregate.param.as_ref().map(|param| param.place).unwrap_or_default();
        match aggregate.op {
            AggregateOp::Quantile => self.notes.check_quantiles(&params, place_of_param),
            AggregateOp::LimitRatio => self.notes.check_ratios(&params, place_of_param),
            _ => {}
        }
        let rows = self.rows(&aggregate.of, grid)?;
        if aggregate.op == AggregateOp::CountValues {
            return self.count_values(aggregate, label, &rows, grid);
        }
        let groups = Groups::new(aggregate, &rows);
        let has_natives = rows.iter().any(|row| !row.natives.is_empty());
        if has_natives && matches!(aggregate.op, AggregateOp::Sum | AggregateOp::Avg) {
            return self.mixed_sums(aggregate, &rows, &groups, grid);
        }
        let takes_natives = matches!(
            aggregate.op,
            AggregateOp::Count | AggregateOp::Group | AggregateOp::Limitk | AggregateOp::LimitRatio
        );
        let mut rows = rows;
        if has_natives && !takes_natives {
            let what = format!("ignored histogram in {} aggregation", aggregate.op.name());
            let is_chosen = matches!(aggregate.op, AggregateOp::Topk | AggregateOp::Bottomk);
            self.notes.info(if is_chosen { place } else { aggregate.of.place }, what);
            rows.iter_mut().for_each(|row| row.natives.clear());
        }
        match aggregate.op {
            AggregateOp::Sum => sums(self, &rows, &groups, grid),
            AggregateOp::Topk | AggregateOp::Bottomk | AggregateOp::Limitk | AggregateOp::LimitRatio => {
                chosen(aggregate.op, &params, rows, &groups, grid)
            }
            op => {
                let mut found: Vec<Row> = groups
                    .labels
                    .iter()
                    .map(|labels| Row::empty(labels.clone(), false, grid.count))
                    .collect();
                for (row, group) in rows.iter().zip(&groups.of_row) {
                    if let Some(group) = found.get_mut(*group) {
                        group.drop_name |= row.drop_name;
                    }
                }
                let mut states = vec![State::default(); found.len()];
                for place in 0..grid.count {
                    if place % 64 == 0 {
                        self.go_on()?;
                    }
                    for (row, group) in rows.iter().zip(&groups.of_row) {
                        let value = row.at(place).or_else(|| row.native(place).map(|_| 1.0));
                        if let (Some(value), Some(state)) = (value, states.get_mut(*group)) {
                            state.add(op, value);
                        }
                    }
                    let param = params.get(place).copied().unwrap_or(f64::NAN);
                    for (state, row) in states.iter_mut().zip(&mut found) {
                        if let Some(value) = state.take(op, param) {
                            row.set(place, value);
                        }
                    }
                }
                found.retain(|row| !row.is_empty());
                Ok(found)
            }
        }
    }
}

impl Evaluator<'_> {
    /// Sums and means of groups that have native histograms.
    fn mixed_sums(
        &mut self,
        aggregate: &Aggregate,
        rows: &[Row],
        groups: &Groups,
        grid: Grid,
    ) -> Result<Vec<Row>, EvalError> {
        let is_mean = aggregate.op == AggregateOp::Avg;
        let place_of = aggregate.of.place;
        let mut found: Vec<Row> =
            groups.labels.iter().map(|labels| Row::empty(labels.clone(), false, grid.count)).collect();
        let mut name: Vec<&Labels> = groups.labels.iter().collect();
        for (row, group) in rows.iter().zip(&groups.of_row) {
            if let (Some(found), Some(name)) = (found.get_mut(*group), name.get_mut(*group)) {
                found.drop_name |= row.drop_name;
                *name = &row.labels;
            }
        }
        for place in 0..grid.count {
            self.go_on()?;
            let mut floats = vec![State::default(); found.len()];
            let mut natives: Vec<Option<Sums>> = vec![None; found.len()];
            for (row, group) in rows.iter().zip(&groups.of_row) {
                match row.point(place) {
                    Some(Point::Float(value)) => {
                        if let Some(state) = floats.get_mut(*group) {
                            state.add(aggregate.op, value);
                        }
                    }
                    Some(Point::Native(histogram)) => {
                        if let Some(sums) = natives.get_mut(*group) {
                            sums.get_or_insert_with(|| Sums::new(is_mean)).add(histogram);
                        }
                    }
                    None => {}
                }
            }
            let states = floats.iter_mut().zip(natives).zip(found.iter_mut().zip(&name));
            for ((float, native), (row, labels)) in states {
                match (float.take(aggregate.op, f64::NAN), native) {
                    (Some(_), Some(_)) => {
                        let what = "encountered a mix of histograms and floats for aggregation";
                        self.notes.warn(place_of, what);
                    }
                    (Some(value), None) => row.set(place, value),
                    (None, Some(sums)) => {
                        let mut on = On { notes: &mut self.notes, place: place_of, labels };
                        if let Some(sum) = sums.take(&mut on) {
                            row.set_native(place, Arc::new(sum));
                        }
                    }
                    (None, None) => {}
                }
            }
        }
        found.retain(|row| !row.is_empty());
        Ok(found)
    }
}

/// Sums, which are asked for most: row by row, as the values lie in memory.
fn sums(evaluator: &Evaluator<'_>, rows: &[Row], groups: &Groups, grid: Grid) -> Result<Vec<Row>, EvalError> {
    let mut sums: Vec<Option<Sum>> = vec![None; groups.labels.len() * grid.count];
    let mut drops = vec![false; groups.labels.len()];
    for (number, (row, group)) in rows.iter().zip(&groups.of_row).enumerate() {
        if number % 64 == 0 {
            evaluator.go_on()?;
        }
        let (Some(of_group), Some(drops)) =
            (sums.get_mut(group * grid.count..(group + 1) * grid.count), drops.get_mut(*group))
        else {
            continue;
        };
        *drops |= row.drop_name;
        for (sum, value) in of_group.iter_mut().zip(&row.values) {
            if !klar_tsdb::is_stale(*value) {
                sum.get_or_insert_default().add(*value);
            }
        }
    }
    let rows = groups.labels.iter().zip(sums.chunks(grid.count.max(1))).zip(drops);
    Ok(rows
        .map(|((labels, sums), drop_name)| {
            let values = sums.iter().map(|sum| sum.map_or(NONE, Sum::total)).collect();
            Row::of(labels.clone(), drop_name, values)
        })
        .filter(|row| !row.is_empty())
        .collect())
}

/// What is known of a group at one time.
#[derive(Clone, Default)]
struct State {
    count: f64,
    sum: Sum,
    mean: Mean,
    extreme: f64,
    /// For the variance, which Prometheus reckons here without Kahan's sums.
    plain_mean: f64,
    squares: f64,
    values: Vec<f64>,
}

impl State {
    fn add(&mut self, op: AggregateOp, value: f64) {
        self.count += 1.0;
        let is_first = self.count == 1.0;
        match op {
            AggregateOp::Sum => self.sum.add(value),
            AggregateOp::Avg => self.mean.add(value),
            AggregateOp::Min if is_first || value < self.extreme || self.extreme.is_nan() => {
                self.extreme = value
            }
            AggregateOp::Max if is_first || value > self.extreme || self.extreme.is_nan() => {
                self.extreme = value
            }
            AggregateOp::Stddev | AggregateOp::Stdvar => {
                if is_first {
                    self.plain_mean = value;
                    self.squares = if value.is_finite() { 0.0 } else { f64::NAN };
                } else {
                    let delta = value - self.plain_mean;
                    self.plain_mean += delta / self.count;
                    self.squares += delta * (value - self.plain_mean);
                }
            }
            AggregateOp::Quantile => self.values.push(value),
            _ => {}
        }
    }

    /// What it comes to, with all forgotten.
    fn take(&mut self, op: AggregateOp, param: f64) -> Option<f64> {
        if self.count == 0.0 {
            return None;
        }
        let value = match op {
            AggregateOp::Sum => self.sum.total(),
            AggregateOp::Avg => self.mean.mean(),
            AggregateOp::Count => self.count,
            AggregateOp::Min | AggregateOp::Max => self.extreme,
            AggregateOp::Stdvar => self.squares / self.count,
            AggregateOp::Stddev => (self.squares / self.count).sqrt(),
            AggregateOp::Quantile => quantile(param, &mut self.values),
            _ => 1.0,
        };
        self.values.clear();
        let values = std::mem::take(&mut self.values);
        *self = Self { values, ..Self::default() };
        Some(value)
    }
}

/// Some series of each group, as they are.
fn chosen(
    op: AggregateOp,
    params: &[f64],
    rows: Vec<Row>,
    groups: &Groups,
    grid: Grid,
) -> Result<Vec<Row>, EvalError> {
    let (least, most) = params
        .iter()
        .fold((f64::INFINITY, f64::NEG_INFINITY), |(least, most), one| (least.min(*one), most.max(*one)));
    let is_ratio = op == AggregateOp::LimitRatio;
    let name = op.name();
    let is_any_nan = params.iter().any(|param| param.is_nan());
    if !is_any_nan && ((is_ratio && least == 0.0 && most == 0.0) || (!is_ratio && most < 1.0)) {
        return Ok(Vec::new());
    }
    if is_any_nan {
        return Err(EvalError::Meaningless(format!("the parameter of `{name}` is not a number (NaN)")));
    }
    if !is_ratio && (least <= -9.2e18 || most >= 9.2e18) {
        return Err(EvalError::Meaningless(format!("the parameter of `{name}` is too large to count with")));
    }
    let mut found: Vec<Row> =
        rows.iter().map(|row| Row::empty(row.labels.clone(), row.drop_name, grid.count)).collect();
    // In which order they stand, if there is only one time.
    let mut order: Vec<usize> = Vec::new();
    let mut members: Vec<Vec<usize>> = vec![Vec::new(); groups.labels.len()];
    for (row, group) in groups.of_row.iter().enumerate() {
        if let Some(members) = members.get_mut(*group) {
            members.push(row);
        }
    }
    for place in 0..grid.count {
        let param = params.get(place).copied().unwrap_or_default();
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // below zero: none
        let count = param as usize;
        for group in &members {
            let value =
                |row: usize| rows.get(row).and_then(|row| row.at(place).or(row.native(place).map(|_| 0.0)));
            let mut here: Vec<(usize, f64)> =
                group.iter().filter_map(|row| Some((*row, value(*row)?))).collect();
            match op {
                // What is no number comes last either way.
                AggregateOp::Topk => here.sort_by(|left, right| ascending(&right.1, &left.1)),
                AggregateOp::Bottomk => here.sort_by(|left, right| {
                    left.1.is_nan().cmp(&right.1.is_nan()).then(ascending(&left.1, &right.1))
                }),
                AggregateOp::LimitRatio => {
                    here.retain(|(row, _)| rows.get(*row).is_some_and(|row| is_in_share(&row.labels, param)))
                }
                _ => {}
            }
            if !is_ratio {
                here.truncate(count);
            }
            for (row, _) in here {
                if let (Some(to), Some(point)) =
                    (found.get_mut(row), rows.get(row).and_then(|row| row.point(place)))
                {
                    to.put(place, point.made());
                }
                order.push(row);
            }
        }
    }
    if grid.count == 1 {
        return Ok(order.into_iter().filter_map(|row| found.get(row).cloned()).collect());
    }
    found.retain(|row| !row.is_empty());
    Ok(found)
}

/// Whether a series is in a share of all: always the same one, and none that is in the other share.
fn is_in_share(labels: &Labels, ratio: f64) -> bool {
    // FNV-1a, and a finish that spreads what differs only at the end.
    let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
    for (name, value) in labels.iter() {
        for byte in name.bytes().chain([255]).chain(value.bytes()).chain([255]) {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
    hash = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash = (hash ^ (hash >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    hash ^= hash >> 33;
    #[allow(clippy::cast_precision_loss)]
    let share = (hash >> 11) as f64 / (1u64 << 53) as f64;
    let ratio = ratio.clamp(-1.0, 1.0);
    if ratio >= 0.0 { share < ratio } else { share >= 1.0 + ratio }
}

/// A number as it stands in a label.
pub(crate) fn written(value: f64) -> String {
    match value {
        value if value.is_nan() => "NaN".to_owned(),
        value if value.is_infinite() => (if value > 0.0 { "+Inf" } else { "-Inf" }).to_owned(),
        value => value.to_string(),
    }
}

impl Evaluator<'_> {
    /// How many series have the same value.
    fn count_values(
        &mut self,
        aggregate: &Aggregate,
        label: &str,
        rows: &[Row],
        grid: Grid,
    ) -> Result<Vec<Row>, EvalError> {
        let mut places: HashMap<Labels, usize> = HashMap::new();
        let mut found: Vec<Row> = Vec::new();
        for row in rows {
            let base = row.labels.filtered(|its| its != label && is_kept(aggregate, its));
            for place in 0..grid.count {
                let value = match row.point(place) {
                    Some(Point::Float(value)) => written(value),
                    Some(Point::Native(histogram)) => histogram.to_string(),
                    None => continue,
                };
                let is_dropped = aggregate.is_without && aggregate.labels.iter().any(|its| its == label);
                let labels = if is_dropped { Ok(base.clone()) } else { base.with(label, &value) };
                let labels = labels.map_err(|bad| EvalError::Meaningless(bad.to_string()))?;
                let next = found.len();
                let at = *places.entry(labels.clone()).or_insert(next);
                if at == next {
                    self.charge(grid.count)?;
                    found.push(Row::empty(labels, false, grid.count));
                }
                if let Some(row) = found.get_mut(at) {
                    row.set(place, row.at(place).unwrap_or_default() + 1.0);
                }
            }
        }
        Ok(found)
    }
}
