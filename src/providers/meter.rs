//! Reads what an answer used while its bytes pass by untouched, in bounded memory.

mod scan;

use scan::Scan;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use http::HeaderMap;

use super::{Dialect, Target};
use crate::chat::{Tier, Usage};
use crate::frames::AwsSplitter;

/// The meter of one answer that goes to the client as bytes.
pub struct Meter {
    target: Target,
    form: Form,
    scan: Scan,
    /// The first usage object, where Anthropic's streams tell of the prompt, and the last one.
    first: Option<String>,
    last: Option<String>,
    /// Bytes of text that had come when usage was told last.
    told_at: u64,
    /// The service that answers, where the answer names one.
    tier: Option<Tier>,
    /// Milliseconds of sound, where the answer says them beside its usage.
    audio_ms: u64,
    /// What headers count.
    beside: Option<Usage>,
}

/// How usage can be found in an answer.
enum Form {
    /// One JSON document, or one after another.
    Json,
    /// Server-sent events with JSON in their data.
    Events(Line),
    /// An event stream of AWS's with JSON in its messages; empty once it was found to be none.
    Aws(Option<AwsSplitter>),
}

/// How far a line of an event stream has come.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Line {
    /// So many bytes of `data:` have come.
    Field(usize),
    /// Its data is being read.
    Data,
    /// It is of no interest.
    Skipped,
}

const FIELD: &[u8] = b"data:";

impl Meter {
    /// A meter for an answer of this target with this content type; `None` where nothing can be read from it.
    pub fn new(target: &Target, content_type: &str) -> Option<Self> {
        let kind = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        let form = match kind.as_str() {
            "text/event-stream" => Form::Events(Line::Field(0)),
            "application/json" | "application/x-ndjson" => Form::Json,
            "application/vnd.amazon.eventstream" => Form::Aws(Some(AwsSplitter::default())),
            _ => return None,
        };
        Some(Self {
            target: target.clone(),
            form,
            scan: Scan::new(target.wire().dialect() == Dialect::Cohere),
            first: None,
            last: None,
            told_at: 0,
            tier: None,
            audio_ms: 0,
            beside: None,
        })
    }

    /// Takes the next bytes of the answer, cut anywhere.
    pub fn feed(&mut self, bytes: &[u8]) {
        if let Form::Events(mut line) = self.form {
            let mut rest = bytes;
            while !rest.is_empty() {
                rest = self.line(&mut line, rest);
            }
            self.form = Form::Events(line);
            return;
        }
        if let Form::Aws(splitter) = &mut self.form {
            let messages = splitter.take();
            self.messages(messages, bytes);
            return;
        }
        self.json(bytes);
    }

    /// Counts that the answer's headers tell, where it tells none itself: Bedrock's of `InvokeModel`.
    /// <https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_InvokeModel.html>
    #[must_use]
    pub fn beside(mut self, headers: &HeaderMap) -> Self {
        self.beside = counted_beside(headers);
        self
    }

    /// What the provider has said so far.
    pub fn usage(&self) -> Option<Usage> {
        let said: Vec<&str> = self.first.iter().chain(&self.last).map(String::as_str).collect();
        let usage = if said.is_empty() { None } else { self.target.wire().usage(&said) };
        usage.or(self.beside).map(|usage| Usage { tier: usage.tier.or(self.tier), ..usage })
    }

    /// What a transcription says of the length of what was heard, without any usage: `duration` of OpenAI's
    /// `verbose_json`. For answers of which somebody knows that they are transcriptions.
    pub fn heard(&self) -> Option<Usage> {
        (self.audio_ms > 0).then(|| Usage { audio_ms: self.audio_ms, tier: self.tier, ..Usage::default() })
    }

    /// Bytes of text that a stream has said so far; of other answers, none.
    pub fn text_bytes(&self) -> u64 {
        if matches!(self.form, Form::Json) { 0 } else { self.scan.said() }
    }

    /// Whether text has come since the provider told of usage last: what Anthropic says of the answer before it begins
    /// says nothing of the rest.
    pub fn has_gone_on(&self) -> bool {
        self.text_bytes() > self.told_at
    }

