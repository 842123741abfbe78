//! `klar waf`: what the firewall stopped, why, and how to let it through.

mod add;
mod replay;
mod shadow;

use std::collections::BTreeMap;
use std::path::PathBuf;

use klar_base::ServiceName;
use klar_base::replay::Exception;
use klar_base::signal::{AccessRecord, WafFinding, WafVerdict};
use klar_run::control::LogQuery;
use klar_run::report::{Failure, LogLine};
use klar_run::waf::{parameter_of, route_of};
use serde::Serialize;
use serde::de::DeserializeOwned;
use toml_edit::{Array, DocumentMut, Item, Table, value};

pub use add::add;
pub use shadow::attempt;

use super::fix::diff;
use crate::cli::{WafAllow, WafReport};
use crate::context::{Context, Trouble, wait};
use crate::out::{BAD, FAIR, GOOD, QUIET, is_read, paint, words};

/// So many records are looked through for one request.
const RECORDS: usize = 100_000;

/// What a rule has found at one place of a route.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
struct Spot {
    rule: u32,
    route: String,
    place: String,
}

/// How often, and the newest of it.
#[derive(Debug, Default, Serialize)]
struct Seen {
    message: String,
    stopped: u64,
    would_be_stopped: u64,
    noted: u64,
    visitors: usize,
    newest: String,
    #[serde(skip)]
    clients: std::collections::BTreeSet<std::net::IpAddr>,
}

/// `klar waf report`.
pub fn report(context: &Context, wanted: &WafReport) -> Result<(), Trouble> {
    let records = records(context, wanted.records)?;
    let let_through =
        lines_of(context, LogQuery { shadow: true, lines: wanted.records, ..LogQuery::default() })?;
    of_rules_in_force(context, wanted, &spots(&records));
    shadow::report(context, &let_through);
    Ok(())
}

/// What the rules in force have found.
fn of_rules_in_force(context: &Context, wanted: &WafReport, spots: &BTreeMap<Spot, Seen>) {
    let mut sorted: Vec<(&Spot, &Seen)> = spots.iter().collect();
    sorted.sort_by_key(|(_, seen)| std::cmp::Reverse((seen.stopped + seen.would_be_stopped, seen.noted)));
    if context.printer.json {
        #[derive(Serialize)]
        struct Line<'a> {
            #[serde(flatten)]
            spot: &'a Spot,
            #[serde(flatten)]
            seen: &'a Seen,
        }
        sorted.iter().for_each(|(spot, seen)| context.printer.value(&Line { spot, seen }));
        return;
    }
    if sorted.is_empty() {
        let nothing = format!("{} nothing among the last {} requests", paint(GOOD, "✓"), wanted.records);
        context.printer.data(nothing);
        return;
    }
    context.printer.data(paint(
        QUIET,
        format_args!(
            "{:>8} {:>8} {:>8} {:>8}  {:<9} where",
            "stopped", "would be", "noted", "visitors", "rule"
        ),
    ));
    for (spot, seen) in sorted {
        let style = if seen.stopped > 0 { BAD } else { FAIR };
        context.printer.data(format!(
            "{:>8} {:>8} {:>8} {:>8}  {} {} {}  {}",
            seen.stopped,
            seen.would_be_stopped,
            seen.noted,
            seen.clients.len(),
            paint(style, format_args!("{:<9}", spot.rule)),
            words::tame(&spot.route),
            words::tame(&spot.place),
            paint(QUIET, words::tame(&seen.message)),
        ));
    }
    context.printer.story(format!("{} `klar waf explain {}`", paint(QUIET, "why:"), newest(spots)));
}

fn newest(spots: &BTreeMap<Spot, Seen>) -> &str {
    spots.values().map(|seen| seen.newest.as_str()).max().unwrap_or("REQUEST-ID")
}

