//! Cross-site scripting that only a browser shows: what the scripts of the pages make of texts that somebody wrote, and
//! of the address of the page.
//!
//! As in the check of the answers, the markers do no harm and are no script. What counts is an element or an attribute
//! in the finished page that came with a marker: where text is inserted as text, there is none. Elements come by
//! `innerHTML` where a policy blocks every script, too; so this says what the page does, and not what saves it.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::time::Instant;

use super::walk::{Traces, Walk, query_names};
use super::{LOAD, quiet, visit};
use crate::check::{About, Disturbs, Fault, Finding, Need, Probe, Unable};
use crate::checks::attacks::aim::{Range, Slot, is_little, shots, signs_in, signs_out, strongest};
use crate::checks::attacks::xss::{mark, payload};
use crate::words;
use crate::words::Words;
use crate::world::browser::{Page, Trouble};
use crate::world::crawl::tags;
use crate::world::http::percent;
use crate::world::{Session, World};

/// Scripts that the pages' own scripts insert.
pub struct XssBrowser;

/// What came of it.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Seen {
    /// Markers that a writing request took.
    written: usize,
    /// Of these, those that stood as text in a page.
    shown: usize,
    /// Pages that were looked at for them.
    pages: usize,
    /// Whether time was up, or the browser gave up, before all places were visited.
    cut: bool,
    stored: Vec<Hole>,
    /// Places whose address was tried, what was put into it, and visits that there were to make and were made.
    places: usize,
    tried: usize,
    visits: usize,
    made: usize,
    dom: Vec<Hole>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Hole {
    /// Where it was written; empty when it came with the address.
    route: String,
    parameter: String,
    page: String,
    /// `element` or `attribute`.
    became: String,
    /// Whether a script drew it: else the page was sent with it.
    drawn: bool,
}

const STORED: (&str, &str) = ("sec.xss", "stored");
const DOM: (&str, &str) = ("sec.xss", "dom");
const CONTROL: (&str, &str) = ("sec.xss", "control");
const MOST_WRITES: usize = 200;
const MOST_PAGES: usize = 40;
const MOST_PLACES: usize = 10;
const MOST_HOLES: usize = 20;
const WRITING: Duration = Duration::from_secs(60);
const WALKING: Duration = Duration::from_secs(90);
const ADDRESSING: Duration = Duration::from_secs(90);
/// A page that keeps the network busy is looked at after this.
const SETTLED: Duration = Duration::from_secs(7);
/// So many visits that come to nothing in a row, and the rest would as well.
const IN_VAIN: usize = 4;
/// What a page remembers of its events is bounded: before that, another goes on.
const MANY_EVENTS: usize = 12_000;
/// Names that pages like to show, and names that lead them elsewhere or make them refuse: those go in another visit.
const SHOWN_NAMES: [&str; 7] = ["q", "query", "search", "name", "message", "error", "title"];
const OTHER_NAMES: [&str; 8] = ["next", "redirect", "url", "return", "id", "tab", "lang", "page"];
const MOST_NAMES: usize = 24;
const FRAGMENT: &str = "#";

