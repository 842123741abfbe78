//! Attacks that a stranger would try, and what they came to.

pub mod access;
pub mod aim;
pub mod csrf;
pub mod firewall;
pub mod guessing;
pub mod oversized;
pub mod sqli;
pub mod xss;
