//! The shared cache, seen from outside: what visitors get, and what the app is asked for.

use std::io::Write;
use std::net::TcpStream;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::{Duration, Instant};

use crate::common::{Answer, App, Edge, Gate, Got, HOST, PATIENCE, Then, http2, reply};
use hyper::client::conn::http2::SendRequest;
use klar_base::signal::{CacheOutcome, DecidedBy};
use klar_base::upstreams::{Purge, ToEdge};

/// So many at once that nobody is alone, on both workers.
const CROWD: usize = 60;

fn request(line: &str, headers: &str) -> String {
    format!("{line} HTTP/1.1\r\nhost: {HOST}\r\n{headers}\r\n")
}

/// An app that answers each request with its number, and these headers.
fn counting(headers: &'static str) -> App {
    let count = AtomicUsize::new(0);
    App::start(move |_, stream| {
        let number = count.fetch_add(1, Ordering::SeqCst) + 1;
        reply(stream, "200 OK", headers, &format!("answer {number}"))
    })
}

fn status(answer: &Answer) -> &str {
    answer.header("cache-status").unwrap()
}

/// Asks until `found` says so of an answer.
fn ask_until(edge: &Edge, request: &str, what: &str, found: impl Fn(&Answer) -> bool) -> Answer {
    let end = Instant::now() + PATIENCE;
    loop {
        let answer = edge.ask(request);
        if found(&answer) {
            return answer;
        }
        assert!(Instant::now() < end, "waited in vain for {what}; the last answer was {answer:?}");
    }
}

fn crowd(edge: &Edge, request: &str) -> Vec<Answer> {
    thread::scope(|scope| {
        let all: Vec<_> = (0..CROWD).map(|_| scope.spawn(|| edge.ask(request))).collect();
        all.into_iter().map(|one| one.join().unwrap()).collect()
    })
}

/// A hit does not reach the app, has its age, its own request id and what protects a browser, and is on the record.
#[test]
fn a_hit() {
    let app = counting("cache-control: max-age=60\r\nx-app: 1\r\n");
    let edge = Edge::with(&[&app], |_| {});
    let (first, second) = (edge.get("/"), edge.get("/"));
    assert_eq!((first.text(), second.text()), ("answer 1".into(), "answer 1".into()));
    assert!(first.header("age").is_none() && second.header("age").is_some());
    assert_eq!(second.header("x-app"), Some("1"));
    assert_eq!(second.header("content-length"), Some("8"));
    assert_eq!(second.header("x-content-type-options"), Some("nosniff"));
    assert_ne!(first.header("x-request-id"), second.header("x-request-id"));
    assert!(status(&first).starts_with("klar; fwd=uri-miss; ttl=60; stored"), "{}", status(&first));
    assert!(status(&second).starts_with("klar; hit; ttl="), "{}", status(&second));
    let (miss, hit) = (edge.record(&first), edge.record(&second));
    assert_eq!((miss.cache, miss.decided_by), (Some(CacheOutcome::Miss), DecidedBy::App));
    assert_eq!((hit.cache, hit.decided_by, hit.attempts), (Some(CacheOutcome::Hit), DecidedBy::Edge, 0));
    assert_eq!(hit.bytes_out, 8);
    // Other addresses are other answers.
    for path in ["/?", "/?a", "/a"] {
        assert_ne!(edge.get(path).text(), "answer 1", "{path}");
    }
    let port = edge.ask("GET / HTTP/1.1\r\nhost: shop.test:1\r\n\r\n");
    assert_ne!(port.text(), "answer 1", "an app may build links from the port");
}

