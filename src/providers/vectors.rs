//! Embeddings in OpenAI's form, from vectors as another dialect has them.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;
use serde_json::value::RawValue;

use super::Relayed;
use crate::chat::Usage;
use crate::fault::{Fault, FaultKind};

/// An answer of OpenAI's form as it grows.
pub(super) struct Vectors {
    out: Vec<u8>,
    count: usize,
}

impl Vectors {
    /// An answer that will be about `size` bytes long.
    pub(super) fn new(size: usize) -> Self {
        let mut out = Vec::with_capacity(size);
        out.extend_from_slice(br#"{"object":"list","data":["#);
        Self { out, count: 0 }
    }

    /// Adds a vector, as numbers digit for digit, or as base64 of little-endian 32-bit floats.
    ///
    /// # Errors
    /// `Malformed` for what is no list of numbers.
    pub(super) fn push(&mut self, values: &RawValue, base64: bool) -> Result<(), Fault> {
        let Self { out, count } = self;
        if *count > 0 {
            out.push(b',');
        }
        out.extend_from_slice(format!(r#"{{"object":"embedding","index":{count},"embedding":"#).as_bytes());
        *count += 1;
        let numbers: Vec<f32> = serde_json::from_str(values.get()).map_err(|_| {
            Fault::new(FaultKind::Malformed, "the provider sent an embedding that is not a vector")
        })?;
        if base64 {
            let bytes: Vec<u8> = numbers.iter().flat_map(|number| number.to_le_bytes()).collect();
            out.push(b'"');
            out.extend_from_slice(STANDARD.encode(bytes).as_bytes());
            out.push(b'"');
        } else {
            out.extend(values.get().bytes().filter(|byte| !byte.is_ascii_whitespace()));
        }
        out.push(b'}');
        Ok(())
    }

    /// The whole answer.
    pub(super) fn finish(mut self, model: &str, usage: Option<Usage>) -> Relayed {
        let (model, counted) = (json!(model), usage.map_or(0, |usage| usage.prompt()));
        let tail =
            format!(r#"],"model":{model},"usage":{{"prompt_tokens":{counted},"total_tokens":{counted}}}}}"#);
        self.out.extend_from_slice(tail.as_bytes());
        Relayed { body: self.out.into(), usage, finish: None, lost: Vec::new() }
    }
}

/// The whole answer of a list of vectors.
///
/// # Errors
/// `Malformed` for what is no list of numbers.
pub(super) fn answer(
    list: &[&RawValue],
    model: &str,
    usage: Option<Usage>,
    base64: bool,
) -> Result<Relayed, Fault> {
    let mut vectors = Vectors::new(list.iter().map(|raw| raw.get().len()).sum::<usize>() + 256);
    for values in list {
        vectors.push(values, base64)?;
    }
    Ok(vectors.finish(model, usage))
}
