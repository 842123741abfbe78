//! sqlmap against the faulty twin: what it finds in the app itself, it must not find through klar.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::install;
use crate::shell::{output, say};
use crate::world::{self, World, serving};

const SQLMAP: &str = "sqlmap==1.10.10";
/// What it asks about: `*` is where it puts what it tries. The twin's other ways in end its process, which sqlmap takes for
/// nothing.
const PLACE: &str = "/api/orders/1";
/// How it hides what it tries.
const EVASIONS: [&[&str]; 4] = [
    &[],
    &["--tamper=space2comment,between,randomcase"],
    &["--tamper=charunicodeencode,space2plus", "--technique=BT"],
    &["--tamper=percentage,equaltolike,charencode"],
];
/// What it says where it has found a way in.
const FOUND: &str = "identified the following injection point";

/// Brings the twin up behind klar, and asks sqlmap about it, past klar and through it.
pub fn sqlmap() -> Result<()> {
    install::ensure("sqlmap", true)?;
    let program = install::from_pypi(SQLMAP, "sqlmap")?;
    let mut raw = World::of_raw(world::build(false)?)?;
    raw.ask(&["up"])?;
    let status = raw.status()?;
    let port = serving(&status)
        .first()
        .and_then(|instance| instance["port"].as_u64())
        .context("no instance serves")?;
    let past = format!("http://127.0.0.1:{port}{PLACE}");
    ensure!(finds(&program, &raw.app, &past, &[])?, "sqlmap finds nothing in the app itself");
    println!("  past klar: a way in");
    let through = format!("{}{PLACE}", raw.url());
    let mut wrong = Vec::new();
    for evasion in EVASIONS {
        let found = finds(&program, &raw.app, &through, evasion)?;
        let said = if found { "a way in" } else { "nothing" };
        println!("  through klar {}: {said}", evasion.join(" "));
        if found {
            wrong.push(evasion.join(" "));
        }
    }
    // It was the firewall that gave nothing away, not an app that was away.
    let status =
        output(Command::new("curl").args(["-sk", "-o", "/dev/null", "-w", "%{http_code}", &through]))?;
    ensure!(status.trim() == "200", "{PLACE} is answered with {status} through klar");
    raw.stop()?;
    ensure!(wrong.is_empty(), "sqlmap finds a way in through klar: {}", wrong.join("; "));
    Ok(())
}

/// Whether it finds a way in. It does not say what it is: else its name would be all that is stopped.
fn finds(program: &Path, folder: &Path, url: &str, more: &[&str]) -> Result<bool> {
    say(format!("sqlmap {url} {}", more.join(" ")));
    let out = folder.join("sqlmap");
    let mut command = Command::new(program);
    command
        .args([
            "-u",
            &format!("{url}*"),
            "--batch",
            "--flush-session",
            "--random-agent",
            "--level=2",
            "--risk=2",
        ])
        .args(["--dbms=postgresql", "--timeout=10", "--retries=1", "--ignore-code=*", "--disable-coloring"])
        .arg(format!("--output-dir={}", out.display()))
        .args(more);
    let done = command.output().context("sqlmap could not be run")?;
    let said = String::from_utf8_lossy(&done.stdout).into_owned();
    ensure!(said.contains("ending @"), "sqlmap did not come to its end:\n{said}");
    Ok(said.contains(FOUND))
}
