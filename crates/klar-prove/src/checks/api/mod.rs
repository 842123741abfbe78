//! The API as it is described, and as it answers.

pub mod operations;
pub mod schema;
pub mod validation;
