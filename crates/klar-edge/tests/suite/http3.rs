//! HTTP/3 with visitors: the same requests, limits and records as over HTTP/1.1 and 2, over datagrams.

use std::io::Write;
use std::net::UdpSocket;
use std::time::Duration;

use crate::common::http3::{Connection, dial, request, run, serve};
use crate::common::{App, Edge, Gate, HOST, PATIENCE, Then, identity_pem, reply, upstream};
use bytes::Buf;
use klar_base::upstreams::ToEdge;

/// Answers with what it got, in as many bytes.
fn echo() -> App {
    App::start(|got, stream| {
        let body = String::from_utf8_lossy(&got.body).into_owned();
        reply(stream, "200 OK", "x-got: it\r\nconnection: keep-alive\r\n", &format!("{} {body}", got.line))
    })
}

#[test]
fn requests_and_records() {
    let app = echo();
    let mut edge = Edge::with(&[&app], |_| {});
    let _row = serve(&mut edge);
    run(async {
        let connection = Connection::open(edge.https).await;
        let (head, text) = connection.get("/a?b=c").await;
        assert_eq!((head.status().as_u16(), text.as_str()), (200, "GET /a?b=c "));
        let header = |name: &str| head.headers().get(name).map(|value| value.to_str().unwrap().to_owned());
        assert_eq!(header("x-got").as_deref(), Some("it"));
        assert!(header("date").is_some() && header("strict-transport-security").is_some(), "{head:?}");
        assert_eq!((header("connection"), header("alt-svc")), (None, None));
        let id = header("x-request-id").unwrap();
        let record = edge
            .core()
            .wait("the record", |heard| heard.records.iter().find(|record| record.request_id == id).cloned());
        assert_eq!((record.protocol.as_str(), record.status, record.tls), ("h3", 200, true));
        assert_eq!((record.client.to_string().as_str(), record.aborted), ("127.0.0.1", false));

        let (_, text) = connection.say("POST", "/post", b"hello").await;
        assert_eq!(text, b"POST /post hello");
        let (head, text) = connection.say("HEAD", "/head", b"").await;
        assert_eq!((head.status().as_u16(), text.len()), (200, 0));
        assert_eq!(app.got().last().unwrap().header("host"), Some(HOST));
        assert_eq!(app.got()[0].header("x-forwarded-proto"), Some("https"));
    });
}

#[test]
fn what_is_refused() {
    let app = echo();
    let mut edge = Edge::with(&[&app], |edge| edge.limits().body_bytes = 1000);
    let _row = serve(&mut edge);
    run(async {
        let connection = Connection::open(edge.https).await;
        let with = |name: &str, value: &str| {
            let mut request = request("GET", "/");
            let name: http::HeaderName = name.parse().unwrap();
            request.headers_mut().insert(name, value.parse().unwrap());
            request
        };
        let to = |uri: &str| http::Request::builder().uri(uri).body(()).unwrap();
        let mut posted = with("content-length", "7");
        *posted.method_mut() = http::Method::POST;
        for (what, request, body, status) in [
            ("an unknown host", to("https://nobody.test/"), 0, 404),
            ("a path that climbs", to("https://shop.test/a/%2e%2e/b"), 0, 400),
            ("plain HTTP", to("http://shop.test/"), 0, 400),
            ("a header of connections", with("connection", "close"), 0, 400),
            ("a coding of connections", with("transfer-encoding", "chunked"), 0, 400),
            ("te", with("te", "deflate"), 0, 400),
            ("a method", crate::common::http3::request("TRACE", "/"), 0, 405),
            ("a large head", with("x-large", &"x".repeat(17 << 10)), 0, 431),
            ("a large body", crate::common::http3::request("POST", "/"), 2000, 413),
            ("a body shorter than it says", posted, 5, 400),
        ] {
            let (head, _) = connection.try_say(request, &vec![b'x'; body]).await.unwrap();
            assert_eq!(head.status().as_u16(), status, "{what}");
        }
        assert_eq!(connection.get("/after").await.1, "GET /after ", "the connection is as good as ever");
        assert_eq!(app.lines(), ["GET /after"]);
    });
}

#[test]
fn large_bodies_and_many_requests() {
    const LARGE: usize = 8 << 20;
    let app = App::start(|got, stream| {
        if got.line.starts_with("POST") {
            return reply(stream, "200 OK", "", &got.body.len().to_string());
        }
        let body: Vec<u8> = (0..LARGE).map(|at| (at / 7) as u8).collect();
        let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {LARGE}\r\n\r\n");
        match stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(&body)) {
            Ok(()) => Then::Keep,
            Err(_) => Then::Close,
        }
    });
    let mut edge = Edge::with(&[&app], |edge| edge.limits().body_bytes = 64 << 20);
    let _row = serve(&mut edge);
    run(async {
        let connection = Connection::open(edge.https).await;
        let (head, body) = connection.say("GET", "/large", b"").await;
        assert_eq!(head.headers()["content-length"], LARGE.to_string().as_str());
        assert!(body.len() == LARGE && body.iter().enumerate().all(|(at, byte)| *byte == (at / 7) as u8));
        let (_, body) = connection.say("POST", "/large", &vec![7; 3 << 20]).await;
        assert_eq!(body, (3 << 20).to_string().into_bytes());
        // More than may be open at once: the rest waits.
        let asked = (0..300).map(|_| connection.say("POST", "/small", b"x"));
        for (head, body) in futures_all(asked).await {
            assert_eq!((head.status().as_u16(), body.as_slice()), (200, &b"1"[..]));
        }
    });
}

