//! Telemetry and `klar metrics`, on a real core with a real app.

use std::process::Command;

use serde_json::Value;

use crate::common::Host;

const SERVER: &str = "require('http').createServer((q, a) => {
    console.log(JSON.stringify({ level: 'warn', msg: 'asked', id: q.headers['x-request-id'] }));
    a.statusCode = q.url.startsWith('/broken') ? 500 : q.url === '/none' ? 404 : 200;
    a.end('hello');
}).listen(process.env.PORT, '127.0.0.1');";

const TOML: &str = r#"[app]
name = "shop"
[services.web]
run = "node server.js"
"#;

/// So many requests of a route, and the share that failed.
fn route(metrics: &Value, name: &str) -> Option<(u64, f64)> {
    let found = metrics["routes"].as_array()?.iter().find(|route| route["route"] == name)?;
    Some((found["requests"].as_f64()?.round() as u64, found["errors"].as_f64()?))
}

/// What requests came to is known without a change to the app, and survives the death of who knows it, which no visitor
/// notices.
#[test]
fn routes_are_measured_and_nobody_depends_on_it() {
    let host = Host::new();
    let app = host.app("shop", &[("klar.toml", TOML), ("server.js", SERVER)]);
    assert!(app.fails(&["metrics"]).contains("klar is not running"));
    app.klar(&["up"]);
    for number in 0..4 {
        assert_eq!(app.get(&format!("/orders/{number}")).0, 200);
        assert_eq!(app.get(&format!("/broken/{number}")).0, 500);
        assert_eq!(app.get("/none").0, 404);
    }
    let measured = |least: u64| {
        app.until("requests are measured", || {
            let metrics = app.json(&["metrics"]);
            let (orders, errors) = route(&metrics, "/orders/{id}")?;
            (orders >= least && errors == 0.0 && route(&metrics, "/broken/{id}")?.1 == 1.0).then_some(metrics)
        })
    };
    let metrics = measured(4);
    assert!(route(&metrics, "/*").is_some_and(|(requests, _)| requests >= 4), "what is not there: {metrics}");
    let text = app.klar(&["metrics"]);
    assert!(text.contains("/orders/{id}") && text.contains("100 %") && text.contains("machine"), "{text}");

    let text = app.klar(&["metrics", "count by (service) (klar_instance_ready == 1)", "--since", "5m"]);
    assert!(text.contains("{service=\"web\"}"), "{text}");
    assert!(app.fails(&["metrics", "sum by ("]).contains("expected"), "what is wrong with a query is said");
    assert!(app.fails(&["metrics", "up", "--since", "1s"]).starts_with("exit 2\n"));

    // One id, from what the visitor got to what the app said.
    let url = app.klar(&["open", "--print"]);
    let output = Command::new("curl").args(["-ski", &format!("{}/orders/77", url.trim())]).output().unwrap();
    let head = String::from_utf8(output.stdout).unwrap().to_ascii_lowercase();
    let id = head.lines().find_map(|line| line.strip_prefix("x-request-id: ")).unwrap().trim().to_owned();
    let text = app.until("the request is found by its id", || {
        let output = app.run(&["trace", &id]);
        let text = String::from_utf8(output.stdout).unwrap();
        // The record comes from the edge, the line from the app: either may be first.
        (text.contains("\"msg\":\"asked\"") && text.contains(" GET ")).then_some(text)
    });
    assert!(text.contains("200 GET /orders/77 route /orders/{id}"), "{text}");
    let lines = app.klar(&["logs", "--grep", &id]);
    assert_eq!(lines.lines().count(), 1, "{lines}");
    assert!(app.klar(&["logs", "--level", "warn", "-n", "3"]).lines().count() == 3);
    assert!(app.fails(&["trace", "00000000000000000000000000000000"]).contains("no request"));

    let address = app.klar(&["metrics", "--address"]);
    let curl = |url: &str| {
        let output = Command::new("curl").args(["-s", "-w", "%{http_code}", "-o", "/dev/null", url]).output();
        String::from_utf8(output.unwrap().stdout).unwrap()
    };
    let address = address.trim();
    assert_eq!(curl(&format!("{address}/api/v1/query?query=up")), "200");
    let (_, bare) = address.rsplit_once('@').unwrap();
    assert_eq!(curl(&format!("http://{bare}/api/v1/query?query=up")), "401");
    let doctor = app.klar(&["doctor"]);
    assert!(doctor.contains("writes only beneath its own folder") || doctor.contains("Landlock"), "{doctor}");

    let see = || app.json(&["status"])["see"].clone();
    let pid = see()["pid"].as_i64().unwrap();
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid as i32), nix::sys::signal::SIGKILL).unwrap();
    for number in 0..4 {
        assert_eq!(app.get(&format!("/orders/{number}")).0, 200, "nobody waits for telemetry");
    }
    app.until("another one runs", || {
        let see = see();
        (see["pid"].as_i64().is_some_and(|new| new != pid) && see["restarts"] == 1).then_some(())
    });
    assert_eq!(app.get("/orders/9").0, 200);
    // Those from before are on disk; what came while nobody was there may be lost.
    measured(5);
}

