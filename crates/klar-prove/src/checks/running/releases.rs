//! Which release each instance runs.

use std::collections::BTreeSet;
use std::rc::Rc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{READY, read};
use crate::check::{About, Disturbs, Fault, Finding, Need, Probe, Unable};
use crate::words;
use crate::words::Words;
use crate::world::World;

/// The instances that serve, side by side.
pub struct Releases;

/// What they run, and what the app says of its health.
#[derive(Debug, Serialize, Deserialize)]
pub struct Seen {
    instances: usize,
    releases: BTreeSet<String>,
    health: Option<(String, u16)>,
}

impl Probe for Releases {
    type Seen = Seen;

    const ABOUT: About = About {
        id: "releases",
        version: 1,
        question: "Do all instances that serve run the same release, and is the app ready?",
        does: "Reads which release each serving instance was started from, and asks the health path.",
        shows: &[("deploy.backend", "same"), ("deploy.backend", "ready")],
        needs: &[Need::Site, Need::Klar],
        disturbs: Disturbs::Nothing,
        good_for: Duration::from_secs(24 * 3600),
        limit: Duration::from_secs(20),
        faults: &[
            Fault::Foil("two-releases", ("deploy.backend", "same")),
            Fault::Foil("never-ready", ("deploy.backend", "ready")),
        ],
    };

    async fn look(world: Rc<World>) -> Result<Seen, Unable> {
        let klar = world.klar.clone().ok_or_else(|| Unable(Need::Klar.missing()))?;
        let status = klar.status().await.map_err(|why| Unable(Words::same(why)))?;
        let services = status.get("services").and_then(Value::as_array).into_iter().flatten();
        let instances = services.filter_map(|service| service.get("instances")?.as_array()).flatten();
        // An instance that is kept warm for the way back serves nobody.
        let serving: Vec<&Value> = instances
            .filter(|instance| instance.get("serving").is_none_or(|serves| serves == true))
            .collect();
        let releases = serving.iter().filter_map(|instance| instance.get("release")?.as_str());
        let mut health = None;
        for path in READY {
            let answer = read(&world, None, path).await.ok();
            if let Some(answer) = answer.filter(|answer| !answer.is_html() && answer.status != 404) {
                health = Some((path.to_owned(), answer.status.as_u16()));
                break;
            }
        }
        Ok(Seen { instances: serving.len(), releases: releases.map(str::to_owned).collect(), health })
    }

    fn judge(seen: &Seen) -> Vec<Finding> {
        let (instances, releases) = (seen.instances, seen.releases.len());
        let mut found = Vec::new();
        if releases > 0 {
            found.push(Finding::when(
                releases == 1,
                ("deploy.backend", "same"),
                words!(
                    "{releases} releases on {instances} instances",
                    "{releases} utgivelser på {instances} instanser",
                    "{releases} releaser på {instances} instanser"
                ),
            ));
        }
        if let Some((path, status)) = &seen.health {
            let told = words!("{path} answers {status}", "{path} svarer {status}", "{path} svarar {status}");
            found.push(Finding::when(*status == 200, ("deploy.backend", "ready"), told));
        }
        found
    }
}
