//! A restored copy takes the place of a database.
//!
//! The copy belongs to what keeps the database, and can be read by the database's own user, who puts it in place: so root is
//! not needed. What was there is put aside, and stays until the next restore.

use std::collections::BTreeSet;
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use klar_base::{AppKey, InstanceId, ServiceName};

use super::Core;
use super::instance::Instance;
use super::jobs::Job;
use super::progress::Progress;
use crate::limits::Limits;
use crate::release::Release;
use crate::report::{Failure, InstanceState, Receipt};
use crate::settings::ServiceSettings;
use crate::spawn::users::Identity;
use crate::spawn::{Request, app_identity};

/// Stopping, and coming up again, may take so long.
const PATIENCE: Duration = Duration::from_secs(120);

impl Core {
    pub(super) async fn take_over_now(
        self: &Rc<Self>,
        key: &AppKey,
        name: &ServiceName,
        copy: &str,
        progress: &Progress,
    ) -> Result<Receipt, Failure> {
        self.known(key)?;
        let _busy = self.begin(key, "restore")?;
        let before = self.before(key, "restore");
        let is_plain = copy.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-".contains(&byte));
        if !copy.starts_with("copy-") || !is_plain || copy.contains("..") {
            return Err(Failure::new(format!("`{copy:.80}` is no copy: `klar restore` makes one")));
        }
        let from = self.layout.keep(key).join(name.as_str()).join("work").join(copy).join("data");
        let release =
            self.current(key).and_then(|id| self.apps.borrow().get(key)?.releases.get(&id).cloned());
        if let Some(release) =
            release.filter(|release| self.kept_files(key, release).is_some_and(|kept| kept.name == *name))
        {
            self.put_files(key, &release, &from, progress).await?;
            return Ok(self.receipt(key, before, None).await);
        }
        let store = self.host.borrow().apps.get(key).and_then(|app| app.stores.get(name).cloned());
        let Some(store) = store.filter(|store| store.initialised) else {
            return Err(Failure::new(format!("`{name}` is no database of {key} that is kept")));
        };
        let step = progress.step("stop", format!("`{name}`"));
        self.suspend(key, name, true);
        let stopped = self.wait_for(PATIENCE, |core| {
            let apps = core.apps.borrow();
            let app = apps.get(key)?;
            app.instances.values().all(|one| one.record.id.service != *name).then_some(())
        });
        let stopped = stopped.await;
        step.end("what is in it now can no longer change");
        let step = progress.step("restore", format!("`{name}`"));
        let placed = match stopped {
            None => Err(Failure::new(format!("`{name}` did not stop within {} s", PATIENCE.as_secs()))),
            Some(()) => {
                let folder = self.layout.store(key, name);
                let invocation = store.take_over(&folder, &from);
                let what = format!("putting the copy of `{name}` in place");
                let identity = Identity::Data { key: key.clone() };
                let job = Job { key, service: name, identity, limits: Limits::default(), what: &what };
                let spec = |id: &InstanceId| {
                    let mut spec = self.store_command(id, &folder, invocation, libc::SIGTERM);
                    spec.stop_group = true;
                    Ok(spec)
                };
                self.run_job(job, None, spec).await
            }
        };
        // It may be a cluster of another machine: which one it is, is learned anew.
        if placed.is_ok() {
            let forgotten = self.remember(|host| {
                if let Some(store) = host.apps.get_mut(key).and_then(|app| app.stores.get_mut(name)) {
                    store.identity = None;
                }
            });
            forgotten.map_err(|error| Failure::new(error.to_string()))?;
        }
        // With the copy or without it: the database comes back.
        self.suspend(key, name, false);
        placed?;
        let ready = self.wait_for(PATIENCE, |core| {
            let apps = core.apps.borrow();
            let mut of_it = apps.get(key)?.instances.values().filter(|one| one.record.id.service == *name);
            of_it.any(|one| one.state == InstanceState::Ready).then_some(())
        });
        ready.await.ok_or_else(|| {
            Failure::new(format!("the restored `{name}` did not come up within {} s", PATIENCE.as_secs()))
                .hint(format!("`klar logs {name}` shows what it says; what was there before lies beside it"))
        })?;
        let aside = self.layout.store(key, name).join(store.aside());
        step.end(format!("what was there is in {}, until the next restore", aside.display()));
        Ok(self.receipt(key, before, None).await)
    }

