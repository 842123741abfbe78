//! How many connections the database sees when many visitors come at once.

use std::rc::Rc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::task::JoinSet;

use crate::check::{About, Disturbs, Fault, Finding, Need, Probe, Unable};
use crate::checks::running::{anybody, good_reads};
use crate::words;
use crate::world::database::Database;
use crate::world::http::Ask;
use crate::world::{Session, World};

/// The app's connections to its database.
pub struct Connections;

/// What was seen with some clients, and with twice as many.
#[derive(Debug, Serialize, Deserialize)]
pub struct Seen {
    some: Rush,
    many: Rush,
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct Rush {
    clients: usize,
    /// The most connections of the app's role that the database had at a time.
    most: i64,
    /// Connections that were opened meanwhile, as far as the database counts them (PostgreSQL 14 and later).
    #[serde(default)]
    opened: Option<i64>,
    answered: usize,
    /// Answered with 429: somebody limits how much one visitor asks.
    limited: usize,
    /// Not answered, or with 5xx: how many, and the first.
    refused: usize,
    first: Option<String>,
}

const CLIENTS: usize = 200;

impl Probe for Connections {
    type Seen = Seen;

    const ABOUT: About = About {
        id: "connections",
        version: 2,
        question: "With many visitors at once, does the database see no more connections, and is nobody refused?",
        does: "Lets 100 and then 200 clients read at the same time in the rig, and counts the app's connections at the database meanwhile, and how many are opened anew.",
        shows: &[("data.pool", "bound"), ("data.pool", "refused")],
        needs: &[Need::Site, Need::Database],
        disturbs: Disturbs::Stops,
        good_for: Duration::from_secs(7 * 24 * 3600),
        limit: Duration::from_secs(90),
        faults: &[
            Fault::Foil("connection-per-request", ("data.pool", "bound")),
            Fault::Rig("pools", ("data.pool", "bound")),
            Fault::Foil("refuses-many", ("data.pool", "refused")),
        ],
    };

    async fn look(world: Rc<World>) -> Result<Seen, Unable> {
        let database = world.database().await?;
        let session = anybody(&world).await;
        let good = good_reads(&world, session.as_ref()).await?;
        let some = rush(&world, &database, session.as_ref(), &good, CLIENTS / 2).await;
        let many = rush(&world, &database, session.as_ref(), &good, CLIENTS).await;
        Ok(Seen { some, many })
    }

