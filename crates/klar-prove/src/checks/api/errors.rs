//! What people and programs are told when something goes wrong.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::time::Duration;

use http::Method;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::check::{About, Disturbs, Fault, Finding, Need, Probe, Unable};
use crate::checks::attacks::aim::{Range, Shot, Slot, shots, signs_in, signs_out, strongest};
use crate::words;
use crate::world::World;
use crate::world::http::{Answer, Ask};

/// Errors, as they are told.
pub struct Errors;

/// The errors that could be provoked.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Seen {
    /// Whether the site has pages at all; without any it is an API alone.
    pages: bool,
    told: Vec<Told>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Told {
    /// What was asked.
    route: String,
    status: u16,
    /// Whether it was asked as a browser asks, and not as a program.
    browser: bool,
    /// Its media type.
    kind: String,
    /// What it shows of the inside.
    leak: Option<String>,
    /// Whether there is an id in it.
    id: bool,
}

const FORMAT: (&str, &str) = ("err.user-messages", "format");
const NO_LEAK: (&str, &str) = ("err.user-messages", "no-leak");
const ID: (&str, &str) = ("err.user-messages", "error-id");
const SAFE: (&str, &str) = ("err.safe-500", "no-leak");
const CORRELATION: (&str, &str) = ("err.safe-500", "correlation-id");

impl Probe for Errors {
    type Seen = Seen;

    const ABOUT: About = About {
        id: "errors",
        version: 2,
        question: "Do errors tell people what they need and strangers nothing?",
        does: "Provokes 400, 401, 403, 404, 405, 413, 415 and 422 where it can, as a program and as a browser, and 500 by what should not be sent.",
        shows: &[FORMAT, NO_LEAK, ID, SAFE, CORRELATION],
        needs: &[Need::Site],
        disturbs: Disturbs::Load,
        good_for: Duration::from_secs(24 * 3600),
        limit: Duration::from_secs(45),
        faults: &[
            Fault::Foil("plain-errors", FORMAT),
            Fault::Foil("stack-trace", NO_LEAK),
            Fault::Foil("no-error-id", ID),
            Fault::Foil("crashes-on-bad-json", SAFE),
            Fault::Foil("crashes-on-bad-json", CORRELATION),
        ],
    };

