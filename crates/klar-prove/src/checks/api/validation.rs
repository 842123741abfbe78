//! Requests that the API's own description forbids, and some that nobody should send.

use std::rc::Rc;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::schema::misfits;
use crate::check::{About, Disturbs, Fault, Finding, Need, Probe, Unable};
use crate::checks::attacks::aim::{
    Range, Shot, Shots, Slot, is_little, shots, signs_in, signs_out, strongest, told_of,
};
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
    /// Operations that were left out, since there are too many or there was no time.
    left: usize,
    /// Operations that the strongest account may not use: nothing behind them was reached.
    closed: usize,
    /// Operations of which all or most requests were limited.
    unanswered: usize,
    /// Requests that the description forbids.
    forbidden: usize,
    /// Requests that it does not speak of, which still must not break anything.
    odd: usize,
    /// Requests that were limited instead of answered.
    limited: usize,
    taken: Vec<Case>,
    failed: Vec<Case>,
    /// Operations whose plain request was answered well twice, and was made again after all the odd ones; and what
    /// came then, where that was something else.
    repeated: usize,
    spoiled: Vec<Case>,
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
const NEXT: (&str, &str) = ("err.exception-handling", "next-request");
/// A plain request is made so often after the odd ones: it has to meet each of a few instances.
const AFTER: usize = 4;
const MOST_CASES: usize = 30;
/// Per operation.
const MOST_FAILED: usize = 5;
/// Per operation: guesses at a sign-in lock people out.
const MOST_GUESSES: usize = 6;
/// Per operation: more of them will be limited too.
const MOST_LIMITED: usize = 20;
/// No more is sent after this, so that what was seen until then is told.
const LONGEST: Duration = Duration::from_secs(150);

impl Probe for Validation {
    type Seen = Seen;

    const ABOUT: About = About {
        id: "validation",
        version: 4,
        question: "Is input refused that is not as it must be?",
        does: "Sends every described operation wrong types, bounds, lengths, missing and unknown fields, broken and deep JSON, odd Unicode and days that no calendar has, and then once more what it answered well before.",
        shows: &[REFUSED, NO_5XX, INVALID, NEXT],
        needs: &[Need::Site, Need::Api],
        disturbs: Disturbs::Attacks,
        good_for: Duration::from_secs(7 * 24 * 3600),
        limit: Duration::from_secs(180),
        faults: &[
            Fault::Foil("believes-input", REFUSED),
            Fault::Foil("crashes-on-types", NO_5XX),
            Fault::Foil("crashes-on-bad-json", INVALID),
            Fault::Foil("crashes-on-odd-days", NO_5XX),
            Fault::Foil("spoiled-by-errors", NEXT),
        ],
    };

