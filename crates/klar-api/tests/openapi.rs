//! The description says what is true: every route is in it, and its shapes are those of the report types.
#![allow(clippy::unwrap_used)] // a test that cannot go on should stop where it is

use klar_api::openapi::document;
use klar_api::route::ROUTES;
use klar_base::look::{
    Away, CacheView, Counts, Explained, InstanceCounts, Outcome, Policy, Refusal, RouteCounts, SiteView,
    StoredView, Wanted, Wellness, WouldKeep,
};
use klar_base::replay::{Attacked, Exception, Judged, Reason, Replayed, Sent, Step};
use klar_base::shadow::{Tried, TriedRequest};
use klar_base::signal::{CacheOutcome, DecidedBy, WafMatch};
use klar_base::upstreams::{RefusedRules, RuleFiles};
use klar_run::control::{ReplayRequest, ReplayedRequest, TriedRules, TryRequest, UpgradeRequest};
use klar_run::report::{
    AppStatus, CertificateStatus, DrainingEdge, EdgeStatus, Failure, Finding, Grade, Health, HostStatus,
    InstanceState, InstanceStatus, LogLine, PreviousRelease, Problem, Readiness, SeeStatus, ServiceStatus,
    StoreStatus, Upgrade, UpgradeState,
};
use serde_json::Value;

#[test]
fn every_route_is_described() {
    let document = document();
    for route in &ROUTES {
        let method = route.method.as_str().to_ascii_lowercase();
        let operation = &document["paths"][route.path][&method];
        assert_eq!(operation["summary"], route.doc, "{route}");
    }
    let described: usize =
        document["paths"].as_object().unwrap().values().map(|path| path.as_object().unwrap().len()).sum();
    assert_eq!(described, ROUTES.len());
}

#[test]
fn references_lead_somewhere() {
    fn references<'v>(value: &'v Value, found: &mut Vec<&'v str>) {
        match value {
            Value::Object(fields) => {
                found.extend(fields.get("$ref").and_then(Value::as_str));
                fields.values().for_each(|value| references(value, found));
            }
            Value::Array(values) => values.iter().for_each(|value| references(value, found)),
            _ => {}
        }
    }
    let document = document();
    let mut found = Vec::new();
    references(&document, &mut found);
    assert!(found.len() > 20);
    for reference in found {
        let pointer = reference.strip_prefix('#').unwrap();
        assert!(document.pointer(pointer).is_some(), "{reference}");
    }
}

/// The fields of a value are exactly those of its schema.
fn readiness() -> Readiness {
    Readiness { total: 0, ready: false, proven: 0, failing: 0, at_unix_ms: 0 }
}

fn upgrade() -> Upgrade {
    let (from, to) = (String::new(), String::new());
    let state = UpgradeState::Pending;
    Upgrade { number: 0, from, to, rollback: false, state, why: None, receipt: None }
}

fn same_fields(name: &str, value: impl serde::Serialize) {
    let document = document();
    let schema = &document["components"]["schemas"][name]["properties"];
    let mut described: Vec<_> = schema.as_object().unwrap().keys().cloned().collect();
    let value = serde_json::to_value(value).unwrap();
    let mut real: Vec<_> = value.as_object().unwrap().keys().cloned().collect();
    described.sort();
    real.sort();
    assert_eq!(described, real, "{name}");
}

