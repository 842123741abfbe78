//! This client and hyper's get the same bytes, cut at the same places: they have to come to the same end.
//!
//! Where this one refuses what hyper takes, it has to say that it found the bytes doubtful ([`Fault::Doubtful`]); it
//! must never take what hyper refuses. What is well formed it has to take. The bytes are answers that were made up by
//! chance, and most were then damaged.

use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};

use bytes::Bytes;
use fastrand::Rng;
use http::header::{HeaderMap, HeaderValue};
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::TokioIo;
use proptest::prelude::*;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{Fault, Link, Miss};
use crate::asking::Asking;
use crate::forward::ToApp;

// ---------------------------------------------------------------------------------------------------------------
// A connection that says what it was told to, once it was asked

#[derive(Debug, Clone)]
struct Script {
    pieces: VecDeque<Vec<u8>>,
    /// The connection is closed behind the last piece, or else stays open.
    closes: bool,
    asked: bool,
    /// A piece has just been read, and the next one has not come yet.
    between: bool,
    reader: Option<Waker>,
}

impl AsyncRead for Script {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.reader = Some(cx.waker().clone());
        if !this.asked {
            return Poll::Pending;
        }
        if std::mem::take(&mut this.between) {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        match this.pieces.front_mut() {
            None if this.closes => Poll::Ready(Ok(())),
            None => Poll::Pending,
            Some(piece) => {
                let here = piece.len().min(out.remaining());
                out.put_slice(&piece[..here]);
                piece.drain(..here);
                if piece.is_empty() {
                    this.pieces.pop_front();
                    this.between = true;
                }
                Poll::Ready(Ok(()))
            }
        }
    }
}

impl AsyncWrite for Script {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        this.asked = true;
        if let Some(reader) = this.reader.take() {
            reader.wake();
        }
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

struct Flag(AtomicBool);

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// Runs a future until it is ready, or `None`: until nothing can wake it any more.
fn drive<F: Future>(future: F) -> Option<F::Output> {
    let flag = Arc::new(Flag(AtomicBool::new(false)));
    let waker = Waker::from(flag.clone());
    let mut future = pin!(future);
    loop {
        if let Poll::Ready(out) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
            return Some(out);
        }
        if !flag.0.swap(false, Ordering::SeqCst) {
            return None;
        }
    }
}

// ---------------------------------------------------------------------------------------------------------------
// Both clients

#[derive(Debug, PartialEq, Eq)]
enum Outcome {
    Answer(Answer),
    Refused,
    /// This client alone says so.
    Doubtful(String),
    /// More has to come, and does not.
    Waits,
}

#[derive(Debug, PartialEq, Eq)]
struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: Vec<u8>,
    trailers: Option<HeaderMap>,
    reusable: bool,
}

/// What of the headers goes on. Ours leaves out at once what nearly all answers have.
fn for_visitors(mut headers: HeaderMap) -> HeaderMap {
    crate::headers::from_app(&mut headers);
    headers
}

fn request(method: &Method) -> http::request::Parts {
    let mut parts = Request::new(()).into_parts().0;
    parts.method = method.clone();
    parts.headers.insert("host", HeaderValue::from_static("shop.test"));
    parts
}

fn ours(script: &Script, method: &Method) -> Outcome {
    let refused = |error: io::Error| match error.get_ref().and_then(|error| error.downcast_ref()) {
        Some(Fault::Doubtful(what)) => Outcome::Doubtful((*what).to_owned()),
        _ => Outcome::Refused,
    };
    let parts = request(method);
    let link = Link::new(script.clone());
    let mut response = match drive(link.exchange(Asking::own(&parts).in_http1(), ToApp::default())) {
        None => return Outcome::Waits,
        Some(Err(Miss::Sent(error) | Miss::Unsent(error, _))) => return refused(error),
        Some(Ok(response)) => response,
    };
    let (mut body, mut trailers) = (Vec::new(), None);
    loop {
        match drive(poll_fn(|cx| response.body_mut().poll(cx))) {
            None => return Outcome::Waits,
            Some(None) => break,
            Some(Some(Err(error))) => return refused(error),
            Some(Some(Ok(frame))) => match frame.into_data() {
                Ok(data) => body.extend_from_slice(&data),
                Err(frame) => trailers = frame.into_trailers().ok(),
            },
        }
    }
    let (head, reply) = response.into_parts();
    // Some of these looks fall between two pieces.
    let looks = 2 * script.pieces.len() + 2;
    let reusable = reply.into_link().is_some_and(|mut link| (0..looks).all(|_| link.is_quiet()));
    Outcome::Answer(Answer {
        status: head.status,
        headers: for_visitors(head.headers),
        body,
        trailers,
        reusable,
    })
}

