//! Lines that speak Elasticsearch: Filebeat, Logstash, Fluent Bit, rsyslog's omelasticsearch, Vector and libraries of many
//! languages send `_bulk` (<https://www.elastic.co/docs/api/doc/elasticsearch/operation/operation-bulk>).
//!
//! Before they do, they look who is there: version, licence, templates, policies. They get what they look for, so that
//! none of them has to be told that this is no Elasticsearch. A document becomes a line by the names of the Elastic Common
//! Schema, and by those that Fluent Bit and rsyslog use.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};

use http::header::HeaderValue;
use http::request::Parts;
use http::{Method, StatusCode};
use klar_base::AppKey;
use serde_json::{Value, json};

use super::unpack::unpacked;
use super::{Answer, typed};
use crate::intake::Draft;
use crate::rows::cut;
use crate::{Shared, now_ms};

/// What a body may unpack to, in bytes.
const UNPACKED_MAX: usize = 32 << 20;
/// How long a document may be, in bytes.
const DOCUMENT_MAX: usize = 1 << 20;
/// Documents of one body.
const ITEMS_MAX: usize = 50_000;
/// Values of a document that are looked at.
const LEAVES_MAX: usize = 1_000;
/// Who sends decides by it what it may ask for.
const VERSION: &str = "8.19.0";

/// What of a path is Elasticsearch's, without the prefix; none if it is not.
pub(super) fn path(path: &str) -> Option<&str> {
    if let Some(rest) = path.strip_prefix("/elasticsearch") {
        return if rest.is_empty() { Some("/") } else { rest.starts_with('/').then_some(rest) };
    }
    let first = path.strip_prefix('/')?.split('/').next().unwrap_or_default();
    let is_ours = matches!(
        first,
        "" | "_bulk"
            | "_license"
            | "_xpack"
            | "_ilm"
            | "_index_template"
            | "_component_template"
            | "_template"
            | "_cluster"
            | "_data_stream"
            | "_ingest"
            | "_nodes"
    );
    (is_ours || path.ends_with("/_bulk")).then_some(path)
}

fn answer(status: StatusCode, body: impl Into<bytes::Bytes>) -> Answer {
    let mut answer = typed(status, "application/json", body);
    // Their libraries refuse to speak with anybody who does not say this.
    answer.headers_mut().insert("x-elastic-product", HeaderValue::from_static("Elasticsearch"));
    answer
}

fn failed(status: StatusCode, kind: &str, why: &str) -> Answer {
    let body = json!({ "error": { "type": kind, "reason": why }, "status": status.as_u16() });
    answer(status, body.to_string())
}

/// Answers, whatever is asked; `path` is that of [`path`].
pub(super) fn take_in(
    shared: &Shared,
    whose: Option<&AppKey>,
    path: &str,
    head: &Parts,
    body: &[u8],
) -> Answer {
    let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
    if let [.., "_bulk"] = &parts[..] {
        if !matches!(head.method, Method::POST | Method::PUT) {
            return failed(
                StatusCode::METHOD_NOT_ALLOWED,
                "method_not_allowed",
                "POST or PUT is wanted here",
            );
        }
        let index = if let [index, _] = &parts[..] { index } else { "" };
        return bulk(shared, whose, index, head, body);
    }
    handshake(&head.method, &parts)
}

