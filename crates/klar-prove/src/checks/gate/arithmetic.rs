//! The score, computed from examples that were worked out by hand: whoever believes the score can see that this klar
//! adds up as it says.

use std::rc::Rc;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::catalogue::{Catalogue, Category, Part, Priority, Row, Who};
use crate::check::{About, Disturbs, Fault, Finding, Probe, Unable};
use crate::evidence::{Attestation, Says};
use crate::own::NOTHING;
use crate::report::Report;
use crate::roadmap::{minutes, roadmap};
use crate::score::{CategoryScore, Score};
use crate::standing::{Records, RowStanding, Standing};
use crate::words;
use crate::words::Words;
use crate::world::World;

/// klar's own sums.
pub struct Arithmetic;

/// What came out.
#[derive(Debug, Serialize, Deserialize)]
pub struct Seen {
    categories: Vec<Sums>,
    /// Of the table that the users began with: total, tenths of a percent, weighted.
    baseline: (u32, u32, u32),
    /// The lines of that table as they are printed.
    lines: usize,
    /// Whether 71 and 72 points are enough.
    enough: (bool, bool),
    /// The remaining effort of the example, and the sum of its parts, in minutes.
    effort: (u32, u32),
}

/// The example in one category, in hundredths of a point.
#[derive(Debug, Serialize, Deserialize)]
struct Sums {
    category: String,
    /// As it stands.
    exact: u32,
    /// With rows that are made of others beside it.
    beside: u32,
    /// With the failing row mended.
    mended: u32,
    /// Two rows, the critical one of them vouched for, from records.
    direct: u32,
    /// The same from records that were written down and read again.
    again: u32,
}

/// A row and its four parts: which rows count, the example, what a change does, and the same from a file.
type Place = (Category, &'static str, [&'static str; 4]);

const INPUTS: [&str; 4] = ["inputs", "fixture", "sensitivity", "offline"];
const ROWS: [&str; 4] = ["rows", "by-hand", "moves", "offline"];
const GOLDEN: [&str; 4] = ["rows", "golden", "change", "offline"];
const PLACES: [Place; 8] = [
    (Category::Testing, "ready.score.testing", INPUTS),
    (Category::ErrorHandling, "ready.score.error-handling", INPUTS),
    (Category::Security, "ready.score.security", INPUTS),
    (Category::Monitoring, "ready.score.monitoring", ROWS),
    (Category::Backup, "ready.score.backup", ROWS),
    (Category::Performance, "ready.score.performance", ROWS),
    (Category::Documentation, "ready.score.documentation", GOLDEN),
    (Category::Scalability, "ready.score.scalability", GOLDEN),
];

/// A critical row that is proven (3 of 3), a high one that is partial (0.6 of 2), a medium one that fails (0 of 1):
/// 10 * 3.6 / 6.
const BY_HAND: u32 = 600;
/// The same with the medium row proven: 10 * 4.6 / 6.
const MENDED: u32 = 766;
/// 14 of 80, 17.5 %, and 33 of 200.
const BASELINE: (u32, u32, u32) = (14, 175, 33);
const BASELINE_LINES: [u32; 8] = [0, 3, 0, 4, 0, 2, 3, 2];

impl Probe for Arithmetic {
    type Seen = Seen;

