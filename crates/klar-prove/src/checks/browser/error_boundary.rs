//! What becomes of the page when one answer of the API is not what its script expects.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{LIMIT, LOAD, places, quiet, visit};
use crate::check::{About, Disturbs, Fault, Finding, Need, Probe, Unable};
use crate::words;
use crate::world::World;
use crate::world::browser::{Page, Reply};

/// The first page with an answer that is not what it should be.
pub struct ErrorBoundary;

/// The page as it is, and with each of its answers replaced in turn.
#[derive(Debug, Serialize, Deserialize)]
pub struct Seen {
    whole: Shown,
    /// By the path whose answer was replaced.
    replaced: BTreeMap<String, Replaced>,
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
struct Shown {
    /// Letters of visible text, and links.
    letters: usize,
    links: usize,
}

#[derive(Debug, Serialize, Deserialize)]
struct Replaced {
    shown: Shown,
    /// Whether the page is another than the one with the right answer.
    differs: bool,
    /// Whether a link of it still led to another place; `None` when there was none to follow.
    alive: Option<bool>,
}

const ROW: &str = "err.frontend-boundary";
const CONTAINED: (&str, &str) = (ROW, "contained");
const ALIVE: (&str, &str) = (ROW, "alive");
const MOST: usize = 3;
/// Behind a path whose answer has objects in place of texts, or nothing in place of rows.
const TEXTS: &str = "(texts replaced)";
const ROWS: &str = "(rows replaced)";
/// JSON, but nothing that any script could go through.
const GARBAGE: &str = r#"{"klar":null}"#;

const SHOWN: &str = "({ letters: document.body.innerText.replace(/\\s/g, '').length, \
    links: document.querySelectorAll('a[href]').length, text: document.body.innerText })";

impl Probe for ErrorBoundary {
    type Seen = Seen;

    const ABOUT: About = About {
        id: "error-boundary",
        version: 2,
        question: "When a part of the page fails, does the rest go on?",
        does: "Opens the first page with one answer of the API replaced by JSON that its script cannot use, and by the same answer with objects in place of its texts or nothing in place of its rows, looks what is left of the page, and follows a link.",
        shows: &[CONTAINED, ALIVE],
        needs: &[Need::Site, Need::Browser],
        disturbs: Disturbs::Nothing,
        good_for: Duration::from_secs(24 * 3600),
        limit: LIMIT,
        faults: &[Fault::Foil("no-boundary", CONTAINED), Fault::Foil("dead-links", ALIVE)],
    };

    async fn look(world: Rc<World>) -> Result<Seen, Unable> {
        let url = world.url("/")?;
        let target = places(&world, 8).await?;
        let (asked, whole, lines) = {
            let page = visit(&world).await?;
            page.call("Network.setBypassServiceWorker", json!({"bypass": true})).await?;
            let mark = page.mark();
            page.open(&url, LOAD).await?;
            page.quiet(mark, quiet(&world), LOAD).await;
            let (whole, text) = shown(&page).await?;
            let asked = asked(&page, mark).await;
            // What stands in the page the second time as well changes for no other reason than the answer.
            let mark = page.mark();
            page.open(&url, LOAD).await?;
            page.quiet(mark, quiet(&world), LOAD).await;
            let (_, again) = shown(&page).await?;
            let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && again.contains(*line));
            (asked, whole, lines.map(str::to_owned).collect::<Vec<_>>())
        };
        let mut seen = Seen { whole, replaced: BTreeMap::new() };
        let variants = asked.into_iter().take(MOST).flat_map(|(path, body)| {
            let body: Option<Value> = body.and_then(|body| serde_json::from_str(&body).ok());
            let spoilt = [(TEXTS, spoil_texts as fn(&mut Value)), (ROWS, spoil_rows)].into_iter();
            let spoilt = spoilt.filter_map(|(name, spoil)| {
                let mut odd = body.clone()?;
                spoil(&mut odd);
                (Some(&odd) != body.as_ref())
                    .then(|| (format!("{path} {name}"), path.clone(), odd.to_string()))
            });
            let spoilt: Vec<_> = spoilt.collect();
            std::iter::once((path.clone(), path, GARBAGE.to_owned())).chain(spoilt)
        });
        for (name, wanted, body) in variants.collect::<Vec<_>>() {
            let page = visit(&world).await?;
            page.catch("*", move |caught| {
                let url = caught.pointer("/request/url").and_then(Value::as_str).unwrap_or_default();
                let by_script =
                    matches!(caught.get("resourceType").and_then(Value::as_str), Some("Fetch" | "XHR"));
                if by_script && path_of(url) == wanted { Reply::Say(body.clone()) } else { Reply::Pass }
            })
            .await?;
            let mark = page.mark();
            page.open(&url, LOAD).await?;
            page.quiet(mark, quiet(&world), LOAD / 5).await;
            let (shown, now) = shown(&page).await?;
            let differs = lines.iter().any(|line| !now.contains(line));
            let alive = follow(&world, &page, &target).await?;
            seen.replaced.insert(name, Replaced { shown, differs, alive });
        }
        Ok(seen)
    }

