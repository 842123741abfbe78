//! HTTP/2 is served like HTTP/1.1: the same answers, limits and records, and nothing that shifts meaning.

use std::collections::VecDeque;
use std::io::{Read, Write};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use crate::common::http2::{
    Client, DATA, END_HEADERS, END_STREAM, GOAWAY, HEADERS, NO_ERROR, PING, PREFACE, PROTOCOL_ERROR,
    RST_STREAM, Raw, WINDOW_UPDATE, fields, full, h2c_app, read, request,
};
use crate::common::{App, Edge, Gate, HOST, PATIENCE, Then, Visitor, is_end, reply, route, upstream};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response};
use http_body_util::BodyExt;
use hyper::body::{Body, Frame};
use hyper::ext::Protocol;
use klar_base::signal::{AccessRecord, DecidedBy};
use klar_base::upstreams::{AppProtocol, ToEdge};

/// The record of the request with this id.
fn record(edge: &Edge, headers: &HeaderMap) -> AccessRecord {
    let id = headers["x-request-id"].to_str().unwrap();
    edge.core().wait("a record", |heard| heard.records.iter().find(|record| record.request_id == id).cloned())
}

#[test]
fn requests_are_answered() {
    let app = App::named("app");
    let edge = Edge::with(&[&app], |_| {});
    let mut client = Client::new(&edge);
    let got = client.get("/a?b=c");
    assert_eq!((got.status, got.text()), (200, "app: GET /a?b=c"));
    assert_eq!(got.headers["strict-transport-security"], "max-age=31536000");
    let record = record(&edge, &got.headers);
    assert_eq!((record.protocol.as_str(), record.tls, record.status), ("h2", true, 200));
    assert_eq!((record.host.as_str(), record.path.as_str()), (HOST, "/a"));
    let ask = Client::request("POST", "/post").body(full("x".repeat(200_000))).unwrap();
    assert_eq!(client.ask(ask).unwrap().text(), "app: POST /post");
    let ask = Client::request("HEAD", "/head").body(full("")).unwrap();
    let got = client.ask(ask).unwrap();
    assert_eq!((got.status, got.text()), (200, ""));
    let got = app.got();
    assert_eq!(got[0].header("host"), Some(HOST));
    assert_eq!(got[0].header("x-forwarded-proto"), Some("https"));
    assert_eq!(got[1].body.len(), 200_000);
}

/// Many at once over one connection, each with its own answer.
#[test]
fn streams_do_not_mix() {
    let app = App::named("app");
    let edge = Edge::with(&[&app], |_| {});
    let client = Client::new(&edge);
    let asks: Vec<_> = (0..80)
        .map(|number| {
            let ask = Client::request("GET", &format!("/{number}")).body(full("")).unwrap();
            let sent = client.send.clone().send_request(ask);
            async move { read(sent.await.unwrap()).await.unwrap() }
        })
        .collect();
    let answers = client.wait(async {
        let tasks: Vec<_> = asks.into_iter().map(tokio::spawn).collect();
        let mut answers = Vec::new();
        for task in tasks {
            answers.push(task.await.unwrap());
        }
        answers
    });
    for (number, got) in answers.iter().enumerate() {
        assert_eq!(got.text(), format!("app: GET /{number}"));
    }
    edge.core().wait("all records", |heard| {
        (heard.records.iter().filter(|record| record.protocol == "h2").count() == 80).then_some(())
    });
}

/// What was not agreed on is not spoken (RFC 9113 section 3.2), and HTTP/1.1 is served as before.
#[test]
fn only_what_was_agreed_on_is_spoken() {
    let app = App::named("app");
    let edge = Edge::with(&[&app], |_| {});
    for protocols in [&[][..], &["http/1.1"], &["http/1.1", "http/1.0"]] {
        let mut visitor = Visitor::offering(edge.https, HOST, protocols);
        visitor.send(PREFACE);
        assert_eq!(visitor.answer().status, 505, "{protocols:?}");
        visitor.assert_end();
    }
    let mut visitor = edge.plain_visitor();
    visitor.send(PREFACE);
    assert_eq!(visitor.answer().status, 505);
    let answer = edge.get("/");
    assert_eq!(edge.record(&answer).protocol, "http/1.1");
}

