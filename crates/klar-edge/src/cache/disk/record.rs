//! How an answer is written: a head of fixed length, what the index needs to know, the head of the answer, its body.
//!
//! ```text
//!   0  "klr1"            what this is
//!   4  kind              1 an answer, 2 a key is forgotten, 3 a purge; three zero bytes
//!   8  store             which store wrote it; files of another one are foreign
//!  16  serial            grows with each record
//!  24  epoch             of the app, see `epochs.rs`
//!  32  end               when it is of no use any more, in milliseconds since 1970
//!  40  lengths           of what follows: index, head, body; four bytes each, and four zero bytes
//!  56  digest of head and body, half of SHA-256
//!  72  digest of the key, SHA-256
//! 104  digest of the 104 bytes before and of the part for the index, half of SHA-256
//! 120
//! ```
//!
//! Numbers are big endian. What is torn, of another store or of another key fails a digest and is never given.

use bytes::Bytes;
use http::StatusCode;
use http::header::{HeaderMap, HeaderName, HeaderValue};
use sha2::{Digest as _, Sha256};

use super::super::key::Selector;
use super::super::policy::Facts;
use super::super::store::{Name, Stored, Written};

/// The length of the fixed part, in bytes.
pub const FIXED: usize = 120;
/// The most that one answer takes in the index, in bytes; one that takes more is not written.
pub const INDEX_MAX: usize = 4096;
/// The longest head of an answer, in bytes.
const HEAD_MAX: usize = 256 << 10;
const MAGIC: &[u8; 4] = b"klr1";
const PARTS_MAX: u64 = 1024;

/// SHA-256 of a key.
pub type KeyDigest = [u8; 32];

/// What a record is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Answer = 1,
    Forgotten = 2,
    Purge = 3,
}

/// The fixed part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fixed {
    pub kind: Kind,
    pub store: u64,
    pub serial: u64,
    pub epoch: u64,
    /// In milliseconds since 1970.
    pub end: u64,
    pub index: usize,
    pub head: usize,
    pub body: usize,
    pub content: [u8; 16],
    pub key: KeyDigest,
}

impl Fixed {
    /// The whole record, in bytes.
    pub fn len(&self) -> usize {
        FIXED + self.index + self.head + self.body
    }

    fn write(&self, index: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.len());
        out.extend_from_slice(MAGIC);
        out.extend_from_slice(&[self.kind as u8, 0, 0, 0]);
        for number in [self.store, self.serial, self.epoch, self.end] {
            out.extend_from_slice(&number.to_be_bytes());
        }
        for length in [self.index, self.head, self.body, 0] {
            out.extend_from_slice(&u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes());
        }
        out.extend_from_slice(&self.content);
        out.extend_from_slice(&self.key);
        let seal = half(&[&out, index]);
        out.extend_from_slice(&seal);
        out.extend_from_slice(index);
        out
    }

    /// Reads the fixed part and the part for the index; `bytes` may go on after them. `None`: torn, or foreign.
    pub fn read(bytes: &[u8], store: u64) -> Option<(Self, &[u8])> {
        let mut left = Reader(bytes.get(..FIXED)?);
        if left.take(4)? != MAGIC {
            return None;
        }
        let kind = match left.take(4)? {
            [1, 0, 0, 0] => Kind::Answer,
            [2, 0, 0, 0] => Kind::Forgotten,
            [3, 0, 0, 0] => Kind::Purge,
            _ => return None,
        };
        let mut number = || Some(u64::from_be_bytes(left.take(8)?.try_into().ok()?));
        let (of, serial, epoch, end) = (number()?, number()?, number()?, number()?);
        let mut length = || Some(u32::from_be_bytes(left.take(4)?.try_into().ok()?) as usize);
        let (index, head, body, _) = (length()?, length()?, length()?, length()?);
        let content = left.take(16)?.try_into().ok()?;
        let key = left.take(32)?.try_into().ok()?;
        let seal = left.take(16)?;
        if of != store || index > INDEX_MAX || head > HEAD_MAX {
            return None;
        }
        let meta = bytes.get(FIXED..FIXED + index)?;
        let fixed = Self { kind, store, serial, epoch, end, index, head, body, content, key };
        (half(&[&bytes[..FIXED - 16], meta]) == seal).then_some((fixed, meta))
    }
}

/// Half of SHA-256: enough to tell what was torn.
pub fn half(parts: &[&[u8]]) -> [u8; 16] {
    let mut digest = Sha256::new();
    parts.iter().for_each(|part| digest.update(part));
    let mut half = [0; 16];
    half.copy_from_slice(&digest.finalize()[..16]);
    half
}

/// What the index knows of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Meta {
    pub name: Name,
    pub selector: Selector,
    pub tags: Vec<Box<str>>,
}

impl Meta {
    fn write(&self) -> Vec<u8> {
        let mut out = Vec::new();
        for text in [self.name.app.to_string().as_str(), &self.name.host, &self.name.target] {
            write_part(&mut out, text.as_bytes());
        }
        let parts = self.selector.parts();
        write_number(&mut out, parts.len() as u64);
        for (name, value) in parts {
            write_part(&mut out, name.as_str().as_bytes());
            out.push(u8::from(value.is_some()));
            write_part(&mut out, value.as_deref().unwrap_or_default());
        }
        write_number(&mut out, self.tags.len() as u64);
        self.tags.iter().for_each(|tag| write_part(&mut out, tag.as_bytes()));
        out
    }

