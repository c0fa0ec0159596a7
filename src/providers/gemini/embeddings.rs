//! Embeddings in OpenAI's dialect, made by Google: <https://ai.google.dev/api/embeddings>

use bytes::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::{fault, request, usage};
use crate::chat::{Loss, Object};
use crate::fault::Fault;
use crate::json;
use crate::providers::{ClientBody, Outgoing, QuirkSettings, Relayed, vectors};
use crate::target::TargetName;

/// OpenAI's request as `batchEmbedContents`.
///
/// # Errors
/// `BadRequest` for inputs that are token ids: they mean nothing to another tokenizer.
pub(super) fn request(
    body: &ClientBody,
    target: &TargetName,
    quirks: &QuirkSettings,
) -> Result<Outgoing, Fault> {
    let name = if target.model.contains('/') {
        target.model.to_string()
    } else {
        format!("models/{}", target.model)
    };
    let dimensions = body.u64("dimensions");
    let task = vectors::task(body);
    let ask = |text: &str| {
        let mut ask = Object::new();
        ask.insert("model".into(), name.as_str().into());
        ask.insert("content".into(), json!({ "parts": [{ "text": text }] }));
        if let Some(dimensions) = dimensions {
            ask.insert("outputDimensionality".into(), dimensions.into());
        }
        if let Some(task) = &task {
            ask.insert("taskType".into(), (&**task).into());
        }
        Value::Object(ask)
    };
    let requests: Vec<Value> = texts(body)?.iter().map(|text| ask(text)).collect();
    let path = request::path(quirks, &target.model, "batchEmbedContents");
    let bytes = json!({ "requests": requests }).to_string();
    let mut outgoing = request::outgoing(path, false, vec![bytes.into()]);
    outgoing.lost = unknown(body).map(Loss::dropped).collect();
    Ok(outgoing)
}

/// The texts to embed.
///
/// # Errors
/// `BadRequest` for token ids.
pub(super) fn texts(body: &ClientBody) -> Result<Vec<String>, Fault> {
    let raw = body.raw("input").unwrap_or_default();
    let tokens = || Fault::bad_request("this model's provider takes text, not token ids", "input");
    match json::text(raw) {
        Some(text) => Ok(vec![text.into()]),
        None => json::elements(raw).map(|one| json::text(one).map(Into::into).ok_or_else(tokens)).collect(),
    }
}

/// Fields of the request that Google does not know.
pub(super) fn unknown(body: &ClientBody) -> impl Iterator<Item = String> + '_ {
    const KNOWN: &[&str] = &["model", "input", "dimensions", "encoding_format", "task_type", "taskType"];
    let is_told = |key: &str| KNOWN.contains(&key) || key == "input_type" && vectors::task(body).is_some();
    let unknown = body.fields().iter().filter(move |field| !is_told(&field.key) && body.has(&field.key));
    unknown.map(|field| field.key.to_string())
}

/// Google's answer in OpenAI's form: vectors as numbers, or as base64 of little-endian 32-bit floats.
pub(super) fn answer(body: &Bytes, base64: bool) -> Result<Relayed, Fault> {
    let Some(wire) = serde_json::from_slice::<Wire<'_>>(body).ok().filter(|wire| wire.is_answer()) else {
        return Err(match serde_json::from_slice::<Value>(body) {
            Ok(Value::Object(object)) if !fault::is_error(&object) => {
                fault::malformed("the provider's answer has no embeddings")
            }
            Ok(value) => fault::inside_success(&value),
            Err(_) => fault::malformed("the provider's embeddings are not JSON"),
        });
    };
    let usage = wire.usage_metadata.as_ref().and_then(usage::read);
    let vectors = wire.embeddings.iter().flatten().chain(&wire.embedding).map(|embedding| embedding.values);
    vectors::answer(vectors, wire.model_version.as_deref().unwrap_or_default(), usage, base64)
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Wire<'a> {
    #[serde(borrow, default)]
    embeddings: Option<Vec<Embedding<'a>>>,
    /// embedContent's single vector.
    #[serde(borrow, default)]
    embedding: Option<Embedding<'a>>,
    #[serde(default)]
    usage_metadata: Option<Value>,
    #[serde(default)]
    model_version: Option<String>,
}

impl Wire<'_> {
    fn is_answer(&self) -> bool {
        self.embeddings.is_some() || self.embedding.is_some()
    }
}

#[derive(Deserialize)]
struct Embedding<'a> {
    #[serde(borrow)]
    values: &'a RawValue,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(body: Value) -> Result<Outgoing, Fault> {
        let body = json::Body::read(body.to_string().into()).unwrap();
        request(&body, &TargetName::parse("gemini/gemini-embedding-001").unwrap(), &QuirkSettings::default())
    }

    #[test]
    fn inputs_become_requests() {
        let outgoing =
            asked(json!({"model": "m", "input": ["a", "b\n"], "dimensions": 8, "user": "u"})).unwrap();
        assert_eq!(outgoing.path, "/models/gemini-embedding-001:batchEmbedContents");
        let one = |text: &str| json!({"model": "models/gemini-embedding-001", "content": {"parts": [{"text": text}]}, "outputDimensionality": 8});
        let sent: Value = serde_json::from_slice(&outgoing.body.concat()).unwrap();
        assert_eq!(sent, json!({"requests": [one("a"), one("b\n")]}));
        assert_eq!(outgoing.lost, [Loss::dropped("user")]);
        assert!(asked(json!({"model": "m", "input": [1, 2]})).is_err());
    }

    #[test]
    fn vectors_come_in_the_form_that_was_asked_for() {
        let body = Bytes::from_static(
            br#"{"embeddings":[{"values":[0.1, -2.5,0]}],"usageMetadata":{"promptTokenCount":3}}"#,
        );
        let floats: Value = serde_json::from_slice(&answer(&body, false).unwrap().body).unwrap();
        assert_eq!(floats["data"][0]["embedding"], json!([0.1, -2.5, 0]));
        assert_eq!(floats["usage"]["prompt_tokens"], 3);
        let packed: Value = serde_json::from_slice(&answer(&body, true).unwrap().body).unwrap();
        assert_eq!(packed["data"][0]["embedding"], "zczMPQAAIMAAAAAA");
        for broken in ["", "{}", r#"{"embeddings":[{"values":["x"]}]}"#, r#"{"error":{"code":503}}"#, "[]"] {
            assert!(answer(&Bytes::from(broken), false).is_err(), "{broken}");
        }
    }
}
