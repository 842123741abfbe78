//! Paths and where they lead.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::keys::RoutePolicy;

/// Which paths a route takes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Pattern {
    /// This path and no other: `/pricing`.
    Exact(String),
    /// Everything below this path, and the path itself: `/api/*` is kept as `/api`, `/*` as the empty text.
    Prefix(String),
}

/// A pattern that cannot be used, and how it might have been meant.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{label}")]
pub struct PatternError {
    /// What is wrong with it.
    pub label: &'static str,
    /// A pattern that would do.
    pub meant: Option<String>,
}

impl Pattern {
    /// Reads a pattern.
    ///
    /// # Errors
    /// [`PatternError`] when it is not a path, or has a `*` elsewhere than in `/*` at the end.
    pub fn new(text: &str) -> Result<Self, PatternError> {
        let error = |label, meant: Option<String>| {
            let meant = meant.filter(|meant| meant != text && Self::new(meant).is_ok());
            Err(PatternError { label, meant })
        };
        if let Some((_, rest)) = text.split_once("://") {
            return error(
                "this is a URL; a route is a path only",
                rest.find('/').map(|at| rest[at..].into()),
            );
        }
        if !text.starts_with('/') {
            let host = text.split_once('/').filter(|(host, _)| host.contains('.'));
            return match host {
                Some((_, path)) => {
                    error("begins with a host name; a route is a path only", Some(format!("/{path}")))
                }
                None => error("does not start with `/`", Some(format!("/{text}"))),
            };
        }
        let path = text.strip_suffix("/*").unwrap_or(text);
        if path.contains('*') {
            let whole = path.split('*').next().unwrap_or_default().trim_end_matches('/');
            return error("a `*` may only stand at the end, after a `/`", Some(format!("{whole}/*")));
        }
        if path.contains([':', '{', '}', '<', '>']) {
            let whole = path.split([':', '{', '<']).next().unwrap_or_default().trim_end_matches('/');
            return error("has a placeholder, which klar does not know", Some(format!("{whole}/*")));
        }
        if path.contains(['?', '#']) {
            return error("has a query or a fragment", path.split(['?', '#']).next().map(str::to_owned));
        }
        if path.contains("//") || text.starts_with("//") {
            return error("has an empty part", Some(text.replace("//", "/")));
        }
        if path.split('/').any(|part| matches!(part, "." | "..")) {
            return error("has a `.` or `..` part, which browsers never send", None);
        }
        if !path.bytes().all(|b| b.is_ascii_graphic()) {
            return error(
                "has a space or a letter beyond a-z; write it percent-encoded, as browsers send it",
                None,
            );
        }
        Ok(if text.ends_with("/*") { Self::Prefix(path.into()) } else { Self::Exact(path.into()) })
    }

    /// Whether this takes everything.
    pub fn is_catch_all(&self) -> bool {
        matches!(self, Self::Prefix(path) if path.is_empty())
    }

    /// Whether this takes `path`, which holds no query.
    pub fn matches(&self, path: &str) -> bool {
        match self {
            Self::Exact(exact) => path == exact,
            Self::Prefix(prefix) => path
                .strip_prefix(prefix.as_str())
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('/')),
        }
    }

    /// Orders patterns so that the first that matches is the one that is meant: exact before prefix, long before short.
    pub(crate) fn precedence(&self) -> (bool, std::cmp::Reverse<usize>, &str) {
        match self {
            Self::Exact(path) => (false, std::cmp::Reverse(path.len()), path),
            Self::Prefix(path) => (true, std::cmp::Reverse(path.len()), path),
        }
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(path) => f.write_str(path),
            Self::Prefix(path) => write!(f, "{path}/*"),
        }
    }
}

impl TryFrom<String> for Pattern {
    type Error = PatternError;
    fn try_from(text: String) -> Result<Self, PatternError> {
        Self::new(&text)
    }
}

impl From<Pattern> for String {
    fn from(pattern: Pattern) -> String {
        pattern.to_string()
    }
}

/// A path pattern, and the service it leads to under which conditions.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Route {
    /// Which paths it takes.
    pub pattern: Pattern,
    /// Where they lead, and how.
    #[serde(flatten)]
    pub policy: RoutePolicy,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match() {
        for (pattern, path, expected) in [
            ("/*", "/", true),
            ("/*", "/a/b", true),
            ("/api/*", "/api", true),
            ("/api/*", "/api/", true),
            ("/api/*", "/api/x", true),
            ("/api/*", "/apix", false),
            ("/a", "/a", true),
            ("/a", "/a/", false),
        ] {
            assert_eq!(Pattern::new(pattern).unwrap().matches(path), expected, "{pattern} {path}");
        }
    }

    #[test]
    fn bad_patterns_say_what_was_meant() {
        for (pattern, meant) in [
            ("api", Some("/api")),
            ("*", Some("/*")),
            ("/**", Some("/*")),
            ("/api*", Some("/api/*")),
            ("/users/:id", Some("/users/*")),
            ("/a/*/b", Some("/a/*")),
            ("example.com/api/*", Some("/api/*")),
            ("https://example.com/api", Some("/api")),
            ("/a?b=c", Some("/a")),
            ("/a//b", Some("/a/b")),
            ("/../x", None),
            ("/blå", None),
        ] {
            assert_eq!(Pattern::new(pattern).unwrap_err().meant.as_deref(), meant, "{pattern}");
        }
    }

    #[test]
    fn patterns_survive_a_round_trip() {
        for text in ["/*", "/", "/a", "/a/*"] {
            assert_eq!(Pattern::new(text).unwrap().to_string(), text);
        }
    }
}
