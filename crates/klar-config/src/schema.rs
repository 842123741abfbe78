//! The schema of `klar.toml` for editors: completion, docs on hover, and mistakes as they are typed.
//!
//! Made from the table of keys, like everything else that is said about keys. It knows less than the reader: what
//! keys say about each other is checked by [`Config::parse`](crate::Config::parse) only.

use serde_json::{Map, Value, json};

use crate::explain::default_in_words;
use crate::keys::{ENV, ENV_DOC, ROOTS, Root};
use crate::read::default_node;
use crate::table::{Key, Kind, Preset, Section};
use crate::tree::{Data, Node};

/// What the names of services, stores and environments look like.
const NAME: &str = "^[a-z]([a-z0-9-]{0,30}[a-z0-9])?$";
/// What a route looks like: a path, with `/*` at the end or without.
const ROUTE: &str = r"^/([^*?#:{}<>\s]*/)?(\*|[^*?#:{}<>\s]*)$";
/// A time, as `klar_base::Period` reads it.
const PERIOD: &str = "^[0-9]+ *(ms|s|m|min|h|d)$";
/// A size, as `klar_base::ByteSize` reads it.
const SIZE: &str = "^[0-9]+ *([KMGT](iB|B)?|B)$";

/// The JSON schema (draft 2020-12) of `klar.toml`.
///
/// The names of its properties are the keys of the file; `[env.NAME]` takes the same, and requires nothing.
pub fn json_schema() -> Value {
    let mut properties = tables(true);
    properties.insert(
        ENV.into(),
        json!({
            "type": "object",
            "description": ENV_DOC,
            "patternProperties": { NAME: object(tables(false), Vec::new(), None) },
            "additionalProperties": false,
        }),
    );
    let mut schema = object(properties, vec!["app", "services"], None);
    if let Value::Object(schema) = &mut schema {
        schema.insert("$schema".into(), "https://json-schema.org/draft/2020-12/schema".into());
        schema.insert("title".into(), "klar.toml".into());
        schema.insert("description".into(), "One app, as klar runs it in production.".into());
    }
    schema
}

fn tables(complete: bool) -> Map<String, Value> {
    ROOTS.iter().map(|root| (root.name.to_owned(), table(root, complete))).collect()
}

fn table(root: &Root, complete: bool) -> Value {
    let one = section(root.section, complete);
    if !root.named {
        return one;
    }
    let (pattern, one) = match root.name {
        // A route may be the name of its service alone.
        "routes" => (
            ROUTE,
            json!({ "anyOf": [{ "type": "string", "pattern": NAME }, one], "description": root.section.summary() }),
        ),
        _ => (NAME, one),
    };
    let mut named = json!({
        "type": "object",
        "description": root.section.summary(),
        "patternProperties": { pattern: one },
        "additionalProperties": false,
    });
    if root.name == "services" && complete {
        named["minProperties"] = 1.into();
    }
    named
}

fn section(section: &'static Section, complete: bool) -> Value {
    let properties = section.keys.iter().map(|key| (key.name.to_owned(), property(key, complete)));
    let required = section
        .keys
        .iter()
        .filter(|key| complete && matches!(key.preset, Preset::Required(_)))
        .map(|key| key.name);
    let mut object = object(properties.collect(), required.collect(), Some(section.summary()));
    // One of `run` and `static`, of `postgres`, `redis` and `url`.
    if complete && !section.alternatives.is_empty() {
        object["oneOf"] = section.alternatives.iter().map(|name| json!({ "required": [name] })).collect();
    }
    object
}

fn object(properties: Map<String, Value>, required: Vec<&str>, description: Option<String>) -> Value {
    let mut object = json!({ "type": "object", "properties": properties, "additionalProperties": false });
    if !required.is_empty() {
        object["required"] = required.into();
    }
    if let Some(description) = description {
        object["description"] = description.into();
    }
    object
}

