//! Where a request can be tampered with: every query, path, JSON and form field and some headers of every operation
//! that the API's description, the forms, the links and the scripts of the site name.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use http::Method;
use serde_json::Value;

use crate::words::Words;
use crate::world::World;
use crate::world::api::{self, Operation};
use crate::world::http::{Answer, Ask, Client, Silence, percent};
use crate::world::{Session, until};

/// No more requests than these are tampered with.
const MOST_SHOTS: usize = 200;
/// Scripts are searched for addresses up to this length each.
const LONGEST_SCRIPT: usize = 1 << 20;

/// One request that can be tampered with.
#[derive(Debug, Clone)]
pub struct Shot {
    /// `GET /orders/{id}`: what reports call it.
    pub label: String,
    /// Its method.
    pub method: Method,
    /// Whether its description says that one must be signed in.
    pub secured: bool,
    /// Which operation of the description it is.
    pub operation: Option<usize>,
    path: String,
    fields: Vec<Field>,
    body: Option<Value>,
    /// Fields that the body may have beside those it must have.
    optional: Vec<String>,
}

/// A named value outside a JSON body.
#[derive(Debug, Clone)]
struct Field {
    place: Place,
    name: String,
    value: String,
    /// Sent even when it is not the one tampered with.
    sent: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Path,
    Query,
    Header,
    Cookie,
    Form,
}

/// What is tampered with in a shot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Slot {
    /// A field outside the body's JSON, by its number.
    Field(usize),
    /// A place in the body's JSON, as a pointer (RFC 6901).
    Json(String),
}

impl Shot {
    fn new(method: Method, path: impl Into<String>) -> Self {
        let path = path.into();
        Self {
            label: format!("{method} {path}"),
            method,
            secured: false,
            operation: None,
            path,
            fields: Vec::new(),
            body: None,
            optional: Vec::new(),
        }
    }

    /// Whether it only reads.
    #[must_use]
    pub fn reads(&self) -> bool {
        self.method == Method::GET
    }

    /// The path without what stands in braces being filled in.
    #[must_use]
    pub fn route(&self) -> &str {
        &self.path
    }

    /// All that can be tampered with.
    #[must_use]
    pub fn slots(&self) -> Vec<Slot> {
        let mut slots: Vec<Slot> = (0..self.fields.len()).map(Slot::Field).collect();
        if let Some(body) = &self.body {
            leaves(body, &mut String::new(), &mut slots);
            slots.extend(self.optional.iter().map(|name| Slot::Json(format!("/{}", escaped(name)))));
        }
        slots
    }

    /// What a slot is called in reports: `q (query)`.
    #[must_use]
    pub fn slot_name(&self, slot: &Slot) -> String {
        match slot {
            Slot::Json(pointer) => format!("{} (body)", pointer.trim_start_matches('/')),
            Slot::Field(at) => self.fields.get(*at).map_or_else(String::new, |field| {
                let place = match field.place {
                    Place::Path => "path",
                    Place::Query => "query",
                    Place::Header => "header",
                    Place::Cookie => "cookie",
                    Place::Form => "form",
                };
                format!("{} ({place})", field.name)
            }),
        }
    }

    /// Whether a slot can carry any byte that a payload has.
    #[must_use]
    pub fn is_header(&self, slot: &Slot) -> bool {
        matches!(slot, Slot::Field(at) if self.fields.get(*at).is_some_and(|field| matches!(field.place, Place::Header | Place::Cookie)))
    }

    /// What a slot holds when nobody tampers with it.
    #[must_use]
    pub fn value(&self, slot: &Slot) -> String {
        match slot {
            Slot::Field(at) => self.fields.get(*at).map(|field| field.value.clone()).unwrap_or_default(),
            Slot::Json(pointer) => match self.body.as_ref().and_then(|body| body.pointer(pointer)) {
                Some(Value::String(text)) => text.clone(),
                Some(value) => value.to_string(),
                None => "klar".to_owned(),
            },
        }
    }

    /// The request as it should be.
    #[must_use]
    pub fn plain(&self) -> Ask {
        self.build(None)
    }

    /// The request with this text in the slot.
    #[must_use]
    pub fn with(&self, slot: &Slot, text: &str) -> Ask {
        self.build(Some((slot, &Value::String(text.to_owned()))))
    }

