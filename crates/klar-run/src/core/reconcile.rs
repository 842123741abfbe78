//! What should run, compared with what does: the difference is started or stopped.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::{Duration, Instant};

use klar_base::{AppKey, InstanceId, ReleaseId, ServiceName};

use super::instance::Role;
use super::{App, Core, state::AppState};
use crate::release::Release;
use crate::report::InstanceState;
use crate::settings::ServiceSettings;

/// A place to be filled: a service of a release, or a store.
type Place = (ServiceName, Option<ReleaseId>);

impl Core {
    /// Starts what is missing and stops what is too much. Cheap when all is well; called after every change.
    pub(super) fn reconcile(self: &Rc<Self>) {
        let keys: Vec<AppKey> = self.apps.borrow().keys().cloned().collect();
        for key in keys {
            let (missing, surplus) =
                self.with_app(&key, |app, remembered| self.difference(app, remembered)).unwrap_or_default();
            for (service, release) in missing {
                let role = release.map_or(Role::Store, |release| Role::Service { release });
                match self.plan_instance(&key, &service, role) {
                    Ok(id) => {
                        tokio::task::spawn_local(self.clone().bring_up(id));
                    }
                    Err(error) => {
                        let topic = "disk".to_owned();
                        let what = format!("`{service}` cannot be started: {error}");
                        let hint = "free some space on the disk; klar tries again by itself".to_owned();
                        self.problem(
                            &key,
                            &topic,
                            crate::report::Problem { what, hint: Some(hint), output: vec![] },
                        );
                        let mut apps = self.apps.borrow_mut();
                        if let Some(app) = apps.get_mut(&key) {
                            let retry = app.retries.entry((service, None)).or_default();
                            retry.not_before = Some(Instant::now() + Duration::from_secs(1));
                        }
                    }
                }
            }
            for id in surplus {
                self.with_instance(&id, |instance| {
                    instance.turn(InstanceState::Stopping);
                    instance.serving = false;
                });
                tokio::task::spawn_local(self.clone().retire(id));
            }
        }
        self.keep_edge();
        self.publish();
        self.keep_edge_current();
        self.settle_upgrade();
        self.keep_see();
        self.keep_data();
    }

    /// (places with too few instances, once for each that is missing; instances that nobody wants).
    fn difference(&self, app: &App, remembered: &AppState) -> (Vec<Place>, Vec<InstanceId>) {
        let places = self.places(app, remembered);
        let mut missing = Vec::new();
        let mut surplus = Vec::new();
        let now = Instant::now();
        for (place, wanted) in &places {
            let alive =
                app.instances.values().filter(|i| i.is_alive() && !i.leaving && place_of(i) == *place);
            let mut alive: Vec<_> = alive.map(|i| (i.serving, i.state, i.record.id.clone())).collect();
            let due = app.retries.get(place).is_none_or(|retry| retry.is_due(now));
            let own_port = place
                .1
                .as_ref()
                .and_then(|id| app.releases.get(id))
                .is_some_and(|r| r.has_own_port(&place.0));
            // With a port of its own, the one before must be gone; with a store, its lock.
            let room = !(place.1.is_none() || own_port)
                || app
                    .instances
                    .values()
                    .all(|i| i.record.id.service != place.0 || i.record.role == Role::Job);
            if alive.len() < *wanted as usize && due && room && self.may_start(app, remembered, place) {
                missing.extend(std::iter::repeat_n(place.clone(), *wanted as usize - alive.len()));
            }
            // The least useful go first: not serving, not ready, newest.
            alive.sort_by_key(|(serving, state, id)| (!serving, *state != InstanceState::Ready, id.number));
            surplus.extend(alive.into_iter().skip(*wanted as usize).map(|(_, _, id)| id));
        }
        let unwanted = app.instances.values().filter(|instance| {
            instance.is_alive()
                && instance.record.role != Role::Job
                && !places.contains_key(&place_of(instance))
        });
        surplus.extend(unwanted.map(|instance| instance.record.id.clone()));
        (missing, surplus)
    }

    /// Services wait until their databases have answered once; after that they are started on their own.
    fn may_start(&self, app: &App, remembered: &AppState, place: &Place) -> bool {
        if place.1.is_none() {
            return remembered.stores.get(&place.0).is_some_and(|store| store.initialised);
        }
        app.stores.iter().all(|name| {
            app.instances.values().any(|i| i.record.id.service == *name && i.state == InstanceState::Ready)
                || app.retries.get(&(name.clone(), None)).is_some_and(|retry| retry.total > 0)
        })
    }

