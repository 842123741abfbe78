//! Lists: pages of a bounded size, that can be followed to the end.
//!
//! A list is what answers a GET with an array of objects. One that is short and takes no limit is no list to page
//! through: kinds of things, not things.

use std::collections::BTreeSet;
use std::rc::Rc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::check::{About, Disturbs, Fault, Finding, Need, Probe, Unable};
use crate::checks::attacks::aim::{Range, Shot, Shots, Slot, rows, shots, signs_in, strongest};
use crate::words;
use crate::world::World;
use crate::world::http::Answer;

/// Every list of the API.
pub struct Lists;

/// What each list gave.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Seen {
    lists: Vec<List>,
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct List {
    route: String,
    /// Rows when nobody says how many.
    default: usize,
    /// Whether it takes a limit.
    limited: bool,
    /// Rows for limits of 1, 2 and 3, as far as there are so many.
    honoured: Vec<(usize, usize)>,
    /// Rows for a limit of 1,000,000, and whether it said that there are more; `None` when that was refused.
    most: Option<(usize, bool)>,
    /// Rows that a walk from page to page has seen, and in how many pages.
    walked: usize,
    pages: usize,
    /// Rows that came twice, and that another walk saw and this one did not.
    twice: usize,
    missed: usize,
    /// Rows that were made meanwhile.
    inserted: usize,
    /// The stated total, and the rows counted to the end.
    total: Option<(u64, usize)>,
    /// Fields that came although only `id` was asked for.
    unasked: Option<Vec<String>>,
}

const LIMIT: (&str, &str) = ("api.pagination", "limit");
const WALK: (&str, &str) = ("api.pagination", "walk");
const DEFAULT: (&str, &str) = ("api.pagination", "default");
const TOTAL: (&str, &str) = ("api.server-side-search", "total");
const FIELDS: (&str, &str) = ("data.selective-fetch", "fields");
/// A page that nobody asked to be long is no longer than this.
const BOUNDED: usize = 200;
/// Nor one that somebody asked to be as long as can be.
const CAPPED: usize = 1000;
const MOST_LISTS: usize = 15;
const MOST_PAGES: usize = 40;

impl Probe for Lists {
    type Seen = Seen;

    const ABOUT: About = About {
        id: "lists",
        version: 1,
        question: "Do lists come in pages that can be followed to the end?",
        does: "Finds the lists of the API, asks for few and for very many rows, and walks from page to page with two page sizes while it makes new rows where it can.",
        shows: &[LIMIT, WALK, DEFAULT, TOTAL, FIELDS],
        needs: &[Need::Site, Need::Api],
        disturbs: Disturbs::Attacks,
        good_for: Duration::from_secs(7 * 24 * 3600),
        limit: Duration::from_secs(120),
        faults: &[
            Fault::Foil("ignores-limit", LIMIT),
            Fault::Foil("gap-in-pages", WALK),
            Fault::Foil("shifting-pages", WALK),
            Fault::Foil("no-pages", DEFAULT),
            Fault::Foil("wrong-total", TOTAL),
            Fault::Foil("ignores-fields", FIELDS),
        ],
    };

    async fn look(world: Rc<World>) -> Result<Seen, Unable> {
        let range = Range::new(&world, world.site()?, strongest(&world).await);
        let Shots { all: shots, rest: _ } = shots(&range).await;
        let mut seen = Seen::default();
        for shot in shots.iter().filter(|shot| shot.reads() && !shot.route().contains('{')) {
            if seen.lists.len() >= MOST_LISTS {
                break;
            }
            let maker = shots.iter().find(|each| {
                each.method == http::Method::POST && each.route() == shot.route() && !signs_in(&world, each)
            });
            if let Some(list) = look_at(&range, shot, maker).await {
                seen.lists.push(list);
            }
        }
        Ok(seen)
    }

