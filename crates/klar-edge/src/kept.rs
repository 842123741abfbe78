//! Small files of a release, in memory: a request for one asks the kernel nothing.
//!
//! A release never changes, so what was read once is good for as long as its folder is served. There is one of these
//! for each folder of a configuration; the next configuration begins with an empty one.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use http::HeaderValue;

/// Larger files are read from disk each time, in bytes.
pub const FILE_MAX: u64 = 256 << 10;
/// Memory for the files of all folders, in bytes.
const ALL_MAX: usize = 64 << 20;
/// What a file costs beside its content, roughly, in bytes.
const OVERHEAD: usize = 512;

/// What is kept of all folders, in bytes.
static USED: AtomicUsize = AtomicUsize::new(0);

/// A file and the compressed copies beside it.
#[derive(Debug)]
pub struct KeptFile {
    pub plain: Kept,
    /// In the order in which they are looked for.
    pub copies: [Option<Kept>; 3],
    /// What a page needs at once (`Link`).
    pub link: Option<HeaderValue>,
}

/// The content of a file.
#[derive(Debug, Clone)]
pub struct Kept {
    pub content: Bytes,
    /// Its entity tag.
    pub tag: HeaderValue,
}

/// See the [module](self).
#[derive(Debug, Default)]
pub struct Shelf(Mutex<Files>);

#[derive(Debug, Default)]
struct Files {
    by_path: HashMap<String, Arc<KeptFile>>,
    bytes: usize,
}

impl KeptFile {
    fn len(&self) -> usize {
        let copies = self.copies.iter().flatten().map(|copy| copy.content.len()).sum::<usize>();
        self.plain.content.len() + copies + OVERHEAD
    }
}

impl Shelf {
    /// The file at a path, if it is kept.
    pub fn get(&self, path: &str) -> Option<Arc<KeptFile>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).by_path.get(path).cloned()
    }

    /// Keeps a file, if there is room; when there is none, the others of this folder go first.
    pub fn put(&self, path: &str, file: KeptFile) -> Arc<KeptFile> {
        self.put_within(ALL_MAX, path, file)
    }

    fn put_within(&self, max: usize, path: &str, file: KeptFile) -> Arc<KeptFile> {
        let len = file.len() + path.len();
        let file = Arc::new(file);
        let mut files = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if files.by_path.contains_key(path) {
            // Somebody else was faster, with the same.
            return file;
        }
        if USED.load(Ordering::Relaxed) + len > max {
            files.clear();
        }
        if USED.fetch_add(len, Ordering::Relaxed) + len > max {
            USED.fetch_sub(len, Ordering::Relaxed);
            return file;
        }
        files.bytes += len;
        files.by_path.insert(path.to_owned(), file.clone());
        file
    }
}

impl Files {
    fn clear(&mut self) {
        USED.fetch_sub(self.bytes, Ordering::Relaxed);
        self.bytes = 0;
        self.by_path.clear();
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        self.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(len: usize) -> KeptFile {
        let kept = |len| Kept { content: vec![0; len].into(), tag: HeaderValue::from_static("\"a\"") };
        KeptFile { plain: kept(len), copies: [None, Some(kept(len)), None], link: None }
    }

    /// One test, as all of them share one count.
    #[test]
    fn memory_is_bounded_and_given_back() {
        let before = USED.load(Ordering::Relaxed);
        let max = before + 10_000;
        let (one, other) = (Shelf::default(), Shelf::default());
        for number in 0..3 {
            one.put_within(max, &number.to_string(), file(1000));
        }
        assert!((0..3).all(|number| one.get(&number.to_string()).is_some()));
        one.put_within(max, "2", file(1000));
        assert_eq!(USED.load(Ordering::Relaxed) - before, 3 * (2000 + OVERHEAD + 1), "nothing counts twice");
        // There is no room for both.
        assert_eq!(
            other.put_within(max, "a", file(2000)).plain.content.len(),
            2000,
            "it can be sent all the same"
        );
        assert!(other.get("a").is_none() && one.get("0").is_some());
        one.put_within(max, "large", file(2000));
        assert!(one.get("large").is_some() && one.get("0").is_none(), "the others made room");
        drop(one);
        assert_eq!(USED.load(Ordering::Relaxed), before);
    }
}
