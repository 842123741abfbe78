//! What may go: points that are older than what was promised, and the log that only they need.
//!
//! Deleting is the one thing here that cannot be taken back, so it is done late and believes no clock alone: what a clock
//! that has jumped would remove stays until several points after the jump say the same.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use klar_base::Hint;
use klar_repo::{ForgetError, Id, Object, PruneError, PruneOptions, Pruned, ReadError, Repository, Snapshot};
use klar_store::KeyId;

use crate::lsn::{Lsn, Timeline};
use crate::point::{AnyPoint, Point, PointId, Points, Proof};
use crate::signed::SignedError;
use crate::wal::WalError;
use crate::wal::batch;
use crate::wal::chain::Log;

/// Points that were restored and found good, of which so many stay whatever their age.
const PROVEN: usize = 2;
/// So many of them.
const STEADY_POINTS: usize = 3;
/// A clock may be a little off.
pub(crate) const AHEAD: SignedDuration = SignedDuration::from_hours(1);
/// How long packs stay that nobody needs.
const DELAY: Duration = Duration::from_secs(24 * 3600);
/// What klar's own snapshots are marked with: of bases and batches, of folders, of a Redis, of dumps.
const OURS: [&str; 4] = ["klar", "files", "redis", "dump"];
/// So much is copied at most to make space, each time.
const REPACK: u64 = 2 << 30;

/// How often points come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rhythm {
    /// All of the last day stay, and one of each day before.
    Hourly,
    /// Of each day.
    Daily,
    /// Of each week.
    Weekly,
}

impl Rhythm {
    /// The newest points come in this distance, or nothing is removed.
    fn steady(self) -> SignedDuration {
        SignedDuration::from_hours(if self == Self::Weekly { 3 * 7 * 24 } else { 3 * 24 })
    }
}

/// What was removed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Retained {
    /// Points.
    pub points: Vec<PointId>,
    /// Pieces of the log and batches.
    pub log: u64,
    /// What became of the objects beneath.
    pub pruned: Pruned,
    /// Why nothing was removed, where that is for the clock.
    pub doubt: Option<String>,
}

