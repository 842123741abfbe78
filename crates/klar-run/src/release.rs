//! A release: the files of an app and its settings, named by their digest, read-only once it is built.
//!
//! The archive is unpacked beside the releases and moved to its name; it is built there (virtual environments and
//! bundlers write absolute paths). `release.json` is written last: a folder without it is not a release, and is
//! removed.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Component, Path, PathBuf};

use klar_base::{ReleaseId, Secret};
use klar_config::Config;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::durable;
use crate::report::Failure;

/// The most entries that an app's folder may have.
const ENTRIES_MAX: usize = 500_000;
/// The most bytes that an app's folder may have.
const BYTES_MAX: u64 = 4 << 30;

/// What is kept of a release beside its files.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Release {
    /// Its name.
    pub id: ReleaseId,
    /// Its settings, with the environment's overrides applied.
    pub config: Config,
    /// The values behind the references in its settings.
    pub secrets: BTreeMap<String, Secret<String>>,
    /// What klar decided when it read the settings.
    pub notes: Vec<String>,
    /// When it was built, in milliseconds since the Unix epoch.
    pub built_unix_ms: u64,
    /// Ports that services were found to listen on although they were given another.
    #[serde(default)]
    pub own_ports: BTreeMap<String, u16>,
}

impl Release {
    /// Reads a release; `None` when the folder is not a whole one.
    ///
    /// # Errors
    /// When it is damaged.
    pub fn read(folder: &Path) -> io::Result<Option<Self>> {
        durable::read_json(&folder.join("release.json"))
    }

    /// Makes a built folder a release.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write(&self, folder: &Path) -> io::Result<()> {
        durable::write_json(&folder.join("release.json"), self)
    }
}

/// Unpacks an archive into `folder`; gives the digest of its content.
///
/// Only plain files, folders and symbolic links that stay inside are taken. The digest covers names, contents,
/// which files are executable, and where links lead.
///
/// # Errors
/// Names the entry that was refused.
pub fn unpack(archive: &Path, folder: &Path) -> Result<[u8; 32], Failure> {
    let problem = |error: io::Error| match error.raw_os_error() {
        Some(libc::ENOSPC | libc::EDQUOT) => Failure::new(format!("the disk is full: {}", folder.display()))
            .hint("free some space (`klar doctor` says how much klar itself uses), then deploy again"),
        _ => Failure::new(format!("the release could not be unpacked: {error}")),
    };
    fs::create_dir_all(folder).map_err(problem)?;
    let mut archive = tar::Archive::new(io::BufReader::new(File::open(archive).map_err(problem)?));
    let mut entries: BTreeMap<PathBuf, [u8; 32]> = BTreeMap::new();
    let mut bytes: u64 = 0;
    for entry in archive.entries().map_err(problem)? {
        let mut entry = entry.map_err(problem)?;
        let name = entry.path().map_err(problem)?.into_owned();
        let refuse = |why: &str| Failure::new(format!("`{}` in the app's folder {why}", name.display()));
        let path = inside(&name).ok_or_else(|| refuse("has a path that leads outside"))?;
        if path.as_os_str().is_empty() {
            continue;
        }
        bytes += entry.size();
        if bytes > BYTES_MAX || entries.len() == ENTRIES_MAX {
            return Err(refuse("is too much: a release may have 4 GiB and 500,000 files")
                .hint("leave folders out with `ignore = [\"...\"]` in [app]"));
        }
        let target = folder.join(&path);
        if let Some(parent) = target.parent() {
            fs::create_dir_all(parent).map_err(problem)?;
        }
        let mut digest = Sha256::new();
        match entry.header().entry_type() {
            tar::EntryType::Directory => {
                fs::create_dir_all(&target).map_err(problem)?;
                digest.update(b"folder");
            }
            tar::EntryType::Regular => {
                let executable = entry.header().mode().map_err(problem)? & 0o100 != 0;
                let mut file = File::create(&target).map_err(problem)?;
                digest.update(if executable { b"program".as_slice() } else { b"file" });
                copy(&mut entry, &mut file, &mut digest).map_err(problem)?;
                let mode = if executable { 0o755 } else { 0o644 };
                fs::set_permissions(&target, fs::Permissions::from_mode(mode)).map_err(problem)?;
            }
            tar::EntryType::Symlink => {
                let link = entry.link_name().map_err(problem)?.unwrap_or_default().into_owned();
                let from = path.parent().unwrap_or(Path::new(""));
                if link.is_absolute() || inside(&from.join(&link)).is_none() {
                    return Err(refuse("is a link that leads outside of the folder")
                        .hint("replace it by what it leads to, or leave it out with `ignore` in [app]"));
                }
                std::os::unix::fs::symlink(&link, &target).map_err(problem)?;
                digest.update(b"link");
                digest.update(link.as_os_str().as_encoded_bytes());
            }
            _ => return Err(refuse("is neither a file nor a folder nor a link")),
        }
        entries.insert(path, digest.finalize().into());
    }
    let mut all = Sha256::new();
    for (path, digest) in &entries {
        let name = path.as_os_str().as_encoded_bytes();
        all.update((name.len() as u64).to_be_bytes());
        all.update(name);
        all.update(digest);
    }
    Ok(all.finalize().into())
}

