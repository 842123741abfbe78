//! A new configuration touches no connection: what is in use goes on, and what comes next follows the new rules.

use std::time::Duration;

use crate::common::living::{Bell, Living, app};
use crate::common::{App, Edge, HOST, route, upstream};
use klar_base::Secret;
use klar_base::upstreams::Upstreams;

type Change = dyn Fn(&mut Edge, &App);

/// Each line: what changes, what the kept connection is answered with afterwards, and by whom.
#[test]
fn no_change_cuts_a_connection() {
    let changes: [(&str, &Change, &str); 6] = [
        (
            "new routes",
            &|edge, _| {
                let mut quick = route("/api/*");
                quick.timeout = Some(Duration::from_secs(1));
                edge.site().routes = vec![quick, route("/*")];
            },
            "old: GET /after",
        ),
        (
            "new certificate",
            &|edge, _| {
                let made = rcgen::generate_simple_self_signed([HOST.to_owned()]).unwrap();
                edge.config.certificates[0].chain_pem = made.cert.pem();
                edge.config.certificates[0].key_pem = Secret::new(made.signing_key.serialize_pem());
            },
            "old: GET /after",
        ),
        (
            "new limits",
            &|edge, _| {
                let limits = edge.limits();
                limits.header_bytes /= 2;
                limits.body_bytes = 10;
                (limits.stall_timeout, limits.idle_timeout) =
                    (Duration::from_millis(1), Duration::from_millis(1));
                edge.config.connections_max = 1;
            },
            "old: GET /after",
        ),
        (
            "a deploy of another app",
            &|edge, other| {
                let mut site = edge.site().clone();
                site.app = "other.prod".parse().unwrap();
                site.hosts = vec!["other.test".into()];
                let web: &mut Upstreams = site.services.get_mut(&"web".parse().unwrap()).unwrap();
                web.upstreams = vec![upstream(9, other.address)];
                web.upstreams[0].id = "other.prod.web.9".parse().unwrap();
                edge.config.sites.push(site);
            },
            "old: GET /after",
        ),
        (
            "a deploy of the app itself",
            &|edge, other| {
                edge.web().upstreams[0].weight = 0;
                let mut new = upstream(2, other.address);
                new.release = "ba9876543210".parse().unwrap();
                edge.web().upstreams.push(new);
            },
            "new: GET /after",
        ),
        ("the same again", &|_, _| {}, "old: GET /after"),
    ];
    for (what, change, wanted) in changes {
        let bell = Bell::default();
        let (old, new) = (app("old", &bell), App::named("new"));
        let mut edge = Edge::with(&[&old], |_| {});
        let mut living = Living::open(&edge, &bell);
        for _ in 0..3 {
            change(&mut edge, &new);
            edge.apply();
            living.assert_alive(what);
        }
        let (connection, text) = living.ask("/after");
        assert_eq!((connection, text.as_str()), (None, wanted), "{what}");
    }
}

/// A change that is refused leaves all as it is, too.
#[test]
fn neither_does_one_that_is_refused() {
    let bell = Bell::default();
    let old = app("old", &bell);
    let edge = Edge::with(&[&old], |_| {});
    let mut living = Living::open(&edge, &bell);
    let mut broken = edge.config.clone();
    broken.generation += 1;
    broken.certificates[0].chain_pem = "no certificate".into();
    let message = klar_base::upstreams::ToEdge::Config(Box::new(broken));
    edge.core().send(&message, &[]);
    edge.core().wait("the refusal", |heard| (!heard.rejected.is_empty()).then_some(()));
    living.assert_alive("a refusal");
    assert_eq!(living.ask("/after"), (None, "old: GET /after".into()));
}
