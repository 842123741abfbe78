//! Does the database hold up: what it is, what it is asked, and how it finds it?

pub mod activity;
pub mod connections;
pub mod engine;
pub mod explain;
pub mod indexes;
pub mod statements;
