//! Backups of PostgreSQL that are restored and proven.
//!
//! 1. A slot makes the server keep its log ([`server::ReadySlot`]); then a receiver streams it into a spool
//!    ([`server::Receiver`]), and what comes is shipped into the repository about every second ([`ship::Shipper`]).
//! 2. Still to be written: base backups, points, restore, drills.
//!
//! **Invariant:** it knows no apps, no `klar.toml` and no core: whoever uses it says where things are.

mod answer;
pub mod base;
pub mod drill;
mod harm;
pub mod keeper;
pub mod lsn;
pub mod point;
pub mod process;
pub mod restore;
pub mod scratch;
mod search;
pub mod server;
pub mod ship;
pub mod signed;
pub mod wal;
pub mod witness;
