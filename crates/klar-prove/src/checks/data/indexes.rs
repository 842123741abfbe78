//! Does the database find what it is asked for, or does it read everything each time?

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::explain::{self, Statement};
use crate::check::{About, Disturbs, Fault, Finding, Need, Probe, Unable};
use crate::checks::running::{anybody, good_reads, read};
use crate::words;
use crate::words::Words;
use crate::world::World;
use crate::world::database::{Database, Row};

/// Indexes that are missing, or of no use.
pub struct Indexes;

/// What the catalogue, the counters and the plans say.
#[derive(Debug, Serialize, Deserialize)]
pub struct Seen {
    /// Hours since the counters began, where that is known.
    counted_h: Option<i64>,
    /// How many indexes there are that no constraint needs, on tables large enough for an index to be used.
    looked: usize,
    /// Pairs of indexes that are the same.
    twins: Vec<(String, String)>,
    /// Indexes that were never used.
    unused: Vec<String>,
    /// Foreign keys that no index supports.
    keys: Vec<Key>,
    /// The rows of the largest table.
    largest: i64,
    /// Tables with enough rows to judge plans by.
    large: usize,
    /// Statements that a plan was made for, and those that none could be made for.
    planned: usize,
    unplanned: usize,
    /// Whether `pg_stat_statements` told them.
    counted: bool,
    scans: Vec<Read>,
    /// Large tables that were read through in the meantime: the table, and how often.
    read_through: Vec<(String, i64)>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Key {
    table: String,
    columns: String,
    parent: String,
    rows: i64,
    parent_rows: i64,
    /// Rows of the parent that were deleted: each of them had the whole child read.
    deleted: i64,
}

/// A statement that reads a large table through, and was seen to.
#[derive(Debug, Serialize, Deserialize)]
struct Read {
    statement: String,
    table: String,
    rows: i64,
    calls: Option<i64>,
    /// The columns of the index that would help; empty when that could not be told.
    index: Vec<String>,
}

#[derive(Debug)]
struct Table {
    id: i64,
    name: String,
    rows: i64,
    read: i64,
}

/// Below this many rows the sentence of the catalogue says nothing.
const LARGE: i64 = 100_000;
/// Below this many rows reading all of them is as quick as an index, and PostgreSQL does that.
const WORTH_AN_INDEX: i64 = 10_000;
/// An index that nothing used for so long is used by nothing.
const LONG_ENOUGH_H: i64 = 30 * 24;
const MOST: usize = 20;
/// PostgreSQL tells its counters at most this late.
const LATE: Duration = Duration::from_secs(11);

impl Probe for Indexes {
    type Seen = Seen;

    const ABOUT: About = About {
        id: "indexes",
        version: 2,
        question: "Does each frequent question have an index, and is each index of use?",
        does: "Reads PostgreSQL's catalogue and counters, asks the site's reading operations twice, and has PostgreSQL plan (not run) the statements that the app asks. Read only.",
        shows: &[
            ("data.index", "plans"),
            ("data.index", "unused"),
            ("data.index", "proposals"),
            ("data.index", "control"),
        ],
        needs: &[Need::Database],
        disturbs: Disturbs::Nothing,
        good_for: Duration::from_secs(24 * 3600),
        limit: Duration::from_secs(55),
        faults: &[
            Fault::Database(&["DROP INDEX orders_of_club"], ("data.index", "plans")),
            Fault::Database(&["DROP INDEX orders_of_club"], ("data.index", "proposals")),
            Fault::Database(
                &["CREATE INDEX orders_again ON orders (club_id, placed_at, id)"],
                ("data.index", "unused"),
            ),
        ],
    };