/// RFC 9113 sections 8.2.3 and 8.3.1: what an app of HTTP/1.1 gets is one host and one cookie.
#[test]
fn an_app_sees_no_difference() {
    let app = App::named("app");
    let edge = Edge::with(&[&app], |_| {});
    let mut raw = Raw::new(&edge);
    let more = [
        ("cookie", "a=1"),
        ("x", "y"),
        ("cookie", "b=2"),
        ("te", "trailers"),
        ("x-forwarded-for", "6.6.6.6"),
    ];
    raw.send(HEADERS, END_HEADERS | END_STREAM, 1, &request("GET", "/", &more));
    assert_eq!(raw.end_of(1), None);
    let block = fields(&[(":method", "GET"), (":path", "/host"), (":scheme", "https"), ("host", HOST)]);
    raw.send(HEADERS, END_HEADERS | END_STREAM, 3, &block);
    assert_eq!(raw.end_of(3), None);
    let got = app.got();
    let header = |name| got[0].header(name);
    assert_eq!((header("host"), header("cookie"), header("te")), (Some(HOST), Some("a=1; b=2"), None));
    assert_eq!((header("x"), header("x-forwarded-for")), (Some("y"), Some("127.0.0.1")));
    assert_eq!((got[1].line.as_str(), got[1].header("host")), ("GET /host", Some(HOST)));
}

/// Names and values.
type Fields = Vec<(&'static str, &'static str)>;

