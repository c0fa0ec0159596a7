//! What providers keep for their clients, as they keep it: files, batches, conversations. Which provider is meant, the
//! client says, or the configuration.
//!
//! <https://platform.openai.com/docs/api-reference/files>, `…/batch`, `…/conversations`;
//! <https://platform.claude.com/docs/en/api/creating-message-batches>

use std::sync::Arc;

use bytes::Bytes;
use http::HeaderMap;

use super::ask::{Below, RawAhead};
use super::{check_path, client_query};
use crate::api::anthropic_messages::AnthropicMessages;
use crate::api::openai_chat::OpenAiChat;
use crate::facts::Endpoint;
use crate::fault::{Fault, FaultKind};
use crate::gateway::{Approach, Asked, Door, Head, Intake};
use crate::json::{self, Body, Splice};
use crate::providers::{Dialect, Provider};

/// The doors of what providers keep.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::api) enum Kept {
    /// OpenAI's `/v1/files`, and `/v1/uploads`, by which large ones come in parts.
    Files,
    /// Anthropic's, at the same place.
    AnthropicsFiles,
    /// OpenAI's `/v1/batches`.
    Batches,
    /// Anthropic's `/v1/messages/batches`.
    MessageBatches,
    /// OpenAI's `/v1/conversations`.
    Conversations,
}

/// Paths of what is kept, with the methods that they answer.
pub(in crate::api) const KEPT: &[(&str, &str, &Kept)] = &[
    ("/v1/files", "GET, POST", &Kept::Files),
    ("/v1/files/{id}", "GET, DELETE", &Kept::Files),
    ("/v1/files/{id}/content", "GET", &Kept::Files),
    ("/v1/uploads", "POST", &Kept::Files),
    ("/v1/uploads/{id}/parts", "POST", &Kept::Files),
    ("/v1/uploads/{id}/complete", "POST", &Kept::Files),
    ("/v1/uploads/{id}/cancel", "POST", &Kept::Files),
    ("/v1/batches", "GET, POST", &Kept::Batches),
    ("/v1/batches/{id}", "GET", &Kept::Batches),
    ("/v1/batches/{id}/cancel", "POST", &Kept::Batches),
    ("/v1/messages/batches", "GET, POST", &Kept::MessageBatches),
    ("/v1/messages/batches/{id}", "GET, DELETE", &Kept::MessageBatches),
    ("/v1/messages/batches/{id}/cancel", "POST", &Kept::MessageBatches),
    ("/v1/messages/batches/{id}/results", "GET", &Kept::MessageBatches),
    ("/v1/conversations", "POST", &Kept::Conversations),
    ("/v1/conversations/{id}", "GET, POST, DELETE", &Kept::Conversations),
    ("/v1/conversations/{id}/items", "GET, POST", &Kept::Conversations),
    ("/v1/conversations/{id}/items/{item}", "GET, DELETE", &Kept::Conversations),
];

/// Below which Anthropic's batches are, for clients.
const MESSAGE_BATCHES: &str = "/v1/messages/batches/";

