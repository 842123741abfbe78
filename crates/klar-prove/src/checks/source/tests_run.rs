//! The app's own tests, run: in a copy of its folder, with a database and a cache that klar has started.

use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::{Duration, Instant, SystemTime};

use serde::{Deserialize, Serialize};

use super::reports::find;
use super::tests_there::{self, is_report};
use crate::check::{About, Disturbs, Fault, Finding, Need, Probe, Unable};
use crate::evidence::Place;
use crate::shell;
use crate::words;
use crate::words::Words;
use crate::world::{World, cache};

/// More than no tests, none fails, and they reach what they are about.
pub struct TestsRun;

/// What became of them.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Seen {
    /// The command.
    command: String,
    /// Its exit status; `None` when a signal ended it.
    status: Option<i32>,
    tests: usize,
    failed: usize,
    skipped: usize,
    first_failed: Option<String>,
    /// The last line it said.
    last: String,
    seconds: u64,
    /// What the servers counted meanwhile, and what the app alone would have made them count.
    database: Option<Contact>,
    cache: Option<Contact>,
}

/// How often a server was asked.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Contact {
    /// While the tests ran.
    asked: u64,
    /// By the app in the same time, from how often it asked before.
    usual: u64,
}

const UNIT: (&str, &str) = ("test.unit", "results");
const STAGE: (&str, &str) = ("deploy.stage.test", "results");
const SKIPPED: (&str, &str) = ("deploy.stage.test", "not-skipped");
const INTEGRATION: (&str, &str) = ("test.integration", "results");
const CONTACTED: (&str, &str) = ("test.integration", "contacted");

/// How long the app is watched to know what it asks by itself.
const WATCHED: Duration = Duration::from_secs(4);
/// A copy of a folder has no more than this.
const MOST_BYTES: u64 = 1024 * 1024 * 1024;
const MOST_FILES: usize = 100_000;
/// What tools make again in the copy, or what no test needs.
const LEFT: [&str; 8] =
    [".git", "node_modules", ".venv", "venv", "__pycache__", "target", "vendor", "coverage"];

impl Probe for TestsRun {
    type Seen = Seen;

    const ABOUT: About = About {
        id: "tests-run",
        version: 1,
        question: "Do the app's own tests pass, against a real database and cache?",
        does: "Runs the tests in a copy of the folder (`npm test`, `pytest`, `cargo test`, `phpunit`, or `tests` of `[check]`), with the addresses of the rig's database and cache in the app's variables, and counts tests, failures, and what the two servers were asked.",
        shows: &[UNIT, STAGE, SKIPPED, INTEGRATION, CONTACTED],
        needs: &[Need::Source],
        disturbs: Disturbs::Attacks,
        good_for: Duration::from_secs(7 * 24 * 3600),
        limit: Duration::from_secs(480),
        faults: &[
            Fault::Files(&[("package.json", FAILING), ("a.test.js", ONE_FAILS)], UNIT),
            Fault::Files(&[("package.json", FAILING), ("a.test.js", ONE_FAILS)], INTEGRATION),
            Fault::Files(&[("package.json", "{\"scripts\":{\"test\":\"exit 0\"}}\n")], STAGE),
            Fault::Files(&[("package.json", FAILING), ("a.test.js", ONE_SKIPPED)], SKIPPED),
            Fault::Rig("a_pass_needs_tests_that_ran_and_servers_that_were_asked", CONTACTED),
        ],
    };

