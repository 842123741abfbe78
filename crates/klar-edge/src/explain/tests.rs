//! Each kind of request, by a table that an edge could have. Nothing here opens a socket.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::time::Duration;

use klar_base::upstreams::{
    CacheRules, Challenge, Csp, CspMode, EdgeConfig, ForwardedHeader, Front, Limits, Route, Site, Target,
    Upstream, Upstreams, WafMode,
};

use super::*;

/// A folder with an `index.html`, gone when this is.
struct Folder(std::path::PathBuf);

impl Folder {
    fn new() -> Self {
        let name = format!("klar-explain-{}-{:x}", std::process::id(), fastrand::u64(..));
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&path).unwrap();
        std::fs::write(path.join("index.html"), "<p>ready").unwrap();
        Self(path)
    }

    fn open(&self) -> OwnedFd {
        std::fs::File::open(&self.0).unwrap().into()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn route(pattern: &str, service: &str) -> Route {
    Route {
        pattern: pattern.into(),
        target: Target::Service { service: service.parse().unwrap() },
        idempotent: false,
        cross_site: false,
        timeout: None,
        body_bytes: None,
        cache: CacheRules::default(),
        client_authorities: None,
        waf: WafMode::Off,
        images: None,
    }
}

fn instance(number: u64, weight: u32) -> Upstream {
    Upstream {
        id: format!("shop.prod.web.{number}").parse().unwrap(),
        address: SocketAddr::from(([127, 0, 0, 1], 1000 + number as u16)),
        weight,
        release: "0123456789ab".parse().unwrap(),
    }
}

/// `shop` with a service that serves (`web`), one that is between two (`busy`), and a folder.
fn shop() -> (Arc<Shared>, Folder) {
    shop_with(|_| {})
}

/// The same, changed.
fn shop_with(change: impl FnOnce(&mut Site)) -> (Arc<Shared>, Folder) {
    let folder = Folder::new();
    let upstreams =
        |upstreams| Upstreams { upstreams, hold: Duration::from_secs(10), ..Upstreams::default() };
    let files =
        Target::Static { folder: 0, release: "ba9876543210".parse().unwrap(), spa: false, prepared: None };
    let mut site = Site {
        app: "shop.prod".parse().unwrap(),
        hosts: vec!["shop.test".into(), "www.shop.test".into()],
        routes: vec![
            route("/api/*", "web"),
            Route { body_bytes: Some(100), ..route("/small", "web") },
            Route { idempotent: true, cross_site: true, ..route("/hook", "web") },
            Route {
                cache: CacheRules { enabled: false, ..CacheRules::default() },
                ..route("/live/*", "web")
            },
            route("/busy/*", "busy"),
            Route { target: files, ..route("/files/*", "web") },
        ],
        services: BTreeMap::from([
            ("web".parse().unwrap(), upstreams(vec![instance(1, 1), instance(2, 0)])),
            ("busy".parse().unwrap(), upstreams(vec![instance(3, 0)])),
        ]),
        limits: Limits {
            header_bytes: 1000,
            body_bytes: 1 << 20,
            header_timeout: Duration::from_secs(10),
            timeout: Duration::from_secs(30),
            stall_timeout: Duration::from_secs(30),
            idle_timeout: Duration::from_secs(60),
        },
        csp: Csp { mode: CspMode::Enforce, policy: "default-src 'self'".into() },
        front: Front::default(),
        http3: false,
        waf: None,
    };
    change(&mut site);
    let proof = Challenge::Http { host: "shop.test".into(), token: "token".into(), answer: "proof".into() };
    let config = EdgeConfig {
        generation: 1,
        https_port: 8443,
        certificates: Vec::new(),
        sites: vec![site],
        challenges: vec![proof],
        connections_max: 100,
        cache_bytes: 1 << 20,
        cache_disk_bytes: 0,
        proxy_protocol: Vec::new(),
        check_key: None,
    };
    let (shared, _) = Shared::new();
    shared.apply(config, vec![folder.open()]).unwrap();
    (shared, folder)
}

fn wanted(method: &str, url: &str, headers: &[(&str, &str)]) -> Wanted {
    let headers = headers.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
    Wanted {
        url: url.into(),
        app: Some("shop.prod".parse().unwrap()),
        method: method.into(),
        headers,
        from: None,
        certificate: None,
    }
}

/// Who decides, the status where it is known, and the route.
fn outcome(told: &Explained) -> String {
    let status = told.outcome.status.map_or("?".into(), |status| status.to_string());
    let who = format!("{:?}", told.outcome.decided_by).to_lowercase();
    format!("{who} {status} {}", told.route.as_deref().unwrap_or("-"))
}

#[test]
fn each_kind_of_request() {
    let (shared, _folder) = shop();
    let own = &[("cookie", "a=1"), ("sec-fetch-site", "cross-site")][..];
    let long = "x".repeat(1000);
    for (method, url, headers, expected) in [
        ("GET", "/api/goods?page=2", &[][..], "app ? /api/*"),
        ("GET", "https://www.shop.test/api", &[], "app ? /api/*"),
        ("GET", "https://WWW.Shop.test:8443/api#here", &[], "app ? /api/*"),
        ("GET", "https://shop.test?a", &[], "refused 404 -"),
        ("GET", "/nothing", &[], "refused 404 -"),
        ("GET", "https://other.test/api", &[], "refused 404 -"),
        ("GET", "http://shop.test/api", &[], "edge 308 -"),
        ("GET", "http://shop.test/.well-known/acme-challenge/token", &[], "edge 200 -"),
        ("GET", "/busy/a", &[], "failed 503 /busy/*"),
        ("GET", "/files/", &[], "edge 200 /files/*"),
        ("GET", "/files/none", &[], "refused 404 /files/*"),
        ("POST", "/files/", &[], "refused 405 /files/*"),
        ("GET", "/api/../secret", &[], "refused 400 -"),
        ("GET", "/api/%2e%2e/secret", &[], "refused 400 -"),
        ("GET", "/a b", &[], "refused 505 -"),
        ("G(T", "/api", &[], "refused 400 -"),
        ("TRACE", "/api", &[], "refused 405 -"),
        ("GET", "/api", &[("host", "shop.test")], "refused 400 -"),
        ("GET", "/api", &[("x", "a\r\nhost: other.test")], "refused 400 -"),
        ("GET", "/api", &[("x", &long)], "refused 431 -"),
        ("POST", "/small", &[("content-length", "100")], "app ? /small"),
        ("POST", "/small", &[("content-length", "101")], "refused 413 /small"),
        ("POST", "/api", own, "refused 403 /api/*"),
        ("GET", "/api", own, "app ? /api/*"),
        ("POST", "/hook", own, "app ? /hook"),
        ("GET", "/api", &[("cache-control", "only-if-cached")], "refused 504 /api/*"),
    ] {
        let told = explain(&shared, &wanted(method, url, headers));
        assert_eq!(outcome(&told), expected, "{method} {url} {headers:?}");
    }
}

/// Who asks in vain is told what there is.
#[test]
fn what_there_is_instead() {
    let (shared, _folder) = shop();
    let told = explain(&shared, &wanted("GET", "https://other.test/", &[]));
    assert_eq!((told.app, told.sites.len()), (None, 1));
    assert_eq!(told.sites[0].hosts, ["shop.test", "www.shop.test"]);
    let told = explain(&shared, &wanted("GET", "/nothing", &[]));
    assert_eq!(told.url, "https://shop.test:8443/nothing");
    let routes: Vec<String> =
        told.sites[0].routes.iter().map(|(pattern, to)| format!("{pattern} {to}")).collect();
    assert_eq!(
        routes,
        ["/small web", "/hook web", "/files/* files", "/live/* web", "/busy/* busy", "/api/* web"]
    );
    assert!(explain(&shared, &wanted("GET", "/api", &[])).sites.is_empty());
    let nobody = Wanted { app: Some("desk.prod".parse().unwrap()), ..wanted("GET", "/api", &[]) };
    let told = explain(&shared, &nobody);
    assert_eq!((outcome(&told), told.url, told.sites.len()), ("refused 404 -".into(), "/api".into(), 1));
}

/// Who would be asked, and what is said of those who would not.
#[test]
fn instances_are_ranked_as_ever() {
    let (shared, _folder) = shop();
    let told = explain(&shared, &wanted("GET", "/api", &[]));
    let known: Vec<_> = told.instances.iter().map(|one| (one.id.number, one.weight)).collect();
    assert_eq!(known, [(1, 1), (2, 0)]);
    assert_eq!(told.next.map(|id| id.number), Some(1));
    assert!(told.instances.iter().all(|one| one.in_flight == 0), "no lease was taken");
    let told = explain(&shared, &wanted("GET", "/busy/", &[]));
    assert_eq!((told.next, told.away.map(|away| away.status)), (None, Some(503)));
}

/// Why the cache has no part in a request, in the words of the rules.
#[test]
fn why_the_cache_stands_aside() {
    let (shared, _folder) = shop();
    let bypass = |method: &str, url: &str, headers: &[(&str, &str)]| {
        explain(&shared, &wanted(method, url, headers)).cache.unwrap().bypass
    };
    for (method, url, headers, why) in [
        ("GET", "/live/a", &[][..], Some("switched off")),
        ("POST", "/api", &[], Some("GET and HEAD")),
        ("GET", "/api", &[("content-length", "3")], Some("a body")),
        ("GET", "/api", &[("x-http-method-override", "DELETE")], Some("another request")),
        ("GET", "/api", &[("if-match", "\"a\"")], Some("condition")),
        ("GET", "/api", &[("cache-control", "no-store")], Some("no-store")),
        (
            "GET",
            "/api",
            &[("connection", "upgrade"), ("upgrade", "websocket"), ("sec-websocket-version", "13")],
            Some("WebSocket"),
        ),
        ("GET", "/api", &[], None),
        ("HEAD", "/api", &[], None),
        ("GET", "/api", &[("cookie", "a=1")], None),
    ] {
        let found = bypass(method, url, headers);
        assert_eq!(
            found.is_some(),
            why.is_some_and(|why| found.as_deref().unwrap_or_default().contains(why)),
            "{method} {url} {headers:?}: {found:?}"
        );
        assert_eq!(found.is_none(), why.is_none(), "{method} {url} {headers:?}: {found:?}");
    }
    shared.cache.resize(0, 0);
    assert_eq!(bypass("GET", "/api", &[]).as_deref(), Some("it has no room"));
}

/// The settings come in order, each with the key it comes from and what it means here.
#[test]
fn settings() {
    let (shared, _folder) = shop();
    let all = |method: &str, url: &str| -> Vec<String> {
        let told = explain(&shared, &wanted(method, url, &[("accept-encoding", "br")]));
        let line = |policy: &klar_base::look::Policy| {
            let key = policy.key.as_deref().unwrap_or("always");
            let here = policy.here.as_ref().map(|here| format!(" ({here})")).unwrap_or_default();
            format!("{key} | {}: {}{here}", policy.name, policy.value)
        };
        told.policies.iter().map(line).collect()
    };
    let of_post = all("POST", "/hook");
    for wanted in [
        "edge.http3 | protocols: HTTP/1.1 and HTTP/2",
        "edge.connections | connections: 100 at once (0 are open)",
        "routes.*.body | size of the body: 1MiB",
        "routes.*.cross_site | writes of other sites: let in",
        "routes.*.cache | cache: as the app says",
        "edge.cache_memory | room of the cache: 1MiB",
        "routes.*.idempotent | attempts: 3 at most (POST is sent again only where no instance has seen it)",
        "routes.*.timeout | time for the answer: 30s",
        "edge.hold | wait for an instance: 10s",
        "always | compression: zstd, br or gzip, as the visitor likes (this visitor gets br where it is of use)",
        "edge.csp | content security policy: enforced",
    ] {
        assert!(of_post.iter().any(|line| line == wanted), "{wanted} in {of_post:#?}");
    }
    let place = |key: &str| of_post.iter().position(|line| line.starts_with(key)).unwrap();
    let order = ["edge.header_limit", "routes.*.body", "routes.*.cache", "routes.*.timeout", "edge.csp"];
    assert!(order.windows(2).all(|pair| place(pair[0]) < place(pair[1])), "{of_post:#?}");
    assert!(all("GET", "/live/a").iter().any(|line| line == "routes.*.cache | cache: nothing is kept"));
    let of_files = all("GET", "/files/");
    assert!(!of_files.iter().any(|line| line.contains("services.") || line.contains("edge.hold")));
    let of_http = all("GET", "http://shop.test/");
    assert!(of_http.last().unwrap().contains("plain HTTP leads there"), "{of_http:#?}");
}

#[test]
fn what_is_added_is_what_an_answer_gets() {
    let (shared, _folder) = shop();
    let adds = explain(&shared, &wanted("GET", "/api", &[])).adds;
    let value = |name: &str| adds.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str());
    assert_eq!(value("strict-transport-security"), Some("max-age=31536000"));
    assert_eq!(value("content-security-policy"), Some("default-src 'self'"));
    assert!(explain(&shared, &wanted("GET", "http://shop.test/", &[])).adds.is_empty());
}

