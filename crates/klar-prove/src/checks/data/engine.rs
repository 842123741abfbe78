//! What the database is: asked of the server itself, as the app reaches it.

use std::rc::Rc;
use std::time::Duration;

use jiff::civil::Date;
use serde::{Deserialize, Serialize};

use crate::check::{About, Disturbs, Fault, Finding, Need, Probe, Unable};
use crate::words;
use crate::world::World;

/// The engine, its version and the role.
pub struct Engine;

/// What the server says of itself and of the app's connections.
#[derive(Debug, Serialize, Deserialize)]
pub struct Seen {
    /// The first word of `version()`: forks and look-alikes say their own name there.
    product: String,
    /// `server_version_num`: 150018.
    version: i64,
    role: String,
    superuser: bool,
    /// Nothing said to it leaves the machine.
    is_local: bool,
    /// The app's connections from other machines, and how many of them use TLS.
    from_afar: usize,
    with_tls: usize,
    /// The kinds of databases that klar runs for the app.
    configured: Vec<String>,
    /// The day of the look: whether a version is supported depends on it.
    day: Date,
}

/// Major versions and the last day of their support: <https://www.postgresql.org/support/versioning/>.
const SUPPORTED_UNTIL: &[(i64, Date)] = &[
    (13, jiff::civil::date(2025, 11, 13)),
    (14, jiff::civil::date(2026, 11, 12)),
    (15, jiff::civil::date(2027, 11, 11)),
    (16, jiff::civil::date(2028, 11, 9)),
    (17, jiff::civil::date(2029, 11, 8)),
    (18, jiff::civil::date(2030, 11, 14)),
];

impl Probe for Engine {
    type Seen = Seen;

    const ABOUT: About = About {
        id: "database-engine",
        version: 1,
        question: "Is the database one that still gets security fixes, and is the app's role there no superuser?",
        does: "Connects as the app does, read only, and asks the server for its version, the role's rights and which of the app's connections use TLS.",
        shows: &[
            ("data.engine", "version"),
            ("data.engine", "role"),
            ("data.engine", "encrypted"),
            ("data.engine", "engine"),
        ],
        needs: &[Need::Database],
        disturbs: Disturbs::Nothing,
        good_for: Duration::from_secs(24 * 3600),
        limit: Duration::from_secs(20),
        faults: &[Fault::Database(&["ALTER ROLE app SUPERUSER"], ("data.engine", "role"))],
    };

    async fn look(world: Rc<World>) -> Result<Seen, Unable> {
        let database = world.database().await?;
        let said = database
            .row(
                "SELECT split_part(version(), ' ', 1) AS product, current_setting('server_version_num') AS version, \
                 current_user AS role, (SELECT rolsuper FROM pg_roles WHERE rolname = current_user) AS superuser",
            )
            .await?;
        // What a role may see of others ends here, and it is the app's own role that we ask about.
        let connections = database
            .row(
                "SELECT count(*) AS all, count(*) FILTER (WHERE s.ssl) AS tls FROM pg_stat_activity a \
                 JOIN pg_stat_ssl s USING (pid) WHERE a.usename = current_user AND a.pid <> pg_backend_pid() \
                 AND a.client_addr IS NOT NULL AND a.client_addr <> '127.0.0.1' AND a.client_addr <> '::1'",
            )
            .await?;
        let configured = match &world.klar {
            Some(klar) => klar.stores().await.unwrap_or_default().into_iter().map(|(_, kind)| kind).collect(),
            None => Vec::new(),
        };
        Ok(Seen {
            product: said.text("product").chars().take(40).collect(),
            version: said.number("version"),
            role: said.text("role").chars().take(64).collect(),
            superuser: said.is("superuser"),
            is_local: database.is_local,
            from_afar: usize::try_from(connections.number("all")).unwrap_or_default(),
            with_tls: usize::try_from(connections.number("tls")).unwrap_or_default(),
            configured,
            day: jiff::Zoned::now().date(),
        })
    }

