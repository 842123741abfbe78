//! Which scripts and images the first page fetches, and which only the places that need them.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{LIMIT, LOAD, places, quiet, ran, visit};
use crate::check::{About, Disturbs, Fault, Finding, Need, Probe, Unable};
use crate::checks::attacks::aim::strongest;
use crate::words;
use crate::world::World;
use crate::world::browser::Page;

/// Scripts by route, and images below the fold.
pub struct CodeSplitting;

/// The scripts of the first page and of others.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Seen {
    /// Scripts of the first page, and their bytes as sent: by path those of the site, by address those of others.
    first: BTreeMap<String, u64>,
    /// By place: how many scripts of the site it has that the first page does not, and how many in all.
    places: BTreeMap<String, (usize, usize)>,
    /// By place: how much code ran there, in bytes of source, that the first page had fetched and not run.
    fetched_before: BTreeMap<String, u64>,
    /// All scripts of the site that were seen.
    scripts: usize,
    /// Those of other sites, which visitors wait for as well.
    foreign: usize,
    /// Images below the fold, and those of them that are fetched at once.
    far_images: usize,
    eager_images: Vec<String>,
}

const SPLIT: &str = "perf.code-splitting";
const LAZY: &str = "perf.lazy-loading";
/// What the catalogue gives as the example: 200 kB.
const BUDGET: u64 = 200_000;
const PLACES: usize = 4;
/// So much source that runs at a place only is a page of its own. A router and a library run some that the first page
/// had no use for wherever one goes: in the demo shop 1 to 7 kB, and 23 to 30 kB where the pages are in the entry.
const PAGE: u64 = 12_000;
/// Less than this needs no script of its own.
const LITTLE: u64 = 3_000;

/// Images that begin below what the window shows.
const FAR: &str = r"[...document.images].filter((image) => image.getBoundingClientRect().top + scrollY >= innerHeight)
    .map((image) => [image.loading === 'lazy', (image.currentSrc || image.src).slice(0, 200)])";

impl Probe for CodeSplitting {
    type Seen = Seen;

    const ABOUT: About = About {
        id: "code-splitting",
        version: 3,
        question: "Does each place in the app fetch its own scripts, and the first page only what it needs?",
        does: "Opens the first page and, signed in where it can, up to four places that it links to, and compares the scripts that they fetch; of a place that fetches none of its own, counts the code that runs there and had come with the first page; looks at the images below the fold.",
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
        ran::count(&page).await?;
        let first = scripts(&world, &page, &world.url("/")?).await?;
        let mut ran_before = ran::ran(&page).await?;
        let mut seen = Seen { first, ..Seen::default() };
        seen.images(&page.eval(FAR).await?);
        let mut all: BTreeSet<String> = seen.first.keys().cloned().collect();
        // Places that are for people who have signed in show nobody else what they need.
        if let Some(session) = strongest(&world).await {
            page.sign_in(&session, &world.url("/")?).await?;
        }
        // What runs, or is fetched, only the second time is of this page, too.
        let again = scripts(&world, &page, &world.url("/")?).await?;
        all.extend(again.into_keys());
        let of_first = all.clone();
        ran_before.and(ran::ran(&page).await?);
        let origin = world.site()?.origin().to_string();
        let is_of_first =
            |url: &str| name_of(url, &origin).is_some_and(|name| is_own(&name) && of_first.contains(&name));
        for place in others {
            // What runs late on a page is not what runs on the next.
            ran::ran(&page).await?;
            let found = scripts(&world, &page, &world.url(&place)?).await?;
            let ran_here = ran::ran(&page).await?;
            seen.images(&page.eval(FAR).await?);
            let own = found.keys().filter(|script| is_own(script) && !of_first.contains(*script)).count();
            seen.fetched_before.insert(place.clone(), ran_here.beyond(&ran_before, is_of_first));
            seen.places.insert(place, (own, found.len()));
            all.extend(found.into_keys());
        }
        seen.scripts = all.iter().filter(|script| is_own(script)).count();
        seen.foreign = all.len() - seen.scripts;
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
        if scripts + self.foreign == 0 {
            let none =
                || words!("the pages have no scripts", "sidene har ingen skript", "sidorna har inga skript");
            return parts.into_iter().map(|part| Finding::inapplicable(part, none())).collect();
        }
        let bytes: u64 = self.first.values().sum();
        let kb = bytes.div_ceil(1000);
        let first = self.first.len();
        let foreign = self.first.keys().filter(|script| !is_own(script)).count();
        let entry = words!(
            "{kb} kB in {first} scripts on the first page, {foreign} of them from other sites",
            "{kb} kB i {first} skript på forsiden, {foreign} av dem fra andre nettsteder",
            "{kb} kB i {first} skript på startsidan, {foreign} av dem från andra sajter"
        );
        if scripts == 0 {
            let none = || {
                words!(
                    "all scripts come from other sites",
                    "alle skript kommer fra andre nettsteder",
                    "alla skript kommer från andra sajter"
                )
            };
            let rest = parts[1..].iter().map(|part| Finding::unseen(*part, none()));
            return [Finding::when(bytes <= BUDGET, parts[0], entry)].into_iter().chain(rest).collect();
        }
        let mut found = vec![
            Finding::when(bytes <= BUDGET, parts[0], entry),
            Finding::when(
                scripts > 1,
                parts[1],
                words!("{scripts} scripts", "{scripts} skript", "{scripts} skript"),
            ),
        ];
        found.extend(parts[2..].iter().map(|part| self.judge_places(*part)));
        found
    }