/// What a setting means for a request.
fn here<'a>(told: &'a Explained, key: &str) -> &'a str {
    let policy = told.policies.iter().find(|policy| policy.key.as_deref() == Some(key));
    policy.and_then(|policy| policy.here.as_deref()).unwrap_or("-")
}

/// Who connects, over what, and what a proxy says: what comes of it, whom it is taken for, and under which scheme an
/// answer is kept.
#[test]
fn behind_proxies() {
    for plain in [true, false] {
        let (shared, _folder) = shop_with(|site| {
            let proxies = vec!["10.0.0.0/8".parse().unwrap()];
            site.front = Front { proxies, header: ForwardedHeader::XForwarded, plain };
        });
        let served = if plain { "app ? /api/*" } else { "edge 308 -" };
        let says = &[("x-forwarded-for", "203.0.113.9"), ("x-forwarded-proto", "https")][..];
        for (from, url, headers, expected, who) in [
            (None, "/api", &[][..], "app ? /api/*", "a stranger over HTTPS"),
            (None, "/api", says, "app ? /api/*", "a stranger over HTTPS"),
            (None, "http://shop.test/api", says, "edge 308 -", "a stranger over plain HTTP"),
            (Some("10.0.0.1"), "http://shop.test/api", &[], served, "10.0.0.1 over plain HTTP"),
            (
                Some("10.0.0.1"),
                "http://shop.test/api",
                says,
                served,
                "203.0.113.9 over HTTPS, as 10.0.0.1 says",
            ),
            (
                Some("::ffff:10.0.0.1"),
                "/api",
                says,
                "app ? /api/*",
                "203.0.113.9 over HTTPS, as 10.0.0.1 says",
            ),
            (
                Some("198.51.100.1"),
                "http://shop.test/api",
                says,
                "edge 308 -",
                "198.51.100.1 over plain HTTP",
            ),
        ] {
            let from = from.map(|from| from.parse().unwrap());
            let told = explain(&shared, &Wanted { from, ..wanted("GET", url, headers) });
            assert_eq!(
                (outcome(&told).as_str(), here(&told, "edge.trusted_proxies")),
                (expected, who),
                "{from:?} {url} {headers:?}"
            );
            let value = |name: &str| told.adds.iter().any(|(known, _)| known == name);
            assert_eq!(value("strict-transport-security"), who.contains("HTTPS") && expected != "edge 308 -");
            if let Some(cache) = &told.cache {
                let scheme = if who.contains("HTTPS") { "https" } else { "http" };
                assert!(
                    cache.key.iter().any(|(name, value)| name == "scheme" && value == scheme),
                    "{cache:?}"
                );
            }
        }
    }
}

