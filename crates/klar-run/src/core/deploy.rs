//! From an upload to a release that serves, and back.
//!
//! The order is the promise: unpack, build, databases, migration, start beside the old, switch, remember. Until
//! the new release is remembered as the current one, a kill at any point leaves the old one serving: the next core
//! starts from what is remembered.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::rc::Rc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use klar_base::{AppKey, InstanceId, ReleaseId, ServiceName};
use klar_config::Config;
use klar_store::Ledger;

use super::Core;
use super::jobs::Job;
use super::progress::Progress;
use super::state::{Previous, millis, unix_ms};
use crate::control::DeployRequest;
use crate::release::{self, Release};
use crate::report::{Failure, InstanceState, Receipt};
use crate::settings::{self, ServiceSettings, shell};
use crate::spawn::users::Identity;
use crate::spawn::{Request, app_identity};
use crate::store::{Engine, Store};

/// So many starts of a new release may fail before it is refused: one may be bad luck.
const STARTS: u32 = 3;
/// How long a database may need for its first answer.
const STORES_PATIENCE: Duration = Duration::from_secs(150);

/// Frees an app for the next operation, also when this one panics.
pub(super) struct Busy {
    core: Rc<Core>,
    key: AppKey,
}

impl Drop for Busy {
    fn drop(&mut self) {
        if let Some(app) = self.core.apps.borrow_mut().get_mut(&self.key) {
            app.busy = None;
        }
        self.core.changed();
    }
}

/// What stood where when an operation began, for its receipt.
pub(super) struct Before {
    operation: &'static str,
    started: Instant,
    started_unix_ms: u64,
    from: Option<ReleaseId>,
    totals: klar_base::signal::Totals,
    edge_starts: u64,
}

impl Core {
    /// One operation at a time for each app.
    pub(super) fn begin(self: &Rc<Self>, key: &AppKey, operation: &str) -> Result<Busy, Failure> {
        let mut apps = self.apps.borrow_mut();
        let app = apps.entry(key.clone()).or_default();
        if let Some(other) = &app.busy {
            return Err(Failure::new(format!("{key} is busy: {other}"))
                .hint("wait for it (`klar status` shows how far it is), then try again"));
        }
        app.busy = Some(operation.into());
        Ok(Busy { core: self.clone(), key: key.clone() })
    }

    pub(super) fn before(&self, key: &AppKey, operation: &'static str) -> Before {
        Before {
            operation,
            started: Instant::now(),
            started_unix_ms: unix_ms(),
            from: self.current(key),
            totals: self.totals(key),
            edge_starts: self.edge_now().starts,
        }
    }

    /// The receipt, written to the ledger as well.
    pub(super) async fn receipt(&self, key: &AppKey, before: Before, switch: Option<Duration>) -> Receipt {
        let now = self.settled_totals(key).await;
        let same_edge = before.edge_starts == self.edge_now().starts;
        // A new edge counts from zero.
        let base = if same_edge { before.totals } else { klar_base::signal::Totals::default() };
        let current = self.current(key);
        let release = current.as_ref().and_then(|id| self.release(key, id).ok());
        let receipt = Receipt {
            operation: before.operation.into(),
            key: key.clone(),
            from: before.from,
            to: current,
            started_unix_ms: before.started_unix_ms,
            duration_ms: millis(before.started.elapsed()),
            switch_ms: switch.map(millis),
            requests: now.requests.saturating_sub(base.requests),
            failed_requests: now.failed.saturating_sub(base.failed),
            app_errors: now.app_errors.saturating_sub(base.app_errors),
            url: release.as_ref().map(|release| self.url(key, release)).unwrap_or_default(),
            notes: release.map(|release| release.notes.clone()).unwrap_or_default(),
        };
        let kept = Ledger::open(&self.layout.ledger())
            .and_then(|ledger| ledger.append(Timestamp::now(), [("receipt", key.to_string(), &receipt)]));
        if let Err(error) = kept {
            eprintln!("klar core: the receipt could not be kept: {error}");
        }
        receipt
    }