    fn judge(seen: &Seen) -> Vec<Finding> {
        // Where the page is the same, nothing in it has failed.
        let failed: Vec<(&String, &Replaced)> =
            seen.replaced.iter().filter(|(_, each)| each.differs).collect();
        let tried = seen.replaced.len();
        if failed.is_empty() {
            let none = || {
                words!(
                    "no answer of {tried} could be replaced so that a part of the page failed",
                    "ingen av {tried} svar kunne byttes ut slik at en del av siden feilet",
                    "inget av {tried} svar kunde bytas ut så att en del av sidan fallerade"
                )
            };
            return vec![Finding::unseen(CONTAINED, none()), Finding::unseen(ALIVE, none())];
        }
        let count = failed.len();
        let blank = failed.iter().find(|(_, each)| each.shown.is_blank(&seen.whole));
        let contained = match blank {
            Some((path, each)) => {
                let (left, all) = (each.shown.letters, seen.whole.letters);
                Finding::broken(
                    CONTAINED,
                    words!(
                        "with a useless answer of {path}, {left} of {all} letters are left of the page",
                        "med et ubrukelig svar fra {path} er {left} av {all} bokstaver igjen av siden",
                        "med ett oanvändbart svar från {path} är {left} av {all} bokstäver kvar av sidan"
                    ),
                )
            }
            None => Finding::held(
                CONTAINED,
                words!(
                    "{count} of {tried} answers replaced made a part of the page fail, and the rest stayed",
                    "{count} av {tried} utbyttede svar fikk en del av siden til å feile, og resten ble stående",
                    "{count} av {tried} utbytta svar fick en del av sidan att fallera, och resten stod kvar"
                ),
            ),
        };
        let dead = failed.iter().find(|(_, each)| each.alive == Some(false));
        let alive = match dead {
            Some((path, _)) => Finding::broken(
                ALIVE,
                words!(
                    "with a useless answer of {path}, links lead nowhere any more",
                    "med et ubrukelig svar fra {path} fører lenker ingen steder lenger",
                    "med ett oanvändbart svar från {path} leder länkar inte någonstans längre"
                ),
            ),
            None if failed.iter().any(|(_, each)| each.alive == Some(true)) => Finding::held(
                ALIVE,
                words!(
                    "links still lead on",
                    "lenker fører fortsatt videre",
                    "länkar leder fortfarande vidare"
                ),
            ),
            None => Finding::unseen(
                ALIVE,
                words!(
                    "the page has no link to follow",
                    "siden har ingen lenke å følge",
                    "sidan har ingen länk att följa"
                ),
            ),
        };
        vec![contained, alive]
    }
}

