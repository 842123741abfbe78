//! Nothing that two servers could understand differently gets past the edge, and limits are kept.
#![allow(clippy::unwrap_used)]

mod common;

use common::{App, Edge};

/// RFC 9112 section 9.3.2: answers come in the order of the requests.
#[test]
fn pipelined_requests_are_answered_in_order() {
    let app = App::named("app");
    let edge = Edge::with(&[&app], |_| {});
    let mut visitor = edge.visitor();
    visitor.send(
        "GET /1 HTTP/1.1\r\nhost: shop.test\r\n\r\n\
         POST /2 HTTP/1.1\r\nhost: shop.test\r\ncontent-length: 5\r\n\r\nhello\
         POST /3 HTTP/1.1\r\nhost: shop.test\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n\
         \r\nGET /4 HTTP/1.1\r\nhost: shop.test\r\nconnection: close\r\n\r\n",
    );
    for wanted in ["app: GET /1", "app: POST /2", "app: POST /3", "app: GET /4"] {
        let answer = visitor.answer();
        assert_eq!((answer.status, answer.text().as_str()), (200, wanted));
    }
    visitor.assert_end();
    let bodies: Vec<_> = app.got().into_iter().map(|got| got.body).collect();
    assert_eq!(bodies, [b"".as_slice(), b"hello", b"abc", b""]);
}
