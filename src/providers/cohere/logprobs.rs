//! Cohere's log probabilities in OpenAI's form, which the doors understand.

use serde_json::{Value, json};

/// One `{text, token_ids, logprobs}`, or a list of them; `None` where there are none.
pub(super) fn read(value: Option<Value>) -> Option<Value> {
    let items = match value? {
        Value::Array(items) => items,
        item @ Value::Object(_) => vec![item],
        _ => return None,
    };
    let content: Vec<Value> = items.iter().map(entry).collect();
    (!content.is_empty()).then(|| json!({ "content": content, "refusal": null }))
}

/// A piece of text may have several tokens; its probability is their product.
fn entry(item: &Value) -> Value {
    let text = item.get("text").and_then(Value::as_str).unwrap_or_default();
    let logprobs = item.get("logprobs").and_then(Value::as_array).into_iter().flatten();
    let sum: f64 = logprobs.filter_map(Value::as_f64).sum();
    json!({ "token": text, "logprob": sum, "bytes": text.as_bytes(), "top_logprobs": [] })
}
