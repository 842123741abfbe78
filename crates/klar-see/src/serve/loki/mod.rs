//! Loki's API, as much as its clients and Grafana's data source need: `push.rs` takes lines in, `logql.rs` reads what is
//! asked, and here it is answered (<https://grafana.com/docs/loki/latest/reference/loki-http-api/>).
//!
//! All lines are there, whoever brought them: also what instances say.

mod logql;
mod push;

pub(super) use push::push;

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use http::StatusCode;
use klar_rows::{Cell, Filter, Grouped, Order, Select};
use serde_json::{Map, Value, json};

use self::logql::{COLUMNS, Count, Fold, Query, column};
use super::params::{Params, duration};
use super::{Answer, typed};
use crate::rows::{LIMIT_MAX, LOG};
use crate::{Shared, now_ms};

/// How long an answer may take. What was found until then is given, with a warning.
const PATIENCE: Duration = Duration::from_secs(20);
/// How far back, when nobody says so.
const HOUR_US: i64 = 3_600_000_000;
/// Points of one series of an answer, as Prometheus has it, and of all of them.
const STEPS_MAX: i64 = 11_000;
const POINTS_MAX: usize = 1_000_000;
/// Stretches of time that are counted for one answer.
const BUCKETS_MAX: i64 = 50_000;
/// Lines that are looked at for names and values of what is no column.
const LOOK: usize = 10_000;
/// Bytes of lines in one answer.
const BYTES_MAX: usize = 32 << 20;

type Refusal = (StatusCode, String);

fn bad(why: impl Into<String>) -> Refusal {
    (StatusCode::BAD_REQUEST, why.into())
}

fn of_store(error: klar_rows::Error) -> Refusal {
    let status = match error {
        klar_rows::Error::Filter(_) | klar_rows::Error::TooManyGroups(_) => StatusCode::BAD_REQUEST,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    };
    (status, error.to_string())
}

/// Answers, whatever is asked; `path` is what follows `/loki/`. `apart`: whoever asks wants labels of a stream apart from
/// what only a line has.
pub(super) fn answer(shared: &Shared, path: &str, params: &Params, apart: bool) -> Answer {
    let found = match path.strip_prefix("api/v1/").unwrap_or_default() {
        "query_range" => query(shared, params, true, apart),
        "query" => query(shared, params, false, apart),
        "labels" | "label" => labels(shared, params).map(success),
        "series" => series(shared, params).map(success),
        "index/stats" => statistics(shared, params),
        "status/buildinfo" => Ok(json!({
            "version": "2.9.0", "revision": "klar", "branch": "HEAD", "buildUser": "klar", "buildDate": "",
            "goVersion": "",
        })),
        rest => match rest.strip_prefix("label/").and_then(|rest| rest.strip_suffix("/values")) {
            Some(name) => values(shared, name, params).map(success),
            None => Err((StatusCode::NOT_FOUND, format!("`/loki/{path}` is nothing here"))),
        },
    };
    match found {
        Ok(body) => typed(StatusCode::OK, "application/json", body.to_string()),
        // Loki's own errors are texts, and Grafana shows them as they are.
        Err((status, why)) => super::text(status, why),
    }
}

fn success(data: Value) -> Value {
    json!({ "status": "success", "data": data })
}

/// In nanoseconds or seconds since 1970, or RFC 3339; here in microseconds.
fn time(text: &str) -> Result<i64, Refusal> {
    if text.len() > 10
        && let Ok(nanoseconds) = text.parse::<i64>()
    {
        return Ok(nanoseconds / 1000);
    }
    super::params::time(text).map(|ms| ms.saturating_mul(1000)).map_err(bad)
}

/// From when until when, in microseconds; the end is not in it.
fn span(params: &Params, usual_us: i64) -> Result<(i64, i64), Refusal> {
    let at = |name| params.get(name).map(time).transpose();
    let to = at("end")?.unwrap_or_else(|| now_ms().saturating_mul(1000));
    let since = params.get("since").map(duration).transpose().map_err(bad)?;
    let since = since.map_or(usual_us, |ms| ms.saturating_mul(1000));
    let from = at("start")?.unwrap_or_else(|| to.saturating_sub(since));
    if to < from {
        return Err(bad("`end` is before `start`"));
    }
    Ok((from.max(0), to.max(0)))
}

fn selected((from_us, to_us): (i64, i64), filter: Filter) -> Select {
    let mut select = Select::new(LOG, from_us, to_us).filter(filter);
    select.budget.deadline = Some(Instant::now() + PATIENCE);
    select
}

