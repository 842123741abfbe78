//! Access control: what is reached by those who should not reach it.
//!
//! What is reserved is taken from the app's own description: an operation with `security` is for those who are signed
//! in; one whose `x-role`, `x-roles` or `x-klar-roles` names none of the ordinary roles, or with `admin` in its path,
//! is for administrators. What belongs to somebody is what their list shows and the other one's does not.
//!
//! Being refused says something about access only beside somebody who is not: 401, 403 or 404 for the stranger and
//! success for the rightful one, at the same address. A 400 or 422 for a stranger says that their request was read.

use std::collections::BTreeSet;
use std::rc::Rc;
use std::time::Duration;

use http::Method;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::aim::{Range, Shot, Shots, is_little, rows, shots, signs_in, signs_out};
use crate::check::{About, Disturbs, Fault, Finding, Need, Probe, Unable};
use crate::words;
use crate::words::Words;
use crate::world::http::{Answer, Ask, Silence};
use crate::world::{Session, World};

/// Every operation as everybody.
pub struct Access;

/// What was reached by whom.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Seen {
    /// Requests for what belongs to the other user.
    across: Tally,
    /// Requests of nobody for what is for the signed in.
    anonymous: Tally,
    /// Requests of an ordinary user for what is for administrators.
    reserved: Tally,
    /// Requests with a forged token, and with one that was signed out.
    forged: Tally,
    ended: Tally,
    /// Operations that were left out, beyond those that are looked at.
    left: usize,
    horizontal: Vec<Reached>,
    vertical: Vec<Reached>,
    tokens: Vec<Reached>,
}

/// How requests of strangers were answered.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Tally {
    /// That were answered at all.
    asked: usize,
    /// Refused where the rightful user got what they asked for.
    compared: usize,
    /// Answered with what says nothing about access.
    unclear: usize,
}

#[derive(Debug, Serialize, Deserialize)]
struct Reached {
    route: String,
    who: String,
    status: u16,
}

const HORIZONTAL: (&str, &str) = ("sec.access-control", "horizontal");
const VERTICAL: (&str, &str) = ("sec.access-control", "vertical");
const TOKENS: (&str, &str) = ("sec.access-control", "tokens");
/// More things of one list show nothing more.
const MOST_THINGS: usize = 3;
const MOST_REACHED: usize = 30;
/// Fewer comparisons of a stranger with the rightful user are an accident.
const LEAST: usize = 2;

impl Probe for Access {
    type Seen = Seen;

    const ABOUT: About = About {
        id: "access",
        version: 2,
        question: "Does everybody reach only what is theirs?",
        does: "Makes every described operation as nobody, as one user with the other's things, as an ordinary user where the description reserves it, and with forged and ended sessions.",
        shows: &[HORIZONTAL, VERTICAL, TOKENS],
        needs: &[Need::Site, Need::Api, Need::Accounts],
        disturbs: Disturbs::Attacks,
        good_for: Duration::from_secs(7 * 24 * 3600),
        limit: Duration::from_secs(120),
        faults: &[
            Fault::Foil("reads-of-others", HORIZONTAL),
            Fault::Foil("writes-of-others", HORIZONTAL),
            Fault::Foil("no-sign-in-needed", VERTICAL),
            Fault::Foil("users-for-all", VERTICAL),
            Fault::Foil("forged-tokens", TOKENS),
        ],
    };

