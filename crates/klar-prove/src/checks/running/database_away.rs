//! The database goes away for a while.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::logs::new_lines;
use super::{HEALTH, LIVE, READY, anybody, good_reads, leak_in, not_back, pids, read};
use crate::check::{About, Disturbs, Fault, Finding, Need, Probe, Unable};
use crate::checks::attacks::aim::{is_little, told_of};
use crate::words;
use crate::world::World;
use crate::world::http::Ask;

/// The app without its database.
pub struct DatabaseAway;

/// What was answered before, meanwhile and after.
#[derive(Debug, Serialize, Deserialize)]
pub struct Seen {
    /// Reading requests that were answered well before.
    good_before: usize,
    /// Meanwhile.
    meanwhile: Vec<Meanwhile>,
    /// Health endpoints meanwhile: path, status, milliseconds.
    health: Vec<(String, u16, u64)>,
    /// Paths that were not answered well again within a minute.
    not_back: Vec<String>,
    /// Whether the same processes still run.
    same_processes: bool,
    /// JSON lines of errors in the log since, with a message and with an id; `None` when the log could not be read.
    logged: Option<usize>,
    logged_with_id: usize,
    /// Operations that failed and of which an error line has the path, or the trace id of the request.
    logged_for: usize,
}

#[derive(Debug, Serialize, Deserialize)]
struct Meanwhile {
    path: String,
    /// 0: no answer.
    status: u16,
    ms: u64,
    retry_after: bool,
    leak: Option<String>,
}

impl Meanwhile {
    fn failed(&self) -> bool {
        !(200..400).contains(&self.status)
    }
}

/// An answer later than this is one that nobody waits for.
const PROMPT: Duration = Duration::from_secs(10);
const BACK: Duration = Duration::from_secs(60);
/// The database is away no longer than this and one answer more, however many operations there are.
const AWAY: Duration = Duration::from_secs(60);
/// Nor are more health endpoints asked after this; those that tell whether it is ready come first, and then lives.
const HEALTH_TOLD: Duration = Duration::from_secs(30);
/// Lines that are read back; what is new among them is told by comparing, not by counting.
const LINES: usize = 20_000;

impl Probe for DatabaseAway {
    type Seen = Seen;

    const ABOUT: About = About {
        id: "database-away",
        version: 2,
        question: "Without its database, does the app say 503 at once, keep its secrets, and come back by itself?",
        does: "Stops the database of the rig, asks every reading operation and the health endpoints, reads the log, starts the database again and waits for the app.",
        shows: &[
            ("err.db-unavailable-503", "status"),
            ("err.db-unavailable-503", "prompt"),
            ("err.db-unavailable-503", "recovery"),
            ("err.exception-handling", "next-request"),
            ("err.logged", "logged"),
            ("mon.health-checks", "ready"),
            ("mon.health-checks", "live"),
        ],
        needs: &[Need::Site, Need::Klar],
        disturbs: Disturbs::Stops,
        good_for: Duration::from_secs(7 * 24 * 3600),
        limit: Duration::from_secs(240),
        faults: &[
            Fault::Foil("500-without-database", ("err.db-unavailable-503", "status")),
            Fault::Foil("hangs-without-database", ("err.db-unavailable-503", "prompt")),
            Fault::Foil("never-back", ("err.db-unavailable-503", "recovery")),
            Fault::Foil("never-back", ("err.exception-handling", "next-request")),
            Fault::Foil("silent-log", ("err.logged", "logged")),
            Fault::Foil("ready-lies", ("mon.health-checks", "ready")),
            Fault::Foil("live-dies", ("mon.health-checks", "live")),
        ],
    };

