//! Commands that end by themselves: builds, migrations, setting up a database, cron runs.

use std::rc::Rc;
use std::time::{Duration, Instant};

use klar_base::{AppKey, InstanceId, ServiceName};
use tokio::sync::oneshot;

use super::instance::Role;
use super::progress::Progress;
use super::{Core, state};
use crate::limits::Limits;
use crate::report::{Failure, Problem};
use crate::settings::ServiceSettings;
use crate::shim::{Exit, Spec};
use crate::spawn::users::Identity;

/// How long a build or a migration may take.
const PATIENCE: Duration = Duration::from_secs(3600);
/// Lines of a job's output that are passed on for each look at its log.
const LINES_AT_ONCE: usize = 200;

/// A command that is run once, to its end.
pub(super) struct Job<'a> {
    pub key: &'a AppKey,
    pub service: &'a ServiceName,
    pub identity: Identity,
    pub limits: Limits,
    /// What it is, for errors.
    pub what: &'a str,
}

impl Core {
    /// Runs a command to its end; what it prints is passed on as it comes.
    ///
    /// # Errors
    /// It could not be started, was ended, or exited with something else than 0.
    pub(super) async fn run_job(
        self: &Rc<Self>,
        job: Job<'_>,
        progress: Option<&Progress>,
        spec: impl FnOnce(&InstanceId) -> Result<Spec, Failure>,
    ) -> Result<(), Failure> {
        let Job { key, service, identity, limits, what } = job;
        let id = self
            .plan_instance(key, service, Role::Job)
            .map_err(|error| Failure::new(format!("{what}: {error}")))?;
        // Asked for before it is started: it may be gone before its start is known here.
        let (tell, mut ended) = oneshot::channel();
        self.with_instance(&id, |instance| instance.tell_end = Some(tell));
        let started = match spec(&id) {
            Ok(mut spec) => {
                spec.once = true;
                self.launch_spec(&id, spec, identity, limits, None).await
            }
            Err(failure) => Err(failure),
        };
        if let Err(failure) = started {
            self.gone(&id).await;
            return Err(failure);
        }
        let exit = self.until_ended(&id, &mut ended, progress).await;
        let output = self.last_lines(&id);
        match exit {
            Some(exit) if exit.success() => Ok(()),
            Some(exit) => Err(Failure::new(format!("{what} {exit}")).output(output)),
            None => Err(Failure::new(format!("{what} was ended before it was done")).output(output)),
        }
    }

    /// Waits until a job and its shim are gone: what follows needs the place that they take. `None`: its shim was
    /// killed, or it took too long.
    async fn until_ended(
        self: &Rc<Self>,
        id: &InstanceId,
        ended: &mut oneshot::Receiver<Option<Exit>>,
        progress: Option<&Progress>,
    ) -> Option<Exit> {
        const LOOK: Duration = Duration::from_millis(100);
        let deadline = Instant::now() + PATIENCE;
        let log = self.layout.logs(&id.key, &id.service);
        let mut passed_on = 0;
        loop {
            let end = tokio::time::timeout(LOOK, &mut *ended).await;
            if let Some(progress) = progress {
                let lines = crate::shim::log::tail(&log, &id.short(), passed_on + LINES_AT_ONCE);
                for line in lines.iter().skip(passed_on) {
                    progress.output(&line.text);
                }
                passed_on = passed_on.max(lines.len());
            }
            if let Ok(end) = end {
                return end.ok().flatten();
            }
            if Instant::now() > deadline {
                self.stop_instance(id, Duration::from_secs(5));
                return None;
            }
        }
    }

    /// Sets up a store that has no folder yet.
    pub(super) async fn initialise_store(
        self: &Rc<Self>,
        key: &AppKey,
        name: &ServiceName,
        progress: &Progress,
    ) -> Result<(), Failure> {
        let remembered = self.host.borrow().apps.get(key).and_then(|app| app.stores.get(name)).cloned();
        let Some(store) = remembered else { return Ok(()) };
        if store.initialised {
            return Ok(());
        }
        let folder = self.layout.store(key, name);
        let invocation = store.initialise(&folder)?;
        let step = progress.step("database", format!("setting up {} for `{name}`", store.engine.name()));
        let identity = Identity::Data { key: key.clone() };
        let problem = |error: std::io::Error| Failure::new(format!("`{name}` could not be set up: {error}"));
        for (path, owner, mode) in [
            (folder.parent().unwrap_or(&folder).to_owned(), identity.clone(), 0o750),
            (folder.clone(), identity.clone(), 0o750),
        ] {
            self.spawner.folder(path, owner.clone(), owner, mode).await.map_err(problem)?;
        }
        let what = format!("setting up `{name}`");
        let spec = |id: &InstanceId| {
            let mut spec = self.store_command(id, &folder, invocation, libc::SIGTERM);
            spec.stop_group = true;
            Ok(spec)
        };
        let job = Job { key, service: name, identity, limits: Limits::default(), what: &what };
        self.run_job(job, None, spec).await?;
        self.remember(|host| {
            if let Some(store) = host.apps.get_mut(key).and_then(|app| app.stores.get_mut(name)) {
                store.initialised = true;
            }
        })
        .map_err(problem)?;
        step.end(format!("{} listens on 127.0.0.1:{}", store.engine.name(), store.port));
        Ok(())
    }

