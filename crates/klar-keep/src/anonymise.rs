//! A copy that people may look at: what says something of a person is replaced, by rules that somebody has written down.
//!
//! **Invariant:** a column that no rule is about makes it fail: nobody looks at what nobody has thought of. A copy that was
//! not anonymised to the end is never handed out.
//!
//! Replacing values is not enough: what was there before is in dead rows, in the statistics of columns, in other databases
//! of the cluster and in the passwords of roles. All of it goes. What is left is what can be asked for over a connection; files
//! of a copy are handed out to nobody.

use std::collections::BTreeMap;
use std::time::Duration;

use klar_base::anonymise::{Means, Rule};

use crate::keeper::KeepError;
use crate::server::session::{PATIENCE, identifier, literal};
use crate::server::{Door, Session, SessionError};

/// All of a table is written anew.
const LONG: Duration = Duration::from_secs(3600);
/// So many columns are named when nobody has said what they are.
const SHOWN: usize = 20;

/// What was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Done {
    /// Tables whose rows were replaced or removed.
    pub tables: usize,
    /// Columns that were replaced.
    pub columns: usize,
}

/// A column of a table that the app has made.
#[derive(Debug)]
struct Column {
    schema: String,
    table: String,
    name: String,
    is_partitioned: bool,
    may_be_null: bool,
    /// PostgreSQL's category of its type: `S` for texts, `N` for numbers.
    category: String,
    /// The name of the type beneath: `varchar`, `jsonb`.
    kind: String,
    /// As it is written: `character varying(40)`.
    written: String,
    /// Letters that it may have.
    length: Option<u32>,
}

// Tables of extensions are the extension's; partitions get what becomes of the table they are of.
const COLUMNS: &str = "
select space.nspname, class.relname, attribute.attname, class.relkind, attribute.attnotnull, base.typcategory, base.typname,
  format_type(attribute.atttypid, attribute.atttypmod),
  case when base.typname in ('varchar', 'bpchar') and attribute.atttypmod > 4 then attribute.atttypmod - 4 end
from pg_class class
  join pg_namespace space on space.oid = class.relnamespace
  join pg_attribute attribute on attribute.attrelid = class.oid
  join pg_type own on own.oid = attribute.atttypid
  join pg_type base on base.oid = case own.typtype when 'd' then own.typbasetype else own.oid end
where class.relkind in ('r', 'p') and not class.relispartition
  and space.nspname <> 'information_schema' and space.nspname !~ '^pg_'
  and attribute.attnum > 0 and not attribute.attisdropped and attribute.attgenerated = ''
  and not exists (select from pg_depend where classid = 'pg_class'::regclass and objid = class.oid and deptype = 'e')
order by 1, 2, attribute.attnum";

/// What holds data and cannot be replaced.
const OTHERS: &str = "
select 'foreign table ' || ftrelid::regclass::text from pg_foreign_table
union all select 'large object ' || oid from (select oid from pg_largeobject_metadata limit 1) one";

/// Replaces all that the rules say, in `door`'s database of a copy that is this process' own. All other databases go.
///
/// # Errors
/// A column that no rule is about; a rule that its column cannot follow; PostgreSQL. The copy must be thrown away then.
pub fn anonymise(door: &Door, rules: &[Rule]) -> Result<Done, KeepError> {
    let session = Session::open(door)?;
    let others = session.rows(OTHERS, PATIENCE)?;
    if let Some(other) = others.first().and_then(|row| row.get(0)) {
        return Err(lack(
            format!("{other}: what is in it cannot be replaced"),
            "remove it, or make a copy without `--anonymise`",
        ));
    }
    let columns = columns(&session)?;
    let means = classified(&columns, rules)?;
    // Triggers and foreign keys would see half of it.
    session.run("set session_replication_role = replica")?;
    let mut salt = [0; 16];
    random(&mut salt)?;
    let salt: String = salt.iter().map(|byte| format!("{byte:02x}")).collect();
    let mut done = Done::default();
    for ((schema, table), columns) in &means {
        let name = format!("{}.{}", identifier(schema), identifier(table));
        let only = if columns.iter().any(|(column, _)| column.is_partitioned) { "" } else { "only " };
        if columns.iter().any(|(_, means)| *means == Means::Empty) {
            session.rows(&format!("delete from {only}{name}"), LONG)?;
            done.tables += 1;
            continue;
        }
        let mut sets = Vec::new();
        for (column, means) in columns {
            if let Some(value) = replaced(column, *means, &salt)? {
                sets.push(format!("{} = {value}", identifier(&column.name)));
            }
        }
        if !sets.is_empty() {
            let sql = format!("update {only}{name} set {}", sets.join(", "));
            session.rows(&sql, LONG).map_err(|error| said(&name, error))?;
            done.tables += 1;
            done.columns += sets.len();
        }
    }
    forget(&session, &door.database)?;
    Ok(done)
}

/// What the cluster knows besides: what rows were before, what columns mostly had, other databases, passwords.
fn forget(session: &Session, database: &str) -> Result<(), KeepError> {
    let one = |sql: &str| -> Result<Vec<String>, SessionError> {
        let rows = session.rows(sql, PATIENCE)?;
        Ok(rows.iter().filter_map(|row| row.get(0).map(str::to_owned)).collect())
    };
    let others = format!(
        "select quote_ident(datname) from pg_database where not datistemplate and datname <> {}",
        literal(database)
    );
    for other in one(&others)? {
        session.rows(&format!("drop database {other} with (force)"), LONG)?;
    }
    for role in one("select quote_ident(rolname) from pg_authid where rolpassword is not null")? {
        session.run(&format!("alter role {role} password null"))?;
    }
    // Each may be made of others.
    let views = one("select oid::regclass::text from pg_class where relkind = 'm' order by oid")?;
    for view in views {
        session.rows(&format!("refresh materialized view {view}"), LONG)?;
    }
    session.run("delete from pg_statistic; delete from pg_statistic_ext_data")?;
    session.rows("vacuum full", LONG)?;
    session.rows("analyze", LONG)?;
    Ok(())
}

