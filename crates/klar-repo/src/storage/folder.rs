//! A repository in a folder, in restic's local layout.

use std::io;
use std::path::{Path, PathBuf};

use super::{Growing, Kind, Object, Storage, StorageError};
use crate::Id;

/// A folder of a local file system.
#[derive(Debug, Clone)]
pub struct Folder {
    root: PathBuf,
}

/// How long what a killed writer left in `tmp` stays.
const LEFTOVER: std::time::Duration = std::time::Duration::from_secs(24 * 60 * 60);

impl Folder {
    /// The folder at `root`; made with the first object.
    #[must_use]
    pub fn new(root: &Path) -> Folder {
        Folder { root: root.to_owned() }
    }

    fn path(&self, object: &Object) -> Result<PathBuf, StorageError> {
        object.verify()?;
        Ok(self.root.join(object.path()))
    }

    /// What was half written when its writer was killed is no object, only in the way.
    fn tidy(&self, tmp: &Path) {
        let Ok(entries) = std::fs::read_dir(tmp) else { return };
        for entry in entries.flatten() {
            let old = entry.metadata().and_then(|metadata| metadata.modified()).is_ok_and(|time| {
                std::time::SystemTime::now().duration_since(time).is_ok_and(|age| age > LEFTOVER)
            });
            if old {
                // Another process may have been quicker.
                let _ = std::fs::remove_file(entry.path());
            }
        }
    }

    fn names(
        &self,
        folder: &Path,
        each: &mut dyn FnMut(&str, std::fs::Metadata),
    ) -> Result<(), StorageError> {
        let failed =
            |source| StorageError::Io { doing: "listing", what: folder.display().to_string(), source };
        let entries = match std::fs::read_dir(folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            entries => entries.map_err(failed)?,
        };
        for entry in entries {
            let entry = entry.map_err(failed)?;
            let Some(name) = entry.file_name().to_str().map(str::to_owned) else { continue };
            match entry.metadata() {
                Ok(metadata) => each(&name, metadata),
                // Removed since it was listed: a lock.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(failed(error)),
            }
        }
        Ok(())
    }

    fn extras(
        &self,
        folder: &Path,
        name: &str,
        found: &mut Vec<(String, u64)>,
        depth: u32,
    ) -> Result<(), StorageError> {
        let mut folders = Vec::new();
        self.names(folder, &mut |part, metadata| {
            let name = format!("{name}{part}");
            if metadata.is_dir() && depth < 16 {
                folders.push((folder.join(part), format!("{name}/")));
            } else if metadata.is_file() && Object::Extra(name.clone()).verify().is_ok() {
                found.push((name, metadata.len()));
            }
        })?;
        for (folder, name) in folders {
            self.extras(&folder, &name, found, depth + 1)?;
        }
        Ok(())
    }
}

fn sync(folder: &Path) -> io::Result<()> {
    std::fs::File::open(folder)?.sync_all()
}

/// Makes `folder` and what is above it, so that they survive a loss of power.
fn make(folder: &Path) -> io::Result<()> {
    if folder.is_dir() {
        return Ok(());
    }
    if let Some(above) = folder.parent().filter(|above| !above.as_os_str().is_empty()) {
        make(above)?;
    }
    match std::os::unix::fs::DirBuilderExt::mode(&mut std::fs::DirBuilder::new(), 0o700).create(folder) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        made => made?,
    }
    match folder.parent().filter(|above| !above.as_os_str().is_empty()) {
        Some(above) => sync(above),
        None => Ok(()),
    }
}

/// Names temporary files apart within one process.
static NEXT: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);

fn place(tmp: &Path, path: &Path, bytes: &[u8]) -> io::Result<()> {
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;
    let folder = path.parent().ok_or(io::ErrorKind::InvalidInput)?;
    make(tmp)?;
    make(folder)?;
    let next = NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    let half = tmp.join(format!("{}-{next}", std::process::id()));
    // What a dead process of the same number left.
    let _ = std::fs::remove_file(&half);
    let result = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&half)
        .and_then(|mut file| {
            file.write_all(bytes)?;
            file.sync_all()
        })
        // A link, not a rename: it fails where there is something already.
        .and_then(|()| std::fs::hard_link(&half, path));
    let result = match result {
        // File systems without links (FAT, some networks). Nobody else writes this name with other bytes: ids say
        // what is in an object, and extra names have one writer.
        Err(error) if cannot_link(&error) => match path.exists() {
            true => Err(io::ErrorKind::AlreadyExists.into()),
            false => std::fs::rename(&half, path),
        },
        result => result,
    };
    let _ = std::fs::remove_file(&half);
    result?;
    sync(folder)
}

fn cannot_link(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::Unsupported | io::ErrorKind::PermissionDenied)
}

impl Storage for Folder {
    fn place(&self) -> String {
        self.root.display().to_string()
    }

