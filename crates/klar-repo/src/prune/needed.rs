//! Which blobs snapshots need, and which pack each of them is to be kept in.

use std::cmp::Reverse;

use super::{Prune, PruneProgress, PruneStep};
use crate::index::{BlobKind, Index, Place};
use crate::{Id, PruneError, Snapshot};

/// What is to be kept.
pub(super) struct Needed {
    /// For each entry of the index: whether this copy of the blob is to be kept.
    data: Vec<bool>,
    trees: Vec<bool>,
    /// For each pack: bytes of what is to be kept in it, and of what any copy is needed of.
    packs: Vec<(u64, u64)>,
}

impl Needed {
    fn new(index: &Index) -> Needed {
        let of = |kind| vec![false; index.table(kind).len()];
        Needed { data: of(BlobKind::Data), trees: of(BlobKind::Tree), packs: vec![(0, 0); index.packs.len()] }
    }

    /// Bytes of blobs that are to be kept in a pack.
    pub fn of(&self, pack: u32) -> u64 {
        self.packs[pack as usize].0
    }

    pub fn is(&self, kind: BlobKind, position: usize) -> bool {
        match kind {
            BlobKind::Data => self.data[position],
            BlobKind::Tree => self.trees[position],
        }
    }

    fn set(&mut self, kind: BlobKind, position: usize, is: bool) {
        match kind {
            BlobKind::Data => self.data[position] = is,
            BlobKind::Tree => self.trees[position] = is,
        }
    }
}

impl Prune<'_> {
    pub(super) fn needed(
        &mut self,
        snapshots: &[Snapshot],
        is_marked: &dyn Fn(Id) -> bool,
    ) -> Result<Needed, PruneError> {
        // First the first copy of each blob stands for all.
        let mut needed = Needed::new(self.reader.index());
        for (done, snapshot) in snapshots.iter().enumerate() {
            let mut left = Vec::new();
            self.need(BlobKind::Tree, snapshot.tree, &mut needed)?.then(|| left.push(snapshot.tree));
            while let Some(tree) = left.pop() {
                for node in self.reader.tree(tree)?.nodes {
                    for blob in node.content {
                        self.need(BlobKind::Data, blob, &mut needed)?;
                    }
                    if let Some(subtree) = node.subtree
                        && self.need(BlobKind::Tree, subtree, &mut needed)?
                    {
                        left.push(subtree);
                    }
                }
            }
            let (done, of) = (done as u64 + 1, snapshots.len() as u64);
            (self.progress)(PruneProgress { step: PruneStep::Needed, done, of });
        }
        for kind in [BlobKind::Data, BlobKind::Tree] {
            self.weigh(kind, &mut needed);
        }
        for kind in [BlobKind::Data, BlobKind::Tree] {
            self.choose(kind, &mut needed, is_marked)?;
        }
        Ok(needed)
    }

    /// Gives whether it was not known to be needed.
    fn need(&self, kind: BlobKind, id: Id, needed: &mut Needed) -> Result<bool, PruneError> {
        let position = self.reader.index().table(kind).position(&id);
        let position = position.ok_or_else(|| incomplete(kind, id))?;
        let is_new = !needed.is(kind, position);
        needed.set(kind, position, true);
        Ok(is_new)
    }

    /// A copy counts where its pack is there, as long as it must be.
    fn is_there(&self, place: Place) -> bool {
        let known = self.reader.index().packs[place.pack as usize];
        self.listed.get(&known.id) == Some(&known.length)
    }

    /// Adds up what is needed of each pack, whichever copy of it will be kept.
    fn weigh(&self, kind: BlobKind, needed: &mut Needed) {
        for (position, copies) in self.reader.index().table(kind).each() {
            if needed.is(kind, position) {
                for (_, place) in copies {
                    needed.packs[place.pack as usize].1 += u64::from(place.length);
                }
            }
        }
    }

    /// Chooses one copy of each blob that is needed: in a pack that is not marked, if there is one; then in the one of
    /// which most is needed. So all blobs of a pack that was repacked are kept in the same new ones.
    fn choose(
        &self,
        kind: BlobKind,
        needed: &mut Needed,
        is_marked: &dyn Fn(Id) -> bool,
    ) -> Result<(), PruneError> {
        let index = self.reader.index();
        for (position, copies) in index.table(kind).each() {
            if !needed.is(kind, position) {
                continue;
            }
            let there = copies.iter().enumerate().filter(|(_, (_, place))| self.is_there(*place));
            let best = there.min_by_key(|(_, (_, place))| {
                let pack = index.packs[place.pack as usize];
                let share = (needed.packs[place.pack as usize].1 << 16) / pack.sealed.max(1);
                (is_marked(pack.id), Reverse(share), pack.id)
            });
            let (at, (_, place)) = best.ok_or_else(|| incomplete(kind, copies[0].0))?;
            needed.set(kind, position, false);
            needed.set(kind, position + at, true);
            needed.packs[place.pack as usize].0 += u64::from(place.length);
        }
        Ok(())
    }
}

fn incomplete(kind: BlobKind, id: Id) -> PruneError {
    let what = match kind {
        BlobKind::Data => format!("blob {id}"),
        BlobKind::Tree => format!("tree {id}"),
    };
    PruneError::Incomplete { what }
}