    /// The totals once the edge has spoken again, so that the last requests are counted.
    async fn settled_totals(&self, key: &AppKey) -> klar_base::signal::Totals {
        const PATIENCE: Duration = Duration::from_millis(1200);
        let before = self.totals(key);
        self.wait_for(PATIENCE, |core| {
            let now = core.totals(key);
            (now != before).then_some(now)
        })
        .await
        .unwrap_or(before)
    }

    pub(super) fn current(&self, key: &AppKey) -> Option<ReleaseId> {
        self.host.borrow().apps.get(key).and_then(|app| app.current.clone())
    }

    /// `klar up` and `klar deploy`.
    pub(super) async fn deploy_now(
        self: &Rc<Self>,
        key: &AppKey,
        request: DeployRequest,
        progress: &Progress,
    ) -> Result<Receipt, Failure> {
        let operation = if request.first { "up" } else { "deploy" };
        let _busy = self.begin(key, operation)?;
        let before = self.before(key, operation);
        let current = self.current(key);
        let wanted = self.host.borrow().apps.get(key).is_some_and(|app| app.wanted);
        match (request.first, &current, wanted) {
            (true, Some(release), true) => {
                return Err(Failure::new(format!("{key} is already up, with release {}", release.short()))
                    .hint("`klar deploy` ships what has changed; `klar status` shows how it is"));
            }
            (false, None, _) | (false, _, false) => {
                return Err(Failure::new(format!("{key} is not up yet")).hint("start it with `klar up`"));
            }
            _ => {}
        }
        let result = self.put_in_place(key, &request, progress).await;
        let _ = std::fs::remove_file(self.upload_path(&request.upload));
        match result {
            Ok(switch) => {
                self.retry_certificates(key);
                Ok(self.receipt(key, before, switch).await)
            }
            Err(mut failure) => {
                self.withdraw(key);
                failure.now = Some(match self.current(key) {
                    Some(release) if wanted => format!("release {} serves on, untouched", release.short()),
                    _ => format!("{key} is not up"),
                });
                Err(failure)
            }
        }
    }

    pub(super) fn upload_path(&self, upload: &str) -> PathBuf {
        let plain: String = upload.chars().filter(char::is_ascii_alphanumeric).collect();
        self.uploads.join(plain)
    }

    /// A release that did not make it leaves no trace among what should run.
    fn withdraw(&self, key: &AppKey) {
        if let Some(app) = self.apps.borrow_mut().get_mut(key) {
            app.arriving = None;
            app.suspended.clear();
        }
        // An app that never had a release has nothing that its databases could serve.
        if self.current(key).is_none()
            && let Some(app) = self.apps.borrow_mut().get_mut(key)
        {
            app.stores.clear();
        }
        self.changed();
    }

    async fn put_in_place(
        self: &Rc<Self>,
        key: &AppKey,
        request: &DeployRequest,
        progress: &Progress,
    ) -> Result<Option<Duration>, Failure> {
        self.make_folders(key).await?;
        let (release, fresh) = self.take_in(key, request, progress).await?;
        self.keep_client_authorities(key, &release)?;
        if self.current(key).as_ref() == Some(&release.id)
            && self.host.borrow().apps.get(key).is_some_and(|app| app.wanted)
        {
            if self.keep_given(key, &release, request, |note| progress.note(note))? {
                self.publish_and_wait().await?;
                progress.note("the new certificate of `edge.certificate` serves".to_owned());
            }
            // What was brought back after a start may have found its ports taken.
            self.listen(key, &release).await?;
            progress.note(format!("release {} serves already: nothing has changed", release.id.short()));
            return Ok(None);
        }
        self.keep_given(key, &release, request, |note| progress.note(note))?;
        // Ports first: a taken port should not cost a build.
        self.listen(key, &release).await?;
        if fresh {
            self.build(key, &release, progress).await?;
        }
        for note in &release.notes {
            progress.note(note);
        }
        self.stores(key, &release, progress).await?;
        self.migrate(key, &release, progress).await?;
        self.roll_out(key, &release.id, progress).await.map(Some)
    }

