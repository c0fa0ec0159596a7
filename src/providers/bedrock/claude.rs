//! Claude on Bedrock in Anthropic's own words: `InvokeModel`, with the model in the path and a version in the body.
//! <https://docs.aws.amazon.com/bedrock/latest/userguide/model-parameters-anthropic-claude-messages.html>
//!
//! A stream is an event stream of AWS's, each of whose messages holds one event of Anthropic's in base64.

use std::borrow::Cow;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue};
use serde::Deserialize;
use serde_json::{Value, json};

use super::model::Model;
use super::{fault, request};
use crate::chat::{Answer, Event, Request, StreamDecoder, Usage};
use crate::clock::{Clock, SystemClock};
use crate::fault::Fault;
use crate::frames::{AwsMessage, AwsSplitter};
use crate::providers::anthropic::{Anthropic, model};
use crate::providers::{
    ClientBody, CountTokens, Dialect, Frame, Outgoing, Provider, QuirkSettings, Relay, Relayed, StreamRelay,
};
use crate::target::TargetName;

/// The only version there is.
const VERSION: &str = "bedrock-2023-05-31";
const COUNT: &str = "count-tokens";
const BETA: &str = "anthropic-beta";

/// Claude behind `InvokeModel`.
pub(in crate::providers) struct Claude {
    inner: Anthropic,
    /// The same for models of which AWS takes no schemas.
    plain: Anthropic,
}

impl Claude {
    /// With these quirks, of which `drop`, `rename` and `defaults` apply.
    pub(in crate::providers) fn new(quirks: &QuirkSettings) -> Self {
        let own = QuirkSettings {
            defaults: [("anthropic_version".to_owned(), VERSION.into())].into(),
            drop: vec!["model".into(), "stream".into()],
            rename: [("betas".to_owned(), "anthropic_beta".to_owned())].into(),
            // https://docs.aws.amazon.com/bedrock/latest/userguide/model-parameters-anthropic-claude-messages-tool-use.html
            lacks: vec!["web_search".into()],
            ..QuirkSettings::default()
        };
        let quirks = own.with(quirks);
        let mut plain = quirks.clone();
        plain.lacks.push("json_schema".into());
        Self { inner: Anthropic::new(quirks), plain: Anthropic::new(plain) }
    }
}

impl Provider for Claude {
    fn dialect(&self) -> Dialect {
        Dialect::Anthropic
    }

    fn usage(&self, said: &[&str]) -> Option<Usage> {
        self.inner.usage(said)
    }

    fn encode(&self, asked: &Request, target: &TargetName) -> Result<Outgoing, Fault> {
        let model = Model::of(&target.model);
        let inner = if model.is_claude() && !model.knows_schemas() { &self.plain } else { &self.inner };
        Ok(invoke(inner.encode(asked, target)?, &target.model, asked.stream))
    }

    fn decode(&self, body: &[u8]) -> Result<Answer, Fault> {
        self.inner.decode(body)
    }

    fn stream_decoder(&self) -> Box<dyn StreamDecoder> {
        Box::new(Decoder { unwrapper: Unwrapper::default(), inner: self.inner.stream_decoder() })
    }

    fn fault(&self, status: u16, headers: &HeaderMap, body: &[u8]) -> Fault {
        fault::from_answer(status, headers, body, SystemClock.unix_ms())
    }

    fn relay(&self) -> Option<&dyn Relay> {
        Some(self)
    }

    fn chat_path(&self, model: &str, streams: bool) -> Option<String> {
        Some(request::path(model, operation(streams)))
    }

    fn count_tokens(&self) -> Option<&dyn CountTokens> {
        Some(self)
    }
}

impl Relay for Claude {
    fn splice(&self, body: &ClientBody, target: &TargetName) -> Result<Outgoing, Fault> {
        let streams = body.bool("stream") == Some(true);
        Ok(invoke(Relay::splice(&self.inner, body, target)?, &target.model, streams))
    }

