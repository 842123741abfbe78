//! A request is sent again when that is safe, and only then.

use std::io::Write;
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::common::{App, Edge, Gate, Got, HOST, PATIENCE, Then, reply, route, upstream};
use klar_base::signal::DecidedBy;

/// So many requests that both of two instances get some, with odds of a million to one.
const MANY: usize = 20;

type Death = fn(&Got, &mut TcpStream) -> Then;

/// Ways for an instance to fail a request that it has read.
const DEATHS: [(&str, Death); 4] = [
    ("before the answer", |_, _| Then::Close),
    ("in the head", |_, stream| write(stream, "HTTP/1.1 200 OK\r\ncontent-le")),
    ("before the body", |_, stream| write(stream, "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n")),
    ("in the body", |_, stream| write(stream, "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf")),
];

fn write(stream: &mut TcpStream, text: &str) -> Then {
    // The edge sees the end either way.
    let _ = stream.write_all(text.as_bytes());
    Then::Close
}

fn request(method: &str, more: &str) -> String {
    let length = if method == "GET" || method == "HEAD" { "" } else { "content-length: 4\r\n" };
    let body = if length.is_empty() { "" } else { "body" };
    format!("{method} / HTTP/1.1\r\nhost: {HOST}\r\n{length}{more}\r\n{body}")
}

/// RFC 9110 section 9.2.2: what is as good twice as once is sent to another instance, and the visitor sees one whole
/// answer.
#[test]
fn idempotent_requests_are_sent_again() {
    for (when, death) in DEATHS {
        let (dying, good) = (App::start(death), App::named("good"));
        let edge = Edge::with(&[&dying, &good], |_| {});
        let mut retried = 0;
        for method in ["GET", "PUT", "DELETE", "OPTIONS", "GET"] {
            let answer = edge.ask(&request(method, ""));
            let wanted = format!("good: {method} /");
            assert_eq!((answer.status, answer.text()), (200, wanted), "it died {when}");
            let record = edge.record(&answer);
            assert_eq!((record.status, record.decided_by), (200, DecidedBy::App), "it died {when}");
            assert_eq!(record.upstream.unwrap().number, 2);
            assert!(matches!(record.attempts, 1 | 2), "{} attempts", record.attempts);
            retried += record.attempts as usize - 1;
        }
        assert_eq!(dying.got().len(), retried, "it died {when}");
        for got in good.got().iter().filter(|got| got.line == "PUT /") {
            assert_eq!(got.body, b"body", "the body goes along again");
        }
    }
}

/// A retry is one request in the records and in the totals, and is told of there.
#[test]
fn a_retry_is_on_the_record() {
    let gate = Gate::default();
    let waiting = gate.clone();
    let (dying, good) = (
        App::start(move |_, _| {
            waiting.pass();
            Then::Close
        }),
        App::named("good"),
    );
    // Only the dying one is there when the request comes, so it is the first for certain.
    let mut edge = Edge::with(&[&dying, &good], |edge| edge.web().upstreams[1].weight = 0);
    let mut visitor = edge.visitor();
    visitor.send(request("GET", ""));
    dying.wait_got(1);
    edge.web().upstreams[1].weight = 1;
    edge.apply();
    gate.open();
    let answer = visitor.answer();
    assert_eq!((answer.status, answer.text().as_str()), (200, "good: GET /"));
    let record = edge.record(&answer);
    assert_eq!((record.attempts, record.upstream.unwrap().number), (2, 2));
    edge.core().wait("the totals", |heard| {
        let totals = heard.vitals.last()?.totals.values().next()?;
        (totals.requests == 1 && totals.saved_by_retry == 1 && totals.failed == 0).then_some(())
    });
}

/// What may have been done once is not done twice.
#[test]
fn a_post_is_sent_once() {
    let table = [
        ("without a key", "/", ""),
        ("with a key, where the app has promised nothing", "/", "idempotency-key: 1\r\n"),
        ("without a key, where the app has promised it", "/promised", ""),
    ];
    for (when, death) in DEATHS {
        if when.ends_with("body") {
            continue;
        }
        for (what, path, key) in table {
            let (one, two) = (App::start(death), App::start(death));
            let edge = Edge::with(&[&one, &two], |edge| {
                let mut promised = route("/promised");
                promised.idempotent = true;
                edge.site().routes.push(promised);
            });
            let request = request("POST", key).replacen(" / ", &format!(" {path} "), 1);
            let answer = edge.ask(&request);
            assert_eq!(answer.status, 502, "{what}, died {when}");
            let record = edge.record(&answer);
            assert_eq!((record.decided_by, record.attempts), (DecidedBy::Failed, 1), "{what}, died {when}");
            assert_eq!(one.got().len() + two.got().len(), 1, "{what}, died {when}");
        }
    }
}