    async fn make_folders(&self, key: &AppKey) -> Result<(), Failure> {
        let problem = |error: std::io::Error| disk_failure("the app's folders could not be made", &error);
        let (core, app) = (Identity::Core, app_identity(key));
        for (path, owner, group, mode) in [
            (self.layout.app(key), &core, &app, 0o750),
            (self.layout.releases(key), &core, &core, 0o755),
            (self.layout.writable(key), &core, &core, 0o755),
            (self.layout.app(key).join("tmp"), &core, &core, 0o711),
            (self.layout.app(key).join("logs"), &core, &core, 0o711),
            (self.layout.app(key).join("access"), &core, &core, 0o700),
            (self.layout.home(key), &app, &app, 0o700),
        ] {
            self.spawner.folder(path, owner.clone(), group.clone(), mode).await.map_err(problem)?;
        }
        // Databases have a user of their own, which must be able to reach its logs and its tmp.
        let (path, group) = (self.layout.app(key), app.clone());
        let open = if self.description.root { 0o751 } else { 0o750 };
        self.spawner.folder(path, core, group, open).await.map_err(problem)
    }

    /// Unpacks and names. `true`: it is new here and has to be built.
    async fn take_in(
        self: &Rc<Self>,
        key: &AppKey,
        request: &DeployRequest,
        progress: &Progress,
    ) -> Result<(Rc<Release>, bool), Failure> {
        let step = progress.step("unpack", "the upload");
        let incoming = self.layout.releases(key).join(".incoming");
        self.spawner
            .tell(Request::Remove { path: incoming.clone() })
            .await
            .map_err(|error| disk_failure("an old upload could not be removed", &error))?;
        let (archive, folder) = (self.upload_path(&request.upload), incoming.join("files"));
        let unpacked = tokio::task::spawn_blocking(move || {
            let digest = release::unpack(&archive, &folder)?;
            Ok::<_, Failure>((digest, folder))
        });
        let (digest, folder) = unpacked.await.map_err(|error| Failure::new(error.to_string()))??;
        let loaded = Config::load(&folder, &key.env).map_err(|errors| {
            Failure::new(errors.to_string()).hint("mend klar.toml; nothing has been changed")
        })?;
        let config = loaded.config;
        if config.app.name != key.app {
            return Err(Failure::new(format!(
                "this klar.toml is for `{}`, not for `{}`",
                config.app.name, key.app
            )));
        }
        let problem = |error: std::io::Error| disk_failure("the release could not be kept", &error);
        let id = release::name(&digest, &config, &request.secrets).map_err(problem)?;
        if let Ok(known) = self.release(key, &id) {
            let _ = self.spawner.tell(Request::Remove { path: incoming }).await;
            step.end(format!("release {} is known", id.short()));
            return Ok((known, false));
        }
        let place = self.layout.release(key, &id);
        self.spawner.tell(Request::Remove { path: place.clone() }).await.map_err(problem)?;
        std::fs::rename(&incoming, &place).map_err(problem)?;
        let notes = loaded.notes.iter().map(|note| note.message.clone()).collect();
        let release = Release {
            id: id.clone(),
            config,
            secrets: request.secrets.clone(),
            notes,
            built_unix_ms: unix_ms(),
            own_ports: BTreeMap::new(),
        };
        self.place_writable(key, &release).await?;
        step.end(format!("release {}", id.short()));
        Ok((Rc::new(release), true))
    }

