//! What to do next, in the order that helps most.

use serde::Serialize;

use crate::catalogue::{Catalogue, Category, Priority, Row};
use crate::score::CAP;
use crate::standing::{PartSaw, PartStanding, RowStanding, Standing};
use crate::words;
use crate::words::Words;

/// A stretch of the way to READY.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// What is critical and was seen to be wrong.
    StopTheBleeding,
    /// What is critical and not shown yet.
    BeforeLaunch,
    /// What weighs less.
    SoonAfter,
    /// What klar cannot see yet: people sign for it, or it waits.
    OutOfSight,
}

/// One thing to do.
#[derive(Debug, Clone, Serialize)]
pub struct Step {
    /// When.
    pub phase: Phase,
    /// The row it settles.
    pub row: String,
    /// Its name.
    pub title: Words,
    /// Where it counts.
    pub category: Category,
    /// Its weight.
    pub priority: Priority,
    /// How it stands.
    pub standing: Standing,
    /// What was seen to be wrong, or what is missing.
    pub problem: Words,
    /// What happens if it is left so.
    pub risk: Words,
    /// What it costs in the score.
    pub impact: Words,
    /// What to do first.
    pub fix: Words,
    /// Working time, as it is written: `4h`.
    pub effort: String,
    /// The same in minutes.
    pub minutes: u32,
    /// What it would bring, in hundredths of a point, before rounding.
    pub points: u32,
}

/// Everything that is not proven yet, in the order in which to do it.
#[must_use]
pub fn roadmap(catalogue: &Catalogue, rows: &[RowStanding]) -> Vec<Step> {
    let weight_of = |category: Category| -> u32 {
        rows.iter()
            .filter(|row| row.standing != Standing::NotApplicable)
            .filter_map(|row| catalogue.get(&row.row))
            .filter(|row| row.category == category && row.is_scored())
            .map(Row::weight)
            .sum()
    };
    let whole: Vec<(Category, u32)> = Category::SCORED.map(|category| (category, weight_of(category))).into();
    let mut steps: Vec<Step> = rows
        .iter()
        .filter_map(|standing| Some((catalogue.get(&standing.row)?, standing)))
        .filter(|(row, standing)| {
            row.is_scored() && standing.value < 100 && standing.standing != Standing::NotApplicable
        })
        .map(|(row, standing)| {
            let whole =
                whole.iter().find(|(category, _)| *category == row.category).map_or(1, |(_, whole)| *whole);
            Step::of(row, standing, row.weight() * (100 - standing.value) * 10 / whole.max(1))
        })
        .collect();
    // Points for an hour of work; what costs nothing comes first.
    let worth = |step: &Step| u64::from(step.points) * 60_000 / u64::from(step.minutes.max(1));
    steps.sort_by(|a, b| (a.phase, worth(b), &a.row).cmp(&(b.phase, worth(a), &b.row)));
    steps
}

impl Step {
    fn of(row: &Row, standing: &RowStanding, points: u32) -> Self {
        let wrong =
            standing.parts.iter().filter(|part| part.saw != PartSaw::Held).min_by_key(|part| part.saw);
        let problem = wrong.map_or_else(
            || standing.standing.title(),
            |part| {
                if part.saw == PartSaw::Broken {
                    part.because.clone()
                } else {
                    let Words { en, nb, sv } = part.asks.clone();
                    let Words { en: e, nb: n, sv: s } = part.because.clone();
                    words!("not shown: {en} ({e})", "ikke vist: {nb} ({n})", "inte visat: {sv} ({s})")
                }
            },
        );
        let caps = row.priority == Priority::Critical && standing.value == 0;
        let gain = hundredths(points);
        let Words { en, nb, sv } = row.category.title();
        let impact = if caps {
            words!(
                "{gain} points, and {en} gets {CAP} of 10 at most",
                "{gain} poeng, og {nb} får høyst {CAP} av 10",
                "{gain} poäng, och {sv} får högst {CAP} av 10"
            )
        } else {
            words!("{gain} points in {en}", "{gain} poeng i {nb}", "{gain} poäng i {sv}")
        };
        // What is left to see, klar must be able to see.
        let left = |part: &&PartStanding| !matches!(part.saw, PartSaw::Held | PartSaw::Inapplicable);
        let seen = standing.parts.iter().filter(left).any(|part| part.saw != PartSaw::NoProbe);
        let phase = match (standing.standing, row.priority, row.weight()) {
            (Standing::Failing, Priority::Critical, _) => Phase::StopTheBleeding,
            _ if !seen => Phase::OutOfSight,
            (_, _, 3) => Phase::BeforeLaunch,
            _ => Phase::SoonAfter,
        };
        Self {
            phase,
            row: row.id.clone(),
            title: row.title.clone(),
            category: row.category,
            priority: row.priority,
            standing: standing.standing,
            problem,
            risk: row.risk.clone(),
            impact,
            fix: row.fix.clone(),
            effort: row.effort.clone(),
            minutes: minutes(&row.effort),
            points,
        }
    }
}

impl Phase {
    /// All, in order.
    pub const ALL: [Self; 4] = [Self::StopTheBleeding, Self::BeforeLaunch, Self::SoonAfter, Self::OutOfSight];

    /// Its headline.
    #[must_use]
    pub fn title(self) -> Words {
        match self {
            Self::StopTheBleeding => words!("Stop the bleeding", "Stopp blødningen", "Stoppa blödningen"),
            Self::BeforeLaunch => words!("Before launch", "Før lansering", "Före lansering"),
            Self::SoonAfter => words!("Soon after", "Like etter", "Strax efter"),
            Self::OutOfSight => {
                words!(
                    "Out of klar's sight so far",
                    "Utenfor klars syn ennå",
                    "Utom klars synhåll än så länge"
                )
            }
        }
    }
}

/// `4h` in minutes: a day has 8 hours, a week 5 days.
#[must_use]
pub fn minutes(effort: &str) -> u32 {
    let (number, unit) = effort.split_at(effort.len().saturating_sub(1));
    let unit = match unit {
        "m" => 1,
        "h" => 60,
        "d" => 8 * 60,
        "w" => 5 * 8 * 60,
        _ => 0,
    };
    number.parse::<u32>().unwrap_or(0).saturating_mul(unit)
}

/// Hundredths as a decimal: `1.25`.
#[must_use]
pub fn hundredths(value: u32) -> String {
    format!("{}.{:02}", value / 100, value % 100)
}
