//! The front end is all there: the page, what it refers to, and its deep links.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::those;
use crate::check::{About, Disturbs, Fault, Finding, Need, Probe, Unable};
use crate::words;
use crate::words::Words;
use crate::world::World;
use crate::world::crawl::{references, tags};
use crate::world::http::{Answer, Ask, Origin};

/// Files and deep links of the front end.
pub struct FrontEnd;

/// What the first page leads to.
#[derive(Debug, Serialize, Deserialize)]
pub struct Seen {
    /// Files by path: what was answered, its type, and whether that type is right.
    files: BTreeMap<String, File>,
    /// Links to other pages: status, and whether the same scripts are in them as in the first page.
    links: BTreeMap<String, (u16, bool)>,
    /// Whether the first page has scripts of its own at all.
    has_scripts: bool,
}

#[derive(Debug, Serialize, Deserialize)]
struct File {
    status: u16,
    kind: String,
    good: bool,
}

const ROW: &str = "deploy.frontend";
const MOST_FILES: usize = 60;
const MOST_LINKS: usize = 15;
/// Redirects that are followed: browsers follow more, and nobody should need them.
const MOST_HOPS: usize = 6;

impl Probe for FrontEnd {
    type Seen = Seen;

    const ABOUT: About = About {
        id: "front-end",
        version: 2,
        question: "Is the front end there with all its files, whichever of its addresses one opens?",
        does: "Asks for every file that the first page refers to and compares types with names; then opens its links as if they were typed.",
        shows: &[(ROW, "assets"), (ROW, "deep-link")],
        needs: &[Need::Site],
        disturbs: Disturbs::Nothing,
        good_for: Duration::from_secs(24 * 3600),
        limit: Duration::from_secs(30),
        faults: &[
            Fault::Foil("missing-file", (ROW, "assets")),
            Fault::Foil("wrong-type", (ROW, "assets")),
            Fault::Foil("no-deep-links", (ROW, "deep-link")),
        ],
    };

    async fn look(world: Rc<World>) -> Result<Seen, Unable> {
        let origin = world.site()?.origin().clone();
        let page = |path: &str| world.ask(Ask::get(path).with("accept", "text/html"));
        let (base, first) = follow(&world, &origin, "/", "text/html").await?;
        if first.status.is_redirection() {
            return Err(Unable(words!(
                "the first page sends its visitors to another site",
                "forsiden sender de besøkende til et annet nettsted",
                "startsidan skickar sina besökare till en annan sajt"
            )));
        }
        let tags_of_first = tags(&first.text());
        let scripts = scripts_of(&tags_of_first);
        let mut seen =
            Seen { files: BTreeMap::new(), links: BTreeMap::new(), has_scripts: !scripts.is_empty() };
        seen.files.insert("/".to_owned(), File::new("/.html", first.status.as_u16(), &first.media_type()));
        for tag in &tags_of_first {
            for reference in references(tag) {
                let Some(path) = origin.path_of(&base, &reference) else { continue };
                let is_link = tag.name == "a" || tag.name == "iframe";
                // What stands in the page for search engines and readers is no file that it needs.
                let is_file = tag.name != "link"
                    || tag.get("rel").is_some_and(|rel| {
                        ["stylesheet", "icon", "manifest", "preload", "modulepreload", "apple-touch-icon"]
                            .iter()
                            .any(|each| rel.split_whitespace().any(|word| word.eq_ignore_ascii_case(each)))
                    });
                if !is_link && is_file && seen.files.len() < MOST_FILES && !seen.files.contains_key(&path) {
                    // As a browser does: where a file has gone, and what it is called there.
                    let file = match follow(&world, &origin, &path, "*/*").await {
                        Ok((at, answer)) => File::new(&at, answer.status.as_u16(), &answer.media_type()),
                        Err(Unable(why)) => {
                            File { status: 0, kind: why.en.chars().take(100).collect(), good: false }
                        }
                    };
                    seen.files.insert(path, file);
                } else if is_link
                    && is_deep(&path)
                    && seen.links.len() < MOST_LINKS
                    && !seen.links.contains_key(&path)
                {
                    let Ok(answer) = page(&path).await else { continue };
                    if answer.status.is_redirection() || answer.status.is_success() && !answer.is_html() {
                        continue;
                    }
                    let same = scripts_of(&tags(&answer.text())).intersection(&scripts).next().is_some();
                    seen.links.insert(path, (answer.status.as_u16(), same));
                }
            }
        }
        Ok(seen)
    }

