//! What is on disk, kept in memory: where each answer lies, and what it takes to choose and to forget it.

use std::collections::HashMap;

use klar_base::AppKey;

use super::super::store::Name;
use super::record::{KeyDigest, Meta};
use crate::fields::Fields;

/// Answers that are known at most.
pub const ENTRIES_MAX: usize = 65_536;
/// What the index may take, in bytes, roughly.
pub const BYTES_MAX: usize = 32 << 20;
/// Answers to one address that differ by `Vary`.
const VARIANTS_MAX: usize = 16;
/// What an entry takes beside its texts, in bytes, roughly.
const OVERHEAD: usize = 256;

/// Where an answer lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    pub segment: usize,
    pub offset: u64,
    pub length: usize,
    pub serial: u64,
    pub key: KeyDigest,
}

/// An answer that is on disk.
#[derive(Debug, Clone)]
pub struct Entry {
    pub meta: Meta,
    pub place: Place,
    /// When it is of no use any more, in milliseconds since 1970.
    pub end: u64,
}

impl Entry {
    fn len(&self) -> usize {
        let tags: usize = self.meta.tags.iter().map(|tag| 32 + tag.len()).sum();
        let name = self.meta.name.host.len() + self.meta.name.target.len();
        OVERHEAD + tags + name + self.meta.selector.len()
    }
}

/// See the [module](self).
#[derive(Debug, Default)]
pub struct Index {
    slots: HashMap<KeyDigest, Vec<Entry>>,
    /// The keys of what was written to each segment, so that a segment goes without a look at all others.
    segments: HashMap<usize, Vec<KeyDigest>>,
    count: usize,
    bytes: usize,
}

impl Index {
    /// Takes an answer in, in place of the one for the same requests.
    pub fn put(&mut self, entry: Entry) {
        let key = entry.place.key;
        self.retain_of(&key, |known| known.meta.selector != entry.meta.selector);
        if let Some(oldest) = self.slots.get(&key).filter(|slot| slot.len() >= VARIANTS_MAX) {
            let serial = oldest[0].place.serial;
            self.retain_of(&key, |known| known.place.serial != serial);
        }
        self.count += 1;
        self.bytes += entry.len();
        self.segments.entry(entry.place.segment).or_default().push(key);
        self.slots.entry(key).or_default().push(entry);
    }

    /// The newest answer for a request with these headers that is of use at `now`, in milliseconds since 1970.
    pub fn find(&self, key: &KeyDigest, request: &impl Fields, now: u64) -> Option<Place> {
        let slot = self.slots.get(key)?;
        let found = slot.iter().rev().find(|entry| entry.meta.selector.suits(request))?;
        (now < found.end).then_some(found.place)
    }

    /// Whether there is nothing at all.
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// Whether there is anything under this key.
    pub fn has(&self, key: &KeyDigest) -> bool {
        self.slots.contains_key(key)
    }

    /// Forgets a key.
    pub fn remove(&mut self, key: &KeyDigest) -> bool {
        let before = self.count;
        self.retain_of(key, |_| false);
        self.count < before
    }

    /// Forgets one record, if it is still the one that is known.
    pub fn remove_record(&mut self, place: &Place) {
        self.retain_of(&place.key, |entry| entry.place.serial != place.serial);
    }

    /// Forgets what lies in a segment.
    pub fn remove_segment(&mut self, segment: usize) {
        for key in self.segments.remove(&segment).unwrap_or_default() {
            self.retain_of(&key, |entry| entry.place.segment != segment);
        }
    }

    /// Forgets what `matches` says so of, and gives it back.
    pub fn purge(&mut self, matches: impl Fn(&Name, &[Box<str>]) -> bool) -> Vec<Meta> {
        let goes = |entry: &Entry| matches(&entry.meta.name, &entry.meta.tags);
        let found = self.slots.values().flatten().filter(|entry| goes(entry));
        let gone: Vec<_> = found.map(|entry| (entry.place, entry.meta.clone())).collect();
        gone.iter().for_each(|(place, _)| self.remove_record(place));
        gone.into_iter().map(|(_, meta)| meta).collect()
    }

    /// Forgets an app.
    pub fn remove_app(&mut self, app: &AppKey) {
        self.purge(|name, _| name.app == *app);
    }

    /// Whether it knows more than it may.
    pub fn is_full(&self) -> bool {
        self.count > ENTRIES_MAX || self.bytes > BYTES_MAX
    }

    fn retain_of(&mut self, key: &KeyDigest, keep: impl Fn(&Entry) -> bool) {
        let Some(slot) = self.slots.get_mut(key) else { return };
        slot.retain(|entry| {
            let stays = keep(entry);
            if !stays {
                self.count -= 1;
                self.bytes -= entry.len();
            }
            stays
        });
        if slot.is_empty() {
            self.slots.remove(key);
        }
    }
}
