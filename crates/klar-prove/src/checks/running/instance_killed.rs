//! One process of the app is killed while visitors come.

use std::rc::Rc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::pace::{Pace, Tally};
use super::{anybody, good_reads};
use crate::check::{About, Disturbs, Fault, Finding, Need, Probe, Unable};
use crate::words;
use crate::words::Words;
use crate::world::{World, until};

/// The app with an instance less.
pub struct InstanceKilled;

/// What became of requests, and of the instance.
#[derive(Debug, Serialize, Deserialize)]
pub struct Seen {
    service: String,
    instances: usize,
    tally: Tally,
    /// Milliseconds from the kill until as many instances serve again; `None` within a minute.
    back_after_ms: Option<u64>,
    limit_s: u64,
    /// How often telemetry says that instances of the service had to be started again: before, and after at most 40 s.
    #[serde(default)]
    restarts: Option<(f64, f64)>,
    /// Metrics of stability that are not there.
    #[serde(default)]
    missing: Vec<String>,
}

const RUN: Duration = Duration::from_secs(12);
const BACK: Duration = Duration::from_secs(60);
const RATE: u32 = 100;
/// Telemetry writes down every 15 s.
const WRITTEN: Duration = Duration::from_secs(40);
const STABILITY: (&str, &str) = ("mon.metric.stability", "kill");
const SERIES: (&str, &str) = ("mon.metric.stability", "series");
/// Restarts, how long each instance has been up, and the share without a crash.
const WANTED: [&str; 3] =
    ["klar_service_restarts_total", "klar_instance_start_time_seconds", "klar_service_crash_free_ratio"];

impl Probe for InstanceKilled {
    type Seen = Seen;

    const ABOUT: About = About {
        id: "instance-killed",
        version: 1,
        question: "When a process of the app is killed, does nobody notice, and does it come back?",
        does: "Reads at 100 requests/s in the rig, kills one instance with SIGKILL after 2 s, counts what fails and waits until as many instances serve as before.",
        shows: &[
            ("runtime.supervisor", "restart"),
            ("edge.load-balancer", "failures"),
            ("edge.load-balancer", "ejected"),
            ("test.failover", "instance"),
            ("scale.autoscale.min2-max10", "minimum"),
            ("scale.autoscale.min2-max10", "replaced"),
            STABILITY,
            SERIES,
        ],
        needs: &[Need::Site, Need::Klar],
        disturbs: Disturbs::Stops,
        good_for: Duration::from_secs(7 * 24 * 3600),
        limit: Duration::from_secs(180),
        faults: &[
            Fault::Foil("never-restarted", ("runtime.supervisor", "restart")),
            Fault::Foil("no-failover", ("edge.load-balancer", "failures")),
            Fault::Foil("no-failover", ("test.failover", "instance")),
            Fault::Foil("never-restarted", ("edge.load-balancer", "ejected")),
            Fault::Foil("never-restarted", ("scale.autoscale.min2-max10", "replaced")),
            Fault::Foil("one-instance", ("scale.autoscale.min2-max10", "minimum")),
            Fault::Foil("uncounted-restarts", STABILITY),
            Fault::Foil("unknown-uptime", SERIES),
        ],
    };