/// An answer to a `POST` that breaks off in its body breaks off for the visitor too: it is never shown as whole.
#[test]
fn a_broken_answer_is_never_shown_as_whole() {
    let table = [
        ("POST", "content-length: 9\r\n\r\nhalf"),
        ("POST", "transfer-encoding: chunked\r\n\r\n9\r\nhalf"),
        ("GET", "transfer-encoding: chunked\r\n\r\n4\r\nhalf\r\n"),
        ("GET", "content-length: 100000\r\n\r\nhalf"),
    ];
    for (method, rest) in table {
        let app = App::start(move |_, stream| write(stream, &format!("HTTP/1.1 200 OK\r\n{rest}")));
        let edge = Edge::with(&[&app], |_| {});
        let mut visitor = edge.visitor();
        visitor.send(request(method, ""));
        let error = visitor.try_answer(method).unwrap_err();
        assert!(crate::common::is_end(&error), "{error}");
        edge.core().wait("the record", |heard| {
            let record = heard.records.first()?;
            assert_eq!((record.status, record.decided_by, record.attempts), (200, DecidedBy::Failed, 1));
            assert!(record.error.is_some() && !record.aborted);
            Some(())
        });
        assert_eq!(app.got().len(), 1);
    }
}

/// A key makes a `POST` or a `PATCH` safe to repeat where the app has promised to honour it.
#[test]
fn a_post_with_a_key_is_sent_again() {
    for (when, death) in DEATHS {
        let (dying, good) = (App::start(death), App::named("good"));
        let edge = Edge::with(&[&dying, &good], |edge| edge.site().routes[0].idempotent = true);
        for method in ["POST", "PATCH", "POST", "PATCH"] {
            let answer = edge.ask(&request(method, "idempotency-key: 1\r\n"));
            assert_eq!((answer.status, answer.text()), (200, format!("good: {method} /")), "it died {when}");
        }
        for got in dying.got().iter().chain(&good.got()) {
            assert_eq!((got.body.as_slice(), got.header("idempotency-key")), (b"body".as_slice(), Some("1")));
        }
    }
}

/// What never reached an instance may always be sent to another one, whatever its method.
#[test]
fn a_refused_connection_is_nobodys_loss() {
    let good = App::named("good");
    let edge = Edge::with(&[&good], |edge| {
        edge.web().upstreams.extend((2..5).map(|number| upstream(number, App::nobody())));
    });
    for _ in 0..MANY {
        // The first three may each find one that is gone; two of three attempts can be lost that way.
        let answer = edge.ask(&request("POST", ""));
        if answer.status != 200 {
            let record = edge.record(&answer);
            assert_eq!((answer.status, record.attempts), (503, 3), "{}", answer.text());
        }
    }
    let answer = edge.ask(&request("POST", ""));
    assert_eq!((answer.status, answer.text().as_str()), (200, "good: POST /"), "the others are known by now");
    assert!(good.got().iter().all(|got| got.body == b"body"));
}

/// A large body goes through as it comes, so it can go only once; when nobody has it yet, it still goes to another.
#[test]
fn a_large_body_survives_a_refused_connection() {
    let body = "b".repeat(300_000);
    for method in ["POST", "PUT"] {
        let good = App::named("good");
        let edge = Edge::with(&[&good], |edge| edge.web().upstreams.push(upstream(2, App::nobody())));
        for _ in 0..5 {
            let length = body.len();
            let head = format!("{method} / HTTP/1.1\r\nhost: {HOST}\r\ncontent-length: {length}\r\n\r\n");
            let answer = edge.ask(&(head + &body));
            assert_eq!(answer.status, 200, "{}", answer.text());
            assert_eq!(edge.record(&answer).bytes_in, 300_000);
        }
        assert!(good.got().iter().all(|got| got.body == body.as_bytes()));
    }
}

/// There are three attempts at most, and the last one is what the visitor hears of.
#[test]
fn there_are_three_attempts_at_most() {
    let apps: Vec<App> = (0..5).map(|_| App::closing()).collect();
    let edge = Edge::with(&apps.iter().collect::<Vec<_>>(), |_| {});
    let answer = edge.ask(&request("GET", ""));
    assert_eq!(answer.status, 502);
    assert_eq!(edge.record(&answer).attempts, 3);
    let counts: Vec<usize> = apps.iter().map(|app| app.got().len()).collect();
    assert_eq!(counts.iter().sum::<usize>(), 3);
    assert!(counts.iter().all(|count| *count <= 1), "each time to another one: {counts:?}");
}

