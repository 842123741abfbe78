//! What is sent by hand, over the sockets.

use std::fmt::Write as _;
use std::io::Write as _;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::value::Resource;
use super::*;
use crate::proto::put_fixed64;
use crate::tests::{Folder, KEY, Running, TOKEN};

/// A message: fields with their numbers.
enum F<'a> {
    M(u32, Vec<F<'a>>),
    T(u32, &'a str),
    B(u32, &'a [u8]),
    N(u32, u64),
    X(u32, u64),
    D(u32, f64),
}
use F::{B, D, M, N, T, X};

fn message(fields: &[F<'_>]) -> Vec<u8> {
    let mut out = Vec::new();
    for field in fields {
        match field {
            M(number, fields) => put_bytes(&mut out, *number, &message(fields)),
            T(number, text) => put_bytes(&mut out, *number, text.as_bytes()),
            B(number, bytes) => put_bytes(&mut out, *number, bytes),
            N(number, value) => put_number(&mut out, *number, *value),
            X(number, value) => put_fixed64(&mut out, *number, *value),
            D(number, value) => put_fixed64(&mut out, *number, value.to_bits()),
        }
    }
    out
}

fn pair<'a>(field: u32, name: &'a str, value: F<'a>) -> F<'a> {
    M(field, vec![T(1, name), M(2, vec![value])])
}

fn resource<'a>() -> F<'a> {
    M(
        1,
        vec![
            pair(1, "service.name", T(1, "api")),
            pair(1, "service.instance.id", T(1, "api.7")),
            pair(1, "service.version", T(1, "8e359c5cd8f2")),
            pair(1, "host.name", T(1, "here")),
            pair(1, "klar.app", T(1, "somebody-else")),
        ],
    )
}

fn resource_json() -> Value {
    let text = |name: &str, text: &str| json!({ "key": name, "value": { "stringValue": text } });
    json!({ "attributes": [
        text("service.name", "api"), text("service.instance.id", "api.7"), text("service.version", "8e359c5cd8f2"),
        text("host.name", "here"), text("klar.app", "somebody-else"),
    ] })
}

const TRACE: [u8; 16] = [0x5b, 0x8a, 0xfa, 0x09, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12];
const TRACE_HEX: &str = "5b8afa090102030405060708090a0b0c";

fn spans(now_ns: u64) -> (Vec<u8>, Value) {
    let end_ns = now_ns + 12_345_678;
    let protobuf = message(&[M(
        1,
        vec![
            resource(),
            M(
                2,
                vec![
                    M(1, vec![T(1, "pg"), T(2, "8")]),
                    M(
                        2,
                        vec![
                            B(1, &TRACE),
                            B(2, &[1; 8]),
                            B(4, &[2; 8]),
                            T(5, "SELECT orders"),
                            N(6, 3),
                            X(7, now_ns),
                            X(8, end_ns),
                            pair(9, "db.system.name", T(1, "postgresql")),
                            pair(9, "db.query.text", T(1, "SELECT * FROM orders WHERE id = $1")),
                            pair(9, "rows", N(3, (-3_i64).cast_unsigned())),
                            pair(9, "share", D(4, 0.5)),
                            pair(9, "is", N(2, 1)),
                            pair(9, "bytes", B(7, &[0xde, 0xad])),
                            pair(
                                9,
                                "list",
                                M(
                                    5,
                                    vec![
                                        M(1, vec![T(1, "a\"")]),
                                        M(1, vec![M(6, vec![pair(1, "k", N(3, 1))])]),
                                        M(1, vec![]),
                                    ],
                                ),
                            ),
                            M(
                                11,
                                vec![X(1, now_ns), T(2, "exception"), pair(3, "exception.type", T(1, "E"))],
                            ),
                            M(13, vec![B(1, &TRACE), B(2, &[3; 8])]),
                            M(15, vec![T(2, "it failed"), N(3, 2)]),
                        ],
                    ),
                    // Without an id it is nothing.
                    M(2, vec![T(5, "nothing"), X(7, now_ns), X(8, end_ns)]),
                ],
            ),
        ],
    )]);
    let json = json!({ "resourceSpans": [{
        "resource": resource_json(),
        "unknown": [{ "a": [1, 2] }, null],
        "scopeSpans": [{ "scope": { "name": "pg", "version": "8" }, "spans": [{
            "traceId": TRACE_HEX.to_uppercase(), "spanId": "0101010101010101", "parentSpanId": "0202020202020202",
            "name": "SELECT orders", "kind": 3,
            "startTimeUnixNano": now_ns.to_string(), "endTimeUnixNano": end_ns,
            "attributes": [
                { "key": "db.system.name", "value": { "stringValue": "postgresql" } },
                { "key": "db.query.text", "value": { "stringValue": "SELECT * FROM orders WHERE id = $1" } },
                { "key": "rows", "value": { "intValue": "-3" } },
                { "key": "share", "value": { "doubleValue": 0.5 } },
                { "key": "is", "value": { "boolValue": true } },
                { "key": "bytes", "value": { "bytesValue": "3q0=" } },
                { "key": "list", "value": { "arrayValue": { "values": [
                    { "stringValue": "a\"" }, { "kvlistValue": { "values": [{ "key": "k", "value": { "intValue": 1 } }] } }, {},
                ] } } },
            ],
            "events": [{ "timeUnixNano": now_ns.to_string(), "name": "exception",
                "attributes": [{ "key": "exception.type", "value": { "stringValue": "E" } }] }],
            "links": [{ "traceId": TRACE_HEX, "spanId": "0303030303030303" }],
            "status": { "message": "it failed", "code": 2 },
        }, { "name": "nothing", "startTimeUnixNano": now_ns.to_string(), "endTimeUnixNano": end_ns.to_string() }] }],
    }] });
    (protobuf, json)
}

const PROTOBUF: &str = "application/x-protobuf";
const JSON: &str = "application/json";

fn send(see: &Running, key: &str, path: &str, media: &str, body: &[u8]) -> (u16, String) {
    let more = format!("content-type: {media}\r\n");
    see.ask_with(Some(key), &more, "POST", path, body)
}

fn rows(see: &Running, target: &str) -> Vec<Value> {
    let (status, body) = see.ask(Some(KEY), "GET", target, b"");
    assert_eq!(status, 200, "{body}");
    serde_json::from_str::<Value>(&body).unwrap()["rows"].as_array().unwrap().clone()
}

fn known(see: &Running) {
    see.until("the key is known", |see| (see.ask(Some(KEY), "GET", "/metrics", b"").0 == 200).then_some(()));
}

fn now_ns() -> u64 {
    now_ms().unsigned_abs() * 1_000_000
}

/// The same spans in Protocol Buffers, in JSON, and packed with gzip are the same rows.
#[test]
fn spans_are_rows_however_they_are_written() {
    let folder = Folder::new("otlp-spans");
    let see = Running::start(&folder);
    known(&see);
    let (protobuf, json) = spans(now_ns());
    let (status, said) = send(&see, TOKEN, "/v1/traces", PROTOBUF, &protobuf);
    assert_eq!(status, 200, "{said}");
    assert!(said.contains("no trace id"), "{said:?}");
    let (status, said) = send(&see, TOKEN, "/v1/traces", JSON, json.to_string().as_bytes());
    assert_eq!(status, 200, "{said}");
    let said: Value = serde_json::from_str(&said).unwrap();
    assert_eq!(said["partialSuccess"]["rejectedSpans"], "1", "{said}");
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packed.write_all(&protobuf).unwrap();
    let packed = packed.finish().unwrap();
    let more = format!("content-type: {PROTOBUF}\r\ncontent-encoding: gzip\r\n");
    assert_eq!(see.ask_with(Some(TOKEN), &more, "POST", "/v1/traces", &packed).0, 200);
    // They are there at once.
    let found = rows(&see, &format!("/klar/v1/spans?trace_id={TRACE_HEX}"));
    assert_eq!(found.len(), 3);
    assert!(found.iter().all(|row| *row == found[0]), "{found:#?}");
    let row = &found[0];
    for (name, value) in [
        ("app", json!("shop")),
        ("env", json!("prod")),
        ("service", json!("api")),
        ("instance", json!("api.7")),
        ("release", json!("8e359c5cd8f2")),
        ("span_id", json!("0101010101010101")),
        ("parent_span_id", json!("0202020202020202")),
        ("name", json!("SELECT orders")),
        ("kind", json!("client")),
        ("duration_us", json!(12_345)),
        ("status", json!("error")),
        ("status_message", json!("it failed")),
        ("scope", json!("pg")),
        ("db_system", json!("postgresql")),
        ("statement", json!("SELECT * FROM orders WHERE id = $1")),
        (
            "attrs",
            json!({ "rows": "-3", "share": "0.5", "is": "true", "bytes": "dead", "list": r#"["a\"",{"k":1},null]"#,
                "resource.host.name": "here" }),
        ),
        ("links", json!(format!(r#"[{{"span_id":"0303030303030303","trace_id":"{TRACE_HEX}"}}]"#))),
    ] {
        assert_eq!(row[name], value, "{name} of {row:#}");
    }
    assert!(row["events"].as_str().unwrap().contains(r#""exception.type":"E""#), "{row}");
    assert_eq!(rows(&see, "/klar/v1/spans?contains=FROM%20orders&status=error&slower_ms=12").len(), 3);
    assert_eq!(rows(&see, "/klar/v1/spans?slower_ms=13").len(), 0);
    see.end();
}

#[test]
fn lines_are_rows_beside_those_of_files() {
    let folder = Folder::new("otlp-logs");
    let see = Running::start(&folder);
    known(&see);
    let now_ns = now_ns();
    let protobuf = message(&[M(
        1,
        vec![
            resource(),
            M(
                2,
                vec![
                    M(1, vec![T(1, "app.cart")]),
                    M(
                        2,
                        vec![
                            X(1, now_ns),
                            N(2, 13),
                            T(3, "WARN"),
                            M(5, vec![T(1, "cart is empty")]),
                            pair(6, "user", N(3, 7)),
                            B(9, &TRACE),
                            B(10, &[1; 8]),
                        ],
                    ),
                ],
            ),
        ],
    )]);
    let json = json!({ "resourceLogs": [{ "resource": resource_json(), "scopeLogs": [{ "scope": { "name": "app.cart" },
        "logRecords": [{ "observedTimeUnixNano": now_ns.to_string(), "severityNumber": 13, "severityText": "WARN",
            "body": { "stringValue": "cart is empty" }, "traceId": TRACE_HEX, "spanId": "0101010101010101",
            "attributes": [{ "key": "user", "value": { "intValue": "7" } }] },
          { "timeUnixNano": "1", "body": { "stringValue": "long ago" } }] }] }] });
    assert_eq!(send(&see, TOKEN, "/v1/logs", PROTOBUF, &protobuf), (200, String::new()));
    let (status, said) = send(&see, TOKEN, "/v1/logs", JSON, json.to_string().as_bytes());
    assert_eq!(status, 200);
    assert!(said.contains(r#""rejectedLogRecords":"1""#) && said.contains("7 days ago"), "{said}");
    let found = rows(&see, "/klar/v1/logs?app=shop&level=warn&service=api");
    assert_eq!(found.len(), 2);
    assert_eq!(found[0], found[1]);
    let row = &found[0];
    for (name, value) in [
        ("body", json!("cart is empty")),
        ("instance", json!("api.7")),
        ("stream", json!("otlp")),
        ("trace_id", json!(TRACE_HEX)),
        ("span_id", json!("0101010101010101")),
        ("attrs", json!({ "user": "7", "otel.scope.name": "app.cart", "resource.host.name": "here" })),
    ] {
        assert_eq!(row[name], value, "{name} of {row:#}");
    }
    let (_, trace) = see.ask(Some(KEY), "GET", &format!("/klar/v1/trace?id={TRACE_HEX}"), b"");
    let trace: Value = serde_json::from_str(&trace).unwrap();
    assert_eq!(trace["lines"].as_array().unwrap().len(), 2, "joined by the column: {trace}");
    see.end();
}

/// All that there is of a metric, as lines.
fn samples(see: &Running, query: &str) -> String {
    let mut out = String::new();
    for one in see.get(&format!("/api/v1/query?query={query}"))["result"].as_array().unwrap() {
        let mut labels = one["metric"].as_object().unwrap().clone();
        let name = labels.remove("__name__").unwrap_or_default();
        for same in ["app", "env", "service", "instance", "release", "job"] {
            labels.remove(same);
        }
        let labels: Vec<String> = labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
        writeln!(
            out,
            "{} {{{}}} {}",
            name.as_str().unwrap(),
            labels.join(","),
            one["value"][1].as_str().unwrap()
        )
        .unwrap();
    }
    out
}

#[test]
fn points_are_samples() {
    let folder = Folder::new("otlp-metrics");
    let see = Running::start(&folder);
    known(&see);
    let now_ns = now_ns();
    let packed =
        |numbers: &[u64]| numbers.iter().flat_map(|number| number.to_le_bytes()).collect::<Vec<u8>>();
    let (counts, bounds) = (packed(&[1, 2, 3]), packed(&[0.5_f64.to_bits(), 1.0_f64.to_bits()]));
    let protobuf = message(&[M(
        1,
        vec![
            resource(),
            M(
                2,
                vec![
                    M(
                        2,
                        vec![
                            T(1, "carts.open"),
                            T(3, "{cart}"),
                            M(5, vec![M(1, vec![X(3, now_ns), X(6, 4), pair(7, "shop.kind", T(1, "web"))])]),
                        ],
                    ),
                    M(
                        2,
                        vec![
                            T(1, "sales"),
                            T(3, "By"),
                            M(7, vec![M(1, vec![X(3, now_ns), D(4, 1.5)]), N(2, 2), N(3, 1)]),
                        ],
                    ),
                    M(
                        2,
                        vec![
                            T(1, "delta"),
                            M(7, vec![M(1, vec![X(3, now_ns), D(4, 1.5)]), N(2, 1), N(3, 1)]),
                        ],
                    ),
                    M(
                        2,
                        vec![
                            T(1, "took"),
                            T(3, "s"),
                            M(
                                9,
                                vec![
                                    M(
                                        1,
                                        vec![X(3, now_ns), X(4, 6), D(5, 7.5), B(6, &counts), B(7, &bounds)],
                                    ),
                                    N(2, 2),
                                ],
                            ),
                        ],
                    ),
                    M(
                        2,
                        vec![
                            T(1, "waited"),
                            T(3, "ms"),
                            M(
                                10,
                                vec![
                                    M(
                                        1,
                                        vec![
                                            X(3, now_ns),
                                            X(4, 3),
                                            D(5, 3.0),
                                            N(6, 0),
                                            X(7, 1),
                                            M(8, vec![N(1, 1), B(2, &[2])]),
                                        ],
                                    ),
                                    N(2, 2),
                                ],
                            ),
                        ],
                    ),
                    M(
                        2,
                        vec![
                            T(1, "old"),
                            M(
                                11,
                                vec![M(
                                    1,
                                    vec![X(3, now_ns), X(4, 2), D(5, 3.0), M(6, vec![D(1, 0.5), D(2, 1.25)])],
                                )],
                            ),
                        ],
                    ),
                ],
            ),
        ],
    )]);
    let point = |value: Value| {
        let mut point = value;
        point["timeUnixNano"] = now_ns.to_string().into();
        json!([point])
    };
    let json = json!({ "resourceMetrics": [{ "resource": resource_json(), "scopeMetrics": [{ "metrics": [
        { "name": "carts.open", "unit": "{cart}", "gauge": { "dataPoints": point(json!({ "asInt": "4",
            "attributes": [{ "key": "shop.kind", "value": { "stringValue": "web" } }] })) } },
        { "name": "sales", "unit": "By", "sum": { "aggregationTemporality": 2, "isMonotonic": true,
            "dataPoints": point(json!({ "asDouble": 1.5 })) } },
        { "name": "delta", "sum": { "aggregationTemporality": 1, "isMonotonic": true,
            "dataPoints": point(json!({ "asDouble": 1.5 })) } },
        { "name": "took", "unit": "s", "histogram": { "aggregationTemporality": 2, "dataPoints": point(json!({
            "count": "6", "sum": 7.5, "bucketCounts": ["1", "2", "3"], "explicitBounds": [0.5, 1.0] })) } },
        { "name": "waited", "unit": "ms", "exponentialHistogram": { "aggregationTemporality": 2, "dataPoints": point(json!({
            "count": "3", "sum": 3.0, "scale": 0, "zeroCount": "1", "positive": { "offset": -1, "bucketCounts": ["2"] } })) } },
        { "name": "old", "summary": { "dataPoints": point(json!({ "count": "2", "sum": 3, "quantileValues": [
            { "quantile": 0.5, "value": 1.25 }] })) } },
    ] }] }] });
    let (status, said) = send(&see, TOKEN, "/v1/metrics", PROTOBUF, &protobuf);
    assert_eq!(status, 200, "{said}");
    assert!(said.contains("delta is not cumulative; set OTEL_EXPORTER"), "{said:?}");
    // The same once more is no harm.
    let (status, said) = send(&see, TOKEN, "/v1/metrics", JSON, json.to_string().as_bytes());
    assert_eq!(status, 200, "{said}");
    let said: Value = serde_json::from_str(&said).unwrap();
    assert_eq!(said["partialSuccess"]["rejectedDataPoints"], "1", "what is the same is no conflict: {said}");
    let expected = r#"carts_open {shop_kind="web"} 4
sales_bytes_total {} 1.5
took_seconds_bucket {le="+Inf"} 6
took_seconds_bucket {le="0.5"} 1
took_seconds_bucket {le="1"} 3
took_seconds_sum {} 7.5
took_seconds_count {} 6
waited_milliseconds_bucket {le="+Inf"} 3
waited_milliseconds_bucket {le="0"} 1
waited_milliseconds_bucket {le="1"} 3
waited_milliseconds_sum {} 3
waited_milliseconds_count {} 3
old {quantile="0.5"} 1.25
old_sum {} 3
old_count {} 2
target_info {host_name="here"} 1
"#;
    let all = "%7Bjob%3D%22api%22,app%3D%22shop%22,env%3D%22prod%22,instance%3D%22api.7%22%7D";
    let (found, expected) = (samples(&see, all), expected);
    let sorted = |text: &str| {
        let mut lines: Vec<&str> = text.lines().collect();
        lines.sort_unstable();
        lines.join("\n")
    };
    assert_eq!(sorted(&found), sorted(expected));
    see.end();
}

#[test]
fn what_is_wrong_is_told() {
    let folder = Folder::new("otlp-wrong");
    let see = Running::start(&folder);
    known(&see);
    let bomb = {
        let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        for _ in 0..80 {
            packed.write_all(&vec![0; 1 << 20]).unwrap();
        }
        packed.finish().unwrap()
    };
    let (_, json) = spans(now_ns());
    for (key, path, media, encoding, body, status, why) in [
        (TOKEN, "/v1/traces", PROTOBUF, "identity", &b""[..], 200, ""),
        (TOKEN, "/v1/traces", "application/json; charset=utf-8", "identity", b"{}", 200, "{}"),
        (TOKEN, "/v1/traces", "text/plain", "identity", b"{}", 415, "content-type"),
        (TOKEN, "/v1/traces", PROTOBUF, "identity", b"\x0a\xff", 400, "no message"),
        (TOKEN, "/v1/traces", JSON, "identity", b"{\"resourceSpans\":", 400, "\"code\":3"),
        (TOKEN, "/v1/traces", JSON, "identity", b"{\"resourceSpans\":{\"resource\":7}}", 400, "`resource`"),
        (TOKEN, "/v1/traces", JSON, "gzip", b"nonsense", 400, "no gzip"),
        (TOKEN, "/v1/traces", JSON, "br", b"nonsense", 400, "`br`"),
        (TOKEN, "/v1/logs", PROTOBUF, "gzip", &bomb, 413, "unpack"),
        ("nobody", "/v1/traces", JSON, "identity", b"{}", 401, "key"),
        (KEY, "/v1/traces", JSON, "identity", b"{}", 200, "{}"),
    ] {
        let more = format!("content-type: {media}\r\ncontent-encoding: {encoding}\r\n");
        let (found, said) = see.ask_with(Some(key), &more, "POST", path, body);
        assert_eq!((found, said.contains(why)), (status, true), "{path} {media} {encoding}: {said}");
    }
    assert_eq!(see.ask(Some(TOKEN), "GET", "/v1/traces", b"").0, 405);
    // The owner says whose it is.
    let owned = json.to_string();
    assert_eq!(send(&see, KEY, "/v1/traces", JSON, owned.as_bytes()).0, 200);
    assert_eq!(rows(&see, "/klar/v1/spans?app=somebody-else").len(), 1);
    see.end();
}

#[test]
fn frames_of_calls() {
    for (frame, expected) in [
        (&b"\0\0\0\0\x02hi"[..], Ok((false, &b"hi"[..]))),
        (b"\x01\0\0\0\x02hi", Ok((true, b"hi"))),
        (b"\0\0\0\0\x03hi", Err("exactly one message is expected")),
        (b"\0\0\0\0\x01hi", Err("exactly one message is expected")),
        (b"\x02\0\0\0\x02hi", Err("a frame has unknown flags")),
        (b"\0\0\0", Err("a call without a message")),
    ] {
        assert_eq!(grpc::message(frame), expected);
    }
}

/// A call over HTTP/2, and how it went: the code and the message of gRPC.
async fn call(address: std::net::SocketAddr, path: &str, key: &str, body: Vec<u8>) -> (String, String) {
    use http_body_util::{BodyExt, Full};
    use hyper_util::rt::{TokioExecutor, TokioIo};
    let stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let request = http::Request::post(format!("http://{address}{path}"))
        .header("content-type", "application/grpc")
        .header("authorization", format!("Bearer {key}"))
        .header("te", "trailers")
        .body(Full::new(bytes::Bytes::from(body)))
        .unwrap();
    let (head, body) = sender.send_request(request).await.unwrap().into_parts();
    assert_eq!(head.status, StatusCode::OK, "gRPC says how it went in its own words");
    assert_eq!(head.headers["content-type"], "application/grpc");
    let body = body.collect().await.unwrap();
    let of = body.trailers().unwrap_or(&head.headers);
    let text = |name| of.get(name).map(|value| value.to_str().unwrap().to_owned()).unwrap_or_default();
    (text("grpc-status"), text("grpc-message"))
}

#[test]
fn calls_are_answered_as_calls() {
    let folder = Folder::new("otlp-calls");
    let see = Running::start(&folder);
    known(&see);
    let framed =
        |message: &[u8]| [&[0][..], &u32::try_from(message.len()).unwrap().to_be_bytes(), message].concat();
    let (protobuf, _) = spans(now_ns());
    const TRACES: &str = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    for (path, key, body, status, why) in [
        (TRACES, TOKEN, framed(&protobuf), "0", ""),
        (TRACES, TOKEN, framed(b""), "0", ""),
        (TRACES, "nobody", framed(b""), "16", "a key is wanted"),
        (TRACES, TOKEN, framed(b"\x0a\xff"), "3", "no message"),
        (TRACES, TOKEN, vec![0; 3], "3", "without a message"),
        (TRACES, TOKEN, vec![0; 17 << 20], "8", "at most"),
        ("/grpc.health.v1.Health/Check", TOKEN, framed(b""), "7", "only write"),
    ] {
        let found = runtime.block_on(call(see.address, path, key, body));
        assert_eq!((&*found.0, found.1.contains(why)), (status, true), "{path} {key}: {found:?}");
    }
    assert_eq!(rows(&see, &format!("/klar/v1/spans?trace_id={TRACE_HEX}")).len(), 1);
    see.end();
}

/// Bytes that are partly a message.
fn nearly() -> impl Strategy<Value = Vec<u8>> {
    let (protobuf, _) = spans(1_700_000_000_000_000_000);
    let torn = (0..protobuf.len(), any::<u8>(), 0..protobuf.len()).prop_map(move |(at, byte, end)| {
        let mut bytes = protobuf.clone();
        bytes[at] = byte;
        bytes.truncate(protobuf.len() - end / 8);
        bytes
    });
    prop_oneof![proptest::collection::vec(any::<u8>(), 0..400), torn]
}

/// JSON that is partly a message.
fn nearly_json() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        Just("null".to_owned()),
        Just("\"12\"".into()),
        Just("1e400".into()),
        Just("-7".into()),
        Just("[]".into()),
        Just("{}".into()),
        Just("true".into()),
    ];
    let names = [
        "resourceSpans",
        "resource",
        "scopeSpans",
        "spans",
        "traceId",
        "kind",
        "attributes",
        "value",
        "arrayValue",
        "values",
        "x",
    ];
    leaf.prop_recursive(8, 64, 4, move |inner| {
        let entry = (proptest::sample::select(names.to_vec()), inner.clone());
        prop_oneof![
            proptest::collection::vec(inner, 0..4).prop_map(|all| format!("[{}]", all.join(","))),
            proptest::collection::vec(entry, 0..4).prop_map(|all| {
                let all: Vec<String> =
                    all.iter().map(|(name, value)| format!("\"{name}\":{value}")).collect();
                format!("{{{}}}", all.join(","))
            }),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, ..ProptestConfig::default() })]

    /// Whatever comes is read to its end or refused, and nothing made of it is much longer than it is.
    #[test]
    fn any_bytes_are_read_or_refused(bytes in nearly()) {
        each(&bytes, 1, |of_resource| {
            Resource::read(one(of_resource, 1)?, None)?;
            each(of_resource, 2, |scope| each(scope, 2, |one| {
                spans::Span::read(one)?;
                lines::Record::read(one, "x")?;
                for kind in [5, 7, 9, 10, 11] {
                    let point = metrics::Point::read(kind, one)?;
                    point.bounds_of();
                }
                Ok::<_, Malformed>(())
            }))
        }).ok();
        for kind in [5, 7, 9, 10, 11] {
            if let Ok(point) = metrics::Point::read(kind, &bytes) {
                point.bounds_of();
            }
        }
        if let Ok(text) = value::text(&bytes) {
            prop_assert!(text.len() <= 8 * bytes.len() + 8);
        }
    }

    #[test]
    fn any_json_is_read_or_refused(text in nearly_json()) {
        for signal in [Signal::Traces, Signal::Logs, Signal::Metrics] {
            if let Ok(bytes) = json::to_protobuf(json::schema(signal), text.as_bytes(), 1 << 20) {
                prop_assert!(bytes.len() <= 5 * text.len());
                let mut message = Message::new(&bytes);
                while message.field().unwrap().is_some() {}
            }
            prop_assert!(json::to_protobuf(json::schema(signal), text.as_bytes(), 0).map_or(true, |bytes| bytes.is_empty()) );
        }
    }
}

/// Lists in lists, as deep as they like, end somewhere.
#[test]
fn depth_is_bounded() {
    let mut bytes = message(&[T(1, "x")]);
    for _ in 0..500 {
        bytes = message(&[M(5, vec![B(1, &bytes)])]);
    }
    assert!(value::text(&bytes).unwrap().len() < 100);
    let deep = "{\"resourceSpans\":".repeat(200);
    assert!(json::to_protobuf(json::schema(Signal::Traces), deep.as_bytes(), 1 << 20).is_err());
    let long = message(&[T(1, &"ø".repeat(100_000))]);
    assert!(value::text(&long).unwrap().len() <= value::TEXT_MAX);
    let mut all = value::Attributes::default();
    for number in 0..10_000 {
        let name = format!("name{number}");
        all.add(&message(&[T(1, &name), M(2, vec![T(1, &"x".repeat(4096))])])).unwrap();
    }
    assert!(all.iter().map(|(name, value)| name.len() + value.len()).sum::<usize>() <= 128 << 10);
}
