//! Requests that the firewall stopped, as files of their app: what they say is taken apart by the edge alone.

use std::fs;
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use klar_base::AppKey;
use klar_base::replay::StoppedRequest;

use crate::layout::Layout;

/// So many of an app are kept, and so many bytes of them: the newest.
const COUNT_MAX: usize = 500;
const BYTES_MAX: u64 = 32 << 20;
/// A request's name has at most so many letters.
const NAME_MAX: usize = 64;

/// Writes them down, and removes the oldest beyond what is kept. Whoever is killed meanwhile leaves all or nothing of a
/// request.
///
/// # Errors
/// Names the file.
pub fn keep(layout: &Layout, requests: &[StoppedRequest]) -> io::Result<()> {
    let mut folders: Vec<PathBuf> = Vec::new();
    for request in requests {
        let folder = layout.stopped(&request.app);
        let Some(path) = path(&folder, &request.request_id) else { continue };
        // An app that was removed has no folder, and gets none.
        if layout.app(&request.app).is_dir() {
            let named =
                |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", path.display()));
            write(&folder, &path, request).map_err(named)?;
            if !folders.contains(&folder) {
                folders.push(folder);
            }
        }
    }
    folders.iter().try_for_each(|folder| tidy(folder))
}

/// One that was kept.
///
/// # Errors
/// Names the file, when there is one that cannot be read.
pub fn read(layout: &Layout, app: &AppKey, request_id: &str) -> io::Result<Option<StoppedRequest>> {
    match path(&layout.stopped(app), request_id) {
        Some(path) => crate::durable::read_json(&path),
        None => Ok(None),
    }
}

/// Where a request is kept; `None` if that is no name of one.
fn path(folder: &Path, request_id: &str) -> Option<PathBuf> {
    let is_plain = |byte: u8| byte.is_ascii_hexdigit() || byte == b'-';
    let is_name = !request_id.is_empty() && request_id.len() <= NAME_MAX && request_id.bytes().all(is_plain);
    is_name.then(|| folder.join(format!("{request_id}.json")))
}

fn write(folder: &Path, path: &Path, request: &StoppedRequest) -> io::Result<()> {
    match fs::DirBuilder::new().mode(0o700).create(folder) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    let new = path.with_extension("new");
    let mut file = fs::File::options().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
    // Without waiting for the disk: after a power cut a request is less worth than a flood is dear.
    file.write_all(&serde_json::to_vec(request)?)?;
    fs::rename(&new, path)
}

/// Removes the oldest. Their names begin with the time.
fn tidy(folder: &Path) -> io::Result<()> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        // Somebody else may remove it at the same time.
        files.extend(entry.metadata().ok().map(|about| (entry.file_name(), about.len(), entry.path())));
    }
    files.sort();
    let (mut count, mut bytes) = (0, 0);
    for (_, length, path) in files.iter().rev() {
        (count, bytes) = (count + 1, bytes + length);
        if count > COUNT_MAX || bytes > BYTES_MAX {
            // As above.
            let _ = fs::remove_file(path);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use klar_base::replay::Sent;

    use super::*;

    fn request(id: &str, body: usize) -> StoppedRequest {
        StoppedRequest {
            request_id: id.into(),
            app: "shop.prod".parse().unwrap(),
            sent: Sent {
                method: "POST".into(),
                target: "/".into(),
                protocol: "HTTP/2".into(),
                remote: "::1".into(),
                headers: vec![],
                body: "x".repeat(body),
                is_cut: false,
                is_masked: false,
            },
        }
    }

    /// A state folder of a test.
    struct State(Layout);

    impl State {
        fn new(name: &str) -> Self {
            Self(Layout::new(std::env::temp_dir().join(format!("klar-{name}-{}", std::process::id()))))
        }
    }

    impl Drop for State {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(self.0.root());
        }
    }

    #[test]
    fn the_newest_are_kept() {
        let state = State::new("stopped");
        let layout = &state.0;
        let app = "shop.prod".parse().unwrap();
        let first = request("0000", 10);
        keep(layout, std::slice::from_ref(&first)).unwrap();
        assert_eq!(read(layout, &app, "0000").unwrap(), None, "there is no such app");
        fs::create_dir_all(layout.app(&app)).unwrap();
        keep(layout, std::slice::from_ref(&first)).unwrap();
        assert_eq!(read(layout, &app, "0000").unwrap(), Some(first));
        let more: Vec<_> = (1..=COUNT_MAX).map(|number| request(&format!("{number:04x}"), 10)).collect();
        keep(layout, &more).unwrap();
        assert_eq!(read(layout, &app, "0000").unwrap(), None, "the oldest");
        assert_eq!(fs::read_dir(layout.stopped(&app)).unwrap().count(), COUNT_MAX);
        keep(layout, &[request("ffff", BYTES_MAX as usize / 2), request("fffe", BYTES_MAX as usize / 2)])
            .unwrap();
        assert_eq!(fs::read_dir(layout.stopped(&app)).unwrap().count(), 1, "the newest alone has room");
    }

    #[test]
    fn a_name_is_no_path() {
        let state = State::new("stopped-names");
        let layout = &state.0;
        let app = "shop.prod".parse().unwrap();
        fs::create_dir_all(layout.app(&app)).unwrap();
        for name in ["", "../../evil", "a/b", "/etc/passwd", &"a".repeat(65)] {
            keep(layout, &[request(name, 1)]).unwrap();
            assert_eq!(read(layout, &app, name).unwrap(), None);
        }
        assert!(!layout.stopped(&app).exists());
    }
}
