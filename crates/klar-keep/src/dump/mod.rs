//! A PostgreSQL, dumped: what is in its databases as its own programs write it down, loaded by a server of its own before it
//! counts.
//!
//! ```text
//! url.rs    the address ─► what programs read from their environment
//! psql.rs   questions
//! mod.rs    a snapshot ─► pg_dump, and what is in each table ─► an archive, as of files
//! load.rs   a dump ─► a server of its own ─► compared
//! beside.rs a dump ─► a new database beside the one that is there
//! ```
//!
//! That is all that can be kept of a server that runs elsewhere: a point each day, and nothing between them. One that klar runs
//! is dumped once a week beside its physical points: what a copy of pages would carry along, damage and the version of the
//! server, is not in a dump.
//!
//! **Invariant:** the exit status of `pg_dump` is known before anything is published, and what a dump is compared with was read
//! in the snapshot that it was taken from.

mod beside;
mod error;
mod load;
mod psql;
mod url;

use std::fs::{self, DirBuilder, File};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use klar_base::keep::{DumpOf, KeptDump};
use nix::unistd::geteuid;
use serde::{Deserialize, Serialize};

use crate::files::reader::{self, Known};
use crate::point::TableCount;
use crate::restore::enough_space;
use crate::server::programs::{last_lines, tail};
use crate::server::session::identifier;
use crate::server::{ProgramError, Programs};
use crate::witness;

pub use beside::Beside;
pub use error::DumpError;
use error::{failed, install};
pub use load::Loaded;
use psql::{Psql, connection};
pub use url::{Address, NotAnAddress};

/// Roles, their passwords and settings.
pub const GLOBALS: &str = "globals.sql";
/// Where Debian puts PostgreSQL's programs: a folder for each major version.
const ROOT: &str = "/usr/lib/postgresql";
/// A dump, or reading a table, may take so long.
const LONG: Duration = Duration::from_secs(12 * 3600);
/// How often it is looked how far it is.
const LOOK: Duration = Duration::from_millis(100);
/// What changes tables may hold them for so long.
const LOCKED: &str = "--lock-wait-timeout=300s";
/// So many tables are compared: what is known of them has to fit where it is written down.
const TABLES_MAX: usize = 2000;
/// So many databases of a server.
const DATABASES_MAX: usize = 200;
/// So much of each large object is compared, in bytes.
const LARGE: u32 = 16 << 20;

/// What was dumped, and what has to be in a copy.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dumped {
    /// The server's version, as a number: 150018 for 15.18.
    pub version: u32,
    /// Major version of the programs that have dumped it.
    pub programs: u32,
    /// Each database.
    pub databases: Vec<Database>,
    /// What could be read of roles.
    pub globals: Globals,
    /// What was in each table, in order.
    pub tables: Vec<TableCount>,
    /// So many tables more are dumped and not compared.
    pub uncompared: u64,
}

/// A database that was dumped.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Database {
    /// Its name.
    pub name: String,
    /// Its folder among the files.
    pub folder: String,
    /// Who owns it.
    pub owner: String,
    /// `UTF8`.
    pub encoding: String,
    /// How it sorts.
    pub collate: String,
    /// What it takes for letters.
    pub ctype: String,
    /// Who knows how to sort: `c` the system, `i` ICU, `b` the server itself.
    pub provider: String,
    /// The locale, where that is not the system's.
    pub locale: Option<String>,
    /// Bytes that it has on the server.
    pub bytes: u64,
    /// What it needs beside the server.
    #[serde(default)]
    pub extensions: Vec<Extension>,
}

/// What was added to a database.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Extension {
    /// `pgcrypto`.
    pub name: String,
    /// Where what it brings is.
    pub schema: String,
}

impl Extension {
    /// Makes it where it was.
    fn sql(&self) -> String {
        let (name, schema) = (identifier(&self.name), identifier(&self.schema));
        let new = match self.schema.starts_with("pg_") {
            true => String::new(),
            false => format!("create schema if not exists {schema}; "),
        };
        format!("{new}create extension if not exists {name} schema {schema} cascade")
    }
}

/// What could be read of roles.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Globals {
    /// All.
    All,
    /// All but their passwords, which the role may not read.
    WithoutPasswords,
    /// Nothing.
    #[default]
    Nothing,
}

