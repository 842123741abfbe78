//! Series in memory.

use std::collections::BTreeMap;

use klar_promql::{Selected, Source};
use klar_tsdb::labels::NAME;
use klar_tsdb::{Labels, Matcher, Sample};

use crate::script::{Item, Load};

/// What is asked for has native histograms.
#[derive(Debug, thiserror::Error)]
#[error("native histograms are not supported")]
pub struct Native;

#[derive(Default)]
pub struct Store {
    series: BTreeMap<Labels, BTreeMap<i64, Item>>,
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
        Ok(found)
    }
}