    async fn look(world: Rc<World>) -> Result<Seen, Unable> {
        // Tests empty tables and fill them: never those of an app that serves.
        if world.place != Place::Rig && (world.database.is_some() || world.klar.is_some()) {
            return Err(Unable(words!(
                "tests write into the database: klar check --full runs them in a rig",
                "tester skriver i databasen: klar check --full kjører dem i en rigg",
                "tester skriver i databasen: klar check --full kör dem i en rigg"
            )));
        }
        let source = world.source.clone().ok_or_else(|| Unable(Need::Source.missing()))?;
        let failed = |why: &dyn std::fmt::Display| Unable(Words::same(why.to_string()));
        let copied = tokio::task::spawn_blocking(move || Copy::of(&source)).await;
        let copy = copied.map_err(|why| failed(&why))?.map_err(|why| failed(&why))?;
        let (prepare, command) = commands(&copy.0, world.tests.as_deref()).ok_or_else(|| {
            Unable(words!(
                "no command for tests found: `tests` in [check] of klar.toml names it",
                "fant ingen testkommando: `tests` i [check] i klar.toml oppgir den",
                "hittade inget testkommando: `tests` i [check] i klar.toml anger det"
            ))
        })?;
        let mut variables = world.variables.clone();
        variables.push(("CI".to_owned(), "1".to_owned()));
        if let Some(site) = &world.site {
            variables.push(("KLAR_URL".to_owned(), site.origin().to_string()));
        }
        if let Some(prepare) = prepare {
            let done = shell::run(&format!("exec 2>&1\n{prepare}"), &copy.0, &variables).await;
            let done = done.map_err(|why| failed(&why))?;
            if !done.status.success() {
                let last = last_line(&done.said);
                return Err(Unable(words!(
                    "{prepare} failed: {last}",
                    "{prepare} feilet: {last}",
                    "{prepare} misslyckades: {last}"
                )));
            }
        }
        let first = asked(&world).await;
        tokio::time::sleep(world.patience(WATCHED)).await;
        let before = asked(&world).await;
        let (began, since) = (Instant::now(), SystemTime::now());
        let done = shell::run(&format!("exec 2>&1\n{command}"), &copy.0, &variables).await;
        let done = done.map_err(|why| failed(&why))?;
        let took = began.elapsed();
        // PostgreSQL tells its counters up to a second late.
        tokio::time::sleep(world.patience(Duration::from_millis(1500))).await;
        let after = asked(&world).await;
        let contact = |first: Option<u64>, before: Option<u64>, after: Option<u64>| {
            let (first, before, after) = (first?, before?, after?);
            let seconds = WATCHED.as_secs().max(1);
            let usual = before.saturating_sub(first) * (took.as_secs() + 2) / seconds;
            Some(Contact { asked: after.saturating_sub(before), usual })
        };
        let mut seen = Seen {
            command,
            status: done.status.code(),
            last: last_line(&done.said),
            seconds: took.as_secs(),
            database: contact(first.0, before.0, after.0),
            cache: contact(first.1, before.1, after.1),
            ..Seen::default()
        };
        seen.count(&copy.0, since, &done.said);
        Ok(seen)
    }

