//! Dashboards: files that say which questions are asked and how the answers are drawn.
//!
//! Five are built in (`dashboards/*.toml` of this crate). An app may have more, or others of the same name, in a folder
//! `dashboards` among its files; they come with its releases. In a query `$app` and `$env` are whose dashboard it is,
//! `$range` is the time that is looked at, and `$window` is what a rate is taken over.

mod svg;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::{Duration, Instant};

use klar_base::AppKey;
use klar_promql::{Answer, Options, instant, parse, range};
use klar_rows::Order;
use klar_tsdb::Labels;
use serde::{Deserialize, Serialize};

use crate::rows::{ACCESS, LIMIT_MAX, Wanted, is};
use crate::{EVERY, Shared};

pub use svg::{draw, escaped};

/// Those that are built in, in the order in which they are listed.
const BUILT_IN: [(&str, &str); 5] = [
    ("health", include_str!("../../dashboards/health.toml")),
    ("performance", include_str!("../../dashboards/performance.toml")),
    ("business", include_str!("../../dashboards/business.toml")),
    ("cost", include_str!("../../dashboards/cost.toml")),
    ("security", include_str!("../../dashboards/security.toml")),
];
/// Points of a curve.
const POINTS: i64 = 120;
/// Curves and bars of one panel; what comes after them is counted.
const MOST: usize = 12;
/// Panels of one dashboard.
const PANELS: usize = 40;
/// A file of an app is no longer, in bytes.
const FILE_MAX: u64 = 64 << 10;
/// Files of an app that are looked at.
const FILES: usize = 50;
/// How long all queries of one dashboard may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// A dashboard.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Board {
    /// Its title.
    pub title: String,
    #[serde(default, rename = "panel")]
    panels: Vec<Panel>,
}

/// One question.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Panel {
    title: String,
    #[serde(default)]
    help: String,
    kind: Kind,
    #[serde(default)]
    unit: Unit,
    /// In PromQL.
    query: Option<String>,
    /// Of the records of requests instead.
    rows: Option<OfRows>,
    /// What a series is called: `{label}` is the value of a label.
    #[serde(default)]
    legend: String,
    /// What it means that there is no answer; without it that is a fault.
    none: Option<String>,
    /// A line across a curve: what should not be crossed.
    limit: Option<f64>,
    /// What is painted as bad: `> 0.5`, `== 0`.
    bad: Option<String>,
}

/// How an answer is drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// Over time.
    Curve,
    /// One beside the other, as they are now.
    Bars,
    /// One value, as it is now.
    Number,
}

/// What a value is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Unit {
    /// A number of something.
    #[default]
    Count,
    /// So many a second.
    PerSecond,
    /// Seconds.
    Seconds,
    /// Bytes.
    Bytes,
    /// A part of 1.
    Share,
}

/// What records are asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum OfRows {
    /// From how many addresses requests came.
    Visitors,
    /// How many requests there were.
    Requests,
}

/// A dashboard with its answers.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Filled {
    /// Its title.
    pub title: String,
    /// Whose it is.
    pub of: String,
    /// When it begins and ends, in milliseconds since 1970.
    pub from_ms: i64,
    /// See [`Filled::from_ms`].
    pub to_ms: i64,
    /// The panels.
    pub panels: Vec<Answered>,
}

/// A panel with its answer.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Answered {
    /// Its title.
    pub title: String,
    /// What it shows.
    pub help: String,
    /// How it is drawn.
    pub kind: Kind,
    /// What its values are.
    pub unit: Unit,
    /// What should not be crossed.
    pub limit: Option<f64>,
    /// The series, those with the highest values first.
    pub series: Vec<Line>,
    /// How many there are beside these.
    pub more: usize,
    /// What it means that there are none.
    pub none: Option<String>,
    /// Why there is no answer.
    pub error: Option<String>,
    /// Nobody can tell anything from it: there is no answer, and it does not say that this means something.
    pub is_empty: bool,
}

/// A series of a panel.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Line {
    /// What it is called.
    pub name: String,
    /// Its values, as far apart as each other; those of bars and numbers have one.
    pub values: Vec<Option<f64>>,
    /// The last value, for people.
    pub said: String,
    /// Whether it is bad.
    pub is_bad: bool,
}

