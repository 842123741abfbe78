//! A request as an app gets it: what the visitor said, without what belongs to the visitor's connection, and with what
//! the edge knows.
//!
//! The visitor's own request stays as it is, since the answer is judged by it. So what goes to the app is written from
//! it, once for all attempts, in the way that the connection speaks.

use std::cell::OnceCell;
use std::net::IpAddr;

use http::header::{self, HeaderName, HeaderValue};
use http::request::Parts;
use http::uri::{Authority, Scheme};
use http::{Method, Request, Uri, Version};

use crate::client::Head;
use crate::fields::{Fields, Lines};
use crate::forward::ToApp;
use crate::headers::{self, Address};
use crate::mutual_tls::Subject;

/// See the [module](self).
#[derive(Debug)]
pub struct Asking<'a> {
    parts: &'a Parts,
    /// `None`: it is the edge's own, and goes as it is.
    told: Option<Told<'a>>,
    head: OnceCell<Head>,
}

/// What the edge tells an app of a request.
#[derive(Debug)]
pub struct Told<'a> {
    pub client: IpAddr,
    pub https: bool,
    pub request_id: &'a str,
    /// It asks for a WebSocket.
    pub upgrade: bool,
}

impl Told<'_> {
    /// Gives what every app is told. `host`: as the visitor wrote it.
    pub fn lines(&self, host: Option<&[u8]>, mut give: impl FnMut(&HeaderName, &[u8])) {
        give(&headers::FORWARDED_FOR, Address::of(self.client.to_canonical()).as_str().as_bytes());
        if let Some(host) = host {
            give(&headers::FORWARDED_HOST, host);
        }
        give(&headers::FORWARDED_PROTO, if self.https { b"https" } else { b"http" });
        give(&headers::REQUEST_ID, self.request_id.as_bytes());
        if let Some(traceparent) = traceparent(self.request_id) {
            give(&headers::TRACEPARENT, &traceparent);
        }
    }
}

/// The trace of a request is its id, and the edge's own span in it is the second half of that, which is chance: so whoever
/// knows the id knows both. The last digits say that it is kept.
fn traceparent(request_id: &str) -> Option<[u8; 55]> {
    let (trace, span) = (request_id.as_bytes(), request_id.as_bytes().get(16..)?);
    let mut value = *b"00-00000000000000000000000000000000-0000000000000000-01";
    value.get_mut(3..35)?.copy_from_slice(trace.get(..32)?);
    value.get_mut(36..52)?.copy_from_slice(span.get(..16)?);
    (trace.len() == 32).then_some(value)
}

/// Writes a request in HTTP/1.1 from the lines that a visitor has sent, without a body. `None`: one of them belongs to the
/// visitor's connection because `Connection` says so.
pub fn write(
    out: &mut Vec<u8>,
    method: &Method,
    target: &str,
    lines: &Lines<'_, '_>,
    told: &Told<'_>,
) -> Option<()> {
    if !headers::named_by_connection(lines).is_empty() {
        return None;
    }
    for piece in [method.as_str(), " ", target, " HTTP/1.1\r\n"] {
        out.extend_from_slice(piece.as_bytes());
    }
    for line in lines.all {
        let from = out.len();
        out.extend_from_slice(line.name.as_bytes());
        out[from..].make_ascii_lowercase();
        if headers::is_for_app(&out[from..]) {
            for piece in [b": ", line.value, b"\r\n"] {
                out.extend_from_slice(piece);
            }
        } else {
            out.truncate(from);
        }
    }
    told.lines(lines.first(&header::HOST), |name, value| {
        for piece in [name.as_str().as_bytes(), b": ", value, b"\r\n"] {
            out.extend_from_slice(piece);
        }
    });
    out.extend_from_slice(b"\r\n");
    Some(())
}

impl<'a> Asking<'a> {
    /// A visitor's request.
    pub fn new(parts: &'a Parts, told: Told<'a>) -> Self {
        Self { parts, told: Some(told), head: OnceCell::new() }
    }

    /// A request that the edge makes itself.
    pub fn own(parts: &'a Parts) -> Self {
        Self { parts, told: None, head: OnceCell::new() }
    }

    /// In HTTP/1.1.
    pub fn in_http1(&self) -> &Head {
        self.head.get_or_init(|| {
            let target = self.parts.uri.path_and_query().map_or("/", |target| target.as_str());
            let mut head = Head::new(&self.parts.method, target, self.parts.headers.len());
            self.lines(|name, value| head.line(name, value));
            head
        })
    }

