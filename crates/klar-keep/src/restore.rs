//! Restoring: a plan first, which says from which point and how far, then files and log in a folder.
//!
//! The folder is not a server's before one has replayed the log in it ([`crate::scratch`]). Nothing here overwrites: the
//! target is empty or not there yet.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;
use klar_base::Hint;
use klar_repo::{ReadError, Repository, RestoreError, Restored};
use klar_store::KeyId;
use nix::unistd::geteuid;

use crate::base::EMPTIED;
use crate::lsn::{Lsn, Timeline};
use crate::point::{Point, PointId, Points};
use crate::scratch::{Recovery, Scratch, ScratchError, Then, Until};
use crate::server::Programs;
use crate::ship::Shipped;
use crate::signed::SignedError;
use crate::wal::WalError;
use crate::wal::chain::Log;
use crate::wal::commits;
use crate::wal::lay::{self, Laid, Wanted};

/// What is restored, from what, and how far.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// The base, and where its log begins.
    pub point: Point,
    /// How far.
    pub until: Until,
    /// Which timeline to follow.
    pub timeline: Timeline,
    /// The log is laid out up to here.
    pub to: Lsn,
    /// Every commit that was acknowledged until then is restored, or all until the target where that is earlier.
    pub covered: Option<Timestamp>,
    /// Bytes of files and log that will be written.
    pub bytes: u64,
}

/// Why it cannot be restored, or was not.
#[derive(Debug, thiserror::Error)]
pub enum RestoringError {
    /// There is nothing to restore from.
    #[error("there is no point yet: no base was published in this repository")]
    Nothing,
    /// No such point.
    #[error("there is no point {0}")]
    Unknown(PointId),
    /// Earlier than all points.
    #[error("{asked} is before the earliest time that can be restored, {earliest}")]
    TooEarly {
        /// What was asked for.
        asked: String,
        /// The earliest.
        earliest: Timestamp,
    },
    /// Later than what was shipped.
    #[error("{asked} is after the latest time that can be restored, {latest}")]
    TooLate {
        /// What was asked for.
        asked: String,
        /// The latest.
        latest: Timestamp,
    },
    /// It was that time twice.
    #[error(
        "{asked} came twice: the clock of the server was put back from {} to {} behind {} in its log",
        back.before, back.after, back.at
    )]
    Twice {
        /// What was asked for.
        asked: Timestamp,
        /// How the clock went back.
        back: commits::Back,
    },
    /// The log.
    #[error(transparent)]
    Wal(#[from] WalError),
    /// Points.
    #[error(transparent)]
    Signed(#[from] SignedError),
    /// The repository.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// Files.
    #[error(transparent)]
    Restore(#[from] RestoreError),
    /// The server on them.
    #[error(transparent)]
    Scratch(#[from] ScratchError),
    /// Files were restored, and they are not those of the point.
    #[error("the snapshot of {point} has other files than it was published with")]
    OtherFiles {
        /// Which.
        point: PointId,
    },
    /// Too little space.
    #[error("{} has {free} bytes free, and {needed} are needed", folder.display())]
    Space {
        /// Where.
        folder: PathBuf,
        /// In bytes.
        free: u64,
        /// In bytes, with a tenth to spare.
        needed: u64,
    },
    /// A folder of ours.
    #[error("{}: {source}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// As the system says it.
        source: io::Error,
    },
}

impl Hint for RestoringError {
    fn hint(&self) -> Option<String> {
        match self {
            Self::Nothing => Some("run `klar backup now`".into()),
            Self::Unknown(_) => Some("`klar backup list` shows all points".into()),
            Self::TooEarly { earliest, .. } => Some(format!("ask for {earliest} or later")),
            Self::TooLate { .. } => {
                Some("ask for an earlier time, or for `latest`; the log is shipped about every second".into())
            }
            Self::Twice { back, .. } => Some(format!(
                "restore `lsn:{}` for all that was written until then, `latest` for all of it, or a time before {}",
                back.at, back.after
            )),
            Self::Space { .. } => Some("make space, or give another folder with `--into`".into()),
            Self::Wal(error) => error.hint(),
            Self::Scratch(error) => error.hint(),
            _ => None,
        }
    }
}

/// What came back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Back {
    /// Files of the base.
    pub restored: Restored,
    /// Segments of the log.
    pub laid: u64,
}

/// What a repository has to restore one cluster from.
pub struct Kept<'a> {
    /// The repository.
    pub repository: &'a Repository,
    /// Whose signatures count.
    pub trusted: &'a [KeyId],
    /// All points.
    pub points: Points,
    /// The log.
    pub log: Log,
    /// How far whoever ships it was before it was listed: in the repository that is said only every few seconds.
    pub live: Option<Shipped>,
}

