//! Metrics that apps count themselves: each instance with `metrics` in `klar.toml` is asked for them, as Prometheus would.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use klar_base::InstanceId;
use klar_base::see::{SeenInstance, World};
use klar_tsdb::labels::NAME;
use klar_tsdb::{Labels, Store};

use crate::exposition;
use crate::recorder::Recorder;

/// How long an instance may take to answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// How much it may answer, in bytes.
const ANSWER_MAX: usize = 8 << 20;
/// How many series it may have.
const SERIES_MAX: usize = 10_000;
/// How many are asked at once.
const AT_ONCE: usize = 8;

/// What is remembered of instances.
#[derive(Debug, Default)]
pub struct Scraper {
    recorders: HashMap<InstanceId, Recorder>,
    /// What was wrong with each service the last time.
    pub troubles: HashMap<InstanceId, String>,
}

/// What asking an instance came to.
struct Asked<'a> {
    instance: &'a SeenInstance,
    found: Result<Vec<(Labels, f64)>, String>,
    seconds: f64,
}

impl Scraper {
    /// Asks all instances, and writes down what they say as of a time.
    pub fn scrape(&mut self, world: &World, store: &Store, time_ms: i64) {
        let all: Vec<&SeenInstance> = world
            .apps
            .iter()
            .flat_map(|app| &app.instances)
            .filter(|instance| instance.ready && instance.metrics.is_some())
            .collect();
        let mut asked: Vec<Asked<'_>> = Vec::with_capacity(all.len());
        for some in all.chunks(AT_ONCE) {
            std::thread::scope(|scope| {
                let threads: Vec<_> = some.iter().map(|instance| scope.spawn(|| ask(instance))).collect();
                // One that panicked has said so.
                asked.extend(threads.into_iter().filter_map(|thread| thread.join().ok()));
            });
        }
        self.troubles.clear();
        let mut before = std::mem::take(&mut self.recorders);
        for Asked { instance, found, seconds } in asked {
            let (up, mut series) = match found {
                Ok(series) => (1.0, series),
                Err(why) => {
                    self.troubles.insert(instance.id.clone(), why);
                    (0.0, Vec::new())
                }
            };
            let count = series.len() as f64;
            for (name, value) in
                [("up", up), ("scrape_duration_seconds", seconds), ("scrape_samples_scraped", count)]
            {
                with_own(instance, |own| {
                    let pairs = own.iter().copied().chain([(NAME, name)]);
                    series.extend(Labels::new(pairs).ok().map(|labels| (labels, value)));
                });
            }
            let mut recorder = before.remove(&instance.id).unwrap_or_else(|| Recorder::new(time_ms));
            let all = series.into_iter().map(|(labels, value)| (labels, value, false));
            if let Err(error) = recorder.record(store, all, time_ms) {
                self.troubles.insert(instance.id.clone(), error.to_string());
            }
            self.recorders.insert(instance.id.clone(), recorder);
        }
        // Those that are gone end.
        for mut recorder in before.into_values() {
            let _ = recorder.record(store, std::iter::empty(), time_ms);
        }
    }
}

/// The labels of an instance.
fn with_own<T>(instance: &SeenInstance, then: impl FnOnce(&[(&str, &str)]) -> T) -> T {
    let id = &instance.id;
    let short = id.short();
    then(&[
        ("app", id.key.app.as_str()),
        ("env", id.key.env.as_str()),
        ("service", id.service.as_str()),
        ("instance", &short),
        ("release", instance.release.as_ref().map_or("", |release| release.as_str())),
    ])
}

fn ask(instance: &SeenInstance) -> Asked<'_> {
    let begun = Instant::now();
    let found = fetch(instance).and_then(|text| {
        with_own(instance, |own| exposition::read(&text, own, SERIES_MAX)).map_err(|bad| bad.to_string())
    });
    Asked { instance, found, seconds: begun.elapsed().as_secs_f64() }
}

fn fetch(instance: &SeenInstance) -> Result<String, String> {
    let Some((port, path)) = &instance.metrics else { return Err("it has no metrics".into()) };
    let failed = |what: &'static str| move |error: std::io::Error| format!("{what}: {error}");
    let deadline = Instant::now() + PATIENCE;
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, *port));
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE).map_err(failed("connecting"))?;
    stream.set_write_timeout(Some(PATIENCE)).map_err(failed("asking"))?;
    // In HTTP/1.0 an answer ends with its connection.
    let request = format!(
        "GET {path} HTTP/1.0\r\nhost: {address}\r\naccept: text/plain;version=0.0.4\r\nuser-agent: klar\r\nconnection: close\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).map_err(failed("asking"))?;
    let mut answer = Vec::new();
    let mut piece = [0; 16 << 10];
    loop {
        let left = deadline.checked_duration_since(Instant::now()).filter(|left| !left.is_zero());
        let Some(left) = left else { return Err(format!("no whole answer within {} s", PATIENCE.as_secs())) };
        stream.set_read_timeout(Some(left)).map_err(failed("reading"))?;
        match stream.read(&mut piece) {
            Ok(0) => break,
            Ok(read) => answer.extend_from_slice(piece.get(..read).unwrap_or_default()),
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(format!("reading: {error}")),
        }
        if answer.len() > ANSWER_MAX {
            return Err(format!("the answer has more than {ANSWER_MAX} bytes"));
        }
    }
    let text = String::from_utf8(answer).map_err(|_| "the answer is no UTF-8".to_owned())?;
    let (head, body) = text.split_once("\r\n\r\n").ok_or("the answer is no HTTP")?;
    let status = head.split(' ').nth(1).unwrap_or_default();
    if status != "200" {
        return Err(format!("`{path}` answers {status:.20}"));
    }
    if head.to_ascii_lowercase().contains("transfer-encoding: chunked") {
        return Err("the answer comes in chunks, which HTTP/1.0 does not have".into());
    }
    Ok(body.to_owned())
}
