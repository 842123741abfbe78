//! Whether what klar measures and keeps is what was asked of the app: a known load against its metrics and its records.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{anybody, good_reads};
use crate::check::{About, Disturbs, Fault, Finding, Need, Probe, Unable};
use crate::words;
use crate::words::Words;
use crate::world::http::{Answer, Ask};
use crate::world::{Klar, Measured, World, until};

/// A known load, and what telemetry says of it.
pub struct Telemetry;

/// What was sent, and what telemetry says of it.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Seen {
    /// Answers by their status.
    sent: BTreeMap<String, u64>,
    /// Of others to the same routes meanwhile: then nothing can be compared.
    others: u64,
    /// Records of these requests that were found by their ids, by status.
    kept: BTreeMap<String, u64>,
    /// How many of those say who asked for what, when, from where, and what came of it.
    whole: u64,
    /// By how much the series grew, by status.
    counted: BTreeMap<String, f64>,
    /// The routes that they are of, and those of them whose durations are counted.
    routes: usize,
    measured: usize,
    /// Half of the answers took the sender at most so long, in microseconds.
    median_us: u64,
    /// Half of them took at most so long by the series: the bounds of the bucket, in microseconds.
    median_between_us: Option<(u64, u64)>,
    /// Series that are not there: of rate, errors and durations, and of what is used.
    no_red: Vec<String>,
    no_use: Vec<String>,
    tiers: Vec<String>,
}

const RED: (&str, &str) = ("mon.metrics", "red");
const USE: (&str, &str) = ("mon.metrics", "use");
const AGREES: (&str, &str) = ("mon.metrics", "agrees");
const ROUTES: (&str, &str) = ("mon.metric.api-latency", "series");
const LATENCY: (&str, &str) = ("mon.metric.api-latency", "agrees");
const ERRORS: (&str, &str) = ("mon.metric.error-rate", "accuracy");
const RECORDED: (&str, &str) = ("sec.access-logging", "requests");
const FIELDS: (&str, &str) = ("sec.access-logging", "fields");

/// How many requests, and every how many-th of them goes where nothing is.
const REQUESTS: usize = 200;
const ASTRAY: usize = 20;
/// Metrics are written down every 15 s.
const WRITTEN: Duration = Duration::from_secs(40);
/// The network and the sender itself take a part of what the sender sees.
const AROUND_US: u64 = 25_000;
/// What each tier must have series of: rate, errors and durations of what is asked of it.
const RED_OF: [(&str, &[&str]); 3] = [
    ("edge", &["http_requests_total", "http_request_duration_seconds_count"]),
    (
        "postgres",
        &[
            "pg_stat_database_xact_commit",
            "pg_stat_database_xact_rollback",
            "pg_stat_database_active_time_seconds_total",
        ],
    ),
    (
        "redis",
        &[
            "redis_commands_processed_total",
            "redis_rejected_connections_total",
            "redis_commands_duration_seconds_total",
        ],
    ),
];
/// Use of the machine; what each instance and store uses is looked for by its name.
const MACHINE: [&str; 6] = [
    "node_cpu_seconds_total",
    "node_load1",
    "node_memory_MemAvailable_bytes",
    "node_filesystem_avail_bytes",
    "node_disk_io_time_seconds_total",
    "node_network_receive_errs_total",
];
const TIER: [&str; 2] = ["klar_instance_cpu_seconds_total", "klar_instance_memory_bytes"];

impl Probe for Telemetry {
    type Seen = Seen;

    const ABOUT: About = About {
        id: "telemetry",
        version: 1,
        question: "Do metrics and records say of a known load what was sent?",
        does: "Sends 200 requests in the rig, every twentieth of them to an address where nothing is, and compares what telemetry counts, measures and keeps of them with what the sender saw: by status, by route and by the id of each request; then looks for series of every tier.",
        shows: &[RED, USE, AGREES, ROUTES, LATENCY, ERRORS, RECORDED, FIELDS],
        needs: &[Need::Site, Need::Klar],
        disturbs: Disturbs::Attacks,
        good_for: Duration::from_secs(7 * 24 * 3600),
        limit: Duration::from_secs(180),
        faults: &[
            Fault::Foil("blind-telemetry", USE),
            Fault::Foil("deaf-to-stores", RED),
            Fault::Foil("miscounts-requests", AGREES),
            Fault::Foil("wrong-durations", LATENCY),
            Fault::Foil("no-durations", ROUTES),
            Fault::Foil("hides-errors", ERRORS),
            Fault::Foil("forgets-requests", RECORDED),
            Fault::Foil("nameless-records", FIELDS),
        ],
    };

