//! What the edge says of itself: what it would do with a request, and what it counts.

use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use crate::common::http2::Client;
use crate::common::{Answer, App, Edge, HOST, PATIENCE, Visitor, reply};
use klar_base::look::{CacheView, Counts, Explained, Question, RouteCounts, Told, Wanted, Wellness};
use klar_base::signal::{CacheOutcome, DecidedBy};
use klar_base::upstreams::{CacheRules, ForwardedHeader, Front, ToEdge};

pub fn ask(edge: &Edge, question: Question) -> Told {
    ask_with(edge, question, &[])
}

/// With files beside the question.
pub fn ask_with(edge: &Edge, question: Question, files: &[OwnedFd]) -> Told {
    static NUMBER: AtomicU64 = AtomicU64::new(1);
    let number = NUMBER.fetch_add(1, Ordering::SeqCst);
    edge.core().send(&ToEdge::Ask { number, question }, files);
    edge.core().wait("an answer", |heard| {
        heard.told.iter().find(|(answered, _)| *answered == number).map(|(_, told)| told.clone())
    })
}

fn explain(edge: &Edge, path: &str, headers: &[(&str, &str)]) -> Explained {
    let headers = headers.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
    let url = format!("https://{HOST}{path}");
    let wanted = Wanted { url, app: None, method: "GET".into(), headers, from: None, certificate: None };
    match ask(edge, Question::Request(wanted)) {
        Told::Explained(explained) => *explained,
        other => panic!("{other:?} for an explanation"),
    }
}

fn cache(edge: &Edge, path: &str, headers: &[(&str, &str)]) -> CacheView {
    explain(edge, path, headers).cache.unwrap()
}

fn counts(edge: &Edge) -> Counts {
    match ask(edge, Question::Counts) {
        Told::Counts(counts) => *counts,
        other => panic!("{other:?} for counts"),
    }
}

/// Waits until the counters say what `found` looks for: a request is counted when its last byte is on its way.
fn counts_until(edge: &Edge, what: &str, found: impl Fn(&Counts) -> bool) -> Counts {
    let end = Instant::now() + PATIENCE;
    loop {
        let counts = counts(edge);
        if found(&counts) {
            return counts;
        }
        assert!(Instant::now() < end, "waited in vain for {what}; the last counts were {counts:#?}");
    }
}

fn request(path: &str, headers: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nhost: {HOST}\r\n{headers}\r\n")
}

fn status(answer: &Answer) -> &str {
    answer.header("cache-status").unwrap().split("; ttl").next().unwrap()
}

/// What is foretold is what happens, for each thing that the cache can do.
#[test]
fn what_is_foretold_happens() {
    let app = App::start(|got, stream| {
        let path = got.line.split(' ').nth(1).unwrap_or_default();
        let headers = match path {
            "/kept" => "cache-control: max-age=600\r\ncache-tag: goods, prices\r\netag: \"a\"\r\n",
            "/vary" => "cache-control: max-age=600\r\nvary: accept-language\r\n",
            "/asked" => "cache-control: no-cache\r\netag: \"a\"\r\n",
            "/stale" => "cache-control: max-age=0, stale-while-revalidate=600\r\n",
            "/cookie" => "cache-control: max-age=600\r\nset-cookie: a=1\r\n",
            _ => "",
        };
        reply(stream, "200 OK", headers, "answer")
    });
    let edge = Edge::with(&[&app], |_| {});
    for path in ["/kept", "/vary", "/asked", "/stale", "/cookie", "/plain"] {
        edge.get(path);
    }
    let cookie = ("cookie", "a=1");
    for (path, headers) in [
        ("/kept", &[][..]),
        ("/kept", &[cookie]),
        ("/kept", &[("cache-control", "no-cache")]),
        ("/kept", &[("cache-control", "no-store")]),
        ("/vary", &[]),
        ("/vary", &[("accept-language", "nb")]),
        ("/asked", &[]),
        ("/stale", &[]),
        ("/cookie", &[]),
        ("/plain", &[]),
        ("/plain?", &[]),
        ("/new", &[]),
    ] {
        let foretold = cache(&edge, path, headers);
        let lines: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        let answer = edge.ask(&request(path, &lines));
        let happened = status(&answer);
        let now = foretold.now.split("; ttl").next().unwrap();
        // What the app said, and what became of that, nobody can foretell.
        assert!(happened.starts_with(now), "{path} {headers:?}: {now} was foretold, {happened} came");
        if foretold.outcome != CacheOutcome::Miss {
            assert_eq!(edge.record(&answer).cache, Some(foretold.outcome), "{path} {headers:?}");
        }
    }
}

