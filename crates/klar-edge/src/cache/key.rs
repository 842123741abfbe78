//! Under which key an answer is kept, and for which requests it was chosen (`Vary`).
//!
//! A key has everything in it that an app could see of the address: the host *with* its port as the visitor wrote
//! it, since an app may build links from it. Each part is preceded by its length, so that no two addresses give
//! the same key.

use std::hash::{BuildHasher, BuildHasherDefault, Hasher, RandomState};
use std::sync::LazyLock;

use http::header::{self, HeaderName};
use klar_base::AppKey;
use sha2::{Digest as _, Sha256};

use super::directives::items;
use crate::fields::{self, Fields};

/// More selecting headers than this, and an answer is for nobody else.
const VARY_MAX: usize = 8;
/// The place of the authority among the parts of a key.
const AUTHORITY: usize = 5;
/// A selecting value that is longer, in bytes, is not worth remembering.
const VALUE_MAX: usize = 1024;

/// What an answer was asked by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key {
    /// A digest of the bytes that nobody outside can foresee: a key is looked up several times on its way.
    digest: u64,
    bytes: Box<[u8]>,
}

impl std::hash::Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.digest);
    }
}

/// For tables by [`Key`], or by its number: what is looked up has been hashed before.
pub type ByNumber = BuildHasherDefault<Number>;

/// See [`ByNumber`].
#[derive(Debug, Default)]
pub struct Number(u64);

impl Hasher for Number {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        // Nothing but whole numbers is written; this is right for all else, only slow.
        self.0 = bytes.iter().fold(self.0, |sum, byte| sum.wrapping_mul(0x0100_0000_01b3) ^ u64::from(*byte));
    }

    fn write_u64(&mut self, number: u64) {
        self.0 = number;
    }
}

impl Key {
    /// The key of a `GET` over HTTPS.
    #[cfg(test)]
    pub fn new(app: &AppKey, epoch: u64, authority: &str, target: &str) -> Self {
        Self::of("https", app, epoch, authority, target)
    }

    /// The key of a `GET` over what the visitor speaks, `https` or `http`: an app may write it into its links. `epoch`:
    /// grows when the app's release changes, see [`super`].
    pub fn of(scheme: &str, app: &AppKey, epoch: u64, authority: &str, target: &str) -> Self {
        let (path, query) = match target.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (target, None),
        };
        let epoch = epoch.to_be_bytes();
        let parts = [
            app.app.as_str().as_bytes(),
            app.env.as_str().as_bytes(),
            &epoch,
            b"GET",
            scheme.as_bytes(),
            authority.as_bytes(),
            path.as_bytes(),
            query.unwrap_or_default().as_bytes(),
        ];
        // `/a` and `/a?` are two addresses.
        let parts = &parts[..if query.is_some() { 8 } else { 7 }];
        let mut bytes = Vec::with_capacity(parts.iter().map(|part| 8 + part.len()).sum());
        for (number, part) in parts.iter().enumerate() {
            bytes.extend_from_slice(&(part.len() as u64).to_be_bytes());
            bytes.extend_from_slice(part);
            if number == AUTHORITY {
                let from = bytes.len() - part.len();
                bytes[from..].make_ascii_lowercase();
            }
        }
        Self::from_bytes(bytes)
    }

    fn from_bytes(bytes: Vec<u8>) -> Self {
        static HASHER: LazyLock<RandomState> = LazyLock::new(RandomState::new);
        Self { digest: HASHER.hash_one(&bytes), bytes: bytes.into() }
    }

    /// The key with more after it: what is asked for at once by those who are alike.
    pub fn with(&self, more: &[u8]) -> Self {
        let mut bytes = Vec::with_capacity(self.bytes.len() + 1 + more.len());
        bytes.extend_from_slice(&self.bytes);
        // No length of a part begins like this.
        bytes.push(0xff);
        bytes.extend_from_slice(more);
        Self::from_bytes(bytes)
    }

    /// In bytes.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// A number that nobody outside can foresee. Another key has it by chance only.
    pub fn number(&self) -> u64 {
        self.digest
    }

    /// Where the epoch stands: behind the app and its environment.
    fn epoch_at(&self) -> usize {
        let behind = |at: usize| {
            let length = self.bytes.get(at..).and_then(|rest| rest.first_chunk());
            at + 8 + length.map_or(0, |length| u64::from_be_bytes(*length) as usize)
        };
        behind(behind(0)) + 8
    }

    /// The epoch.
    pub fn epoch(&self) -> u64 {
        let part = self.bytes.get(self.epoch_at()..).and_then(|rest| rest.first_chunk());
        part.map_or(0, |epoch| u64::from_be_bytes(*epoch))
    }

    /// SHA-256 of the key with this epoch in place of its own.
    pub fn digest(&self, epoch: u64) -> [u8; 32] {
        let (before, after) = self.bytes.split_at(self.epoch_at().min(self.bytes.len()));
        let mut digest = Sha256::new();
        digest.update(before);
        digest.update(epoch.to_be_bytes());
        digest.update(after.get(8..).unwrap_or_default());
        digest.finalize().into()
    }
}

