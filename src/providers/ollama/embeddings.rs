//! Embeddings in OpenAI's dialect, made by Ollama: <https://docs.ollama.com/api/embed>

use bytes::Bytes;
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use super::{encode, fault};
use crate::chat::{Loss, Object, Usage};
use crate::fault::Fault;
use crate::json;
use crate::providers::{ClientBody, Outgoing, QuirkSettings, Relayed, vectors};
use crate::target::TargetName;

/// Ollama's own fields, which a client may name beside OpenAI's.
const OWN: &[&str] = &["dimensions", "truncate", "keep_alive"];

/// OpenAI's request as one of `/api/embed`.
///
/// # Errors
/// `BadRequest` for inputs that are token ids: they mean nothing to another tokenizer.
pub(super) fn request(
    body: &ClientBody,
    target: &TargetName,
    quirks: &QuirkSettings,
) -> Result<Outgoing, Fault> {
    let raw = body.raw("input").unwrap_or_default();
    let tokens = || Fault::bad_request("this model's provider takes text, not token ids", "input");
    let input = match json::text(raw) {
        Some(text) => Value::from(&*text),
        None => json::elements(raw)
            .map(|element| json::text(element).map(|text| Value::from(&*text)).ok_or_else(tokens))
            .collect::<Result<_, _>>()?,
    };
    let mut asked = Object::new();
    asked.insert("model".into(), (&*target.model).into());
    asked.insert("input".into(), input);
    let parsed = |field: &str| body.raw(field).and_then(|raw| serde_json::from_str::<Value>(raw).ok());
    for field in OWN {
        if let Some(value) = parsed(field).filter(|value| !value.is_null()) {
            asked.insert((*field).into(), value);
        }
    }
    let mut options = match parsed("options") {
        Some(Value::Object(options)) => options,
        _ => Object::new(),
    };
    encode::defaults(quirks, &mut asked, &mut options);
    // `think` and its like mean nothing here.
    asked.retain(|field, _| matches!(field.as_str(), "model" | "input") || OWN.contains(&field.as_str()));
    if !options.is_empty() {
        asked.insert("options".into(), Value::Object(options));
    }
    let path = quirks.embeddings_path.as_deref().unwrap_or("/api/embed").to_owned();
    let bytes = Value::Object(asked).to_string();
    let mut outgoing = Outgoing::json(path, "application/json", vec![bytes.into()]);
    let known =
        |key: &str| OWN.contains(&key) || matches!(key, "model" | "input" | "encoding_format" | "options");
    let unknown = body.fields().iter().filter(|field| !known(&field.key) && body.has(&field.key));
    outgoing.lost = unknown.map(|field| Loss::dropped(field.key.to_string())).collect();
    Ok(outgoing)
}

/// Ollama's answer in OpenAI's form.
pub(super) fn answer(body: &Bytes, base64: bool, now_ms: u64) -> Result<Relayed, Fault> {
    let Ok(wire) = serde_json::from_slice::<Wire<'_>>(body) else {
        return Err(match serde_json::from_slice::<Value>(body) {
            Ok(value) if value.get("error").is_some() => fault::inside_success(&value, now_ms),
            Ok(_) => fault::malformed("the provider's answer has no embeddings"),
            Err(_) => fault::malformed("the provider's embeddings are not JSON"),
        });
    };
    let usage = wire.prompt_eval_count.map(|input| Usage { input, ..Usage::default() });
    vectors::answer(wire.embeddings.into_iter(), wire.model.as_deref().unwrap_or_default(), usage, base64)
}

#[derive(Deserialize)]
struct Wire<'a> {
    #[serde(default)]
    model: Option<String>,
    #[serde(borrow)]
    embeddings: Vec<&'a RawValue>,
    #[serde(default)]
    prompt_eval_count: Option<u64>,
}
