//! What is older than was promised goes, what is needed stays, and the oldest that stays can be restored.

use jiff::SignedDuration;
use klar_keep::keeper::rehearse::{Rehearsal, rehearse};
use klar_keep::point::{Point, PointId, Points};

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

/// The month that a check asks for, with as many days as the app keeps.
#[test]
fn a_month_is_rehearsed() {
    let home = Home::new("month");
    let folder = home.join("rehearsal");
    let mut heard = Vec::new();
    let begun = std::time::Instant::now();
    let days = std::env::var("KLAR_DAYS").ok().and_then(|days| days.parse().ok()).unwrap_or(3);
    let said = rehearse(&programs(), days, &folder, &mut |day, of| {
        heard.push((day, of));
        true
    });
    let left = said.unwrap();
    eprintln!("{} s {left:#?}", begun.elapsed().as_secs_f64());
    assert_eq!((left.wanted, left.keep, left.days, left.points), (days, days, days + 4, days + 1));
    assert_eq!((&left.oldest_lost, &left.between_lost, &left.left_over), (&None, &None, &None));
    assert_eq!((left.pruned.len(), left.problems.len()), (3, 0), "{left:#?}");
    assert!(!folder.exists());
    assert_eq!(heard.len(), days as usize + 4);
    // Nobody waits for it any more.
    let said = rehearse(&programs(), days, &folder, &mut |day, _| day < 2).unwrap_err().to_string();
    assert!(said.contains("nobody waits"), "{said}");
    assert!(!folder.exists());
}
