//! Rows over time: a store for access records, log lines, spans and what else happens, in a folder.
//!
//! 1. Tables are values: a [`Table`] has a name and [`Column`]s. [`Store::open`] is given all of them.
//! 2. [`Store::batch`] gives an empty [`Batch`]; [`Store::append`] takes it, [`Store::commit`] waits until it is on disk.
//! 3. [`Store::maintain`] writes what is in memory to Parquet files, which any other program can read, merges them, and
//!    removes old ones. To be called about once a second.
//! 4. [`Store::scan`] gives rows in the order of their time, [`Store::group`] counts them, [`Store::sketch`] answers what
//!    was counted beside them.
//!
//! Nothing here knows klar, and nothing waits: whoever uses it brings the threads.

mod batch;
mod block;
mod bytes;
mod file;
mod filter;
mod grams;
mod group;
mod histogram;
mod parquet;
mod place;
mod query;
mod scan;
mod sidecar;
mod sketch;
mod store;
mod table;
#[cfg(test)]
mod tests;
mod texts;
mod upkeep;
mod wal;

use std::sync::{Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

pub use batch::{BadRow, Batch, Value};
pub use filter::{BadFilter, Filter, Op, Scalar};
pub use group::{Group, Grouped, Groups, Key, Sketched};
pub use histogram::Histogram;
pub use query::{Budget, Effort, Select};
pub use scan::{Cell, Order, Rows, Scan};
pub use store::{Error, Recovered, Settings, Statistics, Store, TableStatistics};
pub use table::{BadTable, Column, Kind, Sketch, Table};
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