/// RFC 9113 section 8: a request that could be understood differently is refused, and only that one.
#[test]
fn a_doubtful_request_is_refused() {
    /// By the library, which ends the connection where it cannot even read the head.
    const RESET: Option<u16> = None;
    let host = (":authority", HOST);
    let (method, scheme, path) = ((":method", "GET"), (":scheme", "https"), (":path", "/smuggled"));
    let all = [method, scheme, host, path];
    let with = |more: &[(&'static str, &'static str)]| [&all, more].concat();
    let table: Vec<(&str, Option<u16>, Fields)> = vec![
        ("8.2 a name in capitals", RESET, with(&[("X-Name", "y")])),
        ("8.2.1 a name with a blank", RESET, with(&[("x name", "y")])),
        ("8.2.1 a name with a colon", RESET, with(&[("x:name", "y")])),
        ("8.2.1 a name with CR LF", RESET, with(&[("x\r\ny", "z")])),
        ("8.2.1 no name", RESET, with(&[("", "y")])),
        ("8.2.1 a value with CR LF", RESET, with(&[("x", "y\r\nz: a")])),
        ("8.2.1 a value with LF", RESET, with(&[("x", "y\nz: a")])),
        ("8.2.1 a value with CR", RESET, with(&[("x", "y\rz")])),
        ("8.2.1 a value with NUL", RESET, with(&[("x", "y\0z")])),
        ("8.2.1 a value that begins with a blank", Some(400), with(&[("x", " y")])),
        ("8.2.1 a value that ends with a tab", Some(400), with(&[("x", "y\t")])),
        ("8.2.2 connection", RESET, with(&[("connection", "close")])),
        ("8.2.2 keep-alive", RESET, with(&[("keep-alive", "timeout=5")])),
        ("8.2.2 proxy-connection", RESET, with(&[("proxy-connection", "keep-alive")])),
        ("8.2.2 transfer-encoding", RESET, with(&[("transfer-encoding", "chunked")])),
        ("8.2.2 upgrade", RESET, with(&[("upgrade", "websocket")])),
        ("8.2.2 te", RESET, with(&[("te", "gzip")])),
        ("8.3 a pseudo-header after a header", RESET, vec![method, scheme, host, ("x", "y"), path]),
        ("8.3 an unknown pseudo-header", RESET, with(&[(":secret", "y")])),
        ("8.3 one of answers", RESET, with(&[(":status", "200")])),
        ("8.3 :method twice", RESET, vec![method, method, scheme, host, path]),
        ("8.3 :path twice", RESET, vec![method, scheme, host, path, (":path", "/b")]),
        ("8.3.1 :authority twice", RESET, vec![method, scheme, host, host, path]),
        ("8.3.1 no :method", RESET, vec![scheme, host, path]),
        ("8.3.1 no :scheme", RESET, vec![method, host, path]),
        ("8.3.1 no :path", RESET, vec![method, scheme, host]),
        ("8.3.1 an empty :path", RESET, vec![method, scheme, host, (":path", "")]),
        ("8.3.1 a :path with a blank", RESET, vec![method, scheme, host, (":path", "/ HTTP/1.1")]),
        ("8.3.1 a :path with CR LF", RESET, vec![method, scheme, host, (":path", "/\r\nx: y")]),
        ("8.3.1 a method with a blank", RESET, vec![(":method", "GET /x"), scheme, host, path]),
        ("8.3.1 a method with CR LF", RESET, vec![(":method", "GET\r\n"), scheme, host, path]),
        ("8.3.1 no host at all", Some(400), vec![method, scheme, path]),
        ("8.3.1 two hosts that differ", Some(400), with(&[("host", "other.test")])),
        ("8.3.1 a host twice", Some(400), with(&[("host", HOST), ("host", HOST)])),
        ("8.3.1 a user in :authority", Some(400), vec![method, scheme, (":authority", "me@shop.test"), path]),
        ("8.3.1 plain http", Some(400), vec![method, (":scheme", "http"), host, path]),
        ("8.5 a tunnel", Some(405), vec![(":method", "CONNECT"), (":authority", "shop.test:443")]),
        ("TRACE", Some(405), vec![(":method", "TRACE"), scheme, host, path]),
        (
            "RFC 8441 another protocol",
            Some(501),
            vec![(":method", "CONNECT"), (":protocol", "connect-udp"), scheme, host, path],
        ),
        ("RFC 8441 a protocol without CONNECT", RESET, with(&[(":protocol", "websocket")])),
        ("8.1.1 two lengths", Some(400), with(&[("content-length", "0"), ("content-length", "0")])),
        ("8.1.1 a length that is none", RESET, with(&[("content-length", "+0")])),
        ("8.1.1 a length without a body", RESET, with(&[("content-length", "5")])),
    ];
    let app = App::named("app");
    let edge = Edge::with(&[&app], |_| {});
    for (number, (what, status, block)) in table.iter().enumerate() {
        let mut raw = Raw::new(&edge);
        raw.send(HEADERS, END_HEADERS | END_STREAM, 1, &fields(block));
        match status {
            None => {
                let end = raw.next().unwrap();
                assert!(matches!(end.kind, RST_STREAM | GOAWAY), "{what}: {end:?}");
                assert_eq!(end.code(), PROTOCOL_ERROR, "{what}");
                if end.kind == GOAWAY {
                    continue;
                }
            }
            Some(status) => {
                assert_eq!(raw.end_of(1), None, "{what}");
                edge.core().wait(what, |heard| {
                    let mut refused = heard.records.iter().filter(|record| record.path.is_empty());
                    let before = table[..number].iter().filter(|(_, status, _)| status.is_some()).count();
                    let record = refused.nth(before)?;
                    assert_eq!((record.status, record.decided_by), (*status, DecidedBy::Refused), "{what}");
                    assert_eq!((record.protocol.as_str(), record.attempts), ("h2", 0), "{what}");
                    Some(())
                });
            }
        }
        raw.send(HEADERS, END_HEADERS | END_STREAM, 3, &request("GET", "/good", &[]));
        assert_eq!(raw.end_of(3), None, "{what}: the connection is as good as before");
    }
    assert!(app.lines().iter().all(|line| line == "GET /good"), "{:?}", app.lines());
}

