//! Embeddings in OpenAI's dialect, made by Cohere: <https://docs.cohere.com/reference/embed>

use bytes::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::{fault, usage};
use crate::chat::{Loss, Object};
use crate::fault::Fault;
use crate::json;
use crate::providers::{ClientBody, Outgoing, QuirkSettings, Relayed, vectors};
use crate::target::TargetName;

/// What a client may say beside OpenAI's own fields, in Cohere's words.
const OWN: &[&str] = &["truncate", "max_tokens", "priority"];
const KNOWN: &[&str] = &["model", "input", "dimensions", "encoding_format", "input_type", "embedding_types"];

/// OpenAI's request as one of embed v2. An input that is a `data:` URL of an image is an image.
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
    let inputs: Vec<String> = match json::text(raw) {
        Some(text) => vec![text.into_owned()],
        None => json::elements(raw)
            .map(|element| json::text(element).map(|text| text.into_owned()).ok_or_else(tokens))
            .collect::<Result<_, _>>()?,
    };
    let images = inputs.iter().filter(|input| vectors::is_image(input)).count();
    let mut asked = Object::new();
    asked.insert("model".into(), (&*target.model).into());
    let all = inputs.len();
    let (field, value) = match images {
        0 => ("texts", json!(inputs)),
        n if n == all => ("images", json!(inputs)),
        _ => ("inputs", inputs.iter().map(|input| mixed(input)).collect()),
    };
    asked.insert(field.into(), value);
    // Newer models demand to know what a text is for; what a client stores is the usual case.
    let usual = if images > 0 && images == all { "image" } else { "search_document" };
    let purpose = vectors::input_type(body);
    asked.insert("input_type".into(), purpose.as_deref().unwrap_or(usual).into());
    asked.insert("embedding_types".into(), json!(["float"]));
    if let Some(dimensions) = body.u64("dimensions") {
        asked.insert("output_dimension".into(), dimensions.into());
    }
    for field in OWN {
        if let Some(value) = body.raw(field).and_then(|raw| serde_json::from_str::<Value>(raw).ok()) {
            asked.insert((*field).into(), value);
        }
    }
    let path = quirks.embeddings_path.as_deref().unwrap_or("/embed").to_owned();
    let bytes = Value::Object(asked).to_string();
    let mut outgoing = Outgoing::json(path, "application/json", vec![bytes.into()]);
    let is_told =
        |key: &str| KNOWN.contains(&key) || OWN.contains(&key) || vectors::is_task(key) && purpose.is_some();
    let unknown = body.fields().iter().filter(|field| !is_told(&field.key) && body.has(&field.key));
    outgoing.lost = unknown.map(|field| Loss::dropped(field.key.to_string())).collect();
    if body.raw("embedding_types").is_some_and(|types| !matches!(types, r#"["float"]"# | "null")) {
        outgoing.lost.push(Loss::new("embedding_types", "became [\"float\"]"));
    }
    Ok(outgoing)
}

fn mixed(input: &str) -> Value {
    let part = if vectors::is_image(input) {
        json!({ "type": "image_url", "image_url": { "url": input } })
    } else {
        json!({ "type": "text", "text": input })
    };
    json!({ "content": [part] })
}

/// Cohere's answer in OpenAI's form.
pub(super) fn answer(body: &Bytes, base64: bool, now_ms: u64) -> Result<Relayed, Fault> {
    let Ok(wire) = serde_json::from_slice::<Wire<'_>>(body) else {
        return Err(match serde_json::from_slice::<Value>(body) {
            Ok(value) if value.get("embeddings").is_none() => fault::inside_success(&value, now_ms),
            Ok(_) => fault::malformed("the provider's answer has no embeddings"),
            Err(_) => fault::malformed("the provider's embeddings are not JSON"),
        });
    };
    let vectors = match wire.embeddings {
        Embeddings::ByType { float } => float,
        Embeddings::Plain(vectors) => vectors,
    };
    vectors::answer(vectors.into_iter(), "", wire.meta.as_ref().and_then(usage::read), base64)
}

#[derive(Deserialize)]
struct Wire<'a> {
    #[serde(borrow)]
    embeddings: Embeddings<'a>,
    #[serde(default)]
    meta: Option<Value>,
}

/// By type in v2, plain in v1.
enum Embeddings<'a> {
    ByType { float: Vec<&'a RawValue> },
    Plain(Vec<&'a RawValue>),
}

impl<'de: 'a, 'a> Deserialize<'de> for Embeddings<'a> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        struct ByType<'a> {
            #[serde(borrow)]
            float: Vec<&'a RawValue>,
        }
        let raw = <&RawValue>::deserialize(deserializer)?;
        let read = if raw.get().starts_with('[') {
            serde_json::from_str(raw.get()).map(Self::Plain)
        } else {
            serde_json::from_str::<ByType<'_>>(raw.get()).map(|by| Self::ByType { float: by.float })
        };
        read.map_err(serde::de::Error::custom)
    }
}
