//! SFTP as OpenSSH's server speaks it, with nothing between, with faults on the way, and as others answer.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use jiff::Timestamp;

use super::*;

const SERVER: &str = "/usr/lib/openssh/sftp-server";

/// `None`, said: there is no server here. `cargo xtask test` installs one.
pub(super) fn server() -> Option<&'static str> {
    let is_there = Path::new(SERVER).is_file();
    if !is_there {
        println!("skipped: openssh-sftp-server is not installed");
    }
    is_there.then_some(SERVER)
}

fn over(transport: Transport, folder: &Path, patience: Duration) -> Arc<Sftp> {
    let path = folder.display().to_string();
    Arc::new(Sftp::new(SftpOptions { place: "sftp:there".into(), path, transport, patience }))
}

/// The server by itself, with these options.
fn sftp_with(folder: &Path, args: &[&str]) -> Arc<Sftp> {
    over(Transport::command(Path::new(SERVER), args), folder, Duration::from_secs(30))
}

fn sftp(folder: &Path) -> Arc<Sftp> {
    sftp_with(folder, &[])
}

/// Whatever a shell makes of it; `$S` is the server.
fn by_shell(script: &str, folder: &Path, patience: Duration) -> Arc<Sftp> {
    let script = format!("S={SERVER}; {script}");
    over(Transport::command(Path::new("/bin/sh"), ["-c", &script]), folder, patience)
}

fn extra(name: &str) -> Object {
    Object::Extra(name.to_owned())
}

fn some_bytes(length: usize, seed: u64) -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(seed);
    (0..length).map(|_| random.u8(..)).collect()
}

/// What every storage promises.
pub(super) fn keeps_its_promises(storage: &dyn Storage) {
    let object = extra("klar/a");
    assert!(storage.read(&object).unwrap_err().is_gone());
    assert_eq!(storage.list_extra("klar/").unwrap(), []);
    assert_eq!(storage.list(Kind::Pack).unwrap(), []);
    storage.remove(&object).unwrap();
    for _ in 0..2 {
        storage.write(&object, b"0123456789").unwrap();
    }
    assert!(matches!(storage.write(&object, b"other"), Err(StorageError::Exists(_))));
    assert!(matches!(storage.write(&object, b""), Err(StorageError::Exists(_))));
    assert_eq!(storage.read(&object).unwrap(), b"0123456789");
    assert_eq!(storage.read_range(&object, 2, 3).unwrap(), b"234");
    assert_eq!(storage.read_range(&object, 2, 0).unwrap(), b"");
    assert!(matches!(storage.read_range(&object, 8, 3), Err(StorageError::Short { length: 10, .. })));
    assert!(matches!(storage.read_range(&object, 20, 3), Err(StorageError::Short { length: 10, .. })));
    assert!(matches!(storage.read_range(&object, OBJECT_MAX, 1), Err(StorageError::Long { .. })));
    assert!(matches!(storage.write(&extra("klar/../x"), b""), Err(StorageError::Name(_))));
    // Around the length of what one request moves, and of all that is on its way at once.
    for length in [0, 1, (32 << 10) - 1, 32 << 10, (32 << 10) + 1, (2 << 20) + 7, 17 << 20] {
        let (object, bytes) = (extra(&format!("klar/lengths/{length}")), some_bytes(length, length as u64));
        storage.write(&object, &bytes).unwrap();
        assert!(storage.read(&object).unwrap() == bytes, "{length}");
        let from = length / 3;
        assert!(
            storage.read_range(&object, from as u64, length - from).unwrap() == bytes[from..],
            "{length}"
        );
    }
    // More names than one answer has, in more folders than are asked for at once.
    for number in 0..230 {
        storage.write(&extra(&format!("klar/many/{number:04}")), b"x").unwrap();
        storage.write(&extra(&format!("klar/deep/{}/{number}", number % 40)), b"xy").unwrap();
    }
    let listed = storage.list_extra("klar/many/").unwrap();
    assert_eq!((listed.len(), &listed[229]), (230, &("klar/many/0229".to_owned(), 1)));
    let listed = storage.list_extra("klar/deep/").unwrap();
    assert_eq!((listed.len(), &listed[0]), (230, &("klar/deep/0/0".to_owned(), 2)));
    assert!(listed.is_sorted());
    let ids: BTreeMap<Id, u64> = (0..40).map(|seed| (some_id(seed), seed % 5)).collect();
    for (id, length) in &ids {
        storage.write(&Object::Stored(Kind::Pack, *id), &vec![1; *length as usize]).unwrap();
    }
    assert_eq!(storage.list(Kind::Pack).unwrap().into_iter().collect::<BTreeMap<_, _>>(), ids);
    assert_eq!(storage.list(Kind::Index).unwrap(), []);
    let (id, _) = ids.first_key_value().unwrap();
    let pack = Object::Stored(Kind::Pack, *id);
    storage.remove(&pack).unwrap();
    storage.remove(&pack).unwrap();
    assert!(storage.read(&pack).unwrap_err().is_gone());
    assert!(!storage.is_locked(&extra("klar/probe")).unwrap());
    // What grows is there as far as it was appended, and there is one of each name.
    let object = extra("klar/growing/1");
    let mut growing = storage.grow(&object).unwrap();
    assert_eq!(storage.read(&object).unwrap(), b"");
    let mut bytes = Vec::new();
    for length in [1, 0, 100, 40_000, 3 << 20, 5] {
        let more = some_bytes(length, length as u64);
        growing.append(&more).unwrap();
        bytes.extend(more);
        assert!(storage.read(&object).unwrap() == bytes, "{length}");
    }
    assert!(matches!(storage.grow(&object), Err(StorageError::Exists(_))));
    assert!(matches!(storage.write(&object, b"other"), Err(StorageError::Exists(_))));
    assert_eq!(
        storage.list_extra("klar/growing/").unwrap(),
        [("klar/growing/1".to_owned(), bytes.len() as u64)]
    );
}