/// `klar waf explain`.
pub fn explain(context: &Context, id: &str) -> Result<(), Trouble> {
    let records = records(context, RECORDS)?;
    let (record, finding) = find(&records, id)?;
    let exceptions = exceptions(record, finding);
    let all = spots(&records);
    let replayed = replay::ask(context, id, &exceptions)?;
    if context.printer.json {
        let (replayed, not_replayed) = (replayed.as_ref().ok(), replayed.as_ref().err());
        context.printer.value(&serde_json::json!({
            "record": record, "exceptions": exceptions, "replay": replayed, "not_replayed": not_replayed,
        }));
        return Ok(());
    }
    let verdict = match finding.verdict {
        WafVerdict::Blocked => paint(BAD, "was stopped"),
        WafVerdict::Detected => paint(FAIR, "would have been stopped"),
        WafVerdict::Noted => paint(GOOD, "was let through"),
    };
    let score = finding.score.map(|score| format!(", with a score of {score}")).unwrap_or_default();
    context.printer.data(format!(
        "{} {} {verdict}{score}; {} answered by {}",
        record.method,
        words::tame(&record.path),
        record.status,
        record.upstream.as_ref().map_or("the edge".into(), ToString::to_string),
    ));
    if let Ok(replayed) = &replayed {
        let request = replay::request(&replayed.sent);
        let lines = request.lines().map(|line| format!("  {}\n", paint(QUIET, line)));
        context.printer.data(lines.collect::<String>());
    }
    for one in &finding.matches {
        let spot = Spot { rule: one.rule, route: route(record), place: one.place.clone() };
        let others = all.get(&spot).map_or(0, |seen| seen.stopped + seen.would_be_stopped + seen.noted);
        context.printer.data(format!(
            "  {}  {}  {}  {}",
            paint(FAIR, one.rule),
            words::tame(&one.place),
            words::tame(&one.message),
            paint(QUIET, format_args!("{others} such among the requests on record")),
        ));
        let reasons = replayed.iter().flat_map(|replayed| &replayed.replayed.now.matches);
        let mut shown = None;
        for reason in reasons.filter(|reason| (reason.rule, &reason.place) == (one.rule, &one.place)) {
            let is_known = shown.replace(&reason.value) == Some(&reason.value);
            let steps = replay::reason(reason, is_known);
            context
                .printer
                .data(steps.lines().map(|line| format!("    {line}\n")).collect::<String>().trim_end());
        }
    }
    for exception in &exceptions {
        context.printer.data(format!("\n{}", lines("NAME", exception)));
    }
    match &replayed {
        Ok(replayed) if !exceptions.is_empty() => {
            context.printer.data(format!("\n{}", replay::proof(replayed)))
        }
        Ok(_) => {}
        Err(why) => context.printer.story(format!("{} not replayed: {}", paint(FAIR, "?"), words::tame(why))),
    }
    if exceptions.is_empty() {
        context.printer.story("no exception of one parameter lets this through");
    } else {
        context.printer.story(format!("{} `klar waf allow {id}`", paint(QUIET, "if it was honest:")));
    }
    Ok(())
}

/// `klar waf allow`.
pub fn allow(context: &Context, wanted: &WafAllow) -> Result<(), Trouble> {
    let records = records(context, RECORDS)?;
    let (record, finding) = find(&records, &wanted.id)?;
    let exceptions = exceptions(record, finding);
    if exceptions.is_empty() {
        return Err(Failure::new("what its rules found lies in no parameter, header or cookie")
            .hint("`[waf.NAME]` with `allow` and no `parameter` leaves a rule out on a whole route")
            .into());
    }
    let changed = changed(context, &exceptions)?;
    match replay::ask(context, &wanted.id, &exceptions)? {
        Ok(replayed) => {
            context.printer.story(replay::proof(&replayed));
            let is_in_vain =
                !replay::passes(&replayed.replayed.now) && !replay::passes(&replayed.replayed.then);
            if is_in_vain && !wanted.dry_run {
                return Err(Failure::new("klar.toml is as it was: this would not let the request through")
                    .hint("`[waf.NAME]` with `allow` and no `parameter` leaves a rule out on a whole route")
                    .into());
            }
        }
        Err(why) => {
            context.printer.story(format!("{} not replayed: {}", paint(FAIR, "?"), words::tame(&why)))
        }
    }
    if wanted.dry_run {
        return Ok(());
    }
    put(context, &changed)
}

/// klar.toml with these exceptions, which is shown, and where it lies.
fn changed(context: &Context, exceptions: &[Exception]) -> Result<(PathBuf, String), Trouble> {
    // What is wrong with the file already is said first.
    context.load()?;
    let path = context.folder().join(klar_config::FILE_NAME);
    let before = std::fs::read_to_string(&path).map_err(Trouble::system(path.display()))?;
    let after = with(&before, exceptions).map_err(|why| Trouble::from(Failure::new(why)))?;
    klar_config::Config::parse(&after, klar_config::FILE_NAME, &context.global.env)?;
    let change = diff(&before, &after);
    if context.printer.json {
        context.printer.story(change.trim_end());
    } else {
        context.printer.data(change.trim_end());
    }
    Ok((path, after))
}

fn put(context: &Context, (path, text): &(PathBuf, String)) -> Result<(), Trouble> {
    klar_run::durable::replace(path, text.as_bytes()).map_err(Trouble::system(path.display()))?;
    context
        .printer
        .story(format!("{} klar.toml is changed; `klar deploy` puts it in force", paint(GOOD, "✓")));
    Ok(())
}

