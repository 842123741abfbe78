//! Reads an app's folders, as the app's own user, and writes all of it into a socket: a tar archive, whose last entry says what
//! was read. A SQLite database is copied by SQLite first, so that it is whole although it is written to.

use std::fs::{self, File, Metadata};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::backup::{Backup, StepResult};
use rusqlite::{Connection, OpenFlags};
use serde::{Deserialize, Serialize};

use super::walk::{Digest, Summed, shown, walk};
use crate::dump::Dumped;
use crate::redis::Snapshot;

/// The last entry of the archive; all others begin with [`FILES`].
pub const SUMMARY: &str = "summary.json";
/// In front of each path.
pub const FILES: &str = "files";
/// So many names are told of what was not as usual.
const TOLD_MAX: usize = 100;
/// The first bytes of a SQLite database (sqlite.org/fileformat.html).
const MAGIC: &[u8; 16] = b"SQLite format 3\0";
/// Beside it: its log, its index of that, its journal.
const BESIDE: [&str; 3] = ["-wal", "-shm", "-journal"];
/// A writer may hold a database for so long.
const BUSY: Duration = Duration::from_secs(30);

/// What was read.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Summary {
    /// Files.
    pub files: u64,
    /// Bytes of them.
    pub bytes: u64,
    /// Over all of them, as they were read.
    pub digest: String,
    /// SQLite databases among them.
    pub databases: u64,
    /// Tables of these, and their rows.
    pub tables: u64,
    /// As above.
    pub rows: u64,
    /// Databases that SQLite does not find whole, and what it says.
    pub broken: Vec<String>,
    /// Files that changed while they were read.
    pub changed: Vec<String>,
    /// What is no file, folder or link, or cannot be read, and why.
    pub skipped: Vec<String>,
    /// Where it is a snapshot of a Redis: what a server that has loaded it says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub redis: Option<Snapshot>,
    /// Where they are dumps of databases: what is in these.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dump: Option<Dumped>,
}

/// What is known of a folder that klar has written itself.
pub(crate) enum Known {
    /// It is an app's.
    Nothing,
    /// It has a snapshot of a Redis.
    Redis(Snapshot),
    /// It has dumps of databases.
    Dump(Dumped),
}

/// Reads all beneath a folder into `out`.
///
/// # Errors
/// What cannot be listed; nobody takes what is read.
pub fn read(root: &Path, out: impl Write) -> io::Result<Summary> {
    archive(root, out, Known::Nothing)
}

/// The same, with what is known of it.
pub(crate) fn archive(root: &Path, out: impl Write, known: Known) -> io::Result<Summary> {
    let mut reading = Reading {
        archive: tar::Builder::new(io::BufWriter::with_capacity(1 << 20, out)),
        digest: Digest::default(),
        summary: Summary::default(),
        scratch: Scratch(None),
        as_it_is: !matches!(known, Known::Nothing),
    };
    walk(root, &mut |path, there, metadata| reading.entry(path, there, metadata))?;
    let Reading { mut archive, digest, mut summary, .. } = reading;
    summary.digest = digest.finish();
    match known {
        Known::Nothing => {}
        Known::Redis(redis) => summary.redis = Some(redis),
        Known::Dump(dump) => summary.dump = Some(dump),
    }
    let text = serde_json::to_vec(&summary)?;
    let mut header = tar::Header::new_gnu();
    header.set_size(text.len() as u64);
    header.set_mode(0o600);
    archive.append_data(&mut header, SUMMARY, &*text)?;
    archive.into_inner()?.flush()?;
    Ok(summary)
}

struct Reading<W: Write> {
    archive: tar::Builder<W>,
    digest: Digest,
    summary: Summary,
    scratch: Scratch,
    /// Nobody writes to it, and what looks like a SQLite database may be a part of a dump.
    as_it_is: bool,
}

/// A folder for copies of databases; it goes with it.
struct Scratch(Option<PathBuf>);

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Some(folder) = &self.0 {
            let _ = fs::remove_dir_all(folder);
        }
    }
}

impl Scratch {
    fn file(&mut self) -> io::Result<PathBuf> {
        if self.0.is_none() {
            let folder = std::env::temp_dir().join(format!("klar-read-{:016x}", fastrand::u64(..)));
            fs::DirBuilder::new().mode(0o700).create(&folder)?;
            self.0 = Some(folder);
        }
        let path = self.0.as_deref().unwrap_or(Path::new("/tmp")).join("copy");
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(path),
        }
    }
}

