//! The API over a real socket, in front of a core that only remembers what it was asked.
#![allow(clippy::unwrap_used)] // a test that cannot go on should stop where it is

use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use klar_api::{Client, ClientError, Settings};
use klar_base::look::{Counts, Explained, Outcome, Wanted};
use klar_base::shadow::Tried;
use klar_base::signal::DecidedBy;
use klar_base::upstreams::{Purge, RuleFiles};
use klar_base::{AppKey, Hint, Secret, ServiceName};
use klar_run::control::{
    Control, DeployRequest, Events, LogQuery, ReplayRequest, ReplayedRequest, TriedRules, TryRequest,
    UpgradeRequest,
};
use klar_run::layout::Layout;
use klar_run::report::{Event, Failure, Finding, Grade, HostStatus, LogLine, Receipt, Upgrade, UpgradeState};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{mpsc, oneshot};

/// Remembers what it was asked, and answers with something recognisable.
struct Double {
    uploads: PathBuf,
    asked: RefCell<Vec<String>>,
    /// Gets a word when the reader of a followed log, or of a deploy, has gone.
    gone: RefCell<Option<oneshot::Sender<&'static str>>>,
}

impl Double {
    fn note(&self, what: String) {
        self.asked.borrow_mut().push(what);
    }

    fn finish(&self, operation: &str, key: &AppKey) -> Events {
        let (sender, events) = mpsc::channel(8);
        let receipt = receipt(operation, key);
        tokio::task::spawn_local(async move {
            let _ = sender.send(Event::Begin { step: "start".into(), detail: "2 instances".into() }).await;
            let _ = sender.send(Event::Done(Box::new(receipt))).await;
        });
        events
    }
}

fn receipt(operation: &str, key: &AppKey) -> Receipt {
    Receipt {
        operation: operation.into(),
        key: key.clone(),
        from: None,
        to: None,
        started_unix_ms: 0,
        duration_ms: 1,
        switch_ms: None,
        requests: 0,
        failed_requests: 0,
        app_errors: 0,
        url: "https://localhost:8443".into(),
        notes: Vec::new(),
    }
}

fn explained(wanted: Wanted) -> Explained {
    Explained {
        method: wanted.method,
        url: wanted.url,
        app: None,
        route: None,
        service: None,
        files: None,
        outcome: Outcome {
            decided_by: DecidedBy::Refused,
            status: Some(404),
            what: "no".into(),
            location: None,
        },
        instances: Vec::new(),
        next: None,
        policies: Vec::new(),
        cache: None,
        away: None,
        adds: Vec::new(),
        sites: Vec::new(),
    }
}

