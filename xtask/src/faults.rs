//! Faults that somebody planted who had not seen the probes: `klar check` has to find each of them.
//!
//! Several are planted in one copy of the demo app, as `demo/faults/groups.txt` says, so that the copy is set up once
//! for all of them.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::scores::check;
use crate::shell::{repository, say};
use crate::world::World;
use crate::{install, world};

/// One planted fault.
struct Fault {
    number: String,
    row: String,
    patch: PathBuf,
}

/// Plants all, or only the groups in which one of these is, and looks.
pub fn faults(only: &[String]) -> Result<()> {
    install::ensure("The faults", true)?;
    let klar = world::build(false)?;
    planted(&klar, only)
}

/// See [`faults`]; with a klar that is built already.
pub fn planted(klar: &std::path::Path, only: &[String]) -> Result<()> {
    let folder = repository().join("demo/faults");
    let all = read(&folder)?;
    let groups = std::fs::read_to_string(folder.join("groups.txt"))?;
    // One klar for all: the checks show only once that they can fail.
    let mut world = World::fleeting("faults", klar.to_owned())?;
    let mut missed = Vec::new();
    let mut found = 0;
    for group in groups.lines().map(|line| line.split_whitespace().collect::<Vec<_>>()) {
        if !only.is_empty() && !group.iter().any(|number| only.iter().any(|one| one == number)) {
            continue;
        }
        let group: Vec<&Fault> = group
            .iter()
            .map(|number| all.get(*number).with_context(|| format!("groups.txt: there is no fault {number}")))
            .collect::<Result<_>>()?;
        let report = look(&world, &group)?;
        for fault in group {
            let row = report["rows"].as_array().into_iter().flatten().find(|row| row["row"] == *fault.row);
            let row = row.with_context(|| format!("there is no row {}", fault.row))?;
            let standing = row["standing"].as_str().unwrap_or_default();
            println!("  {} {:<28} {standing}", fault.number, fault.row);
            for part in row["parts"].as_array().into_iter().flatten() {
                let text = |key: &str| part[key].as_str().unwrap_or_default().to_owned();
                if standing != "failing" || text("saw") == "broken" {
                    let because = part["because"]["en"].as_str().unwrap_or_default();
                    println!("       {:<12} {:<10} {because}", text("part"), text("saw"));
                }
            }
            if standing == "failing" { found += 1 } else { missed.push(fault.row.clone()) }
        }
    }
    world.stop()?;
    ensure!(missed.is_empty(), "{found} found, not found: {}", missed.join(", "));
    println!("  all {found} faults found");
    Ok(())
}

/// The faults by their numbers.
fn read(folder: &std::path::Path) -> Result<BTreeMap<String, Fault>> {
    let mut all = BTreeMap::new();
    for entry in std::fs::read_dir(folder)? {
        let patch = entry?.path();
        let Some(stem) = patch.file_name().and_then(|name| name.to_str()?.strip_suffix(".patch")) else {
            continue;
        };
        let (number, row) = stem.split_once('-').with_context(|| format!("{stem}: NUMBER-ROW.patch"))?;
        let fault = Fault { number: number.to_owned(), row: row.to_owned(), patch: patch.clone() };
        all.insert(fault.number.clone(), fault);
    }
    Ok(all)
}

/// What klar says of a copy of the app with these faults in it.
fn look(world: &World, group: &[&Fault]) -> Result<Value> {
    let numbers: Vec<&str> = group.iter().map(|fault| fault.number.as_str()).collect();
    say(format!("the demo app with the faults {}", numbers.join(", ")));
    let begun = Instant::now();
    let patches: Vec<PathBuf> = group.iter().map(|fault| fault.patch.clone()).collect();
    let app = world.patched(&format!("faults-{}", numbers[0]), &patches)?;
    app.ask(&["up"])?;
    let advisories = repository().join("demo/faults/advisories").display().to_string();
    let mut args = vec!["--full", "--advisories", &advisories];
    args.extend(group.iter().flat_map(|fault| ["--only", &fault.row]));
    let report = check(&app, &args)?;
    app.ask(&["down"])?;
    println!("  {} s", begun.elapsed().as_secs());
    Ok(report)
}