    /// The request with this JSON in the slot; outside a body it is written as text.
    #[must_use]
    pub fn with_json(&self, slot: &Slot, value: &Value) -> Ask {
        self.build(Some((slot, value)))
    }

    /// The request with another body.
    #[must_use]
    pub fn with_body(&self, body: Value) -> Ask {
        Self { body: Some(body), ..self.clone() }.plain()
    }

    /// The shot with this text in the slot from now on.
    #[must_use]
    pub fn keeping(&self, slot: &Slot, text: &str) -> Self {
        let mut shot = self.clone();
        match slot {
            Slot::Field(at) => {
                if let Some(field) = shot.fields.get_mut(*at) {
                    text.clone_into(&mut field.value);
                }
            }
            Slot::Json(pointer) => {
                if let Some(body) = &mut shot.body {
                    put(body, pointer, Value::String(text.to_owned()));
                }
            }
        }
        shot
    }

    /// The same, and it is sent where it was not.
    #[must_use]
    pub fn sending(&self, slot: &Slot, text: &str) -> Self {
        let mut shot = self.keeping(slot, text);
        if let Slot::Field(at) = slot
            && let Some(field) = shot.fields.get_mut(*at)
        {
            field.sent = true;
        }
        shot
    }

    /// Its body, where it has one of JSON.
    #[must_use]
    pub fn body(&self) -> Option<&Value> {
        self.body.as_ref()
    }

    fn build(&self, tampered: Option<(&Slot, &Value)>) -> Ask {
        let mut path = self.path.clone();
        let mut query = Vec::new();
        let mut form = Vec::new();
        let mut headers = Vec::new();
        let mut cookies = Vec::new();
        for (at, field) in self.fields.iter().enumerate() {
            let given = tampered.filter(|(slot, _)| **slot == Slot::Field(at)).map(|(_, value)| value);
            if given.is_none() && !field.sent {
                continue;
            }
            let value = given.map_or_else(|| field.value.clone(), text_of);
            let pair = || format!("{}={}", percent(&field.name), percent(&value));
            match field.place {
                Place::Path => path = path.replace(&format!("{{{}}}", field.name), &percent(&value)),
                Place::Query => query.push(pair()),
                Place::Form => form.push(pair()),
                // Each request is meant anew; the same key would give the answer of the first again.
                Place::Header if given.is_none() && field.name.eq_ignore_ascii_case("idempotency-key") => {
                    headers.push((field.name.clone(), format!("klar-check-{:016x}", fastrand::u64(..))));
                }
                Place::Header => headers.push((field.name.clone(), in_header(&value))),
                Place::Cookie => cookies.push(format!("{}={}", field.name, in_header(&value))),
            }
        }
        if !query.is_empty() {
            path.push(if path.contains('?') { '&' } else { '?' });
            path += &query.join("&");
        }
        let mut ask = Ask::new(self.method.clone(), path);
        ask.headers = headers;
        if !cookies.is_empty() {
            ask = ask.with("cookie", cookies.join("; "));
        }
        if let Some(body) = &self.body {
            let mut body = body.clone();
            if let Some((Slot::Json(pointer), value)) = tampered {
                put(&mut body, pointer, value.clone());
            }
            return ask.json(&body);
        }
        if !form.is_empty() {
            ask.body = Some(form.join("&").into());
            ask = ask.with("content-type", "application/x-www-form-urlencoded");
        }
        ask
    }
}

/// Header values are what RFC 9110 lets them be.
fn in_header(value: &str) -> String {
    value.chars().map(|c| if c.is_ascii_graphic() || c == ' ' { c } else { '?' }).collect()
}

