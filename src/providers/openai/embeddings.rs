//! Embeddings answers: vectors as numbers or as base64, whichever the client asked for, whatever the vendor sent.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use super::peek::{Shape, Word};
use super::{envelope, fault, usage};
use crate::chat::{Object, Usage};
use crate::fault::Fault;
use crate::providers::Relayed;

/// The body for the client, and what it says was used.
pub(in crate::providers) fn relay(body: &Bytes, base64: bool, now_ms: u64) -> Result<Relayed, Fault> {
    let body = body.slice_ref(body.trim_ascii());
    if let Ok(text) = simdutf8::basic::from_utf8(&body)
        && let Ok(peek) = serde_json::from_str::<Peek<'_>>(text)
        && let Some(usage) = peek.clean(base64)
    {
        return Ok(Relayed { body, usage: Some(usage), finish: None, lost: Vec::new() });
    }
    let Ok(value) = serde_json::from_slice::<Value>(&body) else {
        return Err(fault::malformed("the provider's embeddings are not JSON"));
    };
    let Value::Object(mut object) = value else {
        return Err(fault::inside_success(&value, now_ms));
    };
    if envelope::is_error(&object) {
        return Err(fault::inside_success(&Value::Object(object), now_ms));
    }
    let Some(Value::Array(data)) = object.get_mut("data") else {
        return Err(fault::malformed("the provider's answer has no embeddings"));
    };
    for (place, item) in data.iter_mut().enumerate() {
        convert(item, place, base64)?;
    }
    object.insert("object".into(), "list".into());
    if !object.get("model").is_some_and(Value::is_string) {
        object.insert("model".into(), "".into());
    }
    let usage = fill_usage(&mut object);
    Ok(Relayed {
        body: serde_json::to_vec(&object).unwrap_or_default().into(),
        usage,
        finish: None,
        lost: Vec::new(),
    })
}

fn convert(item: &mut Value, place: usize, base64: bool) -> Result<(), Fault> {
    let broken = || fault::malformed("the provider sent an embedding that is not a vector");
    let Value::Object(item) = item else { return Err(broken()) };
    let vector = item.get("embedding").ok_or_else(broken)?;
    let converted = match (vector, base64) {
        (Value::Array(numbers), true) => Some(Value::String(packed(numbers).ok_or_else(broken)?)),
        (Value::Array(numbers), false) if numbers.iter().all(Value::is_number) => None,
        (Value::String(text), true) => {
            STANDARD.decode(text).ok().filter(|bytes| bytes.len() % 4 == 0).ok_or_else(broken)?;
            None
        }
        (Value::String(text), false) => Some(unpacked(text).ok_or_else(broken)?),
        _ => return Err(broken()),
    };
    if let Some(converted) = converted {
        item.insert("embedding".into(), converted);
    }
    item.insert("object".into(), "embedding".into());
    if item.get("index").and_then(Value::as_u64).is_none() {
        item.insert("index".into(), place.into());
    }
    Ok(())
}

/// Numbers as 32-bit floats, little-endian, in base64: what OpenAI's own clients ask for.
fn packed(numbers: &[Value]) -> Option<String> {
    let mut bytes = Vec::with_capacity(numbers.len() * 4);
    for number in numbers {
        #[allow(clippy::cast_possible_truncation, reason = "embeddings are 32-bit floats on the wire")]
        let float = number.as_f64()? as f32;
        bytes.extend_from_slice(&float.to_le_bytes());
    }
    Some(STANDARD.encode(bytes))
}

/// The other way; every number with the fewest digits that still mean the same 32-bit float.
fn unpacked(text: &str) -> Option<Value> {
    let bytes = STANDARD.decode(text).ok()?;
    let (floats, rest) = bytes.as_chunks::<4>();
    if !rest.is_empty() {
        return None;
    }
    let number = |bytes: &[u8; 4]| {
        let float = f32::from_le_bytes(*bytes);
        let shortest = float.to_string().parse::<f64>().ok()?;
        serde_json::Number::from_f64(shortest).map(Value::Number)
    };
    floats.iter().map(number).collect::<Option<Vec<_>>>().map(Value::Array)
}

