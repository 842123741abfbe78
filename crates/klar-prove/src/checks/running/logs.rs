//! What the app writes down while it is asked: whether machines can read it, whether it can be followed from a request
//! to its lines, and whether secrets end up there.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::rc::Rc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{anybody, good_reads};
use crate::check::{About, Disturbs, Fault, Finding, Need, Probe, Unable};
use crate::words;
use crate::words::Words;
use crate::world::http::Ask;
use crate::world::{Klar, World, until};

/// The app's log lines.
pub struct Logs;

/// What was written while the probe asked.
#[derive(Debug, Serialize, Deserialize)]
pub struct Seen {
    /// Requests of the probe.
    asked: usize,
    /// New lines of the app's services, whoever caused them, and those among them that are no JSON object.
    lines: usize,
    not_json: usize,
    /// Lines from before that, and those of them that are no JSON object.
    #[serde(default)]
    before: usize,
    #[serde(default)]
    not_json_before: usize,
    /// Lines that are of these requests without doubt, and what they lack: field, and in how many.
    ours: usize,
    lacking: BTreeMap<String, usize>,
    /// Lines of the request that no one else makes, and how many of them have its trace id.
    unmistakable: usize,
    unmistakable_traced: usize,
    /// Requests whose trace id is in a line.
    traced: usize,
    /// Where the planted secrets were sent that were found in the lines.
    leaked: Vec<String>,
}

const LINES: usize = 5_000;
/// Names that loggers use for the same thing.
const FIELDS: [(&str, &[&str]); 3] = [
    ("level", &["level", "severity", "lvl", "log.level", "severityText", "@l"]),
    (
        "trace_id",
        &["trace_id", "traceId", "traceID", "trace.id", "trace", "otelTraceID", "dd.trace_id", "@tr"],
    ),
    ("msg", &["msg", "message", "event", "body", "@m", "@mt"]),
];

impl Probe for Logs {
    type Seen = Seen;

    const ABOUT: About = About {
        id: "logs",
        version: 3,
        question: "Are the app's log lines JSON with the fields that matter, with the request's trace id and without secrets?",
        does: "Asks reading operations, an address that does not exist and a sign-in that must fail, each with a trace id and with made-up secrets in headers, cookie and password, and reads the lines that the app writes meanwhile.",
        shows: &[
            ("mon.log-structured", "json"),
            ("mon.log-structured", "fields"),
            ("mon.log-structured", "redacted"),
            ("mon.tracing", "logs"),
        ],
        needs: &[Need::Site, Need::Klar],
        disturbs: Disturbs::Load,
        good_for: Duration::from_secs(24 * 3600),
        limit: Duration::from_secs(40),
        faults: &[
            Fault::Foil("plain-log", ("mon.log-structured", "json")),
            Fault::Foil("log-without-level", ("mon.log-structured", "fields")),
            Fault::Foil("leaky-log", ("mon.log-structured", "redacted")),
            Fault::Foil("log-without-trace", ("mon.tracing", "logs")),
        ],
    };