/// RFC 9113 section 8.1.1: a body that is not as long as it says is refused, and never whole for the app.
#[test]
fn a_body_is_as_long_as_it_says() {
    let app = App::named("app");
    let edge = Edge::with(&[&app], |_| {});
    for body in ["", "1234", "123456"] {
        let mut raw = Raw::new(&edge);
        raw.send(HEADERS, END_HEADERS, 1, &request("POST", "/", &[("content-length", "5")]));
        raw.send(DATA, END_STREAM, 1, body.as_bytes());
        assert!(raw.end_of(1).is_some(), "{body:?}");
    }
    assert_eq!(app.lines(), [""; 0]);
}

/// The limits are those of HTTP/1.1, and a request at the limit is served.
#[test]
fn limits_are_kept() {
    let app = App::named("app");
    let edge = Edge::with(&[&app], |edge| {
        edge.limits().header_bytes = 10_000;
        edge.limits().body_bytes = 1024;
        let mut upload = route("/upload");
        upload.body_bytes = Some(4096);
        edge.site().routes.push(upload);
    });
    let mut client = Client::new(&edge);
    let mut ask = |method: &str, path: &str, fields: usize, value: usize, body: usize| {
        let mut request = Client::request(method, path);
        for _ in 0..fields {
            request = request.header("x", "y".repeat(value));
        }
        client.ask(request.body(full("b".repeat(body))).unwrap()).unwrap().status
    };
    let long = |length: usize| format!("/{}", "x".repeat(length - 1));
    assert_eq!(ask("GET", "/", 1, 9_000, 0), 200);
    assert_eq!(ask("GET", "/", 1, 11_000, 0), 431);
    assert_eq!(ask("GET", "/", 100, 1, 0), 200, "a hundred headers");
    assert_eq!(ask("GET", "/", 101, 1, 0), 431);
    assert_eq!(ask("GET", &long(8192), 0, 0, 0), 200);
    assert_eq!(ask("GET", &long(8193), 0, 0, 0), 414);
    assert_eq!(ask("POST", "/", 0, 0, 1024), 200);
    assert_eq!(ask("POST", "/", 0, 0, 1025), 413);
    assert_eq!(ask("POST", "/upload", 0, 0, 4096), 200);
    assert_eq!(ask("POST", "/upload", 0, 0, 4097), 413);
}

/// A body has to make progress.
#[test]
fn a_body_that_stalls_is_late() {
    let app = App::named("app");
    let edge = Edge::with(&[&app], |edge| {
        let limits = edge.limits();
        limits.stall_timeout = Duration::from_millis(200);
        // That is another limit, and another test.
        limits.timeout = PATIENCE * 10;
    });
    let mut raw = Raw::new(&edge);
    raw.send(HEADERS, END_HEADERS, 1, &request("POST", "/stall", &[("content-length", "10")]));
    raw.send(DATA, 0, 1, b"half");
    raw.end_of(1);
    edge.core().wait("the record", |heard| {
        let record = heard.records.first()?;
        assert_eq!((record.status, record.decided_by), (408, DecidedBy::Refused));
        Some(())
    });
    assert_eq!(app.lines(), [""; 0]);
}

/// A visitor that keeps its window shut is let go, and its other streams are not.
#[test]
fn a_visitor_that_takes_nothing_is_let_go() {
    let app = App::start(|got, stream| {
        let size = if got.line.ends_with("/large") { 4 << 20 } else { 10 };
        reply(stream, "200 OK", "", &"x".repeat(size));
        Then::Close
    });
    let edge = Edge::with(&[&app], |edge| edge.limits().stall_timeout = Duration::from_millis(300));
    // SETTINGS_INITIAL_WINDOW_SIZE: 100
    let mut raw = Raw::with_settings(&edge, &[0, 4, 0, 0, 0, 100]);
    raw.send(HEADERS, END_HEADERS | END_STREAM, 1, &request("GET", "/large", &[]));
    assert_eq!(raw.end_of(1), Some(8), "CANCEL");
    edge.core().wait("the record", |heard| heard.records.first()?.aborted.then_some(()));
    edge.wait_vitals(1, "the lease to be given back", |one| one.unwrap().leases == 0);
    raw.send(HEADERS, END_HEADERS | END_STREAM, 3, &request("GET", "/small", &[]));
    assert_eq!(raw.end_of(3), None);
}

