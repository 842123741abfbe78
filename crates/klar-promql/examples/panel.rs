//! How long a panel takes: `rate` of a thousand series at 330 times, without the time of where they come from.
//!
//!     cargo run --release --package klar-promql --example panel

#![allow(clippy::unwrap_used)] // what is asked here is known to be right

use std::cell::Cell;
use std::convert::Infallible;
use std::time::{Duration, Instant};

use klar_promql::{Answer, Options, Selected, Source, parse, range};
use klar_tsdb::{Labels, Matcher, Sample};

/// Counters, each with a sample every 15 seconds for six hours.
struct Counters {
    series: Vec<Selected>,
    /// How long it took to give them.
    taken: Cell<Duration>,
}

impl Source for Counters {
    type Error = Infallible;

    fn select(&self, _: &[Matcher], from_ms: i64, to_ms: i64) -> Result<Vec<Selected>, Infallible> {
        let begun = Instant::now();
        let within = |series: &Selected| Selected {
            labels: series.labels.clone(),
            samples: series
                .samples
                .iter()
                .filter(|sample| (from_ms..=to_ms).contains(&sample.time_ms))
                .copied()
                .collect(),
        };
        let found = self.series.iter().map(within).collect();
        self.taken.set(self.taken.get() + begun.elapsed());
        Ok(found)
    }
}

fn main() {
    let series = (0..1000).map(|number| Selected {
        labels: Labels::new([
            ("__name__", "requests_total"),
            ("instance", &*number.to_string()),
            ("job", &*(number % 10).to_string()),
        ])
        .unwrap(),
        samples: (0..1440)
            .map(|place| Sample { time_ms: place * 15_000, value: (place * (number + 1)) as f64 })
            .collect(),
    });
    let source = Counters { series: series.collect(), taken: Cell::default() };
    for query in [
        "requests_total",
        "rate(requests_total[5m])",
        "sum by (job) (rate(requests_total[5m]))",
        "rate(requests_total[5m]) / rate(requests_total[1m])",
    ] {
        let expr = parse(query).unwrap();
        let begun = Instant::now();
        let answer = range(&source, &expr, 300_000, 300_000 + 329 * 60_000, 60_000, &Options::default());
        let taken = begun.elapsed() - source.taken.take();
        let Ok(Answer::Matrix(series)) = answer else { panic!("{answer:?}") };
        assert!(series.iter().all(|one| one.samples.len() == 330));
        println!("{query}: {} series in {taken:?}", series.len());
    }
}