impl Kept {
    /// The entry of [`KEPT`] for a path.
    pub(in crate::api) fn find(path: &str) -> Option<&'static (&'static str, &'static str, &'static Self)> {
        KEPT.iter().find(|(pattern, ..)| fits(pattern, path))
    }

    /// What of it these clients mean: Anthropic's SDKs look for their files where OpenAI's do.
    pub(in crate::api) fn meant(&'static self, headers: &HeaderMap) -> &'static Self {
        let anthropics = *self == Self::Files && headers.contains_key("anthropic-version");
        if anthropics { &Self::AnthropicsFiles } else { self }
    }

    /// What is kept, in the plural.
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Files | Self::AnthropicsFiles => "files",
            Self::Batches | Self::MessageBatches => "batches",
            Self::Conversations => "conversations",
        }
    }

    /// Where a provider keeps it: path and query below the base URL.
    pub(super) fn place(self, wire: &dyn Provider, name: &str, model: &str) -> Option<String> {
        match self {
            // Vertex AI and Bedrock, which speak the same dialect elsewhere, have batches of their own.
            Self::MessageBatches | Self::AnthropicsFiles => {
                let anthropics = wire.dialect() == Dialect::Anthropic;
                let usual = anthropics && wire.chat_path(model, false).as_deref() == Some("/messages");
                usual.then(|| format!("/{name}"))
            }
            Self::Conversations if wire.responses().is_none() => None,
            Self::Files | Self::Batches | Self::Conversations => wire.media_path(name, model),
        }
    }

    /// Whether the answer is read before it is told: results are passed on as they come.
    pub(super) fn is_read(self, name: &str) -> bool {
        match self {
            Self::Files | Self::AnthropicsFiles | Self::Conversations => false,
            Self::Batches => true,
            Self::MessageBatches => !name.ends_with("/results"),
        }
    }

    /// The answer for the client. Where Anthropic's batches say that their results are at Anthropic, they are here: the
    /// SDKs go to that address with the key that they have. A path alone stands below the client's own base URL.
    pub(super) fn told(self, body: Bytes) -> Bytes {
        if self != Self::MessageBatches {
            return body;
        }
        let Ok(read) = Body::read(body.clone()) else { return body };
        let Some(list) = read.raw("data") else { return here(read.bytes()).map_or(body, Bytes::from) };
        let batches: Vec<String> = json::elements(list)
            .map(|batch| here(batch.as_bytes()).unwrap_or_else(|| batch.to_owned()))
            .collect();
        let mut splice = Splice::new(&read);
        splice.set("data", format!("[{}]", batches.join(",")));
        splice.finish().concat().into()
    }
}

/// A batch with the place of its results here; `None` where it has none yet.
fn here(batch: &[u8]) -> Option<String> {
    let batch = Body::read(Bytes::copy_from_slice(batch)).ok()?;
    let (id, _) = (batch.str("id")?, batch.str("results_url")?);
    let mut splice = Splice::new(&batch);
    splice.set_text("results_url", &format!("{MESSAGE_BATCHES}{id}/results"));
    String::from_utf8(splice.finish().concat()).ok()
}

/// Whether a path is one of this pattern, in which `{…}` stands for one segment that is not empty.
fn fits(pattern: &str, path: &str) -> bool {
    let (mut known, mut given) = (pattern.split('/'), path.split('/'));
    loop {
        match (known.next(), given.next()) {
            (None, None) => return true,
            (Some(known), Some(given)) if known == given => {}
            (Some(known), Some(given)) if known.starts_with('{') && !given.is_empty() => {}
            _ => return false,
        }
    }
}

impl Door for Kept {
    fn endpoint(&self) -> Endpoint {
        match self {
            Self::Files | Self::AnthropicsFiles | Self::Conversations => Endpoint::Files,
            Self::Batches | Self::MessageBatches => Endpoint::Batches,
        }
    }

    fn dialect(&self) -> Dialect {
        match self {
            Self::MessageBatches | Self::AnthropicsFiles => Dialect::Anthropic,
            Self::Conversations => Dialect::Responses,
            Self::Files | Self::Batches => Dialect::OpenAi,
        }
    }

    fn intake(&self, approach: Approach<'_>) -> Result<Intake, Fault> {
        let provider = provider(*self, approach)?;
        let path = approach.uri.path();
        check_path(path)?;
        let name = path.strip_prefix("/v1/").unwrap_or_default().to_owned();
        let query = client_query(approach);
        let query = crate::api::raw::query_without(query.strip_prefix('?'), |name| name == "provider");
        let below = Below::Operation { kept: *self, name, query };
        Ok(Intake::Ahead(Box::new(RawAhead::new(approach, &provider, below)?)))
    }

    fn read(&self, _: Bytes, _: Head<'_>) -> Result<Arc<dyn Asked>, Fault> {
        Err(Fault::new(FaultKind::Internal, "what is kept at providers is read ahead"))
    }

    fn error_body(&self, fault: &Fault, request_id: &str) -> Vec<u8> {
        self.tongue().error_body(fault, request_id)
    }

