//! What telemetry knows at this moment: what the core says there is, and what requests came to.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use klar_base::AppKey;
use klar_base::lines::Lines;
use klar_base::see::{Pulse, World};

use crate::processes::Processes;
use crate::record::Record;
use crate::red::{Red, Whose};
use crate::routes::Routes;
use crate::sheet::{Kind, Sheet};

/// Series of a release that has gone stay so long: requests that it answered may still be on their way.
const LINGER: Duration = Duration::from_secs(120);

/// Whose an instance is, as labels say it.
#[derive(Debug)]
struct Known {
    service: String,
    release: String,
}

/// See the [module](self).
#[derive(Debug)]
pub struct State {
    world: World,
    pulse: Pulse,
    /// Releases that were there once, and when they were seen last: app and environment, release.
    releases: HashMap<(AppKey, String), Instant>,
    instances: HashMap<String, Known>,
    red: Red,
    routes: BTreeMap<AppKey, Routes>,
    /// How much of them was written down.
    written: BTreeMap<AppKey, u64>,
    processes: Processes,
    records: u64,
    unread: u64,
    begun: Instant,
}

impl Default for State {
    fn default() -> Self {
        Self {
            world: World::default(),
            pulse: Pulse::default(),
            releases: HashMap::new(),
            instances: HashMap::new(),
            red: Red::default(),
            routes: BTreeMap::new(),
            written: BTreeMap::new(),
            processes: Processes::default(),
            records: 0,
            unread: 0,
            begun: Instant::now(),
        }
    }
}

impl State {
    /// What there is.
    pub fn world(&self) -> &World {
        &self.world
    }

    /// Takes in what there is now; `folder` has what was learnt of apps.
    pub fn set_world(&mut self, world: World, folder: &Path) {
        for app in &world.apps {
            self.routes.entry(app.key.clone()).or_insert_with(|| read_routes(folder, &app.key));
            let of_app = app.instances.iter().filter_map(|instance| instance.release.as_ref());
            for release in of_app.chain(&app.release) {
                self.releases.insert((app.key.clone(), release.to_string()), Instant::now());
            }
            for instance in &app.instances {
                let known = Known {
                    service: instance.id.service.to_string(),
                    release: instance.release.as_ref().map(ToString::to_string).unwrap_or_default(),
                };
                self.instances.insert(instance.id.to_string(), known);
            }
        }
        self.world = world;
    }

    /// Forgets an app, until somebody says that it is there.
    pub fn remove(&mut self, key: &AppKey, folder: &Path) {
        self.world.apps.retain(|app| app.key != *key);
        self.routes.remove(key);
        self.written.remove(key);
        // Mostly there is one.
        let _ = fs::remove_file(routes_file(folder, key));
    }

    /// Takes in how the edge fares.
    pub fn set_pulse(&mut self, pulse: Pulse) {
        self.pulse = pulse;
    }