/// Looks through the page and its open shadows and frames for what came with a marker, for markers that are text, and
/// for links that stay here.
const LOOK: &str = r"(() => {
    const MARK = /kx[0-9a-f]{6}/g, ELEMENT = /^kx[0-9a-f]{6}t$/, ATTRIBUTE = /^kx[0-9a-f]{6}/;
    const holes = new Map(), shown = new Set(), links = new Set(), roots = [document];
    const text = (said) => { for (const found of String(said).slice(0, 100000).matchAll(MARK)) shown.add(found[0]); };
    let left = 200000;
    while (roots.length > 0) {
        const walker = document.createTreeWalker(roots.pop(), NodeFilter.SHOW_ELEMENT | NodeFilter.SHOW_TEXT);
        for (let node = walker.nextNode(); node && left > 0; node = walker.nextNode(), left -= 1) {
            if (node.nodeType === Node.TEXT_NODE) {
                if (!/^(script|style|noscript)$/i.test(node.parentNode?.nodeName ?? '')) text(node.data);
                continue;
            }
            if (ELEMENT.test(node.localName)) holes.set(node.localName.slice(0, 8), 'element');
            for (const { name } of node.attributes) {
                const mark = name.match(ATTRIBUTE)?.[0];
                if (mark && !holes.has(mark)) holes.set(mark, 'attribute');
            }
            if (/^(input|textarea)$/.test(node.localName)) text(node.value);
            if (node.shadowRoot) roots.push(node.shadowRoot);
            if (node.localName === 'iframe') {
                try { if (node.contentDocument) roots.push(node.contentDocument); } catch {}
            }
            if (node.localName === 'a' && node.hasAttribute('href') && !node.hasAttribute('download') && links.size < 500) {
                try {
                    const to = new URL(node.getAttribute('href'), document.baseURI);
                    if (to.origin === location.origin) links.add(to.pathname + to.search + (/^#!?\//.test(to.hash) ? to.hash : ''));
                } catch {}
            }
        }
    }
    const isPage = /html|svg/.test(document.contentType);
    return { isPage, holes: [...holes].slice(0, 500), shown: [...shown].slice(0, 2000), links: [...links].filter((link) => link.length <= 500) };
})()";

/// What a visit has shown.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Look {
    is_page: bool,
    /// Markers, and what they became.
    holes: Vec<(String, String)>,
    shown: Vec<String>,
    links: Vec<String>,
    /// Markers that the page was sent with as elements or attributes.
    #[serde(skip)]
    sent: Vec<String>,
}

impl Probe for XssBrowser {
    type Seen = Seen;

    const ABOUT: About = About {
        id: "xss-browser",
        version: 1,
        question: "Do the scripts of the pages insert what others wrote, or what an address holds, as HTML?",
        does: "Sends harmless markers in every field that is kept, walks through the app in Chromium as the account with the most rights, and opens its places with markers in their parameters and fragments; then looks in the finished pages for elements and attributes that only an unescaped marker can make.",
        shows: &[STORED, DOM, CONTROL],
        needs: &[Need::Site, Need::Browser],
        disturbs: Disturbs::Attacks,
        good_for: Duration::from_secs(7 * 24 * 3600),
        limit: Duration::from_secs(300),
        faults: &[
            Fault::Foil("xss-drawn", STORED),
            Fault::Foil("xss-fragment", DOM),
            Fault::Foil("xss-parameter", DOM),
        ],
    };

    async fn look(world: Rc<World>) -> Result<Seen, Unable> {
        let mut seen = Seen::default();
        let (written, traces) = write(&world).await?;
        seen.written = written.len();
        // What was written may have ended the session it was written in.
        let session = strongest(&world).await;
        let mut visitor = Visitor::new(&world, session.clone()).await?;
        let walk = visitor.walk(traces, &written, &mut seen).await?;
        let end = Instant::now() + ADDRESSING;
        visitor.address(&walk, end, &mut seen).await?;
        if session.is_some() {
            // Where people sign in is not shown to those who have.
            drop(visitor);
            Visitor::new(&world, None).await?.address_as_nobody(end, &mut seen).await?;
        }
        Ok(seen)
    }