    async fn look(world: Rc<World>) -> Result<Seen, Unable> {
        let klar = world.klar.clone().ok_or_else(|| Unable(Need::Klar.missing()))?;
        let cannot = |why: String| Unable(Words::same(why));
        let session = anybody(&world).await;
        let good = good_reads(&world, session.as_ref()).await?;
        // Records say when to the millisecond.
        tokio::time::sleep(Duration::from_millis(5)).await;
        let begun_ms = now_ms();
        // What came before has to be written down first: it is not ours.
        let before = written(&world, &*klar, begun_ms).await?;
        let marker = format!("klar-check-{:08x}", fastrand::u32(..));
        let folder = good.iter().find(|path| path.matches('/').count() > 1).map_or("", |path| path.as_str());
        let folder = folder.split('/').nth(1).map(|name| format!("/{name}")).unwrap_or_default();
        let mut seen = Seen::default();
        let (mut ids, mut times) = (BTreeSet::new(), Vec::new());
        for (number, path) in good.iter().cycle().take(REQUESTS).enumerate() {
            let astray = number % ASTRAY == ASTRAY - 1;
            let ask = match astray {
                true => Ask::get(format!("{folder}/{marker}")),
                false => Ask::get(path),
            };
            let ask = ask.with("accept", "application/json, text/html;q=0.5");
            let ask = session.as_ref().map_or(ask.clone(), |session| session.on(ask));
            let Ok(answer) = world.ask(ask).await else { continue };
            *seen.sent.entry(answer.status.as_str().to_owned()).or_default() += 1;
            times.push(u64::try_from(answer.took.as_micros()).unwrap_or(u64::MAX));
            ids.extend(id(&answer));
        }
        times.sort_unstable();
        seen.median_us = times.get(times.len() / 2).copied().unwrap_or_default();

        let since = format!("{:.3}", begun_ms as f64 / 1000.0);
        let narrowed = [("since", since.as_str())];
        let mine = |rows: &[Value]| -> Vec<Value> {
            rows.iter().filter(|row| row["id"].as_str().is_some_and(|id| ids.contains(id))).cloned().collect()
        };
        let mut rows = Vec::new();
        let all_there = async || {
            let rows = klar.kept("requests", &narrowed).await.ok()?;
            (mine(&rows).len() >= ids.len()).then_some(rows)
        };
        match until(world.patience(Duration::from_secs(10)), all_there).await {
            Some(all) => rows.extend(all),
            None => rows.extend(klar.kept("requests", &narrowed).await.map_err(cannot)?),
        }
        let mine = mine(&rows);
        let routes: BTreeSet<&str> = mine.iter().filter_map(|row| row["route"].as_str()).collect();
        seen.routes = routes.len();
        let of_routes =
            rows.iter().filter(|row| row["route"].as_str().is_some_and(|name| routes.contains(name)));
        seen.others = of_routes.count().saturating_sub(mine.len()) as u64;
        for row in &mine {
            *seen.kept.entry(row["status"].to_string()).or_default() += 1;
            let says = |name: &str| row.get(name).is_some_and(|value| !value.is_null() && value != "");
            seen.whole += u64::from(
                ["ts", "client", "method", "path", "host", "status", "duration_us"].into_iter().all(says),
            );
        }
        let after = written(&world, &*klar, now_ms()).await?;
        seen.counted = after.requests(&before, &routes);
        seen.median_between_us = after.median(&before, &routes);
        seen.measured = growth(&before.buckets, &after.buckets, &routes, "route").len();
        let services: BTreeSet<String> =
            klar.instances().await.map_err(cannot)?.into_iter().map(|instance| instance.service).collect();
        let stores = klar.stores().await.map_err(cannot)?;
        for (tier, names) in RED_OF {
            let is_there = tier == "edge" || stores.iter().any(|(_, kind)| kind == tier);
            for name in names.iter().filter(|_| is_there) {
                if klar.measured(name).await.map_err(cannot)?.is_empty() {
                    seen.no_red.push((*name).to_owned());
                }
            }
        }
        for name in MACHINE {
            if klar.measured(name).await.map_err(cannot)?.is_empty() {
                seen.no_use.push(name.to_owned());
            }
        }
        seen.tiers = services.into_iter().chain(stores.into_iter().map(|(name, _)| name)).collect();
        for name in TIER {
            let measured = klar.measured(name).await.map_err(cannot)?;
            let of: BTreeSet<&str> = measured
                .iter()
                .filter_map(|series| series.labels.get("service"))
                .map(String::as_str)
                .collect();
            for tier in seen.tiers.iter().filter(|tier| !of.contains(tier.as_str())) {
                seen.no_use.push(format!("{name}{{service=\"{tier}\"}}"));
            }
        }
        Ok(seen)
    }

