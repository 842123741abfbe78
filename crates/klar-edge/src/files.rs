//! Static files, straight from the folder of a release.
//!
//! A path is opened beneath the folder by the kernel's own rule (`openat2`, `RESOLVE_BENEATH`), so there is no way
//! out of it, not by a symlink either. The content of a release never changes, so what is known of a file once is
//! known for good, and what is small stays in memory.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::sync::{LazyLock, Mutex, PoisonError};

use http::header::{self, HeaderMap, HeaderValue};
use http::{Method, Request, Response, StatusCode};
use klar_base::ReleaseId;
use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat2};
use sha2::{Digest, Sha256};

use crate::answer::{Answer, Content, FileBody, Source};
use crate::compress::quality;
use crate::kept::{self, Kept, KeptFile, Shelf};
use crate::page::Reason;

/// A folder that is served.
#[derive(Debug)]
pub struct Folder<'a> {
    pub folder: &'a OwnedFd,
    /// What was made of its files when they were released: `plain/PATH` in place of a file, compressed copies as
    /// `CODING/PATH`, the `Link` header of a page as `link/PATH`.
    pub prepared: Option<&'a OwnedFd>,
    pub release: &'a ReleaseId,
    /// Unknown paths that look like pages get `/index.html`.
    pub spa: bool,
    /// What of the path leads to the folder.
    pub below: &'a str,
    /// What of it is in memory.
    pub shelf: &'a Shelf,
}

const NOT_FOUND: Reason = Reason::new(StatusCode::NOT_FOUND, "there is no such file");
const METHOD: Reason = Reason::method("a file can only be read: GET or HEAD", "GET, HEAD");

/// Files up to this size, in bytes, are hashed for their `ETag`; larger ones go by their release.
const HASHED_MAX: u64 = 1 << 20;
/// The longest `Link` header, in bytes.
const LINK_MAX: u64 = 4096;
/// So many entity tags are remembered.
const TAGS_MAX: usize = 10_000;

/// Compressed copies of a file, the best first: what their folder is called that is made at a release, and what their
/// name ends in where the app brings them.
const ENCODINGS: [(&str, &str); 3] = [("br", ".br"), ("zstd", ".zst"), ("gzip", ".gz")];

struct Found {
    content: Content,
    /// `None`: it has to be worked out.
    tag: Option<HeaderValue>,
    path: String,
    length: u64,
    encoding: Option<&'static str>,
    /// There are copies, so the answer depends on what the visitor understands.
    varies: bool,
    /// What a page needs at once (RFC 8288).
    link: Option<HeaderValue>,
}

impl Found {
    /// What is kept at a path, in the coding that the visitor likes best of those that are there.
    fn on_shelf(path: &str, file: &KeptFile, headers: &HeaderMap) -> Self {
        let copies = || {
            ENCODINGS.iter().zip(&file.copies).filter_map(|((name, _), copy)| Some((*name, copy.as_ref()?)))
        };
        let best = copies().find(|(name, _)| understands(headers, name));
        let kept = best.map_or(&file.plain, |(_, copy)| copy);
        Self {
            content: Content::Memory(kept.content.clone()),
            tag: Some(kept.tag.clone()),
            path: path.into(),
            length: kept.content.len() as u64,
            encoding: best.map(|(name, _)| name),
            varies: copies().next().is_some(),
            link: file.link.clone(),
        }
    }
}

fn understands(headers: &HeaderMap, encoding: &str) -> bool {
    quality(headers, encoding).is_some_and(|quality| quality > 0)
}

