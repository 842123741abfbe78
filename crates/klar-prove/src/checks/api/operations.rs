//! The API's description, held against the API.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::schema::misfit;
use crate::check::{About, Disturbs, Fault, Finding, Need, Probe, Unable};
use crate::checks::attacks::aim::{
    Range, Shot, Shots, is_little, shots, signs_in, signs_out, strongest, told_of,
};
use crate::words;
use crate::world::World;
use crate::world::api::Operation;
use crate::world::http::{Answer, Ask};

/// Whether the description is true.
pub struct Operations;

/// What was seen of the document and of each operation.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Seen {
    /// What is wrong with the document itself.
    document: Vec<String>,
    /// Operations that there are.
    all: usize,
    operations: Vec<Tried>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Tried {
    route: String,
    /// 0 where nothing came back.
    status: u16,
    documented: bool,
    /// Why its body does not fit its schema.
    misfit: Option<String>,
    /// How its own examples were answered, if it has some.
    example: Option<u16>,
}

const VALID: (&str, &str) = ("test.api-validation", "valid");
const DOCUMENT: (&str, &str) = ("docs.api", "valid");
/// No more is asked after this, so that what was seen until then is told.
const LONGEST: Duration = Duration::from_secs(70);
const EXAMPLES: (&str, &str) = ("docs.api", "examples");

impl Probe for Operations {
    type Seen = Seen;

    const ABOUT: About = About {
        id: "operations",
        version: 2,
        question: "Does the API do what its description says?",
        does: "Reads the OpenAPI document, makes a valid request to each operation and each of its examples, and holds the answers against their schemas.",
        shows: &[VALID, DOCUMENT, EXAMPLES],
        needs: &[Need::Site, Need::Api],
        disturbs: Disturbs::Attacks,
        good_for: Duration::from_secs(7 * 24 * 3600),
        limit: Duration::from_secs(90),
        faults: &[
            Fault::Foil("wrong-schema", VALID),
            Fault::Foil("broken-document", DOCUMENT),
            Fault::Foil("wrong-example", EXAMPLES),
        ],
    };

