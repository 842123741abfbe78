//! Whether all is there that something names.

use std::collections::HashSet;

use super::{Bad, Check, CheckStep, Hurt, Subject};
use crate::index::{self, BlobKind, Index};
use crate::tree::{Node, Tree};
use crate::{Id, Kind, Object, ReadError, Reader, Snapshot, keys, lock, prune};

impl Check<'_> {
    /// Config, keys, locks.
    pub(super) fn frame(&mut self) {
        if let Err(error) = self.repository.verify_config() {
            self.problem(Subject::Object(Object::Config), why(error));
        }
        let keys = self.list(Kind::Key);
        let own = self.repository.key();
        if !keys.iter().any(|(id, _)| *id == own) {
            let with = Subject::Object(Object::Stored(Kind::Key, own));
            self.problem(with, "the key that the repository was opened with is missing".to_owned());
        }
        for (id, _) in keys {
            if let Err(error) = keys::verify(self.repository.storage(), id) {
                self.problem(Subject::Object(Object::Stored(Kind::Key, id)), why(error));
            }
        }
        match prune::verify_marks(self.repository) {
            Ok(()) => {}
            Err(ReadError::Damaged { object, why }) => drop(self.problem(Subject::Object(object), why)),
            Err(error) => drop(self.problem(Subject::Folder("klar/unneeded"), why(error))),
        }
        for (id, _) in self.list(Kind::Lock) {
            let object = Object::Stored(Kind::Lock, id);
            match self.repository.json::<lock::File>(&object) {
                Ok(_) => {}
                Err(ReadError::Storage(error)) if error.is_gone() => {}
                Err(error) => {
                    self.problem(Subject::Object(object), why(error));
                }
            }
        }
    }

    fn list(&mut self, kind: Kind) -> Vec<(Id, u64)> {
        self.repository.storage().list(kind).unwrap_or_else(|error| {
            self.problem(Subject::Folder(kind.folder()), error.to_string());
            Vec::new()
        })
    }

    pub(super) fn snapshots(&mut self) {
        let listed = self.list(Kind::Snapshot);
        for (done, (id, _)) in listed.iter().enumerate() {
            let object = Object::Stored(Kind::Snapshot, *id);
            match self.repository.json::<Snapshot>(&object) {
                Ok(snapshot) => self.snapshots.push(Snapshot { id: *id, ..snapshot }),
                Err(error) => {
                    if let Some(number) = self.problem(Subject::Object(object), why(error)) {
                        self.report.problems[number].hurts.push(Hurt { snapshot: *id, time: None });
                    }
                }
            }
            self.said(CheckStep::Snapshots, done as u64 + 1, listed.len() as u64);
        }
        self.snapshots.sort_by_key(|snapshot| std::cmp::Reverse((snapshot.time, snapshot.id)));
        self.report.snapshots = self.snapshots.len() as u64;
    }

    pub(super) fn indexes(&mut self) {
        let mut index = Index::new();
        let listed = self.list(Kind::Index);
        for (done, (id, _)) in listed.iter().enumerate() {
            let object = Object::Stored(Kind::Index, *id);
            match self.repository.json::<index::File>(&object) {
                Ok(file) => file.packs.iter().for_each(|pack| index.add(pack)),
                Err(error) => {
                    let number = self.problem(Subject::Object(object), why(error));
                    self.bad_indexes.extend(number);
                }
            }
            self.said(CheckStep::Indexes, done as u64 + 1, listed.len() as u64);
        }
        index.settle();
        self.report.packs = index.packs.len() as u64;
        self.report.blobs = index.len() as u64;
        self.reader = Reader::of(self.repository, index);
    }

    /// Packs, as they are listed.
    pub(super) fn packs(&mut self) {
        let listed = match self.repository.storage().list(Kind::Pack) {
            Ok(listed) => listed,
            Err(error) => {
                self.problem(Subject::Folder(Kind::Pack.folder()), error.to_string());
                return;
            }
        };
        let mut there = vec![None; self.index().packs.len()];
        for (id, length) in listed {
            match self.index().numbers.get(&id) {
                Some(number) => there[*number as usize] = Some(length),
                None => {
                    self.report.unnamed += 1;
                    self.report.unnamed_bytes += length;
                }
            }
        }
        for (number, length) in there.into_iter().enumerate() {
            let known = self.index().packs[number];
            let why = match length {
                None => "it is missing".to_owned(),
                Some(length) if length != known.length => {
                    format!("it is {length} bytes long, expected {}", known.length)
                }
                Some(_) => continue,
            };
            let problem = self.problem(Subject::Object(Object::Stored(Kind::Pack, known.id)), why);
            let bad = Bad { problem, end: length.unwrap_or(0), offsets: Vec::new() };
            self.bad_packs.insert(number as u32, bad);
        }
    }

    /// All folders of all snapshots, each once.
    pub(super) fn trees(&mut self) {
        let mut seen = HashSet::new();
        let roots: Vec<Id> = self.snapshots.iter().map(|snapshot| snapshot.tree).collect();
        for (done, root) in roots.iter().enumerate() {
            let mut left = vec![*root];
            while let Some(tree) = left.pop() {
                if seen.insert(tree) {
                    self.tree(tree, &mut left);
                }
            }
            self.said(CheckStep::Trees, done as u64 + 1, roots.len() as u64);
        }
    }

    fn tree(&mut self, id: Id, left: &mut Vec<Id>) {
        if !self.needed(BlobKind::Tree, id) {
            return;
        }
        let tree: Tree = match self.reader.tree(id) {
            Ok(tree) => tree,
            Err(error) => return self.bad_tree(id, why(error)),
        };
        for node in tree.nodes {
            if let Err(why) = self.node(&node) {
                self.bad_tree(id, format!("{:?} in it {why}", node.name));
            }
            left.extend(node.subtree);
        }
    }

    fn bad_tree(&mut self, id: Id, why: String) {
        let number = self.problem(Subject::Tree(id), why);
        self.bad_trees.entry(id).or_default().extend(number);
    }

    fn node(&mut self, node: &Node) -> Result<(), String> {
        let mut size = 0;
        let mut is_all_there = true;
        for blob in &node.content {
            is_all_there &= self.needed(BlobKind::Data, *blob);
            size += self.index().places(BlobKind::Data, *blob).next().map_or(0, |place| place.size());
        }
        match &*node.kind {
            _ if node.name.is_empty() => Err("has no name".into()),
            "file" if is_all_there && size != node.size => {
                Err(format!("has {} bytes, but its pieces have {size}", node.size))
            }
            "dir" if node.subtree.is_none() => Err("is a folder, but of what is not said".into()),
            "file" | "dir" | "symlink" | "socket" | "chardev" | "dev" | "fifo" => Ok(()),
            kind => Err(format!("is a {kind:?}, which there is not")),
        }
    }

    /// Takes down that a blob is missing, where it is.
    fn needed(&mut self, kind: BlobKind, id: Id) -> bool {
        if self.index().has(kind, id) {
            return true;
        }
        if !self.missing.contains_key(&(kind, id)) {
            let with = match kind {
                BlobKind::Data => Subject::Blob(id),
                BlobKind::Tree => Subject::Tree(id),
            };
            let number = self.problem(with, "it is in no index".to_owned());
            self.missing.insert((kind, id), number);
        }
        false
    }
}

/// What is wrong, where the object is named beside it.
fn why(error: ReadError) -> String {
    match error {
        ReadError::Damaged { why, .. } => why,
        ReadError::Storage(error) if error.is_gone() => "it is missing".to_owned(),
        error => error.to_string(),
    }
}
