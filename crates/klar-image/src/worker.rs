//! The process that converts images (`klar images`): what strangers uploaded is read here and nowhere else.
//!
//! It takes one order after the other from the socket that it was handed ([`klar_base::images`]). It never looks into an
//! image itself: for each it forks a child, which has its memory and time counted, cannot open, send or start anything,
//! and ends with the image. So a decoder that is taken over has one image to spoil, which is the one that took it over,
//! and one that crashes or never ends costs that image and nothing else: the edge sends the original.
//!
//! When the edge closes its end, or is gone, this ends.

use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use klar_base::images::{self, Format, Order, Outcome, RESULT_MAX};
use nix::fcntl::OFlag;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::resource::{Resource, setrlimit};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid, fork, pipe2};
use seccompiler::BpfProgram;

use crate::{Left, convert, formats, sandbox};

/// What one image may take.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Memory, in bytes.
    pub memory: u64,
    /// Time by the clock, and of a processor. Writing AVIF may take [`AVIF_FACTOR`] times as long.
    pub time: Duration,
}

/// How much longer AVIF may take than other formats.
pub const AVIF_FACTOR: u32 = 6;

impl Default for Limits {
    /// Enough for the largest image that is read at all.
    fn default() -> Self {
        Self { memory: 768 << 20, time: Duration::from_secs(10) }
    }
}

/// The priority of this work, behind all that answers requests.
const NICE: i32 = 10;

/// Takes orders until the other end closes.
///
/// # Errors
/// When the sandbox cannot be closed, or what comes is no order.
pub fn run(mut stream: UnixStream, limits: Limits) -> io::Result<()> {
    step_back();
    let strict = sandbox::for_children().map_err(io::Error::other)?;
    sandbox::close().map_err(|why| io::Error::other(format!("the sandbox cannot be closed: {why}")))?;
    images::greet(&mut stream, formats())?;
    while let Some(ordered) = images::take_order(&mut stream)? {
        let outcome = in_a_child(&ordered.order(), limits, &strict);
        images::send_outcome(&mut stream, &outcome)?;
    }
    Ok(())
}

/// Work that nobody waits for, and the first to go when memory is short.
#[allow(unsafe_code)]
fn step_back() {
    // SAFETY: two numbers, to the kernel.
    let _ = unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, NICE) };
    // Not everywhere is it allowed to say so.
    let _ = std::fs::write("/proc/self/oom_score_adj", "900");
}

/// Has a child make an image.
fn in_a_child(order: &Order<'_>, limits: Limits, strict: &BpfProgram) -> Outcome {
    let time = if order.wanted == Format::Avif { limits.time * AVIF_FACTOR } else { limits.time };
    let limits = Limits { time, ..limits };
    match start(order, limits, strict) {
        Ok((child, pipe)) => attend(child, pipe, time),
        Err(error) => Outcome::Left(format!("no process could be started for it: {error}")),
    }
}

#[allow(unsafe_code)]
fn start(order: &Order<'_>, limits: Limits, strict: &BpfProgram) -> io::Result<(Pid, OwnedFd)> {
    let (from, to) = pipe2(OFlag::O_CLOEXEC)?;
    // SAFETY: this process has one thread, so the child finds every lock as it should be.
    match unsafe { fork() }? {
        ForkResult::Parent { child } => Ok((child, from)),
        ForkResult::Child => child(order, to, limits, strict),
    }
}

/// All that a child does.
#[allow(unsafe_code)]
fn child(order: &Order<'_>, pipe: OwnedFd, limits: Limits, strict: &BpfProgram) -> ! {
    let made = lock_in(&pipe, limits, strict).map(|()| {
        std::panic::set_hook(Box::new(|_| {}));
        std::panic::catch_unwind(|| convert(order)).unwrap_or(Err(Left::Damaged))
    });
    let outcome = match made {
        Ok(Ok(bytes)) => Outcome::Made { format: order.wanted, bytes },
        Ok(Err(left)) => Outcome::Left(left.to_string()),
        Err(error) => Outcome::Left(format!("its process could not be locked in: {error}")),
    };
    // A parent that is gone wants nothing more.
    let _ = images::send_outcome(&mut Out, &outcome);
    // SAFETY: ends the process at once; nothing of it is to be tidied up.
    unsafe { libc::_exit(0) }
}

