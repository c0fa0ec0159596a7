//! The canonical answer to a chat request.

use super::{Event, Object, Part, Role, Usage};

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

impl Answer {
    /// The same answer as the events of a stream, `End` included.
    pub fn into_events(self) -> Vec<Event> {
        let mut events = vec![Event::Start { id: self.id, model: self.model, created: self.created }];
        for choice in self.choices {
            choice.push_events(&mut events);
        }
        if !self.rest.is_empty() {
            events.push(Event::Other { choice: None, fields: self.rest });
        }
        events.extend(self.usage.map(Event::Usage));
        events.push(Event::End);
        events
    }
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

impl Choice {
    fn push_events(self, events: &mut Vec<Event>) {
        let choice = self.index;
        events.push(Event::ChoiceStart { choice, role: Role::Assistant });
        let mut calls = 0;
        for part in self.content {
            match part {
                Part::Text { text, citations, .. } => {
                    events.push(Event::Text { choice, text: text.into_string() });
                    events.extend(citations.into_iter().map(|value| Event::Citation { choice, value }));
                }
                Part::Refusal(text) => events.push(Event::Refusal { choice, text }),
                Part::Thinking { text, signature, redacted } => {
                    events.push(Event::Thinking { choice, text, signature, redacted });
                }
                Part::ToolCall { id, name, arguments, kind, signature, .. } => {
                    events.push(Event::ToolCallStart { choice, call: calls, id, name, kind, signature });
                    events.push(Event::ToolCallDelta { choice, call: calls, arguments });
                    calls += 1;
                }
                Part::Other(value) => events.push(Event::Foreign { choice, value }),
                // No provider answers a stream with these.
                Part::Image { .. } | Part::Audio { .. } | Part::File { .. } | Part::ToolResult { .. } => {}
            }
        }
        events.extend(self.logprobs.map(|value| Event::Logprobs { choice, value }));
        if !self.rest.is_empty() {
            events.push(Event::Other { choice: Some(choice), fields: self.rest });
        }
        let finish = self.finish.unwrap_or_else(|| FinishReason::Stop.into());
        events.push(Event::Finish { choice, finish });
    }
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

impl FinishReason {
    /// OpenAI's word for it, which the house uses in logs and metrics.
    pub fn word(self) -> &'static str {
        match self {
            Self::ToolCalls => "tool_calls",
            Self::Length | Self::ContextExceeded => "length",
            Self::ContentFilter => "content_filter",
            Self::Stop | Self::Pause | Self::Other => "stop",
        }
    }
}

impl From<FinishReason> for Finish {
    fn from(reason: FinishReason) -> Self {
        Self { reason, raw: None, stop_sequence: None }
    }
}
