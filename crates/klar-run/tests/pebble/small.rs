//! An authority of a few lines, which says what the real one will not say in a test.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::path::Path;
use std::sync::Arc;

/// Answers requests for a path, given the address of the authority itself, with a whole answer. Its own certificate is
/// of an authority that it makes in `root`, as `authority.pem`.
pub fn small_authority(root: &Path, answer: impl Fn(&str, &str) -> String + Send + 'static) -> u16 {
    use rustls_pki_types::pem::PemObject;
    use rustls_pki_types::{CertificateDer, PrivateKeyDer};
    let own = klar_run::certs::Authority::open(root).unwrap().certificate("localhost").unwrap();
    let chain =
        CertificateDer::pem_slice_iter(own.chain_pem.as_bytes()).collect::<Result<Vec<_>, _>>().unwrap();
    let key = PrivateKeyDer::from_pem_slice(own.key_pem.expose().as_bytes()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let config = Arc::new(config);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let session = rustls::ServerConnection::new(config.clone()).unwrap();
            let mut stream = BufReader::new(rustls::StreamOwned::new(session, stream.unwrap()));
            let (mut head, mut length) = (String::new(), 0);
            while stream.read_line(&mut head).is_ok_and(|read| read > 2) {
                let line = head.lines().last().unwrap().to_ascii_lowercase();
                length = line.strip_prefix("content-length: ").map_or(length, |text| text.parse().unwrap());
            }
            let mut body = vec![0; length];
            std::io::Read::read_exact(&mut stream, &mut body).unwrap();
            let path = head.split(' ').nth(1).unwrap_or_default();
            let base = format!("https://localhost:{port}");
            let _ = stream.get_mut().write_all(answer(path, &base).as_bytes());
            stream.get_mut().conn.send_close_notify();
            let _ = stream.get_mut().flush();
        }
    });
    port
}

pub fn http(status: &str, headers: &str, body: &str) -> String {
    let length = body.len();
    format!(
        "HTTP/1.1 {status}\r\nreplay-nonce: n0\r\n{headers}content-length: {length}\r\nconnection: close\r\n\r\n{body}"
    )
}

pub fn directory(base: &str) -> String {
    let all = serde_json::json!({
        "newNonce": format!("{base}/nonce"), "newAccount": format!("{base}/account"),
        "newOrder": format!("{base}/order"), "renewalInfo": format!("{base}/info"),
        "revokeCert": format!("{base}/revoke"), "keyChange": format!("{base}/key"),
    });
    http("200 OK", "", &all.to_string())
}

pub fn account_made(base: &str) -> String {
    http("201 Created", &format!("location: {base}/account/1\r\n"), r#"{"status":"valid"}"#)
}
