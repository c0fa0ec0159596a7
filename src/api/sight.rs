//! What policies may see of a request, read from its JSON text without decoding it, each thing at most once.

use std::fmt;
use std::marker::PhantomData;
use std::sync::OnceLock;

use crate::facts::Turn;
use crate::json::{self, Body};

/// Where a dialect keeps what policies ask for.
pub(super) trait Look {
    /// Names of the tools that the model may call.
    fn tool_names(body: &Body) -> Vec<Box<str>>;
    /// Which kinds of parts, beyond text, the messages have.
    fn media(body: &Body) -> MediaKinds;
    /// All text, the system prompt and the results of tools included.
    fn text(body: &Body) -> String;
    /// The system prompt.
    fn system(body: &Body) -> String;
    /// The words of the last message that is the user's own.
    fn last_user(body: &Body) -> String;
    /// What was said, by whom, in order.
    fn turns(body: &Body) -> Vec<Turn>;
}

/// The role as policies name it.
pub(super) fn role(name: &str) -> &'static str {
    match name {
        "system" | "developer" => "system",
        "assistant" | "model" => "assistant",
        "tool" | "function" => "tool",
        _ => "user",
    }
}

/// Answers that were asked for already.
pub(super) struct Sight<D> {
    tool_names: OnceLock<Vec<Box<str>>>,
    media: OnceLock<MediaKinds>,
    text: OnceLock<String>,
    system: OnceLock<String>,
    last_user: OnceLock<String>,
    dialect: PhantomData<fn() -> D>,
}

/// Which kinds of parts, beyond text, the messages have.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct MediaKinds {
    pub(super) images: bool,
    pub(super) audio: bool,
    pub(super) files: bool,
}

impl<D: Look> Sight<D> {
    pub(super) fn tool_names(&self, body: &Body) -> &[Box<str>] {
        self.tool_names.get_or_init(|| D::tool_names(body))
    }

    pub(super) fn media(&self, body: &Body) -> MediaKinds {
        *self.media.get_or_init(|| D::media(body))
    }

    pub(super) fn text(&self, body: &Body) -> &str {
        self.text.get_or_init(|| D::text(body))
    }

    pub(super) fn system(&self, body: &Body) -> &str {
        self.system.get_or_init(|| D::system(body))
    }

    pub(super) fn last_user(&self, body: &Body) -> &str {
        self.last_user.get_or_init(|| D::last_user(body))
    }
}

impl<D> Default for Sight<D> {
    fn default() -> Self {
        Self {
            tool_names: OnceLock::new(),
            media: OnceLock::new(),
            text: OnceLock::new(),
            system: OnceLock::new(),
            last_user: OnceLock::new(),
            dialect: PhantomData,
        }
    }
}

impl<D> fmt::Debug for Sight<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Never the prompt itself.
        f.write_str("Sight")
    }
}

/// Appends a text on a line of its own.
pub(super) fn append(all: &mut String, text: &str) {
    if !all.is_empty() && !text.is_empty() {
        all.push('\n');
    }
    all.push_str(text);
}

/// The value of a key in the JSON text of an object.
pub(super) fn value_of<'a>(object: &'a str, key: &str) -> Option<&'a str> {
    json::entries(object).find(|(name, _)| name == key).map(|(_, value)| value)
}

/// The text of a key in the JSON text of an object; empty where there is none.
pub(super) fn text_of<'a>(object: &'a str, key: &str) -> std::borrow::Cow<'a, str> {
    value_of(object, key).and_then(json::text).unwrap_or_default()
}
