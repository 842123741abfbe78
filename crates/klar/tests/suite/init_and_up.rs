//! `klar init && klar up` runs apps that are not ours: verdaccio from npm, httpbin with gunicorn from PyPI. The only
//! lines that are added by hand are the ports, which a test cannot leave to chance.

use crate::common::{Host, ports};

/// What a person adds: three lines.
fn with_ports(app: &mut crate::common::App<'_>) {
    let (https, http) = ports();
    app.https = https;
    app.append(&format!("\n[edge]\nhttps_port = {https}\nhttp_port = {http}\n"));
}

#[test]
fn httpbin_with_gunicorn() {
    let host = Host::new();
    let mut app = host.app("httpbin", &[("requirements.txt", "httpbin==0.10.2\ngunicorn==23.0.0\n")]);
    app.klar(&["init"]);
    with_ports(&mut app);
    app.klar(&["up"]);
    let (status, body) = app.get("/get?a=b");
    assert_eq!(status, 200);
    assert!(body.contains(r#""args":{"a":"b"}"#), "{body}");
    assert!(
        body.contains(&format!("https://localhost:{}/get", app.https)),
        "it knows how it is reached: {body}"
    );
}

#[test]
fn verdaccio() {
    let host = Host::new();
    // The newest 6 cannot be installed: a package that it asks for was never published.
    let package = r#"{ "name": "registry", "private": true, "dependencies": { "verdaccio": "6.1.2" }, "overrides": { "node-fetch": "2.7.0" } }"#;
    let mut app = host.app("registry", &[("package.json", package)]);
    app.klar(&["init"]);
    with_ports(&mut app);
    app.klar(&["up"]);
    assert_eq!(app.get("/-/ping").0, 200);
    let (status, page) = app.get("/");
    assert_eq!(status, 200);
    assert!(page.to_lowercase().contains("verdaccio"), "{page}");
}
