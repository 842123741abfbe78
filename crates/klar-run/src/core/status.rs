//! Everything at a glance, from what is known already: nothing is waited for.

use std::collections::BTreeMap;

use klar_base::{AppKey, InstanceId, ServiceName};

use super::instance::{Instance, Role};
use super::state::{AppState, millis};
use super::{App, Core};
use crate::release::Release;
use crate::report::{
    AppStatus, DrainingEdge, EdgeStatus, Health, HostStatus, InstanceState, InstanceStatus, PreviousRelease,
    Problem, ServiceStatus, StoreStatus,
};
use crate::settings::ServiceSettings;

impl Core {
    pub(super) fn status_now(&self, memory: &BTreeMap<InstanceId, u64>) -> HostStatus {
        let host = self.host.borrow();
        let apps = self.apps.borrow();
        let edge = self.edge_now();
        let known = host.apps.iter().filter_map(|(key, remembered)| Some((key, remembered, apps.get(key)?)));
        HostStatus {
            version: env!("CARGO_PKG_VERSION").into(),
            core_pid: std::process::id(),
            spawner_pid: self.description.pid,
            state_folder: self.layout.root().display().to_string(),
            uptime_ms: millis(self.started.elapsed()),
            edge: EdgeStatus {
                pid: edge.pid,
                listens: self.edge.borrow().listens(),
                cannot_listen: self.edge.borrow().cannot_listen().to_vec(),
                connections: edge.vitals.connections,
                turned_away: edge.vitals.turned_away,
                records_dropped: edge.records_dropped
                    + edge.others.values().map(|other| other.records_dropped).sum::<u64>(),
                restarts: edge.starts.saturating_sub(1),
                sandbox: edge.sandbox.clone(),
                version: edge.version.clone(),
                trouble: self.edge_trouble.borrow().clone(),
                draining: edge
                    .others
                    .values()
                    .filter_map(|other| {
                        Some(DrainingEdge {
                            pid: other.pid,
                            version: other.version.clone(),
                            connections: other.vitals.connections,
                            for_ms: millis(other.draining?.elapsed()),
                        })
                    })
                    .collect(),
            },
            see: self.see.borrow().status(),
            state_format: super::state::FORMAT,
            upgrade: self.upgrade.borrow().as_ref().map(|record| record.seen.clone()),
            apps: known.map(|(key, remembered, app)| self.app_status(key, remembered, app, memory)).collect(),
        }
    }

    fn app_status(
        &self,
        key: &AppKey,
        remembered: &AppState,
        app: &App,
        memory: &BTreeMap<InstanceId, u64>,
    ) -> AppStatus {
        let release = remembered.current.as_ref().and_then(|id| app.releases.get(id));
        let services: Vec<ServiceStatus> = release.map_or_else(Vec::new, |release| {
            let of = |name: &ServiceName| self.service_status(name, release, remembered, app, memory);
            release.config.services.keys().map(of).collect()
        });
        let stores = remembered.stores.iter().map(|(name, store)| {
            let instance =
                app.instances.values().find(|i| i.record.id.service == *name && i.record.role == Role::Store);
            StoreStatus {
                name: name.clone(),
                kind: store.engine.name().into(),
                managed: true,
                state: instance.map(|i| i.state),
                shim_pid: instance.and_then(shim_pid),
                pid: instance.and_then(app_pid),
                port: Some(store.port),
                identity: store.identity.clone(),
                restarts: app.retries.get(&(name.clone(), None)).map_or(0, |retry| retry.total),
            }
        });
        let stores: Vec<StoreStatus> = stores.collect();
        let health = health(remembered, &services, &stores, app);
        let served = release.filter(|_| remembered.wanted);
        let certificates = served.map(|release| self.certificate_status(key, release)).unwrap_or_default();
        let mut problems = problems(app);
        problems.extend(
            served.map(|release| self.certificate_problems(release, &certificates)).unwrap_or_default(),
        );
        problems.extend(self.keep.borrow().problems(key));
        AppStatus {
            key: key.clone(),
            kept: self.keep.borrow().status(key),
            health,
            url: release.map(|release| self.url(key, release)).unwrap_or_default(),
            hosts: release.map(|release| self.hosts(key, release)).unwrap_or_default(),
            release: remembered.current.clone(),
            live_since_unix_ms: remembered.current.is_some().then_some(remembered.live_since_unix_ms),
            previous: remembered.previous.as_ref().map(|previous| PreviousRelease {
                release: previous.release.clone(),
                warm_until_unix_ms: previous.is_warm().then_some(previous.warm_until_unix_ms),
            }),
            deploying: app.busy.clone(),
            services,
            stores,
            problems,
            certificates,
            notes: release.map(|release| release.notes.clone()).unwrap_or_default(),
            totals: self.totals(key),
            // A file that is damaged or missing tells nothing, and is written anew.
            readiness: crate::durable::read_json(&self.layout.readiness(key)).ok().flatten(),
        }
    }

