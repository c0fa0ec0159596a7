//! Canonical stream events as chunks of a text completion.

use bytes::Bytes;
use serde_json::Value;

use super::answer::{head, piece, word};
use super::logprobs;
use crate::api::openai_chat::{Fallback, fault_event, usage_json};
use crate::chat::{Event, StreamEncoder, Usage};
use crate::fault::Fault;
use crate::frames::{SSE_DONE, sse_data};

/// The encoder of one streamed answer.
pub(super) struct TextEncoder {
    include_usage: bool,
    echo: Option<String>,
    fallback: Fallback,
    id: String,
    model: String,
    created: u64,
    /// Place of the next token of every choice, in characters.
    offsets: Vec<(u32, usize)>,
    usage: Option<Usage>,
}

impl TextEncoder {
    pub(super) fn new(include_usage: bool, echo: Option<String>, fallback: Fallback) -> Self {
        Self {
            include_usage,
            echo,
            fallback,
            id: String::new(),
            model: String::new(),
            created: 0,
            offsets: Vec::new(),
            usage: None,
        }
    }

    fn chunk(&self, choices: Vec<Value>, usage: Option<Value>, out: &mut Vec<u8>) {
        let mut chunk = head(&self.id, &self.model, self.created, &self.fallback);
        chunk.insert("choices".into(), Value::Array(choices));
        if self.include_usage {
            chunk.insert("usage".into(), usage.into());
        }
        sse_data(out, &serde_json::to_vec(&chunk).unwrap_or_default());
    }

    fn say(&self, choice: u32, text: &str, out: &mut Vec<u8>) {
        if !text.is_empty() {
            self.chunk(vec![piece(choice, text, None, None)], None, out);
        }
    }

    fn offset(&mut self, choice: u32) -> usize {
        let echoed = self.echo.as_deref().map_or(0, |echo| echo.chars().count());
        self.offsets.iter().find(|(known, _)| *known == choice).map_or(echoed, |(_, offset)| *offset)
    }
}

impl StreamEncoder for TextEncoder {
    fn encode(&mut self, event: &Event, out: &mut Vec<u8>) {
        match event {
            Event::Start { id, model, created } => {
                (self.id, self.model, self.created) = (id.clone(), model.clone(), *created);
            }
            Event::ChoiceStart { choice, .. } => {
                self.say(*choice, self.echo.as_deref().unwrap_or_default(), out);
            }
            Event::Text { choice, text } | Event::Refusal { choice, text } => self.say(*choice, text, out),
            Event::Logprobs { choice, value } => {
                let mut offset = self.offset(*choice);
                if let Some(logprobs) = logprobs::older(value, &mut offset) {
                    self.offsets.retain(|(known, _)| known != choice);
                    self.offsets.push((*choice, offset));
                    self.chunk(vec![piece(*choice, "", Some(logprobs), None)], None, out);
                }
            }
            Event::Finish { choice, finish } => {
                self.chunk(vec![piece(*choice, "", None, Some(word(finish)))], None, out);
            }
            Event::Usage(usage) => self.usage = Some(*usage),
            Event::End => {
                if self.include_usage
                    && let Some(usage) = self.usage
                {
                    self.chunk(Vec::new(), Some(usage_json(&usage)), out);
                }
                out.extend_from_slice(SSE_DONE);
            }
            // Thinking, tools and citations have no place in a text.
            _ => {}
        }
    }

    fn fault(&mut self, fault: &Fault) -> Bytes {
        fault_event(fault)
    }
}
