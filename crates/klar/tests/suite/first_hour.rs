//! What goes wrong in the first hour, and what klar says then: everything on a real core, with real processes.

use std::net::TcpListener;
use std::process::{Command, Stdio};

use crate::common::{Host, SERVER, is_root};

const TOML: &str = "[app]\nname = \"shop\"\n[services.web]\nrun = \"node server.js\"\n";

#[test]
fn port_taken() {
    let host = Host::new();
    let app = host.app("shop", &[("klar.toml", TOML), ("server.js", SERVER)]);
    let _taken = TcpListener::bind(("127.0.0.1", app.https)).unwrap();
    let said = app.fails(&["up"]);
    let said: String = said
        .lines()
        .map(|line| match line.find("suite-") {
            Some(at) => format!(
                "{}OWNER{}\n",
                &line[..at],
                line[at..].find(')').map_or("", |end| &line[at + end + 1..])
            ),
            None => format!("{line}\n"),
        })
        .collect();
    insta::assert_snapshot!(said);
}

#[test]
fn command_not_found() {
    let host = Host::new();
    let toml = TOML.replace("node server.js", "nodee server.js");
    let app = host.app("shop", &[("klar.toml", &toml), ("server.js", SERVER)]);
    insta::assert_snapshot!(app.fails(&["up"]));
}

#[test]
fn app_exits_at_once() {
    let host = Host::new();
    let server = "console.error('config.json is missing'); process.exit(3);";
    let app = host.app("shop", &[("klar.toml", TOML), ("server.js", server)]);
    insta::assert_snapshot!(app.fails(&["up"]));
}

#[test]
fn app_never_healthy() {
    let host = Host::new();
    let toml = format!("{TOML}health = \"/healthz\"\nready_timeout = \"4s\"\n");
    let server = "require('http').createServer((q, a) => { a.statusCode = 500; a.end('no database'); }).listen(process.env.PORT, '127.0.0.1');";
    let app = host.app("shop", &[("klar.toml", &toml), ("server.js", server)]);
    insta::assert_snapshot!(app.fails(&["up"]));
}

#[test]
fn app_never_listens() {
    let host = Host::new();
    let toml = format!("{TOML}ready_timeout = \"4s\"\n");
    let app = host.app(
        "shop",
        &[
            ("klar.toml", &toml),
            ("server.js", "setInterval(() => {}, 1000); console.log('waiting for godot');"),
        ],
    );
    insta::assert_snapshot!(app.fails(&["up"]));
}

#[test]
fn disk_full() {
    let host = Host::new();
    std::fs::create_dir_all(&host.state).unwrap();
    let program = std::fs::metadata(env!("CARGO_BIN_EXE_klar")).unwrap().len();
    let size = format!("size={}", program + (24 << 20));
    let mounted = is_root()
        && Command::new("mount")
            .args(["-t", "tmpfs", "-o", &size, "klar-test"])
            .arg(&host.state)
            .status()
            .is_ok_and(|status| status.success());
    if !mounted {
        eprintln!("skipped: a small file system cannot be mounted here");
        return;
    }
    let app = host.app("shop", &[("klar.toml", TOML), ("server.js", SERVER)]);
    std::fs::write(app.folder.join("video.bin"), vec![7; 48 << 20]).unwrap();
    let said = app.fails(&["up"]);
    // Once there is room it works.
    std::fs::remove_file(app.folder.join("video.bin")).unwrap();
    app.klar(&["up"]);
    let answer = app.get("/").0;
    app.klar(&["down", "--all"]);
    let unmounted = Command::new("umount").args(["-l"]).arg(&host.state).status().unwrap();
    assert!(unmounted.success());
    assert_eq!(answer, 200);
    insta::assert_snapshot!(said);
}

#[test]
fn no_permission() {
    use std::os::unix::fs::PermissionsExt;
    let host = Host::new();
    let app = host.app("shop", &[("klar.toml", TOML), ("server.js", SERVER)]);
    let locked = host.folder.join("locked");
    std::fs::create_dir(&locked).unwrap();
    let mode = if is_root() { 0o700 } else { 0o500 };
    std::fs::set_permissions(&locked, std::fs::Permissions::from_mode(mode)).unwrap();
    let said = app.fails(&["--state", &locked.join("state").to_string_lossy(), "up"]);
    let who = if is_root() { "root" } else { "user" };
    insta::assert_snapshot!(format!("no_permission_{who}"), said);
}

#[test]
fn somebody_elses_database() {
    let host = Host::new();
    let toml = format!("{TOML}[data.cache]\nredis = \"managed\"\n");
    let app = host.app("shop", &[("klar.toml", &toml), ("server.js", SERVER)]);
    app.klar(&["up"]);
    let port = app.status()["stores"][0]["port"].as_u64().unwrap();
    app.klar(&["down"]);
    let mut stranger = Command::new("redis-server")
        .args(["--port", &port.to_string(), "--save", "", "--bind", "127.0.0.1"])
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    app.until("the stranger listens", || {
        TcpListener::bind(("127.0.0.1", u16::try_from(port).unwrap())).is_err().then_some(())
    });
    let said = app.fails(&["up"]);
    stranger.kill().unwrap();
    stranger.wait().unwrap();
    // Once the stranger is gone klar goes on by itself.
    app.until("the app is up", || (app.status()["health"] == "up").then_some(()));
    assert_eq!(app.status()["stores"][0]["port"].as_u64(), Some(port));
    insta::assert_snapshot!(said);
}

