//! The key that signs the ledger: Ed25519 (RFC 8032), one for each state folder.

use std::fmt;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use ring::rand::SystemRandom;
use ring::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use serde::{Deserialize, Serialize};

use crate::chain::{Digest, from_hex, to_hex};

/// Half of a key pair: what signs. Lies in a file that only its owner can read.
pub struct SigningKey(Ed25519KeyPair);

/// The other half: who signed. Written as 64 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct KeyId([u8; 32]);

impl SigningKey {
    /// Reads the key from `path`, or makes one and writes it there first.
    ///
    /// Two processes that make one at the same moment end with the same key: the file is linked into place, and
    /// the one that comes second reads what the first has made.
    ///
    /// # Errors
    /// Names the file; `InvalidData` when it is no key.
    pub fn open(path: &Path) -> io::Result<Self> {
        let named = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", path.display()));
        let pkcs8 = match fs::read(path) {
            Ok(pkcs8) => pkcs8,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                make(path).map_err(named)?;
                fs::read(path).map_err(named)?
            }
            Err(error) => return Err(named(error)),
        };
        Ed25519KeyPair::from_pkcs8(&pkcs8).map(Self).map_err(|why| {
            named(io::Error::new(io::ErrorKind::InvalidData, format!("not a signing key: {why}")))
        })
    }

    /// A key that is written nowhere, for what need not be vouched for after the process.
    ///
    /// # Errors
    /// When the system gives no random bytes.
    pub fn fleeting() -> io::Result<Self> {
        let pkcs8 = generate()?;
        Ed25519KeyPair::from_pkcs8(&pkcs8).map(Self).map_err(|why| io::Error::other(why.to_string()))
    }

    /// Who this is to others.
    #[must_use]
    pub fn id(&self) -> KeyId {
        let mut id = [0; 32];
        id.copy_from_slice(self.0.public_key().as_ref());
        KeyId(id)
    }

    /// Vouches for something else than an entry of the ledger: `purpose` is a few words that say what it is, so that
    /// what was signed for one purpose is worth nothing for another one. 128 hexadecimal digits.
    #[must_use]
    pub fn vouch(&self, purpose: &str, message: &[u8]) -> String {
        to_hex(&self.sign(&vouched(purpose, message).0))
    }

    pub(crate) fn sign(&self, message: &[u8]) -> [u8; 64] {
        let mut signature = [0; 64];
        signature.copy_from_slice(self.0.sign(message).as_ref());
        signature
    }
}

impl KeyId {
    /// Whether this key has vouched for it; see [`SigningKey::vouch`].
    #[must_use]
    pub fn vouches(&self, purpose: &str, message: &[u8], signature: &str) -> bool {
        from_hex::<64>(signature)
            .is_some_and(|signature| self.verifies(&vouched(purpose, message).0, &signature))
    }

    pub(crate) fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        UnparsedPublicKey::new(&ED25519, self.0).verify(message, signature).is_ok()
    }
}

/// What is signed: never what an entry of the ledger hashes to, whose hash begins with other words.
fn vouched(purpose: &str, message: &[u8]) -> Digest {
    Digest::of(&[b"klar vouches\n", purpose.as_bytes(), b"\n", message])
}

fn generate() -> io::Result<Vec<u8>> {
    let pkcs8 = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new())
        .map_err(|_| io::Error::other("the system gave no random bytes"))?;
    Ok(pkcs8.as_ref().to_vec())
}

fn make(path: &Path) -> io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("/"));
    fs::create_dir_all(folder)?;
    let new = path.with_extension(format!("{}.new", std::process::id()));
    let mut file = File::options().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
    file.write_all(&generate()?)?;
    file.sync_all()?;
    let linked = fs::hard_link(&new, path);
    fs::remove_file(&new)?;
    File::open(folder)?.sync_all()?;
    match linked {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => Ok(()),
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&to_hex(&self.0))
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyId({self})")
    }
}

impl std::str::FromStr for KeyId {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        from_hex(text).map(Self).ok_or_else(|| format!("`{text}` is not a key: 64 hexadecimal digits are"))
    }
}

impl TryFrom<String> for KeyId {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<KeyId> for String {
    fn from(key: KeyId) -> Self {
        key.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_vouched_for_is_good_for_one_purpose() {
        let (key, other) = (SigningKey::fleeting().unwrap(), SigningKey::fleeting().unwrap());
        let signature = key.vouch("point", b"a");
        assert!(key.id().vouches("point", b"a", &signature));
        for (id, purpose, message, signature) in [
            (other.id(), "point", &b"a"[..], signature.clone()),
            (key.id(), "batch", b"a", signature.clone()),
            (key.id(), "point", b"b", signature.clone()),
            (key.id(), "point", b"a", signature.replace(&signature[..1], "g")),
            (key.id(), "point", b"a", String::new()),
        ] {
            assert!(!id.vouches(purpose, message, &signature));
        }
    }
}
