//! What both examples need: time, memory, and a folder.
#![allow(dead_code, missing_docs)]

use std::path::PathBuf;
use std::time::Instant;

use nix::sys::resource::{UsageWho, getrusage};

pub type Outcome<T = ()> = Result<T, Box<dyn std::error::Error>>;

/// Rows of an example: ten million, unless told otherwise.
pub fn rows() -> u64 {
    std::env::var("ROWS").ok().and_then(|rows| rows.parse().ok()).unwrap_or(10_000_000)
}

pub fn folder(name: &str) -> PathBuf {
    std::env::args().nth(1).map_or_else(|| std::env::temp_dir().join(name), PathBuf::from)
}

/// Seconds of all threads of this process.
pub fn cpu() -> Outcome<f64> {
    let usage = getrusage(UsageWho::RUSAGE_SELF)?;
    let seconds = |time: nix::sys::time::TimeVal| time.tv_sec() as f64 + time.tv_usec() as f64 / 1e6;
    Ok(seconds(usage.user_time()) + seconds(usage.system_time()))
}

pub fn memory_mb(field: &str) -> Outcome<f64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find(|line| line.starts_with(field)).unwrap_or_default();
    Ok(line.split_whitespace().nth(1).unwrap_or("0").parse::<f64>()? / 1024.0)
}

/// Asks some times, and prints the best wall time, the median one, and processor time of each.
pub fn ask<T>(what: &str, times: usize, mut question: impl FnMut() -> Outcome<T>) -> Outcome<T> {
    let mut walls = Vec::new();
    let before = cpu()?;
    let mut answer = None;
    for _ in 0..times {
        let since = Instant::now();
        answer = Some(question()?);
        walls.push(since.elapsed().as_secs_f64() * 1e3);
    }
    walls.sort_by(f64::total_cmp);
    let each = (cpu()? - before) * 1e3 / times as f64;
    println!("{what}: wall {:.1} ms (median {:.1}), CPU {each:.1} ms", walls[0], walls[times / 2]);
    answer.ok_or_else(|| "asked no times".into())
}
