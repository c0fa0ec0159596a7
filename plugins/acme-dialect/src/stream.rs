//! From the lines of Acme's stream to `chat.completion.chunk` objects.

use serde::Deserialize;
use serde_json::{Value, json};
use tollgate_plugin::{Decoder, Failure};

use crate::answer::{Meter, finish_reason};

/// A line longer than this is no line, in bytes.
const LONGEST_LINE: usize = 4 << 20;

/// Reads lines, cut anywhere.
#[derive(Debug, Default)]
pub struct Lines {
    held: Vec<u8>,
    id: String,
    engine: String,
    closed: bool,
}

/// One line of the stream.
#[derive(Deserialize)]
#[serde(tag = "part", rename_all = "snake_case")]
enum Part {
    Opening {
        #[serde(default)]
        answer_id: String,
        #[serde(default)]
        engine: String,
    },
    Say {
        text: String,
    },
    Use {
        index: u32,
        id: Option<String>,
        ability: Option<String>,
        with_text: Option<String>,
    },
    Closing {
        ended: String,
        #[serde(default)]
        meter: Meter,
    },
    Trouble {
        kind: String,
        #[serde(default)]
        detail: String,
    },
    /// Signs of life, and parts that Acme will think of later.
    #[serde(other)]
    Other,
}

impl Decoder for Lines {
    fn feed(&mut self, bytes: &[u8]) -> Result<Vec<String>, Failure> {
        self.held.extend_from_slice(bytes);
        let mut chunks = Vec::new();
        let held = std::mem::take(&mut self.held);
        let mut rest = held.as_slice();
        while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            let (line, after) = rest.split_at(end);
            self.read(line, &mut chunks)?;
            rest = after.get(1..).unwrap_or_default();
        }
        if rest.len() > LONGEST_LINE {
            return Err(Failure::Internal(format!(
                "a line of the stream is longer than {LONGEST_LINE} bytes"
            )));
        }
        self.held = rest.to_vec();
        Ok(chunks)
    }

    fn end(&mut self) -> Result<Vec<String>, Failure> {
        let mut chunks = Vec::new();
        let last = std::mem::take(&mut self.held);
        self.read(&last, &mut chunks)?;
        if self.closed {
            Ok(chunks)
        } else {
            Err(Failure::Internal("the stream ended before its closing".to_owned()))
        }
    }
}

impl Lines {
    fn read(&mut self, line: &[u8], chunks: &mut Vec<String>) -> Result<(), Failure> {
        let line = line.trim_ascii();
        if line.is_empty() {
            return Ok(());
        }
        let part = serde_json::from_slice(line)
            .map_err(|error| Failure::Internal(format!("a line of the stream cannot be read: {error}")))?;
        match part {
            Part::Opening { answer_id, engine } => {
                (self.id, self.engine) = (answer_id, engine);
                chunks.push(self.chunk(&json!({ "role": "assistant", "content": "" }), &Value::Null, None));
            }
            Part::Say { text } => chunks.push(self.chunk(&json!({ "content": text }), &Value::Null, None)),
            Part::Use { index, id, ability, with_text } => {
                let call = tool_call(index, id, ability, with_text);
                chunks.push(self.chunk(&json!({ "tool_calls": [call] }), &Value::Null, None));
            }
            Part::Closing { ended, meter } => {
                self.closed = true;
                chunks.push(self.chunk(&json!({}), &finish_reason(&ended).into(), Some(meter)));
            }
            Part::Trouble { kind, detail } => return Err(Failure::Unavailable(format!("{kind}: {detail}"))),
            Part::Other => {}
        }
        Ok(())
    }

    fn chunk(&self, delta: &Value, finish: &Value, meter: Option<Meter>) -> String {
        let mut chunk = json!({
            "id": self.id,
            "object": "chat.completion.chunk",
            "created": 0,
            "model": self.engine,
            "choices": [{ "index": 0, "delta": delta, "finish_reason": finish }],
        });
        if let Some(meter) = meter {
            chunk["usage"] = meter.usage();
        }
        chunk.to_string()
    }
}

fn tool_call(index: u32, id: Option<String>, ability: Option<String>, with: Option<String>) -> Value {
    let mut call = json!({ "index": index, "function": { "arguments": with.unwrap_or_default() } });
    if let Some(id) = id {
        call["id"] = id.into();
        call["type"] = "function".into();
    }
    if let Some(ability) = ability {
        call["function"]["name"] = ability.into();
    }
    call
}