    /// Takes the beginning of `bytes`, at most to the end of the line, and returns the rest.
    fn line<'b>(&mut self, line: &mut Line, bytes: &'b [u8]) -> &'b [u8] {
        let end = memchr::memchr2(b'\n', b'\r', bytes);
        let (here, rest) = bytes.split_at(end.unwrap_or(bytes.len()));
        let mut data = here;
        while let (Line::Field(seen), [first, tail @ ..]) = (*line, data) {
            *line = match FIELD.get(seen) {
                Some(expected) if expected == first && seen + 1 == FIELD.len() => {
                    self.scan.anew();
                    Line::Data
                }
                Some(expected) if expected == first => Line::Field(seen + 1),
                _ => Line::Skipped,
            };
            data = tail;
        }
        if *line == Line::Data {
            self.json(data);
        }
        if end.is_some() {
            *line = Line::Field(0);
        }
        rest.get(1..).unwrap_or_default()
    }

    /// Reads AWS's messages; what is none is not read any further.
    fn messages(&mut self, splitter: Option<AwsSplitter>, bytes: &[u8]) {
        let Some(mut splitter) = splitter else { return };
        splitter.push(bytes);
        while let Ok(next) = splitter.next() {
            let Some(message) = next else {
                self.form = Form::Aws(Some(splitter));
                return;
            };
            self.scan.anew();
            match in_chunk(&message.payload) {
                Some(event) => self.json(&event),
                None => self.json(&message.payload),
            }
        }
    }

    fn json(&mut self, bytes: &[u8]) {
        let (first, last, mut told) = (&mut self.first, &mut self.last, false);
        self.scan.feed(bytes, |usage| {
            let Ok(usage) = String::from_utf8(usage) else { return };
            told = true;
            if first.is_none() {
                *first = Some(usage);
            } else {
                *last = Some(usage);
            }
        });
        if told {
            self.told_at = self.scan.said();
        }
        self.tier = self.scan.tier.or(self.tier);
        self.audio_ms = self.audio_ms.max(self.scan.audio_ms);
    }
}

/// What Bedrock counts in the headers of an answer.
pub(super) fn counted_beside(headers: &HeaderMap) -> Option<Usage> {
    let count = |name: &str| headers.get(name)?.to_str().ok()?.parse::<u64>().ok();
    let input = count("x-amzn-bedrock-input-token-count")?;
    let output = count("x-amzn-bedrock-output-token-count").unwrap_or_default();
    Some(Usage { input, output, ..Usage::default() })
}

