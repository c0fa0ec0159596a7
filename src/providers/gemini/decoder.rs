//! A streamed answer as canonical events.

use bytes::Bytes;
use serde_json::Value;

use super::part::{self, Call, Said};
use super::pieces::Pieces;
use super::{cite, fault, finish, logprobs, partial, usage};
use crate::chat::{Event, Object, Role, StreamDecoder, ToolKind, Usage, proof};
use crate::fault::Fault;
use crate::json::{self, Halves};

/// The decoder of one streamed answer, whether it comes as events or as one JSON array.
pub(super) struct GeminiDecoder {
    pieces: Pieces,
    halves: Halves,
    id: String,
    started: bool,
    choices: Vec<ChoiceState>,
    usage: Option<Usage>,
    /// How often the web was searched.
    searches: u64,
    /// Whether Google's maps were looked at.
    maps: bool,
    /// Fields of the answer that the canonical form does not know; the last word counts.
    rest: Object,
    ended: bool,
}

/// A choice under way.
struct ChoiceState {
    index: u32,
    calls: u32,
    open: Option<OpenCall>,
    /// The whole text so far, into which citations point.
    text: String,
    /// Fields that the canonical form does not know; the last word counts.
    rest: Object,
    /// The finish word, said at the end of the stream: text may follow it.
    finished: Option<String>,
}

/// A call whose arguments are not complete.
struct OpenCall {
    call: u32,
    arguments: Object,
}

/// No answer has more candidates than this.
const MOST_CHOICES: usize = 128;

impl GeminiDecoder {
    pub(super) fn new() -> Self {
        Self {
            pieces: Pieces::new(),
            halves: Halves::default(),
            id: String::new(),
            started: false,
            choices: Vec::new(),
            usage: None,
            searches: 0,
            maps: false,
            rest: Object::new(),
            ended: false,
        }
    }

    fn document(&mut self, json: &[u8], events: &mut Vec<Event>) -> Result<(), Fault> {
        if json.trim_ascii().is_empty() {
            return Ok(());
        }
        let value = json::parse(json)
            .or_else(|| json::parse(self.halves.mend(json).as_bytes()))
            .ok_or_else(|| fault::malformed("the provider sent a stream event that is not JSON"))?;
        let mut object = match value {
            Value::Object(object) if !fault::is_error(&object) => object,
            other => return Err(fault::inside_success(&other)),
        };
        self.start(&mut object, events);
        if let Some(reason) = finish::block_reason(object.get("promptFeedback")) {
            self.blocked(reason, events);
        }
        if let Some(Value::Array(candidates)) = object.shift_remove("candidates") {
            self.searches = self.searches.max(candidates.iter().map(usage::searches).sum());
            self.maps |= candidates.iter().any(usage::is_mapped);
            for (place, candidate) in candidates.into_iter().enumerate() {
                if let Value::Object(candidate) = candidate {
                    self.candidate(candidate, place, events)?;
                }
            }
        }
        let counted = object.shift_remove("usageMetadata").as_ref().and_then(usage::read).or(self.usage);
        part::keep_answers_rest(object, &mut self.rest);
        if let Some(usage) = counted.map(|usage| Usage { searches: self.searches, maps: self.maps, ..usage })
            && self.usage != Some(usage)
        {
            self.usage = Some(usage);
            events.push(Event::Usage(usage));
        }
        Ok(())
    }

    fn start(&mut self, object: &mut Object, events: &mut Vec<Event>) {
        if self.started {
            return;
        }
        self.started = true;
        self.id = part::take_text(object, "responseId");
        let model = part::take_text(object, "modelVersion");
        events.push(Event::Start { id: self.id.clone(), model, created: part::created(object) });
    }

    fn blocked(&mut self, reason: String, events: &mut Vec<Event>) {
        if self.choices.is_empty() {
            events.push(Event::ChoiceStart { choice: 0, role: Role::Assistant });
            self.choices.push(ChoiceState::new(0));
        }
        if let Some(choice) = self.choices.first_mut() {
            choice.finished = Some(reason);
        }
    }

    fn candidate(
        &mut self,
        mut candidate: Object,
        place: usize,
        events: &mut Vec<Event>,
    ) -> Result<(), Fault> {
        let index = part::index(&candidate, place);
        let at = match self.choices.iter().position(|choice| choice.index == index) {
            Some(at) => at,
            None if self.choices.len() >= MOST_CHOICES => {
                return Err(fault::malformed("the provider sent too many candidates"));
            }
            None => {
                events.push(Event::ChoiceStart { choice: index, role: Role::Assistant });
                self.choices.push(ChoiceState::new(index));
                self.choices.len() - 1
            }
        };
        let Some(choice) = self.choices.get_mut(at) else { return Ok(()) };
        for part in part::take_parts(&mut candidate)? {
            // An empty call ends one that came in pieces.
            if choice.open.is_some() && is_empty_call(&part) {
                choice.close(events);
                continue;
            }
            if let Some(part) = part::read(part) {
                choice.part(part, &self.id, events);
            }
        }
        let logprobs = logprobs::read(candidate.shift_remove("logprobsResult"));
        events.extend(logprobs.map(|value| Event::Logprobs { choice: index, value }));
        if let Some(word) = finish::word(candidate.get("finishReason")) {
            choice.finished = Some(word);
        }
        part::keep_rest(candidate, &mut choice.rest);
        Ok(())
    }

