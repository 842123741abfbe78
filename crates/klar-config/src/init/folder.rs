//! What `klar init` may look at: a bounded number of small files, links not followed, other people's code passed over.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use super::InitError;
use crate::secret;
use crate::sqlite;

/// How many source files are read.
const FILES_MAX: usize = 200;
/// How much of each file is read, in bytes.
const BYTES_MAX: u64 = 256 * 1024;
/// How deep below the app's folder source files are looked for.
const DEPTH_MAX: usize = 6;
/// How many files and folders are looked at.
const ENTRIES_MAX: usize = 20_000;
/// Folders that hold other people's files, results of builds, or tests.
const SKIPPED: [&str; 20] = [
    "node_modules",
    "venv",
    "env",
    "__pycache__",
    "target",
    "vendor",
    "dist",
    "build",
    "out",
    "coverage",
    "test",
    "tests",
    "__tests__",
    "spec",
    "e2e",
    "docs",
    "examples",
    "migrations",
    "public",
    "static",
];
const SOURCES: [&str; 8] = ["js", "mjs", "cjs", "ts", "mts", "cts", "py", "tsx"];

/// A folder, and the sources in it.
pub(super) struct Folder {
    pub(super) dir: PathBuf,
    /// Sources by their path below the folder, in order.
    pub(super) sources: Vec<(PathBuf, String)>,
    /// Databases in files, below the folder.
    pub(super) sqlite: Vec<PathBuf>,
}

impl Folder {
    pub(super) fn open(dir: &Path) -> Result<Self, InitError> {
        let unreadable =
            |error: std::io::Error| InitError::Unreadable { dir: dir.to_owned(), reason: error.to_string() };
        if !fs::metadata(dir).map_err(unreadable)?.is_dir() {
            return Err(InitError::NotAFolder(dir.to_owned()));
        }
        fs::read_dir(dir).map_err(unreadable)?;
        let mut paths = BTreeSet::new();
        let mut named = BTreeSet::new();
        let mut left = ENTRIES_MAX;
        walk(dir, Path::new(""), 0, &mut left, &mut paths, &mut named);
        let mut sources = Vec::new();
        // Files near the top first: they are the app itself.
        let mut paths: Vec<PathBuf> = paths.into_iter().collect();
        paths.sort_by_key(|path| path.components().count());
        for path in paths.into_iter().take(FILES_MAX) {
            if let Some(text) = read(&dir.join(&path)) {
                sources.push((path, text));
            }
        }
        named.extend(sqlite::find(dir));
        Ok(Self { dir: dir.to_owned(), sources, sqlite: named.into_iter().collect() })
    }

    /// The text of a file, or nothing where there is none or it is too large.
    pub(super) fn text(&self, name: &str) -> Option<String> {
        read(&self.dir.join(name))
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.dir.join(name).is_file()
    }

    pub(super) fn has_dir(&self, name: &str) -> bool {
        self.dir.join(name).is_dir()
    }

