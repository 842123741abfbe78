//! Honest requests that a strict rule set takes for attacks: each has to end with an exception that replay proves, and
//! go through once that is deployed.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use crate::install;
use crate::shell::{output, say};
use crate::world::{self, World};

/// What is in force, and what only looks.
const STRICT: &str = "waf_rules = \"crs\"\nwaf_paranoia = 3\n";
const SHADOW: &str = "waf_shadow = true\n";

/// At least so many of them have to be stopped at first: fewer would prove little.
const WANTED: usize = 10;

/// What people send, as `curl` is told it: to where, and what.
const HONEST: [(&str, &[&str]); 16] = [
    ("/api/licence-kinds?q=O%27Brien+%26+Sons+(Norway)", &[]),
    ("/api/licence-kinds?q=select+a+licence+from+the+list", &[]),
    ("/api/licence-kinds?q=cat+%2Fdog+grooming%3B+hound+or+puppy", &[]),
    ("/api/licence-kinds?sort=-price&filter%5Bname%5D%5B%5D=a%7Cb", &[]),
    ("/?utm_source=news&next=https%3A%2F%2Flisens.example%2Forders%3Fid%3D7", &[]),
    ("/api/orders?from=2026-01-01T00%3A00%3A00%2B01%3A00&to=%22now%22", &[]),
    ("/?formula=%24%7Bamount%7D+%2B+%23vat", &[]),
    ("/?q=1+or+2+licences%3F", &[]),
    ("/?q=%3C3+bears+%3E+2+wolves", &[]),
    ("/?file=..%2Fimages%2Fbear.png", &[]),
    ("/api/session", &["email", "kari.o'hara+klar@example.org", "password", "Sol; hav & himmel -- 1'2=3"]),
    (
        "/api/session",
        &["email", "x@example.org", "password", "p", "remark", "if (a < b && c > d) { return a; }"],
    ),
    ("/api/checkout", &["note", "Please ring twice -- and leave it; thanks (Ola's wife)", "kind", "bear"]),
    ("/api/checkout", &["note", "See http://10.0.0.4/wiki/?id=1&x=$HOME or ask", "kind", "elk"]),
    ("/api/checkout", &["note", "<p>Deliver <b>before noon</b></p>", "kind", "wolf"]),
    ("/api/users", &["name", "Robert'); the \"tables\" one", "email", "bobby@example.org"]),
];

/// Brings the demo app up behind Debian's Core Rule Set at level 3, and lets through what should never have been stopped.
pub fn honest() -> Result<()> {
    install::ensure("Honest requests", true)?;
    let world = World::fleeting("honest", world::build(false)?)?;
    let file = world.app.join("klar.toml");
    let text = std::fs::read_to_string(&file)?;
    let strict = text.replace("[edge]\n", &format!("[edge]\n{STRICT}"));
    ensure!(strict != text, "{} has no [edge]", file.display());
    foreseen(&world, &file, &text)?;
    std::fs::write(&file, strict)?;
    world.ask(&["deploy"])?;

    say("what people send, and the Core Rule Set says at level 3");
    let mut stopped = Vec::new();
    for (number, (path, fields)) in HONEST.iter().enumerate() {
        let record = sent(&world, path, fields)?;
        if record["waf"]["verdict"] == "blocked" {
            stopped
                .push((number, record["request_id"].as_str().context("a record without an id")?.to_owned()));
        }
    }
    println!("  {} of {} are stopped", stopped.len(), HONEST.len());
    ensure!(
        stopped.len() >= WANTED,
        "only {} honest requests are stopped: that proves little",
        stopped.len()
    );
    println!(
        "\n| request | rules | exceptions | goes through | attacks stopped there, before and with them |\n|---|---|---|---|---|"
    );
    for (number, id) in &stopped {
        let told = world.ask(&["waf", "explain", id])?;
        ensure!(told["not_replayed"].is_null(), "{}: {}", HONEST[*number].0, told["not_replayed"]);
        let replayed = &told["replay"]["replayed"];
        ensure!(
            replayed["now"]["verdict"] == "blocked",
            "{} is not stopped again: {told}",
            HONEST[*number].0
        );
        ensure!(
            replayed["then"]["verdict"] != "blocked",
            "{} is stopped all the same: {told}",
            HONEST[*number].0
        );
        println!(
            "| {} | {} | {} | yes | {} |",
            HONEST[*number].0,
            rules(&told),
            exceptions(&told),
            attacks(replayed)
        );
        world.try_klar(&["waf", "allow", id])?;
    }
    say("the same with these exceptions deployed");
    world.ask(&["deploy"])?;
    for (number, _) in &stopped {
        let (path, fields) = HONEST[*number];
        let record = sent(&world, path, fields)?;
        ensure!(record["waf"]["verdict"] != "blocked", "{path} is still stopped: {record}");
    }
    // What is still an attack is still stopped, at a parameter that has no exception.
    let attack = sent(&world, "/?other=1%27%20UNION%20SELECT%20password%20FROM%20users--%20", &[])?;
    ensure!(attack["waf"]["verdict"] == "blocked", "an attack goes through: {attack}");
    println!("  {} of {} go through, and an attack elsewhere does not", stopped.len(), stopped.len());
    Ok(())
}

