//! How quick the app's routes are on an ordinary day, and what it takes of the machine meanwhile.
//!
//! One load for all of it. Requests are sent at a fixed rate whether or not the ones before were answered, and a time
//! begins when a request is due. What else the machine does only makes it slower: so what is too slow is tried again,
//! and the better run counts.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::pace::{Pace, Tally};
use super::shared::{Rush, candidates, rush};
use super::{anybody, good_reads};
use crate::check::{About, Disturbs, Fault, Finding, Need, Probe, Unable};
use crate::words;
use crate::words::Words;
use crate::world::http::Ask;
use crate::world::usage::Usage;
use crate::world::{Instance, Session, World};

/// Times, processor and memory under a steady load.
pub struct SteadyLoad;

/// What was measured.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Seen {
    rate: u32,
    /// For how many seconds; a foil's second is shorter.
    lasted_s: u64,
    tally: Tally,
    routes: BTreeMap<String, Route>,
    transport: Transport,
    /// What each instance took.
    instances: BTreeMap<String, Taken>,
}

/// The times of a route, in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Route {
    count: usize,
    p50: u64,
    p95: u64,
    p99: u64,
}

/// How answers came, seen right after the load.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Transport {
    /// Answers of the API that are worth compressing, and how many came so.
    large: usize,
    compressed: usize,
    stays_open: Option<bool>,
    rush: Option<Rush>,
}

/// What an instance took of the machine.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
struct Taken {
    /// Of the processor cores that it may use, in thousandths.
    cpu: u64,
    throttled: u64,
    /// The most memory at any look, and its limit, in bytes.
    peak: u64,
    limit: Option<u64>,
    /// Its memory in the middle of the first and of the last quarter after the warm-up, in bytes.
    early: u64,
    late: u64,
    looks: usize,
}

const P95: (&str, &str) = ("perf.api-latency", "p95");
const TRANSPORT: (&str, &str) = ("perf.api-latency", "transport");
const CPU: (&str, &str) = ("perf.cpu", "cpu");
const PEAK: (&str, &str) = ("perf.memory", "peak");
const SLOPE: (&str, &str) = ("perf.memory", "slope");
const PROFILE: (&str, &str) = ("perf.cpu", "profile");
const REGRESSION: (&str, &str) = ("perf.cpu", "regression");

/// Requests a second: what an app of a small team has on a busy day, and no test of what it can bear.
const RATE: u32 = 40;
const RUN: Duration = Duration::from_secs(20);
const LOOKS: u32 = 40;
/// The rows' own targets: milliseconds, thousandths of the cores, thousandths of the limit, minutes.
const P95_MS: u64 = 200;
const MOST_CPU: u64 = 700;
const MOST_MEMORY: u64 = 800;
const SOAK_S: u64 = 30 * 60;
/// Fewer answers of a route say nothing about the slowest twentieth of them.
const ENOUGH: usize = 20;
/// Memory that grows by no more than this many thousandths between the first quarter and the last does not grow.
const LEVEL: u64 = 50;
/// Nobody gains from compressing less than this.
const SMALL: usize = 1024;

impl Probe for SteadyLoad {
    type Seen = Seen;

    const ABOUT: About = About {
        id: "steady-load",
        version: 1,
        question: "Under an ordinary load, is every route quick, and do processor and memory stay within bounds?",
        does: "Reads all routes in turn at 40 requests/s for 20 s in the rig, or for as long as --soak says, and watches what the kernel counts for each instance; then looks whether answers are compressed, connections stay open and equal requests become one.",
        shows: &[P95, TRANSPORT, CPU, PROFILE, REGRESSION, SLOPE, PEAK],
        needs: &[Need::Site, Need::Klar],
        disturbs: Disturbs::Attacks,
        good_for: Duration::from_secs(7 * 24 * 3600),
        limit: Duration::from_secs(75 * 60),
        faults: &[
            Fault::Foil("slow-route", P95),
            Fault::Foil("not-compressed", TRANSPORT),
            Fault::Foil("closes-connections", TRANSPORT),
            Fault::Foil("stampedes", TRANSPORT),
            Fault::Foil("busy", CPU),
            Fault::Foil("leaks", SLOPE),
            Fault::Foil("near-its-limit", PEAK),
        ],
    };

