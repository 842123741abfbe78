//! A base: all files of a running server, read between `pg_backup_start` and `pg_backup_stop` into one snapshot.
//!
//! The files change while they are read, and that is fine: every page that was changed meanwhile is in the log whole
//! (`full_page_writes`), and the log from the start to the stop of the backup makes one state of them. So a base is worth
//! nothing without its log, and is not published before that is in the repository too.
//!
//! Source: PostgreSQL 15, "Making a Base Backup Using the Low Level API", and `src/backend/backup/basebackup.c` for what
//! is left out.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;
use klar_base::Hint;
use klar_repo::{Backup, BackupError, BackupOptions, Metadata, Pieces, Repository, Stored};

use crate::lsn::Lsn;
use crate::point::PointId;
use crate::server::{Facts, Lack, ReadySlot, Session, SessionError};

/// A checkpoint is waited for so long.
const CHECKPOINT: Duration = Duration::from_secs(600);
/// Changed pages are 8 KiB; four of them together cost little more and keep the index small.
const PIECE: u32 = 32 << 10;
/// Read last: it says where replay begins.
const CONTROL: &str = "global/pg_control";

/// Folders whose content a server makes anew when it starts; pg_wal comes from the shipped log.
pub(crate) const EMPTIED: [&str; 8] = [
    "pg_dynshmem",
    "pg_notify",
    "pg_replslot",
    "pg_serial",
    "pg_snapshots",
    "pg_stat_tmp",
    "pg_subtrans",
    "pg_wal",
];
/// Files that belong to the running server alone.
const LEFT_OUT: [&str; 9] = [
    "backup_label",
    "backup_label.old",
    "backup_manifest",
    "current_logfiles",
    "postmaster.opts",
    "postmaster.pid",
    "recovery.signal",
    "standby.signal",
    "tablespace_map",
];

/// A base that is in the repository; its log may not be there yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Base {
    /// What the repository says of it.
    pub stored: Stored,
    /// Replay begins here.
    pub start: Lsn,
    /// Before this place is replayed the files make no sense.
    pub stop: Lsn,
    /// By the server's clock.
    pub begun: Timestamp,
    /// By the server's clock: the earliest time that can be restored with it.
    pub stopped: Timestamp,
}

impl Base {
    /// The name of the point that it becomes.
    #[must_use]
    pub fn id(&self) -> PointId {
        PointId::new(self.begun, self.stored.snapshot)
    }
}

/// No base was taken.
#[derive(Debug, thiserror::Error)]
pub enum BaseError {
    /// The server.
    #[error(transparent)]
    Session(#[from] SessionError),
    /// It is set up so that nothing could be restored.
    #[error("{}", .0.what)]
    Lack(Lack),
    /// The slot came after the base.
    #[error(
        "the slot keeps the log from {slot} on, and the base begins before, at {start}: it could not be restored"
    )]
    Slot {
        /// From where on.
        slot: Lsn,
        /// Where the base begins.
        start: Lsn,
    },
    /// A file of the server.
    #[error("{}: {source}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// As the system says it.
        source: io::Error,
    },
    /// What is behind it would be shared by the server and every copy of it.
    #[error("{} is a link to a folder: a copy would write into the same one", .0.display())]
    Link(PathBuf),
    /// It changes each time it is read.
    #[error("{} was never twice the same in a second", .0.display())]
    Torn(PathBuf),
    /// The repository.
    #[error(transparent)]
    Backup(#[from] BackupError),
}

impl Hint for BaseError {
    fn hint(&self) -> Option<String> {
        match self {
            Self::Lack(lack) => Some(lack.hint.clone()),
            Self::Link(_) => Some("move the folder into the data folder, or mount its disk there".to_owned()),
            Self::File { source, .. } if source.kind() == io::ErrorKind::PermissionDenied => Some(
                "the backup's user has to be in the group of the server's user, and the folder readable for \
                      the group (`chmod -R g+rX`)"
                    .to_owned(),
            ),
            _ => None,
        }
    }
}