/// What one visitor gets that another must not.
#[test]
fn nothing_of_one_person_is_given_to_another() {
    let (cookie, authorization) = ("cookie: a=1\r\n", "authorization: x\r\n");
    for (answer, first, second, shared) in [
        ("", "", "", false),
        ("etag: \"a\"\r\n", "", "", false),
        ("cache-control: max-age=60\r\n", "", "", true),
        ("cache-control: max-age=60\r\nset-cookie: a=1\r\n", "", "", false),
        ("cache-control: public, max-age=60\r\nset-cookie: a=1\r\n", "", "", false),
        ("cache-control: max-age=60\r\n", cookie, "", false),
        ("cache-control: max-age=60\r\n", cookie, cookie, false),
        ("cache-control: max-age=60\r\n", "", cookie, false),
        ("cache-control: public, max-age=60\r\n", cookie, "", true),
        ("cache-control: s-maxage=60\r\n", "", cookie, true),
        ("cache-control: max-age=60\r\n", authorization, "", false),
        ("cache-control: max-age=60\r\n", "", authorization, false),
        ("cache-control: max-age=60, must-revalidate\r\n", authorization, authorization, true),
        ("cache-control: max-age=60\r\n", "", "x-http-method-override: DELETE\r\n", false),
        ("cache-control: max-age=60\r\nvary: x\r\n", "x: 1\r\n", "x: 2\r\n", false),
        ("cache-control: max-age=60\r\nvary: x\r\n", "x: 1\r\n", "x: 1\r\n", true),
        ("cache-control: max-age=60\r\nvary: *\r\n", "", "", false),
    ] {
        let app = counting(answer);
        let edge = Edge::with(&[&app], |_| {});
        edge.ask(&request("GET /", first));
        let text = edge.ask(&request("GET /", second)).text();
        assert_eq!(text == "answer 1", shared, "{answer:?} {first:?} {second:?}");
    }
}

/// The cookie of a sticky service is the edge's own, and nobody else's.
#[test]
fn a_sticky_cookie_stays_with_its_visitor() {
    let app = counting("cache-control: max-age=60\r\n");
    let edge = Edge::with(&[&app], |edge| edge.web().sticky = true);
    let (first, second) = (edge.get("/"), edge.get("/"));
    assert!(first.header("set-cookie").is_some() && second.header("set-cookie").is_none());
    assert_eq!(second.text(), "answer 1");
    let cookie = first.header("set-cookie").unwrap().split(';').next().unwrap();
    assert_eq!(edge.ask(&request("GET /", &format!("cookie: {cookie}\r\n"))).text(), "answer 1");
}

/// However many want the same at the same time, the app is asked once.
#[test]
fn a_crowd_is_one_request() {
    for (headers, request_headers) in
        [("cache-control: max-age=60\r\n", ""), ("cache-control: public, max-age=60\r\n", "cookie: a=1\r\n")]
    {
        let gate = Gate::default();
        let (waiting, arrived) = (gate.clone(), Arc::new(AtomicUsize::new(0)));
        let seen = arrived.clone();
        let app = App::start(move |_, stream| {
            seen.fetch_add(1, Ordering::SeqCst);
            waiting.pass();
            reply(stream, "200 OK", headers, "once")
        });
        let edge = Edge::with(&[&app], |_| {});
        let request = request("GET /", request_headers);
        let answers = thread::scope(|scope| {
            let crowd = scope.spawn(|| crowd(&edge, &request));
            app.wait_got(1);
            gate.open();
            crowd.join().unwrap()
        });
        assert!(answers.iter().all(|answer| answer.text() == "once"));
        assert_eq!(arrived.load(Ordering::SeqCst), 1);
    }
}

