//! Reads what a conversation used out of a provider's events, which pass by untouched: most are told by their
//! beginning and not looked at further.

use std::borrow::Cow;

use serde::Deserialize;

use super::{Dialect, Meter, Target};
use crate::chat::Usage;

/// In its first bytes an event says its type; larger ones that do not are read whole.
const ENOUGH: usize = 512;
/// An event of interest is not larger.
const LONGEST: usize = 1 << 20;

/// The meter of one conversation.
pub struct EventMeter {
    target: Target,
    look: Look,
    held: Vec<u8>,
    /// Whether any event may tell of use: Google's have no types, and each `usageMetadata` is of one turn.
    any: bool,
    /// The meter of such an event.
    meter: Option<Meter>,
    usage: Option<Usage>,
    errors: u64,
}

/// What is done with the rest of the event under way.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Look {
    /// Its type is not known.
    Waiting,
    /// It is of interest.
    Holding,
    /// It is not.
    Skipping,
}

/// As much of an event as somebody asks for.
#[derive(Deserialize)]
struct Event<'e> {
    #[serde(borrow, rename = "type", default)]
    kind: Cow<'e, str>,
}

impl EventMeter {
    /// A meter for a conversation with this target.
    pub fn new(target: Target) -> Self {
        let any = target.wire().dialect() == Dialect::Gemini;
        Self { target, look: Look::Waiting, held: Vec::new(), any, meter: None, usage: None, errors: 0 }
    }

    /// Takes the next bytes of an event, cut anywhere.
    pub fn feed(&mut self, bytes: &[u8]) {
        if self.any {
            if self.meter.is_none() {
                self.meter = Meter::new(&self.target, "application/json");
            }
            return self.meter.iter_mut().for_each(|meter| meter.feed(bytes));
        }
        match self.look {
            Look::Skipping => {}
            Look::Holding if self.held.len() + bytes.len() > LONGEST => self.look = Look::Skipping,
            Look::Holding => self.held.extend_from_slice(bytes),
            Look::Waiting => {
                let room = ENOUGH.saturating_sub(self.held.len()).min(bytes.len());
                let (here, rest) = bytes.split_at(room);
                self.held.extend_from_slice(here);
                if self.held.len() >= ENOUGH {
                    self.look = first_look(&self.held);
                    self.feed(rest);
                }
            }
        }
    }

    /// The event is over.
    pub fn end(&mut self) {
        if let Some(meter) = self.meter.take() {
            return self.add(&meter);
        }
        if self.look == Look::Waiting {
            self.look = first_look(&self.held);
        }
        if self.look == Look::Holding
            && let Ok(event) = serde_json::from_slice::<Event<'_>>(&self.held)
        {
            match &*event.kind {
                "error" => self.errors += 1,
                kind if counts(kind) => {
                    if let Some(mut meter) = Meter::new(&self.target, "application/json") {
                        meter.feed(&self.held);
                        self.add(&meter);
                    }
                }
                _ => {}
            }
        }
        self.look = Look::Waiting;
        self.held.clear();
    }

    fn add(&mut self, meter: &Meter) {
        if let Some(used) = meter.usage() {
            self.usage.get_or_insert_default().add(&used);
        }
    }

    /// Who answers.
    pub fn target(&self) -> &Target {
        &self.target
    }

    /// What was used so far, as far as the provider has said.
    pub fn usage(&self) -> Option<Usage> {
        self.usage
    }

    /// How many events told of an error.
    pub fn errors(&self) -> u64 {
        self.errors
    }
}

/// Whether events of this type tell of use: those of realtime conversations, and the ends of Responses.
fn counts(kind: &str) -> bool {
    let ends = ["response.done", "response.completed", "response.incomplete", "response.failed"];
    ends.contains(&kind) || kind == "conversation.item.input_audio_transcription.completed"
}

/// What is to be done with an event that begins so. Every type but `error` has a dot in it; what has none is the type
/// of something inside an event whose own type stands further behind.
fn first_look(beginning: &[u8]) -> Look {
    match kind_in(beginning) {
        Some(kind) if counts(kind) || kind == "error" || !kind.contains('.') => Look::Holding,
        Some(_) => Look::Skipping,
        None => Look::Holding,
    }
}

