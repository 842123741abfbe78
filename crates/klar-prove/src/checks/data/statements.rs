//! What the site asks its database when somebody asks the site: how often, for which columns, and in which words.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::explain::{self, without_values};
use crate::check::{About, Disturbs, Fault, Finding, Need, Probe, Unable};
use crate::checks::running::{anybody, good_reads, read};
use crate::words;
use crate::world::database::Database;
use crate::world::http::Ask;
use crate::world::{Session, TURNS, World};

/// The statements behind reading operations.
pub struct Statements;

/// What was asked of the database.
#[derive(Debug, Serialize, Deserialize)]
pub struct Seen {
    /// Reading operations, and those of them after which a statement was counted.
    operations: usize,
    with_statements: usize,
    /// Whether `pg_stat_statements` counts.
    counted: bool,
    /// The most often that one statement ran for one request: path, statement, times.
    most: Option<(String, String, i64)>,
    /// Different reading statements that were seen.
    statements: usize,
    /// Those that ask a table for all its columns.
    stars: Vec<String>,
    /// Columns of half a kilobyte and more on average whose name is in a statement.
    wide: Vec<String>,
    /// Requests with a value that nobody else sends.
    marked: usize,
    /// Statements seen meanwhile that have placeholders.
    placeholders: usize,
    /// Statements that had the value in their text.
    by_hand: Vec<String>,
}

/// One statement this often for one request is one for each row of a list.
const MANY: i64 = 10;
const MOST: usize = 20;
/// A column this wide on average is worth being left out: bytes.
const WIDE: i64 = 500;

impl Probe for Statements {
    type Seen = Seen;

    const ABOUT: About = About {
        id: "statements",
        version: 2,
        question: "Does a request take few statements, for the columns it needs, with values apart from the SQL?",
        does: "Asks reading operations one after the other, alone with the site for a moment, and reads PostgreSQL's own counters and list of what runs. Some requests carry a made-up value, which must not show up in any SQL.",
        shows: &[
            ("data.query-optimization", "n-plus-one"),
            ("data.selective-fetch", "columns"),
            ("sec.parameterized-queries", "statements"),
        ],
        needs: &[Need::Site, Need::Database],
        disturbs: Disturbs::Nothing,
        good_for: Duration::from_secs(24 * 3600),
        limit: Duration::from_secs(50),
        faults: &[
            Fault::Foil("n-plus-one", ("data.query-optimization", "n-plus-one")),
            Fault::Foil("select-star", ("data.selective-fetch", "columns")),
            Fault::Foil("sql-by-hand", ("sec.parameterized-queries", "statements")),
        ],
    };

