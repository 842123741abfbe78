//! Once both sides have changed protocols the edge only carries bytes, for as long as they like.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use crate::common::{App, Edge, HOST, PATIENCE, Then, Visitor, reply};
use klar_base::signal::DecidedBy;

const SWITCH: &str = "HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\n\
    sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";

fn ask(path: &str) -> String {
    format!(
        "GET {path} HTTP/1.1\r\nhost: {HOST}\r\nconnection: keep-alive, Upgrade\r\nupgrade: WebSocket\r\n\
         sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
}

/// Says back what it hears, in upper case, until it hears no more; then it tells the receiver.
fn echo() -> (App, Receiver<()>) {
    let (ended, end) = channel();
    let app = App::start(move |got, stream| {
        if got.header("upgrade").is_none() {
            return reply(stream, "200 OK", "", &got.line);
        }
        stream.write_all(SWITCH.as_bytes()).unwrap();
        say_back(stream);
        // The test may be over.
        let _ = ended.send(());
        Then::Close
    });
    (app, end)
}

fn say_back(stream: &mut TcpStream) {
    let mut bytes = [0; 4096];
    while let Ok(count @ 1..) = stream.read(&mut bytes) {
        bytes.make_ascii_uppercase();
        if stream.write_all(&bytes[..count]).is_err() {
            return;
        }
    }
}

fn open(edge: &Edge) -> Visitor {
    let mut visitor = edge.visitor();
    visitor.send(ask("/ws"));
    let answer = visitor.answer();
    assert_eq!(answer.status, 101);
    assert_eq!(answer.header("upgrade"), Some("websocket"));
    assert_eq!(answer.header("connection"), Some("upgrade"));
    assert_eq!(answer.header("sec-websocket-accept"), Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
    let record = edge.record(&answer);
    assert_eq!((record.status, record.decided_by, record.attempts), (101, DecidedBy::App, 1));
    visitor
}

#[test]
fn bytes_go_both_ways() {
    let (app, end) = echo();
    // Short clocks: none of them runs in a tunnel.
    let edge = Edge::with(&[&app], |edge| {
        let short = Duration::from_millis(100);
        let limits = edge.limits();
        (limits.stall_timeout, limits.idle_timeout, limits.header_timeout) = (short, short, short * 10);
    });
    let mut visitor = open(&edge);
    let got = &app.got()[0];
    assert_eq!(got.header("upgrade"), Some("websocket"));
    assert_eq!(got.header("connection"), Some("upgrade"));
    assert_eq!(got.header("sec-websocket-key"), Some("dGhlIHNhbXBsZSBub25jZQ=="));
    visitor.send("hello");
    assert_eq!(visitor.read(5), b"HELLO");
    std::thread::sleep(Duration::from_millis(500));
    for size in [1, 100, 100_000] {
        visitor.send(vec![b'x'; size]);
        assert_eq!(visitor.read(size), vec![b'X'; size]);
    }
    visitor.send("GET /smuggled HTTP/1.1\r\n\r\n");
    assert_eq!(visitor.read(26), b"GET /SMUGGLED HTTP/1.1\r\n\r\n");
    visitor.hang_up();
    end.recv_timeout(PATIENCE).expect("the app hears that the visitor is gone");
    assert_eq!(app.got().len(), 1);
}

/// Either side may speak before it has heard from the other.
#[test]
fn early_bytes_arrive() {
    let app = App::start(|_, stream| {
        stream.write_all(format!("{SWITCH}first words;").as_bytes()).unwrap();
        say_back(stream);
        Then::Close
    });
    let edge = Edge::with(&[&app], |_| {});
    let mut visitor = edge.visitor();
    visitor.send(ask("/ws") + "early");
    assert_eq!(visitor.answer().status, 101);
    assert_eq!(visitor.read(17), b"first words;EARLY");
}

/// When the app hangs up the visitor hears what it said last, and then the end.
#[test]
fn the_last_words_of_an_app_arrive() {
    let app = App::start(|_, stream| {
        stream.write_all(SWITCH.as_bytes()).unwrap();
        stream.write_all(&[b'x'; 50_000]).unwrap();
        Then::Close
    });
    let edge = Edge::with(&[&app], |_| {});
    let mut visitor = open(&edge);
    assert_eq!(visitor.read(50_000), [b'x'; 50_000]);
    visitor.assert_end();
    edge.wait_vitals(1, "the lease to be given back", |one| one.unwrap().leases == 0);
}

/// A tunnel outlives the configuration that it was opened under, and its instance is not drained while it lasts.
#[test]
fn a_tunnel_holds_its_lease() {
    for removed in [false, true] {
        let ((old, end), new) = (echo(), App::named("new"));
        let mut edge = Edge::with(&[&old], |_| {});
        let mut visitor = open(&edge);
        edge.wait_vitals(1, "the lease", |one| one.unwrap().leases == 1);
        edge.web().upstreams.push(crate::common::upstream(2, new.address));
        if removed {
            edge.web().upstreams.remove(0);
        } else {
            edge.web().upstreams[0].weight = 0;
        }
        edge.apply();
        visitor.send("still here");
        assert_eq!(visitor.read(10), b"STILL HERE");
        assert_eq!(edge.get("/").text(), "new: GET /");
        edge.wait_vitals(1, "the lease", |one| one.is_some_and(|one| one.leases == 1));
        visitor.hang_up();
        end.recv_timeout(PATIENCE).unwrap();
        edge.wait_vitals(1, "the drained instance", |one| match one {
            None => removed,
            Some(one) => one.leases == 0,
        });
    }
}

/// What follows a refused change of protocols could be either protocol, so it is neither.
#[test]
fn a_refused_change_ends_the_connection() {
    let app = App::start(|got, stream| {
        assert_eq!(got.line, "GET /ws");
        reply(stream, "403 Forbidden", "", "no")
    });
    let edge = Edge::with(&[&app], |_| {});
    let mut visitor = edge.visitor();
    visitor.send(ask("/ws") + &format!("GET /smuggled HTTP/1.1\r\nhost: {HOST}\r\n\r\n"));
    let answer = visitor.answer();
    assert_eq!((answer.status, answer.header("connection")), (403, Some("close")));
    assert_eq!(answer.text(), "no");
    visitor.assert_end();
    assert_eq!(app.lines(), ["GET /ws"]);
}

/// The same when there is nobody who could have refused it.
#[test]
fn a_change_that_nobody_hears_of_ends_the_connection() {
    let edge = Edge::with(&[], |_| {});
    for (host, status) in [(HOST, 503), ("other.test", 404)] {
        let mut visitor = edge.visitor();
        visitor.send(ask("/ws").replace(HOST, host));
        let answer = visitor.answer();
        assert_eq!((answer.status, answer.header("connection")), (status, Some("close")));
        visitor.assert_end();
    }
}

/// An app that changes protocols by itself has not answered.
#[test]
fn an_unasked_change_is_a_failure() {
    let app = App::start(|_, stream| {
        stream.write_all(SWITCH.as_bytes()).unwrap();
        say_back(stream);
        Then::Close
    });
    let edge = Edge::with(&[&app], |_| {});
    let answer = edge.ask(&format!("POST / HTTP/1.1\r\nhost: {HOST}\r\ncontent-length: 0\r\n\r\n"));
    assert_eq!(answer.status, 502);
    edge.wait_vitals(1, "the lease to be given back", |one| one.unwrap().leases == 0);
}

/// A change of protocols may have happened although nobody saw it, so it is not asked for twice.
#[test]
fn a_change_is_asked_for_once() {
    let (one, two) = (App::closing(), App::closing());
    let edge = Edge::with(&[&one, &two], |_| {});
    assert_eq!(edge.ask(&ask("/ws")).status, 502);
    assert_eq!(one.got().len() + two.got().len(), 1);
}

/// Only a `GET` changes protocols; the header alone does not, and does not reach the app.
#[test]
fn only_a_get_changes_protocols() {
    let (app, _end) = echo();
    let edge = Edge::with(&[&app], |_| {});
    let mut visitor = edge.visitor();
    let post = ask("/post").replace("GET", "POST").replace("\r\n\r\n", "\r\ncontent-length: 0\r\n\r\n");
    visitor.send(post + &ask("/h2").replace("WebSocket", "h2c") + &ask("/plain").replace(", Upgrade", ""));
    for wanted in ["POST /post", "GET /h2", "GET /plain"] {
        let answer = visitor.answer();
        assert_eq!((answer.status, answer.text().as_str()), (200, wanted), "on a connection that goes on");
    }
}