impl<'a> Kept<'a> {
    /// Reads what there is; nothing of the data.
    ///
    /// # Errors
    /// Where there is no point, or the repository cannot be listed.
    pub fn read(repository: &'a Repository, trusted: &'a [KeyId]) -> Result<Self, RestoringError> {
        let points = Points::<Point>::read(repository, trusted)?;
        let newest = points.points.values().next_back().ok_or(RestoringError::Nothing)?;
        let log = Log::read(repository, newest.segment_size)?;
        Ok(Self { repository, trusted, points, log, live: None })
    }

    /// Until when every acknowledged commit is in the repository, on the newest timeline.
    #[must_use]
    pub fn covered(&self) -> Option<Timestamp> {
        let timeline = self.log.newest_timeline()?;
        let tide = self.log.timelines.get(&timeline)?.tide;
        tide.map(|tide| tide.covered).max(self.live.and_then(|live| live.covered))
    }

    /// What is missing of the log: between what is there, and at its end.
    #[must_use]
    pub fn gaps(&self) -> Vec<WalError> {
        let mut gaps = self.log.gaps();
        if let Some(live) = self.live {
            let end = self.log.end(live.timeline).unwrap_or_default();
            // Which the repository may say itself.
            if gaps.is_empty() && end < live.lsn {
                gaps.push(WalError::Gap { timeline: live.timeline, from: end, to: live.lsn });
            }
        }
        gaps
    }

    /// Plans a restore: `from` says which point to begin with, otherwise the newest that can serve.
    ///
    /// # Errors
    /// What was asked for is not there, and what is.
    pub fn plan(&self, until: Until, from: Option<&PointId>) -> Result<Plan, RestoringError> {
        let timeline = self.log.newest_timeline().ok_or(RestoringError::Nothing)?;
        let tide = self.log.timelines.get(&timeline).and_then(|there| there.tide);
        let end = self.log.end(timeline).ok_or(RestoringError::Nothing)?;
        // What is known to have been there and is not is a gap, not the end.
        let live = self.live.filter(|live| live.timeline == timeline);
        let end = end.max(tide.map_or(end, |tide| tide.lsn)).max(live.map_or(end, |live| live.lsn));
        let covered = self.covered();
        let serves = |point: &Point| match &until {
            Until::Time(time) => point.stopped <= *time,
            Until::Lsn(lsn) => point.stop <= *lsn,
            Until::Name(name) => {
                // The place of a name that klar has given is known; any other lies anywhere before the end.
                let ours = self.points.points.values().filter_map(|point| point.witness.as_ref());
                let place = ours.filter(|witness| witness.name == *name).map(|witness| witness.lsn).next();
                place.is_none_or(|place| point.stop <= place)
            }
            Until::End | Until::Before(_) => true,
        };
        let point = match from {
            Some(id) => self.points.points.get(id).ok_or_else(|| RestoringError::Unknown(id.clone()))?,
            None => {
                let of_lineage = |point: &&Point| {
                    self.log
                        .lineage(timeline)
                        .iter()
                        .any(|(one, end)| *one == point.timeline && end.is_none_or(|end| point.stop <= end))
                };
                let mut candidates = self.points.points.values().rev().filter(of_lineage);
                let earliest =
                    self.points.points.values().map(|point| point.stopped).min().unwrap_or_default();
                candidates
                    .find(|point| serves(point))
                    .ok_or(RestoringError::TooEarly { asked: asked(&until), earliest })?
            }
        };
        if let (Until::Time(time), Some(latest)) = (&until, covered)
            && *time > latest
        {
            return Err(RestoringError::TooLate { asked: asked(&until), latest });
        }
        if let Until::Time(asked) = until {
            let lineage = self.log.lineage(timeline);
            let turned = lineage
                .iter()
                .filter_map(|(one, _)| self.log.timelines.get(one))
                .flat_map(|there| &there.turned);
            let mut behind = turned.filter(|turned| turned.to > point.stop);
            if let Some(back) = behind.find_map(|turned| turned.twice(asked)) {
                return Err(RestoringError::Twice { asked, back });
            }
        }
        let to = match &until {
            Until::Lsn(lsn) => *lsn,
            Until::Time(time) => self.enough_for(point, timeline, *time, end),
            _ => end,
        };
        self.log.asserted(point.timeline, point.start, timeline, to.max(point.stop))?;
        let log_bytes = (to - point.start).next_multiple_of(self.log.size.bytes());
        Ok(Plan {
            point: point.clone(),
            until,
            timeline,
            to: to.max(point.stop),
            covered,
            bytes: point.bytes + log_bytes,
        })
    }

