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

/// Repeats an input until it is long, and longer, and panics where the time that something takes grows faster than that.
pub(crate) fn is_linear(input: &[u8], mut run: impl FnMut(&[u8])) {
    const SHORT: usize = 32 * 1024;
    const LONG: usize = 8 * SHORT;
    /// What takes no longer is not worth a measurement.
    const SOON: Duration = Duration::from_millis(60);
    if input.is_empty() {
        return;
    }
    let mut took = |len: usize, times: u32| {
        let value = input.repeat(len / input.len() + 1);
        let once = |_| {
            let begun = cpu_time();
            run(&value);
            cpu_time().saturating_sub(begun)
        };
        (0..times).map(once).min().unwrap_or_default()
    };
    if took(LONG, 1) < SOON {
        return;
    }
    // Eight times as much takes eight times as long, or 64 times.
    let (short, long) = (took(SHORT, 3).max(Duration::from_millis(1)), took(LONG, 3));
    assert!(long < short * 24, "{} takes {short:?} and {long:?}", input.escape_ascii());
}
