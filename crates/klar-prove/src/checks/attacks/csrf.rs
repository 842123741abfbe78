//! Cross-site request forgery: whether another site can make a signed-in visitor's browser write.

use std::rc::Rc;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::aim::{Range, Shot, Shots, is_little, shots, signs_in, signs_out, strongest, told_of};
use crate::check::{About, Disturbs, Fault, Finding, Need, Probe, Unable};
use crate::words;
use crate::world::World;
use crate::world::http::{Answer, Ask, Silence};

/// Writes as a foreign site would make them.
pub struct Csrf;

/// How each write was answered, and the cookies.
#[derive(Debug, Serialize, Deserialize)]
pub struct Seen {
    /// Whether the sign-in gives a token against it.
    token: bool,
    /// Writes that there are.
    all: usize,
    writes: Vec<Write>,
    cookies: Vec<Cookie>,
}

/// The statuses of one write; 0 where nothing came back.
#[derive(Debug, Serialize, Deserialize)]
struct Write {
    route: String,
    /// As another site can make it: its `Origin`, and no token.
    foreign: u16,
    /// The same, and the browser says `Sec-Fetch-Site: cross-site`.
    cross_site: u16,
    /// From the site itself, without the token.
    bare: u16,
    /// From the site itself, with the token.
    valid: u16,
}

#[derive(Debug, Serialize, Deserialize)]
struct Cookie {
    name: String,
    same_site: bool,
    secure: bool,
    http_only: bool,
}

const FOREIGN: (&str, &str) = ("sec.csrf", "foreign-origin");
const BARE: (&str, &str) = ("sec.csrf", "no-token");
const VALID: (&str, &str) = ("sec.csrf", "valid-token");
const COOKIES: (&str, &str) = ("sec.csrf", "cookies");
const MOST_WRITES: usize = 60;
/// No more is written after this, so that what was seen until then is told.
const LONGEST: Duration = Duration::from_secs(90);

impl Probe for Csrf {
    type Seen = Seen;

    const ABOUT: About = About {
        id: "csrf",
        version: 3,
        question: "Can another site write in a visitor's name?",
        does: "Signs in, looks at the cookies, and makes each write as another site can, without the token, and as it should be.",
        shows: &[FOREIGN, BARE, VALID, COOKIES],
        needs: &[Need::Site, Need::Api, Need::Accounts],
        disturbs: Disturbs::Attacks,
        good_for: Duration::from_secs(7 * 24 * 3600),
        limit: Duration::from_secs(120),
        faults: &[
            Fault::Foil("any-origin", FOREIGN),
            Fault::Foil("no-csrf-token", BARE),
            Fault::Foil("strict-csrf-token", VALID),
            Fault::Foil("bare-cookie", COOKIES),
        ],
    };

    async fn look(world: Rc<World>) -> Result<Seen, Unable> {
        let site = world.site()?;
        let accounts = world.accounts.as_ref().ok_or_else(|| Unable(Need::Accounts.missing()))?;
        let Some(account) = accounts.list.last() else { return Err(Unable(Need::Accounts.missing())) };
        let (session, answer) = world.sign_in_with_answer(account).await?;
        let token = session.csrf.clone();
        let mut cookies = cookies(&answer);
        if let Ok(crawl) = world.crawl().await {
            cookies.extend(crawl.pages.values().flat_map(self::cookies));
        }
        cookies.sort_by(|a, b| a.name.cmp(&b.name));
        cookies.dedup_by(|a, b| a.name == b.name);
        cookies.truncate(20);
        // The one that has the most rights, so that what is refused is refused for what it is.
        let range = Range::new(&world, site, strongest(&world).await.or(Some(session)));
        let Shots { all: shots, rest } = shots(&range).await;
        let own = site.origin().to_string();
        let cookie = range.session.as_ref().map(|session| session.cookie.clone()).unwrap_or_default();
        let token = range.session.as_ref().and_then(|session| session.csrf.clone()).or(token);
        let status = |answer: Result<Answer, Silence>| answer.map_or(0, |answer| answer.status.as_u16());
        let mut writes = Vec::new();
        let fits = |shot: &&Shot| {
            !shot.reads() && shot.secured && !signs_out(&world, shot) && !signs_in(&world, shot)
        };
        let aimed: Vec<&Shot> = shots.iter().filter(fits).collect();
        let all = aimed.len() + rest.iter().filter(fits).count();
        let end = Instant::now() + LONGEST;
        // Every so many, where there are too many: those of one thing stand together.
        let step = aimed.len().div_ceil(MOST_WRITES).max(1);
        for shot in aimed.into_iter().step_by(step) {
            if Instant::now() > end {
                break;
            }
            let dressed = |with_token: bool, more: &[(&str, &str)]| -> Ask {
                let mut ask = shot.plain().with("cookie", cookie.clone());
                if let (Some((name, value)), true) = (&token, with_token) {
                    ask = ask.with(name, value);
                }
                more.iter().fold(ask, |ask, (name, value)| ask.with(*name, *value))
            };
            let evil = "https://elsewhere.example";
            let foreign = dressed(false, &[("origin", evil)]);
            let cross = dressed(false, &[("origin", evil), ("sec-fetch-site", "cross-site")]);
            let same = [("origin", own.as_str()), ("sec-fetch-site", "same-origin")];
            writes.push(Write {
                route: shot.label.clone(),
                foreign: status(range.fire_bare(foreign).await),
                cross_site: status(range.fire_bare(cross).await),
                bare: status(range.fire_bare(dressed(false, &same)).await),
                valid: status(range.fire_bare(dressed(true, &same)).await),
            });
        }
        Ok(Seen { token: token.is_some(), all, writes, cookies })
    }

