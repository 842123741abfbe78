//! Starting one of klar's own roles: descriptors, group, namespaces, user, in that order.

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use nix::fcntl::{FcntlArg, fcntl};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, setns, unshare};

use super::{Privileged, Spawn, users};

/// The first descriptor that a role is handed.
pub const FIRST_DESCRIPTOR: RawFd = 3;
/// Descriptors below this are for roles: [`reserve_descriptors`] keeps everything else above.
const RESERVED: RawFd = 16;

/// Occupies the low descriptors, so that those which a child is handed can be put there in the fork without
/// covering one that the standard library needs.
///
/// # Errors
/// When `/dev/null` cannot be opened.
pub fn reserve_descriptors() -> io::Result<()> {
    loop {
        let file = File::open("/dev/null")?;
        let number = file.as_raw_fd();
        if number >= RESERVED {
            return Ok(());
        }
        std::mem::forget(file);
    }
}

/// Starts `spawn`; gives its process id on the host and its start time.
pub(super) fn start(host: &Privileged, spawn: &Spawn, descriptors: &[OwnedFd]) -> io::Result<(i32, u64)> {
    let groups = match &spawn.limits {
        Some((group, limits)) => host.limits.create(group, limits)?,
        None => Vec::new(),
    };
    let memory_rlimit = match (&host.limits, &spawn.limits) {
        (crate::limits::Backend::Rlimits, Some((_, limits))) => limits.memory,
        _ => None,
    };
    let user = if host.is_root { Some(users::ensure(&spawn.identity)?) } else { None };
    let isolated = host.is_root && spawn.private_tmp.is_some();
    // A state folder below /tmp would vanish behind the private one.
    let tmp: Option<PathBuf> = spawn
        .private_tmp
        .clone()
        .filter(|_| isolated && !host.root.starts_with("/tmp") && !host.root.starts_with("/var/tmp"));
    let high: Vec<OwnedFd> = descriptors.iter().map(above_reserved).collect::<io::Result<_>>()?;
    let moves: Vec<RawFd> = high.iter().map(AsRawFd::as_raw_fd).collect();

    let mut command = Command::new(&host.executable);
    command.args(&spawn.args).stdin(Stdio::null());
    command.env_clear().env("PATH", standard_path()).env("LANG", "C.UTF-8");
    command.current_dir("/");
    let prepare = move || -> io::Result<()> {
        nix::unistd::setsid()?;
        for group in &groups {
            fs::write(group, "0")?;
        }
        if isolated {
            unshare(CloneFlags::CLONE_NEWNS)?;
            let none: Option<&str> = None;
            mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)?;
            for place in tmp.iter().flat_map(|tmp| [(tmp, "/tmp"), (tmp, "/var/tmp")]) {
                mount(Some(place.0), place.1, none, MsFlags::MS_BIND, none)?;
            }
            let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
            mount(Some("proc"), "/proc", Some("proc"), flags, none)?;
        }
        if let Some(size) = memory_rlimit {
            nix::sys::resource::setrlimit(nix::sys::resource::Resource::RLIMIT_DATA, size.0, size.0)?;
        }
        nix::sys::resource::setrlimit(nix::sys::resource::Resource::RLIMIT_CORE, 0, 0)?;
        if let Some((uid, gid)) = user {
            nix::unistd::setgroups(&[])?;
            nix::unistd::setgid(gid)?;
            nix::unistd::setuid(uid)?;
        }
        nix::sys::prctl::set_no_new_privs()?;
        for (target, source) in (FIRST_DESCRIPTOR..).zip(&moves) {
            duplicate_to(*source, target)?;
        }
        Ok(())
    };
    // SAFETY: between fork and exec `prepare` makes system calls and formats nothing. The spawner has one thread;
    // in a core without root, where other threads may hold the allocator's lock at the fork, glibc hands the child
    // a usable allocator (its fork handlers), and the branches that allocate (groups, mounts) need root.
    #[allow(unsafe_code)]
    unsafe {
        command.pre_exec(prepare)
    };
    let child = if isolated { in_new_pid_namespace(|| command.spawn())? } else { command.spawn()? };
    let pid = i32::try_from(child.id()).map_err(io::Error::other)?;
    // The child is reaped by the loop of `server`, or by the core's reaper.
    Ok((pid, super::started_ticks(pid).unwrap_or(0)))
}

/// The next child of this thread becomes the first process of a new process namespace; then all is as before.
fn in_new_pid_namespace<T>(start: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    let own = File::open("/proc/self/ns/pid")?;
    unshare(CloneFlags::CLONE_NEWPID)?;
    let started = start();
    setns(own, CloneFlags::CLONE_NEWPID)?;
    started
}

fn above_reserved(descriptor: &OwnedFd) -> io::Result<OwnedFd> {
    use std::os::fd::FromRawFd;
    let number = fcntl(descriptor, FcntlArg::F_DUPFD_CLOEXEC(RESERVED + 16))?;
    // SAFETY: the kernel has just made this descriptor for us.
    #[allow(unsafe_code)]
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

/// `dup2`, which also lets the copy survive the exec.
fn duplicate_to(source: RawFd, target: RawFd) -> io::Result<()> {
    // SAFETY: both numbers are plain integers to the kernel; what `target` held is one of the reserved ones.
    #[allow(unsafe_code)]
    let result = unsafe { libc::dup2(source, target) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// The search path of the person who started klar, so that a Node from a version manager is found, and the usual
/// folders behind it.
fn standard_path() -> String {
    const USUAL: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    match std::env::var("PATH") {
        Ok(path) if !path.is_empty() => format!("{path}:{USUAL}"),
        _ => USUAL.into(),
    }
}

/// Who listens on a local TCP port, as `name (pid 1)`, when it can be told.
pub(super) fn port_owner(port: u16) -> Option<String> {
    let inodes = crate::ports::listening_inodes(port);
    if inodes.is_empty() {
        return None;
    }
    for entry in fs::read_dir("/proc").ok()?.flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<i32>().ok()) else {
            continue;
        };
        if crate::ports::socket_inodes(pid).iter().any(|inode| inodes.contains(inode)) {
            let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
            return Some(format!("{} (pid {pid})", name.trim()));
        }
    }
    Some("a process that klar may not look into".into())
}
