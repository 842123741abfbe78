//! What a browser should know is added, what an app says wins, and nobody speaks for the edge.

use std::collections::HashSet;

use crate::common::{App, Edge, HOST, Visitor, reply, upstream};
use klar_base::signal::DecidedBy;
use klar_base::upstreams::CspMode;

const SECURITY: [(&str, &str); 7] = [
    ("strict-transport-security", "max-age=31536000"),
    ("x-content-type-options", "nosniff"),
    ("x-frame-options", "DENY"),
    ("referrer-policy", "strict-origin-when-cross-origin"),
    ("permissions-policy", "camera=(), geolocation=(), microphone=(), payment=(), usb=()"),
    ("cross-origin-opener-policy", "same-origin"),
    ("content-security-policy-report-only", "default-src 'self'"),
];

#[test]
fn what_protects_a_browser_is_added() {
    let app = App::named("app");
    let mut edge = Edge::with(&[&app], |_| {});
    let answer = edge.get("/");
    for (name, value) in SECURITY {
        assert_eq!(answer.header(name), Some(value), "{name}");
    }
    assert_eq!(answer.header("content-security-policy"), None);

    edge.site().csp.mode = CspMode::Enforce;
    edge.apply();
    let answer = edge.get("/");
    assert_eq!(answer.header("content-security-policy"), Some("default-src 'self'"));
    assert_eq!(answer.header("content-security-policy-report-only"), None);

    edge.site().csp.mode = CspMode::Off;
    edge.apply();
    let answer = edge.get("/");
    assert_eq!(answer.header("content-security-policy"), None);
    assert_eq!(answer.header("content-security-policy-report-only"), None);
}

#[test]
fn what_the_app_says_wins() {
    let app = App::start(|_, stream| {
        let own: String = SECURITY.iter().map(|(name, _)| format!("{name}: own\r\n")).collect();
        reply(stream, "200 OK", &own, "")
    });
    let edge = Edge::with(&[&app], |_| {});
    let answer = edge.get("/");
    for (name, _) in SECURITY {
        assert_eq!(answer.header(name), Some("own"), "{name}");
    }
}

/// RFC 9110 section 7.6.1, in both directions; and what only attackers want to know stays inside.
#[test]
fn what_belongs_to_one_connection_stays_there() {
    let app = App::start(|_, stream| {
        let headers = "connection: keep-alive, x-hop\r\nx-hop: 1\r\nkeep-alive: timeout=5\r\n\
            proxy-authenticate: Basic\r\nupgrade: h2c\r\nx-powered-by: hope\r\nserver: mine/1.0\r\n\
            set-cookie: a=1\r\nset-cookie: b=2\r\nx-kept: yes\r\n";
        reply(stream, "200 OK", headers, "")
    });
    let edge = Edge::with(&[&app], |_| {});
    let answer = edge.ask(&format!(
        "GET / HTTP/1.1\r\nhost: {HOST}\r\nconnection: keep-alive, x-secret, host, cookie, authorization\r\n\
         x-secret: 1\r\nkeep-alive: 5\r\nte: trailers\r\nproxy-authorization: x\r\nproxy-connection: x\r\n\
         trailer: x\r\nupgrade: h2c\r\ncookie: a=1\r\nauthorization: Bearer x\r\nx-kept: yes\r\n\r\n"
    ));
    let got = &app.got()[0];
    for name in
        ["connection", "x-secret", "keep-alive", "te", "proxy-authorization", "proxy-connection", "trailer"]
    {
        assert_eq!(got.header(name), None, "{name} reached the app");
    }
    assert_eq!(got.header("upgrade"), None);
    let kept = [("host", HOST), ("cookie", "a=1"), ("authorization", "Bearer x"), ("x-kept", "yes")];
    for (name, value) in kept {
        assert_eq!(got.header(name), Some(value), "{name}");
    }
    for name in
        ["connection", "x-hop", "keep-alive", "proxy-authenticate", "upgrade", "x-powered-by", "server"]
    {
        assert_eq!(answer.header(name), None, "{name} reached the visitor");
    }
    assert_eq!(answer.header("x-kept"), Some("yes"));
    let cookies = answer.headers.iter().filter(|(name, _)| name == "set-cookie").count();
    assert_eq!(cookies, 2, "repeated headers stay as they are");
}

