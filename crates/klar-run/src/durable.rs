//! Files that are either the old ones or the new ones, whatever is killed in between.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use serde::Serialize;
use serde::de::DeserializeOwned;

/// Replaces `path` by `value` as JSON: a new file, flushed to disk, renamed over the old one, the folder flushed.
///
/// The file is readable by its owner only: state holds passwords.
///
/// # Errors
/// Names the file. The old one is untouched.
pub fn write_json(path: &Path, value: &impl Serialize) -> io::Result<()> {
    let text = serde_json::to_vec_pretty(value)?;
    write(path, &text)
}

/// As [`write_json`], for bytes.
///
/// # Errors
/// Names the file. The old one is untouched.
pub fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    replace_with(path, bytes, 0o600)
}

/// As [`write`], for a file of the user's own: it keeps its mode.
///
/// # Errors
/// Names the file. The old one is untouched.
pub fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    let mode = fs::metadata(path).map_or(0o644, |known| known.permissions().mode() & 0o777);
    replace_with(path, bytes, mode)
}

fn replace_with(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let named = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", path.display()));
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let new = folder.join(name);
    let mut file =
        File::options().write(true).create(true).truncate(true).mode(mode).open(&new).map_err(named)?;
    let done = file.write_all(bytes).and_then(|()| file.sync_all()).and_then(|()| fs::rename(&new, path));
    done.map_err(|error| {
        let _ = fs::remove_file(&new);
        named(error)
    })?;
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(named)
}

/// Reads what [`write_json`] wrote; `None` when there is no such file.
///
/// # Errors
/// Names the file; `InvalidData` when it is not what was expected.
pub fn read_json<T: DeserializeOwned>(path: &Path) -> io::Result<Option<T>> {
    let named = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", path.display()));
    match fs::read(path) {
        Ok(bytes) => serde_json::from_slice(&bytes).map(Some).map_err(|error| named(error.into())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(named(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_replaced_or_kept() {
        let folder = std::env::temp_dir().join(format!("klar-durable-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let path = folder.join("host.json");
        assert_eq!(read_json::<u32>(&path).unwrap(), None);
        write_json(&path, &1).unwrap();
        write_json(&path, &2).unwrap();
        assert_eq!(read_json::<u32>(&path).unwrap(), Some(2));
        // What a kill between the two steps leaves behind changes nothing.
        fs::write(folder.join("host.json.new"), "tor").unwrap();
        assert_eq!(read_json::<u32>(&path).unwrap(), Some(2));
        fs::write(&path, "{").unwrap();
        assert!(read_json::<u32>(&path).unwrap_err().to_string().contains("host.json"));
        fs::remove_dir_all(folder).unwrap();
    }
}
