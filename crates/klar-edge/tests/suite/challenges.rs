//! What a certificate authority finds: the text or the certificate that it came for, and nothing else.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::{Arc, Mutex};

use crate::common::{App, Edge, HOST};
use klar_base::Secret;
use klar_base::upstreams::Challenge;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, ClientConnection, DigitallySignedStruct, Error, SignatureScheme, StreamOwned};

/// Takes whatever certificate there is, and remembers it.
#[derive(Debug, Default)]
struct Anything(Mutex<Vec<u8>>);

impl ServerCertVerifier for Anything {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        *self.0.lock().unwrap() = leaf.to_vec();
        Ok(ServerCertVerified::assertion())
    }
    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }
    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }
    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        rustls::crypto::ring::default_provider().signature_verification_algorithms.supported_schemes()
    }
}

/// A request over TLS with these protocols: the certificate, the protocol that was agreed on, the answer.
fn over_tls(address: SocketAddr, name: &str, protocols: &[&str]) -> Option<(Vec<u8>, String, String)> {
    let seen = Arc::new(Anything::default());
    let mut config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(seen.clone())
        .with_no_client_auth();
    config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
    let session =
        ClientConnection::new(Arc::new(config), ServerName::try_from(name.to_owned()).unwrap()).unwrap();
    let mut stream = StreamOwned::new(session, TcpStream::connect(address).unwrap());
    stream.conn.complete_io(&mut stream.sock).ok()?;
    let agreed = String::from_utf8(stream.conn.alpn_protocol().unwrap_or_default().to_vec()).unwrap();
    // One that hangs up may do so before it has read this.
    let _ = write!(stream, "GET / HTTP/1.1\r\nhost: {name}\r\nconnection: close\r\n\r\n");
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    let leaf = seen.0.lock().unwrap().clone();
    Some((leaf, agreed, String::from_utf8_lossy(&answer).into_owned()))
}

fn http(token: &str) -> Challenge {
    Challenge::Http { host: HOST.into(), token: token.into(), answer: format!("{token}.print") }
}

fn tls() -> (Vec<u8>, Challenge) {
    let key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::new(vec![HOST.to_owned()]).unwrap();
    params.custom_extensions = vec![rcgen::CustomExtension::new_acme_identifier(&[7; 32])];
    let made = params.self_signed(&key).unwrap();
    let challenge = Challenge::Tls {
        host: HOST.into(),
        chain_pem: made.pem(),
        key_pem: Secret::new(key.serialize_pem()),
    };
    (made.der().to_vec(), challenge)
}

#[test]
fn a_text_is_answered_on_the_plain_port_only_while_it_is_told() {
    let app = App::named("web");
    let mut edge = Edge::with(&[&app], |edge| edge.config.challenges = vec![http("one")]);
    let ask = |edge: &Edge, host: &str, token: &str| {
        let mut visitor = edge.plain_visitor();
        visitor.send(format!("GET /.well-known/acme-challenge/{token} HTTP/1.1\r\nhost: {host}\r\n\r\n"));
        let answer = visitor.answer();
        (answer.status, answer.text())
    };
    assert_eq!(ask(&edge, HOST, "one"), (200, "one.print".into()));
    assert_eq!(ask(&edge, HOST, "two").0, 308, "nobody asked for this one");
    assert_eq!(ask(&edge, "elsewhere.test", "one").0, 404);
    // Over TLS the path is the app's.
    assert_eq!(
        edge.get("/.well-known/acme-challenge/one").text(),
        "web: GET /.well-known/acme-challenge/one"
    );

    edge.config.challenges.clear();
    edge.apply();
    assert_eq!(ask(&edge, HOST, "one").0, 308);
}

#[test]
fn a_challenge_certificate_is_for_those_who_say_so_and_nothing_follows() {
    let app = App::named("web");
    let (der, challenge) = tls();
    let mut edge = Edge::with(&[&app], |edge| edge.config.challenges = vec![challenge]);
    let address = edge.https;
    let (leaf, agreed, answer) = over_tls(address, HOST, &["acme-tls/1"]).unwrap();
    assert_eq!((leaf == der, agreed.as_str(), answer.as_str()), (true, "acme-tls/1", ""));
    // A name that nobody asks about.
    assert!(over_tls(address, "other.test", &["acme-tls/1"]).is_none());
    // Visitors never see it, whatever else they offer.
    for protocols in [&[][..], &["http/1.1"], &["http/1.1", "acme-tls/1"], &["acme-tls/1", "http/1.1"]] {
        let (leaf, _, answer) = over_tls(address, HOST, protocols).unwrap();
        assert!(leaf != der, "{protocols:?}");
        assert!(answer.starts_with("HTTP/1.1 200"), "{protocols:?}: {answer}");
    }

    edge.config.challenges.clear();
    edge.apply();
    assert!(over_tls(address, HOST, &["acme-tls/1"]).is_none(), "nothing is asked for any more");
}