fn some_id(seed: u64) -> Id {
    let hex: String = some_bytes(32, seed).iter().map(|byte| format!("{byte:02x}")).collect();
    hex.parse().unwrap()
}

#[test]
fn it_keeps_what_a_storage_promises() {
    let Some(_) = server() else { return };
    // With links, and on a server without.
    for args in [&[][..], &["-P", "hardlink"]] {
        let scratch = Scratch::new("sftp");
        let storage = sftp_with(&scratch.0.join("not/there yet"), args);
        assert_eq!(storage.place(), "sftp:there");
        keeps_its_promises(&*storage);
        assert_eq!(std::fs::read_dir(scratch.0.join("not/there yet/tmp")).unwrap().count(), 0);
        for (path, (mode, _)) in all_of(&scratch.0) {
            assert_eq!(mode & 0o077, 0, "{}", path.display());
        }
    }
}

/// The same as a folder does: it is the same suite.
#[test]
fn a_folder_keeps_the_same_promises() {
    let scratch = Scratch::new("sftp-folder");
    keeps_its_promises(&Folder::new(&scratch.0.join("r")));
}

#[test]
fn restic_and_a_second_place_read_what_is_there() {
    let Some(_) = server() else { return };
    let scratch = Scratch::new("sftp-restic");
    let (source, place, second) =
        (scratch.0.join("source"), scratch.0.join("repository"), scratch.0.join("second"));
    some_files(&source, 21);
    std::fs::write(source.join("large"), some_bytes(40 << 20, 3)).unwrap();
    let repository = Repository::create(sftp(&place), PASSWORD, "owner").unwrap();
    let stored = back_up(&repository, &source).unwrap();
    let target = scratch.0.join("restored");
    let snapshot = repository.snapshot(stored.snapshot).unwrap();
    repository.reader().unwrap().restore(&snapshot, &target).unwrap();
    assert!(all_of(&target) == all_of(&source));
    let report = repository.check(CheckData::All, &mut |_| {});
    assert!(report.problems.is_empty(), "{report:?}");
    restic(&place, &["check", "--read-data"]);
    // From there to another such place, which then has the same.
    let extras = Extras { prefixes: &["klar/wal/"], newest: "klar/tide/" };
    let name = "klar/wal/1";
    repository.storage().write(&extra(name), &repository.seal(name, b"x").unwrap()).unwrap();
    let mut mirror = Mirror::open(&repository, sftp(&second), extras).unwrap();
    mirror.turn(&mut Gone::default(), Timestamp::UNIX_EPOCH, None, &mut |_, _| {}).unwrap();
    let compared = mirror.compare().unwrap();
    assert_eq!(compared.differ, Vec::<String>::new());
    restic(&second, &["check", "--read-data"]);
}

