//! Answers of apps are taken whole and beyond doubt, or not at all; and no byte of one is taken for another's.

use std::collections::HashSet;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use crate::common::{App, Edge, HOST, Then, reply, upstream};
use klar_base::signal::DecidedBy;

fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nhost: {HOST}\r\n\r\n")
}

fn say(stream: &mut TcpStream, text: &str) -> Then {
    // The edge may have had enough in the middle of it.
    let _ = stream.write_all(text.as_bytes());
    Then::Keep
}

/// An app that says `text`, and the connections on which it did.
fn saying(text: &'static str) -> (App, Arc<Mutex<HashSet<SocketAddr>>>) {
    let connections = Arc::<Mutex<HashSet<SocketAddr>>>::default();
    let seen = connections.clone();
    let app = App::start(move |got, stream| {
        if got.line == "GET /good" {
            return reply(stream, "200 OK", "", "good");
        }
        seen.lock().unwrap().insert(stream.peer_addr().unwrap());
        say(stream, text)
    });
    (app, connections)
}

/// RFC 9112 section 11.1: what two programs could take for different answers is a 502, and ends the connection.
#[test]
fn doubtful_answers_are_refused() {
    let smuggled = "HTTP/1.1 200 OK\r\ncontent-length: 8\r\n\r\nsmuggled";
    for head in [
        "HTTP/1.1 200 OK\r\ncontent-length: 4\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ncontent-length: 4\r\n\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length: 4\r\ncontent-length: 4\r\n\r\nbody",
        "HTTP/1.1 200 OK\r\ncontent-length: 4\r\ncontent-length: 5\r\n\r\nbody",
        "HTTP/1.1 200 OK\r\ncontent-length: 4, 4\r\n\r\nbody",
        "HTTP/1.1 200 OK\r\ncontent-length: -4\r\n\r\nbody",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: xchunked\r\n\r\n0\r\n\r\n",
        "HTTP/1.0 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nx: a\r\n folded\r\ncontent-length: 4\r\n\r\nbody",
        "HTTP/1.1 200 OK\r\nx : a\r\ncontent-length: 4\r\n\r\nbody",
        "HTTP/1.1 200 OK\r\nx: a\rb\r\ncontent-length: 4\r\n\r\nbody",
        "HTTP/1.1 200 OK\r\nx: a\ncontent-length: 4\r\n\r\nbody",
        "\r\nHTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nbody",
        "HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n",
        "nonsense\r\n\r\n",
    ] {
        let text: &'static str = Box::leak(format!("{head}{smuggled}").into_boxed_str());
        let (app, _) = saying(text);
        let edge = Edge::with(&[&app], |_| {});
        let mut visitor = edge.visitor();
        let post = format!("POST /bad HTTP/1.1\r\nhost: {HOST}\r\ncontent-length: 0\r\n\r\n");
        visitor.send(&post);
        let answer = visitor.answer_to(&post);
        assert_eq!(answer.status, 502, "{head:?}");
        let record = edge.record(&answer);
        assert_eq!((record.decided_by, record.attempts), (DecidedBy::Failed, 1), "{head:?}");
        assert!(record.error.is_some_and(|error| error.len() > 20), "{head:?}: it says what was wrong");
        for _ in 0..3 {
            assert_eq!(edge.get("/good").text(), "good", "{head:?}");
        }
    }
}

/// What an app says after its answer is nobody's, and its connection is not used again.
#[test]
fn what_comes_after_an_answer_is_thrown_away() {
    let smuggled = "HTTP/1.1 200 OK\r\ncontent-length: 8\r\n\r\nsmuggled";
    for answer in [
        "HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\ngood",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\ngood\r\n0\r\n\r\n",
        "HTTP/1.1 204 No Content\r\n\r\n",
        "HTTP/1.1 304 Not Modified\r\ncontent-length: 4\r\n\r\n",
    ] {
        let text: &'static str = Box::leak(format!("{answer}{smuggled}").into_boxed_str());
        let (app, connections) = saying(text);
        let edge = Edge::with(&[&app], |_| {});
        let mut visitor = edge.visitor();
        for number in 1..=5 {
            visitor.send(get("/"));
            let got = visitor.answer();
            assert!(["good", ""].contains(&got.text().as_str()), "{answer:?} gave {:?}", got.text());
            assert_eq!(connections.lock().unwrap().len(), number, "one request for each connection");
        }
    }
}