    fn judge(seen: &Seen) -> Vec<Finding> {
        let all = seen.lists.len();
        let paged: Vec<&List> =
            seen.lists.iter().filter(|list| list.limited || list.default > BOUNDED).collect();
        let none = || {
            words!(
                "no list that comes in pages among {all}",
                "ingen liste som kommer i sider blant {all}",
                "ingen lista som kommer i sidor bland {all}"
            )
        };
        let mut found = Vec::new();

        let wrong = paged.iter().find_map(|list| {
            let route = &list.route;
            let rows = list.default;
            if !list.limited {
                return Some(words!(
                    "{route} takes no limit and gives {rows} rows",
                    "{route} tar ingen grense og gir {rows} rader",
                    "{route} tar ingen gräns och ger {rows} rader"
                ));
            }
            if let Some((asked, got)) = list.honoured.iter().find(|(asked, got)| asked != got) {
                return Some(words!(
                    "{route} gives {got} rows where {asked} were asked for",
                    "{route} gir {got} rader der det ble bedt om {asked}",
                    "{route} ger {got} rader där {asked} begärdes"
                ));
            }
            let (got, _) = list.most.filter(|(got, _)| *got > CAPPED)?;
            Some(words!(
                "{route} gives {got} rows at once",
                "{route} gir {got} rader på én gang",
                "{route} ger {got} rader på en gång"
            ))
        });
        let capped = paged.iter().filter(|list| list.most.is_none_or(|(_, more)| more)).count();
        let honoured = paged.iter().filter(|list| !list.honoured.is_empty()).count();
        let count = paged.len();
        found.push(match wrong {
            Some(because) => Finding::broken(LIMIT, because),
            None if count == 0 => Finding::unseen(LIMIT, none()),
            None => {
                let because = words!(
                    "{honoured} of {count} lists honour the limit, {capped} were seen to cap it",
                    "{honoured} av {count} lister følger grensen, {capped} ble sett å ha et tak",
                    "{honoured} av {count} listor följer gränsen, {capped} sågs ha ett tak"
                );
                if honoured > 0 && capped > 0 {
                    Finding::held(LIMIT, because)
                } else {
                    Finding::unseen(LIMIT, because)
                }
            }
        });

        let walked: usize = seen.lists.iter().map(|list| list.walked).sum();
        let inserted: usize = seen.lists.iter().map(|list| list.inserted).sum();
        found.push(match seen.lists.iter().find(|list| list.twice + list.missed > 0) {
            Some(List { route, twice, missed, walked, .. }) => Finding::broken(
                WALK,
                words!(
                    "{route}: of {walked} rows, {twice} came twice and {missed} were left out",
                    "{route}: av {walked} rader kom {twice} to ganger og {missed} ble utelatt",
                    "{route}: av {walked} rader kom {twice} två gånger och {missed} utelämnades"
                ),
            ),
            None => {
                let because = words!(
                    "{walked} rows walked without gap or duplicate while {inserted} were inserted",
                    "{walked} rader gjennomgått uten hull eller dubletter mens {inserted} ble satt inn",
                    "{walked} rader genomgångna utan luckor eller dubbletter medan {inserted} lades till"
                );
                if inserted > 0 && walked > 0 {
                    Finding::held(WALK, because)
                } else {
                    Finding::unseen(WALK, because)
                }
            }
        });

        let longest = seen.lists.iter().max_by_key(|list| list.default);
        found.push(match longest {
            None => Finding::unseen(DEFAULT, none()),
            Some(List { route, default, .. }) => Finding::when(
                *default <= BOUNDED,
                DEFAULT,
                words!(
                    "at most {default} rows without parameters, on {route} ({all} lists)",
                    "høyst {default} rader uten parametere, på {route} ({all} lister)",
                    "högst {default} rader utan parametrar, på {route} ({all} listor)"
                ),
            ),
        });

        let totals: Vec<(&List, u64, usize)> = seen
            .lists
            .iter()
            .filter_map(|list| list.total.map(|(said, counted)| (list, said, counted)))
            .collect();
        let off = totals.iter().find(|(_, said, counted)| *said != *counted as u64);
        let count = totals.len();
        found.push(match off {
            Some((List { route, .. }, said, counted)) => Finding::broken(
                TOTAL,
                words!(
                    "{route} says {said} and has {counted}",
                    "{route} sier {said} og har {counted}",
                    "{route} säger {said} och har {counted}"
                ),
            ),
            None if count == 0 => Finding::unseen(
                TOTAL,
                words!(
                    "no list states a total",
                    "ingen liste oppgir et totalantall",
                    "ingen lista anger ett totalantal"
                ),
            ),
            None => Finding::held(
                TOTAL,
                words!(
                    "{count} stated totals counted, all right",
                    "{count} oppgitte totaler talt, alle riktige",
                    "{count} angivna totaler räknade, alla rätt"
                ),
            ),
        });

        let chosen: Vec<&List> = seen.lists.iter().filter(|list| list.unasked.is_some()).collect();
        let extra = chosen.iter().find_map(|list| Some((&list.route, list.unasked.as_ref()?.first()?)));
        let count = chosen.len();
        found.push(match extra {
            Some((route, field)) => Finding::broken(
                FIELDS,
                words!(
                    "{route} gives {field} where only id was asked for",
                    "{route} gir {field} der det bare ble bedt om id",
                    "{route} ger {field} där bara id begärdes"
                ),
            ),
            None if count == 0 => Finding::unseen(
                FIELDS,
                words!("no list takes fields", "ingen liste tar fields", "ingen lista tar fields"),
            ),
            None => Finding::held(
                FIELDS,
                words!(
                    "{count} lists give only the fields asked for",
                    "{count} lister gir bare de feltene det ble bedt om",
                    "{count} listor ger bara de fält som begärdes"
                ),
            ),
        });
        found
    }
}

