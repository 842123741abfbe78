//! Files of an app, kept and brought back.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::sync::atomic::AtomicUsize;

use super::*;

struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("klar-files-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(folder.join("app")).unwrap();
        Self(folder)
    }

    fn app(&self) -> PathBuf {
        self.0.join("app")
    }

    /// A keeper whose hand reads the app's folder in a thread, and breaks off after so many bytes where that is said.
    fn keeper(&self, breaks_off: Option<usize>) -> Inner {
        self.opened(breaks_off).unwrap()
    }

    fn opened(&self, breaks_off: Option<usize>) -> Result<Inner, KeepError> {
        let app = self.app();
        let hand = move || {
            let (here, there) = UnixStream::pair()?;
            let app = app.clone();
            std::thread::spawn(move || match breaks_off {
                None => drop(reader::read(&app, there)),
                Some(bytes) => drop(reader::read(&app, Short(there, bytes))),
            });
            Ok(here)
        };
        let settings = Settings {
            name: "files".parse().unwrap(),
            home: self.0.join("keep"),
            host: "test".into(),
            second_name: "shop.prod/files".into(),
        };
        let wishes = Wishes { at: (2, 0), days: 7, second: None };
        Inner::open(settings, wishes, Source::Folders(Box::new(hand)), Box::new(|_| {}))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Takes so many bytes and then no more.
struct Short(UnixStream, usize);

impl io::Write for Short {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.1 == 0 {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        let taken = self.0.write(&bytes[..bytes.len().min(self.1)])?;
        self.1 -= taken;
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// Paths, permissions and contents.
fn all_of(folder: &Path) -> BTreeMap<PathBuf, (u32, Vec<u8>)> {
    let mut all = BTreeMap::new();
    walk::walk(folder, &mut |path, there, metadata| {
        let content = if metadata.is_symlink() {
            fs::read_link(there)?.into_os_string().into_encoded_bytes()
        } else if metadata.is_dir() {
            Vec::new()
        } else {
            fs::read(there)?
        };
        all.insert(path.to_owned(), (metadata.permissions().mode(), content));
        Ok(())
    })
    .unwrap();
    all
}

fn some_files(app: &Path) {
    let long = "long name ".repeat(20);
    fs::create_dir_all(app.join("uploads/a \"folder\"").join(&long)).unwrap();
    for name in [&b"plain.txt"[..], b"back\\slash", b"new\nline", b"latin \xe5", "smørbrød.pdf".as_bytes()]
    {
        fs::write(app.join("uploads/a \"folder\"").join(OsStr::from_bytes(name)), name).unwrap();
    }
    fs::write(app.join("uploads/a \"folder\"").join(&long).join(&long), vec![7; 3 << 20]).unwrap();
    fs::write(app.join("uploads/empty"), "").unwrap();
    fs::create_dir(app.join("nothing in it")).unwrap();
    fs::set_permissions(app.join("nothing in it"), fs::Permissions::from_mode(0o700)).unwrap();
    fs::set_permissions(app.join("uploads/empty"), fs::Permissions::from_mode(0o640)).unwrap();
    symlink("../uploads/empty", app.join("uploads/link")).unwrap();
}

#[test]
fn what_an_app_has_written_comes_back() {
    let scratch = Scratch::new("back");
    some_files(&scratch.app());
    nix::unistd::mkfifo(&scratch.app().join("pipe"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    let inner = scratch.keeper(None);
    let proof = inner.point(&mut |_, _, _| {}).unwrap();
    assert!(proof.is_good(), "{proof:?}");
    fs::remove_file(scratch.app().join("pipe")).unwrap();
    let keeper = FilesKeeper { inner: Arc::new(inner), thread: None };
    let points = keeper.points().unwrap();
    let point = points.points.values().next().unwrap();
    assert_eq!(point.read.skipped, ["pipe: it is no file, folder or link"]);
    let before = Timestamp::now();
    fs::write(scratch.app().join("uploads/later"), "later").unwrap();
    keeper.now(&mut |_, _, _| {}).unwrap();
    let (then, now) = (scratch.0.join("then"), scratch.0.join("now"));
    keeper.bring_back(&Moment::Latest, None, &now).unwrap();
    assert_eq!(all_of(&now), all_of(&scratch.app()));
    keeper.bring_back(&Moment::Time(before.as_microsecond()), None, &then).unwrap();
    assert!(!then.join("uploads/later").exists() && then.join("uploads/empty").exists());
    let told = |moment| keeper.plan(&moment, None).unwrap_err().to_string();
    assert!(told(Moment::Time(0)).contains("is before the earliest time that can be restored"));
    assert!(told(Moment::Lsn("0/1".into())).contains("files have no such moment"));
    assert!(keeper.notices(Harm::Flipped).unwrap() && keeper.notices(Harm::Gone).unwrap());
}

/// While somebody writes to it in transactions, a copy has each of them whole or not at all.
#[test]
fn a_database_that_is_written_to_comes_back_whole() {
    for mode in ["wal", "delete"] {
        let scratch = Scratch::new(mode);
        let path = scratch.app().join("shop.db");
        let database = rusqlite::Connection::open(&path).unwrap();
        database.busy_timeout(Duration::from_secs(30)).unwrap();
        let told: String =
            database.query_row(&format!("PRAGMA journal_mode={mode}"), [], |row| row.get(0)).unwrap();
        assert_eq!(told, mode);
        database.execute_batch("CREATE TABLE a (n INTEGER); CREATE TABLE b (n INTEGER)").unwrap();
        let (is_over, written) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let writer = std::thread::spawn({
            let (is_over, written) = (is_over.clone(), written.clone());
            move || {
                while !is_over.load(Ordering::Acquire) {
                    let sql = "BEGIN IMMEDIATE; INSERT INTO a VALUES (1); INSERT INTO b VALUES (1); COMMIT";
                    database.execute_batch(sql).unwrap();
                    written.fetch_add(1, Ordering::AcqRel);
                    std::thread::sleep(Duration::from_micros(300));
                }
            }
        });
        let inner = scratch.keeper(None);
        for _ in 0..3 {
            let before = written.load(Ordering::Acquire);
            let proof = inner.point(&mut |_, _, _| {}).unwrap();
            assert!(
                proof.steps.iter().any(|step| step.evidence.contains("1 SQLite databases are whole")),
                "{proof:?}"
            );
            let points = Points::<FilesPoint>::read(&inner.repository, &inner.trusted).unwrap();
            let point = points.points.values().next_back().unwrap();
            assert_eq!(point.id, proof.point);
            assert_eq!((point.read.files, point.read.tables, &point.read.changed), (1, 2, &Vec::new()));
            let back = scratch.0.join("back");
            restored(&inner.repository, point, &back).unwrap();
            let copy = rusqlite::Connection::open(back.join("shop.db")).unwrap();
            let count = |table| {
                copy.query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get::<_, i64>(0))
                    .unwrap()
            };
            assert_eq!(count("a"), count("b"));
            assert!(count("a") as usize >= before, "{} of {before}", count("a"));
            fs::remove_dir_all(&back).unwrap();
        }
        is_over.store(true, Ordering::Release);
        writer.join().unwrap();
    }
}

#[test]
fn a_damaged_database_is_kept_and_never_called_whole() {
    let scratch = Scratch::new("damaged");
    let path = scratch.app().join("shop.db");
    let database = rusqlite::Connection::open(&path).unwrap();
    database.execute_batch("CREATE TABLE a (t TEXT); CREATE INDEX i ON a (t)").unwrap();
    for _ in 0..2000 {
        database.execute("INSERT INTO a VALUES (hex(randomblob(50)))", []).unwrap();
    }
    drop(database);
    let mut bytes = fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle..middle + 4000].fill(0x55);
    fs::write(&path, bytes).unwrap();
    // What only begins like one.
    fs::write(scratch.app().join("odd.db"), b"SQLite format 3\0 is how this begins").unwrap();
    let inner = scratch.keeper(None);
    let said = inner.point(&mut |_, _, _| {}).unwrap_err().to_string();
    assert!(said.contains("is not as it should be: SQLite: "), "{said}");
    let points = Points::<FilesPoint>::read(&inner.repository, &inner.trusted).unwrap();
    let point = points.points.values().next().unwrap();
    assert_eq!((point.read.files, point.read.broken.len()), (2, 2), "{:?}", point.read);
}

/// Whoever reads dies at any byte: there is no point, and the next one is whole.
#[test]
fn what_was_not_read_to_its_end_is_no_point() {
    let scratch = Scratch::new("short");
    some_files(&scratch.app());
    for bytes in [0, 1, 511, 600, 5000, 200_000, 3_000_000] {
        let inner = scratch.keeper(Some(bytes));
        let said = inner.point(&mut |_, _, _| {}).unwrap_err().to_string();
        assert!(
            said.contains("the app's folders could not be read") || said.contains("reading"),
            "{bytes}: {said}"
        );
        assert!(Points::<FilesPoint>::read(&inner.repository, &inner.trusted).unwrap().points.is_empty());
    }
    assert!(scratch.keeper(None).point(&mut |_, _, _| {}).unwrap().is_good());
}

/// Nine days: seven points are there, the oldest can be put into a folder, and what only the others had is gone.
#[test]
fn seven_days_stay() {
    let scratch = Scratch::new("days");
    let rehearsed = rehearse::rehearse(7, &scratch.0.join("rehearsal")).unwrap();
    assert_eq!(rehearsed, Rehearsed { days: 9, keep: 7, kept: 7, oldest: true, pruned: true });
}

#[test]
fn a_point_of_a_clock_that_was_ahead_says_nothing_of_today() {
    let scratch = Scratch::new("ahead");
    some_files(&scratch.app());
    let inner = scratch.keeper(None);
    let ahead = Timestamp::now() + Duration::from_secs(40 * 24 * 3600);
    inner.take(Some(ahead), &mut |_, _, _| {}).unwrap();
    inner.learn();
    assert!(inner.is_due());
    inner.point(&mut |_, _, _| {}).unwrap();
    assert!(!inner.is_due());
    let points = Points::<FilesPoint>::read(&inner.repository, &inner.trusted).unwrap();
    assert_eq!(points.points.len(), 2);
}

/// A point goes before its snapshot does: a kill in between, or somebody else's lock, must not leave that for ever.
#[test]
fn a_snapshot_that_a_kill_has_left_goes_later() {
    let scratch = Scratch::new("left");
    some_files(&scratch.app());
    let inner = scratch.keeper(None);
    let now = Timestamp::now();
    for days in [4, 3, 2, 1, 0] {
        inner.take(Some(now - Duration::from_secs(days * 24 * 3600)), &mut |_, _, _| {}).unwrap();
    }
    let mut points = Points::<FilesPoint>::read(&inner.repository, &inner.trusted).unwrap();
    let [first, second] = [0, 1].map(|at| points.points.keys().nth(at).unwrap().clone());
    let snapshot = |id| points.points.get(id).map(|point| point.snapshot).unwrap();
    let (first_left, second_left) = (snapshot(&first), snapshot(&second));
    for id in [&first, &second] {
        points.remove(&inner.repository, id).unwrap();
    }
    retain::retain_files::<FilesPoint>(&inner.repository, &inner.trusted, 30, Rhythm::Daily, now).unwrap();
    let left: Vec<Id> = inner.repository.snapshots().unwrap().iter().map(|one| one.id).collect();
    assert_eq!(left.len(), 3);
    assert!(!left.contains(&first_left) && !left.contains(&second_left));
    // What is newer than the oldest point may be a point that is being taken.
    let newest = points.points.keys().next_back().unwrap().clone();
    points.remove(&inner.repository, &newest).unwrap();
    retain::retain_files::<FilesPoint>(&inner.repository, &inner.trusted, 30, Rhythm::Daily, now).unwrap();
    assert_eq!(inner.repository.snapshots().unwrap().len(), 3);
}

#[test]
fn a_key_that_is_lost_or_wrong_is_told() {
    let scratch = Scratch::new("keys");
    some_files(&scratch.app());
    let inner = scratch.keeper(None);
    inner.point(&mut |_, _, _| {}).unwrap();
    inner.sender().escrow("the drawer's", None).unwrap();
    let home = scratch.0.join("keep");
    let keys = fs::read_dir(home.join("repository/keys")).unwrap().map(|entry| entry.unwrap().path());
    let (keys, own, sign) =
        (keys.collect::<Vec<_>>(), vec![home.join("repository.key")], vec![home.join("sign.key")]);
    let put = |path: &Path, content: &[u8]| {
        let _ = fs::remove_file(path);
        fs::write(path, content).unwrap();
    };
    let flipped = |path: &PathBuf| {
        let mut content = fs::read(path).unwrap();
        let middle = content.len() / 2;
        content[middle] ^= 1;
        put(path, &content);
    };
    type Harm<'a> = &'a dyn Fn(&PathBuf);
    let cases: [(&[PathBuf], Harm<'_>, &str); 8] = [
        (&own, &|path| fs::remove_file(path).unwrap(), "repository.key is gone"),
        (&own, &|path| put(path, b""), "expected 64 hexadecimal digits"),
        (&own, &|path| put(path, &fs::read(path).unwrap()[..63]), "expected 64 hexadecimal digits"),
        (&own, &|path| put(path, "ab".repeat(32).as_bytes()), "opens with this password"),
        (&sign, &|path| fs::remove_file(path).unwrap(), "sign.key is gone"),
        (&sign, &|path| put(path, b"x"), "not a signing key"),
        (&keys, &|path| fs::remove_file(path).unwrap(), "none of the 0 keys"),
        (&keys, &flipped, "keys"),
    ];
    for (files, harm, expected) in cases {
        let whole: Vec<Vec<u8>> = files.iter().map(|file| fs::read(file).unwrap()).collect();
        files.iter().for_each(harm);
        let error = scratch.opened(None).err().map(|error| error.to_string()).unwrap_or_default();
        assert!(error.contains(expected), "{expected}: {error}");
        files.iter().zip(&whole).for_each(|(file, whole)| put(file, whole));
        // Nothing was put in its place.
        let inner = scratch.opened(None).unwrap();
        assert!(inner.drill(None, Some("the drawer's"), false).unwrap().is_good(), "{expected}");
    }
    let error = inner.drill(None, Some("another"), false).unwrap_err().to_string();
    assert!(error.contains("none of the 2 keys"), "{error}");
    // A key that nobody vouches for: what it has not signed does not count, and that is said.
    fs::remove_file(&sign[0]).unwrap();
    SigningKey::open(&sign[0]).unwrap();
    let inner = scratch.opened(None).unwrap();
    let points = Points::<FilesPoint>::read(&inner.repository, &inner.trusted).unwrap();
    assert!(points.points.is_empty() && !points.refused.is_empty());
}