    fn judge(seen: &Seen) -> Vec<Finding> {
        let taken = |status: u16| (200..300).contains(&status);
        let mut found = Vec::new();
        let cut = !is_little(seen.all.saturating_sub(seen.writes.len()), seen.all);
        for place in [FOREIGN, BARE] {
            let status = |write: &Write| match place {
                BARE => write.bare,
                _ if taken(write.foreign) => write.foreign,
                _ => write.cross_site,
            };
            let all = seen.writes.len();
            let through: Vec<&Write> = seen.writes.iter().filter(|write| taken(status(write))).collect();
            // A write that is refused for another reason, token or not, tells nothing about this one.
            let refused = seen
                .writes
                .iter()
                .filter(|write| {
                    let status = status(write);
                    status == 403 || matches!(status, 400 | 401 | 419) && status != write.valid
                })
                .count();
            found.push(match through.first() {
                Some(first) => {
                    let (count, route, status) = (through.len(), &first.route, status(first));
                    Finding::broken(
                        place,
                        words!(
                            "{count} of {all} writes were taken, first {route} ({status})",
                            "{count} av {all} skrivinger ble godtatt, først {route} ({status})",
                            "{count} av {all} skrivningar godtogs, först {route} ({status})"
                        ),
                    )
                }
                None => {
                    let because = words!(
                        "{refused} of {all} writes were refused, none was taken",
                        "{refused} av {all} skrivinger ble avvist, ingen ble godtatt",
                        "{refused} av {all} skrivningar avvisades, ingen godtogs"
                    );
                    let because = told_of(because, all, seen.all);
                    if refused == 0 || refused < all || cut {
                        Finding::unseen(place, because)
                    } else {
                        Finding::held(place, because)
                    }
                }
            });
        }
        let (all, accepted) =
            (seen.writes.len(), seen.writes.iter().filter(|write| taken(write.valid)).count());
        let refused = seen.writes.iter().filter(|write| matches!(write.valid, 401 | 403)).count();
        let because = words!(
            "{accepted} of {all} writes with the token were accepted, {refused} were refused as not allowed",
            "{accepted} av {all} skrivinger med token ble godtatt, {refused} ble avvist som ikke tillatt",
            "{accepted} av {all} skrivningar med token godtogs, {refused} avvisades som inte tillåtna"
        );
        let because = told_of(because, all, seen.all);
        found.push(if accepted > 0 && seen.token && !cut {
            Finding::held(VALID, because)
        } else if all > 0 && refused == all && seen.token {
            Finding::broken(VALID, because)
        } else {
            Finding::unseen(VALID, because)
        });
        let weak = seen.cookies.iter().find(|cookie| {
            let readable =
                ["csrf", "xsrf"].iter().any(|word| cookie.name.to_ascii_lowercase().contains(word));
            !cookie.same_site || !cookie.secure || !cookie.http_only && !readable
        });
        let count = seen.cookies.len();
        found.push(match weak {
            Some(Cookie { name, same_site, secure, http_only }) => {
                let missing: Vec<&str> =
                    [("SameSite", same_site), ("Secure", secure), ("HttpOnly", http_only)]
                        .into_iter()
                        .filter_map(|(flag, there)| (!there).then_some(flag))
                        .collect();
                let missing = missing.join(", ");
                Finding::broken(
                    COOKIES,
                    words!("{name} lacks {missing}", "{name} mangler {missing}", "{name} saknar {missing}"),
                )
            }
            None if count == 0 => Finding::inapplicable(
                COOKIES,
                words!(
                    "neither the sign-in nor the pages set a cookie",
                    "verken innloggingen eller sidene setter en informasjonskapsel",
                    "varken inloggningen eller sidorna sätter en kaka"
                ),
            ),
            None => Finding::held(
                COOKIES,
                words!(
                    "{count} of {count} cookies carry all three",
                    "{count} av {count} informasjonskapsler har alle tre",
                    "{count} av {count} kakor har alla tre"
                ),
            ),
        });
        found
    }
}

