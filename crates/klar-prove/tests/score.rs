//! The score is the formula, and nothing but the formula.

#![allow(clippy::unwrap_used, missing_docs)]

use jiff::Timestamp;
use klar_prove::catalogue::{Catalogue, Category, Part, Priority, Row, Who};
use klar_prove::check::{About, Check, Disturbs, Fault, Finding, Probe, Unable};
use klar_prove::evidence::{Attestation, Control, Evidence, Outcome, Place, Says};
use klar_prove::own::NOTHING;
use klar_prove::report::Report;
use klar_prove::score::{CategoryScore, Score};
use klar_prove::standing::{Records, Standing};
use klar_prove::words::{Lang, Words};
use klar_prove::world::World;
use serde::{Deserialize, Serialize};
use std::rc::Rc;
use std::time::Duration;

const HOUR: i64 = 3600;

/// A check that sees what it is told; each field is one part of one row.
struct Told;

#[derive(Serialize, Deserialize)]
struct Parts {
    one: Option<bool>,
    two: Option<bool>,
    three: Option<bool>,
}

impl Probe for Told {
    type Seen = Parts;
    const ABOUT: About = About {
        id: "told",
        version: 2,
        question: "?",
        does: "-",
        shows: &[("a", "one"), ("a", "two"), ("b", "three")],
        needs: &[],
        disturbs: Disturbs::Nothing,
        good_for: Duration::from_secs(24 * 3600),
        limit: Duration::from_secs(1),
        faults: &[Fault::Foil("no-csp", ("a", "one"))],
    };

    async fn look(_: Rc<World>) -> Result<Parts, Unable> {
        Ok(Parts { one: None, two: None, three: None })
    }

    fn judge(seen: &Parts) -> Vec<Finding> {
        let told = |place, value: Option<bool>| {
            let because = Words::same("told");
            value.map_or_else(
                || Finding::unseen(place, because.clone()),
                |good| Finding::when(good, place, because.clone()),
            )
        };
        vec![told(("a", "one"), seen.one), told(("a", "two"), seen.two), told(("b", "three"), seen.three)]
    }
}

fn row(id: &str, category: Category, priority: Priority, who: Who, parts: &[&str]) -> Row {
    let part = |id: &&str| Part { id: (*id).to_owned(), text: Words::same(*id) };
    Row {
        id: id.to_owned(),
        category,
        priority,
        who,
        effort: "1h".to_owned(),
        sign: None,
        sign_days: None,
        title: Words::same(id),
        risk: Words::same("risk"),
        fix: Words::same("fix"),
        proof: parts.iter().map(part).collect(),
    }
}

/// Security: a critical row of two parts (3), a medium one of one part (1), a human one without priority (3, as its
/// category is critical). 7 in all.
fn catalogue() -> Catalogue {
    Catalogue::new(vec![
        row("a", Category::Security, Priority::Critical, Who::Klar, &["one", "two"]),
        row("b", Category::Security, Priority::Medium, Who::Klar, &["three"]),
        row("c", Category::Security, Priority::None, Who::Human, &[]),
        row("ready.score.security", Category::Security, Priority::Critical, Who::Klar, &["x"]),
    ])
}

fn time(hours: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + hours * HOUR).unwrap()
}

fn seen(one: Option<bool>, two: Option<bool>, three: Option<bool>) -> Evidence {
    Evidence {
        check: "told".into(),
        version: 2,
        target: "shop.prod".into(),
        release: Some("r1".into()),
        place: Place::Target,
        began: time(0),
        ended: time(0),
        gave_up: false,
        outcome: Outcome::Seen(serde_json::to_value(Parts { one, two, three }).unwrap()),
    }
}

fn signed(row: &str, says: Says) -> Attestation {
    let until = "2027-02-01".parse().unwrap();
    Attestation {
        target: "shop.prod".into(),
        row: row.into(),
        says,
        by: "Kari".into(),
        until,
        document: None,
        digest: None,
        note: None,
    }
}

struct Case {
    evidence: Vec<Evidence>,
    attestations: Vec<Attestation>,
    controlled: bool,
    at: i64,
    release: &'static str,
}

impl Default for Case {
    fn default() -> Self {
        Self { evidence: Vec::new(), attestations: Vec::new(), controlled: true, at: 1, release: "r1" }
    }
}

impl Case {
    fn report(&self) -> Report {
        let missed = if self.controlled { vec![] } else { vec!["no-csp".to_owned()] };
        let controls = [Control { check: "told".into(), version: 2, planted: vec!["no-csp".into()], missed }];
        let records = Records {
            target: "shop.prod",
            release: Some(self.release),
            at: time(self.at),
            evidence: &self.evidence,
            controls: &controls,
            attestations: &self.attestations,
            declared: &NOTHING,
        };
        Report::of(&catalogue(), &[Check::of::<Told>()], &records)
    }

    fn security(&self) -> (u32, u32) {
        let report = self.report();
        let line = report.score.categories.iter().find(|line| line.category == Category::Security).unwrap();
        (line.score, line.exact)
    }