/// Where dumps come from.
pub struct Source {
    dump: KeptDump,
    root: PathBuf,
}

/// How far it is: what is done, how much of it, of how much.
pub type Progress<'a> = &'a mut dyn FnMut(&str, u64, u64);

impl Source {
    /// Nothing is asked yet.
    #[must_use]
    pub fn new(dump: KeptDump) -> Self {
        Self { dump, root: ROOT.into() }
    }

    /// The same, with PostgreSQL's programs in another folder: one for each major version, as Debian has it.
    #[must_use]
    pub fn with_programs(self, root: &Path) -> Self {
        Self { root: root.to_owned(), ..self }
    }

    /// What is dumped.
    #[must_use]
    pub fn dump(&self) -> &KeptDump {
        &self.dump
    }

    fn is_managed(&self) -> bool {
        matches!(self.dump.of, DumpOf::Managed { .. })
    }

    fn address(&self) -> Result<Address, DumpError> {
        match &self.dump.of {
            DumpOf::Url(url) => Ok(Address::parse(url)?),
            DumpOf::Managed { host, port, user, password } => Ok(Address::of([
                ("PGHOST", host.clone()),
                ("PGPORT", port.to_string()),
                ("PGUSER", user.clone()),
                ("PGPASSWORD", password.expose().clone()),
                ("PGDATABASE", "postgres".to_owned()),
            ])),
        }
    }

    /// Dumps it, and gives an archive of that as a reader of folders would.
    ///
    /// # Errors
    /// See [`DumpError`]; nothing is left then.
    pub fn archive(
        &self,
        work: &Path,
        is_over: &(dyn Fn() -> bool + Sync),
        progress: Progress<'_>,
    ) -> Result<UnixStream, DumpError> {
        // The thread that reads the one before may not be done with its folder yet.
        let own = Folder(work.join(format!("dump-{:016x}", fastrand::u64(..))));
        let folder = own.0.join("files");
        fs::create_dir_all(work).map_err(failed(work))?;
        DirBuilder::new().mode(0o700).recursive(true).create(&folder).map_err(failed(&folder))?;
        let dumped = self.write(&folder, is_over, progress)?;
        let (here, there) = UnixStream::pair().map_err(failed(&own.0))?;
        let archives = move || {
            let _ = reader::archive(&folder, there, Known::Dump(dumped));
            drop(own);
        };
        let spawned = std::thread::Builder::new().name("dump".into()).spawn(archives);
        spawned.map_err(failed(work))?;
        Ok(here)
    }

    /// The oldest programs that are new enough, and where there is a choice those with a server beside them.
    fn programs(&self, at_least: u32, with: &[&str]) -> Option<(u32, Programs)> {
        let versions = fs::read_dir(&self.root).ok()?.flatten().filter_map(|entry| {
            let version: u32 = entry.file_name().to_str()?.parse().ok()?;
            let folder = entry.path().join("bin");
            let is_it = version >= at_least && with.iter().all(|program| folder.join(program).is_file());
            is_it.then_some((version, folder))
        });
        let (version, folder) = versions.min_by_key(|(version, _)| *version)?;
        // PostgreSQL refuses to run as root.
        let users = ["postgres", "nobody"].into_iter().filter(|_| geteuid().is_root());
        let user = users.filter_map(|name| nix::unistd::User::from_name(name).ok().flatten()).next();
        let server = user.map(|user| (user.uid.as_raw(), user.gid.as_raw()));
        Some((version, Programs { folder, server }))
    }

    /// Those that dump a server of a version.
    fn dumping(&self, address: &Address, server: u32) -> Result<(u32, Programs), DumpError> {
        let with_server = self.programs(server, &["pg_dump", "pg_dumpall", "psql", "postgres"]);
        let found = with_server.or_else(|| self.programs(server, &["pg_dump", "pg_dumpall", "psql"]));
        found.ok_or_else(|| DumpError::Version {
            at: address.to_string(),
            server,
            here: match self.newest() {
                Some((version, _)) => format!("the newest programs here are of version {version}"),
                None => "no programs of it are here".to_owned(),
            },
        })
    }

    /// Those that ask.
    fn asking(&self) -> Result<Programs, DumpError> {
        self.newest().map(|(_, programs)| programs).ok_or_else(|| DumpError::NotHere {
            why: "no program of PostgreSQL is on this machine, so nothing can be dumped".into(),
            hint: install(15).replace("postgresql-15", "postgresql"),
        })
    }

