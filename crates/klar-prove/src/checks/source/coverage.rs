//! How much of the code the tests run, as the last test run wrote it down.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::reports::{Report, attribute, find, last_commit, newest_source, tags};
use super::tree::{Tree, is_test};
use crate::check::{About, Disturbs, Fault, Finding, Need, Probe, Unable};
use crate::words;
use crate::words::Words;
use crate::world::World;

/// At least 80.0 % of the lines, of the code as it is now.
pub struct Coverage;

/// What the reports say.
#[derive(Debug, Serialize, Deserialize)]
pub struct Seen {
    /// Path, lines that were run, all lines.
    reports: Vec<(String, u64, u64)>,
    /// A source file that was changed after the oldest report.
    changed_since: Option<String>,
    /// Whether the oldest report is younger than the last commit; nothing where there is no commit.
    after_commit: Option<bool>,
    /// Source files of the languages that the reports speak of, and those that a report names.
    #[serde(default)]
    files: usize,
    #[serde(default)]
    named: usize,
}

const LINES: (&str, &str) = ("ready.success.coverage80", "lines");
const CURRENT: (&str, &str) = ("ready.success.coverage80", "current");

impl Probe for Coverage {
    type Seen = Seen;

    const ABOUT: About = About {
        id: "coverage",
        version: 2,
        question: "Do the tests run at least 80 % of the lines?",
        does: "Reads the reports of the last test run (lcov, Cobertura, llvm-cov, Istanbul), and compares their age with that of the code and the last commit.",
        shows: &[LINES, CURRENT],
        needs: &[Need::Source],
        disturbs: Disturbs::Nothing,
        good_for: Duration::from_secs(7 * 24 * 3600),
        limit: Duration::from_secs(30),
        faults: &[
            Fault::Files(
                &[
                    ("src/a.js", "export const a = 1;\n"),
                    ("coverage/lcov.info", "TN:\nSF:src/a.js\nDA:1,1\nLF:1000\nLH:799\nend_of_record\n"),
                ],
                LINES,
            ),
            Fault::Files(
                &[
                    ("src/a.py", "a = 1\n"),
                    (
                        "coverage.xml",
                        "<?xml version=\"1.0\"?>\n<coverage lines-valid=\"10\" lines-covered=\"7\" line-rate=\"0.7\"></coverage>\n",
                    ),
                ],
                LINES,
            ),
            Fault::Rig("a_report_older_than_the_code_is_not_current", CURRENT),
        ],
    };

    async fn look(world: Rc<World>) -> Result<Seen, Unable> {
        let tree = Tree::of(&world).await?;
        let commit = last_commit(&tree).await;
        let looking = tokio::task::spawn_blocking(move || {
            let mut best: BTreeMap<String, (u8, Report, u64, u64)> = BTreeMap::new();
            for report in find(&tree.root, is_report) {
                let Some((rank, covered, all)) = lines(&report) else { continue };
                let folder = report.path.rsplit_once('/').map_or("", |(folder, _)| folder).to_owned();
                // The same run is often written down in several forms: of each folder one counts.
                if best.get(&folder).is_none_or(|(than, ..)| rank < *than) {
                    best.insert(folder, (rank, report, covered, all));
                }
            }
            let names: BTreeSet<String> =
                best.values().flat_map(|(_, report, ..)| named(&report.text)).collect();
            let ends: BTreeSet<&str> =
                names.iter().filter_map(|name| Some(name.rsplit_once('.')?.1)).collect();
            let is_source = |path: &&String| {
                !is_test(path)
                    && !path.contains(".config.")
                    && path.rsplit_once('.').is_some_and(|(_, end)| ends.contains(end))
            };
            let sources: Vec<&String> = tree.paths.iter().filter(is_source).collect();
            let is_named = |path: &&&String| {
                names.iter().any(|name| name.ends_with(path.as_str()) || path.ends_with(name.as_str()))
            };
            let (files, named) = (sources.len(), sources.iter().filter(is_named).count());
            let oldest = best.values().map(|(_, report, ..)| report.written).min();
            let newest = newest_source(&tree);
            Seen {
                files,
                named,
                changed_since: newest
                    .filter(|(at, _)| oldest.is_some_and(|oldest| *at > oldest))
                    .map(|(_, path)| path),
                after_commit: oldest.and_then(|oldest| commit.map(|commit: SystemTime| oldest >= commit)),
                reports: best
                    .into_values()
                    .take(20)
                    .map(|(_, report, covered, all)| (report.path, covered, all))
                    .collect(),
            }
        });
        looking.await.map_err(|why| Unable(Words::same(why.to_string())))
    }

