//! What a connection does, over a pipe: a visitor writes at one end, the codec serves the other.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;

use http::header::{self, HeaderMap, HeaderValue};
use http_body_util::BodyExt;
use hyper::body::{Frame, SizeHint};
use tokio::io::{AsyncReadExt, DuplexStream, duplex};
use tokio::sync::Notify;
use tokio::task::{JoinHandle, LocalSet, spawn_local};

use super::*;

/// Longer than anything takes, also on a machine that is busy.
const PATIENCE: Duration = Duration::from_secs(30);
const CLOCKS: Clocks = Clocks { head_bytes: 1000, head: PATIENCE, stall: PATIENCE, idle: PATIENCE };
const SHORT: Duration = Duration::from_millis(30);

/// Pieces of an answer, each when its turn has come.
struct Pieces(VecDeque<io::Result<Frame<Bytes>>>);

impl Body for Pieces {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        self: std::pin::Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        Poll::Ready(self.get_mut().0.pop_front())
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::default()
    }
}

/// Answers by what is asked for, and notes what happens.
#[derive(Clone, Default)]
struct Site {
    log: Rc<RefCell<Vec<String>>>,
    /// `/wait` waits for it.
    go: Rc<Notify>,
    /// A request that was begun and not yet answered or dropped.
    open: Rc<Cell<u32>>,
}

struct Open(Rc<Cell<u32>>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

impl Service for Site {
    type Body = Pieces;
    type Waiting = std::convert::Infallible;

    async fn answer(&self, note: HeadNote, request: Request<VisitorBody>) -> Response<Pieces> {
        self.open.set(self.open.get() + 1);
        let _open = Open(self.open.clone());
        let (parts, body) = request.into_parts();
        let path = parts.uri.path().to_owned();
        let word = match (note.refusal, path.as_str()) {
            (Some(refusal), _) => format!("{refusal:?}"),
            (None, "/unread") => "unread".into(),
            (None, "/wait") => {
                self.go.notified().await;
                "waited".into()
            }
            (None, _) => match body.collect().await {
                Ok(all) => String::from_utf8_lossy(&all.to_bytes()).into_owned(),
                Err(error) => format!("{:?}", error.kind()),
            },
        };
        self.log.borrow_mut().push(format!("{path} {word}"));
        let data = |text: String| Ok(Frame::data(Bytes::from(text)));
        let pieces = match path.as_str() {
            "/trailers" => {
                let trailers = HeaderMap::from_iter([(header::ETAG, HeaderValue::from_static("end"))]);
                vec![data("x".into()), Ok(Frame::trailers(trailers))]
            }
            "/long" => vec![data("x".repeat(1 << 20))],
            "/breaks" => vec![data("half".into()), Err(io::ErrorKind::BrokenPipe.into())],
            "/short" | "/more" => vec![data("word".into())],
            _ => vec![data(word)],
        };
        let mut response = Response::new(Pieces(pieces.into()));
        let length = match path.as_str() {
            "/short" => "5",
            "/more" => "3",
            _ => return response,
        };
        response.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from_static(length));
        response
    }
}

struct Line {
    visitor: DuplexStream,
    site: Site,
    stop: watch::Sender<bool>,
    serving: JoinHandle<bool>,
}

impl Line {
    fn open(clocks: Clocks) -> Self {
        let (visitor, edge) = duplex(64 * 1024);
        let (stop, mut stopped) = watch::channel(false);
        let site = Site::default();
        let service = site.clone();
        let serving =
            spawn_local(
                async move { matches!(serve(edge, clocks, &service, &mut stopped).await, End::Closed) },
            );
        Self { visitor, site, stop, serving }
    }

    async fn send(&mut self, text: &str) {
        self.visitor.write_all(text.as_bytes()).await.unwrap();
    }

    /// Reads until `end` has come.
    async fn until(&mut self, end: &str) -> String {
        let mut read = Vec::new();
        while !read.ends_with(end.as_bytes()) {
            let byte = tokio::time::timeout(PATIENCE, self.visitor.read_u8()).await;
            match byte.unwrap_or_else(|_| panic!("waited in vain for {end:?}")) {
                Ok(byte) => read.push(byte),
                Err(_) => panic!("no {end:?} in {:?}", String::from_utf8_lossy(&read)),
            }
        }
        String::from_utf8(read).unwrap()
    }

    /// Reads until the edge hangs up.
    async fn rest(&mut self) -> String {
        let mut read = Vec::new();
        tokio::time::timeout(PATIENCE, self.visitor.read_to_end(&mut read)).await.unwrap().unwrap();
        String::from_utf8(read).unwrap()
    }

    /// Waits for the end of the connection.
    async fn end(self) {
        drop(self.visitor);
        assert!(tokio::time::timeout(PATIENCE, self.serving).await.unwrap().unwrap());
        assert_eq!(self.site.open.get(), 0, "nothing is left behind");
    }

    /// Waits until a request is being answered.
    async fn begun(&self) {
        while self.site.open.get() == 0 {
            tokio::task::yield_now().await;
        }
    }
}

fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    LocalSet::new().block_on(&runtime, test);
}

