//! The codec held against hyper behind the guard: the same bytes, cut at the same places, have to mean the same to both.
//!
//! What the service sees is compared (method, target, version, headers, body, trailers), and what its answers mean to
//! a visitor. Where the two may differ is said at [`Told::agree`], and nowhere else.
//!
//! The quick version runs with the other tests. For longer:
//! `KLAR_FUZZ_SECONDS=600 cargo test -p klar-edge --lib differential -- --ignored --nocapture`

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use http::{HeaderMap, Request, Response, StatusCode, header};
use http_body_util::BodyExt;
use hyper::body::Frame;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestCaseError, TestRunner};
use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};
use tokio::sync::watch;
use tokio::task::{LocalSet, spawn_local, yield_now};

use super::body::VisitorBody;
use super::*;
use crate::chunked::Chunks;
use crate::page::Reason;

// What visitors send

const GOOD_LINES: [&str; 16] = [
    "accept: */*",
    "Cookie: a=1; b=2",
    "Connection: keep-alive",
    "connection: close",
    "Connection: x, Keep-Alive",
    "expect: 100-continue",
    "TE: trailers",
    "x-empty:",
    "X-Long: yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy",
    "x-same: 1",
    "x-same:\t2 ",
    "x-latin: \u{e6}\u{f8}",
    "upgrade: h2c",
    "user-agent: test",
    "range: bytes=0-1",
    "accept-encoding: gzip",
];

const DOUBTFUL_LINES: [&str; 12] = [
    "content-length: 5",
    "content-length: 5, 5",
    "Content-Length: +1",
    "transfer-encoding: chunked",
    "Transfer-Encoding: gzip, chunked",
    "transfer-encoding : chunked",
    "host: other.test",
    " folded: 1",
    "no colon",
    ": nameless",
    "connection: upgrade\r\nupgrade: websocket",
    "x: a\rb",
];

/// Bytes that make a difference somewhere.
const MARKS: &[u8] = b"\r\n\0 \t:;,/?#*%\"{}0159afxG\x7f\x80\xff";

fn body() -> impl Strategy<Value = (String, Vec<u8>)> {
    let data = prop::collection::vec(any::<u8>(), 0..40);
    let extension = prop_oneof![4 => Just(""), 1 => Just(";a=b"), 1 => Just("; \"q\"")];
    let chunk = (prop::collection::vec(any::<u8>(), 1..20), extension, any::<bool>());
    let trailers = prop_oneof![
        3 => Just(""), 1 => Just("x-end: 1\r\n"), 1 => Just("A: b\r\na: c\r\n"), 1 => Just("no trailer\r\n")
    ];
    prop_oneof![
        4 => Just((String::new(), Vec::new())),
        3 => data.prop_map(|data| (format!("content-length: {}\r\n", data.len()), data)),
        3 => (prop::collection::vec(chunk, 0..4), trailers).prop_map(|(chunks, trailers)| {
            let mut bytes = Vec::new();
            for (data, extension, is_upper) in chunks {
                let size = if is_upper { format!("{:X}", data.len()) } else { format!("0{:x}", data.len()) };
                bytes.extend(format!("{size}{extension}\r\n").into_bytes());
                bytes.extend(data);
                bytes.extend(b"\r\n");
            }
            bytes.extend(format!("0\r\n{trailers}\r\n").into_bytes());
            ("Transfer-Encoding: chunked\r\n".to_owned(), bytes)
        }),
    ]
}

