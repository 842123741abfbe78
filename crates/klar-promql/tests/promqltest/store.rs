//! Series in memory, and in a store on disk: both have to give the same whenever somebody asks.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};

use klar_promql::{Selected, Source};
use klar_tsdb::labels::NAME;
use klar_tsdb::{Labels, Matcher, Sample, Settings, Verdict};

use crate::script::{Item, Load};

/// What is asked for has native histograms.
#[derive(Debug, thiserror::Error)]
#[error("native histograms are not supported")]
pub struct Native;

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
                    Item::Native => return None,
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
            let metric = labels.metric().unwrap_or_default();
            if let Some(base) = metric.strip_suffix("_bucket").filter(|_| load.is_native_too) {
                let native = labels.with(NAME, base).unwrap().with("le", "").unwrap();
                let present =
                    items.iter().map(|item| if *item == Item::None { Item::None } else { Item::Native });
                self.add(native, load.step_ms, present);
            }
            self.add(labels.clone(), load.step_ms, items.iter().copied());
        }
        self.disk = Disk::with(&self.series);
    }

    fn add(&mut self, labels: Labels, step_ms: i64, items: impl Iterator<Item = Item>) {
        let series = self.series.entry(labels).or_default();
        for (place, item) in items.enumerate().filter(|(_, item)| *item != Item::None) {
            series.insert(place as i64 * step_ms, item);
        }
    }
}

impl Source for Store {
    type Error = Native;

    fn select(&self, matchers: &[Matcher], from_ms: i64, to_ms: i64) -> Result<Vec<Selected>, Native> {
        let mut found = Vec::new();
        for (labels, items) in &self.series {
            if !matchers.iter().all(|matcher| matcher.takes(labels.get(matcher.name()).unwrap_or_default())) {
                continue;
            }
            let mut samples = Vec::new();
            if from_ms > to_ms {
                continue;
            }
            for (time_ms, item) in items.range(from_ms..=to_ms) {
                match item {
                    Item::Float(value) => samples.push(Sample { time_ms: *time_ms, value: *value }),
                    Item::Native => return Err(Native),
                    Item::None => {}
                }
            }
            if !samples.is_empty() {
                found.push(Selected { labels: labels.clone(), samples });
            }
        }
        if let Some(disk) = &self.disk {
            let bits = |all: &[Selected]| -> Vec<(Labels, Vec<(i64, u64)>)> {
                let samples = |one: &Selected| {
                    one.samples.iter().map(|sample| (sample.time_ms, sample.value.to_bits())).collect()
                };
                all.iter().map(|one| (one.labels.clone(), samples(one))).collect()
            };
            let given = disk.gives(matchers, from_ms, to_ms);
            assert_eq!(bits(&given), bits(&found), "{matchers:?} from {from_ms} to {to_ms}");
        }
        Ok(found)
    }
}
