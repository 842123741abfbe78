//! Long lists: few rows in the page at a time, all of them within reach, each part fetched once.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::{LIMIT, LOAD, places, quiet, visit};
use crate::check::{About, Disturbs, Fault, Finding, Need, Probe, Unable};
use crate::words;
use crate::words::Words;
use crate::world::World;
use crate::world::browser::Page;

/// The longest list that is found.
pub struct VirtualScroll;

/// What came of scrolling through it.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Seen {
    /// Where the list is; empty when none was found.
    path: String,
    scrolled: Scrolled,
    /// Requests of the script for parts of it, and those that were made again.
    pages: usize,
    again: Vec<String>,
    /// Rows in the answers to them, those that came in two of them, and answers that could not be read.
    items: usize,
    twice: usize,
    unread: usize,
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
struct Scrolled {
    /// What the list says of its length.
    total: usize,
    /// Different rows that were seen, the most that were in the page at once, and the numbers of the first and last.
    rows: usize,
    most: usize,
    first: usize,
    last: usize,
    /// Whether the rows have numbers (`aria-rowindex`, `data-index`).
    numbered: bool,
    /// Whether the end was reached.
    ended: bool,
}

const VIRTUAL: &str = "ux.virtual-scroll";
const INFINITE: &str = "ux.infinite-scroll";
/// So many rows are asked for.
const WANTED: usize = 10_000;
/// So many are far too many, however long the list is.
const FAR_TOO_MANY: usize = 1000;
const MOST_ROWS: usize = 200;
const PLACES: usize = 5;
const SCROLLING: Duration = Duration::from_secs(50);

/// Finds the longest list of the page, and what it says of its length.
const FIND: &str = r#"(() => {
    const LIKE = ['[aria-rowindex]', '[data-index]', '[aria-posinset]', '[role="row"]', '[role="listitem"]', 'tbody tr', 'li'];
    const rowsOf = (view) => {
        for (const like of LIKE) {
            const rows = view.querySelectorAll(like);
            if (rows.length >= 5) return [...rows];
        }
        return [];
    };
    const scrolls = (view) => view === document.scrollingElement || /auto|scroll/.test(getComputedStyle(view).overflowY);
    const views = [...document.querySelectorAll('*')].filter((view) =>
        view.clientHeight >= 200 && view.scrollHeight > 2 * view.clientHeight && scrolls(view) && rowsOf(view).length > 0);
    const view = views.sort((a, b) => b.scrollHeight - a.scrollHeight)[0];
    if (!view) return null;
    const said = view.closest('[aria-rowcount]') ?? view.querySelector('[aria-rowcount]');
    const total = Number(said?.getAttribute('aria-rowcount') ?? 0);
    const numberOf = (row) => row.getAttribute('aria-rowindex') ?? row.dataset.index ?? row.getAttribute('aria-posinset');
    globalThis.klarList = {
        view, rowsOf, numberOf, places: new Set(), numbers: new Set(), waiting: null,
        told: { total: Math.max(total, 0), rows: 0, most: 0, first: 0, last: 0, numbered: false, ended: false },
    };
    return { total, height: view.scrollHeight };
})()"#;

/// Goes down by less than a view at a time, for a while.
const SCROLL: &str = r"(async () => {
    const { view, rowsOf, numberOf, places, numbers, told } = klarList;
    const frame = () => new Promise((done) => requestAnimationFrame(() => setTimeout(done, 0)));
    const look = () => {
        const rows = rowsOf(view);
        told.most = Math.max(told.most, rows.length);
        let lowest = -Infinity;
        for (const row of rows) {
            const number = numberOf(row);
            const key = row.textContent.slice(0, 200);
            if (number !== null) numbers.add(Number(number));
            else places.add(key);
            lowest = Math.max(lowest, row.getBoundingClientRect().bottom);
        }
        return lowest;
    };
    const count = () => Math.max(numbers.size, places.size);
    const until = performance.now() + 5000;
    while (performance.now() < until && !told.ended && told.most < 1000 && count() < 10000) {
        const lowest = look();
        const bottom = view === document.scrollingElement ? innerHeight : view.getBoundingClientRect().bottom;
        const atEnd = view.scrollTop + view.clientHeight >= view.scrollHeight - 2;
        if (atEnd || lowest < bottom - 2) {
            // The end, or rows that are still to come.
            klarList.waiting ??= performance.now();
            if (performance.now() - klarList.waiting > (atEnd ? 2000 : 10000)) told.ended = true;
        } else {
            klarList.waiting = null;
            view.scrollTop += view.clientHeight * 0.9;
        }
        await frame();
    }
    look();
    const all = [...numbers];
    told.numbered = all.length > 0;
    told.rows = told.numbered ? numbers.size : places.size;
    told.first = all.reduce((a, b) => Math.min(a, b), Infinity);
    told.last = all.reduce((a, b) => Math.max(a, b), 0);
    if (!told.numbered) told.first = 0;
    return { ...told, done: told.ended || told.most >= 1000 || count() >= 10000 };
})()";