/// What the server is asked for, in this order, is what a loss of power leaves whole.
#[test]
fn what_is_written_is_flushed_before_it_has_a_name() {
    let Some(_) = server() else { return };
    let scratch = Scratch::new("sftp-flushed");
    let log = scratch.0.join("log");
    let script = format!("exec $S -e -l DEBUG3 2>>'{}'", log.display());
    let storage = by_shell(&script, &scratch.0.join("r"), Duration::from_secs(30));
    let told = || {
        let text = std::fs::read_to_string(&log).unwrap();
        std::fs::write(&log, "").unwrap();
        let words = text.lines().filter_map(|line| {
            let (_, line) = line.split_once(": request ")?.1.split_once(": ")?;
            let word = line.split([' ', ':']).next()?;
            ["write", "fsync", "hardlink", "remove"].contains(&word).then(|| word.to_owned())
        });
        words.collect::<Vec<String>>().join(" ")
    };
    storage.write(&extra("klar/a/1"), b"1").unwrap();
    told();
    // The file; its name; the folder.
    storage.write(&extra("klar/a/2"), b"2").unwrap();
    assert_eq!(told(), "write fsync hardlink fsync remove");
    // A new folder is itself a name in the one above.
    storage.write(&extra("klar/b/1"), b"1").unwrap();
    let words = told();
    let (before, after) = words.split_once("hardlink").unwrap();
    assert!(before.ends_with("fsync ") && after.matches("fsync").count() >= 2, "{words}");
    // What was there before is not believed to be safe.
    storage.write(&extra("klar/a/2"), b"2").unwrap();
    assert_eq!(told(), "write fsync hardlink fsync remove");
    let mut growing = storage.grow(&extra("klar/a/3")).unwrap();
    assert_eq!(told(), "fsync");
    growing.append(&[7; 40_000]).unwrap();
    assert_eq!(told(), "write write fsync");
}

#[test]
fn a_server_that_does_not_flush_gets_nothing() {
    let Some(_) = server() else { return };
    let scratch = Scratch::new("sftp-no-fsync");
    let place = scratch.0.join("r");
    sftp(&place).write(&extra("klar/a"), b"a").unwrap();
    let storage = sftp_with(&place, &["-P", "fsync"]);
    assert_eq!(storage.read(&extra("klar/a")).unwrap(), b"a");
    let before = all_of(&scratch.0);
    let written = storage.write(&extra("klar/b"), b"b").unwrap_err().to_string();
    let expected = "writing sftp:there/klar/b: the server answered `it does not know fsync@openssh.com: what is written \
                    there could be lost with its power, so nothing was`";
    assert_eq!(written, expected);
    assert_eq!(storage.grow(&extra("klar/b")).err().unwrap().to_string(), expected);
    assert!(storage.write(&Object::Config, b"b").is_err());
    assert!(all_of(&scratch.0) == before);
}

