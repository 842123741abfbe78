//! Headers on their way in and out: what belongs to one connection stays there, what a browser should know is
//! added, what the app itself says wins.

use std::io::Write;
use std::net::IpAddr;

use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use klar_base::upstreams::{Csp, CspMode};

use crate::fields::{self, Fields};

/// Whether a header is of one connection only (RFC 9110 section 7.6.1), or one that nobody should forward.
pub fn is_hop_by_hop(name: &[u8]) -> bool {
    matches!(
        name,
        b"connection"
            | b"keep-alive"
            | b"proxy-connection"
            | b"proxy-authenticate"
            | b"proxy-authorization"
            | b"te"
            | b"trailer"
            | b"transfer-encoding"
            | b"upgrade"
    )
}

/// Whether only the edge may say this to an app: a visitor's word for it is not worth anything.
fn is_ours(name: &[u8]) -> bool {
    matches!(
        name,
        b"x-forwarded-for"
            | b"x-forwarded-host"
            | b"x-forwarded-proto"
            | b"x-request-id"
            // Which trace a request belongs to is said by its id; a stranger's would mix with those of others.
            | b"traceparent"
            | b"tracestate"
            | b"forwarded"
            | b"x-client-subject"
            // RFC 9440, which other proxies speak.
            | b"client-cert"
            | b"client-cert-chain"
            | b"x-forwarded-port"
            | b"x-forwarded-prefix"
            | b"x-forwarded-server"
            | b"x-real-ip"
            | b"klar-check"
    )
}

/// Whether a visitor's header goes on to the app. Where the body ends is said anew, and who waits to be told to send it
/// has been told.
pub fn is_for_app(name: &[u8]) -> bool {
    !is_hop_by_hop(name) && !is_ours(name) && !matches!(name, b"content-length" | b"expect")
}

/// Who asks.
pub const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
/// Which host was asked.
pub const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
/// Over what.
pub const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const PERMISSIONS: HeaderName = HeaderName::from_static("permissions-policy");
const OPENER: HeaderName = HeaderName::from_static("cross-origin-opener-policy");
/// Whose certificate the visitor has, for the app, on routes that want one.
pub const CLIENT_SUBJECT: HeaderName = HeaderName::from_static("x-client-subject");
/// Names a request in every answer, record and log line.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// The same for programs that follow a request (<https://www.w3.org/TR/trace-context/>).
pub const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
/// Makes a `POST` safe to repeat (draft-ietf-httpapi-idempotency-key-header).
pub const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// The headers that `Connection` names, which end where it ends.
pub fn named_by_connection(headers: &impl Fields) -> Vec<HeaderName> {
    headers
        .all(&header::CONNECTION)
        .filter_map(fields::text)
        .flat_map(|value| value.split(',').map(str::trim))
        .filter(|option| !is_usual_option(option.as_bytes()))
        .filter_map(|name| name.parse().ok())
        // Taken for connection headers these would change what the request means.
        .filter(|name| {
            ![header::HOST, header::CONTENT_LENGTH, header::COOKIE, header::AUTHORIZATION].contains(name)
        })
        .collect()
}

/// What nearly all that `Connection` says is: none of it is another header that would not go anyway.
pub fn is_usual_option(option: &[u8]) -> bool {
    let usual: &[u8] = match option.len() {
        10 => b"keep-alive",
        5 => b"close",
        7 => b"upgrade",
        _ => return false,
    };
    option.eq_ignore_ascii_case(usual)
}

/// An address in words.
#[derive(Debug, Clone, Copy)]
pub struct Address {
    text: [u8; ADDRESS_MAX],
    length: usize,
}

/// The longest: eight groups of IPv6, the last two in the words of IPv4.
const ADDRESS_MAX: usize = 45;

impl Address {
    /// The usual ones are written by hand: formatting costs more than all else here.
    pub fn of(address: IpAddr) -> Self {
        let (mut text, mut length) = ([b'.'; ADDRESS_MAX], 0);
        match address {
            IpAddr::V4(address) => {
                for (place, octet) in address.octets().into_iter().enumerate() {
                    // Behind the dot that is there already.
                    length += usize::from(place > 0);
                    for (digit, from) in [(octet / 100, 100), (octet / 10 % 10, 10), (octet % 10, 0)] {
                        if octet >= from {
                            text[length] = b'0' + digit;
                            length += 1;
                        }
                    }
                }
            }
            IpAddr::V6(address) => {
                let mut rest = &mut text[..];
                // There is room for any.
                let _ = write!(rest, "{address}");
                length = ADDRESS_MAX - rest.len();
            }
        }
        Self { text, length }
    }

