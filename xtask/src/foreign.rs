//! Two apps that are not klar's: one with holes on purpose, one that thousands use. Each is checked where it is reached
//! directly and behind klar, and the reports are held against those that are kept.

use std::fmt::Write as _;
use std::fs::File;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::ScopedJoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail, ensure};
use serde_json::Value;

use crate::install;
use crate::scores::{check, table};
use crate::shell::{repository, run, say};
use crate::world::{self, World};

const VULNERABLE: &str = "vulnerable";
const DATASETTE: &str = "datasette";
/// What an app may take until it listens.
const STARTS: Duration = Duration::from_secs(30);
/// An address to name where none is asked.
const NOWHERE: &str = "http://127.0.0.1:9";
/// Rows that say how the machine keeps up: while instances are killed and replaced, with a browser, within 100 ms, under
/// load, before an answer is old, before lines are found and a kill is shown.
const MEASURED: [&str; 21] = [
    "perf.frontend",
    "perf.api-latency",
    "perf.cpu",
    "perf.memory",
    "edge.cdn",
    "mon.health-checks",
    "mon.logging",
    "mon.metric.api-latency",
    "mon.metric.stability",
    "mon.dashboard.health",
    "mon.dashboard.app-performance",
    "mon.dashboard.security",
    "edge.load-balancer",
    "test.failover",
    "deploy.rolling",
    "deploy.blue-green",
    "mon.dashboards",
    "mon.log-rotation",
    "mon.metrics",
    "mon.tracing",
    "mon.custom-metrics",
];

/// Sets up what it needs first.
pub fn alone(bless: bool) -> Result<()> {
    install::ensure("Checking foreign apps", true)?;
    foreign(world::build(false)?, bless)
}

/// Checks both on both ways, tells the scores, and compares or keeps the reports.
pub fn foreign(klar: PathBuf, bless: bool) -> Result<()> {
    say("klar check on two apps that are not klar's, straight and behind klar");
    let begun = Instant::now();
    let mut differ = look(&klar, bless)?;
    if differ > 0 {
        say("once more: what differs on a busy machine may not differ on a quiet one");
        differ = look(&klar, bless)?;
    }
    ensure!(
        differ == 0,
        "{differ} reports differ from those in demo/foreign/snapshots; `cargo xtask foreign --bless` keeps the new ones"
    );
    say(format!("all reports are as they are kept ({} s)", begun.elapsed().as_secs()));
    Ok(())
}

/// Gives the number of reports that differ from those that are kept.
fn look(klar: &Path, bless: bool) -> Result<usize> {
    let mut vulnerable = World::of_foreign(VULNERABLE, klar.to_owned())?;
    let datasette = vulnerable.beside(DATASETTE)?;
    let reports = reports(&vulnerable, &datasette)?;
    vulnerable.stop()?;
    let names = ["vulnerable straight", "vulnerable behind", "datasette straight", "datasette behind"];
    table(&names.into_iter().zip(&reports).collect::<Vec<_>>());
    injection(&reports[0], &reports[1])?;
    let mut differ = 0;
    for (name, report) in names.into_iter().zip(&reports) {
        differ += usize::from(!keep(name, report, bless)?);
    }
    Ok(differ)
}

/// Straight and behind klar, first of the one and then of the other.
fn reports(vulnerable: &World, datasette: &World) -> Result<Vec<Value>> {
    let direct = std::thread::scope(|scope| {
        // The checks are shown their planted faults once for all four reports.
        let proven = scope.spawn(|| check(vulnerable, &["--url", NOWHERE, "--prove-probes"]).map(drop));
        vulnerable.ask(&["up"])?;
        datasette.ask(&["up"])?;
        let direct = [Direct::start(vulnerable)?, Direct::start(datasette)?];
        joined(proven)?;
        Ok::<_, anyhow::Error>(direct)
    })?;
    // All at a time: most of what a check does is waiting.
    std::thread::scope(|scope| {
        let mut running = Vec::new();
        for (world, direct) in [vulnerable, datasette].into_iter().zip(&direct) {
            running.push(scope.spawn(move || straight(world, direct)));
            running.push(scope.spawn(move || check(world, &["--full"])));
        }
        running.into_iter().map(joined).collect()
    })
}

fn straight(world: &World, direct: &Direct) -> Result<Value> {
    let source = direct.folder.display().to_string();
    check(world, &["--url", &direct.url, "--source", &source, "--disruptive"])
}

