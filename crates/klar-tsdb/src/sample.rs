//! Samples.

/// The value that ends a series until it comes again: the NaN that Prometheus writes for it.
pub const STALE: f64 = f64::from_bits(0x7ff0_0000_0000_0002);

/// Whether a value says that its series has ended. Another NaN is a value like any other.
#[must_use]
pub const fn is_stale(value: f64) -> bool {
    value.to_bits() == STALE.to_bits()
}

/// A value at a time.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sample {
    /// Milliseconds since 1970, also before.
    pub time_ms: i64,
    /// The value.
    pub value: f64,
}
