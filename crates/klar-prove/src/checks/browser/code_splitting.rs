//! Which scripts and images the first page fetches, and which only the places that need them.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{LIMIT, LOAD, places, quiet, visit};
use crate::check::{About, Disturbs, Fault, Finding, Need, Probe, Unable};
use crate::words;
use crate::world::World;
use crate::world::browser::Page;

/// Scripts by route, and images below the fold.
pub struct CodeSplitting;

/// The scripts of the first page and of others.
#[derive(Debug, Serialize, Deserialize)]
pub struct Seen {
    /// Scripts of the first page, and their bytes as sent.
    first: BTreeMap<String, u64>,
    /// By place: how many scripts it has that the first page does not, and how many in all.
    places: BTreeMap<String, (usize, usize)>,
    /// All scripts that were seen.
    scripts: usize,
    /// Images below the fold, and those of them that are fetched at once.
    far_images: usize,
    eager_images: Vec<String>,
}

const SPLIT: &str = "perf.code-splitting";
const LAZY: &str = "perf.lazy-loading";
/// What the catalogue gives as the example: 200 kB.
const BUDGET: u64 = 200_000;
const PLACES: usize = 4;

/// Images that begin below what the window shows.
const FAR: &str = r"[...document.images].filter((image) => image.getBoundingClientRect().top + scrollY >= innerHeight)
    .map((image) => [image.loading === 'lazy', (image.currentSrc || image.src).slice(0, 200)])";

impl Probe for CodeSplitting {
    type Seen = Seen;

    const ABOUT: About = About {
        id: "code-splitting",
        version: 1,
        question: "Does each place in the app fetch its own scripts, and the first page only what it needs?",
        does: "Opens the first page and up to four places that it links to, and compares the scripts that they fetch; looks at the images below the fold.",
        shows: &[
            (SPLIT, "entry"),
            (SPLIT, "chunks"),
            (SPLIT, "on-demand"),
            (LAZY, "chunks"),
            (LAZY, "images"),
        ],
        needs: &[Need::Site, Need::Browser],
        disturbs: Disturbs::Nothing,
        good_for: Duration::from_secs(24 * 3600),
        limit: LIMIT,
        faults: &[
            Fault::Foil("heavy-entry", (SPLIT, "entry")),
            Fault::Foil("one-script", (SPLIT, "chunks")),
            Fault::Foil("eager-chunks", (SPLIT, "on-demand")),
            Fault::Foil("eager-chunks", (LAZY, "chunks")),
            Fault::Foil("eager-images", (LAZY, "images")),
        ],
    };

    async fn look(world: Rc<World>) -> Result<Seen, Unable> {
        let others = places(&world, PLACES).await?;
        let page = visit(&world).await?;
        page.call("Network.setBypassServiceWorker", json!({"bypass": true})).await?;
        let mut seen = Seen {
            first: scripts(&world, &page, &world.url("/")?).await?,
            places: BTreeMap::new(),
            scripts: 0,
            far_images: 0,
            eager_images: Vec::new(),
        };
        seen.images(&page.eval(FAR).await?);
        let mut all: BTreeSet<String> = seen.first.keys().cloned().collect();
        for place in others {
            let found = scripts(&world, &page, &world.url(&place)?).await?;
            seen.images(&page.eval(FAR).await?);
            let own = found.keys().filter(|script| !seen.first.contains_key(*script)).count();
            seen.places.insert(place, (own, found.len()));
            all.extend(found.into_keys());
        }
        seen.scripts = all.len();
        Ok(seen)
    }

    fn judge(seen: &Seen) -> Vec<Finding> {
        let mut found = seen.judge_scripts();
        let (far, eager) = (seen.far_images, seen.eager_images.len());
        let images = (LAZY, "images");
        found.push(match seen.eager_images.first() {
            None if far == 0 => Finding::unseen(
                images,
                words!(
                    "no image below the fold",
                    "ingen bilder under folden",
                    "inga bilder nedanför vikningen"
                ),
            ),
            None => Finding::held(
                images,
                words!("{far} of {far} are lazy", "{far} av {far} lastes sent", "{far} av {far} laddas sent"),
            ),
            Some(first) => Finding::broken(
                images,
                words!(
                    "{eager} of {far} are fetched at once; first {first}",
                    "{eager} av {far} hentes med én gang; først {first}",
                    "{eager} av {far} hämtas direkt; först {first}"
                ),
            ),
        });
        found
    }
}

