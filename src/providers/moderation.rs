//! Moderation in OpenAI's form, and what Mistral makes of it.
//!
//! <https://platform.openai.com/docs/api-reference/moderations>,
//! <https://docs.mistral.ai/capabilities/guardrailing/>

use bytes::Bytes;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::openai::fault as openai;
use super::{ClientBody, Outgoing, Relayed, foreign};
use crate::chat::{Loss, Object, Usage};
use crate::fault::{Fault, FaultKind};
use crate::json::{self, Splice};
use crate::target::TargetName;

/// How a vendor moderates.
#[derive(Debug, Clone, Default, Deserialize, Serialize, JsonSchema, PartialEq)]
#[serde(deny_unknown_fields, default)]
pub struct ModerationQuirks {
    /// Path below the base URL, by default `/moderations`.
    pub path: Option<String>,
    /// The model for clients who name none.
    pub model: String,
    /// Inputs must be strings: typed parts are joined, pictures refused, unknown fields removed.
    pub texts_only: bool,
}

/// Mistral's categories in OpenAI's words, where there is one that means the same.
const CATEGORIES: &[(&str, &str)] = &[
    ("sexual", "sexual"),
    ("hate_and_discrimination", "hate"),
    ("violence_and_threats", "violence"),
    ("selfharm", "self-harm"),
    ("dangerous_and_criminal_content", "illicit"),
    ("criminal", "illicit"),
    ("dangerous", "illicit/violent"),
];

/// How many results a whole answer has: one for each text of a list, one for anything else.
pub fn results(body: &ClientBody) -> usize {
    let raw = body.raw("input").unwrap_or_default();
    match json::elements(raw).next() {
        Some(first) if first.starts_with('"') => body.field("input").map_or(1, |field| field.items),
        _ => 1,
    }
}

/// The client's bytes as this vendor takes them.
///
/// # Errors
/// `BadRequest` for pictures at a vendor that reads text alone.
pub(super) fn request(
    body: &ClientBody,
    target: &TargetName,
    quirks: &ModerationQuirks,
) -> Result<Outgoing, Fault> {
    let mut lost = Vec::new();
    let mut splice = Splice::new(body);
    splice.set_text("model", &target.model);
    if quirks.texts_only {
        let raw = body.raw("input").unwrap_or_default();
        if json::elements(raw).next().is_some_and(|first| first.starts_with('{')) {
            let mut text = Vec::new();
            json::write_text(&mut text, &joined(raw)?);
            splice.set("input", text);
        }
        for field in body.fields().iter().filter(|field| !matches!(&*field.key, "model" | "input")) {
            splice.remove(&field.key);
            if body.has(&field.key) {
                lost.push(Loss::dropped(field.key.to_string()));
            }
        }
    }
    let path = quirks.path.as_deref().unwrap_or("/moderations").to_owned();
    let mut outgoing = Outgoing::json(path, "application/json", splice.finish());
    outgoing.lost = lost;
    Ok(outgoing)
}

/// The texts of typed parts, which are judged together.
fn joined(raw: &str) -> Result<String, Fault> {
    let mut text = String::new();
    for (at, part) in json::elements(raw).enumerate() {
        let said = json::entries(part).find(|(key, _)| key == "text").and_then(|(_, raw)| json::text(raw));
        let Some(said) = said else {
            return foreign::cannot("pictures to moderate", &format!("input[{at}]"));
        };
        if at > 0 {
            text.push('\n');
        }
        text.push_str(&said);
    }
    Ok(text)
}

/// What of an answer decides whether it can go on as it came.
#[derive(Deserialize)]
struct Peek {
    results: Vec<PeekResult>,
}

#[derive(Deserialize)]
#[allow(dead_code, reason = "read for its form alone")]
struct PeekResult {
    flagged: bool,
    categories: Object,
    category_scores: Object,
}

/// The answer for the client; OpenAI's own goes on as the bytes that came.
///
/// # Errors
/// `Malformed` when it is no answer, or judges another number of inputs; the vendor's own fault when it is an error
/// object.
pub(super) fn answer(body: Bytes, inputs: usize, now_ms: u64) -> Result<Relayed, Fault> {
    let complete = |judged: usize| {
        let text = || format!("the provider judged {judged} of {inputs} inputs");
        if judged == inputs { Ok(()) } else { Err(Fault::new(FaultKind::Malformed, text())) }
    };
    if let Ok(peek) = serde_json::from_slice::<Peek>(&body) {
        complete(peek.results.len())?;
        return Ok(Relayed { body, usage: None, finish: None, lost: Vec::new() });
    }
    let value: Value = serde_json::from_slice(&body)
        .map_err(|_| Fault::new(FaultKind::Malformed, "the provider's judgement is not JSON"))?;
    let Value::Object(mut object) = value else { return Err(openai::inside_success(&value, now_ms)) };
    let Some(Value::Array(results)) = object.get_mut("results") else {
        return Err(openai::inside_success(&Value::Object(object), now_ms));
    };
    complete(results.len())?;
    for result in results.iter_mut() {
        let Value::Object(fields) = result else {
            return Err(Fault::new(FaultKind::Malformed, "the provider sent a judgement that is none"));
        };
        fill(fields)?;
    }
    let counted = object.get("usage").and_then(|usage| usage.get("prompt_tokens")?.as_u64());
    let usage = counted.map(|input| Usage { input: input.min(1 << 40), ..Usage::default() });
    Ok(Relayed { body: Value::Object(object).to_string().into(), usage, finish: None, lost: Vec::new() })
}

