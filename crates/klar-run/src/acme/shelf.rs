//! The certificates that klar was given by authorities, on disk: `STATE/acme/`.
//!
//! A chain and its key are one file, so that there is never one without the other. The certificate before is kept
//! beside the newest. Neither is thrown away before it has ended, also when its name is not served any more: an
//! authority gives the same name only so many certificates in a week.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use klar_base::Secret;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::x509::{self, Facts};
use crate::durable;

/// A certificate on the shelf.
#[derive(Debug, Clone)]
pub struct Kept {
    /// PEM, leaf first.
    pub chain_pem: String,
    /// PEM.
    pub key_pem: Secret<String>,
    /// What it says.
    pub facts: Facts,
}

/// An order that is on its way: enough to go on with it after a kill.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Pending {
    /// The authority.
    pub directory: String,
    /// The order.
    pub url: String,
    /// The key of the certificate, PEM.
    pub key_pem: Secret<String>,
}

/// See the [module](self).
#[derive(Debug, Clone)]
pub struct Shelf {
    root: PathBuf,
}

impl Shelf {
    /// The shelf in `root`; nothing is made yet.
    pub fn new(root: PathBuf) -> Self {
        Self { root }
    }

    /// Where accounts are kept.
    pub fn accounts(&self) -> PathBuf {
        self.root.join("accounts")
    }

    /// A host name has only letters, digits, `-` and `.`, so it is a file name as well.
    fn file(&self, name: &str, kind: &str) -> PathBuf {
        self.root.join("certificates").join(format!("{name}{kind}"))
    }

    /// The certificates of a name, the newest first. What cannot be read is not there, and said.
    pub fn kept(&self, name: &str) -> Vec<Kept> {
        [".pem", ".before.pem"].iter().filter_map(|kind| self.read(&self.file(name, kind))).collect()
    }

    fn read(&self, file: &Path) -> Option<Kept> {
        let text = match fs::read_to_string(file) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
            Err(error) => {
                eprintln!("klar core: {}: {error}", file.display());
                return None;
            }
        };
        let parsed = split(&text).and_then(|(key_pem, chain_pem)| {
            check(&chain_pem, &key_pem, None).map(|facts| Kept { chain_pem, key_pem, facts })
        });
        parsed.map_err(|error| eprintln!("klar core: {}: {error}", file.display())).ok()
    }

    /// Puts a new certificate in front of the one that was there.
    ///
    /// # Errors
    /// The disk's; what was there stays.
    pub fn keep(&self, name: &str, kept: &Kept) -> io::Result<()> {
        let (file, before) = (self.file(name, ".pem"), self.file(name, ".before.pem"));
        self.make()?;
        // A damaged one must not push out a good one.
        if self.read(&file).is_some() {
            durable::write(&before, &fs::read(&file)?)?;
        }
        durable::write(&file, format!("{}{}", kept.key_pem.expose(), kept.chain_pem).as_bytes())
    }

    /// The order that is on its way for a name.
    pub fn pending(&self, name: &str) -> Option<Pending> {
        self.note(name, ".order.json")
    }

    /// Notes an order before anything is done with it.
    ///
    /// # Errors
    /// The disk's.
    pub fn note_pending(&self, name: &str, pending: &Pending) -> io::Result<()> {
        self.make()?;
        durable::write_json(&self.file(name, ".order.json"), pending)
    }

    /// The order is over.
    pub fn forget_pending(&self, name: &str) {
        // What is not there is forgotten already; what stays is looked at once more and then found to be over.
        let _ = fs::remove_file(self.file(name, ".order.json"));
    }

    /// What else is remembered of a name.
    pub fn record<T: DeserializeOwned>(&self, name: &str) -> Option<T> {
        self.note(name, ".json")
    }

    /// Remembers it.
    ///
    /// # Errors
    /// The disk's.
    pub fn note_record(&self, name: &str, record: &impl Serialize) -> io::Result<()> {
        self.make()?;
        durable::write_json(&self.file(name, ".json"), record)
    }

    /// Throws away what has ended of a name that nobody serves.
    pub fn tidy(&self, name: &str, now: i64) {
        let kept = self.kept(name);
        if kept.iter().all(|kept| kept.facts.not_after < now) {
            for kind in [".pem", ".before.pem", ".order.json", ".json"] {
                let _ = fs::remove_file(self.file(name, kind));
            }
        }
    }

    fn note<T: DeserializeOwned>(&self, name: &str, kind: &str) -> Option<T> {
        let file = self.file(name, kind);
        // Damaged is as good as gone: it only saves a question to the authority.
        durable::read_json(&file).map_err(|error| eprintln!("klar core: {error}")).ok().flatten()
    }

    fn make(&self) -> io::Result<()> {
        use std::os::unix::fs::DirBuilderExt;
        let mut folder = fs::DirBuilder::new();
        folder.recursive(true).mode(0o700).create(self.root.join("certificates"))
    }
}