    /// The first of these files that is there.
    pub(super) fn first<'a>(&self, names: &[&'a str]) -> Option<&'a str> {
        names.iter().copied().find(|name| self.has(name))
    }

    /// The source that holds `text`, by its path.
    pub(super) fn source_with(&self, text: &str) -> Option<&Path> {
        self.sources.iter().find(|(_, source)| source.contains(text)).map(|(path, _)| path.as_path())
    }

    /// The first of `names` that some source mentions as a word of its own.
    pub(super) fn mentions<'a>(&self, names: &[&'a str]) -> Option<(&'a str, &Path)> {
        names.iter().find_map(|name| {
            let found = self.sources.iter().find(|(_, source)| has_word(source, name))?;
            Some((*name, found.0.as_path()))
        })
    }

    /// The path that a source answers health checks on.
    pub(super) fn health(&self) -> Option<(String, &Path)> {
        const PATHS: [&str; 14] = [
            "/healthz",
            "/health",
            "/readyz",
            "/ready",
            "/api/healthz",
            "/api/health",
            "/_health",
            "/healthcheck",
            "/health/",
            "/healthz/",
            "/-/ping",
            "/livez",
            "/ping",
            "/status",
        ];
        for path in PATHS {
            for (file, source) in &self.sources {
                // Django writes its paths without the `/` in front.
                let django = path.ends_with('/') && file.extension().is_some_and(|end| end == "py");
                let bare = path.trim_start_matches('/');
                let quoted = ["\"", "'", "`"].iter().any(|quote| {
                    source.contains(&format!("{quote}{path}{quote}"))
                        || (django && source.contains(&format!("path({quote}{bare}{quote}")))
                });
                if quoted {
                    return Some((path.to_owned(), file));
                }
            }
        }
        None
    }

    /// The number in `listen(3000`, where nothing reads `PORT`.
    pub(super) fn fixed_port(&self) -> Option<(u16, &Path)> {
        if self.mentions(&["PORT"]).is_some() {
            return None;
        }
        self.sources.iter().find_map(|(file, source)| {
            source.match_indices("listen(").find_map(|(at, call)| {
                let rest = source[at + call.len()..].trim_start_matches(['{', ' ', '\n']);
                let rest = rest.strip_prefix("port:").unwrap_or(rest).trim_start();
                let digits: String = rest.chars().take_while(char::is_ascii_digit).take(6).collect();
                let port = digits.parse().ok().filter(|port| *port > 0)?;
                Some((port, file.as_path()))
            })
        })
    }

    /// Secrets by name that the app reads and klar does not set.
    pub(super) fn wanted_secrets(&self) -> BTreeSet<String> {
        let mut found = BTreeSet::new();
        const READS: [&str; 6] =
            ["process.env.", "process.env[", "os.environ[", "os.environ.get(", "os.getenv(", "env("];
        for (_, source) in &self.sources {
            for read in READS {
                for (at, _) in source.match_indices(read).take(64) {
                    let rest = source[at + read.len()..].trim_start_matches(['"', '\'']);
                    found.extend(variable(rest));
                }
            }
        }
        for name in [".env.example", ".env.sample", ".env.template"] {
            let text = self.text(name).unwrap_or_default();
            found.extend(text.lines().filter_map(|line| variable(line.trim_start_matches("export "))));
        }
        // Whatever value it gets, `looks_secret` goes by the name.
        found.retain(|name| {
            secret::looks_secret(name, "a value").is_some() || name.ends_with("SECRET_KEY_BASE")
        });
        found
    }
}

/// The name of a variable that `text` begins with.
pub(super) fn variable(text: &str) -> Option<String> {
    let end = text
        .find(|c: char| !(c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_'))
        .unwrap_or(text.len());
    let followed_by_letter = text[end..].starts_with(|c: char| c.is_ascii_lowercase());
    (secret::is_variable(&text[..end]) && !followed_by_letter).then(|| text[..end].to_owned())
}

fn has_word(text: &str, word: &str) -> bool {
    let part = |c: char| c.is_ascii_alphanumeric() || c == '_';
    text.match_indices(word)
        .any(|(at, _)| !text[..at].ends_with(part) && !text[at + word.len()..].starts_with(part))
}

fn read(path: &Path) -> Option<String> {
    // Before it is opened: a link may lead out of the folder, and opening a pipe waits for its other end.
    let metadata = fs::symlink_metadata(path).ok()?;
    if !metadata.is_file() || metadata.len() > BYTES_MAX {
        return None;
    }
    let mut text = String::new();
    File::open(path).ok()?.take(BYTES_MAX).read_to_string(&mut text).ok()?;
    Some(text)
}

fn walk(
    dir: &Path,
    relative: &Path,
    depth: usize,
    left: &mut usize,
    sources: &mut BTreeSet<PathBuf>,
    databases: &mut BTreeSet<PathBuf>,
) {
    let Ok(entries) = fs::read_dir(dir) else { return };
    for entry in entries.flatten() {
        if *left == 0 {
            return;
        }
        *left -= 1;
        let (name, Ok(kind)) = (entry.file_name(), entry.file_type()) else { continue };
        let below = relative.join(&name);
        let Some(name) = name.to_str() else { continue };
        if kind.is_dir() {
            let skipped = name.starts_with('.') || SKIPPED.contains(&name);
            if depth < DEPTH_MAX && !skipped {
                walk(&entry.path(), &below, depth + 1, left, sources, databases);
            }
        } else if kind.is_file() {
            let end = below.extension().and_then(|end| end.to_str()).unwrap_or_default();
            let test = name.contains(".test.") || name.contains(".spec.") || name.starts_with("test_");
            if SOURCES.contains(&end) && !test && !name.contains(".config.") {
                sources.insert(below);
            } else if matches!(end, "db" | "db3" | "sqlite" | "sqlite3") {
                databases.insert(below);
            }
        }
    }
}
