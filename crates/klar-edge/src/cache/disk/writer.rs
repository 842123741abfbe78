//! The one thread that writes: it takes up what an earlier edge has left, then does one job after the other.

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use klar_base::AppKey;
use klar_base::upstreams::Purge;

use super::super::purge::matches;
use super::super::store::{Name, Stored};
use super::epochs::{Epochs, Front, boot};
use super::index::{Entry, Index, Place};
use super::record::{self, Fixed, INDEX_MAX, KeyDigest, Kind, Meta};
use super::segments::{Files, SEGMENTS};
use super::{Disk, Done, Job, State, cost, lock, now_ms};

/// How long what an earlier edge has left is read. What takes longer is forgotten.
const SCAN_MAX: Duration = Duration::from_secs(20);
/// How often it is tried whether another edge has gone.
const RETRY: Duration = Duration::from_secs(1);
/// How long nothing is written after the disk did not take something.
const PAUSE: Duration = Duration::from_secs(60);

/// See the [module](self).
#[derive(Debug)]
pub struct Writer {
    files: Files,
    front: Front,
    front_serial: u64,
    /// Of the next record.
    serial: u64,
    /// Segments with something in them, the oldest first. The last one is written.
    order: VecDeque<usize>,
    offset: u64,
    segment_max: u64,
    is_contended: bool,
    paused: Option<Instant>,
}

impl Writer {
    /// Opens the files, and says in them that they are being read: an edge that is killed before it has read them
    /// leaves nothing that is believed.
    pub fn open(folder: &Path) -> io::Result<Self> {
        let mut files = Files::open(folder)?;
        let is_contended = !files.try_lock();
        let mut writer = Self {
            files,
            front: Front::new(boot()),
            front_serial: 0,
            serial: 1,
            order: VecDeque::new(),
            offset: 0,
            segment_max: 0,
            is_contended,
            paused: None,
        };
        if !is_contended {
            let boot = boot();
            if let Some((serial, page)) = writer.files.front() {
                writer.front_serial = serial;
                if let Some(found) = Front::read(&page).filter(|found| found.is_sound(&boot)) {
                    writer.front = Front { boot, is_whole: false, ..found };
                }
            }
            writer.front.is_opening = true;
            writer.write_front()?;
            writer.files.sync_front()?;
        }
        Ok(writer)
    }

    pub fn epochs(&self) -> Epochs {
        self.front.epochs.clone()
    }

    pub fn is_contended(&self) -> bool {
        self.is_contended
    }

    pub fn store(&self) -> u64 {
        self.front.store
    }

    pub fn readers(&self) -> Arc<Vec<File>> {
        self.files.readers()
    }

    /// Works until the edge ends.
    pub fn run(mut self, disk: &Disk) {
        if self.is_contended {
            // What another edge has written meanwhile may have been forgotten by this one.
            if !self.wait_for_lock(disk) {
                return;
            }
            self.wipe(disk);
            lock(&disk.state).is_contended = false;
        } else {
            match self.scan() {
                Some(index) => lock(&disk.state).index = index,
                None => {
                    eprintln!(
                        "edge: the cache on disk took longer than {SCAN_MAX:?} to read; it starts empty"
                    );
                    self.wipe(disk);
                }
            }
        }
        let mut is_open = false;
        loop {
            let job = {
                let mut state = lock(&disk.state);
                loop {
                    if let Some(job) = take(&mut state) {
                        break Some(job);
                    }
                    // What was forgotten while all was read is forgotten now. From here on whoever forgets waits for
                    // the note.
                    if state.is_closing || !is_open {
                        disk.is_live.store(!state.is_closing, Ordering::SeqCst);
                        break None;
                    }
                    state = disk.work.wait(state).unwrap_or_else(PoisonError::into_inner);
                }
            };
            match job {
                #[cfg(test)]
                Some(Job::Die) => return,
                Some(job) => self.act(disk, job),
                None if is_open => break,
                None => {
                    is_open = true;
                    self.front.is_opening = false;
                    self.turn_front(disk);
                }
            }
        }
        self.front.is_whole = self.files.sync().is_ok();
        if self.write_front().and_then(|()| self.files.sync_front()).is_err() {
            eprintln!("edge: the cache on disk could not be closed; it may start empty");
        }
    }

    fn wait_for_lock(&mut self, disk: &Disk) -> bool {
        loop {
            if self.files.try_lock() {
                return true;
            }
            let state = lock(&disk.state);
            if state.is_closing {
                return false;
            }
            drop(disk.work.wait_timeout(state, RETRY).unwrap_or_else(PoisonError::into_inner));
        }
    }