    async fn look(world: Rc<World>) -> Result<Seen, Unable> {
        let database = world.database().await?;
        let since = database
            .row(
                "SELECT floor(extract(epoch FROM now() - stats_reset) / 3600)::bigint AS hours \
                 FROM pg_stat_database WHERE datname = current_database()",
            )
            .await?;
        let before = tables(&database).await?;
        let mut asked = BTreeSet::new();
        if world.site.is_some() {
            asked = ask_twice(&world, &database).await;
            tokio::time::sleep(world.patience(LATE)).await;
        }
        let after = tables(&database).await?;
        let large: BTreeMap<&str, &Table> = after
            .iter()
            .filter(|table| table.rows >= LARGE)
            .map(|table| (table.name.as_str(), table))
            .collect();
        let mut grown = BTreeMap::new();
        for was in &before {
            if let Some(table) = large.get(was.name.as_str()) {
                let times = (table.read - was.read) / table.rows.max(1);
                if times > 0 {
                    grown.insert(was.name.clone(), times);
                }
            }
        }
        let counted = explain::counted(&database).await;
        let is_counted = counted.is_some();
        let statements: Vec<Statement> = counted
            .unwrap_or_else(|| asked.into_iter().map(|text| Statement { text, calls: None }).collect());
        let (looked, twins, unused) = indexes(&database).await?;
        let keys = keys(&database).await?;
        let (mut planned, mut unplanned) = (0, 0);
        let mut scans = Vec::new();
        for statement in statements.iter().filter(|_| !large.is_empty()).take(100) {
            let Ok(plan) = explain::plan(&database, &statement.text).await else {
                unplanned += 1;
                continue;
            };
            planned += 1;
            for scan in explain::scans(&plan) {
                let Some(table) = large.get(scan.table.as_str()) else { continue };
                // A plan for any parameter is not yet what happens: the counters must say so too.
                let counted =
                    statement.calls.is_some_and(|calls| table.read / table.rows.max(1) >= (calls / 4).max(1));
                let really = counted || grown.contains_key(&scan.table);
                if really && scans.len() < MOST {
                    scans.push(Read {
                        statement: explain::without_values(&statement.text),
                        table: table.name.clone(),
                        rows: table.rows,
                        calls: statement.calls,
                        index: explain::index_for(&scan, &explain::columns(&database, table.id).await),
                    });
                }
            }
        }
        Ok(Seen {
            counted_h: since.text("hours").parse().ok(),
            looked,
            twins,
            unused,
            keys,
            largest: after.iter().map(|table| table.rows).max().unwrap_or_default(),
            large: large.len(),
            planned,
            unplanned,
            counted: is_counted,
            scans,
            read_through: grown.into_iter().take(MOST).collect(),
        })
    }