/// Nothing, or not all, was removed that could be.
#[derive(Debug, thiserror::Error)]
pub enum RetainError {
    /// Points.
    #[error(transparent)]
    Signed(#[from] SignedError),
    /// The log.
    #[error(transparent)]
    Wal(#[from] WalError),
    /// Which snapshots there are.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// Snapshots.
    #[error(transparent)]
    Forget(#[from] ForgetError),
    /// Packs.
    #[error(transparent)]
    Prune(#[from] PruneError),
}

impl Hint for RetainError {
    fn hint(&self) -> Option<String> {
        Some("nothing is lost by it; it is tried again after the next point".into())
    }
}

/// Removes what is older than `days` and nobody needs. Whoever calls it has just published a point.
///
/// # Errors
/// The first thing that is wrong; what was removed by then was rightly removed.
pub fn retain(
    repository: &Repository,
    trusted: &[KeyId],
    days: u32,
    now: Timestamp,
) -> Result<Retained, RetainError> {
    let mut points = Points::<Point>::read(repository, trusted)?;
    let mut retained = Retained::default();
    let Some(mut snapshots) =
        retain_points(repository, &mut points, days, Rhythm::Daily, now, &mut retained)?
    else {
        return Ok(retained);
    };
    retained.log = log(repository, trusted, &points, &mut snapshots)?;
    let mut named: BTreeSet<Id> = points.points.values().map(AnyPoint::snapshot).collect();
    if let Some(newest) = points.points.values().next_back() {
        for name in
            Log::read(repository, newest.segment_size)?.timelines.values().flat_map(|there| &there.batches)
        {
            named.insert(name.read(repository, trusted)?.snapshot);
        }
    }
    sweep(repository, &points, &named, snapshots, now, &mut retained)?;
    Ok(retained)
}

/// The same for points that have no log.
///
/// # Errors
/// As [`retain`].
pub fn retain_files<P: AnyPoint>(
    repository: &Repository,
    trusted: &[KeyId],
    days: u32,
    rhythm: Rhythm,
    now: Timestamp,
) -> Result<Retained, RetainError> {
    let mut points = Points::<P>::read(repository, trusted)?;
    let mut retained = Retained::default();
    if let Some(mut snapshots) = retain_points(repository, &mut points, days, rhythm, now, &mut retained)? {
        for id in if rhythm == Rhythm::Hourly { thinned(&ages(&points), days, now) } else { Vec::new() } {
            snapshots.extend(points.points.get(&id).map(AnyPoint::snapshot));
            points.remove(repository, &id)?;
            retained.points.push(id);
        }
        let named = points.points.values().map(AnyPoint::snapshot).collect();
        sweep(repository, &points, &named, snapshots, now, &mut retained)?;
    }
    Ok(retained)
}

/// Removes points, and gives the snapshots that they had; `None`: the clock is not believed.
fn retain_points<P: AnyPoint>(
    repository: &Repository,
    points: &mut Points<P>,
    days: u32,
    rhythm: Rhythm,
    now: Timestamp,
    retained: &mut Retained,
) -> Result<Option<Vec<Id>>, RetainError> {
    let ages = ages(points);
    retained.doubt = doubt(&ages, rhythm.steady(), now);
    if retained.doubt.is_some() {
        return Ok(None);
    }
    let mut snapshots: Vec<Id> = Vec::new();
    for id in doomed(&ages, days, now) {
        snapshots.extend(points.points.get(&id).map(AnyPoint::snapshot));
        points.remove(repository, &id)?;
        retained.points.push(id);
    }
    Ok(Some(snapshots))
}

/// Each point, when it was taken, and whether it is known to be good.
fn ages<P: AnyPoint>(points: &Points<P>) -> Vec<(PointId, Timestamp, bool)> {
    let age = |point: &P| {
        let is_good = points.last_proof(point.id()).is_some_and(Proof::is_good);
        (point.id().clone(), point.stopped(), is_good)
    };
    points.points.values().map(age).collect()
}

/// Forgets snapshots, and whatever an earlier attempt has left behind: those of klar's that nothing names any more and that
/// are older than the oldest point. What is being written now is not.
fn sweep<P: AnyPoint>(
    repository: &Repository,
    points: &Points<P>,
    named: &BTreeSet<Id>,
    mut snapshots: Vec<Id>,
    now: Timestamp,
    retained: &mut Retained,
) -> Result<(), RetainError> {
    let there = repository.snapshots()?;
    let of_points = points.points.values().map(AnyPoint::snapshot).collect::<BTreeSet<Id>>();
    let oldest = there.iter().filter(|one| of_points.contains(&one.id)).map(|one| one.time).min();
    let is_left = |one: &&Snapshot| {
        one.tags.iter().any(|tag| OURS.contains(&tag.as_str()))
            && !named.contains(&one.id)
            && oldest.is_some_and(|oldest| one.time < oldest)
    };
    snapshots.extend(there.iter().filter(is_left).map(|one| one.id));
    snapshots.sort_unstable();
    snapshots.dedup();
    if !snapshots.is_empty() {
        repository.forget(&snapshots)?;
    }
    let options = PruneOptions { now, delay: DELAY, max_repack_bytes: REPACK };
    retained.pruned = repository.prune(options, &mut |_| {})?;
    Ok(())
}

/// Why the clock is not believed.
fn doubt(ages: &[(PointId, Timestamp, bool)], steady: SignedDuration, now: Timestamp) -> Option<String> {
    let last = &ages[ages.len().saturating_sub(STEADY_POINTS)..];
    let (_, newest, _) = last.last()?;
    let since = now.duration_since(*newest);
    if since < -AHEAD {
        return Some(format!(
            "the newest point is of {newest}, and it is {now}: nothing is removed by this clock"
        ));
    }
    if since > steady {
        return Some(format!(
            "the newest point is of {newest}, and it is {now}: nothing is removed before there is another"
        ));
    }
    let jump = last.windows(2).find(|pair| pair[1].1.duration_since(pair[0].1) > steady);
    jump.map(|pair| {
        format!(
            "between {} and {} there is no point: nothing is removed before {STEADY_POINTS} came one after the other",
            pair[0].1, pair[1].1
        )
    })
}

/// Points that may go. The one that the earliest promised time is restored from stays, and so do the newest that are
/// known to be good.
fn doomed(ages: &[(PointId, Timestamp, bool)], days: u32, now: Timestamp) -> Vec<PointId> {
    let limit = now - SignedDuration::from_hours(24 * i64::from(days));
    let old = ages.iter().take_while(|(_, stopped, _)| *stopped <= limit).count();
    let proven: Vec<&PointId> =
        ages.iter().rev().filter(|(.., good)| *good).take(PROVEN).map(|(id, ..)| id).collect();
    let candidates = ages.iter().take(old.saturating_sub(1));
    // Where the point that should serve the earliest time is not known to be good, the ones before it are worth more.
    let serves = ages.get(old.saturating_sub(1)).is_some_and(|(.., good)| *good);
    candidates.filter(|(id, ..)| serves && !proven.contains(&id)).map(|(id, ..)| id.clone()).collect()
}

/// Of points that are older than a day, those that are not the last good one of their day. The one that the earliest promised
/// time is restored from stays, and so do the newest that are known to be good.
fn thinned(ages: &[(PointId, Timestamp, bool)], days: u32, now: Timestamp) -> Vec<PointId> {
    let of_day = |time: &Timestamp| time.as_second().div_euclid(24 * 3600);
    let limit = now - SignedDuration::from_hours(24 * i64::from(days));
    let serves = ages.iter().rev().find(|(_, stopped, _)| *stopped <= limit).map(|(id, ..)| id);
    let proven = ages.iter().rev().filter(|(.., good)| *good).take(PROVEN).map(|(id, ..)| id);
    let stay: Vec<&PointId> = proven.chain(serves).collect();
    // One that is not known to be good goes only where a good one of its day stays.
    let best: BTreeMap<i64, &PointId> =
        ages.iter().filter(|(.., good)| *good).map(|(id, stopped, _)| (of_day(stopped), id)).collect();
    let old =
        ages.iter().filter(|(_, stopped, _)| now.duration_since(*stopped) > SignedDuration::from_hours(24));
    let goes = |(id, stopped, _): &&(PointId, Timestamp, bool)| {
        best.get(&of_day(stopped)).is_some_and(|best| *best != id) && !stay.contains(&id)
    };
    old.filter(goes).map(|(id, ..)| id.clone()).collect()
}

/// Removes the log before the oldest point of each timeline, and adds the snapshots that had it.
fn log(
    repository: &Repository,
    trusted: &[KeyId],
    points: &Points,
    snapshots: &mut Vec<Id>,
) -> Result<u64, RetainError> {
    let Some(newest) = points.points.values().next_back() else { return Ok(0) };
    let log = Log::read(repository, newest.segment_size)?;
    let oldest = |points: &mut dyn Iterator<Item = &Point>| points.map(|point| point.start).min();
    let mut starts: BTreeMap<Timeline, Lsn> = BTreeMap::new();
    for timeline in log.timelines.keys() {
        let of_it = oldest(&mut points.points.values().filter(|point| point.timeline == *timeline));
        starts.extend(of_it.map(|start| (*timeline, start)));
    }
    let first = points.points.values().map(|point| point.timeline).min().unwrap_or(1);
    let storage = repository.storage();
    let mut removed = 0;
    for (timeline, there) in &log.timelines {
        let before = match starts.get(timeline) {
            // The segment in which a base begins is needed whole.
            Some(start) => start.segment(*timeline, log.size).start(log.size),
            // No point is on it or on one that it came from.
            None if *timeline < first => Lsn(u64::MAX),
            None => continue,
        };
        for piece in there.pieces.iter().filter(|piece| piece.end(log.size) <= before) {
            storage.remove(&Object::Extra(piece.name(log.size))).map_err(WalError::from)?;
            removed += 1;
        }
        for name in there.batches.iter().filter(|name| batch::bounds(name, log.size).1 <= before) {
            snapshots.push(name.read(repository, trusted)?.snapshot);
            storage.remove(&Object::Extra(name.name())).map_err(WalError::from)?;
            removed += 1;
        }
        for turned in there.turned.iter().filter(|turned| turned.to <= before) {
            storage.remove(&Object::Extra(turned.name())).map_err(WalError::from)?;
        }
        if let Some(tide) = there.tide.filter(|_| *timeline < first) {
            storage.remove(&Object::Extra(tide.name())).map_err(WalError::from)?;
        }
    }
    Ok(removed)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Points `d days ago`, `d!` for one that is good.
    fn ages(text: &str, now: Timestamp) -> Vec<(PointId, Timestamp, bool)> {
        let age = |word: &str| {
            let (days, good) = word.strip_suffix('!').map_or((word, false), |days| (days, true));
            let time = now - SignedDuration::from_mins((days.parse::<f64>().unwrap() * 1440.0) as i64);
            (PointId::new(time, Id::of(b"x")), time, good)
        };
        text.split_whitespace().map(age).collect()
    }

    #[test]
    fn what_is_older_than_was_promised_may_go() {
        let now: Timestamp = "2026-11-23T02:10:00Z".parse().unwrap();
        for (points, expected) in [
            ("", ""),
            ("0!", ""),
            ("40! 2! 1! 0!", ""),        // the earliest time is restored from the oldest
            ("40! 31! 2! 1! 0!", "40!"), // from 31 days ago on
            ("40! 35! 31! 29! 1! 0!", "40! 35!"),
            ("40! 31 2! 1! 0!", ""), // that of 31 days ago is not known to be good
            ("50! 40! 35 31! 1 0", "50! 35"), // the newest two that are good stay
        ] {
            let all = ages(points, now);
            let expected: Vec<PointId> = ages(expected, now).into_iter().map(|(id, ..)| id).collect();
            assert_eq!(doomed(&all, 30, now), expected, "{points}");
        }
    }

    #[test]
    fn of_hourly_points_one_of_each_day_stays() {
        let now: Timestamp = "2026-11-23T12:00:00Z".parse().unwrap();
        for (points, expected) in [
            ("", ""),
            ("0.9! 0.5! 0.1! 0!", ""),               // all of the last day stay
            ("2.3! 2.2! 2.1! 0!", "2.3! 2.2!"),      // three of one day, of which the last stays
            ("2.3! 2.2! 2.1 0.1! 0!", "2.3! 2.1"),   // the last good one
            ("2.3 2.2 0!", ""),                      // of which none is known to be good
            ("2.2! 2.1!", ""),                       // the newest two that are good stay
            ("7.3! 7.2! 7.1! 0.1! 0!", "7.3! 7.2!"), // the earliest time is restored from the last of its day
            ("1.4! 1.3! 0.6! 0.5! 0!", "1.4! 1.3!"), // that of 0.6 days ago is of the same day
        ] {
            let all = ages(points, now);
            let expected: Vec<PointId> = ages(expected, now).into_iter().map(|(id, ..)| id).collect();
            assert_eq!(thinned(&all, 6, now), expected, "{points}");
        }
    }

    #[test]
    fn a_clock_that_jumped_removes_nothing() {
        let now: Timestamp = "2026-11-23T02:10:00Z".parse().unwrap();
        for (points, is_doubted) in [
            ("40! 31! 2! 1! 0!", false),
            ("40! 31! 30! 29!", true), // none for a long time: the clock went ahead
            ("40! 2! 1! -2!", true),   // the newest is still to come: it went back
            ("40! 39! 38! 0!", true),  // one point after a jump
            ("40! 39! 1! 0!", true),   // two
            ("40! 2! 1! 0!", false),   // three
        ] {
            let doubted = |rhythm: Rhythm| doubt(&ages(points, now), rhythm.steady(), now).is_some();
            assert_eq!(doubted(Rhythm::Daily), is_doubted, "{points}");
            assert!(!doubted(Rhythm::Weekly) || is_doubted, "{points}");
        }
        for (points, is_doubted) in [("28! 21! 14! 7! 0!", false), ("90! 60! 30! 0!", true)] {
            let doubted = doubt(&ages(points, now), Rhythm::Weekly.steady(), now);
            assert_eq!(doubted.is_some(), is_doubted, "{points}");
        }
    }
}
