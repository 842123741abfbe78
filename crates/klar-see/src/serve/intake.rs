//! What other programs send, by the address that they send it to.

use http::request::Parts;
use http::{Method, StatusCode};

use super::{Answer, Who, loki, text};
use crate::Shared;

/// What is spoken at an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Protocol {
    /// Loki's push.
    Loki,
}

impl Protocol {
    /// Of an address; none if nothing is taken in there.
    pub(super) fn of(_method: &Method, path: &str) -> Option<Self> {
        // The second one is what promtail's predecessors used, and Fluent Bit's older releases still do.
        matches!(path, "/loki/api/v1/push" | "/api/prom/push").then_some(Self::Loki)
    }

    /// Takes in what was sent.
    pub(super) fn take_in(self, shared: &Shared, who: &Who, head: &Parts, body: &[u8]) -> Answer {
        let whose = if let Who::App(app) = who { Some(app) } else { None };
        match self {
            Self::Loki if head.method == Method::POST => loki::push(shared, whose, head, body),
            Self::Loki => text(StatusCode::METHOD_NOT_ALLOWED, "POST is wanted here\n"),
        }
    }
}
