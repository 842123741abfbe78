//! An instance that is to go gets nothing new, finishes what it has, and the core hears when it has.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use crate::common::{App, Edge, Gate, HOST, Then, reply, upstream};
use klar_base::signal::{DecidedBy, Totals};

/// An app that answers `/slow` when the gate opens, and everything else at once.
fn slow(gate: &Gate) -> App {
    let gate = gate.clone();
    App::start(move |got, stream| {
        if got.line.ends_with("/slow") {
            gate.pass();
        }
        reply(stream, "200 OK", "", "old")
    })
}

fn ask(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nhost: {HOST}\r\n\r\n")
}

/// Weight 0 and gone from the configuration mean the same to what is in flight.
#[test]
fn an_instance_that_is_to_go_finishes_and_gets_nothing_new() {
    for removed in [false, true] {
        let gate = Gate::default();
        let (old, new) = (slow(&gate), App::named("new"));
        let mut edge = Edge::with(&[&old], |_| {});
        let mut visitor = edge.visitor();
        visitor.send(ask("/slow"));
        old.wait_got(1);
        edge.wait_vitals(1, "one lease", |one| one.is_some_and(|one| one.leases == 1 && one.requests == 1));

        edge.web().upstreams.push(upstream(2, new.address));
        if removed {
            edge.web().upstreams.remove(0);
        } else {
            edge.web().upstreams[0].weight = 0;
        }
        edge.apply();
        for _ in 0..20 {
            assert_eq!(edge.get("/").text(), "new: GET /");
        }
        assert_eq!(old.lines(), ["GET /slow"], "nothing new after the configuration was applied");
        edge.wait_vitals(1, "the lease that is left", |one| one.is_some_and(|one| one.leases == 1));

        gate.open();
        let answer = visitor.answer();
        assert_eq!((answer.status, answer.text().as_str()), (200, "old"), "what was in flight is finished");
        edge.wait_vitals(1, "the drained instance", |one| match one {
            None => removed,
            Some(one) => one.leases == 0,
        });
        visitor.send(ask("/"));
        assert_eq!(visitor.answer().text(), "new: GET /", "its visitors go to the other one");
        assert_eq!(old.lines(), ["GET /slow"]);
    }
}

/// An instance without leases is reported as drained right after the configuration that drains it.
#[test]
fn an_idle_instance_is_drained_at_once() {
    let app = App::named("app");
    let mut edge = Edge::with(&[&app], |_| {});
    assert_eq!(edge.get("/").status, 200);
    edge.web().upstreams[0].weight = 0;
    edge.apply();
    edge.wait_vitals(1, "the drained instance", |one| one.is_some_and(|one| one.leases == 0));
}

/// No request gets lost or reaches the wrong instance while instances come and go under load.
#[test]
fn nobody_notices_a_deploy() {
    const VISITORS: usize = 4;
    let apps: Vec<App> = (0..6).map(|_| App::named("app")).collect();
    let mut edge = Edge::with(&[&apps[0]], |_| {});
    let stop = Arc::new(AtomicBool::new(false));
    let visitors: Vec<_> = (0..VISITORS)
        .map(|number| {
            let (stop, mut visitor) = (stop.clone(), edge.visitor());
            thread::spawn(move || {
                let mut count = 0;
                while !stop.load(Ordering::Relaxed) {
                    let method = if count % 2 == 0 { "GET" } else { "POST" };
                    visitor.send(format!(
                        "{method} /{number}/{count} HTTP/1.1\r\nhost: {HOST}\r\ncontent-length: 0\r\n\r\n"
                    ));
                    let answer = visitor.answer();
                    assert_eq!(answer.text(), format!("app: {method} /{number}/{count}"));
                    count += 1;
                }
                count
            })
        })
        .collect();
    for number in 1..apps.len() {
        apps[number - 1].wait_got(20);
        edge.web().upstreams.push(upstream(number as u64 + 1, apps[number].address));
        edge.apply();
        edge.web().upstreams[0].weight = 0;
        edge.apply();
        edge.wait_vitals(number as u64, "the old one to drain", |one| one.is_some_and(|one| one.leases == 0));
        let seen = apps[number - 1].got().len();
        edge.web().upstreams.remove(0);
        edge.apply();
        apps[number].wait_got(20);
        assert_eq!(apps[number - 1].got().len(), seen, "a request after it was drained");
    }
    stop.store(true, Ordering::Relaxed);
    let count: usize = visitors.into_iter().map(|visitor| visitor.join().unwrap()).sum();
    assert_eq!(apps.iter().map(|app| app.got().len()).sum::<usize>(), count, "each of them once");
    edge.core().wait("all records", |heard| (heard.records.len() == count).then_some(()));
}