    fn judge(seen: &Seen) -> Vec<Finding> {
        let covered: u64 = seen.reports.iter().map(|(_, covered, _)| covered).sum();
        let all: u64 = seen.reports.iter().map(|(.., all)| all).sum();
        if all == 0 {
            let none = words!(
                "no report of coverage found (lcov, Cobertura, llvm-cov)",
                "fant ingen dekningsrapport (lcov, Cobertura, llvm-cov)",
                "hittade ingen täckningsrapport (lcov, Cobertura, llvm-cov)"
            );
            return vec![Finding::unseen(LINES, none.clone()), Finding::unseen(CURRENT, none)];
        }
        let path = seen.reports.first().map_or("", |(path, ..)| path);
        // Rounded down: 79.96 % is not 80.0 %.
        let tenths = covered * 1000 / all;
        let (whole, tenth) = (tenths / 10, tenths % 10);
        let because = words!(
            "{whole}.{tenth} % of {all} lines ({path})",
            "{whole},{tenth} % av {all} linjer ({path})",
            "{whole},{tenth} % av {all} rader ({path})"
        );
        let Self::Seen { files, named, .. } = seen;
        let lines = match &seen.changed_since {
            // What no report names was not counted: it may be all there is.
            None if tenths >= 800 && named * 2 < *files => Finding::unseen(
                LINES,
                because.and(&words!(
                    ", but it names {named} of {files} source files",
                    ", men den nevner {named} av {files} kildefiler",
                    ", men den nämner {named} av {files} källfiler"
                )),
            ),
            Some(changed) => Finding::unseen(
                LINES,
                because.and(&words!(
                    ", but {changed} was changed after that",
                    ", men {changed} ble endret etter det",
                    ", men {changed} ändrades efter det"
                )),
            ),
            None => Finding::when(tenths >= 800, LINES, because),
        };
        let current = match (&seen.changed_since, seen.after_commit) {
            (Some(changed), _) => Finding::broken(
                CURRENT,
                words!(
                    "{changed} is newer than {path}",
                    "{changed} er nyere enn {path}",
                    "{changed} är nyare än {path}"
                ),
            ),
            (None, Some(after)) => Finding::when(
                after,
                CURRENT,
                if after {
                    words!(
                        "{path} is newer than the code and the last commit",
                        "{path} er nyere enn koden og siste commit",
                        "{path} är nyare än koden och senaste commit"
                    )
                } else {
                    words!(
                        "{path} is older than the last commit",
                        "{path} er eldre enn siste commit",
                        "{path} är äldre än senaste commit"
                    )
                },
            ),
            (None, None) => Finding::unseen(
                CURRENT,
                words!(
                    "newer than the code, but there is no commit to compare with",
                    "nyere enn koden, men det er ingen commit å sammenligne med",
                    "nyare än koden, men det finns ingen commit att jämföra med"
                ),
            ),
        };
        vec![lines, current]
    }
}

fn is_report(name: &str) -> bool {
    name.ends_with("lcov.info")
        || name.ends_with(".lcov")
        || ["lcov", "cobertura.xml", "cobertura-coverage.xml", "coverage.xml", "coverage.cobertura.xml"]
            .contains(&name)
        || ["coverage-summary.json", "coverage.json", "llvm-cov.json"].contains(&name)
}

/// The files that a report names.
fn named(text: &str) -> Vec<String> {
    let trim = |path: &str| path.trim().trim_start_matches("./").to_owned();
    if let Ok(json) = serde_json::from_str::<Value>(text) {
        let llvm = json.pointer("/data/0/files").and_then(Value::as_array);
        let files = llvm.into_iter().flatten().filter_map(|file| file.get("filename")?.as_str());
        let keys = json.as_object().into_iter().flat_map(|all| all.keys()).map(String::as_str);
        return files.chain(keys.filter(|key| key.contains('.'))).map(trim).collect();
    }
    let lcov = text.lines().filter_map(|line| line.strip_prefix("SF:"));
    let xml = tags(text).filter_map(|tag| attribute(tag, "filename"));
    lcov.chain(xml).map(trim).collect()
}

