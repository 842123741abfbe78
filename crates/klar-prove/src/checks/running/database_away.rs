//! The database goes away for a while.

use std::rc::Rc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{HEALTH, LIVE, READY, anybody, good_reads, leak_in, pids, read};
use crate::check::{About, Disturbs, Fault, Finding, Need, Probe, Unable};
use crate::words;
use crate::world::{World, until};

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
    /// JSON lines of errors in the log since, with a message and with an id.
    logged: usize,
    logged_with_id: usize,
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

/// An answer later than this is one that nobody waits for.
const PROMPT: Duration = Duration::from_secs(10);
const BACK: Duration = Duration::from_secs(60);

impl Probe for DatabaseAway {
    type Seen = Seen;

    const ABOUT: About = About {
        id: "database-away",
        version: 1,
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
        let said_before = klar.logs(None, 20_000).await.unwrap_or_default().len();
        klar.take_away(&store).await.map_err(cannot)?;
        // Whatever happens in between, the database comes back.
        let meanwhile = meanwhile(&world, session.as_ref(), &good).await;
        let health = health(&world).await;
        klar.give_back(&store).await.map_err(cannot)?;
        let mut not_back = Vec::new();
        for path in &good {
            let well = || async {
                let answer = read(&world, session.as_ref(), path).await.ok()?;
                answer.status.is_success().then_some(())
            };
            let patience = if not_back.is_empty() { world.patience(BACK) } else { Duration::from_secs(1) };
            if until(patience, well).await.is_none() {
                not_back.push(path.clone());
            }
        }
        let said = klar.logs(None, 20_000).await.unwrap_or_default();
        let new = said.get(said_before.min(said.len())..).unwrap_or_default();
        let errors: Vec<serde_json::Value> =
            new.iter().filter_map(|line| serde_json::from_str(line).ok()).filter(is_error).collect();
        Ok(Seen {
            good_before: good.len(),
            meanwhile,
            health,
            not_back,
            same_processes: pids(&*klar).await == before,
            logged: errors.len(),
            logged_with_id: errors.iter().filter(|line| has_id(line)).count(),
        })
    }

    fn judge(seen: &Seen) -> Vec<Finding> {
        // What needs no database was answered well all the time, and says nothing.
        let affected: Vec<&Meanwhile> =
            seen.meanwhile.iter().filter(|each| !(200..400).contains(&each.status)).collect();
        let all = affected.len();
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
            None => Finding::held(
                place(part),
                words!(
                    "{all} of {all} operations",
                    "{all} av {all} operasjoner",
                    "{all} av {all} operationer"
                ),
            ),
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
        let (lines, with_id) = (seen.logged, seen.logged_with_id);
        found.push(Finding::when(
            lines > 0,
            ("err.logged", "logged"),
            words!(
                "{lines} error lines as JSON for {all} failed requests, {with_id} with an id",
                "{lines} feillinjer som JSON for {all} mislykkede forespørsler, {with_id} med id",
                "{lines} felrader som JSON för {all} misslyckade anrop, {with_id} med id"
            ),
        ));
        found.extend(judge_health(&seen.health));
        found
    }
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
) -> Vec<Meanwhile> {
    let mut seen = Vec::new();
    // The first requests may still find an open connection.
    for path in good.iter().chain(good) {
        let began = tokio::time::Instant::now();
        let answer =
            tokio::time::timeout(world.patience(PROMPT + Duration::from_secs(2)), read(world, session, path))
                .await;
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
    for path in HEALTH {
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
    use serde_json::json;

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
