//! Requests that were let through, as stricter rules of a firewall see them.
//!
//! The edge judges a sample of them beside those that the rules in force judge, at all paranoia levels at once, and stops
//! nothing for it. The core keeps what comes of that together with the requests, without what is secret in them, so that
//! other rules can be tried on them ([`Question::Try`](crate::look::Question::Try)) before they are in force.

use serde::{Deserialize, Serialize};

use crate::ids::AppKey;
use crate::replay::{Attacked, Sent};
use crate::signal::WafMatch;
use crate::upstreams::RefusedRules;

/// A request that was let through, and what stricter rules say of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShadowedRequest {
    /// When it came, in milliseconds since 1970.
    pub time_unix_ms: u64,
    /// As in its access record.
    pub request_id: String,
    /// Whose request it is.
    pub app: AppKey,
    /// The pattern of the route that took it.
    pub route: Option<String>,
    /// The status of the answer.
    pub status: u16,
    /// What all levels say.
    pub found: Shadowed,
    /// What came.
    pub sent: Sent,
}

/// What rules say of a request, level by level.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shadowed {
    /// The lowest level that would stop it; `None`: no level would.
    pub stopped_from: Option<u8>,
    /// What matched, each once: at most 16.
    pub matches: Vec<LevelMatch>,
}

/// A rule that matched.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LevelMatch {
    /// It runs at this level and above.
    pub level: u8,
    /// Which, and where.
    #[serde(flatten)]
    pub found: WafMatch,
}

/// Rules that are to judge requests that were kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trial {
    /// Whose exceptions count.
    pub app: AppKey,
    /// Index among the descriptors of the question: the rules ([`RuleFiles`](crate::upstreams::RuleFiles) as JSON). `None`:
    /// klar's own.
    pub rules: Option<usize>,
    /// At which level.
    pub paranoia: u8,
    /// Exceptions to try, in the language of the rules.
    pub own: String,
    /// Index among the descriptors: [`ShadowedRequest`]s, one on each line.
    pub requests: usize,
    /// Where attacks are put in the place of what was sent: the request, and a place as in
    /// [`Exception::parameter`](crate::replay::Exception::parameter).
    pub attacked: Vec<(String, String)>,
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tried {
    /// So many requests were judged.
    pub judged: u32,
    /// When the oldest and the newest of them came, in milliseconds since 1970.
    pub times: Option<(u64, u64)>,
    /// Those that would be stopped.
    pub stopped: Vec<TriedRequest>,
    /// What came of attacks, with the exceptions and without: by place.
    pub attacks: Vec<Attacked>,
    /// Rules that do not run.
    pub refused: Option<RefusedRules>,
}

/// A request that rules would stop.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TriedRequest {
    /// As in its access record.
    pub request_id: String,
    /// The method.
    pub method: String,
    /// The path, without the query.
    pub path: String,
    /// The visitor's address.
    pub remote: String,
    /// The status of the answer that it got.
    pub status: u16,
    /// What matched.
    pub matches: Vec<WafMatch>,
}
