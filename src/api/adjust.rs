//! Parameters that policies set (`.set("temperature", 0.2)`) and read, in the place where each client dialect keeps them.
//!
//! They are changed in the client's own words: from there on they go out, spliced or translated, like the client's own.

use std::borrow::Cow;
use std::sync::Arc;

use bytes::Bytes;
use serde_json::{Map, Value};

use crate::fault::{Fault, FaultKind};
use crate::json::{self, Body, Splice};

/// Where a dialect keeps parameters that it does not keep under their own names at the top.
#[derive(Debug)]
pub(super) struct Places {
    /// By a parameter's name: where it stands.
    named: &'static [(&'static str, Place)],
    /// Whether parameters without a place of their own stand at the top; otherwise the dialect has no others.
    open: bool,
}

#[derive(Debug)]
enum Place {
    /// At the top, under the first of these names that is there, else under the first.
    Top(&'static [&'static str]),
    /// In one of these objects (the same by several names), under one of these names.
    In(&'static [&'static str], &'static [&'static str]),
    /// In an object within `generationConfig`.
    Deep(&'static str, &'static str),
    /// The dialect has no such thing.
    Nowhere,
}
use Place::{Deep, In, Nowhere, Top};

/// OpenAI's chat, completions and whatever keeps parameters under the names that policies have for them.
pub(super) const CHAT: Places =
    Places { named: &[("max_tokens", Top(&["max_completion_tokens", "max_tokens"]))], open: true };

/// OpenAI's legacy completions.
pub(super) const PLAIN: Places = Places { named: &[], open: true };

/// Embeddings: nothing is written, so nothing of what steers writing has a place.
pub(super) const EMBEDDINGS: Places = Places {
    named: &[
        ("temperature", Nowhere),
        ("top_p", Nowhere),
        ("top_k", Nowhere),
        ("max_tokens", Nowhere),
        ("stop", Nowhere),
        ("seed", Nowhere),
        ("n", Nowhere),
        ("presence_penalty", Nowhere),
        ("frequency_penalty", Nowhere),
        ("reasoning_effort", Nowhere),
        ("service_tier", Nowhere),
    ],
    open: true,
};

/// OpenAI's Responses.
pub(super) const RESPONSES: Places = Places {
    named: &[
        ("max_tokens", Top(&["max_output_tokens"])),
        ("reasoning_effort", In(&["reasoning"], &["effort"])),
        ("stop", Nowhere),
        ("seed", Nowhere),
        ("n", Nowhere),
        ("top_k", Nowhere),
        ("presence_penalty", Nowhere),
        ("frequency_penalty", Nowhere),
    ],
    open: true,
};

/// Anthropic's messages.
pub(super) const MESSAGES: Places = Places {
    named: &[
        ("stop", Top(&["stop_sequences"])),
        ("reasoning_effort", In(&["output_config"], &["effort"])),
        ("seed", Nowhere),
        ("n", Nowhere),
        ("presence_penalty", Nowhere),
        ("frequency_penalty", Nowhere),
    ],
    open: true,
};

const CONFIG: &[&str] = &["generationConfig", "generation_config"];

/// Gemini's contents.
pub(super) const CONTENTS: Places = Places {
    named: &[
        ("temperature", In(CONFIG, &["temperature"])),
        ("top_p", In(CONFIG, &["topP", "top_p"])),
        ("top_k", In(CONFIG, &["topK", "top_k"])),
        ("max_tokens", In(CONFIG, &["maxOutputTokens", "max_output_tokens"])),
        ("stop", In(CONFIG, &["stopSequences", "stop_sequences"])),
        ("seed", In(CONFIG, &["seed"])),
        ("n", In(CONFIG, &["candidateCount", "candidate_count"])),
        ("presence_penalty", In(CONFIG, &["presencePenalty", "presence_penalty"])),
        ("frequency_penalty", In(CONFIG, &["frequencyPenalty", "frequency_penalty"])),
        ("reasoning_effort", Deep("thinkingConfig", "thinkingLevel")),
        ("service_tier", Nowhere),
    ],
    open: true,
};

