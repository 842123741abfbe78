//! Requests that the API's own description forbids, and some that nobody should send.

use std::rc::Rc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::schema::misfits;
use crate::check::{About, Disturbs, Fault, Finding, Need, Probe, Unable};
use crate::checks::attacks::aim::{Range, Shot, Slot, shots, signs_in, signs_out, strongest};
use crate::words;
use crate::world::World;
use crate::world::api::Operation;
use crate::world::http::Ask;

/// Input that is not as it must be.
pub struct Validation;

/// How it was answered.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Seen {
    operations: usize,
    /// Operations that the strongest account may not use: nothing behind them was reached.
    closed: usize,
    /// Requests that the description forbids.
    forbidden: usize,
    /// Requests that it does not speak of, which still must not break anything.
    odd: usize,
    /// Requests that were limited instead of answered.
    limited: usize,
    taken: Vec<Case>,
    failed: Vec<Case>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Case {
    route: String,
    what: String,
    /// 0 where the connection ended without an answer.
    status: u16,
}

const REFUSED: (&str, &str) = ("sec.input-validation", "refused");
const NO_5XX: (&str, &str) = ("sec.input-validation", "no-5xx");
const INVALID: (&str, &str) = ("test.api-validation", "invalid");
const MOST_CASES: usize = 30;
/// Per operation.
const MOST_FAILED: usize = 5;
/// Per operation: guesses at a sign-in lock people out.
const MOST_GUESSES: usize = 6;

impl Probe for Validation {
    type Seen = Seen;

    const ABOUT: About = About {
        id: "validation",
        version: 2,
        question: "Is input refused that is not as it must be?",
        does: "Sends every described operation wrong types, bounds, lengths, missing and unknown fields, broken and deep JSON and odd Unicode.",
        shows: &[REFUSED, NO_5XX, INVALID],
        needs: &[Need::Site, Need::Api],
        disturbs: Disturbs::Attacks,
        good_for: Duration::from_secs(7 * 24 * 3600),
        limit: Duration::from_secs(180),
        faults: &[
            Fault::Foil("believes-input", REFUSED),
            Fault::Foil("crashes-on-types", NO_5XX),
            Fault::Foil("crashes-on-bad-json", INVALID),
        ],
    };

    async fn look(world: Rc<World>) -> Result<Seen, Unable> {
        let api = world.api().await.ok_or_else(|| Unable(Need::Api.missing()))?;
        let range = Range::new(&world, world.site()?, strongest(&world).await);
        let shots = shots(&range).await;
        let mut seen = Seen::default();
        for shot in shots.iter().filter(|shot| !signs_out(&world, shot)) {
            let Some(operation) = shot.operation.and_then(|at| api.operations.get(at)) else { continue };
            seen.operations += 1;
            let guarded = signs_in(&world, shot);
            let plain = range.fire(shot.plain()).await.map_or(0, |answer| answer.status.as_u16());
            if !guarded && matches!(plain, 401 | 403) {
                seen.closed += 1;
                continue;
            }
            let cases = cases(shot, operation);
            let failed = seen.failed.len();
            for (what, ask, forbidden) in
                cases.into_iter().take(if guarded { MOST_GUESSES } else { usize::MAX })
            {
                // One that falls over whatever it is sent need not be sent more.
                if seen.failed.len() >= failed + MOST_FAILED {
                    break;
                }
                let status = range.fire(ask).await.map_or(0, |answer| answer.status.as_u16());
                if status == 429 {
                    seen.limited += 1;
                    if guarded {
                        break;
                    }
                    continue;
                }
                *if forbidden { &mut seen.forbidden } else { &mut seen.odd } += 1;
                let case = Case { route: shot.label.clone(), what, status };
                // Cutting off what is too large, before it has all come, is an answer too.
                let cut = status == 0 && case.what.ends_with("128 kB");
                if (status == 0 && !cut || status >= 500) && seen.failed.len() < MOST_CASES {
                    seen.failed.push(case);
                } else if forbidden && (200..300).contains(&status) && seen.taken.len() < MOST_CASES {
                    seen.taken.push(case);
                }
            }
        }
        Ok(seen)
    }

