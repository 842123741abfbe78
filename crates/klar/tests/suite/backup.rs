//! What an app keeps in its database comes back: to any second, into a copy, in place, with klar and without it.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::Value;

use crate::common::{App, Host};

const TOML: &str = r#"
[app]
name = "shop"

[services.web]
run = "node server.js"

[data.db]
postgres = "managed"

[backup]
assert = ["select count(*) >= 0 from orders"]
"#;

/// Says where its database is to whoever asks.
const SERVER: &str = "require('http').createServer((q, a) => a.end(process.env.DATABASE_URL))
.listen(process.env.PORT, '127.0.0.1');";

fn psql(address: &[&str], sql: &str) -> String {
    let output = Command::new("psql")
        .args(["-XAtq", "-v", "ON_ERROR_STOP=1", "-c", sql])
        .args(address)
        .output()
        .unwrap();
    assert!(output.status.success(), "{sql}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// A test that cannot be run here says so.
fn is_installed() -> bool {
    let there = Path::new("/usr/lib/postgresql").is_dir();
    if !there {
        eprintln!("skipped: PostgreSQL is not installed (apt-get install postgresql)");
    }
    there
}

/// The app, once its first point is proven, and where its database is.
fn up(host: &Host) -> (App<'_>, String) {
    let app = host.app("shop", &[("klar.toml", TOML), ("server.js", SERVER)]);
    // Questions about a table that is not there yet are not answered with true.
    app.klar(&["up"]);
    let url = app.get("/").1;
    psql(
        &[&url],
        "create table orders (id serial primary key, what text); insert into orders (what) values ('first')",
    );
    app.until("the log is streamed", || newest(&app).map(drop));
    (app, url)
}

fn newest(app: &App<'_>) -> Option<Value> {
    let output = app.run(&["backup", "list", "--json"]);
    let told: Value = serde_json::from_slice(&output.stdout).ok()?;
    told["points"].as_array()?.last().filter(|point| point["proven_unix_ms"].is_u64()).cloned()
}

#[test]
fn a_table_that_was_dropped_comes_back_as_it_was_the_second_before() {
    if !is_installed() {
        return;
    }
    let host = Host::new();
    let (app, url) = up(&host);
    let proof = app.json(&["backup", "now"]);
    assert_eq!(proof["steps"].as_array().unwrap().len(), 7, "{proof}");
    assert!(proof["rto_ms"].as_u64().unwrap() > 0);

    psql(&[&url], "insert into orders (what) select 'kept' from generate_series(1, 100)");
    let now = "select to_char(clock_timestamp() at time zone 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"')";
    let time = psql(&[&url], now);
    std::thread::sleep(Duration::from_millis(50));
    psql(&[&url], "insert into orders (what) values ('too late'); drop table orders");

    // What is asked for may not be shipped yet for a moment.
    let copy = app.until("a copy", || {
        let output = app.run(&["clone", "--at", &time, "--for", "10m", "--json"]);
        serde_json::from_slice::<Value>(
            output.stdout.split(|byte| *byte == b'\n').rfind(|line| !line.is_empty())?,
        )
        .ok()
        .filter(|copy| copy["socket"].is_string())
    });
    let socket = copy["socket"].as_str().unwrap();
    let count = "select count(*), count(*) filter (where what = 'too late') from orders";
    assert_eq!(psql(&["-h", socket, "-U", "klar", "shop"], count), "101|0");
    // It can be written to, and nothing of that reaches the real one.
    psql(&["-h", socket, "-U", "klar", "shop"], "delete from orders");

    let plan = app.json(&["restore", &time, "--dry-run"]);
    assert_eq!(plan["store"], "db");
    let refused = app.fails(&["restore", &time]);
    assert!(refused.contains("--yes shop.prod"), "{refused}");
    let refused = app.fails(&["restore", &time, "--yes", "shop"]);
    assert!(refused.contains("expected shop.prod, read `shop`"), "{refused}");
    app.klar(&["restore", &time, "--yes", "shop.prod"]);
    assert_eq!(psql(&[&url], count), "101|0");
    psql(&[&url], "insert into orders (what) values ('after')");
    // What came after it is kept again, from a new base on.
    let old = plan["point"].as_str().unwrap().to_owned();
    app.until("a new point", || {
        newest(&app).filter(|point| point["id"].as_str().unwrap() > &*old && point["good"] == true)
    });

    let folder = host.folder.join("taken-out");
    app.klar(&["restore", "latest", "--into", folder.to_str().unwrap()]);
    assert!(folder.join("PG_VERSION").is_file());
}

/// The machine is lost with all that was on it. What is left is `klar.toml`, the second place and the key from the drawer.
#[test]
fn another_machine_goes_on_from_the_second_place_alone() {
    if !is_installed() {
        return;
    }
    let outside = Host::new();
    let place = outside.folder.join("place");
    std::fs::create_dir(&place).unwrap();
    let sheet = outside.folder.join("drawer.txt");
    let known;
    let toml = format!("{TOML}offsite = {place:?}\n");
    let files = [("klar.toml", &*toml), ("server.js", SERVER)];
    {
        let host = Host::new();
        let app = host.app("shop", &files);
        app.klar(&["up"]);
        let url = app.get("/").1;
        psql(&[&url], "create table orders (id serial primary key, what text)");
        app.klar(&["backup", "now"]);
        psql(&[&url], "insert into orders (what) select 'kept' from generate_series(1, 100)");
        app.klar(&["backup", "key", "--out", sheet.to_str().unwrap()]);
        let now = jiff::Timestamp::now().as_millisecond().unsigned_abs();
        let second = app.until("the second place has it all", || {
            let status = app.json(&["backup", "list"])["status"]["second"].clone();
            (status["covered_unix_ms"].as_u64()? > now).then_some(status)
        });
        assert_eq!(second["place"], place.to_str().unwrap());
        let proof = app.json(&["drill", "restore", "--offsite", "--key", sheet.to_str().unwrap()]);
        assert_eq!((&proof["place"], &proof["escrow"]), (&second["place"], &Value::Bool(true)), "{proof}");
        app.klar(&["backup", "verify"]);
        // What is missing there is said.
        let repository = place.join("shop.prod/db");
        let lost = std::fs::read_dir(repository.join("snapshots")).unwrap().next().unwrap().unwrap().path();
        std::fs::rename(&lost, outside.folder.join("lost")).unwrap();
        let said = app.fails(&["backup", "verify"]);
        assert!(said.contains(lost.file_name().unwrap().to_str().unwrap()), "{said}");
        std::fs::rename(outside.folder.join("lost"), &lost).unwrap();
        known = newest(&app).unwrap()["id"].clone();
    }
    let host = Host::new();
    let app = host.app("shop", &files);
    app.klar(&["up"]);
    let url = app.get("/").1;
    let (from, key) = (place.to_str().unwrap(), sheet.to_str().unwrap());
    app.klar(&["restore", "latest", "--from", from, "--key", key, "--yes", "shop.prod"]);
    assert_eq!(psql(&[&url], "select count(*) from orders"), "100");
    // It goes on there: all points that there were, and new ones, here and at the second place.
    psql(&[&url], "insert into orders (what) values ('after')");
    let now = jiff::Timestamp::now().as_millisecond().unsigned_abs();
    let list = || serde_json::from_slice::<Value>(&app.run(&["backup", "list", "--json"]).stdout).ok();
    let points = |told: &Value| told["points"].as_array().cloned().unwrap_or_default();
    app.until("the repository goes on here", || {
        list().filter(|told| points(told).iter().any(|point| point["id"] == known))
    });
    app.until("a new point", || {
        list().filter(|told| {
            points(told).last().is_some_and(|last| last["good"] == true && last["id"] != known)
        })
    });
    let told = app.until("the second place goes on", || {
        list().filter(|told| told["status"]["second"]["covered_unix_ms"].as_u64() > Some(now))
    });
    assert_eq!(told["refused"], serde_json::json!([]), "{told}");
    app.klar(&["backup", "verify"]);
}

/// A machine with sshd, as a test's own user.
struct Sshd(std::process::Child);

impl Drop for Sshd {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// One that lets in whom `authorized` in the folder names, and a place on it.
fn sshd(folder: &Path) -> (Sshd, String) {
    if nix::unistd::geteuid().is_root() {
        // The package's service makes it.
        std::fs::create_dir_all("/run/sshd").unwrap();
    }
    let mut keygen = Command::new("ssh-keygen");
    let made = keygen.args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(folder.join("host")).status();
    assert!(made.unwrap().success());
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let text = format!(
        "Port {port}\nListenAddress 127.0.0.1\nHostKey {}\nAuthorizedKeysFile {}\nStrictModes no\nUsePAM no\n\
         PermitRootLogin yes\nPidFile none\nSubsystem sftp internal-sftp\n",
        folder.join("host").display(),
        folder.join("authorized").display()
    );
    std::fs::write(folder.join("sshd_config"), text).unwrap();
    let mut command = Command::new("/usr/sbin/sshd");
    command.args(["-D", "-E"]).arg(folder.join("log")).arg("-f").arg(folder.join("sshd_config"));
    let sshd = Sshd(command.spawn().unwrap());
    let user = nix::unistd::User::from_uid(nix::unistd::geteuid()).unwrap().unwrap().name;
    (sshd, format!("sftp://{user}@127.0.0.1:{port}{}", folder.join("there").display()))
}

/// What another machine refuses is said with the line that it needs; with that line there, it has all of it, and a third
/// machine restores from it.
#[test]
fn a_machine_with_sshd_is_a_second_place() {
    if !is_installed() {
        return;
    }
    if !Path::new("/usr/sbin/sshd").is_file() {
        eprintln!("skipped: sshd is not installed (apt-get install openssh-server)");
        return;
    }
    let outside = Host::new();
    let (_sshd, place) = sshd(&outside.folder);
    let lets_in = |hint: &str| {
        let line = hint.lines().find(|line| line.trim().starts_with("restrict,command=")).unwrap();
        std::fs::write(outside.folder.join("authorized"), format!("{}\n", line.trim())).unwrap();
    };
    let sheet = outside.folder.join("drawer.txt");
    let toml = format!("{TOML}offsite = {place:?}\n");
    let files = [("klar.toml", &*toml), ("server.js", SERVER)];
    {
        let host = Host::new();
        let app = host.app("shop", &files);
        app.klar(&["up"]);
        let url = app.get("/").1;
        psql(&[&url], "create table orders (id serial primary key, what text)");
        let list = || serde_json::from_slice::<Value>(&app.run(&["backup", "list", "--json"]).stdout).ok();
        let hint = app.until("the other machine refuses the key", || {
            let told = list()?["status"].clone();
            let is_it = told["trouble"].as_str()?.contains("Permission denied");
            is_it.then(|| told["hint"].as_str().map(str::to_owned))?
        });
        lets_in(&hint);
        app.klar(&["backup", "now"]);
        psql(&[&url], "insert into orders (what) select 'kept' from generate_series(1, 100)");
        app.klar(&["backup", "key", "--out", sheet.to_str().unwrap()]);
        let now = jiff::Timestamp::now().as_millisecond().unsigned_abs();
        let second = app.until("the second place has it all", || {
            let status = list()?["status"]["second"].clone();
            (status["covered_unix_ms"].as_u64()? > now).then_some(status)
        });
        assert_eq!(second["place"], *place);
        let proof = app.json(&["drill", "restore", "--offsite", "--key", sheet.to_str().unwrap()]);
        assert_eq!((&proof["place"], &proof["escrow"]), (&second["place"], &Value::Bool(true)), "{proof}");
        app.klar(&["backup", "verify"]);
    }
    let host = Host::new();
    let app = host.app("shop", &[("klar.toml", TOML), ("server.js", SERVER)]);
    app.klar(&["up"]);
    let url = app.get("/").1;
    let restore =
        ["restore", "latest", "--from", &place, "--key", sheet.to_str().unwrap(), "--yes", "shop.prod"];
    lets_in(&app.fails(&restore));
    app.klar(&restore);
    assert_eq!(psql(&[&url], "select count(*) from orders"), "100");
}

/// The plan is written, and followed in a rig that is really lost; what the real second place has stays as it was.
#[test]
fn a_machine_that_is_lost_is_rebuilt_by_its_plan() {
    if !is_installed() {
        return;
    }
    let host = Host::new();
    let place = host.folder.join("place");
    std::fs::create_dir(&place).unwrap();
    let toml = format!(
        "{TOML}offsite = {place:?}\n[recovery]\ncontact = \"Kari, +47 22 22 22 22\"\ndecides = \"Kari\"\n\
         restores = \"Ola\"\ninforms = \"Ola\"\nrto = \"10m\"\n"
    );
    // A question that only the real data can answer has no place in a rig.
    let toml = toml.replace("assert = [\"select count(*) >= 0 from orders\"]\n", "");
    let toml = toml.replace(
        "run = \"node server.js\"",
        "run = \"node server.js\"\nwritable = [\"uploads\"]\nenv = { TOKEN = \"file:token\" }",
    );
    let files = [("klar.toml", &*toml), ("server.js", SERVER), ("token", "t"), (".gitignore", "/token\n")];
    let app = host.app("shop", &files);
    let git = |args: &[&str]| {
        let who = ["-c", "user.name=Kari", "-c", "user.email=kari@example.org", "-c", "safe.directory=*"];
        let status = Command::new("git").args(who).args(args).current_dir(&app.folder).status();
        assert!(status.unwrap().success(), "git {args:?}");
    };
    app.klar(&["up"]);
    // Without the plan, and outside of Git.
    let parts = |args: &[&str]| {
        let output = app.run(&[&["check", "--all", "--format", "json"], args].concat());
        let report: Value = serde_json::from_slice(&output.stdout).unwrap();
        let rows = report["rows"].as_array().unwrap().clone();
        move |row: &str, part: &str| {
            let row = rows.iter().find(|each| each["row"] == row).unwrap();
            let part = row["parts"].as_array().unwrap().iter().find(|each| each["part"] == part).unwrap();
            (
                part["saw"].as_str().unwrap_or("nobody looked").to_owned(),
                part["because"]["en"].as_str().unwrap_or_default().to_owned(),
            )
        }
    };
    let part = parts(&["--only", "recovery-plan"]);
    let (saw, because) = part("dr.plan", "content");
    assert!(saw == "broken" && because.contains("klar drill plan --out"), "{saw}: {because}");
    app.klar(&["drill", "plan", "--out", app.folder.join("docs/recovery.md").to_str().unwrap()]);
    git(&["init", "-q"]);
    git(&["add", "-A"]);
    git(&["commit", "-qm", "a shop"]);
    app.klar(&["deploy"]);
    let part = parts(&["--full", "--only", "recovery-plan", "--only", "disaster"]);
    for (row, name) in [
        ("dr.plan", "content"),
        ("dr.plan", "commands"),
        ("dr.plan", "drill"),
        ("dr.drill", "rebuild"),
        ("dr.drill", "rto"),
        ("dr.drill", "rpo"),
        ("dr.drill", "smoke-test"),
        ("docs.recovery", "same-commands"),
    ] {
        let (saw, because) = part(row, name);
        assert_eq!(saw, "held", "{row} {name}: {because}");
    }
    assert!(part("dr.drill", "rebuild").1.ends_with("from the drawer came the key and token"));
    // What a rig keeps never comes near what is worth something.
    app.klar(&["backup", "verify"]);
    assert_eq!(app.json(&["backup", "list"])["status"]["trouble"], Value::Null);
}

#[test]
fn the_key_from_the_drawer_opens_what_is_kept_and_a_rotten_copy_is_never_called_good() {
    if !is_installed() {
        return;
    }
    let host = Host::new();
    let (app, _) = up(&host);
    app.klar(&["backup", "now"]);
    let sheet = host.folder.join("drawer.txt");
    app.klar(&["backup", "key", "--out", sheet.to_str().unwrap()]);
    let proof = app.json(&["drill", "restore", "--key", sheet.to_str().unwrap()]);
    assert_eq!(proof["escrow"], true);
    let text = std::fs::read_to_string(&sheet).unwrap();
    let password = text.lines().find_map(|line| line.strip_prefix("password: ")).unwrap();
    std::fs::write(&sheet, "password: wrong\n").unwrap();
    assert!(
        app.fails(&["drill", "restore", "--key", sheet.to_str().unwrap()])
            .contains("opens with this password")
    );

    // Debian's restic, with the sheet of paper and nothing of klar's.
    let repository = host.state.join("keep/shop.prod/db/repository");
    let restic = |args: &[&str]| {
        let output = Command::new("restic")
            .args(["--no-cache", "--no-lock", "-r"])
            .arg(&repository)
            .args(args)
            .env("RESTIC_PASSWORD", password)
            .output();
        let output = output.expect("restic is installed: `apt-get install restic`");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    restic(&["check", "--read-data"]);
    let snapshots: Value = serde_json::from_str(&restic(&["snapshots", "--json", "--tag", "base"])).unwrap();
    assert!(snapshots.as_array().unwrap().len() >= 2);
    app.klar(&["backup", "verify"]);
    without_klar(&host.folder, &restic);

    let mut packs = Vec::new();
    for folder in std::fs::read_dir(repository.join("data")).unwrap().flatten() {
        packs.extend(std::fs::read_dir(folder.path()).unwrap().flatten().map(|entry| entry.path()));
    }
    for pack in packs {
        let mut bytes = std::fs::read(&pack).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        let owner = std::os::unix::fs::MetadataExt::uid(&pack.metadata().unwrap());
        std::fs::remove_file(&pack).unwrap();
        std::fs::write(&pack, bytes).unwrap();
        std::os::unix::fs::chown(&pack, Some(owner), None).unwrap();
    }
    assert!(app.fails(&["backup", "verify"]).contains("wrong in the repository"));
    assert!(app.fails(&["drill", "restore"]).contains("is not proven"));
    assert_eq!(newest(&app).unwrap()["good"], false);
}

/// As the guide on disaster recovery says, word for word where that can be.
fn without_klar(folder: &Path, restic: &dyn Fn(&[&str]) -> String) {
    let (cluster, wal) = (folder.join("pg/cluster"), folder.join("pg/wal"));
    restic(&["restore", "latest", "--tag", "base", "--target", cluster.to_str().unwrap()]);
    let snapshots: Value = serde_json::from_str(&restic(&["snapshots", "--tag", "wal", "--json"])).unwrap();
    for snapshot in snapshots.as_array().unwrap() {
        restic(&["restore", snapshot["id"].as_str().unwrap(), "--target", wal.to_str().unwrap()]);
    }
    let settings = cluster.join("postgresql.auto.conf");
    let before = std::fs::read_to_string(&settings).unwrap_or_default();
    std::fs::write(&settings, format!("{before}restore_command = 'cp {}/%f %p'\n", wal.display())).unwrap();
    std::fs::write(cluster.join("recovery.signal"), "").unwrap();
    // Whoever has no password any more lets himself in.
    std::fs::write(cluster.join("pg_hba.conf"), "local all all trust\n").unwrap();
    let is_root = crate::common::is_root();
    if is_root {
        let owned = Command::new("chown").args(["-R", "postgres:"]).arg(folder.join("pg")).status().unwrap();
        assert!(owned.success());
    }
    assert!(Command::new("chmod").arg("750").arg(&cluster).status().unwrap().success());
    let programs =
        std::fs::read_dir("/usr/lib/postgresql").unwrap().flatten().map(|entry| entry.path()).max().unwrap();
    let mut command = if is_root {
        let mut command = Command::new("setpriv");
        command
            .args(["--reuid=postgres", "--regid=postgres", "--clear-groups"])
            .arg(programs.join("bin/postgres"));
        command
    } else {
        Command::new(programs.join("bin/postgres"))
    };
    let socket = format!("unix_socket_directories={}", cluster.display());
    command.arg("-D").arg(&cluster).args(["-c", "listen_addresses=", "-c", &socket, "-c", "hot_standby=off"]);
    let log = folder.join("pg/server.log");
    let mut server = command.stderr(std::fs::File::create(&log).unwrap()).spawn().unwrap();
    let asked = || {
        let host = cluster.to_str().unwrap();
        let sql = "select what from orders where not pg_is_in_recovery()";
        let output = Command::new("psql")
            .args(["-XAtq", "-h", host, "-U", "klar", "-c", sql, "shop"])
            .output()
            .unwrap();
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    };
    let begun = std::time::Instant::now();
    while asked() != "first" && begun.elapsed() < Duration::from_secs(60) {
        std::thread::sleep(Duration::from_millis(100));
    }
    let found = asked();
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(server.id() as i32), nix::sys::signal::SIGINT).unwrap();
    server.wait().unwrap();
    assert_eq!(found, "first", "{}", std::fs::read_to_string(log).unwrap());
}

/// A row that was acknowledged: its number, and when it was begun and acknowledged.
type Row = (u64, jiff::Timestamp, jiff::Timestamp);

/// Writes rows until it is told to end; what is refused while the database is away is no row.
fn write_rows(url: &str, is_over: &AtomicBool) -> Vec<Row> {
    let mut rows = Vec::new();
    for number in 1.. {
        if is_over.load(Ordering::Acquire) {
            break;
        }
        let begun = jiff::Timestamp::now();
        let sql = format!("insert into orders (id, what) values ({number}, 'row')");
        let written = Command::new("psql").args(["-XAtq", "-c", &sql, url]).output().unwrap();
        if written.status.success() {
            rows.push((number, begun, jiff::Timestamp::now()));
        }
    }
    rows
}

/// Ends one of the processes that have to do with the data, without a word.
fn kill_one(app: &App<'_>, which: &str) {
    let pattern = format!("{which}.*{}", app.host.state.display());
    let found = Command::new("pgrep").args(["-f", "-o", &pattern]).output().unwrap();
    if let Some(pid) = String::from_utf8(found.stdout).unwrap().lines().next() {
        let pid = nix::unistd::Pid::from_raw(pid.parse().unwrap());
        let _ = nix::sys::signal::kill(pid, nix::sys::signal::SIGKILL);
    }
}

/// Processes die at any moment, and what was acknowledged is there all the same, as of any time. `KLAR_CRASH_ROUNDS=300`
/// for the full count, `KLAR_CRASH_SEED` for the same again.
#[test]
fn what_keeps_the_data_may_be_killed() {
    if !is_installed() {
        return;
    }
    let of = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let rounds = of("KLAR_CRASH_ROUNDS").unwrap_or(6);
    let seed = of("KLAR_CRASH_SEED").unwrap_or_else(|| u64::from(std::process::id()));
    println!("KLAR_CRASH_SEED={seed}");
    // Knuth's numbers for a generator that is good enough for this.
    let mut state = seed;
    let mut random = |below: u64| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % below
    };
    let host = Host::new();
    let (app, url) = up(&host);
    psql(&[&url], "truncate orders");
    let from = jiff::Timestamp::now();
    let is_over = AtomicBool::new(false);
    let rows = std::thread::scope(|scope| {
        let writer = scope.spawn(|| write_rows(&url, &is_over));
        for round in 0..rounds {
            let which = ["klar keep --folder", "pg_receivewal", "postgres -D"][random(3) as usize];
            println!("round {round}: {which}");
            kill_one(&app, which);
            std::thread::sleep(Duration::from_millis(200 + random(1200)));
        }
        is_over.store(true, Ordering::Release);
        writer.join().unwrap()
    });
    let to = jiff::Timestamp::now();
    assert!(rows.len() > rounds as usize, "{} rows in {rounds} rounds", rows.len());
    app.until("all of it is kept", || {
        let output = app.run(&["backup", "list", "--json"]);
        let told: Value = serde_json::from_slice(&output.stdout).ok()?;
        let covered = told["status"]["covered_unix_ms"].as_u64()?;
        (covered > u64::try_from(to.as_millisecond()).ok()?).then_some(())
    });
    for at in 0..3 {
        let span = to.duration_since(from).as_millis() as u64;
        let time = if at == 0 { to } else { from + Duration::from_millis(random(span)) };
        let copy = app.json(&["clone", "--at", &time.to_string(), "--for", "5m"]);
        let found =
            psql(&["-h", copy["socket"].as_str().unwrap(), "-U", "klar", "shop"], "select id from orders");
        let found: BTreeSet<u64> = found.lines().map(|line| line.parse().unwrap()).collect();
        let missing = rows.iter().filter(|(id, _, acknowledged)| *acknowledged < time && !found.contains(id));
        let too_new = rows.iter().filter(|(id, begun, _)| *begun > time && found.contains(id));
        assert_eq!(
            (missing.count(), too_new.count()),
            (0, 0),
            "{time}, {} rows of {}",
            found.len(),
            rows.len()
        );
        println!("{time}: {} of {} rows, 0 missing, 0 too new", found.len(), rows.len());
    }
    app.klar(&["backup", "verify"]);
    let problems = app.status()["problems"].clone();
    assert_eq!(problems.as_array().unwrap().len(), 0, "{problems}");
}

/// What an app writes to its folders, a SQLite database among it, is kept without a word in `klar.toml`, comes back in
/// place, and goes on on another machine.
#[test]
fn what_an_app_writes_to_its_folders_comes_back() {
    const FILES: &str = "\n[app]\nname = \"shop\"\n[services.web]\nrun = \"node server.js\"\nwritable = [\"uploads\", \"data\"]\n[backup]\n";
    const WRITES: &str = r#"const fs = require('fs');
require('http').createServer((q, a) => {
  if (q.url === '/first') fs.writeFileSync('uploads/a "b".txt', 'written');
  if (q.url === '/later') fs.writeFileSync('uploads/later', 'written');
  a.end(fs.readdirSync('uploads').sort().join('|'));
}).listen(process.env.PORT, '127.0.0.1');"#;
    let outside = Host::new();
    let place = outside.folder.join("place");
    std::fs::create_dir(&place).unwrap();
    let sheet = outside.folder.join("drawer.txt");
    let toml = format!("{FILES}offsite = {place:?}\n");
    let files = [("klar.toml", &*toml), ("server.js", WRITES)];
    let sqlite = |app: &App<'_>, sql: &str| {
        let file = app.host.state.join("apps/shop.prod/writable/data/shop.db");
        let output = Command::new("sqlite3").arg(file).arg(sql).output();
        output.ok().map(|output| String::from_utf8(output.stdout).unwrap().trim().to_owned())
    };
    let proven = |app: &App<'_>| {
        let kept = app.status()["kept"].as_array()?.clone();
        (kept.len() == 1 && kept[0]["store"] == "files" && kept[0]["proven_unix_ms"].is_u64()).then_some(())
    };
    let names = "a \"b\".txt|later";
    {
        let host = Host::new();
        let app = host.app("shop", &files);
        app.klar(&["up"]);
        app.until("the first point", || proven(&app));
        app.get("/first");
        sqlite(&app, "create table orders (n); insert into orders values (1), (2)");
        let proof = app.json(&["backup", "now"]);
        let said = proof["steps"].to_string();
        assert!(said.contains("are what was read at"), "{said}");
        if sqlite(&app, "select 1").is_some() {
            assert!(said.contains("1 tables with 2 rows"), "{said}");
        }
        let before = proof["point"].as_str().unwrap().to_owned();
        app.get("/later");
        app.klar(&["backup", "now"]);
        app.klar(&["backup", "key", "--out", sheet.to_str().unwrap()]);
        app.klar(&["restore", &before, "--yes", "shop.prod"]);
        assert_eq!(app.get("/").1, "a \"b\".txt");
        app.klar(&["restore", "latest", "--yes", "shop.prod"]);
        assert_eq!(app.get("/").1, names);
        let copy = app.json(&["clone", "--at", &before, "--for", "5m"]);
        let data = Path::new(copy["data"].as_str().unwrap());
        assert!(data.join("uploads/a \"b\".txt").exists() && !data.join("uploads/later").exists());
        // What is here is there, too.
        app.klar(&["backup", "verify"]);
        app.json(&["drill", "restore", "--offsite", "--key", sheet.to_str().unwrap()]);
    }
    let host = Host::new();
    let app = host.app("shop", &files);
    app.klar(&["up"]);
    let (from, key) = (place.to_str().unwrap(), sheet.to_str().unwrap());
    app.klar(&["restore", "latest", "--from", from, "--key", key, "--yes", "shop.prod"]);
    assert_eq!(app.get("/").1, names);
    if let Some(rows) = sqlite(&app, "select count(*) from orders") {
        assert_eq!(rows, "2");
    }
    let list = || serde_json::from_slice::<Value>(&app.run(&["backup", "list", "--json"]).stdout).ok();
    app.until("the repository goes on here", || {
        list().filter(|told| told["points"].as_array().is_some_and(|points| points.len() >= 3))
    });
    app.until("the second place goes on", || {
        list().filter(|told| {
            told["status"]["second"]["covered_unix_ms"].is_u64() && told["status"]["trouble"].is_null()
        })
    });
}

