//! What a process of klar gives up before it reads its first strange byte: files with Landlock, system calls with
//! seccomp, privileges for good.
//!
//! **Invariant:** knows nothing of klar. Whoever calls it says what it still needs.

use std::collections::BTreeMap;
use std::path::PathBuf;

use landlock::{
    ABI, Access, AccessFs, AccessNet, CompatLevel, Compatible, PathBeneath, PathFd, Ruleset, RulesetAttr,
    RulesetCreatedAttr, RulesetStatus, Scope,
};
use seccompiler::{BpfProgram, SeccompAction, SeccompFilter, SeccompRule};

/// What a process keeps.
#[derive(Debug, Clone, Copy)]
pub struct Kept<'a> {
    /// Files and folders beneath these may be read.
    pub read: &'a [PathBuf],
    /// Beneath these files and folders may also be made, changed and removed.
    pub write: &'a [PathBuf],
    /// The system calls that still work. Everything else fails with `EPERM`.
    pub calls: &'a [&'a [i64]],
}

/// The system calls of a program that serves sockets with threads, and reads and writes files that are open, or lie
/// beneath a folder that is.
pub const SERVING: &[i64] = &[
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

/// What a program needs beside [`SERVING`] that keeps files of its own: opens, makes, renames and removes them.
pub const STORING: &[i64] = &[
    libc::SYS_open,
    libc::SYS_openat,
    libc::SYS_access,
    libc::SYS_stat,
    libc::SYS_lstat,
    libc::SYS_readlink,
    libc::SYS_mkdir,
    libc::SYS_mkdirat,
    libc::SYS_rename,
    libc::SYS_renameat,
    libc::SYS_renameat2,
    libc::SYS_unlink,
    libc::SYS_unlinkat,
    libc::SYS_rmdir,
    libc::SYS_getdents64,
    libc::SYS_fsync,
    libc::SYS_sync_file_range,
    libc::SYS_fallocate,
    libc::SYS_fchmod,
    libc::SYS_statfs,
    libc::SYS_fstatfs,
    libc::SYS_copy_file_range,
    libc::SYS_sendfile,
];

/// Why a process could not be locked in.
pub type Refusal = Box<dyn std::error::Error + Send + Sync>;

/// Gives everything else up, for this thread and those that it will start. Says what is in force, for people; `files`
/// says it of the files.
///
/// # Errors
/// When the kernel refuses what every kernel that klar runs on can do. Landlock alone is optional: what the kernel
/// knows of it is used.
pub fn close(kept: &Kept<'_>, files: &str) -> Result<Vec<String>, Refusal> {
    nix::sys::prctl::set_no_new_privs()?;
    let mut closed = vec!["no_new_privs".to_owned()];
    closed.push(restrict_files(kept, files)?);

    let calls = kept.calls.iter().copied().flatten();
    let rules: BTreeMap<i64, Vec<SeccompRule>> = calls.map(|call| (*call, Vec::new())).collect();
    let count = rules.len();
    let refuse = SeccompAction::Errno(libc::EPERM.unsigned_abs());
    let arch = std::env::consts::ARCH.try_into()?;
    let program: BpfProgram = SeccompFilter::new(rules, refuse, SeccompAction::Allow, arch)?.try_into()?;
    seccompiler::apply_filter(&program)?;
    closed.push(format!("seccomp ({count} system calls allowed)"));
    Ok(closed)
}

fn restrict_files(kept: &Kept<'_>, files: &str) -> Result<String, landlock::RulesetError> {
    let abi = ABI::V6;
    let mut rules = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(abi))?
        .handle_access(AccessNet::BindTcp)?
        .scope(Scope::from_all(abi))?
        .create()?;
    let reads = AccessFs::ReadFile | AccessFs::ReadDir;
    // No links, no devices, no sockets, nothing to be executed.
    let writes = reads
        | AccessFs::WriteFile
        | AccessFs::Truncate
        | AccessFs::MakeReg
        | AccessFs::MakeDir
        | AccessFs::RemoveFile
        | AccessFs::RemoveDir
        | AccessFs::Refer;
    let folders = kept.read.iter().map(|path| (path, reads));
    for (path, access) in folders.chain(kept.write.iter().map(|path| (path, writes))) {
        // What is not there cannot be read.
        let Ok(path) = PathFd::new(path) else { continue };
        rules = rules.add_rule(PathBeneath::new(path, access))?;
    }
    Ok(match rules.restrict_self()?.ruleset {
        RulesetStatus::FullyEnforced => format!("Landlock ({files}, no ports bound)"),
        RulesetStatus::PartiallyEnforced => "Landlock (in part: the kernel is older)".into(),
        RulesetStatus::NotEnforced => "no Landlock: the kernel has none".into(),
    })
}
