//! What certificate authorities look for: only what the core has told, only for the name that it is for.
//!
//! HTTP-01 (RFC 8555, section 8.3) is a text on the plain port, TLS-ALPN-01 (RFC 8737) a certificate in a handshake
//! after which nothing is said.

use std::collections::HashMap;
use std::sync::Arc;

use klar_base::upstreams::{Certificate, Challenge};
use rustls::sign::CertifiedKey;

use crate::tls;

/// The protocol of a TLS-ALPN-01 connection (RFC 8737, section 6.2).
pub const ALPN: &[u8] = b"acme-tls/1";
/// Where HTTP-01 looks.
const FOLDER: &str = "/.well-known/acme-challenge/";

/// The challenges of a configuration.
#[derive(Debug, Default)]
pub struct Challenges {
    texts: HashMap<(String, String), String>,
    certificates: HashMap<String, Arc<CertifiedKey>>,
}

impl Challenges {
    /// Reads them.
    ///
    /// # Errors
    /// Which certificate cannot be used, and why.
    pub fn new(challenges: Vec<Challenge>) -> Result<Self, String> {
        let mut all = Self::default();
        for challenge in challenges {
            match challenge {
                Challenge::Http { host, token, answer } => {
                    all.texts.insert((host, token), answer);
                }
                Challenge::Tls { host, chain_pem, key_pem } => {
                    let certificate = Certificate { hosts: vec![host.clone()], chain_pem, key_pem };
                    all.certificates.insert(host, tls::certified_proof(&certificate)?);
                }
            }
        }
        Ok(all)
    }

    /// The text for a path of a host in lower case.
    pub fn text(&self, host: &str, path: &str) -> Option<&str> {
        let token = path.strip_prefix(FOLDER)?;
        if self.texts.is_empty() {
            return None;
        }
        let host = host.strip_suffix('.').unwrap_or(host);
        self.texts.get(&(host.to_owned(), token.to_owned())).map(String::as_str)
    }

    /// The certificate that proves a name.
    pub fn certificate(&self, name: &str) -> Option<Arc<CertifiedKey>> {
        self.certificates.get(&name.to_ascii_lowercase()).cloned()
    }
}

#[cfg(test)]
mod fuzz;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_token_of_the_name_is_answered() {
        let challenge = |host: &str, token: &str| Challenge::Http {
            host: host.into(),
            token: token.into(),
            answer: format!("{token}.print"),
        };
        let all = Challenges::new(vec![challenge("shop.example", "one"), challenge("blog.example", "two")])
            .unwrap();
        for (host, path, answer) in [
            ("shop.example", "/.well-known/acme-challenge/one", Some("one.print")),
            ("shop.example.", "/.well-known/acme-challenge/one", Some("one.print")),
            ("blog.example", "/.well-known/acme-challenge/two", Some("two.print")),
            ("blog.example", "/.well-known/acme-challenge/one", None),
            ("shop.example", "/.well-known/acme-challenge/two", None),
            ("shop.example", "/.well-known/acme-challenge/", None),
            ("shop.example", "/.well-known/acme-challenge", None),
            ("shop.example", "/.well-known/acme-challenge/one/", None),
            ("shop.example", "/.well-known/acme-challenge/../acme-challenge/one", None),
            ("shop.example", "/one", None),
        ] {
            assert_eq!(all.text(host, path), answer, "{host}{path}");
        }
    }
}