/// Adds what OpenAI's clients look for; the vendor's own categories stay.
fn fill(result: &mut Object) -> Result<(), Fault> {
    let malformed = || Fault::new(FaultKind::Malformed, "the provider sent a judgement without categories");
    let Some(Value::Object(categories)) = result.get("categories") else { return Err(malformed()) };
    if !categories.values().all(Value::is_boolean) {
        return Err(malformed());
    }
    let flagged = categories.values().any(|flag| *flag == true);
    for key in ["categories", "category_scores"] {
        if let Some(Value::Object(named)) = result.get_mut(key) {
            for (own, theirs) in CATEGORIES {
                if let Some(value) = named.get(*own).cloned() {
                    named.entry(*theirs).or_insert(value);
                }
            }
        }
    }
    if !result.get("category_scores").is_some_and(Value::is_object) {
        return Err(malformed());
    }
    let names = result.get("categories").and_then(Value::as_object).into_iter().flat_map(Object::keys);
    let texts: Object = names.map(|name| (name.clone(), json!(["text"]))).collect();
    result.entry("flagged").or_insert(flagged.into());
    result.entry("category_applied_input_types").or_insert(Value::Object(texts));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(input: Value, texts_only: bool) -> Result<(Value, Vec<Loss>), Fault> {
        let body = json!({"model": "m", "input": input, "user": "u"});
        let body = ClientBody::read(body.to_string().into()).unwrap();
        let quirks = ModerationQuirks { texts_only, ..ModerationQuirks::default() };
        let outgoing = request(&body, &TargetName::parse("p/judge").unwrap(), &quirks)?;
        assert_eq!(outgoing.path, "/moderations");
        Ok((serde_json::from_slice(&outgoing.body.concat()).unwrap(), outgoing.lost))
    }

    #[test]
    fn inputs_go_out_as_the_vendor_takes_them() {
        let parts = json!([{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]);
        let picture = json!([{"type": "image_url", "image_url": {"url": "https://x"}}]);
        assert_eq!(
            sent(picture.clone(), false).unwrap().0,
            json!({"model": "judge", "input": picture, "user": "u"})
        );
        for (input, expected) in
            [(json!("a"), json!("a")), (json!(["a", "b"]), json!(["a", "b"])), (parts, json!("a\nb"))]
        {
            let (said, lost) = sent(input, true).unwrap();
            assert_eq!(said, json!({"model": "judge", "input": expected}));
            assert_eq!(lost, [Loss::dropped("user")]);
        }
        assert_eq!(sent(picture, true).unwrap_err().param.as_deref(), Some("input[0]"));
    }

    #[test]
    fn mistrals_judgement_becomes_openais() {
        let body = json!({"id": "x", "model": "mistral-moderation-latest", "usage": {"prompt_tokens": 7}, "results": [{
            "categories": {"sexual": false, "violence_and_threats": true, "pii": false},
            "category_scores": {"sexual": 0.1, "violence_and_threats": 0.9, "pii": 0.2}}]});
        let relayed = answer(body.to_string().into(), 1, 0).unwrap();
        let said: Value = serde_json::from_slice(&relayed.body).unwrap();
        let result = &said["results"][0];
        assert_eq!((&result["flagged"], relayed.usage.unwrap().input), (&json!(true), 7));
        assert_eq!(
            result["categories"],
            json!({"sexual": false, "violence_and_threats": true, "pii": false, "violence": true})
        );
        assert_eq!(result["category_scores"]["violence"], 0.9);
        assert_eq!(result["category_applied_input_types"]["pii"], json!(["text"]));
    }

    #[test]
    fn openais_own_judgement_is_not_touched_and_a_wrong_one_is_a_fault() {
        let body = r#"{ "id":"x","results":[{"flagged":false,"categories":{"hate":false},"category_scores":{"hate":1e-9}}]}"#;
        assert_eq!(answer(body.into(), 1, 0).unwrap().body, body);
        for broken in [
            body.replace("[{", "[{\"flagged\":false,\"categories\":{},\"category_scores\":{}},{"),
            r#"{"results":[]}"#.into(),
            r#"{"results":[{"categories":{"a":1},"category_scores":{}}]}"#.into(),
            r#"{"results":[{"categories":{"a":true}}]}"#.into(),
            r#"{"error":{"message":"x"}}"#.into(),
            "[]".into(),
            "<html>".into(),
        ] {
            assert!(answer(broken.clone().into(), 1, 0).is_err(), "{broken}");
        }
    }

    #[test]
    fn a_list_of_texts_has_as_many_results() {
        for (input, expected) in [
            (json!("a"), 1),
            (json!(["a", "b"]), 2),
            (json!([{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]), 1),
        ] {
            let body = ClientBody::read(json!({ "input": input }).to_string().into()).unwrap();
            assert_eq!(results(&body), expected, "{input}");
        }
    }
}
