//! Access control: what is reached by those who should not reach it.
//!
//! What is reserved is taken from the app's own description: an operation with `security` is for those who are signed
//! in; one whose `x-role`, `x-roles` or `x-klar-roles` names none of the ordinary roles, or with `admin` in its path,
//! is for administrators. What belongs to somebody is what their list shows and the other one's does not.

use std::collections::BTreeSet;
use std::rc::Rc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::aim::{Range, Shot, rows, shots, signs_in, signs_out};
use crate::check::{About, Disturbs, Fault, Finding, Need, Probe, Unable};
use crate::words;
use crate::world::http::Ask;
use crate::world::{Session, World};

/// Every operation as everybody.
pub struct Access;

/// What was reached by whom.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Seen {
    /// Requests for what belongs to the other user.
    across: usize,
    /// Requests of nobody for what is for the signed in.
    anonymous: usize,
    /// Requests of an ordinary user for what is for administrators.
    reserved: usize,
    /// Requests with a forged token, and with one that was signed out.
    forged: usize,
    ended: usize,
    /// Operations that answered the rightful user well.
    rightful: usize,
    horizontal: Vec<Reached>,
    vertical: Vec<Reached>,
    tokens: Vec<Reached>,
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

impl Probe for Access {
    type Seen = Seen;

    const ABOUT: About = About {
        id: "access",
        version: 1,
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
        let shots = shots(&admin).await;
        let described: Vec<&Shot> = shots
            .iter()
            .filter(|shot| {
                shot.operation.is_some()
                    && shot.secured
                    && !signs_out(&world, shot)
                    && !signs_in(&world, shot)
            })
            .collect();
        let mut seen = Seen::default();
        for shot in &described {
            seen.anonymous += reach(&mut seen.vertical, &one, shot, None, shot.plain(), "anonymous").await;
            let operation = shot.operation.and_then(|at| api.operations.get(at));
            if operation.is_some_and(|operation| {
                is_reserved(&api.document, &operation.path, operation.method.as_str())
            }) {
                seen.reserved +=
                    reach(&mut seen.vertical, &one, shot, one.session.as_ref(), shot.plain(), &first.label)
                        .await;
            }
            if shot.reads()
                && let Ok(answer) = admin.fire(shot.plain()).await
            {
                seen.rightful += usize::from(answer.status.is_success());
            }
        }
        // The other user must not be one who may see everything: the list begins with those of the least rights.
        if let Some(second) = others.first().filter(|_| accounts.list.len() > 2) {
            let two = Range::new(&world, site, Some(world.sign_in(second).await?));
            for (owner, stranger, label) in [(&one, &two, &second.label), (&two, &one, &first.label)] {
                across(&mut seen, &described, owner, stranger, label).await;
            }
        }
        // A session of its own, since it is ended on the way.
        let doomed = world.sign_in(first).await?;
        for (forged, what) in forgeries(&doomed) {
            for shot in &described {
                seen.forged += reach(&mut seen.tokens, &one, shot, Some(&forged), shot.plain(), what).await;
            }
        }
        let end = shots.iter().find(|shot| signs_out(&world, shot));
        if let Some(end) = end {
            let ended = one.fire_bare(doomed.on(end.plain())).await;
            if ended.is_ok_and(|answer| answer.status.is_success() || answer.status.is_redirection()) {
                for shot in &described {
                    seen.ended +=
                        reach(&mut seen.tokens, &one, shot, Some(&doomed), shot.plain(), "ended").await;
                }
            }
        }
        Ok(seen)
    }

    fn judge(seen: &Seen) -> Vec<Finding> {
        let Seen { across, anonymous, reserved, forged, ended, rightful, .. } = seen;
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
        let horizontal = broken(HORIZONTAL, &seen.horizontal).unwrap_or_else(|| {
            let because = words!(
                "{across} requests for things of the other user, all refused",
                "{across} forespørsler etter det som er den andres, alle avvist",
                "{across} förfrågningar efter det som är den andres, alla avvisade"
            );
            if *across == 0 {
                Finding::unseen(HORIZONTAL, because)
            } else {
                Finding::held(HORIZONTAL, because)
            }
        });
        let vertical = broken(VERTICAL, &seen.vertical).unwrap_or_else(|| {
            let because = words!(
                "{anonymous} operations refused an anonymous visitor, {reserved} refused an ordinary user; {rightful} reads worked for the strongest account",
                "{anonymous} operasjoner avviste en anonym besøkende, {reserved} avviste en vanlig bruker; {rightful} lesinger virket for den sterkeste kontoen",
                "{anonymous} operationer avvisade en anonym besökare, {reserved} avvisade en vanlig användare; {rightful} läsningar fungerade för det starkaste kontot"
            );
            // An app that refuses everybody refuses nobody in particular.
            let looked = *anonymous > 0 && *reserved > 0 && *rightful > 0;
            if looked { Finding::held(VERTICAL, because) } else { Finding::unseen(VERTICAL, because) }
        });
        let tokens = broken(TOKENS, &seen.tokens).unwrap_or_else(|| {
            let because = words!(
                "{forged} requests with forged tokens and {ended} with ended ones, all refused",
                "{forged} forespørsler med forfalskede tokener og {ended} med utløpte, alle avvist",
                "{forged} förfrågningar med förfalskade token och {ended} med utgångna, alla avvisade"
            );
            let looked = *forged > 0 && *ended > 0 && *rightful > 0;
            if looked { Finding::held(TOKENS, because) } else { Finding::unseen(TOKENS, because) }
        });
        vec![horizontal, vertical, tokens]
    }
}

/// Makes a request as somebody who should not get it, and notes when they do. 1 when it was answered.
async fn reach(
    reached: &mut Vec<Reached>,
    range: &Range<'_>,
    shot: &Shot,
    session: Option<&Session>,
    ask: Ask,
    who: &str,
) -> usize {
    let ask = session.map_or_else(|| ask.clone(), |session| session.on(ask.clone()));
    let Ok(answer) = range.fire_bare(ask).await else { return 0 };
    if answer.status.is_success() && reached.len() < MOST_REACHED {
        let status = answer.status.as_u16();
        reached.push(Reached { route: shot.label.clone(), who: who.to_owned(), status });
    }
    // Only what was refused for what it is was refused.
    usize::from(answer.status.is_success() || answer.status.is_client_error() && answer.status != 429)
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
async fn across(seen: &mut Seen, shots: &[&Shot], owner: &Range<'_>, stranger: &Range<'_>, label: &str) {
    for list in shots.iter().filter(|shot| shot.reads() && !shot.route().contains('{')) {
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
            for shot in shots.iter().filter(|shot| shot.route().starts_with(&one)) {
                let Some(slot) = shot.slots().into_iter().next() else { continue };
                let rightful = if shot.reads() { owner.fire(shot.with(&slot, &id)).await.ok() } else { None };
                if shot.reads() && !rightful.is_some_and(|answer| answer.status.is_success()) {
                    continue;
                }

                let ask = shot.with(&slot, &id);
                seen.across +=
                    reach(&mut seen.horizontal, stranger, shot, stranger.session.as_ref(), ask, label).await;
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
            seen.across += 1;
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
    use serde_json::json;

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
