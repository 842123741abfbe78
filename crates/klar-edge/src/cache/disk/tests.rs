//! What is written is read again, as it was or not at all; and what is forgotten stays forgotten.

use std::path::PathBuf;
use std::sync::atomic::AtomicUsize;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use klar_base::upstreams::CacheRules;
use proptest::prelude::*;

use super::super::key::Selector;
use super::super::policy::{Asked, Times, judge};
use super::super::store::Written;
use super::*;

const ROOM: u64 = 8 << 20;

/// A folder that goes away with this.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("klar-disk-{}-{count}", std::process::id()));
        // Process ids come back; one that was killed leaves its folder.
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir(&path).unwrap();
        Self(path)
    }

    /// The files with records in them.
    fn segments(&self) -> Vec<PathBuf> {
        let all = (0..segments::SEGMENTS).map(|number| self.0.join(format!("{number:02}")));
        all.filter(|path| path.metadata().unwrap().len() > 0).collect()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // What is left of it is left to the system.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A tier with the memory in front of it.
struct Tier {
    disk: Arc<Disk>,
    memory: Arc<Store>,
}

fn app() -> AppKey {
    "shop.prod".parse().unwrap()
}

fn serving(release: &str) -> Serving {
    [("web".parse().unwrap(), [release.parse().unwrap()].into())].into()
}

impl Tier {
    /// Opens the folder as an edge does that is told that this release serves.
    fn open(folder: &Folder, room: u64, release: &str) -> Self {
        let tier = Self::start(folder, room);
        tier.disk.serve(&app(), 0, &serving(release));
        tier.wait("it to be read", || tier.disk.is_live.load(Ordering::SeqCst));
        tier
    }

    fn start(folder: &Folder, room: u64) -> Self {
        let (disk, memory) = (Arc::new(Disk::open(&folder.0).unwrap()), Arc::new(Store::new(64 << 20)));
        disk.start(&memory).unwrap();
        disk.resize(room);
        Self { disk, memory }
    }

    fn wait(&self, what: &str, done: impl Fn() -> bool) {
        let end = Instant::now() + Duration::from_secs(30);
        while !done() {
            assert!(Instant::now() < end, "waited in vain for {what}");
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Waits until all that was offered is written, or not.
    fn settle(&self) {
        self.wait("the writer", || {
            let state = lock(&self.disk.state);
            state.queue.is_empty() && state.writing.is_none()
        });
    }

    fn put(&self, target: &str, stored: Stored) {
        self.disk.offer(&key(target), &name(target), &Arc::new(stored), || true);
        self.settle();
    }

    /// What comes back for a request with these headers, through a memory that has nothing.
    fn get(&self, target: &str, request: &HeaderMap) -> Option<Arc<Stored>> {
        let (key, name) = (key(target), name(target));
        self.memory.remove(&key);
        let ticket = self.memory.ticket(&key);
        let place = self.disk.find(&key, &name.app, request)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let found = runtime.block_on(self.disk.bring(place, &key, ticket))?;
        assert_eq!(self.memory.find(&key, request).0.unwrap().body, found.body);
        Some(found)
    }

    fn has(&self, target: &str) -> bool {
        self.get(target, &HeaderMap::new()).is_some()
    }

    /// As a kill does: nothing more is written, and no file is closed in order.
    fn kill(self) {
        // The lock goes with the descriptors.
        let folder = self.disk;
        lock(&folder.reads).is_closing = true;
        folder.asked.notify_all();
        lock(&folder.state).queue.push_back(Job::Die);
        folder.work.notify_all();
        let ended = lock(&folder.ended).take().unwrap();
        let _ = ended.recv_timeout(Duration::from_secs(30));
    }

    fn close(self) {
        self.disk.close();
    }
}

fn key(target: &str) -> Key {
    Key::new(&app(), 0, "shop.test", target)
}

fn name(target: &str) -> Name {
    Name { app: app(), host: "shop.test".into(), target: target.into() }
}

fn map(lines: &[(&'static str, &str)]) -> HeaderMap {
    lines.iter().map(|(name, value)| (name.parse().unwrap(), HeaderValue::from_str(value).unwrap())).collect()
}

fn answer(body: impl Into<Bytes>, headers: &[(&'static str, &str)], request: &HeaderMap) -> Stored {
    let mut all = map(headers);
    all.entry("cache-control").or_insert(HeaderValue::from_static("public, max-age=600"));
    let asked = Asked::judge(&Method::GET, request, "").unwrap();
    let now = Instant::now();
    let times = Times { sent: now, received: now, date: SystemTime::now() };
    Stored {
        status: StatusCode::OK,
        facts: judge(&asked, StatusCode::OK, &all, times, &CacheRules::default()).unwrap(),
        selector: Selector::of(&all, request).unwrap(),
        headers: all,
        body: body.into(),
        tags: vec!["goods".into()],
        written: Written::default(),
    }
}

fn plain(body: impl Into<Bytes>) -> Stored {
    answer(body, &[], &HeaderMap::new())
}

const OLD: &str = "0123456789ab";
const NEW: &str = "ba9876543210";

/// An answer comes back as it was: after a kill, and after an end in order.
#[test]
fn a_restart_keeps_what_is_there() {
    for in_order in [false, true] {
        let folder = Folder::new();
        let (nb, sv) = (map(&[("accept-language", "nb")]), map(&[("accept-language", "sv")]));
        let headers = [("vary", "accept-language"), ("x", "\u{e5}"), ("link", "a"), ("etag", "\"v\"")];
        let tier = Tier::open(&folder, ROOM, OLD);
        tier.put("/", answer("norsk", &headers, &nb));
        tier.put("/", answer("svensk", &headers, &sv));
        if in_order {
            tier.close()
        } else {
            tier.kill()
        }
        let tier = Tier::open(&folder, ROOM, OLD);
        for (request, body) in [(&nb, "norsk"), (&sv, "svensk")] {
            let wanted = answer(body, &headers, request);
            let found = tier.get("/", request).unwrap();
            assert_eq!((&found.body, &found.headers), (&wanted.body, &wanted.headers));
            assert_eq!((&found.selector, &found.tags), (&wanted.selector, &wanted.tags));
            assert!(found.facts.usable(Instant::now()) > Duration::from_secs(500));
        }
        assert!(!tier.has("/") && !tier.has("/other"));
        tier.close();
    }
}

/// The files are nobody else's, and there are never more of them.
#[test]
fn files_are_private() {
    use std::os::unix::fs::PermissionsExt;
    let folder = Folder::new();
    let tier = Tier::open(&folder, ROOM, OLD);
    tier.put("/", plain("x"));
    let files: Vec<_> = std::fs::read_dir(&folder.0).unwrap().map(|file| file.unwrap()).collect();
    assert_eq!(files.len(), segments::SEGMENTS + 2);
    for file in files {
        assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600, "{file:?}");
    }
    tier.close();
    std::fs::remove_file(folder.0.join("07")).unwrap();
    std::os::unix::fs::symlink("/etc/hostname", folder.0.join("07")).unwrap();
    let refused = Disk::open(&folder.0).unwrap_err().to_string();
    assert!(refused.contains("/07: "), "{refused}");
}

/// What each way of forgetting takes with it, now and after a kill right behind it.
#[test]
fn forgotten_is_forgotten() {
    for (what, left) in [
        (Some(Purge::All), &[][..]),
        (Some(Purge::Url("/a".into())), &["/a/b", "/c"]),
        (Some(Purge::Prefix("/a".into())), &["/c"]),
        (Some(Purge::Tag("goods".into())), &[]),
        (Some(Purge::Tag("good".into())), &["/a", "/a/b", "/c"]),
        (None, &["/a", "/c"]),
    ] {
        let folder = Folder::new();
        let tier = Tier::open(&folder, ROOM, OLD);
        let all = ["/a", "/a/b", "/c"];
        all.iter().for_each(|target| tier.put(target, plain(*target)));
        match &what {
            Some(what) => {
                assert!(tier.disk.purge(&"desk.prod".parse().unwrap(), what).is_empty());
                assert_eq!(tier.disk.purge(&app(), what).len(), all.len() - left.len(), "{what:?}");
            }
            None => {
                let written = tier.disk.forget(&key("/a/b"), &name("/a/b")).unwrap();
                assert!(!tier.has("/a/b"), "at once");
                written.blocking_recv().unwrap();
                assert!(tier.disk.forget(&key("/none"), &name("/none")).is_none());
            }
        }
        for is_after in [false, true] {
            if is_after {
                // What is put in later stays.
                tier.put("/later", plain("later"));
            }
            for target in all {
                assert_eq!(tier.has(target), left.contains(&target), "{what:?} {target} {is_after}");
            }
        }
        tier.kill();
        let tier = Tier::open(&folder, ROOM, OLD);
        for target in all {
            assert_eq!(tier.has(target), left.contains(&target), "{what:?} {target} after a kill");
        }
        assert!(tier.has("/later"));
        tier.close();
    }
}

/// What is forgotten while it waits to be written, or while an earlier edge's answers are read, does not come back.
#[test]
fn forgotten_before_it_is_there() {
    let folder = Folder::new();
    let tier = Tier::open(&folder, ROOM, OLD);
    ["/a", "/b"].iter().for_each(|target| tier.put(target, plain(*target)));
    tier.disk.offer(&key("/c"), &name("/c"), &Arc::new(plain("c")), || false);
    for _ in 0..100 {
        tier.disk.offer(&key("/d"), &name("/d"), &Arc::new(plain("d")), || true);
        tier.disk.forget(&key("/d"), &name("/d"));
        tier.disk.offer(&key("/e"), &name("/e"), &Arc::new(plain("e")), || true);
        tier.disk.purge(&app(), &Purge::Url("/e".into()));
    }
    tier.settle();
    assert!(!tier.has("/c") && !tier.has("/d") && !tier.has("/e"));
    tier.kill();
    let tier = Tier::start(&folder, ROOM);
    tier.disk.serve(&app(), 0, &serving(OLD));
    tier.disk.forget(&key("/a"), &name("/a"));
    tier.wait("it to be read", || tier.disk.is_live.load(Ordering::SeqCst));
    tier.settle();
    assert!(!tier.has("/a") && tier.has("/b") && !tier.has("/d") && !tier.has("/e"));
    tier.close();
}

/// Another release, before or after a restart, finds nothing, and nor does who was asked before.
#[test]
fn releases_share_nothing() {
    let folder = Folder::new();
    let tier = Tier::open(&folder, ROOM, OLD);
    tier.put("/", plain("old"));
    tier.disk.serve(&app(), 1, &serving(NEW));
    assert!(!tier.has("/"));
    tier.put("/late", plain("asked of the old one"));
    let later = Key::new(&app(), 1, "shop.test", "/late");
    assert!(tier.disk.find(&later, &name("/late").app, &HeaderMap::new()).is_none());
    tier.disk.serve(&app(), 2, &serving(OLD));
    tier.kill();
    let tier = Tier::open(&folder, ROOM, OLD);
    assert!(!tier.has("/"), "a rollback does not bring it back");
    tier.put("/", plain("again"));
    tier.kill();
    let tier = Tier::open(&folder, ROOM, NEW);
    assert!(!tier.has("/"), "a deploy that this edge did not see");
    tier.close();
}

/// What is forgotten while an earlier edge's answers are read, and nobody knows yet whether they will be used, is not
/// among them afterwards.
#[test]
fn forgotten_while_it_is_read() {
    for purges in [false, true] {
        let folder = Folder::new();
        let tier = Tier::open(&folder, ROOM, OLD);
        (0..300).for_each(|number| tier.put(&format!("/{number}"), plain("old")));
        tier.kill();
        let tier = Tier::start(&folder, ROOM);
        // No instance of the old release is up yet, but something has changed.
        tier.disk.serve(&app(), 0, &[("web".parse().unwrap(), [].into())].into());
        if purges {
            tier.disk.purge(&app(), &Purge::Url("/299".into()));
        } else {
            tier.disk.forget(&key("/299"), &name("/299"));
        }
        tier.disk.serve(&app(), 0, &serving(OLD));
        tier.wait("it to be read", || tier.disk.is_live.load(Ordering::SeqCst));
        assert!(!tier.has("/299") && tier.has("/298"), "{purges}");
        tier.kill();
        let tier = Tier::open(&folder, ROOM, OLD);
        assert!(!tier.has("/299") && tier.has("/298"), "{purges}");
        tier.close();
    }
}

/// However the files were damaged, what comes back is what was written, or nothing.
#[test]
fn torn_files_give_nothing_wrong() {
    proptest!(ProptestConfig::with_cases(40), |(
        at in 0.0_f64..1.0, damage in 0_u8..4, byte: u8, lengths in prop::collection::vec(0_usize..3000, 1..12),
    )| {
        let folder = Folder::new();
        let tier = Tier::open(&folder, ROOM, OLD);
        let body = |number: usize, length: usize| format!("{number}").repeat(length + 1);
        for (number, length) in lengths.iter().enumerate() {
            tier.put(&format!("/{number}"), plain(body(number, *length)));
        }
        tier.kill();
        let path = folder.segments().pop().unwrap();
        let mut bytes = std::fs::read(&path).unwrap();
        let at = (at * (bytes.len() - 1) as f64) as usize;
        match damage {
            0 => bytes.truncate(at),
            1 => bytes[at] ^= byte | 1,
            2 => bytes[at..].fill(byte),
            _ => bytes.extend(std::iter::repeat_n(byte, at)),
        }
        std::fs::write(&path, &bytes).unwrap();
        let tier = Tier::open(&folder, ROOM, OLD);
        for (number, length) in lengths.iter().enumerate() {
            if let Some(found) = tier.get(&format!("/{number}"), &HeaderMap::new()) {
                let wanted = body(number, *length);
                prop_assert_eq!(&found.body[..], wanted.as_bytes());
            }
        }
        // And it goes on behind that.
        tier.put("/new", plain("new"));
        tier.kill();
        let tier = Tier::open(&folder, ROOM, OLD);
        prop_assert!(tier.has("/new"));
        tier.close();
    });
}

/// Files of another store, of another run of the machine, or from an edge that was killed while it read them.
#[test]
fn what_is_not_believed() {
    let (folder, other) = (Folder::new(), Folder::new());
    let write = |folder: &Folder| {
        let tier = Tier::open(folder, ROOM, OLD);
        tier.put("/", plain("x"));
        tier.kill();
    };
    write(&folder);
    write(&other);
    std::fs::copy(&other.segments()[0], &folder.segments()[0]).unwrap();
    let tier = Tier::open(&folder, ROOM, OLD);
    assert!(!tier.has("/"), "of another store");
    tier.put("/", plain("x"));
    tier.kill();
    drop(Disk::open(&folder.0).unwrap());
    let tier = Tier::open(&folder, ROOM, OLD);
    assert!(!tier.has("/"), "the last edge did not get to read it");
    tier.close();
}

/// It takes no more of the disk than it may, keeps what came last, and gives all back when it is switched off.
#[test]
fn room_has_an_end() {
    let folder = Folder::new();
    let used = || folder.segments().iter().map(|path| path.metadata().unwrap().len()).sum::<u64>();
    let room = 1 << 20;
    let tier = Tier::open(&folder, room, OLD);
    for number in 0..300 {
        tier.put(&format!("/{number}"), plain(vec![b'x'; 10_000]));
        assert!(used() <= room);
    }
    assert!(tier.has("/299") && tier.has("/250") && !tier.has("/0"));
    tier.put("/large", plain(vec![b'x'; 40_000]));
    assert!(!tier.has("/large"), "longer than a segment");
    tier.disk.resize(room / 2);
    tier.settle();
    tier.put("/small", plain("x"));
    assert!(used() <= room / 2 && tier.has("/small"), "{}", used());
    tier.kill();
    let tier = Tier::open(&folder, room / 2, OLD);
    assert!(tier.has("/small"));
    tier.disk.resize(0);
    tier.settle();
    tier.wait("the files to be emptied", || used() == 0);
    tier.put("/off", plain("x"));
    assert!(!tier.has("/off") && !tier.has("/small"));
    tier.close();
}

/// What is of use for a moment only is not written, and takes the place of what was.
#[test]
fn what_is_not_worth_it() {
    let folder = Folder::new();
    let tier = Tier::open(&folder, ROOM, OLD);
    let short = || answer("short", &[("cache-control", "max-age=5")], &HeaderMap::new());
    tier.put("/a", short());
    assert!(!tier.has("/a"));
    tier.put("/b", plain("long"));
    assert!(tier.has("/b"));
    tier.put("/b", short());
    assert!(!tier.has("/b"), "what is there has been replaced");
    tier.put("/c", plain("one"));
    tier.put("/c", plain("two"));
    assert_eq!(tier.get("/c", &HeaderMap::new()).unwrap().body, "two");
    tier.kill();
    let tier = Tier::open(&folder, ROOM, OLD);
    assert!(!tier.has("/b"));
    assert_eq!(tier.get("/c", &HeaderMap::new()).unwrap().body, "two");
    tier.close();
}

/// Two edges for one folder: the later one has no part in it until the earlier one has gone, and believes nothing then.
#[test]
fn one_edge_at_a_time() {
    let folder = Folder::new();
    let first = Tier::open(&folder, ROOM, OLD);
    first.put("/", plain("x"));
    let second = Tier::start(&folder, ROOM);
    second.disk.serve(&app(), 0, &serving(OLD));
    second.disk.offer(&key("/second"), &name("/second"), &Arc::new(plain("x")), || true);
    assert!(first.has("/") && !second.has("/second") && !second.disk.is_live.load(Ordering::SeqCst));
    first.kill();
    second.wait("its turn", || second.disk.is_live.load(Ordering::SeqCst));
    assert!(!second.has("/"));
    second.put("/second", plain("x"));
    assert!(second.has("/second"));
    second.close();
}

/// More notes than can wait cost everything, never a wrong answer.
#[test]
fn too_many_notes() {
    let folder = Folder::new();
    let tier = Tier::open(&folder, ROOM, OLD);
    tier.put("/", plain("x"));
    {
        let mut state = lock(&tier.disk.state);
        for _ in 0..=NOTES_MAX {
            state.note(Job::Forget { key: [0; 32], done: Done::Nobody });
        }
        assert!(state.queue.len() <= 3, "{}", state.queue.len());
        tier.disk.work.notify_all();
    }
    tier.settle();
    assert!(!tier.has("/"));
    tier.put("/", plain("y"));
    tier.kill();
    let tier = Tier::open(&folder, ROOM, OLD);
    assert_eq!(tier.get("/", &HeaderMap::new()).unwrap().body, "y");
    tier.close();
}
