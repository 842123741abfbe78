//! Points: taken each day, and whenever the log has a gap; each one restored and compared before it counts.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::{Timestamp, ToSpan, Zoned};
use klar_repo::{Folder, Repository};

use super::{Event, Inner, KeepError, Streaming};
use crate::base;
use crate::drill::Drill;
use crate::lsn::{Lsn, Timeline};
use crate::point::{AnyPoint, Point, PointId, Points, Proof};
use crate::restore::Kept;
use crate::retain::{self, Retained};
use crate::server::Session;
use crate::ship::{Progress, Shipped};
use crate::witness::{self, Depth};

/// How often it is looked whether a base is due.
const LOOK: Duration = Duration::from_secs(2);
/// After a base that came to nothing another one is tried.
const AGAIN: Duration = Duration::from_secs(300);
/// The second place costs money to be read.
const SECOND_AGAIN: Duration = Duration::from_secs(6 * 3600);
/// The log of a base may take so long to come in.
const LOG: Duration = Duration::from_secs(600);
/// Once a week all rows are compared; on other days so much of each table.
const SAMPLE: u64 = 64 << 20;

impl Inner {
    pub(super) fn points(&self) {
        let mut failed: Option<Instant> = None;
        let mut second_failed: Option<Instant> = None;
        while !self.is_over() {
            let waits = failed.is_some_and(|at| at.elapsed() < AGAIN);
            let is_streaming = self.shared().streaming.is_some();
            if is_streaming && !waits && self.is_due() {
                let taken = self.point(&mut |_, _, _| {});
                failed = taken.is_err().then(Instant::now);
                self.note("base", &taken);
            }
            if self.second_is_due() && second_failed.is_none_or(|at| at.elapsed() >= SECOND_AGAIN) {
                let _alone = self.alone();
                let proven = self.drill(None, None, true).and_then(|proof| match proof.first_bad() {
                    Some(bad) => {
                        Err(KeepError::NotProven { point: proof.point.clone(), what: bad.evidence.clone() })
                    }
                    None => Ok(()),
                });
                second_failed = proven.is_err().then(Instant::now);
                self.note("second drill", &proven);
            }
            if let Some(made) = self.keep_warm() {
                self.note("warm", &made);
            }
            self.rest(LOOK);
        }
    }

    /// Whether there is a base since its time came last, and no gap after it.
    fn is_due(&self) -> bool {
        let (hour, minute) = self.wishes().at;
        let shared = self.shared();
        let Some(newest) = shared.known.newest(Timestamp::now()) else { return true };
        shared.want_base.is_some() || newest < last_time(&Zoned::now(), hour, minute)
    }

    /// Takes a base, publishes it with its log, and proves it.
    pub(super) fn point(&self, progress: &mut dyn FnMut(&str, u64, u64)) -> Result<Proof, KeepError> {
        let _alone = self.alone();
        let taken = self.taken(progress).and_then(|point| {
            progress("restoring it to compare it", 0, 0);
            self.drill(Some(&point), None, false)
        });
        self.doing(None);
        self.learn();
        let proof = taken?;
        self.note("base", &Ok(()));
        if proof.is_good() {
            self.note("retention", &self.retained());
            self.learn();
        }
        match proof.first_bad() {
            Some(bad) => Err(KeepError::NotProven { point: proof.point.clone(), what: bad.evidence.clone() }),
            None => Ok(proof),
        }
    }

    /// Removes what is older than was promised.
    pub(super) fn retained(&self) -> Result<Retained, KeepError> {
        Ok(retain::retain(&self.repository, &self.trusted, self.wishes().days, self.now())?)
    }