fn fill_usage(object: &mut Object) -> Option<Usage> {
    let Some(Value::Object(counted)) = object.get_mut("usage") else {
        // Clients read it without looking whether it is there.
        object.insert("usage".into(), serde_json::json!({ "prompt_tokens": 0, "total_tokens": 0 }));
        return None;
    };
    let tally = usage::read_value(counted, false)?;
    if tally.embedding_deviates(counted) {
        tally.rewrite_embedding(counted);
    }
    Some(tally.usage)
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Peek<'a> {
    #[serde(borrow)]
    object: Word<'a>,
    #[serde(borrow)]
    model: Word<'a>,
    error: Shape,
    #[serde(borrow)]
    data: Vec<PeekItem<'a>>,
    #[serde(borrow)]
    usage: Option<&'a RawValue>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct PeekItem<'a> {
    #[serde(borrow)]
    object: Word<'a>,
    index: Shape,
    embedding: Shape,
}

impl Peek<'_> {
    fn clean(&self, base64: bool) -> Option<Usage> {
        let form = |shape: Shape| {
            if base64 { matches!(shape, Shape::Text(1..)) } else { shape == Shape::Other(true) }
        };
        let clean = self.object.text() == Some("list")
            && self.model.text().is_some()
            && self.error.is_unsaid()
            && !self.data.is_empty()
            && self.data.iter().all(|item| {
                item.object.text() == Some("embedding")
                    && matches!(item.index, Shape::Count(_))
                    && form(item.embedding)
            });
        let raw = self.usage.filter(|_| clean)?.get();
        let counted = serde_json::from_str::<Object>(raw).ok()?;
        let tally = usage::read_value(&counted, false)?;
        (!tally.embedding_deviates(&counted)).then_some(tally.usage)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const FLOATS: &str = r#"{"object":"list","model":"m","data":[{"object":"embedding","index":0,"embedding":[0.1,-2.5,0]}],"usage":{"prompt_tokens":3,"total_tokens":3}}"#;

    fn ask(body: &str, base64: bool) -> Value {
        serde_json::from_slice(&relay(&Bytes::from(body.to_owned()), base64, 0).unwrap().body).unwrap()
    }

    #[test]
    fn a_total_alone_is_the_prompt() {
        let told = FLOATS.replace(r#""prompt_tokens":3,"#, "");
        let relayed = relay(&Bytes::from(told.clone()), false, 0).unwrap();
        assert_eq!(relayed.usage.map(|usage| (usage.input, usage.output)), Some((3, 0)));
        assert_eq!(ask(&told, false)["usage"], json!({"total_tokens": 3, "prompt_tokens": 3}));
    }

    #[test]
    fn clean_answers_are_not_touched() {
        let relayed = relay(&Bytes::from_static(FLOATS.as_bytes()), false, 0).unwrap();
        assert_eq!(relayed.body.as_ptr(), FLOATS.as_ptr());
        assert_eq!(relayed.usage.unwrap().input, 3);
    }

    #[test]
    fn vectors_come_in_the_form_that_was_asked_for() {
        let packed = ask(FLOATS, true);
        assert_eq!(packed["data"][0]["embedding"], "zczMPQAAIMAAAAAA");
        assert_eq!(ask(&packed.to_string(), true), packed);
        let again = ask(&packed.to_string(), false);
        assert_eq!(again["data"][0]["embedding"], json!([0.1, -2.5, 0.0]));
    }

    #[test]
    fn what_is_missing_is_filled_and_what_is_broken_is_a_fault() {
        let filled = ask(r#"{"data":[{"embedding":[1]},{"embedding":[2]}]}"#, false);
        assert_eq!(filled["data"][1]["index"], 1);
        assert_eq!((&filled["object"], &filled["usage"]["prompt_tokens"]), (&json!("list"), &json!(0)));
        for body in
            ["", "<html>", "{}", r#"{"data":[{}]}"#, r#"{"data":[{"embedding":"x"}]}"#, r#"{"error":"x"}"#]
        {
            assert!(relay(&Bytes::from(body.to_owned()), false, 0).is_err(), "{body}");
        }
    }
}
