//! The settings that hold on the way of a request, in the order in which it meets them.

use std::sync::Arc;
use std::time::Duration;

use http::{Request, header};
use klar_base::look::Policy;
use klar_base::upstreams::{AppProtocol, ForwardedHeader, WafMode};
use klar_base::{ByteSize, Period};

use super::{Pretend, STRANGER};
use crate::compress::Coding;
use crate::forward::{ATTEMPTS, is_repeatable};
use crate::front::{Peer, Visitor};
use crate::handle::{Visit, writes};
use crate::table::{RouteTable, ServiceTable, Shared, SiteTable};

/// A time as `klar.toml` would say it.
pub fn time(time: Duration) -> String {
    Period(time).to_string()
}

/// One that comes from a key of `klar.toml`.
fn set(key: &str, name: &str, value: impl ToString, here: Option<String>) -> Policy {
    Policy { name: name.into(), value: value.to_string(), here, key: Some(key.into()) }
}

/// One that always holds.
fn always(name: &str, value: impl ToString, here: Option<String>) -> Policy {
    Policy { name: name.into(), value: value.to_string(), here, key: None }
}

/// All of them, as far as the request comes.
pub fn on_the_way(
    visit: &Visit,
    site: &SiteTable,
    route: Option<&RouteTable>,
    visitor: Visitor,
    pretend: &Pretend,
) -> Vec<Policy> {
    let (shared, limits) = (&*visit.shared, &site.limits);
    let open = shared.connections.load(std::sync::atomic::Ordering::Relaxed);
    let table = shared.table.load();
    let most = table.connections_max;
    let protocols = match (&site.http3, shared.serves_http3.load(std::sync::atomic::Ordering::Relaxed)) {
        (Some(_), true) => "HTTP/1.1, HTTP/2 and HTTP/3",
        (Some(_), false) => "HTTP/1.1 and HTTP/2; no socket for HTTP/3 could be bound",
        (None, _) => "HTTP/1.1 and HTTP/2",
    };
    let mut all = vec![
        set("edge.http3", "protocols", protocols, None),
        set("edge.connections", "connections", format!("{most} at once"), Some(format!("{open} are open"))),
        set("edge.headers_timeout", "time for the head", time(limits.header_timeout), None),
    ];
    let ports = table.ports_of_proxies();
    if !ports.is_empty() {
        let ports: Vec<String> = ports.iter().map(u16::to_string).collect();
        let value = format!("begins each connection at port {}; only proxies may connect", ports.join(", "));
        all.push(set("edge.proxy_protocol", "PROXY protocol", value, None));
    }
    all.push(who_asks(site, &visit.peer, visitor));
    if !visit.peer.tls {
        let but = if site.front.plain { ", but for trusted proxies" } else { "" };
        let is_served = visit.peer.is_served(&site.front);
        let here = is_served.then(|| "this is one, and is answered".into());
        all.push(set("edge.plain_http", "HTTPS", format!("plain HTTP leads there (308){but}"), here));
        if !is_served {
            return all;
        }
    }
    all.push(set(
        "edge.header_limit",
        "size of the head",
        ByteSize(limits.header_bytes as u64),
        Some(format!("this one has {} bytes", pretend.length)),
    ));
    let Some(route) = route else { return all };
    let request = &pretend.request;
    all.extend(certificate(route, &visit.peer));
    all.push(set("routes.*.body", "size of the body", ByteSize(route.body_bytes), None));
    let harmless = !writes(request.method());
    all.push(set(
        "routes.*.cross_site",
        "writes of other sites",
        if route.cross_site { "let in" } else { "refused (403)" },
        harmless.then(|| format!("{} writes nothing", request.method())),
    ));
    all.push(set(
        "routes.*.waf",
        "the firewall",
        match (&site.rules, route.waf) {
            (None, _) | (_, WafMode::Off) => "off".to_owned(),
            (Some(rules), WafMode::Detect) => {
                format!("says what it would stop, by {} rules", rules.waf.len())
            }
            (Some(rules), WafMode::Block) => format!("stops attacks (403), by {} rules", rules.waf.len()),
        },
        None,
    ));
    if let Some(service) = route.service().and_then(|service| site.services.get(service)) {
        of_service(&mut all, shared, route, service, pretend);
    }
    let coding = Coding::choose(request.headers()).map_or("this visitor gets it plain".into(), |coding| {
        format!("this visitor gets {} where it is of use", coding.name())
    });
    all.push(always("compression", "zstd, br or gzip, as the visitor likes", Some(coding)));
    let csp = match &site.csp {
        None => "none",
        Some((name, _)) if *name == header::CONTENT_SECURITY_POLICY => "enforced",
        Some(_) => "reported, not enforced",
    };
    all.push(set("edge.csp", "content security policy", csp, None));
    if let Some((_, policy)) = &site.csp {
        all.push(set("edge.csp_policy", "the policy", policy.to_str().unwrap_or_default(), None));
    }
    let stall = format!("{} without progress", time(limits.stall_timeout));
    all.push(always("stall", stall, None));
    all.push(always("idle connection", time(limits.idle_timeout), None));
    all
}

