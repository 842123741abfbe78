//! The shared cache (RFC 9111): answers of apps that several visitors may get.
//!
//! `policy.rs` is what the RFCs say, as pure functions over what `directives.rs` and `dates.rs` read; `key.rs` is
//! what an answer is found by. `store.rs` keeps answers, for all workers together; `flight.rs` makes one request of
//! many that are alike; `fill.rs` brings a body to the visitor and into the store at once. `choose.rs` says what is to
//! be done; `visit.rs` puts these around the way to the app, `purge.rs` forgets on request, `status.rs` says in each
//! answer what was done, and `explain.rs` what would be done with a request that nobody makes.
//!
//! **Releases.** A page of an old release must not outlive a deploy. So the key has an epoch of the app in it, which
//! grows whenever the set of releases that get requests changes: when a new release gets its first ones, and again
//! when the old one gets its last. What is on its way from the old one then lands under the old epoch, where nobody
//! finds it. A release whose instances are all gone for a moment keeps its epoch: that is when a stale answer is
//! worth most.
//!
//! **Invariant:** only a whole answer is ever kept.
//! **Invariant:** an answer with `Set-Cookie`, and one that was asked for with `Cookie` or `Authorization` and does
//! not speak of shared caches, is given to the one who asked and to nobody else.

mod choose;
pub mod dates;
mod directives;
pub mod explain;
pub mod fill;
mod flight;
mod key;
mod policy;
mod purge;
mod status;
mod store;
mod visit;

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use klar_base::AppKey;

pub use visit::answer;

use flight::Flights;
use store::Store;

/// What all workers share.
#[derive(Debug)]
pub struct Cache {
    store: Store,
    flights: Arc<Flights>,
    /// Bytes that are on their way into the store.
    filling: AtomicUsize,
}

impl Cache {
    /// An empty one with room for so many bytes.
    pub fn new(room: usize) -> Self {
        Self { store: Store::new(room), flights: Arc::default(), filling: AtomicUsize::new(0) }
    }

    /// Changes the room, in bytes; 0 switches the cache off.
    pub fn resize(&self, room: usize) {
        self.store.resize(room);
    }

    /// Its room, in bytes.
    pub fn room(&self) -> usize {
        self.store.room()
    }

    /// What of it is in use, in bytes.
    pub fn used(&self) -> usize {
        self.store.used()
    }

    /// Forgets everything of an app.
    pub fn forget(&self, app: &AppKey) -> usize {
        self.store.purge(|name, _| name.app == *app)
    }
}
