//! All checks. A new one is a file next to its neighbours, and a line here.

use crate::check::Check;

pub mod api;
pub mod attacks;
pub mod security;

/// Every check, in the order in which reports name them.
pub const ALL: &[Check] = &[
    Check::of::<security::headers::Headers>(),
    Check::of::<security::tls::Tls>(),
    Check::of::<attacks::sqli::Sqli>(),
    Check::of::<attacks::xss::Xss>(),
    Check::of::<attacks::csrf::Csrf>(),
    Check::of::<attacks::access::Access>(),
    Check::of::<attacks::guessing::Guessing>(),
    Check::of::<attacks::oversized::Oversized>(),
    Check::of::<api::validation::Validation>(),
    Check::of::<api::operations::Operations>(),
    Check::of::<api::lists::Lists>(),
    Check::of::<api::errors::Errors>(),
];

#[cfg(test)]
mod tests;
