//! One instance from its plan to being ready, and from its end to its successor.

use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::{Duration, Instant};

use klar_base::{AppKey, InstanceId, Period, ReleaseId, ServiceName};
use klar_config::{EnvValue, Place, Service, ServiceProtocol};

use super::instance::{self, Instance, Role};
use super::{App, Core, state};
use crate::limits::Limits;
use crate::probe;
use crate::release::Release;
use crate::report::{Failure, InstanceState, Problem};
use crate::settings::ServiceSettings;
use crate::shim::{self, Spec};
use crate::spawn::users::Identity;
use crate::store::{Invocation, NotReady};

/// Lines of an app's own output that an error shows.
const OUTPUT_SHOWN: usize = 20;
/// How long a database may need to recover before klar says that something is wrong.
const STORE_PATIENCE: Duration = Duration::from_secs(120);

/// Node.js and many frameworks show stack traces and do without caches unless they are told that this is production.
pub(super) fn in_production(env: &mut Vec<(String, String)>) {
    if !env.iter().any(|(name, _)| name == "NODE_ENV") {
        env.push(("NODE_ENV".into(), "production".into()));
    }
}

impl Core {
    /// Takes the next number of an app and plans an instance with it.
    pub(super) fn plan_instance(
        &self,
        key: &AppKey,
        service: &ServiceName,
        role: Role,
    ) -> std::io::Result<InstanceId> {
        let number = self.remember(|host| {
            let app = host.apps.entry(key.clone()).or_default();
            app.next_number += 1;
            app.next_number
        })?;
        let id = InstanceId { key: key.clone(), service: service.clone(), number };
        if let Some(app) = self.apps.borrow_mut().get_mut(key) {
            app.instances.insert(id.clone(), Instance::planned(id.clone(), role, None));
        }
        Ok(id)
    }

    /// Starts a planned instance and stays with it until it is ready or has failed.
    pub(super) async fn bring_up(self: Rc<Self>, id: InstanceId) {
        if let Err(failure) = self.launch(&id).await {
            self.give_up(&id, failure);
            self.with_instance(&id, |instance| instance.turn(InstanceState::Stopping));
            self.gone(&id).await;
            return;
        }
        self.changed();
        self.attend(&id).await;
    }

    /// Makes the folders and the environment, and starts the shim.
    async fn launch(self: &Rc<Self>, id: &InstanceId) -> Result<(), Failure> {
        let role = self
            .with_instance(id, |i| i.record.role.clone())
            .ok_or_else(|| Failure::new("it was removed"))?;
        let (spec, identity, limits, port) = match &role {
            Role::Service { release } => self.service_spec(id, release)?,
            Role::Store => self.store_spec(id)?,
            Role::Job => return Err(Failure::new("a job is not started here")),
        };
        if let Some(port) = port
            && !crate::ports::is_free(port)
        {
            return Err(self.port_taken(port, &id.service, role == Role::Store).await);
        }
        self.launch_spec(id, spec, identity, limits, port).await
    }

    async fn port_taken(&self, port: u16, service: &ServiceName, is_store: bool) -> Failure {
        let owner = super::edge_link::port_owner(&self.spawner, port).await;
        let owner = owner.unwrap_or_else(|| "another process".into());
        let hint = if is_store {
            format!("stop {owner}: it is not the `{service}` that klar runs. Then klar goes on by itself")
        } else {
            format!("stop {owner}, or let klar choose the port: remove `port` and listen on $PORT")
        };
        Failure::new(format!("port {port}, which `{service}` needs, is taken by {owner}")).hint(hint)
    }

