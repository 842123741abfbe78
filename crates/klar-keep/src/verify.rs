//! Whether all of a repository is what was written: every object that something is made of is read again.

use std::fmt;

use klar_repo::{CheckData, CheckProgress, CheckStep, Repository};

use crate::keeper::KeepError;
use crate::point::{AnyPoint, Points};
use crate::restore::{Kept, RestoringError};
use crate::wal::{WalError, lay};

/// What was found.
#[derive(Debug, Default)]
pub struct Found {
    /// Objects that were read.
    pub objects: u64,
    /// Their bytes.
    pub bytes: u64,
    /// What is wrong.
    pub problems: Vec<String>,
}

impl Found {
    fn add(&mut self, problems: impl IntoIterator<Item = impl fmt::Display>) {
        self.problems.extend(problems.into_iter().map(|problem| problem.to_string()));
    }
}

/// Reads points and what they are made of. `progress` hears what is read, how far, and of how much.
///
/// # Errors
/// Snapshots cannot be listed.
pub fn points<P: AnyPoint>(
    repository: &Repository,
    points: &Points<P>,
    progress: &mut dyn FnMut(&str, u64, u64),
) -> Result<Found, KeepError> {
    let mut found = Found::default();
    found.add(&points.refused);
    let report = repository.check(CheckData::All, &mut |at: CheckProgress| {
        if at.step == CheckStep::Data {
            progress("reading every object", at.done, at.of);
        }
    });
    found.add(&report.problems);
    let have = repository.snapshots().map_err(RestoringError::from)?;
    for point in points.points.values() {
        let (id, snapshot, tree) = (point.id(), point.snapshot(), point.tree());
        if !have.iter().any(|one| (one.id, one.tree) == (snapshot, tree)) {
            found.add([format!("{id}: its snapshot {snapshot} is not there, or has other files")]);
        }
    }
    let lost = points.lost(repository).map_err(WalError::from)?;
    found.add(lost.iter().map(|id| format!("{id} was proven, and is not there: somebody has removed it")));
    (found.objects, found.bytes) = (report.packs, report.read);
    Ok(found)
}

/// The same with the log between the points: each segment is put together and looked at, and nothing may be missing.
///
/// # Errors
/// As [`points`].
pub fn database(kept: &Kept<'_>, progress: &mut dyn FnMut(&str, u64, u64)) -> Result<Found, KeepError> {
    let mut found = points(kept.repository, &kept.points, progress)?;
    found.add(kept.gaps());
    if let Some(point) = kept.points.points.values().next_back() {
        let size = kept.log.size.bytes();
        let mut tell = |read: u64| progress("reading the log", read * size, 0);
        let (read, wrong) = lay::read_all(kept.repository, &kept.log, point.system, kept.trusted, &mut tell);
        found.add(wrong);
        found.objects += read;
        found.bytes += read * size;
    }
    Ok(found)
}