    const ABOUT: About = About {
        id: "arithmetic",
        version: 1,
        question: "Does this klar compute the score as it says?",
        does: "Computes examples that were worked out by hand: one in each category, the table of the users' own checklist, 71 and 72 points, and the sum of efforts.",
        shows: &[
            ("ready.score.testing", "inputs"),
            ("ready.score.testing", "fixture"),
            ("ready.score.testing", "sensitivity"),
            ("ready.score.testing", "offline"),
            ("ready.score.error-handling", "inputs"),
            ("ready.score.error-handling", "fixture"),
            ("ready.score.error-handling", "sensitivity"),
            ("ready.score.error-handling", "offline"),
            ("ready.score.security", "inputs"),
            ("ready.score.security", "fixture"),
            ("ready.score.security", "sensitivity"),
            ("ready.score.security", "offline"),
            ("ready.score.monitoring", "rows"),
            ("ready.score.monitoring", "by-hand"),
            ("ready.score.monitoring", "moves"),
            ("ready.score.monitoring", "offline"),
            ("ready.score.backup", "rows"),
            ("ready.score.backup", "by-hand"),
            ("ready.score.backup", "moves"),
            ("ready.score.backup", "offline"),
            ("ready.score.performance", "rows"),
            ("ready.score.performance", "by-hand"),
            ("ready.score.performance", "moves"),
            ("ready.score.performance", "offline"),
            ("ready.score.documentation", "rows"),
            ("ready.score.documentation", "golden"),
            ("ready.score.documentation", "change"),
            ("ready.score.documentation", "offline"),
            ("ready.score.scalability", "rows"),
            ("ready.score.scalability", "golden"),
            ("ready.score.scalability", "change"),
            ("ready.score.scalability", "offline"),
            ("ready.score.total", "sum"),
            ("ready.score.total", "percent"),
            ("ready.score.total", "baseline"),
            ("ready.score.table", "baseline"),
            ("ready.score.table", "table"),
            ("ready.score.target90", "below"),
            ("ready.score.target90", "reached"),
            ("ready.plan-estimate", "sum"),
        ],
        needs: &[],
        disturbs: Disturbs::Nothing,
        good_for: Duration::from_secs(24 * 3600),
        limit: Duration::from_secs(10),
        faults: &[
            Fault::Foil("miscounts", ("ready.score.security", "fixture")),
            Fault::Foil("miscounts", ("ready.score.total", "sum")),
            Fault::Foil("miscounts", ("ready.score.target90", "below")),
            Fault::Foil("miscounts", ("ready.plan-estimate", "sum")),
        ],
    };

    async fn look(world: Rc<World>) -> Result<Seen, Unable> {
        let off = u32::from(world.miscounts);
        let categories = PLACES.map(|(category, ..)| sums(category, off)).into();
        let score = Score::table(table(&BASELINE_LINES));
        let lines = score.categories.len();
        let is_enough = |first: u32| {
            let score = Score::table(table(&[first + off, 9, 9, 9, 9, 9, 9, 9]));
            let verdict = score.verdict(&Catalogue::new(Vec::new()), &[]);
            !verdict.because.iter().any(|why| why.en.contains("of 80 points"))
        };
        let (rows, standings) = example(Category::Security, Standing::Failing, 0);
        let steps = roadmap(&Catalogue::new(rows.clone()), &standings);
        let told: u32 = steps.iter().map(|step| step.minutes).sum();
        let open =
            rows.iter().zip(&standings).filter(|(row, standing)| row.is_scored() && standing.value < 100);
        Ok(Seen {
            categories,
            baseline: (score.total + off, score.permille(), score.weighted),
            lines,
            enough: (is_enough(8), is_enough(9)),
            effort: (told + off, open.map(|(row, _)| minutes(&row.effort)).sum()),
        })
    }

    fn judge(seen: &Seen) -> Vec<Finding> {
        let mut found = Vec::new();
        for (sums, (_, row, parts)) in seen.categories.iter().zip(PLACES) {
            let Sums { exact, beside, mended, direct, again, .. } = sums;
            let told = |got: u32, wanted: u32| Words::same(format!("{got} = {wanted}"));
            for (part, (got, wanted)) in parts.into_iter().zip([
                (*beside, BY_HAND),
                (*exact, BY_HAND),
                (*mended, MENDED),
                (*again, *direct),
            ]) {
                found.push(Finding::when(got == wanted, (row, part), told(got, wanted)));
            }
        }
        let (total, permille, weighted) = seen.baseline;
        let table = words!(
            "{total} of 80, {weighted} of 200",
            "{total} av 80, {weighted} av 200",
            "{total} av 80, {weighted} av 200"
        );
        let sum: u32 = BASELINE_LINES.iter().sum();
        found.push(Finding::when(total == sum, ("ready.score.total", "sum"), table.clone()));
        found.push(Finding::when(
            permille == BASELINE.1,
            ("ready.score.total", "percent"),
            Words::same(format!("{permille} ‰")),
        ));
        found.push(Finding::when(
            seen.baseline == BASELINE,
            ("ready.score.total", "baseline"),
            table.clone(),
        ));
        found.push(Finding::when(
            seen.baseline == BASELINE,
            ("ready.score.table", "baseline"),
            table.clone(),
        ));
        found.push(Finding::when(seen.lines == 8, ("ready.score.table", "table"), table));
        let (below, reached) = seen.enough;
        let limit = words!(
            "71 points: {below}, 72 points: {reached}",
            "71 poeng: {below}, 72 poeng: {reached}",
            "71 poäng: {below}, 72 poäng: {reached}"
        );
        found.push(Finding::when(!below, ("ready.score.target90", "below"), limit.clone()));
        found.push(Finding::when(reached, ("ready.score.target90", "reached"), limit));
        let (told, wanted) = seen.effort;
        found.push(Finding::when(
            told == wanted,
            ("ready.plan-estimate", "sum"),
            Words::same(format!("{told} = {wanted} min")),
        ));
        found
    }
}