fn property(key: &'static Key, complete: bool) -> Value {
    let mut schema = kind(&key.kind, key, complete);
    let default = match key.preset {
        Preset::Fixed(toml) => default_node(toml).map(|node| json_of(&node)),
        _ => None,
    };
    let mut description = key.summary();
    if default.is_none() {
        description.push_str(&format!("\n\nDefault: {}.", default_in_words(key)));
    }
    schema["description"] = description.into();
    if let Some(default) = default {
        schema["default"] = default;
    }
    if let (Some((_, value)), true) = (key.example.split_once(" = "), key.example.starts_with(key.name))
        && let Some(node) = default_node(value)
    {
        schema["examples"] = json!([json_of(&node)]);
    }
    schema
}

/// The schema of a value of this kind. Bounds in units (`"30s"`) are klar's to check.
fn kind(kind_of: &'static Kind, key: &'static Key, complete: bool) -> Value {
    match kind_of {
        Kind::Text { pattern: Some(pattern), .. } => json!({ "type": "string", "pattern": pattern }),
        Kind::Text { pattern: None, .. } => json!({ "type": "string" }),
        Kind::Choice(choices) => {
            let one = |name: &str, doc: &str| json!({ "const": name, "description": doc });
            json!({
                "type": "string",
                "enum": choices.iter().map(|choice| choice.name).collect::<Vec<_>>(),
                "oneOf": choices.iter().map(|choice| one(choice.name, choice.doc)).collect::<Vec<_>>(),
            })
        }
        Kind::Integer | Kind::Number => {
            let mut schema =
                json!({ "type": if matches!(kind_of, Kind::Integer) { "integer" } else { "number" } });
            for (name, bound) in [("minimum", key.min), ("maximum", key.max)] {
                if let Some(bound) =
                    bound.and_then(|bound| serde_json::from_str::<serde_json::Number>(bound).ok())
                {
                    schema[name] = bound.into();
                }
            }
            schema
        }
        Kind::Bool => json!({ "type": "boolean" }),
        Kind::Period => json!({ "type": "string", "pattern": PERIOD }),
        Kind::Size => json!({ "type": "string", "pattern": SIZE }),
        Kind::List(item) => json!({ "type": "array", "items": kind(item, key, complete) }),
        Kind::Map { pattern, values, .. } => json!({
            "type": "object",
            "patternProperties": { *pattern: kind(values, key, complete) },
            "additionalProperties": false,
        }),
        Kind::Table(inner) => section(inner, complete),
        Kind::Either(kinds) => {
            json!({ "anyOf": kinds.iter().map(|one| kind(one, key, complete)).collect::<Vec<_>>() })
        }
    }
}