/// 100 and 103 come before the answer and are not it (RFC 9110 section 15.2); there is an end to them.
#[test]
fn what_comes_before_an_answer_is_not_it() {
    let app = App::start(|got, stream| {
        let count = if got.line == "GET /over-and-over" { 100 } else { 3 };
        for _ in 0..count {
            say(stream, "HTTP/1.1 103 Early Hints\r\nlink: </a.css>\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n");
        }
        reply(stream, "200 OK", "", "then")
    });
    let edge = Edge::with(&[&app], |_| {});
    for _ in 0..3 {
        let answer = edge.get("/");
        assert_eq!((answer.status, answer.text().as_str(), answer.header("link")), (200, "then", None));
    }
    assert_eq!(edge.get("/over-and-over").status, 502);
}

/// One connection serves many requests, whatever their answers look like, as long as it is said where they end.
#[test]
fn connections_are_used_again() {
    for (answer, again) in [
        ("HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nbody", true),
        ("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", true),
        ("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\nx: y\r\n\r\n", true),
        ("HTTP/1.1 304 Not Modified\r\n\r\n", true),
        ("HTTP/1.0 200 OK\r\nconnection: keep-alive\r\ncontent-length: 4\r\n\r\nbody", true),
        ("HTTP/1.0 200 OK\r\ncontent-length: 4\r\n\r\nbody", false),
        ("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 4\r\n\r\nbody", false),
    ] {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let opened = Arc::new(AtomicUsize::new(0));
        let count = opened.clone();
        // The first connection stays open as long as this thread, which is as long as the test.
        thread::spawn(move || {
            for stream in listener.incoming() {
                let (mut stream, count) = (stream.unwrap(), count.clone());
                thread::spawn(move || {
                    let (mut seen, mut byte, mut first) = (Vec::new(), [0], true);
                    while let Ok(1) = stream.read(&mut byte) {
                        seen.push(byte[0]);
                        if seen.ends_with(b"\r\n\r\n") {
                            // Whoever only looks whether somebody listens is not counted.
                            count.fetch_add(usize::from(std::mem::take(&mut first)), Ordering::SeqCst);
                            seen.clear();
                            say(&mut stream, answer);
                        }
                    }
                });
            }
        });
        let edge = Edge::with(&[], |edge| edge.web().upstreams.push(upstream(1, address)));
        let mut visitor = edge.visitor();
        for _ in 0..10 {
            visitor.send(get("/"));
            assert!([200, 304].contains(&visitor.answer().status), "{answer:?}");
        }
        assert_eq!(opened.load(Ordering::SeqCst), if again { 1 } else { 10 }, "{answer:?}");
    }
}

/// A body arrives whatever the method, and however its length is told (RFC 9110 section 9.3.1).
#[test]
fn bodies_arrive() {
    let app = App::named("app");
    let edge = Edge::with(&[&app], |_| {});
    for (method, size) in [("GET", 10), ("GET", 200_000), ("POST", 200_000), ("PUT", 0), ("DELETE", 70_000)] {
        for chunked in [false, true] {
            let body = "b".repeat(size);
            let framed = match (chunked, size) {
                (false, _) => format!("content-length: {size}\r\n\r\n{body}"),
                (true, 0) => "transfer-encoding: chunked\r\n\r\n0\r\n\r\n".to_owned(),
                (true, _) => format!("transfer-encoding: chunked\r\n\r\n{size:x}\r\n{body}\r\n0\r\n\r\n"),
            };
            let answer = edge.ask(&format!("{method} / HTTP/1.1\r\nhost: {HOST}\r\n{framed}"));
            assert_eq!(answer.text(), format!("app: {method} /"), "{size} bytes, chunked: {chunked}");
            let got = app.got().pop().unwrap();
            assert_eq!(got.body, body.as_bytes(), "{method}, {size} bytes, chunked: {chunked}");
            // RFC 9110 section 8.6.
            if method == "PUT" && !chunked {
                assert_eq!(got.header("content-length"), Some("0"));
            }
        }
    }
}

/// An app that answers before it has read the request is heard, also when it hangs up then.
#[test]
fn an_early_answer_is_heard() {
    for hangs_up in [false, true] {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                thread::spawn(move || {
                    let mut head = [0; 64];
                    if !matches!(stream.read(&mut head), Ok(1..)) {
                        return;
                    }
                    reply(&mut stream, "413 Content Too Large", "", "no");
                    if !hangs_up {
                        // Reads the rest until there is no more.
                        let _ = std::io::copy(&mut stream, &mut std::io::sink());
                    }
                });
            }
        });
        let edge = Edge::with(&[], |edge| edge.web().upstreams.push(upstream(1, address)));
        let mut visitor = edge.visitor();
        let head = format!("POST / HTTP/1.1\r\nhost: {HOST}\r\ncontent-length: 900000\r\n\r\n");
        visitor.send(&head);
        let answer = visitor.answer();
        assert_eq!((answer.status, answer.text().as_str()), (413, "no"), "hangs up: {hangs_up}");
    }
}
