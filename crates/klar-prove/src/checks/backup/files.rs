//! Whether what the app writes to its folders is kept each day, comes back as it was, and for how many days.

use std::rc::Rc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use klar_base::ServiceName;
use klar_base::keep::{Ask, Rehearsed, Told};
use serde::{Deserialize, Serialize};

use super::{Drilled, HOUR, OLD, asked, reaches, unexpected};
use crate::check::{About, Disturbs, Fault, Finding, Need, Probe, Unable};
use crate::words;
use crate::words::Words;
use crate::world::World;

/// The app's files.
pub struct Files;

/// What is kept of them.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Seen {
    /// Whether the app has folders that it writes to.
    writes: bool,
    now_unix_ms: u64,
    /// When each point was taken, the newest last.
    points_unix_ms: Vec<u64>,
    drill: Drilled,
    /// What was left after some days of a simulated clock.
    rehearsed: Option<Rehearsed>,
    /// Why that is not known.
    not_rehearsed: Option<String>,
}

const AGE: (&str, &str) = ("data.backup.app-daily", "age");
const CONTENTS: (&str, &str) = ("data.backup.app-daily", "contents");
const KEPT: (&str, &str) = ("data.backup.app-retention7", "kept");
const OLDEST: (&str, &str) = ("data.backup.app-retention7", "oldest");
const PRUNED: (&str, &str) = ("data.backup.app-retention7", "pruned");
const HISTORY: (&str, &str) = ("data.backup.app-retention7", "history");

/// The seeds ask for so many days.
const DAYS: u64 = 7;

impl Probe for Files {
    type Seen = Seen;

    const ABOUT: About = About {
        id: "backup-files",
        version: 1,
        question: "Is what the app writes to its folders kept each day, does it come back as it was, and is each of seven days there?",
        does: "Puts the newest point of the app's files into an empty folder and compares it with the digest that its reader came to, reads the list of points, and has klar keep other files for some days of a simulated clock in a scratch repository, by the app's own settings.",
        shows: &[AGE, CONTENTS, KEPT, OLDEST, PRUNED, HISTORY],
        needs: &[Need::Keeper],
        disturbs: Disturbs::Load,
        good_for: Duration::from_secs(24 * 3600),
        limit: Duration::from_secs(1800),
        faults: &[
            Fault::Foil("old-files", AGE),
            Fault::Foil("rotten-files", CONTENTS),
            Fault::Foil("keeps-few-days", KEPT),
            Fault::Foil("loses-oldest-day", OLDEST),
            Fault::Foil("keeps-all-days", PRUNED),
            Fault::Foil("lacks-a-day", HISTORY),
        ],
    };

    async fn look(world: Rc<World>) -> Result<Seen, Unable> {
        let klar = world.klar.clone().ok_or_else(|| Unable(Need::Klar.missing()))?;
        let status = klar.status().await.map_err(|why| Unable(Words::same(why)))?;
        let kept = status["kept"].as_array().into_iter().flatten();
        let files = kept
            .filter(|kept| kept["daily"] == true && kept["redis"] != true && kept["dumps"].is_null())
            .find_map(|kept| kept["store"].as_str());
        let Some(files) = files.and_then(|name| ServiceName::new(name).ok()) else {
            return Ok(Seen::default());
        };
        let store = Some(files);
        let drill = Ask::Drill { store: store.clone(), point: None, escrow: None, second: false };
        let drill = Drilled::of(asked(&*klar, drill).await)?;
        let Told::Points { points, .. } = asked(&*klar, Ask::List { store: store.clone() }).await? else {
            return Err(unexpected());
        };
        let (rehearsed, not_rehearsed) = match asked(&*klar, Ask::Rehearse { store }).await {
            Ok(Told::Rehearsed(rehearsed)) => (Some(rehearsed), None),
            Ok(_) => return Err(unexpected()),
            Err(Unable(why)) => (None, Some(why.en)),
        };
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Ok(Seen {
            writes: true,
            now_unix_ms: u64::try_from(now.as_millis()).unwrap_or(u64::MAX),
            points_unix_ms: points.iter().map(|point| point.time_unix_ms).collect(),
            drill,
            rehearsed,
            not_rehearsed,
        })
    }

    fn judge(seen: &Seen) -> Vec<Finding> {
        if !seen.writes {
            let none = words!(
                "the app says of no folder that it writes to it: `writable` in [services.NAME]",
                "appen sier ikke om noen mappe at den skriver til den: `writable` i [services.NAVN]",
                "appen säger inte om någon mapp att den skriver till den: `writable` i [services.NAMN]"
            );
            let none = |part| Finding::inapplicable(part, none.clone());
            return [AGE, CONTENTS, KEPT, OLDEST, PRUNED, HISTORY].map(none).into();
        }
        let age_ms = seen.points_unix_ms.last().map(|at| seen.now_unix_ms.saturating_sub(*at));
        let hours = age_ms.map_or_else(|| "-".to_owned(), |ms| format!("{:.1}", ms as f64 / 3.6e6));
        let age = words!(
            "the newest point is {hours} h old",
            "det nyeste punktet er {hours} t gammelt",
            "den nyaste punkten är {hours} h gammal"
        );
        let contents = seen.drill.steps.iter().find(|(what, ..)| what == "contents");
        let bad = seen.drill.steps.iter().find(|(_, good, _)| !good);
        let evidence = bad.or(contents).map_or("-", |(_, _, evidence)| evidence);
        let mut findings = vec![
            Finding::when(age_ms.is_some_and(|ms| ms < OLD), AGE, age),
            Finding::when(seen.drill.good && contents.is_some(), CONTENTS, Words::same(evidence.to_owned())),
        ];
        match &seen.rehearsed {
            None => {
                let why = Words::same(seen.not_rehearsed.clone().unwrap_or_default());
                findings.extend([KEPT, OLDEST, PRUNED].map(|part| Finding::unseen(part, why.clone())));
            }
            Some(Rehearsed { days, keep, kept, oldest, pruned }) => {
                let left = words!(
                    "after {days} simulated days {kept} points are there, of {keep} that should be",
                    "etter {days} simulerte dager er {kept} punkter der, av {keep} som skal være det",
                    "efter {days} simulerade dagar finns {kept} punkter, av {keep} som ska finnas"
                );
                let enough = kept == keep && u64::from(*keep) >= DAYS;
                findings.extend([
                    Finding::when(enough, KEPT, left.clone()),
                    Finding::when(*oldest, OLDEST, left.clone()),
                    Finding::when(*pruned, PRUNED, left),
                ]);
            }
        }
        // The oldest of seven is six days older than the newest.
        findings.push(reaches(HISTORY, seen.now_unix_ms, &seen.points_unix_ms, (DAYS - 1) * 24 * HOUR));
        findings
    }
}
