//! A web application firewall that reads SecLang, the language of ModSecurity and of the OWASP Core Rule Set.
//!
//! Pure functions on bytes: no files are opened, no sockets, no clock and no runtime. A request goes in as slices, and
//! what the rules say of it comes out.
//!
//! 1. [`seclang`] reads text into directives, and says what it cannot read.
//! 2. `compile` makes a flat program of them: what the settings decide is decided there, once.
//! 3. `engine` runs the program over one request after the other.
//!
//! **Invariant:** whatever a rule or a request holds, matching takes time linear in the length of the request.

pub mod body;
pub mod bytes;
pub mod operator;
pub mod rules;
pub mod seclang;
pub mod sqli;
pub mod transform;
pub mod xss;

mod compile;
pub mod engine;
mod program;

pub use program::Settings;

#[cfg(test)]
mod tests;
