//! `klar trace` and `klar traces`: what the time of a request went to, from the edge to the statement.

use std::collections::{HashMap, HashSet};

use klar_run::report::Failure;
use serde_json::Value;

use super::metrics::{line, milliseconds};
use crate::cli::Traces;
use crate::context::{Context, Trouble, wait};
use crate::out::table::{align, cell};
use crate::out::{BAD, FAIR, PLAIN, QUIET, STRONG, paint, words};

/// Letters of a bar that takes all the time.
const BAR: usize = 32;
/// Letters of a name, and of a statement on its line.
const NAME_MAX: usize = 48;
const STATEMENT_MAX: usize = 160;
/// Spans further in stand no further to the right.
const DEPTH_MAX: usize = 12;

fn rows<'a>(found: &'a Value, what: &str) -> &'a [Value] {
    found[what].as_array().map(Vec::as_slice).unwrap_or_default()
}

fn text(row: &Value, name: &str) -> String {
    words::tame(row[name].as_str().unwrap_or_default())
}

fn number(row: &Value, name: &str) -> u64 {
    row[name].as_u64().unwrap_or_default()
}

/// `klar trace`.
pub fn trace(context: &Context, id: &str) -> Result<(), Trouble> {
    let found = wait(context.client().find("trace", &[("id", id)]))??;
    if ["requests", "spans", "lines"].iter().all(|what| rows(&found, what).is_empty()) {
        let hint = "one that is newer than a second, or older than 30 days, is not found; `klar traces` lists the newest";
        return Err(Failure::new(format!("no request `{}` is known", words::tame(id))).hint(hint).into());
    }
    if context.printer.json {
        context.printer.value(&found);
        return Ok(());
    }
    rows(&found, "requests").iter().for_each(|request| context.printer.data(head(request)));
    if !rows(&found, "spans").is_empty() {
        context.printer.data(format!("\n{}", waterfall(&found)));
    }
    for row in rows(&found, "lines") {
        context.printer.data(format!("  {}", line(row)));
    }
    if rows(&found, "lines").is_empty() {
        let what = "no line names it: let the app log the header `x-request-id` of a request, and its lines are shown here";
        context.printer.story(format!("{} {what}", paint(FAIR, "▲")));
    }
    if found["partial"] == true {
        context.printer.story(format!("{} there may be more: the search took too long", paint(FAIR, "▲")));
    }
    Ok(())
}

/// A request, on two lines.
fn head(request: &Value) -> String {
    let style = match number(request, "status") {
        500.. => BAD,
        400.. => FAIR,
        _ => STRONG,
    };
    let facts = [
        ("instance", "by"),
        ("release", "release"),
        ("client", "from"),
        ("cache", "cache"),
        ("waf", "firewall"),
        ("error", "error:"),
    ];
    let facts =
        facts.iter().map(|(name, word)| (word, text(request, name))).filter(|(_, said)| !said.is_empty());
    let facts: String = facts.map(|(word, said)| format!(", {word} {said}")).collect();
    let whose =
        format!("{} of {}.{}{facts}", text(request, "ts"), text(request, "app"), text(request, "env"));
    format!(
        "{} {} {} {} {}\n{}",
        paint(style, number(request, "status")),
        text(request, "method"),
        text(request, "path"),
        paint(QUIET, format_args!("route {}", text(request, "route"))),
        milliseconds(number(request, "duration_us") as f64 / 1e6),
        paint(QUIET, format_args!("  {whose}"))
    )
}

/// One bar of the picture.
struct Bar<'a> {
    depth: usize,
    who: String,
    name: String,
    begun_us: i64,
    took_us: i64,
    row: &'a Value,
}

fn begun_us(row: &Value) -> i64 {
    let time = row["ts"].as_str().and_then(|time| time.parse::<jiff::Timestamp>().ok());
    time.map_or(0, |time| time.as_microsecond())
}

