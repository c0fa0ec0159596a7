//! A streamed response on its way to a client of the same dialect: the frames as they came, read for usage, end and
//! errors.

use bytes::Bytes;

use super::event::{self, Event, Kind};
use super::{fault, replay, whole};
use crate::chat::{FinishReason, Usage};
use crate::fault::{Fault, FaultKind};
use crate::frames::{SseEvent, SseSplitter};
use crate::providers::openai::stream::join_neighbours;
use crate::providers::{Frame, StreamRelay, openai};

/// Longest line. Pictures come inline, and the first and last events repeat the whole request.
pub(super) const LONGEST: usize = 32 * 1024 * 1024;

/// One streamed answer.
pub(super) struct ResponsesStream {
    splitter: SseSplitter,
    now_ms: u64,
    usage: Option<Usage>,
    finish: Option<&'static str>,
    text_bytes: u64,
    /// Whether a function was called, or a tool that takes text.
    called: (bool, bool),
    done: bool,
}

impl ResponsesStream {
    pub(super) fn new(now_ms: u64) -> Self {
        Self {
            splitter: SseSplitter::with_max_line(LONGEST),
            now_ms,
            usage: None,
            finish: None,
            text_bytes: 0,
            called: (false, false),
            done: false,
        }
    }

    fn event(&mut self, event: SseEvent, out: &mut Vec<Frame>) -> Result<(), Fault> {
        if event.is_done() {
            // Some vendors end their streams in the words of chat completions; clients of this API know no such event.
            return if self.done { Ok(()) } else { Err(openai::fault::truncated()) };
        }
        let content = event.has_data && !event.data.trim_ascii().is_empty() && self.look(&event.text())?;
        out.push(Frame { bytes: event.raw, content });
        Ok(())
    }

    /// Reads one event; whether a client sees content by it.
    fn look(&mut self, text: &str) -> Result<bool, Fault> {
        let event = event::read(text, self.now_ms)?;
        Ok(match event.kind() {
            Kind::Begun | Kind::Frame => false,
            Kind::Ended | Kind::Failed => self.end(&event)?,
            Kind::Error => {
                return Err(fault::event(&serde_json::from_str(text).unwrap_or_default(), self.now_ms));
            }
            Kind::ItemAdded => {
                let kind = event.item_kind().unwrap_or_default();
                self.called.0 |= kind == "function_call";
                self.called.1 |= kind == whole::CUSTOM;
                // What thinks or begins a message has not spoken yet.
                !matches!(&*kind, "message" | "reasoning" | "compaction")
            }
            Kind::Text | Kind::Refusal | Kind::Summary | Kind::Reasoning | Kind::Arguments => {
                let bytes = event::text(event.delta).len() as u64;
                self.text_bytes += bytes;
                bytes > 0
            }
            Kind::ItemDone | Kind::Annotation | Kind::ArgumentsDone | Kind::Other => true,
        })
    }

    fn end(&mut self, event: &Event<'_>) -> Result<bool, Fault> {
        let Some(response) = event.response else {
            return Err(match event.kind() {
                Kind::Failed => fault::failed(None, self.now_ms),
                _ => Fault::new(FaultKind::Malformed, "the provider's last event holds no response"),
            });
        };
        if event.kind() == Kind::Failed {
            let response = event::value(Some(response));
            self.usage = response.get("usage").and_then(usage_of).or(self.usage);
            return Err(fault::failed(response.get("error"), self.now_ms));
        }
        let peek = whole::last(response.get(), self.now_ms)?;
        self.usage = peek.usage().or(self.usage);
        // Some vendors repeat nothing of what they have streamed.
        let (function, custom) = self.called;
        let called = peek.is_empty() && (function || custom && !peek.searches_x());
        self.finish = peek.finish().map(|finish| match finish.reason {
            FinishReason::Stop if called => FinishReason::ToolCalls.word(),
            reason => reason.word(),
        });
        self.done = true;
        Ok(true)
    }
}

/// Usage of a response that failed: it is paid for all the same.
pub(super) fn usage_of(usage: &serde_json::Value) -> Option<Usage> {
    openai::usage::read_value(usage.as_object()?, false).map(|tally| tally.usage)
}