    fn newest(&self) -> Option<(u32, Programs)> {
        let mut newest = self.programs(0, &["psql"])?;
        while let Some(newer) = self.programs(newest.0 + 1, &["psql"]) {
            newest = newer;
        }
        Some(newest)
    }

    /// Writes dumps of all databases into an empty folder.
    fn write(
        &self,
        folder: &Path,
        is_over: &(dyn Fn() -> bool + Sync),
        progress: Progress<'_>,
    ) -> Result<Dumped, DumpError> {
        let address = self.address()?;
        let mut session = Psql::open(&self.asking()?, &address, address.database())?;
        let version: u32 = session.one("select current_setting('server_version_num')")?;
        let (major, programs) = self.dumping(&address, version / 10_000)?;
        let mut dumped = Dumped { version, programs: major, ..Dumped::default() };
        dumped.databases = databases(&mut session, (!self.is_managed()).then(|| address.database()))?;
        drop(session);
        // The dump and what the repository grows by; later the copy of it, and a server on that.
        let bytes: u64 = dumped.databases.iter().map(|database| database.bytes).sum();
        enough_space(folder, bytes.saturating_mul(2))?;
        let run = Run { programs: &programs, address: &address, is_over };
        for database in &mut dumped.databases {
            run.database(database, folder, &mut dumped.tables, &mut dumped.uncompared, progress)?;
        }
        progress("reading its roles", 0, 0);
        dumped.globals = run.globals(&folder.join(GLOBALS), self.is_managed())?;
        dumped.tables.sort_unstable();
        Ok(dumped)
    }
}

/// One dump on its way.
struct Run<'a> {
    programs: &'a Programs,
    address: &'a Address,
    is_over: &'a (dyn Fn() -> bool + Sync),
}

impl Run<'_> {
    /// Dumps a database, and meanwhile reads what is in its tables in the same snapshot.
    fn database(
        &self,
        database: &mut Database,
        folder: &Path,
        tables: &mut Vec<TableCount>,
        uncompared: &mut u64,
        progress: Progress<'_>,
    ) -> Result<(), DumpError> {
        let Self { programs, address, is_over } = self;
        let what = format!("dumping {}", database.name);
        progress(&what, 0, database.bytes);
        let mut session = Psql::open(programs, address, &database.name)?;
        session.run("begin isolation level repeatable read, read only")?;
        let snapshot: String = session.one("select to_json(pg_export_snapshot())")?;
        database.extensions = session.json(
            "select json_build_object('name', extname, 'schema', nspname) from pg_extension
             join pg_namespace n on n.oid = extnamespace order by extname",
        )?;
        let mut command = programs.dying("pg_dump", "KILL");
        // One file for each table, as it is: what did not change is the same piece of the repository in each dump.
        command.args(["--format=directory", "--compress=0", "--no-sync", "--no-password", LOCKED]);
        command.arg(format!("--snapshot={snapshot}")).arg("--file").arg(folder.join(&database.folder));
        command.arg("--dbname").arg(connection(&database.name));
        let mut dump = Running::start("pg_dump", command, self.address)?;
        // Those that an extension brings are not in the dump.
        let wanted: Vec<(String, String)> = session.json(
            "select json_build_array(nspname, relname) from pg_class c join pg_namespace n on n.oid = relnamespace
             where relkind = 'r' and relpersistence = 'p' and nspname not like 'pg\\_%' and nspname <> 'information_schema'
               and not exists (select from pg_depend where classid = 'pg_class'::regclass and objid = c.oid
                 and deptype = 'e')
             order by nspname, relname",
        )?;
        for (schema, name) in wanted {
            dump.look()?;
            if tables.len() >= TABLES_MAX {
                *uncompared += 1;
                continue;
            }
            tables.push(counted(&mut session, &database.name, &schema, &name, *is_over)?);
            progress(&what, size(folder), database.bytes);
        }
        let large = large_objects(&mut session, &database.name, *is_over)?;
        tables.extend(large.rows.ne(&0).then_some(large));
        // Those of its files that were written last are there by now, or the status says that they are not.
        let begun = Instant::now();
        while dump.look()?.is_none() {
            if is_over() {
                return Err(DumpError::Over);
            }
            if begun.elapsed() >= LONG {
                let (program, said) = ("pg_dump".to_owned(), "it was ended".to_owned());
                return Err(ProgramError::Late { program, patience: LONG, said }.into());
            }
            std::thread::sleep(LOOK);
            progress(&what, size(folder), database.bytes);
        }
        session.run("commit")
    }

    /// Writes down all roles and their settings, as far as that may be read.
    fn globals(&self, path: &Path, strict: bool) -> Result<Globals, DumpError> {
        let try_with = |more: &[&str]| -> Result<(), DumpError> {
            let file = File::options().write(true).create(true).truncate(true).mode(0o600).open(path);
            let mut command = self.programs.dying("pg_dumpall", "KILL");
            command.args(["--globals-only", "--no-tablespaces", "--no-password"]).args(more);
            command.arg("--database").arg(self.address.database());
            command.arg("--dbname").arg(connection(self.address.database()));
            command.stdout(file.map_err(failed(path))?);
            let mut running = Running::start("pg_dumpall", command, self.address)?;
            while running.look()?.is_none() {
                if (self.is_over)() {
                    return Err(DumpError::Over);
                }
                std::thread::sleep(LOOK);
            }
            Ok(())
        };
        match try_with(&[]) {
            Ok(()) => return Ok(Globals::All),
            Err(error) if strict || !matches!(error, DumpError::Rights { .. }) => return Err(error),
            Err(_) => {}
        }
        match try_with(&["--no-role-passwords"]) {
            Ok(()) => Ok(Globals::WithoutPasswords),
            Err(DumpError::Rights { .. } | DumpError::Failed { .. }) => {
                fs::write(path, "-- the role that dumped may not read roles\n").map_err(failed(path))?;
                Ok(Globals::Nothing)
            }
            Err(error) => Err(error),
        }
    }
}