#[test]
fn a_visitor_cannot_speak_for_the_edge() {
    let app = App::named("app");
    let edge = Edge::with(&[&app], |_| {});
    let spoofed = [
        "forwarded",
        "x-forwarded-for",
        "x-forwarded-host",
        "x-forwarded-proto",
        "x-forwarded-port",
        "x-forwarded-prefix",
        "x-forwarded-server",
        "x-real-ip",
        "x-request-id",
        "traceparent",
        "tracestate",
    ];
    let lines: String = spoofed
        .iter()
        .flat_map(|name| [format!("{name}: spoofed\r\n"), format!("{}: spoofed\r\n", name.to_uppercase())])
        .collect();
    let answer = edge.ask(&format!("GET / HTTP/1.1\r\nhost: {HOST}:8443\r\n{lines}\r\n"));
    let got = &app.got()[0];
    assert!(!format!("{got:?}").contains("spoofed"), "{got:?}");
    assert_eq!(got.header("x-forwarded-for"), Some("127.0.0.1"));
    assert_eq!(got.header("x-forwarded-host"), Some("shop.test:8443"));
    assert_eq!(got.header("x-forwarded-proto"), Some("https"));
    let id = answer.header("x-request-id").unwrap();
    assert_eq!(id.len(), 32);
    assert_eq!(got.header("x-request-id"), Some(id), "the same for the app");
    let traceparent = format!("00-{id}-{}-01", &id[16..]);
    assert_eq!(got.header("traceparent"), Some(&*traceparent), "and for what follows a request in it");
    assert_eq!(edge.record(&answer).request_id, id, "and on the record");
    assert_ne!(edge.get("/").header("x-request-id"), Some(id), "another for another request");
}

/// What an app says of the request's id is not taken for it.
#[test]
fn an_app_cannot_rename_a_request() {
    let app = App::start(|_, stream| reply(stream, "200 OK", "x-request-id: mine\r\n", ""));
    let edge = Edge::with(&[&app], |_| {});
    let answer = edge.get("/");
    assert_ne!(answer.header("x-request-id"), Some("mine"));
    edge.record(&answer);
}

#[test]
fn plain_http_leads_to_https() {
    let app = App::named("app");
    let mut edge = Edge::with(&[&app], |_| {});
    let port = edge.https.port();
    let ask = |edge: &Edge, host: &str| {
        let mut visitor = edge.plain_visitor();
        visitor.send(format!("POST /a?b=c HTTP/1.1\r\nhost: {host}\r\ncontent-length: 4\r\n\r\nbody"));
        visitor.answer()
    };
    let answer = ask(&edge, "shop.test:80");
    let location = format!("https://shop.test:{port}/a?b=c");
    assert_eq!((answer.status, answer.header("location")), (308, Some(location.as_str())));
    assert_eq!(answer.header("strict-transport-security"), None, "RFC 6797 section 7.2");
    let record = edge.record(&answer);
    assert_eq!((record.tls, record.decided_by, record.attempts), (false, DecidedBy::Edge, 0));
    assert_eq!(ask(&edge, "other.test").status, 404, "not for hosts that are not ours");
    edge.config.https_port = 443;
    edge.apply();
    assert_eq!(ask(&edge, HOST).header("location"), Some("https://shop.test/a?b=c"));
    assert_eq!(app.got().len(), 0);
}

/// The host decides which app answers, however it is written; one that nobody has gets nothing.
#[test]
fn the_host_decides() {
    let app = App::named("app");
    let edge = Edge::with(&[&app], |edge| edge.site().hosts.push("*.shop.test".into()));
    let table = [
        (HOST, 200),
        ("SHOP.test:443", 200),
        ("www.shop.test", 200),
        ("a.www.shop.test", 404),
        ("other.test", 404),
        ("127.0.0.1", 404),
        ("[::1]:443", 404),
    ];
    for (host, status) in table {
        let answer = edge.ask(&format!("GET / HTTP/1.1\r\nhost: {host}\r\n\r\n"));
        assert_eq!(answer.status, status, "{host}");
        assert_eq!(edge.record(&answer).app.is_some(), status == 200, "{host}");
    }
    // A visitor that names another host in the handshake is answered by what it asks for.
    let mut visitor = Visitor::tls(edge.https, "nobody.test");
    visitor.send("GET / HTTP/1.1\r\nhost: shop.test\r\n\r\n");
    assert_eq!(visitor.answer().status, 200);
}

/// Paths that two programs could read differently lead nowhere.
#[test]
fn a_path_that_climbs_leads_nowhere() {
    let app = App::named("app");
    let edge = Edge::with(&[&app], |_| {});
    for path in ["/..", "/a/../b", "/%2e%2e/b", "/a%2f..%2fb", "/a%5cb", "/a%00", "/..;/a", "/./a"] {
        assert_eq!(edge.get(path).status, 400, "{path}");
    }
    for path in ["/a%20b", "/a..b", "//a", "/a?b=../c"] {
        let wanted = format!("app: GET {path}");
        assert_eq!(edge.get(path).text(), wanted, "what is left is passed on as it came");
    }
    assert_eq!(app.got().len(), 4);
}

