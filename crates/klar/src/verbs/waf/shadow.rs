//! What stricter rules would have stopped of what was let through, and other rules tried on it: the second half of
//! `klar waf report`, and `klar waf try`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use klar_base::replay::Exception;
use klar_base::shadow::{ShadowedRequest, Tried, TriedRequest};
use klar_config::WafRules;
use klar_run::control::{TriedRules, TryRequest};
use klar_run::waf::parameter_of;
use serde::Serialize;

use super::{add, changed, lines, put, replay};
use crate::cli::WafTry;
use crate::context::{Context, Trouble, wait};
use crate::out::{BAD, FAIR, GOOD, QUIET, paint, words};

/// Levels of the Core Rule Set.
const LEVELS: u8 = 4;
/// So many paths in one folder get one exception for all of it.
const PATHS_MAX: usize = 3;
/// So many places are shown.
const SHOWN: usize = 20;

/// What a level would have stopped.
#[derive(Debug, Default, Serialize)]
struct Level {
    level: u8,
    looked_at: usize,
    would_be_stopped: usize,
    /// Of those, the app answered so many with 1xx to 3xx: they may have been honest.
    answered_well: usize,
    visitors: usize,
}

fn levels(requests: &[ShadowedRequest]) -> Vec<Level> {
    let level = |level| {
        let stopped: Vec<&ShadowedRequest> = requests
            .iter()
            .filter(|request| request.found.stopped_from.is_some_and(|from| from <= level))
            .collect();
        Level {
            level,
            looked_at: requests.len(),
            would_be_stopped: stopped.len(),
            answered_well: stopped.iter().filter(|request| request.status < 400).count(),
            visitors: stopped.iter().map(|request| &request.sent.remote).collect::<BTreeSet<_>>().len(),
        }
    };
    (1..=LEVELS).map(level).collect()
}

/// Says what each level would have stopped.
pub fn report(context: &Context, requests: &[ShadowedRequest]) {
    let printer = &context.printer;
    let levels = levels(requests);
    if printer.json {
        levels.iter().for_each(|level| printer.value(level));
        return;
    }
    let Some(first) = requests.first() else { return };
    printer.data(paint(
        QUIET,
        format_args!(
            "\nof {} requests of the last {} that were let through, stricter rules would have stopped",
            requests.len(),
            ago(first.time_unix_ms)
        ),
    ));
    for Level { level, looked_at, would_be_stopped, answered_well, visitors } in levels {
        let style = if would_be_stopped == 0 { GOOD } else { FAIR };
        let share = 100.0 * would_be_stopped as f64 / looked_at as f64;
        let more = format!("{share:.1} %, of {visitors} visitors; {answered_well} had a good answer");
        let more = if would_be_stopped == 0 { String::new() } else { more };
        printer.data(format!(
            "{}  level {level}  {}",
            paint(style, format_args!("{would_be_stopped:>8}")),
            paint(QUIET, more)
        ));
    }
    printer.story(format!("{} `klar waf try --level N`", paint(QUIET, "what, where, and the exceptions:")));
}

fn ago(unix_ms: u64) -> String {
    words::age(words::now_unix_ms().saturating_sub(unix_ms))
}

/// What rules would stop at one place.
#[derive(Debug)]
struct Place {
    path: String,
    place: String,
    rules: Vec<u32>,
    requests: usize,
    answered_well: usize,
    visitors: usize,
}

