//! Shipping: what the receiver has put into the spool goes into the repository, about every second.
//!
//! How much of the segment that is being written may be taken? Not what is not zero: a reader can see the end of a
//! write before its middle. The server is asked what the receiver has acknowledged: that was flushed before, so it is
//! whole. Where the server cannot be asked, what has not been touched for a second is taken as it is.
//!
//! What was shipped is compared once more when a segment is whole: a server that was put back to an earlier state, or
//! another one with the same number, writes other bytes at the same place, and must not go unnoticed.

use std::collections::VecDeque;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use jiff::Timestamp;
use klar_repo::{Id, Object, Repository};

use crate::lsn::{Lsn, Segment, SegmentSize, Timeline};
use crate::server::slot::SLOT;
use crate::server::{Facts, Session, SessionError};
use crate::wal::WalError;
use crate::wal::chain::{self, Log};
use crate::wal::commits::SLACK;
use crate::wal::page::{self, Expected, PAGE};
use crate::wal::piece::{self, Piece};
use crate::wal::tide::Tide;
use crate::wal::turned::Turned;

/// How long a segment has to be untouched before it is taken without the server's word.
const SETTLED: Duration = Duration::from_secs(1);
/// How often the tide is written, at most.
const TIDE_EVERY: Duration = Duration::from_secs(10);
/// Marks that wait for the receiver to come up to them.
const MARKS_MAX: usize = 300;

/// What the server said: everything that was acknowledged until `time` lies before `written`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mark {
    /// By the server's clock.
    pub time: Timestamp,
    /// Before it was asked for the time, and after it had answered.
    pub asked: (Instant, Instant),
    /// The timeline it writes to.
    pub timeline: Timeline,
    /// Where it will write next.
    pub written: Lsn,
    /// What the receiver that streams now has acknowledged; `None`: none streams. The slot's own place would not do: it
    /// is also what a receiver before this one has said, of a spool that may be gone.
    pub received: Option<Lsn>,
    /// Where what it has written to disk ends. What lies behind is sent to nobody, and on a server at rest that can last:
    /// records that are no commit wait for one.
    pub flushed: Lsn,
}

/// How far shipping is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Shipped {
    /// The timeline that is written to.
    pub timeline: Timeline,
    /// What lies before is in the repository.
    pub lsn: Lsn,
    /// Every commit that was acknowledged until then is in the repository.
    pub covered: Option<Timestamp>,
}

/// Where others can wait for it.
#[derive(Debug, Default)]
pub struct Progress {
    shipped: Mutex<Shipped>,
    moved: Condvar,
}

/// Ships one spool into one repository.
pub struct Shipper {
    repository: Repository,
    spool: PathBuf,
    system: u64,
    log: Log,
    progress: Arc<Progress>,
    marks: VecDeque<Mark>,
    covered: Option<Timestamp>,
    /// The server's clock, when it was asked last and had answered, and where its log was; by a process before this one it
    /// was asked nobody knows when.
    clock: Option<(Timestamp, Option<Instant>, Lsn)>,
    /// Pieces that this process wrote of the segments that are not whole yet, with their digests.
    recent: Vec<(Piece, Id)>,
    /// When the partial segment was last seen to change.
    touched: Option<(PathBuf, SystemTime, Instant)>,
    tide: Option<(Tide, Instant)>,
}

/// What one turn did.
#[derive(Debug, Default)]
pub struct Turn {
    /// Bytes that were written.
    pub bytes: u64,
    /// Pieces that were written.
    pub pieces: u64,
    /// A gap before what was shipped now: a new base is needed.
    pub gap: Option<WalError>,
    /// The server's clock was put back, from when to when: times are told apart from a new base on.
    pub back: Option<Turned>,
}

impl Mark {
    /// Asks the server.
    ///
    /// # Errors
    /// The server.
    pub fn ask(session: &Session) -> Result<Self, SessionError> {
        // The time first: what was acknowledged until then was written before the second question.
        let begun = Instant::now();
        let time = session.row("select (extract(epoch from clock_timestamp()) * 1000000)::bigint", "time")?;
        let time = session.time(&time, 0)?;
        let asked = (begun, Instant::now());
        let rest = format!(
            "select pg_walfile_name(pg_current_wal_insert_lsn()), pg_current_wal_insert_lsn(),
             (select flush_lsn from pg_stat_replication join pg_replication_slots on pid = active_pid
               where slot_name = '{SLOT}'),
             pg_current_wal_flush_lsn()"
        );
        let row = session.row(&rest, "place in the log")?;
        let timeline = row.get(0).and_then(|name| u32::from_str_radix(name.get(..8)?, 16).ok());
        let written: Lsn = session.column(&row, 1, "place in the log")?;
        Ok(Self {
            time,
            asked,
            timeline: timeline.unwrap_or(1),
            // Behind the head of a page that nothing was written to yet: the receiver gets it with what follows.
            written: match written.0 % PAGE {
                head @ (24 | 40) => Lsn(written.0 - head),
                _ => written,
            },
            received: row.get(2).and_then(|lsn| lsn.parse().ok()),
            flushed: session.column(&row, 3, "place in the log")?,
        })
    }
}