impl Folder<'_> {
    /// Answers a request for a file.
    ///
    /// # Errors
    /// What to say instead.
    pub fn answer<T>(&self, request: &Request<T>) -> Result<Answer, Reason> {
        if request.method() != Method::GET && request.method() != Method::HEAD {
            return Err(METHOD);
        }
        let asked = request.uri().path();
        let below = asked.strip_prefix(self.below).unwrap_or(asked);
        let path = decode(below).ok_or(NOT_FOUND)?;
        let path = path.trim_start_matches('/');
        // `.git`, `.env` and their like are never for visitors.
        if path.split('/').any(|part| part.starts_with('.') && part != ".well-known") {
            return Err(NOT_FOUND);
        }
        let wanted =
            if path.is_empty() || path.ends_with('/') { format!("{path}index.html") } else { path.into() };
        let headers = request.headers();
        match self.find(&wanted, headers) {
            Ok(Some(found)) => self.send(found, request),
            Ok(None)
                if self.find(&format!("{wanted}/index.html"), headers).is_ok_and(|found| found.is_some()) =>
            {
                Ok(to_folder(asked, request.uri().query()))
            }
            Ok(None) if self.spa && is_page(&wanted, headers) => match self.find("index.html", headers) {
                Ok(Some(found)) => self.send(found, request),
                _ => Err(NOT_FOUND),
            },
            _ => Err(NOT_FOUND),
        }
    }

    fn open(&self, path: &str) -> io::Result<Option<(File, u64)>> {
        open_below(self.folder, path)
    }

    /// Opens what was made of a file, if something of this kind was.
    fn open_made(&self, kind: &str, path: &str) -> io::Result<Option<(File, u64)>> {
        self.prepared.map_or(Ok(None), |prepared| open_below(prepared, &format!("{kind}/{path}")))
    }

    fn find(&self, path: &str, headers: &HeaderMap) -> io::Result<Option<Found>> {
        if let Some(kept) = self.shelf.get(path) {
            return Ok(Some(Found::on_shelf(path, &kept, headers)));
        }
        let made = self.open_made("plain", path)?;
        let is_own = made.is_none();
        let Some(plain) = made.map_or_else(|| self.open(path), |made| Ok(Some(made)))? else {
            return Ok(None);
        };
        let mut copies = [None, None, None];
        for (copy, (name, suffix)) in copies.iter_mut().zip(ENCODINGS) {
            *copy = match self.open_made(name, path)? {
                None if is_own => self.open(&format!("{path}{suffix}"))?,
                made => made,
            };
        }
        let link = self.link(path);
        // Slashes can be doubled at will, and each time it would be kept anew.
        let may_keep = !path.contains("//");
        if let Some(file) = may_keep.then(|| read(&plain, &copies, &link)).flatten() {
            let kept = self.shelf.put(path, file);
            return Ok(Some(Found::on_shelf(path, &kept, headers)));
        }
        let varies = copies.iter().any(Option::is_some);
        let mut chosen = (plain, None);
        for (copy, (encoding, _)) in copies.into_iter().zip(ENCODINGS) {
            if let Some(copy) = copy.filter(|_| chosen.1.is_none() && understands(headers, encoding)) {
                chosen = (copy, Some(encoding));
            }
        }
        let ((file, length), encoding) = chosen;
        Ok(Some(Found {
            content: Content::Disk(file),
            tag: None,
            path: path.into(),
            length,
            encoding,
            varies,
            link,
        }))
    }

    /// The `Link` header of a page, where the release found something to say in it.
    fn link(&self, path: &str) -> Option<HeaderValue> {
        if !(path.ends_with(".html") || path.ends_with(".htm")) {
            return None;
        }
        // One that cannot be read is a hint less.
        let (file, length) = self.open_made("link", path).ok()??;
        let mut text = Vec::new();
        file.take(length.min(LINK_MAX)).read_to_end(&mut text).ok()?;
        HeaderValue::from_bytes(&text).ok()
    }

    fn tag(&self, found: &Found) -> io::Result<HeaderValue> {
        static TAGS: LazyLock<Mutex<HashMap<(u64, u64), HeaderValue>>> = LazyLock::new(Mutex::default);
        let file = match (&found.tag, &found.content) {
            (Some(tag), _) => return Ok(tag.clone()),
            (None, Content::Memory(content)) => return tag_of(content),
            (None, Content::Disk(file)) => file,
        };
        if found.length > HASHED_MAX {
            let coding = found.encoding.unwrap_or_default();
            let tag = format!("\"{}-{:x}{coding}\"", self.release, found.length);
            return HeaderValue::try_from(tag).map_err(io::Error::other);
        }
        let known = file.metadata()?;
        // A release is read-only while it exists; one that took its inode later was written at another time.
        let key = (known.ino(), known.ctime().unsigned_abs() << 30 ^ known.ctime_nsec().unsigned_abs());
        if let Some(tag) = TAGS.lock().unwrap_or_else(PoisonError::into_inner).get(&key) {
            return Ok(tag.clone());
        }
        let mut content = Vec::with_capacity(found.length as usize);
        file.take(HASHED_MAX).read_to_end(&mut content)?;
        let tag = tag_of(&content)?;
        let mut tags = TAGS.lock().unwrap_or_else(PoisonError::into_inner);
        if tags.len() >= TAGS_MAX {
            tags.clear();
        }
        tags.insert(key, tag.clone());
        Ok(tag)
    }

    fn send<T>(&self, found: Found, request: &Request<T>) -> Result<Answer, Reason> {
        const UNREADABLE: Reason = Reason::new(StatusCode::INTERNAL_SERVER_ERROR, "the file cannot be read");
        let headers = request.headers();
        let tag = self.tag(&found).map_err(|_| UNREADABLE)?;
        // A disk that fails is found out before the head is sent.
        if let Content::Disk(file) = &found.content {
            file.read_at(&mut [0; 1], 0).map_err(|_| UNREADABLE)?;
        }
        let mut answer = Response::new(Source::empty());
        let out = answer.headers_mut();
        let caching = if is_hashed(&found.path) { "public, max-age=31536000, immutable" } else { "no-cache" };
        out.insert(header::CACHE_CONTROL, HeaderValue::from_static(caching));
        out.insert(header::ETAG, tag.clone());
        if found.varies {
            out.insert(header::VARY, HeaderValue::from_static("accept-encoding"));
        }
        if matches_tag(headers, tag.as_bytes()) {
            *answer.status_mut() = StatusCode::NOT_MODIFIED;
            return Ok(answer);
        }
        out.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind(&found.path)));
        out.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
        if let Some(encoding) = found.encoding {
            out.insert(header::CONTENT_ENCODING, HeaderValue::from_static(encoding));
        }
        // RFC 9110 section 14.2: a range is for GET only.
        let same = request.method() == Method::GET
            && headers.get(header::IF_RANGE).is_none_or(|value| value.as_bytes() == tag.as_bytes());
        let range = headers.get(header::RANGE).filter(|_| same).and_then(|value| value.to_str().ok());
        let (offset, left) = match range.map_or(Range::All, |range| Range::read(range, found.length)) {
            Range::All => {
                if let Some(link) = found.link {
                    out.insert(header::LINK, link);
                }
                (0, found.length)
            }
            Range::Part(first, last) => {
                let content = format!("bytes {first}-{last}/{}", found.length);
                if let Ok(content) = HeaderValue::try_from(content) {
                    out.insert(header::CONTENT_RANGE, content);
                }
                *answer.status_mut() = StatusCode::PARTIAL_CONTENT;
                (first, last - first + 1)
            }
            Range::None => {
                if let Ok(content) = HeaderValue::try_from(format!("bytes */{}", found.length)) {
                    out.insert(header::CONTENT_RANGE, content);
                }
                *answer.status_mut() = StatusCode::RANGE_NOT_SATISFIABLE;
                return Ok(answer);
            }
        };
        answer.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from(left));
        *answer.body_mut() = Source::File(FileBody { content: found.content, offset, left });
        Ok(answer)
    }
}