/// The names and files of an app's dashboards: those of its release, then those that are built in and not among these.
pub fn all(apps: &Path, key: &AppKey, release: Option<&str>) -> BTreeMap<String, Result<Board, String>> {
    let mut all: BTreeMap<String, Result<Board, String>> =
        BUILT_IN.iter().map(|(name, text)| ((*name).to_owned(), read(name, text))).collect();
    let Some(release) = release else { return all };
    for entry in std::fs::read_dir(folder(apps, key, release)).into_iter().flatten().flatten().take(FILES) {
        let path = entry.path();
        let is_ours = path.extension().is_some_and(|end| end == "toml");
        let Some(name) = path.file_stem().and_then(|name| name.to_str()).filter(|_| is_ours) else {
            continue;
        };
        let text = match entry.metadata() {
            Ok(found) if found.len() > FILE_MAX => Err(format!("more than {FILE_MAX} bytes")),
            _ => std::fs::read_to_string(&path).map_err(|why| why.to_string()),
        };
        let file = format!("dashboards/{name}.toml");
        all.insert(
            name.to_owned(),
            text.map_err(|why| format!("{file}: {why}")).and_then(|text| read(name, &text)),
        );
    }
    all
}

/// The file of one.
pub fn source(apps: &Path, key: &AppKey, release: Option<&str>, name: &str) -> Option<String> {
    let own = release.and_then(|release| {
        let file = folder(apps, key, release).join(format!("{name}.toml"));
        let is_small = std::fs::metadata(&file).is_ok_and(|found| found.len() <= FILE_MAX);
        if is_small { std::fs::read_to_string(file).ok() } else { None }
    });
    let built_in = || BUILT_IN.iter().find(|(known, _)| *known == name).map(|(_, text)| (*text).to_owned());
    own.or_else(built_in)
}

fn folder(apps: &Path, key: &AppKey, release: &str) -> std::path::PathBuf {
    apps.join(key.to_string()).join("releases").join(release).join("files/dashboards")
}

fn read(name: &str, text: &str) -> Result<Board, String> {
    let wrong = |what: String| format!("dashboards/{name}.toml: {what}");
    let board: Board = toml::from_str(text).map_err(|error| wrong(error.to_string()))?;
    if board.panels.is_empty() || board.panels.len() > PANELS {
        return Err(wrong(format!("a dashboard has 1 to {PANELS} panels ([[panel]])")));
    }
    for panel in &board.panels {
        let title = &panel.title;
        match (&panel.query, panel.rows) {
            (Some(query), None) => {
                let query = with_variables(query, "a", "b", 3_600_000, 60_000);
                parse(&query).map_err(|error| wrong(format!("panel `{title}`: query: {error}")))?;
            }
            (None, Some(_)) if panel.kind == Kind::Number => {}
            (None, Some(_)) => return Err(wrong(format!("panel `{title}`: `rows` needs kind = \"number\""))),
            _ => return Err(wrong(format!("panel `{title}`: either `query` or `rows` is expected"))),
        }
        if let Some(bad) = &panel.bad
            && compared(bad, 0.0).is_none()
        {
            return Err(wrong(format!(
                "panel `{title}`: bad = \"{bad}\": `> 0.5`, `< 1` or `== 0` is expected"
            )));
        }
    }
    Ok(board)
}

/// Whether a value is so; `None` when the comparison is none.
fn compared(text: &str, value: f64) -> Option<bool> {
    let (operator, number) = text.trim().split_once(' ')?;
    let number: f64 = number.trim().parse().ok()?;
    Some(match operator {
        ">" => value > number,
        ">=" => value >= number,
        "<" => value < number,
        "<=" => value <= number,
        "==" => value == number,
        _ => return None,
    })
}

fn with_variables(query: &str, app: &str, env: &str, range_ms: i64, window_ms: i64) -> String {
    // Names of apps and environments hold nothing that means something in PromQL.
    query
        .replace("$app", app)
        .replace("$env", env)
        .replace("$range", &format!("{range_ms}ms"))
        .replace("$window", &format!("{window_ms}ms"))
}

