//! What a script says.

use std::sync::Arc;

use klar_promql::histogram::{Hint, Parts};
use klar_promql::{Histogram, ast::Kind, parse};
use klar_tsdb::{Labels, STALE};

pub enum Command {
    Clear,
    Load(Load),
    Eval(Eval),
}

pub struct Load {
    pub step_ms: i64,
    /// Classic buckets make native histograms, too.
    pub is_native_too: bool,
    pub series: Vec<(Labels, Vec<Item>)>,
}

/// A value of a series.
#[derive(Clone, PartialEq)]
pub enum Item {
    None,
    Float(f64),
    /// A native histogram, and whether it says what is known of resets.
    Native(Arc<Histogram>, bool),
}

/// What is expected of the notes of a kind beside an answer.
#[derive(Default)]
pub struct Notes {
    /// There have to be some.
    pub any: bool,
    /// There must be none.
    pub none: bool,
    /// Each has to be one of these, as they are or as expressions; and each of these has to be there.
    pub each: Vec<(String, bool)>,
}

impl Notes {
    /// `warn`, `warn msg: …`, `warn regex: …`, `no_warn`
    fn read(&mut self, rest: &str) {
        let rest = rest.trim();
        self.any = true;
        if let Some(text) = rest.strip_prefix("msg:") {
            self.each.push((text.trim().to_owned(), false));
        } else if let Some(text) = rest.strip_prefix("regex:") {
            self.each.push((text.trim().to_owned(), true));
        }
    }
}

pub struct Eval {
    pub query: String,
    pub from_ms: i64,
    pub to_ms: i64,
    /// `None`: for one time.
    pub step_ms: Option<i64>,
    pub fails: bool,
    pub is_ordered: bool,
    pub warnings: Notes,
    pub infos: Notes,
    pub scalar: Option<f64>,
    pub text: Option<String>,
    /// Of a range of samples: from and step.
    pub samples: Option<(i64, i64)>,
    pub series: Vec<(Labels, Vec<Item>)>,
}

/// All commands with the lines on which they begin.
pub fn commands(text: &str) -> Vec<(usize, Command)> {
    let lines: Vec<&str> =
        text.lines().map(str::trim).map(|line| if line.starts_with('#') { "" } else { line }).collect();
    let mut found = Vec::new();
    let mut at = 0;
    while at < lines.len() {
        let line = lines[at];
        at += 1;
        if line.is_empty() {
            continue;
        }
        let first = at;
        let is_command = |line: &str| {
            let word = line.split_whitespace().next().unwrap_or_default();
            word.starts_with("eval") || matches!(word, "load" | "load_with_nhcb" | "clear")
        };
        if line != "clear" {
            while at < lines.len() && !lines[at].is_empty() && !is_command(lines[at]) {
                at += 1;
            }
        }
        let block = &lines[first..at];
        let command = match line.split_whitespace().next().unwrap() {
            "clear" => Command::Clear,
            word if word.starts_with("load") => Command::Load(load(line, block)),
            word if word.starts_with("eval") => Command::Eval(eval(line, block)),
            _ => panic!("line {first}: {line}"),
        };
        found.push((first, command));
    }
    found
}

fn load(line: &str, block: &[&str]) -> Load {
    let (word, step) = line.split_once(char::is_whitespace).unwrap();
    // Times at which series began are not supported.
    let series = block.iter().filter(|line| !line.contains("@st")).map(|line| series(line));
    Load { step_ms: time(step), is_native_too: word == "load_with_nhcb", series: series.collect() }
}

