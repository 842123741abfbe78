//! Whether the database comes back as it was at any second of thirty days, and what is older is gone.

use std::rc::Rc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use klar_base::ServiceName;
use klar_base::keep::{Ask, RehearsedDays, Told};
use serde::{Deserialize, Serialize};

use super::{HOUR, asked, reaches, unexpected};
use crate::check::{About, Disturbs, Fault, Finding, Need, Probe, Saw, Unable};
use crate::words;
use crate::words::Words;
use crate::world::World;

/// A month of the database.
pub struct History;

/// What is kept of it.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Seen {
    now_unix_ms: u64,
    /// Each PostgreSQL that klar runs, and when each of its points was taken, the newest last.
    stores: Vec<(String, Vec<u64>)>,
    /// What was left after some days of a simulated clock.
    rehearsed: Option<RehearsedDays>,
    /// Why that is not known.
    not_rehearsed: Option<String>,
}

const OLDEST: (&str, &str) = ("data.backup.retention30", "oldest");
const BETWEEN: (&str, &str) = ("data.backup.retention30", "between");
const PRUNED: (&str, &str) = ("data.backup.retention30", "pruned");
const NO_HOLES: (&str, &str) = ("data.backup.retention30", "no-holes");

/// The seeds ask for so many days.
const DAYS: u32 = 30;

impl Probe for History {
    type Seen = Seen;

    const ABOUT: About = About {
        id: "backup-history",
        version: 1,
        question: "Does any second of the last thirty days come back, and does what is older go?",
        does: "Has klar keep a small PostgreSQL of its own for more than a month of a simulated clock, with real bases, log, drills and pruning and the app's own settings; restores the oldest point that is left and a second after it; and reads the list of the app's own points.",
        shows: &[OLDEST, BETWEEN, PRUNED, NO_HOLES],
        needs: &[Need::Keeper],
        disturbs: Disturbs::Load,
        good_for: Duration::from_secs(7 * 24 * 3600),
        limit: Duration::from_secs(1800),
        faults: &[
            Fault::Foil("keeps-few-days", OLDEST),
            Fault::Foil("loses-oldest-day", OLDEST),
            Fault::Foil("loses-seconds", BETWEEN),
            Fault::Foil("keeps-all-days", PRUNED),
            Fault::Foil("lacks-a-day", NO_HOLES),
        ],
    };

    async fn look(world: Rc<World>) -> Result<Seen, Unable> {
        let klar = world.klar.clone().ok_or_else(|| Unable(Need::Klar.missing()))?;
        let stores = klar.stores().await.map_err(|why| Unable(Words::same(why)))?;
        let postgres = stores.into_iter().filter(|(_, kind)| kind == "postgres");
        let names: Vec<ServiceName> = postgres.filter_map(|(name, _)| ServiceName::new(name).ok()).collect();
        let mut seen = Seen::default();
        for name in &names {
            let list = Ask::List { store: Some(name.clone()) };
            let Told::Points { points, .. } = asked(&*klar, list).await? else { return Err(unexpected()) };
            seen.stores.push((name.to_string(), points.iter().map(|point| point.time_unix_ms).collect()));
        }
        // All are kept by the same settings and the same code.
        if let Some(name) = names.into_iter().next() {
            match asked(&*klar, Ask::Rehearse { store: Some(name) }).await {
                Ok(Told::RehearsedDays(rehearsed)) => seen.rehearsed = Some(*rehearsed),
                Ok(_) => return Err(unexpected()),
                Err(Unable(why)) => seen.not_rehearsed = Some(why.en),
            }
        }
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        seen.now_unix_ms = u64::try_from(now.as_millis()).unwrap_or(u64::MAX);
        Ok(seen)
    }

