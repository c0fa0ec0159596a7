//! Whether OpenAI follows a schema to the letter. It refuses those that leave something open, which Anthropic does not:
//! <https://platform.openai.com/docs/guides/structured-outputs#supported-schemas>

use serde_json::Value;

use crate::chat::{Loss, Object};
use crate::providers::schema::{children, is_of_objects};

/// Keywords that such a schema must not have.
const REFUSED: &[&str] = &[
    "allOf",
    "oneOf",
    "not",
    "if",
    "then",
    "else",
    "dependentRequired",
    "dependentSchemas",
    "patternProperties",
];

/// `strict` as it can be sent with this schema; that it stands at `path` is told where it cannot.
pub(in crate::providers) fn strict(
    wanted: Option<bool>,
    schema: Option<&Value>,
    path: impl FnOnce() -> String,
    lost: &mut Vec<Loss>,
) -> Option<bool> {
    if wanted != Some(true) || schema.is_none_or(is_closed) {
        return wanted;
    }
    lost.push(Loss::new(path(), "became false: with it, every key must be required, and no others allowed"));
    Some(false)
}

/// Whether it leaves nothing open. A `default` does not, and is taken: recorded of OpenAI's agents.
fn is_closed(schema: &Value) -> bool {
    let Some(object) = schema.as_object() else { return false };
    let says_something = ["type", "properties", "$ref", "anyOf", "enum", "const"];
    says_something.iter().any(|key| object.contains_key(*key))
        && !REFUSED.iter().any(|key| object.contains_key(*key))
        && (!is_of_objects(object) || requires_all(object))
        && children(object).all(is_closed)
}

fn requires_all(object: &Object) -> bool {
    let required = object.get("required").and_then(Value::as_array);
    let is_required =
        |key: &String| required.is_some_and(|required| required.iter().any(|known| known == key));
    object.get("additionalProperties") == Some(&Value::Bool(false))
        && object
            .get("properties")
            .and_then(Value::as_object)
            .is_none_or(|known| known.keys().all(is_required))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn open_schemas_are_not_followed_to_the_letter() {
        let text = || json!({"type": "string"});
        let object = |properties: Value, required: Value| json!({"type": "object", "properties": properties, "required": required, "additionalProperties": false});
        let open = json!({"type": "object", "properties": {"a": text()}, "required": ["a"]});
        for (schema, kept) in [
            (object(json!({"a": text(), "b": text()}), json!(["b", "a"])), true),
            (object(json!({"a": text(), "b": text()}), json!(["a"])), false),
            (object(json!({"a": open}), json!(["a"])), false),
            (object(json!({"a": {"type": "array", "items": open}}), json!(["a"])), false),
            (object(json!({"a": {"anyOf": [text(), {"type": "null"}]}}), json!(["a"])), true),
            (object(json!({"a": {"oneOf": [text()]}}), json!(["a"])), false),
            (object(json!({"a": {}}), json!(["a"])), false),
            (object(json!({"default": text()}), json!(["default"])), true),
            (object(json!({"a": {"type": "string", "default": "x"}}), json!(["a"])), true),
            (json!({"type": "object", "additionalProperties": false}), true),
            (json!({"type": "object", "properties": {}}), false),
        ] {
            let mut lost = Vec::new();
            let sent = strict(Some(true), Some(&schema), || "s".to_owned(), &mut lost);
            assert_eq!((sent, lost.is_empty()), (Some(kept), kept), "{schema}");
            for loose in [None, Some(false)] {
                assert_eq!(strict(loose, Some(&schema), || "s".to_owned(), &mut lost), loose);
            }
        }
    }
}
