//! A value that must not be printed.

use serde::{Deserialize, Serialize};

/// Wraps a value so that `Debug` never shows it.
///
/// Serialising keeps the value: it is what lets a key travel over a private socketpair. Nothing that is shown to
/// people or written to logs may hold a `Secret` in a serialised form.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Secret<T>(T);

impl<T> Secret<T> {
    /// Takes `value` out of sight.
    pub fn new(value: T) -> Self {
        Self(value)
    }

    /// Gives the value back, at a place that greps well.
    pub fn expose(&self) -> &T {
        &self.0
    }
}

impl<T> std::fmt::Debug for Secret<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("[secret]")
    }
}