    /// Reads what an earlier edge has left, up to where it was torn. `None`: that takes too long.
    fn scan(&mut self) -> Option<Index> {
        let begun = Instant::now();
        let mut segments = Vec::new();
        for segment in 0..SEGMENTS {
            match self.files.peek(segment, 0, self.front.store) {
                Some((first, _)) => segments.push((first.serial, segment)),
                // Empty, or foreign.
                None => self.files.cut(segment, 0).ok()?,
            }
        }
        segments.sort_unstable();
        let mut index = Index::default();
        for (_, segment) in segments {
            let length = self.files.len(segment).ok()?;
            self.order.push_back(segment);
            self.offset = 0;
            while let Some((fixed, meta)) = self.files.peek(segment, self.offset, self.front.store) {
                let end = self.offset + fixed.len() as u64;
                if fixed.serial < self.serial || end > length {
                    break;
                }
                if begun.elapsed() > SCAN_MAX {
                    return None;
                }
                self.take_up(&mut index, &fixed, &meta, segment);
                self.serial = fixed.serial + 1;
                self.offset = end;
                while index.is_full() {
                    let oldest = self.order.pop_front()?;
                    index.remove_segment(oldest);
                    self.files.cut(oldest, 0).ok()?;
                }
                if self.order.is_empty() {
                    self.offset = 0;
                    break;
                }
            }
            if !self.order.is_empty() {
                self.files.cut(segment, self.offset).ok()?;
            }
        }
        Some(index)
    }

    fn take_up(&self, index: &mut Index, fixed: &Fixed, meta: &[u8], segment: usize) {
        match fixed.kind {
            Kind::Forgotten => drop(index.remove(&fixed.key)),
            Kind::Purge => {
                if let Ok((app, what)) = serde_json::from_slice::<(AppKey, Purge)>(meta) {
                    index.purge(|name, tags| name.app == app && matches(&what, name, tags));
                }
            }
            Kind::Answer => {
                let Some(meta) = Meta::read(meta) else { return };
                if now_ms() < fixed.end && self.front.epochs.is_current(&meta.name.app, fixed.epoch) {
                    let (length, serial, key) = (fixed.len(), fixed.serial, fixed.key);
                    let place = Place { segment, offset: self.offset, length, serial, key };
                    index.put(Entry { meta, place, end: fixed.end });
                } else {
                    // It has taken the place of what was there before.
                    index.remove(&fixed.key);
                }
            }
        }
    }

    fn act(&mut self, disk: &Disk, job: Job) {
        match job {
            Job::Answer { key, epoch, name, stored } => self.write_answer(disk, key, epoch, &name, &stored),
            // Who forgets takes it out of the index at once; what has been read into it since, and lies before the
            // note, goes now.
            Job::Forget { key, done } => {
                lock(&disk.state).index.remove(&key);
                self.write_note(disk, Kind::Forgotten, key, &[]);
                done.tell();
            }
            Job::Purge { app, what, done } => {
                let mut note = serde_json::json!([app, what]).to_string().into_bytes();
                // Too long for a note: more is forgotten than was asked for.
                let what = if note.len() > INDEX_MAX { Purge::All } else { what };
                if note.len() > INDEX_MAX {
                    note = serde_json::json!([app, what]).to_string().into_bytes();
                }
                lock(&disk.state).index.purge(|name, tags| name.app == app && matches(&what, name, tags));
                self.write_note(disk, Kind::Purge, [0; 32], &note);
                done.tell();
            }
            Job::Wipe(all) => {
                self.wipe(disk);
                all.into_iter().for_each(Done::tell);
            }
            Job::Front => self.turn_front(disk),
            Job::Room => self.fit(disk),
            #[cfg(test)]
            Job::Die => {}
        }
    }

    fn write_answer(&mut self, disk: &Disk, key: KeyDigest, epoch: u64, name: &Name, stored: &Stored) {
        let written = (|| {
            if self.paused.is_some_and(|until| Instant::now() < until) {
                return None;
            }
            let end = stored.facts.to_numbers()?.1;
            let record = record::answer(self.front.store, self.serial, epoch, key, name, stored)?;
            Some((self.append(disk, &record)?, record.len(), end))
        })();
        let mut state = lock(&disk.state);
        // Forgotten while it was written: the note of that comes next.
        let Some((_, meta)) = state.writing.take() else { return };
        match written {
            Some((place, length, end)) => {
                let (segment, offset, serial) = place;
                let place = Place { segment, offset, length, serial, key };
                state.index.put(Entry { meta, place, end });
                drop(state);
                self.shed(disk);
            }
            // What is there has been replaced by something that could not be written.
            None if state.index.has(&key) => state.forget(key, Done::Nobody),
            None => {}
        }
    }

    /// Writes that something is forgotten. Where the disk does not take that, everything is.
    fn write_note(&mut self, disk: &Disk, kind: Kind, key: KeyDigest, what: &[u8]) {
        let note = record::note(kind, self.front.store, self.serial, key, what);
        if self.segment_max > 0 && self.append(disk, &note).is_none() {
            self.wipe(disk);
        }
    }

