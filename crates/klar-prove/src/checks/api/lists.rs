//! Lists: pages of a bounded size, that can be followed to the end.
//!
//! A list is what answers a GET with an array of objects. One that is short and takes no limit is no list to page
//! through: kinds of things, not things.

use std::collections::BTreeSet;
use std::rc::Rc;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::check::{About, Disturbs, Fault, Finding, Need, Probe, Unable};
use crate::checks::attacks::aim::{
    Range, Shot, Shots, Slot, is_little, rows, shots, signs_in, strongest, told_of,
};
use crate::words;
use crate::words::Words;
use crate::world::World;
use crate::world::http::Answer;

/// Every list of the API.
pub struct Lists;

/// What each list gave.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Seen {
    lists: Vec<List>,
    /// Operations that read and may be lists, and had no turn.
    left: usize,
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
    /// Rows for a limit of 1,000,000, and whether it said that there are more.
    most: Option<(usize, bool)>,
    /// Whether a limit of 1,000,000 was refused by name (400, 422).
    refused: bool,
    /// Whether there are more rows than the page that comes when nobody says how many.
    longer: bool,
    /// Why a walk could not be made to its end.
    failed: Option<String>,
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
const MOST_LISTS: usize = 40;
/// No more lists are looked at after this, so that what was seen until then is told.
const LONGEST: Duration = Duration::from_secs(80);
const MOST_PAGES: usize = 40;

impl Probe for Lists {
    type Seen = Seen;

