//! Does this request of HTTP/2 or HTTP/3 mean one thing only, and the same to an app that speaks HTTP/1.1? (RFC 9113
//! sections 8.2, 8.3 and 10.3; RFC 9114 sections 4.2, 4.3 and 10.3.)
//!
//! The HTTP library refuses with a reset what is malformed in itself: pseudo-header fields that are missing, twice
//! or out of place, names in capitals, values with CR, LF or NUL, fields that belong to a connection, a body that
//! is not as long as it says. What is left is judged here as `framing.rs` judges a head of HTTP/1.1, and made the
//! same: one `host`, one `cookie`, a path, and for a WebSocket (RFC 8441) the `GET` that an app expects.

use std::time::Instant;

use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, Request};
use hyper::ext::Protocol;

use crate::framing::{HEADERS_MAX, Refusal, TARGET_MAX, decimal, judge_host};
use crate::guard::HeadNote;

const WEBSOCKET_KEY: HeaderName = HeaderName::from_static("sec-websocket-key");
/// Fields that belong to a connection (RFC 9113 section 8.2.2).
pub const OF_CONNECTIONS: [HeaderName; 5] = [
    header::CONNECTION,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
];

/// Judges a request, and makes it one that could have come over HTTP/1.1.
pub fn judge<B>(request: &mut Request<B>) -> HeadNote {
    let begun = Instant::now();
    let length = length(request);
    let (refusal, upgrade) = match translate(request) {
        Ok(upgrade) => (None, upgrade),
        Err(refusal) => (Some(refusal), false),
    };
    HeadNote { begun, length, refusal, upgrade }
}

/// What the head would take in HTTP/1.1, in bytes.
fn length<B>(request: &Request<B>) -> usize {
    let uri = request.uri();
    let fields = request.headers().iter().map(|(name, value)| name.as_str().len() + value.len() + 4);
    let target = uri.path_and_query().map_or(0, |path| path.as_str().len());
    let host = uri.authority().map_or(0, |host| host.as_str().len());
    fields.sum::<usize>() + request.method().as_str().len() + target + host
}

/// Whether it asks for a WebSocket.
fn translate<B>(request: &mut Request<B>) -> Result<bool, Refusal> {
    if request.headers().len() > HEADERS_MAX {
        return Err(Refusal::Large);
    }
    let protocol = request.extensions_mut().remove::<Protocol>();
    let tunnel = match (request.method(), &protocol) {
        (&Method::CONNECT, Some(protocol)) if protocol.as_str() == "websocket" => true,
        (&Method::CONNECT, Some(_)) => return Err(Refusal::Unknown("a tunnel other than a WebSocket")),
        (method, _) if matches!(method.as_str(), "CONNECT" | "TRACE" | "TRACK") => {
            return Err(Refusal::Method);
        }
        _ => false,
    };
    let uri = request.uri();
    if uri.scheme_str().is_some_and(|scheme| scheme != "https") {
        return Err(Refusal::Bad("a `:scheme` other than `https`"));
    }
    let path = uri.path_and_query().map_or("", |path| path.as_str());
    if path.len() > TARGET_MAX {
        return Err(Refusal::LongTarget);
    }
    if !path.starts_with('/') {
        return Err(Refusal::Bad("`:path` is not a path"));
    }
    let host = one_host(request)?;
    judge_fields(request.headers(), tunnel)?;

    let headers = request.headers_mut();
    headers.insert(header::HOST, host);
    join_cookies(headers)?;
    if tunnel {
        headers.insert(WEBSOCKET_KEY, websocket_key());
        *request.method_mut() = Method::GET;
    }
    Ok(tunnel)
}

/// `:authority`, or `host` where there is none; if there are both they say the same (RFC 9113 section 8.3.1).
fn one_host<B>(request: &Request<B>) -> Result<HeaderValue, Refusal> {
    let mut fields = request.headers().get_all(header::HOST).iter();
    let field = fields.next();
    if fields.next().is_some() {
        return Err(Refusal::Bad("two Host headers"));
    }
    let authority = request.uri().authority().map(|authority| authority.as_str().as_bytes());
    let host = match (authority, field.map(HeaderValue::as_bytes)) {
        (Some(authority), Some(field)) if !authority.eq_ignore_ascii_case(field) => {
            return Err(Refusal::Bad("`:authority` names another host than Host does"));
        }
        (Some(host), _) | (None, Some(host)) => host,
        (None, None) => return Err(Refusal::Bad("neither `:authority` nor Host")),
    };
    judge_host(Some(host), "/", true)?;
    HeaderValue::from_bytes(host).map_err(|_| Refusal::Bad("Host is not a host name"))
}

