//! Looking for rows: `/klar/v1/requests`, `/klar/v1/logs`, `/klar/v1/spans`; `/klar/v1/trace`, which joins all of them by the
//! id of a request, and `/klar/v1/traces`, which says what there is to join.

use std::time::{Duration, Instant};

use http::StatusCode;
use klar_rows::{Filter, Op, Order};

use super::params::{Params, time};
use super::{Answer, typed};
use crate::rows::{ACCESS, LIMIT_MAX, LOG, SPAN, Wanted, has_id, is};
use crate::{Shared, now_ms};

/// How long an answer may take. What was found until then is given.
const PATIENCE: Duration = Duration::from_secs(20);
/// How far back, when nobody says so.
const SINCE_MS: i64 = 24 * 3_600_000;
/// Spans and lines of one request that are shown.
const TRACE_MAX: usize = 1000;
/// Around a request, what belongs to it is looked for in so much time.
const AROUND_US: i64 = 600_000_000;

/// Answers, whatever is asked.
pub(super) fn answer(shared: &Shared, what: &str, params: &Params) -> Answer {
    let found = match what {
        "requests" => requests(shared, params),
        "logs" => lines(shared, params),
        "spans" => spans(shared, params),
        "trace" => trace(shared, params),
        "traces" => traces(shared, params),
        _ => return failed(StatusCode::NOT_FOUND, &format!("`{what}` is nothing here")),
    };
    match found {
        Ok(found) => typed(StatusCode::OK, "application/json", found.to_string()),
        Err((status, why)) => failed(status, &why),
    }
}

fn failed(status: StatusCode, why: &str) -> Answer {
    let body = serde_json::json!({ "status": "error", "error": why });
    typed(status, "application/json", body.to_string())
}

type Refusal = (StatusCode, String);

fn bad(why: impl Into<String>) -> Refusal {
    (StatusCode::BAD_REQUEST, why.into())
}

fn wanted(table: &'static str, params: &Params, names: &[&str]) -> Result<Wanted, Refusal> {
    let at = |name| params.get(name).map(time).transpose().map_err(bad);
    let until = at("until")?.unwrap_or_else(now_ms);
    let since = at("since")?.unwrap_or(until - SINCE_MS);
    let limit = match params.get("limit") {
        None => 100,
        Some(text) => text.parse().map_err(|_| bad(format!("`limit` has to be a number, not `{text}`")))?,
    };
    let filters = names.iter().filter_map(|name| params.get(name).map(|value| is(name, value)));
    Ok(Wanted {
        table,
        from_us: since.saturating_mul(1000),
        // The end is in it.
        to_us: until.saturating_add(1).saturating_mul(1000),
        filters: filters.collect(),
        order: if params.get("order") == Some("oldest") { Order::Oldest } else { Order::Newest },
        limit: usize::min(limit, LIMIT_MAX),
        deadline: Instant::now() + PATIENCE,
    })
}

fn contains(column: &str, params: &Params) -> Option<Filter> {
    let text = params.get("contains")?;
    Some(Filter::Contains { column: column.to_owned(), text: text.to_owned(), ignore_case: false })
}

fn run(shared: &Shared, wanted: &Wanted) -> Result<serde_json::Value, Refusal> {
    let found = shared.rows.find(wanted).map_err(|error| match error {
        klar_rows::Error::Filter(bad_filter) => bad(bad_filter.to_string()),
        other => (StatusCode::INTERNAL_SERVER_ERROR, other.to_string()),
    });
    let (rows, is_partial) = found?;
    Ok(serde_json::json!({ "rows": rows, "partial": is_partial }))
}

const NO_ID: &str = "an id has 32 digits of 0-9 and a-f";

fn slower(params: &Params) -> Result<Option<Filter>, Refusal> {
    let Some(slow) = params.get("slower_ms") else { return Ok(None) };
    let slow: u64 = slow.parse().map_err(|_| bad("`slower_ms` is a number"))?;
    Ok(Some(Filter::compare("duration_us", Op::Ge, slow.saturating_mul(1000))))
}

