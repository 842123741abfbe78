//! A client that looks: it follows nothing, hides nothing, limits everything, and believes no certificate but
//! notes it. (Whether the certificate is good is a check of its own.)

use std::cell::RefCell;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use klar_base::Secret;
use rustls::ClientConfig;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use serde::{Deserialize, Serialize};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

mod held;

pub use held::Held;

/// No answer is read further than this.
const LONGEST_BODY: usize = 4 << 20;
const CONNECT: Duration = Duration::from_secs(5);
const ANSWER: Duration = Duration::from_secs(15);
/// Connections kept for the next request.
const IDLE: usize = 8;

/// Where klar's edge looks for what klar's own probes show.
const CHECK: HeaderName = HeaderName::from_static("klar-check");

/// Where a site is: what an address without its path says.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Origin {
    /// Whether to speak TLS.
    pub tls: bool,
    /// The name, as in the address.
    pub host: String,
    /// The port.
    pub port: u16,
}

/// A request to make.
#[derive(Debug, Clone, Default)]
pub struct Ask {
    /// GET when not said.
    pub method: Method,
    /// Path and query.
    pub path: String,
    /// Headers beside Host and User-Agent.
    pub headers: Vec<(String, String)>,
    /// The body, if there is one.
    pub body: Option<Bytes>,
    /// Give up after this instead of the usual 15 s.
    pub patience: Option<Duration>,
}

/// What came back.
#[derive(Debug, Clone)]
pub struct Answer {
    /// Its status.
    pub status: StatusCode,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body as it was sent, up to 4 MiB: compressed if it was.
    pub body: Bytes,
    /// From the first byte sent to the last one read.
    pub took: Duration,
}

/// Why nothing came back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Silence {
    /// Nobody listens there, or the name is unknown.
    Refused(String),
    /// TLS did not come about.
    Tls(String),
    /// Not in time.
    Late,
    /// The connection ended in the middle.
    Cut(String),
    /// The request cannot be written as HTTP.
    Unwritable(String),
}

/// Asks one origin.
pub struct Client {
    origin: Origin,
    /// Where to connect instead of asking the resolver: an instance behind the edge, or the edge before DNS points
    /// to it.
    address: Option<SocketAddr>,
    tls: Arc<ClientConfig>,
    /// What gets a probe past klar's firewall, to see what the app itself does.
    pass: Option<Secret<String>>,
    idle: RefCell<Vec<SendRequest<Full<Bytes>>>>,
}

impl Origin {
    /// Reads `http://host[:port]` or `https://...`; a path behind it is dropped.
    ///
    /// # Errors
    /// What was expected instead.
    pub fn parse(url: &str) -> Result<Self, String> {
        let wrong = || format!("`{url}` is not an address: https://HOST[:PORT] is");
        let (scheme, rest) = url.split_once("://").ok_or_else(wrong)?;
        let tls = match scheme {
            "https" => true,
            "http" => false,
            _ => return Err(wrong()),
        };
        let authority: http::uri::Authority =
            rest.split(['/', '?', '#']).next().unwrap_or_default().parse().map_err(|_| wrong())?;
        let host = authority.host();
        if host.is_empty() || authority.as_str().contains('@') {
            return Err(wrong());
        }
        Ok(Self {
            tls,
            host: host.to_owned(),
            port: authority.port_u16().unwrap_or(if tls { 443 } else { 80 }),
        })
    }

    /// Whether it is a name or address of this machine alone. HSTS says "this name, on all ports, for a year": of
    /// localhost that would be wrong, and of addresses browsers ignore it (RFC 6797, 8.1.1).
    #[must_use]
    pub fn is_local(&self) -> bool {
        let host = self.host.trim_matches(['[', ']']);
        host == "localhost" || host.ends_with(".localhost") || host.parse::<std::net::IpAddr>().is_ok()
    }

    /// What goes into `Host`.
    #[must_use]
    pub fn authority(&self) -> String {
        let usual = if self.tls { 443 } else { 80 };
        if self.port == usual { self.host.clone() } else { format!("{}:{}", self.host, self.port) }
    }

