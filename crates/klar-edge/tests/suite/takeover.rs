//! Another edge takes over the listening sockets: nobody is refused, and nothing that is in use is cut.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use crate::common::living::{Bell, Living, app};
use crate::common::{App, Edge, Gate, HOST, PATIENCE, Then, Visitor, WORKERS, is_end, reply, upstream};
use klar_base::upstreams::ToEdge;

fn ask(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nhost: {HOST}\r\n\r\n")
}

fn drain(edge: &Edge) {
    edge.core().send(&ToEdge::Drain { patience: PATIENCE }, &[]);
}

/// A second edge serves all that the first one does, and the first one drains.
fn take_over(old: &mut Edge) -> Edge {
    let mut next = Edge::beside(old);
    next.apply();
    old.share_sockets(&next);
    drain(old);
    next
}

fn requests(edge: &Edge) -> u64 {
    edge.core().wait("totals", |heard| {
        let totals = heard.vitals.last()?.totals.values().next()?;
        Some(totals.requests)
    })
}

/// Visitors come and go, and some keep their connections, while one edge after the other takes over.
#[test]
fn nobody_is_refused() {
    const VISITORS: usize = 4;
    let app = App::named("app");
    let mut edge = Edge::with(&[&app], |_| {});
    let (https, stop, served) = (edge.https, Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let visitors: Vec<_> = (0..VISITORS)
        .map(|number| {
            let (stop, served) = (stop.clone(), served.clone());
            thread::spawn(move || {
                let keeps = number % 2 == 0;
                let mut kept: Option<Visitor> = None;
                while !stop.load(Ordering::SeqCst) {
                    let mut visitor = kept.take().unwrap_or_else(|| Visitor::tls(https, HOST));
                    visitor.send(ask("/"));
                    let answer = visitor.answer();
                    assert_eq!((answer.status, answer.text().as_str()), (200, "app: GET /"));
                    served.fetch_add(1, Ordering::SeqCst);
                    // Whoever is told that the connection ends here does not use it again.
                    if keeps && answer.header("connection").is_none() {
                        kept = Some(visitor);
                    }
                }
            })
        })
        .collect();
    let until = |count: u64| {
        while served.load(Ordering::SeqCst) < count && visitors.iter().all(|visitor| !visitor.is_finished()) {
            thread::sleep(Duration::from_millis(2));
        }
    };
    let mut counted = 0;
    for round in 1..=3 {
        until(round * 40);
        let next = take_over(&mut edge);
        edge.wait_end();
        counted += requests(&edge);
        edge = next;
    }
    until(served.load(Ordering::SeqCst) + 40);
    stop.store(true, Ordering::SeqCst);
    for visitor in visitors {
        visitor.join().expect("a visitor was refused or cut");
    }
    let served = served.load(Ordering::SeqCst);
    edge.core().wait("totals that add up", |heard| {
        let totals = heard.vitals.last()?.totals.values().next()?;
        (counted + totals.requests == served).then_some(())
    });
}

/// What is in use lives on in the edge before, which ends when its last connection does.
#[test]
fn what_is_in_use_lives_on() {
    let bell = Bell::default();
    let app = app("app", &bell);
    let mut old = Edge::with(&[&app], |_| {});
    let mut living = Living::open(&old, &bell);
    let next = take_over(&mut old);
    living.assert_alive("a takeover");
    // The next core does not know what the one before has said.
    drain(&old);
    living.assert_alive("being told again");
    assert_eq!(living.ask("/last"), (Some("close".into()), "app: GET /last".into()), "led away politely");
    living.kept.assert_end();
    assert_eq!(next.get("/new").text(), "app: GET /new");
    living.assert_alive("a while");
    assert!(!old.has_ended());
    drop(living);
    old.wait_end();
    assert_eq!(next.get("/").text(), "app: GET /");
}

/// A WebSocket alone keeps the edge before alive.
#[test]
fn a_websocket_is_waited_for() {
    let bell = Bell::default();
    let app = app("app", &bell);
    let mut old = Edge::with(&[&app], |_| {});
    let Living { mut socket, .. } = Living::open(&old, &bell);
    let _next = take_over(&mut old);
    // The others are gone, and the edge has noticed.
    old.core().wait("one connection", |heard| (heard.vitals.last()?.connections == 1).then_some(()));
    socket.send("still here");
    assert_eq!(socket.read(10), b"still here");
    assert!(!old.has_ended());
    socket.hang_up();
    old.wait_end();
}

/// A connection that the old edge has accepted, and that has not said a word yet, is served.
#[test]
fn one_that_has_not_begun_is_served() {
    let app = App::named("app");
    let mut old = Edge::with(&[&app], |_| {});
    let mut early = old.visitor();
    old.core().wait("the connection", |heard| (heard.vitals.last()?.connections == 1).then_some(()));
    let _next = take_over(&mut old);
    early.send(ask("/early"));
    assert_eq!(early.answer().text(), "app: GET /early");
    early.assert_end();
    old.wait_end();
}

/// Connections wait in the queue of the socket while nobody accepts: it belongs to no process.
#[test]
fn the_queue_outlives_the_edge() {
    let app = App::named("app");
    let mut old = Edge::with(&[&app], |_| {});
    old.core = None;
    let mut core = crate::common::Core::connect(&old.control);
    let (listeners, sockets): (Vec<_>, Vec<_>) = core.listeners.drain(..).unzip();
    old.core = Some(core);
    drain(&old);
    old.wait_end();
    let mut waiting: Vec<Visitor> = (0..8).map(|_| old.visitor()).collect();
    let mut next = Edge::beside(&old);
    next.apply();
    next.core().send(&ToEdge::Listen { listeners }, &sockets);
    for visitor in &mut waiting {
        visitor.send(ask("/waited"));
        assert_eq!(visitor.answer().text(), "app: GET /waited");
    }
}

/// An edge that has its sockets before its settings, as one does that is started in the place of a dead one, turns
/// nobody away: whoever comes waits in the queue.
#[test]
fn nobody_is_accepted_before_there_are_settings() {
    let app = App::named("app");
    let mut old = Edge::with(&[&app], |_| {});
    let mut next = Edge::beside(&old);
    old.core = None;
    let mut core = crate::common::Core::connect(&old.control);
    let (listeners, sockets): (Vec<_>, Vec<_>) = core.listeners.drain(..).unzip();
    old.core = Some(core);
    drain(&old);
    old.wait_end();
    next.core().send(&ToEdge::Listen { listeners }, &sockets);
    let ask_and_hear = |mut visitor: Visitor| {
        thread::spawn(move || {
            visitor.send(ask("/waited"));
            visitor.answer()
        })
    };
    let visitors: Vec<_> = (0..4).map(|_| ask_and_hear(next.visitor())).collect();
    let moved: Vec<_> = (0..4).map(|_| ask_and_hear(next.plain_visitor())).collect();
    // It has had the time to do something wrong: it tells how it is once a second.
    next.core().wait("a second report", |heard| (heard.vitals.len() >= 2).then_some(()));
    next.core().wait("nobody inside", |heard| {
        heard.vitals.iter().all(|vitals| vitals.connections == 0).then_some(())
    });
    next.apply();
    for visitor in visitors {
        assert_eq!(visitor.join().unwrap().text(), "app: GET /waited");
    }
    for visitor in moved {
        assert_eq!(visitor.join().unwrap().status, 308);
    }
    next.core().wait("all sockets", |heard| (heard.listening == 2 * WORKERS).then_some(()));
}

/// The edge that drains hears of deploys as well: its last requests go where requests go now.
#[test]
fn a_draining_edge_follows_the_configuration() {
    let bell = Bell::default();
    let (first, second) = (app("first", &bell), App::named("second"));
    let mut old = Edge::with(&[&first], |_| {});
    let mut living = Living::open(&old, &bell);
    let _next = take_over(&mut old);
    old.web().upstreams[0].weight = 0;
    old.web().upstreams.push(upstream(2, second.address));
    old.apply();
    assert_eq!(living.ask("/last").1, "second: GET /last");
    living.assert_alive("a deploy");
}

/// Patience has an end, and a stop does not wait for it.
#[test]
fn a_drain_ends() {
    for (what, message) in [
        ("in time", ToEdge::Drain { patience: Duration::from_millis(100) }),
        ("when it is stopped", ToEdge::Stop { patience: Duration::ZERO }),
    ] {
        let gate = Gate::default();
        let waiting = gate.clone();
        let app = App::start(move |got, stream| {
            waiting.pass();
            reply(stream, "200 OK", "", &got.line);
            Then::Close
        });
        let edge = Edge::with(&[&app], |_| {});
        let mut visitor = edge.visitor();
        visitor.send(ask("/slow"));
        app.wait_got(1);
        drain(&edge);
        assert!(!edge.has_ended(), "{what}");
        edge.core().send(&message, &[]);
        edge.wait_end();
        assert!(is_end(&visitor.try_answer("GET").unwrap_err()), "{what}");
        gate.open();
    }
}

/// It says of itself that it drains, and takes no more sockets.
#[test]
fn a_draining_edge_says_so() {
    let bell = Bell::default();
    let app = app("app", &bell);
    let mut edge = Edge::with(&[&app], |_| {});
    let living = Living::open(&edge, &bell);
    for wanted in [false, true] {
        edge.core = None;
        edge.core = Some(crate::common::Core::connect(&edge.control));
        assert_eq!(edge.core().draining, wanted);
        drain(&edge);
    }
    drop(living);
}
