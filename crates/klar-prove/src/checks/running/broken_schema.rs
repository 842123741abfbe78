//! The app's own code throws: a table that it reads has another name for a moment.

use std::rc::Rc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{anybody, good_reads, leak_in, read};
use crate::check::{About, Disturbs, Fault, Finding, Need, Probe, Unable};
use crate::evidence::Place;
use crate::words;
use crate::words::Words;
use crate::world::database::Database;
use crate::world::http::{Answer, Silence};
use crate::world::{Session, World, until};

/// The app over a table that is not there.
pub struct BrokenSchema;

/// What was answered to operations that need the table.
#[derive(Debug, Serialize, Deserialize)]
pub struct Seen {
    /// The tables that were taken, one after the other.
    tables: Vec<String>,
    asked: usize,
    errors: Vec<Failed>,
    /// Paths that were not answered well again afterwards.
    not_back: Vec<String>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Failed {
    path: String,
    /// 0: no answer.
    status: u16,
    leak: Option<String>,
    id: bool,
}

/// What a table is called meanwhile.
const AWAY: &str = "klar_check_away";
const MOST_TABLES: usize = 4;
/// The table has to have its name back before the check's own time is over.
const PATIENCE: Duration = Duration::from_secs(3);

impl Probe for BrokenSchema {
    type Seen = Seen;

    const ABOUT: About = About {
        id: "broken-schema",
        version: 1,
        question: "When the app's own code throws, does the visitor get a plain answer with an id and nothing of the inside?",
        does: "Renames one table after the other in the database of the rig, asks every reading operation, and gives the table its name back.",
        shows: &[
            ("err.safe-500", "generic"),
            ("err.safe-500", "no-leak"),
            ("err.safe-500", "correlation-id"),
        ],
        needs: &[Need::Site, Need::Klar],
        disturbs: Disturbs::Stops,
        good_for: Duration::from_secs(7 * 24 * 3600),
        limit: Duration::from_secs(120),
        faults: &[
            Fault::Foil("stack-trace", ("err.safe-500", "generic")),
            Fault::Foil("stack-trace", ("err.safe-500", "no-leak")),
            Fault::Foil("no-correlation-id", ("err.safe-500", "correlation-id")),
        ],
    };

    async fn look(world: Rc<World>) -> Result<Seen, Unable> {
        if world.place != Place::Rig && !world.is_foil {
            // Were klar killed in between, the app would stay without its table.
            return Err(Unable(words!(
                "it renames tables: klar check --full does that in a rig only",
                "den gir tabeller nye navn: klar check --full gjør det bare i en rigg",
                "den byter namn på tabeller: klar check --full gör det bara i en rigg"
            )));
        }
        let session = anybody(&world).await;
        let good = good_reads(&world, session.as_ref()).await?;
        let mut seen =
            Seen { tables: Vec::new(), asked: good.len(), errors: Vec::new(), not_back: Vec::new() };
        if world.is_foil {
            let klar = world.klar.clone().ok_or_else(|| Unable(Need::Klar.missing()))?;
            let cannot = |why: String| Unable(Words::same(why));
            klar.take_away("schema").await.map_err(cannot)?;
            seen.errors = errors(&world, session.as_ref(), &good, "items").await;
            klar.give_back("schema").await.map_err(cannot)?;
            seen.tables.push("items".to_owned());
            return Ok(seen);
        }
        let database = world.database().await?;
        // Those that are read the most; a cache may hide what became of one, so there are some.
        let tables = database
            .rows(
                "SELECT quote_ident(s.schemaname) AS schema, quote_ident(s.relname) AS name FROM pg_stat_user_tables s \
                 JOIN pg_class c ON c.oid = s.relid WHERE pg_has_role(c.relowner, 'USAGE') AND s.n_live_tup > 0 \
                 ORDER BY COALESCE(s.seq_scan, 0) + COALESCE(s.idx_scan, 0) DESC LIMIT 12",
            )
            .await?;
        database.run("SET default_transaction_read_only = off").await?;
        for table in &tables {
            if seen.tables.len() >= MOST_TABLES || seen.errors.len() >= 8 {
                break;
            }
            let (schema, name) = (table.text("schema"), table.text("name"));
            // Whoever ends this look early, the table has its name back: see run::restore.
            world.undo.borrow_mut().push(restoring(schema, name));
            if database.run(&format!("ALTER TABLE {schema}.{name} RENAME TO {AWAY}")).await.is_err() {
                world.undo.borrow_mut().pop();
                continue;
            }
            // Connections may keep what they know of a table for as long as they do not look again.
            let found = errors(&world, session.as_ref(), &good, name).await;
            back(&database, schema, name).await?;
            world.undo.borrow_mut().pop();
            seen.tables.push(name.to_owned());
            seen.errors.extend(found);
        }
        seen.errors.truncate(40);
        for path in &good {
            let well = || async {
                let answer = read(&world, session.as_ref(), path).await.ok()?;
                answer.status.is_success().then_some(())
            };
            if until(Duration::from_secs(5), well).await.is_none() {
                seen.not_back.push(path.clone());
                break;
            }
        }
        Ok(seen)
    }

