//! JSON Schema brought down to the subset of OpenAPI 3.0 that models before Gemini 2.5 read:
//! <https://ai.google.dev/api/caching#Schema>
//!
//! | JSON Schema | becomes |
//! |---|---|
//! | `type: [T, "null"]`, `anyOf: [T, null]` | `type: T, nullable: true` |
//! | several types | `anyOf` |
//! | `const` | `enum` of one (texts), else dropped |
//! | `enum` of other than texts | texts, `type: STRING` |
//! | `oneOf` | `anyOf` |
//! | `allOf` | the objects merged |
//! | `$ref` into `$defs` or `definitions` | the definition in its place; where it contains itself, any object |
//! | `exclusiveMinimum: n` of an integer | `minimum: n + 1`, and so for the maximum |
//! | `additionalProperties: false` | nothing: these models add none |
//! | any other keyword | dropped, and named in the loss report |

use serde_json::Value;

use crate::chat::{Loss, Object};

/// Keywords that mean the same in both.
const SAME: &[&str] = &[
    "title",
    "description",
    "nullable",
    "default",
    "example",
    "minItems",
    "maxItems",
    "minLength",
    "maxLength",
    "minProperties",
    "maxProperties",
    "minimum",
    "maximum",
    "pattern",
    "required",
    "propertyOrdering",
];

/// Keywords that say nothing about the value.
const SILENT: &[&str] = &["$schema", "$id", "$comment", "$defs", "definitions", "$anchor", "examples"];

/// A definition inside of a definition inside of … is followed so deep.
const MOST_REFERENCES: usize = 8;

/// The schema in OpenAPI's subset. What is lost is named below `path`.
pub(super) fn down(schema: &Value, path: &str, lost: &mut Vec<Loss>) -> Value {
    Down { root: schema, lost, references: Vec::new(), made: 0 }.schema(schema, path)
}

struct Down<'a> {
    root: &'a Value,
    lost: &'a mut Vec<Loss>,
    /// References that are being followed.
    references: Vec<String>,
    /// Schemas written so far: references can make a small schema large.
    made: usize,
}

/// No schema becomes larger than this many nodes.
const MOST_NODES: usize = 10_000;