async fn look_at(range: &Range<'_>, shot: &Shot, maker: Option<&Shot>) -> Option<List> {
    let first = range.fire(shot.plain()).await.ok().filter(|answer| answer.status.is_success())?;
    let body = first.json()?;
    let default = rows(&body)?.len();
    let mut list = List { route: shot.label.clone(), default, ..List::default() };
    let named = |names: &[&str]| {
        shot.slots().into_iter().find(|slot| {
            let name = shot.slot_name(slot);
            name.strip_suffix(" (query)")
                .is_some_and(|name| names.contains(&name.to_ascii_lowercase().as_str()))
        })
    };
    let got = async |shot: &Shot| -> Option<(Answer, Value)> {
        let answer = range.fire(shot.plain()).await.ok().filter(|answer| answer.status.is_success())?;
        let body = answer.json()?;
        Some((answer, body))
    };
    let Some(limit) =
        named(&["limit", "per_page", "perpage", "page_size", "pagesize", "size", "take", "first"])
    else {
        return (default > 0).then_some(list);
    };
    list.limited = true;
    for asked in [1, 2, 3_usize] {
        if asked > default {
            break;
        }
        if let Some((_, body)) = got(&shot.sending(&limit, &asked.to_string())).await {
            list.honoured.push((asked, rows(&body).map_or(0, Vec::len)));
        }
    }
    list.most = got(&shot.sending(&limit, "1000000"))
        .await
        .map(|(answer, body)| (rows(&body).map_or(0, Vec::len), next(&answer, &body).is_some()));
    if let Some(fields) = named(&["fields", "select"])
        && let Some((_, body)) = got(&shot.sending(&fields, "id")).await
    {
        let row = rows(&body).and_then(|rows| rows.first()).and_then(Value::as_object);
        list.unasked =
            row.map(|row| row.keys().filter(|name| *name != "id").take(5).cloned().collect::<Vec<_>>());
    }
    let Some(cursor) = named(&["cursor", "after", "page_token", "starting_after", "offset", "page", "skip"])
    else {
        return Some(list);
    };
    // Small pages while rows are made, then larger ones: both must show the same rows in the same order.
    let small = shot.sending(&limit, "7");
    let large = shot.sending(&limit, "20");
    let largest = list.most.map_or(20, |(rows, _)| rows.clamp(20, CAPPED));
    let counting = shot.sending(&limit, &largest.to_string());
    let counting = named(&["total", "with_total", "count"])
        .map_or_else(|| counting.clone(), |slot| counting.sending(&slot, "true"));
    let before = walk(range, &large, &cursor, None).await?;
    let during = walk(range, &small, &cursor, maker).await?;
    let old: BTreeSet<&String> = before.ids.iter().collect();
    let reached = during.ids.iter().rposition(|id| old.contains(id)).map_or(0, |at| at + 1);
    let kept: Vec<&String> =
        during.ids.get(..reached).unwrap_or_default().iter().filter(|id| old.contains(id)).collect();
    let distinct: BTreeSet<&String> = during.ids.iter().collect();
    let distinct_before = old.len();
    list.walked = during.ids.len();
    list.pages = during.pages;
    list.inserted = during.inserted;
    list.twice = during.ids.len() - distinct.len() + before.ids.len() - distinct_before;
    // A walk that was broken off early has missed nothing of what comes later.
    let expected = if during.whole {
        distinct_before
    } else {
        kept.last().and_then(|last| before.ids.iter().position(|id| id == *last)).map_or(0, |at| at + 1)
    };
    list.missed = expected.saturating_sub(kept.iter().collect::<BTreeSet<_>>().len());
    let fresh = walk(range, &counting, &cursor, None).await?;
    if let (Some(said), true) = (fresh.total, fresh.whole) {
        list.total = Some((said, fresh.ids.len()));
    }
    // What the second large walk sees more than the first must be what was made meanwhile.
    if fresh.whole && before.whole && maker.is_some() && list.inserted > 0 {
        let all: BTreeSet<&String> = fresh.ids.iter().collect();
        list.missed += old.iter().filter(|id| !all.contains(*id)).count();
    }
    Some(list)
}