impl Probe for VirtualScroll {
    type Seen = Seen;

    const ABOUT: About = About {
        id: "virtual-scroll",
        version: 1,
        question: "Does a list of 10,000 rows stay light, whole, and fetched once?",
        does: "Signs in where it can, finds the longest list among the places that the first page links to, scrolls through 10,000 rows of it and counts.",
        shows: &[(VIRTUAL, "dom-rows"), (VIRTUAL, "reachable"), (INFINITE, "once"), (INFINITE, "complete")],
        needs: &[Need::Site, Need::Browser],
        disturbs: Disturbs::Load,
        good_for: Duration::from_secs(24 * 3600),
        limit: LIMIT,
        faults: &[
            Fault::Foil("all-rows", (VIRTUAL, "dom-rows")),
            Fault::Foil("unreachable-rows", (VIRTUAL, "reachable")),
            Fault::Foil("fetched-twice", (INFINITE, "once")),
            Fault::Foil("rows-twice", (INFINITE, "complete")),
        ],
    };

    async fn look(world: Rc<World>) -> Result<Seen, Unable> {
        // Who may see most has the longest lists.
        let account = world.accounts.as_ref().and_then(|accounts| accounts.list.last());
        let session = match account {
            Some(account) => Some(world.sign_in(account).await?),
            None => None,
        };
        let mut paths = places(&world, PLACES).await?;
        paths.push("/".to_owned());
        let page = visit(&world).await?;
        page.call("Network.setBypassServiceWorker", json!({"bypass": true})).await?;
        let window = json!({"width": 1280, "height": 2400, "deviceScaleFactor": 1, "mobile": false});
        page.call("Emulation.setDeviceMetricsOverride", window).await?;
        if let Some(session) = &session {
            page.sign_in(session, &world.url("/")?).await?;
        }
        let mut longest = (0, String::new());
        for path in paths {
            open(&world, &page, &world.url(&path)?).await?;
            let found = page.eval(FIND).await?;
            let number = |key: &str| found.get(key).and_then(Value::as_f64).unwrap_or_default() as u64;
            // A list that says its length counts for more than one that is only high.
            let length = number("height") + number("total") * 100;
            if length > longest.0 {
                longest = (length, path);
            }
        }
        let path = longest.1;
        if path.is_empty() {
            return Ok(Seen::default());
        }
        let mark = page.mark();
        open(&world, &page, &world.url(&path)?).await?;
        page.eval(FIND).await?;
        let deadline = Instant::now() + SCROLLING;
        let mut scrolled = Value::Null;
        while Instant::now() < deadline && scrolled.get("done") != Some(&Value::Bool(true)) {
            scrolled = page.eval(SCROLL).await?;
        }
        let scrolled =
            serde_json::from_value(scrolled).map_err(|why| Unable(Words::same(why.to_string())))?;
        let mut seen = Seen { path: path.chars().take(200).collect(), scrolled, ..Seen::default() };
        seen.read_parts(&page, mark).await;
        Ok(seen)
    }

