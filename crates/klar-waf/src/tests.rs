//! What the tests of several modules use.

use std::time::{Duration, Instant};

/// Runs something that a loop in a loop would make last for minutes.
pub(crate) fn soon<T>(what: &str, run: impl FnOnce() -> T) -> T {
    let begun = cpu_time();
    let out = run();
    let spent = cpu_time().saturating_sub(begun);
    assert!(spent < Duration::from_secs(10), "{what} took {spent:?}");
    out
}

/// How long this thread has run: what else the machine does is no part of it.
fn cpu_time() -> Duration {
    use std::sync::LazyLock;
    static BEGUN: LazyLock<Instant> = LazyLock::new(Instant::now);
    let begun = *BEGUN;
    std::fs::read_to_string("/proc/thread-self/schedstat")
        .ok()
        .and_then(|text| text.split_whitespace().next()?.parse().ok())
        .map_or_else(|| begun.elapsed(), Duration::from_nanos)
}