    fn judge(seen: &Seen) -> Vec<Finding> {
        let Seen { command, tests, failed, skipped, seconds, last, .. } = seen;
        let first = seen.first_failed.as_deref().unwrap_or("-");
        let told = words!(
            "{command}: {tests} tests in {seconds} s, {failed} failed (first: {first}), {skipped} skipped",
            "{command}: {tests} tester på {seconds} s, {failed} feilet (først: {first}), {skipped} hoppet over",
            "{command}: {tests} tester på {seconds} s, {failed} misslyckades (först: {first}), {skipped} hoppades över"
        );
        let good = seen.status == Some(0);
        if *tests == 0 && good {
            let none = words!(
                "{command} ended well, and ran no test that klar could count: {last}",
                "{command} endte godt, og kjørte ingen test klar kunne telle: {last}",
                "{command} slutade väl, och körde inget test som klar kunde räkna: {last}"
            );
            return [UNIT, STAGE, SKIPPED, INTEGRATION]
                .map(|part| Finding::broken(part, none.clone()))
                .into();
        }
        let told = match seen.status {
            Some(0) => told,
            status => {
                let status = status.map_or_else(|| "-".to_owned(), |status| status.to_string());
                told.and(&words!(
                    "; exit status {status}: {last}",
                    "; sluttstatus {status}: {last}",
                    "; slutstatus {status}: {last}"
                ))
            }
        };
        let ran = *tests > *skipped;
        let passed = good && *failed == 0 && ran;
        let contacted = [seen.database, seen.cache].into_iter().flatten().collect::<Vec<_>>();
        let counts = match (seen.database, seen.cache) {
            (None, None) => words!(
                "there was neither a database nor a cache to contact",
                "det fantes verken database eller cache å kontakte",
                "det fanns varken databas eller cache att kontakta"
            ),
            (database, cache) => {
                let count = |contact: Option<Contact>| {
                    contact.map_or_else(
                        || "-".to_owned(),
                        |contact| format!("{} ({})", contact.asked, contact.usual),
                    )
                };
                let (database, cache) = (count(database), count(cache));
                words!(
                    "asked while the tests ran (the app alone: in brackets): database {database}, cache {cache}",
                    "spurt mens testene kjørte (appen alene: i parentes): database {database}, cache {cache}",
                    "frågat medan testerna kördes (appen ensam: inom parentes): databas {database}, cache {cache}"
                )
            }
        };
        let reached = contacted.iter().all(Contact::is_more);
        // Where the app alone asks much, a few more or less say nothing.
        let silent = contacted.iter().any(|contact| !contact.is_more() && contact.usual == 0);
        let judged = |place, because: Words| match (reached, silent) {
            (true, _) => Finding::held(place, because),
            (false, true) => Finding::broken(place, because),
            (false, false) => Finding::unseen(place, because),
        };
        let mut findings = vec![
            Finding::when(passed, UNIT, told.clone()),
            Finding::when(passed, STAGE, told.clone()),
            Finding::when(*skipped == 0 && ran, SKIPPED, told.clone()),
        ];
        findings.push(match (passed, contacted.is_empty()) {
            (false, _) => Finding::broken(INTEGRATION, told),
            (true, true) => Finding::unseen(INTEGRATION, counts.clone()),
            // Tests that ask nobody are no tests of how the systems work together.
            (true, false) => judged(INTEGRATION, told),
        });
        findings.push(if contacted.is_empty() {
            Finding::unseen(CONTACTED, counts)
        } else {
            judged(CONTACTED, counts)
        });
        findings
    }
}

impl Contact {
    /// Clearly more than the app asks by itself.
    fn is_more(&self) -> bool {
        self.asked > self.usual + self.usual / 4 + 10
    }
}

impl Seen {
    /// From the reports that were written meanwhile, or from what was said.
    fn count(&mut self, folder: &Path, since: SystemTime, said: &str) {
        let mut counted = tests_there::Seen::default();
        // File systems know the second only, some of them.
        let since = since - Duration::from_secs(2);
        for report in find(folder, is_report).into_iter().filter(|report| report.written >= since) {
            counted.count(&report.text);
        }
        if counted.tests > 0 {
            (self.tests, self.failed, self.skipped) = (counted.tests, counted.failed, counted.skipped);
            self.first_failed = counted.first_failed;
            return;
        }
        let said = without_colour(said);
        (self.tests, self.failed, self.skipped) = counted_in(&said);
        self.first_failed = first_failed(&said);
    }
}

