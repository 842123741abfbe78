//! What is done now and then: memory becomes files, files are merged, old ones leave, and what is to be deleted is.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::block::{Block, Gather};
use crate::file::{self, Push, Reader, RowFile, Shape};
use crate::filter::{Compiled, Filter, Memory};
use crate::place::{self, HOUR_US, Name};
use crate::store::{Error, Frozen, Hours, Kept, Recovered, Store, at};
use crate::table::Table;
use crate::{lock, read, write};

/// What was done.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Upkeep {
    /// Files that were written from memory.
    pub written: usize,
    /// Files that were merged to one.
    pub merged: usize,
    /// Files that were too old, or too many.
    pub removed: usize,
    /// What is wrong, for people: files that are damaged and were left out.
    pub notes: Vec<String>,
}

/// Files that are merged at once: of each one a granule is in memory.
const MERGED_MAX: usize = 16;
/// So many files of an hour that goes on become one, if each has at most so many bytes.
const SMALL_MAX: usize = 8;
const SMALL_BYTES: u64 = 4 << 20;

fn us(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

/// Finds the files of a table. What is half written is removed, and what another file stands for.
pub(crate) fn open_table(folder: &Path, table: Table, recovered: &mut Recovered) -> Result<Kept, Error> {
    let shape = Shape::new(table);
    let mut hours = Hours::default();
    for (hour, path) in hour_folders(&folder.join(format!("signal={}", shape.table.name)))? {
        let io = at(&path);
        let mut names = Vec::new();
        let mut sides = Vec::new();
        for entry in fs::read_dir(&path).map_err(&io)? {
            let entry = entry.map_err(&io)?.path();
            let name = entry.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            if name.starts_with("tmp-") {
                fs::remove_file(&entry).map_err(at(&entry))?;
            } else if let Some(name) = Name::parse(name) {
                names.push(name);
            } else if name.ends_with(".side") {
                sides.push(entry);
            }
        }
        names.sort_unstable();
        let mut files = Vec::new();
        for name in &names {
            let path = path.join(name.file());
            if names.iter().any(|other| name.is_replaced_by(other)) {
                file::remove(&path)?;
                continue;
            }
            match RowFile::find(path, *name, hour, &shape) {
                Ok(file) => files.push(Arc::new(file)),
                Err(error) => {
                    recovered.notes.push(format!("{error}; the file is left out"));
                    hours.damaged.insert(hour);
                }
            }
        }
        for side in sides.iter().filter(|side| !side.with_extension("parquet").is_file() && side.is_file()) {
            fs::remove_file(side).map_err(at(side))?;
        }
        if !files.is_empty() {
            hours.files.insert(hour, files);
        }
    }
    Ok(Kept { shape, hours: std::sync::RwLock::new(hours) })
}

fn hour_folders(signal: &Path) -> Result<Vec<(i64, std::path::PathBuf)>, Error> {
    let mut found = Vec::new();
    if !signal.is_dir() {
        return Ok(found);
    }
    let inside = |path: &Path| -> Result<Vec<std::path::PathBuf>, Error> {
        let entries = fs::read_dir(path).map_err(at(path))?;
        entries
            .map(|entry| Ok(entry.map_err(at(path))?.path()))
            .filter(|path| path.as_ref().map_or(true, |path| path.is_dir()))
            .collect()
    };
    for day in inside(signal)? {
        for hour in inside(&day)? {
            let name =
                |path: &Path| path.file_name().and_then(|name| name.to_str()).unwrap_or_default().to_owned();
            if let Some(number) = place::parse(&name(&day), &name(&hour)) {
                found.push((number, hour));
            }
        }
    }
    Ok(found)
}

impl Store {
    /// Writes to files what waits in memory for that, merges files, removes those that are too old or too many. To be
    /// called about once a second by one thread, with the time in microseconds; others go on meanwhile.
    ///
    /// # Errors
    /// The disk. What was not done is tried again the next time; rows stay in memory and in the log until then.
    pub fn maintain(&self, now_us: i64) -> Result<Upkeep, Error> {
        let _held = lock(&self.upkeep);
        let mut done = Upkeep::default();
        let bytes = self.memory_bytes.load(Ordering::Relaxed);
        let waited = {
            let mut since = lock(&self.waits_since);
            // A clock that was set back begins anew.
            let since = since.get_or_insert(now_us);
            *since = (*since).min(now_us);
            now_us - *since
        };
        // What a log from before has must not be there any more when files leave that have it too.
        let is_first = !self.is_kept_up.swap(true, Ordering::Relaxed);
        if is_first
            || bytes >= self.settings.flush_bytes
            || (bytes > 0 && waited >= us(self.settings.flush_after))
        {
            done.written = self.flush().inspect_err(|_| self.is_kept_up.store(false, Ordering::Relaxed))?;
        }
        if bytes == 0 {
            *lock(&self.waits_since) = None;
        }
        done.removed = self.retire(now_us)?;
        self.merge(now_us, &mut done)?;
        Ok(done)
    }

    /// Writes all that is in memory to files now.
    ///
    /// # Errors
    /// The disk. Rows stay in memory and in the log.
    pub fn flush_now(&self) -> Result<usize, Error> {
        let _held = lock(&self.upkeep);
        self.flush()
    }

    fn flush(&self) -> Result<usize, Error> {
        let mut written = 0;
        // What an earlier attempt did not finish comes first: its records are older.
        written += self.write_frozen()?;
        let (upto, bytes) = {
            let _alone = write(&self.gate);
            let upto = self.wal.turn();
            // All of these are in files when the rest of this is done.
            let bytes = self.memory_bytes.load(Ordering::Relaxed);
            for kept in &self.tables {
                let hours = &mut *write(&kept.hours);
                for (hour, memory) in std::mem::take(&mut hours.memory) {
                    let name = Name { from: memory.first, to: upto, generation: 0 };
                    hours.frozen.push(Arc::new(Frozen { hour, blocks: memory.into_blocks(), name }));
                }
            }
            (upto, bytes)
        };
        written += self.write_frozen()?;
        *lock(&self.waits_since) = None;
        self.memory_bytes.fetch_sub(bytes, Ordering::Relaxed);
        self.wal.commit_all().map_err(at(&self.folder))?;
        self.wal.forget(upto).map_err(at(&self.folder))?;
        Ok(written)
    }

    fn write_frozen(&self) -> Result<usize, Error> {
        let mut written = 0;
        for kept in &self.tables {
            let waiting = read(&kept.hours).frozen.clone();
            for frozen in waiting {
                let mut blocks = |push: Push| sorted(&frozen.blocks, &kept.shape, push);
                let (hour, name) = (frozen.hour, frozen.name);
                let file = RowFile::create(&self.folder, &kept.shape, hour, name, &*self.disk, &mut blocks)?;
                let mut hours = write(&kept.hours);
                hours.frozen.retain(|other| !Arc::ptr_eq(other, &frozen));
                if let Some(file) = file {
                    hours.files.entry(hour).or_default().push(file);
                    written += 1;
                }
            }
        }
        Ok(written)
    }

    /// Removes hours that are too old, and the oldest ones if all are too many.
    fn retire(&self, now_us: i64) -> Result<usize, Error> {
        let mut all: Vec<(i64, usize, u64)> = Vec::new();
        for (place, kept) in self.tables.iter().enumerate() {
            let hours = read(&kept.hours);
            all.extend(
                hours
                    .files
                    .iter()
                    .map(|(hour, files)| (*hour, place, files.iter().map(|file| file.bytes).sum())),
            );
        }
        all.sort_unstable();
        let mut bytes: u64 = all.iter().map(|(.., bytes)| bytes).sum();
        let mut removed = 0;
        for (hour, place, hour_bytes) in all {
            let ended_us = (hour + 1) * HOUR_US;
            let is_old = self.settings.keep_age.is_some_and(|age| ended_us < now_us.saturating_sub(us(age)));
            let is_too_much = self.settings.keep_bytes.is_some_and(|most| bytes > most);
            if !is_old && !is_too_much {
                break;
            }
            let Some(kept) = self.tables.get(place) else { break };
            let files = {
                let mut hours = write(&kept.hours);
                let files = hours.files.remove(&hour).unwrap_or_default();
                hours.retired_rows += files.iter().map(|file| file.rows).sum::<u64>();
                files
            };
            removed += files.len();
            files.iter().for_each(|file| file.doom());
            bytes -= hour_bytes;
        }
        Ok(removed)
    }

    /// Merges files of an hour: all of one that is over, and those of one that goes on when there are many.
    fn merge(&self, now_us: i64, done: &mut Upkeep) -> Result<(), Error> {
        for kept in &self.tables {
            let hours: Vec<i64> = {
                let hours = read(&kept.hours);
                hours.files.keys().filter(|hour| !hours.damaged.contains(hour)).copied().collect()
            };
            for hour in hours {
                let files = read(&kept.hours).files.get(&hour).cloned().unwrap_or_default();
                let is_over = (hour + 1) * HOUR_US + us(self.settings.close_after) <= now_us;
                let together = mergeable(&files, is_over, self.settings.file_max);
                if together.len() < 2 {
                    continue;
                }
                match self.merge_files(kept, hour, &together) {
                    Ok(()) => done.merged += together.len(),
                    Err(error @ Error::Damaged { .. }) => {
                        done.notes.push(format!("{error}; its hour is not merged"))
                    }
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(())
    }

    fn merge_files(&self, kept: &Kept, hour: i64, files: &[Arc<RowFile>]) -> Result<(), Error> {
        let (Some(first), Some(last)) = (files.first(), files.last()) else { return Ok(()) };
        let name = Name { from: first.name.from, to: last.name.to, generation: 0 };
        let mut blocks = |push: Push| merged(files, &kept.shape, push);
        let file = RowFile::create(&self.folder, &kept.shape, hour, name, &*self.disk, &mut blocks)?;
        self.replace(kept, hour, files, file);
        Ok(())
    }

    /// One file in the place of some others.
    fn replace(&self, kept: &Kept, hour: i64, old: &[Arc<RowFile>], new: Option<Arc<RowFile>>) {
        let mut hours = write(&kept.hours);
        let files = hours.files.entry(hour).or_default();
        let place = files.iter().position(|file| old.iter().any(|old| Arc::ptr_eq(old, file)));
        files.retain(|file| !old.iter().any(|old| Arc::ptr_eq(old, file)));
        if let (Some(new), Some(place)) = (new, place) {
            files.insert(place.min(files.len()), new);
        }
        if files.is_empty() {
            hours.files.remove(&hour);
        }
        old.iter().for_each(|file| file.doom());
    }

    /// Deletes the rows that a filter takes, from a time until another one, which is not included. When this returns they
    /// cannot be read any more and are in no file and not in the log; whoever is reading meanwhile may still see them.
    /// After a crash in between some may be there; it is to be asked for again then. Returns how many were deleted.
    ///
    /// # Errors
    /// The disk, a filter that cannot be, a file that is damaged. Some may be deleted then, and others not.
    pub fn delete(&self, table: &str, filter: &Filter, from_us: i64, to_us: i64) -> Result<u64, Error> {
        let kept = self.table(table)?;
        let compiled = Compiled::new(filter, &kept.shape.table)?;
        let _held = lock(&self.upkeep);
        // Afterwards all are in files, and the log has none of them.
        self.flush()?;
        self.rest();
        let mut deleted = 0;
        let files: Vec<Arc<RowFile>> = read(&kept.hours).files.values().flatten().cloned().collect();
        for file in files.iter().filter(|file| file.from_us < to_us && file.to_us >= from_us) {
            let before = file.rows;
            let count = deletion(file, &kept.shape, &compiled, (from_us, to_us), &mut |_| Ok(()))?;
            if count == 0 {
                continue;
            }
            deleted += count;
            if count == before {
                file.remove()?;
                self.replace(kept, file.hour, std::slice::from_ref(file), None);
                continue;
            }
            let name = Name { generation: file.name.generation + 1, ..file.name };
            let mut blocks =
                |push: Push| deletion(file, &kept.shape, &compiled, (from_us, to_us), push).map(|_| ());
            let new = RowFile::create(&self.folder, &kept.shape, file.hour, name, &*self.disk, &mut blocks)?;
            file.remove()?;
            self.replace(kept, file.hour, std::slice::from_ref(file), new);
        }
        Ok(deleted)
    }
}

/// Which of the files of an hour are to become one: neighbours, since their numbers must not skip any. Of an hour that goes
/// on only small ones, and when there are many, so that a row is written twice or three times and not with each file.
fn mergeable(files: &[Arc<RowFile>], is_over: bool, file_max: u64) -> Vec<Arc<RowFile>> {
    let mut best: &[Arc<RowFile>] = &[];
    for start in 0..files.len() {
        let mut all = 0;
        let fits = files[start..].iter().take(MERGED_MAX).take_while(|file| {
            all += file.bytes;
            all <= file_max && (is_over || file.bytes <= SMALL_BYTES)
        });
        let run = &files[start..start + fits.count()];
        let is_worth = if is_over { run.len() > 1 && is_even(run) } else { run.len() >= SMALL_MAX };
        if is_worth && run.len() > best.len() {
            best = run;
        }
    }
    best.to_vec()
}

/// Whether no file is so much larger than the others that it would be written anew for little.
fn is_even(run: &[Arc<RowFile>]) -> bool {
    let largest = run.iter().map(|file| file.bytes).max().unwrap_or_default();
    let all: u64 = run.iter().map(|file| file.bytes).sum();
    (all - largest) * 8 >= largest || run.len() == MERGED_MAX
}

/// Gives rows of blocks in the order of their time, in granules.
fn sorted(blocks: &[Arc<Block>], shape: &Shape, push: Push) -> Result<(), Error> {
    let times = || blocks.iter().flat_map(|block| block.times());
    if times().is_sorted() {
        return blocks.iter().try_for_each(|block| push(block));
    }
    let mut order: Vec<(i64, u32, u32)> = Vec::new();
    for (place, block) in blocks.iter().enumerate() {
        order.extend(block.times().iter().enumerate().map(|(row, time)| (*time, place as u32, row as u32)));
    }
    order.sort_unstable();
    let mut gather = Gather::new(&shape.table);
    let mut at = 0;
    while let Some((_, place, row)) = order.get(at) {
        let follows = |(step, next): (usize, &(i64, u32, u32))| {
            next.1 == *place && next.2 as usize == *row as usize + step
        };
        let run =
            order[at..].iter().take(gather.room()).enumerate().take_while(|next| follows(*next)).count();
        gather.extend(&blocks[*place as usize], *row as usize, run);
        at += run;
        if gather.block.is_full() {
            push(&gather.take())?;
        }
    }
    push(&gather.take())
}

/// Gives rows of files, each of which is sorted, in the order of their time.
fn merged(files: &[Arc<RowFile>], shape: &Shape, push: Push) -> Result<(), Error> {
    let mut readers = Vec::new();
    let mut next: BinaryHeap<Reverse<(i64, usize)>> = BinaryHeap::new();
    for file in files {
        let mut reader = Reader::new(file, file.open(shape)?, shape.table.clone())?;
        // It is read once.
        file.rest();
        let block = reader.next()?;
        if let Some(time) = block.as_ref().and_then(|block| block.times().first()) {
            next.push(Reverse((*time, readers.len())));
        }
        readers.push((reader, block, 0));
    }
    let mut gather = Gather::new(&shape.table);
    while let Some(Reverse((_, place))) = next.pop() {
        let (reader, block, row) = &mut readers[place];
        let Some(here) = block else { continue };
        let until = next.peek().map(|Reverse((time, other))| (*time, *other));
        // Of rows of the same time those of the older file come first.
        let comes_first = |time: i64| until.is_none_or(|until| (time, place) <= until);
        let run =
            here.times()[*row..].iter().take(gather.room()).take_while(|time| comes_first(**time)).count();
        gather.extend(here, *row, run);
        *row += run;
        if *row >= here.rows {
            *block = reader.next()?;
            *row = 0;
        }
        if let Some(time) = block.as_ref().and_then(|block| block.times().get(*row)) {
            next.push(Reverse((*time, place)));
        }
        if gather.block.is_full() {
            push(&gather.take())?;
        }
    }
    push(&gather.take())
}

/// Gives the rows of a file that are to stay, and says how many are not.
fn deletion(
    file: &Arc<RowFile>,
    shape: &Shape,
    filter: &Compiled,
    (from_us, to_us): (i64, i64),
    push: Push,
) -> Result<u64, Error> {
    let mut reader = Reader::new(file, file.open(shape)?, shape.table.clone())?;
    let mut memory = Memory::default();
    let mut gather = Gather::new(&shape.table);
    let mut count = 0;
    while let Some(block) = reader.next()? {
        let mut gone: Vec<bool> = block.times().iter().map(|time| (from_us..to_us).contains(time)).collect();
        filter.narrow(&mut &block, &mut memory, &mut gone).map_err(file::of(&file.path))?;
        let mut row = 0;
        for same in gone.chunk_by(|first, second| first == second) {
            if same.first() == Some(&true) {
                count += same.len() as u64;
            } else {
                let mut left = same.len();
                while left > 0 {
                    let run = left.min(gather.room());
                    gather.extend(&block, row + same.len() - left, run);
                    left -= run;
                    if gather.block.is_full() {
                        push(&gather.take())?;
                    }
                }
            }
            row += same.len();
        }
    }
    push(&gather.take())?;
    Ok(count)
}