    fn judge(seen: &Seen) -> Vec<Finding> {
        let parts =
            [(VIRTUAL, "dom-rows"), (VIRTUAL, "reachable"), (INFINITE, "once"), (INFINITE, "complete")];
        if seen.path.is_empty() {
            let none =
                || words!("no long list was found", "fant ingen lang liste", "hittade ingen lång lista");
            return parts.into_iter().map(|part| Finding::unseen(part, none())).collect();
        }
        let Scrolled { total, rows, most, first, last, numbered, ended } = seen.scrolled;
        let (items, twice) = (seen.items, seen.twice);
        let path = &seen.path;
        let told = words!(
            "{path}: {rows} rows seen of {total}, at most {most} in the page at once",
            "{path}: {rows} rader sett av {total}, høyst {most} på siden samtidig",
            "{path}: {rows} rader sedda av {total}, högst {most} på sidan samtidigt"
        );
        let dom = if most >= FAR_TOO_MANY || most >= MOST_ROWS && total.max(rows) >= WANTED {
            Finding::broken(parts[0], told.clone())
        } else if rows >= WANTED {
            Finding::held(parts[0], told.clone())
        } else {
            Finding::unseen(parts[0], told.clone())
        };
        let gapless = numbered && rows == last + 1 - first;
        // A heading may be counted as a row, too.
        let reached = if ended && total > last + 1 {
            Finding::broken(parts[1], told.clone())
        } else if gapless && (rows >= WANTED || ended && total > 0) {
            Finding::held(parts[1], told.clone())
        } else {
            Finding::unseen(parts[1], told.clone())
        };
        let (pages, again) = (seen.pages, seen.again.len());
        if pages < 2 {
            let none = || {
                words!(
                    "{path}: the list is not fetched in parts",
                    "{path}: listen hentes ikke i deler",
                    "{path}: listan hämtas inte i delar"
                )
            };
            return vec![dom, reached, Finding::unseen(parts[2], none()), Finding::unseen(parts[3], none())];
        }
        let once = match seen.again.first() {
            None => words!(
                "{pages} parts fetched, each once",
                "{pages} deler hentet, hver én gang",
                "{pages} delar hämtade, var och en en gång"
            ),
            Some(url) => words!(
                "{again} of {pages} parts fetched again; first {url}",
                "{again} av {pages} deler hentet på nytt; først {url}",
                "{again} av {pages} delar hämtade igen; först {url}"
            ),
        };
        let gaps = (last + 1).saturating_sub(first).saturating_sub(rows);
        let whole = words!(
            "{gaps} gaps in {rows} rows, {twice} duplicates in the {items} that were fetched",
            "{gaps} hull i {rows} rader, {twice} dubletter i de {items} som ble hentet",
            "{gaps} luckor i {rows} rader, {twice} dubbletter i de {items} som hämtades"
        );
        let complete = if !numbered {
            Finding::unseen(
                parts[3],
                words!(
                    "{path}: the rows have no numbers (aria-rowindex)",
                    "{path}: radene har ingen nummer (aria-rowindex)",
                    "{path}: raderna har inga nummer (aria-rowindex)"
                ),
            )
        } else if gaps == 0 && twice == 0 && (seen.unread > 0 || items == 0) {
            Finding::unseen(
                parts[3],
                words!(
                    "{path}: the answers could not be read",
                    "{path}: svarene kunne ikke leses",
                    "{path}: svaren kunde inte läsas"
                ),
            )
        } else {
            Finding::when(gaps == 0 && twice == 0, parts[3], whole)
        };
        vec![dom, reached, Finding::when(again == 0, parts[2], once), complete]
    }
}

async fn open(world: &World, page: &Page<'_>, url: &str) -> Result<(), Unable> {
    let mark = page.mark();
    page.open(url, LOAD).await?;
    page.quiet(mark, quiet(world), LOAD / 2).await;
    Ok(())
}

impl Seen {
    /// The requests for parts of the list: those whose path was asked for most; and what was answered.
    async fn read_parts(&mut self, page: &Page<'_>, mark: usize) {
        let mut by_path: BTreeMap<String, BTreeMap<String, Vec<String>>> = BTreeMap::new();
        for event in page.events(mark) {
            let text = |path: &str| event.params.pointer(path).and_then(Value::as_str).unwrap_or_default();
            let by_script = matches!(text("/type"), "Fetch" | "XHR") && text("/request/method") == "GET";
            if event.method == "Network.requestWillBeSent" && by_script {
                let url: String = text("/request/url").chars().take(2000).collect();
                let path = url.split('?').next().unwrap_or_default().to_owned();
                by_path.entry(path).or_default().entry(url).or_default().push(text("/requestId").to_owned());
            }
        }
        let Some(most) = by_path.into_values().max_by_key(BTreeMap::len) else { return };
        self.pages = most.len();
        let again = most.iter().filter(|(_, requests)| requests.len() > 1).map(|(url, _)| {
            // A cursor says nothing to anybody, and may be long.
            format!("/{}", url.splitn(4, '/').nth(3).unwrap_or_default().chars().take(60).collect::<String>())
        });
        self.again = again.take(20).collect();
        let mut known = BTreeSet::new();
        for request in most.values().filter_map(|requests| requests.first()) {
            let body = page.body(request).await.ok().and_then(|body| serde_json::from_str(&body).ok());
            let Some(items) = body.as_ref().and_then(items) else {
                self.unread += 1;
                continue;
            };
            for item in items {
                // What has no id is the same when it is the same in everything.
                let name = item.get("id").unwrap_or(item).to_string();
                self.items += 1;
                self.twice += usize::from(!known.insert(name));
            }
        }
    }
}

/// The longest list in an answer: the answer itself, or one of its fields.
fn items(body: &Value) -> Option<&Vec<Value>> {
    let fields = body.as_object().into_iter().flat_map(|fields| fields.values());
    std::iter::once(body).chain(fields).filter_map(Value::as_array).max_by_key(|items| items.len())
}
