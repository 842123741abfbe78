//! When to try again: at once after a long good life, then later and later.
//!
//! Exponential backoff with full jitter (Brooker, "Exponential Backoff And Jitter", 2015).

use std::time::{Duration, Instant};

use crate::report::Failure;

const BASE: Duration = Duration::from_millis(200);
const MAX: Duration = Duration::from_secs(30);
/// So many failures in a row are called a crash loop.
pub const LOOP: u32 = 4;

/// The memory of one place that keeps failing.
#[derive(Debug, Clone, Default)]
pub struct Retry {
    /// Failures in a row.
    pub failures: u32,
    /// Failures since the core started.
    pub total: u32,
    /// Not before then.
    pub not_before: Option<Instant>,
    /// The newest failure.
    pub last: Option<Failure>,
}

impl Retry {
    /// Notes a failure after `lived`; `jitter` is between 0 and 1.
    pub fn failed(&mut self, failure: Failure, lived: Duration, now: Instant, jitter: f64) {
        const LONG_LIFE: Duration = Duration::from_secs(10);
        self.failures = if lived > LONG_LIFE { 1 } else { self.failures + 1 };
        self.total += 1;
        self.last = Some(failure);
        self.not_before = Some(now + Self::pause(self.failures, jitter));
    }

    /// The first failure is followed by a start at once: most often one process was killed.
    fn pause(failures: u32, jitter: f64) -> Duration {
        if failures <= 1 {
            return Duration::ZERO;
        }
        let ceiling = BASE.saturating_mul(1 << (failures - 2).min(16)).min(MAX);
        ceiling.mul_f64(jitter.clamp(0.0, 1.0))
    }

    /// It is well.
    pub fn succeeded(&mut self) {
        self.failures = 0;
        self.not_before = None;
        self.last = None;
    }

    /// Whether it may be tried now.
    pub fn is_due(&self, now: Instant) -> bool {
        self.not_before.is_none_or(|when| when <= now)
    }

    /// Whether it fails again and again.
    pub fn is_loop(&self) -> bool {
        self.failures >= LOOP
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_a_limit_and_a_long_life_forgives() {
        let now = Instant::now();
        let mut retry = Retry::default();
        let mut pauses = Vec::new();
        for _ in 0..12 {
            retry.failed(Failure::new("x"), Duration::ZERO, now, 1.0);
            pauses.push((retry.not_before.unwrap() - now).as_millis());
        }
        assert_eq!(pauses[..5], [0, 200, 400, 800, 1600]);
        assert_eq!(*pauses.last().unwrap(), 30_000);
        assert!(retry.is_loop());
        retry.failed(Failure::new("x"), Duration::from_secs(60), now, 1.0);
        assert_eq!(retry.failures, 1);
        assert!(retry.is_due(now));
    }
}