    fn fault_event(&self, fault: &Fault, begun: bool) -> Bytes {
        self.tongue().fault_event(fault, begun)
    }
}

impl Kept {
    /// The door whose errors the client understands.
    fn tongue(self) -> &'static dyn Door {
        match self {
            Self::MessageBatches | Self::AnthropicsFiles => &AnthropicMessages,
            Self::Files | Self::Batches | Self::Conversations => &OpenAiChat,
        }
    }
}

/// Whose are meant: what the client says (`x-tollgate-provider`, `?provider=`), else the configuration's
/// `files.provider`, else the only provider that keeps such things.
fn provider(kept: Kept, approach: Approach<'_>) -> Result<Arc<str>, Fault> {
    let vendors = approach.snapshot.catalogue.vendors();
    let keeps: Vec<_> = vendors
        .iter()
        .filter(|vendor| kept.place(&*vendor.wire, kept.word(), "").is_some())
        .map(|vendor| vendor.name.clone())
        .collect();
    let header = approach.headers.get(&crate::headers::PROVIDER).and_then(|value| value.to_str().ok());
    let query = approach.uri.query().unwrap_or_default().split('&');
    let said = header.or_else(|| query.filter_map(|pair| pair.strip_prefix("provider=")).next());
    let word = kept.word();
    if let Some(said) = said {
        let found = keeps.into_iter().find(|name| **name == *said);
        return found.ok_or_else(|| {
            Fault::new(FaultKind::NotFound, format!("no provider of this name keeps {word} here"))
                .code("provider_not_found")
                .at("x-tollgate-provider")
        });
    }
    if let Some(configured) = approach.snapshot.raw.files.as_ref().filter(|name| keeps.contains(name)) {
        return Ok(configured.clone());
    }
    match keeps.as_slice() {
        [only] => Ok(only.clone()),
        [] => {
            let text = format!("no provider that keeps {word} is configured here");
            Err(Fault::new(FaultKind::NotFound, text))
        }
        _ => {
            let text =
                format!("several providers keep {word} here: name one in the header `x-tollgate-provider`");
            Err(Fault::bad_request(text, "x-tollgate-provider"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_exact() {
        for (path, expected) in [
            ("/v1/files", Some("/v1/files")),
            ("/v1/files/file-1", Some("/v1/files/{id}")),
            ("/v1/files/file-1/content", Some("/v1/files/{id}/content")),
            ("/v1/files/", None),
            ("/v1/files/file-1/", None),
            ("/v1/files/file-1/other", None),
            ("/v1/filesx", None),
            ("/v1/batches/batch_1/cancel", Some("/v1/batches/{id}/cancel")),
            ("/v1/messages/batches", Some("/v1/messages/batches")),
            ("/v1/messages/batches/b/results", Some("/v1/messages/batches/{id}/results")),
            ("/v1/messages/batches//results", None),
            ("/v1/conversations/conv_1/items/msg_1", Some("/v1/conversations/{id}/items/{item}")),
        ] {
            assert_eq!(Kept::find(path).map(|(place, ..)| *place), expected, "{path}");
        }
    }

    #[test]
    fn results_of_anthropics_batches_are_here() {
        let there = "https://api.anthropic.com/v1/messages/batches/b1/results";
        for (body, expected) in [
            (
                format!(r#"{{"id":"b1","results_url":"{there}","n":1.0}}"#),
                r#"{"id":"b1","results_url":"/v1/messages/batches/b1/results","n":1.0}"#,
            ),
            (r#"{"id":"b1","results_url":null}"#.into(), r#"{"id":"b1","results_url":null}"#),
            (
                format!(
                    r#"{{"data":[{{"id":"b2","results_url":null}},{{"id":"b1","results_url":"{there}"}}],"has_more":false}}"#
                ),
                r#"{"data":[{"id":"b2","results_url":null},{"id":"b1","results_url":"/v1/messages/batches/b1/results"}],"has_more":false}"#,
            ),
            ("<html>".into(), "<html>"),
        ] {
            assert_eq!(Kept::MessageBatches.told(body.into()), expected);
        }
    }
}
