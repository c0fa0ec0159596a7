//! The body of a told request: what is not said follows from what is.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::{Message, Messages, Modality, Told};
use crate::facts::Body;

/// The body of a told request, with everything derived that was not told.
#[derive(Debug)]
pub(super) struct ToldBody {
    stream: bool,
    max_tokens: Option<u64>,
    tokens: u64,
    tools: Vec<Box<str>>,
    messages: u64,
    modalities: Vec<Modality>,
    json_output: bool,
    text: String,
    system: String,
    last_user: String,
    user: Option<String>,
    metadata: Map<String, Value>,
    fields: BTreeMap<String, String>,
}

impl ToldBody {
    pub(super) fn of(told: &Told) -> Result<Self, String> {
        let spoken = Spoken::of(told)?;
        let tokens = told.tokens.unwrap_or_else(|| (spoken.text.len() as u64).div_ceil(4));
        Ok(Self {
            stream: told.stream,
            max_tokens: told.max_tokens,
            tokens,
            tools: told.tools.iter().map(|name| name.as_str().into()).collect(),
            messages: spoken.messages,
            modalities: told.modalities.clone(),
            json_output: told.json_output,
            text: spoken.text,
            system: spoken.system,
            last_user: spoken.last_user,
            user: told.user.clone(),
            metadata: told.metadata.clone(),
            fields: told.fields.iter().map(|(name, value)| (name.clone(), value.to_string())).collect(),
        })
    }
}

/// The words of a told request.
struct Spoken {
    messages: u64,
    text: String,
    system: String,
    last_user: String,
}

impl Spoken {
    fn of(told: &Told) -> Result<Self, String> {
        let Some(Messages::Each(all)) = &told.messages else { return Ok(Self::without_messages(told)) };
        for (name, told) in [("text", &told.text), ("system", &told.system), ("last_user", &told.last_user)] {
            if told.is_some() {
                return Err(format!("`{name}` is told twice: it follows from the messages, so leave it out"));
            }
        }
        let joined = |wanted: &dyn Fn(&&Message) -> bool| {
            all.iter().filter(wanted).map(|message| message.text.as_str()).collect::<Vec<_>>().join("\n")
        };
        let last = all.iter().rev().find(|message| message.role == "user");
        Ok(Self {
            messages: all.len() as u64,
            text: joined(&|_| true),
            system: joined(&|message| matches!(message.role.as_str(), "system" | "developer")),
            last_user: last.map(|message| message.text.clone()).unwrap_or_default(),
        })
    }

    /// What is said of the text alone: a system message, if one is told, and a user's.
    fn without_messages(told: &Told) -> Self {
        let system = told.system.clone().unwrap_or_default();
        let last_user = told.last_user.clone().or_else(|| told.text.clone()).unwrap_or_default();
        let text = told.text.clone().unwrap_or_else(|| match (system.as_str(), last_user.as_str()) {
            ("", only) | (only, "") => only.to_owned(),
            (system, user) => format!("{system}\n{user}"),
        });
        let messages = match told.messages {
            Some(Messages::Count(count)) => count,
            _ => 1 + u64::from(!system.is_empty()),
        };
        Self { messages, text, system, last_user }
    }
}

impl Body for ToldBody {
    fn stream(&self) -> bool {
        self.stream
    }
    fn max_tokens(&self) -> Option<u64> {
        self.max_tokens
    }
    fn tokens(&self) -> u64 {
        self.tokens
    }
    fn tool_names(&self) -> &[Box<str>] {
        &self.tools
    }
    fn messages(&self) -> u64 {
        self.messages
    }
    fn has_images(&self) -> bool {
        self.modalities.contains(&Modality::Image)
    }
    fn has_audio(&self) -> bool {
        self.modalities.contains(&Modality::Audio)
    }
    fn has_files(&self) -> bool {
        self.modalities.contains(&Modality::File)
    }
    fn has_json_output(&self) -> bool {
        self.json_output
    }
    fn text(&self) -> &str {
        &self.text
    }
    fn system(&self) -> &str {
        &self.system
    }
    fn last_user(&self) -> &str {
        &self.last_user
    }
    fn user(&self) -> Option<&str> {
        self.user.as_deref()
    }
    fn metadata(&self, key: &str) -> Option<String> {
        self.metadata.get(key).filter(|value| !value.is_null()).map(|value| match value {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        })
    }
    fn field(&self, name: &str) -> Option<&str> {
        self.fields.get(name).map(String::as_str)
    }
}
