//! Whether a value fits a JSON schema, as far as the usual keywords go, and values that do not.
//!
//! What is not known here (`pattern`, `format`, `if`) forbids nothing: a doubt is no fault of the app's.

use serde_json::{Value, json};

use crate::world::api::kind;

/// Schemas that contain themselves are not followed further.
const DEEPEST: usize = 24;

/// Why a value does not fit; `None` when it does.
#[must_use]
pub fn misfit(schema: &Value, value: &Value) -> Option<String> {
    at(schema, value, "", 0)
}

fn at(schema: &Value, value: &Value, path: &str, depth: usize) -> Option<String> {
    if depth > DEEPEST {
        return None;
    }
    let wrong = |what: &str| {
        let place = if path.is_empty() { "/" } else { path };
        Some(format!("{place}: {what}"))
    };
    let schema = match schema {
        Value::Bool(false) => return wrong("nothing is allowed here"),
        Value::Object(schema) => schema,
        _ => return None,
    };
    if value.is_null() && schema.get("nullable") == Some(&Value::Bool(true)) {
        return None;
    }
    let kinds: Vec<&str> = match schema.get("type") {
        Some(Value::String(kind)) => vec![kind],
        Some(Value::Array(kinds)) => kinds.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    };
    if !kinds.is_empty() && !kinds.iter().any(|kind| is(kind, value)) {
        return wrong(&format!("{} instead of {}", name(value), kinds.join(" or ")));
    }
    if schema.get("enum").and_then(Value::as_array).is_some_and(|all| !all.contains(value)) {
        return wrong("not one of those listed");
    }
    if schema.get("const").is_some_and(|only| only != value) {
        return wrong("not the constant");
    }
    let number = |key: &str| schema.get(key).and_then(Value::as_f64);
    if let Some(n) = value.as_f64() {
        let low = number("minimum").is_some_and(|least| n < least)
            || number("exclusiveMinimum").is_some_and(|least| n <= least);
        let high = number("maximum").is_some_and(|most| n > most)
            || number("exclusiveMaximum").is_some_and(|most| n >= most);
        if low || high {
            return wrong("out of bounds");
        }
    }
    if let Some(text) = value.as_str() {
        let length = text.chars().count() as f64;
        if number("minLength").is_some_and(|least| length < least)
            || number("maxLength").is_some_and(|most| length > most)
        {
            return wrong("of another length");
        }
    }
    if let Some(items) = value.as_array() {
        let count = items.len() as f64;
        if number("minItems").is_some_and(|least| count < least)
            || number("maxItems").is_some_and(|most| count > most)
        {
            return wrong("of another number of items");
        }
        if let Some(each) = schema.get("items") {
            for (number, item) in items.iter().enumerate() {
                if let Some(why) = at(each, item, &format!("{path}/{number}"), depth + 1) {
                    return Some(why);
                }
            }
        }
    }
    if let Some(fields) = value.as_object() {
        let required = schema.get("required").and_then(Value::as_array).into_iter().flatten();
        for name in required.filter_map(Value::as_str) {
            if !fields.contains_key(name) {
                return wrong(&format!("{name} is missing"));
            }
        }
        let known = schema.get("properties").and_then(Value::as_object);
        for (name, field) in fields {
            let path = format!("{path}/{name}");
            let each = known.and_then(|known| known.get(name)).or_else(|| {
                schema.get("additionalProperties").filter(|_| schema.get("patternProperties").is_none())
            });
            if let Some(why) = each.and_then(|each| at(each, field, &path, depth + 1)) {
                return Some(why);
            }
        }
    }
    let options = |key: &str| schema.get(key).and_then(Value::as_array);
    for each in options("allOf").into_iter().flatten() {
        if let Some(why) = at(each, value, path, depth + 1) {
            return Some(why);
        }
    }
    for key in ["anyOf", "oneOf"] {
        if let Some(options) = options(key) {
            let whys: Vec<_> = options.iter().map(|each| at(each, value, path, depth + 1)).collect();
            if !whys.is_empty() && whys.iter().all(Option::is_some) {
                return whys.into_iter().flatten().next();
            }
        }
    }
    None
}