    async fn look(world: Rc<World>) -> Result<Seen, Unable> {
        let range = Range::new(&world, world.site()?, strongest(&world).await);
        let nobody = Range::new(&world, world.site()?, None);
        let mut asks: Vec<(bool, Ask)> = vec![
            (true, Ask::get("/klar-check/there-is-no-such-page")),
            (true, Ask::get("/api/klar-check-there-is-no-such-thing")),
            (true, Ask::get("/%")),
            (false, Ask::new(Method::PATCH, "/")),
        ];
        let described = if world.api().await.is_some() { shots(&range).await.all } else { Vec::new() };
        let mut kinds: BTreeMap<&str, usize> = BTreeMap::new();
        for shot in described.iter().filter(|shot| shot.operation.is_some() && !signs_out(&world, shot)) {
            // Nothing here may change anything: bodies that cannot be read, values that cannot be, and nobody's name.
            let mut add = |what: &'static str, signed_in: bool, ask: Ask| {
                let count = kinds.entry(what).or_default();
                *count += 1;
                if *count <= if what == "value" { 6 } else { 2 } {
                    asks.push((signed_in, ask));
                }
            };
            if shot.secured && shot.reads() {
                add("nobody", false, shot.plain());
            }
            if shot.reads() {
                for slot in shot.slots() {
                    if matches!(slot, Slot::Field(_)) && !shot.is_header(&slot) {
                        add("value", true, shot.with(&slot, "\u{0}klar"));
                    }
                }
                let patched = |each: &Shot| each.method == Method::PATCH && each.route() == shot.route();
                if !described.iter().any(patched) {
                    add("method", true, Ask::new(Method::PATCH, shot.plain().path));
                }
            } else if shot.body().is_some() && !signs_in(&world, shot) {
                let mut broken = shot.plain();
                broken.body = Some(bytes::Bytes::from_static(b"{\"klar\": "));
                add("json", true, broken.clone());
                add("token", false, broken.clone());
                let mut kind = broken;
                kind.headers.retain(|(name, _)| name != "content-type");
                add("type", true, kind.with("content-type", "application/x-klar"));
                add("shape", true, shot.with_body(json!(["klar"])));
            }
        }
        let pages = world.crawl().await.is_ok_and(|crawl| !crawl.pages.is_empty());
        let mut seen = Seen { pages, told: Vec::new() };
        for (signed_in, ask) in asks.into_iter().take(30) {
            let who = if signed_in { &range } else { &nobody };
            let label = format!("{} {}", ask.method, ask.path.chars().take(80).collect::<String>());
            for (browser, accept) in
                [(false, "application/json"), (true, "text/html,application/xhtml+xml,*/*;q=0.8")]
            {
                let ask = ask.clone().with("accept", accept).within(Duration::from_secs(5));
                let Ok(answer) = who.fire(ask).await else { continue };
                if !answer.status.is_client_error() && !answer.status.is_server_error() {
                    continue;
                }
                seen.told.push(told(&label, browser, &answer));
            }
        }
        Ok(seen)
    }

    fn judge(seen: &Seen) -> Vec<Finding> {
        let statuses: BTreeSet<u16> = seen.told.iter().map(|told| told.status).collect();
        // 404 is easy to come by; without some of the others nothing much was seen.
        let enough = statuses.iter().filter(|status| [400, 401, 403, 404].contains(status)).count() >= 3;
        let judge =
            |place, is_meant: &dyn Fn(u16) -> bool, enough: bool, bad: &dyn Fn(&Told) -> Option<String>| {
                let meant: Vec<&Told> = seen.told.iter().filter(|told| is_meant(told.status)).collect();
                let all = meant.len();
                let list: BTreeSet<String> = meant.iter().map(|told| told.status.to_string()).collect();
                let list = list.into_iter().collect::<Vec<_>>().join(", ");
                let wrong: Vec<(&Told, String)> =
                    meant.into_iter().filter_map(|told| Some((told, bad(told)?))).collect();
                match wrong.first() {
                    Some((Told { route, status, .. }, why)) => {
                        let count = wrong.len();
                        Finding::broken(
                            place,
                            words!(
                                "{count} of {all} errors, first {status} of {route}: {why}",
                                "{count} av {all} feil, først {status} fra {route}: {why}",
                                "{count} av {all} fel, först {status} från {route}: {why}"
                            ),
                        )
                    }
                    None => {
                        let because = words!(
                            "{all} errors looked at ({list})",
                            "{all} feil sett på ({list})",
                            "{all} fel granskade ({list})"
                        );
                        if all > 0 && enough {
                            Finding::held(place, because)
                        } else {
                            Finding::unseen(place, because)
                        }
                    }
                }
            };
        let leak = |told: &Told| told.leak.clone();
        let id = |told: &Told| (!told.id).then(|| "no id".to_owned());
        let format = |told: &Told| {
            let api = told.route.split(' ').nth(1).is_some_and(|path| path.starts_with("/api"));
            let (json, html) = (told.kind.contains("json"), told.kind == "text/html");
            // A browser that asks an API by a script gets what scripts read; a page that is not there is a page.
            let right = if told.browser { html || (api || !seen.pages) && json } else { json };
            let kind = if told.kind.is_empty() { "-" } else { &told.kind };
            (!right)
                .then(|| format!("{} → {kind}", if told.browser { "text/html" } else { "application/json" }))
        };
        let (refused, crashed, any) = (|status| status != 500, |status| status == 500, |_| true);
        vec![
            judge(FORMAT, &refused, enough, &format),
            judge(NO_LEAK, &any, enough, &leak),
            judge(ID, &refused, enough, &id),
            judge(SAFE, &crashed, true, &leak),
            judge(CORRELATION, &crashed, true, &id),
        ]
    }
}

