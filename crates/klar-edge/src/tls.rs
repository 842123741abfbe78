//! TLS: the certificate for the name that the visitor asked for.

use std::collections::HashMap;
use std::sync::Arc;

use klar_base::upstreams::Certificate;
use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use crate::table::Shared;

/// The certificates of a configuration.
#[derive(Debug, Default)]
pub struct Certificates {
    by_host: HashMap<String, Arc<CertifiedKey>>,
    first: Option<Arc<CertifiedKey>>,
}

impl Certificates {
    /// Reads them.
    ///
    /// # Errors
    /// Which one cannot be used, and why.
    pub fn new(certificates: &[Certificate]) -> Result<Self, String> {
        let mut all = Self::default();
        for certificate in certificates {
            let name = certificate.hosts.join(", ");
            let wrong = |error: String| format!("the certificate for {name}: {error}");
            let chain: Vec<_> = CertificateDer::pem_slice_iter(certificate.chain_pem.as_bytes())
                .collect::<Result<_, _>>()
                .map_err(|error| wrong(error.to_string()))?;
            let key = PrivateKeyDer::from_pem_slice(certificate.key_pem.expose().as_bytes())
                .map_err(|error| wrong(error.to_string()))?;
            let key = CertifiedKey::from_der(chain, key, &ring::default_provider())
                .map_err(|error| wrong(error.to_string()))?;
            let key = Arc::new(key);
            all.first.get_or_insert_with(|| key.clone());
            for host in &certificate.hosts {
                all.by_host.entry(host.clone()).or_insert_with(|| key.clone());
            }
        }
        Ok(all)
    }

    fn find(&self, name: Option<&str>) -> Option<Arc<CertifiedKey>> {
        let Some(name) = name else { return self.first.clone() };
        let name = name.to_ascii_lowercase();
        let exact = self.by_host.get(&name);
        let wild = || self.by_host.get(&format!("*.{}", name.split_once('.')?.1));
        exact.or_else(wild).or(self.first.as_ref()).cloned()
    }
}

/// HTTP/2 over TLS, as visitors and the edge agree on it (RFC 7301).
pub const H2: &[u8] = b"h2";

/// Looks the certificate up in the newest configuration.
#[derive(Debug)]
struct Resolver(Arc<Shared>);

impl ResolvesServerCert for Resolver {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.0.table.load().certificates.find(hello.server_name())
    }
}

/// TLS 1.3 and 1.2 with the suites of ring, resumption by tickets that one process can read.
///
/// # Errors
/// When there is no randomness for the tickets.
pub fn config(shared: Arc<Shared>) -> Result<Arc<ServerConfig>, rustls::Error> {
    let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(Resolver(shared)));
    config.alpn_protocols = vec![H2.to_vec(), b"http/1.1".to_vec()];
    config.ticketer = ring::Ticketer::new()?;
    Ok(Arc::new(config))
}
