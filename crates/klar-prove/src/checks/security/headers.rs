//! The headers that make a browser help.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::check::{About, Disturbs, Fault, Finding, Need, Probe, Unable};
use crate::words;
use crate::world::World;
use crate::world::http::{Answer, Ask};

/// Security headers on every class of routes.
pub struct Headers;

/// The headers of one answer of each class of routes.
#[derive(Debug, Serialize, Deserialize)]
pub struct Seen {
    routes: Vec<Route>,
    tls: bool,
    #[serde(default)]
    local: bool,
}

#[derive(Debug, Serialize, Deserialize)]
struct Route {
    /// `page`, `file`, `api`, `not found`.
    class: String,
    path: String,
    status: u16,
    html: bool,
    headers: BTreeMap<String, String>,
}

const CSP: &str = "content-security-policy";
const FRAMING: &str = "x-frame-options";
const SNIFFING: &str = "x-content-type-options";
const HSTS: &str = "strict-transport-security";
const REFERRER: &str = "referrer-policy";
const PERMISSIONS: &str = "permissions-policy";
const ALL: [&str; 6] = [CSP, FRAMING, SNIFFING, HSTS, REFERRER, PERMISSIONS];

impl Probe for Headers {
    type Seen = Seen;

    const ABOUT: About = About {
        id: "headers",
        version: 1,
        question: "Does every answer carry the headers that protect a browser?",
        does: "Asks for pages, files, API answers and a page that is not there, and compares their headers.",
        shows: &[
            ("sec.headers", "csp"),
            ("sec.headers", "framing"),
            ("sec.headers", "sniffing"),
            ("sec.headers", "hsts"),
            ("sec.headers", "privacy"),
            ("sec.headers.csp", "header"),
            ("sec.headers.xcto", "header"),
            ("sec.headers.xfo", "header"),
        ],
        needs: &[Need::Site],
        disturbs: Disturbs::Nothing,
        good_for: Duration::from_secs(24 * 3600),
        limit: Duration::from_secs(30),
        faults: &[
            Fault::Foil("no-csp", ("sec.headers", "csp")),
            Fault::Foil("loose-csp", ("sec.headers.csp", "header")),
            Fault::Foil("no-framing", ("sec.headers.xfo", "header")),
            Fault::Foil("no-nosniff", ("sec.headers.xcto", "header")),
            Fault::Foil("no-hsts", ("sec.headers", "hsts")),
            Fault::Foil("no-referrer-policy", ("sec.headers", "privacy")),
        ],
    };

    async fn look(world: Rc<World>) -> Result<Seen, Unable> {
        let crawl = world.crawl().await?;
        let mut routes = Vec::new();
        for (path, answer) in crawl.pages.iter().take(5) {
            routes.push(Route::new("page", path, answer));
        }
        for (path, answer) in crawl.files.iter().take(10) {
            routes.push(Route::new(
                if answer.media_type().contains("json") { "api" } else { "file" },
                path,
                answer,
            ));
        }
        if let Some(api) = world.api().await {
            for operation in api.operations.iter().filter(|operation| operation.reads()).take(5) {
                let ask = operation.example(&BTreeMap::new());
                let path = ask.path.clone();
                if let Ok(answer) = world.ask(ask).await {
                    routes.push(Route::new("api", &path, &answer));
                }
            }
        }
        let path = "/klar-check/there-is-no-such-page";
        if let Ok(answer) = world.ask(Ask::get(path).with("accept", "text/html")).await {
            routes.push(Route::new("not found", path, &answer));
        }
        let origin = world.site()?.origin();
        Ok(Seen { routes, tls: origin.tls, local: origin.is_local() })
    }

    fn judge(seen: &Seen) -> Vec<Finding> {
        let every = |place, name, good: &dyn Fn(&str) -> bool| seen.every(place, |_| true, name, good);
        let pages =
            |place, name, good: &dyn Fn(&str) -> bool| seen.every(place, |route| route.html, name, good);
        let any = |value: &str| !value.is_empty();
        let mut found = vec![
            pages(("sec.headers", "csp"), CSP, &any),
            pages(("sec.headers", "framing"), FRAMING, &any),
            every(("sec.headers", "sniffing"), SNIFFING, &any),
            pages(("sec.headers", "privacy"), REFERRER, &any),
            pages(("sec.headers", "privacy"), PERMISSIONS, &any),
            pages(("sec.headers.csp", "header"), CSP, &is_strict),
            every(("sec.headers.xcto", "header"), SNIFFING, &|value| value.eq_ignore_ascii_case("nosniff")),
            pages(("sec.headers.xfo", "header"), FRAMING, &|value| value.eq_ignore_ascii_case("DENY")),
        ];
        found.push(if seen.tls && seen.local {
            Finding::inapplicable(("sec.headers", "hsts"), super::tls::not_on_localhost())
        } else if seen.tls {
            every(("sec.headers", "hsts"), HSTS, &|value| max_age(value) > 0)
        } else {
            Finding::broken(
                ("sec.headers", "hsts"),
                words!("served without TLS", "serveres uten TLS", "serveras utan TLS"),
            )
        });
        found
    }
}

