//! What is older than was promised goes, what is needed stays, and the oldest that stays can be restored.

use jiff::SignedDuration;
use klar_keep::keeper::rehearse::{Rehearsal, rehearse};
use klar_keep::point::{Point, PointId, Points};
use klar_keep::wal::batch;
use klar_keep::wal::chain::Log;
use klar_repo::Object;

use crate::cluster::{Home, programs};

const DAYS: u32 = 5;
const RUNS: usize = 14;

#[test]
fn what_was_promised_stays_and_what_is_older_goes() {
    let home = Home::new("retention");
    let mut rehearsal = Rehearsal::begin(&programs(), DAYS, &home.join("rehearsal")).unwrap();
    for number in 0..RUNS {
        rehearsal.day().unwrap();
        let points = Points::<Point>::read(rehearsal.repository(), rehearsal.trusted()).unwrap();
        let left: Vec<&PointId> = points.points.keys().collect();
        // That of five days before serves the earliest time, the one before it is needed no more.
        let taken = rehearsal.taken();
        let expected: Vec<&PointId> = taken.iter().rev().take(DAYS as usize + 1).rev().collect();
        assert_eq!(left, expected, "day {number}");
    }
    let left = rehearsal.left().unwrap();
    assert_eq!((left.days, left.points, left.pruned.len()), (14, DAYS + 1, RUNS - DAYS as usize - 1));
    assert_eq!((&left.oldest_lost, &left.between_lost, &left.left_over), (&None, &None, &None));
    assert_eq!(left.problems, [""; 0]);
    assert_eq!(left.oldest_hours, 24 * u64::from(DAYS));
    // What goes takes two more days: from then on as much goes as comes.
    let sizes = rehearsal.sizes();
    assert!(sizes[13] < sizes[9] + sizes[0] / 4, "{sizes:?}");
    // Each base says when it was read.
    let snapshots = rehearsal.repository().snapshots().unwrap();
    let times = snapshots.iter().filter(|one| one.paths == ["/postgres"]).map(|one| one.time);
    let times: std::collections::BTreeSet<_> = times.collect();
    assert_eq!(times.len(), DAYS as usize + 1);

    // A clock that jumps ahead by a year takes nothing along.
    let retained = rehearsal.jump(SignedDuration::from_hours(365 * 24)).unwrap();
    assert!(retained.points.is_empty() && retained.doubt.is_some());
}

/// What a check asks for, with fewer days than an app keeps.
#[test]
fn a_month_is_rehearsed() {
    const DAYS: u32 = 2;
    let home = Home::new("month");
    let folder = home.join("rehearsal");
    let mut heard = Vec::new();
    let said = rehearse(&programs(), DAYS, &folder, &mut |day, of| {
        heard.push((day, of));
        true
    });
    let left = said.unwrap();
    assert_eq!((left.wanted, left.keep, left.days, left.points), (DAYS, DAYS, DAYS + 4, DAYS + 1));
    assert_eq!((&left.oldest_lost, &left.between_lost, &left.left_over), (&None, &None, &None));
    assert_eq!((left.pruned.len(), left.problems.len()), (3, 0), "{left:#?}");
    assert_eq!(heard, (1..=6).map(|day| (day, 6)).collect::<Vec<_>>());
    assert!(!folder.exists());
    // Nobody waits for it any more.
    let said = rehearse(&programs(), DAYS, &folder, &mut |day, _| day < 2).unwrap_err().to_string();
    assert!(said.contains("nobody waits"), "{said}");
    assert!(!folder.exists());
}

#[test]
fn what_is_wrong_after_a_month_is_seen() {
    let home = Home::new("month-wrong");
    let mut rehearsal = Rehearsal::begin(&programs(), 2, &home.join("rehearsal")).unwrap();
    rehearsal.day().unwrap();
    // Nothing went yet.
    assert!(rehearsal.left().unwrap().left_over.is_some_and(|left| left.contains("no point went")));
    for _ in 0..5 {
        rehearsal.day().unwrap();
    }
    let good = rehearsal.left().unwrap();
    assert_eq!((&good.oldest_lost, &good.between_lost, &good.left_over), (&None, &None, &None));
    // As many bytes as the first day had.
    let storage = rehearsal.repository().storage();
    let junk = Object::Extra("klar/junk".to_owned());
    storage.write(&junk, &vec![7; (good.bytes_before - good.bytes_after) as usize]).unwrap();
    assert!(rehearsal.left().unwrap().left_over.is_some_and(|left| left.starts_with("bytes: ")));
    storage.remove(&junk).unwrap();
    // The log after the oldest point.
    let oldest = Points::<Point>::read(rehearsal.repository(), rehearsal.trusted()).unwrap();
    let oldest = oldest.points.into_values().next().unwrap();
    let log = Log::read(rehearsal.repository(), oldest.segment_size).unwrap();
    let batches = log.timelines.get(&oldest.timeline).unwrap().batches.iter();
    let after = batches.filter(|name| batch::bounds(name, log.size).0 >= oldest.stop).min().unwrap();
    storage.remove(&Object::Extra(after.name())).unwrap();
    let left = rehearsal.left().unwrap();
    assert_eq!(left.oldest_lost, None);
    assert!(left.between_lost.is_some() && !left.problems.is_empty(), "{left:#?}");
}
