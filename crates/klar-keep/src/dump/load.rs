//! A dump, loaded by a server of its own that only this process can reach, and compared with what was read.
//!
//! What is in a dump was written by the app. Constraints and indexes may run functions of its, and whoever may do everything on
//! a server may run programs with it. So no role of the dump may do more there than own tables, and from the first row on
//! everything is loaded as one that may not either.

use std::fs;
use std::path::Path;
use std::time::Duration;

use super::error::{failed, install};
use super::psql::{PATIENCE, Psql, connection};
use super::{Address, Database, DumpError, Dumped, GLOBALS, Globals, Source, again, ran};
use crate::scratch::{Recovery, Scratch, Then, Until};
use crate::server::programs::{last_lines, succeeded};
use crate::server::session::{identifier, literal};
use crate::server::{Door, Programs};

/// A server that is new is there within this.
const UP: Duration = Duration::from_secs(120);
/// May do everything on the server; no role of a dump is called so.
const OWNER: &str = "klar scratch";
/// Loads what a dump has, and owns nothing.
const LOADER: &str = "klar load";
/// To which everybody can connect, and which is in no dump.
const BESIDE: &str = "template1";
/// Complaints that are told.
const TOLD_MAX: usize = 3;

/// A server with all of a dump in it; dropped, it ends.
pub struct Loaded {
    scratch: Scratch,
    address: Address,
    programs: Programs,
    /// The dump's only database, or the one that was named first.
    database: String,
    /// Roles that could do everything where the dump is of.
    stripped: Vec<String>,
    /// What was not as on the server it is of, in words.
    pub notes: Vec<String>,
}

impl Source {
    /// Loads a dump that lies in `files` into a server in `place`, an empty folder.
    ///
    /// # Errors
    /// [`DumpError::NotHere`] where this machine lacks something; what cannot be loaded.
    pub fn load(
        &self,
        dumped: &Dumped,
        files: &Path,
        place: &Path,
        is_over: &(dyn Fn() -> bool + Sync),
    ) -> Result<Loaded, DumpError> {
        let (major, needed) = (dumped.version / 10_000, dumped.programs.max(dumped.version / 10_000));
        let programs = self.programs(needed, &["postgres", "initdb", "pg_restore", "psql"]);
        let (_, programs) = programs.ok_or_else(|| DumpError::NotHere {
            why: format!(
                "it could not be proven here: it is of PostgreSQL {major}, and no server of version {needed} or later is on \
                 this machine to load it"
            ),
            hint: install(needed),
        })?;
        let mut loaded = Loaded::empty(programs, place)?;
        for database in &dumped.databases {
            loaded.lacks(database)?;
        }
        loaded.roles(dumped, &files.join(GLOBALS), self.is_managed(), is_over)?;
        for database in &dumped.databases {
            loaded.database(database, dumped.globals, &files.join(&database.folder), place, is_over)?;
        }
        let first = dumped.databases.iter().find(|database| database.name != "postgres");
        loaded.database =
            first.or(dumped.databases.first()).map(|database| database.name.clone()).unwrap_or_default();
        Ok(loaded)
    }
}