    fn judge(seen: &Seen) -> Vec<Finding> {
        let control = words!(
            "the probe drops an index and finds that: klar check --prove-probes",
            "proben fjerner en indeks og finner det: klar check --prove-probes",
            "proben tar bort ett index och hittar det: klar check --prove-probes"
        );
        vec![
            plans(seen),
            judge_unused(seen),
            proposals(seen),
            Finding::held(("data.index", "control"), control),
        ]
    }
}

fn plans(seen: &Seen) -> Finding {
    let place = ("data.index", "plans");
    let Seen { largest, planned, unplanned, .. } = seen;
    if let Some(first) = seen.scans.first() {
        let (Read { statement, table, rows, .. }, all) = (first, seen.scans.len());
        return Finding::broken(
            place,
            words!(
                "{all} statements read a whole table, first {table} with {rows} rows: {statement}",
                "{all} setninger leser en hel tabell, først {table} med {rows} rader: {statement}",
                "{all} satser läser en hel tabell, först {table} med {rows} rader: {statement}"
            ),
        );
    }
    if seen.large == 0 {
        return Finding::unseen(
            place,
            words!(
                "the largest table has {largest} rows; plans say something from {LARGE} on",
                "den største tabellen har {largest} rader; planer sier noe fra {LARGE} av",
                "den största tabellen har {largest} rader; planer säger något från {LARGE}"
            ),
        );
    }
    if let Some((table, times)) = seen.read_through.first() {
        return Finding::unseen(
            place,
            words!(
                "{table} was read through {times} times meanwhile, by a statement that could not be seen",
                "{table} ble lest gjennom {times} ganger imens, av en setning som ikke kunne ses",
                "{table} lästes igenom {times} gånger under tiden, av en sats som inte kunde ses"
            ),
        );
    }
    if *planned == 0 || unplanned > planned {
        return Finding::unseen(
            place,
            words!(
                "{planned} of the app's statements could be planned, {unplanned} could not; pg_stat_statements would tell more",
                "{planned} av appens setninger kunne planlegges, {unplanned} ikke; pg_stat_statements ville fortelle mer",
                "{planned} av appens satser kunde planeras, {unplanned} inte; pg_stat_statements skulle berätta mer"
            ),
        );
    }
    Finding::held(
        place,
        words!(
            "{planned} statements planned, none reads one of the tables with {LARGE} rows and more through ({unplanned} could not be planned)",
            "{planned} setninger planlagt, ingen leser gjennom noen av tabellene med {LARGE} rader eller mer ({unplanned} kunne ikke planlegges)",
            "{planned} satser planerade, ingen läser igenom någon av tabellerna med {LARGE} rader eller mer ({unplanned} kunde inte planeras)"
        ),
    )
}

fn judge_unused(seen: &Seen) -> Finding {
    let place = ("data.index", "unused");
    if let Some((one, other)) = seen.twins.first() {
        let all = seen.twins.len();
        return Finding::broken(
            place,
            words!(
                "{all} duplicates, first {one} beside {other}: DROP INDEX CONCURRENTLY {one}",
                "{all} doble, først {one} ved siden av {other}: DROP INDEX CONCURRENTLY {one}",
                "{all} dubbletter, först {one} bredvid {other}: DROP INDEX CONCURRENTLY {one}"
            ),
        );
    }
    let looked = seen.looked;
    let Some(first) = seen.unused.first() else {
        if looked == 0 {
            return Finding::unseen(
                place,
                words!(
                    "no index that no constraint needs is on a table with {WORTH_AN_INDEX} rows",
                    "ingen indeks som ingen begrensning trenger, er på en tabell med {WORTH_AN_INDEX} rader",
                    "inget index som inget villkor behöver finns på en tabell med {WORTH_AN_INDEX} rader"
                ),
            );
        }
        return Finding::held(
            place,
            words!(
                "all {looked} indexes are used, none is there twice",
                "alle {looked} indekser brukes, ingen finnes dobbelt",
                "alla {looked} index används, inget finns dubbelt"
            ),
        );
    };
    let (unused, days) = (seen.unused.len(), seen.counted_h.unwrap_or_default() / 24);
    let told = words!(
        "{unused} of {looked} indexes not used in {days} days of counting, first {first}",
        "{unused} av {looked} indekser ikke brukt på {days} dager med telling, først {first}",
        "{unused} av {looked} index inte använda på {days} dagars räkning, först {first}"
    );
    // What is not used in a rig or in a week may be what the month's end needs.
    if seen.counted_h.is_some_and(|hours| hours >= LONG_ENOUGH_H) {
        Finding::broken(place, told)
    } else {
        Finding::unseen(
            place,
            told.and(&words!("; 30 days say more", "; 30 dager sier mer", "; 30 dagar säger mer")),
        )
    }
}

fn proposals(seen: &Seen) -> Finding {
    let place = ("data.index", "proposals");
    let proposed = proposed(seen);
    let all = proposed.len();
    match proposed.into_iter().next() {
        Some((sql, why)) => Finding::broken(
            place,
            words!(
                "{all} missing, first: {sql}",
                "{all} mangler, først: {sql}",
                "{all} saknas, först: {sql}"
            )
            .and(&why),
        ),
        None if seen.planned == 0 => Finding::unseen(
            place,
            words!(
                "no statement of the app was seen",
                "ingen av appens setninger ble sett",
                "ingen av appens satser sågs"
            ),
        ),
        None => Finding::held(
            place,
            words!(
                "no foreign key and no statement that was seen lacks one",
                "ingen fremmednøkkel og ingen setning som ble sett, mangler noen",
                "ingen främmande nyckel och ingen sats som sågs saknar något"
            ),
        ),
    }
}

/// The statements that would make the indexes that the check found missing, each with its reason.
///
/// # Errors
/// When that is not what this check sees.
pub fn missing(seen: &serde_json::Value) -> Result<Vec<(String, Words)>, String> {
    Seen::deserialize(seen).map(|seen| proposed(&seen)).map_err(|why| why.to_string())
}

/// A name as SQL has it: in quotes where it would be read as something else without.
fn quoted(name: &str) -> String {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '_' | '.');
    let is_plain = name.chars().all(plain) && name.starts_with(|c: char| !c.is_ascii_digit());
    if is_plain || name.contains('"') { name.to_owned() } else { format!("\"{name}\"") }
}