    fn standing(&self, row: &str) -> (Standing, u32) {
        let report = self.report();
        let row = report.row(row).unwrap();
        (row.standing, row.value)
    }
}

#[test]
fn nothing_seen_is_nothing_scored() {
    let case = Case::default();
    assert_eq!(case.security(), (0, 0));
    let report = case.report();
    assert_eq!(report.score.categories[3].status.en, "Untested");
    assert!(!report.verdict.ready);
}

#[test]
fn the_score_is_the_weighted_sum_rounded_down() {
    // (3 * 1 + 1 * 1 + 3 * 0) / 7 = 5.71
    let case = Case { evidence: vec![seen(Some(true), Some(true), Some(true))], ..Case::default() };
    assert_eq!(case.security(), (5, 571));
    // (3 * 0.3 + 1 * 1) / 7 = 2.71: a row of which a part was not seen is partial.
    let case = Case { evidence: vec![seen(Some(true), None, Some(true))], ..Case::default() };
    assert_eq!((case.security(), case.standing("a")), ((2, 271), (Standing::Partial, 30)));
    // One broken part makes the row fail, however good the others are: 1 / 7.
    let case = Case { evidence: vec![seen(Some(true), Some(false), Some(true))], ..Case::default() };
    assert_eq!((case.security(), case.standing("a")), ((1, 142), (Standing::Failing, 0)));
}

#[test]
fn a_critical_row_at_zero_holds_its_category_at_six() {
    let evidence = vec![seen(Some(false), None, Some(true))];
    let attestations = vec![signed("c", Says::Holds), signed("b", Says::Holds)];
    // (0 + 1 + 3) / 7 = 5.71 is below the cap already; without `a` in the sum it would not be.
    let case = Case { evidence, attestations, ..Case::default() };
    assert_eq!(case.security().0, 5);
    let rows = vec![
        row("a", Category::Security, Priority::Critical, Who::Klar, &["one"]),
        row("c", Category::Security, Priority::None, Who::Human, &[]),
        row("d", Category::Security, Priority::None, Who::Human, &[]),
        row("e", Category::Security, Priority::None, Who::Human, &[]),
    ];
    let attestations: Vec<_> = ["c", "d", "e"].map(|row| signed(row, Says::Holds)).into();
    let score = |attestations: &[Attestation]| {
        let records = Records {
            target: "shop.prod",
            release: None,
            at: time(1),
            evidence: &[],
            controls: &[],
            attestations,
            declared: &NOTHING,
        };
        Report::of(&Catalogue::new(rows.clone()), &[], &records).score.categories[3].clone()
    };
    // 9 / 12 = 7.5
    let capped = score(&attestations);
    assert_eq!((capped.score, capped.exact, capped.capped_by.as_deref()), (6, 750, Some("a")));
    // Accepted by somebody: still 0, but it holds nothing down.
    let accepted = [&attestations[..], &[signed("a", Says::Accepted)]].concat();
    assert_eq!((score(&accepted).score, score(&accepted).capped_by), (7, None));
    // Not applicable: out of the sum. 9 / 9.
    let without = [&attestations[..], &[signed("a", Says::NotApplicable)]].concat();
    assert_eq!(score(&without).score, 10);
}

#[test]
fn evidence_ages() {
    let evidence = vec![seen(Some(true), Some(true), Some(true))];
    for (hours, standing) in [
        (0, (Standing::Proven, 100)),
        (24, (Standing::Proven, 100)),
        (25, (Standing::Stale, 70)),
        (48, (Standing::Stale, 70)),
        (49, (Standing::Stale, 0)),
    ] {
        let case = Case { evidence: evidence.clone(), at: hours, ..Case::default() };
        assert_eq!(case.standing("b"), standing, "after {hours} h");
    }
    // What was broken stays broken until somebody looks again.
    let case = Case { evidence: vec![seen(None, None, Some(false))], at: 1000, ..Case::default() };
    assert_eq!(case.standing("b"), (Standing::Failing, 0));
    // Evidence from the future is not there yet.
    let case = Case { evidence, at: -1, ..Case::default() };
    assert_eq!(case.standing("b"), (Standing::Unknown, 0));
}

