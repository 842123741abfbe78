//! Real servers of PostgreSQL and Redis, with a user such as klar gives telemetry.

use std::net::{TcpListener, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use klar_base::Secret;
use klar_base::see::{SeenInstance, StoreDoor, ToSee};

use super::{Folder, Program, Running, world};

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn answers(port: u16) {
    let begun = Instant::now();
    while TcpStream::connect(("127.0.0.1", port)).is_err() {
        assert!(begun.elapsed() < Duration::from_secs(120), "nobody listens at {port}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// The newest server's programs, where Debian puts them.
fn programs() -> Option<PathBuf> {
    let versions =
        std::fs::read_dir("/usr/lib/postgresql").ok()?.flatten().map(|entry| entry.path().join("bin"));
    versions.filter(|folder| folder.join("initdb").exists()).max()
}

/// PostgreSQL does not run as root.
fn as_somebody(program: &Path, folder: &Path) -> Command {
    let mut command = Command::new(program);
    command.current_dir(folder);
    if nix::unistd::geteuid().is_root() {
        const NOBODY: u32 = 65534;
        std::os::unix::fs::chown(folder, Some(NOBODY), Some(NOBODY)).unwrap();
        command.uid(NOBODY).gid(NOBODY);
    }
    command
}

fn done(command: &mut Command) {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// Tells telemetry of a store, and gives a look at a metric of it.
fn told(see: &Running, engine: &str, port: u16) {
    let mut with_store = world();
    with_store.apps[0].instances.push(SeenInstance {
        id: "shop.prod.db.1".parse().unwrap(),
        release: None,
        shim: None,
        ready: true,
        metrics: None,
        store: Some(StoreDoor {
            engine: engine.into(),
            port,
            user: "klar-see".into(),
            password: Secret::new("watch".into()),
            database: "shop".into(),
        }),
    });
    see.say(&ToSee::World(with_store));
}

fn value(see: &Running, query: &str, is: impl Fn(f64) -> bool) {
    let encoded: String = query.bytes().map(|byte| format!("%{byte:02x}")).collect();
    see.until(query, |see| {
        let data = see.get(&format!("/api/v1/query?query={encoded}"));
        let value = data["result"].as_array()?.first()?["value"][1].as_str()?.parse().ok()?;
        is(value).then_some(())
    });
}

#[test]
fn postgres_says_how_it_does() {
    let Some(programs) = programs() else {
        eprintln!("skipped: PostgreSQL is not installed (apt-get install postgresql)");
        return;
    };
    let (folder, store) = (Folder::new("postgres"), Folder::new("postgres-store"));
    let (cluster, port) = (store.path().join("cluster"), free_port());
    done(
        as_somebody(&programs.join("initdb"), store.path())
            .args(["-U", "klar", "--auth=scram-sha-256", "--pwfile=/dev/fd/0", "--no-sync", "-D"])
            .arg(&cluster)
            .stdin(password_file(store.path())),
    );
    let _postgres = Program::start(
        as_somebody(&programs.join("postgres"), store.path())
            .arg("-D")
            .arg(&cluster)
            .args(["-p", &port.to_string(), "-h", "127.0.0.1", "-k", "", "-c", "fsync=off"])
            .stderr(std::process::Stdio::null()),
    );
    let psql = |database: &str, sql: &str| {
        let mut command = Command::new(programs.join("psql"));
        command.args(["-h", "127.0.0.1", "-p", &port.to_string(), "-U", "klar", "-d", database, "-qc", sql]);
        command.env("PGPASSWORD", "secret").output().unwrap()
    };
    let begun = Instant::now();
    while !psql("postgres", "select 1").status.success() {
        assert!(begun.elapsed() < Duration::from_secs(120), "PostgreSQL does not answer");
        std::thread::sleep(Duration::from_millis(100));
    }
    for (database, sql) in [
        ("postgres", "create role \"klar-see\" login connection limit 3 password 'watch' in role pg_monitor"),
        ("postgres", "create database shop"),
        ("shop", "create table carts (id int); insert into carts values (1), (2)"),
    ] {
        let output = psql(database, sql);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    // A transaction that does not end.
    let _idle = Program::start(
        Command::new(programs.join("psql"))
            .args(["-h", "127.0.0.1", "-p", &port.to_string(), "-U", "klar", "-d", "shop"])
            .args(["-qc", "begin; lock table carts in access exclusive mode; select pg_sleep(600)"])
            .env("PGPASSWORD", "secret"),
    );
    let see = Running::start(&folder);
    told(&see, "postgres", port);
    for (query, least) in [
        (r#"pg_up{app="shop",env="prod",service="db"}"#, 1.0),
        (r#"pg_stat_database_xact_commit{datname="shop"}"#, 1.0),
        ("pg_stat_database_tup_inserted", 2.0),
        ("pg_stat_database_blks_hit", 1.0),
        ("pg_database_size_bytes", 1e6),
        (r#"pg_stat_activity_count{state="active"}"#, 1.0),
        (r#"pg_stat_activity_max_tx_duration{state="active"}"#, 0.001),
        (r#"pg_locks_count{mode="accessexclusivelock"}"#, 1.0),
        ("pg_wal_size_bytes", 1e6),
        ("pg_settings_max_connections", 10.0),
    ] {
        value(&see, query, |value| value >= least);
    }
    for query in
        ["pg_stat_database_deadlocks", "pg_replication_is_replica", r#"pg_stat_activity_count{state="idle"}"#]
    {
        value(&see, query, |value| value == 0.0);
    }
    see.end();
}

/// klar's own password, in a file that is gone with its folder.
fn password_file(folder: &Path) -> std::fs::File {
    let path = folder.join("password");
    std::fs::write(&path, "secret").unwrap();
    std::fs::File::open(path).unwrap()
}

#[test]
fn redis_says_how_it_does() {
    let (folder, store, port) = (Folder::new("redis"), Folder::new("redis-store"), free_port());
    if Command::new("redis-server").arg("--version").output().is_err() {
        eprintln!("skipped: Redis is not installed (apt-get install redis-server)");
        return;
    }
    let redis = Program::start(
        Command::new("redis-server")
            .args([
                "--port",
                &port.to_string(),
                "--bind",
                "127.0.0.1",
                "--save",
                "",
                "--daemonize",
                "no",
                "--dir",
            ])
            .arg(store.path())
            .args(["--loglevel", "warning"])
            .stdout(std::process::Stdio::null()),
    );
    answers(port);
    for words in [
        &["acl", "setuser", "klar-see", "reset", "on", ">watch", "+info", "+ping"][..],
        &["set", "a", "1"],
        &["get", "a"],
        &["get", "b"],
        &["setex", "c", "1000", "1"],
    ] {
        done(Command::new("redis-cli").args(["-p", &port.to_string()]).args(words));
    }
    let see = Running::start(&folder);
    told(&see, "redis", port);
    for (query, number) in [
        (r#"redis_up{app="shop",env="prod",service="db"}"#, 1.0),
        (r#"redis_db_keys{db="db0"}"#, 2.0),
        ("redis_db_keys_expiring", 1.0),
        ("redis_keyspace_hits_total", 1.0),
        ("redis_keyspace_misses_total", 1.0),
        ("redis_evicted_keys_total", 0.0),
        ("redis_blocked_clients", 0.0),
    ] {
        value(&see, query, |value| value == number);
    }
    value(&see, "redis_memory_used_bytes", |value| value > 1e5);
    // One that is gone is known to be.
    drop(redis);
    value(&see, "redis_up", |value| value == 0.0);
    see.end();
}