    async fn look(world: Rc<World>) -> Result<Seen, Unable> {
        let site = world.site()?;
        let accounts = world.accounts.as_ref().ok_or_else(|| Unable(Need::Accounts.missing()))?;
        let api = world.api().await.ok_or_else(|| Unable(Need::Api.missing()))?;
        let [first, others @ ..] = &accounts.list[..] else { return Err(Unable(Need::Accounts.missing())) };
        let one = Range::new(&world, site, Some(world.sign_in(first).await?));
        let strongest = others.last().unwrap_or(first);
        let admin = Range::new(&world, site, Some(world.sign_in(strongest).await?));
        let Shots { all: shots, rest } = shots(&admin).await;
        let left = rest.len();
        let described: Vec<&Shot> = shots
            .iter()
            .filter(|shot| {
                shot.operation.is_some()
                    && shot.secured
                    && !signs_out(&world, shot)
                    && !signs_in(&world, shot)
            })
            .collect();
        let mut seen = Seen { left, ..Seen::default() };
        // What the rightful one gets there, who may do most; 0 where it is not asked, since it would change something.
        let mut aims: Vec<(&Shot, u16)> = Vec::new();
        for shot in described {
            let rightful = if shot.reads() { status(admin.fire(shot.plain()).await) } else { 0 };
            aims.push((shot, rightful));
        }
        for (shot, rightful) in &aims {
            let met = reach(&mut seen.vertical, &one, shot, None, shot.plain(), "anonymous").await;
            seen.anonymous.note(met, *rightful);
            let operation = shot.operation.and_then(|at| api.operations.get(at));
            if operation.is_some_and(|operation| {
                is_reserved(&api.document, &operation.path, operation.method.as_str())
            }) {
                let session = one.session.as_ref();
                let met = reach(&mut seen.vertical, &one, shot, session, shot.plain(), &first.label).await;
                seen.reserved.note(met, *rightful);
            }
        }
        // The other user must not be one who may see everything: the list begins with those of the least rights.
        if let Some(second) = others.first().filter(|_| accounts.list.len() > 2) {
            let two = Range::new(&world, site, Some(world.sign_in(second).await?));
            for (owner, stranger, label) in [(&one, &two, &second.label), (&two, &one, &first.label)] {
                across(&mut seen, &aims, owner, stranger, label).await;
            }
        }
        // A session of its own, since it is ended on the way.
        let doomed = world.sign_in(first).await?;
        for (forged, what) in forgeries(&doomed) {
            for (shot, rightful) in &aims {
                let met = reach(&mut seen.tokens, &one, shot, Some(&forged), shot.plain(), what).await;
                seen.forged.note(met, *rightful);
            }
        }
        let end = shots.iter().find(|shot| signs_out(&world, shot));
        if let Some(end) = end {
            let ended = one.fire_bare(doomed.on(end.plain())).await;
            if ended.is_ok_and(|answer| answer.status.is_success() || answer.status.is_redirection()) {
                for (shot, rightful) in &aims {
                    let met = reach(&mut seen.tokens, &one, shot, Some(&doomed), shot.plain(), "ended").await;
                    seen.ended.note(met, *rightful);
                }
            }
        }
        Ok(seen)
    }

    fn judge(seen: &Seen) -> Vec<Finding> {
        let broken = |place, reached: &[Reached]| {
            let Reached { route, who, status } = reached.first()?;
            let count = reached.len();
            Some(Finding::broken(
                place,
                words!(
                    "{count} requests got what they should not, first {route} as {who}: {status}",
                    "{count} forespørsler fikk det de ikke skulle, først {route} som {who}: {status}",
                    "{count} förfrågningar fick det de inte skulle, först {route} som {who}: {status}"
                ),
            ))
        };
        let left = seen.left;
        // A tally each of what the part consists of; all of them must have been seen.
        let part = |place, reached: &[Reached], tallies: &[Tally], told: Words| {
            broken(place, reached).unwrap_or_else(|| {
                let all = tallies.iter().fold(Tally::default(), |sum, each| sum.and(*each));
                let Tally { unclear, .. } = all;
                let told = if unclear == 0 {
                    told
                } else {
                    Words {
                        en: format!("{}; {unclear} answers said nothing about access", told.en),
                        nb: format!("{}; {unclear} svar sa ingenting om tilgang", told.nb),
                        sv: format!("{}; {unclear} svar sade inget om åtkomst", told.sv),
                    }
                };
                let told = if left == 0 {
                    told
                } else {
                    Words {
                        en: format!("{}; {left} operations were left out", told.en),
                        nb: format!("{}; {left} operasjoner ble utelatt", told.nb),
                        sv: format!("{}; {left} operationer utelämnades", told.sv),
                    }
                };
                // An app that refuses everybody refuses nobody in particular.
                let looked = all.compared >= LEAST && tallies.iter().all(|each| each.compared > 0);
                if looked && is_little(unclear, all.asked) && left == 0 {
                    Finding::held(place, told)
                } else {
                    Finding::unseen(place, told)
                }
            })
        };
        let Tally { asked, compared, .. } = seen.across;
        let horizontal = words!(
            "{compared} of {asked} requests for things of the other user were refused where the owner got them",
            "{compared} av {asked} forespørsler etter det som er den andres, ble avvist der eieren fikk det",
            "{compared} av {asked} förfrågningar efter det som är den andres avvisades där ägaren fick det"
        );
        let (anonymous, reserved) = (seen.anonymous.compared, seen.reserved.compared);
        let vertical = words!(
            "{anonymous} reads refused an anonymous visitor and {reserved} an ordinary user that the strongest account got",
            "{anonymous} lesinger avviste en anonym besøkende og {reserved} en vanlig bruker der den sterkeste kontoen fikk svar",
            "{anonymous} läsningar avvisade en anonym besökare och {reserved} en vanlig användare där det starkaste kontot fick svar"
        );
        let (forged, ended) = (seen.forged.compared, seen.ended.compared);
        let tokens = words!(
            "{forged} reads with forged tokens and {ended} with ended ones were refused that worked with a good one",
            "{forged} lesinger med forfalskede tokener og {ended} med utløpte ble avvist som virket med et godt",
            "{forged} läsningar med förfalskade token och {ended} med utgångna avvisades som fungerade med ett gott"
        );
        vec![
            part(HORIZONTAL, &seen.horizontal, &[seen.across], horizontal),
            part(VERTICAL, &seen.vertical, &[seen.anonymous, seen.reserved], vertical),
            part(TOKENS, &seen.tokens, &[seen.forged, seen.ended], tokens),
        ]
    }
}

