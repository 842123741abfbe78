//! Reads packs, and everything in them. On as many threads as there are processors, each with one pack in memory.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;

use super::{Bad, Check, CheckData, CheckStep, Subject};
use crate::index::{BlobKind, Index, Place};
use crate::{Id, Kind, Object, Repository, pack};

/// What became of one pack.
struct Read {
    number: u32,
    length: u64,
    why: Option<String>,
    /// Where damaged blobs begin. Nothing: the pack itself does not say what is where.
    offsets: Option<Vec<u32>>,
}

/// So many packs are looked at blob by blob as the index has them; of more, all is taken for lost.
const CLOSELY_MAX: usize = 1000;

impl Check<'_> {
    pub(super) fn data(&mut self, data: CheckData) {
        let is_wanted = |id: Id| {
            let [a, b, c, d, ..] = *id.as_bytes();
            match data {
                CheckData::None => false,
                CheckData::Share { n, of } => u32::from_be_bytes([a, b, c, d]) % of.max(1) == n % of.max(1),
                CheckData::All => true,
            }
        };
        let packs = self.index().packs.iter().enumerate();
        let wanted: Vec<u32> = packs
            .filter(|(number, pack)| {
                // Not those that are missing.
                is_wanted(pack.id) && self.bad_packs.get(&(*number as u32)).is_none_or(|bad| bad.end > 0)
            })
            .map(|(number, _)| number as u32)
            .collect();
        let closely = self.read_all(&wanted);
        self.read_closely(closely);
    }

    /// Gives the packs that do not say themselves what is where.
    fn read_all(&mut self, wanted: &[u32]) -> Vec<u32> {
        let index = self.reader.index();
        let of = wanted.iter().map(|number| index.packs[*number as usize].length).sum();
        let (next, repository) = (AtomicUsize::new(0), self.repository);
        let threads = std::thread::available_parallelism().map_or(1, |cores| cores.get().min(8));
        let (sender, receiver) = mpsc::sync_channel::<Read>(threads);
        let (mut reads, mut done) = (Vec::new(), 0);
        std::thread::scope(|scope| {
            for _ in 0..threads {
                let (sender, next) = (sender.clone(), &next);
                scope.spawn(move || {
                    while let Some(number) = wanted.get(next.fetch_add(1, Ordering::Relaxed)) {
                        if sender.send(read(repository, index, *number)).is_err() {
                            break;
                        }
                    }
                });
            }
            drop(sender);
            for read in receiver {
                done += read.length;
                (self.progress)(super::CheckProgress { step: CheckStep::Data, done, of });
                if read.why.is_some() {
                    reads.push(read);
                }
            }
        });
        self.report.read = done;
        // As they are in the index, not as threads came to them.
        reads.sort_by_key(|read| read.number);
        reads.into_iter().filter_map(|read| self.take_down(read)).collect()
    }

    fn take_down(&mut self, read: Read) -> Option<u32> {
        let Read { number, why, offsets, .. } = read;
        let known = self.index().packs[number as usize];
        if !self.bad_packs.contains_key(&number) {
            let with = Subject::Object(Object::Stored(Kind::Pack, known.id));
            let problem = self.problem(with, why.unwrap_or_default());
            self.bad_packs.insert(number, Bad { problem, end: known.length, offsets: Vec::new() });
        }
        match (self.bad_packs.get_mut(&number), offsets) {
            (Some(bad), Some(offsets)) => {
                bad.offsets = offsets;
                None
            }
            _ => Some(number),
        }
    }

    /// Looks at each blob of packs that are damaged, where the index has it.
    fn read_closely(&mut self, packs: Vec<u32>) {
        let mut blobs: HashMap<u32, Vec<(Id, Place)>> = HashMap::new();
        for number in packs {
            if blobs.len() < CLOSELY_MAX {
                blobs.insert(number, Vec::new());
            } else if let Some(bad) = self.bad_packs.get_mut(&number) {
                bad.end = 0;
            }
        }
        if blobs.is_empty() {
            return;
        }
        for kind in [BlobKind::Data, BlobKind::Tree] {
            for (id, place) in self.reader.index().table(kind).iter() {
                if let Some(blobs) = blobs.get_mut(&place.pack) {
                    blobs.push((*id, *place));
                }
            }
        }
        for (number, blobs) in blobs {
            let id = self.index().packs[number as usize].id;
            let bytes = self.repository.storage().read(&Object::Stored(Kind::Pack, id)).unwrap_or_default();
            let damaged = blobs.iter().filter(|(blob, place)| {
                let sealed = slice(&bytes, place.offset, place.length);
                self.repository.open_blob(*blob, id, place.plain, sealed).is_err()
            });
            let damaged = damaged.map(|(_, place)| place.offset).collect();
            if let Some(bad) = self.bad_packs.get_mut(&number) {
                bad.offsets = damaged;
            }
        }
    }
}

fn slice(bytes: &[u8], offset: u32, length: u32) -> &[u8] {
    let from = offset as usize;
    bytes.get(from..from.saturating_add(length as usize)).unwrap_or_default()
}

fn read(repository: &Repository, index: &Index, number: u32) -> Read {
    let known = index.packs[number as usize];
    let read = |why, offsets| Read { number, length: known.length, why, offsets };
    let object = Object::Stored(Kind::Pack, known.id);
    let bytes = match repository.storage().read(&object) {
        Ok(bytes) => bytes,
        Err(error) => return read(Some(error.to_string()), None),
    };
    if Id::of(&bytes) != known.id {
        return read(Some("its bytes are not those that its name is of".into()), None);
    }
    let blobs = match pack::blobs(repository, known.id, &bytes) {
        Ok(blobs) => blobs,
        Err(error) => return read(Some(error.to_string()), None),
    };
    let (mut offsets, mut why) = (Vec::new(), None);
    for blob in &blobs {
        let sealed = slice(&bytes, blob.offset, blob.length);
        if let Err(error) = repository.open_blob(blob.id, known.id, blob.uncompressed_length, sealed) {
            offsets.push(blob.offset);
            why.get_or_insert_with(|| error.to_string());
        }
        let place =
            Place { pack: number, offset: blob.offset, length: blob.length, plain: blob.uncompressed_length };
        if !index.places(blob.kind, blob.id).any(|known| known == place) {
            why.get_or_insert_with(|| {
                format!("its blob {} is in no index, or somewhere else there", blob.id)
            });
        }
    }
    if why.is_none() && blobs.len() != known.blobs as usize {
        why = Some(format!("it has {} blobs, but the index names {}", blobs.len(), known.blobs));
    }
    // What the index has elsewhere has to be looked at where the index has it.
    let is_clear = why.is_none() || !offsets.is_empty();
    read(why, is_clear.then_some(offsets))
}
