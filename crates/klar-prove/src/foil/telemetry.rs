//! What telemetry says of the foil: what it was asked, unless a fault makes it say otherwise.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use http::Method;
use serde_json::{Value, json};

use super::app::{Answer, App, with};
use crate::world::Measured;

/// A foil that is left running does not fill the memory.
const ROWS: usize = 10_000;
const BOUNDS: [(&str, u64); 4] = [("0.005", 5_000), ("0.1", 100_000), ("1", 1_000_000), ("+Inf", u64::MAX)];

/// What was kept and counted.
#[derive(Default)]
pub(super) struct Telemetry {
    rows: RefCell<Vec<Value>>,
    /// Spans that were sent, with their traces.
    sent: RefCell<Vec<(String, String)>>,
    /// The app's own numbers: names, bounds of buckets, and values.
    own: RefCell<Vec<(String, Option<String>, f64)>>,
    /// Of each path: how many by status, and how many in each bucket.
    routes: RefCell<BTreeMap<String, Route>>,
}

#[derive(Default)]
struct Route {
    statuses: BTreeMap<u16, u64>,
    buckets: [u64; BOUNDS.len()],
}

fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

impl Telemetry {
    /// Takes a request down, and gives its answer a name.
    pub(super) fn note(
        &self,
        app: &App,
        method: &Method,
        path: &str,
        answer: Answer,
        took: Duration,
    ) -> Answer {
        let mut rows = self.rows.borrow_mut();
        let number = rows.len();
        // What crashes has no name to show.
        let nameless =
            answer.status().is_server_error() || app.has("no-error-id") || app.has("no-correlation-id");
        let answer = if nameless || answer.headers().contains_key("x-request-id") {
            answer
        } else {
            with(answer, "x-request-id", &format!("{number:032x}"))
        };
        let id = answer.headers().get("x-request-id").and_then(|id| id.to_str().ok()).unwrap_or_default();
        let took_us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let mut row = json!({
            "ts": jiff::Timestamp::now().to_string(), "id": id, "route": path, "path": path, "host": "localhost",
            "method": method.as_str(), "status": answer.status().as_u16(), "duration_us": took_us,
            "client": "127.0.0.1",
        });
        if let (true, Some(fields)) = (app.has("nameless-records"), row.as_object_mut()) {
            fields.remove("client");
        }
        if number < ROWS {
            rows.push(row);
        }
        let mut routes = self.routes.borrow_mut();
        let route = routes.entry(path.to_owned()).or_default();
        let status = if app.has("hides-errors") { 200 } else { answer.status().as_u16() };
        let counted = if app.has("miscounts-requests") && number.is_multiple_of(9) { 2 } else { 1 };
        *route.statuses.entry(status).or_default() += counted;
        let took_us = if app.has("wrong-durations") { took_us + 900_000 } else { took_us };
        for (count, (_, bound)) in route.buckets.iter_mut().zip(BOUNDS) {
            *count += u64::from(took_us <= bound);
        }
        drop((rows, routes));
        answer
    }

    pub(super) fn kept(&self, app: &App, narrowed: &[(&str, &str)]) -> Vec<Value> {
        let wanted = |name| narrowed.iter().find(|(known, _)| *known == name).map(|(_, value)| *value);
        let (since, word) = (wanted("since").and_then(|since| since.parse::<f64>().ok()), wanted("contains"));
        let is_kept = |(number, row): &(usize, &Value)| {
            let at = row["ts"].as_str().and_then(|at| at.parse::<jiff::Timestamp>().ok());
            let is_later =
                since.is_none_or(|since| at.is_some_and(|at| at.as_millisecond() as f64 >= since * 1000.0));
            let has_word =
                word.is_none_or(|word| row["path"].as_str().is_some_and(|path| path.contains(word)));
            is_later && has_word && !(app.has("forgets-requests") && number.is_multiple_of(9))
        };
        self.rows.borrow().iter().enumerate().rev().filter(is_kept).map(|(_, row)| row.clone()).collect()
    }

    /// Takes in spans or metrics in OTLP's JSON.
    pub(super) fn take(&self, app: &App, body: &Value) -> u16 {
        let metrics = body["resourceMetrics"][0]["scopeMetrics"][0]["metrics"].as_array();
        metrics.into_iter().flatten().for_each(|metric| self.take_metric(app, metric));
        let spans = body["resourceSpans"][0]["scopeSpans"][0]["spans"].as_array().into_iter().flatten();
        let id = |span: &Value, name: &str| span[name].as_str().unwrap_or_default().to_owned();
        self.sent.borrow_mut().extend(spans.map(|span| (id(span, "traceId"), id(span, "spanId"))));
        200
    }