impl Tally {
    /// Counts the answer of a stranger beside that of the rightful one; 0 where one of them got none.
    fn note(&mut self, stranger: u16, rightful: u16) {
        if stranger == 0 {
            return;
        }
        self.asked += 1;
        let (open, given) = ((200..300).contains(&stranger), (200..300).contains(&rightful));
        match stranger {
            _ if open => {}
            401 | 403 | 404 if given => self.compared += 1,
            // Refused by name, though nothing shows that it is not shut to everybody.
            401 | 403 => {}
            _ => self.unclear += 1,
        }
    }

    fn and(self, other: Self) -> Self {
        Self {
            asked: self.asked + other.asked,
            compared: self.compared + other.compared,
            unclear: self.unclear + other.unclear,
        }
    }
}

/// Makes a request as somebody who should not get it, and notes when they do. The status; 0 without an answer.
async fn reach(
    reached: &mut Vec<Reached>,
    range: &Range<'_>,
    shot: &Shot,
    session: Option<&Session>,
    ask: Ask,
    who: &str,
) -> u16 {
    let ask = session.map_or_else(|| ask.clone(), |session| session.on(ask.clone()));
    let status = status(range.fire_bare(ask).await);
    if (200..300).contains(&status) && reached.len() < MOST_REACHED {
        reached.push(Reached { route: shot.label.clone(), who: who.to_owned(), status });
    }
    status
}

fn status(answer: Result<Answer, Silence>) -> u16 {
    answer.map_or(0, |answer| answer.status.as_u16())
}

/// Whether the description keeps an operation for more than ordinary users.
fn is_reserved(document: &Value, path: &str, method: &str) -> bool {
    if path.split('/').any(|part| part == "admin") {
        return true;
    }
    let paths = document.get("paths").and_then(Value::as_object).into_iter().flatten();
    let item = paths.filter(|(each, _)| path.ends_with(each.as_str())).max_by_key(|(each, _)| each.len());
    let Some(operation) = item.and_then(|(_, item)| item.get(method.to_ascii_lowercase())) else {
        return false;
    };
    let named = ["x-klar-roles", "x-roles", "x-role"].into_iter().find_map(|key| operation.get(key));
    let roles: Vec<&str> = match named {
        Some(Value::String(role)) => vec![role],
        Some(Value::Array(roles)) => roles.iter().filter_map(Value::as_str).collect(),
        _ => return false,
    };
    let ordinary = [
        "user",
        "users",
        "anybody",
        "anyone",
        "everybody",
        "everyone",
        "public",
        "member",
        "customer",
        "guest",
        "*",
    ];
    !roles.is_empty() && !roles.iter().any(|role| ordinary.contains(&role.to_ascii_lowercase().as_str()))
}

/// The things of a list by their ids, as one visitor sees it.
async fn things(range: &Range<'_>, path: &str) -> Option<Vec<Value>> {
    let answer = range.fire(Ask::get(path)).await.ok().filter(|answer| answer.status.is_success())?;
    let rows = rows(&answer.json()?)?.clone();
    Some(
        rows.into_iter()
            .filter(|row| row.get("id").is_some_and(|id| id.is_string() || id.is_number()))
            .collect(),
    )
}