/// What is in a Redis that klar runs is kept without a word in `klar.toml`, comes back in place after it was emptied, can be
/// looked at beside the real one, and goes on on another machine.
#[test]
fn what_is_in_a_redis_comes_back() {
    if !Path::new("/usr/bin/redis-server").is_file() {
        eprintln!("skipped: Redis is not installed (apt-get install redis-server)");
        return;
    }
    const REDIS: &str = "\n[app]\nname = \"shop\"\n[services.web]\nrun = \"node server.js\"\n[data.cache]\nredis = \"managed\"\n[backup]\n";
    const SAYS: &str = "require('http').createServer((q, a) => a.end(process.env.REDIS_URL))
.listen(process.env.PORT, '127.0.0.1');";
    let outside = Host::new();
    let place = outside.folder.join("place");
    std::fs::create_dir(&place).unwrap();
    let sheet = outside.folder.join("drawer.txt");
    let toml = format!("{REDIS}offsite = {place:?}\n");
    let files = [("klar.toml", &*toml), ("server.js", SAYS)];
    let cli = |at: &[&str], words: &[&str]| {
        let output =
            Command::new("redis-cli").arg("--no-auth-warning").args(at).args(words).output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && !said.contains("NOAUTH"), "{words:?}: {said}");
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    };
    // `redis-cli -u` takes a name that is empty for one.
    let door = |app: &App<'_>| app.get("/").1.replace("redis://:", "redis://default:");
    let proven = |app: &App<'_>| {
        let kept = app.status()["kept"].as_array()?.clone();
        (kept.len() == 1 && kept[0]["store"] == "cache" && kept[0]["proven_unix_ms"].is_u64()).then_some(())
    };
    let (from, key) = (place.to_str().unwrap(), sheet.to_str().unwrap());
    {
        let host = Host::new();
        let app = host.app("shop", &files);
        app.klar(&["up"]);
        app.until("the first point", || proven(&app));
        let url = door(&app);
        let at = ["-u", &*url];
        cli(&at, &["SET", "smørbrød", "a\r\nb"]);
        cli(&at, &["SET", "basket", "x", "EX", "10000"]);
        cli(&at, &["RPUSH", "queue", "1", "2", "3"]);
        cli(&["-u", &url, "-n", "3"], &["HSET", "of another database", "a", "1"]);
        let proof = app.json(&["backup", "now", "--store", "cache"]);
        let said = proof["steps"].to_string();
        assert!(said.contains("4 keys in 2 databases are what they were"), "{said}");
        assert!(proof["rto_ms"].is_u64());
        let before = proof["point"].as_str().unwrap().to_owned();
        app.klar(&["backup", "key", "--out", key]);

        cli(&at, &["FLUSHALL"]);
        cli(&at, &["SET", "only later", "1"]);
        app.klar(&["restore", "latest", "--store", "cache", "--yes", "shop.prod"]);
        let is_whole = |at: &[&str]| {
            assert_eq!(cli(at, &["GET", "smørbrød"]), "a\r\nb");
            assert_eq!(cli(at, &["LRANGE", "queue", "0", "-1"]), "1\n2\n3");
            assert!(cli(at, &["TTL", "basket"]).parse::<i64>().unwrap() > 0);
            assert_eq!(cli(&[at, &["-n", "3"]].concat(), &["HGET", "of another database", "a"]), "1");
            assert_eq!(cli(at, &["DBSIZE"]), "3");
        };
        is_whole(&at);
        let store = host.state.join("data/shop.prod/cache");
        assert!(store.join("files.before").is_dir() && !store.join("files.whole").exists());

        // It is written down as before: what comes now survives a kill, and is in the next point.
        cli(&at, &["SET", "after", "1"]);
        app.until("it is on disk", || {
            (cli(&at, &["INFO", "persistence"]).contains("aof_pending_bio_fsync:0")).then_some(())
        });
        std::thread::sleep(Duration::from_millis(1500));
        let pid: i32 = cli(&at, &["INFO", "server"])
            .lines()
            .find_map(|line| line.trim().strip_prefix("process_id:")?.parse().ok())
            .unwrap();
        assert!(Command::new("kill").args(["-9", &pid.to_string()]).status().unwrap().success());
        app.until("it is there again", || {
            let output =
                Command::new("redis-cli").args(["--no-auth-warning", "-u", &url, "GET", "after"]).output();
            (output.ok()?.stdout == b"1\n").then_some(())
        });
        app.klar(&["backup", "now"]);

        // Beside the real one, and as a file.
        let copy = app.json(&["clone", "--at", &before, "--store", "cache", "--for", "5m"]);
        is_whole(&["-s", copy["socket"].as_str().unwrap()]);
        cli(&["-s", copy["socket"].as_str().unwrap()], &["FLUSHALL"]);
        assert_eq!(cli(&at, &["GET", "after"]), "1");
        let folder = host.folder.join("taken-out");
        app.klar(&["restore", &before, "--store", "cache", "--into", folder.to_str().unwrap()]);
        assert!(std::fs::read(folder.join("dump.rdb")).unwrap().starts_with(b"REDIS"));

        app.klar(&["backup", "verify"]);
        app.json(&["drill", "restore", "--store", "cache", "--offsite", "--key", key]);
        let told = app.klar(&["backup", "list"]);
        assert!(told.contains("cache 3 points"), "{told}");
    }
    let host = Host::new();
    let app = host.app("shop", &files);
    app.klar(&["up"]);
    app.klar(&["restore", "latest", "--from", from, "--key", key, "--yes", "shop.prod"]);
    let url = door(&app);
    assert_eq!(cli(&["-u", &url], &["GET", "after"]), "1");
    assert_eq!(cli(&["-u", &url], &["DBSIZE"]), "4");
    app.until("the repository goes on here", || {
        let told: Value = serde_json::from_slice(&app.run(&["backup", "list", "--json"]).stdout).ok()?;
        told["points"].as_array().filter(|points| points.len() == 3).map(drop)
    });
}

