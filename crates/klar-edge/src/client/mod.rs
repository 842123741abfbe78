//! HTTP/1.1 as the edge speaks it to apps (RFC 9112).
//!
//! One exchange at a time over one connection, in the task of the request that is answered: no task of the
//! connection's own, no channel between. A connection is a value ([`Link`]). Sending a request takes it
//! ([`Link::exchange`]), the body of the answer has it meanwhile ([`Reply`]), and gives it back when both sides are
//! beyond doubt between two messages.
//!
//! Answers are read strictly: what two programs could understand differently ends the connection and is answered
//! with 502. So an app, or who speaks through it, cannot have the edge take a piece of one answer for another one.
//!
//! `head.rs` judges heads and `chunks.rs` decodes chunks, both without any I/O; `request.rs` writes requests, and
//! `reply.rs` reads bodies.

mod chunks;
#[cfg(test)]
mod differential;
pub mod head;
mod link;
mod reply;
mod request;

pub use link::{Begun, Link, Miss, Switched};
pub use reply::Reply;
pub use request::Head;

/// Why an answer cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// It is none, or it breaks off.
    #[error("{0}")]
    Broken(&'static str),
    /// Some programs would take it, each in its own way.
    #[error("{0}")]
    Doubtful(&'static str),
}

impl From<Fault> for std::io::Error {
    fn from(fault: Fault) -> Self {
        Self::new(std::io::ErrorKind::InvalidData, fault)
    }
}
