//! The API as it is described, and as it answers.

pub mod errors;
pub mod lists;
pub mod operations;
pub mod schema;
pub mod validation;
