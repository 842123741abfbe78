//! Rate, errors and duration of every route, from what the edge says of each request.
//!
//! A request belongs to the release of the instance that answered it; those that the edge answered by itself belong to
//! none. Methods and statuses that nobody knows, and routes beyond the limit, are counted under one name, so whoever asks
//! for nonsense makes no series.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use klar_base::signal::{CacheOutcome, DecidedBy};

use crate::record::Record;
use crate::routes::Routes;
use crate::rows::{cache_name, verdict_name};
use crate::sheet::{Kind, Sheet};

/// Upper bounds of the buckets of durations, in seconds: those that OpenTelemetry advises for `http.server.request.duration`,
/// and 1 ms, since edges answer in less.
const BOUNDS: [f64; 15] =
    [0.001, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0];
/// Combinations of app, route, release, method and status that are counted apart.
const CELLS_MAX: usize = 20_000;
/// What stands for a route beyond the limit, and for a method that nobody knows.
const OTHER: &str = "other";
/// What stands for the route of a request that has none.
const NONE: &str = "none";

/// What requests of one sort have in common. Texts are shared: there are few of them.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Sort {
    app: Arc<str>,
    env: Arc<str>,
    service: Arc<str>,
    release: Arc<str>,
    route: Arc<str>,
}

#[derive(Debug, Default)]
struct Of {
    /// By method and status.
    requests: BTreeMap<(&'static str, u16), u64>,
    /// How many took at most as long as each bound, and longer than the one before.
    buckets: [u64; BOUNDS.len() + 1],
    sum_us: u64,
    bytes_in: u64,
    bytes_out: u64,
    aborted: u64,
}

/// See the [module](self).
#[derive(Debug, Default)]
pub struct Red {
    sorts: HashMap<Sort, Of>,
    cells: usize,
    texts: HashMap<Box<str>, Arc<str>>,
    waf: BTreeMap<(Arc<str>, Arc<str>, &'static str), u64>,
    cache: BTreeMap<(Arc<str>, Arc<str>, &'static str), u64>,
}

/// Whose a request is: what [`Red::count`] cannot know by itself.
#[derive(Debug, Clone, Copy)]
pub struct Whose<'a> {
    /// The app.
    pub app: &'a str,
    /// Its environment.
    pub env: &'a str,
    /// The service that answered, or nothing.
    pub service: &'a str,
    /// The release that it ran, or nothing.
    pub release: &'a str,
}

impl Red {
    fn text(&mut self, text: &str) -> Arc<str> {
        if let Some(known) = self.texts.get(text) {
            return known.clone();
        }
        let new: Arc<str> = text.into();
        self.texts.insert(text.into(), new.clone());
        new
    }

    /// Counts a request, and says which route it is of.
    pub fn count(&mut self, whose: Whose<'_>, record: &Record<'_>, routes: &mut Routes) -> Arc<str> {
        let pattern = record.route.as_deref();
        let route = match pattern {
            // What the edge refused says nothing of what there is.
            Some(pattern) => {
                let answered = matches!(record.decided_by, DecidedBy::App | DecidedBy::Edge);
                let exists =
                    answered && !matches!(record.status, 0 | 400 | 404 | 405 | 410 | 414 | 431 | 501);
                routes.template(&record.path, exists).unwrap_or_else(|| pattern.to_owned())
            }
            None => NONE.to_owned(),
        };
        let route = if self.cells < CELLS_MAX { route } else { OTHER.to_owned() };
        let sort = Sort {
            app: self.text(whose.app),
            env: self.text(whose.env),
            service: self.text(whose.service),
            release: self.text(whose.release),
            route: self.text(&route),
        };
        if let Some(finding) = &record.waf {
            let verdict = verdict_name(finding.verdict);
            *self.waf.entry((sort.app.clone(), sort.env.clone(), verdict)).or_default() += 1;
        }
        if let Some(outcome) = record.cache {
            let name = cache_name(outcome);
            *self.cache.entry((sort.app.clone(), sort.env.clone(), name)).or_default() += 1;
            // Nobody waited for it.
            if outcome == CacheOutcome::Refresh {
                return sort.route;
            }
        }
        let route = sort.route.clone();
        let of = self.sorts.entry(sort).or_default();
        let status = if (100..600).contains(&record.status) { record.status } else { 0 };
        let requests = of.requests.entry((method(&record.method), status)).or_insert_with(|| {
            self.cells += 1;
            0
        });
        *requests += 1;
        let seconds = record.duration_us as f64 / 1e6;
        of.buckets[BOUNDS.iter().position(|bound| seconds <= *bound).unwrap_or(BOUNDS.len())] += 1;
        of.sum_us = of.sum_us.saturating_add(record.duration_us);
        of.bytes_in = of.bytes_in.saturating_add(record.bytes_in);
        of.bytes_out = of.bytes_out.saturating_add(record.bytes_out);
        of.aborted += u64::from(record.aborted);
        route
    }

