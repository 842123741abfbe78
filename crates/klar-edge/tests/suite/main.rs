//! The edge with real sockets. One program: 26 of them took ten times the disk and the linker's time.
#![allow(clippy::unwrap_used)] // a test that cannot go on should stop where it is

mod app_framing;
mod cache;
mod cache_disk;
mod challenges;
mod common;
mod compression;
mod core_restart;
mod crowded;
mod drain;
mod firewall;
mod framing;
mod front;
mod headers;
mod http2;
mod http2_attacks;
mod http2_clients;
mod http3;
mod images;
mod look;
mod mutual_tls;
mod prepared;
mod reconfigure;
mod retry;
mod segments;
mod static_files;
mod streams;
mod takeover;
mod websocket;
