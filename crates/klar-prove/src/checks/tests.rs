//! One table for all checks: each good target passes, each planted fault is found.

use std::collections::BTreeSet;

use super::ALL;
use crate::catalogue::Catalogue;
use crate::check::{Check, Fault, Need, Saw};
use crate::foil::postgres::Cluster;
use crate::prove;
use crate::world::World;

/// Runs on one thread, as checks do.
fn block_on<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    tokio::task::LocalSet::new().block_on(&runtime, work)
}

#[test]
fn every_check_names_parts_that_the_catalogue_has() {
    let mut ids = BTreeSet::new();
    for check in ALL {
        let about = check.about;
        assert!(ids.insert(about.id), "{} is there twice", about.id);
        for (row, part) in about.shows {
            let found =
                Catalogue::built_in().get(row).unwrap_or_else(|| panic!("{}: no row {row}", about.id));
            assert!(
                found.proof.iter().any(|each| each.id == *part),
                "{}: {row} has no part {part}",
                about.id
            );
        }
        assert!(!about.faults.is_empty(), "{} has no planted fault: its pass would prove nothing", about.id);
        for fault in about.faults {
            let (Fault::Foil(_, part)
            | Fault::Files(_, part)
            | Fault::Database(_, part)
            | Fault::Rig(_, part)
            | Fault::Own(part)) = fault;
            assert!(
                about.shows.contains(part),
                "{}: it does not show {part:?}, which its fault breaks",
                about.id
            );
        }
    }
}

#[test]
fn every_planted_fault_is_found_and_nothing_else() {
    let wrong = block_on(async {
        // One cluster for all faults that are planted in databases; without a server these faults are missed.
        let _cluster = Cluster::shared().await;
        let mut wrong = Vec::new();
        // `KLAR_CHECKS=logs,metrics` tries these alone.
        let wanted = std::env::var("KLAR_CHECKS").ok();
        let is_wanted = |check: &&Check| {
            wanted.as_ref().is_none_or(|wanted| wanted.split(',').any(|id| id == check.about.id))
        };
        for (check, first) in prove::each(ALL.iter().filter(is_wanted).copied().collect(), tried).await {
            if !first.is_empty() {
                // What measures how fast a page is may have had too little of the machine: alone it has all of it.
                wrong.extend(tried(check).await);
            }
        }
        wrong
    });
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// What is wrong with a check: a fault that it misses, and a good app that it finds fault with.
async fn tried(check: Check) -> Vec<String> {
    let id = check.about.id;
    if check.about.needs.contains(&Need::Browser) && World::new("any").browser.is_none() {
        eprintln!("skipped {id}: Chromium is not installed");
        return Vec::new();
    }
    let control = prove::control(check).await;
    let mut wrong: Vec<String> =
        control.missed.iter().map(|fault| format!("{id} does not find {fault}")).collect();
    if check.about.faults.iter().any(|fault| matches!(fault, Fault::Foil(..))) {
        match prove::on_foil(check, &[]).await {
            Err(why) => wrong.push(format!("{id}: {why}")),
            Ok(found) => {
                let broken = found.iter().filter(|found| found.saw == Saw::Broken);
                wrong.extend(broken.map(|found| format!("{id} finds fault with what is good: {found:?}")));
            }
        }
    }
    if check.about.faults.iter().any(|fault| matches!(fault, Fault::Database(..))) {
        match prove::on_database(check, &[]).await {
            Err(why) => wrong.push(format!("{id}: {why}")),
            Ok(found) => {
                let broken = found.iter().filter(|found| found.saw == Saw::Broken);
                wrong.extend(broken.map(|found| format!("{id} finds fault with what is good: {found:?}")));
            }
        }
    }
    wrong
}

/// Checks that are hard to satisfy, and the parts that a good app must be able to show them.
const HELD: &[(&str, &[&str])] = &[
    ("access", &["horizontal", "vertical", "tokens"]),
    ("csrf", &["foreign-origin", "no-token", "valid-token", "cookies"]),
    ("lists", &["limit", "walk", "default", "total", "fields"]),
    ("oversized", &["oversized"]),
    ("front-end", &["assets", "deep-link"]),
    ("database-away", &["status", "prompt", "recovery", "next-request", "logged", "ready", "live"]),
    ("cache-away", &["cache-down", "core-flows", "recovery"]),
    ("logs", &["json", "fields", "redacted", "logs"]),
    ("xss", &["reflected", "stored"]),
    ("xss-browser", &["stored", "dom"]),
    ("validation", &["refused", "no-5xx", "invalid"]),
    ("operations", &["valid", "examples"]),
];

#[test]
fn what_a_good_app_does_well_is_seen() {
    let wrong = block_on(async {
        let mut wrong = Vec::new();
        for (id, parts) in HELD {
            let Some(check) = ALL.iter().find(|check| check.about.id == *id) else { panic!("no check {id}") };
            match prove::on_foil(*check, &[]).await {
                Err(why) => wrong.push(format!("{id}: {why}")),
                Ok(found) => {
                    let other = found
                        .into_iter()
                        .filter(|found| parts.contains(&found.part) && found.saw != Saw::Held);
                    wrong.extend(other.map(|found| format!("{id}: {found:?}")));
                }
            }
        }
        wrong
    });
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
