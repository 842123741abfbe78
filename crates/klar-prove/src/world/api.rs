//! The app's own description of its API (OpenAPI 3), and examples made from its schemas.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::World;
use super::http::{Ask, percent};

/// Where apps usually have it.
const USUAL: [&str; 6] = [
    "/openapi.json",
    "/api/openapi.json",
    "/swagger.json",
    "/v3/api-docs",
    "/api/v1/openapi.json",
    "/docs/openapi.json",
];
/// Schemas that contain themselves are not followed further.
const DEEPEST: usize = 12;

/// An API as it is described.
#[derive(Debug, Clone)]
pub struct Api {
    /// Where the description came from: a path of the site or a file.
    pub from: String,
    /// The whole document.
    pub document: Value,
    /// Its operations, in the order of the document.
    pub operations: Vec<Operation>,
}

/// One operation.
#[derive(Debug, Clone)]
pub struct Operation {
    /// GET, POST ...
    pub method: http::Method,
    /// With its parameters in braces: `/orders/{id}`.
    pub path: String,
    /// Its parameters.
    pub parameters: Vec<Parameter>,
    /// The schema of its body, if it takes one as JSON.
    pub body: Option<Value>,
    /// Documented answers: status (or `default`) and the schema of its JSON.
    pub answers: BTreeMap<String, Option<Value>>,
    /// Whether it says that one must be signed in.
    pub secured: bool,
}

/// A parameter of an operation.
#[derive(Debug, Clone)]
pub struct Parameter {
    /// Its name.
    pub name: String,
    /// Where it is: `path`, `query`, `header`, `cookie`.
    pub place: String,
    /// Whether it must be there.
    pub required: bool,
    /// Its schema.
    pub schema: Value,
}

pub(super) async fn find(world: &World) -> Option<Api> {
    if let Some(file) = &world.api_file {
        let text = std::fs::read(file).ok()?;
        return Api::read(file.display().to_string(), serde_json::from_slice(&text).ok()?);
    }
    for path in USUAL {
        let answer = world.ask(Ask::get(path).with("accept", "application/json")).await.ok();
        let document = answer.filter(|answer| answer.status.is_success()).and_then(|answer| answer.json());
        if let Some(api) = document.and_then(|document| Api::read(path.to_owned(), document)) {
            return Some(api);
        }
    }
    None
}

impl Api {
    /// Reads a document; `None` when it describes nothing.
    #[must_use]
    pub fn read(from: String, document: Value) -> Option<Self> {
        let paths = document.get("paths")?.as_object()?.clone();
        let prefix = server_path(&document);
        let global = secured(document.get("security")).unwrap_or(false);
        let mut operations = Vec::new();
        for (path, item) in paths {
            for method in ["get", "put", "post", "delete", "patch"] {
                let Some(operation) = item.get(method) else { continue };
                let listed = [item.get("parameters"), operation.get("parameters")];
                let listed = listed.into_iter().flatten().filter_map(Value::as_array).flatten();
                let parameters = listed.filter_map(|each| parameter(&resolve(&document, each, 0))).collect();
                let body = resolve(&document, operation.get("requestBody").unwrap_or(&Value::Null), 0);
                let answers = operation.get("responses").and_then(Value::as_object).into_iter().flatten();
                operations.push(Operation {
                    method: method.to_ascii_uppercase().parse().ok()?,
                    path: format!("{prefix}{path}"),
                    parameters,
                    body: content(&body),
                    answers: answers
                        .map(|(status, answer)| (status.clone(), content(&resolve(&document, answer, 0))))
                        .collect(),
                    secured: secured(operation.get("security")).unwrap_or(global),
                });
            }
        }
        (!operations.is_empty()).then_some(Self { from, document, operations })
    }
}

impl Operation {
    /// Its name in reports: `GET /orders/{id}`.
    #[must_use]
    pub fn label(&self) -> String {
        format!("{} {}", self.method, self.path)
    }

    /// Whether it only reads (RFC 9110, 9.2.1).
    #[must_use]
    pub fn reads(&self) -> bool {
        self.method == http::Method::GET
    }

