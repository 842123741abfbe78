//! `klar metrics`: what telemetry has counted.

use std::collections::BTreeMap;
use std::time::Duration;

use klar_api::Client;
use klar_base::AppKey;
use klar_run::report::Failure;
use serde::Serialize;
use serde_json::Value;

use crate::cli::{Logs, Metrics};
use crate::context::{Context, Trouble, wait};
use crate::out::table::{Cell, align, cell};
use crate::out::{BAD, FAIR, PLAIN, QUIET, STRONG, paint, spark, words};

/// Points of a curve.
const POINTS: usize = 40;
/// How often telemetry looks: a rate over less than four looks may find too few.
const LOOK_S: u64 = 15;

/// `klar metrics`.
pub fn metrics(context: &Context, wanted: &Metrics) -> Result<(), Trouble> {
    if wanted.address {
        return address(context);
    }
    let span = Span::new(wanted.since, words::now_unix_ms());
    let client = context.client();
    match &wanted.query {
        Some(query) => wait(answer(context, &client, query, &span))?,
        None => {
            let key = context.key()?;
            let found = wait(Overview::ask(&client, &key, &span))??;
            if context.printer.json {
                context.printer.value(&found);
            } else {
                context.printer.data(found.render(&key).trim_end_matches('\n'));
            }
            Ok(())
        }
    }
}

/// For programs that ask over TCP.
fn address(context: &Context) -> Result<(), Trouble> {
    let url = url(context)?;
    if context.printer.json {
        context.printer.value(&serde_json::json!({ "url": url }));
    } else {
        context.printer.data(url);
    }
    Ok(())
}

/// Where telemetry can be asked over TCP, with the key.
pub(super) fn url(context: &Context) -> Result<String, Trouble> {
    let status = wait(context.client().status())??;
    let Some(listens) = status.see.listens else {
        return Err(Failure::new("telemetry listens at its Unix socket only")
            .hint("`klar doctor` says what is wrong; `curl --unix-socket` works meanwhile")
            .into());
    };
    let path = context.layout.see_key();
    let key = std::fs::read_to_string(&path).map_err(|error| {
        Failure::new(format!("{}: {error}", path.display()))
            .hint("ask as the user who started klar, or as root")
    })?;
    Ok(format!("http://klar:{}@{listens}", key.trim()))
}

/// Between when, and how often.
#[derive(Debug)]
struct Span {
    from_s: u64,
    to_s: u64,
    step_s: u64,
}

impl Span {
    fn new(since: Duration, now_ms: u64) -> Self {
        let step_s = (since.as_secs() / POINTS as u64).max(LOOK_S);
        // Up to when telemetry looked last: what is counted until then is not estimated. Not to the last whole step: a step
        // of an hour is a minute and a half.
        let to_s = now_ms / 1000 / LOOK_S * LOOK_S;
        Self { from_s: to_s.saturating_sub(since.as_secs()), to_s, step_s }
    }

    fn length_s(&self) -> u64 {
        self.to_s - self.from_s
    }

    /// What a rate is taken over.
    fn window_s(&self) -> u64 {
        self.step_s.max(4 * LOOK_S)
    }

    /// A query for each step.
    async fn range(&self, client: &Client, query: &str) -> Result<Vec<Series>, Trouble> {
        let (from, to, step) = (self.from_s.to_string(), self.to_s.to_string(), self.step_s.to_string());
        let params = [("query", query), ("start", &from), ("end", &to), ("step", &step)];
        let said = client.metrics("query_range", &params).await?;
        let place = |time: f64| ((time - self.from_s as f64) / self.step_s as f64).round() as usize;
        let read = |one: &Value| {
            let mut values = vec![None; usize::try_from(self.length_s() / self.step_s).unwrap_or(0) + 1];
            for pair in one["values"].as_array()? {
                if let (Some(slot), Some(value)) =
                    (values.get_mut(place(pair[0].as_f64()?)), number(&pair[1]))
                {
                    *slot = Some(value);
                }
            }
            Some(Series { labels: labels(&one["metric"]), values })
        };
        Ok(said["result"].as_array().into_iter().flatten().filter_map(read).collect())
    }

    /// A query for the end; by one label.
    async fn at_end(&self, client: &Client, query: &str, by: &str) -> Result<BTreeMap<String, f64>, Trouble> {
        let said = client.metrics("query", &[("query", query), ("time", &self.to_s.to_string())]).await?;
        let read = |one: &Value| {
            Some((one["metric"][by].as_str().unwrap_or_default().to_owned(), number(&one["value"][1])?))
        };
        Ok(said["result"].as_array().into_iter().flatten().filter_map(read).collect())
    }
}

