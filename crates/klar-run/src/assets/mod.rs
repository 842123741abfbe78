//! What is made of a release's static files before the first visitor asks: compressed copies, at levels that nobody
//! could wait for; and, where `klar.toml` wants it, smaller files, the links of pages, and a service worker.
//!
//! It is made once, in a process of its own (`klar assets`) that is nice to everything else and may write nowhere but
//! into the folder of its results. What it makes lies beside the release, where neither the app nor an address leads:
//!
//! ```text
//! releases/ID/files/               the release, as it was built
//! releases/ID/assets/SERVICE/      of one static folder:
//!     plain/PATH                   what is sent in place of the file: minified, or klar's own
//!     br, zstd, gzip/PATH          the same, compressed
//!     link/PATH                    the `Link` header of a page
//!     whole.json                   what was made of which content; written last: without it nothing is served
//! ```
//!
//! A file that is the same as in the release before is not compressed again, but copied from there. A deploy does not
//! wait longer than [`PATIENCE`] for all of it: what is not ready by then is compressed by the edge as it is asked for,
//! and made when the next release comes.

mod links;
mod minify;
mod pack;
mod pinned;
mod walk;
pub mod worker;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::durable;
use minify::Minified;
use pack::Coding;
use pinned::Pinned;
use walk::Entry;
use worker::Worker;

/// How long a deploy waits for all of it.
pub const PATIENCE: Duration = Duration::from_secs(20);
/// The file that says that a folder is whole.
pub const WHOLE: &str = "whole.json";
/// What was made by another version of this is made anew.
const VERSION: u32 = 1;
/// Larger pages are not looked into, in bytes; and of more pages than this, only the first.
const PAGE_MAX: u64 = 1 << 20;
const PAGES_MAX: usize = 2000;
/// The longest plan, in bytes.
const PLAN_MAX: u64 = 4 << 20;
/// The address space of the process, in bytes: four threads with the widest window of Brotli need less than half of it.
const MEMORY_MAX: u64 = 4 << 30;
/// More threads than this gain little, and the app of the old release needs the processor too.
const THREADS_MAX: usize = 4;

/// What is to be done for a release.
#[derive(Debug, Serialize, Deserialize)]
pub struct Plan {
    /// One for each static folder.
    pub tasks: Vec<Task>,
    /// Nothing is begun after so long, in milliseconds.
    pub patience_ms: u64,
}

/// What is to be done for a static folder.
#[derive(Debug, Serialize, Deserialize)]
pub struct Task {
    /// The service that it belongs to.
    pub service: String,
    /// The folder.
    pub folder: PathBuf,
    /// Where the results go. It is made anew.
    pub out: PathBuf,
    /// The results for the release before.
    pub before: Option<PathBuf>,
    /// What leads to the folder in addresses, without a slash at its end. `None`: no address leads to all of it.
    pub base: Option<String>,
    /// Style sheets, pages, drawings and JSON are made smaller.
    pub minify: bool,
    /// Pages get a `Link` header for what they need at once.
    pub links: bool,
    /// The service worker. `None`: there is none, unless the release before had one, which is then taken back.
    pub worker: Option<Worker>,
}

/// What was done for a static folder.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Done {
    /// The service that it belongs to.
    pub service: String,
    /// Files that have a compressed copy, or more than one.
    pub files: u64,
    /// What they take, in bytes.
    pub bytes: u64,
    /// What the smallest copy of each takes, in bytes.
    pub packed_bytes: u64,
    /// Files that were made smaller before they were compressed.
    pub minified: u64,
    /// Files whose copies are those of the release before.
    pub reused: u64,
    /// Files that there was no time for.
    pub left: u64,
    /// What the team should know.
    pub notes: Vec<String>,
}

/// What [`WHOLE`] says.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Whole {
    version: u32,
    /// By path.
    files: BTreeMap<String, Made>,
}

