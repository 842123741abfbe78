//! How quick the first page is, on a throttled profile.
//!
//! The profile is that of a mid-range phone on a slow 4G network, as Lighthouse has it, with the throttling applied
//! by the browser itself. What else the machine does only makes it slower, never quicker: so the best of up to three
//! runs is what the page can be blamed for. Where there was time for one run only, nothing is blamed on it.

use std::rc::Rc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{LIMIT, quiet, visit_alone};
use crate::check::{About, Disturbs, Fault, Finding, Need, Probe, Unable};
use crate::words;
use crate::words::Words;
use crate::world::World;

/// The first page on a slow phone.
pub struct PageLoads;

/// The best values of the runs.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct Seen {
    runs: usize,
    /// Milliseconds; `None` when nothing was painted.
    lcp_ms: Option<f64>,
    /// Milliseconds of long tasks beyond 50 ms each.
    tbt_ms: f64,
    /// Thousandths.
    cls: f64,
    /// All that the first visit fetched, as it came over the wire, in bytes.
    bytes: f64,
}

const ROW: &str = "perf.frontend";
const LCP_MS: f64 = 2500.0;
const TBT_MS: f64 = 200.0;
const CLS: f64 = 0.1;
/// What a slow 3G network brings while a page becomes usable in 10 s: the total that Lighthouse's audit
/// `total-byte-weight` asks pages to stay below.
const MOST_BYTES: f64 = 1600.0 * 1024.0;
/// Fewer runs show nothing against a page: the machine may have been busy.
const LEAST: usize = 2;
/// No run goes on when the check's time is up but for this.
const MARGIN: Duration = Duration::from_secs(8);
/// A page that paints after this is too slow whatever else it does.
const LONGEST_LOAD: Duration = Duration::from_secs(12);
const LONGEST_QUIET: Duration = Duration::from_secs(6);

/// Collects what the browser measures, from before the first byte of the page.
pub(super) const MEASURE: &str = r"(() => {
    const seen = { lcp: null, fcp: null, tasks: [], shifts: [] };
    globalThis.klarMeasured = seen;
    const observe = (type, each) => {
        try {
            new PerformanceObserver((list) => list.getEntries().forEach(each)).observe({ type, buffered: true });
        } catch {}
    };
    observe('largest-contentful-paint', (entry) => seen.lcp = entry.startTime);
    observe('paint', (entry) => { if (entry.name === 'first-contentful-paint') seen.fcp = entry.startTime; });
    observe('longtask', (entry) => seen.tasks.push([entry.startTime, entry.duration]));
    observe('layout-shift', (entry) => { if (!entry.hadRecentInput) seen.shifts.push([entry.startTime, entry.value]); });
})()";

/// CLS as it is defined: the worst window of at most 5 s, with gaps of less than 1 s.
pub(super) const TOLD: &str = r"(() => {
    const { lcp, fcp, tasks, shifts } = globalThis.klarMeasured;
    let cls = 0, sum = 0, first = 0, last = 0;
    for (const [at, value] of shifts) {
        if (sum > 0 && (at - last > 1000 || at - first > 5000)) sum = 0;
        if (sum === 0) first = at;
        last = at;
        sum += value;
        cls = Math.max(cls, sum);
    }
    const after = tasks.filter(([at, time]) => at + time > (fcp ?? 0));
    const entries = ['navigation', 'resource'].flatMap((type) => performance.getEntriesByType(type));
    const bytes = entries.reduce((all, entry) => all + (entry.transferSize ?? 0), 0);
    return { bytes, runs: 1, lcp_ms: lcp, tbt_ms: after.reduce((all, [, time]) => all + Math.max(0, time - 50), 0), cls };
})()";

impl Probe for PageLoads {
    type Seen = Seen;

    const ABOUT: About = About {
        id: "page-loads",
        version: 3,
        question: "Is the first page quick and steady on a slow phone?",
        does: "Opens the first page in Chromium with the processor four times slower and a slow 4G network, up to three times, takes the best values, and adds up what came over the wire.",
        shows: &[(ROW, "lcp"), (ROW, "cls"), (ROW, "tbt"), (ROW, "bytes"), (ROW, "real-users")],
        needs: &[Need::Site, Need::Browser],
        disturbs: Disturbs::Nothing,
        good_for: Duration::from_secs(24 * 3600),
        limit: LIMIT,
        faults: &[
            Fault::Foil("slow-paint", (ROW, "lcp")),
            Fault::Foil("layout-shift", (ROW, "cls")),
            Fault::Foil("long-task", (ROW, "tbt")),
            Fault::Foil("heavy-page", (ROW, "bytes")),
        ],
    };

    async fn look(world: Rc<World>) -> Result<Seen, Unable> {
        // The wait for a browser without other pages counts, too: what is measured until then is told.
        let end = tokio::time::Instant::now() + LIMIT.saturating_sub(MARGIN);
        let url = world.url("/")?;
        let mut best = measure(&world, &url).await?;
        let most = if world.is_foil { 2 } else { 3 };
        while best.runs < most && !best.is_good() {
            // What was seen in time is told, whatever becomes of the next run.
            match tokio::time::timeout_at(end, measure(&world, &url)).await {
                Ok(Ok(more)) => best = best.and(&more),
                _ => break,
            }
        }
        Ok(best)
    }

