//! Looking into the edge: what it would do with a request, and how its routes and instances are doing.
//!
//! The core asks with a [`Question`] when somebody looks, and only then; the edge answers with data ([`Told`]) that it
//! has anyway. What it would do is its own judgement: the code that serves requests, run dry.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::ids::{AppKey, InstanceId, ReleaseId, ServiceName};
use crate::replay::{Replay, Replayed};
use crate::shadow::{Trial, Tried};
use crate::signal::{CacheOutcome, DecidedBy};

/// What the core wants to know.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "about", rename_all = "snake_case")]
pub enum Question {
    /// What would become of a request. Answered by [`Told::Explained`].
    Request(Wanted),
    /// All counters. Answered by [`Told::Counts`].
    Counts,
    /// What the firewall says of a request that it stopped. Answered by [`Told::Replayed`].
    Replay(Box<Replay>),
    /// What other rules would do with requests that were let through. Answered by [`Told::Tried`].
    Try(Box<Trial>),
}

/// What the edge says to a [`Question`].
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Told {
    /// What would become of a request.
    Explained(Box<Explained>),
    /// All counters.
    Counts(Box<Counts>),
    /// What the firewall says of a request, or why it says nothing.
    Replayed {
        /// See above.
        said: Result<Box<Replayed>, String>,
    },
    /// What other rules would do, or why that is not known.
    Tried {
        /// See above.
        said: Result<Box<Tried>, String>,
    },
}

/// A request that nobody makes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Wanted {
    /// `https://shop.example/a?b`, `http://...`, or `/a?b` at the first host of [`app`](Self::app).
    pub url: String,
    /// Whose first host is meant where the address names none; without one, any app's.
    #[serde(default)]
    pub app: Option<AppKey>,
    /// Left out: `GET`.
    #[serde(default = "get")]
    pub method: String,
    /// Names and values; `host` comes from the address.
    #[serde(default)]
    pub headers: Vec<(String, String)>,
    /// Who connects to the edge. Left out: a stranger.
    #[serde(default)]
    pub from: Option<IpAddr>,
    /// The certificate that it shows in the handshake, in PEM, with what leads to its authority. Left out: none.
    #[serde(default)]
    pub certificate: Option<String>,
}

fn get() -> String {
    "GET".into()
}

/// What would become of a request.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Explained {
    /// The method.
    pub method: String,
    /// The whole address that was looked at.
    pub url: String,
    /// The app that answers to the host.
    pub app: Option<AppKey>,
    /// The pattern of the route that takes the path.
    pub route: Option<String>,
    /// The service that it leads to. `None` with a route: to a folder of files.
    pub service: Option<ServiceName>,
    /// The release whose files are served, where the route leads to a folder.
    pub files: Option<ReleaseId>,
    /// What comes of it as things are now.
    pub outcome: Outcome,
    /// The instances of the service.
    pub instances: Vec<InstanceCounts>,
    /// Which of them would be asked now; of several that are as good, any.
    pub next: Option<InstanceId>,
    /// What is applied, in the order in which it is.
    pub policies: Vec<Policy>,
    /// What the cache does, where the route leads to a service.
    pub cache: Option<CacheView>,
    /// What the visitor gets when the app cannot be reached, where the route leads to a service.
    pub away: Option<Away>,
    /// What the edge adds to the answer where the app does not say it itself.
    pub adds: Vec<(String, String)>,
    /// Where no route takes the request: what there is.
    pub sites: Vec<SiteView>,
}

/// What comes of a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    /// Who decides.
    pub decided_by: DecidedBy,
    /// The status, where the edge knows it without asking the app.
    pub status: Option<u16>,
    /// The same in words.
    pub what: String,
    /// Where a redirect leads.
    pub location: Option<String>,
}

/// One thing that the edge does with the request or its answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Policy {
    /// What it is called.
    pub name: String,
    /// What holds, in words.
    pub value: String,
    /// What that means for this request, where it means anything.
    pub here: Option<String>,
    /// The key of `klar.toml` that it comes from, as `klar explain` takes it: `edge.hold`, `routes.*.timeout`,
    /// `services.*.sticky`. `None`: klar always does so.
    pub key: Option<String>,
}

/// What the cache does with a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CacheView {
    /// Why it has no part in it. All that follows is empty then.
    pub bypass: Option<String>,
    /// What an answer would be kept under: app, epoch, method, scheme, host with port as the visitor wrote it, path
    /// and query. Another of these is another answer.
    pub key: Vec<(String, String)>,
    /// What would be done now, as `Cache-Status` says it (RFC 9211), and in words.
    pub now: String,
    /// The same in words.
    pub what: String,
    /// The same as the access record says it.
    pub outcome: CacheOutcome,
    /// The answer that is kept for such a request.
    pub stored: Option<StoredView>,
    /// Answers to this address that are kept for other requests (`Vary`).
    pub others: u64,
    /// Somebody asks the app for it now; this request would wait for that.
    pub in_flight: bool,
    /// Why the last answer to such a request could not be shared, where that is remembered.
    pub last_refusal: Option<Refusal>,
    /// Whether answers like these would be kept, if the app gave them to this request.
    pub would_keep: Vec<WouldKeep>,
}

