//! A plain `restic` judges what is written, and writes what is read.

use std::collections::BTreeMap;
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;

use crate::*;

mod check;
mod crash;
mod lock;
mod mirror;
mod prune;
mod s3;
mod sftp;
mod sshd;

const PASSWORD: &str = "a password of tests";
const DATABASE: u32 = 32 << 10;

struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("klar-repo-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn options(piece: u32) -> BackupOptions {
    let path = "/data".to_owned();
    BackupOptions {
        host: "test".into(),
        path,
        tags: vec!["base".into()],
        pieces: Pieces::Even(piece),
        time: jiff::Timestamp::now(),
    }
}

/// Files as a database has them: half of it can be compressed, some of it is the same.
fn some_files(folder: &Path, seed: u64) {
    let mut random = fastrand::Rng::with_seed(seed);
    std::fs::create_dir_all(folder.join("base/16384")).unwrap();
    std::fs::create_dir_all(folder.join("empty folder")).unwrap();
    for (name, length) in
        [("PG_VERSION", 3), ("base/16384/1259", 300_000), ("base/16384/empty", 0), ("base/blåbær", 8192 * 20)]
    {
        let mut bytes: Vec<u8> = (0..length).map(|_| random.u8(..)).collect();
        bytes.iter_mut().skip(length / 2).for_each(|byte| *byte = b'x');
        std::fs::write(folder.join(name), bytes).unwrap();
    }
    std::fs::set_permissions(folder.join("PG_VERSION"), PermissionsExt::from_mode(0o640)).unwrap();
    std::os::unix::fs::symlink("base/16384", folder.join("link")).unwrap();
}

/// Everything beneath a folder: what it is, and what is in it.
fn all_of(folder: &Path) -> BTreeMap<PathBuf, (u32, Vec<u8>)> {
    let (mut all, mut left) = (BTreeMap::new(), vec![folder.to_owned()]);
    while let Some(at) = left.pop() {
        for entry in std::fs::read_dir(at).unwrap().map(Result::unwrap) {
            let (path, metadata) = (entry.path(), entry.metadata().unwrap());
            let content = if metadata.is_symlink() {
                std::fs::read_link(&path).unwrap().into_os_string().into_encoded_bytes()
            } else if metadata.is_dir() {
                left.push(path.clone());
                Vec::new()
            } else {
                std::fs::read(&path).unwrap()
            };
            let relative = path.strip_prefix(folder).unwrap().to_owned();
            all.insert(relative, (metadata.permissions().mode(), content));
        }
    }
    all
}

fn back_up(repository: &Repository, folder: &Path) -> Result<Stored, BackupError> {
    back_up_in(repository, folder, Pieces::Even(DATABASE))
}

fn back_up_in(repository: &Repository, folder: &Path, pieces: Pieces) -> Result<Stored, BackupError> {
    let mut backup = repository.backup(BackupOptions { pieces, ..options(DATABASE) })?;
    for path in all_of(folder).keys() {
        let from = folder.join(path);
        let metadata = std::fs::symlink_metadata(&from).unwrap();
        let known = Metadata::from(&metadata);
        if metadata.is_symlink() {
            backup.symlink(path, &known, &std::fs::read_link(&from).unwrap())?;
        } else if metadata.is_dir() {
            backup.folder(path, &known)?;
        } else {
            let read = backup.file(path, &known, &mut std::fs::File::open(&from).unwrap())?;
            assert_eq!(read, metadata.len());
        }
    }
    backup.finish()
}