    async fn look(world: Rc<World>) -> Result<Seen, Unable> {
        let session = anybody(&world).await;
        let paths = good_reads(&world, session.as_ref()).await?;
        let mut seen = loaded(&world, session.as_ref(), &paths).await?;
        // A long run has had its moments: once is enough.
        if seen.slow().is_some() && world.soak.is_none() {
            let again = loaded(&world, session.as_ref(), &paths).await?;
            if again.slow().is_none_or(|(_, p95)| seen.slow().is_some_and(|(_, before)| p95 < before)) {
                seen = again;
            }
        }
        seen.transport = transport(&world, session.as_ref(), &paths).await?;
        Ok(seen)
    }

    fn judge(seen: &Seen) -> Vec<Finding> {
        let no_functions = words!(
            "klar sees processes from outside, and no functions of their code",
            "klar ser prosesser utenfra, og ingen funksjoner i koden deres",
            "klar ser processer utifrån, och inga funktioner i deras kod"
        );
        vec![
            seen.p95(),
            seen.transport.finding(),
            seen.cpu(),
            Finding::unseen(PROFILE, no_functions.clone()),
            Finding::unseen(REGRESSION, no_functions),
            seen.slope(),
            seen.peak(),
        ]
    }
}

/// Sends, and looks at the instances meanwhile.
async fn loaded(world: &Rc<World>, session: Option<&Session>, paths: &[String]) -> Result<Seen, Unable> {
    let klar = world.klar.clone().ok_or_else(|| Unable(Need::Klar.missing()))?;
    let cannot = |why: String| Unable(Words::same(why));
    let run = world.soak.unwrap_or_else(|| world.patience(RUN)).max(Duration::from_secs(1));
    // Enough for each of a foil's few routes, and little enough for a machine that proves other checks beside it.
    let rate = if world.is_foil { 100 } else { RATE };
    let pace = Pace { rate, run, enough: Rc::default(), paths: paths.to_vec() };
    let instances = klar.instances().await.map_err(cannot)?;
    let done = std::cell::Cell::new(false);
    let load = async {
        let sent = pace.run_timed(Rc::clone(world), session.cloned()).await;
        done.set(true);
        sent
    };
    let watch = async {
        let mut looks: BTreeMap<String, Vec<(Duration, Usage)>> = BTreeMap::new();
        let began = tokio::time::Instant::now();
        while !done.get() {
            for instance in &instances {
                if let Ok(Some(usage)) = klar.usage(instance).await {
                    looks.entry(name(instance)).or_default().push((began.elapsed(), usage));
                }
            }
            tokio::time::sleep(run / LOOKS).await;
        }
        looks
    };
    let ((tally, times), looks) = tokio::join!(load, watch);
    let taken = |(name, looks): (String, Vec<(Duration, Usage)>)| Some((name, taken(world.is_foil, &looks)?));
    Ok(Seen {
        rate,
        lasted_s: if world.is_foil { SOAK_S } else { run.as_secs() },
        tally,
        routes: times.into_iter().filter_map(|(path, times)| Some((path, Route::of(times)?))).collect(),
        transport: Transport::default(),
        instances: looks.into_iter().filter_map(taken).collect(),
    })
}

fn name(instance: &Instance) -> String {
    instance.name.clone()
}

/// What came of many looks at an instance. In a foil each look is a second after the one before.
fn taken(is_foil: bool, looks: &[(Duration, Usage)]) -> Option<Taken> {
    let ((began, first), (ended, last)) = (looks.first()?, looks.last()?);
    let seconds =
        if is_foil { looks.len().saturating_sub(1) as f64 } else { (*ended - *began).as_secs_f64() };
    let busy = last.cpu_ms.saturating_sub(first.cpu_ms) as f64 / 1000.0;
    let share = busy / (seconds * last.cores);
    // The first quarter is warm-up: caches fill, code is compiled.
    let warm = looks.get(looks.len() / 4..)?;
    let quarter = warm.len().div_ceil(4);
    let middle = |looks: &[(Duration, Usage)]| {
        let mut all: Vec<u64> = looks.iter().map(|(_, usage)| usage.memory).collect();
        all.sort_unstable();
        all.get(all.len() / 2).copied().unwrap_or(0)
    };
    Some(Taken {
        cpu: if share.is_finite() { (share * 1000.0).clamp(0.0, 1e6) as u64 } else { 0 },
        throttled: last.throttled.saturating_sub(first.throttled),
        peak: looks.iter().map(|(_, usage)| usage.memory).max()?,
        limit: last.memory_limit,
        early: middle(warm.get(..quarter)?),
        late: middle(warm.get(warm.len() - quarter..)?),
        looks: looks.len(),
    })
}