fn hypers(script: &Script, method: &Method) -> Outcome {
    let io = TokioIo::new(script.clone());
    let Some(Ok((mut sender, connection))) = drive(hyper::client::conn::http1::handshake(io)) else {
        return Outcome::Refused;
    };
    let mut connection = Some(Box::pin(connection));
    let request = Request::from_parts(request(method), Full::<Bytes>::default());
    let mut exchange = Box::pin(async {
        let response = sender.send_request(request).await?;
        let (head, body) = response.into_parts();
        let whole = body.collect().await?;
        let trailers = whole.trailers().cloned();
        Ok::<_, hyper::Error>((head, whole.to_bytes(), trailers))
    });
    let mut run = |cx: &mut Context<'_>| {
        if connection.as_mut().is_some_and(|connection| connection.as_mut().poll(cx).is_ready()) {
            connection = None;
        }
    };
    let ended = drive(poll_fn(|cx| {
        run(cx);
        exchange.as_mut().poll(cx)
    }));
    drop(exchange);
    let (head, body, trailers) = match ended {
        None => return Outcome::Waits,
        Some(Err(_)) => return Outcome::Refused,
        Some(Ok(all)) => all,
    };
    drive(poll_fn(|cx| {
        run(cx);
        Poll::<()>::Pending
    }));
    let reusable = sender.is_ready();
    Outcome::Answer(Answer {
        status: head.status,
        headers: for_visitors(head.headers),
        body: body.to_vec(),
        trailers,
        reusable,
    })
}

// ---------------------------------------------------------------------------------------------------------------
// Answers

#[derive(Debug)]
struct Case {
    method: Method,
    script: Script,
    bytes: Vec<u8>,
    /// It is as it should be, and all of it is there.
    is_good: bool,
}

const LINES: [&str; 10] = [
    "Server: app",
    "Date: Sun, 06 Nov 1994 08:49:37 GMT",
    "content-type: text/html; charset=utf-8",
    "X-Empty:",
    "X-Blank: \t blanks around \t ",
    "Set-Cookie: a=b; Path=/",
    "Set-Cookie: c=d",
    "Connection: keep-alive",
    "Connection: close",
    "X-High: \u{e5}\u{e6}\u{f8}",
];
const STATUSES: [&str; 8] = [
    "200 OK",
    "200 ",
    "204 No Content",
    "304 Not Modified",
    "404 Not Found",
    "500 Oh no",
    "206 Part",
    "301 x",
];
const INTERIM: [&str; 3] = [
    "HTTP/1.1 100 Continue\r\n\r\n",
    "HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\n",
    "HTTP/1.1 102 x\r\n\r\n",
];
/// Bytes that mean something where an answer is cut up.
const LOADED: &[u8] = b"\r\n :;,\t\x00012789aAfFgxX=\"HTP/.-+\x7f\x80\xff";

fn lines(rng: &mut Rng, out: &mut String) {
    for _ in 0..rng.usize(..5) {
        out.push_str(LINES[rng.usize(..LINES.len())]);
        out.push_str("\r\n");
    }
}

/// A good answer, and whether its end is that of the connection.
fn answer(rng: &mut Rng, method: &Method) -> (Vec<u8>, bool) {
    let mut head = String::new();
    for _ in 0..rng.usize(..6).saturating_sub(3) {
        head.push_str(INTERIM[rng.usize(..INTERIM.len())]);
    }
    let status = STATUSES[rng.usize(..STATUSES.len())];
    let is_old = rng.u8(..8) == 0;
    head.push_str(if is_old { "HTTP/1.0 " } else { "HTTP/1.1 " });
    head.push_str(status);
    head.push_str("\r\n");
    lines(rng, &mut head);
    let size = if rng.u8(..16) == 0 { rng.usize(..200_000) } else { rng.usize(..40) };
    let content: Vec<u8> = (0..size).map(|_| rng.u8(..)).collect();
    let is_bodiless = *method == Method::HEAD || status.starts_with("204") || status.starts_with("304");
    let (mut body, mut to_end) = (Vec::new(), false);
    match rng.u8(..if is_old { 2 } else { 4 }) {
        0 => {
            head.push_str(&format!("Content-Length: {size}\r\n"));
            body = content;
        }
        1 => {
            to_end = !is_bodiless;
            body = content;
        }
        _ => {
            head.push_str("Transfer-Encoding: chunked\r\n");
            let mut rest = &content[..];
            while !rest.is_empty() {
                let (chunk, more) = rest.split_at(1 + rng.usize(..rest.len()));
                let extension = if rng.u8(..4) == 0 { ";name=\"v a\"" } else { "" };
                body.extend(format!("{:x}{extension}\r\n", chunk.len()).bytes());
                body.extend(chunk);
                body.extend(b"\r\n");
                rest = more;
            }
            let mut end = "0\r\n".to_owned();
            if rng.u8(..3) == 0 {
                lines(rng, &mut end);
            }
            body.extend(end.bytes());
            body.extend(b"\r\n");
        }
    }
    lines(rng, &mut head);
    let mut bytes = (head + "\r\n").into_bytes();
    if !is_bodiless {
        bytes.extend(body);
    }
    (bytes, to_end)
}

