//! What records of requests cost: writing them for good, keeping them, asking for p95 by route.
//!
//! `cargo run --release -p klar-rows --example access [FOLDER]`; `ROWS` in the environment says how many.

use std::time::Instant;

use klar_rows::{Column, Filter, Grouped, Kind, Op, Select, Settings, Sketch, Sketched, Store, Table, Value};

mod common;
use common::{Outcome, ask, cpu, memory_mb};

/// The hour in which they begin, in microseconds.
const START: i64 = 1_700_006_400_000_000;
/// Two hours of rows, however many.
const SPAN: i64 = 7_200_000_000;

fn table() -> Outcome<Table> {
    let columns = vec![
        Column::new("ts", Kind::Time),
        Column::new("route", Kind::Dict),
        Column::new("method", Kind::Dict),
        Column::new("status", Kind::U16),
        Column::new("latency_us", Kind::U32),
        Column::new("bytes", Kind::U64),
        Column::new("host", Kind::Dict),
        Column::new("release", Kind::Dict),
        Column::new("country", Kind::Dict),
        Column::new("cache", Kind::Dict),
        Column::new("instance", Kind::Dict),
        Column::new("trace", Kind::Fixed16).searchable(),
    ];
    let errors = Some(Filter::compare("status", Op::Ge, 500));
    Ok(Table::new("access", columns)?.sketch(Sketch {
        group: "route".into(),
        value: "latency_us".into(),
        errors,
    })?)
}

fn main() -> Outcome {
    let (folder, total) = (common::folder("klar-rows-access"), common::rows());
    let _ = std::fs::remove_dir_all(&folder);
    let store = Store::open(&folder, vec![table()?], Settings { keep_age: None, ..Settings::default() })?.0;
    let mut random = fastrand::Rng::with_seed(1);
    let routes: Vec<String> = (0..200).map(|route| format!("/api/v1/thing{route}/{{id}}")).collect();
    let countries = ["NO", "SE", "DK", "DE", "GB", "US", "FR", "NL", "FI", "PL"];
    let (mut spent, mut making, since) = (0.0, 0.0, Instant::now());
    let mut batch = store.batch("access")?;
    let (mut traces, mut some_trace) = (vec![[0_u8; 16]; 1024], [0; 16]);
    let mut numbers = vec![[0_u64; 7]; 1024];
    for start in (0..total).step_by(1024) {
        let before = cpu()?;
        let count = (total - start).min(1024) as usize;
        for (trace, numbers) in traces.iter_mut().zip(&mut numbers) {
            random.fill(trace);
            // Latencies as they are: most short, some long.
            let latency = (-f64::ln(1.0 - random.f64())).powf(1.5) * 20_000.0;
            *numbers = [
                random.u64(..200),
                [0, 0, 0, 1][random.usize(..4)],
                [200, 200, 200, 200, 200, 304, 404, 500][random.usize(..8)],
                latency as u64,
                random.u64(200..60_000),
                random.u64(..10),
                random.u64(..3),
            ];
        }
        let filled = cpu()?;
        making += filled - before;
        batch.clear();
        for (place, (trace, [route, method, status, latency, bytes, country, cache])) in
            traces.iter().zip(&numbers).take(count).enumerate()
        {
            let time = START + ((start + place as u64) as f64 / total as f64 * SPAN as f64) as i64;
            batch.push(&[
                Value::Signed(time),
                Value::Text(&routes[*route as usize]),
                Value::Text(["GET", "POST"][*method as usize]),
                Value::Unsigned(*status),
                Value::Unsigned(*latency),
                Value::Unsigned(*bytes),
                Value::Text("shop.example"),
                Value::Text("4f1c9a2"),
                Value::Text(countries[*country as usize]),
                Value::Text(["hit", "miss", "pass"][*cache as usize]),
                Value::Text(["web.1", "web.2"][place % 2]),
                Value::Bytes(trace),
            ])?;
        }
        some_trace = traces[count / 2];
        let upto = store.append(&batch)?;
        if start / 1024 % 16 == 15 {
            store.commit(upto)?;
            store.maintain(START)?;
        }
        spent += cpu()? - filled;
    }
    let before = cpu()?;
    store.flush_now()?;
    spent += cpu()? - before;
    println!(
        "ingest: {:.0} rows/s per CPU second ({spent:.2} s CPU, {:.2} s wall, of it {making:.2} s for making rows)",
        total as f64 / spent,
        since.elapsed().as_secs_f64()
    );
    println!("memory: RSS {:.1} MB, peak {:.1} MB", memory_mb("VmRSS")?, memory_mb("VmHWM")?);
    let before = cpu()?;
    let done = store.maintain(START + 10 * 3_600_000_000)?;
    let merged = cpu()? - before;
    let table = &store.statistics().tables[0];
    println!(
        "merged {} files to {} in {merged:.2} s CPU: {:.1} B/row; peak {:.1} MB",
        done.merged,
        table.files,
        table.file_bytes as f64 / total as f64,
        memory_mb("VmHWM")?
    );
    let all = Select::new("access", 0, i64::MAX);
    let sketched = Sketched { group: "route".into(), value: "latency_us".into(), bucket_us: None };
    let grouped = Grouped::by(&["route"]).value("latency_us");
    let first = ask("p95 by route, sketches", 21, || Ok(store.sketch(&all, &sketched)?))?;
    let minutes = Sketched { bucket_us: Some(300_000_000), ..sketched };
    ask("p95 by route and five minutes, sketches", 11, || Ok(store.sketch(&all, &minutes)?))?;
    let second = ask("p95 by route, all rows", 11, || Ok(store.group(&all, &grouped)?))?;
    assert!(
        first.groups.iter().zip(&second.groups).all(|(first, second)| first.histogram == second.histogram)
    );
    let failed = all.clone().filter(Filter::compare("status", Op::Eq, 500));
    let found = ask("p95 by route, status 500", 11, || Ok(store.group(&failed, &grouped)?))?;
    println!("  {} rows", found.groups.iter().map(|group| group.count).sum::<u64>());
    let one = all.filter(Filter::compare("trace", Op::Eq, some_trace));
    let (count, effort) = ask("one trace", 11, || Ok(store.count(&one)?))?;
    println!("  {count} rows, {} looked at", effort.rows);
    Ok(())
}