    /// The part of a start that is the same for services, stores and jobs.
    pub(super) async fn launch_spec(
        self: &Rc<Self>,
        id: &InstanceId,
        spec: Spec,
        identity: Identity,
        limits: Limits,
        port: Option<u16>,
    ) -> Result<(), Failure> {
        let problem = |error: std::io::Error| start_failure(&id.service, &error);
        self.spawner
            .folder(self.layout.tmp(id), identity.clone(), Identity::Core, 0o2770)
            .await
            .map_err(problem)?;
        self.spawner
            .folder(spec.log_folder.clone(), identity.clone(), Identity::Core, 0o2750)
            .await
            .map_err(problem)?;
        let mut record = self
            .with_instance(id, |instance| {
                instance.record.port = port;
                instance.record.clone()
            })
            .ok_or_else(|| Failure::new("it was removed"))?;
        let (layout, spawner, messages) =
            (self.layout.clone(), self.spawner.clone(), self.shim_messages.clone());
        let launched = tokio::task::spawn_blocking(move || {
            let result = instance::launch(&layout, &spawner, &mut record, spec, identity, limits, messages);
            (record, result)
        });
        let (record, result) = launched.await.map_err(|error| Failure::new(error.to_string()))?;
        self.with_instance(id, |instance| instance.record = record);
        let (shim, pid) = result.map_err(problem)?;
        self.with_instance(id, |instance| {
            instance.shim = Some(shim);
            instance.pid = Some(pid);
            // It may have become unwanted while it was being started, when there was nobody to tell yet.
            if instance.state == InstanceState::Stopping {
                const UNWANTED: Duration = Duration::from_secs(5);
                instance.ask_to_stop(UNWANTED);
            }
        });
        Ok(())
    }

    /// Everything that a service's instance needs.
    #[allow(clippy::type_complexity)]
    fn service_spec(
        &self,
        id: &InstanceId,
        release: &ReleaseId,
    ) -> Result<(Spec, Identity, Limits, Option<u16>), Failure> {
        let release = self.release(&id.key, release)?;
        let service = self.service(&release, &id.service)?;
        let command =
            service.command().ok_or_else(|| Failure::new(format!("`{}` has no `run`", id.service)))?;
        let port = if service.is_web() {
            let fixed = service.port.or_else(|| release.own_ports.get(id.service.as_str()).copied());
            Some(match fixed {
                Some(port) => port,
                None => crate::ports::free_port().map_err(|error| Failure::new(error.to_string()))?,
            })
        } else {
            None
        };
        let mut env = self.environment(id, &release, service)?;
        in_production(&mut env);
        self.observed(&mut env, id, &release.id);
        env.extend(port.map(|port| ("PORT".to_owned(), port.to_string())));
        let spec = self.spec(id, &release, service, command, env);
        Ok((spec, crate::spawn::app_identity(&id.key), service.limits(), port))
    }

    /// A command of a release in its sandbox.
    pub(super) fn spec(
        &self,
        id: &InstanceId,
        release: &Release,
        service: &Service,
        command: Vec<String>,
        env: Vec<(String, String)>,
    ) -> Spec {
        let key = &id.key;
        let mut writable =
            vec![self.layout.home(key), self.layout.tmp(id), PathBuf::from("/tmp"), "/var/tmp".into()];
        if !self.description.namespaces {
            // Without a namespace the shared /tmp stays out of reach; TMPDIR says where to go instead.
            writable.truncate(2);
        }
        writable
            .extend(service.writable.iter().map(|folder| self.layout.writable(key).join(folder.as_path())));
        Spec {
            id: id.clone(),
            command,
            folder: self.layout.release(key, &release.id).join("files"),
            env,
            writable: Some(writable),
            log_folder: self.layout.logs(key, &id.service),
            log_size: release.config.logs.max_size,
            log_age: release.config.logs.max_age,
            stop_group: true,
            stop_signal: libc::SIGTERM,
            lock: None,
            once: false,
        }
    }