    /// How much of the log a time needs: up to the first batch that is known to reach beyond it, else all.
    fn enough_for(&self, point: &Point, timeline: Timeline, time: Timestamp, end: Lsn) -> Lsn {
        let Some(there) = self.log.timelines.get(&timeline) else { return end };
        // Until when a batch reaches was written down by a clock that was ahead: it says nothing.
        let misled = there.turned.iter().filter(|turned| turned.before > time).map(|turned| turned.to).max();
        for name in there.batches.iter().filter(|batch| batch.timeline == timeline) {
            let (from, to) = crate::wal::batch::bounds(name, self.log.size);
            let covered = name.read(self.repository, self.trusted).ok().and_then(|batch| batch.covered);
            let counts = to > point.stop && misled.is_none_or(|misled| from >= misled);
            // A commit takes its time a little before its place in the log.
            if counts && covered.is_some_and(|covered| covered > time + commits::SLACK) {
                return to.min(end);
            }
        }
        end
    }

    /// Puts files and log of a plan into two folders that are empty or not there yet.
    ///
    /// # Errors
    /// The first thing that is not as it was published. What is there by then must not be used.
    pub fn bring_back(
        &self,
        plan: &Plan,
        programs: &Programs,
        data: &Path,
        log: &Path,
    ) -> Result<Back, RestoringError> {
        let parent = data.parent().unwrap_or(Path::new("/"));
        let file_error = |path: &Path| {
            let path = path.to_owned();
            move |source| RestoringError::File { path, source }
        };
        fs::create_dir_all(parent).map_err(file_error(parent))?;
        enough_space(parent, plan.bytes)?;
        let restored = self.files(&plan.point, data)?;
        let laid = self.lay(plan, log)?;
        own(programs, parent)?;
        Ok(Back { restored, laid: laid.segments })
    }

    /// The files of a point alone.
    ///
    /// # Errors
    /// As [`Kept::bring_back`].
    pub fn files(&self, point: &Point, data: &Path) -> Result<Restored, RestoringError> {
        let snapshot = self.repository.snapshot(point.snapshot)?;
        if snapshot.tree != point.tree {
            return Err(RestoringError::OtherFiles { point: point.id.clone() });
        }
        let restored = self.repository.reader()?.restore(&snapshot, data)?;
        own_folders(data)?;
        match restored.files == point.files && restored.bytes == point.bytes {
            true => Ok(restored),
            false => Err(RestoringError::OtherFiles { point: point.id.clone() }),
        }
    }

