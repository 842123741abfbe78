//! `klar edge`, on a real core with a real app.

use std::io::{Read, Write};
use std::process::{Command, Stdio};

use crate::common::{App, Host};
use serde_json::Value;

const SERVER: &str = "require('http').createServer((q, a) => {
    if (q.url === '/kept') a.setHeader('cache-control', 'public, max-age=600');
    a.end('hello');
}).listen(process.env.PORT, '127.0.0.1');";

const TOML: &str = r#"[app]
name = "shop"
[services.web]
run = "node server.js"
[routes."/*"]
to = "web"
timeout = "7s"
"#;

fn shop(host: &Host) -> App<'_> {
    let app = host.app("shop", &[("klar.toml", TOML), ("server.js", SERVER)]);
    app.klar(&["up"]);
    app
}

/// The policy of a key, and where it comes from.
fn policy(told: &Value, key: &str) -> (String, String) {
    let place = told["policies"].as_array().unwrap().iter().position(|policy| policy["key"] == key).unwrap();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    (text(&told["policies"][place]["value"]), text(&told["policy_origins"][place]))
}

/// A whole life: asked before anything was, after it was kept, for what is not there, and counted.
#[test]
fn the_edge_is_looked_into() {
    let host = Host::new();
    let app = host.app("shop", &[("klar.toml", TOML), ("server.js", SERVER)]);
    assert!(app.fails(&["edge", "explain", "/"]).contains("klar is not running"));
    assert!(app.fails(&["edge", "top"]).contains("klar is not running"));
    app.klar(&["up"]);

    let told = app.json(&["edge", "explain", "/kept", "-H", "accept-encoding: gzip"]);
    assert_eq!((&told["route"], &told["outcome"]["decided_by"]), (&"/*".into(), &"app".into()));
    assert_eq!(told["cache"]["now"], "klar; fwd=uri-miss");
    assert_eq!(policy(&told, "routes.*.timeout"), ("7s".into(), "line 7".into()));
    assert_eq!(policy(&told, "routes.*.body"), ("10MiB".into(), "default".into()));
    assert_eq!(policy(&told, "edge.hold"), ("10s".into(), "default".into()));
    assert_eq!(policy(&told, "services.*.sticky").1, "default");

    assert_eq!(app.get("/kept").0, 200);
    // curl accepts no coding, so another answer is kept for it than for those who do.
    let told = app.json(&["edge", "explain", "/kept"]);
    assert_eq!((&told["outcome"]["decided_by"], &told["outcome"]["status"]), (&"edge".into(), &200.into()));
    assert!(told["cache"]["stored"]["left_s"].as_i64().unwrap() > 0, "{told}");
    let text = app.klar(&["edge", "explain", "/kept"]);
    for part in ["the edge: 200 from the cache", "routes.*.timeout: line 7", "fresh for", "weight 1"] {
        assert!(text.contains(part), "{part} in\n{text}");
    }
    assert!(!text.contains('\u{1b}'), "no colour where nobody sees it");

    let said = app.fails(&["edge", "explain", "https://nobody.test/"]);
    assert!(said.starts_with("exit 1\n"), "{said}");
    assert!(said.contains("shop.localhost") && said.contains("/* → web"), "{said}");
    assert!(app.fails(&["edge", "explain", "nonsense"]).starts_with("exit 2\n"));
    assert!(app.fails(&["edge", "explain", "/", "-H", "nonsense"]).starts_with("exit 2\n"));
    assert!(app.fails(&["edge", "explain", "/", "--from", "nonsense"]).starts_with("exit 2\n"));
    let said = app.fails(&["edge", "explain", "/", "--certificate", "none.pem"]);
    assert!(said.starts_with("exit 2\n") && said.contains("none.pem"), "{said}");

    let sample = app.json(&["edge", "top", "--once"]);
    assert_eq!(
        (&sample["routes"][0]["pattern"], &sample["routes"][0]["app"]),
        (&"/*".into(), &"shop".into())
    );
    assert_eq!(sample["instances"].as_array().unwrap().len(), 2);
    assert!(sample["cache_used"].as_u64().unwrap() > 0);
    let text = app.klar(&["edge", "top"]);
    assert!(text.contains("ROUTE") && text.contains("shop.web.1") && !text.contains('\u{1b}'), "{text}");
}

/// On a terminal it draws, sorts, and leaves everything as it was: by `q`, by Ctrl-C, and when it is ended from outside.
/// `script` has the terminal.
#[test]
fn the_terminal_is_given_back() {
    let host = Host::new();
    let app = shop(&host);
    let program = env!("CARGO_BIN_EXE_klar");
    let top = format!("sh -c 'echo pid=$$.; exec {program} edge top'");
    let commands =
        format!("stty rows 24 cols 80; stty -a; echo first; {top}; echo status=$?.; stty -a; echo last");
    for leave in ["q", "\u{3}", "term"] {
        let mut script = Command::new("script")
            .args(["-qec", &commands, "/dev/null"])
            .env("KLAR_STATE", &host.state)
            .current_dir(&app.folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (mut keys, mut shown) = (script.stdin.take().unwrap(), script.stdout.take().unwrap());
        // The end of what it shows, should it come too early, ends this as well.
        let mut until = |what: &str| {
            let (mut text, mut byte) = (Vec::new(), [0]);
            while !text.ends_with(what.as_bytes()) {
                let read = shown.read(&mut byte).unwrap();
                assert_ne!(read, 0, "{what} in {:?}", String::from_utf8_lossy(&text));
                text.push(byte[0]);
            }
            String::from_utf8(text).unwrap()
        };
        let before = until("first");
        until("pid=");
        let pid = until(".");
        until("now by requests");
        keys.write_all(b"s").unwrap();
        until("now by p99");
        if leave == "term" {
            let pid = nix::unistd::Pid::from_raw(pid.trim_end_matches('.').parse().unwrap());
            nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).unwrap();
        } else {
            keys.write_all(leave.as_bytes()).unwrap();
        }
        until("\u{1b}[?1049l");
        until("status=");
        assert_eq!(until("."), "0.", "{leave:?}");
        let after = until("last");
        assert_eq!(
            after.trim_end_matches("last").trim(),
            before.trim_end_matches("first").trim(),
            "{leave:?}"
        );
        script.wait().unwrap();
    }
}
