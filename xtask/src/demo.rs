//! `cargo xtask demo`: from a clone to an address that answers.

use std::time::Duration;

use anyhow::Result;

use crate::load::PASSWORD;
use crate::shell::{run, say};
use crate::world::{self, World};
use crate::{install, tour};

/// Sets up, starts, and waits for Ctrl-C; or does the whole tour.
pub fn demo(once: bool) -> Result<()> {
    install::ensure("The demo (a shop with PostgreSQL and Redis)", false)?;
    let klar = world::build(false)?;
    if once {
        return tour::tour(klar);
    }
    let mut world = World::lasting(klar)?;
    say("klar up");
    run(&mut world.klar(&["up"]))?;
    let program = world.klar(&[]).get_program().to_string_lossy().into_owned();
    println!(
        "\nThe shop answers at {}. Sign in as user@, official@ or admin@lisens.example with the password {PASSWORD}.\n\n\
         Things to try in another terminal:\n\n  \
         export KLAR_STATE={} PATH={}:$PATH\n  cd {}\n\n  \
         klar                                 what runs\n  \
         klar logs --access -f                requests as they come\n  \
         sudo kill -9 $(klar ps --json | jq '.apps[0].services[0].instances[0].pid')\n                                       shoot an instance; nothing is lost\n  \
         echo 2 > VERSION && klar deploy      ship a change\n  \
         klar rollback                        take it back\n  \
         touch CRASH && klar deploy           a release that cannot start is refused\n\n\
         Ctrl-C stops it all; its data stays in {} for the next time.",
        world.url(),
        world.state.display(),
        std::path::Path::new(&program).parent().unwrap_or(std::path::Path::new(".")).display(),
        world.app.display(),
        world.state.display(),
    );
    wait_for_ctrl_c()?;
    say("stopping");
    world.stop()
}

fn wait_for_ctrl_c() -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        use tokio::signal::unix::{SignalKind, signal};
        let (mut interrupt, mut terminate) =
            (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
        tokio::select! { _ = interrupt.recv() => {}, _ = terminate.recv() => {} }
        // The terminal has put `^C` on the line.
        tokio::time::sleep(Duration::from_millis(10)).await;
        Ok(())
    })
}
