//! Embeddings in OpenAI's form, from vectors as another dialect has them.

use std::borrow::Cow;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;
use serde_json::value::RawValue;

use super::{ClientBody, Relayed};
use crate::chat::Usage;
use crate::fault::{Fault, FaultKind};

/// OpenAI's answer: each vector as numbers, digit for digit, or as base64 of little-endian 32-bit floats.
///
/// # Errors
/// `Malformed` for what is no list of numbers.
pub(super) fn answer<'a>(
    vectors: impl Iterator<Item = &'a RawValue>,
    model: &str,
    usage: Option<Usage>,
    base64: bool,
) -> Result<Relayed, Fault> {
    let mut answer = Vectors::new(1024);
    for vector in vectors {
        answer.push(vector, base64)?;
    }
    Ok(answer.finish(model, usage))
}

/// The same answer as it grows.
pub(super) struct Vectors {
    out: Vec<u8>,
    count: usize,
}

impl Vectors {
    /// An answer of about `size` bytes.
    pub(super) fn new(size: usize) -> Self {
        let mut out = Vec::with_capacity(size);
        out.extend_from_slice(br#"{"object":"list","data":["#);
        Self { out, count: 0 }
    }

    /// Adds a vector.
    ///
    /// # Errors
    /// `Malformed` for what is no list of numbers.
    pub(super) fn push(&mut self, vector: &RawValue, base64: bool) -> Result<(), Fault> {
        let Self { out, count } = self;
        if *count > 0 {
            out.push(b',');
        }
        out.extend_from_slice(format!(r#"{{"object":"embedding","index":{count},"embedding":"#).as_bytes());
        *count += 1;
        let numbers: Vec<f32> = serde_json::from_str(vector.get()).map_err(|_| {
            Fault::new(FaultKind::Malformed, "the provider sent an embedding that is not a vector")
        })?;
        if base64 {
            let bytes: Vec<u8> = numbers.iter().flat_map(|number| number.to_le_bytes()).collect();
            out.push(b'"');
            out.extend_from_slice(STANDARD.encode(bytes).as_bytes());
            out.push(b'"');
        } else {
            out.extend(vector.get().bytes().filter(|byte| !byte.is_ascii_whitespace()));
        }
        out.push(b'}');
        Ok(())
    }

    /// The whole of it.
    pub(super) fn finish(mut self, model: &str, usage: Option<Usage>) -> Relayed {
        let (model, counted) = (json!(model), usage.map_or(0, |usage| usage.prompt()));
        let tail =
            format!(r#"],"model":{model},"usage":{{"prompt_tokens":{counted},"total_tokens":{counted}}}}}"#);
        self.out.extend_from_slice(tail.as_bytes());
        Relayed { body: self.out.into(), usage, finish: None, lost: Vec::new() }
    }
}

/// What vectors are for, in Google's word and in Cohere's; the first that fits counts.
/// <https://ai.google.dev/gemini-api/docs/embeddings#supported-task-types>, <https://docs.cohere.com/reference/embed>
const PURPOSES: [(&str, &str); 7] = [
    ("RETRIEVAL_QUERY", "search_query"),
    ("RETRIEVAL_DOCUMENT", "search_document"),
    ("CLASSIFICATION", "classification"),
    ("CLUSTERING", "clustering"),
    ("QUESTION_ANSWERING", "search_query"),
    ("FACT_VERIFICATION", "search_query"),
    ("CODE_RETRIEVAL_QUERY", "search_query"),
];

/// Whether a field says in Google's words what vectors are for.
pub(super) fn is_task(field: &str) -> bool {
    matches!(field, "task_type" | "taskType")
}

/// Google's `task_type`, also of a client who says it in Cohere's words, or in Voyage's.
pub(super) fn task(body: &ClientBody) -> Option<Cow<'_, str>> {
    body.str("task_type").or_else(|| body.str("taskType")).or_else(|| {
        let said = cohere_of(body)?;
        let (google, _) = PURPOSES.iter().find(|(_, cohere)| *cohere == said)?;
        Some(Cow::Borrowed(*google))
    })
}

/// Cohere's `input_type`, where Voyage has shorter words.
fn cohere_of(body: &ClientBody) -> Option<Cow<'_, str>> {
    body.str("input_type").map(|said| match &*said {
        "query" => Cow::Borrowed("search_query"),
        "document" => Cow::Borrowed("search_document"),
        _ => said,
    })
}

/// Cohere's `input_type`, also of a client who says it in Google's words, or in Voyage's.
pub(super) fn input_type(body: &ClientBody) -> Option<Cow<'_, str>> {
    cohere_of(body).or_else(|| {
        let said = body.str("task_type").or_else(|| body.str("taskType"))?;
        let (_, cohere) = PURPOSES.iter().find(|(google, _)| google.eq_ignore_ascii_case(&said))?;
        Some(Cow::Borrowed(*cohere))
    })
}

/// Whether an input is a picture.
pub(super) fn is_image(input: &str) -> bool {
    input.starts_with("data:image/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_vectors_are_for_is_understood_in_everybodys_words() {
        for (said, google, cohere) in [
            (r#"{"input_type":"search_query"}"#, Some("RETRIEVAL_QUERY"), Some("search_query")),
            (r#"{"input_type":"document"}"#, Some("RETRIEVAL_DOCUMENT"), Some("search_document")),
            (r#"{"task_type":"RETRIEVAL_QUERY"}"#, Some("RETRIEVAL_QUERY"), Some("search_query")),
            (r#"{"taskType":"CODE_RETRIEVAL_QUERY"}"#, Some("CODE_RETRIEVAL_QUERY"), Some("search_query")),
            (r#"{"task_type":"SEMANTIC_SIMILARITY"}"#, Some("SEMANTIC_SIMILARITY"), None),
            (r#"{"input_type":"image"}"#, None, Some("image")),
            ("{}", None, None),
        ] {
            let body = ClientBody::read(said.into()).unwrap();
            assert_eq!((task(&body).as_deref(), input_type(&body).as_deref()), (google, cohere), "{said}");
        }
    }
}
