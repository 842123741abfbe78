//! What checks may see and do of an app that klar runs: the control API, and signals to its processes.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

use clap::Parser;
use klar_api::Client;
use klar_base::keep::{Ask as KeepAsk, Moment, Told};
use klar_base::signal::{AccessRecord, DecidedBy};
use klar_base::upstreams::Purge;
use klar_base::{AppKey, ServiceName};
use klar_config::FILE_NAME;
use klar_prove::world::http::{Ask, Client as Asker, Origin};
use klar_prove::world::recovery::{Plan, Rebuilt};
use klar_prove::world::usage::{self, Usage};
use klar_prove::world::{Doing, Instance, Klar, Measured, Output};
use klar_run::control::LogQuery;
use klar_run::layout::Layout;
use klar_run::report::AppStatus;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::context::{Context, Trouble};
use crate::rig::Rig;
use crate::verbs::backup as keep;

/// The app's hands.
pub struct Hands {
    client: Client,
    layout: Layout,
    key: AppKey,
    context: Context,
    /// Where files may be changed and shipped.
    rig: Option<Rc<Rig>>,
}

impl Hands {
    /// For one app.
    pub fn new(context: &Context, key: AppKey, rig: Option<Rc<Rig>>) -> Self {
        Self { client: context.client(), layout: context.layout.clone(), key, context: context.clone(), rig }
    }

    /// What klar has told the app's processes under a name of their environment.
    async fn told(&self, name: &str) -> Result<Option<String>, String> {
        let instances = self.instances().await?;
        let told = instances.iter().find_map(|instance| {
            let all = std::fs::read(format!("/proc/{}/environ", instance.pid?)).ok()?;
            let found = all
                .split(|byte| *byte == 0)
                .find_map(|pair| pair.strip_prefix(name.as_bytes())?.strip_prefix(b"=").map(<[u8]>::to_vec));
            found.map(|value| String::from_utf8_lossy(&value).into_owned())
        });
        Ok(told)
    }

    /// Runs a klar command in the rig without standing in the way of the checks; gives whether it succeeded.
    async fn in_rig(&self, verb: &[&str]) -> Result<bool, String> {
        let rig = self.rig.as_ref().ok_or("this is done in a rig only")?;
        let mut command = tokio::process::Command::from(rig.klar(verb));
        let output = command.output().await.map_err(|why| why.to_string())?;
        Ok(output.status.success())
    }

    async fn app(&self) -> Result<AppStatus, String> {
        let host = self.client.status().await.map_err(|why| why.to_string())?;
        let mut apps = host.apps.into_iter();
        apps.find(|app| app.key == self.key).ok_or_else(|| format!("{} is not up", self.key))
    }

    /// The shims and processes of all instances.
    async fn processes(&self) -> Result<Vec<(i32, i32)>, String> {
        let app = self.app().await?;
        let instances = app.services.iter().flat_map(|service| &service.instances);
        let both = instances.filter_map(|instance| Some((pid(instance.shim_pid?)?, pid(instance.pid?)?)));
        Ok(both.collect())
    }

    async fn store(&self, name: &str) -> Result<(i32, i32), String> {
        let app = self.app().await?;
        let store = app.stores.iter().find(|store| store.name.as_str() == name);
        let pids = store.and_then(|store| Some((pid(store.shim_pid?)?, pid(store.pid?)?)));
        pids.ok_or_else(|| format!("klar does not run the store {name}"))
    }
}

