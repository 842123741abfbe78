//! Operators with two sides.

use std::collections::HashMap;
use std::sync::Arc;

use klar_tsdb::Labels;

use super::Evaluator;
use super::rows::{Grid, Made, NONE, Point, Row, Value, merged, tells_what};
use crate::ast::{Binary, BinaryOp, Matching, Number, Place, Side};
use crate::error::EvalError;
use crate::histogram::{Hint, Histogram, Total};
use crate::notes::{Notes, On};

/// What an operator makes of two numbers, and whether a comparison holds.
fn reckon(op: BinaryOp, left: f64, right: f64) -> (f64, bool) {
    match op {
        BinaryOp::Add => (left + right, true),
        BinaryOp::Sub => (left - right, true),
        BinaryOp::Mul => (left * right, true),
        BinaryOp::Div => (left / right, true),
        BinaryOp::Mod => (left % right, true),
        BinaryOp::Pow => (left.powf(right), true),
        BinaryOp::Atan2 => (left.atan2(right), true),
        BinaryOp::Equal => (left, left == right),
        BinaryOp::NotEqual => (left, left != right),
        BinaryOp::Less => (left, left < right),
        BinaryOp::LessEqual => (left, left <= right),
        BinaryOp::Greater => (left, left > right),
        BinaryOp::GreaterEqual => (left, left >= right),
        // They cut native histograms, and these are none.
        BinaryOp::TrimUpper | BinaryOp::TrimLower | BinaryOp::And | BinaryOp::Or | BinaryOp::Unless => {
            (0.0, false)
        }
    }
}

/// What an operator makes of two points, and whether a comparison holds. `None`: nothing, and it is noted why.
fn reckoned(
    op: BinaryOp,
    left: Point<'_>,
    right: Point<'_>,
    notes: &mut Notes,
    place: Place,
) -> Option<(Made, bool)> {
    let made = |histogram: Histogram| Some((Made::from(histogram), true));
    let (left_type, right_type) = match (left, right) {
        (Point::Float(left), Point::Float(right)) => {
            if !matches!(op, BinaryOp::TrimUpper | BinaryOp::TrimLower) {
                let (value, holds) = reckon(op, left, right);
                return Some((Made::Float(value), holds));
            }
            ("float", "float")
        }
        (Point::Float(left), Point::Native(right)) => match op {
            BinaryOp::Mul => return made(right.times(left)),
            _ => ("float", "histogram"),
        },
        (Point::Native(left), Point::Float(right)) => match op {
            BinaryOp::Mul => return made(left.times(right)),
            BinaryOp::Div => return made(left.divided(right)),
            BinaryOp::TrimUpper => return made(left.trimmed(right, true)),
            BinaryOp::TrimLower => return made(left.trimmed(right, false)),
            _ => ("histogram", "float"),
        },
        (Point::Native(left), Point::Native(right)) => match op {
            BinaryOp::Add | BinaryOp::Sub => return sum(op, left, right, notes, place),
            BinaryOp::Equal => return Some((Made::Native(Arc::clone(left)), left == right)),
            BinaryOp::NotEqual => return Some((Made::Native(Arc::clone(left)), left != right)),
            _ => ("histogram", "histogram"),
        },
    };
    if notes.has_room() {
        let op = op.symbol();
        let what = format!(
            "incompatible sample types encountered for binary operator {op:?}: {left_type} {op} {right_type}"
        );
        notes.info(place, what);
    }
    None
}

fn sum(
    op: BinaryOp,
    left: &Histogram,
    right: &Histogram,
    notes: &mut Notes,
    place: Place,
) -> Option<(Made, bool)> {
    let is_minus = op == BinaryOp::Sub;
    let mut total = Total::of(left);
    let Some(merged) = total.add(right, is_minus) else {
        let op = op.symbol();
        notes.warn(place, format!("incompatible bucket layout encountered for binary operator {op}"));
        return None;
    };
    let labels = Labels::none();
    let mut on = On { notes, place, labels: &labels };
    let during = if is_minus { "subtraction" } else { "addition" };
    if merged.hints_collide {
        on.hints_collide(during);
    }
    if merged.bounds_differ {
        on.bounds_differ(during);
    }
    let mut result = total.histogram();
    if is_minus {
        result = result.hinted(Hint::Gauge);
    }
    Some((Made::from(result), true))
}