/// What people call their files, and what is put in at the beginning of a large one.
#[test]
fn files_of_people_come_back_and_are_cut_by_content() {
    use std::os::unix::ffi::OsStrExt;
    let scratch = Scratch::new("people");
    let (source, place) = (scratch.0.join("source"), scratch.0.join("repository"));
    std::fs::create_dir_all(source.join("a \"folder\"")).unwrap();
    for name in [&b"a \"folder\"/back\\slash"[..], b"new\nline", b"latin \xe5", "smørbrød.pdf".as_bytes()] {
        std::fs::write(source.join(std::ffi::OsStr::from_bytes(name)), name).unwrap();
    }
    let mut random = fastrand::Rng::with_seed(7);
    let mut large: Vec<u8> = (0..12 << 20).map(|_| random.u8(..)).collect();
    std::fs::write(source.join("film"), &large).unwrap();
    let repository = Repository::create(Arc::new(Folder::new(&place)), PASSWORD, "owner").unwrap();
    back_up_in(&repository, &source, Pieces::ByContent).unwrap();
    large.insert(100, b'x');
    std::fs::write(source.join("film"), &large).unwrap();
    let stored = back_up_in(&repository, &source, Pieces::ByContent).unwrap();
    assert!(stored.bytes_added < 9 << 20, "{stored:?}");
    let (ours, theirs) = (scratch.0.join("ours"), scratch.0.join("theirs"));
    let snapshot = repository.snapshot(stored.snapshot).unwrap();
    let reader = repository.reader().unwrap();
    reader.restore(&snapshot, &ours).unwrap();
    assert_eq!(all_of(&ours), all_of(&source));
    let odd = Path::new("a \"folder\"").join("back\\slash");
    assert!(reader.files(&snapshot).unwrap().contains(&odd));
    assert_eq!(reader.content(&snapshot, &odd, 100).unwrap(), odd.as_os_str().as_bytes());
    if restic(&place, &["restore", &stored.snapshot.to_string(), "--target", theirs.to_str().unwrap()])
        .is_some()
    {
        assert_eq!(all_of(&theirs), all_of(&source));
    }
}

fn restic_command(repository: &Path, args: &[&str]) -> Command {
    let mut command = Command::new("restic");
    command.args(["--no-cache", "--repo"]).arg(repository).args(args).env("RESTIC_PASSWORD", PASSWORD);
    command
}

/// What it said, good or bad.
fn try_restic(repository: &Path, args: &[&str]) -> Option<Output> {
    match restic_command(repository, args).output() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            println!("skipped: restic is not installed");
            None
        }
        output => Some(output.unwrap()),
    }
}

fn restic(repository: &Path, args: &[&str]) -> Option<Output> {
    let output = try_restic(repository, args)?;
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    Some(output)
}

/// A process that runs one test of this program, with a word for it in the environment.
fn child(test: &str, word: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", test, "--nocapture"]).env(CHILD, word);
    command
}

/// The word, in a child; otherwise nothing.
fn child_word() -> Option<String> {
    std::env::var(CHILD).ok()
}

/// How often something random is tried.
fn rounds(usual: usize) -> usize {
    std::env::var("KLAR_FAULTS").ok().and_then(|said| said.parse().ok()).unwrap_or(usual)
}

const CHILD: &str = "KLAR_REPO_CHILD";

#[test]
fn restic_checks_and_restores_what_is_written() {
    let scratch = Scratch::new("to-restic");
    let (source, place) = (scratch.0.join("source"), scratch.0.join("repository"));
    some_files(&source, 1);
    let repository = Repository::create(Arc::new(Folder::new(&place)), PASSWORD, "owner").unwrap();
    let stored = back_up(&repository, &source).unwrap();
    assert_eq!(stored.files, 4);
    let Some(_) = restic(&place, &["check", "--read-data"]) else { return };
    let target = scratch.0.join("restored");
    restic(&place, &["restore", "latest", "--target", target.to_str().unwrap()]);
    assert_eq!(all_of(&target), all_of(&source));

    // Again, with one page changed: one piece and what leads to it is added, and both can be had.
    let before = all_of(&source);
    let page = source.join("base/blåbær");
    let mut bytes = std::fs::read(&page).unwrap();
    bytes[8192] ^= 1;
    std::fs::write(&page, bytes).unwrap();
    let again = back_up(&repository, &source).unwrap();
    assert!(again.bytes_added < 2 * u64::from(DATABASE), "{}", again.bytes_added);
    restic(&place, &["check", "--read-data"]);
    let snapshots = repository.snapshots().unwrap();
    assert_eq!(snapshots.iter().map(|one| one.id).collect::<Vec<_>>(), [stored.snapshot, again.snapshot]);
    for (snapshot, wanted) in snapshots.iter().zip([before, all_of(&source)]) {
        let target = scratch.0.join(snapshot.id.short());
        let restored = repository.reader().unwrap().restore(snapshot, &target).unwrap();
        assert_eq!(restored.files, 4);
        assert_eq!(all_of(&target), wanted);
        assert!(repository.reader().unwrap().restore(snapshot, &target).is_err(), "it is not empty");
    }
}

