//! Metrics over time: what a sample, a series and a selection of series are, in the terms of Prometheus, and a store for
//! them in a folder.
//!
//! Nothing here knows klar, and nothing waits: whoever uses it brings the threads.

mod block;
mod bytes;
mod chunk;
pub mod labels;
pub mod matcher;
mod postings;
pub mod sample;
mod select;
mod series;
mod store;
mod table;
#[cfg(test)]
mod tests;
mod upkeep;
mod wal;

use std::sync::{Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

pub use chunk::{Packer, Unpacker};
pub use labels::{BadLabels, Labels};
pub use matcher::{BadMatcher, Matcher, Op};
pub use sample::{STALE, Sample, is_stale};
pub use select::{Found, Selection};
pub use series::Verdict;
pub use store::{Appended, Error, Offender, Recovered, SeriesRef, Settings, Statistics, Store};
pub use upkeep::Upkeep;

fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

fn read<T>(of: &RwLock<T>) -> RwLockReadGuard<'_, T> {
    of.read().unwrap_or_else(PoisonError::into_inner)
}

fn write<T>(of: &RwLock<T>) -> RwLockWriteGuard<'_, T> {
    of.write().unwrap_or_else(PoisonError::into_inner)
}
