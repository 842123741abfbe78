//! Whether there are backups, how old they are, whether they were restored, and whether damage in them is found.

use std::rc::Rc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use klar_base::keep::{Ask, PointTold, Told};
use serde::{Deserialize, Serialize};

use super::{asked, unexpected};
use crate::check::{About, Disturbs, Fault, Finding, Need, Probe, Unable};
use crate::words;
use crate::world::{Klar, World};

/// The points of the app's database.
pub struct Kept;

/// What the catalogue says, and what was read again.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Seen {
    /// When it was looked, in milliseconds since the Unix epoch.
    now_unix_ms: u64,
    /// All points, the newest last.
    points: Vec<PointTold>,
    /// What is there and cannot be believed.
    refused: Vec<String>,
    /// Files and bytes that were read again.
    objects: u64,
    bytes: u64,
    /// What was wrong with them.
    problems: Vec<String>,
    /// Whether damage that was planted in a view of the repository was found.
    corrupted: bool,
    missing: bool,
}

const RUNS: (&str, &str) = ("data.backup.daily", "runs");
const AGE: (&str, &str) = ("data.backup.daily", "age");
const SIZE: (&str, &str) = ("data.backup.daily", "size");
const CHECKSUM: (&str, &str) = ("data.backup.daily", "checksum");
const SUCCESS: (&str, &str) = ("ready.success.daily-backups", "runs");
const ALL: (&str, &str) = ("data.backup.verify", "checksums");
const CORRUPTED: (&str, &str) = ("data.backup.verify", "corrupted");
const MISSING: (&str, &str) = ("data.backup.verify", "missing");
const RECENT: (&str, &str) = ("data.backup.verify", "recent");

/// A day, and two hours in which it may be made.
const OLDEST: u64 = 26 * 3600 * 1000;
/// So many runs are looked at, or all that there were.
const LAST: usize = 7;

impl Probe for Kept {
    type Seen = Seen;

    const ABOUT: About = About {
        id: "backups",
        version: 1,
        question: "Is there a backup of each day that was restored, and would damage in one be found?",
        does: "Reads klar's catalogue of points, takes one where there are fewer than two, reads every file of every point again, and looks whether it finds damage in a view of the repository in which every pack has a wrong bit, or is gone.",
        shows: &[RUNS, AGE, SIZE, CHECKSUM, SUCCESS, ALL, CORRUPTED, MISSING, RECENT],
        needs: &[Need::Klar, Need::Kept],
        disturbs: Disturbs::Load,
        good_for: Duration::from_secs(24 * 3600),
        limit: Duration::from_secs(1800),
        faults: &[
            Fault::Foil("never-backed-up", RUNS),
            Fault::Foil("never-backed-up", SUCCESS),
            Fault::Foil("old-backups", AGE),
            Fault::Foil("empty-backup", SIZE),
            Fault::Foil("rotten-backup", ALL),
            Fault::Foil("rotten-backup", CHECKSUM),
            Fault::Foil("overlooks-rot", CORRUPTED),
            Fault::Foil("overlooks-loss", MISSING),
            Fault::Foil("never-verified", RECENT),
        ],
    };

    async fn look(world: Rc<World>) -> Result<Seen, Unable> {
        let klar = world.klar.clone().ok_or_else(|| Unable(Need::Klar.missing()))?;
        let mut seen = Seen::default();
        (seen.points, seen.refused) = listed(&*klar).await?;
        if seen.points.len() < 2 {
            // What goes wrong with it shows in the catalogue.
            let _ = asked(&*klar, Ask::Now { store: None }).await;
            (seen.points, seen.refused) = listed(&*klar).await?;
        }
        if let Ok(told) = asked(&*klar, Ask::Verify { store: None }).await {
            let Told::Verified { objects, bytes, problems, corrupted, missing } = told else {
                return Err(unexpected());
            };
            (seen.objects, seen.bytes, seen.problems) = (objects, bytes, problems);
            (seen.corrupted, seen.missing) = (corrupted, missing);
        }
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        seen.now_unix_ms = u64::try_from(now.as_millis()).unwrap_or(u64::MAX);
        Ok(seen)
    }