    fn service_status(
        &self,
        name: &ServiceName,
        release: &Release,
        remembered: &AppState,
        app: &App,
        memory: &BTreeMap<InstanceId, u64>,
    ) -> ServiceStatus {
        let edge = self.edge_now();
        let of = |instance: &Instance| {
            let id = &instance.record.id;
            let (leases, requests) = edge.of_instance(id);
            let place = (id.service.clone(), instance.release().cloned());
            Some(InstanceStatus {
                id: id.clone(),
                state: instance.state,
                release: instance.release()?.clone(),
                serving: instance.serving,
                pid: app_pid(instance),
                shim_pid: shim_pid(instance),
                port: instance.record.port.and(instance.listening_port()),
                for_ms: millis(instance.since.elapsed()),
                restarts: app.retries.get(&place).map_or(0, |retry| retry.total),
                memory_bytes: memory.get(id).copied(),
                leases,
                requests,
            })
        };
        let service = release.config.services.get(name);
        ServiceStatus {
            name: name.clone(),
            kind: service.map_or("", ServiceSettings::kind_name).into(),
            wanted: self.wanted_instances(remembered, release, name),
            instances: app
                .instances
                .values()
                .filter(|i| i.record.id.service == *name)
                .filter_map(of)
                .collect(),
        }
    }
}

fn shim_pid(instance: &Instance) -> Option<u32> {
    instance.record.shim.and_then(|(pid, _)| u32::try_from(pid).ok())
}

/// The process of the app as the host sees it. In a namespace of its own the shim knows it by another number.
fn app_pid(instance: &Instance) -> Option<u32> {
    let shim = shim_pid(instance)?;
    let children = std::fs::read_to_string(format!("/proc/{shim}/task/{shim}/children")).ok()?;
    children.split_whitespace().next()?.parse().ok()
}

fn health(remembered: &AppState, services: &[ServiceStatus], stores: &[StoreStatus], app: &App) -> Health {
    if !remembered.wanted {
        return Health::Stopped;
    }
    if remembered.current.is_none() {
        return if app.busy.is_some() { Health::Starting } else { Health::Down };
    }
    let ready = |service: &ServiceStatus| {
        let of_it = service.instances.iter();
        let ready =
            of_it.filter(|i| i.state == InstanceState::Ready && (i.serving || service.kind != "web")).count();
        (ready as u32, service.wanted)
    };
    let counts: Vec<(u32, u32)> = services.iter().map(ready).collect();
    let stores_open = stores.iter().all(|store| store.state == Some(InstanceState::Ready));
    if counts.iter().any(|(ready, wanted)| *ready == 0 && *wanted > 0) {
        let starting = services.iter().flat_map(|s| &s.instances).any(|i| i.state == InstanceState::Starting);
        let looping = app.problems.keys().any(|topic| topic.starts_with("crash "));
        return if starting && !looping { Health::Starting } else { Health::Down };
    }
    if counts.iter().all(|(ready, wanted)| ready >= wanted) && stores_open {
        Health::Up
    } else {
        Health::Degraded
    }
}

fn problems(app: &App) -> Vec<Problem> {
    let mut all: Vec<Problem> = app.problems.values().cloned().collect();
    // A database that is not ours is never tried into a loop, so it is shown at its first failure.
    let stores = app.retries.iter().filter(|((name, release), retry)| {
        release.is_none() && retry.last.is_some() && app.stores.contains(name)
    });
    for ((name, _), retry) in stores {
        let Some(last) = &retry.last else { continue };
        if !app.problems.contains_key(&format!("crash {name}")) {
            all.push(Problem {
                what: last.what.clone(),
                hint: last.hint.clone(),
                output: last.output.clone(),
            });
        }
    }
    all
}