/// An error is explained in the visitor's language to a browser, and as JSON to a program.
#[test]
fn errors_are_explained() {
    let edge = Edge::with(&[], |_| {});
    let table = [
        ("", "Back in a moment", "en"),
        ("nb-NO,nb;q=0.9,en;q=0.8", "Straks tilbake", "nb"),
        ("sv", "Strax tillbaka", "sv"),
        ("de,fr", "Back in a moment", "en"),
    ];
    for (language, title, tag) in table {
        let answer = edge.ask(&format!(
            "GET / HTTP/1.1\r\nhost: {HOST}\r\naccept: text/html,*/*;q=0.8\r\naccept-language: {language}\r\n\r\n"
        ));
        assert_eq!(answer.status, 503);
        assert_eq!(answer.header("content-type"), Some("text/html; charset=utf-8"));
        assert_eq!(answer.header("cache-control"), Some("no-store"));
        assert!(answer.header("content-security-policy").unwrap().starts_with("default-src 'none'"));
        let (text, id) = (answer.text(), answer.header("x-request-id").unwrap());
        assert!(text.contains(title) && text.contains(&format!("lang=\"{tag}\"")), "{language}: {text}");
        assert!(text.contains(id), "the id to ask about");
    }
    let answer = edge.ask(&format!("GET / HTTP/1.1\r\nhost: {HOST}\r\naccept: */*\r\n\r\n"));
    assert_eq!(answer.header("content-type"), Some("application/json"));
    let body: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
    assert_eq!(body["status"], 503);
    assert_eq!(body["request_id"], answer.header("x-request-id").unwrap());
    let head = edge.ask(&format!("HEAD / HTTP/1.1\r\nhost: {HOST}\r\n\r\n"));
    let length = head.header("content-length").map(str::to_owned);
    assert_eq!((head.status, length), (503, Some(answer.body.len().to_string())), "RFC 9110 section 9.3.2");
}

/// A visitor of a sticky service stays with its instance, until that takes no more requests.
#[test]
fn a_sticky_visitor_stays() {
    let (one, two) = (App::named("one"), App::named("two"));
    let mut edge = Edge::with(&[&one, &two], |edge| edge.web().sticky = true);
    let first = edge.get("/");
    let cookie = first.header("set-cookie").unwrap().to_owned();
    assert!(cookie.ends_with("; Path=/; HttpOnly; Secure; SameSite=Lax"), "{cookie}");
    let pair = cookie.split(';').next().unwrap();
    let ask = format!("GET / HTTP/1.1\r\nhost: {HOST}\r\ncookie: a=1; {pair}\r\n\r\n");
    for _ in 0..20 {
        let answer = edge.ask(&ask);
        assert_eq!(answer.text(), first.text());
        assert_eq!(answer.header("set-cookie"), None, "it knows already");
    }
    let chosen = usize::from(first.text().starts_with("two"));
    edge.web().upstreams[chosen].weight = 0;
    edge.apply();
    let moved = edge.ask(&ask);
    assert_ne!(moved.text(), first.text());
    assert_ne!(moved.header("set-cookie"), Some(cookie.as_str()));
    assert!(moved.header("set-cookie").is_some(), "and is told of its new one");
}

/// Requests are shared out by weight, and an instance without any gets none.
#[test]
fn weights_share_out() {
    let apps: Vec<App> = ["one", "two", "three"].map(App::named).into();
    let edge = Edge::with(&apps.iter().collect::<Vec<_>>(), |edge| edge.web().upstreams[2].weight = 0);
    let mut seen = HashSet::new();
    for _ in 0..40 {
        seen.insert(edge.get("/").text());
    }
    assert_eq!(seen.len(), 2, "{seen:?}");
    assert_eq!(apps[2].got().len(), 0);
}

/// The most specific route wins, in whatever order they come.
#[test]
fn the_most_specific_route_wins() {
    let (web, api) = (App::named("web"), App::named("api"));
    let edge = Edge::with(&[&web], |edge| {
        let mut upstream = upstream(2, api.address);
        upstream.id = "shop.prod.api.2".parse().unwrap();
        let service = "api".parse::<klar_base::ServiceName>().unwrap();
        let mut upstreams = edge.web().clone();
        upstreams.upstreams = vec![upstream];
        edge.site().services.insert(service.clone(), upstreams);
        for (pattern, leads_to_api) in [("/api/*", true), ("/api/web/*", false), ("/exact", true)] {
            let mut route = crate::common::route(pattern);
            if leads_to_api {
                route.target = klar_base::upstreams::Target::Service { service: service.clone() };
            }
            edge.site().routes.push(route);
        }
    });
    let table = [
        ("/", "web", "/*"),
        ("/api", "api", "/api/*"),
        ("/api/x", "api", "/api/*"),
        ("/apix", "web", "/*"),
        ("/api/web/x", "web", "/api/web/*"),
        ("/exact", "api", "/exact"),
        ("/exact/x", "web", "/*"),
        ("/exact?x", "api", "/exact"),
    ];
    for (path, name, pattern) in table {
        let answer = edge.get(path);
        assert_eq!(answer.text(), format!("{name}: GET {path}"));
        assert_eq!(edge.record(&answer).route.as_deref(), Some(pattern), "{path}");
    }
}