impl Loaded {
    fn empty(programs: Programs, place: &Path) -> Result<Self, DumpError> {
        let (data, home) = (place.join("data"), place.join("server"));
        fs::create_dir_all(&data).map_err(failed(&data))?;
        programs.give(&data).map_err(failed(&data))?;
        let mut initdb = programs.server("initdb", "KILL");
        initdb.arg("-D").arg(&data).args([
            "-U",
            "klar",
            "--auth=trust",
            "--encoding=UTF8",
            "--locale=C.UTF-8",
        ]);
        initdb.args(["--no-sync", "--no-instructions"]).current_dir("/");
        succeeded(&mut initdb, UP)?;
        let needs = [("wal_level", "minimal"), ("max_wal_senders", "0"), ("max_connections", "20")];
        let needs = needs.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let recovery = Recovery {
            log: place,
            until: Until::End,
            then: Then::Promote,
            timeline: 1,
            needs: &needs,
            durable: false,
            patience: UP,
        };
        let scratch = Scratch::start(&programs, &data, &home, &recovery)?;
        // The role with which a cluster begins can never become less, and a dump may have one of its name.
        let first = Address::of(scratch.door().environment());
        Psql::open(&programs, &first, BESIDE)?.run("create role \"klar first\" superuser login")?;
        let door = |user: &str| Door { user: user.to_owned(), ..scratch.door().clone() };
        let second = Address::of(door("klar first").environment());
        let renames = format!("alter role klar rename to {}", identifier(OWNER));
        Psql::open(&programs, &second, BESIDE)?.run(&renames)?;
        let address = Address::of(door(OWNER).environment());
        Psql::open(&programs, &address, BESIDE)?.run("drop role \"klar first\"")?;
        Ok(Self {
            scratch,
            address,
            programs,
            database: String::new(),
            stripped: Vec::new(),
            notes: Vec::new(),
        })
    }

    fn open(&self, database: &str) -> Result<Psql, DumpError> {
        Psql::open(&self.programs, &self.address, database)
    }

    /// What the database needs and this machine has not.
    fn lacks(&self, database: &Database) -> Result<(), DumpError> {
        let here: Vec<String> =
            self.open(BESIDE)?.json("select to_json(name) from pg_available_extensions")?;
        let lacks = database.extensions.iter().filter(|one| !here.contains(&one.name));
        let lacks: Vec<String> = lacks.map(|one| format!("`{}`", one.name)).collect();
        if lacks.is_empty() {
            return Ok(());
        }
        Err(DumpError::NotHere {
            why: format!(
                "it could not be proven here: the database {} needs {}, and the server on this machine does not have that",
                database.name,
                lacks.join(", ")
            ),
            hint: "install the package that has it (`apt-cache search postgresql extension`), then `klar backup now`".into(),
        })
    }

    /// Makes the dump's roles, none of which may do anything but own.
    fn roles(
        &mut self,
        dumped: &Dumped,
        path: &Path,
        strict: bool,
        is_over: &(dyn Fn() -> bool + Sync),
    ) -> Result<(), DumpError> {
        if dumped.globals != Globals::Nothing {
            let mut command = self.programs.dying("psql", "KILL");
            command
                .args(["-X", "-q", "--no-password", "--file"])
                .arg(path)
                .arg("--dbname")
                .arg(connection(BESIDE));
            let (_, said) = ran("psql", command, &self.address, is_over)?;
            let complaints: Vec<&str> = said.lines().filter(|line| line.contains("ERROR:")).collect();
            if !complaints.is_empty() {
                let some = complaints.iter().take(TOLD_MAX).copied().collect::<Vec<_>>().join("; ");
                let what = format!("{} statements about roles failed: {some}", complaints.len());
                if strict {
                    return Err(DumpError::Failed { program: "psql", said: what });
                }
                self.notes.push(what);
            }
        }
        let mut session = self.open(BESIDE)?;
        for database in &dumped.databases {
            // Where roles could not be read, the owner is known all the same.
            let name = (literal(&database.owner), identifier(&database.owner));
            session.run(&format!(
                "do $$ begin if not exists (select from pg_roles where rolname = {}) then create role {}; end if; end $$",
                name.0, name.1
            ))?;
        }
        self.stripped = session.json(
            "select to_json(rolname) from pg_roles where rolsuper and rolname <> current_user order by rolname",
        )?;
        session.run(&format!(
            "do $$ declare of record; begin
               for of in select rolname from pg_roles where rolname <> current_user and rolname !~ '^pg_' loop
                 execute format('alter role %I nosuperuser nocreaterole nocreatedb noreplication nobypassrls', of.rolname);
                 execute format('alter role %I reset all', of.rolname);
               end loop;
               for of in select m.roleid::regrole as given, m.member::regrole as member from pg_auth_members m
                 join pg_roles r on r.oid = m.roleid
                 where r.rolname in ('pg_execute_server_program', 'pg_read_server_files', 'pg_write_server_files') loop
                 execute format('revoke %s from %s cascade', of.given, of.member);
               end loop;
             end $$;
             create role {0} login nosuperuser bypassrls;
             do $$ declare of record; begin
               for of in select rolname from pg_roles where rolname not in (current_user, {1}) and
                 (rolname !~ '^pg_' or rolname = 'pg_write_all_data') loop
                 execute format('grant %I to {0}', of.rolname);
               end loop;
             end $$",
            identifier(LOADER),
            literal(LOADER)
        ))
    }