    /// The words.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.text[..self.length]).unwrap_or_default()
    }
}

/// Makes the headers of an app's answer those that a visitor should get.
pub fn from_app(headers: &mut HeaderMap) {
    // What runs here is of use only to who attacks it.
    let unwanted = |name: &&HeaderName| !is_for_visitor(name.as_str().as_bytes());
    let mut found: Vec<HeaderName> = headers.keys().filter(unwanted).cloned().collect();
    if found.contains(&header::CONNECTION) {
        found.extend(named_by_connection(headers));
    }
    found.into_iter().for_each(|name| drop(headers.remove(name)));
}

/// Whether a header of an app's answer, its name in small letters, goes on to the visitor.
pub fn is_for_visitor(name: &[u8]) -> bool {
    !is_hop_by_hop(name) && !is_boast(name)
}

/// Whether a header says only what runs here.
pub fn is_boast(name: &[u8]) -> bool {
    matches!(name, b"server" | b"x-powered-by")
}

/// The same for its trailers, which must not say anew where the answer ends (RFC 9110 section 6.5.1).
pub fn from_app_last(trailers: &mut HeaderMap) {
    from_app(trailers);
    trailers.remove(header::CONTENT_LENGTH);
}

/// What tells a visitor that the same is served over HTTP/3, at a port of the same host, for a day (RFC 7838 section 3).
pub fn http3_at(port: u16) -> Option<HeaderValue> {
    HeaderValue::try_from(format!("h3=\":{port}\"; ma=86400")).ok()
}

/// Whether an answer is a stream of events, which comes for as long as it likes.
pub fn is_event_stream(headers: &impl Fields) -> bool {
    headers.first(&header::CONTENT_TYPE).is_some_and(|kind| kind.starts_with(b"text/event-stream"))
}

/// The media type that a message says of its body, with its parameters; empty where it says none.
pub fn media_type(headers: &impl Fields) -> &[u8] {
    headers.first(&header::CONTENT_TYPE).unwrap_or_default()
}

/// Whether a message is part of a call of gRPC.
pub fn is_grpc(headers: &impl Fields) -> bool {
    headers.first(&header::CONTENT_TYPE).is_some_and(|kind| kind.starts_with(b"application/grpc"))
}

/// The header that says which sources a page may load from; `None`: nothing is said.
pub fn policy(csp: &Csp) -> Option<(HeaderName, HeaderValue)> {
    let name = match csp.mode {
        CspMode::Off => return None,
        CspMode::Report => header::CONTENT_SECURITY_POLICY_REPORT_ONLY,
        CspMode::Enforce => header::CONTENT_SECURITY_POLICY,
    };
    Some((name, HeaderValue::try_from(&csp.policy).ok()?))
}

/// Adds what protects a visitor's browser, where the app says nothing itself. `policy`: as [`policy`] gives it.
pub fn protect(headers: &mut HeaderMap, policy: Option<&(HeaderName, HeaderValue)>, host: &str, https: bool) {
    for (name, value) in missing(headers, policy, host, https) {
        headers.insert(name, value);
    }
}

