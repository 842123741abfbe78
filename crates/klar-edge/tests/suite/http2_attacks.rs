//! What is not HTTP/2, and what is HTTP/2 only in order to cost something: the connection ends, and the edge goes on.

use std::time::{Duration, Instant};

use crate::common::http2::{
    CONTINUATION, DATA, END_HEADERS, END_STREAM, ENHANCE_YOUR_CALM, FLOW_CONTROL_ERROR, FRAME_SIZE_ERROR,
    GOAWAY, HEADERS, PING, PREFACE, PRIORITY, PROTOCOL_ERROR, PUSH_PROMISE, RST_STREAM, Raw, SETTINGS,
    SETTINGS_TIMEOUT, WINDOW_UPDATE, frame, request,
};
use crate::common::{App, Edge};

const WHOLE: u8 = END_HEADERS | END_STREAM;

/// A request without a body.
fn get(stream: u32) -> Vec<u8> {
    frame(HEADERS, WHOLE, stream, &request("GET", "/", &[]))
}

/// Each number is a section of RFC 9113. What is wrong with the connection ends it, with the right word.
#[test]
fn errors_of_the_connection() {
    let open = frame(HEADERS, END_HEADERS, 1, &request("POST", "/", &[]));
    let part = |flags| frame(HEADERS, flags, 1, &request("GET", "/", &[]));
    let table: Vec<(&str, u32, Vec<u8>)> = vec![
        (
            "4.2 a frame that is too large",
            FRAME_SIZE_ERROR,
            [&open[..], &[0, 0x40, 1, DATA, 0, 0, 0, 0, 1]].concat(),
        ),
        // The RFC says COMPRESSION_ERROR for these two; the library says this.
        (
            "4.3 a head that cannot be read",
            PROTOCOL_ERROR,
            frame(HEADERS, WHOLE, 1, &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff]),
        ),
        ("4.3 an index of nothing", PROTOCOL_ERROR, frame(HEADERS, WHOLE, 1, &[0xfe])),
        ("5.1 DATA before a request", PROTOCOL_ERROR, frame(DATA, 0, 1, b"x")),
        ("5.1 RST_STREAM before a request", PROTOCOL_ERROR, frame(RST_STREAM, 0, 1, &[0; 4])),
        ("5.1 WINDOW_UPDATE before a request", PROTOCOL_ERROR, frame(WINDOW_UPDATE, 0, 1, &[0, 0, 0, 1])),
        ("5.1.1 an even stream", PROTOCOL_ERROR, get(2)),
        ("5.1.1 a stream that goes back", PROTOCOL_ERROR, [get(5), get(3)].concat()),
        ("6.1 DATA on stream 0", PROTOCOL_ERROR, frame(DATA, 0, 0, b"x")),
        (
            "6.1 more padding than content",
            PROTOCOL_ERROR,
            [open.clone(), frame(DATA, 8, 1, &[9, 0, 0])].concat(),
        ),
        ("6.2 HEADERS on stream 0", PROTOCOL_ERROR, get(0)),
        (
            "6.2 something else in a head",
            PROTOCOL_ERROR,
            [part(END_STREAM), frame(PING, 0, 0, &[0; 8])].concat(),
        ),
        ("6.2 another head in a head", PROTOCOL_ERROR, [part(END_STREAM), get(3)].concat()),
        ("6.2 more padding than head", PROTOCOL_ERROR, frame(HEADERS, WHOLE | 8, 1, &[200, 0x82])),
        ("6.3 PRIORITY on stream 0", PROTOCOL_ERROR, frame(PRIORITY, 0, 0, &[0; 5])),
        ("6.4 RST_STREAM on stream 0", PROTOCOL_ERROR, frame(RST_STREAM, 0, 0, &[0; 4])),
        (
            "6.4 RST_STREAM of another size",
            FRAME_SIZE_ERROR,
            [open.clone(), frame(RST_STREAM, 0, 1, &[0; 3])].concat(),
        ),
        ("6.5 SETTINGS on a stream", PROTOCOL_ERROR, frame(SETTINGS, 0, 1, &[])),
        ("6.5 SETTINGS of another size", FRAME_SIZE_ERROR, frame(SETTINGS, 0, 0, &[0; 3])),
        ("6.5 an acknowledgement with content", FRAME_SIZE_ERROR, frame(SETTINGS, 1, 0, &[0; 6])),
        ("6.5.2 ENABLE_PUSH of 2", PROTOCOL_ERROR, frame(SETTINGS, 0, 0, &[0, 2, 0, 0, 0, 2])),
        // The RFC says FLOW_CONTROL_ERROR; the library says this.
        ("6.5.2 a window beyond 2^31-1", PROTOCOL_ERROR, frame(SETTINGS, 0, 0, &[0, 4, 0x80, 0, 0, 0])),
        ("6.5.2 a frame size below 2^14", PROTOCOL_ERROR, frame(SETTINGS, 0, 0, &[0, 5, 0, 0, 0x3f, 0xff])),
        ("6.5.2 a frame size beyond 2^24-1", PROTOCOL_ERROR, frame(SETTINGS, 0, 0, &[0, 5, 1, 0, 0, 0])),
        (
            "6.6 PUSH_PROMISE of a client",
            PROTOCOL_ERROR,
            [open.clone(), frame(PUSH_PROMISE, END_HEADERS, 1, &[0, 0, 0, 2])].concat(),
        ),
        ("6.7 PING on a stream", PROTOCOL_ERROR, frame(PING, 0, 1, &[0; 8])),
        ("6.7 PING of another size", FRAME_SIZE_ERROR, frame(PING, 0, 0, &[0; 6])),
        ("6.8 GOAWAY on a stream", PROTOCOL_ERROR, frame(GOAWAY, 0, 1, &[0; 8])),
        ("6.9 WINDOW_UPDATE of 0", PROTOCOL_ERROR, frame(WINDOW_UPDATE, 0, 0, &[0; 4])),
        ("6.9 WINDOW_UPDATE of another size", FRAME_SIZE_ERROR, frame(WINDOW_UPDATE, 0, 0, &[0; 3])),
        (
            "6.9.1 a window beyond 2^31-1",
            FLOW_CONTROL_ERROR,
            frame(WINDOW_UPDATE, 0, 0, &[0x7f, 0xff, 0xff, 0xff]),
        ),
        ("6.10 CONTINUATION of nothing", PROTOCOL_ERROR, frame(CONTINUATION, END_HEADERS, 1, &[])),
        (
            "6.10 CONTINUATION of another stream",
            PROTOCOL_ERROR,
            [part(END_STREAM), frame(CONTINUATION, END_HEADERS, 3, &[])].concat(),
        ),
    ];
    let app = App::named("app");
    let edge = Edge::with(&[&app], |_| {});
    let mut wrong = Vec::new();
    for (what, code, bytes) in table {
        let mut raw = Raw::new(&edge);
        raw.0.send(bytes);
        let word = raw.last_word();
        if word != Some(code) {
            wrong.push((what, word));
        }
    }
    assert_eq!(wrong, [], "in what, and the last word instead");
}