async fn transport(
    world: &Rc<World>,
    session: Option<&Session>,
    paths: &[String],
) -> Result<Transport, Unable> {
    let klar = world.klar.clone().ok_or_else(|| Unable(Need::Klar.missing()))?;
    let on = |ask: Ask| session.map_or(ask.clone(), |session| session.on(ask));
    let mut seen = Transport::default();
    let api = world.api().await.map(|api| api.from.clone()).filter(|from| from.starts_with('/'));
    for path in paths.iter().chain(&api) {
        let plain = Ask::get(path).with("accept", "application/json");
        let Ok(whole) = world.ask(on(plain.clone())).await else { continue };
        let is_text = whole.media_type().contains("json") || whole.media_type().starts_with("text/");
        if whole.body.len() < SMALL || !is_text || !whole.status.is_success() {
            continue;
        }
        seen.large += 1;
        let packed = world.ask(on(plain.with("accept-encoding", "gzip, br"))).await;
        let is_packed = |answer: &crate::world::http::Answer| {
            answer.headers.contains_key("content-encoding") && answer.body.len() < whole.body.len()
        };
        seen.compressed += usize::from(packed.is_ok_and(|answer| is_packed(&answer)));
    }
    if let (Some(path), Ok(site)) = (paths.first(), world.site()) {
        seen.stays_open = site.stays_open(&on(Ask::get(path))).await.ok();
    }
    let found = candidates(world).await?;
    let mut shared = found.data;
    if world.is_foil {
        // Its data are nobody's to share, but its images are.
        shared.push(("/images/hero.webp".to_owned(), 1));
    }
    // One of the API itself rather than its description.
    shared.sort_by_key(|(path, _)| api.as_ref() == Some(path));
    if let Some((path, fresh)) = shared.first() {
        seen.rush = Some(rush(world, &*klar, path, *fresh).await.map_err(|why| Unable(Words::same(why)))?);
    }
    Ok(seen)
}

impl Route {
    fn of(mut times: Vec<u64>) -> Option<Self> {
        times.sort_unstable();
        // Nearest rank: at least so many of a hundred took no longer.
        let at = |percent: usize| times.get((times.len() * percent).div_ceil(100).saturating_sub(1)).copied();
        Some(Self { count: times.len(), p50: at(50)?, p95: at(95)?, p99: at(99)? })
    }
}

impl Seen {
    /// The slowest route, if it is too slow.
    fn slow(&self) -> Option<(&str, u64)> {
        let worst = self.routes.iter().max_by_key(|(_, route)| route.p95);
        worst.filter(|(_, route)| route.p95 >= P95_MS).map(|(path, route)| (path.as_str(), route.p95))
    }

    fn p95(&self) -> Finding {
        let (rate, count) = (self.rate, self.routes.len());
        let Some((path, worst)) = self.routes.iter().max_by_key(|(_, route)| route.p95) else {
            return self.tally.finding(false, P95);
        };
        let Route { p50, p95, p99, .. } = worst;
        let told = words!(
            "{count} routes at {rate} requests/s; the slowest is {path}: p50 {p50} ms, p95 {p95} ms, p99 {p99} ms",
            "{count} ruter med {rate} forespørsler/s; den tregeste er {path}: p50 {p50} ms, p95 {p95} ms, p99 {p99} ms",
            "{count} rutter med {rate} anrop/s; den långsammaste är {path}: p50 {p50} ms, p95 {p95} ms, p99 {p99} ms"
        );
        if self.slow().is_some() {
            return Finding::broken(P95, told);
        }
        // Errors are quick, and limits turn away before the app does anything.
        let whole = self.tally.failed * 100 <= self.tally.sent && self.tally.limited == 0;
        if !whole || self.routes.values().any(|route| route.count < ENOUGH) {
            return Finding::unseen(P95, told.and(&words!("; ", "; ", "; ")).and(&self.tally.words()));
        }
        Finding::held(P95, told)
    }

    fn cpu(&self) -> Finding {
        let rate = self.rate;
        let Some((name, taken)) = self.instances.iter().max_by_key(|(_, taken)| taken.cpu) else {
            return Finding::unseen(CPU, nothing_counted());
        };
        let (share, throttled) = (percent(taken.cpu), taken.throttled);
        Finding::when(
            taken.cpu < MOST_CPU,
            CPU,
            words!(
                "at {rate} requests/s {name} uses {share} of the processor cores it may use; held back {throttled} times",
                "ved {rate} forespørsler/s bruker {name} {share} av prosessorkjernene den får bruke; holdt tilbake {throttled} ganger",
                "vid {rate} anrop/s använder {name} {share} av de processorkärnor den får använda; hållen tillbaka {throttled} gånger"
            ),
        )
    }

