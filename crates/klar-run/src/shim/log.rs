//! An app's output on disk: one line each, in the container runtimes' own format, so that other tools read it too.
//!
//! ```text
//! 2026-11-21T07:20:10.123456Z stdout F listening on 4711
//! ```
//! `F` ends a line, `P` says that it goes on (lines are cut at [`LINE_MAX`]). A line is written with one `write`
//! before the next is read, so nothing is kept in memory. Source: the CRI logging format of Kubernetes.
//!
//! A file that is full gets the time behind its name. When the next one is full too, it is compressed (gzip): until then
//! whoever follows the lines can read it to its end.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime};

use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use klar_base::ByteSize;

use crate::report::LogLine;

/// The longest piece of a line that is written at once, in bytes.
pub const LINE_MAX: usize = 16 * 1024;
/// The current file and three older ones share the size that an instance may use.
const FILES: u64 = 4;
/// How the names of compressed files end.
const PACKED: &str = "gz";
/// What one of them may unpack to, in bytes.
const UNPACKED_MAX: u64 = 1 << 30;

/// Writes the output of one instance.
#[derive(Debug)]
pub struct Writer {
    folder: PathBuf,
    name: String,
    file: File,
    written: u64,
    file_max: u64,
    age_max: Duration,
    /// Lines that could not be written.
    pub lines_lost: u64,
    /// Compresses, so that the app never waits for it.
    packing: Option<JoinHandle<()>>,
}

impl Writer {
    /// Appends to `FOLDER/NAME.log`.
    ///
    /// # Errors
    /// When the file cannot be opened.
    pub fn open(folder: &Path, name: &str, size: ByteSize, age_max: Duration) -> io::Result<Self> {
        let path = folder.join(format!("{name}.log"));
        let file = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&path)
            .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", path.display())))?;
        let written = file.metadata()?.len();
        Ok(Self {
            folder: folder.into(),
            name: name.into(),
            file,
            written,
            file_max: (size.0 / FILES).max(4096),
            age_max,
            lines_lost: 0,
            packing: None,
        })
    }

    /// Writes one line, or a piece of one.
    ///
    /// # Errors
    /// The line is lost and counted; the next one is tried again.
    pub fn line(&mut self, stream: &str, whole: bool, text: &[u8]) -> io::Result<()> {
        let now = jiff::Timestamp::now();
        let tag = if whole { 'F' } else { 'P' };
        let mut entry = format!("{now:.6} {stream} {tag} ").into_bytes();
        entry.extend(text.iter().map(|byte| if *byte == b'\n' { b' ' } else { *byte }));
        entry.push(b'\n');
        let result = self.rotate_before(entry.len() as u64).and_then(|()| self.file.write_all(&entry));
        match result {
            Ok(()) => self.written += entry.len() as u64,
            Err(_) => self.lines_lost += 1,
        }
        result
    }

    fn rotate_before(&mut self, more: u64) -> io::Result<()> {
        if self.written + more <= self.file_max {
            return Ok(());
        }
        let current = self.folder.join(format!("{}.log", self.name));
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_millis();
        // After all others, also when the clock went back, and never in the place of one.
        let newest = rotated(&self.folder, &self.name).pop().and_then(|path| {
            let name = path.file_name()?.to_str()?.strip_prefix(&format!("{}.log.", self.name))?.to_owned();
            name.split('.').next()?.parse::<u128>().ok()
        });
        let millis = newest.map_or(now, |newest| now.max(newest + 1));
        fs::rename(&current, self.folder.join(format!("{}.log.{millis:014}", self.name)))?;
        self.file = OpenOptions::new().create(true).append(true).open(&current)?;
        self.written = 0;
        if self.packing.as_ref().is_none_or(JoinHandle::is_finished) {
            self.prune();
            let mut plain = rotated(&self.folder, &self.name);
            // The newest one may still be read by whoever follows.
            plain.pop();
            plain.retain(|path| path.extension().is_none_or(|end| end != PACKED));
            let pack = move || plain.iter().for_each(|path| pack(path));
            // Without a thread they stay as they are, and are tried again at the next turn.
            self.packing = std::thread::Builder::new().name("pack".into()).spawn(pack).ok();
        } else {
            self.prune();
        }
        Ok(())
    }

    fn prune(&self) {
        let mut old = rotated(&self.folder, &self.name);
        let surplus = old.len().saturating_sub(FILES as usize - 1);
        let too_old = |path: &PathBuf| {
            let age =
                fs::metadata(path).and_then(|meta| meta.modified()).ok().and_then(|time| time.elapsed().ok());
            age.is_some_and(|age| age > self.age_max)
        };
        for (index, path) in old.drain(..).enumerate() {
            if index < surplus || too_old(&path) {
                // What cannot be removed now is tried again at the next turn.
                let _ = fs::remove_file(path);
            }
        }
    }
}