    fn judge(seen: &Seen) -> Vec<Finding> {
        let last = &seen.points[seen.points.len().saturating_sub(LAST)..];
        let (count, proven) = (last.len(), last.iter().filter(|point| point.good == Some(true)).count());
        let runs = words!(
            "{proven} of the last {count} points were restored and found good",
            "{proven} av de siste {count} punktene ble gjenopprettet og funnet i orden",
            "{proven} av de senaste {count} punkterna återställdes och befanns hela"
        );
        let runs_held = count >= 2 && proven == count;
        let newest = seen.points.last();
        let age_ms = newest.map(|point| seen.now_unix_ms.saturating_sub(point.time_unix_ms));
        let hours = age_ms.map_or_else(|| "-".to_owned(), |ms| format!("{:.1}", ms as f64 / 3.6e6));
        let age = words!(
            "the newest point is {hours} h old",
            "det nyeste punktet er {hours} t gammelt",
            "den nyaste punkten är {hours} h gammal"
        );
        let mut sizes: Vec<u64> = seen.points.iter().map(|point| point.bytes).collect();
        sizes.sort_unstable();
        let median = sizes.get(sizes.len() / 2).copied().unwrap_or_default();
        let bytes = newest.map_or(0, |point| point.bytes);
        let size = words!(
            "the newest point has {bytes} bytes, the median has {median}",
            "det nyeste punktet har {bytes} byte, medianen {median}",
            "den nyaste punkten har {bytes} byte, medianen {median}"
        );
        let size_held = bytes > 0 && bytes >= median / 2 && bytes <= median.saturating_mul(2);
        let Seen { objects, bytes: read, problems, refused, .. } = seen;
        let wrong: Vec<&str> = problems.iter().chain(refused).map(String::as_str).collect();
        let first = wrong.first().copied().unwrap_or("-");
        let all = if wrong.is_empty() {
            words!(
                "{objects} files, {read} bytes, and the log between them are what was written",
                "{objects} filer, {read} byte, og loggen mellom dem er det som ble skrevet",
                "{objects} filer, {read} byte, och loggen mellan dem är vad som skrevs"
            )
        } else {
            let number = wrong.len();
            words!("{number} wrong: {first}", "{number} feil: {first}", "{number} fel: {first}")
        };
        let all_held = wrong.is_empty() && *objects > 0;
        let found = |is_found: bool| {
            if is_found {
                words!(
                    "damage that was planted was found",
                    "skade som ble plantet, ble funnet",
                    "skada som planterades hittades"
                )
            } else {
                words!(
                    "damage that was planted was not found",
                    "skade som ble plantet, ble ikke funnet",
                    "skada som planterades hittades inte"
                )
            }
        };
        let read_now = words!(
            "all of it was read for this report",
            "alt ble lest for denne rapporten",
            "allt lästes för denna rapport"
        );
        let not_read = words!("nothing could be read", "ingenting kunne leses", "inget kunde läsas");
        vec![
            Finding::when(runs_held, RUNS, runs.clone()),
            Finding::when(runs_held, SUCCESS, runs),
            Finding::when(age_ms.is_some_and(|ms| ms < OLDEST), AGE, age),
            Finding::when(size_held, SIZE, size),
            Finding::when(all_held, CHECKSUM, all.clone()),
            Finding::when(all_held, ALL, all),
            Finding::when(seen.corrupted, CORRUPTED, found(seen.corrupted)),
            Finding::when(seen.missing, MISSING, found(seen.missing)),
            Finding::when(*objects > 0, RECENT, if *objects > 0 { read_now } else { not_read }),
        ]
    }
}

async fn listed(klar: &dyn Klar) -> Result<(Vec<PointTold>, Vec<String>), Unable> {
    match asked(klar, Ask::List { store: None }).await? {
        Told::Points { points, refused, .. } => Ok((points, refused)),
        _ => Err(unexpected()),
    }
}
