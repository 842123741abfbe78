//! The host at a glance, and its instances row by row.

use anstyle::Style;
use klar_base::keep::{Dumps, KeptStatus};
use klar_run::report::{
    AppStatus, CertificateStatus, Health, HostStatus, InstanceState, InstanceStatus, Problem, StoreStatus,
    UpgradeState,
};

use super::receipt::name;
use super::table::{Cell, align, cell};
use super::{BAD, FAIR, GOOD, MOVING, PLAIN, QUIET, STRONG, paint, render_hint, render_output, words};

/// A shape, a word and a colour for each health.
pub fn health(health: Health) -> (Style, &'static str) {
    match health {
        Health::Up => (GOOD, "● up"),
        Health::Starting => (MOVING, "◐ starting"),
        Health::Degraded => (FAIR, "▲ degraded"),
        Health::Down => (BAD, "✗ down"),
        Health::Stopped => (QUIET, "○ stopped"),
    }
}

fn state(state: InstanceState, serving: bool) -> (Style, &'static str) {
    match state {
        InstanceState::Starting => (MOVING, "◐ starting"),
        InstanceState::Ready if serving => (GOOD, "● ready"),
        InstanceState::Ready => (PLAIN, "○ warm"),
        InstanceState::Stopping => (QUIET, "◌ stopping"),
        InstanceState::Waiting => (FAIR, "▲ waiting"),
    }
}

/// Everything on one screen. `now_unix_ms` is when it was asked for.
pub fn render(host: &HostStatus, now_unix_ms: u64) -> String {
    let mut head = vec![format!("klar {}", host.version), format!("up {}", words::age(host.uptime_ms))];
    match host.edge.pid {
        Some(_) => {
            head.extend(host.edge.listens.iter().cloned());
            head.push(words::things(u64::from(host.edge.connections), "connection"));
        }
        None => head.push("no edge".into()),
    }
    let mut text = format!("{}\n", paint(QUIET, head.join(" · ")));
    for line in &host.edge.cannot_listen {
        text.push_str(&format!("{} klar cannot listen at {line}\n", paint(BAD, "✗")));
    }
    for edge in &host.edge.draining {
        let open = words::things(u64::from(edge.connections), "connection");
        let since = words::age(edge.for_ms);
        text.push_str(&paint(
            QUIET,
            format!("◌ the edge before (pid {}) drains: {open}, for {since}", edge.pid),
        ));
        text.push('\n');
    }
    if let Some(why) = &host.edge.trouble {
        text.push_str(&format!(
            "{} an older edge (klar {}) serves: {why}\n",
            paint(FAIR, "▲"),
            host.edge.version
        ));
    }
    if host.upgrade.as_ref().is_some_and(|upgrade| upgrade.state == UpgradeState::Pending) {
        text.push_str(&format!("{} klar is being upgraded\n", paint(MOVING, "◐")));
    }
    if host.edge.records_dropped > 0 {
        let dropped = words::count(host.edge.records_dropped);
        text.push_str(&format!("{} {dropped} access records were dropped under load\n", paint(FAIR, "▲")));
    }
    if host.edge.turned_away > 0 {
        let closed = words::things(host.edge.turned_away, "connection");
        let line = format!(
            "{closed} did not come through the proxies in front of klar as they should, and were closed"
        );
        text.push_str(&format!("{} {line}\n", paint(FAIR, "▲")));
    }
    for app in &host.apps {
        text.push('\n');
        text.push_str(&render_app(app, now_unix_ms));
    }
    if host.apps.is_empty() {
        text.push_str("\nno apps yet: run `klar up` in the folder of one\n");
    }
    text
}