    fn judge(seen: &Seen) -> Vec<Finding> {
        let bad: Vec<String> = seen
            .files
            .iter()
            .filter(|(_, file)| !file.good)
            .map(|(path, file)| format!("{path} ({} {})", file.status, file.kind))
            .collect();
        let assets = (ROW, "assets");
        let mut found = vec![Finding::when(bad.is_empty(), assets, those(&bad, seen.files.len()))];
        let deep = (ROW, "deep-link");
        let dead: Vec<String> = seen
            .links
            .iter()
            .filter(|(_, (status, _))| *status >= 400)
            .map(|(path, (status, _))| format!("{path} ({status})"))
            .collect();
        let same = seen.links.values().filter(|(_, same)| *same).count();
        found.push(if !dead.is_empty() {
            Finding::broken(deep, those(&dead, seen.links.len()))
        } else if same > 0 {
            Finding::held(
                deep,
                words!(
                    "{same} deep links are answered with the page of the app",
                    "{same} dyplenker besvares med siden til appen",
                    "{same} djuplänkar besvaras med appens sida"
                ),
            )
        } else if seen.has_scripts || seen.links.is_empty() {
            Finding::unseen(
                deep,
                words!(
                    "the first page links to no other place in the app",
                    "forsiden lenker ikke til andre steder i appen",
                    "startsidan länkar inte till någon annan plats i appen"
                ),
            )
        } else {
            Finding::inapplicable(
                deep,
                words!(
                    "pages without scripts: each address has its own",
                    "sider uten skript: hver adresse har sin egen",
                    "sidor utan skript: varje adress har sin egen"
                ),
            )
        });
        found
    }
}

/// Asks for a path, and for where it leads within the site; gives the last path and its answer.
async fn follow(
    world: &World,
    origin: &Origin,
    path: &str,
    accept: &str,
) -> Result<(String, Answer), Unable> {
    let mut path = path.to_owned();
    for _ in 0..MOST_HOPS {
        let answer = world.ask(Ask::get(&path).with("accept", accept)).await;
        let answer = answer.map_err(|why| Unable(Words::same(why.to_string())))?;
        match next_hop(origin, &path, &answer) {
            Some(next) if next != path => path = next,
            _ => return Ok((path, answer)),
        }
    }
    Err(Unable(words!(
        "{path} leads on and on",
        "{path} leder videre og videre",
        "{path} leder vidare och vidare"
    )))
}

/// Where a redirect leads, while it stays within the site.
fn next_hop(origin: &Origin, from: &str, answer: &Answer) -> Option<String> {
    let to = answer.header("location").filter(|_| answer.status.is_redirection())?;
    let to = to.split('#').next().unwrap_or_default();
    origin.path_of(from, to)
}

/// The addresses of the scripts of a page.
fn scripts_of(tags: &[crate::world::crawl::Tag]) -> BTreeSet<String> {
    tags.iter()
        .filter(|tag| tag.name == "script")
        .filter_map(|tag| tag.get("src"))
        .map(str::to_owned)
        .collect()
}

/// A place in the app: no file, nothing of the API.
fn is_deep(path: &str) -> bool {
    let path = path.split(['?', '#']).next().unwrap_or_default();
    path != "/" && !path.starts_with("/api/") && !path.rsplit('/').next().unwrap_or_default().contains('.')
}

impl File {
    fn new(path: &str, status: u16, kind: &str) -> Self {
        Self { status, kind: kind.chars().take(60).collect(), good: status == 200 && is_right(path, kind) }
    }
}

/// Whether a type fits a name. Names that say nothing are right with any type.
fn is_right(path: &str, kind: &str) -> bool {
    let path = path.split(['?', '#']).next().unwrap_or_default();
    let ending =
        path.rsplit('/').next().and_then(|name| name.rsplit_once('.')).map_or("", |(_, ending)| ending);
    match ending.to_ascii_lowercase().as_str() {
        "js" | "mjs" => {
            ["text/javascript", "application/javascript", "application/x-javascript"].contains(&kind)
        }
        "css" => kind == "text/css",
        "html" => kind == "text/html",
        "json" | "map" | "webmanifest" => kind.contains("json") || kind == "text/plain",
        "svg" => kind == "image/svg+xml",
        "png" | "jpg" | "jpeg" | "gif" | "webp" | "avif" | "ico" => kind.starts_with("image/"),
        "woff" | "woff2" | "ttf" | "otf" => kind.contains("font") || kind == "application/octet-stream",
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redirects_are_followed_within_the_site() {
        let origin = Origin { tls: true, host: "shop.example".into(), port: 443 };
        let answer = |status: u16, to: &str| {
            let mut headers = http::HeaderMap::new();
            headers.insert("location", to.parse().unwrap());
            let status = http::StatusCode::from_u16(status).unwrap();
            Answer { status, headers, body: bytes::Bytes::new(), took: Duration::ZERO }
        };
        for (status, to, next) in [
            (302, "/en/", Some("/en/")),
            (308, "https://shop.example/app#top", Some("/app")),
            (307, "en/", Some("/en/")),
            (302, "https://elsewhere.example/", None),
            (200, "/en/", None),
        ] {
            assert_eq!(next_hop(&origin, "/", &answer(status, to)).as_deref(), next, "{status} {to}");
        }
    }

    #[test]
    fn types_fit_names() {
        for (path, kind) in [
            ("/a.js?v=1", "text/javascript"),
            ("/a.avif", "image/avif"),
            ("/logo", "text/html"),
            ("/m.webmanifest", "application/manifest+json"),
        ] {
            assert!(is_right(path, kind), "{path} {kind}");
        }
        for (path, kind) in [("/a.js", "text/html"), ("/a.css", "text/plain"), ("/a.png", "text/html")] {
            assert!(!is_right(path, kind), "{path} {kind}");
        }
        assert!(is_deep("/orders?x=1.2") && !is_deep("/") && !is_deep("/api/x") && !is_deep("/a.pdf"));
    }
}
