//! A repository that was restored from becomes the keeper's own: what was kept on the machine before goes on here, with all
//! its points.
//!
//! ```text
//! adopt.json    which cluster was restored, and from where: written when the copy was made
//! adopted/      that repository with a new key, and those who signed in it; `ready` comes last
//! before-TIME/  what this keeper had, once `adopted` has taken its place
//! ```
//!
//! It begins when the server is found to be that cluster, and takes the place at the next start: any step may be the last
//! one before a kill.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::Timestamp;
use klar_base::keep::Elsewhere;
use klar_repo::{Folder, Gone, Mirror, Object, Overlay, Repository};
use klar_store::KeyId;
use serde::{Deserialize, Serialize};

use super::second::EXTRAS;
use super::{Inner, KeepError, Keeper, password};
use crate::elsewhere;
use crate::point::{self, Point, Points};
use crate::wal::{AHEAD, WalError, ahead};

#[derive(Serialize, Deserialize)]
struct Adopt {
    system: u64,
    from: Elsewhere,
}

/// What belongs to a repository beside it.
const PARTS: [&str; 4] = ["repository", "repository.key", "trusted.json", "spool"];

/// A repository that is not the keeper's own, and whose signatures count in it.
pub(crate) struct Other {
    pub repository: Repository,
    pub trusted: Vec<KeyId>,
    /// What is wrong with the log ahead of it: the last commits are missing then.
    pub broken: Option<WalError>,
    over: Option<PathBuf>,
}

impl Other {
    /// Opens it: at the place itself, or where this keeper would put its own within it. What is ahead of its log becomes
    /// part of that in a folder within `home`, that of a store of this app, which may have to show a key; at the place
    /// nothing is changed.
    pub fn open(from: &Elsewhere, name: &str, home: &Path) -> Result<Other, KeepError> {
        let keys = elsewhere::keys(home);
        let here = elsewhere::storage(&from.at, "", &keys)?;
        let is_here = match here.read(&Object::Config) {
            Err(error) if error.is_gone() => false,
            read => read.map(|_| true).map_err(|error| KeepError::Open(error.into()))?,
        };
        let storage = if is_here { here } else { elsewhere::storage(&from.at, name, &keys)? };
        let password = from.password.expose().trim();
        let repository = Repository::open(storage.clone(), password)?;
        let trusted = point::signers(&repository)?;
        let mut other = Other { repository, trusted, broken: None, over: None };
        if !storage.list_extra(AHEAD).map_err(WalError::from)?.is_empty() {
            let points = Points::<Point>::read(&other.repository, &other.trusted)?;
            if let Some(newest) = points.points.values().next_back() {
                let over = home.join(format!("work/ahead-{:016x}", fastrand::u64(..)));
                let overlay = Overlay::new(storage, Arc::new(Folder::new(&over)));
                other.over = Some(over);
                other.repository = Repository::open(Arc::new(overlay), password)?;
                let merged = ahead::merge(&other.repository, newest.system, newest.segment_size)?;
                other.broken = merged.broken;
            }
        }
        Ok(other)
    }
}

impl Drop for Other {
    fn drop(&mut self) {
        if let Some(over) = &self.over {
            let _ = fs::remove_dir_all(over);
        }
    }
}

impl Keeper {
    /// Remembers from where a cluster was restored, which will be put in place of the one that is kept.
    pub(crate) fn will_adopt(&self, system: u64, from: &Elsewhere) -> Result<(), KeepError> {
        let text = serde_json::to_vec(&Adopt { system, from: from.clone() }).unwrap_or_default();
        let path = self.settings().home.join("adopt.json");
        write(&path, &text).map_err(|source| KeepError::File { path, source })
    }
}

impl Inner {
    /// Fetches the repository that the server was restored from; `false`: it was not, as far as is known here.
    pub(super) fn adopt(&self, system: u64) -> Result<bool, KeepError> {
        let home = &self.settings.home;
        let read = fs::read(home.join("adopt.json")).ok();
        let Some(adopt) = read.and_then(|bytes| serde_json::from_slice::<Adopt>(&bytes).ok()) else {
            return Ok(false);
        };
        if adopt.system != system {
            return Ok(false);
        }
        let _alone = self.alone();
        self.doing(Some("fetching the repository that was restored from".to_owned()));
        let fetched = fetch(&adopt.from, &self.settings.second_name, home);
        self.doing(None);
        fetched.map(|()| true)
    }

    /// The server is the one that is kept here: what was remembered for it is not needed.
    pub(super) fn adopted(&self, system: u64) {
        let path = self.settings.home.join("adopt.json");
        let read = fs::read(&path).ok();
        if read
            .and_then(|bytes| serde_json::from_slice::<Adopt>(&bytes).ok())
            .is_some_and(|one| one.system == system)
        {
            let _ = fs::remove_file(path);
        }
    }
}

