//! All that is beneath a folder, in an order that is the same wherever it lies, and a digest over it.

use std::ffi::OsStr;
use std::fs::{self, File, Metadata};
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use ring::digest::{Context, SHA256};

/// Folders in folders.
const DEPTH_MAX: usize = 200;

/// Calls `each` with everything beneath `root`, by its path from there: a folder before what is in it, names in the order of
/// their bytes. Links are not followed.
///
/// # Errors
/// What cannot be listed; what `each` says.
pub fn walk(root: &Path, each: &mut dyn FnMut(&Path, &Path, &Metadata) -> io::Result<()>) -> io::Result<()> {
    beneath(root, Path::new(""), 0, each)
}

fn beneath(
    root: &Path,
    at: &Path,
    depth: usize,
    each: &mut dyn FnMut(&Path, &Path, &Metadata) -> io::Result<()>,
) -> io::Result<()> {
    let whole = root.join(at);
    if depth > DEPTH_MAX {
        return Err(io::Error::other(format!(
            "{}: more than {DEPTH_MAX} folders in folders",
            whole.display()
        )));
    }
    let named = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", whole.display()));
    let mut names = Vec::new();
    for entry in fs::read_dir(&whole).map_err(named)? {
        names.push(entry.map_err(named)?.file_name());
    }
    names.sort_by(|a, b| a.as_bytes().cmp(b.as_bytes()));
    for name in names {
        let (path, there) = (at.join(&name), whole.join(&name));
        let metadata = match fs::symlink_metadata(&there) {
            // It went meanwhile.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            metadata => metadata.map_err(named)?,
        };
        each(&path, &there, &metadata)?;
        if metadata.is_dir() {
            beneath(root, &path, depth + 1, each)?;
        }
    }
    Ok(())
}

/// A digest over files: their paths, kinds, permissions and contents, in the order in which they come.
pub struct Digest(Context);

impl Default for Digest {
    fn default() -> Self {
        Self(Context::new(&SHA256))
    }
}

impl Digest {
    fn entry(&mut self, kind: u8, path: &Path, mode: u32, content: &[u8]) {
        let path = path.as_os_str().as_bytes();
        self.0.update(&[kind]);
        self.0.update(&(path.len() as u64).to_be_bytes());
        self.0.update(path);
        self.0.update(&(mode & 0o7777).to_be_bytes());
        self.0.update(&(content.len() as u64).to_be_bytes());
        self.0.update(content);
    }

    /// A folder.
    pub fn folder(&mut self, path: &Path, mode: u32) {
        self.entry(b'd', path, mode, &[]);
    }

    /// A link.
    pub fn link(&mut self, path: &Path, target: &OsStr) {
        self.entry(b'l', path, 0, target.as_bytes());
    }

    /// A file, by the digest of its content.
    pub fn file(&mut self, path: &Path, mode: u32, content: &ring::digest::Digest) {
        self.entry(b'f', path, mode, content.as_ref());
    }

    /// In hexadecimal digits.
    #[must_use]
    pub fn finish(self) -> String {
        self.0.finish().as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

/// The digest over what is there, how many files, and their bytes.
///
/// # Errors
/// What cannot be read.
pub fn digest(root: &Path) -> io::Result<(String, u64, u64)> {
    let (mut digest, mut files, mut bytes) = (Digest::default(), 0, 0);
    walk(root, &mut |path, there, metadata| {
        if metadata.is_dir() {
            digest.folder(path, metadata.mode());
        } else if metadata.is_symlink() {
            digest.link(path, fs::read_link(there)?.as_os_str());
        } else {
            let (content, length) = content(&mut File::open(there)?)?;
            digest.file(path, metadata.mode(), &content);
            files += 1;
            bytes += length;
        }
        Ok(())
    })?;
    Ok((digest.finish(), files, bytes))
}

fn content(file: &mut dyn Read) -> io::Result<(ring::digest::Digest, u64)> {
    let mut summed = Summed::new(file);
    io::copy(&mut summed, &mut io::sink())?;
    Ok((summed.context.finish(), summed.bytes))
}

/// Sums up what is read through it.
pub struct Summed<R> {
    inner: R,
    /// Over what was read by now.
    pub context: Context,
    /// How much that was.
    pub bytes: u64,
}

impl<R: Read> Summed<R> {
    /// Nothing was read yet.
    pub fn new(inner: R) -> Self {
        Self { inner, context: Context::new(&SHA256), bytes: 0 }
    }
}

impl<R: Read> Read for Summed<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(into)?;
        self.context.update(&into[..read]);
        self.bytes += read as u64;
        Ok(read)
    }
}

/// For messages: what cannot be shown is replaced, and what is long is cut.
pub fn shown(path: &Path) -> String {
    let letters = path.to_string_lossy();
    letters.chars().take(300).map(|letter| if letter.is_control() { '�' } else { letter }).collect()
}
