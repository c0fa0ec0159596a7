//! A value that follows a JSON Schema: the same one every time.

use std::cell::Cell;

use serde_json::{Map, Value, json};

/// Beyond this depth only what must be there is made, so that recursive schemas come to an end.
const FULL_DEPTH: usize = 4;
/// Beyond this depth nothing more is made.
const LAST_DEPTH: usize = 24;
/// Most values of one sample: a schema can ask for more than fits into memory.
const MOST_VALUES: usize = 10_000;
/// Longest list and text that a schema can ask for.
const MOST: u64 = 1_000;

/// A sample of `schema`; `name` is what texts say.
pub(super) fn sample(schema: &Value, name: &str) -> Value {
    Sampler { root: schema, left: Cell::new(MOST_VALUES) }.value(schema, name, 0)
}

struct Sampler<'a> {
    root: &'a Value,
    /// How many more values may be made.
    left: Cell<usize>,
}

impl Sampler<'_> {
    fn value(&self, schema: &Value, name: &str, depth: usize) -> Value {
        let left = self.left.get();
        if depth > LAST_DEPTH || left == 0 {
            return Value::Null;
        }
        self.left.set(left - 1);
        if let Some(target) = schema["$ref"].as_str().and_then(|path| self.referenced(path)) {
            return self.value(target, name, depth + 1);
        }
        if let Some(value) = schema.get("const") {
            return value.clone();
        }
        if let Some(first) = schema["enum"].as_array().and_then(|values| values.first()) {
            return first.clone();
        }
        for key in ["anyOf", "oneOf"] {
            if let Some(options) = schema[key].as_array() {
                return self.value(self.option(options, depth), name, depth + 1);
            }
        }
        if let Some(parts) = schema["allOf"].as_array() {
            return self.all_of(schema, parts, name, depth);
        }
        match kind(schema, depth) {
            "object" => self.object(schema, depth),
            "array" => self.array(schema, name, depth),
            "string" => json!(text(schema, name)),
            "integer" => integer(schema),
            "number" => number(schema),
            "boolean" => json!(true),
            _ => Value::Null,
        }
    }

    /// `#/$defs/step` and the like.
    fn referenced(&self, path: &str) -> Option<&Value> {
        self.root.pointer(path.strip_prefix('#')?)
    }

    /// The first option, deep down one that ends.
    fn option<'b>(&self, options: &'b [Value], depth: usize) -> &'b Value {
        let ends = |option: &&Value| {
            let target = option["$ref"].as_str().and_then(|path| self.referenced(path)).unwrap_or(option);
            !matches!(kind(target, 0), "object" | "array")
        };
        let simple = (depth > FULL_DEPTH).then(|| options.iter().find(ends)).flatten();
        simple.or_else(|| options.iter().find(|option| option["type"] != "null")).unwrap_or(&Value::Null)
    }

    fn all_of(&self, schema: &Value, parts: &[Value], name: &str, depth: usize) -> Value {
        let mut merged = Map::new();
        for part in parts.iter().chain([schema]) {
            let part = part["$ref"].as_str().and_then(|path| self.referenced(path)).unwrap_or(part);
            for (key, value) in part.as_object().into_iter().flatten().filter(|(key, _)| *key != "allOf") {
                match (merged.get_mut(key), value) {
                    (Some(Value::Object(known)), Value::Object(more)) => known.extend(more.clone()),
                    (Some(Value::Array(known)), Value::Array(more)) => known.extend(more.iter().cloned()),
                    _ => {
                        merged.insert(key.clone(), value.clone());
                    }
                }
            }
        }
        self.value(&Value::Object(merged), name, depth + 1)
    }

    fn object(&self, schema: &Value, depth: usize) -> Value {
        let required =
            |key: &str| schema["required"].as_array().is_some_and(|keys| keys.iter().any(|k| k == key));
        let mut made = Map::new();
        for (key, property) in schema["properties"].as_object().into_iter().flatten() {
            if depth < FULL_DEPTH || required(key) {
                made.insert(key.clone(), self.value(property, key, depth + 1));
            }
        }
        for key in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
            if !made.contains_key(key) {
                made.insert(key.to_owned(), json!(key));
            }
        }
        Value::Object(made)
    }

    fn array(&self, schema: &Value, name: &str, depth: usize) -> Value {
        let least = schema["minItems"].as_u64().unwrap_or(0).min(MOST);
        let most = schema["maxItems"].as_u64().unwrap_or(u64::MAX);
        let usual = if depth < FULL_DEPTH { 1 } else { 0 };
        let fixed = schema["prefixItems"].as_array().map(Vec::as_slice).unwrap_or_default();
        let mut items: Vec<_> = fixed.iter().map(|item| self.value(item, name, depth + 1)).collect();
        let wanted = least.max(usual).min(most);
        while (items.len() as u64) < wanted {
            items.push(self.value(&schema["items"], name, depth + 1));
        }
        Value::Array(items)
    }
}

/// The schema's type, or what its keywords suggest.
fn kind(schema: &Value, depth: usize) -> &str {
    match &schema["type"] {
        Value::String(kind) => kind,
        Value::Array(kinds) if depth > FULL_DEPTH && kinds.iter().any(|kind| kind == "null") => "null",
        Value::Array(kinds) => {
            kinds.iter().filter_map(Value::as_str).find(|kind| *kind != "null").unwrap_or("null")
        }
        _ if schema["properties"].is_object() || schema["required"].is_array() => "object",
        _ if schema["items"].is_object() || schema["prefixItems"].is_array() => "array",
        _ if schema["minimum"].is_number() || schema["maximum"].is_number() => "number",
        _ if schema["anyOf"].is_array() || schema["$ref"].is_string() => "object",
        _ => "string",
    }
}

