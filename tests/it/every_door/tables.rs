//! The tables of the suite: dialects, doors, and whose recordings there are.

use serde_json::Value;

use super::asked::Asked;
use super::said::Said;
use super::vendors::{cohere, cohere_stream, ollama, response_stream};
use super::{chat, generate, messages, responses};
use crate::fixtures;

/// A dialect as a person reads and writes it.
pub struct Speech {
    pub name: &'static str,
    /// Path of the door, for a model, streamed or not.
    pub path: fn(&str, bool) -> String,
    /// A whole answer.
    pub whole: fn(&str) -> Said,
    /// A streamed answer.
    pub streamed: fn(&str) -> Said,
    /// A request.
    pub read: fn(&Value) -> Asked,
    /// A request, without model and stream.
    pub write: fn(&Asked) -> Value,
    /// The message of an error body that has the dialect's shape.
    pub error: fn(&Value) -> Option<String>,
}

pub static CHAT: Speech = Speech {
    name: "chat",
    path: |_, _| "/v1/chat/completions".into(),
    whole: chat::whole,
    streamed: chat::streamed,
    read: chat::read,
    write: chat::write,
    error: chat::error,
};

pub static MESSAGES: Speech = Speech {
    name: "messages",
    path: |_, _| "/v1/messages".into(),
    whole: messages::whole,
    streamed: messages::streamed,
    read: messages::read,
    write: messages::write,
    error: messages::error,
};

pub static GENERATE: Speech = Speech {
    name: "generateContent",
    path: |model, stream| {
        let method = if stream { "streamGenerateContent?alt=sse" } else { "generateContent" };
        format!("/v1beta/models/{model}:{method}")
    },
    whole: generate::whole,
    streamed: generate::streamed,
    read: generate::read,
    write: generate::write,
    error: generate::error,
};

pub static RESPONSES: Speech = Speech {
    name: "responses",
    path: |_, _| "/v1/responses".into(),
    whole: responses::whole,
    streamed: responses::streamed,
    read: responses::read,
    write: responses::write,
    error: responses::error,
};

/// A dialect whose answers alone are read here: its requests are tried where it is spoken.
const fn answers(name: &'static str, whole: fn(&str) -> Said, streamed: fn(&str) -> Said) -> Speech {
    Speech {
        name,
        path: |_, _| String::new(),
        whole,
        streamed,
        read: |_| Asked::hello(),
        write: |_| Value::Null,
        error: |_| None,
    }
}

/// Responses as providers write them; what they get is compared in `responses_both.rs`.
static RESPONSE: Speech = answers("responses", responses::whole, response_stream);
pub static COHERE: Speech = answers("cohere", cohere, cohere_stream);
static OLLAMA: Speech = answers("ollama", ollama, ollama);

/// The doors of the house.
pub static DOORS: [&Speech; 4] = [&CHAT, &MESSAGES, &GENERATE, &RESPONSES];

/// Vendors that speak Responses, too, and would be asked in them.
pub const SPEAK_RESPONSES: [&str; 10] = [
    "openai",
    "azure",
    "xai",
    "groq",
    "openrouter",
    "huggingface",
    "ollama-openai",
    "vllm",
    "fireworks",
    "vercel-gateway",
];

/// Recordings' folder, settings of the provider, path below the scripted provider, operation, dialect. OpenAI's kin
/// stand in [`fixtures::VENDORS`].
pub static VENDORS: [(&str, &str, &str, &str, &Speech); 7] = [
    ("anthropic", "preset: anthropic", "/v1", "messages", &MESSAGES),
    ("gemini", "preset: gemini", "/v1beta", "generateContent", &GENERATE),
    ("vertex", "dialect: gemini", "/v1beta1", "generateContent", &GENERATE),
    ("cohere", "preset: cohere", "/v2", "native-chat", &COHERE),
    ("ollama", "preset: ollama-native", "", "ollama-chat", &OLLAMA),
    ("openai", "dialect: openai-responses", "/v1", "responses", &RESPONSE),
    ("xai", "dialect: openai-responses", "/v1", "responses", &RESPONSE),
];

/// A line of the tables: the provider's name and settings, and what of the recordings is its.
pub struct Vendor {
    pub name: String,
    pub folder: &'static str,
    pub settings: String,
    pub path: &'static str,
    pub op: &'static str,
    pub speech: &'static Speech,
}

pub fn vendors() -> Vec<Vendor> {
    let family = fixtures::VENDORS.iter().map(|(folder, preset, path)| {
        let settings = if preset.is_empty() { "dialect: openai".into() } else { format!("preset: {preset}") };
        Vendor { name: (*folder).to_owned(), folder, settings, path, op: "chat", speech: &CHAT }
    });
    let others = VENDORS.iter().map(|(folder, settings, path, op, speech)| {
        let (name, settings) = (format!("{folder}-{}", op.to_lowercase()), (*settings).to_owned());
        Vendor { name, folder, settings, path, op, speech }
    });
    family.chain(others).collect()
}