/// The event of another dialect that a message of `InvokeModelWithResponseStream` holds.
fn in_chunk(payload: &[u8]) -> Option<Vec<u8>> {
    #[derive(serde::Deserialize)]
    struct Chunk<'a> {
        #[serde(borrow)]
        bytes: &'a str,
    }
    let chunk: Chunk<'_> = serde_json::from_slice(payload).ok()?;
    BASE64_STANDARD.decode(chunk.bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    use crate::providers::{QuirkSettings, Vendor, dialect};
    use crate::target::TargetName;

    fn target(word: &str) -> Target {
        let vendor = Vendor::bare(word, dialect(word, &QuirkSettings::default()).unwrap());
        Target::new(Arc::new(vendor), TargetName::parse("a/b").unwrap())
    }

    /// What is read from `text`, however it is cut.
    #[track_caller]
    fn read(word: &str, kind: &str, text: &str) -> Option<(u64, u64, u64)> {
        let target = target(word);
        let mut found = Vec::new();
        for size in 1..=text.len() {
            let mut meter = Meter::new(&target, kind).unwrap();
            text.as_bytes().chunks(size).for_each(|piece| meter.feed(piece));
            found.push(meter.usage().map(|u| (u.input, u.cached_read, u.output)));
        }
        assert!(found.windows(2).all(|pair| pair[0] == pair[1]), "{text}: {found:?}");
        found.pop().flatten()
    }

    #[test]
    fn usage_is_found_where_each_dialect_has_it() {
        let (json, events) = ("application/json", "text/event-stream; charset=utf-8");
        for (word, kind, text, expected) in [
            (
                "openai",
                json,
                r#"{"choices":[{"message":{"content":"\"usage\":{\"prompt_tokens\":9}"}}],"usage":{"prompt_tokens":7,"completion_tokens":3,"prompt_tokens_details":{"cached_tokens":2}}}"#,
                Some((5, 2, 3)),
            ),
            (
                "openai",
                json,
                r#"{ "usage" : { "input_tokens" : 1, "output_tokens" : 2 } , "output" : [ {"usage":{"input_tokens":8}} ] }"#,
                Some((1, 0, 2)),
            ),
            (
                "openai",
                events,
                "data: {\"usage\":null}\n\ndata:{\"usage\":{\"prompt_tokens\":7,\"completion_tokens\":3}}\r\n\r\ndata: [DONE]\n\n",
                Some((7, 0, 3)),
            ),
            (
                "openai",
                events,
                "event: response.completed\ndata: {\"type\":\"response.completed\",\"response\":{\"usage\":{\"input_tokens\":7,\"output_tokens\":3}}}\n\n",
                Some((7, 0, 3)),
            ),
            (
                "cohere",
                json,
                r#"{"id":"c","embeddings":{"float":[[1]]},"meta":{"api_version":{"version":"2"},"billed_units":{"input_tokens":4}}}"#,
                Some((4, 0, 0)),
            ),
            ("openai", json, r#"{"meta":{"prompt_tokens":7,"completion_tokens":3}}"#, None),
            ("openai", json, r#"{"arguments":{"usage":{"prompt_tokens":1,"completion_tokens":1}}}"#, None),
            ("openai", json, r#"{"text":"hi"}"#, None),
            (
                "anthropic",
                events,
                "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"usage\":{\"input_tokens\":11,\"cache_read_input_tokens\":4,\"output_tokens\":1}}}\n\nevent: ping\ndata: {}\n\nevent: message_delta\ndata: {\"type\":\"message_delta\",\"delta\":{},\"usage\":{\"output_tokens\":9}}\n\n",
                Some((11, 4, 9)),
            ),
            (
                "gemini",
                json,
                r#"[{"usageMetadata":{"promptTokenCount":5,"candidatesTokenCount":1}},{"usageMetadata":{"promptTokenCount":5,"candidatesTokenCount":6}}]"#,
                Some((5, 0, 6)),
            ),
            (
                "gemini",
                events,
                "event: interaction.completed\ndata: {\"event_type\":\"interaction.completed\",\"interaction\":{\"usage\":{\"total_input_tokens\":5,\"total_output_tokens\":6,\"total_thought_tokens\":2}}}\n\n",
                Some((5, 0, 8)),
            ),
            (
                "gemini",
                json,
                r#"{"choices":[],"usage":{"prompt_tokens":7,"completion_tokens":3,"total_tokens":10}}"#,
                Some((7, 0, 3)),
            ),
        ] {
            assert_eq!(read(word, kind, text), expected, "{text}");
        }
    }

    #[test]
    fn the_texts_of_streams_are_counted_and_whether_usage_told_of_them() {
        let responses = "data: {\"type\":\"response.created\",\"response\":{\"instructions\":\"long ones\",\"usage\":null}}\n\n\
            data: {\"type\":\"response.output_text.delta\",\"delta\":\"four\"}\n\n\
            data: {\"type\":\"response.output_text.done\",\"text\":\"four\"}\n\n";
        for (word, text, bytes, gone_on) in [
            (
                "openai",
                "data: {\"choices\":[{\"delta\":{\"role\":\"assistant\",\"content\":\"\"}}]}\n\n",
                0,
                false,
            ),
            (
                "openai",
                "data: {\"choices\":[{\"delta\":{\"content\":\"a\\nb \\\"c\"}}],\"usage\":null}\n\ndata: [DONE]\n\n",
                6,
                true,
            ),
            (
                "openai",
                "data: {\"choices\":[{\"delta\":{\"tool_calls\":[{\"function\":{\"name\":\"f\",\"arguments\":\"{}\"}}]}}]}\n\n",
                2,
                true,
            ),
            (
                "openai",
                "data: {\"choices\":[{\"delta\":{\"content\":\"ab\"}}]}\n\ndata: {\"usage\":{\"prompt_tokens\":7,\"completion_tokens\":3}}\n\n",
                2,
                false,
            ),
            ("openai", "data: {\"choices\":[{\"text\":\"abc\"}]}\n\n", 3, true),
            ("openai", responses, 4, true),
            (
                "anthropic",
                "data: {\"type\":\"message_start\",\"message\":{\"usage\":{\"input_tokens\":11,\"output_tokens\":1}}}\n\n\
                 data: {\"type\":\"content_block_delta\",\"delta\":{\"type\":\"text_delta\",\"text\":\"hello\"}}\n\n",
                5,
                true,
            ),
            (
                "gemini",
                "data: {\"candidates\":[{\"content\":{\"parts\":[{\"text\":\"hi\"}]}}],\"usageMetadata\":{\"promptTokenCount\":5}}\n\n",
                2,
                false,
            ),
        ] {
            let target = target(word);
            for size in [1, 7, text.len()] {
                let mut meter = Meter::new(&target, "text/event-stream").unwrap();
                text.as_bytes().chunks(size).for_each(|piece| meter.feed(piece));
                assert_eq!((meter.text_bytes(), meter.has_gone_on()), (bytes, gone_on), "{text} by {size}");
            }
        }
        let mut whole = Meter::new(&target("openai"), "application/json").unwrap();
        whole.feed(br#"{"data":[{"content":"what was kept"}]}"#);
        assert_eq!(whole.text_bytes(), 0, "a document may be anything");
    }

    #[test]
    fn an_event_stream_of_awss_is_read_and_what_is_none_is_not() {
        let kind = "application/vnd.amazon.eventstream";
        let frame = |payload: &str| {
            let total = u32::try_from(16 + payload.len()).unwrap().to_be_bytes();
            let mut bytes = [total, [0; 4]].concat();
            bytes.extend(crc32fast::hash(&bytes).to_be_bytes());
            bytes.extend(payload.as_bytes());
            bytes.extend(crc32fast::hash(&bytes).to_be_bytes());
            bytes
        };
        let chunk = |event: &str| format!(r#"{{"bytes":"{}","p":"ab"}}"#, BASE64_STANDARD.encode(event));
        let converse = [
            frame(r#"{"delta":{"text":"hi"}}"#),
            frame(r#"{"usage":{"inputTokens":7,"outputTokens":3},"p":"a"}"#),
        ];
        let claude = [
            frame(&chunk(
                r#"{"type":"message_start","message":{"usage":{"input_tokens":11,"output_tokens":1}}}"#,
            )),
            frame(&chunk(r#"{"type":"message_delta","delta":{},"usage":{"output_tokens":9}}"#)),
        ];
        for (stream, expected) in [
            (converse.concat(), Some((7, 3))),
            (claude.concat(), Some((11, 9))),
            ([&b"no stream at all"[..], &claude.concat()].concat(), None),
        ] {
            for size in [1, 5, stream.len()] {
                let mut meter = Meter::new(&target("bedrock"), kind).unwrap();
                stream.chunks(size).for_each(|piece| meter.feed(piece));
                assert_eq!(meter.usage().map(|usage| (usage.input, usage.output)), expected, "{size}");
            }
        }
        let message = r#"{"content":[],"usage":{"input_tokens":12,"output_tokens":4}}"#;
        assert_eq!(read("bedrock", "application/json", message), Some((12, 0, 4)));
        let headers = HeaderMap::from_iter([(
            http::HeaderName::from_static("x-amzn-bedrock-input-token-count"),
            http::HeaderValue::from_static("5"),
        )]);
        let meter = Meter::new(&target("bedrock"), "application/json").unwrap().beside(&headers);
        assert_eq!(meter.usage().map(|usage| usage.input), Some(5));
    }

    #[test]
    fn the_service_is_found_beside_the_usage() {
        for (word, kind, text, expected) in [
            (
                "openai",
                "application/json",
                r#"{"service_tier":"priority","metadata":{"service_tier":"batch"},"choices":[{"service_tier":"flex"}],"usage":{"prompt_tokens":7,"completion_tokens":3}}"#,
                Some(Tier::Priority),
            ),
            (
                "openai",
                "application/json",
                r#"{"usage":{"prompt_tokens":7,"completion_tokens":3},"service_tier":null}"#,
                None,
            ),
            (
                "openai",
                "text/event-stream",
                "data: {\"type\":\"x\",\"response\":{\"service_tier\":\"auto\"}}\n\ndata: {\"response\":{\"usage\":{\"input_tokens\":7,\"output_tokens\":3},\"service_tier\":\"flex\"}}\n\ndata: {\"type\":\"end\"}\n\n",
                Some(Tier::Flex),
            ),
            (
                "anthropic",
                "application/json",
                r#"{"usage":{"input_tokens":1,"output_tokens":1,"service_tier":"priority"}}"#,
                Some(Tier::Priority),
            ),
            (
                "bedrock",
                "application/json",
                r#"{"usage":{"inputTokens":1,"outputTokens":1},"serviceTier":{"type":"flex"}}"#,
                Some(Tier::Flex),
            ),
        ] {
            for size in 1..=text.len() {
                let mut meter = Meter::new(&target(word), kind).unwrap();
                text.as_bytes().chunks(size).for_each(|piece| meter.feed(piece));
                assert_eq!(meter.usage().unwrap().tier, expected, "{text} in pieces of {size}");
            }
        }
    }

    #[test]
    fn the_length_of_a_recording_is_found_where_it_stands_beside_the_text() {
        for (text, expected) in [
            (
                r#"{"task":"transcribe","duration":12.5,"text":"hi","segments":[{"duration":99}]}"#,
                Some(12_500),
            ),
            (r#"{"text":"hi","duration":"8.470000267028809"}"#, Some(8_471)),
            (r#"{"duration" : 3e1 ,"text":"\"duration\": 9"}"#, Some(30_000)),
            (r#"{"duration":null,"text":"hi"}"#, None),
            (r#"{"duration":-4,"text":"hi"}"#, None),
            (r#"{"text":"hi","words":{"duration":7}}"#, None),
        ] {
            for size in 1..=text.len() {
                let mut meter = Meter::new(&target("openai"), "application/json").unwrap();
                text.as_bytes().chunks(size).for_each(|piece| meter.feed(piece));
                let heard = meter.heard().map(|usage| usage.audio_ms);
                assert_eq!(heard, expected, "{text} in pieces of {size}");
            }
        }
    }

    #[test]
    fn what_has_no_known_form_is_not_read() {
        let target = target("openai");
        for kind in ["audio/mpeg", "", "application/octet-stream"] {
            assert!(Meter::new(&target, kind).is_none(), "{kind}");
        }
    }
}
