//! What stands in front of the edge: whose word counts for who the visitor is, and who is served without TLS.

use std::time::Duration;

use crate::common::{App, Edge, HOST, Visitor, reply};
use klar_base::signal::CacheOutcome;
use klar_base::upstreams::{ForwardedHeader, Front, ProxyProtocol};

/// Every visitor of these tests comes from 127.0.0.1, unless it says otherwise.
fn behind(plain: bool) -> Front {
    Front { proxies: vec!["127.0.0.1".parse().unwrap()], header: ForwardedHeader::XForwarded, plain }
}

fn request(path: &str, headers: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nhost: {HOST}\r\n{headers}\r\n")
}

/// What the app heard, what the record says, and what a browser is told.
#[derive(Debug, PartialEq)]
struct Seen {
    visitor: String,
    scheme: String,
    recorded: (String, bool),
    hsts: bool,
}

fn seen(edge: &Edge, app: &App, visitor: &mut Visitor, headers: &str) -> Seen {
    visitor.send(request("/", headers));
    let answer = visitor.answer();
    assert_eq!(answer.status, 200, "{}", answer.text());
    let got = app.got().pop().unwrap();
    for name in ["forwarded", "x-real-ip", "x-forwarded-port"] {
        assert_eq!(got.header(name), None, "{name} reached the app");
    }
    let record = edge.record(&answer);
    Seen {
        visitor: got.header("x-forwarded-for").unwrap().into(),
        scheme: got.header("x-forwarded-proto").unwrap().into(),
        recorded: (record.client.to_string(), record.tls),
        hsts: answer.header("strict-transport-security").is_some(),
    }
}

fn is(visitor: &str, https: bool) -> Seen {
    Seen {
        visitor: visitor.into(),
        scheme: if https { "https" } else { "http" }.into(),
        recorded: (visitor.into(), https),
        hsts: https,
    }
}

/// Four headers that all name somebody else.
const WORDS: &str = "x-forwarded-for: 6.6.6.6, 203.0.113.9\r\nx-forwarded-proto: http\r\nx-real-ip: 7.7.7.7\r\n\
    x-forwarded-port: 80\r\nforwarded: for=198.51.100.4;proto=http\r\n";

#[test]
fn only_a_trusted_proxy_says_who_the_visitor_is() {
    let app = App::named("app");
    let mut edge = Edge::with(&[&app], |_| {});
    assert_eq!(seen(&edge, &app, &mut edge.visitor(), WORDS), is("127.0.0.1", true), "nobody is trusted");

    edge.site().front = behind(false);
    edge.apply();
    let mut proxy = edge.visitor();
    assert_eq!(seen(&edge, &app, &mut proxy, WORDS), is("203.0.113.9", false));
    assert_eq!(seen(&edge, &app, &mut proxy, ""), is("127.0.0.1", true), "it asks for itself");
    let further = "x-forwarded-for: 203.0.113.9, 127.0.0.1\r\nx-forwarded-proto: https\r\n";
    assert_eq!(seen(&edge, &app, &mut proxy, further), is("203.0.113.9", true));
    let nonsense = "x-forwarded-for: 6.6.6.6, unknown\r\nx-forwarded-proto: gopher\r\n";
    assert_eq!(seen(&edge, &app, &mut proxy, nonsense), is("127.0.0.1", true));

    edge.site().front.header = ForwardedHeader::Forwarded;
    edge.apply();
    assert_eq!(seen(&edge, &app, &mut proxy, WORDS), is("198.51.100.4", false), "the other one of the two");
    let quoted = "forwarded: for=\"6.6.6.6, for=\"[2001:db8::9]:4711\";proto=https\r\n";
    assert_eq!(seen(&edge, &app, &mut proxy, quoted), is("2001:db8::9", true));

    edge.site().front.proxies = vec!["10.0.0.0/8".parse().unwrap()];
    edge.apply();
    assert_eq!(seen(&edge, &app, &mut proxy, WORDS), is("127.0.0.1", true), "trusted no more");
}

#[test]
fn what_a_proxy_says_holds_for_one_request_of_its_connection() {
    let app = App::named("app");
    let edge = Edge::with(&[&app], |edge| edge.site().front = behind(false));
    let mut proxy = edge.visitor();
    for number in 1..=3 {
        let visitor = format!("203.0.113.{number}");
        let headers = format!("x-forwarded-for: {visitor}\r\n");
        assert_eq!(seen(&edge, &app, &mut proxy, &headers), is(&visitor, true));
    }
}