fn damage(rng: &mut Rng, bytes: &mut Vec<u8>) {
    if bytes.is_empty() {
        return;
    }
    // Heads are where it matters, and bodies are long.
    let end = if rng.bool() { bytes.len() } else { bytes.len().min(300) };
    let at = rng.usize(..end);
    let loaded = LOADED[rng.usize(..LOADED.len())];
    match rng.u8(..7) {
        0 => drop(bytes.remove(at)),
        1 => bytes.insert(at, loaded),
        2 => bytes[at] = loaded,
        3 => bytes[at] = rng.u8(..),
        4 => bytes.truncate(at),
        5 => {
            let to = (at + rng.usize(..40)).min(bytes.len());
            let again = bytes[at..to].to_vec();
            let place = rng.usize(..=bytes.len());
            bytes.splice(place..place, again);
        }
        _ => {
            let line =
                ["Content-Length: 3\r\n", "Transfer-Encoding: chunked\r\n", "\r\n", "\n", " folded\r\n"];
            let ends: Vec<usize> = (1..end).filter(|at| bytes[at - 1] == b'\n').collect();
            let at = if ends.is_empty() { at } else { ends[rng.usize(..ends.len())] };
            bytes.splice(at..at, line[rng.usize(..line.len())].bytes());
        }
    }
}

impl Case {
    fn of(seed: u64) -> Self {
        let rng = &mut Rng::with_seed(seed);
        let method = [Method::GET, Method::HEAD, Method::POST][rng.usize(..3)].clone();
        let (mut bytes, to_end) = answer(rng, &method);
        let hurts = rng.usize(..6).saturating_sub(1);
        (0..hurts).for_each(|_| damage(rng, &mut bytes));
        let mut is_good = hurts == 0;
        let closes = to_end || rng.bool();
        if rng.u8(..8) == 0 {
            bytes.extend(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx");
            is_good = false;
        }
        let mut pieces = VecDeque::new();
        let mut rest = &bytes[..];
        let longest = [1, 7, 100, usize::MAX][rng.usize(..4)];
        // Long bodies byte by byte tell no more than their beginning.
        while !rest.is_empty() {
            let here = rest.len().min(longest.saturating_add(bytes.len() / 2000)).max(1);
            let (piece, more) = rest.split_at(1 + rng.usize(..here));
            pieces.push_back(piece.to_vec());
            rest = more;
        }
        let script = Script { pieces, closes, asked: false, between: false, reader: None };
        Self { method, script, bytes, is_good }
    }

    /// Compares the two; `true`: this client refused what hyper took.
    fn check(&self) -> Result<bool, String> {
        let (ours, theirs) = (ours(&self.script, &self.method), hypers(&self.script, &self.method));
        let stricter = match (&ours, &theirs) {
            (Outcome::Doubtful(_), theirs) => !matches!(theirs, Outcome::Refused),
            (ours, theirs) if ours == theirs => false,
            // Hyper looks again only when the end of the head is there.
            (Outcome::Refused, Outcome::Waits) => false,
            _ => {
                let shown = String::from_utf8_lossy(&self.bytes[..self.bytes.len().min(2000)]).into_owned();
                return Err(format!("{} {shown:?}\nours: {ours:?}\nhyper's: {theirs:?}", self.method));
            }
        };
        if self.is_good && !matches!(ours, Outcome::Answer(_)) {
            return Err(format!("{:?} is good, and gave {ours:?}", String::from_utf8_lossy(&self.bytes)));
        }
        Ok(stricter)
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3000))]

    #[test]
    fn both_clients_understand_the_same(seed in any::<u64>()) {
        if let Err(difference) = Case::of(seed).check() {
            return Err(TestCaseError::fail(format!("seed {seed}: {difference}")));
        }
    }
}

/// The same for as long as `KLAR_FUZZ_SECONDS` says.
#[test]
#[ignore = "runs for KLAR_FUZZ_SECONDS seconds, 60 unless told"]
fn both_clients_understand_the_same_for_long() {
    let seconds =
        std::env::var("KLAR_FUZZ_SECONDS").ok().and_then(|seconds| seconds.parse().ok()).unwrap_or(60);
    let end = Instant::now() + Duration::from_secs(seconds);
    let (mut count, mut stricter) = (0_u64, 0_u64);
    while Instant::now() < end {
        let seed = fastrand::u64(..);
        stricter += u64::from(Case::of(seed).check().unwrap_or_else(|why| panic!("seed {seed}: {why}")));
        count += 1;
    }
    println!("{count} answers; {stricter} were too doubtful for this client alone");
}