fn proposed(seen: &Seen) -> Vec<(String, Words)> {
    let mut known = BTreeSet::new();
    let mut proposed = Vec::new();
    let mut propose = |table: &str, columns: String, why: Words| {
        if known.insert((table.to_owned(), columns.clone())) {
            proposed.push((format!("CREATE INDEX CONCURRENTLY ON {} ({columns})", quoted(table)), why));
        }
    };
    for read in seen.scans.iter().filter(|read| !read.index.is_empty()) {
        let statement = &read.statement;
        let columns: Vec<String> = read.index.iter().map(|name| quoted(name)).collect();
        propose(&read.table, columns.join(", "), Words::same(format!(" ({statement})")));
    }
    for key in &seen.keys {
        let Key { parent, rows, parent_rows, deleted, .. } = key;
        // Without an index a delete in the parent reads the whole child. Where nobody deletes and the parent is a
        // short list, an index would cost and help nothing.
        if *deleted > 0 || *rows >= LARGE && *parent_rows >= 1_000 {
            propose(
                &key.table,
                key.columns.clone(),
                words!(
                    " (foreign key to {parent}; {rows} rows)",
                    " (fremmednøkkel til {parent}; {rows} rader)",
                    " (främmande nyckel till {parent}; {rows} rader)"
                ),
            );
        }
    }
    proposed
}

async fn tables(database: &Database) -> Result<Vec<Table>, Unable> {
    let sql = "SELECT c.oid::bigint AS id, c.relname AS name, \
        GREATEST(c.reltuples::bigint, s.n_live_tup, 0) AS rows, COALESCE(s.seq_tup_read, 0) AS read \
        FROM pg_class c JOIN pg_stat_user_tables s ON s.relid = c.oid WHERE c.relkind = 'r' \
        ORDER BY 3 DESC LIMIT 500";
    let table = |row: &Row| Table {
        id: row.number("id"),
        name: row.text("name").to_owned(),
        rows: row.number("rows"),
        read: row.number("read"),
    };
    Ok(database.rows(sql).await?.iter().map(table).collect())
}

type Found = (usize, Vec<(String, String)>, Vec<String>);

async fn indexes(database: &Database) -> Result<Found, Unable> {
    // Two indexes are the same when they give the same answers: unique or not, what one finds the other finds.
    let sql = "SELECT i.indexrelid::regclass::text AS name, COALESCE(s.idx_scan, 0) AS scans, \
        GREATEST(t.reltuples, 0)::bigint AS rows, \
        i.indisunique OR i.indisreplident OR EXISTS (SELECT FROM pg_constraint k WHERE k.conindid = i.indexrelid) AS needed, \
        EXISTS (SELECT FROM pg_constraint k WHERE k.contype = 'f' AND k.conrelid = i.indrelid AND \
          (i.indkey::int2[])[0:cardinality(k.conkey) - 1] @> k.conkey) AS supports, \
        concat_ws('|', i.indrelid, c.relam, i.indnkeyatts, i.indkey, i.indclass, i.indcollation, i.indoption, \
          pg_get_expr(i.indpred, i.indrelid), '/', pg_get_expr(i.indexprs, i.indrelid)) AS shape \
        FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_class t ON t.oid = i.indrelid \
        JOIN pg_stat_user_indexes s ON s.indexrelid = i.indexrelid WHERE i.indisvalid \
        ORDER BY needed DESC, i.indexrelid LIMIT 2000";
    let mut shapes: BTreeMap<String, String> = BTreeMap::new();
    let (mut looked, mut twins, mut unused) = (0, Vec::new(), Vec::new());
    for row in database.rows(sql).await? {
        let name = row.text("name").to_owned();
        match shapes.get(row.text("shape")) {
            Some(first) => {
                // Two constraints may each need their own.
                if !row.is("needed") && twins.len() < MOST {
                    twins.push((name.clone(), first.clone()));
                }
            }
            None => drop(shapes.insert(row.text("shape").to_owned(), name.clone())),
        }
        // The index of a foreign key is there for the day on which somebody deletes.
        if !row.is("needed") && !row.is("supports") && row.number("rows") >= WORTH_AN_INDEX {
            looked += 1;
            if row.number("scans") == 0 && unused.len() < MOST {
                unused.push(name);
            }
        }
    }
    Ok((looked, twins, unused))
}

