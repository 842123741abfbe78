//! The API described for machines: OpenAPI 3.1, written from the table of routes.

use serde_json::{Map, Value, json};

use crate::query::LOG_PARAMETERS;
use crate::route::{Action, Media, ROUTES, Route};

/// The whole description.
pub fn document() -> Value {
    let mut paths = Map::new();
    for route in &ROUTES {
        let path = paths.entry(route.path).or_insert_with(|| json!({}));
        path[route.method.as_str().to_ascii_lowercase()] = operation(route);
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "klar control API",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "HTTP/1.1 over the Unix socket STATE/run/klar.sock. Who may ask is decided by the user id \
                            of the process at the other end. Fields are only ever added.",
        },
        "paths": paths,
        "components": { "schemas": schemas() },
    })
}

fn operation(route: &Route) -> Value {
    let schema = reference(route.gives);
    let status = if route.action == Action::Upload { "201" } else { "200" };
    let mut answer =
        json!({ "description": route.doc, "content": { route.media.name(): { "schema": schema } } });
    if route.media == Media::Lines {
        answer["description"] = json!(format!("{} One JSON object a line, each as it happens.", route.doc));
    }
    let failed = json!({
        "description": "Refused, and why.",
        "content": { Media::Json.name(): { "schema": reference("Failure") } },
    });
    let mut operation = json!({
        "operationId": format!("{:?}", route.action).to_ascii_lowercase(),
        "summary": route.doc,
        "responses": { status: answer, "default": failed },
    });
    let mut parameters = Vec::new();
    if route.path.contains("{app}") {
        parameters.push(json!({
            "name": "app", "in": "path", "required": true, "schema": { "type": "string" },
            "description": "App and environment, for instance `shop.prod`; without the latter it is `prod`.",
        }));
    }
    if route.action == Action::Logs {
        parameters.extend(LOG_PARAMETERS.iter().map(|(name, doc)| {
            json!({ "name": name, "in": "query", "schema": { "type": "string" }, "description": doc })
        }));
    }
    if !parameters.is_empty() {
        operation["parameters"] = json!(parameters);
    }
    if let Some(takes) = route.takes {
        let media = if takes == "Archive" { "application/x-tar" } else { Media::Json.name() };
        operation["requestBody"] = json!({ "content": { media: { "schema": reference(takes) } } });
    }
    operation
}

fn reference(name: &str) -> Value {
    json!({ "$ref": format!("#/components/schemas/{name}") })
}

/// The shapes. A trailing `?` marks what may be null or absent, `[x]` a list.
fn schemas() -> Value {
    let mut all = Map::new();
    for (name, fields) in OBJECTS {
        let required: Vec<&str> =
            fields.iter().filter(|(_, kind)| !kind.ends_with('?')).map(|(name, _)| *name).collect();
        let properties: Map<String, Value> =
            fields.iter().map(|(name, kind)| ((*name).into(), shape(kind))).collect();
        all.insert(
            (*name).into(),
            json!({ "type": "object", "properties": properties, "required": required }),
        );
    }
    for (name, words) in WORDS {
        all.insert((*name).into(), json!({ "type": "string", "enum": words }));
    }
    let variants: Vec<Value> = ["Begin", "End", "Output", "Note", "Failed", "Done"]
        .map(|name| reference(&format!("Event{name}")))
        .into();
    all.insert("Event".into(), json!({ "oneOf": variants, "discriminator": { "propertyName": "type" } }));
    let files =
        json!({ "type": "object", "properties": { "files": reference("RuleFiles") }, "required": ["files"] });
    let rules = json!({ "oneOf": [{ "type": "string", "enum": ["core", "crs"] }, files] });
    all.insert("TriedRules".into(), rules);
    all.insert("Findings".into(), json!({ "type": "array", "items": reference("Finding") }));
    all.insert("Archive".into(), json!({ "type": "string", "format": "binary" }));
    all.insert("Pem".into(), json!({ "type": "string" }));
    all.insert("Text".into(), json!({ "type": "string" }));
    all.insert("Document".into(), json!({ "type": "object" }));
    Value::Object(all)
}