    /// Forgets what was counted of apps and releases that are no longer there.
    pub fn forget(&mut self, is_there: impl Fn(Whose<'_>) -> bool) {
        self.sorts.retain(|sort, of| {
            let whose =
                Whose { app: &sort.app, env: &sort.env, service: &sort.service, release: &sort.release };
            let stays = is_there(whose);
            if !stays {
                self.cells -= of.requests.len();
            }
            stays
        });
        let is_there = |app: &str, env: &str| is_there(Whose { app, env, service: "", release: "" });
        self.waf.retain(|(app, env, _), _| is_there(app, env));
        self.cache.retain(|(app, env, _), _| is_there(app, env));
        self.texts.retain(|_, text| Arc::strong_count(text) > 1);
    }

    /// All of it.
    pub fn collect(&self, sheet: &mut Sheet) {
        const NUMBERS: [&str; BOUNDS.len()] = [
            "0.001", "0.005", "0.01", "0.025", "0.05", "0.075", "0.1", "0.25", "0.5", "0.75", "1", "2.5",
            "5", "7.5", "10",
        ];
        let mut sorts: Vec<_> = self.sorts.iter().collect();
        sorts.sort_unstable_by_key(|(sort, _)| *sort);
        let labels = |sort: &'_ Sort| -> [(&'static str, Arc<str>); 5] {
            [
                ("app", sort.app.clone()),
                ("env", sort.env.clone()),
                ("service", sort.service.clone()),
                ("release", sort.release.clone()),
                ("route", sort.route.clone()),
            ]
        };
        for (sort, of) in &sorts {
            let own = labels(sort);
            let base: Vec<(&str, &str)> = own.iter().map(|(name, value)| (*name, &**value)).collect();
            let requests = sheet.family("http_requests_total", Kind::Count, "Requests that are over.");
            for ((method, status), count) in &of.requests {
                let status = status.to_string();
                requests.point(
                    &[&base[..], &[("method", method), ("status", status.as_str())]].concat(),
                    *count as f64,
                );
            }
            let durations = sheet.family(
                "http_request_duration_seconds",
                Kind::Histogram,
                "From the first byte of a request read to the last byte of its answer sent.",
            );
            let mut up_to = 0;
            for (bound, count) in NUMBERS.iter().chain([&"+Inf"]).zip(&of.buckets) {
                up_to += count;
                durations.suffixed("_bucket", &[&base[..], &[("le", bound)]].concat(), up_to as f64);
            }
            durations.suffixed("_sum", &base, of.sum_us as f64 / 1e6);
            durations.suffixed("_count", &base, up_to as f64);
            for (name, help, value) in [
                ("http_request_body_bytes_total", "Bytes of bodies read from visitors.", of.bytes_in),
                ("http_response_body_bytes_total", "Bytes of bodies sent to visitors.", of.bytes_out),
                (
                    "http_requests_aborted_total",
                    "Requests whose visitor went away before the answer was sent.",
                    of.aborted,
                ),
            ] {
                sheet.family(name, Kind::Count, help).point(&base, value as f64);
            }
        }
        for (name, help, label, counts) in [
            (
                "klar_waf_requests_total",
                "Requests that rules of the firewall say something of.",
                "verdict",
                &self.waf,
            ),
            ("klar_cache_requests_total", "What the cache did with requests.", "outcome", &self.cache),
        ] {
            let family = sheet.family(name, Kind::Count, help);
            for ((app, env, value), count) in counts {
                family.point(&[("app", app), ("env", env), (label, value)], *count as f64);
            }
        }
    }
}

/// A method of RFC 9110, RFC 5789, or none.
fn method(method: &str) -> &'static str {
    const KNOWN: [&str; 9] = ["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS", "CONNECT", "TRACE"];
    KNOWN.iter().find(|known| **known == method).copied().unwrap_or(OTHER)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record;

    const SHOP: Whose<'_> = Whose { app: "shop", env: "prod", service: "api", release: "r1" };

    fn counted(paths: &[(&str, u16, u64)]) -> (Red, Routes) {
        let (mut red, mut routes) = (Red::default(), Routes::default());
        for (path, status, duration_us) in paths {
            let json = record::json(path, *status, *duration_us);
            red.count(SHOP, &serde_json::from_str(&json).unwrap(), &mut routes);
        }
        (red, routes)
    }

    #[test]
    fn rate_errors_and_duration_by_route() {
        let (red, _) = counted(&[
            ("/orders/1", 200, 900),
            ("/orders/2", 200, 20_000),
            ("/orders/3", 500, 11_000_000),
            ("/orders/4", 404, 1_000),
            ("/wp-login.php", 404, 1_000),
        ]);
        let mut sheet = Sheet::default();
        red.collect(&mut sheet);
        insta::assert_snapshot!(sheet.text());
    }

    #[test]
    fn nonsense_makes_no_series() {
        let (mut red, mut routes) = (Red::default(), Routes::default());
        for number in 0..CELLS_MAX + 100 {
            let mut record: Record<'_> = serde_json::from_str("{}").unwrap();
            record.route = Some("/*".into());
            record.path = format!("/{}", "x".repeat(number % 30)).into();
            record.method = format!("M{number}").into();
            record.status = u16::try_from(number).unwrap();
            red.count(SHOP, &record, &mut routes);
        }
        assert!(red.cells < 1000, "{}", red.cells);
        red.forget(|whose| whose.app != "shop");
        assert_eq!((red.cells, red.sorts.len(), red.texts.len()), (0, 0, 0));
    }
}