fn sums(category: Category, off: u32) -> Sums {
    let score = |standing, value, beside: bool| {
        let (mut rows, mut standings) = example(category, standing, value);
        if beside {
            for id in ["ready.score.example", "ready.success.example"] {
                rows.push(row(id, category, Priority::Critical));
                standings.push(stands(id, Standing::Failing, 0));
            }
        }
        let score = Score::of(&Catalogue::new(rows), &standings);
        score.categories.into_iter().find(|line| line.category == category).map_or(0, |line| line.exact)
    };
    let exact = score(Standing::Failing, 0, false) + off;
    Sums {
        category: category.title().en,
        exact,
        beside: score(Standing::Failing, 0, true) + off,
        mended: score(Standing::Proven, 100, false) + off,
        direct: from_records(category, &signatures()) + off,
        again: through_a_file(&signatures()).map_or(0, |read| from_records(category, &read)),
    }
}

/// Two rows that people vouch for, a critical and a high one: 10 * 3 / 5 with a signature for the first.
fn from_records(category: Category, attestations: &[Attestation]) -> u32 {
    let human = |id, priority| Row { who: Who::Human, ..row(id, category, priority) };
    let catalogue = Catalogue::new(vec![human("a", Priority::Critical), human("b", Priority::High)]);
    let at = Timestamp::UNIX_EPOCH;
    let records = Records {
        target: "example",
        release: None,
        at,
        evidence: &[],
        controls: &[],
        attestations,
        declared: &NOTHING,
    };
    let score = Report::of(&catalogue, &[], &records).score;
    score.categories.into_iter().find(|line| line.category == category).map_or(0, |line| line.exact)
}

fn signatures() -> Vec<Attestation> {
    vec![Attestation {
        target: "example".to_owned(),
        row: "a".to_owned(),
        says: Says::Holds,
        by: "Kari".to_owned(),
        until: jiff::civil::date(1970, 1, 2),
        document: None,
        digest: None,
        note: None,
    }]
}

fn through_a_file(attestations: &[Attestation]) -> Option<Vec<Attestation>> {
    serde_json::from_str(&serde_json::to_string(attestations).ok()?).ok()
}

fn example(category: Category, last: Standing, value: u32) -> (Vec<Row>, Vec<RowStanding>) {
    let rows = [("a", Priority::Critical), ("b", Priority::High), ("c", Priority::Medium)];
    let rows = rows.map(|(id, priority)| row(id, category, priority)).into();
    let standings = vec![
        stands("a", Standing::Proven, 100),
        stands("b", Standing::Partial, 30),
        stands("c", last, value),
    ];
    (rows, standings)
}

fn row(id: &str, category: Category, priority: Priority) -> Row {
    Row {
        id: id.to_owned(),
        category,
        priority,
        who: Who::Klar,
        effort: "2h".to_owned(),
        sign: None,
        sign_days: None,
        title: Words::same(id),
        risk: Words::default(),
        fix: Words::default(),
        proof: vec![Part { id: "one".to_owned(), text: Words::default() }],
    }
}

fn stands(id: &str, standing: Standing, value: u32) -> RowStanding {
    RowStanding { row: id.to_owned(), standing, value, parts: Vec::new(), attestation: None }
}

fn table(scores: &[u32; 8]) -> Vec<CategoryScore> {
    let line = |(category, score): (Category, &u32)| CategoryScore {
        category,
        status: Words::default(),
        score: *score,
        priority: category.priority(),
        capped_by: None,
        exact: *score * 100,
    };
    Category::SCORED.into_iter().zip(scores).map(line).collect()
}