/// Takes a base of the server whose files are in `data`. `progress` hears the bytes that were read so far.
///
/// # Errors
/// The first thing that is wrong: then there is no snapshot.
pub fn take(
    session: &Session,
    slot: &ReadySlot,
    facts: &Facts,
    data: &Path,
    repository: &Repository,
    host: &str,
    progress: &mut dyn FnMut(u64),
) -> Result<Base, BaseError> {
    if let Some(lack) = facts.lacks().into_iter().find(|lack| lack.is_fatal) {
        return Err(BaseError::Lack(lack));
    }
    // Of now: what the facts say was so when the log began to be streamed, which may be weeks ago.
    let time = session.row("select (extract(epoch from clock_timestamp()) * 1000000)::bigint", "time")?;
    let mut backup = repository.backup(BackupOptions {
        host: host.to_owned(),
        path: "/postgres".to_owned(),
        tags: vec!["klar".into(), "base".into()],
        pieces: Pieces::Even(PIECE),
        time: session.time(&time, 0)?,
    })?;
    // The session ends the server's backup mode when it is dropped, whatever happens.
    let begin =
        "select pg_backup_start('klar', true), (extract(epoch from clock_timestamp()) * 1000000)::bigint";
    let (start, begun) = place_and_time(session, begin, CHECKPOINT)?;
    if slot.since() > start {
        return Err(BaseError::Slot { slot: slot.since(), start });
    }
    let mut reading = Reading { data, backup: &mut backup, bytes: 0, progress };
    reading.folder(Path::new(""))?;
    reading.control()?;
    let end = "select lsn, (extract(epoch from clock_timestamp()) * 1000000)::bigint, labelfile, spcmapfile
        from pg_backup_stop(false)";
    let rows = session.rows(end, CHECKPOINT)?;
    let row = rows.first().ok_or_else(|| session.answer("end of the backup"))?;
    let stop = session.column(row, 0, "end of the backup")?;
    let stopped = session.time(row, 1)?;
    let label = row.get(2).unwrap_or_default();
    let metadata = Metadata { mode: 0o600, uid: 0, gid: 0, mtime: stopped };
    backup.file(Path::new("backup_label"), &metadata, &mut label.as_bytes())?;
    Ok(Base { stored: backup.finish()?, start, stop, begun, stopped })
}

fn place_and_time(
    session: &Session,
    sql: &str,
    patience: Duration,
) -> Result<(Lsn, Timestamp), SessionError> {
    let rows = session.rows(sql, patience)?;
    let row = rows.first().ok_or_else(|| session.answer("place in the log"))?;
    Ok((session.column(row, 0, "place in the log")?, session.time(row, 1)?))
}

struct Reading<'a> {
    data: &'a Path,
    backup: &'a mut Backup,
    bytes: u64,
    progress: &'a mut dyn FnMut(u64),
}