/// Ten thousand at the same time, on both workers, are one request to the app.
#[test]
fn ten_thousand_are_one_request() {
    const CONNECTIONS: usize = 102;
    // One stream less than a connection may have.
    const STREAMS: usize = 99;
    let gate = Gate::default();
    let waiting = gate.clone();
    let app = App::start(move |got, stream| {
        if got.line == "GET /" {
            waiting.pass();
        }
        reply(stream, "200 OK", "cache-control: max-age=60\r\n", "once")
    });
    let edge = Edge::with(&[&app], |_| {});
    let first = http2::Client::new(&edge);
    let others: Vec<_> = (1..CONNECTIONS).map(|_| first.wait(http2::Client::sender(edge.https))).collect();
    let mut senders = vec![first.send.clone()];
    senders.extend(others);
    let ask = |sender: &mut SendRequest<http2::SendBody>, path: &str| {
        let request = http2::Client::request("GET", path).body(http2::full("")).unwrap();
        let answer = sender.send_request(request);
        async { http2::read(answer.await.unwrap()).await.unwrap() }
    };
    let answers = first.wait(async {
        let mut crowd = Vec::new();
        for sender in &mut senders {
            crowd.extend((0..STREAMS).map(|_| tokio::spawn(ask(sender, "/"))));
            // Its requests are taken in the order in which they come, so all others are in when this one is answered.
            assert_eq!(ask(sender, "/other").await.text(), "once");
        }
        assert_eq!(app.lines().iter().filter(|line| *line == "GET /").count(), 1);
        gate.open();
        let mut answers = Vec::new();
        for one in crowd {
            answers.push(one.await.unwrap());
        }
        answers
    });
    assert!(answers.len() >= 10_000 && answers.iter().all(|answer| answer.text() == "once"));
    let waited = |got: &http2::Got| got.headers["cache-status"].to_str().unwrap().contains("collapsed");
    assert_eq!(answers.iter().filter(|got| waited(got)).count(), answers.len() - 1, "all were there at once");
    assert_eq!(app.lines().iter().filter(|line| *line == "GET /").count(), 1);
}

/// Those who wait for an answer see it come: its first half before the app has sent the second. One who reads nothing
/// holds nobody up, and one who comes after a write has changed it does not get it.
#[test]
fn a_crowd_follows_what_comes() {
    const HALF: usize = 300_000;
    for chunked in [false, true] {
        let (gate, count) = (Gate::default(), AtomicUsize::new(0));
        let waiting = gate.clone();
        let app = App::start(move |got, stream| {
            if got.line == "POST /" || count.fetch_add(1, Ordering::SeqCst) > 0 {
                return reply(stream, "200 OK", "cache-control: max-age=60\r\n", "changed");
            }
            let half = "x".repeat(HALF);
            let framing = match chunked {
                true => "transfer-encoding: chunked".to_owned(),
                false => format!("content-length: {}", 2 * HALF),
            };
            let half = match chunked {
                true => format!("{HALF:x}\r\n{half}\r\n"),
                false => half,
            };
            write!(stream, "HTTP/1.1 200 OK\r\ncache-control: max-age=60\r\n{framing}\r\n\r\n{half}")
                .unwrap();
            waiting.pass();
            write!(stream, "{half}{}", if chunked { "0\r\n\r\n" } else { "" }).unwrap();
            Then::Keep
        });
        let edge = Edge::with(&[&app], |edge| edge.config.cache_bytes = 64 << 20);
        let mut visitors: Vec<_> = (0..8).map(|_| edge.visitor()).collect();
        for visitor in &mut visitors {
            visitor.send(request("GET /", ""));
        }
        // All but one have most of the first half while there is no second one.
        let mut silent = visitors.remove(0);
        let starts: Vec<_> = visitors.iter_mut().map(|visitor| visitor.read(HALF / 2)).collect();
        assert!(starts.iter().all(|start| start.starts_with(b"HTTP/1.1 200 OK\r\n")));
        assert_eq!(app.got().len(), 1, "chunked: {chunked}");
        edge.ask(&request("POST /", "content-length: 0\r\n"));
        assert_eq!(edge.get("/").text(), "changed", "who comes now must not get what was before");
        gate.open();
        for (mut visitor, start) in visitors.into_iter().zip(starts) {
            let rest = visitor.read(2 * HALF - start.len());
            assert!(rest.iter().filter(|byte| **byte == b'x').count() > 2 * HALF - start.len() - 5000);
        }
        assert_eq!(silent.answer().body.len(), 2 * HALF);
        assert_eq!(edge.get("/").text(), "changed");
    }
}