/// All of them at once.
async fn futures_all<F: Future>(all: impl Iterator<Item = F>) -> Vec<F::Output> {
    let mut all: Vec<_> = all.map(|one| (Box::pin(one), None)).collect();
    std::future::poll_fn(|cx| {
        for (one, done) in all.iter_mut().filter(|(_, done)| done.is_none()) {
            if let std::task::Poll::Ready(output) = one.as_mut().poll(cx) {
                *done = Some(output);
            }
        }
        let ready = all.iter().all(|(_, done)| done.is_some());
        if ready { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
    })
    .await;
    all.into_iter().map(|(_, done)| done.unwrap()).collect()
}

/// It is said where it is served, to those who are near, and nowhere else.
#[test]
fn who_hears_of_it() {
    let app = echo();
    let mut edge = Edge::with(&[&app], |_| {});
    assert_eq!(edge.get("/").header("alt-svc"), None, "off");
    edge.site().http3 = true;
    edge.apply();
    assert_eq!(edge.get("/").header("alt-svc"), None, "there is no socket");
    let _row = serve(&mut edge);
    let wanted = format!("h3=\":{}\"; ma=86400", edge.https.port());
    assert_eq!(edge.get("/").header("alt-svc"), Some(wanted.as_str()));
    edge.site().front.proxies = vec!["127.0.0.1/32".parse().unwrap()];
    edge.apply();
    let through = format!("GET / HTTP/1.1\r\nhost: {HOST}\r\nx-forwarded-for: 203.0.113.9\r\n\r\n");
    assert_eq!(edge.ask(&through).header("alt-svc"), None, "its visitor would not reach us there");
    edge.site().routes[0].client_authorities = Some(identity_pem());
    edge.apply();
    assert_eq!(edge.get("/").header("alt-svc"), None, "visitors are asked for certificates");
}

/// New settings count for connections that are open.
#[test]
fn settings_change() {
    let app = echo();
    let mut edge = Edge::with(&[&app], |_| {});
    let _row = serve(&mut edge);
    run(async {
        let connection = Connection::open(edge.https).await;
        assert_eq!(connection.say("POST", "/", &[b'x'; 2000]).await.0.status(), 200);
        edge.limits().body_bytes = 1000;
        edge.apply();
        assert_eq!(connection.say("POST", "/", &[b'x'; 2000]).await.0.status(), 413);
        // Such hosts are served over TCP, where the handshake can ask.
        edge.site().routes[0].client_authorities = Some(identity_pem());
        edge.apply();
        assert_eq!(connection.get("/").await.0.status(), 421);
        edge.site().routes[0].client_authorities = None;
        edge.site().http3 = false;
        edge.apply();
        assert!(Connection::try_open(edge.https, HOST).await.is_err(), "off, and it says so");
        serve_again(&mut edge);
        assert_eq!(connection.get("/").await.0.status(), 200);
        assert!(Connection::try_open(edge.https, HOST).await.is_ok());
    });
}

fn serve_again(edge: &mut Edge) {
    edge.site().http3 = true;
    edge.apply();
}

/// Another edge takes over: what has begun at the one before ends there, and what begins is the other's.
#[test]
fn takeover() {
    let gate = Gate::default();
    let wait = gate.clone();
    let slow = App::start(move |got, stream| {
        // Of a length that nobody knows, or the edge would wait for its end.
        let head = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nfirst\r\n";
        if got.line.ends_with("/slow") {
            stream.write_all(head.as_bytes()).unwrap();
            wait.pass();
            return if stream.write_all(b"5\r\n-last\r\n0\r\n\r\n").is_ok() {
                Then::Keep
            } else {
                Then::Close
            };
        }
        reply(stream, "200 OK", "", "old")
    });
    let new = App::named("new");
    let mut old = Edge::with(&[&slow], |_| {});
    let row = serve(&mut old);
    run(async {
        let connection = Connection::open(old.https).await;
        let mut stream = connection.ask.clone().send_request(request("GET", "/slow")).await.unwrap();
        stream.finish().await.unwrap();
        assert_eq!(stream.recv_response().await.unwrap().status(), 200);

        let mut next = Edge::beside(&old);
        next.web().upstreams = vec![upstream(1, new.address)];
        next.apply();
        old.share_sockets(&next);
        row.give(&next, 1);
        // Its answer says that the row has been taken.
        next.apply();
        row.open(1);
        old.core().send(&ToEdge::Drain { patience: PATIENCE }, &[]);

        // Wherever the open one is told to go, none of its requests is lost: they are answered, or given back.
        let mut given_back = false;
        while !given_back {
            match connection.try_say(request("GET", "/again"), b"").await {
                Ok((head, body)) => assert_eq!((head.status().as_u16(), body.as_slice()), (200, &b"old"[..])),
                Err(error) => {
                    let error = format!("{error:?}");
                    assert!(
                        error.contains("RemoteClosing") || error.contains("H3_REQUEST_REJECTED"),
                        "{error}"
                    );
                    given_back = true;
                }
            }
        }
        let answered = slow.lines().iter().filter(|line| line.ends_with("/again")).count();
        for _ in 0..8 {
            let fresh = Connection::open(old.https).await;
            assert_eq!(fresh.get("/").await.1, "new: GET /");
        }
        assert!(!old.has_ended());
        gate.open();
        let mut text = Vec::new();
        while let Some(mut piece) = stream.recv_data().await.unwrap() {
            text.extend(piece.copy_to_bytes(piece.remaining()));
        }
        assert_eq!(text, b"first-last", "what had begun was not cut");
        drop(stream);
        let end = connection.end().await;
        assert!(end.contains("H3_NO_ERROR"), "{end}");
        let after = slow.lines().iter().filter(|line| line.ends_with("/again")).count();
        assert_eq!(answered, after, "what was given back has not reached the app");
        while !old.has_ended() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    });
}

/// Datagrams that are no QUIC, or belong to nothing, do no harm.
#[test]
fn garbage() {
    let app = echo();
    let mut edge = Edge::with(&[&app], |_| {});
    let _row = serve(&mut edge);
    let stranger = UdpSocket::bind("127.0.0.1:0").unwrap();
    let mut chance = 1_u64;
    for length in (0..1500).step_by(3) {
        let bytes: Vec<u8> = (0..length)
            .map(|_| {
                chance = chance.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                (chance >> 56) as u8
            })
            .collect();
        stranger.send_to(&bytes, edge.https).unwrap();
    }
    run(async {
        let connection = Connection::open(edge.https).await;
        assert_eq!(connection.get("/").await.1, "GET / ");
    });
}

/// What nobody would keep is not kept, and who floods is ended. Others are served.
#[test]
fn attacks() {
    /// The head of a request of which only the fields are missing.
    const HEADERS: [u8; 1] = [0x01];
    let app = echo();
    let mut edge = Edge::with(&[&app], |_| {});
    let _row = serve(&mut edge);
    let integer = |value: u64| (value | 3 << 62).to_be_bytes().to_vec();
    run(async {
        for (what, bytes) in [
            ("a head of a gigabyte", [HEADERS.to_vec(), integer(1 << 30)].concat()),
            ("an unknown frame of a gigabyte", [integer(0x21), integer(1 << 30)].concat()),
            ("a body first", [integer(0), integer(5), b"hello".to_vec()].concat()),
            ("settings in a request", vec![0x04, 0x00]),
            ("fields that cannot be read", vec![0x01, 0x03, 0xff, 0xff, 0xff]),
        ] {
            let (_endpoint, quic) = dial(edge.https, HOST).await.unwrap();
            let (mut send, _receive) = quic.open_bi().await.unwrap();
            send.write_all(&bytes).await.unwrap();
            let end = quic.closed().await;
            assert!(matches!(end, quinn::ConnectionError::ApplicationClosed(_)), "{what}: {end}");
        }
        let gate = Connection::open(edge.https).await;
        let mut taken_back = 0;
        while gate.quic.close_reason().is_none() {
            let Ok(mut stream) = gate.ask.clone().send_request(request("GET", "/back")).await else { break };
            stream.stop_stream(h3::error::Code::H3_REQUEST_CANCELLED);
            stream.stop_sending(h3::error::Code::H3_REQUEST_CANCELLED);
            taken_back += 1;
            assert!(taken_back < 100_000, "nobody minds");
        }
        let connection = Connection::open(edge.https).await;
        assert_eq!(connection.get("/").await.1, "GET / ");
    });
}

/// A visitor that goes away is not waited for, and the app's instance is free again.
#[test]
fn visitors_that_leave() {
    let gate = Gate::default();
    let wait = gate.clone();
    let app = App::start(move |_, stream| {
        wait.pass();
        reply(stream, "200 OK", "", "late")
    });
    let mut edge = Edge::with(&[&app], |_| {});
    let _row = serve(&mut edge);
    run(async {
        let connection = Connection::open(edge.https).await;
        let mut stream = connection.ask.clone().send_request(request("GET", "/left")).await.unwrap();
        stream.finish().await.unwrap();
        while app.got().is_empty() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        stream.stop_sending(h3::error::Code::H3_REQUEST_CANCELLED);
        drop(stream);
        // What is to be waited for here holds up what sends it.
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        let record = edge.core().wait("the record", |heard| heard.records.first().cloned());
        assert!(record.aborted, "{record:?}");
        edge.wait_vitals(1, "no lease", |one| one.is_some_and(|one| one.leases == 0));
        gate.open();
        assert_eq!(connection.get("/").await.1, "late");
    });
}