/// A number as telemetry writes it.
fn number(value: &Value) -> Option<f64> {
    // Rust reads `+Inf` and `NaN` as Go writes them.
    value.as_str()?.parse().ok()
}

fn labels(metric: &Value) -> BTreeMap<String, String> {
    let all = metric.as_object().into_iter().flatten();
    all.filter_map(|(name, value)| Some((name.clone(), value.as_str()?.to_owned()))).collect()
}

/// A curve.
#[derive(Debug)]
struct Series {
    labels: BTreeMap<String, String>,
    values: Vec<Option<f64>>,
}

impl Series {
    fn last(&self) -> Option<f64> {
        self.values.iter().rev().flatten().next().copied()
    }

    fn largest(&self) -> f64 {
        self.values.iter().flatten().copied().fold(f64::NEG_INFINITY, f64::max)
    }

    /// As a selector that finds it.
    fn name(&self) -> String {
        let metric = self.labels.get("__name__").map(String::as_str).unwrap_or_default();
        let others: Vec<String> = self
            .labels
            .iter()
            .filter(|(name, _)| *name != "__name__")
            .map(|(name, value)| format!("{name}={value:?}"))
            .collect();
        if others.is_empty() && !metric.is_empty() {
            return words::tame(metric);
        }
        words::tame(&format!("{metric}{{{}}}", others.join(", ")))
    }
}

async fn answer(context: &Context, client: &Client, query: &str, span: &Span) -> Result<(), Trouble> {
    if context.printer.json {
        let (from, to, step) = (span.from_s.to_string(), span.to_s.to_string(), span.step_s.to_string());
        let params = [("query", query), ("start", &from), ("end", &to), ("step", &step)];
        context.printer.value(&client.metrics("query_range", &params).await?);
        return Ok(());
    }
    let mut all = span.range(client, query).await?;
    if all.is_empty() {
        context.printer.story(format!("{} nothing was found in the last {}", paint(FAIR, "▲"), ago(span)));
        return Ok(());
    }
    // What is largest is looked for most.
    all.sort_by(|a, b| b.largest().total_cmp(&a.largest()));
    let row = |series: &Series| -> Vec<Cell> {
        let last = series.last().map(figure).unwrap_or_default();
        let largest = series.largest();
        vec![
            cell(STRONG, last),
            cell(QUIET, format!("at most {}", figure(largest))),
            spark::line(&series.values).into(),
            series.name().into(),
        ]
    };
    context.printer.data(align(&all.iter().map(row).collect::<Vec<_>>(), &[0, 1], "").trim_end_matches('\n'));
    Ok(())
}

fn ago(span: &Span) -> String {
    words::age(span.length_s() * 1000)
}

/// A number with three digits that count.
fn figure(value: f64) -> String {
    match value.abs() {
        _ if !value.is_finite() => value.to_string(),
        0.0 => "0".into(),
        size if size >= 1e15 => format!("{value:.2e}"),
        size if size >= 100.0 => {
            let sign = if value < 0.0 { "-" } else { "" };
            format!("{sign}{}", words::count(size.round() as u64))
        }
        size if size >= 10.0 => format!("{value:.1}"),
        size if size >= 0.01 => format!("{value:.2}"),
        _ => format!("{value:.2e}"),
    }
}

pub(super) fn milliseconds(seconds: f64) -> String {
    let ms = seconds * 1000.0;
    if ms >= 1000.0 { format!("{seconds:.1} s") } else { format!("{} ms", figure(ms)) }
}

/// How an app and its machine did.
#[derive(Debug, Serialize)]
struct Overview {
    /// Of how long, in seconds.
    seconds: u64,
    routes: Vec<Route>,
    /// Share of all processors, over time.
    cpu: Vec<Option<f64>>,
    /// Share of the memory that is in use.
    memory: Option<f64>,
    /// Share of the fullest disk that is in use.
    disk: Option<f64>,
}

#[derive(Debug, Serialize)]
struct Route {
    route: String,
    requests: f64,
    /// Share of requests that were answered with 500 or above.
    errors: f64,
    p50_s: Option<f64>,
    p95_s: Option<f64>,
    /// Requests a second, over time.
    rate: Vec<Option<f64>>,
}