/// The request headers by which an answer was chosen, and what they said.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Selector(Vec<(HeaderName, Option<Vec<u8>>)>);

impl Selector {
    /// Reads `Vary` of an answer to a request with these headers; `None` when it suits no other request (`*`), or
    /// selects by more than can be remembered.
    pub fn of(answer: &impl Fields, request: &impl Fields) -> Option<Self> {
        let mut selected: Vec<(HeaderName, Option<Vec<u8>>)> = Vec::new();
        for line in answer.all(&header::VARY) {
            for name in fields::text(line)?.split(',').map(str::trim).filter(|name| !name.is_empty()) {
                // `*` is no name of a header.
                let name: HeaderName = name.parse().ok().filter(|name| *name != "*")?;
                if selected.iter().any(|(known, _)| *known == name) {
                    continue;
                }
                let value = normal(&name, request);
                if selected.len() >= VARY_MAX || value.as_ref().is_some_and(|value| value.len() > VALUE_MAX) {
                    return None;
                }
                selected.push((name, value));
            }
        }
        Some(Self(selected))
    }

    /// The names of the headers.
    pub fn names(&self) -> impl Iterator<Item = &HeaderName> {
        self.0.iter().map(|(name, _)| name)
    }

    /// Whether a request would have been answered the same (RFC 9111 section 4.1).
    pub fn suits(&self, request: &impl Fields) -> bool {
        self.0.iter().all(|(name, value)| normal(name, request) == *value)
    }

    /// What a request says in the selecting headers, for telling requests apart.
    pub fn sift(&self, request: &impl Fields) -> Vec<u8> {
        let mut sifted = Vec::new();
        for (name, _) in &self.0 {
            let value = normal(name, request);
            sifted.extend_from_slice(name.as_str().as_bytes());
            sifted.extend_from_slice(
                &value.as_ref().map_or(u64::MAX, |value| value.len() as u64).to_be_bytes(),
            );
            sifted.extend_from_slice(&value.unwrap_or_default());
        }
        sifted
    }

    /// The headers and what they said.
    pub fn parts(&self) -> &[(HeaderName, Option<Vec<u8>>)] {
        &self.0
    }

    /// What [`Selector::parts`] gave.
    pub fn from_parts(parts: Vec<(HeaderName, Option<Vec<u8>>)>) -> Self {
        Self(parts)
    }

    /// Roughly, in bytes.
    pub fn len(&self) -> usize {
        self.0.iter().map(|(_, value)| 64 + value.as_ref().map_or(0, Vec::len)).sum()
    }
}

/// The value of a header without the differences that say nothing: lines are joined, blanks around commas go, and
/// of codings and languages the case. Accepted codings are sorted, because any of them will do; languages are not,
/// because apps take the first.
fn normal(name: &HeaderName, headers: &impl Fields) -> Option<Vec<u8>> {
    if !headers.has(name) {
        return None;
    }
    let mut all: Vec<Vec<u8>> = Vec::new();
    for line in headers.all(name) {
        let parts = std::str::from_utf8(line).ok().and_then(items);
        match parts {
            Some(parts) => all.extend(parts.into_iter().map(|part| part.as_bytes().to_vec())),
            None => all.push(line.to_vec()),
        }
    }
    if *name == header::ACCEPT_ENCODING {
        all = all.iter().filter_map(|item| coding(item)).collect();
        all.sort_unstable();
        all.dedup();
    } else if *name == header::ACCEPT_LANGUAGE {
        all.iter_mut().for_each(|item| item.make_ascii_lowercase());
    }
    Some(all.join(&b","[..]))
}

/// A coding that may be used. One that may not says nothing, except for `identity` and `*`.
fn coding(item: &[u8]) -> Option<Vec<u8>> {
    let item: Vec<u8> =
        item.iter().filter(|byte| !byte.is_ascii_whitespace()).map(u8::to_ascii_lowercase).collect();
    let (name, quality) = match item.iter().position(|byte| *byte == b';') {
        Some(at) => (&item[..at], Some(&item[at + 1..])),
        None => (&item[..], None),
    };
    let refused = quality.is_some_and(|quality| {
        quality.strip_prefix(b"q=0").is_some_and(|rest| rest.iter().all(|byte| b".0".contains(byte)))
    });
    match (name, refused) {
        (b"identity", false) => None,
        (b"identity" | b"*", true) => Some([name, b";q=0"].concat()),
        (_, true) => None,
        (_, false) => Some(name.to_vec()),
    }
}

#[cfg(test)]
mod fuzz;

