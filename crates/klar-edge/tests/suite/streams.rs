//! Bodies pass through as they come, in both directions, and whoever stops moving is let go.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::thread;
use std::time::Duration;

use crate::common::{App, Edge, Gate, HOST, PATIENCE, Then, is_end, upstream};
use klar_base::signal::DecidedBy;

/// An event is seen when it is sent, and an event stream may be silent for longer than anything else.
#[test]
fn events_are_seen_as_they_come() {
    let gate = Gate::default();
    let waiting = gate.clone();
    let app = App::start(move |_, stream| {
        let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";
        stream.write_all(format!("{head}9\r\ndata: 1\n\n\r\n").as_bytes()).unwrap();
        waiting.pass();
        thread::sleep(Duration::from_millis(500));
        stream.write_all(b"9\r\ndata: 2\n\n\r\n0\r\n\r\n").unwrap();
        Then::Keep
    });
    let edge = Edge::with(&[&app], |edge| {
        let short = Duration::from_millis(100);
        let limits = edge.limits();
        (limits.stall_timeout, limits.idle_timeout) = (short, short);
    });
    let mut visitor = edge.visitor();
    visitor.send(format!("GET /events HTTP/1.1\r\nhost: {HOST}\r\n\r\n"));
    let mut seen = Vec::new();
    while !seen.ends_with(b"data: 1\n\n\r\n") {
        seen.extend(visitor.read(1));
    }
    gate.open();
    let rest = visitor.rest();
    assert_eq!(rest, b"9\r\ndata: 2\n\n\r\n0\r\n\r\n", "{:?}", String::from_utf8_lossy(&rest));
}

/// An app that stops in the middle of an ordinary answer is given up.
#[test]
fn an_app_that_stalls_is_given_up() {
    let gate = Gate::default();
    let waiting = gate.clone();
    let app = App::start(move |_, stream| {
        stream.write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\nhalf\r\n").unwrap();
        waiting.pass();
        Then::Close
    });
    let edge = Edge::with(&[&app], |edge| edge.limits().stall_timeout = Duration::from_millis(200));
    let mut visitor = edge.visitor();
    visitor.send(format!("GET / HTTP/1.1\r\nhost: {HOST}\r\n\r\n"));
    assert!(is_end(&visitor.try_answer("GET").unwrap_err()));
    edge.core().wait("the record", |heard| {
        let record = heard.records.first()?;
        assert_eq!((record.status, record.decided_by), (200, DecidedBy::Failed));
        Some(())
    });
    edge.wait_vitals(1, "the lease to be given back", |one| one.unwrap().leases == 0);
    gate.open();
}

/// A visitor that stops reading does not hold an instance for ever.
#[test]
fn a_visitor_that_does_not_read_is_let_go() {
    let app = App::start(|_, stream| {
        let size = 64 << 20;
        let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {size}\r\n\r\n");
        let piece = vec![b'x'; 1 << 16];
        let mut sent = stream.write_all(head.as_bytes());
        for _ in 0..size / piece.len() {
            sent = sent.and_then(|()| stream.write_all(&piece));
        }
        assert!(sent.is_err(), "the edge takes no more than the visitor does");
        Then::Close
    });
    let edge = Edge::with(&[&app], |edge| edge.limits().stall_timeout = Duration::from_millis(300));
    let mut visitor = edge.visitor();
    visitor.send(format!("GET / HTTP/1.1\r\nhost: {HOST}\r\n\r\n"));
    edge.core().wait("the record", |heard| {
        let record = heard.records.first()?;
        assert!(record.aborted && record.bytes_out < 64 << 20);
        Some(())
    });
    edge.wait_vitals(1, "the lease to be given back", |one| one.unwrap().leases == 0);
}

/// A large upload reaches the app while it is still being sent.
#[test]
fn an_upload_passes_through() {
    for framing in ["content-length: 200004", "transfer-encoding: chunked"] {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let edge = Edge::with(&[], |edge| {
            edge.web().upstreams.push(upstream(1, listener.local_addr().unwrap()));
        });
        let gate = Gate::default();
        let half_came = gate.clone();
        let app = thread::spawn(move || {
            loop {
                let (mut stream, _) = listener.accept().unwrap();
                stream.set_read_timeout(Some(PATIENCE)).unwrap();
                let (mut seen, mut bytes) = (Vec::<u8>::new(), [0; 16384]);
                while !seen.ends_with(b"last") && !seen.ends_with(b"last\r\n0\r\n\r\n") {
                    match stream.read(&mut bytes).unwrap() {
                        // Only asked whether somebody listens.
                        0 => break,
                        count => seen.extend(&bytes[..count]),
                    }
                    if seen.iter().filter(|byte| **byte == b'X').count() >= 200_000 {
                        half_came.open();
                    }
                }
                if !seen.is_empty() {
                    stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").unwrap();
                    return;
                }
            }
        });
        let chunked = framing.ends_with("chunked");
        let mut visitor = edge.visitor();
        visitor.send(format!("POST / HTTP/1.1\r\nhost: {HOST}\r\n{framing}\r\n\r\n"));
        let half = "X".repeat(200_000);
        visitor.send(if chunked { format!("30d40\r\n{half}\r\n") } else { half });
        gate.pass();
        visitor.send(if chunked { "4\r\nlast\r\n0\r\n\r\n" } else { "last" });
        let answer = visitor.answer();
        assert_eq!(answer.status, 200, "{framing}: {}", answer.text());
        assert_eq!(edge.record(&answer).bytes_in, 200_004);
        app.join().unwrap();
    }
}

/// An app may answer before it has read everything, and its answer is what the visitor gets.
#[test]
fn an_early_answer_arrives() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let edge = Edge::with(&[], |edge| {
        edge.web().upstreams.push(upstream(1, listener.local_addr().unwrap()));
        edge.limits().body_bytes = 64 << 20;
    });
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            let mut bytes = [0; 1024];
            if matches!(stream.read(&mut bytes), Ok(1..)) {
                let answer = b"HTTP/1.1 403 Forbidden\r\nconnection: close\r\ncontent-length: 2\r\n\r\nno";
                stream.write_all(answer).unwrap();
                // Closed only when the test is over: a reset could overtake the answer.
                thread::sleep(PATIENCE);
            }
        }
    });
    let size = 32 << 20;
    let mut visitor = edge.visitor();
    visitor.send(format!("POST / HTTP/1.1\r\nhost: {HOST}\r\ncontent-length: {size}\r\n\r\n"));
    visitor.send(vec![b'x'; 100_000]);
    let answer = visitor.answer();
    assert_eq!((answer.status, answer.text().as_str()), (403, "no"));
    edge.wait_vitals(1, "the lease to be given back", |one| one.unwrap().leases == 0);
}
