//! Backups of PostgreSQL that are restored and proven.
//!
//! 1. A slot makes the server keep its log ([`server::ReadySlot`]); then a receiver streams it into a spool
//!    ([`server::Receiver`]), and what comes is shipped into the repository about every second ([`ship::Shipper`]).
//! 2. All files of the server are read beside it ([`base`]), and what is in its tables is written down at one place of the
//!    log ([`witness`]): a point ([`point`]), once its log is in the repository too.
//! 3. The point is restored ([`restore`], [`scratch`]) and compared ([`drill`]): a proof.
//! 4. What is older than was promised goes, late and carefully ([`retain`]).
//!
//! [`keeper`] does all of that for one server, for as long as it lives; [`process`] is the process around keepers.
//!
//! **Invariant:** it knows no `klar.toml` and no core but what is told in [`klar_base::keep`].

pub mod anonymise;
mod answer;
pub mod base;
pub mod drill;
pub mod dump;
mod elsewhere;
pub mod files;
mod harm;
pub mod keeper;
pub mod lsn;
pub mod point;
pub mod process;
pub mod redis;
pub mod restore;
pub mod retain;
pub mod scratch;
mod search;
pub mod server;
pub mod ship;
pub mod signed;
pub mod tables;
pub mod verify;
pub mod wal;
pub mod witness;