/// What has to be done before, and the command itself.
fn commands(folder: &Path, named: Option<&str>) -> Option<(Option<String>, String)> {
    let has = |name: &str| folder.join(name).exists();
    let install = if has("package-lock.json") || has("npm-shrinkwrap.json") {
        Some("npm ci --include=dev --no-audit --no-fund")
    } else if has("pnpm-lock.yaml") {
        Some("pnpm install --frozen-lockfile")
    } else if has("yarn.lock") {
        Some("yarn install --frozen-lockfile")
    } else {
        None
    };
    if let Some(named) = named {
        return Some((None, named.to_owned()));
    }
    let package = std::fs::read_to_string(folder.join("package.json")).unwrap_or_default();
    let package: serde_json::Value = serde_json::from_str(&package).unwrap_or_default();
    let script = package["scripts"]["test"].as_str().filter(|script| !script.contains("no test specified"));
    if script.is_some() {
        let depends = ["dependencies", "devDependencies"]
            .iter()
            .any(|key| package[key].as_object().is_some_and(|all| !all.is_empty()));
        let install = install.or(depends.then_some("npm install --include=dev --no-audit --no-fund"));
        return Some((install.map(str::to_owned), "npm test".to_owned()));
    }
    if has("Cargo.toml") {
        return Some((None, "cargo test".to_owned()));
    }
    if has("composer.json") && (has("phpunit.xml") || has("phpunit.xml.dist")) {
        return Some((Some("composer install --no-interaction".to_owned()), "vendor/bin/phpunit".to_owned()));
    }
    if ["pytest.ini", "tox.ini", "conftest.py", "tests", "test"].iter().any(|name| has(name))
        && ["requirements.txt", "pyproject.toml", "setup.py"].iter().any(|name| has(name))
    {
        let wanted =
            ["requirements.txt", "requirements-dev.txt", "requirements-test.txt", "dev-requirements.txt"];
        let wanted: String =
            wanted.iter().filter(|name| has(name)).map(|name| format!(" -r {name}")).collect();
        let own = if has("pyproject.toml") || has("setup.py") { " -e ." } else { "" };
        let prepare = format!("python3 -m venv .venv && .venv/bin/pip install --quiet pytest{wanted}{own}");
        return Some((Some(prepare), ".venv/bin/python -m pytest -q -p no:cacheprovider".to_owned()));
    }
    None
}

/// Tests, failures and those left out, as the usual runners say it: node, jest, vitest, mocha, pytest, unittest,
/// PHPUnit, cargo.
fn counted_in(said: &str) -> (usize, usize, usize) {
    let (mut tests, mut failed, mut skipped) = (0, 0, 0);
    for line in said.lines().map(str::trim) {
        let words: Vec<&str> = line.split_whitespace().collect();
        // node: `# pass 12`, `ℹ fail 1`
        if let ["#" | "ℹ", kind, number] = words[..]
            && let Ok(number) = number.parse::<usize>()
        {
            match kind {
                "tests" => tests += number,
                "fail" | "cancelled" => failed += number,
                "skipped" | "todo" => skipped += number,
                _ => {}
            }
            continue;
        }
        // mocha: `12 passing (3s)`, `1 failing`, `2 pending`
        if let [number, kind @ ("passing" | "failing" | "pending"), ..] = words[..]
            && let Ok(number) = number.parse::<usize>()
        {
            tests += number;
            match kind {
                "failing" => failed += number,
                "pending" => skipped += number,
                _ => {}
            }
            continue;
        }
        // unittest: `Ran 12 tests in 0.1s`, then `FAILED (failures=1, skipped=2)`
        if let ["Ran", number, "test" | "tests", "in", ..] = words[..] {
            tests += number.parse::<usize>().unwrap_or(0);
            continue;
        }
        if line.starts_with("FAILED (") || line.starts_with("OK (skipped") {
            for (name, number) in line.split(['(', ',', ')']).filter_map(|part| part.trim().split_once('=')) {
                let number: usize = number.parse().unwrap_or(0);
                match name {
                    "failures" | "errors" => failed += number,
                    "skipped" => skipped += number,
                    _ => {}
                }
            }
            continue;
        }
        // PHPUnit: `OK (12 tests, 30 assertions)`, `Tests: 12, Assertions: 30, Failures: 1.`
        if let Some(rest) = line.strip_prefix("OK (") {
            tests += rest.split_whitespace().next().and_then(|number| number.parse().ok()).unwrap_or(0);
            continue;
        }
        if line.starts_with("Tests: ") && line.contains("Assertions:") {
            for (name, number) in
                line.trim_end_matches('.').split(',').filter_map(|part| part.split_once(':'))
            {
                let number: usize = number.trim().parse().unwrap_or(0);
                match name.trim() {
                    "Tests" => tests += number,
                    "Failures" | "Errors" => failed += number,
                    "Skipped" | "Incomplete" => skipped += number,
                    _ => {}
                }
            }
            continue;
        }
        // jest, vitest, pytest, cargo: numbers before words, in a line that sums up
        let sums_up = line.starts_with("Tests:")
            || line.starts_with("Tests  ")
            || line.starts_with("test result:")
            || line.contains(" passed in ")
            || line.contains(" passed, ")
            || line.starts_with("===") && line.contains(" in ")
            || words.len() >= 4 && words[1] == "failed" && words.contains(&"in");
        if !sums_up {
            continue;
        }
        let parts: Vec<&str> =
            line.split([' ', ',', ';', '|', '=', '(', ')']).filter(|part| !part.is_empty()).collect();
        for pair in parts.windows(2) {
            let Ok(number) = pair[0].parse::<usize>() else { continue };
            match pair[1] {
                "passed" => tests += number,
                "failed" | "error" | "errors" => {
                    tests += number;
                    failed += number;
                }
                "skipped" | "ignored" | "todo" | "xfailed" | "deselected" if number > 0 => {
                    tests += number;
                    skipped += number;
                }
                _ => {}
            }
        }
    }
    (tests, failed, skipped)
}