#[test]
fn the_plain_port_serves_trusted_proxies_and_nobody_else() {
    let app = App::named("app");
    let mut edge = Edge::with(&[&app], |edge| edge.site().front = behind(true));
    let https = "x-forwarded-for: 203.0.113.9\r\nx-forwarded-proto: https\r\n";
    let mut proxy = edge.plain_visitor();
    assert_eq!(seen(&edge, &app, &mut proxy, https), is("203.0.113.9", true));
    assert_eq!(seen(&edge, &app, &mut proxy, "x-forwarded-for: 203.0.113.9\r\n"), is("203.0.113.9", false));

    let redirect = |visitor: &mut Visitor| {
        visitor.send(request("/a?b", https));
        let answer = visitor.answer();
        assert_eq!(answer.status, 308);
        answer.header("location").unwrap().to_owned()
    };
    let wanted = format!("https://{HOST}:{}/a?b", edge.https.port());
    let asked = app.got().len();
    assert_eq!(redirect(&mut Visitor::plain_from(edge.http, [127, 0, 0, 2])), wanted);
    edge.site().front.plain = false;
    edge.apply();
    assert_eq!(redirect(&mut proxy), wanted, "also on a connection from before");
    assert_eq!(app.got().len(), asked);
}

/// What an app says over HTTP may have other links in it than what it says over HTTPS.
#[test]
fn the_cache_keeps_http_and_https_apart() {
    let app = App::start(|got, stream| {
        let scheme = got.header("x-forwarded-proto").unwrap().to_owned();
        reply(stream, "200 OK", "cache-control: max-age=60\r\n", &scheme)
    });
    let edge = Edge::with(&[&app], |edge| edge.site().front = behind(true));
    let mut proxy = edge.plain_visitor();
    let mut ask = |method: &str, scheme: &str| {
        let request = request("/", &format!("x-forwarded-proto: {scheme}\r\n")).replacen("GET", method, 1);
        proxy.send(request);
        let answer = proxy.answer();
        assert_eq!(answer.text(), scheme);
        edge.record(&answer).cache
    };
    for (method, scheme, cache) in [
        ("GET", "https", Some(CacheOutcome::Miss)),
        ("GET", "http", Some(CacheOutcome::Miss)),
        ("GET", "https", Some(CacheOutcome::Hit)),
        ("GET", "http", Some(CacheOutcome::Hit)),
        ("DELETE", "https", None),
        ("GET", "http", Some(CacheOutcome::Miss)),
    ] {
        assert_eq!(ask(method, scheme), cache, "{method} {scheme}");
    }
}

#[test]
fn the_cookie_of_a_sticky_service_is_one_that_the_browser_keeps() {
    let app = App::named("app");
    let edge = Edge::with(&[&app], |edge| {
        edge.web().sticky = true;
        edge.site().front = behind(true);
    });
    let mut proxy = edge.plain_visitor();
    for (scheme, secure) in [("https", true), ("http", false)] {
        proxy.send(request("/", &format!("x-forwarded-proto: {scheme}\r\n")));
        let cookie = proxy.answer().header("set-cookie").unwrap().to_owned();
        assert_eq!(cookie.contains("; Secure;"), secure, "{scheme}: {cookie}");
    }
}

// ---------------------------------------------------------------------------------------------------------------
// The PROXY protocol

fn edge_behind_tcp(apps: &[&App], proxies: &str) -> Edge {
    Edge::with(apps, |edge| {
        let proxies = vec![proxies.parse().unwrap()];
        edge.site().front = Front { proxies: proxies.clone(), ..behind(true) };
        let ports = [edge.https.port(), edge.http.port()];
        edge.config.proxy_protocol =
            ports.map(|port| ProxyProtocol { port, proxies: proxies.clone() }).to_vec();
    })
}

const V1: &[u8] = b"PROXY TCP4 203.0.113.9 10.0.0.1 56324 443\r\n";

/// Version 2 for 203.0.113.9 with one extension.
fn v2(kind: u8, value: &[u8]) -> Vec<u8> {
    let mut header = b"\r\n\r\n\0\r\nQUIT\n\x21\x11".to_vec();
    header.extend_from_slice(&(12 + 3 + value.len() as u16).to_be_bytes());
    header.extend_from_slice(&[203, 0, 113, 9, 10, 0, 0, 1, 0xdc, 0x04, 0x01, 0xbb, kind]);
    header.extend_from_slice(&(value.len() as u16).to_be_bytes());
    header.extend_from_slice(value);
    header
}

const LOCAL: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x20\x00\x00\x00";