    const ABOUT: About = About {
        id: "lists",
        version: 2,
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
        let Shots { all: shots, rest } = shots(&range).await;
        let mut seen = Seen::default();
        let may_be = |shot: &&Shot| shot.reads() && !shot.route().contains('{');
        seen.left += rest.iter().filter(may_be).filter(|shot| shot.operation.is_some()).count();
        let end = Instant::now() + LONGEST;
        for shot in shots.iter().filter(may_be) {
            if seen.lists.len() >= MOST_LISTS || Instant::now() > end {
                seen.left += usize::from(shot.operation.is_some());
                continue;
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
        let capped = paged.iter().filter(|list| list.is_capped()).count();
        let honoured = paged.iter().filter(|list| !list.honoured.is_empty()).count();
        let count = paged.len();
        // Lists that were hardly filled show nothing, and lists that had no turn even less.
        let left = seen.left;
        let cut = !is_little(left, all + left);
        let told = |because: Words| told_of(because, all, all + left);
        found.push(match wrong {
            Some(because) => Finding::broken(LIMIT, because),
            None if count == 0 => Finding::unseen(LIMIT, none()),
            None => {
                let because = words!(
                    "{honoured} of {count} lists honour the limit, {capped} were seen to cap it",
                    "{honoured} av {count} lister følger grensen, {capped} ble sett å ha et tak",
                    "{honoured} av {count} listor följer gränsen, {capped} sågs ha ett tak"
                );
                if honoured > 0 && capped > 0 && is_most(honoured.min(capped), count) && !cut {
                    Finding::held(LIMIT, told(because))
                } else {
                    Finding::unseen(LIMIT, told(because))
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
                match seen.lists.iter().find_map(|list| Some((&list.route, list.failed.as_ref()?))) {
                    Some((route, why)) => Finding::unseen(
                        WALK,
                        words!(
                            "{route} could not be walked to its end: {why}",
                            "{route} kunne ikke følges til enden: {why}",
                            "{route} kunde inte följas till slutet: {why}"
                        ),
                    ),
                    // From one page to the next: a single page is no walk.
                    None if inserted > 0
                        && walked > 0
                        && seen.lists.iter().any(|list| list.pages > 1)
                        && !cut =>
                    {
                        Finding::held(WALK, told(because))
                    }
                    None => Finding::unseen(WALK, told(because)),
                }
            }
        });

        let longest = seen.lists.iter().max_by_key(|list| list.default);
        found.push(match longest {
            None => Finding::unseen(DEFAULT, none()),
            Some(List { route, default, .. }) => {
                // All rows of a short list come on one page whether or not there is a bound.
                let longer = paged.iter().filter(|list| list.longer).count();
                let count = paged.len();
                let because = words!(
                    "at most {default} rows without parameters, on {route}; {longer} of {count} lists have more rows than their page",
                    "høyst {default} rader uten parametere, på {route}; {longer} av {count} lister har flere rader enn siden sin",
                    "högst {default} rader utan parametrar, på {route}; {longer} av {count} listor har fler rader än sin sida"
                );
                if *default > BOUNDED {
                    Finding::broken(DEFAULT, because)
                } else if longer > 0 && is_most(longer, count) && !cut {
                    Finding::held(DEFAULT, told(because))
                } else {
                    Finding::unseen(DEFAULT, told(because))
                }
            }
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
            None => {
                // The total of what stands on one page may be the number of rows on the page.
                let over = totals.iter().filter(|(list, _, counted)| list.pages > 1 && *counted > 0).count();
                let because = words!(
                    "{count} stated totals counted, all right; {over} of them over several pages",
                    "{count} oppgitte totaler talt, alle riktige; {over} av dem over flere sider",
                    "{count} angivna totaler räknade, alla rätt; {over} av dem över flera sidor"
                );
                if over > 0 && !cut {
                    Finding::held(TOTAL, told(because))
                } else {
                    Finding::unseen(TOTAL, told(because))
                }
            }
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
            None => {
                let because = words!(
                    "{count} lists give only the fields asked for",
                    "{count} lister gir bare de feltene det ble bedt om",
                    "{count} listor ger bara de fält som begärdes"
                );
                if cut {
                    Finding::unseen(FIELDS, told(because))
                } else {
                    Finding::held(FIELDS, told(because))
                }
            }
        });
        found
    }
}

impl List {
    /// Whether asking for very many rows was seen to be cut down, or refused by one that takes smaller limits.
    fn is_capped(&self) -> bool {
        match self.most {
            // That there are more than these must have been seen: said by the answer, or walked past.
            Some((rows, more)) => rows > 0 && (more || rows < self.walked.saturating_sub(self.twice)),
            None => self.refused && !self.honoured.is_empty(),
        }
    }
}

/// Whether what was seen of some can be said of all: at least half of them.
fn is_most(some: usize, of: usize) -> bool {
    some.saturating_mul(2) >= of
}

async fn look_at(range: &Range<'_>, shot: &Shot, maker: Option<&Shot>) -> Option<List> {
    let first = range.fire(shot.plain()).await.ok().filter(|answer| answer.status.is_success())?;
    let body = first.json()?;
    let default = rows(&body)?.len();
    let longer = default > 0
        && (next(&first, &body).is_some() || total(&first, &body).is_some_and(|all| all > default as u64));
    let mut list = List { route: shot.label.clone(), default, longer, ..List::default() };
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
    if let Ok(answer) = range.fire(shot.sending(&limit, "1000000").plain()).await {
        list.refused = matches!(answer.status.as_u16(), 400 | 422);
        if let Some(body) = answer.json().filter(|_| answer.status.is_success()) {
            let most = rows(&body).map_or(0, Vec::len);
            let more =
                next(&answer, &body).is_some() || total(&answer, &body).is_some_and(|all| all > most as u64);
            list.most = Some((most, more));
        }
    }
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
    let before = match walk(range, &large, &cursor, None).await {
        Ok(walk) => walk,
        Err(why) => return Some(List { failed: Some(why), ..list }),
    };
    let during = match walk(range, &small, &cursor, maker).await {
        Ok(walk) => walk,
        Err(why) => return Some(List { failed: Some(why), ..list }),
    };
    let old: BTreeSet<&String> = before.ids.iter().collect();
    let reached = during.ids.iter().rposition(|id| old.contains(id)).map_or(0, |at| at + 1);
    let kept: Vec<&String> =
        during.ids.get(..reached).unwrap_or_default().iter().filter(|id| old.contains(id)).collect();
    let distinct: BTreeSet<&String> = during.ids.iter().collect();
    let distinct_before = old.len();
    list.walked = during.ids.len();
    list.pages = during.pages;
    list.longer |= distinct_before > list.default;
    list.inserted = during.inserted;
    list.twice = during.ids.len() - distinct.len() + before.ids.len() - distinct_before;
    // A walk that was broken off early has missed nothing of what comes later.
    let expected = if during.whole {
        distinct_before
    } else {
        kept.last().and_then(|last| before.ids.iter().position(|id| id == *last)).map_or(0, |at| at + 1)
    };
    list.missed = expected.saturating_sub(kept.iter().collect::<BTreeSet<_>>().len());
    let fresh = match walk(range, &counting, &cursor, None).await {
        Ok(walk) => walk,
        Err(why) => return Some(List { failed: Some(why), ..list }),
    };
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

async fn walk(range: &Range<'_>, shot: &Shot, cursor: &Slot, maker: Option<&Shot>) -> Result<Walk, String> {
    let mut walk = Walk { ids: Vec::new(), pages: 0, whole: false, inserted: 0, total: None };
    let mut at = shot.clone();
    while walk.pages < MOST_PAGES {
        let answer = range.fire(at.plain()).await.map_err(|why| why.to_string())?;
        let page = walk.pages + 1;
        if !answer.status.is_success() {
            return Err(format!("{} ({page})", answer.status.as_u16()));
        }
        let body = answer.json().ok_or_else(|| format!("JSON? ({page})"))?;
        let page = rows(&body).ok_or_else(|| format!("[…]? ({page})"))?;
        walk.pages += 1;
        walk.total = walk.total.or(total(&answer, &body));
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
    Ok(walk)
}

/// How many rows a list says that there are.
fn total(answer: &Answer, body: &Value) -> Option<u64> {
    let names = ["total", "total_count", "totalCount", "count"];
    let said = names.into_iter().find_map(|name| body.get(name)?.as_u64());
    said.or_else(|| answer.header("x-total-count").and_then(|value| value.parse().ok()))
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
    use crate::check::Saw;
    use serde_json::json;

    fn saw(lists: Vec<List>, left: usize) -> [Saw; 5] {
        let found = Lists::judge(&Seen { lists, left });
        std::array::from_fn(|at| found[at].saw)
    }

    fn good() -> List {
        List {
            route: "GET /orders".into(),
            default: 10,
            limited: true,
            honoured: vec![(1, 1), (2, 2), (3, 3)],
            most: Some((20, true)),
            longer: true,
            walked: 40,
            pages: 6,
            inserted: 3,
            total: Some((40, 40)),
            unasked: Some(Vec::new()),
            ..List::default()
        }
    }

    #[test]
    fn short_lists_show_no_bounds() {
        use Saw::{Broken, Held, Unseen};
        assert_eq!(saw(vec![good()], 0), [Held; 5]);
        // Four rows, which all come whatever is asked for.
        let few = || List {
            default: 4,
            most: Some((4, false)),
            longer: false,
            walked: 4,
            pages: 1,
            total: Some((4, 4)),
            ..good()
        };
        assert_eq!(saw(vec![few()], 0), [Unseen, Unseen, Unseen, Unseen, Held]);
        // Two such beside a long one are more than it can vouch for.
        assert_eq!(saw(vec![good(), few(), few()], 0), [Unseen, Held, Unseen, Held, Held]);
        assert_eq!(saw(vec![good(), few()], 0), [Held; 5]);
        // Refused is bounded too; no answer is not.
        assert_eq!(saw(vec![List { most: None, refused: true, ..good() }], 0)[0], Held);
        assert_eq!(saw(vec![List { most: None, ..good() }], 0)[0], Unseen);
        assert_eq!(saw(vec![List { most: Some((40, false)), ..good() }], 0)[0], Unseen);
        assert_eq!(saw(vec![good()], 9), [Unseen; 5]);
        assert_eq!(saw(vec![List { default: 300, ..good() }], 9)[2], Broken);
        let failed = || List { failed: Some("500 (2)".into()), total: None, walked: 0, ..good() };
        assert_eq!(saw(vec![good(), failed()], 0)[1], Unseen);
        let told = &Lists::judge(&Seen { lists: vec![good(), failed()], left: 0 })[1].because;
        assert!(told.en.contains("500 (2)"), "{}", told.en);
        assert_eq!(saw(vec![List { twice: 1, ..good() }, failed()], 9)[1], Broken);
    }

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