    /// Betas stand in the body here, and the version is another one.
    fn carry(&self, outgoing: &mut Outgoing, headers: &[(&'static str, HeaderValue)]) {
        let betas = headers.iter().filter(|(name, _)| *name == BETA);
        let betas: Vec<&str> = betas
            .filter_map(|(_, value)| value.to_str().ok())
            .flat_map(|text| text.split(',').map(str::trim))
            .filter(|beta| !beta.is_empty())
            .collect();
        // What is counted stands in the body's own body, out of reach.
        if !betas.is_empty() && !outgoing.path.ends_with(COUNT) {
            put_first(&mut outgoing.body, "anthropic_beta", &json!(betas));
        }
    }

    fn whole(&self, body: Bytes) -> Result<Relayed, Fault> {
        Relay::whole(&self.inner, body)
    }

    fn stream(&self, include_usage: bool) -> Box<dyn StreamRelay> {
        Box::new(Stream { unwrapper: Unwrapper::default(), inner: self.inner.stream(include_usage) })
    }
}

impl CountTokens for Claude {
    /// The body that would be sent, as base64 inside another one. It must be complete, so that it needs a limit.
    fn splice(&self, body: &ClientBody, target: &TargetName) -> Result<Outgoing, Fault> {
        let mut inner = Relay::splice(&self.inner, body, target)?.body;
        if !body.has("max_tokens") {
            put_first(&mut inner, "max_tokens", &model::default_max_tokens(&target.model).into());
        }
        let body = BASE64_STANDARD.encode(inner.concat());
        let asked = json!({ "input": { "invokeModel": { "body": body } } });
        let model = foundation(&target.model);
        Ok(request::outgoing(&model, COUNT, false, asked.to_string().into()))
    }

    fn whole(&self, body: Bytes) -> Result<Relayed, Fault> {
        let value: Value = serde_json::from_slice(&body)
            .map_err(|_| fault::malformed("the provider's count is not JSON"))?;
        let Some(count) = value.get("inputTokens").and_then(Value::as_u64) else {
            return Err(fault::inside_success(&value));
        };
        let body = json!({ "input_tokens": count }).to_string();
        Ok(Relayed { body: body.into(), usage: None, finish: None, lost: Vec::new() })
    }
}

/// A request of Anthropic's on its way to Bedrock.
fn invoke(outgoing: Outgoing, model: &str, streams: bool) -> Outgoing {
    let head = request::outgoing(model, operation(streams), streams, Bytes::new());
    Outgoing { body: outgoing.body, lost: outgoing.lost, ..head }
}

fn operation(streams: bool) -> &'static str {
    if streams { "invoke-with-response-stream" } else { "invoke" }
}

/// Puts a field before all others of an object in pieces, unless it is there.
fn put_first(pieces: &mut Vec<Bytes>, key: &str, value: &Value) {
    let quoted = format!("\"{key}\":");
    let known = pieces.iter().any(|piece| memchr::memmem::find(piece, quoted.as_bytes()).is_some());
    let Some(first) = pieces.first_mut().filter(|first| !known && first.first() == Some(&b'{')) else {
        return;
    };
    *first = first.slice(1..);
    pieces.insert(0, format!("{{{quoted}{value},").into());
}

/// The model of an inference profile: only foundation models count tokens.
fn foundation(model: &str) -> Cow<'_, str> {
    match model.rfind("anthropic.") {
        Some(at) => Cow::Borrowed(model.get(at..).unwrap_or(model)),
        None => Cow::Borrowed(model),
    }
}

/// Makes the events that Anthropic would have sent out of AWS's messages.
#[derive(Default)]
struct Unwrapper {
    splitter: AwsSplitter,
}

impl Unwrapper {
    /// The next event as Anthropic frames it.
    fn next(&mut self) -> Result<Option<Vec<u8>>, Fault> {
        loop {
            let Some(message) = self.splitter.next()? else { return Ok(None) };
            if let Some(event) = unwrap(&message)? {
                return Ok(Some(event));
            }
        }
    }
}

#[derive(Deserialize)]
struct Chunk<'a> {
    #[serde(borrow)]
    bytes: Cow<'a, str>,
}

fn unwrap(message: &AwsMessage) -> Result<Option<Vec<u8>>, Fault> {
    if let Some(fault) = fault::of_message(message) {
        return Err(fault);
    }
    if message.header(":event-type") != Some("chunk") {
        return Ok(None);
    }
    let chunk: Option<Chunk<'_>> = serde_json::from_slice(&message.payload).ok();
    let json = chunk.and_then(|chunk| BASE64_STANDARD.decode(&*chunk.bytes).ok());
    let json =
        json.ok_or_else(|| fault::malformed("the provider sent a chunk that is not what it promises"))?;
    let mut event = b"data: ".to_vec();
    // Line breaks in JSON are nothing but space.
    event.extend(json.into_iter().map(|byte| if matches!(byte, b'\n' | b'\r') { b' ' } else { byte }));
    event.extend_from_slice(b"\n\n");
    Ok(Some(event))
}

struct Decoder {
    unwrapper: Unwrapper,
    inner: Box<dyn StreamDecoder>,
}

