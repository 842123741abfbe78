//! Access records on disk, and what stricter rules say of requests: one JSON object a line, for each app, rotated by size.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use klar_base::AppKey;
use klar_base::lines::Lines;
use klar_base::shadow::ShadowedRequest;
use klar_base::signal::AccessRecord;
use serde::Serialize;

use crate::layout::Layout;

const FILE_MAX: u64 = 16 << 20;
const FILES: u32 = 4;
/// See [`files`].
const SHADOW: &str = "shadow.jsonl";
const SHADOW_FILES: u32 = 2;

/// Writes the records that the edge sends.
#[derive(Debug)]
pub(super) struct AccessLogs {
    layout: Layout,
    open: RefCell<BTreeMap<PathBuf, (File, u64)>>,
}

impl AccessLogs {
    pub(super) fn new(layout: Layout) -> Self {
        Self { layout, open: RefCell::default() }
    }

    /// Writes each record to its app's file, as it is; those of no app are not kept.
    pub(super) fn write(&self, lines: &Lines) {
        let mut by_app: BTreeMap<&str, Vec<u8>> = BTreeMap::new();
        for (app, record) in lines.iter().filter(|(app, _)| !app.is_empty()) {
            let text = by_app.entry(app).or_default();
            text.extend_from_slice(record);
            text.push(b'\n');
        }
        for (app, text) in by_app {
            // Whoever says so may be anybody: of an app that is none, nothing is kept.
            if let Ok(key) = app.parse() {
                self.append_or_say(&self.layout.access_log(&key), &text);
            }
        }
    }

    /// The same for those of an edge of an older klar.
    pub(super) fn write_records(&self, records: &[AccessRecord]) {
        let records = records.iter().filter_map(|record| Some((record.app.as_ref()?, record)));
        self.write_each(records, |key| self.layout.access_log(key));
    }

    /// Writes what stricter rules say of requests.
    pub(super) fn write_shadowed(&self, requests: &[ShadowedRequest]) {
        let requests = requests.iter().map(|request| (&request.app, request));
        self.write_each(requests, |key| self.layout.shadow_log(key));
    }

    fn write_each<'a, T: Serialize + 'a>(
        &self,
        records: impl Iterator<Item = (&'a AppKey, &'a T)>,
        path: impl Fn(&AppKey) -> PathBuf,
    ) {
        let mut by_app: BTreeMap<&AppKey, Vec<u8>> = BTreeMap::new();
        for (key, record) in records {
            let Ok(line) = serde_json::to_vec(record) else { continue };
            let text = by_app.entry(key).or_default();
            text.extend_from_slice(&line);
            text.push(b'\n');
        }
        for (key, text) in by_app {
            self.append_or_say(&path(key), &text);
        }
    }

    fn append_or_say(&self, path: &Path, text: &[u8]) {
        if let Err(error) = self.append(path, text) {
            eprintln!("klar core: {}: what happened is not written down: {error}", path.display());
        }
    }

    fn append(&self, path: &Path, text: &[u8]) -> std::io::Result<()> {
        let mut open = self.open.borrow_mut();
        let full = open.get(path).is_some_and(|(_, size)| size + text.len() as u64 > FILE_MAX);
        if full {
            open.remove(path);
            for number in (1..files(path)).rev() {
                let from = if number == 1 {
                    path.to_owned()
                } else {
                    path.with_extension(format!("jsonl.{}", number - 1))
                };
                // Older ones may not be there yet.
                let _ = fs::rename(from, path.with_extension(format!("jsonl.{number}")));
            }
        }
        if !open.contains_key(path) {
            let file = File::options().create(true).append(true).mode(0o600).open(path)?;
            let size = file.metadata()?.len();
            // Whoever was killed may have left half a line.
            let is_torn = size > 0 && ends_otherwise(path)?;
            open.insert(path.to_owned(), (file, size));
            if is_torn && let Some((file, size)) = open.get_mut(path) {
                file.write_all(b"\n")?;
                *size += 1;
            }
        }
        if let Some((file, size)) = open.get_mut(path) {
            file.write_all(text)?;
            *size += text.len() as u64;
        }
        Ok(())
    }

    /// Removes what stricter rules have said of an app's requests, and these.
    pub(super) fn forget_shadowed(&self, key: &AppKey) {
        let path = self.layout.shadow_log(key);
        self.open.borrow_mut().remove(&path);
        for path in (1..files(&path))
            .map(|number| path.with_extension(format!("jsonl.{number}")))
            .chain([path.clone()])
        {
            // Mostly there is none.
            let _ = fs::remove_file(path);
        }
    }

    /// Forgets an app whose files are about to be removed.
    pub(super) fn close(&self, key: &AppKey) {
        for path in [self.layout.access_log(key), self.layout.shadow_log(key)] {
            self.open.borrow_mut().remove(&path);
        }
    }
}

/// So many files are kept of a log: of what stricter rules say as many as are read.
fn files(path: &Path) -> u32 {
    if path.file_name().is_some_and(|name| name == SHADOW) { SHADOW_FILES } else { FILES }
}

/// Whether a file ends in something else than a line end.
fn ends_otherwise(path: &Path) -> std::io::Result<bool> {
    let mut file = File::open(path)?;
    file.seek(SeekFrom::End(-1))?;
    let mut last = [0];
    file.read_exact(&mut last)?;
    Ok(last != *b"\n")
}