/// Section 3.4: what does not begin as HTTP/2 does is not HTTP/2.
#[test]
fn a_wrong_preface() {
    let app = App::named("app");
    let edge = Edge::with(&[&app], |_| {});
    for (what, bytes) in [
        ("HTTP/1.1", b"GET / HTTP/1.1\r\nhost: shop.test\r\n\r\n".to_vec()),
        ("no SETTINGS", [PREFACE.as_bytes(), &get(1)].concat()),
        ("an acknowledgement", [PREFACE.as_bytes(), &frame(SETTINGS, 1, 0, &[]), &get(1)].concat()),
    ] {
        let mut raw = Raw::silent(&edge);
        raw.0.send(bytes);
        let word = raw.last_word();
        assert!(matches!(word, None | Some(PROTOCOL_ERROR)), "{what}: {word:?}");
    }
    assert_eq!(app.lines(), [""; 0]);
}

/// What is wrong with a stream ends that stream, and the others go on.
#[test]
fn errors_of_a_stream() {
    let open = frame(HEADERS, END_HEADERS, 1, &request("POST", "/", &[]));
    let own_dependency = [&[0, 0, 0, 1, 0][..], &request("GET", "/", &[])].concat();
    let table = [
        // The RFC says STREAM_CLOSED; the library ends the connection, and says this.
        ("5.1 DATA after the end", PROTOCOL_ERROR, [get(1), frame(DATA, 0, 1, b"x")].concat()),
        (
            "5.3.1 a stream that depends on itself",
            PROTOCOL_ERROR,
            frame(HEADERS, WHOLE | 0x20, 1, &own_dependency),
        ),
        (
            "6.9 WINDOW_UPDATE of 0",
            PROTOCOL_ERROR,
            [open.clone(), frame(WINDOW_UPDATE, 0, 1, &[0; 4])].concat(),
        ),
        (
            "6.9.1 a window beyond 2^31-1",
            FLOW_CONTROL_ERROR,
            [open.clone(), frame(WINDOW_UPDATE, 0, 1, &[0x7f, 0xff, 0xff, 0xff])].concat(),
        ),
        (
            "8.1 trailers that do not end",
            PROTOCOL_ERROR,
            [open.clone(), frame(HEADERS, END_HEADERS, 1, &[])].concat(),
        ),
    ];
    // It does not answer, so that streams are open for as long as it takes.
    let app = App::start(|_, _| {
        std::thread::sleep(Duration::from_secs(1));
        crate::common::Then::Close
    });
    let edge = Edge::with(&[&app], |_| {});
    let mut wrong = Vec::new();
    for (what, code, bytes) in table {
        let mut raw = Raw::new(&edge);
        raw.0.send(bytes);
        let end = loop {
            let frame = raw.next().unwrap_or_else(|error| panic!("{what}: {error}"));
            if matches!(frame.kind, RST_STREAM | GOAWAY) {
                break frame.code();
            }
        };
        if end != code {
            wrong.push((what, end));
        }
    }
    assert_eq!(wrong, [], "in what, and the code instead");
}

