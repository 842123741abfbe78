//! Headers on their way in and out: what belongs to one connection stays there, what a browser should know is
//! added, what the app itself says wins.

use std::net::IpAddr;

use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use klar_base::upstreams::{Csp, CspMode};

/// Headers of one connection only (RFC 9110 section 7.6.1), and some that nobody should forward.
const HOP_BY_HOP: [HeaderName; 9] = [
    header::CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];

/// What only the edge may say to an app: a visitor's word for these is not worth anything.
const OURS: [HeaderName; 12] = [
    FORWARDED_FOR,
    FORWARDED_HOST,
    FORWARDED_PROTO,
    REQUEST_ID,
    header::FORWARDED,
    CLIENT_SUBJECT,
    // RFC 9440, which other proxies speak.
    HeaderName::from_static("client-cert"),
    HeaderName::from_static("client-cert-chain"),
    HeaderName::from_static("x-forwarded-port"),
    HeaderName::from_static("x-forwarded-prefix"),
    HeaderName::from_static("x-forwarded-server"),
    HeaderName::from_static("x-real-ip"),
];

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const POWERED_BY: HeaderName = HeaderName::from_static("x-powered-by");
const PERMISSIONS: HeaderName = HeaderName::from_static("permissions-policy");
const OPENER: HeaderName = HeaderName::from_static("cross-origin-opener-policy");
/// Whose certificate the visitor has, for the app, on routes that want one.
pub const CLIENT_SUBJECT: HeaderName = HeaderName::from_static("x-client-subject");
/// Names a request in every answer, record and log line.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// Makes a `POST` safe to repeat (draft-ietf-httpapi-idempotency-key-header).
pub const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// Takes out what `Connection` names.
fn strip_named(headers: &mut HeaderMap) {
    // What nearly all of them name is none of the message's other headers, or goes anyway.
    const USUAL: [&str; 3] = ["keep-alive", "close", "upgrade"];
    if headers.contains_key(header::CONNECTION) {
        let named: Vec<HeaderName> = headers
            .get_all(header::CONNECTION)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(',').map(str::trim))
            .filter(|name| !USUAL.iter().any(|usual| name.eq_ignore_ascii_case(usual)))
            .filter_map(|name| name.parse().ok())
            // Taken for connection headers these would change what the request means.
            .filter(|name| {
                ![header::HOST, header::CONTENT_LENGTH, header::COOKIE, header::AUTHORIZATION].contains(name)
            })
            .collect();
        named.into_iter().for_each(|name| drop(headers.remove(name)));
    }
}

/// Takes out what is named. Most messages have little of it: to look at each header once costs less than to look for
/// each name.
fn take_out(headers: &mut HeaderMap, unwanted: impl Fn(&HeaderName) -> bool) {
    let found: Vec<HeaderName> = headers.keys().filter(|name| unwanted(name)).cloned().collect();
    found.into_iter().for_each(|name| drop(headers.remove(name)));
}

/// Makes the headers of a request those that an app should get.
pub fn to_app(headers: &mut HeaderMap, client: IpAddr, https: bool, request_id: &str) {
    strip_named(headers);
    take_out(headers, |name| HOP_BY_HOP.contains(name) || OURS.contains(name) || *name == header::EXPECT);
    headers.reserve(4);
    if let Some(value) = address(client.to_canonical()) {
        headers.insert(FORWARDED_FOR, value);
    }
    if let Some(host) = headers.get(header::HOST).cloned() {
        headers.insert(FORWARDED_HOST, host);
    }
    headers.insert(FORWARDED_PROTO, HeaderValue::from_static(if https { "https" } else { "http" }));
    if let Ok(value) = HeaderValue::try_from(request_id) {
        headers.insert(REQUEST_ID, value);
    }
}