/// Opens a plain file beneath a folder, and says how large it is; `None`: there is none.
fn open_below(folder: &OwnedFd, path: &str) -> io::Result<Option<(File, u64)>> {
    let how = OpenHow::new()
        .flags(OFlag::O_RDONLY | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK)
        .resolve(ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_MAGICLINKS);
    let file = match openat2(folder, path, how) {
        Ok(file) => File::from(file),
        Err(
            Errno::ENOENT
            | Errno::ENOTDIR
            | Errno::EXDEV
            | Errno::ELOOP
            | Errno::EACCES
            | Errno::ENAMETOOLONG,
        ) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let known = file.metadata()?;
    Ok(known.is_file().then_some((file, known.len())))
}

/// The folder's own address ends in a slash, or the links in its page would lead astray.
fn to_folder(path: &str, query: Option<&str>) -> Answer {
    let mut answer = Response::new(Source::empty());
    *answer.status_mut() = StatusCode::PERMANENT_REDIRECT;
    // `//host/` would be another host's address, and so would `//` alone.
    let folder = match path.trim_start_matches('/') {
        "" => "/".to_owned(),
        path => format!("/{path}/"),
    };
    let target = query.map_or_else(|| folder.clone(), |query| format!("{folder}?{query}"));
    if let Ok(target) = HeaderValue::try_from(target) {
        answer.headers_mut().insert(header::LOCATION, target);
    }
    answer
}

/// Whether a path that is no file may be a page of the app: it has no file ending, and a browser navigates.
fn is_page(path: &str, headers: &HeaderMap) -> bool {
    let last = path.rsplit('/').next().unwrap_or_default();
    let accepts = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok());
    (!last.contains('.') || last.ends_with(".html"))
        && accepts.is_none_or(|accept| accept.contains("text/html") || accept.contains("*/*"))
}