fn shape(kind: &str) -> Value {
    if let Some(inner) = kind.strip_suffix('?') {
        return json!({ "anyOf": [shape(inner), { "type": "null" }] });
    }
    if let Some(inner) = kind.strip_prefix('[').and_then(|kind| kind.strip_suffix(']')) {
        return json!({ "type": "array", "items": shape(inner) });
    }
    match kind {
        "string" | "integer" | "boolean" => json!({ "type": kind }),
        "strings" => json!({ "type": "object", "additionalProperties": { "type": "string" } }),
        name => reference(name),
    }
}

type Fields = &'static [(&'static str, &'static str)];

const OBJECTS: &[(&str, Fields)] = &[
    (
        "HostStatus",
        &[
            ("version", "string"),
            ("core_pid", "integer"),
            ("spawner_pid", "integer?"),
            ("state_folder", "string"),
            ("uptime_ms", "integer"),
            ("edge", "EdgeStatus"),
            ("see", "SeeStatus"),
            ("apps", "[AppStatus]"),
            ("state_format", "integer"),
            ("upgrade", "Upgrade?"),
        ],
    ),
    (
        "Upgrade",
        &[
            ("number", "integer"),
            ("from", "string"),
            ("to", "string"),
            ("rollback", "boolean"),
            ("state", "UpgradeState"),
            ("why", "string?"),
            ("receipt", "Receipt?"),
        ],
    ),
    ("UpgradeRequest", &[("version", "string"), ("rollback", "boolean?")]),
    (
        "EdgeStatus",
        &[
            ("pid", "integer?"),
            ("listens", "[string]"),
            ("cannot_listen", "[string]"),
            ("connections", "integer"),
            ("turned_away", "integer"),
            ("records_dropped", "integer"),
            ("restarts", "integer"),
            ("sandbox", "[string]"),
            ("version", "string"),
            ("trouble", "string?"),
            ("draining", "[DrainingEdge]"),
        ],
    ),
    (
        "SeeStatus",
        &[
            ("pid", "integer?"),
            ("listens", "string?"),
            ("restarts", "integer"),
            ("frames_dropped", "integer"),
            ("series", "integer"),
            ("bytes", "integer"),
            ("sandbox", "[string]"),
            ("trouble", "string?"),
        ],
    ),
    (
        "DrainingEdge",
        &[("pid", "integer"), ("version", "string"), ("connections", "integer"), ("for_ms", "integer")],
    ),
    (
        "AppStatus",
        &[
            ("key", "string"),
            ("health", "Health"),
            ("url", "string"),
            ("hosts", "[string]"),
            ("release", "string?"),
            ("live_since_unix_ms", "integer?"),
            ("previous", "PreviousRelease?"),
            ("deploying", "string?"),
            ("services", "[ServiceStatus]"),
            ("stores", "[StoreStatus]"),
            ("kept", "[KeptStatus]"),
            ("certificates", "[CertificateStatus]"),
            ("problems", "[Problem]"),
            ("notes", "[string]"),
            ("totals", "Totals"),
            ("readiness", "Readiness?"),
        ],
    ),
    (
        "KeptStatus",
        &[
            ("store", "string"),
            ("daily", "boolean"),
            ("redis", "boolean"),
            ("dumps", "string?"),
            ("doing", "string"),
            ("points", "integer"),
            ("newest_unix_ms", "integer?"),
            ("proven_unix_ms", "integer?"),
            ("rto_ms", "integer?"),
            ("earliest_unix_ms", "integer?"),
            ("covered_unix_ms", "integer?"),
            ("bytes", "integer"),
            ("escrow", "boolean"),
            ("second", "SecondStatus?"),
            ("trouble", "string?"),
            ("hint", "string?"),
        ],
    ),
    (
        "SecondStatus",
        &[
            ("place", "string"),
            ("covered_unix_ms", "integer?"),
            ("proven_unix_ms", "integer?"),
            ("synchronous", "boolean?"),
            ("together", "string?"),
        ],
    ),
    (
        "CertificateStatus",
        &[
            ("host", "string"),
            ("source", "string"),
            ("issuer", "string?"),
            ("not_after_unix_ms", "integer?"),
            ("days_left", "integer?"),
            ("authority", "string?"),
            ("next_try_unix_ms", "integer?"),
            ("asking", "boolean"),
            ("failures", "integer"),
            ("last_error", "string?"),
            ("hint", "string?"),
            ("alarm", "string?"),
        ],
    ),
    (
        "Readiness",
        &[
            ("total", "integer"),
            ("ready", "boolean"),
            ("proven", "integer"),
            ("failing", "integer"),
            ("at_unix_ms", "integer"),
        ],
    ),
    ("PreviousRelease", &[("release", "string"), ("warm_until_unix_ms", "integer?")]),
    ("Problem", &[("what", "string"), ("hint", "string?"), ("output", "[string]")]),
    (
        "ServiceStatus",
        &[("name", "string"), ("kind", "string"), ("wanted", "integer"), ("instances", "[InstanceStatus]")],
    ),
    (
        "InstanceStatus",
        &[
            ("id", "string"),
            ("state", "InstanceState"),
            ("release", "string"),
            ("serving", "boolean"),
            ("pid", "integer?"),
            ("shim_pid", "integer?"),
            ("port", "integer?"),
            ("for_ms", "integer"),
            ("restarts", "integer"),
            ("memory_bytes", "integer?"),
            ("leases", "integer"),
            ("requests", "integer"),
        ],
    ),
    (
        "StoreStatus",
        &[
            ("name", "string"),
            ("kind", "string"),
            ("managed", "boolean"),
            ("state", "InstanceState?"),
            ("shim_pid", "integer?"),
            ("pid", "integer?"),
            ("port", "integer?"),
            ("identity", "string?"),
            ("restarts", "integer"),
        ],
    ),
    (
        "Totals",
        &[
            ("requests", "integer"),
            ("app_errors", "integer"),
            ("failed", "integer"),
            ("refused", "integer"),
            ("saved_by_retry", "integer"),
            ("aborted", "integer"),
        ],
    ),
    ("Finding", &[("topic", "string"), ("grade", "Grade"), ("what", "string"), ("hint", "string?")]),
    ("Failure", &[("what", "string"), ("hint", "string?"), ("output", "[string]"), ("now", "string?")]),
    (
        "Receipt",
        &[
            ("operation", "string"),
            ("key", "string"),
            ("from", "string?"),
            ("to", "string?"),
            ("started_unix_ms", "integer"),
            ("duration_ms", "integer"),
            ("switch_ms", "integer?"),
            ("requests", "integer"),
            ("failed_requests", "integer"),
            ("app_errors", "integer"),
            ("url", "string"),
            ("notes", "[string]"),
        ],
    ),
    ("LogLine", &[("time", "string"), ("instance", "string"), ("stream", "string"), ("text", "string")]),
    ("Uploaded", &[("upload", "string")]),
    (
        "EdgeCounts",
        &[
            ("pid", "integer"),
            ("uptime_us", "integer"),
            ("connections", "integer"),
            ("http2_connections", "integer"),
            ("http3_connections", "integer"),
            ("accepted", "integer"),
            ("handshakes", "integer"),
            ("handshakes_failed", "integer"),
            ("http1_requests", "integer"),
            ("http2_requests", "integer"),
            ("http3_requests", "integer"),
            ("cache_used", "integer"),
            ("cache_room", "integer"),
            ("routes", "[RouteCounts]"),
            ("instances", "[InstanceCounts]"),
        ],
    ),
    (
        "RouteCounts",
        &[
            ("app", "string"),
            ("pattern", "string"),
            ("service", "string?"),
            ("requests", "integer"),
            ("errors", "integer"),
            ("bytes_in", "integer"),
            ("bytes_out", "integer"),
            ("cache_asked", "integer"),
            ("cache_hits", "integer"),
            ("times", "[[integer]]"),
        ],
    ),
    (
        "InstanceCounts",
        &[
            ("id", "string"),
            ("release", "string"),
            ("weight", "integer"),
            ("wellness", "Wellness"),
            ("in_flight", "integer"),
            ("requests", "integer"),
            ("failures", "integer"),
        ],
    ),
    (
        "WantedRequest",
        &[
            ("url", "string"),
            ("app", "string?"),
            ("method", "string?"),
            ("headers", "[[string]]?"),
            ("from", "string?"),
            ("certificate", "string?"),
        ],
    ),
    (
        "ExplainedRequest",
        &[
            ("method", "string"),
            ("url", "string"),
            ("app", "string?"),
            ("route", "string?"),
            ("service", "string?"),
            ("files", "string?"),
            ("outcome", "RequestOutcome"),
            ("instances", "[InstanceCounts]"),
            ("next", "string?"),
            ("policies", "[RequestPolicy]"),
            ("cache", "RequestCache?"),
            ("away", "RequestAway?"),
            ("adds", "[[string]]"),
            ("sites", "[ServedSite]"),
        ],
    ),
    (
        "RequestOutcome",
        &[("decided_by", "DecidedBy"), ("status", "integer?"), ("what", "string"), ("location", "string?")],
    ),
    ("RequestPolicy", &[("name", "string"), ("value", "string"), ("here", "string?"), ("key", "string?")]),
    (
        "RequestCache",
        &[
            ("bypass", "string?"),
            ("key", "[[string]]"),
            ("now", "string"),
            ("what", "string"),
            ("outcome", "CacheOutcome"),
            ("stored", "StoredAnswer?"),
            ("others", "integer"),
            ("in_flight", "boolean"),
            ("last_refusal", "CacheRefusal?"),
            ("would_keep", "[WouldKeep]"),
        ],
    ),
    (
        "StoredAnswer",
        &[
            ("status", "integer"),
            ("age_s", "integer"),
            ("left_s", "integer"),
            ("bytes", "integer"),
            ("vary", "[string]"),
            ("tags", "[string]"),
            ("can_validate", "boolean"),
            ("stands_in_s", "integer?"),
            ("stands_in_not", "string?"),
        ],
    ),
    ("CacheRefusal", &[("word", "string"), ("why", "string")]),
    ("WouldKeep", &[("answer", "string"), ("fresh_s", "integer?"), ("refusal", "CacheRefusal?")]),
    ("RequestAway", &[("status", "integer"), ("what", "string"), ("stale", "boolean")]),
    ("ServedSite", &[("app", "string"), ("hosts", "[string]"), ("routes", "[[string]]")]),
    ("Purge", &[("by", "PurgeBy"), ("value", "string?")]),
    ("Purged", &[("dropped", "integer")]),
    ("ReplayRequest", &[("request_id", "string"), ("exceptions", "[FirewallException]")]),
    ("FirewallException", &[("route", "string"), ("parameter", "string?"), ("allow", "[integer]")]),
    ("ReplayedRequest", &[("sent", "SentRequest"), ("replayed", "Replayed")]),
    (
        "SentRequest",
        &[
            ("method", "string"),
            ("target", "string"),
            ("protocol", "string"),
            ("remote", "string"),
            ("headers", "[[string]]"),
            ("body", "string"),
            ("is_cut", "boolean"),
            ("is_masked", "boolean"),
        ],
    ),
    ("Replayed", &[("now", "JudgedRequest"), ("then", "JudgedRequest"), ("attacks", "[TriedAttacks]")]),
    (
        "JudgedRequest",
        &[("verdict", "FirewallVerdict?"), ("score", "integer?"), ("matches", "[FirewallMatch]")],
    ),
    (
        "FirewallMatch",
        &[
            ("rule", "integer"),
            ("file", "string"),
            ("line", "integer"),
            ("message", "string"),
            ("place", "string"),
            ("question", "string"),
            ("value", "string"),
            ("steps", "[DecodingStep]"),
            ("data", "string"),
        ],
    ),
    (
        "TryRequest",
        &[
            ("rules", "TriedRules"),
            ("paranoia", "integer"),
            ("exceptions", "[FirewallException]"),
            ("attacked", "[[string]]"),
        ],
    ),
    ("RuleFiles", &[("rules", "[[string]]"), ("data", "[[string]]")]),
    (
        "Tried",
        &[
            ("judged", "integer"),
            ("times", "[integer]?"),
            ("stopped", "[TriedRequest]"),
            ("attacks", "[TriedAttacks]"),
            ("refused", "RefusedRules?"),
        ],
    ),
    (
        "TriedRequest",
        &[
            ("request_id", "string"),
            ("method", "string"),
            ("path", "string"),
            ("remote", "string"),
            ("status", "integer"),
            ("matches", "[FirewallFound]"),
        ],
    ),
    ("FirewallFound", &[("rule", "integer"), ("message", "string"), ("place", "string")]),
    ("RefusedRules", &[("count", "integer"), ("first", "string")]),
    ("DecodingStep", &[("name", "string"), ("value", "string")]),
    (
        "TriedAttacks",
        &[
            ("parameter", "string"),
            ("tried", "integer"),
            ("stopped_now", "integer"),
            ("stopped_then", "integer"),
            ("freed", "[string]"),
        ],
    ),
    (
        "DeployRequest",
        &[
            ("upload", "string"),
            ("first", "boolean"),
            ("secrets", "strings"),
            ("certificate", "GivenCertificate?"),
        ],
    ),
    ("GivenCertificate", &[("chain_pem", "string"), ("key_pem", "string"), ("files", "GivenFiles?")]),
    ("GivenFiles", &[("chain", "string"), ("key", "string")]),
    ("Restart", &[("service", "string?")]),
    ("Scale", &[("service", "string"), ("instances", "integer")]),
    ("TakeOver", &[("store", "string"), ("copy", "string")]),
    ("Down", &[("purge", "boolean?")]),
    ("EventBegin", &[("type", "string"), ("step", "string"), ("detail", "string")]),
    ("EventEnd", &[("type", "string"), ("step", "string"), ("detail", "string"), ("duration_ms", "integer")]),
    ("EventOutput", &[("type", "string"), ("line", "string")]),
    ("EventNote", &[("type", "string"), ("text", "string")]),
    (
        "EventFailed",
        &[
            ("type", "string"),
            ("what", "string"),
            ("hint", "string?"),
            ("output", "[string]"),
            ("now", "string?"),
        ],
    ),
    (
        "EventDone",
        &[
            ("type", "string"),
            ("operation", "string"),
            ("key", "string"),
            ("from", "string?"),
            ("to", "string?"),
            ("started_unix_ms", "integer"),
            ("duration_ms", "integer"),
            ("switch_ms", "integer?"),
            ("requests", "integer"),
            ("failed_requests", "integer"),
            ("app_errors", "integer"),
            ("url", "string"),
            ("notes", "[string]"),
        ],
    ),
];

const WORDS: &[(&str, &[&str])] = &[
    ("Health", &["up", "starting", "degraded", "down", "stopped"]),
    ("InstanceState", &["starting", "ready", "stopping", "waiting"]),
    ("Grade", &["good", "fair", "bad"]),
    ("UpgradeState", &["pending", "done", "failed"]),
    ("Wellness", &["well", "unwell", "gone"]),
    ("DecidedBy", &["app", "edge", "refused", "failed"]),
    ("CacheOutcome", &["hit", "miss", "stale", "revalidated", "bypass"]),
    ("FirewallVerdict", &["blocked", "detected", "noted"]),
    ("PurgeBy", &["all", "url", "prefix", "tag"]),
];
