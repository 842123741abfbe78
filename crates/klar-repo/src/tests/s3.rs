//! S3 as moto speaks it (not a real S3: objects in memory, and signatures are judged by AWS' library alone), with faults on the way there.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use super::*;

/// A server of moto's; it ends with it.
struct Moto {
    child: Child,
    port: u16,
}

impl Drop for Moto {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// `None`, said: there is no moto here. `cargo xtask test` installs one.
fn moto() -> Option<Moto> {
    let python = std::env::var("KLAR_READERS_PYTHON").unwrap_or_else(|_| "python3".into());
    let has = Command::new(&python).args(["-c", "import moto.server"]).stderr(Stdio::null()).status();
    if !has.is_ok_and(|status| status.success()) {
        println!("skipped: no Python with moto; name one in KLAR_READERS_PYTHON");
        return None;
    }
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let mut command = Command::new(python);
    command.args(["-m", "moto.server", "-H", "127.0.0.1", "-p", &port.to_string()]);
    let moto = Moto { child: command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap(), port };
    let begun = Instant::now();
    while ureq::put(format!("http://127.0.0.1:{port}/bucket")).send_empty().is_err() {
        assert!(begun.elapsed() < Duration::from_secs(60), "moto did not start");
        std::thread::sleep(Duration::from_millis(100));
    }
    Some(moto)
}

fn s3(port: u16, prefix: &str) -> Arc<S3> {
    bucket(port, "bucket", prefix)
}

fn bucket(port: u16, name: &str, prefix: &str) -> Arc<S3> {
    let options = S3Options {
        endpoint: format!("http://127.0.0.1:{port}"),
        bucket: name.into(),
        prefix: prefix.into(),
        region: "us-east-1".into(),
        key: "id".into(),
        secret: "secret".into(),
        patience: Duration::from_secs(2),
    };
    Arc::new(S3::new(&options).unwrap())
}

#[test]
fn it_keeps_what_a_storage_promises() {
    let Some(moto) = moto() else { return };
    let storage = s3(moto.port, "some/place");
    assert_eq!(storage.place(), format!("s3:http://127.0.0.1:{}/bucket/some/place", moto.port));
    let object = Object::Extra("klar/a".into());
    assert!(storage.read(&object).unwrap_err().is_gone());
    storage.remove(&object).unwrap();
    storage.write(&object, b"0123456789").unwrap();
    storage.write(&object, b"0123456789").unwrap();
    assert!(matches!(storage.write(&object, b"other"), Err(StorageError::Exists(_))));
    assert_eq!(storage.read(&object).unwrap(), b"0123456789");
    assert_eq!(storage.read_range(&object, 2, 3).unwrap(), b"234");
    assert_eq!(storage.read_range(&object, 2, 0).unwrap(), b"");
    assert!(matches!(storage.read_range(&object, 8, 3), Err(StorageError::Short { length: 10, .. })));
    assert!(matches!(storage.read_range(&object, 20, 3), Err(StorageError::Short { .. })));
    // A list has more than one page.
    for number in 0..1100 {
        storage.write(&Object::Extra(format!("klar/many/{number:04}")), b"x").unwrap();
    }
    let listed = storage.list_extra("klar/many/").unwrap();
    assert_eq!((listed.len(), &listed[1099]), (1100, &("klar/many/1099".to_owned(), 1)));
    assert_eq!(s3(moto.port, "some").list_extra("klar/").unwrap(), []);
    // What a person gets to read.
    let nowhere = S3::new(&S3Options {
        endpoint: format!("http://127.0.0.1:{}", moto.port),
        bucket: "nowhere".into(),
        prefix: String::new(),
        region: "us-east-1".into(),
        key: "id".into(),
        secret: "secret".into(),
        patience: Duration::from_secs(2),
    });
    let error = nowhere.unwrap().read(&object).unwrap_err().to_string();
    let expected =
        "reading klar/a: the store answered 404 Not Found, NoSuchBucket: The specified bucket does not exist";
    assert_eq!(error, expected);
}

#[test]
fn restic_reads_what_is_there() {
    let Some(moto) = moto() else { return };
    let scratch = Scratch::new("s3");
    let (source, target) = (scratch.0.join("source"), scratch.0.join("restored"));
    some_files(&source, 21);
    let repository = Repository::create(s3(moto.port, "a/b"), PASSWORD, "owner").unwrap();
    let stored = back_up(&repository, &source).unwrap();
    let snapshot = repository.snapshot(stored.snapshot).unwrap();
    repository.reader().unwrap().restore(&snapshot, &target).unwrap();
    assert_eq!(all_of(&target), all_of(&source));
    let report = repository.check(CheckData::All, &mut |_| {});
    assert!(report.problems.is_empty(), "{report:?}");
    let place = format!("s3:http://127.0.0.1:{}/bucket/a/b", moto.port);
    let mut check = restic_command(Path::new(&place), &["check", "--read-data"]);
    check.envs([("AWS_ACCESS_KEY_ID", "id"), ("AWS_SECRET_ACCESS_KEY", "secret")]);
    match check.output() {
        Ok(output) => assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr)),
        Err(_) => println!("skipped: no restic"),
    }
}