const TELLS: &str = "const socket = require('dgram').createSocket('udp4');
const tell = (text, port) => socket.send(text, Number(port), process.env.STATSD_HOST);
setInterval(() => tell('carts:1|c', process.env.DD_DOGSTATSD_PORT), 100);
require('http').createServer((q, a) => a.end('hello')).listen(process.env.PORT, '127.0.0.1');";

/// Ports that `klar.toml` names are open, and what comes in there is the app's; a database says how it does.
#[test]
fn what_knows_no_http_tells_too() {
    let host = Host::new();
    let free = || std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let (syslog, statsd) = (free(), free());
    let has_postgres = std::path::Path::new("/usr/lib/postgresql").is_dir();
    let db = if has_postgres { "[data.db]\npostgres = \"managed\"\n" } else { "" };
    let toml =
        format!("{TOML}{db}[data.cache]\nredis = \"managed\"\n[see]\nsyslog = {syslog}\nstatsd = {statsd}\n");
    let app = host.app("shop", &[("klar.toml", &toml), ("server.js", TELLS)]);
    app.klar(&["up"]);
    let query = |query: &str| {
        app.until(query, || {
            let text = String::from_utf8(app.run(&["metrics", query, "--json"]).stdout).unwrap();
            text.contains("\"shop\"").then_some(())
        });
    };
    query("carts{app=\"shop\",env=\"prod\"}");
    query("redis_up{app=\"shop\",service=\"cache\"} == 1");
    if has_postgres {
        query("pg_up{app=\"shop\",service=\"db\"} == 1");
        query("pg_stat_database_xact_commit{app=\"shop\",datname=\"shop\"} > 0");
    } else {
        eprintln!("skipped: PostgreSQL is not installed (apt-get install postgresql)");
    }
    let speaker = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let hears = |word: &str| {
        app.until(word, || {
            // The socket is there before whoever reads it is.
            let message = format!("<11>1 - - router - - - {word}");
            let _ = speaker.send_to(message.as_bytes(), ("127.0.0.1", syslog));
            let text = String::from_utf8(app.run(&["logs", "--grep", word]).stdout).unwrap();
            text.contains(word).then_some(())
        });
    };
    hears("overheated");
    let pid = app.json(&["status"])["see"]["pid"].as_i64().unwrap();
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid as i32), nix::sys::signal::SIGKILL).unwrap();
    hears("rebooted");
}