/// The request and its spans, each beneath the one that it is part of. What says that it is part of something that never
/// came stands at the edge, where requests come in.
fn bars(found: &Value) -> Vec<Bar<'_>> {
    let bar = |row, depth, who: &str, name: String| Bar {
        depth,
        who: who.to_owned(),
        name,
        begun_us: begun_us(row),
        took_us: i64::try_from(number(row, "duration_us")).unwrap_or(i64::MAX),
        row,
    };
    let requests = rows(found, "requests").iter();
    let mut all: Vec<Bar<'_>> = requests
        .map(|row| bar(row, 0, "edge", format!("{} {}", text(row, "method"), text(row, "route"))))
        .collect();
    let outermost = usize::from(!all.is_empty());
    let spans = rows(found, "spans");
    let names: HashSet<&str> = spans.iter().filter_map(|span| span["span_id"].as_str()).collect();
    let mut within: HashMap<&str, Vec<usize>> = HashMap::new();
    let mut roots = Vec::new();
    for (place, span) in spans.iter().enumerate() {
        match span["parent_span_id"].as_str().filter(|parent| names.contains(parent)) {
            Some(parent) => within.entry(parent).or_default().push(place),
            None => roots.push(place),
        }
    }
    let mut seen = HashSet::new();
    // Spans that are part of each other in a circle have no outermost one, so all are looked at at the end.
    for first in roots.into_iter().chain(0..spans.len()) {
        let mut next = vec![(first, outermost)];
        while let Some((place, depth)) = next.pop() {
            let Some(span) = spans.get(place).filter(|_| seen.insert(place)) else { continue };
            all.push(bar(span, depth, &text(span, "service"), text(span, "name")));
            let inner = span["span_id"].as_str().and_then(|id| within.get(id)).into_iter().flatten();
            // They come in the order of their time, and the last one that is put down is taken first.
            next.extend(inner.rev().map(|inner| (*inner, depth + 1)));
        }
    }
    all
}

fn shortened(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        return text.to_owned();
    }
    text.chars().take(most.saturating_sub(1)).chain(['…']).collect()
}

/// What stands where in the time of the whole.
fn waterfall(found: &Value) -> String {
    let all = bars(found);
    let begun = all.iter().map(|bar| bar.begun_us).min().unwrap_or_default();
    let ended = all.iter().map(|bar| bar.begun_us.saturating_add(bar.took_us)).max().unwrap_or_default();
    let whole = ended.saturating_sub(begun).max(1) as f64;
    let indent = |bar: &Bar<'_>| "  ".repeat(bar.depth.min(DEPTH_MAX));
    let lined_up: Vec<_> = all
        .iter()
        .map(|bar| {
            let share = |us: i64| us.max(0) as f64 / whole * BAR as f64;
            let before = (share(bar.begun_us - begun) as usize).min(BAR - 1);
            let length = (share(bar.took_us).round() as usize).clamp(1, BAR - before);
            let is_bad =
                bar.row["status"] == "error" || bar.row["status"].as_u64().is_some_and(|code| code >= 500);
            let style = if is_bad { BAD } else { PLAIN };
            vec![
                cell(QUIET, bar.who.clone()),
                cell(style, shortened(&format!("{}{}", indent(bar), bar.name), NAME_MAX)),
                cell(
                    style,
                    format!(
                        "{}{}{}",
                        "·".repeat(before),
                        "█".repeat(length),
                        "·".repeat(BAR - before - length)
                    ),
                ),
                cell(PLAIN, milliseconds(bar.took_us as f64 / 1e6)),
            ]
        })
        .collect();
    let mut out = String::new();
    let width = all.iter().map(|bar| bar.who.chars().count()).max().unwrap_or_default() + 2;
    for (line, bar) in align(&lined_up, &[3], "  ").lines().zip(&all) {
        out.push_str(line);
        out.push('\n');
        let beneath = format!("  {}{}  ", " ".repeat(width), indent(bar));
        let mut more = |style, said: String| {
            out.push_str(&format!("{beneath}{}\n", paint(style, shortened(&said, STATEMENT_MAX))));
        };
        let statement = text(bar.row, "statement");
        if !statement.is_empty() {
            more(QUIET, statement.split_whitespace().collect::<Vec<_>>().join(" "));
        }
        let why = text(bar.row, "status_message");
        if !why.is_empty() {
            more(BAD, why);
        }
    }
    out
}

