//! The schemas inside of a JSON Schema.

use serde_json::Value;

use crate::chat::Object;

/// Keywords that hold a schema for each name.
const NAMED: &[&str] = &["properties", "$defs", "definitions"];

/// Keywords that hold a list of schemas, or one.
const PLAIN: &[&str] = &["items", "anyOf", "oneOf", "allOf"];

/// The schemas that a schema is made of, one level down.
pub(super) fn children(schema: &Object) -> impl Iterator<Item = &Value> {
    let named = NAMED.iter().filter_map(|key| schema.get(*key)?.as_object()).flat_map(|map| map.values());
    let plain = PLAIN.iter().filter_map(|key| schema.get(*key)).flat_map(|value| match value {
        Value::Array(list) => list.as_slice(),
        one => std::slice::from_ref(one),
    });
    named.chain(plain)
}

/// Whether a schema is one of objects, beside others perhaps.
pub(super) fn is_of_objects(schema: &Object) -> bool {
    match schema.get("type") {
        Some(Value::String(word)) => word == "object",
        Some(Value::Array(words)) => words.iter().any(|word| word == "object"),
        _ => schema.contains_key("properties"),
    }
}