    /// The environment of everything that runs from a release.
    pub(super) fn environment(
        &self,
        id: &InstanceId,
        release: &Release,
        service: &Service,
    ) -> Result<Vec<(String, String)>, Failure> {
        let key = &id.key;
        let tmp =
            if self.has_private_tmp() { "/tmp".into() } else { self.layout.tmp(id).display().to_string() };
        let mut env: Vec<(String, String)> = [
            ("PATH", search_path()),
            ("HOME", self.layout.home(key).display().to_string()),
            ("TMPDIR", tmp),
            ("LANG", "C.UTF-8".into()),
            ("KLAR_APP", key.app.to_string()),
            ("KLAR_ENV", key.env.to_string()),
            ("KLAR_INSTANCE", id.short()),
            ("KLAR_RELEASE", release.id.to_string()),
            ("KLAR_ID", id.to_string()),
            ("KLAR_HOST", crate::spawn::host_name(self.layout.root())),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .into();
        let remembered = self.host.borrow();
        let stores = remembered.apps.get(key).map(|app| &app.stores);
        for (name, data) in &release.config.data {
            let value = match &data.place {
                Place::Url(reference) => resolve(release, &reference.to_string())?,
                Place::Managed => match stores.and_then(|stores| stores.get(name)) {
                    Some(store) => store.url(key),
                    None => continue,
                },
            };
            env.push((data.env.to_string(), value));
        }
        if let Some(port) = release.config.see.statsd {
            // As StatsD's and Datadog's libraries look for it.
            for (name, value) in [
                ("STATSD_HOST", "127.0.0.1".to_owned()),
                ("STATSD_PORT", port.to_string()),
                ("DD_AGENT_HOST", "127.0.0.1".to_owned()),
                ("DD_DOGSTATSD_PORT", port.to_string()),
            ] {
                env.push((name.to_owned(), value));
            }
        }
        for (name, value) in &service.env {
            let value = match value {
                EnvValue::Secret(reference) => resolve(release, &reference.to_string())?,
                EnvValue::Plain(text) => text.clone(),
            };
            let name = name.to_string();
            env.retain(|(existing, _)| *existing != name);
            env.push((name, value));
        }
        Ok(env)
    }

    /// Whether instances see a `/tmp` of their own. A state folder below `/tmp` would vanish behind it.
    fn has_private_tmp(&self) -> bool {
        let root = self.layout.root();
        self.description.namespaces && !root.starts_with("/tmp") && !root.starts_with("/var/tmp")
    }

    /// Everything that a managed store needs.
    #[allow(clippy::type_complexity)]
    fn store_spec(&self, id: &InstanceId) -> Result<(Spec, Identity, Limits, Option<u16>), Failure> {
        let host = self.host.borrow();
        let store = host
            .apps
            .get(&id.key)
            .and_then(|app| app.stores.get(&id.service))
            .ok_or_else(|| Failure::new(format!("nothing is remembered of `{}`", id.service)))?;
        let folder = self.layout.store(&id.key, &id.service);
        let invocation = store.run(&folder)?;
        let spec = self.store_command(id, &folder, invocation, store.stop_signal());
        Ok((spec, Identity::Data { key: id.key.clone() }, Limits::default(), Some(store.port)))
    }

    /// A command of a store in its sandbox.
    pub(super) fn store_command(
        &self,
        id: &InstanceId,
        folder: &Path,
        invocation: Invocation,
        stop_signal: i32,
    ) -> Spec {
        let mut env = vec![
            ("PATH".to_owned(), search_path()),
            ("LANG".to_owned(), "C.UTF-8".to_owned()),
            ("HOME".to_owned(), folder.display().to_string()),
            ("KLAR_ID".to_owned(), id.to_string()),
            ("KLAR_HOST".to_owned(), crate::spawn::host_name(self.layout.root())),
        ];
        env.extend(invocation.env);
        const LOG_SIZE: klar_base::ByteSize = klar_base::ByteSize::mib(64);
        const LOG_AGE: Period = Period::secs(30 * 86_400);
        Spec {
            id: id.clone(),
            command: invocation.command,
            folder: folder.to_owned(),
            env,
            writable: Some(vec![folder.to_owned(), self.layout.tmp(id)]),
            log_folder: self.layout.logs(&id.key, &id.service),
            log_size: LOG_SIZE,
            log_age: LOG_AGE,
            stop_group: false,
            stop_signal,
            lock: Some(folder.join("lock")),
            once: false,
        }
    }

    /// Stays with a started instance until it is ready, has failed, or is gone.
    pub(super) async fn attend(self: &Rc<Self>, id: &InstanceId) {
        let Some(role) = self.with_instance(id, |instance| instance.record.role.clone()) else { return };
        let result = match &role {
            Role::Service { release } => self.until_ready(id, release).await,
            Role::Store => self.until_open(id).await,
            Role::Job => return,
        };
        match result {
            Ok(true) => self.is_ready(id),
            // It is gone; its end is handled where ends are.
            Ok(false) => {}
            Err(failure) => {
                self.give_up(id, failure);
                self.stop_instance(id, Duration::from_secs(5));
            }
        }
        self.changed();
    }

    /// Whether an instance is still on its way up.
    fn is_starting(&self, id: &InstanceId) -> bool {
        self.with_instance(id, |i| i.state == InstanceState::Starting && i.exit.is_none()).unwrap_or(false)
    }

    /// Waits for the port, for the health path, and for the minimum stable time. `Ok(false)`: it is gone.
    async fn until_ready(self: &Rc<Self>, id: &InstanceId, release: &ReleaseId) -> Result<bool, Failure> {
        const PAUSE: Duration = Duration::from_millis(50);
        let release = self.release(&id.key, release)?;
        let service = self.service(&release, &id.service)?;
        let started = Instant::now();
        let path = service.health.as_ref().map_or("/", |path| path.as_str());
        let declared = service.health.is_some();
        let mut ready_since: Option<Instant> = None;
        let mut seen = None;
        while self.is_starting(id) {
            let well = if service.is_web() {
                let listening = self.with_instance(id, |i| (i.listening_port(), !i.ports.is_empty()));
                match listening {
                    Some((Some(port), true)) => {
                        let saw = match service.protocol {
                            ServiceProtocol::Http1 => probe::http(port, path, "localhost").await,
                            ServiceProtocol::H2c => probe::h2c(port).await,
                        };
                        let ready = saw.is_ready(declared);
                        seen = Some((port, saw));
                        ready
                    }
                    _ => false,
                }
            } else {
                true
            };
            if well {
                if ready_since.get_or_insert_with(Instant::now).elapsed() >= service.stable.0 {
                    return Ok(self.is_starting(id));
                }
            } else {
                ready_since = None;
            }
            if started.elapsed() > service.ready_timeout.0 {
                return Err(self.never_ready(id, service, path, seen));
            }
            tokio::time::sleep(PAUSE).await;
        }
        Ok(false)
    }

    fn never_ready(
        &self,
        id: &InstanceId,
        service: &Service,
        path: &str,
        seen: Option<(u16, probe::Seen)>,
    ) -> Failure {
        let given = self.with_instance(id, |instance| instance.record.port).flatten().unwrap_or(0);
        let timeout = service.ready_timeout;
        let failure = match seen {
            Some((port, seen)) => Failure::new(format!(
                "`{}` was not ready within {timeout}: GET http://127.0.0.1:{port}{path} {seen}",
                id.service
            ))
            .hint(match seen {
                probe::Seen::Status(404) => format!(
                    "name a path that answers 200 when the app is well: `health = \"...\"` in [services.{}]",
                    id.service
                ),
                _ => format!("look at what the app says: `klar logs {}`", id.service),
            }),
            None => Failure::new(format!(
                "`{}` was not ready within {timeout}: it listens on no port (it was given PORT={given})",
                id.service
            ))
            .hint("let the app listen on the port in the variable PORT, or say `kind = \"worker\"` when it has none"),
        };
        failure.output(self.last_lines(id))
    }

    /// Waits until a store answers and proves that it is the right one.
    async fn until_open(self: &Rc<Self>, id: &InstanceId) -> Result<bool, Failure> {
        const PAUSE: Duration = Duration::from_millis(100);
        let started = Instant::now();
        while self.is_starting(id) {
            let store =
                self.host.borrow().apps.get(&id.key).and_then(|app| app.stores.get(&id.service)).cloned();
            let Some(store) = store else { return Err(Failure::new("nothing is remembered of this store")) };
            let (key, folder) = (id.key.clone(), self.layout.store(&id.key, &id.service));
            let verified = tokio::task::spawn_blocking(move || store.verify(&key, &folder)).await;
            match verified {
                Ok(Ok(identity)) => {
                    let known = self.host.borrow().apps.get(&id.key).and_then(|app| {
                        app.stores.get(&id.service).map(|store| store.identity.as_ref() == Some(&identity))
                    });
                    if known != Some(true) {
                        let remembered = self.remember(|host| {
                            if let Some(app) = host.apps.get_mut(&id.key)
                                && let Some(store) = app.stores.get_mut(&id.service)
                            {
                                store.identity = Some(identity);
                            }
                        });
                        remembered.map_err(|error| Failure::new(error.to_string()))?;
                    }
                    return Ok(self.is_starting(id));
                }
                Ok(Err(NotReady::Never(failure))) => return Err(failure),
                Ok(Err(NotReady::Later(why))) if started.elapsed() > STORE_PATIENCE => {
                    return Err(Failure::new(format!("`{}` does not answer: {why}", id.service))
                        .output(self.last_lines(id)));
                }
                Ok(Err(NotReady::Later(_))) => {}
                Err(error) => return Err(Failure::new(error.to_string())),
            }
            tokio::time::sleep(PAUSE).await;
        }
        Ok(false)
    }

    /// It is ready: that is remembered, and it serves when its release does.
    fn is_ready(self: &Rc<Self>, id: &InstanceId) {
        let record = self.with_instance(id, |instance| {
            instance.turn(InstanceState::Ready);
            instance.record.ready = true;
            instance.record.clone()
        });
        let Some(record) = record else { return };
        if let Err(error) = crate::durable::write_json(&self.layout.shim(id).0, &record) {
            eprintln!("klar core: {error}");
        }
        let release = match &record.role {
            Role::Service { release } => Some(release.clone()),
            _ => None,
        };
        self.note_own_port(id, release.as_ref());
        if let Some(app) = self.apps.borrow_mut().get_mut(&id.key) {
            app.retries.entry((id.service.clone(), release)).or_default().succeeded();
            app.problems.remove(&format!("crash {}", id.service));
        }
        self.serve_if_current(id);
    }

    /// An app that listens elsewhere than on `PORT` can have one instance only, and klar says so.
    fn note_own_port(&self, id: &InstanceId, release: Option<&ReleaseId>) {
        let ports = self.with_instance(id, |instance| (instance.record.port, instance.listening_port()));
        let (Some((Some(given), Some(found))), Some(release)) = (ports, release) else { return };
        if given == found {
            return;
        }
        let mut apps = self.apps.borrow_mut();
        let Some(app) = apps.get_mut(&id.key) else { return };
        let Some(known) = app.releases.get(release).cloned() else { return };
        let mut changed = Release::clone(&known);
        changed.own_ports.insert(id.service.to_string(), found);
        changed.notes.push(format!(
            "`{}` listens on port {found} although it was given PORT={given}: one instance only, and deploys stop it \
             before they start the next. Let it listen on $PORT to have two.",
            id.service
        ));
        if let Err(error) = changed.write(&self.layout.release(&id.key, release)) {
            eprintln!("klar core: {error}");
        }
        app.releases.insert(release.clone(), Rc::new(changed));
    }

    /// A ready instance of the release that serves gets requests.
    pub(super) fn serve_if_current(&self, id: &InstanceId) {
        let current = self.host.borrow().apps.get(&id.key).and_then(|app| app.current.clone());
        self.with_instance(id, |instance| {
            instance.serving = instance.release().is_some() && instance.release() == current.as_ref();
        });
        self.changed();
    }

    /// Notes why klar gives up on an instance; what follows from it happens when it is gone.
    fn give_up(&self, id: &InstanceId, failure: Failure) {
        self.with_instance(id, |instance| {
            instance.given_up = Some(failure);
            instance.serving = false;
        });
    }

    /// Asks an instance to stop. It gets no new requests from now on.
    pub(super) fn stop_instance(&self, id: &InstanceId, patience: Duration) {
        self.with_instance(id, |instance| {
            if instance.state != InstanceState::Stopping {
                instance.turn(InstanceState::Stopping);
                instance.serving = false;
                instance.ask_to_stop(patience);
            }
        });
        self.changed();
    }

    /// An instance is gone, with its shim: clean up, and note what it means for its successor.
    pub(super) async fn gone(self: &Rc<Self>, id: &InstanceId) {
        let Some((exit, asked, given_up, lived, role)) = self.with_instance(id, |instance| {
            let asked = instance.state == InstanceState::Stopping;
            instance.serving = false;
            instance.turn(InstanceState::Stopping);
            let lived = instance.started.elapsed();
            (instance.exit.clone(), asked, instance.given_up.take(), lived, instance.record.role.clone())
        }) else {
            return;
        };
        let (layout, spawner, of) = (self.layout.clone(), self.spawner.clone(), id.clone());
        let killed_for_memory =
            match self.spawner.ask(crate::spawn::Request::Usage { group: id.to_string() }, vec![]).await {
                Ok((crate::spawn::Answer::Usage { usage }, _)) => usage.is_some_and(|(_, kills)| kills > 0),
                _ => false,
            };
        self.sweep(id);
        let cleaned = tokio::task::spawn_blocking(move || instance::clean_up(&layout, &spawner, &of)).await;
        if let Ok(Err(error)) = cleaned {
            eprintln!("klar core: cleaning up after {id}: {error}");
        }
        let failure = match (given_up, asked) {
            // A job is expected to end; who runs it judges how.
            _ if role == Role::Job => None,
            (Some(failure), _) => Some(failure),
            (None, true) => None,
            (None, false) => Some(self.why_gone(id, exit.as_ref(), killed_for_memory)),
        };
        if exit.is_none() && role != Role::Job && !asked {
            self.mark_lost_output(id);
        }
        let release = match role {
            Role::Service { release } => Some(release),
            _ => None,
        };
        let mut apps = self.apps.borrow_mut();
        let Some(app) = apps.get_mut(&id.key) else { return };
        let tell_end = app.instances.remove(id).and_then(|instance| instance.tell_end);
        if let Some(tell) = tell_end {
            // Who asked may have given up.
            let _ = tell.send(exit);
        }
        app.problems.remove(&format!("log {id}"));
        if let Some(failure) = failure {
            let retry = app.retries.entry((id.service.clone(), release)).or_default();
            retry.failed(failure.clone(), lived, Instant::now(), fastrand::f64());
            if retry.is_loop() {
                let what = format!("{} ({} times in a row)", failure.what, retry.failures);
                let problem = Problem { what, hint: failure.hint, output: failure.output };
                app.problems.insert(format!("crash {}", id.service), problem);
            }
        }
        drop(apps);
        self.changed();
    }

    fn why_gone(&self, id: &InstanceId, exit: Option<&shim::Exit>, killed_for_memory: bool) -> Failure {
        let service = &id.service;
        let output = self.last_lines(id);
        if killed_for_memory {
            return Failure::new(format!("`{service}` was killed because it used more memory than it may"))
                .hint(format!(
                    "raise `memory` in [services.{service}], or find the leak: `klar logs {service}`"
                ))
                .output(output);
        }
        let Some(exit) = exit else {
            return Failure::new(format!("the shim of `{}` was killed, and the app with it", id.short()));
        };
        let failure = Failure::new(format!("`{service}` {exit}")).output(output);
        match exit.code {
            Some(127) => failure.hint(format!(
                "check `run` in [services.{service}]: the program must be on the PATH of the user that klar runs it as, \
                 or in the app's folder (`./node_modules/.bin/...`, `.venv/bin/...`)"
            )),
            Some(126) => failure.hint(format!("make the program in `run` of [services.{service}] executable")),
            Some(0) => failure.hint(format!(
                "a service is expected to keep running; say `kind = \"cron\"` in [services.{service}] when it is meant \
                 to end"
            )),
            _ => match self.denied_write_of(id) {
                Some(Problem { what, hint, .. }) => failure.hint(match hint {
                    Some(hint) => format!("{what}\n{hint}"),
                    None => what,
                }),
                None => failure.hint(format!("look at what the app says: `klar logs {service}`")),
            },
        }
    }

    /// What a service was not allowed to write: often the reason for its end.
    fn denied_write_of(&self, id: &InstanceId) -> Option<Problem> {
        let apps = self.apps.borrow();
        let problems = &apps.get(&id.key)?.problems;
        let topic = format!("write {} ", id.service);
        // The topic of one that names a path sorts behind that of one that does not.
        problems.iter().rfind(|(known, _)| known.starts_with(&topic)).map(|(_, problem)| problem.clone())
    }

    /// The log itself says where something may be missing.
    fn mark_lost_output(&self, id: &InstanceId) {
        use std::io::Write;
        let path = self.layout.logs(&id.key, &id.service).join(format!("klar-{}.log", id.short()));
        let line = format!(
            "{:.6} klar F the shim of {} was killed: up to {} bytes of output for each stream may be missing here\n",
            jiff::Timestamp::now(),
            id.short(),
            shim::PIPE_BYTES
        );
        // The folder belongs to the app's user; the core may write there only without a spawner.
        if let Ok(mut file) = std::fs::File::options().create(true).append(true).open(path) {
            let _ = file.write_all(line.as_bytes());
        }
        eprint!("klar core: {line}");
    }

    /// The last lines that an instance printed.
    pub(super) fn last_lines(&self, id: &InstanceId) -> Vec<String> {
        let folder = self.layout.logs(&id.key, &id.service);
        shim::log::tail(&folder, &id.short(), OUTPUT_SHOWN).into_iter().map(|line| line.text).collect()
    }

    /// A denied write is explained, once for each service and path.
    pub(super) fn explain_denied(&self, id: &InstanceId, line: &str, path: Option<&str>) {
        let service = &id.service;
        let release = self.layout.releases(&id.key);
        let inside = path.map(Path::new).and_then(|path| {
            let below = match path.strip_prefix(&release) {
                // releases/ID/files/uploads/x: the declared folder would be `uploads`.
                Ok(below) => below.components().skip(2).collect::<PathBuf>(),
                Err(_) if path.is_relative() => path.to_owned(),
                Err(_) => return None,
            };
            let folder = below.components().next()?.as_os_str().to_str()?.to_owned();
            (below.components().count() > 1).then_some(folder)
        });
        let what = format!("`{service}` was not allowed to write: {line}");
        let hint = match inside {
            Some(folder) => format!(
                "releases are read-only; declare what the app writes: `writable = [\"{folder}\"]` in [services.{service}]"
            ),
            None => format!(
                "an app may write to the folders in `writable`, to $TMPDIR and to $HOME; declare the folder in \
                 [services.{service}], or let the app write there"
            ),
        };
        let topic = format!("write {service} {}", path.unwrap_or_default());
        let is_known = |app: &App| app.problems.contains_key(&topic);
        if self.apps.borrow().get(&id.key).is_some_and(is_known) {
            return;
        }
        self.problem(&id.key, &topic, Problem { what, hint: Some(hint), output: Vec::new() });
    }

    /// A release of an app that is known.
    pub(super) fn release(&self, key: &AppKey, id: &ReleaseId) -> Result<Rc<Release>, Failure> {
        let apps = self.apps.borrow();
        let found = apps.get(key).and_then(|app| app.releases.get(id)).cloned();
        found.ok_or_else(|| Failure::new(format!("release {id} of {key} is not here any more")))
    }

    pub(super) fn service<'a>(
        &self,
        release: &'a Release,
        name: &ServiceName,
    ) -> Result<&'a Service, Failure> {
        let found = release.config.services.get(name);
        found.ok_or_else(|| Failure::new(format!("release {} has no service `{name}`", release.id)))
    }

    /// How many instances of a service there should be.
    pub(super) fn wanted_instances(
        &self,
        app: &state::AppState,
        release: &Release,
        name: &ServiceName,
    ) -> u32 {
        let Some(service) = release.config.services.get(name) else { return 0 };
        if service.is_cron() || service.static_dir.is_some() {
            return 0;
        }
        if release.has_own_port(name) {
            return 1;
        }
        app.scale.get(name).copied().unwrap_or(service.instances.min)
    }
}