impl Places {
    /// The JSON text of a parameter.
    pub(super) fn find<'a>(&self, body: &'a Body, name: &str) -> Option<&'a str> {
        let within = |object: &'a str, names: &[&str]| {
            json::entries(object).find(|(key, _)| names.contains(&&**key)).map(|(_, value)| value)
        };
        match self.place(name) {
            None => body.raw(name),
            Some(Top(names)) => names.iter().find_map(|name| body.raw(name)),
            Some(In(objects, names)) => within(objects.iter().find_map(|object| body.raw(object))?, names),
            Some(Deep(object, name)) => {
                let config = CONFIG.iter().find_map(|object| body.raw(object))?;
                within(within(config, &[object])?, &[name])
            }
            Some(Nowhere) => None,
        }
    }

    /// The body with these parameters; names of those that the dialect does not have are put into `missing`.
    ///
    /// # Errors
    /// An object that holds parameters is none.
    pub(super) fn set(
        &self,
        body: &Body,
        parameters: &[(Arc<str>, Value)],
        missing: &mut Vec<Arc<str>>,
    ) -> Result<Body, Fault> {
        let mut body = Cow::Borrowed(body);
        for (name, value) in parameters {
            let changed = match self.place(name) {
                None if self.open => one(&body, &[name], value),
                Some(Top(names)) => one(&body, names, value),
                Some(In(objects, names)) => nested(&body, objects, value, |object, value| {
                    put(object, names, value);
                    Some(())
                })?,
                Some(Deep(outer, name)) => nested(&body, CONFIG, value, |config, value| {
                    let inner = config.entry(*outer).or_insert_with(|| Value::Object(Map::new()));
                    put(inner.as_object_mut()?, &[name], value);
                    Some(())
                })?,
                None | Some(Nowhere) => {
                    missing.push(name.clone());
                    continue;
                }
            };
            body = Cow::Owned(Body::read(changed)?);
        }
        Ok(body.into_owned())
    }

    fn place(&self, name: &str) -> Option<&'static Place> {
        self.named.iter().find(|(known, _)| *known == name).map(|(_, place)| place)
    }
}

fn one(body: &Body, names: &[&str], value: &Value) -> Bytes {
    let there = names.iter().find(|name| body.field(name).is_some()).or(names.first());
    let mut splice = Splice::new(body);
    match there {
        Some(name) if value.is_null() => drop(splice.remove(name)),
        Some(name) => drop(splice.set(name, value.to_string())),
        None => {}
    }
    splice.finish().concat().into()
}

fn nested(
    body: &Body,
    objects: &[&str],
    value: &Value,
    change: impl FnOnce(&mut Map<String, Value>, &Value) -> Option<()>,
) -> Result<Bytes, Fault> {
    let (first, wrong) = (objects.first().copied().unwrap_or_default(), "is not an object");
    let name = objects.iter().copied().find(|name| body.field(name).is_some()).unwrap_or(first);
    let bad = || Fault::bad_request(format!("`{name}` {wrong}"), name.to_owned());
    let mut object = match body.raw(name).map(serde_json::from_str) {
        None | Some(Ok(Value::Null)) => Map::new(),
        Some(Ok(Value::Object(object))) => object,
        Some(_) => return Err(bad()),
    };
    change(&mut object, value).ok_or_else(bad)?;
    let mut splice = Splice::new(body);
    splice.set(name, Value::Object(object).to_string());
    Ok(splice.finish().concat().into())
}

/// The value under the first of these names that is there, else under the first.
fn put(object: &mut Map<String, Value>, names: &[&str], value: &Value) {
    let there = names.iter().copied().find(|name| object.contains_key(*name));
    let Some(name) = there.or(names.first().copied()) else { return };
    if value.is_null() {
        object.shift_remove(name);
    } else {
        object.insert(name.to_owned(), value.clone());
    }
}

