//! How fast the health endpoints answer.

use std::rc::Rc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{LIVE, READY, read};
use crate::check::{About, Disturbs, Fault, Finding, Need, Probe, Unable};
use crate::words;
use crate::world::{TURNS, World};

/// The health endpoints' time to answer.
pub struct HealthSpeed;

/// The middle time of each endpoint that there is.
#[derive(Debug, Serialize, Deserialize)]
pub struct Seen {
    /// Path, and milliseconds: half of the answers took no longer.
    ready: Option<(String, u64)>,
    live: Option<(String, u64)>,
}

const ASKED: usize = 9;
const LIMIT_MS: u64 = 100;

impl Probe for HealthSpeed {
    type Seen = Seen;

    const ABOUT: About = About {
        id: "health-speed",
        version: 1,
        question: "Do the health endpoints answer at once?",
        does: "Asks the endpoints for readiness and for life nine times each, alone with the site, and takes the middle time.",
        shows: &[("mon.health-checks", "fast")],
        needs: &[Need::Site],
        disturbs: Disturbs::Nothing,
        good_for: Duration::from_secs(24 * 3600),
        limit: Duration::from_secs(40),
        faults: &[Fault::Foil("slow-health", ("mon.health-checks", "fast"))],
    };

    async fn look(world: Rc<World>) -> Result<Seen, Unable> {
        Ok(Seen { ready: middle(&world, &READY).await, live: middle(&world, &LIVE).await })
    }

    fn judge(seen: &Seen) -> Vec<Finding> {
        let place = ("mon.health-checks", "fast");
        let all: Vec<&(String, u64)> = seen.ready.iter().chain(&seen.live).collect();
        if let Some((path, ms)) = all.iter().find(|(_, ms)| *ms >= LIMIT_MS) {
            return vec![Finding::broken(
                place,
                words!("{path} takes {ms} ms", "{path} bruker {ms} ms", "{path} tar {ms} ms"),
            )];
        }
        match (&seen.ready, &seen.live) {
            (Some((ready, first)), Some((live, second))) => vec![Finding::held(
                place,
                words!(
                    "{ready} takes {first} ms, {live} {second} ms",
                    "{ready} bruker {first} ms, {live} {second} ms",
                    "{ready} tar {first} ms, {live} {second} ms"
                ),
            )],
            _ => vec![Finding::unseen(
                place,
                words!(
                    "both endpoints, for readiness and for life, are not there",
                    "begge endepunktene, for klarhet og for liv, finnes ikke",
                    "båda ändpunkterna, för beredskap och för liv, finns inte"
                ),
            )],
        }
    }
}

/// The middle time of the first of these paths that there is.
async fn middle(world: &Rc<World>, paths: &[&str]) -> Option<(String, u64)> {
    for path in paths {
        let Ok(answer) = read(world, None, path).await else { continue };
        // A page for people is what a front end answers to any path.
        if answer.is_html() || !answer.status.is_success() {
            continue;
        }
        let mut times = Vec::new();
        for _ in 0..ASKED {
            // Alone: it is the app's time that counts, and not that of the probes beside this one.
            let _alone = world.turns.acquire_many(TURNS).await;
            let site = world.site.as_ref()?;
            if let Ok(answer) = site.get(path).await {
                times.push(u64::try_from(answer.took.as_millis()).unwrap_or(u64::MAX));
            }
        }
        times.sort_unstable();
        let middle = times.get(times.len() / 2).copied()?;
        return Some(((*path).to_owned(), middle));
    }
    None
}
