//! PostgreSQL: an own cluster with checksums, SCRAM passwords, TCP on loopback only.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use klar_base::AppKey;

use super::{Invocation, NotReady, Store, WATCHER, find_program};
use crate::report::Failure;

pub(super) const ADMIN: &str = "klar";
/// The folder of the cluster in that of the store.
pub(super) const CLUSTER: &str = "cluster";
/// What a restored copy has taken the place of.
pub(crate) const ASIDE: &str = "cluster.before";

/// Database and role of an app: identifiers that need no quotes anywhere.
pub(super) fn database(key: &AppKey) -> String {
    let name = if key.env.is_default() { key.app.to_string() } else { format!("{}_{}", key.app, key.env) };
    name.replace('-', "_")
}

/// The newest server that is installed: Debian keeps one folder for each major version.
pub(super) fn newest() -> Option<(u32, PathBuf)> {
    let versions = std::fs::read_dir("/usr/lib/postgresql").ok()?.flatten().filter_map(|entry| {
        let version: u32 = entry.file_name().to_str()?.parse().ok()?;
        let folder = entry.path().join("bin");
        folder.join("postgres").is_file().then_some((version, folder))
    });
    versions.max_by_key(|(version, _)| *version).or_else(|| {
        let found = find_program("postgres", &[])?;
        Some((0, found.parent()?.to_owned()))
    })
}

/// The library that counts statements, where it is installed: a server that shall load one that is not there does not
/// start.
const COUNTER: &str = "pg_stat_statements";

/// Whether the server in this folder of programs can count statements: Debian has its libraries beside them.
fn can_count(programs: &Path) -> bool {
    programs.parent().is_some_and(|folder| folder.join("lib").join(format!("{COUNTER}.so")).is_file())
}

pub(super) fn programs() -> Result<PathBuf, Failure> {
    newest().map(|(_, folder)| folder).ok_or_else(|| {
        Failure::new("PostgreSQL's server is not installed").hint(
            "run `apt-get install postgresql`; klar makes a cluster of its own and leaves Debian's alone",
        )
    })
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

pub(super) fn initialise(store: &Store, folder: &Path) -> Result<Invocation, Failure> {
    // Made under another name first, so that a kill in between leaves nothing that looks whole.
    const SCRIPT: &str = r#"
set -eu
umask 077
[ -e "$1/cluster/PG_VERSION" ] && exit 0
rm -rf "$1/cluster.new"
printf '%s' "$KLAR_PASSWORD" > "$1/password"
"$2/initdb" -D "$1/cluster.new" -U klar --pwfile="$1/password" --data-checksums \
    --auth=scram-sha-256 --encoding=UTF8 --locale=C.UTF-8 --no-instructions --allow-group-access
rm -f "$1/password"
sync "$1/cluster.new"
mv "$1/cluster.new" "$1/cluster"
"#;
    let command = ["/bin/sh", "-c", SCRIPT, "initdb", &text(folder), &text(&programs()?)];
    Ok(Invocation {
        command: command.map(String::from).to_vec(),
        env: vec![("KLAR_PASSWORD".into(), store.admin_password.expose().clone())],
    })
}

/// How a copy is put in the place of a cluster that does not run. A kill in between leaves the one or the other: while
/// `cluster.whole` is there the new one is, and [`run`] ends what was begun.
pub(crate) fn take_over(folder: &Path, from: &Path) -> Invocation {
    const SCRIPT: &str = r#"
set -eu
cd "$1"
rm -rf cluster.whole cluster.new
rm -rf cluster.before
cp -R -p --reflink=auto -T -- "$2" cluster.new
chmod -R g+rX,o= cluster.new
sync -f cluster.new
: > cluster.whole
sync -f cluster.whole
mv cluster cluster.before
mv cluster.new cluster
rm cluster.whole
sync -f cluster
"#;
    let command = ["/bin/sh", "-c", SCRIPT, "restore", &text(folder), &text(from)];
    Invocation { command: command.map(String::from).to_vec(), env: Vec::new() }
}

pub(super) fn run(store: &Store, folder: &Path) -> Result<Invocation, Failure> {
    let programs = programs()?;
    // Whom commits wait for is said by what keeps it, in a file that no copy of the folder has. It is in the folder's
    // group. A cluster that was made before is opened to the group once: the server gives files
    // that it makes the mode that the folder has.
    const OPEN: &str = r#"cd "${2%/*}" && [ -e cluster.whole ] && {
    [ -e cluster ] && [ -e cluster.new ] && rm -rf cluster.before && mv cluster cluster.before
    [ -e cluster ] || mv cluster.new cluster
    rm cluster.whole
}
grep -qs "^include_if_exists = '../ahead.conf'" "$2/postgresql.conf" ||
    printf '%s\n' "include_if_exists = '../ahead.conf'" >> "$2/postgresql.conf"
[ "$(stat -c %a "$2")" = 750 ] || chmod -R g+rX,o= "$2"; exec "$0" "$@""#;
    let mut command: Vec<String> = ["/bin/sh", "-c", OPEN].map(String::from).to_vec();
    command.extend([text(&programs.join("postgres")), "-D".into(), text(&folder.join("cluster"))]);
    if can_count(&programs) {
        // How often each statement ran and for how long: the first thing anybody asks of a slow database. It takes
        // about a megabyte, and has to be there when the server starts.
        command.extend(["-c".into(), format!("shared_preload_libraries={COUNTER}")]);
    }
    for setting in [
        format!("port={}", store.port),
        "listen_addresses=127.0.0.1".into(),
        "unix_socket_directories=".into(),
        // Ten instances with a pool of ten, twice during a deploy, and room for people.
        "max_connections=250".into(),
        "wal_level=replica".into(),
        // While the log cannot be streamed it stays, until this much waits: then the database matters more.
        "max_slot_wal_keep_size=4GB".into(),
        // What bounds the time to come back after a crash: how much has to be replayed, and how the folder is
        // flushed before (one call for the file system instead of one for each file).
        "checkpoint_timeout=1min".into(),
        "max_wal_size=256MB".into(),
        "wal_compression=on".into(),
        "recovery_init_sync_method=syncfs".into(),
        "log_line_prefix=%q%u@%d ".into(),
        "log_min_duration_statement=1s".into(),
        "log_lock_waits=on".into(),
        "idle_in_transaction_session_timeout=10min".into(),
    ] {
        command.extend(["-c".into(), setting]);
    }
    Ok(Invocation { command, env: Vec::new() })
}