/// When there is no other instance the same one gets another chance.
#[test]
fn the_only_instance_gets_another_chance() {
    let count = Arc::new(AtomicUsize::new(0));
    let app = App::start(move |_, stream| match count.fetch_add(1, Ordering::SeqCst) {
        0 | 1 => Then::Close,
        _ => reply(stream, "200 OK", "", "third time"),
    });
    let edge = Edge::with(&[&app], |_| {});
    let answer = edge.ask(&request("GET", ""));
    assert_eq!((answer.status, answer.text().as_str()), (200, "third time"));
    assert_eq!(edge.record(&answer).attempts, 3);
}

/// An app's own error is an answer, not a failure to answer.
#[test]
fn an_error_of_the_app_is_its_answer() {
    let app = App::start(|_, stream| reply(stream, "503 Service Unavailable", "", "mine"));
    let edge = Edge::with(&[&app], |_| {});
    let answer = edge.ask(&request("GET", ""));
    assert_eq!((answer.status, answer.text().as_str()), (503, "mine"));
    let record = edge.record(&answer);
    assert_eq!((record.decided_by, record.attempts), (DecidedBy::App, 1));
    edge.core().wait("the totals", |heard| {
        let vitals = heard.vitals.last()?;
        let totals = vitals.totals.values().next()?;
        (totals.app_errors == 1 && totals.failed == 0 && vitals.upstreams[0].failures == 1).then_some(())
    });
}

/// A request that finds no instance waits for one: a deploy that leaves a gap is not seen.
#[test]
fn a_request_waits_for_an_instance() {
    for gone in [false, true] {
        for method in ["GET", "POST"] {
            let app = App::named("app");
            let mut edge = Edge::with(&[], |edge| {
                edge.web().hold = PATIENCE;
                if gone {
                    edge.web().upstreams.push(upstream(1, App::nobody()));
                }
            });
            let mut visitor = edge.visitor();
            visitor.send(request(method, ""));
            // Answered by now if it would not wait: this one goes the same way, and needs no instance.
            assert_eq!(edge.ask("GET /../ HTTP/1.1\r\nhost: shop.test\r\n\r\n").status, 400);
            edge.web().upstreams = vec![upstream(2, app.address)];
            edge.apply();
            let answer = visitor.answer();
            assert_eq!((answer.status, answer.text()), (200, format!("app: {method} /")));
            assert_eq!(app.got().len(), 1);
        }
    }
}

/// Nobody came: the visitor hears that nothing was done, and when to ask again.
#[test]
fn a_request_does_not_wait_for_ever() {
    for gone in [false, true] {
        let edge = Edge::with(&[], |edge| {
            edge.web().hold = Duration::from_millis(100);
            if gone {
                edge.web().upstreams.push(upstream(1, App::nobody()));
            }
        });
        let answer = edge.ask(&request("POST", ""));
        assert_eq!((answer.status, answer.header("retry-after")), (503, Some("2")));
        assert_eq!(edge.record(&answer).decided_by, DecidedBy::Failed);
    }
}

/// An app that takes too long is given up, and not asked again: it may be at it still.
#[test]
fn a_slow_app_is_given_up() {
    for method in ["GET", "POST"] {
        let gate = Gate::default();
        let waiting = gate.clone();
        let app = App::start(move |_, _| {
            waiting.pass();
            Then::Close
        });
        let edge = Edge::with(&[&app], |edge| {
            edge.site().routes[0].timeout = Some(Duration::from_millis(200));
        });
        let answer = edge.ask(&request(method, ""));
        assert_eq!(answer.status, 504);
        let record = edge.record(&answer);
        assert_eq!((record.decided_by, record.attempts), (DecidedBy::Failed, 1));
        assert_eq!(app.got().len(), 1);
        edge.wait_vitals(1, "the lease to be given back", |one| one.unwrap().leases == 0);
        gate.open();
    }
}

/// A connection that an app closed while it idled is not a failure of the app.
#[test]
fn a_connection_that_was_closed_while_it_idled_is_replaced() {
    let app = App::start(|got, stream| {
        reply(stream, "200 OK", "", &got.line);
        Then::Close
    });
    let edge = Edge::with(&[&app], |_| {});
    let mut visitor = edge.visitor();
    for _ in 0..MANY {
        visitor.send(request("GET", ""));
        let answer = visitor.answer();
        assert_eq!((answer.status, answer.text().as_str()), (200, "GET /"));
    }
}
