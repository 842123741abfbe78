//! The HTTP API of Prometheus: <https://prometheus.io/docs/prometheus/latest/querying/api/>.
//!
//! Answers are written by hand: a query of a dashboard has hundreds of thousands of points.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use http::StatusCode;
use klar_promql::{Answer as Found, EvalError, Options, instant, parse, range};
use klar_tsdb::{Labels, Matcher, Sample};

use super::params::{Params, duration, time};
use super::{Answer, typed};
use crate::sheet::number;
use crate::{Shared, now_ms};

/// How long a query may take.
const TIMEOUT: Duration = Duration::from_secs(30);
/// Samples that a query may have in memory, 16 bytes each: two such queries fit into the memory that telemetry has.
const SAMPLES_MAX: usize = 12_000_000;

/// Why there is no answer: what Prometheus calls the kind of error, and what is wrong.
#[derive(Debug)]
struct Refusal {
    status: StatusCode,
    kind: &'static str,
    what: String,
}

fn bad(what: impl Into<String>) -> Refusal {
    Refusal { status: StatusCode::BAD_REQUEST, kind: "bad_data", what: what.into() }
}

impl From<EvalError> for Refusal {
    fn from(error: EvalError) -> Self {
        let (status, kind) = match &error {
            EvalError::Source(_) => (StatusCode::INTERNAL_SERVER_ERROR, "internal"),
            EvalError::Stopped => (StatusCode::SERVICE_UNAVAILABLE, "timeout"),
            _ => (StatusCode::UNPROCESSABLE_ENTITY, "execution"),
        };
        Self { status, kind, what: with_source(&error) }
    }
}

impl From<klar_tsdb::Error> for Refusal {
    fn from(error: klar_tsdb::Error) -> Self {
        let (status, kind) = match &error {
            klar_tsdb::Error::TooManySeries(_) | klar_tsdb::Error::TooManySamples(_) => {
                (StatusCode::UNPROCESSABLE_ENTITY, "execution")
            }
            _ => (StatusCode::INTERNAL_SERVER_ERROR, "internal"),
        };
        Self { status, kind, what: with_source(&error) }
    }
}

fn with_source(error: &dyn std::error::Error) -> String {
    let mut what = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        what = format!("{what}: {inner}");
        source = inner.source();
    }
    what
}