/// Whoever has the credentials removes all that there is; where the store locks what is written, nothing is lost. Five
/// times, each on a bucket of its own.
#[test]
fn what_is_locked_outlives_stolen_credentials() {
    let Some(moto) = moto() else { return };
    assert!(!s3(moto.port, "a").is_locked(&Object::Extra("klar/probe".into())).unwrap());
    let scratch = Scratch::new("locked");
    let source = scratch.0.join("source");
    some_files(&source, 21);
    for round in 0..5 {
        let address = format!("http://127.0.0.1:{}/locked{round}", moto.port);
        ureq::put(&address).header("x-amz-bucket-object-lock-enabled", "true").send_empty().unwrap();
        let days = "<ObjectLockConfiguration><ObjectLockEnabled>Enabled</ObjectLockEnabled><Rule><DefaultRetention>\
                    <Mode>COMPLIANCE</Mode><Days>30</Days></DefaultRetention></Rule></ObjectLockConfiguration>";
        ureq::put(format!("{address}?object-lock")).send(days).unwrap();
        let storage = bucket(moto.port, &format!("locked{round}"), "a");
        assert!(storage.is_locked(&Object::Extra("klar/probe".into())).unwrap());
        let repository = Repository::create(storage.clone(), PASSWORD, "owner").unwrap();
        let stored = back_up(&repository, &source).unwrap();
        // What it looks like is removed, and what is beneath is tried.
        let versions =
            || ureq::get(format!("{address}?versions")).call().unwrap().body_mut().read_to_string().unwrap();
        let parts = |xml: &str, tag: &str| -> Vec<(String, String)> {
            let of = |part: &str, tag: &str| {
                part.split_once(&format!("<{tag}>"))
                    .and_then(|(_, rest)| Some(rest.split_once('<')?.0.to_owned()))
            };
            xml.split(&format!("<{tag}>"))
                .skip(1)
                .filter_map(|part| Some((of(part, "Key")?, of(part, "VersionId")?)))
                .collect()
        };
        let mut refused = 0;
        for (key, version) in parts(&versions(), "Version") {
            // AWS puts a mark above it; moto refuses this, too.
            let _ = ureq::delete(format!("{address}/{key}")).call();
            refused +=
                usize::from(ureq::delete(format!("{address}/{key}?versionId={version}")).call().is_err());
        }
        assert!(refused >= 6, "{refused}");
        // The marks are taken away, with other credentials: all is there.
        for (key, mark) in parts(&versions(), "DeleteMarker") {
            ureq::delete(format!("{address}/{key}?versionId={mark}")).call().unwrap();
        }
        let repository = Repository::open(storage, PASSWORD).unwrap();
        let target = scratch.0.join(format!("restored{round}"));
        let snapshot = repository.snapshot(stored.snapshot).unwrap();
        repository.reader().unwrap().restore(&snapshot, &target).unwrap();
        assert_eq!(all_of(&target), all_of(&source));
    }
}

/// What happens to a request on its way.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Way {
    Through,
    /// 503, and the store has seen nothing.
    Busy,
    /// 403.
    Denied,
    /// The store has done it, and the answer gets lost.
    Unheard,
    /// The connection breaks off before the request is whole.
    Half,
    /// Nobody answers.
    Silent,
    /// The store says that there is no such bucket.
    Gone,
    /// The answer breaks off after half of it.
    HalfAnswer,
}

/// A proxy in front of a store: for each request the next way, and then all go through.
struct Ways {
    port: u16,
    next: Arc<Mutex<Vec<Way>>>,
}

impl Ways {
    fn to(store: u16) -> Ways {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let ways =
            Ways { port: listener.local_addr().unwrap().port(), next: Arc::new(Mutex::new(Vec::new())) };
        let next = ways.next.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let next = next.clone();
                std::thread::spawn(move || {
                    let mut stream = BufReader::new(stream);
                    while let Some(request) = request(&mut stream) {
                        let way = next.lock().unwrap().pop().unwrap_or(Way::Through);
                        if go(way, &request, &mut stream, store).is_none() {
                            break;
                        }
                    }
                });
            }
        });
        ways
    }
}