/// Who is a trusted proxy, and what it says, decides at the plain port what is served, to whom, and what is kept.
#[test]
fn what_is_foretold_happens_behind_a_proxy() {
    let app =
        App::start(|_, stream| reply(stream, "200 OK", "cache-control: public, max-age=600\r\n", "answer"));
    let edge = Edge::with(&[&app], |edge| {
        let proxies = vec!["127.0.0.1".parse().unwrap()];
        edge.site().front = Front { proxies, header: ForwardedHeader::XForwarded, plain: true };
    });
    let proxied = ("x-forwarded-for", "203.0.113.9");
    for (from, headers, who) in [
        ([127, 0, 0, 1], &[proxied, ("x-forwarded-proto", "https")][..], "203.0.113.9 over HTTPS"),
        ([127, 0, 0, 1], &[proxied], "203.0.113.9 over plain HTTP"),
        ([127, 0, 0, 1], &[proxied, ("x-forwarded-proto", "https")], "203.0.113.9 over HTTPS"),
        ([127, 0, 0, 2], &[proxied, ("x-forwarded-proto", "https")], "127.0.0.2 over plain HTTP"),
    ] {
        let foretold = match ask(
            &edge,
            Question::Request(Wanted {
                url: format!("http://{HOST}/"),
                app: None,
                method: "GET".into(),
                headers: headers.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect(),
                from: Some(from.into()),
                certificate: None,
            }),
        ) {
            Told::Explained(explained) => *explained,
            other => panic!("{other:?} for an explanation"),
        };
        let lines: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        let mut visitor = Visitor::plain_from(edge.http, from);
        visitor.send(request("/", &lines));
        let answer = visitor.answer();
        let record = edge.record(&answer);
        let scheme = if record.tls { "HTTPS" } else { "plain HTTP" };
        assert_eq!(format!("{} over {scheme}", record.client), who);
        let key = Some("edge.trusted_proxies");
        let policy = foretold.policies.iter().find(|policy| policy.key.as_deref() == key).unwrap();
        assert!(policy.here.as_ref().unwrap().starts_with(who), "{policy:?}");
        assert_eq!(foretold.outcome.decided_by, record.decided_by, "{from:?} {headers:?}");
        assert_eq!(foretold.outcome.location.as_deref(), answer.header("location"), "{from:?} {headers:?}");
        assert_eq!(foretold.cache.map(|cache| cache.outcome), record.cache, "{from:?} {headers:?}");
        assert_eq!(foretold.outcome.status.unwrap_or(200), answer.status, "{from:?} {headers:?}");
    }
}

/// What is kept, and why the last answer was not.
#[test]
fn what_is_kept_and_why_not() {
    let app = App::start(|got, stream| {
        let headers = match got.line.split(' ').nth(1).unwrap_or_default() {
            "/kept" => "cache-control: max-age=600\r\ncache-tag: goods, prices\r\nvary: accept-language\r\n",
            "/strict" => "cache-control: max-age=600, must-revalidate\r\n",
            "/private" => "cache-control: private\r\n",
            "/cookie" => "cache-control: max-age=600\r\nset-cookie: a=1\r\n",
            _ => "",
        };
        reply(stream, "200 OK", headers, "answer")
    });
    let edge = Edge::with(&[&app], |_| {});
    for path in ["/kept", "/strict", "/private", "/cookie", "/plain"] {
        edge.get(path);
    }
    let told = explain(&edge, "/kept", &[]);
    assert_eq!((told.outcome.decided_by, told.outcome.status), (DecidedBy::Edge, Some(200)));
    assert!(told.away.is_some_and(|away| away.stale && away.status == 200));
    let stored = told.cache.unwrap().stored.unwrap();
    assert_eq!((stored.status, stored.bytes), (200, 6));
    assert_eq!(
        (stored.vary, stored.tags),
        (vec!["accept-language".into()], vec!["goods".into(), "prices".into()])
    );
    assert!(!stored.can_validate && stored.left_s > 500 && stored.age_s < 60);
    // An hour beyond its lifetime.
    assert!(stored.stands_in_s.is_some_and(|left| (3600..=4200).contains(&left)), "{:?}", stored.stands_in_s);

    let other = cache(&edge, "/kept", &[("accept-language", "nb")]);
    assert_eq!((other.stored, other.others), (None, 1));
    let strict = explain(&edge, "/strict", &[]);
    assert!(strict.cache.unwrap().stored.unwrap().stands_in_not.is_some());
    assert!(strict.away.is_some_and(|away| !away.stale && away.what.contains("must-revalidate")));
    for (path, why) in [
        ("/private", Some("private")),
        ("/cookie", Some("set-cookie")),
        ("/plain", Some("no-lifetime")),
        ("/never-asked", None),
    ] {
        let refusal = cache(&edge, path, &[]).last_refusal;
        assert_eq!(refusal.as_ref().map(|refusal| refusal.word.as_str()), why, "{path}");
    }
}

