//! What each translation carries, converts and loses, found out by running it: each field of a maximal document is taken
//! away in turn, and what changes on the other side is what became of it.
//!
//! A field without which nothing changes, and which no loss names, was dropped in silence: then a test fails. The same
//! findings make `docs/translation.md`.

mod answer;
mod field;
mod page;
mod probe;
mod request;

use std::sync::Arc;

use serde_json::Value;

use super::anthropic_messages::AnthropicMessages;
use super::gemini_generate::{Form, GeminiDoor};
use super::openai_chat::OpenAiChat;
use crate::gateway::Door;
use crate::providers::{Target, Vendor, dialect, presets};
use crate::target::TargetName;

/// A door for chat, and requests in which every documented field of its dialect is set at least once, beside some that
/// no document knows.
struct ClientDialect {
    name: &'static str,
    door: &'static dyn Door,
    uri: &'static str,
    requests: &'static str,
}

/// A provider of chat, a model that can do what its dialect can say, and answers with every documented field.
struct ProviderDialect {
    name: &'static str,
    word: &'static str,
    model: &'static str,
    answers: &'static str,
}

macro_rules! documents {
    ($folder:literal, $name:literal) => {
        include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/translation/", $folder, "/", $name, ".json"))
    };
}

/// For providers whose answers nobody has written down with every field yet.
const NONE_YET: &str = "[]";

/// One line for each client dialect.
const CLIENTS: &[ClientDialect] = &[
    ClientDialect {
        name: "OpenAI chat completions",
        door: &OpenAiChat,
        uri: "/v1/chat/completions",
        requests: documents!("requests", "openai_chat"),
    },
    ClientDialect {
        name: "Anthropic messages",
        door: &AnthropicMessages,
        uri: "/v1/messages",
        requests: documents!("requests", "anthropic_messages"),
    },
    ClientDialect {
        name: "Gemini generateContent",
        door: &GeminiDoor(Form::Whole),
        uri: "/v1beta/models/p/m:generateContent",
        requests: documents!("requests", "gemini_generate"),
    },
];

/// One line for each dialect of providers.
const PROVIDERS: &[ProviderDialect] = &[
    ProviderDialect {
        name: "OpenAI",
        word: "openai",
        model: "gpt-5.1",
        answers: documents!("answers", "openai"),
    },
    ProviderDialect {
        name: "Anthropic",
        word: "anthropic",
        model: "claude-sonnet-4-5",
        answers: documents!("answers", "anthropic"),
    },
    ProviderDialect {
        name: "Gemini",
        word: "gemini",
        model: "gemini-2.5-flash",
        answers: documents!("answers", "gemini"),
    },
    ProviderDialect {
        name: "OpenAI Responses",
        word: "openai-responses",
        model: "gpt-5.1",
        answers: NONE_YET,
    },
    ProviderDialect {
        name: "Bedrock",
        word: "bedrock",
        model: "anthropic.claude-sonnet-4-5-v1:0",
        answers: NONE_YET,
    },
    ProviderDialect {
        name: "Cohere",
        word: "cohere",
        model: "command-a-reasoning-08-2025",
        answers: NONE_YET,
    },
    ProviderDialect { name: "Ollama", word: "ollama", model: "qwen3", answers: NONE_YET },
];

impl ProviderDialect {
    fn target(&self) -> Target {
        let quirks = presets::all()
            .iter()
            .find(|preset| preset.dialect == self.word)
            .map(|preset| preset.quirks.clone())
            .unwrap_or_default();
        let vendor = Vendor::bare("p", dialect(self.word, &quirks).unwrap());
        let name = TargetName { provider: "p".into(), model: self.model.into() };
        Target::new(Arc::new(vendor), name)
    }
}

fn documents(text: &str) -> Vec<Value> {
    serde_json::from_str(text).unwrap()
}

/// Whether a translation is needed at all.
fn is_native(client: &ClientDialect, target: &Target) -> bool {
    client.door.dialect() == target.vendor.wire.dialect()
}