/// The server is killed while it gets an object: there is none, and the next write brings it.
#[test]
fn a_server_that_dies_leaves_nothing_half() {
    let Some(_) = server() else { return };
    let scratch = Scratch::new("sftp-kill");
    let (place, pids) = (scratch.0.join("r"), scratch.0.join("pids"));
    let script = format!("echo $$ >>'{}'; exec $S", pids.display());
    let storage = by_shell(&script, &place, Duration::from_secs(30));
    let bytes = some_bytes(24 << 20, 5);
    let mut random = fastrand::Rng::with_seed(3);
    for round in 0..rounds(12) {
        let object = extra(&format!("klar/{round}"));
        let (is_over, killed) = (Arc::new(AtomicBool::new(false)), random.u64(0..=bytes.len() as u64));
        let (over, tmp, of) = (is_over.clone(), place.join("tmp"), pids.clone());
        // Every server there is, once a file has grown so far; those that come after it stay.
        let killer = std::thread::spawn(move || {
            while !over.load(Ordering::Relaxed) {
                let files = std::fs::read_dir(&tmp).into_iter().flatten().flatten();
                if files.filter_map(|file| file.metadata().ok()).any(|file| file.len() >= killed.max(1)) {
                    for pid in std::fs::read_to_string(&of).unwrap().lines() {
                        let pid = nix::unistd::Pid::from_raw(pid.parse().unwrap());
                        let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL);
                    }
                    std::fs::write(&of, "").unwrap();
                    return true;
                }
            }
            false
        });
        // It is tried once more by itself, over a new connection.
        storage.write(&object, &bytes).unwrap();
        is_over.store(true, Ordering::Relaxed);
        killer.join().unwrap();
        assert!(storage.read(&object).unwrap() == bytes);
        let names = |list: Vec<(String, u64)>| list.into_iter().map(|(_, length)| length).collect::<Vec<_>>();
        assert!(
            names(storage.list_extra("klar/").unwrap()).iter().all(|length| *length == bytes.len() as u64)
        );
        let _ = std::fs::remove_dir_all(place.join("tmp"));
        storage.remove(&object).unwrap();
    }
}

/// Both directions break off anywhere: what was told to be there is there, and nothing half is.
#[test]
fn what_breaks_off_anywhere_loses_nothing() {
    let Some(_) = server() else { return };
    let scratch = Scratch::new("sftp-cut");
    let (place, flag) = (scratch.0.join("r"), scratch.0.join("flag"));
    let bytes = some_bytes(100_000, 9);
    let mut random = fastrand::Rng::with_seed(17);
    let (mut whole, mut refused) = (0, 0);
    for round in 0..rounds(60) {
        let object = extra(&format!("klar/{round}"));
        let at = if random.bool() { random.usize(..3000) } else { random.usize(..110_000) };
        let cut = if random.bool() {
            format!("stdbuf -o0 head -c {at} | $S")
        } else {
            format!("$S | (stdbuf -o0 head -c {}; kill $$)", at % 1000)
        };
        // Each connection is cut, or the first one alone.
        let is_always = random.u8(..4) == 0;
        let script = match is_always {
            true => cut.clone(),
            false => format!("if mkdir '{}' 2>/dev/null; then {cut}; else exec $S; fi", flag.display()),
        };
        let _ = std::fs::remove_dir(&flag);
        let grown = extra(&format!("klar/grown/{round}"));
        // Its last words would be waited for as long as a part of the pipe runs.
        let storage = by_shell(&format!("exec 2>/dev/null; {script}"), &place, Duration::from_secs(20));
        let written = storage.write(&object, &bytes);
        let appended = storage.grow(&grown).and_then(|mut growing| {
            growing.append(&bytes[..50_000])?;
            growing.append(&bytes[50_000..])
        });
        let direct = sftp(&place);
        match &written {
            Ok(()) => whole += 1,
            Err(error) => {
                refused += 1;
                assert!(is_always, "round {round}, {cut}: {error}");
                assert!(matches!(error, StorageError::Io { .. }), "{error}");
            }
        }
        match direct.read(&object) {
            Ok(read) => assert!(read == bytes, "round {round}, {cut}"),
            Err(error) => assert!(error.is_gone() && written.is_err(), "round {round}, {cut}: {error}"),
        }
        // What grows may be there in part, as far as it came.
        match direct.read(&grown) {
            Ok(read) => assert!(bytes.starts_with(&read) && (appended.is_err() || read.len() == bytes.len())),
            Err(error) => assert!(error.is_gone() && appended.is_err(), "round {round}, {cut}: {error}"),
        }
        // And again, with nothing in the way.
        direct.write(&object, &bytes).unwrap();
        assert!(direct.read(&object).unwrap() == bytes);
    }
    println!("{whole} were written, {refused} said why they were not");
}

