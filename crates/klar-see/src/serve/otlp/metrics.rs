//! Points of metrics, each as one sample or several.
//!
//! What came over OTLP looks as Prometheus would have it: histograms are `_bucket`, `_sum` and `_count`, exponential ones
//! get the boundaries of powers of √2, or wider ones. Sums have to be cumulative, as nothing else can be asked for its rate
//! after a restart of whoever adds it up.

use std::collections::BTreeMap;

use klar_tsdb::labels::NAME;
use klar_tsdb::{Error, Labels, STALE, Sample, SeriesRef, Verdict};

use super::names::{self, Sort};
use super::value::{Attributes, Resource};
use super::{Refused, Sender, Trouble, each, one};
use crate::proto::{Field, Malformed, Message};

/// Samples that are written at once.
const BATCH: usize = 20_000;
/// Buckets of a histogram, and quantiles of a summary.
const BUCKETS_MAX: usize = 512;
/// Buckets that an exponential histogram gets.
const SPREAD_MAX: usize = 160;
/// The finest scale of these: at 1 each is √2 times as wide as the one before.
const SCALE: i32 = 1;
/// A point says that there is no value any more (`FLAG_NO_RECORDED_VALUE`).
const NO_VALUE: u64 = 1;
const CUMULATIVE: u64 = 2;

/// Takes in an `ExportMetricsServiceRequest`.
pub(super) fn take_in(sender: &Sender<'_>, bytes: &[u8]) -> Result<Refused, Trouble> {
    let mut samples = Samples::new(sender);
    each(bytes, 1, |of_resource| {
        let resource = Resource::read(one(of_resource, 1)?, sender.app)?;
        samples.target = target(&resource);
        let mut newest_ms = None;
        each(of_resource, 2, |of_scope| {
            each(of_scope, 2, |bytes| metric(&mut samples, bytes, &mut newest_ms))
        })?;
        if let Some(time_ms) = newest_ms {
            let info: Vec<_> = resource.rest.iter().collect();
            if !info.is_empty() {
                samples.attributes(&resource.rest);
                samples.begin();
                samples.add("target_info", None, time_ms, 1.0)?;
            }
        }
        Ok::<_, Trouble>(())
    })?;
    samples.finish()
}

/// The labels that say whose it is.
fn target(resource: &Resource) -> Vec<(&'static str, String)> {
    let job = match &*resource.namespace {
        "" => resource.service.clone(),
        namespace => format!("{namespace}/{}", resource.service),
    };
    vec![
        ("app", resource.app.clone()),
        ("env", resource.env.clone()),
        ("service", resource.service.clone()),
        ("instance", resource.instance.clone()),
        ("release", resource.release.clone()),
        ("job", job),
    ]
}

/// Samples that are on their way into the store.
struct Samples<'a> {
    sender: &'a Sender<'a>,
    target: Vec<(&'static str, String)>,
    /// Labels of the point that is being read.
    labels: BTreeMap<String, String>,
    /// The number of the point, and whether it was refused already.
    point: (usize, bool),
    batch: Vec<(SeriesRef, Sample)>,
    of: Vec<(usize, Labels)>,
    upto: Option<u64>,
    refused: Refused,
}

impl<'a> Samples<'a> {
    fn new(sender: &'a Sender<'a>) -> Self {
        Self {
            sender,
            target: Vec::new(),
            labels: BTreeMap::new(),
            point: (0, false),
            batch: Vec::new(),
            of: Vec::new(),
            upto: None,
            refused: Refused::default(),
        }
    }

    /// The labels of the next point. What two names come to has both values.
    fn attributes(&mut self, attributes: &Attributes) {
        self.labels.clear();
        for (name, value) in attributes.iter() {
            let there = self.labels.entry(names::label(name)).or_default();
            if !there.is_empty() {
                there.push(';');
            }
            there.push_str(value);
        }
        for (name, value) in &self.target {
            if !value.is_empty() {
                self.labels.insert((*name).to_owned(), value.clone());
            }
        }
    }

    fn begin(&mut self) {
        self.point = (self.point.0 + 1, false);
    }

    fn refuse(&mut self, why: impl Into<String>) {
        if !self.point.1 {
            self.point.1 = true;
            self.refused.add(1, why);
        }
    }