    /// Counts requests, and shows each one with whose it is and its route.
    pub fn count(&mut self, lines: &Lines, mut each: impl FnMut(&Record<'_>, Whose<'_>, &str)) {
        for (app, json) in lines.iter() {
            let Ok(record) = serde_json::from_slice::<Record<'_>>(json) else {
                self.unread += 1;
                continue;
            };
            self.records += 1;
            let known = record.upstream.as_deref().and_then(|upstream| self.instances.get(upstream));
            let (service, release) =
                known.map_or(("", ""), |known| (known.service.as_str(), known.release.as_str()));
            let Some((key, routes)) =
                app.parse().ok().and_then(|key: AppKey| Some((key.clone(), self.routes.get_mut(&key)?)))
            else {
                // Of a host that no app has.
                let whose = Whose { app: "", env: "", service: "", release: "" };
                let route = self.red.count(whose, &record, &mut Routes::default());
                each(&record, whose, &route);
                continue;
            };
            let (app, env) = (key.app.to_string(), key.env.to_string());
            let whose = Whose { app: &app, env: &env, service, release };
            let route = self.red.count(whose, &record, routes);
            each(&record, whose, &route);
        }
    }

    /// Forgets what has gone.
    fn forget(&mut self) {
        let now = Instant::now();
        for app in &self.world.apps {
            let of_app = app.instances.iter().filter_map(|instance| instance.release.as_ref());
            for release in of_app.chain(&app.release) {
                self.releases.insert((app.key.clone(), release.to_string()), now);
            }
        }
        self.releases.retain(|_, seen| now.duration_since(*seen) < LINGER);
        let (releases, world) = (&self.releases, &self.world);
        self.instances.retain(|id, known| {
            let Ok(id) = id.parse::<klar_base::InstanceId>() else { return false };
            known.release.is_empty() || releases.contains_key(&(id.key, known.release.clone()))
        });
        let names: HashMap<(String, String), &AppKey> = world
            .apps
            .iter()
            .map(|app| ((app.key.app.to_string(), app.key.env.to_string()), &app.key))
            .collect();
        self.red.forget(|whose| {
            if whose.app.is_empty() {
                return true;
            }
            let Some(key) = names.get(&(whose.app.to_owned(), whose.env.to_owned())) else { return false };
            whose.release.is_empty() || releases.contains_key(&((*key).clone(), whose.release.to_owned()))
        });
        self.routes.retain(|key, _| names.values().any(|known| *known == key));
    }

    /// Everything, as it is now.
    pub fn collect(&mut self, sheet: &mut Sheet) {
        self.forget();
        self.red.collect(sheet);
        self.processes.collect(&self.world, sheet);
        for app in &self.world.apps {
            let (name, env) = (app.key.app.to_string(), app.key.env.to_string());
            for service in &app.services {
                let of = app.instances.iter().filter(|one| one.id.service == service.name && one.ready);
                let labels = [
                    ("app", &*name),
                    ("env", &*env),
                    ("service", service.name.as_str()),
                    ("kind", &*service.kind),
                ];
                for (name, kind, help, value) in [
                    (
                        "klar_service_instances_wanted",
                        Kind::Gauge,
                        "Instances that there should be.",
                        f64::from(service.wanted),
                    ),
                    (
                        "klar_service_instances_ready",
                        Kind::Gauge,
                        "Instances that are ready for work.",
                        of.count() as f64,
                    ),
                    (
                        "klar_service_restarts_total",
                        Kind::Counter,
                        "Instances that had to be started again.",
                        f64::from(service.restarts),
                    ),
                    (
                        "klar_service_crash_free_ratio",
                        Kind::Gauge,
                        "Of all instances that were started, how many have not had to be started again.",
                        f64::from(service.wanted.max(1))
                            / (f64::from(service.wanted.max(1)) + f64::from(service.restarts)),
                    ),
                ] {
                    sheet.family(name, kind, help).point(&labels, value);
                }
            }
            if let Some(release) = &app.release {
                sheet
                    .family(
                        "klar_release_info",
                        Kind::Gauge,
                        "The release that serves; its value is when it began to.",
                    )
                    .point(
                        &[("app", &name), ("env", &env), ("release", release.as_str())],
                        app.live_since_unix_ms as f64 / 1000.0,
                    );
            }
        }
        for (instance, leases) in &self.pulse.leases {
            sheet
                .family("klar_instance_requests_in_flight", Kind::Gauge, "Requests that it is answering.")
                .point(
                    &[
                        ("app", instance.key.app.as_str()),
                        ("env", instance.key.env.as_str()),
                        ("service", instance.service.as_str()),
                        ("instance", &instance.short()),
                    ],
                    f64::from(*leases),
                );
        }
        sheet.single(
            "klar_edge_connections",
            Kind::Gauge,
            "Connections of visitors that are open.",
            f64::from(self.pulse.connections),
        );
        let dropped = sheet.family(
            "klar_records_dropped_total",
            Kind::Counter,
            "What did not get here: records that the edge dropped, frames of records that the core dropped, lines that \
             were none.",
        );
        dropped.point(&[("by", "edge")], self.pulse.records_dropped as f64);
        dropped.point(&[("by", "core")], self.pulse.frames_dropped as f64);
        dropped.point(&[("by", "see")], self.unread as f64);
        sheet.single(
            "klar_records_total",
            Kind::Counter,
            "Records of requests that came.",
            self.records as f64,
        );
        sheet.single(
            "klar_see_uptime_seconds",
            Kind::Gauge,
            "How long telemetry has been running.",
            self.begun.elapsed().as_secs_f64(),
        );
    }

    /// Writes down what was learnt since the last time.
    ///
    /// # Errors
    /// The disk; it is tried again the next time.
    pub fn write_routes(&mut self, folder: &Path) -> io::Result<()> {
        for (key, routes) in &self.routes {
            if self.written.get(key) == Some(&routes.changes) {
                continue;
            }
            if routes.changes > 0 {
                let path = routes_file(folder, key);
                let mut text = routes.templates().join("\n");
                text.push('\n');
                // What is lost here is learnt again.
                let next = path.with_extension("next");
                fs::create_dir_all(path.parent().unwrap_or(folder))?;
                fs::write(&next, text)?;
                fs::rename(&next, &path)?;
            }
            self.written.insert(key.clone(), routes.changes);
        }
        Ok(())
    }
}

fn routes_file(folder: &Path, key: &AppKey) -> std::path::PathBuf {
    folder.join("routes").join(format!("{key}.txt"))
}

fn read_routes(folder: &Path, key: &AppKey) -> Routes {
    // There may be none yet; one that is damaged is learnt again.
    let text = fs::read_to_string(routes_file(folder, key)).unwrap_or_default();
    Routes::from_templates(text.lines().filter(|line| line.starts_with('/')).take(10_000))
}
