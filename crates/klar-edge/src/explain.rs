//! What would become of a request that nobody makes (`klar edge explain`).
//!
//! It goes the way of a real one: its head is written as a visitor would write it and judged by `framing.rs`,
//! `handle.rs` finds the site and decides, `cache/` chooses, `upstream.rs` ranks the instances. Only nothing is sent,
//! no lease is taken, and nothing is counted. What is said beside that are the settings that hold on its way
//! (`explain/policies.rs`).

mod policies;

use std::net::{IpAddr, Ipv4Addr};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, Request, StatusCode, Uri};
use hyper::body::{Body, Frame, SizeHint};
use klar_base::look::{Away, Explained, Outcome, Wanted};
use klar_base::signal::{CacheOutcome, DecidedBy};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use tokio::sync::watch;

use crate::answer::Answer;
use crate::cache;
use crate::compress::compress;
use crate::forward::{Failure, STICKY};
use crate::framing::{self, Framing, Refusal};
use crate::front::{Peer, Visitor};
use crate::guard::Heads;
use crate::handle::{self, Decided, Saying, Visit};
use crate::headers;
use crate::images;
use crate::kept::Shelf;
use crate::mutual_tls::Shown;
use crate::page::Reason;
use crate::pool::Pool;
use crate::table::{Destination, RouteTable, Shared, SiteTable, Table};
use crate::upstream::{self, Wish};

/// Who connects where nobody is named: an address that is nobody's (RFC 5737).
const STRANGER: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));

/// The body of a request that nobody makes: only its length.
#[derive(Debug)]
struct Pretended(Framing);

impl Body for Pretended {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        Poll::Ready(None)
    }

    fn is_end_stream(&self) -> bool {
        matches!(self.0, Framing::Length(0))
    }

    fn size_hint(&self) -> SizeHint {
        match self.0 {
            Framing::Length(length) => SizeHint::with_exact(length),
            Framing::Chunked | Framing::Upgrade => SizeHint::default(),
        }
    }
}

/// Where a request goes, as its address says.
#[derive(Debug, PartialEq, Eq)]
struct Address {
    tls: bool,
    /// Host and port as the visitor wrote them.
    authority: String,
    /// Path and query.
    target: String,
}

impl Address {
    /// Reads one. Without a host it is the first one of an app.
    fn read(wanted: &Wanted, table: &Table) -> Self {
        let url = wanted.url.split('#').next().unwrap_or_default();
        let (tls, rest) = match (url.strip_prefix("https://"), url.strip_prefix("http://")) {
            (Some(rest), _) => (true, rest),
            (None, Some(rest)) => (false, rest),
            (None, None) => {
                let authority = own_authority(wanted, table);
                return Self { tls: true, authority, target: url.into() };
            }
        };
        let (authority, target) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
        let target = if target.starts_with('/') { target.into() } else { format!("/{target}") };
        Self { tls, authority: authority.into(), target }
    }

    fn url(&self) -> String {
        if self.authority.is_empty() || self.authority.starts_with(':') {
            return self.target.clone();
        }
        let scheme = if self.tls { "https" } else { "http" };
        format!("{scheme}://{}{}", self.authority, self.target)
    }
}

/// The first host of the app that is meant, with the port of HTTPS where it is another than usual.
fn own_authority(wanted: &Wanted, table: &Table) -> String {
    let host = wanted.app.as_ref().and_then(|app| table.app(app)).map(|site| site.first_host.clone());
    match (host.unwrap_or_default(), table.https_port) {
        (host, 443) => host,
        (host, port) => format!("{host}:{port}"),
    }
}

/// A request as it would have come through the guard.
struct Pretend {
    request: Request<Pretended>,
    /// Of its head, in bytes.
    length: usize,
    upgrade: bool,
}

/// Writes the head as a visitor would, and has it judged.
fn pretend(wanted: &Wanted, address: &Address) -> Result<Pretend, Reason> {
    let mut headers = HeaderMap::new();
    let mut head = format!("{} {} HTTP/1.1\r\n", wanted.method, address.target);
    let host = ("host".to_owned(), address.authority.clone());
    for (name, value) in std::iter::once(&host).chain(&wanted.headers) {
        let (Ok(known), Ok(said)) = (name.parse::<HeaderName>(), HeaderValue::from_str(value)) else {
            return Err(Refusal::Bad("a header has no valid name or value").into());
        };
        head.push_str(&format!("{name}: {value}\r\n"));
        headers.append(known, said);
    }
    head.push_str("\r\n");
    let framing = framing::judge(head.as_bytes()).map_err(Reason::from)?;
    let line = || Reason::from(Refusal::Bad("the request line is not one"));
    let mut request = Request::new(Pretended(framing));
    *request.method_mut() = Method::from_bytes(wanted.method.as_bytes()).map_err(|_| line())?;
    *request.uri_mut() = address.target.parse::<Uri>().map_err(|_| line())?;
    *request.headers_mut() = headers;
    Ok(Pretend { request, length: head.len(), upgrade: framing == Framing::Upgrade })
}