/// What all selectors in `name` ask for.
fn matched(params: &Params, name: &'static str) -> Result<Filter, Refusal> {
    let mut any = params.all(name).filter(|text| !text.is_empty()).peekable();
    if any.peek().is_none() {
        return Ok(Filter::All(Vec::new()));
    }
    any.map(logql::selector).collect::<Result<_, _>>().map(Filter::Any).map_err(bad)
}

fn query(shared: &Shared, params: &Params, is_range: bool, apart: bool) -> Result<Value, Refusal> {
    let text = params.get("query").ok_or_else(|| bad("the parameter `query` is missing"))?;
    let at = params.get("time").map(time).transpose()?.unwrap_or_else(|| now_ms().saturating_mul(1000));
    match logql::read(text).map_err(bad)? {
        Query::Number(number) => {
            let sample = json!([at / 1_000_000, number.to_string()]);
            Ok(success(json!({
                "resultType": "vector", "result": [{ "metric": {}, "value": sample }], "stats": {},
            })))
        }
        Query::Lines(filter) => {
            let span = if is_range { span(params, HOUR_US)? } else { (at.saturating_sub(HOUR_US), at) };
            lines(shared, params, span, filter, apart)
        }
        Query::Count(count) if is_range => {
            let (from, to) = span(params, HOUR_US)?;
            let step = params.get("step").map(duration).transpose().map_err(bad)?;
            // As Loki does it: about 250 points.
            let step = step.map_or_else(
                || ((to - from) / 250 / 1_000_000).max(1) * 1_000_000,
                |ms| ms.saturating_mul(1000),
            );
            if step <= 0 {
                return Err(bad("`step` has to be more than 0"));
            }
            counted(shared, &count, (from, to, step), true)
        }
        Query::Count(count) => counted(shared, &count, (at, at, 1), false),
    }
}

/// Labels that a line has as part of its stream.
fn stream_of(rows: &klar_rows::Rows, row: usize) -> BTreeMap<&str, &str> {
    let mut labels = BTreeMap::new();
    for (place, of) in rows.columns().iter().enumerate() {
        if COLUMNS.contains(&&*of.name)
            && let Cell::Text(text) = rows.cell(row, place)
            && !text.is_empty()
        {
            labels.insert(&*of.name, text);
        }
    }
    labels
}

fn lines(
    shared: &Shared,
    params: &Params,
    span: (i64, i64),
    filter: Filter,
    apart: bool,
) -> Result<Value, Refusal> {
    let limit = match params.get("limit") {
        None => 100,
        Some(text) => text.parse().map_err(|_| bad(format!("`limit` has to be a number, not `{text}`")))?,
    };
    let order = match params.get("direction") {
        None | Some("backward" | "BACKWARD") => Order::Newest,
        Some("forward" | "FORWARD") => Order::Oldest,
        Some(other) => return Err(bad(format!("`direction` is `forward` or `backward`, not `{other}`"))),
    };
    let mut streams: BTreeMap<Vec<(String, String)>, Vec<Value>> = BTreeMap::new();
    let mut bytes = 0;
    let select = selected(span, filter);
    let each = |rows: &klar_rows::Rows, row: usize| {
        let mut labels = stream_of(rows, row);
        let (mut time_us, mut body, mut more, mut ids) = (0, "", Vec::new(), Vec::new());
        for (place, of) in rows.columns().iter().enumerate() {
            match (&*of.name, rows.cell(row, place)) {
                ("ts", Cell::Signed(time)) => time_us = time,
                ("body", Cell::Text(text)) => body = text,
                ("attrs", Cell::Map(pairs)) => more = pairs,
                ("trace_id" | "span_id", Cell::Bytes(id)) => {
                    let id: String = id.iter().map(|byte| format!("{byte:02x}")).collect();
                    ids.push((of.name.clone(), id));
                }
                _ => {}
            }
        }
        more.extend(ids.iter().map(|(name, id)| (&**name, &**id)));
        bytes += body.len() + more.iter().map(|(name, value)| name.len() + value.len()).sum::<usize>();
        let mut value = vec![Value::from(format!("{time_us}000")), body.into()];
        if apart {
            let more: Map<String, Value> =
                more.into_iter().map(|(name, value)| (name.to_owned(), value.into())).collect();
            value.push(json!({ "structuredMetadata": more, "parsed": {} }));
        } else {
            for (name, value) in more {
                labels.entry(name).or_insert(value);
            }
        }
        let labels = labels.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        streams.entry(labels).or_default().push(value.into());
        bytes < BYTES_MAX
    };
    let is_partial =
        shared.rows.scan(&select, &[], order, usize::min(limit, LIMIT_MAX), each).map_err(of_store)?;
    let result: Vec<Value> = streams
        .into_iter()
        .map(|(labels, values)| {
            let labels: Map<String, Value> =
                labels.into_iter().map(|(name, value)| (name, value.into())).collect();
            json!({ "stream": labels, "values": values })
        })
        .collect();
    let mut data = json!({ "resultType": "streams", "result": result, "stats": {} });
    if apart {
        data["encodingFlags"] = json!(["categorize-labels"]);
    }
    Ok(warned(success(data), is_partial))
}