    fn taken(&self, progress: &mut dyn FnMut(&str, u64, u64)) -> Result<PointId, KeepError> {
        let streaming = self.shared().streaming.clone();
        let why = || {
            let shared = self.shared();
            shared.troubles.get("stream").map(|trouble| trouble.what.clone())
        };
        let Streaming { facts, slot, progress: shipped } =
            streaming.ok_or_else(|| KeepError::NotStreaming(why()))?;
        // What asks for a base from now on asks for the next one.
        let wanted = self.shared().want_base.take();
        let data = self.settings.source.data.as_deref().unwrap_or(Path::new("/"));
        self.doing(Some("taking a base".to_owned()));
        let result = (|| {
            let session = Session::open(&self.settings.source.door)?;
            let mut said = Instant::now();
            let total = data_size(&session);
            let mut base = base::take(
                &session,
                &slot,
                &facts,
                data,
                &self.repository,
                &self.settings.host,
                &mut |bytes| {
                    if said.elapsed() >= Duration::from_millis(200) {
                        said = Instant::now();
                        progress("reading the server's files", bytes, total);
                    }
                },
            )?;
            (base.begun, base.stopped) = (self.shifted(base.begun), self.shifted(base.stopped));
            let id = base.id();
            progress("writing down what is in the tables", 0, 0);
            let mut witness =
                witness::take(&self.settings.source.door, &format!("klar-{id}"), self.depth()?)?;
            if let Some(witness) = &mut witness {
                witness.time = self.shifted(witness.time);
            }
            // The segment that is being written ends here, so that all that the base needs is in whole ones.
            let row = session.row("select pg_switch_wal()", "place in the log")?;
            let switched: Lsn = session.column(&row, 0, "place in the log")?;
            let needed = Lsn(switched.0.saturating_sub(1)).segment(facts.timeline, facts.segment_size);
            let needed = needed.end(facts.segment_size);
            progress("waiting for the log", 0, 0);
            self.shared().hurries = true;
            let came = self.until_shipped(&shipped, facts.timeline, needed);
            self.shared().hurries = false;
            if came.timeline != facts.timeline || came.lsn < needed {
                return Err(KeepError::LogLate { came: came.lsn, needed, patience: LOG });
            }
            let point = Point::new(&facts, &base, witness);
            point.publish(&self.repository, &self.key)?;
            self.shared().batch_now = true;
            (self.tell)(Event::Point(Box::new(point)));
            Ok(id)
        })();
        if result.is_err() {
            self.shared().want_base = wanted;
        }
        result
    }

    /// Waits for the log of a base, as long as somebody ships it.
    fn until_shipped(&self, shipped: &Progress, timeline: Timeline, needed: Lsn) -> Shipped {
        let begun = Instant::now();
        loop {
            let came = shipped.wait(timeline, needed, Duration::from_secs(1));
            let is_there = came.timeline == timeline && came.lsn >= needed;
            if is_there || begun.elapsed() >= LOG || self.is_over() || self.shared().streaming.is_none() {
                return came;
            }
        }
    }

    /// All rows where no point of the last week has them all.
    fn depth(&self) -> Result<Depth, KeepError> {
        let points = Points::<Point>::read(&self.repository, &self.trusted)?;
        let since = self.now() - Duration::from_secs(6 * 86_400 + 43_200);
        let is_whole = |point: &Point| {
            let witness = point.witness.as_ref().filter(|witness| witness.time > since);
            witness.is_some_and(|witness| witness.tables.iter().all(|table| table.share == 100))
        };
        Ok(if points.points.values().any(is_whole) { Depth::Sampled(SAMPLE) } else { Depth::Full })
    }

    /// Restores a point and publishes what was found. Whoever calls this works alone.
    pub(super) fn drill(
        &self,
        point: Option<&PointId>,
        escrow: Option<&str>,
        second: bool,
    ) -> Result<Proof, KeepError> {
        let (place, repository) = match (second, escrow) {
            (true, escrow) => {
                let (place, repository) = self.second_repository(escrow)?;
                (Some(place), repository)
            }
            (false, Some(password)) => {
                let storage = Arc::new(Folder::new(&self.settings.home.join("repository")));
                (None, Repository::open(storage, password)?)
            }
            (false, None) => (None, self.repository.clone()),
        };
        // How far the first place is says nothing of the second.
        let live = if second { None } else { self.live() };
        let kept = Kept { live, ..Kept::read(&repository, &self.trusted)? };
        let name = point.map_or("the newest point".to_owned(), PointId::to_string);
        self.doing(Some(format!("proving {name}")));
        let folder = self.settings.home.join("work/drill");
        // What a kill has left behind.
        let _ = std::fs::remove_dir_all(&folder);
        let drill = Drill {
            kept: &kept,
            programs: &self.settings.source.programs,
            folder: &folder,
            assertions: &self.wishes().assertions,
            escrow: escrow.is_some(),
            place,
        };
        let proof = drill.run(point);
        self.doing(None);
        let proof = proof?;
        proof.publish(&self.repository, &self.key)?;
        (self.tell)(Event::Proof(Box::new(proof.clone())));
        self.learn();
        Ok(proof)
    }
}