fn told(trouble: &Trouble) -> String {
    match trouble {
        Trouble::Failed(failure) | Trouble::Usage(failure) => failure.what.clone(),
        Trouble::Config(errors) => errors.render(false),
        Trouble::Verdict(status) => format!("it ended with {status}"),
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
            let query = LogQuery { service, lines, ..LogQuery::default() };
            let mut said = Vec::new();
            let each = |line: klar_run::report::LogLine| {
                said.push(line.text);
                true
            };
            self.client.logs(&self.key, &query, each).await.map_err(|why| why.to_string())?;
            Ok(said)
        })
    }

    fn verdicts<'a>(&'a self, requests: &'a [String]) -> Doing<'a, usize> {
        /// The checks that run meanwhile leave records as well.
        const RECORDS: usize = 20_000;
        Box::pin(async move {
            // They come in batches.
            tokio::time::sleep(Duration::from_millis(500)).await;
            let wanted: BTreeSet<&str> = requests.iter().map(String::as_str).collect();
            let query = LogQuery { lines: RECORDS, access: true, ..LogQuery::default() };
            let mut count = 0;
            let each = |line: klar_run::report::LogLine| {
                let record: Result<AccessRecord, _> = serde_json::from_str(&line.text);
                let is_one = |record: AccessRecord| {
                    wanted.contains(record.request_id.as_str())
                        && (record.waf.is_some() || record.decided_by == DecidedBy::Refused)
                };
                count += usize::from(record.is_ok_and(is_one));
                true
            };
            self.client.logs(&self.key, &query, each).await.map_err(|why| why.to_string())?;
            Ok(count)
        })
    }

    fn status(&self) -> Doing<'_, serde_json::Value> {
        Box::pin(async { serde_json::to_value(self.app().await?).map_err(|why| why.to_string()) })
    }

    fn exposition(&self) -> Doing<'_, String> {
        Box::pin(async { self.client.exposition().await.map_err(|why| why.to_string()) })
    }

    fn measured<'a>(&'a self, metric: &'a str) -> Doing<'a, Vec<Measured>> {
        Box::pin(async move {
            let (app, env) = (&self.key.app, &self.key.env);
            let selector = format!("{metric}{{app=~\"|{app}\",env=~\"|{env}\"}}");
            let ask = async |query: &str| {
                let said = self.client.metrics("query", &[("query", query)]).await;
                said.map(|mut said| said["result"].take()).map_err(|why| why.to_string())
            };
            // A query says when it was asked; when a sample was taken is a question of its own.
            let (values, times) = (ask(&selector).await?, ask(&format!("timestamp({selector})")).await?);
            let series = |said: serde_json::Value| -> Vec<(BTreeMap<String, String>, f64)> {
                let all = said.as_array().map(Vec::as_slice).unwrap_or_default();
                let read = |one: &serde_json::Value| {
                    let mut labels: BTreeMap<String, String> =
                        serde_json::from_value(one["metric"].clone()).ok()?;
                    labels.remove("__name__");
                    Some((labels, one["value"][1].as_str()?.parse().ok()?))
                };
                all.iter().filter_map(read).collect()
            };
            let times: BTreeMap<_, _> = series(times).into_iter().collect();
            let measured = series(values).into_iter().filter_map(|(labels, value)| {
                let at_unix_ms = (times.get(&labels)? * 1000.0) as i64;
                Some(Measured { labels, value, at_unix_ms })
            });
            Ok(measured.collect())
        })
    }

    fn kept<'a>(
        &'a self,
        what: &'a str,
        narrowed: &'a [(&'a str, &'a str)],
    ) -> Doing<'a, Vec<serde_json::Value>> {
        Box::pin(async move {
            let (app, env) = (self.key.app.to_string(), self.key.env.to_string());
            let mut params = vec![("app", app.as_str()), ("env", env.as_str()), ("limit", "10000")];
            params.extend_from_slice(narrowed);
            let mut found = self.client.find(what, &params).await.map_err(|why| why.to_string())?;
            match found["rows"].take() {
                serde_json::Value::Array(rows) => Ok(rows),
                other => Err(format!("telemetry said {other} instead of rows")),
            }
        })
    }

    fn trace<'a>(&'a self, id: &'a str) -> Doing<'a, serde_json::Value> {
        Box::pin(async move {
            // Telemetry knows by the id when that was; of one that nobody knows it looks at everything.
            let found = self.client.find("trace", &[("id", id), ("since", "0")]).await;
            found.map_err(|why| why.to_string())
        })
    }

    fn tell<'a>(&'a self, path: &'a str, body: &'a serde_json::Value) -> Doing<'a, u16> {
        Box::pin(async move {
            let endpoint = self.told("OTEL_EXPORTER_OTLP_ENDPOINT").await?;
            let headers = self.told("OTEL_EXPORTER_OTLP_HEADERS").await?;
            let (endpoint, headers) =
                endpoint.zip(headers).ok_or("no process of the app knows where to send OTLP")?;
            let address = endpoint.strip_prefix("http://").unwrap_or(&endpoint);
            let address: std::net::SocketAddr =
                address.parse().map_err(|_| format!("{endpoint} is not klar"))?;
            let authorization =
                headers.strip_prefix("authorization=").unwrap_or_default().replace("%20", " ");
            let origin = Origin { tls: false, host: address.ip().to_string(), port: address.port() };
            let ask = Ask::new("POST".parse().map_err(|_| "no method")?, path)
                .json(body)
                .with("authorization", authorization);
            let answer = Asker::new(origin).at(address).ask(ask).await;
            answer.map(|answer| answer.status.as_u16()).map_err(|why| why.to_string())
        })
    }

    fn count<'a>(&'a self, lines: &'a str) -> Doing<'a, bool> {
        Box::pin(async move {
            let Some(port) = self.told("STATSD_PORT").await? else { return Ok(false) };
            let port: u16 = port.parse().map_err(|_| format!("STATSD_PORT is {port}"))?;
            let sent = std::net::UdpSocket::bind("127.0.0.1:0")
                .and_then(|socket| socket.send_to(lines.as_bytes(), ("127.0.0.1", port)));
            sent.map(|_| true).map_err(|why| format!("port {port} for StatsD: {why}"))
        })
    }

    fn dashboard<'a>(&'a self, name: &'a str, form: &'a str) -> Doing<'a, (u16, String)> {
        Box::pin(async move {
            let (key, form) = (&self.key, if form == "html" { "" } else { ".json" });
            let of = if name.is_empty() { String::new() } else { format!("/{name}") };
            let said = self.client.page(&format!("/dashboards/{key}{of}{form}")).await;
            let (status, text) = said.map_err(|why| why.to_string())?;
            Ok((status.as_u16(), String::from_utf8_lossy(&text).into_owned()))
        })
    }

    fn say<'a>(&'a self, instance: &'a Instance, is_error: bool, pieces: Vec<String>) -> Doing<'a, ()> {
        Box::pin(async move {
            let pid = instance.pid.ok_or_else(|| format!("{} has no process", instance.name))?;
            // The pipe at whose other end its shim reads.
            let path = PathBuf::from(format!("/proc/{pid}/fd/{}", if is_error { 2 } else { 1 }));
            let say = move || -> std::io::Result<()> {
                let mut pipe = std::fs::File::options().write(true).open(&path)?;
                pieces.iter().try_for_each(|piece| pipe.write_all(piece.as_bytes()))
            };
            let said = tokio::task::spawn_blocking(say).await.map_err(|why| why.to_string())?;
            said.map_err(|why| format!("the output of {}: {why}", instance.name))
        })
    }

    fn output<'a>(&'a self, instance: &'a Instance) -> Doing<'a, Output> {
        Box::pin(async move {
            let config = self.client.config(&self.key).await.map_err(|why| why.to_string())?;
            let config: toml_edit::DocumentMut =
                config.parse().map_err(|why: toml_edit::TomlError| why.to_string())?;
            let limit = config.get("logs").and_then(|logs| logs.get("max_size")?.as_str()).unwrap_or("64MiB");
            let limit: klar_base::ByteSize = limit.parse().map_err(|why| format!("logs.max_size: {why}"))?;
            let service = ServiceName::new(&instance.service).map_err(|why| why.to_string())?;
            let folder = self.layout.logs(&self.key, &service);
            let (current, older) = (format!("{}.log", instance.name), format!("{}.log.", instance.name));
            let mut files: Vec<(PathBuf, u64)> = std::fs::read_dir(&folder)
                .map_err(|why| format!("{}: {why}", folder.display()))?
                .flatten()
                .filter(|entry| {
                    entry
                        .file_name()
                        .to_str()
                        .is_some_and(|name| name.starts_with(&older) && !name.ends_with(".half"))
                })
                .filter_map(|entry| Some((entry.path(), entry.metadata().ok()?.len())))
                .collect();
            files.sort();
            let current = folder.join(current);
            let size =
                std::fs::metadata(&current).map_err(|why| format!("{}: {why}", current.display()))?.len();
            files.push((current, size));
            Ok(Output { limit: limit.0, files })
        })
    }

    fn kill_telemetry(&self) -> Doing<'_, ()> {
        Box::pin(async {
            let running = async || {
                let host = self.client.status().await.map_err(|why| why.to_string())?;
                Ok::<_, String>((host.see.pid, host.see.restarts))
            };
            let (old, restarts) = running().await?;
            signal(old.and_then(pid).ok_or("telemetry does not run")?, Signal::SIGKILL)?;
            let again = async || {
                let (new, count) = running().await.ok()?;
                (count > restarts && new.is_some()).then_some(())
            };
            let again = klar_prove::world::until(Duration::from_secs(30), again).await;
            again.ok_or_else(|| "telemetry does not come back".to_owned())
        })
    }

    fn keep(&self, ask: KeepAsk) -> Doing<'_, Told> {
        let path = self.layout.keep_socket(&self.key);
        Box::pin(async move {
            let asked = tokio::task::spawn_blocking(move || keep::ask(&path, &ask, |_, _, _| {}));
            asked.await.map_err(|why| why.to_string())?.map_err(|why| why.to_string())
        })
    }

    fn restore(&self, moment: Moment) -> Doing<'_, ()> {
        Box::pin(async move {
            if self.rig.is_none() {
                return Err("this is done in a rig only".to_owned());
            }
            let plan = self.keep(KeepAsk::Plan { store: None, moment: moment.clone(), from: None }).await?;
            let copy = self.keep(KeepAsk::Restore { store: None, moment, from: None }).await?;
            let (Told::Plan(plan), Told::Copy(copy)) = (plan, copy) else {
                return Err("what keeps the database answered something else".to_owned());
            };
            let taken = self.client.take_over(&self.key, plan.store, copy.copy.clone(), |_| {}).await;
            self.keep(KeepAsk::Remove { copy: copy.copy }).await?;
            taken.map(drop).map_err(|why| why.to_string())
        })
    }

    fn plan(&self) -> Doing<'_, Plan> {
        Box::pin(async {
            let context = self.rig.as_ref().map_or(&self.context, |rig| &rig.context);
            crate::disaster::plan(context).map_err(|trouble| told(&trouble))
        })
    }

    fn knows<'a>(&'a self, command: &'a str) -> Doing<'a, bool> {
        let is_known = crate::cli::Cli::try_parse_from(command.split_whitespace()).is_ok();
        Box::pin(std::future::ready(Ok(is_known)))
    }

    fn lose_all<'a>(&'a self, commands: &'a [String]) -> Doing<'a, Rebuilt> {
        Box::pin(async move {
            let rig = self.rig.as_ref().ok_or("this is done in a rig only")?;
            crate::disaster::rehearse(&rig.original, commands).await.map_err(|trouble| told(&trouble))
        })
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

    fn usage<'a>(&'a self, instance: &'a Instance) -> Doing<'a, Option<Usage>> {
        Box::pin(async move { Ok(instance.pid.and_then(usage::of)) })
    }

    fn scale<'a>(&'a self, service: &'a str, instances: u32) -> Doing<'a, ()> {
        Box::pin(async move {
            let service = ServiceName::new(service).map_err(|why| why.to_string())?;
            let scaled = self.client.scale(&self.key, service, instances, |_| {}).await;
            scaled.map(drop).map_err(|why| why.to_string())
        })
    }

    fn halt(&self) -> Doing<'_, ()> {
        // Shims that stand still cannot tell that their instances have died, so nobody starts others.
        Box::pin(async {
            for (shim, instance) in self.processes().await? {
                signal(shim, Signal::SIGSTOP)?;
                signal(instance, Signal::SIGKILL)?;
            }
            Ok(())
        })
    }

    fn resume(&self) -> Doing<'_, ()> {
        Box::pin(async {
            let app = self.app().await?;
            let instances = app.services.iter().flat_map(|service| &service.instances);
            for shim in instances.filter_map(|instance| pid(instance.shim_pid?)) {
                // One that is gone needs no waking.
                let _ = signal(shim, Signal::SIGCONT);
            }
            Ok(())
        })
    }

    fn purge<'a>(&'a self, path: &'a str) -> Doing<'a, ()> {
        Box::pin(async move {
            let purged = self.client.purge(&self.key, &Purge::Url(path.to_owned())).await;
            purged.map(drop).map_err(|why| why.to_string())
        })
    }

    fn renew(&self) -> Doing<'_, ()> {
        Box::pin(async {
            let renewed = self.client.renew(&self.key, |_| {}).await;
            renewed.map(drop).map_err(|why| why.to_string())
        })
    }

    fn ship(&self, broken: bool) -> Doing<'_, bool> {
        Box::pin(async move {
            let rig = self.rig.as_ref().ok_or("this is done in a rig only")?;
            let file = rig.context.folder().join(FILE_NAME);
            let before = std::fs::read_to_string(&file).map_err(|why| why.to_string())?;
            let changed = if broken { broken_start(&before)? } else { before.clone() };
            std::fs::write(&file, format!("{changed}\n# shipped by klar check\n"))
                .map_err(|why| why.to_string())?;
            let shipped = self.in_rig(&["deploy"]).await;
            std::fs::write(&file, before).map_err(|why| why.to_string())?;
            shipped
        })
    }

    fn roll_back(&self) -> Doing<'_, ()> {
        Box::pin(async {
            match self.in_rig(&["rollback"]).await? {
                true => Ok(()),
                false => Err("the rollback was refused".to_owned()),
            }
        })
    }

    fn release(&self) -> Doing<'_, String> {
        Box::pin(async {
            let release = self.app().await?.release;
            release.map(|id| id.to_string()).ok_or_else(|| "nothing serves".to_owned())
        })
    }
}

