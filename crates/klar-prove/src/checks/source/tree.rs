//! The files of a source folder: what Git would commit, or what is there without the folders that tools make.

use std::fs::File;
use std::io::Read;
use std::path::{Component, Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use tokio::io::AsyncReadExt;
use tokio::process::{Child, Command};

use crate::check::{Need, Unable};
use crate::words;
use crate::words::Words;
use crate::world::World;

/// More files than this are not looked at; a check then says so.
pub const MOST_FILES: usize = 20_000;
/// Files larger than this are not sources that somebody wrote.
pub const LARGEST: u64 = 1024 * 1024;
/// All files together.
const MOST_BYTES: u64 = 256 * 1024 * 1024;
/// Folders that hold what others wrote or what was made from the sources.
const MADE: [&str; 14] = [
    ".git",
    ".hg",
    ".svn",
    "node_modules",
    "bower_components",
    "vendor",
    "target",
    "dist",
    ".venv",
    "venv",
    "__pycache__",
    ".next",
    ".nuxt",
    ".tox",
];

/// The files of a source folder.
#[derive(Debug, Clone)]
pub struct Tree {
    /// The folder.
    pub root: PathBuf,
    /// Paths below it, with `/`, in order.
    pub paths: Vec<String>,
    /// Whether it belongs to a Git checkout.
    pub git: bool,
    /// There was more than is looked at.
    pub cut: bool,
}

/// Where code begins to be about tests: what is written there never runs in production.
#[must_use]
pub fn is_test(path: &str) -> bool {
    let mut parts = path.split('/').collect::<Vec<_>>();
    let file = parts.pop().unwrap_or_default();
    let folders = [
        "test",
        "tests",
        "__tests__",
        "spec",
        "specs",
        "e2e",
        "cypress",
        "fixtures",
        "testdata",
        "__mocks__",
    ];
    let stem = file.split_once('.').map_or(file, |(stem, _)| stem);
    parts.iter().any(|part| folders.contains(&part.to_ascii_lowercase().as_str()))
        || file.contains(".test.")
        || file.contains(".spec.")
        || file.contains(".stories.")
        || stem.starts_with("test_")
        || stem.ends_with("_test")
        || stem.ends_with("_spec")
        || (stem.ends_with("Test") && file.ends_with(".php"))
        || file == "conftest.py"
}

impl Tree {
    /// The files of the world's source folder.
    ///
    /// # Errors
    /// When there is none, or it cannot be read.
    pub async fn of(world: &World) -> Result<Self, Unable> {
        let root = world.source.clone().ok_or_else(|| Unable(Need::Source.missing()))?;
        if !root.is_dir() {
            return Err(Unable(words!(
                "the source folder is not there",
                "kildekodemappen finnes ikke",
                "källkodsmappen finns inte"
            )));
        }
        let listed =
            git(&root, &["ls-files", "-z", "--cached", "--others", "--exclude-standard"], 16 << 20).await;
        let git = listed.is_ok();
        let mut paths: Vec<String> = listed
            .unwrap_or_default()
            .split(|byte| *byte == 0)
            .filter_map(|path| std::str::from_utf8(path).ok())
            // A path of a checkout is one's own, but its index is a file that anybody may have written.
            .filter(|path| !path.is_empty() && is_below(path) && !is_made(path))
            .map(str::to_owned)
            .collect();
        let mut cut = false;
        if paths.is_empty() {
            let folder = root.clone();
            let walked = tokio::task::spawn_blocking(move || walk(&folder)).await;
            (paths, cut) = walked.map_err(|why| Unable(Words::same(why.to_string())))?;
        }
        paths.sort_unstable();
        paths.dedup();
        cut |= paths.len() > MOST_FILES;
        paths.truncate(MOST_FILES);
        Ok(Self { root, paths, git, cut })
    }

    /// Reads the files that are wanted, as text, and gives each to `look` on another thread; `None` when time ran
    /// out or there was too much.
    ///
    /// `look` gets the path and the text; files that are not UTF-8 text or larger than [`LARGEST`] are left out.
    pub async fn read<T: Send + 'static>(
        &self,
        limit: Duration,
        wanted: impl Fn(&str) -> bool,
        mut look: impl FnMut(&mut T, &str, &str) + Send + 'static,
        mut seen: T,
    ) -> Result<(T, bool), Unable> {
        let root = self.root.clone();
        let paths: Vec<String> = self.paths.iter().filter(|path| wanted(path)).cloned().collect();
        let reading = tokio::task::spawn_blocking(move || {
            let end = Instant::now() + limit;
            let (mut bytes, mut whole) = (0, true);
            for path in paths {
                if Instant::now() > end || bytes > MOST_BYTES {
                    whole = false;
                    break;
                }
                if let Some(text) = text_of(&root.join(&path)) {
                    bytes += text.len() as u64;
                    look(&mut seen, &path, &text);
                }
            }
            (seen, whole)
        });
        let (seen, whole) = reading.await.map_err(|why| Unable(Words::same(why.to_string())))?;
        Ok((seen, whole && !self.cut))
    }

    /// The text of one file, if it is there and is text of a usual size.
    #[must_use]
    pub fn text(&self, path: &str) -> Option<String> {
        self.paths.binary_search_by(|each| each.as_str().cmp(path)).ok()?;
        text_of(&self.root.join(path))
    }
}

