//! One table for all checks: each good target passes, each planted fault is found.

use std::collections::BTreeSet;

use super::ALL;
use crate::catalogue::Catalogue;
use crate::check::{Check, Fault, Need, Saw};
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
            let (Fault::Foil(_, part) | Fault::Files(_, part) | Fault::Rig(_, part)) = fault;
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
    block_on(async {
        let (in_browser, others): (Vec<Check>, Vec<Check>) =
            ALL.iter().partition(|check| check.about.needs.contains(&Need::Browser));
        for check in others {
            prove_one(check).await;
        }
        if World::new("any").browser.is_none() {
            eprintln!("skipped {} checks: Chromium is not installed", in_browser.len());
            return;
        }
        // Side by side: most of the time each waits for a page.
        let mut proving = tokio::task::JoinSet::new();
        for check in in_browser {
            proving.spawn_local(prove_one(check));
        }
        while let Some(done) = proving.join_next().await {
            done.unwrap();
        }
    });
}

async fn prove_one(check: Check) {
    let control = prove::control(check).await;
    assert_eq!(control.missed, Vec::<String>::new(), "{} does not find this", check.about.id);
    if check.about.faults.iter().any(|fault| matches!(fault, Fault::Foil(..))) {
        let found =
            prove::on_foil(check, &[]).await.unwrap_or_else(|why| panic!("{}: {why}", check.about.id));
        let broken: Vec<_> = found.iter().filter(|found| found.saw == Saw::Broken).collect();
        assert!(broken.is_empty(), "{} finds fault with what is good: {broken:?}", check.about.id);
    }
}

#[test]
#[ignore = "for trying one check by hand"]
fn one_by_hand() {
    let (Ok(id), fault) = (std::env::var("CHECK"), std::env::var("FAULT").unwrap_or_default()) else {
        return;
    };
    let faults: Vec<&str> = fault.split(',').filter(|each| !each.is_empty()).collect();
    block_on(async {
        let foil = crate::foil::Foil::start(&faults).await.unwrap();
        for check in ALL.iter().filter(|check| check.about.id == id) {
            let began = std::time::Instant::now();
            let seen = check.look(std::rc::Rc::new(prove::foil_world(&foil))).await;
            println!("{} {:?} {:?}", id, began.elapsed(), seen);
            if let Ok(seen) = seen {
                for found in check.judge(&seen).unwrap() {
                    println!("  {} {} {:?} {}", found.row, found.part, found.saw, found.because.en);
                }
            }
        }
    });
}
