//! Some days in a few seconds: files are kept, points become old and go, all as it is done with the app's own, but for the clock
//! and in a repository that is thrown away.

use std::fs;
use std::os::unix::net::UnixStream;
use std::path::Path;

use jiff::{SignedDuration, Timestamp};
use klar_base::ServiceName;
use klar_base::keep::Rehearsed;
use klar_repo::CheckData;

use super::{FilesPoint, Inner, Settings, Source, Wishes, reader, restored};
use crate::keeper::KeepError;
use crate::point::Points;
use crate::retain::{self, Rhythm};

/// So many bytes change each day: no other day has them.
const DAILY: usize = 200_000;

/// Keeps `keep` daily points for two days longer, and sees what is left.
///
/// # Errors
/// The disk; a name that cannot be.
pub fn rehearse(keep: u32, folder: &Path) -> Result<Rehearsed, KeepError> {
    let failed = |source| KeepError::File { path: folder.to_owned(), source };
    let _ = fs::remove_dir_all(folder);
    let app = folder.join("app");
    fs::create_dir_all(&app).map_err(failed)?;
    let rehearsed = all(keep, folder, &app);
    fs::remove_dir_all(folder).map_err(failed)?;
    rehearsed
}

fn all(keep: u32, folder: &Path, app: &Path) -> Result<Rehearsed, KeepError> {
    let failed = |source| KeepError::File { path: folder.to_owned(), source };
    let reads = app.to_owned();
    let hand = move || {
        let (here, there) = UnixStream::pair()?;
        let app = reads.clone();
        std::thread::Builder::new()
            .name("rehearsal".into())
            .spawn(move || drop(reader::read(&app, there)))?;
        Ok(here)
    };
    let lack = |what: String| KeepError::Lack { what, hint: "tell the makers of klar".into() };
    let settings = Settings {
        name: ServiceName::new("rehearsal").map_err(|error| lack(error.to_string()))?,
        home: folder.join("keep"),
        host: "rehearsal".into(),
        second_name: "rehearsal".into(),
    };
    let wishes = Wishes { at: (2, 0), days: keep, second: None };
    let inner = Inner::open(settings, wishes, Source::Folders(Box::new(hand)), Box::new(|_| {}))?;
    let first = Timestamp::now();
    let day = |number: u32| first + SignedDuration::from_hours(24 * i64::from(number));
    let days = keep + 2;
    let retain = |number| {
        let (stays, rhythm) = (keep.saturating_sub(1), Rhythm::Daily);
        let now = day(number);
        retain::retain_files::<FilesPoint>(&inner.repository, &inner.trusted, stays, rhythm, now)
    };
    for number in 0..days {
        let content: Vec<u8> = std::iter::repeat_with(|| fastrand::u8(..)).take(DAILY).collect();
        fs::write(app.join("of the day"), content).map_err(failed)?;
        let id = inner.take(Some(day(number)), &mut |_, _, _| {})?;
        inner.drill(Some(&id), None, false)?;
        retain(number)?;
    }
    let points = Points::<FilesPoint>::read(&inner.repository, &inner.trusted)?;
    let kept = points.points.len();
    let oldest = points.points.values().next();
    let oldest =
        oldest.is_some_and(|point| restored(&inner.repository, point, &folder.join("oldest")).is_ok());
    // Packs go a day after nobody needs them.
    retain(days)?;
    retain(days + 1)?;
    let bytes = inner.repository.check(CheckData::All, &mut |_| {}).read;
    let pruned = bytes < (kept as u64 + 1) * DAILY as u64;
    Ok(Rehearsed { days, keep, kept: u32::try_from(kept).unwrap_or(u32::MAX), oldest, pruned })
}
