//! What a client gets of a stream, and whether two clients got the same.

use bytes::Bytes;
use serde_json::Value;
use tollgate::gateway::Asked;
use tollgate::providers::Target;

/// Everything that went to the client.
pub struct Said {
    bytes: Vec<u8>,
    /// The kind of the fault at its end, if there was one.
    fault: Option<String>,
}

/// Fields that are made up for each answer where the provider gives none.
const MADE_UP: [&str; 9] = [
    "id",
    "created",
    "created_at",
    "completed_at",
    "call_id",
    "item_id",
    "tool_use_id",
    "responseId",
    "thoughtSignature",
];

/// Sends `chunks` through the stream that the door makes for this target.
pub fn said(asked: &dyn Asked, target: &Target, chunks: impl IntoIterator<Item = Bytes>) -> Said {
    let Ok(mut relay) = super::carried(asked).stream(target) else {
        return Said { bytes: Vec::new(), fault: Some("no stream".into()) };
    };
    let mut frames = Vec::new();
    let mut fault = None;
    for chunk in chunks {
        if relay.is_complete() {
            break;
        }
        if let Err(error) = relay.feed(chunk, &mut frames) {
            fault = Some(error.kind.as_str().to_owned());
            break;
        }
    }
    if fault.is_none()
        && let Err(error) = relay.finish(&mut frames)
    {
        fault = Some(error.kind.as_str().to_owned());
    }
    let _ = (relay.usage(), relay.finish_reason(), relay.text_bytes());
    let bytes: Vec<u8> = frames.iter().flat_map(|frame| frame.bytes.iter().copied()).collect();
    Said { bytes, fault }
}

impl Said {
    /// For messages.
    pub fn text(&self) -> String {
        format!("{}\n{:?}", String::from_utf8_lossy(&self.bytes), self.fault)
    }

    fn values(&self) -> Vec<Value> {
        let text = String::from_utf8_lossy(&self.bytes);
        if text.starts_with('[') {
            // The array of a stream that was cut lacks its end.
            let ends = ["", "]"].map(|end| plain(&format!("{text}{end}")));
            return ends.into_iter().filter(Value::is_array).collect();
        }
        text.lines().filter_map(|line| line.strip_prefix("data:")).map(|data| plain(data.trim())).collect()
    }
}

/// Whether both are the same but for what is made up.
pub fn same(one: &Said, other: &Said) -> bool {
    one.fault == other.fault && (one.bytes == other.bytes || one.values() == other.values())
}

/// Whether these bytes are one JSON value.
pub fn is_json(bytes: &[u8]) -> bool {
    serde_json::from_slice::<serde::de::IgnoredAny>(bytes).is_ok()
}

fn plain(data: &str) -> Value {
    let mut value = serde_json::from_str(data).unwrap_or_else(|_| Value::String(data.to_owned()));
    strip(&mut value);
    value
}

fn strip(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.retain(|key, _| !MADE_UP.contains(&key.as_str()));
            fields.values_mut().for_each(strip);
        }
        Value::Array(items) => items.iter_mut().for_each(strip),
        _ => {}
    }
}