fn ask(path: &str, lines: &str) -> String {
    format!("POST {path} HTTP/1.1\r\nhost: a\r\n{lines}\r\n")
}

/// RFC 9110 section 10.1.1: who waits to be told is told when somebody wants the body, and not otherwise.
#[test]
fn a_body_is_called_for_when_it_is_wanted() {
    run(async {
        let mut line = Line::open(CLOCKS);
        line.send(&ask("/", "content-length: 4\r\nexpect: 100-continue\r\n")).await;
        assert_eq!(line.until("\r\n\r\n").await, "HTTP/1.1 100 Continue\r\n\r\n");
        line.send("bo").await;
        line.send("dy").await;
        assert!(line.until("0\r\n\r\n").await.ends_with("\r\n\r\n4\r\nbody\r\n0\r\n\r\n"));
        // It is here already.
        line.send(&(ask("/", "content-length: 4\r\nexpect: 100-continue\r\n") + "body")).await;
        assert!(line.until("0\r\n\r\n").await.starts_with("HTTP/1.1 200 OK\r\n"));
        // Nobody wants it, so what comes next is not known.
        line.send(&ask("/unread", "content-length: 4\r\nexpect: 100-continue\r\n")).await;
        assert!(line.rest().await.starts_with("HTTP/1.1 200 OK\r\n"));
        line.end().await;
    });
}

/// A body that nobody reads does not become the next request.
#[test]
fn what_nobody_reads_is_skipped_or_ends_the_connection() {
    let smuggled = "GET /smuggled HTTP/1.1\r\nhost: a\r\n\r\n";
    let chunked = format!("{:x}\r\n{smuggled}\r\n0\r\n\r\n", smuggled.len());
    for (framing, body, goes_on) in [
        (format!("content-length: {}\r\n", smuggled.len()), smuggled.to_owned(), true),
        ("transfer-encoding: chunked\r\n".to_owned(), chunked, true),
        (format!("content-length: {}\r\n", smuggled.len() + 1), smuggled.to_owned(), false),
        ("transfer-encoding: chunked\r\n".to_owned(), smuggled.to_owned(), false),
        ("content-length: 100000\r\n".to_owned(), "x".repeat(100_000), false),
    ] {
        run(async {
            let mut line = Line::open(CLOCKS);
            line.send(&ask("/unread", &framing)).await;
            // The edge may hang up before it has read everything.
            let _ = line.visitor.write_all(body.as_bytes()).await;
            if goes_on {
                line.until("0\r\n\r\n").await;
                line.send(&ask("/next", "connection: close\r\n")).await;
            }
            line.rest().await;
            let paths = if goes_on { vec!["/unread unread", "/next "] } else { vec!["/unread unread"] };
            assert_eq!(*line.site.log.borrow(), paths, "{framing}");
            line.end().await;
        });
    }
}

/// Who leaves is not served any longer.
#[test]
fn a_visitor_that_leaves_is_noticed() {
    run(async {
        let mut line = Line::open(CLOCKS);
        line.send(&ask("/wait", "")).await;
        line.begun().await;
        line.end().await;

        // Half a body is none.
        let mut line = Line::open(CLOCKS);
        line.send(&ask("/half", "content-length: 4\r\n")).await;
        line.send("bo").await;
        line.begun().await;
        line.visitor.shutdown().await.unwrap();
        let rest = line.rest().await;
        assert!(rest.contains("UnexpectedEof"), "{rest}");
        line.end().await;

        // Those that asked before they said that they ask nothing more are answered.
        let mut line = Line::open(CLOCKS);
        line.send(&(ask("/1", "") + &ask("/2", ""))).await;
        line.visitor.shutdown().await.unwrap();
        assert_eq!(line.rest().await.matches("200 OK").count(), 2);
        line.end().await;
    });
}

/// What was asked for while an answer was awaited is answered after it.
#[test]
fn what_is_asked_meanwhile_waits() {
    run(async {
        let mut line = Line::open(CLOCKS);
        line.send(&ask("/wait", "")).await;
        line.begun().await;
        line.send(&ask("/next", "connection: close\r\n")).await;
        for _ in 0..20 {
            tokio::task::yield_now().await;
        }
        assert_eq!(*line.site.log.borrow(), [""; 0]);
        line.site.go.notify_one();
        line.rest().await;
        assert_eq!(*line.site.log.borrow(), ["/wait waited", "/next "]);
        line.end().await;
    });
}

/// RFC 9110 section 6.5.1.
#[test]
fn trailers_go_to_those_who_take_them() {
    for (version, te, end) in [
        ("1.1", "te: trailers\r\n", "\r\n\r\n1\r\nx\r\n0\r\netag: end\r\n\r\n"),
        ("1.1", "", "\r\n\r\n1\r\nx\r\n0\r\n\r\n"),
        ("1.0", "te: trailers\r\n", "\r\n\r\nx"),
    ] {
        run(async {
            let mut line = Line::open(CLOCKS);
            line.send(&format!("GET /trailers HTTP/{version}\r\nhost: a\r\nconnection: close\r\n{te}\r\n"))
                .await;
            let rest = line.rest().await;
            assert!(rest.ends_with(end), "{rest}");
            line.end().await;
        });
    }
}