#[test]
fn second_up() {
    let host = Host::new();
    let app = host.app("shop", &[("klar.toml", TOML), ("server.js", SERVER)]);
    app.klar(&["up"]);
    insta::assert_snapshot!(app.fails(&["up"]));
}

#[test]
fn commands_that_are_done_have_not_crashed() {
    let host = Host::new();
    let toml = format!("{TOML}build = \"true\"\nrelease = \"sh migrate.sh\"\n");
    let app = host.app("shop", &[("klar.toml", &toml), ("server.js", SERVER), ("migrate.sh", "true")]);
    app.klar(&["up"]);
    for again in 1..4 {
        app.append(&format!("# {again}\n"));
        app.klar(&["deploy"]);
    }
    app.write("migrate.sh", "echo no such table; exit 3");
    let said = app.fails(&["deploy"]);
    assert!(said.contains("no such table"), "{said}");
    let status = app.status();
    assert_eq!(status["problems"].as_array().map(Vec::len), Some(0), "{}", status["problems"]);
    assert_eq!(app.get("/").0, 200);
}

#[test]
fn denied_write() {
    let host = Host::new();
    let server = format!("{SERVER}\nrequire('fs').writeFileSync('uploads.txt', 'x');");
    let app = host.app("shop", &[("klar.toml", TOML), ("server.js", &server)]);
    let said = app.fails(&["up"]);
    // Node's own stack trace is not ours to pin down.
    let said: String =
        said.lines().filter(|line| !line.contains('│')).map(|line| format!("{line}\n")).collect();
    insta::assert_snapshot!(said);
    app.write(
        "klar.toml",
        &format!(
            "{TOML}writable = [\"uploads\"]\n[edge]\nhttps_port = {}\nhttp_port = {}\n",
            app.https,
            crate::common::ports().0
        ),
    );
    std::fs::create_dir(app.folder.join("uploads")).unwrap();
    app.write("server.js", &server.replace("'uploads.txt'", "'uploads/a.txt'"));
    app.klar(&["up"]);
    assert_eq!(app.get("/").0, 200);
}

#[test]
fn a_broken_file_costs_nothing() {
    let host = Host::new();
    let app = host.app("shop", &[("klar.toml", TOML), ("server.js", SERVER)]);
    app.append("helth = \"/\"\n");
    insta::assert_snapshot!(app.fails(&["up"]));
    assert!(!host.state.exists(), "nothing was started");
}

#[test]
fn nothing_runs() {
    let host = Host::new();
    let app = host.app("shop", &[("klar.toml", TOML)]);
    assert!(app.klar(&["status"]).contains("klar is not running"));
    insta::assert_snapshot!(app.fails(&["deploy"]));
}

#[test]
fn a_port_that_was_taken_while_klar_was_away() {
    let host = Host::new();
    let app = host.app("shop", &[("klar.toml", TOML), ("server.js", SERVER)]);
    app.klar(&["up"]);
    let status = app.json(&["status"]);
    // All of klar at once, as when the machine is short of memory; the app runs on.
    let pids = ["spawner_pid", "core_pid"].map(|name| status[name].as_i64());
    for pid in pids.into_iter().chain([status["edge"]["pid"].as_i64()]).flatten() {
        let _ = Command::new("kill").args(["-9", &pid.to_string()]).status().unwrap();
    }
    let taken = app.until("the port is free", || TcpListener::bind(("127.0.0.1", app.https)).ok());
    let output = app.run(&["up"]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success(), "{said}");
    assert!(said.contains(&format!("cannot listen at 127.0.0.1:{}", app.https)), "{said}");
    assert!(app.klar(&["status"]).contains("cannot listen at"));
    // Once it is free klar takes it by itself.
    drop(taken);
    app.until("the app is reached", || app.answers("localhost").then_some(()));
}

/// `klar up &` in a script: the shell has klar ignore SIGINT and SIGQUIT. The app must not, since those end it.
#[test]
fn an_app_heeds_signals_that_a_shell_in_the_background_ignores() {
    // Node heeds them whatever it inherits.
    const TELLS: &str = "import http.server, os, re
class Tells(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(re.search(r'SigIgn:\\s*(\\w+)', open('/proc/self/status').read())[1].encode())
http.server.HTTPServer(('127.0.0.1', int(os.environ['PORT'])), Tells).serve_forever()
";
    let host = Host::new();
    let toml = TOML.replace("node server.js", "python3 tells.py");
    let app = host.app("shop", &[("klar.toml", &toml), ("tells.py", TELLS)]);
    let deaf = Command::new("sh")
        .args(["-c", "trap '' INT QUIT HUP; exec \"$0\" up", env!("CARGO_BIN_EXE_klar")])
        .env("KLAR_STATE", &host.state)
        .current_dir(&app.folder)
        .output()
        .unwrap();
    assert!(deaf.status.success(), "{}", String::from_utf8_lossy(&deaf.stderr));
    let ignored = u64::from_str_radix(&app.get("/").1, 16).unwrap();
    let [hangup, interrupt, quit] = [1, 2, 3].map(|signal| 1 << (signal - 1));
    assert_eq!(ignored & (hangup | interrupt | quit), 0, "{ignored:x}");
}
