//! Test scripts in the format of Prometheus' own: our cases, and, if `KLAR_PROMQLTEST_DIR` names a folder, all in it.
//!
//! How the result is judged:
//! - Whether a query that has to fail fails is judged, its message is not: ours say more, in other words.
//! - Notes (`expect warn`, `expect info`, and that there are none) are judged as there, if they are expected.
//! - Series with native histograms are not held against the store on disk, which has none.
//! - Queries for one time are asked again for three times, and the one in the middle has to be the same.
//!
//! What passes in that folder is kept in `ratchet.txt` and may only grow; `KLAR_BLESS=1` writes it anew.
//! `KLAR_PROMQLTEST_SHOW=name` prints why queries of a file do not pass.

#![allow(clippy::unwrap_used)] // a script that is wrong fails its test

mod compare;
mod script;
mod store;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// How many queries passed, of how many.
type Counted = (usize, usize);

fn scripts(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut found: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    found.retain(|path| path.extension().is_some_and(|ending| ending == "test"));
    found.sort();
    found
}

/// Runs a script; gives what passed, and what did not with its reason.
fn run(path: &Path) -> (Counted, Vec<String>) {
    let text = std::fs::read_to_string(path).unwrap();
    let mut store = store::Store::default();
    let (mut passed, mut all, mut failures) = (0, 0, Vec::new());
    for (line, command) in script::commands(&text) {
        match command {
            script::Command::Clear => store = store::Store::default(),
            script::Command::Load(load) => store.load(&load),
            script::Command::Eval(eval) => {
                all += 1;
                match compare::judge(&store, &eval) {
                    Ok(()) => passed += 1,
                    Err(why) => failures.push(format!("line {line}: {}\n      {why}", eval.query)),
                }
            }
        }
    }
    ((passed, all), failures)
}

fn name(path: &Path) -> String {
    path.file_stem().unwrap().to_string_lossy().into_owned()
}

#[test]
fn our_cases_pass() {
    let cases = scripts(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases"));
    assert!(!cases.is_empty());
    for path in cases {
        let ((_, all), failures) = run(&path);
        assert!(all > 0, "{} asks nothing", path.display());
        assert!(failures.is_empty(), "{}:\n  {}", path.display(), failures.join("\n  "));
    }
}

#[test]
fn those_of_prometheus_pass_as_before() {
    let Ok(folder) = std::env::var("KLAR_PROMQLTEST_DIR") else {
        println!(
            "KLAR_PROMQLTEST_DIR names no folder with the test scripts of Prometheus; only our own were run"
        );
        return;
    };
    let show = std::env::var("KLAR_PROMQLTEST_SHOW").unwrap_or_default();
    let mut found = BTreeMap::new();
    for path in scripts(Path::new(&folder)) {
        let (counted, failures) = run(&path);
        if name(&path) == show {
            failures.iter().for_each(|failure| println!("  {failure}"));
        }
        found.insert(name(&path), counted);
    }
    let table = |rows: &BTreeMap<String, Counted>| {
        rows.iter()
            .fold(String::new(), |text, (name, (passed, all))| format!("{text}{name} {passed} {all}\n"))
    };
    let (passed, all) = found.values().fold((0, 0), |sum, row| (sum.0 + row.0, sum.1 + row.1));
    for (name, (passed, all)) in &found {
        println!("{name:24} {passed:4} / {all:4}");
    }
    println!("{:24} {passed:4} / {all:4}", "all");
    let ratchet = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/ratchet.txt");
    if std::env::var("KLAR_BLESS").is_ok_and(|bless| bless == "1") {
        std::fs::write(ratchet, table(&found)).unwrap();
        return;
    }
    for line in std::fs::read_to_string(ratchet).unwrap().lines() {
        let [name, before, _] = *line.split(' ').collect::<Vec<_>>() else { panic!("{line}") };
        let (passed, _) = found.get(name).unwrap_or_else(|| panic!("{name}.test is no longer there"));
        let before: usize = before.parse().unwrap();
        assert!(*passed >= before, "{name}: {passed} queries pass, {before} did before");
    }
}