#[test]
fn what_restic_wrote_is_restored() {
    let scratch = Scratch::new("of-restic");
    let (source, place) = (scratch.0.join("source"), scratch.0.join("repository"));
    some_files(&source, 2);
    let Some(_) = restic(&place, &["init"]) else { return };
    let mut command = Command::new("restic");
    command.args(["--no-cache", "--repo"]).arg(&place).args(["backup", "."]).current_dir(&source);
    assert!(command.env("RESTIC_PASSWORD", PASSWORD).output().unwrap().status.success());
    let repository = Repository::open(Arc::new(Folder::new(&place)), PASSWORD).unwrap();
    let [snapshot] = &*repository.snapshots().unwrap() else { panic!("one snapshot") };
    let target = scratch.0.join("restored");
    repository.reader().unwrap().restore(snapshot, &target).unwrap();
    assert_eq!(all_of(&target), all_of(&source));
    // And what is added here it finds whole.
    back_up(&repository, &source).unwrap();
    restic(&place, &["check", "--read-data"]);
}

#[test]
fn each_password_opens_and_no_other() {
    let storage: Arc<dyn Storage> = Arc::new(Memory::new());
    assert!(matches!(Repository::open(storage.clone(), PASSWORD), Err(OpenError::Missing(_))));
    let repository = Repository::create(storage.clone(), PASSWORD, "owner").unwrap();
    assert!(matches!(Repository::create(storage.clone(), PASSWORD, "owner"), Err(OpenError::Taken(_))));
    repository.add_key("in escrow", "escrow").unwrap();
    assert!(repository.add_key("", "nobody").is_err());
    let sealed = repository.seal("klar/wal/1", b"bytes").unwrap();
    for (password, label) in [(PASSWORD, "owner"), ("in escrow", "escrow")] {
        let opened = Repository::open(storage.clone(), password).unwrap();
        assert_eq!(opened.id(), repository.id());
        assert_eq!(opened.unseal("klar/wal/1", &sealed).unwrap(), b"bytes");
        assert!(opened.unseal("klar/wal/2", &sealed).is_err());
        let current: Vec<String> =
            opened.keys().unwrap().into_iter().filter(|key| key.current).map(|key| key.label).collect();
        assert_eq!(current, [label]);
    }
    let wrong = Repository::open(storage, "neither").unwrap_err().to_string();
    assert_eq!(wrong, "none of the 2 keys of memory opens with this password");
}

/// Breaks off after some bytes.
struct Broken(usize);

impl Read for Broken {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let read = out.len().min(self.0);
        self.0 -= read;
        if read == 0 { Err(io::Error::other("the disk is gone")) } else { Ok(read) }
    }
}

