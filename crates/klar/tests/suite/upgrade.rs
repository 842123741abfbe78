//! klar becomes another program while visitors are there: everything on a real core, with real processes.

use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::common::{App, Host, is_root};
use serde_json::Value;

const TOML: &str = "[app]\nname = \"shop\"\n[services.web]\nrun = \"node server.js\"\n";
/// Answers everything, and counts at `/events` for as long as somebody listens.
const SERVER: &str = r"
const http = require('http');
http.createServer((request, response) => {
  if (request.url !== '/events') return response.end('hello\n');
  response.writeHead(200, { 'content-type': 'text/event-stream' });
  let number = 0;
  const timer = setInterval(() => response.write('data: ' + (number++) + '\n\n'), 20);
  response.on('close', () => clearInterval(timer));
}).listen(process.env.PORT, '127.0.0.1');
";

fn real() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_klar"))
}

/// The same program, as far as anybody can tell, in other bytes: what lies behind the end of an ELF file is not read.
fn other_program(host: &Host) -> PathBuf {
    let path = host.folder.join("klar-next");
    std::fs::copy(real(), &path).unwrap();
    std::fs::File::options().append(true).open(&path).unwrap().write_all(b"next").unwrap();
    path
}

fn script(host: &Host, name: &str, text: &str) -> PathBuf {
    let path = host.folder.join(name);
    std::fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    path
}

/// Which file a process runs from.
fn program_of(pid: i64) -> Option<(u64, u64)> {
    let found = std::fs::metadata(format!("/proc/{pid}/exe")).ok()?;
    Some((found.dev(), found.ino()))
}

fn pid(status: &Value, names: &[&str]) -> Option<i64> {
    names.iter().fold(status, |value, name| &value[*name]).as_i64()
}

/// A curl that knows nothing of klar, ready to ask without klar's help: between two cores nobody gives certificates.
struct Curl {
    authority: PathBuf,
    https: u16,
}

impl Curl {
    fn new(app: &App<'_>) -> Self {
        let authority = app.host.folder.join("authority.pem");
        std::fs::write(&authority, app.klar(&["trust", "--print"])).unwrap();
        Self { authority, https: app.https }
    }

    fn command(&self, path: &str) -> Command {
        let mut command = Command::new("curl");
        command.args(["-sS", "-f", "--cacert"]).arg(&self.authority);
        command.args(["--resolve", &format!("localhost:{}:127.0.0.1", self.https)]);
        command.arg(format!("https://localhost:{}{path}", self.https));
        command.stdout(Stdio::null()).stderr(Stdio::null());
        command
    }

    fn answers(&self) -> bool {
        self.command("/").args(["--max-time", "20"]).status().unwrap().success()
    }
}

/// Asks without a pause until it is told to stop, and counts.
struct Load {
    stop: Arc<AtomicBool>,
    served: Arc<AtomicU64>,
    thread: JoinHandle<u64>,
}

impl Load {
    fn start(curl: Curl) -> Self {
        let (stop, served) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (over, count) = (stop.clone(), served.clone());
        let thread = std::thread::spawn(move || {
            let mut failed = 0;
            while !over.load(Ordering::SeqCst) {
                match curl.answers() {
                    true => count.fetch_add(1, Ordering::SeqCst),
                    false => {
                        failed += 1;
                        0
                    }
                };
            }
            failed
        });
        Self { stop, served, thread }
    }

    fn stop(self) -> (u64, u64) {
        self.stop.store(true, Ordering::SeqCst);
        let failed = self.thread.join().unwrap();
        (self.served.load(Ordering::SeqCst), failed)
    }
}

/// Somebody who listens to events.
struct Listener {
    child: Child,
    file: PathBuf,
}

impl Listener {
    fn start(curl: &Curl, folder: &Path) -> Self {
        let file = folder.join("events.txt");
        let out = std::fs::File::create(&file).unwrap();
        let child = curl.command("/events").arg("-N").stdout(out).spawn().unwrap();
        Self { child, file }
    }

    fn heard(&self) -> usize {
        std::fs::read_to_string(&self.file)
            .unwrap_or_default()
            .lines()
            .filter(|line| !line.is_empty())
            .count()
    }

