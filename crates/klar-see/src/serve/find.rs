//! Looking for rows: `/klar/v1/requests`, `/klar/v1/logs`, and `/klar/v1/trace`, which joins both by the id of a request.

use std::time::{Duration, Instant};

use http::StatusCode;
use klar_rows::{Filter, Op, Order};

use super::params::{Params, time};
use super::{Answer, typed};
use crate::rows::{ACCESS, LIMIT_MAX, LOG, Wanted, has_id, is};
use crate::{Shared, now_ms};

/// How long an answer may take. What was found until then is given.
const PATIENCE: Duration = Duration::from_secs(20);
/// How far back, when nobody says so.
const SINCE_MS: i64 = 24 * 3_600_000;
/// Around a request, what belongs to it is looked for in so much time.
const AROUND_US: i64 = 600_000_000;

/// Answers, whatever is asked.
pub(super) fn answer(shared: &Shared, what: &str, params: &Params) -> Answer {
    let found = match what {
        "requests" => requests(shared, params),
        "logs" => lines(shared, params),
        "trace" => trace(shared, params),
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
    if let Some(slow) = params.get("slower_ms") {
        let slow: u64 = slow.parse().map_err(|_| bad("`slower_ms` is a number"))?;
        wanted.filters.push(Filter::compare("duration_us", Op::Ge, slow.saturating_mul(1000)));
    }
    if let Some(id) = params.get("id") {
        wanted.filters.push(has_id(id).ok_or_else(|| bad("an id has 32 digits of 0-9 and a-f"))?);
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

/// A request, and the lines that name it.
fn trace(shared: &Shared, params: &Params) -> Result<serde_json::Value, Refusal> {
    let id = params.get("id").ok_or_else(|| bad("the parameter `id` is missing"))?;
    let filter = has_id(id).ok_or_else(|| bad("an id has 32 digits of 0-9 and a-f"))?;
    let mut request = wanted(ACCESS, params, &[])?;
    request.filters = vec![filter];
    // The first 48 bits of an id of the edge are its time.
    if let Some(begun_ms) = id.get(..12).and_then(|digits| i64::from_str_radix(digits, 16).ok())
        && params.get("since").is_none()
        && (now_ms() - begun_ms).abs() < 400 * 86_400_000
    {
        (request.from_us, request.to_us) = (begun_ms * 1000 - AROUND_US, begun_ms * 1000 + AROUND_US);
    }
    let mut lines = wanted(LOG, params, &[])?;
    (lines.from_us, lines.to_us) = (request.from_us, request.to_us);
    lines.order = Order::Oldest;
    lines.limit = 1000;
    lines.filters = vec![Filter::contains("body", id)];
    let (requests, lines) = (run(shared, &request)?, run(shared, &lines)?);
    Ok(serde_json::json!({
        "requests": requests["rows"],
        "lines": lines["rows"],
        "partial": requests["partial"] == true || lines["partial"] == true,
    }))
}
