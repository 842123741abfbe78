//! `cargo xtask test`: the one test command.

use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result};

use crate::shell::{cargo, has, run, say};
use crate::world::{self, World};
use crate::{install, tour};

/// Formatting, lints, all tests, doc tests, the demo app's own tests, the tour.
pub fn test(fast: bool) -> Result<()> {
    let begun = Instant::now();
    install::ensure("The tests")?;
    say("formatting");
    run(cargo().args(["fmt", "--all", "--check"]))?;
    say("lints");
    run(cargo().args(["clippy", "--quiet", "--workspace", "--all-targets", "--", "-D", "warnings"]))?;
    if !has("cargo-nextest") {
        say("installing cargo-nextest");
        run(cargo().args(["install", "--quiet", "--locked", "cargo-nextest"]))?;
    }
    say("tests");
    run(cargo().args(["build", "--quiet", "--package", "klar"]))?;
    run(cargo().args(["nextest", "run", "--workspace", "--no-fail-fast", "--status-level", "slow"]))?;
    say("doc tests");
    run(cargo().args(["test", "--quiet", "--workspace", "--doc"]))?;
    say("the demo app's own tests");
    demo_app()?;
    if !fast {
        tour::tour(world::build(false)?)?;
    }
    say(format!("all good ({} s)", begun.elapsed().as_secs()));
    Ok(())
}

/// An app that is nothing but a database and a cache, and writes down where they are.
const DATA_ONLY: &str = r#"[app]
name = "lisens"

[services.urls]
kind = "worker"
run = "printf '%s\\n' \"$DATABASE_URL\" \"$REDIS_URL\" > urls/urls && exec sleep 1000000"
writable = ["urls"]

[data.db]
postgres = "managed"

[data.cache]
redis = "managed"
"#;

/// With a PostgreSQL and a Redis that klar runs, as the app would have them.
fn demo_app() -> Result<()> {
    let mut world = World::fleeting("app-test", world::build(false)?)?;
    std::fs::write(world.app.join("klar.toml"), DATA_ONLY)?;
    run(Command::new("npm").args(["ci", "--silent", "--no-audit", "--no-fund"]).current_dir(&world.app))?;
    world.ask(&["up"])?;
    let urls = std::fs::read_to_string(world.state.join("apps/lisens.prod/writable/urls/urls"))?;
    let (database, cache) =
        urls.trim().split_once('\n').context("no addresses of the database and the cache")?;
    let tested = run(Command::new("npm")
        .arg("test")
        .current_dir(&world.app)
        .env("DATABASE_URL", database)
        .env("REDIS_URL", cache));
    world.stop()?;
    tested
}
