//! All checks. A new one is a file next to its neighbours, and a line here.

use crate::check::Check;

pub mod api;
pub mod attacks;
pub mod backup;
pub mod browser;
pub mod data;
pub mod gate;
pub mod running;
pub mod security;
pub mod source;
pub mod web;

/// Every check, in the order in which reports name them.
#[rustfmt::skip]
pub const ALL: &[Check] = &[
    Check::of::<security::headers::Headers>(),
    Check::of::<security::tls::Tls>(),
    Check::of::<web::caching::Caching>(),
    Check::of::<web::assets::Assets>(),
    Check::of::<web::images::Images>(),
    Check::of::<web::front_end::FrontEnd>(),
    Check::of::<web::topology::Topology>(),
    Check::of::<attacks::sqli::Sqli>(),
    Check::of::<attacks::xss::Xss>(),
    Check::of::<browser::xss_browser::XssBrowser>(),
    Check::of::<attacks::csrf::Csrf>(),
    Check::of::<attacks::access::Access>(),
    Check::of::<attacks::guessing::Guessing>(),
    Check::of::<attacks::oversized::Oversized>(),
    Check::of::<attacks::firewall::Firewall>(),
    Check::of::<api::validation::Validation>(),
    Check::of::<api::operations::Operations>(),
    Check::of::<api::lists::Lists>(),
    Check::of::<api::errors::Errors>(),
    Check::of::<browser::csp_browser::CspBrowser>(),
    Check::of::<browser::page_loads::PageLoads>(),
    Check::of::<browser::code_splitting::CodeSplitting>(),
    Check::of::<browser::service_worker::ServiceWorker>(),
    Check::of::<browser::offline::Offline>(),
    Check::of::<browser::skeleton::Skeleton>(),
    Check::of::<browser::virtual_scroll::VirtualScroll>(),
    Check::of::<browser::error_boundary::ErrorBoundary>(),
    Check::of::<running::database_away::DatabaseAway>(),
    Check::of::<running::instance_killed::InstanceKilled>(),
    Check::of::<running::rollouts::Rollouts>(),
    Check::of::<running::local_start::LocalStart>(),
    Check::of::<running::releases::Releases>(),
    Check::of::<running::environment::Environment>(),
    Check::of::<running::logs::Logs>(),
    Check::of::<running::metrics::Metrics>(),
    Check::of::<running::traces::Traces>(),
    Check::of::<running::telemetry::Telemetry>(),
    Check::of::<running::own_metrics::OwnMetrics>(),
    Check::of::<running::log_lines::LogLines>(),
    Check::of::<running::dashboards::Dashboards>(),
    Check::of::<running::cache_away::CacheAway>(),
    Check::of::<running::broken_schema::BrokenSchema>(),
    Check::of::<running::health_speed::HealthSpeed>(),
    Check::of::<running::balance::Balance>(),
    Check::of::<running::steady_load::SteadyLoad>(),
    Check::of::<running::cache_policy::CachePolicy>(),
    Check::of::<running::cdn::Cdn>(),
    Check::of::<security::renewal::Renewal>(),
    Check::of::<data::connections::Connections>(),
    Check::of::<data::activity::Activity>(),
    Check::of::<data::engine::Engine>(),
    Check::of::<data::indexes::Indexes>(),
    Check::of::<data::statements::Statements>(),
    Check::of::<backup::kept::Kept>(),
    Check::of::<backup::sealed::Sealed>(),
    Check::of::<backup::any_second::AnySecond>(),
    Check::of::<backup::restores::Restores>(),
    Check::of::<backup::elsewhere::Elsewhere>(),
    Check::of::<backup::files::Files>(),
    Check::of::<backup::history::History>(),
    Check::of::<backup::plan::Written>(),
    Check::of::<backup::disaster::Disaster>(),
    Check::of::<source::sql_built::SqlBuilt>(),
    Check::of::<source::secrets::Secrets>(),
    Check::of::<source::dependencies::Dependencies>(),
    Check::of::<source::tests_there::TestsThere>(),
    Check::of::<source::coverage::Coverage>(),
    Check::of::<source::documents::Documents>(),
    Check::of::<source::runtime::Runtime>(),
    Check::of::<gate::arithmetic::Arithmetic>(),
    Check::of::<source::tests_run::TestsRun>(), // last: it may leave the rig's databases empty
];

#[cfg(test)]
mod tests;