/// A path without its escapes; `None` when it is not UTF-8.
pub fn decode(path: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(path.len());
    let mut rest = path.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(if byte == b'%' {
            let digit = |byte: Option<u8>| (byte? as char).to_digit(16);
            let (high, low) = (digit(rest.next())?, digit(rest.next())?);
            u8::try_from(high * 16 + low).ok()?
        } else {
            byte
        });
    }
    String::from_utf8(bytes).ok().filter(|path| !path.contains('\0'))
}

/// Whether a name has a digest of its content in it, as bundlers write it: `app-3fa9c1d2.js`, `main.8d2f01ab.css`.
fn is_hashed(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or_default();
    let Some((stem, _)) = name.rsplit_once('.') else { return false };
    let Some(digest) = stem.rsplit(['-', '.']).next().filter(|digest| digest.len() < stem.len()) else {
        return false;
    };
    digest.len() >= 8
        && digest.chars().all(|char| char.is_ascii_alphanumeric() || char == '_')
        && digest.contains(|char: char| char.is_ascii_digit())
        && digest.contains(|char: char| char.is_ascii_alphabetic())
}

/// The name of a content: a digest of it.
fn tag_of(content: &[u8]) -> io::Result<HeaderValue> {
    let digest = Sha256::digest(content);
    let digest: String = digest[..12].iter().map(|byte| format!("{byte:02x}")).collect();
    HeaderValue::try_from(format!("\"{digest}\"")).map_err(io::Error::other)
}

/// A file and its copies as they are kept; `None`: one of them is too large for that, or cannot be read.
fn read(
    plain: &(File, u64),
    copies: &[Option<(File, u64)>; 3],
    link: &Option<HeaderValue>,
) -> Option<KeptFile> {
    let read = |(file, length): &(File, u64)| {
        if *length > kept::FILE_MAX {
            return None;
        }
        let mut content = vec![0; *length as usize];
        file.read_exact_at(&mut content, 0).ok()?;
        Some(Kept { tag: tag_of(&content).ok()?, content: content.into() })
    };
    let mut kept = KeptFile { plain: read(plain)?, copies: [None, None, None], link: link.clone() };
    for (kept, copy) in kept.copies.iter_mut().zip(copies) {
        *kept = match copy {
            Some(copy) => Some(read(copy)?),
            None => None,
        };
    }
    Some(kept)
}

fn matches_tag(headers: &HeaderMap, tag: &[u8]) -> bool {
    headers
        .get_all(header::IF_NONE_MATCH)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(|value| value.trim().trim_start_matches("W/"))
        .any(|value| value == "*" || value.as_bytes() == tag)
}

/// What a `Range` header asks for.
#[derive(Debug, PartialEq, Eq)]
pub enum Range {
    /// All of it.
    All,
    /// First and last byte.
    Part(u64, u64),
    /// There is nothing there.
    None,
}

