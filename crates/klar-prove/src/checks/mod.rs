//! All checks. A new one is a file next to its neighbours, and a line here.

use crate::check::Check;

pub mod security;
pub mod source;

/// Every check, in the order in which reports name them.
pub const ALL: &[Check] = &[
    Check::of::<security::headers::Headers>(),
    Check::of::<security::tls::Tls>(),
    Check::of::<source::sql_built::SqlBuilt>(),
    Check::of::<source::secrets::Secrets>(),
    Check::of::<source::dependencies::Dependencies>(),
    Check::of::<source::tests_there::TestsThere>(),
    Check::of::<source::coverage::Coverage>(),
    Check::of::<source::documents::Documents>(),
    Check::of::<source::runtime::Runtime>(),
];

#[cfg(test)]
mod tests;
