//! One request to the app for many visitors who want the same at the same time, on whichever worker they are.
//!
//! The first one leads, the others wait. They must never wait for nothing:
//!
//! - When the head of the answer says that it is for many, the others follow its body while it comes ([`Shown`]).
//! - When the head of the answer says that it is for one visitor only, the leader lands at once, and the others ask
//!   for themselves, all at the same time. The address is remembered as one that is not shared, so that the next
//!   ones do not wait at all ([`ALONE`]).
//! - When the leader goes away before it knows, one of those who wait takes over.
//! - When the app cannot be reached, those for whom there is a stale answer get it, and for [`FAILING`] from then on
//!   nobody waits to find out again.
//! - When the leader's answer is there but does not suit somebody, that one asks without waiting again.
//!
//! Those who say who they are (cookies, authorization) fly apart from those who do not.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::watch;

use super::growing::Growing;
use super::key::{ByNumber, Key};
use super::store::{Stored, Ticket};

const SHARDS: usize = 16;
/// How long an address is known as one whose answers are not shared.
pub const ALONE: Duration = Duration::from_secs(30);
/// How long an app that could not be reached for an address is taken to be away. It is asked again meanwhile, only
/// that nobody waits for it; longer than such a request waits for an instance to come up (`edge.hold`).
pub const FAILING: Duration = Duration::from_secs(30);
/// Addresses that a shard knows as such.
const ALONE_MAX: usize = 4096;

/// How a flight ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Landing {
    /// Not yet.
    Flying,
    /// Not yet, but its answer can be seen, and its body be followed.
    Shown,
    /// The answer is in the store.
    Stored,
    /// There is nothing to share.
    Nothing,
    /// The app could not be reached.
    Failed,
    /// The leader is gone, and nobody knows.
    Abandoned,
}

/// An answer that is on its way.
#[derive(Debug)]
pub struct Shown {
    /// Without its body.
    pub head: Stored,
    pub ticket: Ticket,
    pub length: Option<u64>,
    pub body: Arc<Growing>,
}

/// Somebody else's flight.
#[derive(Debug, Clone)]
pub struct Flight {
    landing: watch::Receiver<Landing>,
    shown: Arc<OnceLock<Shown>>,
}

/// See the [module](self).
#[derive(Debug, Default)]
pub struct Flights {
    shards: [Mutex<Shard>; SHARDS],
}

#[derive(Debug, Default)]
struct Shard {
    flying: HashMap<Key, Flight, ByNumber>,
    /// By a digest of the key: keys can be long, and whom two share one with does not matter.
    alone: HashMap<u64, Note, ByNumber>,
    failing: HashMap<u64, Note, ByNumber>,
}

/// What is known of an address, and until when.
#[derive(Debug)]
struct Note {
    until: Instant,
    /// For who looks, in the words of `Cache-Status`. It is told also when the time is over, for as long as it is here.
    why: &'static str,
}

/// What somebody who wants an answer is to do.
#[derive(Debug)]
pub enum Turn {
    /// Ask the app, and tell the others.
    Lead(Lead),
    /// Wait for who asks already.
    Wait(Flight),
    /// Ask the app, alone.
    Alone,
}

/// The right to ask for all; it has to be ended by [`Lead::land`].
#[derive(Debug)]
pub struct Lead {
    flights: Arc<Flights>,
    key: Key,
    landing: watch::Sender<Landing>,
    shown: Arc<OnceLock<Shown>>,
}

impl Flights {
    fn shard(&self, key: &Key) -> MutexGuard<'_, Shard> {
        // Not by the bits that tables go by.
        let shard = &self.shards[(key.number() >> 32) as usize % SHARDS];
        shard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether who wants what `key` says asks alone: see [`Turn::Alone`].
    pub fn is_alone(&self, key: &Key, now: Instant) -> bool {
        self.shard(key).alone.get(&key.number()).is_some_and(|note| now < note.until)
    }

    /// Joins those who want what `key` says, or is the first.
    pub fn join(self: &Arc<Self>, key: &Key, now: Instant) -> Turn {
        let mut shard = self.shard(key);
        if shard.alone.get(&key.number()).is_some_and(|note| now < note.until) {
            return Turn::Alone;
        }
        if let Some(flight) = shard.flying.get(key) {
            return Turn::Wait(flight.clone());
        }
        Turn::Lead(self.start(&mut shard, key))
    }

    /// Asks for all, unless somebody does already: for what nobody waits for.
    pub fn lead(self: &Arc<Self>, key: &Key) -> Option<Lead> {
        let mut shard = self.shard(key);
        if shard.flying.contains_key(key) {
            return None;
        }
        Some(self.start(&mut shard, key))
    }

    fn start(self: &Arc<Self>, shard: &mut Shard, key: &Key) -> Lead {
        let landing = watch::Sender::new(Landing::Flying);
        let shown = Arc::<OnceLock<Shown>>::default();
        let flight = Flight { landing: landing.subscribe(), shown: shown.clone() };
        shard.flying.insert(key.clone(), flight);
        Lead { flights: self.clone(), key: key.clone(), landing, shown }
    }

    /// Notes that answers for `key` are for one visitor each, and why.
    pub fn part(&self, key: &Key, now: Instant, why: &'static str) {
        note(&mut self.shard(key).alone, key.number(), now, Note { until: now + ALONE, why });
    }

