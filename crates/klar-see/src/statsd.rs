//! Metrics that apps count with StatsD, in datagrams: counters, gauges, timers, histograms and sets, with the tags of
//! DogStatsD (<https://github.com/statsd/statsd/blob/master/docs/metric_types.md>,
//! <https://docs.datadoghq.com/extend/dogstatsd/datagram_shell/>).
//!
//! What they become is what `statsd_exporter` of Prometheus makes of them, so its dashboards fit: a name keeps its letters,
//! all else is `_`; timers are histograms in seconds. A datagram has no sender that could be trusted, so the labels `app` and
//! `env` are those of the app whose port it came to. Where that is nobody's, a tag `klar_token` with the token of an app
//! says it. What else calls itself `app` becomes `exported_app`.

use std::collections::{HashMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::{Duration, Instant};

use klar_base::AppKey;
use klar_tsdb::Labels;
use klar_tsdb::labels::NAME;

/// Series of all apps.
const SERIES_MAX: usize = 20_000;
/// What nobody has said anything about for so long is forgotten.
const IDLE: Duration = Duration::from_secs(24 * 3600);
/// Different values of one set between two looks; more are not told apart.
const SET_MAX: usize = 4_096;
/// Tags of one metric.
const TAGS_MAX: usize = 24;
/// Values in one line.
const VALUES_MAX: usize = 1_000;
/// Bounds of a timer in seconds: those that Prometheus' own libraries have.
const SECONDS: [f64; 11] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];
/// Bounds of anything else that is measured, whatever it is measured in.
const ANYTHING: [f64; 20] = [
    0.001, 0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 25.0, 50.0, 100.0, 250.0, 500.0, 1e3, 1e4, 1e5,
    1e6, 1e7,
];

#[derive(Debug)]
enum Value {
    Count(f64),
    Gauge(f64),
    Set(HashSet<u64>),
    Spread { bounds: &'static [f64], buckets: Vec<f64>, sum: f64, count: f64 },
}

impl Value {
    fn series(&self) -> usize {
        if let Self::Spread { bounds, .. } = self { bounds.len() + 3 } else { 1 }
    }
}

#[derive(Debug)]
struct Known {
    value: Value,
    heard: Instant,
}

/// See the [module](self).
#[derive(Debug, Default)]
pub struct Statsd {
    known: HashMap<Labels, Known>,
    series: usize,
    /// Lines that were none, or for which there was no room.
    pub refused: u64,
    /// Values that were taken in.
    pub taken: u64,
}

impl Statsd {
    /// Takes in a datagram: a metric on each line. `whose` is the app whose port it came to; `with` says which app has a
    /// token.
    pub fn take(&mut self, datagram: &[u8], whose: Option<&AppKey>, with: impl Fn(&str) -> Option<AppKey>) {
        for line in datagram.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii) {
            // Events and checks of services, which are no metrics.
            if line.is_empty() || line.starts_with(b"_e{") || line.starts_with(b"_sc|") {
                continue;
            }
            let taken = std::str::from_utf8(line).ok().and_then(|line| self.line(line, whose, &with));
            if taken.is_none() {
                self.refused += 1;
            }
        }
    }

    /// `name:value|type|@rate|#tag:value,...`
    fn line(
        &mut self,
        line: &str,
        whose: Option<&AppKey>,
        with: &impl Fn(&str) -> Option<AppKey>,
    ) -> Option<()> {
        let mut parts = line.split('|');
        let (name, values) = parts.next()?.split_once(':')?;
        let kind = parts.next()?;
        let (mut rate, mut tags) = (1.0, "");
        for part in parts {
            if let Some(text) = part.strip_prefix('@') {
                rate = text.parse::<f64>().ok().filter(|rate| *rate > 0.0 && *rate <= 1.0)?;
            } else if let Some(text) = part.strip_prefix('#') {
                tags = text;
            }
            // A container and a time are passed over: what comes is of now.
        }
        if name.is_empty() {
            return None;
        }
        let labels = labels(name, tags, whose, with)?;
        for value in values.split(':').take(VALUES_MAX) {
            self.value(&labels, kind, value, rate)?;
        }
        Some(())
    }

