//! What each verb does, by group.

pub mod backup;
pub mod check;
pub mod checklist;
pub mod dashboard;
pub mod edge;
pub mod fix;
pub mod host;
pub mod learn;
pub mod ledger;
pub mod metrics;
pub mod operate;
pub mod see;
pub mod service;
pub mod target;
mod told;
pub mod trace;
pub mod trust;
pub mod up;
pub mod upgrade;
pub mod waf;