/// One record for each request, with what the visitor saw; and the totals are their sum.
#[test]
fn records_say_what_happened() {
    let app = App::start(|got, stream| {
        if got.line.ends_with("/close") {
            return Then::Close;
        }
        let status = if got.line.ends_with("/500") { "500 Internal Server Error" } else { "200 OK" };
        reply(stream, status, "", "12345")
    });
    let edge = Edge::with(&[&app], |edge| {
        let mut narrow = crate::common::route("/narrow/*");
        narrow.body_bytes = Some(3);
        edge.site().routes.push(narrow);
    });
    let get = |path: &str| ask(path);
    let post = |path: &str| format!("POST {path} HTTP/1.1\r\nhost: {HOST}\r\ncontent-length: 4\r\n\r\nbody");
    let wide = Some("/*");
    let narrow = Some("/narrow/*");
    let table = [
        (get("/a?secret=1"), "/a", 200, DecidedBy::App, wide, 0, Some(5)),
        (post("/a"), "/a", 200, DecidedBy::App, wide, 4, Some(5)),
        (get("/narrow"), "/narrow", 200, DecidedBy::App, narrow, 0, Some(5)),
        (post("/narrow/x"), "/narrow/x", 413, DecidedBy::Refused, narrow, 0, None),
        (get("/500"), "/500", 500, DecidedBy::App, wide, 0, Some(5)),
        (post("/close"), "/close", 502, DecidedBy::Failed, wide, 4, None),
        (get("/../x"), "/../x", 400, DecidedBy::Refused, None, 0, None),
        (get("/a").replace("GET", "HEAD"), "/a", 200, DecidedBy::App, wide, 0, Some(0)),
    ];
    for (request, path, status, decided_by, route, bytes_in, bytes_out) in &table {
        let answer = edge.ask(&request.replace("\r\n\r\n", "\r\nuser-agent: test\r\n\r\n"));
        assert_eq!(answer.status, *status, "{request}");
        let record = edge.record(&answer);
        assert_eq!(
            (record.status, record.decided_by, record.route.as_deref(), record.bytes_in),
            (*status, *decided_by, *route, *bytes_in),
            "{request}"
        );
        let bytes_out = bytes_out.unwrap_or(answer.body.len() as u64);
        assert_eq!((record.bytes_out, record.path.as_str()), (bytes_out, *path), "{request}");
        assert_eq!((record.host.as_str(), record.tls, record.aborted), (HOST, true, false), "{request}");
        assert_eq!(record.app.unwrap().to_string(), "shop.prod");
        assert_eq!(record.user_agent.as_deref(), Some("test"));
        assert_eq!(record.error.is_some(), matches!(status, 400 | 413 | 502), "{request}");
        let tried = matches!(decided_by, DecidedBy::App | DecidedBy::Failed);
        assert_eq!((record.attempts, record.upstream.is_some()), (u32::from(tried), tried), "{request}");
        assert!(request.starts_with(&record.method));
    }
    let wanted = Totals { requests: 8, app_errors: 1, failed: 1, refused: 2, ..Totals::default() };
    edge.core().wait("the totals", |heard| {
        (heard.vitals.last()?.totals.values().next() == Some(&wanted)).then_some(())
    });
    let count = edge.core().wait("the records", |heard| Some(heard.records.len()));
    assert_eq!(count, table.len());
}

/// A visitor that goes away is on the record, and its lease is given back.
#[test]
fn a_visitor_that_goes_away_is_on_the_record() {
    let gate = Gate::default();
    let app = slow(&gate);
    let edge = Edge::with(&[&app], |_| {});
    let mut visitor = edge.visitor();
    visitor.send(ask("/slow"));
    app.wait_got(1);
    visitor.hang_up();
    edge.core().wait("the record", |heard| {
        let record = heard.records.first()?;
        assert!(record.aborted);
        assert_eq!((record.path.as_str(), record.attempts), ("/slow", 1));
        Some(())
    });
    edge.wait_vitals(1, "the lease to be given back", |one| one.unwrap().leases == 0);
    edge.core().wait("the totals", |heard| {
        (heard.vitals.last()?.totals.values().next()?.aborted == 1).then_some(())
    });
    gate.open();
}

/// A configuration that makes no sense is refused whole, and the one before it stays in force.
#[test]
fn a_bad_configuration_changes_nothing() {
    use klar_base::upstreams::{Target, ToEdge};
    let app = App::named("app");
    let mut edge = Edge::with(&[&app], |_| {});
    let good = edge.config.clone();
    let bad: [fn(&mut Edge); 3] = [
        |edge| edge.config.certificates[0].chain_pem = "nonsense".into(),
        |edge| {
            edge.site().routes[0].target = Target::Service { service: "worker".parse().unwrap() };
        },
        |edge| {
            let release = "0123456789ab".parse().unwrap();
            edge.site().routes[0].target = Target::Static { folder: 0, release, spa: false, prepared: None };
        },
    ];
    for (number, spoil) in (100..).zip(bad) {
        edge.config = good.clone();
        spoil(&mut edge);
        edge.web().upstreams.clear();
        edge.config.generation = number;
        edge.core().send(&ToEdge::Config(Box::new(edge.config.clone())), &[]);
        edge.core().wait("the refusal", |heard| {
            heard.rejected.iter().find(|(refused, _)| *refused == number).map(drop)
        });
        assert_eq!(edge.get("/").text(), "app: GET /");
    }
}