/// Why an answer is not kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// The word in `Cache-Status`.
    pub word: String,
    /// The same in words.
    pub why: String,
}

/// An answer that the app might give.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WouldKeep {
    /// What it says, as header lines; empty: nothing about caches.
    pub answer: String,
    /// For how many seconds it would be fresh; `None`: it is not kept.
    pub fresh_s: Option<i64>,
    /// Why it is not kept.
    pub refusal: Option<Refusal>,
}

/// An answer that is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredView {
    /// Its status.
    pub status: u16,
    /// How old it is, in seconds (RFC 9111 section 4.2.3).
    pub age_s: u64,
    /// How many seconds it is still fresh; negative: since when it is stale.
    pub left_s: i64,
    /// Its body, in bytes, as it is sent.
    pub bytes: u64,
    /// The request headers that it was chosen by.
    pub vary: Vec<String>,
    /// What the app calls it, for `klar cache purge --tag`.
    pub tags: Vec<String>,
    /// Whether the app can be asked if it is still good (`ETag`, `Last-Modified`).
    pub can_validate: bool,
    /// For how many seconds from now it may stand in for an app that cannot be reached.
    pub stands_in_s: Option<u64>,
    /// Why it may not.
    pub stands_in_not: Option<String>,
}

/// What a visitor gets when the app cannot be reached.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Away {
    /// The status.
    pub status: u16,
    /// In words.
    pub what: String,
    /// It would be the answer that is kept.
    pub stale: bool,
}

/// An app as the edge serves it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SiteView {
    /// Which.
    pub app: AppKey,
    /// Its hosts.
    pub hosts: Vec<String>,
    /// Its routes, the most specific first, and what each leads to.
    pub routes: Vec<(String, String)>,
}

/// How well an instance is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Wellness {
    /// It answers, and says that it is well.
    Well,
    /// It answers, but not well. It is used when nobody is better.
    Unwell,
    /// Nobody listens. It is not used until somebody does.
    Gone,
}

/// An instance, as the edge counts it. Counters only grow, for as long as it is the same process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstanceCounts {
    /// Which.
    pub id: InstanceId,
    /// Its release.
    pub release: ReleaseId,
    /// Its share of new requests; 0: it gets none.
    pub weight: u32,
    /// How it is.
    pub wellness: Wellness,
    /// Requests that it is answering now.
    pub in_flight: u32,
    /// Requests sent to it.
    pub requests: u64,
    /// Of these: no answer, or an answer of 500 and above.
    pub failures: u64,
}

/// All counters of an edge, since it started. They only grow, but for those that are about now.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Counts {
    /// Its process id: another one has begun anew.
    pub pid: u32,
    /// How long it has run, in microseconds: the clock for rates.
    pub uptime_us: u64,
    /// Connections from visitors that are open now.
    pub connections: u32,
    /// Of these: they speak HTTP/2.
    pub http2_connections: u32,
    /// And these HTTP/3.
    #[serde(default)]
    pub http3_connections: u32,
    /// Connections that were taken.
    pub accepted: u64,
    /// TLS handshakes that succeeded.
    pub handshakes: u64,
    /// And that did not.
    pub handshakes_failed: u64,
    /// Requests over HTTP/1.1, those without a route included.
    pub http1_requests: u64,
    /// Requests over HTTP/2.
    pub http2_requests: u64,
    /// Requests over HTTP/3.
    #[serde(default)]
    pub http3_requests: u64,
    /// Bytes in the cache now.
    pub cache_used: u64,
    /// The room of the cache, in bytes.
    pub cache_room: u64,
    /// Each route.
    pub routes: Vec<RouteCounts>,
    /// Each instance.
    pub instances: Vec<InstanceCounts>,
}

/// One route. Counters grow for as long as it exists.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RouteCounts {
    /// The app.
    pub app: AppKey,
    /// Its pattern.
    pub pattern: String,
    /// The service that it leads to; `None`: a folder.
    pub service: Option<ServiceName>,
    /// Requests that ended.
    pub requests: u64,
    /// Of these: answered with 500 or above, by the app or because no instance could.
    pub errors: u64,
    /// Bytes of bodies from visitors.
    pub bytes_in: u64,
    /// Bytes of bodies to visitors.
    pub bytes_out: u64,
    /// Requests that the cache had a part in.
    pub cache_asked: u64,
    /// Of these: answered by it, fresh or stale.
    pub cache_hits: u64,
    /// How long requests took: from the first byte of the head to the last byte of the answer.
    pub times: Times,
}