/// A PostgreSQL that klar knows nothing of but its address; it ends with the test.
struct Elsewhere {
    server: std::process::Child,
    socket: String,
    port: String,
    folder: std::path::PathBuf,
}

impl Drop for Elsewhere {
    fn drop(&mut self) {
        let _ = Command::new("kill").args(["-QUIT", &self.server.id().to_string()]).status();
        let _ = self.server.wait();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

impl Elsewhere {
    fn start() -> Self {
        let versions = std::fs::read_dir("/usr/lib/postgresql").unwrap().flatten();
        let newest =
            versions.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok()).max().unwrap();
        let port =
            std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port().to_string();
        let folder = std::env::temp_dir().join(format!("klar-elsewhere-{port}"));
        std::fs::create_dir_all(&folder).unwrap();
        let program = |name: &str| {
            let path = format!("/usr/lib/postgresql/{newest}/bin/{name}");
            // PostgreSQL refuses to run as root.
            let mut command = Command::new(if crate::common::is_root() { "/usr/bin/setpriv" } else { &path });
            if crate::common::is_root() {
                command.args(["--reuid", "postgres", "--regid", "postgres", "--clear-groups", "--", &path]);
            }
            command.arg("-D").arg(folder.join("data"));
            command
        };
        if crate::common::is_root() {
            let given = Command::new("chown").arg("postgres:").arg(&folder).status().unwrap();
            assert!(given.success());
        }
        let mut initdb = program("initdb");
        initdb.args([
            "-U",
            "admin",
            "--no-sync",
            "--auth-local=trust",
            "--auth-host=scram-sha-256",
            "--locale=C.UTF-8",
        ]);
        let made = initdb.args(["--encoding=UTF8"]).output().unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let mut server = program("postgres");
        server.args(["-p", &port, "-c", "listen_addresses=127.0.0.1", "-c", "fsync=off", "-k"]).arg(&folder);
        let log = std::fs::File::create(folder.join("log")).unwrap();
        let server = server.stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap();
        let socket = folder.display().to_string();
        let elsewhere = Self { server, socket, port, folder };
        for _ in 0..200 {
            let asked =
                Command::new("psql").args(elsewhere.admin("postgres")).args(["-c", "select 1"]).output();
            if asked.unwrap().status.success() {
                break;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        for sql in
            ["create role shop login createdb password 'very secret'", "create database shop owner shop"]
        {
            psql(&elsewhere.admin("postgres"), sql);
        }
        elsewhere
    }

    fn admin<'a>(&'a self, database: &'a str) -> [&'a str; 8] {
        ["-h", &self.socket, "-p", &self.port, "-U", "admin", "-d", database]
    }
}

/// A database that is given by its address is dumped without a word in `klar.toml`, and each dump is proven; it can be looked
/// at, taken out, and loaded beside the one that is there; what is wrong with it is said.
#[test]
fn a_database_elsewhere_comes_back() {
    if !is_installed() {
        return;
    }
    let server = Elsewhere::start();
    let host = Host::new();
    let place = host.folder.join("place");
    std::fs::create_dir(&place).unwrap();
    let (secret, sheet) = (host.folder.join("address"), host.folder.join("drawer.txt"));
    let url = format!("postgres://shop:very%20secret@127.0.0.1:{}/shop", server.port);
    std::fs::write(&secret, &url).unwrap();
    psql(&[&url], "create table orders (id serial primary key, what text)");
    psql(&[&url], "insert into orders (what) select 'order ' || n from generate_series(1, 500) n");
    let toml = format!(
        "\n[app]\nname = \"shop\"\n[services.web]\nrun = \"node server.js\"\n[data.db]\nurl = \"file:{}\"\n[backup]\noffsite = {place:?}\n",
        secret.display()
    );
    let app = host.app("shop", &[("klar.toml", &toml), ("server.js", SERVER)]);
    app.klar(&["up"]);
    app.until("the first dump is proven", || {
        let kept = app.status()["kept"].as_array()?.clone();
        assert!(kept.iter().all(|one| one["dumps"] == "daily" && one["daily"] == true), "{kept:?}");
        (kept.len() == 1 && kept[0]["store"] == "db" && kept[0]["proven_unix_ms"].is_u64()).then_some(())
    });
    let told = app.klar(&["backup", "list"]);
    assert!(
        told.contains("db dumped each day: 1 point") && told.contains("any second needs `managed`"),
        "{told}"
    );

    psql(&[&url], "insert into orders (what) values ('one more')");
    let proof = app.json(&["backup", "now"]);
    let said = proof["steps"].to_string();
    assert!(said.contains("1 tables with 501 rows are what was read in its snapshot"), "{said}");
    let before = proof["point"].as_str().unwrap().to_owned();
    app.klar(&["backup", "key", "--out", sheet.to_str().unwrap()]);
    psql(&[&url], "delete from orders");

    // A server of its own with all of it.
    let copy = app.json(&["clone", "--at", &before, "--for", "5m"]);
    let (socket, database) = (copy["socket"].as_str().unwrap(), copy["database"].as_str().unwrap());
    let at = ["-h", socket, "-U", "klar", database];
    assert_eq!(psql(&at, "select count(*) from orders"), "501");
    psql(&at, "delete from orders; drop role if exists nobody");

    // As files, and with what loads them.
    let folder = host.folder.join("taken-out");
    let output = app.run(&["restore", &before, "--into", folder.to_str().unwrap()]);
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success() && told.contains("pg_restore --create --dbname=postgres"), "{told}");
    assert!(folder.join("shop.dump/toc.dat").is_file() && folder.join("globals.sql").is_file());

    // Beside what is there, and then in its place, by what it says itself.
    let told = app.json(&["restore", &before]);
    let now = told["databases"][0][1].as_str().unwrap().to_owned();
    assert!(now.starts_with("shop_restored_"), "{now}");
    let beside = url.replace("/shop", &format!("/{now}")).replacen(&format!("/{now}:"), "/shop:", 1);
    assert_eq!(psql(&[&beside], "select count(*) from orders"), "501");
    assert_eq!(psql(&[&url], "select count(*) from orders"), "0");
    let output = app.run(&["restore", &before]);
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{told}");
    let swap =
        told.lines().find_map(|line| Some(line.split_once("connected to either:")?.1.trim().to_owned()));
    for sql in swap.expect(&told).split(';').filter(|sql| !sql.trim().is_empty()) {
        psql(&server.admin("postgres"), sql);
    }
    assert_eq!(psql(&[&url], "select count(*) from orders"), "501");

    // From the second place alone, with the key from the drawer.
    let proof = app.json(&["drill", "restore", "--offsite", "--key", sheet.to_str().unwrap()]);
    assert!(proof["rto_ms"].is_u64() && proof["escrow"] == true, "{proof}");
    app.klar(&["backup", "verify"]);

    // What cannot be dumped is said, and the points before stay.
    psql(&server.admin("shop"), "create table wages (who text)");
    assert!(!app.run(&["backup", "now"]).status.success());
    let output = app.run(&["backup", "now"]);
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        told.contains("permission denied for table wages") && told.contains("pg_read_all_data"),
        "{told}"
    );
    assert!(!told.contains("very"), "{told}");
    let told: Value = serde_json::from_slice(&app.run(&["backup", "list", "--json"]).stdout).unwrap();
    assert_eq!(told["points"].as_array().unwrap().len(), 2);
    drop(server);
    let output = app.run(&["backup", "now"]);
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(told.contains("cannot be reached"), "{told}");
}