/// Asks all questions of a dashboard.
pub fn fill(shared: &Shared, board: &Board, key: &AppKey, to_ms: i64, range_ms: i64) -> Filled {
    let every_ms = EVERY.as_millis() as i64;
    // Up to when all was written down last: what was counted until then is not estimated.
    let recorded_ms = shared.recorded_ms.load(std::sync::atomic::Ordering::Relaxed);
    let to_ms = if recorded_ms > 0 { recorded_ms.min(to_ms) } else { to_ms };
    let step_ms = (range_ms / POINTS).max(every_ms);
    let from_ms = to_ms - range_ms;
    let span = Span { from_ms, to_ms, step_ms };
    let deadline = Instant::now() + PATIENCE;
    let panels = board
        .panels
        .iter()
        .map(|panel| {
            let answered = match (&panel.query, panel.rows) {
                (Some(query), _) => {
                    let (app, env) = (key.app.as_str(), key.env.as_str());
                    let query = with_variables(query, app, env, range_ms, step_ms.max(4 * every_ms));
                    asked(shared, panel, &query, &span, deadline)
                }
                (None, rows) => counted(shared, rows, key, &span, deadline),
            };
            let (series, error) = match answered {
                Ok(series) => (series, None),
                Err(why) => (Vec::new(), Some(why)),
            };
            answer(panel, series, error)
        })
        .collect();
    Filled { title: board.title.clone(), of: key.to_string(), from_ms, to_ms, panels }
}

struct Span {
    from_ms: i64,
    to_ms: i64,
    step_ms: i64,
}

type Series = Vec<(String, Vec<Option<f64>>)>;

fn answer(panel: &Panel, mut series: Series, error: Option<String>) -> Answered {
    let most = |values: &[Option<f64>]| values.iter().flatten().copied().fold(f64::NEG_INFINITY, f64::max);
    series.sort_by(|(a, first), (b, second)| most(second).total_cmp(&most(first)).then(a.cmp(b)));
    let is_empty = error.is_some() || series.is_empty() && panel.none.is_none();
    let more = series.len().saturating_sub(MOST);
    series.truncate(MOST);
    let line = |(name, values): (String, Vec<Option<f64>>)| {
        let last = values.iter().rev().flatten().next().copied().unwrap_or_default();
        let is_bad = panel.bad.as_ref().is_some_and(|bad| compared(bad, last) == Some(true));
        Line { name, said: svg::written(last, panel.unit), values, is_bad }
    };
    Answered {
        title: panel.title.clone(),
        help: panel.help.clone(),
        kind: panel.kind,
        unit: panel.unit,
        limit: panel.limit,
        series: series.into_iter().map(line).collect(),
        more,
        none: panel.none.clone(),
        is_empty,
        error,
    }
}

fn asked(
    shared: &Shared,
    panel: &Panel,
    query: &str,
    span: &Span,
    deadline: Instant,
) -> Result<Series, String> {
    let expr = parse(query).map_err(|error| error.to_string())?;
    let stop = || Instant::now() >= deadline;
    let options = Options { samples_max: 4_000_000, stop: &stop, ..Options::default() };
    let found = if panel.kind == Kind::Curve {
        range(&*shared.store, &expr, span.from_ms, span.to_ms, span.step_ms, &options)
    } else {
        instant(&*shared.store, &expr, span.to_ms, &options)
    };
    let name = |labels: &Labels| named(&panel.legend, labels);
    Ok(match found.map_err(|error| error.to_string())? {
        Answer::Scalar(value) => vec![(panel.legend.clone(), vec![Some(value)])],
        Answer::Text(_) => return Err("the query gives a text".into()),
        Answer::Vector(series) => series
            .into_iter()
            .filter(|(_, value)| value.is_finite())
            .map(|(labels, value)| (name(&labels), vec![Some(value)]))
            .collect(),
        Answer::Matrix(series) => {
            let points = usize::try_from((span.to_ms - span.from_ms) / span.step_ms).unwrap_or(0) + 1;
            let each = series.into_iter().map(|one| {
                let mut values = vec![None; points];
                for sample in one.samples.iter().filter(|sample| sample.value.is_finite()) {
                    let place = usize::try_from((sample.time_ms - span.from_ms) / span.step_ms).ok();
                    if let Some(slot) = place.and_then(|place| values.get_mut(place)) {
                        *slot = Some(sample.value);
                    }
                }
                (name(&one.labels), values)
            });
            each.filter(|(_, values)| values.iter().any(Option::is_some)).collect()
        }
    })
}