    /// In HTTP/2, which says otherwise where a request goes.
    pub fn in_http2(&self, body: ToApp) -> Request<ToApp> {
        let mut request = Request::new(body);
        *request.method_mut() = self.parts.method.clone();
        *request.version_mut() = Version::HTTP_2;
        let map = request.headers_mut();
        self.lines(|name, value| {
            if *name != header::HOST {
                map.append(name, value.clone());
            }
        });
        // RFC 9113 section 8.2.2: of what belongs to a connection this alone goes on.
        if self.parts.headers.get(header::TE).is_some_and(|value| value == "trailers") {
            map.insert(header::TE, HeaderValue::from_static("trailers"));
        }
        let host = self.parts.headers.get(header::HOST);
        let authority = host.and_then(|host| Authority::try_from(host.as_bytes()).ok());
        let mut uri = http::uri::Parts::default();
        uri.scheme = Some(Scheme::HTTP);
        uri.authority = Some(authority.unwrap_or(Authority::from_static("localhost")));
        uri.path_and_query = self.parts.uri.path_and_query().cloned();
        if let Ok(uri) = Uri::from_parts(uri) {
            *request.uri_mut() = uri;
        }
        request
    }

    /// Gives each header. How the body ends is not among them: that is said anew by who sends it.
    fn lines(&self, mut give: impl FnMut(&HeaderName, &HeaderValue)) {
        let all = &self.parts.headers;
        let Some(told) = &self.told else {
            all.iter().for_each(|(name, value)| give(name, value));
            return;
        };
        let named = headers::named_by_connection(all);
        for (name, value) in all {
            if headers::is_for_app(name.as_str().as_bytes()) && !named.contains(name) {
                give(name, value);
            }
        }
        told.lines(all.get(header::HOST).map(HeaderValue::as_bytes), |name, value| {
            if let Ok(value) = HeaderValue::from_bytes(value) {
                give(name, &value);
            }
        });
        if let Some(Subject(subject)) = self.parts.extensions.get() {
            give(&headers::CLIENT_SUBJECT, subject);
        }
        if told.upgrade {
            give(&header::CONNECTION, &HeaderValue::from_static("upgrade"));
            give(&header::UPGRADE, &HeaderValue::from_static("websocket"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "0192a3b4c5d67123456789abcdef0123";

    fn parts(lines: &[(&str, &str)]) -> Parts {
        let request =
            lines.iter().fold(Request::get("/a?b=c"), |request, (name, value)| request.header(*name, *value));
        request.body(()).unwrap().into_parts().0
    }

    fn asking(parts: &Parts) -> Asking<'_> {
        let client = "::ffff:10.0.0.1".parse().unwrap();
        Asking::new(parts, Told { client, https: true, request_id: ID, upgrade: false })
    }

    #[test]
    fn a_visitor_cannot_speak_for_the_edge() {
        let parts = parts(&[
            ("host", "shop.example"),
            ("connection", "close, x-secret, Host"),
            ("x-secret", "1"),
            ("x-forwarded-for", "6.6.6.6"),
            ("forwarded", "for=6.6.6.6"),
            ("x-request-id", "mine"),
            ("traceparent", "00-11111111111111111111111111111111-2222222222222222-01"),
            ("tracestate", "them=1"),
            ("x-client-subject", "CN=root"),
            ("client-cert", ":AAAA:"),
            ("te", "trailers"),
            ("accept", "*/*"),
            ("content-length", "7"),
            ("expect", "100-continue"),
        ]);
        let told = [
            ("x-forwarded-for", "10.0.0.1"),
            ("x-forwarded-host", "shop.example"),
            ("x-forwarded-proto", "https"),
            ("x-request-id", ID),
            ("traceparent", "00-0192a3b4c5d67123456789abcdef0123-456789abcdef0123-01"),
        ];
        let lines = |first: &[(&str, &str)]| {
            let all = first.iter().chain(&told).map(|(name, value)| format!("{name}: {value}\r\n"));
            all.collect::<String>()
        };
        let asking = asking(&parts);
        assert_eq!(
            asking.in_http1().text(),
            format!("GET /a?b=c HTTP/1.1\r\n{}", lines(&[("host", "shop.example"), ("accept", "*/*")]))
        );
        let request = asking.in_http2(ToApp::default());
        assert_eq!(request.uri(), "http://shop.example/a?b=c");
        let said = request.headers().iter();
        let said: String =
            said.map(|(name, value)| format!("{name}: {}\r\n", value.to_str().unwrap())).collect();
        assert_eq!(said, lines(&[("accept", "*/*")]) + "te: trailers\r\n");
    }

    #[test]
    fn what_the_edge_asks_itself_goes_as_it_is() {
        let parts = parts(&[("host", "shop.example"), ("connection", "close")]);
        let text = Asking::own(&parts).in_http1().text().to_owned();
        assert_eq!(text, "GET /a?b=c HTTP/1.1\r\nhost: shop.example\r\nconnection: close\r\n");
    }

    #[test]
    fn a_websocket_is_asked_for_in_the_edges_words() {
        let parts = parts(&[("host", "shop.example"), ("connection", "Upgrade"), ("upgrade", "websocket")]);
        let told = Told { client: [10, 0, 0, 1].into(), https: true, request_id: ID, upgrade: true };
        let text = Asking::new(&parts, told).in_http1().text().to_owned();
        assert!(
            text.ends_with("-456789abcdef0123-01\r\nconnection: upgrade\r\nupgrade: websocket\r\n"),
            "{text}"
        );
    }
}