impl Mark {
    /// Whether something waits for the next commit to be written to disk, and waited already when `before` was asked.
    #[must_use]
    pub fn waits(&self, before: Option<&Mark>) -> bool {
        self.written > self.flushed && before.is_some_and(|before| before.written == self.written)
    }

    /// Makes the server write to disk all that was written so far: a commit of nothing.
    ///
    /// # Errors
    /// The server.
    pub fn flush(session: &Session) -> Result<(), SessionError> {
        session.run("select pg_logical_emit_message(true, 'klar', '')")
    }
}

impl Progress {
    /// How far it is.
    #[must_use]
    pub fn now(&self) -> Shipped {
        *self.shipped.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until the log is in the repository up to a place; gives how far it is, also when the time is over.
    #[must_use]
    pub fn wait(&self, timeline: Timeline, until: Lsn, patience: Duration) -> Shipped {
        let is_short =
            |now: &mut Shipped| now.timeline < timeline || (now.timeline == timeline && now.lsn < until);
        let shipped = self.shipped.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.moved.wait_timeout_while(shipped, patience, is_short);
        *waited.unwrap_or_else(PoisonError::into_inner).0
    }

    fn set(&self, now: Shipped) {
        *self.shipped.lock().unwrap_or_else(PoisonError::into_inner) = now;
        self.moved.notify_all();
    }
}

impl Shipper {
    /// Reads what the repository has, and goes on from there.
    ///
    /// # Errors
    /// As [`Log::read`].
    pub fn open(repository: &Repository, spool: &Path, facts: &Facts) -> Result<Self, WalError> {
        let log = Log::read(repository, facts.segment_size)?;
        let tide = log.timelines.get(&facts.timeline).and_then(|there| there.tide);
        let clock = tide.map(|tide| (tide.covered, None, tide.lsn));
        let shipper = Self {
            repository: repository.clone(),
            spool: spool.to_owned(),
            system: facts.system,
            log,
            progress: Arc::default(),
            marks: VecDeque::new(),
            covered: None,
            clock,
            recent: Vec::new(),
            touched: None,
            tide: None,
        };
        shipper.publish();
        Ok(shipper)
    }

    /// Where others can see and wait for how far it is.
    #[must_use]
    pub fn progress(&self) -> Arc<Progress> {
        Arc::clone(&self.progress)
    }

    /// What the repository has, as far as this knows.
    #[must_use]
    pub fn log(&self) -> &Log {
        &self.log
    }

    /// Reads again what the repository has: after batches were made, or pieces removed.
    ///
    /// # Errors
    /// As [`Log::read`].
    pub fn refresh(&mut self) -> Result<(), WalError> {
        self.log = Log::read(&self.repository, self.log.size)?;
        Ok(())
    }

    /// One turn: ships all that is new. `mark` is what the server says now, `None` where it cannot be asked.
    ///
    /// # Errors
    /// The first thing that is wrong. What was shipped before it is shipped, and the next turn tries again.
    pub fn turn(&mut self, mark: Option<Mark>) -> Result<Turn, WalError> {
        let mut turn = Turn { back: self.clock(mark.as_ref())?, ..Turn::default() };
        self.histories()?;
        let mut files = self.files()?;
        files.sort_unstable();
        let newest = files.last().map(|(segment, _)| *segment);
        for (segment, is_partial) in files {
            self.segment(segment, is_partial, mark.as_ref(), &mut turn)?;
            if !is_partial && Some(segment) != newest {
                // The receiver looks for the newest one only.
                let path = self.spool.join(segment.name(self.log.size));
                fs::remove_file(&path).map_err(file(&path))?;
            }
        }
        if let Some(mark) = mark {
            self.marks.push_back(mark);
            if self.marks.len() > MARKS_MAX {
                self.marks.pop_front();
            }
        }
        self.publish();
        let shipped = self.progress.now();
        while let Some(mark) = self.marks.front() {
            let is_in = mark.timeline < shipped.timeline
                || (mark.timeline == shipped.timeline && mark.written <= shipped.lsn);
            if !is_in {
                break;
            }
            self.covered = self.covered.max(Some(mark.time));
            self.marks.pop_front();
        }
        self.publish();
        self.write_tide()?;
        Ok(turn)
    }

