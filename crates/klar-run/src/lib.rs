//! Running an app: releases, instances, databases and the switch from one release to the next.
//!
//! **Invariant:** nothing here parses a stranger's bytes; that is the edge's work, in its own process.
//! **Invariant:** what must survive a kill is on disk before it is acted on, and what runs can be found again
//! from the state folder alone.

pub mod control;
pub mod layout;
pub mod limits;
pub mod ports;
pub mod report;
pub mod sandbox;
pub mod shim;
pub mod spawn;
