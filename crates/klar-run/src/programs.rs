//! The programs that klar keeps of itself, so that it can go on with a newer one and back to an older one.
//!
//! ```text
//! STATE/bin/klar           what all roles run from: as root always, otherwise since the first upgrade
//! STATE/bin/klar.next      on its way in: put there by `klar upgrade`, taken by the host
//! STATE/bin/klar.previous  what ran before
//! ```
//!
//! Each step is one rename, and at every moment `klar` is a whole program.

use std::fs::{self, File, Permissions};
use std::io::{self, Read};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// See the [module](self).
#[derive(Debug, Clone)]
pub struct Programs {
    folder: PathBuf,
}

impl Programs {
    /// Those of the host whose state lies in `root`.
    pub fn new(root: &Path) -> Self {
        Self { folder: root.join("bin") }
    }

    /// What roles run from.
    pub fn current(&self) -> PathBuf {
        self.folder.join("klar")
    }

    /// What is on its way in.
    pub fn next(&self) -> PathBuf {
        self.folder.join("klar.next")
    }

    /// What ran before.
    pub fn previous(&self) -> PathBuf {
        self.folder.join("klar.previous")
    }

    /// Copies `source` here as the next program, for every user to run, and flushes it to disk.
    ///
    /// # Errors
    /// Names the file: it cannot be read, or there is no room.
    pub fn stage(&self, source: &Path) -> io::Result<()> {
        self.copy(source, &self.next())
    }

    /// Puts the next program in force. `running` is what is in force where nothing was kept yet.
    ///
    /// # Errors
    /// When there is no next one, or no room to keep the one before; what was in force still is.
    pub fn take_next(&self, running: &Path) -> io::Result<()> {
        fs::metadata(self.next()).map_err(|error| named(&self.next(), &error))?;
        let current = self.current();
        if current.exists() {
            let kept = self.folder.join("klar.kept");
            let _ = fs::remove_file(&kept);
            fs::hard_link(&current, &kept).map_err(|error| named(&kept, &error))?;
            fs::rename(&kept, self.previous()).map_err(|error| named(&self.previous(), &error))?;
        } else {
            self.copy(running, &self.previous())?;
        }
        fs::rename(self.next(), &current).map_err(|error| named(&current, &error))
    }

    /// Puts the previous program in force again.
    ///
    /// # Errors
    /// When there is none.
    pub fn restore(&self) -> io::Result<()> {
        fs::rename(self.previous(), self.current()).map_err(|error| named(&self.previous(), &error))
    }

    /// As root: makes the program of this process the one that all roles run from. The original may lie in root's
    /// home, and may be replaced while this one runs. The same bytes stay the same file, so that an edge that runs
    /// from it is not taken for one of another version.
    ///
    /// # Errors
    /// Names the file: there is no room.
    pub fn install_own(&self) -> io::Result<PathBuf> {
        let (own, current) = (Path::new("/proc/self/exe"), self.current());
        if !same_bytes(own, &current).unwrap_or(false) {
            let new = self.folder.join("klar.new");
            self.copy(own, &new)?;
            if current.exists() {
                fs::rename(&current, self.previous()).map_err(|error| named(&self.previous(), &error))?;
            }
            fs::rename(&new, &current).map_err(|error| named(&current, &error))?;
        }
        Ok(current)
    }

    /// The program in force, opened to be executed by a privileged process.
    ///
    /// # Errors
    /// When it is not root's own: the folder around it belongs to the core, which must not become root through it.
    pub fn open_trusted(&self) -> io::Result<OwnedFd> {
        let path = self.current();
        let open = File::options().read(true).custom_flags(libc::O_NOFOLLOW | libc::O_CLOEXEC).open(&path);
        let file = open.map_err(|error| named(&path, &error))?;
        let found = file.metadata()?;
        if nix::unistd::geteuid().is_root() && (found.uid() != 0 || found.mode() & 0o022 != 0) {
            let what = format!("{} is not root's alone, so it is not run as root", path.display());
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, what));
        }
        Ok(file.into())
    }

    fn copy(&self, source: &Path, target: &Path) -> io::Result<()> {
        fs::DirBuilder::new().recursive(true).mode(0o755).create(&self.folder)?;
        // A program that runs cannot be written to, and one that was left half must not be taken for whole.
        let _ = fs::remove_file(target);
        let half = target.with_extension("half");
        let _ = fs::remove_file(&half);
        let copied = fs::copy(source, &half).map_err(|error| named(source, &error)).and_then(|_| {
            fs::set_permissions(&half, Permissions::from_mode(0o755))?;
            File::open(&half)?.sync_all()?;
            fs::rename(&half, target)
        });
        copied.inspect_err(|_| {
            let _ = fs::remove_file(&half);
        })
    }
}