    /// Whether somebody asks for `key` now, and why the last answer for it could not be shared, if it could not.
    pub fn look(&self, key: &Key) -> (bool, Option<&'static str>) {
        let shard = self.shard(key);
        (shard.flying.contains_key(key), shard.alone.get(&key.number()).map(|note| note.why))
    }

    /// Notes that an answer for `key` could be shared.
    pub fn unite(&self, key: &Key) {
        let mut shard = self.shard(key);
        shard.alone.remove(&key.number());
        shard.failing.remove(&key.number());
    }

    /// Notes that the app could not be reached for `key`.
    pub fn fail(&self, key: &Key, now: Instant) {
        note(&mut self.shard(key).failing, key.number(), now, Note { until: now + FAILING, why: "app-away" });
    }

    /// Whether the app could not be reached for `key` just now.
    pub fn is_failing(&self, key: &Key, now: Instant) -> bool {
        self.shard(key).failing.get(&key.number()).is_some_and(|note| now < note.until)
    }
}

fn note(notes: &mut HashMap<u64, Note, ByNumber>, digest: u64, now: Instant, note: Note) {
    if notes.len() >= ALONE_MAX {
        notes.retain(|_, known| now < known.until);
    }
    if notes.len() < ALONE_MAX {
        notes.insert(digest, note);
    }
}

impl Lead {
    /// Lets those who wait, and those who come now, see the answer that is on its way.
    pub fn show(&self, shown: Shown) {
        if self.shown.set(shown).is_ok() {
            self.landing.send_replace(Landing::Shown);
        }
    }

    /// Ends the flight, and tells those who wait.
    pub fn land(self, landing: Landing) {
        self.end(landing);
    }

    fn end(&self, landing: Landing) {
        // First out of the map: who was told and finds nothing must be able to lead.
        self.flights.shard(&self.key).flying.remove(&self.key);
        self.landing.send_replace(landing);
    }
}

impl Drop for Lead {
    fn drop(&mut self) {
        if matches!(*self.landing.borrow(), Landing::Flying | Landing::Shown) {
            self.end(Landing::Abandoned);
        }
    }
}

impl Flight {
    /// Waits until the flight has landed, or, for `follows`, until its answer can be seen.
    pub async fn landed(&mut self, follows: bool) -> Landing {
        let is_there = |landing: &Landing| match landing {
            Landing::Flying => false,
            Landing::Shown => follows,
            _ => true,
        };
        match self.landing.wait_for(is_there).await {
            Ok(landing) => *landing,
            Err(_) => Landing::Abandoned,
        }
    }

    /// The answer that is on its way.
    pub fn shown(&self) -> Option<&Shown> {
        self.shown.get()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(target: &str) -> Key {
        Key::new(&"shop.prod".parse().unwrap(), 0, "shop.test", target)
    }

    fn lead(turn: Turn) -> Lead {
        match turn {
            Turn::Lead(lead) => lead,
            other => panic!("{other:?} for the lead"),
        }
    }

    fn wait(turn: Turn) -> Flight {
        match turn {
            Turn::Wait(flight) => flight,
            other => panic!("{other:?} for a flight"),
        }
    }

    #[tokio::test]
    async fn one_leads_and_the_others_hear_of_it() {
        let (flights, now) = (Arc::new(Flights::default()), Instant::now());
        for landing in [Landing::Stored, Landing::Nothing, Landing::Failed] {
            let leader = lead(flights.join(&key("/"), now));
            let others: Vec<_> = (0..100).map(|_| wait(flights.join(&key("/"), now))).collect();
            let _elsewhere = lead(flights.join(&key("/b"), now));
            leader.land(landing);
            for mut other in others {
                assert_eq!(other.landed(true).await, landing);
            }
        }
    }

    #[tokio::test]
    async fn a_leader_that_goes_away_leaves_the_lead() {
        let (flights, now) = (Arc::new(Flights::default()), Instant::now());
        let leader = lead(flights.join(&key("/"), now));
        let mut other = wait(flights.join(&key("/"), now));
        drop(leader);
        assert_eq!(other.landed(true).await, Landing::Abandoned);
        drop(lead(flights.join(&key("/"), now)));
    }

    #[test]
    fn what_is_not_shared_is_not_waited_for() {
        let (flights, now) = (Arc::new(Flights::default()), Instant::now());
        flights.part(&key("/"), now, "private");
        assert!(matches!(flights.join(&key("/"), now), Turn::Alone));
        drop(lead(flights.join(&key("/"), now + ALONE)));
        flights.part(&key("/"), now, "private");
        assert_eq!(flights.look(&key("/")), (false, Some("private")));
        flights.unite(&key("/"));
        assert_eq!(flights.look(&key("/")), (false, None));
        drop(lead(flights.join(&key("/"), now)));
    }

    #[test]
    fn what_is_known_has_an_end() {
        let (flights, now) = (Arc::new(Flights::default()), Instant::now());
        for number in 0..2 * SHARDS * ALONE_MAX {
            flights.part(&key(&format!("/{number}")), now, "private");
        }
        let known: usize = flights.shards.iter().map(|shard| shard.lock().unwrap().alone.len()).sum();
        assert!(known <= SHARDS * ALONE_MAX, "{known}");
    }
}
