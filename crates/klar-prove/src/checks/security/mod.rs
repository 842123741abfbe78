//! Is it closed to those who should not be in?

pub mod headers;
pub mod renewal;
pub mod tls;
