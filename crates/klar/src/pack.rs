//! The app's folder as a tar stream: what a release is made of.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;

use bytes::{Bytes, BytesMut};
use klar_api::client::Archive;
use klar_config::{Config, FILE_NAME, RelativePath};
use tokio::sync::mpsc;

/// Pieces of this size travel to the core.
const PIECE: usize = 64 * 1024;
/// So many of them may wait for it.
const WAITING: usize = 16;
/// More files than this are taken for a mistake.
const FILES_MAX: u64 = 500_000;

/// What was packed.
#[derive(Debug, Clone, Copy, Default)]
pub struct Packed {
    /// Files and links.
    pub files: u64,
    /// Their content, in bytes.
    pub bytes: u64,
}

/// Packs `folder` in a thread of its own, without what `config` leaves out, and without klar's own `state`.
pub fn pack(folder: PathBuf, config: &Config, state: &Path) -> (Archive, JoinHandle<io::Result<Packed>>) {
    let (pieces, archive) = mpsc::channel(WAITING);
    let left_out = LeftOut { patterns: config.left_out(), state: state.canonicalize().unwrap_or_default() };
    let thread = std::thread::spawn(move || {
        let mut out = Pieces { pieces: pieces.clone(), buffer: BytesMut::with_capacity(PIECE) };
        let packed = write(&folder, &left_out, &mut out).and_then(|packed| out.flush().map(|()| packed));
        if let Err(error) = &packed {
            // The core must not take half an archive for a whole one; when it is gone it needs no telling.
            let _ = pieces.blocking_send(Err(io::Error::new(error.kind(), error.to_string())));
        }
        packed
    });
    (archive, thread)
}

fn write(folder: &Path, left_out: &LeftOut, out: &mut impl Write) -> io::Result<Packed> {
    let mut tar = tar::Builder::new(out);
    tar.follow_symlinks(false);
    let mut packed = Packed::default();
    // klar.toml comes first, so that a mistake in it is found before the rest has travelled.
    add_file(&folder.join(FILE_NAME), Path::new(FILE_NAME), &mut tar)?;
    add(folder, Path::new(""), left_out, &mut tar, &mut packed)?;
    tar.finish()?;
    Ok(packed)
}

fn add<W: Write>(
    folder: &Path,
    below: &Path,
    left_out: &LeftOut,
    tar: &mut tar::Builder<W>,
    packed: &mut Packed,
) -> io::Result<()> {
    let here = folder.join(below);
    let named =
        |path: &Path, error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", path.display()));
    let mut names: Vec<_> = std::fs::read_dir(&here)
        .and_then(|entries| {
            entries.map(|entry| entry.map(|entry| entry.file_name())).collect::<io::Result<_>>()
        })
        .map_err(|error| named(&here, error))?;
    names.sort();
    for name in names {
        let path = below.join(&name);
        let full = folder.join(&path);
        if left_out.has(&path, &full) || path == Path::new(FILE_NAME) {
            continue;
        }
        let kind = full.symlink_metadata().map_err(|error| named(&full, error))?;
        if kind.is_dir() {
            tar.append_path_with_name(&full, &path).map_err(|error| named(&full, error))?;
            add(folder, &path, left_out, tar, packed)?;
        } else if kind.is_file() || kind.is_symlink() {
            packed.files += 1;
            packed.bytes += kind.len();
            if packed.files > FILES_MAX {
                return Err(io::Error::other(format!(
                    "more than {FILES_MAX} files: is {} the folder of an app? `[app] ignore` leaves folders out",
                    folder.display()
                )));
            }
            let added = if kind.is_file() {
                add_file(&full, &path, tar)
            } else {
                tar.append_path_with_name(&full, &path)
            };
            added.map_err(|error| named(&full, error))?;
        }
        // Sockets, pipes and devices are nothing that could be shipped.
    }
    Ok(())
}

/// A file may grow or shrink while it is read; what follows it in the archive must stay where its header says.
fn add_file<W: Write>(full: &Path, path: &Path, tar: &mut tar::Builder<W>) -> io::Result<()> {
    let file = File::open(full)?;
    let known = file.metadata()?;
    let mut header = tar::Header::new_gnu();
    header.set_metadata(&known);
    let length = known.len();
    tar.append_data(&mut header, path, file.take(length).chain(Refuse).take(length))
}

/// Stands behind a file that was said to be longer.
struct Refuse;

impl Read for Refuse {
    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        Err(io::Error::other(
            "it became shorter while it was read; try again, or leave it out with `[app] ignore`",
        ))
    }
}

struct LeftOut {
    patterns: Vec<RelativePath>,
    /// klar's own folder, which holds keys; empty when there is none yet.
    state: PathBuf,
}

impl LeftOut {
    /// A bare name is left out wherever it occurs, a path with `/` as seen from `klar.toml`.
    fn has(&self, path: &Path, full: &Path) -> bool {
        let by_name = self.patterns.iter().map(RelativePath::as_path).any(|pattern| {
            if pattern.components().count() == 1 {
                path.file_name() == pattern.file_name()
            } else {
                path == pattern
            }
        });
        by_name || full.canonicalize().is_ok_and(|full| full == self.state)
    }
}

struct Pieces {
    pieces: mpsc::Sender<io::Result<Bytes>>,
    buffer: BytesMut,
}

impl Write for Pieces {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.buffer.extend_from_slice(bytes);
        if self.buffer.len() >= PIECE {
            self.flush()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let piece = self.buffer.split().freeze();
        self.pieces.blocking_send(Ok(piece)).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    #[test]
    fn what_is_left_out_stays_out() {
        let folder = std::env::temp_dir().join(format!("klar-pack-{}", std::process::id()));
        for path in [
            "klar.toml",
            "server.js",
            "src/a.js",
            "node_modules/x/index.js",
            "docs/a.md",
            "src/docs/b.md",
            ".git/config",
        ] {
            let path = folder.join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "x").unwrap();
        }
        let text = "[app]\nname = \"a\"\nignore = [\"src/docs\", \"node_modules\"]\n[services.web]\nrun = \"node server.js\"\n";
        std::fs::write(folder.join("klar.toml"), text).unwrap();
        let loaded = Config::load(&folder, &"prod".parse().unwrap()).unwrap();
        let (mut archive, thread) = pack(folder.clone(), &loaded.config, &folder.join("state"));
        let mut bytes = Vec::new();
        while let Some(piece) = archive.blocking_recv() {
            bytes.extend_from_slice(&piece.unwrap());
        }
        let packed = thread.join().unwrap().unwrap();
        let mut tar = tar::Archive::new(&bytes[..]);
        let mut names = Vec::new();
        for entry in tar.entries().unwrap() {
            let mut entry = entry.unwrap();
            let mut content = String::new();
            entry.read_to_string(&mut content).unwrap();
            names.push(entry.path().unwrap().display().to_string());
        }
        assert_eq!(names, ["klar.toml", "docs", "docs/a.md", "server.js", "src", "src/a.js"]);
        assert_eq!(packed.files, 3);
        std::fs::remove_dir_all(folder).unwrap();
    }
}
