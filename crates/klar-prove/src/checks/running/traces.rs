//! Whether a request becomes one trace, from the edge through the app to the database.

use std::collections::BTreeSet;
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

/// Traces.
pub struct Traces;

/// What became of requests.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Seen {
    asked: usize,
    /// Traces with a record of the edge; those of them with spans of the app; those of these with a statement.
    at_edge: usize,
    in_app: usize,
    in_database: usize,
    has_database: bool,
    spans: usize,
    /// Spans that hang under nothing that is there.
    orphans: usize,
    /// What was answered to an export, and whether its span was found again.
    export: Option<u16>,
    export_found: bool,
}

const ONE: (&str, &str) = ("mon.tracing", "one-trace");
const PARENTS: (&str, &str) = ("mon.tracing", "parents");
const OTLP: (&str, &str) = ("mon.tracing", "otlp");

const REQUESTS: usize = 6;
/// Exporters send every few seconds.
const SENT: Duration = Duration::from_secs(12);

impl Probe for Traces {
    type Seen = Seen;

    const ABOUT: About = About {
        id: "traces",
        version: 1,
        question: "Does a request become one trace, from the edge through the app to the database?",
        does: "Asks up to 6 reading operations with a traceparent, follows the id of each answer through telemetry, and sends a span of its own as the app's processes would, where klar tells them to.",
        shows: &[ONE, PARENTS, OTLP],
        needs: &[Need::Site, Need::Klar],
        disturbs: Disturbs::Load,
        good_for: Duration::from_secs(24 * 3600),
        limit: Duration::from_secs(60),
        faults: &[
            Fault::Foil("untraced-database", ONE),
            Fault::Foil("orphan-spans", PARENTS),
            Fault::Foil("refuses-otlp", OTLP),
        ],
    };

    async fn look(world: Rc<World>) -> Result<Seen, Unable> {
        let klar = world.klar.clone().ok_or_else(|| Unable(Need::Klar.missing()))?;
        let cannot = |why: String| Unable(Words::same(why));
        let session = anybody(&world).await;
        let good = good_reads(&world, session.as_ref()).await?;
        let has_database = klar.stores().await.map_err(cannot)?.iter().any(|(_, kind)| kind == "postgres");
        let mut seen = Seen { has_database, ..Seen::default() };
        let mut ids = Vec::new();
        for path in good.iter().take(REQUESTS) {
            let parent = format!("00-{:032x}-{:016x}-01", fastrand::u128(1..), fastrand::u64(1..));
            let ask = Ask::get(path).with("accept", "application/json").with("traceparent", parent);
            let ask = session.as_ref().map_or(ask.clone(), |session| session.on(ask));
            let Ok(answer) = world.ask(ask).await else { continue };
            seen.asked += 1;
            ids.extend(answer.header("x-request-id").map(str::to_owned));
        }
        let all_there = async || {
            for id in &ids {
                let trace = Trace::of(&*klar, id).await.ok()?;
                if !trace.at_edge || trace.spans.is_empty() {
                    return None;
                }
            }
            Some(())
        };
        let _ = until(world.patience(SENT), all_there).await;
        for id in &ids {
            let trace = Trace::of(&*klar, id).await.map_err(cannot)?;
            seen.at_edge += usize::from(trace.at_edge);
            seen.in_app += usize::from(trace.at_edge && !trace.spans.is_empty());
            seen.in_database += usize::from(trace.at_edge && trace.has_statement());
            seen.spans += trace.spans.len();
            seen.orphans += trace.orphans(id);
        }
        let (trace, span) = (format!("{:032x}", fastrand::u128(1..)), format!("{:016x}", fastrand::u64(1..)));
        let body = export(&trace, &span);
        seen.export = klar.tell("/v1/traces", &body).await.ok();
        let is_found = async || {
            let found = Trace::of(&*klar, &trace).await.ok()?;
            found.spans.iter().any(|(id, ..)| *id == span).then_some(())
        };
        seen.export_found = until(world.patience(SENT), is_found).await.is_some();
        Ok(seen)
    }