    fn drain(&mut self, events: &mut Vec<Event>) -> Result<(), Fault> {
        while let Some(piece) = self.pieces.next()? {
            self.document(&piece.json, events)?;
        }
        Ok(())
    }
}

impl ChoiceState {
    fn new(index: u32) -> Self {
        Self { index, calls: 0, open: None, text: String::new(), rest: Object::new(), finished: None }
    }

    fn part(&mut self, part: part::Part, answer: &str, events: &mut Vec<Event>) {
        let choice = self.index;
        if !matches!(part.said, Said::Call(_)) {
            self.close(events);
        }
        let signature = part.signature;
        match part.said {
            Said::Text(text) => {
                if !text.is_empty() {
                    self.text.push_str(&text);
                    events.push(Event::Text { choice, text });
                }
                events.extend(signature.map(|signature| proven(choice, &signature)));
            }
            Said::Thought(text) => {
                let signature = signature.as_deref().map(proof::of_gemini);
                events.push(Event::Thinking { choice, text, signature, redacted: None });
            }
            Said::Call(call) => self.call(call, signature, answer, events),
            Said::Image(image) => {
                let mut fields = Object::new();
                fields.insert("images".into(), Value::Array(vec![image]));
                events.push(Event::Other { choice: Some(choice), fields });
                events.extend(signature.map(|signature| proven(choice, &signature)));
            }
            Said::Foreign(value) => events.push(Event::Foreign { choice, value }),
        }
    }

    fn call(&mut self, call: Call, signature: Option<String>, answer: &str, events: &mut Vec<Event>) {
        let goes_on = self.open.is_some() && call.name.is_none();
        if !goes_on {
            self.close(events);
            let name = call.name.unwrap_or_default();
            let place = self.calls;
            let id = call.id.unwrap_or_else(|| part::call_id(answer, self.index, place as usize, &name));
            self.calls += 1;
            let kind = ToolKind::Function;
            events.push(Event::ToolCallStart { choice: self.index, call: place, id, name, kind, signature });
            self.open = Some(OpenCall { call: place, arguments: Object::new() });
        }
        let Some(open) = &mut self.open else { return };
        call.pieces.iter().for_each(|piece| partial::add(&mut open.arguments, piece));
        if let Some(args) = call.args {
            // Whole arguments: as they came, where no piece came before.
            match serde_json::from_str::<Value>(&args) {
                Ok(Value::Object(more)) if !open.arguments.is_empty() => open.arguments.extend(more),
                Ok(Value::Object(_)) if !call.continues => {
                    let call = open.call;
                    self.open = None;
                    events.push(Event::ToolCallDelta { choice: self.index, call, arguments: args });
                    return;
                }
                Ok(Value::Object(more)) => open.arguments = more,
                _ => {}
            }
        }
        if !call.continues && !call.pieces.iter().any(goes_on_in_place) {
            self.close(events);
        }
    }

    /// Says the arguments of the open call.
    fn close(&mut self, events: &mut Vec<Event>) {
        if let Some(OpenCall { call, arguments }) = self.open.take() {
            let arguments = Value::Object(arguments).to_string();
            events.push(Event::ToolCallDelta { choice: self.index, call, arguments });
        }
    }

    /// What is left to say of a finished choice.
    fn end(&mut self, events: &mut Vec<Event>) {
        let choice = self.index;
        self.close(events);
        let citations = cite::citations(&self.rest, &self.text);
        events.extend(citations.into_iter().map(|value| Event::Citation { choice, value }));
        if !self.rest.is_empty() {
            events.push(Event::Other { choice: Some(choice), fields: std::mem::take(&mut self.rest) });
        }
        let Some(word) = self.finished.take() else { return };
        events.push(Event::Finish { choice, finish: finish::finish(word, self.calls > 0) });
    }
}

impl StreamDecoder for GeminiDecoder {
    fn feed(&mut self, chunk: &[u8], events: &mut Vec<Event>) -> Result<(), Fault> {
        self.pieces.push(Bytes::copy_from_slice(chunk));
        self.drain(events)
    }

    fn finish(&mut self, events: &mut Vec<Event>) -> Result<(), Fault> {
        if self.ended {
            return Ok(());
        }
        while let Some(piece) = self.pieces.finish()? {
            self.document(&piece.json, events)?;
        }
        if self.choices.is_empty() || self.choices.iter().any(|choice| choice.finished.is_none()) {
            return Err(fault::truncated());
        }
        self.ended = true;
        if !self.rest.is_empty() {
            events.push(Event::Other { choice: None, fields: std::mem::take(&mut self.rest) });
        }
        for choice in &mut self.choices {
            choice.end(events);
        }
        events.push(Event::End);
        Ok(())
    }
}

/// A proof over what was just said: thinking without a text.
fn proven(choice: u32, signature: &str) -> Event {
    let signature = Some(proof::of_gemini(signature));
    Event::Thinking { choice, text: String::new(), signature, redacted: None }
}

fn is_empty_call(part: &Value) -> bool {
    part.get("functionCall").and_then(Value::as_object).is_some_and(Object::is_empty)
}

/// Whether more text follows at the path of this piece.
fn goes_on_in_place(piece: &Value) -> bool {
    piece.get("willContinue").and_then(Value::as_bool) == Some(true)
}