fn named(legend: &str, labels: &Labels) -> String {
    let mut out = String::new();
    let mut rest = legend;
    while let Some((before, after)) = rest.split_once('{') {
        out.push_str(before);
        let Some((name, behind)) = after.split_once('}') else { break };
        out.push_str(labels.get(name).unwrap_or_default());
        rest = behind;
    }
    out.push_str(rest);
    if out.trim().is_empty() { labels.to_string() } else { out }
}

/// What records say: up to [`LIMIT_MAX`] at a time, the newest first.
fn counted(
    shared: &Shared,
    rows: Option<OfRows>,
    key: &AppKey,
    span: &Span,
    deadline: Instant,
) -> Result<Series, String> {
    let mut wanted = Wanted {
        table: ACCESS,
        from_us: span.from_ms * 1000,
        to_us: span.to_ms * 1000,
        filters: vec![is("app", key.app.as_str()), is("env", key.env.as_str())],
        order: Order::Newest,
        limit: LIMIT_MAX,
        deadline,
    };
    let (mut clients, mut count) = (BTreeSet::new(), 0);
    loop {
        let (found, is_partial) = shared.rows.find(&wanted).map_err(|error| error.to_string())?;
        count += found.len();
        for row in &found {
            clients.extend(row["client"].as_str().map(str::to_owned));
        }
        let is_all = found.len() < LIMIT_MAX;
        let oldest = found.last().and_then(|row| row["ts"].as_str()?.parse::<jiff::Timestamp>().ok());
        if is_partial || Instant::now() >= deadline {
            return Err("there are too many requests to look at in time".into());
        }
        match oldest {
            // Rows of the same microsecond as the last one may be missed: at most a few of ten thousand.
            Some(oldest) if !is_all => wanted.to_us = oldest.as_microsecond(),
            _ => break,
        }
    }
    let value = match rows {
        Some(OfRows::Visitors) => clients.len(),
        _ => count,
    };
    Ok(vec![(String::new(), vec![Some(value as f64)])])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_built_in_can_be_read() {
        let key: AppKey = "shop.prod".parse().unwrap();
        let all = all(Path::new("/nowhere"), &key, None);
        assert_eq!(all.len(), BUILT_IN.len());
        for (name, board) in all {
            assert!(board.is_ok(), "{name}: {board:?}");
        }
    }

    #[test]
    fn what_is_wrong_with_a_file_is_said() {
        for (text, said) in [
            ("", "missing field `title`"),
            ("title = \"x\"", "1 to 40 panels"),
            ("title = \"x\"\n[[panel]]\ntitle = \"p\"\nkind = \"pie\"", "unknown variant `pie`"),
            ("title = \"x\"\n[[panel]]\ntitle = \"p\"\nkind = \"bars\"", "either `query` or `rows`"),
            ("title = \"x\"\n[[panel]]\ntitle = \"p\"\nkind = \"bars\"\nrows = \"visitors\"", "needs kind"),
            ("title = \"x\"\n[[panel]]\ntitle = \"p\"\nkind = \"bars\"\nquery = \"sum by (\"", "query: "),
            (
                "title = \"x\"\n[[panel]]\ntitle = \"p\"\nkind = \"bars\"\nquery = \"up\"\nbad = \"much\"",
                "`> 0.5`, `< 1` or `== 0` is expected",
            ),
        ] {
            let why = read("sales", text).unwrap_err();
            assert!(why.starts_with("dashboards/sales.toml: ") && why.contains(said), "{why}");
        }
    }

    #[test]
    fn names_come_from_labels() {
        let labels = Labels::new([("route", "/a"), ("method", "GET")]).unwrap();
        assert_eq!(named("{method} {route}", &labels), "GET /a");
        assert_eq!(named("all", &labels), "all");
        assert_eq!(named("{none}", &labels), labels.to_string());
    }
}
