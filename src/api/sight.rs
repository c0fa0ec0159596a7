//! What policies may see of a request, read from its JSON text without decoding it, each thing at most once.

mod asides;

use std::fmt;
use std::marker::PhantomData;
use std::sync::OnceLock;

pub(super) use asides::Asides;

use super::adjust::Places;
use crate::facts::{self, Aside, Turn};
use crate::json::{self, Body, Inlined};

/// Tokens of a picture or a document, as a usual one has them.
pub(super) const MEDIUM: u64 = 1_600;

/// Where a dialect keeps what policies ask for.
pub(super) trait Look {
    /// Where its parameters stand.
    const PARAMETERS: Places;
    /// The field of the caller's own keys and values.
    const METADATA: &'static str = "metadata";

    /// Whether JSON is asked for as the answer.
    fn has_json_output(body: &Body) -> bool;
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
    /// What stands beside that.
    fn asides(body: &Body) -> Asides;
    /// What is said around it: of tools, and of the form of the answer.
    fn definitions(body: &Body) -> Asides;
}

/// A request that is seen through a [`Sight`]: policies see of it what its dialect keeps, and its envelope.
pub(super) trait Seen: Send + Sync {
    /// The dialect.
    type Dialect: Look;

    /// What was asked for already.
    fn sight(&self) -> &Sight<Self::Dialect>;
    /// What is looked at.
    fn shown(&self) -> &Body;
    /// What was read of it at once.
    fn envelope(&self) -> Envelope<'_>;
    /// Bytes of the prompt: of its messages and tools.
    fn prompt(&self) -> usize;
    /// What of them is media.
    fn inlined(&self) -> Inlined {
        self.shown().inlined()
    }
}

/// What a door reads of every request.
pub(super) struct Envelope<'a> {
    /// Whether the client wants a stream.
    pub(super) stream: bool,
    /// The output limit that the client gave.
    pub(super) max_tokens: Option<u64>,
    /// How many messages there are.
    pub(super) messages: usize,
    /// The user, where the body names one.
    pub(super) user: Option<&'a str>,
}

impl<T: Seen> facts::Body for T {
    fn stream(&self) -> bool {
        self.envelope().stream
    }

    fn max_tokens(&self) -> Option<u64> {
        self.envelope().max_tokens
    }

    fn tokens(&self) -> u64 {
        let (all, media) = (self.prompt(), self.inlined());
        all.saturating_sub(media.bytes) as u64 / 4 + MEDIUM * media.count as u64
    }

    fn tool_names(&self) -> &[Box<str>] {
        self.sight().tool_names(self.shown())
    }

    fn messages(&self) -> u64 {
        self.envelope().messages as u64
    }

    fn has_images(&self) -> bool {
        self.sight().media(self.shown()).images
    }

    fn has_audio(&self) -> bool {
        self.sight().media(self.shown()).audio
    }

    fn has_files(&self) -> bool {
        self.sight().media(self.shown()).files
    }

    fn has_documents(&self) -> bool {
        self.sight().media(self.shown()).documents
    }

    fn has_json_output(&self) -> bool {
        T::Dialect::has_json_output(self.shown())
    }

    fn text(&self) -> &str {
        self.sight().text(self.shown())
    }

    fn system(&self) -> &str {
        self.sight().system(self.shown())
    }

    fn last_user(&self) -> &str {
        self.sight().last_user(self.shown())
    }

    fn turns(&self) -> Vec<Turn> {
        T::Dialect::turns(self.shown())
    }

    fn asides(&self) -> Vec<Aside> {
        T::Dialect::asides(self.shown()).into_vec()
    }

    fn definitions(&self) -> Vec<Aside> {
        T::Dialect::definitions(self.shown()).into_vec()
    }

    fn user(&self) -> Option<&str> {
        self.envelope().user
    }

    fn metadata(&self, key: &str) -> Option<String> {
        self.shown().entry(T::Dialect::METADATA, key)
    }

    fn field(&self, name: &str) -> Option<&str> {
        self.shown().raw(name)
    }

    fn parameter(&self, name: &str) -> Option<&str> {
        T::Dialect::PARAMETERS.find(self.shown(), name)
    }
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
    /// Files that are more than text.
    pub(super) documents: bool,
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
