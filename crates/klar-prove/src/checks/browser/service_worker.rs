//! The service worker: registered, with the static files at hand, and the shell of the app without a network.

use std::rc::Rc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{LIMIT, LOAD, quiet, visit};
use crate::check::{About, Disturbs, Fault, Finding, Need, Probe, Unable};
use crate::words;
use crate::world::World;
use crate::world::browser::{Page, Trouble};

/// The service worker of the first page.
pub struct ServiceWorker;

/// What the browser has of it.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Seen {
    /// The address of its script.
    worker: Option<String>,
    /// Scripts and styles of the first page, and those of them that are in no cache of the worker.
    files: usize,
    missing: Vec<String>,
    /// Whether the page showed again without a network; `None` when there was no worker to show it.
    offline: Option<bool>,
}

const ROW: &str = "ux.service-worker";

/// Which scripts and styles of this page are kept.
const KEPT: &str = r"(async () => {
    const files = performance.getEntriesByType('resource').map((entry) => entry.name.split('#')[0])
        .filter((url) => url.startsWith(location.origin + '/') && /\.(m?js|css)(\?|$)/.test(url));
    const missing = [];
    for (const url of new Set(files)) {
        if (!await caches.match(url, { ignoreSearch: true, ignoreVary: true })) missing.push(new URL(url).pathname);
    }
    return { files: new Set(files).size, missing: missing.slice(0, 20) };
})()";

impl Probe for ServiceWorker {
    type Seen = Seen;

    const ABOUT: About = About {
        id: "service-worker",
        version: 1,
        question: "Is there a service worker that shows the app's shell without a network?",
        does: "Opens the first page, waits for its service worker, looks which files it keeps, and opens the page again without a network.",
        shows: &[(ROW, "registered"), (ROW, "precached"), (ROW, "offline-shell")],
        needs: &[Need::Site, Need::Browser],
        disturbs: Disturbs::Nothing,
        good_for: Duration::from_secs(24 * 3600),
        limit: LIMIT,
        faults: &[
            Fault::Foil("no-service-worker", (ROW, "registered")),
            Fault::Foil("no-precache", (ROW, "precached")),
            Fault::Foil("not-offline", (ROW, "offline-shell")),
        ],
    };

    async fn look(world: Rc<World>) -> Result<Seen, Unable> {
        let page = visit(&world).await?;
        let url = world.url("/")?;
        page.open(&url, LOAD).await?;
        let title = page.eval("document.title").await?;
        let mut seen = Seen { worker: registered(&page, world.is_foil).await?, ..Seen::default() };
        if seen.worker.is_none() {
            return Ok(seen);
        }
        let kept = page.eval(KEPT).await?;
        seen.files = kept.get("files").and_then(Value::as_u64).unwrap_or_default() as usize;
        let missing = kept.get("missing").and_then(Value::as_array).into_iter().flatten();
        seen.missing =
            missing.filter_map(Value::as_str).map(|path| path.chars().take(200).collect()).collect();
        let shown = reopen_offline(&world, &page, &url).await?;
        seen.offline = Some(shown && page.eval("document.title").await? == title);
        Ok(seen)
    }

    fn judge(seen: &Seen) -> Vec<Finding> {
        let parts = [(ROW, "registered"), (ROW, "precached"), (ROW, "offline-shell")];
        let Some(worker) = &seen.worker else {
            let none = || {
                words!(
                    "the first page registers no service worker",
                    "forsiden registrerer ingen service worker",
                    "startsidan registrerar ingen service worker"
                )
            };
            return parts.into_iter().map(|part| Finding::broken(part, none())).collect();
        };
        let (files, missing) = (seen.files, seen.missing.len());
        let precached = match seen.missing.first() {
            None if files == 0 => Finding::unseen(
                parts[1],
                words!("no scripts or styles", "ingen skript eller stilark", "inga skript eller stilmallar"),
            ),
            None => Finding::held(
                parts[1],
                words!(
                    "all {files} scripts and styles of the first page are kept",
                    "alle {files} skript og stilark på forsiden er lagret",
                    "alla {files} skript och stilmallar på startsidan är sparade"
                ),
            ),
            Some(first) => Finding::broken(
                parts[1],
                words!(
                    "{missing} of {files} scripts and styles are not kept; first {first}",
                    "{missing} av {files} skript og stilark er ikke lagret; først {first}",
                    "{missing} av {files} skript och stilmallar är inte sparade; först {first}"
                ),
            ),
        };
        let shell = if seen.offline == Some(true) {
            words!("opened again without a network", "åpnet på nytt uten nett", "öppnad igen utan nät")
        } else {
            words!(
                "without a network the browser shows its own error page",
                "uten nett viser nettleseren sin egen feilside",
                "utan nät visar webbläsaren sin egen felsida"
            )
        };
        vec![
            Finding::held(parts[0], crate::words::Words::same(worker.clone())),
            precached,
            Finding::when(seen.offline == Some(true), parts[2], shell),
        ]
    }
}

/// Waits until a service worker is active, and gives its address.
pub(super) async fn registered(page: &Page<'_>, soon: bool) -> Result<Option<String>, Trouble> {
    let patience = if soon { 1500 } else { 12_000 };
    let ready = "navigator.serviceWorker ? navigator.serviceWorker.ready.then((found) => found.active.scriptURL) : null";
    let late = format!("new Promise((done) => setTimeout(() => done(null), {patience}))");
    let found = page.eval(&format!("Promise.race([{ready}, {late}])")).await?;
    let path = found.as_str().map(|url| url.splitn(4, '/').nth(3).unwrap_or_default());
    Ok(path.map(|path| format!("/{}", path.chars().take(200).collect::<String>())))
}

/// Takes the network away and opens an address; whether something of the site showed.
pub(super) async fn reopen_offline(world: &World, page: &Page<'_>, url: &str) -> Result<bool, Trouble> {
    page.call("Network.clearBrowserCache", json!({})).await?; // what the worker keeps is elsewhere
    page.go_offline().await?;
    let mark = page.mark();
    if page.open(url, LOAD).await.is_err() {
        return Ok(false);
    }
    page.quiet(mark, quiet(world), LOAD).await;
    let shown =
        page.eval("location.protocol.startsWith('http') && document.body.childElementCount > 0").await?;
    Ok(shown == Value::Bool(true))
}