    /// The declared folders live beside the releases; a link in each release leads there. What the upload has in
    /// such a folder is its content the first time.
    async fn place_writable(&self, key: &AppKey, release: &Release) -> Result<(), Failure> {
        let files = self.layout.release(key, &release.id).join("files");
        let problem = |error: std::io::Error| disk_failure("a writable folder could not be made", &error);
        let folders: BTreeSet<PathBuf> = release
            .config
            .services
            .values()
            .flat_map(|service| service.writable.iter().map(|folder| folder.as_path().to_owned()))
            .collect();
        for folder in folders {
            let (inside, outside) = (files.join(&folder), self.layout.writable(key).join(&folder));
            if let Some(parent) = outside.parent() {
                std::fs::create_dir_all(parent).map_err(problem)?;
            }
            if outside.exists() {
                self.spawner.tell(Request::Remove { path: inside.clone() }).await.map_err(problem)?;
            } else if inside.is_dir() {
                std::fs::rename(&inside, &outside).map_err(problem)?;
            } else {
                std::fs::create_dir(&outside).map_err(problem)?;
            }
            if let Some(parent) = inside.parent() {
                std::fs::create_dir_all(parent).map_err(problem)?;
            }
            std::os::unix::fs::symlink(&outside, &inside).map_err(problem)?;
            let give = Request::Give { path: outside, owner: app_identity(key) };
            self.spawner.tell(give).await.map_err(problem)?;
        }
        Ok(())
    }

    async fn listen(self: &Rc<Self>, key: &AppKey, release: &Release) -> Result<(), Failure> {
        for (address, tls) in self.addresses(key, release) {
            let bound = self.edge.borrow_mut().listen(address, tls);
            let Err(error) = bound else { continue };
            // A machine without IPv6 is served over IPv4.
            if address.is_ipv6() && error.kind() == std::io::ErrorKind::AddrNotAvailable {
                continue;
            }
            let port = address.port();
            let name = if tls { "https_port" } else { "http_port" };
            return Err(match error.kind() {
                std::io::ErrorKind::AddrInUse => {
                    let owner = super::edge_link::port_owner(&self.spawner, port).await;
                    let owner = owner.unwrap_or_else(|| "another process".into());
                    Failure::new(format!("port {port} is taken by {owner}")).hint(format!(
                        "stop {owner}, or choose another port: `[edge] {name} = ...` in klar.toml"
                    ))
                }
                std::io::ErrorKind::PermissionDenied => Failure::new(format!(
                    "port {port} may only be used by root"
                ))
                .hint(format!("start klar as root, or choose a port above 1023: `[edge] {name} = ...`")),
                _ => Failure::new(format!("listening at {address}: {error}")),
            });
        }
        Ok(())
    }

    /// Runs the builds in the release's folder, as the app's user, and closes it behind them.
    async fn build(
        self: &Rc<Self>,
        key: &AppKey,
        release: &Rc<Release>,
        progress: &Progress,
    ) -> Result<(), Failure> {
        let place = self.layout.release(key, &release.id);
        let files = place.join("files");
        let problem = |error: std::io::Error| disk_failure("the release could not be closed", &error);
        let builds: Vec<_> =
            release.config.services.iter().filter(|(_, service)| service.build.is_some()).collect();
        if !builds.is_empty() {
            let give = Request::Give { path: files.clone(), owner: app_identity(key) };
            self.spawner.tell(give).await.map_err(problem)?;
        }
        let mut done: BTreeSet<String> = BTreeSet::new();
        for (name, service) in builds {
            let Some(command) = &service.build else { continue };
            // Two services of one folder often have one build.
            if !done.insert(command.to_string()) {
                continue;
            }
            let step = progress.step("build", command.to_string());
            let spec = |id: &InstanceId| {
                let env = self.environment(id, release, service)?;
                let mut spec = self.spec(id, release, service, shell(&command.for_shell()), env);
                if let Some(writable) = &mut spec.writable {
                    writable.push(files.clone());
                }
                Ok(spec)
            };
            let what = format!("the build of `{name}`");
            let limits = crate::limits::Limits::default();
            let job = Job { key, service: name, identity: app_identity(key), limits, what: &what };
            self.run_job(job, Some(progress), spec).await.map_err(|failure| {
                hint_unless(failure, format!("run `{command}` yourself in the app's folder to see why"))
            })?;
            step.end(command.to_string());
        }
        self.spawner.tell(Request::Freeze { path: files.clone() }).await.map_err(problem)?;
        self.reopen_writable(key, release).await.map_err(problem)?;
        self.prepare_assets(key, release, progress).await;
        let (folder, kept) = (place.clone(), Release::clone(release));
        tokio::task::spawn_blocking(move || {
            // One flush for the whole tree, then the file that says that the tree is whole.
            let opened = std::fs::File::open(&folder)?;
            nix::unistd::syncfs(&opened)?;
            kept.write(&folder)
        })
        .await
        .map_err(|error| Failure::new(error.to_string()))?
        .map_err(problem)?;
        if let Some(app) = self.apps.borrow_mut().get_mut(key) {
            app.releases.insert(release.id.clone(), release.clone());
        }
        Ok(())
    }