#[test]
fn a_source_that_fails_makes_no_snapshot() {
    let repository = Repository::create(Arc::new(Memory::new()), PASSWORD, "owner").unwrap();
    let metadata = Metadata { mode: 0o600, uid: 0, gid: 0, mtime: jiff::Timestamp::UNIX_EPOCH };
    for length in [0, 10, 100_000] {
        let mut backup = repository.backup(options(DATABASE)).unwrap();
        backup.file(Path::new("good"), &metadata, &mut &b"good"[..]).unwrap();
        let error = backup.file(Path::new("a/bad"), &metadata, &mut Broken(length)).unwrap_err();
        assert!(error.to_string().starts_with("reading a/bad: the disk is gone"), "{error}");
        assert!(matches!(backup.finish(), Err(BackupError::Failed(_))));
    }
    for path in ["/absolute", "../above", "", "good", "good/beneath/.."] {
        let mut backup = repository.backup(options(DATABASE)).unwrap();
        backup.file(Path::new("good"), &metadata, &mut &b"good"[..]).unwrap();
        assert!(backup.file(Path::new(path), &metadata, &mut &b"x"[..]).is_err(), "{path}");
        assert!(backup.finish().is_err());
    }
    assert_eq!(repository.snapshots().unwrap(), []);
}

/// Every call of a backup fails once; what was there before is as good as ever, and the next backup is whole.
#[test]
fn a_storage_that_fails_loses_nothing() {
    let scratch = Scratch::new("faults");
    let (source, target) = (scratch.0.join("source"), scratch.0.join("restored"));
    some_files(&source, 3);
    let memory = Arc::new(Memory::new());
    let repository = Repository::create(memory.clone(), PASSWORD, "owner").unwrap();
    back_up(&repository, &source).unwrap();
    let restores = |number: usize, wanted| {
        let _ = std::fs::remove_dir_all(&target);
        let snapshots = repository.snapshots().unwrap();
        repository.reader().unwrap().restore(&snapshots[number], &target).unwrap();
        assert_eq!(all_of(&target), wanted);
        snapshots.len()
    };
    let (before, kept) = (all_of(&source), memory.objects());
    for call in 1.. {
        std::fs::write(source.join("PG_VERSION"), format!("{call}")).unwrap();
        memory.plan(vec![if call % 2 == 0 { Fault::Error(call) } else { Fault::Down(call) }]);
        let done = back_up(&repository, &source);
        let calls = memory.calls();
        memory.plan(Vec::new());
        let of_storage = |error: &BackupError| {
            use BackupError::{Lock, Read, Storage};
            matches!(error, Storage(_) | Read(_) | Lock(LockError::Storage(_)))
        };
        match &done {
            // The snapshot is written, and then only the lock is removed.
            Ok(_) => assert_eq!(restores(1, all_of(&source)), 2),
            Err(error) => assert!(of_storage(error), "call {call}: {error:?}"),
        }
        if calls < call {
            assert!(done.is_ok());
            break;
        }
        assert_eq!(restores(0, before.clone()), 1 + usize::from(done.is_ok()));
        // What it left is in nobody's way, but would make each next one ask for one object more.
        memory
            .objects()
            .keys()
            .filter(|path| !kept.contains_key(*path))
            .for_each(|path| memory.put(path, None));
    }
}

