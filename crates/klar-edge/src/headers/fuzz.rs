//! Whatever headers a stranger sends, an app hears about the stranger from the edge alone, and nothing of one
//! connection passes on to another.

use klar_fuzz::{Feed, Fuzz};

use super::*;

const FUZZ: Fuzz<'_> = Fuzz {
    name: "headers on their way",
    seeds: &[
        b"\x0aconnection\0keep-alive, x-secret\nx-secret\x001\nhost\0shop.test",
        b"\x0ax-forwarded-for\x006.6.6.6\nforwarded\0for=6.6.6.6\nx-real-ip\x006.6.6.6\nclient-cert\0:MII:",
        b"\x0ate\0trailers\ntrailer\0x\nupgrade\0h2c\nproxy-authorization\0Basic\nexpect\x00100-continue",
        b"\x0aconnection\0host, cookie, content-length\ncookie\0a=1; b=2\ncontent-length\x001",
    ],
    words: &[
        b"connection\0",
        b"x-forwarded-for\0",
        b"x-forwarded-proto\0https",
        b"x-client-subject\0CN=root",
        b"x-request-id\0",
        b"traceparent\0",
        b"host\0",
        b"cookie\0",
        b"keep-alive\0",
        b"close",
        b", ",
        b"\n",
        b"\0",
        b"\"",
        b"a=1; b=2",
        b"authorization",
        b"transfer-encoding\0chunked",
    ],
    longest: 400,
};

/// What only the edge says to an app, and what ends with a connection (RFC 9110 section 7.6.1).
const NEVER: [&str; 16] = [
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-proto",
    "x-request-id",
    "traceparent",
    "tracestate",
    "forwarded",
    "x-client-subject",
    "x-real-ip",
    "client-cert",
    "connection",
    "keep-alive",
    "te",
    "transfer-encoding",
    "upgrade",
    "proxy-authorization",
];

fn map(bytes: &[u8]) -> HeaderMap {
    let pair = |line: &[u8]| {
        let mut line = Feed::new(line);
        Some((HeaderName::from_bytes(line.until(0)).ok()?, HeaderValue::from_bytes(line.rest()).ok()?))
    };
    bytes.split(|byte| *byte == b'\n').filter_map(pair).collect()
}

#[test]
fn what_a_stranger_says_of_itself_goes_nowhere() {
    FUZZ.run(|input| {
        let sent = map(input);
        assert!(
            !sent.keys().any(|name| NEVER.contains(&name.as_str()) && is_for_app(name.as_str().as_bytes()))
        );
        // What makes a request what it is stays, whatever `Connection` names.
        let named = named_by_connection(&sent);
        let kept = [header::HOST, header::CONTENT_LENGTH, header::COOKIE, header::AUTHORIZATION];
        assert!(!named.iter().any(|name| kept.contains(name)), "{named:?}");

        let mut answer = sent.clone();
        from_app(&mut answer);
        assert!(!answer.keys().any(|name| is_hop_by_hop(name.as_str().as_bytes()) || named.contains(name)));
        assert!(answer.iter().all(|(name, value)| sent.get_all(name).iter().any(|one| one == value)));
        // To do it again changes nothing.
        let before = answer.clone();
        from_app(&mut answer);
        assert_eq!(answer, before);
        from_app_last(&mut answer);
        assert!(!answer.contains_key(header::CONTENT_LENGTH));
    });
}

#[test]
fn addresses_are_written_as_everybody_writes_them() {
    let seeds: &[&[u8]] = &[b"\0\xcb\0\x71\x09", b"\x01\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x09", b"\x01"];
    Fuzz { name: "addresses", seeds, words: &[b"\0\0\0\0", b"\xff\xff"], longest: 17 }.run(|input| {
        let mut feed = Feed::new(input);
        let address = match feed.below(2) {
            0 => IpAddr::from([0; 4].map(|_: u8| feed.byte())),
            _ => IpAddr::from([0; 16].map(|_: u8| feed.byte())),
        };
        assert_eq!(Address::of(address).as_str(), address.to_string());
    });
}