    /// Links were frozen as links; what they lead to belongs to the app, always.
    async fn reopen_writable(&self, key: &AppKey, release: &Release) -> std::io::Result<()> {
        for folder in release.config.services.values().flat_map(|service| service.writable.iter()) {
            let path = self.layout.writable(key).join(folder.as_path());
            self.spawner.tell(Request::Give { path, owner: app_identity(key) }).await?;
        }
        Ok(())
    }

    /// Sets up the stores that are missing and waits until all answer.
    async fn stores(
        self: &Rc<Self>,
        key: &AppKey,
        release: &Release,
        progress: &Progress,
    ) -> Result<(), Failure> {
        let managed: Vec<(ServiceName, Engine)> = settings::managed_stores(&release.config);
        if managed.is_empty() {
            return Ok(());
        }
        let problem = |error: std::io::Error| disk_failure("a database could not be planned", &error);
        for (name, engine) in &managed {
            let known = self.host.borrow().apps.get(key).is_some_and(|app| app.stores.contains_key(name));
            if !known {
                let store = Store::plan(*engine).map_err(problem)?;
                self.remember(|host| {
                    host.apps.entry(key.clone()).or_default().stores.insert(name.clone(), store);
                })
                .map_err(problem)?;
            }
            self.initialise_store(key, name, progress).await?;
        }
        self.remember(|host| host.apps.entry(key.clone()).or_default().wanted = true).map_err(problem)?;
        let names: BTreeSet<ServiceName> = managed.into_iter().map(|(name, _)| name).collect();
        if let Some(app) = self.apps.borrow_mut().get_mut(key) {
            app.stores.extend(names.iter().cloned());
            for name in &names {
                app.retries.remove(&(name.clone(), None));
            }
        }
        self.changed();
        let outcome = self.wait_for(STORES_PATIENCE, |core| {
            let apps = core.apps.borrow();
            let app = apps.get(key)?;
            for name in &names {
                let retry = app.retries.get(&(name.clone(), None));
                if let Some(last) =
                    retry.filter(|retry| retry.failures >= STARTS).and_then(|retry| retry.last.clone())
                {
                    return Some(Err(last));
                }
            }
            let open = names.iter().all(|name| {
                app.instances
                    .values()
                    .any(|i| i.record.id.service == *name && i.state == InstanceState::Ready)
            });
            open.then_some(Ok(()))
        });
        outcome.await.unwrap_or_else(|| Err(Failure::new("the databases did not answer in time")))
    }

    /// Runs the `release` commands, once, before the switch.
    async fn migrate(
        self: &Rc<Self>,
        key: &AppKey,
        release: &Rc<Release>,
        progress: &Progress,
    ) -> Result<(), Failure> {
        for (name, service) in &release.config.services {
            let Some(command) = &service.release else { continue };
            let step = progress.step("migrate", command.to_string());
            let spec = |id: &InstanceId| {
                let mut env = self.environment(id, release, service)?;
                super::start::in_production(&mut env);
                self.observed(&mut env, id, &release.id);
                Ok(self.spec(id, release, service, shell(&command.for_shell()), env))
            };
            let what = format!("the release command of `{name}`");
            let limits = service.limits();
            let job = Job { key, service: name, identity: app_identity(key), limits, what: &what };
            self.run_job(job, Some(progress), spec).await.map_err(|failure| {
                hint_unless(
                    failure,
                    "mend the migration and deploy again; the new release was not started".into(),
                )
            })?;
            step.end(command.to_string());
        }
        Ok(())
    }