/// A program that runs; dropped before its end, it is killed.
struct Running<'a> {
    program: &'static str,
    address: &'a Address,
    child: std::process::Child,
    errors: Option<std::thread::JoinHandle<String>>,
    status: Option<ExitStatus>,
}

impl<'a> Running<'a> {
    /// Starts it with the server in its environment, its standard output as it was set.
    fn start(program: &'static str, mut command: Command, address: &'a Address) -> Result<Self, DumpError> {
        let start = |source| ProgramError::Start { program: program.into(), source };
        command.envs(address.environment().iter().map(|(name, value)| (name, value)));
        command.env("PGAPPNAME", "klar keep").current_dir("/").stderr(Stdio::piped());
        let mut child = command.spawn().map_err(start)?;
        let errors = child.stderr.take().map(|pipe| std::thread::spawn(move || tail(pipe)));
        Ok(Self { program, address, child, errors, status: None })
    }

    /// Whether it has ended, as it should.
    fn look(&mut self) -> Result<Option<()>, DumpError> {
        if self.status.is_none() {
            let start = |source| ProgramError::Start { program: self.program.into(), source };
            self.status = self.child.try_wait().map_err(start)?;
        }
        match self.status {
            None => Ok(None),
            Some(status) if status.success() => Ok(Some(())),
            Some(status) => {
                let said = self.errors.take().and_then(|errors| errors.join().ok()).unwrap_or_default();
                Err(match said.trim().is_empty() {
                    true => DumpError::Failed { program: self.program, said: status.to_string() },
                    false => DumpError::of(self.program, self.address, &said),
                })
            }
        }
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        if self.status.is_none() {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

/// Runs a program to its end and gives what it complained about; its status decides only where it is asked.
fn ran(
    program: &'static str,
    mut command: Command,
    address: &Address,
    is_over: &dyn Fn() -> bool,
) -> Result<(ExitStatus, String), DumpError> {
    command.stdout(Stdio::null());
    let mut running = Running::start(program, command, address)?;
    let begun = Instant::now();
    loop {
        let start = |source| ProgramError::Start { program: program.into(), source };
        if let Some(status) = running.child.try_wait().map_err(start)? {
            running.status = Some(status);
            let said = running.errors.take().and_then(|errors| errors.join().ok()).unwrap_or_default();
            return Ok((status, address.without_password(&said)));
        }
        if is_over() {
            return Err(DumpError::Over);
        }
        if begun.elapsed() >= LONG {
            return Err(
                ProgramError::Late { program: program.into(), patience: LONG, said: last_lines("") }.into()
            );
        }
        std::thread::sleep(LOOK);
    }
}

/// Databases that can be connected to, or the one that is named.
fn databases(session: &mut Psql, only: Option<&str>) -> Result<Vec<Database>, DumpError> {
    #[derive(Deserialize)]
    struct Row(String, String, String, String, String, String, Option<String>, u64);
    let which = match only {
        Some(_) => "datname = current_database()",
        None => "datallowconn and not datistemplate and has_database_privilege(oid, 'connect')",
    };
    let rows: Vec<Row> = session.json(&format!(
        "select json_build_array(datname, pg_get_userbyid(datdba), pg_encoding_to_char(encoding), datcollate, datctype,
           coalesce(to_jsonb(d)->>'datlocprovider', 'c'),
           coalesce(to_jsonb(d)->>'datlocale', to_jsonb(d)->>'daticulocale'), pg_database_size(oid))
         from pg_database d where {which} order by datname limit {DATABASES_MAX}"
    ))?;
    let mut databases: Vec<Database> = Vec::new();
    for Row(name, owner, encoding, collate, ctype, provider, locale, bytes) in rows {
        let harmless = |letter: char| letter.is_ascii_alphanumeric() || letter == '_' || letter == '-';
        let plain: String = name.chars().map(|letter| if harmless(letter) { letter } else { '_' }).collect();
        let mut folder = format!("{plain}.dump");
        while databases.iter().any(|database| database.folder == folder) {
            folder = format!("{plain}-{}.dump", databases.len());
        }
        let extensions = Vec::new();
        databases.push(Database {
            name,
            folder,
            owner,
            encoding,
            collate,
            ctype,
            provider,
            locale,
            bytes,
            extensions,
        });
    }
    Ok(databases)
}

/// What is in a table now, or in the snapshot of the session.
fn counted(
    session: &mut Psql,
    database: &str,
    schema: &str,
    table: &str,
    is_over: &(dyn Fn() -> bool + Sync),
) -> Result<TableCount, DumpError> {
    let name = format!("{}.{}", identifier(schema), identifier(table));
    let sql = format!(
        "select json_build_array(rows, digest::text) from ({}) as of(rows, digest)",
        witness::sql(&name, 100)
    );
    let row = session.rows(&sql, LONG, is_over)?;
    let (rows, digest) = row.first().and_then(|row| serde_json::from_str(row).ok()).unwrap_or_default();
    let (database, schema, table) = (database.to_owned(), schema.to_owned(), table.to_owned());
    Ok(TableCount { database, schema, table, share: 100, rows, digest })
}

/// Large objects, as if they were a table.
fn large_objects(
    session: &mut Psql,
    database: &str,
    is_over: &(dyn Fn() -> bool + Sync),
) -> Result<TableCount, DumpError> {
    let sql = format!(
        "select json_build_array(count(*), coalesce(sum(hashtextextended(oid::text || md5(lo_get(oid, 0, {LARGE})), 0)::numeric), 0)::text)
         from pg_largeobject_metadata"
    );
    let row = session.rows(&sql, LONG, is_over)?;
    let (rows, digest) = row.first().and_then(|row| serde_json::from_str(row).ok()).unwrap_or_default();
    let (schema, table) = ("pg_catalog".to_owned(), "pg_largeobject".to_owned());
    Ok(TableCount { database: database.to_owned(), schema, table, share: 100, rows, digest })
}

/// Counts the same again in a copy.
fn again(
    session: &mut Psql,
    was: &TableCount,
    is_over: &(dyn Fn() -> bool + Sync),
) -> Result<TableCount, DumpError> {
    match &*was.schema {
        "pg_catalog" => large_objects(session, &was.database, is_over),
        _ => counted(session, &was.database, &was.schema, &was.table, is_over),
    }
}

/// A folder that goes with it.
struct Folder(PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Bytes of what lies in a folder and one below.
fn size(folder: &Path) -> u64 {
    let of = |folder: &Path| fs::read_dir(folder).into_iter().flatten().flatten().collect::<Vec<_>>();
    let bytes = |entry: &fs::DirEntry| entry.metadata().map_or(0, |metadata| metadata.len());
    of(folder).iter().flat_map(|entry| of(&entry.path())).map(|entry| bytes(&entry)).sum()
}