    fn judge_places(&self, part: (&'static str, &'static str)) -> Finding {
        let pages = self.places.len();
        let own = self.places.values().filter(|(own, _)| *own > 0).count();
        let without =
            self.places.iter().find(|(_, (own, _))| *own == 0).map_or("", |(place, _)| place.as_str());
        if pages == 0 {
            return Finding::unseen(
                part,
                words!(
                    "the first page links to no other place in the app",
                    "forsiden lenker ikke til andre steder i appen",
                    "startsidan länkar inte till någon annan plats i appen"
                ),
            );
        }
        if own == pages {
            return Finding::held(
                part,
                words!(
                    "{own} of {pages} places fetch scripts that the first page does not",
                    "{own} av {pages} steder henter skript som forsiden ikke henter",
                    "{own} av {pages} platser hämtar skript som startsidan inte hämtar"
                ),
            );
        }
        // The places whose code had come before, those with the most of it first.
        let own_ones = |place: &String| self.places.get(place).map_or(0, |(own, _)| *own);
        let mut before: Vec<(&String, u64)> = self
            .fetched_before
            .iter()
            .filter(|(place, _)| own_ones(place) == 0)
            .map(|(place, bytes)| (place, *bytes))
            .collect();
        before.sort_by_key(|(_, bytes)| std::cmp::Reverse(*bytes));
        let early = before.iter().filter(|(_, bytes)| *bytes >= PAGE).count();
        if let Some((place, bytes)) = before.first().filter(|_| early >= 2 || 2 * early > pages) {
            return Finding::broken(
                part,
                words!(
                    "the first page fetches the code of {early} of {pages} places; first {place}, where {bytes} bytes run that came with it and had not run",
                    "forsiden henter koden til {early} av {pages} steder; først {place}, der {bytes} byte kjører som kom med den og ikke hadde kjørt",
                    "startsidan hämtar koden för {early} av {pages} platser; först {place}, där {bytes} byte körs som kom med den och inte hade körts"
                ),
            );
        }
        if own == 0 {
            return Finding::broken(
                part,
                words!(
                    "the first page fetches all scripts of all {pages} places; first {without}",
                    "forsiden henter alle skript for alle {pages} steder; først {without}",
                    "startsidan hämtar alla skript för alla {pages} platser; först {without}"
                ),
            );
        }
        let (place, bytes) = before.first().map_or((without, 0), |(place, bytes)| (place.as_str(), *bytes));
        if bytes < LITTLE && before.len() + own == pages {
            return Finding::held(
                part,
                words!(
                    "{own} of {pages} places fetch scripts of their own; the others need none: at most {bytes} bytes of the first page's code run only there, at {place}",
                    "{own} av {pages} steder henter egne skript; de andre trenger ingen: høyst {bytes} byte av forsidens kode kjører bare der, på {place}",
                    "{own} av {pages} platser hämtar egna skript; de andra behöver inga: högst {bytes} byte av startsidans kod körs bara där, på {place}"
                ),
            );
        }
        Finding::unseen(
            part,
            words!(
                "{own} of {pages} places fetch scripts of their own; not {place}, where {bytes} bytes run that came with the first page",
                "{own} av {pages} steder henter egne skript; ikke {place}, der {bytes} byte kjører som kom med forsiden",
                "{own} av {pages} platser hämtar egna skript; inte {place}, där {bytes} byte körs som kom med startsidan"
            ),
        )
    }
}

/// Whether a script is the site's own: those of others have their whole address.
fn is_own(script: &str) -> bool {
    script.starts_with('/')
}

