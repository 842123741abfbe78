//! What only a browser shows.

use std::collections::BTreeSet;
use std::rc::Rc;
use std::time::Duration;

use crate::check::Unable;
use crate::world::World;
use crate::world::browser::Page;
use crate::world::crawl::{references, tags};

pub mod code_splitting;
pub mod csp_browser;
pub mod error_boundary;
pub mod offline;
pub mod page_loads;
mod ran;
pub mod service_worker;
pub mod skeleton;
pub mod virtual_scroll;
mod walk;
pub mod xss_browser;

/// A page that has not loaded by then is looked at as it is.
const LOAD: Duration = Duration::from_secs(15);
/// Checks wait for their turn in the browser, too: this is for all of them together.
const LIMIT: Duration = Duration::from_secs(110);

/// A page is done when nothing has been on its way for so long. A foil is quick, and there are many of them.
fn quiet(world: &World) -> Duration {
    Duration::from_millis(if world.is_foil { 200 } else { 500 })
}

/// A page of a visitor who speaks the language of the site: what it keeps and shows for others is not what is asked.
async fn visit(world: &World) -> Result<Page<'_>, Unable> {
    let page = world.chromium().await?.page().await?;
    speak(world, &page).await?;
    Ok(page)
}

/// The same while no other page is open, to measure in.
async fn visit_alone(world: &World) -> Result<Page<'_>, Unable> {
    let page = world.chromium().await?.page_alone().await?;
    speak(world, &page).await?;
    Ok(page)
}

async fn speak(world: &World, page: &Page<'_>) -> Result<(), Unable> {
    let first = world.crawl().await?.pages.get("/").map(|answer| tags(&answer.text())).unwrap_or_default();
    let html = first.iter().find(|tag| tag.name == "html");
    if let Some(lang) = html.and_then(|tag| tag.get("lang")).filter(|lang| lang.len() <= 20) {
        let agent = world.chromium().await?.agent();
        let params = serde_json::json!({"userAgent": agent, "acceptLanguage": lang});
        page.call("Network.setUserAgentOverride", params).await?;
    }
    Ok(())
}

/// The places in the app that its first page links to.
async fn places(world: &Rc<World>, most: usize) -> Result<Vec<String>, Unable> {
    let origin = world.site()?.origin().clone();
    let crawl = world.crawl().await?;
    let Some(first) = crawl.pages.get("/") else { return Ok(Vec::new()) };
    let mut found = BTreeSet::new();
    for tag in tags(&first.text()).iter().filter(|tag| tag.name == "a") {
        for reference in references(tag) {
            found.extend(
                origin.path_of("/", &reference).filter(|path| path != "/" && crawl.pages.contains_key(path)),
            );
        }
    }
    Ok(found.into_iter().take(most).collect())
}