    fn assert_hears_more(&mut self, app: &App<'_>) {
        let before = self.heard();
        app.until("another event", || (self.heard() > before).then_some(()));
        assert!(self.child.try_wait().unwrap().is_none(), "the listener was cut");
        let text = std::fs::read_to_string(&self.file).unwrap();
        assert_eq!(text.matches("data: 0\n").count(), 1, "it listened without a break");
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn kill_hard(pid: i64) {
    let _ = Command::new("kill").args(["-9", &pid.to_string()]).status().unwrap();
}

#[test]
fn everything_is_replaced_and_nothing_is_cut() {
    let host = Host::new();
    let app = host.app("shop", &[("klar.toml", TOML), ("server.js", SERVER)]);
    app.klar(&["up"]);
    let next = other_program(&host);
    let curl = Curl::new(&app);
    let mut listener = Listener::start(&curl, &host.folder);
    listener.assert_hears_more(&app);
    let before = app.json(&["status"]);
    let load = Load::start(curl);

    for (number, args) in
        [vec!["upgrade", next.to_str().unwrap()], vec!["upgrade", "--rollback"]].iter().enumerate()
    {
        let old = app.json(&["status"]);
        let receipt = app.json(args);
        assert_eq!((&receipt["type"], &receipt["failed_requests"]), (&"done".into(), &0.into()), "{receipt}");
        assert!(receipt["requests"].as_u64().unwrap() > 0, "{receipt}");
        let new = app.json(&["status"]);
        assert_eq!(new["upgrade"]["state"], "done");
        let current = host.state.join("bin/klar");
        let current = std::fs::metadata(current).map(|found| (found.dev(), found.ino())).ok();
        for names in [&["core_pid"][..], &["edge", "pid"][..]] {
            assert_ne!(pid(&old, names), pid(&new, names), "{names:?} of upgrade {number}");
            assert_eq!(program_of(pid(&new, names).unwrap()), current, "{names:?} of upgrade {number}");
        }
        // The host stays the process that it was, whatever it runs from.
        assert_eq!(old["spawner_pid"], new["spawner_pid"]);
        if is_root() {
            let spawner = pid(&new, &["spawner_pid"]).unwrap();
            app.until("the spawner runs from it", || (program_of(spawner) == current).then_some(()));
        }
        let instances = |status: &Value| status["apps"][0]["services"][0]["instances"][0]["pid"].clone();
        assert_eq!(instances(&old), instances(&new), "the app was not touched");
        assert_eq!(new["edge"]["restarts"], 0);
        let draining: Vec<Option<i64>> =
            new["edge"]["draining"].as_array().unwrap().iter().map(|edge| edge["pid"].as_i64()).collect();
        assert!(
            draining.contains(&pid(&before, &["edge", "pid"])),
            "somebody still listens there: {draining:?}"
        );
        listener.assert_hears_more(&app);
    }
    let (served, failed) = load.stop();
    assert!(served > 0);
    assert_eq!(failed, 0, "of {} requests", served + failed);
    let ledger = app.klar(&["ledger"]);
    assert!(!ledger.is_empty());
    let kept = std::fs::read_to_string(host.state.join("ledger/ledger.jsonl")).unwrap();
    assert!(kept.contains("klar.host"), "the receipts of the upgrades are there");

    drop(listener);
    app.until("all edges before have drained", || {
        app.json(&["status"])["edge"]["draining"].as_array().unwrap().is_empty().then_some(())
    });
    // The same again is nothing to do.
    let same = app.klar(&["upgrade", host.state.join("bin/klar").to_str().unwrap()]);
    assert!(same.contains("runs from this program already"), "{same}");
}

#[test]
fn what_is_no_newer_klar_is_refused() {
    let host = Host::new();
    let app = host.app("shop", &[("klar.toml", TOML), ("server.js", SERVER)]);
    app.klar(&["up"]);
    let before = app.json(&["status"]);
    let speaks = |formats: &str| format!("case $1 in --version) echo klar 9.9.9;; *) {formats};; esac");
    let programs = [
        (host.folder.join("missing"), "No such file"),
        (host.folder.clone(), "no program that can be run"),
        (host.folder.join("shop/server.js"), "no program that can be run"),
        (script(&host, "fails", "exit 3"), "it ended with exit status: 3"),
        (script(&host, "other", "echo nginx 1.29"), "does not say that it is klar"),
        (script(&host, "first", &speaks("exit 2")), "from before `klar upgrade`"),
        (
            script(&host, "older", &speaks(r#"echo '{"version":"0.0.1","state":0,"edge":1}'"#)),
            "reads the state folder up to format 0",
        ),
    ];
    for (program, wanted) in programs {
        let said = app.fails(&["upgrade", program.to_str().unwrap()]);
        assert!(said.starts_with("exit 2") && said.contains(wanted), "{}: {said}", program.display());
    }
    let said = app.fails(&["upgrade", "--rollback"]);
    assert!(said.contains("no program to go back to"), "{said}");
    let after = app.json(&["status"]);
    assert_eq!((&before["core_pid"], &before["edge"]["pid"]), (&after["core_pid"], &after["edge"]["pid"]));
    assert_eq!(after["upgrade"], Value::Null);
}

/// A core that does not come up: the one before is back by itself.
#[test]
fn a_core_that_fails_costs_nothing() {
    let host = Host::new();
    let app = host.app("shop", &[("klar.toml", TOML), ("server.js", SERVER)]);
    app.klar(&["up"]);
    let before = app.json(&["status"]);
    let text = format!(
        "case $1 in --version) echo klar 9.9.9;; formats) {} formats;; *) exit 1;; esac",
        real().display()
    );
    let broken = script(&host, "broken", &text);
    let load = Load::start(Curl::new(&app));
    let said = app.fails(&["upgrade", broken.to_str().unwrap()]);
    assert!(said.contains("could not take over: its core did not come up"), "{said}");
    assert!(said.contains("serves, as before"), "{said}");
    let after = app.json(&["status"]);
    assert_eq!((&after["version"], &after["upgrade"]["state"]), (&before["version"], &"failed".into()));
    assert_eq!(load.stop().1, 0);
}

/// An edge that does not come up: the one before goes on, and so does the core before.
#[test]
fn an_edge_that_fails_costs_nothing() {
    let host = Host::new();
    let app = host.app("shop", &[("klar.toml", TOML), ("server.js", SERVER)]);
    app.klar(&["up"]);
    let before = app.json(&["status"]);
    // Where the next edge would be spoken to.
    let in_the_way = host.state.join("run/edge.next.sock/in the way");
    std::fs::create_dir_all(&in_the_way).unwrap();
    let next = other_program(&host);
    let load = Load::start(Curl::new(&app));
    let said = app.fails(&["upgrade", next.to_str().unwrap()]);
    assert!(said.contains("could not take over: the new edge did not come up"), "{said}");
    let core = app.until("the core before is back", || {
        let status = app.run(&["status", "--json"]);
        let status: Value = serde_json::from_slice(&status.stdout).ok()?;
        let core = pid(&status, &["core_pid"])?;
        (program_of(core).is_some()
            && std::fs::metadata(host.state.join("bin/klar")).unwrap().len()
                == real().metadata().unwrap().len())
        .then_some(core)
    });
    assert_ne!(Some(core), pid(&before, &["core_pid"]));
    assert_eq!(load.stop().1, 0);
    assert_eq!(app.get("/").0, 200);
    assert_eq!(app.json(&["status"])["upgrade"]["state"], "failed");
    std::fs::remove_dir_all(host.state.join("run/edge.next.sock")).unwrap();
}

/// Waits for a process of this klar that plays this role and is not one of `known`.
fn newcomer(app: &App<'_>, role: &str, known: &[Option<i64>]) -> i64 {
    let state = app.host.state.to_string_lossy().into_owned();
    app.until("the newcomer", || {
        std::fs::read_dir("/proc").unwrap().flatten().find_map(|entry| {
            let pid: i64 = entry.file_name().to_str()?.parse().ok()?;
            let command = std::fs::read(entry.path().join("cmdline")).ok()?;
            let mut words = command.split(|byte| *byte == 0);
            let is_it = words.nth(1) == Some(role.as_bytes())
                && words.any(|word| word.windows(state.len()).any(|part| part == state.as_bytes()));
            (is_it && !known.contains(&Some(pid))).then_some(pid)
        })
    })
}

/// Whoever is killed in the middle, and whenever: klar serves, and knows how the upgrade went.
#[test]
fn a_kill_in_the_middle_leaves_a_system_that_serves() {
    let host = Host::new();
    let app = host.app("shop", &[("klar.toml", TOML), ("server.js", SERVER)]);
    app.klar(&["up"]);
    let next = other_program(&host);
    let mut program = next;
    for (role, names) in [("core", &["core_pid"][..]), ("edge", &["edge", "pid"][..])] {
        for delay in [0, 5, 50] {
            let before = app.json(&["status"]);
            let load = Load::start(Curl::new(&app));
            let known = [pid(&before, names)];
            std::thread::scope(|scope| {
                let upgrade = scope.spawn(|| app.run(&["upgrade", program.to_str().unwrap(), "--json"]));
                let victim = newcomer(&app, role, &known);
                // At a moment of its own each time.
                std::thread::sleep(Duration::from_millis(delay));
                kill_hard(victim);
                upgrade.join().unwrap();
            });
            let after = app.until("klar says how it went", || {
                let status = app.run(&["status", "--json"]);
                let status: Value = serde_json::from_slice(&status.stdout).ok()?;
                (status["upgrade"]["state"] != "pending" && status["edge"]["pid"].is_i64()).then_some(status)
            });
            assert!(["done", "failed"].map(Value::from).contains(&after["upgrade"]["state"]), "{after}");
            // What the killed edge had in its hands is lost with it, and this visitor asks one thing after the other.
            let failed = load.stop().1;
            assert!(failed == 0 || role == "edge" && failed == 1, "{failed} after the {role} was killed");
            assert_eq!(app.get("/").0, 200);
            // The next round begins from whatever runs now.
            let current = host.state.join("bin/klar");
            let is_next =
                current.exists() && current.metadata().unwrap().len() != real().metadata().unwrap().len();
            program = if is_next { real().to_owned() } else { host.folder.join("klar-next") };
        }
    }
}