    fn judge(seen: &Seen) -> Vec<Finding> {
        let Seen { operations, closed, forbidden, odd, limited, .. } = seen;
        let all = forbidden + odd;
        let first = |place, cases: &[Case]| {
            let Case { route, what, status } = cases.first()?;
            let count = cases.len();
            Some(if *status == 0 {
                Finding::broken(
                    place,
                    words!(
                        "{count} of {all} requests were not answered right, first {route}, {what}: no answer",
                        "{count} av {all} forespørsler ble ikke riktig besvart, først {route}, {what}: intet svar",
                        "{count} av {all} förfrågningar besvarades inte rätt, först {route}, {what}: inget svar"
                    ),
                )
            } else {
                Finding::broken(
                    place,
                    words!(
                        "{count} of {all} requests were not answered right, first {route}, {what}: {status}",
                        "{count} av {all} forespørsler ble ikke riktig besvart, først {route}, {what}: {status}",
                        "{count} av {all} förfrågningar besvarades inte rätt, först {route}, {what}: {status}"
                    ),
                )
            })
        };
        let because = words!(
            "{forbidden} forbidden and {odd} odd requests to {operations} operations ({closed} of them closed), {limited} limited; none was taken and none failed",
            "{forbidden} forbudte og {odd} rare forespørsler til {operations} operasjoner ({closed} av dem lukket), {limited} begrenset; ingen ble godtatt og ingen feilet",
            "{forbidden} förbjudna och {odd} udda förfrågningar till {operations} operationer ({closed} av dem stängda), {limited} begränsade; ingen godtogs och ingen misslyckades"
        );
        let good = |place| {
            if *forbidden == 0 || *closed > 0 {
                Finding::unseen(place, because.clone())
            } else {
                Finding::held(place, because.clone())
            }
        };
        vec![
            // A crash is no refusal, and what falls over is not sent the rest.
            first(REFUSED, &seen.taken)
                .or_else(|| first(REFUSED, &seen.failed))
                .unwrap_or_else(|| good(REFUSED)),
            first(NO_5XX, &seen.failed).unwrap_or_else(|| good(NO_5XX)),
            first(INVALID, &seen.failed)
                .or_else(|| first(INVALID, &seen.taken))
                .unwrap_or_else(|| good(INVALID)),
        ]
    }
}

