//! A warm base: the files of the newest proven point, ready for the next clone, which has then only the log to replay.
//!
//! It is a cache: on a file system that can share blocks a clone is made from it and it stays, on others the clone takes
//! it and another one is made. It is there only where space is plenty, and never where something is put in place of the
//! original: that is read from the repository and compared.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::{Inner, KeepError, Keeper};
use crate::point::{Point, PointId, Points};
use crate::restore;

/// After a clone has taken it, so that it has the processors to itself while it starts.
const PAUSE: Duration = Duration::from_secs(20);
/// There is none where it would take more than this part of what is free.
const FREE_PART: u64 = 4;

/// Of which point it is, or was tried to be.
#[derive(Default)]
pub(super) struct Warm(Mutex<Option<(PointId, Ready)>>);

#[derive(Clone, Copy, PartialEq)]
enum Ready {
    Yes,
    /// A clone has taken it: the next one is made when that one is up.
    Taken(Instant),
    /// It is being made, could not be made, or there is too little space.
    No,
}

impl Warm {
    fn state(&self) -> MutexGuard<'_, Option<(PointId, Ready)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Keeper {
    /// Puts the files of a point into a folder that is not there yet, if they lie ready.
    pub(crate) fn take_warm(&self, point: &PointId, data: &Path) -> bool {
        let folder = self.inner.warm_folder();
        let mut warm = self.inner.warm.state();
        if warm.as_ref().is_none_or(|(of, ready)| of != point || *ready != Ready::Yes) {
            return false;
        }
        // One file first: where blocks cannot be shared, `cp` finds out for each of a thousand.
        let share = |from: &Path, to: &Path| {
            let mut copy = Command::new("cp");
            copy.args(["--archive", "--reflink=always", "--no-target-directory", "--"]).arg(from).arg(to);
            let copied = copy.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status();
            copied.is_ok_and(|status| status.success())
        };
        let trial = data.with_extension("trial");
        let can_share = share(&folder.join("PG_VERSION"), &trial);
        let _ = fs::remove_file(trial);
        if can_share && share(&folder, data) {
            return true;
        }
        *warm = Some((point.clone(), Ready::Taken(Instant::now())));
        // What a copy that failed has left.
        let _ = fs::remove_dir_all(data);
        fs::rename(&folder, data).is_ok()
    }
}

impl Inner {
    fn warm_folder(&self) -> PathBuf {
        self.settings.home.join("work/warm")
    }

    /// Sees to it that the newest proven point lies ready; `None` where nothing was to be done.
    pub(super) fn keep_warm(&self) -> Option<Result<(), KeepError>> {
        let wanted = self.shared().known.proven_point.clone()?;
        let state = self.warm.state().as_ref().map(|(of, ready)| (*of == wanted, *ready));
        match state {
            Some((_, Ready::Taken(at))) if at.elapsed() < PAUSE => return None,
            Some((true, Ready::Yes | Ready::No)) => return None,
            _ => {}
        }
        let _alone = self.alone();
        *self.warm.state() = Some((wanted.clone(), Ready::No));
        Some(self.warm_up(wanted))
    }

    fn warm_up(&self, wanted: PointId) -> Result<(), KeepError> {
        let folder = self.warm_folder();
        match fs::remove_dir_all(&folder) {
            Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
                return Err(KeepError::File { path: folder, source });
            }
            _ => {}
        }
        let points = Points::<Point>::read(&self.repository, &self.trusted)?;
        let Some(point) = points.points.get(&wanted) else { return Ok(()) };
        if restore::enough_space(&self.settings.home, point.bytes.saturating_mul(FREE_PART)).is_err() {
            return Ok(());
        }
        self.kept(&self.repository)?.files(point, &folder)?;
        restore::own(&self.settings.source.programs, &folder)?;
        *self.warm.state() = Some((wanted, Ready::Yes));
        Ok(())
    }
}
