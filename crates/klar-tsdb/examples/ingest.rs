//! What ingest, memory, disk, reading and opening again cost: a sample each 15 seconds.
//!
//! `cargo run --release -p klar-tsdb --example ingest [FOLDER [SERIES [HOURS]]]`: 5000 and 6 where nothing is said.

use std::path::PathBuf;
use std::time::Instant;

use klar_tsdb::{Labels, Matcher, Op, Sample, Settings, Store, Unpacker};
use nix::sys::resource::{UsageWho, getrusage};

const START_MS: i64 = 1_700_006_400_000;

type Outcome<T = ()> = Result<T, Box<dyn std::error::Error>>;

fn cpu() -> Outcome<f64> {
    let usage = getrusage(UsageWho::RUSAGE_SELF)?;
    let seconds = |time: nix::sys::time::TimeVal| time.tv_sec() as f64 + time.tv_usec() as f64 / 1e6;
    Ok(seconds(usage.user_time()) + seconds(usage.system_time()))
}

fn memory(field: &str) -> Outcome<f64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find(|line| line.starts_with(field)).unwrap_or_default();
    Ok(line.split_whitespace().nth(1).unwrap_or("0").parse::<f64>()? / 1024.0)
}

fn main() -> Outcome {
    let args: Vec<String> = std::env::args().collect();
    let folder = args.get(1).map_or_else(|| std::env::temp_dir().join("klar-tsdb-ingest"), PathBuf::from);
    let series: usize = args.get(2).map_or(Ok(5000), |series| series.parse())?;
    let rounds = 240 * args.get(3).map_or(Ok(6), |hours| hours.parse::<i64>())?;
    let _ = std::fs::remove_dir_all(&folder);
    let settings = Settings {
        sync_every: std::env::var("SYNC_MS")
            .ok()
            .and_then(|ms| ms.parse().ok())
            .map(std::time::Duration::from_millis),
        ..Settings::default()
    };
    let (store, _) = Store::open(&folder, settings.clone())?;
    let mut random = fastrand::Rng::with_seed(1);
    let mut labels = Vec::new();
    for number in 0..series {
        let (job, route, pod) = (number % 5, number % 50, number / 50);
        labels.push(Labels::new([
            ("__name__", "http_requests_total"),
            ("instance", &*format!("10.0.0.{pod}:9090")),
            ("job", &*format!("j{job}")),
            ("method", ["GET", "POST"][number % 2]),
            ("pod", &*format!("shop-7d4b9c-{pod}")),
            ("route", &*format!("/api/v1/thing/{route}")),
            ("zone", ["a", "b", "c"][pod % 3]),
        ])?);
    }
    let mut values: Vec<f64> = (0..series).map(|_| f64::from(random.u16(..))).collect();
    let since = Instant::now();
    let references = labels.iter().map(|labels| store.series(labels)).collect::<Result<Vec<_>, _>>()?;
    println!("{series} series new: {:.1} ms", since.elapsed().as_secs_f64() * 1e3);
    let since = Instant::now();
    for one in &labels {
        store.series(one)?;
    }
    println!("asked again: {:.0} ns each", since.elapsed().as_secs_f64() * 1e9 / series as f64);
    println!("before: RSS {:.1} MB", memory("VmRSS")?);

    let (mut spent, mut wall, mut kept_up) = (0.0, 0.0, 0.0);
    let mut samples = Vec::with_capacity(series);
    for round in 0..rounds {
        let time_ms = START_MS + round * 15_000;
        samples.clear();
        for (number, (reference, value)) in references.iter().zip(&mut values).enumerate() {
            *value = if number % 5 == 4 {
                50.0 + 10.0 * random.f64()
            } else {
                *value + f64::from(random.u8(..100))
            };
            samples.push((*reference, Sample { time_ms, value: *value }));
        }
        let (before, since) = (cpu()?, Instant::now());
        for batch in samples.chunks(1000) {
            let appended = store.append(batch)?;
            assert!(appended.verdicts.iter().all(|verdict| verdict.is_kept()));
            if settings.sync_every.is_none() || round % 7 == 0 {
                store.commit(appended.upto)?;
            }
        }
        spent += cpu()? - before;
        wall += since.elapsed().as_secs_f64();
        if round == rounds / 3 - 1 {
            let statistics = store.statistics();
            println!(
                "log: {:.2} B/sample",
                statistics.wal_bytes as f64 / ((rounds / 3) as f64 * series as f64)
            );
        }
        if round % 40 == 0 {
            let before = cpu()?;
            store.maintain(time_ms)?;
            kept_up += cpu()? - before;
        }
    }
    let total = series as f64 * rounds as f64;
    println!("ingest: {:.0} samples/s per CPU second ({spent:.2} s CPU, {wall:.2} s wall)", total / spent);
    println!("  with blocks cut meanwhile: {:.0} samples/s per CPU second", total / (spent + kept_up));
    println!("RSS {:.1} MB, peak {:.1} MB; {:?}", memory("VmRSS")?, memory("VmHWM")?, store.statistics());

    let matchers = [Matcher::new("job", Op::Equal, "j0")?];
    let all_of = |store: &Store, what: &str| -> Outcome {
        let mut best = (f64::MAX, 0, 0);
        for _ in 0..7 {
            let since = Instant::now();
            let selection = store.select(&matchers, START_MS, START_MS + 6 * 3_600_000)?;
            let (mut unpacker, mut out, mut count) = (Unpacker::default(), Vec::new(), 0);
            for found in &selection.series {
                out.clear();
                found.read(&mut unpacker, &mut out)?;
                count += out.len();
            }
            best = (best.0.min(since.elapsed().as_secs_f64() * 1e3), selection.series.len(), count);
        }
        println!("select {what}: {} series, {} samples in {:.1} ms", best.1, best.2, best.0);
        Ok(())
    };
    all_of(&store, "memory and blocks")?;
    drop(store);
    let since = Instant::now();
    let (store, recovered) = Store::open(&folder, settings)?;
    println!("opened in {:.0} ms: {recovered:?}", since.elapsed().as_secs_f64() * 1e3);
    let before = cpu()?;
    let done = store.maintain(START_MS + 30 * 3_600_000)?;
    let statistics = store.statistics();
    println!(
        "{done:?} in {:.2} s CPU: {:.2} B/sample in blocks",
        cpu()? - before,
        statistics.block_bytes as f64 / total
    );
    all_of(&store, "one block")?;
    println!("RSS {:.1} MB", memory("VmRSS")?);
    std::fs::remove_dir_all(&folder)?;
    Ok(())
}