/// When the answer turns out to be for one visitor, all others ask at the same time, not one after the other: the app
/// answers none of them before it has all of them.
#[test]
fn nobody_waits_in_line_for_what_is_not_shared() {
    for headers in [
        "cache-control: private\r\n",
        "cache-control: max-age=60\r\nset-cookie: a=1\r\n",
        "cache-control: no-cache\r\netag: \"a\"\r\n",
        "",
    ] {
        let gate = Gate::default();
        let (waiting, count) = (gate.clone(), AtomicUsize::new(0));
        let all = Barrier::new(CROWD - 1);
        let app = App::start(move |_, stream| {
            if count.fetch_add(1, Ordering::SeqCst) == 0 {
                waiting.pass();
            } else {
                all.wait();
            }
            reply(stream, "200 OK", headers, "mine")
        });
        let edge = Edge::with(&[&app], |_| {});
        let answers = thread::scope(|scope| {
            let crowd = scope.spawn(|| crowd(&edge, &request("GET /", "")));
            app.wait_got(1);
            gate.open();
            crowd.join().unwrap()
        });
        assert!(answers.iter().all(|answer| answer.text() == "mine"), "{headers}");
        assert_eq!(app.got().len(), CROWD, "{headers}");
    }
}

/// The visitor whose request is on its way goes away; another one takes over.
#[test]
fn a_leader_that_goes_away_takes_nothing_along() {
    let gate = Gate::default();
    let (waiting, count) = (gate.clone(), AtomicUsize::new(0));
    let app = App::start(move |_, stream| {
        if count.fetch_add(1, Ordering::SeqCst) == 0 {
            waiting.pass();
        }
        reply(stream, "200 OK", "cache-control: max-age=60\r\n", "once")
    });
    let edge = Edge::with(&[&app], |_| {});
    let mut leader = edge.visitor();
    leader.send(request("GET /", ""));
    app.wait_got(1);
    let answer = thread::scope(|scope| {
        let other = scope.spawn(|| edge.get("/"));
        leader.hang_up();
        other.join().unwrap()
    });
    assert_eq!(answer.text(), "once");
    gate.open();
}

/// A large answer is passed on while it comes, and others do not depend on how fast its first visitor reads.
#[test]
fn a_large_answer_streams_and_is_kept() {
    const PIECE: usize = 300_000;
    for chunked in [false, true] {
        let gate = Gate::default();
        let waiting = gate.clone();
        let app = App::start(move |_, stream| {
            let piece = vec![b'x'; PIECE];
            let send = |stream: &mut TcpStream| {
                if chunked {
                    write!(stream, "{PIECE:x}\r\n")?;
                }
                stream.write_all(&piece)?;
                if chunked { stream.write_all(b"\r\n") } else { Ok(()) }
            };
            let framing = if chunked {
                "transfer-encoding: chunked".into()
            } else {
                format!("content-length: {}", 2 * PIECE)
            };
            write!(stream, "HTTP/1.1 200 OK\r\ncache-control: max-age=60\r\n{framing}\r\n\r\n").unwrap();
            send(stream).unwrap();
            waiting.pass();
            send(stream).unwrap();
            if chunked {
                stream.write_all(b"0\r\n\r\n").unwrap();
            }
            Then::Keep
        });
        let edge = Edge::with(&[&app], |edge| edge.config.cache_bytes = 64 << 20);
        let mut first = edge.visitor();
        first.send(request("GET /", ""));
        assert!(first.read(100).starts_with(b"HTTP/1.1 200 OK"), "before the app has sent all");
        gate.open();
        // The first visitor reads no more, and goes away before it has everything.
        let other = edge.get("/");
        assert_eq!(other.body.len(), 2 * PIECE);
        first.hang_up();
        assert_eq!(edge.get("/").body.len(), 2 * PIECE);
        assert_eq!(app.got().len(), 1, "chunked: {chunked}");
    }
}

/// An answer that breaks off, or whose end cannot be told, is not kept.
#[test]
fn half_an_answer_is_not_kept() {
    let half: fn(&Got, &mut TcpStream) -> Then = |_, stream| {
        let head = "HTTP/1.1 200 OK\r\ncache-control: max-age=60\r\ncontent-length: 200000\r\n\r\n";
        stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(&[b'x'; 100_000])).unwrap();
        Then::Close
    };
    let half_chunked: fn(&Got, &mut TcpStream) -> Then = |_, stream| {
        let head =
            "HTTP/1.1 200 OK\r\ncache-control: max-age=60\r\ntransfer-encoding: chunked\r\n\r\n4\r\nhalf\r\n";
        stream.write_all(head.as_bytes()).unwrap();
        Then::Close
    };
    let no_end: fn(&Got, &mut TcpStream) -> Then = |_, stream| {
        stream.write_all(b"HTTP/1.1 200 OK\r\ncache-control: max-age=60\r\n\r\nall?").unwrap();
        Then::Close
    };
    for script in [half, half_chunked, no_end] {
        let app = App::start(script);
        let edge = Edge::with(&[&app], |edge| edge.config.cache_bytes = 64 << 20);
        for count in 1..4 {
            let mut visitor = edge.visitor();
            visitor.send(request("GET /", "connection: close\r\n"));
            visitor.rest();
            assert_eq!(app.got().len(), count);
        }
    }
}

