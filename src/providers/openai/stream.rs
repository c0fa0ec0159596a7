//! The relay of one streamed answer: clean frames go on as the bytes that came, the others are normalised.

use std::borrow::Cow;

use bytes::Bytes;

use super::fault;
use super::finish;
use super::peek::{ChunkPeek, Shape, Word};
use super::state::{CallState, StreamState};
use super::whole;
use crate::chat::Usage;
use crate::fault::Fault;
use crate::frames::{SSE_DONE, SseEvent, SseSplitter, sse_data};
use crate::providers::{Frame, StreamRelay};

/// One streamed answer on its way to a client of the same dialect.
pub(super) struct OpenAiStream {
    splitter: SseSplitter,
    state: StreamState,
    include_usage: bool,
    done: bool,
}

impl OpenAiStream {
    pub(super) fn new(include_usage: bool, excludes_reasoning: bool, now_ms: u64) -> Self {
        Self {
            splitter: SseSplitter::new(),
            state: StreamState::new(excludes_reasoning, now_ms),
            include_usage,
            done: false,
        }
    }

    fn event(&mut self, event: SseEvent, out: &mut Vec<Frame>) -> Result<(), Fault> {
        if !event.has_data {
            return Ok(());
        }
        if event.is_done() {
            if !self.state.all_finished() {
                return Err(fault::truncated());
            }
            self.tail(out);
            return Ok(());
        }
        let text = event.text();
        if text.trim().is_empty() {
            return Ok(());
        }
        // The first look decides whether the bytes can go on as they are.
        let mut joined = None;
        if event.plain
            && let Cow::Borrowed(text) = text
        {
            let mut seen = look(&mut self.state, text);
            if seen.is_err() {
                joined = self.state.halves.join(text);
                seen = joined.as_deref().map_or(Ok(None), |joined| look(&mut self.state, joined));
            }
            if let Ok(Some(content)) = seen {
                push(out, framed(&event), content);
                return Ok(());
            }
        }
        if event.is("error") {
            return Err(self.state.error_event(&text));
        }
        if let Some(chunk) = self.state.chunk(joined.as_deref().unwrap_or(&text))? {
            push(out, frame(&chunk.object), chunk.content);
        }
        Ok(())
    }

    /// What ends a complete stream: the usage that the client asked for, and `[DONE]`.
    fn tail(&mut self, out: &mut Vec<Frame>) {
        self.done = true;
        if self.include_usage
            && let Some(chunk) = self.state.usage_chunk()
        {
            push(out, frame(&chunk), false);
        }
        push(out, Bytes::from_static(SSE_DONE), false);
    }
}

impl StreamRelay for OpenAiStream {
    fn feed(&mut self, chunk: Bytes, out: &mut Vec<Frame>) -> Result<(), Fault> {
        if self.done {
            return Ok(());
        }
        // Keeps the chunk in reach, so that neighbouring frames can be joined without a copy.
        let source = chunk.clone();
        self.splitter.push(chunk);
        let before = out.len();
        while let Some(event) = self.splitter.next()? {
            self.event(event, out)?;
            if self.done {
                break;
            }
        }
        join_neighbours(out, before, &source);
        Ok(())
    }

    fn whole(&mut self, body: Bytes, out: &mut Vec<Frame>) -> Result<(), Fault> {
        // Its usage is always said, so that it is counted; what the client did not ask for is stripped below.
        let (excludes_reasoning, now_ms) = (self.state.excludes_reasoning, self.state.now_ms);
        let stream = whole::as_stream(&body, true, excludes_reasoning, now_ms)?;
        self.feed(stream.body, out)
    }

    fn finish(&mut self, out: &mut Vec<Frame>) -> Result<(), Fault> {
        if self.done {
            return Ok(());
        }
        while let Some(event) = self.splitter.finish()? {
            // An event that the end of the body has cut is no event.
            let whole =
                event.is_done() || serde_json::from_slice::<serde::de::IgnoredAny>(&event.data).is_ok();
            if event.has_data && whole {
                self.event(event, out)?;
            } else if event.has_data && !self.state.all_finished() {
                return Err(fault::truncated());
            }
            if self.done {
                return Ok(());
            }
        }
        if !self.state.all_finished() {
            return Err(fault::truncated());
        }
        self.tail(out);
        Ok(())
    }

    fn is_complete(&self) -> bool {
        self.done
    }

    fn usage(&self) -> Option<Usage> {
        self.state.usage()
    }

    fn finish_reason(&self) -> Option<&'static str> {
        self.state.finish_reason()
    }

    fn has_said_all(&self) -> bool {
        self.state.all_finished() && self.state.usage().is_some()
    }

    fn text_bytes(&self) -> u64 {
        self.state.text_bytes
    }
}

/// What [`pass`] makes of a chunk's text.
fn look(state: &mut StreamState, text: &str) -> serde_json::Result<Option<bool>> {
    serde_json::from_str::<ChunkPeek<'_>>(text).map(|peek| pass(state, &peek))
}