impl Evaluator<'_> {
    pub(super) fn binary(&mut self, binary: &Binary, place: Place, grid: Grid) -> Result<Value, EvalError> {
        let (left, right) = (self.eval(&binary.left, grid)?, self.eval(&binary.right, grid)?);
        let op = binary.op;
        Ok(match (left, right) {
            (Value::Scalar(left), Value::Scalar(right)) => {
                let both = left.into_iter().zip(right).map(|(left, right)| {
                    let (value, holds) = reckon(op, left, right);
                    if op.compares() { f64::from(u8::from(holds)) } else { value }
                });
                Value::Scalar(both.collect())
            }
            (Value::Rows(rows), Value::Scalar(scalars)) => {
                Value::Rows(with_scalar(binary, rows, &scalars, false, &mut self.notes, place))
            }
            (Value::Scalar(scalars), Value::Rows(rows)) => {
                Value::Rows(with_scalar(binary, rows, &scalars, true, &mut self.notes, place))
            }
            (Value::Rows(left), Value::Rows(right)) => {
                let sides = Sides::new(&binary.matching, left, right);
                Value::Rows(match op {
                    BinaryOp::And => sides.kept(grid, true),
                    BinaryOp::Unless => sides.kept(grid, false),
                    BinaryOp::Or => sides.either(grid)?,
                    _ => self.matched(binary, place, &sides, grid)?,
                })
            }
            _ => return Err(EvalError::meaningless("texts cannot be reckoned with")),
        })
    }

    /// An operator between the series of both sides that belong together.
    fn matched(
        &mut self,
        binary: &Binary,
        stands: Place,
        sides: &Sides,
        grid: Grid,
    ) -> Result<Vec<Row>, EvalError> {
        let matching = &binary.matching;
        let is_swapped = matching.side == Side::ManyRight;
        // The right side is the one of which each group has one series.
        let (many, one) = if is_swapped { (&sides.right, &sides.left) } else { (&sides.left, &sides.right) };
        let (many_groups, one_groups) = if is_swapped {
            (&sides.right_groups, &sides.left_groups)
        } else {
            (&sides.left_groups, &sides.right_groups)
        };
        // As Prometheus has it, `fill_left` fills the left side, whichever has many.
        let (fill_many, fill_one) = (matching.fill_left, matching.fill_right);
        let mut out =
            Out { rows: Vec::new(), places: HashMap::new(), pairs: HashMap::new(), last: Vec::new() };
        let mut charged = 0;
        let mut of_group: Vec<Option<usize>> = vec![None; sides.groups];
        let mut is_matched: Vec<bool> = vec![false; sides.groups];
        for place in 0..grid.count {
            if place % 64 == 0 {
                self.go_on()?;
            }
            of_group.fill(None);
            is_matched.fill(false);
            self.charge(out.rows.len().saturating_sub(charged).saturating_mul(grid.count))?;
            charged = out.rows.len();
            for (index, (row, group)) in one.iter().zip(one_groups).enumerate() {
                if row.point(place).is_none() {
                    continue;
                }
                let Some(slot) = of_group.get_mut(*group) else { continue };
                if let Some(other) = slot.replace(index).and_then(|other| one.get(other)) {
                    return Err(ambiguous(matching, &other.labels, &row.labels, is_swapped));
                }
            }
            for (index, (row, group)) in many.iter().zip(many_groups).enumerate() {
                let Some(value) = row.point(place) else { continue };
                let partner = of_group.get(*group).copied().flatten();
                let other = partner.and_then(|partner| one.get(partner)?.point(place));
                let Some(other) = other.or(fill_one.map(|Number(fill)| Point::Float(fill))) else { continue };
                let pair = (Some(index), partner);
                let notes = &mut self.notes;
                let Some(result) = outcome(binary, value, other, notes, stands) else { continue };
                let is_first = is_matched.get_mut(*group).is_some_and(|is| !std::mem::replace(is, true));
                out.add(binary, (many, one), pair, place, result, is_first, grid.count)?;
            }
            let Some(Number(fill)) = fill_many else { continue };
            for (index, (row, group)) in one.iter().zip(one_groups).enumerate() {
                let Some(value) = row.point(place) else { continue };
                if is_matched.get(*group).copied().unwrap_or_default() {
                    continue;
                }
                let notes = &mut self.notes;
                let Some(result) = outcome(binary, Point::Float(fill), value, notes, stands) else {
                    continue;
                };
                out.add(binary, (many, one), (None, Some(index)), place, result, true, grid.count)?;
            }
        }
        out.rows.retain(|row| !row.is_empty());
        Ok(out.rows)
    }
}

