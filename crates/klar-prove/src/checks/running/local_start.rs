//! One command, and the whole app is there.

use std::rc::Rc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{anybody, smoke};
use crate::check::{About, Disturbs, Fault, Finding, Need, Probe, Unable};
use crate::evidence::Place;
use crate::words;
use crate::world::World;

/// The rig itself: it was started with `klar up` and nothing else.
pub struct LocalStart;

/// What was asked of it once it was up.
#[derive(Debug, Serialize, Deserialize)]
pub struct Seen {
    instances: usize,
    stores: usize,
    asked: usize,
    /// Paths that were answered with 5xx or not at all.
    failed: Vec<String>,
}

impl Probe for LocalStart {
    type Seen = Seen;

    const ABOUT: About = About {
        id: "local-start",
        version: 1,
        question: "Does one command start everything, databases included, on a machine that has nothing of it?",
        does: "Looks at the rig, which `klar up` has started from the app's files alone, and asks every page and every reading operation once.",
        shows: &[("deploy.env.local", "one-command"), ("deploy.env.local", "smoke")],
        needs: &[Need::Site, Need::Klar],
        disturbs: Disturbs::Stops,
        good_for: Duration::from_secs(7 * 24 * 3600),
        limit: Duration::from_secs(60),
        faults: &[
            Fault::Foil("dead-on-arrival", ("deploy.env.local", "smoke")),
            Fault::Foil("nothing-runs", ("deploy.env.local", "one-command")),
        ],
    };

    async fn look(world: Rc<World>) -> Result<Seen, Unable> {
        if world.place != Place::Rig && !world.is_foil {
            return Err(Unable(words!(
                "only a rig is started from nothing: klar check --full",
                "bare en rigg startes fra ingenting: klar check --full",
                "bara en rigg startas från ingenting: klar check --full"
            )));
        }
        let klar = world.klar.clone().ok_or_else(|| Unable(Need::Klar.missing()))?;
        let session = anybody(&world).await;
        let (asked, failed) = smoke(&world, session.as_ref()).await;
        Ok(Seen {
            instances: klar.instances().await.unwrap_or_default().len(),
            stores: klar.stores().await.unwrap_or_default().len(),
            asked,
            failed,
        })
    }

    fn judge(seen: &Seen) -> Vec<Finding> {
        let Seen { instances, stores, asked, .. } = seen;
        let up = words!(
            "{instances} instances and {stores} databases after `klar up`",
            "{instances} instanser og {stores} databaser etter `klar up`",
            "{instances} instanser och {stores} databaser efter `klar up`"
        );
        let first = seen.failed.first().map(|path| format!(": {path}")).unwrap_or_default();
        let failed = seen.failed.len();
        let smoke = words!(
            "{failed} of {asked} pages and operations failed{first}",
            "{failed} av {asked} sider og operasjoner mislyktes{first}",
            "{failed} av {asked} sidor och operationer misslyckades{first}"
        );
        let mut found = vec![Finding::when(*instances > 0, ("deploy.env.local", "one-command"), up)];
        if *asked > 0 {
            found.push(Finding::when(failed == 0, ("deploy.env.local", "smoke"), smoke));
        }
        found
    }
}
