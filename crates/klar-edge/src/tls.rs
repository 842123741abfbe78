//! TLS: the certificate for the name that the visitor asked for.

use std::collections::HashMap;
use std::sync::Arc;

use klar_base::upstreams::Certificate;
use rustls::crypto::ring;
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{ClientHello, NoServerSessionStorage, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::{DistinguishedName, ServerConfig};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use crate::challenge;
use crate::mutual_tls::Asking;
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
            let key = certified(certificate)?;
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

/// HTTP/3, which there is over QUIC alone (RFC 9114 section 3.1).
pub const H3: &[u8] = b"h3";

/// Reads a chain and its key, which must belong together.
pub fn certified(certificate: &Certificate) -> Result<Arc<CertifiedKey>, String> {
    let (chain, key) = read(certificate)?;
    let key = CertifiedKey::from_der(chain, key, &ring::default_provider());
    key.map(Arc::new).map_err(|error| wrong(certificate, &error))
}

/// As [`certified`] for a certificate that no visitor can use: it has an extension that is critical and that rustls
/// does not know (RFC 8737, section 3), so whether the key is its own cannot be asked.
pub fn certified_proof(certificate: &Certificate) -> Result<Arc<CertifiedKey>, String> {
    let (chain, key) = read(certificate)?;
    let key = ring::sign::any_supported_type(&key).map_err(|error| wrong(certificate, &error))?;
    Ok(Arc::new(CertifiedKey::new(chain, key)))
}

fn read(certificate: &Certificate) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), String> {
    let chain: Vec<_> = CertificateDer::pem_slice_iter(certificate.chain_pem.as_bytes())
        .collect::<Result<_, _>>()
        .map_err(|error| wrong(certificate, &error))?;
    let key = PrivateKeyDer::from_pem_slice(certificate.key_pem.expose().as_bytes())
        .map_err(|error| wrong(certificate, &error))?;
    Ok((chain, key))
}

fn wrong(certificate: &Certificate, error: &dyn std::fmt::Display) -> String {
    format!("the certificate for {}: {error}", certificate.hosts.join(", "))
}

/// Looks the certificate up in the newest configuration.
#[derive(Debug)]
struct Resolver(Arc<Shared>);

impl ResolvesServerCert for Resolver {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let table = self.0.table.load();
        // An authority that proves a name offers this protocol alone (RFC 8737, section 3).
        let mut offered = hello.alpn().into_iter().flatten();
        if offered.next() == Some(challenge::ALPN) && offered.next().is_none() {
            return table.challenges.certificate(hello.server_name()?);
        }
        table.certificates.find(hello.server_name())
    }
}

/// As [`Resolver`], for the hosts that are served over HTTP/3 and those that nobody has named.
#[derive(Debug)]
struct OverQuic(Arc<Shared>);

impl ResolvesServerCert for OverQuic {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let table = self.0.table.load();
        let name = hello.server_name();
        let site = name.and_then(|name| table.site(&name.to_ascii_lowercase()));
        if site.is_some_and(|site| site.http3.is_none()) {
            return None;
        }
        table.certificates.find(name)
    }
}

/// TLS 1.3 and 1.2 with the suites of ring, resumption by tickets that one process can read.
///
/// # Errors
/// When there is no randomness for the tickets.
pub fn config(shared: Arc<Shared>) -> Result<Arc<ServerConfig>, rustls::Error> {
    let mut config = with_clients(shared, WebPkiClientVerifier::no_client_auth())?;
    config.ticketer = ring::Ticketer::new()?;
    Ok(Arc::new(config))
}

/// As [`config`] for a host that asks for certificates: without resumption, see [`crate::mutual_tls`].
///
/// # Errors
/// None that [`config`] did not have.
pub fn asking(
    shared: Arc<Shared>,
    names: Vec<DistinguishedName>,
) -> Result<Arc<ServerConfig>, rustls::Error> {
    let mut config = with_clients(shared, Arc::new(Asking::new(names)))?;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(Arc::new(config))
}

/// As [`config`] for QUIC: TLS 1.3 and HTTP/3 only, no data before the handshake is done, and nobody is asked for a
/// certificate. Hosts that are not served over HTTP/3 have none to show.
///
/// # Errors
/// When there is no randomness for the tickets.
pub fn for_quic(shared: Arc<Shared>) -> Result<ServerConfig, rustls::Error> {
    let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(OverQuic(shared)));
    config.alpn_protocols = vec![H3.to_vec()];
    config.ticketer = ring::Ticketer::new()?;
    config.max_early_data_size = 0;
    Ok(config)
}

fn with_clients(
    shared: Arc<Shared>,
    clients: Arc<dyn ClientCertVerifier>,
) -> Result<ServerConfig, rustls::Error> {
    let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])?
        .with_client_cert_verifier(clients)
        .with_cert_resolver(Arc::new(Resolver(shared)));
    // All suites are good ones; the order is fixed so that a visitor cannot choose the dearest, and auditors see one.
    config.ignore_client_order = true;
    config.alpn_protocols = vec![H2.to_vec(), b"http/1.1".to_vec(), challenge::ALPN.to_vec()];
    Ok(config)
}
