//! The settings that hold on the way of a request, in the order in which it meets them.

use std::sync::Arc;
use std::time::Duration;

use http::Request;
use klar_base::look::Policy;
use klar_base::upstreams::{AppProtocol, CspMode};
use klar_base::{ByteSize, Period};

use super::{Address, Pretend};
use crate::compress::Coding;
use crate::forward::{ATTEMPTS, is_repeatable};
use crate::handle::writes;
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
    shared: &Shared,
    site: &SiteTable,
    route: Option<&RouteTable>,
    address: &Address,
    pretend: &Pretend,
) -> Vec<Policy> {
    let limits = &site.limits;
    let open = shared.connections.load(std::sync::atomic::Ordering::Relaxed);
    let most = shared.table.load().connections_max;
    let mut all = vec![
        set("edge.connections", "connections", format!("{most} at once"), Some(format!("{open} are open"))),
        set("edge.headers_timeout", "time for the head", time(limits.header_timeout), None),
    ];
    if !address.tls {
        all.push(always("HTTPS", "plain HTTP leads there (308)", None));
        return all;
    }
    all.push(set(
        "edge.header_limit",
        "size of the head",
        ByteSize(limits.header_bytes as u64),
        Some(format!("this one has {} bytes", pretend.length)),
    ));
    let Some(route) = route else { return all };
    let request = &pretend.request;
    all.push(set("routes.*.body", "size of the body", ByteSize(route.body_bytes), None));
    let harmless = !writes(request.method());
    all.push(set(
        "routes.*.cross_site",
        "writes of other sites",
        if route.cross_site { "let in" } else { "refused (403)" },
        harmless.then(|| format!("{} writes nothing", request.method())),
    ));
    if let Some(service) = route.service().and_then(|service| site.services.get(service)) {
        of_service(&mut all, shared, route, service, pretend);
    }
    let coding = Coding::choose(request.headers()).map_or("this visitor gets it plain".into(), |coding| {
        format!("this visitor gets {} where it is of use", coding.name())
    });
    all.push(always("compression", "zstd, br or gzip, as the visitor likes", Some(coding)));
    let csp = match site.csp.mode {
        CspMode::Off => "none",
        CspMode::Report => "reported, not enforced",
        CspMode::Enforce => "enforced",
    };
    all.push(set("edge.csp", "content security policy", csp, None));
    if site.csp.mode != CspMode::Off {
        all.push(set("edge.csp_policy", "the policy", &site.csp.policy, None));
    }
    let stall = format!("{} without progress", time(limits.stall_timeout));
    all.push(always("stall", stall, None));
    all.push(always("idle connection", time(limits.idle_timeout), None));
    all
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
