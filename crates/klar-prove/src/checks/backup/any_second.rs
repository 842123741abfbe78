//! Whether the database comes back as it was at any second: a table is made, written to, and dropped; a copy of the moment
//! before has all rows until then, and none after it.

use std::rc::Rc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use klar_base::keep::{Ask, Moment, Told};
use serde::{Deserialize, Serialize};

use super::{asked, unexpected};
use crate::check::{About, Disturbs, Fault, Finding, Need, Probe, Unable};
use crate::words;
use crate::world::database::Database;
use crate::world::{World, until};

/// A moment between two writes.
pub struct AnySecond;

/// What was written, and what came back.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Seen {
    /// Rows that were acknowledged before the moment, and after it.
    before: i64,
    after: i64,
    /// Those of them that the copy has.
    found_before: i64,
    found_after: i64,
    /// What is missing of the log.
    gaps: Vec<String>,
    /// How much of the newest data was not kept yet while it was written, in milliseconds.
    lag_ms: Option<u64>,
    /// Why there was no copy.
    no_copy: Option<String>,
}

const BEFORE: (&str, &str) = ("data.backup.pitr", "before");
const AFTER: (&str, &str) = ("data.backup.pitr", "after");
const WAL: (&str, &str) = ("data.backup.pitr", "wal");
const RPO: (&str, &str) = ("data.backup.pitr", "rpo");

const ROWS: i64 = 500;
const TABLE: &str = "klar_any_second";
/// The seeds allow five minutes.
const ALLOWED_MS: u64 = 300_000;
/// The log is shipped about every second.
const SHIPPED: Duration = Duration::from_secs(30);

impl Probe for AnySecond {
    type Seen = Seen;

    const ABOUT: About = About {
        id: "any-second",
        version: 1,
        question: "Does a table that was dropped come back as it was the second before?",
        does: "Makes a table of its own in the app's database, writes 500 rows, remembers the moment, writes 500 more, drops the table, and brings back a copy of that moment; then reads the list of what is missing of the log, and how far behind the newest commit it is.",
        shows: &[BEFORE, AFTER, WAL, RPO],
        needs: &[Need::Klar, Need::Kept, Need::Database],
        disturbs: Disturbs::Attacks,
        good_for: Duration::from_secs(7 * 24 * 3600),
        limit: Duration::from_secs(1800),
        faults: &[
            Fault::Foil("restores-too-much", AFTER),
            Fault::Foil("restores-too-little", BEFORE),
            Fault::Foil("lost-log", WAL),
            Fault::Foil("far-behind", RPO),
        ],
    };

    async fn look(world: Rc<World>) -> Result<Seen, Unable> {
        let klar = world.klar.clone().ok_or_else(|| Unable(Need::Klar.missing()))?;
        let listed = asked(&*klar, Ask::List { store: None }).await?;
        if matches!(listed, Told::Points { points, .. } if points.is_empty()) {
            // A moment before the first point cannot come back.
            asked(&*klar, Ask::Now { store: None }).await?;
        }
        let database = world.database().await?;
        let mut seen = Seen { before: ROWS, after: ROWS, ..Seen::default() };
        // The one time that a check writes to a database: its own table, in a rig.
        database.run("SET default_transaction_read_only = off").await?;
        database
            .run(&format!("DROP TABLE IF EXISTS {TABLE}; CREATE TABLE {TABLE} (n int PRIMARY KEY)"))
            .await?;
        let write = async |from: i64| {
            database
                .run(&format!("INSERT INTO {TABLE} SELECT generate_series({from}, {})", from + ROWS - 1))
                .await
        };
        write(1).await?;
        let sql = "SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint AS now";
        let moment = database.row(sql).await?.number("now");
        write(ROWS + 1).await?;
        let last_ms = now_ms();
        database.run(&format!("DROP TABLE {TABLE}")).await?;
        // How long it takes until the last of it is kept.
        let kept = async || match asked(&*klar, Ask::List { store: None }).await {
            Ok(Told::Points { status, .. }) => {
                status.covered_unix_ms.filter(|covered| *covered >= last_ms).map(|_| now_ms())
            }
            _ => None,
        };
        let patience = if world.is_foil { Duration::from_secs(10) } else { SHIPPED };
        seen.lag_ms = until(patience, kept).await.map(|at| at.saturating_sub(last_ms));
        match asked(&*klar, Ask::Verify { store: None }).await? {
            Told::Verified { problems, .. } => seen.gaps = problems,
            _ => return Err(unexpected()),
        }
        let copy = asked(
            &*klar,
            Ask::Clone {
                store: None,
                moment: Moment::Time(moment),
                from: None,
                seconds: 600,
                anonymise: false,
            },
        )
        .await;
        let copy = match copy {
            Ok(Told::Copy(copy)) => copy,
            Ok(_) => return Err(unexpected()),
            Err(Unable(why)) => {
                seen.no_copy = Some(why.en);
                return Ok(seen);
            }
        };
        let folder =
            copy.socket.unwrap_or_default().to_string_lossy().replace('%', "%25").replace('/', "%2F");
        let counted = async {
            let restored = Database::connect(&format!("postgres://klar@{folder}/{}", copy.database)).await?;
            let sql = format!(
                "SELECT count(*) FILTER (WHERE n <= {ROWS}) AS before, count(*) FILTER (WHERE n > {ROWS}) AS after FROM {TABLE}"
            );
            restored.row(&sql).await
        };
        match counted.await {
            Ok(row) => (seen.found_before, seen.found_after) = (row.number("before"), row.number("after")),
            Err(Unable(why)) => seen.no_copy = Some(why.en),
        }
        asked(&*klar, Ask::Remove { copy: copy.copy }).await?;
        Ok(seen)
    }

    fn judge(seen: &Seen) -> Vec<Finding> {
        let Seen { before, after, found_before, found_after, gaps, lag_ms, no_copy } = seen;
        let why = no_copy.clone().unwrap_or_default();
        let before_text = match no_copy {
            Some(_) => {
                words!("there was no copy: {why}", "det kom ingen kopi: {why}", "det kom ingen kopia: {why}")
            }
            None => words!(
                "{found_before} of {before} rows from before the moment came back",
                "{found_before} av {before} rader fra før øyeblikket kom tilbake",
                "{found_before} av {before} rader från före ögonblicket kom tillbaka"
            ),
        };
        let after_text = words!(
            "{found_after} of {after} rows from after the moment came back",
            "{found_after} av {after} rader fra etter øyeblikket kom tilbake",
            "{found_after} av {after} rader från efter ögonblicket kom tillbaka"
        );
        let first = gaps.first().map_or("-", String::as_str);
        let wal = if gaps.is_empty() {
            words!("nothing of the log is missing", "ingenting av loggen mangler", "inget av loggen saknas")
        } else {
            words!("{first}", "{first}", "{first}")
        };
        let lag = lag_ms.map_or_else(|| "-".to_owned(), |ms| format!("{:.1}", ms as f64 / 1000.0));
        let rpo = words!(
            "the last write was kept after {lag} s; 300 s are allowed",
            "den siste skrivingen var tatt vare på etter {lag} s; 300 s er tillatt",
            "den sista skrivningen var bevarad efter {lag} s; 300 s är tillåtet"
        );
        vec![
            Finding::when(no_copy.is_none() && found_before == before, BEFORE, before_text),
            Finding::when(no_copy.is_none() && *found_after == 0, AFTER, after_text),
            Finding::when(gaps.is_empty(), WAL, wal),
            Finding::when(lag_ms.is_some_and(|ms| ms <= ALLOWED_MS), RPO, rpo),
        ]
    }
}

fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
