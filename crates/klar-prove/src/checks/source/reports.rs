//! Reports that test runs leave behind. Git ignores them as a rule, so they are looked for on the disk.

use std::path::Path;
use std::time::{Duration, SystemTime};

use super::tree::{Tree, git};

/// A report, and whether it is of what the folder holds now.
#[derive(Debug, Clone)]
pub struct Report {
    /// Its path below the folder.
    pub path: String,
    /// What is in it.
    pub text: String,
    /// When it was written.
    pub written: SystemTime,
}

const MOST_ENTRIES: usize = 50_000;
const DEEPEST: usize = 6;
const MOST_REPORTS: usize = 200;
const LARGEST: u64 = 32 * 1024 * 1024;
const NOT_HERE: [&str; 7] = [".git", "node_modules", "vendor", ".venv", "venv", "__pycache__", "deps"];
/// What a change of makes a report old.
const CODE: [&str; 22] = [
    "js", "mjs", "cjs", "jsx", "ts", "mts", "cts", "tsx", "py", "php", "rs", "go", "rb", "java", "kt", "cs",
    "vue", "svelte", "sql", "html", "css", "scala",
];

/// The reports below a folder whose name is one of these.
#[must_use]
pub fn find(root: &Path, named: fn(&str) -> bool) -> Vec<Report> {
    let mut found = Vec::new();
    let mut folders = vec![(String::new(), 0)];
    let mut entries = 0_usize;
    while let Some((folder, depth)) = folders.pop() {
        let Ok(list) = std::fs::read_dir(root.join(&folder)) else { continue };
        for entry in list.filter_map(Result::ok) {
            entries += 1;
            if entries > MOST_ENTRIES || found.len() >= MOST_REPORTS {
                return found;
            }
            let Ok(name) = entry.file_name().into_string() else { continue };
            let path = if folder.is_empty() { name.clone() } else { format!("{folder}/{name}") };
            let Ok(about) = entry.metadata() else { continue };
            if about.is_dir() && depth < DEEPEST && !NOT_HERE.contains(&name.as_str()) {
                folders.push((path, depth + 1));
            } else if about.is_file() && about.len() < LARGEST && named(&name) {
                let text = std::fs::read_to_string(root.join(&path));
                if let (Ok(text), Ok(written)) = (text, about.modified()) {
                    found.push(Report { path, text, written });
                }
            }
        }
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    found
}

/// When the last change to the code was made, and what it changed.
#[must_use]
pub fn newest_source(tree: &Tree) -> Option<(SystemTime, String)> {
    tree.paths
        .iter()
        .filter(|path| path.rsplit_once('.').is_some_and(|(_, end)| CODE.contains(&end)))
        .filter_map(|path| {
            Some((std::fs::metadata(tree.root.join(path)).ok()?.modified().ok()?, path.clone()))
        })
        .max()
}

/// When the last commit was made; `None` where there is none.
pub async fn last_commit(tree: &Tree) -> Option<SystemTime> {
    let said = git(&tree.root, &["log", "-1", "--format=%ct", "--", "."], 100).await.ok()?;
    let seconds = std::str::from_utf8(&said).ok()?.trim().parse().ok()?;
    SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(seconds))
}

/// The tags of an XML document, with their attributes as they are written; comments and CDATA are left out.
pub fn tags(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        loop {
            let start = rest.find('<')?;
            rest = &rest[start..];
            let skip = if rest.starts_with("<!--") {
                Some("-->")
            } else if rest.starts_with("<![CDATA[") {
                Some("]]>")
            } else {
                None
            };
            if let Some(end) = skip {
                rest = &rest[rest.find(end)? + end.len()..];
                continue;
            }
            let end = rest.find('>')?;
            let tag = &rest[1..end];
            rest = &rest[end + 1..];
            return Some(tag);
        }
    })
}

/// An attribute of such a tag.
#[must_use]
pub fn attribute<'t>(tag: &'t str, name: &str) -> Option<&'t str> {
    let at = tag.match_indices(name).map(|(at, _)| at).find(|at| {
        tag[..*at].ends_with(char::is_whitespace) && tag[at + name.len()..].trim_start().starts_with('=')
    })?;
    let value = tag[at + name.len()..].trim_start().strip_prefix('=')?.trim_start();
    let quote = value.chars().next().filter(|c| "\"'".contains(*c))?;
    value[1..].split(quote).next()
}
