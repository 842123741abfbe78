//! What klar must not lose.
//!
//! Today that is the [`ledger`]: an append-only file in which every line vouches for the one before it.
//!
//! **Invariant:** nothing in here knows what a check, a deploy or a backup is. An entry has a kind and a subject,
//! both words of whoever wrote it, and a payload that is any JSON.

pub mod chain;
mod key;
pub mod ledger;

pub use chain::{Broken, Digest, Entry, Head};
pub use key::{KeyId, SigningKey};
pub use ledger::{Ledger, LedgerError};