prop_compose! {
    fn request()(
        blank in prop_oneof![8 => Just(""), 1 => Just("\r\n"), 1 => Just("\r\n\r\n")],
        method in prop_oneof![
            5 => Just("GET"), 3 => Just("POST"), 1 => Just("HEAD"), 1 => Just("PUT"), 1 => Just("BREW"),
            1 => Just("OPTIONS")
        ],
        target in prop_oneof![
            8 => "/[a-z0-9]{0,6}", 2 => "/[a-z%/.]{0,9}\\?[a-z=&]{0,9}", 1 => "https://shop\\.test/[a-z]{0,5}",
            1 => "/[ -~]{0,6}", 1 => Just("*".to_owned())
        ],
        version in prop_oneof![9 => Just("1.1"), 2 => Just("1.0"), 1 => Just("1.2")],
        host in prop_oneof![12 => Just("Host: shop.test\r\n"), 1 => Just("")],
        lines in prop::collection::vec(prop::sample::select(&GOOD_LINES[..]), 0..5),
        doubtful in prop::option::weighted(0.1, prop::sample::select(&DOUBTFUL_LINES[..])),
        (framing, body) in body(),
    ) -> Vec<u8> {
        let mut head = format!("{blank}{method} {target} HTTP/{version}\r\n{host}");
        for line in lines.into_iter().chain(doubtful) {
            head += line;
            head += "\r\n";
        }
        head += &framing;
        let mut bytes = format!("{head}\r\n").into_bytes();
        bytes.extend(body);
        bytes
    }
}

#[derive(Debug, Clone, Copy)]
enum Fault {
    Change(u8),
    Insert(u8),
    Remove(usize),
    Repeat(usize),
}

fn fault() -> impl Strategy<Value = (u16, Fault)> {
    let mark = prop::sample::select(MARKS);
    let fault = prop_oneof![
        mark.clone().prop_map(Fault::Change),
        mark.prop_map(Fault::Insert),
        (1..6_usize).prop_map(Fault::Remove),
        (1..30_usize).prop_map(Fault::Repeat),
    ];
    (any::<u16>(), fault)
}

/// A connection: the pieces in which its bytes come.
fn pieces() -> impl Strategy<Value = Vec<Vec<u8>>> {
    let faults = prop_oneof![1 => Just(Vec::new()), 1 => prop::collection::vec(fault(), 1..4)];
    let cuts = prop_oneof![
        1 => Just(vec![usize::MAX]),
        1 => Just(vec![1]),
        3 => prop::collection::vec(1..60_usize, 1..8)
    ];
    (prop::collection::vec(request(), 1..5), faults, cuts).prop_map(|(requests, faults, cuts)| {
        let mut bytes = requests.concat();
        for (at, fault) in faults {
            let at = at as usize % bytes.len().max(1);
            let end = |length| bytes.len().min(at + length);
            match fault {
                Fault::Change(mark) => bytes[at] = mark,
                Fault::Insert(mark) => bytes.insert(at, mark),
                Fault::Remove(length) => drop(bytes.drain(at..end(length))),
                Fault::Repeat(length) => {
                    let part = bytes[at..end(length)].to_vec();
                    bytes.splice(at..at, part);
                }
            }
        }
        let (mut rest, mut cuts, mut pieces) = (&bytes[..], cuts.into_iter().cycle(), Vec::new());
        while !rest.is_empty() {
            let (piece, more) = rest.split_at(rest.len().min(cuts.next().unwrap_or(1)));
            pieces.push(piece.to_vec());
            rest = more;
        }
        pieces
    })
}

// What the service sees, and what it answers

#[derive(Debug, Clone, PartialEq, Eq)]
struct Seen {
    line: String,
    headers: Vec<(String, Vec<u8>)>,
    /// `None`: it broke off, or could not be read.
    body: Option<Vec<u8>>,
    trailers: Vec<(String, Vec<u8>)>,
    length: usize,
}

fn list(map: &HeaderMap) -> Vec<(String, Vec<u8>)> {
    let mut all: Vec<_> =
        map.iter().map(|(name, value)| (name.to_string(), value.as_bytes().to_vec())).collect();
    // Lines of one name keep their order.
    all.sort_by(|one, other| one.0.cmp(&other.0));
    all
}

#[derive(Debug, Clone, Default)]
struct Ear(Rc<RefCell<Vec<Result<Seen, Refusal>>>>);

