//! Witnesses: what was in all tables at one place of the log, so that a restored copy can be compared with it.
//!
//! The place is a named restore point, at which nobody writes: all tables of a database are locked against writers, the
//! restore point is made, the state is exported as a snapshot, and the locks go again. That takes a few milliseconds. The
//! rows are then read from the exported snapshot, for as long as it takes, with nobody waiting.

use std::time::Duration;

use jiff::Timestamp;

use crate::lsn::Lsn;
use crate::point::{TableCount, Witness};
use crate::server::session::{PATIENCE, identifier, literal};
use crate::server::{Door, Session, SessionError};

/// How long writers may be kept waiting, and how often it is tried.
const LOCK: &str = "300ms";
const TRIES: u32 = 20;
/// Reading all rows may take so long.
const READING: Duration = Duration::from_secs(4 * 3600);
/// A database with more tables than that is compared in this many.
const TABLES_MAX: usize = 2000;

/// How much is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Depth {
    /// All rows of all tables.
    Full,
    /// Of each table about so many bytes: pages chosen by chance, the same in every copy.
    Sampled(u64),
}

struct Table {
    schema: String,
    name: String,
    share: u8,
}

/// Writes down what is in all tables. `None`: writers did not let go, or a table was dropped meanwhile, every time.
///
/// # Errors
/// The server.
pub fn take(door: &Door, name: &str, depth: Depth) -> Result<Option<Witness>, SessionError> {
    for _ in 0..TRIES {
        match once(door, name, depth) {
            // 55P03: lock not available; 42P01, 3F000: a table or schema is gone; 40P01: deadlock.
            Err(error) if ["55P03", "42P01", "3F000", "40P01"].iter().any(|code| error.is_code(code)) => {
                std::thread::sleep(Duration::from_millis(250));
            }
            taken => return taken.map(Some),
        }
    }
    Ok(None)
}

fn once(door: &Door, name: &str, depth: Depth) -> Result<Witness, SessionError> {
    let mut held = Vec::new();
    for database in databases(door)? {
        let door = door.to(&database);
        let tables = tables(&Session::open(&door)?, depth)?;
        let session = Session::open(&door)?;
        session.run(&format!("begin isolation level repeatable read; set local lock_timeout = '{LOCK}'"))?;
        for some in tables.chunks(100) {
            let names: Vec<String> = some.iter().map(|table| format!("only {}", table.quoted())).collect();
            session.run(&format!("lock table {} in share mode", names.join(", ")))?;
        }
        held.push((door, database, session, tables));
    }
    // Nobody writes now, in any database.
    let Some((_, _, first, _)) = held.first() else {
        return Err(Session::open(door)?.answer("database that can be connected to"));
    };
    let sql = format!(
        "select pg_create_restore_point({}), (extract(epoch from clock_timestamp()) * 1000000)::bigint",
        literal(name)
    );
    let row = first.row(&sql, "restore point")?;
    let (lsn, time): (Lsn, Timestamp) = (first.column(&row, 0, "restore point")?, first.time(&row, 1)?);
    let mut readers = Vec::new();
    for (door, database, session, tables) in held {
        let row = session.row("select pg_export_snapshot()", "snapshot")?;
        let exported = row.get(0).unwrap_or_default().to_owned();
        let reader = Session::open(&door)?;
        reader.run(&format!(
            "begin isolation level repeatable read, read only; set transaction snapshot {}",
            literal(&exported)
        ))?;
        // Takes hold of the snapshot; then writers may go on.
        reader.run("select 1")?;
        session.run("commit")?;
        readers.push((reader, database, tables));
    }
    let mut counts = Vec::new();
    for (reader, database, tables) in readers {
        for table in tables {
            counts.push(count(&reader, &database, &table)?);
        }
        reader.run("commit")?;
    }
    counts.sort_unstable();
    Ok(Witness { name: name.to_owned(), lsn, time, tables: counts })
}

/// Counts the same tables in a copy. A table that is not there is missing in the answer.
///
/// # Errors
/// The server.
pub fn again(door: &Door, witness: &Witness) -> Result<Vec<TableCount>, SessionError> {
    let mut counts = Vec::new();
    let mut session: Option<(String, Session)> = None;
    for was in &witness.tables {
        let is_open = session.as_ref().is_some_and(|(database, _)| *database == was.database);
        if !is_open {
            session = Some((was.database.clone(), Session::open(&door.to(&was.database))?));
        }
        let Some((_, open)) = &session else { continue };
        let table = Table { schema: was.schema.clone(), name: was.table.clone(), share: was.share };
        match count(open, &was.database, &table) {
            Ok(count) => counts.push(count),
            Err(error) if error.is_code("42P01") || error.is_code("3F000") => {}
            Err(error) => return Err(error),
        }
    }
    Ok(counts)
}

fn databases(door: &Door) -> Result<Vec<String>, SessionError> {
    let session = Session::open(door)?;
    let sql = "select datname from pg_database where datallowconn and not datistemplate order by datname";
    let rows = session.rows(sql, PATIENCE)?;
    Ok(rows.iter().filter_map(|row| row.get(0).map(str::to_owned)).collect())
}

/// Ordinary tables and materialised views that are in the log: none that is temporary or unlogged.
fn tables(session: &Session, depth: Depth) -> Result<Vec<Table>, SessionError> {
    let sql = format!(
        "select nspname, relname, pg_relation_size(c.oid) from pg_class c join pg_namespace n on n.oid = relnamespace
         where relkind = 'r' and relpersistence = 'p' and nspname not like 'pg\\_%' and nspname <> 'information_schema'
         order by nspname, relname limit {TABLES_MAX}"
    );
    let rows = session.rows(&sql, PATIENCE)?;
    let table = |row: &tokio_postgres::SimpleQueryRow| {
        let bytes: u64 = row.get(2).and_then(|size| size.parse().ok()).unwrap_or_default();
        let share = match depth {
            Depth::Sampled(enough) if bytes > enough => {
                (enough.saturating_mul(100) / bytes).clamp(1, 99) as u8
            }
            _ => 100,
        };
        let text = |at| row.get(at).unwrap_or_default().to_owned();
        Table { schema: text(0), name: text(1), share }
    };
    Ok(rows.iter().map(table).collect())
}

fn count(session: &Session, database: &str, table: &Table) -> Result<TableCount, SessionError> {
    let rows = session.rows(&sql(&table.quoted(), table.share), READING)?;
    let row = rows.first().ok_or_else(|| session.answer("count of rows"))?;
    Ok(TableCount {
        database: database.to_owned(),
        schema: table.schema.clone(),
        table: table.name.clone(),
        share: table.share,
        rows: session.column(row, 0, "count of rows")?,
        digest: row.get(1).unwrap_or_default().to_owned(),
    })
}

/// What gives the number of rows and their digest of a table, of which `share` percent are read.
pub(crate) fn sql(quoted: &str, share: u8) -> String {
    // Pages are those of the same numbers in every physical copy.
    let sample = match share {
        100.. => String::new(),
        share => format!(" tablesample system ({share}) repeatable (1)"),
    };
    format!(
        "select count(*), coalesce(sum(hashtextextended(t::text, 0)::numeric), 0) from only {quoted} as t{sample}"
    )
}

impl Table {
    fn quoted(&self) -> String {
        format!("{}.{}", identifier(&self.schema), identifier(&self.name))
    }
}