/// The cookies that an answer sets; those that it takes away do not count.
fn cookies(answer: &Answer) -> Vec<Cookie> {
    let values = answer.headers.get_all("set-cookie").iter().filter_map(|value| value.to_str().ok());
    values
        .filter_map(|value| {
            let mut parts = value.split(';').map(str::trim);
            let (name, _) = parts.next()?.split_once('=')?;
            let attributes: Vec<String> = parts.map(str::to_ascii_lowercase).collect();
            if is_taken_away(&attributes) {
                return None;
            }
            let has = |name: &str| attributes.iter().any(|each| each == name);
            Some(Cookie {
                name: name.chars().take(60).collect(),
                same_site: has("samesite=lax") || has("samesite=strict"),
                secure: has("secure"),
                http_only: has("httponly"),
            })
        })
        .collect()
}

/// Whether a cookie ends as soon as it comes: at an age of nothing, or at a time that is past (RFC 6265, 5.3).
fn is_taken_away(attributes: &[String]) -> bool {
    let value = |name: &str| {
        attributes.iter().find_map(|each| {
            let (key, value) = each.split_once('=')?;
            (key.trim() == name).then(|| value.trim().trim_matches('"').to_owned())
        })
    };
    // An age counts before a time.
    if let Some(age) = value("max-age").and_then(|age| age.parse::<i64>().ok()) {
        return age <= 0;
    }
    // `Thu, 01-Jan-1970 00:00:00 GMT` is older than the form with spaces, and still sent. What weekday it was is no matter.
    let Some(time) = value("expires") else { return false };
    let time = time.split_once(", ").map_or(time.as_str(), |(_, time)| time).replace('-', " ");
    jiff::fmt::rfc2822::parse(&time).is_ok_and(|at| at.timestamp() <= jiff::Timestamp::now())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::Saw;

    fn saw(write: [u16; 4]) -> [Saw; 3] {
        saw_of(1, write)
    }

    fn saw_of(all: usize, write: [u16; 4]) -> [Saw; 3] {
        let [foreign, cross_site, bare, valid] = write;
        let writes = vec![Write { route: "POST /x".into(), foreign, cross_site, bare, valid }];
        let found = Csrf::judge(&Seen { token: true, all, writes, cookies: Vec::new() });
        [found[0].saw, found[1].saw, found[2].saw]
    }

    #[test]
    fn cookies_that_are_taken_away_are_not_weak() {
        let left = |value: &str| {
            let mut headers = http::HeaderMap::new();
            headers.insert("set-cookie", value.parse().unwrap());
            let body = bytes::Bytes::new();
            cookies(&Answer { status: http::StatusCode::OK, headers, body, took: Duration::ZERO }).len()
        };
        for (value, count) in [
            ("a=; Path=/; Expires=Thu, 01 Jan 1970 00:00:00 GMT", 0),
            ("a=; expires=Thu, 01-Jan-1970 00:00:01 GMT; path=/", 0),
            ("a=x; Max-Age=0", 0),
            ("a=x; max-age=-1", 0),
            ("a=x; Max-Age=3600; Expires=Thu, 01 Jan 1970 00:00:00 GMT", 1),
            ("a=x; Expires=Fri, 01 Jan 2999 00:00:00 GMT", 1),
            ("a=x; Expires=whenever", 1),
            ("a=x; Path=/", 1),
        ] {
            assert_eq!(left(value), count, "{value}");
        }
    }

    #[test]
    fn writes() {
        use Saw::{Broken, Held, Unseen};
        assert_eq!(saw([403, 403, 403, 201]), [Held, Held, Held]);
        assert_eq!(saw([201, 403, 201, 201]), [Broken, Broken, Held]);
        assert_eq!(saw([403, 200, 403, 403]), [Broken, Held, Broken]);
        assert_eq!(saw([422, 422, 422, 422]), [Unseen, Unseen, Unseen]);
        assert_eq!(saw([0, 0, 0, 0]), [Unseen, Unseen, Unseen]);
        // One of two tried says nothing of the other, unless it is broken already.
        assert_eq!(saw_of(2, [403, 403, 403, 201]), [Unseen, Unseen, Unseen]);
        assert_eq!(saw_of(2, [201, 403, 201, 403]), [Broken, Broken, Broken]);
    }
}