fn eval(line: &str, block: &[&str]) -> Eval {
    let (how, rest) = line.split_once(char::is_whitespace).unwrap();
    let rest = rest.trim();
    let word = |rest: &mut &str, expected: &str| {
        *rest = rest.trim_start().strip_prefix(expected).unwrap_or_else(|| panic!("{line}")).trim_start();
        let (value, behind) = rest.split_once(char::is_whitespace).unwrap();
        *rest = behind.trim_start();
        time(value)
    };
    let mut from_ms = 0;
    let (to_ms, step_ms, query);
    if let Some(mut rest) = rest.strip_prefix("instant") {
        from_ms = if rest.trim_start().starts_with("at") { word(&mut rest, "at") } else { from_ms };
        (to_ms, step_ms, query) = (from_ms, None, rest);
    } else {
        let mut rest = rest.strip_prefix("range").unwrap();
        from_ms = word(&mut rest, "from");
        to_ms = word(&mut rest, "to");
        step_ms = Some(word(&mut rest, "step"));
        query = rest;
    }
    let mut eval = Eval {
        query: query.trim().to_owned(),
        from_ms,
        to_ms,
        step_ms,
        fails: how == "eval_fail",
        is_ordered: how == "eval_ordered",
        warnings: Notes { any: how == "eval_warn", ..Notes::default() },
        infos: Notes { any: how == "eval_info", ..Notes::default() },
        scalar: None,
        text: None,
        samples: None,
        series: Vec::new(),
    };
    for line in block {
        if line.starts_with("expected_fail") {
            continue;
        }
        if let Some(expected) = line.strip_prefix("expect ") {
            let expected = expected.trim_start();
            if expected.starts_with("fail") {
                eval.fails = true;
            } else if let Some(rest) = expected.strip_prefix("warn") {
                eval.warnings.read(rest);
            } else if let Some(rest) = expected.strip_prefix("info") {
                eval.infos.read(rest);
            } else if expected.starts_with("no_warn") {
                eval.warnings.none = true;
            } else if expected.starts_with("no_info") {
                eval.infos.none = true;
            } else if expected.starts_with("ordered") {
                eval.is_ordered = true;
            } else if let Some(text) = expected.strip_prefix("string") {
                let Kind::Text(text) = parse(text).unwrap().kind else { panic!("{line}") };
                eval.text = Some(text);
            } else if let Some(mut rest) = expected.strip_prefix("range vector") {
                let line = format!("{rest} .");
                rest = &line;
                let from = word(&mut rest, "from");
                word(&mut rest, "to");
                eval.samples = Some((from, word(&mut rest, "step")));
            }
        } else if let Ok(number) = line.parse::<f64>() {
            eval.scalar = Some(number);
        } else {
            eval.series.push(series(line));
        }
    }
    eval
}

/// Milliseconds of a duration, or of seconds.
pub fn time(text: &str) -> i64 {
    let Kind::Number(number) = parse(text).unwrap_or_else(|error| panic!("{text}: {error}")).kind else {
        panic!("{text}")
    };
    (number.0 * 1000.0).round() as i64
}

/// `metric{label="value"} 1 2 3`
fn series(line: &str) -> (Labels, Vec<Item>) {
    let mut quote = None;
    let mut is_escaped = false;
    let mut is_inside = false;
    let end = line.find(|one: char| {
        match quote {
            Some(open) => {
                if one == open && !is_escaped {
                    quote = None;
                }
                is_escaped = one == '\\' && !is_escaped && open != '`';
            }
            None if matches!(one, '"' | '\'' | '`') => quote = Some(one),
            None => is_inside = (is_inside || one == '{') && one != '}',
        }
        quote.is_none() && !is_inside && one.is_whitespace()
    });
    let (metric, values) = line.split_at(end.unwrap_or(line.len()));
    (labels(metric), items(values))
}

fn labels(metric: &str) -> Labels {
    // Nothing but labels stands there, but a selector without any is none.
    let query = match metric.split_once('{') {
        None => metric.to_owned(),
        Some((name, rest)) => {
            let inner = rest.trim().strip_suffix('}').unwrap().trim().trim_end_matches(',');
            let comma = if inner.is_empty() { "" } else { "," };
            format!("{name}{{{inner}{comma}some=\"thing\"}}")
        }
    };
    let Kind::Selector(selector) = parse(&query).unwrap_or_else(|error| panic!("{query}: {error}")).kind
    else {
        panic!("{metric}")
    };
    let pairs = selector.matchers.iter().filter(|matcher| matcher.name() != "some");
    Labels::new(pairs.map(|matcher| (matcher.name(), matcher.value()))).unwrap()
}