/// The newest records of the app, the oldest first.
fn records(context: &Context, count: usize) -> Result<Vec<AccessRecord>, Trouble> {
    lines_of(context, LogQuery { access: true, lines: count, ..LogQuery::default() })
}

/// What the core has written down, line by line.
fn lines_of<T: DeserializeOwned>(context: &Context, query: LogQuery) -> Result<Vec<T>, Trouble> {
    let key = context.key()?;
    let mut all = Vec::new();
    let take = |line: LogLine| {
        all.extend(serde_json::from_str::<T>(&line.text).ok());
        is_read()
    };
    wait(context.client().logs(&key, &query, take))??;
    Ok(all)
}

fn find<'a>(records: &'a [AccessRecord], id: &str) -> Result<(&'a AccessRecord, &'a WafFinding), Trouble> {
    let record = records.iter().rev().find(|record| record.request_id == id).ok_or_else(|| {
        let failure = Failure::new(format!("there is no request {id} among the last {}", records.len()));
        Trouble::from(
            failure.hint("`klar waf report` names requests; the id is on the page that a visitor sees"),
        )
    })?;
    let finding = record.waf.as_ref().ok_or_else(|| {
        Trouble::from(Failure::new(format!(
            "the firewall had nothing to say of {} {} ({})",
            record.method, record.path, record.status
        )))
    })?;
    Ok((record, finding))
}

fn route(record: &AccessRecord) -> String {
    record.route.clone().unwrap_or_else(|| record.path.clone())
}

fn spots(records: &[AccessRecord]) -> BTreeMap<Spot, Seen> {
    let mut spots: BTreeMap<Spot, Seen> = BTreeMap::new();
    for record in records {
        let Some(finding) = &record.waf else { continue };
        for one in &finding.matches {
            let spot = Spot { rule: one.rule, route: route(record), place: one.place.clone() };
            let seen = spots.entry(spot).or_default();
            match finding.verdict {
                WafVerdict::Blocked => seen.stopped += 1,
                WafVerdict::Detected => seen.would_be_stopped += 1,
                WafVerdict::Noted => seen.noted += 1,
            }
            seen.clients.insert(record.client);
            seen.visitors = seen.clients.len();
            seen.message.clone_from(&one.message);
            seen.newest.clone_from(&record.request_id);
        }
    }
    spots
}

/// The narrowest exceptions that keep the rules of a finding from what they found: one for each parameter, for the path
/// that was asked and no other.
fn exceptions(record: &AccessRecord, finding: &WafFinding) -> Vec<Exception> {
    let mut by_parameter: BTreeMap<String, Vec<u32>> = BTreeMap::new();
    let Some(route) = route_of(&record.path) else { return Vec::new() };
    for one in &finding.matches {
        if let Some(parameter) = parameter_of(&one.place) {
            let rules = by_parameter.entry(parameter).or_default();
            if !rules.contains(&one.rule) {
                rules.push(one.rule);
            }
        }
    }
    let exception =
        |(parameter, allow)| Exception { route: route.clone(), parameter: Some(parameter), allow };
    by_parameter.into_iter().map(exception).collect()
}

fn lines(name: &str, exception: &Exception) -> String {
    let allow: Vec<String> = exception.allow.iter().map(u32::to_string).collect();
    let parameter = exception.parameter.as_ref();
    let parameter = parameter.map(|parameter| format!("parameter = \"{}\"\n", words::tame(parameter)));
    format!(
        "[waf.{name}]\nroute = \"{}\"\n{}allow = [{}]",
        words::tame(&exception.route),
        parameter.unwrap_or_default(),
        allow.join(", ")
    )
}

/// The file with these exceptions. One that is there for the same place gets the rules that it lacks.
fn with(file: &str, exceptions: &[Exception]) -> Result<String, String> {
    let mut file: DocumentMut = file.parse().map_err(|why: toml_edit::TomlError| why.to_string())?;
    let waf = file.as_table_mut().entry("waf").or_insert_with(|| {
        let mut table = Table::new();
        table.set_implicit(true);
        Item::Table(table)
    });
    let waf = waf.as_table_mut().ok_or("`waf` is no table in klar.toml")?;
    for exception in exceptions {
        let is_same = |item: &Item| {
            let text = |key: &str| item.get(key).and_then(Item::as_str).map(str::to_owned);
            text("route").as_deref() == Some(&exception.route)
                && text("parameter") == exception.parameter
                && item.get("pattern").is_none()
        };
        if let Some((_, known)) = waf.iter_mut().find(|(_, item)| is_same(item)) {
            if let Some(allow) = known.get_mut("allow").and_then(Item::as_array_mut) {
                let lacking =
                    |rule: &&u32| !allow.iter().any(|one| one.as_integer() == Some(i64::from(**rule)));
                let lacking: Vec<u32> = exception.allow.iter().filter(lacking).copied().collect();
                lacking.into_iter().for_each(|rule| allow.push(i64::from(rule)));
            }
            continue;
        }
        let mut table = Table::new();
        table.insert("route", value(&exception.route));
        if let Some(parameter) = &exception.parameter {
            table.insert("parameter", value(parameter));
        }
        let allow: Array = exception.allow.iter().map(|rule| i64::from(*rule)).collect();
        table.insert("allow", value(allow));
        waf.insert(&free_name(waf, exception), Item::Table(table));
    }
    Ok(file.to_string())
}