/// A visitor whose windows are open and who does not read is let go like one of HTTP/1.1.
#[test]
fn a_visitor_that_does_not_read_is_let_go() {
    let app = App::start(|_, stream| {
        let size = 64 << 20;
        let mut sent = write!(stream, "HTTP/1.1 200 OK\r\ncontent-length: {size}\r\n\r\n");
        let piece = vec![b'x'; 1 << 16];
        for _ in 0..size / piece.len() {
            sent = sent.and_then(|()| stream.write_all(&piece));
        }
        assert!(sent.is_err(), "the edge takes no more than the visitor does");
        Then::Close
    });
    let edge = Edge::with(&[&app], |edge| edge.limits().stall_timeout = Duration::from_millis(300));
    // SETTINGS_INITIAL_WINDOW_SIZE, and the window of the connection.
    let mut raw = Raw::with_settings(&edge, &[0, 4, 0x7f, 0xff, 0xff, 0xff]);
    raw.send(WINDOW_UPDATE, 0, 0, &[0x7f, 0xfe, 0, 0]);
    raw.send(HEADERS, END_HEADERS | END_STREAM, 1, &request("GET", "/", &[]));
    edge.core().wait("the record", |heard| {
        let record = heard.records.first()?;
        assert!(record.aborted && record.bytes_out < 64 << 20);
        Some(())
    });
    edge.wait_vitals(1, "the lease to be given back", |one| one.unwrap().leases == 0);
    edge.core().wait("the connection to end", |heard| (heard.vitals.last()?.connections == 0).then_some(()));
}

/// A connection on which nothing is asked is told goodbye; one that waits for an answer is not.
#[test]
fn a_connection_that_idles_is_closed() {
    let app = App::start(|_, stream| {
        std::thread::sleep(Duration::from_millis(600));
        reply(stream, "200 OK", "", "slow")
    });
    let edge = Edge::with(&[&app], |edge| edge.limits().idle_timeout = Duration::from_millis(200));
    let mut raw = Raw::new(&edge);
    raw.send(HEADERS, END_HEADERS | END_STREAM, 1, &request("GET", "/", &[]));
    assert_eq!(raw.end_of(1), None);
    assert_eq!(raw.last_word(), Some(NO_ERROR));
}

/// When the edge stops, what is in flight is finished and nothing new is begun.
#[test]
fn a_stop_lets_streams_finish() {
    let gate = Gate::default();
    let waiting = gate.clone();
    let app = App::start(move |_, stream| {
        waiting.pass();
        reply(stream, "200 OK", "", "done")
    });
    let edge = Edge::with(&[&app], |_| {});
    let mut raw = Raw::new(&edge);
    raw.send(HEADERS, END_HEADERS | END_STREAM, 1, &request("GET", "/slow", &[]));
    app.wait_got(1);
    edge.core().send(&ToEdge::Stop { patience: PATIENCE }, &[]);
    // First it says that it will go, and asks whether that has been heard (RFC 9113 section 6.8).
    let ping = loop {
        let frame = raw.read().unwrap();
        match frame.kind {
            GOAWAY => assert_eq!(frame.code(), NO_ERROR),
            PING => break frame,
            _ => {}
        }
    };
    raw.send(PING, 1, 0, &ping.content);
    // Then it says which request was the last.
    let last = raw.next().unwrap();
    assert_eq!((last.kind, &last.content[..4]), (GOAWAY, &[0, 0, 0, 1][..]));
    gate.open();
    assert_eq!(raw.end_of(1), None);
    edge.wait_end();
}