/// How many pieces a doubling of the time is divided into: a time is known to a quarter.
const PIECES: u32 = 4;
/// Times up to 2^28 microseconds (four and a half minutes) are told apart.
const DOUBLINGS: u32 = 28;

/// How many requests took about how long: a histogram whose buckets grow with the time.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Times(
    /// Buckets that are not empty, in order, and how many are in each.
    pub Vec<(u16, u64)>,
);

impl Times {
    /// How many buckets there are.
    pub const BUCKETS: usize = ((DOUBLINGS - 1) * PIECES) as usize;

    /// The bucket of a time in microseconds.
    pub fn bucket(us: u64) -> usize {
        if us < u64::from(PIECES) {
            return us as usize;
        }
        let doubling = us.ilog2();
        let piece = (us >> (doubling - 2)) as usize & 3;
        ((doubling as usize - 1) * PIECES as usize + piece).min(Self::BUCKETS - 1)
    }

    /// Where a bucket begins, in microseconds.
    fn begin(bucket: usize) -> u64 {
        let (row, piece) = (bucket as u64 / 4, bucket as u64 % 4);
        if row == 0 { piece } else { (4 + piece) << (row - 1) }
    }

    /// How many there are.
    pub fn count(&self) -> u64 {
        self.0.iter().map(|(_, count)| count).sum()
    }

    /// What has come since `before`.
    pub fn since(&self, before: &Self) -> Self {
        let known = |bucket: u16| before.0.iter().find(|(other, _)| *other == bucket).map_or(0, |(_, n)| *n);
        let new = self.0.iter().map(|(bucket, count)| (*bucket, count.saturating_sub(known(*bucket))));
        Self(new.filter(|(_, count)| *count > 0).collect())
    }

    /// The time, in microseconds, that a share of all took at most, within a quarter of it; `None` when there are none.
    /// `share` is between 0 and 1.
    pub fn quantile(&self, share: f64) -> Option<u64> {
        let wanted = (share.clamp(0.0, 1.0) * self.count() as f64).max(1.0);
        let mut below = 0.0;
        for (bucket, count) in &self.0 {
            let (bucket, count) = (usize::from(*bucket), *count as f64);
            if below + count >= wanted {
                let (begin, end) = (Self::begin(bucket), Self::begin(bucket + 1));
                let into = (wanted - below) / count;
                return Some(begin + ((end - begin) as f64 * into) as u64);
            }
            below += count;
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_in_order_and_leave_no_gap() {
        for bucket in 0..Times::BUCKETS {
            let begin = Times::begin(bucket);
            assert_eq!(Times::bucket(begin), bucket);
            assert_eq!(Times::bucket(Times::begin(bucket + 1) - 1), bucket);
            let width = Times::begin(bucket + 1) - begin;
            assert!(width == 1 || width * 4 <= begin, "{bucket}: {begin} and {width} more");
        }
        assert_eq!(Times::bucket(u64::MAX), Times::BUCKETS - 1);
    }

    fn times(all: impl IntoIterator<Item = u64>) -> Times {
        let mut counts = vec![0; Times::BUCKETS];
        all.into_iter().for_each(|us| counts[Times::bucket(us)] += 1);
        Times((0..).zip(counts).filter(|(_, count)| *count > 0).collect())
    }

    #[test]
    fn quantiles_are_near_the_truth() {
        assert_eq!(Times::default().quantile(0.5), None);
        let all = times(1..=100_000);
        for (share, truth) in [(0.0, 1.0), (0.5, 50_000.0), (0.99, 99_000.0), (1.0, 100_000.0)] {
            let found = all.quantile(share).unwrap() as f64;
            assert!((found - truth).abs() <= truth.max(4.0) / 4.0, "{share}: {found} for {truth}");
        }
        // One slow one among many is the last percent, not the middle.
        let mixed = times([vec![1000; 99], vec![5_000_000; 1]].concat());
        assert!(mixed.quantile(0.5).unwrap() < 1300);
        assert!(mixed.quantile(0.999).unwrap() > 4_000_000);
    }

    #[test]
    fn only_what_is_new_counts() {
        let before = times([10, 10, 500]);
        let mut after = before.clone();
        after.0[1].1 += 2;
        assert_eq!(after.since(&before), times([500, 500]));
        assert_eq!(before.since(&Times::default()), before);
        // An edge that began anew has fewer.
        assert_eq!(times([10]).since(&before), Times::default());
    }
}
