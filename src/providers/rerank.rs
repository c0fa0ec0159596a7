//! Reranking in Cohere's form, and what the many vendors of its kind make of it.
//!
//! Requests differ in the names of fields, which are data ([`RerankQuirks`]); answers are recognised by their form.
//! What the client gets is always Cohere's: <https://docs.cohere.com/reference/rerank>

mod answer;

use std::borrow::Cow;
use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

pub(super) use answer::answer;

use super::{ClientBody, Outgoing};
use crate::chat::Loss;
use crate::fault::Fault;
use crate::json::{self, Splice};
use crate::target::TargetName;

/// How a vendor deviates from Cohere's rerank.
#[derive(Debug, Clone, Default, Deserialize, Serialize, JsonSchema, PartialEq)]
#[serde(deny_unknown_fields, default)]
pub struct RerankQuirks {
    /// Path below the base URL, by default `/rerank`.
    pub path: Option<String>,
    /// Request fields that the vendor knows by another name, old name to new name.
    pub rename: BTreeMap<String, String>,
    /// Request fields that the vendor does not know; they are removed, and named in the warnings.
    pub drop: Vec<String>,
    /// Request fields to set where the client did not.
    pub defaults: BTreeMap<String, Value>,
    /// Documents must be strings; objects become text.
    pub texts_only: bool,
}

/// A rerank request whose envelope was checked.
#[derive(Debug, Clone)]
pub struct RerankAsk {
    /// The body as the client sent it.
    pub body: ClientBody,
    /// Number of documents, at least one.
    pub documents: usize,
    /// Whether all documents are strings.
    pub plain: bool,
    /// How many results are wanted.
    pub top_n: Option<usize>,
    /// Whether the answer is to repeat the documents.
    pub return_documents: bool,
    /// Whether the client spoke in Voyage's words, in which it wants its answer.
    /// <https://docs.voyageai.com/reference/reranker-api>
    pub is_voyages: bool,
}

impl RerankAsk {
    /// The documents as JSON text.
    pub fn raw_documents(&self) -> impl Iterator<Item = &str> {
        json::elements(self.body.raw("documents").unwrap_or_default())
    }

    /// The documents as text, in order.
    pub fn texts(&self) -> impl Iterator<Item = Cow<'_, str>> {
        let fields: Vec<Cow<'_, str>> = match self.body.raw("rank_fields") {
            Some(raw) => json::elements(raw).filter_map(json::text).collect(),
            None => Vec::new(),
        };
        self.raw_documents().map(move |raw| text_of(raw, &fields))
    }

    /// How many results a whole answer has.
    pub fn results(&self) -> usize {
        self.top_n.map_or(self.documents, |n| n.min(self.documents))
    }
}

/// A document as text: its `text`, or the fields that it is to be ranked by, line by line as in YAML.
fn text_of<'a>(raw: &'a str, fields: &[Cow<'_, str>]) -> Cow<'a, str> {
    if let Some(text) = json::text(raw) {
        return text;
    }
    let entries: Vec<_> = json::entries(raw).collect();
    if fields.is_empty()
        && let Some(text) = entries.iter().find(|(key, _)| key == "text").and_then(|(_, raw)| json::text(raw))
    {
        return text;
    }
    let mut lines = String::new();
    for (key, raw) in entries.iter().filter(|(key, _)| fields.is_empty() || fields.contains(key)) {
        if !lines.is_empty() {
            lines.push('\n');
        }
        lines.push_str(key);
        lines.push_str(": ");
        lines.push_str(&json::text(raw).unwrap_or(Cow::Borrowed(raw)));
    }
    Cow::Owned(lines)
}

/// The client's bytes as this vendor takes them.
///
/// # Errors
/// `BadRequest` that names a document which the vendor cannot read.
pub(super) fn request(
    ask: &RerankAsk,
    target: &TargetName,
    quirks: &RerankQuirks,
) -> Result<Outgoing, Fault> {
    let body = &ask.body;
    let mut lost = Vec::new();
    let mut splice = Splice::new(body);
    splice.set_text("model", &target.model);
    // The gateway has the documents; they need not come back.
    splice.remove("return_documents");
    if quirks.texts_only {
        if !ask.plain {
            splice.set("documents", texts(ask)?);
        }
        // Its fields stand in the texts now.
        splice.remove("rank_fields");
    }
    if ask.is_voyages {
        splice.rename("top_k", "top_n");
        if quirks.rename.get("top_n").is_none_or(|name| name != "top_k") {
            // All others cut what is too long.
            lost.extend((body.bool("truncation") == Some(false)).then(|| Loss::dropped("truncation")));
            splice.remove("truncation");
        }
    }
    for field in &quirks.drop {
        if body.has(field) && !(field == "rank_fields" && quirks.texts_only) && field != "return_documents" {
            // What is cut off here is cut off the answer.
            if field != "top_n" {
                lost.push(Loss::dropped(field.clone()));
            }
        }
        splice.remove(field);
    }
    for (old, new) in &quirks.rename {
        splice.rename(old, new);
    }
    for (field, value) in &quirks.defaults {
        if body.field(field).is_none() || field == "return_documents" {
            splice.set(field, value.to_string());
        }
    }
    let path = quirks.path.as_deref().unwrap_or("/rerank").replace("{model}", &target.model);
    let mut outgoing = Outgoing::json(path, "application/json", splice.finish());
    outgoing.lost = lost;
    Ok(outgoing)
}

fn texts(ask: &RerankAsk) -> Result<Vec<u8>, Fault> {
    let mut out = vec![b'['];
    for (at, (raw, text)) in ask.raw_documents().zip(ask.texts()).enumerate() {
        let is_picture = json::entries(raw).any(|(key, _)| key == "image") && !raw.contains("\"text\"");
        if is_picture {
            return super::foreign::cannot("a picture as a document", &format!("documents[{at}]"));
        }
        if at > 0 {
            out.push(b',');
        }
        json::write_text(&mut out, &text);
    }
    out.push(b']');
    Ok(out)
}

#[cfg(test)]
mod tests;
