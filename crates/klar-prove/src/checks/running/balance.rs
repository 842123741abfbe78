//! Does each instance get its share, and a new one too?

use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::pace::Pace;
use super::{anybody, good_reads};
use crate::check::{About, Disturbs, Fault, Finding, Need, Probe, Unable};
use crate::words;
use crate::words::Words;
use crate::world::{Klar, Session, World, until};

/// The shares of the instances.
pub struct Balance;

/// What klar counted for each instance.
#[derive(Debug, Serialize, Deserialize)]
pub struct Seen {
    service: String,
    /// Requests of each instance while all ran.
    shares: BTreeMap<String, u64>,
    /// The instance that came after one was killed, and its requests; `None` when none came in time.
    joined: Option<(String, u64)>,
}

const RUN: Duration = Duration::from_secs(8);
const RATE: u32 = 100;
const BACK: Duration = Duration::from_secs(60);
/// Fewer say nothing about shares.
const ENOUGH: u64 = 200;
/// So many instances the row asks for.
const ASKED: u32 = 3;
const TOLD: Duration = Duration::from_millis(2500);

impl Probe for Balance {
    type Seen = Seen;

    const ABOUT: About = About {
        id: "balance",
        version: 2,
        question: "Do all instances get equal shares, and does one that comes back get requests again?",
        does: "Has klar run three instances in the rig, reads at 100 requests/s, compares what klar counted for each instance, kills one, and reads again until the one that comes in its place is asked too.",
        shows: &[("edge.load-balancer", "spread"), ("edge.load-balancer", "rejoins")],
        needs: &[Need::Site, Need::Klar],
        disturbs: Disturbs::Stops,
        good_for: Duration::from_secs(7 * 24 * 3600),
        limit: Duration::from_secs(150),
        faults: &[
            Fault::Foil("favourite-instance", ("edge.load-balancer", "spread")),
            Fault::Foil("never-restarted", ("edge.load-balancer", "rejoins")),
        ],
    };

    async fn look(world: Rc<World>) -> Result<Seen, Unable> {
        let klar = world.klar.clone().ok_or_else(|| Unable(Need::Klar.missing()))?;
        let session = anybody(&world).await;
        let paths = good_reads(&world, session.as_ref()).await?;
        let cannot = |why: String| Unable(Words::same(why));
        let instances = klar.instances().await.map_err(cannot)?;
        let victim = instances.into_iter().find(|instance| instance.pid.is_some());
        let Some(victim) = victim else {
            return Err(Unable(words!("no instance runs", "ingen instans kjører", "ingen instans körs")));
        };
        let service = victim.service.clone();
        let status = klar.status().await.map_err(cannot)?;
        let usual = wanted(&status, &service).unwrap_or(ASKED);
        if usual < ASKED {
            // A service of which there can be only one is looked at as it is.
            let _ = klar.scale(&service, ASKED).await;
        }
        let seen = measured(&world, &*klar, service.clone(), session, paths).await;
        if usual < ASKED {
            let _ = klar.scale(&service, usual).await;
        }
        seen.map_err(cannot)
    }

    fn judge(seen: &Seen) -> Vec<Finding> {
        let place = ("edge.load-balancer", "spread");
        let (count, all) = (seen.shares.len(), seen.shares.values().sum::<u64>());
        let service = &seen.service;
        let (least, most) = (
            seen.shares.values().min().copied().unwrap_or_default(),
            seen.shares.values().max().copied().unwrap_or_default(),
        );
        let told = words!(
            "{count} instances of {service}: between {least} and {most} of {all} requests",
            "{count} instanser av {service}: mellom {least} og {most} av {all} forespørsler",
            "{count} instanser av {service}: mellan {least} och {most} av {all} anrop"
        );
        // Each within a tenth of an equal share.
        let n = u64::try_from(count).unwrap_or(1).max(1);
        let equal = least * n * 10 >= all * 9 && most * n * 10 <= all * 11;
        let spread = if count < 2 || all < ENOUGH {
            Finding::unseen(place, told)
        } else if !equal {
            Finding::broken(place, told)
        } else if count < 3 {
            Finding::unseen(
                place,
                told.and(&words!(
                    "; equal shares, but three instances are asked for",
                    "; like deler, men det spørres etter tre instanser",
                    "; lika delar, men tre instanser krävs"
                )),
            )
        } else {
            Finding::held(place, told)
        };
        let rejoins = ("edge.load-balancer", "rejoins");
        vec![
            spread,
            match &seen.joined {
                Some((name, count)) => Finding::held(
                    rejoins,
                    words!(
                        "{name} came in place of the killed one and got {count} requests",
                        "{name} kom i stedet for den drepte og fikk {count} forespørsler",
                        "{name} kom i stället för den dödade och fick {count} anrop"
                    ),
                ),
                None => Finding::broken(
                    rejoins,
                    words!(
                        "no instance came in place of the killed one and got requests within 60 s",
                        "ingen instans kom i stedet for den drepte og fikk forespørsler innen 60 s",
                        "ingen instans kom i stället för den dödade och fick anrop inom 60 s"
                    ),
                ),
            },
        ]
    }
}

