//! Metrics over time: what a sample, a series and a selection of series are, in the terms of Prometheus, and a store for
//! them in a folder.
//!
//! Nothing here knows klar, and nothing waits: whoever uses it brings the threads.

mod bytes;
mod chunk;
pub mod labels;
pub mod matcher;
pub mod sample;

pub use labels::{BadLabels, Labels};
pub use matcher::{BadMatcher, Matcher, Op};
pub use sample::{STALE, Sample, is_stale};
