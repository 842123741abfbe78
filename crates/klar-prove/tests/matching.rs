//! Items of whole lists find their rows, and what klar cannot know is declined.
//!
//! A folder of lists has an `answers.tsv`: file, line, the rows that are right (`-`: must be declined), a note.

#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use klar_prove::catalogue::Catalogue;
use klar_prove::checklist::matching::{Match, Matcher};
use klar_prove::checklist::{Item, read};
use klar_prove::words::Lang;

/// The folders of lists that a plain clone has.
const FOLDERS: &[&str] = &["tests/fixtures/checklists"];

/// What is right for a line of a file; nothing where it must be declined.
type Answers = BTreeMap<(String, usize), BTreeSet<String>>;

#[derive(Default)]
struct Outcome {
    matched: usize,
    wrong: usize,
    missed: usize,
    told: String,
}

fn here(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn answers(folder: &Path) -> Answers {
    let text = std::fs::read_to_string(folder.join("answers.tsv")).unwrap();
    let lines = text.lines().skip(1).map(|line| line.split('\t').collect::<Vec<_>>());
    let rows = |text: &str| text.split(',').filter(|id| *id != "-").map(str::to_owned).collect();
    lines.map(|line| ((line[0].to_owned(), line[1].parse().unwrap()), rows(line[2]))).collect()
}

/// Every box that there is an answer for. One that is rightly declined counts as matched.
fn run(folder: &Path, answers: &Answers) -> Outcome {
    let mut outcome = Outcome::default();
    let files: BTreeSet<&str> = answers.keys().map(|(file, _)| file.as_str()).collect();
    for file in files {
        let list = read(&std::fs::read(folder.join(file)).unwrap()).unwrap();
        let mut lines: BTreeSet<usize> =
            answers.keys().filter(|(name, _)| name == file).map(|(_, line)| *line).collect();
        for item in &list.items {
            let Some(right) = answers.get(&(file.to_owned(), item.line)) else { continue };
            lines.remove(&item.line);
            let explained = Matcher::built_in().explain(item, list.language);
            let verdict = match &explained.found {
                Match::Rows(rows) if !rows.is_empty() && rows.iter().all(|row| right.contains(row)) => {
                    "right"
                }
                Match::Rows(_) => "WRONG",
                Match::Declined { closest } => {
                    assert!(closest.iter().all(|id| Catalogue::built_in().get(id).is_some()), "{closest:?}");
                    if right.is_empty() { "right" } else { "missed" }
                }
            };
            match verdict {
                "right" => outcome.matched += 1,
                "WRONG" => outcome.wrong += 1,
                _ => outcome.missed += 1,
            }
            if verdict != "right" {
                let line = item.line;
                writeln!(outcome.told, "{verdict} {file}:{line} {:?}, right: {right:?}", item.text).unwrap();
                writeln!(outcome.told, "{explained}").unwrap();
            }
        }
        assert!(lines.is_empty(), "{file}: there is no box on {lines:?}");
    }
    outcome
}

/// Nothing wrong, and at least so many in a hundred found.
fn assert_good(folder: &Path, answers: &Answers, percent: usize) {
    let outcome = run(folder, answers);
    let all = outcome.matched + outcome.wrong + outcome.missed;
    eprintln!("{}: {} of {all} right, {} wrong", folder.display(), outcome.matched, outcome.wrong);
    eprintln!("{}", outcome.told);
    assert_eq!(outcome.wrong, 0, "{}", outcome.told);
    assert!(outcome.matched * 100 >= all * percent, "{}", outcome.told);
}

/// One box below a heading.
fn item(heading: &str, text: &str) -> Item {
    read(format!("# {heading}\n\n- [ ] {text}\n").as_bytes()).unwrap().items.remove(0)
}

#[test]
fn lists_find_their_rows() {
    for folder in FOLDERS {
        let folder = here(folder);
        assert_good(&folder, &answers(&folder), 95);
    }
}

/// The users' own documents, where they lie beside the project.
#[test]
fn the_users_own_lists_find_their_rows() {
    let folder = here("../../../shared/seeds");
    let Ok(text) = std::fs::read_to_string(folder.join("items.tsv")) else {
        return eprintln!("skipped: there is no shared/seeds beside the project");
    };
    let mut all = Answers::new();
    let lines = text.lines().map(|line| line.split('\t').collect::<Vec<_>>()).collect::<Vec<_>>();
    let column = |name| lines[0].iter().position(|each| *each == name).unwrap();
    for line in &lines[1..] {
        let file = line[column("seed_file")].replace(".txt", ".md");
        let key = (file, line[column("line")].parse().unwrap());
        all.entry(key).or_default().insert(line[column("canonical")].to_owned());
    }
    // Lines that have two right answers.
    for (file, line, row) in [
        ("001", 200, "deploy.stage.deploy-staging"),
        ("002", 34, "cache.redis"),
        ("003", 36, "ux.offline"),
        ("004", 13, "infra.cloud-platform"),
        ("004", 239, "deploy.stage.deploy-dev"),
        ("004", 249, "sec.audit"),
    ] {
        let key = all.keys().find(|key| key.0.starts_with(file) && key.1 == line).unwrap().clone();
        all.get_mut(&key).unwrap().insert(row.to_owned());
    }
    // The boxes alone: the other lines of these documents are no items.
    let files: BTreeSet<String> = all.keys().map(|(file, _)| file.clone()).collect();
    let mut boxes = BTreeSet::new();
    for file in files {
        let list = read(&std::fs::read(folder.join(&file)).unwrap()).unwrap();
        boxes.extend(list.items.iter().map(|item| (file.clone(), item.line)));
    }
    all.retain(|key, _| boxes.contains(key));
    assert_eq!(all.len(), 213);
    assert_good(&folder, &all, 95);
}

#[test]
fn what_is_denied_or_about_something_else_is_declined() {
    let matcher = Matcher::built_in();
    for (lang, text) in [
        (Lang::Nb, "Vi har ingen backup"),
        (Lang::Nb, "Ikke bruk WAF"),
        (Lang::Nb, "Backup trengs ikke"),
        (Lang::Nb, "Uten kryptering"),
        (Lang::Nb, "Ingen backup, ingen logging"),
        (Lang::Nb, "Brannøvelse for alle"),
        (Lang::Sv, "Vi saknar loggning"),
        (Lang::Sv, "Inga lasttester"),
        (Lang::Sv, "Brandövning"),
        (Lang::En, "no TLS needed"),
        (Lang::En, "Don't use Redis"),
        (Lang::En, "Monitoring is missing"),
        (Lang::En, "Never deploy on Fridays"),
        (Lang::En, "No CDN in front of the static files, we skip that this year"),
        (Lang::En, "Postgres has no read replica and reports run on the primary"),
        (Lang::En, "Load testing with k6 is not something we will ever do here"),
        (Lang::Nb, "Vi tar ikke nattlig sikkerhetskopi av databasen fordi det er for dyrt"),
        (Lang::En, "We decided not to buy a web application firewall for now"),
        (Lang::En, "There is no test environment that looks like production"),
        (Lang::Nb, "Vi kommer ikke til å lage en egen statusside til kundene i år"),
        (Lang::Nb, "Det finnes ingen plan for hva vi gjør om datasenteret brenner"),
        (Lang::Nb, "Blågrønn utrulling er ikke noe vi trenger foreløpig"),
        (Lang::Sv, "Vi krypterar inte diskarna eftersom leverantören säger att det inte behövs"),
        (Lang::En, "Release party"),
        (Lang::En, "Team offsite"),
        (Lang::En, "Fire drill"),
        (Lang::En, "Water the plants"),
        (Lang::En, "Done"),
        (Lang::En, ""),
    ] {
        let item = item("", text);
        let explained = matcher.explain(&item, lang);
        assert!(matches!(explained.found, Match::Declined { .. }), "{text:?}\n{explained}");
    }
}

#[test]
fn a_heading_helps_and_does_not_decide() {
    let matcher = Matcher::built_in();
    let under = |heading: &str, text: &str| matcher.find(&item(heading, text), Lang::En);
    assert_eq!(under("Monitoring", "Logging"), Match::Rows(vec!["mon.logging".to_owned()]));
    assert_eq!(under("Dashboards", "Cost"), Match::Rows(vec!["mon.dashboard.cost".to_owned()]));
    assert!(matches!(under("Backup", "Paint the wall"), Match::Declined { .. }));
    assert!(matches!(under("Out of scope", "Logging"), Match::Declined { .. }));
}

#[test]
fn a_row_that_a_person_named_is_taken() {
    let list = read(b"- [ ] Something <!-- klar: edge.tls -->\n- [ ] Backup {edge.no-such}\n").unwrap();
    let found: Vec<_> = list.items.iter().map(|item| Matcher::built_in().find(item, Lang::En)).collect();
    assert_eq!(found[0], Match::Rows(vec!["edge.tls".to_owned()]));
    assert!(matches!(found[1], Match::Declined { .. }));
}

/// Lists by people who had not seen the data, in words that neither the catalogue nor the data were made from. These
/// were looked at while the model was tuned. `fresh` is by somebody who had seen the data, written after it and not
/// learned from: with 249 boxes it tells small steps from chance.
#[test]
fn lists_of_others_are_matched_or_declined() {
    assert_at_least(&[("heldout", 48, 0), ("heldout-a", 45, 0), ("fresh", 159, 3)]);
}

/// As above, and nobody who tuned the model has read them.
#[test]
fn lists_that_nobody_tuned_on_are_matched_or_declined() {
    assert_at_least(&[("heldout-b", 37, 1)]);
}

/// Ratchets: how many of a folder are matched at least, and wrong at most. The aim is 57 of 60 and none.
fn assert_at_least(folders: &[(&str, usize, usize)]) {
    for (folder, matched, wrong) in folders {
        let folder = here("tests/fixtures").join(folder);
        let outcome = run(&folder, &answers(&folder));
        let Outcome { matched: right, wrong: misled, missed, told } = outcome;
        eprintln!("{}: {right} matched, {misled} wrong, {missed} missed", folder.display());
        assert!(right >= *matched && misled <= *wrong, "{told}");
    }
}