#[test]
fn a_header_before_the_handshake_names_the_visitor() {
    let app = App::named("app");
    let edge = edge_behind_tcp(&[&app], "127.0.0.1");
    // What the visitor writes itself is not believed: it is no proxy.
    let unknown: &[u8] = b"PROXY UNKNOWN\r\n";
    for (header, visitor) in [
        (V1, "203.0.113.9"),
        (b"PROXY TCP6 2001:db8::9 2001:db8::1 56324 443\r\n", "2001:db8::9"),
        (&v2(0x05, b"some id"), "203.0.113.9"),
    ] {
        let mut connection = Visitor::tls_after(edge.https, HOST, header);
        assert_eq!(seen(&edge, &app, &mut connection, WORDS), is(visitor, true));
        assert_eq!(seen(&edge, &app, &mut connection, ""), is(visitor, true));
    }
    // Nobody is named, so it is the proxy that asks, and it may say for whom.
    for header in [LOCAL, unknown] {
        let mut connection = Visitor::tls_after(edge.https, HOST, header);
        assert_eq!(seen(&edge, &app, &mut connection, ""), is("127.0.0.1", true));
        assert_eq!(seen(&edge, &app, &mut connection, WORDS), is("203.0.113.9", false));
    }
}

#[test]
fn a_header_on_the_plain_port_may_speak_of_tls() {
    let app = App::named("app");
    let edge = edge_behind_tcp(&[&app], "127.0.0.1");
    let tls = v2(0x20, &[1, 0, 0, 0, 0]);
    for (header, https) in [(V1, false), (&v2(0x05, b"some id"), false), (&tls, true)] {
        let mut connection = edge.plain_visitor();
        connection.send(header);
        assert_eq!(seen(&edge, &app, &mut connection, WORDS), is("203.0.113.9", https));
    }
    // With the request in the same packet, and in as many packets as it has bytes.
    let mut at_once = edge.plain_visitor();
    at_once.send([V1, request("/at-once", "").as_bytes()].concat());
    assert_eq!(at_once.answer().text(), "app: GET /at-once");
    for header in [V1, &tls] {
        let mut slow = edge.plain_visitor();
        for byte in header.iter().chain(request("/slow", "").as_bytes()) {
            slow.send([*byte]);
        }
        assert_eq!(slow.answer().text(), "app: GET /slow");
    }
}

#[test]
fn whoever_comes_past_the_proxies_is_closed_and_counted() {
    let app = App::named("app");
    let mut edge = edge_behind_tcp(&[&app], "127.0.0.1");
    edge.limits().header_timeout = Duration::from_millis(200);
    edge.apply();
    let long_line = [&b"PROXY UNKNOWN "[..], &[b'x'; 200], b"\r\n"].concat();
    let ask = request("/", "");
    // A balancer that only looks whether somebody listens is nothing to speak of.
    edge.plain_visitor().hang_up();
    for (number, (what, from, bytes)) in [
        ("a stranger with a header", [127, 0, 0, 2], [V1, ask.as_bytes()].concat()),
        ("a request without a header", [127, 0, 0, 1], ask.as_bytes().to_vec()),
        ("TLS without a header", [127, 0, 0, 1], b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".to_vec()),
        ("a line that is too long", [127, 0, 0, 1], long_line),
        ("a line that ends at once", [127, 0, 0, 1], b"PROXY \r\nGET / HTTP/1.1\r\n".to_vec()),
        ("an address that is none", [127, 0, 0, 1], b"PROXY TCP4 6.6.6 10.0.0.1 1 2\r\n".to_vec()),
        ("a length that is absurd", [127, 0, 0, 1], b"\r\n\r\n\0\r\nQUIT\n\x21\x11\xff\xff".to_vec()),
        ("a wrong checksum", [127, 0, 0, 1], [&v2(0x03, &[0; 4]), ask.as_bytes()].concat()),
        ("nothing for too long", [127, 0, 0, 1], Vec::new()),
        ("half a line for too long", [127, 0, 0, 1], V1[..20].to_vec()),
        ("half a header for too long", [127, 0, 0, 1], v2(0x05, b"id")[..20].to_vec()),
    ]
    .into_iter()
    .enumerate()
    {
        let mut visitor = Visitor::plain_from(edge.http, from);
        // The edge may hang up before it has all of it.
        let _ = visitor.try_send(&bytes);
        assert!(visitor.rest().is_empty(), "{what} was answered");
        let count = number as u64 + 1;
        edge.core().wait(what, |heard| (heard.vitals.last()?.turned_away == count).then_some(()));
    }
    assert_eq!(app.got().len(), 0);
    // Those who come as they should are served as before.
    edge.limits().header_timeout = crate::common::PATIENCE;
    edge.apply();
    assert_eq!(seen(&edge, &app, &mut Visitor::tls_after(edge.https, HOST, V1), ""), is("203.0.113.9", true));
}

#[test]
fn a_port_without_the_protocol_takes_no_header() {
    let app = App::named("app");
    let edge = Edge::with(&[&app], |edge| edge.site().front = behind(true));
    let mut visitor = edge.plain_visitor();
    visitor.send([V1, request("/", "").as_bytes()].concat());
    let status = visitor.answer().status;
    assert!(status >= 400, "{status}");
    assert_eq!(app.got().len(), 0);
}
