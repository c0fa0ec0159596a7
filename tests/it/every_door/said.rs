//! What an answer says, in no dialect: what a person would take from it.

use base64::Engine as _;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
use serde_json::Value;

/// The first choice of an answer and what stands around it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Said {
    pub text: String,
    pub thought: String,
    pub refusal: String,
    pub calls: Vec<Call>,
    /// Proofs of thinking, as they stand in the dialect.
    pub proofs: Vec<String>,
    /// Addresses of the sources that are cited.
    pub sources: Vec<String>,
    pub stop: Option<Stop>,
    pub usage: Option<Tokens>,
    /// The error, under whatever envelope it came.
    pub error: Option<Value>,
    /// Whether the dialect's end came.
    pub ended: bool,
    /// Departures from what the dialect's own SDKs can read.
    pub oddities: Vec<String>,
}

/// A call of a tool of the client.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Call {
    pub id: String,
    pub name: String,
    /// Parsed; text where it is no JSON.
    pub input: Value,
}

/// Why an answer ended, as far as all dialects can tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// By itself, or in a way that has no word elsewhere.
    End,
    Length,
    Calls,
    Filter,
}

/// Tokens in OpenAI's sense: prompt includes the cache, completion includes thinking.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tokens {
    pub prompt: u64,
    pub completion: u64,
    pub cached: u64,
    pub thinking: u64,
}

impl Said {
    pub fn odd(&mut self, what: impl Into<String>) {
        self.oddities.push(what.into());
    }

    /// Whether a client has seen anything of the answer.
    pub fn has_content(&self) -> bool {
        !(self.text.is_empty()
            && self.thought.is_empty()
            && self.refusal.is_empty()
            && self.calls.is_empty()
            && self.proofs.is_empty())
    }

    /// Whether a proof travels in this answer, openly or wrapped.
    pub fn carries(&self, proof: &str) -> bool {
        let ids = self.calls.iter().map(|call| call.id.as_str());
        self.proofs.iter().map(String::as_str).chain(ids).any(|found| wrapped(found, proof))
    }
}

fn wrapped(found: &str, proof: &str) -> bool {
    if found.contains(proof) {
        return true;
    }
    let inner = found.rsplit("__sig__").next().unwrap_or(found);
    let bytes = BASE64_URL_SAFE_NO_PAD.decode(inner).or_else(|_| BASE64_STANDARD.decode(inner));
    bytes.is_ok_and(|bytes| String::from_utf8_lossy(&bytes).contains(proof))
}

/// JSON arguments as a value; `{}` for none.
pub fn input(text: &str) -> Value {
    if text.trim().is_empty() {
        return Value::Object(serde_json::Map::new());
    }
    serde_json::from_str(text).unwrap_or_else(|_| text.into())
}

/// The data of every event of a stream, with the event's name.
pub fn events(body: &str) -> Vec<(String, String)> {
    let body = body.strip_prefix('\u{feff}').unwrap_or(body).replace("\r\n", "\n").replace('\r', "\n");
    let line = |event: &str, name: &str| {
        let lines = event.lines().filter_map(|line| line.strip_prefix(name));
        lines.map(|rest| rest.strip_prefix(' ').unwrap_or(rest)).collect::<Vec<_>>().join("\n")
    };
    body.split("\n\n")
        .map(|event| (line(event, "event:"), line(event, "data:")))
        .filter(|(_, data)| !data.is_empty())
        .collect()
}

pub fn each(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

pub fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

pub fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or(0)
}
