//! Whether what goes on in the database shows in its metrics: connections that somebody holds, and a slow statement.

use std::rc::Rc;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use crate::check::{About, Disturbs, Fault, Finding, Need, Probe, Unable};
use crate::words;
use crate::words::Words;
use crate::world::database::Database;
use crate::world::{Klar, Measured, World, until};

/// What telemetry sees of the database.
pub struct Activity;

/// What was planted, and what telemetry says of it.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Seen {
    /// Series that are not there.
    missing: Vec<String>,
    /// Connections that were held open in a transaction, all that the database itself counts, and what telemetry says.
    held: usize,
    counted: i64,
    measured: Option<f64>,
    /// How long a statement had run when telemetry looked, in seconds, and how long it says that the oldest has.
    ran: Option<f64>,
    oldest: Option<f64>,
}

const SERIES: (&str, &str) = ("mon.metric.db", "series");
const HELD: (&str, &str) = ("mon.metric.db", "connections");
const SLOW: (&str, &str) = ("mon.metric.db", "slow-query");

const CONNECTIONS: usize = 4;
/// Telemetry looks every 15 s.
const LOOKED: Duration = Duration::from_secs(40);
/// Time passes between the look and its being written down.
const NEARLY: f64 = 2.0;
/// How fast it answers, who is connected, how far behind it is, what is slow, what it finds in its memory.
const WANTED: [&str; 8] = [
    "pg_stat_database_active_time_seconds_total",
    "pg_stat_database_xact_commit",
    "pg_stat_activity_count",
    "pg_settings_max_connections",
    "pg_replication_lag_seconds",
    "pg_stat_activity_max_tx_duration",
    "pg_stat_database_blks_hit",
    "pg_stat_database_blks_read",
];

impl Probe for Activity {
    type Seen = Seen;

    const ABOUT: About = About {
        id: "database-metrics",
        version: 1,
        question: "Do slow statements and held connections show in the metrics of the database?",
        does: "Holds 4 connections open in a transaction that only reads, lets a statement sleep, and compares what telemetry says of both with what the database says itself.",
        shows: &[SERIES, HELD, SLOW],
        needs: &[Need::Klar, Need::Database],
        disturbs: Disturbs::Load,
        good_for: Duration::from_secs(7 * 24 * 3600),
        limit: Duration::from_secs(120),
        faults: &[
            Fault::Foil("blind-to-latency", SERIES),
            Fault::Foil("counts-no-connections", HELD),
            Fault::Foil("sees-no-slow-statements", SLOW),
        ],
    };

    async fn look(world: Rc<World>) -> Result<Seen, Unable> {
        let klar = world.klar.clone().ok_or_else(|| Unable(Need::Klar.missing()))?;
        let cannot = |why: String| Unable(Words::same(why));
        if !klar.stores().await.map_err(cannot)?.iter().any(|(_, kind)| kind == "postgres") {
            return Err(Unable(words!(
                "the database is not one that klar runs",
                "databasen er ingen som klar kjører",
                "databasen är ingen som klar kör"
            )));
        }
        let mut seen = Seen { held: CONNECTIONS, ..Seen::default() };
        for name in WANTED {
            if klar.measured(name).await.map_err(cannot)?.is_empty() {
                seen.missing.push(name.to_owned());
            }
        }
        let mut held = Vec::new();
        for _ in 0..CONNECTIONS {
            let database = world.database().await?;
            database
                .run("SET idle_in_transaction_session_timeout = '2min'; BEGIN READ ONLY; SELECT 1")
                .await?;
            held.push(database);
        }
        let (asked, slow) = (world.database().await?, world.database().await?);
        let begun_ms = now_ms();
        let look = until(world.patience(LOOKED), async || {
            let found = Planted::of(&*klar, &asked, begun_ms).await?;
            found.is_right().then_some(found)
        });
        let seconds = u32::try_from(world.patience(LOOKED).as_secs()).unwrap_or(60) + 20;
        let found = slow.busy(seconds, async {
            match look.await {
                Some(found) => Some(found),
                None => Planted::of(&*klar, &asked, begun_ms).await,
            }
        });
        if let Some(found) = found.await? {
            (seen.counted, seen.measured) = (found.counted, found.measured);
            (seen.ran, seen.oldest) = (found.ran, found.oldest);
        }
        Ok(seen)
    }

