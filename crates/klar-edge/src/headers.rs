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

/// Takes out what belongs to the connection, also what `Connection` names.
pub fn strip_hop_by_hop(headers: &mut HeaderMap) {
    if headers.contains_key(header::CONNECTION) {
        let named: Vec<HeaderName> = headers
            .get_all(header::CONNECTION)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .filter_map(|name| name.trim().parse().ok())
            // Taken for connection headers these would change what the request means.
            .filter(|name| {
                ![header::HOST, header::CONTENT_LENGTH, header::COOKIE, header::AUTHORIZATION].contains(name)
            })
            .collect();
        named.into_iter().for_each(|name| drop(headers.remove(name)));
    }
    HOP_BY_HOP.iter().for_each(|name| drop(headers.remove(name)));
}

/// Makes the headers of a request those that an app should get.
pub fn to_app(headers: &mut HeaderMap, client: IpAddr, https: bool, request_id: &str) {
    strip_hop_by_hop(headers);
    OURS.iter().for_each(|name| drop(headers.remove(name)));
    headers.remove(header::EXPECT);
    if let Ok(value) = HeaderValue::try_from(client.to_canonical().to_string()) {
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

/// Makes the headers of an app's answer those that a visitor should get.
pub fn from_app(headers: &mut HeaderMap) {
    strip_hop_by_hop(headers);
    // What runs here is of use only to who attacks it.
    headers.remove(header::SERVER);
    headers.remove(POWERED_BY);
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

/// Adds what protects a visitor's browser, where the app says nothing itself.
pub fn protect(headers: &mut HeaderMap, csp: &Csp, host: &str, https: bool) {
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
    let name = match csp.mode {
        CspMode::Off => return,
        CspMode::Report => header::CONTENT_SECURITY_POLICY_REPORT_ONLY,
        CspMode::Enforce => header::CONTENT_SECURITY_POLICY,
    };
    let has_one = headers.contains_key(header::CONTENT_SECURITY_POLICY)
        || headers.contains_key(header::CONTENT_SECURITY_POLICY_REPORT_ONLY);
    if let (false, Ok(policy)) = (has_one, HeaderValue::try_from(&csp.policy)) {
        headers.insert(name, policy);
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
        protect(&mut headers, &csp, "shop.example", true);
        assert_eq!(headers["x-frame-options"], "SAMEORIGIN");
        assert_eq!(headers["content-security-policy"], "default-src *");
        assert!(!headers.contains_key("content-security-policy-report-only"));
        assert_eq!(headers["strict-transport-security"], "max-age=31536000");
    }

    #[test]
    fn cookies_are_found() {
        let headers = map(&[("cookie", "a=1; b=2"), ("cookie", "c=3")]);
        assert_eq!(cookie(&headers, "b"), Some("2"));
        assert_eq!(cookie(&headers, "c"), Some("3"));
        assert_eq!(cookie(&headers, "d"), None);
    }
}
