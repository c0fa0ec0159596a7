//! The relay of one streamed message: frames go on as the bytes that came, read only for what the gateway must know.

use std::borrow::Cow;

use bytes::Bytes;
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::Value;

use super::usage::WireUsage;
use super::{fault, stop, whole};
use crate::chat::Usage;
use crate::fault::Fault;
use crate::frames::{SseEvent, SseSplitter};
use crate::json::Halves;
use crate::providers::openai::stream::join_neighbours;
use crate::providers::{Frame, StreamRelay};

/// The terminal event.
const STOP: &[u8] = b"event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n";

/// One streamed message on its way to a client of the same dialect.
pub(super) struct AnthropicStream {
    splitter: SseSplitter,
    halves: Halves,
    now_ms: u64,
    usage: WireUsage,
    /// Why the message ends, where its beginning says it already.
    early: Option<&'static str>,
    finish: Option<&'static str>,
    text_bytes: u64,
    done: bool,
}

/// As much of an event as is looked at.
#[derive(Deserialize)]
struct Peek<'a> {
    #[serde(rename = "type", borrow, default)]
    kind: Cow<'a, str>,
    #[serde(borrow)]
    message: Option<MessagePeek<'a>>,
    #[serde(borrow)]
    content_block: Option<BlockPeek<'a>>,
    #[serde(borrow)]
    delta: Option<DeltaPeek<'a>>,
    usage: Option<WireUsage>,
}

#[derive(Deserialize)]
struct MessagePeek<'a> {
    usage: Option<WireUsage>,
    content: Option<Vec<IgnoredAny>>,
    #[serde(borrow)]
    stop_reason: Option<Cow<'a, str>>,
    container: Option<IgnoredAny>,
}

#[derive(Deserialize)]
struct BlockPeek<'a> {
    #[serde(rename = "type", borrow, default)]
    kind: Cow<'a, str>,
}

#[derive(Deserialize)]
struct DeltaPeek<'a> {
    #[serde(borrow)]
    text: Option<Cow<'a, str>>,
    #[serde(borrow)]
    thinking: Option<Cow<'a, str>>,
    #[serde(borrow)]
    partial_json: Option<Cow<'a, str>>,
    #[serde(borrow)]
    stop_reason: Option<Cow<'a, str>>,
    container: Option<IgnoredAny>,
}

impl AnthropicStream {
    pub(super) fn new(now_ms: u64) -> Self {
        Self {
            splitter: SseSplitter::new(),
            halves: Halves::default(),
            now_ms,
            usage: WireUsage::default(),
            early: None,
            finish: None,
            text_bytes: 0,
            done: false,
        }
    }

    fn event(&mut self, event: &SseEvent, out: &mut Vec<Frame>) -> Result<(), Fault> {
        let text = event.text();
        if !event.has_data || event.is_done() || text.trim().is_empty() {
            return Ok(());
        }
        if event.is("error") {
            return Err(self.error(&text));
        }
        let joined;
        let read = match serde_json::from_str::<Peek<'_>>(&text) {
            Ok(peek) => Ok(peek),
            Err(_) => {
                joined = self.halves.join(&text).unwrap_or_default();
                serde_json::from_str(&joined)
            }
        };
        let Ok(peek) = read else {
            return Err(fault::malformed(
                "the provider sent a stream event that is not what its type promises",
            ));
        };
        let content = match &*peek.kind {
            "error" => return Err(self.error(&text)),
            "message_start" => peek.message.is_some_and(|message| self.start(message)),
            "content_block_start" => {
                peek.content_block.is_some_and(|block| !matches!(&*block.kind, "text" | "thinking"))
            }
            "content_block_delta" => peek.delta.is_some_and(|delta| {
                let said = [delta.text, delta.thinking, delta.partial_json];
                let bytes = said.iter().flatten().map(|text| text.len() as u64).sum::<u64>();
                self.text_bytes += bytes;
                bytes > 0
            }),
            "message_delta" => {
                self.count(peek.usage);
                self.usage.ran_code |= peek.delta.as_ref().is_some_and(|delta| delta.container.is_some());
                let reason = peek.delta.and_then(|delta| delta.stop_reason);
                if let Some(raw) = &reason {
                    self.finish = Some(stop::reason(raw).word());
                }
                reason.is_some()
            }
            "message_stop" => {
                self.finish = self.finish.or(self.early);
                // An end without its reason: what came before it may be half an answer.
                if self.finish.is_none() {
                    return Err(fault::truncated());
                }
                self.done = true;
                false
            }
            _ => false,
        };
        let bytes = if event.event.is_some() { event.raw.clone() } else { named(&peek.kind, &event.raw) };
        out.push(Frame { bytes, content });
        Ok(())
    }

    /// Whether the beginning shows content: that of a message which goes on after code that ran.
    fn start(&mut self, message: MessagePeek<'_>) -> bool {
        self.count(message.usage);
        self.usage.ran_code |= message.container.is_some();
        self.early = message.stop_reason.map(|raw| stop::reason(&raw).word());
        message.content.is_some_and(|content| !content.is_empty())
    }

    fn error(&self, text: &str) -> Fault {
        let value = serde_json::from_str(text).unwrap_or_else(|_| Value::String(text.to_owned()));
        fault::inside_success(&value, self.now_ms)
    }

    fn count(&mut self, usage: Option<WireUsage>) {
        if let Some(usage) = usage {
            self.usage.update(usage);
        }
    }
}

impl StreamRelay for AnthropicStream {
    fn feed(&mut self, chunk: Bytes, out: &mut Vec<Frame>) -> Result<(), Fault> {
        // Keeps the chunk in reach, so that neighbouring frames can be joined without a copy.
        let source = chunk.clone();
        self.splitter.push(chunk);
        let before = out.len();
        while !self.done
            && let Some(event) = self.splitter.next()?
        {
            self.event(&event, out)?;
        }
        join_neighbours(out, before, &source);
        Ok(())
    }

    fn whole(&mut self, body: Bytes, out: &mut Vec<Frame>) -> Result<(), Fault> {
        let stream = whole::as_stream(&body, self.now_ms)?;
        self.feed(stream, out)
    }

    fn finish(&mut self, out: &mut Vec<Frame>) -> Result<(), Fault> {
        while !self.done
            && let Some(event) = self.splitter.finish()?
        {
            // An event that the end of the body has cut is no event.
            if serde_json::from_slice::<IgnoredAny>(&event.data).is_ok() {
                self.event(&event, out)?;
            }
        }
        if self.done { Ok(()) } else { Err(fault::truncated()) }
    }

    /// After the reason why it ended, a message has nothing more to say.
    fn settle(&mut self, out: &mut Vec<Frame>) -> Result<(), Fault> {
        if self.finish.is_some() && !self.done {
            self.done = true;
            out.push(Frame { bytes: Bytes::from_static(STOP), content: false });
        }
        self.finish(out)
    }

    fn is_complete(&self) -> bool {
        self.done
    }

    fn usage(&self) -> Option<Usage> {
        self.usage.classes()
    }

    fn finish_reason(&self) -> Option<&'static str> {
        self.finish
    }

    fn text_bytes(&self) -> u64 {
        self.text_bytes
    }
}

/// Gives an event the name that Anthropic's own SDKs look for.
fn named(kind: &str, raw: &[u8]) -> Bytes {
    let mut event = Vec::with_capacity(raw.len() + kind.len() + 8);
    event.extend_from_slice(b"event: ");
    event.extend(kind.bytes().filter(|b| !b.is_ascii_control()));
    event.push(b'\n');
    event.extend_from_slice(raw);
    event.into()
}