/// A row of one or of the other side, or of both.
type Pair = (Option<usize>, Option<usize>);

/// What comes out.
struct Out {
    rows: Vec<Row>,
    places: HashMap<Labels, usize>,
    pairs: HashMap<Pair, usize>,
    /// For each row, one more than the place that it was last met at.
    last: Vec<usize>,
}

impl Out {
    #[allow(clippy::too_many_arguments)] // all of one moment
    fn add(
        &mut self,
        binary: &Binary,
        (many, one): (&[Row], &[Row]),
        pair: Pair,
        place: usize,
        (result, holds): (Made, bool),
        is_first: bool,
        count: usize,
    ) -> Result<(), EvalError> {
        let matching = &binary.matching;
        if matching.side == Side::One && !is_first {
            return Err(EvalError::meaningless(
                "several series of the left side belong to one of the right; say so with `group_left`, or match \
                 more labels",
            ));
        }
        let row = if let Some(row) = self.pairs.get(&pair) {
            *row
        } else {
            let many = pair.0.and_then(|place| many.get(place));
            let one = pair.1.and_then(|place| one.get(place));
            let labels = labels_of(binary, many, one)?;
            let drop_name = binary.is_bool || many.or(one).is_some_and(|row| row.drop_name);
            let next = self.rows.len();
            let row = *self.places.entry(labels.clone()).or_insert(next);
            if row == next {
                self.rows.push(Row::empty(labels, drop_name, count));
                self.last.push(0);
            }
            self.pairs.insert(pair, row);
            row
        };
        let Some(last) = self.last.get_mut(row) else { return Ok(()) };
        if std::mem::replace(last, place + 1) == place + 1 {
            return Err(EvalError::meaningless(
                "several series of the result have the same labels; match more labels, or group by those that tell \
                 them apart",
            ));
        }
        let value = if binary.is_bool { Made::Float(f64::from(u8::from(holds))) } else { result };
        if (holds || binary.is_bool)
            && let Some(row) = self.rows.get_mut(row)
        {
            row.put(place, value);
        }
        Ok(())
    }
}

/// What an operator makes of a point of the side that may have many and one of the other.
fn outcome(
    binary: &Binary,
    many: Point<'_>,
    one: Point<'_>,
    notes: &mut Notes,
    place: Place,
) -> Option<(Made, bool)> {
    let is_swapped = binary.matching.side == Side::ManyRight;
    let (left, right) = if is_swapped { (one, many) } else { (many, one) };
    reckoned(binary.op, left, right, notes, place)
}

/// The labels of a result.
fn labels_of(binary: &Binary, many: Option<&Row>, one: Option<&Row>) -> Result<Labels, EvalError> {
    let matching = &binary.matching;
    let group = |row: &Row| row.labels.filtered(|label| in_group(matching, label));
    let mut labels = match (many, one) {
        (Some(many), _) => many.labels.clone(),
        (None, Some(one)) => group(one),
        (None, None) => Labels::none(),
    };
    let filled = match (one, many) {
        (Some(one), _) => one.labels.clone(),
        (None, Some(many)) => group(many),
        (None, None) => Labels::none(),
    };
    if binary.op.changes_meaning() {
        labels = labels.filtered(|label| !tells_what(label));
    }
    if matching.side == Side::One {
        labels = labels.filtered(|label| matching.labels.iter().any(|its| its == label) == matching.is_on);
    }
    for label in &matching.include {
        let value = filled.get(label).unwrap_or_default();
        labels = labels.with(label, value).map_err(|bad| EvalError::Meaningless(bad.to_string()))?;
    }
    Ok(labels)
}

/// Whether series that belong together have the same value of a label.
fn in_group(matching: &Matching, label: &str) -> bool {
    let is_named = matching.labels.iter().any(|its| its == label);
    if matching.is_on { is_named } else { !is_named && label != klar_tsdb::labels::NAME }
}

fn ambiguous(matching: &Matching, first: &Labels, second: &Labels, is_left: bool) -> EvalError {
    let group = first.filtered(|label| in_group(matching, label));
    let side = if is_left { "left" } else { "right" };
    let (first, second) = if first <= second { (first, second) } else { (second, first) };
    EvalError::Meaningless(format!(
        "two series on the {side} belong to {group}: {first} and {second}; match more labels with `on`, or make one \
         of them with `sum` or `max`"
    ))
}