    /// Starts a release beside the one that serves, switches, and remembers. Gives the time of the switch.
    pub(super) async fn roll_out(
        self: &Rc<Self>,
        key: &AppKey,
        next: &ReleaseId,
        progress: &Progress,
    ) -> Result<Duration, Failure> {
        let release = self.release(key, next)?;
        let problem = |error: std::io::Error| disk_failure("the deploy could not be noted", &error);
        self.remember(|host| {
            let app = host.apps.entry(key.clone()).or_default();
            app.wanted = true;
            // Only one release is kept warm, and the one before needs the room now.
            if let Some(previous) = &mut app.previous {
                previous.warm_until_unix_ms = 0;
            }
        })
        .map_err(problem)?;
        let (beside, instead) = self.split(key, &release);
        if let Some(app) = self.apps.borrow_mut().get_mut(key) {
            app.retries.retain(|(_, of), _| of.as_ref() != Some(next));
            app.arriving = Some((next.clone(), beside.clone()));
        }
        self.changed();
        self.started(key, &release, &beside, progress).await?;
        for name in &instead {
            self.replace(key, &release, name, progress).await?;
        }
        let switched = Instant::now();
        let step = progress.step("switch", format!("to {}", next.short()));
        self.shift(key, next).await?;
        self.commit(key, &release).map_err(problem)?;
        self.publish_and_wait().await?;
        let took = switched.elapsed();
        step.end(format!("{} serves", next.short()));
        self.forget_old_releases(key).await;
        Ok(took)
    }

    /// (services that can stand beside their predecessor, services that must take its place).
    fn split(&self, key: &AppKey, release: &Release) -> (BTreeSet<ServiceName>, Vec<ServiceName>) {
        let current = self.current(key).and_then(|id| self.release(key, &id).ok());
        let mut beside = BTreeSet::new();
        let mut instead = Vec::new();
        for (name, service) in &release.config.services {
            let own_port =
                release.has_own_port(name) || current.as_ref().is_some_and(|old| old.has_own_port(name));
            let replaced = current.as_ref().is_some_and(|old| old.config.services.contains_key(name));
            if replaced && (own_port || !service.is_web()) && !service.is_cron() {
                instead.push(name.clone());
            } else {
                beside.insert(name.clone());
            }
        }
        (beside, instead)
    }

    /// Waits until all instances of `names` in a release are ready, or one of them has failed for good.
    async fn started(
        self: &Rc<Self>,
        key: &AppKey,
        release: &Release,
        names: &BTreeSet<ServiceName>,
        progress: &Progress,
    ) -> Result<(), Failure> {
        let wanted = |core: &Self, name: &ServiceName| {
            let host = core.host.borrow();
            let remembered = host.apps.get(key).cloned().unwrap_or_default();
            // It may have turned out meanwhile that there can be only one.
            let release = core.release(key, &release.id).ok();
            release.map_or(0, |release| core.wanted_instances(&remembered, &release, name))
        };
        let names: Vec<ServiceName> = names.iter().filter(|name| wanted(self, name) > 0).cloned().collect();
        if names.is_empty() {
            return Ok(());
        }
        let total: u32 = names.iter().map(|name| wanted(self, name)).sum();
        let step = progress.step("start", format!("{total} instances of {}", release.id.short()));
        const PATIENCE: Duration = Duration::from_secs(24 * 3600);
        let outcome = self.wait_for(PATIENCE, |core| {
            let mut all = true;
            for name in &names {
                let count = wanted(core, name);
                let apps = core.apps.borrow();
                let app = apps.get(key)?;
                if let Some(retry) = app.retries.get(&(name.clone(), Some(release.id.clone())))
                    && let Some(last) = &retry.last
                    && (retry.failures >= STARTS || last.is_timeout())
                {
                    let mut failure = last.clone();
                    if retry.failures > 1 {
                        failure.what = format!("{} ({} times in a row)", failure.what, retry.failures);
                    }
                    return Some(Err(failure));
                }
                let ready = app.instances.values().filter(|i| {
                    i.record.id.service == *name
                        && i.release() == Some(&release.id)
                        && i.state == InstanceState::Ready
                });
                all &= ready.count() >= count as usize;
            }
            all.then_some(Ok(()))
        });
        outcome.await.unwrap_or_else(|| Err(Failure::new("it did not start within a day")))?;
        let total: u32 = names.iter().map(|name| wanted(self, name)).sum();
        step.end(format!("{total} of {total} instances, healthy"));
        Ok(())
    }