/// Trailers and events pass as they come.
#[test]
fn answers_stream() {
    let gate = Gate::default();
    let waiting = gate.clone();
    let app = App::start(move |_, stream| {
        let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntrailer: x-sum\r\n\
                    transfer-encoding: chunked\r\n\r\n";
        stream.write_all(format!("{head}9\r\ndata: 1\n\n\r\n").as_bytes()).unwrap();
        waiting.pass();
        stream.write_all(b"9\r\ndata: 2\n\n\r\n0\r\nx-sum: 2\r\n\r\n").unwrap();
        Then::Keep
    });
    let edge = Edge::with(&[&app], |_| {});
    let mut client = Client::new(&edge);
    let sent = client.send.send_request(Client::request("GET", "/events").body(full("")).unwrap());
    client.wait(async {
        let mut body = sent.await.unwrap().into_body();
        let first = body.frame().await.unwrap().unwrap().into_data().unwrap();
        assert_eq!(first, "data: 1\n\n");
        gate.open();
        let rest = body.collect().await.unwrap();
        assert_eq!(
            rest.trailers().map(|trailers| trailers["x-sum"].clone()),
            Some(HeaderValue::from_static("2"))
        );
        assert_eq!(rest.to_bytes(), "data: 2\n\n");
    });
}

/// RFC 8441: a WebSocket is a stream, and the app sees one of HTTP/1.1.
#[test]
fn a_websocket_is_a_stream() {
    let app = App::start(|got, stream| {
        if got.header("upgrade").is_none() {
            return reply(stream, "200 OK", "", &got.line);
        }
        assert_eq!(got.line, "GET /ws");
        assert_eq!(
            (got.header("connection"), got.header("sec-websocket-version")),
            (Some("upgrade"), Some("13"))
        );
        assert_eq!(got.header("sec-websocket-key").map(str::len), Some(24));
        let switch = "HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\n\
                      sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\nsec-websocket-protocol: chat\r\n\r\n";
        stream.write_all(switch.as_bytes()).unwrap();
        let mut bytes = [0; 4096];
        while let Ok(count @ 1..) = stream.read(&mut bytes) {
            bytes.make_ascii_uppercase();
            stream.write_all(&bytes[..count]).unwrap();
        }
        Then::Close
    });
    let edge = Edge::with(&[&app], |edge| {
        let short = Duration::from_millis(200);
        let limits = edge.limits();
        (limits.stall_timeout, limits.idle_timeout) = (short, short);
    });
    let mut client = Client::new(&edge);
    let ask = |path: &str| {
        let mut ask =
            Client::request("CONNECT", path).header("sec-websocket-version", "13").body(full("")).unwrap();
        ask.extensions_mut().insert(Protocol::from_static("websocket"));
        ask
    };
    // The settings that allow it come with the first answer.
    assert_eq!(client.get("/").status, 200);
    let sent = client.send.send_request(ask("/ws"));
    client.wait(async {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let mut response = sent.await.unwrap();
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["sec-websocket-protocol"], "chat");
        assert!(!response.headers().contains_key("sec-websocket-accept"));
        let upgraded = hyper::upgrade::on(&mut response).await.unwrap();
        let (mut from, mut to) = tokio::io::split(hyper_util::rt::TokioIo::new(upgraded));
        for words in ["hello", "still here"] {
            to.write_all(words.as_bytes()).await.unwrap();
            let mut said = vec![0; words.len()];
            from.read_exact(&mut said).await.unwrap();
            assert_eq!(said, words.to_uppercase().as_bytes());
            // Longer than any clock: none runs in a tunnel.
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
        to.shutdown().await.unwrap();
        assert_eq!(from.read(&mut [0; 1]).await.unwrap(), 0, "the app hears of it, and hangs up as well");
    });
    edge.wait_vitals(1, "the lease to be given back", |one| one.unwrap().leases == 0);
}

/// A success without a tunnel would be taken for one.
#[test]
fn a_websocket_that_nobody_speaks_is_refused() {
    for (status, wanted) in [("200 OK", 501), ("403 Forbidden", 403)] {
        let app = App::start(move |_, stream| reply(stream, status, "", "no"));
        let edge = Edge::with(&[&app], |_| {});
        let mut client = Client::new(&edge);
        client.get("/");
        let mut ask = Client::request("CONNECT", "/ws").body(full("")).unwrap();
        ask.extensions_mut().insert(Protocol::from_static("websocket"));
        assert_eq!(client.ask(ask).unwrap().status, wanted);
    }
}

