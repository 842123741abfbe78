//! What speaks Elasticsearch.

use std::process::Command;

use serde_json::{Value, json};

use super::{Folder, KEY, Program, Running, TOKEN};

const NDJSON: &str = "content-type: application/x-ndjson\r\n";

/// Rows of lines, oldest first.
fn lines(see: &Running, filters: &str) -> Vec<Value> {
    let target = format!("/klar/v1/logs?order=oldest&{filters}");
    let (status, body) = see.ask(Some(KEY), "GET", &target, b"");
    assert_eq!(status, 200, "{body}");
    serde_json::from_str::<Value>(&body).unwrap()["rows"].as_array().unwrap().clone()
}

#[test]
fn each_document_has_its_own_verdict() {
    let folder = Folder::new("bulk");
    let see = Running::start(&folder);
    see.known();
    // Before the second one, which says no time.
    let now = jiff::Timestamp::now() - std::time::Duration::from_secs(1);
    let body = format!(
        "{}\n{}\n{}\n{}\n{}\n{}\n{}\n{}\n\n{}\n{}\n{}\n",
        r#"{"create":{"_index":"logs-a"}}"#,
        json!({ "@timestamp": now.to_string(), "message": "one", "log.level": "error", "service": { "name": "api" },
            "trace.id": "0af7651916cd43dd8448eb211c80319c", "labels": { "app": "bank" } }),
        r#"{"index":{"_id":"7"}}"#,
        "{torn",
        r#"{"delete":{"_id":"7"}}"#,
        r#"{"update":{"_id":"7"}}"#,
        r#"{"doc":{}}"#,
        "nonsense",
        r#"{"its":"document"}"#,
        r#"{"index":{"_index":"logs-b"}}"#,
        json!({ "message": "two" }),
    );
    let (status, answer) =
        see.send(TOKEN, "POST", "/usual/_bulk?filter_path=items.*.status", NDJSON, body.as_bytes());
    let answer: Value = serde_json::from_str(&answer).unwrap();
    assert_eq!((status, &answer["errors"]), (200, &json!(true)));
    let items: Vec<(String, Value, Value)> = answer["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|item| {
            let (action, about) = item.as_object().unwrap().iter().next().unwrap();
            (action.clone(), about["_index"].clone(), about["status"].clone())
        })
        .collect();
    let expected = [
        ("create", "logs-a", 201),
        ("index", "usual", 400),
        ("delete", "usual", 400),
        ("update", "usual", 400),
        ("create", "usual", 400),
        ("index", "logs-b", 201),
    ];
    assert_eq!(items, expected.map(|(action, index, status)| (action.into(), index.into(), status.into())));
    let found = lines(&see, "app=shop");
    let bodies: Vec<&str> = found.iter().map(|row| row["body"].as_str().unwrap()).collect();
    assert_eq!(bodies, ["one", "two"]);
    assert_eq!(
        (&found[0]["level"], &found[0]["service"], &found[0]["trace_id"], &found[0]["attrs"]),
        (
            &json!("error"),
            &json!("api"),
            &json!("0af7651916cd43dd8448eb211c80319c"),
            &json!({ "index": "logs-a", "exported_app": "bank" })
        )
    );

    for (method, target, headers, body, status) in [
        ("GET", "/", "", &b""[..], 200),
        ("HEAD", "/elasticsearch/", "", b"", 200),
        ("GET", "/_license", "", b"", 200),
        ("GET", "/_xpack?human=false", "", b"", 200),
        ("GET", "/_cluster/health", "", b"", 200),
        ("GET", "/_ilm/policy/filebeat", "", b"", 200),
        ("PUT", "/_index_template/filebeat", "", b"{}", 200),
        ("HEAD", "/_index_template/filebeat", "", b"", 200),
        ("GET", "/_nodes/http", "", b"", 200),
        ("GET", "/_bulk", "", b"", 405),
        ("POST", "/_bulk", NDJSON, b"", 400),
        ("POST", "/_bulk", "content-encoding: gzip\r\n", b"none", 400),
        ("PUT", "/elasticsearch/_bulk", NDJSON, b"{\"index\":{}}\n{\"message\":\"x\"}", 200),
    ] {
        let found = see.send(TOKEN, method, target, headers, body);
        assert_eq!(found.0, status, "{method} {target} {}", found.1);
    }
    assert_eq!(see.send("another", "GET", "/", "", b"").0, 401);
    // As Filebeat shows an API key: `id:key`, in base 64; here `x:the-token-of-the-shop`.
    let stream = std::net::TcpStream::connect(see.address).unwrap();
    let api_key = "authorization: ApiKey eDp0aGUtdG9rZW4tb2YtdGhlLXNob3A=\r\n";
    assert_eq!(super::exchange(stream, api_key, "GET", "/", b"").0, 200);
    let (_, version) = see.send(TOKEN, "GET", "/", "", b"");
    assert!(version.contains("\"number\":\"8."), "{version}");
    let many = "{\"index\":{}}\n{}\n".repeat(50_001);
    assert_eq!(see.send(TOKEN, "POST", "/_bulk", NDJSON, many.as_bytes()).0, 413);
    see.end();
}