/// Both sides, and which rows belong together.
struct Sides {
    left: Vec<Row>,
    right: Vec<Row>,
    left_groups: Vec<usize>,
    right_groups: Vec<usize>,
    groups: usize,
}

impl Sides {
    fn new(matching: &Matching, left: Vec<Row>, right: Vec<Row>) -> Self {
        let mut groups: HashMap<Labels, usize> = HashMap::new();
        let mut number = |rows: &[Row]| {
            let group = |row: &Row| {
                let next = groups.len();
                *groups.entry(row.labels.filtered(|label| in_group(matching, label))).or_insert(next)
            };
            rows.iter().map(group).collect::<Vec<_>>()
        };
        let (left_groups, right_groups) = (number(&left), number(&right));
        Self { left, right, left_groups, right_groups, groups: groups.len() }
    }

    /// For each group and time, whether a row has a value.
    fn present(rows: &[Row], groups: &[usize], count: usize, grid: Grid) -> Vec<bool> {
        let mut present = vec![false; count * grid.count];
        for (row, group) in rows.iter().zip(groups) {
            let its = present.iter_mut().skip(group * grid.count);
            for (place, (is, value)) in its.zip(&row.values).enumerate() {
                *is |= !klar_tsdb::is_stale(*value) || row.native(place).is_some();
            }
        }
        present
    }

    /// Without those values of which a group has, or has not, one on the other side.
    fn without(
        rows: Vec<Row>,
        groups: &[usize],
        present: &[bool],
        grid: Grid,
        where_present: bool,
    ) -> Vec<Row> {
        let mut kept = rows;
        for (row, group) in kept.iter_mut().zip(groups) {
            let its = present.iter().skip(group * grid.count);
            for (place, is) in its.take(grid.count).enumerate() {
                if *is == where_present {
                    row.clear(place);
                }
            }
        }
        kept.retain(|row| !row.is_empty());
        kept
    }

    /// What is left of the left side: where the right side has something, or where it has nothing.
    fn kept(self, grid: Grid, where_present: bool) -> Vec<Row> {
        let present = Self::present(&self.right, &self.right_groups, self.groups, grid);
        Self::without(self.left, &self.left_groups, &present, grid, !where_present)
    }

    /// The left side, and where it has nothing, the right side.
    fn either(self, grid: Grid) -> Result<Vec<Row>, EvalError> {
        let present = Self::present(&self.left, &self.left_groups, self.groups, grid);
        let right = Self::without(self.right, &self.right_groups, &present, grid, true);
        let mut rows = self.left;
        rows.extend(right);
        merged(rows)
    }
}

/// An operator between series and a number, which is on the left if `is_left`.
fn with_scalar(
    binary: &Binary,
    rows: Vec<Row>,
    scalars: &[f64],
    is_left: bool,
    notes: &mut Notes,
    place: Place,
) -> Vec<Row> {
    let op = binary.op;
    let is_trim = matches!(op, BinaryOp::TrimUpper | BinaryOp::TrimLower);
    let mut kept = rows;
    for row in &mut kept {
        row.drop_name |= op.changes_meaning() || binary.is_bool;
        for (value, scalar) in row.values.iter_mut().zip(scalars) {
            if klar_tsdb::is_stale(*value) {
                continue;
            }
            if is_trim {
                reckoned(op, Point::Float(*value), Point::Float(*scalar), notes, place);
                *value = NONE;
                continue;
            }
            let (result, holds) =
                if is_left { reckon(op, *scalar, *value) } else { reckon(op, *value, *scalar) };
            *value = match () {
                () if binary.is_bool => f64::from(u8::from(holds)),
                () if !holds => NONE,
                // A comparison keeps the value of the series, wherever it stands.
                () if op.compares() => *value,
                () => result,
            };
        }
        let natives = std::mem::take(&mut row.natives);
        for (at, (native, scalar)) in natives.iter().zip(scalars).enumerate() {
            let Some(native) = native else { continue };
            let (native, scalar) = (Point::Native(native), Point::Float(*scalar));
            let (left, right) = if is_left { (scalar, native) } else { (native, scalar) };
            if let Some((made, true)) = reckoned(op, left, right, notes, place) {
                row.put(at, made);
            }
        }
    }
    kept.retain(|row| !row.is_empty());
    kept
}
