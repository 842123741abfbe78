//! Reads SecLang.

mod ast;

pub use ast::*;