/// A call of gRPC: HTTP/2 all the way, and its status comes in the trailers.
#[test]
fn calls_of_grpc_pass() {
    let app = h2c_app(|request| {
        Box::pin(async move {
            assert_eq!(request.version(), http::Version::HTTP_2);
            assert_eq!(request.headers()["te"], "trailers");
            assert_eq!(request.uri().authority().unwrap().as_str(), HOST);
            let mut body = request.into_body();
            let pieces = all_pieces(&mut body).await;
            let mut trailers = HeaderMap::new();
            trailers.insert("grpc-status", HeaderValue::from_static("0"));
            let frames = pieces.into_iter().map(Frame::data).chain([Frame::trailers(trailers)]);
            let body = Pieces(frames.collect());
            Response::builder().header("content-type", "application/grpc").body(body.boxed_unsync()).unwrap()
        })
    });
    let edge = Edge::with(&[], |edge| {
        edge.web().upstreams.push(upstream(1, app.address));
        edge.web().protocol = AppProtocol::H2c;
    });
    let mut client = Client::new(&edge);
    for number in 0..20 {
        let ask = Client::request("POST", "/shop.Shop/Buy")
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .body(full(format!("call {number}")))
            .unwrap();
        let got = client.ask(ask).unwrap();
        assert_eq!((got.status, got.text()), (200, format!("call {number}").as_str()));
        assert_eq!(got.trailers.unwrap()["grpc-status"], "0");
        assert_eq!(record(&edge, &got.headers).upstream.unwrap().number, 1);
    }
    assert_eq!(app.connections(), 1, "all of them share one connection");
    edge.wait_vitals(1, "all leases to be given back", |one| one.unwrap().leases == 0);
}

async fn all_pieces(body: &mut hyper::body::Incoming) -> Vec<Bytes> {
    let mut pieces = Vec::new();
    while let Some(frame) = body.frame().await {
        pieces.extend(frame.unwrap().into_data());
    }
    pieces
}

/// A body whose frames are all here.
struct Pieces(VecDeque<Frame<Bytes>>);

impl Body for Pieces {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<std::io::Result<Frame<Bytes>>>> {
        Poll::Ready(self.0.pop_front().map(Ok))
    }
}

/// A visitor of HTTP/1.1 reaches an app of HTTP/2 as well.
#[test]
fn an_app_of_http2_serves_everybody() {
    let app = h2c_app(|request| {
        Box::pin(async move { Response::new(full(format!("{} {}", request.method(), request.uri().path()))) })
    });
    let edge = Edge::with(&[], |edge| {
        edge.web().upstreams.push(upstream(1, app.address));
        edge.web().protocol = AppProtocol::H2c;
    });
    for _ in 0..5 {
        assert_eq!(edge.get("/one").text(), "GET /one");
    }
    let posted = edge.ask(&format!("POST /two HTTP/1.1\r\nhost: {HOST}\r\ncontent-length: 5\r\n\r\nhello"));
    assert_eq!(posted.text(), "POST /two");
    edge.wait_vitals(1, "it to be well", |one| one.unwrap().healthy);
}

/// A goodbye of a visitor ends its connection when its streams have ended.
#[test]
fn a_visitor_may_say_goodbye() {
    let app = App::named("app");
    let edge = Edge::with(&[&app], |_| {});
    let mut raw = Raw::new(&edge);
    raw.send(HEADERS, END_HEADERS | END_STREAM, 1, &request("GET", "/", &[]));
    raw.send(GOAWAY, 0, 0, &[0; 8]);
    assert_eq!(raw.end_of(1), None);
    loop {
        match raw.next() {
            Ok(frame) => assert_eq!(frame.kind, GOAWAY),
            Err(error) => break assert!(is_end(&error), "{error}"),
        }
    }
}