/// What a request that a policy changed cannot be: the policy's fault, not the client's.
pub(super) fn blamed(fault: &Fault) -> Fault {
    Fault::new(FaultKind::Policy, format!("a policy set a parameter that cannot be: {}", fault.message))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn body(text: &str) -> Body {
        Body::read(Bytes::from(text.to_owned())).unwrap()
    }

    #[test]
    fn parameters_stand_where_the_dialect_keeps_them() {
        let chat = r#"{"model":"m","max_tokens":5,"temperature":1}"#;
        let gemini = r#"{"contents":[],"generation_config":{"top_p":0.5}}"#;
        for (places, before, name, value, after) in [
            (&CHAT, chat, "temperature", json!(0.2), r#"{"model":"m","max_tokens":5,"temperature":0.2}"#),
            (&CHAT, chat, "max_tokens", json!(9), r#"{"model":"m","max_tokens":9,"temperature":1}"#),
            (&CHAT, r#"{"model":"m"}"#, "max_tokens", json!(9), r#"{"model":"m","max_completion_tokens":9}"#),
            (&CHAT, chat, "temperature", json!(null), r#"{"model":"m","max_tokens":5}"#),
            (&CHAT, r#"{"model":"m"}"#, "stop", json!(["x"]), r#"{"model":"m","stop":["x"]}"#),
            (&MESSAGES, r#"{"model":"m"}"#, "stop", json!(["x"]), r#"{"model":"m","stop_sequences":["x"]}"#),
            (
                &MESSAGES,
                r#"{"output_config":{"format":1}}"#,
                "reasoning_effort",
                json!("low"),
                r#"{"output_config":{"format":1,"effort":"low"}}"#,
            ),
            (&RESPONSES, "{}", "max_tokens", json!(9), r#"{"max_output_tokens":9}"#),
            (&RESPONSES, "{}", "reasoning_effort", json!("low"), r#"{"reasoning":{"effort":"low"}}"#),
            (&CONTENTS, gemini, "top_p", json!(0.1), r#"{"contents":[],"generation_config":{"top_p":0.1}}"#),
            (&CONTENTS, "{}", "max_tokens", json!(9), r#"{"generationConfig":{"maxOutputTokens":9}}"#),
            (
                &CONTENTS,
                "{}",
                "reasoning_effort",
                json!("low"),
                r#"{"generationConfig":{"thinkingConfig":{"thinkingLevel":"low"}}}"#,
            ),
        ] {
            let mut missing = Vec::new();
            let set = places.set(&body(before), &[(name.into(), value.clone())], &mut missing).unwrap();
            assert_eq!(std::str::from_utf8(set.bytes()).unwrap(), after, "{name} in {before}");
            assert!(missing.is_empty());
            let found = places.find(&set, name).map(|raw| serde_json::from_str::<Value>(raw).unwrap());
            assert_eq!(found.unwrap_or_default(), value, "{after}");
        }
    }

    #[test]
    fn what_a_dialect_lacks_is_named() {
        let mut missing = Vec::new();
        let set = MESSAGES.set(&body("{}"), &[("seed".into(), json!(1))], &mut missing).unwrap();
        assert_eq!((set.bytes().as_ref(), missing), (b"{}".as_slice(), vec!["seed".into()]));
        let mut missing = Vec::new();
        let both = [("temperature".into(), json!(1)), ("dimensions".into(), json!(9))];
        let set = EMBEDDINGS.set(&body("{}"), &both, &mut missing).unwrap();
        assert_eq!(
            (set.bytes().as_ref(), missing),
            (br#"{"dimensions":9}"#.as_slice(), vec!["temperature".into()])
        );
        let wrong =
            CONTENTS.set(&body(r#"{"generationConfig":7}"#), &[("seed".into(), json!(1))], &mut Vec::new());
        assert_eq!(
            wrong.err().map(|fault| fault.message.to_string()).as_deref(),
            Some("`generationConfig` is not an object")
        );
    }
}