/// Whether a chunk is already what OpenAI would have sent at this point; then the state follows it. The answer is
/// whether the client sees content by it. `None` leaves the state as it was.
fn pass(state: &mut StreamState, peek: &ChunkPeek<'_>) -> Option<bool> {
    let head = matches!(&peek.object, Word::Text(object) if object == "chat.completion.chunk")
        && matches!(peek.created, Shape::Count(1..))
        && peek.usage.is_unsaid()
        && peek.error.is_unsaid()
        && peek.timings.is_unsaid()
        && !peek.groq_speaks
        && peek.choices == 1
        && !peek.choice.strange
        && state.extras.is_empty();
    let (id, model) = (peek.id.text()?, peek.model.text()?);
    if !head || !(state.id.is_empty() || state.id == id) {
        return None;
    }
    let (Shape::Count(index), Some(delta)) = (peek.choice.index, &peek.choice.delta) else { return None };
    let ends = match &peek.choice.finish {
        Word::Null => None,
        Word::Text(word) => Some(finish::known(word)?),
        _ => return None,
    };
    let known = state.choices.iter().position(|choice| choice.index == index);
    let choice = known.and_then(|at| state.choices.get(at));
    let role_is_due = choice.is_none_or(|choice| !choice.role);
    let fits = match &delta.role {
        Word::Text(role) => role_is_due && role == "assistant",
        Word::Missing => !role_is_due,
        _ => false,
    };
    let texts = delta.content.is_texty()
        && delta.refusal.is_texty()
        && delta.reasoning_content.is_texty()
        && (delta.reasoning.is_unsaid() || matches!(delta.reasoning_content, Shape::Text(_)));
    if !fits || !texts || choice.is_some_and(|choice| choice.finish.is_some()) {
        return None;
    }
    // What the tool call of this chunk does: begin one, or go on with one.
    let calls = choice.map_or(&[][..], |choice| &choice.calls);
    let call = match (delta.has_calls, delta.calls, &delta.call) {
        (false, ..) => None,
        (true, 1, call) if !call.strange => {
            let (Shape::Count(place), Shape::Text(bytes)) = (call.index, call.arguments) else { return None };
            let at = usize::try_from(place).ok()?;
            match (&call.id, &call.name, &call.kind) {
                (Word::Missing, Word::Missing, Word::Missing) if calls.get(at)?.place == Some(place) => {}
                (id, name, Word::Text(kind)) if at == calls.len() && at < 512 && kind == "function" => {
                    id.text()?;
                    name.text()?;
                }
                _ => return None,
            }
            Some((at, place, bytes))
        }
        _ => return None,
    };
    if ends.is_some_and(|word| !ends_well(word, calls, call)) {
        return None;
    }

    if state.id.is_empty() {
        id.clone_into(&mut state.id);
    }
    if state.model.is_empty() {
        model.clone_into(&mut state.model);
    }
    state.learn_created(peek.created);
    state.learn_tier(peek.tier.text());
    let at = match known {
        Some(at) => at,
        None => {
            state.begin(index).ok()?;
            state.choices.len() - 1
        }
    };
    let choice = state.choices.get_mut(at)?;
    choice.role = true;
    choice.finish = ends;
    let mut bytes = delta.content.bytes() + delta.refusal.bytes() + delta.reasoning_content.bytes();
    if let Some((at, place, length)) = call {
        if at == choice.calls.len() {
            choice.calls.push(CallState {
                place: Some(place),
                id: delta.call.id.text()?.into(),
                name: delta.call.name.text()?.into(),
                fed: false,
            });
        }
        if let Some(call) = choice.calls.get_mut(at) {
            call.fed |= length > 0;
        }
        bytes += length as u64;
    }
    state.text_bytes += bytes;
    Some(bytes > 0 || call.is_some() || ends.is_some() || delta.others)
}

/// Whether a choice may end so: with the calls that its last word promises, none of them without arguments. What else
/// would be told is found on the long way. `call` is the one of this chunk: its place, its number, its bytes.
fn ends_well(word: &'static str, calls: &[CallState], call: Option<(usize, u64, usize)>) -> bool {
    let all = calls.len().max(call.map_or(0, |(at, ..)| at + 1));
    let is_fed = |at: usize| {
        calls.get(at).is_some_and(|call| call.fed) || call.is_some_and(|(of, _, bytes)| of == at && bytes > 0)
    };
    finish::told(word, all > 0) == word && (0..all).all(is_fed)
}

/// The frame as it came; with plain line ends where others came, because many a client looks for nothing else.
fn framed(event: &SseEvent) -> Bytes {
    let body = event.raw.strip_prefix(b"data: ").and_then(|raw| raw.strip_suffix(b"\n\n"));
    if body.is_some_and(|body| body.len() == event.data.len()) {
        return event.raw.clone();
    }
    let mut bytes = Vec::with_capacity(event.data.len() + 8);
    sse_data(&mut bytes, &event.data);
    bytes.into()
}

fn push(out: &mut Vec<Frame>, bytes: Bytes, content: bool) {
    out.push(Frame { bytes, content });
}

/// One event around a JSON object.
pub(super) fn frame(object: &crate::chat::Object) -> Bytes {
    // An object of texts and numbers always has a JSON form.
    let json = serde_json::to_vec(object).unwrap_or_default();
    let mut bytes = Vec::with_capacity(json.len() + 8);
    sse_data(&mut bytes, &json);
    bytes.into()
}

/// Frames that lie one after the other in the same chunk become one: fewer writes, no copy.
pub(in crate::providers) fn join_neighbours(out: &mut Vec<Frame>, from: usize, source: &Bytes) {
    if out.len() < from + 2 {
        return;
    }
    let place = |bytes: &Bytes| {
        let start = (bytes.as_ptr() as usize).checked_sub(source.as_ptr() as usize)?;
        let end = start.checked_add(bytes.len())?;
        (end <= source.len()).then_some(start..end)
    };
    let mut last: Option<std::ops::Range<usize>> = None;
    let mut joined: Vec<Frame> = Vec::with_capacity(4);
    for frame in out.drain(from..) {
        let here = place(&frame.bytes);
        match (&mut last, &here, joined.last_mut()) {
            (Some(run), Some(here), Some(open)) if run.end == here.start => {
                run.end = here.end;
                open.bytes = source.slice(run.clone());
                open.content |= frame.content;
            }
            _ => {
                last = here;
                joined.push(frame);
            }
        }
    }
    out.append(&mut joined);
}
