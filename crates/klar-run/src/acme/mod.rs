//! Certificates from a public authority (ACME, RFC 8555), asked for and renewed by klar itself.
//!
//! One certificate for each name, not one for all names of an app: a name that leads elsewhere then holds up no
//! other, its error is its own, no certificate says which names belong together, and a change of `app.domains` asks
//! for nothing that is there already.
//!
//! [`order::obtain`] is one way from nothing to a certificate on the [`shelf`]; [`schedule`] says when to go it, as
//! pure functions of times; [`trouble`] says in words what went wrong. The core has one task that does it all, for
//! one name after the other, and the edge answers what the authority looks for. Keys never leave the core but for
//! those that the edge serves with.
//!
//! What is written to disk, in this order, so that a kill loses nothing: the account's key, the account's URL, the
//! order with the certificate's key, the certificate.

pub mod account;
pub mod client;
pub mod dns;
pub mod order;
pub mod schedule;
pub mod shelf;
pub mod trouble;
pub mod x509;

use std::path::PathBuf;

/// Whom to ask, and as whom.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Authority {
    /// The URL of its directory (RFC 8555, section 7.1.1).
    pub directory: String,
    /// Where it may write to.
    pub email: Option<String>,
    /// A file with the only certificate to trust when it is spoken to.
    pub root: Option<PathBuf>,
}

impl Authority {
    /// Its host, for people.
    pub fn host(&self) -> &str {
        let rest = self.directory.split_once("://").map_or(self.directory.as_str(), |(_, rest)| rest);
        rest.split('/').next().unwrap_or(rest)
    }

    /// Whether it is on this machine.
    pub fn is_local(&self) -> bool {
        let host = self.host();
        let bare = host.strip_prefix('[').and_then(|rest| rest.split(']').next());
        let bare = bare.unwrap_or_else(|| host.split(':').next().unwrap_or(host));
        bare == "localhost" || bare.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
    }
}

/// A number from 0 to 1 that is always the same for the same words: what is spread out by it stays where it is when
/// a core is started anew.
pub fn jitter(words: &[u8]) -> f64 {
    use sha2::{Digest, Sha256};
    let digest = Sha256::digest(words);
    let number = digest.iter().take(4).fold(0_u32, |number, byte| number << 8 | u32::from(*byte));
    f64::from(number) / f64::from(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn authorities_of_this_machine_are_known() {
        for (directory, host, local) in [
            ("https://acme-v02.api.letsencrypt.org/directory", "acme-v02.api.letsencrypt.org", false),
            ("https://127.0.0.1:14000/dir", "127.0.0.1:14000", true),
            ("https://[::1]:14000/dir", "[::1]:14000", true),
            ("https://localhost:14000/dir", "localhost:14000", true),
            ("https://localhost.example/dir", "localhost.example", false),
            ("https://10.0.0.1/dir", "10.0.0.1", false),
        ] {
            let authority = Authority { directory: directory.into(), email: None, root: None };
            assert_eq!((authority.host(), authority.is_local()), (host, local), "{directory}");
        }
    }
}
