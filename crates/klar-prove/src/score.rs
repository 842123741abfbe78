//! The table: eight categories, 80 points, and what keeps an app from READY.

use serde::Serialize;

use crate::catalogue::{Catalogue, Category, Priority, Row};
use crate::standing::{RowStanding, Standing};
use crate::words;
use crate::words::Words;

/// READY takes this many of the 80 points.
pub const ENOUGH: u32 = 72;
/// READY takes this many of the 10 points in each critical category.
pub const ENOUGH_CRITICAL: u32 = 8;
/// A category gets no more than this while one of its critical rows is at 0.
pub const CAP: u32 = 6;

/// The nine success criteria.
pub const CRITERIA: [&str; 9] = [
    "ready.success.coverage80",
    "ready.success.error-handling",
    "ready.success.daily-backups",
    "ready.success.monitoring-works",
    "ready.success.security-audit",
    "ready.success.load1000",
    "ready.success.full-docs",
    "ready.success.beta10",
    "ready.success.recovery-tested",
];

/// A line of the table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CategoryScore {
    /// Which.
    pub category: Category,
    /// A word for the number.
    pub status: Words,
    /// 0 to 10.
    pub score: u32,
    /// Its priority.
    pub priority: Priority,
    /// The row that holds the category at 6, if one does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub capped_by: Option<String>,
    /// Before rounding down and before the cap, in hundredths of a point.
    pub exact: u32,
}

/// The whole table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Score {
    /// Its lines.
    pub categories: Vec<CategoryScore>,
    /// Of 80.
    pub total: u32,
    /// Of 200: each category times 3, 2 or 1 by its priority.
    pub weighted: u32,
}

/// READY, or what is in the way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Verdict {
    /// Whether it is.
    pub ready: bool,
    /// All that is in the way.
    pub because: Vec<Words>,
}

impl Score {
    /// The score of these rows.
    #[must_use]
    pub fn of(catalogue: &Catalogue, rows: &[RowStanding]) -> Self {
        Self::table(
            Category::SCORED
                .into_iter()
                .map(|category| CategoryScore::of(category, catalogue, rows))
                .collect(),
        )
    }

    /// Adds the lines up.
    #[must_use]
    pub fn table(categories: Vec<CategoryScore>) -> Self {
        let total = categories.iter().map(|line| line.score).sum();
        let weighted = categories.iter().map(|line| line.score * line.priority.weight()).sum();
        Self { categories, total, weighted }
    }

    /// Of 80, in tenths of a percent.
    #[must_use]
    pub fn permille(&self) -> u32 {
        self.total * 1000 / 80
    }

    /// Whether the app is ready, and if not, why not.
    #[must_use]
    pub fn verdict(&self, catalogue: &Catalogue, rows: &[RowStanding]) -> Verdict {
        let mut because = Vec::new();
        let total = self.total;
        if total < ENOUGH {
            because.push(words!(
                "{total} of 80 points; {ENOUGH} are needed",
                "{total} av 80 poeng; {ENOUGH} trengs",
                "{total} av 80 poäng; {ENOUGH} behövs"
            ));
        }
        for line in &self.categories {
            if line.priority == Priority::Critical && line.score < ENOUGH_CRITICAL {
                let Words { en, nb, sv } = line.category.title();
                let score = line.score;
                because.push(words!(
                    "{en}: {score} of 10; a critical category needs {ENOUGH_CRITICAL}",
                    "{nb}: {score} av 10; en kritisk kategori trenger {ENOUGH_CRITICAL}",
                    "{sv}: {score} av 10; en kritisk kategori behöver {ENOUGH_CRITICAL}"
                ));
            }
        }
        for criterion in CRITERIA {
            let standing =
                rows.iter().find(|row| row.row == criterion).map_or(Standing::Unknown, |row| row.standing);
            if !holds(standing) {
                let title = catalogue.get(criterion).map(|row| row.title.clone()).unwrap_or_default();
                because.push(title.and(&Words::same(": ")).and(&standing.title()));
            }
        }
        Verdict { ready: because.is_empty(), because }
    }
}

/// Whether a success criterion that stands so is met.
#[must_use]
pub fn holds(standing: Standing) -> bool {
    matches!(standing, Standing::Proven | Standing::Attested)
}

impl CategoryScore {
    fn of(category: Category, catalogue: &Catalogue, rows: &[RowStanding]) -> Self {
        let counted: Vec<(&Row, &RowStanding)> = rows
            .iter()
            .filter_map(|standing| Some((catalogue.get(&standing.row)?, standing)))
            .filter(|(row, standing)| {
                row.category == category && row.is_scored() && standing.standing != Standing::NotApplicable
            })
            .collect();
        let whole: u32 = counted.iter().map(|(row, _)| row.weight()).sum();
        let earned: u32 = counted.iter().map(|(row, standing)| row.weight() * standing.value).sum();
        // 10 points are 1000 hundredths; values are hundredths themselves.
        let exact = (earned * 10).checked_div(whole).unwrap_or(0);
        let capped_by = counted
            .iter()
            .find(|(row, standing)| {
                row.priority == Priority::Critical
                    && standing.value == 0
                    && standing.standing != Standing::Waived
            })
            .map(|(row, _)| row.id.clone());
        let uncapped = exact / 100;
        let score = if capped_by.is_some() { uncapped.min(CAP) } else { uncapped };
        let looked = counted.iter().any(|(_, standing)| standing.standing != Standing::Unknown);
        Self {
            category,
            status: status(score, looked),
            score,
            priority: category.priority(),
            capped_by: capped_by.filter(|_| uncapped > CAP),
            exact,
        }
    }
}

fn status(score: u32, looked: bool) -> Words {
    match score {
        _ if !looked => words!("Untested", "Ikke testet", "Ej testat"),
        0 => words!("None", "Ingen", "Ingen"),
        1..=3 => words!("Partial", "Delvis", "Delvis"),
        4..=6 => words!("Basic", "Grunnleggende", "Grundläggande"),
        7..=8 => words!("Good", "God", "God"),
        _ => words!("Proven", "Bevist", "Bevisad"),
    }
}
