//! What the last test run said, as it wrote it down for JUnit.

use std::rc::Rc;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use super::reports::{attribute, find, last_commit, newest_source, tags};
use super::tree::{Tree, is_test};
use crate::check::{About, Disturbs, Fault, Finding, Need, Probe, Unable};
use crate::words;
use crate::words::Words;
use crate::world::World;

/// More than no tests, and none that fails or is skipped.
pub struct TestsThere;

/// What the reports say.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Seen {
    /// The reports.
    reports: Vec<String>,
    /// Tests, failures with errors, and those that were skipped.
    pub(super) tests: usize,
    pub(super) failed: usize,
    pub(super) skipped: usize,
    /// The first that failed.
    pub(super) first_failed: Option<String>,
    /// What makes the oldest report old: a file that was changed later, or the last commit.
    old: Option<String>,
    /// Files in the tree that are tests.
    test_files: usize,
}

const UNIT: (&str, &str) = ("test.unit", "results");
const STAGE: (&str, &str) = ("deploy.stage.test", "results");
const SKIPPED: (&str, &str) = ("deploy.stage.test", "not-skipped");

impl Probe for TestsThere {
    type Seen = Seen;

    const ABOUT: About = About {
        id: "tests-there",
        version: 1,
        question: "Are there tests, and did all of them pass?",
        does: "Reads the JUnit reports of the last test run, and compares their age with that of the code and the last commit.",
        shows: &[UNIT, STAGE, SKIPPED],
        needs: &[Need::Source],
        disturbs: Disturbs::Nothing,
        good_for: Duration::from_secs(7 * 24 * 3600),
        limit: Duration::from_secs(30),
        faults: &[
            Fault::Files(
                &[
                    ("src/a.js", "export const a = 1;\n"),
                    (
                        "reports/junit.xml",
                        "<testsuites><testsuite name=\"a\"><testcase name=\"one\"/><testcase name=\"two\"><failure>no</failure></testcase></testsuite></testsuites>\n",
                    ),
                ],
                UNIT,
            ),
            Fault::Files(&[("reports/junit.xml", "<testsuites tests=\"0\"></testsuites>\n")], STAGE),
            Fault::Files(
                &[(
                    "test-results/junit.xml",
                    "<testsuite><testcase name=\"one\"><skipped/></testcase><testcase name=\"two\"/></testsuite>\n",
                )],
                SKIPPED,
            ),
        ],
    };

    async fn look(world: Rc<World>) -> Result<Seen, Unable> {
        let tree = Tree::of(&world).await?;
        let commit = last_commit(&tree).await;
        let looking = tokio::task::spawn_blocking(move || {
            let mut seen = Seen {
                test_files: tree.paths.iter().filter(|path| is_test(path)).count(),
                ..Seen::default()
            };
            let mut oldest: Option<SystemTime> = None;
            for report in find(&tree.root, is_report) {
                if !tags(&report.text).take(5).any(|tag| tag.starts_with("testsuite")) {
                    continue;
                }
                oldest = Some(oldest.map_or(report.written, |oldest| oldest.min(report.written)));
                seen.count(&report.text);
                seen.reports.push(report.path);
            }
            seen.reports.truncate(20);
            if let Some(oldest) = oldest {
                let newer = newest_source(&tree).filter(|(at, _)| *at > oldest).map(|(_, path)| path);
                seen.old =
                    newer.or_else(|| commit.filter(|commit| *commit > oldest).map(|_| "HEAD".to_owned()));
            }
            seen
        });
        looking.await.map_err(|why| Unable(Words::same(why.to_string())))
    }

    fn judge(seen: &Seen) -> Vec<Finding> {
        let Seen { tests, failed, skipped, test_files, .. } = seen;
        let Some(path) = seen.reports.first() else {
            let none = words!(
                "no JUnit report found ({test_files} files look like tests)",
                "fant ingen JUnit-rapport ({test_files} filer ser ut som tester)",
                "hittade ingen JUnit-rapport ({test_files} filer ser ut som tester)"
            );
            return [UNIT, STAGE, SKIPPED].map(|part| Finding::unseen(part, none.clone())).into();
        };
        if let Some(old) = &seen.old {
            let old =
                words!("{path} is older than {old}", "{path} er eldre enn {old}", "{path} är äldre än {old}");
            return [UNIT, STAGE, SKIPPED].map(|part| Finding::unseen(part, old.clone())).into();
        }
        let first = seen.first_failed.as_deref().unwrap_or("-");
        let results = words!(
            "{tests} tests, {failed} failed (first: {first}), {skipped} skipped; {path}",
            "{tests} tester, {failed} feilet (først: {first}), {skipped} hoppet over; {path}",
            "{tests} tester, {failed} misslyckades (först: {first}), {skipped} hoppades över; {path}"
        );
        let good = *tests > *skipped && *failed == 0;
        vec![
            Finding::when(good, UNIT, results.clone()),
            Finding::when(good, STAGE, results.clone()),
            Finding::when(*tests > 0 && *skipped == 0, SKIPPED, results),
        ]
    }
}

impl Seen {
    /// Counts the cases themselves: sums of suites are written in many ways, and suites stand in suites.
    pub(super) fn count(&mut self, text: &str) {
        let (mut name, mut failed, mut skipped) = (String::new(), false, false);
        for tag in tags(text) {
            let kind = tag
                .split(|c: char| c.is_whitespace() || c == '/')
                .find(|part| !part.is_empty())
                .unwrap_or_default();
            match kind {
                "testcase" if !tag.starts_with('/') => {
                    self.tests += 1;
                    (failed, skipped) = (false, false);
                    name = attribute(tag, "name").unwrap_or_default().chars().take(80).collect();
                }
                "failure" | "error" if !tag.starts_with('/') && !failed => {
                    failed = true;
                    self.failed += 1;
                    self.first_failed.get_or_insert_with(|| name.clone());
                }
                "skipped" if !tag.starts_with('/') && !skipped => {
                    skipped = true;
                    self.skipped += 1;
                }
                _ => {}
            }
        }
    }
}

pub(super) fn is_report(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    name.ends_with(".xml")
        && ["junit", "test-", "test_", "tests", "results"].iter().any(|word| name.contains(word))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::Saw;

    #[test]
    fn cases_are_counted() {
        let mut seen = Seen { reports: vec!["junit.xml".into()], ..Seen::default() };
        seen.count("<testsuites tests='9'><testsuite tests='9'><testcase name='a'><system-out><![CDATA[<failure>]]></system-out></testcase><testcase name='b'/><testcase name='c'><error/><failure/></testcase><testcase name='d'><skipped message='x'/></testcase></testsuite></testsuites>");
        assert_eq!(
            (seen.tests, seen.failed, seen.skipped, seen.first_failed.as_deref()),
            (4, 1, 1, Some("c"))
        );
        assert!(TestsThere::judge(&seen).iter().all(|found| found.saw == Saw::Broken));
        seen.old = Some("HEAD".into());
        assert!(TestsThere::judge(&seen).iter().all(|found| found.saw == Saw::Unseen));
        let good = Seen { reports: vec!["junit.xml".into()], tests: 3, ..Seen::default() };
        assert!(TestsThere::judge(&good).iter().all(|found| found.saw == Saw::Held));
    }
}
