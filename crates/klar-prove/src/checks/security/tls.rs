//! The handshake, as browsers make it and as old ones did.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::time_provider::TimeProvider;
use rustls::{ClientConfig, RootCertStore};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use crate::check::{About, Disturbs, Fault, Finding, Need, Probe, Unable};
use crate::words;
use crate::words::Words;
use crate::world::World;
use crate::world::http::{Client, Origin};

/// TLS on the front door.
pub struct Tls;

/// What the handshakes gave.
#[derive(Debug, Serialize, Deserialize)]
pub struct Seen {
    /// Versions that were tried, and whether each was accepted.
    versions: Vec<(String, bool)>,
    /// Why the certificate is not good today; `None` when it is.
    certificate: Option<String>,
    /// Why it is not good in 21 days.
    in_21_days: Option<String>,
    /// What plain HTTP answers: status and where it sends one.
    plain: Option<(u16, String)>,
    /// Why nothing answers plain HTTP.
    plain_silent: Option<String>,
    hsts: Option<String>,
    tls: bool,
    /// Whether the name is one that must not be pinned to HTTPS: see [`Origin::is_local`].
    #[serde(default)]
    local: bool,
}

const WHEN: u64 = 21 * 24 * 3600;

impl Probe for Tls {
    type Seen = Seen;

    const ABOUT: About = About {
        id: "tls",
        version: 1,
        question: "Is all traffic encrypted, with versions and a certificate that hold?",
        does: "Makes a handshake with each version from TLS 1.0 to 1.3, verifies the certificate as of today and as of in 21 days, and asks the plain port.",
        shows: &[
            ("edge.tls", "versions"),
            ("edge.tls", "certificate"),
            ("edge.tls", "redirect"),
            ("edge.tls", "hsts"),
        ],
        needs: &[Need::Site],
        disturbs: Disturbs::Nothing,
        good_for: Duration::from_secs(24 * 3600),
        limit: Duration::from_secs(30),
        faults: &[
            Fault::Foil("old-tls", ("edge.tls", "versions")),
            Fault::Foil("wrong-name", ("edge.tls", "certificate")),
            Fault::Foil("certificate-ends-soon", ("edge.tls", "certificate")),
            Fault::Foil("no-redirect", ("edge.tls", "redirect")),
            Fault::Foil("no-hsts", ("edge.tls", "hsts")),
        ],
    };

    async fn look(world: Rc<World>) -> Result<Seen, Unable> {
        let site = world.site()?;
        let tls = site.origin().tls;
        let mut seen = Seen {
            versions: Vec::new(),
            certificate: None,
            in_21_days: None,
            plain: None,
            plain_silent: None,
            hsts: None,
            tls,
            local: site.origin().is_local(),
        };
        if !tls {
            return Ok(seen);
        }
        for (name, minor) in [("TLS 1.0", 1), ("TLS 1.1", 2)] {
            seen.versions.push((name.to_owned(), old_handshake(site, minor).await));
        }
        for (name, version) in [("TLS 1.2", &rustls::version::TLS12), ("TLS 1.3", &rustls::version::TLS13)] {
            let handshake = handshake(site, &[version], world.authority.as_deref(), 0, false).await;
            seen.versions.push((name.to_owned(), handshake.is_ok()));
        }
        let both = [&rustls::version::TLS13, &rustls::version::TLS12];
        seen.certificate = handshake(site, &both, world.authority.as_deref(), 0, true).await.err();
        seen.in_21_days = handshake(site, &both, world.authority.as_deref(), WHEN, true).await.err();
        let front = world.ask(crate::world::http::Ask::get("/")).await;
        seen.hsts =
            front.ok().and_then(|answer| answer.header("strict-transport-security").map(str::to_owned));
        let plain =
            world.plain.clone().unwrap_or_else(|| Origin { tls: false, port: 80, ..site.origin().clone() });
        let mut plain = Client::new(plain);
        if let Some(address) = world.plain_address {
            plain = plain.at(address);
        }
        match plain.get("/").await {
            Ok(answer) => {
                let to = answer.header("location").unwrap_or_default().chars().take(300).collect();
                seen.plain = Some((answer.status.as_u16(), to));
            }
            Err(why) => seen.plain_silent = Some(why.to_string()),
        }
        Ok(seen)
    }

