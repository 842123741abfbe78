//! What lines of logs cost: writing them for good, keeping them, finding a rare text and a common one.
//!
//! `cargo run --release -p klar-rows --example lines [FOLDER]`; `ROWS` in the environment says how many.

use std::fmt::Write as _;
use std::time::Instant;

use klar_rows::{Column, Filter, Kind, Order, Select, Settings, Store, Table, Value};

mod common;
use common::{Outcome, ask, cpu, memory_mb};

/// The hour in which they begin, in microseconds.
const START: i64 = 1_700_006_400_000_000;
/// Two hours of lines, however many.
const SPAN: i64 = 7_200_000_000;

fn line(out: &mut String, random: &mut fastrand::Rng) {
    let (id, small, large) = (random.u64(..), random.u32(..1000), random.u32(..));
    let octet = random.u8(..);
    let written = match random.u8(..10) {
        0 => write!(
            out,
            "request completed trace_id={id:016x} route=/api/v1/orders/{small} status=200 duration={small}ms"
        ),
        1 => write!(
            out,
            "cache miss key=product:{large} trace_id={id:016x} backend=redis-{} took {small} us",
            small % 4
        ),
        2 => write!(
            out,
            "user {large} logged in from 192.168.{octet}.{} session {id:016x} agent=Mozilla/5.0 (X11)",
            small % 256
        ),
        3 => write!(
            out,
            "upstream 10.0.{octet}.{}:8080 answered 502 after {small} ms, trying next trace_id={id:016x}",
            small % 256
        ),
        4 => write!(
            out,
            "SELECT * FROM orders WHERE customer_id = {large} ORDER BY created LIMIT 50 -- {small} rows {id:016x}"
        ),
        5 => write!(
            out,
            "payment authorised order={large} amount={small}.00 NOK provider=stripe ref={id:016x} attempt=1"
        ),
        6 => write!(
            out,
            "goroutine {small} [running]: worker.(*Pool).run(0x{id:016x}) /srv/app/worker/pool.go:{}",
            small % 400
        ),
        7 => write!(
            out,
            "email queued to customer-{large}@example.com template=receipt locale=nb_NO id={id:016x}"
        ),
        8 => write!(
            out,
            "job {id:016x} of queue default finished in {small} ms, {} left, memory {large} bytes",
            small % 100
        ),
        _ => write!(
            out,
            "GET /static/app.{id:016x}.js 304 - {small} us client=10.1.{octet}.{} proto=h2",
            small % 256
        ),
    };
    // A string takes everything.
    let _ = written;
}

fn main() -> Outcome {
    let (folder, total) = (common::folder("klar-rows-lines"), common::rows());
    let _ = std::fs::remove_dir_all(&folder);
    let columns = vec![
        Column::new("ts", Kind::Time),
        Column::new("service", Kind::Dict),
        Column::new("level", Kind::Dict),
        Column::new("body", Kind::Text).searchable(),
    ];
    let settings = Settings { keep_age: None, ..Settings::default() };
    let store = Store::open(&folder, vec![Table::new("log", columns)?], settings)?.0;
    let mut random = fastrand::Rng::with_seed(2);
    let (mut spent, since) = (0.0, Instant::now());
    let mut batch = store.batch("log")?;
    let (mut lines, mut bytes) = (vec![String::new(); 1024], 0);
    for start in (0..total).step_by(1024) {
        let count = (total - start).min(1024) as usize;
        for text in &mut lines {
            text.clear();
            line(text, &mut random);
        }
        if start <= total / 2 && total / 2 < start + 1024 {
            lines[0] = "request completed trace_id=feedc0de5ca1ab1e route=/api/v1/orders/7 status=200".into();
        }
        let before = cpu()?;
        batch.clear();
        for (place, text) in lines.iter().take(count).enumerate() {
            bytes += text.len();
            let time = START + ((start + place as u64) as f64 / total as f64 * SPAN as f64) as i64;
            let level = ["info", "info", "info", "warn"][place % 4];
            let service = ["shop", "worker"][place % 2];
            batch.push(&[
                Value::Signed(time),
                Value::Text(service),
                Value::Text(level),
                Value::Text(text),
            ])?;
        }
        let upto = store.append(&batch)?;
        if start / 1024 % 16 == 15 {
            store.commit(upto)?;
            store.maintain(START)?;
        }
        spent += cpu()? - before;
    }
    let before = cpu()?;
    store.flush_now()?;
    spent += cpu()? - before;
    println!(
        "ingest: {:.0} lines/s per CPU second, {:.0} MB/s ({spent:.2} s CPU, {:.2} s wall with making lines)",
        total as f64 / spent,
        bytes as f64 / 1e6 / spent,
        since.elapsed().as_secs_f64()
    );
    println!("memory: RSS {:.1} MB, peak {:.1} MB", memory_mb("VmRSS")?, memory_mb("VmHWM")?);
    let before = cpu()?;
    let done = store.maintain(START + 10 * 3_600_000_000)?;
    let merged = cpu()? - before;
    let table = &store.statistics().tables[0];
    println!(
        "merged {} files to {} in {merged:.2} s CPU: {:.1} B/line of {:.1}; peak {:.1} MB",
        done.merged,
        table.files,
        table.file_bytes as f64 / total as f64,
        bytes as f64 / total as f64,
        memory_mb("VmHWM")?
    );
    let all = Select::new("log", 0, i64::MAX);
    let needle = all.clone().filter(Filter::contains("body", "feedc0de5ca1ab1e"));
    let (count, effort) = ask("rare text", 11, || Ok(store.count(&needle)?))?;
    println!("  {count} lines, {} looked at", effort.rows);
    let common = all.clone().filter(Filter::contains("body", "upstream 10.0"));
    let (count, _) = ask("common text", 5, || Ok(store.count(&common)?))?;
    println!("  {count} lines");
    let short = all.filter(Filter::contains("body", "goroutine 471 "));
    let (count, _) = ask("short text", 5, || Ok(store.count(&short)?))?;
    println!("  {count} lines");
    ask("newest 100 lines of a common text", 11, || {
        Ok(store
            .scan(&common, &[], Order::Newest, 100)?
            .map(|rows| rows.map(|rows| rows.len()))
            .sum::<Result<usize, _>>()?)
    })?;
    Ok(())
}