/// The connection that it would come over. A handshake asks for a certificate only where the host has a use for it.
fn connection(wanted: &Wanted, address: &Address, table: &Table, host: &str) -> Peer {
    let from = wanted.from.map_or(STRANGER, |from| from.to_canonical());
    let asked = address.tls && table.asks(host).is_some();
    let shown = wanted.certificate.as_ref().filter(|_| asked).and_then(|pem| {
        let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem.as_bytes()).collect();
        chain.ok().filter(|chain| !chain.is_empty())
    });
    let certificate = shown.map(|chain| Rc::new(Shown::new(&chain)));
    Peer { address: from, neighbour: from, tls: address.tls, secured: false, certificate }
}

/// Says what would become of a request.
pub fn explain(shared: &Arc<Shared>, wanted: &Wanted) -> Explained {
    let table = shared.table.load_full();
    let address = Address::read(wanted, &table);
    let mut told = Explained {
        method: wanted.method.clone(),
        url: address.url(),
        app: None,
        route: None,
        service: None,
        files: None,
        outcome: Outcome {
            decided_by: DecidedBy::Refused,
            status: None,
            what: String::new(),
            location: None,
        },
        instances: Vec::new(),
        next: None,
        policies: Vec::new(),
        cache: None,
        away: None,
        adds: Vec::new(),
        sites: Vec::new(),
    };
    let pretend = match pretend(wanted, &address) {
        Ok(pretend) => pretend,
        Err(reason) => {
            told.outcome = refused(reason);
            return told;
        }
    };
    let host = handle::host_in(&address.authority);
    let Some(site) = table.site(&host) else {
        told.outcome = refused(handle::NO_SITE);
        told.sites = table.sites();
        return told;
    };
    told.app = Some(site.app.clone());
    // Where it runs matters to nothing that is decided here.
    let visit = Visit {
        codec: false,
        shared: shared.clone(),
        pool: Rc::new(Pool::default()),
        heads: Heads::default(),
        peer: connection(wanted, &address, &table, &host),
        drain: watch::channel(false).1,
    };
    let visitor = visit.peer.visitor_of(&site.front, pretend.request.headers());
    let is_served = visit.peer.is_served(&site.front);
    let mut route: Option<&RouteTable> = None;
    let decided =
        visit.decide(site, pretend.length, &Saying::of(&pretend.request), &host, |found| route = Some(found));
    told.route = route.map(|route| route.pattern.to_string());
    told.service = route.and_then(|route| route.service().cloned());
    told.policies = policies::on_the_way(&visit, site, route, visitor, &pretend);
    if is_served {
        told.adds = added(site, &host, visitor.https);
    }
    match decided {
        Err(failure) => told.outcome = failed(&failure),
        Ok(Decided::Answer(answer)) => told.outcome = own(&answer),
        Ok(Decided::Route(route, _)) => match &route.target {
            Destination::Static { folder, prepared, release, spa, .. } => {
                told.files = Some(release.clone());
                // What is kept stays what visitors have asked for.
                let shelf = Shelf::default();
                let source = (&**folder, prepared.as_deref(), release, *spa);
                let answer = handle::from_folder(route, source, &shelf, &pretend.request);
                told.outcome = match answer {
                    Ok(answer) => {
                        let asked = images::Asked::of(route, &pretend.request, &host);
                        let image = asked.map(|asked| shared.images.explain(&asked, site, Some(&answer)));
                        told.policies.extend(image.map(policies::image));
                        file(&compress(answer, pretend.request.method(), pretend.request.headers()))
                    }
                    Err(reason) => refused(reason),
                };
            }
            Destination::Service(_) => {
                let asked = images::Asked::of(route, &pretend.request, &host);
                let image = asked.map(|asked| shared.images.explain(&asked, site, None));
                told.policies.extend(image.map(policies::image));
                by_service(&mut told, &visit, site, route, visitor, (&address.authority, &pretend))
            }
        },
    }
    if told.route.is_none() && is_served {
        told.sites = table.sites().into_iter().filter(|other| other.app == site.app).collect();
    }
    told
}