    fn judge(seen: &Seen) -> Vec<Finding> {
        let Seen { written, shown, pages, places, tried, visits, made, .. } = seen;
        let stored = match seen.stored.first() {
            Some(hole @ Hole { route, parameter, page, became, .. }) => {
                let count = seen.stored.len();
                Finding::broken(
                    STORED,
                    words!(
                        "{count} of {written} kept markers are inserted unescaped, first {parameter} of {route} on {page}, as {became}",
                        "{count} av {written} lagrede markører settes inn uescapet, først {parameter} i {route} på {page}, som {became}",
                        "{count} av {written} lagrade markörer infogas oescapade, först {parameter} i {route} på {page}, som {became}"
                    )
                    .and(&hole.by()),
                )
            }
            None => {
                let because = words!(
                    "{written} markers were kept, {shown} of them stood as text on {pages} pages in a browser, none became part of one",
                    "{written} markører ble lagret, {shown} av dem sto som tekst på {pages} sider i en nettleser, ingen ble en del av en side",
                    "{written} markörer lagrades, {shown} av dem stod som text på {pages} sidor i en webbläsare, ingen blev en del av en sida"
                );
                if *shown == 0 {
                    Finding::unseen(STORED, because)
                } else if seen.cut {
                    let cut = words!(
                        "; time was up before all were visited",
                        "; tiden var ute før alle var besøkt",
                        "; tiden var slut innan alla hade besökts"
                    );
                    Finding::unseen(STORED, because.and(&cut))
                } else {
                    Finding::held(STORED, because)
                }
            }
        };
        let dom = match seen.dom.first() {
            Some(hole @ Hole { parameter, page, became, .. }) => {
                let count = seen.dom.len();
                Finding::broken(
                    DOM,
                    words!(
                        "{count} of {tried} markers in addresses are inserted unescaped, first {parameter} of {page}, as {became}",
                        "{count} av {tried} markører i adresser settes inn uescapet, først {parameter} i {page}, som {became}",
                        "{count} av {tried} markörer i adresser infogas oescapade, först {parameter} i {page}, som {became}"
                    )
                    .and(&hole.by()),
                )
            }
            None => {
                let because = words!(
                    "{tried} markers in parameters and fragments of {places} places, {made} of {visits} visits made: none became part of a page",
                    "{tried} markører i parametere og fragmenter på {places} steder, {made} av {visits} besøk gjort: ingen ble en del av en side",
                    "{tried} markörer i parametrar och fragment på {places} platser, {made} av {visits} besök gjorda: ingen blev en del av en sida"
                );
                if *tried == 0 || !is_little(visits.saturating_sub(*made), *visits) {
                    Finding::unseen(DOM, because)
                } else {
                    Finding::held(DOM, because)
                }
            }
        };
        let control = words!(
            "planted pages whose scripts draw notes, parameters and fragments as HTML were sought too",
            "plantede sider med skript som tegner notater, parametere og fragmenter som HTML ble også søkt",
            "planterade sidor med skript som ritar anteckningar, parametrar och fragment som HTML söktes också"
        );
        vec![stored, dom, Finding::held(CONTROL, control)]
    }
}

impl Hole {
    fn by(&self) -> Words {
        if self.drawn {
            words!(
                ", in a page drawn by a script",
                ", på en side tegnet av et skript",
                ", på en sida ritad av ett skript"
            )
        } else {
            words!(
                ", in the page as it was sent",
                ", på siden slik den ble sendt",
                ", på sidan som den skickades"
            )
        }
    }
}

/// Who wrote what where, by the marker.
type Written = BTreeMap<String, (String, String)>;

/// Sends markers in all that can be written; gives those that were taken, and where they may be seen.
async fn write(world: &World) -> Result<(Written, Traces), Unable> {
    let end = Instant::now() + WRITING;
    let range = Range::new(world, world.site()?, strongest(world).await);
    let mut shots = shots(&range).await;
    let slots = shots.spread(|shot| !shot.reads() && !signs_out(world, shot) && !signs_in(world, shot));
    let mut written = Written::new();
    let mut traces = Traces::default();
    for (number, slot) in slots.into_iter().take(MOST_WRITES) {
        if Instant::now() > end {
            break;
        }
        let Some(shot) = shots.all.get_mut(number) else { continue };
        // The whole at first; where it is refused, its parts.
        for part in 0..3 {
            let mark = mark();
            let text = payload(&mark, part);
            let ask = shot.with(&slot, &text);
            let path = ask.path.clone();
            let Ok(answer) = range.fire(ask).await else { continue };
            if answer.status.is_success() {
                traces.add(&path, shot.body(), answer.json().as_ref());
                written.insert(mark, (shot.label.clone(), shot.slot_name(&slot)));
                // Else the next field's attempt would write over what this one wrote.
                if matches!(slot, Slot::Json(_)) {
                    *shot = shot.keeping(&slot, &text);
                }
                break;
            }
        }
    }
    Ok((written, traces))
}