/// The pieces of an answer, and whether its length is known beforehand.
struct Pieces {
    left: Vec<&'static [u8]>,
    is_known: bool,
    waited: bool,
}

impl Body for Pieces {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        self: std::pin::Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let this = self.get_mut();
        this.waited = !this.waited;
        if this.waited && !this.is_known {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        Poll::Ready(this.left.pop().map(|piece| Ok(Frame::data(Bytes::from_static(piece)))))
    }

    fn is_end_stream(&self) -> bool {
        self.is_known && self.left.is_empty()
    }

    fn size_hint(&self) -> hyper::body::SizeHint {
        let length = self.left.iter().map(|piece| piece.len() as u64).sum();
        if self.is_known { hyper::body::SizeHint::with_exact(length) } else { Default::default() }
    }
}

impl Service for Ear {
    type Body = Pieces;
    type Waiting = std::convert::Infallible;

    async fn answer(&self, note: HeadNote, request: Request<VisitorBody>) -> Response<Pieces> {
        let answer = |status, pieces: &[&'static [u8]], is_known| {
            let left = pieces.iter().rev().copied().collect();
            let mut response = Response::new(Pieces { left, is_known, waited: false });
            *response.status_mut() = StatusCode::from_u16(status).unwrap();
            response
        };
        let refused = |status| {
            let mut response = answer(status, &[b"no"], true);
            response.headers_mut().insert(header::CONNECTION, header::HeaderValue::from_static("close"));
            response
        };
        if let Some(refusal) = note.refusal {
            self.0.borrow_mut().push(Err(refusal));
            return refused(Reason::from(refusal).status.as_u16());
        }
        let (parts, mut body) = request.into_parts();
        let (mut data, mut trailers, mut is_whole) = (Vec::new(), Vec::new(), true);
        while let Some(frame) = body.frame().await {
            match frame.map(Frame::into_data) {
                Ok(Ok(piece)) => data.extend(piece),
                Ok(Err(frame)) => trailers = list(&frame.into_trailers().unwrap_or_default()),
                Err(_) => {
                    is_whole = false;
                    break;
                }
            }
        }
        let line = format!("{} {} {:?}", parts.method, parts.uri, parts.version);
        let sum: usize = line.bytes().map(usize::from).sum();
        self.0.borrow_mut().push(Ok(Seen {
            line,
            headers: list(&parts.headers),
            body: is_whole.then_some(data),
            trailers,
            length: note.length,
        }));
        if !is_whole {
            return refused(400);
        }
        yield_now().await;
        if note.upgrade {
            return refused(501);
        }
        const LONG: &[u8] = &[b'x'; 20_000];
        let mut response = match sum % 8 {
            0 => answer(200, &[b"hello"], true),
            1 => answer(200, &[b"one", b"two", b"three"], false),
            2 => answer(204, &[], true),
            3 => answer(200, &[b"four", b"teen bytes"], false),
            4 => answer(304, &[], true),
            5 => answer(200, &[LONG, b"", LONG], sum % 16 == 5),
            6 => answer(404, &[], true),
            _ => answer(203, &[b"", b"x", b""], false),
        };
        let length = match sum % 8 {
            3 => Some("14"),
            5 if parts.method == http::Method::HEAD => Some("40000"),
            _ => None,
        };
        if let Some(length) = length {
            response.headers_mut().insert(header::CONTENT_LENGTH, length.parse().unwrap());
        }
        response.headers_mut().insert(header::ETAG, format!("\"{sum}\"").parse().unwrap());
        if parts.method == http::Method::HEAD {
            let body = response.body_mut();
            (body.left, body.is_known) = (Vec::new(), true);
        }
        response
    }
}

// What became of it

/// An answer as a visitor reads it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Heard {
    line: String,
    headers: BTreeMap<String, String>,
    body: Vec<u8>,
    /// The connection ends with it.
    is_last: bool,
}

#[derive(Debug)]
struct Told {
    seen: Vec<Result<Seen, Refusal>>,
    heard: Vec<Heard>,
}

