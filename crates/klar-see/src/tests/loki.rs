//! What speaks Loki: clients that push, and Grafana's data source that asks.

use std::io::Write;

use serde_json::{Value, json};

use super::{Folder, KEY, Running, TOKEN, field, varint};

const PUSH: &str = "/loki/api/v1/push";
const JSON: &str = "content-type: application/json\r\n";

fn packed(plain: &[u8]) -> Vec<u8> {
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(plain).unwrap();
    gzip.finish().unwrap()
}

/// `logproto.PushRequest` with one stream of one line.
fn message(labels: &str, time_ns: i64, line: &str, more: &[(&str, &str)]) -> Vec<u8> {
    let mut time = vec![0x08];
    varint(&mut time, (time_ns / 1_000_000_000) as u64);
    time.push(0x10);
    varint(&mut time, (time_ns % 1_000_000_000) as u64);
    let mut entry = Vec::new();
    field(&mut entry, 1, &time);
    field(&mut entry, 2, line.as_bytes());
    for (name, value) in more {
        let mut pair = Vec::new();
        field(&mut pair, 1, name.as_bytes());
        field(&mut pair, 2, value.as_bytes());
        field(&mut entry, 3, &pair);
    }
    let mut stream = Vec::new();
    field(&mut stream, 1, labels.as_bytes());
    field(&mut stream, 2, &entry);
    let mut request = Vec::new();
    field(&mut request, 1, &stream);
    snap::raw::Encoder::new().compress_vec(&request).unwrap()
}

fn encoded(query: &str) -> String {
    query.bytes().map(|byte| format!("%{byte:02x}")).collect()
}

/// Asks as Grafana does.
fn ask(see: &Running, target: &str) -> Value {
    let flags = "x-loki-response-encoding-flags: categorize-labels\r\n";
    let (status, body) = see.send(KEY, "GET", target, flags, b"");
    assert_eq!(status, 200, "{target}: {body}");
    serde_json::from_str(&body).unwrap()
}

