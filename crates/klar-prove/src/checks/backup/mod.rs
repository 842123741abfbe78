//! Does what the app keeps come back: is it kept, is it whole, was it restored, can nobody else read it; and is there
//! a way back when the machine is lost?

pub mod any_second;
pub mod disaster;
pub mod elsewhere;
pub mod files;
pub mod kept;
pub mod plan;
pub mod restores;
pub mod sealed;

use klar_base::keep::{Ask, Told};
use serde::{Deserialize, Serialize};

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

/// What a drill found.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Drilled {
    /// Each step: what, whether it was good, what was found.
    steps: Vec<(String, bool, String)>,
    /// How long it took to a server that can be written to.
    rto_ms: Option<u64>,
    /// Whether all was as it should be.
    good: bool,
}

impl Drilled {
    fn of(told: Result<Told, Unable>) -> Result<Self, Unable> {
        match told {
            Ok(Told::Proof { proof, good }) => {
                let text =
                    |step: &serde_json::Value, name: &str| step[name].as_str().unwrap_or_default().to_owned();
                let step = |step: &serde_json::Value| {
                    (text(step, "what"), step["outcome"] == "good", text(step, "evidence"))
                };
                let steps = proof["steps"].as_array().into_iter().flatten().map(step).collect();
                Ok(Self { steps, rto_ms: proof["rto_ms"].as_u64(), good })
            }
            Ok(_) => Err(unexpected()),
            // That there is nothing to restore is what was found.
            Err(Unable(why)) => {
                Ok(Self { steps: vec![("log".to_owned(), false, why.en)], ..Self::default() })
            }
        }
    }

    /// The comparison of all tables.
    fn tables(&self) -> Option<&(String, bool, String)> {
        self.steps.iter().find(|(what, ..)| what == "tables")
    }

    /// What was wrong first, or what the tables were.
    fn evidence(&self) -> String {
        let bad = self.steps.iter().find(|(_, good, _)| !good);
        bad.or(self.tables())
            .map_or_else(|| "-".to_owned(), |(what, _, evidence)| format!("{what}: {evidence}"))
    }
}