    /// One out, the next in: for a service of which there can be only one. The edge holds requests meanwhile.
    async fn replace(
        self: &Rc<Self>,
        key: &AppKey,
        release: &Release,
        name: &ServiceName,
        progress: &Progress,
    ) -> Result<(), Failure> {
        const PATIENCE: Duration = Duration::from_secs(120);
        if let Some(app) = self.apps.borrow_mut().get_mut(key) {
            app.suspended.insert(name.clone());
        }
        self.changed();
        let gone = self.wait_for(PATIENCE, |core| {
            let apps = core.apps.borrow();
            let app = apps.get(key)?;
            (!app.instances.values().any(|i| i.record.id.service == *name)).then_some(())
        });
        if gone.await.is_none() {
            return Err(Failure::new(format!("the old instance of `{name}` did not stop")));
        }
        if let Some(app) = self.apps.borrow_mut().get_mut(key)
            && let Some((_, services)) = &mut app.arriving
        {
            services.insert(name.clone());
        }
        self.changed();
        self.started(key, release, &BTreeSet::from([name.clone()]), progress).await
    }

    /// Moves requests over, one instance at a time.
    async fn shift(self: &Rc<Self>, key: &AppKey, next: &ReleaseId) -> Result<(), Failure> {
        let (mut new, mut old) = (Vec::new(), Vec::new());
        if let Some(app) = self.apps.borrow().get(key) {
            for instance in app.instances.values().filter(|i| i.state == InstanceState::Ready) {
                match instance.release() {
                    Some(release) if release == next => new.push(instance.record.id.clone()),
                    Some(_) if instance.serving => old.push(instance.record.id.clone()),
                    _ => {}
                }
            }
        }
        if old.is_empty() {
            return Ok(());
        }
        for step in 0..new.len().max(old.len()) {
            if let Some(id) = new.get(step) {
                self.with_instance(id, |instance| instance.serving = true);
            }
            if let Some(id) = old.get(step) {
                self.with_instance(id, |instance| instance.serving = false);
            }
            self.publish_and_wait().await?;
        }
        Ok(())
    }

    /// From here on the release is the one that serves, whatever is killed.
    fn commit(&self, key: &AppKey, release: &Release) -> std::io::Result<()> {
        let bake_ms = millis(release.config.deploy.bake.0);
        self.remember(|host| {
            let app = host.apps.entry(key.clone()).or_default();
            let old = app.current.replace(release.id.clone());
            app.live_since_unix_ms = unix_ms();
            if let Some(old) = old.filter(|old| *old != release.id) {
                app.previous = Some(Previous { release: old, warm_until_unix_ms: unix_ms() + bake_ms });
            }
        })?;
        if let Some(app) = self.apps.borrow_mut().get_mut(key) {
            app.arriving = None;
            app.suspended.clear();
            app.stores =
                settings::managed_stores(&release.config).into_iter().map(|(name, _)| name).collect();
            app.problems.retain(|topic, _| !topic.starts_with("crash ") && !topic.starts_with("write "));
            for instance in app.instances.values_mut() {
                instance.serving =
                    instance.state == InstanceState::Ready && instance.release() == Some(&release.id);
            }
        }
        if !release.config.edge.waf_shadow {
            self.access.forget_shadowed(key);
        }
        self.changed();
        Ok(())
    }