    /// Reads what an answer's part for the index says.
    pub fn read(bytes: &[u8]) -> Option<Self> {
        let mut left = Reader(bytes);
        let name = Name { app: left.text()?.parse().ok()?, host: left.text()?, target: left.text()? };
        let mut parts = Vec::new();
        for _ in 0..left.count()? {
            let header: HeaderName = left.text()?.parse().ok()?;
            let is_there = left.take(1)? == [1];
            let value = left.part()?.to_vec();
            parts.push((header, is_there.then_some(value)));
        }
        let mut tags = Vec::new();
        for _ in 0..left.count()? {
            tags.push(left.text()?.into());
        }
        left.0.is_empty().then(|| Self { name, selector: Selector::from_parts(parts), tags })
    }
}

/// An answer as it is written. `None`: it takes more of the index than it may.
pub fn answer(
    store: u64,
    serial: u64,
    epoch: u64,
    key: KeyDigest,
    name: &Name,
    stored: &Stored,
) -> Option<Vec<u8>> {
    let meta =
        Meta { name: name.clone(), selector: stored.selector.clone(), tags: stored.tags.clone() }.write();
    let mut head = Vec::new();
    head.extend_from_slice(&stored.status.as_u16().to_be_bytes());
    let (facts, end) = stored.facts.to_numbers()?;
    facts.iter().for_each(|number| write_number(&mut head, *number));
    write_number(&mut head, stored.headers.len() as u64);
    for (name, value) in &stored.headers {
        write_part(&mut head, name.as_str().as_bytes());
        write_part(&mut head, value.as_bytes());
    }
    if meta.len() > INDEX_MAX || head.len() > HEAD_MAX || u32::try_from(stored.body.len()).is_err() {
        return None;
    }
    let content = half(&[&head, &stored.body]);
    let (index, body) = (meta.len(), stored.body.len());
    let fixed =
        Fixed { kind: Kind::Answer, store, serial, epoch, end, index, head: head.len(), body, content, key };
    let mut out = fixed.write(&meta);
    out.extend_from_slice(&head);
    out.extend_from_slice(&stored.body);
    Some(out)
}

/// That a key is forgotten, or what a purge takes out.
pub fn note(kind: Kind, store: u64, serial: u64, key: KeyDigest, what: &[u8]) -> Vec<u8> {
    let content = half(&[]);
    let (index, head, body) = (what.len(), 0, 0);
    Fixed { kind, store, serial, epoch: 0, end: u64::MAX, index, head, body, content, key }.write(what)
}

/// Reads an answer. `None`: torn, foreign, or not the one that was meant.
pub fn read_answer(record: &Bytes, store: u64, serial: u64, key: &KeyDigest) -> Option<(Name, Stored)> {
    let (fixed, meta) = Fixed::read(record, store)?;
    if fixed.kind != Kind::Answer
        || fixed.serial != serial
        || fixed.key != *key
        || fixed.len() != record.len()
    {
        return None;
    }
    let head_at = FIXED + fixed.index;
    let body = record.slice(head_at + fixed.head..);
    let head = &record[head_at..head_at + fixed.head];
    if half(&[head, &body]) != fixed.content {
        return None;
    }
    let Meta { name, selector, tags } = Meta::read(meta)?;
    let mut left = Reader(head);
    let status = StatusCode::from_u16(u16::from_be_bytes(left.take(2)?.try_into().ok()?)).ok()?;
    let mut numbers = [0; Facts::NUMBERS];
    for number in &mut numbers {
        *number = left.number()?;
    }
    let facts = Facts::from_numbers(numbers)?;
    let count = left.count()?;
    let mut headers = HeaderMap::with_capacity(usize::try_from(count).ok()?);
    for _ in 0..count {
        let name: HeaderName = left.text()?.parse().ok()?;
        headers.append(name, HeaderValue::from_bytes(left.part()?).ok()?);
    }
    // A copy of its own, which is as long as the store counts it.
    let body = Bytes::copy_from_slice(&body);
    Some((name, Stored { status, headers, body, selector, facts, tags, written: Written::default() }))
}

fn write_number(out: &mut Vec<u8>, number: u64) {
    out.extend_from_slice(&number.to_be_bytes());
}

fn write_part(out: &mut Vec<u8>, part: &[u8]) {
    write_number(out, part.len() as u64);
    out.extend_from_slice(part);
}

/// What is left to read.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, left) = self.0.split_at_checked(count)?;
        self.0 = left;
        Some(taken)
    }

    fn number(&mut self) -> Option<u64> {
        Some(u64::from_be_bytes(self.take(8)?.try_into().ok()?))
    }

    /// How many parts follow.
    fn count(&mut self) -> Option<u64> {
        self.number().filter(|count| *count <= PARTS_MAX)
    }

    fn part(&mut self) -> Option<&'a [u8]> {
        let length = self.number()?;
        self.take(usize::try_from(length).ok()?)
    }

    fn text(&mut self) -> Option<String> {
        String::from_utf8(self.part()?.to_vec()).ok()
    }
}

#[cfg(test)]
mod fuzz;