impl<W: Write> Reading<W> {
    fn entry(&mut self, path: &Path, there: &Path, metadata: &Metadata) -> io::Result<()> {
        let name = Path::new(FILES).join(path);
        let mut header = tar::Header::new_gnu();
        header.set_metadata(metadata);
        header.set_mode(metadata.mode() & 0o7777);
        if metadata.is_dir() {
            self.digest.folder(path, metadata.mode());
            return self.archive.append_data(&mut header, name, io::empty());
        }
        if metadata.is_symlink() {
            let target = fs::read_link(there)?;
            if target.to_str().is_none() {
                self.skip(path, "it leads to a name that is no UTF-8");
                return Ok(());
            }
            self.digest.link(path, target.as_os_str());
            return self.archive.append_link(&mut header, name, target);
        }
        if !metadata.is_file() {
            self.skip(path, "it is no file, folder or link");
            return Ok(());
        }
        if !self.as_it_is && is_beside_database(there) {
            return Ok(());
        }
        let mut file = match File::open(there) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => {
                self.skip(path, &error.to_string());
                return Ok(());
            }
        };
        if !self.as_it_is && is_database(&mut file)? {
            let copy = self.scratch.file()?;
            match self.database(there, &copy, path) {
                Ok(()) => {
                    let mut copied = File::open(&copy)?;
                    let metadata = copied.metadata()?;
                    self.append(&name, path, &mut header, &mut copied, metadata.len())?;
                    fs::remove_file(&copy)?;
                    return Ok(());
                }
                // Something else with the same first bytes, or one that nobody can read: as it lies there.
                Err(why) => self.broken(format!("{}: {why}", shown(path))),
            }
        }
        let before = file.metadata()?;
        self.append(&name, path, &mut header, &mut file, before.len())?;
        let after = file.metadata()?;
        let state = |of: &Metadata| (of.len(), of.mtime(), of.mtime_nsec());
        if state(&before) != state(&after) {
            tell(&mut self.summary.changed, shown(path));
        }
        Ok(())
    }

    /// A file of so many bytes: what is missing in the end was cut off meanwhile, and becomes zeros.
    fn append(
        &mut self,
        name: &Path,
        path: &Path,
        header: &mut tar::Header,
        file: &mut File,
        length: u64,
    ) -> io::Result<()> {
        file.seek(SeekFrom::Start(0))?;
        header.set_size(length);
        header.set_entry_type(tar::EntryType::Regular);
        let mode = header.mode()?;
        let mut content = Summed::new(file.chain(io::repeat(0)).take(length));
        self.archive.append_data(header, name, &mut content)?;
        self.digest.file(path, mode, &content.context.finish());
        self.summary.files += 1;
        self.summary.bytes += length;
        Ok(())
    }

    /// Copies a database as it is at one moment, and looks whether it is whole.
    fn database(&mut self, from: &Path, to: &Path, path: &Path) -> Result<(), String> {
        let told = |error: rusqlite::Error| error.to_string();
        // Its log has to be read, and for that what is beside it may have to be made.
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let source = Connection::open_with_flags(from, flags).map_err(told)?;
        source.busy_timeout(BUSY).map_err(told)?;
        let mut copy = Connection::open(to).map_err(told)?;
        {
            let backup = Backup::new(&source, &mut copy).map_err(told)?;
            let begun = std::time::Instant::now();
            // All at once: between two steps a writer would make it begin again.
            while backup.step(-1).map_err(told)? != StepResult::Done {
                if begun.elapsed() > BUSY {
                    return Err("it was busy all the time".to_owned());
                }
                std::thread::sleep(Duration::from_millis(50));
            }
        }
        let said: String = copy.query_row("PRAGMA integrity_check(1)", [], |row| row.get(0)).map_err(told)?;
        if said != "ok" {
            self.broken(format!("{}: {said}", shown(path)));
        }
        let counted = (|| {
            let mut tables = copy.prepare("SELECT name FROM sqlite_schema WHERE type = 'table'")?;
            let names: Vec<String> = tables.query_map([], |row| row.get(0))?.collect::<Result<_, _>>()?;
            let mut rows = 0;
            for name in &names {
                let sql = format!("SELECT count(*) FROM \"{}\"", name.replace('"', "\"\""));
                rows += copy.query_row(&sql, [], |row| row.get::<_, i64>(0))?;
            }
            Ok::<_, rusqlite::Error>((names.len() as u64, rows.unsigned_abs()))
        })();
        // A virtual table whose module nobody has here cannot be counted.
        let (tables, rows) = counted.unwrap_or_default();
        self.summary.databases += 1;
        self.summary.tables += tables;
        self.summary.rows += rows;
        copy.close().map_err(|(_, error)| told(error))
    }

    fn skip(&mut self, path: &Path, why: &str) {
        tell(&mut self.summary.skipped, format!("{}: {why}", shown(path)));
    }

    fn broken(&mut self, what: String) {
        tell(&mut self.summary.broken, what);
    }
}

fn tell(list: &mut Vec<String>, what: String) {
    if list.len() < TOLD_MAX {
        list.push(what);
    }
}

fn is_database(file: &mut File) -> io::Result<bool> {
    let mut first = Vec::new();
    Read::by_ref(file).take(MAGIC.len() as u64).read_to_end(&mut first)?;
    file.seek(SeekFrom::Start(0))?;
    Ok(first == MAGIC)
}

/// What SQLite keeps beside a database is in the copy already.
fn is_beside_database(path: &Path) -> bool {
    let text = path.as_os_str().to_string_lossy();
    let database = BESIDE.iter().find_map(|end| text.strip_suffix(end));
    database
        .is_some_and(|path| File::open(path).is_ok_and(|mut file| is_database(&mut file).unwrap_or(false)))
}