/// A name that says what it is for: the end of the path and the parameter.
fn free_name(taken: &Table, exception: &Exception) -> String {
    let parameter = exception.parameter.as_deref().unwrap_or_default();
    let path = exception.route.rsplit('/').find(|part| !part.is_empty()).unwrap_or("root");
    let name: String = format!("{path}-{parameter}")
        .chars()
        .map(|one| if one.is_ascii_alphanumeric() { one.to_ascii_lowercase() } else { '-' })
        .collect();
    let name = name.trim_matches(|one: char| one == '-' || one.is_ascii_digit());
    let name = if name.is_empty() { "place" } else { name };
    // There is room for a number behind it.
    let name: String = name.chars().take(24).collect();
    (1..)
        .map(|number| if number == 1 { name.clone() } else { format!("{name}-{number}") })
        .find(|name| !taken.contains_key(name) && ServiceName::new(name.as_str()).is_ok())
        .unwrap_or_else(|| "place".into())
}

#[cfg(test)]
mod tests {
    use klar_base::signal::WafMatch;

    use super::*;

    fn record(path: &str, places: &[(u32, &str)]) -> AccessRecord {
        let one = |(rule, place): &(u32, &str)| WafMatch {
            rule: *rule,
            message: "SQL".into(),
            place: (*place).into(),
        };
        let finding = WafFinding {
            verdict: WafVerdict::Blocked,
            score: Some(5),
            matches: places.iter().map(one).collect(),
        };
        serde_json::from_value(serde_json::json!({
            "time_unix_ms": 1, "request_id": "id", "app": null, "client": "203.0.113.7", "protocol": "h2", "tls": true,
            "method": "POST", "host": "shop.test", "path": path, "route": "/api/*", "status": 403,
            "decided_by": "refused", "bytes_in": 0, "bytes_out": 0, "duration_us": 1, "upstream": null, "attempts": 0,
            "error": null, "aborted": false, "user_agent": null, "waf": finding,
        }))
        .unwrap()
    }

    #[test]
    fn the_narrowest_exceptions() {
        let record = record(
            "/api/notes/7",
            &[
                (942_100, "ARGS:json.text"),
                (941_100, "ARGS:json.text"),
                (942_100, "ARGS:json.b"),
                (949_110, "TX:score"),
            ],
        );
        let found = exceptions(&record, record.waf.as_ref().unwrap());
        let wanted =
            [("json.b", vec![942_100]), ("json.text", vec![942_100, 941_100])].map(|(parameter, allow)| {
                Exception { route: "/api/notes/7".into(), parameter: Some(parameter.into()), allow }
            });
        assert_eq!(found, wanted);
        assert!(
            exceptions(&record, &WafFinding { matches: vec![], ..record.waf.clone().unwrap() }).is_empty()
        );
    }

    #[test]
    fn the_file_keeps_what_it_has() {
        let file = "# ours\n[app]\nname = \"shop\" # why\n";
        let one =
            Exception { route: "/api/notes".into(), parameter: Some("json.text".into()), allow: vec![1] };
        let first = with(file, std::slice::from_ref(&one)).unwrap();
        let wanted =
            "[waf.notes-json-text]\nroute = \"/api/notes\"\nparameter = \"json.text\"\nallow = [1]\n";
        assert_eq!(first, format!("{file}\n{wanted}"));
        let more = Exception { allow: vec![1, 2], ..one.clone() };
        let second = with(&first, &[more]).unwrap();
        assert!(second.contains("allow = [1, 2]") && second.matches("[waf.").count() == 1, "{second}");
        let other = Exception { route: "/api/notes/*".into(), ..one };
        assert!(with(&second, &[other]).unwrap().contains("[waf."), "another place");
    }

    #[test]
    fn what_is_alike_is_counted_together() {
        let records = [record("/api/a", &[(1, "ARGS:q")]), record("/api/b", &[(1, "ARGS:q"), (2, "ARGS:q")])];
        let spots = spots(&records);
        let count = |rule| spots[&Spot { rule, route: "/api/*".into(), place: "ARGS:q".into() }].stopped;
        assert_eq!((count(1), count(2), spots.len()), (2, 1, 2));
    }
}