    async fn look(world: Rc<World>) -> Result<Seen, Unable> {
        let database = world.database().await?;
        let session = anybody(&world).await;
        let good = good_reads(&world, session.as_ref()).await?;
        let counted = explain::calls(&database).await;
        let mut seen = Seen {
            operations: good.len(),
            with_statements: 0,
            counted: counted.is_some(),
            most: None,
            statements: 0,
            stars: Vec::new(),
            wide: Vec::new(),
            marked: 0,
            placeholders: 0,
            by_hand: Vec::new(),
        };
        let mut texts: BTreeSet<String> = BTreeSet::new();
        if counted.is_some() {
            // Alone: what is counted now is for this request. Others wait, for some milliseconds each time.
            for path in good.iter().take(25) {
                let mut least: Option<BTreeMap<String, i64>> = None;
                for _ in 0..3 {
                    let alone = world.turns.acquire_many(TURNS).await;
                    let grown = growth(&world, &database, session.as_ref(), path).await;
                    drop(alone);
                    // Somebody else's visit does not come three times at the same moment.
                    least = Some(match least {
                        None => grown,
                        Some(least) => least
                            .into_iter()
                            .filter_map(|(text, calls)| Some((text.clone(), calls.min(*grown.get(&text)?))))
                            .collect(),
                    });
                }
                let least = least.unwrap_or_default();
                seen.with_statements += usize::from(!least.is_empty());
                for (text, calls) in least {
                    if seen.most.as_ref().is_none_or(|(_, _, most)| calls > *most) {
                        seen.most = Some((path.clone(), without_values(&text), calls));
                    }
                    texts.insert(text);
                }
            }
        }
        let marked = marked(&world, &database, session.as_ref()).await;
        seen.marked = marked.requests;
        seen.placeholders = marked.texts.iter().filter(|text| text.contains("$1")).count();
        seen.by_hand = marked.by_hand.iter().map(|text| without_values(text)).take(MOST).collect();
        texts.extend(marked.texts);
        let tables = names(&database, "SELECT relname AS name FROM pg_stat_user_tables LIMIT 1000").await;
        let wide = names(
            &database,
            &format!(
                "SELECT DISTINCT attname AS name FROM pg_stats WHERE avg_width >= {WIDE} \
                 AND schemaname NOT IN ('pg_catalog', 'information_schema') LIMIT 200"
            ),
        )
        .await;
        seen.statements = texts.len();
        for text in &texts {
            if is_for_all_columns(text, &tables) && seen.stars.len() < MOST {
                seen.stars.push(without_values(text));
            }
        }
        let named = |column: &&String| texts.iter().any(|text| words_of(text).contains(column));
        seen.wide = wide.iter().filter(named).take(MOST).cloned().collect();
        Ok(seen)
    }

    fn judge(seen: &Seen) -> Vec<Finding> {
        vec![n_plus_one(seen), columns(seen), by_hand(seen)]
    }
}

fn n_plus_one(seen: &Seen) -> Finding {
    let place = ("data.query-optimization", "n-plus-one");
    let Seen { operations, with_statements: with, .. } = seen;
    match &seen.most {
        _ if !seen.counted => Finding::unseen(
            place,
            words!(
                "the database does not count statements: load pg_stat_statements when it starts",
                "databasen teller ikke setninger: last pg_stat_statements når den starter",
                "databasen räknar inte satser: ladda pg_stat_statements när den startar"
            ),
        ),
        None => Finding::unseen(
            place,
            words!(
                "none of {operations} operations asked the database",
                "ingen av {operations} operasjoner spurte databasen",
                "ingen av {operations} operationer frågade databasen"
            ),
        ),
        Some((path, statement, times)) => Finding::when(
            *times < MANY,
            place,
            words!(
                "{path} runs one statement {times} times, more than any of {with} operations that ask the database: {statement}",
                "{path} kjører én setning {times} ganger, mer enn noen annen av {with} operasjoner som spør databasen: {statement}",
                "{path} kör en sats {times} gånger, mer än någon annan av {with} operationer som frågar databasen: {statement}"
            ),
        ),
    }
}

fn columns(seen: &Seen) -> Finding {
    let place = ("data.selective-fetch", "columns");
    let all = seen.statements;
    if let Some(first) = seen.stars.first() {
        let stars = seen.stars.len();
        return Finding::broken(
            place,
            words!(
                "{stars} of {all} statements ask for all columns, first {first}",
                "{stars} av {all} setninger ber om alle kolonner, først {first}",
                "{stars} av {all} satser ber om alla kolumner, först {first}"
            ),
        );
    }
    if all == 0 {
        return Finding::unseen(
            place,
            words!("no statement was seen", "ingen setning ble sett", "ingen sats sågs"),
        );
    }
    match seen.wide.first() {
        // Whether it is used is not to be seen here.
        Some(column) => Finding::unseen(
            place,
            words!(
                "no SELECT * in {all} statements, but {column}, which is wide, is in one: is it used?",
                "ingen SELECT * i {all} setninger, men {column}, som er bred, er i en: brukes den?",
                "ingen SELECT * i {all} satser, men {column}, som är bred, finns i en: används den?"
            ),
        ),
        None => Finding::held(
            place,
            words!(
                "no SELECT * and no column of {WIDE} bytes or more in {all} statements",
                "ingen SELECT * og ingen kolonne på {WIDE} byte eller mer i {all} setninger",
                "ingen SELECT * och ingen kolumn på {WIDE} byte eller mer i {all} satser"
            ),
        ),
    }
}

