//! What klar says of the app at `/metrics`, and what the app's instances say of themselves there if they do, asked on the
//! machine, past the edge.

use std::rc::Rc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::check::{About, Disturbs, Fault, Finding, Need, Probe, Unable};
use crate::words;
use crate::words::Words;
use crate::world::World;
use crate::world::http::{Ask, Client, Origin};

/// `/metrics` of each instance.
pub struct Metrics;

/// What klar and each instance answered.
#[derive(Debug, Serialize, Deserialize)]
pub struct Seen {
    #[serde(default)]
    own: Option<Told>,
    instances: Vec<Told>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Told {
    instance: String,
    /// 0: no answer.
    status: u16,
    /// Lines with a value.
    samples: usize,
    /// Whether it ends as OpenMetrics must, with `# EOF`.
    ends: bool,
    /// The first line that is neither OpenMetrics nor Prometheus' older text format: its number.
    wrong: Option<usize>,
}

impl Probe for Metrics {
    type Seen = Seen;

    const ABOUT: About = About {
        id: "metrics",
        version: 2,
        question: "Can what klar and the app's instances answer at /metrics be read by every collector?",
        does: "Asks klar, and each instance on the machine past the edge, for /metrics, and reads every line of the answers.",
        shows: &[("mon.metrics", "openmetrics")],
        needs: &[Need::Klar],
        disturbs: Disturbs::Nothing,
        good_for: Duration::from_secs(24 * 3600),
        limit: Duration::from_secs(20),
        faults: &[
            Fault::Foil("torn-metrics", ("mon.metrics", "openmetrics")),
            Fault::Foil("broken-metrics", ("mon.metrics", "openmetrics")),
        ],
    };

    async fn look(world: Rc<World>) -> Result<Seen, Unable> {
        let klar = world.klar.clone().ok_or_else(|| Unable(Need::Klar.missing()))?;
        let cannot = |why: String| Unable(Words::same(why));
        let own = Told::of("klar".to_owned(), 200, &klar.exposition().await.map_err(cannot)?);
        let instances = klar.instances().await.map_err(cannot)?;
        let mut seen = Vec::new();
        for instance in instances.into_iter().take(10) {
            let Some(address) = instance.address else { continue };
            let origin = Origin { tls: false, host: address.ip().to_string(), port: address.port() };
            let client = Client::new(origin).at(address);
            let accept = "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5";
            let ask = Ask::get("/metrics").with("accept", accept).within(Duration::from_secs(5));
            let Ok(answer) = client.ask(ask).await else { continue };
            // What is no text of metrics is a page or an error, and no attempt at them.
            if ["text/plain", "application/openmetrics-text"].contains(&answer.media_type().as_str()) {
                seen.push(Told::of(instance.name, answer.status.as_u16(), &answer.text()));
            }
        }
        Ok(Seen { own: Some(own), instances: seen })
    }

    fn judge(seen: &Seen) -> Vec<Finding> {
        let place = ("mon.metrics", "openmetrics");
        let told: Vec<&Told> =
            seen.own.iter().chain(seen.instances.iter().filter(|told| told.status == 200)).collect();
        if let Some((of, line)) = told.iter().find_map(|told| Some((&told.instance, told.wrong?))) {
            return vec![Finding::broken(
                place,
                words!(
                    "/metrics of {of}: line {line} is no metric",
                    "/metrics fra {of}: linje {line} er ikke en måling",
                    "/metrics från {of}: rad {line} är inget mätvärde"
                ),
            )];
        }
        if let Some(of) = told.iter().find(|told| told.samples == 0).map(|told| &told.instance) {
            return vec![Finding::broken(
                place,
                words!(
                    "/metrics of {of} has no values",
                    "/metrics fra {of} har ingen verdier",
                    "/metrics från {of} har inga värden"
                ),
            )];
        }
        let (samples, others) =
            (seen.own.as_ref().map_or(0, |own| own.samples), told.len().saturating_sub(1));
        let read = words!(
            "klar's own {samples} values are read, and those of {others} instances that have some",
            "klars egne {samples} verdier er lest, og de fra {others} instanser som har noen",
            "klars egna {samples} värden är lästa, och de från {others} instanser som har några"
        );
        vec![Finding::when(seen.own.as_ref().is_some_and(|own| own.ends), place, read)]
    }
}

impl Told {
    fn of(instance: String, status: u16, text: &str) -> Self {
        let (samples, wrong) = read(text);
        Self { instance, status, samples, ends: text.trim_end().ends_with("# EOF"), wrong }
    }
}

/// The number of values, and the first line that is none.
fn read(text: &str) -> (usize, Option<usize>) {
    let mut samples = 0;
    for (number, line) in text.lines().enumerate().take(100_000) {
        let line = line.trim_end();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        if !is_sample(line) {
            return (samples, Some(number + 1));
        }
        samples += 1;
    }
    (samples, None)
}

/// `name{label="value",…} number [time] [# exemplar]`.
fn is_sample(line: &str) -> bool {
    let name = line.find(|c: char| !c.is_ascii_alphanumeric() && c != '_' && c != ':').unwrap_or(line.len());
    let (name, rest) = line.split_at(name);
    if name.is_empty() || name.starts_with(|c: char| c.is_ascii_digit()) {
        return false;
    }
    let rest = match rest.strip_prefix('{') {
        None => rest,
        Some(labels) => match after_labels(labels) {
            Some(rest) => rest,
            None => return false,
        },
    };
    let mut words = rest.split_whitespace();
    let is_number = |word: &str| word.parse::<f64>().is_ok() || ["+Inf", "-Inf", "NaN"].contains(&word);
    words.next().is_some_and(is_number) && words.next().is_none_or(|word| word == "#" || is_number(word))
}

/// What follows the closing brace, when the labels before it are well formed.
fn after_labels(text: &str) -> Option<&str> {
    let mut rest = text;
    loop {
        rest = rest.trim_start();
        if let Some(rest) = rest.strip_prefix('}') {
            return Some(rest);
        }
        let (name, value) = rest.split_once("=\"")?;
        if name.trim().is_empty() || !name.trim().chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
            return None;
        }
        let mut escaped = false;
        let end = value.char_indices().find(|(_, c)| {
            let is_end = *c == '"' && !escaped;
            escaped = *c == '\\' && !escaped;
            is_end
        })?;
        rest = value.get(end.0 + 1..)?.trim_start();
        rest = rest.strip_prefix(',').unwrap_or(rest);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_metrics() {
        for (line, good) in [
            ("up 1", true),
            ("http_requests_total{method=\"GET\",route=\"/a}b\"} 12 1700000000000", true),
            ("le_bucket{le=\"+Inf\"} 3 # {trace_id=\"x\"} 0.5", true),
            ("odd{a=\"say \\\"hi\\\"\",} NaN", true),
            ("up{} +Inf", true),
            ("up", false),
            ("up one", false),
            ("9up 1", false),
            ("up{a=b} 1", false),
            ("up{a=\"b\" 1", false),
            ("<!doctype html>", false),
        ] {
            assert_eq!(is_sample(line), good, "{line}");
        }
    }
}
