//! The door of `POST /v1/embeddings`: how an embeddings request goes through the line.

use std::sync::Arc;

use bytes::Bytes;
use serde_json::Value;

use super::Ask;
use crate::api::adjust;
use crate::api::openai_chat::{error_body, fault_event};
use crate::chat::Loss;
use crate::executor::Carry;
use crate::facts::{Body as _, Endpoint};
use crate::fault::{Fault, FaultKind, Retry};
use crate::gateway::{Asked, Door, Head};
use crate::json::{self, Splice};
use crate::providers::{Dialect, Embeddings, Outgoing, Relayed, StreamRelay, Target};
use crate::tokens::Encoding;

/// `POST /v1/embeddings`.
pub struct OpenAiEmbeddings;

impl Door for OpenAiEmbeddings {
    fn endpoint(&self) -> Endpoint {
        Endpoint::Embeddings
    }

    fn read(&self, body: Bytes, _: Head<'_>) -> Result<Arc<dyn Asked>, Fault> {
        Ok(Arc::new(Ask::read(json::Body::read(body)?)?))
    }

    fn error_body(&self, fault: &Fault, _: &str) -> Vec<u8> {
        error_body(fault)
    }

    fn fault_event(&self, fault: &Fault, _: bool) -> Bytes {
        fault_event(fault)
    }
}

impl Asked for Ask {
    fn json(&self) -> Option<&crate::json::Body> {
        Some(self.body())
    }

    fn model(&self) -> &Arc<str> {
        self.model()
    }

    fn bytes(&self) -> usize {
        self.body().bytes().len()
    }

    fn with(
        &self,
        parameters: &[(Arc<str>, Value)],
        missing: &mut Vec<Arc<str>>,
    ) -> Result<Option<Arc<dyn Asked>>, Fault> {
        let body = adjust::EMBEDDINGS.set(self.body(), parameters, missing)?;
        let again = Self::read(body).map_err(|fault| adjust::blamed(&fault))?;
        Ok(Some(Arc::new(again)))
    }
}

impl Carry for Ask {
    fn outgoing(&self, target: &Target) -> Result<Outgoing, Fault> {
        let ability = ability(target)?;
        // Clients of OpenAI's count tokens before they ask, and then send these; nobody else has the same.
        if self.has_token_ids() && target.wire().dialect() != Dialect::OpenAi {
            let mut outgoing = ability.splice(&self.spelled()?, &target.name)?;
            outgoing.lost.push(Loss::new("input", "token ids read as those of cl100k_base"));
            return Ok(outgoing);
        }
        ability.splice(self.body(), &target.name)
    }

    fn whole(&self, target: &Target, body: Bytes) -> Result<Relayed, Fault> {
        let relayed = ability(target)?.whole(body, self.base64())?;
        if self.misses(&relayed.body) {
            return Err(Fault::new(FaultKind::Malformed, "the provider left out an embedding"));
        }
        let body = named(relayed.body, &target.name.model);
        Ok(Relayed { body, ..relayed })
    }

    fn wants_stream(&self) -> bool {
        false
    }

    fn stream(&self, _: &Target) -> Result<Box<dyn StreamRelay>, Fault> {
        Err(Fault::new(FaultKind::Internal, "embeddings are never streamed"))
    }
}

impl Ask {
    /// The request with texts in place of token ids.
    #[cold]
    fn spelled(&self) -> Result<json::Body, Fault> {
        let raw = self.body().raw("input").unwrap_or_default();
        let text = |ids: &str| {
            let ids: Vec<u32> = serde_json::from_str(ids).ok()?;
            Encoding::Cl100k.text(&ids).filter(|text| !text.is_empty())
        };
        let lists = json::elements(raw).next().is_some_and(|first| first.starts_with('['));
        let texts: Option<Vec<String>> =
            if lists { json::elements(raw).map(text).collect() } else { text(raw).map(|text| vec![text]) };
        let texts = texts.ok_or_else(|| {
            let message = "this model's provider takes text, and these token ids are none of cl100k_base";
            Fault::bad_request(message, "input").retry(Retry::Elsewhere)
        })?;
        let mut splice = Splice::new(self.body());
        splice.set("input", serde_json::json!(texts).to_string());
        json::Body::read(splice.finish().concat().into())
    }
}

/// The answer with the model that was asked, where its provider names none.
fn named(body: Bytes, model: &str) -> Bytes {
    const NAMELESS: &[u8] = br#"],"model":"","usage":{"#;
    // What is counted stands behind it, and is short.
    let tail = body.len().saturating_sub(256);
    let Some(at) = body.get(tail..).and_then(|tail| memchr::memmem::rfind(tail, NAMELESS)) else {
        return body;
    };
    let (before, after) = body.split_at(tail + at);
    let mut named = Vec::with_capacity(body.len() + model.len());
    named.extend_from_slice(before);
    named.extend_from_slice(br#"],"model":"#);
    json::write_text(&mut named, model);
    named.extend_from_slice(after.strip_prefix(br#"],"model":"""#).unwrap_or_default());
    named.into()
}

fn ability(target: &Target) -> Result<&dyn Embeddings, Fault> {
    target.wire().embeddings().ok_or_else(|| {
        Fault::bad_request("this provider makes no embeddings", "model").retry(Retry::Elsewhere)
    })
}

#[cfg(test)]
mod tests {
    use super::named;

    #[test]
    fn an_answer_names_its_model() {
        let body = |model: &str| {
            let vectors = "0.5,".repeat(1000);
            format!(
                r#"{{"object":"list","data":[{{"embedding":[{vectors}1]}}],"model":"{model}","usage":{{"prompt_tokens":1,"total_tokens":1}}}}"#
            )
        };
        assert_eq!(named(body("").into(), "a/\"b"), body(r#"a/\"b"#).into_bytes());
        assert_eq!(named(body("own").into(), "asked"), body("own").into_bytes());
        assert_eq!(named("{}".into(), "asked"), "{}");
    }
}
