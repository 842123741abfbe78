//! The service worker of a static folder, and the script that registers it.
//!
//! What it keeps: the files that `index.html` names in its head, then every script, style and font whose name carries a
//! hash, the small before the large, within [`BYTES_MAX`]. The page of a release and its files stay together: what the
//! network gives goes before what is kept, but for files whose name says what is in them.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// The name of the worker, as seen from the folder.
pub const WORKER: &str = "klar-worker.js";
/// The name of the script that registers it.
pub const REGISTER: &str = "klar-worker-register.js";
/// What a worker keeps at most, in bytes and in files: it is fetched by everybody who comes once.
const BYTES_MAX: u64 = 4 << 20;
const FILES_MAX: usize = 200;
/// What pages of a release load later, by the endings of their names.
const LATER: [&str; 4] = [".js", ".mjs", ".css", ".woff2"];

/// What a worker is to know of the app.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "snake_case")]
pub enum Worker {
    /// It keeps the shell.
    On {
        /// The patterns of routes that lead elsewhere.
        elsewhere: Vec<String>,
        /// Every page is the index.
        spa: bool,
    },
    /// It takes itself out of the browsers that have it.
    Off,
}

/// A file that could be kept.
#[derive(Debug, Clone)]
pub struct File {
    /// As seen from the folder.
    pub path: String,
    /// In bytes.
    pub length: u64,
    /// SHA-256 of what visitors get, in hex digits.
    pub digest: String,
}

/// The script that registers the worker, or takes it out of the browser.
pub fn register(worker: &Worker) -> &'static str {
    match worker {
        Worker::On { .. } => include_str!("register.js"),
        Worker::Off => include_str!("register_off.js"),
    }
}

/// The worker and the script that registers it: (path, content).
pub fn scripts(worker: &Worker, first: &[String], files: &[File]) -> [(&'static str, String); 2] {
    let Worker::On { elsewhere, spa } = worker else {
        return [(WORKER, include_str!("worker_off.js").to_owned()), (REGISTER, register(worker).to_owned())];
    };
    let list: Vec<_> = kept(first, files)
        .into_iter()
        .map(|file| {
            // A path in an address, as the browser has it.
            let path: String = file.path.chars().map(escaped).collect();
            (path, file.digest.chars().take(24).collect::<String>(), u8::from(is_hashed(&file.path)))
        })
        .collect();
    let json = |value: &dyn Fn() -> serde_json::Result<String>| value().unwrap_or_else(|_| "[]".into());
    let (files, elsewhere) =
        (json(&|| serde_json::to_string(&list)), json(&|| serde_json::to_string(elsewhere)));
    let digest = Sha256::digest(format!("{files}{elsewhere}{spa}"));
    let release: String = digest[..8].iter().map(|byte| format!("{byte:02x}")).collect();
    let script = include_str!("worker.js")
        .replace("__RELEASE__", &format!("'{release}'"))
        .replace("__ELSEWHERE__", &elsewhere)
        .replace("__SPA__", if *spa { "true" } else { "false" })
        .replace("__FILES__", &files);
    [(WORKER, script), (REGISTER, register(worker).to_owned())]
}

/// Whether a file of so many bytes may be kept; `first` is what the index needs at once.
pub fn may_keep(path: &str, first: &[String], length: u64) -> bool {
    let is_first = path == "index.html" || first.iter().any(|known| known == path);
    length <= BYTES_MAX
        && (is_first || (is_hashed(path) && LATER.iter().any(|ending| path.ends_with(ending))))
}

/// What a worker keeps: the index and what it needs first, in any case that has room.
fn kept<'a>(first: &[String], files: &'a [File]) -> Vec<&'a File> {
    let is_first = |file: &File| file.path == "index.html" || first.contains(&file.path);
    let mut order: Vec<&File> =
        files.iter().filter(|file| may_keep(&file.path, first, file.length)).collect();
    order.sort_by_key(|file| (!is_first(file), file.length));
    let mut room = BYTES_MAX;
    order.retain(|file| {
        let fits = file.length <= room;
        room -= if fits { file.length } else { 0 };
        fits
    });
    order.truncate(FILES_MAX);
    order.sort_by(|one, other| one.path.cmp(&other.path));
    order
}

fn escaped(char: char) -> String {
    if char.is_ascii_alphanumeric() || "-_.~/!$'()*+,;=:@".contains(char) {
        return char.to_string();
    }
    let mut bytes = [0; 4];
    char.encode_utf8(&mut bytes).bytes().map(|byte| format!("%{byte:02X}")).collect()
}

/// Whether a name has a digest of its content in it. The edge has the same rule for what may be kept for good.
fn is_hashed(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or_default();
    let Some((stem, _)) = name.rsplit_once('.') else { return false };
    let Some(digest) = stem.rsplit(['-', '.']).next().filter(|digest| digest.len() < stem.len()) else {
        return false;
    };
    digest.len() >= 8
        && digest.chars().all(|char| char.is_ascii_alphanumeric() || char == '_')
        && digest.contains(|char: char| char.is_ascii_digit())
        && digest.contains(|char: char| char.is_ascii_alphabetic())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &str, length: u64) -> File {
        File { path: path.into(), length, digest: "0123456789abcdef".repeat(4) }
    }

    fn on(elsewhere: &[&str]) -> Worker {
        Worker::On { elsewhere: elsewhere.iter().map(ToString::to_string).collect(), spa: true }
    }

    #[test]
    fn the_index_and_what_it_needs_come_first() {
        let files = [
            file("index.html", 1000),
            file("style.css", 1000),
            file("assets/app-3fa9c1d2.js", 1000),
            file("assets/list-9f8e7d6c.js", 1000),
            file("assets/huge-1f8e7d6c.js", BYTES_MAX),
            file("assets/photo-1f8e7d6c.jpg", 1000),
            file("about.html", 1000),
            file("other.js", 1000),
        ];
        let first = ["style.css".to_owned(), "missing.css".to_owned()];
        let kept: Vec<&str> = kept(&first, &files).into_iter().map(|file| file.path.as_str()).collect();
        assert_eq!(kept, ["assets/app-3fa9c1d2.js", "assets/list-9f8e7d6c.js", "index.html", "style.css"]);
    }

    #[test]
    fn another_release_is_another_worker_and_the_same_one_is_the_same() {
        let worker = |files: &[File], elsewhere: &[&str]| scripts(&on(elsewhere), &[], files)[0].1.clone();
        let (one, mut other) = (file("index.html", 10), file("index.html", 10));
        other.digest = "f".repeat(64);
        let base = worker(std::slice::from_ref(&one), &["/api/*"]);
        assert_eq!(base, worker(std::slice::from_ref(&one), &["/api/*"]));
        assert_ne!(base, worker(&[other], &["/api/*"]));
        assert_ne!(base, worker(std::slice::from_ref(&one), &["/v2/*"]));
        assert_ne!(base, worker(&[one, file("a-12345abc.js", 1)], &["/api/*"]));
        assert!(!base.contains("__"), "nothing is left open");
    }

    #[test]
    fn the_switch_has_no_ear_for_requests() {
        let [(name, off), (_, register)] = scripts(&Worker::Off, &[], &[file("index.html", 10)]);
        assert_eq!(name, "klar-worker.js");
        assert!(off.contains("unregister()") && !off.contains("'fetch'"));
        assert!(!register.contains(".register("));
    }

    #[test]
    fn paths_are_written_as_in_addresses() {
        let path: String = "a b/\u{e5}-(1)#?.js".chars().map(escaped).collect();
        assert_eq!(path, "a%20b/%C3%A5-(1)%23%3F.js");
    }
}
