//! From Acme's whole answer to a `chat.completion`.

use serde::Deserialize;
use serde_json::{Value, json};
use tollgate_plugin::Failure;

#[derive(Deserialize)]
struct Answer {
    #[serde(default)]
    answer_id: String,
    #[serde(default)]
    engine: String,
    reply: Reply,
    ended: String,
    #[serde(default)]
    meter: Meter,
}

#[derive(Deserialize)]
struct Reply {
    say: Option<String>,
    #[serde(default)]
    uses: Vec<Use>,
}

#[derive(Deserialize)]
struct Use {
    id: String,
    ability: String,
    #[serde(default)]
    with: Value,
}

/// What was counted.
#[derive(Debug, Deserialize, Default, Clone, Copy)]
#[serde(default)]
pub struct Meter {
    read: u64,
    written: u64,
    /// Of what was read, what Acme still knew.
    recalled: u64,
}

impl Meter {
    /// As OpenAI's `usage`.
    pub fn usage(self) -> Value {
        json!({
            "prompt_tokens": self.read,
            "completion_tokens": self.written,
            "total_tokens": self.read + self.written,
            "prompt_tokens_details": { "cached_tokens": self.recalled },
        })
    }
}

/// OpenAI's word for the end of an answer.
pub fn finish_reason(ended: &str) -> &'static str {
    match ended {
        "limit" => "length",
        "ability" => "tool_calls",
        "blocked" => "content_filter",
        _ => "stop",
    }
}

/// The answer as a `chat.completion`, as JSON text.
///
/// # Errors
/// Bytes that are no answer of Acme's.
pub fn openai(body: &[u8]) -> Result<String, Failure> {
    let answer: Answer = serde_json::from_slice(body)
        .map_err(|error| Failure::Internal(format!("not an answer of Acme's: {error}")))?;
    let mut message = json!({ "role": "assistant", "content": answer.reply.say });
    if !answer.reply.uses.is_empty() {
        message["tool_calls"] = answer.reply.uses.iter().map(tool_call).collect();
    }
    let choice = json!({ "index": 0, "message": message, "finish_reason": finish_reason(&answer.ended) });
    Ok(json!({
        "id": answer.answer_id,
        "object": "chat.completion",
        "created": 0,
        "model": answer.engine,
        "choices": [choice],
        "usage": answer.meter.usage(),
    })
    .to_string())
}

fn tool_call(used: &Use) -> Value {
    let arguments = if used.with.is_null() { "{}".to_owned() } else { used.with.to_string() };
    json!({ "id": used.id, "type": "function", "function": { "name": used.ability, "arguments": arguments } })
}
