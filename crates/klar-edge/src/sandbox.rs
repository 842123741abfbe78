//! What the edge gives up before it reads its first strange byte.
//!
//! It may serve sockets it was given, connect to apps, and read beneath the folders of releases. It may not start
//! programs, open or make other files, bind ports, trace, load modules or become somebody else. The files of its cache
//! were opened before: it reads, writes and empties them, and cannot open, make, rename or remove any.

use std::collections::BTreeMap;
use std::path::PathBuf;

use landlock::{
    ABI, Access, AccessFs, AccessNet, CompatLevel, Compatible, PathBeneath, PathFd, Ruleset, RulesetAttr,
    RulesetCreatedAttr, RulesetStatus, Scope,
};
use seccompiler::{BpfProgram, SeccompAction, SeccompFilter, SeccompRule};

use crate::EdgeError;

/// The system calls of a program that serves sockets with threads. Everything else fails with `EPERM`.
const CALLS: &[i64] = &[
    // sockets
    libc::SYS_socket,
    libc::SYS_socketpair,
    libc::SYS_connect,
    libc::SYS_accept4,
    libc::SYS_getsockopt,
    libc::SYS_setsockopt,
    libc::SYS_getsockname,
    libc::SYS_getpeername,
    libc::SYS_shutdown,
    libc::SYS_sendto,
    libc::SYS_recvfrom,
    libc::SYS_sendmsg,
    libc::SYS_recvmsg,
    // datagrams of HTTP/3, many at once
    libc::SYS_recvmmsg,
    // files and descriptors
    libc::SYS_read,
    libc::SYS_readv,
    libc::SYS_pread64,
    libc::SYS_write,
    libc::SYS_writev,
    libc::SYS_pwrite64,
    libc::SYS_ftruncate,
    libc::SYS_fdatasync,
    libc::SYS_flock,
    libc::SYS_openat2,
    libc::SYS_statx,
    libc::SYS_fstat,
    libc::SYS_newfstatat,
    libc::SYS_lseek,
    libc::SYS_close,
    libc::SYS_fcntl,
    libc::SYS_ioctl,
    libc::SYS_dup,
    // waiting
    libc::SYS_epoll_create1,
    libc::SYS_epoll_ctl,
    libc::SYS_epoll_wait,
    libc::SYS_epoll_pwait,
    libc::SYS_eventfd2,
    libc::SYS_poll,
    libc::SYS_ppoll,
    libc::SYS_futex,
    libc::SYS_nanosleep,
    libc::SYS_clock_nanosleep,
    libc::SYS_clock_gettime,
    libc::SYS_sched_yield,
    // memory
    libc::SYS_brk,
    libc::SYS_mmap,
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_mprotect,
    libc::SYS_madvise,
    // threads and signals
    libc::SYS_clone,
    libc::SYS_clone3,
    libc::SYS_set_robust_list,
    libc::SYS_rseq,
    libc::SYS_gettid,
    libc::SYS_getpid,
    libc::SYS_prctl,
    libc::SYS_sched_getaffinity,
    libc::SYS_sigaltstack,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_rt_sigtimedwait,
    libc::SYS_tgkill,
    libc::SYS_restart_syscall,
    libc::SYS_getrandom,
    libc::SYS_exit,
    libc::SYS_exit_group,
];

/// Gives everything else up, for this thread and those that it will start. Says what is in force.
///
/// # Errors
/// When the kernel refuses what every kernel that klar runs on can do. Landlock alone is optional: what the kernel
/// knows of it is used.
pub fn close(static_roots: &[PathBuf]) -> Result<Vec<String>, EdgeError> {
    let failed = |error: &dyn std::fmt::Display| EdgeError::Sandbox(error.to_string());
    nix::sys::prctl::set_no_new_privs().map_err(|error| failed(&error))?;
    let mut closed = vec!["no_new_privs".to_owned()];
    closed.push(restrict_files(static_roots).map_err(|error| failed(&error))?);

    let rules: BTreeMap<i64, Vec<SeccompRule>> = CALLS.iter().map(|&call| (call, Vec::new())).collect();
    let refuse = SeccompAction::Errno(libc::EPERM.unsigned_abs());
    let arch = std::env::consts::ARCH.try_into().map_err(|error| failed(&error))?;
    let filter =
        SeccompFilter::new(rules, refuse, SeccompAction::Allow, arch).map_err(|error| failed(&error))?;
    let program: BpfProgram = filter.try_into().map_err(|error| failed(&error))?;
    seccompiler::apply_filter(&program).map_err(|error| failed(&error))?;
    closed.push(format!("seccomp ({} system calls allowed)", CALLS.len()));
    Ok(closed)
}

fn restrict_files(static_roots: &[PathBuf]) -> Result<String, landlock::RulesetError> {
    let abi = ABI::V6;
    let mut rules = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(abi))?
        .handle_access(AccessNet::BindTcp)?
        .scope(Scope::from_all(abi))?
        .create()?;
    for root in static_roots {
        if let Ok(root) = PathFd::new(root) {
            rules = rules.add_rule(PathBeneath::new(root, AccessFs::ReadFile | AccessFs::ReadDir))?;
        }
    }
    Ok(match rules.restrict_self()?.ruleset {
        RulesetStatus::FullyEnforced => "Landlock (files read only beneath releases, no ports bound)".into(),
        RulesetStatus::PartiallyEnforced => "Landlock (in part: the kernel is older)".into(),
        RulesetStatus::NotEnforced => "no Landlock: the kernel has none".into(),
    })
}
