//! The foil's answer to what klar can do with an app.

use std::process::{Child, Command, Stdio};
use std::rc::Rc;

use klar_base::keep::{Ask, Moment, Told};

use super::App;
use super::telemetry::Telemetry;
use crate::world::recovery::{MARKS, Plan, Rebuilt};
use crate::world::usage::Usage;
use crate::world::{Doing, Instance, Klar, Measured, Output};

/// See [`super::Foil::hands`].
pub struct Hands(pub(super) Rc<App>, Option<Process>);

/// A process of the foil's own: nothing runs in it, but it was started as an app is.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Hands {
    pub(super) fn new(app: Rc<App>) -> Self {
        let mut process = Command::new("sleep");
        process.arg("3600").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).env_clear();
        process.env("PATH", "/usr/bin:/bin").env("NODE_ENV", "production");
        if app.has("development") {
            process.env("NODE_ENV", "development");
        }
        if app.has("debug") {
            process.env("FLASK_DEBUG", "1");
        }
        Self(app, process.spawn().ok().map(Process))
    }

    fn pid(&self) -> Option<i32> {
        i32::try_from(self.1.as_ref()?.0.id()).ok()
    }
}

/// No process has such a number.
const NOBODY: i32 = 1 << 23;

fn done<T: 'static>(value: T) -> Doing<'static, T> {
    Box::pin(std::future::ready(Ok(value)))
}

