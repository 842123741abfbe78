//! `klar check` from the outside: a real site, exit statuses, a ledger that is replayed elsewhere and tampered with.

#![allow(clippy::unwrap_used, missing_docs)]

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use klar_prove::foil::postgres::Cluster;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("klar-check-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

struct Foil(Child, String);

impl Foil {
    fn start(faults: &[&str]) -> Self {
        let faults = faults.iter().flat_map(|fault| ["--fault", fault]);
        let mut command = Command::new(env!("CARGO_BIN_EXE_klar"));
        let mut child = command.arg("foil").args(faults).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        Self(child, line.trim().to_owned())
    }
}

impl Drop for Foil {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn klar(folder: &Path, args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_klar"));
    command.args(args).arg("--state").arg(folder.join("state")).current_dir(folder).env("LANG", "C.UTF-8");
    command.output().unwrap()
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

const QUICK: [&str; 4] = ["--only", "headers", "--only", "tls"];

#[test]
fn a_report_is_computed_again_elsewhere_and_tampering_is_seen() {
    let (here, there) = (Folder::new("here"), Folder::new("there"));
    let foil = Foil::start(&["no-csp"]);
    let checked = klar(&here.0, &[&["check", "--url", &foil.1], &QUICK[..]].concat());
    assert_eq!(checked.status.code(), Some(1), "{}", said(&checked));
    assert!(said(&checked).contains("NOT READY"), "{}", said(&checked));

    let told = klar(&here.0, &["ledger", "--json"]);
    let told: serde_json::Value = serde_json::from_slice(&told.stdout).unwrap();
    let (key, head) = (told["key"].as_str().unwrap(), told["head"].as_str().unwrap());
    let ledger = std::fs::read_to_string(told["file"].as_str().unwrap()).unwrap();
    let copy = there.0.join("copy.jsonl");
    let replay = |folder: &Folder, text: &str, more: &[&str]| {
        std::fs::write(&copy, text).unwrap();
        let path = copy.display().to_string();
        let args =
            ["check", "--replay", &path, "--key", key, "--at", "2100-01-01T00:00:00Z", "--format", "json"];
        klar(&folder.0, &[&args, more].concat())
    };
    let one = replay(&here, &ledger, &["--head", head]);
    let other = replay(&there, &ledger, &["--head", head]);
    assert!(one.stdout.len() > 1000 && one.stdout == other.stdout, "{}", said(&one));
    assert_eq!(one.status.code(), Some(1));

    let lines: Vec<&str> = ledger.lines().collect();
    let join = |lines: &[&str]| lines.iter().map(|line| format!("{line}\n")).collect::<String>();
    for (tampered, why) in [
        (ledger.replace("\"local\":true", "\"local\":null"), "was changed"),
        (join(&[&lines[..1], &lines[2..]].concat()), "is missing"),
        (join(&lines[..lines.len() - 1]), "rewritten or cut"),
    ] {
        let output = replay(&there, &tampered, &["--head", head]);
        assert_ne!(tampered, ledger);
        assert_eq!(output.status.code(), Some(3), "{}", said(&output));
        assert!(said(&output).contains(why), "{why}: {}", said(&output));
    }
    // Somebody without the key writes it all anew.
    let forged = Folder::new("forged");
    klar(&forged.0, &[&["check", "--url", &foil.1], &QUICK[..]].concat());
    let forged = std::fs::read_to_string(forged.0.join("state/ledger/ledger.jsonl")).unwrap();
    let output = replay(&there, &forged, &[]);
    assert_eq!(output.status.code(), Some(3));
    assert!(said(&output).contains("was not signed by the key"), "{}", said(&output));
}

#[test]
fn what_cannot_be_meant_is_refused_with_what_would_help() {
    let folder = Folder::new("usage");
    for (args, status, says) in [
        (&["check"][..], 2, "no klar.toml and no --url"),
        (&["check", "--url", "shop.example"], 2, "https://HOST"),
        (
            &["check", "--url", "https://localhost:1", "--only", "nonsense"],
            2,
            "there is no check or row `nonsense`",
        ),
        (&["check", "--url", "https://localhost:1", "--lang", "de"], 2, "en, nb, sv"),
        (&["attest", "edge.cdn", "--by", "Kari", "--until", "2026-12-31"], 2, "a signature is for one app"),
        (&["check", "--url", "http://192.0.2.1", "--disruptive"], 2, "does not attack"),
        (
            &["attest", "no.such", "--url", "http://localhost:1", "--by", "Kari", "--until", "2026-12-31"],
            2,
            "there is no row",
        ),
        (
            &[
                "attest",
                "sec.pentest",
                "--url",
                "http://localhost:1",
                "--by",
                "Kari",
                "--until",
                "2020-01-01",
            ],
            2,
            "is over",
        ),
        (
            &[
                "attest",
                "sec.pentest",
                "--url",
                "http://localhost:1",
                "--by",
                "Kari",
                "--until",
                "2099-01-01",
            ],
            2,
            "365 days at most",
        ),
        (
            &[
                "attest",
                "edge.cdn",
                "--url",
                "http://localhost:1",
                "--by",
                "Kari",
                "--until",
                "2099-01-01",
                "--accept",
            ],
            2,
            "--note",
        ),
        (&["foil", "--fault", "nonsense"], 2, "not a switch"),
        (&["ledger", "--head", "nonsense"], 2, "not the head of a ledger"),
    ] {
        let output = klar(&folder.0, args);
        assert_eq!(output.status.code(), Some(status), "{args:?}: {}", said(&output));
        assert!(said(&output).contains(says), "{args:?}: {}", said(&output));
    }
}

#[test]
fn where_nobody_is_there_is_nothing_to_say() {
    let folder = Folder::new("silent");
    let output = klar(&folder.0, &[&["check", "--url", "http://127.0.0.1:1"], &QUICK[..]].concat());
    assert_eq!(output.status.code(), Some(3), "{}", said(&output));
    assert!(said(&output).contains("nobody is at http://127.0.0.1:1"), "{}", said(&output));
}

#[test]
fn a_signature_counts_for_its_own_and_can_be_erased() {
    let folder = Folder::new("attest");
    let (foil, other) = (Foil::start(&[]), Foil::start(&[]));
    let until =
        jiff::Timestamp::now().to_zoned(jiff::tz::TimeZone::UTC).date().tomorrow().unwrap().to_string();
    let sign = ["attest", "sec.pentest", "--by", "Kari Nordmann", "--until", &until, "--note", "by Firm"];
    let nobodys = klar(&folder.0, &sign);
    assert_eq!(nobodys.status.code(), Some(2));
    assert!(said(&nobodys).contains("no klar.toml here, and no --url"), "{}", said(&nobodys));
    let signed = klar(&folder.0, &[&sign[..], &["--url", &foil.1]].concat());
    assert!(signed.status.success(), "{}", said(&signed));
    let look = |at: &Foil, more: &[&str]| {
        said(&klar(&folder.0, &[&["check", "--url", &at.1], &QUICK[..], more].concat()))
    };
    // Named apart without --all too.
    let report = look(&foil, &[]);
    assert!(report.contains("sec.pentest attested  Kari Nordmann") && report.contains("by Firm"), "{report}");
    let report = look(&other, &["--all"]);
    assert!(report.contains("sec.pentest unknown") && !report.contains("Kari Nordmann"), "{report}");
    assert!(klar(&folder.0, &["ledger", "--erase", "1"]).status.success());
    let report = look(&foil, &["--all"]);
    assert!(report.contains("sec.pentest unknown") && !report.contains("Kari Nordmann"), "{report}");
}

#[test]
fn what_was_erased_makes_nothing_older_true_again() {
    let folder = Folder::new("erased");
    let foil = Foil::start(&["no-csp"]);
    let look = || klar(&folder.0, &["check", "--url", &foil.1, "--only", "headers", "--format", "json"]);
    let before = look();
    look();
    assert!(standings(&before, "sec.headers.csp")[0].contains("failing"), "{}", said(&before));
    let file = folder.0.join("state/ledger/ledger.jsonl");
    let kinds = std::fs::read_to_string(&file).unwrap();
    let last = kinds.lines().rev().find(|line| line.contains("\"kind\":\"evidence\"")).unwrap();
    let last: serde_json::Value = serde_json::from_str(last).unwrap();
    assert!(klar(&folder.0, &["ledger", "--erase", &last["seq"].to_string()]).status.success());
    let told: serde_json::Value =
        serde_json::from_slice(&klar(&folder.0, &["ledger", "--json"]).stdout).unwrap();
    let (file, key) = (file.display().to_string(), told["key"].as_str().unwrap());
    let replayed =
        klar(&folder.0, &["check", "--replay", &file, "--key", key, "--url", &foil.1, "--format", "json"]);
    assert!(standings(&replayed, "sec.headers.csp")[0].contains("was erased"), "{}", said(&replayed));
    let report: serde_json::Value = serde_json::from_slice(&replayed.stdout).unwrap();
    assert_eq!(report["erased"], 1);
    // Another address has no evidence here.
    let other = klar(&folder.0, &["check", "--replay", &file, "--key", key, "--url", "http://localhost:2"]);
    assert!(said(&other).contains(&format!("what it has is of {}", foil.1)), "{}", said(&other));
}

/// The scratch database and the browser of the planted faults end with klar, however klar ends.
#[test]
fn nothing_is_left_behind_when_it_is_told_to_end() {
    if !Path::new("/usr/lib/postgresql").is_dir() {
        return eprintln!("skipped: PostgreSQL is not installed");
    }
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP] {
        let folder = Folder::new(&format!("ended-{signal}"));
        let scratch = folder.0.join("scratch");
        std::fs::create_dir_all(&scratch).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_klar"));
        command.args([
            "check",
            "--prove-probes",
            "--only",
            "indexes",
            "--url",
            "http://localhost:1",
            "--state",
        ]);
        command
            .arg(folder.0.join("state"))
            .env("TMPDIR", &scratch)
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let mut klar = command.spawn().unwrap();
        let left = || std::fs::read_dir(&scratch).unwrap().count();
        let socket = || {
            let folders = std::fs::read_dir(&scratch).unwrap().flatten();
            folders.into_iter().any(|folder| folder.path().join(".s.PGSQL.5432").exists())
        };
        let begun = Instant::now();
        while !socket() {
            assert!(begun.elapsed() < Duration::from_secs(60), "no scratch database");
            assert!(klar.try_wait().unwrap().is_none(), "klar was done before anybody could interrupt it");
            std::thread::sleep(Duration::from_millis(5));
        }
        kill(Pid::from_raw(i32::try_from(klar.id()).unwrap()), signal).unwrap();
        assert_eq!(klar.wait().unwrap().code(), Some(3), "{signal}");
        assert_eq!(left(), 0, "{signal}");
    }
}

/// The standings of the rows that begin so, as `row standing: reason`.
fn standings(output: &Output, prefix: &str) -> Vec<String> {
    let report: serde_json::Value =
        serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", said(output)));
    let rows = report["rows"].as_array().unwrap().iter();
    let told = |row: &serde_json::Value| {
        let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
        let because = text(&row["parts"][0]["because"]["en"]);
        format!("{} {}: {because}", text(&row["row"]), text(&row["standing"]))
    };
    rows.filter(|row| row["row"].as_str().unwrap().starts_with(prefix)).map(told).collect()
}

/// Runs a test that needs a PostgreSQL server of its own.
fn with_cluster(test: impl AsyncFnOnce(&Cluster)) {
    if !Path::new("/usr/lib/postgresql").is_dir() {
        return eprintln!("skipped: PostgreSQL is not installed");
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    tokio::task::LocalSet::new().block_on(&runtime, async {
        test(&Cluster::shared().await.unwrap()).await;
    });
}

#[test]
fn checks_of_ones_own_look_and_count_once_they_have_found_their_fault() {
    with_cluster(async |cluster| {
        let url = cluster.plant(&["INSERT INTO clubs VALUES (9999, '')"]).await.unwrap();
        let folder = Folder::new("own");
        let until = jiff::Timestamp::now().to_zoned(jiff::tz::TimeZone::UTC).date().tomorrow().unwrap();
        let check = |name: &str, lines: &str| {
            format!("[checks.{name}]\nquestion = \"Is {name} so?\"\ncategory = \"backup\"\n{lines}\n")
        };
        let file = |more: &str| {
            let app = "app.name = \"shop\"\nservices.web.run = \"node x\"\ndata.db.postgres = \"managed\"\n";
            let text = [
                app.to_owned(),
                check(
                    "good",
                    "sql = \"SELECT 1 FROM orders WHERE total < 0\"\nplant = \"UPDATE orders SET total = -1 WHERE id = 7\"",
                ),
                check(
                    "bad",
                    "sql = \"SELECT 1 FROM clubs WHERE name = ''\"\nplant = \"UPDATE clubs SET name = '' WHERE id = 7\"",
                ),
                check(
                    "blind",
                    "sql = \"SELECT 1 FROM orders WHERE false\"\nplant = \"UPDATE orders SET total = -1 WHERE id = 7\"",
                ),
                check("unarmed", "sql = \"SELECT 1 FROM orders WHERE total < 0\""),
                check("wrong", "sql = \"SELECT 1; DELETE FROM orders\""),
                check(
                    "said",
                    "command = \"echo '{\\\"saw\\\":\\\"held\\\",\\\"because\\\":\\\"7 links\\\"}'\"\nplant = \"exit 1\"",
                ),
                check("failed", "command = \"echo two are dead; exit 1\"\npriority = \"critical\""),
                check("endless", "command = \"sleep 60\"\nlimit = \"1s\""),
                format!(
                    "[waivers.later]\nrow = \"own.failed\"\nby = \"Kari\"\nuntil = \"{until}\"\nreason = \"soon\"\n"
                ),
                more.to_owned(),
            ];
            std::fs::write(folder.0.join("klar.toml"), text.concat()).unwrap();
        };
        file("");
        let own = ["good", "bad", "blind", "unarmed", "wrong", "said", "failed", "endless"];
        let only: Vec<String> =
            own.iter().flat_map(|name| ["--only".to_owned(), format!("own.{name}")]).collect();
        let only: Vec<&str> = only.iter().map(String::as_str).collect();
        let args = [&["check", "--database", &url, "--format", "json"], &only[..]].concat();
        let look = || {
            let (folder, args) =
                (folder.0.clone(), args.iter().map(|arg| (*arg).to_owned()).collect::<Vec<_>>());
            // The server of the scratch database needs this thread for nothing.
            let args: Vec<&str> = args.iter().map(String::as_str).collect();
            klar(&folder, &args)
        };
        let output = look();
        let told = standings(&output, "own.").join("\n");
        let wanted = [
            "own.bad failing: the query finds 1 rows that must not be there",
            "own.blind unknown: the check has not shown yet that it can fail: klar check --prove-probes",
            "own.endless unknown: not done within 1 s",
            "own.failed waived: exit status 1: two are dead",
            "own.good proven: the query finds nothing",
            "own.said proven: 7 links",
            "own.unarmed unknown: the query finds nothing; but it has no `plant` with which to show that it can fail",
            "own.wrong unknown: the database says: cannot insert multiple commands into a prepared statement",
        ];
        assert_eq!(told, wanted.join("\n"), "{}", said(&output));
        // Nothing of what was planted is left.
        let again = look();
        assert_eq!(standings(&again, "own.good"), ["own.good proven: the query finds nothing"]);

        // Elsewhere, without the file: the ledger knows what was declared.
        let ledger: serde_json::Value =
            serde_json::from_slice(&klar(&folder.0, &["ledger", "--json"]).stdout).unwrap();
        let there = Folder::new("own-there");
        let (file_of, key) = (ledger["file"].as_str().unwrap(), ledger["key"].as_str().unwrap());
        let replayed = klar(&there.0, &["check", "--replay", file_of, "--key", key, "--format", "json"]);
        assert_eq!(standings(&replayed, "own."), standings(&again, "own."));

        // A waiver of nothing is refused before anybody looks.
        file("[waivers.typo]\nrow = \"sec.pentst\"\nby = \"Kari\"\nuntil = \"2027-01-01\"\nreason = \"r\"\n");
        let refused = look();
        assert_eq!(refused.status.code(), Some(2));
        assert!(said(&refused).contains("waives `sec.pentst`, which is no row"), "{}", said(&refused));
    });
}

#[test]
fn a_missing_index_is_shown_made_and_looked_for_again() {
    with_cluster(async |cluster| {
        let url =
            cluster.plant(&["DROP INDEX orders_of_club"]).await.unwrap().replace("user=app", "user=postgres");
        let folder = Folder::new("fix-index");
        std::fs::write(folder.0.join("klar.toml"), "app.name = \"shop\"\nservices.web.run = \"node x\"\n")
            .unwrap();
        let fix =
            |more: &[&str]| klar(&folder.0, &[&["fix", "data.index", "--database", &url], more].concat());
        let sql = "CREATE INDEX CONCURRENTLY ON orders (club_id);";
        for _ in 0..2 {
            let shown = fix(&["--dry-run"]);
            assert!(shown.status.success() && said(&shown).contains(sql), "{}", said(&shown));
        }
        let made = fix(&[]);
        assert!(made.status.success() && said(&made).contains(sql), "{}", said(&made));
        assert!(said(&fix(&[])).contains("no index is missing"), "{}", said(&fix(&[])));
    });
}
