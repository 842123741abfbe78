//! The edge goes on without its core, and the next core finds everything as it was.

use std::io::Write;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use crate::common::{App, Core, Edge, Gate, HOST, PATIENCE, Then, WORKERS, reply};
use klar_base::upstreams::{FromEdge, ToEdge};
use klar_base::wire;
use socket2::SockRef;

fn ask(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nhost: {HOST}\r\n\r\n")
}

#[test]
fn the_edge_goes_on_without_its_core() {
    let app = App::named("app");
    let mut edge = Edge::with(&[&app], |_| {});
    let mut open = edge.visitor();
    open.send(ask("/before"));
    assert_eq!(open.answer().status, 200);

    edge.core = None;
    open.send(ask("/open"));
    let kept = open.answer();
    assert_eq!(kept.text(), "app: GET /open", "on a connection that was open");
    let new = edge.get("/new");
    assert_eq!(new.text(), "app: GET /new", "and on a new one");
    let mut plain = edge.plain_visitor();
    plain.send(ask("/plain"));
    assert_eq!(plain.answer().status, 308);

    let core = Core::connect(&edge.control);
    assert_eq!(core.generation, edge.config.generation, "what it serves");
    assert_eq!(core.listeners.len(), 2 * WORKERS);
    for (spec, socket) in &core.listeners {
        let socket = SockRef::from(socket);
        assert!(socket.is_listener().unwrap(), "the very socket that is served");
        assert_eq!(socket.local_addr().unwrap().as_socket(), Some(spec.address));
        assert_eq!(spec.address, if spec.tls { edge.https } else { edge.http });
    }
    edge.core = Some(core);
    for answer in [&kept, &new] {
        assert_eq!(edge.record(answer).status, 200, "what happened meanwhile is told to the next core");
    }

    // The next core is heard as the first one was.
    let next = App::named("next");
    edge.web().upstreams[0] = crate::common::upstream(2, next.address);
    edge.apply();
    open.send(ask("/after"));
    assert_eq!(open.answer().text(), "next: GET /after");
}

/// A core that was killed in the middle of a word does no harm, and neither does one that talks nonsense.
#[test]
fn a_core_that_breaks_off_does_no_harm() {
    let app = App::named("app");
    let mut edge = Edge::with(&[&app], |_| {});
    edge.core = None;
    let torn: [&[u8]; 5] =
        [&[0, 0], &[0, 0, 1, 0, b'{'], &[0xff; 64], b"\0\0\0\x02{}", b"\0\0\0\x10{\"type\":\"dance\"}"];
    for bytes in torn {
        let mut stream = UnixStream::connect(&edge.control).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let (hello, _) = wire::receive::<FromEdge>(&stream).unwrap().unwrap();
        assert!(matches!(hello, FromEdge::Hello { .. }), "each core is greeted: {hello:?}");
        stream.write_all(bytes).unwrap();
        drop(stream);
        assert_eq!(edge.get("/").text(), "app: GET /");
    }
    edge.core = Some(Core::connect(&edge.control));
    edge.apply();
    assert_eq!(edge.get("/").text(), "app: GET /");
}

/// A core may say again what the edge knows: the listeners are not doubled, and the configuration is the same.
#[test]
fn saying_it_again_changes_nothing() {
    let app = App::named("app");
    let mut edge = Edge::with(&[&app], |_| {});
    for _ in 0..3 {
        edge.core = None;
        let mut core = Core::connect(&edge.control);
        let (listeners, sockets): (Vec<_>, Vec<OwnedFd>) = core.listeners.drain(..).unzip();
        assert_eq!(listeners.len(), 2 * WORKERS);
        core.send(&ToEdge::Listen { listeners }, &sockets);
        edge.core = Some(core);
        edge.apply();
        assert_eq!(edge.get("/").text(), "app: GET /");
    }
}

/// A lease outlives the core that it was taken under: the next one hears when it is given back.
#[test]
fn the_next_core_hears_of_a_drain() {
    let gate = Gate::default();
    let waiting = gate.clone();
    let app = App::start(move |got, stream| {
        waiting.pass();
        reply(stream, "200 OK", "", &got.line);
        Then::Keep
    });
    let mut edge = Edge::with(&[&app], |_| {});
    let mut visitor = edge.visitor();
    visitor.send(ask("/slow"));
    app.wait_got(1);
    edge.core = None;
    edge.core = Some(Core::connect(&edge.control));
    edge.web().upstreams[0].weight = 0;
    edge.apply();
    edge.wait_vitals(1, "the lease", |one| one.unwrap().leases == 1);
    gate.open();
    assert_eq!(visitor.answer().text(), "GET /slow");
    edge.wait_vitals(1, "the drained instance", |one| one.unwrap().leases == 0);
}

/// A stop finishes what is in flight, accepts nothing more, and then the edge ends by itself.
#[test]
fn a_stop_finishes_what_is_in_flight() {
    let gate = Gate::default();
    let waiting = gate.clone();
    let app = App::start(move |got, stream| {
        waiting.pass();
        reply(stream, "200 OK", "", &got.line)
    });
    let edge = Edge::with(&[&app], |_| {});
    let mut idle = edge.visitor();
    idle.send(ask("/../"));
    assert_eq!(idle.answer().status, 400);
    let mut visitor = edge.visitor();
    visitor.send(ask("/slow"));
    app.wait_got(1);
    edge.core().send(&ToEdge::Stop { patience: PATIENCE }, &[]);
    idle.assert_end();
    assert!(!edge.has_ended());
    gate.open();
    let answer = visitor.answer();
    assert_eq!((answer.status, answer.text().as_str()), (200, "GET /slow"));
    visitor.assert_end();
    assert_eq!(edge.record(&answer).status, 200, "the last record is handed over");
    edge.wait_end();
}

/// Patience has an end.
#[test]
fn a_stop_does_not_wait_for_ever() {
    let gate = Gate::default();
    let waiting = gate.clone();
    let app = App::start(move |_, _| {
        waiting.pass();
        Then::Close
    });
    let edge = Edge::with(&[&app], |_| {});
    let mut visitor = edge.visitor();
    visitor.send(ask("/slow"));
    app.wait_got(1);
    edge.core().send(&ToEdge::Stop { patience: Duration::from_millis(100) }, &[]);
    edge.wait_end();
    visitor.assert_end();
    gate.open();
}
