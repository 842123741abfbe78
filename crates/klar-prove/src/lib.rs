//! Is this app ready for production? klar looks, and shows what it saw.
//!
//! The way of a check: a [`check::Check`] looks at a [`world::World`] and gives [`evidence::Evidence`]; judged, that
//! makes the [`standing`] of the rows of the [`catalogue`]; added up, the [`score`]; told, the [`report`].
//!
//! **Invariant:** a check observes; it never believes a configuration.
//! **Invariant:** everything after the evidence is pure: the same records at the same time give the same report,
//! byte for byte, on any machine.

pub mod catalogue;
pub mod check;
pub mod checklist;
pub mod checks;
pub mod derive;
pub mod evidence;
pub mod foil;
pub mod own;
pub mod prove;
pub mod reference;
pub mod report;
pub mod roadmap;
pub mod run;
pub mod score;
mod shell;
pub mod standing;
pub mod words;
pub mod world;