/// Somebody who walks through the app in the browser.
struct Visitor<'a> {
    world: &'a World,
    session: Option<Session>,
    page: Option<Page<'a>>,
    in_vain: usize,
}

impl<'a> Visitor<'a> {
    async fn new(world: &'a World, session: Option<Session>) -> Result<Self, Unable> {
        let mut visitor = Self { world, session, page: None, in_vain: 0 };
        visitor.begin().await?;
        Ok(visitor)
    }

    /// Takes a new page, with the cookies of the session in it.
    async fn begin(&mut self) -> Result<(), Unable> {
        drop(self.page.take()); // before another is asked for: there are few
        let page = visit(self.world).await?;
        page.call("Network.setBypassServiceWorker", serde_json::json!({"bypass": true})).await?;
        if let Some(session) = &self.session {
            page.sign_in(session, &self.world.url("/")?).await?;
        }
        self.page = Some(page);
        Ok(())
    }

    /// Opens a place and looks at it; `None` when it came to nothing.
    async fn look(&mut self, place: &str) -> Result<Option<Look>, Unable> {
        if self.page.as_ref().is_none_or(|page| page.mark() > MANY_EVENTS) {
            self.begin().await?;
        }
        let Some(page) = &self.page else { return Ok(None) };
        let looked = look(self.world, page, place).await;
        let found = looked.as_ref().is_ok_and(Option::is_some);
        self.in_vain = if found { 0 } else { self.in_vain + 1 };
        // A browser that is gone shows nothing more; a place that cannot be opened is only one place.
        match looked {
            Err(why) if self.in_vain > IN_VAIN => Err(why.into()),
            looked => Ok(looked.unwrap_or_default()),
        }
    }

    /// Walks through the app and looks for what was written.
    async fn walk(&mut self, traces: Traces, written: &Written, seen: &mut Seen) -> Result<Walk, Unable> {
        let end = Instant::now() + WALKING;
        let mut walk = Walk::new(traces);
        let crawl = self.world.crawl().await?;
        walk.offer("/");
        for place in crawl.pages.keys() {
            walk.offer(place);
        }
        let mut shown = std::collections::BTreeSet::new();
        let mut visited = 0;
        while let Some(place) = walk.next() {
            if visited >= MOST_PAGES {
                break;
            }
            if Instant::now() > end || self.in_vain >= IN_VAIN {
                seen.cut = true;
                break;
            }
            visited += 1;
            let Some(look) = self.look(&place).await? else { continue };
            if !look.is_page {
                continue;
            }
            seen.pages += 1;
            for link in &look.links {
                walk.offer(link);
            }
            if place == "/" {
                walk.first = look.links.clone();
            }
            shown.extend(look.shown.iter().filter(|mark| written.contains_key(*mark)).cloned());
            for (mark, became) in &look.holes {
                let Some((route, parameter)) = written.get(mark) else { continue };
                let is_new =
                    !seen.stored.iter().any(|hole| hole.route == *route && hole.parameter == *parameter);
                if is_new && seen.stored.len() < MOST_HOLES {
                    seen.stored.push(Hole::new(route, parameter, &place, became, !look.sent.contains(mark)));
                }
            }
        }
        seen.shown = shown.len();
        Ok(walk)
    }

    /// As somebody who has not signed in.
    async fn address_as_nobody(&mut self, end: Instant, seen: &mut Seen) -> Result<(), Unable> {
        let mut walk = Walk::new(Traces::default());
        if let Some(look) = self.look("/").await? {
            walk.first = look.links;
        }
        self.address(&walk, end, seen).await
    }

