//! Backups of a real PostgreSQL, restored and compared.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod ahead;
mod anonymise;
mod clock;
mod cluster;
mod damage;
mod drills;
mod full;
mod retention;
mod tables;
mod times;