fn text_of(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn escaped(name: &str) -> String {
    name.replace('~', "~0").replace('/', "~1")
}

/// Puts a value where a pointer leads, making the last field when it is not there.
pub fn put(body: &mut Value, pointer: &str, value: Value) {
    if let Some(there) = body.pointer_mut(pointer) {
        *there = value;
    } else if let Some((parent, name)) = pointer.rsplit_once('/')
        && let Some(Value::Object(fields)) = body.pointer_mut(parent)
    {
        fields.insert(name.replace("~1", "/").replace("~0", "~"), value);
    }
}

fn leaves(value: &Value, pointer: &mut String, slots: &mut Vec<Slot>) {
    let length = pointer.len();
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                pointer.push('/');
                pointer.push_str(&escaped(name));
                leaves(value, pointer, slots);
                pointer.truncate(length);
            }
        }
        Value::Array(items) => {
            if let Some(first) = items.first() {
                pointer.push_str("/0");
                leaves(first, pointer, slots);
                pointer.truncate(length);
            }
        }
        _ => slots.push(Slot::Json(pointer.clone())),
    }
}

/// Somebody who shoots: a way to the app and, where there are accounts, a signed-in visitor.
pub struct Range<'a> {
    world: &'a World,
    client: &'a Client,
    /// Who shoots; nobody when it is not known how to sign in.
    pub session: Option<Session>,
    asked: Cell<u64>,
}

impl<'a> Range<'a> {
    /// Through this client, as this visitor.
    #[must_use]
    pub fn new(world: &'a World, client: &'a Client, session: Option<Session>) -> Self {
        Self { world, client, session, asked: Cell::new(0) }
    }

    /// How many requests were made.
    #[must_use]
    pub fn asked(&self) -> u64 {
        self.asked.get()
    }

    /// Makes a request as the visitor. Where the app says that it was too much, it waits a little, once.
    ///
    /// # Errors
    /// Why nothing came back. Then it has waited for the app to come back too.
    pub async fn fire(&self, ask: Ask) -> Result<Answer, Silence> {
        let ask = self.session.as_ref().map_or_else(|| ask.clone(), |session| on(session, ask.clone()));
        self.fire_bare(ask).await
    }

    /// The same, as nobody.
    ///
    /// # Errors
    /// As [`Range::fire`].
    pub async fn fire_bare(&self, ask: Ask) -> Result<Answer, Silence> {
        let answer = self.once(ask.clone()).await;
        match &answer {
            Ok(limited) if limited.status == 429 => {
                let wait = limited.header("retry-after").and_then(|value| value.parse::<u64>().ok());
                if let Some(wait @ ..=2) = wait {
                    tokio::time::sleep(Duration::from_secs(wait)).await;
                    return self.once(ask).await;
                }
            }
            Err(Silence::Refused(_) | Silence::Cut(_)) => {
                // It may have fallen over what it was sent; what comes next is asked of one that stands again.
                let up =
                    || async { self.client.ask(Ask::get("/").within(Duration::from_secs(2))).await.ok() };
                let _ = until(Duration::from_secs(5), up).await;
            }
            _ => {}
        }
        answer
    }

    async fn once(&self, ask: Ask) -> Result<Answer, Silence> {
        let _turn = self.world.turns.acquire().await;
        self.asked.set(self.asked.get() + 1);
        self.client.ask(ask).await
    }
}

/// Adds what makes a request this visitor's, beside the cookies that it has already.
fn on(session: &Session, mut ask: Ask) -> Ask {
    let own = ask.headers.iter().position(|(name, _)| name == "cookie");
    let own = own.map(|at| ask.headers.remove(at).1);
    let mut ask = session.on(ask);
    if let Some(own) = own {
        match ask.headers.iter_mut().find(|(name, _)| name == "cookie") {
            Some((_, cookie)) => *cookie = format!("{cookie}; {own}"),
            None => ask = ask.with("cookie", own),
        }
    }
    ask
}

/// Signs in as the account with the most rights; `None` where it is not known how, or it fails.
pub async fn strongest(world: &World) -> Option<Session> {
    let account = world.accounts.as_ref()?.list.last()?;
    world.sign_in(account).await.ok()
}

/// Whether a request ends the visitor's own session.
#[must_use]
pub fn signs_out(world: &World, shot: &Shot) -> bool {
    let path = shot.path.to_ascii_lowercase();
    ["logout", "signout", "sign-out", "log-out"].iter().any(|word| path.contains(word))
        || shot.method == Method::DELETE
            && world.accounts.as_ref().is_some_and(|accounts| accounts.path == shot.path)
}