/// The name of the first test that failed, as far as it can be told.
fn first_failed(said: &str) -> Option<String> {
    let line = said.lines().map(str::trim).find(|line| {
        ["not ok ", "✖ ", "✕ ", "FAILED ", "FAIL: ", "1) "].iter().any(|mark| line.starts_with(mark))
    })?;
    Some(line.chars().take(120).collect())
}

fn without_colour(said: &str) -> String {
    let mut plain = String::with_capacity(said.len());
    let mut rest = said;
    while let Some(at) = rest.find("\u{1b}[") {
        plain.push_str(&rest[..at]);
        let after = &rest[at + 2..];
        let end = after.find(|c: char| c.is_ascii_alphabetic()).map_or(after.len(), |end| end + 1);
        rest = &after[end..];
    }
    plain + rest
}

fn last_line(said: &str) -> String {
    let said = without_colour(said);
    let last = said.lines().rev().map(str::trim).find(|line| !line.is_empty()).unwrap_or_default();
    last.chars().take(200).collect()
}

/// What database and cache were asked so far.
async fn asked(world: &World) -> (Option<u64>, Option<u64>) {
    let database = async {
        let database = world.database().await.ok()?;
        let counted = database
            .row(
                "SELECT xact_commit + xact_rollback AS asked FROM pg_stat_database \
                 WHERE datname = current_database()",
            )
            .await;
        u64::try_from(counted.ok()?.number("asked")).ok()
    };
    (database.await, cache::commands(world).await)
}

/// A copy of a folder, for as long as it is needed.
struct Copy(PathBuf);

impl Copy {
    fn of(source: &Path) -> std::io::Result<Self> {
        let name = format!("klar-tests-{}-{:x}", std::process::id(), fastrand::u64(..));
        let copy = Self(std::env::temp_dir().join(name));
        let (mut bytes, mut files) = (0, 0);
        let mut folders = vec![PathBuf::new()];
        while let Some(folder) = folders.pop() {
            std::fs::create_dir_all(copy.0.join(&folder))?;
            for entry in std::fs::read_dir(source.join(&folder))? {
                let entry = entry?;
                let (name, kind) = (entry.file_name(), entry.file_type()?);
                let path = folder.join(&name);
                if kind.is_dir() {
                    if !LEFT.iter().any(|left| name == *left) {
                        folders.push(path);
                    }
                } else if kind.is_file() {
                    files += 1;
                    bytes += entry.metadata()?.len();
                    if files > MOST_FILES || bytes > MOST_BYTES {
                        return Err(std::io::Error::other("the folder is too large to copy (1 GiB)"));
                    }
                    std::fs::copy(entry.path(), copy.0.join(path))?;
                } else if kind.is_symlink() {
                    std::os::unix::fs::symlink(std::fs::read_link(entry.path())?, copy.0.join(path))?;
                }
            }
        }
        Ok(copy)
    }
}