    /// Makes a database as it was, and loads it.
    fn database(
        &mut self,
        database: &Database,
        globals: Globals,
        dump: &Path,
        place: &Path,
        is_over: &(dyn Fn() -> bool + Sync),
    ) -> Result<(), DumpError> {
        let mut session = self.open(BESIDE)?;
        session.run(&format!("drop database if exists {}", identifier(&database.name)))?;
        let mut made = session.rows(&create(database, &database.name, true), PATIENCE * 4, is_over);
        if let Err(DumpError::Said { said, .. }) = &made {
            // Sorting is not what is proven.
            self.notes.push(format!("{} sorts as C does in the copy ({said})", database.name));
            made = self.open(BESIDE)?.rows(&create(database, &database.name, false), PATIENCE * 4, is_over);
        }
        made?;
        drop(session);
        let owner =
            format!("alter database {} owner to {}", identifier(&database.name), identifier(&database.owner));
        self.open(BESIDE)?.run(&owner)?;
        let loader = Address::of(Door { user: LOADER.into(), ..self.scratch.door().clone() }.environment());
        let (all, list) = (place.join("all.list"), place.join("some.list"));
        let whose: &[&str] = if globals == Globals::Nothing { &["--no-owner"] } else { &[] };
        let restore = |address: &Address, how: &[&str], list: Option<&Path>| {
            let mut command = self.programs.dying("pg_restore", "KILL");
            command.args(["--exit-on-error", "--no-tablespaces", "--no-comments", "--no-security-labels"]);
            command.args(["--no-password", "--no-publications", "--no-subscriptions"]).args(how).args(whose);
            command.args(list.map(|list| format!("--use-list={}", list.display())));
            command.arg("--dbname").arg(connection(&database.name)).arg(dump);
            let (status, said) = ran("pg_restore", command, address, is_over)?;
            match status.success() {
                true => Ok(()),
                false => Err(DumpError::Failed { program: "pg_restore", said: last_lines(&said) }),
            }
        };
        let mut command = self.programs.dying("pg_restore", "KILL");
        succeeded(command.arg("--list").arg("--file").arg(&all).arg(dump), UP)?;
        let text = fs::read_to_string(&all).map_err(failed(&all))?;
        let with = |is_wanted: &dyn Fn(&str) -> bool| {
            let lines: Vec<&str> = text.lines().filter(|line| is_wanted(line)).collect();
            fs::write(&list, lines.join("\n") + "\n").map_err(failed(&list))
        };
        if globals == Globals::Nothing {
            // All of it belongs to the database's owner, who may make no extension.
            let mut inside = self.open(&database.name)?;
            for extension in &database.extensions {
                inside.run(&extension.sql())?;
            }
            with(&|line| {
                !database.extensions.iter().any(|one| line.contains(&format!(" SCHEMA - {} ", one.schema)))
            })?;
            let how = ["--section=pre-data", "--no-privileges", "--role", &database.owner];
            restore(&self.address, &how, Some(&list))?;
        } else {
            restore(&self.address, &["--section=pre-data", "--no-privileges"], None)?;
        }
        if globals != Globals::Nothing {
            with(&|line| line.contains(" ACL "))?;
            restore(&self.address, &[], Some(&list))?;
        }
        // Those who could do everything needed no right to make an index where others own the schema.
        for role in &self.stripped {
            self.open(&database.name)?.run(&format!(
                "do $$ declare of record; begin
                   for of in select nspname from pg_namespace where nspname !~ '^pg_' loop
                     execute format('grant usage, create on schema %I to %I', of.nspname, {});
                   end loop;
                 end $$",
                literal(role)
            ))?;
        }
        // A trigger of the whole database is its owner's who may do everything, and would run for whoever loads it.
        with(&|line| !line.contains(" EVENT TRIGGER "))?;
        restore(&loader, &["--section=data", "--section=post-data", "--no-privileges"], Some(&list))?;
        Ok(())
    }

