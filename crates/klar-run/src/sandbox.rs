//! What an app may write to: declared folders, its tmp and its home. Everything else is read-only to it.
//!
//! Landlock rules are made in the parent (they open files) and enforced in the child between fork and exec.

use std::path::PathBuf;

use landlock::{
    ABI, AccessFs, CompatLevel, Compatible, PathBeneath, PathFd, Ruleset, RulesetAttr, RulesetCreated,
    RulesetCreatedAttr, RulesetError,
};

/// Devices and shared memory that ordinary programs write to.
const ALWAYS: [&str; 8] =
    ["/dev/null", "/dev/zero", "/dev/full", "/dev/tty", "/dev/ptmx", "/dev/pts", "/dev/shm", "/proc/self"];

/// Makes the rules: reading and running stay as they are, writing works only beneath `folders`.
///
/// Folders that do not exist are left out. On a kernel without Landlock the rules have no effect, which
/// [`available`] tells.
///
/// # Errors
/// When the kernel refuses the rules that it claims to know.
pub fn only_writes_beneath(folders: &[PathBuf]) -> Result<RulesetCreated, RulesetError> {
    // The newest kernel interface that the crate knows; older kernels enforce the part that they know.
    let writing = AccessFs::from_write(ABI::V5) & !AccessFs::IoctlDev;
    let mut rules =
        Ruleset::default().set_compatibility(CompatLevel::BestEffort).handle_access(writing)?.create()?;
    let to_file = AccessFs::WriteFile | AccessFs::Truncate;
    for path in ALWAYS.iter().map(PathBuf::from).chain(folders.iter().cloned()) {
        let Ok(opened) = PathFd::new(&path) else { continue };
        let allowed = if path.is_dir() { writing } else { to_file };
        rules = rules.add_rule(PathBeneath::new(opened, allowed))?;
    }
    Ok(rules)
}

/// The version of Landlock that the kernel has, 0 for none.
#[allow(unsafe_code)]
pub fn available() -> u32 {
    const CREATE_RULESET_VERSION: u32 = 1;
    // SAFETY: with this flag, a null pointer and size 0 the call only returns a number.
    let version = unsafe {
        libc::syscall(
            libc::SYS_landlock_create_ruleset,
            std::ptr::null::<libc::c_void>(),
            0usize,
            CREATE_RULESET_VERSION,
        )
    };
    u32::try_from(version).unwrap_or(0)
}
