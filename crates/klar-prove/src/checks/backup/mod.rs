//! Does what the app keeps come back: is it kept, is it whole, was it restored, can nobody else read it; and is there
//! a way back when the machine is lost?

pub mod any_second;
pub mod disaster;
pub mod elsewhere;
pub mod files;
pub mod history;
pub mod kept;
pub mod plan;
pub mod restores;
pub mod sealed;

use klar_base::keep::{Ask, Told};
use serde::{Deserialize, Serialize};

use crate::check::{Finding, Unable};
use crate::words;
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

const HOUR: u64 = 3_600_000;
/// A day, and two hours in which a point may be made.
const OLD: u64 = 26 * HOUR;

/// Whether points go back for so long without a day that has none. An app that is younger has less to show.
fn reaches(part: (&'static str, &'static str), now_ms: u64, points_ms: &[u64], wanted_ms: u64) -> Finding {
    let mut reached = now_ms;
    for at in points_ms.iter().rev() {
        let (gap, ago) = (reached.saturating_sub(*at), now_ms.saturating_sub(reached));
        if gap > OLD && ago < wanted_ms {
            let (gap, ago) = (gap / HOUR, ago / (24 * HOUR));
            let hole = words!(
                "for {gap} h no point was taken, {ago} days ago",
                "på {gap} t ble det ikke tatt noe punkt, for {ago} dager siden",
                "på {gap} h togs ingen punkt, för {ago} dagar sedan"
            );
            return Finding::broken(part, hole);
        }
        reached = *at;
    }
    let reached = now_ms.saturating_sub(reached);
    let (have, wanted) = (format!("{:.1}", reached as f64 / (24 * HOUR) as f64), wanted_ms / (24 * HOUR));
    let text = words!(
        "the points go back {have} of {wanted} days without a hole",
        "punktene går {have} av {wanted} dager tilbake uten hull",
        "punkterna går {have} av {wanted} dagar tillbaka utan lucka"
    );
    if reached >= wanted_ms { Finding::held(part, text) } else { Finding::unseen(part, text) }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::Saw;

    #[test]
    fn a_day_without_a_point_is_a_hole_and_a_young_app_has_none() {
        const PART: (&str, &str) = ("row", "part");
        // Hours ago, the oldest first; seven days are wanted.
        for (hours, expected) in [
            (&[][..], Saw::Unseen),
            (&[1], Saw::Unseen),
            (&[27], Saw::Broken), // none today
            (&[49, 25, 1], Saw::Unseen),
            (&[73, 25, 1], Saw::Broken),
            (&[169, 145, 121, 97, 73, 49, 25, 1], Saw::Held),
            (&[171, 145, 121, 97, 73, 49, 23], Saw::Held), // each one later than the day before
            (&[169, 145, 97, 73, 49, 25, 1], Saw::Broken),
            (&[300, 169, 145, 121, 97, 73, 49, 25, 1], Saw::Held), // long ago
        ] {
            let points: Vec<u64> = hours.iter().map(|hours| (1000 - hours) * HOUR).collect();
            let found = reaches(PART, 1000 * HOUR, &points, 7 * 24 * HOUR);
            assert_eq!(found.saw, expected, "{hours:?}: {}", found.because.en);
        }
    }
}
