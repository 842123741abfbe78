//! klar's program with real hosts and real apps. One program: nine took nine times the disk and the linker's time.
#![allow(clippy::unwrap_used)] // a test that cannot go on should stop where it is

mod acme;
mod assets;
mod backup;
mod check;
mod common;
mod edge;
mod first_hour;
mod images;
mod init_and_up;
mod see;
mod several;
mod upgrade;
mod waf;
