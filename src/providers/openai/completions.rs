//! The legacy text completions of vendors that still have them: the bytes as they came, read for usage, end and errors.
//!
//! <https://platform.openai.com/docs/api-reference/completions>

use std::borrow::Cow;
use std::sync::Arc;

use bytes::Bytes;
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use super::peek::Word;
use super::stream::{frame, join_neighbours};
use super::{fault, finish, request, usage};
use crate::chat::{Object, Usage};
use crate::clock::Clock;
use crate::fault::Fault;
use crate::frames::{SSE_DONE, SseEvent, SseSplitter};
use crate::json::{self, Splice};
use crate::providers::{ClientBody, Frame, Outgoing, QuirkSettings, Relay, Relayed, StreamRelay};
use crate::target::TargetName;

/// Most choices that a stream is followed for; OpenAI's own limit.
const MOST_CHOICES: usize = 128;

/// That part of a vendor which completes texts.
pub(super) struct Completions {
    quirks: QuirkSettings,
    clock: Arc<dyn Clock>,
}

impl Completions {
    pub(super) fn new(quirks: QuirkSettings, clock: Arc<dyn Clock>) -> Self {
        Self { quirks, clock }
    }
}

impl Relay for Completions {
    fn splice(&self, body: &ClientBody, target: &TargetName) -> Result<Outgoing, Fault> {
        let streams = body.bool("stream") == Some(true);
        let model = self.quirks.deployed(&target.model);
        let mut splice = Splice::new(body);
        splice.set_text("model", model);
        request::ask_for_usage(&mut splice, body, streams && !self.quirks.no_stream_options);
        for field in &self.quirks.drop {
            splice.remove(field);
        }
        let template = self.quirks.completions_path.as_deref().unwrap_or("/completions");
        Ok(request::outgoing(request::path(template, model), streams, splice.finish()))
    }

    fn whole(&self, body: Bytes) -> Result<Relayed, Fault> {
        let body = body.slice_ref(body.trim_ascii());
        let text = json::text_of(&body);
        let peek = read(&text, self.clock.unix_ms())?;
        if peek.choices.is_empty() {
            return Err(fault::malformed("the provider's answer has no choices"));
        }
        Ok(Relayed { usage: peek.usage(), finish: peek.finish(), lost: Vec::new(), body })
    }

    fn stream(&self, include_usage: bool) -> Box<dyn StreamRelay> {
        Box::new(CompletionStream {
            splitter: SseSplitter::new(),
            include_usage,
            now_ms: self.clock.unix_ms(),
            choices: Vec::new(),
            usage: None,
            text_bytes: 0,
            done: false,
        })
    }
}

/// What of an answer or of a chunk decides.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Peek<'a> {
    #[serde(borrow)]
    choices: Vec<ChoicePeek<'a>>,
    #[serde(borrow)]
    usage: Option<&'a RawValue>,
    #[serde(borrow)]
    service_tier: Word<'a>,
    error: Option<Value>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct ChoicePeek<'a> {
    index: u64,
    #[serde(borrow)]
    text: Option<Cow<'a, str>>,
    #[serde(borrow)]
    finish_reason: Option<Cow<'a, str>>,
}

fn read(text: &str, now_ms: u64) -> Result<Peek<'_>, Fault> {
    match serde_json::from_str::<Peek<'_>>(text) {
        Ok(peek) if peek.error.is_none() && (!peek.choices.is_empty() || peek.usage.is_some()) => Ok(peek),
        _ => match serde_json::from_str::<Value>(text) {
            Ok(value) => Err(fault::inside_success(&value, now_ms)),
            Err(_) => Err(fault::malformed("the provider's answer is not JSON")),
        },
    }
}

impl Peek<'_> {
    fn usage(&self) -> Option<Usage> {
        usage::read(self.usage?.get(), false).map(|tally| tally.usage.in_tier(self.service_tier.text()))
    }

    fn finish(&self) -> Option<&'static str> {
        self.choices.first().and_then(ChoicePeek::finish)
    }
}

