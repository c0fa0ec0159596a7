//! Arguments of a function call that come in pieces, each with the JSON path where it belongs:
//! <https://cloud.google.com/vertex-ai/generative-ai/docs/multimodal/function-calling#streaming-fc>

use serde_json::Value;

use crate::chat::Object;

/// No path is longer, and no list has more elements.
const MOST: usize = 4096;

/// Adds one piece (`{jsonPath, stringValue | numberValue | boolValue | nullValue}`) to the arguments.
///
/// Texts at the same path are joined. A path that cannot be read leaves the arguments as they were.
pub(super) fn add(arguments: &mut Object, piece: &Value) {
    let path = piece.get("jsonPath").and_then(Value::as_str).and_then(steps);
    let Some(path) = path.filter(|path| !path.is_empty()) else { return };
    let value = ["stringValue", "numberValue", "boolValue"].iter().find_map(|key| piece.get(*key));
    let value = value.cloned().unwrap_or(Value::Null);
    let mut root = Value::Object(std::mem::take(arguments));
    if let Some(place) = place(&mut root, &path) {
        match (place, value) {
            (Value::String(text), Value::String(more)) => text.push_str(&more),
            (place, value) => *place = value,
        }
    }
    if let Value::Object(object) = root {
        *arguments = object;
    }
}

enum Step {
    Key(String),
    Index(usize),
}

/// `$.a.b[0]['c d']`.
fn steps(path: &str) -> Option<Vec<Step>> {
    if path.len() > MOST {
        return None;
    }
    let mut rest = path.strip_prefix('$')?;
    let mut steps = Vec::new();
    while !rest.is_empty() {
        if let Some(tail) = rest.strip_prefix('.') {
            let end = tail.find(['.', '[']).unwrap_or(tail.len());
            let (key, tail) = tail.split_at(end);
            if key.is_empty() {
                return None;
            }
            steps.push(Step::Key(key.to_owned()));
            rest = tail;
        } else {
            let tail = rest.strip_prefix('[')?;
            let quote = tail.chars().next()?;
            if quote == '\'' || quote == '"' {
                let tail = tail.get(1..)?;
                let end = tail.find(&format!("{quote}]"))?;
                steps.push(Step::Key(tail.get(..end)?.to_owned()));
                rest = tail.get(end + 2..)?;
            } else {
                let end = tail.find(']')?;
                let index = tail.get(..end)?.parse::<usize>().ok().filter(|index| *index < MOST)?;
                steps.push(Step::Index(index));
                rest = tail.get(end + 1..)?;
            }
        }
    }
    (steps.len() <= crate::json::MAX_DEPTH).then_some(steps)
}

fn place<'v>(root: &'v mut Value, path: &[Step]) -> Option<&'v mut Value> {
    let mut here = root;
    for step in path {
        here = match step {
            Step::Key(key) => {
                if here.is_null() {
                    *here = Value::Object(Object::new());
                }
                here.as_object_mut()?.entry(key).or_insert(Value::Null)
            }
            Step::Index(index) => {
                if here.is_null() {
                    *here = Value::Array(Vec::new());
                }
                let list = here.as_array_mut()?;
                if list.len() <= *index {
                    list.resize(*index + 1, Value::Null);
                }
                list.get_mut(*index)?
            }
        };
    }
    Some(here)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn pieces_find_their_place() {
        let mut arguments = Object::new();
        for piece in [
            json!({"jsonPath": "$.city", "stringValue": "New ", "willContinue": true}),
            json!({"jsonPath": "$.city", "stringValue": "Delhi"}),
            json!({"jsonPath": "$.days[1].n", "numberValue": 2}),
            json!({"jsonPath": "$['a b']", "boolValue": true}),
            json!({"jsonPath": "$.none", "nullValue": "NULL_VALUE"}),
            json!({"jsonPath": "$.city.deeper", "stringValue": "x"}),
            json!({"jsonPath": "$.big[99999999]", "stringValue": "x"}),
            json!({"jsonPath": "city", "stringValue": "x"}),
            json!({"jsonPath": "$", "stringValue": "x"}),
            json!({"jsonPath": "$[", "stringValue": "x"}),
            json!({}),
        ] {
            add(&mut arguments, &piece);
        }
        let expected = json!({"city": "New Delhi", "days": [null, {"n": 2}], "a b": true, "none": null});
        assert_eq!(Value::Object(arguments), expected);
    }
}
