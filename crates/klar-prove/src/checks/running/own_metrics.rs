//! Whether what an app counts for itself can be asked for: numbers of its own, sent as its processes would send them.

use std::rc::Rc;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::check::{About, Disturbs, Fault, Finding, Need, Probe, Unable};
use crate::words;
use crate::words::Words;
use crate::world::{Klar, World, until};

/// Metrics of the app's own.
pub struct OwnMetrics;

/// What was sent, and what came back.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Seen {
    /// What each of two exports was answered with.
    answers: Vec<Option<u16>>,
    /// Of the SDK: series, and what they have to be.
    sdk: Vec<(String, Pair)>,
    /// Of StatsD, where the app has a port for it.
    statsd: Option<Vec<(String, Pair)>>,
    /// After how many milliseconds all of it was there.
    after_ms: Option<u64>,
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct Pair {
    sent: f64,
    found: Option<f64>,
}

const SDK: (&str, &str) = ("mon.custom-metrics", "sdk");
const WIRE: (&str, &str) = ("mon.custom-metrics", "wire");

/// So soon they have to be there; what is counted over StatsD is written down every 15 s.
const SOON: Duration = Duration::from_secs(17);
/// Of the values 0.05, 0.2, 0.2 and 7, up to each bound.
const BUCKETS: [(f64, u64); 3] = [(0.1, 1), (1.0, 2), (f64::INFINITY, 1)];
const SUM: f64 = 7.45;

impl Probe for OwnMetrics {
    type Seen = Seen;

    const ABOUT: About = About {
        id: "own-metrics",
        version: 1,
        question: "Can what the app counts for itself be asked for at once, with the right values?",
        does: "Sends a counter, a gauge and a histogram of its own over OTLP, twice, as an SDK in the app's processes would, where klar tells them to, and a counter and a gauge over StatsD where the app has a port for it; then asks telemetry for all of them.",
        shows: &[SDK, WIRE],
        needs: &[Need::Klar],
        disturbs: Disturbs::Load,
        good_for: Duration::from_secs(7 * 24 * 3600),
        limit: Duration::from_secs(60),
        faults: &[
            Fault::Foil("counts-own-twice", SDK),
            Fault::Foil("old-gauges", SDK),
            Fault::Foil("no-histograms", SDK),
            Fault::Foil("mishears-statsd", WIRE),
        ],
    };