/// Answers, whatever is asked. `gone` says when nobody waits for it any more.
pub(super) fn answer(shared: &Shared, path: &str, params: &Params, gone: &AtomicBool) -> Answer {
    let found = match path.strip_prefix("/api/v1/") {
        Some("query") => query(shared, params, gone),
        Some("query_range") => query_range(shared, params, gone),
        Some("format_query") => format_query(params),
        Some("series") => series(shared, params),
        Some("labels") => label_names(shared, params),
        Some("metadata") => Ok(metadata(shared, params)),
        Some("status/buildinfo") => Ok(build_info()),
        Some("status/tsdb") => Ok(statistics(shared)),
        // There are none, and Grafana asks.
        Some("rules") => Ok(with(br#"{"groups":[]}"#)),
        Some("alerts") => Ok(with(br#"{"alerts":[]}"#)),
        Some("query_exemplars") => Ok(with(b"[]")),
        Some(rest) => match rest.strip_prefix("label/").and_then(|rest| rest.strip_suffix("/values")) {
            Some(name) => label_values(shared, name, params),
            None => Err(not_found(path)),
        },
        None => Err(not_found(path)),
    };
    match found {
        Ok(mut body) => {
            body.push(b'}');
            typed(StatusCode::OK, "application/json", body)
        }
        Err(refusal) => {
            let body = serde_json::json!({
                "status": "error", "errorType": refusal.kind, "error": refusal.what,
            });
            typed(refusal.status, "application/json", body.to_string())
        }
    }
}

/// An answer that its data is to follow: written at once, since it may be long.
fn begun(room: usize) -> Vec<u8> {
    const HEAD: &[u8] = br#"{"status":"success","data":"#;
    let mut out = Vec::with_capacity(HEAD.len() + room + 1);
    out.extend_from_slice(HEAD);
    out
}

fn with(data: &[u8]) -> Vec<u8> {
    let mut out = begun(data.len());
    out.extend_from_slice(data);
    out
}

fn not_found(path: &str) -> Refusal {
    Refusal { status: StatusCode::NOT_FOUND, kind: "not_found", what: format!("`{path}` is nothing here") }
}

/// What a query may do, with the deadline that was asked for.
fn within<T>(
    params: &Params,
    gone: &AtomicBool,
    run: impl FnOnce(&Options<'_>) -> Result<T, EvalError>,
) -> Result<T, Refusal> {
    let asked = params.get("timeout").map(duration).transpose().map_err(bad)?;
    let asked = asked.map_or(TIMEOUT, |ms| Duration::from_millis(ms.max(0).unsigned_abs()));
    let lookback = params.get("lookback_delta").map(duration).transpose().map_err(bad)?;
    let deadline = Instant::now() + asked.min(TIMEOUT);
    let stop = || gone.load(Ordering::Relaxed) || Instant::now() >= deadline;
    let usual = Options::default();
    let options = Options {
        samples_max: SAMPLES_MAX,
        stop: &stop,
        lookback_ms: lookback.filter(|ms| *ms > 0).unwrap_or(usual.lookback_ms),
        ..usual
    };
    Ok(run(&options)?)
}

fn expression(params: &Params) -> Result<klar_promql::Expr, Refusal> {
    let query = params.get("query").ok_or_else(|| bad("the parameter `query` is missing"))?;
    parse(query).map_err(|error| bad(format!("invalid parameter \"query\": {error}")))
}

fn query(shared: &Shared, params: &Params, gone: &AtomicBool) -> Result<Vec<u8>, Refusal> {
    let time_ms = params.get("time").map(time).transpose().map_err(bad)?.unwrap_or_else(now_ms);
    let expr = expression(params)?;
    let found = within(params, gone, |options| instant(&*shared.store, &expr, time_ms, options))?;
    Ok(written(&found, time_ms, limit(params)?))
}

fn query_range(shared: &Shared, params: &Params, gone: &AtomicBool) -> Result<Vec<u8>, Refusal> {
    let needed =
        |name: &str| params.get(name).ok_or_else(|| bad(format!("the parameter `{name}` is missing")));
    let (from, to) = (time(needed("start")?).map_err(bad)?, time(needed("end")?).map_err(bad)?);
    let step = duration(needed("step")?).map_err(bad)?;
    if to < from {
        return Err(bad("`end` is before `start`"));
    }
    if step <= 0 {
        return Err(bad("`step` has to be more than 0"));
    }
    let expr = expression(params)?;
    let found = within(params, gone, |options| range(&*shared.store, &expr, from, to, step, options))?;
    Ok(written(&found, to, limit(params)?))
}

fn limit(params: &Params) -> Result<usize, Refusal> {
    match params.get("limit") {
        None | Some("0") => Ok(usize::MAX),
        Some(text) => text.parse().map_err(|_| bad(format!("`limit` has to be a number, not `{text}`"))),
    }
}

fn written(found: &Found, time_ms: i64, limit: usize) -> Vec<u8> {
    // What a point takes, and what a series takes beside its points.
    const POINT: usize = 36;
    const SERIES: usize = 256;
    let mut out = begun(match found {
        Found::Scalar(_) | Found::Text(_) => SERIES,
        Found::Vector(series) => series.len() * (SERIES + POINT),
        Found::Matrix(series) => series.iter().map(|one| SERIES + one.samples.len() * POINT).sum(),
    });
    match found {
        Found::Scalar(value) => {
            out.extend_from_slice(br#"{"resultType":"scalar","result":"#);
            point(&mut out, Sample { time_ms, value: *value });
        }
        Found::Text(text) => {
            out.extend_from_slice(br#"{"resultType":"string","result":["#);
            moment(&mut out, time_ms);
            out.push(b',');
            string(&mut out, text);
            out.push(b']');
        }
        Found::Vector(series) => {
            out.extend_from_slice(br#"{"resultType":"vector","result":["#);
            separated(&mut out, series.iter().take(limit), |out, (labels, value)| {
                out.extend_from_slice(br#"{"metric":"#);
                metric(out, labels);
                out.extend_from_slice(br#","value":"#);
                point(out, Sample { time_ms, value: *value });
                out.push(b'}');
            });
            out.push(b']');
        }
        Found::Matrix(series) => {
            out.extend_from_slice(br#"{"resultType":"matrix","result":["#);
            separated(&mut out, series.iter().take(limit), |out, one| {
                out.extend_from_slice(br#"{"metric":"#);
                metric(out, &one.labels);
                out.extend_from_slice(br#","values":["#);
                separated(out, one.samples.iter(), |out, sample| point(out, *sample));
                out.extend_from_slice(b"]}");
            });
            out.push(b']');
        }
    }
    out.push(b'}');
    out
}

fn separated<T>(out: &mut Vec<u8>, all: impl Iterator<Item = T>, mut write: impl FnMut(&mut Vec<u8>, T)) {
    for (place, one) in all.enumerate() {
        if place > 0 {
            out.push(b',');
        }
        write(out, one);
    }
}

fn metric(out: &mut Vec<u8>, labels: &Labels) {
    out.push(b'{');
    separated(out, labels.iter(), |out, (name, value)| {
        string(out, name);
        out.push(b':');
        string(out, value);
    });
    out.push(b'}');
}

fn string(out: &mut Vec<u8>, text: &str) {
    // Writing to memory does not fail.
    let _ = serde_json::to_writer(out, text);
}

fn point(out: &mut Vec<u8>, sample: Sample) {
    out.push(b'[');
    moment(out, sample.time_ms);
    out.extend_from_slice(b",\"");
    let value = sample.value;
    let whole = value as i64;
    // Most are whole numbers, and those are written fastest. Minus nothing is another number.
    if whole as f64 == value && whole.unsigned_abs() < 1 << 53 && (whole != 0 || value.is_sign_positive()) {
        out.extend_from_slice(itoa::Buffer::new().format(whole).as_bytes());
    } else if (1e-4..1e15).contains(&value.abs()) {
        // Without an exponent.
        out.extend_from_slice(zmij::Buffer::new().format_finite(value).as_bytes());
    } else {
        out.extend_from_slice(number(value).as_bytes());
    }
    out.extend_from_slice(b"\"]");
}

/// Seconds, with as many digits as there are milliseconds.
fn moment(out: &mut Vec<u8>, time_ms: i64) {
    if time_ms < 0 {
        out.push(b'-');
    }
    let time_ms = time_ms.unsigned_abs();
    out.extend_from_slice(itoa::Buffer::new().format(time_ms / 1000).as_bytes());
    let rest = time_ms % 1000;
    if rest != 0 {
        let text = format!(".{rest:03}");
        out.extend_from_slice(text.trim_end_matches('0').as_bytes());
    }
}

fn format_query(params: &Params) -> Result<Vec<u8>, Refusal> {
    let mut out = begun(64);
    string(&mut out, &expression(params)?.to_string());
    Ok(out)
}

/// The matchers of each selector that is asked for, and between when.
type Asked = (Vec<Vec<Matcher>>, i64, i64);

fn selection(params: &Params) -> Result<Asked, Refusal> {
    let selectors: Result<_, _> = params
        .all("match[]")
        .map(|text| {
            let invalid = |why: &dyn std::fmt::Display| bad(format!("invalid parameter \"match[]\": {why}"));
            let expr = parse(text).map_err(|error| invalid(&error))?;
            match &expr.kind {
                klar_promql::ast::Kind::Selector(selector) => Ok(selector.matchers.clone()),
                _ => Err(invalid(&format!(
                    "`{text}` selects no series; write one such as `up{{app=\"shop\"}}`"
                ))),
            }
        })
        .collect();
    let from = params.get("start").map(time).transpose().map_err(bad)?.unwrap_or(i64::MIN / 4);
    let to = params.get("end").map(time).transpose().map_err(bad)?.unwrap_or(i64::MAX / 4);
    Ok((selectors?, from, to))
}

fn series(shared: &Shared, params: &Params) -> Result<Vec<u8>, Refusal> {
    let (selectors, from, to) = selection(params)?;
    if selectors.is_empty() {
        return Err(bad("at least one `match[]` is wanted"));
    }
    let mut found = std::collections::BTreeSet::new();
    for matchers in selectors {
        found.extend(shared.store.select(&matchers, from, to)?.series.into_iter().map(|one| one.labels));
    }
    let limit = limit(params)?;
    let mut out = begun(256 * found.len());
    out.push(b'[');
    separated(&mut out, found.iter().take(limit), metric);
    out.push(b']');
    Ok(out)
}

fn strings(found: std::collections::BTreeSet<String>, limit: usize) -> Vec<u8> {
    let mut out = begun(32 * found.len());
    out.push(b'[');
    separated(&mut out, found.iter().take(limit), |out, one| string(out, one));
    out.push(b']');
    out
}

fn label_names(shared: &Shared, params: &Params) -> Result<Vec<u8>, Refusal> {
    let (selectors, from, to) = selection(params)?;
    let mut found = std::collections::BTreeSet::new();
    for matchers in all_if_none(selectors) {
        found.extend(shared.store.label_names(&matchers, from, to)?);
    }
    Ok(strings(found, limit(params)?))
}

fn label_values(shared: &Shared, name: &str, params: &Params) -> Result<Vec<u8>, Refusal> {
    let (selectors, from, to) = selection(params)?;
    let mut found = std::collections::BTreeSet::new();
    for matchers in all_if_none(selectors) {
        found.extend(shared.store.label_values(name, &matchers, from, to)?);
    }
    Ok(strings(found, limit(params)?))
}

fn all_if_none(selectors: Vec<Vec<Matcher>>) -> Vec<Vec<Matcher>> {
    if selectors.is_empty() { vec![Vec::new()] } else { selectors }
}

fn metadata(shared: &Shared, params: &Params) -> Vec<u8> {
    let sheet = shared.sheet();
    let wanted = params.get("metric");
    let all: serde_json::Map<String, serde_json::Value> = sheet
        .families()
        .iter()
        .filter(|family| wanted.is_none_or(|wanted| wanted == family.name))
        .map(|family| {
            let about = serde_json::json!([{ "type": family.kind.name(), "help": family.help, "unit": "" }]);
            (family.name.to_owned(), about)
        })
        .collect();
    with(serde_json::Value::Object(all).to_string().as_bytes())
}

fn build_info() -> Vec<u8> {
    // Grafana asks which functions it may use: those of this version of Prometheus.
    let about = serde_json::json!({
        "version": "3.0.0", "application": "klar", "revision": env!("CARGO_PKG_VERSION"),
        "branch": "", "buildUser": "", "buildDate": "", "goVersion": "",
    });
    with(about.to_string().as_bytes())
}

fn statistics(shared: &Shared) -> Vec<u8> {
    let found = shared.store.statistics();
    let offenders: Vec<serde_json::Value> = shared
        .store
        .offenders(20)
        .into_iter()
        .map(|one| serde_json::json!({ "name": one.metric, "value": one.series, "refused": one.refused }))
        .collect();
    let about = serde_json::json!({
        "headStats": { "numSeries": found.series },
        "seriesCountByMetricName": offenders,
        "blocks": found.blocks,
        "blockBytes": found.block_bytes,
        "logBytes": found.wal_bytes,
    });
    with(about.to_string().as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_times_are_written_as_prometheus_does() {
        let written = |time_ms, value| {
            let mut out = Vec::new();
            point(&mut out, Sample { time_ms, value });
            String::from_utf8(out).unwrap()
        };
        for (time_ms, value, text) in [
            (1_435_781_430_781, 1.0, r#"[1435781430.781,"1"]"#),
            (1_435_781_430_700, -0.5, r#"[1435781430.7,"-0.5"]"#),
            (1_000, -0.0, r#"[1,"-0"]"#),
            (-1_500, 0.0, r#"[-1.5,"0"]"#),
            (0, f64::NAN, r#"[0,"NaN"]"#),
            (0, f64::NEG_INFINITY, r#"[0,"-Inf"]"#),
            (0, 1e21, r#"[0,"1000000000000000000000"]"#),
            (0, 9_007_199_254_740_993.0, r#"[0,"9007199254740992"]"#),
            (0, 1e-7, r#"[0,"0.0000001"]"#),
            (0, 0.000_123_4, r#"[0,"0.0001234"]"#),
            (0, 123_456_789_012_345.6, r#"[0,"123456789012345.6"]"#),
            (0, 9.5e14, r#"[0,"950000000000000"]"#),
        ] {
            assert_eq!(written(time_ms, value), text);
        }
    }
}