/// To look changes nothing: no request to the app, no lease, nothing counted, nothing kept longer.
#[test]
fn looking_changes_nothing() {
    let app = App::named("one");
    let edge = Edge::with(&[&app], |_| {});
    let before = counts(&edge);
    for _ in 0..20 {
        explain(&edge, "/a", &[]);
    }
    let after = counts(&edge);
    assert_eq!(app.lines(), Vec::<String>::new());
    assert_eq!((&after.routes, &after.instances), (&before.routes, &before.instances));
    assert_eq!((after.http1_requests, after.cache_used), (before.http1_requests, before.cache_used));
}

/// An instance that nobody listens at is not the next.
#[test]
fn instances_as_they_are() {
    let app = App::named("one");
    let mut edge = Edge::with(&[&app], |_| {});
    edge.web().upstreams.push(crate::common::upstream(2, App::nobody()));
    edge.apply();
    edge.wait_vitals(2, "the second to be found gone", |one| one.is_some_and(|one| !one.healthy));
    let told = explain(&edge, "/", &[]);
    let known: Vec<_> = told.instances.iter().map(|one| (one.id.number, one.wellness)).collect();
    assert_eq!(known, [(1, Wellness::Well), (2, Wellness::Gone)]);
    assert_eq!(told.next.map(|id| id.number), Some(1));
}

fn of<'a>(counts: &'a Counts, pattern: &str) -> &'a RouteCounts {
    counts.routes.iter().find(|route| route.pattern == pattern).unwrap()
}

/// Requests are counted for the route that took them, over both protocols.
#[test]
fn requests_are_counted() {
    let app = App::start(|got, stream| match got.line.split(' ').nth(1).unwrap_or_default() {
        "/api/broken" => reply(stream, "500 Internal Server Error", "", "no"),
        "/kept" => reply(stream, "200 OK", "cache-control: max-age=60\r\n", "0123456789"),
        _ => reply(stream, "200 OK", "", "0123456789"),
    });
    let edge = Edge::with(&[&app], |edge| {
        let off = CacheRules { enabled: false, ..CacheRules::default() };
        let api = klar_base::upstreams::Route { cache: off, ..crate::common::route("/api/*") };
        edge.site().routes.push(api);
    });
    let begun = counts(&edge);
    edge.get("/api/a");
    edge.get("/api/broken");
    edge.ask(&format!("POST /api/a HTTP/1.1\r\nhost: {HOST}\r\ncontent-length: 3\r\n\r\nabc"));
    edge.get("/kept");
    edge.get("/kept");
    // No app answers to this host: it is a request, and no route's.
    edge.ask("GET / HTTP/1.1\r\nhost: nobody.test\r\n\r\n");
    let found =
        counts_until(&edge, "six requests", |counts| counts.http1_requests >= begun.http1_requests + 6);
    let (api, all) = (of(&found, "/api/*"), of(&found, "/*"));
    assert_eq!((api.requests, api.errors, api.bytes_in, api.bytes_out), (3, 1, 3, 22));
    assert_eq!((api.cache_asked, api.times.count()), (0, 3));
    assert_eq!((all.requests, all.errors, all.bytes_out), (2, 0, 20));
    assert_eq!((all.cache_asked, all.cache_hits, all.times.count()), (2, 1, 2));
    assert_eq!(all.service.as_ref().map(|service| service.as_str()), Some("web"));
    let instance = &found.instances[0];
    assert_eq!((instance.requests, instance.failures), (4, 1));
    assert!(found.uptime_us > begun.uptime_us && found.cache_used > 0);
    assert!(found.handshakes >= begun.handshakes + 6 && found.accepted >= found.handshakes);

    let mut visitor = Client::new(&edge);
    visitor.get("/api/two");
    let found = counts_until(&edge, "a request over HTTP/2", |counts| counts.http2_requests == 1);
    assert_eq!((found.http2_connections, of(&found, "/api/*").requests), (1, 4));
    drop(visitor);
    counts_until(&edge, "the connection to be closed", |counts| counts.http2_connections == 0);
}

/// Counters outlive a configuration that has the route, and not one that has it no more.
#[test]
fn counters_follow_the_route() {
    let app = App::named("one");
    let mut edge = Edge::with(&[&app], |edge| edge.site().routes.push(crate::common::route("/a")));
    edge.get("/a");
    counts_until(&edge, "a request", |counts| of(counts, "/a").requests == 1);
    edge.apply();
    assert_eq!(of(&counts(&edge), "/a").requests, 1);
    let a = edge.site().routes.pop().unwrap();
    edge.apply();
    assert_eq!(counts(&edge).routes.len(), 1);
    edge.site().routes.push(a);
    edge.apply();
    assert_eq!(of(&counts(&edge), "/a").requests, 0);
}

/// A handshake that comes to nothing is counted apart.
#[test]
fn handshakes_that_fail() {
    let edge = Edge::with(&[], |_| {});
    let mut visitor = Visitor::plain(edge.https);
    visitor.send("this is no handshake\r\n\r\n");
    let found = counts_until(&edge, "a failed handshake", |counts| counts.handshakes_failed == 1);
    assert_eq!(found.handshakes, 0);
}