fn judge_fields(headers: &HeaderMap, tunnel: bool) -> Result<(), Refusal> {
    if OF_CONNECTIONS.iter().any(|name| headers.contains_key(name)) {
        return Err(Refusal::Bad("a header that belongs to a connection"));
    }
    if headers.get_all(header::TE).iter().any(|value| value != "trailers") {
        return Err(Refusal::Bad("TE other than `trailers`"));
    }
    let mut lengths = headers.get_all(header::CONTENT_LENGTH).iter();
    if let Some(length) = lengths.next() {
        if lengths.next().is_some() {
            return Err(Refusal::Bad("two Content-Length headers"));
        }
        if decimal(length.as_bytes()).is_none() || tunnel {
            return Err(Refusal::Bad("Content-Length is not a number that makes sense"));
        }
    }
    let is_blank = |byte: Option<&u8>| matches!(byte, Some(b' ' | b'\t'));
    // RFC 9113 section 8.2.1; HTTP/1.1 would cut them off.
    if headers.values().any(|value| is_blank(value.as_bytes().first()) || is_blank(value.as_bytes().last())) {
        return Err(Refusal::Bad("a header whose value begins or ends with a blank"));
    }
    Ok(())
}

/// RFC 9113 section 8.2.3: crumbs become one header before somebody sees them who does not know of crumbs.
fn join_cookies(headers: &mut HeaderMap) -> Result<(), Refusal> {
    if headers.get_all(header::COOKIE).iter().nth(1).is_none() {
        return Ok(());
    }
    let crumbs: Vec<&[u8]> = headers.get_all(header::COOKIE).iter().map(HeaderValue::as_bytes).collect();
    let joined = HeaderValue::from_bytes(&crumbs.join(&b"; "[..]))
        .map_err(|_| Refusal::Bad("a header has no valid value"))?;
    headers.insert(header::COOKIE, joined);
    Ok(())
}

/// What a WebSocket over HTTP/2 has none of and one over HTTP/1.1 needs: 16 bytes of chance in base64 (RFC 6455
/// section 4.1, RFC 8441 section 5).
fn websocket_key() -> HeaderValue {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    // 128 bits, and 4 zeros to fill up the last of 22 digits.
    let chance = fastrand::u128(..);
    let digit = |place: u32| {
        let bits = if place < 21 { chance >> (122 - 6 * place) } else { chance << 4 };
        DIGITS[(bits & 63) as usize]
    };
    let mut key: Vec<u8> = (0..22).map(digit).collect();
    key.extend(b"==");
    HeaderValue::from_bytes(&key).unwrap_or(HeaderValue::from_static("AAAAAAAAAAAAAAAAAAAAAA=="))
}

#[cfg(test)]
mod fuzz;

#[cfg(test)]
mod tests {
    use super::*;

