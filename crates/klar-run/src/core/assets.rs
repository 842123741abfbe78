//! Having the static files of a release made ready, by a process of its own: see [`crate::assets`].
//!
//! A deploy never fails for it. What could not be made is said, and the edge compresses by itself as it always could.

use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use klar_base::{AppKey, ServiceName};
use klar_config::{Service, ServiceWorker};
use tokio::io::AsyncWriteExt;

use super::Core;
use super::progress::Progress;
use crate::assets::worker::Worker;
use crate::assets::{Done, PATIENCE, Plan, Task, WHOLE};
use crate::release::Release;
use crate::spawn::Request;

/// What has begun within [`PATIENCE`] may take so much longer.
const GRACE: Duration = Duration::from_secs(20);
/// So much of what it says is passed on.
const NOTES_MAX: usize = 10;

impl Core {
    /// Makes the static files of a release ready, where it has some. Its folder is frozen already.
    pub(super) async fn prepare_assets(&self, key: &AppKey, release: &Release, progress: &Progress) {
        let plan = self.assets_plan(key, release);
        if plan.tasks.is_empty() {
            return;
        }
        let step = progress.step("assets", "the static files");
        let out = self.layout.release(key, &release.id).join("assets");
        match prepare(&plan, &out).await {
            Ok(done) => {
                for service in &done {
                    for note in service.notes.iter().take(NOTES_MAX) {
                        progress.note(format!("`{}`: {note}", service.service));
                    }
                    if let Some(more) = service.notes.len().checked_sub(NOTES_MAX).filter(|more| *more > 0) {
                        progress.note(format!("`{}`: {more} more of these", service.service));
                    }
                }
                step.end(told(&done));
                // As the files themselves: for everybody to read, for nobody to change.
                if let Err(error) = self.spawner.tell(Request::Freeze { path: out }).await {
                    eprintln!("klar core: the prepared files of {key} stay open: {error}");
                }
            }
            Err(why) => {
                let _ = self.spawner.tell(Request::Remove { path: out }).await;
                step.end("left as they are");
                progress.note(format!(
                    "the static files could not be compressed beforehand, and will be as they are asked for: {why}"
                ));
            }
        }
    }

    fn assets_plan(&self, key: &AppKey, release: &Release) -> Plan {
        let place = self.layout.release(key, &release.id);
        let before = self.current(key).map(|id| self.layout.release(key, &id).join("assets"));
        let mut tasks = Vec::new();
        for (name, service) in &release.config.services {
            let Some(folder) = static_folder(&place, service) else { continue };
            tasks.push(Task {
                service: name.to_string(),
                folder,
                out: place.join("assets").join(name.as_str()),
                before: before.as_ref().map(|before| before.join(name.as_str())),
                base: base(release, name),
                minify: service.minify,
                links: service.early_hints,
                worker: worker(release, name, service),
            });
        }
        Plan { tasks, patience_ms: super::state::millis(PATIENCE) }
    }
}

/// The static folder of a service, if it cannot change: what lies behind a symbolic link is declared to be writable.
fn static_folder(place: &std::path::Path, service: &Service) -> Option<PathBuf> {
    let files = place.join("files").canonicalize().ok()?;
    let folder = files.join(service.static_dir.as_ref()?.as_path());
    (folder.canonicalize().ok()? == folder).then_some(folder)
}

/// What leads to all of a service's folder in addresses, without a slash at its end.
fn base(release: &Release, name: &ServiceName) -> Option<String> {
    let own = release.config.routes.iter().filter(|route| route.policy.to == *name);
    let bases = own.filter_map(|route| route.pattern.to_string().strip_suffix("/*").map(str::to_owned));
    bases.min_by_key(String::len)
}

/// What the service worker of a folder is to know. Addresses that other routes take are left to the network.
fn worker(release: &Release, name: &ServiceName, service: &Service) -> Option<Worker> {
    match service.service_worker {
        ServiceWorker::Switch(false) => None,
        ServiceWorker::Leaving(_) => Some(Worker::Off),
        ServiceWorker::Switch(true) => {
            let below = format!("{}/", base(release, name)?);
            let others = release.config.routes.iter().filter(|route| route.policy.to != *name);
            let others = others.map(|route| route.pattern.to_string());
            let elsewhere = others.filter(|pattern| *pattern != "/*" && pattern.starts_with(&below));
            Some(Worker::On { elsewhere: elsewhere.collect(), spa: service.spa })
        }
    }
}

/// Runs the plan. Its process ends with this future.
async fn prepare(plan: &Plan, out: &std::path::Path) -> Result<Vec<Done>, String> {
    let said = |error: &dyn std::fmt::Display| error.to_string();
    let own = std::env::current_exe().map_err(|error| said(&error))?;
    std::fs::create_dir_all(out).map_err(|error| format!("{}: {error}", out.display()))?;
    let plan_json = serde_json::to_vec(plan).map_err(|error| said(&error))?;
    let mut command = tokio::process::Command::new(own);
    command.arg("assets").arg(out).env_clear();
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let mut child = command.spawn().map_err(|error| said(&error))?;
    let mut stdin = child.stdin.take();
    let run = async {
        if let Some(stdin) = &mut stdin {
            stdin.write_all(&plan_json).await?;
        }
        drop(stdin);
        child.wait_with_output().await
    };
    let limit = Duration::from_millis(plan.patience_ms) + GRACE;
    let output = match tokio::time::timeout(limit, run).await {
        Ok(output) => output.map_err(|error| said(&error))?,
        Err(_) => return Err(format!("it was not done within {} s", limit.as_secs())),
    };
    if !output.status.success() {
        let words = String::from_utf8_lossy(&output.stderr);
        return Err(format!("{} ({})", words.trim(), output.status));
    }
    serde_json::from_slice(&output.stdout).map_err(|error| said(&error))
}

fn told(done: &[Done]) -> String {
    let sum = |of: fn(&Done) -> u64| done.iter().map(of).sum::<u64>();
    let (files, reused, left) = (sum(|d| d.files), sum(|d| d.reused), sum(|d| d.left));
    let mut words = format!("{files} compressed");
    if files > 0 {
        let kib = |bytes: u64| bytes.div_ceil(1024);
        words.push_str(&format!(", {} KiB to {} KiB", kib(sum(|d| d.bytes)), kib(sum(|d| d.packed_bytes))));
    }
    let minified = sum(|d| d.minified);
    if minified > 0 {
        words.push_str(&format!(", {minified} minified"));
    }
    if reused > 0 {
        words.push_str(&format!(", {reused} as before"));
    }
    if left > 0 {
        words.push_str(&format!(", {left} left for the next time"));
    }
    words
}

/// The folder of what was made of a service's static files, if it is whole.
pub(super) fn prepared(place: &std::path::Path, service: &str) -> Option<PathBuf> {
    let folder = place.join("assets").join(service);
    folder.join(WHOLE).is_file().then_some(folder)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_step_says_what_was_done() {
        let done = |files, bytes, packed_bytes, reused, left| Done {
            files,
            bytes,
            packed_bytes,
            reused,
            left,
            ..Done::default()
        };
        for (all, words) in [
            (vec![done(0, 0, 0, 0, 0)], "0 compressed"),
            (vec![done(2, 4000, 1000, 0, 0)], "2 compressed, 4 KiB to 1 KiB"),
            (
                vec![done(2, 4000, 1000, 1, 0), done(1, 96, 24, 1, 3)],
                "3 compressed, 4 KiB to 1 KiB, 2 as before, 3 left for the next time",
            ),
        ] {
            assert_eq!(told(&all), words);
        }
    }
}