fn joined<T>(thread: ScopedJoinHandle<'_, Result<T>>) -> Result<T> {
    thread.join().map_err(|_| anyhow!("a check broke down"))?
}

/// An app as it runs without klar, with the commands that its klar.toml names.
struct Direct {
    url: String,
    folder: PathBuf,
    child: Child,
}

impl Direct {
    fn start(world: &World) -> Result<Self> {
        let name = world.app.file_name().context("an app without a name")?;
        let folder = world.app.with_file_name("straight").join(name);
        world::copy(&world.app, &folder)?;
        let (build, start) = (setting(&folder, "build")?, setting(&folder, "run")?);
        run(Command::new("sh").args(["-c", &build]).current_dir(&folder))?;
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let log = File::create(folder.join("output.log"))?;
        let child = Command::new("sh")
            .args(["-c", &format!("exec {start}")])
            .current_dir(&folder)
            .env("PORT", port.to_string())
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .with_context(|| format!("starting {start}"))?;
        let direct = Self { url: format!("http://127.0.0.1:{port}"), folder, child };
        let begun = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            if begun.elapsed() > STARTS {
                let said = std::fs::read_to_string(direct.folder.join("output.log")).unwrap_or_default();
                bail!("{start}: does not listen after {STARTS:?}\n{said}");
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        Ok(direct)
    }
}

impl Drop for Direct {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A setting of the only service, from a line of klar.toml of its own.
fn setting(folder: &Path, key: &str) -> Result<String> {
    let text = std::fs::read_to_string(folder.join("klar.toml"))?;
    let start = format!("services.web.{key} = \"");
    let line = text.lines().find_map(|line| line.strip_prefix(&start)?.strip_suffix('"'));
    Ok(line.with_context(|| format!("klar.toml has no line {start}…"))?.to_owned())
}

/// Straight, the injection has to be found, with the name of a parameter. What klar makes of it is told as it is.
fn injection(straight: &Value, behind: &Value) -> Result<()> {
    let part = |report: &Value, wanted: &str| -> Option<(String, String)> {
        let row = list(report, "rows").find(|row| row["row"] == "sec.sqli")?;
        let part = list(row, "parts").find(|part| part["part"] == wanted)?;
        Some((text(&part["saw"]), text(&part["because"]["en"])))
    };
    let (saw, because) = part(straight, "direct").context("the report has no row for SQL injection")?;
    ensure!(
        saw == "broken" && because.contains("q (query) of GET /api/books"),
        "straight, the injection was not found: {saw}: {because}"
    );
    println!("  straight: {because}");
    let (saw, because) =
        part(behind, "through-waf").context("the report has no row for the way through klar")?;
    println!("  behind klar ({saw}): {because}");
    Ok(())
}

/// Compares a report with the one that is kept, or keeps it; whether they are the same.
fn keep(name: &str, report: &Value, bless: bool) -> Result<bool> {
    let folder = repository().join("demo/foreign/snapshots");
    let path = folder.join(format!("{}.md", name.replace(' ', "-")));
    let now = snapshot(name, report);
    let kept = std::fs::read_to_string(&path).unwrap_or_default();
    if bless {
        std::fs::create_dir_all(&folder)?;
        std::fs::write(&path, &now)?;
        return Ok(true);
    }
    let missing = |from: &str, of: &str, sign: char| {
        for line in from.lines().filter(|line| !of.lines().any(|each| each == *line)) {
            println!("  {name} {sign} {line}");
        }
    };
    missing(&kept, &now, '-');
    missing(&now, &kept, '+');
    Ok(kept == now)
}

/// What of a report is the same each time.
fn snapshot(name: &str, report: &Value) -> String {
    let way = if name.ends_with("behind") { "klar" } else { "on, without klar" };
    let mut out = format!("# {name} {way}\n\n");
    // Writing to a String cannot fail.
    let _ = write_snapshot(&mut out, report);
    out
}

fn write_snapshot(out: &mut String, report: &Value) -> std::fmt::Result {
    writeln!(
        out,
        "Written by `cargo xtask foreign --bless`. Numbers that differ from run to run are `#`; left out is what says how busy the machine was: {}; and `{OF_RULES}`, which says what klar's own rules stop.\n",
        MEASURED.map(|row| format!("`{row}`")).join(", ")
    )?;
    writeln!(out, "| Category | Score |\n|---|---|")?;
    for line in list(&report["score"], "categories") {
        // What is measured counts there for most, and so it does in the total.
        let score = if line["category"] == "monitoring" { "#".into() } else { line["score"].to_string() };
        writeln!(out, "| {} | {score}/10 |", text(&line["category"]))?;
    }
    writeln!(out, "| total | #/80 |")?;
    for standing in ["failing", "partial", "proven"] {
        // What klar says of its own sums, and what is made of other rows, says nothing of the app.
        let wanted = |row: &&Value| {
            let id = text(&row["row"]);
            let is_of_klar = id.starts_with("ready.") || id == OF_RULES;
            row["standing"] == standing && !is_of_klar && !MEASURED.contains(&id.as_str())
        };
        let mut rows = list(report, "rows").filter(wanted).peekable();
        if rows.peek().is_some() {
            writeln!(out, "\n## {standing}\n")?;
        }
        for row in rows {
            writeln!(out, "- `{}`", text(&row["row"]))?;
            for part in list(row, "parts").filter(|part| part["saw"] != "no-probe") {
                let (saw, because) = (text(&part["saw"]), steady(&text(&part["because"]["en"])));
                writeln!(out, "  - {saw}: {} — {because}", text(&part["asks"]["en"]))?;
            }
        }
    }
    Ok(())
}

/// What the rules of klar's firewall stop, which changes with them: `bench/waf` judges that.
const OF_RULES: &str = "edge.waf";
/// What is counted or measured, and is another number each time.
const VARIES: [&str; 11] = ["ms", "s", "h", "B", "kB", "bytes", "%", "requests", "payloads", "lines", "rows"];

/// A text with `#` for numbers that differ from run to run, and for ports; none is still none.
fn steady(text: &str) -> String {
    let words: Vec<&str> = text.split(' ').collect();
    let plain = |word: &str| word.trim_matches(|c: char| !c.is_alphanumeric() && c != '%').to_owned();
    let unit = |at: usize| words.get(at).map(|word| plain(word)).unwrap_or_default();
    let shown = words.iter().enumerate().map(|(at, word)| {
        let counted = if unit(at + 1) == "of" { unit(at + 3) } else { unit(at + 1) };
        match word.split_once("localhost:") {
            Some((before, port)) => format!("{before}localhost:{}", masked(port)),
            None if is_made_up(&plain(word)) => word.replace(&plain(word), "#"),
            None if is_time(word) => masked(word),
            None if VARIES.contains(&counted.as_str()) && plain(word) != "0" => masked(word),
            None => (*word).to_owned(),
        }
    });
    shown.collect::<Vec<_>>().join(" ")
}

/// A name by chance, as a certificate's number is one: hexadecimal digits.
fn is_made_up(word: &str) -> bool {
    let is_hex = word.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    word.len() >= 12 && is_hex && word.bytes().any(|byte| byte.is_ascii_digit())
}

/// `2026-11-24T00:44:09.226738697Z`
fn is_time(word: &str) -> bool {
    word.ends_with('Z') && word.contains('T') && word.starts_with(|first: char| first.is_ascii_digit())
}

/// One `#` for each number in a word.
fn masked(word: &str) -> String {
    let mut out = String::new();
    for c in word.chars() {
        match c {
            '.' if out.ends_with('#') => {}
            '0'..='9' if out.ends_with('#') => {}
            '0'..='9' => out.push('#'),
            c => out.push(c),
        }
    }
    out
}

fn list<'a>(value: &'a Value, key: &str) -> impl Iterator<Item = &'a Value> {
    value[key].as_array().into_iter().flatten()
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_differs_is_masked_and_what_counts_is_kept() {
        for (text, kept) in [
            (
                "0 of 4022 requests failed; the slowest took 3168 ms",
                "0 of # requests failed; the slowest took # ms",
            ),
            ("4 of 24 parameters, first 500 of GET /a", "4 of 24 parameters, first 500 of GET /a"),
            ("first / (16 % of 2004 B); 988929 B, 988923 B sent", "first / (# % of # B); # B, # B sent"),
            ("LCP 1.3 s; (0 lines are allowed)", "LCP # s; (0 lines are allowed)"),
            (
                "2 files, 24590 bytes, read at 2026-11-24T00:44:09.226Z",
                "2 files, # bytes, read at #-#-#T#:#:#Z",
            ),
            ("the newest point is 0.0 h old", "the newest point is # h old"),
            ("answers 308 https://a.localhost:45767/", "answers 308 https://a.localhost:#/"),
            ("af45b5083787 became 838ca9a81083, for 1 defaced facade", "# became #, for 1 defaced facade"),
        ] {
            assert_eq!(steady(text), kept);
        }
    }
}
