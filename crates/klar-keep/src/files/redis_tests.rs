//! A real Redis, kept and brought back.

use std::net::TcpListener;
use std::process::{Child, Command, Stdio};

use klar_base::Secret;
use klar_base::keep::KeptRedis;

use super::*;
use crate::point::StepKind;

const PROGRAM: &str = "/usr/bin/redis-server";

struct Server {
    child: Child,
    port: u16,
    folder: PathBuf,
}

impl Server {
    /// `None` where none is installed, which is said.
    fn start(name: &str) -> Option<Self> {
        if !Path::new(PROGRAM).is_file() {
            eprintln!("skipped: Redis is not installed (apt-get install redis-server)");
            return None;
        }
        let folder = std::env::temp_dir().join(format!("klar-redis-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(folder.join("files")).unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let child = Command::new(PROGRAM)
            .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--requirepass", "secret"])
            .args(["--appendonly", "yes", "--repl-diskless-sync-delay", "0", "--dir"])
            .arg(folder.join("files"))
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let server = Self { child, port, folder };
        let begun = Instant::now();
        while server.cli(&["PING"]) != "PONG" {
            assert!(begun.elapsed() < Duration::from_secs(20), "redis-server does not come up");
            std::thread::sleep(Duration::from_millis(20));
        }
        Some(server)
    }

    fn cli(&self, words: &[&str]) -> String {
        let mut command = Command::new("redis-cli");
        command.env("REDISCLI_AUTH", "secret").args(["--no-auth-warning", "-p", &self.port.to_string()]);
        let output = command.args(words).output().unwrap();
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    fn told(&self) -> KeptRedis {
        KeptRedis {
            name: "cache".parse().unwrap(),
            port: self.port,
            password: Secret::new("secret".into()),
            program: PROGRAM.into(),
            memory: 1 << 30,
            days: 7,
        }
    }

    fn keeper(&self, told: KeptRedis) -> Inner {
        let settings = Settings {
            name: "cache".parse().unwrap(),
            home: self.folder.join("keep"),
            host: "test".into(),
            second_name: "shop.prod/cache".into(),
        };
        let wishes = Wishes { at: (2, 0), days: 7, second: None };
        let source = Source::Redis(redis::Source::new(told));
        Inner::open(settings, wishes, source, Box::new(|_| {})).unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_dir_all(&self.folder);
    }
}

fn points(inner: &Inner) -> Vec<FilesPoint> {
    let points = Points::<FilesPoint>::read(&inner.repository, &inner.trusted).unwrap();
    points.points.into_values().collect()
}

/// One of each kind, in several databases, with names and values that are no text.
fn some_of_all(server: &Server) {
    for (database, words) in [
        ("0", &["SET", "text", "smørbrød"][..]),
        ("0", &["SET", "for long", "x", "EX", "10000"]),
        ("0", &["SET", "for a moment", "x", "PX", "1500"]),
        ("0", &["EVAL", "redis.call('SET', '\\0\\255\\r\\n', string.rep('\\0\\200', 5000))", "0"]),
        ("0", &["EVAL", "for i = 1, 3000 do redis.call('HSET', 'hash', i, i * i) end", "0"]),
        ("1", &["RPUSH", "list", "a", "b", "c"]),
        ("1", &["SADD", "set", "1", "2", "three"]),
        ("2", &["ZADD", "scores", "1.5", "a", "-inf", "b"]),
        ("2", &["XADD", "stream", "*", "field", "value"]),
        ("2", &["XGROUP", "CREATE", "stream", "group", "0"]),
        ("15", &["SETBIT", "bits", "77", "1"]),
        ("15", &["PFADD", "guess", "a", "b"]),
    ] {
        let said = server.cli(&[&["-n", database], words].concat());
        assert!(!said.contains("ERR"), "{words:?}: {said}");
    }
}

#[test]
fn what_is_in_a_redis_comes_back() {
    let Some(server) = Server::start("back") else { return };
    some_of_all(&server);
    let inner = server.keeper(server.told());
    let proof = inner.point(&mut |_, _, _| {}).unwrap();
    let steps: Vec<StepKind> = proof.steps.iter().map(|step| step.what).collect();
    assert_eq!(steps, [StepKind::Files, StepKind::Contents, StepKind::Replay, StepKind::Tables], "{proof:?}");
    assert!(proof.rto_ms.is_some());
    let point = points(&inner).remove(0);
    let loaded = &point.read.redis.as_ref().unwrap().loaded;
    assert_eq!(loaded.keys, [(0, 5), (1, 2), (2, 2), (15, 2)].into());
    // The server has written no file for it.
    assert!(!server.folder.join("files/dump.rdb").exists());

    // What is in the copy is what was in the server, by the server's own word.
    let back = server.folder.join("back");
    restored(&inner.repository, &point, &back).unwrap();
    let (copy, again) = inner.redis().unwrap().load(&back, &|| false).unwrap();
    assert_eq!(again, *loaded);
    let ask = |words: &[&str]| {
        let output = Command::new("redis-cli").arg("-s").arg(copy.socket()).args(words).output().unwrap();
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    };
    for words in [
        &["GET", "text"][..],
        &["HGET", "hash", "3000"],
        &["-n", "1", "LRANGE", "list", "0", "-1"],
        &["-n", "2", "ZRANGE", "scores", "0", "-1", "WITHSCORES"],
        &["-n", "2", "XINFO", "GROUPS", "stream"],
        &["-n", "15", "PFCOUNT", "guess"],
    ] {
        assert_eq!(ask(words), server.cli(words), "{words:?}");
        assert!(!ask(words).is_empty());
    }
    drop(copy);

    // What expires meanwhile is in the snapshot all the same: it is proven as it was.
    std::thread::sleep(Duration::from_millis(1600));
    assert_eq!(server.cli(&["EXISTS", "for a moment"]), "0");
    let proof = inner.drill(None, None, false).unwrap();
    assert!(proof.is_good(), "{proof:?}");
    let keeper = FilesKeeper { inner: Arc::new(inner), thread: None };
    assert!(keeper.notices(Harm::Flipped).unwrap() && keeper.notices(Harm::Gone).unwrap());
    assert!(keeper.status().daily && keeper.status().redis);
}

/// It is written to all the time, always two keys at once: a snapshot has both or none.
#[test]
fn a_snapshot_is_of_one_moment() {
    let Some(server) = Server::start("moment") else { return };
    let is_over = Arc::new(AtomicBool::new(false));
    let inner = server.keeper(server.told());
    std::thread::scope(|scope| {
        let (ends, server) = (is_over.clone(), &server);
        scope.spawn(move || {
            let script = "local n = redis.call('INCR', 'n'); \
                          redis.call('SET', 'a' .. n, string.rep('x', n % 1000)); redis.call('SADD', 'b', n)";
            while !ends.load(Ordering::Acquire) {
                server.cli(&["-r", "200", "EVAL", script, "0"]);
            }
        });
        while server.cli(&["GET", "n"]).is_empty() {
            std::thread::sleep(Duration::from_millis(5));
        }
        for _ in 0..3 {
            let proof = inner.point(&mut |_, _, _| {});
            let point = points(&inner).pop();
            let checked = proof.map(|proof| {
                let back = server.folder.join("back");
                let point = point.unwrap();
                assert_eq!(proof.point, point.id);
                restored(&inner.repository, &point, &back).unwrap();
                let (copy, _) = inner.redis().unwrap().load(&back, &|| false).unwrap();
                let ask = |words: &[&str]| {
                    let mut command = Command::new("redis-cli");
                    let output = command.arg("-s").arg(copy.socket()).args(words).output().unwrap();
                    String::from_utf8_lossy(&output.stdout).trim().parse::<u64>().unwrap_or_default()
                };
                let (n, members, keys) = (ask(&["GET", "n"]), ask(&["SCARD", "b"]), ask(&["DBSIZE"]));
                fs::remove_dir_all(&back).unwrap();
                (n, members, keys)
            });
            if checked.as_ref().map_or(true, |(n, members, keys)| n != members || *keys != n + 2) {
                is_over.store(true, Ordering::Release);
                panic!("{checked:?}");
            }
        }
        is_over.store(true, Ordering::Release);
    });
}

#[test]
fn what_cannot_be_loaded_is_no_point() {
    let Some(server) = Server::start("refused") else { return };
    some_of_all(&server);
    let said = |told: KeptRedis| {
        let inner = server.keeper(told);
        let error = inner.point(&mut |_, _, _| {}).unwrap_err();
        assert!(points(&inner).is_empty());
        (error.to_string(), error.hint().unwrap())
    };
    let (what, hint) = said(KeptRedis { password: Secret::new("wrong".into()), ..server.told() });
    assert!(
        what.contains("`cache` at 127.0.0.1:") && what.contains("does not take klar's password"),
        "{what}"
    );
    assert!(hint.contains("CONFIG SET requirepass"), "{hint}");
    let (what, _) = said(KeptRedis { memory: 1 << 20, ..server.told() });
    assert!(what.contains("bytes of memory, and may have 1048576"), "{what}");
    let (what, _) = said(KeptRedis { program: "/nowhere/redis-server".into(), ..server.told() });
    assert!(what.contains("could not be run"), "{what}");
    // Nothing is left of what came to nothing.
    assert_eq!(fs::read_dir(server.folder.join("keep/work")).unwrap().count(), 0);

    // A byte that is another one, anywhere: the server's own sum over all of it finds that.
    let inner = server.keeper(server.told());
    inner.point(&mut |_, _, _| {}).unwrap();
    let (point, back) = (points(&inner).remove(0), server.folder.join("back"));
    restored(&inner.repository, &point, &back).unwrap();
    let path = back.join(redis::SNAPSHOT);
    let whole = fs::read(&path).unwrap();
    for at in [0, 20, whole.len() / 2, whole.len() - 1] {
        let mut damaged = whole.clone();
        damaged[at] ^= 1;
        fs::write(&path, damaged).unwrap();
        assert!(inner.redis().unwrap().load(&back, &|| false).is_err(), "{at}");
    }
    fs::write(&path, &whole[..whole.len() - 1]).unwrap();
    assert!(inner.redis().unwrap().load(&back, &|| false).is_err());
}

#[test]
fn an_hour_later_a_point_is_taken_where_something_was_written() {
    let Some(server) = Server::start("hourly") else { return };
    server.cli(&["SET", "a", "1"]);
    let inner = server.keeper(server.told());
    assert!(inner.is_due());
    inner.point(&mut |_, _, _| {}).unwrap();
    assert!(!inner.is_due());
    let mark = inner.shared().mark.clone().unwrap();
    let is_changed = |mark: &str| redis::Source::new(server.told()).is_changed(mark, &|| false).unwrap();
    assert!(!is_changed(&mark));
    assert!(server.cli(&["GET", "a"]) == "1" && !is_changed(&mark));
    server.cli(&["SET", "a", "2"]);
    assert!(is_changed(&mark));
    // It is not asked again within the minute.
    let source = redis::Source::new(server.told());
    assert!(source.is_changed(&mark, &|| false).unwrap() && !source.is_changed(&mark, &|| false).unwrap());
}