    fn add(
        &mut self,
        name: &str,
        more: Option<(&'static str, &str)>,
        time_ms: i64,
        value: f64,
    ) -> Result<(), Trouble> {
        let own = more.into_iter().chain([(NAME, name)]);
        let labels = self.labels.iter().map(|(name, value)| (&**name, &**value));
        let labels = labels.filter(|(name, _)| more.is_none_or(|(its, _)| its != *name));
        let labels = match Labels::new(labels.chain(own)) {
            Ok(labels) => labels,
            Err(bad) => {
                self.refuse(bad.to_string());
                return Ok(());
            }
        };
        match self.sender.shared.store.series(&labels) {
            Ok(reference) => {
                self.batch.push((reference, Sample { time_ms, value }));
                self.of.push((self.point.0, labels));
            }
            Err(error @ Error::SeriesLimit(_)) => self.refuse(error.to_string()),
            Err(error) => return Err(error.into()),
        }
        if self.batch.len() >= BATCH { self.write() } else { Ok(()) }
    }

    fn write(&mut self) -> Result<(), Trouble> {
        let (batch, of) = (std::mem::take(&mut self.batch), std::mem::take(&mut self.of));
        let store = &self.sender.shared.store;
        let appended = store.append(&batch)?;
        self.upto = Some(appended.upto);
        let mut again = Vec::new();
        let mut refused = None;
        for ((verdict, (point, labels)), (_, sample)) in appended.verdicts.iter().zip(&of).zip(&batch) {
            let why = match verdict {
                Verdict::TooOld => "samples are older than late samples may be",
                Verdict::TooNew => "samples are in the future",
                Verdict::Conflict => "samples have another value than one of the same time",
                // A series that nobody had touched for long was put away: it is asked for again.
                Verdict::Unknown => {
                    again.push((store.series(labels)?, *sample));
                    continue;
                }
                _ => continue,
            };
            // A point is refused once, whatever it came to.
            if refused != Some(*point) {
                refused = Some(*point);
                self.refused.add(1, why);
            }
        }
        if !again.is_empty() {
            self.upto = Some(store.append(&again)?.upto);
        }
        Ok(())
    }

    fn finish(mut self) -> Result<Refused, Trouble> {
        if !self.batch.is_empty() {
            self.write()?;
        }
        if let Some(upto) = self.upto {
            self.sender.shared.store.commit(upto)?;
        }
        Ok(self.refused)
    }
}

/// A `Metric`.
fn metric(samples: &mut Samples<'_>, bytes: &[u8], newest_ms: &mut Option<i64>) -> Result<(), Trouble> {
    let (mut name, mut unit, mut data) = (Default::default(), Default::default(), None);
    let mut message = Message::new(bytes);
    while let Some((number, field)) = message.field()? {
        match number {
            1 => name = field.text(),
            3 => unit = field.text(),
            5 | 7 | 9 | 10 | 11 => data = Some((number, field.bytes())),
            _ => {}
        }
    }
    let Some((kind, data)) = data else { return Ok(()) };
    let (mut temporality, mut is_monotonic) = (0, false);
    let mut message = Message::new(data);
    while let Some((number, field)) = message.field()? {
        match number {
            2 => temporality = field.number(),
            3 => is_monotonic = field.number() != 0,
            _ => {}
        }
    }
    let sort = match kind {
        7 if is_monotonic => Sort::Counter,
        5 => Sort::Gauge,
        _ => Sort::Other,
    };
    let translated = names::metric(&name, &unit, sort);
    let is_delta = matches!(kind, 7 | 9 | 10) && temporality != CUMULATIVE;
    each(data, 1, |bytes| {
        samples.begin();
        if translated.is_empty() {
            samples.refuse("a metric has no name");
        } else if is_delta {
            let name: String = name.chars().take(200).collect();
            samples.refuse(format!(
                "{name} is not cumulative; set OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE=cumulative"
            ));
        } else {
            let point = Point::read(kind, bytes)?;
            *newest_ms = (*newest_ms).max(Some(point.time_ms));
            samples.attributes(&point.attributes);
            point.write(kind, &translated, samples)?;
        }
        Ok(())
    })
}

/// A point of any kind.
#[derive(Debug, Default)]
pub(super) struct Point {
    attributes: Attributes,
    time_ms: i64,
    flags: u64,
    value: f64,
    count: u64,
    sum: Option<f64>,
    counts: Vec<u64>,
    bounds: Vec<f64>,
    quantiles: Vec<(f64, f64)>,
    scale: i32,
    zeros: u64,
    zero_threshold: f64,
    positive: Spread,
    negative: Spread,
}

/// `Buckets` of an exponential histogram.
#[derive(Debug, Default)]
struct Spread {
    offset: i32,
    counts: Vec<u64>,
}

/// Numbers that are packed, or one of many that are not; too many are cut off.
fn numbers<T>(field: Field<'_>, all: &mut Vec<T>, of: impl Fn(Field<'_>) -> T) {
    match field {
        Field::Bytes(bytes) => {
            for bits in bytes.chunks_exact(8) {
                if all.len() <= BUCKETS_MAX {
                    let bits = bits.first_chunk().copied().unwrap_or_default();
                    all.push(of(Field::Fixed64(u64::from_le_bytes(bits))));
                }
            }
        }
        one if all.len() <= BUCKETS_MAX => all.push(of(one)),
        _ => {}
    }
}

