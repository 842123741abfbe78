//! Visitors with certificates of their own, for routes that want one.
//!
//! The handshake only asks, at hosts that have such a route. It takes any certificate or none, and has the visitor
//! prove that the key is its own. Whether a certificate is of a route's authorities is judged for each request, by the
//! connection that it came over: routes of one host may differ, HTTP/2 takes requests for several hosts over one
//! connection, and authorities change while connections are open. What is remembered of a judgement is remembered for
//! a minute.
//!
//! Hosts that ask resume no sessions: a ticket would bring a certificate back that nobody has shown.

use std::cell::RefCell;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::header::HeaderValue;
use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{self, WebPkiSupportedAlgorithms, ring};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{DigitallySignedStruct, DistinguishedName, Error, RootCertStore, SignatureScheme};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, UnixTime};

use crate::subject;

/// Each is named in every handshake.
const AUTHORITIES_MAX: usize = 64;
/// How long a judgement is remembered: a certificate that has ended is let in so much longer at most.
const REMEMBERED: Duration = Duration::from_secs(60);
/// Judgements that a connection remembers, one for each set of authorities.
const JUDGED_MAX: usize = 4;

/// Those whose certificates a route takes.
#[derive(Debug)]
pub struct Authorities {
    /// `None`: there are none, so nobody is let in.
    verifier: Option<Arc<dyn ClientCertVerifier>>,
    /// For the browser, which shows its user those certificates that will do.
    pub names: Vec<DistinguishedName>,
}

impl Authorities {
    /// Reads their certificates, in PEM. An empty text is nobody.
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn new(pem: &str) -> Result<Self, String> {
        let mut roots = RootCertStore::empty();
        for (number, authority) in CertificateDer::pem_slice_iter(pem.as_bytes()).enumerate() {
            if number == AUTHORITIES_MAX {
                return Err(format!("there are more than {AUTHORITIES_MAX} authorities"));
            }
            let authority = authority.map_err(|error| format!("they are not PEM: {error}"))?;
            roots.add(authority).map_err(|error| format!("authority {}: {error}", number + 1))?;
        }
        let names = roots.subjects();
        if roots.is_empty() {
            return Ok(Self { verifier: None, names });
        }
        let provider = Arc::new(ring::default_provider());
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build();
        Ok(Self { verifier: Some(verifier.map_err(|error| error.to_string())?), names })
    }

    fn vouch_for(&self, chain: &[CertificateDer<'static>]) -> bool {
        let (Some(verifier), Some((leaf, others))) = (&self.verifier, chain.split_first()) else {
            return false;
        };
        verifier.verify_client_cert(leaf, others, UnixTime::now()).is_ok()
    }
}

/// The certificate that was shown in the handshake of a connection, whoever signed it.
#[derive(Debug)]
pub struct Shown {
    chain: Vec<CertificateDer<'static>>,
    judged: RefCell<Vec<(Arc<Authorities>, Instant, bool)>>,
}

impl Shown {
    /// A chain, leaf first, whose key was proven.
    pub fn new(chain: &[CertificateDer<'_>]) -> Self {
        Self { chain: chain.iter().map(|one| one.clone().into_owned()).collect(), judged: RefCell::default() }
    }

    /// Whether it is of one of these authorities, is for clients, and is valid now.
    pub fn is_of(&self, authorities: &Arc<Authorities>) -> bool {
        let now = Instant::now();
        let mut judged = self.judged.borrow_mut();
        judged.retain(|(_, at, _)| now.duration_since(*at) < REMEMBERED);
        if let Some((_, _, good)) = judged.iter().find(|(by, _, _)| Arc::ptr_eq(by, authorities)) {
            return *good;
        }
        let good = authorities.vouch_for(&self.chain);
        if judged.len() == JUDGED_MAX {
            judged.remove(0);
        }
        judged.push((authorities.clone(), now, good));
        good
    }

    /// Its subject as an app hears of it; only of use when [`Shown::is_of`] was true. `None`: it has none that fits into
    /// a header.
    pub fn subject(&self) -> Option<Subject> {
        let text = subject::of(self.chain.first()?)?;
        HeaderValue::try_from(text).ok().map(Subject)
    }
}

/// The verified subject of a request's visitor.
#[derive(Debug, Clone)]
pub struct Subject(pub HeaderValue);

/// Asks for a certificate, and takes any that the visitor has the key of.
#[derive(Debug)]
pub struct Asking {
    names: Vec<DistinguishedName>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl Asking {
    /// Names these authorities.
    pub fn new(names: Vec<DistinguishedName>) -> Self {
        Self { names, algorithms: ring::default_provider().signature_verification_algorithms }
    }
}

impl ClientCertVerifier for Asking {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &self.names
    }

    fn verify_client_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        // By whom it has to be signed, only the route knows.
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        crypto::verify_tls12_signature(message, certificate, signed, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        crypto::verify_tls13_signature(message, certificate, signed, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