fn warned(mut answer: Value, is_partial: bool) -> Value {
    if is_partial {
        let words = format!("the search took longer than {} s: there may be more", PATIENCE.as_secs());
        answer["warnings"] = json!([words]);
    }
    answer
}

fn common(a: i64, b: i64) -> i64 {
    if b == 0 { a } else { common(b, a % b) }
}

/// What a series of an answer is named by.
type Labels = Vec<(&'static str, String)>;
/// Series, and their points: times and numbers.
type Counted = BTreeMap<Labels, BTreeMap<i64, f64>>;

fn counted(
    shared: &Shared,
    count: &Count,
    (mut from, to, step): (i64, i64, i64),
    is_range: bool,
) -> Result<Value, Refusal> {
    if (to - from) / step >= STEPS_MAX {
        return Err(bad(format!("more than {STEPS_MAX} steps: choose a longer `step`, or a shorter time")));
    }
    // Rows are counted once, in stretches that fit both steps and windows.
    let mut bucket = common(common(count.range_us, step), from - count.offset_us);
    let begin = |from: i64| from.saturating_sub(count.offset_us).saturating_sub(count.range_us).max(0);
    if is_range && (to - begin(from)) / bucket > BUCKETS_MAX {
        // A start that fits nothing: as if it were a whole multiple of the step.
        from = from.div_euclid(step) * step;
        bucket = common(common(count.range_us, step), count.offset_us);
        if (to - begin(from)) / bucket > BUCKETS_MAX {
            return Err(bad(
                "`step` has too little in common with the range: make one a multiple of the other",
            ));
        }
    }
    // A sum needs no more than what it is by; all others are made of streams.
    let by: &[&'static str] = match &count.fold {
        Some((Fold::Sum, by)) => by,
        _ => &COLUMNS,
    };
    let mut grouped = Grouped::by(by);
    if is_range {
        grouped = grouped.bucket(bucket);
    }
    let select = selected((begin(from), to.saturating_sub(count.offset_us)), count.filter.clone());
    let found = shared.rows.group(&select, &grouped).map_err(of_store)?;
    let mut streams: BTreeMap<Labels, Vec<(i64, u64)>> = BTreeMap::new();
    for group in found.groups {
        let labels = by.iter().zip(&group.keys).filter_map(|(name, key)| match key {
            klar_rows::Key::Text(text) if !text.is_empty() => Some((*name, text.clone())),
            _ => None,
        });
        streams.entry(labels.collect()).or_default().push((group.bucket_us.unwrap_or(from), group.count));
    }
    let mut series = Counted::new();
    let mut points = 0;
    let seconds = if count.is_rate { count.range_us as f64 / 1e6 } else { 1.0 };
    for (labels, buckets) in streams {
        let mut out = BTreeMap::new();
        if is_range {
            let (mut first, mut next, mut sum) = (0, 0, 0_u64);
            let mut at = from;
            while at <= to {
                let until = at - count.offset_us;
                while let Some((_, more)) = buckets.get(next).filter(|(begin, _)| *begin < until) {
                    sum += more;
                    next += 1;
                }
                while let Some((_, less)) =
                    buckets.get(first).filter(|(begin, _)| first < next && *begin < until - count.range_us)
                {
                    sum -= less;
                    first += 1;
                }
                if sum > 0 {
                    out.insert(at, sum as f64 / seconds);
                }
                at += step;
            }
        } else {
            out.insert(to, buckets.iter().map(|(_, count)| *count as f64).sum::<f64>() / seconds);
        }
        points += out.len();
        if points > POINTS_MAX {
            return Err(bad(format!("the answer has more than {POINTS_MAX} points: choose a longer `step`")));
        }
        series.insert(labels, out);
    }
    if let Some((fold, by)) = &count.fold {
        series = folded(series, *fold, by);
    }
    let sample = |(at, number): (&i64, &f64)| json!([*at as f64 / 1e6, number.to_string()]);
    let result: Vec<Value> = series
        .iter()
        .filter(|(_, points)| !points.is_empty())
        .map(|(labels, points)| {
            let metric: Map<String, Value> =
                labels.iter().map(|(name, value)| ((*name).to_owned(), value.as_str().into())).collect();
            if is_range {
                json!({ "metric": metric, "values": points.iter().map(sample).collect::<Vec<_>>() })
            } else {
                json!({ "metric": metric, "value": points.iter().next().map(sample) })
            }
        })
        .collect();
    let kind = if is_range { "matrix" } else { "vector" };
    let data = json!({ "resultType": kind, "result": result, "stats": {} });
    Ok(warned(success(data), found.effort.is_partial))
}

fn folded(series: Counted, fold: Fold, by: &[&'static str]) -> Counted {
    let mut all: BTreeMap<_, BTreeMap<i64, Vec<f64>>> = BTreeMap::new();
    for (labels, points) in series {
        let labels: Vec<_> = labels.into_iter().filter(|(name, _)| by.contains(name)).collect();
        let into = all.entry(labels).or_default();
        points.into_iter().for_each(|(at, number)| into.entry(at).or_default().push(number));
    }
    let one = |numbers: Vec<f64>| match fold {
        Fold::Sum => numbers.iter().sum(),
        Fold::Min => numbers.iter().copied().fold(f64::INFINITY, f64::min),
        Fold::Max => numbers.iter().copied().fold(0.0, f64::max),
        Fold::Average => numbers.iter().sum::<f64>() / numbers.len() as f64,
        Fold::Count => numbers.len() as f64,
    };
    all.into_iter()
        .map(|(labels, points)| {
            (labels, points.into_iter().map(|(at, numbers)| (at, one(numbers))).collect())
        })
        .collect()
}

/// The newest lines' names and values of what is no column.
fn seen(shared: &Shared, select: &Select, mut each: impl FnMut(&str, &str)) -> Result<(), Refusal> {
    let show = |rows: &klar_rows::Rows, row: usize| {
        if let Cell::Map(pairs) = rows.cell(row, 1) {
            pairs.into_iter().for_each(|(name, value)| each(name, value));
        }
        true
    };
    let columns = ["ts", "attrs"];
    shared.rows.scan(select, &columns, Order::Newest, LOOK, show).map(drop).map_err(of_store)
}

fn labels(shared: &Shared, params: &Params) -> Result<Value, Refusal> {
    let select = selected(span(params, 6 * HOUR_US)?, matched(params, "query")?);
    let mut names: BTreeSet<String> = BTreeSet::new();
    for name in COLUMNS {
        let groups = shared.rows.group(&select, &Grouped::by(&[name])).map_err(of_store)?.groups;
        let has_one = groups
            .iter()
            .any(|group| matches!(group.keys.first(), Some(klar_rows::Key::Text(text)) if !text.is_empty()));
        if has_one {
            names.insert(name.to_owned());
        }
    }
    seen(shared, &select, |name, _| {
        names.insert(name.to_owned());
    })?;
    Ok(json!(names))
}

fn values(shared: &Shared, name: &str, params: &Params) -> Result<Value, Refusal> {
    let select = selected(span(params, 6 * HOUR_US)?, matched(params, "query")?);
    let mut found: BTreeSet<String> = BTreeSet::new();
    match column(name) {
        Some(column) => {
            let groups = shared.rows.group(&select, &Grouped::by(&[column])).map_err(of_store)?.groups;
            for group in groups {
                match group.keys.into_iter().next() {
                    Some(klar_rows::Key::Text(text)) if !text.is_empty() => {
                        found.insert(text);
                    }
                    _ => {}
                }
            }
        }
        None => seen(shared, &select, |its, value| {
            if its == name {
                found.insert(value.to_owned());
            }
        })?,
    }
    Ok(json!(found))
}

fn series(shared: &Shared, params: &Params) -> Result<Value, Refusal> {
    let select = selected(span(params, 6 * HOUR_US)?, matched(params, "match[]")?);
    let groups = shared.rows.group(&select, &Grouped::by(&COLUMNS)).map_err(of_store)?.groups;
    let streams = groups.iter().map(|group| {
        let labels = COLUMNS.iter().zip(&group.keys).filter_map(|(name, key)| match key {
            klar_rows::Key::Text(text) if !text.is_empty() => {
                Some(((*name).to_owned(), text.as_str().into()))
            }
            _ => None,
        });
        Value::Object(labels.collect())
    });
    Ok(streams.collect())
}

/// How much a query would find; Grafana shows it beside the query.
fn statistics(shared: &Shared, params: &Params) -> Result<Value, Refusal> {
    let select = selected(span(params, HOUR_US)?, matched(params, "query")?);
    let groups = shared.rows.group(&select, &Grouped::by(&COLUMNS)).map_err(of_store)?.groups;
    let entries: u64 = groups.iter().map(|group| group.count).sum();
    // Lengths are not counted: about a line's usual one.
    Ok(json!({ "streams": groups.len(), "chunks": 0, "entries": entries, "bytes": entries * 100 }))
}