/// An address as a header says it. The usual ones are written by hand: formatting costs more than all else here.
fn address(client: IpAddr) -> Option<HeaderValue> {
    let IpAddr::V4(client) = client else { return HeaderValue::try_from(client.to_string()).ok() };
    let (mut text, mut length) = ([b'.'; 15], 0);
    for (place, octet) in client.octets().into_iter().enumerate() {
        // Behind the dot that is there already.
        length += usize::from(place > 0);
        for (digit, from) in [(octet / 100, 100), (octet / 10 % 10, 10), (octet % 10, 0)] {
            if octet >= from {
                text[length] = b'0' + digit;
                length += 1;
            }
        }
    }
    HeaderValue::from_bytes(&text[..length]).ok()
}

/// Makes the headers of an app's answer those that a visitor should get.
pub fn from_app(headers: &mut HeaderMap) {
    strip_named(headers);
    // What runs here is of use only to who attacks it.
    let tells = |name: &HeaderName| *name == header::SERVER || *name == POWERED_BY;
    take_out(headers, |name| HOP_BY_HOP.contains(name) || tells(name));
}

/// The same for its trailers, which must not say anew where the answer ends (RFC 9110 section 6.5.1).
pub fn from_app_last(trailers: &mut HeaderMap) {
    from_app(trailers);
    trailers.remove(header::CONTENT_LENGTH);
}

/// Whether a message is part of a call of gRPC.
pub fn is_grpc(headers: &HeaderMap) -> bool {
    headers.get(header::CONTENT_TYPE).is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc"))
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
    // A map that grows once is cheaper than one that grows with each.
    headers.reserve(8);
    let mut add = |name: HeaderName, value: HeaderValue| {
        headers.entry(name).or_insert(value);
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
    let has_one = headers.contains_key(header::CONTENT_SECURITY_POLICY)
        || headers.contains_key(header::CONTENT_SECURITY_POLICY_REPORT_ONLY);
    if let (false, Some((name, policy))) = (has_one, policy) {
        headers.insert(name, policy.clone());
    }
}

/// The value of a cookie of a request.
pub fn cookie<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers
        .get_all(header::COOKIE)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
        .find_map(|(key, value)| (key == name).then_some(value))
}

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
    fn a_visitor_cannot_speak_for_the_edge() {
        let mut headers = map(&[
            ("host", "shop.example"),
            ("connection", "close, x-secret, Host"),
            ("x-secret", "1"),
            ("x-forwarded-for", "6.6.6.6"),
            ("forwarded", "for=6.6.6.6"),
            ("x-request-id", "mine"),
            ("x-client-subject", "CN=root"),
            ("client-cert", ":AAAA:"),
            ("te", "trailers"),
            ("accept", "*/*"),
        ]);
        to_app(&mut headers, "::ffff:10.0.0.1".parse().unwrap(), true, "abc");
        let wanted = map(&[
            ("host", "shop.example"),
            ("accept", "*/*"),
            ("x-forwarded-for", "10.0.0.1"),
            ("x-forwarded-host", "shop.example"),
            ("x-forwarded-proto", "https"),
            ("x-request-id", "abc"),
        ]);
        assert_eq!(headers, wanted);
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

    #[test]
    fn addresses_are_written_as_they_are_read() {
        for octet in 0..=u8::MAX {
            for client in [[octet, 0, 10, 255], [127, 9, octet, octet]].map(IpAddr::from) {
                assert_eq!(address(client).unwrap(), client.to_string());
            }
        }
        let client: IpAddr = "2001:db8::1".parse().unwrap();
        assert_eq!(address(client).unwrap(), "2001:db8::1");
    }

    #[test]
    fn cookies_are_found() {
        let headers = map(&[("cookie", "a=1; b=2"), ("cookie", "c=3")]);
        assert_eq!(cookie(&headers, "b"), Some("2"));
        assert_eq!(cookie(&headers, "c"), Some("3"));
        assert_eq!(cookie(&headers, "d"), None);
    }
}
