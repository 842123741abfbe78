//! What a team has written down about its caches: a table in one of its documents, a line for each class of routes.

use std::path::Path;

/// What the edge does with the second of two equal requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Promise {
    /// It answers without the app.
    Hit,
    /// It asks the app, each time.
    Miss,
    /// It takes no part.
    Bypass,
}

/// One line of the table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Line {
    /// A path, or with `/*` at its end all below it.
    pub pattern: String,
    pub promise: Promise,
}

/// A policy as it was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Policy {
    /// The document.
    pub from: String,
    pub lines: Vec<Line>,
}

/// Documents are looked for so deep in the source folder, and this far into each.
const DEEPEST: usize = 4;
const LONGEST: u64 = 512 * 1024;
const MOST_FILES: usize = 400;
const MOST_LINES: usize = 200;
/// Folders that hold what others wrote.
const OTHERS: [&str; 6] = ["node_modules", "vendor", "target", "dist", "build", "venv"];

impl Policy {
    /// The first document below a folder that has such a table; those in its own `docs` come first.
    pub fn below(folder: &Path) -> Option<Self> {
        let mut files = Vec::new();
        collect(folder, 0, &mut files);
        files.sort_by_key(|path| (!path.to_string_lossy().to_lowercase().contains("cach"), path.clone()));
        files.into_iter().find_map(|path| {
            if std::fs::metadata(&path).ok()?.len() > LONGEST {
                return None;
            }
            let text = std::fs::read_to_string(&path).ok()?;
            let name = path.strip_prefix(folder).unwrap_or(&path).display().to_string();
            Self::read(&name, &text)
        })
    }

    /// Reads the first table whose head names a route and the edge.
    pub fn read(from: &str, text: &str) -> Option<Self> {
        let mut rows = text.lines().map(cells).skip_while(|cells| column(cells).is_none());
        let edge = column(&rows.next()?)?;
        let mut lines = Vec::new();
        for cells in rows.skip(1).take_while(|cells| !cells.is_empty()).take(MOST_LINES) {
            let Some(promise) = cells.get(edge).and_then(|cell| Promise::of(cell)) else { continue };
            let patterns =
                cells.first().map(String::as_str).unwrap_or_default().split('`').skip(1).step_by(2);
            let patterns = patterns.filter(|pattern| pattern.starts_with('/'));
            lines.extend(patterns.map(|pattern| Line { pattern: pattern.to_owned(), promise }));
        }
        (!lines.is_empty()).then(|| Self { from: from.to_owned(), lines })
    }

    /// The line that speaks of a path: the one that says most about it.
    pub fn of(&self, path: &str) -> Option<&Line> {
        let path = path.split(['?', '#']).next().unwrap_or_default();
        let fits = |line: &&Line| match line.pattern.strip_suffix("/*") {
            Some(folder) => path.strip_prefix(folder).is_some_and(|rest| rest.starts_with('/')),
            None => line.pattern == path,
        };
        self.lines.iter().filter(fits).max_by_key(|line| (!line.pattern.ends_with("/*"), line.pattern.len()))
    }
}

impl Promise {
    fn of(cell: &str) -> Option<Self> {
        let word = cell.trim_matches(['`', '*', '_', ' ']).to_lowercase();
        match word.as_str() {
            "hit" => Some(Self::Hit),
            "miss" => Some(Self::Miss),
            "bypass" => Some(Self::Bypass),
            _ => None,
        }
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::Hit => "HIT",
            Self::Miss => "MISS",
            Self::Bypass => "BYPASS",
        }
    }
}

fn cells(line: &str) -> Vec<String> {
    let Some(inside) = line.trim().strip_prefix('|') else { return Vec::new() };
    inside.trim_end_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect()
}

/// Where the table says what the edge does; `None` when this is no head of such a table.
fn column(cells: &[String]) -> Option<usize> {
    let first = cells.first()?.to_lowercase();
    let names = ["route", "routes", "path", "rute", "ruter", "sti", "sökväg", "rutt"];
    let at =
        cells.iter().position(|cell| ["edge", "kant", "kanten"].contains(&cell.to_lowercase().as_str()))?;
    (at > 0 && names.contains(&first.as_str())).then_some(at)
}

fn collect(folder: &Path, depth: usize, found: &mut Vec<std::path::PathBuf>) {
    let Ok(entries) = std::fs::read_dir(folder) else { return };
    let mut entries: Vec<_> = entries.flatten().collect();
    entries.sort_by_key(std::fs::DirEntry::file_name);
    for entry in entries {
        let (path, name) = (entry.path(), entry.file_name().to_string_lossy().into_owned());
        // No links: they may lead anywhere.
        let Ok(kind) = entry.file_type() else { continue };
        if found.len() >= MOST_FILES {
            return;
        }
        if kind.is_dir() && depth < DEEPEST && !name.starts_with('.') && !OTHERS.contains(&name.as_str()) {
            collect(&path, depth + 1, found);
        } else if kind.is_file() && name.to_lowercase().ends_with(".md") {
            found.push(path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "# Caches\n\n| what | x |\n|---|---|\n| `/no` | hit |\n\n| Route | What | Edge |\n|---|---|---|\n\
        | `/*` | pages | miss |\n| `/assets/*`, `/logo.svg` | files | **hit** |\n| `/api/*` | data | miss |\n\
        | `/api/prices` | shared | `hit` |\n| `/live` | streams | BYPASS |\n| later | | perhaps |\n\n| `/after` | x | hit |\n";

    #[test]
    fn the_line_that_says_most_of_a_path_counts() {
        let policy = Policy::read("x.md", TABLE).unwrap();
        assert_eq!(policy.lines.len(), 6);
        for (path, promise) in [
            ("/", Some(Promise::Miss)),
            ("/orders", Some(Promise::Miss)),
            ("/assets/app-1.js", Some(Promise::Hit)),
            ("/logo.svg", Some(Promise::Hit)),
            ("/api/orders?x=/assets/", Some(Promise::Miss)),
            ("/api/prices?of=2", Some(Promise::Hit)),
            ("/live", Some(Promise::Bypass)),
        ] {
            assert_eq!(policy.of(path).map(|line| line.promise), promise, "{path}");
        }
        let narrow = Policy::read("x.md", "|path|edge|\n|-|-|\n|`/a/*`|hit|").unwrap();
        assert_eq!(narrow.of("/ab"), None);
    }

    #[test]
    fn other_tables_are_no_policy() {
        for text in [
            "",
            "| route | size |\n|-|-|\n| `/a` | 3 |",
            "| edge | route |\n|-|-|\n| hit | `/a` |",
            "| route | edge |\n|-|-|\n| a | hit |",
        ] {
            assert_eq!(Policy::read("x.md", text), None, "{text}");
        }
    }

    #[test]
    fn a_document_is_found_below_the_folder() {
        let folder = std::env::temp_dir().join(format!("klar-promises-{}", std::process::id()));
        std::fs::create_dir_all(folder.join("docs")).unwrap();
        std::fs::create_dir_all(folder.join("node_modules/x")).unwrap();
        std::fs::write(folder.join("README.md"), "# A\n").unwrap();
        std::fs::write(folder.join("node_modules/x/caching.md"), TABLE).unwrap();
        assert_eq!(Policy::below(&folder), None);
        std::fs::write(folder.join("docs/caching.md"), TABLE).unwrap();
        assert_eq!(Policy::below(&folder).unwrap().from, "docs/caching.md");
        std::fs::remove_dir_all(folder).unwrap();
    }
}
