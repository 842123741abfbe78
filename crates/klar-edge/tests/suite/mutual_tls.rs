//! Routes that want a certificate of their visitors.

use std::sync::Arc;

use crate::common::{App, Edge, HOST, Visitor, route};
use klar_base::upstreams::Route;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType, ExtendedKeyUsagePurpose,
    IsCa, KeyPair,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::{ClientConfig, RootCertStore};

struct Authority(CertifiedIssuer<'static, KeyPair>);

type Identity = (CertificateDer<'static>, Vec<u8>);

impl Authority {
    fn new(name: &str) -> Self {
        let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    fn pem(&self) -> String {
        self.0.pem()
    }

    /// A certificate for `name`, with what `change` says.
    fn sign(&self, name: &str, change: impl FnOnce(&mut CertificateParams)) -> Identity {
        let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::OrganizationName, "Shop");
        params.distinguished_name.push(DnType::CommonName, name);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.0).unwrap();
        (certificate.der().clone(), key.serialize_der())
    }
}

fn config(identity: Option<&Identity>, tls12: bool) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(crate::common::identity_der()).unwrap();
    let versions: &[_] = if tls12 { &[&rustls::version::TLS12] } else { &[&rustls::version::TLS13] };
    let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_protocol_versions(versions)
        .unwrap()
        .with_root_certificates(roots);
    Arc::new(match identity {
        Some((certificate, key)) => {
            let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.clone()));
            config.with_client_auth_cert(vec![certificate.clone()], key).unwrap()
        }
        None => config.with_no_client_auth(),
    })
}

fn wants(pattern: &str, authorities: &[&Authority]) -> Route {
    let pem = authorities.iter().map(|authority| authority.pem()).collect();
    Route { client_authorities: Some(pem), ..route(pattern) }
}

fn ask(visitor: &mut Visitor, path: &str, more: &str) -> u16 {
    visitor.send(format!("GET {path} HTTP/1.1\r\nhost: {HOST}\r\n{more}\r\n"));
    visitor.answer().status
}

#[test]
fn each_route_knows_whose_certificates_it_takes() {
    let (partners, staff, strangers) =
        (Authority::new("Partners"), Authority::new("Staff"), Authority::new("Partners"));
    let app = App::named("app");
    let edge = Edge::with(&[&app], |edge| {
        let routes = &mut edge.site().routes;
        routes.push(wants("/partners/*", &[&partners]));
        routes.push(wants("/staff/*", &[&staff]));
        routes.push(wants("/both/*", &[&staff, &partners]));
        routes.push(wants("/nobody/*", &[]));
    });
    let ended = |params: &mut CertificateParams| params.not_after = rcgen::date_time_ymd(2020, 1, 1);
    let of_a_server = |params: &mut CertificateParams| {
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    };
    let paths = ["/", "/partners/a", "/staff/a", "/both/a", "/nobody/a"];
    for tls12 in [false, true] {
        for (what, identity, statuses) in [
            ("none", None, [200, 403, 403, 403, 403]),
            ("a partner", Some(partners.sign("alice", |_| {})), [200, 200, 403, 200, 403]),
            ("one of staff", Some(staff.sign("bob", |_| {})), [200, 403, 200, 200, 403]),
            ("a stranger", Some(strangers.sign("alice", |_| {})), [200, 403, 403, 403, 403]),
            ("one that has ended", Some(partners.sign("alice", ended)), [200, 403, 403, 403, 403]),
            ("one for servers", Some(partners.sign("alice", of_a_server)), [200, 403, 403, 403, 403]),
        ] {
            let config = config(identity.as_ref(), tls12);
            // One connection for each, since the edge ends those that it refuses.
            let got =
                paths.map(|path| ask(&mut Visitor::with_config(edge.https, HOST, config.clone()), path, ""));
            assert_eq!(got, statuses, "{what}, TLS 1.2: {tls12}");
        }
    }
}

#[test]
fn the_app_hears_the_verified_subject_and_no_other() {
    let partners = Authority::new("Partners");
    let app = App::named("app");
    let edge = Edge::with(&[&app], |edge| {
        edge.site().routes.push(wants("/partners/*", &[&partners]));
    });
    let identity = partners.sign("alice, the \u{f8}ne", |_| {});
    let mut visitor = Visitor::with_config(edge.https, HOST, config(Some(&identity), false));
    let forged = "x-client-subject: CN=root\r\nclient-cert: :AAAA:\r\nclient-cert-chain: :AAAA:\r\n";
    for (path, subject) in [("/partners/a", Some("CN=alice\\, the \\C3\\B8ne,O=Shop")), ("/", None)] {
        assert_eq!(ask(&mut visitor, path, forged), 200);
        let got = app.got().pop().unwrap();
        assert_eq!(got.header("x-client-subject"), subject, "{path}");
        assert_eq!((got.header("client-cert"), got.header("client-cert-chain")), (None, None));
    }
}