    fn peak(&self) -> Finding {
        let of = |taken: &Taken| taken.limit.map(|limit| taken.peak * 1000 / limit.max(1));
        let Some((name, taken)) = self.instances.iter().max_by_key(|(_, taken)| of(taken)) else {
            return Finding::unseen(PEAK, nothing_counted());
        };
        let peak = taken.peak >> 20;
        if self.instances.values().any(|taken| taken.limit.is_none()) {
            return Finding::broken(
                PEAK,
                words!(
                    "{name} takes {peak} MiB, and the kernel holds it to no limit",
                    "{name} bruker {peak} MiB, og kjernen setter ingen grense",
                    "{name} använder {peak} MiB, och kärnan sätter ingen gräns"
                ),
            );
        }
        let (share, limit) = (of(taken).unwrap_or(u64::MAX), taken.limit.unwrap_or(0) >> 20);
        let shown = percent(share);
        Finding::when(
            share < MOST_MEMORY,
            PEAK,
            words!(
                "{name} takes {peak} MiB at most, {shown} of its limit of {limit} MiB",
                "{name} bruker høyst {peak} MiB, {shown} av grensen på {limit} MiB",
                "{name} använder högst {peak} MiB, {shown} av gränsen på {limit} MiB"
            ),
        )
    }

    fn slope(&self) -> Finding {
        let grown = |taken: &Taken| taken.late.saturating_sub(taken.early) * 1000 / taken.early.max(1);
        let Some((name, taken)) = self.instances.iter().max_by_key(|(_, taken)| grown(taken)) else {
            return Finding::unseen(SLOPE, nothing_counted());
        };
        let (early, late, minutes) = (taken.early >> 20, taken.late >> 20, self.lasted_s / 60);
        let told = words!(
            "{name} went from {early} to {late} MiB after the warm-up",
            "{name} gikk fra {early} til {late} MiB etter oppvarmingen",
            "{name} gick från {early} till {late} MiB efter uppvärmningen"
        );
        if self.lasted_s < SOAK_S {
            let short = words!(
                "; that was too short a run: klar check --full --soak 30m",
                "; det var for kort: klar check --full --soak 30m",
                "; det var för kort: klar check --full --soak 30m"
            );
            return Finding::unseen(SLOPE, told.and(&short));
        }
        let long = words!(", in {minutes} minutes", ", på {minutes} minutter", ", på {minutes} minuter");
        Finding::when(grown(taken) <= LEVEL, SLOPE, told.and(&long))
    }
}

impl Transport {
    fn finding(&self) -> Finding {
        let Self { large, compressed, stays_open, rush } = self;
        let mut told = words!(
            "{compressed} of {large} large answers compressed",
            "{compressed} av {large} store svar komprimert",
            "{compressed} av {large} stora svar komprimerade"
        );
        told = told.and(&match stays_open {
            Some(true) => {
                words!("; connections stay open", "; forbindelser holdes åpne", "; anslutningar hålls öppna")
            }
            Some(false) => {
                words!("; connections are ended", "; forbindelser avsluttes", "; anslutningar avslutas")
            }
            None => Words::default(),
        });
        told = match rush {
            Some(rush) => told.and(&words!("; ", "; ", "; ")).and(&rush.words()),
            None => told.and(&words!(
                "; no answer of the API may be shared, so equal requests cannot become one",
                "; ingen svar fra API-et kan deles, så like forespørsler kan ikke bli til én",
                "; inget svar från API:et får delas, så lika anrop kan inte bli ett"
            )),
        };
        let broken = compressed < large
            || *stays_open == Some(false)
            || rush.as_ref().is_some_and(|rush| !rush.is_one());
        if broken {
            Finding::broken(TRANSPORT, told)
        } else if *large > 0 && stays_open.is_some() && rush.is_some() {
            Finding::held(TRANSPORT, told)
        } else {
            Finding::unseen(TRANSPORT, told)
        }
    }
}

fn percent(thousandths: u64) -> String {
    format!("{}.{} %", thousandths / 10, thousandths % 10)
}

