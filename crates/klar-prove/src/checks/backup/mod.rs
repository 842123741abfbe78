//! Does what the app keeps come back: is it kept, is it whole, was it restored, can nobody else read it?

pub mod any_second;
pub mod kept;
pub mod restores;
pub mod sealed;

use klar_base::keep::{Ask, Told};

use crate::check::Unable;
use crate::words::Words;
use crate::world::Klar;

/// Asks what keeps the database.
async fn asked(klar: &dyn Klar, ask: Ask) -> Result<Told, Unable> {
    let cannot = |why: String| Unable(Words::same(why));
    match klar.keep(ask).await.map_err(cannot)? {
        Told::Failed { what, .. } => Err(cannot(what)),
        told => Ok(told),
    }
}

fn unexpected() -> Unable {
    Unable(Words::same("what keeps the database answered something else".to_owned()))
}
