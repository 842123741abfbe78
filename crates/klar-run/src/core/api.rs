//! The verbs of [`Control`], each a task of its own: whoever asked may go away.

use std::collections::BTreeMap;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use klar_base::look::{Counts, Explained, Wanted};
use klar_base::shadow::Tried;
use klar_base::upstreams::Purge;
use klar_base::{AppKey, InstanceId, ServiceName};
use tokio::sync::mpsc;

use super::Core;
use super::instance::Role;
use super::progress::Progress;
use crate::control::{
    Control, DeployRequest, Events, LogQuery, ReplayRequest, ReplayedRequest, TryRequest, UpgradeRequest,
};
use crate::report::{Failure, Finding, HostStatus, InstanceState, LogLine, Receipt, Upgrade};
use crate::settings::ServiceSettings;
use crate::spawn::{Answer, Request};

/// A core behind the control API.
impl Control for Rc<Core> {
    async fn status(&self) -> HostStatus {
        let ids: Vec<InstanceId> =
            self.apps.borrow().values().flat_map(|app| app.instances.keys().cloned()).collect();
        let spawner = self.spawner.clone();
        let memory = tokio::task::spawn_blocking(move || {
            let usage =
                |id: InstanceId| match spawner.ask_blocking(Request::Usage { group: id.to_string() }, &[]) {
                    Ok((Answer::Usage { usage: Some((bytes, _)) }, _)) => Some((id, bytes)),
                    _ => None,
                };
            ids.into_iter().filter_map(usage).collect::<BTreeMap<_, _>>()
        });
        self.status_now(&memory.await.unwrap_or_default())
    }

    async fn doctor(&self) -> Vec<Finding> {
        self.findings()
    }

    async fn authority(&self) -> Result<String, Failure> {
        Ok(self.authority.pem().to_owned())
    }

    fn uploads(&self) -> &Path {
        &self.uploads
    }

    async fn deploy(&self, key: AppKey, request: DeployRequest) -> Events {
        let core = self.clone();
        operation(|progress| async move { core.deploy_now(&key, request, &progress).await })
    }

    async fn rollback(&self, key: AppKey) -> Events {
        let core = self.clone();
        operation(|progress| async move { core.roll_back(&key, &progress).await })
    }

    async fn restart(&self, key: AppKey, service: Option<ServiceName>) -> Events {
        let core = self.clone();
        operation(|progress| async move { core.restart_now(&key, service.as_ref(), &progress).await })
    }

    async fn scale(&self, key: AppKey, service: ServiceName, instances: u32) -> Events {
        let core = self.clone();
        operation(|progress| async move { core.scale_now(&key, &service, instances, &progress).await })
    }

    async fn take_over(&self, key: AppKey, store: ServiceName, copy: String) -> Events {
        let core = self.clone();
        operation(|progress| async move { core.take_over_now(&key, &store, &copy, &progress).await })
    }

    async fn renew(&self, key: AppKey) -> Events {
        let core = self.clone();
        operation(|progress| async move { core.renew_now(&key, &progress).await })
    }

    async fn down(&self, key: AppKey, purge: bool) -> Events {
        let core = self.clone();
        operation(|progress| async move { core.down_now(&key, purge, &progress).await })
    }

    async fn purge(&self, key: AppKey, what: Purge) -> Result<u64, Failure> {
        self.known(&key)?;
        self.purge_now(key, what).await
    }

    async fn edge_counts(&self) -> Result<Counts, Failure> {
        self.counts_now().await
    }

    async fn edge_explain(&self, wanted: Wanted) -> Result<Explained, Failure> {
        self.explain_now(wanted).await
    }

    async fn replay(&self, key: AppKey, wanted: ReplayRequest) -> Result<ReplayedRequest, Failure> {
        self.known(&key)?;
        self.replay_now(key, wanted).await
    }

