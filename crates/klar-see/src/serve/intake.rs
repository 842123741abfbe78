//! What other programs send, by the address that they send it to.

use http::request::Parts;
use http::{Method, StatusCode};

use super::{Answer, Who, bulk, loki, text};
use crate::Shared;

/// What is spoken at an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Protocol {
    /// Loki's push.
    Loki,
    /// Elasticsearch's bulk, and what comes before it.
    Elasticsearch,
}

impl Protocol {
    /// Of an address; none if nothing is taken in there.
    pub(super) fn of(path: &str) -> Option<Self> {
        // The second one is what promtail's predecessors used.
        if matches!(path, "/loki/api/v1/push" | "/api/prom/push") {
            return Some(Self::Loki);
        }
        bulk::path(path).map(|_| Self::Elasticsearch)
    }

    /// Takes in what was sent.
    pub(super) fn take_in(self, shared: &Shared, who: &Who, head: &Parts, body: &[u8]) -> Answer {
        let whose = if let Who::App(app) = who { Some(app) } else { None };
        match self {
            Self::Loki if head.method == Method::POST => loki::push(shared, whose, head, body),
            Self::Elasticsearch => {
                let path = bulk::path(head.uri.path()).unwrap_or_default();
                bulk::take_in(shared, whose, path, head, body)
            }
            Self::Loki => text(StatusCode::METHOD_NOT_ALLOWED, "POST is wanted here\n"),
        }
    }
}
