//! Counters for who looks (`klar edge top`): of each route, and of the doors.
//!
//! A request adds to a handful of them when it is over. Each worker has a lane of its own, so that no two wait for
//! the same line of memory; they are added up only when somebody asks.

use std::cell::Cell;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use klar_base::look::Times;
use klar_base::signal::{CacheOutcome, DecidedBy, WafVerdict};
use klar_base::upstreams::Watched;

use crate::records::Record;

/// Workers beyond so many share lanes, which is right, only slower.
pub const LANES: usize = 8;

thread_local! {
    static LANE: Cell<usize> = const { Cell::new(0) };
}

/// Says which worker this thread is.
pub fn this_is_worker(number: usize) {
    LANE.set(number % LANES);
}

/// The number of this worker's lane, below [`LANES`].
pub fn lane() -> usize {
    LANE.get()
}

/// What one worker counts of a route. As long as whole lines of memory.
#[derive(Debug)]
#[repr(align(128))]
struct Lane {
    requests: AtomicU64,
    errors: AtomicU64,
    bytes_in: AtomicU64,
    bytes_out: AtomicU64,
    cache_asked: AtomicU64,
    cache_hits: AtomicU64,
    passed: AtomicU64,
    would_be_stopped: AtomicU64,
    times: [AtomicU64; Times::BUCKETS],
}

impl Default for Lane {
    fn default() -> Self {
        Self {
            requests: AtomicU64::new(0),
            errors: AtomicU64::new(0),
            bytes_in: AtomicU64::new(0),
            bytes_out: AtomicU64::new(0),
            cache_asked: AtomicU64::new(0),
            cache_hits: AtomicU64::new(0),
            passed: AtomicU64::new(0),
            would_be_stopped: AtomicU64::new(0),
            times: [const { AtomicU64::new(0) }; Times::BUCKETS],
        }
    }
}

/// What is counted of a route, over all configurations that have it.
#[derive(Debug, Default)]
pub struct RouteTotals([Lane; LANES]);

/// The sums of a route.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct RouteSums {
    pub requests: u64,
    pub errors: u64,
    pub bytes_in: u64,
    pub bytes_out: u64,
    pub cache_asked: u64,
    pub cache_hits: u64,
    pub times: Times,
}

impl RouteTotals {
    /// Counts a request that is over.
    pub fn count(&self, record: &Record<'_>) {
        let lane = &self.0[lane()];
        let add = |counter: &AtomicU64, number: u64| {
            if number > 0 {
                counter.fetch_add(number, Ordering::Relaxed);
            }
        };
        let is_error = match record.decided_by {
            DecidedBy::Failed => true,
            DecidedBy::App | DecidedBy::Edge => record.status >= 500,
            DecidedBy::Refused => false,
        };
        add(&lane.requests, 1);
        add(&lane.errors, u64::from(is_error));
        add(&lane.bytes_in, record.bytes_in);
        add(&lane.bytes_out, record.bytes_out);
        match record.cache {
            Some(CacheOutcome::Hit | CacheOutcome::Stale) => {
                add(&lane.cache_asked, 1);
                add(&lane.cache_hits, 1);
            }
            Some(CacheOutcome::Miss | CacheOutcome::Revalidated) => add(&lane.cache_asked, 1),
            Some(CacheOutcome::Bypass | CacheOutcome::Refresh) | None => {}
        }
        add(&lane.times[Times::bucket(record.duration_us)], 1);
    }