impl ChoicePeek<'_> {
    fn finish(&self) -> Option<&'static str> {
        let raw = self.finish_reason.as_deref().filter(|raw| !finish::is_unsaid(raw))?;
        Some(finish::word(raw).unwrap_or("stop"))
    }
}

/// One streamed answer.
struct CompletionStream {
    splitter: SseSplitter,
    include_usage: bool,
    now_ms: u64,
    /// Index and finish of every choice seen.
    choices: Vec<(u64, Option<&'static str>)>,
    usage: Option<Usage>,
    text_bytes: u64,
    done: bool,
}

impl CompletionStream {
    fn event(&mut self, event: SseEvent, out: &mut Vec<Frame>) -> Result<(), Fault> {
        if event.is_done() {
            if self.choices.iter().all(|(_, finish)| finish.is_none()) {
                return Err(fault::truncated());
            }
            self.done = true;
            out.push(Frame { bytes: event.raw, content: false });
            return Ok(());
        }
        if !event.has_data || event.data.trim_ascii().is_empty() {
            return Ok(());
        }
        let text = event.text();
        let peek = read(&text, self.now_ms)?;
        self.usage = peek.usage().or(self.usage);
        let mut content = false;
        for choice in &peek.choices {
            let bytes = choice.text.as_deref().map_or(0, str::len) as u64;
            self.text_bytes += bytes;
            content |= bytes > 0 || choice.finish().is_some();
            self.note(choice);
        }
        // Usage was asked for by us, so that it is counted.
        if !peek.choices.is_empty() || self.include_usage {
            out.push(Frame { bytes: event.raw, content });
        }
        Ok(())
    }

    /// Whether every choice that began has ended.
    fn all_finished(&self) -> bool {
        !self.choices.is_empty() && self.choices.iter().all(|(_, finish)| finish.is_some())
    }

    fn note(&mut self, choice: &ChoicePeek<'_>) {
        if let Some((_, finish)) = self.choices.iter_mut().find(|(index, _)| *index == choice.index) {
            *finish = choice.finish().or(*finish);
        } else if self.choices.len() < MOST_CHOICES {
            self.choices.push((choice.index, choice.finish()));
        }
    }
}

impl StreamRelay for CompletionStream {
    fn feed(&mut self, chunk: Bytes, out: &mut Vec<Frame>) -> Result<(), Fault> {
        if self.done {
            return Ok(());
        }
        let source = chunk.clone();
        self.splitter.push(chunk);
        let before = out.len();
        while !self.done
            && let Some(event) = self.splitter.next()?
        {
            self.event(event, out)?;
        }
        join_neighbours(out, before, &source);
        Ok(())
    }

    fn whole(&mut self, body: Bytes, out: &mut Vec<Frame>) -> Result<(), Fault> {
        // A chunk has the form of a whole answer, but for its usage.
        let text = json::text_of(&body);
        if read(&text, self.now_ms)?.choices.is_empty() {
            return Err(fault::malformed("the provider's answer has no choices"));
        }
        let mut chunk: Object = serde_json::from_str(&text).unwrap_or_default();
        let counted = chunk.shift_remove("usage");
        let mut stream = frame(&chunk).to_vec();
        if let Some(counted) = counted.filter(Value::is_object) {
            chunk.insert("choices".into(), Value::Array(Vec::new()));
            chunk.insert("usage".into(), counted);
            stream.extend_from_slice(&frame(&chunk));
        }
        stream.extend_from_slice(SSE_DONE);
        self.feed(stream.into(), out)
    }

    fn finish(&mut self, out: &mut Vec<Frame>) -> Result<(), Fault> {
        while !self.done
            && let Some(event) = self.splitter.finish()?
        {
            let whole =
                event.is_done() || serde_json::from_slice::<serde::de::IgnoredAny>(&event.data).is_ok();
            if event.has_data && whole {
                self.event(event, out)?;
            }
        }
        if self.done {
            return Ok(());
        }
        if !self.all_finished() {
            return Err(fault::truncated());
        }
        self.done = true;
        out.push(Frame { bytes: Bytes::from_static(SSE_DONE), content: false });
        Ok(())
    }