impl Overview {
    async fn ask(client: &Client, key: &AppKey, span: &Span) -> Result<Self, Trouble> {
        let of = format!("app=\"{}\",env=\"{}\"", key.app, key.env);
        let (whole, window) = (span.length_s(), span.window_s());
        let count = |more: &str| {
            format!("sum by (route) (increase(http_requests_total{{{of}{more}}}[{whole}s])) > 0")
        };
        let quantile = |share: f64| {
            format!(
                "histogram_quantile({share}, sum by (route, le) (increase(http_request_duration_seconds_bucket{{{of}}}[{whole}s])))"
            )
        };
        let requests = span.at_end(client, &count(""), "route").await?;
        let errors = span.at_end(client, &count(",status=~\"5..\""), "route").await?;
        let p50 = span.at_end(client, &quantile(0.5), "route").await?;
        let p95 = span.at_end(client, &quantile(0.95), "route").await?;
        let rate = format!("sum by (route) (rate(http_requests_total{{{of}}}[{window}s]))");
        let mut rates: BTreeMap<String, Vec<Option<f64>>> = span
            .range(client, &rate)
            .await?
            .into_iter()
            .map(|series| (series.labels.get("route").cloned().unwrap_or_default(), series.values))
            .collect();
        let finite = |of: &BTreeMap<String, f64>, route: &str| {
            of.get(route).copied().filter(|seconds| seconds.is_finite())
        };
        let mut routes: Vec<Route> = requests
            .into_iter()
            .map(|(route, requests)| Route {
                requests,
                errors: errors.get(&route).map_or(0.0, |errors| errors / requests),
                p50_s: finite(&p50, &route),
                p95_s: finite(&p95, &route),
                rate: rates.remove(&route).unwrap_or_default(),
                route,
            })
            .collect();
        routes.sort_by(|a, b| b.requests.total_cmp(&a.requests));
        let busy = format!(
            "1 - sum(rate(node_cpu_seconds_total{{mode=~\"idle|iowait\"}}[{window}s])) / sum(rate(node_cpu_seconds_total[{window}s]))"
        );
        let cpu = span.range(client, &busy).await?.into_iter().next().map(|series| series.values);
        let one = async |query: &str| -> Result<Option<f64>, Trouble> {
            Ok(span.at_end(client, query, "").await?.into_values().next())
        };
        Ok(Self {
            seconds: whole,
            routes,
            cpu: cpu.unwrap_or_default(),
            memory: one("1 - node_memory_MemAvailable_bytes / node_memory_MemTotal_bytes").await?,
            disk: one("max(1 - node_filesystem_avail_bytes / node_filesystem_size_bytes)").await?,
        })
    }

    fn render(&self, key: &AppKey) -> String {
        let mut text = format!(
            "{} {}\n\n",
            paint(STRONG, key),
            paint(QUIET, format_args!("the last {}, as the edge saw it", words::age(self.seconds * 1000)))
        );
        if self.routes.is_empty() {
            text.push_str("  no requests\n");
        } else {
            let head = ["ROUTE", "REQUESTS", "ERRORS", "P50", "P95", "PER SECOND"];
            let mut rows = vec![head.map(|title| cell(QUIET, title)).to_vec()];
            for route in &self.routes {
                let style = match route.errors {
                    0.0 => PLAIN,
                    share if share < 0.01 => FAIR,
                    _ => BAD,
                };
                let time = |seconds: Option<f64>| seconds.map(milliseconds).unwrap_or_default();
                let now = route.rate.iter().rev().flatten().next().copied().unwrap_or_default();
                rows.push(vec![
                    words::tame(&route.route).into(),
                    words::count(route.requests.round() as u64).into(),
                    cell(style, if route.errors == 0.0 { String::new() } else { percent(route.errors) }),
                    time(route.p50_s).into(),
                    time(route.p95_s).into(),
                    format!("{} {}", spark::line(&route.rate), figure(now)).into(),
                ]);
            }
            text.push_str(&align(&rows, &[1, 2, 3, 4], "  "));
        }
        let share = |name: &str, share: Option<f64>| {
            share.map(|share| format!("{name} {}", percent(share))).unwrap_or_default()
        };
        let now = self.cpu.iter().rev().flatten().next().copied();
        let parts = [
            format!("{} {}", share("CPU", now), spark::line(&self.cpu)),
            share("memory", self.memory),
            share("disk", self.disk),
        ];
        let parts: Vec<&str> = parts.iter().map(|part| part.trim()).filter(|part| !part.is_empty()).collect();
        if !parts.is_empty() {
            text.push_str(&format!("\n  {} {}\n", paint(QUIET, "machine"), parts.join("   ")));
        }
        text
    }
}

