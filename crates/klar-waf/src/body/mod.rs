//! Reads the bodies of requests: what they hold by name, and whether they are what they say they are.
//!
//! Each format has a reader that is given all of a body that is in memory, the whole of it or its beginning, and that
//! puts names and values into [`Pairs`]. What was read before a mistake counts, and so does what is half read at it: an
//! attack does not hide behind a missing bracket. Readers keep their buffers for the next request; nothing is allocated
//! for a single argument.
//!
//! Names are those of libmodsecurity 3 (`json.list.array_0.id`), so that exclusions by name stay good.

mod format;
pub mod json;
pub mod multipart;
pub mod urlencoded;
pub mod xml;

pub use format::{guess, of_type, without_mark};

use crate::bytes::Pairs;

/// How much is read at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Names with values in one collection; what it holds already counts.
    pub arguments: usize,
    /// Arrays and objects, or elements, within each other.
    pub depth: usize,
    /// Bytes of all names and values of one collection. Only JSON can make more of them than its body has: the name of
    /// each value holds those of all it lies in.
    pub bytes: usize,
    /// Files of one body.
    pub files: usize,
}

/// What a body came to. `F` says what can be wrong with its format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Outcome<F> {
    /// It is well-formed, and all of it was read.
    Complete,
    /// It is not well-formed; what stands before the mistake was read.
    Malformed {
        /// What is wrong first.
        fault: F,
        /// Where, in bytes from the beginning of the body.
        at: usize,
    },
    /// There is more than is read.
    Limited(Limit),
}

/// What there is too much of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Limit {
    /// [`Limits::arguments`].
    #[error("too many arguments")]
    Arguments,
    /// [`Limits::depth`].
    #[error("too deeply nested")]
    Depth,
    /// [`Limits::bytes`].
    #[error("too many bytes in names and values")]
    Bytes,
    /// [`Limits::files`].
    #[error("too many files")]
    Files,
}

/// Why reading stops.
#[derive(Debug, Clone, Copy)]
enum Stop<F> {
    Fault(F, usize),
    Limit(Limit),
}

impl<F> From<Limit> for Stop<F> {
    fn from(limit: Limit) -> Self {
        Self::Limit(limit)
    }
}

impl<F> From<Result<(), Stop<F>>> for Outcome<F> {
    fn from(read: Result<(), Stop<F>>) -> Self {
        match read {
            Ok(()) => Self::Complete,
            Err(Stop::Fault(fault, at)) => Self::Malformed { fault, at },
            Err(Stop::Limit(limit)) => Self::Limited(limit),
        }
    }
}

impl Limits {
    /// Whether one more of this size has room.
    fn admit(&self, pairs: &Pairs, size: usize) -> Result<(), Limit> {
        if pairs.len() >= self.arguments {
            return Err(Limit::Arguments);
        }
        if pairs.size().saturating_add(size) > self.bytes {
            return Err(Limit::Bytes);
        }
        Ok(())
    }

    fn push(&self, pairs: &mut Pairs, name: &[u8], value: &[u8]) -> Result<(), Limit> {
        self.admit(pairs, name.len() + value.len())?;
        pairs.push(name, value);
        Ok(())
    }
}

#[cfg(test)]
mod fuzz;
#[cfg(test)]
mod tests;
