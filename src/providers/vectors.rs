//! Embeddings in OpenAI's form, from vectors as another dialect has them.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;
use serde_json::value::RawValue;

use super::Relayed;
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