    fn judge(seen: &Seen) -> Vec<Finding> {
        let place = |part| ("err.safe-500", part);
        let (tables, all) = (seen.tables.len(), seen.errors.len());
        if all == 0 {
            let none = words!(
                "no operation noticed that {tables} tables were away",
                "ingen operasjon merket at {tables} tabeller var borte",
                "ingen operation märkte att {tables} tabeller var borta"
            );
            return ["generic", "no-leak", "correlation-id"]
                .map(|part| Finding::unseen(place(part), none.clone()))
                .into();
        }
        let tell = |part, good: fn(&Failed) -> bool| match seen.errors.iter().find(|each| !good(each)) {
            None => Finding::held(
                place(part),
                words!(
                    "{all} of {all} answers to errors in the app",
                    "{all} av {all} svar på feil i appen",
                    "{all} av {all} svar på fel i appen"
                ),
            ),
            Some(Failed { path, status, leak, .. }) => {
                let leak = leak.as_ref().map(|leak| format!(": {leak}")).unwrap_or_default();
                Finding::broken(
                    place(part),
                    words!(
                        "{path} is answered with {status}{leak}",
                        "{path} besvares med {status}{leak}",
                        "{path} besvaras med {status}{leak}"
                    ),
                )
            }
        };
        // Some apps say 503 to whatever their database says: that is safe, but not what was to be seen.
        let generic = match seen.errors.iter().find(|each| each.status > 500 && each.leak.is_none()) {
            Some(Failed { path, status, .. })
                if seen.errors.iter().all(|each| each.status >= 500 && each.leak.is_none()) =>
            {
                Finding::unseen(
                    place("generic"),
                    words!(
                        "{path} is answered with {status} instead of 500",
                        "{path} besvares med {status} i stedet for 500",
                        "{path} besvaras med {status} i stället för 500"
                    ),
                )
            }
            _ => tell("generic", |each| each.status >= 500 && each.leak.is_none()),
        };
        vec![generic, tell("no-leak", |each| each.leak.is_none()), tell("correlation-id", |each| each.id)]
    }
}

fn restoring(schema: &str, name: &str) -> String {
    format!("ALTER TABLE {schema}.{AWAY} RENAME TO {name}")
}

/// Gives the table its name back, whatever it takes.
async fn back(database: &Database, schema: &str, name: &str) -> Result<(), Unable> {
    let sql = restoring(schema, name);
    let mut last = Ok(());
    for _ in 0..5 {
        last = database.run(&sql).await;
        if last.is_ok() {
            return last;
        }
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    last
}

/// What is answered with an error just now. A 4xx says that the app did not come as far as the table.
async fn errors(world: &World, session: Option<&Session>, good: &[String], table: &str) -> Vec<Failed> {
    let mut found = Vec::new();
    for path in good.iter().take(8) {
        let asking = tokio::time::timeout(PATIENCE, read(world, session, path));
        match asking.await.unwrap_or(Err(Silence::Late)) {
            Ok(answer) if answer.status.is_server_error() => {
                let text = answer.text();
                // Its name alone may be an everyday word; in quotes it is SQL.
                let told = format!("\"{table}\" does not exist");
                let leak = leak_in(&text).or_else(|| text.contains(&told).then_some(told));
                found.push(Failed {
                    path: path.clone(),
                    status: answer.status.as_u16(),
                    leak,
                    id: has_id(&answer),
                });
            }
            Ok(_) => {}
            Err(_) => found.push(Failed { path: path.clone(), status: 0, leak: None, id: false }),
        }
    }
    found
}

/// In a header or in the body, under one of the names that are usual for it.
fn has_id(answer: &Answer) -> bool {
    const HEADERS: [&str; 6] =
        ["x-request-id", "x-correlation-id", "request-id", "traceresponse", "x-trace-id", "x-amzn-requestid"];
    const FIELDS: [&str; 9] = [
        "request_id",
        "requestId",
        "trace_id",
        "traceId",
        "correlation_id",
        "correlationId",
        "error_id",
        "errorId",
        "instance",
    ];
    let in_header = HEADERS.iter().any(|name| answer.header(name).is_some_and(|value| !value.is_empty()));
    let body = answer.json().unwrap_or_default();
    let filled = |value: &serde_json::Value| value.as_str().is_some_and(|text| !text.is_empty());
    let there = |object: &serde_json::Value| FIELDS.iter().any(|name| object.get(*name).is_some_and(filled));
    // On a page it is in a sentence.
    let page = if answer.is_html() { answer.text().to_lowercase() } else { String::new() };
    let on_page = [
        "error id",
        "request id",
        "trace id",
        "correlation id",
        "error-id",
        "request-id",
        "feil-id",
        "fel-id",
    ]
    .iter()
    .any(|name| page.contains(name));
    in_header || on_page || there(&body) || body.get("error").is_some_and(there)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::Saw;

    #[test]
    fn answers_are_judged() {
        let failed = |status, leak: Option<&str>, id| Failed {
            path: "/a".into(),
            status,
            leak: leak.map(str::to_owned),
            id,
        };
        for (error, wanted) in [
            (failed(500, None, true), [Saw::Held, Saw::Held, Saw::Held]),
            (failed(503, None, true), [Saw::Unseen, Saw::Held, Saw::Held]),
            (failed(500, Some("SELECT"), true), [Saw::Broken, Saw::Broken, Saw::Held]),
            (failed(0, None, false), [Saw::Broken, Saw::Held, Saw::Broken]),
        ] {
            let seen = Seen { tables: vec!["t".into()], asked: 1, errors: vec![error], not_back: vec![] };
            let saw: Vec<Saw> = BrokenSchema::judge(&seen).iter().map(|found| found.saw).collect();
            assert_eq!(saw, wanted, "{seen:?}");
        }
    }
}
