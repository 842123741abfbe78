//! Does klar's own arithmetic hold?

pub mod arithmetic;