    /// Files that were restored take the place of those in the app's folders, while nothing of the app runs that writes there.
    async fn put_files(
        self: &Rc<Self>,
        key: &AppKey,
        release: &Release,
        from: &Path,
        progress: &Progress,
    ) -> Result<(), Failure> {
        let services: BTreeSet<&ServiceName> = release
            .config
            .services
            .iter()
            .filter(|(_, of)| !of.writable.is_empty())
            .map(|(name, _)| name)
            .collect();
        let step = progress.step("stop", "what writes to the folders");
        services.iter().for_each(|name| self.suspend(key, name, true));
        let stopped = self.wait_for(PATIENCE, |core| {
            let apps = core.apps.borrow();
            let runs = |one: &Instance| {
                services.contains(&one.record.id.service) && one.release() == Some(&release.id)
            };
            (!apps.get(key)?.instances.values().any(runs)).then_some(())
        });
        let stopped = stopped.await;
        step.end("nothing changes in them");
        let step = progress.step("restore", "the app's folders");
        let aside = self.layout.app(key).join("writable.before");
        let placed = match stopped {
            None => Err(Failure::new(format!("the app did not stop within {} s", PATIENCE.as_secs()))),
            Some(()) => self.swap_files(key, from, &aside).await.map_err(|error| {
                Failure::new(format!("the files could not be put in place: {error}"))
                    .hint(format!("what was there lies in {}", aside.display()))
            }),
        };
        services.iter().for_each(|name| self.suspend(key, name, false));
        placed?;
        let ready = self.wait_for(PATIENCE, |core| {
            let apps = core.apps.borrow();
            let of = &apps.get(key)?.instances;
            let is_ready = |name: &&ServiceName| {
                let mut of_it = of.values().filter(|one| one.record.id.service == **name);
                of_it.any(|one| one.state == InstanceState::Ready)
            };
            services
                .iter()
                .filter(|name| !release.config.services[**name].is_cron())
                .all(is_ready)
                .then_some(())
        });
        ready.await.ok_or_else(|| {
            Failure::new(format!(
                "the app did not come up within {} s on the restored files",
                PATIENCE.as_secs()
            ))
            .hint(format!(
                "`klar logs` shows what it says; what was there before lies in {}",
                aside.display()
            ))
        })?;
        step.end(format!("what was there is in {}, until the next restore", aside.display()));
        Ok(())
    }

    async fn swap_files(&self, key: &AppKey, from: &Path, aside: &Path) -> std::io::Result<()> {
        let (writable, owner) = (self.layout.writable(key), app_identity(key));
        self.spawner.tell(Request::Give { path: from.to_owned(), owner: owner.clone() }).await?;
        self.spawner.tell(Request::Remove { path: aside.to_owned() }).await?;
        self.spawner.tell(Request::Move { from: writable.clone(), to: aside.to_owned() }).await?;
        let moved = self.spawner.tell(Request::Move { from: from.to_owned(), to: writable.clone() }).await;
        if moved.is_err() {
            // As it was.
            self.spawner.tell(Request::Move { from: aside.to_owned(), to: writable }).await?;
            return moved;
        }
        // The folder itself is the core's: only what is in it is the app's.
        self.spawner.folder(writable.clone(), Identity::Core, Identity::Core, 0o755).await
    }

    fn suspend(&self, key: &AppKey, name: &ServiceName, is_suspended: bool) {
        if let Some(app) = self.apps.borrow_mut().get_mut(key) {
            match is_suspended {
                true => drop(app.suspended.insert(name.clone())),
                false => drop(app.suspended.remove(name)),
            }
        }
        self.changed();
    }
}