    async fn look(world: Rc<World>) -> Result<Seen, Unable> {
        let klar = world.klar.clone().ok_or_else(|| Unable(Need::Klar.missing()))?;
        let session = anybody(&world).await;
        let good = good_reads(&world, session.as_ref()).await?;
        let services: BTreeSet<String> = klar
            .instances()
            .await
            .map_err(|why| Unable(Words::same(why)))?
            .into_iter()
            .map(|instance| instance.service)
            .collect();
        if services.is_empty() {
            return Err(Unable(words!("no instance runs", "ingen instans kjører", "ingen instans körs")));
        }
        // What was asked just before is written a moment later.
        tokio::time::sleep(world.patience(Duration::from_millis(800))).await;
        let before = lines(&*klar, &services).await;
        let secret = |_: &str| format!("klar{:016x}{:016x}", fastrand::u64(..), fastrand::u64(..));
        let planted: Vec<(&str, String)> =
            ["authorization", "x-api-key", "cookie", "password"].map(|place| (place, secret(place))).into();
        let of = |place: &str| {
            planted
                .iter()
                .find(|(known, _)| *known == place)
                .map(|(_, secret)| secret.clone())
                .unwrap_or_default()
        };
        let mut traces = Vec::new();
        let mut trace = |ask: Ask| {
            let id = format!("{:016x}{:016x}", fastrand::u64(1..), fastrand::u64(1..));
            let ask = ask.with("traceparent", format!("00-{id}-{:016x}-01", fastrand::u64(1..)));
            traces.push(id);
            ask
        };
        // Beside the API's other paths: the first page's server may be another than the app.
        let marker = format!("klar-check-{:08x}", fastrand::u32(..));
        let folder = good.iter().find(|path| path.matches('/').count() > 1).map_or("", |path| path.as_str());
        let folder = folder.split('/').nth(1).map(|name| format!("/{name}")).unwrap_or_default();
        let mut asks: Vec<Ask> = Vec::new();
        for path in good.iter().take(12) {
            // Signed in, so that the operation does what it does; the made-up key is beside that.
            let ask =
                trace(Ask::get(path).with("accept", "application/json")).with("x-api-key", of("x-api-key"));
            asks.push(session.as_ref().map_or(ask.clone(), |session| session.on(ask)));
        }
        asks.push(
            trace(Ask::get(format!("{folder}/{marker}")))
                .with("accept", "application/json")
                .with("authorization", format!("Bearer {}", of("authorization")))
                .with("cookie", format!("session={}", of("cookie"))),
        );
        if let Some(accounts) = &world.accounts {
            let mut body = accounts.body.clone();
            fill(&mut body, &format!("{marker}@example.com"), &of("password"));
            asks.push(trace(Ask::new(http::Method::POST, &accounts.path).json(&body)));
        }
        let asked = asks.len();
        for (number, ask) in asks.into_iter().enumerate() {
            // An edge that begins a trace of its own says its id: nobody outside chooses what things are called inside.
            let answer = world.ask(ask).await.ok();
            let id = answer.as_ref().and_then(|answer| answer.header("x-request-id"));
            let is_trace = |id: &&str| id.len() == 32 && id.bytes().all(|digit| digit.is_ascii_hexdigit());
            if let (Some(id), Some(trace)) = (id.filter(is_trace), traces.get_mut(number))
                && !world.is_foil
            {
                *trace = id.to_owned();
            }
        }
        let is_ours = |line: &str| line.contains(&marker) || traces.iter().any(|id| line.contains(id));
        let written = || async {
            let now = new_lines(&before, lines(&*klar, &services).await);
            (now.iter().filter(|line| is_ours(line)).count() >= asked).then_some(())
        };
        let _ = until(world.patience(Duration::from_secs(4)), written).await;
        let new = new_lines(&before, lines(&*klar, &services).await);
        let mut seen = Seen {
            asked,
            lines: new.len(),
            not_json: 0,
            before: before.len(),
            not_json_before: before.iter().filter(|line| !is_object(line)).count(),
            ours: 0,
            lacking: BTreeMap::new(),
            unmistakable: 0,
            unmistakable_traced: 0,
            traced: traces.iter().filter(|id| new.iter().any(|line| line.contains(*id))).count(),
            leaked: Vec::new(),
        };
        for (place, secret) in &planted {
            if new.iter().any(|line| line.contains(secret)) {
                seen.leaked.push((*place).to_owned());
            }
        }
        for line in &new {
            let object = serde_json::from_str::<Value>(line).ok().filter(Value::is_object);
            seen.not_json += usize::from(object.is_none());
            if line.contains(&format!("/{marker}")) {
                seen.unmistakable += 1;
                seen.unmistakable_traced += usize::from(traces.iter().any(|id| line.contains(id)));
            }
            if is_ours(line) {
                seen.ours += 1;
                for (field, names) in FIELDS {
                    if !object.as_ref().is_some_and(|object| has(object, names)) {
                        *seen.lacking.entry(field.to_owned()).or_default() += 1;
                    }
                }
            }
        }
        Ok(seen)
    }

    fn judge(seen: &Seen) -> Vec<Finding> {
        let place = |part| ("mon.log-structured", part);
        let Seen { asked, lines, not_json, ours, traced, .. } = seen;
        let silent = || {
            words!(
                "the app wrote no line about {asked} requests",
                "appen skrev ingen linje om {asked} forespørsler",
                "appen skrev ingen rad om {asked} anrop"
            )
        };
        let Seen { before, not_json_before, .. } = seen;
        let mut found = vec![if *lines == 0 {
            Finding::unseen(place("json"), silent())
        } else if *not_json == 0 && *not_json_before > 0 {
            // They may be another release's, one that was refused for instance.
            Finding::unseen(
                place("json"),
                words!(
                    "the newest {lines} lines are JSON objects, but {not_json_before} of {before} before them are none",
                    "de nyeste {lines} linjene er JSON-objekter, men {not_json_before} av {before} før dem er det ikke",
                    "de nyaste {lines} raderna är JSON-objekt, men {not_json_before} av {before} före dem är det inte"
                ),
            )
        } else {
            Finding::when(
                *not_json == 0,
                place("json"),
                words!(
                    "{not_json} of {lines} lines are no JSON object",
                    "{not_json} av {lines} linjer er ikke et JSON-objekt",
                    "{not_json} av {lines} rader är inget JSON-objekt"
                ),
            )
        }];
        found.push(match seen.lacking.iter().next() {
            _ if *ours == 0 => Finding::unseen(place("fields"), silent()),
            Some((field, without)) => Finding::broken(
                place("fields"),
                words!(
                    "{field} is missing in {without} of {ours} lines",
                    "{field} mangler i {without} av {ours} linjer",
                    "{field} saknas i {without} av {ours} rader"
                ),
            ),
            None => Finding::held(
                place("fields"),
                words!(
                    "level, trace_id and msg in all {ours} lines; klar adds time and service to each",
                    "level, trace_id og msg i alle {ours} linjer; klar føyer tid og tjeneste til hver",
                    "level, trace_id och msg i alla {ours} rader; klar lägger tid och tjänst till var och en"
                ),
            ),
        });
        found.push(match seen.leaked.first() {
            Some(_) => {
                let leaked = seen.leaked.join(", ");
                Finding::broken(
                    place("redacted"),
                    words!(
                        "the log has the secret that was sent as {leaked}",
                        "loggen har hemmeligheten som ble sendt som {leaked}",
                        "loggen har hemligheten som skickades som {leaked}"
                    ),
                )
            }
            None if *ours == 0 => Finding::unseen(place("redacted"), silent()),
            None => Finding::held(
                place("redacted"),
                words!(
                    "no planted secret in {lines} lines about {asked} requests",
                    "ingen utplassert hemmelighet i {lines} linjer om {asked} forespørsler",
                    "ingen utplacerad hemlighet i {lines} rader om {asked} anrop"
                ),
            ),
        });
        let tracing = ("mon.tracing", "logs");
        let told = words!(
            "the trace ids of {traced} of {asked} requests are in the log",
            "sporings-ID-ene til {traced} av {asked} forespørsler er i loggen",
            "spårnings-id:n för {traced} av {asked} anrop finns i loggen"
        );
        // A path that nobody else asks for is in the log: then its trace id must be there with it. One request that can
        // be followed says nothing of the others.
        found.push(if seen.unmistakable > seen.unmistakable_traced {
            Finding::broken(tracing, told)
        } else if *traced > 0 && traced == asked {
            Finding::held(tracing, told)
        } else if *traced > 0 {
            Finding::unseen(tracing, told)
        } else {
            Finding::unseen(tracing, silent())
        });
        found
    }
}