/// Brings a repository, which is at `name` within a place or at the place itself, into a folder of `home` from which
/// [`settle`] puts it in place.
///
/// # Errors
/// It cannot be opened, or not be read as a whole.
pub(crate) fn fetch(from: &Elsewhere, name: &str, home: &Path) -> Result<(), KeepError> {
    let folder = &*home.join("adopted");
    let failed = |source| KeepError::File { path: folder.to_owned(), source };
    fs::create_dir_all(folder).map_err(failed)?;
    let other = Other::open(from, name, home)?;
    let storage = Arc::new(Folder::new(&folder.join("repository")));
    let mut mirror = Mirror::open(&other.repository, storage.clone(), EXTRAS)?;
    loop {
        let turned = mirror.turn(&mut Gone::default(), Timestamp::now(), None, &mut |_, _| {})?;
        if !turned.is_late {
            break;
        }
    }
    let own = password(&folder.join("repository.key")).map_err(failed)?;
    let repository = Repository::open(storage.clone(), from.password.expose().trim())?;
    if Repository::open(storage, &own).is_err() {
        repository.add_key(&own, "klar").map_err(|error| KeepError::Open(error.into()))?;
    }
    let text = serde_json::to_vec(&other.trusted).unwrap_or_default();
    write(&folder.join("trusted.json"), &text).map_err(failed)?;
    write(&folder.join("ready"), b"").map_err(failed)
}

/// Puts what was fetched in place of what was there.
pub(crate) fn settle(home: &Path) -> io::Result<()> {
    let adopted = home.join("adopted");
    if !adopted.join("ready").exists() {
        return Ok(());
    }
    // The same folder again, where a kill came between.
    let before = fs::read_to_string(home.join("before")).map(PathBuf::from).or_else(|_| {
        let before = home.join(format!("before-{}", Timestamp::now().strftime("%Y%m%dT%H%M%SZ")));
        fs::create_dir_all(&before)?;
        write(&home.join("before"), before.to_string_lossy().as_bytes())?;
        Ok::<_, io::Error>(before)
    })?;
    for part in PARTS {
        let (own, new, old) = (home.join(part), adopted.join(part), before.join(part));
        // Once it is aside, what lies there is what was fetched.
        if own.exists() && !old.exists() && (new.exists() || part == "spool") {
            fs::rename(&own, &old)?;
        }
        if new.exists() {
            fs::rename(&new, &own)?;
        }
    }
    fs::File::open(home)?.sync_all()?;
    for done in ["before", "adopt.json", "offsite.json", "adopted/ready"] {
        match fs::remove_file(home.join(done)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    fs::remove_dir_all(adopted)
}

/// Whose signatures count besides its own.
pub(crate) fn trusted(home: &Path) -> Result<Vec<KeyId>, KeepError> {
    let path = home.join("trusted.json");
    match fs::read(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(source) => Err(KeepError::File { path, source }),
        Ok(bytes) => serde_json::from_slice(&bytes)
            .map_err(|error| KeepError::File { path, source: io::Error::other(error) }),
    }
}

fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let new = path.with_extension("new");
    let mut file = fs::File::options().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&new, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A kill after any of its steps: the next start goes on, and nothing is lost.
    #[test]
    fn what_was_fetched_takes_the_place_whenever_it_is_killed() {
        let scratch = std::env::temp_dir().join(format!("klar-keep-settle-{}", std::process::id()));
        let content = |path: PathBuf| fs::read_to_string(path).unwrap_or_default();
        // Which of the parts were moved when it was killed: aside, or in place.
        for killed in 0..=PARTS.len() * 2 {
            let _ = fs::remove_dir_all(&scratch);
            let (home, adopted) = (scratch.join("home"), scratch.join("home/adopted"));
            fs::create_dir_all(&adopted).unwrap();
            for part in PARTS {
                fs::write(home.join(part), "old").unwrap();
                if part != "spool" {
                    fs::write(adopted.join(part), "new").unwrap();
                }
            }
            fs::write(adopted.join("ready"), "").unwrap();
            let before = home.join("before-1");
            fs::create_dir_all(&before).unwrap();
            fs::write(home.join("before"), before.to_str().unwrap()).unwrap();
            for step in 0..killed {
                let part = PARTS[step / 2];
                match step % 2 {
                    0 => fs::rename(home.join(part), before.join(part)).unwrap(),
                    _ => drop(fs::rename(adopted.join(part), home.join(part))),
                }
            }
            settle(&home).unwrap();
            for part in PARTS {
                let wanted = if part == "spool" { "" } else { "new" };
                assert_eq!(content(home.join(part)), wanted, "{part} after {killed} steps");
                assert_eq!(content(before.join(part)), "old", "{part} after {killed} steps");
            }
            assert!(!adopted.exists() && !home.join("before").exists());
            settle(&home).unwrap();
        }
        fs::remove_dir_all(&scratch).unwrap();
    }
}