    /// A request as the description wants it, with `given` in place of examples: for a path parameter its name, for
    /// others too.
    #[must_use]
    pub fn example(&self, given: &BTreeMap<String, String>) -> Ask {
        let value = |parameter: &Parameter| {
            given.get(&parameter.name).cloned().unwrap_or_else(|| plain(&example(&parameter.schema, 0)))
        };
        let mut path = self.path.clone();
        let mut query = Vec::new();
        let mut headers = Vec::new();
        for parameter in &self.parameters {
            match parameter.place.as_str() {
                "path" => {
                    path = path.replace(&format!("{{{}}}", parameter.name), &percent(&value(parameter)))
                }
                "query" if parameter.required || given.contains_key(&parameter.name) => {
                    query.push(format!("{}={}", percent(&parameter.name), percent(&value(parameter))));
                }
                "header" if parameter.required => headers.push((parameter.name.clone(), value(parameter))),
                _ => {}
            }
        }
        if !query.is_empty() {
            path = format!("{path}?{}", query.join("&"));
        }
        let mut ask = Ask::new(self.method.clone(), path);
        ask.headers = headers;
        match &self.body {
            Some(schema) => ask.json(&example(schema, 0)),
            None => ask,
        }
    }
}

fn server_path(document: &Value) -> String {
    let url = document.pointer("/servers/0/url").and_then(Value::as_str).unwrap_or_default();
    let path = match url.split_once("://") {
        Some((_, rest)) => rest.find('/').map_or("", |at| &rest[at..]),
        None => url,
    };
    path.trim_end_matches('/').to_owned()
}

/// `security: []` opens what is closed by default; `[{}]` lets everybody in too.
fn secured(security: Option<&Value>) -> Option<bool> {
    let options = security?.as_array()?;
    Some(
        !options.is_empty() && options.iter().all(|option| option.as_object().is_some_and(|o| !o.is_empty())),
    )
}

fn parameter(value: &Value) -> Option<Parameter> {
    Some(Parameter {
        name: value.get("name")?.as_str()?.to_owned(),
        place: value.get("in")?.as_str()?.to_owned(),
        required: value.get("required").and_then(Value::as_bool).unwrap_or(false),
        schema: value.get("schema").cloned().unwrap_or_default(),
    })
}

fn content(value: &Value) -> Option<Value> {
    let content = value.get("content")?.as_object()?;
    let json = content.iter().find(|(kind, _)| kind.contains("json"))?;
    json.1.get("schema").cloned()
}

/// Puts what `$ref` points to in its place, all the way down.
fn resolve(document: &Value, value: &Value, depth: usize) -> Value {
    if depth > DEEPEST {
        return Value::Null;
    }
    match value {
        Value::Object(fields) => {
            if let Some(to) = fields.get("$ref").and_then(Value::as_str) {
                let found = to.strip_prefix('#').and_then(|pointer| document.pointer(pointer));
                return found.map_or(Value::Null, |found| resolve(document, found, depth + 1));
            }
            fields.iter().map(|(key, value)| (key.clone(), resolve(document, value, depth + 1))).collect()
        }
        Value::Array(items) => items.iter().map(|item| resolve(document, item, depth + 1)).collect(),
        plain => plain.clone(),
    }
}

