//! Access records on disk: one JSON object a line, for each app, rotated by size.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;

use klar_base::AppKey;
use klar_base::lines::Lines;
use klar_base::signal::AccessRecord;

use crate::layout::Layout;

const FILE_MAX: u64 = 16 << 20;
const FILES: u32 = 4;

/// Writes the records that the edge sends.
#[derive(Debug)]
pub(super) struct AccessLogs {
    layout: Layout,
    open: RefCell<BTreeMap<AppKey, (File, u64)>>,
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
                self.append_or_say(&key, &text);
            }
        }
    }

    /// The same for those of an edge of an older klar.
    pub(super) fn write_records(&self, records: &[AccessRecord]) {
        let mut by_app: BTreeMap<&AppKey, Vec<u8>> = BTreeMap::new();
        for record in records {
            let (Some(key), Ok(line)) = (&record.app, serde_json::to_vec(record)) else { continue };
            let text = by_app.entry(key).or_default();
            text.extend_from_slice(&line);
            text.push(b'\n');
        }
        for (key, text) in by_app {
            self.append_or_say(key, &text);
        }
    }

    fn append_or_say(&self, key: &AppKey, text: &[u8]) {
        if let Err(error) = self.append(key, text) {
            eprintln!("klar core: access records of {key} are lost: {error}");
        }
    }

    fn append(&self, key: &AppKey, text: &[u8]) -> std::io::Result<()> {
        let mut open = self.open.borrow_mut();
        let path = self.layout.access_log(key);
        let full = open.get(key).is_some_and(|(_, size)| size + text.len() as u64 > FILE_MAX);
        if full {
            open.remove(key);
            for number in (1..FILES).rev() {
                let from = if number == 1 {
                    path.clone()
                } else {
                    path.with_extension(format!("jsonl.{}", number - 1))
                };
                // Older ones may not be there yet.
                let _ = fs::rename(from, path.with_extension(format!("jsonl.{number}")));
            }
        }
        if !open.contains_key(key) {
            let file = File::options().create(true).append(true).mode(0o600).open(&path)?;
            let size = file.metadata()?.len();
            open.insert(key.clone(), (file, size));
        }
        if let Some((file, size)) = open.get_mut(key) {
            file.write_all(text)?;
            *size += text.len() as u64;
        }
        Ok(())
    }

    /// Forgets an app whose files are about to be removed.
    pub(super) fn close(&self, key: &AppKey) {
        self.open.borrow_mut().remove(key);
    }
}
