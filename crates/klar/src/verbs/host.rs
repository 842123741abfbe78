//! The roles of klar's own processes.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd, RawFd};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::rc::Rc;
use std::time::{Duration, Instant};

use klar_run::layout::Layout;
use klar_run::report::Failure;

use crate::context::Trouble;

/// The pause before a core is started again that did not live long; it doubles up to the second one.
const PAUSE: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_secs(5);
/// A core that cannot start gets so many tries.
const REFUSALS: u32 = 5;
/// A core that lived so long gets another one at once.
const STEADY: Duration = Duration::from_secs(10);

fn broken(error: impl std::error::Error) -> Trouble {
    let mut what = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        what = format!("{what}: {inner}");
        source = inner.source();
    }
    Failure::new(what).into()
}

/// Keeps a core running: as root through the spawner, otherwise by starting it again.
pub fn host(layout: &Layout) -> Result<(), Trouble> {
    // Refused to the leader of a group, which a shell with job control makes of it; then it is alone already.
    let _ = nix::unistd::setsid();
    if nix::unistd::geteuid().is_root() {
        return spawn(layout);
    }
    let me = std::env::current_exe().map_err(Trouble::system("finding klar's own program"))?;
    let (mut pause, mut refusals) = (PAUSE, 0);
    loop {
        let begun = Instant::now();
        let status = Command::new(&me)
            .arg("core")
            .arg("--state")
            .arg(layout.root())
            .stdin(Stdio::null())
            .status()
            .map_err(Trouble::system("starting the core"))?;
        if status.success() {
            return Ok(());
        }
        // One that was killed has no exit code. One that says itself why it cannot go on would say it again.
        refusals = if status.code().is_some() { refusals + 1 } else { 0 };
        if refusals == REFUSALS {
            return Err(Failure::new(format!("the core ended {refusals} times in a row: {status}")).into());
        }
        pause = if begun.elapsed() > STEADY { PAUSE } else { (pause * 2).min(PAUSE_MAX) };
        eprintln!("klar host: the core is gone ({status}); starting it again in {pause:?}");
        std::thread::sleep(pause);
    }
}

/// The privileged spawner, which starts the core.
pub fn spawn(layout: &Layout) -> Result<(), Trouble> {
    klar_run::spawn::server::run(layout.root()).map_err(broken)
}

/// The core.
pub fn core(layout: &Layout, spawner: Option<RawFd>) -> Result<(), Trouble> {
    let spawner = spawner.map(inherited).transpose()?;
    // With a spawner the core is a user of its own, and root owns the machine; without, it is whoever started it.
    let allowed = [0, nix::unistd::geteuid().as_raw()];
    klar_run::core::run(layout.clone(), spawner, move |core, listener| {
        klar_api::serve(Rc::new(core), listener, klar_api::Settings::new(allowed))
    })
    .map_err(broken)
}

/// The edge.
pub fn edge(core_uid: u32, static_roots: Vec<PathBuf>, cache_folder: Option<PathBuf>) -> Result<(), Trouble> {
    let options = klar_edge::Options { core_uid, static_roots, cache_folder, workers: None, sandbox: true };
    klar_edge::run(inherited(3)?, options).map_err(broken)
}

/// The shim of an instance.
pub fn shim() -> Result<(), Trouble> {
    klar_run::shim::run(inherited(3)?, inherited(4)?).map_err(broken)
}

/// A descriptor that the parent left open; a copy, so that its number does not matter to whoever uses it.
#[allow(unsafe_code)]
fn inherited(number: RawFd) -> Result<OwnedFd, Trouble> {
    if nix::fcntl::fcntl(borrow(number), nix::fcntl::FcntlArg::F_GETFD).is_err() {
        let failure = Failure::new("this is a part of klar that only klar starts").hint("run `klar --help`");
        return Err(Trouble::usage(failure));
    }
    let copy = borrow(number).as_fd().try_clone_to_owned().map_err(Trouble::system("taking a descriptor"))?;
    // SAFETY: the descriptor is open, as was just seen, and only this process's parent knew of it.
    drop(unsafe { <OwnedFd as std::os::fd::FromRawFd>::from_raw_fd(number) });
    Ok(copy)
}

#[allow(unsafe_code)]
fn borrow(number: RawFd) -> BorrowedFd<'static> {
    // SAFETY: used at once, to ask whether the descriptor is open and to copy it.
    unsafe { BorrowedFd::borrow_raw(number) }
}
