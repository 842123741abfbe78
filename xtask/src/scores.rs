//! Three scores side by side: the faulty twin alone, the twin behind klar, the demo app behind klar.

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::shell::say;
use crate::world::{World, serving};
use crate::{faults, install, world};

/// The twin alone must not get as many points: a checklist that likes everything proves nothing.
const RAW_AT_MOST: u64 = 19;

/// Sets up what it needs first.
pub fn alone() -> Result<()> {
    install::ensure("The scores", true)?;
    let mut lisens = World::fleeting("scores", world::build(false)?)?;
    lisens.ask(&["up"])?;
    let blamed = scores(&lisens)?;
    lisens.stop()?;
    ensure!(blamed.is_empty(), "faults are found where none is planted: {}", blamed.join(", "));
    Ok(())
}

/// Checks all three and shows the tables. Gives the rows of the good app that fail although no fault is planted in them.
pub fn scores(lisens: &World) -> Result<Vec<String>> {
    say("klar check: the faulty twin alone, behind klar, and the demo app behind klar");
    let mut raw = World::of_raw(lisens.program().to_owned())?;
    raw.ask(&["up"])?;
    let status = raw.status()?;
    let port = serving(&status)
        .first()
        .and_then(|instance| instance["port"].as_u64())
        .context("no instance serves")?;
    let (url, folder) = (format!("http://127.0.0.1:{port}"), raw.app.display().to_string());
    let alone = check(&raw, &["--url", &url, "--source", &folder])?;
    let behind = check(&raw, &["--full"])?;
    raw.stop()?;
    let good = check(lisens, &["--full"])?;
    let reports = [("raw alone", &alone), ("raw behind klar", &behind), ("lisens behind klar", &good)];
    table(&reports);
    missed(reports[2].0, reports[2].1);
    let planted = faults::rows()?;
    let mut blamed = blamed_of(&good, &planted);
    if !blamed.is_empty() {
        say(format!("once more, on a machine that may be quieter: {}", blamed.join(", ")));
        let only: Vec<&str> = blamed.iter().flat_map(|row| ["--only", row]).collect();
        blamed = blamed_of(&check(lisens, &[&["--full"], &only[..]].concat())?, &planted);
    }
    let points = total(&alone);
    ensure!(points <= RAW_AT_MOST, "the faulty twin alone gets {points} of 80 points");
    ensure!(total(&alone) <= total(&behind), "behind klar the twin has lost points");
    Ok(blamed)
}

/// The rows that fail in a report, of those in which faults are planted elsewhere.
fn blamed_of(report: &Value, planted: &[String]) -> Vec<String> {
    let rows = report["rows"].as_array().into_iter().flatten();
    let failing = rows.filter(|row| row["standing"] == "failing").filter_map(|row| row["row"].as_str());
    failing.filter(|row| planted.iter().any(|each| each == row)).map(str::to_owned).collect()
}

/// A report; that an app is not ready is no error here.
pub fn check(world: &World, args: &[&str]) -> Result<Value> {
    let output = world.try_klar(&[&["check", "--format", "json"], args].concat())?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(
        matches!(output.status.code(), Some(0 | 1)),
        "klar check {}: {}\n{said}",
        args.join(" "),
        output.status
    );
    serde_json::from_slice(&output.stdout)
        .with_context(|| format!("klar check {}: no report\n{said}", args.join(" ")))
}

fn total(report: &Value) -> u64 {
    report["score"]["total"].as_u64().unwrap_or(0)
}

/// Their scores side by side.
pub fn table(reports: &[(&str, &Value)]) {
    print!("\n  {:<16}", "");
    reports.iter().for_each(|(name, _)| print!("{name:>20}"));
    println!();
    let lines = |report: &Value| report["score"]["categories"].as_array().cloned().unwrap_or_default();
    for (place, line) in lines(reports[0].1).iter().enumerate() {
        print!("  {:<16}", line["category"].as_str().unwrap_or_default());
        for (_, report) in reports {
            let line = &lines(report)[place];
            let score = line["score"].as_u64().unwrap_or(0);
            print!("{:>20}", format!("{} {score}/10", line["status"]["en"].as_str().unwrap_or_default()));
        }
        println!();
    }
    print!("  {:<16}", "total");
    reports.iter().for_each(|(_, report)| print!("{:>20}", format!("{}/80", total(report))));
    println!();
    for (place, what) in
        ["failing", "partial", "unknown", "stale", "waived", "attested", "proven"].iter().enumerate()
    {
        let count = |report: &Value| report["counts"][place][1].as_u64().unwrap_or(0);
        if reports.iter().any(|(_, report)| count(report) > 0) {
            print!("  {what:<16}");
            reports.iter().for_each(|(_, report)| print!("{:>20}", count(report)));
            println!();
        }
    }
    println!();
}

/// Every point that is missed, with its reason.
fn missed(name: &str, report: &Value) {
    println!("  what {name} misses:");
    for step in report["roadmap"].as_array().into_iter().flatten() {
        let text = |key: &str| step[key]["en"].as_str().unwrap_or_default();
        let points = step["points"].as_u64().unwrap_or(0);
        println!(
            "  {:>5}  {:<28} {}",
            format!("{}.{:02}", points / 100, points % 100),
            step["row"].as_str().unwrap_or_default(),
            text("problem")
        );
    }
}
