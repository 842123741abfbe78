//! Whether the newest backup can be restored, is what the database was, and comes back in time; and whether the app runs on
//! what comes back.

use std::rc::Rc;
use std::time::Duration;

use http::Method;
use klar_base::keep::{Ask as KeepAsk, Moment};
use serde::{Deserialize, Serialize};

use super::{Drilled, asked};
use crate::check::{About, Disturbs, Fault, Finding, Need, Probe, Unable};
use crate::words;
use crate::words::Words;
use crate::world::http::Ask;
use crate::world::{World, until};

/// A drill, and the app on restored data.
pub struct Restores;

/// What the drill found, and how the app answered before and after its database was replaced.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Seen {
    drill: Drilled,
    /// Why the database was not replaced, where it was not.
    not_replaced: Option<String>,
    /// The status of the first page before and after.
    before: Option<u16>,
    after: Option<u16>,
}

const DATA: (&str, &str) = ("data.backup.restore-test", "data");
const SMOKE: (&str, &str) = ("data.backup.restore-test", "smoke-test");
const RTO: (&str, &str) = ("data.backup.restore-test", "rto");
const RECENT: (&str, &str) = ("data.backup.restore-test", "recent");
const SUCCESS: (&str, &str) = ("ready.success.recovery-tested", "restore");

/// What a small team can live without its app: an hour.
const TARGET_MS: u64 = 3_600_000;
const BACK: Duration = Duration::from_secs(60);

impl Probe for Restores {
    type Seen = Seen;

    const ABOUT: About = About {
        id: "backup-restores",
        version: 2,
        question: "Does the newest backup come back as the database was, in time, and does the app run on it?",
        does: "Restores the newest point into a server of its own, compares every table with what was written down when it was taken, runs pg_amcheck, pg_checksums and the app's own questions, and times it; then puts the newest state in the place of the database and asks for the first page.",
        shows: &[DATA, SMOKE, RTO, RECENT, SUCCESS],
        needs: &[Need::Klar, Need::Kept, Need::Site],
        disturbs: Disturbs::Stops,
        good_for: Duration::from_secs(7 * 24 * 3600),
        limit: Duration::from_secs(3600),
        faults: &[
            Fault::Foil("other-rows", DATA),
            Fault::Foil("rotten-backup", DATA),
            Fault::Foil("rotten-backup", SUCCESS),
            Fault::Foil("slow-restore", RTO),
            Fault::Foil("fails-on-restored-data", SMOKE),
            Fault::Foil("never-backed-up", RECENT),
        ],
    };

    async fn look(world: Rc<World>) -> Result<Seen, Unable> {
        let klar = world.klar.clone().ok_or_else(|| Unable(Need::Klar.missing()))?;
        let mut seen = Seen::default();
        let drill = KeepAsk::Drill { store: None, point: None, escrow: None, second: false };
        seen.drill = Drilled::of(asked(&*klar, drill).await)?;
        if seen.drill.good {
            let page = async || {
                world.ask(Ask::new(Method::GET, "/")).await.ok().map(|answer| answer.status.as_u16())
            };
            seen.before = page().await;
            seen.not_replaced = klar.restore(Moment::Latest).await.err();
            let works = async || page().await.filter(|status| Some(*status) == seen.before);
            seen.after = match until(world.patience(BACK), works).await {
                Some(status) => Some(status),
                None => page().await,
            };
        }
        Ok(seen)
    }

    fn judge(seen: &Seen) -> Vec<Finding> {
        let Drilled { rto_ms, good, .. } = &seen.drill;
        let evidence = seen.drill.evidence();
        let data = Words::same(evidence.clone());
        let is_data = *good && seen.drill.tables().is_some_and(|(_, good, _)| *good);
        let took = rto_ms.map_or_else(|| "-".to_owned(), |ms| format!("{:.1}", ms as f64 / 1000.0));
        let target = TARGET_MS / 60_000;
        let rto = words!(
            "a server that can be written to was there after {took} s; {target} min are allowed",
            "en tjener som det kan skrives til, var der etter {took} s; {target} min er tillatt",
            "en server som det går att skriva till fanns efter {took} s; {target} min är tillåtet"
        );
        let in_time = rto_ms.is_some_and(|ms| ms <= TARGET_MS);
        let recent = words!(
            "it was restored for this report: {evidence}",
            "det ble gjenopprettet for denne rapporten: {evidence}",
            "den återställdes för denna rapport: {evidence}"
        );
        let status = |status: Option<u16>| status.map_or_else(|| "-".to_owned(), |status| status.to_string());
        let (before, after) = (status(seen.before), status(seen.after));
        let smoke = match &seen.not_replaced {
            Some(why) => words!(
                "the restored data could not be put in place: {why}",
                "de gjenopprettede dataene kunne ikke settes inn: {why}",
                "de återställda data kunde inte sättas in: {why}"
            ),
            None => words!(
                "the first page answered {before} before, and {after} on restored data",
                "den første siden svarte {before} før, og {after} på gjenopprettede data",
                "den första sidan svarade {before} innan, och {after} på återställda data"
            ),
        };
        let is_smooth = seen.not_replaced.is_none() && seen.after.is_some() && seen.after == seen.before;
        vec![
            Finding::when(is_data, DATA, data.clone()),
            Finding::when(is_smooth, SMOKE, smoke),
            Finding::when(in_time, RTO, rto),
            Finding::when(rto_ms.is_some(), RECENT, recent),
            Finding::when(is_data && in_time, SUCCESS, data),
        ]
    }
}
