//! Connections of every kind that are in use, and an app that keeps them so: to see that nothing cuts them.

use std::io::{Read, Write};
use std::sync::{Arc, Condvar, Mutex};

use super::http2::{DATA, END_HEADERS, END_STREAM, HEADERS, Raw, request};
use super::{App, Edge, HOST, PATIENCE, Then, Visitor, reply};

/// Rings for everybody who listens, and for those who come later.
#[derive(Clone, Default)]
pub struct Bell(Arc<(Mutex<usize>, Condvar)>);

impl Bell {
    pub fn ring(&self) -> usize {
        let mut rung = self.0.0.lock().unwrap();
        *rung += 1;
        self.0.1.notify_all();
        *rung
    }

    fn wait(&self, count: usize) -> bool {
        let rung = self.0.0.lock().unwrap();
        let (rung, _) = self.0.1.wait_timeout_while(rung, PATIENCE, |rung| *rung < count).unwrap();
        *rung >= count
    }
}

/// An app with events at `/events`, one for each ring of the bell, and an echo at `/ws`.
pub fn app(name: &'static str, bell: &Bell) -> App {
    let bell = bell.clone();
    App::start(move |got, stream| {
        if got.header("upgrade").is_some() {
            let head = "HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\n\
                        sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";
            stream.write_all(head.as_bytes()).unwrap();
            let mut bytes = [0; 4096];
            while let Ok(count @ 1..) = stream.read(&mut bytes) {
                if stream.write_all(&bytes[..count]).is_err() {
                    break;
                }
            }
            return Then::Close;
        }
        if got.line != "GET /events" {
            return reply(stream, "200 OK", "", &format!("{name}: {}", got.line));
        }
        let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\ndata: 0\n\n";
        let mut sent = stream.write_all(head.as_bytes());
        // Nine rings at most, so that each event has the same length.
        for number in 1..10 {
            if sent.is_err() || !bell.wait(number) {
                break;
            }
            sent = stream.write_all(format!("data: {number}\n\n").as_bytes());
        }
        Then::Close
    })
}

/// One connection of each kind, each in use.
pub struct Living {
    /// HTTP/1.1, between two requests.
    pub kept: Visitor,
    /// A WebSocket.
    pub socket: Visitor,
    /// An event stream over HTTP/1.1.
    events: Visitor,
    /// A stream in flight on a connection of HTTP/2.
    stream: Raw,
    bell: Bell,
}

impl Living {
    pub fn open(edge: &Edge, bell: &Bell) -> Self {
        let mut kept = edge.visitor();
        kept.send(format!("GET /before HTTP/1.1\r\nhost: {HOST}\r\n\r\n"));
        assert_eq!(kept.answer().status, 200);

        let mut socket = edge.visitor();
        socket.send(format!(
            "GET /ws HTTP/1.1\r\nhost: {HOST}\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\
             sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        ));
        assert_eq!(socket.answer().status, 101);

        let mut events = edge.visitor();
        events.send(format!("GET /events HTTP/1.1\r\nhost: {HOST}\r\n\r\n"));
        let mut stream = Raw::new(edge);
        stream.send(HEADERS, END_HEADERS | END_STREAM, 1, &request("GET", "/events", &[]));
        let mut living = Self { kept, socket, events, stream, bell: bell.clone() };
        living.expect_event(0);
        living
    }

    /// All but the kept connection, which every user treats in a way of its own, go on as if nothing had happened.
    pub fn assert_alive(&mut self, after: &str) {
        self.socket.send(after);
        assert_eq!(self.socket.read(after.len()), after.as_bytes(), "the WebSocket after {after}");
        let number = self.bell.ring();
        self.expect_event(number);
    }

    /// Asks on the kept connection, and gives what `connection` of the answer says, and the answer.
    pub fn ask(&mut self, path: &str) -> (Option<String>, String) {
        self.kept.send(format!("GET {path} HTTP/1.1\r\nhost: {HOST}\r\n\r\n"));
        let answer = self.kept.answer();
        assert_eq!(answer.status, 200);
        (answer.header("connection").map(str::to_owned), answer.text())
    }

    fn expect_event(&mut self, number: usize) {
        let event = format!("data: {number}\n\n").into_bytes();
        let mut seen = Vec::new();
        while !seen.windows(event.len()).any(|part| part == event) {
            seen.extend(self.events.read(1));
        }
        let mut seen = Vec::new();
        while !seen.ends_with(&event) {
            let frame = self.stream.next().unwrap();
            assert!(
                !matches!(frame.kind, DATA | HEADERS) || frame.flags & END_STREAM == 0,
                "the stream ended: {frame:?}"
            );
            if frame.kind == DATA {
                seen.extend(frame.content);
            }
        }
    }
}