/// A whole request, told to close the connection: one at a time goes to the store.
fn request(stream: &mut BufReader<TcpStream>) -> Option<Vec<u8>> {
    let (mut head, mut length) = (String::new(), 0);
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).ok()? == 0 {
            return None;
        }
        if let Some(value) = line.to_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().ok()?;
        }
        if line == "\r\n" {
            break;
        }
        if !line.to_lowercase().starts_with("connection:") {
            head.push_str(&line);
        }
    }
    let mut bytes = (head + "connection: close\r\n\r\n").into_bytes();
    let from = bytes.len();
    bytes.resize(from + length, 0);
    stream.read_exact(&mut bytes[from..]).ok()?;
    Some(bytes)
}

/// `None`: the connection is at its end.
fn go(way: Way, request: &[u8], stream: &mut BufReader<TcpStream>, store: u16) -> Option<()> {
    let forward = |bytes: &[u8]| {
        let mut answer = Vec::new();
        let mut stream = TcpStream::connect(("127.0.0.1", store)).ok()?;
        stream.write_all(bytes).ok()?;
        stream.shutdown(std::net::Shutdown::Write).ok()?;
        stream.read_to_end(&mut answer).ok()?;
        Some(answer)
    };
    let said = |status: &str, code: &str| {
        let body = format!("<Error><Code>{code}</Code><Message>As it is.</Message></Error>");
        let length = body.len();
        format!("HTTP/1.1 {status}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}")
            .into_bytes()
    };
    let answer = match way {
        Way::Through => forward(request)?,
        Way::Busy => said("503 Slow Down", "SlowDown"),
        Way::Denied => said("403 Forbidden", "AccessDenied"),
        Way::Gone => said("404 Not Found", "NoSuchBucket"),
        Way::Unheard => {
            forward(request);
            return None;
        }
        // A store throws away what it got of it.
        Way::Half => return None,
        Way::Silent => {
            std::thread::sleep(Duration::from_secs(3));
            return None;
        }
        Way::HalfAnswer => {
            let answer = forward(request)?;
            answer[..answer.len() / 2].to_vec()
        }
    };
    stream.get_mut().write_all(&answer).ok()?;
    // Each answer says that the connection ends.
    None
}