impl Klar for Hands {
    fn instances(&self) -> Doing<'_, Vec<Instance>> {
        let instance = |number: i32| Instance {
            name: format!("foil.{number}"),
            service: "foil".to_owned(),
            pid: if number == 100 { self.pid() } else { Some(NOBODY + number) },
            address: Some(([127, 0, 0, 1], self.0.ports[0]).into()),
        };
        let state = &self.0.state;
        if self.0.has("nothing-runs") {
            return done(Vec::new());
        }
        let mut instances = if self.0.has("one-instance") { Vec::new() } else { vec![instance(100)] };
        if !state.gone.get() {
            instances.insert(0, instance(1 + state.number.get()));
        }
        done(instances)
    }

    fn logs<'a>(&'a self, _: Option<&'a str>, lines: usize) -> Doing<'a, Vec<String>> {
        let log = self.0.state.log.borrow();
        done(log.iter().skip(log.len().saturating_sub(lines)).cloned().collect())
    }

    fn verdicts<'a>(&'a self, requests: &'a [String]) -> Doing<'a, usize> {
        done(if self.0.has("silent-firewall") { 0 } else { requests.len() })
    }

    fn status(&self) -> Doing<'_, serde_json::Value> {
        let store = serde_json::json!({"name": "db", "kind": "postgres", "port": self.0.ports[1]});
        let state = &self.0.state;
        // The first may have been killed: then another has its number, or nobody.
        let pids = [if state.gone.get() { None } else { Some(1 + state.number.get()) }, Some(100), Some(101)];
        let instances: Vec<_> = pids
            .into_iter()
            .zip(state.requests.get())
            .filter_map(|(pid, requests)| {
                let pid = pid?;
                let release = if self.0.has("two-releases") { format!("r{pid}") } else { "r0".to_owned() };
                let id = format!("foil.{pid}");
                Some(serde_json::json!({ "id": id, "pid": pid, "requests": requests, "release": release }))
            })
            .collect();
        let services = [serde_json::json!({ "name": "foil", "instances": instances })];
        let kept = state.keeping.get().map(|_| serde_json::json!({ "store": "files", "daily": true }));
        done(serde_json::json!({ "stores": [store], "services": services, "kept": [kept] }))
    }

    fn exposition(&self) -> Doing<'_, String> {
        done(
            if self.0.has("torn-metrics") { "requests = 12\n" } else { "requests_total 12\n# EOF\n" }
                .to_owned(),
        )
    }

    fn measured<'a>(&'a self, metric: &'a str) -> Doing<'a, Vec<Measured>> {
        Box::pin(async move {
            let asked = Telemetry::activity(&self.0, metric).await;
            Ok(asked.unwrap_or_else(|| self.0.state.telemetry.measured(&self.0, metric)))
        })
    }

    fn kept<'a>(
        &'a self,
        what: &'a str,
        narrowed: &'a [(&'a str, &'a str)],
    ) -> Doing<'a, Vec<serde_json::Value>> {
        let state = &self.0.state;
        done(match what {
            "logs" => state.output.kept(&self.0, narrowed),
            _ => state.telemetry.kept(&self.0, narrowed),
        })
    }

    fn trace<'a>(&'a self, id: &'a str) -> Doing<'a, serde_json::Value> {
        done(self.0.state.telemetry.trace(&self.0, id))
    }

    fn tell<'a>(&'a self, _: &'a str, body: &'a serde_json::Value) -> Doing<'a, u16> {
        done(if self.0.has("refuses-otlp") { 404 } else { self.0.state.telemetry.take(&self.0, body) })
    }

    fn count<'a>(&'a self, lines: &'a str) -> Doing<'a, bool> {
        self.0.state.telemetry.count(&self.0, lines);
        done(true)
    }

    fn dashboard<'a>(&'a self, name: &'a str, form: &'a str) -> Doing<'a, (u16, String)> {
        done(self.0.state.telemetry.dashboard(&self.0, name, form))
    }

    fn say<'a>(&'a self, _: &'a Instance, is_error: bool, pieces: Vec<String>) -> Doing<'a, ()> {
        let said = self.0.state.output.say(&self.0, is_error, &pieces.concat());
        Box::pin(std::future::ready(said.map_err(|why| why.to_string())))
    }

    fn output<'a>(&'a self, _: &'a Instance) -> Doing<'a, Output> {
        done(self.0.state.output.files_and_limit())
    }

    fn kill_telemetry(&self) -> Doing<'_, ()> {
        self.0.state.telemetry_was_killed.set(true);
        done(())
    }

    fn take_away<'a>(&'a self, store: &'a str) -> Doing<'a, ()> {
        let state = &self.0.state;
        match store {
            "cache" => {
                state.cache_away.set(true);
                state.cache_was_away.set(true);
            }
            // No store, but what a check breaks in the database of a real app.
            "schema" => state.schema_broken.set(true),
            _ => {
                state.database_away.set(true);
                state.was_away.set(true);
            }
        }
        done(())
    }

    fn give_back<'a>(&'a self, store: &'a str) -> Doing<'a, ()> {
        let state = &self.0.state;
        match store {
            "cache" => state.cache_away.set(false),
            "schema" => state.schema_broken.set(false),
            _ => state.database_away.set(false),
        }
        done(())
    }

    fn keep(&self, ask: Ask) -> Doing<'_, Told> {
        Box::pin(async move {
            let keeping = self.0.state.keeping.get().ok_or("nobody keeps the foil's database")?;
            keeping.asked(&self.0, ask).await
        })
    }

    fn restore(&self, _: Moment) -> Doing<'_, ()> {
        self.0.state.restored.set(true);
        done(())
    }

    fn plan(&self) -> Doing<'_, Plan> {
        let has = |fault| self.0.has(fault);
        let text = format!("{}\n$ klar up\n$ klar restore latest\n{}", MARKS.0, MARKS.1);
        let there = match () {
            () if has("old-recovery-plan") => text.replace("latest", "earliest"),
            () if has("made-up-command") => text.replace("restore", "resurrect"),
            () => text.clone(),
        };
        done(Plan {
            text,
            written: (!has("no-recovery-plan")).then(|| ("docs/recovery.md".to_owned(), there)),
            lacks: if has("nobody-to-call") { vec!["recovery.contact".to_owned()] } else { Vec::new() },
            place: (!has("no-second-place")).then(|| "/mnt/second".to_owned()),
            rto_ms: 3_600_000,
            rpo_ms: 300_000,
        })
    }

    fn knows<'a>(&'a self, command: &'a str) -> Doing<'a, bool> {
        done(["klar up", "klar restore latest", "klar restore earliest"].contains(&command))
    }

    fn lose_all<'a>(&'a self, commands: &'a [String]) -> Doing<'a, Rebuilt> {
        let has = |fault| self.0.has(fault);
        let failed = has("not-rebuilt").then(|| "it did not come up".to_owned());
        let given = |command: &String| (command.clone(), 1000, failed.clone());
        done(Rebuilt {
            commands: commands.iter().map(given).collect(),
            from_git: true,
            from_drawer: Vec::new(),
            rows: 1000,
            back: if has("loses-newest-rows") { 100 } else { 990 },
            lost_ms: if has("loses-newest-rows") { 3_600_000 } else { 500 },
            away_ms: Some(if has("slow-rebuild") { 3 * 3_600_000 } else { 20_000 }),
            before: Some(200),
            after: Some(if has("fails-when-rebuilt") { 500 } else { 200 }),
        })
    }

    fn stores(&self) -> Doing<'_, Vec<(String, String)>> {
        done(
            [("db", "postgres"), ("cache", "redis")]
                .map(|(name, kind)| (name.to_owned(), kind.to_owned()))
                .into(),
        )
    }

    fn kill<'a>(&'a self, _: &'a Instance) -> Doing<'a, ()> {
        let state = &self.0.state;
        state.number.set(state.number.get() + 1);
        state.gone.set(self.0.has("never-restarted"));
        done(())
    }

    fn usage<'a>(&'a self, _: &'a Instance) -> Doing<'a, Option<Usage>> {
        let state = &self.0.state;
        // Each look is a second later than the one before, whatever the clock says.
        let looks = state.looks.get() + 1;
        state.looks.set(looks);
        let leaked = if self.0.has("leaks") { looks << 20 } else { 0 };
        done(Some(Usage {
            cpu_ms: looks * if self.0.has("busy") { 3_000 } else { 100 },
            memory: (50 << 20) + leaked + if self.0.has("near-its-limit") { 45 << 20 } else { 0 },
            memory_limit: Some(100 << 20),
            cores: 1.0,
            throttled: 0,
        }))
    }

    fn scale<'a>(&'a self, _: &'a str, _: u32) -> Doing<'a, ()> {
        done(())
    }

    fn halt(&self) -> Doing<'_, ()> {
        self.0.state.halted.set(true);
        done(())
    }

    fn resume(&self) -> Doing<'_, ()> {
        self.0.state.halted.set(false);
        done(())
    }

    fn purge<'a>(&'a self, path: &'a str) -> Doing<'a, ()> {
        if !self.0.has("deaf-to-purge") {
            self.0.state.shelf.forget(path);
        }
        done(())
    }

    fn renew(&self) -> Doing<'_, ()> {
        let state = &self.0.state;
        if !self.0.has("never-renews") {
            state.certificate.set(state.certificate.get() + 1);
        }
        state.renewed.set(true);
        done(())
    }

    fn ship(&self, broken: bool) -> Doing<'_, bool> {
        let state = &self.0.state;
        state.shipped.set(state.shipped.get() + 1);
        let serves = !broken || self.0.has("takes-broken");
        if serves {
            state.release.set(state.release.get() + 1);
            state.broken.set(broken);
        }
        done(serves)
    }

    fn roll_back(&self) -> Doing<'_, ()> {
        if !self.0.has("no-way-back") {
            self.0.state.release.set(self.0.state.release.get() - 1);
            self.0.state.broken.set(false);
        }
        done(())
    }

    fn release(&self) -> Doing<'_, String> {
        done(format!("r{}", self.0.state.release.get()))
    }
}