    fn judge(seen: &Seen) -> Vec<Finding> {
        let place = |part| ("edge.tls", part);
        if !seen.tls {
            let bare = words!("served without TLS", "serveres uten TLS", "serveras utan TLS");
            return ["versions", "certificate", "redirect", "hsts"]
                .map(|part| Finding::broken(place(part), bare.clone()))
                .into();
        }
        let list: Vec<String> = seen
            .versions
            .iter()
            .map(|(name, accepted)| format!("{name} {}", if *accepted { "✓" } else { "✗" }))
            .collect();
        let right = seen.versions.iter().all(|(name, accepted)| *accepted == (name.as_str() >= "TLS 1.2"));
        let certificate = match (&seen.certificate, &seen.in_21_days) {
            (None, None) => Finding::held(
                place("certificate"),
                words!(
                    "chain, name and date hold, in 21 days too",
                    "kjede, navn og dato holder, om 21 dager også",
                    "kedja, namn och datum håller, om 21 dagar också"
                ),
            ),
            (Some(why), _) => Finding::broken(place("certificate"), Words::same(why.clone())),
            (None, Some(why)) => Finding::broken(
                place("certificate"),
                words!(
                    "not good any more in 21 days: {why}",
                    "ikke gyldig lenger om 21 dager: {why}",
                    "inte giltigt längre om 21 dagar: {why}"
                ),
            ),
        };
        let redirect = match (&seen.plain, &seen.plain_silent) {
            (Some((status, to)), _) => Finding::when(
                matches!(status, 301 | 308) && to.starts_with("https://"),
                place("redirect"),
                words!(
                    "plain HTTP answers {status} {to}",
                    "vanlig HTTP svarer {status} {to}",
                    "vanlig HTTP svarar {status} {to}"
                ),
            ),
            (None, why) => {
                let why = why.as_deref().unwrap_or("-");
                Finding::unseen(
                    place("redirect"),
                    words!(
                        "nothing on the plain port: {why}",
                        "ingenting på den vanlige porten: {why}",
                        "inget på den vanliga porten: {why}"
                    ),
                )
            }
        };
        let value = seen.hsts.as_deref().unwrap_or("-");
        vec![
            Finding::when(right, place("versions"), Words::same(list.join(", "))),
            certificate,
            redirect,
            if seen.local {
                Finding::inapplicable(place("hsts"), not_on_localhost())
            } else {
                let words = Words::same(format!("Strict-Transport-Security: {value}"));
                Finding::when(
                    seen.hsts.as_deref().is_some_and(|value| super::headers::max_age(value) > 0),
                    place("hsts"),
                    words,
                )
            },
        ]
    }
}

/// Why nobody asks for HSTS here.
pub(super) fn not_on_localhost() -> Words {
    words!(
        "not asked of localhost, where it would shut out every other app of this machine",
        "kreves ikke av localhost, der det ville stenge ute alle andre apper på maskinen",
        "krävs inte av localhost, där det skulle stänga ute alla andra appar på maskinen"
    )
}

/// Whether the server goes on after a ClientHello that ends at this version (RFC 5246, appendix E).
async fn old_handshake(site: &Client, minor: u8) -> bool {
    let Ok(mut stream) = site.tcp().await else { return false };
    let hello = client_hello(minor, &site.origin().host);
    let answer = async {
        stream.write_all(&hello).await.ok()?;
        let mut record = [0; 11];
        stream.read_exact(&mut record).await.ok()?;
        Some(record)
    };
    // A handshake record with a ServerHello of just this version; anything else is a refusal.
    matches!(
        timeout(Duration::from_secs(5), answer).await,
        Ok(Some([22, 3, _, _, _, 2, _, _, _, 3, version])) if version == minor
    )
}

fn client_hello(minor: u8, host: &str) -> Vec<u8> {
    let sized = |bytes: Vec<u8>| {
        let mut out = (bytes.len() as u16).to_be_bytes().to_vec();
        out.extend(bytes);
        out
    };
    let mut body = vec![3, minor];
    body.extend((0..32).map(|_| fastrand::u8(..)));
    body.push(0);
    // What servers of that time had: ECDHE and RSA with AES-CBC, 3DES last.
    let suites = [0xc0_0a_u16, 0xc0_14, 0xc0_09, 0xc0_13, 0x00_35, 0x00_2f, 0x00_0a];
    body.extend(sized(suites.iter().flat_map(|suite| suite.to_be_bytes()).collect()));
    body.extend([1, 0]);
    let mut name = vec![0];
    name.extend(sized(host.as_bytes().to_vec()));
    let mut extensions = vec![0, 0];
    extensions.extend(sized(sized(name)));
    extensions.extend([0, 10, 0, 6, 0, 4, 0, 23, 0, 24]); // secp256r1, secp384r1
    extensions.extend([0, 11, 0, 2, 1, 0]); // uncompressed points
    body.extend(sized(extensions));
    let mut message = vec![1, 0];
    message.extend(sized(body));
    let mut record = vec![22, 3, 1];
    record.extend(sized(message));
    record
}

/// A clock that is ahead.
#[derive(Debug)]
struct Ahead(u64);

impl TimeProvider for Ahead {
    fn current_time(&self) -> Option<UnixTime> {
        let now = UnixTime::now().as_secs();
        Some(UnixTime::since_unix_epoch(Duration::from_secs(now + self.0)))
    }
}

async fn handshake(
    site: &Client,
    versions: &[&'static rustls::SupportedProtocolVersion],
    authority: Option<&[u8]>,
    ahead: u64,
    believe: bool,
) -> Result<(), String> {
    if !believe {
        return site.handshake(versions).await;
    }
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(system_roots());
    if let Some(authority) = authority {
        roots.add(CertificateDer::from(authority.to_vec())).map_err(|why| why.to_string())?;
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_details(provider, Arc::new(Ahead(ahead)))
        .with_protocol_versions(versions)
        .map_err(|why| why.to_string())?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = ServerName::try_from(site.origin().host.trim_matches(['[', ']']).to_owned())
        .map_err(|why| why.to_string())?;
    let tcp = site.tcp().await.map_err(|why| why.to_string())?;
    let connecting = TlsConnector::from(Arc::new(config)).connect(name, tcp);
    match timeout(Duration::from_secs(5), connecting).await {
        Err(_) => Err("no handshake within 5 s".to_owned()),
        Ok(Err(why)) => Err(why.to_string()),
        Ok(Ok(_)) => Ok(()),
    }
}

/// The authorities this machine trusts: Debian's bundle, or none.
fn system_roots() -> Vec<CertificateDer<'static>> {
    use rustls::pki_types::pem::PemObject;
    ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem"]
        .into_iter()
        .find_map(|path| CertificateDer::pem_file_iter(path).ok())
        .map(|certificates| certificates.filter_map(Result::ok).collect())
        .unwrap_or_default()
}
