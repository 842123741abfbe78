//! Whether all that is kept is kept a second time where it is not lost with the first, and can be restored from there alone.

use std::rc::Rc;
use std::time::Duration;

use klar_base::keep::{Ask, Told};
use serde::{Deserialize, Serialize};

use super::{Drilled, asked, unexpected};
use crate::check::{About, Disturbs, Fault, Finding, Need, Probe, Unable};
use crate::words;
use crate::words::Words;
use crate::world::World;

/// The second place.
pub struct Elsewhere;

/// What is there.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Seen {
    /// Where it is.
    place: String,
    /// Why there is nothing to look at.
    none: Option<String>,
    /// Objects that both places have, and their bytes.
    same: u64,
    bytes: u64,
    /// Those that differ.
    differ: Vec<String>,
    /// Why both would be lost together.
    together: Option<String>,
    /// Whether what is there can be removed by nobody.
    locked: bool,
    /// A restore from there alone.
    drill: Drilled,
}

const SEPARATE: (&str, &str) = ("data.backup.offsite", "separate");
const DIGEST: (&str, &str) = ("data.backup.offsite", "digest");
const LOCKED: (&str, &str) = ("data.backup.offsite", "locked");
const RESTORE: (&str, &str) = ("data.backup.offsite", "restore");

impl Probe for Elsewhere {
    type Seen = Seen;

    const ABOUT: About = About {
        id: "backup-elsewhere",
        version: 1,
        question: "Is all that is kept there once more, where it is not lost with this machine, and can it be restored from there alone?",
        does: "Compares names, which are digests, and lengths of all objects at both places, looks whether both are on one disk or machine, writes a small object there and tries to remove it, and restores the newest point from there alone.",
        shows: &[SEPARATE, DIGEST, LOCKED, RESTORE],
        needs: &[Need::Klar, Need::Kept],
        disturbs: Disturbs::Load,
        good_for: Duration::from_secs(7 * 24 * 3600),
        limit: Duration::from_secs(3600),
        faults: &[
            Fault::Foil("never-backed-up", DIGEST),
            Fault::Foil("second-beside-first", SEPARATE),
            Fault::Foil("second-lacks-pack", DIGEST),
            Fault::Foil("second-can-go", LOCKED),
            Fault::Foil("second-rots", RESTORE),
        ],
    };

    async fn look(world: Rc<World>) -> Result<Seen, Unable> {
        let klar = world.klar.clone().ok_or_else(|| Unable(Need::Klar.missing()))?;
        let mut seen = Seen::default();
        match asked(&*klar, Ask::Compare { store: None }).await {
            Ok(Told::Compared { place, same, bytes, differ, together, locked }) => {
                seen = Seen { place, same, bytes, differ, together, locked, ..seen };
            }
            Ok(_) => return Err(unexpected()),
            // That there is none is what was found.
            Err(Unable(why)) => {
                seen.none = Some(why.en);
                return Ok(seen);
            }
        }
        let drill = Ask::Drill { store: None, point: None, escrow: None, second: true };
        seen.drill = Drilled::of(asked(&*klar, drill).await)?;
        Ok(seen)
    }

    fn judge(seen: &Seen) -> Vec<Finding> {
        let Seen { place, same, bytes, differ, together, locked, drill, none } = seen;
        if let Some(why) = none {
            let none = |part| Finding::broken(part, Words::same(why.clone()));
            return [SEPARATE, DIGEST, LOCKED, RESTORE].map(none).into();
        }
        let separate = match together {
            Some(why) => Words::same(format!("{place}: {why}")),
            None => words!(
                "{place} is on another disk or machine",
                "{place} er på en annen disk eller maskin",
                "{place} ligger på en annan disk eller maskin"
            ),
        };
        let first = differ.first().map_or("-", String::as_str);
        let digest = if differ.is_empty() {
            words!(
                "{same} objects, {bytes} bytes, are the same at both places",
                "{same} objekter, {bytes} byte, er de samme på begge steder",
                "{same} objekt, {bytes} byte, är desamma på båda platserna"
            )
        } else {
            let number = differ.len();
            words!(
                "{number} objects differ or are missing at {place}: {first}",
                "{number} objekter er ulike eller mangler på {place}: {first}",
                "{number} objekt skiljer sig eller saknas på {place}: {first}"
            )
        };
        let lock = if *locked {
            words!(
                "what was written there could not be removed",
                "det som ble skrevet der, kunne ikke fjernes",
                "det som skrevs dit kunde inte tas bort"
            )
        } else {
            words!(
                "what was written there could be removed: whoever takes over this machine can remove the backups too",
                "det som ble skrevet der, kunne fjernes: den som tar over denne maskinen, kan også fjerne sikkerhetskopiene",
                "det som skrevs dit kunde tas bort: den som tar över denna maskin kan också ta bort säkerhetskopiorna"
            )
        };
        vec![
            Finding::when(together.is_none(), SEPARATE, separate),
            Finding::when(differ.is_empty() && *same > 0, DIGEST, digest),
            Finding::when(*locked, LOCKED, lock),
            Finding::when(drill.good, RESTORE, Words::same(drill.evidence())),
        ]
    }
}
