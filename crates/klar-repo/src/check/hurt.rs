//! Which snapshots a problem hurts.

use std::collections::{BTreeSet, HashMap, HashSet};

use super::{Check, CheckStep, HURTS_MAX, Hurt};
use crate::Id;
use crate::index::{BlobKind, Place};

/// What was found in trees so far: each is read once. Of most nothing is to be said.
#[derive(Default)]
struct Found {
    good: HashSet<Id>,
    hurt: HashMap<Id, BTreeSet<usize>>,
}

const DEPTH_MAX: usize = 500;

impl Check<'_> {
    pub(super) fn hurt(&mut self) {
        if self.bad_packs.is_empty() && self.missing.is_empty() && self.bad_trees.is_empty() {
            return;
        }
        let mut found = Found::default();
        let snapshots = std::mem::take(&mut self.snapshots);
        for (done, snapshot) in snapshots.iter().enumerate() {
            for problem in self.problems_of_tree(snapshot.tree, &mut found, 0) {
                let problem = &mut self.report.problems[problem];
                if problem.hurts.len() < HURTS_MAX {
                    problem.hurts.push(Hurt { snapshot: snapshot.id, time: Some(snapshot.time) });
                } else {
                    problem.more += 1;
                }
            }
            self.said(CheckStep::Hurt, done as u64 + 1, snapshots.len() as u64);
        }
    }

    /// All problems of a folder and of what is beneath.
    fn problems_of_tree(&self, id: Id, found: &mut Found, depth: usize) -> BTreeSet<usize> {
        if found.good.contains(&id) || depth > DEPTH_MAX {
            return BTreeSet::new();
        }
        if let Some(hurt) = found.hurt.get(&id) {
            return hurt.clone();
        }
        let mut problems = BTreeSet::new();
        self.problems_of(BlobKind::Tree, id, &mut problems);
        problems.extend(self.bad_trees.get(&id).into_iter().flatten());
        for node in self.reader.tree(id).unwrap_or_default().nodes {
            for blob in node.content {
                self.problems_of(BlobKind::Data, blob, &mut problems);
            }
            if let Some(subtree) = node.subtree {
                problems.append(&mut self.problems_of_tree(subtree, found, depth + 1));
            }
        }
        match problems.is_empty() {
            true => drop(found.good.insert(id)),
            false => drop(found.hurt.insert(id, problems.clone())),
        }
        problems
    }

    /// Why a blob cannot be had: nothing, where one copy of it can.
    fn problems_of(&self, kind: BlobKind, id: Id, problems: &mut BTreeSet<usize>) {
        if let Some(missing) = self.missing.get(&(kind, id)) {
            problems.extend(missing);
            problems.extend(&self.bad_indexes);
            return;
        }
        let bad = |place: Place| self.bad_packs.get(&place.pack).filter(|bad| bad.has(place));
        if self.reader.index().places(kind, id).all(|place| bad(place).is_some()) {
            problems.extend(self.reader.index().places(kind, id).filter_map(|place| bad(place)?.problem));
        }
    }
}