/// Which form it has (the best first), how many lines were run, and how many there are.
fn lines(report: &Report) -> Option<(u8, u64, u64)> {
    let text = &report.text;
    if report.path.ends_with(".xml") {
        let root = tags(text).find(|tag| tag.starts_with("coverage"))?;
        let number = |name| attribute(root, name)?.parse::<u64>().ok();
        if let (Some(covered), Some(all)) = (number("lines-covered"), number("lines-valid")) {
            return Some((1, covered, all)).filter(|_| covered <= all);
        }
        let hits: Vec<bool> = tags(text)
            .filter(|tag| tag.starts_with("line "))
            .filter_map(|tag| Some(attribute(tag, "hits")?.parse::<u64>().ok()? > 0))
            .collect();
        return Some((1, hits.iter().filter(|hit| **hit).count() as u64, hits.len() as u64));
    }
    if report.path.ends_with(".json") {
        let json: Value = serde_json::from_str(text).ok()?;
        let llvm =
            json.pointer("/data/0/totals/lines").map(|lines| (lines.get("covered"), lines.get("count")));
        let istanbul = json.pointer("/total/lines").map(|lines| (lines.get("covered"), lines.get("total")));
        let (covered, all) = llvm.or(istanbul)?;
        return Some((2, covered?.as_u64()?, all?.as_u64()?)).filter(|(_, covered, all)| covered <= all);
    }
    let (mut covered, mut all) = (0_u64, 0_u64);
    for record in text.split("end_of_record") {
        let sum = |key: &str| {
            record
                .lines()
                .find_map(|line| line.trim().strip_prefix(key))
                .and_then(|number| number.trim().parse::<u64>().ok())
        };
        match (sum("LH:"), sum("LF:")) {
            (Some(hit), Some(found)) if hit <= found => {
                covered = covered.saturating_add(hit);
                all = all.saturating_add(found);
            }
            _ => {
                for line in record.lines().filter_map(|line| line.trim().strip_prefix("DA:")) {
                    let hit = line.split(',').nth(1).is_some_and(|hits| hits.trim() != "0");
                    covered += u64::from(hit);
                    all += 1;
                }
            }
        }
    }
    Some((0, covered, all)).filter(|(.., all)| *all > 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::{Check, Saw};

    #[test]
    fn forms() {
        for (path, text, said) in [
            (
                "lcov.info",
                "SF:a\nDA:1,0\nDA:2,3\nend_of_record\nSF:b\nLF:8\nLH:7\nend_of_record\n",
                Some((0, 8, 10)),
            ),
            (
                "coverage.xml",
                "<!-- <coverage lines-valid='1'> --><coverage line-rate='0.5' lines-covered='5' lines-valid='10'>",
                Some((1, 5, 10)),
            ),
            (
                "coverage.xml",
                "<coverage><line number='1' hits='0'/><line number='2' hits='2'/></coverage>",
                Some((1, 1, 2)),
            ),
            ("llvm-cov.json", r#"{"data":[{"totals":{"lines":{"count":4,"covered":3}}}]}"#, Some((2, 3, 4))),
            ("coverage-summary.json", r#"{"total":{"lines":{"total":4,"covered":3}}}"#, Some((2, 3, 4))),
            ("lcov.info", "nothing", None),
            ("coverage.xml", "<coverage lines-covered='11' lines-valid='10'>", None),
        ] {
            let report = Report { path: path.into(), text: text.into(), written: SystemTime::UNIX_EPOCH };
            assert_eq!(lines(&report), said, "{text}");
        }
    }

    #[test]
    fn eighty_is_enough_and_79_96_is_not() {
        for (covered, saw) in [(8000, Saw::Held), (7996, Saw::Broken)] {
            let seen = Seen {
                files: 2,
                named: 2,
                reports: vec![("lcov.info".into(), covered, 10_000)],
                changed_since: None,
                after_commit: Some(true),
            };
            let found = Coverage::judge(&seen);
            assert_eq!((found[0].saw, found[1].saw), (saw, Saw::Held));
        }
    }

    #[test]
    fn a_report_older_than_the_code_is_not_current() {
        let folder = std::env::temp_dir().join(format!(
            "klar-coverage-{}-{:x}",
            std::process::id(),
            fastrand::u64(..)
        ));
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("a.js"), "a\n").unwrap();
        std::fs::write(folder.join("lcov.info"), "SF:a.js\nDA:1,1\nend_of_record\n").unwrap();
        let report = std::fs::File::options().write(true).open(folder.join("lcov.info")).unwrap();
        report.set_modified(SystemTime::now() - Duration::from_secs(3600)).unwrap();
        let mut world = World::new("t");
        world.source = Some(folder.clone());
        let check = Check::of::<Coverage>();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let seen = runtime.block_on(check.look(Rc::new(world))).map_err(|why| why.0.en).unwrap();
        let found = check.judge(&seen).unwrap();
        assert_eq!((found[0].saw, found[1].saw), (Saw::Unseen, Saw::Broken));
        std::fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn a_report_of_a_few_files_says_little_of_all() {
        let seen = |named| Seen {
            reports: vec![("lcov.info".to_owned(), 90, 100)],
            changed_since: None,
            after_commit: Some(true),
            files: 12,
            named,
        };
        assert_eq!(Coverage::judge(&seen(11))[0].saw, Saw::Held);
        assert_eq!(Coverage::judge(&seen(1))[0].saw, Saw::Unseen);
        assert_eq!(named("TN:\nSF:./src/a.js\nDA:1,1\n"), ["src/a.js"]);
        assert_eq!(named("<coverage><class name='a' filename='src/a.py'/></coverage>"), ["src/a.py"]);
        assert_eq!(
            named(r#"{"total":{"lines":{}},"/ci/shop/src/a.js":{"lines":{}}}"#),
            ["/ci/shop/src/a.js"]
        );
    }
}