/// A value that a schema allows: an example it names, or the plainest there is.
#[must_use]
pub fn example(schema: &Value, depth: usize) -> Value {
    if depth > DEEPEST {
        return Value::Null;
    }
    let named = ["example", "default", "const"].into_iter().find_map(|key| schema.get(key));
    let listed = ["examples", "enum"].into_iter().find_map(|key| schema.get(key)?.get(0));
    if let Some(value) = named.or(listed) {
        return value.clone();
    }
    for key in ["oneOf", "anyOf"] {
        if let Some(first) = schema.get(key).and_then(|options| options.get(0)) {
            return example(first, depth + 1);
        }
    }
    if let Some(all) = schema.get("allOf").and_then(Value::as_array) {
        let parts = all.iter().filter_map(|part| example(part, depth + 1).as_object().cloned());
        return Value::Object(parts.flatten().collect::<Map<_, _>>());
    }
    let number = |key| schema.get(key).and_then(Value::as_i64);
    match kind(schema) {
        "object" => {
            let required: Vec<&str> = schema
                .get("required")
                .and_then(Value::as_array)
                .into_iter()
                .flatten()
                .filter_map(Value::as_str)
                .collect();
            let fields = schema.get("properties").and_then(Value::as_object).into_iter().flatten();
            let wanted = fields.filter(|(name, _)| required.contains(&name.as_str()));
            Value::Object(wanted.map(|(name, each)| (name.clone(), example(each, depth + 1))).collect())
        }
        "array" => {
            let count = number("minItems").unwrap_or(1).clamp(0, 20);
            let item = schema.get("items").map(|items| example(items, depth + 1)).unwrap_or_default();
            Value::Array((0..count).map(|_| item.clone()).collect())
        }
        "integer" | "number" => {
            json!(number("minimum").or(number("exclusiveMinimum").map(|n| n + 1)).unwrap_or(1))
        }
        "boolean" => json!(true),
        "null" => Value::Null,
        _ => json!(text(schema)),
    }
}

/// The type a schema asks for; the first that is not null where it lists several.
#[must_use]
pub fn kind(schema: &Value) -> &str {
    match schema.get("type") {
        Some(Value::String(kind)) => kind,
        Some(Value::Array(kinds)) => {
            kinds.iter().filter_map(Value::as_str).find(|kind| *kind != "null").unwrap_or("null")
        }
        _ if schema.get("properties").is_some() => "object",
        _ if schema.get("items").is_some() => "array",
        _ => "string",
    }
}

fn text(schema: &Value) -> String {
    let sized = |least: usize| "klar-check".chars().cycle().take(least.max(3)).collect::<String>();
    let least = schema.get("minLength").and_then(Value::as_u64).unwrap_or(0).min(1000) as usize;
    let most = schema.get("maxLength").and_then(Value::as_u64).unwrap_or(1000) as usize;
    match schema.get("format").and_then(Value::as_str) {
        Some("uuid") => "00000000-0000-4000-8000-000000000000".to_owned(),
        Some("date") => "2026-01-15".to_owned(),
        Some("date-time") => "2026-01-15T12:00:00Z".to_owned(),
        Some("email") => "klar-check@example.com".to_owned(),
        Some("uri" | "url") => "https://example.com/".to_owned(),
        _ => sized(least).chars().take(most).collect(),
    }
}

/// A value as it stands in a path or query.
fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_is_read_and_examples_are_made() {
        let document = json!({
            "servers": [{ "url": "https://shop.example/api" }],
            "security": [{ "cookie": [] }],
            "paths": { "/orders/{id}": {
                "parameters": [{ "name": "id", "in": "path", "required": true, "schema": { "type": "integer", "minimum": 1 } }],
                "get": { "security": [], "responses": { "200": { "$ref": "#/components/responses/Order" } } },
                "put": {
                    "parameters": [{ "name": "dry", "in": "query", "required": true, "schema": { "type": "boolean" } }],
                    "requestBody": { "content": { "application/json": { "schema": { "$ref": "#/components/schemas/Order" } } } },
                    "responses": {}
                } } },
            "components": {
                "schemas": { "Order": { "type": "object", "required": ["kind", "note"], "properties": {
                    "kind": { "enum": ["a", "b"] }, "note": { "type": "string", "minLength": 4 }, "parent": { "$ref": "#/components/schemas/Order" } } } },
                "responses": { "Order": { "content": { "application/json": { "schema": { "$ref": "#/components/schemas/Order" } } } } } }
        });
        let api = Api::read("x".into(), document).unwrap();
        let [get, put] = &api.operations[..] else { panic!("{api:?}") };
        assert!(!get.secured && put.secured && get.reads() && !put.reads());
        assert!(get.answers["200"].is_some());
        let ask = put.example(&BTreeMap::from([("id".to_owned(), "7 b".to_owned())]));
        assert_eq!(ask.path, "/api/orders/7%20b?dry=true");
        assert_eq!(ask.body.unwrap(), r#"{"kind":"a","note":"klar"}"#);
    }
}
