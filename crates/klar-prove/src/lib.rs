//! Is this app ready for production? klar looks, and shows what it saw.
//!
//! - [`catalogue`]: what is asked for, one row a demand.
//! - [`words`]: texts in the three languages.
//!
//! **Invariant:** a check observes; it never believes a configuration.

pub mod catalogue;
pub mod checklist;
pub mod words;