    /// Sees whether the server's clock was put back, and writes down where. What was ahead of it says nothing of what comes
    /// now.
    fn clock(&mut self, mark: Option<&Mark>) -> Result<Option<Turned>, WalError> {
        let Some(mark) = mark else { return Ok(None) };
        let before = self.clock.map(|(time, answered, place)| {
            let since =
                answered.map_or(Duration::ZERO, |answered| mark.asked.0.saturating_duration_since(answered));
            (time + since, place)
        });
        let turned =
            before.filter(|(before, _)| before.duration_since(mark.time) > SLACK).map(|(before, from)| {
                Turned { timeline: mark.timeline, from, to: mark.written, before, after: mark.time }
            });
        if let Some(turned) = turned {
            turned.write(&self.repository)?;
            self.log.timelines.entry(turned.timeline).or_default().turned.push(turned);
            for tide in Tide::all(&self.repository)?.iter().filter(|tide| tide.covered > mark.time) {
                self.repository.storage().remove(&Object::Extra(tide.name()))?;
            }
            self.marks.clear();
            (self.covered, self.tide) = (None, None);
        }
        self.clock = Some((mark.time, Some(mark.asked.1), mark.written));
        Ok(turned)
    }

    /// Writes the tide now, whenever the last one was written.
    ///
    /// # Errors
    /// The repository.
    pub fn settle(&mut self) -> Result<(), WalError> {
        self.tide = None;
        self.write_tide()
    }

    fn write_tide(&mut self) -> Result<(), WalError> {
        let Shipped { timeline, lsn, covered: Some(covered) } = self.progress.now() else { return Ok(()) };
        let tide = Tide { timeline, lsn, covered };
        let is_due = self.tide.is_none_or(|(old, at)| old != tide && at.elapsed() >= TIDE_EVERY);
        if is_due && self.log.timelines.get(&timeline).and_then(|there| there.tide) != Some(tide) {
            tide.write(&self.repository)?;
            self.tide = Some((tide, Instant::now()));
            self.log.timelines.entry(timeline).or_default().tide = Some(tide);
        }
        Ok(())
    }

    fn publish(&self) {
        let Some(timeline) = self.log.newest_timeline() else { return };
        let lsn = self.log.end(timeline).unwrap_or_default();
        self.progress.set(Shipped { timeline, lsn, covered: self.covered });
    }

    fn histories(&mut self) -> Result<(), WalError> {
        for entry in self.entries()? {
            let Some(timeline) = entry.strip_suffix(".history").filter(|digits| digits.len() == 8) else {
                continue;
            };
            let Ok(timeline) = u32::from_str_radix(timeline, 16) else { continue };
            if self.log.timelines.get(&timeline).is_some_and(|there| !there.ancestors.is_empty()) {
                continue;
            }
            let path = self.spool.join(&entry);
            let text = fs::read(&path).map_err(file(&path))?;
            let ancestors = chain::ancestors(&text, timeline)?;
            piece::write_history(&self.repository, timeline, &text)?;
            self.log.timelines.entry(timeline).or_default().ancestors = ancestors;
        }
        Ok(())
    }

    fn segment(
        &mut self,
        segment: Segment,
        is_partial: bool,
        mark: Option<&Mark>,
        turn: &mut Turn,
    ) -> Result<(), WalError> {
        let size = self.log.size;
        let have = self.have(segment);
        if have == size.bytes() {
            return Ok(());
        }
        let name = segment.name(size) + if is_partial { ".partial" } else { "" };
        let path = self.spool.join(&name);
        let open = match File::open(&path) {
            Ok(open) => open,
            // The receiver was done with it just now: the next turn finds it under its other name.
            Err(error) if is_partial && error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(source) => return Err(WalError::File { path, source }),
        };
        let length = open.metadata().map_err(file(&path))?.len();
        if length != size.bytes() {
            // The receiver is making it.
            return match is_partial {
                true => Ok(()),
                false => Err(WalError::Size { name, expected: size.bytes(), found: length.to_string() }),
            };
        }
        let received = mark.filter(|mark| mark.timeline == segment.timeline).and_then(|mark| mark.received);
        let upto = match received {
            _ if !is_partial => size.bytes(),
            Some(received) => (received - segment.start(size)).min(length),
            None => self.settled(&open, &path, length)?,
        };
        if upto <= have {
            return Ok(());
        }
        // From the beginning of the page, whose head may have been cut.
        let begin = have - have % PAGE;
        let mut bytes = vec![0; (upto - begin) as usize];
        open.read_exact_at(&mut bytes, begin).map_err(file(&path))?;
        if is_partial {
            page::cut_empty(&mut bytes);
        }
        let upto = begin + bytes.len() as u64;
        if upto <= have {
            return Ok(());
        }
        page::verify(&bytes, segment.start(size) + begin, &self.expected(segment.timeline), &name)?;
        if turn.gap.is_none() {
            turn.gap = self.gap_before(segment);
        }
        let piece = Piece { segment, from: have as u32, to: upto as u32 };
        let new = &bytes[(have - begin) as usize..];
        if !is_partial {
            self.compare(&open, segment, &path)?;
        }
        piece.write(&self.repository, self.system, size, self.covered, new)?;
        let there = &mut self.log.timelines.entry(segment.timeline).or_default().pieces;
        there.push(piece);
        there.sort_unstable();
        match is_partial {
            true => self.recent.push((piece, Id::of(new))),
            false => self.recent.retain(|(old, _)| old.segment > segment),
        }
        turn.pieces += 1;
        turn.bytes += new.len() as u64;
        self.publish();
        Ok(())
    }

