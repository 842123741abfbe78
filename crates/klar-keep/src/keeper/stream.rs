//! The log, from the server into the repository, about every second.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use super::{Event, Inner, KeepError, Streaming};
use crate::lsn::{Segment, SegmentSize, Timeline};
use crate::point::{Point, Points};
use crate::server::slot::SLOT;
use crate::server::{Facts, ReadySlot, Receiver, Session, SlotError, SlotState};
use crate::ship::{Mark, Shipper};
use crate::wal::batch;

/// How often what is new is shipped.
const TURN: Duration = Duration::from_secs(1);
/// How often whole segments become a batch.
const BATCH: Duration = Duration::from_secs(3600);
/// After something went wrong it is tried again.
const AGAIN: Duration = Duration::from_secs(1);

impl Inner {
    pub(super) fn stream(&self) {
        while !self.is_over() {
            let ended = self.streaming();
            self.change(|shared| shared.streaming = None);
            self.note("stream", &ended);
            self.rest(AGAIN);
        }
    }

    /// Streams until something changes or is wrong.
    fn streaming(&self) -> Result<(), KeepError> {
        let source = &self.settings.source;
        let session = Session::open(&source.door)?;
        let facts = Facts::ask(&session)?;
        if let Some(lack) = facts.lacks().into_iter().find(|lack| lack.is_fatal) {
            return Err(KeepError::Lack { what: lack.what, hint: lack.hint });
        }
        let points = Points::<Point>::read(&self.repository, &self.trusted)?;
        if let Some(point) = points.points.values().next_back().filter(|point| point.system != facts.system) {
            if self.adopt(facts.system)? {
                (self.tell)(Event::Replaced);
            }
            return Err(KeepError::Another { expected: point.system, found: facts.system });
        }
        self.adopted(facts.system);
        let slot = self.slot(&session)?;
        let spool = self.settings.home.join("spool");
        fs::create_dir_all(&spool).map_err(|source| KeepError::File { path: spool.clone(), source })?;
        let mut shipper = Shipper::open(&self.repository, &spool, &facts)?;
        // What a receiver before this one has left is shipped before its successor looks at it.
        shipper.turn(None)?;
        clear_other_timelines(&spool, facts.timeline, facts.segment_size)
            .map_err(|source| KeepError::File { path: spool.clone(), source })?;
        let receiver = Receiver::start(source, &spool, facts.segment_size)
            .map_err(|source| KeepError::File { path: spool.clone(), source })?;
        let timeline = facts.timeline;
        let (system, progress) = (facts.system, shipper.progress());
        self.change(|shared| shared.streaming = Some(Streaming { facts, slot, progress }));
        let mut batched = Instant::now();
        let mut before: Option<Mark> = None;
        while !self.is_over() {
            // Without the server what was received is shipped all the same.
            let mark = Mark::ask(&session);
            let turn = shipper.turn(mark.as_ref().ok().copied())?;
            if let Some(gap) = turn.gap {
                self.want_base(gap.to_string());
            }
            if let Some(back) = turn.back {
                let (before, after) = (back.before, back.after);
                self.want_base(format!("the server's clock was put back from {before} to {after}"));
            }
            let mark = mark?;
            if mark.timeline != timeline {
                break;
            }
            if mark.waits(before.as_ref()) {
                Mark::flush(&session)?;
            }
            before = Some(mark);
            let state = receiver.state();
            let streams: Result<(), KeepError> = match state.process {
                Some(_) => Ok(()),
                None => Err(KeepError::NotStreaming(state.said)),
            };
            self.note("stream", &streams);
            if std::mem::take(&mut self.shared().batch_now) || batched.elapsed() >= BATCH {
                batched = Instant::now();
                let done = self.batch(&mut shipper, system);
                if done.is_err() {
                    // Who prunes is done soon; what else is wrong is not worth more.
                    batched = Instant::now().checked_sub(BATCH - BATCH / 60).unwrap_or(batched);
                }
                self.note("batch", &done);
            }
            self.rest_until_next();
        }
        Ok(())
    }

    /// Puts whole segments into snapshots that any `restic` restores, and removes pieces that were replaced so.
    fn batch(&self, shipper: &mut Shipper, system: u64) -> Result<(), KeepError> {
        let (now, repository) = (self.now(), &self.repository);
        batch::make(repository, shipper.log(), system, &self.key, &self.settings.host, now)?;
        shipper.refresh()?;
        batch::tidy(repository, shipper.log(), &self.trusted, now, batch::PIECES_STAY)?;
        Ok(shipper.refresh()?)
    }

    fn rest_until_next(&self) {
        let begun = Instant::now();
        while begun.elapsed() < TURN && !self.is_over() {
            std::thread::sleep(Duration::from_millis(50));
            let shared = self.shared();
            if shared.hurries || shared.batch_now {
                break;
            }
        }
    }

    /// The slot. One that is new or was lost has missed something: a base is needed after it.
    fn slot(&self, session: &Session) -> Result<ReadySlot, KeepError> {
        if SlotState::ask(session, SLOT)?.is_none() {
            self.want_base("nothing was streamed from this server yet".to_owned());
        }
        match ReadySlot::ensure(session, SLOT) {
            Err(lost @ SlotError::Lost { .. }) => {
                self.want_base(lost.to_string());
                Ok(ReadySlot::renew(session, SLOT)?)
            }
            slot => Ok(slot?),
        }
    }

    fn want_base(&self, why: String) {
        self.change(|shared| shared.want_base = Some(why));
    }
}

/// The receiver goes on where the newest file of its spool ends. After a restore the server is on another timeline, and
/// those of the old one, which were shipped, would lead it astray.
fn clear_other_timelines(spool: &Path, timeline: Timeline, size: SegmentSize) -> std::io::Result<()> {
    for entry in fs::read_dir(spool)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let segment = Segment::parse(name.strip_suffix(".partial").unwrap_or(&name), size);
        if segment.is_ok_and(|segment| segment.timeline != timeline) {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}
