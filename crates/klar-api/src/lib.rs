//! The control API: HTTP/1.1 and JSON over a Unix socket, and the client that the command line uses.
//!
//! What can be asked is [`Control`](klar_run::control::Control); [`route`] gives each of its verbs a method, a path
//! and a description, [`server`] answers, [`client`] asks, [`openapi`] writes it all down. Long operations answer
//! with one JSON object a line (`application/x-ndjson`), each as it happens.
//!
//! **Invariant:** who may ask is decided by the kernel's word about the process at the other end of the socket,
//! never by something that was sent.
//! **Invariant:** an operation that has been asked for goes on when whoever asked goes away.

mod body;
pub mod client;
pub mod openapi;
mod query;
pub mod route;
pub mod server;
mod upload;

pub use client::{Client, ClientError};
pub use server::{Settings, serve};