    fn judge(seen: &Seen) -> Vec<Finding> {
        let sent: u64 = seen.sent.values().sum();
        if sent < REQUESTS as u64 / 2 {
            let all = REQUESTS;
            let told = words!(
                "only {sent} of {all} requests were answered",
                "bare {sent} av {all} forespørsler ble besvart",
                "bara {sent} av {all} anrop besvarades"
            );
            return Telemetry::ABOUT
                .shows
                .iter()
                .map(|place| Finding::unseen(*place, told.clone()))
                .collect();
        }
        vec![
            seen.series(RED, &seen.no_red),
            seen.series(USE, &seen.no_use),
            seen.agrees(),
            seen.by_route(),
            seen.latency(),
            seen.errors(),
            seen.found(),
            seen.whole(),
        ]
    }
}

fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// What the edge calls the request.
fn id(answer: &Answer) -> Option<String> {
    answer.header("x-request-id").map(str::to_owned)
}

/// What was counted of requests at a time.
struct Counts {
    requests: Vec<Measured>,
    buckets: Vec<Measured>,
}

/// What was counted, as of a time or later: telemetry writes it down now and then.
async fn written(world: &World, klar: &dyn Klar, at_ms: i64) -> Result<Counts, Unable> {
    let look = async || {
        // Written down in the same moment as the others, and always there.
        let clock = klar.measured("klar_records_total").await.ok()?;
        clock.iter().any(|series| series.at_unix_ms > at_ms).then_some(())
    };
    if until(world.patience(WRITTEN).max(Duration::from_secs(1)), look).await.is_none() {
        return Err(Unable(words!(
            "telemetry has written nothing down for too long",
            "telemetrien har ikke skrevet ned noe på for lenge",
            "telemetrin har inte skrivit ned något på för länge"
        )));
    }
    let cannot = |why: String| Unable(Words::same(why));
    Ok(Counts {
        requests: klar.measured("http_requests_total").await.map_err(cannot)?,
        buckets: klar.measured("http_request_duration_seconds_bucket").await.map_err(cannot)?,
    })
}

/// By how much series of some routes grew, by the value of a label.
fn growth(
    before: &[Measured],
    after: &[Measured],
    routes: &BTreeSet<&str>,
    label: &str,
) -> BTreeMap<String, f64> {
    let was: BTreeMap<_, f64> = before.iter().map(|series| (&series.labels, series.value)).collect();
    let mut grown = BTreeMap::new();
    for series in after {
        let of = |name: &str| series.labels.get(name).map_or("", String::as_str);
        if routes.contains(of("route")) {
            let was = was.get(&series.labels).copied().unwrap_or_default();
            *grown.entry(of(label).to_owned()).or_default() += series.value - was;
        }
    }
    grown
}

impl Counts {
    fn requests(&self, before: &Self, routes: &BTreeSet<&str>) -> BTreeMap<String, f64> {
        let mut grown = growth(&before.requests, &self.requests, routes, "status");
        grown.retain(|_, grown| *grown != 0.0);
        grown
    }