    async fn try_rules(&self, key: AppKey, wanted: TryRequest) -> Result<Tried, Failure> {
        self.known(&key)?;
        self.try_rules_now(key, wanted).await
    }

    async fn logs(&self, key: AppKey, query: LogQuery) -> Result<mpsc::Receiver<LogLine>, Failure> {
        self.clone().read_logs(&key, query)
    }

    async fn loaded(&self, key: AppKey) -> Result<PathBuf, Failure> {
        let current = self
            .current(&key)
            .ok_or_else(|| Failure::new(format!("{key} is not up")).hint("start it with `klar up`"))?;
        Ok(self.layout.release(&key, &current).join("files/klar.toml"))
    }

    async fn upgrade(&self, wanted: UpgradeRequest) -> Result<Upgrade, Failure> {
        self.begin_upgrade(wanted)
    }

    async fn stop(&self) -> Events {
        let core = self.clone();
        operation(|progress| async move { core.stop_now(&progress).await })
    }
}

fn operation<F>(run: impl FnOnce(Progress) -> F) -> Events
where
    F: Future<Output = Result<Receipt, Failure>> + 'static,
{
    let (progress, events) = Progress::channel();
    let work = run(progress.clone());
    tokio::task::spawn_local(async move {
        let result = work.await;
        progress.finish(result).await;
    });
    events
}

const STOP_PATIENCE: Duration = Duration::from_secs(120);
/// How long requests in flight may take when everything is stopped.
const EDGE_PATIENCE: Duration = Duration::from_secs(5);
/// How long after that an edge is killed that is still there.
const EDGE_OVERDUE: Duration = Duration::from_secs(5);

impl Core {
    pub(super) fn known(&self, key: &AppKey) -> Result<(), Failure> {
        if self.host.borrow().apps.contains_key(key) {
            return Ok(());
        }
        let others: Vec<String> = self.host.borrow().apps.keys().map(ToString::to_string).collect();
        let failure = Failure::new(format!("there is no app {key} here"));
        Err(match others[..] {
            [] => failure.hint("start one with `klar up` in its folder"),
            _ => failure.hint(format!("those that there are: {}", others.join(", "))),
        })
    }

    /// A new instance for each old one, one at a time, so that there are never fewer than before.
    async fn restart_now(
        self: &Rc<Self>,
        key: &AppKey,
        service: Option<&ServiceName>,
        progress: &Progress,
    ) -> Result<Receipt, Failure> {
        self.known(key)?;
        let _busy = self.begin(key, "restart")?;
        let before = self.before(key, "restart");
        let current = self.current(key).ok_or_else(|| Failure::new(format!("{key} is not up")))?;
        let release = self.release(key, &current)?;
        if let Some(name) = service {
            self.service(&release, name)?;
        }
        let old: Vec<InstanceId> = self.apps.borrow().get(key).map_or_else(Vec::new, |app| {
            let of_it = app.instances.values().filter(|i| i.release() == Some(&current) && i.is_alive());
            let wanted = of_it
                .map(|i| i.record.id.clone())
                .filter(|id| service.is_none_or(|name| *name == id.service));
            wanted.collect()
        });
        for id in old {
            let step = progress.step("restart", id.short());
            let overlap = !release.has_own_port(&id.service)
                && release.config.services.get(&id.service).is_some_and(ServiceSettings::is_web);
            let successor = if overlap {
                let successor = self
                    .plan_instance(key, &id.service, Role::Service { release: current.clone() })
                    .map_err(|error| Failure::new(error.to_string()))?;
                // The newest of too many would be stopped again, so the old one makes room first, in name only.
                self.with_instance(&id, |instance| instance.leaving = true);
                self.clone().bring_up(successor.clone()).await;
                Some(successor)
            } else {
                None
            };
            if let Some(successor) = &successor
                && self.with_instance(successor, |i| i.state == InstanceState::Ready) != Some(true)
            {
                self.with_instance(&id, |instance| instance.leaving = false);
                let place = (id.service.clone(), Some(current.clone()));
                let last = self.apps.borrow().get(key).and_then(|app| app.retries.get(&place)?.last.clone());
                return Err(last.unwrap_or_else(|| {
                    Failure::new(format!("the successor of {} did not start", id.short()))
                }));
            }
            self.retire_now(&id).await;
            self.wait_for(STOP_PATIENCE, |core| core.with_instance(&id, |_| ()).is_none().then_some(()))
                .await;
            if successor.is_none() {
                let count = |core: &Self| {
                    let apps = core.apps.borrow();
                    let ready = apps.get(key)?.instances.values().filter(|i| {
                        i.record.id.service == id.service
                            && i.state == InstanceState::Ready
                            && i.release() == Some(&current)
                    });
                    (ready.count() > 0).then_some(())
                };
                self.wait_for(STOP_PATIENCE, count).await;
            }
            step.end(match successor {
                Some(successor) => format!("{} took the place of {}", successor.short(), id.short()),
                None => format!("{} was replaced", id.short()),
            });
        }
        Ok(self.receipt(key, before, None).await)
    }