    fn is_complete(&self) -> bool {
        self.done
    }

    fn usage(&self) -> Option<Usage> {
        self.usage
    }

    fn finish_reason(&self) -> Option<&'static str> {
        self.choices.iter().min_by_key(|(index, _)| *index).and_then(|(_, finish)| *finish)
    }

    fn has_said_all(&self) -> bool {
        self.all_finished() && self.usage.is_some()
    }

    fn text_bytes(&self) -> u64 {
        self.text_bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::FixedClock;
    use crate::fault::FaultKind;
    use crate::providers::recorded::cases;

    fn relay() -> Completions {
        Completions::new(QuirkSettings::default(), Arc::new(FixedClock(0)))
    }

    #[test]
    fn recorded_completions_go_through_untouched() {
        for case in cases(&["openai", "vllm"], &["completions"]).iter().filter(|case| case.status == 200) {
            if !case.stream {
                let value: Value = serde_json::from_str(&case.text).unwrap();
                let relayed = relay().whole(Bytes::from(case.text.clone())).unwrap();
                assert_eq!(relayed.body, case.text.trim(), "{}", case.id);
                assert_eq!(relayed.finish, value["choices"][0]["finish_reason"].as_str(), "{}", case.id);
                let usage = relayed.usage.unwrap();
                assert_eq!(Some(usage.output), value["usage"]["completion_tokens"].as_u64(), "{}", case.id);
                continue;
            }
            for at in 0..case.text.len() {
                let (head, tail) = case.text.as_bytes().split_at(at);
                let (mut stream, mut out) = (relay().stream(false), Vec::new());
                for piece in [head, tail] {
                    stream.feed(Bytes::copy_from_slice(piece), &mut out).unwrap();
                }
                stream.finish(&mut out).unwrap();
                let all: Vec<u8> = out.iter().flat_map(|frame| frame.bytes.to_vec()).collect();
                assert_eq!(String::from_utf8_lossy(&all).trim(), case.text.trim(), "{}", case.id);
                assert!(stream.finish_reason().is_some() && stream.text_bytes() > 0, "{}", case.id);
                if at < case.text.len() / 2 {
                    let mut cut = relay().stream(false);
                    cut.feed(Bytes::copy_from_slice(head), &mut Vec::new()).unwrap();
                    assert_eq!(cut.finish(&mut Vec::new()).unwrap_err().kind, FaultKind::Truncated);
                }
            }
        }
    }

    #[test]
    fn usage_goes_to_whom_asked_for_it() {
        let text = r#"{"id":"c","choices":[{"index":0,"text":"a","finish_reason":"stop"}],"usage":{"prompt_tokens":2,"completion_tokens":1,"total_tokens":3}}"#;
        for include_usage in [false, true] {
            let (mut stream, mut out) = (relay().stream(include_usage), Vec::new());
            stream.whole(Bytes::from_static(text.as_bytes()), &mut out).unwrap();
            let all: Vec<u8> = out.iter().flat_map(|frame| frame.bytes.to_vec()).collect();
            let all = String::from_utf8_lossy(&all);
            assert_eq!(all.contains("usage"), include_usage, "{all}");
            assert!(all.ends_with("data: [DONE]\n\n") && stream.is_complete());
            assert_eq!(stream.usage().unwrap().input, 2);
        }
    }

    #[test]
    fn errors_are_faults() {
        for (text, kind) in [
            (r#"{"error":{"message":"x","type":"server_error"}}"#, FaultKind::ServerError),
            (r#"{"choices":[]}"#, FaultKind::Malformed),
            ("<html>", FaultKind::Malformed),
        ] {
            assert_eq!(relay().whole(Bytes::from_static(text.as_bytes())).unwrap_err().kind, kind, "{text}");
            let fed = relay().stream(true).feed(Bytes::from(format!("data: {text}\n\n")), &mut Vec::new());
            assert_eq!(fed.unwrap_err().kind, kind, "{text}");
        }
    }
}