/// An answer that breaks off, or is not as long as it was announced, does not look whole.
#[test]
fn half_an_answer_is_not_ended() {
    for (path, body) in [("/breaks", "4\r\nhalf\r\n"), ("/short", "word"), ("/more", "")] {
        run(async {
            let mut line = Line::open(CLOCKS);
            line.send(&ask(path, "")).await;
            let rest = line.rest().await;
            assert_eq!(rest.split_once("\r\n\r\n").unwrap().1, body, "{path}");
            line.end().await;
        });
    }
}

/// Told to stop, a connection answers what was asked, says so, and closes.
#[test]
fn a_connection_that_is_told_to_stop_finishes() {
    run(async {
        let mut line = Line::open(CLOCKS);
        line.send(&ask("/wait", "")).await;
        line.begun().await;
        line.stop.send_replace(true);
        line.site.go.notify_one();
        assert!(line.rest().await.contains("\r\nconnection: close\r\n"));
        line.end().await;

        let mut line = Line::open(CLOCKS);
        line.send(&ask("/", "")).await;
        assert!(!line.until("0\r\n\r\n").await.contains("connection: close"));
        line.stop.send_replace(true);
        assert_eq!(line.rest().await, "", "an idle one closes at once");
        line.end().await;

        // What has begun is waited for.
        let mut line = Line::open(CLOCKS);
        line.send("GET / HTTP/1.1\r\n").await;
        for _ in 0..20 {
            tokio::task::yield_now().await;
        }
        line.stop.send_replace(true);
        line.send("host: a\r\n\r\n").await;
        assert!(line.rest().await.contains("\r\nconnection: close\r\n"));
        line.end().await;
    });
}

/// Each clock on its own, while the others have time.
#[test]
fn who_is_late_is_let_go() {
    let with = |change: fn(&mut Clocks)| {
        let mut clocks = CLOCKS;
        change(&mut clocks);
        clocks
    };
    for (clocks, sent, answer) in [
        (with(|clocks| clocks.idle = SHORT), "", ""),
        (with(|clocks| clocks.idle = SHORT), "\r\n", ""),
        (with(|clocks| clocks.head = SHORT), "GET / HT", "Late"),
        (
            with(|clocks| clocks.stall = SHORT),
            "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 9\r\n\r\nhalf",
            "TimedOut",
        ),
        (
            with(|clocks| clocks.stall = SHORT),
            "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n9\r\nhalf",
            "TimedOut",
        ),
    ] {
        run(async {
            let mut line = Line::open(clocks);
            line.send(sent).await;
            let rest = line.rest().await;
            assert_eq!(rest.is_empty(), answer.is_empty(), "{sent:?}: {rest}");
            assert!(rest.contains(answer), "{sent:?}: {rest}");
            line.end().await;
        });
    }
    // A visitor that does not read.
    run(async {
        let mut line = Line::open(with(|clocks| clocks.stall = SHORT));
        line.send(&ask("/long", "")).await;
        tokio::time::timeout(PATIENCE, &mut line.serving).await.unwrap().unwrap();
        let mut read = Vec::new();
        line.visitor.read_to_end(&mut read).await.unwrap();
        assert!(read.len() < 1 << 20 && line.site.open.get() == 0);
    });
    // One that reads slowly, and longer than the clock runs, but reads.
    run(async {
        let mut line = Line::open(with(|clocks| clocks.stall = SHORT * 4));
        line.send(&ask("/long", "connection: close\r\n")).await;
        let mut read = vec![0; 60 * 1024];
        let mut all = 0;
        loop {
            tokio::time::sleep(SHORT / 3).await;
            match line.visitor.read(&mut read).await.unwrap() {
                0 => break,
                count => all += count,
            }
        }
        assert!(all > 1 << 20);
        line.end().await;
    });
}

/// A connection that idles keeps no buffer.
#[test]
fn what_idles_is_small() {
    run(async {
        let (mut visitor, edge) = duplex(64 * 1024);
        let (_stop, stopped) = watch::channel(false);
        let mut wire = Wire {
            io: edge,
            inbound: Inbound::default(),
            out: Outbound::default(),
            clocks: CLOCKS,
            alarm: Alarm::default(),
        };
        let site = Site::default();
        let mut word = Word::new(&stopped);
        for _ in 0..2 {
            visitor.write_all(ask("/", "").as_bytes()).await.unwrap();
            let Next::Request(head, note) = wire.next(&site, &stopped, &mut word, true).await else {
                panic!("no request")
            };
            let after = wire.exchange(&site, Some(head), note, &stopped).await.unwrap();
            assert_eq!(after, After::Next);
            assert!(wire.out.gathered().capacity() > 0);
            tokio::select! {
                biased;
                _ = wire.next(&site, &stopped, &mut word, false) => panic!("nobody asked"),
                () = std::future::ready(()) => {}
            }
            assert_eq!((wire.inbound.unread.capacity(), wire.out.gathered().capacity()), (0, 0));
        }
    });
}