/// Whether a request signs somebody in: guessing there locks people out, so it gets fewer shots.
#[must_use]
pub fn signs_in(world: &World, shot: &Shot) -> bool {
    let path = shot.path.to_ascii_lowercase();
    shot.method == Method::POST
        && (world.accounts.as_ref().is_some_and(|accounts| accounts.path == shot.path)
            || ["login", "signin", "sign-in"].iter().any(|word| path.ends_with(word)))
}

/// Requests that can be tampered with.
pub struct Shots {
    /// Those that are looked at.
    pub all: Vec<Shot>,
    /// Those that are not: there are too many.
    pub rest: Vec<Shot>,
}

impl Shots {
    /// All that can be tampered with in shots that fit, by the number of the shot: the first slot of each, then the
    /// second of each. Whatever ends the shooting early then has left out the depth of some and not the whole of others.
    #[must_use]
    pub fn spread(&self, fits: impl Fn(&Shot) -> bool) -> Vec<(usize, Slot)> {
        let slots: Vec<(usize, Vec<Slot>)> = (0..)
            .zip(&self.all)
            .filter(|(_, shot)| fits(shot))
            .map(|(number, shot)| (number, shot.slots()))
            .collect();
        let deepest = slots.iter().map(|(_, slots)| slots.len()).max().unwrap_or(0);
        let turn = |depth: usize| {
            slots.iter().filter_map(move |(number, slots)| Some((*number, slots.get(depth)?.clone())))
        };
        (0..deepest).flat_map(turn).collect()
    }

    /// How much can be tampered with in the shots that are not looked at.
    #[must_use]
    pub fn beyond(&self) -> usize {
        self.rest.iter().map(|shot| shot.slots().len()).sum()
    }
}

/// What a check that was cut off adds to its reason.
#[must_use]
pub fn told_of(told: Words, tried: usize, all: usize) -> Words {
    if tried >= all {
        return told;
    }
    Words {
        en: format!("{}; {tried} of {all} were tried", told.en),
        nb: format!("{}; {tried} av {all} ble prøvd", told.nb),
        sv: format!("{}; {tried} av {all} provades", told.sv),
    }
}

/// Whether so few of so many say nothing against the rest.
#[must_use]
pub fn is_little(few: usize, of: usize) -> bool {
    few.saturating_mul(20) <= of
}

/// Everything that can be tampered with, described operations first.
pub async fn shots(range: &Range<'_>) -> Shots {
    let world = range.world;
    let mut shots = Vec::new();
    let mut known = BTreeSet::new();
    if let Some(api) = world.api().await {
        let mut ids = Ids::default();
        for (number, operation) in api.operations.iter().enumerate() {
            let mut shot = described(operation, number);
            for field in &mut shot.fields {
                if field.place == Place::Path
                    && let Some(id) = ids.of(range, &operation.path, &field.name).await
                {
                    field.value = id;
                }
            }
            if let Some(Value::Object(fields)) = &mut shot.body {
                for (name, value) in fields.iter_mut() {
                    let Some(thing) = name.strip_suffix("_id").or_else(|| name.strip_suffix("Id")) else {
                        continue;
                    };
                    let lists = api.operations.iter().filter(|each| each.reads());
                    let list = lists.map(|each| each.path.as_str()).find(|path| {
                        path.rsplit('/').next().is_some_and(|last| last.trim_end_matches('s') == thing)
                    });
                    let Some(list) = list else { continue };
                    if let Some(id) = ids.of(range, &format!("{list}/{{id}}"), "id").await {
                        *value = if value.is_number() {
                            id.parse::<i64>().map_or(Value::String(id), Value::from)
                        } else {
                            Value::String(id)
                        };
                    }
                }
            }
            known.insert((shot.method.clone(), shot.path.clone()));
            shots.push(shot);
        }
    }
    if let Ok(crawl) = world.crawl().await {
        for form in &crawl.forms {
            let method = if form.post { Method::POST } else { Method::GET };
            let (path, query) = form.action.split_once('?').unwrap_or((&form.action, ""));
            let mut shot = Shot::new(method, path);
            shot.fields.extend(pairs(query));
            let place = if form.post { Place::Form } else { Place::Query };
            for (name, value) in &form.fields {
                let value = if value.is_empty() { "klar".to_owned() } else { value.clone() };
                shot.fields.push(Field { place, name: name.clone(), value, sent: true });
            }
            if !shot.fields.is_empty() && known.insert((shot.method.clone(), shot.path.clone())) {
                shots.push(shot);
            }
        }
        let links = crawl.queries.iter().cloned();
        let scripts = crawl.files.values().filter(|answer| answer.media_type().contains("javascript"));
        let spoken = scripts.flat_map(|answer| addresses(&answer.text()));
        for link in links.chain(spoken) {
            let (path, query) = link.split_once('?').unwrap_or((&link, ""));
            let mut shot = Shot::new(Method::GET, path);
            shot.fields.extend(pairs(query));
            if !shot.fields.is_empty() && known.insert((Method::GET, path.to_owned())) {
                shots.push(shot);
            }
        }
    }
    // Headers and a cookie that apps like to write down, on one page and one operation.
    let mut front = Shot::new(Method::GET, "/");
    for name in ["user-agent", "referer", "x-forwarded-for", "accept-language"] {
        front.fields.push(Field {
            place: Place::Header,
            name: name.to_owned(),
            value: "klar".to_owned(),
            sent: false,
        });
    }
    front.fields.push(Field {
        place: Place::Cookie,
        name: "session".to_owned(),
        value: "klar".to_owned(),
        sent: false,
    });
    let rest = shots.split_off(shots.len().min(MOST_SHOTS));
    shots.push(front);
    Shots { all: shots, rest }
}