    /// Every place that should be filled, and with how many.
    fn places(&self, app: &App, remembered: &AppState) -> BTreeMap<Place, u32> {
        let mut places = BTreeMap::new();
        if !remembered.wanted || self.finishing.get() {
            return places;
        }
        let of = |release: &Release| -> Vec<(ServiceName, u32)> {
            let names = release.config.services.keys().cloned();
            names.map(|name| (name.clone(), self.wanted_instances(remembered, release, &name))).collect()
        };
        let mut fill = |id: &ReleaseId, keep: &dyn Fn(&ServiceName) -> bool| {
            let Some(release) = app.releases.get(id) else { return };
            for (name, count) in of(release) {
                if count > 0 && keep(&name) {
                    places.insert((name, Some(id.clone())), count);
                }
            }
        };
        if let Some(current) = &remembered.current {
            fill(current, &|name| !app.suspended.contains(name));
        }
        if let Some((arriving, services)) = &app.arriving {
            fill(arriving, &|name| services.contains(name));
        }
        if let Some(previous) = remembered.previous.as_ref().filter(|previous| previous.is_warm()) {
            let release = app.releases.get(&previous.release).cloned();
            // Only what can stand beside its successor: no port of its own, and no work taken from a queue.
            let beside = |name: &ServiceName| {
                release.as_ref().is_some_and(|release| {
                    release.config.services.get(name).is_some_and(ServiceSettings::is_web)
                        && !release.has_own_port(name)
                })
            };
            if app.arriving.is_none() {
                fill(&previous.release, &beside);
            }
        }
        for name in app.stores.iter().filter(|name| !app.suspended.contains(*name)) {
            places.insert((name.clone(), None), 1);
        }
        places
    }

    /// Takes an instance out of service now.
    pub(super) async fn retire_now(self: &Rc<Self>, id: &InstanceId) {
        self.with_instance(id, |instance| {
            instance.turn(InstanceState::Stopping);
            instance.serving = false;
        });
        self.clone().retire(id.clone()).await;
    }

    /// Takes an instance out of service in good order: no new requests, none left, then a signal.
    async fn retire(self: Rc<Self>, id: InstanceId) {
        let (drain, stop) = self.patience(&id);
        let is_store =
            self.with_instance(&id, |instance| instance.record.role == Role::Store).unwrap_or(true);
        if is_store {
            // Databases go last: what uses them is on its way out already.
            let others = |core: &Self| {
                let apps = core.apps.borrow();
                let app = apps.get(&id.key)?;
                let is_last = app.instances.values().all(|i| i.record.role == Role::Store);
                // One that makes room for a copy of itself waits for nobody.
                (is_last || app.suspended.contains(&id.service)).then_some(())
            };
            self.wait_for(drain + stop, others).await;
        } else {
            self.publish();
            self.drained(&id, drain).await;
        }
        self.with_instance(&id, |instance| instance.ask_to_stop(stop));
        self.changed();
    }

    /// (how long requests in flight may take, how long the process may take to end).
    fn patience(&self, id: &InstanceId) -> (Duration, Duration) {
        const STORE: Duration = Duration::from_secs(30);
        let apps = self.apps.borrow();
        let release = apps.get(&id.key).and_then(|app| {
            let instance = app.instances.get(id)?;
            app.releases.get(instance.release()?)
        });
        let Some(release) = release else { return (STORE, STORE) };
        let stop = release.config.services.get(&id.service).map_or(STORE, |service| service.stop_timeout.0);
        (release.config.deploy.drain.0, stop)
    }

    /// Waits until the edge has no request left at an instance.
    pub(super) async fn drained(&self, id: &InstanceId, patience: Duration) -> bool {
        let generation = self.generation.get();
        let empty = |core: &Self| core.edge_now().has_left(id, generation).then_some(());
        self.wait_for(patience, empty).await.is_some()
    }

    /// The clock: cron services, the warm release that cools down, and everything that waits for its time.
    pub(super) fn tick(self: &Rc<Self>) {
        self.run_due_cron();
        let cold: Vec<AppKey> = {
            let host = self.host.borrow();
            let cold = host.apps.iter().filter(|(_, app)| {
                app.previous
                    .as_ref()
                    .is_some_and(|previous| previous.warm_until_unix_ms != 0 && !previous.is_warm())
            });
            cold.map(|(key, _)| key.clone()).collect()
        };
        for key in cold {
            // Zero says that it is cold for good; the instances go because no place wants them.
            let cooled = self.remember(|host| {
                if let Some(previous) = host.apps.get_mut(&key).and_then(|app| app.previous.as_mut()) {
                    previous.warm_until_unix_ms = 0;
                }
            });
            if let Err(error) = cooled {
                eprintln!("klar core: {error}");
            }
        }
    }
}

fn place_of(instance: &super::instance::Instance) -> Place {
    (instance.record.id.service.clone(), instance.release().cloned())
}