/// A backup through a way with faults is whole, or says why it is not; what was there before stays as it was.
#[test]
fn faults_on_the_way_lose_nothing() {
    let Some(moto) = moto() else { return };
    let scratch = Scratch::new("s3-faults");
    let (source, target) = (scratch.0.join("source"), scratch.0.join("restored"));
    some_files(&source, 5);
    let ways = Ways::to(moto.port);
    let direct = Repository::create(s3(moto.port, "r"), PASSWORD, "owner").unwrap();
    let mut good = Vec::from([(back_up(&direct, &source).unwrap().snapshot, all_of(&source))]);
    let seed = std::env::var("KLAR_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(8);
    let mut random = fastrand::Rng::with_seed(seed);
    let (mut whole, mut refused) = (0, 0);
    for round in 0..rounds(16) {
        std::fs::write(source.join("PG_VERSION"), format!("{round}")).unwrap();
        let fault = random.choice([
            Way::Busy,
            Way::Denied,
            Way::Unheard,
            Way::Half,
            Way::Silent,
            Way::Gone,
            Way::HalfAnswer,
        ]);
        let mut plan = vec![Way::Through; random.usize(..14)];
        plan.push(fault.unwrap());
        plan.reverse();
        let all: Vec<Way> = plan.clone();
        *ways.next.lock().unwrap() = plan;
        let backup = Repository::open(s3(ways.port, "r"), PASSWORD)
            .map_err(|error| error.to_string())
            .and_then(|repository| back_up(&repository, &source).map_err(|error| error.to_string()));
        ways.next.lock().unwrap().clear();
        match backup {
            Ok(stored) => {
                whole += 1;
                good.push((stored.snapshot, all_of(&source)));
            }
            Err(error) => {
                refused += 1;
                assert!(matches!(fault, Some(Way::Denied | Way::Gone)), "seed {seed}, {all:?}: {error}");
                assert!(error.contains("403") || error.contains("NoSuchBucket"), "{error}");
            }
        }
        // A lock that could not be removed is in the way of an exclusive one alone.
        let (snapshot, wanted) = random.choice(&good).unwrap();
        let _ = std::fs::remove_dir_all(&target);
        let snapshot = direct.snapshot(*snapshot).unwrap();
        direct.reader().unwrap().restore(&snapshot, &target).unwrap();
        assert!(all_of(&target) == *wanted, "seed {seed}, round {round}");
    }
    println!("{whole} backups were whole, {refused} said why they were not");
    assert_eq!(direct.snapshots().unwrap().len(), good.len());
    let report = direct.check(CheckData::All, &mut |_| {});
    assert!(report.problems.is_empty(), "{report:?}");
}

/// What AWS' own library for Python would sign: moto compares no signatures.
const JUDGE: &str = r#"
import json, sys
from urllib.parse import parse_qsl, urlsplit
from botocore.auth import S3SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
for asked in json.load(sys.stdin):
    parts, headers = urlsplit(asked["target"]), asked["headers"]
    query = dict(parse_qsl(parts.query, keep_blank_values=True))
    rest = "&".join(part for part in parts.query.split("&") if not part.startswith("X-Amz-Signature="))
    signed = {name: headers[name] for name in query["X-Amz-SignedHeaders"].split(";")}
    request = AWSRequest(asked["method"], f"http://{headers['host']}{parts.path}?{rest}", signed)
    request.context["timestamp"] = query["X-Amz-Date"]
    region = query["X-Amz-Credential"].split("/")[2]
    judge = S3SigV4QueryAuth(Credentials(KEY, SECRET), "s3", region, int(query["X-Amz-Expires"]))
    text = judge.string_to_sign(request, judge.canonical_request(request))
    print(asked["method"], region, judge.signature(text, request) == query["X-Amz-Signature"])
"#;

#[test]
fn requests_are_signed_as_the_vendors_own_library_signs_them() {
    let python = std::env::var("KLAR_READERS_PYTHON").unwrap_or_else(|_| "python3".into());
    let has = Command::new(&python).args(["-c", "import botocore"]).stderr(Stdio::null()).status();
    if !has.is_ok_and(|status| status.success()) {
        println!("skipped: no Python with botocore; name one in KLAR_READERS_PYTHON");
        return;
    }
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let asked = Arc::new(Mutex::new(Vec::new()));
    let notes = asked.clone();
    // It has nothing, and closes each connection.
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = BufReader::new(stream.unwrap());
            let mut lines = Vec::new();
            loop {
                let mut line = String::new();
                stream.read_line(&mut line).unwrap();
                match line.trim_end() {
                    "" => break,
                    line => lines.push(line.to_owned()),
                }
            }
            let headers: BTreeMap<String, String> = lines
                .iter()
                .skip(1)
                .filter_map(|line| line.split_once(": "))
                .map(|(name, value)| (name.to_lowercase(), value.to_owned()))
                .collect();
            let length = headers.get("content-length").map_or(0, |length| length.parse().unwrap());
            std::io::Read::read_exact(&mut stream, &mut vec![0; length]).unwrap();
            let words: Vec<&str> = lines[0].split(' ').collect();
            let one = serde_json::json!({ "method": words[0], "target": words[1], "headers": headers });
            notes.lock().unwrap().push(one);
            let answer = b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
            let _ = stream.get_mut().write_all(answer);
        }
    });
    let (key, secret) = ("AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY");
    let storage = S3::new(&S3Options {
        endpoint: format!("http://127.0.0.1:{port}"),
        bucket: "a.bucket".into(),
        prefix: "some place/åäö+~*'()".into(),
        region: "eu-north-1".into(),
        key: key.into(),
        secret: secret.into(),
        patience: Duration::from_secs(2),
    })
    .unwrap();
    let object = Object::Extra("klar/wal/00000001.a-b_c".into());
    assert!(storage.read(&object).is_err());
    assert!(storage.read_range(&object, 1, 2).is_err());
    assert!(storage.write(&object, b"0123456789").is_err());
    assert!(storage.list_extra("klar/wal/").is_err());
    let _ = storage.remove(&object);
    let asked = serde_json::to_vec(&*asked.lock().unwrap()).unwrap();
    let judge = JUDGE.replace("KEY", &format!("{key:?}")).replace("SECRET", &format!("{secret:?}"));
    let mut judge = Command::new(python)
        .args(["-c", &judge])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    judge.stdin.take().unwrap().write_all(&asked).unwrap();
    let judged = judge.wait_with_output().unwrap();
    let judged = String::from_utf8(judged.stdout).unwrap();
    let lines: std::collections::BTreeSet<&str> = judged.lines().collect();
    let expected = ["DELETE eu-north-1 True", "GET eu-north-1 True", "PUT eu-north-1 True"];
    assert!(lines.iter().copied().eq(expected), "{judged}");
}
