//! The translation between a door and a target of another dialect: dialect → canonical → dialect.
//!
//! Requests go door → canonical → provider, answers and streams provider → canonical → door. What cannot be carried
//! is named in the loss report; a part that an answer would be wrong without (an image, a document) is refused by the
//! provider's encoder instead.

use bytes::Bytes;

use super::in_words;
use super::tongue::{Tongue, Unsaid};
use crate::chat::{
    Answer, Event, Finish, FinishReason, Loss, Object, Part, Request, StreamDecoder, StreamEncoder, Usage,
};
use crate::clock::{Clock, SystemClock};
use crate::fault::{Fault, FaultKind};
use crate::providers::{Dialect, Frame, Names, Outgoing, Relay, Relayed, StreamRelay, Target};

/// The ability of a target to carry the bytes of a door of `dialect`; `None` when it has to be translated.
pub(super) fn relay(target: &Target, dialect: Dialect) -> Option<&dyn Relay> {
    let wire = target.wire();
    (wire.dialect() == dialect).then(|| wire.relay()).flatten()
}

/// The names under which `target` is told of the tools of a request, `said` in the dialect of a door; `None` where it takes
/// the client's.
pub(super) fn names<'a>(
    target: &Target,
    door: Dialect,
    said: impl Iterator<Item = &'a str> + Clone,
) -> Option<Names> {
    let wire = target.wire().dialect();
    (wire != door).then(|| Names::of(said, wire)).flatten()
}

/// The request as `target` wants it; what it refuses and loses is told in the client's words. `clients` gives the
/// client's path for a canonical one, where that is another.
///
/// # Errors
/// What the target's dialect cannot say.
pub(super) fn outgoing(
    target: &Target,
    request: &Request,
    names: Option<&Names>,
    clients: impl Fn(&str) -> Option<String>,
) -> Result<Outgoing, Fault> {
    let (told, lost) = in_words::for_target(request, target.wire().dialect());
    let encoded = match names {
        Some(names) => target.wire().encode(&names.apply(&told), &target.name),
        None => target.wire().encode(&told, &target.name),
    };
    let mut outgoing = encoded.map_err(|fault| in_clients_words(fault, &clients))?;
    outgoing.lost.extend(lost);
    outgoing.lost.extend(names.into_iter().flat_map(|names| names.lost(request)));
    for loss in &mut outgoing.lost {
        if let Some(path) = clients(&loss.path) {
            loss.path = path.into();
        }
    }
    Ok(outgoing)
}

/// A fault of an encoder with the client's path in place of the canonical one.
pub(super) fn in_clients_words(mut fault: Fault, clients: impl Fn(&str) -> Option<String>) -> Fault {
    if let Some(path) = fault.param.as_deref().and_then(clients) {
        fault.param = Some(path.into());
    }
    fault
}

/// A whole answer of `target` in the door's dialect, which `encode` writes and `tongue` describes.
///
/// # Errors
/// The provider's fault when its body is no answer.
pub(super) fn whole(
    target: &Target,
    body: &[u8],
    tongue: &Tongue,
    names: Option<&Names>,
    encode: impl FnOnce(&Answer) -> Vec<u8>,
) -> Result<Relayed, Fault> {
    let mut answer = target.wire().decode(body)?;
    if let Some(names) = names {
        names.restore(&mut answer);
    }
    if answer.model.is_empty() {
        target.name.model.as_ref().clone_into(&mut answer.model);
    }
    for choice in &mut answer.choices {
        let called = choice.content.iter().any(|part| matches!(part, Part::ToolCall { .. }));
        choice.finish.iter_mut().for_each(|finish| came_to_its_end(finish, called));
        if !choice.content.iter().any(|part| matches!(part, Part::Text { .. }))
            && let Some(text) = spoken(&choice.rest, tongue)
        {
            let text = Part::Text { text: text.into(), cache: None, citations: Vec::new() };
            choice.content.insert(0, text);
        }
    }
    let finish = answer.choices.first().and_then(|choice| choice.finish.as_ref());
    Ok(Relayed {
        usage: answer.usage,
        finish: finish.map(|finish| finish.reason.word()),
        lost: tongue.unsaid(&answer),
        body: encode(&answer).into(),
    })
}

/// An answer that ends with calls and has none has come to its end: clients would run no tool and ask again.
fn came_to_its_end(finish: &mut Finish, called: bool) {
    if finish.reason == FinishReason::ToolCalls && !called {
        finish.reason = FinishReason::Stop;
    }
}

/// What was spoken, in words, for a door that has no place for sounds: where an answer is spoken, nothing else is written.
fn spoken(fields: &Object, tongue: &Tongue) -> Option<String> {
    let audio = fields.get("audio").filter(|audio| !(tongue.field)("audio", audio))?;
    audio.get("transcript")?.as_str().filter(|text| !text.is_empty()).map(str::to_owned)
}

/// A stream of `target` in the door's dialect, which `encoder` writes and `tongue` describes.
pub(super) fn stream(
    target: &Target,
    tongue: &'static Tongue,
    names: Option<Names>,
    encoder: Box<dyn StreamEncoder>,
) -> Box<dyn StreamRelay> {
    Box::new(Translated { names, ..Translated::new(target.clone(), tongue, encoder) })
}

/// An id for an answer whose provider gives none.
pub(super) fn answer_id(prefix: &str) -> String {
    format!("{prefix}{:x}{:08x}", SystemClock.unix_ms(), fastrand::u32(..))
}

