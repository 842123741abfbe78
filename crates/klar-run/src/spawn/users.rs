//! klar's own system users, and what belongs to them.
//!
//! As root: `klar` (core), `klar-edge`, `klar-images`, `klar-see`, one for each app and environment, one for its databases,
//! and one for what keeps those a second time. They are
//! ordinary system users, so `ps`, `ls -l` and programs that look themselves up (PostgreSQL's `initdb`, Node's
//! `os.userInfo`) see names. Without root there is one user, and ownership is left alone.

use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Component, Path, PathBuf};
use std::process::Command;

use klar_base::AppKey;
use nix::unistd::{Gid, Uid, User};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::Privileged;

/// Whose process or file something is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "snake_case")]
pub enum Identity {
    /// The core.
    Core,
    /// The edge.
    Edge,
    /// What converts images.
    Images,
    /// Telemetry.
    See,
    /// The instances and builds of an app.
    App {
        /// Which.
        key: AppKey,
    },
    /// The managed databases of an app.
    Data {
        /// Which.
        key: AppKey,
    },
    /// What keeps them a second time.
    Keep {
        /// Which.
        key: AppKey,
    },
}

/// Every user of klar has a name that starts with this.
const PREFIX: &str = "klar";

impl Identity {
    /// The name of the system user: at most 31 bytes, which is what `useradd` takes.
    pub fn user_name(&self) -> String {
        let (role, key) = match self {
            Self::Core => return PREFIX.into(),
            Self::Edge => return format!("{PREFIX}-edge"),
            Self::Images => return format!("{PREFIX}-images"),
            Self::See => return format!("{PREFIX}-see"),
            Self::App { key } => ("a", key),
            Self::Data { key } => ("d", key),
            Self::Keep { key } => ("k", key),
        };
        const ROOM: usize = 31 - "klar-a-".len();
        let plain =
            if key.env.is_default() { key.app.to_string() } else { format!("{}-{}", key.app, key.env) };
        // `a-b` in prod and `a` in `b` would be one user without the digest.
        let ambiguous = !key.env.is_default() || key.app.as_str().contains('-');
        let name = if plain.len() <= ROOM && !ambiguous {
            plain
        } else {
            let digest = Sha256::digest(key.to_string());
            let kept: String = plain.chars().take(ROOM - 7).collect();
            format!("{kept}-{:02x}{:02x}{:02x}", digest[0], digest[1], digest[2])
        };
        format!("{PREFIX}-{role}-{name}")
    }
}

/// Finds the user, and makes it when it is missing. Telemetry has the group of the core, for which instances leave open
/// what they say; what else that group may is closed by the sandbox. What keeps databases has their group, which may read
/// their files: it cannot change them, and they can neither read nor remove what is kept.
pub(super) fn ensure(identity: &Identity) -> io::Result<(Uid, Gid)> {
    let (uid, gid) = ensure_user(identity)?;
    let gid = match identity {
        Identity::See => ensure_user(&Identity::Core)?.1,
        Identity::Keep { key } => ensure_user(&Identity::Data { key: key.clone() })?.1,
        _ => gid,
    };
    Ok((uid, gid))
}

fn ensure_user(identity: &Identity) -> io::Result<(Uid, Gid)> {
    let name = identity.user_name();
    if let Some(user) = User::from_name(&name)? {
        return Ok((user.uid, user.gid));
    }
    let made = Command::new("useradd")
        .args(["--system", "--user-group", "--no-create-home", "--home-dir", "/nonexistent"])
        .args(["--shell", "/usr/sbin/nologin", "--comment", "run by klar", &name])
        .output()
        .map_err(|error| {
            io::Error::new(error.kind(), format!("useradd (to make the user {name}): {error}"))
        })?;
    // Somebody else may have made it at the same moment.
    match User::from_name(&name)? {
        Some(user) => Ok((user.uid, user.gid)),
        None => Err(io::Error::other(format!(
            "the user {name} could not be made: {}",
            String::from_utf8_lossy(&made.stderr).trim()
        ))),
    }
}

/// Makes an app's folder in a place for second copies, and gives it to what keeps the app's data. It is for the command line,
/// as the person who names the place: the core never asks root for anything outside the state folder.
///
/// # Errors
/// The place is not there, or cannot be written to.
pub fn prepare_place(place: &Path, key: &AppKey) -> io::Result<()> {
    // A folder where a disk should be mounted would be filled instead of it; one that is missing says so.
    fs::read_dir(place)?;
    let folder = place.join(key.to_string());
    match fs::create_dir(&folder) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        made => made?,
    }
    if !fs::symlink_metadata(&folder)?.is_dir() {
        return Err(io::Error::new(
            io::ErrorKind::NotADirectory,
            format!("{} is no folder", folder.display()),
        ));
    }
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o700))?;
    if !nix::unistd::geteuid().is_root() {
        return Ok(());
    }
    let (uid, gid) = ensure(&Identity::Keep { key: key.clone() })?;
    walk(&folder, &mut |path, _| std::os::unix::fs::lchown(path, Some(uid.as_raw()), Some(gid.as_raw())))
}

/// Whether a process runs as one of klar's users.
pub(super) fn belongs_to_klar(pid: i32) -> bool {
    let Ok(meta) = fs::metadata(format!("/proc/{pid}")) else { return false };
    let name = User::from_uid(Uid::from_raw(meta.uid())).ok().flatten().map(|user| user.name);
    name.is_some_and(|name| name == PREFIX || name.starts_with("klar-"))
}

