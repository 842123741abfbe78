//! `cargo xtask test`: the one test command.

use std::path::Path;
use std::time::Instant;

use anyhow::{Result, ensure};

use crate::shell::{Beside, cargo, has, run, say};
use crate::{faults, install, shop, tour, world};

/// Formatting, lints, all tests, doc tests, the demo app's own tests, the tour, the planted faults, the apps that are not
/// klar's.
pub fn test(fast: bool) -> Result<()> {
    let begun = Instant::now();
    room_for_all()?;
    install::ensure("The tests", true)?;
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
    let readers = install::readers()?;
    run(cargo()
        .args(["nextest", "run", "--workspace", "--no-fail-fast", "--status-level", "slow"])
        .env("KLAR_READERS_PYTHON", readers))?;
    say("doc tests");
    run(cargo().args(["test", "--quiet", "--workspace", "--doc"]))?;
    if !fast {
        say("the demo app's own tests");
        shop::test()?;
        let klar = world::build(false)?;
        tour::tour(klar.clone())?;
        // Both wait most of the time: for instances, for pages, for what is away.
        let foreign = Beside::begin("foreign")?;
        let found = faults::planted(&klar, &[]);
        foreign.end()?;
        found?;
    }
    say(format!("all good ({} s)", begun.elapsed().as_secs()));
    Ok(())
}

/// A linker that runs out of disk says "Bus error"; this says it before.
fn room_for_all() -> Result<()> {
    const NEEDED_GB: u64 = 4;
    let target = std::env::var("CARGO_TARGET_DIR").unwrap_or_else(|_| "target".into());
    if Path::new(&target).join("debug").exists() {
        return Ok(());
    }
    let free = nix::sys::statvfs::statvfs(".")?;
    let free_gb = free.blocks_available() * free.fragment_size() / 1_000_000_000;
    say(format!("{free_gb} GB of disk are free"));
    ensure!(
        free_gb >= NEEDED_GB,
        "a first build and the demo take {NEEDED_GB} GB of disk; {free_gb} GB are free"
    );
    Ok(())
}
