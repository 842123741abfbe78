//! A request of HTTP/2 that is let through is one that HTTP/1.1 would let through, and means the same there.

use klar_fuzz::{Feed, Fuzz};

use super::*;
use crate::framing::{self, Framing};

const FUZZ: Fuzz<'_> = Fuzz {
    name: "requests of HTTP/2",
    seeds: &[
        b"\0\0https://shop.test/a?b\naccept\0text/html\ncookie\0a=1\ncookie\0b=2",
        b"\x01\0https://shop.test/\ncontent-length\x0012\nhost\0shop.test",
        b"\0\0/\nhost\0SHOP.test:8443\nte\0trailers",
        b"\x05\x01https://shop.test/ws\nsec-websocket-version\x0013",
        b"\x02\0https://shop.test/\ntransfer-encoding\0chunked\nconnection\0x",
    ],
    words: &[
        b"https://",
        b"http://",
        b"shop.test",
        b"/",
        b"*",
        b"?",
        b"host\0",
        b"content-length\0",
        b"cookie\0",
        b"te\0",
        b"trailers",
        b"connection\0",
        b"transfer-encoding\0chunked",
        b"upgrade\0websocket",
        b"\n",
        b"\0",
        b" ",
        b"@",
        b"[::1]",
        b":65536",
        b"keep-alive\0",
        b"expect\x00100-continue",
    ],
    longest: 400,
};

fn request(input: &[u8]) -> Option<Request<()>> {
    let mut feed = Feed::new(input);
    let method = feed.one_of(&["GET", "POST", "OPTIONS", "TRACE", "BREW", "CONNECT"]);
    let tunnel = feed.below(2) == 1;
    let uri = std::str::from_utf8(feed.until(b'\n')).ok()?;
    let mut request = Request::builder().method(method).uri(uri).body(()).ok()?;
    if tunnel {
        request.extensions_mut().insert(Protocol::from_static("websocket"));
    }
    while !feed.is_empty() {
        let mut line = Feed::new(feed.until(b'\n'));
        // h2 hands over no other names, and no other values.
        let (Ok(name), Ok(value)) =
            (HeaderName::from_bytes(line.until(0)), HeaderValue::from_bytes(line.rest()))
        else {
            continue;
        };
        request.headers_mut().append(name, value);
    }
    Some(request)
}

#[test]
fn what_is_let_through_could_have_come_over_http_1() {
    FUZZ.run(|input| {
        let Some(mut request) = request(input) else { return };
        let before = request.headers().clone();
        let note = judge(&mut request);
        if note.refusal.is_some() {
            return;
        }
        let headers = request.headers();
        let one = |name| headers.get_all(name).iter().count();
        assert_eq!(one(header::HOST), 1);
        assert!(one(header::COOKIE) <= 1 && one(header::CONTENT_LENGTH) <= 1);
        assert!(OF_CONNECTIONS.iter().all(|name| !headers.contains_key(name)));
        let crumbs = |headers: &HeaderMap| {
            let all = headers.get_all(header::COOKIE).iter().map(|value| value.as_bytes().to_vec());
            all.collect::<Vec<_>>().join(&b"; "[..])
        };
        assert_eq!(crumbs(headers), crumbs(&before), "no crumb is lost");

        // The same as lines.
        let target = request.uri().path_and_query().unwrap().as_str();
        let mut head = format!("{} {target} HTTP/1.1\r\n", request.method()).into_bytes();
        for (name, value) in headers {
            head.extend([name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"].concat());
        }
        head.extend(b"\r\n");
        let length =
            headers.get(header::CONTENT_LENGTH).map(|value| value.to_str().unwrap().parse().unwrap());
        let framing = framing::judge(&head);
        assert_eq!(framing, Ok(Framing::Length(length.unwrap_or(0))), "{}", head.escape_ascii());
        if note.upgrade {
            assert_eq!((request.method(), length), (&Method::GET, None));
            assert_eq!(headers.get(WEBSOCKET_KEY).map(HeaderValue::len), Some(24));
        }
    });
}
