//! The whole of it, over its sockets, and with the programs that it is there for.

mod agents;
mod bulk;
mod doors;
mod loki;
mod soak;
mod stores;

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use klar_base::see::{Pulse, SeenApp, SeenInstance, SeenService, ToSee, World};
use klar_base::{Secret, lines, wire};
use serde_json::Value;

use crate::record;

/// A folder of its own, which goes with its test.
pub struct Folder(PathBuf);

impl Folder {
    pub fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("klar-see-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A program that runs beside a test, and no longer than it.
pub struct Program(std::process::Child);

impl Program {
    pub fn start(command: &mut Command) -> Self {
        Self(command.spawn().unwrap())
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // One that has ended already is as good.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

pub const KEY: &str = "the-key-of-the-host";
pub const TOKEN: &str = "the-token-of-the-shop";

fn world() -> World {
    let instance = SeenInstance {
        id: "shop.prod.api.7".parse().unwrap(),
        release: Some("8e359c5cd8f2".parse().unwrap()),
        shim: Some(std::process::id()),
        ready: true,
        metrics: None,
        store: None,
    };
    let service = SeenService { name: "api".parse().unwrap(), kind: "web".into(), wanted: 2, restarts: 3 };
    let app = SeenApp {
        key: "shop.prod".parse().unwrap(),
        token: Secret::new(TOKEN.into()),
        release: instance.release.clone(),
        live_since_unix_ms: 1_750_000_000_000,
        services: vec![service],
        instances: vec![instance],
    };
    World { apps: vec![app], key: Some(Secret::new(KEY.into())) }
}

/// Telemetry in a thread, and the core's end of its socket.
pub struct Running {
    core: Option<UnixStream>,
    pub address: SocketAddr,
    socket: PathBuf,
    thread: Option<std::thread::JoinHandle<Result<(), crate::SeeError>>>,
}

impl Running {
    pub fn start(folder: &Folder) -> Self {
        let (core, there) = UnixStream::pair().unwrap();
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = tcp.local_addr().unwrap();
        let socket = folder.path().join("see.sock");
        let _ = std::fs::remove_file(&socket);
        let unix = UnixListener::bind(&socket).unwrap();
        let options = crate::Options {
            folder: folder.path().join("state"),
            apps: folder.path().join("apps"),
            allowed: vec![nix::unistd::geteuid().as_raw()],
            sandbox: false,
        };
        std::fs::create_dir_all(&options.folder).unwrap();
        let thread = std::thread::spawn(move || crate::run(there, Some(unix), vec![tcp], options));
        let running = Self { core: Some(core), address, socket, thread: Some(thread) };
        running.say(&ToSee::World(world()));
        running
    }

    fn say(&self, message: &ToSee) {
        wire::send(self.core.as_ref().unwrap(), message, &[]).unwrap();
    }

    /// What the edge says of requests.
    fn requests(&self, requests: &[(&str, u16, u64)]) {
        let mut frame = lines::head(5);
        for (path, status, duration_us) in requests {
            writeln!(frame, "shop.prod {}", record::json(path, *status, *duration_us)).unwrap();
        }
        frame.extend_from_slice(b"shop.prod {torn\n");
        wire::send_text(self.core.as_ref().unwrap(), &frame, &[]).unwrap();
    }

    /// Over TCP, with a key.
    pub fn ask(&self, key: Option<&str>, method: &str, target: &str, body: &[u8]) -> (u16, String) {
        self.ask_with(key, "", method, target, body)
    }

    /// Waits until the key is known, and gives it.
    fn known(&self) -> &'static str {
        self.until("the key is known", |see| {
            (see.ask(Some(KEY), "GET", "/metrics", b"").0 == 200).then_some(())
        });
        KEY
    }

    /// With more headers, each of them ended as HTTP wants it.
    fn send(&self, key: &str, method: &str, target: &str, headers: &str, body: &[u8]) -> (u16, String) {
        self.ask_with(Some(key), headers, method, target, body)
    }

    /// The same with more lines in the head.
    pub fn ask_with(
        &self,
        key: Option<&str>,
        more: &str,
        method: &str,
        target: &str,
        body: &[u8],
    ) -> (u16, String) {
        let authorization = key.map(|key| format!("authorization: Bearer {key}\r\n")).unwrap_or_default();
        let stream = TcpStream::connect(self.address).unwrap();
        exchange(stream, &format!("{authorization}{more}"), method, target, body)
    }

    pub fn get(&self, target: &str) -> Value {
        let (status, body) = exchange(UnixStream::connect(&self.socket).unwrap(), "", "GET", target, b"");
        let said: Value = serde_json::from_str(&body).unwrap_or_else(|_| panic!("{status} {body}"));
        assert_eq!(said["status"], "success", "{target}: {body}");
        said["data"].clone()
    }

    fn metrics(&self) -> BTreeMap<String, f64> {
        let (status, text) = self.ask(Some(KEY), "GET", "/metrics", b"");
        assert_eq!(status, 200);
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        lines
            .filter_map(|line| line.rsplit_once(' '))
            .map(|(name, value)| (name.into(), value.parse().unwrap()))
            .collect()
    }

    /// Waits until something is so.
    pub fn until<T>(&self, what: &str, mut look: impl FnMut(&Self) -> Option<T>) -> T {
        let begun = Instant::now();
        loop {
            if let Some(found) = look(self) {
                return found;
            }
            assert!(begun.elapsed() < Duration::from_secs(60), "{what}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// As the core ends it.
    pub fn end(mut self) {
        self.core = None;
        self.thread.take().unwrap().join().unwrap().unwrap();
    }
}

fn exchange(
    mut stream: impl Read + Write,
    headers: &str,
    method: &str,
    target: &str,
    body: &[u8],
) -> (u16, String) {
    write!(
        stream,
        "{method} {target} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{headers}content-length: {}\r\n\r\n",
        body.len()
    )
    .unwrap();
    stream.write_all(body).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
}

#[test]
fn requests_become_metrics_that_can_be_asked_for() {
    let folder = Folder::new("requests");
    let see = Running::start(&folder);
    see.requests(&[("/orders/1", 200, 900), ("/orders/2", 500, 20_000), ("/nothing", 404, 100)]);
    see.say(&ToSee::Pulse(Pulse {
        connections: 4,
        records_dropped: 5,
        frames_dropped: 6,
        leases: Vec::new(),
    }));
    const ORDERS: &str = r#"http_requests_total{app="shop",env="prod",method="GET",release="8e359c5cd8f2",route="/orders/{id}",service="api",status="500"}"#;
    let found = see.until("requests are counted", |see| {
        let found = see.metrics();
        (found.contains_key(ORDERS) && found.get("klar_edge_connections") == Some(&4.0)).then_some(found)
    });
    for (name, value) in [
        (ORDERS, 1.0),
        (r#"klar_records_dropped_total{by="edge"}"#, 5.0),
        (r#"klar_records_dropped_total{by="core"}"#, 6.0),
        (r#"klar_records_dropped_total{by="see"}"#, 1.0),
        (r#"klar_service_instances_wanted{app="shop",env="prod",kind="web",service="api"}"#, 2.0),
        (r#"klar_service_restarts_total{app="shop",env="prod",kind="web",service="api"}"#, 3.0),
    ] {
        assert_eq!(found.get(name), Some(&value), "{name}");
    }
    // Written down at the next look, and then also what they were before the first request: nothing.
    let increase = see.until("requests are written down", |see| {
        let data = see.get("/api/v1/query?query=sum%20by%20(route)%20(http_requests_total)");
        (!data["result"].as_array()?.is_empty()).then(|| {
            see.get("/api/v1/query?query=sum%20by%20(route)%20(changes(http_requests_total%5B1h%5D))")
        })
    });
    let changes: Vec<&str> =
        increase["result"].as_array().unwrap().iter().map(|one| one["value"][1].as_str().unwrap()).collect();
    assert_eq!(changes, ["1", "2"], "each series went from nothing to something");
    assert_eq!(see.get("/api/v1/label/route/values"), serde_json::json!(["/*", "/orders/{id}"]));
    see.end();

    // What was learnt and counted is there again.
    let see = Running::start(&folder);
    assert_eq!(see.get("/api/v1/label/route/values"), serde_json::json!(["/*", "/orders/{id}"]));
    let routes = std::fs::read_to_string(folder.path().join("state/routes/shop.prod.txt")).unwrap();
    assert_eq!(routes, "/orders/{id}\n");
    see.end();
}

#[test]
fn nobody_reads_without_the_key() {
    let folder = Folder::new("keys");
    let see = Running::start(&folder);
    see.until("the key is known", |see| (see.ask(Some(KEY), "GET", "/metrics", b"").0 == 200).then_some(()));
    for (key, method, target, status) in [
        (None, "GET", "/metrics", 401),
        (Some(""), "GET", "/metrics", 401),
        (Some("another"), "GET", "/api/v1/query?query=1", 401),
        (None, "POST", "/api/v1/write", 401),
        (None, "GET", "/-/healthy", 200),
        // An app writes, and does not read what others wrote.
        (Some(TOKEN), "GET", "/metrics", 403),
        (Some(TOKEN), "GET", "/api/v1/query?query=1", 403),
        (Some(KEY), "GET", "/api/v1/nothing", 404),
        (Some(KEY), "DELETE", "/api/v1/query?query=1", 405),
        (Some(KEY), "GET", "/api/v1/write", 405),
        (Some(KEY), "GET", "/api/v1/query", 400),
        (Some(KEY), "GET", "/api/v1/query?query=sum%20by%20(", 400),
        (Some(KEY), "GET", "/api/v1/query?query=up&time=yesterday", 400),
        (Some(KEY), "GET", "/api/v1/query_range?query=up&start=2&end=1&step=1", 400),
        (Some(KEY), "GET", "/api/v1/query_range?query=up&start=0&end=1e9&step=1", 422),
        (Some(KEY), "POST", "/api/v1/write", 400),
    ] {
        let body: &[u8] = if method == "POST" { b"\xff\xff\xff\xff\xff\xff" } else { b"" };
        let answer = see.ask(key, method, target, body);
        assert_eq!(answer.0, status, "{key:?} {method} {target}: {}", answer.1);
    }
    see.end();
}

/// The id of a request leads to what is known of it, and to the lines that name it.
#[test]
fn an_id_leads_from_the_request_to_its_lines() {
    let folder = Folder::new("trace");
    let logs = folder.path().join("apps/shop.prod/logs/api");
    std::fs::create_dir_all(&logs).unwrap();
    let now = jiff::Timestamp::now();
    let id = format!("{:012x}{:020x}", now.as_millisecond(), 7);
    let lines = format!(
        "{now} stdout F {{\"level\":\"info\",\"msg\":\"cart {id}\"}}\n{now} stderr F ERROR another request\n"
    );
    std::fs::write(logs.join("api.7.log"), lines).unwrap();
    let see = Running::start(&folder);
    let record = record::json("/orders/1", 500, 900)
        .replace("\"0192\"", &format!("\"{id}\""))
        .replace("1750000000000", &now.as_millisecond().to_string());
    let mut frame = lines::head(0);
    writeln!(frame, "shop.prod {record}").unwrap();
    wire::send_text(see.core.as_ref().unwrap(), &frame, &[]).unwrap();
    let trace = see.until("both are there", |see| {
        let (status, body) = see.ask(Some(KEY), "GET", &format!("/klar/v1/trace?id={id}"), b"");
        assert!(matches!(status, 200 | 401), "{body}");
        let found: Value = serde_json::from_str(&body).ok()?;
        let is_there = |what: &str| found[what].as_array().is_some_and(|rows| rows.len() == 1);
        (is_there("requests") && is_there("lines")).then_some(found)
    });
    let request = &trace["requests"][0];
    for (name, value) in [
        ("id", Value::from(id.as_str())),
        ("route", "/orders/{id}".into()),
        ("status", 500.into()),
        ("duration_us", 900.into()),
        ("client", "127.0.0.1".into()),
        ("release", "8e359c5cd8f2".into()),
        ("instance", "api.7".into()),
    ] {
        assert_eq!(request[name], value, "{name} of {request}");
    }
    assert_eq!(
        (&trace["lines"][0]["level"], &trace["lines"][0]["service"]),
        (&Value::from("info"), &Value::from("api"))
    );
    let find = |target: &str| {
        let (status, body) = see.ask(Some(KEY), "GET", target, b"");
        (status, serde_json::from_str::<Value>(&body).unwrap()["rows"].as_array().map_or(0, Vec::len))
    };
    for (target, found) in [
        ("/klar/v1/requests?app=shop&env=prod", (200, 1)),
        ("/klar/v1/requests?status=5xx&route=/orders/%7Bid%7D", (200, 1)),
        ("/klar/v1/requests?status=404", (200, 0)),
        ("/klar/v1/requests?slower_ms=1", (200, 0)),
        ("/klar/v1/requests?contains=orders", (200, 1)),
        ("/klar/v1/logs?app=shop", (200, 2)),
        ("/klar/v1/logs?level=error", (200, 1)),
        ("/klar/v1/logs?matches=an.ther", (200, 1)),
        ("/klar/v1/logs?matches=(", (400, 0)),
        ("/klar/v1/requests?id=1", (400, 0)),
        ("/klar/v1/requests?status=x", (400, 0)),
        ("/klar/v1/trace", (400, 0)),
        ("/klar/v1/nothing", (404, 0)),
    ] {
        assert_eq!(find(target), found, "{target}");
    }
    assert_eq!(see.ask(Some(TOKEN), "GET", "/klar/v1/logs", b"").0, 403);
    see.end();
}

/// An app that is removed leaves nothing behind; others stay.
#[test]
fn what_is_forgotten_is_gone() {
    let folder = Folder::new("forget");
    let see = Running::start(&folder);
    see.until("the key is known", |see| (see.ask(Some(KEY), "GET", "/metrics", b"").0 == 200).then_some(()));
    see.requests(&[("/orders/1", 200, 900)]);
    let now = crate::now_ms();
    for app in ["shop", "bank"] {
        let sample = write_request(&[("__name__", "carts"), ("app", app), ("env", "prod")], now, 3.0);
        assert_eq!(see.ask(Some(KEY), "POST", "/api/v1/write", &sample).0, 204);
    }
    let since = "/klar/v1/requests?since=0";
    see.until("the request is a row", |see| {
        see.ask(Some(KEY), "GET", since, b"").1.contains("/orders/1").then_some(())
    });
    see.say(&ToSee::Forget { key: "shop.prod".parse().unwrap() });
    // At the latest when it ends.
    see.end();
    let see = Running::start(&folder);
    see.until("the key is known", |see| (see.ask(Some(KEY), "GET", "/metrics", b"").0 == 200).then_some(()));
    assert_eq!(see.get("/api/v1/label/app/values?match[]=carts"), serde_json::json!(["bank"]));
    assert_eq!(see.get("/api/v1/label/route/values"), serde_json::json!([]));
    assert!(!see.ask(Some(KEY), "GET", since, b"").1.contains("/orders/1"));
    see.end();
}

/// A field of a message of Protocol Buffers.
fn field(out: &mut Vec<u8>, number: u8, bytes: &[u8]) {
    out.push(number << 3 | 2);
    assert!(bytes.len() < 128 * 128);
    out.extend_from_slice(&[(bytes.len() & 0x7f) as u8 | 0x80, (bytes.len() >> 7) as u8]);
    out.extend_from_slice(bytes);
}

/// A number in it, as it is written there.
fn varint(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

/// A request of remote write with one sample.
fn write_request(labels: &[(&str, &str)], time_ms: i64, value: f64) -> Vec<u8> {
    let mut series = Vec::new();
    for (name, value) in labels {
        let mut label = Vec::new();
        field(&mut label, 1, name.as_bytes());
        field(&mut label, 2, value.as_bytes());
        field(&mut series, 1, &label);
    }
    let mut sample = vec![0x09];
    sample.extend_from_slice(&value.to_le_bytes());
    sample.push(0x10);
    varint(&mut sample, time_ms as u64);
    field(&mut series, 2, &sample);
    let mut request = Vec::new();
    field(&mut request, 1, &series);
    snap::raw::Encoder::new().compress_vec(&request).unwrap()
}

#[test]
fn an_app_writes_only_as_itself() {
    let folder = Folder::new("write");
    let see = Running::start(&folder);
    see.until("the key is known", |see| (see.ask(Some(KEY), "GET", "/metrics", b"").0 == 200).then_some(()));
    let now = crate::now_ms();
    let of_app = write_request(&[("__name__", "carts"), ("app", "bank"), ("of", "app")], now, 3.0);
    let of_owner = write_request(&[("__name__", "carts"), ("app", "bank"), ("of", "owner")], now, 4.0);
    assert_eq!(see.ask(Some(TOKEN), "POST", "/api/v1/write", &of_app).0, 204);
    assert_eq!(see.ask(Some(KEY), "POST", "/api/v1/write", &of_owner).0, 204);
    // Again is no harm; another value at the same time is none of use.
    assert_eq!(see.ask(Some(KEY), "POST", "/api/v1/write", &of_owner).0, 204);
    let other = write_request(&[("__name__", "carts"), ("app", "bank"), ("of", "owner")], now, 5.0);
    let (status, why) = see.ask(Some(KEY), "POST", "/api/v1/write", &other);
    assert_eq!((status, &*why), (400, "1 samples have another value than one of the same time\n"));
    let late =
        write_request(&[("__name__", "carts"), ("app", "bank"), ("of", "owner")], now + 86_400_000, 5.0);
    assert_eq!(see.ask(Some(KEY), "POST", "/api/v1/write", &late).0, 400, "tomorrow");
    let nameless = write_request(&[("of", "owner")], now, 5.0);
    assert_eq!(see.ask(Some(KEY), "POST", "/api/v1/write", &nameless).0, 400, "no name");
    let found = see.get("/api/v1/query?query=sort(carts)");
    let found: Vec<(&str, &str)> = found["result"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| (one["metric"]["app"].as_str().unwrap(), one["value"][1].as_str().unwrap()))
        .collect();
    assert_eq!(found, [("shop", "3"), ("bank", "4")]);
    see.end();
}

/// Whether a program is there. `cargo xtask test` installs all of them.
fn is_there(program: &str) -> bool {
    let there = Command::new(program).arg("--version").output().is_ok();
    if !there {
        eprintln!("skipped: {program} is not installed (apt-get install prometheus)");
    }
    there
}

#[test]
fn promtool_reads_it() {
    if !is_there("promtool") {
        return;
    }
    let folder = Folder::new("promtool");
    let see = Running::start(&folder);
    see.requests(&[("/orders/1", 200, 900), ("/a\\u0022b", 500, 20_000)]);
    let text = see.until("requests are counted", |see| {
        let (_, text) = see.ask(Some(KEY), "GET", "/metrics", b"");
        text.contains("http_requests_total{").then_some(text)
    });
    let file = folder.path().join("metrics.txt");
    std::fs::write(&file, text).unwrap();
    let checked = Command::new("sh")
        .arg("-c")
        .arg(format!("promtool check metrics < {}", file.display()))
        .output()
        .unwrap();
    let complaints = String::from_utf8_lossy(&checked.stderr).into_owned();
    // Names of `node_exporter` that it itself complains about.
    let complaints: Vec<&str> = complaints.lines().filter(|line| !line.starts_with("node_")).collect();
    assert!(complaints.is_empty(), "{complaints:#?}");

    let url = format!("http://klar:{KEY}@{}", see.address);
    see.until("something is written down", |see| {
        let data = see.get("/api/v1/query?query=node_load1");
        (!data["result"].as_array()?.is_empty()).then_some(())
    });
    let run = |args: &[&str]| {
        let output = Command::new("promtool").args(args).output().unwrap();
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    assert!(run(&["query", "instant", &url, "count(node_load1)"]).contains("=> 1 @"));
    assert!(run(&["query", "range", &url, "vector(1)", "--step=1m"]).contains("1 @["));
    assert!(run(&["query", "series", &url, "--match=node_load1"]).contains("node_load1"));
    assert!(run(&["query", "labels", &url, "__name__"]).contains("node_load1"));
    see.end();
}

/// A real Prometheus scrapes telemetry and writes what it got back into it.
#[test]
fn prometheus_writes_to_it() {
    if !is_there("prometheus") {
        return;
    }
    let folder = Folder::new("prometheus");
    let see = Running::start(&folder);
    see.requests(&[("/orders/1", 200, 900)]);
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let config = folder.path().join("prometheus.yml");
    let text = format!(
        "global: {{scrape_interval: 1s}}\nscrape_configs:\n- job_name: klar\n  authorization: {{credentials: {KEY}}}\n  \
         static_configs: [{{targets: ['{0}']}}]\nremote_write:\n- url: http://{0}/api/v1/write\n  authorization: \
         {{credentials: {KEY}}}\n",
        see.address
    );
    std::fs::write(&config, text).unwrap();
    let _prometheus = Program::start(
        Command::new("prometheus")
            .arg(format!("--config.file={}", config.display()))
            .arg(format!("--storage.tsdb.path={}", folder.path().join("prometheus").display()))
            .arg(format!("--web.listen-address=127.0.0.1:{port}"))
            .arg("--log.level=error"),
    );
    let found = see.until("it has written", |see| {
        let data = see.get("/api/v1/query?query=http_requests_total%7Bjob%3D%22klar%22%7D");
        let found = data["result"].as_array()?.first()?.clone();
        Some(found)
    });
    assert_eq!(
        (&found["metric"]["route"], &found["value"][1]),
        (&Value::from("/orders/{id}"), &Value::from("1"))
    );
    let up = see.get("/api/v1/query?query=up%7Bjob%3D%22klar%22%7D");
    assert_eq!(up["result"][0]["value"][1], "1");
    see.end();
}

/// What an instance counts itself is there under its own labels, and it is known when it cannot be asked.
#[test]
fn what_apps_count_is_asked_for() {
    let app = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = app.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in app.incoming() {
            let mut stream = stream.unwrap();
            let mut asked = [0; 1024];
            let read = stream.read(&mut asked).unwrap();
            assert!(asked[..read].starts_with(b"GET /own HTTP/1.0\r\n"));
            let body = "# TYPE carts_total counter\ncarts_total{app=\"mine\",kind=\"gift\"} 7\n";
            write!(stream, "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len()).unwrap();
        }
    });
    let folder = Folder::new("scrape");
    let see = Running::start(&folder);
    let mut with_metrics = world();
    let instances = &mut with_metrics.apps[0].instances;
    instances[0].metrics = Some((port, "/own".into()));
    let mut second = instances[0].clone();
    second.id = "shop.prod.api.8".parse().unwrap();
    // Nobody listens there.
    second.metrics =
        Some((TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port(), "/own".into()));
    instances.push(second);
    see.say(&ToSee::World(with_metrics));
    let carts = see.until("it is asked", |see| {
        let data = see.get("/api/v1/query?query=carts_total");
        Some(data["result"].as_array()?.first()?.clone())
    });
    assert_eq!(carts["value"][1], "7");
    for (name, value) in [
        ("app", "shop"),
        ("exported_app", "mine"),
        ("kind", "gift"),
        ("instance", "api.7"),
        ("release", "8e359c5cd8f2"),
    ] {
        assert_eq!(carts["metric"][name], value, "{name}");
    }
    let up = see.until("both are known", |see| {
        let up = see.get("/api/v1/query?query=sort(up)");
        (up["result"].as_array()?.len() == 2).then_some(up)
    });
    let up: Vec<(&str, &str)> = up["result"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| (one["metric"]["instance"].as_str().unwrap(), one["value"][1].as_str().unwrap()))
        .collect();
    assert_eq!(up, [("api.8", "0"), ("api.7", "1")]);
    see.end();
}
