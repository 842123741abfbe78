//! Series in memory, and in a store on disk: both have to give the same whenever somebody asks.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use klar_promql::histogram::{CUSTOM, Hint, Parts};
use klar_promql::{Histogram, NativeSample, Selected, Source, VisitMixed};
use klar_tsdb::labels::NAME;
use klar_tsdb::{Labels, Matcher, Sample, Settings, Verdict};

use crate::script::{Item, Load};

#[derive(Default)]
pub struct Store {
    series: BTreeMap<Labels, BTreeMap<i64, Item>>,
    /// `None` with native histograms, which it does not keep.
    disk: Option<Disk>,
}

struct Disk {
    store: klar_tsdb::Store,
    folder: PathBuf,
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

impl Disk {
    /// With these series: half of the time in blocks, and in the log what is newest.
    fn with(series: &BTreeMap<Labels, BTreeMap<i64, Item>>) -> Option<Self> {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let folder = std::env::temp_dir().join(format!("klar-promql-{}-{number}", std::process::id()));
        let settings = Settings { ahead: None, keep_age: None, ..Settings::default() };
        let (store, _) = klar_tsdb::Store::open(&folder, settings).unwrap();
        let disk = Self { store, folder };
        let mut newest_ms = 0;
        for (labels, items) in series {
            let known = disk.store.series(labels).unwrap();
            let mut batch = Vec::new();
            for (time_ms, item) in items {
                match item {
                    Item::Float(value) => batch.push((known, Sample { time_ms: *time_ms, value: *value })),
                    Item::Native(..) => return None,
                    Item::None => {}
                }
                newest_ms = newest_ms.max(*time_ms);
            }
            let appended = disk.store.append(&batch).unwrap();
            assert!(appended.verdicts.iter().all(|verdict| *verdict == Verdict::Accepted), "{labels}");
            disk.store.commit(appended.upto).unwrap();
        }
        if number.is_multiple_of(2) {
            disk.store.maintain(newest_ms).unwrap();
        }
        Some(disk)
    }

    fn gives(&self, matchers: &[Matcher], from_ms: i64, to_ms: i64) -> Vec<Selected> {
        Source::select(&self.store, matchers, from_ms, to_ms).unwrap()
    }
}

impl Store {
    pub fn load(&mut self, load: &Load) {
        for (labels, items) in &load.series {
            self.add(labels.clone(), load.step_ms, items.iter().cloned());
        }
        if load.is_native_too {
            for (labels, items) in natives(load) {
                for (time_ms, item) in items {
                    self.insert(labels.clone(), time_ms, item);
                }
            }
        }
        self.disk = Disk::with(&self.series);
    }

    fn add(&mut self, labels: Labels, step_ms: i64, items: impl Iterator<Item = Item>) {
        for (place, item) in items.enumerate().filter(|(_, item)| *item != Item::None) {
            self.insert(labels.clone(), place as i64 * step_ms, item);
        }
    }