#[test]
fn what_answers_oddly_is_told_in_time() {
    let Some(_) = server() else { return };
    let scratch = Scratch::new("sftp-odd");
    let hello = r"printf '\0\0\0\5\2\0\0\0\3'";
    let all = [
        ("exit 1", "the connection was closed"),
        ("echo 'it is being repaired' >&2; exit 1", "the connection was closed: it is being repaired"),
        ("yes 'Welcome to the machine'", "no server of SFTP: it sent \"Welcome to the machine"),
        ("cat /dev/zero", "no server of SFTP: it sent \""),
        ("cat /dev/urandom", "no server of SFTP: it"),
        // Longer than any packet.
        (r"printf '\0\4\4\1\2'; sleep 20", "no server of SFTP: it sent"),
        ("sleep 20", "no answer within 1 s"),
        ("echo 'one moment' >&2; sleep 20", "no answer within 1 s: one moment"),
        // It takes all, and gives nothing.
        ("cat >/dev/null", "no answer within 1 s"),
        // A packet that never becomes whole.
        (r"printf '\0\0\0\5\2\0'; sleep 20", "no answer within 1 s"),
        (r"printf '\0\0\0\5\2\0\0\0\2'", "it speaks SFTP version 2"),
        (r"printf '\0\0\0\5\145\0\0\0\3'", "its first words are not those of SFTP"),
        (&format!("{hello}; sleep 20"), "no answer within 1 s"),
        (&format!("{hello}; exit"), "the connection was closed"),
        // It answers what nobody asked.
        (
            &format!(r"{hello}; printf '\0\0\0\11\145\0\0\0\7\0\0\0\0'; sleep 20"),
            "it answered what was not asked",
        ),
        // A handle where there is none to be, over and over.
        (&format!(r"{hello}; printf '\0\0\0\12\146\0\0\0\0\0\0\0\1h'; sleep 20"), "no answer within 1 s"),
        (
            &format!(r"{hello}; printf '\0\0\0\12\147\0\0\0\0\0\0\0\1h'; sleep 20"),
            "it answered something else",
        ),
        // It says of a file that it is without end.
        (
            &format!(
                r"{hello}; printf '\0\0\0\12\146\0\0\0\0\0\0\0\1h\0\0\0\21\151\0\0\0\1\0\0\0\1\377\0\0\0\0\0\0\0'; sleep 20"
            ),
            "no answer within 1 s",
        ),
    ];
    let check = &|script: &str, expected: &str| {
        let storage = by_shell(script, &scratch.0, Duration::from_secs(1));
        let begun = Instant::now();
        let error = storage.read(&extra("klar/a")).unwrap_err().to_string();
        assert!(error.starts_with("reading sftp:there/klar/a: "), "{script}: {error}");
        assert!(error.contains(expected), "{script}: {error}");
        assert!(error.len() < 500, "{script}: {error}");
        // A few times a second, and what a busy machine takes.
        assert!(begun.elapsed() < Duration::from_secs(30), "{script}");
        assert!(storage.write(&extra("klar/a"), &[1; 1 << 20]).is_err(), "{script}");
        assert!(storage.list(Kind::Pack).is_err() && storage.grow(&extra("klar/b")).is_err(), "{script}");
    };
    std::thread::scope(|scope| {
        for (script, expected) in all {
            scope.spawn(move || check(script, expected));
        }
    });
    let error =
        over(Transport::command(Path::new("/not/there"), [""; 0]), &scratch.0, Duration::from_secs(1))
            .read(&extra("klar/a"))
            .unwrap_err();
    assert!(error.to_string().contains("/not/there could not be started"), "{error}");
    assert_eq!(NotConnected::within(&error).unwrap().hint(), Some("install it (package openssh-client)"));
}