    fn judge(seen: &Seen) -> Vec<Finding> {
        let place = |part| ("data.pool", part);
        let Seen { some, many } = seen;
        let (few, most, half, all) = (some.most, many.most, some.clients, many.clients);
        let told = words!(
            "at most {few} connections with {half} clients, {most} with {all}",
            "høyst {few} tilkoblinger med {half} klienter, {most} med {all}",
            "högst {few} anslutningar med {half} klienter, {most} med {all}"
        );
        let clients = i64::try_from(all).unwrap_or(i64::MAX);
        // A pool opens its connections once, and may have let all of them go since; many more are none. On a busy machine
        // fewer of them are there at once, and as many are opened.
        let opened = many.opened.filter(|opened| *opened > most.max(few) * 3 / 2 + 10);
        let told = match opened {
            Some(opened) => words!(
                "{opened} connections were opened for {all} requests: they are not kept",
                "{opened} tilkoblinger ble åpnet for {all} forespørsler: de blir ikke beholdt",
                "{opened} anslutningar öppnades för {all} förfrågningar: de behålls inte"
            ),
            None => match many.opened {
                Some(opened) => told.and(&words!(
                    ", {opened} opened anew",
                    ", {opened} åpnet på nytt",
                    ", {opened} öppnade på nytt"
                )),
                None => told,
            },
        };
        // The pool's size is what was needed with half of the clients; one or two more are health checks and the like.
        let bound = if most == 0 || many.limited > 0 {
            Finding::unseen(place("bound"), told)
        } else if opened.is_some() {
            Finding::broken(place("bound"), told)
        } else if most <= few + 2 {
            Finding::held(place("bound"), told)
        } else if most * 2 >= clients {
            Finding::broken(place("bound"), told)
        } else {
            // It grew, but far less than the clients: a pool that was not full yet.
            Finding::unseen(place("bound"), told)
        };
        let (refused, limited, first) = (many.refused, many.limited, many.first.clone().unwrap_or_default());
        let refused = if refused > 0 {
            Finding::broken(
                place("refused"),
                words!(
                    "{refused} of {all} clients were refused, the first with {first}",
                    "{refused} av {all} klienter ble avvist, den første med {first}",
                    "{refused} av {all} klienter nekades, den första med {first}"
                ),
            )
        } else if limited > 0 {
            Finding::unseen(
                place("refused"),
                words!(
                    "{limited} of {all} clients came too often for the rate limit (429)",
                    "{limited} av {all} klienter kom for ofte for grensen (429)",
                    "{limited} av {all} klienter kom för ofta för gränsen (429)"
                ),
            )
        } else {
            let answered = many.answered;
            Finding::held(
                place("refused"),
                words!(
                    "{answered} of {all} clients were answered",
                    "{answered} av {all} klienter fikk svar",
                    "{answered} av {all} klienter fick svar"
                ),
            )
        };
        vec![bound, refused]
    }
}

async fn rush(
    world: &Rc<World>,
    database: &Database,
    session: Option<&Session>,
    paths: &[String],
    clients: usize,
) -> Rush {
    let mut rush = Rush { clients, ..Rush::default() };
    let before = sessions(world, database).await;
    let mut asking = JoinSet::new();
    for path in paths.iter().cycle().take(clients) {
        let ask = Ask::get(path).with("accept", "application/json, text/html;q=0.5");
        let ask = session.map_or(ask.clone(), |session| session.on(ask)).within(Duration::from_secs(20));
        let world = Rc::clone(world);
        asking.spawn_local(async move {
            let Some(site) = &world.site else { return Err("no site".to_owned()) };
            site.ask(ask).await.map(|answer| answer.status).map_err(|why| why.to_string())
        });
    }
    loop {
        let sample = async {
            tokio::time::sleep(Duration::from_millis(15)).await;
            let sql = "SELECT count(*) AS now FROM pg_stat_activity WHERE usename = current_user \
                AND pid <> pg_backend_pid() AND backend_type = 'client backend' AND application_name <> 'klar check'";
            database.row(sql).await.map(|row| row.number("now")).unwrap_or_default()
        };
        rush.most = rush.most.max(sample.await);
        while let Some(done) = asking.try_join_next() {
            let Ok(done) = done else { continue };
            match done {
                Ok(status) if status.as_u16() == 429 => rush.limited += 1,
                Ok(status) if !status.is_server_error() => rush.answered += 1,
                refused => {
                    rush.refused += 1;
                    let said = refused.map_or_else(|why| why, |status| status.to_string());
                    rush.first.get_or_insert(said);
                }
            }
        }
        if asking.is_empty() {
            break;
        }
    }
    let after = sessions(world, database).await;
    rush.opened = before.zip(after).map(|(before, after)| after - before);
    rush
}

/// How many connections the database has ever had, where it counts them.
async fn sessions(world: &World, database: &Database) -> Option<i64> {
    // It tells its counters up to a second late.
    tokio::time::sleep(world.patience(Duration::from_millis(1200))).await;
    let sql = "SELECT sessions FROM pg_stat_database WHERE datname = current_database()";
    database.row(sql).await.ok().map(|row| row.number("sessions"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::Saw;

    #[test]
    fn pools() {
        let rush =
            |clients, most, refused, limited| Rush { clients, most, refused, limited, ..Rush::default() };
        for (few, most, refused, limited, saw) in [
            (20, 20, 0, 0, [Saw::Held, Saw::Held]),
            (20, 22, 3, 0, [Saw::Held, Saw::Broken]),
            (95, 180, 0, 0, [Saw::Broken, Saw::Held]),
            (10, 20, 0, 0, [Saw::Unseen, Saw::Held]),
            (20, 20, 0, 50, [Saw::Unseen, Saw::Unseen]),
            (0, 0, 0, 0, [Saw::Unseen, Saw::Held]),
        ] {
            let seen = Seen { some: rush(100, few, 0, 0), many: rush(200, most, refused, limited) };
            let found: Vec<Saw> = Connections::judge(&seen).iter().map(|found| found.saw).collect();
            assert_eq!(found, saw, "{seen:?}");
        }
        for (opened, saw) in [(None, Saw::Held), (Some(40), Saw::Held), (Some(41), Saw::Broken)] {
            let many = Rush { opened, ..rush(200, 20, 0, 0) };
            let found = Connections::judge(&Seen { some: rush(100, 20, 0, 0), many });
            assert_eq!(found[0].saw, saw, "{opened:?}");
        }
    }
}