/// Has the rules look at what people send before they are in force, and puts in force what `klar waf try` proposes: what the
/// app had a good answer for goes through from the first request on.
fn foreseen(world: &World, file: &Path, text: &str) -> Result<()> {
    let shadowed = text.replace("[edge]\n", &format!("[edge]\n{SHADOW}"));
    std::fs::write(file, shadowed)?;
    world.ask(&["up"])?;
    say("what people send, and the Core Rule Set would say");
    let mut well = Vec::new();
    for (path, fields) in HONEST {
        let before = looked_at(world)?;
        let begun = Instant::now();
        // They look at a sample: nobody is looked at while they rest.
        let record = loop {
            let record = sent(world, path, fields)?;
            if record["waf"]["verdict"] == "blocked" {
                println!("  klar's own rules stop {path}");
                break record;
            }
            std::thread::sleep(Duration::from_millis(300));
            if looked_at(world)? > before {
                break record;
            }
            ensure!(begun.elapsed() < Duration::from_secs(30), "nobody looks at {path}");
        };
        if record["status"].as_u64().is_some_and(|status| status < 400) {
            well.push((path, fields));
        }
    }
    let report = world.try_klar(&["waf", "report"])?;
    print!("{}", String::from_utf8_lossy(&report.stdout));
    let tried = world.ask(&["waf", "try", "--level", "3"])?;
    let count = |list: &Value| list.as_array().map_or(0, Vec::len);
    let stopped = count(&tried["tried"]["stopped"]);
    println!(
        "  level 3 would stop {stopped} of {}; {} exceptions let pass those of them with a good answer",
        tried["tried"]["judged"],
        count(&tried["exceptions"])
    );
    ensure!(stopped > 0, "the rules at level 3 see nothing: {tried}");
    let left = tried["then"]["stopped"].as_array().into_iter().flatten();
    for request in left {
        ensure!(request["status"].as_u64() >= Some(400), "it would be stopped all the same: {request}");
    }
    world.try_klar(&["waf", "try", "--level", "3", "--write"])?;
    let written = std::fs::read_to_string(file)?;
    std::fs::write(file, written.replace(SHADOW, STRICT))?;
    world.ask(&["deploy"])?;
    for (path, fields) in &well {
        let record = sent(world, path, fields)?;
        ensure!(record["waf"]["verdict"] != "blocked", "{path} was not foreseen: {record}");
    }
    println!("  in force with these exceptions: none of {} is stopped", well.len());
    Ok(())
}

/// How many requests stricter rules have looked at.
fn looked_at(world: &World) -> Result<u64> {
    let report = world.try_klar(&["waf", "report", "--json"])?;
    let lines = String::from_utf8_lossy(&report.stdout).into_owned();
    let mut lines = lines.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    Ok(lines.find_map(|line| line["looked_at"].as_u64()).unwrap_or(0))
}

/// Sends one, and gives its record.
fn sent(world: &World, path: &str, fields: &[&str]) -> Result<Value> {
    let mut command = Command::new("curl");
    command.args(["--silent", "--insecure", "--output", "/dev/null", "--dump-header", "-"]);
    command.args(["--user-agent", "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"]);
    command.args(["--header", "Accept: */*", "--header", "Accept-Language: nb-NO,nb;q=0.9"]);
    if !fields.is_empty() {
        let pairs = fields.chunks_exact(2).map(|pair| (pair[0].to_owned(), Value::from(pair[1])));
        let body = Value::Object(pairs.collect());
        command.args(["--header", "Content-Type: application/json", "--data-raw", &body.to_string()]);
    }
    let head = output(command.arg(format!("{}{path}", world.url())))?;
    let line = |line: &str| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("x-request-id").then(|| value.trim().to_owned())
    };
    let id = head.lines().find_map(line).with_context(|| format!("{path}: no number in {head}"))?;
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(10) {
        let logs = world.try_klar(&["logs", "--access", "--json", "-n", "50"])?;
        let text = String::from_utf8_lossy(&logs.stdout).into_owned();
        if let Some(record) = text.lines().find(|line| line.contains(&id)) {
            return Ok(serde_json::from_str(record)?);
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    bail!("{path}: there is no record of {id}")
}

fn rules(told: &Value) -> String {
    let matches = told["record"]["waf"]["matches"].as_array().into_iter().flatten();
    let mut rules: Vec<String> = matches.map(|one| one["rule"].to_string()).collect();
    rules.dedup();
    rules.join(" ")
}

fn exceptions(told: &Value) -> String {
    let all = told["exceptions"].as_array().into_iter().flatten();
    let all = all.filter_map(|one| one["parameter"].as_str());
    all.collect::<Vec<_>>().join(" ")
}

fn attacks(replayed: &Value) -> String {
    let all = replayed["attacks"].as_array().into_iter().flatten();
    let all = all.map(|one| format!("{} {}/{}", one["stopped_now"], one["stopped_then"], one["tried"]));
    all.collect::<Vec<_>>().join(", ")
}