    async fn look(world: Rc<World>) -> Result<Seen, Unable> {
        let api = world.api().await.ok_or_else(|| Unable(Need::Api.missing()))?;
        let range = Range::new(&world, world.site()?, strongest(&world).await);
        let Shots { all: mut shots, rest } = shots(&range).await;
        let fits = |shot: &Shot| shot.operation.is_some();
        shots.retain(fits);
        let outs =
            |shots: &[Shot]| shots.iter().filter(|shot| fits(shot) && !signs_out(&world, shot)).count();
        let all = outs(&shots) + outs(&rest);
        let end = Instant::now() + LONGEST;
        // What is made comes before what needs it, and what takes away comes last.
        let rank = |shot: &Shot| match shot.method.as_str() {
            "POST" if !shot.route().contains('{') => 0,
            "DELETE" => 2,
            _ => 1,
        };
        shots.sort_by_key(|shot| (rank(shot), shot.route().to_owned()));
        // Makers once more, for what needs something that only a later one makes.
        let makers: Vec<Shot> =
            shots.iter().filter(|shot| rank(shot) == 0 && !signs_in(&world, shot)).cloned().collect();
        let at = shots.iter().position(|shot| rank(shot) > 0).unwrap_or(shots.len());
        shots.splice(at..at, makers.iter().cloned());
        let mut seen = Seen { document: faults(&api.document), all, operations: Vec::new() };
        let mut made: BTreeMap<String, Value> = BTreeMap::new();
        for shot in shots.iter().filter(|shot| !signs_out(&world, shot)) {
            if Instant::now() > end {
                break;
            }
            let Some(operation) = shot.operation.and_then(|at| api.operations.get(at)) else { continue };
            let earlier = seen.operations.iter().position(|tried| tried.route == shot.label);
            if earlier
                .and_then(|at| seen.operations.get(at))
                .is_some_and(|tried| (200..400).contains(&tried.status))
            {
                continue;
            }
            // What was made first may have been used up meanwhile.
            let list = shot.route().split("/{").next().unwrap_or_default();
            let maker = makers.iter().find(|maker| rank(shot) == 2 && maker.route() == list);
            if let Some((maker, operation)) =
                maker.and_then(|maker| Some((maker, api.operations.get(maker.operation?)?)))
                && let Some(body) =
                    valid(&range, maker, operation, &made).await.and_then(|answer| answer.json())
            {
                made.insert(list.to_owned(), body);
            }
            let answer = if signs_in(&world, shot) {
                sign_in(&world, &range, shot).await
            } else {
                valid(&range, shot, operation, &made).await
            };
            let mut tried = Tried {
                route: shot.label.clone(),
                status: 0,
                documented: false,
                misfit: None,
                example: None,
            };
            if let Some(answer) = answer {
                tried.status = answer.status.as_u16();
                let documented = documented(operation, tried.status);
                tried.documented = documented.is_some();
                if let Some(Some(schema)) = documented {
                    tried.misfit = match answer.json() {
                        Some(body) => misfit(schema, &body),
                        None if answer.body.is_empty() && tried.status == 204 => None,
                        None => Some("no JSON".to_owned()),
                    };
                    tried.misfit = tried.misfit.map(|why| why.chars().take(200).collect());
                }
                if answer.status.is_success()
                    && rank(shot) == 0
                    && let Some(body) = answer.json()
                {
                    made.insert(shot.route().to_owned(), body);
                }
            }
            if !signs_in(&world, shot)
                && let Some(ask) = example(shot, operation, &api.document)
            {
                let answer = range.fire(ask).await;
                tried.example = Some(answer.map_or(0, |answer| answer.status.as_u16()));
            }
            match earlier.and_then(|at| seen.operations.get_mut(at)) {
                Some(earlier) => *earlier = tried,
                None => seen.operations.push(tried),
            }
        }
        Ok(seen)
    }