impl Seen {
    /// Judges one header on all answers of a sort.
    fn every(
        &self,
        place: (&'static str, &'static str),
        counts: impl Fn(&Route) -> bool,
        name: &str,
        good: &dyn Fn(&str) -> bool,
    ) -> Finding {
        let counted: Vec<&Route> = self.routes.iter().filter(|route| counts(route)).collect();
        let all = counted.len();
        if all == 0 {
            return Finding::unseen(
                place,
                words!("no answer of this kind", "ingen svar av dette slaget", "inget svar av det slaget"),
            );
        }
        let bad: Vec<&&Route> = counted
            .iter()
            .filter(|route| !route.headers.get(name).is_some_and(|value| good(value)))
            .collect();
        match bad.first() {
            None => Finding::held(
                place,
                words!(
                    "{name} on {all} of {all} answers",
                    "{name} på {all} av {all} svar",
                    "{name} på {all} av {all} svar"
                ),
            ),
            Some(first) => {
                let (bad, path, status) = (bad.len(), &first.path, first.status);
                let value = first.headers.get(name).map_or("-", String::as_str);
                Finding::broken(
                    place,
                    words!(
                        "{name} missing or weak on {bad} of {all} answers, first on {path} ({status}): {value}",
                        "{name} mangler eller er svak på {bad} av {all} svar, først på {path} ({status}): {value}",
                        "{name} saknas eller är svag på {bad} av {all} svar, först på {path} ({status}): {value}"
                    ),
                )
            }
        }
    }
}

impl Route {
    fn new(class: &str, path: &str, answer: &Answer) -> Self {
        let header =
            |name: &&str| Some(((*name).to_owned(), answer.header(name)?.chars().take(500).collect()));
        Self {
            class: class.to_owned(),
            path: path.to_owned(),
            status: answer.status.as_u16(),
            html: answer.is_html(),
            headers: ALL.iter().filter_map(header).collect(),
        }
    }
}

/// Whether a policy is `default-src 'self'` or stricter: no directive may allow scripts that did not come as files
/// of one's own, and what is not named falls back on 'self'.
fn is_strict(policy: &str) -> bool {
    let mut fallback = false;
    for directive in policy.split(';') {
        let mut words = directive.split_whitespace().map(str::to_ascii_lowercase);
        let Some(name) = words.next() else { continue };
        let sources: Vec<String> = words.collect();
        let own = |source: &String| {
            source == "'self'"
                || source == "'none'"
                || source.starts_with("'nonce-")
                || source.starts_with("'sha")
        };
        match name.as_str() {
            "default-src" => {
                fallback = !sources.is_empty();
                if !sources.iter().all(own) {
                    return false;
                }
            }
            // What a directive of its own names takes the place of 'self' for its kind.
            name if (name.ends_with("-src")
                || name.starts_with("script-src-")
                || name.starts_with("style-src-")
                || ["base-uri", "form-action"].contains(&name))
                && !sources.iter().all(own) =>
            {
                return false;
            }
            _ => {}
        }
    }
    fallback
}

pub(super) fn max_age(value: &str) -> u64 {
    let directive = value
        .split(';')
        .map(str::trim)
        .find_map(|part| part.to_ascii_lowercase().strip_prefix("max-age=").map(str::to_owned));
    directive.and_then(|age| age.trim_matches('"').parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policies() {
        for (policy, strict) in [
            ("default-src 'self'", true),
            ("default-src 'none'; script-src 'self'; img-src 'self'", true),
            ("default-src 'self'; img-src 'self' https:", false),
            ("default-src 'self'; form-action https://elsewhere.example", false),
            ("default-src 'self'; script-src 'nonce-abc'", true),
            ("default-src 'self' 'unsafe-inline'", false),
            ("default-src *", false),
            ("default-src 'self'; script-src 'self' https://cdn.example", false),
            ("default-src 'self'; style-src 'unsafe-inline'", false),
            ("script-src 'self'", false),
            ("default-src", false),
            ("", false),
        ] {
            assert_eq!(is_strict(policy), strict, "{policy}");
        }
    }

    #[test]
    fn ages() {
        assert_eq!(max_age("max-age=63072000; includeSubDomains"), 63_072_000);
        assert_eq!(max_age("Max-Age=\"10\""), 10);
        assert_eq!(max_age("includeSubDomains"), 0);
    }
}
