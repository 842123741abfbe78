//! A new release, the way back, and a release that cannot start, all while visitors come.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::pace::{Pace, Tally};
use super::{anybody, good_reads, read};
use crate::check::{About, Disturbs, Fault, Finding, Need, Probe, Unable};
use crate::words;
use crate::words::Words;
use crate::world::{Klar, World};

/// The app while it changes.
pub struct Rollouts;

/// What became of the releases and of the requests.
#[derive(Debug, Serialize, Deserialize)]
pub struct Seen {
    /// A good release was shipped and served.
    shipped: bool,
    /// The release before served again after the way back.
    back: bool,
    back_ms: u64,
    /// A release that cannot start was refused, and the one before served on.
    refused: bool,
    /// The fewest instances that served at any look, and how many there are.
    fewest: usize,
    instances: usize,
    /// Whether anybody looked at the instances meanwhile.
    #[serde(default)]
    watched: bool,
    /// Paths that were answered well before and not afterwards.
    lost: Vec<String>,
    tally: Tally,
}

const RATE: u32 = 50;
const RUN: Duration = Duration::from_secs(240);
const SOON: u64 = 10_000;

impl Probe for Rollouts {
    type Seen = Seen;

    const ABOUT: About = About {
        id: "rollouts",
        version: 1,
        question: "Can a release be shipped, taken back and refused without a visitor noticing?",
        does: "Reads at 50 requests/s in the rig while a new release is shipped, rolled back, and one that cannot start is shipped; counts failures and instances.",
        shows: &[
            ("deploy.rollback", "seconds"),
            ("deploy.rollback", "data"),
            ("deploy.rolling", "healthy"),
            ("deploy.rolling", "no-failures"),
            ("deploy.rolling", "stops"),
            ("deploy.blue-green", "no-failures"),
        ],
        needs: &[Need::Site, Need::Klar],
        disturbs: Disturbs::Stops,
        good_for: Duration::from_secs(7 * 24 * 3600),
        limit: Duration::from_secs(300),
        faults: &[
            Fault::Foil("no-way-back", ("deploy.rollback", "seconds")),
            Fault::Foil("drops-on-deploy", ("deploy.rollback", "data")),
            Fault::Foil("drops-on-deploy", ("deploy.rolling", "no-failures")),
            Fault::Foil("drops-on-deploy", ("deploy.blue-green", "no-failures")),
            Fault::Foil("takes-broken", ("deploy.rolling", "stops")),
        ],
    };

    async fn look(world: Rc<World>) -> Result<Seen, Unable> {
        let klar = world.klar.clone().ok_or_else(|| Unable(Need::Klar.missing()))?;
        let session = anybody(&world).await;
        let paths = good_reads(&world, session.as_ref()).await?;
        let enough = Rc::new(Cell::new(false));
        let fewest = Rc::new(Cell::new(usize::MAX));
        let instances = klar.instances().await.map_err(|why| Unable(Words::same(why)))?.len();
        let pace = Pace { rate: RATE, run: RUN, enough: Rc::clone(&enough), paths: paths.clone() };
        let load = pace.run(Rc::clone(&world), session.clone());
        let changes = async {
            let changed = change(&*klar, world.patience(Duration::from_secs(2))).await;
            enough.set(true);
            changed
        };
        let watching = async {
            while !enough.get() {
                if let Ok(now) = klar.instances().await {
                    fewest.set(fewest.get().min(now.len()));
                }
                tokio::time::sleep(Duration::from_millis(250)).await;
            }
        };
        let (tally, changed, ()) = tokio::join!(load, changes, watching);
        let (shipped, back, back_ms, refused) = changed.map_err(|why| Unable(Words::same(why)))?;
        let mut lost = Vec::new();
        for path in paths {
            if !read(&world, session.as_ref(), &path).await.is_ok_and(|answer| answer.status.is_success()) {
                lost.push(path);
            }
        }
        let watched = fewest.get() != usize::MAX;
        Ok(Seen {
            watched,
            shipped,
            back,
            back_ms,
            refused,
            fewest: fewest.get().min(instances),
            instances,
            lost,
            tally,
        })
    }

    fn judge(seen: &Seen) -> Vec<Finding> {
        let ms = seen.back_ms;
        let back = if seen.back {
            words!("back after {ms} ms", "tilbake etter {ms} ms", "tillbaka efter {ms} ms")
        } else {
            words!(
                "the release before does not serve again",
                "utgivelsen før serverer ikke igjen",
                "releasen före serverar inte igen"
            )
        };
        let lost = seen.lost.first();
        let data = match lost {
            None => words!("all is answered as before", "alt besvares som før", "allt besvaras som förut"),
            Some(path) => words!(
                "{path} is not answered well any more",
                "{path} besvares ikke godt lenger",
                "{path} besvaras inte väl längre"
            ),
        };
        let refused = if seen.refused {
            words!(
                "a release that cannot start was refused",
                "en utgivelse som ikke kan starte ble avvist",
                "en release som inte kan starta avvisades"
            )
        } else {
            words!(
                "a release that cannot start was taken",
                "en utgivelse som ikke kan starte ble tatt i bruk",
                "en release som inte kan starta togs i bruk"
            )
        };
        let Seen { fewest, instances, .. } = seen;
        let healthy = words!(
            "never fewer than {fewest} of {instances} instances",
            "aldri færre enn {fewest} av {instances} instanser",
            "aldrig färre än {fewest} av {instances} instanser"
        );
        let none = seen.tally.failed == 0;
        let mut found = vec![
            Finding::when(seen.back && ms <= SOON, ("deploy.rollback", "seconds"), back),
            Finding::when(lost.is_none(), ("deploy.rollback", "data"), data),
            Finding::when(seen.refused, ("deploy.rolling", "stops"), refused),
            if *instances < 2 || !seen.watched {
                Finding::unseen(("deploy.rolling", "healthy"), healthy)
            } else {
                Finding::when(fewest + 1 >= *instances, ("deploy.rolling", "healthy"), healthy)
            },
        ];
        if seen.shipped {
            found.push(seen.tally.finding(none, ("deploy.rolling", "no-failures")));
            found.push(seen.tally.finding(none, ("deploy.blue-green", "no-failures")));
        }
        found
    }
}

async fn change(klar: &dyn Klar, pause: Duration) -> Result<(bool, bool, u64, bool), String> {
    tokio::time::sleep(pause).await;
    let before = klar.release().await?;
    let shipped = klar.ship(false).await? && klar.release().await? != before;
    tokio::time::sleep(pause).await;
    let began = tokio::time::Instant::now();
    // One that is refused is no way back.
    let back = klar.roll_back().await.is_ok() && klar.release().await? == before;
    let back_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
    tokio::time::sleep(pause).await;
    let taken = klar.ship(true).await?;
    let refused = !taken && (klar.release().await? == before || !back);
    tokio::time::sleep(pause).await;
    Ok((shipped, back, back_ms, refused))
}