impl Control for Double {
    async fn status(&self) -> HostStatus {
        HostStatus {
            version: "9.9.9".into(),
            core_pid: 7,
            spawner_pid: None,
            state_folder: "/s".into(),
            uptime_ms: 1,
            edge: Default::default(),
            see: Default::default(),
            apps: Vec::new(),
            state_format: 1,
            upgrade: None,
        }
    }
    async fn doctor(&self) -> Vec<Finding> {
        vec![Finding { topic: "limits".into(), grade: Grade::Fair, what: "rlimits".into(), hint: None }]
    }
    async fn authority(&self) -> Result<String, Failure> {
        Ok("-----BEGIN CERTIFICATE-----\n".into())
    }
    fn uploads(&self) -> &Path {
        &self.uploads
    }
    async fn deploy(&self, key: AppKey, request: DeployRequest) -> Events {
        let content = std::fs::read(self.uploads.join(&request.upload)).unwrap();
        let secret = request.secrets.get("env:TOKEN").map(|secret| secret.expose().len());
        self.note(format!("deploy {key} first={} {} bytes, secret {secret:?}", request.first, content.len()));
        if key.app.as_str() == "broken" {
            let (sender, events) = mpsc::channel(1);
            let failure = Failure::new("the app exits at once").hint("look at its output");
            sender.try_send(Event::Failed(failure)).unwrap();
            return events;
        }
        if key.app.as_str() == "slow" {
            // What was asked for goes on, also when nobody waits for it any more.
            tokio::time::sleep(Duration::from_millis(300)).await;
            self.note("slow deploy went on".into());
            if let Some(gone) = self.gone.borrow_mut().take() {
                let _ = gone.send("finished");
            }
        }
        self.finish("deploy", &key)
    }
    async fn replay(&self, _: AppKey, wanted: ReplayRequest) -> Result<ReplayedRequest, Failure> {
        Err(Failure::new(format!("request {} was not kept", wanted.request_id)).hint("later"))
    }
    async fn try_rules(&self, _: AppKey, wanted: TryRequest) -> Result<Tried, Failure> {
        Err(Failure::new(format!("level {} cannot be tried", wanted.paranoia)))
    }
    async fn rollback(&self, key: AppKey) -> Events {
        self.note(format!("rollback {key}"));
        self.finish("rollback", &key)
    }
    async fn restart(&self, key: AppKey, service: Option<ServiceName>) -> Events {
        self.note(format!("restart {key} {service:?}"));
        self.finish("restart", &key)
    }
    async fn scale(&self, key: AppKey, service: ServiceName, instances: u32) -> Events {
        self.note(format!("scale {key} {service}={instances}"));
        self.finish("scale", &key)
    }
    async fn take_over(&self, key: AppKey, store: ServiceName, copy: String) -> Events {
        self.note(format!("take-over {key} {store} {copy}"));
        self.finish("take-over", &key)
    }
    async fn renew(&self, key: AppKey) -> Events {
        self.note(format!("renew {key}"));
        self.finish("renew", &key)
    }
    async fn down(&self, key: AppKey, purge: bool) -> Events {
        self.note(format!("down {key} purge={purge}"));
        self.finish("down", &key)
    }
    async fn purge(&self, key: AppKey, what: Purge) -> Result<u64, Failure> {
        self.note(format!("purge {key} {what:?}"));
        if key.app.as_str() == "broken" { Err(Failure::new("the edge does not run")) } else { Ok(3) }
    }
    async fn edge_counts(&self) -> Result<Counts, Failure> {
        Ok(Counts { pid: 7, connections: 3, ..Counts::default() })
    }
    async fn edge_explain(&self, wanted: Wanted) -> Result<Explained, Failure> {
        self.note(format!("explain {} {} {:?}", wanted.method, wanted.url, wanted.headers));
        if wanted.url == "/nobody" { Err(Failure::new("no edge runs")) } else { Ok(explained(wanted)) }
    }
    async fn logs(&self, key: AppKey, query: LogQuery) -> Result<mpsc::Receiver<LogLine>, Failure> {
        if key.app.as_str() == "nobody" {
            return Err(Failure::new("there is no app nobody.prod"));
        }
        self.note(format!("logs {key} {query:?}"));
        let (sender, lines) = mpsc::channel(4);
        let gone = self.gone.borrow_mut().take();
        tokio::task::spawn_local(async move {
            for number in 0..query.lines {
                let line = LogLine {
                    time: "2026-01-01T00:00:00Z".into(),
                    instance: "api.1".into(),
                    stream: "stdout".into(),
                    text: format!("line {number} æøå"),
                };
                if sender.send(line).await.is_err() {
                    return;
                }
            }
            if query.follow {
                sender.closed().await;
                if let Some(gone) = gone {
                    let _ = gone.send("gone");
                }
            }
        });
        Ok(lines)
    }
    async fn loaded(&self, _: AppKey) -> Result<PathBuf, Failure> {
        let path = self.uploads.join("loaded.json");
        std::fs::write(&path, "{}").unwrap();
        Ok(path)
    }
    async fn upgrade(&self, wanted: UpgradeRequest) -> Result<Upgrade, Failure> {
        self.note(format!("upgrade to {} rollback={}", wanted.version, wanted.rollback));
        if wanted.version == "broken" {
            return Err(Failure::new("klar is being upgraded already"));
        }
        Ok(Upgrade {
            number: 7,
            from: "9.9.9".into(),
            to: wanted.version,
            rollback: wanted.rollback,
            state: UpgradeState::Pending,
            why: None,
            receipt: None,
        })
    }
    async fn stop(&self) -> Events {
        self.note("stop".into());
        self.finish("down", &"all".parse().unwrap())
    }
}

struct World {
    client: Client,
    socket: PathBuf,
    double: Rc<Double>,
    gone: oneshot::Receiver<&'static str>,
    folder: PathBuf,
}

impl Drop for World {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

impl World {
    fn uploads(&self) -> Vec<String> {
        let entries = std::fs::read_dir(&self.double.uploads).unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }

    async fn raw(&self, request: &str) -> String {
        let mut stream = UnixStream::connect(&self.socket).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        let _ = tokio::time::timeout(Duration::from_secs(5), stream.read_to_end(&mut answer)).await.unwrap();
        String::from_utf8(answer).unwrap()
    }
}

fn own_uid() -> u32 {
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata("/proc/self").unwrap().uid()
}

/// Runs `test` against a server of its own.
fn with<F: Future<Output = ()>>(name: &str, settings: Settings, test: impl FnOnce(World) -> F) {
    let folder = std::env::temp_dir().join(format!("klar-api-{name}-{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&folder);
    let layout = Layout::new(&folder);
    let uploads = folder.join("uploads");
    for made in [&uploads, &layout.run()] {
        std::fs::create_dir_all(made).unwrap();
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    tokio::task::LocalSet::new().block_on(&runtime, async {
        let (sender, gone) = oneshot::channel();
        let gone_sender = RefCell::new(Some(sender));
        let double = Rc::new(Double { uploads, asked: RefCell::default(), gone: gone_sender });
        let listener = UnixListener::bind(layout.control_socket()).unwrap();
        let server = tokio::task::spawn_local(klar_api::serve(double.clone(), listener, settings));
        let client = Client::new(&layout);
        test(World { client, socket: layout.control_socket(), double, gone, folder }).await;
        server.abort();
    });
}

fn allowed() -> Settings {
    Settings::new([own_uid()])
}

fn archive(pieces: &[&[u8]], error: Option<&str>) -> klar_api::client::Archive {
    let (sender, archive) = mpsc::channel(64);
    for piece in pieces {
        sender.try_send(Ok(bytes::Bytes::copy_from_slice(piece))).unwrap();
    }
    if let Some(error) = error {
        sender.try_send(Err(std::io::Error::other(error))).unwrap();
    }
    archive
}

fn deploy_request(upload: &str) -> DeployRequest {
    let secrets = [("env:TOKEN".to_owned(), Secret::new("12345".to_owned()))].into();
    DeployRequest { upload: upload.into(), first: true, secrets, certificate: None }
}

#[test]
fn every_question_reaches_the_core_and_comes_back() {
    with("every", allowed(), |world| async move {
        let client = &world.client;
        let key: AppKey = "shop.staging".parse().unwrap();
        assert_eq!(client.status().await.unwrap().version, "9.9.9");
        assert_eq!(client.doctor().await.unwrap()[0].grade, Grade::Fair);
        assert!(client.authority().await.unwrap().starts_with("-----BEGIN"));
        assert_eq!(client.config(&key).await.unwrap(), "{}");

        let big = vec![7u8; 2 << 20];
        let upload = client.upload(archive(&[&big, b"end"], None)).await.unwrap();
        let mut events = Vec::new();
        let receipt = client.deploy(&key, &deploy_request(&upload), |event| events.push(event.clone())).await;
        assert_eq!(receipt.unwrap().operation, "deploy");
        assert!(matches!(&events[..], [Event::Begin { .. }, Event::Done(_)]), "{events:?}");

        client.rollback(&key, |_| {}).await.unwrap();
        client.restart(&key, None, |_| {}).await.unwrap();
        client.restart(&key, Some("api".parse().unwrap()), |_| {}).await.unwrap();
        client.scale(&key, "api".parse().unwrap(), 3, |_| {}).await.unwrap();
        client.renew(&key, |_| {}).await.unwrap();
        let again = ReplayRequest { request_id: "0a".into(), exceptions: Vec::new() };
        let refused = client.replay(&key, &again).await.unwrap_err();
        assert_eq!(refused.to_string(), "request 0a was not kept");
        let set = RuleFiles { rules: vec![("a.conf".into(), "#".repeat(3 << 20))], data: Vec::new() };
        let rules = TriedRules::Files(set);
        let wanted = TryRequest { rules, paranoia: 2, exceptions: Vec::new(), attacked: Vec::new() };
        let refused = client.try_rules(&key, &wanted).await.unwrap_err();
        assert_eq!(refused.to_string(), "level 2 cannot be tried");
        let purged = client.purge(&key, &Purge::Tag("goods".into())).await.unwrap();
        assert_eq!(purged.dropped, 3);
        client.down(&key, true, |_| {}).await.unwrap();
        let wanted = UpgradeRequest { version: "10.0.0".into(), rollback: false };
        let upgrade = client.upgrade(&wanted).await.unwrap();
        assert_eq!((upgrade.number, upgrade.to.as_str()), (7, "10.0.0"));
        client.stop(|_| {}).await.unwrap();
        assert_eq!(
            *world.double.asked.borrow(),
            [
                "deploy shop.staging first=true 2097155 bytes, secret Some(5)",
                "rollback shop.staging",
                "restart shop.staging None",
                "restart shop.staging Some(ServiceName(\"api\"))",
                "scale shop.staging api=3",
                "renew shop.staging",
                "purge shop.staging Tag(\"goods\")",
                "down shop.staging purge=true",
                "upgrade to 10.0.0 rollback=false",
                "stop",
            ]
        );
    });
}

#[test]
fn a_failed_operation_and_a_refused_one_differ() {
    with("failed", allowed(), |world| async move {
        let upload = world.client.upload(archive(&[b"tar"], None)).await.unwrap();
        let key: AppKey = "broken".parse().unwrap();
        let failed = world.client.deploy(&key, &deploy_request(&upload), |_| {}).await.unwrap_err();
        assert!(matches!(&failed, ClientError::Failed(failure) if failure.what == "the app exits at once"));
        assert_eq!(failed.hint().unwrap(), "look at its output");
        for upload in ["../host.json", "no-such-upload", ""] {
            let refused = world.client.deploy(&key, &deploy_request(upload), |_| {}).await.unwrap_err();
            assert!(matches!(&refused, ClientError::Refused { status, .. } if status.as_u16() == 404));
        }
        let query = LogQuery { lines: 1, ..LogQuery::default() };
        let missing = world.client.logs(&"nobody".parse().unwrap(), &query, |_| true).await.unwrap_err();
        assert_eq!(missing.to_string(), "there is no app nobody.prod");
        let purge = world.client.purge(&key, &Purge::All).await.unwrap_err();
        assert_eq!(purge.to_string(), "the edge does not run");
        let wanted = UpgradeRequest { version: "broken".into(), rollback: false };
        let upgrade = world.client.upgrade(&wanted).await.unwrap_err();
        assert_eq!(upgrade.to_string(), "klar is being upgraded already");
    });
}

#[test]
fn the_edge_can_be_asked() {
    with("edge", allowed(), |world| async move {
        let counts = world.client.edge_counts().await.unwrap();
        assert_eq!((counts.pid, counts.connections), (7, 3));
        let headers = vec![("cookie".to_owned(), "a=1".to_owned())];
        let wanted = Wanted {
            url: "/a".into(),
            app: None,
            method: "POST".into(),
            headers,
            from: Some([10, 0, 0, 1].into()),
            certificate: None,
        };
        let told = world.client.edge_explain(&wanted).await.unwrap();
        assert_eq!((told.url.as_str(), told.outcome.status), ("/a", Some(404)));
        assert_eq!(world.double.asked.borrow().last().unwrap(), "explain POST /a [(\"cookie\", \"a=1\")]");
        let refused =
            world.client.edge_explain(&Wanted { url: "/nobody".into(), ..wanted }).await.unwrap_err();
        assert_eq!(refused.to_string(), "no edge runs");
        // Only the address has to be said.
        let body = r#"{"url":"/b"}"#;
        let request = format!(
            "POST /v1/edge/explain HTTP/1.1\r\nhost: klar\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        assert!(world.raw(&request).await.starts_with("HTTP/1.1 200"));
        assert_eq!(world.double.asked.borrow().last().unwrap(), "explain GET /b []");
    });
}

#[test]
fn an_operation_goes_on_when_its_listener_leaves() {
    with("leaves", allowed(), |mut world| async move {
        let upload = world.client.upload(archive(&[b"tar"], None)).await.unwrap();
        let key: AppKey = "slow".parse().unwrap();
        let request = deploy_request(&upload);
        let asked = world.client.deploy(&key, &request, |_| {});
        assert!(tokio::time::timeout(Duration::from_millis(100), asked).await.is_err());
        let word = tokio::time::timeout(Duration::from_secs(5), &mut world.gone).await;
        assert_eq!(word.unwrap().unwrap(), "finished");
    });
}

#[test]
fn logs_stream_and_the_core_hears_when_the_reader_has_gone() {
    with("logs", allowed(), |mut world| async move {
        let key: AppKey = "shop".parse().unwrap();
        let query = LogQuery { lines: 3000, ..LogQuery::default() };
        let mut count = 0;
        let all = world.client.logs(&key, &query, |line| {
            assert_eq!(line.text, format!("line {count} æøå"));
            count += 1;
            true
        });
        all.await.unwrap();
        assert_eq!(count, 3000);
        // The double tells once; the first stream has used no word of it, since it did not follow.
        let (sender, gone) = oneshot::channel();
        *world.double.gone.borrow_mut() = Some(sender);
        world.gone = gone;
        let query = LogQuery { lines: 2, follow: true, ..LogQuery::default() };
        let mut seen = 0;
        let followed = world.client.logs(&key, &query, |_| {
            seen += 1;
            true
        });
        assert!(tokio::time::timeout(Duration::from_millis(300), followed).await.is_err(), "it goes on");
        assert_eq!(seen, 2);
        let word = tokio::time::timeout(Duration::from_secs(5), &mut world.gone).await;
        assert_eq!(word.unwrap().unwrap(), "gone");
    });
}

#[test]
fn strangers_are_refused_before_they_are_heard() {
    with("strangers", Settings::new([own_uid() + 1]), |world| async move {
        let refused = world.client.status().await.unwrap_err();
        assert!(matches!(&refused, ClientError::NotPermitted { .. }), "{refused:?}");
        assert_eq!(refused.to_string(), format!("user {} may not talk to this klar", own_uid()));
        let refused = world.client.down(&"shop".parse().unwrap(), true, |_| {}).await.unwrap_err();
        assert!(matches!(refused, ClientError::NotPermitted { .. }));
        assert!(world.double.asked.borrow().is_empty());
        use std::os::unix::fs::PermissionsExt;
        let mode = std::fs::metadata(&world.socket).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o666, "somebody else may ask, so the socket must let them in");
    });
}

#[test]
fn half_an_upload_leaves_nothing() {
    with("half", Settings { upload_bytes: 1000, ..allowed() }, |world| async move {
        let broken = world.client.upload(archive(&[b"half"], Some("notes.txt vanished"))).await.unwrap_err();
        assert!(matches!(&broken, ClientError::Source(_)), "{broken:?}");
        assert!(broken.to_string().contains("notes.txt vanished"), "{broken}");
        let head = "POST /v1/uploads HTTP/1.1\r\nhost: klar\r\ncontent-length: 500\r\n\r\n";
        let mut stream = UnixStream::connect(&world.socket).await.unwrap();
        stream.write_all(format!("{head}only this").as_bytes()).await.unwrap();
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert_eq!(world.uploads().len(), 1, "it is on its way");
        drop(stream);
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert!(world.uploads().is_empty(), "{:?}", world.uploads());

        let large =
            world.raw("POST /v1/uploads HTTP/1.1\r\nhost: klar\r\ncontent-length: 1001\r\n\r\n").await;
        assert!(large.starts_with("HTTP/1.1 413"), "{large}");
        let chunk = format!("{:x}\r\n{}\r\n", 1001, "x".repeat(1001));
        let chunked = "POST /v1/uploads HTTP/1.1\r\nhost: klar\r\ntransfer-encoding: chunked\r\n\r\n";
        let large = world.raw(&format!("{chunked}{chunk}")).await;
        assert!(large.starts_with("HTTP/1.1 413"), "{large}");
        assert!(large.contains("the archive is larger than 1000B"), "{large}");
        assert!(world.uploads().is_empty());
    });
}

#[test]
fn requests_that_make_no_sense_are_explained() {
    with("sense", Settings { json_bytes: 100, ..allowed() }, |world| async move {
        let post = |path: &str, body: &str| {
            format!(
                "POST {path} HTTP/1.1\r\nhost: klar\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
                body.len()
            )
        };
        let get = |path: &str| format!("GET {path} HTTP/1.1\r\nhost: klar\r\nconnection: close\r\n\r\n");
        for (request, status, words) in [
            (get("/"), 404, "POST /v1/apps/{app}/deploy"),
            (get("/v1/apps/shop/deploy"), 405, "only POST"),
            (get("/v1/apps/Shop/logs"), 400, "may only use a-z"),
            (get("/v1/apps/shop/logs?lins=3"), 400, "`lins` is unknown"),
            (post("/v1/apps/shop/scale", "{"), 400, "the body is not JSON (line 1, column 1)"),
            (post("/v1/apps/shop/scale", "{\"service\":\"api\"}"), 400, "not what this route takes"),
            (post("/v1/apps/shop/restart", "{\"servise\":\"api\"}"), 400, "not what this route takes"),
            (post("/v1/apps/shop/scale", &" ".repeat(101)), 413, "larger than 100 bytes"),
        ] {
            let answer = world.raw(&request).await;
            let (head, body) = answer.split_once("\r\n\r\n").unwrap();
            assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{request}: {answer}");
            assert!(head.contains("content-type: application/json"), "{answer}");
            let failure: Failure = serde_json::from_str(body).unwrap();
            assert!(body.contains(words), "{failure:?}");
        }
        assert!(world.double.asked.borrow().is_empty());
    });
}

#[test]
fn no_core_is_told_from_a_forbidden_one() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let client = Client::new(&Layout::new("/nonexistent/klar"));
    let error = runtime.block_on(client.status()).unwrap_err();
    assert!(matches!(error, ClientError::NotRunning { .. }), "{error:?}");
    assert_eq!(error.hint().unwrap(), "run `klar up` in the folder of an app");
}