fn is(kind: &str, value: &Value) -> bool {
    match kind {
        "null" => value.is_null(),
        "boolean" => value.is_boolean(),
        "integer" => value.as_f64().is_some_and(|number| number.fract() == 0.0),
        "number" => value.is_number(),
        "string" => value.is_string(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        _ => true,
    }
}

fn name(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

/// Values that a schema forbids, and what is wrong with each. `text` where all values are text: in paths and queries.
#[must_use]
pub fn misfits(schema: &Value, text: bool) -> Vec<(&'static str, Value)> {
    let mut tried = vec![("text", json!("klar-none"))];
    let number = |key: &str| schema.get(key).and_then(Value::as_f64);
    if !text {
        tried.extend([
            ("null", Value::Null),
            ("number", json!(7)),
            ("true", json!(true)),
            ("object", json!({ "klar": 1 })),
            ("array", json!(["klar"])),
        ]);
    }
    tried.push(("fraction", json!(1.5)));
    for (what, bound) in [
        ("below minimum", number("minimum").map(|least| least - 1.0)),
        ("above maximum", number("maximum").map(|most| most + 1.0)),
    ] {
        if let Some(bound) = bound.filter(|bound| bound.abs() < 9e15) {
            tried.push((what, json!(bound as i64)));
        }
    }
    if let Some(most) = schema.get("maxLength").and_then(Value::as_u64).filter(|most| *most < 100_000) {
        tried.push(("too long", json!("k".repeat(most as usize + 1))));
    }
    if schema.get("minLength").and_then(Value::as_u64).is_some_and(|least| least > 0) && !text {
        tried.push(("empty", json!("")));
    }
    if let (Some(most), false) =
        (schema.get("maxItems").and_then(Value::as_u64).filter(|most| *most < 2000), text)
    {
        let item = schema.get("items").map(|items| crate::world::api::example(items, 0)).unwrap_or_default();
        tried.push(("too many", Value::Array(vec![item; most as usize + 1])));
    }
    let numeric = matches!(kind(schema), "integer" | "number");
    tried.retain(|(_, value)| match (text, value) {
        // In a query every text may be meant as what it looks like.
        (true, Value::String(_)) if numeric || kind(schema) == "boolean" => true,
        (true, Value::Number(_)) if !numeric => false,
        (true, Value::String(_)) if kind(schema) == "array" => {
            schema.get("items").is_some_and(|items| items.get("enum").is_some())
        }
        _ => misfit(schema, value).is_some(),
    });
    tried
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_fit_or_do_not() {
        let order = json!({ "type": "object", "required": ["id"], "additionalProperties": false,
            "properties": { "id": { "type": "integer", "minimum": 1 }, "note": { "type": ["string", "null"], "maxLength": 3 },
                "kind": { "enum": ["a"] }, "lines": { "type": "array", "items": { "type": "number" }, "maxItems": 2 } } });
        for (value, fits) in [
            (json!({ "id": 1 }), true),
            (json!({ "id": 1.0, "note": null, "kind": "a", "lines": [1.5] }), true),
            (json!({ "id": 0 }), false),
            (json!({ "id": "1" }), false),
            (json!({ "note": "x" }), false),
            (json!({ "id": 1, "note": "øøøø" }), false),
            (json!({ "id": 1, "kind": "b" }), false),
            (json!({ "id": 1, "lines": [1, "x"] }), false),
            (json!({ "id": 1, "lines": [1, 2, 3] }), false),
            (json!({ "id": 1, "more": 1 }), false),
            (json!([]), false),
        ] {
            assert_eq!(misfit(&order, &value).is_none(), fits, "{value}");
        }
        let either = json!({ "anyOf": [{ "type": "null" }, { "type": "integer" }] });
        assert!(misfit(&either, &json!("x")).is_some() && misfit(&either, &Value::Null).is_none());
        assert!(misfit(&json!({ "type": "string", "nullable": true }), &Value::Null).is_none());
    }

    #[test]
    fn misfits_do_not_fit() {
        let whats = |schema: Value, text| {
            misfits(&schema, text).into_iter().map(|(what, _)| what).collect::<Vec<_>>()
        };
        assert_eq!(
            whats(json!({ "type": "integer", "minimum": 1 }), true),
            ["text", "fraction", "below minimum"]
        );
        assert_eq!(whats(json!({ "type": "string", "maxLength": 5 }), true), ["text", "too long"]);
        assert_eq!(whats(json!({ "type": "string" }), true), Vec::<&str>::new());
        assert_eq!(
            whats(json!({ "type": "string", "maxLength": 50 }), false),
            ["null", "number", "true", "object", "array", "fraction", "too long"]
        );
        assert!(misfits(&json!({}), false).is_empty());
    }
}