    /// `klar rollback`.
    pub(super) async fn roll_back(
        self: &Rc<Self>,
        key: &AppKey,
        progress: &Progress,
    ) -> Result<Receipt, Failure> {
        let _busy = self.begin(key, "rollback")?;
        let before = self.before(key, "rollback");
        let previous = self.host.borrow().apps.get(key).and_then(|app| app.previous.clone());
        let previous = previous.ok_or_else(|| {
            Failure::new(format!("{key} has no earlier release to go back to"))
                .hint("`klar deploy` ships another one")
        })?;
        let release = self.release(key, &previous.release)?;
        let switch = if self.is_warm(key, &release) {
            let switched = Instant::now();
            let step =
                progress.step("switch", format!("back to {}, which is still warm", release.id.short()));
            self.commit(key, &release)
                .map_err(|error| disk_failure("the rollback could not be noted", &error))?;
            self.publish_and_wait().await?;
            step.end(format!("{} serves", release.id.short()));
            switched.elapsed()
        } else {
            progress
                .note(format!("release {} is not running any more; starting it first", release.id.short()));
            let result = self.roll_out(key, &release.id, progress).await;
            if result.is_err() {
                self.withdraw(key);
            }
            result?
        };
        Ok(self.receipt(key, before, Some(switch)).await)
    }

    /// Whether every instance that a release needs is ready at this moment.
    fn is_warm(&self, key: &AppKey, release: &Release) -> bool {
        let host = self.host.borrow();
        let apps = self.apps.borrow();
        let (Some(remembered), Some(app)) = (host.apps.get(key), apps.get(key)) else { return false };
        release.config.services.iter().all(|(name, service)| {
            if !service.is_web() {
                // What is not web was replaced, and has to be replaced again.
                return service.is_cron() || service.static_dir.is_some();
            }
            let ready = app.instances.values().filter(|i| {
                i.record.id.service == *name
                    && i.release() == Some(&release.id)
                    && i.state == InstanceState::Ready
            });
            ready.count() >= self.wanted_instances(remembered, release, name) as usize
        })
    }

    /// Keeps the newest releases and those in use.
    async fn forget_old_releases(&self, key: &AppKey) {
        let old: Vec<ReleaseId> = {
            let host = self.host.borrow();
            let apps = self.apps.borrow();
            let (Some(remembered), Some(app)) = (host.apps.get(key), apps.get(key)) else { return };
            let keep = remembered
                .current
                .as_ref()
                .and_then(|id| app.releases.get(id))
                .map_or(5, |r| r.config.deploy.keep);
            let in_use = |id: &ReleaseId| {
                remembered.current.as_ref() == Some(id)
                    || remembered.previous.as_ref().is_some_and(|previous| previous.release == *id)
                    || app.instances.values().any(|instance| instance.release() == Some(id))
            };
            let mut all: Vec<_> = app.releases.values().collect();
            all.sort_by_key(|release| std::cmp::Reverse(release.built_unix_ms));
            all.into_iter()
                .skip(keep as usize)
                .map(|release| release.id.clone())
                .filter(|id| !in_use(id))
                .collect()
        };
        for id in old {
            // Without its last file it is no release any more, whenever the rest goes.
            let folder = self.layout.release(key, &id);
            let _ = std::fs::remove_file(folder.join("release.json"));
            let _ = self.spawner.tell(Request::Remove { path: folder }).await;
            if let Some(app) = self.apps.borrow_mut().get_mut(key) {
                app.releases.remove(&id);
            }
        }
    }
}

impl Failure {
    /// Whether waiting was in vain: trying again would be as long.
    fn is_timeout(&self) -> bool {
        self.what.contains(" was not ready within ")
    }
}

fn hint_unless(failure: Failure, hint: String) -> Failure {
    if failure.hint.is_some() { failure } else { failure.hint(hint) }
}

pub(super) fn disk_failure(what: &str, error: &std::io::Error) -> Failure {
    let failure = Failure::new(format!("{what}: {error}"));
    match error.kind() {
        std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => {
            failure.hint("the disk is full: free some space and try again; nothing has been changed")
        }
        std::io::ErrorKind::PermissionDenied => {
            failure.hint("look at who owns the state folder (`klar doctor` names it)")
        }
        _ => failure,
    }
}
