//! `Cache-Status` (RFC 9211): what the cache did, for who looks at an answer; and the same in a word for the record.

use http::StatusCode;
use http::header::{HeaderMap, HeaderName, HeaderValue};
use klar_base::signal::CacheOutcome;

/// The name of the header.
pub const NAME: HeaderName = HeaderName::from_static("cache-status");

/// Why a request went on to the app (RFC 9211 section 2.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Forwarded {
    /// The cache has no part in it.
    Bypass,
    /// What is kept is not for who asks, or who asks wants a newer one.
    Request,
    /// Nothing is kept.
    Miss,
    /// What is kept was chosen by other headers.
    VaryMiss,
    /// What is kept was stale.
    Stale,
}

/// What the cache did with a request.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Status {
    /// The answer was kept.
    pub hit: bool,
    pub forwarded: Option<Forwarded>,
    /// What the app said, when it is not what was sent.
    pub app_said: Option<StatusCode>,
    /// Seconds that it is fresh for; negative: since when it is stale.
    pub left: Option<i64>,
    /// The answer is kept from now on.
    pub stored: bool,
    /// Another request fetched it.
    pub collapsed: bool,
    /// More, in a word.
    pub detail: Option<&'static str>,
}

impl Status {
    /// Of a request that went on to the app.
    pub fn forwarded(why: Forwarded) -> Self {
        Self { forwarded: Some(why), ..Self::default() }
    }

    /// For the record.
    pub fn outcome(&self) -> CacheOutcome {
        match (self.hit, self.forwarded, self.left) {
            (true, _, Some(left)) if left < 0 => CacheOutcome::Stale,
            (true, ..) => CacheOutcome::Hit,
            (_, Some(Forwarded::Bypass), _) => CacheOutcome::Bypass,
            (_, Some(Forwarded::Stale), _) if self.app_said == Some(StatusCode::NOT_MODIFIED) => {
                CacheOutcome::Revalidated
            }
            _ => CacheOutcome::Miss,
        }
    }

    /// Says it in the headers of an answer, after what caches nearer to the app have said.
    pub fn tell(&self, headers: &mut HeaderMap) {
        // As long as most of them are, so that it does not grow piece by piece.
        let mut text = Vec::with_capacity(64);
        self.write(&mut text);
        if let Ok(value) = HeaderValue::try_from(text) {
            headers.append(NAME, value);
        }
    }

    /// Writes it down. Without the machinery of formatting, which costs more than all of this.
    pub fn write(&self, out: &mut Vec<u8>) {
        let mut push = |text: &str| out.extend_from_slice(text.as_bytes());
        let mut number = itoa::Buffer::new();
        push("klar");
        if self.hit {
            push("; hit");
        }
        if let Some(why) = self.forwarded.filter(|_| !self.hit) {
            push("; fwd=");
            push(match why {
                Forwarded::Bypass => "bypass",
                Forwarded::Request => "request",
                Forwarded::Miss => "uri-miss",
                Forwarded::VaryMiss => "vary-miss",
                Forwarded::Stale => "stale",
            });
            if let Some(status) = self.app_said {
                push("; fwd-status=");
                push(status.as_str());
            }
        }
        if let Some(left) = self.left {
            push("; ttl=");
            push(number.format(left));
        }
        if self.stored {
            push("; stored");
        }
        if self.collapsed {
            push("; collapsed");
        }
        if let Some(detail) = self.detail {
            push("; detail=");
            push(detail);
        }
    }
}

impl std::fmt::Display for Status {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut text = Vec::new();
        self.write(&mut text);
        out.write_str(&String::from_utf8_lossy(&text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words() {
        let fresh = Status { hit: true, left: Some(9), ..Status::default() };
        let stale = Status { hit: true, left: Some(-2), detail: Some("refresh"), ..Status::default() };
        let stored = Status { stored: true, left: Some(60), ..Status::forwarded(Forwarded::Miss) };
        let validated = Status {
            app_said: Some(StatusCode::NOT_MODIFIED),
            stored: true,
            ..Status::forwarded(Forwarded::Stale)
        };
        for (status, text, outcome) in [
            (fresh, "klar; hit; ttl=9", CacheOutcome::Hit),
            (stale, "klar; hit; ttl=-2; detail=refresh", CacheOutcome::Stale),
            (stored, "klar; fwd=uri-miss; ttl=60; stored", CacheOutcome::Miss),
            (validated, "klar; fwd=stale; fwd-status=304; stored", CacheOutcome::Revalidated),
            (Status::forwarded(Forwarded::Bypass), "klar; fwd=bypass", CacheOutcome::Bypass),
            (Status::forwarded(Forwarded::Request), "klar; fwd=request", CacheOutcome::Miss),
        ] {
            assert_eq!(status.to_string(), text);
            assert_eq!(status.outcome(), outcome, "{text}");
        }
    }

    #[test]
    fn it_comes_after_what_was_said_before() {
        let mut headers = HeaderMap::new();
        headers.insert(NAME, HeaderValue::from_static("App; hit"));
        Status::forwarded(Forwarded::Miss).tell(&mut headers);
        let all: Vec<_> = headers.get_all(NAME).iter().collect();
        assert_eq!(all, ["App; hit", "klar; fwd=uri-miss"]);
    }
}