fn by_hand(seen: &Seen) -> Finding {
    let place = ("sec.parameterized-queries", "statements");
    let Seen { marked, placeholders, .. } = seen;
    if let Some(first) = seen.by_hand.first() {
        return Finding::broken(
            place,
            words!(
                "a value that was sent is in the SQL itself: {first}",
                "en verdi som ble sendt, står i selve SQL-en: {first}",
                "ett värde som skickades står i själva SQL:en: {first}"
            ),
        );
    }
    if *marked == 0 || *placeholders == 0 {
        return Finding::unseen(
            place,
            words!(
                "{marked} requests with a made-up value, {placeholders} statements with placeholders seen",
                "{marked} forespørsler med en oppdiktet verdi, {placeholders} setninger med plassholdere sett",
                "{marked} anrop med ett påhittat värde, {placeholders} satser med platshållare sedda"
            ),
        );
    }
    Finding::held(
        place,
        words!(
            "{placeholders} statements with placeholders; none of {marked} made-up values is in any",
            "{placeholders} setninger med plassholdere; ingen av {marked} oppdiktede verdier står i noen",
            "{placeholders} satser med platshållare; inget av {marked} påhittade värden står i någon"
        ),
    )
}

/// What one request added to the counters.
async fn growth(
    world: &World,
    database: &Database,
    session: Option<&Session>,
    path: &str,
) -> BTreeMap<String, i64> {
    let before = explain::calls(database).await.unwrap_or_default();
    let Some(site) = &world.site else { return BTreeMap::new() };
    let ask = Ask::get(path).with("accept", "application/json, text/html;q=0.5");
    // All turns are ours, so this does not wait for one.
    let _ = site.ask(session.map_or(ask.clone(), |session| session.on(ask))).await;
    let after = explain::calls(database).await.unwrap_or_default();
    let grown = after.into_iter().filter_map(|(text, calls)| {
        let more = calls - before.get(&text).copied().unwrap_or_default();
        (more > 0).then_some((text, more))
    });
    grown.collect()
}

struct Marked {
    requests: usize,
    texts: BTreeSet<String>,
    by_hand: Vec<String>,
}

/// Asks with values that nobody else sends, and looks for them in what the database runs.
async fn marked(world: &Rc<World>, database: &Database, session: Option<&Session>) -> Marked {
    let mut found = Marked { requests: 0, texts: BTreeSet::new(), by_hand: Vec::new() };
    for (path, value) in marked_paths(world).await.into_iter().take(16) {
        found.requests += 1;
        let mut keep = |texts: Vec<String>| {
            for text in texts.into_iter().filter(|text| explain::reads(text)) {
                if text.contains(&value) && !found.by_hand.contains(&text) {
                    found.by_hand.push(text.clone());
                }
                if found.texts.len() < 300 {
                    found.texts.insert(text);
                }
            }
        };
        let asking = async { drop(read(world, session, &path).await) };
        tokio::pin!(asking);
        loop {
            tokio::select! {
                () = &mut asking => break,
                texts = explain::current(database) => keep(texts),
            }
        }
        keep(explain::current(database).await);
    }
    found
}

