//! What is older than was promised goes, what is needed stays, and the oldest that stays can be restored.

use jiff::{SignedDuration, Timestamp};
use klar_keep::drill::Drill;
use klar_keep::point::{AnyPoint, PointId, Proof};
use klar_keep::restore;
use klar_keep::retain::retain;
use klar_keep::wal::batch;
use klar_keep::wal::chain::Log;
use klar_repo::CheckData;

use crate::cluster::{Cluster, Home, Kept};

const DAYS: u32 = 5;
const RUNS: i64 = 14;

/// Bytes beneath a folder.
fn size(folder: &std::path::Path) -> u64 {
    let of = |entry: std::fs::DirEntry| match entry.metadata().unwrap() {
        metadata if metadata.is_dir() => size(&entry.path()),
        metadata => metadata.len(),
    };
    std::fs::read_dir(folder).unwrap().flatten().map(of).sum()
}

#[test]
fn what_was_promised_stays_and_what_is_older_goes() {
    let home = Home::new("retention");
    let cluster = Cluster::start(&home);
    let session = cluster.session();
    session.run("create table public.filler (n int, t text)").unwrap();
    let mut kept = Kept::begin(&cluster, &home);
    let trusted = [kept.key.id()];
    let begun = Timestamp::now();
    let day = |number: i64| begun + SignedDuration::from_hours(24 * number);
    let (mut taken, mut sizes) = (Vec::new(), Vec::new());
    for number in 0..RUNS {
        // Something that no other day has, so that there is something to be removed.
        let fill = "truncate public.filler; insert into public.filler select n, md5(random()::text) from generate_series(1, 20000) n";
        session.run(fill).unwrap();
        let mut point = kept.taken(&cluster, &format!("klar-{number}"));
        (point.begun, point.stopped) = (day(number), day(number));
        point.id = PointId::new(day(number), point.snapshot);
        point.publish(&kept.repository, &kept.key).unwrap();
        let proof = Proof {
            format: 1,
            point: point.id.clone(),
            begun: day(number),
            steps: Vec::new(),
            covered: None,
            rto_ms: Some(1),
            rpo_ms: None,
            escrow: false,
            place: None,
        };
        proof.publish(&kept.repository, &kept.key).unwrap();
        taken.push(point.id);
        session.run("select pg_switch_wal()").unwrap();
        let log = Log::read(&kept.repository, kept.facts.segment_size).unwrap();
        batch::make(&kept.repository, &log, kept.facts.system, &kept.key, "host", day(number)).unwrap();
        let now = day(number) + SignedDuration::from_mins(5);
        let retained = retain(&kept.repository, &trusted, DAYS, now).unwrap();
        assert_eq!(retained.doubt, None);
        // That of five days before serves the earliest time, the one before it is needed no more.
        let expected = usize::from(number > i64::from(DAYS));
        assert_eq!(retained.points.len(), expected, "day {number}");
        sizes.push(size(&home.join("repository")));
    }
    let all = restore::Kept::read(&kept.repository, &trusted).unwrap();
    let left: Vec<&PointId> = all.points.points.keys().collect();
    let expected: Vec<&PointId> = taken[taken.len() - DAYS as usize - 1..].iter().collect();
    assert_eq!(left, expected);
    // What goes takes two more days: from then on as much goes as comes.
    assert!(sizes[13] < sizes[9] + sizes[0] / 2, "{sizes:?}");
    assert!(sizes[9] > sizes[4], "{sizes:?}");
    let report = kept.repository.check(CheckData::All, &mut |_| {});
    assert!(report.is_whole(), "{:?}", report.problems);

    kept.end(&cluster);
    let all = restore::Kept::read(&kept.repository, &trusted).unwrap();
    assert!(all.gaps().is_empty(), "{:?}", all.gaps());
    let folder = home.join("drill");
    let drill = Drill {
        kept: &all,
        programs: &cluster.programs,
        folder: &folder,
        assertions: &[],
        escrow: false,
        place: None,
    };
    let proof = drill.run(Some(expected[0])).unwrap();
    assert!(proof.is_good(), "{proof:#?}");

    // A clock that jumps ahead by a year takes nothing along.
    let retained = retain(&kept.repository, &trusted, DAYS, day(365)).unwrap();
    assert!(retained.points.is_empty() && retained.doubt.is_some());
}
