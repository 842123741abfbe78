//! The series that are in memory: by reference, by labels, by single labels.

use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::{Arc, Mutex};

use crate::labels::{Labels, NAME};
use crate::postings::Postings;
use crate::series::{Series, State};

/// Hashes labels eight bytes at a time, with a key that nobody outside knows.
#[derive(Clone)]
pub struct Keyed(u64, u64);

/// See [`Keyed`].
pub struct Folded(u64, u64);

impl Default for Keyed {
    fn default() -> Self {
        let random = RandomState::new();
        Self(random.hash_one(1_u8), random.hash_one(2_u8) | 1)
    }
}

impl BuildHasher for Keyed {
    type Hasher = Folded;
    fn build_hasher(&self) -> Folded {
        Folded(self.0, self.1)
    }
}

impl Folded {
    fn add(&mut self, word: u64) {
        let wide = u128::from(self.0 ^ word) * u128::from(self.1 ^ 0x9e37_79b9_7f4a_7c15);
        self.0 = (wide as u64) ^ (wide >> 64) as u64 ^ word.rotate_left(23);
    }
}

impl Hasher for Folded {
    fn write(&mut self, bytes: &[u8]) {
        let (words, rest) = bytes.as_chunks::<8>();
        words.iter().for_each(|word| self.add(u64::from_le_bytes(*word)));
        let mut last = [0; 8];
        last[..rest.len()].copy_from_slice(rest);
        self.add(u64::from_le_bytes(last));
    }

    fn write_usize(&mut self, number: usize) {
        self.add(number as u64);
    }

    fn finish(&self) -> u64 {
        let wide = u128::from(self.0) * u128::from(self.1);
        (wide as u64) ^ (wide >> 64) as u64
    }
}

/// The series.
#[derive(Default)]
pub struct Table {
    pub slots: Vec<Option<Arc<Series>>>,
    free: Vec<u32>,
    generation: u64,
    by_labels: HashMap<Labels, u32, Keyed>,
    pub names: BTreeMap<Box<str>, BTreeMap<Box<str>, Vec<u32>>>,
}

impl Table {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.by_labels.len()
    }

    pub fn find(&self, labels: &Labels) -> Option<&Arc<Series>> {
        self.by_labels.get(labels).and_then(|slot| self.slots.get(*slot as usize)?.as_ref())
    }

    pub fn get(&self, reference: u64) -> Option<&Arc<Series>> {
        self.slots.get(reference as u32 as usize)?.as_ref().filter(|series| series.reference == reference)
    }

    pub fn all(&self) -> impl Iterator<Item = &Arc<Series>> {
        self.slots.iter().flatten()
    }

    pub fn add(&mut self, labels: &Labels) -> Arc<Series> {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            self.slots.len() as u32 - 1
        });
        self.generation += 1;
        let reference = self.generation << 32 | u64::from(slot);
        let state = Mutex::new(State::default());
        let series = Arc::new(Series { labels: labels.clone(), slot, reference, state });
        self.slots[slot as usize] = Some(series.clone());
        self.by_labels.insert(labels.clone(), slot);
        for (name, value) in labels.iter() {
            if !self.names.contains_key(name) {
                self.names.insert(name.into(), BTreeMap::new());
            }
            let Some(values) = self.names.get_mut(name) else { continue };
            if !values.contains_key(value) {
                values.insert(value.into(), Vec::new());
            }
            let Some(list) = values.get_mut(value) else { continue };
            list.insert(list.partition_point(|other| *other < slot), slot);
        }
        series
    }

    pub fn remove(&mut self, series: &Series) {
        self.slots[series.slot as usize] = None;
        self.free.push(series.slot);
        self.by_labels.remove(&series.labels);
        for (name, value) in series.labels.iter() {
            let Some(values) = self.names.get_mut(name) else { continue };
            if let Some(list) = values.get_mut(value) {
                list.retain(|slot| *slot != series.slot);
                if list.is_empty() {
                    values.remove(value);
                }
            }
            if values.is_empty() {
                self.names.remove(name);
            }
        }
    }

    /// How many series each metric has.
    pub fn metrics(&self) -> impl Iterator<Item = (&str, usize)> {
        self.names.get(NAME).into_iter().flatten().map(|(name, list)| (&**name, list.len()))
    }
}

impl Postings for Table {
    fn all(&self) -> Vec<u32> {
        self.all().map(|series| series.slot).collect()
    }

    fn with(&self, name: &str, value: &str) -> Vec<u32> {
        self.names.get(name).and_then(|values| values.get(value)).cloned().unwrap_or_default()
    }

    fn where_value(&self, name: &str, takes: &mut dyn FnMut(&str) -> bool, out: &mut Vec<u32>) {
        for (value, list) in self.names.get(name).into_iter().flatten() {
            if takes(value) {
                out.extend_from_slice(list);
            }
        }
    }
}