/// The path without `.` and with `..` resolved; `None` when it leads outside or is absolute.
fn inside(path: &Path) -> Option<PathBuf> {
    let mut clean = PathBuf::new();
    for part in path.components() {
        match part {
            Component::Normal(name) => clean.push(name),
            Component::CurDir => {}
            Component::ParentDir => {
                if !clean.pop() {
                    return None;
                }
            }
            Component::RootDir | Component::Prefix(_) => return None,
        }
    }
    Some(clean)
}

fn copy(from: &mut impl Read, to: &mut File, digest: &mut Sha256) -> io::Result<()> {
    let mut buffer = vec![0; 256 * 1024];
    loop {
        let count = from.read(&mut buffer)?;
        if count == 0 {
            return Ok(());
        }
        digest.update(&buffer[..count]);
        to.write_all(&buffer[..count])?;
    }
}

/// Names a release after its files, its settings and its secrets.
pub fn name(
    files: &[u8; 32],
    config: &Config,
    secrets: &BTreeMap<String, Secret<String>>,
) -> io::Result<ReleaseId> {
    let mut digest = Sha256::new();
    digest.update(files);
    digest.update(serde_json::to_vec(config)?);
    digest.update(serde_json::to_vec(secrets)?);
    Ok(ReleaseId::from_digest(&digest.finalize()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scratch(name: &str) -> PathBuf {
        let folder = std::env::temp_dir().join(format!("klar-release-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).unwrap();
        folder
    }

    fn archive(folder: &Path, entries: &[(&str, &str)]) -> PathBuf {
        let path = folder.join("upload.tar");
        let mut builder = tar::Builder::new(File::create(&path).unwrap());
        for (name, content) in entries {
            let mut header = tar::Header::new_gnu();
            // Set by hand: the crate's own setter refuses what an attacker would write.
            header.as_gnu_mut().unwrap().name[..name.len()].copy_from_slice(name.as_bytes());
            header.set_mode(0o644);
            if let Some(link) = content.strip_prefix("-> ") {
                header.set_entry_type(tar::EntryType::Symlink);
                header.set_link_name_literal(link).unwrap();
                header.set_size(0);
                header.set_cksum();
                builder.append(&header, io::empty()).unwrap();
            } else {
                header.set_size(content.len() as u64);
                header.set_cksum();
                builder.append(&header, content.as_bytes()).unwrap();
            }
        }
        builder.into_inner().unwrap();
        path
    }

    #[test]
    fn the_digest_is_of_the_content_and_nothing_else() {
        let folder = scratch("digest");
        let digest = |n: u32, entries: &[(&str, &str)]| {
            unpack(&archive(&folder, entries), &folder.join(n.to_string())).unwrap()
        };
        let one = digest(1, &[("a", "1"), ("b/c", "2")]);
        assert_eq!(one, digest(2, &[("b/c", "2"), ("a", "1")]), "order does not matter");
        assert_ne!(one, digest(3, &[("a", "2"), ("b/c", "1")]));
        assert_ne!(one, digest(4, &[("a", "1"), ("b/d", "2")]));
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn nothing_gets_out_of_the_folder() {
        for (n, entries) in [
            vec![("../evil", "x")],
            vec![("/tmp/evil", "x")],
            vec![("a/../../evil", "x")],
            vec![("link", "-> /etc/passwd")],
            vec![("a/link", "-> ../../evil")],
        ]
        .into_iter()
        .enumerate()
        {
            let folder = scratch(&format!("out{n}"));
            let error = unpack(&archive(&folder, &entries), &folder.join("in")).unwrap_err();
            assert!(error.what.contains("outside"), "{entries:?}: {error}");
            assert!(!folder.join("evil").exists() && !Path::new("/tmp/evil").exists());
            fs::remove_dir_all(folder).unwrap();
        }
        let folder = scratch("link");
        unpack(&archive(&folder, &[("a/b", "x"), ("c/link", "-> ../a/b")]), &folder.join("in")).unwrap();
        assert_eq!(fs::read_to_string(folder.join("in/c/link")).unwrap(), "x");
        fs::remove_dir_all(folder).unwrap();
    }
}