/// The text of a file: none for links, devices, binaries and what is too large.
#[must_use]
pub fn text_of(path: &Path) -> Option<String> {
    let about = std::fs::symlink_metadata(path).ok()?;
    if !about.is_file() || about.len() > LARGEST {
        return None;
    }
    let mut bytes = Vec::with_capacity(about.len() as usize);
    File::open(path).ok()?.take(LARGEST).read_to_end(&mut bytes).ok()?;
    if bytes.iter().take(8000).any(|byte| *byte == 0) {
        return None;
    }
    Some(String::from_utf8(bytes).unwrap_or_else(|why| String::from_utf8_lossy(why.as_bytes()).into_owned()))
}

fn is_below(path: &str) -> bool {
    Path::new(path).components().all(|part| matches!(part, Component::Normal(_)))
}

fn is_made(path: &str) -> bool {
    path.split('/').any(|part| part == "node_modules" || part == ".git")
}

fn walk(root: &Path) -> (Vec<String>, bool) {
    let mut found = Vec::new();
    let mut folders = vec![String::new()];
    let mut entries = 0_usize;
    while let Some(folder) = folders.pop() {
        let Ok(list) = std::fs::read_dir(root.join(&folder)) else { continue };
        for entry in list.filter_map(Result::ok) {
            entries += 1;
            if found.len() >= MOST_FILES || entries > 10 * MOST_FILES {
                return (found, true);
            }
            let Ok(name) = entry.file_name().into_string() else { continue };
            let path = if folder.is_empty() { name.clone() } else { format!("{folder}/{name}") };
            match entry.file_type() {
                Ok(kind) if kind.is_dir() && !MADE.contains(&name.as_str()) => folders.push(path),
                Ok(kind) if kind.is_file() => found.push(path),
                _ => {}
            }
        }
    }
    (found, false)
}

/// `git` in a folder that strangers may have filled: it runs no hook, no helper of the checkout, and asks nothing.
#[must_use]
pub fn git_command(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new("git");
    command
        .args(["--no-optional-locks", "--no-pager", "--literal-pathspecs"])
        .args(["-c", "core.fsmonitor=false", "-c", "core.hooksPath=/dev/null", "-c", "core.quotePath=false"])
        .args(["-c", "log.showSignature=false", "-c", "submodule.recurse=false"])
        .args(arguments)
        .current_dir(folder)
        .env("GIT_TERMINAL_PROMPT", "0")
        .env("GIT_NO_LAZY_FETCH", "1")
        .env("GIT_OPTIONAL_LOCKS", "0")
        .env("LC_ALL", "C")
        .env_remove("GIT_DIR")
        .env_remove("GIT_WORK_TREE")
        .env_remove("GIT_INDEX_FILE")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true);
    command
}

/// What a git command says, at most `most` bytes of it.
///
/// # Errors
/// When it is not there, fails, or is not done in ten seconds.
pub async fn git(folder: &Path, arguments: &[&str], most: u64) -> Result<Vec<u8>, String> {
    let mut child: Child = git_command(folder, arguments).spawn().map_err(|why| why.to_string())?;
    let Some(mut out) = child.stdout.take() else { return Err("git says nothing".to_owned()) };
    let work = async {
        let mut said = Vec::new();
        (&mut out).take(most).read_to_end(&mut said).await.map_err(|why| why.to_string())?;
        if said.len() as u64 == most {
            return Ok(said); // it has more to say than anybody wants to hear; dropping it ends it
        }
        let status = child.wait().await.map_err(|why| why.to_string())?;
        if status.success() { Ok(said) } else { Err(format!("git: {status}")) }
    };
    tokio::time::timeout(Duration::from_secs(10), work)
        .await
        .map_err(|_| "git is not done in 10 s".to_owned())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tests_are_told_from_code() {
        for (path, test) in [
            ("src/orders.js", false),
            ("src/latest.js", false),
            ("src/contest/rules.py", false),
            ("test/support.js", true),
            ("src/__tests__/a.ts", true),
            ("src/a.test.tsx", true),
            ("app/test_users.py", true),
            ("app/users_test.py", true),
            ("app/UserTest.php", true),
            ("attest.php", false),
        ] {
            assert_eq!(is_test(path), test, "{path}");
        }
    }

    #[test]
    fn a_path_that_leaves_the_folder_is_not_read() {
        assert!(is_below("a/b.js"));
        assert!(!is_below("../b.js"));
        assert!(!is_below("/etc/passwd"));
    }
}
