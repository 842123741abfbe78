//! The cache on disk, in an edge that is a process of its own, in its sandbox, and is killed.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::common::{Answer, App, Core, Folder, HOST, PATIENCE, Visitor, WORKERS, reply, upstream};
use klar_base::upstreams::{EdgeConfig, ListenerSpec, Purge, ToEdge};

const FOLDER: &str = "KLAR_TEST_EDGE_FOLDER";
const ONLY_CACHED: &str = "cache-control: only-if-cached\r\n";

/// No test: what the others start as their edge.
#[test]
fn edge_process() {
    let Some(folder) = std::env::var_os(FOLDER).map(std::path::PathBuf::from) else { return };
    let listener = UnixListener::bind(folder.join("control")).unwrap();
    let options = klar_edge::Options {
        core_uid: nix::unistd::getuid().as_raw(),
        static_roots: Vec::new(),
        cache_folder: Some(folder.join("cache")),
        workers: Some(WORKERS),
        program: "test".into(),
        sandbox: true,
    };
    klar_edge::run(listener.into(), options).unwrap();
}

/// An edge that can be killed, and started again on the same sockets.
struct Machine {
    folder: Folder,
    sockets: Vec<OwnedFd>,
    listeners: Vec<ListenerSpec>,
    https: SocketAddr,
    config: EdgeConfig,
    running: Option<(Child, Core)>,
}

impl Machine {
    fn new(app: &App) -> Self {
        let folder = Folder::new();
        std::fs::create_dir(folder.path("cache")).unwrap();
        let mut https = SocketAddr::from(([127, 0, 0, 1], 0));
        let (mut listeners, mut sockets) = (Vec::new(), Vec::new());
        for worker in 0..WORKERS {
            let socket = crate::common::listen(https);
            https = socket.local_addr().unwrap();
            listeners.push(ListenerSpec { address: https, tls: true, worker });
            sockets.push(OwnedFd::from(socket));
        }
        let mut config = crate::common::config(https.port());
        config.cache_bytes = 4 << 20;
        config.cache_disk_bytes = 64 << 20;
        let web = config.sites[0].services.values_mut().next().unwrap();
        web.upstreams = vec![upstream(1, app.address)];
        let mut machine = Self { folder, sockets, listeners, https, config, running: None };
        machine.start();
        machine
    }