/// What a killed writer left is removed after a day of the server's clock, and nothing else.
#[test]
fn leftovers_go_after_a_day() {
    let Some(_) = server() else { return };
    let scratch = Scratch::new("sftp-tidy");
    let (place, tmp) = (scratch.0.join("r"), scratch.0.join("r/tmp"));
    std::fs::create_dir_all(tmp.join("folder")).unwrap();
    for (name, hours) in [("new", 23), ("old", 25)] {
        let file = std::fs::File::create(tmp.join(name)).unwrap();
        file.set_modified(std::time::SystemTime::now() - Duration::from_secs(hours * 3600)).unwrap();
    }
    let left = || {
        let names =
            std::fs::read_dir(&tmp).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<String> = names.collect();
        names.sort();
        names.join(" ")
    };
    sftp(&place).write(&extra("klar/a"), b"a").unwrap();
    assert_eq!(left(), "folder new old");
    sftp(&place).write(&Object::Stored(Kind::Snapshot, some_id(1)), b"a").unwrap();
    assert_eq!(left(), "folder new");
}

/// Many threads share few connections, and none waits for ever.
#[test]
fn many_ask_at_once() {
    let Some(_) = server() else { return };
    let scratch = Scratch::new("sftp-threads");
    let (place, pids) = (scratch.0.join("r"), scratch.0.join("pids"));
    let script = format!("echo $$ >>'{}'; exec $S", pids.display());
    let storage = by_shell(&script, &place, Duration::from_secs(60));
    std::thread::scope(|scope| {
        for thread in 0..16 {
            let storage = &storage;
            scope.spawn(move || {
                for number in 0..20 {
                    let (own, bytes) =
                        (extra(&format!("klar/{thread}/{number}")), some_bytes(50_000, thread));
                    storage.write(&own, &bytes).unwrap();
                    // All write this one, and the same.
                    storage.write(&extra(&format!("klar/all/{number}")), b"the same").unwrap();
                    assert!(storage.read(&own).unwrap() == bytes);
                }
            });
        }
    });
    assert_eq!(storage.list_extra("klar/").unwrap().len(), 17 * 20);
    let connections = std::fs::read_to_string(&pids).unwrap().lines().count();
    assert!(connections <= 4, "{connections}");
}

/// Killed with no time for anything, a process leaves no server behind.
#[test]
fn the_child_ends_with_its_process() {
    const NAME: &str = "tests::sftp::the_child_ends_with_its_process";
    let Some(_) = server() else { return };
    if let Some(word) = child_word() {
        let scratch = PathBuf::from(word);
        let script = format!("echo $$ >>'{}'; exec $S", scratch.join("pids").display());
        let storage = by_shell(&script, &scratch.join("r"), Duration::from_secs(30));
        let mut growing = storage.grow(&extra("klar/a")).unwrap();
        loop {
            growing.append(b"x").unwrap();
            storage.write(&extra("klar/b"), b"b").unwrap();
            std::fs::write(scratch.join("ready"), "").unwrap();
        }
    }
    let scratch = Scratch::new("sftp-child");
    let mut process =
        child(NAME, scratch.0.to_str().unwrap()).stdout(std::process::Stdio::null()).spawn().unwrap();
    let begun = Instant::now();
    while !scratch.0.join("ready").exists() {
        assert!(begun.elapsed() < Duration::from_secs(60));
        std::thread::sleep(Duration::from_millis(20));
    }
    process.kill().unwrap();
    process.wait().unwrap();
    let pids = std::fs::read_to_string(scratch.0.join("pids")).unwrap();
    assert_eq!(pids.lines().count(), 2);
    // One that is a zombie until somebody takes note of it is over, too.
    let runs = |pid: &str| {
        std::fs::read_to_string(format!("/proc/{pid}/cmdline")).is_ok_and(|line| !line.is_empty())
    };
    let begun = Instant::now();
    while pids.lines().any(runs) {
        assert!(begun.elapsed() < Duration::from_secs(60), "it runs on");
        std::thread::sleep(Duration::from_millis(20));
    }
}