    /// The path of a reference on a page of this origin at `base`; `None` when it leads elsewhere.
    #[must_use]
    pub fn path_of(&self, base: &str, reference: &str) -> Option<String> {
        let reference = reference.split('#').next().unwrap_or_default().trim();
        let lower = reference.to_ascii_lowercase();
        if reference.is_empty()
            || ["data:", "mailto:", "tel:", "javascript:", "blob:"].iter().any(|p| lower.starts_with(p))
        {
            return None;
        }
        if let Some(rest) = reference.strip_prefix("//") {
            return self.path_of(base, &format!("{}://{rest}", if self.tls { "https" } else { "http" }));
        }
        if reference.contains("://") {
            let same = Self::parse(reference).is_ok_and(|origin| origin == *self);
            let path = reference.splitn(4, '/').nth(3).unwrap_or_default();
            return same.then(|| format!("/{path}"));
        }
        if reference.starts_with('/') {
            return Some(reference.to_owned());
        }
        let folder =
            base.split(['?', '#']).next().unwrap_or("/").rsplit_once('/').map_or("", |(folder, _)| folder);
        let mut parts: Vec<&str> = folder.split('/').skip(1).collect();
        for part in reference.split('/') {
            match part {
                "." => {}
                ".." => drop(parts.pop()),
                part => parts.push(part),
            }
        }
        Some(format!("/{}", parts.join("/")))
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", if self.tls { "https" } else { "http" }, self.authority())
    }
}

impl Ask {
    /// A GET.
    pub fn get(path: impl Into<String>) -> Self {
        Self { path: path.into(), ..Self::default() }
    }

    /// Another method.
    pub fn new(method: Method, path: impl Into<String>) -> Self {
        Self { method, path: path.into(), ..Self::default() }
    }

    /// With a header more.
    #[must_use]
    pub fn with(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// With a body of JSON.
    #[must_use]
    pub fn json(mut self, body: &serde_json::Value) -> Self {
        self.body = Some(body.to_string().into());
        self.with("content-type", "application/json")
    }

    /// With a form as body.
    #[must_use]
    pub fn form(mut self, fields: &[(&str, &str)]) -> Self {
        let encoded = fields.iter().map(|(name, value)| format!("{}={}", percent(name), percent(value)));
        self.body = Some(encoded.collect::<Vec<_>>().join("&").into());
        self.with("content-type", "application/x-www-form-urlencoded")
    }

    /// Waiting no longer than this.
    #[must_use]
    pub fn within(mut self, patience: Duration) -> Self {
        self.patience = Some(patience);
        self
    }
}

impl Answer {
    /// A header as text; `None` when it is missing or no text.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// The media type, without its parameters, in lower case.
    #[must_use]
    pub fn media_type(&self) -> String {
        let value = self.header("content-type").unwrap_or_default();
        value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
    }

    /// The body as text.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON.
    #[must_use]
    pub fn json(&self) -> Option<serde_json::Value> {
        serde_json::from_slice(&self.body).ok()
    }

    /// Whether it is a page.
    #[must_use]
    pub fn is_html(&self) -> bool {
        self.media_type() == "text/html"
    }
}

impl Client {
    /// A client of an origin.
    #[must_use]
    pub fn new(origin: Origin) -> Self {
        // Both versions are those of the provider itself, so this cannot fail.
        let tls = unbelieving(rustls::ALL_VERSIONS).unwrap_or_else(|why| unreachable!("{why}"));
        Self { origin, address: None, tls: Arc::new(tls), pass: None, idle: RefCell::default() }
    }

    /// The same, but past klar's firewall, to whom this is shown.
    #[must_use]
    pub fn with_pass(mut self, pass: Secret<String>) -> Self {
        self.pass = Some(pass);
        self
    }

    /// The same, as a stranger: whatever stands in front of the app judges what it asks.
    #[must_use]
    pub fn as_stranger(&self) -> Self {
        Self { address: self.address, ..Self::new(self.origin.clone()) }
    }

    /// The same, but connecting to this address.
    #[must_use]
    pub fn at(mut self, address: SocketAddr) -> Self {
        self.address = Some(address);
        self
    }

    /// The origin it asks.
    #[must_use]
    pub fn origin(&self) -> &Origin {
        &self.origin
    }

    /// Where it connects, if not where the resolver says.
    #[must_use]
    pub fn address(&self) -> Option<SocketAddr> {
        self.address
    }

    /// GETs a path.
    ///
    /// # Errors
    /// Why nothing came back.
    pub async fn get(&self, path: &str) -> Result<Answer, Silence> {
        self.ask(Ask::get(path)).await
    }

