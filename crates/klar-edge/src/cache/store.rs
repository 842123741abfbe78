//! Where answers are kept: in memory, in shards with a lock each, that no lock is held longer than a lookup takes.
//!
//! What goes first when the room is used up is decided by S3-FIFO (Yang and others, SOSP 2023): what is new waits in
//! a small queue, and only what is asked for again there gets into the large one. So a crawler that reads every page
//! once pushes out what others read once, not what is read all day. What left the small queue is remembered for a
//! while (by a digest, in the ghost queue) and goes straight into the large one when it comes back.
//!
//! Behind it stands a slower tier (`disk/`), which puts what it finds in here ([`Store::bring`]).

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use bytes::Bytes;
use http::header::HeaderMap;
use http::{HeaderName, HeaderValue, StatusCode};
use klar_base::AppKey;

use super::key::{ByNumber, Key, Selector};
use super::policy::Facts;
use crate::fields::Fields;
use crate::table::SiteTable;

const SHARDS: usize = 16;
/// The largest answer that is kept, in bytes, where there is room for eight of them.
const OBJECT_MAX: usize = 8 << 20;
/// Answers to one address that differ by `Vary`. More push out the oldest.
const VARIANTS_MAX: usize = 16;
/// What an answer takes beside its body and headers, in bytes, roughly.
const OVERHEAD: usize = 512;
/// The share of a shard's room that new answers wait in.
const SMALL_PERCENT: usize = 10;
/// Counters of what was taken out; more than one address shares one.
const CLEARED: usize = 1024;
/// Addresses that a shard remembers to have known.
const GHOSTS_MAX: usize = 4096;

/// An answer that is kept.
#[derive(Debug, Clone)]
pub struct Stored {
    pub status: StatusCode,
    /// As they are sent, but for `Age`, and what the edge adds for each request.
    pub headers: HeaderMap,
    pub body: Bytes,
    pub selector: Selector,
    pub facts: Facts,
    /// What the app calls it by, to be taken out by.
    pub tags: Vec<Box<str>>,
    pub written: Written,
}

/// The headers of an answer with what the edge adds to all that a site gives, as they are written over HTTP/1.1: hits
/// are many, and these lines the same in each.
#[derive(Debug, Default)]
pub struct Written(Mutex<Option<(Weak<SiteTable>, Bytes)>>);

impl Written {
    /// What was written for this state of a site; `write` writes it when there is nothing yet.
    pub fn get(&self, site: &Arc<SiteTable>, write: impl FnOnce() -> Bytes) -> Bytes {
        let mut known = lock(&self.0);
        match &*known {
            // An address is not used anew as long as this points to it.
            Some((of, lines)) if std::ptr::eq(of.as_ptr(), Arc::as_ptr(site)) => lines.clone(),
            _ => known.insert((Arc::downgrade(site), write())).1.clone(),
        }
    }
}

impl Clone for Written {
    /// The headers of a copy may be changed.
    fn clone(&self) -> Self {
        Self::default()
    }
}

impl Stored {
    fn len(&self) -> usize {
        let headers: usize =
            self.headers.iter().map(|(name, value)| 64 + name.as_str().len() + value.len()).sum();
        let tags: usize = self.tags.iter().map(|tag| 32 + tag.len()).sum();
        self.body.len() + headers + tags + self.selector.len() + OVERHEAD
    }
}

/// Copies headers so that they hold nothing of the buffer that they were read into, which may be much larger.
pub fn compact(headers: &HeaderMap) -> HeaderMap {
    let copy = |(name, value): (&HeaderName, &HeaderValue)| {
        HeaderValue::from_bytes(value.as_bytes()).ok().map(|value| (name.clone(), value))
    };
    headers.iter().filter_map(copy).collect()
}

/// What an address is called when answers are to be taken out.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Name {
    pub app: AppKey,
    /// Without its port, in small letters.
    pub host: String,
    /// Path and query.
    pub target: String,
}

/// How things were when an answer was asked for: what was cleared since then must not come back with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ticket(u64, u64);

/// See the [module](self).
#[derive(Debug)]
pub struct Store {
    shards: Vec<Mutex<Shard>>,
    used: AtomicUsize,
    room: AtomicUsize,
    /// The shard that gives room next.
    hand: AtomicUsize,
    cleared: Vec<AtomicU64>,
    purged: AtomicU64,
}

#[derive(Debug, Default)]
struct Shard {
    slots: HashMap<Key, Slot, ByNumber>,
    /// Keys with the serial of the slot: one that was replaced leaves a key behind that leads nowhere.
    small: VecDeque<(Key, u64)>,
    large: VecDeque<(Key, u64)>,
    small_len: usize,
    ghosts: VecDeque<u64>,
    ghost_set: HashSet<u64, ByNumber>,
    serial: u64,
}