impl Shown {
    /// Little is left: less than a tenth of the text, or not one of the links.
    fn is_blank(&self, whole: &Self) -> bool {
        self.letters * 10 < whole.letters || whole.links > 0 && self.links == 0
    }
}

/// What a page shows, in numbers and in words. The words are only compared.
async fn shown(page: &Page<'_>) -> Result<(Shown, String), Unable> {
    let told = page.eval(SHOWN).await?;
    let number = |key: &str| told.get(key).and_then(Value::as_u64).unwrap_or_default() as usize;
    let text = told.get("text").and_then(Value::as_str).unwrap_or_default().to_owned();
    Ok((Shown { letters: number("letters"), links: number("links") }, text))
}

fn path_of(url: &str) -> String {
    let path = url.splitn(4, '/').nth(3).unwrap_or_default();
    format!("/{}", path.split(['?', '#']).next().unwrap_or_default().chars().take(200).collect::<String>())
}

/// Puts an object in place of each text: what is written into a page as it is, fails there.
fn spoil_texts(value: &mut Value) {
    match value {
        Value::String(_) => *value = json!({"klar": null}),
        Value::Array(items) => items.iter_mut().for_each(spoil_texts),
        Value::Object(fields) => fields.values_mut().for_each(spoil_texts),
        _ => {}
    }
}

/// Puts nothing in place of each row: what reads a field of it, fails there.
fn spoil_rows(value: &mut Value) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(|item| *item = Value::Null),
        Value::Object(fields) => fields.values_mut().for_each(spoil_rows),
        _ => {}
    }
}

/// The paths that the script of a page asked for and was answered with JSON, and the answers.
async fn asked(page: &Page<'_>, mark: usize) -> Vec<(String, Option<String>)> {
    let mut found: Vec<(String, Option<String>)> = Vec::new();
    for event in page.events(mark) {
        let text = |path: &str| event.params.pointer(path).and_then(Value::as_str).unwrap_or_default();
        let is_json = text("/response/mimeType").contains("json") && matches!(text("/type"), "Fetch" | "XHR");
        let good = event.params.pointer("/response/status").and_then(Value::as_u64) == Some(200);
        let path = path_of(text("/response/url"));
        if event.method == "Network.responseReceived"
            && is_json
            && good
            && !found.iter().any(|(each, _)| *each == path)
        {
            let body = page.body(text("/requestId")).await.ok();
            found.push((path, body.filter(|body| body.len() < 1_000_000)));
        }
    }
    found
}

/// Clicks on a link to another place; whether the page went there, and shows something.
async fn follow(world: &World, page: &Page<'_>, places: &[String]) -> Result<Option<bool>, Unable> {
    let places = serde_json::to_string(places).unwrap_or_default();
    let click = format!(
        "(() => {{ const to = [...document.querySelectorAll('a[href]')].find((a) => \
         {places}.includes(a.getAttribute('href')) && a.pathname !== location.pathname); to?.click(); return to?.pathname ?? null; }})()"
    );
    let mark = page.mark();
    let clicked = page.eval(&click).await?;
    if clicked.is_null() {
        return Ok(None);
    }
    page.quiet(mark, 2 * quiet(world), LOAD / 5).await;
    // A place that needs signing in may send on: what counts is that one left, and that something shows.
    let there = page.eval("location.pathname !== '/' && document.body.innerText.trim().length > 0").await?;
    Ok(Some(there == Value::Bool(true)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_spoilt_inside() {
        let answer = json!({"kinds": [{"name": "a", "price": 7}], "next": null});
        let (mut texts, mut rows) = (answer.clone(), answer);
        spoil_texts(&mut texts);
        spoil_rows(&mut rows);
        assert_eq!(texts, json!({"kinds": [{"name": {"klar": null}, "price": 7}], "next": null}));
        assert_eq!(rows, json!({"kinds": [null], "next": null}));
    }
}