    fn value(&mut self, labels: &Labels, kind: &str, text: &str, rate: f64) -> Option<()> {
        let number = || text.parse::<f64>().ok().filter(|number| number.is_finite());
        let spread = |bounds: &'static [f64]| Value::Spread {
            bounds,
            buckets: vec![0.0; bounds.len()],
            sum: 0.0,
            count: 0.0,
        };
        // What cannot be is not made room for.
        let (begin, by) = match kind {
            "c" | "m" => (Value::Count(0.0), number().filter(|number| *number >= 0.0)? / rate),
            "g" => (Value::Gauge(0.0), number()?),
            "s" if !text.is_empty() => (Value::Set(HashSet::new()), 0.0),
            "ms" => (spread(&SECONDS), number()? / 1000.0),
            "h" | "d" => (spread(&ANYTHING), number()?),
            _ => return None,
        };
        if !self.known.contains_key(labels) {
            if self.series + begin.series() > SERIES_MAX {
                return None;
            }
            self.series += begin.series();
            self.known.insert(labels.clone(), Known { value: begin, heard: Instant::now() });
        }
        let known = self.known.get_mut(labels)?;
        match (&mut known.value, kind) {
            (Value::Count(count), "c" | "m") => *count += by,
            (Value::Gauge(gauge), "g") => {
                *gauge = if text.starts_with(['+', '-']) { *gauge + by } else { by };
            }
            (Value::Set(seen), "s") => {
                if seen.len() < SET_MAX {
                    let mut hasher = DefaultHasher::new();
                    text.hash(&mut hasher);
                    seen.insert(hasher.finish());
                }
            }
            (Value::Spread { bounds, buckets, sum, count }, "ms" | "h" | "d")
                if (kind == "ms") == (bounds.len() == SECONDS.len()) =>
            {
                let weight = (1.0 / rate).round();
                *sum += by * weight;
                *count += weight;
                for (bucket, bound) in buckets.iter_mut().zip(*bounds) {
                    if by <= *bound {
                        *bucket += weight;
                    }
                }
            }
            // One name is one kind of thing.
            _ => return None,
        }
        known.heard = Instant::now();
        self.taken += 1;
        Some(())
    }

    /// How many series there are.
    pub fn size(&self) -> usize {
        self.series
    }

    /// Each series with its value, and whether it began at 0; sets begin anew.
    pub fn series(&mut self) -> Vec<(Labels, f64, bool)> {
        let mut gone = 0;
        self.known.retain(|_, known| {
            let stays = known.heard.elapsed() < IDLE;
            gone += if stays { 0 } else { known.value.series() };
            stays
        });
        self.series -= gone;
        let mut all = Vec::with_capacity(self.series);
        for (labels, known) in &mut self.known {
            match &mut known.value {
                Value::Count(count) => all.push((labels.clone(), *count, true)),
                Value::Gauge(gauge) => all.push((labels.clone(), *gauge, false)),
                Value::Set(seen) => {
                    all.push((labels.clone(), seen.len() as f64, false));
                    seen.clear();
                }
                Value::Spread { bounds, buckets, sum, count } => {
                    let name = labels.get(NAME).unwrap_or_default();
                    let with = |suffix: &str| labels.with(NAME, &format!("{name}{suffix}"));
                    let bounds = bounds.iter().map(ToString::to_string).chain(["+Inf".to_owned()]);
                    for (bound, value) in bounds.zip(buckets.iter().chain([&*count])) {
                        let bucket = with("_bucket").and_then(|labels| labels.with("le", &bound));
                        all.extend(bucket.ok().map(|labels| (labels, *value, true)));
                    }
                    all.extend(with("_sum").ok().map(|labels| (labels, *sum, true)));
                    all.extend(with("_count").ok().map(|labels| (labels, *count, true)));
                }
            }
        }
        all
    }

    /// Forgets what an app has said.
    pub fn forget(&mut self, key: &AppKey) {
        let mut gone = 0;
        self.known.retain(|labels, known| {
            let stays =
                labels.get("app") != Some(key.app.as_str()) || labels.get("env") != Some(key.env.as_str());
            gone += if stays { 0 } else { known.value.series() };
            stays
        });
        self.series -= gone;
    }
}

/// With `_` for what Prometheus' names do not have.
fn plain(name: &str) -> String {
    let letters = name.chars().map(|letter| if letter.is_ascii_alphanumeric() { letter } else { '_' });
    let digit = name.starts_with(|letter: char| letter.is_ascii_digit());
    digit.then_some('_').into_iter().chain(letters).collect()
}