fn columns(session: &Session) -> Result<Vec<Column>, KeepError> {
    let rows = session.rows(COLUMNS, PATIENCE)?;
    let column = |row: &tokio_postgres::SimpleQueryRow| {
        let text = |at: usize| row.get(at).unwrap_or_default().to_owned();
        Column {
            schema: text(0),
            table: text(1),
            name: text(2),
            is_partitioned: text(3) == "p",
            may_be_null: text(4) == "f",
            category: text(5),
            kind: text(6),
            written: text(7),
            length: text(8).parse().ok(),
        }
    };
    Ok(rows.iter().map(column).collect())
}

type Classified<'a> = BTreeMap<(&'a str, &'a str), Vec<(&'a Column, Means)>>;

fn classified<'a>(columns: &'a [Column], rules: &[Rule]) -> Result<Classified<'a>, KeepError> {
    let mut found: Classified<'a> = BTreeMap::new();
    let mut unknown = Vec::new();
    for column in columns {
        let of_table = rules.iter().filter(|rule| rule.schema == column.schema && rule.table == column.table);
        let own = of_table.clone().find(|rule| rule.column.as_deref() == Some(&column.name));
        match own.or_else(|| of_table.clone().find(|rule| rule.column.is_none())) {
            Some(rule) => {
                let of = found.entry((&*column.schema, &*column.table)).or_default();
                of.push((column, rule.means));
            }
            None => unknown.push(column),
        }
    }
    if unknown.is_empty() {
        return Ok(found);
    }
    let named = |column: &&Column| match &*column.schema {
        "public" => format!("{}.{}", column.table, column.name),
        schema => format!("{schema}.{}.{}", column.table, column.name),
    };
    let mut names: Vec<String> = unknown.iter().take(SHOWN).map(named).collect();
    if unknown.len() > SHOWN {
        names.push(format!("{} more", unknown.len() - SHOWN));
    }
    Err(lack(
        format!("nobody has said what becomes of {}", names.join(", ")),
        "say it of each in klar.toml and run `klar up`: [backup] anonymise = [\"users.email email\", \"users.* keep\"]; \
         `klar explain backup.anonymise` shows all words",
    ))
}

/// What a value becomes, in SQL; `None`: it stays.
fn replaced(column: &Column, means: Means, salt: &str) -> Result<Option<String>, KeepError> {
    let value = identifier(&column.name);
    let digest = format!("md5({} || {value}::text)", literal(salt));
    let cannot = |why: &str| {
        let what =
            format!("{}.{}.{} is `{}`: {why}", column.schema, column.table, column.name, column.written);
        lack(what, "choose another word for it in [backup] anonymise")
    };
    let is_text = column.category == "S";
    let cut = |text: String| match column.length {
        Some(length) => format!("left({text}, {length})"),
        None => text,
    };
    let of_text = |text: String| match is_text {
        true => Ok(Some(format!("({})::{}", cut(text), column.written))),
        false => Err(cannot("only texts become that")),
    };
    match means {
        // Nothing is left of the table.
        Means::Keep | Means::Empty => Ok(None),
        Means::Null if column.may_be_null => Ok(Some("null".into())),
        Means::Null => Err(cannot("it may not be null; `blank` is possible")),
        Means::Blank => {
            let blank = match (&*column.category, &*column.kind) {
                (_, "json" | "jsonb") | ("A", _) => "{}",
                (_, "bytea") | ("S", _) => "",
                (_, "uuid") => "00000000-0000-0000-0000-000000000000",
                ("N", _) => "0",
                ("B", _) => "false",
                ("D", _) => "2000-01-01",
                ("T", _) => "0",
                _ => return Err(cannot("there is no blank of that type")),
            };
            let blank = format!("{}::{}", literal(blank), column.written);
            Ok(Some(format!("case when {value} is not null then {blank} end")))
        }
        Means::Hash if column.kind == "uuid" => Ok(Some(format!("{digest}::uuid"))),
        Means::Hash => of_text(digest),
        Means::Email => of_text(format!("substr({digest}, 1, 12) || '@example.invalid'")),
        Means::Name => of_text(format!("'Person ' || substr({digest}, 1, 8)")),
        // A code that belongs to no country (ITU-T E.164, list of assigned codes: 999 is a spare one).
        Means::Phone => of_text(format!("'+999' || translate(substr({digest}, 1, 8), 'abcdef', '012345')")),
        Means::Year => match &*column.category {
            "D" if column.kind != "time" && column.kind != "timetz" => {
                Ok(Some(format!("date_trunc('year', {value})::{}", column.written)))
            }
            _ => Err(cannot("only dates have a year")),
        },
    }
}

fn random(bytes: &mut [u8]) -> Result<(), KeepError> {
    use ring::rand::SecureRandom;
    let filled = ring::rand::SystemRandom::new().fill(bytes);
    filled.map_err(|_| lack("the system gives no random bytes".into(), "try again"))
}

fn said(table: &str, error: SessionError) -> KeepError {
    lack(
        format!("{table}: {error}"),
        "a column that has to be unique cannot become `blank`: `hash`, `email` and `keep` stay unique",
    )
}

fn lack(what: String, hint: &str) -> KeepError {
    KeepError::Lack { what, hint: hint.to_owned() }
}
