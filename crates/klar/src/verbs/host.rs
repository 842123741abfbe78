//! The roles of klar's own processes.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::rc::Rc;
use std::time::{Duration, Instant};

use klar_run::keeper::{Keeper, Then, Verdict};
use klar_run::layout::Layout;
use klar_run::programs;
use klar_run::report::Failure;
use klar_run::spawn::server::Running;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use crate::context::{Context, Trouble};

/// The pause before a core is started again that did not live long; it doubles up to the second one.
const PAUSE: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_secs(5);
/// A core that cannot start gets so many tries.
const REFUSALS: u32 = 5;
/// A core that lived so long gets another one at once.
const STEADY: Duration = Duration::from_secs(10);
/// How often a core on trial is looked at.
const LOOK: Duration = Duration::from_millis(50);

/// A core that runs already: what the program that this process was before has handed over.
#[derive(Debug, Clone, Copy, Default)]
pub struct Handed {
    /// Its process id.
    pub core_pid: Option<i32>,
    /// As root: the connection to it.
    pub core_fd: Option<RawFd>,
}

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
pub fn host(layout: &Layout, handed: Handed) -> Result<(), Trouble> {
    // Refused to the leader of a group, which a shell with job control makes of it; then it is alone already.
    let _ = nix::unistd::setsid();
    if nix::unistd::geteuid().is_root() {
        return spawn(layout, handed);
    }
    let own = std::env::current_exe().map_err(Trouble::system("finding klar's own program"))?;
    let mut keeper = Keeper::new(layout.root());
    let mut running = handed.core_pid.map(Pid::from_raw);
    let (mut pause, mut refusals) = (PAUSE, 0);
    loop {
        let begun = Instant::now();
        let core = match running.take() {
            Some(core) => core,
            None => start_core(keeper.program().as_deref().unwrap_or(&own), layout)?,
        };
        let (code, status) = attend(core, &mut keeper, layout)?;
        if code == Some(0) {
            return Ok(());
        }
        if keeper.core_ended(code) == Then::AtOnce {
            continue;
        }
        // One that was killed has no exit code. One that says itself why it cannot go on would say it again.
        refusals = if code.is_some() { refusals + 1 } else { 0 };
        if refusals == REFUSALS {
            return Err(Failure::new(format!("the core ended {refusals} times in a row: {status}")).into());
        }
        pause = if begun.elapsed() > STEADY { PAUSE } else { (pause * 2).min(PAUSE_MAX) };
        eprintln!("klar host: the core is gone ({status}); starting it again in {pause:?}");
        std::thread::sleep(pause);
    }
}

fn start_core(program: &Path, layout: &Layout) -> Result<Pid, Trouble> {
    let core = Command::new(program)
        .arg("core")
        .arg("--state")
        .arg(layout.root())
        .stdin(Stdio::null())
        .spawn()
        .map_err(Trouble::system("starting the core"))?;
    Ok(Pid::from_raw(i32::try_from(core.id()).unwrap_or_default()))
}

/// Waits until the core has ended, and says how: its exit code, if it had one, and the whole of it in words. A core
/// on trial that is proven makes this process the program that it runs from.
fn attend(core: Pid, keeper: &mut Keeper, layout: &Layout) -> Result<(Option<i32>, String), Trouble> {
    loop {
        let on_trial = keeper.program().is_some();
        let flags = on_trial.then_some(WaitPidFlag::WNOHANG);
        match waitpid(core, flags) {
            Ok(WaitStatus::Exited(_, code)) => return Ok((Some(code), format!("exit status {code}"))),
            Ok(WaitStatus::Signaled(_, signal, _)) => return Ok((None, format!("signal {signal}"))),
            Ok(_) | Err(nix::errno::Errno::EINTR) => {}
            Err(error) => return Err(Trouble::system("waiting for the core")(error.into())),
        }
        match keeper.look(core) {
            Verdict::None => {}
            Verdict::Proven => {
                let error = keeper.become_current(layout.root(), core, None);
                eprintln!("klar host: the new core runs, but the host stays what it was: {error}");
            }
            // It is collected above.
            Verdict::Overdue => drop(kill(core, Signal::SIGKILL)),
        }
        if on_trial {
            std::thread::sleep(LOOK);
        }
    }
}