/// Which certificate is shown, and what comes of it at a route that wants one.
#[test]
fn routes_for_visitors_with_certificates() {
    use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
    let authority = |name: &str| {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
    };
    let (ours, another) = (authority("ours"), authority("another"));
    let leaf = |authority: &CertifiedIssuer<'_, KeyPair>| {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "alice");
        params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ClientAuth];
        params.signed_by(&KeyPair::generate().unwrap(), authority).unwrap().pem()
    };
    let (shared, _folder) = shop_with(|site| {
        site.routes.push(Route { client_authorities: Some(ours.pem()), ..route("/partners/*", "web") });
        site.front = Front { proxies: vec!["10.0.0.1".parse().unwrap()], plain: true, ..Front::default() };
    });
    let key = "routes.*.client_ca";
    for (url, certificate, expected, what) in [
        ("/partners/a", None, "refused 403 /partners/*", "none is shown"),
        ("/partners/a", Some(leaf(&ours)), "app ? /partners/*", "that of CN=alice will do"),
        (
            "/partners/a",
            Some(leaf(&another)),
            "refused 403 /partners/*",
            "the one that is shown is not of them, or not valid now",
        ),
        ("/partners/a", Some("no certificate".into()), "refused 403 /partners/*", "none is shown"),
        // Without TLS with the edge nothing can be shown.
        ("http://shop.test/partners/a", Some(leaf(&ours)), "refused 403 /partners/*", "none is shown"),
        ("/api", None, "app ? /api/*", "-"),
    ] {
        let from = Some([10, 0, 0, 1].into());
        let told = explain(&shared, &Wanted { from, certificate, ..wanted("GET", url, &[]) });
        assert_eq!((outcome(&told).as_str(), here(&told, key)), (expected, what), "{url}");
        if let Some(cache) = told.cache.filter(|_| expected.contains("partners")) {
            assert!(cache.bypass.is_some_and(|why| why.contains("certificates")));
        }
    }
}
