//! What an app shows of its data when there is no network.

use std::collections::BTreeSet;
use std::rc::Rc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::service_worker::{registered, reopen_offline};
use super::{LIMIT, LOAD, quiet, visit};
use crate::check::{About, Disturbs, Fault, Finding, Need, Probe, Unable};
use crate::words;
use crate::world::World;
use crate::world::browser::Page;

/// The first page without a network.
pub struct Offline;

/// Texts of the API that stand in the page, with and without a network. Only how many: they may be anybody's.
#[derive(Debug, Serialize, Deserialize)]
pub struct Seen {
    shown: bool,
    texts: usize,
    texts_offline: usize,
}

const SHELL: (&str, &str) = ("ux.offline", "shell");
const MOST_TEXTS: usize = 200;

impl Probe for Offline {
    type Seen = Seen;

    const ABOUT: About = About {
        id: "offline",
        version: 1,
        question: "Does the app show its last data without a network?",
        does: "Opens the first page twice, notes which texts in it come from the API, takes the network away, opens it again and looks for them.",
        shows: &[SHELL],
        needs: &[Need::Site, Need::Browser],
        disturbs: Disturbs::Nothing,
        good_for: Duration::from_secs(24 * 3600),
        limit: LIMIT,
        faults: &[Fault::Foil("not-offline", SHELL), Fault::Foil("no-last-data", SHELL)],
    };

    async fn look(world: Rc<World>) -> Result<Seen, Unable> {
        let page = visit(&world).await?;
        let url = world.url("/")?;
        let mark = page.mark();
        page.open(&url, LOAD).await?;
        page.quiet(mark, quiet(&world), LOAD).await;
        registered(&page, world.is_foil).await?;
        // Only from its second visit on does a worker see what the page asks for.
        let mark = page.mark();
        page.open(&url, LOAD).await?;
        page.quiet(mark, quiet(&world), LOAD).await;
        let told = told_by_the_api(&page, mark).await;
        let online = page.eval("document.body.innerText").await?;
        let online = online.as_str().unwrap_or_default();
        let texts: Vec<&String> =
            told.iter().filter(|text| online.contains(*text)).take(MOST_TEXTS).collect();
        let shown = reopen_offline(&world, &page, &url).await?;
        let offline = if shown { page.eval("document.body.innerText").await? } else { Value::Null };
        let offline = offline.as_str().unwrap_or_default();
        let texts_offline = texts.iter().filter(|text| offline.contains(**text)).count();
        Ok(Seen { shown, texts: texts.len(), texts_offline })
    }

    fn judge(seen: &Seen) -> Vec<Finding> {
        let Seen { texts, texts_offline, .. } = *seen;
        let found = if !seen.shown {
            Finding::broken(
                SHELL,
                words!(
                    "without a network the browser shows its own error page",
                    "uten nett viser nettleseren sin egen feilside",
                    "utan nät visar webbläsaren sin egen felsida"
                ),
            )
        } else if texts == 0 {
            Finding::unseen(
                SHELL,
                words!(
                    "the shell shows, but the first page has no text of the API to look for",
                    "skallet vises, men forsiden har ingen tekst fra API-et å se etter",
                    "skalet visas, men startsidan har ingen text från API:et att leta efter"
                ),
            )
        } else {
            Finding::when(
                texts_offline * 10 >= texts * 8,
                SHELL,
                words!(
                    "{texts_offline} of {texts} texts of the API are there without a network",
                    "{texts_offline} av {texts} tekster fra API-et er der uten nett",
                    "{texts_offline} av {texts} texter från API:et finns där utan nät"
                ),
            )
        };
        vec![found]
    }
}

/// The texts in the JSON that a page was answered.
pub(super) async fn told_by_the_api(page: &Page<'_>, mark: usize) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for event in page.events(mark) {
        let is_json = event
            .params
            .pointer("/response/mimeType")
            .and_then(Value::as_str)
            .is_some_and(|kind| kind.contains("json"));
        let by_script = matches!(event.params.get("type").and_then(Value::as_str), Some("Fetch" | "XHR"));
        if event.method != "Network.responseReceived" || !is_json || !by_script {
            continue;
        }
        let id = event.params.get("requestId").and_then(Value::as_str).unwrap_or_default();
        let Ok(body) = page.body(id).await else { continue };
        if let Ok(body) = serde_json::from_str(&body) {
            texts(&body, &mut found);
        }
    }
    found
}

/// Texts that are for people: a word that is also a key or a code would be found anywhere.
fn texts(value: &Value, found: &mut BTreeSet<String>) {
    match value {
        Value::String(text) if found.len() < 1000 && text.len() >= 5 && text.contains(char::is_uppercase) => {
            found.insert(text.chars().take(80).collect());
        }
        Value::Array(items) => items.iter().for_each(|item| texts(item, found)),
        Value::Object(fields) => fields.values().for_each(|item| texts(item, found)),
        _ => {}
    }
}