/// `klar waf try`.
pub fn attempt(context: &Context, wanted: &WafTry) -> Result<(), Trouble> {
    let config = context.load()?;
    let (rules, name, level) = rules(config.config.edge.waf_rules, config.config.edge.waf_paranoia, wanted)?;
    let ask = |exceptions: &[Exception], attacked| {
        let request =
            TryRequest { rules: rules.clone(), paranoia: level, exceptions: exceptions.to_vec(), attacked };
        ask(context, &request)
    };
    let tried = ask(&[], Vec::new())?;
    let exceptions = exceptions(&tried.stopped);
    let then = if exceptions.is_empty() {
        None
    } else {
        Some(ask(&exceptions, attacked(&tried.stopped, &exceptions))?)
    };
    let printer = &context.printer;
    if printer.json {
        printer.value(&serde_json::json!({
            "rules": name, "level": level, "tried": tried, "exceptions": exceptions, "then": then,
        }));
    } else {
        say(context, &name, level, &tried);
        for exception in &exceptions {
            printer.data(format!("\n{}", lines("NAME", exception)));
        }
        if let Some(then) = &then {
            printer.data(String::new());
            printer.data(proof(then));
        }
    }
    if wanted.write && !exceptions.is_empty() {
        return put(context, &changed(context, &exceptions)?);
    }
    if !exceptions.is_empty() {
        printer.story(format!(
            "{} `klar waf try … --write` puts these exceptions into klar.toml; look whether it was honest first",
            paint(QUIET, "next:")
        ));
    }
    Ok(())
}

/// Which rules are tried, what people call them, and at which level.
fn rules(in_force: WafRules, paranoia: u32, wanted: &WafTry) -> Result<(TriedRules, String, u8), Trouble> {
    let next = match in_force {
        WafRules::Core => 1,
        WafRules::Crs => u8::try_from(paranoia).unwrap_or(1).saturating_add(1).min(LEVELS),
    };
    let crs = || (TriedRules::Crs, "the Core Rule Set".to_owned());
    let (rules, name) = match wanted.rules.as_deref() {
        None | Some("crs") => crs(),
        Some("core") => (TriedRules::Core, "klar's own rules".to_owned()),
        Some(path) => (TriedRules::Files(add::read(Path::new(path))?), format!("the rules of {path}")),
    };
    let level = wanted.level.unwrap_or(if matches!(rules, TriedRules::Crs) { next } else { 1 });
    Ok((rules, name, level))
}

fn ask(context: &Context, request: &TryRequest) -> Result<Tried, Trouble> {
    let key = context.key()?;
    Ok(wait(context.client().try_rules(&key, request))??)
}

fn say(context: &Context, name: &str, level: u8, tried: &Tried) {
    let printer = &context.printer;
    let since = tried.times.map(|(from, _)| format!(" of the last {}", ago(from))).unwrap_or_default();
    let count = tried.stopped.len();
    let style = if count == 0 { GOOD } else { FAIR };
    printer.data(format!(
        "{} of {} requests{since} that were let through would be stopped by {} at level {level}",
        paint(style, count),
        tried.judged,
        words::tame(name),
    ));
    if let Some(refused) = &tried.refused {
        let first = words::tame(&refused.first);
        printer.data(format!("{} {} rules do not run: {first}", paint(FAIR, "!"), refused.count));
    }
    let places = places(&tried.stopped);
    if places.is_empty() {
        return;
    }
    printer.data(paint(
        QUIET,
        format_args!("{:>8} {:>8} {:>8}  where, and by which rules", "requests", "answered", "visitors"),
    ));
    for place in places.iter().take(SHOWN) {
        let rules: Vec<String> = place.rules.iter().map(u32::to_string).collect();
        printer.data(format!(
            "{:>8} {:>8} {:>8}  {} {}  {}",
            place.requests,
            place.answered_well,
            place.visitors,
            words::tame(&place.path),
            words::tame(&place.place),
            paint(QUIET, rules.join(" ")),
        ));
    }
    if places.len() > SHOWN {
        printer.data(paint(QUIET, format_args!("and {} more places", places.len() - SHOWN)));
    }
}