/// What is looked at before anything is sent. Templates and policies are nothing here; whoever asks for one hears that it
/// is there, and whoever brings one hears that it is taken.
fn handshake(method: &Method, parts: &[&str]) -> Answer {
    let body = match parts {
        [] => json!({
            "name": "klar", "cluster_name": "klar", "cluster_uuid": "klar",
            "version": {
                "number": VERSION, "build_flavor": "default", "build_type": "klar", "build_hash": "klar",
                "build_date": "2026-01-01T00:00:00.000Z", "build_snapshot": false, "lucene_version": "9.12.0",
                "minimum_wire_compatibility_version": "7.17.0", "minimum_index_compatibility_version": "7.0.0",
            },
            "tagline": "You Know, for Search",
        }),
        ["_license", ..] => json!({ "license": license() }),
        ["_xpack", ..] => json!({
            "build": { "hash": "klar", "date": "2026-01-01T00:00:00.000Z" }, "license": license(),
            "features": {
                "ilm": { "available": true, "enabled": true }, "security": { "available": true, "enabled": true },
            },
            "tagline": "You know, for X",
        }),
        ["_cluster", "health", ..] => json!({
            "cluster_name": "klar", "status": "green", "timed_out": false, "number_of_nodes": 1,
            "number_of_data_nodes": 1, "active_primary_shards": 1, "active_shards": 1,
        }),
        // Whoever looks for more nodes finds none, and stays with this one.
        ["_nodes", ..] => json!({ "_nodes": { "total": 0, "successful": 0, "failed": 0 }, "nodes": {} }),
        _ if matches!(*method, Method::PUT | Method::POST | Method::DELETE) => {
            json!({ "acknowledged": true })
        }
        ["_ilm", "policy", name] => json!({ *name: { "version": 1, "policy": { "phases": {} } } }),
        ["_index_template", name] => {
            json!({ "index_templates": [{ "name": name, "index_template": { "index_patterns": [] } }] })
        }
        ["_component_template", name] => {
            json!({ "component_templates": [{ "name": name, "component_template": { "template": {} } }] })
        }
        ["_template", name] => json!({ *name: { "index_patterns": [], "version": 1 } }),
        ["_data_stream", name] => json!({ "data_streams": [{ "name": name, "status": "GREEN" }] }),
        ["_ingest", "pipeline", name] => json!({ *name: { "processors": [] } }),
        _ => return failed(StatusCode::NOT_FOUND, "resource_not_found_exception", "this is nothing here"),
    };
    answer(StatusCode::OK, body.to_string())
}

fn license() -> Value {
    json!({ "status": "active", "uid": "klar", "type": "basic", "mode": "basic", "issuer": "klar" })
}

/// What a line of actions asks for.
struct Action {
    name: &'static str,
    index: String,
    id: String,
}

fn action(line: &[u8]) -> Result<Action, String> {
    let malformed = |why: &str| format!("malformed action/metadata line: {why}");
    let said: Value = serde_json::from_slice(line).map_err(|error| malformed(&error.to_string()))?;
    let object = said.as_object().filter(|object| object.len() == 1).and_then(|object| object.iter().next());
    let Some((name, about)) = object else { return Err(malformed("an object with one action is expected")) };
    let name = ["create", "index", "update", "delete"].into_iter().find(|known| known == name);
    let (Some(name), Some(about)) = (name, about.as_object()) else {
        return Err(malformed("`create`, `index`, `update` or `delete` is expected"));
    };
    let text = |key: &str| cut(about.get(key).and_then(Value::as_str).unwrap_or_default(), 512).to_owned();
    Ok(Action { name, index: text("_index"), id: text("_id") })
}

