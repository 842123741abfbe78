//! A request that the firewall stopped, kept for whoever asks why, and what comes of it when it is judged again.
//!
//! The edge keeps it, without what is secret in it; the core stores it and takes nothing apart; the edge judges it again
//! when somebody asks ([`Question::Replay`](crate::look::Question::Replay)).

use serde::{Deserialize, Serialize};

use crate::ids::AppKey;
use crate::signal::WafVerdict;

/// Of a longer body only so many bytes are kept.
pub const BODY_MAX: usize = 64 << 10;

/// A request that was stopped, or would have been.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoppedRequest {
    /// As in its access record.
    pub request_id: String,
    /// Whose request it is.
    pub app: AppKey,
    /// What came.
    pub sent: Sent,
}

/// A request as it came, up to [`BODY_MAX`]. Bytes are letters with the same numbers (ISO 8859-1), so that none is lost.
/// In what may be secret the first word is made of `x` and `1`, another one of `y` and `2`, and so on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sent {
    /// The method.
    pub method: String,
    /// The path with the query.
    pub target: String,
    /// `HTTP/1.1`.
    pub protocol: String,
    /// The visitor's address.
    pub remote: String,
    /// Names and values.
    pub headers: Vec<(String, String)>,
    /// The body, or its beginning.
    pub body: String,
    /// There was more of the body, or it was stopped before its body came.
    pub is_cut: bool,
    /// Something in it is not as it came.
    pub is_masked: bool,
}

/// What lets something through that the firewall stops, as `[waf.NAME]` of `klar.toml` says it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Exception {
    /// A path, or `/path/*`.
    pub route: String,
    /// `NAME`, `header:NAME`, `cookie:NAME`; without one, anywhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parameter: Option<String>,
    /// The rules that do not look there.
    pub allow: Vec<u32>,
}

/// What is to be judged again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Replay {
    /// By whose rules.
    pub app: AppKey,
    /// The request.
    pub sent: Sent,
    /// Exceptions to try, in the language of the rules.
    pub own: String,
    /// Where attacks are put in the place of what was sent, as in [`Exception::parameter`].
    pub parameters: Vec<String>,
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Replayed {
    /// By the rules in force.
    pub now: Judged,
    /// With the exceptions.
    pub then: Judged,
    /// What came of attacks, by parameter.
    pub attacks: Vec<Attacked>,
}

/// What rules say of a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Judged {
    /// What becomes of it; `None` when no rule has anything to say.
    pub verdict: Option<WafVerdict>,
    /// What the rules add up to, when they do.
    pub score: Option<i64>,
    /// What matched, in the order of the rules: at most 32.
    pub matches: Vec<Reason>,
}

/// A rule that matched, and what it saw.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reason {
    /// Its number.
    pub rule: u32,
    /// The file that it stands in, and its line.
    pub file: String,
    /// See `file`.
    pub line: u32,
    /// What it is about.
    pub message: String,
    /// A collection and a name in it, as `ARGS:q`.
    pub place: String,
    /// What it asks: `@rx`.
    pub question: String,
    /// The value as it came, its first 256 bytes.
    pub value: String,
    /// What each step of decoding made of it, as far as it changed something.
    pub steps: Vec<Step>,
    /// What the rule says of it.
    pub data: String,
}

/// A step of decoding.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// Its name in rules: `urlDecodeUni`.
    pub name: String,
    /// What it gave.
    pub value: String,
}

/// What came of attacks at one parameter.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attacked {
    /// Where they stood.
    pub parameter: String,
    /// So many were tried; none where the request is stopped for something else in it, too.
    pub tried: u32,
    /// So many are stopped by the rules in force.
    pub stopped_now: u32,
    /// So many are stopped with the exceptions.
    pub stopped_then: u32,
    /// Those that are stopped now and would not be.
    pub freed: Vec<String>,
}

/// Bytes as letters with the same numbers.
#[must_use]
pub fn letters(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| char::from(*byte)).collect()
}

/// The bytes of such letters; `None` if there are others among them.
#[must_use]
pub fn bytes(letters: &str) -> Option<Vec<u8>> {
    letters.chars().map(|one| u8::try_from(one).ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_byte_is_lost() {
        let all: Vec<u8> = (0..=255).collect();
        assert_eq!(bytes(&letters(&all)), Some(all));
        assert_eq!(bytes("€"), None);
    }
}
