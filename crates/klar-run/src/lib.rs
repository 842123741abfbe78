//! Running an app: releases, instances, databases and the switch from one release to the next.
//!
//! **Invariant:** nothing here parses a stranger's bytes; that is the edge's work, in its own process.
//! **Invariant:** what must survive a kill is on disk before it is acted on, and what runs can be found again
//! from the state folder alone.

pub mod certs;
pub mod control;
pub mod core;
pub mod durable;
pub mod layout;
pub mod limits;
pub mod ports;
mod probe;
pub mod release;
pub mod report;
pub mod sandbox;
mod settings;
pub mod shim;
pub mod spawn;
pub mod store;

use std::io;

use klar_base::AppKey;

/// The addresses of the PostgreSQL databases that klar manages for an app, as its services get them.
///
/// # Errors
/// When the state of the host cannot be read: it is for its owner and root only.
pub fn store_urls(layout: &layout::Layout, key: &AppKey) -> io::Result<Vec<String>> {
    let state = core::state::HostState::read(layout)?;
    let stores = state.apps.get(key).into_iter().flat_map(|app| app.stores.values());
    Ok(stores.filter(|store| store.engine == store::Engine::Postgres).map(|store| store.url(key)).collect())
}