    fn take_metric(&self, app: &App, metric: &Value) {
        let name = metric["name"].as_str().unwrap_or_default();
        let mut own = self.own.borrow_mut();
        let mut set = |name: String, bound: Option<String>, value: f64, keeps: bool| match own
            .iter_mut()
            .find(|(known, at, _)| *known == name && *at == bound)
        {
            Some(_) if keeps => {}
            Some((.., old)) => *old = value,
            None => own.push((name, bound, value)),
        };
        let point = |kind: &str| metric[kind]["dataPoints"][0].clone();
        let value = |kind: &str| point(kind)["asDouble"].as_f64();
        if let Some(value) = value("sum") {
            let times = if app.has("counts-own-twice") { 2.0 } else { 1.0 };
            set(format!("{name}_total"), None, value * times, false);
        }
        if let Some(value) = value("gauge") {
            set(name.to_owned(), None, value, app.has("old-gauges"));
        }
        let histogram = point("histogram");
        let counts = histogram["bucketCounts"].as_array().into_iter().flatten();
        let counts = counts.filter_map(|count| count.as_str()?.parse::<f64>().ok());
        let mut up_to = 0.0;
        for (number, count) in counts.enumerate() {
            up_to += count;
            let bound = histogram["explicitBounds"][number].as_f64();
            let bound = bound.map_or_else(|| "+Inf".to_owned(), |bound| bound.to_string());
            set(format!("{name}_bucket"), Some(bound), up_to, false);
        }
        if let Some(sum) = histogram["sum"].as_f64() {
            set(format!("{name}_sum"), None, sum, false);
            set(format!("{name}_count"), None, up_to, false);
        }
    }

    /// Takes in lines of StatsD.
    pub(super) fn count(&self, app: &App, lines: &str) {
        let mut own = self.own.borrow_mut();
        for (name, value, kind) in lines.lines().filter_map(|line| {
            let (name, rest) = line.split_once(':')?;
            let (value, kind) = rest.split_once('|')?;
            Some((name, value.parse::<f64>().ok()?, kind))
        }) {
            let adds = kind == "c" && !app.has("mishears-statsd");
            match own.iter_mut().find(|(known, ..)| known == name) {
                Some((.., old)) if adds => *old += value,
                Some((.., old)) => *old = value,
                None => own.push((name.to_owned(), None, value)),
            }
        }
    }

    /// A request, the app's span under the edge's, and that of a statement under the app's; or what was sent.
    pub(super) fn trace(&self, app: &App, id: &str) -> Value {
        let rows = self.rows.borrow();
        let requests: Vec<&Value> = rows.iter().filter(|row| row["id"] == id).collect();
        let sent = self.sent.borrow();
        let mut spans: Vec<Value> = sent
            .iter()
            .filter(|(trace, _)| trace == id)
            .map(|(_, span)| json!({ "span_id": span, "parent_span_id": "" }))
            .collect();
        if !requests.is_empty() {
            let edge =
                if app.has("orphan-spans") { "ffffffffffffffff" } else { id.get(16..).unwrap_or_default() };
            spans.push(json!({ "span_id": "1111111111111111", "parent_span_id": edge }));
            if !app.has("untraced-database") {
                spans.push(json!({
                    "span_id": "2222222222222222", "parent_span_id": "1111111111111111", "statement": "SELECT 1",
                }));
            }
        }
        json!({ "requests": requests, "spans": spans, "lines": [] })
    }

    pub(super) fn dashboard(&self, app: &App, name: &str, form: &str) -> (u16, String) {
        let names = ["health", "performance", "business", "cost", "security"];
        if name.is_empty() {
            return (200, json!(names.map(|name| json!({ "name": name }))).to_string());
        }
        if form == "html" {
            let is_broken = name == "cost" && app.has("broken-dashboard");
            return (if is_broken { 500 } else { 200 }, "<svg></svg>".to_owned());
        }
        let routes = self.routes.borrow();
        let with_status = |wanted: Option<u16>, unless: &str| -> u64 {
            let all = routes.values().flat_map(|route| &route.statuses);
            let of = all.filter(|(status, _)| wanted.is_none_or(|wanted| **status == wanted));
            if app.has(unless) { 0 } else { of.map(|(_, count)| count).sum() }
        };
        let panel = |title: &str, value: u64| json!({ "title": title, "series": [{ "name": "x", "values": [value] }], "is_empty": false });
        let mut panels = match name {
            "health" => {
                let restarts = if app.has("unseen-kill") { 0 } else { app.state.number.get().unsigned_abs() };
                vec![
                    panel("Instances that are ready", 2),
                    panel("Up", 1),
                    panel("Answers without an error", 1),
                    panel("Started again", restarts.into()),
                    json!({ "title": "What is active", "series": [], "is_empty": false }),
                ]
            }
            "performance" => vec![
                panel("Requests", with_status(None, "stale-dashboard")),
                panel("Requests per second", 1),
                panel("p50 by route", 1),
                panel("p95 by route", 1),
                panel("p99 by route", 1),
                panel("Errors", 0),
            ],
            "security" => vec![
                panel("Stopped by the firewall", with_status(Some(403), "unseen-attacks")),
                panel("Sign-ins that failed", with_status(Some(401), "unseen-guesses")),
                panel("Stopped by rate limits", with_status(Some(429), "unseen-limits")),
            ],
            _ => vec![panel("Use", 1)],
        };
        if name == "cost" && app.has("empty-panel") {
            panels.push(json!({ "title": "Nothing", "series": [], "is_empty": true }));
        }
        let lacks = |title: &str| {
            title == "p95 by route" && app.has("no-quantiles")
                || title == "Answers without an error" && app.has("no-objectives")
        };
        panels.retain(|panel| !panel["title"].as_str().is_some_and(lacks));
        (200, json!({ "panels": panels }).to_string())
    }