fn bulk(shared: &Shared, whose: Option<&AppKey>, index: &str, head: &Parts, body: &[u8]) -> Answer {
    let body = match unpacked(head, body, UNPACKED_MAX) {
        Ok(body) => body,
        Err((status, why)) => return failed(status, "parse_exception", why.trim_end()),
    };
    let now_us = now_ms().saturating_mul(1000);
    let begun = std::time::Instant::now();
    let mut lines = body.split(|byte| *byte == b'\n').filter(|line| !line.trim_ascii().is_empty()).peekable();
    let mut items = Items::default();
    let unavailable = |error: klar_rows::Error| {
        failed(StatusCode::SERVICE_UNAVAILABLE, "unavailable_shards_exception", &error.to_string())
    };
    let mut delivery = match shared.rows.delivery() {
        Ok(delivery) => delivery,
        Err(error) => return unavailable(error),
    };
    while let Some(line) = lines.next() {
        if items.count >= ITEMS_MAX {
            return failed(
                StatusCode::PAYLOAD_TOO_LARGE,
                "circuit_breaking_exception",
                &format!("a body has at most {ITEMS_MAX} documents here"),
            );
        }
        let action = match if line.len() > DOCUMENT_MAX { Err("it is too long".into()) } else { action(line) }
        {
            Ok(action) => action,
            Err(why) => {
                items.add("create", index, "", Err(&why));
                // What follows is its document, unless it is an action itself.
                lines.next_if(|next| action(next).is_err());
                continue;
            }
        };
        let index = if action.index.is_empty() { index } else { &action.index };
        if action.name == "delete" {
            items.add(action.name, index, &action.id, Err("documents cannot be deleted here"));
            continue;
        }
        let document = lines.next();
        if action.name == "update" {
            items.add(action.name, index, &action.id, Err("documents cannot be changed here"));
            continue;
        }
        let draft = match document {
            None => Err("the document is missing".to_owned()),
            Some(line) if line.len() > DOCUMENT_MAX => {
                Err(format!("a document has at most {DOCUMENT_MAX} bytes here"))
            }
            Some(line) => serde_json::from_slice::<Value>(line)
                .map_err(|error| format!("failed to parse: {error}"))
                .and_then(|document| draft(document, index)),
        };
        match draft {
            Ok(draft) => {
                if let Err(error) = draft.finish(whose, now_us, |line| delivery.line(&line)) {
                    return unavailable(error);
                }
                items.add(action.name, index, &action.id, Ok(()));
            }
            Err(why) => items.add(action.name, index, &action.id, Err(&why)),
        }
    }
    if items.count == 0 {
        return failed(
            StatusCode::BAD_REQUEST,
            "action_request_validation_exception",
            "the body has no actions",
        );
    }
    if let Err(error) = delivery.keep() {
        return unavailable(error);
    }
    let body = format!(
        "{{\"took\":{},\"errors\":{},\"items\":[{}]}}",
        begun.elapsed().as_millis(),
        items.has_errors,
        items.text
    );
    answer(StatusCode::OK, body)
}

/// What became of each document, as it is answered.
#[derive(Default)]
struct Items {
    text: String,
    count: usize,
    has_errors: bool,
}

impl Items {
    fn add(&mut self, action: &str, index: &str, id: &str, verdict: Result<(), &str>) {
        /// Documents have no names here; whoever asks for one gets another one each time.
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let id = if id.is_empty() {
            format!("klar{:016x}", NEXT.fetch_add(1, Ordering::Relaxed))
        } else {
            id.to_owned()
        };
        let about = match verdict {
            Ok(()) => {
                json!({ "_index": index, "_id": id, "_version": 1, "result": "created", "status": 201 })
            }
            Err(why) => {
                self.has_errors = true;
                let why: String = why.chars().take(200).collect();
                json!({
                    "_index": index, "_id": id, "status": 400,
                    "error": { "type": "document_parsing_exception", "reason": why },
                })
            }
        };
        let comma = if self.count > 0 { "," } else { "" };
        // Writing to memory does not fail.
        let _ = write!(self.text, "{comma}{{\"{action}\":{about}}}");
        self.count += 1;
    }
}

/// A document as names with dots and their values, as Elasticsearch itself sees it.
#[derive(Default)]
struct Flat(Vec<(String, Cow<'static, str>)>);

impl Flat {
    fn add(&mut self, name: &str, value: Value) {
        if self.0.len() >= LEAVES_MAX {
            return;
        }
        let text: Cow<'static, str> = match value {
            Value::Null => return,
            Value::Object(object) => {
                for (key, value) in object {
                    let name = if name.is_empty() { key } else { format!("{name}.{key}") };
                    // A name that grows beyond all measure with its depth is none.
                    if name.len() <= 512 {
                        self.add(&name, value);
                    }
                }
                return;
            }
            Value::String(text) => text.into(),
            Value::Bool(is) => (if is { "true" } else { "false" }).into(),
            other => other.to_string().into(),
        };
        self.0.push((name.to_owned(), text));
    }

    /// Takes out the first of these names that has a value.
    fn take(&mut self, names: &[&str]) -> Cow<'static, str> {
        let place = names.iter().find_map(|name| self.0.iter().position(|(its, _)| its == name));
        place.map(|place| self.0.remove(place).1).unwrap_or_default()
    }

    /// The same, and leaves it there.
    fn look(&self, names: &[&str]) -> Cow<'static, str> {
        let found = names.iter().find_map(|name| self.0.iter().find(|(its, _)| its == name));
        found.map(|(_, value)| value.clone()).unwrap_or_default()
    }
}