    async fn look(world: Rc<World>) -> Result<Seen, Unable> {
        let klar = world.klar.clone().ok_or_else(|| Unable(Need::Klar.missing()))?;
        let stores = klar.stores().await.map_err(cannot)?;
        let Some((store, _)) = stores.into_iter().find(|(_, kind)| kind == "postgres") else {
            return Err(Unable(words!(
                "klar runs no database of this app",
                "klar kjører ingen database for denne appen",
                "klar kör ingen databas för den här appen"
            )));
        };
        let session = anybody(&world).await;
        let good = good_reads(&world, session.as_ref()).await?;
        let before = pids(&*klar).await;
        let said_before = klar.logs(None, LINES).await;
        klar.take_away(&store).await.map_err(cannot)?;
        // Whatever happens in between, the database comes back.
        let mut traces = BTreeMap::new();
        let meanwhile = meanwhile(&world, session.as_ref(), &good, &mut traces).await;
        let health = health(&world).await;
        klar.give_back(&store).await.map_err(cannot)?;
        let not_back = not_back(&world, session.as_ref(), &good, BACK).await;
        // The log may have turned over meanwhile: how many lines it has says nothing of how many are new.
        let new = match (said_before, klar.logs(None, LINES).await) {
            (Ok(before), Ok(after)) => Some(new_lines(&before, after)),
            _ => None,
        };
        let mut errors: Vec<(String, serde_json::Value)> = Vec::new();
        for line in new.iter().flatten() {
            let object = serde_json::from_str(line).ok().filter(is_error);
            errors.extend(object.map(|object| (line.clone(), object)));
        }
        let failed: BTreeSet<&str> =
            meanwhile.iter().filter(|each| each.failed()).map(|each| each.path.as_str()).collect();
        let speaks = |path: &str, line: &str| {
            let of_path = traces.iter().filter(|(_, of)| of.as_str() == path);
            names(line, path) || of_path.into_iter().any(|(id, _)| line.contains(id.as_str()))
        };
        let logged_for =
            failed.iter().filter(|path| errors.iter().any(|(line, _)| speaks(path, line))).count();
        Ok(Seen {
            good_before: good.len(),
            meanwhile,
            health,
            not_back,
            same_processes: pids(&*klar).await == before,
            logged: new.is_some().then_some(errors.len()),
            logged_with_id: errors.iter().filter(|(_, line)| has_id(line)).count(),
            logged_for,
        })
    }

    fn judge(seen: &Seen) -> Vec<Finding> {
        // What needs no database was answered well all the time, and says nothing.
        let affected: Vec<&Meanwhile> = seen.meanwhile.iter().filter(|each| each.failed()).collect();
        let all = affected.len();
        let tried = seen.meanwhile.iter().map(|each| &each.path).collect::<BTreeSet<_>>().len();
        let cut = !is_little(seen.good_before.saturating_sub(tried), seen.good_before);
        let place = |part| ("err.db-unavailable-503", part);
        if all == 0 {
            let none = words!(
                "no operation needs the database: all went on",
                "ingen operasjon trenger databasen: alt gikk videre",
                "ingen operation behöver databasen: allt gick vidare"
            );
            return ["status", "prompt", "recovery"]
                .map(|part| Finding::unseen(place(part), none.clone()))
                .into();
        }
        let of = |bad: Vec<&&Meanwhile>| {
            (bad.len(), bad.first().map(|each| (each.path.clone(), each.status, each.ms)))
        };
        let tell = |(bad, first): (usize, Option<(String, u16, u64)>), part| match first {
            None => {
                let because = words!("{all} of {all} answers", "{all} av {all} svar", "{all} av {all} svar");
                let because = told_of(because, tried, seen.good_before);
                if cut { Finding::unseen(place(part), because) } else { Finding::held(place(part), because) }
            }
            Some((path, status, ms)) => Finding::broken(
                place(part),
                words!(
                    "{bad} of {all} operations not, first {path}: {status} after {ms} ms",
                    "{bad} av {all} operasjoner ikke, først {path}: {status} etter {ms} ms",
                    "{bad} av {all} operationer inte, först {path}: {status} efter {ms} ms"
                ),
            ),
        };
        let wrong = of(affected
            .iter()
            .filter(|each| each.status != 503 || !each.retry_after || each.leak.is_some())
            .collect());
        let late = of(affected.iter().filter(|each| Duration::from_millis(each.ms) > PROMPT).collect());
        let mut found = vec![tell(wrong, "status"), tell(late, "prompt")];
        let back = seen.not_back.first();
        let recovery = match back {
            None => {
                words!("all are answered well again", "alle besvares godt igjen", "alla besvaras väl igen")
            }
            Some(path) => words!(
                "{path} is not answered well again within 60 s",
                "{path} besvares ikke godt igjen innen 60 s",
                "{path} besvaras inte väl igen inom 60 s"
            ),
        };
        found.push(Finding::when(back.is_none(), place("recovery"), recovery.clone()));
        found.push(Finding::when(back.is_none(), ("err.exception-handling", "next-request"), recovery));
        found.push(judge_log(seen, &affected));
        found.extend(judge_health(&seen.health));
        found
    }
}