async fn keys(database: &Database) -> Result<Vec<Key>, Unable> {
    let sql = format!(
        "SELECT k.conrelid::regclass::text AS table, k.confrelid::regclass::text AS parent, \
         (SELECT string_agg(quote_ident(a.attname), ', ' ORDER BY array_position(k.conkey, a.attnum)) \
          FROM pg_attribute a WHERE a.attrelid = k.conrelid AND a.attnum = ANY (k.conkey)) AS columns, \
         c.reltuples::bigint AS rows, GREATEST(p.reltuples, 0)::bigint AS parent_rows, \
         COALESCE(s.n_tup_del, 0) AS deleted \
         FROM pg_constraint k JOIN pg_class c ON c.oid = k.conrelid JOIN pg_class p ON p.oid = k.confrelid \
         LEFT JOIN pg_stat_user_tables s ON s.relid = k.confrelid \
         WHERE k.contype = 'f' AND k.conparentid = 0 AND c.reltuples >= {WORTH_AN_INDEX} \
         AND NOT EXISTS (SELECT FROM pg_index i WHERE i.indrelid = k.conrelid AND i.indisvalid AND i.indpred IS NULL \
           AND (i.indkey::int2[])[0:cardinality(k.conkey) - 1] @> k.conkey) \
         ORDER BY c.reltuples DESC LIMIT 50"
    );
    let key = |row: &Row| Key {
        table: row.text("table").to_owned(),
        columns: row.text("columns").to_owned(),
        parent: row.text("parent").to_owned(),
        rows: row.number("rows"),
        parent_rows: row.number("parent_rows"),
        deleted: row.number("deleted"),
    };
    Ok(database.rows(&sql).await?.iter().map(key).collect())
}

/// Asks the site's reading operations, and gives the statements that the app's connections were seen with.
async fn ask_twice(world: &Rc<World>, database: &Database) -> BTreeSet<String> {
    let session = anybody(world).await;
    let mut seen = BTreeSet::new();
    let mut keep = |texts: Vec<String>| {
        for text in texts {
            if explain::reads(&text) && seen.len() < 200 {
                seen.insert(text);
            }
        }
    };
    for path in good_reads(world, session.as_ref()).await.unwrap_or_default() {
        let asking = async { drop(read(world, session.as_ref(), &path).await) };
        tokio::pin!(asking);
        loop {
            tokio::select! {
                () = &mut asking => break,
                texts = explain::current(database) => keep(texts),
            }
        }
        keep(explain::current(database).await);
    }
    seen
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::Saw;

    fn seen() -> Seen {
        Seen {
            counted_h: Some(2),
            looked: 3,
            twins: vec![],
            unused: vec![],
            keys: vec![],
            largest: 120_000,
            large: 1,
            planned: 5,
            unplanned: 1,
            counted: true,
            scans: vec![],
            read_through: vec![],
        }
    }

    #[test]
    fn plans_are_judged_where_there_are_rows() {
        for (seen, saw) in [
            (seen(), Saw::Held),
            (Seen { large: 0, ..seen() }, Saw::Unseen),
            (Seen { planned: 0, ..seen() }, Saw::Unseen),
            (Seen { unplanned: 9, ..seen() }, Saw::Unseen),
            (Seen { read_through: vec![("orders".into(), 3)], ..seen() }, Saw::Unseen),
        ] {
            assert_eq!(plans(&seen).saw, saw, "{seen:?}");
        }
    }

    #[test]
    fn an_index_is_unused_after_a_month() {
        let unused = |counted_h| Seen { unused: vec!["i".into()], counted_h, ..seen() };
        for (seen, saw) in [
            (seen(), Saw::Held),
            (unused(Some(2)), Saw::Unseen),
            (unused(None), Saw::Unseen),
            (unused(Some(31 * 24)), Saw::Broken),
            (Seen { looked: 0, ..seen() }, Saw::Unseen),
        ] {
            assert_eq!(judge_unused(&seen).saw, saw, "{seen:?}");
        }
    }

    #[test]
    fn foreign_keys_to_short_lists_need_no_index() {
        let key = |rows, parent_rows, deleted| Key {
            table: "lines".into(),
            columns: "kind".into(),
            parent: "kinds".into(),
            rows,
            parent_rows,
            deleted,
        };
        for (key, proposed) in [
            (key(120_000, 10, 0), false),
            (key(120_000, 5_000, 0), true),
            (key(20_000, 5_000, 0), false),
            (key(20_000, 10, 3), true),
        ] {
            let seen = Seen { keys: vec![key], ..seen() };
            assert_eq!(proposals(&seen).saw == Saw::Broken, proposed, "{seen:?}");
        }
    }
}