/// What was made of a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Made {
    /// SHA-256 of the file, in hex digits.
    digest: String,
    /// Whether it was to be minified, and whether that made it smaller.
    tried: bool,
    smaller: bool,
    /// Which copies there are. One that is missing would not have been smaller.
    codings: Vec<Coding>,
}

/// Does what a plan says, on all cores but with the lowest priority.
///
/// # Errors
/// Names the folder that could not be read or written. What cannot be read is left out, and said.
pub fn run(plan: &Plan) -> io::Result<Vec<Done>> {
    let end = Instant::now() + Duration::from_millis(plan.patience_ms);
    plan.tasks.iter().map(|task| Work::of(task, end)?.run()).collect()
}

/// Reads a plan, does it, and says what was done: the process of its own. Nothing but `out` is written to.
///
/// # Errors
/// When there is no plan, or as [`run`].
pub fn serve(out: &Path, plan: impl io::Read, mut said: impl io::Write) -> io::Result<()> {
    yield_to_all();
    // A core that was killed has nobody left to tell.
    nix::sys::prctl::set_pdeathsig(nix::sys::signal::Signal::SIGKILL)?;
    nix::sys::resource::setrlimit(nix::sys::resource::Resource::RLIMIT_AS, MEMORY_MAX, MEMORY_MAX)?;
    let mut text = Vec::new();
    plan.take(PLAN_MAX).read_to_end(&mut text)?;
    let plan: Plan = serde_json::from_slice(&text)?;
    let rules = crate::sandbox::only_writes_beneath(&[out.to_owned()]).map_err(io::Error::other)?;
    rules.restrict_self().map_err(io::Error::other)?;
    serde_json::to_writer(&mut said, &run(&plan)?)?;
    said.flush()
}

/// What serves visitors, and what starts now, goes first.
fn yield_to_all() {
    // SAFETY: a plain system call about this process; a kernel that refuses leaves things as they are.
    #[allow(unsafe_code)]
    unsafe {
        libc::setpriority(libc::PRIO_PROCESS, 0, 19);
    }
}

/// One task, while it is done.
struct Work<'a> {
    task: &'a Task,
    end: Instant,
    files: Vec<Entry>,
    /// What there is from the release before, by digest and whether it was to be minified.
    before: HashMap<(String, bool), (String, Made)>,
    /// What must not be minified, and whether white space in pages must not. `None`: nothing is minified.
    pinned: Option<Pinned>,
}

/// What came of one file.
struct Outcome {
    made: Made,
    bytes: u64,
    packed: u64,
    reused: bool,
    note: Option<String>,
    /// There was no time for all of its copies.
    left: bool,
}

impl<'a> Work<'a> {
    fn of(task: &'a Task, end: Instant) -> io::Result<Self> {
        let named =
            |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", task.folder.display()));
        let files = walk::files(&task.folder).map_err(named)?;
        let before = task.before.as_deref().map(known).unwrap_or_default();
        let pinned = task.minify.then(|| Pinned::of(&task.folder, &files));
        Ok(Self { task, end, files, before, pinned })
    }