fn ids(rows: &[Value]) -> BTreeSet<String> {
    rows.iter().filter_map(|row| row.get("id")).map(plain).collect()
}

fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// A stranger asks for what the owner's lists show.
async fn across(
    seen: &mut Seen,
    aims: &[(&Shot, u16)],
    owner: &Range<'_>,
    stranger: &Range<'_>,
    label: &str,
) {
    let shots = || aims.iter().map(|(shot, _)| *shot);
    for list in shots().filter(|shot| shot.reads() && !shot.route().contains('{')) {
        let path = list.route();
        let (Some(before), Some(theirs)) = (things(owner, path).await, things(stranger, path).await) else {
            continue;
        };
        let Some(after) = things(owner, path).await else { continue };
        // A list that both share belongs to nobody; one that changes by itself shows nothing.
        let owned = ids(&before);
        if owned.is_empty() || ids(&after) != owned || !owned.is_disjoint(&ids(&theirs)) {
            continue;
        }
        for row in before.iter().take(MOST_THINGS) {
            let Some(id) = row.get("id").map(plain) else { continue };
            let one = format!("{path}/{{");
            for shot in shots().filter(|shot| shot.route().starts_with(&one)) {
                let Some(slot) = shot.slots().into_iter().next() else { continue };
                let ask = shot.with(&slot, &id);
                let reads = || owner.fire(Ask::get(ask.path.clone()));
                let before = status(reads().await);
                if shot.reads() && !(200..300).contains(&before) {
                    continue;
                }
                let session = stranger.session.as_ref();
                let met = reach(&mut seen.horizontal, stranger, shot, session, ask.clone(), label).await;
                // What takes away is not tried as its owner; that the thing is there for them has to do.
                let rightful = match shot.method {
                    Method::GET | Method::DELETE => before,
                    _ => status(owner.fire(ask).await),
                };
                seen.across.note(met, rightful);
            }
        }
        // The list itself, asked for in the owner's name.
        for slot in list.slots() {
            let name = list.slot_name(&slot);
            let Some(field) = name.strip_suffix(" (query)") else { continue };
            let whose = field.ends_with("user_id") || field.ends_with("userId") || field.contains("owner");
            let Some(value) = before.first().and_then(|row| row.get(field)).filter(|_| whose) else {
                continue;
            };
            let answer = stranger.fire(list.with(&slot, &plain(value))).await;
            let Ok(answer) = answer else { continue };
            let shown = answer.json().and_then(|answer| rows(&answer).cloned()).unwrap_or_default();
            if answer.status.is_success()
                && !ids(&shown).is_disjoint(&owned)
                && seen.horizontal.len() < MOST_REACHED
            {
                seen.horizontal.push(Reached {
                    route: format!("{}?{field}=", list.label),
                    who: label.to_owned(),
                    status: answer.status.as_u16(),
                });
            }
        }
    }
}

/// Sessions that the app never gave out.
fn forgeries(session: &Session) -> Vec<(Session, &'static str)> {
    let change = |how: &dyn Fn(&str) -> String| {
        let cookies = session.cookie.split("; ").map(|cookie| {
            cookie.split_once('=').map_or_else(String::new, |(name, value)| format!("{name}={}", how(value)))
        });
        Session { cookie: cookies.collect::<Vec<_>>().join("; "), ..session.clone() }
    };
    let mut forged = vec![
        // In the middle: the last character of base64 may hold bits that say nothing.
        (
            change(&|value| {
                let middle = value.chars().count() / 2;
                value.chars().enumerate().map(|(at, c)| if at == middle { other(c) } else { c }).collect()
            }),
            "forged (one character)",
        ),
        (change(&|value| value.chars().map(random_like).collect()), "forged (random)"),
    ];
    // A token that says itself that nobody signed it (RFC 7519, 6).
    if session.cookie.split("; ").any(|cookie| cookie.contains("=eyJ") && cookie.matches('.').count() == 2) {
        let unsigned = change(&|value| {
            let mut parts = value.split('.');
            let (Some(_), Some(claims)) = (parts.next(), parts.next()) else { return value.to_owned() };
            format!("eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0.{claims}.")
        });
        forged.push((unsigned, "forged (unsigned)"));
    }
    forged
}

