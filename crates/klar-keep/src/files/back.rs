//! A point, put into an empty folder and compared with what was read: the files by their digest, a Redis by what a server says
//! that has loaded it.

use std::fs;
use std::path::Path;
use std::time::Instant;

use jiff::Timestamp;
use klar_base::keep::Moment;
use klar_repo::Repository;

use super::{FilesPoint, Inner, Summary, walk};
use crate::dump::{self, DumpError, Dumped, Globals};
use crate::keeper::KeepError;
use crate::point::{Outcome, Points, Proof, Step, StepKind};
use crate::restore::{RestoringError, enough_space};

/// The point that a moment is restored from: the newest that was begun before it.
pub(super) fn of<'p>(points: &'p Points<FilesPoint>, moment: &Moment) -> Result<&'p FilesPoint, KeepError> {
    let earliest = points.points.values().next().ok_or(RestoringError::Nothing)?;
    let found = match moment {
        Moment::Latest => points.points.values().next_back(),
        Moment::Point(id) => points.points.values().find(|point| point.id.to_string() == *id),
        Moment::Time(time) => {
            let before = points.points.values().rev().find(|point| point.stopped.as_microsecond() <= *time);
            Some(before.ok_or_else(|| RestoringError::TooEarly {
                asked:
                    Timestamp::from_microsecond(*time).map_or_else(|_| time.to_string(), |at| at.to_string()),
                earliest: earliest.stopped,
            })?)
        }
        Moment::Lsn(_) | Moment::Name(_) | Moment::Before(_) => None,
    };
    found.ok_or_else(|| KeepError::Lack {
        what: "files have no such moment".into(),
        hint: "ask for `latest`, a time or a point; `klar backup list` shows all points".into(),
    })
}

pub(super) fn restored(repository: &Repository, point: &FilesPoint, folder: &Path) -> Result<u64, KeepError> {
    let snapshot = repository.snapshot(point.snapshot).map_err(RestoringError::from)?;
    if snapshot.tree != point.tree {
        return Err(RestoringError::OtherFiles { point: point.id.clone() }.into());
    }
    let reader = repository.reader().map_err(RestoringError::from)?;
    Ok(reader.restore(&snapshot, folder).map_err(RestoringError::from)?.files)
}