    /// The bounds of the bucket that has the median, in microseconds.
    fn median(&self, before: &Self, routes: &BTreeSet<&str>) -> Option<(u64, u64)> {
        let mut up_to: Vec<(f64, f64)> = growth(&before.buckets, &self.buckets, routes, "le")
            .into_iter()
            .filter_map(|(bound, count)| Some((bound.parse().ok()?, count)))
            .collect();
        up_to.sort_by(|a, b| a.0.total_cmp(&b.0));
        let all = up_to.last().map(|(_, count)| *count).filter(|count| *count > 0.0)?;
        let place = up_to.iter().position(|(_, count)| *count * 2.0 >= all)?;
        let micros = |seconds: f64| if seconds.is_finite() { (seconds * 1e6) as u64 } else { u64::MAX };
        let low =
            place.checked_sub(1).and_then(|before| up_to.get(before)).map_or(0, |(bound, _)| micros(*bound));
        Some((low, micros(up_to.get(place)?.0)))
    }
}

fn told(counts: impl IntoIterator<Item = (impl ToString, impl ToString)>) -> String {
    let all: Vec<String> = counts
        .into_iter()
        .map(|(status, count)| format!("{} × {}", count.to_string(), status.to_string()))
        .collect();
    if all.is_empty() { "0".to_owned() } else { all.join(", ") }
}

impl Seen {
    fn series(&self, place: (&'static str, &'static str), missing: &[String]) -> Finding {
        let (tiers, missing) = (self.tiers.join(", "), missing.join(", "));
        if missing.is_empty() {
            return Finding::held(
                place,
                words!(
                    "there are series of the edge, the machine, {tiers}",
                    "det finnes serier for kanten, maskinen, {tiers}",
                    "det finns serier för kanten, maskinen, {tiers}"
                ),
            );
        }
        Finding::broken(
            place,
            words!("there is no {missing}", "det finnes ingen {missing}", "det finns ingen {missing}"),
        )
    }

    fn by_route(&self) -> Finding {
        let (measured, routes) = (self.measured, self.routes);
        Finding::when(
            measured == routes,
            ROUTES,
            words!(
                "{measured} of {routes} routes have a series of durations",
                "{measured} av {routes} ruter har en serie med varigheter",
                "{measured} av {routes} rutter har en serie med tider"
            ),
        )
    }

    /// Nobody else asked the same routes.
    fn compared(&self, place: (&'static str, &'static str), holds: bool, told: Words) -> Finding {
        let others = self.others;
        if others == 0 {
            return Finding::when(holds, place, told);
        }
        Finding::unseen(
            place,
            words!(
                "others asked the same routes meanwhile: {others} requests",
                "andre spurte de samme rutene imens: {others} forespørsler",
                "andra frågade samma rutter under tiden: {others} anrop"
            ),
        )
    }

    fn agrees(&self) -> Finding {
        let (sent, counted): (u64, f64) = (self.sent.values().sum(), self.counted.values().sum());
        let routes = self.routes;
        let holds = (counted - sent as f64).abs() <= sent as f64 / 100.0;
        let told = words!(
            "{sent} requests were answered, {counted} of {routes} routes are counted",
            "{sent} forespørsler ble besvart, {counted} på {routes} ruter er telt",
            "{sent} anrop besvarades, {counted} på {routes} rutter är räknade"
        );
        self.compared(AGREES, holds, told)
    }

    fn errors(&self) -> Finding {
        let holds = self.sent.keys().chain(self.counted.keys()).all(|status| {
            let sent = self.sent.get(status).copied().unwrap_or_default() as f64;
            let counted = self.counted.get(status).copied().unwrap_or_default();
            // 5 % of the requests went astray; the series has to show it to within 0.2 %.
            let all: u64 = self.sent.values().sum();
            (sent - counted).abs() <= all as f64 * 0.002
        });
        let (sent, counted) = (told(&self.sent), told(&self.counted));
        if self.sent.len() < 2 {
            return Finding::unseen(
                ERRORS,
                words!(
                    "nothing went wrong even where nothing is: {sent}",
                    "ingenting gikk galt selv der det ikke er noe: {sent}",
                    "inget gick fel ens där det inte finns något: {sent}"
                ),
            );
        }
        let told = words!(
            "answered: {sent}; counted: {counted}",
            "besvart: {sent}; telt: {counted}",
            "besvarat: {sent}; räknat: {counted}"
        );
        self.compared(ERRORS, holds, told)
    }