/// The last lines of these services: what klar's databases and builds say is not the app's.
async fn lines(klar: &dyn Klar, services: &BTreeSet<String>) -> Vec<String> {
    let mut all = Vec::new();
    for service in services.iter().take(20) {
        all.extend(klar.logs(Some(service), LINES).await.unwrap_or_default());
    }
    all
}

fn is_object(line: &str) -> bool {
    serde_json::from_str::<Value>(line).is_ok_and(|line| line.is_object())
}

/// Those of the lines that were not there before.
pub(super) fn new_lines(before: &[String], after: Vec<String>) -> Vec<String> {
    let mut old: HashMap<&str, usize> = HashMap::new();
    for line in before {
        *old.entry(line).or_default() += 1;
    }
    let mut new = Vec::new();
    for line in after {
        match old.get_mut(line.as_str()) {
            Some(left) if *left > 0 => *left -= 1,
            _ => new.push(line),
        }
    }
    new
}

/// At the top, or one level down where loggers nest them.
fn has(object: &Value, names: &[&str]) -> bool {
    let there =
        |object: &Value| names.iter().any(|name| object.get(*name).is_some_and(|value| !value.is_null()));
    there(object) || object.as_object().is_some_and(|fields| fields.values().any(there))
}

fn fill(body: &mut Value, name: &str, password: &str) {
    match body {
        Value::String(text) => *text = text.replace("{name}", name).replace("{password}", password),
        Value::Object(fields) => fields.values_mut().for_each(|each| fill(each, name, password)),
        Value::Array(items) => items.iter_mut().for_each(|each| fill(each, name, password)),
        other => *other = json!(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::Saw;

    #[test]
    fn every_request_must_be_found_by_its_id() {
        let saw = |asked: usize, traced: usize, unmistakable: usize| {
            let seen = Seen {
                asked,
                lines: 40,
                not_json: 0,
                before: 0,
                not_json_before: 0,
                ours: traced,
                lacking: BTreeMap::new(),
                unmistakable,
                unmistakable_traced: 0,
                traced,
                leaked: Vec::new(),
            };
            Logs::judge(&seen)[3].saw
        };
        assert_eq!(saw(14, 14, 0), Saw::Held);
        assert_eq!(saw(14, 1, 0), Saw::Unseen);
        assert_eq!(saw(14, 0, 0), Saw::Unseen);
        assert_eq!(saw(14, 13, 1), Saw::Broken);
    }

    #[test]
    fn new_lines_are_told_from_old_ones() {
        let before = ["a", "b", "b"].map(String::from);
        let after = ["b", "b", "a", "b", "c"].map(String::from).to_vec();
        assert_eq!(new_lines(&before, after), ["b", "c"]);
        // A log that has turned over is no longer than before, and still has new lines.
        let before = ["a", "b", "c"].map(String::from);
        let after = ["b", "c", "d"].map(String::from).to_vec();
        assert_eq!(new_lines(&before, after), ["d"]);
    }

    #[test]
    fn fields_have_many_names() {
        for (line, level, trace) in [
            (json!({ "level": 30, "trace_id": "x" }), true, true),
            (json!({ "severity": "INFO", "trace": { "id": "x" } }), true, true),
            (json!({ "level": null }), false, false),
            (json!({ "fields": { "level": "info" } }), true, false),
        ] {
            assert_eq!((has(&line, FIELDS[0].1), has(&line, FIELDS[1].1)), (level, trace), "{line}");
        }
    }
}