fn zigzag(number: u64) -> i32 {
    let number = ((number >> 1) ^ (number & 1).wrapping_neg()).cast_signed();
    i32::try_from(number).unwrap_or(i32::MAX)
}

impl Spread {
    fn read(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut spread = Self::default();
        let mut message = Message::new(bytes);
        while let Some((number, field)) = message.field()? {
            match (number, field) {
                (1, field) => spread.offset = zigzag(field.number()),
                (2, Field::Bytes(mut packed)) => {
                    while !packed.is_empty() {
                        let mut varints = Message::new(packed);
                        let count = varints.varint()?;
                        packed = varints.rest();
                        if spread.counts.len() <= BUCKETS_MAX {
                            spread.counts.push(count);
                        }
                    }
                }
                (2, field) if spread.counts.len() <= BUCKETS_MAX => spread.counts.push(field.number()),
                _ => {}
            }
        }
        Ok(spread)
    }

    /// The exponents of its buckets at another scale, with what is in them; empty ones are left out.
    fn at(&self, down: u32) -> BTreeMap<i64, u64> {
        let mut found = BTreeMap::new();
        for (place, count) in self.counts.iter().enumerate().filter(|(_, count)| **count > 0) {
            let index = (i64::from(self.offset) + place as i64) >> down.min(40);
            let there: &mut u64 = found.entry(index).or_default();
            *there = there.saturating_add(*count);
        }
        found
    }
}

impl Point {
    pub(super) fn read(kind: u32, bytes: &[u8]) -> Result<Self, Malformed> {
        let mut point = Self::default();
        let mut message = Message::new(bytes);
        while let Some((number, field)) = message.field()? {
            match (kind, number) {
                (_, 3) => point.time_ms = i64::try_from(field.number() / 1_000_000).unwrap_or(i64::MAX),
                (5 | 7 | 11, 7) | (9, 9) | (10, 1) => point.attributes.add(field.bytes())?,
                (5 | 7 | 11, 8) | (9 | 10, 10) => point.flags = field.number(),
                (5 | 7, 4) => point.value = field.double(),
                (5 | 7, 6) => point.value = field.signed() as f64,
                (9..=11, 4) => point.count = field.number(),
                (9..=11, 5) => point.sum = Some(field.double()),
                (9, 6) => numbers(field, &mut point.counts, |field| field.number()),
                (9, 7) => numbers(field, &mut point.bounds, |field| field.double()),
                (10, 6) => point.scale = zigzag(field.number()),
                (10, 7) => point.zeros = field.number(),
                (10, 8) => point.positive = Spread::read(field.bytes())?,
                (10, 9) => point.negative = Spread::read(field.bytes())?,
                (10, 14) => point.zero_threshold = field.double(),
                (11, 6) => {
                    let (mut quantile, mut value) = (0.0, 0.0);
                    let mut message = Message::new(field.bytes());
                    while let Some((number, field)) = message.field()? {
                        match number {
                            1 => quantile = field.double(),
                            2 => value = field.double(),
                            _ => {}
                        }
                    }
                    if point.quantiles.len() <= BUCKETS_MAX {
                        point.quantiles.push((quantile, value));
                    }
                }
                _ => {}
            }
        }
        Ok(point)
    }

    fn write(&self, kind: u32, name: &str, to: &mut Samples<'_>) -> Result<(), Trouble> {
        let (time_ms, is_gone) = (self.time_ms, self.flags & NO_VALUE != 0);
        let value = |value: f64| if is_gone { STALE } else { value };
        if matches!(kind, 5 | 7) {
            return to.add(name, None, time_ms, value(self.value));
        }
        let buckets = match kind {
            9 => self.explicit(),
            10 => self.exponential(),
            _ => Ok(Vec::new()),
        };
        let buckets = match buckets {
            Ok(buckets) => buckets,
            Err(why) => {
                to.refuse(format!("{name}: {why}"));
                return Ok(());
            }
        };
        if self.quantiles.len() > BUCKETS_MAX {
            to.refuse(format!("{name}: more than {BUCKETS_MAX} quantiles"));
            return Ok(());
        }
        if kind != 11 {
            let bucket = format!("{name}_bucket");
            for (le, count) in &buckets {
                to.add(&bucket, Some(("le", le)), time_ms, value(*count as f64))?;
            }
        }
        for (quantile, at) in &self.quantiles {
            to.add(name, Some(("quantile", &number(*quantile))), time_ms, value(*at))?;
        }
        if let Some(sum) = self.sum.or(is_gone.then_some(0.0)) {
            to.add(&format!("{name}_sum"), None, time_ms, value(sum))?;
        }
        to.add(&format!("{name}_count"), None, time_ms, value(self.count as f64))
    }