#[test]
fn what_changes_counts_on_connections_that_are_open() {
    let (partners, staff) = (Authority::new("Partners"), Authority::new("Staff"));
    let app = App::named("app");
    let mut edge = Edge::with(&[&app], |edge| {
        edge.site().routes.push(wants("/partners/*", &[&partners]));
    });
    let identity = partners.sign("alice", |_| {});
    let mut visitor = Visitor::with_config(edge.https, HOST, config(Some(&identity), false));
    assert_eq!(ask(&mut visitor, "/partners/a", ""), 200);
    edge.site().routes[1] = wants("/partners/*", &[&staff]);
    edge.apply();
    assert_eq!(ask(&mut visitor, "/partners/a", ""), 403);

    edge.site().routes[1] = Route { client_authorities: Some("nonsense".into()), ..route("/partners/*") };
    edge.apply();
    let mut visitor = Visitor::with_config(edge.https, HOST, config(Some(&identity), false));
    assert_eq!(ask(&mut visitor, "/partners/a", ""), 403, "what cannot be read lets nobody in");
}

/// A ticket from before, of a visitor without a certificate or with one, opens nothing.
#[test]
fn a_resumed_session_is_no_way_in() {
    let partners = Authority::new("Partners");
    let app = App::named("app");
    let mut edge = Edge::with(&[&app], |_| {});
    let identity = partners.sign("alice", |_| {});
    for tls12 in [false, true] {
        edge.site().routes.truncate(1);
        edge.apply();
        // The config keeps what a browser keeps: tickets and sessions.
        let (without, with) = (config(None, tls12), config(Some(&identity), tls12));
        let get = |config: &Arc<ClientConfig>, path: &str| {
            let mut visitor = Visitor::with_config(edge.https, HOST, config.clone());
            ask(&mut visitor, path, "")
        };
        for _ in 0..2 {
            assert_eq!((get(&without, "/partners/a"), get(&with, "/partners/a")), (200, 200));
        }
        edge.site().routes.push(wants("/partners/*", &[&partners]));
        edge.apply();
        let get = |config: &Arc<ClientConfig>, path: &str| {
            let mut visitor = Visitor::with_config(edge.https, HOST, config.clone());
            ask(&mut visitor, path, "")
        };
        for _ in 0..2 {
            assert_eq!((get(&without, "/partners/a"), get(&with, "/partners/a")), (403, 200));
        }
        edge.site().routes[1] = wants("/partners/*", &[&Authority::new("Partners")]);
        edge.apply();
        let mut visitor = Visitor::with_config(edge.https, HOST, with.clone());
        assert_eq!(ask(&mut visitor, "/partners/a", ""), 403);
    }
}

/// Nothing that one visitor was let in for is kept for the next.
#[test]
fn such_a_route_is_not_cached() {
    let partners = Authority::new("Partners");
    let app = App::start(|got, stream| {
        let body = got.header("x-client-subject").unwrap_or("nobody").to_owned();
        crate::common::reply(stream, "200 OK", "cache-control: public, max-age=60\r\n", &body)
    });
    let edge = Edge::with(&[&app], |edge| {
        edge.site().routes.push(wants("/partners/*", &[&partners]));
    });
    for name in ["alice", "bob"] {
        let identity = partners.sign(name, |_| {});
        let mut visitor = Visitor::with_config(edge.https, HOST, config(Some(&identity), false));
        visitor.send(format!("GET /partners/a HTTP/1.1\r\nhost: {HOST}\r\n\r\n"));
        assert_eq!(visitor.answer().text(), format!("CN={name},O=Shop"));
    }
}

#[test]
fn a_visitor_without_one_reads_what_to_do() {
    let app = App::named("app");
    let edge = Edge::with(&[&app], |edge| {
        edge.site().routes.push(wants("/partners/*", &[&Authority::new("Partners")]));
    });
    let mut visitor = edge.visitor();
    visitor.send(format!("GET /partners/a HTTP/1.1\r\nhost: {HOST}\r\naccept: text/html\r\n\r\n"));
    let answer = visitor.answer();
    assert_eq!(answer.status, 403);
    assert!(answer.text().contains("<h1>This needs a certificate</h1>"), "{}", answer.text());
    assert_eq!(app.got().len(), 0);
}
