//! The doors of `POST /v1beta/models/{model}:embedContent` and `:batchEmbedContents`.

use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use serde_json::{Value, json};

use super::ask::model_of;
use super::content::{field, wrong};
use super::error::{error_body, fault_event};
use crate::chat::{Loss, Object};
use crate::executor::Carry;
use crate::facts::{self, Endpoint};
use crate::fault::{Fault, FaultKind, Retry};
use crate::gateway::{Asked, Door, Head};
use crate::json::{self, Body};
use crate::providers::{Dialect, Embeddings, Outgoing, Relay, Relayed, StreamRelay, Target, gemini_method};

/// Most requests of one batch.
const MAX_REQUESTS: usize = 2_048;

/// `:embedContent`, or `:batchEmbedContents` where `batch`.
pub struct GeminiEmbed {
    /// Several contents at once.
    pub batch: bool,
}

impl Door for GeminiEmbed {
    fn endpoint(&self) -> Endpoint {
        Endpoint::Embeddings
    }

    fn dialect(&self) -> Dialect {
        Dialect::Gemini
    }

    fn read(&self, body: Bytes, head: Head<'_>) -> Result<Arc<dyn Asked>, Fault> {
        Ok(Arc::new(Ask::read(Body::read(body)?, head, self.batch)?))
    }

    fn error_body(&self, fault: &Fault, _: &str) -> Vec<u8> {
        error_body(fault)
    }

    fn fault_event(&self, fault: &Fault) -> Bytes {
        fault_event(fault)
    }
}

/// A request for embeddings.
struct Ask {
    body: Body,
    model: Arc<str>,
    batch: bool,
    texts: Vec<String>,
    dimensions: Option<u64>,
    lost: Vec<Loss>,
    text: OnceLock<String>,
}

impl Ask {
    fn read(body: Body, head: Head<'_>, batch: bool) -> Result<Self, Fault> {
        let value = serde_json::from_slice::<Value>(body.bytes()).unwrap_or_default();
        let (mut texts, mut dimensions, mut lost) = (Vec::new(), None, Vec::new());
        let mut one = |ask: &Value, path: &str| {
            let Some(object) = ask.as_object() else { return Err(wrong(path.to_owned(), "an object")) };
            texts.push(text_of(object, path)?);
            let wanted =
                field(object, "outputDimensionality", "output_dimensionality").and_then(Value::as_u64);
            dimensions = wanted.or(dimensions);
            for key in object.keys() {
                let known = ["model", "content", "outputDimensionality", "output_dimensionality"];
                if !known.contains(&&**key) && !lost.iter().any(|loss: &Loss| loss.path == **key) {
                    lost.push(Loss::dropped(key.clone()));
                }
            }
            Ok(())
        };
        if batch {
            let Some(list) = value.get("requests").and_then(Value::as_array) else {
                return Err(wrong("requests".into(), "an array"));
            };
            if list.is_empty() || list.len() > MAX_REQUESTS {
                return Err(wrong("requests".into(), "1 to 2048 requests"));
            }
            for (at, ask) in list.iter().enumerate() {
                one(ask, &format!("requests[{at}]"))?;
            }
        } else {
            one(&value, "content")?;
        }
        let model = model_of(head.uri.path())?;
        Ok(Self { body, model, batch, texts, dimensions, lost, text: OnceLock::new() })
    }

    /// The body for Google: only models' names inside of it are replaced.
    fn own(&self, relay: &dyn Relay, target: &Target) -> Result<Outgoing, Fault> {
        let method = if self.batch { "batchEmbedContents" } else { "embedContent" };
        let mut outgoing = gemini_method(relay.splice(&self.body, &target.name)?, method);
        if self.batch
            && let Ok(mut value) = serde_json::from_slice::<Value>(self.body.bytes())
        {
            let name = json!(format!("models/{}", target.name.model.trim_start_matches("models/")));
            for ask in value.get_mut("requests").and_then(Value::as_array_mut).into_iter().flatten() {
                if let Value::Object(ask) = ask {
                    ask.insert("model".into(), name.clone());
                }
            }
            outgoing.body = vec![value.to_string().into()];
        }
        Ok(outgoing)
    }

