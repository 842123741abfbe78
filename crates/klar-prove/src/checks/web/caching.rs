//! How long browsers may keep what they get.

use std::rc::Rc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{has_hash, those};
use crate::check::{About, Disturbs, Fault, Finding, Need, Probe, Unable};
use crate::checks::attacks::aim::{Range, shots};
use crate::checks::running::anybody;
use crate::words;
use crate::words::Words;
use crate::world::World;
use crate::world::http::{Answer, Ask};

/// Cache headers of pages, files and private answers.
pub struct Caching;

/// What was answered, and what came of asking again.
#[derive(Debug, Serialize, Deserialize)]
pub struct Seen {
    answers: Vec<One>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct One {
    path: String,
    html: bool,
    hashed: bool,
    etag: bool,
    cache: String,
    /// It set a cookie, or came only after signing in.
    private: bool,
    /// The status of asking again with If-None-Match, where that was done.
    again: Option<u16>,
}

const ROW: &str = "edge.cache-headers";
const YEAR: u64 = 31_536_000;
/// So many are asked for a second time.
const AGAIN: usize = 15;
/// So many answers for one person only are looked at.
const PRIVATE: usize = 30;

impl Probe for Caching {
    type Seen = Seen;

    const ABOUT: About = About {
        id: "caching",
        version: 2,
        question: "Do browsers keep what never changes, and ask again for what does?",
        does: "Looks at the Cache-Control and ETag of pages, files and private answers, and asks again with If-None-Match.",
        shows: &[(ROW, "hashed"), (ROW, "html"), (ROW, "not-modified"), (ROW, "private")],
        needs: &[Need::Site],
        disturbs: Disturbs::Nothing,
        good_for: Duration::from_secs(24 * 3600),
        limit: Duration::from_secs(30),
        faults: &[
            Fault::Foil("no-immutable", (ROW, "hashed")),
            Fault::Foil("html-cached", (ROW, "html")),
            Fault::Foil("no-304", (ROW, "not-modified")),
            Fault::Foil("public-cookie", (ROW, "private")),
            Fault::Foil("public-order", (ROW, "private")),
        ],
    };

    async fn look(world: Rc<World>) -> Result<Seen, Unable> {
        let crawl = world.crawl().await?;
        let mut answers = Vec::new();
        for (path, answer) in crawl.all() {
            let mut one = One::new(path, answer, false);
            let asked_again = answers.iter().filter(|one: &&One| one.again.is_some()).count();
            if let Some(etag) = answer.header("etag").filter(|_| asked_again < AGAIN) {
                let ask = Ask::get(path).with("accept", "text/html,*/*").with("if-none-match", etag);
                one.again = world.ask(ask).await.ok().map(|answer| answer.status.as_u16());
            }
            answers.push(one);
        }
        answers.extend(behind_the_sign_in(&world).await);
        Ok(Seen { answers })
    }

    fn judge(seen: &Seen) -> Vec<Finding> {
        let every = |part, counts: &dyn Fn(&One) -> bool, good: &dyn Fn(&One) -> bool, nothing: Words| {
            let counted: Vec<&One> = seen.answers.iter().filter(|one| counts(one)).collect();
            let bad = counted.iter().filter(|one| !good(one)).map(|one| one.told()).collect::<Vec<_>>();
            if counted.is_empty() {
                return Finding::unseen((ROW, part), nothing);
            }
            Finding::when(bad.is_empty(), (ROW, part), those(&bad, counted.len()))
        };
        let none =
            || words!("no answer of this kind", "ingen svar av dette slaget", "inget svar av det slaget");
        vec![
            every(
                "hashed",
                &|one| one.hashed && !one.html,
                &|one| one.etag && one.has("immutable") && one.age("max-age").is_some_and(|age| age >= YEAR),
                words!(
                    "no file has a hash in its name",
                    "ingen fil har en hash i navnet",
                    "ingen fil har en hash i namnet"
                ),
            ),
            every("html", &|one| one.html, &One::is_revalidated, none()),
            every("not-modified", &|one| one.again.is_some(), &|one| one.again == Some(304), none()),
            every(
                "private",
                &|one| one.private,
                &|one| !one.has("public") && one.age("s-maxage").is_none_or(|age| age == 0),
                words!(
                    "no answer set a cookie or needed signing in",
                    "ingen svar satte en informasjonskapsel eller krevde innlogging",
                    "inget svar satte en kaka eller krävde inloggning"
                ),
            ),
        ]
    }
}

/// What the app answers to somebody who signed in, and refuses to others: lists, and the things in them.
async fn behind_the_sign_in(world: &Rc<World>) -> Vec<One> {
    let (Some(session), Ok(site)) = (anybody(world).await, world.site()) else { return Vec::new() };
    let range = Range::new(world, site, Some(session));
    let mut found = Vec::new();
    for shot in shots(&range).await.all.iter().filter(|shot| shot.operation.is_some() && shot.reads()) {
        let ask = shot.plain();
        let refused =
            world.ask(ask.clone()).await.is_ok_and(|answer| [401, 403].contains(&answer.status.as_u16()));
        if !refused {
            continue;
        }
        let path = ask.path.clone();
        if let Ok(answer) = range.fire(ask).await
            && answer.status.is_success()
        {
            found.push(One::new(&path, &answer, true));
        }
        if found.len() >= PRIVATE {
            break;
        }
    }
    found
}

impl One {
    fn new(path: &str, answer: &Answer, private: bool) -> Self {
        Self {
            path: path.chars().take(200).collect(),
            html: answer.is_html(),
            hashed: has_hash(path),
            etag: answer.headers.contains_key("etag"),
            cache: answer.header("cache-control").unwrap_or_default().chars().take(200).collect(),
            private: private || answer.headers.contains_key("set-cookie"),
            again: None,
        }
    }

    fn directives(&self) -> impl Iterator<Item = &str> {
        self.cache.split(',').map(str::trim)
    }

    fn has(&self, name: &str) -> bool {
        self.directives().any(|each| each.eq_ignore_ascii_case(name))
    }

    fn age(&self, name: &str) -> Option<u64> {
        self.directives().find_map(|each| {
            let (key, value) = each.split_once('=')?;
            key.trim().eq_ignore_ascii_case(name).then(|| value.trim().trim_matches('"').parse().ok())?
        })
    }

    /// No browser shows it again without having asked.
    fn is_revalidated(&self) -> bool {
        self.has("no-cache") || self.has("no-store") || self.age("max-age") == Some(0)
    }

    fn told(&self) -> String {
        let cache = if self.cache.is_empty() { "no Cache-Control" } else { &self.cache };
        match self.again {
            Some(status) if status != 304 => format!("{} ({cache}; {status})", self.path),
            _ => format!("{} ({cache})", self.path),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directives_are_read() {
        let one = |cache: &str| One {
            path: "/".into(),
            html: true,
            hashed: false,
            etag: true,
            cache: cache.into(),
            private: false,
            again: None,
        };
        assert_eq!(one("Public, max-age=\"10\"").age("max-age"), Some(10));
        assert!(one("PUBLIC").has("public"));
        for good in ["no-cache", "private, no-store", "max-age=0, must-revalidate"] {
            assert!(one(good).is_revalidated(), "{good}");
        }
        for bad in ["", "max-age=60", "public"] {
            assert!(!one(bad).is_revalidated(), "{bad}");
        }
    }
}