impl Down<'_> {
    fn schema(&mut self, schema: &Value, path: &str) -> Value {
        self.made += 1;
        let Some(object) = schema.as_object() else { return serde_json::json!({ "type": "OBJECT" }) };
        if self.made > MOST_NODES {
            return serde_json::json!({ "type": "OBJECT" });
        }
        if let Some(reference) = object.get("$ref").and_then(Value::as_str) {
            return self.reference(reference, path);
        }
        let mut out = Object::new();
        self.types(object, path, &mut out);
        for (key, value) in object {
            self.keyword(key, value, object, path, &mut out);
        }
        Value::Object(out)
    }

    fn reference(&mut self, reference: &str, path: &str) -> Value {
        let found = reference.strip_prefix('#').and_then(|pointer| self.root.pointer(pointer));
        let follows = self.references.iter().filter(|known| *known == reference).count();
        let Some(found) = found.filter(|_| follows == 0 && self.references.len() < MOST_REFERENCES) else {
            self.lost.push(Loss::new(format!("{path}.$ref"), "became any object"));
            return serde_json::json!({ "type": "OBJECT" });
        };
        self.references.push(reference.to_owned());
        let found = self.schema(&found.clone(), path);
        self.references.pop();
        found
    }

    fn types(&mut self, object: &Object, path: &str, out: &mut Object) {
        match object.get("type") {
            Some(Value::String(one)) => {
                out.insert("type".into(), one.to_ascii_uppercase().into());
            }
            Some(Value::Array(several)) => {
                let words: Vec<&str> = several.iter().filter_map(Value::as_str).collect();
                let types: Vec<&str> = words.iter().copied().filter(|word| *word != "null").collect();
                match types.as_slice() {
                    [one] => {
                        out.insert("type".into(), one.to_ascii_uppercase().into());
                    }
                    _ => {
                        let any = types.iter().map(|word| {
                            let mut alone = object.clone();
                            alone.insert("type".into(), (*word).into());
                            self.schema(&Value::Object(alone), path)
                        });
                        let any: Vec<Value> = any.collect();
                        out.insert("anyOf".into(), Value::Array(any));
                    }
                }
                if words.contains(&"null") {
                    out.insert("nullable".into(), true.into());
                }
            }
            _ if object.contains_key("properties") => {
                out.insert("type".into(), "OBJECT".into());
            }
            _ if object.contains_key("items") => {
                out.insert("type".into(), "ARRAY".into());
            }
            _ => {}
        }
    }

    fn keyword(&mut self, key: &str, value: &Value, of: &Object, path: &str, out: &mut Object) {
        match key {
            "type" => {}
            "properties" => {
                let entries = value.as_object().into_iter().flatten();
                let properties: Object = entries
                    .map(|(name, schema)| {
                        (name.clone(), self.schema(schema, &format!("{path}.properties.{name}")))
                    })
                    .collect();
                out.insert("properties".into(), Value::Object(properties));
            }
            "items" => {
                let items = self.schema(value, &format!("{path}.items"));
                out.insert("items".into(), items);
            }
            "anyOf" | "oneOf" => self.any_of(key, value, path, out),
            "allOf" => {
                for part in value.as_array().into_iter().flatten() {
                    if let Value::Object(part) = self.schema(part, path) {
                        merge(out, part);
                    }
                }
            }
            "enum" => self.choices(value, out),
            "const" => match value {
                Value::String(_) => {
                    out.insert("type".into(), "STRING".into());
                    out.insert("enum".into(), Value::Array(vec![value.clone()]));
                }
                _ => self.lost.push(Loss::dropped(format!("{path}.const"))),
            },
            "format" => {
                const KNOWN: &[&str] = &["enum", "date-time", "int32", "int64", "float", "double"];
                match value.as_str().filter(|format| KNOWN.contains(format)) {
                    Some(format) => {
                        out.insert("format".into(), format.into());
                    }
                    None => self.lost.push(Loss::dropped(format!("{path}.format"))),
                }
            }
            "exclusiveMinimum" | "exclusiveMaximum" => {
                let integer = of.get("type").is_some_and(|kind| kind == "integer");
                let (bound, step) = if key == "exclusiveMinimum" { ("minimum", 1) } else { ("maximum", -1) };
                match value.as_i64().filter(|_| integer).and_then(|n| n.checked_add(step)) {
                    Some(n) => {
                        out.insert(bound.into(), n.into());
                    }
                    None => self.lost.push(Loss::dropped(format!("{path}.{key}"))),
                }
            }
            "additionalProperties" if *value == Value::Bool(false) => {}
            _ if SAME.contains(&key) => {
                out.entry(key).or_insert_with(|| value.clone());
            }
            _ if SILENT.contains(&key) => {}
            _ => self.lost.push(Loss::dropped(format!("{path}.{key}"))),
        }
    }

    fn any_of(&mut self, key: &str, value: &Value, path: &str, out: &mut Object) {
        let list = value.as_array().map(Vec::as_slice).unwrap_or_default();
        let is_null = |schema: &&Value| schema.get("type").is_some_and(|kind| kind == "null");
        if list.iter().any(|schema| is_null(&schema)) {
            out.insert("nullable".into(), true.into());
        }
        let others: Vec<&Value> = list.iter().filter(|schema| !is_null(schema)).collect();
        let mut any: Vec<Value> = others
            .iter()
            .enumerate()
            .map(|(at, schema)| self.schema(schema, &format!("{path}.{key}[{at}]")))
            .collect();
        match (any.len(), any.pop()) {
            (1, Some(Value::Object(one))) => merge(out, one),
            (_, Some(last)) => {
                any.push(last);
                out.insert("anyOf".into(), Value::Array(any));
            }
            _ => {}
        }
    }

    fn choices(&mut self, value: &Value, out: &mut Object) {
        let list = value.as_array().map(Vec::as_slice).unwrap_or_default();
        if list.iter().any(Value::is_null) {
            out.insert("nullable".into(), true.into());
        }
        let texts = list.iter().filter(|value| !value.is_null()).map(|value| match value {
            Value::String(text) => Value::String(text.clone()),
            other => Value::String(other.to_string()),
        });
        let texts: Vec<Value> = texts.collect();
        out.insert("type".into(), "STRING".into());
        out.insert("enum".into(), Value::Array(texts));
    }
}