    /// Opens the places of the first level with markers in their addresses.
    async fn address(&mut self, walk: &Walk, end: Instant, seen: &mut Seen) -> Result<(), Unable> {
        let crawl = self.world.crawl().await?;
        let mut known: Vec<String> = Vec::new();
        for link in crawl.queries.iter().chain(&walk.first).chain(walk.met()) {
            known.extend(query_names(link));
        }
        if let Some(api) = self.world.api().await {
            let parameters =
                api.operations.iter().filter(|each| each.reads()).flat_map(|each| &each.parameters);
            known.extend(parameters.filter(|each| each.place == "query").map(|each| each.name.clone()));
        }
        let crawled = crawl.pages.keys().chain(&walk.first);
        let places = Walk::level(std::iter::once("/").chain(crawled.map(String::as_str)), MOST_PLACES);
        seen.places = seen.places.max(places.len());
        let visits = [named(&SHOWN_NAMES, &[], &[]), named(&OTHER_NAMES, &known, &SHOWN_NAMES)];
        seen.visits += places.len() * visits.len();
        for names in &visits {
            for place in &places {
                if Instant::now() > end || self.in_vain >= IN_VAIN || seen.dom.len() >= MOST_HOLES {
                    return Ok(());
                }
                let marked: Vec<(String, String)> = names.iter().map(|name| (name.clone(), mark())).collect();
                let Some(look) = self.look(&addressed(place, &marked)).await? else { continue };
                seen.made += 1;
                if !look.is_page {
                    continue;
                }
                seen.tried += marked.len();
                for (mark, became) in &look.holes {
                    let Some((name, _)) = marked.iter().find(|(_, each)| each == mark) else { continue };
                    let parameter = if name == FRAGMENT { "the fragment (#)" } else { name };
                    if !seen.dom.iter().any(|hole| hole.parameter == parameter && hole.page == *place) {
                        let drawn = !look.sent.contains(mark);
                        seen.dom.push(Hole::new("", parameter, place, became, drawn));
                    }
                }
            }
        }
        Ok(())
    }
}

impl Hole {
    fn new(route: &str, parameter: &str, page: &str, became: &str, drawn: bool) -> Self {
        let short = |text: &str| text.chars().take(100).collect();
        let became = became.to_owned();
        Self { route: short(route), parameter: short(parameter), page: short(page), became, drawn }
    }
}

/// The names that get a marker in one visit: the fragment, these, and those that are known but for some.
fn named(these: &[&str], known: &[String], but: &[&str]) -> Vec<String> {
    let known = known.iter().map(String::as_str).filter(|name| !but.contains(name));
    let mut names: Vec<String> = Vec::new();
    for name in std::iter::once(FRAGMENT).chain(known).chain(these.iter().copied()) {
        if !names.iter().any(|each| each == name) {
            names.push(name.to_owned());
        }
    }
    // Those that are known are more than those that are usual.
    names.truncate(MOST_NAMES);
    names
}

/// A place with a marker in each of these parameters, and in the fragment.
fn addressed(place: &str, marked: &[(String, String)]) -> String {
    let (before, route) =
        place.split_once('#').map_or((place, None), |(before, route)| (before, Some(route)));
    let path = before.split('?').next().unwrap_or(before);
    let value = |mark: &str| percent(&payload(mark, 0));
    let parameters = marked.iter().filter(|(name, _)| name != FRAGMENT);
    let query: Vec<String> =
        parameters.map(|(name, mark)| format!("{}={}", percent(name), value(mark))).collect();
    let query = query.join("&");
    match (route, marked.iter().find(|(name, _)| name == FRAGMENT)) {
        // Where the fragment is the route, its own parameters are what the script reads.
        (Some(route), _) => format!("{path}#{}?{query}", route.split('?').next().unwrap_or(route)),
        (None, Some((_, mark))) => format!("{path}?{query}#{}", value(mark)),
        (None, None) => format!("{path}?{query}"),
    }
}

