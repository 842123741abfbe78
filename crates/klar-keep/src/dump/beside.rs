//! A dump, loaded into a new database of the server that it is of: nothing that is there is touched.

use std::path::Path;

use super::error::failed;
use super::load::create;
use super::psql::{PATIENCE, Psql, connection};
use super::{Address, Database, DumpError, Dumped, Source, ran};

use crate::server::programs::{last_lines, succeeded};
use crate::server::session::{identifier, literal};

/// What is longer is cut off by the server (`NAMEDATALEN`).
const NAME_MAX: usize = 63;

/// A database that was brought back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Beside {
    /// What it was called.
    pub was: String,
    /// What it is called now.
    pub now: String,
}

impl Source {
    /// Loads the databases of a dump into new ones of the server; `stamp` goes into their names.
    ///
    /// # Errors
    /// See [`DumpError`]; what was made is removed again.
    pub fn beside(
        &self,
        dumped: &Dumped,
        files: &Path,
        stamp: &str,
        is_over: &(dyn Fn() -> bool + Sync),
    ) -> Result<Vec<Beside>, DumpError> {
        let address = self.address()?;
        let needed = dumped.programs.max(dumped.version / 10_000);
        let (_, programs) = self.dumping(&address, needed)?;
        let mut session = Psql::open(&programs, &address, address.database())?;
        let (may, all): (bool, bool) = session
            .one("select json_build_array(rolcreatedb or rolsuper, rolsuper) from pg_roles where rolname = current_user")?;
        if !may {
            let user = identifier(address.user());
            return Err(DumpError::NotHere {
                why: format!("{user} may not make a database at {address}"),
                hint: format!(
                    "as an administrator of it: `ALTER ROLE {user} CREATEDB`; or `klar restore … --into FOLDER`, and load it \
                     with pg_restore into a database that you have made"
                ),
            });
        }
        // What the app has written must not run as one who may do everything.
        let loader = format!("klar-load-{:08x}", fastrand::u32(..));
        let mut as_loader = address.clone();
        if all {
            let password = format!("{:032x}", fastrand::u128(..));
            session.run(&format!(
                "create role {} login password {}",
                identifier(&loader),
                literal(&password)
            ))?;
            let changed = [("PGUSER", loader.clone()), ("PGPASSWORD", password)];
            as_loader = Address::of(address.environment().iter().cloned().chain(changed));
        }
        let mut made: Vec<Beside> = Vec::new();
        let mut all_done = Ok(());
        // The server's own is as everywhere.
        let many = dumped.databases.len() > 1;
        for database in dumped.databases.iter().filter(|database| !many || database.name != "postgres") {
            let now = new_name(&database.name, stamp);
            let done = session.rows(&create(database, &now, true), PATIENCE * 4, is_over).and_then(|_| {
                made.push(Beside { was: database.name.clone(), now: now.clone() });
                let dump = files.join(&database.folder);
                let to = One {
                    programs: &programs,
                    address: &address,
                    loader: &as_loader,
                    all,
                    database,
                    now: &now,
                };
                to.load(&mut session, &dump, is_over)
            });
            if done.is_err() {
                all_done = done;
                break;
            }
        }
        if let Err(error) = all_done {
            if let Ok(mut session) = Psql::open(&programs, &address, address.database()) {
                for one in &made {
                    let _ = session.run(&format!("drop database {} with (force)", identifier(&one.now)));
                }
                if all {
                    let _ = session.run(&format!("drop role {}", identifier(&loader)));
                }
            }
            return Err(error);
        }
        if all {
            session.run(&format!("drop role {}", identifier(&loader)))?;
        }
        Ok(made)
    }
}

/// One database on its way.
struct One<'a> {
    programs: &'a crate::server::Programs,
    address: &'a Address,
    loader: &'a Address,
    /// Whether the role may do everything there.
    all: bool,
    database: &'a Database,
    now: &'a str,
}

impl One<'_> {
    fn load(
        &self,
        session: &mut Psql,
        dump: &Path,
        is_over: &(dyn Fn() -> bool + Sync),
    ) -> Result<(), DumpError> {
        let Self { programs, database, now, .. } = self;
        let list = dump.with_extension("list");
        let mut command = programs.dying("pg_restore", "KILL");
        succeeded(command.arg("--list").arg("--file").arg(&list).arg(dump), PATIENCE)?;
        let text = std::fs::read_to_string(&list).map_err(failed(&list))?;
        if self.all {
            let loader = identifier(self.loader.user());
            session.run(&format!("alter database {} owner to {loader}", identifier(now)))?;
            let mut inside = Psql::open(programs, self.address, now)?;
            for extension in &database.extensions {
                inside.run(&extension.sql())?;
                if extension.schema != "public" && !extension.schema.starts_with("pg_") {
                    inside
                        .run(&format!("alter schema {} owner to {loader}", identifier(&extension.schema)))?;
                }
            }
            let is_wanted = |line: &&str| {
                let without = [" EXTENSION ", " EVENT TRIGGER ", " PUBLICATION ", " SUBSCRIPTION "];
                // Where extensions are is there by now.
                let is_there = |of: &str| line.contains(&format!(" SCHEMA - {of} "));
                !without.iter().any(|kind| line.contains(kind))
                    && !database.extensions.iter().any(|one| is_there(&one.schema))
            };
            let lines: Vec<&str> = text.lines().filter(is_wanted).collect();
            std::fs::write(&list, lines.join("\n") + "\n").map_err(failed(&list))?;
        }
        let mut command = programs.dying("pg_restore", "KILL");
        command.args([
            "--exit-on-error",
            "--no-tablespaces",
            "--no-owner",
            "--no-privileges",
            "--no-password",
        ]);
        command.args(["--no-publications", "--no-subscriptions"]);
        command.arg(format!("--use-list={}", list.display()));
        command.arg("--dbname").arg(connection(now)).arg(dump);
        let (status, said) = ran("pg_restore", command, self.loader, is_over)?;
        if !status.success() {
            return Err(DumpError::Failed { program: "pg_restore", said: last_lines(&said) });
        }
        if self.all {
            // To whom it belonged, where that one is still there.
            let owner: Option<String> = session
                .json(&format!(
                    "select to_json(rolname) from pg_roles where rolname = {}",
                    literal(&database.owner)
                ))?
                .pop();
            let owner = identifier(owner.as_deref().unwrap_or(self.address.user()));
            let loader = identifier(self.loader.user());
            let mut inside = Psql::open(programs, self.address, now)?;
            inside.run(&format!("reassign owned by {loader} to {owner}; drop owned by {loader}"))?;
            session.run(&format!("alter database {} owner to {owner}", identifier(now)))?;
        }
        Ok(())
    }
}

/// `shop_restored_20261124t031200`.
fn new_name(name: &str, stamp: &str) -> String {
    let end = format!("_restored_{stamp}");
    let mut name: String = name.to_owned();
    while name.len() + end.len() > NAME_MAX {
        name.pop();
    }
    name + &end
}

#[cfg(test)]
mod tests {
    #[test]
    fn names_fit() {
        assert_eq!(super::new_name("shop", "20261124t031200"), "shop_restored_20261124t031200");
        assert_eq!(super::new_name(&"å".repeat(31), "20261124t031200").len(), 63);
    }
}