/// Adds what one schema says to another: properties and required names grow, the first word counts for the rest.
fn merge(out: &mut Object, part: Object) {
    for (key, value) in part {
        match (out.get_mut(&key), value) {
            (Some(Value::Object(known)), Value::Object(more)) => known.extend(more),
            (Some(Value::Array(known)), Value::Array(more)) if key == "required" => known.extend(more),
            (Some(_), _) => {}
            (None, value) => {
                out.insert(key, value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn check(schema: Value, expected: Value, losses: &[&str]) {
        let mut lost = Vec::new();
        assert_eq!(down(&schema, "s", &mut lost), expected, "{schema}");
        let paths: Vec<&str> = lost.iter().map(|loss| &*loss.path).collect();
        assert_eq!(paths, losses, "{schema}");
    }

    #[test]
    fn every_keyword_has_its_fate() {
        check(
            json!({"$schema": "x", "type": "object", "additionalProperties": false, "required": ["a"],
                   "properties": {"a": {"type": ["string", "null"], "format": "email"}, "b": {"type": "integer", "exclusiveMinimum": 0}}}),
            json!({"type": "OBJECT", "required": ["a"], "properties": {
                "a": {"type": "STRING", "nullable": true}, "b": {"type": "INTEGER", "minimum": 1}}}),
            &["s.properties.a.format"],
        );
        check(
            json!({"anyOf": [{"type": "string"}, {"type": "null"}], "description": "d"}),
            json!({"nullable": true, "type": "STRING", "description": "d"}),
            &[],
        );
        check(
            json!({"oneOf": [{"type": "string"}, {"type": "integer"}]}),
            json!({"anyOf": [{"type": "STRING"}, {"type": "INTEGER"}]}),
            &[],
        );
        check(
            json!({"enum": [1, "b", null]}),
            json!({"nullable": true, "type": "STRING", "enum": ["1", "b"]}),
            &[],
        );
        check(json!({"const": "x"}), json!({"type": "STRING", "enum": ["x"]}), &[]);
        check(
            json!({"allOf": [{"properties": {"a": {"type": "string"}}, "required": ["a"]},
                             {"properties": {"b": {"type": "string"}}, "required": ["b"]}]}),
            json!({"type": "OBJECT", "properties": {"a": {"type": "STRING"}, "b": {"type": "STRING"}}, "required": ["a", "b"]}),
            &[],
        );
        check(
            json!({"type": "string", "patternProperties": {}}),
            json!({"type": "STRING"}),
            &["s.patternProperties"],
        );
        check(json!(true), json!({"type": "OBJECT"}), &[]);
    }

    #[test]
    fn references_are_followed_and_end() {
        check(
            json!({"$defs": {"p": {"type": "object", "properties": {"next": {"$ref": "#/$defs/p"}}}}, "$ref": "#/$defs/p"}),
            json!({"type": "OBJECT", "properties": {"next": {"type": "OBJECT"}}}),
            &["s.properties.next.$ref"],
        );
        check(json!({"$ref": "#/nowhere"}), json!({"type": "OBJECT"}), &["s.$ref"]);
    }
}