    /// Compares what was shipped of a segment with what it has come to.
    fn compare(&self, open: &File, segment: Segment, path: &Path) -> Result<(), WalError> {
        let size = self.log.size;
        let there = self.log.timelines.get(&segment.timeline).map(|there| there.pieces.as_slice());
        for piece in there.unwrap_or_default().iter().filter(|piece| piece.segment == segment) {
            let mut bytes = vec![0; (piece.to - piece.from) as usize];
            open.read_exact_at(&mut bytes, piece.from.into()).map_err(file(path))?;
            let is_same = match self.recent.iter().find(|(old, _)| old == piece) {
                Some((_, digest)) => *digest == Id::of(&bytes),
                // Written by a process before this one.
                None => piece.read(&self.repository, size)?.bytes == bytes,
            };
            if !is_same {
                let (name, place) = (piece.name(size), piece.start(size));
                return Err(WalError::Differs { name, other: path.display().to_string(), place });
            }
        }
        Ok(())
    }

    /// How much of a segment is in the repository, from its beginning on.
    fn have(&self, segment: Segment) -> u64 {
        let Some(there) = self.log.timelines.get(&segment.timeline) else { return 0 };
        if there.batches.iter().any(|batch| batch.has(segment)) {
            return self.log.size.bytes();
        }
        let first = there.pieces.partition_point(|piece| piece.segment < segment);
        let pieces = there.pieces[first..].iter().take_while(|piece| piece.segment == segment);
        pieces.fold(0, |at, piece| if u64::from(piece.from) <= at { at.max(piece.to.into()) } else { at })
    }

    /// Whether something is missing between what was shipped before and a segment.
    fn gap_before(&self, segment: Segment) -> Option<WalError> {
        let start = segment.start(self.log.size);
        let end = self.log.end(segment.timeline).or_else(|| {
            let ancestors = &self.log.timelines.get(&segment.timeline)?.ancestors;
            self.log.end(ancestors.last()?.0)
        })?;
        (end < start).then_some(WalError::Gap { timeline: segment.timeline, from: end, to: start })
    }

    /// How much of a segment was written, where nobody has written to it for a while; else nothing.
    fn settled(&mut self, open: &File, path: &Path, length: u64) -> Result<u64, WalError> {
        let changed = || open.metadata().and_then(|metadata| metadata.modified()).map_err(file(path));
        let before = changed()?;
        let is_settled = match &self.touched {
            Some((which, at, since)) if which == path && *at == before => since.elapsed() >= SETTLED,
            _ => {
                self.touched = Some((path.to_owned(), before, Instant::now()));
                false
            }
        };
        if !is_settled {
            return Ok(0);
        }
        let mut bytes = vec![0; length as usize];
        open.read_exact_at(&mut bytes, 0).map_err(file(path))?;
        Ok(if changed()? == before { page::written(&bytes) } else { 0 })
    }

    fn expected(&self, timeline: Timeline) -> Expected {
        let lineage = self.log.lineage(timeline);
        let ancestors = lineage.iter().map(|(one, _)| *one).filter(|one| *one != timeline).collect();
        Expected { system: self.system, timeline, ancestors, size: self.log.size }
    }

    fn entries(&self) -> Result<Vec<String>, WalError> {
        let names = fs::read_dir(&self.spool).and_then(|entries| {
            entries.map(|entry| entry.map(|entry| entry.file_name().to_string_lossy().into_owned())).collect()
        });
        names.map_err(file(&self.spool))
    }

    /// Segments in the spool, and whether they are still being written.
    fn files(&self) -> Result<Vec<(Segment, bool)>, WalError> {
        let size: SegmentSize = self.log.size;
        let segment = |name: String| {
            let (name, is_partial) = match name.strip_suffix(".partial") {
                Some(name) => (name, true),
                None => (&*name, false),
            };
            Some((Segment::parse(name, size).ok()?, is_partial))
        };
        Ok(self.entries()?.into_iter().filter_map(segment).collect())
    }
}

fn file(path: &Path) -> impl FnOnce(io::Error) -> WalError {
    move |source| WalError::File { path: path.to_owned(), source }
}