/// The first `"type": "…"` in a text.
fn kind_in(text: &[u8]) -> Option<&str> {
    const KEY: &[u8] = b"\"type\"";
    let at = memchr::memmem::find(text, KEY)?;
    let rest = text.get(at + KEY.len()..)?.trim_ascii_start().strip_prefix(b":")?;
    let rest = rest.trim_ascii_start().strip_prefix(b"\"")?;
    let end = memchr::memchr(b'"', rest)?;
    std::str::from_utf8(rest.get(..end)?).ok()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::providers::{QuirkSettings, Vendor, dialect};
    use crate::target::TargetName;

    fn meter() -> EventMeter {
        let vendor = Vendor::bare("a", dialect("openai", &QuirkSettings::default()).unwrap());
        EventMeter::new(Target::new(Arc::new(vendor), TargetName::parse("a/b").unwrap()))
    }

    #[test]
    fn each_turn_of_googles_is_counted_wherever_it_says_so() {
        let vendor = Vendor::bare("g", dialect("gemini", &QuirkSettings::default()).unwrap());
        let target = Target::new(Arc::new(vendor), TargetName::parse("g/live").unwrap());
        let sound = "A".repeat(3_000);
        let turn = |prompt: u32| {
            format!(
                r#"{{"serverContent":{{"modelTurn":{{"parts":[{{"inlineData":{{"data":"{sound}"}}}}]}},"turnComplete":true}},"usageMetadata":{{"promptTokenCount":{prompt},"responseTokenCount":20,"thoughtsTokenCount":3,"totalTokenCount":9,"promptTokensDetails":[{{"modality":"AUDIO","tokenCount":50}}],"responseTokensDetails":[{{"modality":"AUDIO","tokenCount":18}}]}}}}"#
            )
        };
        for size in [1, 7, 511, 100_000] {
            let mut meter = EventMeter::new(target.clone());
            for event in [r#"{"setupComplete":{}}"#, &turn(100), r#"{"serverContent":{}}"#, &turn(150), ""] {
                event.as_bytes().chunks(size).for_each(|piece| meter.feed(piece));
                meter.end();
            }
            let used = meter.usage().unwrap();
            assert_eq!(
                (used.input, used.output, used.reasoning, used.input_audio, used.output_audio),
                (250, 46, 6, 100, 36),
                "pieces of {size}: {used:?}"
            );
        }
    }

    const DONE: &str = r#"{"type":"response.done","event_id":"e","response":{"object":"realtime.response","output":[{"type":"message","content":[]}],"usage":{"total_tokens":253,"input_tokens":132,"output_tokens":121,"input_token_details":{"cached_tokens":64,"text_tokens":119,"audio_tokens":13},"output_token_details":{"text_tokens":30,"audio_tokens":91}}}}"#;

    #[test]
    fn only_what_was_used_is_read_and_it_is_summed() {
        let long = "A".repeat(5_000);
        let late = format!(
            r#"{{"response":{{"output":[{{"type":"message","text":"{long}"}}],"usage":{{"input_tokens":5,"output_tokens":1}}}},"type":"response.done"}}"#
        );
        let delta = format!(
            r#"{{"type":"response.output_audio.delta","delta":"{long}","usage":{{"input_tokens":9}}}}"#
        );
        let heard = r#"{"type":"conversation.item.input_audio_transcription.completed","transcript":"hi","usage":{"type":"tokens","input_tokens":22,"output_tokens":13}}"#;
        let trap = r#"{"event_id":"\"type\":\"response.done\"","type":"session.updated","usage":{"input_tokens":7,"output_tokens":1}}"#;
        for size in [1, 3, 511, 512, 513, 100_000] {
            let mut meter = meter();
            let error = r#"{"type":"error","error":{"type":"invalid_request_error","message":"no"}}"#;
            for event in [&delta, DONE, trap, error, "[]", "", "nonsense", DONE, &late, heard] {
                event.as_bytes().chunks(size).for_each(|piece| meter.feed(piece));
                meter.end();
            }
            let used = meter.usage().unwrap();
            assert_eq!(
                (used.prompt(), used.output, used.cached_read, used.output_audio, used.input_audio),
                (2 * 132 + 5 + 22, 2 * 121 + 1 + 13, 128, 182, 26),
                "pieces of {size}: {used:?}"
            );
            assert_eq!(meter.errors(), 1);
        }
    }
}