/// Reading requests, each with a value of its own in its path or query.
async fn marked_paths(world: &Rc<World>) -> Vec<(String, String)> {
    let number = || fastrand::u32(700_000_000..800_000_000).to_string();
    let word = || format!("klarq{:08x}", fastrand::u32(..));
    let mut paths = Vec::new();
    if let Some(api) = world.api().await {
        for operation in api.operations.iter().filter(|operation| operation.reads()) {
            for parameter in
                operation.parameters.iter().filter(|each| ["path", "query"].contains(&each.place.as_str()))
            {
                let kind = crate::world::api::kind(&parameter.schema);
                let free = ["enum", "format", "pattern", "maximum"]
                    .iter()
                    .all(|key| parameter.schema.get(*key).is_none());
                let value = match kind {
                    "string" if free => word(),
                    "integer" | "number" if parameter.schema.get("maximum").is_none() => number(),
                    _ => continue,
                };
                let given = BTreeMap::from([(parameter.name.clone(), value.clone())]);
                paths.push((operation.example(&given).path, value));
            }
        }
    }
    if paths.is_empty()
        && let Ok(crawl) = world.crawl().await
    {
        for (path, _) in crawl.all() {
            let Some((start, old)) = path.rsplit_once('=') else { continue };
            let value = if old.chars().all(|c| c.is_ascii_digit()) { number() } else { word() };
            paths.push((format!("{start}={value}"), value));
        }
    }
    paths
}

async fn names(database: &Database, sql: &str) -> Vec<String> {
    let rows = database.rows(sql).await.unwrap_or_default();
    rows.iter().map(|row| row.text("name").to_owned()).collect()
}

fn words_of(text: &str) -> Vec<String> {
    let text = text.replace('"', "").replace('(', " ( ").replace(')', " ) ");
    let words = text.split(|c: char| !c.is_alphanumeric() && !['_', '*', '.', '(', ')'].contains(&c));
    words.filter(|word| !word.is_empty()).map(str::to_lowercase).collect()
}

/// `SELECT * FROM table` and `SELECT t.* FROM table t`; but not `count(*)`, and not all columns of a part of the
/// statement that names its own.
fn is_for_all_columns(text: &str, tables: &[String]) -> bool {
    let words = words_of(text);
    let is_table = |name: &str| {
        let name = name.rsplit('.').next().unwrap_or_default();
        tables.iter().any(|table| table.eq_ignore_ascii_case(name))
    };
    words.iter().enumerate().any(|(at, word)| {
        if word == "*" {
            let after_select = at.checked_sub(1).and_then(|before| words.get(before));
            let from = words.get(at + 1).is_some_and(|next| next == "from");
            return after_select.is_some_and(|before| before == "select" || before == "distinct")
                && from
                && words.get(at + 2).is_some_and(|name| is_table(name));
        }
        let Some(alias) = word.strip_suffix(".*") else { return false };
        // `count(t.*)` counts rows.
        let counts =
            at.checked_sub(2).and_then(|before| words.get(before)).is_some_and(|before| before == "count");
        !counts
            && words.iter().enumerate().any(|(at, name)| {
                let follows = |skip: usize| words.get(at + skip).is_some_and(|next| next == alias);
                is_table(name)
                    && (name == alias
                        || follows(1)
                        || words.get(at + 1).is_some_and(|next| next == "as") && follows(2))
            })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_columns() {
        let tables = ["orders", "users"].map(String::from);
        for (text, all) in [
            ("SELECT * FROM orders WHERE id = $1", true),
            ("select o.*, u.name FROM orders o JOIN users AS u ON true", true),
            ("SELECT u.* FROM public.users AS u", true),
            ("SELECT \"orders\".\"id\" FROM \"orders\"", false),
            ("SELECT \"orders\".* FROM \"orders\"", true),
            ("SELECT id FROM orders", false),
            ("SELECT count(*) FROM orders", false),
            ("SELECT count(o.*) FROM orders o", false),
            ("WITH page AS (SELECT id FROM orders) SELECT * FROM page", false),
            ("SELECT p.* FROM (SELECT id FROM orders) p", false),
        ] {
            assert_eq!(is_for_all_columns(text, &tables), all, "{text}");
        }
    }
}