fn named(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

/// Names the file of a program: another file, another name, also where its bytes are the same.
///
/// # Errors
/// When there is no such file.
pub fn id_of(path: &Path) -> io::Result<String> {
    let found = fs::metadata(path).map_err(|error| named(path, &error))?;
    Ok(format!("{:x}-{:x}-{:x}-{:x}", found.dev(), found.ino(), found.size(), found.mtime()))
}

/// The name of the program of this process, as [`id_of`] gives it; empty when it cannot be told.
pub fn own_id() -> String {
    id_of(Path::new("/proc/self/exe")).unwrap_or_default()
}

/// Whether two files hold the same.
///
/// # Errors
/// When one of them cannot be read.
pub fn same_bytes(one: &Path, two: &Path) -> io::Result<bool> {
    const PIECE: u64 = 1 << 20;
    let (mut one, mut two) = (File::open(one)?, File::open(two)?);
    let (here, there) = (one.metadata()?, two.metadata()?);
    if (here.dev(), here.ino()) == (there.dev(), there.ino()) {
        return Ok(true);
    }
    if here.len() != there.len() {
        return Ok(false);
    }
    let (mut left, mut right) = (Vec::new(), Vec::new());
    loop {
        left.clear();
        right.clear();
        (&mut one).take(PIECE).read_to_end(&mut left)?;
        (&mut two).take(PIECE).read_to_end(&mut right)?;
        if left != right {
            return Ok(false);
        }
        if left.is_empty() {
            return Ok(true);
        }
    }
}

/// Lets a descriptor survive the next `execve`, and gives its number.
///
/// # Errors
/// None that a descriptor which is open could cause.
pub fn keep_open(descriptor: &impl std::os::fd::AsFd) -> io::Result<i32> {
    use nix::fcntl::{FcntlArg, FdFlag, fcntl};
    fcntl(descriptor.as_fd(), FcntlArg::F_SETFD(FdFlag::empty()))?;
    Ok(descriptor.as_fd().as_raw_fd())
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("klar-programs-{}-{name}", std::process::id()));
            let _ = fs::remove_dir_all(&path);
            fs::create_dir_all(&path).unwrap();
            Self(path)
        }

        fn file(&self, name: &str, content: &str) -> PathBuf {
            let path = self.0.join(name);
            fs::write(&path, content).unwrap();
            path
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn forward_and_back() {
        let folder = Folder::new("forward");
        let programs = Programs::new(&folder.0);
        let text = |path: PathBuf| fs::read_to_string(path).unwrap_or_else(|_| "-".into());
        let is = || [programs.current(), programs.previous(), programs.next()].map(text).join(" ");
        let (one, two, three) = (folder.file("1", "one"), folder.file("2", "two"), folder.file("3", "three"));
        assert!(programs.take_next(&one).is_err(), "nothing is on its way in");
        programs.stage(&two).unwrap();
        assert_eq!(is(), "- - two");
        let staged = id_of(&programs.next()).unwrap();
        programs.take_next(&one).unwrap();
        assert_eq!(is(), "two one -", "what ran from elsewhere is kept");
        assert_eq!(id_of(&programs.current()).unwrap(), staged, "the very file that was staged");
        programs.stage(&three).unwrap();
        programs.take_next(&one).unwrap();
        assert_eq!(is(), "three two -");
        programs.restore().unwrap();
        assert_eq!(is(), "two - -");
        assert!(programs.restore().is_err(), "there is no other");
        assert_eq!(is(), "two - -");
        assert_eq!(fs::metadata(programs.current()).unwrap().permissions().mode() & 0o777, 0o755);
    }

    #[test]
    fn files_are_compared_by_what_they_hold() {
        let folder = Folder::new("same");
        let one = folder.file("1", "the same");
        for (content, wanted) in [("the same", true), ("the samE", false), ("the same!", false), ("", false)]
        {
            assert_eq!(same_bytes(&one, &folder.file("2", content)).unwrap(), wanted, "{content:?}");
        }
        assert!(same_bytes(&one, &folder.0.join("missing")).is_err());
    }
}