#[cfg(test)]
mod tests {
    use super::*;
    use http::{HeaderMap, HeaderValue};
    use proptest::prelude::*;

    fn headers(lines: &[(&'static str, &str)]) -> HeaderMap {
        let pair = |(name, value): &(&'static str, &str)| {
            (HeaderName::from_static(name), HeaderValue::from_bytes(value.as_bytes()).unwrap())
        };
        lines.iter().map(pair).collect()
    }

    fn key(authority: &str, target: &str) -> Key {
        Key::new(&"shop.prod".parse().unwrap(), 1, authority, target)
    }

    #[test]
    fn addresses_are_told_apart() {
        let other_app = Key::new(&"desk.prod".parse().unwrap(), 1, "a", "/");
        let other_epoch = Key::new(&"shop.prod".parse().unwrap(), 2, "a", "/");
        let all = [
            key("a", "/"),
            key("a:8443", "/"),
            key("a", "/?"),
            key("a", "/?a"),
            key("a", "/a"),
            key("a", "/A"),
            key("a", "//"),
            other_app,
            other_epoch,
            Key::of("http", &"shop.prod".parse().unwrap(), 1, "a", "/"),
            key("a", "/").with(b""),
            key("a", "/").with(b"x"),
        ];
        for (index, one) in all.iter().enumerate() {
            for other in &all[index + 1..] {
                assert_ne!(one, other);
            }
        }
        assert_eq!(key("Shop.Example", "/"), key("shop.example", "/"));
        let digests = all.each_ref().map(|key| key.digest(9));
        for (index, one) in digests.iter().enumerate() {
            // `all[8]` is `all[0]` in another epoch.
            let same = digests[index + 1..].iter().filter(|other| *other == one).count();
            assert_eq!(same, usize::from(index == 0), "{index}");
        }
        assert_ne!(all[0].digest(1), all[0].digest(2));
        assert_eq!((all[0].epoch(), all[8].epoch(), all[10].epoch()), (1, 2, 1));
    }

    proptest! {
        #[test]
        fn no_two_addresses_share_a_key(
            one in ("[a.:/?]{0,6}", "[a/?=]{0,6}"), other in ("[a.:/?]{0,6}", "[a/?=]{0,6}"),
        ) {
            prop_assert_eq!(one == other, key(&one.0, &one.1) == key(&other.0, &other.1));
        }
    }

    /// Pairs of requests that select the same, or do not.
    #[test]
    fn selection() {
        for (name, one, other, same) in [
            ("accept-encoding", "gzip, deflate, br", "br,gzip , Deflate", true),
            ("accept-encoding", "gzip;q=0.5, br", "br, gzip", true),
            ("accept-encoding", "gzip", "gzip, br;q=0", true),
            ("accept-encoding", "gzip", "gzip, br;q=0.001", false),
            ("accept-encoding", "gzip, identity", "gzip", true),
            ("accept-encoding", "gzip, identity;q=0", "gzip", false),
            ("accept-encoding", "gzip", "gzip, *;q=0", false),
            ("accept-encoding", "gzip", "deflate", false),
            ("accept-encoding", "", "gzip", false),
            ("accept-language", "nb, en", "NB ,EN", true),
            ("accept-language", "nb, en", "en, nb", false),
            ("foo", "1,2", " 1, 2 ", true),
            ("foo", "a", "A", false),
            ("foo", "\"1,2\"", "\"1, 2\"", false),
            ("cookie", "a=1; b=2", "a=1;b=2", false),
        ] {
            let selector = Selector::of(&headers(&[("vary", name)]), &headers(&[(name, one)])).unwrap();
            assert_eq!(selector.suits(&headers(&[(name, other)])), same, "{name}: {one} | {other}");
            assert_eq!(
                selector.sift(&headers(&[(name, one)])) == selector.sift(&headers(&[(name, other)])),
                same,
                "{name}: {one} | {other}"
            );
            assert!(!selector.suits(&headers(&[])), "nothing is not the same as something");
        }
        let lines = Selector::of(&headers(&[("vary", "foo")]), &headers(&[("foo", "1"), ("foo", "2")]));
        assert!(lines.unwrap().suits(&headers(&[("foo", "1, 2")])));
    }

    #[test]
    fn what_suits_nobody_else() {
        let many: String = (0..=VARY_MAX).map(|number| format!("a{number},")).collect();
        for vary in ["*", "*, *", ", *", "foo, *", "*, foo", "a b", &many] {
            assert_eq!(Selector::of(&headers(&[("vary", vary)]), &headers(&[])), None, "{vary}");
        }
        let two = headers(&[("vary", ""), ("vary", "*")]);
        assert_eq!(Selector::of(&two, &headers(&[])), None);
        let long = headers(&[("foo", &"x".repeat(VALUE_MAX + 1))]);
        assert_eq!(Selector::of(&headers(&[("vary", "foo")]), &long), None);
    }
}
