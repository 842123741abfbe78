//! Backups of a real PostgreSQL, restored and compared.

mod cluster;
mod drills;
mod times;
