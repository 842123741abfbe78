//! Rows that are made of other rows: nothing to look at, only to add up.

use crate::catalogue::{Catalogue, Category, Priority};
use crate::standing::{PartSaw, PartStanding, RowStanding, Standing};
use crate::words::Words;

/// A row, and those it is made of.
struct Made {
    row: &'static str,
    of: Of,
}

enum Of {
    These(&'static [&'static str]),
    /// All rows whose id begins so.
    Prefix(&'static str),
    /// All rows of these categories that weigh at least as much as a high one.
    Heavy(&'static [Category]),
}

/// In this order: a later one may be made of an earlier one.
const MADE: &[Made] = &[
    Made {
        row: "sec.audit",
        of: Of::These(&[
            "sec.sqli",
            "sec.xss",
            "sec.csrf",
            "sec.headers",
            "edge.tls",
            "edge.rate-limit",
            "sec.secrets",
            "deploy.stage.security",
        ]),
    },
    Made {
        row: "ready.success.error-handling",
        of: Of::These(&["err.exception-handling", "err.db-unavailable-503", "err.safe-500"]),
    },
    Made { row: "ready.success.daily-backups", of: Of::These(&["data.backup.daily"]) },
    Made { row: "ready.success.monitoring-works", of: Of::These(&["mon.metrics", "mon.alerting"]) },
    Made { row: "ready.success.recovery-tested", of: Of::These(&["data.backup.restore-test", "dr.drill"]) },
    Made { row: "ready.success.security-audit", of: Of::These(&["sec.audit", "sec.pentest"]) },
    Made { row: "ready.success.full-docs", of: Of::Prefix("docs.") },
    Made { row: "ready.phase.docs", of: Of::Prefix("docs.") },
    Made { row: "ready.phase.quality", of: Of::Heavy(&[Category::Testing, Category::Performance]) },
];

/// Fills in the rows that are made of others.
pub fn derive(catalogue: &Catalogue, rows: &mut [RowStanding]) {
    for made in MADE {
        let Some(row) = catalogue.get(made.row) else { continue };
        let parts: Vec<PartStanding> = rows
            .iter()
            .filter(|other| other.row != made.row && made.of.has(catalogue, &other.row))
            .map(|other| PartStanding {
                part: other.row.clone(),
                asks: catalogue.get(&other.row).map(|row| row.title.clone()).unwrap_or_default(),
                saw: saw(other.standing, other.value),
                because: other.standing.title(),
                check: None,
                when: None,
            })
            .collect();
        let attested = rows.iter().filter(|other| {
            other.row != made.row
                && made.of.has(catalogue, &other.row)
                && other.standing == Standing::Attested
        });
        let weakest = attested.map(|other| other.value).min();
        if let Some(place) = rows.iter_mut().find(|each| each.row == made.row) {
            *place = RowStanding::of(row, parts, place.attestation.take());
            // What rests on somebody's word is not proven, and worth no more than the weakest word.
            if let (Standing::Proven, Some(weakest)) = (place.standing, weakest) {
                place.standing = Standing::Attested;
                place.value = weakest;
            }
        }
    }
}

/// Whether a row is computed from others.
#[must_use]
pub fn is_made(row: &str) -> bool {
    MADE.iter().any(|made| made.row == row)
}

fn saw(standing: Standing, value: u32) -> PartSaw {
    match standing {
        Standing::Stale if value == 0 => PartSaw::Expired,
        // A waived row is not met, and a criterion made of it neither.
        Standing::Failing | Standing::Waived => PartSaw::Broken,
        Standing::Partial | Standing::Unknown => PartSaw::Unseen,
        Standing::Stale => PartSaw::Ageing,
        Standing::Attested | Standing::Proven => PartSaw::Held,
        Standing::NotApplicable => PartSaw::Inapplicable,
    }
}

impl Of {
    fn has(&self, catalogue: &Catalogue, row: &str) -> bool {
        match self {
            Self::These(rows) => rows.contains(&row),
            Self::Prefix(prefix) => row.starts_with(prefix),
            Self::Heavy(categories) => catalogue.get(row).is_some_and(|row| {
                categories.contains(&row.category)
                    && row.is_scored()
                    && !row.id.starts_with("ready.")
                    && row.weight() >= Priority::High.weight()
            }),
        }
    }
}

/// Says which rows a row is made of, for documentation.
#[must_use]
pub fn made_of(row: &str) -> Option<Words> {
    let made = MADE.iter().find(|made| made.row == row)?;
    Some(match made.of {
        Of::These(rows) => Words::same(rows.join(", ")),
        Of::Prefix(prefix) => Words::same(format!("{prefix}*")),
        Of::Heavy(categories) => {
            let name = |pick: fn(&Words) -> &String| {
                categories
                    .iter()
                    .map(|category| pick(&category.title()).clone())
                    .collect::<Vec<_>>()
                    .join(", ")
            };
            Words { en: name(|words| &words.en), nb: name(|words| &words.nb), sv: name(|words| &words.sv) }
        }
    })
}