fn explained_shapes() {
    let instance = InstanceCounts {
        id: "shop.prod.api.1".parse().unwrap(),
        release: "0123456789ab".parse().unwrap(),
        weight: 0,
        wellness: Wellness::Well,
        in_flight: 0,
        requests: 0,
        failures: 0,
    };
    let policy = Policy { name: String::new(), value: String::new(), here: None, key: None };
    let refusal = Refusal { word: String::new(), why: String::new() };
    let would_keep = WouldKeep { answer: String::new(), fresh_s: None, refusal: Some(refusal.clone()) };
    let stored = StoredView {
        status: 0,
        age_s: 0,
        left_s: 0,
        bytes: 0,
        vary: Vec::new(),
        tags: Vec::new(),
        can_validate: false,
        stands_in_s: None,
        stands_in_not: None,
    };
    let cache = CacheView {
        bypass: None,
        key: Vec::new(),
        now: String::new(),
        what: String::new(),
        outcome: CacheOutcome::Miss,
        stored: Some(stored.clone()),
        others: 0,
        in_flight: false,
        last_refusal: None,
        would_keep: Vec::new(),
    };
    let outcome = Outcome { decided_by: DecidedBy::App, status: None, what: String::new(), location: None };
    let away = Away { status: 503, what: String::new(), stale: false };
    let site = SiteView { app: "shop".parse().unwrap(), hosts: Vec::new(), routes: Vec::new() };
    let explained = Explained {
        method: String::new(),
        url: String::new(),
        app: None,
        route: None,
        service: None,
        files: None,
        outcome: outcome.clone(),
        instances: Vec::new(),
        next: None,
        policies: Vec::new(),
        cache: None,
        away: None,
        adds: Vec::new(),
        sites: Vec::new(),
    };
    same_fields("ExplainedRequest", explained);
    same_fields("RequestOutcome", outcome);
    same_fields("RequestPolicy", policy);
    same_fields("RequestCache", cache);
    same_fields("RequestAway", away);
    same_fields("StoredAnswer", stored);
    same_fields("CacheRefusal", refusal);
    same_fields("WouldKeep", would_keep);
    same_fields("ServedSite", site);
    same_fields("InstanceCounts", instance);
}

fn replayed_shapes() {
    let sent = Sent {
        method: String::new(),
        target: String::new(),
        protocol: String::new(),
        remote: String::new(),
        headers: Vec::new(),
        body: String::new(),
        is_cut: false,
        is_masked: false,
    };
    let judged = Judged { verdict: None, score: None, matches: Vec::new() };
    let replayed = Replayed { now: judged.clone(), then: judged.clone(), attacks: Vec::new() };
    let reason = Reason {
        rule: 1,
        file: String::new(),
        line: 1,
        message: String::new(),
        place: String::new(),
        question: String::new(),
        value: String::new(),
        steps: Vec::new(),
        data: String::new(),
    };
    let attacked =
        Attacked { parameter: String::new(), tried: 0, stopped_now: 0, stopped_then: 0, freed: Vec::new() };
    let exception = Exception { route: "/".into(), parameter: Some("q".into()), allow: vec![1] };
    same_fields("ReplayRequest", ReplayRequest { request_id: String::new(), exceptions: Vec::new() });
    same_fields("FirewallException", exception);
    same_fields("ReplayedRequest", ReplayedRequest { sent: sent.clone(), replayed: replayed.clone() });
    same_fields("SentRequest", sent);
    same_fields("Replayed", replayed);
    same_fields("JudgedRequest", judged);
    same_fields("FirewallMatch", reason);
    same_fields("DecodingStep", Step { name: String::new(), value: String::new() });
    same_fields("TriedAttacks", attacked);
    let tried_request = TriedRequest {
        request_id: String::new(),
        method: String::new(),
        path: String::new(),
        remote: String::new(),
        status: 200,
        matches: Vec::new(),
    };
    let refused = RefusedRules { count: 1, first: String::new() };
    let tried = Tried { judged: 1, times: None, stopped: Vec::new(), attacks: Vec::new(), refused: None };
    let rules = TriedRules::Core;
    same_fields(
        "TryRequest",
        TryRequest { rules, paranoia: 1, exceptions: Vec::new(), attacked: Vec::new() },
    );
    same_fields("RuleFiles", RuleFiles::default());
    same_fields("Tried", tried);
    same_fields("TriedRequest", tried_request);
    same_fields("FirewallFound", WafMatch { rule: 1, message: String::new(), place: String::new() });
    same_fields("RefusedRules", refused);
}

