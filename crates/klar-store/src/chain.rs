//! One entry, and how it hangs on the one before.
//!
//! An entry does not hash its payload but a *salted commitment* to it: SHA-256 over 16 random bytes and the payload.
//! So a payload can be erased together with its salt, as the GDPR may ask, and the chain still verifies; and nobody
//! can guess from what remains whether a short payload (a name, a yes) was this or that.
//!
//! ```text
//! commitment = SHA-256(salt ‖ payload)
//! hash       = SHA-256("klar ledger 1\n" seq "\n" at "\n" kind "\n" subject "\n" commitment "\n" prev "\n")
//! signature  = Ed25519(hash)
//! ```

use std::fmt;

use ring::digest::{Context, SHA256};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::key::KeyId;

/// A SHA-256 digest; 64 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Digest(pub(crate) [u8; 32]);

/// One line of the ledger.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// Counts from 1, without a hole.
    pub seq: u64,
    /// When it was written.
    pub at: jiff::Timestamp,
    /// What kind of thing is told, in the writer's words: `evidence`, `attestation`.
    pub kind: String,
    /// What it is about: the id of a check, of a row.
    pub subject: String,
    /// See the module.
    pub commitment: Digest,
    /// `hash` of the entry before; of the first one, zeros.
    pub prev: Digest,
    /// See the module.
    pub hash: Digest,
    /// Of `hash`; 128 hexadecimal digits.
    pub signature: String,
    /// 32 hexadecimal digits; gone when the payload is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub salt: Option<String>,
    /// What was told: any JSON, byte for byte as it was committed to. `None` once erased.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub payload: Option<Box<RawValue>>,
}

/// Where a chain ends. Kept outside the machine (on paper, in a ticket, in a commit) it proves later that nothing up
/// to there was changed or dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Head {
    /// The number of the last entry; 0 of an empty chain.
    pub seq: u64,
    /// Its hash.
    pub hash: Digest,
}

/// What is wrong with a chain, and where it begins to be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Broken {
    /// A number is missing, or there twice.
    #[error("entry {expected} is missing: entry {found} follows on entry {}", expected - 1)]
    Gap {
        /// The number that should have come.
        expected: u64,
        /// The one that came.
        found: u64,
    },
    /// It does not hang on the entry before.
    #[error("entry {0} does not follow on the entry before it: one of the two was replaced")]
    Link(u64),
    /// Its own fields do not give its hash.
    #[error("entry {0} was changed after it was written: its hash is not that of its fields")]
    Hash(u64),
    /// Its payload is not the one it was written with.
    #[error("the payload of entry {0} was changed after it was written")]
    Payload(u64),
    /// Signed by another key, or by none.
    #[error("entry {0} was not signed by the key {1}")]
    Signature(u64, KeyId),
    /// The anchored entry is not in it, or another one has its number.
    #[error("entry {} is not the one that was anchored: the chain was rewritten or cut", .0.seq)]
    Anchor(Head),
}

impl Entry {
    /// The hash that the fields give.
    #[must_use]
    pub(crate) fn computed(&self) -> Digest {
        Digest::of(&[
            b"klar ledger 1\n",
            format!(
                "{}\n{}\n{}\n{}\n{}\n{}\n",
                self.seq, self.at, self.kind, self.subject, self.commitment, self.prev
            )
            .as_bytes(),
        ])
    }

    /// Takes the payload away for good; the chain stays whole.
    pub fn erase(&mut self) {
        self.salt = None;
        self.payload = None;
    }

    fn verify(&self, before: Head, key: &KeyId) -> Result<(), Broken> {
        if self.seq != before.seq + 1 {
            return Err(Broken::Gap { expected: before.seq + 1, found: self.seq });
        }
        if self.prev != before.hash {
            return Err(Broken::Link(self.seq));
        }
        if self.hash != self.computed() {
            return Err(Broken::Hash(self.seq));
        }
        let signature = bytes(&self.signature);
        if !signature.is_some_and(|signature| key.verifies(&self.hash.0, &signature)) {
            return Err(Broken::Signature(self.seq, *key));
        }
        match (&self.salt, &self.payload) {
            (None, None) => Ok(()),
            (Some(salt), Some(payload)) if commitment(salt, payload.get()) == Some(self.commitment) => Ok(()),
            _ => Err(Broken::Payload(self.seq)),
        }
    }
}

/// Verifies entries that follow on `start` ([`Head::default`] for a whole chain), signed by `key`; gives where they
/// end.
///
/// # Errors
/// The first thing that is wrong.
pub fn verify<'e>(
    start: Head,
    entries: impl IntoIterator<Item = &'e Entry>,
    key: &KeyId,
    anchor: Option<Head>,
) -> Result<Head, Broken> {
    let mut head = start;
    let mut anchored = anchor.is_none_or(|anchor| anchor == head);
    for entry in entries {
        entry.verify(head, key)?;
        head = Head { seq: entry.seq, hash: entry.hash };
        anchored |= anchor == Some(head);
    }
    match anchor {
        Some(anchor) if !anchored => Err(Broken::Anchor(anchor)),
        _ => Ok(head),
    }
}

pub(crate) fn commitment(salt: &str, payload: &str) -> Option<Digest> {
    Some(Digest::of(&[&bytes(salt).filter(|salt| salt.len() == 16)?, payload.as_bytes()]))
}

impl Digest {
    /// SHA-256 over these, one after the other.
    #[must_use]
    pub fn of(parts: &[&[u8]]) -> Self {
        let mut context = Context::new(&SHA256);
        parts.iter().for_each(|part| context.update(part));
        let mut digest = [0; 32];
        digest.copy_from_slice(context.finish().as_ref());
        Self(digest)
    }
}

pub(crate) fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

pub(crate) fn from_hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    bytes(text)?.try_into().ok()
}

fn bytes(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    let pairs = text.as_bytes().chunks(2);
    pairs
        .map(|pair| if let [high, low] = pair { Some(digit(*high)? << 4 | digit(*low)?) } else { None })
        .collect()
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&to_hex(&self.0))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl fmt::Display for Head {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.seq, self.hash)
    }
}

impl std::str::FromStr for Head {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts = text.split_once(':').and_then(|(seq, hash)| Some((seq.parse().ok()?, from_hex(hash)?)));
        let (seq, hash) = parts.ok_or_else(|| {
            format!("`{text}` is not the head of a ledger: a number, a colon and 64 digits are")
        })?;
        Ok(Self { seq, hash: Digest(hash) })
    }
}

impl TryFrom<String> for Digest {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        from_hex(&text)
            .map(Self)
            .ok_or_else(|| format!("`{text}` is not a digest: 64 hexadecimal digits are"))
    }
}

impl From<Digest> for String {
    fn from(digest: Digest) -> Self {
        digest.to_string()
    }
}
