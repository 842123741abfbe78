//! Attacks that a stranger would try, and what they came to.

pub mod aim;
pub mod sqli;
pub mod xss;
