//! JSON Schema brought down to what Claude's answers and strict tools follow:
//! <https://platform.claude.com/docs/en/build-with-claude/structured-outputs#json-schema-limitations>
//!
//! | JSON Schema | becomes |
//! |---|---|
//! | objects with properties | no others are allowed |
//! | `oneOf` | `anyOf` |
//! | `allOf` of one | that one, unless it says otherwise than what stands beside it |
//! | other keywords, formats and patterns that are not known | words in the description, and a loss |
//! | what stands beside a `$ref` | dropped, and a loss |
//! | maps of any keys, any value, `allOf` of several, `anyOf` beside properties, recursion | nothing: such a schema can be asked for in words only |

use std::collections::BTreeSet;

use serde_json::Value;

use crate::chat::{Loss, Object};
use crate::providers::schema::{children, is_of_objects};

/// Where the schema of an answer stands in a request.
pub(in crate::providers) const OUTPUT: &str = "response_format.json_schema.schema";

/// Keywords that go through as they are.
const SAME: &[&str] = &["type", "title", "description", "default", "const", "required"];

/// Keywords of which the outer one counts.
const NOTES: &[&str] = &["title", "description", "default"];

/// Keywords that say nothing about the value.
const SILENT: &[&str] = &["$schema", "$id", "$anchor", "$comment", "discriminator"];

const FORMATS: &[&str] =
    &["date-time", "time", "date", "duration", "email", "hostname", "uri", "ipv4", "ipv6", "uuid"];

/// A definition inside of a definition inside of … is followed so deep.
const MOST_REFERENCES: usize = 16;

/// The schema as it can be followed, or nothing. What is lost is named below `path`.
pub(in crate::providers) fn down(schema: &Value, path: &str, lost: &mut Vec<Loss>) -> Option<Value> {
    let mut down = Down { lost: Vec::new() };
    let made = down.schema(schema, path)?;
    if recurs(&made, &made, &mut Vec::new(), &mut BTreeSet::new()) {
        return None;
    }
    lost.append(&mut down.lost);
    Some(made)
}

/// The schema of a tool's arguments, if it can be followed to the letter.
pub(in crate::providers) fn strict(parameters: &Value) -> Option<Value> {
    let mut parameters = parameters.clone();
    if let Value::Object(schema) = &mut parameters
        && schema.get("properties").and_then(Value::as_object).is_none_or(Object::is_empty)
    {
        // A tool without arguments, not one with any.
        schema.entry("additionalProperties").or_insert(Value::Bool(false));
    }
    let mut lost = Vec::new();
    down(&parameters, "", &mut lost).filter(|_| lost.is_empty())
}

/// That a tool's arguments are not followed to the letter, although the model `knows` schemas, or because it does not.
pub(in crate::providers) fn lose_strict(at: usize, knows: bool) -> Loss {
    let what = if knows { "dropped: this model follows no such schema to the letter" } else { "dropped" };
    Loss::new(format!("tools[{at}].function.strict"), what)
}

/// How a schema is asked for that cannot be sent as one.
pub(in crate::providers) fn in_words(schema: &Value) -> String {
    format!(
        "Answer with one JSON value and nothing else: no explanation, no code fence. It must follow this \
         JSON Schema:\n{schema}"
    )
}

/// Why it cannot, of a model that `knows` schemas or does not.
pub(in crate::providers) fn why_in_words(knows: bool) -> &'static str {
    if knows {
        "asked for in the system prompt: this model follows no such schema"
    } else {
        "asked for in the system prompt: this model takes no schema"
    }
}

struct Down {
    lost: Vec<Loss>,
}

impl Down {
    fn schema(&mut self, schema: &Value, path: &str) -> Option<Value> {
        let object = schema.as_object()?;
        if let Some(Value::Array(all)) = object.get("allOf") {
            let [Value::Object(only)] = all.as_slice() else { return None };
            let mut merged = object.clone();
            merged.shift_remove("allOf");
            for (key, value) in only {
                match merged.get(key) {
                    None => drop(merged.insert(key.clone(), value.clone())),
                    Some(outer) if outer == value || NOTES.contains(&&**key) => {}
                    // What both say holds together, for which there is no one keyword.
                    Some(_) => return None,
                }
            }
            return self.schema(&Value::Object(merged), path);
        }
        if object.contains_key("$ref") {
            return self.reference(object, path);
        }
        let mut out = Object::new();
        let mut unknown = Vec::new();
        for (key, value) in object {
            if !self.keyword(key, value, path, &mut out)? {
                unknown.push(format!("{key}: {value}"));
                let what = "moved to the description: this model follows no such keyword";
                self.lost.push(Loss::new(format!("{path}.{key}"), what));
            }
        }
        if !unknown.is_empty() {
            let words = format!("{{{}}}", unknown.join(", "));
            let described = match out.get("description").and_then(Value::as_str) {
                Some(text) => format!("{text}\n\n{words}"),
                None => words,
            };
            out.insert("description".into(), described.into());
        }
        self.close(object, path, &mut out)?;
        Some(Value::Object(out))
    }