    pub(super) fn measured(&self, app: &App, metric: &str) -> Vec<Measured> {
        let series = |labels: &[(&str, &str)], value: f64| Measured {
            labels: labels.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
            value,
            at_unix_ms: now_ms() + 1,
        };
        let routes = self.routes.borrow();
        match metric {
            "http_requests_total" => {
                let each = |(path, route): (&String, &Route)| -> Vec<Measured> {
                    let statuses = route.statuses.iter();
                    statuses
                        .map(|(status, count)| {
                            series(&[("route", path), ("status", &status.to_string())], *count as f64)
                        })
                        .collect()
                };
                routes.iter().flat_map(each).collect()
            }
            "http_request_duration_seconds_bucket" => {
                let each = |(path, route): (&String, &Route)| -> Vec<Measured> {
                    let buckets = BOUNDS.iter().zip(route.buckets);
                    buckets
                        .map(|((bound, _), count)| series(&[("route", path), ("le", bound)], count as f64))
                        .collect()
                };
                let left = if app.has("no-durations") { 1 } else { usize::MAX };
                routes.iter().take(left).flat_map(each).collect()
            }
            "klar_instance_memory_bytes" | "klar_instance_cpu_seconds_total" => {
                ["foil", "db", "cache"].map(|service| series(&[("service", service)], 1e6)).into()
            }
            "klar_service_restarts_total" => {
                let restarts = if app.has("uncounted-restarts") { 0 } else { app.state.number.get() };
                vec![series(&[("service", "foil")], f64::from(restarts))]
            }
            "klar_instance_start_time_seconds" if app.has("unknown-uptime") => Vec::new(),
            name if name.starts_with("pg_") && app.has("deaf-to-stores") => Vec::new(),
            "pg_stat_database_active_time_seconds_total" if app.has("blind-to-latency") => Vec::new(),
            name if name.starts_with("node_") && app.has("blind-telemetry") => Vec::new(),
            name if name.starts_with("klar_check_") => {
                let own = self.own.borrow();
                let is_lost = |bound: &Option<String>| bound.is_some() && app.has("no-histograms");
                let of = own.iter().filter(|(known, bound, _)| known == name && !is_lost(bound));
                of.map(|(_, bound, value)| match bound {
                    Some(bound) => series(&[("le", bound)], *value),
                    None => series(&[], *value),
                })
                .collect()
            }
            _ => vec![series(&[], 1.0)],
        }
    }

    /// What telemetry says of the activity of the foil's database, which is asked for it.
    pub(super) async fn activity(app: &App, metric: &str) -> Option<Vec<Measured>> {
        let value = match metric {
            "pg_stat_activity_count" if app.has("counts-no-connections") => "0",
            "pg_stat_activity_count" => "count(pid)",
            "pg_stat_activity_max_tx_duration" if app.has("sees-no-slow-statements") => "0",
            "pg_stat_activity_max_tx_duration" => "coalesce(max(extract(epoch from now() - xact_start)), 0)",
            _ => return None,
        };
        let sql = format!(
            "with others as (select * from pg_stat_activity \
               where datname = current_database() and pid <> pg_backend_pid()) \
             select state, ({value})::float8 \
             from unnest(array['active', 'idle', 'idle in transaction']) as states (state) \
             left join others using (state) group by state"
        );
        let rows = app.state.database.get()?.query(&sql, &[]).await.ok()?;
        let at_unix_ms = now_ms();
        let series = rows.iter().map(|row| Measured {
            labels: [("state".to_owned(), row.get(0))].into(),
            value: row.get(1),
            at_unix_ms,
        });
        Some(series.collect())
    }
}