/// Where requests would be stopped, the most frequent first.
fn places(stopped: &[TriedRequest]) -> Vec<Place> {
    let mut by_place: BTreeMap<(&str, &str), Vec<(u32, &TriedRequest)>> = BTreeMap::new();
    for request in stopped {
        for one in &request.matches {
            by_place.entry((&request.path, &one.place)).or_default().push((one.rule, request));
        }
    }
    let place = |((path, place), seen): ((&str, &str), Vec<(u32, &TriedRequest)>)| {
        let requests: BTreeMap<&str, &TriedRequest> =
            seen.iter().map(|(_, request)| (&*request.request_id, *request)).collect();
        let rules: BTreeSet<u32> = seen.iter().map(|(rule, _)| *rule).collect();
        Place {
            path: path.to_owned(),
            place: place.to_owned(),
            rules: rules.into_iter().collect(),
            requests: requests.len(),
            answered_well: requests.values().filter(|request| request.status < 400).count(),
            visitors: requests.values().map(|request| &request.remote).collect::<BTreeSet<_>>().len(),
        }
    };
    let mut places: Vec<Place> = by_place.into_iter().map(place).collect();
    places.sort_by_key(|place| std::cmp::Reverse(place.requests));
    places
}

/// The narrowest exceptions for what had a good answer: these rules, this path, this parameter. More than [`PATHS_MAX`]
/// paths of a folder become the folder, and more than so many folders become all. What was found in no parameter is
/// excepted for the path.
fn exceptions(stopped: &[TriedRequest]) -> Vec<Exception> {
    let mut rules_at: BTreeMap<(Option<String>, String), BTreeSet<u32>> = BTreeMap::new();
    for request in stopped.iter().filter(|request| request.status < 400) {
        for one in &request.matches {
            let key = (parameter_of(&one.place), request.path.clone());
            rules_at.entry(key).or_default().insert(one.rule);
        }
    }
    let folder = |path: &str| match path.rsplit_once('/') {
        Some(("", _)) | None => "/*".to_owned(),
        Some((folder, _)) => format!("{folder}/*"),
    };
    let rules_at = joined(rules_at, folder);
    let rules_at = joined(rules_at, |_| "/*".to_owned());
    let exception = |((parameter, route), rules): ((Option<String>, String), BTreeSet<u32>)| Exception {
        route,
        parameter,
        allow: rules.into_iter().collect(),
    };
    rules_at.into_iter().map(exception).collect()
}

type RulesAt = BTreeMap<(Option<String>, String), BTreeSet<u32>>;

/// Puts what is at more than [`PATHS_MAX`] paths with the same `wider` one there.
fn joined(rules_at: RulesAt, wider: impl Fn(&str) -> String) -> RulesAt {
    let mut counts: BTreeMap<(Option<String>, String), usize> = BTreeMap::new();
    for (parameter, path) in rules_at.keys() {
        *counts.entry((parameter.clone(), wider(path))).or_default() += 1;
    }
    let mut joined = RulesAt::new();
    for ((parameter, path), rules) in rules_at {
        let wide = (parameter.clone(), wider(&path));
        let key =
            if counts.get(&wide).is_some_and(|count| *count > PATHS_MAX) { wide } else { (parameter, path) };
        joined.entry(key).or_default().extend(rules);
    }
    joined
}

/// A request for each exception, to put attacks into.
fn attacked(stopped: &[TriedRequest], exceptions: &[Exception]) -> Vec<(String, String)> {
    let takes = |exception: &Exception, path: &str| match exception.route.strip_suffix("/*") {
        Some(folder) => {
            path.strip_prefix(folder).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        }
        None => exception.route == path,
    };
    let example = |exception: &Exception| {
        let parameter = exception.parameter.as_ref()?;
        let request = stopped.iter().find(|request| {
            takes(exception, &request.path)
                && request.matches.iter().any(|one| parameter_of(&one.place).as_ref() == Some(parameter))
        })?;
        Some((request.request_id.clone(), parameter.clone()))
    };
    exceptions.iter().filter_map(example).collect()
}

/// What the exceptions come to.
fn proof(then: &Tried) -> String {
    let well = then.stopped.iter().filter(|request| request.status < 400).count();
    let left = then.stopped.len() - well;
    let mark = if well == 0 { paint(GOOD, "✓".to_owned()) } else { paint(BAD, "✗".to_owned()) };
    let mut out = format!(
        "{mark} replayed: with these, {well} of the requests with a good answer would be stopped, and {left} others"
    );
    for attacked in &then.attacks {
        out.push_str(&format!("\n{}", replay::at(attacked)));
    }
    out
}