fn psql(store: &Store, sql: &str, database: &str) -> Result<String, NotReady> {
    let folder = programs().map_err(NotReady::Never)?;
    let program = find_program("psql", &[folder]).ok_or_else(|| {
        NotReady::Never(
            Failure::new("`psql` is not installed").hint("run `apt-get install postgresql-client`"),
        )
    })?;
    let output = Command::new(program)
        .args([
            "--no-psqlrc",
            "--no-align",
            "--tuples-only",
            "--quiet",
            "--set=ON_ERROR_STOP=1",
            "--command",
            sql,
        ])
        .env_clear()
        .env("PGHOST", "127.0.0.1")
        .env("PGPORT", store.port.to_string())
        .env("PGUSER", ADMIN)
        .env("PGPASSWORD", store.admin_password.expose())
        .env("PGDATABASE", database)
        .env("PGCONNECT_TIMEOUT", "3")
        .env("PGOPTIONS", "-c statement_timeout=5s -c synchronous_commit=local")
        .env("LC_ALL", "C.UTF-8")
        .stdin(Stdio::null())
        .output()
        .map_err(|error| NotReady::Later(format!("psql could not be run: {error}")))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned());
    }
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    const NOT_OURS: [&str; 4] =
        ["password authentication failed", "no password supplied", "does not exist", "no pg_hba.conf entry"];
    if NOT_OURS.iter().any(|words| said.contains(words)) {
        return Err(NotReady::someone_else(store, "it is a PostgreSQL that does not know klar's password"));
    }
    if said.contains("invalid response") || said.contains("received invalid") {
        return Err(NotReady::someone_else(store, "it is not PostgreSQL"));
    }
    Err(NotReady::Later(said))
}

pub(super) fn verify(store: &Store, key: &AppKey) -> Result<String, NotReady> {
    let identity = psql(store, "select system_identifier from pg_control_system()", "postgres")?;
    if let Some(expected) = &store.identity
        && *expected != identity
    {
        let what = format!("it is another cluster (system identifier {identity}, expected {expected})");
        return Err(NotReady::someone_else(store, &what));
    }
    let (name, password) = (database(key), store.app_password.expose());
    let role = format!(
        "do $$ begin if not exists (select from pg_roles where rolname = '{name}') then \
         create role {name} login; end if; end $$; alter role {name} password '{password}'"
    );
    let there = psql(store, &format!("select 1 from pg_roles where rolname = '{name}'"), "postgres")?;
    // A cluster that came from another machine knows that one's password.
    if there.is_empty() || store.identity.is_none() {
        psql(store, &role, "postgres")?;
    }
    let there = psql(store, &format!("select 1 from pg_database where datname = '{name}'"), "postgres")?;
    if there.is_empty() {
        psql(store, &format!("create database {name} owner {name}"), "postgres")?;
    }
    watched(store);
    // A view for the app's role, which only a superuser may make. Without it the database is as good as ever.
    if programs().is_ok_and(|programs| can_count(&programs))
        && let Err(NotReady::Later(why)) =
            psql(store, &format!("create extension if not exists {COUNTER}"), &name)
    {
        eprintln!("{name}: statements are not counted: {why}");
    }
    Ok(identity)
}

/// Sees to it that telemetry's user is there: it may see numbers and what sessions do, and no table. Without it the
/// database is as good as ever.
fn watched(store: &Store) {
    let there = psql(store, &format!("select 1 from pg_roles where rolname = '{WATCHER}'"), "postgres");
    let made = there.and_then(|there| {
        let password = store.watcher_password();
        let password = password.expose();
        let role = match (there.is_empty(), store.identity.is_none()) {
            (false, false) => return Ok(there),
            (false, true) => format!("alter role \"{WATCHER}\" password '{password}'"),
            (true, _) => format!(
                "create role \"{WATCHER}\" login connection limit 3 password '{password}' in role pg_monitor"
            ),
        };
        psql(store, &role, "postgres")
    });
    if let Err(NotReady::Later(why)) = made {
        eprintln!("port {}: PostgreSQL is not watched: {why}", store.port);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statements_are_counted_only_where_the_library_is() {
        let folder = std::env::temp_dir().join(format!("klar-count-{}", std::process::id()));
        let (programs, libraries) = (folder.join("bin"), folder.join("lib"));
        std::fs::create_dir_all(&libraries).unwrap();
        assert!(!can_count(&programs));
        std::fs::write(libraries.join("pg_stat_statements.so"), "").unwrap();
        assert!(can_count(&programs));
        std::fs::remove_dir_all(folder).unwrap();
    }
}