    /// Whether the keyword is known; nothing for one that no words beside the schema could make up for.
    fn keyword(&mut self, key: &str, value: &Value, path: &str, out: &mut Object) -> Option<bool> {
        let below = || format!("{path}.{key}");
        let made = match key {
            "properties" | "$defs" | "definitions" => {
                let mut made = Object::new();
                for (name, schema) in value.as_object()? {
                    made.insert(name.clone(), self.schema(schema, &format!("{path}.{key}.{name}"))?);
                }
                Value::Object(made)
            }
            "items" => self.schema(value, &below())?,
            "anyOf" | "oneOf" => {
                let list = value.as_array()?.iter().enumerate();
                let made: Option<Vec<Value>> =
                    list.map(|(at, one)| self.schema(one, &format!("{path}.{key}[{at}]"))).collect();
                // Both at once would be a conjunction.
                return out.insert("anyOf".into(), Value::Array(made?)).is_none().then_some(true);
            }
            "additionalProperties" => return Some(true),
            "enum" if !value.as_array()?.iter().any(|one| one.is_object() || one.is_array()) => value.clone(),
            "enum" => return None,
            "format" if value.as_str().is_some_and(|format| FORMATS.contains(&format)) => value.clone(),
            "pattern" if value.as_str().is_some_and(is_plain_pattern) => value.clone(),
            "minItems" if matches!(value.as_u64(), Some(0 | 1)) => value.clone(),
            _ if SAME.contains(&key) => value.clone(),
            _ => return Some(SILENT.contains(&key)),
        };
        out.insert(key.to_owned(), made);
        Some(true)
    }

    /// What must be said of a schema that is whole: its type, and that its objects have no other keys.
    fn close(&mut self, object: &Object, path: &str, out: &mut Object) -> Option<()> {
        if !["type", "enum", "const", "anyOf"].iter().any(|key| out.contains_key(*key)) {
            let kind = if out.contains_key("properties") {
                "object"
            } else if out.contains_key("items") {
                "array"
            } else {
                return None;
            };
            out.insert("type".into(), kind.into());
        }
        if !is_of_objects(out) {
            return Some(());
        }
        if out.contains_key("anyOf") && out.contains_key("properties") {
            // Closed, each would refuse the other's keys.
            return None;
        }
        let has_properties =
            out.get("properties").and_then(Value::as_object).is_some_and(|known| !known.is_empty());
        match object.get("additionalProperties") {
            Some(Value::Bool(false)) => {}
            None if has_properties => {}
            Some(Value::Bool(true)) if has_properties => {
                self.lost.push(Loss::new(format!("{path}.additionalProperties"), "became false"));
            }
            _ => return None,
        }
        out.insert("additionalProperties".into(), false.into());
        Some(())
    }

    fn reference(&mut self, object: &Object, path: &str) -> Option<Value> {
        let mut out = Object::new();
        for (key, value) in object {
            match &**key {
                "$ref" => drop(out.insert(key.clone(), value.clone())),
                "$defs" | "definitions" => {
                    self.keyword(key, value, path, &mut out)?;
                }
                "title" | "default" => {}
                key if SILENT.contains(&key) => {}
                key => self.lost.push(Loss::dropped(format!("{path}.{key}"))),
            }
        }
        Some(Value::Object(out))
    }
}

/// Neither references back nor looks around.
fn is_plain_pattern(pattern: &str) -> bool {
    let mut escaped = false;
    let plain = pattern.chars().all(|c| {
        let odd = escaped && (c.is_ascii_digit() || c == 'b' || c == 'B' || c == 'k');
        escaped = c == '\\' && !escaped;
        !odd
    });
    plain && !pattern.contains("(?")
}

