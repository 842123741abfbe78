//! However the network cuts a stream of requests into pieces, it is the same stream.

use std::io::Write;
use std::sync::LazyLock;
use std::time::Duration;

use crate::common::{App, Edge, HOST, Then};
use proptest::prelude::*;

/// A request, as bytes and as the app should get it.
#[derive(Debug, Clone)]
struct Sent {
    bytes: Vec<u8>,
    method: &'static str,
    body: Vec<u8>,
}

fn body() -> impl Strategy<Value = Vec<u8>> {
    // Bytes that would mean something if they were taken for a head or for a chunk.
    let tempting = prop_oneof![Just(b'\r'), Just(b'\n'), Just(b'0'), any::<u8>()];
    prop_oneof![
        prop::collection::vec(tempting, 0..300),
        Just(b"GET /smuggled HTTP/1.1\r\nhost: shop.test\r\n\r\n".to_vec()),
        Just(b"0\r\n\r\n".to_vec()),
        Just(vec![b'x'; 40_000]),
    ]
}

fn bare() -> impl Strategy<Value = Sent> {
    let line = prop_oneof![Just(""), Just("\r\n")];
    (prop_oneof![Just("GET"), Just("HEAD"), Just("DELETE")], line).prop_map(|(method, line)| {
        let bytes = format!("{line}{method} / HTTP/1.1\r\nhost: {HOST}\r\n\r\n").into();
        Sent { bytes, method, body: Vec::new() }
    })
}

fn with_length() -> impl Strategy<Value = Sent> {
    (prop_oneof![Just("POST"), Just("PUT")], body()).prop_map(|(method, body)| {
        let head = format!("{method} / HTTP/1.1\r\nhost: {HOST}\r\ncontent-length: {}\r\n\r\n", body.len());
        Sent { bytes: [head.into_bytes(), body.clone()].concat(), method, body }
    })
}

fn with_chunks() -> impl Strategy<Value = Sent> {
    let end = prop_oneof![Just("0\r\n\r\n"), Just("000;last\r\n\r\n"), Just("0\r\nx-trailer: y\r\n\r\n")];
    (prop::collection::vec(body(), 0..4), prop_oneof![Just(""), Just(";a=b")], end).prop_map(
        |(chunks, extension, end)| {
            let mut bytes =
                format!("POST / HTTP/1.1\r\nhost: {HOST}\r\ntransfer-encoding: chunked\r\n\r\n").into_bytes();
            for chunk in chunks.iter().filter(|chunk| !chunk.is_empty()) {
                bytes.extend(format!("{:x}{extension}\r\n", chunk.len()).into_bytes());
                bytes.extend(chunk);
                bytes.extend(b"\r\n");
            }
            bytes.extend(end.as_bytes());
            Sent { bytes, method: "POST", body: chunks.concat() }
        },
    )
}

fn requests() -> impl Strategy<Value = Vec<Sent>> {
    prop::collection::vec(prop_oneof![bare(), with_length(), with_chunks()], 1..7)
}

/// Says back the method and the body; by chunks when it got a `POST`, in two pieces in any case.
static SERVED: LazyLock<(Edge, App)> = LazyLock::new(|| {
    let app = App::start(|got, stream| {
        let method = got.line.split(' ').next().unwrap();
        let said = [method.as_bytes(), b" ", &got.body].concat();
        let mut answer = if method == "POST" {
            format!("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n{:x}\r\n", said.len()).into_bytes()
        } else {
            format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", said.len()).into_bytes()
        };
        match method {
            "HEAD" => {}
            "POST" => answer.extend([said.as_slice(), b"\r\n0\r\n\r\n"].concat()),
            _ => answer.extend(said),
        }
        let (one, two) = answer.split_at(answer.len() / 2);
        let sent = stream.write_all(one).and_then(|()| stream.write_all(two));
        if sent.is_ok() { Then::Keep } else { Then::Close }
    });
    (Edge::with(&[&app], |_| {}), app)
});

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn pieces_do_not_matter(
        requests in requests(),
        cuts in prop::collection::vec((any::<prop::sample::Index>(), any::<bool>()), 0..12),
    ) {
        let stream: Vec<u8> = requests.iter().flat_map(|request| request.bytes.clone()).collect();
        let mut cuts: Vec<_> = cuts.iter().map(|(at, pause)| (at.index(stream.len() + 1), *pause)).collect();
        cuts.push((stream.len(), false));
        cuts.sort_unstable();
        let (edge, _app) = &*SERVED;
        let mut visitor = edge.visitor();
        let mut from = 0;
        for (to, pause) in cuts {
            visitor.send(&stream[from..to]);
            if pause {
                // Long enough, most of the time, for the edge to see this piece by itself.
                std::thread::sleep(Duration::from_micros(300));
            }
            from = to;
        }
        for request in &requests {
            let answer = visitor.answer_to(&format!("{} ", request.method));
            prop_assert_eq!(answer.status, 200);
            if request.method != "HEAD" {
                prop_assert_eq!(answer.body, [request.method.as_bytes(), b" ", &request.body].concat());
            }
        }
        visitor.send(format!("GET / HTTP/1.1\r\nhost: {HOST}\r\nconnection: close\r\n\r\n"));
        prop_assert_eq!(visitor.answer().body, b"GET ");
        visitor.assert_end();
    }
}
