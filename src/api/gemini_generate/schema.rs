//! Google's OpenAPI schemas as JSON Schema: types in lowercase, `nullable` as a type.

use serde_json::{Value, json};

use crate::chat::Object;

/// The schema in JSON Schema's words.
pub(super) fn up(schema: &Value) -> Value {
    let Value::Object(object) = schema else { return schema.clone() };
    let nullable = object.get("nullable").and_then(Value::as_bool) == Some(true);
    let mut out = Object::new();
    for (key, value) in object {
        match &**key {
            "type" => {
                let word = value.as_str().unwrap_or_default().to_ascii_lowercase();
                if word.is_empty() || word == "type_unspecified" {
                    continue;
                }
                out.insert("type".into(), if nullable { json!([word, "null"]) } else { word.into() });
            }
            "nullable" => {}
            // Widths of numbers mean nothing elsewhere, and are refused in some places.
            "format" if matches!(value.as_str(), Some("enum" | "int32" | "int64" | "float" | "double")) => {}
            "properties" | "defs" | "$defs" => {
                let entries = value.as_object().into_iter().flatten();
                let inner: Object = entries.map(|(name, schema)| (name.clone(), up(schema))).collect();
                out.insert(key.clone(), Value::Object(inner));
            }
            "items" => {
                out.insert("items".into(), up(value));
            }
            "anyOf" | "any_of" => {
                let list = value.as_array().map(Vec::as_slice).unwrap_or_default();
                out.insert("anyOf".into(), list.iter().map(up).collect());
            }
            "propertyOrdering" | "property_ordering" => {}
            // Protobuf writes 64-bit numbers as text.
            "minItems" | "maxItems" | "minLength" | "maxLength" | "minProperties" | "maxProperties"
            | "min_items" | "max_items" | "min_length" | "max_length" | "min_properties"
            | "max_properties" => {
                let number = value.as_str().and_then(|text| text.parse::<u64>().ok()).map(Value::from);
                out.insert(camel(key), number.unwrap_or_else(|| value.clone()));
            }
            "additionalProperties" | "additional_properties" if value.is_object() => {
                out.insert("additionalProperties".into(), up(value));
            }
            "additional_properties" => {
                out.insert("additionalProperties".into(), value.clone());
            }
            _ => {
                out.insert(key.clone(), value.clone());
            }
        }
    }
    if nullable && let Some(Value::Array(words)) = out.get_mut("enum") {
        words.push(Value::Null);
    }
    Value::Object(out)
}

/// `minItems` for `min_items`: protobuf reads both.
fn camel(key: &str) -> String {
    let mut out = String::with_capacity(key.len());
    for (at, word) in key.split('_').enumerate() {
        let (initial, rest) = word.split_at_checked(usize::from(at > 0)).unwrap_or_default();
        out.push_str(&initial.to_ascii_uppercase());
        out.push_str(rest);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_become_json_schemas() {
        let schema = json!({"type": "OBJECT", "propertyOrdering": ["a"], "properties": {
            "a": {"type": "STRING", "nullable": true, "format": "date-time"},
            "b": {"type": "ARRAY", "minItems": "1", "items": {"type": "INTEGER", "format": "int32"}},
            "c": {"type": "ARRAY", "max_items": "2", "items": {"type": "OBJECT",
                "additional_properties": {"type": "STRING"}}}}});
        assert_eq!(
            up(&schema),
            json!({"type": "object", "properties": {
                "a": {"type": ["string", "null"], "format": "date-time"},
                "b": {"type": "array", "minItems": 1, "items": {"type": "integer"}},
                "c": {"type": "array", "maxItems": 2, "items": {"type": "object",
                    "additionalProperties": {"type": "string"}}}}})
        );
    }
}