fn requests(shared: &Shared, params: &Params) -> Result<serde_json::Value, Refusal> {
    let mut wanted = wanted(
        ACCESS,
        params,
        &["app", "env", "route", "method", "host", "service", "instance", "release", "path"],
    )?;
    if let Some(status) = params.get("status") {
        let (least, most) = match status.strip_suffix("xx").and_then(|class| class.parse::<u16>().ok()) {
            Some(class) => (class.saturating_mul(100), class.saturating_mul(100).saturating_add(99)),
            None => {
                let status = status.parse().map_err(|_| bad("`status` is a number, or `5xx`"))?;
                (status, status)
            }
        };
        wanted.filters.push(Filter::compare("status", Op::Ge, least));
        wanted.filters.push(Filter::compare("status", Op::Le, most));
    }
    wanted.filters.extend(slower(params)?);
    if let Some(id) = params.get("id") {
        wanted.filters.push(has_id("id", id).ok_or_else(|| bad(NO_ID))?);
    }
    wanted.filters.extend(contains("path", params));
    run(shared, &wanted)
}

fn lines(shared: &Shared, params: &Params) -> Result<serde_json::Value, Refusal> {
    let mut wanted = wanted(LOG, params, &["app", "env", "service", "instance", "stream", "level"])?;
    wanted.filters.extend(contains("body", params));
    if let Some(expression) = params.get("matches") {
        wanted.filters.push(Filter::Matches("body".into(), expression.to_owned()));
    }
    run(shared, &wanted)
}

fn spans(shared: &Shared, params: &Params) -> Result<serde_json::Value, Refusal> {
    let names =
        ["app", "env", "service", "instance", "release", "name", "kind", "status", "route", "db_system"];
    let mut wanted = wanted(SPAN, params, &names)?;
    wanted.filters.extend(slower(params)?);
    wanted.filters.extend(contains("statement", params));
    if let Some(id) = params.get("trace_id") {
        wanted.filters.push(has_id("trace_id", id).ok_or_else(|| bad(NO_ID))?);
    }
    run(shared, &wanted)
}

/// A request, its spans, and the lines that belong to it or name it.
fn trace(shared: &Shared, params: &Params) -> Result<serde_json::Value, Refusal> {
    let id = params.get("id").ok_or_else(|| bad("the parameter `id` is missing"))?;
    let has = |column| has_id(column, id).ok_or_else(|| bad(NO_ID));
    let mut request = wanted(ACCESS, params, &[])?;
    request.filters = vec![has("id")?];
    // The first 48 bits of an id of the edge are its time. What somebody else named is looked for in all that is kept.
    if let Some(begun_ms) = id.get(..12).and_then(|digits| i64::from_str_radix(digits, 16).ok())
        && params.get("since").is_none()
        && (now_ms() - begun_ms).abs() < 400 * 86_400_000
    {
        (request.from_us, request.to_us) = (begun_ms * 1000 - AROUND_US, begun_ms * 1000 + AROUND_US);
    }
    let same_time = |table| -> Result<Wanted, Refusal> {
        let mut wanted = wanted(table, params, &[])?;
        (wanted.from_us, wanted.to_us) = (request.from_us, request.to_us);
        (wanted.order, wanted.limit) = (Order::Oldest, TRACE_MAX);
        Ok(wanted)
    };
    let mut spans = same_time(SPAN)?;
    spans.filters = vec![has("trace_id")?];
    let mut lines = same_time(LOG)?;
    // Whoever writes a line may know the id as such, or only have it in a text.
    lines.filters = vec![Filter::Any(vec![has("trace_id")?, Filter::contains("body", id)])];
    let (requests, spans, lines) = (run(shared, &request)?, run(shared, &spans)?, run(shared, &lines)?);
    let is_partial = [&requests, &spans, &lines].iter().any(|found| found["partial"] == true);
    Ok(serde_json::json!({
        "requests": requests["rows"],
        "spans": spans["rows"],
        "lines": lines["rows"],
        "partial": is_partial,
    }))
}

/// Requests, and spans that nobody outside began, such as those of workers: the newest first.
fn traces(shared: &Shared, params: &Params) -> Result<serde_json::Value, Refusal> {
    let errors = params.get("errors").is_some_and(|said| said == "1" || said == "true");
    let mut requests = wanted(ACCESS, params, &["app", "env", "route", "service"])?;
    requests.filters.extend(slower(params)?);
    let mut roots = wanted(SPAN, params, &["app", "env", "route", "service"])?;
    roots.filters.extend(slower(params)?);
    roots.filters.push(Filter::Missing("parent_span_id".into()));
    if errors {
        requests.filters.push(Filter::compare("status", Op::Ge, 500_u16));
        roots.filters.push(is("status", "error"));
    }
    let (requests, roots) = (run(shared, &requests)?, run(shared, &roots)?);
    Ok(serde_json::json!({
        "requests": requests["rows"],
        "roots": roots["rows"],
        "partial": requests["partial"] == true || roots["partial"] == true,
    }))
}