/// About how many bytes a base will read; 0 where the server does not say.
fn data_size(session: &Session) -> u64 {
    let row = session.row("select sum(pg_database_size(oid)) from pg_database", "size");
    row.ok().and_then(|row| row.get(0)?.parse().ok()).unwrap_or_default()
}

/// When a time of the day was last.
pub(crate) fn last_time(now: &Zoned, hour: u8, minute: u8) -> Timestamp {
    let at = |day: &Zoned| {
        // A day on which the clocks jump over it has it a little later.
        let time = jiff::civil::time(hour.min(23) as i8, minute.min(59) as i8, 0, 0);
        day.date()
            .to_datetime(time)
            .to_zoned(day.time_zone().clone())
            .map_or_else(|_| day.timestamp(), |at| at.timestamp())
    };
    let today = at(now);
    match today <= now.timestamp() {
        true => today,
        false => now.checked_sub(1.day()).map_or(today, |yesterday| at(&yesterday)),
    }
}

/// When a time of the day was last on a Monday.
pub(crate) fn last_week(now: &Zoned, hour: u8, minute: u8) -> Timestamp {
    let last = last_time(now, hour, minute).to_zoned(now.time_zone().clone());
    let since = i64::from(last.weekday().to_monday_zero_offset());
    // A change of the clocks in between may move it by an hour: what counts is the time of that day.
    let monday = last.checked_sub(since.days()).unwrap_or(last);
    last_time(&monday.checked_add(1.hour()).unwrap_or(monday), hour, minute)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dump_is_due_each_monday() {
        for (now, expected) in [
            ("2026-11-23T01:59:00+01:00[Europe/Oslo]", "2026-11-16T02:00:00+01:00"),
            ("2026-11-23T02:00:00+01:00[Europe/Oslo]", "2026-11-23T02:00:00+01:00"),
            ("2026-11-29T23:59:00+01:00[Europe/Oslo]", "2026-11-23T02:00:00+01:00"),
            // The clocks were changed since.
            ("2026-10-25T12:00:00+01:00[Europe/Oslo]", "2026-10-19T02:00:00+02:00"),
            ("2026-03-29T04:30:00+02:00[Europe/Oslo]", "2026-03-23T02:00:00+01:00"),
        ] {
            let now: Zoned = now.parse().unwrap();
            let expected: Timestamp = expected.parse().unwrap();
            assert_eq!(last_week(&now, 2, 0), expected, "{now}");
        }
    }

    #[test]
    fn a_base_is_due_when_its_time_has_come() {
        for (now, expected) in [
            ("2026-11-23T01:59:00+01:00[Europe/Oslo]", "2026-11-22T02:00:00+01:00"),
            ("2026-11-23T02:00:00+01:00[Europe/Oslo]", "2026-11-23T02:00:00+01:00"),
            ("2026-11-23T23:59:00+01:00[Europe/Oslo]", "2026-11-23T02:00:00+01:00"),
            // No such time on that day: an hour later.
            ("2026-03-29T03:30:00+02:00[Europe/Oslo]", "2026-03-29T03:00:00+02:00"),
            // Twice on that day: the first one.
            ("2026-10-25T02:30:00+01:00[Europe/Oslo]", "2026-10-25T02:00:00+02:00"),
        ] {
            let now: Zoned = now.parse().unwrap();
            let expected: Timestamp = expected.parse().unwrap();
            assert_eq!(last_time(&now, 2, 0), expected, "{now}");
        }
    }
}