/// Unix seconds, for answers whose provider does not say when they were made.
pub(super) fn now() -> u64 {
    SystemClock.unix_ms() / 1000
}

/// A streamed answer on its way through the canonical form.
struct Translated {
    target: Target,
    decoder: Box<dyn StreamDecoder>,
    encoder: Box<dyn StreamEncoder>,
    tongue: &'static Tongue,
    names: Option<Names>,
    unsaid: Unsaid,
    events: Vec<Event>,
    usage: Option<Usage>,
    finish: Option<(u32, &'static str)>,
    /// Choices that have called a tool.
    called: Vec<u32>,
    /// Choices that have written text, other than what was spoken.
    written: Vec<u32>,
    text_bytes: u64,
    complete: bool,
}

impl Translated {
    fn new(target: Target, tongue: &'static Tongue, encoder: Box<dyn StreamEncoder>) -> Self {
        Self {
            decoder: target.wire().stream_decoder(),
            target,
            encoder,
            tongue,
            names: None,
            unsaid: Unsaid::default(),
            events: Vec::new(),
            usage: None,
            finish: None,
            called: Vec::new(),
            written: Vec::new(),
            text_bytes: 0,
            complete: false,
        }
    }

    /// Says what has been decoded; all of it in one frame.
    fn say(&mut self, out: &mut Vec<Frame>) {
        let (mut bytes, mut content) = (Vec::new(), false);
        let mut events = std::mem::take(&mut self.events);
        for mut event in events.drain(..) {
            if let Event::Start { model, .. } = &mut event
                && model.is_empty()
            {
                self.target.name.model.as_ref().clone_into(model);
            }
            if let Some(names) = &self.names {
                names.restore_event(&mut event);
            }
            match &mut event {
                Event::ToolCallStart { choice, .. } if !self.called.contains(choice) => {
                    self.called.push(*choice);
                }
                Event::Text { choice, text } if !text.is_empty() && !self.written.contains(choice) => {
                    self.written.push(*choice);
                }
                Event::Finish { choice, finish } => came_to_its_end(finish, self.called.contains(choice)),
                _ => {}
            }
            self.note(&event);
            content |= event.is_content();
            if event == Event::End && self.tongue.comments {
                // The head is long gone; comments are the one place left that no client takes for content.
                bytes.extend(self.unsaid.comment().unwrap_or_default().into_bytes());
            }
            self.encoder.encode(&event, &mut bytes);
            if let Event::Other { choice: Some(choice), fields } = &event
                && !self.written.contains(choice)
                && let Some(text) = spoken(fields, self.tongue)
            {
                let event = Event::Text { choice: *choice, text };
                self.note(&event);
                content = true;
                self.encoder.encode(&event, &mut bytes);
            }
        }
        self.events = events;
        if content || !bytes.is_empty() {
            out.push(Frame { bytes: bytes.into(), content });
        }
    }

    /// Says what was left when the provider's body was over.
    fn ended(&mut self, ended: Result<(), Fault>, out: &mut Vec<Frame>) -> Result<(), Fault> {
        self.say(out);
        ended?;
        if self.complete {
            return Ok(());
        }
        Err(Fault::new(FaultKind::Truncated, "the provider's stream ended before its answer was complete"))
    }

    fn note(&mut self, event: &Event) {
        self.tongue.hear(event, &mut self.unsaid);
        match event {
            Event::Text { text, .. } | Event::Refusal { text, .. } | Event::Thinking { text, .. } => {
                self.text_bytes += text.len() as u64;
            }
            Event::ToolCallStart { name, .. } => self.text_bytes += name.len() as u64,
            Event::ToolCallDelta { arguments, .. } => self.text_bytes += arguments.len() as u64,
            Event::Usage(usage) => self.usage = Some(*usage),
            Event::Finish { choice, finish } if self.finish.is_none_or(|(first, _)| *choice < first) => {
                self.finish = Some((*choice, finish.reason.word()));
            }
            Event::End => self.complete = true,
            _ => {}
        }
    }
}

impl StreamRelay for Translated {
    fn feed(&mut self, chunk: Bytes, out: &mut Vec<Frame>) -> Result<(), Fault> {
        if self.complete {
            return Ok(());
        }
        let fed = self.decoder.feed(&chunk, &mut self.events);
        self.say(out);
        fed
    }

    fn whole(&mut self, body: Bytes, out: &mut Vec<Frame>) -> Result<(), Fault> {
        self.events = self.target.wire().decode(&body)?.into_events();
        self.say(out);
        Ok(())
    }

    fn finish(&mut self, out: &mut Vec<Frame>) -> Result<(), Fault> {
        if self.complete {
            return Ok(());
        }
        let finished = self.decoder.finish(&mut self.events);
        self.ended(finished, out)
    }

    fn settle(&mut self, out: &mut Vec<Frame>) -> Result<(), Fault> {
        if self.complete {
            return Ok(());
        }
        let settled = self.decoder.settle(&mut self.events);
        self.ended(settled, out)
    }

    fn fault(&mut self, fault: &Fault) -> Option<Bytes> {
        Some(self.encoder.fault(fault))
    }

    fn is_complete(&self) -> bool {
        self.complete
    }

    fn usage(&self) -> Option<Usage> {
        self.usage
    }

    fn finish_reason(&self) -> Option<&'static str> {
        self.finish.map(|(_, word)| word)
    }

    fn text_bytes(&self) -> u64 {
        self.text_bytes
    }

    fn lost(&self) -> &[Loss] {
        self.unsaid.list()
    }
}

#[cfg(test)]
mod tests;