impl Reading<'_> {
    /// A folder and all beneath it. What vanishes meanwhile was dropped by the server; its log says so.
    fn folder(&mut self, at: &Path) -> Result<(), BaseError> {
        let path = self.data.join(at);
        let Some(entries) = there(&path, fs::read_dir(&path))? else { return Ok(()) };
        if at != Path::new("") {
            let Some(metadata) = there(&path, fs::symlink_metadata(&path))? else { return Ok(()) };
            self.backup.folder(at, &Metadata::from(&metadata))?;
        }
        if EMPTIED.iter().any(|emptied| at == Path::new(emptied)) {
            return Ok(());
        }
        let mut names = Vec::new();
        for entry in entries {
            let entry = entry.map_err(|source| BaseError::File { path: path.clone(), source })?;
            names.push(entry.file_name());
        }
        names.sort_unstable();
        for name in names {
            let (at, name) = (at.join(&name), name.to_string_lossy().into_owned());
            if is_left_out(&at, &name) {
                continue;
            }
            let path = self.data.join(&at);
            let Some(metadata) = there(&path, fs::symlink_metadata(&path))? else { continue };
            if metadata.is_dir() {
                self.folder(&at)?;
            } else if metadata.is_file() {
                self.file(&at)?;
            } else if metadata.is_symlink() && path.is_dir() {
                // Such as `pg_wal` on a disk of its own: what a copy gets there is its own.
                if !EMPTIED.iter().any(|emptied| at == Path::new(emptied)) {
                    return Err(BaseError::Link(path));
                }
                let Some(behind) = there(&path, fs::metadata(&path))? else { continue };
                self.backup.folder(&at, &Metadata::from(&behind))?;
            } else if metadata.is_symlink() {
                let Some(target) = there(&path, fs::read_link(&path))? else { continue };
                self.backup.symlink(&at, &Metadata::from(&metadata), &target)?;
            }
        }
        Ok(())
    }

    fn file(&mut self, at: &Path) -> Result<(), BaseError> {
        let path = self.data.join(at);
        let open = File::options().read(true).custom_flags(nix::libc::O_NOFOLLOW).open(&path);
        let Some(file) = there(&path, open)? else { return Ok(()) };
        let metadata = file.metadata().map_err(|source| BaseError::File { path, source })?;
        // What it grows by meanwhile is in the log.
        let read = self.backup.file(at, &Metadata::from(&metadata), &mut file.take(metadata.len()))?;
        self.bytes += read;
        (self.progress)(self.bytes);
        Ok(())
    }

    /// The server writes it in one go, but not for whoever reads it at that moment: it is taken when two readings agree.
    fn control(&mut self) -> Result<(), BaseError> {
        let path = self.data.join(CONTROL);
        let file_error = |source| BaseError::File { path: path.clone(), source };
        let mut before = fs::read(&path).map_err(file_error)?;
        for _ in 0..100 {
            std::thread::sleep(Duration::from_millis(10));
            let now = fs::read(&path).map_err(file_error)?;
            if now == before {
                let metadata = fs::symlink_metadata(&path).map_err(file_error)?;
                self.backup.file(Path::new(CONTROL), &Metadata::from(&metadata), &mut &*now)?;
                return Ok(());
            }
            before = now;
        }
        Err(BaseError::Torn(path))
    }
}

/// `None` for what is no longer there.
fn there<T>(path: &Path, found: io::Result<T>) -> Result<Option<T>, BaseError> {
    match found {
        Ok(found) => Ok(Some(found)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(BaseError::File { path: path.to_owned(), source }),
    }
}

fn is_left_out(at: &Path, name: &str) -> bool {
    let is_in_root = at.components().count() == 1;
    at == Path::new(CONTROL)
        || (is_in_root && LEFT_OUT.contains(&name))
        || name.starts_with("pgsql_tmp")
        || name.starts_with("pg_internal.init")
        || is_temporary(name)
}

/// A table that lives as long as its session: `t3_16384`, with `_fsm`, `_vm` or `.1` behind it.
fn is_temporary(name: &str) -> bool {
    let Some((backend, relation)) = name.strip_prefix('t').and_then(|rest| rest.split_once('_')) else {
        return false;
    };
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let relation = relation.split(['_', '.']).next().unwrap_or_default();
    digits(backend) && digits(relation)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_out() {
        for (path, expected) in [
            ("postmaster.pid", true),
            ("base/5/postmaster.pid", false),
            ("global/pg_control", true),
            ("base/5/pg_internal.init.123", true),
            ("base/pgsql_tmp", true),
            ("base/5/t3_16384", true),
            ("base/5/t3_16384_fsm", true),
            ("base/5/t3_16384.1", true),
            ("base/5/t3", false),
            ("base/5/table_1", false),
            ("base/5/16384", false),
            ("backup_label", true),
            ("postgresql.conf", false),
        ] {
            let at = Path::new(path);
            let name = at.file_name().unwrap().to_str().unwrap();
            assert_eq!(is_left_out(at, name), expected, "{path}");
        }
    }
}