fn pairs(query: &str) -> impl Iterator<Item = Field> {
    query.split('&').filter_map(|pair| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let value = if value.is_empty() { "klar" } else { value };
        (!name.is_empty()).then(|| Field {
            place: Place::Query,
            name: unpercent(name),
            value: unpercent(value),
            sent: true,
        })
    })
}

fn unpercent(text: &str) -> String {
    let mut out = Vec::new();
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        let hex = |byte: Option<u8>| byte.and_then(|byte| char::from(byte).to_digit(16));
        match byte {
            b'+' => out.push(b' '),
            b'%' => match (hex(bytes.next()), hex(bytes.next())) {
                (Some(high), Some(low)) => out.push((high * 16 + low) as u8),
                _ => out.push(b'?'),
            },
            byte => out.push(byte),
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// Addresses with a query that stand in a script: `'/api/orders?q='`.
fn addresses(script: &str) -> Vec<String> {
    let script = script.get(..script.len().min(LONGEST_SCRIPT)).unwrap_or_default();
    let mut found = Vec::new();
    for piece in script.split(['\'', '"', '`']) {
        let path = piece.split('$').next().unwrap_or_default();
        let fine = |c: char| c.is_ascii_alphanumeric() || "/_-.?=&".contains(c);
        if path.starts_with('/')
            && !path.starts_with("//")
            && path.len() < 100
            && path.chars().all(fine)
            && path.contains('?')
        {
            found.push(path.to_owned());
        }
    }
    found
}

fn described(operation: &Operation, number: usize) -> Shot {
    let mut shot = Shot::new(operation.method.clone(), operation.path.clone());
    shot.secured = operation.secured;
    shot.operation = Some(number);
    for parameter in &operation.parameters {
        let (place, sent) = match parameter.place.as_str() {
            "path" => (Place::Path, true),
            "query" => (Place::Query, parameter.required),
            "header" => (Place::Header, parameter.required),
            "cookie" => (Place::Cookie, parameter.required),
            _ => continue,
        };
        let value = text_of(&api::example(&parameter.schema, 0));
        shot.fields.push(Field { place, name: parameter.name.clone(), value, sent });
    }
    if let Some(schema) = &operation.body {
        let body = api::example(schema, 0);
        if let (Some(all), Some(there)) =
            (schema.get("properties").and_then(Value::as_object), body.as_object())
        {
            shot.optional = all.keys().filter(|name| !there.contains_key(*name)).cloned().collect();
        }
        shot.body = Some(body);
    }
    shot
}

/// Things that there are: the first of each list.
#[derive(Default)]
struct Ids(BTreeMap<String, Option<Value>>);

impl Ids {
    /// A value for the braces in a path: what the list in front of them shows.
    async fn of(&mut self, range: &Range<'_>, path: &str, name: &str) -> Option<String> {
        let list = path.split(&format!("/{{{name}}}")).next()?;
        if list.is_empty() || list.contains('{') {
            return None;
        }
        if !self.0.contains_key(list) {
            let answer = range.fire(Ask::get(list)).await.ok().filter(|answer| answer.status.is_success());
            let first = answer.and_then(|answer| rows(&answer.json()?)?.first().cloned());
            self.0.insert(list.to_owned(), first);
        }
        let first = self.0.get(list)?.as_ref()?;
        let value = first.get(name).or_else(|| first.get("id"))?;
        (value.is_string() || value.is_number()).then(|| text_of(value))
    }
}

/// The rows of a list: the answer itself, or the first field of it that is an array of objects.
#[must_use]
pub fn rows(answer: &Value) -> Option<&Vec<Value>> {
    match answer {
        Value::Array(rows) => Some(rows),
        Value::Object(fields) => {
            fields.values().filter_map(Value::as_array).find(|rows| rows.first().is_none_or(Value::is_object))
        }
        _ => None,
    }
}

/// Whether an answer says no more than that the door is shut: what lies behind it was not looked at. Where people sign
/// in, 401 is what comes from behind it.
pub(super) fn is_kept_out(answer: &Answer, signs_in: bool) -> bool {
    answer.status == 429 || answer.status == 401 && !signs_in
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn slots_are_found_and_filled() {
        let document = json!({ "paths": { "/o/{id}": { "post": {
            "parameters": [
                { "name": "id", "in": "path", "required": true, "schema": { "type": "integer" } },
                { "name": "q", "in": "query", "schema": { "type": "string" } }],
            "requestBody": { "content": { "application/json": { "schema": { "type": "object", "required": ["items"],
                "properties": { "items": { "type": "array", "items": { "type": "object", "required": ["n"], "properties": { "n": { "type": "integer" } } } },
                    "note": { "type": "string" } } } } } }, "responses": {} } } } });
        let api = api::Api::read("x".into(), document).unwrap();
        let shot = described(&api.operations[0], 0);
        let names: Vec<_> = shot.slots().iter().map(|slot| shot.slot_name(slot)).collect();
        assert_eq!(names, ["id (path)", "q (query)", "items/0/n (body)", "note (body)"]);
        assert_eq!(shot.plain().path, "/o/1");
        assert_eq!(shot.with(&Slot::Field(1), "a'b").path, "/o/1?q=a%27b");
        let ask = shot.with(&Slot::Json("/note".into()), "x");
        assert_eq!(ask.body.unwrap(), r#"{"items":[{"n":1}],"note":"x"}"#);
    }

    #[test]
    fn no_operation_is_left_out_for_the_depth_of_another() {
        let link = |path: &str, query: &str| {
            let mut shot = Shot::new(Method::GET, path);
            shot.fields.extend(pairs(query));
            shot
        };
        let shots = Shots {
            all: vec![link("/a", "p&q&r"), link("/out", "p"), link("/b", "p&q"), link("/c", "p")],
            rest: vec![link("/d", "p&q")],
        };
        let spread = shots.spread(|shot| shot.route() != "/out");
        let order: Vec<String> = spread
            .iter()
            .map(|(number, slot)| {
                let shot = &shots.all[*number];
                format!("{} {}", shot.route(), &shot.slot_name(slot)[..1])
            })
            .collect();
        assert_eq!(order, ["/a p", "/b p", "/c p", "/a q", "/b q", "/a r"]);
        assert_eq!(shots.beyond(), 2);
        assert_eq!(told_of(Words::same("x".to_owned()), 80, 212).en, "x; 80 of 212 were tried");
        assert_eq!(told_of(Words::same("x".to_owned()), 8, 8).en, "x");
    }

    #[test]
    fn scripts_speak_of_addresses() {
        let found = addresses("fetch('/api/orders?q=' + q); x = \"//no?x=1\"; y = `/api/a?b=${c}`; '/plain'");
        assert_eq!(found, ["/api/orders?q=", "/api/a?b="]);
    }

    #[test]
    fn percent_is_read() {
        assert_eq!(unpercent("a+b%27%c3%b8"), "a b'ø");
        assert_eq!(unpercent("%"), "?");
    }
}
