//! What happened: one record for each request, and the running vitals of each upstream.
//!
//! Records go from the edge to the core in batches over a bounded queue. When the queue is full a record is
//! dropped and counted, a request never waits for it.

use serde::{Deserialize, Serialize};

use crate::ids::{AppKey, InstanceId};

/// One request as the edge saw it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AccessRecord {
    /// When the head of the request had been read, in milliseconds since the Unix epoch.
    pub time_unix_ms: u64,
    /// The request id, which is also in the answer's `x-request-id` and was sent to the app.
    pub request_id: String,
    /// The app and environment it was for, when its host was known.
    pub app: Option<AppKey>,
    /// The address of the visitor.
    pub client: std::net::IpAddr,
    /// What the visitor spoke, by its name in ALPN: `http/1.1`, `h2` or `h3`.
    pub protocol: String,
    /// Whether the visitor spoke HTTPS, wherever TLS ended.
    pub tls: bool,
    /// The method.
    pub method: String,
    /// The host that was asked for.
    pub host: String,
    /// The path without its query: queries may hold secrets.
    pub path: String,
    /// The pattern of the route that took it.
    pub route: Option<String>,
    /// The status that was sent.
    pub status: u16,
    /// Who decided the status.
    pub decided_by: DecidedBy,
    /// Body bytes read from the visitor.
    pub bytes_in: u64,
    /// Body bytes sent to the visitor.
    pub bytes_out: u64,
    /// From the first byte of the head read to the last byte of the body sent, in microseconds.
    pub duration_us: u64,
    /// The instance that gave the answer.
    pub upstream: Option<InstanceId>,
    /// How many times the request was sent to an instance; 0 when it never was.
    pub attempts: u32,
    /// Why it failed, in words for a person, when it did.
    pub error: Option<String>,
    /// The visitor went away before the whole answer was sent.
    pub aborted: bool,
    /// The `user-agent`, cut at 256 bytes.
    pub user_agent: Option<String>,
    /// What the cache did, when it could have had a part.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache: Option<CacheOutcome>,
    /// What became of the image that was asked for, on a route that converts images.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<ImageOutcome>,
    /// What the firewall says of it, when it says anything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waf: Option<WafFinding>,
}

/// What a firewall says of a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WafFinding {
    /// What it did.
    pub verdict: WafVerdict,
    /// What the rules add up to, when they do.
    pub score: Option<i64>,
    /// What matched, each once, in the order of the rules: at most 16.
    pub matches: Vec<WafMatch>,
}

/// A rule of a firewall that matched.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WafMatch {
    /// Its number.
    pub rule: u32,
    /// What it is about.
    pub message: String,
    /// Where it found that: a collection and a name in it, as `ARGS:q`. Never the value.
    pub place: String,
}

/// What a firewall does with a request of which rules say something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WafVerdict {
    /// It was stopped.
    Blocked,
    /// It would have been stopped.
    Detected,
    /// It was let through: too little speaks against it.
    Noted,
}

/// What the edge did with an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ImageOutcome {
    /// A converted or scaled one was there already.
    Kept,
    /// It was made for this request.
    Made,
    /// The original was sent for now: making it takes longer than a visitor waits, or nobody could just then.
    Later,
    /// The original was sent: it cannot be converted, or is the smaller one.
    Original,
}

/// What the cache of the edge did with a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CacheOutcome {
    /// It answered.
    Hit,
    /// The app was asked.
    Miss,
    /// It answered with something stale: while a newer answer was fetched, or because the app was away.
    Stale,
    /// The app said that what is kept is still good.
    Revalidated,
    /// It had no part.
    Bypass,
    /// No visitor's request: the edge asked the app for a newer answer, after it had given the stale one.
    Refresh,
}

/// Who decided how a request was answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DecidedBy {
    /// The app answered, whatever its status.
    App,
    /// The edge answered from a static folder, from its cache, or with a redirect.
    Edge,
    /// The edge refused the request: a limit, an unknown host, a malformed head.
    Refused,
    /// No instance could answer, so the edge did: 502, 503 or 504.
    Failed,
}

/// The running totals of one app, since the edge started.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Totals {
    /// Requests finished.
    pub requests: u64,
    /// Answers of 500 and above that the app itself gave.
    pub app_errors: u64,
    /// 502, 503 and 504 that the edge gave because no instance could answer.
    pub failed: u64,
    /// Answers of 400 to 499 that the edge gave by itself.
    pub refused: u64,
    /// Requests that were sent to more than one instance, and then succeeded.
    pub saved_by_retry: u64,
    /// Visitors that went away before the answer was complete.
    pub aborted: u64,
}

impl Totals {
    /// What has come since `before`.
    pub fn since(&self, before: &Self) -> Self {
        Self {
            requests: self.requests.saturating_sub(before.requests),
            app_errors: self.app_errors.saturating_sub(before.app_errors),
            failed: self.failed.saturating_sub(before.failed),
            refused: self.refused.saturating_sub(before.refused),
            saved_by_retry: self.saved_by_retry.saturating_sub(before.saved_by_retry),
            aborted: self.aborted.saturating_sub(before.aborted),
        }
    }
}

impl std::ops::AddAssign for Totals {
    fn add_assign(&mut self, more: Self) {
        self.requests += more.requests;
        self.app_errors += more.app_errors;
        self.failed += more.failed;
        self.refused += more.refused;
        self.saved_by_retry += more.saved_by_retry;
        self.aborted += more.aborted;
    }
}

/// What the edge knows of one upstream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UpstreamVitals {
    /// Which instance.
    pub id: InstanceId,
    /// Requests that are being answered by it now.
    pub leases: u32,
    /// Requests sent to it since it was first seen.
    pub requests: u64,
    /// Of these: no answer, or an answer of 500 and above.
    pub failures: u64,
    /// Whether the edge thinks that it can answer.
    pub healthy: bool,
}