    fn judge(seen: &Seen) -> Vec<Finding> {
        if seen.stores.is_empty() {
            let none = |part| Finding::inapplicable(part, Need::Kept.missing());
            return [OLDEST, BETWEEN, PRUNED, NO_HOLES].map(none).into();
        }
        let mut findings = match &seen.rehearsed {
            Some(rehearsed) => rehearsal(rehearsed),
            None => {
                let why = Words::same(seen.not_rehearsed.clone().unwrap_or_default());
                [OLDEST, BETWEEN, PRUNED].map(|part| Finding::unseen(part, why.clone())).into()
            }
        };
        let wanted = u64::from(DAYS) * 24 * HOUR;
        let of = |(name, points): &(String, Vec<u64>)| {
            let found = reaches(NO_HOLES, seen.now_unix_ms, points, wanted);
            let Words { en, nb, sv } = found.because;
            let of = |text: String| format!("`{name}`: {text}");
            Finding { because: Words { en: of(en), nb: of(nb), sv: of(sv) }, ..found }
        };
        // One with a hole counts, then one that is too young.
        findings.extend(seen.stores.iter().map(of).min_by_key(|found| match found.saw {
            Saw::Broken => 0,
            Saw::Unseen => 1,
            Saw::Held | Saw::Inapplicable => 2,
        }));
        findings
    }
}

fn rehearsal(rehearsed: &RehearsedDays) -> Vec<Finding> {
    let RehearsedDays { wanted, keep, days, points, oldest, newest, oldest_hours, pruned, .. } = rehearsed;
    let RehearsedDays { bytes_before, bytes_after, .. } = rehearsed;
    let said = |why: &Option<String>| why.as_ref().map(|why| Words::same(format!("{oldest}: {why}")));
    let is_short = *wanted < DAYS || *oldest_hours < 24 * u64::from(DAYS.max(*keep));
    let age = oldest_hours / 24;
    let back = if is_short {
        words!(
            "{wanted} days are kept by klar.toml, and the oldest point was {age} days old after {days}; {DAYS} are asked for: `keep` in [backup]",
            "klar.toml beholder {wanted} dager, og det eldste punktet var {age} dager gammelt etter {days}; {DAYS} kreves: `keep` i [backup]",
            "klar.toml behåller {wanted} dagar, och den äldsta punkten var {age} dagar gammal efter {days}; {DAYS} krävs: `keep` i [backup]"
        )
    } else {
        said(&rehearsed.oldest_lost).unwrap_or_else(|| {
            words!(
                "after {days} simulated days {points} points are there, {oldest} to {newest}; the oldest is {age} days old and came back as it was",
                "etter {days} simulerte dager er {points} punkter der, {oldest} til {newest}; det eldste er {age} dager gammelt og kom tilbake som det var",
                "efter {days} simulerade dagar finns {points} punkter, {oldest} till {newest}; den äldsta är {age} dagar gammal och kom tillbaka som den var"
            )
        })
    };
    let between = said(&rehearsed.between_lost).unwrap_or_else(|| {
        words!(
            "a second after {oldest} came back with the rows until then, and none after it",
            "et sekund etter {oldest} kom tilbake med radene til da, og ingen senere",
            "en sekund efter {oldest} kom tillbaka med raderna fram till dess, och inga senare"
        )
    });
    let list = pruned.join(", ");
    let is_whole = rehearsed.problems.is_empty();
    let gone = match (&rehearsed.left_over, rehearsed.problems.first()) {
        (Some(left), _) => {
            words!("still there: {left}", "fortsatt der: {left}", "fortfarande kvar: {left}")
        }
        (None, Some(problem)) => Words::same(problem.clone()),
        (None, None) => words!(
            "gone are {list}, with their log: {bytes_before} bytes became {bytes_after}, and what is left is whole",
            "borte er {list}, med loggen: {bytes_before} byte ble til {bytes_after}, og det som er igjen, er helt",
            "borta är {list}, med loggen: {bytes_before} byte blev {bytes_after}, och det som är kvar är helt"
        ),
    };
    let is_gone = rehearsed.left_over.is_none() && is_whole && !pruned.is_empty();
    vec![
        Finding::when(!is_short && rehearsed.oldest_lost.is_none(), OLDEST, back),
        Finding::when(rehearsed.between_lost.is_none(), BETWEEN, between),
        Finding::when(is_gone, PRUNED, gone),
    ]
}
