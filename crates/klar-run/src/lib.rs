//! Running an app: releases, instances, databases and the switch from one release to the next.
//!
//! **Invariant:** nothing here parses a stranger's bytes; that is the edge's work, in its own process. Only the
//! certificate authority that `klar.toml` names is listened to ([`acme`]), within limits.
//! **Invariant:** what must survive a kill is on disk before it is acted on, and what runs can be found again
//! from the state folder alone.

pub mod acme;
pub mod assets;
pub mod certs;
pub mod control;
pub mod core;
pub mod durable;
pub mod keeper;
pub mod layout;
pub mod limits;
pub mod ports;
mod probe;
pub mod programs;
pub mod release;
pub mod report;
pub mod sandbox;
mod settings;
pub mod shim;
pub mod spawn;
mod stopped;
pub mod store;
pub mod waf;

use std::io;

use klar_base::{AppKey, ServiceName};

/// The databases and caches that klar manages for an app: their kind, and the address as its services get it.
///
/// # Errors
/// When the state of the host cannot be read: it is for its owner and root only.
pub fn store_urls(
    layout: &layout::Layout,
    key: &AppKey,
) -> io::Result<Vec<(ServiceName, store::Engine, String)>> {
    let state = core::state::HostState::read(layout)?;
    let stores = state.apps.get(key).into_iter().flat_map(|app| &app.stores);
    Ok(stores.map(|(name, store)| (name.clone(), store.engine, store.url(key))).collect())
}