    fn insert(&mut self, labels: Labels, time_ms: i64, item: Item) {
        let series = self.series.entry(labels).or_default();
        let before = series.range(..time_ms).next_back().map(|(_, item)| item);
        let item = match item {
            Item::Native(histogram, is_hinted) => {
                let hint = hint(&histogram, before);
                Item::Native(Arc::new(Histogram::clone(&histogram).hinted(hint)), is_hinted)
            }
            other => other,
        };
        series.insert(time_ms, item);
    }
}

/// What a store knows of resets, as that of Prometheus finds it out when samples arrive.
fn hint(histogram: &Histogram, before: Option<&Item>) -> Hint {
    let parts = histogram.parts();
    if matches!(parts.hint, Hint::Gauge | Hint::Reset) {
        return parts.hint;
    }
    let Some(Item::Native(before, _)) = before else { return Hint::Unknown };
    let then = before.parts();
    let is_other = parts.schema != then.schema
        || parts.zero_threshold != then.zero_threshold
        || parts.bounds != then.bounds;
    match () {
        () if then.hint == Hint::Gauge => Hint::Unknown,
        // That a counter began again, it finds out, but does not tell.
        () if is_other || histogram.clone().hinted(Hint::Unknown).was_reset(before) => Hint::Unknown,
        () => Hint::NotReset,
    }
}

/// Buckets by their upper bounds, with the sum and the count, of one time.
#[derive(Default)]
struct Classic {
    buckets: Vec<(f64, f64)>,
    sum: f64,
    count: Option<f64>,
}

/// The native histograms of classic ones.
fn natives(load: &Load) -> BTreeMap<Labels, BTreeMap<i64, Item>> {
    let mut all: BTreeMap<Labels, BTreeMap<i64, Classic>> = BTreeMap::new();
    for (labels, items) in &load.series {
        let metric = labels.metric().unwrap_or_default();
        let Some((base, kind)) = metric.rsplit_once('_') else { continue };
        let le = labels.get("le").and_then(|le| le.parse::<f64>().ok());
        if !matches!(kind, "bucket" | "sum" | "count") || (kind == "bucket" && le.is_none()) {
            continue;
        }
        let labels = labels.with(NAME, base).unwrap().with("le", "").unwrap();
        let times = all.entry(labels).or_default();
        for (place, item) in items.iter().enumerate() {
            let Item::Float(value) = item else { continue };
            let classic = times.entry(place as i64 * load.step_ms).or_default();
            match (kind, le) {
                ("bucket", Some(le)) => classic.buckets.push((le, *value)),
                ("sum", _) => classic.sum = *value,
                _ => classic.count = Some(*value),
            }
        }
    }
    let native = |mut classic: Classic| {
        classic.buckets.sort_by(|left, right| left.0.total_cmp(&right.0));
        classic.buckets.dedup_by(|next, one| next.0 == one.0);
        let last = classic.buckets.last().copied().unwrap_or_default();
        let count = classic.count.unwrap_or(last.1);
        if last.0 != f64::INFINITY {
            classic.buckets.push((f64::INFINITY, count));
        }
        let mut below = 0.0;
        let of = |(_, upto): &(f64, f64)| upto - std::mem::replace(&mut below, *upto);
        let positive = (0..).zip(classic.buckets.iter().map(of)).collect();
        let bounds = classic.buckets.iter().map(|one| one.0).filter(|le| le.is_finite()).collect();
        let parts = Parts { schema: CUSTOM, bounds, count, sum: classic.sum, positive, ..Parts::default() };
        Item::Native(Arc::new(Histogram::new(parts).unwrap()), false)
    };
    let times =
        |times: BTreeMap<i64, Classic>| times.into_iter().map(|(at, one)| (at, native(one))).collect();
    all.into_iter().map(|(labels, all)| (labels, times(all))).collect()
}

/// A series with its floats and its native histograms.
type Both = (Labels, Vec<Sample>, Vec<NativeSample>);

impl Store {
    fn both(&self, matchers: &[Matcher], from_ms: i64, to_ms: i64) -> Vec<Both> {
        let mut found = Vec::new();
        for (labels, items) in &self.series {
            let is_taken = matchers.iter().all(|one| one.takes(labels.get(one.name()).unwrap_or_default()));
            if !is_taken || from_ms > to_ms {
                continue;
            }
            let (mut samples, mut natives) = (Vec::new(), Vec::new());
            for (&time_ms, item) in items.range(from_ms..=to_ms) {
                match item {
                    Item::Float(value) => samples.push(Sample { time_ms, value: *value }),
                    Item::Native(histogram, _) => {
                        natives.push(NativeSample { time_ms, histogram: Arc::clone(histogram) })
                    }
                    Item::None => {}
                }
            }
            if !samples.is_empty() || !natives.is_empty() {
                found.push((labels.clone(), samples, natives));
            }
        }
        found
    }
}

impl Source for Store {
    type Error = Infallible;

    fn select(&self, matchers: &[Matcher], from_ms: i64, to_ms: i64) -> Result<Vec<Selected>, Infallible> {
        let all = self.both(matchers, from_ms, to_ms).into_iter();
        let floats = all.filter(|(_, samples, _)| !samples.is_empty());
        Ok(floats.map(|(labels, samples, _)| Selected { labels, samples }).collect())
    }

    fn each_mixed(
        &self,
        matchers: &[Matcher],
        from_ms: i64,
        to_ms: i64,
        visit: &mut VisitMixed<'_>,
    ) -> Result<(), Infallible> {
        if let Some(disk) = &self.disk {
            let bits = |all: &[Selected]| -> Vec<(Labels, Vec<(i64, u64)>)> {
                let samples = |one: &Selected| {
                    one.samples.iter().map(|sample| (sample.time_ms, sample.value.to_bits())).collect()
                };
                all.iter().map(|one| (one.labels.clone(), samples(one))).collect()
            };
            let given = disk.gives(matchers, from_ms, to_ms);
            let found = self.select(matchers, from_ms, to_ms)?;
            assert_eq!(bits(&given), bits(&found), "{matchers:?} from {from_ms} to {to_ms}");
        }
        for (labels, samples, natives) in self.both(matchers, from_ms, to_ms) {
            if !visit(labels, &samples, &natives) {
                break;
            }
        }
        Ok(())
    }
}
