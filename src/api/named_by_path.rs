//! Doors of requests whose path names the model, for clients of Azure's deployments and of Claude on Vertex AI: the
//! name goes into the body, and the usual door takes over.

use std::sync::Arc;

use bytes::Bytes;

use super::anthropic_messages::{AnthropicCount, AnthropicMessages};
use super::elsewhere::{deployment, raw_predict};
use super::media::Media;
use super::openai_chat::OpenAiChat;
use super::openai_completions::OpenAiCompletions;
use super::openai_embeddings::OpenAiEmbeddings;
use super::routes::unescape;
use crate::facts::Endpoint;
use crate::fault::Fault;
use crate::gateway::{Approach, Asked, Door, Head, Intake, StreamForm};
use crate::json::{Body, Splice};

/// A door behind which another one stands.
struct Named {
    door: &'static dyn Door,
    place: Place,
}

/// Where the model's name stands.
#[derive(Clone, Copy)]
enum Place {
    /// `/openai/deployments/{deployment}/{operation}`: what the body says is ignored.
    Deployment(&'static str),
    /// `…/models/{model}:rawPredict`: the method says whether a stream is asked for.
    Method,
    /// `…/models/count-tokens:rawPredict`: the body names the model itself.
    Body,
}

/// Operations of deployments, with the paths for the log; what ends like another one comes before it.
const DEPLOYED: &[(&str, &str, &Named)] = &[
    (
        "chat/completions",
        "/openai/deployments/{deployment}/chat/completions",
        &Named { door: &OpenAiChat, place: Place::Deployment("chat/completions") },
    ),
    (
        "completions",
        "/openai/deployments/{deployment}/completions",
        &Named { door: &OpenAiCompletions, place: Place::Deployment("completions") },
    ),
    (
        "embeddings",
        "/openai/deployments/{deployment}/embeddings",
        &Named { door: &OpenAiEmbeddings, place: Place::Deployment("embeddings") },
    ),
    (
        "audio/speech",
        "/openai/deployments/{deployment}/audio/speech",
        &Named { door: &Media::Speech, place: Place::Deployment("audio/speech") },
    ),
    (
        "audio/transcriptions",
        "/openai/deployments/{deployment}/audio/transcriptions",
        &Named { door: &Media::Transcription, place: Place::Deployment("audio/transcriptions") },
    ),
    (
        "audio/translations",
        "/openai/deployments/{deployment}/audio/translations",
        &Named { door: &Media::Translation, place: Place::Deployment("audio/translations") },
    ),
    (
        "images/generations",
        "/openai/deployments/{deployment}/images/generations",
        &Named { door: &Media::Generation, place: Place::Deployment("images/generations") },
    ),
    (
        "images/edits",
        "/openai/deployments/{deployment}/images/edits",
        &Named { door: &Media::Edit, place: Place::Deployment("images/edits") },
    ),
];

/// The model that is none, but counts tokens for all.
const COUNTER: &str = "count-tokens";

/// The door of such a path, and the path for the log.
pub(super) fn door(path: &str) -> Option<(&'static str, &'static dyn Door)> {
    if let Some((_, known, door)) =
        DEPLOYED.iter().find(|(operation, ..)| deployment(path, operation).is_some())
    {
        return Some((known, *door));
    }
    let (model, stream) = raw_predict(path)?;
    Some(match stream {
        _ if model == COUNTER => (
            "/v1/projects/{project}/locations/{location}/publishers/anthropic/models/count-tokens:rawPredict",
            &Named { door: &AnthropicCount, place: Place::Body },
        ),
        true => (
            "/v1/projects/{project}/locations/{location}/publishers/anthropic/models/{model}:streamRawPredict",
            &Named { door: &AnthropicMessages, place: Place::Method },
        ),
        false => (
            "/v1/projects/{project}/locations/{location}/publishers/anthropic/models/{model}:rawPredict",
            &Named { door: &AnthropicMessages, place: Place::Method },
        ),
    })
}

impl Place {
    /// The body as the usual door wants it.
    fn complete(self, body: Bytes, path: &str) -> Result<Bytes, Fault> {
        let body = Body::read(body)?;
        let mut splice = Splice::new(&body);
        match self {
            Self::Deployment(operation) => {
                let model = unescape(deployment(path, operation).unwrap_or_default());
                if body.str("model").is_some_and(|named| *named == *model) {
                    return Ok(body.bytes().clone());
                }
                splice.set_text("model", &model);
            }
            Self::Method => {
                let (model, stream) = raw_predict(path).unwrap_or_default();
                splice
                    .set_text("model", &unescape(model))
                    .set("stream", if stream { "true" } else { "false" });
                splice.remove("anthropic_version");
            }
            Self::Body => drop(splice.remove("anthropic_version")),
        }
        Ok(splice.finish().concat().into())
    }
}

impl Door for Named {
    fn endpoint(&self) -> Endpoint {
        self.door.endpoint()
    }

    fn intake(&self, approach: Approach<'_>) -> Result<Intake, Fault> {
        self.door.intake(approach)
    }

    fn read(&self, body: Bytes, head: Head<'_>) -> Result<Arc<dyn Asked>, Fault> {
        self.door.read(self.place.complete(body, head.uri.path())?, head)
    }

    fn error_body(&self, fault: &Fault, request_id: &str) -> Vec<u8> {
        self.door.error_body(fault, request_id)
    }

    fn fault_event(&self, fault: &Fault, begun: bool) -> Bytes {
        self.door.fault_event(fault, begun)
    }

    fn stream_form(&self) -> StreamForm {
        self.door.stream_form()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_paths_name_goes_into_the_body() {
        let vertex = "/v1/projects/p/locations/l/publishers/anthropic/models";
        for (path, body, expected) in [
            (
                "/openai/deployments/my-gpt/chat/completions",
                r#"{"messages":[]}"#,
                r#"{"messages":[],"model":"my-gpt"}"#,
            ),
            ("/openai/deployments/my-gpt/embeddings", r#"{"model":"other"}"#, r#"{"model":"my-gpt"}"#),
            ("/openai/deployments/a/embeddings", r#"{ "model" : "a" }"#, r#"{ "model" : "a" }"#),
            (
                &format!("{vertex}/vertex/c@1:streamRawPredict"),
                r#"{"max_tokens":1,"anthropic_version":"vertex-2023-10-16"}"#,
                r#"{"max_tokens":1,"model":"vertex/c@1","stream":true}"#,
            ),
            (
                &format!("{vertex}/count-tokens:rawPredict"),
                r#"{"anthropic_version":"v","model":"m"}"#,
                r#"{"model":"m"}"#,
            ),
        ] {
            let place = match path {
                _ if path.contains("count-tokens") => Place::Body,
                _ if path.contains("Predict") => Place::Method,
                _ if path.ends_with("embeddings") => Place::Deployment("embeddings"),
                _ => Place::Deployment("chat/completions"),
            };
            assert!(door(path).is_some(), "{path}");
            let made = place.complete(Bytes::copy_from_slice(body.as_bytes()), path).unwrap();
            assert_eq!(String::from_utf8_lossy(&made), expected, "{path}");
        }
        assert!(door("/openai/deployments/a/other").is_none());
    }
}
