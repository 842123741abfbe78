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