/// When a document says that it was, in microseconds: RFC 3339, or milliseconds or seconds since 1970.
fn time(text: &str) -> Option<i64> {
    if let Ok(number) = text.parse::<f64>() {
        let seconds = if number > 1e11 { number / 1000.0 } else { number };
        return (0.0..1e11).contains(&seconds).then_some((seconds * 1e6) as i64);
    }
    text.parse::<jiff::Timestamp>().ok().map(jiff::Timestamp::as_microsecond)
}

fn draft(document: Value, index: &str) -> Result<Draft<'static>, String> {
    let Value::Object(_) = &document else { return Err("a document is an object".into()) };
    let whole = cut(&document.to_string(), crate::rows::TEXT_MAX).to_owned();
    let mut flat = Flat::default();
    flat.add("", document);
    let mut draft = Draft::default();
    for name in ["@timestamp", "timestamp", "time", "timereported", "date"] {
        if let Some(at) = time(&flat.look(&[name])) {
            draft.time_us = Some(at);
            flat.take(&[name]);
            break;
        }
    }
    // Without a text the document is the line.
    draft.body = flat.take(&["message", "msg", "log", "event.original", "MESSAGE", "@message"]);
    if draft.body.is_empty() {
        draft.body = whole.into();
    }
    draft.app = flat.take(&["app", "labels.app", "service.namespace"]);
    draft.env = flat.take(&["env", "labels.env", "service.environment"]);
    draft.service = flat.take(&["service.name", "service"]);
    if draft.service.is_empty() {
        // What stands in for it stays findable under its own name.
        draft.service = flat.look(&[
            "container.name",
            "kubernetes.container_name",
            "log.syslog.appname",
            "programname",
            "app-name",
            "process.name",
            "data_stream.dataset",
            "event.dataset",
        ]);
    }
    if draft.service.is_empty() {
        // `cron[17]:`
        let tag = flat.look(&["syslogtag"]);
        draft.service = tag.split(['[', ':']).next().unwrap_or_default().to_owned().into();
    }
    draft.instance = flat.take(&["service.node.name", "instance"]);
    if draft.instance.is_empty() {
        draft.instance = flat.look(&[
            "kubernetes.pod.name",
            "kubernetes.pod_name",
            "host.name",
            "host.hostname",
            "hostname",
            "host",
            "agent.hostname",
            "fromhost",
        ]);
    }
    draft.stream = flat.take(&["stream"]);
    if draft.stream.is_empty() {
        draft.stream = "bulk".into();
    }
    for name in [
        "log.level",
        "level",
        "severity",
        "log.syslog.severity.name",
        "syslogseverity-text",
        "priority",
        "levelname",
    ] {
        draft.say_level(&flat.look(&[name]));
        if draft.level.is_some() {
            flat.take(&[name]);
            break;
        }
    }
    for name in ["trace.id", "trace_id", "traceId"] {
        draft.say_trace(&flat.look(&[name]));
        if draft.trace_id.is_some() {
            flat.take(&[name]);
            break;
        }
    }
    for name in ["span.id", "span_id", "spanId"] {
        draft.say_span(&flat.look(&[name]));
        if draft.span_id.is_some() {
            flat.take(&[name]);
            break;
        }
    }
    if !index.is_empty() {
        draft.attr("index", index.to_owned());
    }
    flat.0.into_iter().for_each(|(name, value)| draft.attr(name, value));
    Ok(draft)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn columns(document: &Value) -> Value {
        let draft = draft(document.clone(), "logs-x").unwrap();
        draft.finish(None, 1_790_000_000_000_000, |line| {
            let attrs: serde_json::Map<String, Value> =
                line.attrs.iter().map(|(name, value)| ((*name).to_owned(), (*value).into())).collect();
            json!([line.time_us, line.service, line.instance, line.level, line.body, attrs])
        })
    }

    #[test]
    fn documents_become_lines() {
        let at = "2026-09-21T14:13:19.5Z";
        let us = 1_789_999_999_500_000_i64;
        for (document, expected) in [
            // Filebeat, in the Elastic Common Schema.
            (
                json!({ "@timestamp": at, "message": "hi", "log": { "level": "WARN", "offset": 7 }, "service.name": "api",
                    "host": { "name": "a1" }, "tags": ["x", "y"], "deep": { "er": { "x": true, "none": null } } }),
                json!([us, "api", "a1", "warn", "hi", { "index": "logs-x", "log.offset": "7", "host.name": "a1",
                    "tags": "[\"x\",\"y\"]", "deep.er.x": "true" }]),
            ),
            // Fluent Bit.
            (
                json!({ "@timestamp": at, "log": "ERROR x", "stream": "stderr", "kubernetes": { "pod_name": "p", "container_name": "c" } }),
                json!([us, "c", "p", "error", "ERROR x", { "index": "logs-x", "kubernetes.container_name": "c",
                    "kubernetes.pod_name": "p" }]),
            ),
            // rsyslog's own template.
            (
                json!({ "message": " hi", "fromhost": "h", "facility": "user", "priority": "notice", "timereported": at,
                    "syslogtag": "cron[1]:" }),
                json!([us, "cron", "h", "info", " hi", { "index": "logs-x", "fromhost": "h", "facility": "user",
                    "syslogtag": "cron[1]:" }]),
            ),
            // Nothing that is known, and a time that is none.
            (
                json!({ "@timestamp": "soon", "a": 1.5 }),
                json!([1_790_000_000_000_000_i64, "", "", null, "{\"@timestamp\":\"soon\",\"a\":1.5}",
                    { "index": "logs-x", "@timestamp": "soon", "a": "1.5" }]),
            ),
        ] {
            assert_eq!(columns(&document), expected, "{document}");
        }
        assert!(draft(json!([1]), "").is_err());
        let many: serde_json::Map<String, Value> = (0..5000).map(|n| (format!("k{n}"), n.into())).collect();
        let attrs = columns(&many.into());
        assert!(attrs[5].as_object().unwrap().len() <= 70);
        assert!(attrs[5]["klar_left_out"].is_string());
    }

    #[test]
    fn times_in_all_ways() {
        for (text, us) in [
            ("1700000000", Some(1_700_000_000_000_000)),
            ("1700000000.5", Some(1_700_000_000_500_000)),
            ("1700000000123", Some(1_700_000_000_123_000)),
            ("2023-11-14T22:13:20+01:00", Some(1_699_996_400_000_000)),
            ("-1", None),
            ("NaN", None),
            ("", None),
        ] {
            assert_eq!(time(text), us, "{text}");
        }
    }

    #[test]
    fn addresses() {
        for (address, expected) in [
            ("/", Some("/")),
            ("/_bulk", Some("/_bulk")),
            ("/logs-1/_bulk", Some("/logs-1/_bulk")),
            ("/elasticsearch", Some("/")),
            ("/elasticsearch/x/_bulk", Some("/x/_bulk")),
            ("/elasticsearchs", None),
            ("/api/v1/query", None),
            ("/metrics", None),
        ] {
            assert_eq!(path(address), expected, "{address}");
        }
    }

    proptest! {
        #[test]
        fn any_line_is_an_action_or_none(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
            let _ = action(&bytes);
            if let Ok(value) = serde_json::from_slice::<Value>(&bytes) {
                let _ = draft(value, "x");
            }
        }

        #[test]
        fn any_document_is_bounded(names in proptest::collection::vec(".{0,300}", 0..100), value in ".{0,3000}") {
            let document: serde_json::Map<String, Value> =
                names.into_iter().map(|name| (name, json!({ "x": value, "y": [value] }))).collect();
            let draft = draft(document.into(), "x").unwrap();
            let bytes = draft.finish(None, 0, |line| {
                line.attrs.iter().map(|(name, value)| name.len() + value.len()).sum::<usize>() + line.body.len()
            });
            prop_assert!(bytes < 64 << 10);
        }
    }
}