/// What is larger than may be kept goes through whole, and is not kept.
#[test]
fn too_large_goes_through() {
    for chunked in [false, true] {
        const LENGTH: usize = 3_000_000;
        let app = App::start(move |_, stream| {
            let framing = if chunked {
                "transfer-encoding: chunked".into()
            } else {
                format!("content-length: {LENGTH}")
            };
            write!(stream, "HTTP/1.1 200 OK\r\ncache-control: max-age=60\r\n{framing}\r\n\r\n").unwrap();
            if chunked {
                write!(stream, "{LENGTH:x}\r\n").unwrap();
            }
            stream.write_all(&vec![b'x'; LENGTH]).unwrap();
            if chunked {
                stream.write_all(b"\r\n0\r\n\r\n").unwrap();
            }
            Then::Keep
        });
        let edge = Edge::with(&[&app], |_| {});
        for _ in 0..2 {
            assert_eq!(edge.get("/").body.len(), LENGTH);
        }
        assert_eq!(app.got().len(), 2);
    }
}

/// Parts, heads and conditions are answered from a whole answer that is kept.
#[test]
fn other_forms_of_the_same_answer() {
    let app = App::start(|_, stream| {
        let headers =
            "cache-control: max-age=60\r\netag: \"v1\"\r\nlast-modified: Sun, 06 Nov 1994 08:49:37 GMT\r\n";
        reply(stream, "200 OK", headers, "0123456789")
    });
    let edge = Edge::with(&[&app], |_| {});
    edge.get("/");
    for (line, headers, status, text) in [
        ("HEAD /", "", 200, ""),
        ("GET /", "range: bytes=2-4\r\n", 206, "234"),
        ("GET /", "range: bytes=-3\r\n", 206, "789"),
        ("GET /", "range: bytes=20-\r\n", 416, ""),
        ("GET /", "range: bytes=2-4\r\nif-range: \"v1\"\r\n", 206, "234"),
        ("GET /", "range: bytes=2-4\r\nif-range: \"v2\"\r\n", 200, "0123456789"),
        ("GET /", "if-none-match: \"v1\"\r\n", 304, ""),
        ("GET /", "if-none-match: \"v2\"\r\n", 200, "0123456789"),
        ("GET /", "if-modified-since: Sun, 06 Nov 1994 08:49:37 GMT\r\n", 304, ""),
        ("HEAD /", "if-none-match: W/\"v1\"\r\n", 304, ""),
        ("GET /", "cache-control: only-if-cached\r\n", 200, "0123456789"),
        ("GET /none", "cache-control: only-if-cached\r\n", 504, ""),
    ] {
        let answer = edge.ask(&request(line, headers));
        assert_eq!(answer.status, status, "{line} {headers}");
        if status != 504 {
            assert_eq!(answer.text(), text, "{line} {headers}");
        }
        if status == 200 {
            assert_eq!(answer.header("content-length"), Some("10"), "{line} {headers}");
        }
    }
    assert_eq!(app.got().len(), 1);
}