impl StreamDecoder for Decoder {
    fn feed(&mut self, chunk: &[u8], events: &mut Vec<Event>) -> Result<(), Fault> {
        self.unwrapper.splitter.push(chunk);
        while let Some(event) = self.unwrapper.next()? {
            self.inner.feed(&event, events)?;
        }
        Ok(())
    }

    fn finish(&mut self, events: &mut Vec<Event>) -> Result<(), Fault> {
        self.inner.finish(events)
    }

    fn settle(&mut self, events: &mut Vec<Event>) -> Result<(), Fault> {
        self.inner.settle(events)
    }
}

struct Stream {
    unwrapper: Unwrapper,
    inner: Box<dyn StreamRelay>,
}

impl StreamRelay for Stream {
    fn feed(&mut self, chunk: Bytes, out: &mut Vec<Frame>) -> Result<(), Fault> {
        self.unwrapper.splitter.push(&chunk);
        while let Some(event) = self.unwrapper.next()? {
            self.inner.feed(event.into(), out)?;
        }
        Ok(())
    }

    fn whole(&mut self, body: Bytes, out: &mut Vec<Frame>) -> Result<(), Fault> {
        self.inner.whole(body, out)
    }

    fn finish(&mut self, out: &mut Vec<Frame>) -> Result<(), Fault> {
        self.inner.finish(out)
    }

    fn settle(&mut self, out: &mut Vec<Frame>) -> Result<(), Fault> {
        self.inner.settle(out)
    }

    fn is_complete(&self) -> bool {
        self.inner.is_complete()
    }

    fn usage(&self) -> Option<Usage> {
        self.inner.usage()
    }