impl Inner {
    /// Puts a point into an empty folder and compares it with what was read.
    pub(super) fn compared(
        &self,
        repository: &Repository,
        point: &FilesPoint,
        folder: &Path,
        proof: &mut Proof,
    ) {
        let mut step = |what, begun: Instant, done: Result<String, String>| {
            let ms = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
            let (outcome, evidence) = match done {
                Ok(evidence) => (Outcome::Good, evidence),
                Err(evidence) => (Outcome::Bad, evidence),
            };
            proof.steps.push(Step { what, outcome, evidence, ms });
            (outcome == Outcome::Good).then_some(ms)
        };
        let read = &point.read;
        let begun = Instant::now();
        let back =
            fs::create_dir_all(folder).map_err(|source| KeepError::File { path: folder.to_owned(), source });
        let back = back.and_then(|()| Ok(enough_space(folder, read.bytes)?));
        let back = back.and_then(|()| restored(repository, point, folder));
        let told = back
            .map(|files| format!("{files} files, {} bytes", read.bytes))
            .map_err(|error| error.to_string());
        let Some(mut rto_ms) = step(StepKind::Files, begun, told) else { return };
        let begun = Instant::now();
        let same = walk::digest(folder).map_err(|error| error.to_string()).and_then(|(digest, files, bytes)| {
            match (digest == read.digest, files == read.files && bytes == read.bytes) {
                (true, true) => Ok(format!("{files} files, {bytes} bytes, are what was read at {}", point.begun)),
                _ => Err(format!(
                    "{files} files, {bytes} bytes, with other content than the {} files, {} bytes that were read",
                    read.files, read.bytes
                )),
            }
        });
        step(StepKind::Contents, begun, same);
        if read.databases > 0 || !read.broken.is_empty() {
            let Summary { databases, tables, rows, broken, .. } = read;
            let whole = match broken.first() {
                Some(first) => Err(format!("SQLite: {first}")),
                None => {
                    Ok(format!("{databases} SQLite databases are whole: {tables} tables with {rows} rows"))
                }
            };
            step(StepKind::Structure, Instant::now(), whole);
        }
        if let (Some(was), Some(redis)) = (&read.redis, self.redis()) {
            let begun = Instant::now();
            let served = redis.serve(folder, &|| self.is_over());
            let told = served.as_ref().map(|_| format!("a server loaded {} bytes", read.bytes));
            let told = told.map_err(ToString::to_string);
            let (Some(ms), Ok(server)) = (step(StepKind::Replay, begun, told), served) else { return };
            // There by now: what follows is looking.
            rto_ms += ms;
            let (begun, was) = (Instant::now(), &was.loaded);
            let now = server.loaded(&|| self.is_over());
            let same = now.map_err(|error| error.to_string()).and_then(|now| match now == *was {
                true => Ok(format!(
                    "{} keys in {} databases are what they were: digest {:.12}",
                    was.count(),
                    was.keys.len(),
                    was.digest
                )),
                false => Err(format!(
                    "{} keys, digest {:.12}, and not the {} keys, digest {:.12}, that were read",
                    now.count(),
                    now.digest,
                    was.count(),
                    was.digest
                )),
            });
            step(StepKind::Tables, begun, same);
        }
        if let (Some(was), Some(dump)) = (&read.dump, self.dump()) {
            let Some(ms) = self.loaded(dump, was, folder, proof) else { return };
            rto_ms += ms;
        }
        proof.rto_ms = Some(rto_ms);
    }

    /// Loads a dump into a server of its own, and compares its tables. Gives how long it took until the server had all of it.
    fn loaded(&self, dump: &dump::Source, was: &Dumped, folder: &Path, proof: &mut Proof) -> Option<u64> {
        let mut step = |what, outcome, evidence, begun: Instant| {
            let ms = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
            proof.steps.push(Step { what, outcome, evidence, ms });
            ms
        };
        let begun = Instant::now();
        let place = folder.with_extension("server");
        // What a kill has left behind.
        let _ = fs::remove_dir_all(&place);
        let served = dump.load(was, folder, &place, &|| self.is_over());
        let loaded = match served {
            Ok(loaded) => loaded,
            Err(error) => {
                let (outcome, what) = match &error {
                    DumpError::NotHere { hint, .. } => (Outcome::Skipped, format!("{error}: {hint}")),
                    // A copy takes its space as well.
                    DumpError::Space(_) | DumpError::Over => (Outcome::Skipped, error.to_string()),
                    _ => (Outcome::Bad, error.to_string()),
                };
                step(StepKind::Replay, outcome, what, begun);
                let _ = fs::remove_dir_all(&place);
                return None;
            }
        };
        let roles = match was.globals {
            Globals::All => "with all roles",
            Globals::WithoutPasswords => "with all roles, but without their passwords, which may not be read",
            Globals::Nothing => "without roles, which may not be read",
        };
        let names: Vec<&str> = was.databases.iter().map(|database| &*database.name).collect();
        let mut told = format!("a server loaded {}, {roles}", names.join(", "));
        for note in &loaded.notes {
            told.push_str("; ");
            told.push_str(note);
        }
        let ms = step(StepKind::Replay, Outcome::Good, told, begun);
        let begun = Instant::now();
        let (outcome, told) = match loaded.compare(was, &|| self.is_over()) {
            Ok(Ok(same)) => (Outcome::Good, same),
            Ok(Err(differs)) => (Outcome::Bad, differs),
            Err(error) => (Outcome::Bad, error.to_string()),
        };
        step(StepKind::Tables, outcome, told, begun);
        drop(loaded);
        let _ = fs::remove_dir_all(&place);
        Some(ms)
    }
}