fn render_app(app: &AppStatus, now_unix_ms: u64) -> String {
    let (style, word) = health(app.health);
    let mut text = format!("{}  {}  {}\n", paint(style, word), paint(STRONG, name(&app.key)), app.url);
    let mut rows: Vec<Vec<Cell>> = Vec::new();
    let mut row = |word: &str, what: String| rows.push(vec![cell(QUIET, word), what.into()]);
    if let Some(what) = &app.deploying {
        row("going on", what.clone());
    }
    if let Some(release) = &app.release {
        let mut what = release.short().to_owned();
        if let Some(since) = app.live_since_unix_ms {
            what.push_str(&format!(", live for {}", words::age(now_unix_ms.saturating_sub(since))));
        }
        if let Some(previous) = &app.previous {
            what.push_str(&format!(" (before: {}", previous.release.short()));
            let left = previous.warm_until_unix_ms.and_then(|until| until.checked_sub(now_unix_ms));
            if let Some(left) = left {
                what.push_str(&format!(", warm for another {}", words::age(left)));
            }
            what.push(')');
        }
        row("release", what);
    }
    let services: Vec<String> = app
        .services
        .iter()
        .map(|service| {
            let ready =
                service.instances.iter().filter(|one| one.state == InstanceState::Ready && one.serving);
            match service.kind.as_str() {
                "static" | "cron" => format!("{} ({})", service.name, service.kind),
                "web" => format!("{} {}/{}", service.name, ready.count(), service.wanted),
                // A worker gets no requests, so it is never "serving".
                kind => {
                    let ready = service.instances.iter().filter(|one| one.state == InstanceState::Ready);
                    format!("{} {}/{} ({kind})", service.name, ready.count(), service.wanted)
                }
            }
        })
        .collect();
    if !services.is_empty() {
        row("services", services.join(" · "));
    }
    if !app.stores.is_empty() {
        row("data", app.stores.iter().map(store).collect::<Vec<_>>().join(" · "));
    }
    for one in &app.kept {
        row("backup", kept(one, now_unix_ms));
    }
    for one in &app.certificates {
        // Those of names of this machine make and renew themselves.
        if one.source != "local" || one.authority.is_some() {
            row("certificate", certificate(one, now_unix_ms));
        }
    }
    row("requests", requests(app));
    if let Some(readiness) = &app.readiness {
        let word = if readiness.ready { "ready" } else { "not ready" };
        let age = words::age(now_unix_ms.saturating_sub(readiness.at_unix_ms));
        let (total, proven, failing) = (readiness.total, readiness.proven, readiness.failing);
        row(
            "readiness",
            format!("{word}, {total}/80: {proven} proven, {failing} failing ({age} ago; klar check)"),
        );
    }
    text.push_str(&align(&rows, &[], "  "));
    for problem in &app.problems {
        text.push_str(&render_problem(problem));
    }
    for note in &app.notes {
        text.push_str(&format!("  {} {note}\n", paint(QUIET, "note:")));
    }
    text
}

fn store(store: &StoreStatus) -> String {
    let state = match store.state {
        Some(InstanceState::Ready) => "ready",
        Some(InstanceState::Starting) => "starting",
        Some(InstanceState::Stopping) => "stopping",
        Some(InstanceState::Waiting) => "waits for its next start",
        None if store.managed => "stopped",
        None => "elsewhere",
    };
    format!("{} {} {state}", store.name, store.kind)
}

fn kept(one: &KeptStatus, now_unix_ms: u64) -> String {
    let age = |at: u64| words::age(now_unix_ms.saturating_sub(at));
    let proven = match (one.proven_unix_ms, one.rto_ms) {
        (Some(at), Some(took)) => format!("restored as of {} ago, there in {}", age(at), words::took(took)),
        _ => "none restored yet".into(),
    };
    let range = match (one.earliest_unix_ms, one.covered_unix_ms) {
        (Some(from), _) if one.daily => {
            let what = match one.dumps {
                None => "point",
                Some(Dumps::Daily) => "daily dump",
                Some(Dumps::Weekly) => "weekly dump",
            };
            format!("; {} since {} ago", words::things(one.points.into(), what), age(from))
        }
        (Some(from), Some(to)) => format!("; any second from {} to {} ago", age(from), age(to)),
        _ => String::new(),
    };
    format!("{} {proven}{range}", one.store)
}