    async fn scale_now(
        self: &Rc<Self>,
        key: &AppKey,
        name: &ServiceName,
        instances: u32,
        progress: &Progress,
    ) -> Result<Receipt, Failure> {
        self.known(key)?;
        let _busy = self.begin(key, "scale")?;
        let before = self.before(key, "scale");
        let current = self.current(key).ok_or_else(|| Failure::new(format!("{key} is not up")))?;
        let release = self.release(key, &current)?;
        let service = self.service(&release, name)?;
        let max = service.instances.max.max(1);
        if release.has_own_port(name) && instances > 1 {
            return Err(Failure::new(format!(
                "`{name}` insists on a port of its own, so there can be one instance only"
            ))
            .hint("let it listen on the port in the variable PORT"));
        }
        if instances == 0 || instances > max {
            return Err(Failure::new(format!("`{name}` may have 1 to {max} instances, not {instances}"))
                .hint(format!("change `instances` in [services.{name}]; `klar down` stops an app")));
        }
        let step = progress.step("scale", format!("{name} to {instances}"));
        self.remember(|host| {
            if let Some(app) = host.apps.get_mut(key) {
                app.scale.insert(name.clone(), instances);
            }
        })
        .map_err(|error| super::deploy::disk_failure("the number could not be noted", &error))?;
        self.changed();
        let done = self.wait_for(service.ready_timeout.0 + STOP_PATIENCE, |core| {
            let apps = core.apps.borrow();
            let app = apps.get(key)?;
            let of_it = || {
                app.instances
                    .values()
                    .filter(|i| i.record.id.service == *name && i.release() == Some(&current))
            };
            let failed =
                app.retries.get(&(name.clone(), Some(current.clone()))).filter(|retry| retry.is_loop());
            if let Some(last) = failed.and_then(|retry| retry.last.clone()) {
                return Some(Err(last));
            }
            let ready = of_it().filter(|i| i.state == InstanceState::Ready).count();
            (ready == instances as usize && of_it().count() == ready).then_some(Ok(()))
        });
        done.await.unwrap_or_else(|| {
            Err(Failure::new(format!("`{name}` did not get {instances} instances in time")))
        })?;
        step.end(format!("{instances} instances, healthy"));
        Ok(self.receipt(key, before, None).await)
    }