/// Refuses paths outside the state folder, with `..`, or through a symbolic link: the core is not root, and must
/// not be able to point root elsewhere.
fn checked(host: &Privileged, path: &Path) -> io::Result<PathBuf> {
    let refuse =
        |why: &str| io::Error::new(io::ErrorKind::PermissionDenied, format!("{}: {why}", path.display()));
    let inside = path.strip_prefix(&host.root).map_err(|_| refuse("not below the state folder"))?;
    let mut walked = host.root.clone();
    for part in inside.components() {
        let Component::Normal(name) = part else { return Err(refuse("not a plain path")) };
        walked.push(name);
        match fs::symlink_metadata(&walked) {
            Ok(meta) if meta.is_symlink() => return Err(refuse("leads through a symbolic link")),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(walked)
}

/// Makes a folder, or mends its owner and mode.
pub(super) fn folder(
    host: &Privileged,
    path: &Path,
    owner: &Identity,
    group: &Identity,
    mode: u32,
) -> io::Result<()> {
    let path = checked(host, path)?;
    let named = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", path.display()));
    fs::create_dir_all(&path).map_err(named)?;
    if host.is_root {
        let (uid, _) = ensure(owner)?;
        let (_, gid) = ensure(group)?;
        std::os::unix::fs::lchown(&path, Some(uid.as_raw()), Some(gid.as_raw())).map_err(named)?;
    }
    fs::set_permissions(&path, fs::Permissions::from_mode(mode)).map_err(named)
}

/// What happens to the modes of a tree that changes hands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Modes {
    /// Everyone reads, nobody writes.
    Frozen,
    /// The owner can write; otherwise as they were.
    Kept,
}

/// Gives a tree to somebody. Symbolic links are changed themselves, never followed.
pub(super) fn own_tree(host: &Privileged, path: &Path, owner: &Identity, modes: Modes) -> io::Result<()> {
    let path = checked(host, path)?;
    let ids = if host.is_root { Some(ensure(owner)?) } else { None };
    walk(&path, &mut |path, meta| {
        if let Some((uid, gid)) = ids {
            std::os::unix::fs::lchown(path, Some(uid.as_raw()), Some(gid.as_raw()))?;
        }
        if meta.is_symlink() {
            return Ok(());
        }
        let old = meta.permissions().mode();
        let executable = if meta.is_dir() || old & 0o100 != 0 { 0o111 } else { 0 };
        let mode = match modes {
            Modes::Frozen => 0o444 | executable,
            Modes::Kept => (old & 0o777) | 0o600 | (executable & 0o100),
        };
        fs::set_permissions(path, fs::Permissions::from_mode(mode))
    })
}

/// Puts a tree elsewhere, where nothing is yet.
pub(super) fn move_tree(host: &Privileged, from: &Path, to: &Path) -> io::Result<()> {
    let (from, to) = (checked(host, from)?, checked(host, to)?);
    match fs::symlink_metadata(&to) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
        Ok(_) => {
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, format!("{} is there", to.display())));
        }
    }
    fs::rename(from, to)
}

/// Removes a tree, whoever owns it. A folder that is frozen is opened first: without root, that is needed.
pub(super) fn remove_tree(host: &Privileged, path: &Path) -> io::Result<()> {
    let path = checked(host, path)?;
    if !host.is_root && path.exists() {
        walk(&path, &mut |path, meta| {
            if meta.is_dir() { fs::set_permissions(path, fs::Permissions::from_mode(0o700)) } else { Ok(()) }
        })?;
    }
    match fs::symlink_metadata(&path) {
        Ok(meta) if meta.is_dir() => fs::remove_dir_all(&path),
        Ok(_) => fs::remove_file(&path),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

/// Visits folders after what is in them, so that a folder can be closed behind us; but opens it first if need be.
fn walk(path: &Path, visit: &mut dyn FnMut(&Path, &fs::Metadata) -> io::Result<()>) -> io::Result<()> {
    let named = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", path.display()));
    let meta = fs::symlink_metadata(path).map_err(named)?;
    if meta.is_dir() {
        if meta.permissions().mode() & 0o700 != 0o700 {
            fs::set_permissions(path, fs::Permissions::from_mode(0o700)).map_err(named)?;
        }
        for entry in fs::read_dir(path).map_err(named)? {
            walk(&entry.map_err(named)?.path(), visit)?;
        }
    }
    visit(path, &meta).map_err(named)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn user_names_are_short_and_never_shared() {
        let name = |key: &str| Identity::App { key: key.parse().unwrap() }.user_name();
        assert_eq!(name("lisens.prod"), "klar-a-lisens");
        let (one, two, three) = (name("a-b.prod"), name("a.b"), name("ab.prod"));
        assert!(one != two && two != three && one != three, "{one} {two} {three}");
        assert_ne!(name("lisens.prod"), Identity::Data { key: "lisens.prod".parse().unwrap() }.user_name());
        assert!(name(&format!("{0}.{0}", "a".repeat(32))).len() <= 31);
    }

    #[test]
    fn nothing_outside_the_state_folder_can_be_named() {
        let root = std::env::temp_dir().join(format!("klar-users-{}", std::process::id()));
        fs::create_dir_all(&root).unwrap();
        std::os::unix::fs::symlink("/etc", root.join("link")).unwrap();
        let host = Privileged::new(&root).unwrap();
        for path in
            [PathBuf::from("/etc/passwd"), root.join("../x"), root.join("link/passwd"), root.join("link")]
        {
            let error = checked(&host, &path).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::PermissionDenied, "{}", path.display());
        }
        assert!(checked(&host, &root.join("apps/a.prod")).is_ok());
        fs::remove_dir_all(root).unwrap();
    }
}
