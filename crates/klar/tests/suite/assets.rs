//! Static files are ready before the first visitor asks: compressed, linked, minified, and with a service worker.

use std::path::PathBuf;
use std::process::Command;

use crate::common::{App, Host};

const PAGE: &str =
    "<!doctype html>\n<title>pages</title>\n<script type=\"module\" src=\"/app.js\"></script>\n";

/// The head of an answer, in small letters, and its length.
fn ask(app: &App<'_>, path: &str, accepts: &str) -> (String, u64) {
    let body = app.host.folder.join("body");
    let output = Command::new("curl")
        .args(["-sSk", "--max-time", "20", "-D", "-", "-H"])
        .arg(format!("accept-encoding: {accepts}"))
        .arg("-o")
        .arg(&body)
        .arg(format!("https://localhost:{}{path}", app.https))
        .output()
        .unwrap();
    assert!(output.status.success(), "{path}: {}", String::from_utf8_lossy(&output.stderr));
    (String::from_utf8_lossy(&output.stdout).to_lowercase(), std::fs::metadata(body).unwrap().len())
}

fn said(app: &App<'_>, args: &[&str]) -> String {
    let output = app.run(args);
    let all =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{all}");
    all
}

fn releases(app: &App<'_>) -> Vec<PathBuf> {
    let folder = app.host.state.join("apps/pages.prod/releases");
    let entries = std::fs::read_dir(folder).unwrap();
    entries.map(|entry| entry.unwrap().path()).filter(|path| path.join("release.json").exists()).collect()
}

#[test]
fn static_files_are_ready_before_they_are_asked_for() {
    let host = Host::new();
    let script = |from: u32| (from..from + 800).map(|at| format!("call({at});\n")).collect::<String>();
    let toml =
        "[app]\nname = \"pages\"\n[services.web]\nstatic = \"dist\"\nminify = true\nservice_worker = true\n";
    let app = host.app(
        "pages",
        &[
            ("klar.toml", toml),
            ("dist/index.html", PAGE),
            ("dist/app.js", &script(0)),
            ("dist/other.js", &script(100)),
            ("dist/site.css", &"a {\n    color: red;\n}\n".repeat(200)),
            ("dist/broken.css", "a { color: red;  "),
        ],
    );
    let up = said(&app, &["up"]);
    assert!(up.contains("compressed"), "{up}");
    assert!(up.contains("broken.css: not minified"), "{up}");
    let first = releases(&app).remove(0);
    for coding in ["br", "zstd", "gzip"] {
        let copy = first.join("assets/web").join(coding).join("app.js");
        let (head, length) = ask(&app, "/app.js", coding);
        assert!(head.contains(&format!("content-encoding: {coding}")), "{head}");
        assert!(head.contains("vary: accept-encoding"), "{head}");
        assert_eq!(length, std::fs::metadata(copy).unwrap().len(), "{coding}");
    }
    let (head, _) = ask(&app, "/", "br");
    assert!(head.contains("link: </app.js>; rel=modulepreload\r\n"), "{head}");
    assert_eq!(app.get("/site.css").1, "a{color:red}".repeat(200));
    assert!(app.get("/klar-worker.js").1.contains("\"index.html\""));
    assert!(ask(&app, "/klar-worker.js", "br").0.contains("cache-control: no-cache"));
    for hidden in ["/assets/web/br/app.js", "/br/app.js", "/plain/site.css"] {
        assert!(!ask(&app, hidden, "br").0.contains("content-encoding: br\r\n") || app.get(hidden).1 == PAGE);
    }

    // What has not changed is taken over; what has is not.
    app.write("dist/app.js", &script(7));
    let deploy = said(&app, &["deploy"]);
    assert!(deploy.contains(" as before"), "{deploy}");
    assert!(app.get("/app.js").1.starts_with("call(7)"));
    let second = releases(&app).into_iter().find(|path| *path != first).unwrap();
    let read =
        |release: &PathBuf, path: &str| std::fs::read(release.join("assets/web/br").join(path)).unwrap();
    assert_eq!(read(&first, "other.js"), read(&second, "other.js"));
    assert_ne!(read(&first, "app.js"), read(&second, "app.js"));
    assert_eq!(ask(&app, "/app.js", "br").1, read(&second, "app.js").len() as u64);

    // The line is left out: the worker takes itself back.
    app.write(
        "klar.toml",
        &std::fs::read_to_string(app.folder.join("klar.toml"))
            .unwrap()
            .replace("service_worker = true\n", ""),
    );
    app.klar(&["deploy"]);
    let worker = app.get("/klar-worker.js").1;
    assert!(worker.contains("unregister()") && !worker.contains("'fetch'"), "{worker}");
}