    async fn look(world: Rc<World>) -> Result<Seen, Unable> {
        let klar = world.klar.clone().ok_or_else(|| Unable(Need::Klar.missing()))?;
        let cannot = |why: String| Unable(Words::same(why));
        let instances = klar.instances().await.map_err(cannot)?;
        let Some(victim) = instances.iter().find(|instance| instance.pid.is_some()).cloned() else {
            return Err(Unable(words!("no instance runs", "ingen instans kjører", "ingen instans körs")));
        };
        let session = anybody(&world).await;
        let paths = good_reads(&world, session.as_ref()).await?;
        let of_service = |instances: &[crate::world::Instance]| {
            instances.iter().filter(|instance| instance.service == victim.service).count()
        };
        let before = of_service(&instances);
        let restarts = async || -> Option<f64> {
            let counted = klar.measured("klar_service_restarts_total").await.ok()?;
            let of = counted.iter().filter(|series| series.labels.get("service") == Some(&victim.service));
            of.map(|series| series.value).reduce(f64::max)
        };
        // An app that has just begun has not been written down yet.
        let restarts_before = until(world.patience(WRITTEN), restarts).await;
        let pace = Pace { rate: RATE, run: world.patience(RUN), enough: Rc::default(), paths };
        let load = pace.run(Rc::clone(&world), session);
        let kill = async {
            tokio::time::sleep(world.patience(Duration::from_secs(2))).await;
            klar.kill(&victim).await?;
            let killed = tokio::time::Instant::now();
            let back = || async {
                let now = klar.instances().await.ok()?;
                let gone = now.iter().all(|instance| instance.pid != victim.pid);
                (gone && of_service(&now) >= before).then(|| killed.elapsed())
            };
            Ok::<_, String>(until(world.patience(BACK), back).await)
        };
        let (tally, back) = tokio::join!(load, kill);
        let back = back.map_err(cannot)?;
        let restarts = match restarts_before {
            None => None,
            Some(was) => {
                let more = async || restarts().await.filter(|now| *now > was);
                Some((was, until(world.patience(WRITTEN), more).await.unwrap_or(was)))
            }
        };
        let mut missing = Vec::new();
        for name in WANTED {
            if klar.measured(name).await.map_err(cannot)?.is_empty() {
                missing.push(name.to_owned());
            }
        }
        Ok(Seen {
            service: victim.service.clone(),
            instances: before,
            tally,
            back_after_ms: back.map(|after| u64::try_from(after.as_millis()).unwrap_or(u64::MAX)),
            limit_s: BACK.as_secs(),
            restarts,
            missing,
        })
    }

    fn judge(seen: &Seen) -> Vec<Finding> {
        let Seen { instances, service, limit_s, .. } = seen;
        let back = match seen.back_after_ms {
            Some(ms) => words!(
                "{instances} instances of {service} again after {ms} ms",
                "{instances} instanser av {service} igjen etter {ms} ms",
                "{instances} instanser av {service} igen efter {ms} ms"
            ),
            None => words!(
                "not {instances} instances of {service} again within {limit_s} s",
                "ikke {instances} instanser av {service} igjen innen {limit_s} s",
                "inte {instances} instanser av {service} igen inom {limit_s} s"
            ),
        };
        let is_back = seen.back_after_ms.is_some();
        let few = seen.tally.failed * 1000 <= seen.tally.sent;
        let mut found = vec![
            Finding::when(is_back, ("runtime.supervisor", "restart"), back.clone()),
            Finding::when(is_back, ("edge.load-balancer", "ejected"), back.clone()),
            Finding::when(is_back, ("scale.autoscale.min2-max10", "replaced"), back),
            Finding::when(
                *instances == 2,
                ("scale.autoscale.min2-max10", "minimum"),
                words!(
                    "{instances} instances when idle",
                    "{instances} instanser i ro",
                    "{instances} instanser i vila"
                ),
            ),
        ];
        let (there, missing) = (WANTED.join(", "), seen.missing.join(", "));
        found.push(if seen.missing.is_empty() {
            Finding::held(
                SERIES,
                words!(
                    "there are series of {there}",
                    "det finnes serier for {there}",
                    "det finns serier för {there}"
                ),
            )
        } else {
            Finding::broken(
                SERIES,
                words!("there is no {missing}", "det finnes ingen {missing}", "det finns ingen {missing}"),
            )
        });
        found.push(match seen.restarts {
            None => Finding::unseen(
                STABILITY,
                words!(
                    "telemetry says nothing of how often instances were started again",
                    "telemetrien sier ikke noe om hvor ofte instanser ble startet på nytt",
                    "telemetrin säger inget om hur ofta instanser startades om"
                ),
            ),
            Some((was, is)) => Finding::when(
                is == was + 1.0,
                STABILITY,
                words!(
                    "one instance of {service} was killed; its restarts were {was} before and {is} after",
                    "én instans av {service} ble drept; omstartene var {was} før og {is} etter",
                    "en instans av {service} dödades; omstarterna var {was} före och {is} efter"
                ),
            ),
        });
        found.push(seen.tally.finding(few, ("edge.load-balancer", "failures")));
        found.push(seen.tally.finding(few, ("test.failover", "instance")));
        found
    }
}