fn certificate(one: &CertificateStatus, now_unix_ms: u64) -> String {
    let issuer = one.issuer.as_deref().unwrap_or("unreadable");
    let mut text = match one.source.as_str() {
        "local" => format!("{}: none yet but klar's own", one.host),
        _ => format!("{}: {issuer}", one.host),
    };
    if let Some(days) = one.days_left.filter(|_| one.source != "local") {
        text.push_str(&match days {
            days if days < 0 => ", has ended".to_owned(),
            days => format!(", {} left", words::things(days.unsigned_abs(), "day")),
        });
    }
    if one.source == "given" {
        text.push_str(", given");
    }
    let Some(authority) = &one.authority else { return text };
    if one.asking {
        return text + &format!("; asking {authority}");
    }
    match one.next_try_unix_ms.map(|at| at.saturating_sub(now_unix_ms)) {
        Some(0) => text.push_str(&format!("; {authority} is asked now")),
        Some(left) => text.push_str(&format!("; {authority} is asked in {}", words::age(left))),
        None => {}
    }
    if one.failures > 0 {
        text.push_str(&format!(" ({} so far)", words::things(u64::from(one.failures), "failure")));
    }
    text
}

fn requests(app: &AppStatus) -> String {
    let totals = &app.totals;
    let mut text = format!("{}, {} failed", words::count(totals.requests), words::count(totals.failed));
    for (number, what) in [
        (totals.app_errors, "errors of the app"),
        (totals.saved_by_retry, "saved by a retry"),
        (totals.refused, "refused"),
        (totals.aborted, "left early"),
    ] {
        if number > 0 {
            text.push_str(&format!(", {} {what}", words::count(number)));
        }
    }
    text
}

fn render_problem(problem: &Problem) -> String {
    let mut text = format!("  {} {}\n", paint(BAD, "✗"), words::tame(&problem.what));
    text.push_str(&render_output(&problem.output, "    "));
    if let Some(hint) = &problem.hint {
        text.push_str(&render_hint(hint, "    "));
    }
    text
}

/// One row for each instance and store.
pub fn render_instances(apps: &[AppStatus]) -> String {
    let titles =
        ["INSTANCE", "STATE", "RELEASE", "SERVING", "PID", "PORT", "MEMORY", "FOR", "RESTARTS", "LEASES"];
    let mut rows: Vec<Vec<Cell>> = vec![titles.iter().map(|title| cell(QUIET, *title)).collect()];
    for app in apps {
        let instances = app.services.iter().flat_map(|service| &service.instances);
        rows.extend(instances.map(instance_row));
        rows.extend(app.stores.iter().filter(|store| store.managed).map(|store| store_row(app, store)));
    }
    if rows.len() == 1 {
        return "nothing runs\n".into();
    }
    align(&rows, &[4, 5, 6, 7, 8, 9], "")
}

fn instance_row(instance: &InstanceStatus) -> Vec<Cell> {
    let (style, word) = state(instance.state, instance.serving);
    vec![
        format!("{}.{}", name(&instance.id.key), instance.id.short()).into(),
        cell(style, word),
        instance.release.short().into(),
        if instance.serving { "yes" } else { "no" }.into(),
        number(instance.pid),
        number(instance.port),
        instance.memory_bytes.map_or("-".into(), words::bytes).into(),
        words::age(instance.for_ms).into(),
        instance.restarts.to_string().into(),
        instance.leases.to_string().into(),
    ]
}

fn store_row(app: &AppStatus, store: &StoreStatus) -> Vec<Cell> {
    let (style, word) = store.state.map_or((QUIET, "○ stopped"), |now| state(now, true));
    vec![
        format!("{}.{}", name(&app.key), store.name).into(),
        cell(style, word),
        cell(QUIET, store.kind.clone()),
        "-".into(),
        number(store.pid),
        number(store.port),
        "-".into(),
        "-".into(),
        store.restarts.to_string().into(),
        "-".into(),
    ]
}

fn number(value: Option<impl ToString>) -> Cell {
    value.map_or_else(|| "-".into(), |value| value.to_string()).into()
}