    /// Starts the cron services whose time has come. One that still runs is not started again.
    pub(super) fn run_due_cron(self: &Rc<Self>) {
        let now = state::unix_ms();
        let mut due = Vec::new();
        {
            let host = self.host.borrow();
            let apps = self.apps.borrow();
            for (key, remembered) in host.apps.iter().filter(|(_, app)| app.wanted) {
                let Some(app) = apps.get(key) else { continue };
                let Some(release) = remembered.current.as_ref().and_then(|id| app.releases.get(id)) else {
                    continue;
                };
                for (name, service) in &release.config.services {
                    let Some(schedule) = &service.schedule else { continue };
                    let since =
                        remembered.cron_unix_ms.get(name).copied().unwrap_or(remembered.live_since_unix_ms);
                    let running = app.instances.values().any(|i| i.record.id.service == *name);
                    if !running && is_due(schedule.as_str(), since, now) {
                        due.push((key.clone(), name.clone(), release.clone()));
                    }
                }
            }
        }
        for (key, name, release) in due {
            let noted = self.remember(|host| {
                if let Some(app) = host.apps.get_mut(&key) {
                    app.cron_unix_ms.insert(name.clone(), now);
                }
            });
            if noted.is_err() {
                // Better late than twice: it is tried again when the disk takes notes again.
                continue;
            }
            let core = self.clone();
            tokio::task::spawn_local(async move {
                let Some(service) = release.config.services.get(&name) else { return };
                let spec = |id: &InstanceId| {
                    let mut env = core.environment(id, &release, service)?;
                    core.observed(&mut env, id, &release.id);
                    Ok(core.spec(id, &release, service, service.command().unwrap_or_default(), env))
                };
                let identity = crate::spawn::app_identity(&key);
                let what = format!("the cron run of `{name}`");
                let job = Job { key: &key, service: &name, identity, limits: service.limits(), what: &what };
                let result = core.run_job(job, None, spec).await;
                let topic = format!("cron {name}");
                match result {
                    Ok(()) => {
                        if let Some(app) = core.apps.borrow_mut().get_mut(&key) {
                            app.problems.remove(&topic);
                        }
                    }
                    Err(failure) => {
                        let hint = failure
                            .hint
                            .or_else(|| Some(format!("look at what it says: `klar logs {name}`")));
                        core.problem(
                            &key,
                            &topic,
                            Problem { what: failure.what, hint, output: failure.output },
                        );
                    }
                }
            });
        }
    }
}

/// Whether a time of `schedule` lies after `since` and not after `now`. In UTC.
fn is_due(schedule: &str, since_unix_ms: u64, now_unix_ms: u64) -> bool {
    let Ok(cron) = schedule.parse::<croner::Cron>() else { return false };
    let at = |unix_ms: u64| {
        let millisecond = i64::try_from(unix_ms).ok()?;
        Some(jiff::Timestamp::from_millisecond(millisecond).ok()?.to_zoned(jiff::tz::TimeZone::UTC))
    };
    let (Some(since), Some(now)) = (at(since_unix_ms), at(now_unix_ms)) else { return false };
    cron.find_next_occurrence(&since, false).is_ok_and(|next| next <= now)
}

#[cfg(test)]
mod tests {
    use super::is_due;

    #[test]
    fn a_schedule_is_due_once_its_time_has_passed() {
        const MINUTE: u64 = 60_000;
        let start = 1_800_000_000_000 / MINUTE * MINUTE;
        assert!(!is_due("* * * * *", start, start));
        assert!(is_due("* * * * *", start, start + MINUTE));
        assert!(is_due("* * * * *", start, start + 600 * MINUTE), "once, however many were missed");
        assert!(!is_due("*/5 * * * *", start, start + MINUTE) || start % (5 * MINUTE) == 4 * MINUTE);
        assert!(!is_due("nonsense", start, start + MINUTE));
    }
}