async fn look(world: &World, page: &Page<'_>, place: &str) -> Result<Option<Look>, Trouble> {
    let Ok(url) = world.url(place) else { return Ok(None) };
    if place.contains('#') {
        // Where only the fragment is another, nothing would be loaded.
        page.open("about:blank", LOAD).await?;
    }
    let mark = page.mark();
    page.open(&url, LOAD).await?;
    page.quiet(mark, quiet(world), SETTLED).await;
    let Ok(mut look) = serde_json::from_value::<Look>(page.eval(LOOK).await?) else { return Ok(None) };
    let document = page.events(mark).into_iter().rev().find_map(|event| {
        let is_document = event.params.get("type").and_then(Value::as_str) == Some("Document");
        (event.method == "Network.responseReceived" && is_document).then_some(event.params)
    });
    let status = document.as_ref().and_then(|told| told.pointer("/response/status")?.as_u64());
    // A page of the door's own says nothing of what lies behind it.
    if status == Some(429) {
        return Ok(None);
    }
    if !look.holes.is_empty()
        && let Some(request) = document.as_ref().and_then(|told| told.get("requestId")?.as_str())
        && let Ok(body) = page.body(request).await
    {
        let came = |mark: &str| {
            tags(&body).iter().any(|tag| {
                tag.name.starts_with(mark) || tag.attributes.iter().any(|(name, _)| name.starts_with(mark))
            })
        };
        look.sent = look.holes.iter().map(|(mark, _)| mark.clone()).filter(|mark| came(mark)).collect();
    }
    Ok(Some(look))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::Saw;

    #[test]
    fn a_browser_that_saw_nothing_shows_nothing() {
        let saw = |seen: Seen| {
            let found = XssBrowser::judge(&seen);
            [found[0].saw, found[1].saw]
        };
        let good = || Seen {
            written: 4,
            shown: 2,
            pages: 9,
            places: 5,
            tried: 80,
            visits: 20,
            made: 20,
            ..Seen::default()
        };
        let hole = || vec![Hole::new("POST /notes", "text (body)", "/orders/1", "element", true)];
        assert_eq!(saw(good()), [Saw::Held; 2]);
        assert_eq!(saw(Seen::default()), [Saw::Unseen; 2]);
        assert_eq!(saw(Seen { shown: 0, made: 19, ..good() }), [Saw::Unseen, Saw::Held]);
        assert_eq!(saw(Seen { cut: true, made: 15, ..good() }), [Saw::Unseen; 2]);
        assert_eq!(saw(Seen { stored: hole(), cut: true, ..good() }), [Saw::Broken, Saw::Held]);
        assert_eq!(saw(Seen { dom: hole(), made: 1, ..good() }), [Saw::Held, Saw::Broken]);
        let found = XssBrowser::judge(&Seen { stored: hole(), ..good() });
        let because = &found[0].because.en;
        assert!(
            because.ends_with(
                "text (body) of POST /notes on /orders/1, as element, in a page drawn by a script"
            ),
            "{because}"
        );
    }

    #[test]
    fn markers_are_put_into_addresses() {
        let marked = |names: &[&str]| -> Vec<(String, String)> {
            names.iter().map(|name| ((*name).to_owned(), format!("kx{name}"))).collect()
        };
        let bare = |address: &str| {
            let value = |mark: &str| percent(&payload(mark, 0));
            ["#", "q", "a b"].iter().fold(address.to_owned(), |all, name| {
                all.replace(&value(&format!("kx{name}")), &format!("<{name}>"))
            })
        };
        let all = marked(&["#", "q", "a b"]);
        assert_eq!(bare(&addressed("/", &all)), "/?q=<q>&a%20b=<a b>#<#>");
        assert_eq!(bare(&addressed("/list?q=1&tab=2", &all)), "/list?q=<q>&a%20b=<a b>#<#>");
        assert_eq!(bare(&addressed("/#/list?q=1", &all)), "/#/list?q=<q>&a%20b=<a b>");
        assert_eq!(bare(&addressed("/a", &marked(&["q"]))), "/a?q=<q>");
        assert_eq!(
            named(&["q", "x"], &["y".into(), "q".into(), "z".into(), "y".into()], &["z"]),
            ["#", "y", "q", "x"]
        );
    }
}
