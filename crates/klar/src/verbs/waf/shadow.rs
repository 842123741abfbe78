//! What stricter rules would have stopped of what was let through, and other rules tried on it: the second half of
//! `klar waf report`, and `klar waf try`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use klar_base::replay::Exception;
use klar_base::shadow::{ShadowedRequest, Tried, TriedRequest};
use klar_config::WafRules;
use klar_run::control::{TriedRules, TryRequest};
use klar_run::report::Failure;
use klar_run::waf::{parameter_of, route_of};
use serde::Serialize;

use super::{add, changed, lines, put, replay};
use crate::cli::WafTry;
use crate::context::{Context, Trouble, wait};
use crate::out::{BAD, FAIR, GOOD, QUIET, paint, words};

/// Levels of the Core Rule Set.
const LEVELS: u8 = 4;
/// So many paths in one folder get one exception for all of it.
const PATHS_MAX: usize = 3;
/// What helps where no exception of one parameter does.
const MORE: &str = "what was found there lies in no parameter that klar.toml can name; `[waf.NAME]` with `allow` and no \
                    `parameter` leaves a rule out on a whole route";
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
    let places = spots(requests);
    if places.is_empty() {
        return;
    }
    printer.data(paint(QUIET, format_args!("{:>8}  {:<7}  where, and by which rules", "requests", "level")));
    for ((level, route, place), (count, rules)) in places.iter().take(SHOWN) {
        let rules: Vec<String> = rules.iter().map(u32::to_string).collect();
        printer.data(format!(
            "{count:>8}  {level:<7}  {} {}  {}",
            words::tame(route),
            words::tame(place),
            paint(QUIET, rules.join(" "))
        ));
    }
    if places.len() > SHOWN {
        printer.data(paint(QUIET, format_args!("and {} more places", places.len() - SHOWN)));
    }
    printer.story(format!("{} `klar waf try --level N`", paint(QUIET, "the exceptions that they need:")));
}

/// From which level on requests would be stopped at one place of a route: how many, and by which rules.
type Spots<'a> = Vec<((u8, &'a str, &'a str), (usize, BTreeSet<u32>))>;

/// The most frequent first.
fn spots(requests: &[ShadowedRequest]) -> Spots<'_> {
    let mut spots: BTreeMap<(u8, &str, &str), (usize, BTreeSet<u32>)> = BTreeMap::new();
    for request in requests {
        let Some(level) = request.found.stopped_from else { continue };
        let route = request.route.as_deref().unwrap_or(&request.sent.target);
        let mut places: BTreeMap<&str, BTreeSet<u32>> = BTreeMap::new();
        for one in request.found.matches.iter().filter(|one| one.level <= level) {
            places.entry(&one.found.place).or_default().insert(one.found.rule);
        }
        for (place, rules) in places {
            let (count, all) = spots.entry((level, route, place)).or_default();
            *count += 1;
            all.extend(rules);
        }
    }
    let mut spots: Spots<'_> = spots.into_iter().collect();
    spots.sort_by_key(|(_, (count, _))| std::cmp::Reverse(*count));
    spots
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
            printer.data(proof(then, exceptions.len()));
        }
    }
    let left = with_good_answer(then.as_ref().unwrap_or(&tried));
    let in_vain = format!("{left} requests with a good answer would be stopped all the same");
    if wanted.write && !exceptions.is_empty() {
        put(context, &changed(context, &exceptions)?)?;
        if left > 0 {
            return Err(Failure::new(in_vain).hint(MORE).into());
        }
    } else if !exceptions.is_empty() {
        let next =
            "`klar waf try … --write` puts these exceptions into klar.toml; look whether it was honest first";
        printer.story(format!("{} {next}", paint(QUIET, "next:")));
    } else if left > 0 {
        printer.story(format!("{} {in_vain}: {MORE}", paint(FAIR, "!")));
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
        Some("core") if wanted.level.is_some() => {
            let failure = Failure::new("klar's own rules have one level").hint("leave `--level` out");
            return Err(Trouble::usage(failure));
        }
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
/// paths of a folder, of the same rule and parameter, become the folder. What was found in no parameter gets none: without
/// one a rule would be off on the whole path, for every attack.
fn exceptions(stopped: &[TriedRequest]) -> Vec<Exception> {
    let mut paths_of: BTreeMap<(String, u32), BTreeSet<String>> = BTreeMap::new();
    for request in stopped.iter().filter(|request| request.status < 400) {
        let Some(route) = route_of(&request.path) else { continue };
        for one in &request.matches {
            if let Some(parameter) = parameter_of(&one.place) {
                paths_of.entry((parameter, one.rule)).or_default().insert(route.clone());
            }
        }
    }
    let mut rules_at: BTreeMap<(String, String), Vec<u32>> = BTreeMap::new();
    for ((parameter, rule), paths) in paths_of {
        for route in widened(paths) {
            rules_at.entry((route, parameter.clone())).or_default().push(rule);
        }
    }
    let exception = |((route, parameter), allow)| Exception { route, parameter: Some(parameter), allow };
    rules_at.into_iter().map(exception).collect()
}

/// The folders in which there are more than [`PATHS_MAX`] of these paths, the deepest that will do, and the other paths.
fn widened(mut paths: BTreeSet<String>) -> BTreeSet<String> {
    let depth = |path: &str| path.matches('/').count();
    let folder = |path: &str, deep: usize| {
        let end = path.match_indices('/').nth(deep).map_or(path.len(), |(at, _)| at);
        format!("{}/*", path.get(..end).unwrap_or_default())
    };
    let deepest = paths.iter().map(|path| depth(path)).max().unwrap_or(0);
    for deep in (0..deepest).rev() {
        let mut within: BTreeMap<String, usize> = BTreeMap::new();
        for path in paths.iter().filter(|path| depth(path) > deep) {
            *within.entry(folder(path, deep)).or_default() += 1;
        }
        let is_wide = |path: &String| {
            depth(path) > deep && within.get(&folder(path, deep)).is_some_and(|count| *count > PATHS_MAX)
        };
        paths =
            paths.iter().map(|path| if is_wide(path) { folder(path, deep) } else { path.clone() }).collect();
    }
    paths
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
        let request = stopped.iter().filter(|request| request.status < 400).find(|request| {
            route_of(&request.path).is_some_and(|path| takes(exception, &path))
                && request.matches.iter().any(|one| parameter_of(&one.place).as_ref() == Some(parameter))
        })?;
        Some((request.request_id.clone(), parameter.clone()))
    };
    exceptions.iter().filter_map(example).collect()
}