impl StreamRelay for ResponsesStream {
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
        let stream = replay::as_stream(&body, self.now_ms)?;
        self.feed(stream.into(), out)
    }

    fn finish(&mut self, out: &mut Vec<Frame>) -> Result<(), Fault> {
        while !self.done
            && let Some(event) = self.splitter.finish()?
        {
            // An event that the end of the body has cut is no event.
            if event.has_data && serde_json::from_slice::<serde::de::IgnoredAny>(&event.data).is_ok() {
                self.event(event, out)?;
            }
        }
        if self.done { Ok(()) } else { Err(openai::fault::truncated()) }
    }

    fn is_complete(&self) -> bool {
        self.done
    }

    fn usage(&self) -> Option<Usage> {
        self.usage
    }

    fn finish_reason(&self) -> Option<&'static str> {
        self.finish
    }

    fn text_bytes(&self) -> u64 {
        self.text_bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CREATED: &str = "event: response.created\ndata: {\"type\":\"response.created\",\"response\":{\"id\":\"r\",\"status\":\"in_progress\",\"output\":[],\"usage\":null}}\n\n";
    const ADDED: &str = "event: response.output_item.added\ndata: {\"type\":\"response.output_item.added\",\"output_index\":0,\"item\":{\"type\":\"message\",\"content\":[]}}\n\n";
    const DELTA: &str = "event: response.output_text.delta\ndata: {\"type\":\"response.output_text.delta\",\"output_index\":0,\"content_index\":0,\"delta\":\"h\\u00e9\",\"obfuscation\":\"xyz\"}\n\n";
    const FAILED: &str = "event: response.failed\ndata: {\"type\":\"response.failed\",\"response\":{\"object\":\"response\",\"status\":\"failed\",\"error\":{\"code\":\"server_error\",\"message\":\"sorry\"},\"usage\":{\"input_tokens\":3,\"output_tokens\":1,\"total_tokens\":4}}}\n\n";
    const INCOMPLETE: &str = "data: {\"type\":\"response.incomplete\",\"response\":{\"status\":\"incomplete\",\"incomplete_details\":{\"reason\":\"max_output_tokens\"},\"usage\":{\"input_tokens\":3,\"output_tokens\":1,\"total_tokens\":4}}}\n\n";
    const CALL: &str = "data: {\"type\":\"response.output_item.added\",\"output_index\":0,\"item\":{\"type\":\"function_call\",\"name\":\"f\",\"call_id\":\"c\",\"arguments\":\"{}\"}}\n\n";
    const EMPTY: &str = "data: {\"type\":\"response.completed\",\"response\":{\"object\":\"response\",\"status\":\"completed\",\"output\":[],\"usage\":{\"input_tokens\":3,\"output_tokens\":1,\"total_tokens\":4}}}\n\n";
    const COMPLETED: &str = "event: response.completed\ndata: {\"type\":\"response.completed\",\"response\":{\"object\":\"response\",\"status\":\"completed\",\"output\":[{\"type\":\"message\"}],\"usage\":{\"input_tokens\":3,\"output_tokens\":1,\"total_tokens\":4}}}\n\n";

    #[test]
    fn the_frames_go_on_as_they_came_and_the_end_is_known() {
        for (stream, content_at, expected) in [
            ([CREATED, ADDED, DELTA, COMPLETED].concat(), Some(CREATED.len() + ADDED.len()), Ok("stop")),
            ([CREATED, ADDED, DELTA, CALL, EMPTY].concat(), Some(CREATED.len() + ADDED.len()), Ok("tool_calls")),
            ([CREATED, ADDED, DELTA, INCOMPLETE].concat(), Some(CREATED.len() + ADDED.len()), Ok("length")),
            ([CREATED, FAILED].concat(), None, Err(FaultKind::ServerError)),
            (
                [CREATED, ADDED, DELTA, FAILED].concat(),
                Some(CREATED.len() + ADDED.len()),
                Err(FaultKind::ServerError),
            ),
            ([CREATED, ADDED].concat(), None, Err(FaultKind::Truncated)),
            ([CREATED, ADDED, "data: [DONE]\n\n"].concat(), None, Err(FaultKind::Truncated)),
            ([CREATED, "data: <html>\n\n"].concat(), None, Err(FaultKind::Malformed)),
            ("data: {\"error\":{\"message\":\"x\",\"code\":429}}\n\n".to_owned(), None, Err(FaultKind::RateLimited)),
            (
                [CREATED, "event: error\ndata: {\"type\":\"error\",\"code\":\"rate_limit_exceeded\",\"message\":\"x\"}\n\n"]
                    .concat(),
                None,
                Err(FaultKind::RateLimited),
            ),
        ] {
            for size in 1..stream.len() + 1 {
                let mut relay = ResponsesStream::new(0);
                let (mut out, mut first) = (Vec::new(), None);
                let fed = stream.as_bytes().chunks(size).try_for_each(|chunk| {
                    relay.feed(Bytes::copy_from_slice(chunk), &mut out)
                });
                let fed = fed.and_then(|()| relay.finish(&mut out));
                let mut bytes = Vec::new();
                for frame in &out {
                    if frame.content && first.is_none() {
                        first = Some(bytes.len());
                    }
                    bytes.extend_from_slice(&frame.bytes);
                }
                assert_eq!(first.is_some(), content_at.is_some(), "{stream}");
                if size < 40 {
                    assert_eq!(first, content_at, "{stream}");
                }
                assert!(stream.as_bytes().starts_with(&bytes), "{stream}");
                let got = fed.map(|()| relay.finish_reason().unwrap()).map_err(|fault| fault.kind);
                assert_eq!(got, expected, "{stream}");
                if stream.contains("\"input_tokens\":3") {
                    assert_eq!(relay.usage().unwrap().input, 3);
                }
                if expected.is_ok() {
                    assert_eq!(bytes, stream.as_bytes());
                    assert_eq!(relay.text_bytes(), 3);
                }
            }
        }
    }
}