/// What must be validated is, with the validators that are kept; a 304 is good for another lifetime.
#[test]
fn validation() {
    let app = App::start(|got, stream| match got.header("if-none-match") {
        Some("\"v1\"") => {
            let head =
                "HTTP/1.1 304 Not Modified\r\netag: \"v1\"\r\nx-new: 2\r\ncache-control: no-cache\r\n\r\n";
            stream.write_all(head.as_bytes()).unwrap();
            Then::Keep
        }
        _ => reply(stream, "200 OK", "cache-control: no-cache\r\netag: \"v1\"\r\nx-old: 1\r\n", "whole"),
    });
    let edge = Edge::with(&[&app], |_| {});
    edge.get("/");
    for (headers, status) in
        [("", 200), ("if-none-match: \"v1\"\r\n", 304), ("if-none-match: \"other\"\r\n", 200)]
    {
        let answer = edge.ask(&request("GET /", headers));
        assert_eq!((answer.status, answer.header("x-new")), (status, Some("2")), "{headers}");
        assert_eq!((answer.header("x-old"), answer.text().is_empty()), (Some("1"), status == 304));
        assert_eq!(edge.record(&answer).cache, Some(CacheOutcome::Revalidated));
    }
    assert_eq!(app.got().len(), 4);
}

/// Packed or not, what is kept is found good again, whichever way the app writes the tag of it.
#[test]
fn validation_of_what_may_be_packed() {
    for (length, first, second, wanted) in [
        (10, "\"v1\"", "\"v1\"", "\"v1\""),
        (10, "\"v1\"", "W/\"v1\"", "W/\"v1\""),
        (10, "W/\"v1\"", "\"v1\"", "W/\"v1\""),
        (5000, "\"v1\"", "\"v1\"", "W/\"v1\""),
        (100_000, "\"v1\"", "\"v1\"", "W/\"v1\""),
        (100_000, "\"v1\"", "W/\"v1\"", "W/\"v1\""),
    ] {
        let app = App::start(move |got, stream| {
            let head = "cache-control: no-cache\r\ncontent-type: text/html\r\n";
            if got.header("if-none-match").is_some() {
                let head = format!("HTTP/1.1 304 Not Modified\r\netag: {second}\r\n{head}\r\n");
                return if stream.write_all(head.as_bytes()).is_ok() { Then::Keep } else { Then::Close };
            }
            reply(stream, "200 OK", &format!("{head}etag: {first}\r\n"), &"x".repeat(length))
        });
        let edge = Edge::with(&[&app], |edge| edge.config.cache_bytes = 64 << 20);
        let ask = || edge.ask(&request("GET /", "accept-encoding: gzip\r\n"));
        let before = ask();
        assert_eq!(before.header("content-encoding"), (length > 1024).then_some("gzip"));
        for _ in 0..2 {
            let after = ask();
            assert_eq!(
                edge.record(&after).cache,
                Some(CacheOutcome::Revalidated),
                "{length} {first} {second}"
            );
            assert_eq!((&after.body, after.header("etag")), (&before.body, Some(wanted)), "{first} {second}");
            assert_eq!(after.header("content-encoding"), before.header("content-encoding"));
        }
        assert_eq!(app.got().len(), 3, "{length} {first} {second}");
    }
}

/// The head of an answer may renew what is kept, and never changes what its body is said to be: an app that leaves out
/// the length there does not know whether the edge packs the body.
#[test]
fn a_head_does_not_change_the_body() {
    for (body, in_head) in
        [("short", ""), ("short", "content-encoding: gzip\r\n"), ("short", "content-length: 5\r\n")]
    {
        let app = App::start(move |got, stream| {
            let age = if got.line.starts_with("HEAD") { 1000 } else { 0 };
            let head = format!(
                "cache-control: max-age={age}\r\nx-age: {age}\r\netag: \"v1\"\r\ncontent-type: text/plain\r\n"
            );
            if got.line.starts_with("HEAD") {
                stream.write_all(format!("HTTP/1.1 200 OK\r\n{head}{in_head}\r\n").as_bytes()).unwrap();
                return Then::Keep;
            }
            reply(stream, "200 OK", &head, body)
        });
        let edge = Edge::with(&[&app], |_| {});
        let ask = |method: &str| edge.ask(&request(&format!("{method} /"), "accept-encoding: gzip, br\r\n"));
        ask("GET");
        let head = ask("HEAD");
        assert_eq!(head.header("content-encoding").is_some(), in_head.contains("gzip"), "{in_head}");
        let kept = ask("GET");
        assert_eq!(
            (kept.header("x-age"), kept.header("content-encoding")),
            (Some("1000"), None),
            "{in_head}"
        );
        assert_eq!((kept.text().as_str(), app.got().len()), (body, 2), "{in_head}");
    }
}

