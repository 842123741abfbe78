//! What checks may see and do of an app that klar runs: the control API, and signals to its processes.

use klar_api::Client;
use klar_base::{AppKey, ServiceName};
use klar_prove::world::{Doing, Instance, Klar};
use klar_run::control::LogQuery;
use klar_run::report::AppStatus;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// The app's hands.
pub struct Hands {
    client: Client,
    key: AppKey,
}

impl Hands {
    /// For one app.
    pub fn new(client: Client, key: AppKey) -> Self {
        Self { client, key }
    }

    async fn app(&self) -> Result<AppStatus, String> {
        let host = self.client.status().await.map_err(|why| why.to_string())?;
        let mut apps = host.apps.into_iter();
        apps.find(|app| app.key == self.key).ok_or_else(|| format!("{} is not up", self.key))
    }

    async fn store(&self, name: &str) -> Result<(i32, i32), String> {
        let app = self.app().await?;
        let store = app.stores.iter().find(|store| store.name.as_str() == name);
        let pids = store.and_then(|store| Some((pid(store.shim_pid?)?, pid(store.pid?)?)));
        pids.ok_or_else(|| format!("klar does not run the store {name}"))
    }
}

fn pid(pid: u32) -> Option<i32> {
    i32::try_from(pid).ok()
}

fn signal(pid: i32, signal: Signal) -> Result<(), String> {
    kill(Pid::from_raw(pid), signal).map_err(|why| format!("process {pid}: {why}"))
}

impl Klar for Hands {
    fn instances(&self) -> Doing<'_, Vec<Instance>> {
        Box::pin(async {
            let app = self.app().await?;
            let instances = app.services.iter().flat_map(|service| {
                service.instances.iter().filter(|instance| instance.serving).map(|instance| Instance {
                    name: instance.id.short(),
                    service: service.name.to_string(),
                    pid: instance.pid.and_then(pid),
                    address: instance.port.map(|port| ([127, 0, 0, 1], port).into()),
                })
            });
            Ok(instances.collect())
        })
    }

    fn logs<'a>(&'a self, service: Option<&'a str>, lines: usize) -> Doing<'a, Vec<String>> {
        Box::pin(async move {
            let service = service.map(ServiceName::new).transpose().map_err(|why| why.to_string())?;
            let query = LogQuery { service, instance: None, lines, follow: false, access: false };
            let mut said = Vec::new();
            let each = |line: klar_run::report::LogLine| {
                said.push(line.text);
                true
            };
            self.client.logs(&self.key, &query, each).await.map_err(|why| why.to_string())?;
            Ok(said)
        })
    }

    fn status(&self) -> Doing<'_, serde_json::Value> {
        Box::pin(async { serde_json::to_value(self.app().await?).map_err(|why| why.to_string()) })
    }

    fn take_away<'a>(&'a self, store: &'a str) -> Doing<'a, ()> {
        // A shim that stands still cannot tell that its database has died, so nobody starts it again.
        Box::pin(async move {
            let (shim, database) = self.store(store).await?;
            signal(shim, Signal::SIGSTOP)?;
            signal(database, Signal::SIGQUIT)
        })
    }

    fn give_back<'a>(&'a self, store: &'a str) -> Doing<'a, ()> {
        Box::pin(async move {
            let app = self.app().await?;
            let shim = app
                .stores
                .iter()
                .find(|each| each.name.as_str() == store)
                .and_then(|each| pid(each.shim_pid?));
            signal(shim.ok_or_else(|| format!("klar does not run the store {store}"))?, Signal::SIGCONT)
        })
    }

    fn stores(&self) -> Doing<'_, Vec<(String, String)>> {
        Box::pin(async {
            let app = self.app().await?;
            let managed = app.stores.into_iter().filter(|store| store.managed);
            Ok(managed.map(|store| (store.name.to_string(), store.kind)).collect())
        })
    }

    fn kill<'a>(&'a self, instance: &'a Instance) -> Doing<'a, ()> {
        Box::pin(async move {
            let pid = instance.pid.ok_or_else(|| format!("{} has no process", instance.name))?;
            signal(pid, Signal::SIGKILL)
        })
    }
}
