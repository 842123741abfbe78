//! Faults that somebody planted who had not seen the probes: `klar check` has to find each of them.
//!
//! Several are planted in one copy of the demo app, as `demo/faults/groups.txt` says, so that the copy is set up once
//! for all of them.

use std::collections::{BTreeMap, VecDeque};
use std::fmt::Write as _;
use std::path::PathBuf;
use std::sync::Mutex;
use std::time::Instant;

use anyhow::{Context, Result, anyhow, bail, ensure};
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
    let groups = groups.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let wanted = groups
        .filter(|group| only.is_empty() || group.iter().any(|number| only.iter().any(|one| one == number)));
    let mut waiting: VecDeque<Vec<&Fault>> = VecDeque::new();
    for group in wanted {
        let named = |number: &&str| {
            all.get(*number).with_context(|| format!("groups.txt: there is no fault {number}"))
        };
        waiting.push_back(group.iter().map(named).collect::<Result<_>>()?);
    }
    // One klar for all: the checks show only once that they can fail.
    let mut world = World::fleeting("faults", klar.to_owned())?;
    let waiting = Mutex::new(waiting);
    let work = || -> Result<Vec<String>> {
        let mut missed = Vec::new();
        loop {
            let Some(group) = waiting.lock().map_err(|_| anyhow!("another group broke off"))?.pop_front()
            else {
                return Ok(missed);
            };
            let report = look(&world, &group, "")?;
            missed.extend(tell(&report, &group)?);
        }
    };
    // Most of what a group takes is waiting: for instances, for pages, for what is away.
    let missed: Vec<String> = std::thread::scope(|scope| {
        let both = [scope.spawn(work), scope.spawn(work)];
        let done = both.map(|half| half.join().unwrap_or_else(|_| bail!("a group broke off")));
        done.into_iter().collect::<Result<Vec<_>>>().map(|halves| halves.concat())
    })?;
    // What is missed in company may be found alone, on a machine that is not busy.
    let alone: Vec<&Fault> = all.values().filter(|fault| missed.contains(&fault.row)).collect();
    let missed = match alone.is_empty() {
        true => Vec::new(),
        false => tell(&look(&world, &alone, "again-")?, &alone)?,
    };
    world.stop()?;
    ensure!(missed.is_empty(), "not found: {}", missed.join(", "));
    println!("  all faults were found");
    Ok(())
}

/// Prints what was found of a group, and gives what was not.
fn tell(report: &Value, group: &[&Fault]) -> Result<Vec<String>> {
    let mut told = String::new();
    let mut missed = Vec::new();
    for fault in group {
        let row = report["rows"].as_array().into_iter().flatten().find(|row| row["row"] == *fault.row);
        let row = row.with_context(|| format!("there is no row {}", fault.row))?;
        let standing = row["standing"].as_str().unwrap_or_default();
        writeln!(told, "  {} {:<28} {standing}", fault.number, fault.row)?;
        for part in row["parts"].as_array().into_iter().flatten() {
            let text = |key: &str| part[key].as_str().unwrap_or_default();
            if standing != "failing" || text("saw") == "broken" {
                let because = part["because"]["en"].as_str().unwrap_or_default();
                writeln!(told, "       {:<12} {:<10} {because}", text("part"), text("saw"))?;
            }
        }
        if standing != "failing" {
            missed.push(fault.row.clone());
        }
    }
    print!("{told}");
    Ok(missed)
}

/// The rows that faults are planted in: where none is, none may be found.
pub fn rows() -> Result<Vec<String>> {
    Ok(read(&repository().join("demo/faults"))?.into_values().map(|fault| fault.row).collect())
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
fn look(world: &World, group: &[&Fault], again: &str) -> Result<Value> {
    let numbers: Vec<&str> = group.iter().map(|fault| fault.number.as_str()).collect();
    say(format!("the demo app with the faults {}", numbers.join(", ")));
    let begun = Instant::now();
    let patches: Vec<PathBuf> = group.iter().map(|fault| fault.patch.clone()).collect();
    let app = world.patched(&format!("faults-{again}{}", numbers[0]), &patches)?;
    app.ask(&["up"])?;
    let advisories = repository().join("demo/faults/advisories").display().to_string();
    let mut args = vec!["--full", "--advisories", &advisories];
    args.extend(group.iter().flat_map(|fault| ["--only", &fault.row]));
    let report = check(&app, &args)?;
    app.ask(&["down"])?;
    println!("  {}: {} s", numbers.join(", "), begun.elapsed().as_secs());
    Ok(report)
}