    async fn look(world: Rc<World>) -> Result<Seen, Unable> {
        let api = world.api().await.ok_or_else(|| Unable(Need::Api.missing()))?;
        let range = Range::new(&world, world.site()?, strongest(&world).await);
        let Shots { all: shots, rest } = shots(&range).await;
        let mut seen = Seen { left: rest.len(), ..Seen::default() };
        let end = Instant::now() + LONGEST;
        for shot in shots.iter().filter(|shot| !signs_out(&world, shot)) {
            let Some(operation) = shot.operation.and_then(|at| api.operations.get(at)) else { continue };
            if Instant::now() > end {
                seen.left += 1;
                continue;
            }
            seen.operations += 1;
            let guarded = signs_in(&world, shot);
            let plain = range.fire(shot.plain()).await.map_or(0, |answer| answer.status.as_u16());
            if !guarded && matches!(plain, 401 | 403) {
                seen.closed += 1;
                continue;
            }
            // Answered well twice, it can be made again; a sign-in that succeeds would give the guesses back.
            let again = range.fire(shot.plain()).await.map_or(0, |answer| answer.status.as_u16());
            let repeats = !guarded && plain == again && (200..300).contains(&plain);
            let cases = cases(shot, operation);
            let failed = seen.failed.len();
            let (mut limited, mut answered) = (0, 0);
            for (what, ask, forbidden) in
                cases.into_iter().take(if guarded { MOST_GUESSES } else { usize::MAX })
            {
                // One that falls over whatever it is sent need not be sent more.
                if seen.failed.len() >= failed + MOST_FAILED {
                    break;
                }
                let status = range.fire(ask).await.map_or(0, |answer| answer.status.as_u16());
                if status == 429 {
                    limited += 1;
                    if guarded || limited >= MOST_LIMITED {
                        break;
                    }
                    continue;
                }
                answered += 1;
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
            if repeats {
                seen.repeated += 1;
                seen.spoiled.extend(spoiled(&world, &range, shot, plain).await.map(|status| Case {
                    route: shot.label.clone(),
                    what: plain.to_string(),
                    status,
                }));
            }
            seen.limited += limited;
            // A sign-in has to limit guesses: what it said before that is enough.
            seen.unanswered += usize::from(limited > answered && !guarded);
        }
        Ok(seen)
    }

    fn judge(seen: &Seen) -> Vec<Finding> {
        let Seen { operations, left, closed, unanswered, forbidden, odd, limited, .. } = seen;
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
        let because = told_of(because, *operations, operations + left);
        let cut = !is_little(*left, operations + left) || !is_little(*unanswered, *operations);
        let good = |place| {
            // What was limited was not looked at.
            if *forbidden == 0 || *closed > 0 || cut || *limited > all {
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
            next(seen),
        ]
    }
}

/// What came of a request that was answered well before all the odd ones, where that is something else now.
async fn spoiled(world: &World, range: &Range<'_>, shot: &Shot, before: u16) -> Option<u16> {
    let mut other = None;
    for _ in 0..AFTER {
        let status = range.fire(shot.plain()).await.map_or(0, |answer| answer.status.as_u16());
        // Too often, or a place that is taken by now: what a good app says of repeated requests.
        if status != before && !matches!(status, 409 | 429) {
            other = Some(status);
            // What is only short of breath has it back.
            tokio::time::sleep(world.patience(Duration::from_secs(2))).await;
        }
    }
    other.filter(|status| !(200..300).contains(status))
}

fn next(seen: &Seen) -> Finding {
    let repeated = seen.repeated;
    match seen.spoiled.first() {
        Some(Case { route, what, status }) => {
            let count = seen.spoiled.len();
            Finding::broken(
                NEXT,
                words!(
                    "{count} of {repeated} operations answer otherwise after odd requests, first {route}: {what} before, {status} after",
                    "{count} av {repeated} operasjoner svarer annerledes etter rare forespørsler, først {route}: {what} før, {status} etter",
                    "{count} av {repeated} operationer svarar annorlunda efter udda förfrågningar, först {route}: {what} före, {status} efter"
                ),
            )
        }
        None => {
            let because = words!(
                "{repeated} operations are answered as before after all odd requests",
                "{repeated} operasjoner besvares som før etter alle rare forespørsler",
                "{repeated} operationer besvaras som förut efter alla udda förfrågningar"
            );
            if repeated == 0 { Finding::unseen(NEXT, because) } else { Finding::held(NEXT, because) }
        }
    }
}

/// Whether a text is meant to be a day or a time.
fn is_day(name: &str, schema: &Value) -> bool {
    let text = |key: &str| schema.get(key).and_then(Value::as_str).unwrap_or_default();
    if schema.get("enum").is_some() || !matches!(text("type"), "string" | "") {
        return false;
    }
    let name = name.to_ascii_lowercase();
    let named = ["date", "day", "_on", "_at", "until", "since"].iter().any(|word| name.contains(word));
    let formed = text("pattern").contains("{4}") && text("pattern").contains("{2}");
    text("format").starts_with("date") || formed || named && text("pattern").is_empty()
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
        if is_day(&parameter.name, &parameter.schema) {
            cases.extend(DAYS.map(|day| (format!("{name}: {day}"), shot.with(slot, day), false)));
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
        if is_day(&name, &schema) {
            cases.extend(DAYS.map(|day| (format!("{name}: {day}"), shot.with(&slot, day), false)));
        }
        if let Some(value) = body.pointer(&pointer).and_then(|value| unknown(value, &schema)) {
            cases.push((
                format!("{name}: {value}, which is not there"),
                shot.with_json(&slot, &value),
                false,
            ));
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

/// A value of the same form that most likely names nothing: what looks it up finds nothing in the middle of its work.
fn unknown(value: &Value, schema: &Value) -> Option<Value> {
    if schema.get("enum").is_some() {
        return None;
    }
    match value {
        Value::String(text) => {
            let other = match text.chars().last()? {
                'z' => 'q',
                'f' => 'b',
                '9' => '3',
                last if last.is_ascii_lowercase() || last.is_ascii_digit() => char::from(last as u8 + 1),
                _ => return None,
            };
            let (rest, _) = text.split_at(text.len() - 1);
            Some(format!("{rest}{other}").into())
        }
        Value::Number(number) => {
            let far = number.as_u64()?.checked_add(1_000_003)?;
            let most = schema.get("maximum").and_then(Value::as_u64).unwrap_or(u64::from(u32::MAX / 2));
            (far <= most).then(|| far.into())
        }
        _ => None,
    }
}

/// Of the right form, and in no calendar.
const DAYS: [&str; 3] = ["2026-02-30", "0000-00-00", "2026-06-31T25:61:61Z"];

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
    fn values_that_name_nothing_keep_their_form() {
        let any = json!({});
        for (value, schema, other) in [
            (json!("day"), &any, Some(json!("daz"))),
            (
                json!("017f22e2-79b0-7cc3-98c4-dc0c0c07398f"),
                &any,
                Some(json!("017f22e2-79b0-7cc3-98c4-dc0c0c07398b")),
            ),
            (json!(7), &any, Some(json!(1_000_010))),
            (json!(7), &json!({"maximum": 20}), None),
            (json!("paid"), &json!({"enum": ["paid", "refunded"]}), None),
            (json!("ö"), &any, None),
            (json!(""), &any, None),
            (json!(true), &any, None),
        ] {
            assert_eq!(unknown(&value, schema), other, "{value}");
        }
    }

    #[test]
    fn days_are_known_by_form_or_name() {
        for (name, schema, is) in [
            ("valid_on", json!({"type": "string", "pattern": "^\\d{4}-\\d{2}-\\d{2}$"}), true),
            ("x", json!({"type": "string", "format": "date-time"}), true),
            ("created_at", json!({"type": "string"}), true),
            ("kind", json!({"type": "string", "pattern": "^[a-z]{1,40}$"}), false),
            ("day", json!({"enum": ["monday"]}), false),
            ("valid_days", json!({"type": "integer"}), false),
        ] {
            assert_eq!(is_day(name, &schema), is, "{name}");
        }
    }

    #[test]
    fn what_was_not_answered_says_nothing() {
        let saw = |seen: Seen| {
            let found = Validation::judge(&seen);
            [found[0].saw, found[1].saw, found[2].saw]
        };
        let good = || Seen { operations: 20, forbidden: 80, odd: 20, limited: 10, ..Seen::default() };
        assert_eq!(saw(good()), [Saw::Held; 3]);
        assert_eq!(saw(Seen { limited: 101, ..good() }), [Saw::Unseen; 3]);
        assert_eq!(saw(Seen { unanswered: 2, ..good() }), [Saw::Unseen; 3]);
        assert_eq!(saw(Seen { left: 5, ..good() }), [Saw::Unseen; 3]);
        assert_eq!(saw(Seen { closed: 1, ..good() }), [Saw::Unseen; 3]);
        let case = || vec![Case { route: "POST /a".into(), what: "body: no JSON".into(), status: 500 }];
        let broken = saw(Seen { limited: 101, left: 5, failed: case(), ..good() });
        assert_eq!(broken, [Saw::Broken; 3]);
        let told = &Validation::judge(&Seen { left: 5, ..good() })[0].because;
        assert!(told.en.ends_with("20 of 25 were tried"), "{}", told.en);
    }

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