#[derive(Debug)]
struct Slot {
    serial: u64,
    name: Name,
    variants: Vec<Arc<Stored>>,
    len: usize,
    /// How often it was asked for lately, up to 3.
    uses: u8,
    is_small: bool,
}

impl Store {
    /// An empty store with room for so many bytes.
    pub fn new(room: usize) -> Self {
        Self {
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            used: AtomicUsize::new(0),
            room: AtomicUsize::new(room),
            hand: AtomicUsize::new(0),
            cleared: (0..CLEARED).map(|_| AtomicU64::new(0)).collect(),
            purged: AtomicU64::new(0),
        }
    }

    /// Changes the room. What has no place any more goes.
    pub fn resize(&self, room: usize) {
        self.room.store(room, Ordering::Relaxed);
        self.shrink();
    }

    /// The largest body that is kept.
    pub fn object_max(&self) -> usize {
        OBJECT_MAX.min(self.room() / 8)
    }

    /// All of the room, in bytes.
    pub fn room(&self) -> usize {
        self.room.load(Ordering::Relaxed)
    }

    fn shard(&self, hash: u64) -> MutexGuard<'_, Shard> {
        // Not by the bits that tables go by.
        lock(&self.shards[(hash >> 40) as usize % SHARDS])
    }

    fn counter(&self, hash: u64) -> &AtomicU64 {
        &self.cleared[(hash >> 20) as usize % CLEARED]
    }

    /// To be taken before an answer is asked for, and shown when it is put in.
    pub fn ticket(&self, key: &Key) -> Ticket {
        Ticket(self.counter(key.number()).load(Ordering::SeqCst), self.purged.load(Ordering::SeqCst))
    }

    /// The newest answer for a request with these headers, and the newest one at all for this address.
    pub fn find(&self, key: &Key, request: &impl Fields) -> (Option<Arc<Stored>>, Option<Arc<Stored>>) {
        let mut shard = self.shard(key.number());
        let Some(slot) = shard.slots.get_mut(key) else { return (None, None) };
        let found = slot.variants.iter().rev().find(|variant| variant.selector.suits(request)).cloned();
        if found.is_some() {
            slot.uses = (slot.uses + 1).min(3);
        }
        (found, slot.variants.last().cloned())
    }

    /// As [`Store::find`], without counting as a use; and how many answers there are for this address.
    pub fn look(&self, key: &Key, request: &HeaderMap) -> (Option<Arc<Stored>>, Option<Selector>, usize) {
        let shard = self.shard(key.number());
        let Some(slot) = shard.slots.get(key) else { return (None, None, 0) };
        let found = slot.variants.iter().rev().find(|variant| variant.selector.suits(request)).cloned();
        (found, slot.variants.last().map(|variant| variant.selector.clone()), slot.variants.len())
    }

    /// Keeps an answer, in place of those for the same requests. `false`: it was cleared meanwhile, or is too large.
    pub fn put(&self, key: &Key, name: &Name, ticket: Ticket, stored: Arc<Stored>) -> bool {
        self.put_if(key, name, ticket, stored, |_| true)
    }

    /// Keeps an answer that was kept before, unless there is one for the same requests meanwhile.
    pub fn bring(&self, key: &Key, name: &Name, ticket: Ticket, stored: Arc<Stored>) {
        let selector = stored.selector.clone();
        let is_none = |slot: &Slot| slot.variants.iter().all(|known| known.selector != selector);
        self.put_if(key, name, ticket, stored, |slot| slot.is_none_or(is_none));
    }

    fn put_if(
        &self,
        key: &Key,
        name: &Name,
        ticket: Ticket,
        stored: Arc<Stored>,
        may: impl FnOnce(Option<&Slot>) -> bool,
    ) -> bool {
        let len = stored.len() + 2 * key.len() + name.target.len() + name.host.len();
        if stored.body.len() > self.object_max() || len > self.room() / 4 {
            return false;
        }
        let hash = key.number();
        {
            let mut shard = self.shard(hash);
            // Under the lock: who clears counts first and takes out afterwards.
            if self.ticket(key) != ticket || !may(shard.slots.get(key)) {
                return false;
            }
            let before = shard.len_of(key);
            shard.put(key, name, hash, stored, len);
            let after = shard.len_of(key);
            self.used.fetch_add(after, Ordering::Relaxed);
            self.used.fetch_sub(before, Ordering::Relaxed);
        }
        self.shrink();
        true
    }

    /// Takes out what is kept for an address. What is on its way is not kept either.
    pub fn remove(&self, key: &Key) -> bool {
        let hash = key.number();
        self.counter(hash).fetch_add(1, Ordering::SeqCst);
        let removed = self.shard(hash).remove(key);
        self.used.fetch_sub(removed, Ordering::Relaxed);
        removed > 0
    }

    /// Takes out each answer that `matches` says so of, and says how many there were. What is on its way now is not
    /// kept, whatever it is.
    pub fn purge(&self, matches: impl Fn(&Name, &Stored) -> bool) -> usize {
        self.purged.fetch_add(1, Ordering::SeqCst);
        let mut count = 0;
        for shard in &self.shards {
            let mut shard = lock(shard);
            let mut freed = 0;
            let mut small = 0;
            shard.slots.retain(|_, slot| {
                slot.variants.retain(|variant| {
                    let goes = matches(&slot.name, variant);
                    if goes {
                        count += 1;
                        let len = variant.len().min(slot.len);
                        slot.len -= len;
                        freed += len;
                        small += if slot.is_small { len } else { 0 };
                    }
                    !goes
                });
                if slot.variants.is_empty() {
                    freed += slot.len;
                    small += if slot.is_small { slot.len } else { 0 };
                }
                !slot.variants.is_empty()
            });
            shard.small_len -= small;
            self.used.fetch_sub(freed, Ordering::Relaxed);
        }
        count
    }

    /// Bytes in use.
    pub fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }

    /// Makes room, a shard at a time.
    fn shrink(&self) {
        let mut empty = 0;
        while self.used() > self.room() && empty < SHARDS {
            let hand = self.hand.fetch_add(1, Ordering::Relaxed) % SHARDS;
            let small_max = self.room() / SHARDS * SMALL_PERCENT / 100;
            match lock(&self.shards[hand]).evict(small_max, |key| key.number()) {
                0 => empty += 1,
                freed => {
                    empty = 0;
                    self.used.fetch_sub(freed, Ordering::Relaxed);
                }
            }
        }
    }
}

