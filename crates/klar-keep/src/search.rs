//! Looking for a text in files as they lie on the disk: what is sealed does not have it.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::keeper::KeepError;

/// So many places are told.
const FOUND_MAX: usize = 5;
const STRETCH: usize = 1 << 20;

/// What was found.
#[derive(Debug, Default)]
pub(crate) struct Search {
    /// Files that were read.
    pub files: u64,
    /// Bytes of them.
    pub bytes: u64,
    /// By the number of the text: files that have it.
    pub found: BTreeMap<usize, Vec<String>>,
}

impl Search {
    /// Looks through all files beneath a folder. What vanishes meanwhile is passed over.
    pub fn folder(&mut self, folder: &Path, texts: &[&[u8]]) -> Result<(), KeepError> {
        let failed = |source| KeepError::File { path: folder.to_owned(), source };
        for entry in fs::read_dir(folder).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let Ok(metadata) = entry.metadata() else { continue };
            if metadata.is_dir() {
                self.folder(&entry.path(), texts)?;
            } else if metadata.is_file() {
                self.file(&entry.path(), texts)?;
            }
        }
        Ok(())
    }

    fn file(&mut self, path: &Path, texts: &[&[u8]]) -> Result<(), KeepError> {
        let failed = |source| KeepError::File { path: path.to_owned(), source };
        let mut file = match File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(failed(error)),
        };
        let longest = texts.iter().map(|text| text.len()).max().unwrap_or(1);
        let mut window = Vec::with_capacity(STRETCH + longest);
        let mut has = vec![false; texts.len()];
        loop {
            let read = file.by_ref().take(STRETCH as u64).read_to_end(&mut window).map_err(failed)?;
            if read == 0 {
                break;
            }
            self.bytes += read as u64;
            for (has, text) in has.iter_mut().zip(texts) {
                *has = *has || (!text.is_empty() && memchr::memmem::find(&window, text).is_some());
            }
            // What lies across two stretches is seen in the next.
            window.drain(..window.len().saturating_sub(longest));
        }
        self.files += 1;
        for (number, _) in has.iter().enumerate().filter(|(_, has)| **has) {
            let found = self.found.entry(number).or_default();
            if found.len() < FOUND_MAX {
                found.push(path.display().to_string());
            }
        }
        Ok(())
    }
}

/// Whether a folder lies on a volume that the kernel encrypts (dm-crypt, as LUKS makes them), or beneath one.
pub(crate) fn is_encrypted(folder: &Path) -> bool {
    let Ok(metadata) = fs::metadata(folder) else { return false };
    let (major, minor) = (nix::sys::stat::major(metadata.dev()), nix::sys::stat::minor(metadata.dev()));
    is_crypt(Path::new(&format!("/sys/dev/block/{major}:{minor}")), 0)
}

fn is_crypt(device: &Path, depth: u8) -> bool {
    let uuid = fs::read_to_string(device.join("dm/uuid")).unwrap_or_default();
    if uuid.starts_with("CRYPT-") {
        return true;
    }
    let beneath: Vec<_> = fs::read_dir(device.join("slaves")).into_iter().flatten().flatten().collect();
    depth < 8 && !beneath.is_empty() && beneath.iter().all(|entry| is_crypt(&entry.path(), depth + 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_found_wherever_it_lies() {
        let folder = std::env::temp_dir().join(format!("klar-search-{}", std::process::id()));
        fs::create_dir_all(folder.join("below")).unwrap();
        let text = b"a text that is nowhere by chance";
        for at in [0, STRETCH - 7, STRETCH, 3 * STRETCH + 5] {
            let bytes = [&vec![b'x'; at][..], text, b"y"].concat();
            fs::write(folder.join("below/file"), &bytes).unwrap();
            let mut search = Search::default();
            search.folder(&folder, &[text, b"another text"]).unwrap();
            assert_eq!((search.files, search.bytes), (1, bytes.len() as u64));
            assert_eq!(search.found.len(), 1, "{at}");
            assert!(search.found[&0][0].ends_with("below/file"));
        }
        fs::remove_dir_all(folder).unwrap();
    }
}