/// A value of the file as JSON.
fn json_of(node: &Node) -> Value {
    match &node.data {
        Data::Text(text) => text.as_str().into(),
        Data::Integer(number) => (*number).into(),
        Data::Float(number) => (*number).into(),
        Data::Bool(value) => (*value).into(),
        Data::Other(_) => Value::Null,
        Data::List(items) => items.iter().map(json_of).collect(),
        Data::Table(table) => table
            .entries
            .iter()
            .map(|entry| (entry.key.clone(), json_of(&entry.node)))
            .collect::<Map<_, _>>()
            .into(),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use klar_base::EnvName;

    use super::*;
    use crate::explain::every_key;
    use crate::load::{Config, TEMPLATE};
    use crate::tree;
    use crate::values::Role;

    /// A file in which the key stands as in its example.
    fn example_of(key: &Key) -> String {
        let (app, web) = ("[app]\nname = \"shop\"\n", "[services.api]\nrun = \"node api.js\"\n");
        let example = key.example;
        match key.section {
            "app" if key.name == "name" => format!("[app]\n{example}\n{web}"),
            "app" => format!("{app}{example}\n{web}"),
            "services.*" => {
                let run = "run = \"node x.js\"";
                let mut lines = match key.only.first().unwrap_or(&Role::Web) {
                    Role::Web => vec![run],
                    Role::Static => vec!["static = \"dist\""],
                    Role::Worker => vec![run, "kind = \"worker\""],
                    Role::Cron => vec![run, "kind = \"cron\"", "schedule = \"@daily\""],
                };
                lines.retain(|line| !line.starts_with(&format!("{} =", key.name)));
                format!("{app}[services.api]\n{}\n{example}\n", lines.join("\n"))
            }
            "services.*.instances" => format!("{app}{web}[services.api.instances]\n{example}\n"),
            "services.*.env.*" => format!("{app}{web}[services.api.env]\n{example}\n"),
            "routes.*" if key.name == "to" => format!("{app}{web}[routes.\"/*\"]\n{example}\n"),
            "routes.*" => format!("{app}{web}[routes.\"/*\"]\nto = \"api\"\n{example}\n"),
            "data.*" if key.name == "env" => {
                format!("{app}{web}[data.db]\npostgres = \"managed\"\n{example}\n")
            }
            "data.*" => format!("{app}{web}[data.db]\n{example}\n"),
            "accounts.*" => {
                let rest = ["name = \"a\"\n", "password = \"env:B\"\n"];
                let rest: String = rest.into_iter().filter(|line| !line.starts_with(key.name)).collect();
                format!("{app}{web}[accounts.user]\n{example}\n{rest}")
            }
            "backup" if key.name == "synchronous" => {
                format!("{app}{web}[backup]\noffsite = \"/mnt/nas\"\n{example}\n")
            }
            "checks.*" => {
                let mut lines = vec!["question = \"q\"", "category = \"testing\""];
                lines.push(match key.name {
                    "path" | "status" | "contains" | "within" | "account" => "path = \"/\"",
                    "sql" | "store" => "sql = \"SELECT 1\"",
                    _ => "command = \"true\"",
                });
                lines.retain(|line| !line.starts_with(&format!("{} =", key.name)));
                let (lines, db) = (lines.join("\n"), "[data.db]\npostgres = \"managed\"\n");
                let user = "[accounts.user]\nname = \"a\"\npassword = \"env:B\"\n";
                format!("{app}{web}{db}{user}[checks.orders]\n{example}\n{lines}\n")
            }
            "waf.*" => {
                let lines: &[&str] = match key.name {
                    "allow" => &[],
                    "pattern" => &["parameter = \"id\""],
                    _ => &["allow = [1]"],
                };
                format!("{app}{web}[waf.notes]\n{example}\n{}\n", lines.join("\n"))
            }
            "waivers.*" => {
                let mut lines = vec!["row = \"r\"", "by = \"b\"", "until = \"2027-01-31\"", "reason = \"x\""];
                lines.retain(|line| !line.starts_with(&format!("{} =", key.name)));
                format!("{app}{web}[waivers.later]\n{example}\n{}\n", lines.join("\n"))
            }
            section => {
                let pair = match key.name {
                    "certificate" => "key = \"/k\"\n",
                    "key" => "certificate = \"/c\"\n",
                    "acme_email" | "acme_root" => "acme = \"letsencrypt\"\n",
                    "forwarded_header" | "proxy_protocol" | "plain_http" => {
                        "trusted_proxies = [\"10.0.0.0/8\"]\n"
                    }
                    _ => "",
                };
                format!("{app}{web}[{section}]\n{pair}{example}\n")
            }
        }
    }

    /// What a validator would say; patterns are left to editors, so any name fits the first pattern.
    fn check(schema: &Value, value: &Value, path: &str) -> Result<(), String> {
        let fail = |why: &str| Err(format!("{path}: {why}"));
        if let Some(choices) = schema["anyOf"].as_array() {
            let results: Vec<_> = choices.iter().map(|choice| check(choice, value, path)).collect();
            return if results.iter().any(Result::is_ok) { Ok(()) } else { results.into_iter().collect() };
        }
        let fits = match schema["type"].as_str() {
            Some("object") => value.is_object(),
            Some("array") => value.is_array(),
            Some("string") => value.is_string(),
            Some("boolean") => value.is_boolean(),
            Some("integer") => value.is_i64() || value.is_u64(),
            Some("number") => value.is_number(),
            _ => true,
        };
        if !fits {
            return fail("another type");
        }
        if schema["enum"].as_array().is_some_and(|words| !words.contains(value)) {
            return fail("none of the words");
        }
        if let (Some(min), Some(number)) = (schema["minimum"].as_f64(), value.as_f64())
            && number < min
        {
            return fail("too small");
        }
        for item in value.as_array().into_iter().flatten() {
            check(&schema["items"], item, path)?;
        }
        let Some(object) = value.as_object() else { return Ok(()) };
        for name in schema["required"].as_array().into_iter().flatten() {
            if !object.contains_key(name.as_str().unwrap()) {
                return fail(&format!("{name} is missing"));
            }
        }
        if let Some(choices) = schema["oneOf"].as_array() {
            let met = choices
                .iter()
                .filter(|one| object.contains_key(one["required"][0].as_str().unwrap()))
                .count();
            if met != 1 {
                return fail("not one of the alternatives");
            }
        }
        for (name, value) in object {
            let inner = schema["properties"]
                .get(name)
                .or_else(|| schema["patternProperties"].as_object()?.values().next());
            match inner {
                Some(inner) => check(inner, value, &format!("{path}.{name}"))?,
                None => return fail(&format!("unknown {name}")),
            }
        }
        Ok(())
    }

    fn as_json(text: &str) -> Value {
        let (table, errors) = tree::parse(text);
        assert!(errors.is_empty(), "{text}");
        json_of(&Node::made(Data::Table(table)))
    }

    #[test]
    fn examples_are_accepted_by_klar_and_by_the_schema() {
        let schema = json_schema();
        let examples = every_key().into_iter().map(example_of);
        for text in examples.chain([TEMPLATE.to_owned()]) {
            if let Err(errors) = Config::parse(&text, "klar.toml", &EnvName::default()) {
                panic!("{text}\n{errors}");
            }
            check(&schema, &as_json(&text), "").unwrap_or_else(|error| panic!("{error}\n{text}"));
        }
    }

    #[test]
    fn mistakes_are_seen_by_the_schema() {
        let schema = json_schema();
        for (text, why) in [
            ("[services.web]\nrun = \"x\"", "\"app\" is missing"),
            ("[app]\nname = \"a\"\n[services.web]\n", "not one of the alternatives"),
            ("[app]\nname = \"a\"\n[services.web]\nrun = \"x\"\nhelth = \"/\"", "unknown helth"),
            ("[app]\nname = \"a\"\n[services.web]\nrun = \"x\"\nport = 0", "too small"),
            ("[app]\nname = \"a\"\n[services.web]\nrun = \"x\"\nkind = \"job\"", "none of the words"),
            (
                "[app]\nname = \"a\"\n[services.web]\nrun = \"x\"\n[env.staging.edge]\ntimout = \"1s\"",
                "unknown timout",
            ),
        ] {
            let error = check(&schema, &as_json(text), "").unwrap_err();
            assert!(error.contains(why), "{text}: {error}");
        }
        let staging = format!("{TEMPLATE}[env.staging.services.web]\nhealth = \"/\"\n");
        check(&schema, &as_json(&staging), "").unwrap();
    }

    /// The paths of all properties below `schema`.
    fn keys_in(schema: &Value, path: &str, found: &mut BTreeSet<String>) {
        let at = |name: &str| if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
        for one in schema["anyOf"].as_array().into_iter().flatten() {
            keys_in(one, path, found);
        }
        for (name, inner) in schema["properties"].as_object().into_iter().flatten() {
            if inner["properties"].is_null() && inner["patternProperties"].is_null() || !path.is_empty() {
                found.insert(at(name));
            }
            keys_in(inner, &at(name), found);
        }
        for inner in schema["patternProperties"].as_object().into_iter().flat_map(Map::values) {
            keys_in(inner, &at("*"), found);
        }
    }

    #[test]
    fn the_schema_has_the_keys_of_the_table_and_no_others() {
        let schema = json_schema();
        let mut found = BTreeSet::new();
        keys_in(&schema, "", &mut found);
        let table: BTreeSet<String> = every_key().into_iter().map(Key::path).collect();
        let (env, plain): (BTreeSet<_>, BTreeSet<_>) =
            found.into_iter().partition(|path| path.starts_with("env.*."));
        assert_eq!(plain, table);
        let env: BTreeSet<String> = env
            .iter()
            .map(|path| path["env.*.".len()..].to_owned())
            .filter(|path| path.contains('.'))
            .filter(|path| !ROOTS.iter().any(|root| root.named && *path == format!("{}.*", root.name)))
            .collect();
        assert_eq!(env, table);
    }
}
