//! What a page shows while its data are late.

use std::rc::Rc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::page_loads::MEASURE;
use super::{LIMIT, LOAD, quiet, visit_alone};
use crate::check::{About, Disturbs, Fault, Finding, Need, Probe, Unable};
use crate::words;
use crate::words::Words;
use crate::world::World;
use crate::world::browser::Reply;

/// Placeholders for late data.
pub struct Skeleton;

/// What was on the page before the data came and after.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct Seen {
    /// Whether the page asked for data at all.
    asked: bool,
    /// Milliseconds from the first request for data until a placeholder was seen.
    after_ms: Option<f64>,
    /// Pixels of page before the data came, and with them.
    before_px: f64,
    with_px: f64,
    /// Layout shifts from shortly before the data came.
    cls: f64,
}

const ROW: &str = "ux.skeleton";
const DELAY: Duration = Duration::from_secs(2);
const SOON_MS: f64 = 200.0;
const CLS: f64 = 0.1;

/// Looks for placeholders in each frame that is drawn, and notes when data are first asked for.
const WATCH: &str = r#"(() => {
    const seen = { asked: null, first: null };
    globalThis.klarSkeleton = seen;
    const ask = () => seen.asked ??= performance.now();
    const { fetch } = globalThis;
    globalThis.fetch = function (...given) { ask(); return fetch.apply(this, given); };
    const { send } = XMLHttpRequest.prototype;
    XMLHttpRequest.prototype.send = function (...given) { ask(); return send.apply(this, given); };
    const NAMES = ['skeleton', 'shimmer', 'placeholder', 'bone', 'loading', 'loader', 'spinner', 'pulse'];
    const LIKE = NAMES.map((name) => `[class*="${name}" i]:not(input,textarea)`).join(',')
        + ',[aria-busy="true"],[role="progressbar"],progress';
    const isSeen = (element) => {
        const { width, height, top } = element.getBoundingClientRect();
        return width * height >= 100 && top < innerHeight;
    };
    globalThis.klarPlaceholders = () => [...document.body?.querySelectorAll(LIKE) ?? []].filter(isSeen).length;
    const look = () => {
        if (seen.first === null && klarPlaceholders() > 0) seen.first = performance.now();
        if (performance.now() < 10000) requestAnimationFrame(look);
    };
    requestAnimationFrame(look);
})()"#;

const BEFORE: &str = "({ ...klarSkeleton, px: document.body?.scrollHeight ?? 0, now: klarPlaceholders() })";
const AFTER: &str = r"({
    px: document.body.scrollHeight,
    now: klarPlaceholders(),
    cls: klarMeasured.shifts.filter(([at]) => at >= klarSkeleton.asked + 500).reduce((all, [, value]) => all + value, 0),
})";

impl Probe for Skeleton {
    type Seen = Seen;

    const ABOUT: About = About {
        id: "skeleton",
        version: 1,
        question: "Does the page hold a place for data that are late?",
        does: "Opens the first page with every answer of the API 2 s late, looks for placeholders until then, and for what moves afterwards.",
        shows: &[(ROW, "visible"), (ROW, "stable")],
        needs: &[Need::Site, Need::Browser],
        disturbs: Disturbs::Nothing,
        good_for: Duration::from_secs(24 * 3600),
        limit: LIMIT,
        faults: &[Fault::Foil("no-skeleton", (ROW, "visible")), Fault::Foil("layout-shift", (ROW, "stable"))],
    };

    async fn look(world: Rc<World>) -> Result<Seen, Unable> {
        let url = world.url("/")?;
        let mut seen = late(&world, &url).await?;
        // A machine that is busy draws late: a second look tells that from a page that does.
        if !world.is_foil && seen.asked && seen.after_ms.is_none_or(|after| after >= SOON_MS) {
            seen = late(&world, &url).await?;
        }
        Ok(seen)
    }

    fn judge(seen: &Seen) -> Vec<Finding> {
        let (visible, stable) = ((ROW, "visible"), (ROW, "stable"));
        if !seen.asked {
            let none = || {
                words!(
                    "the first page asks for no data",
                    "forsiden ber ikke om data",
                    "startsidan ber inte om data"
                )
            };
            return vec![Finding::unseen(visible, none()), Finding::unseen(stable, none())];
        }
        let (before, with, cls) = (seen.before_px, seen.with_px, seen.cls);
        let first = match seen.after_ms {
            Some(after) => Finding::when(
                after < SOON_MS,
                visible,
                words!(
                    "seen {after:.0} ms after the data were asked for",
                    "sett {after:.0} ms etter at dataene ble etterspurt",
                    "sedd {after:.0} ms efter att data efterfrågades"
                ),
            ),
            None if before * 2.0 < with => Finding::broken(
                visible,
                words!(
                    "no placeholder, and a page of {before:.0} px that becomes {with:.0} px with the data",
                    "ingen plassholder, og en side på {before:.0} px som blir {with:.0} px med dataene",
                    "ingen platshållare, och en sida på {before:.0} px som blir {with:.0} px med data"
                ),
            ),
            // It may be one that klar does not know as such.
            None => Finding::unseen(
                visible,
                words!(
                    "nothing with aria-busy or a usual name, but {before:.0} of {with:.0} px are there before the data",
                    "ingenting med aria-busy eller et vanlig navn, men {before:.0} av {with:.0} px er der før dataene",
                    "inget med aria-busy eller ett vanligt namn, men {before:.0} av {with:.0} px finns före data"
                ),
            ),
        };
        vec![first, Finding::when(cls <= CLS, stable, Words::same(format!("CLS {cls:.3}")))]
    }
}

async fn late(world: &World, url: &str) -> Result<Seen, Unable> {
    let page = visit_alone(world).await?;
    page.before_all(MEASURE).await?;
    page.before_all(WATCH).await?;
    // The foil is asked less of: what it does wrong it does at once.
    let delay = if world.is_foil { DELAY / 2 } else { DELAY };
    page.catch("*", move |caught| match caught.get("resourceType").and_then(Value::as_str) {
        Some("Fetch" | "XHR") => Reply::After(delay),
        _ => Reply::Pass,
    })
    .await?;
    let mark = page.mark();
    page.open(url, LOAD).await?;
    tokio::time::sleep(delay / 2).await;
    let before = page.eval(BEFORE).await?;
    tokio::time::sleep(delay / 2).await;
    page.quiet(mark, quiet(world), 2 * delay).await;
    let after = page.eval(AFTER).await?;
    let number = |told: &Value, key: &str| told.get(key).and_then(Value::as_f64);
    // What is there as well when the data are is no placeholder; nor is what has gone long before.
    let placeholders = |told: &Value| number(told, "now").unwrap_or_default();
    let is_one = placeholders(&before) > placeholders(&after);
    let (asked, first) = (number(&before, "asked"), number(&before, "first"));
    Ok(Seen {
        asked: asked.is_some(),
        after_ms: asked.zip(first).filter(|_| is_one).map(|(asked, first)| (first - asked).max(0.0)),
        before_px: number(&before, "px").unwrap_or_default(),
        with_px: number(&after, "px").unwrap_or_default(),
        cls: number(&after, "cls").unwrap_or_default(),
    })
}
