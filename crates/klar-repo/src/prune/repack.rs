//! Copies what is needed out of packs that are mostly unneeded, as it is sealed, once it was compared with its id.

use std::collections::{HashMap, HashSet};

use super::needed::Needed;
use super::{Prune, PruneProgress, PruneStep};
use crate::index::{self, BlobKind, Place};
use crate::pack::Builder;
use crate::{Id, Kind, Object, PruneError, ReadError};

/// So much of a pack is read at once.
const STRETCH: u64 = 8 << 20;

/// What was copied.
#[derive(Default)]
pub(super) struct Repacked {
    /// Packs that nobody needs any more.
    pub from: HashSet<u32>,
    /// New ones: written, but in no index yet.
    pub packs: Vec<index::Pack>,
}

type Copy = (BlobKind, Id, Place);

impl Prune<'_> {
    pub(super) fn repack(&mut self, needed: &Needed) -> Result<Repacked, PruneError> {
        let mut repacked = Repacked { from: self.worth(needed), packs: Vec::new() };
        let of = repacked.from.iter().map(|number| needed.of(*number)).sum();
        let (mut data, mut trees) = (Builder::default(), Builder::default());
        for (number, copies) in self.copies(&repacked.from, needed) {
            let pack = self.reader.index().packs[number as usize].id;
            for stretch in stretches(&copies) {
                let sealed = self.read(pack, stretch)?;
                for ((kind, id, place), sealed) in stretch.iter().zip(sealed) {
                    let builder = if *kind == BlobKind::Data { &mut data } else { &mut trees };
                    builder.push(*kind, *id, &sealed, place.plain);
                    self.done.repacked_bytes += u64::from(place.length);
                    if builder.is_full() {
                        self.write(builder, &mut repacked)?;
                    }
                }
            }
            self.done.repacked += 1;
            let done = self.done.repacked_bytes;
            (self.progress)(PruneProgress { step: PruneStep::Repack, done, of });
        }
        self.write(&mut data, &mut repacked)?;
        self.write(&mut trees, &mut repacked)?;
        Ok(repacked)
    }

    /// The packs that it is worth for: those of which least is needed first, as many as may be.
    fn worth(&self, needed: &Needed) -> HashSet<u32> {
        let packs = self.reader.index().packs.iter().enumerate();
        let mut worth: Vec<(u64, Id, u32)> = packs
            .map(|(number, pack)| (needed.of(number as u32), pack, number as u32))
            .filter(|(bytes, pack, _)| *bytes > 0 && bytes * 2 <= pack.sealed)
            .map(|(bytes, pack, number)| (bytes, pack.id, number))
            .collect();
        worth.sort_unstable();
        let mut left = self.options.max_repack_bytes;
        let fits = |(bytes, ..): &(u64, Id, u32)| {
            let rest = left.checked_sub(*bytes);
            left = rest.unwrap_or(left);
            rest.is_some()
        };
        worth.into_iter().take_while(fits).map(|(_, _, number)| number).collect()
    }

    /// What is to be copied of each pack, in the order in which it lies there.
    fn copies(&self, packs: &HashSet<u32>, needed: &Needed) -> Vec<(u32, Vec<Copy>)> {
        let mut copies: HashMap<u32, Vec<Copy>> = HashMap::new();
        for kind in [BlobKind::Data, BlobKind::Tree] {
            for (position, (id, place)) in self.reader.index().table(kind).iter().enumerate() {
                if needed.is(kind, position) && packs.contains(&place.pack) {
                    copies.entry(place.pack).or_default().push((kind, *id, *place));
                }
            }
        }
        let mut copies: Vec<_> = copies.into_iter().collect();
        copies.sort_unstable_by_key(|(number, _)| *number);
        copies.iter_mut().for_each(|(_, copies)| copies.sort_by_key(|(_, _, place)| place.offset));
        copies
    }

    /// The sealed bytes of blobs that lie near each other.
    fn read(&self, pack: Id, stretch: &[Copy]) -> Result<Vec<Vec<u8>>, PruneError> {
        let (Some((.., first)), Some((.., last))) = (stretch.first(), stretch.last()) else {
            return Ok(Vec::new());
        };
        let length = (end(last) - u64::from(first.offset)) as usize;
        let object = Object::Stored(Kind::Pack, pack);
        let bytes = self.repository.storage().read_range(&object, first.offset.into(), length)?;
        let sealed = stretch.iter().map(|(_, id, place)| {
            let from = (place.offset - first.offset) as usize;
            let sealed = bytes.get(from..from + place.length as usize).unwrap_or_default();
            self.repository.open_blob(*id, pack, place.plain, sealed)?;
            Ok(sealed.to_vec())
        });
        let sealed: Result<_, ReadError> = sealed.collect();
        Ok(sealed?)
    }

    fn write(&self, builder: &mut Builder, repacked: &mut Repacked) -> Result<(), PruneError> {
        let built = builder.build(self.repository).map_err(|why| PruneError::System(why.into()))?;
        if let Some(built) = built {
            let object = Object::Stored(Kind::Pack, built.pack.id);
            self.repository.storage().write(&object, &built.bytes)?;
            repacked.packs.push(built.pack);
        }
        Ok(())
    }
}

fn end(place: &Place) -> u64 {
    u64::from(place.offset) + u64::from(place.length)
}

/// Blobs that are read at once: they and what is between them are not too long.
fn stretches(copies: &[Copy]) -> impl Iterator<Item = &[Copy]> {
    let mut rest = copies;
    std::iter::from_fn(move || {
        let first = rest.first()?.2;
        // Of two that overlap, which no writer makes, the second is read by itself.
        let fits = |(.., place): &&Copy| end(place) - u64::from(first.offset) <= STRETCH;
        let count = rest.iter().take_while(fits).count().max(1);
        let (stretch, after) = rest.split_at(count);
        rest = after;
        Some(stretch)
    })
}