/// One line that happens to be an error is no log of the faults: each failed request must have left one.
fn judge_log(seen: &Seen, affected: &[&Meanwhile]) -> Finding {
    let place = ("err.logged", "logged");
    let (all, with_id, named) = (affected.len(), seen.logged_with_id, seen.logged_for);
    let paths = affected.iter().map(|each| &each.path).collect::<BTreeSet<_>>().len();
    let Some(lines) = seen.logged else {
        return Finding::unseen(
            place,
            words!("the log could not be read", "loggen kunne ikke leses", "loggen kunde inte läsas"),
        );
    };
    let because = words!(
        "{lines} error lines as JSON for {all} failed requests, {with_id} with an id; they name {named} of {paths} operations",
        "{lines} feillinjer som JSON for {all} mislykkede forespørsler, {with_id} med id; de nevner {named} av {paths} operasjoner",
        "{lines} felrader som JSON för {all} misslyckade anrop, {with_id} med id; de nämner {named} av {paths} operationer"
    );
    if lines == 0 {
        Finding::broken(place, because)
    } else if lines >= all || named >= paths {
        Finding::held(place, because)
    } else {
        Finding::unseen(place, because)
    }
}

/// Whether a line names a path, and not one that only begins like it.
fn names(line: &str, path: &str) -> bool {
    let path = path.split('?').next().unwrap_or(path);
    path.len() > 1
        && line.match_indices(path).any(|(at, _)| {
            let next = line.get(at + path.len()..).and_then(|rest| rest.chars().next());
            !next.is_some_and(|c| c.is_alphanumeric() || "/-_".contains(c))
        })
}

fn judge_health(health: &[(String, u16, u64)]) -> Vec<Finding> {
    let at = |paths: &[&str]| {
        health.iter().find(|(path, status, _)| paths.contains(&path.as_str()) && *status != 404)
    };
    let mut found = Vec::new();
    let none = || {
        words!(
            "there is no such endpoint",
            "det finnes ikke noe slikt endepunkt",
            "det finns ingen sådan slutpunkt"
        )
    };
    let tell = |path: &str, status: u16| {
        words!("{path} answers {status}", "{path} svarer {status}", "{path} svarar {status}")
    };
    found.push(match at(&READY) {
        Some((path, status, _)) => {
            Finding::when(*status == 503, ("mon.health-checks", "ready"), tell(path, *status))
        }
        None => Finding::broken(("mon.health-checks", "ready"), none()),
    });
    found.push(match at(&LIVE) {
        Some((path, status, _)) => {
            Finding::when(*status == 200, ("mon.health-checks", "live"), tell(path, *status))
        }
        None => Finding::broken(("mon.health-checks", "live"), none()),
    });
    found
}

async fn meanwhile(
    world: &World,
    session: Option<&crate::world::Session>,
    good: &[String],
    traces: &mut BTreeMap<String, String>,
) -> Vec<Meanwhile> {
    let mut seen = Vec::new();
    let end = tokio::time::Instant::now() + AWAY;
    // The first requests may still find an open connection.
    for path in good.iter().chain(good) {
        let began = tokio::time::Instant::now();
        if began > end {
            break;
        }
        let id = format!("{:016x}{:016x}", fastrand::u64(1..), fastrand::u64(1..));
        let ask = Ask::get(path)
            .with("accept", "application/json, text/html;q=0.5")
            .with("traceparent", format!("00-{id}-{:016x}-01", fastrand::u64(1..)))
            .within(PROMPT + Duration::from_secs(2));
        traces.insert(id, path.clone());
        let ask = session.map_or(ask.clone(), |session| session.on(ask));
        let patience = world.patience(PROMPT + Duration::from_secs(2));
        let answer = tokio::time::timeout(patience, world.ask(ask)).await;
        let ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
        let answer = answer.ok().and_then(Result::ok);
        seen.push(Meanwhile {
            path: path.clone(),
            status: answer.as_ref().map_or(0, |answer| answer.status.as_u16()),
            ms: if answer.is_none() {
                ms.max(u64::try_from(PROMPT.as_millis()).unwrap_or(0) + 1)
            } else {
                ms
            },
            retry_after: answer.as_ref().is_some_and(|answer| answer.header("retry-after").is_some()),
            leak: answer
                .as_ref()
                .filter(|answer| !answer.status.is_success())
                .and_then(|answer| leak_in(&answer.text())),
        });
    }
    seen
}