/// The privileged spawner, which starts the core.
pub fn spawn(layout: &Layout, handed: Handed) -> Result<(), Trouble> {
    let running = match (handed.core_pid, handed.core_fd) {
        (Some(core), Some(socket)) => {
            Some(Running { stream: UnixStream::from(inherited(socket)?), core: Pid::from_raw(core) })
        }
        _ => None,
    };
    klar_run::spawn::server::run(layout.root(), running).map_err(broken)
}

/// What this program can take over from another one: for `klar upgrade`, which asks the newer program before it puts
/// it in force.
pub fn formats(context: &Context) {
    context.printer.value(&crate::verbs::upgrade::Formats::own());
}

/// The core.
pub fn core(layout: &Layout, spawner: Option<RawFd>) -> Result<(), Trouble> {
    let spawner = spawner.map(inherited).transpose()?;
    // With a spawner the core is a user of its own, and root owns the machine; without, it is whoever started it.
    let allowed = [0, nix::unistd::geteuid().as_raw()];
    let next = klar_run::core::run(layout.clone(), spawner, move |core, listener| {
        klar_api::serve(Rc::new(core), listener, klar_api::Settings::new(allowed))
    })
    .map_err(broken)?;
    // Read by the host.
    next.map_or(Ok(()), |status| Err(Trouble::Verdict(status)))
}

/// The edge.
pub fn edge(core_uid: u32, static_roots: Vec<PathBuf>, cache_folder: Option<PathBuf>) -> Result<(), Trouble> {
    let program = programs::own_id();
    let options =
        klar_edge::Options { core_uid, static_roots, cache_folder, workers: None, program, sandbox: true };
    klar_edge::run(inherited(3)?, options).map_err(broken)
}

/// Telemetry.
pub fn see(folder: PathBuf, apps: PathBuf, allowed: Vec<u32>, tcp: bool) -> Result<(), Trouble> {
    let control = UnixStream::from(inherited(3)?);
    let unix = std::os::unix::net::UnixListener::from(inherited(4)?);
    let tcp = if tcp { vec![std::net::TcpListener::from(inherited(5)?)] } else { Vec::new() };
    let options = klar_see::Options { folder, apps, allowed, sandbox: true };
    klar_see::run(control, Some(unix), tcp, options).map_err(broken)
}

/// What keeps the databases of an app a second time.
pub fn keep(folder: PathBuf, allowed: Vec<u32>) -> Result<(), Trouble> {
    let control = UnixStream::from(inherited(3)?);
    let door = std::os::unix::net::UnixListener::from(inherited(4)?);
    klar_keep::process::run(control, door, klar_keep::process::Options { folder, allowed }).map_err(broken)
}

/// What reads an app's folders, as the app's own user.
pub fn read_files(folder: &Path) -> Result<(), Trouble> {
    let out = UnixStream::from(inherited(3)?);
    klar_keep::files::reader::read(folder, out).map(drop).map_err(broken)
}

/// The shim of an instance.
pub fn shim() -> Result<(), Trouble> {
    klar_run::shim::run(inherited(3)?, inherited(4)?).map_err(broken)
}

/// Makes the static files of a release ready: the plan comes in, what was done goes out, and nothing but `out` is
/// written to.
pub fn assets(out: &Path) -> Result<(), Trouble> {
    klar_run::assets::serve(out, std::io::stdin().lock(), std::io::stdout().lock())
        .map_err(Trouble::system("preparing the static files"))
}

/// What converts images. How much memory it takes must not depend on what an allocator lays by for later: it becomes
/// itself again, with an allocator that lays nothing by.
pub fn images(memory: Option<u64>, time_ms: Option<u64>) -> Result<(), Trouble> {
    const LAID_BY: &str = "MIMALLOC_ARENA_RESERVE";
    if std::env::var_os(LAID_BY).is_none() {
        let mut args = std::env::args_os();
        let name = args.next().unwrap_or_default();
        let error = Command::new("/proc/self/exe").arg0(name).args(args).env(LAID_BY, "0").exec();
        return Err(Trouble::system("starting klar's own program again")(error));
    }
    let usual = klar_image::worker::Limits::default();
    let limits = klar_image::worker::Limits {
        memory: memory.unwrap_or(usual.memory),
        time: time_ms.map_or(usual.time, Duration::from_millis),
    };
    klar_image::worker::run(UnixStream::from(inherited(3)?), limits).map_err(broken)
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
