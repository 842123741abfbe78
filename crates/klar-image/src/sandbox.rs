//! What the worker gives up before it takes its first order, and what each of its children gives up beside that.
//!
//! The worker itself reads no image: it takes bytes from the edge, starts a child for each image and ends it in time.
//! It may open nothing. The child, which reads what a stranger has sent, may only compute, take memory up to its limit,
//! and write into one pipe. Whatever else it tries ends it.

use std::collections::BTreeMap;

use landlock::{ABI, Access, AccessFs, AccessNet, CompatLevel, Compatible, Ruleset, RulesetAttr, Scope};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
};

/// What a child needs to compute.
const CHILD: &[i64] = &[
    libc::SYS_read,
    libc::SYS_write,
    libc::SYS_brk,
    libc::SYS_mmap,
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_madvise,
    libc::SYS_mprotect,
    libc::SYS_futex,
    libc::SYS_getrandom,
    libc::SYS_clock_gettime,
    libc::SYS_sched_yield,
    libc::SYS_sched_getaffinity,
    // The C library asks how much memory there is before it sorts.
    libc::SYS_sysinfo,
    libc::SYS_sigaltstack,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_exit_group,
];

/// What the worker needs beside that, to start and end children.
const WORKER: &[i64] = &[
    libc::SYS_recvfrom,
    libc::SYS_sendto,
    libc::SYS_readv,
    libc::SYS_writev,
    libc::SYS_poll,
    libc::SYS_ppoll,
    libc::SYS_pipe2,
    libc::SYS_clone,
    libc::SYS_clone3,
    libc::SYS_set_robust_list,
    libc::SYS_rseq,
    libc::SYS_wait4,
    libc::SYS_kill,
    libc::SYS_close,
    libc::SYS_close_range,
    libc::SYS_fcntl,
    libc::SYS_dup2,
    libc::SYS_dup3,
    libc::SYS_prlimit64,
    libc::SYS_prctl,
    libc::SYS_seccomp,
    libc::SYS_getpid,
    libc::SYS_gettid,
    libc::SYS_tgkill,
    libc::SYS_nanosleep,
    libc::SYS_clock_nanosleep,
    libc::SYS_restart_syscall,
];

/// The program of the kernel's filter that holds for children: to be made before there is one.
///
/// # Errors
/// In words, when this machine is of a kind that has none.
pub fn for_children() -> Result<BpfProgram, String> {
    filter(CHILD, SeccompAction::KillProcess)
}

/// Gives up what the worker does not need, in the thread that calls and those that come from it.
///
/// # Errors
/// In words, when the kernel refuses what every kernel that klar runs on can do. Landlock alone is optional: what the
/// kernel knows of it is used.
pub fn close() -> Result<(), String> {
    nix::sys::prctl::set_no_new_privs().map_err(|error| error.to_string())?;
    no_files().map_err(|error| error.to_string())?;
    let all: Vec<i64> = CHILD.iter().chain(WORKER).copied().collect();
    let program = filter(&all, SeccompAction::Errno(libc::EPERM.unsigned_abs()))?;
    seccompiler::apply_filter(&program).map_err(|error| error.to_string())
}

fn filter(calls: &[i64], otherwise: SeccompAction) -> Result<BpfProgram, String> {
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> = calls.iter().map(|&call| (call, Vec::new())).collect();
    let error = |error: seccompiler::BackendError| error.to_string();
    // The allocator gives the memory that it takes a name.
    let names = SeccompCondition::new(0, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, libc::PR_SET_VMA as u64);
    let names = SeccompRule::new(vec![names.map_err(error)?]).map_err(error)?;
    rules.entry(libc::SYS_prctl).or_insert(vec![names]);
    let arch = std::env::consts::ARCH.try_into().map_err(|error| format!("{error}"))?;
    let filter = SeccompFilter::new(rules, otherwise, SeccompAction::Allow, arch)
        .map_err(|error| error.to_string())?;
    filter.try_into().map_err(error)
}

/// No file can be opened, no port bound or connected to, nobody outside signalled.
fn no_files() -> Result<(), landlock::RulesetError> {
    let abi = ABI::V6;
    Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(abi))?
        .handle_access(AccessNet::from_all(abi))?
        .scope(Scope::from_all(abi))?
        .create()?
        .restrict_self()?;
    Ok(())
}