/// `klar traces`.
pub fn traces(context: &Context, wanted: &Traces) -> Result<(), Trouble> {
    let key = context.key()?;
    let since = (words::now_unix_ms() / 1000).saturating_sub(wanted.since.as_secs()).to_string();
    let slower = wanted.slower.map(|slower| slower.as_millis().to_string());
    let limit = wanted.count.to_string();
    let mut params =
        vec![("app", key.app.as_str()), ("env", key.env.as_str()), ("since", &*since), ("limit", &*limit)];
    params.extend(slower.as_deref().map(|slower| ("slower_ms", slower)));
    params.extend(wanted.route.as_deref().map(|route| ("route", route)));
    params.extend(wanted.errors.then_some(("errors", "1")));
    let found = wait(context.client().find("traces", &params))??;
    let mut all: Vec<&Value> = rows(&found, "requests").iter().chain(rows(&found, "roots")).collect();
    all.sort_by_key(|row| std::cmp::Reverse(begun_us(row)));
    all.truncate(wanted.count);
    if context.printer.json {
        context.printer.value(&all);
        return Ok(());
    }
    if all.is_empty() {
        context.printer.story(format!("{} no such requests", paint(FAIR, "▲")));
        return Ok(());
    }
    let head = ["WHEN", "STATUS", "TOOK", "WHAT", "TRACE"].map(|head| cell(QUIET, head)).to_vec();
    let body = all.iter().map(|row| {
        let is_request = row["id"].is_string();
        let (style, status) = match number(row, "status") {
            _ if row["status"] == "error" => (BAD, "error".to_owned()),
            0 => (PLAIN, text(row, "status")),
            status @ 500.. => (BAD, status.to_string()),
            status @ 400.. => (FAIR, status.to_string()),
            status => (PLAIN, status.to_string()),
        };
        let what = if is_request {
            format!("{} {}", text(row, "method"), text(row, "path"))
        } else {
            format!("{}: {}", text(row, "service"), text(row, "name"))
        };
        let time = text(row, "ts");
        vec![
            cell(QUIET, time.get(..19).unwrap_or(&time).replace('T', " ")),
            cell(style, status),
            cell(PLAIN, milliseconds(number(row, "duration_us") as f64 / 1e6)),
            cell(PLAIN, shortened(&what, NAME_MAX)),
            cell(PLAIN, text(row, if is_request { "id" } else { "trace_id" })),
        ]
    });
    let lines: Vec<_> = std::iter::once(head).chain(body).collect();
    context.printer.data(align(&lines, &[2], "").trim_end());
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn span(id: &str, parent: Option<&str>, name: &str, at_ms: u32, took_us: u64) -> Value {
        json!({ "ts": format!("2026-11-21T07:20:10.{at_ms:03}Z"), "span_id": id, "parent_span_id": parent, "name": name,
            "service": "api", "duration_us": took_us, "status": "unset" })
    }

    #[test]
    fn spans_stand_beneath_what_they_are_part_of() {
        let mut query = span("c", Some("b"), "SELECT orders", 4, 3_100);
        query["statement"] = "SELECT *\n  FROM orders\n WHERE id = $1".into();
        let mut failed = span("d", Some("a"), "POST mail", 8, 2_000);
        (failed["status"], failed["status_message"]) = ("error".into(), "refused\u{1b}[2J".into());
        let found = json!({
            "requests": [{ "ts": "2026-11-21T07:20:10Z", "method": "GET", "route": "/orders/{id}", "status": 200, "duration_us": 12_400 }],
            "spans": [span("a", Some("of the edge"), "GET /orders/:id", 1, 11_000), span("b", Some("a"), "order", 2, 6_000), query, failed],
        });
        let picture = anstream::adapter::strip_str(&waterfall(&found)).to_string();
        let expected = "
  edge  GET /orders/{id}     ████████████████████████████████  12.4 ms
  api     GET /orders/:id    ··████████████████████████████··  11.0 ms
  api       order            ·····███████████████············  6.00 ms
  api         SELECT orders  ··········████████··············  3.10 ms
                SELECT * FROM orders WHERE id = $1
  api       POST mail        ····················█████·······  2.00 ms
              refused
";
        assert_eq!(format!("\n{picture}"), expected);
    }

    #[test]
    fn spans_in_a_circle_and_far_within_are_shown_once() {
        let mut spans = vec![
            span("x", Some("y"), "x", 1, 1),
            span("y", Some("x"), "y", 1, 1),
            span("z", Some("z"), "z", 1, 1),
        ];
        let names: Vec<String> = (0..100).map(|number| format!("s{number}")).collect();
        for pair in names.windows(2) {
            spans.push(span(&pair[1], Some(&pair[0]), "deep", 1, 1));
        }
        let found = json!({ "spans": spans });
        assert_eq!(bars(&found).len(), 102);
        assert_eq!(waterfall(&found).lines().count(), 102);
    }
}