impl Release {
    /// Whether two instances of a service would need the same port.
    pub fn has_own_port(&self, name: &ServiceName) -> bool {
        self.own_ports.contains_key(name.as_str())
            || self.config.services.get(name).is_some_and(|service| service.port.is_some())
    }
}

/// The search path of who started klar, without the folders that the users of apps may not enter: a shell that meets
/// one of those says "permission denied" of a program that is nowhere.
fn search_path() -> String {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let open = std::env::split_paths(&path).filter(|folder| std::fs::metadata(folder).is_ok());
    let folders: Vec<String> = open.map(|folder| folder.to_string_lossy().into_owned()).collect();
    folders.join(":")
}

fn resolve(release: &Release, reference: &str) -> Result<String, Failure> {
    release.secrets.get(reference).map(|secret| secret.expose().clone()).ok_or_else(|| {
        Failure::new(format!("the value of `{reference}` did not come with the release"))
            .hint("deploy again from a shell where it is set")
    })
}

fn start_failure(service: &ServiceName, error: &std::io::Error) -> Failure {
    let failure = Failure::new(format!("`{service}` could not be started: {error}"));
    match error.raw_os_error() {
        Some(libc::ENOSPC | libc::EDQUOT) => {
            failure.hint("the disk is full: free some space and it starts by itself")
        }
        Some(libc::EMFILE | libc::ENFILE) => failure.hint("raise the limit of open files (`klar doctor`)"),
        _ => failure,
    }
}