/// A real rsyslog, with its module for Elasticsearch, in the foreground and with files of its own.
#[test]
fn rsyslog_sends_in_bulk() {
    // It lies in a folder of the machine's architecture.
    let folders = std::fs::read_dir("/usr/lib").into_iter().flatten().flatten().map(|folder| folder.path());
    let has_module =
        folders.chain(["/usr/lib".into()]).any(|folder| folder.join("rsyslog/omelasticsearch.so").exists());
    if !has_module || Command::new("rsyslogd").arg("-v").output().is_err() {
        eprintln!(
            "skipped: rsyslog has no module for Elasticsearch (apt-get install rsyslog rsyslog-elasticsearch)"
        );
        return;
    }
    let folder = Folder::new("rsyslog-bulk");
    let see = Running::start(&folder);
    see.known();
    let (at, input) = (folder.path().display(), folder.path().join("input.log"));
    std::fs::write(&input, "").unwrap();
    let config = folder.path().join("rsyslog.conf");
    std::fs::write(
        &config,
        format!(
            r#"global(workDirectory="{at}")
module(load="imfile" mode="polling" pollingInterval="1")
module(load="omelasticsearch")
template(name="ecs" type="list" option.jsonf="on") {{
  property(outname="@timestamp" name="timereported" dateFormat="rfc3339" format="jsonf")
  property(outname="host.name" name="hostname" format="jsonf")
  property(outname="service.name" name="programname" format="jsonf")
  property(outname="log.level" name="syslogseverity-text" format="jsonf")
  property(outname="message" name="msg" format="jsonf")
}}
input(type="imfile" file="{input}" tag="billing" severity="error" freshStartTail="off")
action(type="omelasticsearch" server="127.0.0.1" serverport="{port}" uid="klar" pwd="{TOKEN}" template="ecs"
  searchIndex="syslog" searchType="" bulkmode="on" errorFile="{at}/errors.json")
"#,
            input = input.display(),
            port = see.address.port(),
        ),
    )
    .unwrap();
    let pid = folder.path().join("pid");
    let _rsyslog =
        Program::start(Command::new("rsyslogd").arg("-n").arg("-f").arg(&config).arg("-i").arg(&pid));
    std::fs::write(&input, "card declined \"twice\"\nlate\n").unwrap();
    let found = see.until("rsyslog has sent", |see| {
        let found = lines(see, "service=billing");
        (found.len() >= 2).then_some(found)
    });
    assert_eq!(
        (&found[0]["body"], &found[0]["level"], &found[0]["app"], &found[0]["attrs"]["index"]),
        (&json!("card declined \"twice\""), &json!("error"), &json!("shop"), &json!("syslog"))
    );
    assert!(!folder.path().join("errors.json").exists());
    see.end();
}
