//! Single tables: out of a copy of the database as it was, into a schema of their own beside what is there now.
//!
//! Nothing is overwritten: what to do with the rows is for people to say. Indexes, constraints and sequences come along;
//! foreign keys and triggers do not, since they would speak of tables as they are now.

use std::fs;
use std::path::Path;
use std::time::Duration;

use crate::keeper::KeepError;
use crate::server::programs::succeeded;
use crate::server::session::{PATIENCE, identifier, literal};
use crate::server::{Door, Programs, Session};

/// So many tables at once.
pub const TABLES_MAX: usize = 50;
/// One table may be large.
const LONG: Duration = Duration::from_secs(6 * 3600);
/// What `pg_restore` leaves out, as its list names it.
const WITHOUT: [&str; 4] = [" FK CONSTRAINT ", " TRIGGER ", " EVENT TRIGGER ", " PUBLICATION "];

/// A table that was brought back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    /// As it was asked for.
    pub name: String,
    /// As it is called now: `restored_20261124t031200.orders`.
    pub now: String,
    /// Its rows.
    pub rows: u64,
}

/// Brings `tables` of `copy` into a new schema of `original`; both doors lead to the app's database, and `copy` is thrown
/// away afterwards. `folder` gets what lies in between.
///
/// # Errors
/// A table that is not there; PostgreSQL. Nothing is left in the original then.
pub fn bring(
    programs: &Programs,
    copy: &Door,
    original: &Door,
    schema: &str,
    tables: &[String],
    folder: &Path,
) -> Result<Vec<Table>, KeepError> {
    let lack = |what: String, hint: &str| KeepError::Lack { what, hint: hint.to_owned() };
    if tables.is_empty() || tables.len() > TABLES_MAX {
        return Err(lack(format!("{} tables were named", tables.len()), "name 1 to 50 with `--table`"));
    }
    let session = Session::open(copy)?;
    // Names are looked up as the app's own queries do it.
    session.run("set search_path = public")?;
    session.run(&format!("create schema {}", identifier(schema)))?;
    let mut brought = Vec::new();
    for name in tables {
        // With its partitions, of which the last ones come first, so that each is still where it is looked for.
        let parts = format!(
            "select tree.relid::regclass, class.relname, class.oid = to_regclass({0}) from pg_partition_tree(to_regclass({0})) tree
               join pg_class class on class.oid = tree.relid where class.relkind in ('r', 'p')
             union select class.oid::regclass, class.relname, true from pg_class class
               where class.oid = to_regclass({0}) and class.relkind = 'r' order by 3",
            literal(name)
        );
        let parts = session.rows(&parts, PATIENCE)?;
        let Some(own) = parts.iter().find(|part| part.get(2) == Some("t")).and_then(|part| part.get(1))
        else {
            return Err(lack(
                format!("there was no table `{name}` then"),
                "name it as `SCHEMA.TABLE`; letters in upper case need quotes: '\"Orders\"'",
            ));
        };
        let now = format!("{}.{}", identifier(schema), identifier(own));
        for part in parts.iter().filter_map(|part| part.get(0)) {
            session.run(&format!("alter table {part} set schema {}", identifier(schema)))?;
        }
        brought.push(Table { name: name.clone(), now, rows: 0 });
    }
    drop(session);

    let (dump, list) = (folder.join("tables.dump"), folder.join("tables.list"));
    let mut command = programs.dying("pg_dump", "KILL");
    command.envs(copy.environment()).args(["--format=custom", "--compress=1", "--no-privileges", "--schema"]);
    succeeded(command.arg(identifier(schema)).arg("--file").arg(&dump), LONG).map_err(failed)?;
    let mut command = programs.dying("pg_restore", "KILL");
    succeeded(command.arg("--list").arg("--file").arg(&list).arg(&dump), LONG).map_err(failed)?;
    let file = |source| KeepError::File { path: list.clone(), source };
    let all = fs::read_to_string(&list).map_err(file)?;
    let is_wanted = |line: &&str| !WITHOUT.iter().any(|kind| line.contains(kind));
    fs::write(&list, all.lines().filter(is_wanted).collect::<Vec<_>>().join("\n")).map_err(file)?;

    // The database's owner is the app, and gets what is restored.
    let session = Session::open(original)?;
    let owner = session.row(
        "select pg_get_userbyid(datdba) from pg_database where datname = current_database()",
        "owner of the database",
    )?;
    let mut command = programs.dying("pg_restore", "KILL");
    command.envs(original.environment()).args(["--single-transaction", "--exit-on-error", "--no-owner"]);
    command.args(["--dbname", &original.database, "--role", owner.get(0).unwrap_or_default()]);
    succeeded(command.arg("--use-list").arg(&list).arg(&dump), LONG).map_err(failed)?;
    for table in &mut brought {
        let counted = session.rows(&format!("select count(*) from {}", table.now), LONG)?;
        let row = counted.first().ok_or_else(|| session.answer("number of rows"))?;
        table.rows = session.column(row, 0, "number of rows")?;
    }
    Ok(brought)
}

fn failed(error: crate::server::ProgramError) -> KeepError {
    KeepError::Lack {
        what: error.to_string(),
        hint: "`klar clone --psql` shows the same copy; nothing was changed in the database".into(),
    }
}