impl Drop for Copy {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

const FAILING: &str = "{\"scripts\":{\"test\":\"node --test\"}}\n";
const ONE_FAILS: &str = "const test = require('node:test');\ntest('one', () => {});\ntest('two', () => { throw new Error('no'); });\n";
const ONE_SKIPPED: &str =
    "const test = require('node:test');\ntest('one', () => {});\ntest('two', { skip: true }, () => {});\n";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::Saw;

    #[test]
    fn runners_are_understood() {
        for (said, counts) in [
            (
                "ℹ tests 12\nℹ suites 0\nℹ pass 10\nℹ fail 1\nℹ cancelled 0\nℹ skipped 1\nℹ todo 0\n",
                (12, 1, 1),
            ),
            ("# tests 3\n# pass 3\n# fail 0\n", (3, 0, 0)),
            ("Tests:       1 failed, 2 skipped, 12 passed, 15 total\nTime: 3 s\n", (15, 1, 2)),
            ("      Tests  1 failed | 12 passed | 2 skipped (15)\n", (15, 1, 2)),
            ("  12 passing (3s)\n  2 pending\n  1 failing\n", (15, 1, 2)),
            ("=== 1 failed, 12 passed, 2 skipped in 0.12s ===\n", (15, 1, 2)),
            ("12 passed in 0.12s\n", (12, 0, 0)),
            ("1 failed, 2 passed in 0.12s\n", (3, 1, 0)),
            ("2 failed in 0.12s\n", (2, 2, 0)),
            ("Ran 12 tests in 0.004s\n\nFAILED (failures=1, errors=1, skipped=2)\n", (12, 2, 2)),
            ("Ran 3 tests in 0.004s\n\nOK\n", (3, 0, 0)),
            ("OK (12 tests, 30 assertions)\n", (12, 0, 0)),
            ("Tests: 12, Assertions: 30, Failures: 1, Skipped: 2.\n", (12, 1, 2)),
            (
                "test result: ok. 12 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.01s\n",
                (13, 0, 1),
            ),
            ("nothing to see\n3 passed through the gate\n", (0, 0, 0)),
        ] {
            assert_eq!(counted_in(said), counts, "{said}");
        }
        assert_eq!(without_colour("\u{1b}[32mok\u{1b}[0m 3"), "ok 3");
    }

    #[test]
    fn a_pass_needs_tests_that_ran_and_servers_that_were_asked() {
        let good = || Seen {
            command: "npm test".to_owned(),
            status: Some(0),
            tests: 12,
            database: Some(Contact { asked: 900, usual: 30 }),
            cache: Some(Contact { asked: 400, usual: 30 }),
            ..Seen::default()
        };
        let saw = |seen: &Seen, part| {
            TestsRun::judge(seen).into_iter().find(|found| (found.row, found.part) == part).map(|it| it.saw)
        };
        assert!(TestsRun::judge(&good()).iter().all(|found| found.saw == Saw::Held));
        let quiet = Seen { cache: Some(Contact { asked: 2, usual: 0 }), ..good() };
        assert_eq!(saw(&quiet, CONTACTED), Some(Saw::Broken));
        assert_eq!(saw(&quiet, UNIT), Some(Saw::Held));
        let loud = Seen { cache: Some(Contact { asked: 40, usual: 30 }), ..good() };
        assert_eq!(saw(&loud, CONTACTED), Some(Saw::Unseen));
        let alone = Seen { database: None, cache: None, ..good() };
        assert_eq!(saw(&alone, INTEGRATION), Some(Saw::Unseen));
        for bad in [
            Seen { failed: 1, ..good() },
            Seen { status: Some(1), ..good() },
            Seen { status: None, ..good() },
            Seen { tests: 0, ..good() },
            Seen { skipped: 12, ..good() },
        ] {
            assert_eq!(saw(&bad, UNIT), Some(Saw::Broken), "{bad:?}");
            assert_eq!(saw(&bad, INTEGRATION), Some(Saw::Broken), "{bad:?}");
        }
    }
}