    async fn look(world: Rc<World>) -> Result<Seen, Unable> {
        let klar = world.klar.clone().ok_or_else(|| Unable(Need::Klar.missing()))?;
        let name = format!("klar_check_{:08x}", fastrand::u32(..));
        let (counter, gauge) = (f64::from(fastrand::u16(100..)), f64::from(fastrand::u16(100..)) / 4.0);
        let mut seen = Seen::default();
        let begun = now_ns();
        // An SDK says again and again what it has counted so far, and what a gauge is now.
        for (counter, gauge) in [(1.0, 5.0), (counter, gauge)] {
            let body = export(&name, begun, counter, gauge);
            seen.answers.push(klar.tell("/v1/metrics", &body).await.ok());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        // Over StatsD somebody says what has come in addition.
        let text = format!("{name}_hits:3|c\n{name}_hits:4|c\n{name}_level:9|g\n{name}_level:{gauge}|g");
        let has_statsd = klar.count(&text).await.map_err(|why| Unable(Words::same(why)))?;
        let mut sdk = vec![(format!("{name}_orders_total"), counter), (format!("{name}_waiting"), gauge)];
        let mut up_to = 0;
        for (bound, count) in BUCKETS {
            up_to += count;
            let bound = if bound.is_finite() { bound.to_string() } else { "+Inf".to_owned() };
            sdk.push((format!("{name}_took_bucket{{le=\"{bound}\"}}"), up_to as f64));
        }
        sdk.extend([(format!("{name}_took_sum"), SUM), (format!("{name}_took_count"), up_to as f64)]);
        let statsd = [(format!("{name}_hits"), 7.0), (format!("{name}_level"), gauge)];
        let statsd = has_statsd.then_some(Vec::from(statsd));
        let sent = std::time::Instant::now();
        let all_there = async || {
            let (sdk, statsd) = (found(&*klar, &sdk).await, found(&*klar, statsd.as_deref()?).await);
            is_right(&sdk).then_some(())?;
            is_right(&statsd).then_some(())
        };
        let sdk_there = async || is_right(&found(&*klar, &sdk).await).then_some(());
        let patience = world.patience(SOON);
        let there = match statsd {
            Some(_) => until(patience, all_there).await,
            None => until(patience, sdk_there).await,
        };
        seen.after_ms = there.and_then(|()| u64::try_from(sent.elapsed().as_millis()).ok());
        seen.sdk = found(&*klar, &sdk).await;
        if let Some(statsd) = statsd {
            seen.statsd = Some(found(&*klar, &statsd).await);
        }
        Ok(seen)
    }

    fn judge(seen: &Seen) -> Vec<Finding> {
        let told = |all: &[(String, Pair)]| {
            let count = all.len();
            match all.iter().find(|(_, pair)| pair.found != Some(pair.sent)) {
                None => words!(
                    "all {count} numbers are found as they were sent",
                    "alle {count} tall finnes slik de ble sendt",
                    "alla {count} tal finns som de skickades"
                ),
                Some((name, Pair { sent, found })) => {
                    let found = found.map_or_else(|| "-".to_owned(), |found| found.to_string());
                    words!(
                        "{name} was sent as {sent} and is found as {found}",
                        "{name} ble sendt som {sent} og finnes som {found}",
                        "{name} skickades som {sent} och finns som {found}"
                    )
                }
            }
        };
        let sdk = Finding::when(is_right(&seen.sdk), SDK, told(&seen.sdk));
        let Some(statsd) = &seen.statsd else {
            let told = words!(
                "the app has no port for StatsD (`[see] statsd`)",
                "appen har ingen port for StatsD (`[see] statsd`)",
                "appen har ingen port för StatsD (`[see] statsd`)"
            );
            return vec![sdk, Finding::unseen(WIRE, told)];
        };
        vec![sdk, Finding::when(is_right(statsd), WIRE, told(statsd))]
    }
}

fn is_right(all: &[(String, Pair)]) -> bool {
    all.iter().all(|(_, pair)| pair.found == Some(pair.sent))
}

/// What telemetry says of series: a name, with the bound of a bucket if it is one.
async fn found(klar: &dyn Klar, wanted: &[(String, f64)]) -> Vec<(String, Pair)> {
    let mut all = Vec::new();
    for (series, sent) in wanted {
        let (name, bound) = series.split_once("{le=\"").unwrap_or((series, ""));
        let bound = bound.trim_end_matches("\"}");
        let measured = klar.measured(name).await.unwrap_or_default();
        let mut of = measured
            .iter()
            .filter(|one| bound.is_empty() || one.labels.get("le").is_some_and(|le| le == bound));
        // Two of the same are none that anybody can use.
        let found = of.next().filter(|_| of.next().is_none()).map(|one| one.value);
        all.push((series.clone(), Pair { sent: *sent, found }));
    }
    all
}

fn now_ns() -> u128 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_nanos()
}

/// Three metrics in OTLP's JSON.
fn export(name: &str, begun_ns: u128, counter: f64, gauge: f64) -> Value {
    let at = now_ns().to_string();
    let point = |value: f64| json!([{ "startTimeUnixNano": begun_ns.to_string(), "timeUnixNano": at, "asDouble": value }]);
    let counts: Vec<String> = BUCKETS.iter().map(|(_, count)| count.to_string()).collect();
    let bounds: Vec<f64> =
        BUCKETS.iter().map(|(bound, _)| *bound).filter(|bound| bound.is_finite()).collect();
    json!({ "resourceMetrics": [{ "scopeMetrics": [{ "scope": { "name": "klar check" }, "metrics": [
        { "name": format!("{name}_orders"), "sum": {
            "aggregationTemporality": 2, "isMonotonic": true, "dataPoints": point(counter) } },
        { "name": format!("{name}_waiting"), "gauge": { "dataPoints": point(gauge) } },
        { "name": format!("{name}_took"), "histogram": { "aggregationTemporality": 2, "dataPoints": [{
            "startTimeUnixNano": begun_ns.to_string(), "timeUnixNano": at, "sum": SUM,
            "count": BUCKETS.iter().map(|(_, count)| count).sum::<u64>().to_string(),
            "bucketCounts": counts, "explicitBounds": bounds,
        }] } },
    ] }] }] })
}