/// Of a request that an instance or the cache answers.
fn by_service(
    told: &mut Explained,
    visit: &Visit,
    site: &SiteTable,
    route: &RouteTable,
    visitor: Visitor,
    (authority, pretend): (&str, &Pretend),
) {
    let request = &pretend.request;
    let spoken = (pretend.upgrade, visitor.https);
    let view = cache::explain::view(&visit.shared.cache, site, route, spoken, request, authority);
    let Some(service) = route.service().and_then(|service| site.services.get(service)) else { return };
    told.instances = service.upstreams.iter().map(|upstream| upstream.counts()).collect();
    let tag = headers::cookie(request.headers(), STICKY).map(str::to_owned);
    let next = upstream::best(service, &Wish { tried: Vec::new(), tag });
    told.next = next.map(|upstream| upstream.id.clone());
    let stored = view.stored.as_ref();
    let gives = matches!(view.outcome, CacheOutcome::Hit | CacheOutcome::Stale);
    let hold = policies::time(service.hold.min(route.timeout));
    told.outcome = match (&told.next, stored) {
        (_, Some(stored)) if gives => Outcome {
            decided_by: DecidedBy::Edge,
            status: Some(stored.status),
            what: "from the cache".into(),
            location: None,
        },
        _ if view.now == "klar" => Outcome {
            decided_by: DecidedBy::Refused,
            status: Some(StatusCode::GATEWAY_TIMEOUT.as_u16()),
            what: view.what.clone(),
            location: None,
        },
        (Some(next), _) => Outcome {
            decided_by: DecidedBy::App,
            status: None,
            what: format!("{} answers", next.short()),
            location: None,
        },
        (None, _) => Outcome {
            decided_by: DecidedBy::Failed,
            status: Some(StatusCode::SERVICE_UNAVAILABLE.as_u16()),
            what: format!("no instance takes requests now: 503 if none does within {hold}"),
            location: None,
        },
    };
    told.away = Some(match stored.map(|stored| (stored, stored.stands_in_s)) {
        Some((stored, Some(left))) => Away {
            status: stored.status,
            what: format!("the answer that is kept, for another {left} s"),
            stale: true,
        },
        Some((stored, None)) => {
            let why = stored.stands_in_not.as_deref().unwrap_or("it may not");
            away(format!(
                "503 when no instance comes up within {hold}; what is kept does not stand in, because {why}"
            ))
        }
        None => away(format!("503 when no instance comes up within {hold}, with a page that says so")),
    });
    told.cache = Some(view);
}

fn away(what: String) -> Away {
    Away { status: StatusCode::SERVICE_UNAVAILABLE.as_u16(), what, stale: false }
}

fn refused(reason: Reason) -> Outcome {
    Outcome {
        decided_by: DecidedBy::Refused,
        status: Some(reason.status.as_u16()),
        what: reason.detail.into(),
        location: None,
    }
}

fn failed(failure: &Failure) -> Outcome {
    Outcome { decided_by: failure.decided_by, ..refused(failure.reason) }
}

fn own(answer: &Answer) -> Outcome {
    let location = answer.headers().get(header::LOCATION).and_then(|location| location.to_str().ok());
    Outcome {
        decided_by: DecidedBy::Edge,
        status: Some(answer.status().as_u16()),
        what: match location {
            Some(_) => "leads to HTTPS".into(),
            None => "what a certificate authority looks for".into(),
        },
        location: location.map(String::from),
    }
}

fn file(answer: &Answer) -> Outcome {
    let text = |name: HeaderName| answer.headers().get(name).and_then(|value| value.to_str().ok());
    let says = [header::CONTENT_TYPE, header::CONTENT_ENCODING, header::CACHE_CONTROL];
    let says: Vec<String> =
        says.into_iter().filter_map(|name| Some(format!("{name}: {}", text(name.clone())?))).collect();
    let location = text(header::LOCATION);
    Outcome {
        decided_by: DecidedBy::Edge,
        status: Some(answer.status().as_u16()),
        what: match location {
            Some(_) => "leads to the folder".into(),
            None => format!("a file of the release ({})", says.join("; ")),
        },
        location: location.map(String::from),
    }
}

/// What is added to an answer that says nothing itself.
fn added(site: &SiteTable, host: &str, https: bool) -> Vec<(String, String)> {
    let mut headers = HeaderMap::new();
    headers::protect(&mut headers, site.csp.as_ref(), host, https);
    let text = |value: &HeaderValue| value.to_str().unwrap_or_default().to_owned();
    headers.iter().map(|(name, value)| (name.to_string(), text(value))).collect()
}

#[cfg(test)]
mod tests;