    /// An answer of OpenAI's form in Google's.
    fn translated(&self, relayed: &Relayed) -> Result<Bytes, Fault> {
        let broken = || Fault::new(FaultKind::Malformed, "the provider's answer has no embeddings");
        let answer: Value = serde_json::from_slice(&relayed.body).map_err(|_| broken())?;
        let data = answer.get("data").and_then(Value::as_array).ok_or_else(broken)?;
        let mut vectors: Vec<Value> = data
            .iter()
            .map(|item| item.get("embedding").map(|values| json!({ "values": values })))
            .collect::<Option<_>>()
            .ok_or_else(broken)?;
        let mut body = Object::new();
        if self.batch {
            body.insert("embeddings".into(), Value::Array(vectors));
        } else {
            body.insert("embedding".into(), vectors.pop().ok_or_else(broken)?);
        }
        if let Some(usage) = &relayed.usage {
            body.insert("usageMetadata".into(), json!({ "promptTokenCount": usage.prompt() }));
        }
        Ok(Value::Object(body).to_string().into())
    }
}

fn text_of(ask: &Object, path: &str) -> Result<String, Fault> {
    let parts = match ask.get("content").and_then(|content| content.get("parts")) {
        Some(Value::Array(parts)) => parts.as_slice(),
        Some(one @ Value::Object(_)) => std::slice::from_ref(one),
        _ => return Err(wrong(format!("{path}.content.parts"), "an array")),
    };
    let texts: Vec<&str> = parts.iter().filter_map(|part| part.get("text")?.as_str()).collect();
    Ok(texts.join("\n"))
}

impl Asked for Ask {
    fn model(&self) -> &Arc<str> {
        &self.model
    }

    fn bytes(&self) -> usize {
        self.body.bytes().len()
    }
}

impl Carry for Ask {
    fn outgoing(&self, target: &Target) -> Result<Outgoing, Fault> {
        if is_native(target)
            && let Some(relay) = crate::api::translate::relay(target, Dialect::Gemini)
        {
            return self.own(relay, target);
        }
        let mut asked = json!({ "model": &*self.model, "input": &self.texts });
        if let (Some(dimensions), Value::Object(asked)) = (self.dimensions, &mut asked) {
            asked.insert("dimensions".into(), dimensions.into());
        }
        let body = json::Body::read(asked.to_string().into())?;
        let mut outgoing = ability(target)?.splice(&body, &target.name)?;
        outgoing.lost.extend_from_slice(&self.lost);
        Ok(outgoing)
    }

    fn whole(&self, target: &Target, body: Bytes) -> Result<Relayed, Fault> {
        let read = ability(target)?.whole(body.clone(), false)?;
        if target.wire().dialect() == Dialect::Gemini && is_native(target) {
            return Ok(Relayed { body, ..read });
        }
        Ok(Relayed { body: self.translated(&read)?, ..read })
    }

    fn wants_stream(&self) -> bool {
        false
    }

    fn stream(&self, _: &Target) -> Result<Box<dyn StreamRelay>, Fault> {
        Err(Fault::new(FaultKind::Internal, "embeddings are never streamed"))
    }
}

/// Whether the target makes embeddings by the methods of this door.
fn is_native(target: &Target) -> bool {
    target.wire().embeddings().is_some_and(Embeddings::is_native)
}

fn ability(target: &Target) -> Result<&dyn Embeddings, Fault> {
    target.wire().embeddings().ok_or_else(|| {
        Fault::bad_request("this provider makes no embeddings", "model").retry(Retry::Elsewhere)
    })
}

impl facts::Body for Ask {
    fn stream(&self) -> bool {
        false
    }

    fn max_tokens(&self) -> Option<u64> {
        None
    }

    fn tokens(&self) -> u64 {
        self.texts.iter().map(|text| text.len() as u64).sum::<u64>() / 4
    }

    fn tool_names(&self) -> &[Box<str>] {
        &[]
    }

    fn messages(&self) -> u64 {
        self.texts.len() as u64
    }

    fn has_images(&self) -> bool {
        false
    }

    fn has_audio(&self) -> bool {
        false
    }

    fn has_files(&self) -> bool {
        false
    }

    fn has_json_output(&self) -> bool {
        false
    }

    fn text(&self) -> &str {
        self.text.get_or_init(|| self.texts.join("\n"))
    }

    fn system(&self) -> &str {
        ""
    }

    fn last_user(&self) -> &str {
        facts::Body::text(self)
    }

    fn user(&self) -> Option<&str> {
        None
    }

    fn metadata(&self, _: &str) -> Option<String> {
        None
    }

    fn field(&self, name: &str) -> Option<&str> {
        self.body.raw(name)
    }
}
