//! What is told: one value, computed from records alone, and the forms it can be written in.

use jiff::Timestamp;
use serde::Serialize;

use crate::catalogue::{Catalogue, Category};
use crate::check::Check;
use crate::evidence::Outcome;
use crate::roadmap::{Step, roadmap};
use crate::score::{CRITERIA, Score, Verdict, holds};
use crate::standing::{Records, RowStanding, Standing, standings};
use crate::words::{Lang, Words};

mod html;
mod machines;
mod markdown;
pub mod text;

/// All of it.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// What was looked at.
    pub target: String,
    /// The release that serves there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub release: Option<String>,
    /// As of when.
    pub at: Timestamp,
    /// The table.
    pub score: Score,
    /// READY or not.
    pub verdict: Verdict,
    /// The nine success criteria.
    pub criteria: Vec<Criterion>,
    /// How many scored rows stand how.
    pub counts: Vec<(Standing, usize)>,
    /// How many looks were erased from the ledger since.
    #[serde(skip_serializing_if = "is_zero")]
    pub erased: usize,
    /// Every row.
    pub rows: Vec<RowStanding>,
    /// What to do next.
    pub roadmap: Vec<Step>,
    /// Remaining working time of all that klar can see, in minutes.
    pub effort: u32,
}

/// One success criterion.
#[derive(Debug, Clone, Serialize)]
pub struct Criterion {
    /// The row that decides it.
    pub row: String,
    /// Its name.
    pub title: Words,
    /// Whether it is met.
    pub met: bool,
    /// How the row stands.
    pub standing: Standing,
}

impl Report {
    /// The report that these records give.
    #[must_use]
    pub fn of(catalogue: &Catalogue, checks: &[Check], records: &Records<'_>) -> Self {
        let rows = standings(catalogue, checks, records);
        let score = Score::of(catalogue, &rows);
        let verdict = score.verdict(catalogue, &rows);
        let criteria = CRITERIA.into_iter().filter_map(|id| {
            let row = catalogue.get(id)?;
            let standing =
                rows.iter().find(|row| row.row == id).map_or(Standing::Unknown, |row| row.standing);
            Some(Criterion { row: id.to_owned(), title: row.title.clone(), met: holds(standing), standing })
        });
        let scored = |row: &&RowStanding| catalogue.get(&row.row).is_some_and(|row| row.is_scored());
        let counts = Standing::ALL.map(|standing| {
            (standing, rows.iter().filter(scored).filter(|row| row.standing == standing).count())
        });
        let roadmap = roadmap(catalogue, &rows);
        Self {
            target: records.target.to_owned(),
            release: records.release.map(str::to_owned),
            at: records.at,
            erased: records.evidence.iter().filter(|seen| seen.outcome == Outcome::Erased).count(),
            criteria: criteria.collect(),
            counts: counts.into(),
            effort: roadmap.iter().map(|step| step.minutes).sum(),
            score,
            verdict,
            rows,
            roadmap,
        }
    }

    /// The standing of a row.
    #[must_use]
    pub fn row(&self, id: &str) -> Option<&RowStanding> {
        self.rows.iter().find(|row| row.row == id)
    }

    /// As JSON, with all three languages.
    ///
    /// # Errors
    /// Never, as far as is known: all keys are texts.
    pub fn json(&self) -> Result<String, serde_json::Error> {
        serde_json::to_string_pretty(self)
    }

    /// The rows of a category.
    pub fn of_category<'a>(
        &'a self,
        catalogue: &'a Catalogue,
        category: Category,
    ) -> impl Iterator<Item = &'a RowStanding> {
        self.rows
            .iter()
            .filter(move |row| catalogue.get(&row.row).is_some_and(|row| row.category == category))
    }
}

fn is_zero(number: &usize) -> bool {
    *number == 0
}

fn ready_word(ready: bool, lang: Lang) -> &'static str {
    if ready { lang.pick("READY", "KLAR", "KLAR") } else { lang.pick("NOT READY", "IKKE KLAR", "INTE KLAR") }
}