/// What to send one operation: what is wrong with it, the request, and whether the description forbids it.
fn cases(shot: &Shot, operation: &Operation) -> Vec<(String, Ask, bool)> {
    let mut cases = Vec::new();
    let slots = shot.slots();
    for slot in &slots {
        let Slot::Field(_) = slot else { continue };
        let name = shot.slot_name(slot);
        let parameter =
            operation.parameters.iter().find(|each| name == format!("{} ({})", each.name, each.place));
        let Some(parameter) = parameter.filter(|each| matches!(each.place.as_str(), "query" | "path")) else {
            continue;
        };
        for (what, value) in misfits(&parameter.schema, true) {
            cases.push((format!("{name}: {what}"), shot.with_json(slot, &value), true));
        }
        for (what, text) in ODD {
            cases.push((format!("{name}: {what}"), shot.with(slot, text), false));
        }
        cases.push((format!("{name}: 3,000 characters"), shot.with(slot, &"å".repeat(3000)), false));
    }
    let (Some(schema), Some(body)) = (&operation.body, shot.body()) else { return cases };
    let broken = |text: &[u8]| {
        let mut ask = shot.plain();
        ask.body = Some(bytes::Bytes::copy_from_slice(text));
        ask
    };
    cases.push(("body: JSON that ends too early".to_owned(), broken(b"{\"klar\": [1, "), true));
    cases.push(("body: no JSON".to_owned(), broken(b"klar=1&check=2"), true));
    for (what, value) in misfits(schema, false) {
        cases.push((format!("body: {what}"), shot.with_body(value), true));
    }
    let deep = (0..1500).fold(json!(1), |inner, _| json!([inner]));
    let mut fields = Vec::new();
    walk(schema, body, &mut String::new(), &mut fields, 0);
    for (pointer, schema, required) in fields {
        let slot = Slot::Json(pointer.clone());
        let name = pointer.trim_start_matches('/').to_owned();
        for (what, value) in misfits(&schema, false) {
            cases.push((format!("{name}: {what}"), shot.with_json(&slot, &value), true));
        }
        if required {
            let mut less = body.clone();
            if let Some((parent, last)) = pointer.rsplit_once('/')
                && let Some(Value::Object(fields)) = less.pointer_mut(parent)
            {
                fields.remove(last);
            }
            cases.push((format!("{name}: missing"), shot.with_body(less), true));
        }
        for (what, text) in ODD {
            cases.push((format!("{name}: {what}"), shot.with(&slot, text), false));
        }
        // Twice 64 kB: more than a field should hold, less than most bodies may.
        cases.push((format!("{name}: 128 kB"), shot.with(&slot, &"å".repeat(64 * 1024)), false));
    }
    cases.push(("body: 1,500 levels deep".to_owned(), shot.with_body(deep), false));
    let surrogate = body.to_string().replacen("\":\"", "\":\"\\ud800", 1);
    cases.push(("body: half a surrogate".to_owned(), broken(surrogate.as_bytes()), false));
    let invalid = body.to_string().replacen("\":\"", "\":\"KLAR", 1).into_bytes();
    let at = invalid.windows(4).position(|four| four == b"KLAR");
    if let Some(at) = at {
        let mut invalid = invalid;
        if let Some(byte) = invalid.get_mut(at) {
            *byte = 0xff;
        }
        cases.push(("body: bytes that are no UTF-8".to_owned(), broken(&invalid), false));
    }
    cases
}

const ODD: [(&str, &str); 4] = [
    ("NUL", "klar\u{0}check"),
    ("right to left and combined", "\u{202e}klar\u{0301}\u{0301}\u{200d}\u{1f468}\u{200d}\u{1f469}"),
    ("huge number", "99999999999999999999999999999999999999"),
    ("dots and slashes", "../../../../etc/passwd"),
];

/// The fields of a body that are there or may be put beside those that are.
fn walk(
    schema: &Value,
    body: &Value,
    pointer: &mut String,
    found: &mut Vec<(String, Value, bool)>,
    depth: usize,
) {
    if depth > 4 || found.len() > 60 {
        return;
    }
    let length = pointer.len();
    if let (Some(properties), Some(there)) =
        (schema.get("properties").and_then(Value::as_object), body.as_object())
    {
        let required = schema.get("required").and_then(Value::as_array);
        for (name, each) in properties {
            if name.contains(['/', '~']) {
                continue;
            }
            pointer.push('/');
            pointer.push_str(name);
            let must = required.is_some_and(|names| names.iter().any(|each| each == name));
            found.push((pointer.clone(), each.clone(), must));
            if let Some(value) = there.get(name) {
                walk(each, value, pointer, found, depth + 1);
            }
            pointer.truncate(length);
        }
    }
    if let (Some(items), Some(first)) = (schema.get("items"), body.get(0)) {
        pointer.push_str("/0");
        walk(items, first, pointer, found, depth + 1);
        pointer.truncate(length);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::Saw;

    #[test]
    fn a_crash_is_no_refusal() {
        let case = || Case { route: "GET /a".to_owned(), what: "q (query): NUL".to_owned(), status: 500 };
        let judged = |failed| {
            let seen = Seen { operations: 1, forbidden: 9, odd: 9, failed, ..Seen::default() };
            let found = Validation::judge(&seen);
            found.into_iter().find(|found| (found.row, found.part) == REFUSED).unwrap().saw
        };
        assert_eq!(judged(Vec::new()), Saw::Held);
        assert_eq!(judged(vec![case()]), Saw::Broken);
    }
}