    /// Writes a record behind the others, and says where: segment, offset, serial. `None`: it is too long, or the
    /// disk does not take it.
    fn append(&mut self, disk: &Disk, record: &[u8]) -> Option<(usize, u64, u64)> {
        let length = record.len() as u64;
        if length > self.segment_max {
            return None;
        }
        let written = self.at_end(disk, length).and_then(|segment| {
            let done = self.files.write(segment, self.offset, record);
            if done.is_err() {
                // Half a record would end the reading of this segment.
                self.files.cut(segment, self.offset)?;
            }
            done.map(|()| segment)
        });
        match written {
            Ok(segment) => {
                let place = (segment, self.offset, self.serial);
                self.offset += length;
                self.serial += 1;
                Some(place)
            }
            Err(error) => {
                eprintln!(
                    "edge: the cache on disk cannot be written ({error}); it is tried again in {PAUSE:?}. Make \
                     room, or lower `edge.cache_disk`"
                );
                self.paused = Some(Instant::now() + PAUSE);
                None
            }
        }
    }

    /// The segment with room for so many bytes at its end.
    fn at_end(&mut self, disk: &Disk, length: u64) -> io::Result<usize> {
        if let Some(last) = self.order.back().filter(|_| self.offset + length <= self.segment_max) {
            return Ok(*last);
        }
        let empty = (0..SEGMENTS).find(|segment| !self.order.contains(segment));
        let next = match empty {
            Some(segment) => segment,
            None => self.order.pop_front().unwrap_or_default(),
        };
        lock(&disk.state).index.remove_segment(next);
        self.files.cut(next, 0)?;
        self.order.push_back(next);
        self.offset = 0;
        Ok(next)
    }

    /// Gives up the oldest segments while the index knows more than it may.
    fn shed(&mut self, disk: &Disk) {
        loop {
            let oldest = {
                let mut state = lock(&disk.state);
                let Some(oldest) = self.order.front().copied().filter(|_| state.index.is_full()) else {
                    return;
                };
                state.index.remove_segment(oldest);
                oldest
            };
            self.order.pop_front();
            self.offset = if self.order.is_empty() { 0 } else { self.offset };
            if let Err(error) = self.files.cut(oldest, 0) {
                eprintln!("edge: the cache on disk cannot be made smaller: {error}");
                return self.wipe(disk);
            }
        }
    }

    /// Makes what is there fit into the room.
    fn fit(&mut self, disk: &Disk) {
        let room = lock(&disk.state).room;
        self.segment_max = room / SEGMENTS as u64;
        if room == 0 {
            return self.wipe(disk);
        }
        let is_too_long =
            |segment: &usize| self.files.len(*segment).is_ok_and(|length| length > self.segment_max);
        if let Some(longest) = self.order.iter().rposition(is_too_long) {
            // Notes of what was forgotten may lie in what goes, so all that is older goes as well.
            for segment in self.order.drain(..=longest).collect::<Vec<_>>() {
                lock(&disk.state).index.remove_segment(segment);
                if let Err(error) = self.files.cut(segment, 0) {
                    eprintln!("edge: the cache on disk cannot be made smaller: {error}");
                }
            }
            if self.order.is_empty() {
                self.offset = 0;
            }
        }
    }

    /// Forgets everything, in a way that survives: records of the old store are foreign to the new one.
    fn wipe(&mut self, disk: &Disk) {
        self.front.store = fastrand::u64(..);
        {
            let mut state = lock(&disk.state);
            state.index = Index::default();
            disk.store.store(self.front.store, Ordering::SeqCst);
        }
        self.turn_front(disk);
        for segment in 0..SEGMENTS {
            if let Err(error) = self.files.cut(segment, 0) {
                eprintln!("edge: the cache on disk cannot be emptied: {error}");
            }
        }
        self.order.clear();
        self.offset = 0;
    }

    /// Writes a front page with the newest epochs.
    fn turn_front(&mut self, disk: &Disk) {
        self.front.epochs = lock(&disk.state).epochs.clone();
        if let Err(error) = self.write_front() {
            eprintln!("edge: the front page of the cache on disk cannot be written: {error}");
        }
    }

    fn write_front(&mut self) -> io::Result<()> {
        self.front_serial += 1;
        self.files.write_front(self.front_serial, &self.front.write())
    }
}

/// The next job, with what becomes of it noted.
fn take(state: &mut State) -> Option<Job> {
    let job = state.queue.pop_front()?;
    match &job {
        Job::Answer { key, name, stored, .. } => {
            state.queued = state.queued.saturating_sub(cost(stored));
            let (selector, tags) = (stored.selector.clone(), stored.tags.clone());
            state.writing = Some((*key, Meta { name: name.clone(), selector, tags }));
        }
        Job::Forget { .. } | Job::Purge { .. } => state.notes = state.notes.saturating_sub(1),
        _ => {}
    }
    Some(job)
}
