//! What is asked of a value: one module for each kind of question.
//!
//! What a rule says is compiled once, and asked of many values. Where asking costs more than a glance, there is a
//! [`Screen`] in front, which says from the bytes that occur in a value that it cannot match.
//!
//! Answers are those of libmodsecurity 3.0.9; what differs is said where it does.

mod address;
mod command;
mod encoding;
mod expression;
mod grams;
mod identity;
mod inner;
mod number;
mod phrases;
mod screen;
mod text;

pub use address::{IpSet, NotAnAddress};
pub use command::{COMMAND_GAPS, detect_command};
pub use encoding::{ByteRange, NotARange, UrlEncoding, Utf8, url_encoding, utf8};
pub use expression::{Expression, GROUPS_MAX, Refusal};
pub(crate) use grams::{Grams, LONG};
pub use identity::{verify_cc, verify_cpf, verify_ssn, verify_svnr};
pub use inner::{ADDRESS_SIGNS, detect_inner_address};
pub use number::Comparison;
pub use phrases::Phrases;
pub use screen::Screen;
pub use text::{begins_with, contains, contains_word, ends_with, str_eq, within};
