//! What klar vouches for: JSON, and beside it who signed it, sealed for its name (it names tables and counts their rows).
//!
//! ```text
//! sealed { "payload": "{…}", "key": 64 digits, "signature": 128 digits }
//! ```
//!
//! The payload is a text, so that what is signed is these bytes and no other way to write the same thing. A repository
//! that somebody can write to is not trusted for that: what no known key has signed does not exist.

use klar_repo::{Object, Repository, SealError, StorageError};
use klar_store::{KeyId, SigningKey};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// No manifest is longer, in bytes.
const LONGEST: usize = 8 << 20;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Envelope {
    payload: String,
    key: KeyId,
    signature: String,
}

/// Why a signed object is not believed.
#[derive(Debug, thiserror::Error)]
pub enum SignedError {
    /// The storage.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// It cannot be sealed, or does not open.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// Not what klar writes.
    #[error("{name} is no manifest of klar's: {why}")]
    Content {
        /// The object.
        name: String,
        /// What is wrong.
        why: String,
    },
    /// Signed by a key that is not known here.
    #[error(
        "{name} was signed by the key {key}, which is none of those that are trusted here: if it is that of this app's \
         former machine, give its `ledger.key` too"
    )]
    Stranger {
        /// The object.
        name: String,
        /// Who says that they signed it.
        key: KeyId,
    },
    /// Changed after it was signed.
    #[error("{name} was changed after it was signed: it counts as not there")]
    Forged {
        /// The object.
        name: String,
    },
}

/// Signs something and writes it. The purpose is the first two parts of the name: `klar/points`.
///
/// # Errors
/// The storage.
pub fn write<T: Serialize>(
    repository: &Repository,
    name: &str,
    what: &T,
    key: &SigningKey,
) -> Result<(), SignedError> {
    let content = |why: String| SignedError::Content { name: name.to_owned(), why };
    let payload = serde_json::to_string(what).map_err(|why| content(why.to_string()))?;
    if payload.len() > LONGEST {
        return Err(content(format!("it would have {} bytes, more than {LONGEST}", payload.len())));
    }
    let signature = key.vouch(purpose(name), &message(name, &payload));
    let envelope = Envelope { payload, key: key.id(), signature };
    let bytes = serde_json::to_vec(&envelope).map_err(|why| content(why.to_string()))?;
    let sealed = repository.seal(name, &bytes)?;
    Ok(repository.storage().write(&Object::Extra(name.to_owned()), &sealed)?)
}

/// Reads what one of `trusted` has signed under this name.
///
/// # Errors
/// Anything else.
pub fn read<T: DeserializeOwned>(
    repository: &Repository,
    name: &str,
    trusted: &[KeyId],
) -> Result<T, SignedError> {
    let content = |why: String| SignedError::Content { name: name.to_owned(), why };
    let envelope = envelope(repository, name)?;
    if !trusted.contains(&envelope.key) {
        return Err(SignedError::Stranger { name: name.to_owned(), key: envelope.key });
    }
    let message = message(name, &envelope.payload);
    if !envelope.key.vouches(purpose(name), &message, &envelope.signature) {
        return Err(SignedError::Forged { name: name.to_owned() });
    }
    serde_json::from_str(&envelope.payload).map_err(|why| content(why.to_string()))
}

/// Who says that they signed what has this name: on a new machine nobody is known yet, but whoever wrote it could open the
/// repository.
///
/// # Errors
/// The storage, or what is no manifest.
pub fn signer(repository: &Repository, name: &str) -> Result<KeyId, SignedError> {
    envelope(repository, name).map(|envelope| envelope.key)
}

fn envelope(repository: &Repository, name: &str) -> Result<Envelope, SignedError> {
    let content = |why: String| SignedError::Content { name: name.to_owned(), why };
    let sealed = repository.storage().read(&Object::Extra(name.to_owned()))?;
    if sealed.len() > LONGEST * 2 {
        return Err(content(format!("it has {} bytes", sealed.len())));
    }
    let bytes = repository.unseal(name, &sealed)?;
    serde_json::from_slice(&bytes).map_err(|why| content(why.to_string()))
}

/// The name is signed too: under another one it is worth nothing.
fn message(name: &str, payload: &str) -> Vec<u8> {
    [name.as_bytes(), b"\n", payload.as_bytes()].concat()
}

fn purpose(name: &str) -> &str {
    name.match_indices('/').nth(1).map_or(name, |(at, _)| &name[..at])
}