    fn judge(seen: &Seen) -> Vec<Finding> {
        let place = |part| ("data.engine", part);
        let Seen { product, role, .. } = seen;
        let mut found = vec![version(seen)];
        found.push(Finding::when(
            !seen.superuser,
            place("role"),
            if seen.superuser {
                words!("{role} is a superuser", "{role} er superbruker", "{role} är superanvändare")
            } else {
                words!(
                    "{role} is no superuser",
                    "{role} er ikke superbruker",
                    "{role} är ingen superanvändare"
                )
            },
        ));
        found.push(encrypted(seen));
        // Which engine is configured is known of what klar runs, and of an address that says postgres://.
        let is_postgres = product == "PostgreSQL";
        let wanted = seen.configured.is_empty() || seen.configured.iter().any(|kind| kind == "postgres");
        found.push(Finding::when(
            is_postgres && wanted,
            place("engine"),
            words!(
                "{product} answers where PostgreSQL is configured",
                "{product} svarer der PostgreSQL er konfigurert",
                "{product} svarar där PostgreSQL är konfigurerad"
            ),
        ));
        found
    }
}

fn version(seen: &Seen) -> Finding {
    let place = ("data.engine", "version");
    let (major, minor) = (seen.version / 10_000, seen.version % 10_000);
    let newest = SUPPORTED_UNTIL.last();
    let until = SUPPORTED_UNTIL.iter().find(|(known, _)| *known == major).or(match newest {
        // Each major version is supported for longer than the one before it.
        Some((known, _)) if major > *known => newest,
        _ => None,
    });
    match until {
        Some((_, until)) => Finding::when(
            seen.day <= *until,
            place,
            words!(
                "PostgreSQL {major}.{minor}, supported until {until}",
                "PostgreSQL {major}.{minor}, har støtte til {until}",
                "PostgreSQL {major}.{minor}, har stöd till {until}"
            ),
        ),
        None => Finding::broken(
            place,
            words!(
                "PostgreSQL {major}.{minor} is no longer supported",
                "PostgreSQL {major}.{minor} har ikke lenger støtte",
                "PostgreSQL {major}.{minor} har inte längre stöd"
            ),
        ),
    }
}

fn encrypted(seen: &Seen) -> Finding {
    let place = ("data.engine", "encrypted");
    let Seen { from_afar: all, with_tls: tls, .. } = seen;
    if *all > 0 {
        return Finding::when(
            all == tls,
            place,
            words!(
                "{tls} of {all} connections of the app from other machines use TLS",
                "{tls} av {all} tilkoblinger fra appen på andre maskiner bruker TLS",
                "{tls} av {all} anslutningar från appen på andra maskiner använder TLS"
            ),
        );
    }
    if seen.is_local {
        return Finding::inapplicable(
            place,
            words!(
                "the database is on the same machine: nothing said to it leaves the machine",
                "databasen er på samme maskin: ingenting som sies til den, forlater maskinen",
                "databasen finns på samma maskin: inget som sägs till den lämnar maskinen"
            ),
        );
    }
    Finding::unseen(
        place,
        words!(
            "the app has no connection open now",
            "appen har ingen tilkobling åpen nå",
            "appen har ingen anslutning öppen nu"
        ),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::Saw;
    use jiff::civil::date;

    fn seen(version: i64, day: Date) -> Seen {
        Seen {
            product: "PostgreSQL".into(),
            version,
            role: "app".into(),
            superuser: false,
            is_local: false,
            from_afar: 0,
            with_tls: 0,
            configured: vec![],
            day,
        }
    }

    #[test]
    fn support_ends_with_its_last_day() {
        for (number, day, saw) in [
            (150_018, date(2027, 11, 11), Saw::Held),
            (150_018, date(2027, 11, 12), Saw::Broken),
            (90_624, date(2026, 1, 1), Saw::Broken),
            (190_001, date(2027, 1, 1), Saw::Held),
            (190_001, date(2035, 1, 1), Saw::Broken),
        ] {
            assert_eq!(version(&seen(number, day)).saw, saw, "{number} on {day}");
        }
    }

    #[test]
    fn tls_is_asked_for_between_machines() {
        for (is_local, from_afar, with_tls, saw) in [
            (true, 0, 0, Saw::Inapplicable),
            (true, 2, 1, Saw::Broken),
            (false, 3, 3, Saw::Held),
            (false, 0, 0, Saw::Unseen),
        ] {
            let seen = Seen { is_local, from_afar, with_tls, ..seen(150_018, date(2026, 1, 1)) };
            assert_eq!(encrypted(&seen).saw, saw);
        }
    }
}