/// Compresses a file. One that cannot be stays as it is.
fn pack(path: &Path) {
    let half = path.with_extension("half");
    let packed = || -> io::Result<()> {
        let mut from = File::open(path)?;
        let mut to = GzEncoder::new(File::create(&half)?, Compression::new(5));
        io::copy(&mut from, &mut to)?;
        to.finish()?.sync_all()?;
        // As old as it was: age counts.
        File::options().append(true).open(&half)?.set_modified(from.metadata()?.modified()?)?;
        let mut name = path.as_os_str().to_owned();
        name.push(format!(".{PACKED}"));
        fs::rename(&half, PathBuf::from(name))?;
        fs::remove_file(path)
    };
    if packed().is_err() {
        // There may be nothing of it.
        let _ = fs::remove_file(&half);
    }
}

/// A file as it was written.
fn read(path: &Path) -> Vec<u8> {
    let mut bytes = fs::read(path).unwrap_or_default();
    if path.extension().is_some_and(|end| end == PACKED) {
        let mut plain = Vec::new();
        // Half of one says half of it; nobody but this program wrote it, and it was bounded then.
        let _ = GzDecoder::new(&*bytes).take(UNPACKED_MAX).read_to_end(&mut plain);
        bytes = plain;
    }
    bytes
}

/// The rotated files of `name`, oldest first.
fn rotated(folder: &Path, name: &str) -> Vec<PathBuf> {
    let prefix = format!("{name}.log.");
    let mut files: Vec<PathBuf> = fs::read_dir(folder)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.file_name().and_then(|n| n.to_str()).is_some_and(|n| n.starts_with(&prefix)))
        .filter(|path| path.extension().is_none_or(|end| end != "half"))
        .collect();
    files.sort();
    files
}

/// Reads one line of a log file back.
pub fn parse(instance: &str, line: &str) -> Option<LogLine> {
    let mut parts = line.splitn(4, ' ');
    let (time, stream, _tag, text) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    Some(LogLine { time: time.into(), instance: instance.into(), stream: stream.into(), text: text.into() })
}

/// The last `count` lines of an instance, oldest first.
pub fn tail(folder: &Path, name: &str, count: usize) -> Vec<LogLine> {
    let mut files = rotated(folder, name);
    files.push(folder.join(format!("{name}.log")));
    let mut lines: Vec<LogLine> = Vec::new();
    for file in files.iter().rev() {
        let text = String::from_utf8_lossy(&read(file)).into_owned();
        let mut earlier: Vec<LogLine> = text.lines().filter_map(|line| parse(name, line)).collect();
        earlier.append(&mut lines);
        lines = earlier;
        if lines.len() >= count {
            break;
        }
    }
    lines.split_off(lines.len().saturating_sub(count))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(name: &str) -> PathBuf {
        let folder = std::env::temp_dir().join(format!("klar-log-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).unwrap();
        folder
    }

    #[test]
    fn what_is_written_can_be_read_and_never_grows_beyond_its_size() {
        let folder = folder("size");
        let mut writer =
            Writer::open(&folder, "api.1", ByteSize::kib(64), Duration::from_secs(3600)).unwrap();
        for number in 0..=5_000 {
            if number == 5_000 {
                // What came while one was being compressed is compressed at the next turn.
                writer.packing.take().map(JoinHandle::join);
                writer.written = writer.file_max;
            }
            writer.line("stdout", true, format!("line {number}").as_bytes()).unwrap();
        }
        writer.packing.take().map(JoinHandle::join);
        let packed = rotated(&folder, "api.1");
        assert!(packed.iter().rev().skip(1).all(|path| path.extension().unwrap() == PACKED), "{packed:?}");
        let total: u64 = fs::read_dir(&folder).unwrap().map(|e| e.unwrap().metadata().unwrap().len()).sum();
        assert!(total <= 64 * 1024, "{total} bytes");
        let last = tail(&folder, "api.1", 300);
        assert_eq!(last.len(), 300);
        assert_eq!(last[299].text, "line 5000");
        assert_eq!(last[0].text, "line 4701", "continues into the file before");
        let all = tail(&folder, "api.1", 9_000);
        let first: usize = all[0].text.strip_prefix("line ").unwrap().parse().unwrap();
        assert_eq!(all.len(), 5_001 - first, "nothing is missing in between");
        assert!(all.len() > 600, "and more than the newest two files have: {}", all.len());
        assert_eq!((last[0].stream.as_str(), last[0].instance.as_str()), ("stdout", "api.1"));
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn a_line_break_inside_cannot_forge_a_line() {
        let folder = folder("forge");
        let mut writer = Writer::open(&folder, "a.1", ByteSize::mib(1), Duration::from_secs(60)).unwrap();
        writer.line("stdout", true, b"one\n2026-01-01T00:00:00Z stderr F two").unwrap();
        assert_eq!(tail(&folder, "a.1", 10).len(), 1);
        fs::remove_dir_all(folder).unwrap();
    }
}