/// RFC 9111 section 4.4.
#[test]
fn writes_take_out_what_they_changed() {
    for (method, status, gone) in [
        ("POST", "200 OK", true),
        ("PUT", "204 No Content", true),
        ("DELETE", "303 See Other", true),
        ("POST", "500 Oops", false),
        ("POST", "403 No", false),
    ] {
        let count = AtomicUsize::new(0);
        let app = App::start(move |got, stream| {
            if got.line.starts_with("GET") {
                let number = count.fetch_add(1, Ordering::SeqCst);
                return reply(
                    stream,
                    "200 OK",
                    "cache-control: max-age=60\r\n",
                    &format!("{} {number}", got.line),
                );
            }
            let head =
                format!("HTTP/1.1 {status}\r\nlocation: /list\r\ncontent-location: https://{HOST}/other\r\n");
            let framing = if status.starts_with("204") { "" } else { "content-length: 0\r\n" };
            stream.write_all(format!("{head}{framing}\r\n").as_bytes()).unwrap();
            Then::Keep
        });
        let edge = Edge::with(&[&app], |_| {});
        let all = ["/thing", "/list", "/other", "/apart"];
        let before = all.map(|path| edge.get(path).text());
        edge.ask(&request(&format!("{method} /thing"), "content-length: 0\r\n"));
        let after = all.map(|path| edge.get(path).text());
        for (index, path) in all.iter().enumerate() {
            assert_eq!(before[index] != after[index], gone && *path != "/apart", "{method} {status} {path}");
        }
    }
}

/// RFC 5861 section 3: the stale answer goes out at once, and one request fetches a newer one.
#[test]
fn stale_while_revalidate() {
    let app = counting("cache-control: max-age=0, stale-while-revalidate=60\r\n");
    let edge = Edge::with(&[&app], |_| {});
    edge.get("/");
    let stale = edge.get("/");
    assert_eq!(stale.text(), "answer 1");
    assert!(status(&stale).contains("detail=refresh"), "{}", status(&stale));
    assert_eq!(edge.record(&stale).cache, Some(CacheOutcome::Stale));
    ask_until(&edge, &request("GET /", ""), "the newer answer", |answer| answer.text() != "answer 1");
    let refresh = edge.core().wait("the record of who asked the app", |heard| {
        heard.records.iter().find(|record| record.cache == Some(CacheOutcome::Refresh)).cloned()
    });
    assert_eq!((refresh.method.as_str(), refresh.host.as_str(), refresh.path.as_str()), ("GET", HOST, "/"));
    assert_eq!((refresh.status, refresh.attempts, refresh.aborted), (200, 1, false));
    assert!(refresh.upstream.is_some() && refresh.app.is_some());
}

/// RFC 9111 section 4.2.4: when the app is away, what is stale is better than nothing, unless it says otherwise.
#[test]
fn stale_when_the_app_is_away() {
    for (control, stands_in) in
        [("max-age=1", true), ("max-age=1, must-revalidate", false), ("s-maxage=1", false)]
    {
        let headers: &'static str = Box::leak(format!("cache-control: {control}\r\n").into_boxed_str());
        let app = counting(headers);
        let mut edge = Edge::with(&[&app], |edge| edge.web().hold = Duration::ZERO);
        assert_eq!(edge.get("/").status, 200);
        // All instances are gone, and that is no change of release.
        edge.web().upstreams.clear();
        edge.apply();
        let fresh_no_more = |answer: &Answer| {
            answer.status != 200
                || answer.header("cache-status").is_some_and(|status| status.contains("app-away"))
        };
        let answer = ask_until(&edge, &request("GET /", ""), "the end of its second", fresh_no_more);
        assert_eq!(answer.status, if stands_in { 200 } else { 503 }, "{control}");
        if stands_in {
            assert_eq!(edge.record(&answer).cache, Some(CacheOutcome::Stale));
        }
        assert_eq!(edge.get("/other").status, 503);
    }
}