/// What [`protect`] adds to these headers.
pub fn missing(
    headers: &impl Fields,
    policy: Option<&(HeaderName, HeaderValue)>,
    host: &str,
    https: bool,
) -> Vec<(HeaderName, HeaderValue)> {
    let mut all = Vec::with_capacity(7);
    let mut add = |name: HeaderName, value: HeaderValue| {
        if !headers.has(&name) {
            all.push((name, value));
        }
    };
    // `localhost` is shared with everything else that a developer runs; HTTPS for all of that was not asked for.
    if https && host != "localhost" {
        add(header::STRICT_TRANSPORT_SECURITY, HeaderValue::from_static("max-age=31536000"));
    }
    add(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    add(header::X_FRAME_OPTIONS, HeaderValue::from_static("DENY"));
    add(header::REFERRER_POLICY, HeaderValue::from_static("strict-origin-when-cross-origin"));
    add(
        PERMISSIONS,
        HeaderValue::from_static("camera=(), geolocation=(), microphone=(), payment=(), usb=()"),
    );
    add(OPENER, HeaderValue::from_static("same-origin"));
    let has_one = headers.has(&header::CONTENT_SECURITY_POLICY)
        || headers.has(&header::CONTENT_SECURITY_POLICY_REPORT_ONLY);
    if let (false, Some((name, policy))) = (has_one, policy) {
        all.push((name.clone(), policy.clone()));
    }
    all
}

/// Whether an answer says something of what [`protect`] would add, or names the request.
pub fn says_own(headers: &HeaderMap) -> bool {
    headers.keys().any(|name| is_said_by_us(name.as_str().as_bytes()))
}

/// Whether a header, its name in small letters, is one that [`protect`] would add, or the request's name.
pub fn is_said_by_us(name: &[u8]) -> bool {
    matches!(
        name,
        b"strict-transport-security"
            | b"x-content-type-options"
            | b"x-frame-options"
            | b"referrer-policy"
            | b"permissions-policy"
            | b"cross-origin-opener-policy"
            | b"content-security-policy"
            | b"content-security-policy-report-only"
            | b"x-request-id"
    )
}

/// Headers as HTTP/1.1 writes them.
pub fn lines(headers: &HeaderMap) -> Bytes {
    let line = |(name, value): (&HeaderName, &HeaderValue)| {
        [name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"].concat()
    };
    headers.iter().flat_map(line).collect()
}

/// The value of a cookie of a request.
pub fn cookie<'a>(headers: &'a impl Fields, name: &str) -> Option<&'a str> {
    headers
        .all(&header::COOKIE)
        .filter_map(fields::text)
        .flat_map(|value| value.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
        .find_map(|(key, value)| (key == name).then_some(value))
}

#[cfg(test)]
mod fuzz;

#[cfg(test)]
mod tests {
    use super::*;

    fn map(lines: &[(&str, &str)]) -> HeaderMap {
        let pair = |(name, value): &(&str, &str)| {
            (name.parse::<HeaderName>().unwrap(), HeaderValue::from_str(value).unwrap())
        };
        lines.iter().map(pair).collect()
    }

    #[test]
    fn what_an_app_says_to_the_edge_alone_ends_here() {
        let mut headers = map(&[
            ("connection", "keep-alive, x-inner"),
            ("keep-alive", "timeout=5"),
            ("x-inner", "1"),
            ("server", "secret/1.0"),
            ("x-powered-by", "secret"),
            ("etag", "\"a\""),
        ]);
        from_app(&mut headers);
        assert_eq!(headers, map(&[("etag", "\"a\"")]));
    }

    #[test]
    fn the_app_has_the_last_word() {
        let mut headers =
            map(&[("x-frame-options", "SAMEORIGIN"), ("content-security-policy", "default-src *")]);
        let csp = Csp { mode: CspMode::Report, policy: "default-src 'self'".into() };
        protect(&mut headers, policy(&csp).as_ref(), "shop.example", true);
        assert_eq!(headers["x-frame-options"], "SAMEORIGIN");
        assert_eq!(headers["content-security-policy"], "default-src *");
        assert!(!headers.contains_key("content-security-policy-report-only"));
        assert_eq!(headers["strict-transport-security"], "max-age=31536000");
    }

    /// What is added must be known for what it is when an app says it itself.
    #[test]
    fn all_that_is_added_is_known() {
        let csp = |mode| policy(&Csp { mode, policy: "default-src 'self'".into() });
        for policy in [csp(CspMode::Enforce), csp(CspMode::Report)] {
            let mut added = HeaderMap::new();
            protect(&mut added, policy.as_ref(), "shop.example", true);
            added.insert(REQUEST_ID, HeaderValue::from_static("1"));
            for (name, value) in added {
                let name = name.unwrap();
                assert!(says_own(&HeaderMap::from_iter([(name.clone(), value)])), "{name}");
            }
        }
        assert!(!says_own(&map(&[("content-type", "text/html"), ("etag", "\"a\"")])));
    }

    #[test]
    fn addresses_are_written_as_they_are_read() {
        for octet in 0..=u8::MAX {
            for client in [[octet, 0, 10, 255], [127, 9, octet, octet]].map(IpAddr::from) {
                assert_eq!(Address::of(client).as_str(), client.to_string());
            }
        }
        for text in ["2001:db8::1", "::", "::ffff:255.255.255.255", "1111:2222:3333:4444:5555:6666:7777:8888"]
        {
            assert_eq!(Address::of(text.parse().unwrap()).as_str(), text);
        }
    }

    #[test]
    fn cookies_are_found() {
        let headers = map(&[("cookie", "a=1; b=2"), ("cookie", "c=3")]);
        assert_eq!(cookie(&headers, "b"), Some("2"));
        assert_eq!(cookie(&headers, "c"), Some("3"));
        assert_eq!(cookie(&headers, "d"), None);
    }
}
