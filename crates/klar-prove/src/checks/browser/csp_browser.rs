//! Whether a browser really refuses inline scripts, and frames.

use std::rc::Rc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{LIMIT, LOAD, places, visit};
use crate::check::{About, Disturbs, Fault, Finding, Need, Probe, Unable};
use crate::words;
use crate::world::World;
use crate::world::browser::Page;

/// The content security policy and the framing policy, tried out.
pub struct CspBrowser;

/// What the browser let happen.
#[derive(Debug, Serialize, Deserialize)]
pub struct Seen {
    pages: Vec<Tried>,
    /// Whether the first page showed in the frame of another origin; `None` when the frame came to nothing.
    framed: Option<bool>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Tried {
    path: String,
    /// Which of the scripts planted into the page ran: `element`, `attribute`.
    ran: Vec<String>,
    /// Violations that the browser reported of them.
    violations: usize,
}

const INLINE: (&str, &str) = ("sec.headers.csp", "inline-blocked");
const FRAMING: (&str, &str) = ("sec.headers.xfo", "framing");

/// Plants an inline script and an inline handler, as somebody does who has got text into the page.
const PLANT: &str = r"(async () => {
    let violations = 0;
    document.addEventListener('securitypolicyviolation', () => violations += 1);
    const script = document.createElement('script');
    script.textContent = 'window.klarElementRan = true';
    document.head.append(script);
    const button = document.createElement('button');
    button.setAttribute('onclick', 'window.klarAttributeRan = true');
    document.body.append(button);
    button.click();
    await new Promise((done) => setTimeout(done, 150));
    script.remove();
    button.remove();
    const ran = [window.klarElementRan && 'element', window.klarAttributeRan && 'attribute'].filter(Boolean);
    return { ran, violations };
})()";

impl Probe for CspBrowser {
    type Seen = Seen;

    const ABOUT: About = About {
        id: "csp-browser",
        version: 1,
        question: "Does a browser refuse inline scripts in the pages, and the pages in frames?",
        does: "Plants an inline script and an inline handler into pages that it has opened, and opens the first page in a frame of another origin.",
        shows: &[INLINE, FRAMING],
        needs: &[Need::Site, Need::Browser],
        disturbs: Disturbs::Nothing,
        good_for: Duration::from_secs(24 * 3600),
        limit: LIMIT,
        faults: &[
            Fault::Foil("loose-csp", INLINE),
            Fault::Foil("no-csp", INLINE),
            Fault::Foil("no-framing", FRAMING),
        ],
    };

    async fn look(world: Rc<World>) -> Result<Seen, Unable> {
        let mut paths = vec!["/".to_owned()];
        paths.extend(places(&world, 2).await?);
        let page = visit(&world).await?;
        let mut pages = Vec::new();
        for path in paths {
            page.open(&world.url(&path)?, LOAD).await?;
            let planted = page.eval(PLANT).await?;
            let ran = planted.get("ran").and_then(Value::as_array).into_iter().flatten();
            pages.push(Tried {
                path,
                ran: ran.filter_map(Value::as_str).map(str::to_owned).collect(),
                violations: planted.get("violations").and_then(Value::as_u64).unwrap_or_default() as usize,
            });
        }
        let framed = framed(&page, &world.url("/")?).await?;
        Ok(Seen { pages, framed })
    }

    fn judge(seen: &Seen) -> Vec<Finding> {
        let all = seen.pages.len();
        let inline = match seen.pages.iter().find(|page| !page.ran.is_empty()) {
            Some(Tried { path, ran, .. }) => {
                let ran = ran.join(", ");
                Finding::broken(
                    INLINE,
                    words!(
                        "a planted inline script ran in {path} ({ran})",
                        "et plantet innebygd skript kjørte i {path} ({ran})",
                        "ett planterat inbäddat skript kördes i {path} ({ran})"
                    ),
                )
            }
            None if all > 0 && seen.pages.iter().all(|page| page.violations > 0) => Finding::held(
                INLINE,
                words!(
                    "blocked and reported by the browser in {all} pages",
                    "blokkert og meldt av nettleseren på {all} sider",
                    "blockerat och anmält av webbläsaren på {all} sidor"
                ),
            ),
            None => Finding::unseen(
                INLINE,
                words!(
                    "it did not run, but no violation was reported either",
                    "det kjørte ikke, men ingen overtredelse ble meldt heller",
                    "det kördes inte, men ingen överträdelse anmäldes heller"
                ),
            ),
        };
        let framing = match seen.framed {
            None => Finding::unseen(
                FRAMING,
                words!("the frame came to nothing", "det ble ikke noe av rammen", "det blev inget av ramen"),
            ),
            Some(true) => Finding::broken(
                FRAMING,
                words!(
                    "the first page showed in a frame of another origin",
                    "forsiden ble vist i en ramme fra en annen opprinnelse",
                    "startsidan visades i en ram från ett annat ursprung"
                ),
            ),
            Some(false) => Finding::held(
                FRAMING,
                words!(
                    "the browser refused to show the first page in a frame",
                    "nettleseren nektet å vise forsiden i en ramme",
                    "webbläsaren vägrade visa startsidan i en ram"
                ),
            ),
        };
        vec![inline, framing]
    }
}

/// Shows an address in a frame of a page from nowhere.
async fn framed(page: &Page<'_>, url: &str) -> Result<Option<bool>, crate::world::browser::Trouble> {
    page.open("about:blank", LOAD).await?;
    let mark = page.mark();
    let tree = page.call("Page.getFrameTree", json!({})).await?;
    let frame = tree.pointer("/frameTree/frame/id").cloned().unwrap_or_default();
    let html = format!("<iframe width=800 height=600 src=\"{url}\"></iframe>");
    page.call("Page.setDocumentContent", json!({"frameId": frame, "html": html})).await?;
    // What is refused ends in a page of the browser's own, which names what could not be reached. It counts only when
    // it was refused for what the site answered: a site that is away cannot be framed either.
    let mut by_the_answer = false;
    let shown = page.wait(mark, LOAD, |event| {
        if event.method == "Network.loadingFailed" {
            let why = event.params.get("errorText").and_then(Value::as_str).unwrap_or_default();
            by_the_answer |= why.contains("BLOCKED_BY_RESPONSE") || why.contains("BLOCKED_BY_CSP");
        }
        let frame = event.params.get("frame").filter(|_| event.method == "Page.frameNavigated")?;
        frame.get("parentId")?;
        let refused = frame.get("unreachableUrl").is_some();
        let address = frame.get("url").and_then(Value::as_str).unwrap_or_default();
        (refused || address.starts_with("http")).then_some((!refused, by_the_answer))
    });
    let shown = shown.await;
    Ok(shown.and_then(|(shown, by_the_answer)| (shown || by_the_answer).then_some(shown)))
}