/// `1 2+1x3 _ _x4 stale {{…}}x2 {{…}}+{{…}}x3`
fn items(text: &str) -> Vec<Item> {
    let mut plain = String::new();
    let mut natives = Vec::new();
    let mut rest = text;
    while let Some((before, behind)) = rest.split_once("{{") {
        plain.push_str(before);
        plain.push('H');
        let (inner, behind) = behind.split_once("}}").unwrap();
        natives.push(native(inner));
        rest = behind;
    }
    plain.push_str(rest);
    let mut natives = natives.into_iter();
    let mut found = Vec::new();
    for word in plain.split_whitespace() {
        let (value, times) = match word.rsplit_once('x') {
            Some((value, times)) => (value, Some(times.parse::<usize>().unwrap())),
            None => (word, None),
        };
        if value == "_" {
            found.extend(vec![Item::None; times.unwrap_or(1)]);
            continue;
        }
        let count = times.map_or(1, |times| times + 1);
        if value.starts_with('H') {
            let (mut one, is_hinted) = natives.next().unwrap();
            let step = (value.len() > 1).then(|| natives.next().unwrap().0);
            for _ in 0..count {
                found.push(Item::Native(Arc::new(one.clone()), is_hinted));
                if let Some(step) = &step {
                    one = if value.contains('-') { one.minus(step) } else { one.plus(step) }.unwrap();
                }
            }
            continue;
        }
        let (mut value, step) = if value == "stale" { (STALE, 0.0) } else { with_step(value) };
        for _ in 0..count {
            found.push(Item::Float(value));
            if step != 0.0 {
                value += step;
            }
        }
    }
    found
}

/// `schema:1 sum:4 count:3 buckets:[1 2]`
fn native(text: &str) -> (Histogram, bool) {
    let mut parts = Parts::default();
    let mut is_hinted = false;
    let mut offsets = [0; 2];
    let mut buckets: [Vec<f64>; 2] = Default::default();
    let mut rest = text.trim();
    while let Some((key, behind)) = rest.split_once(':') {
        let value;
        if let Some(inner) = behind.strip_prefix('[') {
            (value, rest) = inner.split_once(']').unwrap();
        } else {
            (value, rest) = behind.split_once(char::is_whitespace).unwrap_or((behind, ""));
        }
        rest = rest.trim_start();
        let number = || value.parse::<f64>().unwrap_or_else(|_| panic!("{text}"));
        let numbers = || value.split_whitespace().map(|one| one.parse().unwrap()).collect::<Vec<f64>>();
        match key.trim() {
            "schema" => parts.schema = value.parse().unwrap(),
            "sum" => parts.sum = number(),
            "count" => parts.count = number(),
            "z_bucket" => parts.zero_count = number(),
            "z_bucket_w" => parts.zero_threshold = number(),
            "custom_values" => parts.bounds = numbers().into(),
            "offset" => offsets[0] = value.parse().unwrap(),
            "n_offset" => offsets[1] = value.parse().unwrap(),
            "buckets" => buckets[0] = numbers(),
            "n_buckets" => buckets[1] = numbers(),
            "counter_reset_hint" => {
                is_hinted = true;
                parts.hint = match value {
                    "reset" => Hint::Reset,
                    "not_reset" => Hint::NotReset,
                    "gauge" => Hint::Gauge,
                    _ => Hint::Unknown,
                };
            }
            _ => panic!("{text}"),
        }
    }
    let [positive, negative] = buckets;
    parts.positive = (offsets[0]..).zip(positive).collect();
    parts.negative = (offsets[1]..).zip(negative).collect();
    (Histogram::new(parts).unwrap_or_else(|error| panic!("{text}: {error}")), is_hinted)
}

/// `2`, or `2-0.5`.
fn with_step(text: &str) -> (f64, f64) {
    if let Ok(value) = text.parse() {
        return (value, 0.0);
    }
    let signs = text.char_indices().skip(1).filter(|(_, one)| matches!(one, '+' | '-'));
    let both = signs.filter_map(|(at, _)| Some((text[..at].parse().ok()?, text[at..].parse().ok()?)));
    both.last().unwrap_or_else(|| panic!("{text} is no value"))
}