    fn list(&self, kind: Kind) -> Result<Vec<(Id, u64)>, StorageError> {
        let top = self.root.join(kind.folder());
        let mut found = Vec::new();
        let mut folders = Vec::new();
        let mut each = |name: &str, metadata: std::fs::Metadata, folders: &mut Vec<PathBuf>| {
            if metadata.is_dir() && kind == Kind::Pack && name.len() == 2 {
                folders.push(top.join(name));
            } else if metadata.is_file()
                && let Ok(id) = name.parse()
            {
                found.push((id, metadata.len()));
            }
        };
        self.names(&top, &mut |name, metadata| each(name, metadata, &mut folders))?;
        for folder in std::mem::take(&mut folders) {
            self.names(&folder, &mut |name, metadata| each(name, metadata, &mut folders))?;
        }
        Ok(found)
    }

    fn list_extra(&self, prefix: &str) -> Result<Vec<(String, u64)>, StorageError> {
        let folder = self.path(&Object::Extra(format!("{prefix}x")))?;
        let mut found = Vec::new();
        self.extras(folder.parent().unwrap_or(&self.root), prefix, &mut found, 0)?;
        found.sort();
        Ok(found)
    }

    fn read(&self, object: &Object) -> Result<Vec<u8>, StorageError> {
        use std::io::Read;
        let path = self.path(object)?;
        let failed = |error| failed("reading", object, &path, error);
        let file = std::fs::File::open(&path).map_err(failed)?;
        let length = file.metadata().map_err(failed)?.len();
        if length > super::OBJECT_MAX {
            return Err(StorageError::Long { object: object.clone(), length });
        }
        let mut bytes = Vec::with_capacity(length as usize);
        file.take(super::OBJECT_MAX).read_to_end(&mut bytes).map_err(failed)?;
        Ok(bytes)
    }

    fn read_range(&self, object: &Object, offset: u64, length: usize) -> Result<Vec<u8>, StorageError> {
        use std::os::unix::fs::FileExt;
        let path = self.path(object)?;
        let failed = |error| failed("reading", object, &path, error);
        let expected = offset.saturating_add(length as u64);
        if expected > super::OBJECT_MAX {
            return Err(StorageError::Long { object: object.clone(), length: expected });
        }
        let file = std::fs::File::open(&path).map_err(failed)?;
        let mut bytes = vec![0; length];
        match file.read_exact_at(&mut bytes, offset) {
            Ok(()) => Ok(bytes),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Err(StorageError::Short {
                object: object.clone(),
                length: file.metadata().map_err(failed)?.len(),
                expected,
            }),
            Err(error) => Err(failed(error)),
        }
    }

    fn write(&self, object: &Object, bytes: &[u8]) -> Result<(), StorageError> {
        let path = self.path(object)?;
        if bytes.len() as u64 > super::OBJECT_MAX {
            return Err(StorageError::Long { object: object.clone(), length: bytes.len() as u64 });
        }
        let tmp = self.root.join("tmp");
        if *object == Object::Config {
            for kind in Kind::ALL {
                make(&self.root.join(kind.folder()))
                    .map_err(|error| failed("creating", object, &path, error))?;
            }
        }
        if let Object::Stored(Kind::Snapshot, _) = object {
            self.tidy(&tmp);
        }
        match place(&tmp, &path, bytes) {
            Ok(()) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => match self.read(object)? == bytes {
                true => Ok(()),
                false => Err(StorageError::Exists(object.clone())),
            },
            Err(error) => Err(failed("writing", object, &path, error)),
        }
    }

    fn grow(&self, object: &Object) -> Result<Box<dyn Growing>, StorageError> {
        use std::os::unix::fs::OpenOptionsExt;
        let path = self.path(object)?;
        let folder = path.parent().unwrap_or(&self.root);
        let begun = make(folder).and_then(|()| {
            let file = std::fs::OpenOptions::new().append(true).create_new(true).mode(0o600).open(&path)?;
            sync(folder)?;
            Ok(file)
        });
        match begun {
            Ok(file) => Ok(Box::new(Grown { file, object: object.clone(), path })),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                Err(StorageError::Exists(object.clone()))
            }
            Err(error) => Err(failed("writing", object, &path, error)),
        }
    }

    fn remove(&self, object: &Object) -> Result<(), StorageError> {
        let path = self.path(object)?;
        match std::fs::remove_file(&path) {
            Ok(()) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(failed("removing", object, &path, error)),
        }
    }
}

struct Grown {
    file: std::fs::File,
    object: Object,
    path: PathBuf,
}

impl Growing for Grown {
    fn append(&mut self, bytes: &[u8]) -> Result<(), StorageError> {
        use std::io::Write;
        let appended = self.file.write_all(bytes).and_then(|()| self.file.sync_data());
        appended.map_err(|error| failed("writing", &self.object, &self.path, error))
    }
}

fn failed(doing: &'static str, object: &Object, path: &Path, error: io::Error) -> StorageError {
    match error.kind() {
        io::ErrorKind::NotFound if doing == "reading" => StorageError::Gone(object.clone()),
        _ => StorageError::Io { doing, what: path.display().to_string(), source: error },
    }
}
