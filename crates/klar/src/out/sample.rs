//! Rates between two readings of the edge's counters.

use klar_base::look::{Counts, InstanceCounts, RouteCounts, Wellness};
use serde::Serialize;

/// How the edge did between two readings.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Sample {
    /// How long that was, by the clock of the edge.
    pub seconds: f64,
    /// Connections from visitors that are open.
    pub connections: u32,
    /// Of these: they speak HTTP/2.
    pub http2_connections: u32,
    /// And these HTTP/3.
    pub http3_connections: u32,
    pub accepted_per_s: f64,
    pub handshakes_per_s: f64,
    pub handshakes_failed_per_s: f64,
    pub http1_requests_per_s: f64,
    pub http2_requests_per_s: f64,
    pub http3_requests_per_s: f64,
    /// In bytes.
    pub cache_used: u64,
    /// In bytes.
    pub cache_room: u64,
    pub routes: Vec<RouteSample>,
    pub instances: Vec<InstanceSample>,
}

/// How a route did. What has no requests has no times and no shares.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RouteSample {
    pub app: String,
    pub pattern: String,
    /// `None`: a folder.
    pub service: Option<String>,
    pub requests_per_s: f64,
    pub p50_ms: Option<f64>,
    pub p99_ms: Option<f64>,
    /// Of all requests: answered with 500 or above.
    pub error_share: Option<f64>,
    pub bytes_in_per_s: f64,
    pub bytes_out_per_s: f64,
    /// Of the requests that the cache had a part in: answered by it.
    pub cache_hit_share: Option<f64>,
}

/// How an instance did.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct InstanceSample {
    pub id: String,
    pub release: String,
    pub weight: u32,
    pub wellness: Wellness,
    pub in_flight: u32,
    pub requests_per_s: f64,
    pub failures_per_s: f64,
}

impl Sample {
    /// From two readings; an edge that began anew meanwhile counts from its start.
    pub fn between(before: &Counts, after: &Counts) -> Self {
        let nothing = Counts::default();
        let is_same = before.pid == after.pid && before.uptime_us <= after.uptime_us;
        let before = if is_same { before } else { &nothing };
        let seconds = ((after.uptime_us - before.uptime_us) as f64 / 1e6).max(1e-6);
        let rate = |before: u64, after: u64| after.saturating_sub(before) as f64 / seconds;
        Self {
            seconds,
            connections: after.connections,
            http2_connections: after.http2_connections,
            http3_connections: after.http3_connections,
            accepted_per_s: rate(before.accepted, after.accepted),
            handshakes_per_s: rate(before.handshakes, after.handshakes),
            handshakes_failed_per_s: rate(before.handshakes_failed, after.handshakes_failed),
            http1_requests_per_s: rate(before.http1_requests, after.http1_requests),
            http2_requests_per_s: rate(before.http2_requests, after.http2_requests),
            http3_requests_per_s: rate(before.http3_requests, after.http3_requests),
            cache_used: after.cache_used,
            cache_room: after.cache_room,
            routes: after.routes.iter().map(|route| route_between(before, route, &rate)).collect(),
            instances: after.instances.iter().map(|one| instance_between(before, one, &rate)).collect(),
        }
    }
}

fn route_between(before: &Counts, route: &RouteCounts, rate: &impl Fn(u64, u64) -> f64) -> RouteSample {
    let none = RouteCounts {
        requests: 0,
        errors: 0,
        bytes_in: 0,
        bytes_out: 0,
        cache_asked: 0,
        cache_hits: 0,
        times: Default::default(),
        ..route.clone()
    };
    let same = |other: &&RouteCounts| (&other.app, &other.pattern) == (&route.app, &route.pattern);
    // A route that was taken out and put in again counts from 0.
    let known = before.routes.iter().find(same).filter(|known| known.requests <= route.requests);
    let known = known.unwrap_or(&none);
    let times = route.times.since(&known.times);
    let share = |part: u64, all: u64| (all > 0).then(|| part as f64 / all as f64);
    let ms = |us: Option<u64>| us.map(|us| us as f64 / 1000.0);
    RouteSample {
        app: super::receipt::name(&route.app),
        pattern: route.pattern.clone(),
        service: route.service.as_ref().map(ToString::to_string),
        requests_per_s: rate(known.requests, route.requests),
        p50_ms: ms(times.quantile(0.5)),
        p99_ms: ms(times.quantile(0.99)),
        error_share: share(
            route.errors.saturating_sub(known.errors),
            route.requests.saturating_sub(known.requests),
        ),
        bytes_in_per_s: rate(known.bytes_in, route.bytes_in),
        bytes_out_per_s: rate(known.bytes_out, route.bytes_out),
        cache_hit_share: share(
            route.cache_hits.saturating_sub(known.cache_hits),
            route.cache_asked.saturating_sub(known.cache_asked),
        ),
    }
}

fn instance_between(
    before: &Counts,
    instance: &InstanceCounts,
    rate: &impl Fn(u64, u64) -> f64,
) -> InstanceSample {
    let known = before.instances.iter().find(|other| other.id == instance.id);
    let known = known.filter(|known| known.requests <= instance.requests);
    InstanceSample {
        id: format!("{}.{}", super::receipt::name(&instance.id.key), instance.id.short()),
        release: instance.release.short().into(),
        weight: instance.weight,
        wellness: instance.wellness,
        in_flight: instance.in_flight,
        requests_per_s: rate(known.map_or(0, |known| known.requests), instance.requests),
        failures_per_s: rate(known.map_or(0, |known| known.failures), instance.failures),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use klar_base::look::Times;

    pub fn counts(pid: u32, seconds: u64, requests: u64) -> Counts {
        let route = RouteCounts {
            app: "shop".parse().unwrap(),
            pattern: "/*".into(),
            service: Some("web".parse().unwrap()),
            requests,
            errors: requests / 10,
            bytes_in: 0,
            bytes_out: requests * 1000,
            cache_asked: requests / 2,
            cache_hits: requests / 4,
            times: Times(vec![(Times::bucket(1000) as u16, requests)]),
        };
        Counts {
            pid,
            uptime_us: seconds * 1_000_000,
            http2_requests: requests,
            routes: vec![route],
            ..Counts::default()
        }
    }

    #[test]
    fn only_what_lies_between_counts() {
        let sample = Sample::between(&counts(1, 10, 1000), &counts(1, 12, 1400));
        let route = &sample.routes[0];
        assert_eq!((sample.seconds, sample.http2_requests_per_s), (2.0, 200.0));
        assert_eq!((route.requests_per_s, route.bytes_out_per_s), (200.0, 200_000.0));
        assert_eq!((route.error_share, route.cache_hit_share), (Some(0.1), Some(0.5)));
        assert!(route.p50_ms.is_some_and(|ms| (0.75..1.25).contains(&ms)), "{:?}", route.p50_ms);
    }

    #[test]
    fn quiet_times_have_no_shares() {
        let sample = Sample::between(&counts(1, 10, 1000), &counts(1, 11, 1000));
        let route = &sample.routes[0];
        assert_eq!(route.requests_per_s, 0.0);
        assert_eq!((route.p50_ms, route.error_share, route.cache_hit_share), (None, None, None));
    }

    #[test]
    fn an_edge_that_began_anew_counts_from_its_start() {
        let sample = Sample::between(&counts(1, 1000, 90_000), &counts(2, 2, 100));
        assert_eq!((sample.seconds, sample.routes[0].requests_per_s), (2.0, 50.0));
    }
}