async fn health(world: &World) -> Vec<(String, u16, u64)> {
    let mut seen = Vec::new();
    let end = tokio::time::Instant::now() + HEALTH_TOLD;
    for path in HEALTH {
        if tokio::time::Instant::now() > end {
            break;
        }
        let Ok(answer) = read(world, None, path).await else { continue };
        // A page for people is what a front end answers to any path.
        if !answer.is_html() {
            let ms = u64::try_from(answer.took.as_millis()).unwrap_or(u64::MAX);
            seen.push((path.to_owned(), answer.status.as_u16(), ms));
        }
    }
    seen
}

fn cannot(why: String) -> Unable {
    Unable(crate::words::Words::same(why))
}

/// Numbers as pino writes them: 50 and above are errors.
fn is_error(line: &serde_json::Value) -> bool {
    let level = line.get("level").or_else(|| line.get("severity")).or_else(|| line.get("lvl"));
    let named = level.and_then(|level| level.as_str()).map(str::to_ascii_lowercase);
    let bad = named.is_some_and(|name| {
        ["error", "err", "fatal", "critical", "warn", "warning"].contains(&name.as_str())
    }) || level.and_then(serde_json::Value::as_u64).is_some_and(|number| number >= 40);
    let message = ["msg", "message", "event", "error"].iter().any(|key| line.get(*key).is_some());
    bad && message
}

fn has_id(line: &serde_json::Value) -> bool {
    ["trace_id", "traceId", "request_id", "requestId", "req_id"].iter().any(|key| line.get(*key).is_some())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::Saw;
    use serde_json::json;

    fn seen(logged: Option<usize>, logged_for: usize) -> Seen {
        let failed =
            |path: &str| Meanwhile { path: path.into(), status: 503, ms: 20, retry_after: true, leak: None };
        Seen {
            good_before: 2,
            meanwhile: vec![failed("/a"), failed("/b"), failed("/a"), failed("/b")],
            health: Vec::new(),
            not_back: Vec::new(),
            same_processes: true,
            logged,
            logged_with_id: 0,
            logged_for,
        }
    }

    #[test]
    fn one_line_is_no_log_of_the_faults() {
        let saw = |logged, logged_for| DatabaseAway::judge(&seen(logged, logged_for))[4].saw;
        assert_eq!(saw(Some(4), 0), Saw::Held);
        assert_eq!(saw(Some(2), 2), Saw::Held);
        assert_eq!(saw(Some(1), 1), Saw::Unseen);
        assert_eq!(saw(Some(0), 0), Saw::Broken);
        assert_eq!(saw(None, 0), Saw::Unseen);
    }

    #[test]
    fn operations_without_a_turn_are_told() {
        let found = DatabaseAway::judge(&Seen { good_before: 9, ..seen(Some(4), 2) });
        assert_eq!([found[0].saw, found[1].saw], [Saw::Unseen; 2]);
        assert!(found[0].because.en.ends_with("2 of 9 were tried"), "{}", found[0].because.en);
    }

    #[test]
    fn paths_in_lines() {
        for (line, path, named) in [
            ("GET /api/items 503", "/api/items?limit=2", true),
            (r#"{"url":"/api/items"}"#, "/api/items", true),
            ("GET /api/items/7", "/api/items", false),
            ("GET /api/items-old /api/items", "/api/items", true),
            ("GET /x", "/", false),
        ] {
            assert_eq!(names(line, path), named, "{line}");
        }
    }

    #[test]
    fn error_lines() {
        for (line, error) in [
            (json!({ "level": "error", "msg": "x" }), true),
            (json!({ "level": 50, "msg": "x" }), true),
            (json!({ "severity": "ERROR", "message": "x" }), true),
            (json!({ "level": "info", "msg": "x" }), false),
            (json!({ "level": "error" }), false),
        ] {
            assert_eq!(is_error(&line), error, "{line}");
        }
    }
}
