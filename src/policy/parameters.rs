//! Parameters of a request that `.set(…)` changes: which there are, and what they take.

use rhai::{Array, Dynamic, Map};
use serde_json::{Number, Value};

use super::request::{Outcome, fault, kind};
use super::suggest::closest;

/// Parameters that have the same name in policies whatever the client's dialect calls them, and what they take.
pub(super) const KNOWN: [(&str, Takes); 11] = [
    ("temperature", Takes::Number),
    ("top_p", Takes::Number),
    ("top_k", Takes::Whole),
    ("max_tokens", Takes::Whole),
    ("stop", Takes::Texts),
    ("seed", Takes::Whole),
    ("n", Takes::Whole),
    ("presence_penalty", Takes::Number),
    ("frequency_penalty", Takes::Number),
    ("reasoning_effort", Takes::Text),
    ("service_tier", Takes::Text),
];

/// Fields that are no parameters, and what to write instead.
const OTHERS: [(&str, &str); 13] = [
    ("model", "the model is chosen by `route(…)`"),
    ("stream", "whether it is streamed is the client's choice"),
    ("stream_options", "whether it is streamed is the client's choice"),
    ("messages", "a prompt is changed by `redact` or by a plugin"),
    ("system", "a prompt is changed by `redact` or by a plugin"),
    ("input", "a prompt is changed by `redact` or by a plugin"),
    ("instructions", "a prompt is changed by `redact` or by a plugin"),
    ("prompt", "a prompt is changed by `redact` or by a plugin"),
    ("contents", "a prompt is changed by `redact` or by a plugin"),
    ("systemInstruction", "a prompt is changed by `redact` or by a plugin"),
    ("system_instruction", "a prompt is changed by `redact` or by a plugin"),
    ("tools", "tools are the client's choice"),
    ("generationConfig", "name the parameter itself, such as `temperature`"),
];

/// What a parameter takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Takes {
    Number,
    Whole,
    Text,
    Texts,
}

/// Why a parameter of this name cannot be set, if so.
pub(super) fn problem(name: &str) -> Option<String> {
    if name.is_empty() {
        return Some("set: the parameter's name is empty".into());
    }
    if let Some((_, instead)) = OTHERS.iter().find(|(other, _)| *other == name) {
        return Some(format!("set: `{name}` cannot be set: {instead}"));
    }
    let known = || KNOWN.iter().map(|(known, _)| *known);
    if known().any(|known| known == name) {
        return None;
    }
    // Vendors have parameters of their own; but what looks like a slip is one.
    let meant = closest(name, known()).filter(|_| name.len() > 4)?;
    Some(format!("set: unknown parameter `{name}` (did you mean `{meant}`?)"))
}

/// The value as JSON, if it is one that the parameter takes.
pub(super) fn value(name: &str, given: &Dynamic) -> Outcome<Value> {
    let value = json(name, given)?;
    let takes = KNOWN.iter().find(|(known, _)| *known == name).map(|(_, takes)| *takes);
    let wanted = match (takes, &value) {
        (None, _) | (_, Value::Null) => return Ok(value),
        (Some(Takes::Number), Value::Number(_)) => return Ok(value),
        (Some(Takes::Whole), Value::Number(number)) if number.as_u64().is_some() => return Ok(value),
        (Some(Takes::Text), Value::String(_)) => return Ok(value),
        (Some(Takes::Texts), Value::String(_)) => return Ok(Value::Array(vec![value])),
        (Some(Takes::Texts), Value::Array(all)) if all.iter().all(Value::is_string) => return Ok(value),
        (Some(Takes::Number), _) => "a number",
        (Some(Takes::Whole), _) => "a whole number, not below 0",
        (Some(Takes::Text), _) => "a text",
        (Some(Takes::Texts), _) => "a text or a list of texts",
    };
    Err(fault(format!("set: `{name}` takes {wanted}, not '{given}'")))
}

fn json(name: &str, given: &Dynamic) -> Outcome<Value> {
    if given.is_unit() {
        return Ok(Value::Null);
    }
    if let Ok(truth) = given.as_bool() {
        return Ok(truth.into());
    }
    if let Ok(whole) = given.as_int() {
        return Ok(whole.into());
    }
    if let Ok(number) = given.as_float() {
        let number = Number::from_f64(number);
        return number
            .map(Value::Number)
            .ok_or_else(|| fault(format!("set: `{name}` is not a finite number")));
    }
    if let Ok(text) = given.as_immutable_string_ref() {
        return Ok(text.as_str().into());
    }
    if let Some(list) = given.read_lock::<Array>() {
        return list.iter().map(|one| json(name, one)).collect::<Outcome<_>>().map(Value::Array);
    }
    if let Some(map) = given.read_lock::<Map>() {
        let entries = map.iter().map(|(key, one)| Ok((key.to_string(), json(name, one)?)));
        return entries.collect::<Outcome<_>>().map(Value::Object);
    }
    Err(fault(format!("set: `{name}` cannot be {}", kind(given))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_parameter_is_explained() {
        for (name, said) in [
            ("temperature", None),
            ("logit_bias", None),
            ("temprature", Some("set: unknown parameter `temprature` (did you mean `temperature`?)")),
            ("model", Some("set: `model` cannot be set: the model is chosen by `route(…)`")),
            ("", Some("set: the parameter's name is empty")),
        ] {
            assert_eq!(problem(name).as_deref(), said);
        }
    }

    #[test]
    fn values_are_those_that_the_parameter_takes() {
        let good = |name: &str, given: Dynamic| value(name, &given).unwrap().to_string();
        assert_eq!(good("temperature", 0.2.into()), "0.2");
        assert_eq!(good("stop", "x".into()), "[\"x\"]");
        assert_eq!(good("top_k", Dynamic::UNIT), "null");
        assert_eq!(good("logit_bias", Dynamic::from(Map::from([("7".into(), 1_i64.into())]))), "{\"7\":1}");
        let bad = |name: &str, given: Dynamic| value(name, &given).unwrap_err().to_string();
        assert!(bad("temperature", "hot".into()).contains("`temperature` takes a number, not 'hot'"));
        assert!(bad("max_tokens", (-1_i64).into()).contains("a whole number"));
        assert!(bad("temperature", f64::NAN.into()).contains("finite"));
    }
}
