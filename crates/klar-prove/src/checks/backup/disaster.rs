//! Whether the app comes back when its machine is lost with all that was on it, by the commands of the plan alone.

use std::rc::Rc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::check::{About, Disturbs, Fault, Finding, Need, Probe, Unable};
use crate::words;
use crate::words::Words;
use crate::world::World;
use crate::world::recovery::Rebuilt;

/// The loss of everything.
pub struct Disaster;

/// What became of it.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Seen {
    /// Why nothing could be lost.
    none: Option<String>,
    /// The document with the plan that was followed.
    plan: Option<String>,
    rto_ms: u64,
    rpo_ms: u64,
    rebuilt: Rebuilt,
}

const REBUILD: (&str, &str) = ("dr.drill", "rebuild");
const RTO: (&str, &str) = ("dr.drill", "rto");
const RPO: (&str, &str) = ("dr.drill", "rpo");
const SMOKE: (&str, &str) = ("dr.drill", "smoke-test");
const PLAN: (&str, &str) = ("dr.plan", "drill");
const SAME: (&str, &str) = ("docs.recovery", "same-commands");

impl Probe for Disaster {
    type Seen = Seen;

    const ABOUT: About = About {
        id: "disaster",
        version: 1,
        question: "Does the app come back, with its data and in time, when its machine is lost with all that was on it?",
        does: "Starts another rig with a second place of its own, writes rows to its database, kills all its processes and removes its state folder, takes the sources from Git, gives the commands of the plan, and looks what came back and how long it took.",
        shows: &[REBUILD, RTO, RPO, SMOKE, PLAN, SAME],
        needs: &[Need::Klar, Need::Kept],
        disturbs: Disturbs::Stops,
        good_for: Duration::from_secs(30 * 24 * 3600),
        limit: Duration::from_secs(1800),
        faults: &[
            Fault::Foil("no-second-place", REBUILD),
            Fault::Foil("not-rebuilt", REBUILD),
            Fault::Foil("not-rebuilt", PLAN),
            Fault::Foil("slow-rebuild", RTO),
            Fault::Foil("loses-newest-rows", RPO),
            Fault::Foil("fails-when-rebuilt", SMOKE),
            Fault::Foil("no-recovery-plan", SAME),
        ],
    };

    async fn look(world: Rc<World>) -> Result<Seen, Unable> {
        let klar = world.klar.clone().ok_or_else(|| Unable(Need::Klar.missing()))?;
        let cannot = |why: String| Unable(Words::same(why));
        let plan = klar.plan().await.map_err(cannot)?;
        let mut seen = Seen { rto_ms: plan.rto_ms, rpo_ms: plan.rpo_ms, ..Seen::default() };
        if plan.place.is_none() {
            seen.none =
                Some("there is no second place: `offsite` in [backup] of klar.toml names one".to_owned());
            return Ok(seen);
        }
        seen.rebuilt = klar.lose_all(&plan.commands()).await.map_err(cannot)?;
        seen.plan = plan.written.map(|(path, _)| path);
        Ok(seen)
    }

    fn judge(seen: &Seen) -> Vec<Finding> {
        let Seen { none, plan, rto_ms, rpo_ms, rebuilt } = seen;
        if let Some(why) = none {
            let none = |part| Finding::broken(part, Words::same(why.clone()));
            return [REBUILD, RTO, RPO, SMOKE, PLAN, SAME].map(none).into();
        }
        let Rebuilt { commands, from_git, from_drawer, rows, back, lost_ms, away_ms, before, after } =
            rebuilt;
        let given: Vec<&str> = commands.iter().map(|(command, ..)| command.as_str()).collect();
        let (given, drawer) = (given.join(", "), from_drawer.join(", "));
        let failed = commands.iter().find_map(|(command, _, failed)| Some((command, failed.as_ref()?)));
        let is_rebuilt = *from_git && failed.is_none() && !commands.is_empty();
        let rebuild = match failed {
            Some((command, why)) => Words::same(format!("{command}: {why}")),
            None if !from_git => words!(
                "the sources are not in Git: nobody could have rebuilt it",
                "kildekoden er ikke i Git: ingen kunne ha bygget det opp igjen",
                "källkoden finns inte i Git: ingen hade kunnat bygga upp det igen"
            ),
            None if from_drawer.is_empty() => words!(
                "rebuilt from Git and the second place by {given}",
                "bygget opp fra Git og det andre stedet med {given}",
                "uppbyggd från Git och den andra platsen med {given}"
            ),
            None => words!(
                "rebuilt from Git and the second place by {given}; from the drawer came the key and {drawer}",
                "bygget opp fra Git og det andre stedet med {given}; fra skuffen kom nøkkelen og {drawer}",
                "uppbyggd från Git och den andra platsen med {given}; ur lådan kom nyckeln och {drawer}"
            ),
        };
        let seconds = |ms: u64| format!("{:.1}", ms as f64 / 1000.0);
        let (away, allowed) = (away_ms.map_or_else(|| "-".to_owned(), seconds), seconds(*rto_ms));
        let rto = words!(
            "the app was away for {away} s; {allowed} s are promised",
            "appen var borte i {away} s; {allowed} s er lovet",
            "appen var borta i {away} s; {allowed} s är utlovat"
        );
        let (lost, may_be_lost) = (seconds(*lost_ms), seconds(*rpo_ms));
        let rpo = words!(
            "{back} of {rows} acknowledged rows came back; what was lost was written in the last {lost} s, {may_be_lost} s are promised",
            "{back} av {rows} bekreftede rader kom tilbake; det tapte ble skrevet de siste {lost} s, {may_be_lost} s er lovet",
            "{back} av {rows} bekräftade rader kom tillbaka; det förlorade skrevs de sista {lost} s, {may_be_lost} s är utlovat"
        );
        let status = |status: Option<u16>| status.map_or_else(|| "-".to_owned(), |status| status.to_string());
        let (first, then) = (status(*before), status(*after));
        let smoke = words!(
            "the first page answered {first} before, and {then} afterwards",
            "den første siden svarte {first} før, og {then} etterpå",
            "den första sidan svarade {first} innan, och {then} efteråt"
        );
        let in_time = away_ms.is_some_and(|ms| ms <= *rto_ms);
        let is_back = *rows > 0 && *back > 0 && lost_ms <= rpo_ms;
        let is_smooth = after.is_some() && after == before;
        let rehearsed = is_rebuilt && in_time && is_back && is_smooth;
        let same = match plan {
            Some(path) => words!(
                "the commands were those of {path}",
                "kommandoene var de i {path}",
                "kommandona var de i {path}"
            ),
            None => words!(
                "no document has the commands: `klar drill plan --out docs/recovery.md` writes them",
                "ingen dokumenter har kommandoene: `klar drill plan --out docs/recovery.md` skriver dem",
                "inget dokument har kommandona: `klar drill plan --out docs/recovery.md` skriver dem"
            ),
        };
        let last = words!(
            "the plan was followed for this report: {away} s",
            "planen ble fulgt for denne rapporten: {away} s",
            "planen följdes för denna rapport: {away} s"
        );
        vec![
            Finding::when(is_rebuilt, REBUILD, rebuild.clone()),
            Finding::when(in_time, RTO, rto),
            Finding::when(is_back, RPO, rpo),
            Finding::when(is_smooth, SMOKE, smoke),
            Finding::when(rehearsed && plan.is_some(), PLAN, if rehearsed { last } else { rebuild }),
            Finding::when(plan.is_some() && failed.is_none(), SAME, same),
        ]
    }
}