fn percent(share: f64) -> String {
    let percent = share * 100.0;
    if percent >= 10.0 || percent == 0.0 { format!("{percent:.0} %") } else { format!("{percent:.1} %") }
}

/// `klar logs` with something to look for.
pub fn lines(context: &Context, key: &AppKey, wanted: &Logs) -> Result<(), Trouble> {
    let since = (words::now_unix_ms() / 1000).saturating_sub(wanted.since.as_secs()).to_string();
    let (app, env, limit) = (key.app.to_string(), key.env.to_string(), wanted.lines.to_string());
    let mut params = vec![("app", &*app), ("env", &*env), ("limit", &*limit), ("since", &*since)];
    let service = wanted.service.as_ref().map(ToString::to_string);
    let others = [
        ("service", service.as_deref()),
        ("instance", wanted.instance.as_deref()),
        ("contains", wanted.grep.as_deref()),
        ("level", wanted.level.as_deref()),
    ];
    params.extend(others.iter().filter_map(|(name, value)| Some((*name, (*value)?))));
    let found = wait(context.client().find("logs", &params))??;
    let rows = found["rows"].as_array().map(Vec::as_slice).unwrap_or_default();
    // The newest are asked for, and the newest stands last.
    for row in rows.iter().rev() {
        if context.printer.json {
            context.printer.value(row);
        } else {
            context.printer.data(line(row));
        }
    }
    if rows.is_empty() {
        context.printer.story(format!("{} no such lines", paint(FAIR, "▲")));
    }
    if found["partial"] == true {
        let what = "there may be more: the search took too long; ask for less time";
        context.printer.story(format!("{} {what}", paint(FAIR, "▲")));
    }
    Ok(())
}

/// A line of a log for people.
pub(super) fn line(row: &Value) -> String {
    let text = |name: &str| row[name].as_str().unwrap_or_default();
    let time = text("ts").get(..19).unwrap_or(text("ts")).replace('T', " ");
    let style = match text("level") {
        "error" | "fatal" => BAD,
        "warn" => FAIR,
        _ => QUIET,
    };
    let who = paint(style, format_args!("{:<10}", words::tame(text("instance"))));
    format!("{} {who} {}", paint(QUIET, time), words::tame(text("body")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_have_three_digits_that_count() {
        for (value, text) in [
            (0.0, "0"),
            (12_345.6, "12,346"),
            (-250.0, "-250"),
            (12.34, "12.3"),
            (0.1234, "0.12"),
            (0.000_123, "1.23e-4"),
            (f64::INFINITY, "inf"),
        ] {
            assert_eq!(figure(value), text);
        }
        assert_eq!((milliseconds(0.0123), milliseconds(2.5)), ("12.3 ms".into(), "2.5 s".into()));
        assert_eq!((percent(0.005), percent(0.5)), ("0.5 %".into(), "50 %".into()));
    }

    #[test]
    fn spans_end_when_telemetry_looked_last() {
        let span = Span::new(Duration::from_secs(3600), 1_750_000_012_345);
        assert_eq!((span.step_s, span.to_s, span.length_s(), span.window_s()), (90, 1_750_000_005, 3600, 90));
        let short = Span::new(Duration::from_secs(60), 1_750_000_012_345);
        assert_eq!((short.step_s, short.window_s()), (15, 60));
    }

    #[test]
    fn an_overview_is_read_at_a_glance() {
        anstream::ColorChoice::Never.write_global();
        let overview = Overview {
            seconds: 3600,
            routes: vec![
                Route {
                    route: "/orders/{id}".into(),
                    requests: 12_345.4,
                    errors: 0.004,
                    p50_s: Some(0.0042),
                    p95_s: Some(1.25),
                    rate: vec![None, Some(1.0), Some(4.0), Some(3.5)],
                },
                Route {
                    route: "/*".into(),
                    requests: 3.0,
                    errors: 0.0,
                    p50_s: None,
                    p95_s: None,
                    rate: vec![],
                },
            ],
            cpu: vec![Some(0.1), Some(0.34)],
            memory: Some(0.61),
            disk: Some(0.05),
        };
        let text = anstream::adapter::strip_str(&overview.render(&"shop.prod".parse().unwrap())).to_string();
        insta::assert_snapshot!(text);
    }
}