    fn judge(seen: &Seen) -> Vec<Finding> {
        let all = seen.operations.len();
        let cut = !is_little(seen.all.saturating_sub(all), seen.all);
        let good = |status: u16| (200..400).contains(&status);
        let wrong: Vec<(&Tried, String)> = seen
            .operations
            .iter()
            .filter_map(|tried| {
                let why = match tried {
                    Tried { status: 0, .. } => "no answer".to_owned(),
                    Tried { status, documented: false, .. } => format!("{status} is not documented"),
                    Tried { status: status @ 500.., .. } => status.to_string(),
                    Tried { misfit: Some(why), status, .. } => format!("{status}, {why}"),
                    _ => return None,
                };
                Some((tried, why))
            })
            .collect();
        let well = seen.operations.iter().filter(|tried| good(tried.status)).count();
        let valid = match wrong.first() {
            Some((tried, why)) => {
                let (count, route) = (wrong.len(), &tried.route);
                Finding::broken(
                    VALID,
                    words!(
                        "{count} of {all} operations answer otherwise than documented, first {route}: {why}",
                        "{count} av {all} operasjoner svarer annerledes enn dokumentert, først {route}: {why}",
                        "{count} av {all} operationer svarar annat än dokumenterat, först {route}: {why}"
                    ),
                )
            }
            None => {
                let left = seen.operations.iter().find(|tried| !good(tried.status));
                let left =
                    left.map(|tried| format!(" ({}: {})", tried.route, tried.status)).unwrap_or_default();
                let because = words!(
                    "{well} of {all} operations succeeded as documented, none contradicts its schema{left}",
                    "{well} av {all} operasjoner lyktes som dokumentert, ingen motsier skjemaet sitt{left}",
                    "{well} av {all} operationer lyckades som dokumenterat, ingen motsäger sitt schema{left}"
                );
                let because = told_of(because, all, seen.all);
                if well == all && all > 0 && !cut {
                    Finding::held(VALID, because)
                } else {
                    Finding::unseen(VALID, because)
                }
            }
        };
        let document = match seen.document.first() {
            Some(first) => {
                let count = seen.document.len();
                Finding::broken(
                    DOCUMENT,
                    words!(
                        "{count} faults, first {first}",
                        "{count} feil, først {first}",
                        "{count} fel, först {first}"
                    ),
                )
            }
            None => Finding::held(
                DOCUMENT,
                words!(
                    "{all} operations, all references and parameters are there",
                    "{all} operasjoner, alle referanser og parametere er på plass",
                    "{all} operationer, alla referenser och parametrar finns"
                ),
            ),
        };
        let run: Vec<(&str, u16)> =
            seen.operations.iter().filter_map(|tried| Some((tried.route.as_str(), tried.example?))).collect();
        let count = run.len();
        let examples = match run.iter().find(|(_, status)| matches!(status, 0 | 400 | 415 | 422 | 500..)) {
            Some((route, status)) => Finding::broken(
                EXAMPLES,
                words!(
                    "the example of {route} is answered with {status}",
                    "eksempelet for {route} besvares med {status}",
                    "exemplet för {route} besvaras med {status}"
                ),
            ),
            None => {
                let succeeded = run.iter().filter(|(_, status)| good(*status)).count();
                let because = words!(
                    "{succeeded} of {count} operations with examples succeeded with them",
                    "{succeeded} av {count} operasjoner med eksempler lyktes med dem",
                    "{succeeded} av {count} operationer med exempel lyckades med dem"
                );
                let because = told_of(because, all, seen.all);
                if count > 0 && succeeded == count && !cut {
                    Finding::held(EXAMPLES, because)
                } else {
                    Finding::unseen(EXAMPLES, because)
                }
            }
        };
        vec![valid, document, examples]
    }
}

/// The schema of an answer with this status; `None` when it is not documented.
fn documented(operation: &Operation, status: u16) -> Option<&Option<Value>> {
    let class = format!("{}XX", status / 100);
    let names = [status.to_string(), class.clone(), class.to_ascii_lowercase(), "default".to_owned()];
    names.iter().find_map(|name| operation.answers.get(name))
}

async fn sign_in(world: &World, range: &Range<'_>, shot: &Shot) -> Option<Answer> {
    let accounts = world.accounts.as_ref().filter(|accounts| accounts.path == shot.route());
    let Some(accounts) = accounts else {
        // Whom it would let in is not known: it is asked once, as the description has it.
        return range.fire(shot.plain()).await.ok();
    };
    world.sign_in_with_answer(accounts.list.first()?).await.ok().map(|(_, answer)| answer)
}

/// A valid request: as the description has it, then with what it may have besides, until one succeeds.
async fn valid(
    range: &Range<'_>,
    shot: &Shot,
    operation: &Operation,
    made: &BTreeMap<String, Value>,
) -> Option<Answer> {
    let mut shot = shot.clone();
    // What has been made a moment ago is there for certain.
    if let (Some((list, rest)), Some(slot)) =
        (operation.path.split_once("/{"), shot.slots().into_iter().next())
    {
        let name = rest.split('}').next().unwrap_or_default();
        let id = made.get(list).and_then(|made| made.get(name).or_else(|| made.get("id")));
        if let Some(id) = id.filter(|id| id.is_string() || id.is_number()) {
            shot = shot.keeping(&slot, &id.as_str().map_or_else(|| id.to_string(), str::to_owned));
        }
    }
    let mut bodies = vec![None];
    if let (Some(schema), Some(Value::Object(body))) = (&operation.body, shot.body()) {
        let known = schema.get("properties").and_then(Value::as_object).into_iter().flatten();
        let optional: Vec<_> = known
            .filter(|(name, _)| !body.contains_key(*name))
            .map(|(name, each)| (name.clone(), remembered(name, each, made)))
            .collect();
        for (name, value) in optional.iter().take(6) {
            let mut more = body.clone();
            more.insert(name.clone(), value.clone());
            bodies.push(Some(Value::Object(more)));
        }
        let mut more = body.clone();
        more.extend(optional);
        bodies.push(Some(Value::Object(more)));
    }
    let mut last = None;
    for body in bodies {
        let ask = body.map_or_else(|| shot.plain(), |body| shot.with_body(body));
        let answer = range.fire(ask).await.ok();
        let refused =
            answer.as_ref().is_some_and(|answer| matches!(answer.status.as_u16(), 400 | 404 | 409 | 422));
        last = answer;
        if !refused {
            break;
        }
    }
    last
}