fn other(c: char) -> char {
    match c {
        '0'..='8' | 'a'..='y' | 'A'..='Y' => char::from_u32(c as u32 + 1).unwrap_or('0'),
        '9' => '0',
        'z' => 'a',
        'Z' => 'A',
        c => c,
    }
}

fn random_like(c: char) -> char {
    match c {
        '0'..='9' => fastrand::digit(10),
        'a'..='f' => fastrand::digit(16),
        'g'..='z' => fastrand::lowercase(),
        'A'..='Z' => fastrand::uppercase(),
        c => c,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::Saw;
    use serde_json::json;

    fn saw(seen: &Seen) -> [Saw; 3] {
        let found = Access::judge(seen);
        [found[0].saw, found[1].saw, found[2].saw]
    }

    fn tally(answers: &[(u16, u16)]) -> Tally {
        let mut tally = Tally::default();
        answers.iter().for_each(|(stranger, rightful)| tally.note(*stranger, *rightful));
        tally
    }

    #[test]
    fn a_refusal_counts_beside_one_who_is_let_in() {
        let of = |answers: &[(u16, u16)]| {
            let Tally { asked, compared, unclear } = tally(answers);
            (asked, compared, unclear)
        };
        assert_eq!(of(&[(401, 200), (403, 201), (404, 200)]), (3, 3, 0));
        assert_eq!(of(&[(400, 200), (405, 200), (409, 200), (415, 200), (422, 200), (429, 200)]), (6, 0, 6));
        assert_eq!(of(&[(404, 404), (404, 0)]), (2, 0, 2));
        assert_eq!(of(&[(401, 0), (403, 422)]), (2, 0, 0));
        assert_eq!(of(&[(500, 200), (302, 200), (0, 200)]), (2, 0, 2));
    }

    #[test]
    fn strangers() {
        use Saw::{Broken, Held, Unseen};
        let good = tally(&[(404, 200), (403, 200)]);
        let all = |each: Tally| Seen {
            across: each,
            anonymous: each,
            reserved: each,
            forged: each,
            ended: each,
            ..Seen::default()
        };
        assert_eq!(saw(&all(good)), [Held; 3]);
        assert_eq!(saw(&Seen::default()), [Unseen; 3]);
        // Bodies that were found wrong before anybody asked who sent them.
        assert_eq!(saw(&all(tally(&[(422, 200), (400, 200), (415, 200)]))), [Unseen; 3]);
        assert_eq!(saw(&all(good.and(tally(&[(422, 200), (422, 200)])))), [Unseen; 3]);
        assert_eq!(saw(&Seen { across: tally(&[(404, 200)]), ..all(good) }), [Unseen, Held, Held]);
        assert_eq!(saw(&Seen { reserved: Tally::default(), ..all(good) }), [Held, Unseen, Held]);
        assert_eq!(saw(&Seen { ended: tally(&[(401, 0)]), ..all(good) }), [Held, Held, Unseen]);
        assert_eq!(saw(&Seen { left: 3, ..all(good) }), [Unseen; 3]);
        let reached = || vec![Reached { route: "GET /o/1".into(), who: "user".into(), status: 200 }];
        assert_eq!(saw(&Seen { left: 3, horizontal: reached(), ..all(good) })[0], Broken);
    }

    #[test]
    fn reserved_operations() {
        let document = json!({ "paths": { "/a": { "get": { "x-role": "admin" }, "post": { "x-roles": ["user", "admin"] } }, "/b": { "get": {} } } });
        assert!(is_reserved(&document, "/api/a", "GET"));
        assert!(!is_reserved(&document, "/api/a", "POST"));
        assert!(!is_reserved(&document, "/b", "GET"));
        assert!(is_reserved(&document, "/admin/b", "GET"));
    }

    #[test]
    fn forged_sessions_differ() {
        let session = Session {
            label: "user".into(),
            cookie: "s=abc123def; t=eyJh.eyJz.sig".into(),
            csrf: None,
            said: Value::Null,
        };
        let forged = forgeries(&session);
        assert_eq!(forged.len(), 3);
        assert_eq!(forged[0].0.cookie, "s=abc133def; t=eyJh.ezJz.sig");
    }
}