/// Frames that only cost: each flood ends with a word of calm, and the edge serves others meanwhile.
#[test]
fn floods_end() {
    let more = |size: usize| frame(CONTINUATION, 0, 1, &vec![0; size]);
    let begun = frame(HEADERS, 0, 1, &request("GET", "/", &[]));
    let open = frame(HEADERS, END_HEADERS, 1, &request("POST", "/", &[]));
    let reset = frame(RST_STREAM, 0, 1, &[0, 0, 0, 8]);
    let table = [
        ("SETTINGS (CVE-2019-9515)", vec![], frame(SETTINGS, 0, 0, &[])),
        ("PING (CVE-2019-9512)", vec![], frame(PING, 0, 0, &[0; 8])),
        ("PRIORITY (CVE-2019-9513)", vec![], frame(PRIORITY, 0, 1, &[0, 0, 0, 0, 1])),
        ("WINDOW_UPDATE", vec![], frame(WINDOW_UPDATE, 0, 0, &[0, 0, 0, 1])),
        ("a type of tomorrow", vec![], frame(0x42, 0, 0, b"?")),
        ("DATA without data (CVE-2019-9518)", open.clone(), frame(DATA, 0, 1, b"")),
        ("CONTINUATION without fields", begun.clone(), more(0)),
        ("RST_STREAM of one stream (CVE-2019-9514)", get(1), reset),
    ];
    let app = App::named("app");
    let edge = Edge::with(&[&app], |_| {});
    for (what, first, again) in table {
        let mut raw = Raw::new(&edge);
        raw.0.send(first);
        raw.flood(&again, 20_000);
        assert_eq!(raw.last_word(), Some(ENHANCE_YOUR_CALM), "{what}");
    }
    assert_eq!(edge.get("/").status, 200);
}

/// CVE-2023-44487: streams that are opened only to be reset, however the visitor spaces them.
#[test]
fn rapid_resets_end() {
    let app = App::named("app");
    let edge = Edge::with(&[&app], |_| {});
    for together in [1, 10, 1000] {
        let mut raw = Raw::new(&edge);
        let mut stream = 1;
        let mut ended = false;
        while stream < 20_000 && !ended {
            let mut bytes = Vec::new();
            for _ in 0..together {
                bytes.extend(get(stream));
                bytes.extend(frame(RST_STREAM, 0, stream, &[0, 0, 0, 8]));
                stream += 2;
            }
            ended = raw.0.try_send(bytes).is_err();
        }
        assert_eq!(raw.last_word(), Some(ENHANCE_YOUR_CALM), "{together} together");
        let got = app.got().len();
        assert!(got <= 1000, "{got} requests of {stream} streams reached the app");
    }
    edge.wait_vitals(1, "all leases to be given back", |one| one.unwrap().leases == 0);
}

