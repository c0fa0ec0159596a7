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
    let mut out = Vec::with_capacity(1024);
    out.extend_from_slice(br#"{"object":"list","data":["#);
    for (place, vector) in vectors.enumerate() {
        if place > 0 {
            out.push(b',');
        }
        out.extend_from_slice(format!(r#"{{"object":"embedding","index":{place},"embedding":"#).as_bytes());
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
    }
    let counted = usage.map_or(0, |usage| usage.prompt());
    let tail = format!(
        r#"],"model":{},"usage":{{"prompt_tokens":{counted},"total_tokens":{counted}}}}}"#,
        json!(model)
    );
    out.extend_from_slice(tail.as_bytes());
    Ok(Relayed { body: out.into(), usage, finish: None, lost: Vec::new() })
}
