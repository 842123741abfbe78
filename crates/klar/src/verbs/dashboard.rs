//! `klar dashboard`: what telemetry draws, in the terminal or as a picture.

use klar_base::AppKey;
use klar_run::report::Failure;
use serde_json::Value;

use super::metrics;
use crate::cli::Dashboard;
use crate::context::{Context, Trouble, wait};
use crate::out::table::{align, cell};
use crate::out::{BAD, GOOD, PLAIN, QUIET, STRONG, paint, spark, words};

/// `klar dashboard`.
pub fn dashboard(context: &Context, wanted: &Dashboard) -> Result<(), Trouble> {
    let key = context.key()?;
    let since = wanted.since.as_secs();
    let ask = |target: String| -> Result<Vec<u8>, Trouble> {
        let (status, said) = wait(context.client().page(&target))??;
        if status.is_success() {
            return Ok(said.into());
        }
        Err(Failure::new(String::from_utf8_lossy(&said).trim().to_owned()).into())
    };
    let Some(name) = &wanted.name else {
        let names: Value = json(&ask(format!("/dashboards/{key}.json"))?)?;
        return list(context, &key, &names);
    };
    // It stands in an address.
    if !name.chars().all(|letter| letter.is_ascii_alphanumeric() || matches!(letter, '-' | '_')) {
        return Err(Failure::new(format!("`{name}` is no name of a dashboard"))
            .hint("letters, digits, `-` and `_` are expected; `klar dashboard` lists those that there are")
            .into());
    }
    let page = format!("/dashboards/{key}/{name}");
    if wanted.template {
        let text = ask(format!("{page}.toml"))?;
        context.printer.data(String::from_utf8_lossy(&text).trim_end());
        return Ok(());
    }
    if let Some(file) = &wanted.svg {
        let svg = ask(format!("{page}.svg?since={since}"))?;
        std::fs::write(file, svg).map_err(|error| Failure::new(format!("{}: {error}", file.display())))?;
        context.printer.story(format!("{} {}", paint(GOOD, "drawn"), file.display()));
        return Ok(());
    }
    let board = json(&ask(format!("{page}.json?since={since}"))?)?;
    if context.printer.json {
        context.printer.value(&board);
    } else {
        context.printer.data(render(&board).trim_end());
    }
    Ok(())
}

fn json(bytes: &[u8]) -> Result<Value, Trouble> {
    serde_json::from_slice(bytes)
        .map_err(|error| Failure::new(format!("telemetry said no JSON: {error}")).into())
}

fn list(context: &Context, key: &AppKey, names: &Value) -> Result<(), Trouble> {
    // Who may not read the key sees the names all the same.
    let url = metrics::url(context).ok().map(|url| format!("{url}/dashboards/{key}/"));
    if context.printer.json {
        context.printer.value(&serde_json::json!({ "dashboards": names, "url": url }));
        return Ok(());
    }
    let mut rows = Vec::new();
    for one in names.as_array().into_iter().flatten() {
        let text = |name: &str| words::tame(one[name].as_str().unwrap_or_default());
        let said = match one["error"].as_str() {
            Some(why) => cell(BAD, words::tame(why)),
            None => cell(PLAIN, text("title")),
        };
        rows.push(vec![cell(STRONG, text("name")), said]);
    }
    let mut text = align(&rows, &[], "");
    if let Some(url) = url {
        text.push_str(&format!("\n{} {url}\n", paint(QUIET, "in a browser:")));
    }
    context.printer.data(text.trim_end());
    Ok(())
}

fn render(board: &Value) -> String {
    let text = |of: &Value, name: &str| words::tame(of[name].as_str().unwrap_or_default()).to_string();
    let mut out = format!("{}  {}\n", paint(STRONG, text(board, "title")), paint(QUIET, text(board, "of")));
    for panel in board["panels"].as_array().into_iter().flatten() {
        out.push_str(&format!(
            "\n{}  {}\n",
            paint(STRONG, text(panel, "title")),
            paint(QUIET, text(panel, "help"))
        ));
        if let Some(why) = panel["error"].as_str() {
            out.push_str(&format!("  {}\n", paint(BAD, words::tame(why))));
            continue;
        }
        let series = panel["series"].as_array().map(Vec::as_slice).unwrap_or_default();
        if series.is_empty() {
            let (style, said) = match panel["none"].as_str() {
                Some(none) => (QUIET, words::tame(none).to_string()),
                None => (BAD, "no data".to_owned()),
            };
            out.push_str(&format!("  {}\n", paint(style, said)));
            continue;
        }
        let most = series.iter().filter_map(last).fold(0.0, f64::max);
        let mut rows = Vec::new();
        for line in series {
            let values: Vec<Option<f64>> =
                line["values"].as_array().into_iter().flatten().map(Value::as_f64).collect();
            let picture = match panel["kind"].as_str() {
                Some("curve") => spark::line(&thinned(&values, 48)),
                Some("bars") => bar(last(line).unwrap_or_default(), most),
                _ => String::new(),
            };
            let style = if line["is_bad"] == true { BAD } else { PLAIN };
            rows.push(vec![text(line, "name").into(), cell(style, text(line, "said")), cell(QUIET, picture)]);
        }
        out.push_str(&align(&rows, &[1], "  "));
        if let Some(more) = panel["more"].as_u64().filter(|more| *more > 0) {
            out.push_str(&format!("  {}\n", paint(QUIET, format_args!("and {more} more"))));
        }
    }
    out
}

fn last(line: &Value) -> Option<f64> {
    line["values"].as_array()?.iter().rev().find_map(Value::as_f64)
}

/// As many values as there is room for, each the largest of its neighbours.
fn thinned(values: &[Option<f64>], room: usize) -> Vec<Option<f64>> {
    let together = values.len().div_ceil(room).max(1);
    values.chunks(together).map(|some| some.iter().flatten().copied().reduce(f64::max)).collect()
}

fn bar(value: f64, most: f64) -> String {
    const ROOM: f64 = 24.0;
    let share = if most > 0.0 { (value / most).clamp(0.0, 1.0) } else { 0.0 };
    "█".repeat((share * ROOM).round() as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dashboard_is_read_in_a_terminal() {
        let line = |name: &str, said: &str, values: &[Option<f64>]| serde_json::json!({ "name": name, "said": said, "values": values, "is_bad": false });
        let panel = |kind: &str, series: Vec<Value>, none: Option<&str>| serde_json::json!({ "title": "Panel", "help": "What it is.", "kind": kind, "series": series, "none": none, "more": 2 });
        let board = serde_json::json!({ "title": "Health", "of": "shop.prod", "panels": [
            panel("curve", vec![line("p95", "12 ms", &[Some(1.0), None, Some(2.0)])], None),
            panel("bars", vec![line("web", "4", &[Some(4.0)]), line("db\u{1b}[2J", "1", &[Some(1.0)])], None),
            panel("number", vec![line("", "7", &[Some(7.0)])], None),
            panel("bars", vec![], Some("nothing")),
            panel("bars", vec![], None),
        ]});
        insta::assert_snapshot!(anstream::adapter::strip_str(&render(&board)).to_string());
    }
}