fn labels(
    name: &str,
    tags: &str,
    whose: Option<&AppKey>,
    with: &impl Fn(&str) -> Option<AppKey>,
) -> Option<Labels> {
    let mut own = whose.cloned();
    // Nothing that long is a name; what a label may be is judged below.
    if name.len() > 256 || tags.len() > 2048 {
        return None;
    }
    let mut pairs: Vec<(String, String)> = vec![(NAME.to_owned(), plain(name))];
    for tag in tags.split(',').filter(|tag| !tag.is_empty()).take(TAGS_MAX) {
        let (name, value) = tag.split_once(':').unwrap_or((tag, "true"));
        if name == "klar_token" {
            own = Some(with(value)?);
            continue;
        }
        let name = match &*plain(name) {
            "app" => "exported_app".to_owned(),
            "env" => "exported_env".to_owned(),
            "le" => "exported_le".to_owned(),
            name if name.starts_with("__") => format!("exported{name}"),
            name => name.to_owned(),
        };
        if !pairs.iter().any(|(its, _)| *its == name) {
            pairs.push((name, value.to_owned()));
        }
    }
    if let Some(key) = own {
        pairs.push(("app".into(), key.app.to_string()));
        pairs.push(("env".into(), key.env.to_string()));
    }
    Labels::new(pairs.iter().map(|(name, value)| (&**name, &**value))).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn with(token: &str) -> Option<AppKey> {
        (token == "t").then(|| "shop.prod".parse().unwrap())
    }

    fn shown(statsd: &mut Statsd) -> Vec<String> {
        let mut all: Vec<String> = statsd
            .series()
            .iter()
            .filter(|(labels, ..)| labels.get("le").is_none_or(|le| matches!(le, "0.25" | "5" | "+Inf")))
            .map(|(labels, value, _)| format!("{labels} {value}"))
            .collect();
        all.sort();
        all
    }

    #[test]
    fn metrics_of_all_kinds() {
        let mut statsd = Statsd::default();
        for datagram in [
            &b"shop.carts:1|c\nshop.carts:2|c|@0.5|#kind:gift,app:bank,klar_token:t"[..],
            b"shop.carts:3|c\n",
            b"queue-size:7|g",
            b"queue-size:-2|g\nqueue-size:+1|g\ntemperature:-5|g",
            b"users:ann|s\nusers:bob|s\nusers:ann|s",
            b"query:200|ms|@0.5\nquery:300:7000|ms",
            b"size:4|h|#urgent|c:ci-1|T1656581400",
        ] {
            statsd.take(datagram, None, with);
        }
        assert_eq!(
            shown(&mut statsd),
            [
                "query_bucket{le=\"+Inf\"} 4",
                "query_bucket{le=\"0.25\"} 2",
                "query_bucket{le=\"5\"} 3",
                "query_count 4",
                "query_sum 7.7",
                "queue_size 6",
                "shop_carts 4",
                "shop_carts{app=\"shop\", env=\"prod\", exported_app=\"bank\", kind=\"gift\"} 4",
                "size_bucket{le=\"+Inf\", urgent=\"true\"} 1",
                "size_bucket{le=\"0.25\", urgent=\"true\"} 0",
                "size_bucket{le=\"5\", urgent=\"true\"} 1",
                "size_count{urgent=\"true\"} 1",
                "size_sum{urgent=\"true\"} 4",
                "temperature -5",
                "users 2",
            ]
        );
        assert!(shown(&mut statsd).contains(&"users 0".to_owned()), "a set begins anew");
        assert_eq!((statsd.refused, statsd.size()), (0, 5 + 14 + 23));
        statsd.take(b"own:1|g|#env:x", Some(&"bank.prod".parse().unwrap()), with);
        let shown = shown(&mut statsd);
        assert!(
            shown.contains(&r#"own{app="bank", env="prod", exported_env="x"} 1"#.to_owned()),
            "{shown:?}"
        );
        statsd.forget(&"bank.prod".parse().unwrap());
        statsd.forget(&"shop.prod".parse().unwrap());
        assert_eq!(statsd.size(), 4 + 14 + 23);
    }

    #[test]
    fn what_is_no_metric_is_counted() {
        let mut statsd = Statsd::default();
        for datagram in [
            &b"x"[..],
            b"x:1",
            b":1|c",
            b"x:|c",
            b"x:-1|c",
            b"x:NaN|g",
            b"x:inf|ms",
            b"x:1|z",
            b"x:1|c|@0",
            b"x:1|c|@7",
            b"x:1|c|#klar_token:stolen",
            b"\xff:1|c",
        ] {
            statsd.take(datagram, None, with);
        }
        assert_eq!((statsd.refused, statsd.size()), (12, 0));
        statsd.take(b"_e{5,4}:title|text\n_sc|redis|0\n\n", None, with);
        assert_eq!(statsd.refused, 12);
        statsd.take(b"x:1|c\nx:1|g", None, with);
        assert_eq!((statsd.refused, statsd.size()), (13, 1));
    }

    #[test]
    fn series_are_bounded() {
        let mut statsd = Statsd::default();
        for number in 0..30_000 {
            statsd.take(
                format!("m{number}:1|{}", if number % 2 == 0 { "ms" } else { "g" }).as_bytes(),
                None,
                with,
            );
        }
        assert!(statsd.size() <= SERIES_MAX && statsd.refused > 0);
        for number in 0..10_000 {
            statsd.take(format!("m1:1|g\ns:{number}|s").as_bytes(), None, with);
        }
        let sets = statsd
            .known
            .values()
            .filter_map(|known| if let Value::Set(seen) = &known.value { Some(seen.len()) } else { None });
        assert!(sets.max().unwrap_or_default() <= SET_MAX);
    }

    proptest! {
        #[test]
        fn any_datagram_is_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..300), text in "([a-z.:|@#,0-9+-]|\\|c|\\|ms|\\|#a:b){0,60}") {
            let mut statsd = Statsd::default();
            statsd.take(&bytes, None, with);
            statsd.take(text.as_bytes(), None, with);
            statsd.series();
        }
    }
}