fn text(schema: &Value, name: &str) -> String {
    let mut text = match schema["format"].as_str() {
        Some("date-time") => "2025-01-01T00:00:00Z",
        Some("date") => "2025-01-01",
        Some("time") => "12:00:00Z",
        Some("duration") => "PT1H",
        Some("email") => "sandbox@example.com",
        Some("hostname") => "example.com",
        Some("ipv4") => "192.0.2.1",
        Some("ipv6") => "2001:db8::1",
        Some("uuid") => "00000000-0000-4000-8000-000000000000",
        Some("uri" | "url") => "https://example.com/",
        _ => name,
    }
    .to_owned();
    let length = |key: &str| schema[key].as_u64().and_then(|n| usize::try_from(n.min(MOST)).ok());
    while length("minLength").is_some_and(|least| text.chars().count() < least) {
        text.push('x');
    }
    if let Some(most) = length("maxLength") {
        text = text.chars().take(most).collect();
    }
    text
}

fn integer(schema: &Value) -> Value {
    let step = schema["multipleOf"].as_i64().filter(|step| *step > 0).unwrap_or(1);
    let least = schema["minimum"].as_i64().or_else(|| schema["exclusiveMinimum"].as_i64()?.checked_add(1));
    let most = schema["maximum"].as_i64().or_else(|| schema["exclusiveMaximum"].as_i64()?.checked_sub(1));
    let start = match (least, most) {
        (Some(least), _) => least.max(1).min(most.unwrap_or(i64::MAX)),
        (None, Some(most)) => most.min(1),
        (None, None) => 1,
    };
    let up = start.checked_add(step - 1).unwrap_or(start);
    let aligned = up - up.rem_euclid(step);
    let fits = most.is_none_or(|most| aligned <= most);
    json!(if fits { aligned } else { start - start.rem_euclid(step) })
}

fn number(schema: &Value) -> Value {
    let least = schema["minimum"].as_f64().or_else(|| schema["exclusiveMinimum"].as_f64().map(|n| n + 0.5));
    let most = schema["maximum"].as_f64().or_else(|| schema["exclusiveMaximum"].as_f64());
    let number = match (least, most) {
        (Some(least), Some(most)) if !(least..=most).contains(&1.0) => f64::midpoint(least, most),
        (Some(least), None) => least.max(1.0),
        (None, Some(most)) if most <= 1.0 => most - 1.0,
        _ => 1.0,
    };
    match schema["multipleOf"].as_f64().filter(|step| *step > 0.0) {
        Some(step) => json!((number / step).ceil() * step),
        None => json!(number),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_follow_their_schema() {
        for (schema, expected) in [
            (json!({"type": "string"}), json!("x")),
            (json!({"type": "string", "minLength": 3, "maxLength": 3}), json!("xxx")),
            (json!({"enum": ["b", "a"]}), json!("b")),
            (json!({"const": 7}), json!(7)),
            (json!({"type": ["null", "integer"], "minimum": 5}), json!(5)),
            (json!({"type": "integer", "minimum": 5, "multipleOf": 4}), json!(8)),
            (json!({"type": "integer", "maximum": -3}), json!(-3)),
            (json!({"type": "number", "minimum": 2, "maximum": 3}), json!(2.5)),
            (json!({"type": "array", "items": {"type": "boolean"}, "minItems": 2}), json!([true, true])),
            (json!({"type": "array", "items": {"type": "boolean"}, "maxItems": 0}), json!([])),
            (json!({"anyOf": [{"type": "null"}, {"type": "integer"}]}), json!(1)),
            (json!({"format": "date"}), json!("2025-01-01")),
            (json!({}), json!("x")),
            (json!(true), json!("x")),
            (
                json!({"allOf": [{"properties": {"a": {"type": "integer"}}}, {"properties": {"b": {"type": "boolean"}}}]}),
                json!({"a": 1, "b": true}),
            ),
            (
                json!({
                    "type": "object",
                    "properties": {"steps": {"type": "array", "items": {"$ref": "#/$defs/step"}}, "answer": {"type": "string"}},
                    "required": ["steps", "answer"],
                    "$defs": {"step": {"type": "object", "properties": {"text": {"type": "string"}}}}
                }),
                json!({"steps": [{"text": "text"}], "answer": "answer"}),
            ),
        ] {
            assert_eq!(sample(&schema, "x"), expected, "{schema}");
        }
    }

    #[test]
    fn recursive_schemas_come_to_an_end() {
        let list = json!({
            "type": "object",
            "properties": {"value": {"type": "integer"}, "next": {"anyOf": [{"$ref": "#"}, {"type": "null"}]}},
            "required": ["value", "next"]
        });
        let made = sample(&list, "list").to_string();
        assert!(made.contains("null") && made.len() < 500, "{made}");
        let endless = json!({
            "type": "object",
            "properties": {"left": {"$ref": "#"}, "right": {"$ref": "#"}},
            "required": ["left", "right"]
        });
        assert!(sample(&endless, "tree").to_string().len() < 500_000);
        let circle = json!({"$ref": "#"});
        assert_eq!(sample(&circle, "x"), Value::Null);
    }
}