/// The same settings with a command that ends at once in place of each one that runs.
fn broken_start(text: &str) -> Result<String, String> {
    let mut file: toml_edit::DocumentMut =
        text.parse().map_err(|why: toml_edit::TomlError| why.to_string())?;
    let services = file.get_mut("services").and_then(toml_edit::Item::as_table_like_mut);
    let mut changed = 0;
    for (_, service) in services.into_iter().flat_map(|services| services.iter_mut()) {
        let Some(run) = service.as_table_like_mut().and_then(|service| service.get_mut("run")) else {
            continue;
        };
        *run = toml_edit::value("echo 'klar check: this release cannot start' && exit 1");
        changed += 1;
    }
    if changed == 0 { Err("no service has a command".to_owned()) } else { Ok(file.to_string()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_is_replaced_and_nothing_else() {
        let text = "app.name = \"a\"\nservices.web.run = \"node x\" # why\n[services.worker]\nrun = \"y\"\nmemory = \"1GiB\"\n[services.pages]\nstatic = \"z\"\n";
        let broken = broken_start(text).unwrap();
        assert_eq!(broken.matches("exit 1").count(), 2, "{broken}");
        assert!(
            broken.contains("memory = \"1GiB\"")
                && broken.contains("static = \"z\"")
                && !broken.contains("node x")
        );
        assert!(broken_start("app.name = \"a\"").is_err());
    }
}