/// A value for a field: the id of what was made under its name, or the plainest that there is.
fn remembered(name: &str, schema: &Value, made: &BTreeMap<String, Value>) -> Value {
    let thing = name.strip_suffix("_id").unwrap_or("-");
    let there = made
        .iter()
        .find(|(path, _)| path.rsplit('/').next().is_some_and(|last| last.trim_end_matches('s') == thing));
    let id = there.and_then(|(_, made)| made.get(name).or_else(|| made.get("id")));
    id.cloned().unwrap_or_else(|| crate::world::api::example(schema, 0))
}

/// A request of the operation's own examples, if it names some.
fn example(shot: &Shot, operation: &Operation, document: &Value) -> Option<Ask> {
    let mut given = BTreeMap::new();
    for parameter in operation.parameters.iter().filter(|parameter| parameter.place == "query") {
        let named = parameter.schema.get("example").or_else(|| parameter.schema.pointer("/examples/0"));
        if let Some(value) = named {
            given.insert(
                parameter.name.clone(),
                value.as_str().map_or_else(|| value.to_string(), str::to_owned),
            );
        }
    }
    let path =
        document.get("paths")?.as_object()?.iter().find(|(path, _)| operation.path.ends_with(path.as_str()));
    let described = path.and_then(|(_, item)| item.get(operation.method.as_str().to_ascii_lowercase()));
    let body = described.and_then(|described| {
        let content = described.pointer("/requestBody/content")?.as_object()?;
        let media = content.values().next()?;
        media
            .get("example")
            .cloned()
            .or_else(|| media.get("examples")?.as_object()?.values().next()?.get("value").cloned())
    });
    if given.is_empty() && body.is_none() {
        return None;
    }
    let mut shot = shot.clone();
    for slot in shot.slots() {
        let name = shot.slot_name(&slot);
        if let Some(value) = name.strip_suffix(" (query)").and_then(|name| given.get(name)) {
            shot = shot.sending(&slot, value);
        }
    }
    Some(body.map_or_else(|| shot.plain(), |body| shot.with_body(body)))
}