/// How many instances of a service there should be.
fn wanted(status: &Value, service: &str) -> Option<u32> {
    let mut services = status.get("services").and_then(Value::as_array).into_iter().flatten();
    let found = services.find(|each| each.get("name").and_then(Value::as_str) == Some(service))?;
    found.get("wanted")?.as_u64()?.try_into().ok()
}

/// Reads, compares, kills one, and reads again.
async fn measured(
    world: &Rc<World>,
    klar: &dyn Klar,
    service: String,
    session: Option<Session>,
    paths: Vec<String>,
) -> Result<Seen, String> {
    let rate = if world.is_foil { 2_000 } else { RATE };
    let pace = Pace { rate, run: world.patience(RUN), enough: Rc::default(), paths };
    let before = counts(klar, &service).await?;
    pace.run(Rc::clone(world), session.clone()).await;
    // What the edge has counted is known a moment later.
    tokio::time::sleep(world.patience(TOLD)).await;
    let after = counts(klar, &service).await?;
    let shares = after
        .iter()
        .filter_map(|(name, count)| Some((name.clone(), count.saturating_sub(*before.get(name)?))))
        .collect();
    let instances = klar.instances().await?;
    let victim = instances.into_iter().find(|instance| instance.service == service && instance.pid.is_some());
    klar.kill(&victim.ok_or("no instance runs")?).await?;
    let again = Pace { run: world.patience(Duration::from_secs(1)), ..pace };
    let joined = || async {
        let load = again.run(Rc::clone(world), session.clone()).await;
        let now = counts(klar, &service).await.ok()?;
        let fresh = now.into_iter().find(|(name, count)| !after.contains_key(name) && *count > 0);
        fresh.filter(|_| load.sent > 0)
    };
    Ok(Seen { joined: until(world.patience(BACK), joined).await, service, shares })
}

/// What klar has counted for each instance of a service, by name and process: a new process begins anew.
async fn counts(klar: &dyn Klar, service: &str) -> Result<BTreeMap<String, u64>, String> {
    let status = klar.status().await?;
    let services = status.get("services").and_then(Value::as_array).into_iter().flatten();
    let of_service = services.filter(|each| each.get("name").and_then(Value::as_str) == Some(service));
    let instances = of_service.filter_map(|each| each.get("instances")?.as_array()).flatten();
    let counted = instances.filter_map(|instance| {
        let name = instance.get("id")?.as_str()?;
        let pid = instance.get("pid")?.as_i64()?;
        let name = name.rsplit('.').next().unwrap_or(name);
        Some((format!("{service}.{name} ({pid})"), instance.get("requests")?.as_u64()?))
    });
    Ok(counted.take(50).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::Saw;

    #[test]
    fn shares() {
        for (shares, saw) in [
            (&[300, 310, 290][..], Saw::Held),
            (&[300, 400, 200], Saw::Broken),
            (&[300, 310], Saw::Unseen),
            (&[500, 310], Saw::Broken),
            (&[900], Saw::Unseen),
            (&[3, 3, 3], Saw::Unseen),
        ] {
            let shares = shares.iter().enumerate().map(|(n, count)| (n.to_string(), *count)).collect();
            let seen = Seen { service: "api".into(), shares, joined: None };
            assert_eq!(Balance::judge(&seen)[0].saw, saw, "{seen:?}");
        }
    }
}