/// Reads the answers to `requests`, whose methods are known. Fails where they are not framed as they should be.
fn hear(mut bytes: &[u8], seen: &[Result<Seen, Refusal>]) -> Vec<Heard> {
    let mut heard = Vec::new();
    while !bytes.is_empty() {
        let end = bytes.windows(4).position(|four| four == b"\r\n\r\n").expect("the end of a head") + 4;
        let (head, rest) = bytes.split_at(end);
        let head = String::from_utf8(head.to_vec()).unwrap();
        let (line, lines) = head.split_once("\r\n").unwrap();
        bytes = rest;
        if line.contains(" 100 ") {
            continue;
        }
        let mut headers = BTreeMap::new();
        for line in lines.trim_end().lines() {
            let (name, value) = line.split_once(": ").expect("a header");
            assert_eq!(headers.insert(name.to_owned(), value.to_owned()), None, "{name} twice in {head:?}");
        }
        assert!(headers.remove("date").is_some(), "{head:?}");
        let connection = headers.remove("connection");
        let is_old = line.starts_with("HTTP/1.0");
        let mut is_last = if is_old { connection.is_none() } else { connection.as_deref() == Some("close") };
        let request = seen.get(heard.len()).and_then(|seen| seen.as_ref().ok());
        let is_head = request.is_some_and(|seen| seen.line.starts_with("HEAD "));
        let status = &line[9..12];
        let mut body = Vec::new();
        if is_head || ["204", "304"].contains(&status) {
            assert!(!headers.contains_key("transfer-encoding"), "{head:?}");
        } else if headers.contains_key("transfer-encoding") {
            let mut inbound = Inbound::default();
            inbound.unread.extend_from_slice(bytes);
            inbound.rest = Rest::Chunked(Box::new(Chunks::new()));
            while let inbound::Decoded::Piece(frame, _) = inbound.decode().expect("good chunks") {
                body.extend(frame.into_data().unwrap());
            }
            assert!(matches!(inbound.rest, Rest::Head), "the end of {head:?}");
            bytes = &bytes[bytes.len() - inbound.unread.len()..];
        } else if let Some(length) = headers.get("content-length") {
            let (here, rest) = bytes.split_at(length.parse().unwrap());
            (body, bytes) = (here.to_vec(), rest);
        } else {
            // Whatever it says: hyper promises to keep connections whose end is the end of the answer.
            is_last = true;
            body = std::mem::take(&mut bytes).to_vec();
        }
        heard.push(Heard { line: line.to_owned(), headers, body, is_last });
        assert!(!is_last || bytes.is_empty(), "{:?} after the end", bytes.escape_ascii().to_string());
    }
    heard
}

impl Told {
    /// Whether both mean the same. `self` is what the codec made of it, `other` what hyper did.
    fn agree(&self, other: &Self) -> Result<(), String> {
        for (at, pair) in in_step(&self.seen, &other.seen).enumerate() {
            match pair {
                (Some(one), Some(other)) if one == other => {}
                // hyper refuses without asking the service what cannot be made a request of; klar tells it.
                (Some(Err(Refusal::Bad(_))), None) => {}
                (one, other) => return Err(format!("request {at}: {one:?} and {other:?}")),
            }
        }
        for (at, pair) in in_step(&self.heard, &other.heard).enumerate() {
            let broken = !matches!(self.seen.get(at), Some(Ok(Seen { body: Some(_), .. })));
            match pair {
                (Some(one), Some(other)) if one == other => {}
                // What hyper says of its own is shorter, and it takes back a `close` towards HTTP/1.0. Its version may be that of the request before.
                (Some(one), Some(other)) if broken && one.line[8..] == other.line[8..] && one.is_last => {
                    if !other.is_last && !other.line.starts_with("HTTP/1.0") {
                        return Err(format!("answer {at} does not end the connection: {other:?}"));
                    }
                }
                // A request that breaks off is answered; hyper hangs up on some.
                (Some(one), None) if broken && one.is_last => {}
                (one, other) => return Err(format!("answer {at}: {one:?} and {other:?}")),
            }
        }
        Ok(())
    }
}