    fn latency(&self) -> Finding {
        let median = self.median_us as f64 / 1000.0;
        let Some((low, high)) = self.median_between_us else {
            return Finding::broken(
                LATENCY,
                words!(
                    "no durations of these routes are counted",
                    "ingen varigheter for disse rutene er telt",
                    "inga tider för dessa rutter är räknade"
                ),
            );
        };
        // The edge sees a part of what the sender waits for, and no more.
        let holds = low <= self.median_us && self.median_us <= high.saturating_add(AROUND_US);
        let (low, high) = (low as f64 / 1000.0, high as f64 / 1000.0);
        let told = words!(
            "half of the answers took the sender at most {median} ms; the series says between {low} and {high} ms",
            "halvparten av svarene tok avsenderen høyst {median} ms; serien sier mellom {low} og {high} ms",
            "hälften av svaren tog avsändaren högst {median} ms; serien säger mellan {low} och {high} ms"
        );
        self.compared(LATENCY, holds, told)
    }

    fn found(&self) -> Finding {
        let (sent, kept): (u64, u64) = (self.sent.values().sum(), self.kept.values().sum());
        Finding::when(
            self.sent == self.kept,
            RECORDED,
            words!(
                "{kept} of {sent} requests are found by their id, with their status",
                "{kept} av {sent} forespørsler finnes igjen med id-en sin, med status",
                "{kept} av {sent} anrop hittas igen med sitt id, med status"
            ),
        )
    }

    fn whole(&self) -> Finding {
        let (sent, whole): (u64, u64) = (self.sent.values().sum(), self.whole);
        Finding::when(
            sent == whole,
            FIELDS,
            words!(
                "{whole} of {sent} requests have a record that says who asked for what, when, from where, and what came of it",
                "{whole} av {sent} forespørsler har en oppføring som sier hvem som spurte om hva, når, hvorfra, og hva som kom ut av det",
                "{whole} av {sent} anrop har en post som säger vem som frågade om vad, när, varifrån, och vad som kom av det"
            ),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn series(labels: &[(&str, &str)], value: f64) -> Measured {
        let labels = labels.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Measured { labels, value, at_unix_ms: 0 }
    }

    #[test]
    fn what_grew_is_counted() {
        let routes = BTreeSet::from(["/a"]);
        let of = |status: &str, value| series(&[("route", "/a"), ("status", status)], value);
        let before = [of("200", 5.0), of("500", 1.0)];
        let after = [of("200", 9.0), of("500", 1.0), of("404", 2.0), series(&[("route", "/b")], 7.0)];
        let grown = growth(&before, &after, &routes, "status");
        let expected = [("200", 4.0), ("404", 2.0), ("500", 0.0)];
        assert_eq!(grown, expected.map(|(status, by)| (status.to_owned(), by)).into());
    }

    #[test]
    fn the_bucket_of_the_median_is_found() {
        let bucket = |bound: &str, value| series(&[("route", "/a"), ("le", bound)], value);
        let counts = |values: [f64; 3]| Counts {
            requests: Vec::new(),
            buckets: ["0.001", "0.005", "+Inf"]
                .into_iter()
                .zip(values)
                .map(|(le, value)| bucket(le, value))
                .collect(),
        };
        let median = |values| counts(values).median(&counts([0.0; 3]), &BTreeSet::from(["/a"]));
        assert_eq!(median([1.0, 9.0, 10.0]), Some((1000, 5000)));
        assert_eq!(median([6.0, 9.0, 10.0]), Some((0, 1000)));
        assert_eq!(median([0.0, 1.0, 10.0]), Some((5000, u64::MAX)));
        assert_eq!(median([0.0; 3]), None);
    }
}
