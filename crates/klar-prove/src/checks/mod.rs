//! All checks. A new one is a file next to its neighbours, and a line here.

use crate::check::Check;

pub mod data;
pub mod running;
pub mod security;

/// Every check, in the order in which reports name them.
#[rustfmt::skip]
pub const ALL: &[Check] = &[
    Check::of::<security::headers::Headers>(),
    Check::of::<security::tls::Tls>(),
    Check::of::<running::database_away::DatabaseAway>(),
    Check::of::<running::instance_killed::InstanceKilled>(),
    Check::of::<running::logs::Logs>(),
    Check::of::<running::metrics::Metrics>(),
    Check::of::<running::cache_away::CacheAway>(),
    Check::of::<running::broken_schema::BrokenSchema>(),
    Check::of::<running::health_speed::HealthSpeed>(),
    Check::of::<running::balance::Balance>(),
    Check::of::<data::connections::Connections>(),
    Check::of::<data::engine::Engine>(),
    Check::of::<data::indexes::Indexes>(),
    Check::of::<data::statements::Statements>(),
];

#[cfg(test)]
mod tests;