/// A deploy leaves no page of the old release, also not one that was on its way.
#[test]
fn a_new_release_starts_with_nothing() {
    let gate = Gate::default();
    let waiting = gate.clone();
    let old = App::start(move |got, stream| {
        if got.line == "GET /slow" {
            waiting.pass();
        }
        reply(stream, "200 OK", "cache-control: max-age=60\r\n", "old")
    });
    let new = App::start(|_, stream| reply(stream, "200 OK", "cache-control: max-age=60\r\n", "new"));
    let mut edge = Edge::with(&[&old], |_| {});
    assert_eq!(edge.get("/").text(), "old");
    let mut slow = edge.visitor();
    slow.send(request("GET /slow", ""));
    old.wait_got(2);

    let mut upstream = crate::common::upstream(2, new.address);
    upstream.release = "ba9876543210".parse().unwrap();
    edge.web().upstreams.push(upstream);
    edge.apply();
    edge.web().upstreams.remove(0);
    edge.apply();
    gate.open();
    assert_eq!(slow.answer().text(), "old", "it had been sent there");
    assert_eq!((edge.get("/").text(), edge.get("/slow").text()), ("new".into(), "new".into()));
    // The same release again, with another instance: nothing changes.
    edge.web().upstreams[0].id = "shop.prod.web.3".parse().unwrap();
    edge.apply();
    edge.get("/");
    assert_eq!(new.got().len(), 2);
}

/// A route may switch it off, or give a lifetime to what has none.
#[test]
fn routes_decide() {
    let app = counting("");
    let edge = Edge::with(&[&app], |edge| {
        edge.site().routes[0].cache.lifetime = Some(Duration::from_secs(60));
    });
    assert_eq!(edge.get("/").text(), edge.get("/").text());
    let with_cookie = edge.ask(&request("GET /", "cookie: a=1\r\n"));
    assert_eq!(with_cookie.text(), "answer 2");

    let app = counting("cache-control: public, max-age=60\r\n");
    let edge = Edge::with(&[&app], |edge| edge.site().routes[0].cache.enabled = false);
    edge.get("/");
    let answer = edge.get("/");
    assert_eq!((answer.text(), answer.header("cache-status")), ("answer 2".into(), None));
    assert_eq!(edge.record(&answer).cache, Some(CacheOutcome::Bypass));

    let app = counting("cache-control: public, max-age=60\r\n");
    let edge = Edge::with(&[&app], |edge| edge.config.cache_bytes = 0);
    edge.get("/");
    assert_eq!(edge.get("/").text(), "answer 2");
}

/// The core has answers forgotten, and hears how many.
#[test]
fn purges() {
    let app = counting("cache-control: max-age=60\r\ncache-tag: goods, news\r\n");
    let edge = Edge::with(&[&app], |_| {});
    let all = ["/a", "/a/b", "/c", "/c?d"];
    for (number, (app_key, what, gone)) in (1..).zip([
        ("shop.prod", Purge::Url("/a".into()), &["/a"][..]),
        ("shop.prod", Purge::Url(format!("https://{HOST}:8443/c?d")), &["/c?d"]),
        ("shop.prod", Purge::Url("https://other.test/a".into()), &[]),
        ("shop.prod", Purge::Prefix("/a".into()), &["/a", "/a/b"]),
        ("shop.prod", Purge::Tag("news".into()), &all),
        ("shop.prod", Purge::Tag("new".into()), &[]),
        ("shop.prod", Purge::All, &all),
        ("shop.staging", Purge::All, &[]),
    ]) {
        let before = all.map(|path| edge.get(path).text());
        let message = ToEdge::Purge { number, app: app_key.parse().unwrap(), what: what.clone() };
        edge.core().send(&message, &[]);
        let dropped = edge.core().wait("the purge", |heard| {
            heard.purged.iter().find(|(known, _)| *known == number).map(|(_, dropped)| *dropped)
        });
        assert_eq!(dropped, gone.len() as u64, "{what:?}");
        for (index, path) in all.iter().enumerate() {
            assert_eq!(edge.get(path).text() != before[index], gone.contains(path), "{what:?} {path}");
        }
    }
}
