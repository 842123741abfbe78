//! What the foil's processes say, in files as klar keeps them, and as telemetry finds it again.

use std::cell::{Cell, RefCell};
use std::fs;
use std::io::Write;
use std::path::PathBuf;
use std::time::SystemTime;

use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::{Value, json};

use super::app::App;
use crate::world;

/// What the files may take, in bytes: little, so that they are soon full.
const LIMIT: u64 = 64 << 10;
const FILES: usize = 4;

/// See the [module](self).
pub(super) struct Output {
    folder: PathBuf,
    current: RefCell<Vec<u8>>,
    turns: Cell<u32>,
    /// Stream and text.
    lines: RefCell<Vec<(&'static str, String)>>,
}

impl Default for Output {
    fn default() -> Self {
        let folder =
            std::env::temp_dir().join(format!("klar-foil-{}-{:016x}", std::process::id(), fastrand::u64(..)));
        let (current, turns, lines) = (RefCell::default(), Cell::new(0), RefCell::default());
        Self { folder, current, turns, lines }
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        // It is there only if something was said.
        let _ = fs::remove_dir_all(&self.folder);
    }
}

impl Output {
    pub(super) fn say(&self, app: &App, is_error: bool, text: &str) -> std::io::Result<()> {
        fs::create_dir_all(&self.folder)?;
        let stream = if is_error { "stderr" } else { "stdout" };
        for line in text.lines() {
            // What only fills is looked for in files alone.
            if line.len() < 500 {
                self.lines.borrow_mut().push((stream, line.to_owned()));
            }
            let whole = format!("2026-01-01T00:00:00Z {stream} F {line}\n");
            let is_full = self.current.borrow().len() + whole.len() > LIMIT as usize / FILES;
            if is_full && !app.has("never-rotates") {
                self.turn(app)?;
                if app.has("loses-at-the-turn") {
                    continue;
                }
            }
            self.current.borrow_mut().extend_from_slice(whole.as_bytes());
        }
        fs::write(self.folder.join("z.log"), &*self.current.borrow())
    }

    fn turn(&self, app: &App) -> std::io::Result<()> {
        let turn = self.turns.get();
        self.turns.set(turn + 1);
        fs::write(self.folder.join(format!("{turn:06}")), std::mem::take(&mut *self.current.borrow_mut()))?;
        let mut old = self.files();
        old.retain(|(path, _)| !path.ends_with("z.log"));
        let is_kept = |path: &PathBuf| {
            let modified = fs::metadata(path).and_then(|found| found.modified());
            modified.is_ok_and(|time| {
                time > SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1_600_000_000)
            })
        };
        let surplus = old.len().saturating_sub(FILES - 1);
        for (number, (path, _)) in old.iter().enumerate() {
            if (number < surplus && !app.has("keeps-all-logs")) || !is_kept(path) {
                fs::remove_file(path)?;
            } else if number + 1 < old.len() && path.extension().is_none() && !app.has("keeps-plain-logs") {
                let mut packed = GzEncoder::new(Vec::new(), Compression::fast());
                packed.write_all(&fs::read(path)?)?;
                fs::write(path.with_extension("gz"), packed.finish()?)?;
                fs::remove_file(path)?;
            }
        }
        Ok(())
    }

    fn files(&self) -> Vec<(PathBuf, u64)> {
        let entries = fs::read_dir(&self.folder).into_iter().flatten().flatten();
        let mut files: Vec<(PathBuf, u64)> =
            entries.map(|entry| (entry.path(), entry.metadata().map_or(0, |meta| meta.len()))).collect();
        files.sort();
        files
    }

    pub(super) fn files_and_limit(&self) -> world::Output {
        world::Output { limit: LIMIT, files: self.files() }
    }

    pub(super) fn kept(&self, app: &App, narrowed: &[(&str, &str)]) -> Vec<Value> {
        let wanted = |name| narrowed.iter().find(|(known, _)| *known == name).map(|(_, value)| *value);
        let (word, stream) = (wanted("contains").unwrap_or_default(), wanted("stream"));
        let is_gone = app.has("forgets-on-restart") && app.state.telemetry_was_killed.get();
        let lines = self.lines.borrow();
        let found = lines.iter().enumerate().filter(|(number, (said, text))| {
            let is_of = stream.is_none_or(|wanted| *said == wanted && !app.has("nameless-lines"));
            let is_lost = app.has("forgets-lines") && number.is_multiple_of(9);
            text.contains(word) && is_of && !is_lost && !is_gone
        });
        found
            .map(|(_, (stream, text))| json!({ "service": "foil", "stream": stream, "body": text }))
            .collect()
    }
}