/// Both, item by item, for as long as there is one in either.
fn in_step<'a, T>(one: &'a [T], other: &'a [T]) -> impl Iterator<Item = (Option<&'a T>, Option<&'a T>)> {
    (0..one.len().max(other.len())).map(|at| (one.get(at), other.get(at)))
}

/// More than any of these takes.
const LONG: Duration = Duration::from_secs(600);
const CLOCKS: Clocks = Clocks { head_bytes: 400, head: LONG, stall: LONG, idle: LONG };
/// After so many turns of the scheduler in which nothing came, nothing comes.
const TURNS: usize = 12;

async fn tell(pieces: &[Vec<u8>], is_codec: bool) -> Told {
    let ear = Ear::default();
    let (mut visitor, edge) = duplex(1 << 20);
    let (_stop, mut stopped) = watch::channel(false);
    let service = ear.clone();
    let serving = spawn_local(async move {
        let (edge, unread) = if is_codec {
            match serve(edge, CLOCKS, &service, &mut stopped).await {
                End::Closed => return,
                End::Unusual { stream, unread } => (stream, unread),
            }
        } else {
            (edge, BytesMut::new())
        };
        fallback::serve(edge, unread, CLOCKS, |_| service, &mut stopped).await;
    });
    let mut answers = BytesMut::new();
    for piece in pieces {
        // The edge may have hung up.
        let _ = visitor.write_all(piece).await;
        yield_now().await;
    }
    let mut quiet = 0;
    while quiet < TURNS {
        let read = tokio::select! {
            biased;
            read = visitor.read_buf(&mut answers) => read.unwrap_or(0),
            () = yield_now() => 0,
        };
        quiet = if read == 0 { quiet + 1 } else { 0 };
    }
    let _ = visitor.shutdown().await;
    while visitor.read_buf(&mut answers).await.is_ok_and(|read| read > 0) {}
    serving.await.unwrap();
    let seen = ear.0.take();
    Told { heard: hear(&answers, &seen), seen }
}

fn compare(pieces: &[Vec<u8>]) -> Result<(), TestCaseError> {
    thread_local! {
        static RUNTIME: tokio::runtime::Runtime =
            tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    }
    RUNTIME.with(|runtime| {
        LocalSet::new().block_on(runtime, async {
            let (codec, hyper) = (tell(pieces, true).await, tell(pieces, false).await);
            codec.agree(&hyper).map_err(|difference| {
                let pieces: Vec<_> = pieces.iter().map(|piece| piece.escape_ascii().to_string()).collect();
                TestCaseError::fail(format!("{difference} after {pieces:#?}"))
            })
        })
    })
}

fn run(cases: u32, runner: &mut TestRunner) {
    runner
        .run(&pieces(), |pieces| compare(&pieces))
        .unwrap_or_else(|error| panic!("of {cases} cases: {error}"));
}

#[test]
fn the_codec_and_hyper_agree() {
    const CASES: u32 = 500;
    run(CASES, &mut TestRunner::new(Config { failure_persistence: None, ..Config::with_cases(CASES) }));
}

/// For as many seconds as `KLAR_FUZZ_SECONDS` says.
#[test]
#[ignore = "takes as long as it is told to"]
fn the_codec_and_hyper_agree_for_long() {
    const CASES: u32 = 2000;
    let seconds = std::env::var("KLAR_FUZZ_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(60);
    let end = Instant::now() + Duration::from_secs(seconds);
    let mut count = 0_u64;
    while Instant::now() < end {
        run(CASES, &mut TestRunner::new(Config { failure_persistence: None, ..Config::with_cases(CASES) }));
        count += u64::from(CASES);
    }
    println!("{count} connections in {seconds} s, no difference");
}
