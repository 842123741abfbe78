//! Sums of histograms.

use std::sync::Arc;

use super::{BUCKETS_MAX, CUSTOM, Hint, Histogram, Parts, bound, coarser};
use crate::eval::kahan::Sum;

/// A sum of histograms that loses little.
#[derive(Debug, Clone)]
pub(crate) struct Total {
    hint: Hint,
    schema: i8,
    bounds: Arc<[f64]>,
    zero_threshold: f64,
    zero: Sum,
    count: Sum,
    sum: Sum,
    positive: Vec<(i32, Sum)>,
    negative: Vec<(i32, Sum)>,
}

/// What to know of two histograms that were put together.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Merged {
    /// One says that the counter began again, the other that it went on.
    pub hints_collide: bool,
    /// They had other bounds, and what both have is left of them.
    pub bounds_differ: bool,
}

/// Something that counts.
trait Count: Copy {
    fn value(self) -> f64;
    fn plus(&mut self, other: Self);
}

impl Count for f64 {
    fn value(self) -> f64 {
        self
    }

    fn plus(&mut self, other: Self) {
        *self += other;
    }
}

impl Count for Sum {
    fn value(self) -> f64 {
        self.total()
    }

    fn plus(&mut self, other: Self) {
        self.absorb(other);
    }
}

/// Adds to the bucket of a number, which is the last one or one behind it.
fn push<C: Count>(side: &mut Vec<(i32, C)>, number: i32, count: C) {
    match side.last_mut() {
        Some(last) if last.0 == number => last.1.plus(count),
        _ => side.push((number, count)),
    }
}

/// The buckets of a coarser schema.
fn coarsened<C: Count>(side: &[(i32, C)], from: i8, to: i8) -> Vec<(i32, C)> {
    let mut found = Vec::with_capacity(side.len());
    for (number, count) in side {
        push(&mut found, coarser(*number, from, to), *count);
    }
    found
}

/// The buckets of a coarser schema.
pub(super) fn reduced(side: &[(i32, f64)], from: i8, to: i8) -> Vec<(i32, f64)> {
    if from > to { coarsened(side, from, to) } else { side.to_vec() }
}

/// The bounds that both have.
pub(super) fn common(left: &[f64], right: &[f64]) -> Vec<f64> {
    let mut right = right.iter().peekable();
    let mut found = Vec::new();
    for bound in left {
        while right.next_if(|other| *other < bound).is_some() {}
        if right.peek() == Some(&bound) {
            found.push(*bound);
        }
    }
    found
}

fn mapped_to<C: Count>(side: &[(i32, C)], bounds: &[f64], to: &[f64]) -> Vec<(i32, C)> {
    let mut found = Vec::with_capacity(side.len());
    for (number, count) in side {
        let upper = bound(CUSTOM, bounds, *number);
        let place = to.partition_point(|bound| *bound < upper);
        push(&mut found, i32::try_from(place).unwrap_or(i32::MAX), *count);
    }
    found
}

/// The buckets between fewer bounds.
pub(super) fn mapped(side: &[(i32, f64)], bounds: &[f64], to: &[f64]) -> Vec<(i32, f64)> {
    mapped_to(side, bounds, to)
}

/// Buckets, and what their bounds depend on.
struct Sides<'a, C> {
    schema: i8,
    positive: &'a [(i32, C)],
    negative: &'a [(i32, C)],
}

impl<C: Count> Sides<'_, C> {
    /// The least threshold from this one that does not lie within a bucket.
    fn threshold(&self, mut threshold: f64) -> f64 {
        let of = |number: i32| bound(self.schema, &[], number);
        loop {
            let cut = [self.positive, self.negative].into_iter().find_map(|side| {
                let within = side.iter().take_while(|(number, _)| of(number - 1) < threshold);
                within
                    .filter(|(_, count)| count.value() != 0.0)
                    .map(|one| of(one.0))
                    .find(|it| *it > threshold)
            });
            match cut {
                Some(larger) => threshold = larger,
                None => return threshold,
            }
        }
    }

    /// What lies below a threshold.
    fn below(&self, threshold: f64) -> impl Iterator<Item = C> {
        let of = |number: i32| bound(self.schema, &[], number);
        let sides = [self.positive, self.negative].into_iter();
        sides.flat_map(move |side| {
            side.iter().take_while(move |(number, _)| of(number - 1) < threshold).map(|one| one.1)
        })
    }
}

fn sides(of: &Histogram) -> Sides<'_, f64> {
    Sides { schema: of.parts.schema, positive: &of.parts.positive, negative: &of.parts.negative }
}

/// The zero bucket with a threshold that is as large or, not to cut a bucket, larger: the threshold and the count.
pub(super) fn widened(of: &Histogram, threshold: f64) -> (f64, f64) {
    if threshold == of.parts.zero_threshold {
        return (threshold, of.parts.zero_count);
    }
    let sides = sides(of);
    let threshold = sides.threshold(threshold);
    let mut count = Sum::default();
    count.add(of.parts.zero_count);
    sides.below(threshold).for_each(|one| count.add(one));
    (threshold, count.total())
}

impl Total {
    pub(crate) fn of(first: &Histogram) -> Self {
        let Parts { hint, schema, bounds, zero_threshold, zero_count, count, sum, positive, negative } =
            &first.parts;
        let side = |side: &[(i32, f64)]| side.iter().map(|one| (one.0, Sum::of(one.1))).collect();
        Self {
            hint: *hint,
            schema: *schema,
            bounds: Arc::clone(bounds),
            zero_threshold: *zero_threshold,
            zero: Sum::of(*zero_count),
            count: Sum::of(*count),
            sum: Sum::of(*sum),
            positive: side(positive),
            negative: side(negative),
        }
    }

