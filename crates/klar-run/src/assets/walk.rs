//! Which files of a static folder are worth a thought.

use std::fs;
use std::io;
use std::path::Path;

use super::pack::Coding;

/// Larger files are not touched, in bytes: the edge sends them as they are.
pub const FILE_MAX: u64 = 16 << 20;
/// So many files are looked at; a folder with more is an archive, and no front end.
const FILES_MAX: usize = 20_000;
/// Folders in folders.
const DEPTH_MAX: usize = 64;
/// Endings of files that are text, or compress as well as text, in the order in which a visitor needs them. Source maps
/// are left out: they are large, and nobody but a developer asks for them.
const ENDINGS: [&str; 16] = [
    "html",
    "htm",
    "css",
    "js",
    "mjs",
    "svg",
    "json",
    "webmanifest",
    "wasm",
    "ttf",
    "otf",
    "xml",
    "txt",
    "md",
    "csv",
    "geojson",
];
/// Less than this is one packet anyway, in bytes.
const WORTH_IT: u64 = 1024;

/// A file of a static folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// As seen from the folder.
    pub path: String,
    /// In bytes.
    pub length: u64,
    /// Which compressed copies lie beside it.
    copies: Vec<Coding>,
}

impl Entry {
    /// Whether it gets compressed copies.
    pub fn packs(&self) -> bool {
        (WORTH_IT..=FILE_MAX).contains(&self.length) && rank(&self.path).is_some()
    }

    /// Whether it is a page.
    pub fn is_page(&self) -> bool {
        matches!(rank(&self.path), Some(0 | 1))
    }

    /// Whether the app brings such a copy itself.
    pub fn has_copy(&self, coding: Coding) -> bool {
        self.copies.contains(&coding)
    }
}

/// How soon a visitor needs a file, by its ending; `None`: it is none of those that are compressed.
fn rank(path: &str) -> Option<usize> {
    let ending = path.rsplit('/').next()?.rsplit_once('.')?.1.to_ascii_lowercase();
    ENDINGS.iter().position(|known| *known == ending)
}

/// The files that the edge would serve from a folder: plain ones, none that is hidden, and nothing behind a symbolic
/// link, as what is there may change. What a visitor needs first comes first, and the small before the large.
///
/// # Errors
/// When a folder cannot be read.
pub fn files(folder: &Path) -> io::Result<Vec<Entry>> {
    let mut found = Vec::new();
    walk(folder, "", 0, &mut found)?;
    let paths: std::collections::BTreeSet<String> = found.iter().map(|(path, _)| path.clone()).collect();
    let mut files: Vec<Entry> = found
        .into_iter()
        .map(|(path, length)| {
            let beside = |coding: &Coding| paths.contains(&format!("{path}{}", coding.suffix()));
            Entry { copies: Coding::ALL.into_iter().filter(beside).collect(), path, length }
        })
        .collect();
    files.sort_by_key(|file| (rank(&file.path).unwrap_or(usize::MAX), file.length));
    Ok(files)
}

fn walk(folder: &Path, below: &str, depth: usize, found: &mut Vec<(String, u64)>) -> io::Result<()> {
    if depth > DEPTH_MAX {
        return Ok(());
    }
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name();
        // The edge serves no name that is not UTF-8.
        let Some(name) = name.to_str() else { continue };
        if name.starts_with('.') && name != ".well-known" {
            continue;
        }
        let meta = entry.metadata()?;
        let path = if below.is_empty() { name.to_owned() } else { format!("{below}/{name}") };
        if meta.is_dir() {
            walk(&entry.path(), &path, depth + 1, found)?;
        } else if meta.is_file() && found.len() < FILES_MAX {
            found.push((path, meta.len()));
        }
    }
    Ok(())
}
