//! Nothing that two servers could understand differently gets past the edge, and limits are kept.

use std::io::Write;
use std::time::Duration;

use crate::common::{App, Edge, HOST, Then, is_end, route};
use klar_base::signal::DecidedBy;

/// What follows each doubtful head on its connection. It must never get anywhere.
const SMUGGLED: &str = "GET /smuggled HTTP/1.1\r\nhost: shop.test\r\n\r\n";

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

/// RFC 9112 sections 2.2, 3.2, 5 and 6.3: what is doubtful is refused, and nothing after it is believed.
#[test]
fn a_doubtful_head_ends_the_connection() {
    let table = [
        (
            "both lengths",
            400,
            "POST / HTTP/1.1\r\nhost: shop.test\r\ncontent-length: 4\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        ),
        (
            "both lengths, turned round",
            400,
            "POST / HTTP/1.1\r\nhost: shop.test\r\ntransfer-encoding: chunked\r\ncontent-length: 4\r\n\r\n0\r\n\r\n",
        ),
        (
            "two lengths",
            400,
            "POST / HTTP/1.1\r\nhost: shop.test\r\ncontent-length: 0\r\ncontent-length: 44\r\n\r\n",
        ),
        (
            "the same length twice",
            400,
            "POST / HTTP/1.1\r\nhost: shop.test\r\ncontent-length: 0\r\ncontent-length: 0\r\n\r\n",
        ),
        ("a list of lengths", 400, "POST / HTTP/1.1\r\nhost: shop.test\r\ncontent-length: 0, 0\r\n\r\n"),
        ("a signed length", 400, "POST / HTTP/1.1\r\nhost: shop.test\r\ncontent-length: +0\r\n\r\n"),
        (
            "a coding twice",
            400,
            "POST / HTTP/1.1\r\nhost: shop.test\r\ntransfer-encoding: chunked\r\ntransfer-encoding: identity\r\n\r\n0\r\n\r\n",
        ),
        (
            "a coding in HTTP/1.0",
            400,
            "POST / HTTP/1.0\r\nhost: shop.test\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        ),
        (
            "a coding that hides",
            400,
            "POST / HTTP/1.1\r\nhost: shop.test\r\ntransfer-encoding : chunked\r\n\r\n0\r\n\r\n",
        ),
        (
            "an unknown coding",
            501,
            "POST / HTTP/1.1\r\nhost: shop.test\r\ntransfer-encoding: xchunked\r\n\r\n0\r\n\r\n",
        ),
        ("a folded line", 400, "GET / HTTP/1.1\r\nhost: shop.test\r\nx: a\r\n b\r\n\r\n"),
        ("a bare LF", 400, "GET / HTTP/1.1\r\nhost: shop.test\r\nx: a\ny: b\r\n\r\n"),
        ("nothing but bare LF", 400, "GET / HTTP/1.1\nhost: shop.test\n\n"),
        ("a bare CR", 400, "GET / HTTP/1.1\r\nhost: shop.test\r\nx: a\rtransfer-encoding: chunked\r\n\r\n"),
        ("two hosts", 400, "GET / HTTP/1.1\r\nhost: shop.test\r\nhost: other.test\r\n\r\n"),
        ("no host", 400, "GET / HTTP/1.1\r\nx: a\r\n\r\n"),
        ("a host that is none", 400, "GET / HTTP/1.1\r\nhost: shop.test/x\r\n\r\n"),
        (
            "a target that names another host",
            400,
            "GET https://other.test/ HTTP/1.1\r\nhost: shop.test\r\n\r\n",
        ),
        ("a target that is none", 400, "GET shop.test HTTP/1.1\r\nhost: shop.test\r\n\r\n"),
        ("a space before the first header", 400, "GET / HTTP/1.1\r\n x: a\r\nhost: shop.test\r\n\r\n"),
        ("a tunnel", 405, "CONNECT shop.test:443 HTTP/1.1\r\nhost: shop.test:443\r\n\r\n"),
        ("TRACE", 405, "TRACE / HTTP/1.1\r\nhost: shop.test\r\n\r\n"),
        ("a version of tomorrow", 505, "GET / HTTP/3.0\r\nhost: shop.test\r\n\r\n"),
    ];
    let app = App::named("app");
    let edge = Edge::with(&[&app], |_| {});
    for (what, status, head) in table {
        let mut visitor = edge.visitor();
        // A good one before it is answered all the same.
        visitor.send(format!("GET /good HTTP/1.1\r\nhost: {HOST}\r\n\r\n{head}{SMUGGLED}{SMUGGLED}"));
        assert_eq!(visitor.answer().text(), "app: GET /good", "{what}");
        let answer = visitor.answer();
        assert_eq!(answer.status, status, "{what}: {}", answer.text());
        assert_eq!(answer.header("connection"), Some("close"), "{what}");
        visitor.assert_end();
        let record = edge.record(&answer);
        assert_eq!((record.status, record.decided_by), (status, DecidedBy::Refused), "{what}");
        assert_eq!((record.attempts, record.app), (0, None), "{what}");
    }
    assert!(app.lines().iter().all(|line| line == "GET /good"), "{:?}", app.lines());
}

/// RFC 9112 section 7.1: a chunked body that could be cut in two ways is not forwarded as if it were whole.
#[test]
fn a_doubtful_chunk_ends_the_connection() {
    let table = [
        ("no size", "\r\nhello\r\n0\r\n\r\n"),
        ("a size that is none", "xyz\r\nhello\r\n0\r\n\r\n"),
        ("a size in C", "0x5\r\nhello\r\n0\r\n\r\n"),
        ("a negative size", "-5\r\nhello\r\n0\r\n\r\n"),
        ("a space after the size", "5 \r\nhello\r\n0\r\n\r\n"),
        ("a size with a bare LF", "5\nhello\r\n0\r\n\r\n"),
        ("a chunk that is longer than its size", "5\r\nhello!\r\n0\r\n\r\n"),
        ("an extension with a bare LF", "5;a\nb\r\nhello\r\n0\r\n\r\n"),
        ("a size that overflows", "10000000000000005\r\nhello\r\n0\r\n\r\n"),
        ("a trailer that is folded", "5\r\nhello\r\n0\r\n folded\r\n\r\n"),
        ("an end with a bare LF", "5\r\nhello\r\n0\r\n\n"),
    ];
    let app = App::named("app");
    let edge = Edge::with(&[&app], |_| {});
    for (what, body) in table {
        for together in [true, false] {
            let head = format!("POST /chunks HTTP/1.1\r\nhost: {HOST}\r\ntransfer-encoding: chunked\r\n\r\n");
            let mut visitor = edge.visitor();
            if together {
                visitor.send(format!("{head}{body}{SMUGGLED}"));
            } else {
                visitor.send(head);
                // The edge may have hung up after the first of these.
                let _ = visitor.try_send(body).and_then(|()| visitor.try_send(SMUGGLED));
            }
            match visitor.try_answer("POST") {
                Ok(answer) => {
                    assert_eq!(answer.status, 400, "{what}: {}", answer.text());
                    assert_eq!(answer.header("connection"), Some("close"), "{what}");
                    visitor.assert_end();
                }
                Err(error) => assert!(is_end(&error), "{what}: {error}"),
            }
        }
    }
    assert_eq!(app.lines(), [""; 0], "nothing of it was whole");
}

/// Each limit has a status of its own, and a request at the limit is served.
#[test]
fn limits_are_kept() {
    let head = |size: usize| {
        let start = format!("GET / HTTP/1.1\r\nhost: {HOST}\r\nx: ");
        format!("{start}{}\r\n\r\n", "y".repeat(size - start.len() - 4))
    };
    let lines =
        |count: usize| format!("GET / HTTP/1.1\r\nhost: {HOST}\r\n{}\r\n", "x: y\r\n".repeat(count - 1));
    let target = |size: usize| format!("GET /{} HTTP/1.1\r\nhost: {HOST}\r\n\r\n", "x".repeat(size - 1));
    let declared = |path: &str, size: usize| {
        let body = "b".repeat(size);
        format!("POST {path} HTTP/1.1\r\nhost: {HOST}\r\ncontent-length: {size}\r\n\r\n{body}")
    };
    let chunked = |size: usize| {
        let chunks = "10\r\n0123456789abcdef\r\n".repeat(size / 16);
        format!("POST / HTTP/1.1\r\nhost: {HOST}\r\ntransfer-encoding: chunked\r\n\r\n{chunks}0\r\n\r\n")
    };
    let table = [
        ("a head at its limit", head(10_000), 200),
        ("a head beyond it", head(10_001), 431),
        ("a head far beyond it", head(40_000), 431),
        ("a hundred headers", lines(100), 200),
        ("one more", lines(101), 431),
        ("a target at its limit", target(8192), 200),
        ("a target beyond it", target(8193), 414),
        ("a body at its limit", declared("/", 1024), 200),
        ("a body beyond it", declared("/", 1025), 413),
        ("a body beyond it, where the route takes more", declared("/upload", 1025), 200),
        ("a body beyond that of the route", declared("/upload", 4097), 413),
        ("chunks at the limit", chunked(1024), 200),
        ("chunks beyond it", chunked(1040), 413),
        ("chunks far beyond it", chunked(200_000), 413),
    ];
    let app = App::named("app");
    let edge = Edge::with(&[&app], |edge| {
        edge.limits().header_bytes = 10_000;
        edge.limits().body_bytes = 1024;
        let mut upload = route("/upload");
        upload.body_bytes = Some(4096);
        edge.site().routes.push(upload);
    });
    for (what, request, status) in table {
        let mut visitor = edge.visitor();
        // The edge may answer before it has read everything.
        let _ = visitor.try_send(format!("{request}{SMUGGLED}"));
        let answer = visitor.answer();
        assert_eq!(answer.status, status, "{what}: {}", answer.text());
        if status == 200 {
            assert_eq!(visitor.answer().text(), "app: GET /smuggled", "{what}: the next one is as good");
        } else {
            assert_eq!(answer.header("connection"), Some("close"), "{what}");
            visitor.assert_end();
        }
        let record = edge.record(&answer);
        let wanted = if status == 200 { DecidedBy::App } else { DecidedBy::Refused };
        assert_eq!((record.status, record.decided_by), (status, wanted), "{what}");
    }
}

/// A head has to come in time, however busily it dribbles; one that has come is not hurried.
#[test]
fn a_head_that_dribbles_is_late() {
    let app = App::named("app");
    let edge = Edge::with(&[&app], |edge| edge.limits().header_timeout = Duration::from_millis(300));
    // Without TLS, so that what came can be read when sending more has failed.
    let mut visitor = edge.plain_visitor();
    let mut head = b"GET /late HTTP/1.1\r\nhost: shop.test\r\nx: ".to_vec();
    head.extend([b'y'; 4000]);
    for byte in head {
        if visitor.try_send([byte]).is_err() {
            break;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    let answer = visitor.answer();
    assert_eq!((answer.status, answer.header("connection")), (408, Some("close")));
    visitor.assert_end();
    assert_eq!(app.lines(), [""; 0]);
}

/// A connection that idles is closed without a word: an answer would be taken for that to the next request.
#[test]
fn a_connection_that_idles_is_closed_without_a_word() {
    let app = App::named("app");
    let edge = Edge::with(&[&app], |edge| edge.limits().idle_timeout = Duration::from_millis(200));
    let mut visitor = edge.visitor();
    visitor.send(format!("GET /1 HTTP/1.1\r\nhost: {HOST}\r\n\r\n"));
    assert_eq!(visitor.answer().status, 200);
    visitor.assert_end();
}

/// Waiting for an answer is not idling.
#[test]
fn a_visitor_that_waits_for_an_answer_does_not_idle() {
    let app = App::start(|got, stream| {
        let head = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
        for part in [head, "5\r\nGET /\r\n", "4\r\nslow\r\n0\r\n\r\n"] {
            std::thread::sleep(Duration::from_millis(700));
            if stream.write_all(part.as_bytes()).is_err() {
                return Then::Close;
            }
        }
        assert_eq!(got.line, "GET /slow");
        Then::Keep
    });
    let edge = Edge::with(&[&app], |edge| edge.limits().idle_timeout = Duration::from_millis(200));
    let mut visitor = edge.visitor();
    for _ in 0..2 {
        visitor.send(format!("GET /slow HTTP/1.1\r\nhost: {HOST}\r\n\r\n"));
        assert_eq!(visitor.answer().text(), "GET /slow");
    }
    visitor.assert_end();
}

/// A body has to make progress.
#[test]
fn a_body_that_stalls_is_late() {
    let app = App::named("app");
    let edge = Edge::with(&[&app], |edge| edge.limits().stall_timeout = Duration::from_millis(200));
    for framing in ["content-length: 10\r\n\r\nhalf", "transfer-encoding: chunked\r\n\r\n9\r\nhalf"] {
        let mut visitor = edge.visitor();
        visitor.send(format!("POST /stall HTTP/1.1\r\nhost: {HOST}\r\n{framing}"));
        match visitor.try_answer("POST") {
            Ok(answer) => assert_eq!((answer.status, answer.header("connection")), (408, Some("close"))),
            Err(error) => assert!(is_end(&error), "{error}"),
        }
    }
    assert_eq!(app.lines(), [""; 0]);
}

/// Visitors beyond the number that may be open are turned away, and others are served as before.
#[test]
fn connections_beyond_the_limit_are_closed() {
    let app = App::named("app");
    let edge = Edge::with(&[&app], |edge| edge.config.connections_max = 1);
    let ask = format!("GET / HTTP/1.1\r\nhost: {HOST}\r\n\r\n");
    let mut first = edge.visitor();
    first.send(&ask);
    assert_eq!(first.answer().status, 200);
    let mut second = edge.visitor();
    let error = second.try_send(&ask).and_then(|()| second.try_answer("GET")).unwrap_err();
    assert!(is_end(&error), "{error}");
    first.send(&ask);
    assert_eq!(first.answer().status, 200);
}