struct Walk {
    ids: Vec<String>,
    pages: usize,
    whole: bool,
    inserted: usize,
    total: Option<u64>,
}

async fn walk(range: &Range<'_>, shot: &Shot, cursor: &Slot, maker: Option<&Shot>) -> Option<Walk> {
    let mut walk = Walk { ids: Vec::new(), pages: 0, whole: false, inserted: 0, total: None };
    let mut at = shot.clone();
    while walk.pages < MOST_PAGES {
        let answer = range.fire(at.plain()).await.ok().filter(|answer| answer.status.is_success())?;
        let body = answer.json()?;
        let page = rows(&body)?;
        walk.pages += 1;
        let total = ["total", "total_count", "totalCount", "count"]
            .into_iter()
            .find_map(|name| body.get(name)?.as_u64());
        let header = answer.header("x-total-count").and_then(|value| value.parse().ok());
        walk.total = walk.total.or(total).or(header);
        walk.ids.extend(
            page.iter()
                .filter_map(|row| row.get("id"))
                .map(|id| id.as_str().map_or_else(|| id.to_string(), str::to_owned)),
        );
        let Some(next) = next(&answer, &body) else {
            walk.whole = true;
            break;
        };
        at = shot.sending(cursor, &next);
        if let Some(maker) = maker.filter(|_| walk.inserted < 5) {
            let made = range.fire(maker.plain()).await;
            walk.inserted += usize::from(made.is_ok_and(|made| made.status.is_success()));
        }
    }
    Some(walk)
}

/// Where the next page begins.
fn next(answer: &Answer, body: &Value) -> Option<String> {
    let places = [
        "/next",
        "/next_cursor",
        "/nextCursor",
        "/next_page_token",
        "/nextPageToken",
        "/cursor/next",
        "/meta/next",
        "/pagination/next",
        "/page/next",
        "/links/next",
        "/next_page",
    ];
    let said = places.into_iter().find_map(|place| match body.pointer(place)? {
        Value::String(text) if !text.is_empty() => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    });
    let linked = || {
        let links = answer.header("link")?;
        let link =
            links.split(',').find(|link| link.contains("rel=\"next\"") || link.contains("rel=next"))?;
        Some(link.split('<').nth(1)?.split('>').next()?.to_owned())
    };
    let next = said.or_else(linked)?;
    // An address instead of a value: what it has as its cursor.
    let Some((_, query)) = next.split_once('?') else { return Some(next) };
    let names = ["cursor=", "after=", "page_token=", "starting_after=", "offset=", "page=", "skip="];
    query.split('&').find_map(|pair| names.iter().find_map(|name| pair.strip_prefix(name))).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn next_pages() {
        let answer = |link: &str| {
            let mut headers = http::HeaderMap::new();
            if !link.is_empty() {
                headers.insert("link", link.parse().unwrap());
            }
            Answer { status: http::StatusCode::OK, headers, body: bytes::Bytes::new(), took: Duration::ZERO }
        };
        assert_eq!(next(&answer(""), &json!({ "next": "abc" })).as_deref(), Some("abc"));
        assert_eq!(next(&answer(""), &json!({ "next": null })), None);
        assert_eq!(
            next(&answer(""), &json!({ "links": { "next": "/x?limit=2&page=3" } })).as_deref(),
            Some("3")
        );
        assert_eq!(next(&answer("</x?cursor=k>; rel=\"next\""), &json!([])).as_deref(), Some("k"));
    }
}
