//! sqlmap against the faulty twin: what it finds in the app itself, it must not find through klar.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::install;
use crate::shell::say;
use crate::world::{self, World, serving};

const SQLMAP: &str = "sqlmap==1.10.10";
/// What it tries: `*` is where it puts what it tries.
const PLACES: [&str; 2] = ["/api/orders/1*", "/api/orders?q=Ola*"];
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
    let (direct, through) = (format!("http://127.0.0.1:{port}"), raw.url());
    let mut wrong = Vec::new();
    for place in PLACES {
        for (origin, is_open, evasions) in [
            (&direct, true, &[][..]),
            (&through, false, &[]),
            (&through, false, &["--tamper=space2comment,between,randomcase"]),
            (&through, false, &["--tamper=charunicodeencode,space2plus", "--technique=BT"]),
        ] {
            let found = finds(&program, &raw.app, &format!("{origin}{place}"), evasions)?;
            let way = if *origin == direct { "past klar" } else { "through klar" };
            let said = if found { "a way in" } else { "nothing" };
            println!("  {place} {way} {}: {said}", evasions.join(" "));
            if found != is_open {
                wrong.push(format!("{place} {way} {}", evasions.join(" ")));
            }
        }
    }
    raw.stop()?;
    ensure!(wrong.is_empty(), "not as it should be: {}", wrong.join("; "));
    Ok(())
}

/// Whether it finds a way in. It says what it is only where that is asked: else its name would be all that is stopped.
fn finds(program: &Path, folder: &Path, url: &str, more: &[&str]) -> Result<bool> {
    say(format!("sqlmap {url} {}", more.join(" ")));
    let out = folder.join("sqlmap");
    let mut command = Command::new(program);
    command
        .args(["-u", url, "--batch", "--flush-session", "--random-agent", "--level=2", "--risk=2"])
        .args(["--dbms=postgresql", "--timeout=10", "--retries=1", "--ignore-code=*", "--disable-coloring"])
        .arg(format!("--output-dir={}", out.display()))
        .args(more);
    let done = command.output().context("sqlmap could not be run")?;
    let said = String::from_utf8_lossy(&done.stdout).into_owned();
    ensure!(said.contains("ending @"), "sqlmap did not come to its end:\n{said}");
    Ok(said.contains(FOUND))
}
