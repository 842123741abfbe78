//! Reading an app's output back: the last lines of all its instances in order of time, then new ones.

use std::collections::BTreeMap;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use klar_base::AppKey;
use tokio::sync::mpsc;

use super::Core;
use crate::control::LogQuery;
use crate::report::{Failure, LogLine};
use crate::shim::log;

const LOOK: Duration = Duration::from_millis(200);
const LINES_MAX: usize = 100_000;

impl Core {
    pub(super) fn read_logs(
        self: Rc<Self>,
        key: &AppKey,
        query: LogQuery,
    ) -> Result<mpsc::Receiver<LogLine>, Failure> {
        if !self.host.borrow().apps.contains_key(key) {
            return Err(Failure::new(format!("there is no app {key} here"))
                .hint("`klar status` lists those that there are"));
        }
        const ROOM: usize = 256;
        let (sender, receiver) = mpsc::channel(ROOM);
        let folder = if query.access || query.shadow {
            self.layout.access_log(key).parent().map(Path::to_owned).unwrap_or_default()
        } else {
            self.layout.app(key).join("logs")
        };
        tokio::task::spawn_blocking(move || stream(&folder, &query, &sender));
        Ok(receiver)
    }
}

/// The current files that a query is about: (instance, path).
fn files(folder: &Path, query: &LogQuery) -> Vec<(String, PathBuf)> {
    if query.access || query.shadow {
        let name = if query.shadow { "shadow" } else { "access" };
        let newest = folder.join(format!("{name}.jsonl"));
        // All that is kept of a sample is looked at.
        let older = query.shadow.then(|| newest.with_extension("jsonl.1"));
        return older.into_iter().chain([newest]).map(|path| (name.into(), path)).collect();
    }
    let mut found = Vec::new();
    for service in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = service.file_name().to_string_lossy().into_owned();
        if query.service.as_ref().is_some_and(|wanted| wanted.as_str() != name) {
            continue;
        }
        for file in std::fs::read_dir(service.path()).into_iter().flatten().flatten() {
            let path = file.path();
            let Some(instance) =
                path.file_name().and_then(|n| n.to_str()).and_then(|n| n.strip_suffix(".log"))
            else {
                continue;
            };
            let plain = instance.strip_prefix("klar-").unwrap_or(instance);
            if query.instance.as_ref().is_none_or(|wanted| wanted == plain) {
                found.push((instance.to_owned(), path.clone()));
            }
        }
    }
    found
}

fn read_line(query: &LogQuery, instance: &str, text: &str) -> Option<LogLine> {
    if query.access || query.shadow {
        return Some(LogLine {
            time: String::new(),
            instance: "edge".into(),
            stream: instance.into(),
            text: text.into(),
        });
    }
    log::parse(instance.strip_prefix("klar-").unwrap_or(instance), text)
}

fn stream(folder: &Path, query: &LogQuery, sender: &mpsc::Sender<LogLine>) {
    let mut ends: BTreeMap<PathBuf, u64> = BTreeMap::new();
    let count = query.lines.min(LINES_MAX);
    let mut past: Vec<LogLine> = Vec::new();
    for (instance, path) in files(folder, query) {
        ends.insert(path.clone(), std::fs::metadata(&path).map_or(0, |meta| meta.len()));
        if query.access || query.shadow {
            let text = std::fs::read(&path).unwrap_or_default();
            let text = String::from_utf8_lossy(&text);
            let skip = text.lines().count().saturating_sub(count);
            past.extend(text.lines().skip(skip).filter_map(|line| read_line(query, &instance, line)));
        } else {
            let mut lines =
                path.parent().map(|folder| log::tail(folder, &instance, count)).unwrap_or_default();
            for line in &mut lines {
                line.instance = instance.strip_prefix("klar-").unwrap_or(&instance).to_owned();
            }
            past.append(&mut lines);
        }
    }
    past.sort_by(|a, b| a.time.cmp(&b.time));
    for line in past.split_off(past.len().saturating_sub(count)) {
        if sender.blocking_send(line).is_err() {
            return;
        }
    }
    while query.follow && !sender.is_closed() {
        let mut new = Vec::new();
        for (instance, path) in files(folder, query) {
            let end = ends.entry(path.clone()).or_insert(0);
            new.extend(news(&path, end).iter().filter_map(|line| read_line(query, &instance, line)));
        }
        new.sort_by(|a, b| a.time.cmp(&b.time));
        for line in new {
            if sender.blocking_send(line).is_err() {
                return;
            }
        }
        std::thread::sleep(LOOK);
    }
}

/// The whole lines behind `end`, which moves on. A file that has shrunk was rotated: it is read from its start.
fn news(path: &Path, end: &mut u64) -> Vec<String> {
    const AT_ONCE: u64 = 4 << 20;
    let Ok(mut file) = std::fs::File::open(path) else { return Vec::new() };
    let length = file.metadata().map_or(0, |meta| meta.len());
    if length < *end {
        *end = 0;
    }
    if length == *end || file.seek(SeekFrom::Start(*end)).is_err() {
        return Vec::new();
    }
    let mut bytes = Vec::new();
    if file.take(AT_ONCE).read_to_end(&mut bytes).is_err() {
        return Vec::new();
    }
    let whole = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
    *end += whole as u64;
    String::from_utf8_lossy(&bytes[..whole]).lines().map(str::to_owned).collect()
}
