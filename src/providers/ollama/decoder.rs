//! A streamed answer as canonical events: one JSON document in each line.

use bytes::Bytes;

use super::fault;
use super::message::{self, Said};
use crate::chat::{Event, Role, StreamDecoder, ToolKind};
use crate::fault::Fault;
use crate::frames::LineSplitter;
use crate::json::{self, Halves};

/// The decoder of one streamed answer.
pub(super) struct OllamaDecoder {
    lines: LineSplitter,
    halves: Halves,
    now_ms: u64,
    /// Model and time of the first line: what invented ids are drawn from.
    seed: Option<String>,
    calls: usize,
    ended: bool,
}

/// No answer has more calls than this.
const MOST_CALLS: usize = 512;

impl OllamaDecoder {
    pub(super) fn new(now_ms: u64) -> Self {
        let (lines, halves) = (LineSplitter::new(), Halves::default());
        Self { lines, halves, now_ms, seed: None, calls: 0, ended: false }
    }

    fn line(&mut self, line: &[u8], events: &mut Vec<Event>) -> Result<(), Fault> {
        if self.ended {
            return Ok(());
        }
        let value = json::parse(line).or_else(|| json::parse(self.halves.mend(line).as_bytes()));
        let said = Said::of(value, self.now_ms)?;
        let choice = 0;
        if self.seed.is_none() {
            self.seed = Some(format!("{}{}", said.model, said.created_at));
            let created = said.created();
            events.push(Event::Start { id: String::new(), model: said.model, created });
            events.push(Event::ChoiceStart { choice, role: Role::Assistant });
        }
        if !said.thinking.is_empty() {
            events.push(Event::Thinking { choice, text: said.thinking, signature: None, redacted: None });
        }
        if !said.text.is_empty() {
            events.push(Event::Text { choice, text: said.text });
        }
        events.extend(said.logprobs.map(|value| Event::Logprobs { choice, value }));
        for call in said.calls {
            if self.calls >= MOST_CALLS {
                return Err(fault::malformed("the provider sent more tool calls than any model makes"));
            }
            let id = message::id_of(&call, self.seed.as_deref().unwrap_or_default(), self.calls);
            let place = u32::try_from(self.calls).unwrap_or(u32::MAX);
            self.calls += 1;
            let kind = ToolKind::Function;
            events.push(Event::ToolCallStart {
                choice,
                call: place,
                id,
                name: call.name,
                kind,
                signature: None,
            });
            events.push(Event::ToolCallDelta { choice, call: place, arguments: call.arguments });
        }
        let Some(reason) = said.done else { return Ok(()) };
        self.ended = true;
        events.push(Event::Finish { choice, finish: message::finish(&reason, self.calls > 0) });
        events.extend(said.usage.map(Event::Usage));
        events.push(Event::End);
        Ok(())
    }
}

impl StreamDecoder for OllamaDecoder {
    fn feed(&mut self, chunk: &[u8], events: &mut Vec<Event>) -> Result<(), Fault> {
        self.lines.push(Bytes::copy_from_slice(chunk));
        while let Some(line) = self.lines.next()? {
            self.line(&line, events)?;
        }
        Ok(())
    }

    fn finish(&mut self, events: &mut Vec<Event>) -> Result<(), Fault> {
        while let Some(line) = self.lines.finish()? {
            if serde_json::from_slice::<serde::de::IgnoredAny>(&line).is_err() && !self.ended {
                return Err(fault::truncated());
            }
            self.line(&line, events)?;
        }
        if self.ended { Ok(()) } else { Err(fault::truncated()) }
    }
}