/// Who the visitor is taken for.
fn who_asks(site: &SiteTable, peer: &Peer, visitor: Visitor) -> Policy {
    let front = &site.front;
    let value = match front.header {
        _ if front.proxies.is_empty() => "who connects, whatever the head says",
        ForwardedHeader::XForwarded => "whom trusted proxies name in X-Forwarded-For, else who connects",
        ForwardedHeader::Forwarded => "whom trusted proxies name in Forwarded, else who connects",
    };
    let who = if visitor.address == STRANGER { "a stranger".into() } else { visitor.address.to_string() };
    let over = if visitor.https { "HTTPS" } else { "plain HTTP" };
    let says = if visitor == peer.visitor() { String::new() } else { format!(", as {} says", peer.address) };
    set("edge.trusted_proxies", "who asks", value, Some(format!("{who} over {over}{says}")))
}

/// Whether the route wants a certificate, and what the visitor has shown.
fn certificate(route: &RouteTable, peer: &Peer) -> Option<Policy> {
    let authorities = route.clients.as_ref()?;
    let value = match authorities.names.len() {
        0 => "wanted, and no authority is known whose would do (403)".to_owned(),
        1 => "wanted, of one authority (403 without)".into(),
        count => format!("wanted, of one of {count} authorities (403 without)"),
    };
    let here = match &peer.certificate {
        None => "none is shown".to_owned(),
        Some(shown) if shown.is_of(authorities) => {
            let subject = shown.subject();
            let name = subject.as_ref().and_then(|subject| subject.0.to_str().ok());
            name.map_or("one that will do is shown".into(), |name| format!("that of {name} will do"))
        }
        Some(_) => "the one that is shown is not of them, or not valid now".into(),
    };
    Some(set("routes.*.client_ca", "certificate of the visitor", value, Some(here)))
}

/// What becomes of an image, on a route that converts images.
pub fn image(what: String) -> Policy {
    set("routes.*.images", "image", what, None)
}

/// Those of a route that leads to a service.
fn of_service(
    all: &mut Vec<Policy>,
    shared: &Shared,
    route: &RouteTable,
    service: &Arc<ServiceTable>,
    pretend: &Pretend,
) {
    let request = &pretend.request;
    let rules = &route.cache;
    let kept = match (rules.enabled, rules.lifetime) {
        (false, _) => "nothing is kept".to_owned(),
        (true, None) => "as the app says".into(),
        (true, Some(lifetime)) => format!("as the app says, else {}", time(lifetime)),
    };
    all.push(set("routes.*.cache", "cache", kept, None));
    if rules.enabled {
        let stale = rules.stale_while_revalidate.map_or("as the answer says".into(), time);
        all.push(set("routes.*.stale_while_revalidate", "stale while refreshed", stale, None));
        let room = ByteSize(shared.cache.room() as u64);
        all.push(set("edge.cache_memory", "room of the cache", room, None));
    }
    all.push(always(
        "WebSocket",
        "passed on when the app agrees",
        pretend.upgrade.then(|| "this request asks for one".into()),
    ));
    let mut parts = Request::new(()).into_parts().0;
    parts.method = request.method().clone();
    parts.headers = request.headers().clone();
    let again = if pretend.upgrade {
        "never sent again once an instance may have seen it".to_owned()
    } else if is_repeatable(&parts, route.idempotent) {
        format!("{} may be sent again", request.method())
    } else {
        format!("{} is sent again only where no instance has seen it", request.method())
    };
    all.push(set("routes.*.idempotent", "attempts", format!("{ATTEMPTS} at most"), Some(again)));
    all.push(set("routes.*.timeout", "time for the answer", time(route.timeout), None));
    all.push(set("edge.hold", "wait for an instance", time(service.hold), None));
    let sticky = if service.sticky { "stays with its instance" } else { "any instance" };
    all.push(set("services.*.sticky", "visitor", sticky, None));
    let protocol = if service.speaks(AppProtocol::H2c) { "HTTP/2 (h2c)" } else { "HTTP/1.1" };
    all.push(set("services.*.protocol", "protocol with the app", protocol, None));
}
