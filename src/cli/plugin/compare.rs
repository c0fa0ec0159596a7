//! Whether an answer is what a case expects: all that is expected must be there; what is not mentioned may be anything.

use serde_json::{Map, Value};

/// How far numbers may be apart and still be the same: scores are 32 bits long.
const CLOSE: f64 = 1e-4;

/// Says, with its place, everything that is not as expected.
pub(super) fn differences(expected: &Value, found: &Value) -> Vec<String> {
    let mut told = Vec::new();
    compare("", expected, found, &mut told);
    told
}

fn compare(place: &str, expected: &Value, found: &Value, told: &mut Vec<String>) {
    match (expected, found) {
        (Value::Object(conditions), _) if is_condition(conditions) => {
            for (condition, bound) in conditions {
                if !holds(condition, bound, found) {
                    told.push(format!("{}: expected {condition} {bound}, found {found}", shown(place)));
                }
            }
        }
        (Value::Object(expected), Value::Object(found)) => {
            for (key, expected) in expected {
                let inner = if place.is_empty() { key.clone() } else { format!("{place}.{key}") };
                match found.get(key) {
                    Some(found) => compare(&inner, expected, found, told),
                    None if expected.is_null() => {}
                    None => {
                        let keys: Vec<&str> = found.keys().map(String::as_str).collect();
                        told.push(format!(
                            "{inner}: expected {expected}, but there is only {}",
                            keys.join(", ")
                        ));
                    }
                }
            }
        }
        (Value::Array(expected), Value::Array(found)) if expected.len() == found.len() => {
            for (number, (expected, found)) in expected.iter().zip(found).enumerate() {
                compare(&format!("{place}[{number}]"), expected, found, told);
            }
        }
        _ if same(expected, found) => {}
        _ => told.push(format!("{}: expected {expected}, found {found}", shown(place))),
    }
}

fn is_condition(object: &Map<String, Value>) -> bool {
    !object.is_empty() && object.keys().all(|key| ["at_least", "at_most", "contains"].contains(&key.as_str()))
}

fn holds(condition: &str, bound: &Value, found: &Value) -> bool {
    match (condition, bound, found) {
        ("contains", Value::String(part), Value::String(found)) => found.contains(part.as_str()),
        ("contains", part, Value::Array(found)) => {
            found.iter().any(|found| differences(part, found).is_empty())
        }
        (_, Value::Number(bound), Value::Number(found)) => match (bound.as_f64(), found.as_f64()) {
            (Some(bound), Some(found)) if condition == "at_least" => found >= bound - CLOSE,
            (Some(bound), Some(found)) => found <= bound + CLOSE,
            _ => false,
        },
        _ => false,
    }
}

fn same(expected: &Value, found: &Value) -> bool {
    match (expected.as_f64(), found.as_f64()) {
        (Some(expected), Some(found)) => (expected - found).abs() <= CLOSE.max(expected.abs() * 1e-6),
        _ => expected == found,
    }
}

fn shown(place: &str) -> &str {
    if place.is_empty() { "answer" } else { place }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_not_mentioned_may_be_anything() {
        let found = json!({
            "top": "code", "score": 0.899_999_976, "labels": [{ "name": "code" }, { "name": "x" }], "reject": null,
        });
        let check =
            |expected: Value, told: &[&str]| assert_eq!(differences(&expected, &found), told, "{expected}");
        check(json!({ "top": "code", "score": 0.9 }), &[]);
        check(json!({ "score": { "at_least": 0.5, "at_most": 0.95 } }), &[]);
        check(json!({ "labels": { "contains": { "name": "x" } }, "top": { "contains": "od" } }), &[]);
        check(json!({ "labels": [{}, {}], "absent": null, "reject": null }), &[]);
        check(json!({ "top": "art" }), &[r#"top: expected "art", found "code""#]);
        check(
            json!({ "score": { "at_least": 0.95 } }),
            &["score: expected at_least 0.95, found 0.899999976"],
        );
        check(
            json!({ "labels": [{ "name": "x" }] }),
            &[r#"labels: expected [{"name":"x"}], found [{"name":"code"},{"name":"x"}]"#],
        );
        check(json!({ "kind": 1 }), &["kind: expected 1, but there is only top, score, labels, reject"]);
        check(json!({ "reject": { "code": "x" } }), &[r#"reject: expected {"code":"x"}, found null"#]);
    }
}
