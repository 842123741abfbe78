//! All checks. A new one is a file next to its neighbours, and a line here.

use crate::check::Check;

pub mod browser;
pub mod running;
pub mod security;
pub mod web;

/// Every check, in the order in which reports name them.
#[rustfmt::skip]
pub const ALL: &[Check] = &[
    Check::of::<security::headers::Headers>(),
    Check::of::<security::tls::Tls>(),
    Check::of::<running::database_away::DatabaseAway>(),
    Check::of::<running::instance_killed::InstanceKilled>(),
    Check::of::<web::caching::Caching>(),
    Check::of::<web::assets::Assets>(),
    Check::of::<web::images::Images>(),
    Check::of::<web::front_end::FrontEnd>(),
    Check::of::<web::topology::Topology>(),
    Check::of::<browser::csp_browser::CspBrowser>(),
    Check::of::<browser::page_loads::PageLoads>(),
    Check::of::<browser::code_splitting::CodeSplitting>(),
    Check::of::<browser::service_worker::ServiceWorker>(),
    Check::of::<browser::offline::Offline>(),
    Check::of::<browser::skeleton::Skeleton>(),
    Check::of::<browser::virtual_scroll::VirtualScroll>(),
    Check::of::<browser::error_boundary::ErrorBoundary>(),
];

#[cfg(test)]
mod tests;