    fn run(self) -> io::Result<Done> {
        let named =
            |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", self.task.out.display()));
        match fs::remove_dir_all(&self.task.out) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(named(error)),
            _ => fs::create_dir_all(&self.task.out).map_err(named)?,
        }
        let (next, made) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        std::thread::scope(|scope| {
            for _ in 0..cores.min(THREADS_MAX) {
                scope.spawn(|| {
                    while let Some(file) = self.files.get(next.fetch_add(1, Ordering::Relaxed)) {
                        let outcome = self.file(file);
                        made.lock().unwrap_or_else(PoisonError::into_inner).push((file, outcome));
                    }
                });
            }
        });
        let mut done = Done { service: self.task.service.clone(), ..Done::default() };
        self.add_links()?;
        self.add_worker(&mut done)?;
        let mut whole = Whole { version: VERSION, files: BTreeMap::new() };
        for (file, outcome) in made.into_inner().unwrap_or_else(PoisonError::into_inner) {
            match outcome {
                Ok(Some(outcome)) => {
                    done.left += u64::from(outcome.left);
                    done.reused += u64::from(outcome.reused);
                    done.minified += u64::from(outcome.made.smaller);
                    let is_known = !outcome.left && outcome.note.is_none();
                    done.notes.extend(outcome.note.map(|note| format!("{}: {note}", file.path)));
                    if !outcome.made.codings.is_empty() {
                        done.files += 1;
                        done.bytes += outcome.bytes;
                        done.packed_bytes += outcome.packed;
                    }
                    // What is not finished is begun anew the next time, and what is wrong is said again.
                    if is_known {
                        whole.files.insert(file.path.clone(), outcome.made);
                    }
                }
                Ok(None) => {}
                Err(error) => done.notes.push(format!("{}: {error}", file.path)),
            }
        }
        done.notes.sort();
        durable::write_json(&self.task.out.join(WHOLE), &whole)?;
        Ok(done)
    }

    /// `None`: it is left as it is.
    fn file(&self, file: &Entry) -> io::Result<Option<Outcome>> {
        let packs = file.packs();
        let minifies = self.pinned.is_some() && minify::knows(&file.path) && file.length <= walk::FILE_MAX;
        if !packs && !minifies {
            return Ok(None);
        }
        let mut content = fs::read(self.task.folder.join(&file.path))?;
        let digest = hex(&Sha256::digest(&content));
        let tried = minifies && self.pinned.as_ref().is_some_and(|pinned| pinned.is_free(file, &content));
        if let Some((path, made)) = self.before.get(&(digest.clone(), tried))
            && let Some(packed) = self.copy(path, made, &file.path)
        {
            let bytes = content.len() as u64;
            return Ok(Some(Outcome {
                made: made.clone(),
                bytes,
                packed,
                reused: true,
                note: None,
                left: false,
            }));
        }
        let mut made = Made { digest, tried, smaller: false, codings: Vec::new() };
        let mut note = None;
        if let Some(pinned) = self.pinned.as_ref().filter(|_| tried) {
            match std::str::from_utf8(&content)
                .map(|text| minify::minify(&file.path, text, pinned.keeps_spaces))
            {
                Ok(Minified::Smaller(smaller)) => {
                    made.smaller = true;
                    content = smaller.into_bytes();
                    self.write("plain", &file.path, &content)?;
                }
                Ok(Minified::Same) => {}
                Ok(Minified::Broken(why)) => note = Some(format!("not minified: {why}")),
                Err(_) => note = Some("not minified: it is not UTF-8".into()),
            }
        }
        let bytes = content.len() as u64;
        let (mut packed, mut left) = (bytes, false);
        for coding in Coding::ALL.into_iter().filter(|_| packs) {
            // Somebody who compresses by themselves knows better.
            if file.has_copy(coding) {
                continue;
            }
            if Instant::now() >= self.end {
                left = true;
                break;
            }
            if let Some(copy) = pack::pack(coding, &content)? {
                self.write(coding.folder(), &file.path, &copy)?;
                made.codings.push(coding);
                packed = packed.min(copy.len() as u64);
            }
        }
        Ok(Some(Outcome { made, bytes, packed, reused: false, note, left }))
    }

    /// What visitors get when they ask for a file without any coding.
    fn served(&self, path: &str) -> io::Result<Vec<u8>> {
        match fs::read(self.task.out.join("plain").join(path)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => fs::read(self.task.folder.join(path)),
            read => read,
        }
    }

    /// Writes the `Link` headers of pages.
    fn add_links(&self) -> io::Result<()> {
        let Some(base) = self.task.base.as_deref().filter(|_| self.task.links) else { return Ok(()) };
        let there: HashSet<&str> = self.files.iter().map(|file| file.path.as_str()).collect();
        let pages = self.files.iter().filter(|file| file.is_page() && file.length <= PAGE_MAX);
        for page in pages.take(PAGES_MAX) {
            let content = self.served(&page.path)?;
            let Ok(text) = std::str::from_utf8(&content) else { continue };
            if let Some(header) = links::of_page(text, &page.path, base, &|path| there.contains(path)) {
                self.write("link", &page.path, header.as_bytes())?;
            }
        }
        Ok(())
    }

    /// Writes the service worker and the script that registers it.
    fn add_worker(&self, done: &mut Done) -> io::Result<()> {
        let had = self
            .task
            .before
            .as_ref()
            .is_some_and(|before| before.join("plain").join(worker::WORKER).exists());
        // Browsers that have one ask for it for as long as they keep it.
        let off = had.then_some(Worker::Off);
        let Some(wanted) = self.task.worker.clone().or(off) else { return Ok(()) };
        let Some(base) = self.task.base.as_deref() else {
            done.notes
                .push("no service worker: no route leads to the whole folder (`/*` or `/NAME/*`)".into());
            return Ok(());
        };
        for name in [worker::WORKER, worker::REGISTER] {
            if self.files.iter().any(|file| file.path == name) {
                done.notes.push(format!("no service worker of klar's: the folder has a `{name}` of its own"));
                return Ok(());
            }
        }
        let (mut first, mut kept) = (Vec::new(), Vec::new());
        if matches!(wanted, Worker::On { .. }) {
            let index = self.served("index.html").ok().and_then(|content| String::from_utf8(content).ok());
            let Some(index) = index else {
                done.notes.push("no service worker: there is no `index.html`".into());
                return Ok(());
            };
            first = links::files_of(&index, "index.html", base);
            for file in self.files.iter().filter(|file| worker::may_keep(&file.path, &first, file.length)) {
                let content = self.served(&file.path)?;
                let digest = hex(&Sha256::digest(&content));
                kept.push(worker::File { path: file.path.clone(), length: content.len() as u64, digest });
            }
        }
        if matches!(wanted, Worker::On { .. }) {
            // A page that opens without a network asks for this one, too.
            first.push(worker::REGISTER.into());
            let script = worker::register(&wanted).as_bytes();
            let (length, digest) = (script.len() as u64, hex(&Sha256::digest(script)));
            kept.push(worker::File { path: worker::REGISTER.into(), length, digest });
        }
        for (path, script) in worker::scripts(&wanted, &first, &kept) {
            self.write("plain", path, script.as_bytes())?;
            for coding in Coding::ALL {
                if let Some(copy) = pack::pack(coding, script.as_bytes())? {
                    self.write(coding.folder(), path, &copy)?;
                }
            }
        }
        Ok(())
    }

    /// Takes over what was made of the same content for the release before; gives the size of the smallest copy.
    /// `None`: it is not there any more.
    fn copy(&self, from: &str, made: &Made, to: &str) -> Option<u64> {
        let before = self.task.before.as_deref()?;
        let mut packed = None;
        if made.smaller {
            let plain = fs::read(before.join("plain").join(from)).ok()?;
            self.write("plain", to, &plain).ok()?;
        }
        for coding in &made.codings {
            let copy = fs::read(before.join(coding.folder()).join(from)).ok()?;
            self.write(coding.folder(), to, &copy).ok()?;
            packed = Some(packed.unwrap_or(u64::MAX).min(copy.len() as u64));
        }
        Some(packed.unwrap_or(0))
    }

    fn write(&self, kind: &str, path: &str, content: &[u8]) -> io::Result<()> {
        let target = self.task.out.join(kind).join(path);
        if let Some(parent) = target.parent() {
            fs::create_dir_all(parent)?;
        }
        fs::write(target, content)
    }
}

/// What there is in the results for a release, by the digest of what it was made of.
fn known(folder: &Path) -> HashMap<(String, bool), (String, Made)> {
    // A damaged one is of no use, and does no harm.
    let whole: Option<Whole> = durable::read_json(&folder.join(WHOLE)).ok().flatten();
    let whole = whole.filter(|whole| whole.version == VERSION).unwrap_or_default();
    whole.files.into_iter().map(|(path, made)| ((made.digest.clone(), made.tried), (path, made))).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests;
