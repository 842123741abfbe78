//! The shared cache (RFC 9111): answers of apps that several visitors may get.
//!
//! `policy.rs` is what the RFCs say, as pure functions over what `directives.rs` and `dates.rs` read; `key.rs` is
//! what an answer is found by. `store.rs` keeps answers in memory, for all workers together, and `disk/` those that
//! memory has no room for, and for after a restart; `flight.rs` makes one request of many that are alike; `fill.rs`
//! brings a body to its visitors and into the store at once (`growing.rs`). `choose.rs` says what is to be done;
//! `visit.rs` puts these around the way to the app, `invalidate.rs` forgets what a write has changed, `purge.rs` what it
//! is told to, `status.rs` says in each answer what was done, and `explain.rs` what would be done with a request that
//! nobody makes. `derived.rs` keeps what the edge has made of something, such as smaller images.
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
mod derived;
mod directives;
mod disk;
pub mod explain;
pub mod fill;
mod flight;
mod growing;
mod invalidate;
pub mod key;
mod policy;
mod purge;
mod status;
mod store;
mod visit;

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use klar_base::AppKey;

use crate::fields::Fields;

pub use derived::Derived;
pub use disk::Serving;
pub use policy::{Asked, Times, has_it, wants_part};
pub use status::{NAME as STATUS, Status};
pub use store::{Stored, Ticket};
pub use visit::{Glance, answer, glance, lines, passes};

use disk::{Disk, Place};
use flight::Flights;
pub use key::Key;
use store::{Name, Store};
use tokio::sync::oneshot;

/// What all workers share.
#[derive(Debug)]
pub struct Cache {
    store: Arc<Store>,
    disk: Option<Arc<Disk>>,
    flights: Arc<Flights>,
    /// Bytes that are on their way into the store.
    filling: AtomicUsize,
}

impl Cache {
    /// One without room, with the slower tier in a folder that is there. To be made before the sandbox closes.
    ///
    /// # Errors
    /// Why the folder cannot be used.
    pub fn open(folder: Option<&Path>) -> io::Result<Self> {
        let disk = folder.map(Disk::open).transpose()?.map(Arc::new);
        Ok(Self {
            store: Arc::new(Store::new(0)),
            disk,
            flights: Arc::default(),
            filling: AtomicUsize::new(0),
        })
    }

    /// Starts the threads of the slower tier.
    ///
    /// # Errors
    /// When there are none.
    pub fn start(&self) -> io::Result<()> {
        self.disk.as_ref().map_or(Ok(()), |disk| disk.start(&self.store))
    }

    /// Whether the slower tier has an answer to such a request.
    pub fn is_on_disk(&self, key: &Key, app: &AppKey, request: &impl Fields) -> bool {
        self.disk.as_ref().is_some_and(|disk| disk.find(key, app, request).is_some())
    }

    /// Its room, in bytes.
    pub fn room(&self) -> usize {
        self.store.room()
    }

    /// What of it is in use, in bytes.
    pub fn used(&self) -> usize {
        self.store.used()
    }

    /// Has the slower tier end in order.
    pub fn close(&self) {
        if let Some(disk) = &self.disk {
            disk.close();
        }
    }

    /// Changes the room in memory and on disk, in bytes; 0 in memory switches the cache off, 0 on disk the slower tier.
    pub fn resize(&self, memory: usize, disk: u64) {
        self.store.resize(memory);
        if let Some(tier) = &self.disk {
            tier.resize(if memory == 0 { 0 } else { disk });
        }
    }

    /// Takes note of the releases of an app that get requests from now on. `epoch`: as it is in keys.
    pub fn serve(&self, app: &AppKey, epoch: u64, serving: &Serving) {
        if let Some(disk) = &self.disk {
            disk.serve(app, epoch, serving);
        }
    }

    /// Forgets everything of an app that memory holds. What is on disk has lost its epoch.
    pub fn forget(&self, app: &AppKey) -> usize {
        self.store.purge(|name, _| name.app == *app)
    }

    /// Keeps an answer. `false`: it was cleared meanwhile, or is too large.
    fn put(&self, key: &Key, name: &Name, ticket: Ticket, stored: &Arc<Stored>) -> bool {
        let is_in = self.store.put(key, name, ticket, stored.clone());
        if let Some(disk) = self.disk.as_ref().filter(|_| is_in) {
            disk.offer(key, name, stored, || self.store.ticket(key) == ticket);
        }
        is_in
    }

    /// Takes out what is kept for an address. What is on its way is not kept either. What comes back is told when it
    /// survives a kill; `None`: there is nothing to wait for.
    fn remove(&self, key: &Key, name: &Name) -> Option<oneshot::Receiver<()>> {
        self.store.remove(key);
        self.disk.as_ref()?.forget(key, name)
    }

    /// Where on disk there is an answer to such a request; and a ticket for it.
    fn place(&self, key: &Key, app: &AppKey, request: &impl Fields) -> Option<(Place, Ticket)> {
        let disk = self.disk.as_ref()?;
        let ticket = self.store.ticket(key);
        Some((disk.find(key, app, request)?, ticket))
    }

    /// Brings what [`Cache::place`] found into memory.
    async fn bring(&self, key: &Key, (place, ticket): (Place, Ticket)) -> Option<Arc<Stored>> {
        self.disk.as_ref()?.bring(place, key, ticket).await
    }
}
