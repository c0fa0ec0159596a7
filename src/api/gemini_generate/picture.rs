//! The door of `POST /v1beta/models/imagen-…:predict`: pictures by Imagen, as Google's clients ask for them.
//!
//! <https://ai.google.dev/gemini-api/docs/imagen>

use std::sync::Arc;

use bytes::Bytes;
use serde_json::Value;

use super::ask::model_of;
use super::error::{error_body, fault_event};
use crate::api::raw::{RawAsk, Seen, Way};
use crate::chat::Usage;
use crate::executor::RawForm;
use crate::facts::Endpoint;
use crate::fault::{Fault, Retry};
use crate::gateway::{Asked, Door, Head};
use crate::json::Body;
use crate::providers::{Dialect, Outgoing, Target, gemini_method};

/// What Imagen makes where nobody says how many.
const USUAL: u64 = 4;
/// More than any model makes at a time.
const MOST: u64 = 128;

/// Whether a model is one of those that are asked for pictures by `:predict`.
pub fn is_imagen(model: &str) -> bool {
    model.rsplit('/').next().unwrap_or(model).starts_with("imagen")
}

/// The door.
pub struct GeminiPictures;

impl Door for GeminiPictures {
    fn endpoint(&self) -> Endpoint {
        Endpoint::Images
    }

    fn dialect(&self) -> Dialect {
        Dialect::Gemini
    }

    fn read(&self, body: Bytes, head: Head<'_>) -> Result<Arc<dyn Asked>, Fault> {
        let body = Body::read(body)?;
        let value = |key: &str| serde_json::from_str::<Value>(body.raw(key)?).ok();
        let wrong = || Fault::bad_request("`instances` must be a list of prompts", "instances");
        let instances = value("instances");
        let instances = instances.as_ref().and_then(Value::as_array).filter(|all| !all.is_empty());
        let instances = instances.ok_or_else(wrong)?;
        let mut text = String::new();
        for instance in instances {
            text.push_str(instance.get("prompt").and_then(Value::as_str).ok_or_else(wrong)?);
            text.push('\n');
        }
        let each = value("parameters").and_then(|parameters| parameters.get("sampleCount")?.as_u64());
        let each = each.unwrap_or(USUAL);
        if !(1..=MOST).contains(&each) {
            let text = "`sampleCount` must be a number of pictures";
            return Err(Fault::bad_request(text, "parameters.sampleCount"));
        }
        let images = each.saturating_mul(instances.len() as u64);
        let input = (text.len() as u64).div_ceil(4);
        let asked = Usage { input, images, estimated: true, ..Usage::default() };
        // By this name, it is known everywhere how many are asked for.
        let mut seen = Seen { json: Some(body.clone()), text, ..Seen::default() };
        seen.fields.push(("n".into(), images.to_string()));
        Ok(Arc::new(RawAsk {
            model: model_of(head.uri.path())?,
            pinned: false,
            bytes: body.bytes().len(),
            upload: None,
            seen,
            items: None,
            way: Box::new(Predict { body, asked }),
        }))
    }

    fn error_body(&self, fault: &Fault, _: &str) -> Vec<u8> {
        error_body(fault)
    }

    fn fault_event(&self, fault: &Fault, _: bool) -> Bytes {
        fault_event(fault)
    }
}

struct Predict {
    body: Body,
    asked: Usage,
}

impl Way for Predict {
    /// Only the model in the path is the target's.
    fn outgoing(&self, target: &Target) -> Result<Outgoing, Fault> {
        let relay = (target.wire().dialect() == Dialect::Gemini).then(|| target.wire().relay()).flatten();
        let relay = relay.filter(|_| is_imagen(&target.name.model)).ok_or_else(|| {
            let text = "this model makes no pictures by `predict`";
            Fault::bad_request(text, "model").code("unsupported_endpoint").retry(Retry::Elsewhere)
        })?;
        let mut outgoing = gemini_method(relay.splice(&self.body, &target.name)?, "predict");
        outgoing.body = vec![self.body.bytes().clone()];
        Ok(outgoing)
    }

    fn raw(&self, _: &Target) -> Option<RawForm> {
        Some(RawForm { as_it_came: false, slow: true, asked: self.asked, endpoint: Endpoint::Images })
    }
}