    fn judge(seen: &Seen) -> Vec<Finding> {
        let Seen { missing, held, counted, measured, ran, oldest } = seen;
        let series = if missing.is_empty() {
            let count = WANTED.len();
            words!(
                "there are series of all {count}",
                "det finnes serier for alle {count}",
                "det finns serier för alla {count}"
            )
        } else {
            let missing = missing.join(", ");
            words!("there is no {missing}", "det finnes ingen {missing}", "det finns ingen {missing}")
        };
        let said = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), |value| format!("{value:.0}"));
        let (measured_text, ran_text, oldest_text) = (said(*measured), said(*ran), said(*oldest));
        let connections = words!(
            "{held} connections were held in a transaction; the database counts {counted}, telemetry {measured_text}",
            "{held} tilkoblinger ble holdt i en transaksjon; databasen teller {counted}, telemetrien {measured_text}",
            "{held} anslutningar hölls i en transaktion; databasen räknar {counted}, telemetrin {measured_text}"
        );
        let slow = words!(
            "a statement had run for {ran_text} s; telemetry says {oldest_text} s",
            "en setning hadde kjørt i {ran_text} s; telemetrien sier {oldest_text} s",
            "en sats hade kört i {ran_text} s; telemetrin säger {oldest_text} s"
        );
        let found = Planted { counted: *counted, measured: *measured, ran: *ran, oldest: *oldest };
        vec![
            Finding::when(missing.is_empty(), SERIES, series),
            Finding::when(found.counts(), HELD, connections),
            Finding::when(found.is_timed(), SLOW, slow),
        ]
    }
}

fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// The series of a state, once telemetry has looked.
fn of_state<'a>(all: &'a [Measured], state: &str, since_ms: i64) -> Option<&'a Measured> {
    all.iter()
        .find(|one| one.at_unix_ms > since_ms && one.labels.get("state").is_some_and(|known| known == state))
}

struct Planted {
    counted: i64,
    measured: Option<f64>,
    ran: Option<f64>,
    oldest: Option<f64>,
}

impl Planted {
    async fn of(klar: &dyn Klar, database: &Database, begun_ms: i64) -> Option<Self> {
        let counts = klar.measured("pg_stat_activity_count").await.ok()?;
        let ages = klar.measured("pg_stat_activity_max_tx_duration").await.ok()?;
        let sql = "SELECT count(*) AS held FROM pg_stat_activity \
                   WHERE datname = current_database() AND state = 'idle in transaction'";
        let oldest = of_state(&ages, "active", begun_ms);
        Some(Self {
            counted: database.row(sql).await.ok()?.number("held"),
            measured: of_state(&counts, "idle in transaction", begun_ms).map(|series| series.value),
            ran: oldest.map(|series| (series.at_unix_ms - begun_ms) as f64 / 1000.0),
            oldest: oldest.map(|series| series.value),
        })
    }

    fn is_right(&self) -> bool {
        self.counts() && self.is_timed()
    }

    /// Of the app's own one may have come or gone meanwhile.
    fn counts(&self) -> bool {
        self.measured.is_some_and(|measured| {
            measured >= CONNECTIONS as f64 && (measured - self.counted as f64).abs() <= 1.0
        })
    }

    fn is_timed(&self) -> bool {
        self.ran.zip(self.oldest).is_some_and(|(ran, oldest)| (ran - oldest).abs() <= NEARLY && oldest > 0.0)
    }
}