    /// Makes a request, on a connection that is kept from before where there is one.
    ///
    /// # Errors
    /// Why nothing came back.
    pub async fn ask(&self, ask: Ask) -> Result<Answer, Silence> {
        let patience = ask.patience.unwrap_or(ANSWER);
        timeout(patience, self.ask_patiently(&ask)).await.unwrap_or(Err(Silence::Late))
    }

    async fn ask_patiently(&self, ask: &Ask) -> Result<Answer, Silence> {
        loop {
            let kept = self.idle.borrow_mut().pop();
            let fresh = kept.is_none();
            let mut sender = match kept {
                Some(sender) => sender,
                None => self.connect().await?,
            };
            let request = self.request(ask)?;
            let began = Instant::now();
            if sender.ready().await.is_err() && !fresh {
                continue; // it was closed while it lay idle
            }
            let response = match sender.send_request(request).await {
                Ok(response) => response,
                Err(why)
                    if !fresh && (why.is_incomplete_message() || why.is_canceled() || why.is_closed()) =>
                {
                    continue;
                }
                Err(why) => return Err(Silence::Cut(why.to_string())),
            };
            let (head, mut body) = response.into_parts();
            let mut read = BytesMut::new();
            let mut whole = true;
            while let Some(frame) = body.frame().await {
                let frame = frame.map_err(|why| Silence::Cut(why.to_string()))?;
                if let Some(data) = frame.data_ref() {
                    read.extend_from_slice(&data[..data.len().min(LONGEST_BODY - read.len())]);
                    if read.len() == LONGEST_BODY {
                        whole = false;
                        break;
                    }
                }
            }
            let took = began.elapsed();
            if whole && self.idle.borrow().len() < IDLE {
                self.idle.borrow_mut().push(sender);
            }
            return Ok(Answer { status: head.status, headers: head.headers, body: read.freeze(), took });
        }
    }

    /// Whether the site is on this machine.
    pub async fn is_loopback(&self) -> bool {
        if let Some(address) = self.address {
            return address.ip().is_loopback();
        }
        let host = self.origin.host.trim_matches(['[', ']']).to_owned();
        match tokio::net::lookup_host((host, self.origin.port)).await {
            Ok(mut addresses) => addresses.all(|address| address.ip().is_loopback()),
            Err(_) => false,
        }
    }

    /// A bare connection, for what HTTP libraries will not write.
    ///
    /// # Errors
    /// Why there is none.
    pub async fn tcp(&self) -> Result<TcpStream, Silence> {
        let connecting = async {
            match self.address {
                Some(address) => TcpStream::connect(address).await,
                None => {
                    TcpStream::connect((self.origin.host.trim_matches(['[', ']']), self.origin.port)).await
                }
            }
        };
        match timeout(CONNECT, connecting).await {
            Err(_) => Err(Silence::Late),
            Ok(Err(why)) => Err(Silence::Refused(format!("{}: {why}", self.origin.authority()))),
            Ok(Ok(stream)) => {
                let _ = stream.set_nodelay(true);
                Ok(stream)
            }
        }
    }