fn told(route: &str, browser: bool, answer: &Answer) -> Told {
    let text = answer.text();
    Told {
        route: route.to_owned(),
        status: answer.status.as_u16(),
        browser,
        kind: answer.media_type().chars().take(60).collect(),
        leak: leak(&text),
        id: has_id(answer, &text),
    }
}

/// Whether people can quote something that is found in a log: a header or a field.
fn has_id(answer: &Answer, text: &str) -> bool {
    let headers =
        ["x-request-id", "x-correlation-id", "request-id", "traceparent", "x-trace-id", "x-amzn-trace-id"];
    if headers.iter().any(|name| answer.header(name).is_some_and(|value| !value.is_empty())) {
        return true;
    }
    if let Ok(Value::Object(fields)) = serde_json::from_str::<Value>(text) {
        let names = [
            "request_id",
            "requestId",
            "error_id",
            "errorId",
            "trace_id",
            "traceId",
            "correlation_id",
            "instance",
            "id",
        ];
        return names.iter().any(|name| fields.get(*name).is_some_and(|id| id.is_string() || id.is_number()));
    }
    let lower = text.to_ascii_lowercase();
    ["error id", "error-id", "request id", "request-id", "feil-id", "fel-id", "reference:"]
        .iter()
        .any(|word| lower.contains(word))
}

/// The first thing in an error that belongs into a log.
fn leak(text: &str) -> Option<String> {
    let signs = [
        ("    at ", "a stack trace"),
        ("\\n    at ", "a stack trace"),
        ("Traceback (most recent call last)", "a stack trace"),
        ("node:internal/", "a stack trace"),
        ("stack backtrace:", "a stack trace"),
        ("panicked at ", "a panic"),
        ("\tat java.", "a stack trace"),
        ("goroutine 1 [", "a stack trace"),
        ("/node_modules/", "a path"),
        ("site-packages/", "a path"),
        ("/home/", "a path"),
        ("/srv/", "a path"),
        ("/usr/src/", "a path"),
        ("/var/www/", "a path"),
        ("C:\\\\", "a path"),
        ("syntax error at or near", "SQL"),
        ("SELECT * FROM", "SQL"),
        ("invalid input syntax for type", "SQL"),
        ("relation \"", "SQL"),
        ("SQLSTATE", "SQL"),
        ("ECONNREFUSED", "an address"),
        ("postgres://", "an address of a database"),
    ];
    let (sign, what) = signs.into_iter().find(|(sign, _)| text.contains(sign))?;
    Some(format!("{what} ({})", sign.trim()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::Saw;

    #[test]
    fn what_a_crash_shows_is_shown() {
        let told = |status, leak: Option<&str>| Told {
            route: "GET /a".to_owned(),
            status,
            browser: false,
            kind: "application/json".to_owned(),
            leak: leak.map(str::to_owned),
            id: true,
        };
        let refusals = || [400, 401, 404].map(|status| told(status, None));
        let judged = |crash| {
            let seen = Seen { pages: false, told: refusals().into_iter().chain([crash]).collect() };
            let found = Errors::judge(&seen);
            found.into_iter().find(|found| (found.row, found.part) == NO_LEAK).unwrap()
        };
        assert_eq!(judged(told(500, None)).saw, Saw::Held);
        assert_eq!(judged(told(500, Some("a stack trace"))).saw, Saw::Broken);
    }

    #[test]
    fn leaks() {
        assert!(leak("Error\n    at open (/srv/app.js:1:1)").is_some());
        assert!(leak("{\"stack\":\"Error\\n    at x\"}").is_some());
        assert!(leak("There is nothing at this address.").is_none());
        assert!(leak("{\"instance\":\"/api/x\",\"detail\":\"Send JSON.\"}").is_none());
    }
}
