//! What is done now and then: blocks are cut from memory and merged, old ones leave, and what was deleted is erased.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::block::{Block, Meta, Region, Writer, name};
use crate::chunk::Unpacker;
use crate::labels::Labels;
use crate::matcher::Matcher;
use crate::postings::matching;
use crate::series::Series;
use crate::store::{Error, Store, at, known, ms};
use crate::wal::sync_folder;
use crate::{lock, read, write};

/// What was done.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Upkeep {
    /// Blocks that were cut from memory.
    pub cut: usize,
    /// Blocks that were merged, or written anew because something of them was deleted.
    pub merged: usize,
    /// Blocks that were too old, or too many.
    pub removed: usize,
}

/// Opens the blocks of a folder, oldest first. Those that another one stands for are removed, and what is half written.
pub fn open_blocks(folder: &Path, notes: &mut Vec<String>) -> Result<Vec<Arc<Block>>, Error> {
    let io = at(folder);
    let mut blocks: Vec<Arc<Block>> = Vec::new();
    for entry in fs::read_dir(folder).map_err(&io)? {
        let path = entry.map_err(&io)?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if name.starts_with("tmp-") {
            fs::remove_dir_all(&path).map_err(&io)?;
        } else if name.starts_with("block-") {
            match Block::open(&path) {
                Ok(block) => blocks.push(block),
                Err(error) => notes.push(format!("{error}; the block is left out")),
            }
        }
    }
    let replaced: HashSet<u64> = blocks.iter().flat_map(|block| block.meta.sources.iter().copied()).collect();
    let mut kept = Vec::new();
    for block in blocks {
        if replaced.contains(&block.meta.serial) {
            remove(folder, &block)?;
        } else {
            kept.push(block);
        }
    }
    kept.sort_by_key(|block| block.meta.from_ms);
    Ok(kept)
}

/// Removes a block: under another name first, so that half of one is never taken for one.
fn remove(folder: &Path, block: &Block) -> Result<(), Error> {
    let gone: PathBuf = folder.join(format!("tmp-gone-{}", name(block.meta.serial)));
    let io = at(&block.folder);
    fs::rename(&block.folder, &gone).map_err(&io)?;
    sync_folder(folder).map_err(&io)?;
    fs::remove_dir_all(&gone).map_err(&io)
}

impl Store {
    /// Cuts blocks, merges them, removes those that are too old or too many. To be called about once a minute by one
    /// thread; others go on meanwhile.
    ///
    /// # Errors
    /// The disk, or a block that is damaged. What was not done is tried again the next time.
    pub fn maintain(&self, now_ms: i64) -> Result<Upkeep, Error> {
        let _held = lock(&self.upkeep);
        let mut done = Upkeep::default();
        let range_ms = self.settings.ranges.first().map_or(7_200_000, |range| ms(*range).max(1));
        // Half a range more, so that what is asked for most is in memory, and late samples find it there.
        let slack_ms = ms(self.settings.late).max(range_ms / 2);
        let until_ms = now_ms.saturating_sub(slack_ms).div_euclid(range_ms) * range_ms;
        while let Some(oldest_ms) = self.oldest_ms().filter(|oldest_ms| *oldest_ms < until_ms) {
            let from_ms = oldest_ms.div_euclid(range_ms) * range_ms;
            self.cut(from_ms, from_ms + range_ms)?;
            done.cut += 1;
        }
        done.removed = self.retire(now_ms)?;
        done.merged = self.merge(until_ms)?;
        read(&self.blocks).iter().for_each(|block| block.rest());
        Ok(done)
    }

    fn oldest_ms(&self) -> Option<i64> {
        read(&self.table).all().filter_map(|series| lock(&series.state).oldest_ms()).min()
    }

    fn next_serial(&self) -> u64 {
        let blocks = read(&self.blocks);
        let serials = blocks.iter().flat_map(|block| block.meta.sources.iter().chain([&block.meta.serial]));
        serials.max().map_or(1, |serial| serial + 1)
    }

    /// A block of all samples from a time until another one, which is not included; there are none before.
    fn cut(&self, from_ms: i64, to_ms: i64) -> Result<(), Error> {
        let io = at(&self.folder);
        // From here on nothing older is accepted, and what is being accepted is seen by the walk below.
        self.floor_ms.fetch_max(to_ms, Ordering::AcqRel);
        let mut series: Vec<Arc<Series>> = read(&self.table).all().cloned().collect();
        series.sort_unstable_by(|first, second| first.labels.cmp(&second.labels));
        let meta = Meta { serial: self.next_serial(), from_ms, to_ms, ..Meta::default() };
        let mut writer = Writer::new(&self.folder, meta).map_err(&io)?;
        let mut unpacker = Unpacker::default();
        let mut samples = Vec::new();
        for one in &series {
            let copied = lock(&one.state).copy(from_ms, to_ms - 1);
            samples.clear();
            let _ = copied.read(from_ms, to_ms - 1, &mut unpacker, &mut samples);
            writer.samples(&samples);
            writer.end(&one.labels).map_err(&io)?;
        }
        let block = Block::open(&writer.finish().map_err(&io)?)?;
        {
            let mut blocks = write(&self.blocks);
            blocks.push(block);
            blocks.sort_by_key(|block| block.meta.from_ms);
        }
        let mut idle = Vec::new();
        for one in series {
            let mut state = lock(&one.state);
            state.remove(i64::MIN, to_ms - 1);
            let (was_idle, is_idle) = (state.is_idle, state.is_empty());
            state.is_idle = is_idle;
            drop(state);
            if was_idle && is_idle {
                idle.push(one);
            }
        }
        let mut table = write(&self.table);
        for one in idle {
            if lock(&one.state).is_empty() {
                table.remove(&one);
            }
        }
        drop(table);
        self.wal.forget_before(to_ms).map_err(&io)
    }