#[test]
fn shapes_are_those_of_the_reports() {
    let release = "0123456789ab".parse().unwrap();
    let service: klar_base::ServiceName = "api".parse().unwrap();
    let key: klar_base::AppKey = "shop".parse().unwrap();
    same_fields("EdgeStatus", EdgeStatus::default());
    same_fields("Readiness", readiness());
    same_fields("Totals", klar_base::signal::Totals::default());
    same_fields("Problem", Problem { what: String::new(), hint: None, output: Vec::new() });
    same_fields("Failure", Failure::new(""));
    same_fields("EdgeCounts", Counts::default());
    same_fields(
        "RouteCounts",
        RouteCounts {
            app: key.clone(),
            pattern: String::new(),
            service: None,
            requests: 0,
            errors: 0,
            bytes_in: 0,
            bytes_out: 0,
            cache_asked: 0,
            cache_hits: 0,
            times: Default::default(),
        },
    );
    let wanted = Wanted {
        url: String::new(),
        app: None,
        method: String::new(),
        headers: Vec::new(),
        from: None,
        certificate: None,
    };
    same_fields("WantedRequest", wanted);
    explained_shapes();
    replayed_shapes();
    same_fields("PreviousRelease", PreviousRelease { release, warm_until_unix_ms: None });
    same_fields(
        "Finding",
        Finding { topic: String::new(), grade: Grade::Good, what: String::new(), hint: None },
    );
    let line =
        LogLine { time: String::new(), instance: String::new(), stream: String::new(), text: String::new() };
    same_fields("LogLine", line);
    same_fields(
        "StoreStatus",
        StoreStatus {
            name: service.clone(),
            kind: String::new(),
            managed: true,
            state: Some(InstanceState::Ready),
            shim_pid: None,
            pid: None,
            port: None,
            identity: None,
            restarts: 0,
        },
    );
    same_fields(
        "InstanceStatus",
        InstanceStatus {
            id: "shop.prod.api.1".parse().unwrap(),
            state: InstanceState::Ready,
            release: "0123456789ab".parse().unwrap(),
            serving: true,
            pid: None,
            shim_pid: None,
            port: None,
            for_ms: 0,
            restarts: 0,
            memory_bytes: None,
            leases: 0,
            requests: 0,
        },
    );
    same_fields(
        "ServiceStatus",
        ServiceStatus { name: service, kind: String::new(), wanted: 0, instances: Vec::new() },
    );
    same_fields(
        "CertificateStatus",
        CertificateStatus {
            host: String::new(),
            source: String::new(),
            issuer: None,
            not_after_unix_ms: None,
            days_left: None,
            authority: None,
            next_try_unix_ms: None,
            asking: false,
            failures: 0,
            last_error: None,
            hint: None,
            alarm: None,
        },
    );
    same_fields("KeptStatus", klar_base::keep::KeptStatus::default());
    same_fields("SecondStatus", klar_base::keep::SecondStatus::default());
    same_fields(
        "AppStatus",
        AppStatus {
            key,
            health: Health::Up,
            url: String::new(),
            hosts: Vec::new(),
            release: None,
            live_since_unix_ms: None,
            previous: None,
            deploying: None,
            services: Vec::new(),
            stores: Vec::new(),
            kept: Vec::new(),
            certificates: Vec::new(),
            problems: Vec::new(),
            notes: Vec::new(),
            totals: Default::default(),
            readiness: Some(readiness()),
        },
    );
    same_fields(
        "HostStatus",
        HostStatus {
            version: String::new(),
            core_pid: 0,
            spawner_pid: None,
            state_folder: String::new(),
            uptime_ms: 0,
            edge: EdgeStatus::default(),
            see: SeeStatus::default(),
            apps: Vec::new(),
            state_format: 0,
            upgrade: Some(upgrade()),
        },
    );
    same_fields("EdgeStatus", EdgeStatus::default());
    same_fields("SeeStatus", SeeStatus::default());
    same_fields("DrainingEdge", DrainingEdge { pid: 0, version: String::new(), connections: 0, for_ms: 0 });
    same_fields("Upgrade", upgrade());
    same_fields("UpgradeRequest", UpgradeRequest { version: String::new(), rollback: false });
}