impl Shard {
    fn len_of(&self, key: &Key) -> usize {
        self.slots.get(key).map_or(0, |slot| slot.len)
    }

    fn put(&mut self, key: &Key, name: &Name, hash: u64, stored: Arc<Stored>, len: usize) {
        if let Some(slot) = self.slots.get_mut(key) {
            slot.variants.retain(|known| known.selector != stored.selector);
            if slot.variants.len() >= VARIANTS_MAX {
                slot.variants.remove(0);
            }
            slot.variants.push(stored);
            let after = slot.variants.iter().map(|variant| variant.len()).sum::<usize>() + 2 * key.len();
            if slot.is_small {
                self.small_len = self.small_len - slot.len + after;
            }
            slot.len = after;
            return;
        }
        self.serial += 1;
        let is_small = !self.ghost_set.remove(&hash);
        let entry = (key.clone(), self.serial);
        if is_small {
            self.small.push_back(entry);
            self.small_len += len;
        } else {
            self.large.push_back(entry);
        }
        let slot =
            Slot { serial: self.serial, name: name.clone(), variants: vec![stored], len, uses: 0, is_small };
        self.slots.insert(key.clone(), slot);
        // Keys of what was replaced or removed pile up in the queues until they come to the front.
        if self.small.len() + self.large.len() > 2 * self.slots.len() + 64 {
            let slots = &self.slots;
            let lives =
                |(key, serial): &(Key, u64)| slots.get(key).is_some_and(|slot| slot.serial == *serial);
            self.small.retain(lives);
            self.large.retain(lives);
        }
    }

    /// Takes a key out, and says how many bytes that gives.
    fn remove(&mut self, key: &Key) -> usize {
        let Some(slot) = self.slots.remove(key) else { return 0 };
        if slot.is_small {
            self.small_len -= slot.len;
        }
        slot.len
    }

    /// Takes out what is needed least, and says how many bytes that gives; 0 when there is nothing.
    fn evict(&mut self, small_max: usize, hash: impl Fn(&Key) -> u64) -> usize {
        loop {
            let from_small = !self.small.is_empty() && (self.small_len > small_max || self.large.is_empty());
            let Some((key, serial)) =
                (if from_small { self.small.pop_front() } else { self.large.pop_front() })
            else {
                return 0;
            };
            let Some(slot) = self.slots.get_mut(&key).filter(|slot| slot.serial == serial) else { continue };
            if slot.uses > 0 {
                // From the small queue it moves up; in the large one it gets another round.
                slot.uses = if from_small { 0 } else { slot.uses - 1 };
                if slot.is_small {
                    slot.is_small = false;
                    self.small_len -= slot.len;
                }
                self.large.push_back((key, serial));
                continue;
            }
            if from_small {
                let digest = hash(&key);
                if self.ghost_set.insert(digest) {
                    self.ghosts.push_back(digest);
                }
                if self.ghosts.len() > GHOSTS_MAX
                    && let Some(oldest) = self.ghosts.pop_front()
                {
                    self.ghost_set.remove(&oldest);
                }
            }
            return self.remove(&key);
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