/// Whether a definition contains itself, or is not there.
fn recurs<'a>(
    schema: &'a Value,
    root: &'a Value,
    open: &mut Vec<&'a str>,
    done: &mut BTreeSet<&'a str>,
) -> bool {
    let Some(object) = schema.as_object() else { return false };
    if let Some(reference) = object.get("$ref") {
        let Some(name) = reference.as_str() else { return true };
        let Some(found) = name.strip_prefix('#').and_then(|pointer| root.pointer(pointer)) else {
            return true;
        };
        if open.contains(&name) || open.len() == MOST_REFERENCES {
            return true;
        }
        if !done.contains(name) {
            open.push(name);
            if recurs(found, root, open, done) {
                return true;
            }
            open.pop();
            done.insert(name);
        }
    }
    children(object).any(|child| recurs(child, root, open, done))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn check(schema: Value, expected: Option<Value>, losses: &[&str]) {
        let mut lost = Vec::new();
        assert_eq!(down(&schema, "s", &mut lost), expected, "{schema}");
        let paths: Vec<&str> = lost.iter().map(|loss| &*loss.path).collect();
        assert_eq!(paths, losses, "{schema}");
    }

    #[test]
    fn every_keyword_has_its_fate() {
        check(
            json!({"$schema": "x", "properties": {
                "age": {"type": "integer", "minimum": 0, "maximum": 130, "description": "in years"},
                "name": {"type": ["string", "null"], "minLength": 1, "format": "email"},
                "code": {"type": "string", "format": "int32", "pattern": "^[a-z]{2}$"},
                "word": {"type": "string", "pattern": "\\bx"},
                "tags": {"type": "array", "minItems": 1, "maxItems": 5, "items": {"enum": ["a", 1, null]}},
                "one": {"oneOf": [{"const": 1}, {"type": "null"}]}}, "required": ["age"]}),
            Some(
                json!({"type": "object", "additionalProperties": false, "required": ["age"], "properties": {
                "age": {"type": "integer", "description": "in years\n\n{minimum: 0, maximum: 130}"},
                "name": {"type": ["string", "null"], "format": "email", "description": "{minLength: 1}"},
                "code": {"type": "string", "pattern": "^[a-z]{2}$", "description": "{format: \"int32\"}"},
                "word": {"type": "string", "description": "{pattern: \"\\\\bx\"}"},
                "tags": {"type": "array", "minItems": 1, "items": {"enum": ["a", 1, null]},
                         "description": "{maxItems: 5}"},
                "one": {"anyOf": [{"const": 1}, {"type": "null"}]}}}),
            ),
            &[
                "s.properties.age.minimum",
                "s.properties.age.maximum",
                "s.properties.name.minLength",
                "s.properties.code.format",
                "s.properties.word.pattern",
                "s.properties.tags.maxItems",
            ],
        );
        let closed =
            json!({"type": "object", "properties": {"a": {"type": "string"}}, "additionalProperties": false});
        check(closed.clone(), Some(closed.clone()), &[]);
        let mut open = closed.clone();
        open["additionalProperties"] = true.into();
        check(open, Some(closed), &["s.additionalProperties"]);
        let empty = json!({"type": "object", "additionalProperties": false});
        check(empty.clone(), Some(empty), &[]);
    }

    #[test]
    fn references_stand_alone_and_end() {
        let kept = json!({"$defs": {"p": {"type": "string"}}, "$ref": "#/$defs/p"});
        check(kept.clone(), Some(kept.clone()), &[]);
        let wrapped = json!({"$defs": {"p": {"type": "string"}}, "allOf": [{"$ref": "#/$defs/p"}],
            "title": "t", "description": "d"});
        check(wrapped, Some(kept), &["s.description"]);
        let node = json!({"type": "object", "properties": {"next": {"$ref": "#/$defs/p"}}});
        check(json!({"$defs": {"p": node}, "$ref": "#/$defs/p"}), None, &[]);
        check(json!({"type": "array", "items": {"$ref": "#"}}), None, &[]);
        check(json!({"$ref": "https://x/y"}), None, &[]);
        let twice = json!({"$defs": {"p": {"type": "string"}},
            "anyOf": [{"$ref": "#/$defs/p"}, {"$ref": "#/$defs/p"}]});
        check(twice.clone(), Some(twice), &[]);
    }

    #[test]
    fn what_cannot_be_said_is_not_said_by_halves() {
        let closed = |key: &str| {
            json!({"type": "object", "properties": {key: {"type": "string"}}, "required": [key],
                "additionalProperties": false})
        };
        let mut noted = closed("a");
        noted["description"] = "outer".into();
        let mut inner = closed("a");
        inner["description"] = "inner".into();
        check(json!({"allOf": [inner], "description": "outer", "type": "object"}), Some(noted), &[]);
        for schema in [
            json!(true),
            json!({}),
            json!({"title": "any"}),
            json!({"type": "object"}),
            json!({"type": "object", "additionalProperties": {"type": "string", "minLength": 1}}),
            json!({"type": "object", "properties": {"a": {"type": "string"}}, "additionalProperties": {"type": "string"}}),
            json!({"type": "object", "properties": {"minimum": {"minimum": 1}}}),
            json!({"allOf": [{"type": "string"}, {"pattern": "x"}]}),
            json!({"enum": [{"a": 1}]}),
            json!({"allOf": [closed("a")], "type": "object", "properties": {"b": {"type": "string"}}}),
            json!({"allOf": [closed("a")], "type": "object", "required": ["b"]}),
            json!({"anyOf": [closed("a"), closed("b")], "type": "object",
                "properties": {"c": {"type": "string"}}}),
        ] {
            check(schema, None, &[]);
        }
    }

    #[test]
    fn strict_tools_are_followed_to_the_letter_or_not_at_all() {
        let schema = |more: Value| {
            let mut schema = json!({"type": "object", "properties": {"a": more}});
            schema["required"] = json!(["a"]);
            schema
        };
        let mut exact = schema(json!({"type": "integer"}));
        exact["additionalProperties"] = false.into();
        assert_eq!(strict(&schema(json!({"type": "integer"}))), Some(exact));
        assert_eq!(strict(&schema(json!({"type": "integer", "minimum": 1}))), None);
        assert_eq!(strict(&schema(json!({"type": "object"}))), None);
        let none = json!({"type": "object", "properties": {}, "additionalProperties": false});
        assert_eq!(strict(&json!({"type": "object", "properties": {}})), Some(none));
    }
}