    /// The log of a plan alone.
    ///
    /// # Errors
    /// As [`Kept::bring_back`].
    pub fn lay(&self, plan: &Plan, log: &Path) -> Result<Laid, RestoringError> {
        let wanted = Wanted {
            system: plan.point.system,
            begun: plan.point.timeline,
            from: plan.point.start,
            timeline: plan.timeline,
            to: plan.to,
        };
        let laid = lay::lay(self.repository, &self.log, &wanted, self.trusted, log)?;
        if let Until::Time(asked) = plan.until {
            let lineage: Vec<Timeline> =
                self.log.lineage(plan.timeline).iter().map(|(one, _)| *one).collect();
            if let Some(back) = commits::twice(log, &lineage, self.log.size, plan.point.start, asked)? {
                return Err(RestoringError::Twice { asked, back });
            }
        }
        Ok(laid)
    }
}

/// A base that was taken by an earlier version may have a link where the original has its log on a disk of its own: a server
/// on the copy would write into the original's log.
fn own_folders(data: &Path) -> Result<(), RestoringError> {
    for path in EMPTIED.map(|name| data.join(name)) {
        if fs::symlink_metadata(&path).is_ok_and(|metadata| metadata.is_symlink()) {
            let made = fs::remove_file(&path).and_then(|()| fs::create_dir(&path));
            let own = made.and_then(|()| fs::set_permissions(&path, fs::Permissions::from_mode(0o700)));
            own.map_err(|source| RestoringError::File { path, source })?;
        }
    }
    Ok(())
}

/// Starts a server on what was brought back, replayed as far as the plan says.
///
/// # Errors
/// The server, with what it said.
pub fn start(
    plan: &Plan,
    programs: &Programs,
    data: &Path,
    log: &Path,
    home: &Path,
    then: Then,
    durable: bool,
) -> Result<Scratch, RestoringError> {
    let recovery = Recovery {
        log,
        until: plan.until.clone(),
        then,
        timeline: plan.timeline,
        needs: &plan.point.needs,
        durable,
        patience: Duration::from_secs(3600),
    };
    match Scratch::start(programs, data, home, &recovery) {
        // No commit comes after the time that was asked for. The log is known to hold every commit until then, so
        // all of it is what was asked for.
        Err(ScratchError::Short) if matches!(plan.until, Until::Time(_)) => {
            Ok(Scratch::start(programs, data, home, &Recovery { until: Until::End, ..recovery })?)
        }
        started => Ok(started?),
    }
}

fn asked(until: &Until) -> String {
    match until {
        Until::End => "the end".into(),
        Until::Time(time) => time.to_string(),
        Until::Lsn(lsn) => lsn.to_string(),
        Until::Name(name) => format!("`{name}`"),
        Until::Before(xid) => format!("transaction {xid}"),
    }
}

/// Refuses what would fill a disk.
///
/// # Errors
/// [`RestoringError::Space`].
pub fn enough_space(folder: &Path, bytes: u64) -> Result<(), RestoringError> {
    let file_error = |source| RestoringError::File { path: folder.to_owned(), source };
    let stat = nix::sys::statvfs::statvfs(folder).map_err(|error| file_error(error.into()))?;
    let free = stat.blocks_available().saturating_mul(stat.fragment_size());
    let needed = bytes + bytes / 10;
    match free >= needed {
        true => Ok(()),
        false => Err(RestoringError::Space { folder: folder.to_owned(), free, needed }),
    }
}

/// Gives all beneath a folder to the user that servers run as, which matters to root alone.
pub(crate) fn own(programs: &Programs, folder: &Path) -> Result<(), RestoringError> {
    if programs.server.is_none() || !geteuid().is_root() {
        return Ok(());
    }
    let mut left = vec![folder.to_owned()];
    while let Some(path) = left.pop() {
        let failed = |source| RestoringError::File { path: path.clone(), source };
        programs.give(&path).map_err(failed)?;
        if fs::symlink_metadata(&path).map_err(failed)?.is_dir() {
            for entry in fs::read_dir(&path).map_err(failed)? {
                left.push(entry.map_err(failed)?.path());
            }
        }
    }
    Ok(())
}