/// What a script is called: its path, or its address without the query where another site has it; none for what is not
/// fetched.
fn name_of(address: &str, origin: &str) -> Option<String> {
    let name = match address.strip_prefix(origin).filter(|path| path.starts_with('/')) {
        Some(path) => path,
        None if address.starts_with("https://") || address.starts_with("http://") => {
            address.split(['?', '#']).next().unwrap_or(address)
        }
        None => return None,
    };
    Some(name.chars().take(200).collect())
}

/// The scripts that a page fetches, with their bytes.
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
                if let Some(path) = name_of(&address, &origin) {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::Saw;

    #[test]
    fn code_that_comes_before_its_place_is_found_where_it_runs() {
        // A number is how much ran that had come before; without one the place has scripts of its own.
        let saw = |places: &[Option<u64>]| {
            let mut seen = Seen::default();
            for (number, before) in places.iter().enumerate() {
                let place = format!("/{number}");
                seen.places.insert(place.clone(), (usize::from(before.is_none()), 5));
                seen.fetched_before.extend(before.map(|before| (place, before)));
            }
            let found = seen.judge_places((SPLIT, "on-demand"));
            (found.saw, found.because.en)
        };
        for (places, expected) in [
            (vec![], Saw::Unseen),
            (vec![None, None], Saw::Held),
            (vec![None, Some(0)], Saw::Held),
            (vec![None, Some(LITTLE - 1), Some(200)], Saw::Held),
            (vec![None, Some(LITTLE), Some(200)], Saw::Unseen),
            (vec![None, Some(PAGE - 1), Some(PAGE - 1)], Saw::Unseen),
            // One of two may be anything; two, or more than half, are no accident.
            (vec![None, Some(PAGE)], Saw::Unseen),
            (vec![None, Some(PAGE), Some(10)], Saw::Unseen),
            (vec![None, Some(PAGE), Some(9 * PAGE)], Saw::Broken),
            (vec![None, None, Some(PAGE), Some(PAGE)], Saw::Broken),
            (vec![Some(PAGE)], Saw::Broken),
            // Nobody fetches anything later: there are no pieces.
            (vec![Some(10), Some(20)], Saw::Broken),
        ] {
            assert_eq!(saw(&places).0, expected, "{places:?}");
        }
        let because = saw(&[None, Some(PAGE), Some(9 * PAGE)]).1;
        assert!(because.contains("2 of 3") && because.contains("/2, where 108000 bytes"), "{because}");
    }

    #[test]
    fn scripts_of_others_are_waited_for_too() {
        let saw = |first: &[(&str, u64)]| {
            let first: BTreeMap<String, u64> =
                first.iter().map(|(script, bytes)| ((*script).to_owned(), *bytes)).collect();
            let foreign = first.keys().filter(|script| !is_own(script)).count();
            let scripts = first.len() - foreign;
            let places = BTreeMap::from([("/a".to_owned(), (1, 2))]);
            let seen = Seen { first, places, scripts, foreign, ..Seen::default() };
            let found = seen.judge_scripts();
            [found[0].saw, found[1].saw, found[2].saw]
        };
        let other = "https://cdn.example/lib.js";
        assert_eq!(saw(&[("/a.js", 90_000), ("/b.js", 9_000)]), [Saw::Held; 3]);
        assert_eq!(saw(&[("/a.js", 90_000), ("/b.js", 9_000), (other, 150_000)])[0], Saw::Broken);
        // A library of somebody else's is no second piece of this build.
        assert_eq!(saw(&[("/a.js", 90_000), (other, 9_000)]), [Saw::Held, Saw::Broken, Saw::Held]);
        assert_eq!(saw(&[(other, 9_000)]), [Saw::Held, Saw::Unseen, Saw::Unseen]);
        assert_eq!(saw(&[]), [Saw::Inapplicable; 3]);
    }

    #[test]
    fn names_of_scripts() {
        let of = |address| name_of(address, "https://shop.example");
        assert_eq!(of("https://shop.example/a.js?v=1").as_deref(), Some("/a.js?v=1"));
        assert_eq!(
            of("https://shop.example.evil/a.js?v=1").as_deref(),
            Some("https://shop.example.evil/a.js")
        );
        assert_eq!(of("https://cdn.example/lib.js?key=1").as_deref(), Some("https://cdn.example/lib.js"));
        assert_eq!(of("data:text/javascript,1"), None);
        assert_eq!(of("blob:https://shop.example/1"), None);
    }
}