    /// Adds a histogram, or takes it away. `None`: one has bounds of its own and the other has not; nothing is changed.
    pub(crate) fn add(&mut self, other: &Histogram, is_minus: bool) -> Option<Merged> {
        if (self.schema == CUSTOM) != other.is_custom() {
            return None;
        }
        let factor = if is_minus { -1.0 } else { 1.0 };
        let mut merged = Merged { hints_collide: self.adjust_hint(other.parts.hint), bounds_differ: false };
        self.count.add(factor * other.parts.count);
        self.sum.add(factor * other.parts.sum);
        if other.is_custom() {
            if self.bounds == other.parts.bounds {
                merge(&mut self.positive, &other.parts.positive, factor);
            } else {
                merged.bounds_differ = true;
                let common = common(&self.bounds, &other.parts.bounds);
                self.positive = mapped_to(&self.positive, &self.bounds, &common);
                merge(
                    &mut self.positive,
                    &mapped(&other.parts.positive, &other.parts.bounds, &common),
                    factor,
                );
                self.bounds = common.into();
            }
            return Some(merged);
        }
        let zero_count = self.widen_with(other);
        self.zero.add(factor * zero_count);
        self.reduce(other.parts.schema);
        let threshold = self.zero_threshold;
        let schema = self.schema;
        let added = |side: &[(i32, f64)]| {
            let mut side = reduced(side, other.parts.schema, schema);
            // These are in the zero bucket.
            side.retain(|(number, _)| bound(schema, &[], *number) > threshold);
            side
        };
        merge(&mut self.positive, &added(&other.parts.positive), factor);
        merge(&mut self.negative, &added(&other.parts.negative), factor);
        while self.positive.len().max(self.negative.len()) > BUCKETS_MAX && self.schema > -4 {
            self.reduce(self.schema - 1);
        }
        Some(merged)
    }

    /// Brings the zero buckets of both to the same width; gives the count of the other's.
    fn widen_with(&mut self, other: &Histogram) -> f64 {
        let own = Sides { schema: self.schema, positive: &self.positive, negative: &self.negative };
        let mut threshold = self.zero_threshold.max(other.parts.zero_threshold);
        loop {
            let larger = if threshold == self.zero_threshold { threshold } else { own.threshold(threshold) };
            let (last, count) = widened(other, larger);
            if last != larger {
                threshold = last;
                continue;
            }
            if last != self.zero_threshold {
                let below: Vec<Sum> = own.below(last).collect();
                below.into_iter().for_each(|one| self.zero.absorb(one));
                let of = |number: i32| bound(self.schema, &[], number);
                self.positive.retain(|(number, _)| of(number - 1) >= last);
                self.negative.retain(|(number, _)| of(number - 1) >= last);
                self.zero_threshold = last;
            }
            return count;
        }
    }

    /// Makes buckets as wide as those of a schema, unless they are wider.
    pub(crate) fn reduce(&mut self, schema: i8) {
        if schema < self.schema {
            self.positive = coarsened(&self.positive, self.schema, schema);
            self.negative = coarsened(&self.negative, self.schema, schema);
            self.schema = schema;
        }
    }

    /// Whether the hints contradict each other.
    fn adjust_hint(&mut self, other: Hint) -> bool {
        let (hint, collide) = match (self.hint, other) {
            (own, other) if own == other => (own, false),
            (Hint::Gauge, _) | (_, Hint::Gauge) => (Hint::Gauge, false),
            (Hint::Unknown, _) | (_, Hint::Unknown) => (Hint::Unknown, false),
            _ => (Hint::Unknown, true),
        };
        self.hint = hint;
        collide
    }

    /// Whether it is too large for a number.
    pub(crate) fn is_infinite(&self) -> bool {
        let all = [self.zero, self.count, self.sum];
        let buckets = self.positive.iter().chain(&self.negative).map(|one| one.1);
        all.into_iter().chain(buckets).any(Sum::is_infinite)
    }

    /// Everything times a factor.
    pub(crate) fn scale(&mut self, by: f64) {
        let buckets = self.positive.iter_mut().chain(&mut self.negative).map(|one| &mut one.1);
        for sum in buckets.chain([&mut self.zero, &mut self.count, &mut self.sum]) {
            *sum = sum.scaled(by);
        }
    }

    /// What it comes to.
    pub(crate) fn histogram(&self) -> Histogram {
        let side = |side: &[(i32, Sum)]| side.iter().map(|one| (one.0, one.1.total())).collect();
        Histogram::compact(Parts {
            hint: self.hint,
            schema: self.schema,
            bounds: Arc::clone(&self.bounds),
            zero_threshold: self.zero_threshold,
            zero_count: self.zero.total(),
            count: self.count.total(),
            sum: self.sum.total(),
            positive: side(&self.positive),
            negative: side(&self.negative),
        })
    }
}

/// Adds buckets to others.
fn merge(into: &mut Vec<(i32, Sum)>, side: &[(i32, f64)], factor: f64) {
    // Most often they are the same.
    if into.len() == side.len() && into.iter().zip(side).all(|(own, one)| own.0 == one.0) {
        into.iter_mut().zip(side).for_each(|(own, one)| own.1.add(factor * one.1));
        return;
    }
    let mut found = Vec::with_capacity(into.len() + side.len());
    let mut own = into.iter().peekable();
    for (number, count) in side {
        while let Some(one) = own.next_if(|one| one.0 < *number) {
            found.push(*one);
        }
        let mut sum = own.next_if(|one| one.0 == *number).map_or(Sum::default(), |one| one.1);
        sum.add(factor * count);
        found.push((*number, sum));
    }
    found.extend(own);
    *into = found;
}