#[test]
fn evidence_is_of_a_release_a_place_and_a_version() {
    let good = seen(Some(true), Some(true), Some(true));
    let rig = Evidence { place: Place::Rig, ..good.clone() };
    for (evidence, release, standing) in [
        (&good, "r1", (Standing::Proven, 100)),
        (&good, "r2", (Standing::Stale, 70)),
        (&rig, "r1", (Standing::Proven, 100)),
        (&rig, "r2", (Standing::Stale, 70)),
    ] {
        let case = Case { evidence: vec![evidence.clone()], release, ..Case::default() };
        assert_eq!(case.standing("b"), standing, "{:?} {release}", evidence.place);
    }
    for other in [
        Evidence { version: 1, ..good.clone() },
        Evidence { target: "shop.staging".into(), ..good.clone() },
        Evidence { outcome: Outcome::Seen(serde_json::json!({ "one": 7 })), ..good.clone() },
    ] {
        let case = Case { evidence: vec![other], ..Case::default() };
        assert_eq!(case.standing("b"), (Standing::Unknown, 0));
    }
    // That it could not look today does not undo what it saw yesterday.
    let unable = Evidence { ended: time(1), outcome: Outcome::Unable(Words::same("no")), ..good.clone() };
    let after = |last: Evidence| Case { evidence: vec![good.clone(), last], at: 2, ..Case::default() };
    assert_eq!(after(unable.clone()).standing("b"), (Standing::Proven, 100));
    // That it looked and came to nothing does: what was seen before is not as good as new, and says so.
    let gave_up = Evidence { gave_up: true, ..unable };
    assert_eq!(after(gave_up.clone()).standing("b"), (Standing::Stale, 70));
    let report = after(gave_up.clone()).report();
    let because = &report.row("b").unwrap().parts[0].because.en;
    assert!(because.ends_with("seen before, and then: no"), "{because}");
    // Elsewhere, or before: no.
    assert_eq!(
        after(Evidence { place: Place::Rig, ..gave_up.clone() }).standing("b"),
        (Standing::Proven, 100)
    );
    let again = Evidence { ended: time(2), ..good.clone() };
    let case = Case { evidence: vec![good.clone(), gave_up.clone(), again], at: 2, ..Case::default() };
    assert_eq!(case.standing("b"), (Standing::Proven, 100));
    // What was broken is no better for it, and records of before the field are read as they were.
    let broken = Evidence { outcome: seen(None, None, Some(false)).outcome, ..good.clone() };
    let case = Case { evidence: vec![broken, gave_up.clone()], at: 2, ..Case::default() };
    assert_eq!(case.standing("b"), (Standing::Failing, 0));
    let mut old = serde_json::to_value(&gave_up).unwrap();
    assert_eq!(old.as_object_mut().unwrap().remove("gave_up"), Some(true.into()));
    assert!(!serde_json::from_value::<Evidence>(old).unwrap().gave_up);
    assert!(!serde_json::to_string(&good).unwrap().contains("gave_up"));
}

#[test]
fn a_pass_of_a_check_that_missed_its_planted_fault_does_not_count() {
    let evidence = vec![seen(Some(true), Some(false), Some(true))];
    let case = Case { evidence, controlled: false, ..Case::default() };
    assert_eq!(case.standing("b"), (Standing::Unknown, 0));
    // What it saw to be wrong still does.
    assert_eq!(case.standing("a"), (Standing::Failing, 0));
}

#[test]
fn signatures_end_and_never_look_like_proof() {
    let with = |says, row: &str, at| Case { attestations: vec![signed(row, says)], at, ..Case::default() };
    assert_eq!(with(Says::Holds, "c", 1).standing("c"), (Standing::Attested, 100));
    assert_eq!(with(Says::Holds, "b", 1).standing("b"), (Standing::Attested, 70));
    let end = (Timestamp::constant(1_801_440_000, 0).as_second() - 1_800_000_000) / HOUR + 24 * 60;
    assert_eq!(with(Says::Holds, "c", end).standing("c"), (Standing::Unknown, 0));
    // A signature does not cover what was seen to be wrong.
    let case = Case {
        evidence: vec![seen(None, None, Some(false))],
        attestations: vec![signed("b", Says::Holds)],
        ..Case::default()
    };
    assert_eq!(case.standing("b"), (Standing::Failing, 0));
}

/// The table that the whole thing began with: its numbers and its own words for them.
#[test]
fn the_baseline_gives_14_of_80() {
    #[derive(Deserialize)]
    struct Line {
        category: Category,
        status: String,
        score: u32,
    }
    let lines: Vec<Line> = serde_json::from_str(include_str!("fixtures/baseline.json")).unwrap();
    let line = |line: Line| CategoryScore {
        category: line.category,
        status: Words::same(line.status),
        score: line.score,
        priority: line.category.priority(),
        capped_by: None,
        exact: line.score * 100,
    };
    let score = Score::table(lines.into_iter().map(line).collect());
    assert_eq!((score.total, score.permille(), score.weighted), (14, 175, 33));
    let verdict = score.verdict(&Catalogue::new(Vec::new()), &[]);
    assert!(!verdict.ready && verdict.because[0].en.contains("14 of 80"));
}

#[test]
fn the_same_records_give_the_same_report_byte_for_byte() {
    let case = Case {
        evidence: vec![seen(Some(true), Some(false), Some(true))],
        attestations: vec![signed("c", Says::Holds)],
        ..Case::default()
    };
    let forms = |report: &Report| {
        let catalogue = catalogue();
        let texts = Lang::ALL.map(|lang| {
            [report.markdown(&catalogue, lang), report.html(&catalogue, lang), report.junit(&catalogue, lang)]
                .concat()
        });
        texts.concat() + &report.json().unwrap() + &report.sarif(&catalogue, Lang::En).to_string()
    };
    assert_eq!(forms(&case.report()), forms(&case.report()));
    insta::assert_snapshot!(case.report().markdown(&catalogue(), Lang::Nb));
}
