//! HTTPS to a certificate authority: one connection for each request, everything within limits.
//!
//! Only the authority that `klar.toml` names is spoken to. Its own certificate is checked against the authorities
//! that this machine trusts, or against `edge.acme_root` alone.

use std::future::Future;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use http::header::{CONNECTION, HOST, HeaderValue, RETRY_AFTER};
use http::{Request, Response};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use instant_acme::{BodyWrapper, BytesResponse, Error, HttpClient};
use rustls::crypto::ring;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// For one request, from the lookup of the name to the last byte.
const PATIENCE: Duration = Duration::from_secs(30);
/// The largest answer; a chain has a few KiB.
const ANSWER_MAX: usize = 1 << 20;

/// Where systems keep the authorities that they trust.
const BUNDLES: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// What the last answer that was no success said of itself, beside its body.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Refusal {
    /// The status, 0 when there was no such answer.
    pub status: u16,
    /// How long to stay away.
    pub retry_after: Option<Duration>,
}

/// See the [module](self). Copies share what they remember.
#[derive(Clone)]
pub struct Client {
    tls: TlsConnector,
    refusal: Arc<Mutex<Refusal>>,
}

impl Client {
    /// A client that trusts `root` alone, or what this machine trusts.
    ///
    /// # Errors
    /// Which file cannot be used, and why.
    pub fn new(root: Option<&Path>) -> Result<Self, String> {
        let provider = Arc::new(ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?
            .with_root_certificates(trusted(root)?)
            .with_no_client_auth();
        Ok(Self { tls: TlsConnector::from(Arc::new(config)), refusal: Arc::default() })
    }

    /// What the newest refusal said; forgotten afterwards.
    pub fn take_refusal(&self) -> Refusal {
        std::mem::take(&mut *self.refusal.lock().unwrap_or_else(PoisonError::into_inner))
    }

    async fn exchange(
        self,
        mut request: Request<BodyWrapper<hyper::body::Bytes>>,
    ) -> Result<BytesResponse, Error> {
        let uri = request.uri().clone();
        let other = |what: String| Error::Other(what.into());
        if uri.scheme_str() != Some("https") {
            return Err(other(format!("{uri} is not HTTPS")));
        }
        let host = uri.host().unwrap_or_default().to_owned();
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        let name =
            ServerName::try_from(bare.to_owned()).map_err(|_| other(format!("{uri} names no host")))?;
        let failed = |what: &str, error: std::io::Error| other(format!("{what} {host}: {error}"));
        let stream = TcpStream::connect((bare, uri.port_u16().unwrap_or(443)))
            .await
            .map_err(|error| failed("no connection to", error))?;
        let stream = self.tls.connect(name, stream).await.map_err(|error| failed("TLS with", error))?;

        let authority = uri.authority().map_or(host.as_str(), |authority| authority.as_str());
        if let Ok(authority) = HeaderValue::try_from(authority) {
            request.headers_mut().insert(HOST, authority);
        }
        request.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        let path = uri.path_and_query().map_or("/", |path| path.as_str());
        *request.uri_mut() = path.parse()?;

        let host = &host;
        let broke = |error: hyper::Error| other(format!("{host} broke off: {error}"));
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(broke)?;
        let answer = async move {
            let (parts, body) = sender.send_request(request).await.map_err(broke)?.into_parts();
            let body = Limited::new(body, ANSWER_MAX).collect().await;
            let body = body.map_err(|error| other(format!("{host}: {error}")))?.to_bytes();
            Ok::<_, Error>(Response::from_parts(parts, Full::new(body)))
        };
        // The connection ends when the answer is there; how it ends does not matter then.
        let (answer, _) = tokio::join!(answer, connection);
        let answer = answer?;
        if answer.status().is_client_error() || answer.status().is_server_error() {
            let retry_after = answer.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok());
            let retry_after = retry_after.and_then(|text| pause(text, SystemTime::now()));
            *self.refusal.lock().unwrap_or_else(PoisonError::into_inner) =
                Refusal { status: answer.status().as_u16(), retry_after };
        }
        Ok(BytesResponse::from(answer))
    }
}

impl HttpClient for Client {
    fn request(
        &self,
        request: Request<BodyWrapper<hyper::body::Bytes>>,
    ) -> Pin<Box<dyn Future<Output = Result<BytesResponse, Error>> + Send>> {
        let client = self.clone();
        Box::pin(async move {
            let host = request.uri().host().unwrap_or_default().to_owned();
            let late =
                |_| Error::Other(format!("{host} did not answer within {} s", PATIENCE.as_secs()).into());
            tokio::time::timeout(PATIENCE, client.exchange(request)).await.map_err(late)?
        })
    }
}

/// `Retry-After`: seconds, or a date (RFC 9110, section 10.2.3).
fn pause(text: &str, now: SystemTime) -> Option<Duration> {
    let text = text.trim();
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = jiff::fmt::rfc2822::parse(&text.replace("GMT", "+0000")).ok()?;
    Some(SystemTime::from(date.timestamp()).duration_since(now).unwrap_or_default())
}

fn trusted(root: Option<&Path>) -> Result<RootCertStore, String> {
    let file = match root {
        Some(file) => file.to_owned(),
        None => {
            let named = std::env::var_os("SSL_CERT_FILE").filter(|name| !name.is_empty()).map(PathBuf::from);
            let known = || BUNDLES.iter().map(PathBuf::from).find(|file| file.exists());
            named.or_else(known).ok_or_else(|| {
                "this machine trusts no authority at all; install the package ca-certificates".to_owned()
            })?
        }
    };
    let wrong = |why: String| format!("{}: {why}", file.display());
    let bytes = std::fs::read(&file).map_err(|error| wrong(error.to_string()))?;
    let mut store = RootCertStore::empty();
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
    // A bundle has old ones that nobody can use any more.
    let (added, _) = store.add_parsable_certificates(certificates.map_err(|error| wrong(error.to_string()))?);
    if added == 0 {
        return Err(wrong("there is no certificate of an authority in it (PEM)".into()));
    }
    Ok(store)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_after_in_both_forms() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000); // 2027-01-15 08:00:00
        for (text, seconds) in [
            ("120", Some(120)),
            (" 7 ", Some(7)),
            ("Fri, 15 Jan 2027 08:01:00 GMT", Some(60)),
            ("Fri, 15 Jan 2027 07:00:00 GMT", Some(0)),
            ("soon", None),
            ("-5", None),
            ("", None),
        ] {
            assert_eq!(pause(text, now), seconds.map(Duration::from_secs), "{text}");
        }
    }

    #[test]
    fn a_file_without_an_authority_is_named() {
        let file = std::env::temp_dir().join(format!("klar-acme-root-{}", std::process::id()));
        std::fs::write(&file, "nothing").unwrap();
        for path in [file.clone(), file.with_extension("missing")] {
            let error = Client::new(Some(&path)).err().unwrap();
            assert!(error.contains(&path.display().to_string()), "{error}");
        }
        std::fs::remove_file(file).unwrap();
    }
}
