//! Canonical stream events, and the two sans-IO halves of every streaming dialect.

use bytes::Bytes;
use serde_json::Value;

use super::{Finish, Object, Role, ToolKind, Usage};
use crate::fault::Fault;

/// One event of a streamed answer. `choice` is the alternative's index, from 0.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// The answer begins. Comes once, first.
    Start {
        /// The provider's id of the answer.
        id: String,
        /// The model that answers.
        model: String,
        /// Unix seconds; 0 where the provider does not say.
        created: u64,
    },
    /// A choice begins.
    ChoiceStart {
        /// Which.
        choice: u32,
        /// Normally the assistant.
        role: Role,
    },
    /// More text.
    Text {
        /// Which choice.
        choice: u32,
        /// The text to append.
        text: String,
    },
    /// More thinking.
    Thinking {
        /// Which choice.
        choice: u32,
        /// The text to append, possibly empty.
        text: String,
        /// A signature over the block that ends here.
        signature: Option<String>,
        /// Opaque data in place of text.
        redacted: Option<String>,
    },
    /// More of a refusal.
    Refusal {
        /// Which choice.
        choice: u32,
        /// The text to append.
        text: String,
    },
    /// A tool call begins.
    ToolCallStart {
        /// Which choice.
        choice: u32,
        /// The call's place among the choice's calls, from 0, stable for the call.
        call: u32,
        /// The call's id; invented where the provider gives none.
        id: String,
        /// The tool.
        name: String,
        /// Function or custom.
        kind: ToolKind,
        /// The provider's signature over the call.
        signature: Option<String>,
    },
    /// More of a tool call's arguments.
    ToolCallDelta {
        /// Which choice.
        choice: u32,
        /// The call's place.
        call: u32,
        /// The text to append.
        arguments: String,
    },
    /// Log probabilities of the text just sent, as the dialect has them.
    Logprobs {
        /// Which choice.
        choice: u32,
        /// As they came.
        value: Value,
    },
    /// Citations of the text just sent, as the dialect has them.
    Citation {
        /// Which choice.
        choice: u32,
        /// As it came.
        value: Value,
    },
    /// A whole part that only its own dialect understands (server tools and their results); see
    /// [`Part::Other`](super::Part::Other).
    Foreign {
        /// Which choice.
        choice: u32,
        /// The part as it came, complete.
        value: Value,
    },
    /// Fields that the canonical form does not know (audio deltas …).
    Other {
        /// Which choice; `None` for the answer as a whole.
        choice: Option<u32>,
        /// As they came.
        fields: Object,
    },
    /// A choice is complete.
    Finish {
        /// Which choice.
        choice: u32,
        /// Why.
        finish: Finish,
    },
    /// Usage so far; the last one counts, as a whole.
    Usage(Usage),
    /// The provider says that the stream is complete. Comes once, last. Without it, the stream is truncated.
    End,
}

impl Event {
    /// The choice that it belongs to; `None` where it is about the whole answer.
    pub fn choice(&self) -> Option<u32> {
        match self {
            Self::ChoiceStart { choice, .. }
            | Self::Text { choice, .. }
            | Self::Thinking { choice, .. }
            | Self::Refusal { choice, .. }
            | Self::ToolCallStart { choice, .. }
            | Self::ToolCallDelta { choice, .. }
            | Self::Logprobs { choice, .. }
            | Self::Citation { choice, .. }
            | Self::Foreign { choice, .. }
            | Self::Finish { choice, .. } => Some(*choice),
            Self::Other { choice, .. } => *choice,
            Self::Start { .. } | Self::Usage(_) | Self::End => None,
        }
    }

    /// Whether a client sees content by this event, so that the stream can no longer move to another target.
    pub fn is_content(&self) -> bool {
        match self {
            Self::Text { text, .. } | Self::Refusal { text, .. } => !text.is_empty(),
            Self::Thinking { text, redacted, .. } => !text.is_empty() || redacted.is_some(),
            Self::ToolCallStart { .. }
            | Self::Finish { .. }
            | Self::Foreign { .. }
            | Self::Other { choice: Some(_), .. } => true,
            Self::ToolCallDelta { arguments, .. } => !arguments.is_empty(),
            _ => false,
        }
    }
}

/// Upstream bytes in, canonical events out. Any chunk boundary is legal, inside UTF-8 too.
pub trait StreamDecoder: Send {
    /// Takes the next bytes. An `Err` ends the stream: an error event inside a 200, or a malformed event.
    fn feed(&mut self, chunk: &[u8], events: &mut Vec<Event>) -> Result<(), Fault>;
    /// The upstream closed the body. `Err` with `Truncated` when the terminal event never came.
    fn finish(&mut self, events: &mut Vec<Event>) -> Result<(), Fault>;
    /// The upstream said all and then nothing more, not even that it is over, while its body stays open.
    fn settle(&mut self, events: &mut Vec<Event>) -> Result<(), Fault> {
        self.finish(events)
    }
}

/// Canonical events in, bytes for the client out.
pub trait StreamEncoder: Send {
    /// Appends the frames that say `event` in the client's dialect.
    fn encode(&mut self, event: &Event, out: &mut Vec<u8>);
    /// The frames that end a stream with an error after its head was sent; never the normal terminal event.
    fn fault(&mut self, fault: &Fault) -> Bytes;
}