/// The one descriptor that a child has.
struct Out;

impl io::Write for Out {
    #[allow(unsafe_code)]
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // SAFETY: the bytes are there, and as many as is said.
        let written = unsafe { libc::write(0, bytes.as_ptr().cast(), bytes.len()) };
        usize::try_from(written).map_err(|_| io::Error::last_os_error())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Leaves one descriptor, the pipe, as number 0; sets limits; and closes the sandbox for good.
#[allow(unsafe_code)]
fn lock_in(pipe: &OwnedFd, limits: Limits, strict: &BpfProgram) -> io::Result<()> {
    let check = |result: i64| if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) };
    // SAFETY: plain numbers to the kernel. Nothing of this process uses any of its descriptors from here on: not the
    // socket of the edge, which a child that is taken over must not have.
    check(i64::from(unsafe { libc::dup2(pipe.as_raw_fd(), 0) }))?;
    // SAFETY: as above.
    check(unsafe { libc::syscall(libc::SYS_close_range, 1, u32::MAX, 0) })?;
    nix::sys::prctl::set_pdeathsig(Signal::SIGKILL)?;
    let seconds = limits.time.as_secs().max(1);
    for (resource, limit) in [
        (Resource::RLIMIT_DATA, limits.memory),
        (Resource::RLIMIT_CPU, seconds),
        (Resource::RLIMIT_NOFILE, 1),
        (Resource::RLIMIT_FSIZE, 0),
        (Resource::RLIMIT_CORE, 0),
    ] {
        setrlimit(resource, limit, limit)?;
    }
    seccompiler::apply_filter(strict).map_err(io::Error::other)
}

/// Takes what a child has made, and ends it when its time is up.
fn attend(child: Pid, pipe: OwnedFd, time: Duration) -> Outcome {
    let said = hear(pipe, Instant::now() + time);
    if said.is_err() {
        // Ended already is what was wanted.
        let _ = kill(child, Signal::SIGKILL);
    }
    let ended = loop {
        match waitpid(child, None) {
            Err(nix::errno::Errno::EINTR) => {}
            other => break other,
        }
    };
    match (said, ended) {
        (Err(error), _) if error.kind() == io::ErrorKind::TimedOut => {
            Outcome::Left(format!("it takes longer than {} s", time.as_secs_f32()))
        }
        (_, Ok(WaitStatus::Signaled(_, Signal::SIGXCPU | Signal::SIGKILL, _))) => {
            Outcome::Left("it takes too much time or memory".into())
        }
        (_, Ok(WaitStatus::Signaled(_, signal, _))) => Outcome::Left(format!("reading it ended in {signal}")),
        (Ok(said), _) => images::hear_outcome(&mut said.as_slice())
            .unwrap_or_else(|_| Outcome::Left("reading it ended in nothing".into())),
        (Err(error), _) => Outcome::Left(format!("what was made of it was lost: {error}")),
    }
}

/// Reads to the end, or until it is time.
fn hear(pipe: OwnedFd, until: Instant) -> io::Result<Vec<u8>> {
    let mut said = Vec::new();
    let mut file = std::fs::File::from(pipe);
    let mut part = vec![0; 64 << 10];
    loop {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        let wait = PollTimeout::try_from(left + Duration::from_millis(1)).unwrap_or(PollTimeout::MAX);
        match poll(&mut [PollFd::new(file.as_fd(), PollFlags::POLLIN)], wait) {
            Ok(0) | Err(nix::errno::Errno::EINTR) => continue,
            Ok(_) => {}
            Err(error) => return Err(error.into()),
        }
        match file.read(&mut part)? {
            0 => return Ok(said),
            read => said.extend_from_slice(&part[..read]),
        }
        if said.len() > RESULT_MAX + 16 {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "it is too large"));
        }
    }
}