    fn judge(seen: &Seen) -> Vec<Finding> {
        let Seen { asked, at_edge, in_app, in_database, has_database, spans, orphans, export_found, .. } =
            seen;
        let told = words!(
            "of {asked} requests {at_edge} are recorded at the edge, {in_app} have spans of the app, {in_database} statements of the database",
            "av {asked} forespørsler er {at_edge} registrert i kanten, {in_app} har spenn fra appen, {in_database} setninger fra databasen",
            "av {asked} anrop är {at_edge} registrerade i kanten, {in_app} har spann från appen, {in_database} satser från databasen"
        );
        let is_whole = at_edge == asked && in_app == asked && (!has_database || *in_database > 0);
        let one = if *in_app == 0 {
            // An app without an SDK says nothing wrong.
            Finding::unseen(ONE, told)
        } else {
            Finding::when(is_whole, ONE, told)
        };
        let parents = words!(
            "{orphans} of {spans} spans hang under nothing that is there",
            "{orphans} av {spans} spenn henger under noe som ikke finnes",
            "{orphans} av {spans} spann hänger under något som inte finns"
        );
        let parents = if *spans == 0 {
            Finding::unseen(PARENTS, parents)
        } else {
            Finding::when(*orphans == 0, PARENTS, parents)
        };
        let status = seen.export.unwrap_or_default();
        let found = if *export_found {
            words!("and its span is found again", "og spennet finnes igjen", "och dess spann hittas igen")
        } else {
            words!("and its span is not found", "og spennet finnes ikke", "och dess spann hittas inte")
        };
        let otlp = words!(
            "an export is answered with {status}, ",
            "en eksport besvares med {status}, ",
            "en export besvaras med {status}, "
        );
        vec![one, parents, Finding::when(status == 200 && *export_found, OTLP, otlp.and(&found))]
    }
}

/// A span in OTLP's JSON.
fn export(trace: &str, span: &str) -> Value {
    let now =
        std::time::SystemTime::now().duration_since(std::time::SystemTime::UNIX_EPOCH).unwrap_or_default();
    let (begun, ended) = ((now.as_nanos() - 1_000_000).to_string(), now.as_nanos().to_string());
    json!({ "resourceSpans": [{ "scopeSpans": [{ "scope": { "name": "klar check" }, "spans": [{
        "traceId": trace, "spanId": span, "name": "klar check", "kind": 1,
        "startTimeUnixNano": begun, "endTimeUnixNano": ended,
    }] }] }] })
}

/// What telemetry knows of a trace.
struct Trace {
    at_edge: bool,
    /// Each with the one that it hangs under, and whether it says a statement.
    spans: Vec<(String, String, bool)>,
}

impl Trace {
    async fn of(klar: &dyn Klar, id: &str) -> Result<Self, String> {
        let said = klar.trace(id).await?;
        let text = |span: &Value, name: &str| span[name].as_str().unwrap_or_default().to_owned();
        let spans = said["spans"].as_array().into_iter().flatten();
        Ok(Self {
            at_edge: said["requests"].as_array().is_some_and(|requests| !requests.is_empty()),
            spans: spans
                .map(|span| {
                    let has_statement = !text(span, "statement").is_empty();
                    (text(span, "span_id"), text(span, "parent_span_id"), has_statement)
                })
                .collect(),
        })
    }

    fn has_statement(&self) -> bool {
        self.spans.iter().any(|(.., has_statement)| *has_statement)
    }

    /// How many hang neither under another one nor under the edge's, whose id is the second half of the request's.
    fn orphans(&self, id: &str) -> usize {
        let mut known: BTreeSet<&str> = self.spans.iter().map(|(span, ..)| span.as_str()).collect();
        known.extend(id.get(16..));
        self.spans.iter().filter(|(_, parent, _)| !known.contains(parent.as_str())).count()
    }
}