    fn finish_reason(&self) -> Option<&'static str> {
        self.inner.finish_reason()
    }

    fn has_said_all(&self) -> bool {
        self.inner.has_said_all()
    }

    fn text_bytes(&self) -> u64 {
        self.inner.text_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chat::OutputFormat;
    use crate::fault::FaultKind;
    use crate::frames::aws_message;

    const MODEL: &str = "eu.anthropic.claude-sonnet-4-5-20250929-v1:0";

    fn target() -> TargetName {
        TargetName { provider: "b".into(), model: MODEL.into() }
    }

    fn body(text: &'static str) -> ClientBody {
        ClientBody::read(Bytes::from_static(text.as_bytes())).unwrap()
    }

    fn sent(outgoing: &Outgoing) -> Value {
        serde_json::from_slice(&outgoing.body.concat()).unwrap()
    }

    #[test]
    fn the_clients_bytes_go_through_with_a_version() {
        let claude = Claude::new(&QuirkSettings::default());
        let asked = body(r#"{"model":"x","max_tokens":5,"stream":true,"messages":[],"new":{"a":1.0}}"#);
        let mut outgoing = Relay::splice(&claude, &asked, &target()).unwrap();
        let beta = HeaderValue::from_static("context-1m-2025-08-07, x");
        claude.carry(&mut outgoing, &[(BETA, beta), ("anthropic-version", HeaderValue::from_static("y"))]);
        let stream = "invoke-with-response-stream";
        assert_eq!(outgoing.path, format!("/model/{}/{stream}", MODEL.replace(':', "%3A")));
        let expected = json!({"anthropic_beta": ["context-1m-2025-08-07", "x"], "max_tokens": 5, "messages": [],
            "new": {"a": 1.0}, "anthropic_version": VERSION});
        assert_eq!(sent(&outgoing), expected);
        assert!(!outgoing.headers.contains_key("anthropic-version"), "{:?}", outgoing.headers);

        let asked = Request { messages: Vec::new(), ..Request::default() };
        let outgoing = claude.encode(&asked, &target()).unwrap();
        let sent = sent(&outgoing);
        assert_eq!((sent.get("model"), &sent["anthropic_version"]), (None, &json!(VERSION)));
        assert!(outgoing.path.ends_with("/invoke"));
    }

    #[test]
    fn schemas_are_said_in_words_to_models_of_which_aws_takes_none() {
        let claude = Claude::new(&QuirkSettings::default());
        let schema = json!({"type": "object", "properties": {"a": {"type": "string"}}});
        let output =
            OutputFormat::JsonSchema { name: "n".into(), description: None, schema, strict: Some(true) };
        let asked = Request { output, ..Request::default() };
        for (model, formatted) in [
            ("us.anthropic.claude-opus-4-6-v1", true),
            ("us.anthropic.claude-opus-4-8", false),
            ("us.anthropic.claude-opus-5-5", false),
        ] {
            let target = TargetName { provider: "b".into(), model: model.into() };
            let outgoing = claude.encode(&asked, &target).unwrap();
            let body = sent(&outgoing);
            assert_eq!(body.get("output_config").is_some(), formatted, "{model}: {body}");
            assert_eq!(body.get("system").is_some(), !formatted, "{model}: {body}");
            assert!(formatted || outgoing.lost.iter().any(|loss| loss.path == "response_format"));
        }
    }

    #[test]
    fn tokens_are_counted_for_the_foundation_model() {
        let claude = Claude::new(&QuirkSettings::default());
        let asked = body(r#"{"model":"x","messages":[]}"#);
        let outgoing = CountTokens::splice(&claude, &asked, &target()).unwrap();
        assert_eq!(outgoing.path, "/model/anthropic.claude-sonnet-4-5-20250929-v1%3A0/count-tokens");
        let inner = sent(&outgoing)["input"]["invokeModel"]["body"].as_str().unwrap().to_owned();
        let inner: Value = serde_json::from_slice(&BASE64_STANDARD.decode(inner).unwrap()).unwrap();
        assert_eq!(inner, json!({"max_tokens": 32_000, "messages": [], "anthropic_version": VERSION}));
        let counted = CountTokens::whole(&claude, Bytes::from_static(br#"{"inputTokens":7}"#)).unwrap();
        assert_eq!(counted.body, &br#"{"input_tokens":7}"#[..]);
        assert!(CountTokens::whole(&claude, Bytes::from_static(b"{}")).is_err());
    }

    fn wrapped(events: &[&str]) -> Vec<u8> {
        let headers = [(":event-type", "chunk"), (":message-type", "event")];
        let wrap = |event: &&str| {
            let payload = json!({"bytes": BASE64_STANDARD.encode(event), "p": "abc"}).to_string();
            aws_message(&headers, payload.as_bytes())
        };
        events.iter().flat_map(wrap).collect()
    }

    const EVENTS: [&str; 4] = [
        r#"{"type":"message_start","message":{"id":"msg_1","model":"claude-x","content":[],"usage":{"input_tokens":3,"output_tokens":1}}}"#,
        "{\"type\":\"content_block_delta\",\n\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":\"h\u{e9}\"}}",
        r#"{"type":"message_delta","delta":{"stop_reason":"end_turn"},"usage":{"output_tokens":2}}"#,
        r#"{"type":"message_stop","amazon-bedrock-invocationMetrics":{"inputTokenCount":3}}"#,
    ];

    #[test]
    fn streams_are_unwrapped_at_any_boundary() {
        let claude = Claude::new(&QuirkSettings::default());
        let bytes = wrapped(&EVENTS);
        for cut in 0..=bytes.len() {
            let (mut relay, mut frames) = (claude.stream(true), Vec::new());
            for piece in [&bytes[..cut], &bytes[cut..]] {
                relay.feed(Bytes::copy_from_slice(piece), &mut frames).unwrap();
            }
            relay.finish(&mut frames).unwrap();
            let text: Vec<u8> = frames.iter().flat_map(|frame| frame.bytes.to_vec()).collect();
            let text = String::from_utf8(text).unwrap();
            assert!(text.starts_with("event: message_start\ndata: {"), "{text}");
            assert_eq!(text.matches("event: ").count(), 4, "cut at {cut}: {text}");
            assert_eq!(relay.usage(), Some(Usage { input: 3, output: 2, ..Usage::default() }));
        }
        let (mut decoder, mut events) = (claude.stream_decoder(), Vec::new());
        decoder.feed(&bytes, &mut events).unwrap();
        decoder.finish(&mut events).unwrap();
        assert!(events.contains(&Event::Text { choice: 0, text: "h\u{e9}".into() }));
        assert_eq!(events.last(), Some(&Event::End));
    }

    #[test]
    fn broken_streams_are_faults() {
        let claude = Claude::new(&QuirkSettings::default());
        let fed = |bytes: &[u8]| {
            let mut frames = Vec::new();
            let mut relay = claude.stream(true);
            relay.feed(Bytes::copy_from_slice(bytes), &mut frames).and_then(|()| relay.finish(&mut frames))
        };
        let exception = [(":exception-type", "throttlingException"), (":message-type", "exception")];
        for (bytes, kind) in [
            (wrapped(&EVENTS[..3]), FaultKind::Truncated),
            (aws_message(&exception, b"{}"), FaultKind::RateLimited),
            (aws_message(&[(":event-type", "chunk")], br#"{"bytes":"!"}"#), FaultKind::Malformed),
            (
                wrapped(&[r#"{"type":"error","error":{"type":"overloaded_error","message":"x"}}"#]),
                FaultKind::Overloaded,
            ),
        ] {
            assert_eq!(fed(&bytes).unwrap_err().kind, kind);
        }
    }
}