    /// Whether a handshake with these versions comes about, whatever the certificate.
    ///
    /// # Errors
    /// What went wrong.
    pub async fn handshake(
        &self,
        versions: &[&'static rustls::SupportedProtocolVersion],
    ) -> Result<(), String> {
        let config = unbelieving(versions).map_err(|why| why.to_string())?;
        self.secure(Arc::new(config)).await.map(drop).map_err(|why| why.to_string())
    }

    /// A connection, with TLS where the origin has it.
    ///
    /// # Errors
    /// Why there is none.
    pub async fn stream(&self) -> Result<Box<dyn Stream>, Silence> {
        if !self.origin.tls {
            return Ok(Box::new(self.tcp().await?));
        }
        self.secure(Arc::clone(&self.tls)).await
    }

    async fn secure(&self, config: Arc<ClientConfig>) -> Result<Box<dyn Stream>, Silence> {
        let tcp = self.tcp().await?;
        let name = ServerName::try_from(self.origin.host.trim_matches(['[', ']']).to_owned())
            .map_err(|why| Silence::Tls(why.to_string()))?;
        let connecting = TlsConnector::from(config).connect(name, tcp);
        match timeout(CONNECT, connecting).await {
            Err(_) => Err(Silence::Late),
            Ok(Err(why)) => Err(Silence::Tls(why.to_string())),
            Ok(Ok(stream)) => Ok(Box::new(stream)),
        }
    }

    async fn connect(&self) -> Result<SendRequest<Full<Bytes>>, Silence> {
        let stream = self.stream().await?;
        let (sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(|why| Silence::Cut(why.to_string()))?;
        tokio::task::spawn_local(async move {
            let _ = connection.await; // its end is seen by whoever sends on it
        });
        Ok(sender)
    }

    fn request(&self, ask: &Ask) -> Result<Request<Full<Bytes>>, Silence> {
        let unwritable =
            |why: &dyn fmt::Display| Silence::Unwritable(format!("{} {}: {why}", ask.method, ask.path));
        let mut request = Request::new(Full::new(ask.body.clone().unwrap_or_default()));
        *request.method_mut() = ask.method.clone();
        *request.uri_mut() = ask.path.parse().map_err(|why| unwritable(&why))?;
        let headers = request.headers_mut();
        let host = HeaderValue::from_str(&self.origin.authority()).map_err(|why| unwritable(&why))?;
        headers.insert("host", host);
        headers.insert(
            "user-agent",
            HeaderValue::from_static(concat!("klar-check/", env!("CARGO_PKG_VERSION"))),
        );
        if let Some(pass) = &self.pass {
            headers.insert(CHECK, HeaderValue::from_str(pass.expose()).map_err(|why| unwritable(&why))?);
        }
        for (name, value) in &ask.headers {
            let name: HeaderName = name.parse().map_err(|why| unwritable(&why))?;
            let value = HeaderValue::from_bytes(value.as_bytes()).map_err(|why| unwritable(&why))?;
            if name == "host" {
                headers.insert(name, value);
            } else {
                headers.append(name, value);
            }
        }
        Ok(request)
    }
}

/// What a connection is to those who use it.
pub trait Stream: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin {}
impl<T: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin> Stream for T {}

impl fmt::Display for Silence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(why) => write!(f, "no connection to {why}"),
            Self::Tls(why) => write!(f, "no TLS: {why}"),
            Self::Late => f.write_str("no answer in time"),
            Self::Cut(why) => write!(f, "the connection ended in the middle: {why}"),
            Self::Unwritable(why) => write!(f, "not a request that HTTP can carry: {why}"),
        }
    }
}

/// The first certificate of a PEM file, as DER.
#[must_use]
pub fn certificate_of(pem: &[u8]) -> Option<Vec<u8>> {
    use rustls::pki_types::pem::PemObject;
    CertificateDer::from_pem_slice(pem).ok().map(|certificate| certificate.to_vec())
}

/// Encodes all but what RFC 3986 calls unreserved.
#[must_use]
pub fn percent(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

fn unbelieving(
    versions: &[&'static rustls::SupportedProtocolVersion],
) -> Result<ClientConfig, rustls::Error> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = Arc::new(Anybody(Arc::clone(&provider)));
    let builder = ClientConfig::builder_with_provider(provider).with_protocol_versions(versions)?;
    Ok(builder.dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth())
}

/// Looking is not trusting: whatever certificate is shown is taken, so that the rest can be looked at too.
#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &rustls::DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &rustls::DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        let origin = Origin::parse("https://shop.example/orders?x").unwrap();
        assert_eq!(origin.to_string(), "https://shop.example");
        assert_eq!(Origin::parse("http://127.0.0.1:3000").unwrap().port, 3000);
        for wrong in ["shop.example", "ftp://x", "https://", "https://a:b@c", "https://:1"] {
            assert!(Origin::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn references() {
        let origin = Origin::parse("https://shop.example").unwrap();
        for (base, reference, path) in [
            ("/", "/a", Some("/a")),
            ("/x/y", "a?b=1#c", Some("/x/a?b=1")),
            ("/x/y/", "../a", Some("/x/a")),
            ("/", "https://shop.example/q/r", Some("/q/r")),
            ("/", "//shop.example/q", Some("/q")),
            ("/", "https://other.example/q", None),
            ("/", "mailto:a@b", None),
            ("/", "#top", None),
        ] {
            assert_eq!(origin.path_of(base, reference).as_deref(), path, "{base} {reference}");
        }
    }
}