    async fn down_now(
        self: &Rc<Self>,
        key: &AppKey,
        purge: bool,
        progress: &Progress,
    ) -> Result<Receipt, Failure> {
        self.known(key)?;
        let _busy = self.begin(key, "down")?;
        let before = self.before(key, "down");
        let step = progress.step("stop", key.to_string());
        self.remember(|host| {
            if let Some(app) = host.apps.get_mut(key) {
                app.wanted = false;
            }
        })
        .map_err(|error| super::deploy::disk_failure("it could not be noted", &error))?;
        self.changed();
        let gone = self.wait_for(STOP_PATIENCE, |core| {
            core.apps.borrow().get(key).is_none_or(|app| app.instances.is_empty()).then_some(())
        });
        if gone.await.is_none() {
            return Err(Failure::new(format!(
                "some of {key} did not stop within {} s",
                STOP_PATIENCE.as_secs()
            ))
            .hint("`klar ps` shows what is left"));
        }
        step.end("no process of it is left");
        let receipt = self.receipt(key, before, None).await;
        if purge {
            let step = progress.step("purge", "releases, logs, folders and databases");
            self.access.close(key);
            let problem =
                |error: std::io::Error| super::deploy::disk_failure("something could not be removed", &error);
            let data = self.layout.root().join("data").join(key.to_string());
            for path in [self.layout.app(key), data] {
                self.spawner.tell(Request::Remove { path }).await.map_err(problem)?;
            }
            self.remember(|host| host.apps.remove(key)).map_err(problem)?;
            self.apps.borrow_mut().remove(key);
            self.see.borrow().forget(key);
            step.end(match self.put_aside(key) {
                Ok(None) => "removed".into(),
                Ok(Some(kept)) => {
                    format!("removed; its backups are in {}, until you remove them", kept.display())
                }
                Err(error) => format!("removed; its backups are where they were: {error}"),
            });
        }
        Ok(receipt)
    }

    /// Backups outlive what they are of: the next app of this name begins new ones beside them.
    fn put_aside(&self, key: &AppKey) -> std::io::Result<Option<std::path::PathBuf>> {
        self.keep.borrow_mut().end(key);
        let kept = self.layout.keep(key);
        if !kept.exists() {
            return Ok(None);
        }
        let aside = kept.with_file_name(format!("{key}.purged-{}", super::state::unix_ms()));
        std::fs::rename(&kept, &aside)?;
        Ok(Some(aside))
    }

    /// Sees to it that no edge keeps this core from ending.
    fn end_edges(self: Rc<Self>) {
        tokio::task::spawn_local(async move {
            tokio::time::sleep(EDGE_PATIENCE + EDGE_OVERDUE).await;
            let left = self.edge.borrow().processes();
            for pid in left.into_iter().filter_map(|pid| i32::try_from(pid).ok()) {
                eprintln!("klar core: the edge (pid {pid}) does not end; it is killed");
                if let Some(started_ticks) = crate::spawn::started_ticks(pid) {
                    let signal = nix::sys::signal::Signal::SIGKILL as i32;
                    // Gone already is what was wanted.
                    let _ = self.spawner.tell(Request::Signal { pid, started_ticks, signal }).await;
                }
            }
        });
    }

    async fn stop_now(self: &Rc<Self>, progress: &Progress) -> Result<Receipt, Failure> {
        let step = progress.step("stop", "all apps");
        let started = std::time::Instant::now();
        self.finishing.set(true);
        self.changed();
        let empty = self.wait_for(STOP_PATIENCE, |core| {
            core.apps.borrow().values().all(|app| app.instances.is_empty()).then_some(())
        });
        if empty.await.is_none() {
            self.finishing.set(false);
            return Err(Failure::new("some instances did not stop").hint("`klar ps` shows what is left"));
        }
        self.edge.borrow().stop(EDGE_PATIENCE);
        self.clone().end_edges();
        step.end("no process is left");
        Ok(Receipt {
            operation: "stop".into(),
            key: super::upgrade::host_key(),
            from: None,
            to: None,
            started_unix_ms: super::state::unix_ms(),
            duration_ms: super::state::millis(started.elapsed()),
            switch_ms: None,
            requests: 0,
            failed_requests: 0,
            app_errors: 0,
            url: String::new(),
            notes: Vec::new(),
        })
    }
}