fn nothing_counted() -> Words {
    words!(
        "the kernel says nothing of the instances' processes",
        "kjernen sier ingenting om instansenes prosesser",
        "kärnan säger inget om instansernas processer"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::Saw::{self, Broken, Held, Unseen};

    #[test]
    fn percentiles_are_nearest_ranks() {
        let route = Route::of((1..=100).rev().collect()).unwrap();
        assert_eq!((route.count, route.p50, route.p95, route.p99), (100, 50, 95, 99));
        assert_eq!(Route::of(vec![7]).map(|route| (route.p50, route.p99)), Some((7, 7)));
        assert_eq!(Route::of(Vec::new()), None);
    }

    #[test]
    fn what_an_instance_takes_is_of_what_it_may() {
        let look = |second: u64, cpu_ms, mib: u64| {
            let usage = Usage {
                cpu_ms,
                memory: mib << 20,
                memory_limit: Some(100 << 20),
                cores: 0.5,
                throttled: second,
            };
            (Duration::from_secs(second), usage)
        };
        let looks: Vec<_> =
            (0..=20).map(|n| look(n, 1000 + n * 250, if n < 5 { 10 } else { 50 + n })).collect();
        let taken = taken(false, &looks).unwrap();
        assert_eq!(
            (taken.cpu, taken.throttled),
            (500, 20),
            "a quarter of a second each second, of half a core"
        );
        assert_eq!((taken.peak >> 20, taken.early >> 20, taken.late >> 20), (70, 57, 69), "{taken:?}");
    }

    #[test]
    fn each_part_is_judged_by_its_target() {
        let route = |p95| Route { count: 50, p50: 10, p95, p99: p95 };
        let taken =
            Taken { cpu: 300, throttled: 0, peak: 50, limit: Some(100), early: 100, late: 104, looks: 40 };
        let good = || Seen {
            rate: 40,
            lasted_s: SOAK_S,
            tally: Tally { sent: 800, ..Tally::default() },
            routes: [("/a".to_owned(), route(199)), ("/b".to_owned(), route(20))].into(),
            transport: Transport {
                large: 2,
                compressed: 2,
                stays_open: Some(true),
                rush: Some(Rush { path: "/a".into(), sent: 100, good: 100, asked: 1, most: 1 }),
            },
            instances: [("api.1".to_owned(), taken)].into(),
        };
        let saw = |place: (&str, &str), change: &dyn Fn(&mut Seen)| -> Saw {
            let mut seen = good();
            change(&mut seen);
            let found = SteadyLoad::judge(&seen);
            found.into_iter().find(|found| (found.row, found.part) == place).unwrap().saw
        };
        let one = |seen: &mut Seen, change: &dyn Fn(&mut Taken)| seen.instances.values_mut().for_each(change);
        for place in [P95, TRANSPORT, CPU, PEAK, SLOPE] {
            assert_eq!(saw(place, &|_| {}), Held, "{place:?}");
        }
        for place in [PROFILE, REGRESSION] {
            assert_eq!(saw(place, &|_| {}), Unseen, "{place:?}");
        }
        assert_eq!(saw(P95, &|seen| seen.routes.extend([("/c".to_owned(), route(200))])), Broken);
        assert_eq!(saw(P95, &|seen| seen.tally.failed = 9), Unseen);
        assert_eq!(saw(P95, &|seen| seen.tally.limited = 1), Unseen);
        assert_eq!(saw(TRANSPORT, &|seen| seen.transport.compressed = 1), Broken);
        assert_eq!(saw(TRANSPORT, &|seen| seen.transport.stays_open = Some(false)), Broken);
        assert_eq!(saw(TRANSPORT, &|seen| seen.transport.rush.as_mut().unwrap().asked = 2), Broken);
        assert_eq!(saw(TRANSPORT, &|seen| seen.transport.rush = None), Unseen);
        assert_eq!(saw(CPU, &|seen| one(seen, &|taken| taken.cpu = 700)), Broken);
        assert_eq!(saw(CPU, &|seen| seen.instances.clear()), Unseen);
        assert_eq!(saw(PEAK, &|seen| one(seen, &|taken| taken.peak = 80)), Broken);
        assert_eq!(saw(PEAK, &|seen| one(seen, &|taken| taken.limit = None)), Broken);
        assert_eq!(saw(SLOPE, &|seen| one(seen, &|taken| taken.late = 106)), Broken);
        assert_eq!(saw(SLOPE, &|seen| seen.lasted_s = 20), Unseen);
    }
}