/// Those that would be stopped though the app had a good answer for them.
fn with_good_answer(tried: &Tried) -> usize {
    tried.stopped.iter().filter(|request| request.status < 400).count()
}

/// What the exceptions come to.
fn proof(then: &Tried, exceptions: usize) -> String {
    let well = with_good_answer(then);
    let left = then.stopped.len() - well;
    let mark = if well == 0 { paint(GOOD, "✓".to_owned()) } else { paint(BAD, "✗".to_owned()) };
    let mut out = format!(
        "{mark} replayed: with these, {well} of the requests with a good answer would be stopped, and {left} others"
    );
    for attacked in &then.attacks {
        out.push_str(&format!("\n{}", replay::at(attacked)));
    }
    let others = exceptions.saturating_sub(then.attacks.len());
    if others > 0 {
        out.push_str(&format!("\n{} attacks at {others} more places were not tried", paint(FAIR, "!")));
    }
    out
}

#[cfg(test)]
mod tests {
    use klar_base::signal::WafMatch;

    use super::*;

    fn stopped(path: &str, status: u16, matches: &[(u32, &str)]) -> TriedRequest {
        let one = |(rule, place): &(u32, &str)| WafMatch {
            rule: *rule,
            message: String::new(),
            place: (*place).to_owned(),
        };
        TriedRequest {
            request_id: path.to_owned(),
            method: "GET".into(),
            path: path.to_owned(),
            remote: "203.0.113.7".into(),
            status,
            matches: matches.iter().map(one).collect(),
        }
    }

    #[test]
    fn exceptions_are_as_narrow_as_they_can_be() {
        let exception = |route: &str, parameter: &str, allow: &[u32]| Exception {
            route: route.into(),
            parameter: Some(parameter.into()),
            allow: allow.to_vec(),
        };
        let mut requests = vec![
            stopped("/a", 200, &[(1, "ARGS:q"), (2, "ARGS:q"), (3, "TX:score"), (4, "ARGS_NAMES:q")]),
            stopped("/b", 302, &[(5, "REQUEST_HEADERS:X-A")]),
            stopped("/c", 404, &[(6, "ARGS:q")]),
            stopped("/s%C3%B8k", 200, &[(7, "ARGS:q"), (7, "ARGS:my name")]),
            stopped("/%ff", 200, &[(8, "ARGS:q")]),
        ];
        let wanted = [
            exception("/a", "q", &[1, 2]),
            exception("/b", "header:X-A", &[5]),
            exception("/søk", "q", &[7]),
        ];
        assert_eq!(exceptions(&requests), wanted);
        assert_eq!(attacked(&requests, &wanted).len(), 3);
        // One rule at many paths is one thing, several rules at one path each are not.
        requests =
            (1..5).map(|number| stopped(&format!("/item/{number}/edit"), 200, &[(9, "ARGS:q")])).collect();
        requests.extend((1..5).map(|number| stopped(&format!("/x{number}"), 200, &[(number, "ARGS:q")])));
        let mut wanted = vec![exception("/item/*", "q", &[9])];
        wanted.extend((1..5).map(|number| exception(&format!("/x{number}"), "q", &[number])));
        assert_eq!(exceptions(&requests), wanted);
        assert!(exceptions(&[]).is_empty());
    }

    #[test]
    fn folders_of_many_paths() {
        let set = |paths: &[&str]| paths.iter().map(|path| (*path).to_owned()).collect::<BTreeSet<_>>();
        for (paths, wide) in [
            (&["/a", "/b", "/c"][..], &["/a", "/b", "/c"][..]),
            (&["/a", "/b", "/c", "/d"], &["/*"]),
            (&["/i/1", "/i/2", "/i/3", "/i/4", "/x"], &["/i/*", "/x"]),
            (&["/i/1/e", "/i/2/e", "/i/3/e", "/i/4/e", "/i"], &["/i", "/i/*"]),
            (&["/"], &["/"]),
        ] {
            assert_eq!(widened(set(paths)), set(wide), "{paths:?}");
        }
    }
}