/// A file of the shelf: the key, then the chain.
fn split(text: &str) -> Result<(Secret<String>, String), String> {
    let at = text.find("-----BEGIN CERTIFICATE-----").ok_or("there is no certificate in it")?;
    let (key, chain) = text.split_at(at);
    Ok((Secret::new(key.to_owned()), chain.to_owned()))
}

/// What a chain says, if `key` is its key and, where a host is given, it is for that host.
///
/// # Errors
/// Says what does not fit.
pub fn check(chain_pem: &str, key_pem: &Secret<String>, host: Option<&str>) -> Result<Facts, String> {
    use rustls_pki_types::pem::PemObject;
    use rustls_pki_types::{CertificateDer, PrivateKeyDer};
    let facts = x509::leaf(chain_pem)?;
    let chain = CertificateDer::pem_slice_iter(chain_pem.as_bytes()).collect::<Result<Vec<_>, _>>();
    let chain = chain.map_err(|error| format!("its chain is not PEM: {error}"))?;
    let key = PrivateKeyDer::from_pem_slice(key_pem.expose().as_bytes())
        .map_err(|error| format!("its key is not PEM: {error}"))?;
    rustls::sign::CertifiedKey::from_der(chain, key, &rustls::crypto::ring::default_provider())
        .map_err(|error| format!("the key is not that of the certificate: {error}"))?;
    match host {
        Some(host) if !facts.covers(host) => {
            Err(format!("it is for {}, not for {host}", facts.names.join(", ")))
        }
        _ => Ok(facts),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(name: &str) -> Kept {
        let pair = rcgen::KeyPair::generate().unwrap();
        let certificate =
            rcgen::CertificateParams::new(vec![name.to_owned()]).unwrap().self_signed(&pair).unwrap();
        let (chain_pem, key_pem) = (certificate.pem(), Secret::new(pair.serialize_pem()));
        let facts = check(&chain_pem, &key_pem, Some(name)).unwrap();
        Kept { chain_pem, key_pem, facts }
    }

    #[test]
    fn the_one_before_is_kept_and_a_damaged_one_is_passed_over() {
        use std::os::unix::fs::PermissionsExt;
        let folder = std::env::temp_dir().join(format!("klar-shelf-{}", std::process::id()));
        let shelf = Shelf::new(folder.clone());
        assert!(shelf.kept("shop.example").is_empty());
        let (one, two) = (made("shop.example"), made("shop.example"));
        let chains = || shelf.kept("shop.example").into_iter().map(|kept| kept.chain_pem).collect::<Vec<_>>();
        shelf.keep("shop.example", &one).unwrap();
        assert_eq!(chains(), vec![one.chain_pem.clone()]);
        shelf.keep("shop.example", &two).unwrap();
        assert_eq!(chains(), [two.chain_pem.clone(), one.chain_pem.clone()]);
        let file = shelf.file("shop.example", ".pem");
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        fs::write(file, "tor").unwrap();
        assert_eq!(chains(), vec![one.chain_pem.clone()]);

        shelf.tidy("shop.example", one.facts.not_after);
        assert_eq!(chains(), [one.chain_pem], "it may still be wanted");
        shelf.tidy("shop.example", i64::MAX);
        assert!(chains().is_empty());
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn a_chain_with_another_key_or_name_is_refused() {
        let (one, two) = (made("shop.example"), made("shop.example"));
        for (chain, key, host, wrong) in [
            (&one.chain_pem, &two.key_pem, None, "the key is not that of the certificate"),
            (
                &one.chain_pem,
                &one.key_pem,
                Some("blog.example"),
                "it is for shop.example, not for blog.example",
            ),
            (&"nothing".to_owned(), &one.key_pem, None, "there is no certificate in it"),
            (&one.chain_pem, &Secret::new("nothing".into()), None, "its key is not PEM"),
        ] {
            let error = check(chain, key, host).unwrap_err();
            assert!(error.starts_with(wrong), "{error}");
        }
    }
}