impl Seen {
    fn images(&mut self, told: &Value) {
        for image in told.as_array().into_iter().flatten() {
            self.far_images += 1;
            if image.get(0) == Some(&Value::Bool(false)) && self.eager_images.len() < 20 {
                self.eager_images.push(image.get(1).and_then(Value::as_str).unwrap_or_default().to_owned());
            }
        }
    }

    fn judge_scripts(&self) -> Vec<Finding> {
        let parts = [(SPLIT, "entry"), (SPLIT, "chunks"), (SPLIT, "on-demand"), (LAZY, "chunks")];
        let scripts = self.scripts;
        if scripts == 0 {
            let none =
                || words!("the pages have no scripts", "sidene har ingen skript", "sidorna har inga skript");
            return parts.into_iter().map(|part| Finding::inapplicable(part, none())).collect();
        }
        let bytes: u64 = self.first.values().sum();
        let kb = bytes.div_ceil(1000);
        let first = self.first.len();
        let entry = words!(
            "{kb} kB in {first} scripts on the first page",
            "{kb} kB i {first} skript på forsiden",
            "{kb} kB i {first} skript på startsidan"
        );
        let pages = self.places.len();
        let own = self.places.values().filter(|(own, _)| *own > 0).count();
        let without =
            self.places.iter().find(|(_, (own, _))| *own == 0).map_or("", |(place, _)| place.as_str());
        let mut found = vec![
            Finding::when(bytes <= BUDGET, parts[0], entry),
            Finding::when(
                scripts > 1,
                parts[1],
                words!("{scripts} scripts", "{scripts} skript", "{scripts} skript"),
            ),
        ];
        for part in &parts[2..] {
            found.push(if pages == 0 {
                Finding::unseen(
                    *part,
                    words!(
                        "the first page links to no other place in the app",
                        "forsiden lenker ikke til andre steder i appen",
                        "startsidan länkar inte till någon annan plats i appen"
                    ),
                )
            } else if own == pages {
                Finding::held(
                    *part,
                    words!(
                        "{own} of {pages} places fetch scripts that the first page does not",
                        "{own} av {pages} steder henter skript som forsiden ikke henter",
                        "{own} av {pages} platser hämtar skript som startsidan inte hämtar"
                    ),
                )
            } else if own == 0 {
                Finding::broken(
                    *part,
                    words!(
                        "the first page fetches all scripts of all {pages} places; first {without}",
                        "forsiden henter alle skript for alle {pages} steder; først {without}",
                        "startsidan hämtar alla skript för alla {pages} platser; först {without}"
                    ),
                )
            } else {
                Finding::unseen(
                    *part,
                    words!(
                        "{own} of {pages} places fetch scripts of their own; not {without}, which may need none",
                        "{own} av {pages} steder henter egne skript; ikke {without}, som kanskje ikke trenger noen",
                        "{own} av {pages} platser hämtar egna skript; inte {without}, som kanske inte behöver några"
                    ),
                )
            });
        }
        found
    }
}

/// The scripts of the site that a page fetches, with their bytes.
async fn scripts(world: &World, page: &Page<'_>, url: &str) -> Result<BTreeMap<String, u64>, Unable> {
    let mark = page.mark();
    page.open(url, LOAD).await?;
    page.quiet(mark, quiet(world), LOAD).await;
    let mut by_request = BTreeMap::new();
    let mut found = BTreeMap::new();
    let origin = url.splitn(4, '/').take(3).collect::<Vec<_>>().join("/");
    for event in page.events(mark) {
        let text =
            |path: &str| event.params.pointer(path).and_then(Value::as_str).unwrap_or_default().to_owned();
        match event.method.as_str() {
            // What is fetched for later (`rel=prefetch`) is of another type.
            "Network.requestWillBeSent" if text("/type") == "Script" => {
                let address = text("/request/url");
                if let Some(path) = address.strip_prefix(&origin) {
                    let path: String = path.chars().take(200).collect();
                    by_request.insert(text("/requestId"), path.clone());
                    found.entry(path).or_insert(0);
                }
            }
            "Network.loadingFinished" => {
                let bytes = event.params.get("encodedDataLength").and_then(Value::as_f64).unwrap_or_default();
                if let Some(path) = by_request.get(&text("/requestId")) {
                    found.insert(path.clone(), bytes as u64);
                }
            }
            _ => {}
        }
    }
    Ok(found)
}