    fn request(method: &str, uri: &str, fields: &[(&str, &str)]) -> Request<()> {
        let mut request = Request::builder().method(method).uri(uri);
        for (name, value) in fields {
            request = request.header(*name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
        }
        request.body(()).unwrap()
    }

    fn judged(method: &str, uri: &str, fields: &[(&str, &str)]) -> Option<Refusal> {
        judge(&mut request(method, uri, fields)).refusal
    }

    #[test]
    fn doubtful_requests() {
        for (what, method, uri, fields) in [
            ("no host", "GET", "/", &[][..]),
            ("two hosts", "GET", "/", &[("host", "a"), ("host", "a")]),
            ("another host", "GET", "https://a/", &[("host", "b")]),
            ("another port", "GET", "https://a/", &[("host", "a:443")]),
            ("a user", "GET", "https://me@a/", &[]),
            ("a host that is none", "GET", "/", &[("host", "a/b")]),
            ("plain HTTP", "GET", "http://a/", &[]),
            ("another scheme", "GET", "ftp://a/", &[]),
            ("a star", "OPTIONS", "*", &[("host", "a")]),
            ("connection", "GET", "https://a/", &[("connection", "close")]),
            ("transfer-encoding", "POST", "https://a/", &[("transfer-encoding", "chunked")]),
            ("upgrade", "GET", "https://a/", &[("upgrade", "websocket")]),
            ("keep-alive", "GET", "https://a/", &[("keep-alive", "1")]),
            ("proxy-connection", "GET", "https://a/", &[("proxy-connection", "keep-alive")]),
            ("te", "GET", "https://a/", &[("te", "trailers, deflate")]),
            ("two lengths", "POST", "https://a/", &[("content-length", "1"), ("content-length", "1")]),
            ("a signed length", "POST", "https://a/", &[("content-length", "+1")]),
            ("a list of lengths", "POST", "https://a/", &[("content-length", "1, 1")]),
            ("a blank first", "GET", "https://a/", &[("x", " y")]),
            ("a blank last", "GET", "https://a/", &[("x", "y\t")]),
        ] {
            let refusal = judged(method, uri, fields);
            assert!(matches!(refusal, Some(Refusal::Bad(_))), "{what}: {refusal:?}");
        }
        assert_eq!(judged("TRACE", "https://a/", &[]), Some(Refusal::Method));
        assert_eq!(judged("CONNECT", "a:443", &[]), Some(Refusal::Method));
        let many = vec![("x", "y"); HEADERS_MAX + 1];
        assert_eq!(judged("GET", "https://a/", &many), Some(Refusal::Large));
        let long = format!("https://a/{}", "x".repeat(TARGET_MAX));
        assert_eq!(judged("GET", &long, &[]), Some(Refusal::LongTarget));
    }

    #[test]
    fn good_requests_are_made_the_same() {
        for (uri, fields) in [
            ("https://a:8443/b?c", &[][..]),
            ("/b?c", &[("host", "a:8443")]),
            ("https://a:8443/b?c", &[("host", "A:8443")]),
        ] {
            let mut request = request("POST", uri, fields);
            let note = judge(&mut request);
            assert_eq!((note.refusal, note.upgrade), (None, false), "{uri}");
            assert_eq!(request.headers()["host"], "a:8443");
            assert_eq!(request.uri().path(), "/b");
        }
        let crumbs = [("cookie", "a=1"), ("te", "trailers"), ("cookie", "b=2; c=3"), ("content-length", "0")];
        let mut request = request("GET", "https://a/", &crumbs);
        assert_eq!(judge(&mut request).refusal, None);
        let cookies: Vec<_> = request.headers().get_all("cookie").iter().collect();
        assert_eq!(cookies, ["a=1; b=2; c=3"]);
    }

    #[test]
    fn the_length_is_that_of_a_head() {
        let mut request = request("GET", "https://shop.test/path?query", &[("name", "value")]);
        let fields = "GET".len() + "/path?query".len() + "shop.test".len() + "name: value\r\n".len();
        assert_eq!(judge(&mut request).length, fields);
    }

    #[test]
    fn a_websocket_becomes_a_get() {
        let mut ask = request("CONNECT", "https://a/ws", &[("sec-websocket-version", "13")]);
        ask.extensions_mut().insert(Protocol::from_static("websocket"));
        let note = judge(&mut ask);
        assert_eq!((note.refusal, note.upgrade), (None, true));
        assert_eq!((ask.method(), ask.uri().path()), (&Method::GET, "/ws"));
        let key = ask.headers()["sec-websocket-key"].to_str().unwrap();
        assert!(key.len() == 24 && key.ends_with("=="), "{key}");
        assert!("AQgw".contains(&key[21..22]), "{key}: the last digit has 2 bits");

        let mut other = request("CONNECT", "https://a/", &[]);
        other.extensions_mut().insert(Protocol::from_static("connect-udp"));
        assert!(matches!(judge(&mut other).refusal, Some(Refusal::Unknown(_))));
    }
}