#[test]
fn what_is_pushed_can_be_asked_for() {
    let folder = Folder::new("loki");
    let see = Running::start(&folder);
    let key = see.known();
    let now_ns = crate::now_ms() * 1_000_000;
    let trace = "0af7651916cd43dd8448eb211c80319c";
    // The labels may stand behind the lines, and come from somebody who may not say whose they are.
    let body = json!({ "streams": [
        { "values": [[now_ns.to_string(), "level=warn slow query", { "trace_id": trace, "user": "u1" }]],
          "stream": { "job": "api", "app": "bank", "host": "a1" } },
        { "stream": { "service_name": "web", "level": "error", "filename": "/var/log/a" },
          "values": [[(now_ns - 1_000_000).to_string(), "boom"], [(now_ns - 2_000_000).to_string(), "bang"]] },
    ] })
    .to_string();
    assert_eq!(see.send(TOKEN, "POST", PUSH, JSON, body.as_bytes()).0, 204);
    let gzip = format!("{JSON}content-encoding: gzip\r\n");
    let other = body.replace("boom", "packed").replace("bang", "\\u00e6");
    assert_eq!(see.send(key, "POST", PUSH, &gzip, &packed(other.as_bytes())).0, 204);
    let proto =
        message(r#"{service_name="proto", cluster="x\"y"}"#, now_ns, "over protobuf", &[("user", "u2")]);
    let media = "content-type: application/x-protobuf\r\n";
    assert_eq!(see.send(TOKEN, "POST", PUSH, media, &proto).0, 204);

    // What is answered with 204 is there at once.
    let query = |query: &str| {
        ask(&see, &format!("/loki/api/v1/query_range?query={}", encoded(query)))["data"].clone()
    };
    let found = query(r#"{app="shop", service="api"}"#);
    assert_eq!(found["encodingFlags"], json!(["categorize-labels"]));
    let stream = &found["result"][0];
    assert_eq!(
        stream["stream"],
        json!({ "app": "shop", "env": "prod", "service": "api", "instance": "a1", "stream": "loki" })
    );
    let value = &stream["values"][0];
    assert_eq!((&value[0], &value[1]), (&json!(now_ns.to_string()), &json!("level=warn slow query")));
    assert_eq!(
        value[2]["structuredMetadata"],
        json!({ "job": "api", "host": "a1", "user": "u1", "exported_app": "bank", "trace_id": trace })
    );
    let lines = |text: &str| -> Vec<String> {
        let found = query(text);
        let streams = found["result"].as_array().unwrap();
        let values = streams.iter().flat_map(|stream| stream["values"].as_array().unwrap());
        let mut lines: Vec<String> = values.map(|value| value[1].as_str().unwrap().into()).collect();
        lines.sort();
        lines
    };
    for (query, expected) in [
        (r#"{app="bank"}"#, vec!["level=warn slow query"]),
        (r#"{level="error"} |= "b""#, vec!["bang", "boom"]),
        (r#"{level="error"} |= "b" != "oo""#, vec!["bang"]),
        (r#"{level="error"} |~ "b[ao]+" !~ "ng$""#, vec!["boom"]),
        (r#"{level="error"} |= "æ" or "packed""#, vec!["packed", "æ"]),
        (r#"{cluster="x\"y"}"#, vec!["over protobuf"]),
        (r#"{filename=~"/var/log/a|/b", service_name=~"w.*"} | app="shop""#, vec!["bang", "boom"]),
        (r#"{service=~".+", job!="api", level!="error"}"#, vec!["over protobuf"]),
        (r#"{app="nobody"}"#, vec![]),
    ] {
        assert_eq!(lines(query), expected, "{query}");
    }
    for (target, expected) in [
        ("label/app/values", json!(["bank", "shop"])),
        ("label/service_name/values", json!(["api", "proto", "web"])),
        ("label/user/values", json!(["u1", "u2"])),
        (
            "labels",
            json!([
                "app",
                "cluster",
                "env",
                "exported_app",
                "filename",
                "host",
                "instance",
                "job",
                "level",
                "service",
                "stream",
                "user"
            ]),
        ),
        (
            &format!("series?match[]={}", encoded(r#"{service="proto"}"#)),
            json!([{ "app": "shop", "env": "prod", "service": "proto", "stream": "loki" }]),
        ),
    ] {
        assert_eq!(ask(&see, &format!("/loki/api/v1/{target}"))["data"], expected, "{target}");
    }
    let instant =
        |query: &str| ask(&see, &format!("/loki/api/v1/query?query={}", encoded(query)))["data"].clone();
    assert_eq!(instant("vector(1)+vector(1)")["result"][0]["value"][1], "2");
    let counted = instant(r#"sum by (level) (count_over_time({service="web"} |= "b" [10m]))"#);
    // The end of an instant is now, which is behind all of them.
    assert_eq!(
        (&counted["result"][0]["metric"], &counted["result"][0]["value"][1]),
        (&json!({ "level": "error" }), &json!("2"))
    );
    let until = crate::now_ms() / 1000 + 60;
    let target = format!(
        "/loki/api/v1/query_range?start={}&end={until}&step=20&query={}",
        until - 600,
        encoded(r#"count_over_time({service="web"}[1m])"#)
    );
    let range = ask(&see, &target)["data"].clone();
    assert_eq!(range["resultType"], "matrix");
    // Each line is seen by three steps of 20 seconds within a minute.
    let sums: f64 = range["result"]
        .as_array()
        .unwrap()
        .iter()
        .flat_map(|one| one["values"].as_array().unwrap())
        .map(|value| value[1].as_str().unwrap().parse::<f64>().unwrap())
        .sum();
    assert_eq!(sums, 12.0, "{range}");
    assert_eq!(ask(&see, "/loki/api/v1/index/stats")["entries"], 7);
    assert!(ask(&see, "/loki/api/v1/status/buildinfo")["version"].is_string());
    see.end();
}

#[test]
fn what_cannot_be_taken_is_refused() {
    let folder = Folder::new("loki-bad");
    let see = Running::start(&folder);
    let key = see.known();
    let gzip = format!("{JSON}content-encoding: gzip\r\n");
    let bomb = packed(&vec![b' '; 64 << 20]);
    // A block of Snappy that says it gets a gigabyte.
    let boast = [0x80, 0x80, 0x80, 0x80, 0x04, 0x00];
    for (headers, body, status) in [
        (JSON, &b"{"[..], 400),
        (JSON, br#"{"streams":[{"stream":{"a":"b"},"values":[["yesterday","x"]]}]}"#, 400),
        (JSON, br#"{"streams":[{"stream":{"a":"b"},"values":[["1"]]}]}"#, 400),
        (JSON, br#"{"streams":[]}"#, 204),
        (&gzip, b"no gzip", 400),
        (&gzip, &bomb, 413),
        ("", &boast, 413),
        ("", b"\x03\x08abc", 400),
        ("content-encoding: br\r\ncontent-type: application/json\r\n", b"{}", 415),
    ] {
        let (found, why) = see.send(key, "POST", PUSH, headers, body);
        assert_eq!(found, status, "{headers:?} {why}");
    }
    for (key, method, target, status) in [
        (TOKEN, "GET", "/loki/api/v1/labels", 403),
        (key, "GET", PUSH, 405),
        ("another", "POST", PUSH, 401),
        (key, "GET", "/loki/api/v1/query_range?query=%7Ba%3D%22b%22%7D%20%7C%20json", 400),
        (key, "GET", "/loki/api/v1/query_range?query=%7Bapp%3D%22b%22%7D&start=yesterday", 400),
        (key, "GET", "/loki/api/v1/query_range?query=%7Bapp%3D%22b%22%7D&direction=up", 400),
        (key, "GET", "/loki/api/v1/query_range", 400),
        (key, "GET", "/loki/api/v1/nothing", 404),
        (key, "GET", "/ready", 200),
    ] {
        assert_eq!(see.send(key, method, target, "", b"").0, status, "{method} {target}");
    }
    // From the year 2000: kept as of now, and what it said is kept too.
    let old = br#"{"streams":[{"stream":{"job":"old"},"values":[["946684800000000000","x"]]}]}"#;
    assert_eq!(see.send(key, "POST", PUSH, JSON, old).0, 204);
    let found = ask(&see, &format!("/loki/api/v1/query_range?query={}", encoded(r#"{job="old"}"#)));
    let more = &found["data"]["result"][0]["values"][0][2]["structuredMetadata"];
    assert_eq!(more["klar_time"], "2000-01-01T00:00:00Z");
    see.end();
}