    fn judge(seen: &Seen) -> Vec<Finding> {
        let (runs, tbt, cls) = (seen.runs, seen.tbt_ms, seen.cls);
        let of = words!("; best of {runs}", "; beste av {runs}", "; bästa av {runs}");
        let judged = |good: bool, part, because: Words| {
            if !good && runs < LEAST {
                Finding::unseen(part, because)
            } else {
                Finding::when(good, part, because)
            }
        };
        let lcp = match seen.lcp_ms {
            Some(lcp) => {
                let because = Words::same(format!("LCP {:.1} s", lcp / 1000.0)).and(&of);
                judged(seen.is_painted_in_time(), (ROW, "lcp"), because)
            }
            None => Finding::unseen(
                (ROW, "lcp"),
                words!("nothing was painted", "ingenting ble tegnet", "ingenting ritades"),
            ),
        };
        vec![
            lcp,
            judged(cls <= CLS, (ROW, "cls"), Words::same(format!("CLS {cls:.3}")).and(&of)),
            judged(tbt <= TBT_MS, (ROW, "tbt"), Words::same(format!("TBT {tbt:.0} ms")).and(&of)),
            seen.weight(),
            Finding::unseen(
                (ROW, "real-users"),
                words!(
                    "klar does not measure visitors' browsers yet, so nothing is known of real visits",
                    "klar måler ikke nettleserne til besøkende ennå, så ingenting er kjent om virkelige besøk",
                    "klar mäter inte besökarnas webbläsare än, så inget är känt om verkliga besök"
                ),
            ),
        ]
    }
}

impl Seen {
    /// What a page weighs does not depend on how busy the machine is: one run is enough.
    fn weight(&self) -> Finding {
        let (kib, most) = (self.bytes / 1024.0, MOST_BYTES / 1024.0);
        let told = words!(
            "{kib:.0} KiB on the first visit; {most:.0} KiB are enough",
            "{kib:.0} KiB ved første besøk; {most:.0} KiB er nok",
            "{kib:.0} KiB vid första besöket; {most:.0} KiB räcker"
        );
        if self.bytes <= 0.0 {
            return Finding::unseen((ROW, "bytes"), told);
        }
        Finding::when(self.bytes <= MOST_BYTES, (ROW, "bytes"), told)
    }

    fn is_good(&self) -> bool {
        self.is_painted_in_time() && self.tbt_ms <= TBT_MS && self.cls <= CLS
    }

    fn is_painted_in_time(&self) -> bool {
        self.lcp_ms.is_some_and(|lcp| lcp <= LCP_MS)
    }

    fn and(&self, other: &Self) -> Self {
        Self {
            runs: self.runs + other.runs,
            lcp_ms: match (self.lcp_ms, other.lcp_ms) {
                (Some(one), Some(two)) => Some(one.min(two)),
                (one, two) => one.or(two),
            },
            tbt_ms: self.tbt_ms.min(other.tbt_ms),
            cls: self.cls.min(other.cls),
            bytes: self.bytes.max(other.bytes),
        }
    }
}

async fn measure(world: &World, url: &str) -> Result<Seen, Unable> {
    let page = visit_alone(world).await?;
    let phone = json!({"width": 412, "height": 823, "deviceScaleFactor": 1.75, "mobile": true});
    page.call("Emulation.setDeviceMetricsOverride", phone).await?;
    // Foils are measured while many other things are proved: what they do wrong shows at half the speed, too.
    let slower = if world.is_foil { 2 } else { 4 };
    page.call("Emulation.setCPUThrottlingRate", json!({"rate": slower})).await?;
    // What a foil does wrong is not how much it sends, but for one fault: that need not take its time.
    let throughput = if world.is_foil { 1_843_200 } else { 184_320 };
    let network = json!({
        "offline": false, "latency": 562.5, "downloadThroughput": throughput, "uploadThroughput": 84_375,
    });
    page.call("Network.emulateNetworkConditions", network).await?;
    page.before_all(MEASURE).await?;
    let mark = page.mark();
    page.open(url, LONGEST_LOAD).await?;
    page.quiet(mark, 2 * quiet(world), LONGEST_QUIET).await;
    let told = page.eval(TOLD).await?;
    serde_json::from_value(told).map_err(|why| Unable(Words::same(why.to_string())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::Saw;

    #[test]
    fn one_run_is_blamed_for_nothing() {
        let saw = |runs| {
            let seen = Seen { runs, lcp_ms: Some(4000.0), tbt_ms: 900.0, cls: 0.01, bytes: 1.0 };
            let found = PageLoads::judge(&seen);
            [found[0].saw, found[1].saw, found[2].saw]
        };
        assert_eq!(saw(1), [Saw::Unseen, Saw::Held, Saw::Unseen]);
        assert_eq!(saw(2), [Saw::Broken, Saw::Held, Saw::Broken]);
    }

    #[test]
    fn bytes_have_a_budget() {
        for (bytes, saw) in [(0.0, Saw::Unseen), (MOST_BYTES, Saw::Held), (MOST_BYTES + 1.0, Saw::Broken)] {
            let seen = Seen { runs: 1, lcp_ms: Some(1.0), tbt_ms: 0.0, cls: 0.0, bytes };
            assert_eq!(PageLoads::judge(&seen)[3].saw, saw, "{bytes}");
        }
    }

    #[test]
    fn the_best_of_runs_counts() {
        let one = Seen { runs: 1, lcp_ms: None, tbt_ms: 500.0, cls: 0.0, bytes: 9.0 };
        let two = Seen { runs: 1, lcp_ms: Some(3000.0), tbt_ms: 100.0, cls: 0.2, bytes: 8.0 };
        let both = one.and(&two);
        assert_eq!(both.bytes, 9.0);
        assert_eq!((both.runs, both.lcp_ms, both.tbt_ms, both.cls), (2, Some(3000.0), 100.0, 0.0));
    }
}