    fn start(&mut self) {
        let control = self.folder.path("control");
        // The one before was killed.
        let _ = std::fs::remove_file(&control);
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "cache_disk::edge_process"])
            .env(FOLDER, self.folder.path(""))
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let end = Instant::now() + PATIENCE;
        let core = loop {
            match std::os::unix::net::UnixStream::connect(&control) {
                Ok(stream) => break Core::over(stream),
                Err(_) => assert!(Instant::now() < end, "waited in vain for the edge"),
            }
            std::thread::sleep(Duration::from_millis(2));
        };
        core.send(&ToEdge::Listen { listeners: self.listeners.clone() }, &self.sockets);
        self.config.generation += 1;
        core.send(&ToEdge::Config(Box::new(self.config.clone())), &[]);
        core.wait("the configuration", |heard| (heard.applied == self.config.generation).then_some(()));
        self.running = Some((child, core));
    }

    fn core(&self) -> &Core {
        &self.running.as_ref().unwrap().1
    }

    /// `kill -9`.
    fn kill(&mut self) {
        let (mut child, _core) = self.running.take().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// Ends it in order.
    fn stop(&mut self) {
        let (mut child, core) = self.running.take().unwrap();
        core.send(&ToEdge::Stop { patience: Duration::ZERO }, &[]);
        assert!(child.wait().unwrap().success());
    }

    fn ask(&self, line: &str, headers: &str) -> Answer {
        ask(self.https, line, headers).unwrap()
    }

    /// Waits until what is on disk has been read, which shows in this address.
    fn wait_read(&self, path: &str) -> Answer {
        let end = Instant::now() + PATIENCE;
        loop {
            let answer = self.ask(&format!("GET {path}"), ONLY_CACHED);
            if answer.status == 200 {
                return answer;
            }
            assert!(Instant::now() < end, "waited in vain for {path} to come from disk");
        }
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        if let Some((child, _)) = &mut self.running {
            // It may have ended.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn ask(https: SocketAddr, line: &str, headers: &str) -> std::io::Result<Answer> {
    let mut visitor = Visitor::tls(https, HOST);
    visitor.try_send(format!("{line} HTTP/1.1\r\nhost: {HOST}\r\ncontent-length: 0\r\n{headers}\r\n"))?;
    visitor.try_answer(line)
}

fn page(got: &crate::common::Got, stream: &mut std::net::TcpStream) -> crate::common::Then {
    let headers = "cache-control: public, max-age=600\r\ncache-tag: goods\r\nx-app: 1\r\n";
    reply(stream, "200 OK", headers, &got.line.repeat(100))
}

/// Answers are there again after an end in order, older than before, and the app hears nothing.
#[test]
fn a_restart_keeps_the_cache() {
    let app = App::start(page);
    let mut machine = Machine::new(&app);
    for number in 0..50 {
        assert_eq!(machine.ask(&format!("GET /{number}"), "").status, 200);
    }
    machine.stop();
    machine.start();
    machine.wait_read("/0");
    for number in 0..50 {
        let line = format!("GET /{number}");
        let answer = machine.ask(&line, ONLY_CACHED);
        assert_eq!((answer.status, answer.text()), (200, line.repeat(100)));
        assert!(answer.header("age").is_some() && answer.header("x-app") == Some("1"));
        assert!(answer.header("cache-status").unwrap().starts_with("klar; hit"));
    }
    assert_eq!(app.got().len(), 50);
}

/// What memory has no room for comes from disk, over and over.
#[test]
fn memory_is_not_all() {
    let app = App::start(|_, stream| {
        reply(stream, "200 OK", "cache-control: public, max-age=600\r\n", &"x".repeat(100_000))
    });
    let mut machine = Machine::new(&app);
    for number in 0..100 {
        machine.ask(&format!("GET /{number}"), "");
    }
    machine.stop();
    machine.start();
    machine.wait_read("/99");
    for _ in 0..2 {
        for number in 0..100 {
            let answer = machine.ask(&format!("GET /{number}"), "");
            assert_eq!((answer.status, answer.body.len()), (200, 100_000));
        }
    }
    assert_eq!(app.got().len(), 100);
}

/// The core hears of a purge when it would survive a kill; a deploy that happens meanwhile leaves nothing.
#[test]
fn a_kill_brings_nothing_back() {
    let app = App::start(page);
    let mut machine = Machine::new(&app);
    for path in ["/a", "/a/b", "/c"] {
        machine.ask(&format!("GET {path}"), "");
    }
    machine.stop();
    machine.start();
    machine.wait_read("/a");
    let purge = |number, what| ToEdge::Purge { number, app: "shop.prod".parse().unwrap(), what };
    machine.core().send(&purge(1, Purge::Prefix("/a".into())), &[]);
    let dropped = machine.core().wait("the purge", |heard| heard.purged.first().map(|(_, dropped)| *dropped));
    assert_eq!(dropped, 2, "each of them once, in memory or on disk");
    machine.kill();
    machine.start();
    machine.wait_read("/c");
    for path in ["/a", "/a/b"] {
        assert_eq!(machine.ask(&format!("GET {path}"), ONLY_CACHED).status, 504, "{path}");
    }
    machine.kill();
    let web = machine.config.sites[0].services.values_mut().next().unwrap();
    web.upstreams[0].release = "ba9876543210".parse().unwrap();
    machine.start();
    // Something new shows that all has been read.
    machine.ask("GET /new", "");
    assert_eq!(machine.ask("GET /c", ONLY_CACHED).status, 504);
    assert_eq!(machine.ask("GET /c", "").status, 200);
}

/// Pages of the load below, so few that each is asked for and written often.
const PAGES: usize = 12;

/// An app whose pages have versions, which a `POST` raises.
struct Versions {
    now: [AtomicU64; PAGES],
    /// The newest one whose `POST` was answered.
    answered: [AtomicU64; PAGES],
}

fn body(page: usize, version: u64) -> String {
    let line = format!("page {page} version {version}\n");
    line.repeat(1 + (page * 331 + version as usize * 97) % 3000)
}

/// An edge is killed in the middle of reading, writing and forgetting, again and again: no visitor ever gets half a
/// page, another page, or one that is older than a change that was acknowledged before.
#[test]
fn every_answer_is_right_whatever_is_killed() {
    static VERSIONS: Versions = Versions {
        now: [const { AtomicU64::new(0) }; PAGES],
        answered: [const { AtomicU64::new(0) }; PAGES],
    };
    let app = App::start(|got, stream| {
        let (method, path) = got.line.split_once(" /").unwrap();
        let number: usize = path.parse().unwrap();
        if method == "POST" {
            let version = VERSIONS.now[number].fetch_add(1, Ordering::SeqCst) + 1;
            return reply(stream, "200 OK", "", &version.to_string());
        }
        let version = VERSIONS.now[number].load(Ordering::SeqCst);
        reply(stream, "200 OK", "cache-control: public, max-age=600\r\n", &body(number, version))
    });
    let mut machine = Machine::new(&app);
    let (https, done, answers) = (machine.https, AtomicBool::new(false), AtomicUsize::new(0));
    let (hits, wrong) = (AtomicUsize::new(0), std::sync::Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for thread in 0..4_usize {
            let (done, answers, hits, wrong) = (&done, &answers, &hits, &wrong);
            scope.spawn(move || {
                let mut turn = thread;
                while !done.load(Ordering::SeqCst) {
                    turn += 1;
                    let number = (turn * 7 + thread * 5) % PAGES;
                    if turn % 9 == 0 {
                        // One that broke off may have reached the app or not; nobody was told.
                        if let Ok(answer) = ask(https, &format!("POST /{number}"), "")
                            && answer.status == 200
                        {
                            let version = answer.text().parse().unwrap();
                            VERSIONS.answered[number].fetch_max(version, Ordering::SeqCst);
                        }
                        continue;
                    }
                    let oldest = VERSIONS.answered[number].load(Ordering::SeqCst);
                    let Ok(answer) = ask(https, &format!("GET /{number}"), "") else { continue };
                    if answer.status != 200 {
                        continue;
                    }
                    let newest = VERSIONS.now[number].load(Ordering::SeqCst);
                    let text = answer.text();
                    if !(oldest..=newest).any(|version| text == body(number, version)) {
                        let start: String = text.chars().take(60).collect();
                        wrong.lock().unwrap().push(format!("/{number} {oldest}..={newest}: {start}"));
                    }
                    let is_hit = answer.header("cache-status").is_some_and(|status| status.contains("; hit"));
                    hits.fetch_add(usize::from(is_hit), Ordering::SeqCst);
                    answers.fetch_add(1, Ordering::SeqCst);
                }
            });
        }
        for _ in 0..6 {
            let (end, wanted) = (Instant::now() + PATIENCE, answers.load(Ordering::SeqCst) + 60);
            while answers.load(Ordering::SeqCst) < wanted && Instant::now() < end {
                std::thread::sleep(Duration::from_millis(1));
            }
            machine.kill();
            machine.start();
        }
        done.store(true, Ordering::SeqCst);
    });
    assert!(answers.load(Ordering::SeqCst) >= 300 && hits.load(Ordering::SeqCst) > 0);
    let wrong = wrong.lock().unwrap();
    assert!(wrong.is_empty(), "{wrong:#?}");
}
