//! The canonical answer to a chat request.

use super::{Object, Part, Usage};

/// A whole (not streamed) answer.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Answer {
    /// The provider's id of the answer.
    pub id: String,
    /// The model that answered, as the provider names it.
    pub model: String,
    /// Unix seconds; 0 where the provider does not say.
    pub created: u64,
    /// One or more alternatives.
    pub choices: Vec<Choice>,
    /// Tokens used, where the provider says.
    pub usage: Option<Usage>,
    /// Top-level fields that the canonical form does not know.
    pub rest: Object,
}

/// One alternative.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Choice {
    /// Its place, from 0.
    pub index: u32,
    /// What the model said, thought and called, in order.
    pub content: Vec<Part>,
    /// Why it stopped.
    pub finish: Option<Finish>,
    /// Log probabilities as the dialect has them.
    pub logprobs: Option<serde_json::Value>,
    /// Fields of the choice or message that the canonical form does not know.
    pub rest: Object,
}

/// Why a choice ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finish {
    /// In canonical terms.
    pub reason: FinishReason,
    /// The provider's own word.
    pub raw: Option<String>,
    /// The stop sequence that was hit.
    pub stop_sequence: Option<String>,
}

/// Why a choice ended, in canonical terms.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FinishReason {
    /// A natural end or a stop sequence.
    Stop,
    /// The output limit.
    Length,
    /// The model waits for tools of the client.
    ToolCalls,
    /// A filter, or the model's refusal as a finish.
    ContentFilter,
    /// The context window is full.
    ContextExceeded,
    /// The provider pauses a long turn of server tools; send the answer back to go on.
    Pause,
    /// Anything else.
    Other,
}

impl From<FinishReason> for Finish {
    fn from(reason: FinishReason) -> Self {
        Self { reason, raw: None, stop_sequence: None }
    }
}