    /// Merges blocks of a time that is over, and writes those anew of which something was deleted.
    fn merge(&self, until_ms: i64) -> Result<usize, Error> {
        let mut merged = 0;
        let keep_ms = self.settings.keep_age.map_or(i64::MAX, ms);
        for range in self.settings.ranges.iter().skip(1) {
            let range_ms = ms(*range).max(1);
            // A block leaves as a whole: one as long as what is kept would keep twice as much.
            if range_ms > keep_ms / 2 {
                break;
            }
            let blocks = read(&self.blocks).clone();
            let window = |block: &Block| block.meta.from_ms.div_euclid(range_ms);
            let is_shorter = |block: &Block| block.meta.to_ms - block.meta.from_ms < range_ms;
            for together in blocks.chunk_by(|first, second| window(first) == window(second)) {
                let together: Vec<Arc<Block>> =
                    together.iter().filter(|block| is_shorter(block)).cloned().collect();
                let is_over = together.first().is_some_and(|one| (window(one) + 1) * range_ms <= until_ms);
                if is_over && together.len() > 1 {
                    merged += together.len();
                    self.rewrite(&together)?;
                }
            }
        }
        let stained: Vec<Arc<Block>> =
            read(&self.blocks).iter().filter(|block| block.has_tombstones()).cloned().collect();
        for block in stained {
            merged += 1;
            self.rewrite(&[block])?;
        }
        Ok(merged)
    }

    /// One block that stands for some, which are neighbours and sorted.
    fn rewrite(&self, sources: &[Arc<Block>]) -> Result<(), Error> {
        let io = at(&self.folder);
        let mut serials = Vec::new();
        for block in sources {
            serials.push(block.meta.serial);
            // Also those that it stands for itself, in case one could not be removed.
            serials.extend_from_slice(&block.meta.sources);
        }
        let from_ms = sources.iter().map(|block| block.meta.from_ms).min().unwrap_or_default();
        let to_ms = sources.iter().map(|block| block.meta.to_ms).max().unwrap_or_default();
        let meta = Meta { serial: self.next_serial(), from_ms, to_ms, sources: serials, ..Meta::default() };
        let mut regions: Vec<(Labels, Region)> = Vec::new();
        for block in sources {
            regions.append(&mut block.regions()?);
        }
        // Stable, and the runs are sorted already: samples of one series stay in the order of their blocks.
        regions.sort_by(|(first, _), (second, _)| first.cmp(second));
        let mut writer = Writer::new(&self.folder, meta).map_err(&io)?;
        let mut unpacker = Unpacker::default();
        for same in regions.chunk_by(|(first, _), (second, _)| first == second) {
            for (_, region) in same {
                region.write_to(&mut writer, &mut unpacker)?;
            }
            if let Some((labels, _)) = same.first() {
                writer.end(labels).map_err(&io)?;
            }
        }
        let block = Block::open(&writer.finish().map_err(&io)?)?;
        {
            let mut blocks = write(&self.blocks);
            blocks.retain(|block| sources.iter().all(|source| source.meta.serial != block.meta.serial));
            blocks.push(block);
            blocks.sort_by_key(|block| block.meta.from_ms);
        }
        sources.iter().try_for_each(|block| remove(&self.folder, block))
    }

    /// Removes blocks that are too old, and the oldest ones if all are too many. The newest one stays: it says where
    /// memory begins.
    fn retire(&self, now_ms: i64) -> Result<usize, Error> {
        let blocks = read(&self.blocks).clone();
        let mut bytes: u64 = blocks.iter().map(|block| block.bytes).sum();
        let mut removed = 0;
        for block in blocks.iter().take(blocks.len().saturating_sub(1)) {
            let is_old =
                self.settings.keep_age.is_some_and(|age| block.meta.to_ms < now_ms.saturating_sub(ms(age)));
            if !is_old && self.settings.keep_bytes.is_none_or(|most| bytes <= most) {
                break;
            }
            write(&self.blocks).retain(|other| other.meta.serial != block.meta.serial);
            remove(&self.folder, block)?;
            bytes -= block.bytes;
            removed += 1;
        }
        Ok(removed)
    }

    /// Deletes samples from a time until another one, both included, of the series that all matchers take. They cannot
    /// be read any more when this returns, and not after a crash either; [`Store::maintain`] erases them from blocks,
    /// and the log forgets them as it forgets the rest of their time.
    ///
    /// # Errors
    /// The disk, or a block that is damaged: some may be deleted then, and others not.
    pub fn delete(&self, matchers: &[Matcher], from_ms: i64, to_ms: i64) -> Result<(), Error> {
        let _held = lock(&self.upkeep);
        for block in read(&self.blocks).clone() {
            if block.meta.from_ms <= to_ms && block.meta.to_ms > from_ms {
                block.delete(matchers, from_ms, to_ms)?;
            }
        }
        let upto = {
            // Nobody appends meanwhile: the log says in which order things happened.
            let table = write(&self.table);
            let slots = matching(&*table, matchers);
            let series: Vec<&Arc<Series>> =
                slots.iter().filter_map(|slot| table.slots.get(*slot as usize)?.as_ref()).collect();
            let cleared: Vec<&Arc<Series>> =
                series.into_iter().filter(|one| lock(&one.state).remove(from_ms, to_ms) > 0).collect();
            self.wal.delete(cleared.iter().map(|one| known(one)), from_ms, to_ms)
        };
        self.commit(upto)
    }
}