impl Range {
    /// One range is honoured; several, or what is not understood, gets everything (RFC 9110 section 14.2).
    pub fn read(value: &str, length: u64) -> Self {
        let Some((first, last)) = value.strip_prefix("bytes=").and_then(|range| range.trim().split_once('-'))
        else {
            return Self::All;
        };
        // Digits alone: to Rust `+5` is a number as well. What is too large for one lies behind the end of every file.
        let number = |text: &str| {
            let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
            is_number.then(|| text.parse().unwrap_or(u64::MAX))
        };
        match (number(first), number(last)) {
            (Some(first), Some(last)) if first > last => Self::All,
            (Some(first), end) if first >= length && (end.is_some() || last.is_empty()) => Self::None,
            (Some(first), Some(last)) => Self::Part(first, last.min(length - 1)),
            (Some(first), None) if last.is_empty() => Self::Part(first, length - 1),
            (None, Some(suffix)) if first.is_empty() => match suffix.min(length) {
                0 => Self::None,
                count => Self::Part(length - count, length - 1),
            },
            _ => Self::All,
        }
    }
}

/// The media type of a file by its ending.
fn kind(path: &str) -> &'static str {
    let ending = path.rsplit_once('.').map_or("", |(_, ending)| ending).to_ascii_lowercase();
    match ending.as_str() {
        "html" | "htm" => "text/html; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "js" | "mjs" => "text/javascript; charset=utf-8",
        "json" | "map" => "application/json",
        "webmanifest" => "application/manifest+json",
        "txt" => "text/plain; charset=utf-8",
        "md" => "text/markdown; charset=utf-8",
        "csv" => "text/csv; charset=utf-8",
        "xml" => "application/xml",
        "svg" => "image/svg+xml",
        "png" => "image/png",
        "jpg" | "jpeg" => "image/jpeg",
        "gif" => "image/gif",
        "webp" => "image/webp",
        "avif" => "image/avif",
        "ico" => "image/x-icon",
        "woff2" => "font/woff2",
        "woff" => "font/woff",
        "ttf" => "font/ttf",
        "otf" => "font/otf",
        "wasm" => "application/wasm",
        "pdf" => "application/pdf",
        "mp4" => "video/mp4",
        "webm" => "video/webm",
        "mp3" => "audio/mpeg",
        "ogg" => "audio/ogg",
        "zip" => "application/zip",
        "gz" => "application/gzip",
        _ => "application/octet-stream",
    }
}

#[cfg(test)]
mod fuzz;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges() {
        let table = [
            ("bytes=0-4", Range::Part(0, 4)),
            ("bytes=5-", Range::Part(5, 9)),
            ("bytes=-3", Range::Part(7, 9)),
            ("bytes=-30", Range::Part(0, 9)),
            ("bytes=8-30", Range::Part(8, 9)),
            ("bytes=10-", Range::None),
            ("bytes=-0", Range::None),
            ("bytes=4-2", Range::All),
            ("bytes=0-1,3-4", Range::All),
            ("lines=0-1", Range::All),
            ("bytes=x-y", Range::All),
            ("bytes=+0-4", Range::All),
            ("bytes=-+3", Range::All),
            ("bytes=0-99999999999999999999", Range::Part(0, 9)),
            ("bytes=99999999999999999999-", Range::None),
        ];
        for (value, wanted) in table {
            assert_eq!(Range::read(value, 10), wanted, "{value}");
        }
        assert_eq!(Range::read("bytes=-1", 0), Range::None);
    }

    #[test]
    fn names_with_digests() {
        for name in ["assets/app-3fa9c1d2.js", "main.8d2f01ab.css", "x/index-BkE2a_9z.js"] {
            assert!(is_hashed(name), "{name}");
        }
        for name in [
            "app.js",
            "jquery-3.7.1.js",
            "my-component.js",
            "2024-report.pdf",
            "index.html",
            "manifest-12345678.json",
        ] {
            assert!(!is_hashed(name), "{name}");
        }
    }

    #[test]
    fn escapes() {
        assert_eq!(decode("/a%20b").as_deref(), Some("/a b"));
        assert_eq!(decode("/%C3%A5").as_deref(), Some("/å"));
        assert_eq!(decode("/%zz"), None);
        assert_eq!(decode("/%ff"), None);
        assert_eq!(decode("/%00"), None);
    }
}