    /// Compares all tables with what was in them; gives what was found, or what is different.
    ///
    /// # Errors
    /// The server.
    pub fn compare(
        &self,
        dumped: &Dumped,
        is_over: &(dyn Fn() -> bool + Sync),
    ) -> Result<Result<String, String>, DumpError> {
        let mut session: Option<(&str, Psql)> = None;
        let mut rows = 0;
        for was in &dumped.tables {
            if session.as_ref().is_none_or(|(open, _)| *open != was.database) {
                session = Some((&was.database, self.open(&was.database)?));
            }
            let Some((_, open)) = &mut session else { continue };
            let now = match again(open, was, is_over) {
                Ok(now) => now,
                Err(DumpError::Said { said, .. }) if said.contains("42P01") || said.contains("3F000") => {
                    return Ok(Err(format!("{}.{} of {} is not there", was.schema, was.table, was.database)));
                }
                Err(error) => return Err(error),
            };
            if now != *was {
                let how =
                    if now.rows == was.rows { "the same number of rows with another content" } else { "" };
                return Ok(Err(format!(
                    "{}.{} of {} has {} rows where {} were read{}{how}",
                    was.schema,
                    was.table,
                    was.database,
                    now.rows,
                    was.rows,
                    if how.is_empty() { "" } else { ": " }
                )));
            }
            rows += now.rows;
        }
        let mut told =
            format!("{} tables with {rows} rows are what was read in its snapshot", dumped.tables.len());
        if dumped.uncompared > 0 {
            told.push_str(&format!("; {} more were loaded and not compared", dumped.uncompared));
        }
        Ok(Ok(told))
    }

    /// Where its socket is.
    #[must_use]
    pub fn door(&self) -> &Door {
        self.scratch.door()
    }

    /// The database that is meant where none is named.
    #[must_use]
    pub fn database_name(&self) -> &str {
        &self.database
    }

    /// From here on people may use it, as `klar`.
    pub(crate) fn open_to_people(&self) -> Result<(), DumpError> {
        let sql = "do $$ begin if not exists (select from pg_roles where rolname = 'klar') then create role klar; end if;
                   end $$; alter role klar superuser login";
        self.open(BESIDE)?.run(sql)
    }
}

/// A database of another name with the same letters and, where that is possible, the same order of them.
pub(super) fn create(database: &Database, name: &str, sorted: bool) -> String {
    let mut sql = format!("create database {} template template0", identifier(name));
    sql.push_str(&format!(" encoding {}", literal(&database.encoding)));
    if !sorted {
        return sql + " lc_collate 'C' lc_ctype 'C'";
    }
    let Database { collate, ctype, .. } = database;
    sql.push_str(&format!(" lc_collate {} lc_ctype {}", literal(collate), literal(ctype)));
    match (&*database.provider, &database.locale) {
        ("i", Some(locale)) => sql.push_str(&format!(" locale_provider icu icu_locale {}", literal(locale))),
        ("b", Some(locale)) => {
            sql.push_str(&format!(" locale_provider builtin builtin_locale {}", literal(locale)));
        }
        _ => {}
    }
    sql
}
