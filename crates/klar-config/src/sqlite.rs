//! Finds SQLite databases in an app's folder: two processes on two releases cannot share one safely by default.

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

/// What a SQLite database begins with. Source: <https://www.sqlite.org/fileformat.html>, section 1.3.
const MAGIC: &[u8; 16] = b"SQLite format 3\0";
/// How deep below the app's folder a database is looked for.
const DEPTH_MAX: usize = 3;
/// How many files and folders are looked at; a larger app folder is not walked to its end.
const ENTRIES_MAX: usize = 20_000;
/// Folders that hold other people's files.
const SKIPPED: [&str; 9] =
    ["node_modules", ".git", ".hg", ".svn", ".klar", ".venv", "venv", "__pycache__", "target"];

/// Returns the SQLite databases below `dir`, relative to it, in order.
///
/// Links are not followed. What cannot be read is passed over: this is a hint, not a proof.
pub(crate) fn find(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut left = ENTRIES_MAX;
    walk(dir, Path::new(""), 0, &mut left, &mut found);
    found.sort();
    found
}

fn walk(dir: &Path, relative: &Path, depth: usize, left: &mut usize, found: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(dir) else { return };
    for entry in entries.flatten() {
        if *left == 0 {
            return;
        }
        *left -= 1;
        let (name, Ok(kind)) = (entry.file_name(), entry.file_type()) else { continue };
        let below = relative.join(&name);
        if kind.is_dir() {
            if depth < DEPTH_MAX && !SKIPPED.iter().any(|skipped| name == *skipped) {
                walk(&entry.path(), &below, depth + 1, left, found);
            }
        } else if kind.is_file() && is_database(&entry.path()) {
            found.push(below);
        }
    }
}

fn is_database(path: &Path) -> bool {
    let mut head = [0; MAGIC.len()];
    File::open(path).and_then(|mut file| file.read_exact(&mut head)).is_ok() && &head == MAGIC
}