/// An app that says what its time went to, as any SDK of OpenTelemetry would, with what klar gave it and nothing else.
const TRACED: &str = r#"
const { randomBytes } = require('crypto');
require('http').createServer(async (q, a) => {
    const [, trace, edge] = (q.headers.traceparent || '').split('-');
    const [request, query] = [randomBytes(8).toString('hex'), randomBytes(8).toString('hex')];
    const begun = Date.now();
    console.log(JSON.stringify({ level: 'warn', msg: 'without the id in its name', traceId: trace, spanId: request }));
    // What a database says of a slow statement.
    console.error(`LOG:  duration: 1200 ms  statement: SELECT 1 /*traceparent='00-${trace}-${query}-01'*/`);
    const text = (key, stringValue) => ({ key, value: { stringValue } });
    const [name, value] = decodeURIComponent(process.env.OTEL_EXPORTER_OTLP_HEADERS).split('=');
    const span = (spanId, parentSpanId, name, more) => ({ traceId: trace, spanId, parentSpanId, name, kind: 2,
        startTimeUnixNano: `${begun}000000`, endTimeUnixNano: `${Date.now() + 1}000000`, ...more });
    const answer = await fetch(`${process.env.OTEL_EXPORTER_OTLP_ENDPOINT}/v1/traces`, { method: 'POST',
        headers: { [name]: value, 'content-type': 'application/json' },
        body: JSON.stringify({ resourceSpans: [{
            resource: { attributes: [text('service.name', process.env.OTEL_SERVICE_NAME)] },
            scopeSpans: [{ spans: [
                span(request, edge, 'GET /orders/:id'),
                span(query, request, 'SELECT', { attributes: [text('db.system.name', 'postgresql'),
                    text('db.query.text', 'SELECT * FROM orders WHERE id = $1')] }),
            ] }] }] }) });
    a.end(JSON.stringify({ said: answer.status, traceparent: q.headers.traceparent, of: process.env.OTEL_RESOURCE_ATTRIBUTES }));
}).listen(process.env.PORT, '127.0.0.1');
"#;

/// From the id in a visitor's answer to the statement that it came to, and to what anybody said meanwhile.
#[test]
fn one_id_leads_from_the_visitor_to_the_statement() {
    let host = Host::new();
    let app = host.app("shop", &[("klar.toml", TOML), ("server.js", TRACED)]);
    app.klar(&["up"]);
    let url = app.klar(&["open", "--print"]);
    let url = format!("{}/orders/77", url.trim());
    // What a stranger says of a trace is not taken for it.
    let foreign = "traceparent: 00-11111111111111111111111111111111-2222222222222222-01";
    let output = Command::new("curl").args(["-ski", "-H", foreign, &url]).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let id = text
        .lines()
        .find_map(|line| line.to_ascii_lowercase().strip_prefix("x-request-id: ").map(str::to_owned));
    let id = id.unwrap().trim().to_owned();
    let said: Value = serde_json::from_str(text.lines().last().unwrap()).unwrap();
    assert_eq!(said["said"], 200, "{said}");
    assert_eq!(said["traceparent"], format!("00-{id}-{}-01", &id[16..]));
    let of = said["of"].as_str().unwrap();
    assert!(
        of.contains("service.instance.id=web.") && of.contains("deployment.environment.name=prod"),
        "{of}"
    );
    let trace = app.until("all of it is found by its id", || {
        let output = app.run(&["trace", &id, "--json"]);
        let trace: Value = serde_json::from_slice(&output.stdout).ok()?;
        let count = |what: &str| trace[what].as_array().map_or(0, Vec::len);
        ((count("requests"), count("spans"), count("lines")) == (1, 2, 2)).then_some(trace)
    });
    for span in trace["spans"].as_array().unwrap() {
        assert_eq!(
            (&span["app"], &span["env"], &span["service"]),
            (&"shop".into(), &"prod".into(), &"web".into())
        );
    }
    let text = app.klar(&["trace", &id]);
    let line = |with: &str| {
        text.lines().position(|line| line.contains(with)).unwrap_or_else(|| panic!("{with}: {text}"))
    };
    assert!(line("edge  GET /orders/{id}") < line("web     GET /orders/:id"), "{text}");
    assert!(line("web       SELECT") < line("SELECT * FROM orders WHERE id = $1"), "{text}");
    assert!(text.contains("without the id in its name") && text.contains("duration: 1200 ms"), "{text}");
    let text = app.klar(&["traces", "--route", "/orders/{id}"]);
    assert!(text.contains(&id) && text.contains("GET /orders/77"), "{text}");
    let output = app.run(&["traces", "--slower", "1h"]);
    assert!(output.stdout.is_empty(), "{output:?}");
    // What lets the app in is shown to nobody.
    let everything =
        [app.klar(&["status", "--json"]), app.klar(&["logs", "-n", "1000"]), app.klar(&["ps", "--json"])];
    assert!(!everything.concat().contains("Bearer"));
}