/// Heads that grow in the reading (HPACK bomb), and heads that have no end, cost no more than their limit.
#[test]
fn large_heads_end() {
    let app = App::named("app");
    let edge = Edge::with(&[&app], |_| {});
    let mut block = request("GET", "/", &[]);
    // An entry of 4000 bytes for the table, and then the entry again and again: one byte each.
    block.push(0x40);
    block.extend([1, b'x', 127, 0xa1, 0x1e]);
    block.extend([b'y'; 4000]);
    block.resize(16_000, 0xbe);
    let mut raw = Raw::new(&edge);
    raw.send(HEADERS, WHOLE, 1, &block);
    assert_eq!(raw.last_word(), Some(ENHANCE_YOUR_CALM), "an HPACK bomb");

    let mut raw = Raw::new(&edge);
    raw.send(HEADERS, END_STREAM, 1, &request("GET", "/", &[]));
    // Fields of 8 KB each, for ever.
    let field = crate::common::http2::fields(&[("x", &"y".repeat(8000))]);
    raw.flood(&frame(CONTINUATION, 0, 1, &field), 10_000);
    assert_eq!(raw.last_word(), Some(ENHANCE_YOUR_CALM), "a head without end (CVE-2024-27316)");
    assert_eq!(app.lines(), [""; 0]);
}

/// What has begun has to end in time, however busily it dribbles.
#[test]
fn what_dribbles_is_late() {
    let app = App::named("app");
    let edge = Edge::with(&[&app], |edge| edge.limits().header_timeout = Duration::from_millis(300));
    let settled = [PREFACE.as_bytes(), &frame(SETTINGS, 0, 0, &[])].concat();
    let begun = [&settled[..], &frame(HEADERS, END_STREAM, 1, &request("GET", "/", &[]))].concat();
    // A frame of its own that takes long, byte for byte.
    let long = frame(HEADERS, WHOLE, 1, &request("GET", "/", &[("x", &"y".repeat(5000))]));
    let slowly = [&begun[..], &frame(CONTINUATION, 0, 1, &[0; 3000])].concat();
    for (what, at_once, slow, code) in [
        ("nothing", vec![], vec![], SETTINGS_TIMEOUT),
        ("a preface", PREFACE.as_bytes()[..10].to_vec(), vec![], SETTINGS_TIMEOUT),
        ("a preface without SETTINGS", PREFACE.as_bytes().to_vec(), vec![], SETTINGS_TIMEOUT),
        ("a head that goes on with nothing", begun.clone(), vec![], ENHANCE_YOUR_CALM),
        ("a head that dribbles", begun, slowly[slowly.len() - 3009..].to_vec(), ENHANCE_YOUR_CALM),
        ("a frame that dribbles", settled.clone(), long, ENHANCE_YOUR_CALM),
        ("a head of a frame that stops", [&settled[..], &[0, 0, 8]].concat(), vec![], ENHANCE_YOUR_CALM),
    ] {
        let mut raw = Raw::silent(&edge);
        raw.0.send(at_once);
        // For longer than it may take, and not so long that it cannot hear why.
        let begun = Instant::now();
        for byte in slow {
            if begun.elapsed() > Duration::from_millis(600) || raw.0.try_send([byte]).is_err() {
                break;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        assert_eq!(raw.last_word(), Some(code), "{what}");
    }
    assert_eq!(app.lines(), [""; 0]);
}

/// No more streams at once than the edge says; those beyond are refused, and may be sent again (section 5.1.2).
#[test]
fn streams_beyond_the_limit_are_refused() {
    let app = App::start(|_, _| {
        std::thread::sleep(Duration::from_secs(2));
        crate::common::Then::Close
    });
    let edge = Edge::with(&[&app], |_| {});
    let mut raw = Raw::new(&edge);
    for number in 0..101 {
        raw.0.send(get(2 * number + 1));
    }
    assert_eq!(raw.end_of(201), Some(7), "REFUSED_STREAM");
}
