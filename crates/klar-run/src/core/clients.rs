//! The authorities whose clients a route lets in (`client_ca`).
//!
//! A relative path is part of a release, which never changes. A file elsewhere is copied when a deploy speaks of it, and
//! again when it changes (`given.rs`), so that a core that starts anew, or a file that is being replaced, shuts nobody
//! out. Where there is nothing to read, nobody is let in.

use std::path::{Path, PathBuf};

use klar_base::AppKey;
use rustls::RootCertStore;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use sha2::{Digest, Sha256};

use super::Core;
use super::given::read_text;
use crate::durable;
use crate::release::Release;
use crate::report::Failure;

/// As many as an edge takes for one route.
const AUTHORITIES_MAX: usize = 64;

/// Whether a text holds authorities that clients may be of.
pub(super) fn check(pem: &str) -> Result<(), String> {
    let mut roots = RootCertStore::empty();
    for authority in CertificateDer::pem_slice_iter(pem.as_bytes()) {
        let authority = authority.map_err(|error| format!("it is not PEM: {error}"))?;
        roots.add(authority).map_err(|error| format!("certificate {}: {error}", roots.len() + 1))?;
    }
    match roots.len() {
        0 => Err("there is no certificate in it".into()),
        count if count > AUTHORITIES_MAX => {
            Err(format!("there are more than {AUTHORITIES_MAX} certificates in it"))
        }
        _ => Ok(()),
    }
}

impl Core {
    /// The files of an app's routes.
    pub(super) fn client_files(release: &Release) -> impl Iterator<Item = &PathBuf> {
        release.config.routes.iter().filter_map(|route| route.policy.client_ca.as_ref())
    }

    /// The copy of a file that is not part of a release.
    fn client_copy(&self, file: &Path) -> PathBuf {
        let digest = Sha256::digest(file.as_os_str().as_encoded_bytes());
        let name: String = digest.iter().take(16).map(|byte| format!("{byte:02x}")).collect();
        self.layout.ca().join(format!("clients-{name}.pem"))
    }

    /// Where the edge's text comes from.
    fn client_source(&self, key: &AppKey, release: &Release, file: &Path) -> PathBuf {
        if file.is_absolute() {
            return self.client_copy(file);
        }
        self.layout.release(key, &release.id).join("files").join(file)
    }

    /// The authorities of a route; empty, which is nobody, where they cannot be read.
    pub(super) fn client_authorities(&self, key: &AppKey, release: &Release, file: &Path) -> String {
        std::fs::read_to_string(self.client_source(key, release, file)).unwrap_or_default()
    }

    /// Looks, before a release goes on, whether its authorities can be used, and copies those that are not in it.
    pub(super) fn keep_client_authorities(&self, key: &AppKey, release: &Release) -> Result<(), Failure> {
        for file in Self::client_files(release) {
            let failed = |why: String| {
                Failure::new(format!("the authorities of `client_ca`, {}, cannot be used: {why}", file.display()))
                    .hint("the file has the certificates of the authorities in PEM; one outside the app's folder must be readable by the user that klar's core runs as")
            };
            let whole = self.layout.release(key, &release.id).join("files").join(file);
            // What is part of the release lies in klar's folder, and nothing else there is for anybody.
            let forbidden = file.is_absolute().then_some(self.layout.root());
            let text = read_text(&whole, forbidden).map_err(|refusal| failed(refusal.into_text()))?;
            check(&text).map_err(failed)?;
            if file.is_absolute() {
                let copied = self.copy_client_authorities(file, &text);
                if copied.map_err(|error| failed(error.to_string()))? {
                    self.changed();
                }
            }
        }
        Ok(())
    }

    /// `true`: they are others than before.
    pub(super) fn copy_client_authorities(&self, file: &Path, text: &str) -> std::io::Result<bool> {
        let copy = self.client_copy(file);
        if std::fs::read_to_string(&copy).is_ok_and(|known| known == text) {
            return Ok(false);
        }
        durable::write(&copy, text.as_bytes())?;
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_certificates_are_authorities() {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::new(Vec::<String>::new()).unwrap();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let one = params.self_signed(&key).unwrap().pem();
        for (text, why) in [
            (one.clone(), None),
            (one.repeat(2), None),
            (format!("partners, since 2024\n{one}"), None),
            (String::new(), Some("there is no certificate in it")),
            (key.serialize_pem(), Some("there is no certificate in it")),
            (one.repeat(AUTHORITIES_MAX + 1), Some("there are more than 64")),
            (
                "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n".into(),
                Some("certificate 1: "),
            ),
        ] {
            let checked = check(&text);
            match why {
                None => assert_eq!(checked, Ok(())),
                Some(why) => {
                    assert!(checked.as_ref().is_err_and(|said| said.starts_with(why)), "{checked:?}")
                }
            }
        }
    }
}