/// More than one thread has to do: with pieces that come again, in files of odd lengths, and in packs that fail.
#[test]
fn much_goes_through_many_hands() {
    let scratch = Scratch::new("much");
    let (source, target) = (scratch.0.join("source"), scratch.0.join("restored"));
    std::fs::create_dir_all(source.join("base")).unwrap();
    let mut random = fastrand::Rng::with_seed(11);
    let common: Vec<u8> = (0..3 << 20).map(|_| random.u8(..)).collect();
    let lengths = [0, 1, 32 << 10, 1 << 20, (1 << 20) + 1, 5_000_001, 20 << 20, 7, 9_999_999];
    for (number, length) in lengths.into_iter().enumerate() {
        let own = std::iter::repeat_with(|| random.u8(..)).take(length / 2);
        let bytes: Vec<u8> = common.iter().copied().cycle().take(length - length / 2).chain(own).collect();
        std::fs::write(source.join(format!("base/{number}")), bytes).unwrap();
    }
    let all = all_of(&source);
    let memory = Arc::new(Memory::new());
    let repository = Repository::create(memory.clone(), PASSWORD, "owner").unwrap();
    // From the second pack on, while others are busy: there is an error, and no snapshot.
    for call in [8, 9] {
        memory.plan(vec![Fault::Error(call)]);
        let error = back_up(&repository, &source).unwrap_err();
        assert!(matches!(error, BackupError::Storage(_)), "call {call}: {error}");
    }
    memory.plan(Vec::new());
    assert_eq!(repository.snapshots().unwrap(), []);
    let stored = back_up(&repository, &source).unwrap();
    let bytes: usize = all.values().map(|(_, content)| content.len()).sum();
    assert_eq!((stored.files, stored.bytes_read), (9, bytes as u64));
    let own: usize = lengths.iter().map(|length| length / 2 + (64 << 10)).sum();
    assert!(stored.bytes_added < (own + common.len()) as u64 * 11 / 10, "{stored:?}");
    let snapshot = repository.snapshots().unwrap().remove(0);
    let reader = repository.reader().unwrap();
    assert_eq!(reader.restore(&snapshot, &target).unwrap().bytes, bytes as u64);
    assert_eq!(all_of(&target), all);
    // And back: whatever read fails, so does the restore.
    memory.plan(Vec::new());
    reader.restore(&snapshot, &scratch.0.join("counted")).unwrap();
    for call in [1, 3, memory.calls() - 1] {
        memory.plan(vec![Fault::Down(call)]);
        let error = reader.restore(&snapshot, &scratch.0.join(format!("failed-{call}"))).unwrap_err();
        assert!(matches!(error, RestoreError::Read(_)), "call {call}: {error}");
    }
    // What was stored of it already is not stored again.
    memory.plan(Vec::new());
    assert!(back_up(&repository, &source).unwrap().bytes_added < 10_000);
}

/// Any bit of any object that flips is noticed, or makes no difference.
#[test]
fn damage_is_noticed_and_never_restored() {
    let scratch = Scratch::new("damage");
    let (source, target) = (scratch.0.join("source"), scratch.0.join("restored"));
    some_files(&source, 4);
    let memory = Arc::new(Memory::new());
    let repository = Repository::create(memory.clone(), PASSWORD, "owner").unwrap();
    back_up(&repository, &source).unwrap();
    let wanted = all_of(&source);
    let rounds = rounds(60);
    let mut random = fastrand::Rng::with_seed(5);
    let mut noticed = 0;
    for _ in 0..rounds {
        // Keys are what passwords are for: they are tried elsewhere.
        let objects: Vec<_> = memory
            .objects()
            .into_iter()
            .filter(|(path, _)| !path.starts_with("keys/") && path != "config")
            .collect();
        let (path, bytes) = objects[random.usize(..objects.len())].clone();
        let damaged = match random.u8(..3) {
            0 => None,
            1 => Some(bytes[..random.usize(..bytes.len())].to_vec()),
            _ => {
                let mut damaged = bytes.clone();
                damaged[random.usize(..bytes.len())] ^= 1 << random.u8(..8);
                Some(damaged)
            }
        };
        memory.put(&path, damaged);
        let _ = std::fs::remove_dir_all(&target);
        let restored = repository.snapshots().and_then(|snapshots| {
            let reader = repository.reader()?;
            Ok(snapshots.first().map(|snapshot| reader.restore(snapshot, &target)))
        });
        match restored {
            // The header of a pack is not read where there is an index.
            Ok(Some(Ok(_))) => assert_eq!(all_of(&target), wanted, "{path}"),
            Ok(None) => assert!(path.starts_with("snapshots/"), "{path}"),
            Ok(Some(Err(_))) | Err(_) => noticed += 1,
        }
        memory.put(&path, Some(bytes));
    }
    assert!(noticed > rounds / 2, "{noticed} of {rounds}");
}