/// Answers without a body have none, and the next answer comes after them.
#[test]
fn answers_without_a_body_have_none() {
    let app = App::start(|got, stream| {
        use std::io::Write;
        let answer = match got.line.as_str() {
            "HEAD /" => "HTTP/1.1 200 OK\r\ncontent-length: 1234\r\n\r\n",
            "GET /204" => "HTTP/1.1 204 No Content\r\n\r\n",
            "GET /304" => "HTTP/1.1 304 Not Modified\r\netag: \"x\"\r\n\r\n",
            _ => "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nend\r\n0\r\n\r\n",
        };
        stream.write_all(answer.as_bytes()).unwrap();
        crate::common::Then::Keep
    });
    let edge = Edge::with(&[&app], |_| {});
    let mut visitor = edge.visitor();
    for _ in 0..3 {
        for (line, status, length) in [
            ("HEAD /", 200, Some("1234")),
            ("GET /204", 204, None),
            ("GET /304", 304, None),
            ("GET /", 200, None),
        ] {
            visitor.send(format!("{line} HTTP/1.1\r\nhost: {HOST}\r\n\r\n"));
            let answer = visitor.answer_to(line);
            assert_eq!((answer.status, answer.header("content-length")), (status, length), "{line}");
        }
    }
}

/// HTTP/1.0 gets an answer that it understands.
#[test]
fn an_old_client_gets_an_answer() {
    let app = App::start(|_, stream| {
        use std::io::Write;
        stream
            .write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nold\r\n0\r\n\r\n")
            .unwrap();
        crate::common::Then::Keep
    });
    let edge = Edge::with(&[&app], |_| {});
    let mut visitor = edge.visitor();
    visitor.send(format!("GET / HTTP/1.0\r\nhost: {HOST}\r\n\r\n"));
    let answer = visitor.answer();
    assert_eq!((answer.status, answer.text().as_str()), (200, "old"));
    assert_eq!(answer.header("transfer-encoding"), None);
    visitor.assert_end();
}

/// `Expect: 100-continue`: a visitor that waits for leave gets it.
#[test]
fn a_visitor_that_waits_for_leave_gets_it() {
    let app = App::named("app");
    let edge = Edge::with(&[&app], |_| {});
    let mut visitor = edge.visitor();
    visitor.send(format!(
        "POST / HTTP/1.1\r\nhost: {HOST}\r\nexpect: 100-continue\r\ncontent-length: 4\r\n\r\n"
    ));
    assert_eq!(visitor.read(25), b"HTTP/1.1 100 Continue\r\n\r\n");
    visitor.send("body");
    assert_eq!(visitor.answer().text(), "app: POST /");
    assert_eq!((app.got()[0].body.as_slice(), app.got()[0].header("expect")), (b"body".as_slice(), None));
}

#[test]
fn pages_of_other_sites_write_nothing_with_a_visitors_cookies() {
    let app = App::named("app");
    let mut edge = Edge::with(&[&app], |_| {});
    let write = |edge: &Edge, headers: &str| {
        edge.ask(&format!("POST / HTTP/1.1\r\nhost: {HOST}\r\n{headers}content-length: 2\r\n\r\nhi"))
    };
    let foreign = "cookie: session=1\r\norigin: https://evil.example\r\nsec-fetch-site: cross-site\r\n";
    let own = format!("cookie: session=1\r\norigin: https://{HOST}\r\nsec-fetch-site: same-origin\r\n");
    let refused = write(&edge, foreign);
    assert_eq!(refused.status, 403);
    assert_eq!(edge.record(&refused).decided_by, DecidedBy::Refused);
    assert_eq!(write(&edge, &own).status, 200);
    assert_eq!(write(&edge, "cookie: session=1\r\n").status, 200, "a program");
    // Where others are meant to write.
    edge.site().routes[0].cross_site = true;
    edge.apply();
    assert_eq!(write(&edge, foreign).status, 200);
}