    /// Counts a request that a firewall has watched, and that it would have stopped or the app had a good answer for. What
    /// was asked in vain says nothing.
    pub fn watch(&self, verdict: Option<WafVerdict>, status: u16) {
        let lane = &self.0[lane()];
        let counter = match verdict {
            Some(WafVerdict::Detected) => &lane.would_be_stopped,
            _ if status < 400 => &lane.passed,
            _ => return,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    /// How many passed, and of how many of them the firewall says that it would have stopped them.
    pub fn watched(&self) -> Watched {
        let sum = |pick: fn(&Lane) -> &AtomicU64| {
            self.0.iter().map(|lane| pick(lane).load(Ordering::Relaxed)).sum()
        };
        Watched { passed: sum(|lane| &lane.passed), found: sum(|lane| &lane.would_be_stopped) }
    }

    /// Adds the lanes up.
    pub fn sums(&self) -> RouteSums {
        let sum = |pick: &dyn Fn(&Lane) -> &AtomicU64| {
            self.0.iter().map(|lane| pick(lane).load(Ordering::Relaxed)).sum()
        };
        let times = (0..Times::BUCKETS)
            .map(|bucket| (bucket as u16, sum(&|lane| &lane.times[bucket])))
            .filter(|(_, count): &(u16, u64)| *count > 0);
        RouteSums {
            requests: sum(&|lane| &lane.requests),
            errors: sum(&|lane| &lane.errors),
            bytes_in: sum(&|lane| &lane.bytes_in),
            bytes_out: sum(&|lane| &lane.bytes_out),
            cache_asked: sum(&|lane| &lane.cache_asked),
            cache_hits: sum(&|lane| &lane.cache_hits),
            times: Times(times.collect()),
        }
    }
}

/// What comes in, whatever it is for.
#[derive(Debug, Default)]
pub struct Doors {
    /// Connections that were taken.
    pub accepted: AtomicU64,
    /// TLS handshakes that succeeded.
    pub handshakes: AtomicU64,
    /// And that did not.
    pub handshakes_failed: AtomicU64,
    /// Requests over HTTP/1.1.
    pub http1_requests: AtomicU64,
    /// Requests over HTTP/2.
    pub http2_requests: AtomicU64,
    /// Requests over HTTP/3.
    pub http3_requests: AtomicU64,
    http2_open: AtomicU32,
    http3_open: AtomicU32,
}

impl Doors {
    /// Connections that are open now and speak HTTP/2.
    pub fn http2_open(&self) -> u32 {
        self.http2_open.load(Ordering::Relaxed)
    }

    /// A connection that speaks HTTP/2, for as long as this is kept.
    pub fn http2(&self) -> Open<'_> {
        Open::one_of(&self.http2_open)
    }

    /// Connections that are open now and speak HTTP/3.
    pub fn http3_open(&self) -> u32 {
        self.http3_open.load(Ordering::Relaxed)
    }

    /// A connection that speaks HTTP/3, for as long as this is kept.
    pub fn http3(&self) -> Open<'_> {
        Open::one_of(&self.http3_open)
    }
}

/// A connection that counts.
#[derive(Debug)]
pub struct Open<'a>(&'a AtomicU32);

impl<'a> Open<'a> {
    fn one_of(open: &'a AtomicU32) -> Self {
        open.fetch_add(1, Ordering::Relaxed);
        Self(open)
    }
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(status: u16, decided_by: DecidedBy, cache: Option<CacheOutcome>) -> Record<'static> {
        Record {
            time_unix_ms: 0,
            request_id: "",
            app: None,
            client: std::net::Ipv4Addr::LOCALHOST.into(),
            protocol: "h2",
            tls: true,
            method: "GET",
            host: "",
            path: "/",
            route: None,
            status,
            decided_by,
            bytes_in: 1,
            bytes_out: 10,
            duration_us: 1000,
            upstream: None,
            attempts: 0,
            error: None,
            aborted: false,
            user_agent: None,
            cache,
            image: None,
            waf: None,
        }
    }

    /// What ended how, and as what it counts: an error, something the cache was asked for, a hit.
    #[test]
    fn what_counts_as_what() {
        for (status, decided_by, cache, sums) in [
            (200, DecidedBy::App, None, (0, 0, 0)),
            (500, DecidedBy::App, Some(CacheOutcome::Miss), (1, 1, 0)),
            (404, DecidedBy::App, Some(CacheOutcome::Bypass), (0, 0, 0)),
            (503, DecidedBy::Failed, Some(CacheOutcome::Miss), (1, 1, 0)),
            // An answer that broke off after its head had been sent.
            (200, DecidedBy::Failed, None, (1, 0, 0)),
            (413, DecidedBy::Refused, None, (0, 0, 0)),
            (504, DecidedBy::Refused, Some(CacheOutcome::Miss), (0, 1, 0)),
            (200, DecidedBy::Edge, Some(CacheOutcome::Hit), (0, 1, 1)),
            (200, DecidedBy::Edge, Some(CacheOutcome::Stale), (0, 1, 1)),
            (200, DecidedBy::App, Some(CacheOutcome::Revalidated), (0, 1, 0)),
        ] {
            let totals = RouteTotals::default();
            totals.count(&record(status, decided_by, cache));
            let found = totals.sums();
            assert_eq!(
                (found.errors, found.cache_asked, found.cache_hits),
                sums,
                "{status} {decided_by:?} {cache:?}"
            );
            assert_eq!((found.requests, found.bytes_in, found.bytes_out, found.times.count()), (1, 1, 10, 1));
        }
    }

    #[test]
    fn workers_add_up() {
        let totals = RouteTotals::default();
        std::thread::scope(|scope| {
            for number in 0..3 * LANES {
                let totals = &totals;
                scope.spawn(move || {
                    this_is_worker(number);
                    (0..100).for_each(|_| totals.count(&record(200, DecidedBy::App, None)));
                });
            }
        });
        let sums = totals.sums();
        assert_eq!((sums.requests, sums.times.count()), (300 * LANES as u64, 300 * LANES as u64));
    }
}