    /// Each upper bound, and how many are not above it.
    fn explicit(&self) -> Result<Vec<(String, u64)>, String> {
        if self.bounds.len() >= BUCKETS_MAX || self.counts.len() > BUCKETS_MAX {
            return Err(format!("more than {BUCKETS_MAX} buckets"));
        }
        if !self.counts.is_empty() && self.counts.len() != self.bounds.len() + 1 {
            return Err("there has to be one count more than there are bounds".into());
        }
        let mut total: u64 = 0;
        let mut buckets = Vec::with_capacity(self.counts.len() + 1);
        for (bound, count) in self.bounds.iter().zip(&self.counts) {
            total = total.saturating_add(*count);
            if bound.is_finite() {
                buckets.push((number(*bound), total));
            }
        }
        buckets.push(("+Inf".into(), self.count));
        Ok(buckets)
    }

    fn exponential(&self) -> Result<Vec<(String, u64)>, String> {
        const SCALES: std::ops::RangeInclusive<i32> = -10..=20;
        if self.positive.counts.len() > BUCKETS_MAX || self.negative.counts.len() > BUCKETS_MAX {
            return Err(format!("more than {BUCKETS_MAX} buckets"));
        }
        if !SCALES.contains(&self.scale) {
            return Err(format!("the scale {} is not between -10 and 20", self.scale));
        }
        let mut scale = self.scale.min(SCALE);
        let spread = loop {
            let down = self.scale.abs_diff(scale);
            let (negative, positive) = (self.negative.at(down), self.positive.at(down));
            if negative.len() + positive.len() <= SPREAD_MAX || scale <= *SCALES.start() {
                break (negative, positive);
            }
            scale -= 1;
        };
        // Of bucket `index` the ends are the base to the power of it, and of the next.
        let end = |index: i64| (index as f64 * (-f64::from(scale)).exp2()).exp2();
        let mut total: u64 = 0;
        let mut buckets = Vec::new();
        let mut push = |bound: f64, count: u64| {
            total = total.saturating_add(count);
            if bound.is_finite() {
                buckets.push((number(bound), total));
            }
        };
        spread.0.iter().rev().for_each(|(index, count)| push(-end(*index), *count));
        if self.zeros > 0 || !spread.0.is_empty() {
            push(self.zero_threshold, self.zeros);
        }
        spread.1.iter().for_each(|(index, count)| push(end(index + 1), *count));
        buckets.push(("+Inf".into(), self.count));
        buckets.dedup_by(|later, first| {
            later.0 == first.0 && {
                first.1 = later.1;
                true
            }
        });
        Ok(buckets)
    }
}

#[cfg(test)]
impl Point {
    /// How many buckets it comes to, if it can be read.
    pub(super) fn bounds_of(&self) -> usize {
        self.explicit().map_or(0, |all| all.len()) + self.exponential().map_or(0, |all| all.len())
    }
}

/// As Prometheus writes it in labels: `1` and not `1.0`.
fn number(number: f64) -> String {
    format!("{number}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exponential_buckets_become_classic_ones() {
        let point = |scale, offset, counts: &[u64]| Point {
            scale,
            count: 10,
            zeros: 1,
            positive: Spread { offset, counts: counts.to_vec() },
            ..Point::default()
        };
        let text = |point: &Point| {
            let buckets = point.exponential().unwrap();
            buckets.iter().map(|(le, count)| format!("{le}={count}")).collect::<Vec<_>>().join(" ")
        };
        // At scale 0: (1, 2], (2, 4], (4, 8].
        assert_eq!(text(&point(0, 0, &[2, 3, 4])), "0=1 2=3 4=6 8=10 +Inf=10");
        // At scale 3 eight buckets are one octave, four of them one step of √2.
        assert_eq!(text(&point(3, 0, &[1; 8])), "0=1 1.4142135623730951=5 2=9 +Inf=10");
        assert_eq!(text(&point(3, -4, &[1; 8])), "0=1 1=5 1.4142135623730951=9 +Inf=10");
        let negative = Point {
            negative: Spread { offset: 0, counts: vec![1, 2] },
            count: 4,
            zeros: 1,
            ..Point::default()
        };
        assert_eq!(text(&negative), "-2=2 -1=3 0=4 +Inf=4");
        assert!(point(40, 0, &[1]).exponential().is_err());
        let wide =
            Point { positive: Spread { offset: -400, counts: vec![1; 512] }, scale: 0, ..Point::default() };
        assert!(wide.exponential().unwrap().len() <= SPREAD_MAX + 1);
    }
}