/// What is wrong with a document, by the rules of OpenAPI 3 that a reader runs into.
fn faults(document: &Value) -> Vec<String> {
    let mut found = Vec::new();
    if !document.get("openapi").and_then(Value::as_str).is_some_and(|version| version.starts_with("3.")) {
        found.push("openapi: not 3.x".to_owned());
    }
    for key in ["/info/title", "/info/version"] {
        if document.pointer(key).and_then(Value::as_str).is_none() {
            found.push(format!("{key}: missing"));
        }
    }
    references(document, document, &mut found, 0);
    let mut names = BTreeSet::new();
    for (path, item) in document.get("paths").and_then(Value::as_object).into_iter().flatten() {
        if !path.starts_with('/') {
            found.push(format!("{path}: does not begin with /"));
        }
        for method in ["get", "put", "post", "delete", "patch", "head", "options", "trace"] {
            let Some(operation) = item.get(method) else { continue };
            let label = format!("{} {path}", method.to_ascii_uppercase());
            if operation.get("responses").and_then(Value::as_object).is_none_or(|all| all.is_empty()) {
                found.push(format!("{label}: no responses"));
            }
            if let Some(id) = operation.get("operationId").and_then(Value::as_str)
                && !names.insert(id)
            {
                found.push(format!("{label}: operationId {id} is there twice"));
            }
            let listed = [item.get("parameters"), operation.get("parameters")];
            let listed: Vec<&Value> =
                listed.into_iter().flatten().filter_map(Value::as_array).flatten().collect();
            let pointed = |value: &&Value| -> Value {
                let to = value.get("$ref").and_then(Value::as_str).and_then(|to| to.strip_prefix('#'));
                to.and_then(|to| document.pointer(to)).unwrap_or(value).clone()
            };
            let parameters: Vec<Value> = listed.iter().map(pointed).collect();
            for name in path.split('{').skip(1).filter_map(|rest| rest.split('}').next()) {
                let there = parameters.iter().any(|each| {
                    each.get("name") == Some(&json!(name)) && each.get("in") == Some(&json!("path"))
                });
                if !there {
                    found.push(format!("{label}: {{{name}}} is not described"));
                }
            }
        }
    }
    found.truncate(20);
    found
}

fn references(document: &Value, value: &Value, found: &mut Vec<String>, depth: usize) {
    if depth > 40 || found.len() > 20 {
        return;
    }
    match value {
        Value::Object(fields) => {
            if let Some(to) = fields.get("$ref").and_then(Value::as_str)
                && to.strip_prefix('#').is_some_and(|pointer| document.pointer(pointer).is_none())
            {
                found.push(format!("{to}: leads nowhere").chars().take(150).collect());
            }
            fields.values().for_each(|each| references(document, each, found, depth + 1));
        }
        Value::Array(items) => items.iter().for_each(|each| references(document, each, found, depth + 1)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::Saw;
    use crate::foil::Foil;
    use crate::prove::foil_world;

    #[test]
    fn what_was_left_out_is_told() {
        let of = |all: usize, status: u16| {
            let tried = |route: &str| Tried {
                route: route.into(),
                status,
                documented: true,
                misfit: None,
                example: Some(status),
            };
            let operations = vec![tried("GET /a"), tried("GET /b")];
            let found = Operations::judge(&Seen { document: Vec::new(), all, operations });
            (found[0].saw, found[2].saw, found[0].because.en.contains("2 of 9 were tried"))
        };
        assert_eq!(of(2, 200), (Saw::Held, Saw::Held, false));
        assert_eq!(of(9, 200), (Saw::Unseen, Saw::Unseen, true));
        assert_eq!(of(9, 500), (Saw::Broken, Saw::Broken, false));
    }

    #[test]
    fn a_sign_in_without_known_accounts_is_asked_all_the_same() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let found = tokio::task::LocalSet::new().block_on(&runtime, async {
            let foil = Foil::start(&[]).await.unwrap();
            let mut world = foil_world(&foil);
            world.accounts = None;
            Operations::judge(&Operations::look(Rc::new(world)).await.unwrap())
        });
        assert!(found.iter().all(|found| found.saw != Saw::Broken), "{found:?}");
    }

    #[test]
    fn documents() {
        let good = json!({ "openapi": "3.1.0", "info": { "title": "x", "version": "1" }, "paths": { "/a/{id}": {
            "parameters": [{ "$ref": "#/components/parameters/id" }], "get": { "responses": { "200": {} } } } },
            "components": { "parameters": { "id": { "name": "id", "in": "path" } } } });
        assert_eq!(faults(&good), Vec::<String>::new());
        let bad = json!({ "openapi": "3.0.0", "info": { "title": "x", "version": "1" }, "paths": {
            "/a/{id}": { "get": { "operationId": "a", "responses": {} } }, "b": { "get": { "operationId": "a", "responses": { "200": { "$ref": "#/no" } } } } } });
        assert_eq!(faults(&bad).len(), 5, "{:?}", faults(&bad));
    }
}
